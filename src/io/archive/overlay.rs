//! Unpacking a layer into a tree that the kernel's overlay file system lays over those below.
//!
//! Docker, containerd and umoci apply layers to a file system that has the lower ones in it: a parent that is a link
//! there is followed, a folder that has no entry keeps its mode, and a hard link may be to a file below. Here each layer
//! has a tree of its own, so what is below is looked at ([`Below`]). Nearly no layer depends on that; what would make
//! it another tree is noted ([`Facts`]), so that one tree does for all images in which it comes out the same.
//!
//! Rules, in the order of the members, as umoci 0.4 has them where the specification (image-spec 1.1, `layer.md`) is
//! silent:
//!
//! - A parent is followed through links, of this layer and of those below, inside the root; one that is not there is made,
//!   one that is a file is replaced.
//! - An entry replaces what is there, but for a folder over a folder, which takes the new mode and owner. An entry of a
//!   folder over a link replaces the link.
//! - A whiteout deletes what is below, and nothing of its own layer, wherever it stands. One of nothing does nothing.
//! - Device nodes are left out, as nothing in a container may use them; a device 0/0 above all, which would be a whiteout.
//!   What they replace is gone.
//!
//! Invariant: nothing outside the tree is written, whatever the layer says: each folder is opened by the kernel beneath
//! the root and without following a link ([`Tree`]); ways through links are worked out here, name by name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use rustix::fs::{FileType, Timespec, Timestamps, XattrFlags};
use serde::{Deserialize, Serialize};

use super::layer::{Entry, Kind, Pieces, WHITEOUT, for_each, shown};
use super::read::{Error, Limits, Noting};
use super::stack::{Stack, Walk};
use super::tree::Tree;

/// In a folder of which the layer deletes all that lower ones have.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What lies below a layer that is unpacked.
#[derive(Clone, Copy)]
pub enum Below<'a> {
    /// Not known: the tree is for all images for which [`Facts::hold`].
    Anything,
    /// These layers.
    Layers(&'a Stack),
}

/// Permission bits, and owner and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// At most `0o7777`.
    pub mode: u32,
    /// By number.
    pub owner: (u32, u32),
}

impl Attributes {
    /// Of a folder that no entry describes.
    const PLAIN: Self = Self { mode: 0o755, owner: (0, 0) };
}

/// What was found while a layer was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Of the root, where the layer has an entry for it.
    pub root: Option<Attributes>,
    /// Nothing of the layers below shows.
    pub hides_all: bool,
    /// How many device nodes were left out, and the paths of some.
    pub devices: (u64, Vec<String>),
    /// Folders that are there because something lies in them.
    folders: Vec<Name>,
    /// What is deleted below.
    deleted: Vec<Name>,
    /// What would have to be deleted if it were there.
    left_out: Vec<Name>,
    /// There are hard links to files below: the tree is empty.
    links_below: bool,
}

/// A path in JSON, which has no bytes: each is the character of that number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name(String);

impl Name {
    fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().iter().map(|&byte| char::from(byte)).collect())
    }

    fn path(&self) -> PathBuf {
        let bytes = self.0.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect();
        OsString::from_vec(bytes).into()
    }
}

impl Facts {
    /// Whether a layer that was unpacked over [`Below::Anything`] comes out the same over `below`.
    pub fn hold(&self, below: &Stack) -> bool {
        let folder = |name: &Name| {
            let Some(real) = below.entry(&name.path()) else { return true };
            !real.is_symlink() && below.folder(&name.path()).is_none_or(as_plain)
        };
        !self.links_below
            && self.folders.iter().all(folder)
            && self.deleted.iter().all(|name| below.entry(&name.path()).is_some())
            && self.left_out.iter().all(|name| below.entry(&name.path()).is_none())
    }
}

