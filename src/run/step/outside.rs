//! The way from a command's packets to the network: this program speaks for the command, with ordinary sockets.
//!
//! Packets come from a socket ([`super::link`]) and go through a TCP/IP stack in this process ([`super::stack`]). Each
//! connection becomes one of this process's own, so that what the command can reach is what this user can, but for this machine:
//! neither its loopback nor any address of its interfaces, nor those that are never routed (link-local: the metadata of
//! clouds). Names are asked of the host's resolver, at [`RESOLVER`]; a proxy of the host's environment that is on this
//! machine is at [`PROXY`], under its port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::stack::{Asked, Datagrams, Stack, Wanted};

/// Where names are asked for.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);

/// Where proxies of this machine are.
const PROXY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 80);

/// Connections at a time.
const MOST: usize = 512;

/// How long an answer to a packet is waited for.
const UDP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Variables that name proxies, in both cases.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"];

/// What leads outside on this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// Servers that know names.
    resolvers: Vec<SocketAddr>,
    /// Lines of `resolv.conf` beside these.
    options: String,
    /// Proxies on this machine.
    proxies: Vec<SocketAddr>,
}

impl Way {
    /// That of this machine. Variables for its proxies are added to `env`, where it has not said otherwise.
    ///
    /// # Errors
    /// When the resolver's file cannot be read.
    pub(super) fn of_this_machine(env: &mut Vec<String>) -> io::Result<Self> {
        let text = match fs_err::read_to_string("/etc/resolv.conf") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut way = Self::of_resolver(&text);
        for name in PROXIES.into_iter().chain(["NO_PROXY"]).flat_map(|name| [name.to_owned(), name.to_lowercase()]) {
            let Ok(value) = std::env::var(&name) else { continue };
            let is_known = env.iter().any(|known| known.split_once('=').is_some_and(|(known, _)| known == name));
            if is_known || value.is_empty() {
                continue;
            }
            let value = if name.eq_ignore_ascii_case("NO_PROXY") { value } else { way.proxy(&value) };
            env.push(format!("{name}={value}"));
        }
        Ok(way)
    }

    fn of_resolver(text: &str) -> Self {
        let mut way = Self::default();
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["nameserver", address, ..] => {
                    let address = address.split('%').next().and_then(|address| address.parse::<IpAddr>().ok());
                    way.resolvers.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                ["search" | "domain" | "options", ..] => way.options.push_str(&format!("{line}\n")),
                _ => {}
            }
        }
        if way.resolvers.is_empty() {
            // As the C library has it (resolv.conf(5)).
            way.resolvers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        way
    }

    /// What a proxy is for the command, where it is on this machine.
    fn proxy(&mut self, value: &str) -> String {
        let (url, has_scheme) = match url::Url::parse(value) {
            Ok(url) if url.has_host() => (Ok(url), true),
            _ => (url::Url::parse(&format!("http://{value}")), false),
        };
        let Ok(mut url) = url else { return value.to_owned() };
        let (Some(host), Some(port)) = (url.host_str().map(str::to_owned), url.port_or_known_default()) else {
            return value.to_owned();
        };
        let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().into_iter().flatten();
        let Some(own) = addresses.into_iter().find(|address| is_own(*address)) else { return value.to_owned() };
        self.proxies.push(own);
        let changed = url.set_ip_host(PROXY.into()).and_then(|()| url.set_port(Some(port)));
        match (changed, has_scheme) {
            (Err(()), _) => value.to_owned(),
            (Ok(()), true) => url.to_string(),
            (Ok(()), false) => url.to_string().trim_start_matches("http://").trim_end_matches('/').to_owned(),
        }
    }

    /// The text of the command's `/etc/resolv.conf`.
    pub(super) fn resolver_file(&self) -> String {
        format!("nameserver {RESOLVER}\n{}", self.options)
    }

    /// Where a connection to `to` goes; none where the command may not go there.
    fn leads_to(&self, to: SocketAddr, is_stream: bool) -> Option<SocketAddr> {
        if to.ip() == IpAddr::V4(RESOLVER) {
            return self.resolvers.first().copied().filter(|_| to.port() == 53);
        }
        if to.ip() == IpAddr::V4(PROXY) {
            return self.proxies.iter().find(|proxy| is_stream && proxy.port() == to.port()).copied();
        }
        is_outside(to).then_some(to)
    }
}

/// Whether an address is outside this machine, and can be.
fn is_outside(to: SocketAddr) -> bool {
    let is_routed = match to.ip() {
        IpAddr::V4(ip) => {
            let reserved =
                ip.octets()[0] == 0 || ip.octets()[0] >= 240 || (ip.octets()[0] == 198 && ip.octets()[1] & 0xfe == 18);
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || reserved)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(_) => false,
            None => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast()),
        },
    };
    is_routed && !is_own(to)
}

