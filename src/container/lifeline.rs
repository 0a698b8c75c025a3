//! Children that cannot outlive the supervisor, not even one that is killed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::Signal;

/// The supervisor, as its children know it.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    /// Refers to the process itself, whatever becomes of its number.
    process: std::rc::Rc<OwnedFd>,
}

impl Supervisor {
    /// This process.
    pub(super) fn this() -> io::Result<Self> {
        Ok(Self { process: std::rc::Rc::new(process_handle(std::process::id())?) })
    }

    /// To be called in a child, after its last change of user: from then on it is killed when the supervisor ends.
    ///
    /// # Errors
    /// When the supervisor has ended already.
    pub(super) fn die_with_it(&self) -> io::Result<()> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended just before.
        if has_ended(self.process.as_raw_fd())? {
            return Err(io::Error::other("the supervisor has ended"));
        }
        Ok(())
    }
}

/// A handle to a process (pidfd_open(2), Linux 5.3).
pub(super) fn process_handle(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and what it returns belongs to nobody else.
    unsafe {
        let fd = nix::errno::Errno::result(libc::syscall(libc::SYS_pidfd_open, id as libc::pid_t, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

fn has_ended(process: RawFd) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: process, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure is passed, and said to be one.
    let ready = nix::errno::Errno::result(unsafe { libc::poll(&mut poll, 1, 0) })?;
    Ok(ready > 0)
}
