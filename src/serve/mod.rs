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
mod forwarded;
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

pub use forwarded::{Network, NoNetwork};
pub use keeper::{Event, Tell};
pub use tokens::{Error as TokenError, Tokens};

use std::collections::BTreeMap;
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
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::formats::diagnostic::Diagnostics;
use crate::image::Image;
use crate::image::session::Session;
use crate::image::store::{self, ImageName, ImageQuery, ImageRecord};
use crate::io::explain::{ErrorKind, Explain, Explanation, with_causes};
use crate::project::manifest::deploy::Strategy;
use crate::run::{self, container};
use config::Config;
use forwarded::Proxies;
use gate::Gate;
use keeper::Keeper;
use proxy::Held;
use table::{Model, Table};
use version::{Denied, Version};

/// Connections at once; more wait until one is closed.
const CONNECTIONS: usize = 4096;

/// How often it is looked whether a model has been idle for long enough, and whether a file has changed.
const TICK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(500);

/// Bytes and lines that the head of a request may have.
const HEAD: usize = 64 << 10;
const HEADERS: usize = 128;

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
    /// How long nothing may move on a connection whose caller's turn it is: to send a request or more of it, or to take an
    /// answer.
    pub patience: Duration,
    /// Proxies that are believed, beside those that the configuration names.
    pub proxies: Vec<Network>,
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

/// Builds the image of a project, a bundle or a bento, and gives its name in the store. An error comes through
/// [`crate::io::explain::carry`].
pub type Build = Box<dyn Fn(&Session, &Path) -> io::Result<ImageName> + Send + Sync>;

/// Says whether an image of the store may be started. An error comes through [`crate::io::explain::carry`].
pub type Judge = Box<dyn Fn(&Session, &ImageRecord, &Image) -> io::Result<()> + Send + Sync>;

/// The images of projects that are served. Each is built once, however often the configuration is read again.
struct Projects {
    build: Build,
    images: BTreeMap<PathBuf, ImageName>,
}

impl Projects {
    /// Gives each model of `config` that is a project its image. Where one cannot be built, none is forgotten.
    fn take_up(&mut self, session: &Session, config: &mut Config) -> io::Result<()> {
        let mut images = BTreeMap::new();
        for model in config.models.values_mut() {
            let Some(project) = &model.project else { continue };
            let image = match self.images.get(project).or_else(|| images.get(project)) {
                Some(image) => image.clone(),
                None => (self.build)(session, project)?,
            };
            model.image = Some(image.to_string());
            images.insert(project.clone(), image);
        }
        self.images = images;
        Ok(())
    }
}

