//! Unpacked layers, by diff id.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Error, Store};
use crate::digest::Digest;

impl Store {
    /// Where the layer with the diff id `diff_id` lies unpacked, if it does.
    pub fn tree_path(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("trees").join(diff_id.hex())
    }

    /// The folder in which a layer lies unpacked. Where it is not there yet, `fill` unpacks it into an empty folder;
    /// when `fill` fails, nothing stays.
    ///
    /// # Errors
    /// Those of `fill`, and those of the disk.
    pub fn tree<E: From<Error>>(
        &self,
        diff_id: &Digest,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.tree_path(diff_id);
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
