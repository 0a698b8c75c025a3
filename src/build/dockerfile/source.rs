//! Where files that are copied come from: a folder of the person's, or what layers show.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::formats::dockerfile::Ignore;
use crate::io::archive::{Node, Place, View, Walk};
use crate::io::content::Content;

/// Where files come from. Nothing outside its root is ever read, whatever links say.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A folder, but for what is left out of it.
    Context {
        /// It: absolute, and through no link.
        root: &'a Path,
        /// What is none of it.
        ignore: &'a Ignore,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There, as it was when it was looked at.
    Content(Content),
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
            Self::Context { root, ignore } => {
                if !path.as_os_str().is_empty() && ignore.is_left_out(&path.to_string_lossy()) {
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
                let origin = Origin::Content(Content::looked_at(real, &metadata));
                Ok(Some(Found { node, mode, owner: (0, 0), attributes: Vec::new(), origin }))
            }
        }
    }

    /// The names in the folder `path`, in order, and whether each is a folder's. In a context, also those of folders that
    /// are left out while something in them is not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self, path: &Path) -> io::Result<BTreeMap<OsString, bool>> {
        match self {
            Self::View(view) => {
                let name = |(name, place): (&OsStr, &Place)| (name.to_owned(), place.node == Node::Folder);
                Ok(view.names(path).map(name).collect())
            }
            Self::Context { root, ignore } => {
                let mut names = BTreeMap::new();
                for entry in fs::read_dir(root.join(path))? {
                    let entry = entry?;
                    let name = entry.file_name();
                    if !ignore.is_left_out_as_a_whole(&path.join(&name).to_string_lossy()) {
                        names.insert(name, entry.file_type()?.is_dir());
                    }
                }
                Ok(names)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_left_out_as_a_whole_are_not_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["data/kept", "data/more", "src"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let names = |rules: &str, path: &str| {
            let ignore = Ignore::read(rules).unwrap();
            let names = Source::Context { root, ignore: &ignore }.names(Path::new(path)).unwrap();
            names.into_keys().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names("data", ""), ["src"]);
        assert_eq!(names("data\n!data/kept/x", ""), ["data", "src"]);
        assert_eq!(names("data\n!data/kept/x", "data"), ["kept"]);
        assert_eq!(names("*\n!**/x", "data"), ["kept", "more"]);
    }
}
