//! A layer: a descriptor, a diff id, and a way to open its bytes.
//!
//! Invariant: a layer's bytes have the digest that it says, whenever they are read; where they cannot be had any more,
//! opening or reading says so before a wrong byte goes out.
//!
//! The bytes lie in the store as a blob, or they are a [`Recipe`]: tar headers, and ranges of files that lie where
//! the person keeps them. A weight file becomes such a layer without a second copy of it on the disk. A layer may also
//! be in a registry still; then its recipe says where ([`origin`]). One that was made here to be run lies unpacked alone
//! until somebody needs its bytes ([`Layer::finished`]). OCI image specification 1.1, `layer.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::image::session::Making;
pub use crate::image::store::LayerFile;
use crate::image::store::{self, BlobWriter, Members, Recipe, Store, tree_key};
use crate::io::archive::{
    self, ArchivePath, Attributes, BLOCK, Below, Entry, Facts, Kind, Listing, Mode, Stack, padding,
};
use crate::io::compress::{Compression, Encoder, Setting};
use crate::io::content::{self, Content, Opener};
use crate::io::digest::{BesideHasher, Digest, HashingReader, HashingWriter, Mismatch, VerifyingReader};
use crate::io::explain::{ErrorKind, Explain, Explanation, carried, carry};
use crate::io::parallel;
use crate::io::pipe;
use crate::io::progress::{Progress, Task};

/// What can go wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(io::Error),
    /// The layer's archive cannot be unpacked.
    #[error("the layer {layer} cannot be unpacked")]
    Unpack {
        /// Its digest; what is in it, while it is made.
        layer: String,
        /// What its archive holds that is damaged or not allowed.
        source: archive::Error,
    },
    /// A file that the layer is made from cannot be read.
    #[error("`{path}` cannot be read from {}", place.display())]
    Read {
        /// Where it lies in the image.
        path: ArchivePath,
        /// Where its bytes lie: a file or a bundle.
        place: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The files that the layer is made from look unchanged, but hold other bytes.
    #[error("other bytes than those that were hashed: {files}")]
    OtherBytes {
        /// Which, and where they lie.
        files: String,
        /// How it was found.
        source: Mismatch,
    },
    /// The files of a layer that was not compressed yet cannot be read, or are others than were written.
    #[error("the files of the layer `{title}` in {} are not those that were put there", tree.display())]
    Tree {
        /// What is in it.
        title: String,
        /// Where it lies unpacked.
        tree: PathBuf,
        /// How it was found.
        source: io::Error,
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

/// What helps against files that are not what they were.
const AGAIN: &str = "build again with `ekiben build --no-cache`, or fetch or pack the bundle again";

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Store(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Unpack { source, .. } => ErrorKind::Failure.named("layer/unpack").or(source),
            Self::Read { .. } => ErrorKind::Failure.named("layer/read").hint(AGAIN),
            Self::OtherBytes { .. } => ErrorKind::Failure.named("layer/other-bytes").hint(AGAIN),
            Self::Tree { tree, .. } => {
                ErrorKind::Failure.named("layer/tree").hint(format!("remove {}, and build again", tree.display()))
            }
            Self::Elsewhere { .. } => {
                ErrorKind::Failure.named("layer/elsewhere").hint("fetch the image's layers with `ekiben pull`")
            }
            Self::Content(error) => error.explain(),
        }
    }
}

