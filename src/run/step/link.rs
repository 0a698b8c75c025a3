//! The network that a command has: a namespace with itself alone, or with one device whose other end is in a namespace
//! where there is nothing but a socket that this program reads packets from.
//!
//! veth(4), packet(7), rtnetlink(7), netdevice(7). An ordinary user may make such a pair in a user namespace, and no device
//! of the host is needed. The command may change nothing of it (it has no CAP_NET_ADMIN), and the other end is where it
//! cannot see it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

use crate::run::container::Failure;
use crate::run::container::netlink::{Message, NEW, request, socket};

/// The command's own address.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Where all packets go: nobody has this address.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Bytes of a packet, which goes from memory to memory.
pub(super) const MTU: u16 = 65_000;

/// The name of the command's end.
const DEVICE: &str = "eth0";

/// The name of the other end.
const PEER: &str = "peer";

/// Of the command's end, so that it is known.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Goes into a namespace with a loopback interface alone.
pub(super) fn none() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| refused("no network namespace can be made", error))?;
    up("lo").map_err(|error| failed("the loopback interface could not be set up", &error))
}

/// Goes into a namespace with a way out, and returns the socket that packets come from.
pub(super) fn outside() -> Result<OwnedFd, Failure> {
    let what = "no pair of network devices can be made";
    let made = (|| -> io::Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let other = namespace()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = namespace()?;
        make_pair(&other)?;
        setns(&other, CloneFlags::CLONE_NEWNET)?;
        up(PEER)?;
        let packets = packets()?;
        setns(&own, CloneFlags::CLONE_NEWNET)?;
        up("lo")?;
        configure()?;
        Ok(packets)
    })();
    made.map_err(|error| failed(what, &error))
}

fn refused(what: &str, error: Errno) -> Failure {
    crate::run::container::rootfs::failed(what, error)
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::Io { message: format!("{what}: {error}") }
}

/// The network namespace that this process is in.
fn namespace() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/self/ns/net")?.into())
}

/// Makes the pair: one end here, the other in the namespace `other`.
fn make_pair(other: &OwnedFd) -> io::Result<()> {
    const VETH_INFO_PEER: u16 = 1;
    const INTERFACE: usize = size_of::<libc::ifinfomsg>();
    let name = |name: &str| [name.as_bytes(), &[0]].concat();
    let mut message = Message::with_header(vec![0; INTERFACE]);
    message.attribute(libc::IFLA_IFNAME, &name(DEVICE));
    message.attribute(libc::IFLA_ADDRESS, &HARDWARE);
    message.attribute(libc::IFLA_MTU, &u32::from(MTU).to_ne_bytes());
    let info = message.begin(libc::IFLA_LINKINFO);
    message.attribute(libc::IFLA_INFO_KIND, &name("veth"));
    let data = message.begin(libc::IFLA_INFO_DATA);
    let peer = message.begin(VETH_INFO_PEER);
    message.append(&[0; INTERFACE]);
    message.attribute(libc::IFLA_IFNAME, &name(PEER));
    message.attribute(libc::IFLA_MTU, &u32::from(MTU).to_ne_bytes());
    message.attribute(libc::IFLA_NET_NS_FD, &other.as_raw_fd().to_ne_bytes());
    message.end(peer);
    message.end(data);
    message.end(info);
    request(libc::RTM_NEWLINK, NEW, &message)
}

/// A request of netdevice(7) for the device `name`.
fn interface(name: &str) -> libc::ifreq {
    // SAFETY: all of it may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

fn ioctl<T>(number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: each number that this is called with takes a pointer to what the argument is.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), number as _, std::ptr::from_mut(argument)) })?;
    Ok(())
}

fn up(name: &str) -> io::Result<()> {
    let mut request = interface(name);
    // Nobody is to be asked for the hardware address of the other end: packets go to the device's own.
    let flags = libc::IFF_UP | if name == "lo" { 0 } else { libc::IFF_NOARP };
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS as _, &mut request)
}

fn ip(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data.iter_mut().skip(2).zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as _, sa_data: data }
}

/// Gives the command's end its address and the route.
fn configure() -> io::Result<()> {
    let mut request = interface(DEVICE);
    request.ifr_ifru.ifru_addr = ip(ADDRESS);
    ioctl(libc::SIOCSIFADDR as _, &mut request)?;
    request.ifr_ifru.ifru_netmask = ip(Ipv4Addr::new(255, 255, 255, 0));
    ioctl(libc::SIOCSIFNETMASK as _, &mut request)?;
    whole_packets()?;
    up(DEVICE)?;
    // SAFETY: all of it may be zero.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_gateway = ip(GATEWAY);
    route.rt_dst = ip(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = ip(Ipv4Addr::UNSPECIFIED);
    route.rt_flags = (libc::RTF_UP | libc::RTF_GATEWAY) as _;
    ioctl(libc::SIOCADDRT as _, &mut route)
}

/// Has the kernel send packets as they would go over a wire: with their checksums, none larger than the device takes.
fn whole_packets() -> io::Result<()> {
    /// Of `linux/ethtool.h`.
    const ETHTOOL_STXCSUM: u32 = 0x17;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command: ETHTOOL_STXCSUM, data: 0 };
    let mut request = interface(DEVICE);
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    ioctl(libc::SIOCETHTOOL as _, &mut request)
}

/// A socket that packets of the other end come from and go to, without the frame around them.
fn packets() -> io::Result<OwnedFd> {
    const IP: u16 = libc::ETH_P_IP as u16;
    let packets = socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, i32::from(IP.to_be()))?;
    let address = hardware()?;
    // SAFETY: the call reads as many bytes as the address has.
    let bound = unsafe {
        libc::bind(packets.as_raw_fd(), std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>() as _)
    };
    Errno::result(bound)?;
    // What is sent to the command is not to be heard as well, and to take the room of what it sends (packet(7), Linux 4.20).
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let yes: libc::c_int = 1;
    // SAFETY: the call reads as many bytes as the number has.
    unsafe {
        let value = std::ptr::from_ref(&yes).cast();
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(packets.as_raw_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, value, length);
    }
    // Room for what a fast server sends while nobody reads.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&packets, 8 << 20);
    Ok(packets)
}

/// The command's end, as packets of the other end are sent to it.
fn hardware() -> io::Result<libc::sockaddr_ll> {
    let mut request = interface(PEER);
    ioctl(libc::SIOCGIFINDEX as _, &mut request)?;
    // SAFETY: all of it may be zero, and the kernel has just written the number.
    let (mut address, index): (libc::sockaddr_ll, _) = unsafe { (std::mem::zeroed(), request.ifr_ifru.ifru_ifindex) };
    address.sll_family = libc::AF_PACKET as _;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&HARDWARE);
    Ok(address)
}

/// The address that packets for the command are sent to through `packets`.
pub(super) fn destination(packets: &OwnedFd) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: all of it may be zero.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the call writes at most as many bytes as the address has.
    let named = unsafe {
        libc::getsockname(packets.as_raw_fd(), std::ptr::from_mut(&mut address).cast(), std::ptr::from_mut(&mut length))
    };
    Errno::result(named)?;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&HARDWARE);
    Ok(address)
}
