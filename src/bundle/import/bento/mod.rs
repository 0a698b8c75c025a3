//! A bento as BentoML 1.0 to 1.4 writes it: an archive of any compression, an unpacked folder, or one in BentoML's own
//! store.
//!
//! Invariant: of an archive nothing is believed, not even its name. It is unpacked into the store once, into a folder
//! that its bytes name, and what is built from it lies there.

mod archive;
mod recipe;
mod steps;
mod template;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::base::BaseName;
use crate::base::requirements::Requirements;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;
use crate::formats::schema::Kind;
use crate::formats::schema::load;
use crate::image::session::Session;
use crate::io::archive::ArchivePath;
use crate::io::content::{self, Content};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::manifest::{self, Manifest};

pub use recipe::{Files, Recipe};
pub use steps::Steps;
pub use template::take_over;

/// What a name begins with that means a bento in BentoML's store.
pub const SCHEME: &str = "bento:";

/// Files of one bento, with those that links lead to.
const MOST_FILES: usize = 1_000_000;

/// Why a bento cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of the bento cannot be read.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] crate::image::store::Error),
    /// The archive is damaged, hostile, or holds too much.
    #[error("{} is not a bento that can be read", path.display())]
    Malformed {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no description in it.
    #[error("there is no {} in {}", crate::formats::bento::NAME, path.display())]
    NoDescription {
        /// The archive or folder.
        path: PathBuf,
    },
    /// A link leads out of the bento, or a file is none.
    #[error("`{file}` in {} {why}", path.display())]
    File {
        /// The folder.
        path: PathBuf,
        /// In the bento.
        file: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// BentoML's store has no such bento.
    #[error("there is no bento `{tag}` in {}", store.display())]
    NotInStore {
        /// As it was asked for.
        tag: String,
        /// The folder of BentoML's bentos.
        store: PathBuf,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Content(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Malformed { .. } => ErrorKind::Invalid
                .named("bento/malformed")
                .hint("fetch the bento again, or export it again with `bentoml export`"),
            Self::NoDescription { .. } => ErrorKind::Invalid.named("bento/no-description"),
            Self::File { .. } => ErrorKind::Failure.named("bento/file"),
            Self::NotInStore { .. } => ErrorKind::Failure
                .named("bento/not-in-store")
                .hint("`bentoml list` shows those that are there; BENTOML_HOME says where"),
        }
    }
}

/// A bento whose files lie in a folder.
#[derive(Clone, Debug)]
pub struct Bento {
    /// The archive or folder.
    pub path: PathBuf,
    /// The folder in which its files lie.
    pub root: PathBuf,
    /// Its files by path.
    pub files: Vec<BentoFile>,
    /// What a person calls it.
    shown: String,
}

/// A file of a bento.
#[derive(Clone, Debug)]
pub struct BentoFile {
    /// Where it lies in the bento.
    pub path: ArchivePath,
    /// Its bytes.
    pub content: Content,
    /// Whether it may be run.
    pub executable: bool,
}

/// The bento that `path` means: an archive, a folder, or `bento:NAME:VERSION`; none when it means something else.
///
/// # Errors
/// When BentoML's store has no such bento.
pub fn find(path: &Path) -> Result<Option<PathBuf>, Error> {
    if let Some(tag) = path.to_str().and_then(|text| text.strip_prefix(SCHEME)) {
        return in_store(tag).map(Some);
    }
    let is_bento = match path.is_dir() {
        true => path.join(crate::formats::bento::NAME).is_file() && !is_project(path),
        false => path.is_file() && archive::is_archive(path)?,
    };
    Ok(is_bento.then(|| path.to_owned()))
}

/// Whether a file that may be something else is an archive of a bento.
pub fn is_archive(path: &Path) -> bool {
    archive::holds_bento(path)
}

/// Whether a folder has a manifest of Ekiben's.
fn is_project(folder: &Path) -> bool {
    manifest::NAMES.iter().any(|name| folder.join(name).exists())
}

/// The folder of a bento in BentoML's store.
fn in_store(tag: &str) -> Result<PathBuf, Error> {
    let store = crate::formats::bento::home().join("bentos");
    let missing = || Error::NotInStore { tag: tag.to_owned(), store: store.clone() };
    let (name, version) = tag.split_once(':').unwrap_or((tag, "latest"));
    let is_name = |text: &str| {
        ArchivePath::relative(text).is_ok_and(|path| path.as_str() == path.name() && path.as_str() == text)
    };
    if !is_name(name) || !is_name(version) {
        return Err(missing());
    }
    let version = match version {
        "latest" => fs::read_to_string(store.join(name).join(version)).map_err(|_| missing())?,
        version => version.to_owned(),
    };
    let folder = store.join(name).join(version.trim());
    match is_name(version.trim()) && folder.join(crate::formats::bento::NAME).is_file() {
        true => Ok(folder),
        false => Err(missing()),
    }
}

impl Bento {
    /// Opens the bento at `path`, a folder or an archive, which is unpacked into the store if it was not before.
    ///
    /// # Errors
    /// When it is none, damaged, or hostile.
    pub fn open(session: &Session, path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Self::of_folder(path);
        }
        Self::of(path, archive::unpacked(session, path)?, format!("{}:", crate::formats::document::shown(path)))
    }

    /// The bento that lies in the folder `root`.
    ///
    /// # Errors
    /// When it is none, or has links that lead out of it.
    pub fn of_folder(root: &Path) -> Result<Self, Error> {
        let shown = crate::formats::document::shown(root);
        let mut bento = Self::of(root, root.to_owned(), format!("{}/", shown.trim_end_matches('/')))?;
        bento.add_stored_models()?;
        Ok(bento)
    }

    fn of(path: &Path, root: PathBuf, shown: String) -> Result<Self, Error> {
        let files = files(&root, None).map_err(|error| match error {
            Error::File { file, why, .. } => Error::File { path: path.to_owned(), file, why },
            error => error,
        })?;
        let bento = Self { files, path: path.to_owned(), root, shown };
        match bento.get(crate::formats::bento::NAME) {
            Some(_) => Ok(bento),
            None => Err(Error::NoDescription { path: path.to_owned() }),
        }
    }

    /// What a person calls the file at `path`.
    pub fn shown(&self, path: &str) -> String {
        format!("{}{path}", self.shown)
    }

    /// Takes the models that belong to a bento in BentoML's store from there, as BentoML does when it exports one.
    fn add_stored_models(&mut self) -> Result<(), Error> {
        let Some(bentos) = self.root.ancestors().nth(2).filter(|folder| folder.ends_with("bentos")) else {
            return Ok(());
        };
        let store = bentos.with_file_name("models");
        if self.files.iter().any(|file| file.path.as_str().starts_with("models/")) || !store.is_dir() {
            return Ok(());
        }
        let mut found = Diagnostics::new();
        let Some((_, description)) = self.read(&mut found) else { return Ok(()) };
        for (_, model) in description.all_models() {
            let place = ArchivePath::relative(model.tag.replacen(':', "/", 1));
            let Some((place, version)) = place.ok().zip(model.tag.split_once(':').map(|(_, version)| version)) else {
                continue;
            };
            let latest = place.parent().and_then(|name| ArchivePath::relative(format!("models/{name}/latest")).ok());
            let inside = ArchivePath::relative(format!("models/{place}")).map_err(std::io::Error::other)?;
            let known = self.files.iter().any(|file| file.path.below(&inside).is_some());
            if let Some(latest) = latest.filter(|_| !known && place.under(&store).is_dir()) {
                self.files.extend(files(&place.under(&store), Some(&inside))?);
                // Of several versions, the one that is named first.
                if !self.files.iter().any(|file| file.path == latest) {
                    let content = Content::Bytes(version.as_bytes().to_vec());
                    self.files.push(BentoFile { path: latest, content, executable: false });
                }
            }
        }
        self.files.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
        Ok(())
    }

    /// Reads the description; mistakes go to `found`.
    fn read(&self, found: &mut Diagnostics) -> Option<(Document, crate::formats::bento::Bento)> {
        let text = self.text(crate::formats::bento::NAME).unwrap_or_default();
        read(&self.shown(crate::formats::bento::NAME), &text, found)
    }

    /// The text of a small file.
    fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.get(path)?.content.read(Kind::Bento.most()).ok()?).ok()
    }

    /// The recipe that follows from its description, with another base where one is named: see [`describe`].
    pub fn describe(&self, base: Option<&BaseName>) -> (Option<Recipe>, Diagnostics) {
        let names = self.files.iter().map(|file| &file.path).collect();
        let read = |path: &str| self.text(path);
        describe(&self.shown(crate::formats::bento::NAME), &Files { names, read: &read }, base)
    }

    /// The Python packages that `manifest`, which describes the bento, requires; mistakes go to `found`.
    pub fn requirements(&self, manifest: &Manifest, found: &mut Diagnostics) -> Requirements {
        Requirements::read(manifest.requirements(), &self.root, None, found)
    }

    /// Sees whether the models that the description names are in it; mistakes go to `found`.
    pub fn check_models(&self, found: &mut Diagnostics) {
        let Some((document, description)) = self.read(&mut Diagnostics::new()) else { return };
        for (at, model) in description.all_models().into_iter().filter(|(_, model)| model.registry.is_none()) {
            let folder = ArchivePath::relative(format!("models/{}", model.tag.replacen(':', "/", 1)));
            let there = folder.is_ok_and(|folder| self.files.iter().any(|file| file.path.below(&folder).is_some()));
            if !there {
                let message = format!("the model `{}` is not in the bento", model.tag);
                found.push(document.at(Code::BrokenReference, &format!("{at}/tag"), message));
            }
        }
    }

    /// Whether there is a place for models in it: BentoML's store keeps them elsewhere, and so may who works on a bento.
    pub fn has_models(&self) -> bool {
        self.files.iter().any(|file| file.path.as_str().starts_with("models/")) || self.root.join("models").is_dir()
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&BentoFile> {
        let found = self.files.binary_search_by(|file| file.path.as_str().cmp(path));
        found.ok().and_then(|index| self.files.get(index))
    }

    /// The manifest of Ekiben's in it, if Ekiben packed it.
    pub fn own_manifest(&self) -> Option<&BentoFile> {
        manifest::NAMES.iter().find_map(|name| self.get(name))
    }
}

