//! Unpacked layers, looked at as if they lay over each other: as the kernel's overlay file system shows them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use fs_err as fs;

/// How many links one path may lead through: as the kernel has it.
const MOST_LINKS: usize = 40;

/// Folders with unpacked layers. Nobody writes to them.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// The uppermost first.
    trees: Vec<PathBuf>,
}

impl Stack {
    /// Of `trees`, the lowest first.
    pub fn new(trees: &[PathBuf]) -> Self {
        Self { trees: trees.iter().rev().cloned().collect() }
    }

    /// The folders, the uppermost first.
    pub fn trees(&self) -> &[PathBuf] {
        &self.trees
    }

    /// Where the uppermost entry at `path` lies, unless it was deleted or its folder was. No link is followed: there is
    /// nothing below one.
    pub fn entry(&self, path: &Path) -> Option<PathBuf> {
        for tree in &self.trees {
            match seen(tree, path) {
                Seen::There(real) => return Some(real),
                Seen::Hidden => return None,
                Seen::Through => {}
            }
        }
        None
    }

    /// Whether the layers hide what lies at `path` below them.
    pub fn hides(&self, path: &Path) -> bool {
        self.trees.iter().any(|tree| !matches!(seen(tree, path), Seen::Through))
    }

    /// Where `path`, from the root, leads to, through links and as within the image; and where that lies.
    pub fn find(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let mut walk = Walk::new(path);
        while let Some(at) = walk.step() {
            let real = self.entry(at)?;
            if real.is_symlink() {
                walk.follow(&fs::read_link(&real).ok()?).ok()?;
            }
        }
        let place = walk.into_place();
        let real = self.entry(&place)?;
        Some((place, real))
    }

    /// Permission bits and owner of the folder that is shown at `path`; none where there is none.
    pub(super) fn folder(&self, path: &Path) -> Option<(u32, (u32, u32))> {
        let metadata = fs::symlink_metadata(self.entry(path)?).ok().filter(std::fs::Metadata::is_dir)?;
        Some((metadata.mode() & 0o7777, (metadata.uid(), metadata.gid())))
    }
}

/// What one layer says of a path.
enum Seen {
    There(PathBuf),
    /// It deletes it, or has something else in the place of a folder above.
    Hidden,
    /// What is below shows.
    Through,
}

fn seen(tree: &Path, path: &Path) -> Seen {
    let mut real = tree.to_owned();
    let mut opaque = false;
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        opaque |= is_opaque(&real);
        real.push(name);
        let Ok(metadata) = fs::symlink_metadata(&real) else {
            return if opaque { Seen::Hidden } else { Seen::Through };
        };
        if metadata.file_type().is_char_device() || names.peek().is_some() && !metadata.is_dir() {
            return Seen::Hidden;
        }
    }
    Seen::There(real)
}

/// Whether lower layers show nothing in a folder.
pub fn is_opaque(folder: &Path) -> bool {
    rustix::fs::getxattr(folder, "user.overlay.opaque", &mut [0u8; 1][..]).is_ok()
}

/// A way from the root of an image, name by name, that follows links and never leaves. Whoever goes it knows what lies
/// at each place.
pub struct Walk {
    todo: Vec<OsString>,
    /// Where it is.
    at: PathBuf,
    links: usize,
}

impl Walk {
    /// The way to `path`, from the root.
    pub fn new(path: &Path) -> Self {
        let mut walk = Self { todo: Vec::new(), at: PathBuf::new(), links: 0 };
        walk.push(path);
        walk
    }

    fn push(&mut self, path: &Path) {
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
            _ => None,
        });
        self.todo.extend(names);
    }

    /// Goes to the next name; none at the end.
    pub fn step(&mut self) -> Option<&Path> {
        loop {
            let name = self.todo.pop()?;
            if name != ".." {
                self.at.push(name);
                return Some(&self.at);
            }
            self.at.pop();
        }
    }

    /// The place that was just gone to is a link to `target`.
    ///
    /// # Errors
    /// When there were more links than the kernel follows.
    pub fn follow(&mut self, target: &Path) -> io::Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
        }
        match target.is_absolute() {
            true => self.at.clear(),
            false => drop(self.at.pop()),
        }
        self.push(target);
        Ok(())
    }

    /// Where it led to.
    pub fn into_place(self) -> PathBuf {
        self.at
    }
}
