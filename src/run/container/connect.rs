//! Opening ways out: the other direction of [`super::forward`].
//!
//! The container's network has a loopback interface alone, and stays so: a process that is started before it is entered, and
//! so is in the host's network, is handed sockets that listen in it, and makes a connection of the host's for each that comes.
//! What it connects to was fixed before: nothing that the container says changes it. A name of a machine is an address of its
//! own on the loopback interface, by the container's `/etc/hosts`; an address becomes one of that interface.
//!
//! Invariants: no other port, no other address, no datagrams and no questions for names cross; whoever listens here is who
//! was handed the socket, before anything of the container runs.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::lifeline::Supervisor;
use super::spec::Publish;
use super::way::{self, Host, Way};
use super::{Failure, forward, line, netlink};

/// Ways that one container has: each may need two sockets, and all are handed over at once, with the log.
const MOST_WAYS: usize = (line::MOST_FILES - 1) / 2;

/// Connections at once; more wait until one is closed.
const MOST: usize = 512;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The process that makes connections in the host's network.
#[derive(Debug)]
pub(super) struct Connector {
    process: Pid,
    line: UnixStream,
}

/// Starts the process that connects, in the network that this process is in now; none where there are no ways.
pub(super) fn spawn(ways: &[Way], publish: &[Publish], supervisor: &Supervisor) -> Result<Option<Connector>, Failure> {
    let Some(last) = ways.last() else { return Ok(None) };
    if ways.len() > MOST_WAYS {
        return Err(failure(last, format!("a container has up to {MOST_WAYS}")));
    }
    if let Some(way) = ways.iter().find(|way| publish.iter().any(|publish| publish.container == way.port)) {
        let hint = format!("have the service listen elsewhere: `--env PORT={}`", way.port.wrapping_add(1).max(1024));
        let why = format!("in the container, the service itself answers at port {}", way.port);
        return Err(Failure::Way { way: way.to_string(), why, hint: Some(hint) });
    }
    let (line, other) = UnixStream::pair()?;
    let process = forward::start(supervisor, || run(ways, &other))?;
    Ok(Some(Connector { process, line }))
}

pub(super) fn failure(way: &Way, why: impl fmt::Display) -> Failure {
    Failure::Way { way: way.to_string(), why: why.to_string(), hint: None }
}

impl Connector {
    pub(super) fn process(self) -> Pid {
        self.process
    }

    /// Listens for `ways` in the network that this process is in now, which is the container's, and hands the sockets to the
    /// process that connects. What that has to say goes to `log`.
    pub(super) fn open(&self, ways: &[Way], log: BorrowedFd<'_>) -> Result<(), Failure> {
        let (mut sockets, mut numbers) = (Vec::new(), Vec::new());
        let mut listen = |number: usize, way: &Way, address: IpAddr| -> io::Result<()> {
            sockets.push(TcpListener::bind((address, way.port))?);
            numbers.push(number);
            Ok(())
        };
        let named = way::named(ways);
        for (number, way) in ways.iter().enumerate() {
            let refused = |error| failure(way, error);
            let address = match &way.host {
                Host::Address(address) => {
                    if !address.is_loopback() {
                        netlink::add_to_loopback(*address).map_err(refused)?;
                    }
                    *address
                }
                Host::Name(_) => match named.iter().find(|(name, _)| Some(*name) == way.name()) {
                    Some((_, address)) => IpAddr::V4(*address),
                    None => {
                        // There may be no IPv6.
                        let _ = listen(number, way, IpAddr::V6(Ipv6Addr::LOCALHOST));
                        IpAddr::V4(Ipv4Addr::LOCALHOST)
                    }
                },
            };
            listen(number, way, address).map_err(refused)?;
        }
        let files: Vec<_> = std::iter::once(log).chain(sockets.iter().map(|socket| socket.as_fd())).collect();
        let text = serde_json::to_vec(&numbers).map_err(io::Error::from)?;
        line::send(&self.line, &text, &files)?;
        Ok(self.line.shutdown(std::net::Shutdown::Write)?)
    }
}

