//! What Ekiben keeps on this machine: blobs by digest, images by name, unpacked layers, and results of earlier work.
//!
//! The folder is an OCI image layout (image specification 1.1, `image-layout.md`), so that other tools can read it:
//!
//! | path | what |
//! |---|---|
//! | `oci-layout`, `index.json`, `blobs/sha256/` | images |
//! | `recipes/` | layers whose bytes are made or fetched when somebody asks: see [`Recipe`] |
//! | `trees/` | layers unpacked to be run, by diff id; of those that were made here maybe all that there is |
//! | `memory/` | results of earlier work, by the digest of what went into it |
//! | `kept/` | the names of data sets and of trained models, which are blobs |
//! | `caches/` | what other programs keep, whose person has no home that can be written to |
//! | `containers/` | state of containers: see [`crate::run::container`] |
//! | `scratch/` | work under way; what a killed process left here is removed by the next one |
//!
//! Invariants: everything but `scratch/` appears whole, by rename; a blob's bytes have the digest of its name;
//! whoever uses the store holds a shared lock on it, and what removes things ([`Store::prune`]) an exclusive one.

mod blobs;
mod cache;
mod health;
mod images;
mod kept;
mod prune;
mod recipe;
mod referrers;
mod scratch;
mod snapshots;

pub use blobs::BlobWriter;
pub use images::{ImageName, ImageNameError, ImageQuery, ImageRecord};
pub use kept::{Kept, Purpose as KeptAs};
pub use prune::{Kind, Pruned, Purpose, Reach, Removed, Usage};
pub use recipe::{LayerFile, Recipe};
pub use scratch::Scratch;
pub use snapshots::{Members, tree_key};

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fs_err as fs;

use crate::io::digest::{Digest, Mismatch};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::{did_you_mean, listed};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no. The message names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Bytes that were to be kept are not those that were promised; they were not kept.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A blob that an image needs is not there.
    #[error("the blob {digest} is not in the store {}", root.display())]
    Missing {
        /// The blob.
        digest: Digest,
        /// The store.
        root: PathBuf,
    },
    /// A file of the store is not what it should be.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its text lacks.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No image has the name.
    #[error("there is no image `{name}` in the store")]
    NoImage {
        /// What was asked for.
        name: String,
        /// A name that is there and looks alike.
        similar: Option<String>,
        /// All that are there.
        names: Vec<String>,
    },
    /// Several images have the name.
    #[error("`{name}` may be any of {} images", names.len())]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Those that it may be.
        names: Vec<String>,
    },
    /// The store's folder is not there and cannot be made, or cannot be written to.
    #[error("the store {} cannot be used", path.display())]
    NoFolder {
        /// The store's folder.
        path: PathBuf,
        /// What the system said to what.
        source: io::Error,
    },
    /// No folder to keep things in is known.
    #[error("there is no home directory to keep images in: set EKIBEN_HOME")]
    Homeless,
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Mismatch(error) => error.explain(),
            Self::Missing { .. } => {
                ErrorKind::Failure.named("store/missing").hint("build the image again with `ekiben build`")
            }
            Self::Damaged { path, .. } => {
                ErrorKind::Failure.named("store/damaged").hint(format!("remove {}, and build again", path.display()))
            }
            Self::NoImage { similar: Some(similar), .. } => {
                ErrorKind::Failure.named("store/no-image").hint(did_you_mean(similar))
            }
            Self::NoImage { similar: None, names, .. } if names.is_empty() => ErrorKind::Failure
                .named("store/no-image")
                .hint("`ekiben build` makes one, `ekiben images` lists them: there is none yet"),
            Self::NoImage { similar: None, names, .. } => ErrorKind::Failure
                .named("store/no-image")
                .hint(format!("there are: {}; `ekiben images` says more", listed(names))),
            Self::Ambiguous { names, .. } => {
                ErrorKind::Usage.named("store/ambiguous").hint(format!("say which: {}", listed(names)))
            }
            Self::NoFolder { source, .. } => ErrorKind::Failure
                .named("store/no-folder")
                .hint("EKIBEN_HOME names another folder, in which all is kept")
                .or(source),
            Self::Homeless => ErrorKind::Failure.named("store/no-home"),
        }
    }
}