impl From<io::Error> for Error {
    /// What a layer's own reader says is such an error already.
    fn from(error: io::Error) -> Self {
        carried(error).unwrap_or_else(Self::Io)
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
    /// How it is to be stored, where it was made here and is not yet: see [`Layer::finished`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Compression>,
}

/// Notes that the layer with the digest `digest` can be fetched from `repository`, unless its bytes are here or made
/// here.
///
/// # Errors
/// When the store cannot be written.
pub fn keep_origin(store: &Store, digest: &Digest, repository: &str) -> Result<(), Error> {
    if !store.has_content(digest) {
        store.put_recipe(digest, &Recipe::Origin { from: repository.to_owned() })?;
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
    Ok(match store.intact_recipe(digest)? {
        Some(Recipe::Origin { from }) => Some(from),
        _ => None,
    })
}

/// Under what a layer that is made of `inputs` is remembered: all else that its bytes depend on goes into it too.
pub fn key(inputs: &impl Serialize) -> Digest {
    // Numbers, texts and lists always serialise.
    Digest::of(serde_json::to_vec(&(crate::io::compress::RULES, archive::epoch(), inputs)).unwrap_or_default())
}

/// How layers that are made here are stored: every runtime reads it.
const MADE: Compression = Compression::Gzip;

impl Layer {
    /// Makes a layer: `write` puts its entries into an archive. It is called again where a layer that was to be unpacked
    /// alone could not be put together from its files again.
    ///
    /// # Errors
    /// Those of `write`, and those of the store; then nothing is kept.
    pub fn write<E: From<Error>>(
        store: &Store,
        making: Making,
        title: impl Into<String>,
        mut write: impl FnMut(&mut archive::Writer<&mut dyn Write>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let title = title.into();
        if making == Making::Unpacked
            && let Some(layer) = Self::unpacked(store, &title, &mut write)?
        {
            return Ok(layer);
        }
        let scratch = (making == Making::Both).then(|| tree_in_scratch(store)).transpose()?;
        let encoder = MADE.encoder(store.blob_writer().map_err(Error::from)?);
        let folder = scratch.as_ref().map(|(_, folder)| folder.as_path());
        let Archived { encoder, diff_id, facts, entries, told, .. } =
            archived(Some(encoder), folder, &title, &mut write)?;
        keep_told(store, &diff_id, &entries, told)?;
        let Some(encoder) = encoder else { unreachable!("it was given") };
        let (digest, size) = encoder.finish().map_err(Error::from)?.commit().map_err(Error::from)?;
        if let (Some(folder), Some(facts)) = (folder, facts) {
            note(folder, diff_id, facts)?;
            store.keep_snapshot(&tree_key(&diff_id, None), folder).map_err(Error::from)?;
        }
        Ok(Self { compression: MADE, digest, size, diff_id, title, pending: None })
    }

    /// Makes a layer that lies unpacked alone; none where it could not be put together from its files again.
    fn unpacked<E: From<Error>>(
        store: &Store,
        title: &str,
        write: &mut impl FnMut(&mut archive::Writer<&mut dyn Write>) -> Result<(), E>,
    ) -> Result<Option<Self>, E> {
        let (_scratch, folder) = tree_in_scratch(store)?;
        let Archived { diff_id, size, entries, facts, told, .. } = archived(None, Some(&folder), title, write)?;
        keep_told(store, &diff_id, &entries, told)?;
        if !can_be_archived(&entries, &folder.join("root")) {
            return Ok(None);
        }
        let members = Members { epoch: archive::epoch(), entries };
        let keep = || -> Result<(), Error> {
            note(&folder, diff_id, facts.unwrap_or_default())?;
            members.write_into(&folder)?;
            store.keep_snapshot(&tree_key(&diff_id, None), &folder)?;
            if !store.has_members(&diff_id) {
                // It lay there before, unpacked from bytes that may be gone.
                store.keep_members(&diff_id, &members)?;
            }
            Ok(())
        };
        keep()?;
        let (compression, title) = (Compression::None, title.to_owned());
        Ok(Some(Self { compression, digest: diff_id, size, diff_id, title, pending: Some(MADE) }))
    }

    /// Makes a layer of files that stay where they are: each is read once, and hashed once. `task` advances by the
    /// bytes read.
    ///
    /// # Errors
    /// When a file cannot be read, or changes while it is.
    pub fn of_files(
        store: &Store,
        title: impl Into<String>,
        files: Vec<LayerFile>,
        task: &Task,
    ) -> Result<Self, Error> {
        let (digest, size) = task.hash(Pieces::new(archive::epoch(), files.iter().cloned()))?;
        Self::of_hashed(store, title, files, digest, size)
    }

    /// Makes a layer of files that stay where they are, hashed in passing: see [`hash_in_passing`].
    ///
    /// # Errors
    /// Those of `read`, and when a file changes while it is read.
    pub fn of_files_in_passing<E: From<Error>>(
        store: &Store,
        title: impl Into<String>,
        files: Vec<LayerFile>,
        read: impl FnMut(&LayerFile, &mut dyn Write) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (digest, size) = hash_in_passing(archive::epoch(), &files, read)?;
        Ok(Self::of_hashed(store, title, files, digest, size)?)
    }

    fn of_hashed(
        store: &Store,
        title: impl Into<String>,
        files: Vec<LayerFile>,
        digest: Digest,
        size: u64,
    ) -> Result<Self, Error> {
        // What was read is what the recipe says only if no file moved under our hands.
        check(&files)?;
        let (compression, title) = (Compression::None, title.into());
        let layer = Self { compression, digest, size, diff_id: digest, title, pending: None };
        layer.keep_recipe(store, files)?;
        Ok(layer)
    }

    /// The same layer, with its bytes in the store as `setting` has them; made once. `task` advances by the bytes read.
    ///
    /// # Errors
    /// When its bytes cannot be had, or the store cannot be written.
    pub fn compressed(&self, store: &Store, setting: Setting, task: &Task) -> Result<Self, Error> {
        if let Some(layer) = self.compressed_before(store, setting) {
            return Ok(layer);
        }
        let mut encoder = setting.encoder(store.blob_writer()?);
        let mut stored = self.open(store)?;
        task.copy(crate::io::compress::decoder(&mut stored)?, |bytes| encoder.write_all(bytes))?;
        let (digest, size) = encoder.finish()?.commit()?;
        let layer = Self { compression: setting.compression, digest, size, pending: None, ..self.clone() };
        store.cache("compressed", &self.compressed_key(setting), &layer, vec![digest])?;
        Ok(layer)
    }

    /// What [`Layer::compressed`] gave before.
    fn compressed_before(&self, store: &Store, setting: Setting) -> Option<Self> {
        let layer = store.cached("compressed", &self.compressed_key(setting));
        // The same bytes may have been something else to a person.
        layer.map(|layer: Self| Self { title: self.title.clone(), ..layer })
    }

    fn compressed_key(&self, setting: Setting) -> Digest {
        key(&("compressed", self.diff_id, setting))
    }

    /// The same layer as it is handed on: compressed, where that was put off. `task` advances by the bytes read.
    ///
    /// # Errors
    /// [`Error::Tree`] when its files are not what they were; and when the store cannot be written.
    pub fn finished(&self, store: &Store, task: &Task) -> Result<Self, Error> {
        match self.pending {
            Some(compression) => self.compressed(store, compression.into(), task),
            None => Ok(self.clone()),
        }
    }

    /// What [`Layer::finished`] gave before, where it did; else the layer as it is.
    #[must_use]
    pub fn finished_before(&self, store: &Store) -> Self {
        let finished = self.pending.and_then(|compression| self.compressed_before(store, compression.into()));
        finished.unwrap_or_else(|| self.clone())
    }

    /// Sees whether the bytes can still be had: each file that they are made from is the one that was hashed.
    ///
    /// # Errors
    /// When one is not, or the layer is nowhere.
    pub fn check(&self, store: &Store) -> Result<(), Error> {
        match self.files(store)? {
            Some(files) => Ok(check(&files)?),
            None => self.open(store).map(drop),
        }
    }

    /// Keeps the recipe of a layer whose digest is known from elsewhere. Whether it is right is seen when its bytes
    /// are read.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_recipe(&self, store: &Store, files: Vec<LayerFile>) -> Result<(), Error> {
        let epoch = archive::epoch();
        if (self.compression, self.diff_id, self.size) != (Compression::None, self.digest, size(epoch, &files)) {
            let text = format!("`{}` is not a layer of the files that it should be made of", self.title);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        let known = store.intact_recipe(&self.digest)?;
        // Files that were hashed here are believed before a bundle that only claims to hold the same.
        if let Some(Recipe::Files { files: known, .. }) = &known
            && (are_files(known) && !are_files(&files))
            && check(known).is_ok()
        {
            return Ok(());
        }
        let recipe = Recipe::Files { epoch, files };
        if known.as_ref() != Some(&recipe) {
            store.put_recipe(&self.digest, &recipe)?;
        }
        Ok(())
    }

    /// Opens the bytes as they are stored. The reader verifies them: it fails at the end if they are not the layer's.
    ///
    /// # Errors
    /// When they are neither in the store nor to be made.
    pub fn open(&self, store: &Store) -> Result<Box<dyn Read + Send>, Error> {
        if store.has_blob(&self.digest) {
            return Ok(Box::new(store.open_blob(&self.digest)?));
        }
        if let Some((members, root)) = store.members(&self.digest)? {
            let tree = root.parent().unwrap_or(&root).to_owned();
            let inner = VerifyingReader::new(Rewritten::new(members, root), self.digest, self.size);
            return Ok(Box::new(Intact { inner, title: self.title.clone(), tree }));
        }
        if let Some((epoch, files)) = self.recipe(store)? {
            let described = described(&files);
            let inner = VerifyingReader::new(Pieces::new(epoch, files), self.digest, self.size);
            return Ok(Box::new(Named { inner, files: described }));
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
        match store.has_members(&self.digest) {
            // Nobody took note of what the file system says of them.
            true => self.open(store),
            false => match self.recipe(store)? {
                Some((epoch, files)) => Ok(Box::new(Pieces::new(epoch, files))),
                None => self.open(store),
            },
        }
    }

    /// The files that the layer is made of, where it is a recipe.
    ///
    /// # Errors
    /// When the recipe cannot be read.
    pub fn files(&self, store: &Store) -> Result<Option<Vec<LayerFile>>, Error> {
        if store.has_blob(&self.digest) || store.has_members(&self.digest) {
            return Ok(None);
        }
        Ok(self.recipe(store)?.map(|(_, files)| files))
    }

    /// The time in its headers and its files, where it is made of files.
    fn recipe(&self, store: &Store) -> Result<Option<(u64, Vec<LayerFile>)>, Error> {
        match store.recipe(&self.digest)? {
            Some(Recipe::Origin { from: origin }) => Err(Error::Elsewhere { digest: self.digest, origin }),
            Some(Recipe::Files { epoch, files }) => Ok(Some((epoch, files))),
            None => Ok(None),
        }
    }

    /// Whether the layer lies unpacked in the store, as it is over most others.
    pub fn is_unpacked(&self, store: &Store) -> bool {
        store.snapshot_path(&tree_key(&self.diff_id, None)).exists()
    }

    /// Unpacks the layer into the store, if it is not yet.
    fn tree(&self, store: &Store, key: Digest, below: Below<'_>) -> Result<Tree, Error> {
        let home = store.snapshot(&key, |folder| self.unpack(store, folder, below))?;
        Ok(Tree { key, root: home.join("root"), facts: noted_facts(&home)? })
    }

    fn unpack(&self, store: &Store, folder: &Path, below: Below<'_>) -> Result<(), Error> {
        let layer = self.digest.to_string();
        let unpack = |source| Error::Unpack { layer: layer.clone(), source: archive::Error::Read { at: None, source } };
        let stored = self.open(store)?;
        let mut reader = HashingReader::new(crate::io::compress::decoder(stored).map_err(unpack)?);
        let facts = unpack_into(folder, &mut reader, below, &layer)?;
        // Other images find the tree by this name.
        let actual = reader.finish();
        if actual != self.diff_id {
            let mismatch = Mismatch::Digest { expected: self.diff_id, actual };
            return Err(unpack(io::Error::new(io::ErrorKind::InvalidData, mismatch)));
        }
        note(folder, self.diff_id, facts)
    }
}

/// What came of a layer's archive.
struct Archived {
    /// As it was given.
    encoder: Option<Encoder<BlobWriter>>,
    diff_id: Digest,
    /// In bytes, uncompressed.
    size: u64,
    entries: Vec<Entry>,
    /// What tells what is installed, by the numbers of its entries.
    told: BTreeMap<usize, Vec<u8>>,
    /// Where it was unpacked.
    facts: Option<Facts>,
}

/// Has `write` write an archive, which goes into `encoder` and is unpacked in `folder`, an empty one, where they are given.
fn archived<E: From<Error>>(
    encoder: Option<Encoder<BlobWriter>>,
    folder: Option<&Path>,
    title: &str,
    write: &mut impl FnMut(&mut archive::Writer<&mut dyn Write>) -> Result<(), E>,
) -> Result<Archived, E> {
    std::thread::scope(|scope| {
        let (pipe, unpacking) = folder
            .map(|folder| {
                let (pipe, mut archive) = pipe::pipe();
                (pipe, scope.spawn(move || unpack_into(folder, &mut archive, Below::Anything, title)))
            })
            .unzip();
        let mut ways = HashingWriter::new(Ways { encoder, pipe, is_broken: false });
        let mut writer = archive::Writer::new(&mut ways as &mut dyn Write).telling(tells);
        let written = write(&mut writer);
        let told = writer.told();
        let entries = written.and_then(|()| Ok(writer.finish_with_entries().map_err(Error::from)?.1));
        let (Ways { encoder, pipe, mut is_broken }, diff_id, size) = ways.finish();
        if entries.is_ok() {
            is_broken = pipe.is_some_and(|pipe| pipe.finish().is_err());
        } else {
            drop(pipe);
        }
        let facts = unpacking.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let (entries, facts) = match (entries, facts.transpose()) {
            // Then the pipe breaking is all that whoever writes has to say.
            (_, Err(error)) if is_broken => return Err(error.into()),
            (entries, facts) => (entries?, facts?),
        };
        Ok(Archived { encoder, diff_id, size, entries, told, facts })
    })
}

/// Whether the file at `path` of a layer tells what is installed in it: books of package managers, metadata of Python packages,
/// copyright files of Debian ones, and what system it is.
pub fn tells(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match folder {
        "var/lib/dpkg" => name == "status",
        "var/lib/dpkg/status.d" => !name.ends_with(".md5sums"),
        "lib/apk/db" | "usr/lib/apk/db" => name == "installed",
        "etc" | "usr/lib" => name == "os-release",
        _ if folder.ends_with(".dist-info") => name == "METADATA",
        _ if folder.ends_with(".egg-info") => name == "PKG-INFO",
        _ if name == "copyright" => folder.strip_prefix("usr/share/doc/").is_some_and(|rest| !rest.contains('/')),
        _ => name.ends_with(".egg-info"),
    }
}

/// What a layer that was made here lists, and the bytes of what [`tells`] in it, by the numbers of its members.
pub type Told = (Listing, BTreeMap<usize, String>);

fn told_key(diff_id: &Digest) -> Digest {
    /// Raised with each change of [`tells`].
    const RULES: u32 = 1;
    key(&("told", RULES, diff_id))
}

/// Remembers what a layer tells, so that whoever asks later need not read all of it.
fn keep_told(store: &Store, diff_id: &Digest, entries: &[Entry], told: BTreeMap<usize, Vec<u8>>) -> Result<(), Error> {
    let texts = told.into_iter().map(|(number, bytes)| (number, String::from_utf8_lossy(&bytes).into_owned()));
    let told: Told = (Listing::of(entries), texts.collect());
    Ok(store.cache("told", &told_key(diff_id), &told, Vec::new())?)
}

/// What was remembered of a layer when it was made here.
pub fn told(store: &Store, diff_id: &Digest) -> Option<Told> {
    store.cached("told", &told_key(diff_id))
}

/// Where the bytes of an archive go.
struct Ways {
    encoder: Option<Encoder<BlobWriter>>,
    pipe: Option<pipe::Writer>,
    /// Nobody reads from the pipe any more.
    is_broken: bool,
}

impl Write for Ways {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(encoder) = &mut self.encoder {
            encoder.write_all(bytes)?;
        }
        if let Some(pipe) = &mut self.pipe {
            pipe.write_all(bytes).inspect_err(|_| self.is_broken = true)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks an archive into `folder`, which becomes a layer's tree. It is read to its end.
fn unpack_into(folder: &Path, archive: &mut dyn Read, below: Below<'_>, layer: &str) -> Result<Facts, Error> {
    let unpack = |source| Error::Unpack { layer: layer.to_owned(), source };
    // It may hold programs that anybody who starts them would run as root.
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    let root = folder.join("root");
    fs_err::create_dir(&root)?;
    let facts = archive::unpack_layer(&mut *archive, &root, below, archive::Limits::default()).map_err(unpack)?;
    // There the digest is checked.
    io::copy(archive, &mut io::sink()).map_err(|source| unpack(archive::Error::Read { at: None, source }))?;
    Ok(facts)
}

/// Notes of which layer the tree in `folder` is, and what was found while it was unpacked.
///
/// # Errors
/// When writing fails.
pub fn note(folder: &Path, layer: Digest, facts: Facts) -> Result<(), Error> {
    let noted = serde_json::to_vec(&Noted { layer, facts }).map_err(io::Error::from)?;
    Ok(fs_err::write(folder.join(FACTS), noted)?)
}

/// What was found while the tree in `folder` was unpacked.
///
/// # Errors
/// [`store::Error::Damaged`] when that is not noted there.
pub fn noted_facts(folder: &Path) -> Result<Facts, Error> {
    let noted: Noted = serde_json::from_slice(&fs_err::read(folder.join(FACTS))?)
        .map_err(|error| store::Error::Damaged { path: folder.to_owned(), source: error.into() })?;
    Ok(noted.facts)
}

/// An empty folder for a tree, in a scratch folder.
fn tree_in_scratch(store: &Store) -> Result<(TempDir, PathBuf), Error> {
    let scratch = store.scratch()?;
    let folder = scratch.path().join("tree");
    fs_err::create_dir(&folder)?;
    Ok((scratch, folder))
}

/// Whether an archive of `entries`, which were unpacked in `root`, can be put together from there: each file lies where
/// its entry says, and can be read. It does not where two entries have one path, where a way leads through a link, or
/// where a name means that something is deleted.
fn can_be_archived(entries: &[Entry], root: &Path) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    let (mut paths, mut ends) = (HashSet::new(), HashSet::new());
    for entry in entries {
        if entry.kind != Kind::Directory {
            ends.insert(&entry.path);
        }
        if !paths.insert(&entry.path) {
            return false;
        }
    }
    let lies_there = |entry: &Entry| match entry.kind {
        Kind::File { size } => {
            let there = entry.path.under(root).symlink_metadata();
            (is_root || entry.mode & 0o400 != 0) && there.is_ok_and(|file| file.is_file() && file.len() == size)
        }
        _ => true,
    };
    entries.iter().all(|entry| lies_there(entry) && !entry.path.ancestors().any(|above| ends.contains(&above)))
}

/// What was found while a layer was unpacked, beside its files. What it is of, [`Store::prune`] reads as well.
const FACTS: &str = "facts.json";

#[derive(Serialize, Deserialize)]
struct Noted {
    /// Its diff id.
    layer: Digest,
    facts: Facts,
}

/// A layer that lies unpacked.
struct Tree {
    key: Digest,
    root: PathBuf,
    facts: Facts,
}

/// Layers that lie unpacked.
#[derive(Clone, Debug, Default)]
pub struct Trees {
    /// The folder of each, in their order.
    pub each: Vec<PathBuf>,
    /// Those that are laid over each other, the lowest first: without what an upper one hides as a whole.
    pub lower: Vec<PathBuf>,
    /// Of the root, where a layer says.
    pub root: Option<Attributes>,
}

/// Unpacks `layers`, the lowest first, into the store, where they are not yet: side by side, and those that come out
/// another way over the layers below once more. `done` is called for each that was not there yet. What is left out is
/// a detail of `progress`.
///
/// # Errors
/// When the bytes of a layer cannot be had or are not the layer's; then nothing of it stays.
pub fn unpack_all(
    store: &Store,
    progress: &Progress,
    layers: &[&Layer],
    done: impl Fn(&Layer) + Sync,
) -> Result<Trees, Error> {
    let anywhere = |layer: &Layer| layer.tree(store, tree_key(&layer.diff_id, None), Below::Anything);
    let missing: BTreeMap<_, _> = layers.iter().map(|layer| (layer.diff_id, *layer)).collect();
    let missing = missing.into_values().filter(|layer| !layer.is_unpacked(store)).collect();
    parallel::side_by_side(missing, |layer| anywhere(layer).map(|_| done(layer)))?;
    let mut trees = Trees::default();
    let mut keys = Vec::new();
    for layer in layers {
        let mut tree = anywhere(layer)?;
        let below = Stack::new(&trees.lower);
        if !tree.facts.hold(&below) {
            tree = layer.tree(store, tree_key(&layer.diff_id, Some(&keys)), Below::Layers(&below))?;
        }
        let (devices, some) = &tree.facts.devices;
        if *devices > 0 {
            progress.detail(format!("{layer}: {devices} device nodes are left out: {}", some.join(", ")));
        }
        if tree.facts.hides_all {
            trees.lower.clear();
            keys.clear();
        }
        trees.root = tree.facts.root.or(trees.root);
        trees.each.push(tree.root.clone());
        trees.lower.push(tree.root);
        keys.push(tree.key);
    }
    Ok(trees)
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.digest.short())
    }
}

/// Whether all lies in files of its own.
fn are_files(files: &[LayerFile]) -> bool {
    files.iter().all(|file| matches!(file.content, Content::File(_)))
}

/// Sees whether the files are still those that were looked at.
fn check(files: &[LayerFile]) -> Result<(), content::Error> {
    files.iter().try_for_each(|file| file.content.check())
}

/// How many bytes a layer of `files` has; as many as there can be, where its files are said to have more.
pub fn size(epoch: u64, files: &[LayerFile]) -> u64 {
    let size = |piece| match piece {
        Piece::Bytes(bytes) => bytes.len() as u64,
        Piece::File(file) => file.content.size(),
    };
    pieces(epoch, files.iter().cloned()).fold(0, |sum, piece| sum.saturating_add(size(piece)))
}

/// The digest and size of a layer of `files`, with `epoch` in its headers. `read` is called for each file in turn, and
/// writes its bytes to what it is given, which hashes them on a thread of its own.
///
/// # Errors
/// Those of `read`.
pub fn hash_in_passing<E: From<Error>>(
    epoch: u64,
    files: &[LayerFile],
    mut read: impl FnMut(&LayerFile, &mut dyn Write) -> Result<(), E>,
) -> Result<(Digest, u64), E> {
    let mut hasher = BesideHasher::new();
    for piece in pieces(epoch, files.iter().cloned()) {
        match piece {
            Piece::Bytes(bytes) => hasher.write_all(&bytes).map_err(Error::from)?,
            Piece::File(file) => read(&file, &mut hasher)?,
        }
    }
    Ok(hasher.finish().map_err(Error::from)?)
}

/// What a layer's bytes are put together from.
enum Piece {
    Bytes(Vec<u8>),
    File(LayerFile),
}

/// The pieces of a layer of `files`, with the folders above them.
fn pieces(epoch: u64, files: impl IntoIterator<Item = LayerFile>) -> impl Iterator<Item = Piece> {
    let mut made = BTreeSet::new();
    let pieces = files.into_iter().flat_map(move |file| {
        let mut headers = Vec::new();
        for folder in file.path.ancestors() {
            if made.insert(folder.clone()) {
                headers.extend(archive::header(&Entry::directory(folder), epoch));
            }
        }
        let size = file.content.size();
        headers.extend(archive::header(&Entry::file(file.path.clone(), size, Mode::Plain), epoch));
        [Piece::Bytes(headers), Piece::File(file), Piece::Bytes(padding(size).to_vec())]
    });
    pieces.chain([Piece::Bytes(vec![0; 2 * BLOCK as usize])])
}

/// Reads pieces in turn; each file is opened when its turn comes. Errors name the file.
struct Pieces<I> {
    pieces: I,
    opener: Opener,
    /// The file that is read.
    file: Option<LayerFile>,
}

impl Pieces<()> {
    fn new(
        epoch: u64,
        files: impl IntoIterator<Item = LayerFile, IntoIter: Send>,
    ) -> Pieces<impl Iterator<Item = Piece> + Send> {
        Pieces { pieces: pieces(epoch, files), opener: Opener::default(), file: None }
    }
}

impl<I: Iterator<Item = Piece>> Pieces<I> {
    /// An error with the name of the file that was read.
    fn named(&self, error: impl Into<content::Error>) -> io::Error {
        match (&self.file, error.into()) {
            (Some(file), content::Error::Io(source)) => {
                let (path, place) = (file.path.clone(), file.content.place().map(PathBuf::from).unwrap_or_default());
                carry(Error::Read { path, place, source })
            }
            (_, error) => carry(Error::Content(error)),
        }
    }
}

impl<I: Iterator<Item = Piece>> Read for Pieces<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let taken = self.opener.read(buffer).map_err(|error| self.named(error))?;
            if taken > 0 || buffer.is_empty() {
                return Ok(taken);
            }
            let content = match self.pieces.next() {
                None => return Ok(0),
                Some(Piece::Bytes(bytes)) => Content::Bytes(bytes),
                Some(Piece::File(file)) => self.file.insert(file).content.clone(),
            };
            self.opener.open(&content).map_err(|error| self.named(error))?;
        }
    }
}

