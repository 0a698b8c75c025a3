//! `ekiben run --watch`: a service that follows its project.
//!
//! Each change is built as `ekiben build` would build it, and a container of its own is started from that. Only when the
//! new service is ready do connections go to it; the one before then ends its requests, and ends. What cannot be built,
//! or does not become ready, is told, and the service that there is goes on. A change that leaves the image as it is (a
//! file that is not packed, the lock that the build has written) starts nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::inputs::Wanted;
use super::printer::{NAME, Time};
use super::running::{self, How, LogScreen, Running};
use super::{Context, Exit, Failure};
use crate::build::built::Built;
use crate::build::workflow::{self, Goal, Opened, Request};
use crate::check;
use crate::check::target::Target;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::run;
use crate::run::container::{self, PassedOn, Rest, Switch};

/// What is followed, and how it is started.
#[derive(Clone)]
pub struct Plan {
    pub request: Request,
    pub how: How,
    pub publish: Vec<Wanted>,
}

/// The least time between two looks at the files. Looking takes a project's folder less than a millisecond.
const INTERVAL: Duration = Duration::from_millis(20);
/// How many times longer than a look the pause before the next one is at least: a large folder keeps no processor busy.
const PAUSES: u32 = 20;
/// How long a service that was replaced goes on for connections that stay open.
const KEPT: Duration = Duration::from_secs(5);

/// Follows the project until a signal comes.
pub fn run(context: &Context, session: &Session, plan: Plan) -> Result<Exit, Failure> {
    if !matches!(Target::of(&plan.request.path)?, Target::Project(_)) {
        let explanation = ErrorKind::Usage.named("run/watch-project").hint("name the project's folder");
        return Err(Failure::new(explanation, "--watch follows the files of a project"));
    }
    let signals = PassedOn::to_nobody()?;
    let paths = [plan.request.path.clone()];
    let mut follower = Follower {
        context,
        session,
        plan,
        screen: LogScreen::of_service(context),
        switches: Vec::new(),
        current: None,
        attempt: None,
        leaving: Vec::new(),
        is_ending: Arc::default(),
        has_failed: false,
    };
    let mut looks = Looks::new(&paths);
    follower.begin();
    let signal = loop {
        std::thread::sleep(looks.pause());
        if looks.has_changed(&paths) {
            follower.change();
        }
        follower.go_on()?;
        if let Some(signal) = signals.received() {
            break signal;
        }
    };
    // What was never ready was interrupted, and what was is told so to end.
    let was_ready = !follower.switches.is_empty();
    follower.end()?;
    if was_ready { Ok(Exit::Success) } else { Err(Failure::interrupted(signal)) }
}

/// What was seen of the files.
struct Looks {
    seen: Vec<check::Stamp>,
    /// It differs from what is being built.
    is_new: bool,
    took: Duration,
}

impl Looks {
    fn new(paths: &[PathBuf]) -> Self {
        Self { seen: check::stamps(paths), is_new: false, took: Duration::ZERO }
    }

    fn pause(&self) -> Duration {
        INTERVAL.max(self.took * PAUSES)
    }

    /// Whether the files are others than before. That is said when two looks agree, as a save can come in several writes.
    fn has_changed(&mut self, paths: &[PathBuf]) -> bool {
        let started = Instant::now();
        let now = check::stamps(paths);
        self.took = started.elapsed();
        let is_settled = now == self.seen;
        self.seen = now;
        let has_changed = is_settled && self.is_new;
        self.is_new = !is_settled;
        has_changed
    }
}

/// What is going on.
struct Follower<'a> {
    context: &'a Context,
    session: &'a Session,
    plan: Plan,
    screen: LogScreen<'a>,
    /// Where it answers; from the first image on, which says at which port.
    switches: Vec<Switch>,
    current: Option<(Running, Digest)>,
    attempt: Option<Attempt>,
    /// Services from before that end their requests.
    leaving: Vec<JoinHandle<()>>,
    /// All of it ends.
    is_ending: Arc<AtomicBool>,
    /// The last attempt came to nothing.
    has_failed: bool,
}

/// What is built and started while the service before goes on.
struct Attempt {
    flags: Arc<Flags>,
    started: Instant,
    result: Receiver<Result<Outcome, Failure>>,
    /// Has a part in the store's scratch folder, which goes with the last one.
    thread: JoinHandle<()>,
}

