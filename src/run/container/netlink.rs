//! Requests to the kernel about the devices of the network namespace that this process is in.
//!
//! netlink(7), rtnetlink(7).

use std::io;
use std::net::IpAddr;
use std::os::fd::{FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// A message that grows: attributes are padded to four bytes.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// One that begins with `header`.
    pub(crate) fn with_header(header: Vec<u8>) -> Self {
        Self(header)
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.begin(kind);
        self.append(value);
        self.end(start);
    }

    /// Begins an attribute that holds others, and is ended with what this returns.
    pub(crate) fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.append(&[0, 0]);
        self.append(&kind.to_ne_bytes());
        start
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn end(&mut self, start: usize) {
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A new socket, closed for programs that are started.
pub(crate) fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers, and what it returns belongs to nobody else.
    unsafe {
        let fd = Errno::result(libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Asks the kernel, and waits for its answer.
pub(crate) fn request(kind: u16, flags: u16, payload: &Message) -> io::Result<()> {
    let netlink = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let header = size_of::<libc::nlmsghdr>();
    let mut text = ((header + payload.0.len()) as u32).to_ne_bytes().to_vec();
    text.extend_from_slice(&kind.to_ne_bytes());
    text.extend_from_slice(&flags.to_ne_bytes());
    text.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    text.extend_from_slice(&payload.0);
    rustix::net::send(&netlink, &text, rustix::net::SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (length, _) = rustix::net::recv(&netlink, &mut answer[..], rustix::net::RecvFlags::empty())?;
    let error = answer[..length].get(header..header + 4).and_then(|bytes| bytes.first_chunk().copied());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel gives no answer")),
    }
}

/// Flags of a request that makes something new.
pub(crate) const NEW: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// Makes `address` one of the loopback interface's, so that what is sent to it stays here.
pub(super) fn add_to_loopback(address: IpAddr) -> io::Result<()> {
    const IFA_F_NODAD: u8 = 2;
    // SAFETY: the call reads the name.
    let index = unsafe { libc::if_nametoindex(c"lo".as_ptr()) };
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    // `struct ifaddrmsg`: family, bits of the prefix, flags, scope (the host's own), number of the interface.
    let mut header = vec![family as u8, (bytes.len() * 8) as u8, IFA_F_NODAD, libc::RT_SCOPE_HOST];
    header.extend_from_slice(&index.to_ne_bytes());
    let mut message = Message::with_header(header);
    message.attribute(libc::IFA_LOCAL, &bytes);
    message.attribute(libc::IFA_ADDRESS, &bytes);
    match request(libc::RTM_NEWADDR, NEW, &message) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
