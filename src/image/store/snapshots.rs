//! Unpacked files: layers, by what they were unpacked from and over, and bentos.
//!
//! A layer's tree is a folder that only its owner can enter, as it may hold programs with setuid bits: in `root` are the
//! files, in `facts.json` is of which layer they are ([`crate::image::layer`]). The tree of a layer that was made here and
//! not compressed yet is all that there is of it: then `members.json` says how its archive is put together from the files
//! again. Both appear and go together.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Error, Flush, Store};
use crate::io::archive::Entry;
use crate::io::digest::Digest;

/// Version of what unpacking makes of a layer.
const TREES: u32 = 1;

/// The members of the archive that a tree was unpacked from.
const MEMBERS: &str = "members.json";

/// Under what the tree of the layer with the diff id `layer` is kept: for all layers below, or for these, by what theirs
/// are kept under.
pub fn tree_key(layer: &Digest, below: Option<&[Digest]>) -> Digest {
    // Numbers and digests always serialise.
    Digest::of(serde_json::to_vec(&("layer", TREES, layer, below)).unwrap_or_default())
}

/// The archive that a tree was unpacked from, but for the contents of files: these are in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The time in the headers, in seconds since 1970.
    pub epoch: u64,
    /// In their order in the archive.
    pub entries: Vec<Entry>,
}

impl Members {
    /// Puts them beside the files of the tree in `folder`, which nobody else sees yet.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_into(&self, folder: &Path) -> Result<(), Error> {
        Ok(fs::write(folder.join(MEMBERS), self.text()?)?)
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

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
        Ok(self.keep_snapshot(key, &made)?)
    }

    /// Keeps the folder `made`, which lies in a scratch folder, under what `key` names, unless something is there: then it
    /// has the same bytes.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn keep_snapshot(&self, key: &Digest, made: &Path) -> Result<PathBuf, Error> {
        let path = self.snapshot_path(key);
        match fs::rename(made, &path) {
            // Another process was faster.
            Err(_) if path.exists() => Ok(path),
            result => Ok(result.map(|()| path)?),
        }
    }

    /// Whether the archive of the layer with the diff id `layer` can be put together from its tree.
    pub fn has_members(&self, layer: &Digest) -> bool {
        self.snapshot_path(&tree_key(layer, None)).join(MEMBERS).exists()
    }

    /// How the archive of the layer with the diff id `layer` is put together from its tree, where that is known: its
    /// members, and the folder with the files.
    ///
    /// # Errors
    /// When it cannot be read, and [`Error::Damaged`] when it says nothing of members.
    pub fn members(&self, layer: &Digest) -> Result<Option<(Members, PathBuf)>, Error> {
        let tree = self.snapshot_path(&tree_key(layer, None));
        let text = match fs::read(tree.join(MEMBERS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        match serde_json::from_slice(&text) {
            Ok(members) => Ok(Some((members, tree.join("root")))),
            // Without the tree it is made again, as a whole.
            Err(error) => Err(Error::Damaged { path: tree, source: error.into() }),
        }
    }

    /// Notes how the archive of the layer with the diff id `layer` is put together from its tree, which is there.
    ///
    /// # Errors
    /// When writing fails.
    pub fn keep_members(&self, layer: &Digest, members: &Members) -> Result<(), Error> {
        self.replace(&self.snapshot_path(&tree_key(layer, None)).join(MEMBERS), &members.text()?, Flush::Yes)
    }
}
