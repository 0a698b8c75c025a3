//! One version of a model: started when it is needed, once for all who wait; ended when it is not.
//!
//! | phase | a request |
//! |---|---|
//! | idle | starts it and waits; after failures, is told when there is another attempt |
//! | starting | waits, with all others, as long as it may |
//! | ready | goes in, if it is one of those that the model takes at once; else waits |
//!
//! Invariants: with the strategies `ALWAYS_ON` and `TIMEOUT` there is one start at a time, and one container that takes
//! requests; with `IMMEDIATE` a container has one request ever. A container that was started has an attendant that waits for its
//! end and takes away what it leaves, whatever becomes of the request it was started for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HOST;
use hyper::{Method, Request};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::config;
use super::instance::{Body, Instance, Processes, Visit};
use super::keeper::{Claim, Event, Keeper};
use super::lock;
use super::refusal::Refusal;
use super::tally::Tally;
use crate::bundle::extract;
use crate::image::store::{self, ImageRecord};
use crate::image::{self, Image};
use crate::io::explain::{Explain, Explanation, with_causes};
use crate::io::size;
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::Strategy;
use crate::run::container::{self, Container, Limits};
use crate::run::devices::{self, Devices, Specifications};
use crate::run::ended::EndedLogs;
use crate::run::{self, Options, volume};

/// How long a container must have lived to count as one that can.
const VIABLE: Duration = Duration::from_secs(10);

/// The reason where a container ended by itself. Its requests wait through the pauses after so many of these, one after the other.
const DIED: &str = "died";
const PATIENT: u32 = 3;

/// Where a model says that it is ready, and seconds that its container has to end, where nothing else is said of them.
const READY: &str = "/readyz";
const GRACE: u64 = 10;

/// Bytes that are kept of what a container said that died.
const SAID: usize = 1 << 20;

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// It cannot be looked into.
    #[error(transparent)]
    Inside(#[from] extract::Error),
    /// A volume is none.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// A device cannot be had.
    #[error(transparent)]
    Devices(#[from] devices::Error),
    /// It did not start.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// It cannot be waited for.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// The kernel says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Store(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Inside(error) => error.explain(),
            Self::Volume(error) => error.explain(),
            Self::Devices(error) => error.explain(),
            Self::Run(error) => error.explain(),
            Self::Container(error) => error.explain(),
            Self::Io(error) => error.explain(),
        }
    }
}

/// Why a request did not get in.
#[derive(Debug)]
pub enum Denied {
    /// Another version has taken its place: to be looked up again.
    Retired,
    /// It is to be told why.
    Refused(Refusal),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A version of a model.
pub struct Version {
    /// `NAME@VERSION`.
    pub name: Arc<str>,
    /// Its image.
    pub record: ImageRecord,
    /// What is said of the model.
    pub model: Arc<config::Model>,
    /// When its containers are started and ended.
    pub strategy: Strategy,
    /// How long it is kept after its last answer.
    pub timeout: Duration,
    /// What is counted.
    pub tally: Arc<Tally>,
    /// Requests at once; of `IMMEDIATE`, containers at once.
    turns: Arc<Semaphore>,
    state: Mutex<State>,
    changed: Notify,
    /// The most memory that one of its containers was seen to use, in bytes.
    peak: AtomicU64,
    own: OnceLock<Own>,
}

/// What the manifest in the image says of how it is run. What is said of the model counts more.
#[derive(Clone, Debug, Default)]
struct Own {
    ready: Option<String>,
    /// Below which path it serves all.
    root: Option<String>,
    /// Bytes.
    memory: Option<u64>,
    cpus: Option<f64>,
    /// The time in which it answers what it has when it is asked to end.
    grace: Duration,
    /// What its server answers, in OpenAPI, as JSON.
    openapi: Option<Arc<str>>,
}

impl Own {
    fn of((manifest, openapi): &(Manifest, Option<String>)) -> Self {
        Self {
            openapi: openapi.as_deref().map(Arc::from),
            ready: Some(manifest.service.ready.clone()),
            root: manifest.service.root.clone(),
            memory: manifest.resources.memory.as_deref().and_then(size::bytes),
            cpus: manifest.resources.cpus,
            grace: manifest.service.grace.as_ref().and_then(|written| written.meant().ok()).map_or(
                Duration::ZERO,
                // And a moment to end in.
                |period| Duration::from_secs_f64(period.seconds() + 2.0),
            ),
        }
    }
}

struct State {
    phase: Phase,
    is_retired: bool,
    /// Its container is kept though nobody asks.
    is_held: bool,
    /// Starts that failed, and early deaths, since it last did well.
    failures: u32,
    not_before: Option<Instant>,
    last_failure: Option<(SystemTime, Refusal)>,
}

enum Phase {
    Idle,
    Starting,
    Ready(Arc<Instance>),
}

/// How a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has no container.
    Idle,
    /// Its container is not ready yet.
    Starting,
    /// Its container answers.
    Ready,
    /// It has no container, as the last start failed.
    Failed,
}

