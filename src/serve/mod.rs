//! Many models behind one address, each started when somebody asks for it (`docs/serve.md` has what a person sees).
//!
//! ```text
//! gate      who may come in, and where a request goes (table); answers when no model does (refusal)
//!   proxy     the request out, the answer back, each piece as it comes (body)
//!   version   when a container is started and ended: strategy, turns, pauses after failures
//!     keeper    all containers: memory, idleness, the end
//!     instance  one container: its door, its connections
//! ```
//!
//! Containers are tied to this process and not found again by a later one: their supervisors see it end, however it ends,
//! and end with all that they have, at once. A container that outlived a `kill -9` would hold memory that nobody counts, and
//! requests whose callers are gone with the connections; what it would save is one start.
//!
//! Invariants: no request is given to a model twice; none is dropped when a version takes another's place; what runs is
//! known, counted against the limit of memory, and ended before this returns.

pub mod config;
mod gate;
mod instance;
mod keeper;
mod proxy;
mod refusal;
mod schedule;
mod table;
mod tally;
mod tokens;
mod version;

pub use keeper::{Event, Tell};
pub use tokens::{Error as TokenError, Tokens};

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fs_err as fs;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::formats::diagnostic::Diagnostics;
use crate::image::session::Session;
use crate::image::store::{self, ImageQuery, ImageRecord};
use crate::io::explain::{ErrorKind, Explain, Explanation, carry, with_causes};
use crate::run::{self, container};
use config::{Config, Strategy};
use gate::Gate;
use keeper::Keeper;
use table::{Model, Table};
use version::{Denied, Version};

/// Connections at once; more wait until one is closed.
const CONNECTIONS: usize = 4096;

/// How often it is looked whether a model has been idle for long enough, and whether a file has changed.
const TICK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(500);

/// How long the head of a request may take, from the end of the one before.
const HEAD: Duration = Duration::from_secs(60);

/// What is served, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests are taken.
    pub address: SocketAddr,
    /// The models.
    pub source: Source,
    /// What has to be shown to get in; none: nothing.
    pub tokens: Option<Keys>,
    /// What has to be shown to start and stop models, where nothing has to be shown to get in.
    pub control: Tokens,
    /// Whether new tags in the store are taken up.
    pub following: Following,
    /// How long a model is kept of which nothing says how long.
    pub timeout: Duration,
    /// How long requests that are in hand may take when this is to end.
    pub drain: Duration,
}

/// Where tokens come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They do not change.
    Given(Tokens),
    /// A file that is read again with the models.
    File(PathBuf),
}

/// Where the models are written down.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, which is read again when it changes.
    File(PathBuf),
    /// Images of the store, each under the last part of its name.
    Images(Vec<ImageQuery>),
}

