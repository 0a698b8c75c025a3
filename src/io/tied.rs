//! Programs that do not outlive this one, however it ends.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Has the kernel end what `command` starts when the thread that starts it ends.
pub fn tied(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let tie = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended before that.
        match nix::unistd::getppid().as_raw() as u32 == parent {
            true => Ok(()),
            false => Err(io::Error::from(Errno::ESRCH)),
        }
    };
    // SAFETY: between fork and exec, prctl(2) and getppid(2) are safe to call.
    unsafe { command.pre_exec(tie) }
}
