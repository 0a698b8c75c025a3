//! All containers that are served from, whatever model they are of: who there is, what they may use together, who has to go.
//!
//! Invariant: what is claimed together stays within the limit, as far as models say what they need: one with a limit of its own
//! claims that, another what it was seen to use.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use super::Judge;
use super::instance::Instance;
use super::lock;
use super::refusal::Refusal;
use crate::image::Image;
use crate::image::session::{Making, Session};
use crate::image::store::{self, ImageRecord, Store};
use crate::io::http::Client;
use crate::io::progress::Progress;

/// Something that whoever started this may want to tell.
#[derive(Clone, Debug)]
pub enum Event {
    /// Requests are taken at this address.
    Listening(std::net::SocketAddr),
    /// A container is ready.
    Ready {
        /// The model and its version.
        model: String,
        /// The container.
        container: String,
        /// How long it took.
        took: Duration,
    },
    /// A container was ended, as nobody needed it any more, or it did not become ready.
    Ended {
        /// The model and its version.
        model: String,
        /// The container.
        container: String,
        /// Whether what it said last is kept.
        has_log: bool,
    },
    /// A container ended though nobody ended it.
    Died {
        /// The model and its version.
        model: String,
        /// The container.
        container: String,
        /// How, in words.
        how: String,
        /// Whether what it said last is kept.
        has_log: bool,
    },
    /// A model did not start.
    Failed {
        /// The model and its version.
        model: String,
        /// Why, in words.
        why: String,
    },
    /// So many models are served from now on.
    Loaded(usize),
    /// Something that is not as it should be, though all goes on.
    Warning(String),
}

/// Models that start at once at least: of a hundred that are always on, each would wait for all others, and be late.
const STARTS: usize = 16;

/// Whoever is told.
pub type Tell = Box<dyn Fn(Event) + Send + Sync>;

/// All containers.
pub struct Keeper {
    /// The store's folder. It is opened when it is needed, so that others can prune it in between.
    root: PathBuf,
    progress: Progress,
    client: Client,
    judge: Judge,
    tell: Tell,
    /// Bytes; `u64::MAX` for no limit.
    most: AtomicU64,
    running: Mutex<Vec<Arc<Instance>>>,
    /// Bytes by the numbers of those that claim them.
    claims: Mutex<BTreeMap<u64, u64>>,
    changed: Notify,
    starts: Semaphore,
    end: watch::Sender<bool>,
}

impl Keeper {
    /// One that has no containers yet.
    pub fn new(session: Session, judge: Judge, tell: Tell) -> Self {
        Self {
            root: session.store.root().to_owned(),
            progress: session.progress,
            client: session.client,
            judge,
            tell,
            most: AtomicU64::new(u64::MAX),
            running: Mutex::default(),
            claims: Mutex::default(),
            changed: Notify::new(),
            starts: Semaphore::new(STARTS.max(4 * std::thread::available_parallelism().map_or(1, usize::from))),
            end: watch::Sender::new(false),
        }
    }

    /// The store and its surroundings, opened. It waits while another process prunes it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn session(&self) -> Result<Session, store::Error> {
        let store = Store::open(&self.root)?;
        Ok(Session { store, progress: self.progress.clone(), client: self.client.clone(), making: Making::Unpacked })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether `image`, which `record` names, may be started.
    ///
    /// # Errors
    /// When it may not.
    pub fn judge(&self, session: &Session, record: &ImageRecord, image: &Image) -> io::Result<()> {
        (self.judge)(session, record, image)
    }

    /// Tells whoever listens.
    pub fn tell(&self, event: Event) {
        (self.tell)(event);
    }

    /// From now on all together may use so many bytes.
    pub fn limit(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What all may use together, in bytes.
    pub fn most(&self) -> Option<u64> {
        Some(self.most.load(Ordering::Relaxed)).filter(|most| *most < u64::MAX)
    }

    /// What is claimed now, in bytes.
    pub fn claimed(&self) -> u64 {
        lock(&self.claims).values().sum()
    }

    /// Those that run, or are about to end.
    pub fn running(&self) -> Vec<Arc<Instance>> {
        lock(&self.running).clone()
    }

    /// Takes one in.
    pub fn add(&self, instance: Arc<Instance>) {
        lock(&self.running).push(instance);
    }

    /// One is gone, and uses nothing any more.
    pub fn forget(&self, number: u64) {
        lock(&self.running).retain(|instance| instance.number != number);
        self.changed.notify_waiters();
    }

    /// Sets memory aside for a container that is about to start; the longest idle ones are ended for it.
    ///
    /// # Errors
    /// When there is not as much, or not by `deadline`.
    pub async fn claim(self: &Arc<Self>, number: u64, bytes: u64, deadline: Instant) -> Result<Claim, Refusal> {
        let most = self.most.load(Ordering::Relaxed);
        let refusal = |why: &str| Refusal::unavailable("memory", why);
        if bytes > most {
            return Err(refusal("the model needs more memory than all models together may use"));
        }
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut claims = lock(&self.claims);
                if claims.values().sum::<u64>().saturating_add(bytes) <= most {
                    claims.insert(number, bytes);
                    return Ok(Claim { keeper: Arc::clone(self), number });
                }
            }
            let ending = self.running().iter().any(|instance| !instance.is_open() && instance.within() == 0);
            if !ending {
                self.end_longest_idle();
            }
            // Somebody may become idle without a word.
            let pause = Duration::from_millis(100).min(deadline.saturating_duration_since(Instant::now()));
            if pause.is_zero() {
                return Err(refusal("all memory is in use by models that have requests").after(Duration::from_secs(5)));
            }
            let _ = tokio::time::timeout(pause, changed).await;
        }
    }

    /// A turn to start a model.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.starts.acquire().await.ok()
    }

    /// Ends the one that has been idle for longest, of those that may be ended.
    pub fn end_longest_idle(&self) {
        let mut idle: Vec<_> =
            self.running().into_iter().filter(|instance| lock(&instance.patience).is_some()).collect();
        idle.retain(|instance| instance.is_open() && instance.idle().is_some());
        idle.sort_by_key(|instance| std::cmp::Reverse(instance.idle()));
        // One that got a request meanwhile is passed over.
        idle.iter().any(|instance| instance.close_if_idle(Duration::ZERO));
    }

    /// Ends those that have been idle for as long as they may.
    pub fn end_idle(&self) {
        for instance in self.running() {
            let patience = *lock(&instance.patience);
            if patience.is_some_and(|patience| instance.close_if_idle(patience)) {
                continue;
            }
            instance.tidy();
        }
    }

    /// From now on containers are ended with the requests that they have.
    pub fn end_by_force(&self) {
        self.end.send_replace(true);
    }

    /// Returns once containers are to be ended with the requests that they have.
    pub async fn forced(&self) {
        // The sender lives as long as this.
        let _ = self.end.subscribe().wait_for(|is_forced| *is_forced).await;
    }

    /// Returns when there is none any more.
    pub async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.running).is_empty() {
                return;
            }
            changed.await;
        }
    }
}

/// Memory that is set aside, until this is dropped.
pub struct Claim {
    keeper: Arc<Keeper>,
    number: u64,
}

impl Claim {
    /// It is as much now, in bytes.
    pub fn set(&self, bytes: u64) {
        lock(&self.keeper.claims).insert(self.number, bytes);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.keeper.claims).remove(&self.number);
        self.keeper.changed.notify_waiters();
    }
}