/// Whether a folder has the attributes of one that no entry describes. All belongs to an ordinary user who unpacks.
fn as_plain((mode, owner): (u32, (u32, u32))) -> bool {
    mode == Attributes::PLAIN.mode && (owner == Attributes::PLAIN.owner || !sets_owners())
}

/// Whether all owners can be set: by root, but of a namespace that knows no other users.
fn sets_owners() -> bool {
    nix::unistd::geteuid().is_root() && crate::io::ids::has_others()
}

/// Unpacks the layer `archive` into `root`, an existing empty folder that nobody else writes to, for which `below` is
/// below. Owners are set where root unpacks. Folders get their modes at the end: [`super::remove`] removes them.
///
/// # Errors
/// See [`Error`]. What was written until then stays: unpack into a temporary folder and rename it.
pub fn unpack_layer(archive: impl Read, root: &Path, below: Below<'_>, limits: Limits) -> Result<Facts, Error> {
    let tree = Tree::open(root).map_err(|source| Error::Read { at: None, source })?;
    let mut layer = Layer {
        tree,
        below,
        owners: sets_owners(),
        folders: BTreeMap::from([(OsString::new(), Folder { attributes: Attributes::PLAIN, time: None })]),
        hidden: BTreeSet::new(),
        opaque: BTreeSet::new(),
        whiteouts: BTreeSet::new(),
        kept: 0,
        last: None,
        facts: Facts::default(),
        noted: BTreeMap::new(),
    };
    for_each(archive, limits, |entry, content| layer.put(entry, content))?;
    layer.finish()
}

/// A folder of the tree.
struct Folder {
    attributes: Attributes,
    /// Seconds and nanoseconds; none where no entry describes it.
    time: Option<(i64, u32)>,
}

/// What is at a place of the image while a layer is put on it.
enum Found {
    Nothing,
    Folder(Attributes),
    Link(PathBuf),
    /// A file, a pipe.
    Other,
}

/// A layer that is being unpacked.
struct Layer<'a> {
    tree: Tree,
    below: Below<'a>,
    owners: bool,
    /// Those of the tree.
    folders: BTreeMap<OsString, Folder>,
    /// Places where nothing of the layers below shows any more: something else was there for a while.
    hidden: BTreeSet<OsString>,
    /// Folders in which nothing of the layers below shows.
    opaque: BTreeSet<OsString>,
    /// What is deleted below.
    whiteouts: BTreeSet<OsString>,
    /// Bytes of the paths above, which all are in memory.
    kept: usize,
    /// The folder that was last put into: as the archive has it, as it is, and open.
    last: Option<(PathBuf, PathBuf, OwnedFd)>,
    facts: Facts,
    /// For [`Facts`], each once.
    noted: BTreeMap<OsString, Note>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Note {
    Folder,
    LeftOut,
}

