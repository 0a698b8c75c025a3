//! What layers and archives hold, without unpacking them: listed once, and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::image::layer::{self, Layer};
use crate::image::registry;
use crate::image::session::Session;
use crate::image::store;
use crate::io::archive::{self, Limits, Listing, Node, View};
use crate::io::compress::decoder;
use crate::io::digest::{Digest, HashingReader};
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Version of the listings that are kept. Raised with each change of what they say.
const RULES: u32 = 1;

/// As many members as make it worth while to keep what layers show together.
const MANY: usize = 1000;

/// Most bytes of a file that is read into memory.
const MOST: u64 = 16 << 20;

/// Why it is not known what a layer holds.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be had.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// It is in a registry, and cannot be fetched.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It is no archive of files.
    #[error("{what} cannot be read")]
    Malformed {
        /// The layer or the file.
        what: String,
        /// Why.
        source: archive::Error,
    },
    /// A file cannot be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Layer(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Malformed { .. } => ErrorKind::Failure.named("dockerfile/unreadable-layer"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// Something that holds files.
#[derive(Clone, Debug)]
pub enum Archive {
    /// A layer of an image.
    Layer(Layer),
    /// A file, compressed or not.
    File {
        /// Where it lies.
        path: PathBuf,
        /// Of its bytes.
        digest: Digest,
    },
}

impl Archive {
    /// What it is known by.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Layer(layer) => layer.diff_id,
            Self::File { digest, .. } => *digest,
        }
    }

    /// Its bytes, uncompressed.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn open(&self, session: &Session) -> Result<Box<dyn Read + Send>, Error> {
        let stored: Box<dyn Read + Send> = match self {
            Self::Layer(layer) => layer.open(&session.store)?,
            Self::File { path, .. } => Box::new(fs::File::open(path)?),
        };
        Ok(decoder(stored)?)
    }

    /// Whether it is an archive at all, and not just a compressed file, or any.
    pub fn is_one(&self, session: &Session) -> bool {
        let mut block = [0; archive::BLOCK as usize];
        let read = self.open(session).and_then(|mut bytes| Ok(bytes.read_exact(&mut block)?));
        read.is_ok()
            && tar::Header::from_byte_slice(&block).cksum().is_ok_and(|sum| {
                // As if its own field held spaces (POSIX.1-2017, `pax`).
                let own: u32 = block
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| match at {
                        148..156 => 32,
                        _ => u32::from(*byte),
                    })
                    .sum();
                sum == own
            })
    }

    fn malformed(&self, source: archive::Error) -> Error {
        let what = match self {
            Self::Layer(layer) => format!("the layer {layer}"),
            Self::File { path, .. } => path.display().to_string(),
        };
        Error::Malformed { what, source }
    }

    fn listing(&self, session: &Session) -> Result<Listing, Error> {
        if let Some(known) = session.store.cached("listing", &self.listing_key()) {
            return Ok(known);
        }
        let listing = Listing::read(self.open(session)?, Limits::default()).map_err(|source| self.malformed(source))?;
        session.store.cache("listing", &self.listing_key(), &listing, Vec::new())?;
        Ok(listing)
    }

    fn listing_key(&self) -> Digest {
        layer::key(&("listing", RULES, self.digest()))
    }

    /// What `note` says of the files whose paths are `wanted`, by their numbers. It is read once, and remembered as notes of
    /// the kind `kind` by their version `rules`; what the archive lists is remembered on the way.
    ///
    /// # Errors
    /// When its bytes cannot be had, and those of `note`.
    pub fn notes<T: Serialize + DeserializeOwned>(
        &self,
        session: &Session,
        (kind, rules): (&str, u32),
        wanted: impl Fn(&Path) -> bool,
        note: impl Fn(&Path, &mut dyn Read) -> io::Result<T>,
    ) -> Result<BTreeMap<usize, T>, Error> {
        let key = layer::key(&(kind, rules, self.digest()));
        if let Some(known) = session.store.cached(kind, &key) {
            return Ok(known);
        }
        let mut notes = BTreeMap::new();
        if let Self::Layer(layer) = self
            && let Some((listing, told)) = layer::told(&session.store, &layer.diff_id)
            && listing.files().all(|(number, path)| told.contains_key(&number) || !wanted(path))
        {
            for (number, path) in listing.files() {
                if let Some(text) = told.get(&number).filter(|_| wanted(path)) {
                    notes.insert(number, note(path, &mut text.as_bytes())?);
                }
            }
            session.store.cache("listing", &self.listing_key(), &listing, Vec::new())?;
            session.store.cache(kind, &key, &notes, Vec::new())?;
            return Ok(notes);
        }
        let take = |number, path: &Path, content: &mut dyn Read| {
            notes.insert(number, note(path, content)?);
            Ok(())
        };
        let listing = Listing::read_with(self.open(session)?, Limits::default(), wanted, take);
        let listing = listing.map_err(|source| self.malformed(source))?;
        session.store.cache("listing", &self.listing_key(), &listing, Vec::new())?;
        session.store.cache(kind, &key, &notes, Vec::new())?;
        Ok(notes)
    }
}

