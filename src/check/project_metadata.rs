//! What carries project metadata: a file of it, a folder, a bundle, a bento.
//!
//! In these it is found by its name, wherever it lies. Where there are several, the one counts that a
//! service reads; what is not clear then is an error.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use super::target::Target;
use crate::bundle::import::bento::{self as import, Bento};
use crate::bundle::{self, Bundle};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{Document, shown};
use crate::formats::metadata::{self, ProjectMetadata};
use crate::formats::schema::Kind;
use crate::formats::schema::load;
use crate::image::session::Session;
use crate::io::archive::ArchivePath;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Why there is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at the path.
    #[error("there is no file or folder `{}`", .0.display())]
    Missing(PathBuf),
    /// None lies in it.
    #[error("there is no project metadata in `{}`", .0.display())]
    Nothing(PathBuf),
    /// Which one is meant cannot be known.
    #[error("there is more than one project metadata in `{}`: {}", path.display(), names.join(", "))]
    Several {
        /// What was named.
        path: PathBuf,
        /// What lies in it.
        names: Vec<String>,
    },
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The bento cannot be read.
    #[error(transparent)]
    Bento(#[from] import::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing(_) => ErrorKind::Failure.named("metadata/missing"),
            Self::Nothing(_) => ErrorKind::Failure
                .named("metadata/none")
                .hint(format!("it is looked for as `{}`, or name the file itself", metadata::NAME)),
            Self::Several { .. } => ErrorKind::Failure.named("metadata/several").hint("name the file that is meant"),
            Self::Bundle(error) => error.explain(),
            Self::Bento(error) => error.explain(),
        }
    }
}

/// Project metadata as it was found.
#[derive(Debug)]
pub struct Located {
    /// Its text, with its place as a person would write it.
    pub document: Document,
    /// What it says.
    pub metadata: ProjectMetadata,
}

/// Finds and reads the metadata in what a person names. What is wrong with its form goes to `found`; none where that
/// leaves nothing to go on with.
///
/// # Errors
/// When there is none, or it cannot be got at.
pub fn open(session: &Session, path: &Path, found: &mut Diagnostics) -> Result<Option<Located>, Error> {
    let file = match Target::of(path)? {
        Target::Bundle(path) => {
            let bundle = Bundle::open(session, &path)?;
            let name = one_of(&path, among(bundle.members().keys()))?;
            let place = format!("{}:{name}", shown(&path));
            return Ok(parse(&name, &place, &bundle.read(&name)?, found));
        }
        Target::Bento(path) if path.is_file() => {
            let bento = Bento::open(session, &path)?;
            let name = one_of(&path, among(bento.files.iter().map(|file| &file.path)))?;
            let place = bento.shown(&name);
            let bytes = bento.get(&name).map(|file| file.content.read(Kind::Metadata.most())).transpose();
            return Ok(parse(&name, &place, &bytes.map_err(import::Error::from)?.unwrap_or_default(), found));
        }
        Target::Bento(path) | Target::Project(path) => match path.is_dir() {
            true => path.join(one_of(&path, below(&path))?),
            false => path,
        },
        Target::Archive(_) | Target::Model(_) | Target::Name(_) => return Err(Error::Missing(path.to_owned())),
    };
    found.extend(metadata::not_found_by_service(&file, &shown(&file)));
    Ok(load::file(&file, found).and_then(located))
}

/// Reads a member of an archive, known as `place`.
fn parse(name: &str, place: &str, bytes: &[u8], found: &mut Diagnostics) -> Option<Located> {
    found.extend(metadata::not_found_by_service(Path::new(name), place));
    load::bytes(bytes, place, name, found).and_then(located)
}

fn located(loaded: load::Loaded<ProjectMetadata>) -> Option<Located> {
    loaded.whole().map(|(document, metadata)| Located { metadata, document })
}

/// The one that is meant.
fn one_of(path: &Path, names: Vec<String>) -> Result<String, Error> {
    let read_by_service = |name: &&String| Path::new(name).file_name().is_some_and(|name| name == metadata::NAME);
    let preferred: Vec<&String> = names.iter().filter(read_by_service).collect();
    match (names.as_slice(), preferred.as_slice()) {
        ([], _) => Err(Error::Nothing(path.to_owned())),
        ([name], _) => Ok(name.clone()),
        (_, [name]) => Ok((*name).clone()),
        _ => Err(Error::Several { path: path.to_owned(), names }),
    }
}

fn is_metadata(name: &str) -> bool {
    metadata::NAMES.contains(&name)
}

/// Levels of folders that are looked into: a project's own, `src`, and what lies in that.
const LEVELS: usize = 4;

/// Metadata in a folder, by its paths.
fn below(folder: &Path) -> Vec<String> {
    let walk = WalkBuilder::new(folder)
        .standard_filters(false)
        .hidden(true)
        .max_depth(Some(LEVELS))
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .build();
    let files = walk.filter_map(Result::ok).map(ignore::DirEntry::into_path).filter(|path| path.is_file());
    let files = files.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_metadata));
    files.filter_map(|path| Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned())).collect()
}

/// Metadata among members of an archive.
fn among<'a>(members: impl Iterator<Item = &'a ArchivePath>) -> Vec<String> {
    members.filter(|path| is_metadata(path.name())).map(ArchivePath::to_string).collect()
}