/// What both sides tell each other. Each says its own before it asks for the other's, so that one of them is heard.
#[derive(Default)]
struct Flags {
    is_cancelled: AtomicBool,
    /// It starts a container, which has to be ended.
    is_starting: AtomicBool,
}

enum Outcome {
    /// Of another image, and ready.
    Ready(Box<(Running, Built)>),
    /// The image is the one that runs.
    Same,
    /// Files have changed meanwhile.
    Cancelled,
}

impl Follower<'_> {
    /// Builds and starts what there is now, on a thread that a signal does not wait for.
    fn begin(&mut self) {
        let (send, result) = mpsc::channel();
        let flags = Arc::new(Flags::default());
        let (session, plan, theirs) = (self.session.clone(), self.plan.clone(), Arc::clone(&flags));
        let last = self.current.as_ref().map(|(_, digest)| *digest);
        let mut context = self.context.clone();
        if !self.switches.is_empty() {
            // One line for each change.
            context.printer = context.printer.quiet();
        }
        let thread = std::thread::spawn(move || {
            let outcome = attempt(&context, &session, &plan, last, &theirs);
            if let Err(mpsc::SendError(Ok(Outcome::Ready(ready)))) = send.send(outcome) {
                let _ = ready.0.container.stop(Duration::ZERO);
            }
        });
        self.attempt = Some(Attempt { flags, started: Instant::now(), result, thread });
    }

    /// Files are others than before.
    fn change(&mut self) {
        match &self.attempt {
            // Its end begins the next one.
            Some(attempt) => attempt.flags.is_cancelled.store(true, Ordering::SeqCst),
            None => self.begin(),
        }
    }

    /// Shows what the service says, and takes the next step where there is one.
    fn go_on(&mut self) -> Result<(), Failure> {
        if let Some((running, _)) = &mut self.current {
            running.show(self.context, &mut self.screen);
            if let Some(code) = running.exit_code() {
                self.context
                    .printer
                    .warn(&format!("the service ended with exit code {code}; a change starts it again"));
                self.switches.iter().for_each(|switch| drop(switch.turn(None)));
                running.end(self.context)?;
                self.current = None;
            }
        }
        let Some(Attempt { flags, started, result, .. }) = &self.attempt else { return Ok(()) };
        let (was_cancelled, started) = (flags.is_cancelled.load(Ordering::SeqCst), *started);
        let outcome = match result.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return Ok(()),
            // It has panicked, which was shown.
            Err(TryRecvError::Disconnected) => Ok(Outcome::Cancelled),
        };
        if let Some(attempt) = self.attempt.take() {
            let _ = attempt.thread.join();
        }
        match outcome {
            Ok(Outcome::Ready(ready)) => self.replace(*ready, started)?,
            Ok(Outcome::Same) if self.has_failed => {
                self.context.printer.status("Ready", "as it was before");
                self.has_failed = false;
            }
            Ok(Outcome::Same | Outcome::Cancelled) => {}
            Err(failure) => {
                failure.present(&self.context.printer);
                let text = if self.current.is_some() { "the service from before; " } else { "" };
                self.context.printer.status("Watching", format!("{text}waiting for a change"));
                self.has_failed = true;
            }
        }
        if was_cancelled {
            self.begin();
        }
        Ok(())
    }

    /// Has the new service answer, and the one before end.
    fn replace(&mut self, (running, built): (Running, Built), started: Instant) -> Result<(), Failure> {
        let is_first = self.switches.is_empty();
        if is_first {
            self.listen(&built)?;
        }
        let published = running.container.state()?.published;
        let switches = self.switches.iter().zip(&published);
        let rests: Vec<_> = switches.map(|(switch, publish)| switch.turn(Some(publish.host))).collect();
        let (name, time) = (running.container.name().to_owned(), Time(started.elapsed()));
        if let Some((mut before, _)) = self.current.replace((running, built.digest)) {
            before.show(self.context, &mut self.screen);
            let (context, is_ending) = (self.context.clone(), Arc::clone(&self.is_ending));
            self.leaving.retain(|thread| !thread.is_finished());
            self.leaving.push(std::thread::spawn(move || {
                // A request that was on its way to it when it was replaced is answered, too.
                let turned = Instant::now();
                while !rests.iter().all(Rest::is_over) && turned.elapsed() < KEPT && !is_ending.load(Ordering::Relaxed)
                {
                    std::thread::sleep(INTERVAL);
                }
                if let Err(failure) = before.end(&context) {
                    failure.present(&context.printer);
                }
            }));
        }
        self.has_failed = false;
        if is_first {
            let root =
                built.manifest.as_ref().and_then(|manifest| manifest.service.root.as_deref()).unwrap_or_default();
            let url = self.switches.first().map(|switch| format!("http://{}{root}", switch.address()));
            let url = url.unwrap_or_default();
            let text = format!("{url} in {time}, each change starts it anew, Ctrl-C stops it");
            self.context.printer.status("Ready", text);
            running::invite(self.context, &url, built.manifest.as_ref());
        } else {
            self.context.printer.status("Reloaded", format!("{NAME}{name}{NAME:#} in {time}"));
        }
        Ok(())
    }

    /// Listens where the person wants it, or else as `ekiben run` does.
    fn listen(&mut self, built: &Built) -> Result<(), Failure> {
        let mut hosts: Vec<_> = self.plan.publish.iter().map(|wanted| wanted.host).collect();
        let is_movable = hosts.is_empty();
        if is_movable {
            hosts.push(SocketAddr::from(([127, 0, 0, 1], run::port(&built.image, &self.plan.how.env))));
        }
        for host in hosts {
            let switch = match Switch::listen(host) {
                Err(container::Error::Start(container::Failure::Address { in_use: true, .. })) if is_movable => {
                    running::say_moved(self.context, host);
                    Switch::listen(SocketAddr::new(host.ip(), 0))
                }
                switch => switch,
            };
            self.switches.push(switch?);
        }
        Ok(())
    }

    /// Ends all that runs.
    fn end(mut self) -> Result<(), Failure> {
        /// What an attempt that starts a container takes to end it at most. One that builds ends with this process.
        const MOST: Duration = Duration::from_secs(10);
        if let Some(attempt) = self.attempt.take() {
            attempt.flags.is_cancelled.store(true, Ordering::SeqCst);
            let is_starting = attempt.flags.is_starting.load(Ordering::SeqCst);
            let outcome = attempt.result.recv_timeout(if is_starting { MOST } else { Duration::ZERO });
            if !matches!(outcome, Err(RecvTimeoutError::Timeout)) {
                let _ = attempt.thread.join();
            }
            if let Ok(Ok(Outcome::Ready(mut ready))) = outcome {
                ready.0.end(self.context)?;
            }
        }
        if let Some((running, _)) = &mut self.current {
            // A second signal kills it.
            let _signals = running.container.pass_on_signals()?;
            running.show(self.context, &mut self.screen);
            running.end(self.context)?;
        }
        self.is_ending.store(true, Ordering::Relaxed);
        for thread in self.leaving {
            let _ = thread.join();
        }
        Ok(())
    }
}