/// Whether an address is one of this machine's: only to those are packets sent from the same address. No packet is sent
/// to find that out.
fn is_own(to: SocketAddr) -> bool {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    to.ip().is_loopback() || from.is_ok_and(|from| from.ip() == to.ip())
}

/// Something that speaks for a command, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Outside {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Outside {
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        task: impl FnOnce() -> io::Result<F> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("network".to_owned()).spawn(move || {
            runtime.block_on(async move {
                if let Ok(task) = task() {
                    tokio::select! {
                        () = task => {}
                        _ = stopped => {}
                    }
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// For the packets of a command.
    pub(super) fn network(packets: OwnedFd, way: Arc<Way>) -> io::Result<Self> {
        Self::spawn(move || {
            let stack = Stack::new(packets)?;
            Ok(async move { drop(serve(stack, way).await) })
        })
    }

    /// For a socket on which `agent` is to answer.
    pub(super) fn socket(listener: OwnedFd, agent: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Self::spawn(move || {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            Ok(async move {
                while let Ok((mut near, _)) = listener.accept().await {
                    let agent = agent.clone();
                    tokio::spawn(async move {
                        if let Ok(mut far) = tokio::net::UnixStream::connect(agent).await {
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        }
                    });
                }
            })
        })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes a connection of this process's for each of the command's.
async fn serve(stack: Stack, way: Arc<Way>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let wanted = stack.next().await?;
        let to = way.leads_to(wanted.to(), matches!(wanted, Wanted::Stream(_)));
        // One too many is dropped, as a router does that has no room.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        tokio::spawn(async move {
            let _place = place;
            match (wanted, to) {
                (Wanted::Stream(asked), Some(to)) => tcp(asked, to).await,
                (Wanted::Datagrams(near), Some(to)) => udp(near, to).await,
                (Wanted::Stream(asked), None) => asked.refuse(),
                (Wanted::Datagrams(_), None) => Ok(()),
            }
        });
    }
}

async fn tcp(asked: Asked, to: SocketAddr) -> io::Result<()> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(to)).await;
    let Ok(Ok(mut far)) = connected else { return asked.refuse() };
    far.set_nodelay(true)?;
    let mut near = asked.accept()?;
    tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, 128 << 10, 128 << 10).await?;
    Ok(())
}

async fn udp(mut near: Datagrams, to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let far = tokio::net::UdpSocket::bind((any, 0)).await?;
    far.connect(to).await?;
    let mut back = vec![0; 65_536];
    loop {
        tokio::select! {
            datagram = near.next() => match datagram {
                None => return Ok(()),
                Some(datagram) => drop(far.send(&datagram).await),
            },
            received = far.recv(&mut back) => near.answer(&back[..received?]),
            () = tokio::time::sleep(UDP_TIMEOUT) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_not_outside() {
        for address in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.0.0.0:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "198.18.0.2:80",
            "[::1]:80",
            "[::]:80",
            "[fe80::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(!is_outside(address.parse().unwrap()), "{address}");
        }
        for address in nix::ifaddrs::getifaddrs().unwrap().filter_map(|one| one.address) {
            if let Some(address) = address.as_sockaddr_in() {
                assert!(!is_outside((address.ip(), 80).into()), "{address}");
            }
        }
        assert!(is_outside("192.0.2.1:80".parse().unwrap()));
    }

    #[test]
    fn proxies_of_this_machine_are_reached_at_an_address_of_their_own() {
        let mut way = Way::default();
        assert_eq!(way.proxy("http://192.0.2.7:3128"), "http://192.0.2.7:3128");
        assert_eq!(way.proxy("http://me:pw@127.0.0.1:3128"), "http://me:pw@198.18.0.80:3128/");
        assert_eq!(way.proxy("localhost:8080"), "198.18.0.80:8080");
        let to = |port| SocketAddr::from((PROXY, port));
        assert_eq!(way.leads_to(to(3128), true), Some("127.0.0.1:3128".parse().unwrap()));
        assert_eq!(way.leads_to(to(3128), false), None);
        assert_eq!(way.leads_to(to(22), true), None);
    }

    #[test]
    fn names_are_asked_of_the_hosts_resolver() {
        let way = Way::of_resolver("# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a.test\noptions edns0\n");
        assert_eq!(way.leads_to((RESOLVER, 53).into(), false), Some("127.0.0.53:53".parse().unwrap()));
        assert_eq!(way.leads_to((RESOLVER, 22).into(), true), None);
        assert_eq!(way.resolver_file(), "nameserver 198.18.0.53\nsearch a.test\noptions edns0\n");
    }
}
