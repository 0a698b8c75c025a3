//! Folders of the host: open before a process is within, where it may not look for them, and roots that are made of them.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::io::archive::Attributes;
use crate::io::ids;

/// Folders and files of the host, for later.
pub(super) fn open_all(paths: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let open = |path: &PathBuf| {
        open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|error| io::Error::other(format!("{} cannot be opened: {}", path.display(), error.desc())))
    };
    paths.iter().map(open).collect()
}

/// Paths to what is open.
pub(super) fn paths(open: &[OwnedFd]) -> Vec<PathBuf> {
    open.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into()).collect()
}

/// Gives a folder that is a root the mode and owner that the layers have for it.
pub(super) fn dress(root: &Path, attributes: Option<Attributes>) -> io::Result<()> {
    if let Some(attributes) = attributes.filter(|_| ids::has_others()) {
        chown(root, Some(attributes.owner.0), Some(attributes.owner.1))?;
    }
    fs::set_permissions(root, PermissionsExt::from_mode(attributes.map_or(0o755, |root| root.mode)))
}
