//! A model without a project: at an address, or in a folder as a framework saved it. It becomes a project that nobody wrote, made
//! once and kept in the store, whose manifest names the model where it lives. A bundle or a bento at an address is kept as it is.
//!
//! Invariant: the same bytes at the same address give the same project, and nothing of the model is loaded.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::fit::{self, Fit};
use crate::bundle::import::analytics::{self, Archive};
use crate::bundle::origin::{self, Trust};
use crate::formats::diagnostic::Diagnostics;
use crate::image::session::Session;
use crate::image::store;
use crate::io::atomic;
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::address::{Address, Mlflow, Which};
use crate::project::init::{self, Elsewhere, FOLDER, Start};
use crate::project::lock::LockedModel;

/// Raised when a project is made of a model in another way.
const RULES: u32 = 1;

/// Where projects are kept, in the store.
const PROJECTS: &str = "projects";

/// What is known of addresses, in the store.
const KNOWN: &str = "addresses";

/// What files are called at an address that are bundles or bentos, rather than models.
const PACKED: [&str; 2] = [".ekiben", ".bento"];

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model cannot be had.
    #[error(transparent)]
    Origin(#[from] origin::Error),
    /// Nothing can be made of it.
    #[error("{why}")]
    Init {
        /// The address, or the folder.
        from: String,
        /// Why.
        why: init::Error,
    },
    /// The archive cannot be read, or has mistakes.
    #[error(transparent)]
    Archive(#[from] analytics::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The disk says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The model does not say all that is needed.
    #[error("{from} cannot answer without more: {}", open.join("; "))]
    Unfinished {
        /// The address, or the folder.
        from: String,
        /// What is to be done.
        open: Vec<String>,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Origin(error) => error.explain(),
            Self::Init { from, why } => match why {
                init::Error::Refused { allow, .. } if !allow.is_empty() => {
                    let flags: Vec<String> = allow.iter().map(|global| format!(" --allow '{global}'")).collect();
                    why.explain().hint(format!(
                        "if you made it, or trust who did, make a project that says so: `ekiben init --from {from}{} NEW-FOLDER`",
                        flags.concat()
                    ))
                }
                why => why.explain(),
            },
            Self::Archive(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Unfinished { from, .. } => ErrorKind::Failure
                .named("model/unfinished")
                .hint(format!("begin a project, and fill it in: `ekiben init --from {from} NEW-FOLDER`")),
        }
    }
}

/// A model that was fetched, laid out as it would be in a project.
#[derive(Debug)]
pub struct Shelf {
    /// Removed with this.
    folder: tempfile::TempDir,
    /// What a project of it begins with.
    pub start: Start,
}

/// Fetches what is at `address`, to be looked at. The address as it holds from now on is `pinned`: one with a version in the
/// place of an alias.
fn fetched(session: &Session, address: &Address) -> Result<(Address, LockedModel), Error> {
    let key = Digest::of(address.to_string());
    if session.client.is_offline()
        && let Some((pinned, locked)) = session.store.cached::<(String, LockedModel)>(KNOWN, &key)
        && let Ok(pinned) = pinned.parse()
    {
        return Ok((pinned, locked));
    }
    let pinned = origin::pinned(session, address)?;
    let locked = origin::lock(session, None, &pinned, Trust::InVersions)?;
    let blobs = locked.files.iter().map(|file| file.digest).collect();
    session.store.cache(KNOWN, &key, (pinned.to_string(), &locked), blobs)?;
    Ok((pinned, locked))
}

/// Lays out a model that was fetched. The manifest is to name it as `from` does.
fn laid_out(session: &Session, from: &Address, locked: &LockedModel) -> Result<Shelf, Error> {
    let folder = session.store.scratch()?;
    let path = if from.is_folder() { FOLDER.to_owned() } else { from.name() };
    for file in &locked.files {
        let below = if from.is_folder() { format!("{FOLDER}/{}", file.name) } else { path.clone() };
        let target =
            crate::io::archive::ArchivePath::relative(&below).map_err(std::io::Error::other)?.under(folder.path());
        fs::create_dir_all(target.parent().unwrap_or(folder.path()))?;
        let blob = session.store.blob_path(&file.digest);
        if fs::hard_link(&blob, &target).is_err() {
            fs::copy(&blob, &target)?;
        }
    }
    let mut identity = String::new();
    locked.files.iter().for_each(|file| identity += &format!("{} {}\n", file.name, file.digest));
    let version = match from {
        Address::Mlflow(Mlflow::Registered { which: Which::Number(number), .. }) => number.to_string(),
        _ => Digest::of(identity).short(),
    };
    let start = Start {
        model: Some(folder.path().join(&path)),
        name: Some(init::plain(&from.name())),
        version: Some(version),
        elsewhere: Some(Elsewhere { from: from.to_string(), root: folder.path().to_owned(), path }),
        ..Start::default()
    };
    Ok(Shelf { folder, start })
}

/// Fetches what is at `address`, as what a project begins with whose manifest names it so. The person says the rest.
///
/// # Errors
/// When it cannot be fetched.
pub fn shelf(session: &Session, address: &Address) -> Result<Shelf, Error> {
    let (_, locked) = fetched(session, address)?;
    let mut shelf = laid_out(session, address, &locked)?;
    shelf.start.version = None;
    Ok(shelf)
}

/// The project of the model at an address, or of a folder as a framework saved it, which answers below the path `root` where one is
/// said. What is wrong with the model goes to `found`.
///
/// # Errors
/// When it cannot be fetched, is refused, or does not say all that a project needs.
pub fn project(
    session: &Session,
    address: &Address,
    root: Option<&str>,
    found: &mut Diagnostics,
) -> Result<PathBuf, Error> {
    match address {
        Address::Path(path) => {
            let path = fs::canonicalize(path)?;
            let scratch = session.store.scratch()?;
            let elsewhere = Elsewhere {
                from: path.display().to_string(),
                root: scratch.path().to_owned(),
                path: FOLDER.to_owned(),
            };
            let seen = seen(&path)?;
            let root = root.map(str::to_owned);
            let start = Start { model: Some(path), elsewhere: Some(elsewhere), root, ..Start::default() };
            made(session, start, &seen, found)
        }
        remote => {
            let (pinned, locked) = fetched(session, remote)?;
            let Shelf { folder, start } = laid_out(session, &pinned, &locked)?;
            let files: Vec<String> = locked.files.iter().map(|file| format!("{} {}", file.name, file.digest)).collect();
            let start = Start { root: root.map(str::to_owned), ..start };
            let project = made(session, start, &files.join("\n"), found)?;
            drop(folder);
            Ok(project)
        }
    }
}

/// The bundle or bento at an address whose name ends as those do, kept under its own name; none where it ends otherwise.
///
/// # Errors
/// When it cannot be fetched.
pub fn packed(session: &Session, address: &Address) -> Result<Option<PathBuf>, Error> {
    let name = address.name();
    let is_packed = PACKED.iter().any(|ending| name.ends_with(ending) && name.len() > ending.len());
    if !is_packed || !address.is_remote() || address.is_folder() {
        return Ok(None);
    }
    let (_, locked) = fetched(session, address)?;
    let [file] = locked.files.as_slice() else { return Ok(None) };
    let name = crate::io::archive::ArchivePath::relative(&name).map_err(std::io::Error::other)?;
    let kept = session.store.root().join(PROJECTS).join(file.digest.hex());
    fs::create_dir_all(&kept)?;
    let path = name.under(&kept);
    let blob = session.store.blob_path(&file.digest);
    match fs::hard_link(&blob, &path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        // Another file system.
        Err(_) => atomic::write(&path, |to| std::io::copy(&mut fs::File::open(&blob)?, to).map(|_| ()))?,
        Ok(()) => {}
    }
    Ok(Some(path))
}

/// The project of an archive of the AI Analytics Runtime: that of before, where it is the same one. What is wrong with it goes to
/// `found`.
///
/// # Errors
/// When it cannot be read, or has mistakes.
pub fn archive(session: &Session, path: &Path, found: &mut Diagnostics) -> Result<PathBuf, Error> {
    let archive = Archive::open(path)?;
    let parent = session.store.root().join(PROJECTS);
    fs::create_dir_all(&parent)?;
    let kept = parent.join(Digest::of(format!("archive {}", archive.digest()?)).hex());
    if kept.is_dir() {
        return Ok(kept);
    }
    match atomic::folder(&kept, |folder| Ok(archive.write(folder, &archive.translated(found)?)?)) {
        // Another process was faster.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::AlreadyExists && kept.is_dir() => Ok(kept),
        result => result.map(|()| kept),
    }
}

/// What tells the files of a folder from other ones: their names, sizes, and when they were written.
fn seen(folder: &Path) -> Result<String, Error> {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = Vec::new();
    for entry in ignore::WalkBuilder::new(folder).standard_filters(false).build() {
        let entry = entry.map_err(std::io::Error::other)?;
        let metadata = fs::metadata(entry.path())?;
        if metadata.is_file() {
            let (path, size) = (entry.path().display(), metadata.len());
            seen.push(format!("{path} {size} {} {}", metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    seen.sort();
    Ok(seen.join("\n"))
}

/// The project that begins with `start`, of a model whose files are `files`: that of before, where there is one.
fn made(session: &Session, start: Start, files: &str, found: &mut Diagnostics) -> Result<PathBuf, Error> {
    let from = start.elsewhere.as_ref().map_or_else(String::new, |elsewhere| elsewhere.from.clone());
    let root = start.root.as_ref().map(|root| format!(" below {root}")).unwrap_or_default();
    let key = Digest::of(format!("{RULES} {} {from}{root}\n{files}", env!("CARGO_PKG_VERSION")));
    let parent = session.store.root().join(PROJECTS);
    fs::create_dir_all(&parent)?;
    let kept = parent.join(key.hex());
    if kept.is_dir() {
        return Ok(kept);
    }
    let fill = |folder: &Path| {
        let project = init::start(&Start { folder: folder.to_owned(), ..start }, found);
        let project = project.map_err(|why| Error::Init { from: from.clone(), why })?.proposal;
        if !project.is_ready() {
            return Err(Error::Unfinished { from, open: project.open });
        }
        match fit::fit(session, folder, fit::PATIENCE) {
            Fit::Fits(loosened) => loosened.iter().for_each(|one| {
                session.progress.warn(format!("{} became {}: {}", one.before, one.after, one.why));
            }),
            Fit::Unfit(why) => session.progress.warn(format!("the requirements cannot be had as they are: {why}")),
            Fit::Unknown | Fit::Untried => {}
        }
        Ok(())
    };
    match atomic::folder(&kept, fill) {
        // Another process was faster.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::AlreadyExists && kept.is_dir() => Ok(kept),
        result => result.map(|()| kept),
    }
}
