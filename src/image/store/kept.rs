//! Data sets that a person keeps in the store, by name, and models that were trained here.
//!
//! Invariant: what is listed is there, until it is taken off the list; nothing else removes it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Error, Flush, Store};
use crate::io::digest::Digest;

/// Where the list is, in the store: a file for each.
pub(super) const FOLDER: &str = "kept";

/// What something is that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// What models are trained with: the last of a name.
    Data,
    /// What training made: all of a name.
    Model,
}

/// Something that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What it is.
    pub kind: Purpose,
    /// What it is called.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When it was put there, in seconds since 1970.
    pub since: u64,
    /// The file that it is, where its name does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Store {
    /// Keeps the bytes of the file at `path`; gives their digest and how many they are.
    ///
    /// # Errors
    /// When it cannot be read, or not be written here.
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64), Error> {
        let mut blob = self.blob_writer()?;
        io::copy(&mut fs::File::open(path)?, &mut blob)?;
        let (digest, size) = blob.commit()?;
        // A container of root's runs as another user, and is shown the file itself.
        fs::set_permissions(self.blob_path(&digest), PermissionsExt::from_mode(0o644))?;
        Ok((digest, size))
    }

    /// Puts something on the list, whose bytes are a blob here. A data set takes the place of one of its name.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn keep(&self, kept: &Kept) -> Result<(), Error> {
        fs::create_dir_all(self.root().join(FOLDER))?;
        let path = self.kept_path(kept);
        let damaged = |error: serde_json::Error| Error::Damaged { path: path.clone(), source: error.into() };
        let text = serde_json::to_vec(kept).map_err(damaged)?;
        self.replace(&path, &text, Flush::Yes)
    }

    /// All that is kept: by kind and name, the newest of a name first.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>, Error> {
        let mut all = Vec::new();
        let folder = self.root().join(FOLDER);
        if !folder.exists() {
            return Ok(all);
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let damaged = |error: serde_json::Error| Error::Damaged { path: path.clone(), source: error.into() };
            all.push(serde_json::from_slice::<Kept>(&fs::read(&path)?).map_err(damaged)?);
        }
        all.sort_by(|one, other| {
            let order = |kept: &Kept| (kept.kind, kept.name.clone());
            order(one).cmp(&order(other)).then(other.since.cmp(&one.since)).then(one.digest.cmp(&other.digest))
        });
        Ok(all)
    }

    /// Takes something off the list, as another process may do; its bytes go with the next pruning, unless something else needs them.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn forget(&self, kept: &Kept) -> Result<(), Error> {
        match fs::remove_file(self.kept_path(kept)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn kept_path(&self, kept: &Kept) -> PathBuf {
        let of = match kept.kind {
            Purpose::Data => format!("data {}", kept.name),
            Purpose::Model => format!("model {} {}", kept.name, kept.digest),
        };
        self.root().join(FOLDER).join(Digest::of(of).hex())
    }
}