/// Where other programs keep what they have fetched, in the store.
const CACHES: &str = "caches";

/// The store of one user on this machine. Cheap to clone; the shared lock is held until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    scratch: OnceLock<Scratch>,
    lock: std::fs::File,
}

impl Store {
    /// Where the store is when nobody says otherwise: `EKIBEN_HOME`, else `ekiben` below `XDG_DATA_HOME`, else
    /// `~/.local/share/ekiben`.
    ///
    /// # Errors
    /// [`Error::Homeless`] when none of the variables is set.
    pub fn default_root() -> Result<PathBuf, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("EKIBEN_HOME")
            .or_else(|| variable("XDG_DATA_HOME").map(|data| data.join("ekiben")))
            .or_else(|| std::env::home_dir().map(|home| home.join(".local/share/ekiben")))
            .ok_or(Error::Homeless)
    }

    /// Whether there is a store at `root`, or it cannot be known.
    pub fn is_at(root: &Path) -> bool {
        root.join("oci-layout").try_exists().unwrap_or(true)
    }

    /// Opens the store at `root`, made if it is not there, and removes what killed processes left in it.
    /// Waits while another process prunes it.
    ///
    /// # Errors
    /// When the folder cannot be made or locked.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let (root, lock) = Self::make(root).map_err(|source| Error::NoFolder { path: root.to_owned(), source })?;
        lock.lock_shared()?;
        let store = Self { inner: Arc::new(Inner { root, scratch: OnceLock::new(), lock }) };
        let layout = store.root().join("oci-layout");
        if !layout.exists() {
            store.replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#, Flush::Yes)?;
        }
        scratch::sweep(&store.root().join("scratch"))?;
        Ok(store)
    }

    /// Makes the folders that are not there. Gives the store's own, absolute, and the file of its lock.
    fn make(root: &Path) -> io::Result<(PathBuf, std::fs::File)> {
        fs::create_dir_all(root)?;
        let root = fs::canonicalize(root)?;
        for folder in
            ["blobs/sha256", "recipes", "trees", "memory", "projects", blobs::PARTIAL, "containers", "logs", "scratch"]
        {
            fs::create_dir_all(root.join(folder))?;
        }
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        Ok((root, lock.into_parts().0))
    }

    /// The store's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// A new empty folder for work under way, on the store's file system. Removed when dropped, or by the next
    /// process if this one is killed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir, Error> {
        Ok(tempfile::Builder::new().prefix("work-").tempdir_in(self.scratch_root()?)?)
    }

    /// The folder in which another program keeps what it has fetched, where its person has none; it is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn cache_of(&self, program: &str) -> Result<PathBuf, Error> {
        let folder = self.root().join(CACHES).join(program);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn scratch_root(&self) -> Result<&Path, Error> {
        if self.inner.scratch.get().is_none() {
            let made = Scratch::new(&self.root().join("scratch"))?;
            // When another thread was faster, its folder is used and this one removed.
            let _ = self.inner.scratch.set(made);
        }
        self.inner.scratch.get().map(Scratch::path).ok_or(Error::Homeless)
    }

    /// Writes a whole file, or nothing: under another name first, renamed.
    fn replace(&self, path: &Path, content: &[u8], flush: Flush) -> Result<(), Error> {
        let mut file = tempfile::NamedTempFile::new_in(self.scratch_root()?)?;
        file.write_all(content)?;
        if flush == Flush::Yes {
            file.as_file().sync_all()?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Whether a file is on the disk before it has its name, so that it is whole after a loss of power too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Yes,
    No,
}
