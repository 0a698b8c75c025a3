//! Unpacked files: layers, by what they were unpacked from and over, and bentos.
//!
//! A layer's tree is a folder that only its owner can enter, as it may hold programs with setuid bits: in `root` are the
//! files, in `facts.json` is of which layer they are ([`crate::image::layer`]).

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Error, Store};
use crate::io::digest::Digest;

impl Store {
    /// Where what `key` names lies unpacked, if it does.
    pub fn snapshot_path(&self, key: &Digest) -> PathBuf {
        self.root().join("trees").join(key.hex())
    }

    /// The folder in which something lies unpacked. Where it is not there yet, `fill` unpacks it into an empty folder;
    /// when `fill` fails, nothing stays.
    ///
    /// # Errors
    /// Those of `fill`, and those of the disk.
    pub fn snapshot<E: From<Error>>(
        &self,
        key: &Digest,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.snapshot_path(key);
        if path.exists() {
            return Ok(path);
        }
        let scratch = self.scratch()?;
        let made = scratch.path().join("tree");
        fs::create_dir(&made).map_err(Error::from)?;
        fill(&made)?;
        match fs::rename(&made, &path) {
            // Another process was faster, with the same bytes.
            Err(_) if path.exists() => Ok(path),
            result => result.map(|()| path).map_err(|error| Error::from(error).into()),
        }
    }
}