/// The recipe that follows from the description among `files`, which a person knows as `shown`; with another base
/// where one is named. With it come all mistakes in the description, and all that cannot be made; there is
/// no recipe where the description cannot be read.
pub fn describe(shown: &str, files: &Files<'_>, base: Option<&BaseName>) -> (Option<Recipe>, Diagnostics) {
    let mut found = Diagnostics::new();
    let text = (files.read)(crate::formats::bento::NAME).unwrap_or_default();
    let recipe = read(shown, &text, &mut found).map(|(document, bento)| {
        bento.check(&document, &mut found);
        recipe::recipe(&bento, &document, files, base, &mut found)
    });
    (recipe, found)
}

/// Reads a description; mistakes go to `found`.
pub fn read(shown: &str, text: &str, found: &mut Diagnostics) -> Option<(Document, crate::formats::bento::Bento)> {
    let load::Loaded { document, value, .. } = load::bytes(text.as_bytes(), shown, crate::formats::bento::NAME, found)?;
    Some((document, value?))
}

/// All files below `root`, sorted by path, which begins with `prefix`. Links are followed as long as they stay in it.
fn files(root: &Path, prefix: Option<&ArchivePath>) -> Result<Vec<BentoFile>, Error> {
    let real = fs::canonicalize(root)?;
    let wrong = |path: &Path, why| {
        let file = path.strip_prefix(root).unwrap_or(path).display().to_string();
        Error::File { path: root.to_owned(), file, why }
    };
    let mut found = Vec::new();
    // Folders, and whether a link led there.
    let mut left = vec![(root.to_owned(), false)];
    while let Some((folder, is_linked)) = left.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let is_link = entry.file_type()?.is_symlink();
            if is_link && !fs::canonicalize(&path).is_ok_and(|target| target.starts_with(&real)) {
                return Err(wrong(&path, "is a link that leads nowhere or out of the bento"));
            }
            let metadata = fs::metadata(&path)?;
            if metadata.is_dir() {
                // Thirty folders with two links each to the next one have a billion paths.
                if is_link && is_linked {
                    return Err(wrong(&path, "is a link to a folder in a folder that a link leads to"));
                }
                left.push((path, is_link || is_linked));
                continue;
            }
            if !metadata.is_file() {
                return Err(wrong(&path, "is no regular file"));
            }
            let inside = path.strip_prefix(root).unwrap_or(&path);
            // Names are shown to people, whose terminals obey control characters.
            let name = ArchivePath::from_path(inside).ok().filter(|name| !name.as_str().contains(char::is_control));
            let name = name.ok_or_else(|| wrong(&path, "has a name that is no plain text"))?;
            let name = prefix.map_or_else(|| name.clone(), |prefix| prefix.join(&name));
            let executable = metadata.permissions().mode() & 0o100 != 0;
            found.push(BentoFile { path: name, content: Content::file(&path)?, executable });
            if found.len() > MOST_FILES {
                return Err(wrong(&path, "is one of more than a million files"));
            }
        }
    }
    found.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
    Ok(found)
}
