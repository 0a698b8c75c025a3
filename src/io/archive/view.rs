//! What layers show together, from their archives alone: nothing is unpacked.
//!
//! Rules as in [`super::unpack_layer`]: parents are followed through links inside the root, an entry replaces what is
//! there but for a folder over a folder, a whiteout deletes what is below and nothing of its own layer, device nodes are
//! left out. Owners, modes and names are those of the archives, whoever looks.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layer::{self, Entry, Pieces, WHITEOUT, for_each};
use super::read::{Error, Limits};
use super::stack::Walk;

/// In a folder of which a layer deletes all that lower ones have.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The members of a layer, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing(Vec<Listed>);

/// A member of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    #[serde(with = "name")]
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    kind: Node,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, Vec<u8>)>,
}

/// What lies at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A folder.
    Folder,
    /// A file of so many bytes.
    File(u64),
    /// A symbolic link with its target.
    Link(#[serde(with = "name")] PathBuf),
    /// Another name of what is at this path of the archive: never at a [`Place`].
    Same(#[serde(with = "name")] PathBuf),
    /// A pipe.
    Pipe,
    /// A device node: never at a [`Place`].
    Device,
}

/// Paths of any bytes in JSON: each byte is the character of that number.
mod name {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&path.as_os_str().as_bytes().iter().map(|&byte| char::from(byte)).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(from)?;
        Ok(OsString::from_vec(text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect()).into())
    }
}

impl Listing {
    /// Reads the members of the layer `archive`, uncompressed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(archive: impl Read, limits: Limits) -> Result<Self, Error> {
        Self::read_with(archive, limits, |_| false, |_, _, _| Ok(()))
    }

    /// The same, and calls `visit` on the way for each file whose path `wanted` says so of, with its number and its bytes.
    ///
    /// # Errors
    /// Those of `visit`, and see [`Error`].
    pub fn read_with(
        archive: impl Read,
        limits: Limits,
        wanted: impl Fn(&Path) -> bool,
        mut visit: impl FnMut(usize, &Path, &mut dyn Read) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let mut members = Vec::new();
        for_each(archive, limits, |Entry { path, mode, owner, kind, attributes, .. }, content| {
            if let layer::Kind::File(pieces) = &kind
                && wanted(&path)
            {
                let read = |source| Error::Read { at: Some(layer::shown(&path)), source };
                visit(members.len(), &path, &mut Filled { pieces, content, at: 0, next: 0 }).map_err(read)?;
            }
            let kind = match kind {
                layer::Kind::Directory => Node::Folder,
                layer::Kind::File(pieces) => Node::File(pieces.size),
                layer::Kind::Symlink(target) => Node::Link(target),
                layer::Kind::Hardlink(target) => Node::Same(target),
                layer::Kind::Pipe => Node::Pipe,
                layer::Kind::Device => Node::Device,
            };
            // Names of others than UTF-8 mean nothing to the kernel.
            let attributes =
                attributes.into_iter().filter_map(|(name, value)| Some((String::from_utf8(name).ok()?, value)));
            members.push(Listed { path, mode, owner, kind, attributes: attributes.collect() });
            Ok(())
        })?;
        Ok(Self(members))
    }

    /// Of what was written.
    pub fn of(entries: &[super::Entry]) -> Self {
        let listed = |entry: &super::Entry| Listed {
            path: entry.path.as_str().into(),
            mode: entry.mode,
            owner: entry.owner,
            kind: match &entry.kind {
                super::Kind::Directory => Node::Folder,
                super::Kind::File { size } => Node::File(*size),
                super::Kind::Symlink(target) => Node::Link(target.into()),
                super::Kind::Hardlink(target) => Node::Same(target.as_str().into()),
            },
            attributes: entry.attributes.clone(),
        };
        Self(entries.iter().map(listed).collect())
    }

    /// The files, with their numbers.
    pub fn files(&self) -> impl Iterator<Item = (usize, &Path)> {
        let files = self.0.iter().enumerate().filter(|(_, listed)| matches!(listed.kind, Node::File(_)));
        files.map(|(number, listed)| (number, listed.path.as_path()))
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.0.len()
    }
}

