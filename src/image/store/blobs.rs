//! Blobs: bytes under the name of their digest.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use fs_err as fs;

use super::{Error, Store};
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
}

/// A blob being written. Dropped without [`BlobWriter::commit`], it never was.
pub struct BlobWriter {
    store: Store,
    file: HashingWriter<tempfile::NamedTempFile>,
}

impl BlobWriter {
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
