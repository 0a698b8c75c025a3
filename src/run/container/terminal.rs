//! Terminals: the person's, and one of the container's own that stands for it there.
//!
//! pty(7), termios(3), `TIOCGPTPEER` in ioctl_tty(2). What runs in a container never has the person's terminal open: it
//! could read what is typed elsewhere, and change how it behaves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use serde::{Deserialize, Serialize};

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    rows: u16,
    columns: u16,
}

impl Size {
    /// That of the first of these which is a terminal; else that of terminals long ago.
    pub(crate) fn of_first(files: &[BorrowedFd<'_>]) -> Self {
        let known = files.iter().find_map(|file| tcgetwinsize(file).ok()).filter(|size| size.ws_row > 0);
        known.map_or(Self { rows: 24, columns: 80 }, |size| Self { rows: size.ws_row, columns: size.ws_col })
    }

    /// Gives it to a terminal: its programs get SIGWINCH.
    pub(super) fn set(self, terminal: impl AsFd) -> io::Result<()> {
        let size = Winsize { ws_row: self.rows, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(terminal, size)?)
    }
}

/// The person's terminal while all that they type goes to a program elsewhere, Ctrl-C with the rest. As it was before
/// when it is dropped.
#[derive(Debug)]
pub(super) struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Nothing where `file` is no terminal.
    pub(super) fn of(file: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        if !isatty(file) {
            return Ok(None);
        }
        let raw = Self { terminal: file.try_clone_to_owned()?, before: tcgetattr(file)? };
        let mut mode = raw.before.clone();
        mode.make_raw();
        tcsetattr(&raw.terminal, OptionalActions::Now, &mode)?;
        Ok(Some(raw))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// A new terminal of the container that this process is in, as the person's side and the program's. The latter belongs to
/// the user that this process runs as.
///
/// # Errors
/// When what lies in the place of the kernel's terminals is something else.
pub(crate) fn make(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    // What lies there is the container's. It is neither waited for nor followed, and no device of the host's could be
    // there: nothing is mounted with devices.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let master = openat2(AT_FDCWD, "/dev/pts/ptmx", how)?;
    let found = fstat(&master)?;
    let is_device = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    // Linux Documentation/admin-guide/devices.txt; only the kernel makes files in this file system.
    let is_ptmx = is_device && (major(found.st_rdev), minor(found.st_rdev)) == (5, 2);
    if !is_ptmx || fstatfs(&master)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        return Err(io::Error::other("/dev/pts/ptmx is not the kernel's"));
    }
    unlockpt(&master)?;
    // By no path, which the container could have put something else at.
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    size.set(&master)?;
    Ok((master, slave))
}