/// The archive of a layer, put together from its tree.
struct Rewritten<I> {
    parts: I,
    current: Part,
}

enum Part {
    Bytes(io::Cursor<Vec<u8>>),
    /// Not opened yet; with its size in bytes.
    File(PathBuf, u64),
    Open(io::Take<fs_err::File>),
}

impl Rewritten<()> {
    fn new(members: Members, root: PathBuf) -> Rewritten<impl Iterator<Item = Part> + Send> {
        let Members { epoch, entries } = members;
        let bytes = |bytes: Vec<u8>| Part::Bytes(io::Cursor::new(bytes));
        let parts = entries.into_iter().flat_map(move |entry| {
            let file = match entry.kind {
                Kind::File { size } => vec![Part::File(entry.path.under(&root), size), bytes(padding(size).to_vec())],
                _ => Vec::new(),
            };
            std::iter::once(bytes(archive::header(&entry, epoch))).chain(file)
        });
        let end = std::iter::once(bytes(vec![0; 2 * BLOCK as usize]));
        Rewritten { parts: parts.chain(end), current: bytes(Vec::new()) }
    }
}

impl<I: Iterator<Item = Part>> Read for Rewritten<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let taken = match &mut self.current {
                Part::Bytes(bytes) => bytes.read(buffer)?,
                Part::Open(file) => file.read(buffer)?,
                Part::File(path, size) => {
                    let file = fs_err::File::open(&*path)?;
                    let (expected, actual) = (*size, file.metadata()?.len());
                    if actual != expected {
                        // What was put behind its end would not show in the digest.
                        let mismatch = Mismatch::Size { expected, actual, more: false };
                        return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
                    }
                    self.current = Part::Open(file.take(expected));
                    continue;
                }
            };
            if taken > 0 || buffer.is_empty() {
                return Ok(taken);
            }
            let Some(next) = self.parts.next() else { return Ok(0) };
            self.current = next;
        }
    }
}