/// What `layers` show together, the lowest first; `known` is what the first of them do, and how many these are. Those that are
/// in a registry are fetched.
///
/// # Errors
/// When one cannot be had.
pub fn view(session: &Session, layers: &[Layer], known: Option<(View, usize)>) -> Result<View, Error> {
    registry::fetch(session, layers)?;
    let keys: Vec<_> = (1..=layers.len()).map(|count| view_key(&layers[..count])).collect();
    let kept = || {
        let kept =
            |count: usize| Some((View::from_bytes(&session.store.cached_bytes("view", keys.get(count - 1)?)?)?, count));
        (1..=layers.len()).rev().find_map(kept)
    };
    let (mut view, count) = known.or_else(kept).unwrap_or_default();
    let mut members = 0;
    for layer in layers.iter().skip(count) {
        members += lay(session, &mut view, &Archive::Layer(layer.clone()))?;
    }
    if let Some(key) = keys.last().filter(|_| members > MANY) {
        session.store.cache_bytes("view", key, &view.to_bytes())?;
    }
    Ok(view)
}

fn view_key(layers: &[Layer]) -> Digest {
    layer::key(&("view", RULES, layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>()))
}

/// Lays what one more archive holds over what `view` shows. Says how many members that has.
///
/// # Errors
/// When it cannot be had.
pub fn lay(session: &Session, view: &mut View, archive: &Archive) -> Result<usize, Error> {
    let listing = archive.listing(session)?;
    view.lay(&listing).map_err(|source| archive.malformed(archive::Error::Read { at: None, source }))?;
    Ok(listing.members())
}

/// The bytes of the file that `path` leads to in what `layers` show; none where there is no file. Of a long one, none.
///
/// # Errors
/// When a layer cannot be had.
pub fn read(session: &Session, layers: &[Layer], view: &View, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(place) = view.entry(&view.resolve(Path::new(path))?) else { return Ok(None) };
    let (Node::File(size), (number, member)) = (&place.node, place.content) else { return Ok(None) };
    let Some(layer) = layers.get(number).filter(|_| *size <= MOST) else { return Ok(None) };
    let key = layer::key(&("member", RULES, layer.diff_id, member));
    if let Some(known) = session.store.cached("member", &key) {
        return Ok(known);
    }
    let archive = Archive::Layer(layer.clone());
    let mut bytes = None;
    let take = |_, content: &mut dyn Read| content.read_to_end(bytes.insert(Vec::new())).map(drop);
    archive::files(archive.open(session)?, Limits::default(), |number| number == member, take)
        .map_err(|source| archive.malformed(source))?;
    session.store.cache("member", &key, &bytes, Vec::new())?;
    Ok(bytes)
}

/// The digest of `bytes`.
///
/// # Errors
/// When they cannot be read.
pub fn digest(bytes: impl Read) -> io::Result<Digest> {
    let mut reader = HashingReader::new(bytes);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish())
}

/// What is said of the members of a layer, by their paths.
pub type Members = BTreeMap<PathBuf, Member>;

/// What is said of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    header: Vec<u8>,
    bytes: Digest,
}

/// The members of a layer that was made here; none where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn members(session: &Session, layer: Option<&Layer>) -> Result<Members, Error> {
    let Some(layer) = layer else { return Ok(Members::new()) };
    let mut archive = tar::Archive::new(Archive::Layer(layer.clone()).open(session)?);
    let mut members = Members::new();
    for entry in archive.entries()? {
        let entry = entry?;
        let (path, header) = (entry.path()?.into_owned(), entry.header().as_bytes().to_vec());
        members.insert(path, Member { header, bytes: digest(entry)? });
    }
    Ok(members)
}

/// In which paths two layers differ, and how; of many, the first.
pub fn differences(first: &Members, second: &Members) -> Vec<String> {
    const MOST: usize = 20;
    let paths: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let differ = |path: &&PathBuf| first.get(*path) != second.get(*path);
    let told = |path: &PathBuf| {
        let what = match (first.get(path), second.get(path)) {
            (Some(_), None) => "only the first time",
            (None, _) => "only the second time",
            (Some(one), Some(other)) if one.bytes != other.bytes => "other bytes",
            _ => "another mode, owner, time or link",
        };
        format!("{}: {what}", path.display())
    };
    let differing: Vec<_> = paths.into_iter().filter(differ).collect();
    let mut lines: Vec<_> = differing.iter().take(MOST).map(|path| told(path)).collect();
    if differing.len() > MOST {
        lines.push(format!("and {} more", differing.len() - MOST));
    }
    lines
}
