//! `ekiben run`

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::exec::KILLED;
use super::inputs::{Inputs, Wanted};
use super::printer::Report;
use super::running::{self, LogScreen, Running};
use super::{Context, Exit, Failure, reload};
use crate::build::built::Built;
use crate::build::workflow;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::run::container::{PassedOn, Publish};
use crate::run::service::{self, Transcript};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben run\n\
\x20 ekiben run fixtures/iris -p 8080\n\
\x20 ekiben run --watch                  each save is answered within the time of a start\n\
\x20 ekiben run --gpus all               with the GPUs of this machine\n\
\x20 ekiben run --connect broker:5672    it reaches that port of that machine, and nothing else\n\
\x20 ekiben run iris:1.0 --detach        then: ekiben ps, ekiben logs, ekiben stop\n\
\x20 ekiben run iris:1.0 -- python -c 'print(1)'";

/// Run a model in a sandbox that cannot call out, and print where it answers
///
/// PATH is built first when it is a project or a bundle, or it is the name of an image in the local store. The
/// container has a network of its own, in which it can only answer; what it writes lies in memory and is gone with it
/// (with `--read-only` it can write to temporary folders alone); and it runs as an ordinary user without capabilities, held
/// to the system calls that Docker allows. Ctrl-C stops it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Where it answers: PORT, or ADDRESS:PORT, optionally followed by the container's :PORT. Without it: the
    /// container's port on the loopback interface, or any that is free.
    #[arg(long, short, alias = "port", value_name = "[ADDRESS:]PORT[:PORT]")]
    publish: Vec<Wanted>,
    /// What the container can reach.
    #[arg(long, value_enum, default_value = "isolated")]
    network: Network,
    /// What the container is called.
    #[arg(long)]
    name: Option<String>,
    /// Start the service anew whenever the project changes; the one before answers at the same address until then.
    #[arg(long, short, conflicts_with_all = ["detach", "name", "command"])]
    watch: bool,
    /// Return when the service is ready, and let it run.
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    how: running::How,
    /// What to run instead of the service.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    /// Only itself; published ports answer.
    Isolated,
    /// All that this machine can reach.
    Host,
}

#[derive(Serialize)]
struct Started {
    name: String,
    address: String,
    /// What it reaches beyond itself.
    reaches: Vec<String>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session_for_running()?;
    if args.network == Network::Host && !args.how.connect.is_empty() {
        let explanation = ErrorKind::Usage.named("run/connect-host").hint("leave out `--connect`, or `--network host`");
        return Err(Failure::new(
            explanation,
            "with `--network host` the container reaches all that this machine does",
        ));
    }
    if args.watch {
        if args.network == Network::Host {
            let explanation = ErrorKind::Usage.named("run/watch-host").hint("leave out `--network host`");
            let text = "two services cannot listen at one address of the host, as --watch needs";
            return Err(Failure::new(explanation, text));
        }
        let plan = reload::Plan { request: args.inputs.request(context)?, how: args.how, publish: args.publish };
        return reload::run(context, &session, plan);
    }
    let devices = args.how.devices(context)?;
    let gate = args.how.gate(context)?;
    let built = workflow::image(&session, args.inputs.request(context)?, context)?.with_manifest(&session);
    let mut options = args.how.options(built.manifest.as_ref().map(|manifest| &manifest.resources), devices)?;
    let port = crate::run::port(&built.image, &options.env);
    options.name = args.name;
    options.host_network = args.network == Network::Host;
    options.keep = args.detach;
    let serves = args.command.is_empty();
    options.args = args.command;
    let wanted = |wanted: &Wanted| Publish { host: wanted.host, container: wanted.container.unwrap_or(port) };
    options.publish = args.publish.iter().map(wanted).collect();
    let movable = args.publish.is_empty();
    if movable && serves {
        options.publish.push(Publish { host: SocketAddr::from(([127, 0, 0, 1], port)), container: port });
    }
    let mut running = running::start(
        context,
        &session,
        &built,
        gate.as_ref(),
        options,
        movable && serves,
        running::Signals::PassedOn,
    )?;
    if args.detach {
        let ready = built.manifest.as_ref().map_or("/readyz", |manifest| &manifest.service.ready);
        if serves {
            running.wait_ready(context, ready, args.how.timeout)?;
            running::invite(context, running.service.url(), built.manifest.as_ref());
        }
        // Until it is let go, it ends with this process.
        running.let_signals_be(context)?;
        let name = running.container.name();
        context.printer.advise(&format!("`ekiben logs --follow {name}` shows its log, `ekiben stop {name}` stops it"));
        let (name, address) = (running.container.name().to_owned(), running.service.url().to_owned());
        let reaches = running.container.state()?.ways.iter().map(ToString::to_string).collect();
        context.printer.report(&Started { name, address, reaches })?;
        running.container.let_go();
        return Ok(Exit::Success);
    }
    foreground(context, &mut running, &built, serves, args.how.timeout)
}

