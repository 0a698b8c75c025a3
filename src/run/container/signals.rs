//! Signals to a foreground command: passed on to its container, or heard by what stands between it and a person.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction, signal};
use nix::unistd::pipe2;

/// The supervisor that signals go to, as a handle: whoever gets its number later is not meant. Negative for none.
static SUPERVISOR: AtomicI32 = AtomicI32::new(-1);
/// What it is told.
static TOLD: AtomicI32 = AtomicI32::new(0);
/// The signal that came last; 0 for none.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
/// Where signals are told of while they are heard; negative for nowhere.
static HEARING: AtomicI32 = AtomicI32::new(-1);

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// What is done about some signals, until it is dropped: then, what was done before.
#[derive(Debug)]
struct Actions {
    before: Vec<(Signal, SigAction)>,
}

impl Actions {
    /// `handler` does nothing but what signal-safety(7) allows.
    fn set(signals: &[Signal], handler: extern "C" fn(libc::c_int)) -> io::Result<Self> {
        let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
        let mut actions = Self { before: Vec::new() };
        for signal in signals {
            // SAFETY: the handler is one that may be called at any time.
            actions.before.push((*signal, unsafe { sigaction(*signal, &action) }?));
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        for (signal, action) in &self.before {
            // SAFETY: these are the actions from before.
            let _ = unsafe { sigaction(*signal, action) };
        }
    }
}

/// Tells a supervisor that its container may end in its own time.
pub(super) const PATIENT: Signal = Signal::SIGTERM;
/// Tells it that nobody needs any more what the container has in hand.
pub(super) const HASTY: Signal = Signal::SIGINT;

/// While it lives, signals that would end this process go to a container instead, which then has [`super::HASTE`] to end, or
/// its own time where that is allowed. One at a time in a process.
#[derive(Debug)]
pub struct PassedOn {
    actions: Option<Actions>,
    supervisor: Option<OwnedFd>,
}

impl PassedOn {
    /// The same while there is no container: they are noted, for [`PassedOn::received`].
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn to_nobody() -> io::Result<Self> {
        Self::to(None)
    }

    pub(super) fn to(supervisor: Option<OwnedFd>) -> io::Result<Self> {
        SUPERVISOR.store(supervisor.as_ref().map_or(-1, AsRawFd::as_raw_fd), Ordering::SeqCst);
        TOLD.store(HASTY as i32, Ordering::SeqCst);
        RECEIVED.store(0, Ordering::SeqCst);
        Ok(Self { actions: Some(Actions::set(&SIGNALS, pass_on)?), supervisor })
    }

    /// From now on the container may end in its own time.
    pub fn be_patient(&self) {
        TOLD.store(PATIENT as i32, Ordering::SeqCst);
    }

    /// Signals to this process do what they did before. Those that came until now are known.
    pub fn end(&mut self) {
        drop(self.actions.take());
        SUPERVISOR.store(-1, Ordering::SeqCst);
        drop(self.supervisor.take());
    }

    /// The number of the signal that came last, if one came.
    pub fn received(&self) -> Option<i32> {
        Some(RECEIVED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}

impl Drop for PassedOn {
    fn drop(&mut self) {
        self.end();
    }
}

extern "C" fn pass_on(number: libc::c_int) {
    RECEIVED.store(number, Ordering::SeqCst);
    let supervisor = SUPERVISOR.load(Ordering::SeqCst);
    if supervisor >= 0 {
        let (told, no_info) = (TOLD.load(Ordering::SeqCst), std::ptr::null::<libc::siginfo_t>());
        let errno = nix::errno::Errno::last();
        // SAFETY: as kill(2), which may be called in a handler; a failure can be told to nobody here.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, supervisor, told, no_info, 0) };
        errno.set();
    }
}

/// Ends this process as the signal of this number does that nobody handles: so whoever started it learns of it, and a shell
/// that is in a loop ends that. Returns where it is no signal that ends a process.
pub fn end_by(number: i32) {
    let Ok(number) = Signal::try_from(number) else { return };
    // SAFETY: the default action runs no code of this process.
    let _ = unsafe { signal(number, SigHandler::SigDfl) }.and_then(|_| raise(number));
}

/// While it lives, some signals to this process come out of a pipe. One at a time in a process.
#[derive(Debug)]
pub(super) struct Heard {
    actions: Option<Actions>,
    pipe: io::PipeReader,
}

impl Heard {
    pub(super) fn start(signals: &[Signal]) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        HEARING.store(writer.into_raw_fd(), Ordering::SeqCst);
        Ok(Self { actions: Some(Actions::set(signals, hear)?), pipe: reader.into() })
    }

    /// Those that came since the last time.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        let mut numbers = [0; 64];
        let count = self.pipe.read(&mut numbers).unwrap_or(0);
        let numbers = numbers.into_iter().take(count);
        numbers.filter_map(|number| Signal::try_from(i32::from(number)).ok()).collect()
    }
}

impl AsFd for Heard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        drop(self.actions.take());
        let writer = HEARING.swap(-1, Ordering::SeqCst);
        // SAFETY: it was opened for this, and no handler knows it any more.
        let _ = unsafe { libc::close(writer) };
    }
}

extern "C" fn hear(signal: libc::c_int) {
    let (pipe, number) = (HEARING.load(Ordering::SeqCst), signal as u8);
    let errno = nix::errno::Errno::last();
    // SAFETY: write(2) may be called in a handler; where the pipe is full, as many signals wait as anybody needs.
    unsafe { libc::write(pipe, (&raw const number).cast(), 1) };
    errno.set();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_until_the_end_is_known_and_what_comes_after_is_not_caught() {
        let is_caught = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() >> (Signal::SIGHUP as u32 - 1) & 1 == 1
        };
        let mut passed = PassedOn::to_nobody().unwrap();
        assert_eq!((passed.received(), is_caught()), (None, true));
        raise(Signal::SIGHUP).unwrap();
        passed.end();
        assert_eq!((passed.received(), is_caught()), (Some(Signal::SIGHUP as i32), false));
    }
}