/// In the process that connects: waits for the sockets, and carries until the container has ended.
fn run(ways: &[Way], line: &UnixStream) -> io::Result<()> {
    let (text, mut files) = line::receive(line)?;
    // Whoever was to say something has ended without a word.
    if files.is_empty() {
        return Ok(());
    }
    let log = Arc::new(Log { file: files.remove(0).into(), said: Mutex::new(vec![None; ways.len()]) });
    let numbers: Vec<usize> = serde_json::from_slice(&text)?;
    let doors: Vec<_> = files.into_iter().map(TcpListener::from).zip(numbers).collect();
    let open = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let places = Arc::new(Semaphore::new(most_connections()));
    let (ways, counted) = (ways.to_vec(), Arc::clone(&open));
    std::thread::Builder::new().spawn(move || {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for (socket, number) in doors {
                let Some(way) = ways.get(number).cloned() else { continue };
                let door = Door { way, number, log: Arc::clone(&log), open: Arc::clone(&counted) };
                tasks.spawn(accept(socket, Arc::new(door), Arc::clone(&places)));
            }
            tasks.join_all().await
        })
    })?;
    forward::wait_for_end(&open)
}

/// As many as this process has room for: two sockets each.
fn most_connections() -> usize {
    const OTHERS: u64 = 64;
    let wanted = 2 * MOST as u64 + OTHERS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return MOST };
    let files = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).is_ok() {
        wanted.min(hard)
    } else {
        soft
    };
    // One is held wherever a connection is waited for.
    MOST.min((files.saturating_sub(OTHERS) / 2) as usize).max(line::MOST_FILES)
}

/// Where a way begins.
struct Door {
    way: Way,
    number: usize,
    log: Arc<Log>,
    open: Arc<AtomicUsize>,
}

async fn accept(socket: TcpListener, door: Arc<Door>, places: Arc<Semaphore>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        match socket.accept().await {
            Ok((near, _)) => {
                let door = Arc::clone(&door);
                door.open.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(async move {
                    door.carry(near).await;
                    door.open.fetch_sub(1, Ordering::AcqRel);
                    drop(place);
                });
            }
            // Out of files, or the peer has gone already: neither is a reason to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

impl Door {
    /// Carries a connection to its end. Whoever is left when the other side has broken off sees that too, and takes what came
    /// for no whole.
    async fn carry(&self, mut near: TcpStream) {
        let mut far = match connect(&self.way).await {
            Ok(far) => far,
            Err(error) => {
                self.log.fails(self.number, &self.way, &error);
                return break_off(&near);
            }
        };
        self.log.works(self.number, &self.way);
        let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
        if tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, 64 << 10, 64 << 10).await.is_err() {
            break_off(&near);
            break_off(&far);
        }
    }
}

/// Where the host reaches it.
async fn connect(way: &Way) -> io::Result<TcpStream> {
    let attempt = async {
        match &way.host {
            Host::Name(name) => TcpStream::connect((name.as_str(), way.port)).await,
            Host::Address(address) => TcpStream::connect((*address, way.port)).await,
        }
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::other(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Has the connection end with a reset when it is closed.
fn break_off(connection: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO));
}

/// Tells in the container's log where a way leads nowhere, and when it leads somewhere again: once each.
struct Log {
    file: std::fs::File,
    said: Mutex<Vec<Option<String>>>,
}

impl Log {
    fn fails(&self, number: usize, way: &Way, error: &io::Error) {
        let text = match error.raw_os_error() {
            // Without the number.
            Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
            None => error.to_string(),
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = said.get_mut(number).filter(|last| last.as_ref() != Some(&text)) {
            self.say(&format!("ekiben: {way} cannot be reached from this machine: {text}\n"));
            *last = Some(text);
        }
    }

    fn works(&self, number: usize, way: &Way) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get_mut(number).and_then(Option::take).is_some() {
            self.say(&format!("ekiben: {way} is reached again\n"));
        }
    }

    fn say(&self, line: &str) {
        // Nobody may read it any more.
        let _ = (&self.file).write_all(line.as_bytes());
    }
}