impl Layer<'_> {
    fn put(&mut self, entry: Entry, content: &mut dyn Read) -> Result<(), Error> {
        let Some(name) = entry.path.file_name() else {
            let root = Attributes { mode: entry.mode, owner: entry.owner };
            self.facts.root = Some(root);
            self.folders.insert(OsString::new(), Folder { attributes: root, time: Some(entry.time) });
            return self.describe(&entry, &self.tree.entry(Path::new("")).map_err(|error| failed(&entry.path, error))?);
        };
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        if let Some(deleted) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) {
            return self.delete(&entry, parent, name, deleted);
        }
        // What lies in the books of aufs is none of the image, either.
        if parent.iter().any(|name| name.as_bytes().starts_with(b".wh..wh.")) {
            return Ok(());
        }
        if let Kind::Device = entry.kind {
            return self.leave_out(&entry, parent, name);
        }
        let write = |source: io::Error| failed(&entry.path, source);
        if self.last.as_ref().is_none_or(|(written, ..)| written != parent) {
            let real = self.parent(parent, true).map_err(write)?.unwrap_or_default();
            let open = self.tree.folder(&real).map_err(write)?;
            self.last = Some((parent.to_owned(), real, open));
        }
        let Some((_, real, open)) = &self.last else { return Ok(()) };
        let path = real.join(name);
        if path.as_os_str().len() > 4095 {
            return Err(write(io::Error::from_raw_os_error(nix::libc::ENAMETOOLONG)));
        }
        if let Kind::Directory = entry.kind {
            self.folder(&path).map_err(write)?;
            let attributes = Attributes { mode: entry.mode, owner: entry.owner };
            self.folders.insert(path.clone().into(), Folder { attributes, time: Some(entry.time) });
            return self.describe(&entry, &self.tree.entry(&path).map_err(write)?);
        }
        if let Kind::Hardlink(target) = &entry.kind {
            // It has the attributes of what it is another name of.
            return self.link(&entry.path, &path, target);
        }
        let made = match create(&entry.kind, open, name) {
            Err(nix::Error::EEXIST) => {
                let open = open.try_clone().map_err(write)?;
                self.clear(&path).map_err(write)?;
                create(&entry.kind, &open, name)
            }
            made => made,
        };
        let made = made.map_err(|error| write(error.into()))?;
        if let (Kind::File(pieces), Some(file)) = (&entry.kind, made) {
            fill(&file, pieces, content, &entry.path)?;
            return self.describe(&entry, &file.into());
        }
        self.describe(&entry, &self.tree.entry(&path).map_err(write)?)
    }

    /// Sets owner, mode, attributes and time of what was just made; of folders, mode and time come last.
    fn describe(&self, entry: &Entry, made: &OwnedFd) -> Result<(), Error> {
        let write = |source: io::Error| failed(&entry.path, source);
        if self.owners {
            own(made, entry.owner).map_err(write)?;
        }
        let is_link = matches!(entry.kind, Kind::Symlink(_));
        let is_folder = matches!(entry.kind, Kind::Directory);
        // The kernel changes these through a path alone, where a file is not open to be read or written.
        let handle = format!("/proc/self/fd/{}", made.as_raw_fd());
        if !is_link {
            for (name, value) in entry.attributes.iter().filter(|(name, _)| self.keeps(name)) {
                // File systems that have none, or too little room, are no reason to refuse an image.
                let _ = rustix::fs::setxattr(handle.as_str(), name.as_slice(), value, XattrFlags::empty());
            }
        }
        if is_folder {
            return Ok(());
        }
        if !is_link {
            let mode = Mode::from_bits_truncate(entry.mode);
            let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
            nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, handle.as_str(), mode, follow)
                .map_err(|error| write(error.into()))?;
        }
        set_time(made, entry.time);
        Ok(())
    }

    /// Whether an extended attribute is set. Those of the overlay would let a layer lay folders over others; those of
    /// `security` but for capabilities, `system` and `trusted` belong to the machine where the layer was made.
    fn keeps(&self, name: &[u8]) -> bool {
        match name {
            b"security.capability" => self.owners,
            name => name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0),
        }
    }

    /// Where the folder `path` of the archive lies. Made where it is not there, if `make`; else none then.
    fn parent(&mut self, path: &Path, make: bool) -> io::Result<Option<PathBuf>> {
        if self.has_folder(path) {
            return Ok(Some(path.to_owned()));
        }
        let mut walk = Walk::new(path);
        while let Some(at) = walk.step() {
            let at = at.to_owned();
            match self.find(&at)? {
                Found::Folder(_) if self.has_folder(&at) || !make => {}
                Found::Link(target) => walk.follow(&target)?,
                Found::Nothing | Found::Other if !make => return Ok(None),
                found => {
                    let attributes = match found {
                        Found::Folder(attributes) => attributes,
                        _ => Attributes::PLAIN,
                    };
                    self.folder(&at)?;
                    if self.owners {
                        own(&self.tree.entry(&at)?, attributes.owner)?;
                    }
                    self.folders.insert(at.clone().into(), Folder { attributes, time: None });
                    self.note(at, Note::Folder);
                }
            }
        }
        Ok(Some(walk.into_place()))
    }

    /// What is at `path`, of which all folders above are there and no links.
    fn find(&self, path: &Path) -> io::Result<Found> {
        if let Some(folder) = self.folders.get(path.as_os_str()) {
            return Ok(Found::Folder(folder.attributes));
        }
        if let Some(stat) = self.tree.look(path)? {
            return Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => Found::Link(self.tree.link(path)?),
                _ => Found::Other,
            });
        }
        let Some(real) = self.shows(path) else { return Ok(Found::Nothing) };
        let Below::Layers(below) = self.below else { return Ok(Found::Nothing) };
        if real.is_symlink() {
            return Ok(Found::Link(fs_err::read_link(real)?));
        }
        Ok(match below.folder(path) {
            Some((mode, owner)) => Found::Folder(Attributes { mode, owner }),
            None => Found::Other,
        })
    }

    /// Where the entry of the layers below lies that shows at `path`; none where it is not known what is below.
    fn shows(&self, path: &Path) -> Option<PathBuf> {
        match self.below {
            Below::Layers(below) if !self.is_hidden(path) => below.entry(path),
            _ => None,
        }
    }

    /// Whether nothing of the layers below shows at `path`, because of what this layer has or deletes.
    fn is_hidden(&self, path: &Path) -> bool {
        let gone = |path: &OsStr| self.hidden.contains(path) || self.whiteouts.contains(path);
        let mut above = path.ancestors().skip(1).map(Path::as_os_str);
        gone(path.as_os_str()) || above.any(|above| gone(above) || self.opaque.contains(above))
    }

    fn has_folder(&self, path: &Path) -> bool {
        self.folders.contains_key(path.as_os_str())
    }

    /// Makes the folder `path`, whose parent is there, in the place of whatever is there.
    fn folder(&mut self, path: &Path) -> io::Result<()> {
        if self.has_folder(path) {
            return Ok(());
        }
        self.keep(path)?;
        let parent = self.tree.folder(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let make = || nix::sys::stat::mkdirat(&parent, name, Mode::from_bits_truncate(0o700));
        match make() {
            Err(nix::Error::EEXIST) => {
                self.tree.remove(path)?;
                self.hidden.insert(path.into());
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    /// Counts a path that is kept in memory: folders and whiteouts of an image of a million are far below the limit.
    fn keep(&mut self, path: &Path) -> io::Result<()> {
        // In tests it is reached sooner.
        const MOST: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };
        self.kept += path.as_os_str().len();
        match self.kept <= MOST {
            true => Ok(()),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }

    /// Takes away what this layer had at `path`, for something else that is no folder.
    fn clear(&mut self, path: &Path) -> io::Result<()> {
        if self.folders.remove(path.as_os_str()).is_some() {
            self.opaque.remove(path.as_os_str());
            // All that begins with it stands together.
            let mut within = path.as_os_str().to_owned();
            within.push("/");
            let is_within = |known: &&OsString| known.as_bytes().starts_with(within.as_bytes());
            let gone: Vec<_> =
                self.folders.range(within.clone()..).map(|(known, _)| known).take_while(is_within).cloned().collect();
            for known in gone {
                self.folders.remove(&known);
                self.opaque.remove(&known);
            }
        }
        self.tree.remove(path).map(drop)
    }

    fn note(&mut self, path: PathBuf, note: Note) {
        if let Below::Anything = self.below {
            self.noted.entry(path.into()).or_insert(note);
        }
    }

    /// Another name, `path`, of what lies at `target` of the archive.
    fn link(&mut self, written: &Path, path: &Path, target: &Path) -> Result<(), Error> {
        let refused = |reason: String| Error::Unpack { path: shown(written), reason };
        let nowhere = || refused(format!("it is a hard link to `{}`, which is no file", shown(target)));
        let write = |source: io::Error| failed(written, source);
        let name = target.file_name().ok_or_else(nowhere)?;
        let parent = self.parent(target.parent().unwrap_or(Path::new("")), false).map_err(write)?;
        let real = parent.map(|parent| parent.join(name));
        // Linked to itself, it is there.
        if real.as_deref() == Some(path) && self.tree.look(path).map_err(write)?.is_some() {
            return Ok(());
        }
        if real.as_ref().is_some_and(|real| self.has_folder(real)) {
            return Err(nowhere());
        }
        let own = real.as_ref().map(|real| self.tree.entry(real)).and_then(Result::ok);
        let from = match (own, self.below) {
            (Some(own), _) => own,
            (None, Below::Anything) => {
                self.facts.links_below = true;
                return Ok(());
            }
            (None, Below::Layers(_)) => {
                let below = real.as_deref().and_then(|real| self.shows(real)).ok_or_else(nowhere)?;
                // No link on the way: it was found name by name, and nobody writes to the layers.
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                nix::fcntl::open(&below, flags, Mode::empty()).map_err(|error| write(error.into()))?
            }
        };
        let stat = rustix::fs::fstat(&from).map_err(|error| write(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(nowhere());
        }
        self.clear(path).map_err(write)?;
        let folder = self.tree.folder(path.parent().unwrap_or(Path::new(""))).map_err(write)?;
        let handle = format!("/proc/self/fd/{}", from.as_raw_fd());
        let name = path.file_name().ok_or_else(nowhere)?;
        nix::unistd::linkat(nix::fcntl::AT_FDCWD, handle.as_str(), &folder, name, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(|error| write(error.into()))
    }

    /// Takes note of a whiteout.
    fn delete(&mut self, entry: &Entry, parent: &Path, name: &OsStr, deleted: &[u8]) -> Result<(), Error> {
        let write = |source: io::Error| failed(&entry.path, source);
        if name.as_bytes() != OPAQUE && deleted.starts_with(WHITEOUT.as_bytes()) {
            // The books of aufs.
            return Ok(());
        }
        if matches!(deleted, b"" | b"." | b"..") {
            return Err(Error::Unpack { path: shown(&entry.path), reason: "it deletes nothing".to_owned() });
        }
        let known = matches!(self.below, Below::Layers(_));
        let Some(folder) = self.parent(parent, !known).map_err(write)? else { return Ok(()) };
        if name.as_bytes() == OPAQUE {
            // Where there is nothing of the name below, there may be nothing to mark.
            if known && !self.has_folder(&folder) {
                if self.shows(&folder).is_none() {
                    return Ok(());
                }
                self.parent(&folder, true).map_err(write)?;
            }
            if self.noted.get(folder.as_os_str()) == Some(&Note::Folder) {
                // So it is where nothing is known: then there is no folder.
                self.facts.deleted.push(Name::new(&folder));
            }
            self.opaque.insert(folder.into());
            return Ok(());
        }
        let path = folder.join(OsStr::from_bytes(deleted));
        if !known || self.shows(&path).is_some() {
            self.parent(&folder, true).map_err(write)?;
            self.keep(&path).map_err(write)?;
            self.whiteouts.insert(path.into());
        }
        Ok(())
    }

    /// Takes note of a device node, and of what it would have replaced.
    fn leave_out(&mut self, entry: &Entry, parent: &Path, name: &OsStr) -> Result<(), Error> {
        const SOME: usize = 3;
        let write = |source: io::Error| failed(&entry.path, source);
        let folder = self.parent(parent, true).map_err(write)?.unwrap_or_default();
        let path = folder.join(name);
        self.clear(&path).map_err(write)?;
        self.keep(&path).map_err(write)?;
        if self.shows(&path).is_some() {
            self.whiteouts.insert(path.clone().into());
        }
        self.facts.devices.0 += 1;
        if self.facts.devices.1.len() < SOME {
            self.facts.devices.1.push(shown(&entry.path));
        }
        self.note(path, Note::LeftOut);
        Ok(())
    }

    /// Marks what is deleted, and gives folders their modes.
    fn finish(mut self) -> Result<Facts, Error> {
        if self.facts.links_below {
            // Nobody looks at the tree: see `Facts::hold`.
            self.tree.remove(Path::new("")).map_err(|source| failed(Path::new(""), source))?;
            return Ok(Facts { links_below: true, ..Facts::default() });
        }
        self.facts.hides_all = self.opaque.contains(OsStr::new(""));
        let (folders, whiteouts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.whiteouts).into_iter().partition(|path| self.folders.contains_key(path));
        if let Below::Anything = self.below {
            self.facts.deleted.extend(folders.iter().chain(&whiteouts).map(|path| Name::new(Path::new(path))));
        }
        // A folder in the place of a deleted one shows nothing of it.
        self.opaque.extend(folders);
        for path in whiteouts {
            self.whiteout(Path::new(&path)).map_err(|source| failed(Path::new(&path), source))?;
        }
        for path in self.opaque.iter().chain(&self.hidden).filter(|path| self.folders.contains_key(*path)) {
            let path = Path::new(path);
            self.tree.folder(path).and_then(|open| opaque(&open)).map_err(|source| failed(path, source))?;
        }
        // What lies within a folder comes before it: nobody may be able to enter it then.
        for (path, folder) in self.folders.iter().rev() {
            let path = Path::new(path);
            let finish = || -> io::Result<()> {
                let open = self.tree.folder(path)?;
                if let Some(time) = folder.time {
                    set_time(&open, time);
                }
                Ok(nix::sys::stat::fchmod(open.as_fd(), Mode::from_bits_truncate(folder.attributes.mode))?)
            };
            finish().map_err(|source| failed(path, source))?;
        }
        for (path, note) in std::mem::take(&mut self.noted) {
            match note {
                Note::Folder => self.facts.folders.push(Name::new(Path::new(&path))),
                Note::LeftOut => self.facts.left_out.push(Name::new(Path::new(&path))),
            }
        }
        Ok(self.facts)
    }

    /// Marks what is deleted below, unless this layer has something there or nothing shows there anyway.
    fn whiteout(&mut self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        // A folder that shows nothing of those below shows whiteouts, though: the kernel looks for them where it merges.
        if !self.has_folder(parent) || self.opaque.contains(parent.as_os_str()) || self.is_hidden(parent) {
            return Ok(());
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        // A device that is none. Anybody may make it since Linux 5.8.
        match nix::sys::stat::mknodat(&self.tree.folder(parent)?, name, SFlag::S_IFCHR, Mode::empty(), 0) {
            Err(nix::Error::EEXIST) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Makes a file, link or pipe where there is nothing.
fn create(kind: &Kind, folder: &OwnedFd, name: &OsStr) -> nix::Result<Option<std::fs::File>> {
    let mode = Mode::from_bits_truncate(0o600);
    match kind {
        Kind::File(_) => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            return nix::fcntl::openat(folder, name, flags, mode).map(|file| Some(file.into()));
        }
        Kind::Symlink(target) => nix::unistd::symlinkat(target.as_path(), folder, name)?,
        Kind::Pipe => nix::sys::stat::mknodat(folder, name, SFlag::S_IFIFO, mode, 0)?,
        Kind::Directory | Kind::Device | Kind::Hardlink(_) => {}
    }
    Ok(None)
}

/// A failure to write, with the limit that the path is over where it is that.
fn failed(path: &Path, source: io::Error) -> Error {
    let reason = match source.raw_os_error() {
        Some(nix::libc::ELOOP) => "it leads through too many links",
        Some(nix::libc::ENAMETOOLONG) => "its path or a name in it is longer than Linux allows",
        None if source.kind() == io::ErrorKind::QuotaExceeded => {
            return Error::TooLarge { limit: "64 MiB of paths".to_owned() };
        }
        _ => return Error::Write { path: shown(path), source },
    };
    Error::Unpack { path: shown(path), reason: reason.to_owned() }
}

/// Writes the content of a file, and leaves holes between its pieces.
fn fill(mut file: &std::fs::File, pieces: &Pieces, content: &mut dyn Read, path: &Path) -> Result<(), Error> {
    let write = |source: io::Error| failed(path, source);
    let mut content = Noting { inner: content, failed: false };
    let mut end = 0;
    for &(offset, length) in &pieces.list {
        if offset != end {
            file.seek(io::SeekFrom::Start(offset)).map_err(write)?;
        }
        let copied = io::copy(&mut (&mut content).take(length), &mut file);
        let copied = copied.map_err(|source| match content.failed {
            true => Error::Read { at: Some(shown(path)), source },
            false => write(source),
        })?;
        if copied < length {
            return Err(Error::Read { at: Some(shown(path)), source: io::ErrorKind::UnexpectedEof.into() });
        }
        // A piece of nothing writes nothing, wherever it is.
        if length > 0 {
            end = offset + length;
        }
    }
    if end != pieces.size {
        file.set_len(pieces.size).map_err(write)?;
    }
    file.flush().map_err(write)
}

/// Gives what is open to its owner.
fn own(open: &OwnedFd, (user, group): (u32, u32)) -> io::Result<()> {
    let (user, group) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(group));
    match nix::unistd::fchownat(open, "", Some(user), Some(group), AtFlags::AT_EMPTY_PATH) {
        // A root of a user namespace in which there is no such user: as for an ordinary user, it stays one's own.
        Err(nix::Error::EINVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// Times are for programs that compare them, as Python does with its bytecode; a file system may have no room for all.
fn set_time(open: &OwnedFd, (seconds, nanoseconds): (i64, u32)) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let _ = rustix::fs::utimensat(open, "", &times, rustix::fs::AtFlags::EMPTY_PATH);
}

/// Marks a folder of which lower layers show nothing: for mounts of ordinary users, and for those of root, who alone
/// can set the other one.
fn opaque(folder: &OwnedFd) -> io::Result<()> {
    use rustix::fs::fsetxattr;
    fsetxattr(folder, "user.overlay.opaque", b"y", XattrFlags::empty())?;
    if nix::unistd::geteuid().is_root() {
        match fsetxattr(folder, "trusted.overlay.opaque", b"y", XattrFlags::empty()) {
            // By root of a user namespace, whose overlays look at the other.
            Err(rustix::io::Errno::PERM) => {}
            set => set?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::forged;
    use super::*;
    use fs_err as fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use tar::EntryType as T;

    fn unpacked(bytes: &[u8], below: Below<'_>) -> (tempfile::TempDir, Result<Facts, Error>) {
        let root = tempfile::tempdir().unwrap();
        let result = unpack_layer(bytes, root.path(), below, Limits::default());
        (root, result)
    }

    #[test]
    fn a_tree_is_for_all_images_in_which_it_comes_out_the_same() {
        let holds = |layer: &[(&str, T, &str)], below: &dyn Fn(&Path)| {
            let (_tree, facts) = unpacked(&forged(layer), Below::Anything);
            let lower = tempfile::tempdir().unwrap();
            below(lower.path());
            facts.unwrap().hold(&Stack::new(&[lower.path().to_owned()]))
        };
        let mode = |path: PathBuf, mode| fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let nothing = |_: &Path| {};
        let folder = |root: &Path| {
            fs::create_dir(root.join("a")).unwrap();
            mode(root.join("a"), 0o755);
        };
        let closed = |root: &Path| {
            folder(root);
            mode(root.join("a"), 0o700);
        };
        let link = |root: &Path| fs_err::os::unix::fs::symlink("b", root.join("a")).unwrap();
        let file = |root: &Path| {
            folder(root);
            fs::write(root.join("a/x"), "").unwrap();
        };
        let implicit: &[_] = &[("a/x", T::Regular, "")];
        let explicit: &[_] = &[("a/", T::Directory, ""), ("a/x", T::Regular, "")];
        let deleted: &[_] = &[("a/", T::Directory, ""), ("a/.wh.x", T::Regular, "")];
        let device: &[_] = &[("a/", T::Directory, ""), ("a/x", T::Char, "")];
        let hard: &[_] = &[("y", T::Link, "a/x")];
        type Case<'a> = (&'a [(&'a str, T, &'a str)], [bool; 5]);
        let cases: [Case<'_>; 5] = [
            (implicit, [true, true, false, false, true]),
            (explicit, [true, true, true, true, true]),
            (deleted, [false, false, false, false, true]),
            (device, [true, true, true, true, false]),
            (hard, [false; 5]),
        ];
        for (layer, expected) in cases {
            let below: [&dyn Fn(&Path); 5] = [&nothing, &folder, &closed, &link, &file];
            assert_eq!(below.map(|below| holds(layer, below)), expected, "{layer:?}");
        }
    }

    #[test]
    fn attributes_are_kept_but_for_those_that_mean_something_here() {
        let mut layer = tar::Builder::new(Vec::new());
        let records: [(&str, &[u8]); 6] = [
            ("SCHILY.xattr.user.colour", b"green\0\n"),
            ("SCHILY.xattr.user.overlay.redirect", b"/secret"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ("mtime", b"1000000000.25"),
        ];
        layer.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o555);
        layer.append_data(&mut header, "f", &b"x"[..]).unwrap();
        let (tree, facts) = unpacked(&layer.into_inner().unwrap(), Below::Anything);
        facts.unwrap();
        let file = tree.path().join("f");
        let mut names = vec![0; 1000];
        let length = rustix::fs::listxattr(&file, &mut names[..]).unwrap();
        let mut names: Vec<_> = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        let capability: &[&[u8]] = &[b"security.capability", b"user.colour"];
        let is_root = nix::unistd::geteuid().is_root();
        assert_eq!(names, if is_root { capability } else { &capability[1..] });
        let mut value = [0; 20];
        let length = rustix::fs::getxattr(&file, "user.colour", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"green\0\n");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_000, 250_000_000));
    }

    #[test]
    fn nothing_leads_out() {
        let cases: &[&[(&str, T, &str)]] = &[
            &[("out", T::Symlink, ".."), ("out/x", T::Regular, "")],
            &[("out", T::Symlink, "/"), ("out/tmp/x", T::Regular, "")],
            &[("out", T::Symlink, "../.."), ("out/.wh.x", T::Regular, ""), ("out/.wh..wh..opq", T::Regular, "")],
            &[("out", T::Symlink, "../../etc"), ("x", T::Link, "out/passwd")],
            &[
                ("a/", T::Directory, ""),
                ("a", T::Symlink, "/etc"),
                ("a/b/", T::Directory, ""),
                ("a/", T::Directory, ""),
            ],
        ];
        for entries in cases {
            let outer = tempfile::tempdir().unwrap();
            let root = outer.path().join("root");
            fs::create_dir(&root).unwrap();
            let _ = unpack_layer(&forged(entries)[..], &root, Below::Layers(&Stack::default()), Limits::default());
            let outside: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(outside, ["root"], "{entries:?}");
        }
    }

    #[test]
    fn paths_in_memory_are_bounded() {
        let mut layer = tar::Builder::new(Vec::new());
        for number in 0..100 {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            // Folders within folders, each with a path of its own that is kept.
            let path = format!("{number}/{}f", format!("{}/", "d".repeat(250)).repeat(15));
            layer.append_data(&mut header, path, &b""[..]).unwrap();
        }
        let (tree, result) = unpacked(&layer.into_inner().unwrap(), Below::Anything);
        assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
        super::super::remove(tree.path()).unwrap();
    }
}
