//! Files put upon an image, from a source: which, and where; and the layer of them.
//!
//! Dockerfile reference, `COPY` and `ADD`; where that is silent, as BuildKit does it: a folder's content goes into the
//! target, which is made with mode 0755; folders below take the mode that they have in the source; a link that is named
//! is followed, one that is found in a folder stays one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use serde::Serialize;

use super::contents::{self, Archive};
use super::hashed::Hashed;
use super::source::{Found, Origin, Source};
use crate::formats::dockerfile::Pattern;
use crate::image::layer::{self, Layer};
use crate::image::session::Session;
use crate::image::store;
use crate::io::archive::{self, ArchivePath, Entry, Kind, Limits, Node, PathError, View};
use crate::io::content::{self, Content};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Version of what layers of copied files are made of. Raised with each change of that.
pub const RULES: u32 = 1;

/// Why nothing can be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source has nothing there.
    #[error("`{path}` is not there")]
    Missing {
        /// As it is written, expanded.
        path: String,
    },
    /// It is there, and left out of the context.
    #[error("`{path}` is left out by .dockerignore")]
    LeftOut {
        /// As it is written, expanded.
        path: String,
    },
    /// A pattern that is none.
    #[error("{0}")]
    Pattern(String),
    /// Several things go where one file is to be.
    #[error("several files cannot become `{target}`, which does not end in `/`")]
    Several {
        /// As it is written, expanded.
        target: String,
    },
    /// A folder and something else want to be in one place.
    #[error("`{path}` is a folder in one, and none in the other")]
    NoFolder {
        /// In the image.
        path: String,
    },
    /// A name that cannot be in a layer that is made here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file that is neither a file nor a folder nor a link.
    #[error("`{path}` is a pipe, which is not copied")]
    Pipe {
        /// In the image.
        path: String,
    },
    /// A file could not be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An archive that is to be unpacked cannot be read.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// What layers hold.
    #[error(transparent)]
    Contents(#[from] contents::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file that is another one now.
    #[error(transparent)]
    Changed(#[from] content::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing { .. } => ErrorKind::Invalid
                .named("dockerfile/missing")
                .hint("paths begin at the context, which nothing outside is part of"),
            Self::LeftOut { .. } => {
                ErrorKind::Invalid.named("dockerfile/left-out").hint("let it in with a line `!PATH` in .dockerignore")
            }
            Self::Pattern(_) | Self::Path(_) | Self::Pipe { .. } => ErrorKind::Invalid.named("dockerfile/no-path"),
            Self::Several { .. } => ErrorKind::Invalid.named("dockerfile/several").hint("put a `/` at its end"),
            Self::NoFolder { .. } => ErrorKind::Invalid.named("dockerfile/no-folder"),
            Self::Io(error) => error.explain(),
            Self::Archive(_) => ErrorKind::Invalid.named("dockerfile/archive"),
            Self::Layer(error) => error.explain(),
            Self::Contents(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Changed(error) => error.explain(),
        }
    }
}

/// Where files go, and how.
pub struct Placing<'a> {
    /// The absolute path in the image; with a `/` at the end, it is a folder.
    pub target: &'a str,
    /// Owner and group of all that is put there; as in the source, where none is given.
    pub owner: Option<(u32, u32)>,
    /// Permission bits of all that is put there, by those that it has and whether it is a folder.
    pub mode: &'a dyn Fn(u32, bool) -> u32,
    /// The folders above each source are made too, from the `/./` in its path on.
    pub parents: bool,
    /// Says of a path, from the folder that is copied, whether it is left out.
    pub is_excluded: &'a dyn Fn(&Path) -> bool,
    /// The whole target is made anew: nothing is looked at that is in the image.
    pub link: bool,
    /// What is put takes the place of what is there, also a file that of a folder: so archives are unpacked.
    pub replaces: bool,
}

/// What is put at one place.
#[derive(Clone, Debug)]
struct Addition {
    node: Node,
    mode: u32,
    owner: (u32, u32),
    attributes: Vec<(String, Vec<u8>)>,
    bytes: Bytes,
}