impl Version {
    /// One of which nothing runs yet.
    pub fn new(name: &str, record: ImageRecord, model: Arc<config::Model>, default_timeout: Duration) -> Self {
        let (strategy, timeout) = model.strategy(default_timeout);
        let turns = model.concurrency.unwrap_or(if strategy == Strategy::Immediate { 16 } else { 64 });
        Self {
            name: format!("{name}@{}", record.name.tag()).into(),
            record,
            model,
            strategy,
            timeout,
            tally: Arc::default(),
            turns: Arc::new(Semaphore::new(turns as usize)),
            state: Mutex::new(State {
                phase: Phase::Idle,
                is_retired: false,
                is_held: false,
                failures: 0,
                not_before: None,
                last_failure: None,
            }),
            changed: Notify::new(),
            peak: AtomicU64::new(0),
            own: OnceLock::new(),
        }
    }

    /// How it is, and the last failure with its time.
    pub fn status(&self) -> (Status, Option<(SystemTime, Refusal)>) {
        let state = lock(&self.state);
        let status = match &state.phase {
            Phase::Idle if state.last_failure.is_some() => Status::Failed,
            Phase::Idle => Status::Idle,
            Phase::Starting => Status::Starting,
            Phase::Ready(instance) if instance.is_open() => Status::Ready,
            Phase::Ready(_) => Status::Idle,
        };
        (status, state.last_failure.clone())
    }

    /// Whether it has a container that takes requests, or is about to have one.
    pub fn is_up(&self) -> bool {
        matches!(self.status().0, Status::Starting | Status::Ready)
    }

