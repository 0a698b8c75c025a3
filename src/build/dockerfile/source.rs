//! Where files that are copied come from: a folder of the person's, or what layers show.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::io::archive::{Node, View, Walk};

/// Says of a path from a context's root whether it is no part of the context.
pub type LeftOut<'a> = &'a (dyn Fn(&Path) -> bool + Sync);

/// Where files come from. Nothing outside its root is ever read, whatever links say.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A folder, but for what is left out of it.
    Context {
        /// It.
        root: &'a Path,
        /// What is none of it.
        is_left_out: LeftOut<'a>,
    },
    /// What layers show.
    View(&'a View),
}

/// What lies at a place of a source.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is; the file's bytes are in `origin`.
    pub node: Node,
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// Owner and group; root's, where it comes from a person's folder.
    pub owner: (u32, u32),
    /// Extended attributes; none, where it comes from a person's folder.
    pub attributes: Vec<(String, Vec<u8>)>,
    /// Where a file's bytes are.
    pub origin: Origin,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In this file.
    File(PathBuf),
    /// In a layer of the view, as the member of that number.
    Member(usize, usize),
}

impl Source<'_> {
    /// Where `path` leads to, through links and inside the root.
    ///
    /// # Errors
    /// When it leads through more links than the kernel follows, or a folder cannot be read.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match self {
            Self::View(view) => view.resolve(path),
            Self::Context { root, .. } => {
                let mut walk = Walk::new(path);
                while let Some(at) = walk.step() {
                    let real = root.join(at);
                    if real.is_symlink() {
                        walk.follow(&fs::read_link(real)?)?;
                    }
                }
                Ok(walk.into_place())
            }
        }
    }

    /// What lies at `path`, which leads through no link.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        match self {
            Self::View(view) => {
                let root = || {
                    let (mode, owner) = view.root();
                    Found { node: Node::Folder, mode, owner, attributes: Vec::new(), origin: Origin::Member(0, 0) }
                };
                if path.as_os_str().is_empty() {
                    return Ok(Some(root()));
                }
                Ok(view.entry(path).map(|place| {
                    let origin = Origin::Member(place.content.0, place.content.1);
                    let attributes = place.attributes.clone();
                    Found { node: place.node.clone(), mode: place.mode, owner: place.owner, attributes, origin }
                }))
            }
            Self::Context { root, is_left_out } => {
                if !path.as_os_str().is_empty() && is_left_out(path) {
                    return Ok(None);
                }
                let real = root.join(path);
                let metadata = match fs::symlink_metadata(&real) {
                    Ok(metadata) => metadata,
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                };
                let kind = metadata.file_type();
                let node = match () {
                    () if kind.is_dir() => Node::Folder,
                    () if kind.is_file() => Node::File(metadata.len()),
                    () if kind.is_symlink() => Node::Link(fs::read_link(&real)?),
                    () if kind.is_fifo() => Node::Pipe,
                    () => return Ok(None),
                };
                let mode = metadata.mode() & 0o7777;
                Ok(Some(Found { node, mode, owner: (0, 0), attributes: Vec::new(), origin: Origin::File(real) }))
            }
        }
    }

    /// The names in the folder `path`, in order. In a context, also those that are left out: what is in such a folder may
    /// not be.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self, path: &Path) -> io::Result<BTreeSet<OsString>> {
        match self {
            Self::View(view) => {
                let within = view.below(path).filter(|(at, _)| at.parent() == Some(path));
                Ok(within.filter_map(|(at, _)| at.file_name().map(OsString::from)).collect())
            }
            Self::Context { root, .. } => {
                fs::read_dir(root.join(path))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()
            }
        }
    }

    /// Whether there is a folder at `path`, part of the source or not.
    pub fn is_folder(&self, path: &Path) -> bool {
        match self {
            Self::View(_) => self.find(path).is_ok_and(|found| found.is_some_and(|found| found.node == Node::Folder)),
            Self::Context { root, .. } => fs::symlink_metadata(root.join(path)).is_ok_and(|metadata| metadata.is_dir()),
        }
    }
}
