//! Starting an image's service, for `ekiben run` and `ekiben test`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::policy::{self, PolicyArgs};
use super::printer::{NAME, Output, Time, plain};
use super::{Context, Failure, completions};
use crate::build::built::Built;
use crate::build::gate::Gate;
use crate::formats::package;
use crate::image::session::Session;
use crate::io::explain::quoted;
use crate::io::size;
use crate::project::manifest::{Manifest, Resources};
use crate::run::container::{self, Container, Limits, LogReader, PassedOn, Publish, Way};
use crate::run::devices::{self, Devices, Specifications};
use crate::run::ended::EndedLogs;
use crate::run::service::{
    self, Answer, Credentials, Detail, Example, Outcome, RequestId, Sent, Service, Transcript, Verdict, readable,
    without_access,
};
use crate::run::{self, Options, volume};

/// How a service is started.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct How {
    /// Another program to run the container: runc, crun, podman or docker.
    #[arg(long, value_name = "NAME", add = completions::engines())]
    pub engine: Option<String>,
    /// Memory that the container may use, as 512Mi or 2Gi.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,
    /// Processors that the container may use, as 2 or 0.5.
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<f64>,
    /// Processes and threads that the container may have.
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().pids.unwrap_or_default(), value_parser = clap::value_parser!(u64).range(1..))]
    pub pids_limit: u64,
    /// Let the container write to /tmp, /run and /dev/shm alone, as Kubernetes does where it is told to.
    ///
    /// Without it, it can write wherever its user may: its home, temporary folders, an image's own folders. What it
    /// writes lies in memory, up to 1 GiB or half of --memory, and is gone with the container.
    #[arg(long)]
    pub read_only: bool,
    /// A variable of the container's environment; may be repeated.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<String>,
    /// A file of such variables, as docker reads it; may be repeated. --env comes after it.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Where the container may connect to, beyond itself; may be repeated.
    ///
    /// The program in the container reaches HOST:PORT under that name and that port, and nothing else: ekiben makes the
    /// connection, as this machine makes it. 127.0.0.1 and localhost are then this machine's, at that port alone.
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Vec<Way>,
    /// A file or folder of this machine that the container sees, and writes to unless `:ro` stands behind it; may be repeated.
    #[arg(long, value_name = "HOST:CONTAINER[:ro]")]
    pub volume: Vec<String>,
    /// GPUs that the container gets: all, so many of them, or some by their numbers or names; or any devices by their full
    /// names, as nvidia.com/gpu=0. May be repeated.
    ///
    /// They come by the Container Device Interface, whose specifications lie in /etc/cdi and /var/run/cdi, or in the folders
    /// that EKIBEN_CDI names: for NVIDIA's, `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes one.
    #[arg(long, value_name = "all|NUMBER|device=NAMES|KIND=NAMES")]
    pub gpus: Vec<String>,
    /// Seconds that the service has to become ready.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// What a service gets with each request.
#[derive(clap::Args)]
#[group(skip)]
pub struct Secrets {
    /// A secret for the service, sent with each request as the header `ENV_NAME`; may be repeated.
    ///
    /// NAME has letters, digits and `_`. NAME alone takes the value from the variable NAME, and keeps it out of the
    /// list of processes. Headers with `_` reach a service that is asked directly; proxies such as nginx drop them
    /// unless told otherwise (`underscores_in_headers on`).
    #[arg(long = "credential", value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
}

impl Secrets {
    /// Read here and not by clap, which would show a value that it refuses.
    pub fn credentials(&self) -> Result<Credentials, Failure> {
        let texts = self.secrets.iter().map(String::as_str);
        Ok(Credentials::parse(texts, |name| std::env::var(name).ok())?)
    }
}

impl How {
    /// The devices that the container gets. To be asked for before anything is built, as they may not be there.
    ///
    /// # Errors
    /// When one of them is not there, or cannot be used.
    pub fn devices(&self, context: &Context) -> Result<Devices, devices::Error> {
        if self.gpus.is_empty() {
            return Ok(Devices::default());
        }
        let wanted = self.gpus.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?;
        let devices = Specifications::read()?.devices(&wanted)?;
        let (warnings, details) = devices.remarks();
        warnings.for_each(|text| context.printer.warn(text));
        details.for_each(|text| context.printer.detail(text));
        Ok(devices)
    }

