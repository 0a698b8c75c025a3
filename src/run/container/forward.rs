//! Published ports: what comes in on an address of the host goes to the loopback interface in the container.
//!
//! The listeners are bound in the host's network, before anything else is done, so that an address in use is said
//! before a container is started. A process that is then in the container's network keeps them: connections come from
//! the host and go on in the container, and nothing else crosses.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid};

use super::Failure;
use super::lifeline::Supervisor;
use super::rootfs::failed;
use super::spec::Publish;

/// An address of the host that is being listened on.
pub(super) struct Listener {
    socket: TcpListener,
    port: u16,
}

/// Listens on the addresses of the host.
pub(super) fn listen(publish: &[Publish]) -> Result<(Vec<Listener>, Vec<Publish>), Failure> {
    let mut listeners = Vec::new();
    let mut published = Vec::new();
    for &Publish { host, container } in publish {
        let refused = |error: io::Error| Failure::Address {
            address: host,
            in_use: error.kind() == io::ErrorKind::AddrInUse,
            foreign: error.kind() == io::ErrorKind::AddrNotAvailable,
            why: error.to_string(),
        };
        let socket = TcpListener::bind(host).map_err(refused)?;
        published.push(Publish { host: socket.local_addr().map_err(refused)?, container });
        listeners.push(Listener { socket, port: container });
    }
    Ok((listeners, published))
}

/// An address of the host that stays while the container behind it is replaced. It listens as long as this process lives.
#[derive(Debug)]
pub struct Switch {
    address: SocketAddr,
    to: Arc<Mutex<Option<Route>>>,
}

/// How long what a container said last may take to whoever it is for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where connections go on to, held by each of them.
#[derive(Debug, Clone)]
struct Route {
    to: SocketAddr,
    held: Arc<()>,
}

/// The connections that stay where they went before a [`Switch`] was turned.
#[derive(Debug)]
pub struct Rest(Option<Weak<()>>);

impl Rest {
    /// Whether each of them has ended.
    pub fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|held| held.strong_count() == 0)
    }
}

impl Switch {
    /// Listens on `address`; nobody answers yet, so that connections are closed.
    ///
    /// # Errors
    /// [`Failure::Address`] when the address is taken, or is none of this machine.
    pub fn listen(address: SocketAddr) -> Result<Self, super::Error> {
        let (listeners, published) = listen(&[Publish { host: address, container: 0 }])?;
        let to = Arc::new(Mutex::new(None));
        for Listener { socket, .. } in listeners {
            let (to, open) = (Arc::clone(&to), Arc::new(AtomicUsize::new(0)));
            let now = move || to.lock().unwrap_or_else(PoisonError::into_inner).clone();
            std::thread::spawn(move || accept(&socket, &open, now));
        }
        Ok(Self { address: published.first().map_or(address, |published| published.host), to })
    }

    /// Where it listens, with the port that was found for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections go on to `to`, or are closed. Those that are open stay where they are.
    pub fn turn(&self, to: Option<SocketAddr>) -> Rest {
        let route = to.map(|to| Route { to, held: Arc::default() });
        let before = std::mem::replace(&mut *self.to.lock().unwrap_or_else(PoisonError::into_inner), route);
        Rest(before.map(|route| Arc::downgrade(&route.held)))
    }
}

/// Brings up the loopback interface of the network namespace that this process is in.
pub(super) fn loopback_up() -> Result<(), Failure> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all bytes zero are a valid `ifreq`, and the kernel reads no more than one.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request)
    };
    nix::errno::Errno::result(result)
        .map(drop)
        .map_err(|error| failed("the loopback interface could not be brought up", error))
}

/// Starts a process that forwards until its parent, the supervisor, ends, or ends it: see [`end`].
pub(super) fn spawn(listeners: Vec<Listener>, supervisor: &Supervisor) -> Result<Option<Pid>, Failure> {
    if listeners.is_empty() {
        return Ok(None);
    }
    start(supervisor, || run(listeners)).map(Some)
}

fn run(listeners: Vec<Listener>) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    for listener in listeners {
        let open = Arc::clone(&open);
        let inside = Route { to: SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port)), held: Arc::default() };
        std::thread::spawn(move || accept(&listener.socket, &open, || Some(inside.clone())));
    }
    wait_for_end(&open)
}

/// Starts a process that only copies bytes: without rights, and with no open file of the supervisor's but those that `run`
/// has. It ends with the supervisor.
pub(super) fn start(supervisor: &Supervisor, run: impl FnOnce() -> io::Result<()>) -> Result<Pid, Failure> {
    // SAFETY: the supervisor has one thread.
    match unsafe { fork() }.map_err(|error| failed("no process could be started", error))? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = i32::from(lower(supervisor).and_then(|()| run()).is_err());
            std::process::exit(status)
        }
    }
}

/// Gives up what copying foreign bytes does not need. From then on SIGTERM waits for [`wait_for_end`].
fn lower(supervisor: &Supervisor) -> io::Result<()> {
    // In a user namespace there is nobody else to be.
    if Uid::effective().is_root() {
        const NOBODY: u32 = 65534;
        setgroups(&[])?;
        setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
        setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))?;
    }
    // After the change of user, which makes the kernel forget it.
    supervisor.die_with_it()?;
    SigSet::all().thread_unblock()?;
    end_signal().thread_block()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

fn end_signal() -> SigSet {
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end
}

/// Waits until this process is to end, and then a moment for the connections that are `open`: what the container has said
/// last is on its way yet.
pub(super) fn wait_for_end(open: &AtomicUsize) -> io::Result<()> {
    end_signal().wait()?;
    let told = Instant::now();
    while open.load(Ordering::Acquire) > 0 && told.elapsed() < LAST_WORDS {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Has the forwarder hand on what a container that has ended has said, and end.
pub(super) fn end(forwarder: Pid) {
    let _ = kill(forwarder, Signal::SIGTERM);
    let _ = waitpid(forwarder, None);
}

/// Accepts connections, each of which goes on to where `to` says at the time; where it says nowhere, it is closed.
fn accept(socket: &TcpListener, open: &Arc<AtomicUsize>, to: impl Fn() -> Option<Route>) {
    /// Connections at once; more wait until one is closed. Each takes two threads.
    const MOST: usize = 512;
    loop {
        if open.load(Ordering::Acquire) >= MOST {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        match socket.accept() {
            Ok((outside, _)) => {
                let Some(inside) = to() else { continue };
                let open = Arc::clone(open);
                open.fetch_add(1, Ordering::AcqRel);
                let connection = std::thread::Builder::new().stack_size(64 << 10);
                let counted = Arc::clone(&open);
                let spawned = connection.spawn(move || {
                    // Where nobody listens yet, or one side hangs up, the other sees its connection end.
                    let _ = connect(&outside, inside.to);
                    drop(inside.held);
                    open.fetch_sub(1, Ordering::AcqRel);
                });
                if spawned.is_err() {
                    counted.fetch_sub(1, Ordering::AcqRel);
                }
            }
            // Out of files, or the peer has gone already: neither is a reason to end.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn connect(outside: &TcpStream, inside: SocketAddr) -> io::Result<()> {
    let inside = TcpStream::connect(inside)?;
    outside.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(|| copy(outside, &inside));
        copy(&inside, outside);
    });
    Ok(())
}

/// Copies until `from` has said all, and then says so to `to`, which may still be speaking itself. When one of them is
/// gone, both ways end.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_ok() {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
