//! Results of earlier work: what came out, under the digest of all that went in.

use std::path::PathBuf;

use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Flush, Store};
use crate::io::alone::Alone;
use crate::io::digest::Digest;
use crate::io::progress::Progress;

/// A result, and the blobs that have to be kept for it to be of use.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<T> {
    pub(super) blobs: Vec<Digest>,
    value: T,
}

/// That a blob is to be fetched, and nobody else does so meanwhile.
pub struct Fetching {
    _lock: Option<Alone>,
}

impl Store {
    /// What came out of work of the kind `kind` on the input `key`, if it is known and its blobs are all there.
    /// One that cannot be read is none.
    pub fn cached<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        let bytes = fs::read(self.cache_path(kind, key)).ok()?;
        let record: Record<T> = serde_json::from_slice(&bytes).ok()?;
        record.blobs.iter().all(|blob| self.has_content(blob)).then_some(record.value)
    }

    /// Remembers what came out of work, and that `blobs` belong to it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn cache<T: Serialize>(&self, kind: &str, key: &Digest, value: T, blobs: Vec<Digest>) -> Result<(), Error> {
        let path = self.cache_path(kind, key);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let damaged = |error: serde_json::Error| Error::Damaged { path: path.clone(), source: error.into() };
        let text = serde_json::to_vec(&Record { blobs, value }).map_err(damaged)?;
        // Of what a loss of power took the end of, nothing is read.
        self.replace(&path, &text, Flush::No)
    }

    /// As [`Store::cached`], of bytes that need no blobs.
    pub fn cached_bytes(&self, kind: &str, key: &Digest) -> Option<Vec<u8>> {
        fs::read(self.bytes_path(kind, key)).ok()
    }

    /// Remembers bytes that came out of work, and that need no blobs. Whoever reads them sees whether they are whole.
    ///
    /// # Errors
    /// When writing fails.
    pub fn cache_bytes(&self, kind: &str, key: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let path = self.bytes_path(kind, key);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        self.replace(&path, bytes, Flush::Yes)
    }

    /// Keeps other processes from doing work of the kind `kind` on the input `key` until what is returned is dropped, and waits for
    /// one that does; `what` tells a person what is waited for. What that came to is found by [`Store::cached`].
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn alone(&self, kind: &str, key: &Digest, progress: &Progress, what: &str) -> Result<Alone, Error> {
        // Beside the locks of scratch folders: whoever sweeps those takes away what killed processes left.
        let name = Digest::of(format!("{kind} {key}")).hex();
        Ok(Alone::at(self.root().join("scratch").join(format!("{name}.lock")), progress, what)?)
    }

    /// The same for fetching a blob: none where another process has done so, or it was there. Small ones are fetched twice sooner
    /// than waited for.
    ///
    /// # Errors
    /// As [`Store::alone`].
    pub fn fetching(&self, digest: &Digest, size: u64, progress: &Progress) -> Result<Option<Fetching>, Error> {
        /// Bytes.
        const SMALL: u64 = 4 << 20;
        let is_there = || self.has_blob(digest);
        if is_there() {
            return Ok(None);
        }
        if size < SMALL {
            return Ok(Some(Fetching { _lock: None }));
        }
        let lock = self.alone("blob", digest, progress, "another process, which fetches the same")?;
        Ok((!is_there()).then_some(Fetching { _lock: Some(lock) }))
    }

    fn bytes_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.cache_path(kind, key).with_extension("bin")
    }

    fn cache_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root().join("memory").join(kind).join(format!("{}.json", key.hex()))
    }
}