    /// What an image has to pass before it is started; none where nothing is said. To be read before anything is built.
    ///
    /// # Errors
    /// When the policy has mistakes.
    pub fn gate(&self, context: &Context) -> Result<Option<Gate>, Failure> {
        self.policy.gate(context)
    }

    /// As options of a container that gets `devices`, with what the manifest says of resources.
    ///
    /// # Errors
    /// When a volume is not written as one, or a file of variables cannot be read.
    pub fn options(&self, resources: Option<&Resources>, devices: Devices) -> Result<Options, volume::Error> {
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(volume::env_file(file, |name| std::env::var(name).ok())?);
        }
        env.extend(self.env.iter().cloned());
        let volumes = self.volume.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let from_manifest = resources.and_then(|resources| size::bytes(resources.memory.as_deref()?));
        Ok(Options {
            name: None,
            publish: Vec::new(),
            host_network: false,
            ways: once_each(&self.connect),
            limits: Limits {
                memory: self.memory.or(from_manifest),
                cpus: self.cpus.or(resources.and_then(|resources| resources.cpus)),
                pids: Some(self.pids_limit),
                required: false,
            },
            read_only: self.read_only,
            volumes,
            devices,
            env,
            args: Vec::new(),
            engine: self.engine.clone(),
            keep: false,
            labels: BTreeMap::new(),
        })
    }
}

/// The ways, in the order in which they were given.
fn once_each(ways: &[Way]) -> Vec<Way> {
    let is_new = |(number, way): &(usize, &Way)| !ways.iter().take(*number).any(|earlier| earlier == *way);
    ways.iter().enumerate().filter(is_new).map(|(_, way)| way.clone()).collect()
}

/// A service that runs.
pub struct Running {
    pub container: Container,
    pub service: Service,
    pub refusals: Refusals,
    listener: LogReader,
    transcript: Transcript,
    /// Where its log is kept when it is gone; none where it stays.
    pub ended_logs: Option<EndedLogs>,
    is_ready: bool,
    /// Whether it marks what it logs of a request, and says when that is all.
    is_ours: bool,
    /// What it was asked last.
    last: Option<RequestId>,
    /// Something went wrong that its log may tell of.
    has_failed: bool,
    /// Signals to this process are for it, until it has ended; none where who started it hears them.
    pub signals: Option<PassedOn>,
}

/// Looks in what a container says for writes that were refused because of how it was started.
pub struct Refusals {
    read_only: bool,
    /// The end of what it said last: a message can come in two pieces.
    last: Vec<u8>,
    told: bool,
}

impl Refusals {
    /// What the C library says of a write to a read-only file system, and what libraries say that ask beforehand: numba,
    /// and matplotlib and others that fall back.
    const OF_READ_ONLY: [&[u8]; 3] =
        [b"Read-only file system", b"no locator available for file", b"is not a writable directory"];
    const OF_FULL: [&[u8]; 1] = [b"No space left on device"];

    fn new(read_only: bool) -> Self {
        Self { read_only, last: Vec::new(), told: false }
    }

    /// Looks at what it says next; tells a person, once.
    pub fn look_at(&mut self, context: &Context, said: &[u8]) {
        const LONGEST: usize = 64;
        if self.told {
            return;
        }
        self.last.extend_from_slice(said);
        let has = |text: &[u8]| self.last.windows(text.len()).any(|part| part == text);
        let message = if self.read_only && Self::OF_READ_ONLY.into_iter().any(has) {
            "it was refused to write, as --read-only asks; without it, what it writes lies in memory, and is gone with the \
             container"
        } else if Self::OF_FULL.into_iter().any(has) {
            "it may write no more than 1 GiB, or half of --memory where that is less, as what it writes lies in memory"
        } else {
            let end = self.last.len().saturating_sub(LONGEST);
            self.last.drain(..end);
            return;
        };
        context.printer.warn(message);
        self.told = true;
    }
}

/// What signals to this process do while a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// They end the container, and whatever waits for it fails with [`Failure::interrupted`]. Once it is gone they end this
    /// process, as one does that comes before it runs.
    PassedOn,
    /// Who starts it hears them.
    Heard,
}

