//! Signals to a foreground command, passed on to its container.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The supervisor that signals go to; 0 for none.
static SUPERVISOR: AtomicI32 = AtomicI32::new(0);
/// The signal that came last; 0 for none.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// While it lives, signals that would end this process go to a container instead. One at a time in a process.
#[derive(Debug)]
pub struct PassedOn {
    before: Vec<(Signal, SigAction)>,
}

impl PassedOn {
    /// The same while there is no container: they are noted, for [`PassedOn::received`].
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn to_nobody() -> io::Result<Self> {
        Self::to(0)
    }

    pub(super) fn to(supervisor: u32) -> io::Result<Self> {
        SUPERVISOR.store(supervisor as i32, Ordering::SeqCst);
        RECEIVED.store(0, Ordering::SeqCst);
        let action = SigAction::new(SigHandler::Handler(pass_on), SaFlags::SA_RESTART, SigSet::empty());
        let mut passed = Self { before: Vec::new() };
        for signal in SIGNALS {
            // SAFETY: the handler does nothing but what signal-safety(7) allows.
            passed.before.push((signal, unsafe { sigaction(signal, &action) }?));
        }
        Ok(passed)
    }

    /// The number of the signal that came last, if one came.
    pub fn received(&self) -> Option<i32> {
        Some(RECEIVED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}

impl Drop for PassedOn {
    fn drop(&mut self) {
        for (signal, action) in &self.before {
            // SAFETY: these are the actions from before.
            let _ = unsafe { sigaction(*signal, action) };
        }
        SUPERVISOR.store(0, Ordering::SeqCst);
    }
}

extern "C" fn pass_on(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::SeqCst);
    let supervisor = SUPERVISOR.load(Ordering::SeqCst);
    if supervisor > 0 {
        // SAFETY: kill(2) may be called in a handler; a failure can be told to nobody here.
        unsafe { libc::kill(supervisor, libc::SIGTERM) };
    }
}