/// Calls `visit` for each file of the layer `archive` whose member has a number for which `wanted` says so, with its bytes:
/// holes are zeros.
///
/// # Errors
/// Those of `visit`, and what is wrong with the archive.
pub fn files(
    archive: impl Read,
    limits: Limits,
    wanted: impl Fn(usize) -> bool,
    mut visit: impl FnMut(usize, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Error> {
    let mut number = 0;
    for_each(archive, limits, |entry, content| {
        let this = number;
        number += 1;
        if let layer::Kind::File(pieces) = &entry.kind
            && wanted(this)
        {
            let read = |source| Error::Read { at: Some(layer::shown(&entry.path)), source };
            visit(this, &mut Filled { pieces, content, at: 0, next: 0 }).map_err(read)?;
        }
        Ok(())
    })
}

/// A file with its holes.
struct Filled<'a> {
    pieces: &'a Pieces,
    content: &'a mut dyn Read,
    at: u64,
    next: usize,
}

impl Read for Filled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (start, length) = self.pieces.list.get(self.next).copied().unwrap_or((self.pieces.size, 0));
            let end = start.saturating_add(length);
            if self.at >= end && self.next < self.pieces.list.len() {
                self.next += 1;
                continue;
            }
            if self.at < start {
                let most = usize::try_from(start - self.at).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..most].fill(0);
                self.at += most as u64;
                return Ok(most);
            }
            let most = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
            let taken = self.content.read(&mut buffer[..most])?;
            if taken == 0 && most > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += taken as u64;
            return Ok(taken);
        }
    }
}

/// What lies at a place of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What it is.
    pub node: Node,
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// Owner and group by number.
    pub owner: (u32, u32),
    /// Extended attributes, by name.
    pub attributes: Vec<(String, Vec<u8>)>,
    /// The layer that has its bytes, from 0, and the number of the member in it: the same for all names of one file.
    pub content: (usize, usize),
}

/// A path as its names with a zero between them, so that what lies in a folder follows it, and is compared as bytes alone:
/// as paths, which are split into names for that, 20,000 take eight times as long.
type Key = Box<[u8]>;

fn key(path: &Path) -> Key {
    let mut key = Vec::with_capacity(path.as_os_str().len());
    for name in path.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        if matches!(name, b"" | b".") {
            continue;
        }
        if !key.is_empty() {
            key.push(0);
        }
        key.extend_from_slice(name);
    }
    key.into()
}

/// What layers show together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    places: BTreeMap<Key, Place>,
    root: Option<(u32, (u32, u32))>,
    layers: usize,
}

impl View {
    /// Of layers that are counted from `first` on.
    pub fn beginning_at(first: usize) -> Self {
        Self { layers: first, ..Self::default() }
    }

    /// Lays one more layer over them.
    ///
    /// # Errors
    /// When a path leads through more links than the kernel follows, or a hard link to what is no file.
    pub fn lay(&mut self, listing: &Listing) -> io::Result<()> {
        let layer = self.layers;
        self.layers += 1;
        let mut last = None;
        for (number, member) in listing.0.iter().enumerate() {
            self.put(layer, number, member, &mut last)?;
        }
        Ok(())
    }

