//! A layer: a descriptor, a diff id, and a way to open its bytes.
//!
//! Invariant: a layer's bytes have the digest that it says, whenever they are read; where they cannot be had any more,
//! opening or reading says so before a wrong byte goes out.
//!
//! The bytes lie in the store as a blob, or they are a [`Recipe`]: tar headers, and ranges of files that lie where
//! the person keeps them. A weight file becomes such a layer without a second copy of it on the disk. A layer may also
//! be in a registry still; then its recipe is where ([`origin`]). OCI image specification 1.1, `layer.md`.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::archive::{self, ArchivePath, BLOCK, Entry, padding};
use crate::compress::Compression;
use crate::content::{self, Content};
use crate::digest::{Digest, Hasher, HashingWriter, Mismatch, VerifyingReader};
use crate::progress::Task;
use crate::store::{self, Store};

/// What can go wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The layer's archive cannot be unpacked.
    #[error("the layer {digest} cannot be unpacked")]
    Unpack {
        /// Of the layer.
        digest: Digest,
        /// Why.
        source: archive::Error,
    },
    /// The layer is in a registry, and was not fetched yet.
    #[error("the layer {digest} is still in {origin}")]
    Elsewhere {
        /// Of the layer.
        digest: Digest,
        /// Registry and repository.
        origin: String,
    },
    /// A file that the layer is made from is another one now.
    #[error(transparent)]
    Content(#[from] content::Error),
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Elsewhere { .. } => Some("fetch the image's layers with `ekiben pull`".to_owned()),
            _ => None,
        }
    }
}

/// A layer of an image. Its bytes are opened with [`Layer::open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// How its bytes are stored.
    pub compression: Compression,
    /// Of its bytes as they are stored.
    pub digest: Digest,
    /// In bytes, as stored.
    pub size: u64,
    /// Of its bytes uncompressed.
    pub diff_id: Digest,
    /// What is in it, for a person: `Debian bookworm, 41 packages`.
    pub title: String,
}

/// How a layer's bytes are put together from files that lie elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recipe {
    /// The time in the headers, in seconds since 1970.
    epoch: u64,
    files: Vec<File>,
}

/// Where a layer's bytes can be fetched from, in the place of a recipe.
#[derive(Serialize, Deserialize)]
struct Origin {
    /// Registry and repository: `registry.example/iris`.
    from: String,
}

/// Notes that the layer with the digest `digest` can be fetched from `repository`, unless its bytes are here or made
/// here.
///
/// # Errors
/// When the store cannot be written.
pub fn keep_origin(store: &Store, digest: &Digest, repository: &str) -> Result<(), Error> {
    if !store.has_content(digest) {
        let text = serde_json::to_vec(&Origin { from: repository.to_owned() }).map_err(io::Error::from)?;
        store.put_recipe(digest, &text)?;
    }
    Ok(())
}

/// Registry and repository from which a layer is still to be fetched; none when its bytes are here, or made here, or
/// nobody knows.
///
/// # Errors
/// When the store cannot be read.
pub fn origin(store: &Store, digest: &Digest) -> Result<Option<String>, Error> {
    if store.has_blob(digest) {
        return Ok(None);
    }
    let text = store.recipe(digest)?;
    Ok(text.and_then(|text| serde_json::from_slice::<Origin>(&text).ok()).map(|origin| origin.from))
}

/// A file of a [`Layer::of_files`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where it lies in the image.
    pub path: ArchivePath,
    /// Where its bytes come from.
    pub content: Content,
}

impl Layer {
    /// Makes a layer whose bytes go into the store: `write` puts its entries into an archive.
    ///
    /// # Errors
    /// Those of `write`, and those of the store; then nothing is kept.
    pub fn write<E: From<Error>>(
        store: &Store,
        compression: Compression,
        title: impl Into<String>,
        write: impl FnOnce(&mut archive::Writer<&mut dyn Write>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let blob = store.blob_writer().map_err(Error::from)?;
        let mut uncompressed = HashingWriter::new(compression.encoder(blob).map_err(Error::from)?);
        let mut writer = archive::Writer::new(&mut uncompressed as &mut dyn Write);
        write(&mut writer)?;
        writer.finish().map_err(Error::from)?;
        let (encoder, diff_id, _) = uncompressed.finish();
        let (digest, size) = encoder.finish().map_err(Error::from)?.commit().map_err(Error::from)?;
        Ok(Self { compression, digest, size, diff_id, title: title.into() })
    }

    /// Makes a layer of files that stay where they are: each is read once, and hashed once. `task` advances by the
    /// bytes read.
    ///
    /// # Errors
    /// When a file cannot be read, or changes while it is.
    pub fn of_files(store: &Store, title: impl Into<String>, files: Vec<File>, task: &Task) -> Result<Self, Error> {
        let recipe = Recipe { epoch: archive::epoch(), files };
        let (digest, size) = task.hash(recipe.clone().open())?;
        // What was read is what the recipe says only if no file moved under our hands.
        recipe.files.iter().try_for_each(|file| file.content.check())?;
        let layer = Self { compression: Compression::None, digest, size, diff_id: digest, title: title.into() };
        layer.keep_recipe(store, recipe.files)?;
        Ok(layer)
    }

    /// Keeps the recipe of a layer whose digest is known from elsewhere. Whether it is right is seen when its bytes
    /// are read.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_recipe(&self, store: &Store, files: Vec<File>) -> Result<(), Error> {
        let recipe = Recipe { epoch: archive::epoch(), files };
        let text = serde_json::to_vec(&recipe).map_err(io::Error::from)?;
        if store.recipe(&self.digest)?.is_none_or(|known| known != text) {
            store.put_recipe(&self.digest, &text)?;
        }
        Ok(())
    }