/// Whether new tags in the store are taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// As soon as they are there.
    Store,
    /// When the configuration is read again.
    Configuration,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has mistakes.
    #[error("{} has {}", path.display(), if diagnostics.errors() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", diagnostics.errors()) })]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The mistakes.
        diagnostics: Diagnostics,
    },
    /// An image is not there.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Containers that others left cannot be tidied away.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// There are no tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Two images would have one name.
    #[error("two images would both be `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// The kernel says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Malformed { .. } => ErrorKind::Invalid.named("serve/mistakes"),
            Self::Store(error) => error.explain(),
            Self::Container(error) => error.explain(),
            Self::Tokens(error) => error.explain(),
            Self::Listen { .. } => {
                ErrorKind::Failure.named("serve/listen").hint("choose another address with `--port` or `--listen`")
            }
            Self::Twice { .. } => ErrorKind::Usage
                .named("serve/twice")
                .hint("name the repository alone, which serves all its versions, or give them names in a serve.yaml"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// Serves until SIGINT or SIGTERM, then lets requests in hand end, and ends all containers. A second signal lets nothing
/// end. SIGHUP has the configuration read again.
///
/// # Errors
/// When it cannot begin. Later a configuration with mistakes is a warning, and the one before stays.
pub fn serve(session: Session, settings: Settings, tell: Tell) -> Result<(), Error> {
    // What others left that were killed.
    run::containers(&session)?.sweep()?;
    let (config, stamp) = settings.source.read()?;
    let records = session.store.images()?;
    if let Source::Images(images) = &settings.source {
        for (at, image) in images.iter().enumerate() {
            if !records.iter().any(|record| image.matches(&record.name)) {
                session.store.find(image, None)?;
            }
            let name = config::name_of(image);
            if images.iter().skip(at + 1).any(|other| config::name_of(other) == name) {
                return Err(Error::Twice { name: name.to_owned() });
            }
        }
    }
    let tokens = settings.tokens.as_ref().map(Keys::read).transpose()?;
    let address = settings.address;
    let refused = |source| Error::Listen { address, source };
    let socket = std::net::TcpListener::bind(address).map_err(refused)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(256)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()?;
    let keeper = Arc::new(Keeper::new(session, tell));
    let control = tokens.clone().unwrap_or_else(|| settings.control.clone());
    let gate = Arc::new(Gate::new(keeper, address, tokens, control));
    let served = runtime.block_on(async {
        let listener = TcpListener::from_std(socket)?;
        let images = image_stamp(gate.keeper.root());
        let serving = Serving { gate, settings, stamp, images };
        serving.run(listener, &config, &records).await
    });
    // Threads that wait for something are not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(served?)
}

impl Source {
    /// The models, and what tells whether they have changed since.
    fn read(&self) -> Result<(Config, Stamp), Error> {
        match self {
            Self::Images(images) => Ok((Config::of_images(images), None)),
            Self::File(path) => {
                let stamp = stamp(path);
                let mut diagnostics = Diagnostics::new();
                match Config::read(path, &mut diagnostics) {
                    Some(config) => Ok((config, stamp)),
                    None => Err(Error::Malformed { path: path.clone(), diagnostics }),
                }
            }
        }
    }

    fn stamp(&self) -> Stamp {
        match self {
            Self::Images(_) => None,
            Self::File(path) => stamp(path),
        }
    }
}

impl Keys {
    fn read(&self) -> Result<Tokens, TokenError> {
        match self {
            Self::Given(tokens) => Ok(tokens.clone()),
            Self::File(path) => Tokens::read(path),
        }
    }
}

/// What tells whether a file has changed: the time of its last change, its size and its number. None: it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn image_stamp(store: &Path) -> Stamp {
    stamp(&store.join("index.json"))
}

struct Serving {
    gate: Arc<Gate>,
    settings: Settings,
    stamp: Stamp,
    images: Stamp,
}

