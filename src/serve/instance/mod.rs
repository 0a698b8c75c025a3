//! A container that answers requests: its door, through which each request goes in and out, and its connections.
//!
//! Invariants: whoever holds a [`Visit`] is counted; once the door is closed nobody comes in, and [`Instance::emptied`]
//! returns when the last one has left. A connection is lent to one request at a time.

mod body;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::lock;
use crate::run::container::Usage;
pub use body::{Answer, Body, Fault};

/// How long a connection may have been idle to be used again. Servers close those that are idle for some seconds, and of
/// a request that meets such an end nobody knows whether it was read.
const FRESH: Duration = Duration::from_secs(1);

/// Bytes and lines that the head of an answer may have.
const HEAD: usize = 64 << 10;
const HEADERS: usize = 256;

/// Connections that are kept.
const KEPT: usize = 64;

/// A container that runs.
#[derive(Debug)]
pub struct Instance {
    /// Names it among all of this process.
    pub number: u64,
    /// Of which model and version.
    pub model: Arc<str>,
    /// The container's name.
    pub container: String,
    /// When it was started.
    pub started: SystemTime,
    /// How long it may be idle; none: as long as it likes.
    pub patience: Mutex<Option<Duration>>,
    address: SocketAddr,
    door: Mutex<Door>,
    changed: Notify,
    connections: Mutex<Vec<(SendRequest<Body>, Instant)>>,
    usage: Mutex<(Usage, Option<Instant>)>,
    /// Requests that it has answered.
    pub answered: AtomicU64,
    /// It did not fail to become ready.
    pub is_of_use: AtomicBool,
    /// A request carried a credential, which its log may hold.
    pub has_seen_credentials: AtomicBool,
}

#[derive(Debug)]
struct Door {
    is_open: bool,
    within: usize,
    last_left: Instant,
    last_use: SystemTime,
}

impl Instance {
    /// The container `container`, which answers at `address`.
    pub fn new(
        number: u64,
        model: Arc<str>,
        container: String,
        address: SocketAddr,
        patience: Option<Duration>,
    ) -> Self {
        let (now, started) = (Instant::now(), SystemTime::now());
        Self {
            number,
            model,
            container,
            started,
            patience: Mutex::new(patience),
            address,
            door: Mutex::new(Door { is_open: true, within: 0, last_left: now, last_use: started }),
            changed: Notify::new(),
            connections: Mutex::default(),
            usage: Mutex::default(),
            answered: AtomicU64::new(0),
            is_of_use: AtomicBool::new(true),
            has_seen_credentials: AtomicBool::new(false),
        }
    }

    /// Goes in, if the door is open.
    pub fn enter(self: &Arc<Self>) -> Option<Visit> {
        let mut door = lock(&self.door);
        if !door.is_open {
            return None;
        }
        door.within += 1;
        door.last_use = SystemTime::now();
        Some(Visit { instance: Arc::clone(self), _turn: None })
    }

    /// Lets nobody in any more. Those within stay.
    pub fn close(&self) {
        lock(&self.door).is_open = false;
        self.changed.notify_waiters();
    }

    /// Whether somebody may come in.
    pub fn is_open(&self) -> bool {
        lock(&self.door).is_open
    }

    /// Closes the door if nobody is within and nobody has been for `time`. Returns whether it did.
    pub fn close_if_idle(&self, time: Duration) -> bool {
        let mut door = lock(&self.door);
        let closes = door.is_open && door.within == 0 && door.last_left.elapsed() >= time;
        door.is_open &= !closes;
        drop(door);
        if closes {
            self.changed.notify_waiters();
        }
        closes
    }

    /// Requests that it has now.
    pub fn within(&self) -> usize {
        lock(&self.door).within
    }

    /// For how long it has had nothing to do; none while it has.
    pub fn idle(&self) -> Option<Duration> {
        let door = lock(&self.door);
        (door.within == 0).then(|| door.last_left.elapsed())
    }

    /// When the last request came or left.
    pub fn last_use(&self) -> SystemTime {
        lock(&self.door).last_use
    }

    /// Returns when the door is closed and nobody is within.
    pub async fn emptied(&self) {
        self.until(|door| !door.is_open && door.within == 0).await;
    }

    async fn until(&self, is_so: impl Fn(&Door) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(&lock(&self.door)) {
                return;
            }
            changed.await;
        }
    }

    /// A connection to it, of which nothing was sent on yet or all was answered.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn connect(&self) -> io::Result<SendRequest<Body>> {
        {
            let mut connections = lock(&self.connections);
            while let Some((connection, since)) = connections.pop() {
                if since.elapsed() < FRESH && connection.is_ready() {
                    return Ok(connection);
                }
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD).max_headers(HEADERS);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // What becomes of it is told to whoever sends.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }

    /// Takes a connection back whose request is answered.
    pub fn give_back(&self, connection: SendRequest<Body>) {
        let mut connections = lock(&self.connections);
        if !connection.is_closed() && connections.len() < KEPT {
            connections.push((connection, Instant::now()));
        }
    }

    /// Closes connections that are of no use any more.
    pub fn tidy(&self) {
        lock(&self.connections).retain(|(connection, since)| since.elapsed() < FRESH && !connection.is_closed());
    }

    /// What it used when it was last looked at.
    pub fn usage(&self) -> Usage {
        lock(&self.usage).0
    }

    /// Notes what it uses.
    pub fn note_usage(&self, usage: Usage) {
        *lock(&self.usage) = (usage, Some(Instant::now()));
    }
}

/// A request that a container has. It is counted until this is dropped.
#[derive(Debug)]
pub struct Visit {
    instance: Arc<Instance>,
    /// One of the requests that the model takes at once.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Visit {
    /// The same, which takes one of the model's turns along.
    #[must_use]
    pub fn with(mut self, turn: OwnedSemaphorePermit) -> Self {
        self._turn = Some(turn);
        self
    }

    /// Where it is.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut door = lock(&self.instance.door);
        door.within -= 1;
        door.last_left = Instant::now();
        door.last_use = SystemTime::now();
        let is_last = door.within == 0;
        drop(door);
        if is_last {
            self.instance.changed.notify_waiters();
        }
    }
}

/// The processes of a container, to be waited for.
#[derive(Debug)]
pub struct Processes {
    handles: Vec<AsyncFd<OwnedFd>>,
}

impl Processes {
    /// Those of [`crate::run::container::Container::handles`].
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn new(handles: Vec<OwnedFd>) -> io::Result<Self> {
        let register = |handle| {
            // SAFETY: what owns a handle stays open, and the same, as long as it is owned.
            unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(io::Error::from)
        };
        Ok(Self { handles: handles.into_iter().map(register).collect::<Result<_, _>>()? })
    }

    /// Returns when one of them has ended: of a container without one, nothing is left.
    pub async fn ended(&self) {
        if self.handles.len() < 2 {
            return;
        }
        let waiting = self.handles.iter().map(|handle| Box::pin(handle.readable()));
        drop(futures_util::future::select_all(waiting).await);
    }

    /// A number for [`Instance::number`].
    pub fn number() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}
