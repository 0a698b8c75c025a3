//! What a person names, told apart once for all commands.

use std::path::{Path, PathBuf};

use crate::bundle;
use crate::bundle::import::bento as import;

/// What an argument means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A bundle's file.
    Bundle(PathBuf),
    /// A bento's archive or folder. One in BentoML's store is found there.
    Bento(PathBuf),
    /// Any other file or folder: of a project, if anything.
    Project(PathBuf),
    /// Nothing lies there: the name of an image, if anything.
    Name(String),
}

impl Target {
    /// What `path` means. A file is looked into, not only at its name.
    ///
    /// # Errors
    /// When it names a bento that BentoML's store does not have, or a file that cannot be read.
    pub fn of(path: &Path) -> Result<Self, import::Error> {
        if bundle::is_bundle(path) {
            return Ok(Self::Bundle(path.to_owned()));
        }
        if let Some(bento) = import::find(path)? {
            return Ok(Self::Bento(bento));
        }
        Ok(match path.exists() {
            true => Self::Project(path.to_owned()),
            false => Self::Name(path.display().to_string()),
        })
    }
}
