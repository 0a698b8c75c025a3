//! A folder of files that somebody else named: opened beneath its root, and removed whatever its modes are.
//!
//! Invariant: no link is followed, and nothing outside the folder is touched. The kernel holds both (`openat2` with
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, Dir, FileType, Stat};

use crate::io::ids;

/// An open folder and all below it.
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// # Errors
    /// When there is no folder at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = fs_err::File::open(path)?.into_parts().0;
        match file.metadata()?.is_dir() {
            true => Ok(Self { root: file.into() }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The folder at `path` below the root; the root itself where it is empty.
    pub(super) fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// What is at `path`, a link as itself.
    pub(super) fn entry(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)
    }

    /// What the entry at `path` is; none where there is nothing.
    pub(super) fn look(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.entry(path) {
            Ok(entry) => Ok(Some(rustix::fs::fstat(entry)?)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The target of the link at `path`.
    pub(super) fn link(&self, path: &Path) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(self.entry(path)?, "", Vec::new())?;
        Ok(OsStr::from_bytes(target.to_bytes()).into())
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(openat2(&self.root, path, how)?)
    }

    /// Removes what is at `path` with all that is in it; gives the number of files and their bytes. It holds as few
    /// folders open as there can be, however deep they are.
    pub(super) fn remove(&self, path: &Path) -> io::Result<(u64, u64)> {
        let mut removed = (0, 0);
        let Some(stat) = self.look(path)? else { return Ok(removed) };
        let mut folders = Vec::new();
        let mut todo = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => vec![path.to_owned()],
            _ => {
                self.unlink(path, false)?;
                return Ok((1, stat.st_size.unsigned_abs()));
            }
        };
        while let Some(folder) = todo.pop() {
            // It belongs to a user of a namespace of this user's.
            if self.is_anothers(&folder)
                && let (parent, name) = self.parent(&folder)?
                && let Ok((files, bytes)) = ids::remove(parent, name)
            {
                removed = (removed.0 + files, removed.1 + bytes);
                continue;
            }
            let open = self.writable(&folder)?;
            for entry in Dir::read_from(&open)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let stat = rustix::fs::statat(&open, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    todo.push(folder.join(OsStr::from_bytes(name)));
                } else {
                    rustix::fs::unlinkat(&open, entry.file_name(), AtFlags::empty())?;
                    removed = (removed.0 + 1, removed.1 + stat.st_size.unsigned_abs());
                }
            }
            folders.push(folder);
        }
        // Those within come behind those around them.
        for folder in folders.iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            self.unlink(folder, true)?;
        }
        Ok(removed)
    }

    /// A folder whose entries can be removed, also by an ordinary user who owns it.
    fn writable(&self, path: &Path) -> io::Result<OwnedFd> {
        let all = Mode::S_IRWXU;
        if let Ok(open) = self.folder(path) {
            let mode = Mode::from_bits_truncate(rustix::fs::fstat(&open)?.st_mode);
            if !mode.contains(all) {
                nix::sys::stat::fchmod(open.as_fd(), mode | all)?;
            }
            return Ok(open);
        }
        // Nobody may read it: it is changed through its parent, of which no link leads away.
        let (parent, name) = self.parent(path)?;
        nix::sys::stat::fchmodat(&parent, name, all, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
        self.folder(path)
    }

    fn is_anothers(&self, path: &Path) -> bool {
        let (me, owner) = (nix::unistd::geteuid(), self.look(path).ok().flatten().map(|stat| stat.st_uid));
        !me.is_root() && owner.is_some_and(|owner| owner != me.as_raw())
    }

    fn unlink(&self, path: &Path, is_folder: bool) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(parent, name, flags)?)
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

/// Removes what is at `path` with all that is in it, also folders that their owner may not write to. Gives the number
/// of files in it and their bytes. What is not there is no error. What belongs to users of a namespace of this user's is
/// removed within it ([`ids`]).
///
/// # Errors
/// When somebody else owns a part of it, or writes to it at the same time.
pub fn remove(path: &Path) -> io::Result<(u64, u64)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{} cannot be removed: {error}", path.display()));
    match Tree::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((0, 0)),
        parent => parent?.remove(Path::new(name)).map_err(named),
    }
}

/// Bytes of the files at `path`, as [`remove`] would count them. What cannot be looked into counts for nothing.
pub fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs_err::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs_err::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_nobody_may_read_is_removed_and_what_links_lead_to_is_not() {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("tree");
        let deep = (0..1500).fold(tree.clone(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f"), "1234").unwrap();
        fs::create_dir(home.path().join("kept")).unwrap();
        fs::write(home.path().join("kept/f"), "").unwrap();
        symlink("../kept", tree.join("l")).unwrap();
        fs::create_dir(tree.join("closed")).unwrap();
        fs::write(tree.join("closed/f"), "").unwrap();
        fs::set_permissions(tree.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(remove(&tree).unwrap(), (3, 4 + "../kept".len() as u64));
        assert!(!tree.exists() && home.path().join("kept/f").exists());
        assert_eq!(remove(&tree).unwrap(), (0, 0));
    }
}