/// Starts the image, once it has passed `gate`. Where the wanted address is taken and `movable` is set, another one is found.
pub fn start(
    context: &Context,
    session: &Session,
    built: &Built,
    gate: Option<&Gate>,
    mut options: Options,
    movable: bool,
    signals: Signals,
) -> Result<Running, Failure> {
    if let Some(gate) = gate {
        policy::judge_built(session, gate, built)?;
    }
    let started = Instant::now();
    let refusals = Refusals::new(options.read_only);
    let container = match run::start(session, &built.name, &built.image, &options) {
        Err(run::Error::Container(container::Error::Start(container::Failure::Address {
            in_use: true,
            address,
            ..
        }))) if movable => {
            say_moved(context, address);
            options.publish = vec![run::any_port(run::port(&built.image, &options.env))];
            run::start(session, &built.name, &built.image, &options)?
        }
        container => container?,
    };
    // Before it is said that it runs.
    let signals = (signals == Signals::PassedOn).then(|| container.pass_on_signals()).transpose()?;
    let address = match container.state()?.published.first() {
        Some(Publish { host, .. }) => *host,
        None => SocketAddr::from(([127, 0, 0, 1], run::port(&built.image, &options.env))),
    };
    let text = format!("{NAME}{}{NAME:#} in {}", container.name(), Time(started.elapsed()));
    context.printer.status("Started", text);
    let (listener, transcript) = (container.listen(), Transcript::default());
    let ended_logs = (!options.keep).then(|| EndedLogs::of(session));
    let root = built.manifest.as_ref().and_then(|manifest| manifest.service.root.as_deref());
    let service = Service::new(address).below(root);
    let is_ours = built.manifest.as_ref().is_some_and(Manifest::serves_functions);
    Ok(Running {
        container,
        service,
        refusals,
        listener,
        transcript,
        ended_logs,
        is_ready: false,
        is_ours,
        last: None,
        has_failed: false,
        signals,
    })
}

impl Running {
    /// The same, whose service gets `credentials` with each request.
    pub fn with(self, credentials: Credentials) -> Self {
        Self { service: self.service.with(credentials), ..self }
    }

    /// The number of the signal that ended it, where one came.
    pub fn received(&self) -> Option<i32> {
        self.signals.as_ref()?.received()
    }

    /// From now on a signal lets it end in its own time.
    pub fn be_patient(&self) {
        self.signals.iter().for_each(PassedOn::be_patient);
    }

    /// From now on a signal ends this process. Fails where one has come, once nothing of it is left.
    pub fn let_signals_be(&mut self, context: &Context) -> Result<(), Failure> {
        self.signals.iter_mut().for_each(PassedOn::end);
        self.unless_interrupted(context)
    }

    /// Fails where a signal has come, once nothing of it is left.
    fn unless_interrupted(&mut self, context: &Context) -> Result<(), Failure> {
        if self.received().is_some() { self.end(context) } else { Ok(()) }
    }

    /// The exit code, once it has ended.
    pub fn exit_code(&self) -> Option<i32> {
        loop {
            match self.container.state() {
                Ok(container::State { status: container::Status::Exited { code, .. }, .. }) => return Some(code),
                // Its supervisor notes how it ended in a moment.
                Ok(state) if state.is_live() && self.container.has_ended() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(state) if state.is_live() => return None,
                _ => return Some(1),
            }
        }
    }

    /// Waits until the service is ready, and says so. When it ends before, its log is shown.
    pub fn wait_ready(&mut self, context: &Context, path: &str, timeout: u64) -> Result<(), Failure> {
        if let Some(waited) = self.wait_unless(context, path, timeout, &AtomicBool::new(false))? {
            context.printer.status("Ready", format!("{NAME}{}{NAME:#} in {}", self.service.url(), Time(waited)));
        }
        Ok(())
    }

    /// The same, which says nothing: how long it took, or nothing where `is_cancelled` was set before.
    pub fn wait_unless(
        &mut self,
        context: &Context,
        path: &str,
        timeout: u64,
        is_cancelled: &AtomicBool,
    ) -> Result<Option<Duration>, Failure> {
        let cancelled = || is_cancelled.load(Ordering::Relaxed).then_some(0);
        let ended = || cancelled().or_else(|| self.received()).or_else(|| self.exit_code());
        let result = self.service.wait_ready(path, Duration::from_secs(timeout), ended);
        self.unless_interrupted(context)?;
        let error = match result {
            Ok(waited) => {
                self.is_ready = true;
                return Ok(Some(waited));
            }
            Err(service::Error::Ended { .. }) if cancelled().is_some() => return Ok(None),
            Err(service::Error::NotReady { waited, last }) => {
                let last = self.locate().map_or_else(|| last.clone(), |place| format!("{last}; it is at {place}"));
                service::Error::NotReady { waited, last }
            }
            Err(error) => error,
        };
        let said = self.show_log(context);
        self.end(context)?;
        Err(explained(error, &said))
    }

