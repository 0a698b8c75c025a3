//! Models of the AI Analytics Runtime: an archive, or a folder, of `manifest.json` and what it is made of, as a project
//! (`docs/analytics.md`).
//!
//! Invariant: of an archive nothing is believed; none of its code is run. The same archive gives the same project, to the byte.

mod check;
mod translate;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::unpacked::{limits, readable, unzip};
use crate::formats::analytics::{AnalyticsManifest, LayersModel, ModelData, Openapi};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::{Document, shown};
use crate::formats::schema::Kind;
use crate::formats::schema::load::{self, Described as _};
use crate::io::archive::ArchivePath;
use crate::io::digest::{Digest, HashingWriter};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::files::PASSED;
use crate::project::manifest::NAMES;

/// What the manifest is called.
pub const NAME: &str = "manifest.json";

/// What asks the model.
const PREDICT: &str = "src/predict.py";

/// What trains it.
const TRAIN: &str = "src/train.py";

/// What a manifest itself says of the answers of an image, as a file.
const OPENAPI: &str = "openapi.json";

/// Raised when an archive becomes another project.
const RULES: u32 = 1;

/// What some systems put into archives besides what was asked for.
const STRAY: [&str; 4] = ["__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"];

/// Files of one archive.
const MOST_FILES: usize = 100_000;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive is damaged, hostile, or holds too much.
    #[error("{} is no archive of a model that can be read", path.display())]
    Malformed {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has mistakes.
    #[error("{} has mistakes", .0.display())]
    Mistakes(PathBuf),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Malformed { .. } => ErrorKind::Invalid
                .named("archive/malformed")
                .hint(format!("it is a zip archive with {NAME} at its root, or in its one folder")),
            Self::Mistakes(_) => ErrorKind::Invalid.named("archive/mistakes"),
        }
    }
}

/// A model whose files lie in a folder.
#[derive(Debug)]
pub struct Archive {
    /// What a person calls it: the archive, or the folder.
    shown: String,
    /// Its files, and where they lie.
    files: BTreeMap<ArchivePath, PathBuf>,
    /// What was unpacked, removed with this.
    unpacked: Option<tempfile::TempDir>,
}

/// Whether `path` is such an archive, or a folder with what would be in one: there is a manifest of the format, and none of
/// Ekiben's.
pub fn is_archive(path: &Path) -> bool {
    if path.is_dir() {
        let has_own = NAMES.iter().any(|name| path.join(name).exists());
        return !has_own && fs::read(path.join(NAME)).is_ok_and(|text| is_manifest(&text));
    }
    let Ok(file) = fs::File::open(path) else { return false };
    let Ok(mut zip) = zip::ZipArchive::new(io::BufReader::new(file)) else { return false };
    let names: Vec<String> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let Some(root) = root(&names) else { return false };
    let member = names.iter().find(|name| plain(name).strip_prefix(&root) == Some(NAME));
    let Some(member) = member.and_then(|name| zip.by_name(name).ok()) else { return false };
    let mut text = Vec::new();
    member.take(AnalyticsManifest::KIND.most()).read_to_end(&mut text).is_ok() && is_manifest(&text)
}

/// Whether a manifest of the format was meant.
fn is_manifest(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains("modelData")
}

/// A name in an archive as others write it: Windows divides with backslashes.
fn plain(name: &str) -> String {
    name.replace('\\', "/")
}

fn is_stray(name: &str) -> bool {
    name.split('/').any(|part| STRAY.contains(&part))
}

/// What all names begin with in an archive whose manifest lies at its root (nothing) or in its one folder.
fn root(names: &[String]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| plain(name)).filter(|name| !is_stray(name)).collect();
    if names.iter().any(|name| name == NAME) {
        return Some(String::new());
    }
    let (folder, _) = names.first()?.split_once('/')?;
    let root = format!("{folder}/");
    (names.iter().all(|name| name.starts_with(&root)) && names.contains(&format!("{root}{NAME}"))).then_some(root)
}