/// Shows what the container says until it ends. A service that a signal ends has ended well once it was ready; before that,
/// or where it had to be killed, it was interrupted.
fn foreground(
    context: &Context,
    running: &mut Running,
    built: &Built,
    serves: bool,
    timeout: u64,
) -> Result<Exit, Failure> {
    if !serves {
        running.be_patient();
    }
    let ready = built.manifest.as_ref().map_or("/readyz", |manifest| &manifest.service.ready).to_owned();
    let Running { container, service, refusals, ended_logs, signals, .. } = running;
    let signals = signals.as_ref();
    let received = || signals.and_then(PassedOn::received);
    let mut screen = if serves { LogScreen::of_service(context) } else { LogScreen::raw(context) };
    let mut transcript = Transcript::default();
    let mut show = |bytes: &[u8]| {
        let _ = screen.take(bytes);
        transcript.take(bytes);
        refusals.look_at(context, bytes);
    };
    let is_ours = built.manifest.as_ref().is_none_or(Manifest::serves_functions);
    let inquiry = container.inquiry()?;
    let is_ready = AtomicBool::new(false);
    let exit = std::thread::scope(|scope| {
        if serves {
            let (printer, service, received, is_ready) = (&context.printer, &*service, &received, &is_ready);
            scope.spawn(move || {
                let stopped = || received().or_else(|| inquiry.has_ended().then_some(0));
                let timeout = std::time::Duration::from_secs(timeout);
                match service.wait_ready(&ready, timeout, stopped) {
                    Ok(waited) => {
                        is_ready.store(true, Ordering::Relaxed);
                        signals.into_iter().for_each(PassedOn::be_patient);
                        let time = super::printer::Time(waited);
                        printer.status("Ready", format!("{} in {time}, Ctrl-C stops it", service.url()));
                        running::invite(context, service.url(), built.manifest.as_ref());
                    }
                    Err(service::Error::NotReady { .. }) => {
                        printer.warn(&format!("{ready} does not answer; the container goes on"));
                        if is_ours {
                            // What it says is shown with all that it says.
                            let _ = inquiry.ask();
                        }
                    }
                    // What ended it is said by whoever waits for it.
                    Err(_) => {}
                }
            });
        }
        container.wait(&mut show)
    })?;
    let _ = screen.end();
    transcript.end();
    if let Some(logs) = ended_logs.as_ref().filter(|_| serves) {
        running::keep_log(context, logs, container.name(), &transcript, service.credentials());
    }
    if exit.out_of_memory {
        context.printer.warn("the kernel killed processes of the container, as it used up its memory");
    }
    /// Lines of its log that may say why it has ended.
    const LINES: usize = 20;
    let is_ready = is_ready.into_inner();
    match received() {
        Some(signal) if exit.code == KILLED || (serves && !is_ready) => Err(Failure::interrupted(signal)),
        None if serves && exit.code != 0 => {
            let error = service::Error::Ended { code: exit.code, was_ready: is_ready };
            let failure = running::explained(error, &transcript.last(LINES).join("\n"));
            Err(failure.ending(Some(Exit::Container(exit.code))))
        }
        None if serves => {
            context.printer.warn("the service ended by itself");
            Ok(Exit::Success)
        }
        _ => Ok(Exit::Container(exit.code)),
    }
}

impl Report for Started {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.name)
    }
}