    /// Shows what is said, but for lines that `takes` takes, until it has ended by itself. Its log is kept.
    pub fn follow(
        &mut self,
        context: &Context,
        takes: &mut dyn FnMut(&str) -> bool,
    ) -> Result<container::Exit, Failure> {
        let Self { container, refusals, ended_logs, service, .. } = self;
        let (mut open, mut transcript) = (Vec::new(), Transcript::default());
        let exit = container.wait(&mut |bytes| {
            transcript.take(bytes);
            refusals.look_at(context, bytes);
            open.extend_from_slice(bytes);
            let Some(end) = open.iter().rposition(|byte| *byte == b'\n') else { return };
            let rest = open.split_off(end + 1);
            let said = String::from_utf8_lossy(&std::mem::replace(&mut open, rest)).into_owned();
            let lines: Vec<_> = said.lines().filter(|line| !takes(line)).collect();
            show_lines(context, &lines);
        })?;
        transcript.end();
        if let Some(logs) = ended_logs {
            keep_log(context, logs, container.name(), &transcript, service.credentials());
        }
        if exit.out_of_memory {
            context.printer.warn("the kernel killed processes of the container, as it used up its memory");
        }
        self.signals.iter_mut().for_each(PassedOn::end);
        self.received().map_or(Ok(exit), |signal| Err(Failure::interrupted(signal)))
    }

    /// Asks an example. What is said of it in the log is there once the container has ended: see [`Running::said`].
    ///
    /// # Errors
    /// Where a signal has come meanwhile: what was answered says nothing.
    pub fn ask(&mut self, context: &Context, example: Example<'_>) -> Result<(Outcome, RequestId), Failure> {
        let id = self.begin();
        let outcome = self.service.ask(example, Some(&id));
        self.unless_interrupted(context)?;
        if outcome.status.is_none() {
            self.settle_without_answer(&id);
        } else if outcome.verdict == Verdict::Different {
            self.settle(&id);
        }
        Ok((outcome, id))
    }

    /// Asks once; as [`Running::ask`].
    pub fn invoke(
        &mut self,
        context: &Context,
        path: &str,
        sent: Option<Sent>,
        hearing: Option<service::Hearing<'_>>,
    ) -> Result<(Result<Answer, service::Error>, RequestId), Failure> {
        let id = self.begin();
        let answer = self.service.invoke(path, sent, Some(&id), hearing);
        self.unless_interrupted(context)?;
        match &answer {
            Ok(answer) if answer.status.is_success() => {}
            Ok(_) => self.settle(&id),
            Err(_) => self.settle_without_answer(&id),
        }
        Ok((answer, id))
    }

    fn begin(&mut self) -> RequestId {
        let id = RequestId::random();
        self.listen();
        // What it printed for the one before has no mark, and may come later than the answer.
        if let Some(last) = self.last.take().filter(|_| self.is_ours) {
            settle(&mut self.listener, &mut self.transcript, &last, LATE);
        }
        self.transcript.ask(&id);
        self.last = Some(id.clone());
        id
    }

    /// Waits a moment for what is logged of a failed request behind its answer, so that it is not taken for the next one's.
    fn settle(&mut self, id: &RequestId) {
        self.has_failed = true;
        settle(&mut self.listener, &mut self.transcript, id, LATE);
    }