/// Serves until SIGINT or SIGTERM, then lets requests in hand end, and ends all containers. A second signal lets nothing
/// end. SIGHUP has the configuration read again.
///
/// # Errors
/// When it cannot begin. Later a configuration with mistakes is a warning, and the one before stays.
pub fn serve(session: Session, settings: Settings, build: Build, judge: Judge, tell: Tell) -> Result<(), Error> {
    // What others left that were killed.
    run::containers(&session)?.sweep()?;
    let (mut config, stamp) = settings.source.read()?;
    let mut projects = Projects { build, images: BTreeMap::new() };
    projects.take_up(&session, &mut config)?;
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
    let keeper = Arc::new(Keeper::new(session, judge, tell));
    let control = tokens.clone().unwrap_or_else(|| settings.control.clone());
    let gate = Arc::new(Gate::new(keeper, address, tokens, control, settings.patience));
    let served = runtime.block_on(async {
        let listener = TcpListener::from_std(socket)?;
        let images = image_stamp(gate.keeper.root());
        let projects = Arc::new(Mutex::new(projects));
        let keys = settings.tokens.as_ref().and_then(Keys::stamp);
        let serving = Serving { gate, settings, stamp, images, keys, projects };
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

    fn stamp(&self) -> Stamp {
        match self {
            Self::Given(_) => None,
            Self::File(path) => stamp(path),
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
    keys: Stamp,
    projects: Arc<Mutex<Projects>>,
}

/// What was read again: the models, and what tells whether they have changed since; and the images that there are.
type Reading = JoinHandle<Result<(Config, Stamp, Vec<ImageRecord>), Error>>;

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
        let accepting = tokio::spawn(accept(listener, Arc::clone(&gate), self.settings.patience, ended, open));
        let mut last_look = Instant::now();
        let mut reading: Option<Reading> = None;
        let mut is_asked_to_read = false;
        loop {
            let read = async {
                match &mut reading {
                    Some(reading) => reading.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminations.recv() => break,
                _ = interrupts.recv() => break,
                _ = hangups.recv() => is_asked_to_read = true,
                read = read => {
                    reading = None;
                    self.take_up(read.map_err(|error| Error::Io(io::Error::other(error))).flatten());
                }
                () = tokio::time::sleep(TICK) => {
                    gate.keeper.end_idle();
                    if last_look.elapsed() >= LOOK {
                        last_look = Instant::now();
                        // What is being read may be a project that is being built.
                        if reading.is_none() && (self.has_changed() || is_asked_to_read) {
                            is_asked_to_read = false;
                            reading = Some(self.read_again());
                        }
                        let keys = self.settings.tokens.as_ref().and_then(Keys::stamp);
                        if keys != self.keys && keys.is_some() {
                            self.read_tokens();
                        }
                        self.attend();
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

    /// Whether something is to be read again.
    fn has_changed(&self) -> bool {
        let follows = self.settings.following == Following::Store;
        let (stamp, images) = (self.settings.source.stamp(), image_stamp(self.gate.keeper.root()));
        // A file that is just not there is about to be written.
        (stamp != self.stamp && stamp.is_some()) || (follows && images != self.images && images.is_some())
    }

    /// Starts what is to run.
    fn attend(&self) {
        let now = Timestamp::now();
        for model in self.gate.table().models.values() {
            attend(model, &self.gate.keeper, now);
        }
    }

    /// Reads the configuration and the images again. Whoever prunes the store may take a while, and a build does.
    fn read_again(&mut self) -> Reading {
        let keeper = Arc::clone(&self.gate.keeper);
        self.images = image_stamp(keeper.root());
        self.stamp = self.settings.source.stamp();
        self.read_tokens();
        let (source, projects) = (self.settings.source.clone(), Arc::clone(&self.projects));
        tokio::task::spawn_blocking(move || {
            let (mut config, stamp) = source.read()?;
            let session = keeper.session()?;
            lock(&projects).take_up(&session, &mut config)?;
            Ok((config, stamp, session.store.images()?))
        })
    }

    fn read_tokens(&mut self) {
        let Some(keys) = &self.settings.tokens else { return };
        self.keys = keys.stamp();
        match keys.read() {
            Ok(tokens) => self.gate.set_tokens(&tokens),
            Err(error) => {
                let text = format!("the tokens stay as they were: {}", with_causes(&error));
                self.gate.keeper.tell(Event::Warning(text));
            }
        }
    }

    /// Has the models be those that were read. Where there are mistakes, all stays as it was.
    fn take_up(&mut self, read: Result<(Config, Stamp, Vec<ImageRecord>), Error>) {
        match read {
            Ok((config, stamp, records)) => {
                self.stamp = stamp;
                self.arrange(&config, &records);
            }
            Err(error) => {
                let first = match &error {
                    Error::Malformed { diagnostics, .. } => diagnostics.sorted().first().map(|first| {
                        let (line, column) = first.primary.source.position(first.primary.span.start);
                        format!(" ({line}:{column}: {})", first.message)
                    }),
                    _ => None,
                };
                let text =
                    format!("the models stay as they were: {}{}", with_causes(&error), first.unwrap_or_default());
                self.gate.keeper.tell(Event::Warning(text));
            }
        }
    }

    /// Has the models be those of `config`.
    fn arrange(&self, config: &Config, records: &[ImageRecord]) {
        let keeper = &self.gate.keeper;
        keeper.limit(config.memory());
        self.gate.set_proxies(Proxies([config.proxies(), self.settings.proxies.clone()].concat()));
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
            let (name, image) = (&model.name, written.image.as_deref().unwrap_or_default());
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
                let why = refusal.cause.unwrap_or(refusal.why);
                let text = format!("{} goes on, as {} does not start: {why}", current.name, next.name);
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
async fn accept(
    listener: TcpListener,
    gate: Arc<Gate>,
    patience: Duration,
    ended: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) {
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
            let held: Held = Arc::new((place, open));
            prepare(&stream, patience);
            let address = peer.ip().to_canonical();
            let service = service_fn(|mut request| {
                let gate = Arc::clone(&gate);
                request.extensions_mut().insert(Arc::clone(&held));
                async move { Ok::<_, Infallible>(gate.answer(request, address).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(patience)
                .max_headers(HEADERS)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
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

/// Has the kernel end a connection of which nothing is taken for `patience`, or whose other side is not there any more.
fn prepare(stream: &TcpStream, patience: Duration) {
    // A kernel that says no to one of these lets connections stay longer.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, patience);
    let _ = sockopt::set_tcp_user_timeout(stream, u32::try_from(patience.as_millis()).unwrap_or(u32::MAX));
}

/// Locks, whatever became of another holder: what is guarded here is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