    /// All of it as bytes, which take a tenth of the time to read that the listings of the layers do.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&(FORMAT, self)).unwrap_or_default()
    }

    /// What [`View::to_bytes`] made `bytes` of; none where it did not, or they are not all.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ((format, view), rest) = postcard::take_from_bytes::<(u32, Self)>(bytes).ok()?;
        (format == FORMAT && rest.is_empty()).then_some(view)
    }

    /// What lies at `path`, from the root, without following a link. None for the root, where no layer says anything of it.
    pub fn entry(&self, path: &Path) -> Option<&Place> {
        self.places.get(&key(path))
    }

    /// Mode and owner of the root.
    pub fn root(&self) -> (u32, (u32, u32)) {
        self.root.unwrap_or((0o755, (0, 0)))
    }

    /// What lies in the folder `path`, by name, in order.
    pub fn names(&self, path: &Path) -> impl Iterator<Item = (&OsStr, &Place)> {
        let folder = key(path);
        let start = folder.len() + usize::from(!folder.is_empty());
        let within = self.within(folder).filter_map(move |(key, place)| Some((key.get(start..)?, place)));
        within.filter(|(name, _)| !name.contains(&0)).map(|(name, place)| (OsStr::from_bytes(name), place))
    }

    /// All paths, in order: what lies in a folder follows it.
    pub fn paths(&self) -> impl Iterator<Item = (PathBuf, &Place)> {
        let path = |key: &Key| {
            let bytes = key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect();
            PathBuf::from(OsString::from_vec(bytes))
        };
        self.places.iter().map(move |(key, place)| (path(key), place))
    }

    /// All that lies below a folder.
    fn within(&self, folder: Key) -> impl Iterator<Item = (&Key, &Place)> {
        let is_within = {
            let folder = folder.clone();
            move |key: &Key| {
                let rest = key.strip_prefix(&*folder);
                folder.is_empty() || rest.is_some_and(|rest| rest.first() == Some(&0))
            }
        };
        let from = (Bound::Excluded(folder), Bound::Unbounded);
        self.places.range::<Key, _>(from).take_while(move |(key, _)| is_within(key))
    }

    /// Where `path`, from the root, leads through links and as within the image. What is not there is where it would be.
    ///
    /// # Errors
    /// When it leads through more links than the kernel follows.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut walk = Walk::new(path);
        while let Some(at) = walk.step() {
            if let Some(Place { node: Node::Link(target), .. }) = self.entry(at) {
                walk.follow(target)?;
            }
        }
        Ok(walk.into_place())
    }

    /// Puts a member of a layer. `last` is the folder of the one before, and where that lies.
    fn put<'a>(
        &mut self,
        layer: usize,
        number: usize,
        member: &'a Listed,
        last: &mut Option<(&'a Path, PathBuf)>,
    ) -> io::Result<()> {
        let Listed { path, mode, owner, kind, attributes } = member;
        let Some(name) = path.file_name() else {
            self.root = Some((*mode, *owner));
            return Ok(());
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.iter().any(|name| name.as_bytes().starts_with(b".wh..wh.")) {
            return Ok(());
        }
        if let Some(deleted) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) {
            let folder = self.resolve(parent)?;
            if name.as_bytes() == OPAQUE {
                self.delete(&folder, layer, Depth::Within);
            } else if !deleted.starts_with(WHITEOUT.as_bytes()) {
                self.delete(&folder.join(OsStr::from_bytes(deleted)), layer, Depth::Whole);
            }
            return Ok(());
        }
        let at = match last {
            Some((before, folder)) if before.as_os_str() == parent.as_os_str() => folder.join(name),
            _ => last.insert((parent, self.folder(parent, layer, number)?)).1.join(name),
        };
        let place = |node: Node| {
            let attributes = attributes.clone();
            Place { node, mode: *mode, owner: *owner, attributes, content: (layer, number) }
        };
        match kind {
            Node::Folder => {
                if !matches!(self.entry(&at), Some(Place { node: Node::Folder, .. })) {
                    self.delete(&at, usize::MAX, Depth::Whole);
                }
                self.places.insert(key(&at), place(Node::Folder));
            }
            Node::Device => self.delete(&at, usize::MAX, Depth::Whole),
            Node::Same(target) => {
                let name = target.file_name().unwrap_or_default();
                let from = self.resolve(target.parent().unwrap_or(Path::new("")))?.join(name);
                if from == at {
                    return Ok(());
                }
                let same = self.entry(&from).filter(|place| place.node != Node::Folder).cloned();
                let same = same.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is a hard link to no file", at.display()))
                })?;
                self.delete(&at, usize::MAX, Depth::Whole);
                self.places.insert(key(&at), same);
            }
            node => {
                self.delete(&at, usize::MAX, Depth::Whole);
                self.places.insert(key(&at), place(node.clone()));
            }
        }
        Ok(())
    }

    /// Where the folder `path` of an archive lies. Made where it is not there.
    fn folder(&mut self, path: &Path, layer: usize, number: usize) -> io::Result<PathBuf> {
        let mut walk = Walk::new(path);
        while let Some(at) = walk.step() {
            let at = key(at);
            match self.places.get_mut(&at) {
                // What an upper layer has something in is its own, too.
                Some(place) if place.node == Node::Folder => place.content = (layer, number),
                Some(Place { node: Node::Link(target), .. }) => walk.follow(target)?,
                _ => {
                    let (node, content) = (Node::Folder, (layer, number));
                    self.places.insert(at, Place { node, mode: 0o755, owner: (0, 0), attributes: Vec::new(), content });
                }
            }
        }
        Ok(walk.into_place())
    }

    /// Takes away what layers below `layer` have at `path`.
    fn delete(&mut self, path: &Path, layer: usize, depth: Depth) {
        let is_gone = |place: &Place| place.content.0 < layer;
        let whole = key(path);
        let gone: Vec<_> =
            self.within(whole.clone()).filter(|(_, place)| is_gone(place)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.places.remove(&key);
        }
        if depth == Depth::Whole && self.places.get(&whole).is_some_and(is_gone) {
            self.places.remove(&whole);
        }
    }
}

/// What the bytes of a view begin with: another number with each change of them.
const FORMAT: u32 = 1;

/// How much is deleted at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// It, and all that is in it.
    Whole,
    /// All that is in it.
    Within,
}

#[cfg(test)]
mod tests {
    use super::super::{ArchivePath, Mode, Writer};
    use super::*;
    use crate::io::archive;