    /// The same where no answer came: its program may have crashed, and what it says of that belongs to the request.
    fn settle_without_answer(&mut self, id: &RequestId) {
        const MOST: Duration = Duration::from_secs(1);
        let started = Instant::now();
        while !self.container.has_ended() && started.elapsed() < MOST {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.settle(id);
    }

    /// Reads what has been said since. A log that cannot be read says nothing.
    fn listen(&mut self) {
        let Self { listener, transcript, .. } = self;
        let _ = listener.read(&mut |bytes| transcript.take(bytes));
    }

    /// What the service said of a request, without credentials. By now all of it is there if the container has ended.
    pub fn said(&self, ids: &[&str]) -> Vec<String> {
        let lines = self.transcript.of(ids);
        lines.iter().map(|line| self.service.credentials().hide_in(line)).collect()
    }

    /// Has the service say in its log where it is, and gives the place in the person's code.
    pub fn locate(&mut self) -> Option<String> {
        /// Until it begins to say it, and until it has: it is written line by line.
        const BEGUN: Duration = Duration::from_secs(1);
        const WHOLE: Duration = Duration::from_secs(3);
        // A container that has ended is nowhere.
        self.container.inquiry().ok()?.ask().ok()?;
        let started = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(10));
            self.listen();
            let place = service::place(&self.transcript.last(usize::MAX));
            let most = if self.transcript.has_dump() { WHOLE } else { BEGUN };
            if place.is_some() || started.elapsed() > most {
                return place;
            }
        }
    }

    /// Shows the last lines that the container has said, to tell why it failed, and gives them.
    pub fn show_log(&mut self, context: &Context) -> String {
        const LINES: usize = 20;
        self.listen();
        let last = self.transcript.last(LINES);
        let last: Vec<_> = last.iter().map(|line| self.service.credentials().hide_in(line)).collect();
        show_lines(context, &last.iter().map(String::as_str).collect::<Vec<_>>());
        self.has_failed = true;
        last.join("\n")
    }

    /// Shows what it has said since.
    pub fn show(&mut self, context: &Context, screen: &mut LogScreen<'_>) {
        let Self { listener, transcript, refusals, .. } = self;
        // A log that cannot be read says nothing; nothing can be done about a closed stdout.
        let _ = listener.read(&mut |bytes| {
            let _ = screen.take(bytes);
            transcript.take(bytes);
            refusals.look_at(context, bytes);
        });
    }

    /// Keeps what was said, without credentials, where the container's own log goes with it.
    fn keep_log(&self, context: &Context) {
        let Some(logs) = &self.ended_logs else { return };
        keep_log(context, logs, self.container.name(), &self.transcript, self.service.credentials());
    }

    /// Stops the container and waits for its end, after which nothing of it is left, and all that it said is read. If it
    /// failed, says whether it was refused to write.
    ///
    /// # Errors
    /// Also where a signal has come: then it is gone even if it was to be kept.
    pub fn end(&mut self, context: &Context) -> Result<(), Failure> {
        self.listen();
        // What it says when it is told to end is of no request, and what it says when it ends by itself is.
        if !self.container.has_ended() {
            self.transcript.finish();
        }
        // What is not ready has nobody's request to end, and may not listen to signals yet.
        if self.received().is_none() {
            self.container.stop(Duration::from_secs(if self.is_ready { 10 } else { 1 }))?;
        }
        self.listen();
        self.transcript.end();
        self.keep_log(context);
        let Self { container, refusals, has_failed, .. } = self;
        container.wait(&mut |bytes| {
            if *has_failed {
                refusals.look_at(context, bytes);
            }
        })?;
        self.signals.iter_mut().for_each(PassedOn::end);
        let Some(signal) = self.received() else { return Ok(()) };
        if self.ended_logs.is_none() {
            self.container.remove()?;
        }
        Err(Failure::interrupted(signal))
    }
}

/// An error of a service with what to do next, where `said` is what is shown of its log.
pub fn explained(error: service::Error, said: &str) -> Failure {
    let is_ended = matches!(error, service::Error::Ended { .. });
    let hint = match (is_ended, said.is_empty()) {
        (true, true) => "it has said nothing: its code, or a library of it, ends the process by itself",
        (true, false) => "its log above says why; `ekiben logs --last` has all of it",
        (false, true) => "it has said nothing; `--timeout` gives it longer",
        (false, false) => "its log above says what it does; `--timeout` gives it longer, `ekiben logs --last` has all",
    };
    Failure::from(error).with_remedy(package::remedy(said).or_else(|| Some(hint.to_owned())))
}