impl Archive {
    /// Opens what lies at `path`. A zip archive is unpacked, into a folder that is removed with the value.
    ///
    /// # Errors
    /// When it cannot be read, is hostile, or holds too much.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let malformed = |source| Error::Malformed { path: path.to_owned(), source };
        let unpacked = match path.is_dir() {
            true => None,
            false => {
                let folder = tempfile::tempdir()?;
                let file = fs::File::open(path)?;
                let size = file.metadata()?.len();
                let zip = zip::ZipArchive::new(io::BufReader::new(&file)).map_err(|error| malformed(error.into()))?;
                let names: Vec<String> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
                let root = root(&names).ok_or_else(|| malformed(format!("there is no {NAME} in it").into()))?;
                let place = |name: &str| {
                    let name = plain(name);
                    // What leads upwards is refused where it is written; a prefix of it is not taken off first.
                    let below = name.strip_prefix(&root).filter(|below| !below.is_empty() && !is_stray(below));
                    below.map(str::to_owned)
                };
                unzip(file, folder.path(), limits(size), &place).map_err(malformed)?;
                readable(folder.path())?;
                Some(folder)
            }
        };
        let root = unpacked.as_ref().map_or(path, |folder| folder.path());
        Ok(Self { shown: shown(path), files: files(root)?, unpacked })
    }

    /// The manifest, with all that is wrong with it and what belongs to it said to `found`. None where it cannot be read.
    fn manifest(&self, found: &mut Diagnostics) -> Option<(Document, AnalyticsManifest)> {
        let name = ArchivePath::relative(NAME).ok()?;
        let Some(file) = self.files.get(&name) else {
            found.push(Diagnostic::of_file(Code::NoManifest, &self.shown, format!("there is no {NAME} in it")));
            return None;
        };
        let text = match fs::File::open(file).and_then(|file| {
            let mut text = Vec::new();
            file.take(Kind::Analytics.most() + 1).read_to_end(&mut text).map(|_| text)
        }) {
            Ok(text) => text,
            Err(error) => {
                found.push(Diagnostic::of_file(Code::Unreadable, &self.shown, error.to_string()));
                return None;
            }
        };
        let at = format!("{}/{NAME}", self.shown);
        let (document, manifest) = load::bytes::<AnalyticsManifest>(&text, &at, NAME, found)?.whole()?;
        manifest.check(&document, found);
        check::check(self, &document, &manifest, found);
        Some((document, manifest))
    }

    /// The text of a file.
    fn text(&self, path: &str) -> Option<String> {
        let file = self.files.get(&ArchivePath::relative(path).ok()?)?;
        fs::read_to_string(file).ok()
    }

    fn has(&self, path: &str) -> bool {
        ArchivePath::relative(path).is_ok_and(|path| self.files.contains_key(&path))
    }

    /// Where a jar lies that is called so: there, or below `src`.
    fn jar(&self, name: &str) -> Option<String> {
        [name.to_owned(), format!("src/{name}")].into_iter().find(|path| self.has(path))
    }

    /// What tells it from all others: names and contents.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut identity = format!("{RULES} {}\n", env!("CARGO_PKG_VERSION"));
        for (path, host) in &self.files {
            let mut hashed = HashingWriter::new(io::sink());
            io::copy(&mut fs::File::open(host)?, &mut hashed)?;
            let (_, digest, size) = hashed.finish();
            identity += &format!("{} {size} {digest}\n", path.as_str());
        }
        Ok(Digest::of(identity))
    }

    /// What is wrong with it.
    pub fn judge(&self, found: &mut Diagnostics) {
        let Ok(written) = self.translated(found) else { return };
        // The rest is told by the project that it becomes.
        let made = || -> Result<Diagnostics, Error> {
            let folder = tempfile::tempdir()?;
            let place = folder.path().join("project");
            self.write(&place, &written)?;
            let (Ok((_, all)) | Err(all)) = crate::project::Project::load(&place);
            Ok(all.known_as(&place.display().to_string(), &self.shown))
        };
        match made() {
            Ok(all) => found.extend(all),
            Err(error) => found.push(Diagnostic::of_file(Code::Unreadable, &self.shown, error.to_string())),
        }
    }

    /// What is written besides its own files: Ekiben's manifest last. What is wrong with it goes to `found`.
    ///
    /// # Errors
    /// When it has mistakes.
    pub fn translated(&self, found: &mut Diagnostics) -> Result<Vec<(&'static str, String)>, Error> {
        let Some((_, manifest)) = self.manifest(found).filter(|_| !found.has_errors()) else {
            return Err(Error::Mistakes(self.shown.clone().into()));
        };
        let mut written = Vec::new();
        if let ModelData::DockerLayers(LayersModel { openapi: Some(Openapi::Inline(api)), .. }) = &manifest.model_data {
            written.push((OPENAPI, serde_json::to_string_pretty(api).map_err(io::Error::from)? + "\n"));
        }
        written.push((NAMES[0], translate::text(self, &manifest)));
        Ok(written)
    }

    /// Makes the folder a project: its files, and what [`Archive::translated`] gives.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn write(&self, folder: &Path, written: &[(&str, String)]) -> Result<(), Error> {
        for (path, host) in &self.files {
            let target = path.under(folder);
            fs::create_dir_all(target.parent().unwrap_or(folder))?;
            if self.unpacked.is_none() || fs::hard_link(host, &target).is_err() {
                fs::copy(host, &target)?;
            }
        }
        fs::create_dir_all(folder)?;
        for (path, text) in written {
            fs::File::create_new(folder.join(path))?.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

/// All files below a folder, but for what nobody means.
fn files(folder: &Path) -> Result<BTreeMap<ArchivePath, PathBuf>, Error> {
    let mut files = BTreeMap::new();
    let walk = ignore::WalkBuilder::new(folder)
        .standard_filters(false)
        .filter_entry(|entry| entry.depth() == 0 || !PASSED.iter().chain(&STRAY).any(|name| entry.file_name() == *name))
        .build();
    for entry in walk {
        let entry = entry.map_err(io::Error::other)?;
        if entry.file_type().is_some_and(|kind| kind.is_file())
            && let Ok(below) = entry.path().strip_prefix(folder)
        {
            files.insert(ArchivePath::from_path(below).map_err(io::Error::other)?, entry.into_path());
        }
        if files.len() > MOST_FILES {
            return Err(Error::Malformed {
                path: folder.to_owned(),
                source: format!("it holds more than {MOST_FILES} files").into(),
            });
        }
    }
    Ok(files)
}
