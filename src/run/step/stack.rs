//! A command's packets, as streams and datagrams: RFC 791, 768, and TCP as smoltcp has it.
//!
//! It answers for all addresses. A connection is made only once somebody has accepted it, and refused as by a machine where
//! nobody listens. Nothing but what comes from [`ADDRESS`] is looked at; pieces of packets and all other protocols are
//! dropped. A packet that cannot be sent is one that is lost, which is sent again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::libc;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{self, RecvError, State};
use smoltcp::time::Instant;
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket, UdpRepr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};

use super::link::{self, ADDRESS, GATEWAY};

/// Bytes on their way in one direction of a connection.
const BUFFER: usize = 256 << 10;

/// Datagrams of one sender that wait to be sent on.
const WAITING: usize = 64;

/// How long a connection that nobody uses any more may take to end.
const LINGER: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// Packets that are read before they are looked at.
const BATCH: usize = 64;

/// Hops that a packet may take, of which there is one.
const HOPS: u8 = 64;

/// What the command wants of the network.
pub(super) enum Wanted {
    /// A connection.
    Stream(Asked),
    /// To send datagrams, and be answered.
    Datagrams(Datagrams),
}

impl Wanted {
    /// Where to.
    pub(super) fn to(&self) -> SocketAddr {
        match self {
            Self::Stream(asked) => asked.way.to.into(),
            Self::Datagrams(datagrams) => datagrams.way.to.into(),
        }
    }
}

/// The port of the command's, and where it sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way {
    port: u16,
    to: SocketAddrV4,
}

/// The packets of a command.
pub(super) struct Stack {
    packets: AsyncFd<OwnedFd>,
    shared: Arc<Shared>,
}

/// What all streams are part of.
struct Shared {
    core: Mutex<Core>,
    /// A stream has something to send, or room again.
    changed: Notify,
}

struct Core {
    interface: Interface,
    device: Device,
    sockets: SocketSet<'static>,
    /// Connections that somebody is asked for or that there are.
    streams: HashMap<Way, Option<SocketHandle>>,
    senders: HashMap<Way, mpsc::Sender<Vec<u8>>>,
    /// Connections that nobody uses any more.
    ending: Vec<(Way, SocketHandle)>,
    wanted: VecDeque<Wanted>,
}

