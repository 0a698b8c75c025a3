//! Blobs: bytes under the name of their digest.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use fs_err as fs;

use super::{Error, Store};
use crate::io::alone;
use crate::io::digest::{Digest, HashingWriter, Mismatch, VerifyingReader};

impl Store {
    /// Where a blob lies, if it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Opens a blob; the reader fails at its end if the bytes have rotted.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<VerifyingReader<fs::File>, Error> {
        let file = match fs::File::open(self.blob_path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { digest: *digest, root: self.root().to_owned() });
            }
            file => file?,
        };
        let size = file.metadata()?.len();
        Ok(VerifyingReader::new(file, *digest, size))
    }

    /// Reads a blob of at most `limit` bytes into memory, verified.
    ///
    /// # Errors
    /// When it is not there, larger, or its bytes have rotted.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open_blob(digest)?.take(limit + 1).read_to_end(&mut bytes).map_err(unwrap_mismatch)?;
        if bytes.len() as u64 > limit {
            return Err(Mismatch::Size { expected: limit, actual: bytes.len() as u64, more: true }.into());
        }
        Ok(bytes)
    }

    /// Keeps what `content` gives, if it is `size` bytes with the digest `digest`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not, else what reading or writing says. Nothing is kept then.
    pub fn put_blob(&self, content: &mut dyn Read, digest: &Digest, size: u64) -> Result<(), Error> {
        // Larger pieces than those of `io::copy`: fewer calls for a blob of gigabytes.
        let mut writer = io::BufWriter::with_capacity(1 << 18, self.blob_writer()?);
        let content = &mut VerifyingReader::new(content, *digest, size);
        io::copy(content, &mut writer).map_err(unwrap_mismatch)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.commit()?;
        Ok(())
    }

    /// Keeps `bytes`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            let mut writer = self.blob_writer()?;
            writer.write_all(bytes)?;
            writer.commit()?;
        }
        Ok(digest)
    }

    /// Whether a layer's bytes are there, or a recipe for them, or the files that they are put together from.
    pub fn has_content(&self, digest: &Digest) -> bool {
        self.has_blob(digest) || self.recipe_path(digest).exists() || self.has_members(digest)
    }

    /// Starts a blob whose digest is known only when all is written.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn blob_writer(&self) -> Result<BlobWriter, Error> {
        let file = tempfile::NamedTempFile::new_in(self.scratch_root()?)?;
        Ok(BlobWriter { store: self.clone(), file: HashingWriter::new(file) })
    }

    /// The same, of no more than `size` bytes, of which those that came before are kept: whoever is dropped without
    /// [`BlobWriter::commit`] is gone on with by the next that has the same `key`, of which there is one at a time.
    ///
    /// # Errors
    /// As [`Store::blob_writer`].
    pub fn resumed_blob(&self, key: &Digest, size: u64) -> Result<BlobWriter, Error> {
        // What another boot left may not be on the disk as it was written.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let path = self.root().join(PARTIAL).join(Digest::of(format!("{key} {boot}")).hex());
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path)?.into_parts().0;
        let is_alone = match file.try_lock() {
            Ok(()) => true,
            Err(std::fs::TryLockError::WouldBlock) => false,
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        };
        // It may have become a blob before the lock was had, and another one be where it was.
        if !is_alone || !alone::is_at(&file, &path) {
            return self.blob_writer();
        }
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let mut known = HashingWriter::new(io::sink());
        io::copy(&mut &file, &mut known)?;
        let mut path = tempfile::TempPath::try_from_path(path)?;
        path.disable_cleanup(true);
        let file = known.around(tempfile::NamedTempFile::from_parts(file, path));
        Ok(BlobWriter { store: self.clone(), file })
    }
}

/// Where blobs are that have not come whole, in the store.
pub(super) const PARTIAL: &str = "partial";

/// A blob being written. Dropped without [`BlobWriter::commit`], it never was.
pub struct BlobWriter {
    store: Store,
    file: HashingWriter<tempfile::NamedTempFile>,
}

impl BlobWriter {
    /// How many bytes of it there are.
    pub fn written(&self) -> u64 {
        self.file.written()
    }

    /// Keeps the blob; gives its digest and its size in bytes.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn commit(self) -> Result<(Digest, u64), Error> {
        let (file, digest, size) = self.file.finish();
        let path = self.store.blob_path(&digest);
        if !path.exists() {
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
        } else {
            file.close()?;
        }
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A [`VerifyingReader`]'s refusal as what it is.
fn unwrap_mismatch(error: io::Error) -> Error {
    match error.downcast::<Mismatch>() {
        Ok(mismatch) => Error::Mismatch(mismatch),
        Err(error) => Error::Io(error),
    }
}