#[derive(Clone, Debug)]
enum Bytes {
    None,
    Text(Vec<u8>),
    /// As the file was when it was looked at.
    File(Content),
    /// The member of that number of that archive.
    Member(usize, usize),
}

/// What is put upon an image.
#[derive(Clone, Debug, Default)]
pub struct Additions(BTreeMap<PathBuf, Addition>);

impl Additions {
    /// Whether there is nothing to put.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts all that the patterns `sources` match.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn copy(
        &mut self,
        source: Source<'_>,
        sources: &[String],
        placing: &Placing<'_>,
        below: &View,
    ) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut missing = None;
        for pattern in sources {
            let matches = matches(source, pattern)?;
            if matches.is_empty() {
                let whole = inside(pattern);
                let is_there = matches!(source, Source::Context { root, .. } if root.join(&whole).exists());
                let path = pattern.clone();
                let error = if is_there { Error::LeftOut { path } } else { Error::Missing { path } };
                if !is_pattern(pattern) {
                    return Err(error);
                }
                missing.get_or_insert(error);
            }
            found.extend(matches.into_iter().map(|path| (pattern.as_str(), path)));
        }
        // A pattern may match nothing, where something else is copied.
        if let (true, Some(error)) = (found.is_empty(), missing) {
            return Err(error);
        }
        let target = Target::of(placing, below, found.len() > 1)?;
        for (pattern, path) in found {
            let real = source.resolve(&path)?;
            let there = source.find(&real)?;
            let is_folder = source.is_folder(&real);
            let mut place = target.place.clone();
            if placing.parents {
                // Links on the way are none of the way.
                let (pivot, rest) = pivoted(pattern, &path);
                let mut way = pivot;
                for name in rest.parent().unwrap_or(Path::new("")) {
                    way.push(name);
                    place.push(name);
                    let above = source.find(&source.resolve(&way)?)?;
                    self.folder(&place, above.as_ref(), placing, below);
                }
                place.extend(rest.file_name());
                target.make(self, &target.place, placing, below)?;
            } else if !is_folder && (target.is_folder || target.is_there) {
                place.extend(path.file_name());
            }
            match there {
                _ if is_folder => {
                    target.make(self, &place, placing, below)?;
                    self.contents(source, &real, &real, &place, placing, below)?;
                }
                Some(found) => {
                    let is_excluded = path.file_name().is_some_and(|name| (placing.is_excluded)(Path::new(name)));
                    if is_excluded {
                        continue;
                    }
                    target.make(self, place.parent().unwrap_or(Path::new("")), placing, below)?;
                    self.put(place, &found, placing, below)?;
                }
                None => return Err(Error::Missing { path: pattern.to_owned() }),
            }
        }
        Ok(())
    }

    /// Puts a file of `bytes`, called `name` where the target is a folder.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn text(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        mode: u32,
        placing: &Placing<'_>,
        below: &View,
    ) -> Result<(), Error> {
        let node = Node::File(bytes.len() as u64);
        self.single(name, node, Bytes::Text(bytes), mode, placing, below)
    }

    fn single(
        &mut self,
        name: &str,
        node: Node,
        bytes: Bytes,
        mode: u32,
        placing: &Placing<'_>,
        below: &View,
    ) -> Result<(), Error> {
        let target = Target::of(placing, below, false)?;
        let mut place = target.place.clone();
        if target.is_folder || target.is_there {
            place.push(name);
        }
        target.make(self, place.parent().unwrap_or(Path::new("")), placing, below)?;
        if below.entry(&place).is_some_and(|there| there.node == Node::Folder) {
            return Err(Error::NoFolder { path: shown(&place) });
        }
        let mode = (placing.mode)(mode, false);
        let owner = placing.owner.unwrap_or((0, 0));
        self.0.insert(place, Addition { node, mode, owner, attributes: Vec::new(), bytes });
        Ok(())
    }

    /// Puts the file `path`, called `name` where the target is a folder.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn file(
        &mut self,
        name: &str,
        path: &Path,
        mode: u32,
        placing: &Placing<'_>,
        below: &View,
    ) -> Result<(), Error> {
        let content = Content::file(path)?;
        self.single(name, Node::File(content.size()), Bytes::File(content), mode, placing, below)
    }

    /// Makes the folder `path`, and those above it, where they are not there.
    ///
    /// # Errors
    /// When there is something else.
    pub fn make_folder(&mut self, path: &str, owner: (u32, u32), below: &View) -> Result<(), Error> {
        let target = format!("{path}/");
        let placing = Placing {
            target: &target,
            owner: Some(owner),
            mode: &|mode, _| mode,
            parents: false,
            is_excluded: &|_| false,
            link: false,
            replaces: false,
        };
        let target = Target::of(&placing, below, false)?;
        target.make(self, &target.place, &placing, below)
    }

    /// Puts what is in the folder `path` of the source, which is copied as a part of `top`.
    fn contents(
        &mut self,
        source: Source<'_>,
        top: &Path,
        path: &Path,
        place: &Path,
        placing: &Placing<'_>,
        below: &View,
    ) -> Result<(), Error> {
        for (name, is_folder) in source.names(path)? {
            let (from, to) = (path.join(&name), place.join(&name));
            let is_excluded = from.strip_prefix(top).is_ok_and(|path| (placing.is_excluded)(path));
            let found = if is_excluded { None } else { source.find(&from)? };
            if is_folder {
                if let Some(found) = &found {
                    self.put(to.clone(), found, placing, below)?;
                }
                let put = self.0.len();
                self.contents(source, top, &from, &to, placing, below)?;
                // Something in a folder that is left out is not.
                if found.is_none() && self.0.len() > put && !self.0.contains_key(&to) {
                    let mut found = Found {
                        node: Node::Folder,
                        mode: 0o755,
                        owner: (0, 0),
                        attributes: Vec::new(),
                        origin: Origin::Member(0, 0),
                    };
                    if let Source::Context { root, .. } = source {
                        found.mode = above(root, &from)?;
                    }
                    self.put(to, &found, placing, below)?;
                }
            } else if let Some(found) = found {
                self.put(to, &found, placing, below)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, place: PathBuf, found: &Found, placing: &Placing<'_>, below: &View) -> Result<(), Error> {
        let is_folder = found.node == Node::Folder;
        let there = below.entry(&place).filter(|_| !placing.link);
        let was = self.0.get(&place).map(|it| &it.node).or(there.map(|it| &it.node));
        if was.is_some_and(|was| (*was == Node::Folder) != is_folder) {
            // A link to a folder stays: others of the image go through it.
            if !placing.replaces || is_folder && matches!(was, Some(Node::Link(_))) {
                return Err(Error::NoFolder { path: shown(&place) });
            }
            self.0.retain(|path, _| !path.starts_with(&place));
        }
        if found.node == Node::Pipe {
            return Err(Error::Pipe { path: shown(&place) });
        }
        let is_link = matches!(found.node, Node::Link(_));
        let mode = if is_link { 0o777 } else { (placing.mode)(found.mode, is_folder) };
        let (node, bytes) = match (&found.node, &found.origin) {
            (Node::File(size), Origin::Content(content)) => (Node::File(*size), Bytes::File(content.clone())),
            (Node::File(size), Origin::Member(archive, number)) => {
                (Node::File(*size), Bytes::Member(*archive, *number))
            }
            (node, _) => (node.clone(), Bytes::None),
        };
        let owner = placing.owner.unwrap_or(found.owner);
        let attributes = found.attributes.clone();
        self.0.insert(place, Addition { node, mode, owner, attributes, bytes });
        Ok(())
    }

    /// Makes a folder as `like` is, unless it is there.
    fn folder(&mut self, place: &Path, like: Option<&Found>, placing: &Placing<'_>, below: &View) {
        let is_there = !placing.link && below.entry(place).is_some_and(|there| there.node == Node::Folder);
        if is_there || place.as_os_str().is_empty() || self.0.contains_key(place) {
            return;
        }
        let like = like.filter(|found| found.node == Node::Folder);
        let mode = like.map_or(0o755, |found| (placing.mode)(found.mode, true));
        let owner = placing.owner.or(like.map(|found| found.owner)).unwrap_or((0, 0));
        let folder = Addition { node: Node::Folder, mode, owner, attributes: Vec::new(), bytes: Bytes::None };
        self.0.insert(place.to_owned(), folder);
    }

    /// What identifies the layer of these, where members are of `archives`, and digests of files are `hashed`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn key(&self, archives: &[Archive], below: &View, hashed: &Hashed<'_>) -> Result<Digest, Error> {
        #[derive(Serialize)]
        struct Part<'a> {
            path: &'a Path,
            mode: u32,
            owner: (u32, u32),
            node: &'a Node,
            attributes: &'a [(String, Vec<u8>)],
            bytes: Option<(Digest, usize)>,
        }
        let files = self.0.values().filter_map(|addition| match &addition.bytes {
            Bytes::File(content) => Some(content),
            _ => None,
        });
        let mut digests = hashed.digests::<Error>(&files.collect::<Vec<_>>())?.into_iter();
        let mut parts = Vec::new();
        for (path, Addition { node, mode, owner, attributes, bytes }) in &self.0 {
            let bytes = match bytes {
                Bytes::None => None,
                Bytes::Text(bytes) => Some((Digest::of(bytes), 0)),
                Bytes::File(_) => digests.next().map(|digest| (digest, 0)),
                Bytes::Member(archive, number) => archives.get(*archive).map(|archive| (archive.digest(), *number)),
            };
            parts.push(Part { path, mode: *mode, owner: *owner, node, attributes, bytes });
        }
        let folders: Vec<_> = self.folders(below).into_iter().collect();
        Ok(layer::key(&("copied", RULES, parts, folders)))
    }

    /// The layer of these over `below`; members are of `archives`.
    ///
    /// # Errors
    /// When a file cannot be read, changes meanwhile, or the store cannot be written.
    pub fn layer(&self, session: &Session, title: &str, archives: &[Archive], below: &View) -> Result<Layer, Error> {
        Layer::write::<Error>(&session.store, session.making, title, |writer| {
            self.write(session, archives, below, writer)
        })
    }

    /// All folders of the layer.
    fn folders(&self, below: &View) -> BTreeMap<PathBuf, (u32, (u32, u32))> {
        let mut folders = BTreeMap::new();
        for path in self.0.keys() {
            for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                // Other readers of layers give a folder without an entry their own mode.
                if let Some(there) = below.entry(above).filter(|there| there.node == Node::Folder) {
                    folders.entry(above.to_owned()).or_insert((there.mode, there.owner));
                }
            }
        }
        let own = self.0.iter().filter(|(_, addition)| addition.node == Node::Folder);
        folders.extend(own.map(|(path, addition)| (path.clone(), (addition.mode, addition.owner))));
        folders
    }

    fn write(
        &self,
        session: &Session,
        archives: &[Archive],
        below: &View,
        writer: &mut archive::Writer<&mut dyn io::Write>,
    ) -> Result<(), Error> {
        for (path, (mode, (user, group))) in self.folders(below) {
            let entry = Entry::directory(ArchivePath::from_path(&path)?).owned_by(user, group);
            writer.entry(&Entry { mode, ..entry })?;
        }
        type Names<'a> = Vec<(&'a PathBuf, &'a Addition)>;
        let mut members: BTreeMap<usize, BTreeMap<usize, Names<'_>>> = BTreeMap::new();
        for (path, addition) in &self.0 {
            match (&addition.node, &addition.bytes) {
                (Node::File(_), Bytes::Member(archive, number)) => {
                    members.entry(*archive).or_default().entry(*number).or_default().push((path, addition));
                }
                (Node::File(size), Bytes::File(content)) => {
                    writer.file(&addition.entry(path, *size)?, content.open()?)?;
                    // What was hashed is what was written only if nobody wrote to it meanwhile.
                    content.check()?;
                }
                (Node::File(size), Bytes::Text(bytes)) => writer.file(&addition.entry(path, *size)?, &bytes[..])?,
                (Node::Link(target), _) => {
                    let target = target.to_str().ok_or_else(|| PathError::NotUtf8(shown(target)))?;
                    let entry = Entry::symlink(ArchivePath::from_path(path)?, target);
                    writer.entry(&entry.owned_by(addition.owner.0, addition.owner.1))?;
                }
                _ => {}
            }
        }
        for (archive, mut wanted) in members {
            let Some(archive) = archives.get(archive) else { continue };
            let archive = archive.open(session)?;
            let numbers: BTreeSet<usize> = wanted.keys().copied().collect();
            archive::files(
                archive,
                Limits::default(),
                |number| numbers.contains(&number),
                |number, content| {
                    let names = wanted.remove(&number).unwrap_or_default();
                    let mut first: Option<&PathBuf> = None;
                    for (path, addition) in names {
                        let Node::File(size) = addition.node else { continue };
                        let entry = addition.entry(path, size).map_err(io::Error::other)?;
                        match first {
                            None => writer.file(&entry, &mut *content)?,
                            Some(first) => {
                                let target = ArchivePath::from_path(first).map_err(io::Error::other)?;
                                writer.entry(&Entry { kind: Kind::Hardlink(target), ..entry })?;
                            }
                        }
                        first.get_or_insert(path);
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}

impl Addition {
    fn entry(&self, path: &Path, size: u64) -> Result<Entry, PathError> {
        let path = ArchivePath::from_path(path)?;
        let (kind, attributes) = (Kind::File { size }, self.attributes.clone());
        Ok(Entry { path, mode: self.mode, owner: self.owner, kind, attributes })
    }
}

/// Where things go.
struct Target {
    /// From the root, through no links.
    place: PathBuf,
    /// It is to be a folder.
    is_folder: bool,
    /// It is a folder already.
    is_there: bool,
}

impl Target {
    fn of(placing: &Placing<'_>, below: &View, are_several: bool) -> Result<Self, Error> {
        let text = placing.target;
        let is_folder = text.ends_with('/') || text.ends_with("/.") || placing.parents;
        let place = if placing.link { inside(text) } else { below.resolve(&inside(text))? };
        let is_there = place.as_os_str().is_empty()
            || !placing.link && below.entry(&place).is_some_and(|there| there.node == Node::Folder);
        if are_several && !is_folder && !is_there {
            return Err(Error::Several { target: text.to_owned() });
        }
        Ok(Self { place, is_folder, is_there })
    }

    /// Makes `folder` and those above it, where they are not there.
    fn make(&self, additions: &mut Additions, folder: &Path, placing: &Placing<'_>, below: &View) -> Result<(), Error> {
        let mut ways: Vec<_> = folder.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        ways.reverse();
        for path in ways {
            let there = below.entry(path).filter(|_| !placing.link);
            if there.is_some_and(|there| there.node != Node::Folder) {
                return Err(Error::NoFolder { path: shown(path) });
            }
            additions.folder(path, None, placing, below);
        }
        Ok(())
    }
}

/// A path for a person.
fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}

/// The path `text` from the root of whatever it is in, without `.` and `..`.
pub fn inside(text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    path
}

/// The part of a source's path that is not made in the target, and the rest of it.
fn pivoted(pattern: &str, path: &Path) -> (PathBuf, PathBuf) {
    let pivot = pattern.split_once("/./").map(|(pivot, _)| inside(pivot).components().count()).unwrap_or_default();
    (path.iter().take(pivot).collect(), path.iter().skip(pivot).collect())
}

/// What the pattern `text` matches, in order: names with wildcards (Go's `filepath.Match`) one by one.
///
/// # Errors
/// When one is no pattern, or a folder cannot be read.
pub fn matches(source: Source<'_>, text: &str) -> Result<BTreeSet<PathBuf>, Error> {
    let whole = inside(text);
    let mut found = BTreeSet::from([PathBuf::new()]);
    for name in &whole {
        let name = name.to_string_lossy();
        let mut next = BTreeSet::new();
        for path in found {
            if !is_pattern(&name) {
                next.insert(path.join(unescaped(&name)));
                continue;
            }
            let real = source.resolve(&path)?;
            if !source.is_folder(&real) {
                continue;
            }
            let pattern = Pattern::new(&name).map_err(|error| Error::Pattern(error.to_string()))?;
            let names = source.names(&real)?;
            let matching = names.into_keys().filter(|name| pattern.is_match(&name.to_string_lossy()));
            next.extend(matching.map(|name| path.join(name)));
        }
        found = next;
    }
    let mut there = BTreeSet::new();
    for path in found {
        let real = source.resolve(&path)?;
        let is_there = source.find(&real)?.is_some() && source.find(&path)?.is_some();
        // What is left out as a whole may hold what is not.
        if path.as_os_str().is_empty() || is_there || source.is_folder(&real) && holds(source, &real)? {
            there.insert(path);
        }
    }
    Ok(there)
}

/// Permission bits of a folder of a context that is left out, while something in it is not.
fn above(root: &Path, folder: &Path) -> io::Result<u32> {
    Ok(fs::metadata(root.join(folder))?.permissions().mode() & 0o7777)
}

/// What stands for all that the patterns `sources` match, as the file system tells it; none where a file was written just
/// now, which another may look the same as.
///
/// # Errors
/// When one is no pattern, or a folder cannot be read.
pub fn state(source: Source<'_>, sources: &[String]) -> Result<Option<Digest>, Error> {
    /// Where, permissions and what of something that is part of the source, and where the bytes are.
    type Told = (PathBuf, Option<(u32, Node, Option<Content>)>);
    fn tell(source: Source<'_>, path: PathBuf, is_folder: bool, all: &mut Vec<Told>) -> io::Result<bool> {
        let mut found = source.find(&path)?;
        let content = match found.as_mut().map(|found| &mut found.origin) {
            Some(Origin::Content(content)) => Some(content),
            _ => None,
        };
        let is_settled = content.as_ref().is_none_or(|content| content.is_settled());
        let content = content.cloned();
        // Of a folder the times tell nothing: what is in it is told.
        let told = found.map(|Found { node, mode, .. }| (mode, node, content.filter(|_| !is_folder)));
        if let (None, true, Source::Context { root, .. }) = (&told, is_folder, source) {
            // It may be made for what is in it, as it is.
            all.push((path.clone(), Some((above(root, &path)?, Node::Folder, None))));
        }
        all.push((path.clone(), told));
        if !is_folder {
            return Ok(is_settled);
        }
        for (name, is_folder) in source.names(&path)? {
            if !tell(source, path.join(name), is_folder, all)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
    let mut all = Vec::new();
    for pattern in sources {
        for path in matches(source, pattern)? {
            let real = source.resolve(&path)?;
            all.push((path, None));
            let is_folder = source.is_folder(&real);
            if !tell(source, real, is_folder, &mut all)? {
                return Ok(None);
            }
        }
    }
    // What is no UTF-8 has no state: it is in no layer either.
    Ok(serde_json::to_vec(&all).ok().map(Digest::of))
}

/// Whether anything in a folder is part of the source.
fn holds(source: Source<'_>, path: &Path) -> io::Result<bool> {
    for (name, is_folder) in source.names(path)? {
        let path = path.join(name);
        if source.find(&path)?.is_some() || is_folder && holds(source, &path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_pattern(name: &str) -> bool {
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// A pattern that matches `name` alone.
pub fn escaped(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if matches!(letter, '\\' | '*' | '?' | '[') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// The name that a pattern without wildcards matches.
pub fn unescaped(name: &str) -> String {
    let mut letters = name.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}