    /// A place in a container of it, which may have to be started.
    ///
    /// # Errors
    /// When another version has taken its place, or the request cannot be given to the model.
    pub async fn visit(self: &Arc<Self>, keeper: &Arc<Keeper>) -> Result<Visit, Denied> {
        let mut turn = Arc::clone(&self.turns).try_acquire_owned().ok();
        if self.strategy != Strategy::Immediate && turn.is_some() {
            let visit = match &lock(&self.state).phase {
                Phase::Ready(instance) => instance.enter(),
                _ => None,
            };
            if let Some(visit) = visit {
                return Ok(turn.take().into_iter().fold(visit, Visit::with));
            }
        }
        let _waiting = self.queue()?;
        let wait = Duration::from_secs(self.model.wait.into());
        let deadline = Instant::now() + wait;
        let waited = tokio::time::timeout_at(deadline.into(), async {
            let turn = match turn {
                Some(turn) => turn,
                // Never closed.
                None => Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Denied::Retired)?,
            };
            match self.strategy {
                Strategy::Immediate => self.visit_own(keeper, turn, deadline).await,
                Strategy::AlwaysOn | Strategy::Timeout => Ok(self.visit_shared(keeper).await?.with(turn)),
            }
        });
        match waited.await {
            Ok(result) => result,
            Err(_) => {
                let why = format!("the model did not take the request within {} s", wait.as_secs());
                Err(Refusal::late("waited", why).into())
            }
        }
    }

    /// Counts a request among those that wait.
    fn queue(&self) -> Result<Waiting<'_>, Refusal> {
        let waiting = Waiting(&self.tally);
        if self.tally.waiting.fetch_add(1, Ordering::AcqRel) >= self.model.queue as usize {
            let why = "too many requests wait for the model already";
            return Err(Refusal::unavailable("queue-full", why).after(Duration::from_secs(1)));
        }
        Ok(waiting)
    }

    /// A container for one request. It is ended after it, also where whoever asked has left meanwhile.
    async fn visit_own(
        self: &Arc<Self>,
        keeper: &Arc<Keeper>,
        turn: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Visit, Denied> {
        if lock(&self.state).is_retired {
            return Err(Denied::Retired);
        }
        let (give, take) = oneshot::channel();
        let (version, keeper) = (Arc::clone(self), Arc::clone(keeper));
        tokio::spawn(async move {
            let visit = version.launch(&keeper, Some(turn), deadline).await.map(|instance| {
                let visit = instance.enter();
                instance.close();
                visit
            });
            version.note_failure(visit.as_ref().err());
            let _ = give.send(visit);
        });
        let dead = || Refusal::unavailable(DIED, "the container ended before it got the request");
        take.await.unwrap_or_else(|_| Err(dead()))?.ok_or_else(|| dead().into())
    }

    /// A place in the one container, as soon as there is one.
    async fn visit_shared(self: &Arc<Self>, keeper: &Arc<Keeper>) -> Result<Visit, Denied> {
        let mut has_waited = false;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut until = None;
            {
                let mut state = lock(&self.state);
                match &state.phase {
                    Phase::Ready(instance) => {
                        if let Some(visit) = instance.enter() {
                            return Ok(visit);
                        }
                        state.phase = Phase::Idle;
                    }
                    Phase::Starting | Phase::Idle => {}
                }
                if state.is_retired {
                    return Err(Denied::Retired);
                }
                if matches!(state.phase, Phase::Idle) {
                    let pause = state.not_before.and_then(|until| until.checked_duration_since(Instant::now()));
                    // Somebody may have killed it; others that do the same again and again are no use to wait for.
                    let is_patient = state.failures <= PATIENT;
                    match (&state.last_failure, pause) {
                        (Some((_, Refusal { reason: DIED, .. })), Some(pause)) if is_patient => until = Some(pause),
                        (Some((_, Refusal { reason: DIED, .. })), None) if is_patient => self.begin(&mut state, keeper),
                        // What it waited for has failed, or has just failed for others.
                        (Some((_, refusal)), Some(pause)) => return Err(refusal.clone().after(pause).into()),
                        (Some((_, refusal)), None) if has_waited => return Err(refusal.clone().into()),
                        _ => self.begin(&mut state, keeper),
                    }
                }
            }
            match until {
                Some(pause) => tokio::time::sleep(pause).await,
                None => changed.await,
            }
            has_waited = true;
        }
    }

    /// Starts it, if it is not up and no pause has to be kept.
    pub fn bring_up(self: &Arc<Self>, keeper: &Arc<Keeper>) {
        let mut state = lock(&self.state);
        let is_up = match &state.phase {
            Phase::Idle => false,
            Phase::Starting => true,
            Phase::Ready(instance) => instance.is_open(),
        };
        let pauses = state.not_before.is_some_and(|until| until > Instant::now());
        if !is_up && !pauses && !state.is_retired && self.strategy != Strategy::Immediate {
            self.begin(&mut state, keeper);
        }
    }

    /// Starts it, and returns when it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn ready(self: &Arc<Self>, keeper: &Arc<Keeper>) -> Result<(), Denied> {
        self.visit_shared(keeper).await.map(drop)
    }

    /// Keeps its container though nobody asks, or not any longer.
    pub fn hold(self: &Arc<Self>, is_held: bool) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.is_held, is_held) == is_held {
            return;
        }
        if let Phase::Ready(instance) = &state.phase {
            *lock(&instance.patience) = self.patience(&state);
        }
    }

    /// How long its container may be idle. One that is always on is held, if it is the version that `/NAME/…` leads to; of
    /// another, which somebody asked for, a container is kept as long as that of any model.
    fn patience(&self, state: &State) -> Option<Duration> {
        (!state.is_held).then_some(self.timeout)
    }

    /// Ends its container after the requests that it has. The next request starts another.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        if let Phase::Ready(instance) = &state.phase {
            instance.close();
            state.phase = Phase::Idle;
        }
        (state.not_before, state.failures) = (None, 0);
    }

    /// Ends its container after the requests that it has, and starts none any more.
    pub fn retire(&self) {
        lock(&self.state).is_retired = true;
        self.end();
        self.changed.notify_waiters();
    }

    fn begin(self: &Arc<Self>, state: &mut State, keeper: &Arc<Keeper>) {
        state.phase = Phase::Starting;
        let (version, keeper) = (Arc::clone(self), Arc::clone(keeper));
        tokio::spawn(async move {
            let turn = keeper.turn().await;
            let deadline = Instant::now() + Duration::from_secs(version.model.wait.into());
            let launched = version.launch(&keeper, None, deadline).await;
            drop(turn);
            version.note_failure(launched.as_ref().err());
            let mut state = lock(&version.state);
            state.phase = match launched {
                Ok(instance) if state.is_retired => {
                    instance.close();
                    Phase::Idle
                }
                Ok(instance) => {
                    *lock(&instance.patience) = version.patience(&state);
                    Phase::Ready(instance)
                }
                Err(_) => Phase::Idle,
            };
            drop(state);
            version.changed.notify_waiters();
        });
    }

    /// Takes a note of a start, or of why there was none.
    fn note_failure(&self, failure: Option<&Refusal>) {
        let mut state = lock(&self.state);
        match failure {
            Some(refusal) => {
                self.tally.failures.fetch_add(1, Ordering::Relaxed);
                state.last_failure = Some((SystemTime::now(), refusal.clone()));
                // That others use up the memory is no fault of its own.
                if refusal.reason != "memory" {
                    pause(&mut state);
                }
            }
            None => {
                self.tally.starts.fetch_add(1, Ordering::Relaxed);
                (state.last_failure, state.not_before) = (None, None);
            }
        }
    }

    /// Memory to set aside for a container of it, in bytes.
    fn need(&self) -> u64 {
        self.memory().unwrap_or_else(|| self.peak.load(Ordering::Relaxed))
    }

    /// What is known of its image, once that was looked into.
    fn own(&self) -> Own {
        self.own.get().cloned().unwrap_or_default()
    }

    /// The description that the image has of its server, if `path` is where programs look for one.
    pub fn described(&self, path: &str) -> Option<Arc<str>> {
        let is_asked = path.split('?').next() == Some("/openapi.json");
        is_asked.then(|| self.own().openapi).flatten()
    }

    /// The limit on a container's memory, in bytes.
    fn memory(&self) -> Option<u64> {
        self.model.memory.as_deref().and_then(size::bytes).or(self.own().memory)
    }

    /// The path of a request as the model itself has it, where it serves below its own name (`service.root: /NAME/api`): from
    /// that nothing is taken away.
    pub fn own_path(&self, prefix: &str, name: &str, path: &str) -> Option<String> {
        if prefix.is_empty() {
            return None;
        }
        let root = self.own().root?;
        let whole = format!("/{name}{path}");
        whole.strip_prefix(&root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])).then_some(whole)
    }

    /// The path that answers when it is ready.
    fn ready_path(&self) -> String {
        self.model.ready.clone().or(self.own().ready).unwrap_or_else(|| READY.to_owned())
    }

    /// How long a container has to end by itself.
    fn grace(&self) -> Duration {
        let written = self.model.grace.map(|seconds| Duration::from_secs(seconds.into()));
        written.unwrap_or_else(|| self.own().grace.max(Duration::from_secs(GRACE)))
    }

    /// Looks into the image, once. An image that Ekiben did not build, or of another version of it, says nothing.
    fn look_inside(&self, keeper: &Keeper) -> Result<(), Error> {
        if self.own.get().is_some() {
            return Ok(());
        }
        let session = keeper.session()?;
        let image = Image::of_record(&session.store, &self.record)?;
        let own = match extract::service(&session, &image) {
            Ok(service) => service.as_ref().map(Own::of).unwrap_or_default(),
            Err(error @ extract::Error::Manifest) => {
                keeper
                    .tell(Event::Warning(format!("{}: {error}, so what it says of resources is not known", self.name)));
                Own::default()
            }
            Err(error) => return Err(error.into()),
        };
        // Of two that looked at once, both saw the same.
        let _ = self.own.set(own);
        Ok(())
    }

    /// Starts a container with its attendant, who keeps `turn`, and returns when it is ready.
    async fn launch(
        self: &Arc<Self>,
        keeper: &Arc<Keeper>,
        turn: Option<OwnedSemaphorePermit>,
        deadline: Instant,
    ) -> Result<Arc<Instance>, Refusal> {
        let failed = |why: String| {
            keeper.tell(Event::Failed { model: self.name.to_string(), why: why.clone() });
            Refusal::unavailable("start", "the model could not be started").because(why)
        };
        let (version, surroundings) = (Arc::clone(self), Arc::clone(keeper));
        match tokio::task::spawn_blocking(move || version.look_inside(&surroundings)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(with_causes(&error))),
            Err(error) => return Err(failed(error.to_string())),
        }
        let number = Processes::number();
        let claim = keeper.claim(number, self.need(), deadline).await?;
        let begun = Instant::now();
        let (version, surroundings) = (Arc::clone(self), Arc::clone(keeper));
        let started = tokio::task::spawn_blocking(move || version.start(&surroundings));
        let container = match started.await {
            Ok(Ok(container)) => container,
            Ok(Err(error)) => return Err(failed(with_causes(&error))),
            Err(error) => return Err(failed(error.to_string())),
        };
        let address = container.state().ok().and_then(|state| Some(state.published.first()?.host));
        let processes = container.handles().map_err(Error::from).and_then(|handles| Ok(Processes::new(handles)?));
        let (Some(address), Ok(processes)) = (address, processes) else {
            // What is tied to this process ends when it is dropped.
            return Err(failed("the container ended at once".to_owned()));
        };
        let name = container.name().to_owned();
        let instance = Arc::new(Instance::new(number, Arc::clone(&self.name), name.clone(), address, None));
        keeper.add(Arc::clone(&instance));
        let attendant = Attendant { version: Arc::clone(self), keeper: Arc::clone(keeper), claim, _turn: turn };
        tokio::spawn(attendant.attend(Arc::clone(&instance), container, processes));
        let limit = Duration::from_secs(self.model.start.into());
        let ready = self.ready_path();
        tokio::select! {
            () = answers(&instance, &ready) => {
                keeper.tell(Event::Ready { model: self.name.to_string(), container: name, took: begun.elapsed() });
                Ok(instance)
            }
            () = instance.emptied() => Err(Refusal::unavailable(DIED, "the model ended before it was ready")),
            () = tokio::time::sleep(limit) => {
                instance.is_of_use.store(false, Ordering::Relaxed);
                instance.close();
                Err(failed(format!("it did not become ready within {} s ({})", limit.as_secs(), ready)))
            }
        }
    }

    /// Starts a container that is tied to this process: however this ends, the container's supervisor sees it and ends too.
    fn start(&self, keeper: &Keeper) -> Result<Container, Error> {
        let session = keeper.session()?;
        let image = Image::of_record(&session.store, &self.record)?;
        keeper.judge(&session, &self.record, &image)?;
        let model = &self.model;
        let volumes = model.volumes.iter().map(|text| text.parse()).collect::<Result<_, volume::Error>>()?;
        let devices = match model.gpus.is_empty() {
            true => Devices::default(),
            false => {
                let wanted = model.gpus.iter().map(|text| text.parse()).collect::<Result<Vec<_>, devices::Error>>()?;
                Specifications::read()?.devices(&wanted)?
            }
        };
        let env: Vec<_> = model.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let port = run::port(&image, &env);
        let options = Options {
            name: None,
            publish: vec![run::any_port(port)],
            host_network: false,
            ways: model.connect.iter().filter_map(|text| text.parse().ok()).collect(),
            limits: Limits { memory: self.memory(), cpus: model.cpus.or(self.own().cpus), ..Limits::default() },
            read_only: false,
            volumes,
            devices,
            env,
            args: Vec::new(),
            engine: None,
            keep: false,
            labels: [(run::MODEL.to_owned(), self.name.to_string())].into(),
        };
        Ok(run::start(&session, &self.record.name, &image, &options)?)
    }
}