impl Serving {
    async fn run(mut self, listener: TcpListener, config: &Config, records: &[ImageRecord]) -> io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        let (mut terminations, mut interrupts) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        self.arrange(config, records);
        let gate = Arc::clone(&self.gate);
        gate.keeper.tell(Event::Listening(gate.address));
        let (end, ended) = watch::channel(false);
        // It ends when all connections have.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&gate), ended, open));
        let mut last_look = Instant::now();
        loop {
            tokio::select! {
                _ = terminations.recv() => break,
                _ = interrupts.recv() => break,
                _ = hangups.recv() => self.read_again().await,
                () = tokio::time::sleep(TICK) => {
                    gate.keeper.end_idle();
                    if last_look.elapsed() >= LOOK {
                        last_look = Instant::now();
                        self.look().await;
                    }
                }
            }
        }
        gate.close();
        end.send_replace(true);
        accepting.abort();
        let drained = async {
            all_closed.recv().await;
            for model in gate.table().models.values() {
                retire(model);
            }
            gate.keeper.emptied().await;
        };
        tokio::select! {
            () = drained => return Ok(()),
            () = tokio::time::sleep(self.settings.drain) => {}
            _ = terminations.recv() => {}
            _ = interrupts.recv() => {}
        }
        gate.keeper.end_by_force();
        gate.keeper.emptied().await;
        Ok(())
    }

    /// Has run what is to run, and reads again what has changed.
    async fn look(&mut self) {
        let follows = self.settings.following == Following::Store;
        let (stamp, images) = (self.settings.source.stamp(), image_stamp(self.gate.keeper.root()));
        // A file that is just not there is about to be written.
        if (stamp != self.stamp && stamp.is_some()) || (follows && images != self.images && images.is_some()) {
            self.read_again().await;
        }
        let now = Timestamp::now();
        for model in self.gate.table().models.values() {
            attend(model, &self.gate.keeper, now);
        }
    }

    /// Reads the configuration and the images again. Where there are mistakes, all stays as it was.
    async fn read_again(&mut self) {
        let keeper = Arc::clone(&self.gate.keeper);
        self.images = image_stamp(keeper.root());
        let warn = |text: String| keeper.tell(Event::Warning(text));
        if let Some(keys) = &self.settings.tokens {
            match keys.read() {
                Ok(tokens) => self.gate.set_tokens(&tokens),
                Err(error) => warn(format!("the tokens stay as they were: {}", with_causes(&error))),
            }
        }
        // Whoever prunes the store may take a while.
        let store = Arc::clone(&keeper);
        let images = tokio::task::spawn_blocking(move || store.session()?.store.images()).await;
        match (self.settings.source.read(), images.map_err(io::Error::other).and_then(|images| images.map_err(carry))) {
            (Ok((config, stamp)), Ok(records)) => {
                self.stamp = stamp;
                self.arrange(&config, &records);
            }
            (Err(error), _) => {
                self.stamp = self.settings.source.stamp();
                let first = match &error {
                    Error::Malformed { diagnostics, .. } => diagnostics.sorted().first().map(|first| {
                        let (line, column) = first.primary.source.position(first.primary.span.start);
                        format!(" ({line}:{column}: {})", first.message)
                    }),
                    _ => None,
                };
                warn(format!("the models stay as they were: {}{}", with_causes(&error), first.unwrap_or_default()));
            }
            (_, Err(error)) => warn(format!("the models stay as they were: {}", with_causes(&error))),
        }
    }

    /// Has the models be those of `config`.
    fn arrange(&self, config: &Config, records: &[ImageRecord]) {
        let keeper = &self.gate.keeper;
        keeper.limit(config.memory());
        let before = self.gate.table();
        let models: Vec<_> = config
            .models
            .iter()
            .map(|(name, written)| {
                let model = before.models.get(name).cloned().unwrap_or_else(|| Arc::new(Model::new(name)));
                self.arrange_model(&model, written, records);
                model
            })
            .collect();
        let table = Table::new(models, config);
        let removed = before.models.iter().filter(|(name, _)| !table.models.contains_key(*name));
        let removed: Vec<_> = removed.map(|(_, model)| Arc::clone(model)).collect();
        let count = table.models.len();
        self.gate.set_table(table);
        // After the change, so that nobody finds them any more.
        removed.iter().for_each(|model| retire(model));
        keeper.tell(Event::Loaded(count));
    }

    /// Has a model be what is written of it. A version that has a container is replaced when the next one is ready.
    fn arrange_model(&self, model: &Arc<Model>, written: &config::Model, records: &[ImageRecord]) {
        let keeper = &self.gate.keeper;
        let (images, newest) = table::images_of(written, records);
        if images.is_empty() {
            let (name, image) = (&model.name, &written.image);
            keeper.tell(Event::Warning(format!("`{name}` cannot be served: there is no image `{image}` in the store")));
        }
        let written = Arc::new(written.clone());
        let retired = model.change(|shape| {
            let same = |version: &&Arc<Version>, record: &ImageRecord| {
                version.record.digest == record.digest
                    && version.record.name == record.name
                    && *version.model == *written
            };
            let versions = images.into_iter().map(|record| {
                let known = shape.versions.get(record.name.tag()).filter(|version| same(version, &record));
                let tag = record.name.tag().to_owned();
                let version = known.cloned().unwrap_or_else(|| {
                    Arc::new(Version::new(&model.name, record, Arc::clone(&written), self.settings.timeout))
                });
                (tag, version)
            });
            let versions = versions.collect();
            let before = std::mem::replace(&mut shape.versions, versions);
            let before = before.into_values().chain(shape.current.clone());
            shape.hours = written.schedule.as_ref().and_then(|schedule| schedule.hours().ok());
            let next = newest.and_then(|tag| shape.versions.get(&tag).cloned());
            shape.next = None;
            match (&shape.current, next) {
                (Some(current), Some(next)) if Arc::ptr_eq(current, &next) => {}
                (Some(current), Some(next)) if current.is_up() && next.strategy != Strategy::Immediate => {
                    shape.next = Some(Arc::clone(&next));
                    tokio::spawn(roll(Arc::clone(model), Arc::clone(keeper), Arc::clone(current), next));
                }
                (_, next) => shape.current = next,
            }
            let is_current =
                |version: &Arc<Version>| shape.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, version));
            shape.versions.values().filter(|version| !is_current(version)).for_each(|version| version.hold(false));
            let stays = |version: &Arc<Version>| {
                let mut kept = shape.versions.values().chain(&shape.current);
                kept.any(|kept| Arc::ptr_eq(kept, version))
            };
            before.filter(|version| !stays(version)).collect::<Vec<_>>()
        });
        retired.iter().for_each(|version| version.retire());
        attend(model, keeper, Timestamp::now());
    }
}

