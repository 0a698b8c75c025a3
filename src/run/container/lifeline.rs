//! Children that cannot outlive the supervisor, not even one that is killed.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;

/// The supervisor, as its children know it.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    /// Refers to the process itself, whatever becomes of its number.
    process: Rc<OwnedFd>,
}

impl Supervisor {
    /// This process.
    pub(crate) fn this() -> io::Result<Self> {
        Ok(Self { process: Rc::new(process_handle(std::process::id())?) })
    }

    /// To be called in a child, after its last change of user: from then on it is killed when the supervisor ends.
    ///
    /// # Errors
    /// When the supervisor has ended already.
    pub(crate) fn die_with_it(&self) -> io::Result<()> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended just before.
        if ends_within(&self.process, Duration::ZERO)? {
            return Err(io::Error::other("the supervisor has ended"));
        }
        Ok(())
    }
}

/// A handle to a process (pidfd_open(2), Linux 5.3).
pub(crate) fn process_handle(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and what it returns belongs to nobody else.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, id as libc::pid_t, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Whether a process ends within `time`.
pub(crate) fn ends_within(process: &OwnedFd, time: Duration) -> io::Result<bool> {
    let milliseconds = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
    match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], milliseconds) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal to the very process that the handle is for, or to none if it has ended (pidfd_send_signal(2)).
pub(crate) fn send_signal(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the kernel takes the null pointer as the information that kill(2) would send.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, no_info, 0) };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