    /// A layer: what ends in `/` is a folder, what has `->` in it a link, and `=>` another name.
    fn layer(names: &[&str]) -> Vec<u8> {
        let path = |name: &str| ArchivePath::new(name).unwrap();
        let mut writer = Writer::new(Vec::new());
        for name in names {
            if let Some((link, target)) = name.split_once("=>") {
                let kind = archive::Kind::Hardlink(path(target));
                writer.entry(&archive::Entry { kind, ..archive::Entry::file(path(link), 0, Mode::Plain) }).unwrap();
            } else if let Some((link, target)) = name.split_once("->") {
                writer.entry(&archive::Entry::symlink(path(link), target)).unwrap();
            } else if let Some(folder) = name.strip_suffix('/') {
                writer.entry(&archive::Entry::directory(path(folder)).owned_by(7, 8)).unwrap();
            } else {
                writer.file(&archive::Entry::file(path(name), 1, Mode::Plain), &b"x"[..]).unwrap();
            }
        }
        writer.finish().unwrap()
    }

    fn shown(layers: &[&[&str]]) -> Vec<String> {
        let mut view = View::default();
        for names in layers {
            let listing = Listing::read(&layer(names)[..], Limits::default()).unwrap();
            let json = serde_json::to_string(&listing).unwrap();
            assert_eq!(serde_json::from_str::<Listing>(&json).unwrap(), listing);
            view.lay(&listing).unwrap();
        }
        let path = |key: &Key| String::from_utf8(key.to_vec()).unwrap().replace('\0', "/");
        view.within(key(Path::new(""))).map(|(key, _)| path(key)).collect()
    }

    #[test]
    fn layers_show_what_unpacked_ones_would() {
        let lower: &[&str] =
            &["a/kept", "a/gone", "b/deep/gone", "c/file", "d/x", "e", "f->a", "g/in", "h->/a", "k/l/m"];
        let upper: &[&str] = &[
            "a/.wh.gone",
            "b/deep/new",
            "b/.wh..wh..opq",
            "c->a",
            "d/x/",
            "d/x/inner",
            "e/",
            "e/inner",
            "f/kept",
            ".wh.g",
            "h/more",
            "same=>a/kept",
            "k/l/.wh..wh..opq",
        ];
        let all = shown(&[lower, upper]);
        assert_eq!(all.join(" "), "a a/kept a/more b b/deep b/deep/new c d d/x d/x/inner e e/inner f h k k/l same");
        let mut view = View::default();
        for names in [lower, upper] {
            view.lay(&Listing::read(&layer(names)[..], Limits::default()).unwrap()).unwrap();
        }
        assert_eq!(view.resolve(Path::new("/h/../c/new/x")).unwrap(), Path::new("a/new/x"));
        assert_eq!(view.entry(Path::new("same")).unwrap().content, view.entry(Path::new("a/kept")).unwrap().content);
        assert_eq!(view.entry(Path::new("e")).unwrap().owner, (7, 8));
    }

    #[test]
    fn bytes_are_the_same_view_and_nothing_else_is_one() {
        let mut view = View::default();
        for names in [&["a/", "a/b->c d", "a/c", "a.d/e", "same=>a/c"][..], &["a/.wh.c", "f"][..]] {
            view.lay(&Listing::read(&layer(names)[..], Limits::default()).unwrap()).unwrap();
        }
        view.root = Some((0o1777, (0, u32::MAX)));
        let place = view.places.get_mut(&key(Path::new("f"))).unwrap();
        place.attributes.push(("user.x".to_owned(), vec![0, 255]));
        place.node = Node::File(u64::MAX);
        let bytes = view.to_bytes();
        assert_eq!(View::from_bytes(&bytes).as_ref(), Some(&view));
        assert_eq!(View::from_bytes(&View::default().to_bytes()), Some(View::default()));
        for end in 0..bytes.len() {
            assert_eq!(View::from_bytes(&bytes[..end]), None, "{end}");
        }
        assert_eq!(View::from_bytes(&[&bytes[..], b"x"].concat()), None);
        for at in 0..bytes.len() {
            // No byte makes it panic, or ask for memory without end.
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] = byte;
                View::from_bytes(&other);
            }
        }
    }

    #[test]
    fn ways_that_never_end_and_links_to_nothing_are_refused() {
        let mut view = View::default();
        let listing = Listing::read(&layer(&["a->b", "b->a", "a/x"])[..], Limits::default()).unwrap();
        assert!(view.lay(&listing).is_err());
        let listing = Listing::read(&layer(&["a=>nothing"])[..], Limits::default()).unwrap();
        assert!(view.lay(&listing).unwrap_err().to_string().contains("hard link"));
    }

    #[test]
    fn files_are_read_by_their_numbers() {
        let bytes = layer(&["a/", "a/b", "a/c"]);
        let mut seen = Vec::new();
        files(
            &bytes[..],
            Limits::default(),
            |number| number == 2,
            |number, content| {
                let mut text = String::new();
                content.read_to_string(&mut text)?;
                seen.push((number, text));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, [(2, "x".to_owned())]);
    }
}