/// Has the version `next` take the place of `current` once it is ready. Until then, and where it never is, all stays as it was.
async fn roll(model: Arc<Model>, keeper: Arc<Keeper>, current: Arc<Version>, next: Arc<Version>) {
    const LONGEST: Duration = Duration::from_secs(60);
    let mut pause = Duration::from_secs(1);
    loop {
        let is_wanted = |shape: &table::Shape| shape.next.as_ref().is_some_and(|wanted| Arc::ptr_eq(wanted, &next));
        if !model.change(|shape| is_wanted(shape)) {
            return;
        }
        match next.ready(&keeper).await {
            Err(Denied::Retired) => return,
            Err(Denied::Refused(refusal)) => {
                let text = format!("{} goes on, as {} does not start: {refusal}", current.name, next.name);
                keeper.tell(Event::Warning(text));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            Ok(()) => {
                let replaced = model.change(|shape| {
                    let replaces = is_wanted(shape);
                    if replaces {
                        shape.next = None;
                        shape.current = Some(Arc::clone(&next));
                    }
                    replaces.then(|| shape.versions.values().any(|version| Arc::ptr_eq(version, &current)))
                });
                current.hold(false);
                match replaced {
                    // Whoever asks for it by its version still can.
                    Some(true) => current.end(),
                    Some(false) => current.retire(),
                    None => {}
                }
                return;
            }
        }
    }
}

/// Starts or ends what is to run or not to run at this time, whether or not somebody asks.
fn attend(model: &Model, keeper: &Arc<Keeper>, now: Timestamp) {
    let Some((current, runs, ends)) = model.change(|shape| {
        let current = shape.current.clone()?;
        let always = current.strategy == Strategy::AlwaysOn;
        let (within, next) = match &mut shape.hours {
            None => (None, None),
            Some(hours) => {
                let (within, next) = hours.at(now);
                (Some(within), next)
            }
        };
        let was_within = std::mem::replace(&mut shape.is_within, within == Some(true));
        shape.closed = (always && within == Some(false)).then(|| next.unwrap_or(Timestamp::MAX));
        let ends = within == Some(false) && (was_within || always);
        Some((current, within.unwrap_or(always), ends))
    }) else {
        return;
    };
    current.hold(runs);
    if runs {
        current.bring_up(keeper);
    } else if ends && current.is_up() {
        current.end();
    }
}

/// Ends all versions of a model after their requests.
fn retire(model: &Model) {
    let shape = model.change(std::mem::take);
    shape.versions.into_values().chain(shape.current).for_each(|version| version.retire());
    shape.next.into_iter().for_each(|version| version.retire());
}

/// Returns once it is so.
async fn is_so(what: &mut watch::Receiver<bool>) {
    // Whoever would say so lives longer than whoever waits.
    let _ = what.wait_for(|is_so| *is_so).await;
}

/// Takes connections until it is aborted; `ended` has those that there are end after their requests.
async fn accept(listener: TcpListener, gate: Arc<Gate>, ended: watch::Receiver<bool>, open: mpsc::Sender<()>) {
    // Each may need another one, to a model.
    let files =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let most = usize::try_from(files / 3).unwrap_or(CONNECTIONS).clamp(16, CONNECTIONS);
    let places = Arc::new(Semaphore::new(most));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of files, or the peer has gone already.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (gate, mut ended, open) = (Arc::clone(&gate), ended.clone(), open.clone());
        tokio::spawn(async move {
            let _held = (place, open);
            let _ = stream.set_nodelay(true);
            let address = peer.ip().to_canonical();
            let service = service_fn(move |request| {
                let gate = Arc::clone(&gate);
                async move { Ok::<_, Infallible>(gate.answer(request, address).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_headers(128)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                // What breaks off is told to nobody: whoever would hear it has gone.
                _ = &mut connection => {}
                () = is_so(&mut ended) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
}

/// Locks, whatever became of another holder: what is guarded here is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
