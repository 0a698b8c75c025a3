//! What a person names, told apart once for all commands.

use std::path::{Path, PathBuf};

use crate::bundle;
use crate::bundle::import::{analytics, bento as import};
use crate::project::address::Address;
use crate::project::init::proposal;
use crate::project::manifest;

/// What an argument means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A bundle's file.
    Bundle(PathBuf),
    /// A bento's archive or folder. One in BentoML's store is found there.
    Bento(PathBuf),
    /// A model of the AI Analytics Runtime: its archive or folder.
    Archive(PathBuf),
    /// Any other file or folder: of a project, if anything.
    Project(PathBuf),
    /// A model without a project: at an address, or a folder as a framework saved it.
    Model(Address),
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
        if analytics::is_archive(path) {
            return Ok(Self::Archive(path.to_owned()));
        }
        if let Some(bento) = import::find(path)? {
            return Ok(Self::Bento(bento));
        }
        if let Some(address) = path.to_str().and_then(|text| text.parse::<Address>().ok()).filter(Address::is_remote) {
            return Ok(Self::Model(address));
        }
        let has_manifest = || manifest::NAMES.iter().any(|name| path.join(name).exists());
        if path.is_dir() && !has_manifest() && matches!(proposal::recognise(path), Some(proposal::Kind::Mlflow)) {
            return Ok(Self::Model(Address::Path(path.to_owned())));
        }
        Ok(match path.exists() {
            true => Self::Project(path.to_owned()),
            false => Self::Name(path.display().to_string()),
        })
    }
}