    /// Opens the bytes as they are stored. The reader verifies them: it fails at the end if they are not the layer's.
    ///
    /// # Errors
    /// When they are neither in the store nor to be made.
    pub fn open(&self, store: &Store) -> Result<Box<dyn Read + Send>, Error> {
        if !store.has_blob(&self.digest)
            && let Some(recipe) = Recipe::load(store, &self.digest)?
        {
            return Ok(Box::new(VerifyingReader::new(recipe.open(), self.digest, self.size)));
        }
        Ok(Box::new(store.open_blob(&self.digest)?))
    }

    /// Opens the bytes as they are stored, for those who hand them to somebody who verifies them: a registry. That files
    /// are those that the layer was made of is checked, by what the file system says of them.
    ///
    /// # Errors
    /// As [`Layer::open`].
    pub fn open_unverified(&self, store: &Store) -> Result<Box<dyn Read + Send>, Error> {
        if store.has_blob(&self.digest) {
            return Ok(Box::new(fs_err::File::open(store.blob_path(&self.digest))?));
        }
        match Recipe::load(store, &self.digest)? {
            Some(recipe) => Ok(Box::new(recipe.open())),
            None => self.open(store),
        }
    }

    /// The files that the layer is made of, where it is a recipe.
    ///
    /// # Errors
    /// When the recipe cannot be read.
    pub fn files(&self, store: &Store) -> Result<Option<Vec<File>>, Error> {
        if store.has_blob(&self.digest) {
            return Ok(None);
        }
        Ok(Recipe::load(store, &self.digest)?.map(|recipe| recipe.files))
    }

    /// Unpacks the layer into the store, if it is not yet, and gives the folder.
    ///
    /// # Errors
    /// When the bytes cannot be had or are not the layer's; then nothing stays.
    pub fn unpack(&self, store: &Store) -> Result<PathBuf, Error> {
        store.tree(&self.diff_id, |folder| {
            let unpack = |source| Error::Unpack { digest: self.digest, source };
            let read = |source| unpack(archive::Error::Read { at: None, source });
            let stored = self.open(store)?;
            let mut reader = Hashed { inner: crate::compress::decoder(stored).map_err(read)?, hasher: Hasher::new() };
            archive::unpack_layer(&mut reader, folder, archive::Limits::default()).map_err(unpack)?;
            // Up to the end, where the digest is checked.
            io::copy(&mut reader, &mut io::sink()).map_err(read)?;
            // What is unpacked is found by its diff id, by other images too.
            let actual = reader.hasher.finish();
            if actual != self.diff_id {
                let mismatch = Mismatch::Digest { expected: self.diff_id, actual };
                return Err(read(io::Error::new(io::ErrorKind::InvalidData, mismatch)));
            }
            Ok(())
        })
    }
}

/// Passes on what is read, and hashes it.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..taken).unwrap_or_default());
        Ok(taken)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.digest.short())
    }
}

impl Recipe {
    fn load(store: &Store, digest: &Digest) -> Result<Option<Self>, Error> {
        let Some(text) = store.recipe(digest)? else { return Ok(None) };
        if let Ok(Origin { from: origin }) = serde_json::from_slice(&text) {
            return Err(Error::Elsewhere { digest: *digest, origin });
        }
        let damaged = |source| store::Error::Damaged { path: store.recipe_path(digest), source };
        Ok(Some(serde_json::from_slice(&text).map_err(damaged)?))
    }

    /// The layer's bytes, one piece after the other; each file is opened when its turn comes.
    fn open(self) -> impl Read + Send {
        let mut made = BTreeSet::new();
        let epoch = self.epoch;
        let pieces = self.files.into_iter().flat_map(move |File { path, content }| {
            let mut headers = Vec::new();
            for folder in path.ancestors() {
                if made.insert(folder.clone()) {
                    headers.extend(archive::header(&Entry::directory(folder), epoch));
                }
            }
            let size = content.size();
            headers.extend(archive::header(&Entry::file(path, size, false), epoch));
            [Piece::Bytes(headers), Piece::Content(content), Piece::Bytes(padding(size).to_vec())]
        });
        let end = vec![0; 2 * BLOCK as usize];
        Pieces { pieces: pieces.chain([Piece::Bytes(end)]), current: Box::new(io::empty()) }
    }
}

enum Piece {
    Bytes(Vec<u8>),
    Content(Content),
}

/// Reads pieces in turn.
struct Pieces<I> {
    pieces: I,
    current: Box<dyn Read + Send>,
}

impl<I: Iterator<Item = Piece>> Read for Pieces<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let taken = self.current.read(buffer)?;
            if taken > 0 || buffer.is_empty() {
                return Ok(taken);
            }
            self.current = match self.pieces.next() {
                None => return Ok(0),
                Some(Piece::Bytes(bytes)) => Box::new(io::Cursor::new(bytes)),
                Some(Piece::Content(content)) => content.open().map_err(io::Error::other)?,
            };
        }
    }
}