/// The next attempt is not due before a pause that doubles with each failure, of half a second to a minute.
fn pause(state: &mut State) {
    let pause = Duration::from_millis(500) * 2_u32.saturating_pow(state.failures.min(7));
    state.failures += 1;
    state.not_before = Some(Instant::now() + pause.min(Duration::from_secs(60)));
}

/// A request that waits, until this is dropped.
struct Waiting<'a>(&'a Tally);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns when the service answers `path` with a status of 2xx.
async fn answers(instance: &Instance, path: &str) {
    let mut pause = Duration::from_millis(5);
    loop {
        let asked = async {
            let mut connection = instance.connect().await.ok()?;
            let request = Request::builder().method(Method::GET).uri(path).header(HOST, "localhost").body(Body::none());
            let answer = connection.send_request(request.ok()?).await.ok()?;
            answer.status().is_success().then_some(())
        };
        if let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(5), asked).await {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// Who waits for the end of a container.
struct Attendant {
    version: Arc<Version>,
    keeper: Arc<Keeper>,
    claim: Claim,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Attendant {
    async fn attend(self, instance: Arc<Instance>, container: Container, processes: Processes) {
        let container = Arc::new(Mutex::new(container));
        let has_died = loop {
            tokio::select! {
                biased;
                () = processes.ended() => break true,
                () = instance.emptied() => break false,
                () = self.keeper.forced() => break false,
                () = tokio::time::sleep(Duration::from_secs(1)) => self.measure(&instance, &container).await,
            }
        };
        instance.close();
        let version = &self.version;
        if has_died {
            version.tally.deaths.fetch_add(1, Ordering::Relaxed);
            let mut state = lock(&version.state);
            if matches!(&state.phase, Phase::Ready(ready) if ready.number == instance.number) {
                state.phase = Phase::Idle;
                let lived = instance.started.elapsed().unwrap_or_default();
                if instance.answered.load(Ordering::Relaxed) > 0 || lived > VIABLE {
                    state.failures = 0;
                } else {
                    let refusal = Refusal::unavailable(DIED, "the model's container ended soon after its start");
                    state.last_failure = Some((SystemTime::now(), refusal));
                    pause(&mut state);
                }
            }
        }
        let grace = version.grace();
        // What one said that was never ready may tell why.
        let is_odd = has_died || !instance.is_of_use.load(Ordering::Relaxed);
        let keeps = is_odd && !instance.has_seen_credentials.load(Ordering::Relaxed);
        let keeper = Arc::clone(&self.keeper);
        let finished = tokio::task::spawn_blocking(move || {
            let (exit, said) = finish(&container, grace)?;
            // A disk that says no keeps nothing else from going on.
            let kept = keeps
                && keeper
                    .session()
                    .is_ok_and(|session| EndedLogs::of(&session).keep(lock(&container).name(), &said).is_ok());
            Ok::<_, container::Error>((exit, kept))
        });
        let finished = finished.await;
        let has_log = matches!(&finished, Ok(Ok((_, true))));
        let how = match finished {
            Ok(Ok((Ok(exit), _))) if exit.out_of_memory => "it used up its memory".to_owned(),
            Ok(Ok((Ok(exit), _))) => format!("it ended with exit code {}", exit.code),
            Ok(Ok((Err(error), _)) | Err(error)) => with_causes(&error),
            Err(error) => error.to_string(),
        };
        let (model, container) = (version.name.to_string(), instance.container.clone());
        self.keeper.tell(match has_died {
            true => Event::Died { model, container, how, has_log },
            false => Event::Ended { model, container, has_log },
        });
        drop(self.claim);
        self.keeper.forget(instance.number);
    }

    /// Looks at what the container uses.
    async fn measure(&self, instance: &Instance, container: &Arc<Mutex<Container>>) {
        let container = Arc::clone(container);
        let Ok(usage) = tokio::task::spawn_blocking(move || lock(&container).usage()).await else { return };
        instance.note_usage(usage);
        self.version.peak.fetch_max(usage.memory, Ordering::Relaxed);
        if self.version.memory().is_none() {
            self.claim.set(usage.memory);
            if self.keeper.most().is_some_and(|most| self.keeper.claimed() > most) {
                self.keeper.end_longest_idle();
            }
        }
    }
}

/// How a container ended, and the last of what it said.
type Finished = (Result<container::Exit, container::Error>, Vec<u8>);

/// Ends a container and takes away what is left of it.
fn finish(container: &Mutex<Container>, grace: Duration) -> Result<Finished, container::Error> {
    let mut container = lock(container);
    container.stop(grace)?;
    let mut said = Vec::new();
    let exit = container.wait(&mut |bytes| {
        said.extend_from_slice(bytes);
        let surplus = said.len().saturating_sub(SAID);
        said.drain(..surplus);
    });
    Ok((exit, said))
}