/// Builds what there is, and starts it unless it is `last`.
fn attempt(
    context: &Context,
    session: &Session,
    plan: &Plan,
    last: Option<Digest>,
    flags: &Flags,
) -> Result<Outcome, Failure> {
    let devices = plan.how.devices(context)?;
    let gate = plan.how.gate(context)?;
    let input = Opened::open(session, plan.request.clone(), context)?.input(session, &[], Goal::Image, context)?;
    let name: ImageName =
        format!("{}:{}", input.bundle.name(), workflow::WATCHED).parse().map_err(workflow::Error::from)?;
    let ready = input.manifest.service.ready.clone();
    let built = workflow::build(session, input, &[], &[name], context)?;
    if last == Some(built.digest) {
        return Ok(Outcome::Same);
    }
    flags.is_starting.store(true, Ordering::SeqCst);
    if flags.is_cancelled.load(Ordering::SeqCst) {
        return Ok(Outcome::Cancelled);
    }
    let mut options = plan.how.options(built.manifest.as_ref().map(|manifest| &manifest.resources), devices)?;
    let port = run::port(&built.image, &options.env);
    options.publish = plan.publish.iter().map(|wanted| run::any_port(wanted.container.unwrap_or(port))).collect();
    if options.publish.is_empty() {
        options.publish.push(run::any_port(port));
    }
    let mut running = running::start(context, session, &built, gate.as_ref(), options, false, running::Signals::Heard)?;
    match running.wait_unless(context, &ready, plan.how.timeout, &flags.is_cancelled)? {
        Some(_) => Ok(Outcome::Ready(Box::new((running, built)))),
        None => {
            running.end(context)?;
            Ok(Outcome::Cancelled)
        }
    }
}
