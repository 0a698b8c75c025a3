//! A model's files in a folder, held against what is expected of them: a lock, or what an image without models says that it
//! lacks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::bundle::apart::Models;
use crate::bundle::origin::folder::Expected;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::MAX_BYTES;
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::lock::Lock;

/// Why it is not known what is expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is neither of the documents.
    #[error("{} is no list of a model's files, and no lock", path.display())]
    NoList {
        /// The file.
        path: PathBuf,
        /// What is wrong with it as a lock.
        diagnostics: Diagnostics,
    },
    /// The lock has no files of models.
    #[error("{} has no files of a model that are fetched", path.display())]
    NoModels {
        /// The lock.
        path: PathBuf,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::NoList { .. } => ErrorKind::Invalid.named("fetch/no-list").hint(
                "give an `ekiben.lock`, or the JSON of the annotation `io.ekiben.models` of an image that was built with \
                 `--without-models` or `--models-only`",
            ),
            Self::NoModels { .. } => {
                ErrorKind::Usage.named("fetch/no-models").hint("its project names no `from:` below `model.files`")
            }
        }
    }
}

/// What the file at `list`, where there is one, and the digests `files` by names expect.
///
/// # Errors
/// When the file cannot be read, or says nothing of a model's files.
pub fn expected(list: Option<&Path>, files: BTreeMap<String, Digest>) -> Result<Expected, Error> {
    let Some(path) = list else { return Ok(Expected { files, ..Expected::default() }) };
    let size = fs::metadata(path)?.len();
    if size > MAX_BYTES {
        return Err(Error::NoList { path: path.to_owned(), diagnostics: Diagnostics::new() });
    }
    if let Ok(models) = serde_json::from_slice::<Models>(&fs::read(path)?) {
        let listed = models.files.into_iter().map(|file| (file.path, file.digest));
        return Ok(Expected { files: listed.chain(files).collect(), is_all: true, ..Expected::default() });
    }
    let mut diagnostics = Diagnostics::new();
    match Lock::load(path, &mut diagnostics) {
        Some(lock) if lock.models.is_empty() => Err(Error::NoModels { path: path.to_owned() }),
        Some(lock) => Ok(Expected { files, locked: lock.models, is_all: false }),
        None => Err(Error::NoList { path: path.to_owned(), diagnostics }),
    }
}