impl Stack {
    /// For the packets of the socket `packets`. To be called within a runtime.
    pub(super) fn new(packets: OwnedFd) -> io::Result<Self> {
        let destination = link::destination(&packets)?;
        let mut device =
            Device { packets: packets.try_clone()?, destination, arrived: VecDeque::new(), sent: Vec::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = fastrand::u64(..);
        let mut interface = Interface::new(config, &mut device, Instant::now());
        interface.update_ip_addrs(|own| {
            let _ = own.push(IpCidr::new(GATEWAY.into(), 24));
        });
        // All addresses are reached through itself, and so are its own.
        interface.set_any_ip(true);
        let _ = interface.routes_mut().add_default_ipv4_route(GATEWAY);
        let core = Core {
            interface,
            device,
            sockets: SocketSet::new(Vec::new()),
            streams: HashMap::new(),
            senders: HashMap::new(),
            ending: Vec::new(),
            wanted: VecDeque::new(),
        };
        // SAFETY: what is registered owns its file, and names no other.
        let packets = unsafe { AsyncFd::register_with_interest(packets, tokio::io::Interest::READABLE)? };
        Ok(Self { packets, shared: Arc::new(Shared { core: Mutex::new(core), changed: Notify::new() }) })
    }

    /// What the command wants next. Streams move on only while this is waited for.
    ///
    /// # Errors
    /// When packets cannot be read any more.
    pub(super) async fn next(&self) -> io::Result<Wanted> {
        let mut packet = vec![0; usize::from(u16::MAX)];
        loop {
            let pause = {
                let mut core = self.shared.core();
                let pause = core.poll();
                if let Some(wanted) = core.wanted.pop_front() {
                    return Ok(wanted);
                }
                pause
            };
            tokio::select! {
                ready = self.packets.readable() => {
                    let mut ready = ready?;
                    let mut core = self.shared.core();
                    for _ in 0..BATCH {
                        match ready.try_io(|packets| Ok(rustix::net::recv(packets, &mut packet[..], rustix::net::RecvFlags::empty())?)) {
                            Ok(length) => core.take(&packet[..length?.0], &self.shared),
                            Err(_) => break,
                        }
                    }
                }
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            }
        }
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Moves all connections on. How long nothing is to be done if nothing happens.
    fn poll(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        let (sockets, streams) = (&mut self.sockets, &mut self.streams);
        self.ending.retain(|(way, handle)| {
            let is_over = matches!(sockets.get::<tcp::Socket<'_>>(*handle).state(), State::Closed | State::TimeWait);
            if is_over {
                sockets.remove(*handle);
                streams.remove(way);
            }
            !is_over
        });
        self.interface.poll_delay(now, &self.sockets).map(Duration::from)
    }

    /// Takes a packet of the command's.
    fn take(&mut self, packet: &[u8], shared: &Arc<Shared>) {
        let Ok(ip) = Ipv4Packet::new_checked(packet) else { return };
        if ip.version() != 4 || ip.src_addr() != ADDRESS || ip.more_frags() || ip.frag_offset() != 0 {
            return;
        }
        let to = |port| SocketAddrV4::new(ip.dst_addr(), port);
        match ip.next_header() {
            IpProtocol::Tcp => {
                let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return };
                let way = Way { port: tcp.src_port(), to: to(tcp.dst_port()) };
                match self.streams.get(&way) {
                    Some(Some(_)) => self.device.arrived.push_back(packet.to_vec()),
                    // It is asked again, and the answer is on its way.
                    Some(None) => {}
                    None if tcp.syn() && !tcp.ack() && way.port != 0 && way.to.port() != 0 => {
                        self.streams.insert(way, None);
                        let asked = Asked { way, packet: packet.to_vec(), shared: Some(Arc::clone(shared)) };
                        self.wanted.push_back(Wanted::Stream(asked));
                    }
                    // The command hears that there is no such connection.
                    None => self.device.arrived.push_back(packet.to_vec()),
                }
            }
            IpProtocol::Udp => {
                let Ok(udp) = UdpPacket::new_checked(ip.payload()) else { return };
                let way = Way { port: udp.src_port(), to: to(udp.dst_port()) };
                let datagram = udp.payload().to_vec();
                self.senders.retain(|_, sender| !sender.is_closed());
                let sender = self.senders.entry(way).or_insert_with(|| {
                    let (sender, waiting) = mpsc::channel(WAITING);
                    self.wanted.push_back(Wanted::Datagrams(Datagrams { way, waiting, shared: Arc::clone(shared) }));
                    sender
                });
                // One too many is lost.
                let _ = sender.try_send(datagram);
            }
            _ => {}
        }
    }
}

/// A connection that the command asks for. Dropped, it is as if it had not asked.
pub(super) struct Asked {
    way: Way,
    /// What it asked with.
    packet: Vec<u8>,
    /// Gone with its answer.
    shared: Option<Arc<Shared>>,
}

impl Asked {
    /// Makes the connection.
    ///
    /// # Errors
    /// When what it asked with is not what a connection begins with.
    pub(super) fn accept(mut self) -> io::Result<Stream> {
        let Some(shared) = self.shared.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut core = shared.core();
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.listen(IpEndpoint::from(self.way.to)).map_err(io::Error::other)?;
        // What arrived before is none of its.
        core.poll();
        let handle = core.sockets.add(socket);
        core.streams.insert(self.way, Some(handle));
        core.device.arrived.push_back(std::mem::take(&mut self.packet));
        core.poll();
        let is_asked = core.sockets.get::<tcp::Socket<'_>>(handle).state() != State::Listen;
        drop(core);
        shared.changed.notify_one();
        // Dropped, it is gone again.
        let stream = Stream { way: self.way, handle, shared, has_ended: [false; 2] };
        if is_asked { Ok(stream) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }

    /// Lets it hear that nobody listens.
    #[expect(clippy::unnecessary_wraps, reason = "it is one of several answers")]
    pub(super) fn refuse(mut self) -> io::Result<()> {
        if let Some(shared) = self.shared.take() {
            let mut core = shared.core();
            core.streams.remove(&self.way);
            core.device.arrived.push_back(std::mem::take(&mut self.packet));
            core.poll();
        }
        Ok(())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.core().streams.remove(&self.way);
        }
    }
}

/// A connection of the command's.
pub(super) struct Stream {
    way: Way,
    handle: SocketHandle,
    shared: Arc<Shared>,
    /// The command has said all, and heard all.
    has_ended: [bool; 2],
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = Arc::clone(&self.shared);
        let mut core = shared.core();
        let socket = core.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if socket.can_recv() {
            let read = socket.recv_slice(buffer.initialize_unfilled()).map_err(io::Error::other)?;
            buffer.advance(read);
            // There is room again, which the command may wait for.
            shared.changed.notify_one();
            return Poll::Ready(Ok(()));
        }
        if socket.may_recv() || socket.state() == State::SynReceived {
            socket.register_recv_waker(context.waker());
            return Poll::Pending;
        }
        match socket.recv_slice(&mut []) {
            Err(RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Ok(_) | Err(RecvError::Finished) => {
                self.has_ended[0] = true;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut core = self.shared.core();
        let socket = core.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if socket.can_send() {
            let written = socket.send_slice(bytes).map_err(io::Error::other)?;
            self.shared.changed.notify_one();
            return Poll::Ready(Ok(written));
        }
        if socket.may_send() || socket.state() == State::SynReceived {
            socket.register_send_waker(context.waker());
            return Poll::Pending;
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = Arc::clone(&self.shared);
        shared.core().sockets.get_mut::<tcp::Socket<'_>>(self.handle).close();
        shared.changed.notify_one();
        self.has_ended[1] = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut core = self.shared.core();
        let socket = core.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if self.has_ended == [true; 2] {
            // What was written is still sent.
            socket.set_timeout(Some(LINGER));
        } else {
            socket.abort();
        }
        core.ending.push((self.way, self.handle));
        drop(core);
        self.shared.changed.notify_one();
    }
}

/// Datagrams from one port of the command's to one address.
pub(super) struct Datagrams {
    way: Way,
    waiting: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Datagrams {
    /// The next that the command sends.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.waiting.recv().await
    }

    /// Sends one to the command.
    pub(super) fn answer(&self, datagram: &[u8]) {
        let udp = UdpRepr { src_port: self.way.to.port(), dst_port: self.way.port };
        let (from, to) = (*self.way.to.ip(), ADDRESS);
        let length = udp.header_len() + datagram.len();
        let ip = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header: IpProtocol::Udp,
            payload_len: length,
            hop_limit: HOPS,
        };
        if ip.buffer_len() + length > usize::from(link::MTU) {
            return;
        }
        let checksums = ChecksumCapabilities::default();
        let mut packet = vec![0; ip.buffer_len() + length];
        let mut written = Ipv4Packet::new_unchecked(&mut packet);
        ip.emit(&mut written, &checksums);
        let (from, to) = (IpAddress::Ipv4(from), IpAddress::Ipv4(to));
        let into = &mut UdpPacket::new_unchecked(written.payload_mut());
        udp.emit(into, &from, &to, datagram.len(), |payload| payload.copy_from_slice(datagram), &checksums);
        self.shared.core().device.send(&packet);
    }
}

/// The command's packets, as smoltcp takes and gives them.
struct Device {
    packets: OwnedFd,
    destination: libc::sockaddr_ll,
    arrived: VecDeque<Vec<u8>>,
    /// Where packets are written before they are sent.
    sent: Vec<u8>,
}

impl Device {
    fn send(&self, packet: &[u8]) {
        // SAFETY: the call reads as many bytes as the two have.
        unsafe {
            libc::sendto(
                self.packets.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                std::ptr::from_ref(&self.destination).cast(),
                size_of::<libc::sockaddr_ll>() as _,
            );
        }
    }
}

struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Sending<'a>(&'a mut Device);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = std::mem::take(&mut self.0.sent);
        packet.clear();
        packet.resize(length, 0);
        let result = write(&mut packet);
        self.0.send(&packet);
        self.0.sent = packet;
        result
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Sending<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut has = DeviceCapabilities::default();
        has.medium = Medium::Ip;
        has.max_transmission_unit = usize::from(link::MTU);
        // Memory loses no bits.
        has.checksum.ipv4 = Checksum::Tx;
        has.checksum.tcp = Checksum::Tx;
        has
    }
}
