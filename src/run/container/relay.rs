//! Bytes on their way between the host's open files and those of a program in a container, which has none of the host's.
//!
//! One thread goes to and fro, so that nothing is read that nobody takes any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::signals::Heard;
use nix::sys::signal::Signal;

/// As much as a pipe takes without waiting when it takes anything (pipe(7), PIPE_BUF).
const PIECE: usize = 4096;

/// One direction. A side that is over is closed, and the other learns of it.
#[derive(Debug)]
pub(super) struct Flow {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    waiting: Vec<u8>,
    last_words: &'static [u8],
}

impl Flow {
    pub(super) fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from: Some(from), to: Some(to), waiting: Vec::new(), last_words: &[] }
    }

    /// The same that says `words` when `from` has said all: a terminal's other side sees no end otherwise.
    pub(super) fn with_last_words(self, words: &'static [u8]) -> Self {
        Self { last_words: words, ..self }
    }

    /// What it waits for.
    fn wants(&self) -> Option<PollFd<'_>> {
        match (&self.from, &self.to) {
            (_, Some(to)) if !self.waiting.is_empty() => Some(PollFd::new(to.as_fd(), PollFlags::POLLOUT)),
            (Some(from), Some(_)) => Some(PollFd::new(from.as_fd(), PollFlags::POLLIN)),
            _ => None,
        }
    }

    /// Does what it has waited for. Returns whether there was anything to do.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(to) = &self.to else { return Ok(false) };
        if !self.waiting.is_empty() {
            match nix::unistd::write(to, self.waiting.get(..PIECE).unwrap_or(&self.waiting)) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
                // Nobody takes any more; whoever wrote it shall learn that from its own pipe.
                Err(Errno::EPIPE | Errno::EIO) => {
                    self.waiting.clear();
                    (self.from, self.to) = (None, None);
                }
                Err(error) => return Err(error.into()),
            }
        } else if let Some(from) = &self.from {
            self.waiting.resize(64 << 10, 0);
            let read = nix::unistd::read(from, &mut self.waiting);
            self.waiting.truncate(read.unwrap_or(0));
            match read {
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
                // A terminal without programs fails so.
                Ok(0) | Err(Errno::EIO) => {
                    self.from = None;
                    self.waiting.extend_from_slice(std::mem::take(&mut self.last_words));
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.from.is_none() && self.waiting.is_empty() {
            self.to = None;
        }
        Ok(true)
    }
}

/// Moves bytes until `process` has ended, and after that what it has left. `told` learns of signals.
pub(super) fn relay(
    flows: &mut [Flow],
    process: &OwnedFd,
    signals: &mut Heard,
    mut told: impl FnMut(Signal) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let mut waiting =
            vec![PollFd::new(process.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        waiting.extend(flows.iter().filter_map(Flow::wants));
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready: Vec<bool> = waiting.iter().map(|one| one.any().unwrap_or(false)).collect();
        let mut ready = ready.drain(..);
        let has_ended = ready.next().unwrap_or(false);
        let is_told = ready.next().unwrap_or(false);
        for flow in flows.iter_mut() {
            if flow.wants().is_some() && ready.next().unwrap_or(false) {
                flow.go_on()?;
            }
        }
        if is_told {
            signals.take().into_iter().try_for_each(&mut told)?;
        }
        if has_ended {
            return Ok(());
        }
    }
}

/// Moves what is there, and waits for nothing more to come: others may have the other end too, and go on for ever.
pub(super) fn drain(flow: &mut Flow) -> io::Result<()> {
    /// As much as an ordinary user's pipe can hold, in bytes.
    const MOST: usize = 1 << 20;
    let mut moved = 0;
    while moved < MOST && flow.go_on()? {
        moved += flow.waiting.len();
        while !flow.waiting.is_empty() {
            let wanted = flow.wants();
            match poll(wanted.into_iter().collect::<Vec<_>>().as_mut_slice(), PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            flow.go_on()?;
        }
    }
    Ok(())
}

/// From now on reading and writing do not wait.
pub(super) fn never_wait(file: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
