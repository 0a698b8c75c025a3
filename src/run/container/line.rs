//! A line between two processes of this program, such as the one that it has go into a container: bytes, and open files with
//! them.
//!
//! unix(7), `SCM_RIGHTS`. Files come with the first bytes, and are open for nobody but who receives them.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Files that one message brings: more are not taken.
pub(super) const MOST_FILES: usize = 72;

/// Bytes that one side says: arguments and variables of a program, which the kernel holds to 6 MiB.
const MOST_BYTES: usize = 16 << 20;

/// Says `text`, which is not empty, and hands `files` over.
pub(super) fn send(mut line: &UnixStream, text: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    let sent = rustix::net::sendmsg(line, &[IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    line.write_all(text.get(sent..).unwrap_or_default())
}

/// All that the other side says until it hangs up, and the files that it hands over.
pub(super) fn receive(line: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut text, mut files) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut buffer)];
        let received = match rustix::net::recvmsg(line, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            // It has hung up without reading all that it was told.
            Err(rustix::io::Errno::CONNRESET) => return Ok((text, files)),
            received => received?.bytes,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(brought) = message {
                files.extend(brought);
            }
        }
        if received == 0 {
            return Ok((text, files));
        }
        text.extend_from_slice(buffer.get(..received).unwrap_or_default());
        if text.len() > MOST_BYTES || files.len() > MOST_FILES {
            return Err(io::Error::other("the other side says too much"));
        }
    }
}