/// Says what can be asked of the service at `url`: its documentation, and the manifest's first example as a line to copy.
pub fn invite(context: &Context, url: &str, manifest: Option<&Manifest>) {
    /// Bytes of a request that is still a line to copy.
    const LONGEST: usize = 400;
    let Some(manifest) = manifest else { return };
    // The package that brings it needs Python 3.10, see `generate::api`.
    let version = manifest.python.as_ref().and_then(|python| python.version.as_ref()?.meant().ok());
    if manifest.serves_functions() && version.is_none_or(|version| version.minor() >= 10) {
        context.printer.status("Docs", format!("{NAME}{url}/docs{NAME:#}"));
    }
    let Some(example) = Example::first_request(manifest) else { return };
    if let Some(json) = example.json().filter(|json| json.len() <= LONGEST && example.test.files().is_empty()) {
        let address = quoted(&format!("{url}{}", example.test.path));
        context
            .printer
            .status("Try", format!("curl {address} -H 'content-type: application/json' -d {}", quoted(&json)));
    }
}

/// Says that it answers somewhere else than usually.
pub fn say_moved(context: &Context, taken: SocketAddr) {
    context.printer.advise(&format!("{taken} is taken, so another port is used: `-p PORT` says which"));
}

/// Keeps the log of a container that is about to go. Where that cannot be done, all goes on.
pub fn keep_log(context: &Context, logs: &EndedLogs, name: &str, transcript: &Transcript, credentials: &Credentials) {
    let lines: Vec<_> = transcript.last(usize::MAX).iter().map(|line| credentials.hide_in(line) + "\n").collect();
    if let Err(error) = logs.keep(name, lines.concat().as_bytes()) {
        context.printer.warn(&format!("what the service said is not kept: {error}"));
    }
}

/// How much later than an answer its log may come.
const LATE: Duration = Duration::from_millis(500);

/// Reads along until the service has said all of a request, for at most `most`.
pub fn settle(listener: &mut LogReader, transcript: &mut Transcript, id: &RequestId, most: Duration) {
    const PAUSE: Duration = Duration::from_millis(5);
    let started = Instant::now();
    loop {
        let _ = listener.read(&mut |bytes| transcript.take(bytes));
        if transcript.is_done(id) || started.elapsed() > most {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Shows what a container says on stdout: as it is, or on a terminal as a person reads it.
pub struct LogScreen<'a> {
    context: &'a Context,
    is_readable: bool,
    /// The beginning of a line.
    open: Vec<u8>,
}

impl<'a> LogScreen<'a> {
    /// The log of a service.
    pub fn of_service(context: &'a Context) -> Self {
        let is_readable = context.printer.output() == Output::Human && io::stdout().is_terminal();
        Self { context, is_readable, open: Vec::new() }
    }

    /// Whatever comes, to the byte.
    pub fn raw(context: &'a Context) -> Self {
        Self { context, is_readable: false, open: Vec::new() }
    }

    /// Shows what came next.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_readable {
            return self.context.printer.raw(bytes);
        }
        self.open.extend_from_slice(bytes);
        let Some(end) = self.open.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.open.split_off(end + 1);
        let said = std::mem::replace(&mut self.open, rest);
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<_> = text.lines().collect();
        let shown = readable_lines(self.context, &lines).iter().map(|line| format!("{line}\n")).collect::<String>();
        self.context.printer.raw(shown.as_bytes())
    }

    /// Shows what has no end.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn end(&mut self) -> io::Result<()> {
        if self.open.is_empty() { Ok(()) } else { self.take(b"\n") }
    }
}

/// Lines of a log as a person reads them: with `--verbose` tracebacks are whole.
pub fn readable_lines(context: &Context, lines: &[&str]) -> Vec<String> {
    let detail = if context.printer.is_verbose() { Detail::Whole } else { Detail::Folded };
    readable(lines, detail).iter().map(|line| plain(&line.replace('\t', "    "))).collect()
}

/// Shows lines of a log on stderr.
pub fn show_lines(context: &Context, lines: &[&str]) {
    for line in readable_lines(context, lines) {
        context.printer.log(&line);
    }
}

/// Shows what was said of a failed request.
pub fn show_said(context: &Context, lines: &[String]) {
    show_lines(context, &without_access(lines));
}

/// `512Mi`, `2Gi`, `1000000`: bytes.
fn memory(text: &str) -> Result<u64, String> {
    size::bytes(text).ok_or_else(|| format!("`{text}` is no size of memory: write 512Mi or 2Gi"))
}

pub fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}