/// Says of which tree it is that the bytes turn out to be others, or cannot be read.
struct Intact<R> {
    inner: R,
    title: String,
    tree: PathBuf,
}

impl<R: Read> Read for Intact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { inner, title, tree } = self;
        let other = |source| Error::Tree { title: title.clone(), tree: tree.clone(), source };
        inner.read(buffer).map_err(|error| carry(other(error)))
    }
}

/// Says whose bytes they are that turn out to be others.
struct Named<R> {
    inner: R,
    files: String,
}

/// `models/w/a.bin` and 2 more in /home/me/w.ekiben.
fn described(files: &[LayerFile]) -> String {
    let Some(first) = files.first() else { return "none".to_owned() };
    let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
    let place = first.content.place().filter(|place| files.iter().all(|file| file.content.place() == Some(place)));
    let place = place.map(|place| format!(" in {}", place.display())).unwrap_or_default();
    format!("`{}`{more}{place}", first.path)
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.downcast::<Mismatch>() {
            Ok(source) => carry(Error::OtherBytes { files: self.files.clone(), source }),
            Err(error) => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::progress::Unit;

    fn file(path: &str, mode: u32, size: u64) -> Entry {
        Entry { mode, ..Entry::file(ArchivePath::new(path).unwrap(), size, Mode::Plain) }
    }

    fn store() -> (TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    /// A layer of files with four bytes each, but for what is no file.
    fn layer(store: &Store, making: Making, entries: &[Entry]) -> Layer {
        let write = |writer: &mut archive::Writer<&mut dyn Write>| {
            for entry in entries {
                match entry.kind {
                    Kind::File { .. } => writer.file(entry, &b"four"[..])?,
                    _ => writer.entry(entry)?,
                }
            }
            Ok::<_, Error>(())
        };
        Layer::write(store, making, "a layer", write).unwrap()
    }

    fn path(text: &str) -> ArchivePath {
        ArchivePath::new(text).unwrap()
    }

    #[test]
    fn a_layer_is_the_same_whatever_was_made_of_it_first() {
        let mut link = file("a/hard", 0o644, 0);
        link.kind = Kind::Hardlink(path("a/plain"));
        let entries = [
            Entry { mode: 0o1777, ..Entry::directory(path("a")) },
            file("a/plain", 0o644, 4),
            file("a/root", 0o4755, 4),
            link,
            Entry::symlink(path("b"), "/a"),
            file(&format!("{}/c", "d".repeat(150)), 0o444, 4).owned_by(1034, 1034),
        ];
        let noted = |store: &Store, layer: &Layer| {
            let tree = store.snapshot_path(&tree_key(&layer.diff_id, None));
            fs_err::read_to_string(tree.join(FACTS)).unwrap()
        };
        let (_home, store) = store();
        let compressed = layer(&store, Making::Compressed, &entries);
        unpack_all(&store, &Progress::silent(), &[&compressed], |_| ()).unwrap();
        let facts = noted(&store, &compressed);
        for making in [Making::Both, Making::Unpacked] {
            let (_home, store) = self::store();
            let made = layer(&store, making, &entries);
            assert!(made.is_unpacked(&store));
            assert_eq!(noted(&store, &made), facts);
            assert_eq!(made.pending.is_some(), making == Making::Unpacked);
            let task = Progress::silent().task("Compressing", "", Unit::Bytes, None);
            assert_eq!(made.finished_before(&store), made);
            let finished = made.finished(&store, &task).unwrap();
            assert_eq!(finished, compressed);
            assert_eq!(made.finished_before(&store), finished);
        }
        // Where its tree was unpacked before, it says how it is put together from then on.
        fs_err::remove_file(store.blob_path(&compressed.digest)).unwrap();
        let made = layer(&store, Making::Unpacked, &entries);
        let task = Progress::silent().task("Compressing", "", Unit::Bytes, None);
        assert_eq!(made.finished(&store, &task).unwrap(), compressed);
    }

    #[test]
    fn what_its_files_do_not_give_back_is_compressed_at_once() {
        for odd in [
            vec![file("a/.wh.b", 0o644, 4)],
            vec![file("a", 0o644, 4), file("a", 0o644, 4)],
            vec![Entry::symlink(path("a"), "/etc"), file("a/passwd", 0o644, 4)],
        ] {
            let (_home, store) = store();
            let made = layer(&store, Making::Unpacked, &odd);
            assert_eq!((made.pending, made.compression), (None, MADE), "{odd:?}");
            assert_eq!(made, layer(&store, Making::Compressed, &odd));
        }
        let root = tempfile::tempdir().unwrap();
        let hidden = [file("a", 0o044, 4)];
        fs_err::write(root.path().join("a"), "four").unwrap();
        assert_eq!(can_be_archived(&hidden, root.path()), nix::unistd::geteuid().is_root());
    }

    #[test]
    fn of_a_layer_that_fails_nothing_stays() {
        let (_home, store) = store();
        let trees = || fs_err::read_dir(store.root().join("trees")).unwrap().count();
        for making in [Making::Compressed, Making::Both, Making::Unpacked] {
            let failed = Layer::write::<Error>(&store, making, "a layer", |writer| {
                writer.file(&file("a", 0o644, 9), &[0; 9][..])?;
                Err(Error::Io(io::Error::other("no more")))
            });
            assert_eq!(failed.unwrap_err().to_string(), "no more", "{making:?}");
            assert_eq!(trees(), 0);
        }
        // What cannot be unpacked says so, whoever notices first.
        for making in [Making::Both, Making::Unpacked] {
            let failed = Layer::write::<Error>(&store, making, "a layer", |writer| {
                let target = path("folder");
                writer.entry(&Entry::directory(target.clone()))?;
                writer.entry(&Entry { kind: Kind::Hardlink(target), ..file("a", 0o644, 0) })?;
                Ok((0..100).try_for_each(|i| {
                    let large = file(&format!("{i}"), 0o644, 1 << 20);
                    writer.file(&large, &vec![0; 1 << 20][..])
                })?)
            });
            assert_eq!(failed.unwrap_err().to_string(), "the layer a layer cannot be unpacked");
            assert_eq!(trees(), 0);
        }
    }
}
