//! `ekiben serve`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::policy::{self, PolicyArgs};
use super::printer::{DIM, NAME, Printer, Report, Time};
use super::{Context, Exit, Failure, completions, inputs, watch};
use crate::build::workflow::{self, Request};
use crate::check::target::Target;
use crate::image::Image;
use crate::image::session::Session;
use crate::image::store::{ImageName, ImageQuery, ImageRecord};
use crate::io::explain::{ErrorKind, carry};
use crate::project::manifest;
use crate::serve::{self, Event, Following, Keys, Network, Settings, Source, Tokens, config};

/// The variable with a token.
const TOKEN: &str = "EKIBEN_TOKEN";

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben serve                       what serve.yaml says, or the project in this folder\n\
\x20 ekiben serve models/*              projects, built first where they have changed\n\
\x20 ekiben serve iris wine:2           two images of the store: http://127.0.0.1:8080/iris/predict\n\
\x20 ekiben serve iris --follow         a new version takes over when it is built or pulled\n\
\x20 EKIBEN_TOKEN=$(cat token) ekiben serve --listen 0.0.0.0:80";

/// Serve many models at one address, each started when somebody asks for it
///
/// A model answers at /NAME/…, in any of its versions at /NAME@VERSION/…, and by the host NAME.anything. It is started by
/// its first request and ended when nobody has asked for a while; serve.yaml says otherwise for each (`ekiben schema
/// serve`). /-/status shows all of them, in a browser too, and /-/metrics counts. Ctrl-C lets requests in hand end.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A configuration; or images of the local store, projects, bundles and bentos. Without any: the serve.yaml of this
    /// folder, else its project.
    #[arg(value_name = "CONFIG | IMAGE | PATH", add = completions::inputs())]
    what: Vec<String>,
    /// The port on the loopback interface.
    #[arg(long, short, default_value_t = 8080, conflicts_with = "listen")]
    port: u16,
    /// Where requests are taken, in place of the loopback interface: PORT (of all interfaces) or ADDRESS:PORT. Needs a token.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    listen: Option<SocketAddr>,
    /// A file of tokens, one on a line, of which everybody has to show one (`Authorization: Bearer TOKEN`). It is read again
    /// when it changes. A single token can also be given as the variable EKIBEN_TOKEN; as an option, it would stand in the
    /// list of processes.
    #[arg(long, value_name = "FILE", env = "EKIBEN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Let in whoever can reach the address given with --listen.
    #[arg(long, requires = "listen", conflicts_with = "token_file")]
    open: bool,
    /// A proxy that stands in front, as an address or a network (10.0.0.0/8), whose `X-Forwarded-*` and `Forwarded` are
    /// believed; may be repeated. Beside those of the configuration.
    #[arg(long, value_name = "NETWORK")]
    trusted_proxy: Vec<Network>,
    /// Take up new tags in the store as soon as they are there.
    #[arg(long)]
    follow: bool,
    /// Seconds that requests in hand may take when this is to end.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    drain: u64,
    /// Seconds after which a connection ends on which nothing moves though it is the caller's turn: to send a request or more
    /// of it, or to take an answer. For an answer it waits as long as serve.yaml says.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    #[command(flatten)]
    policy: PolicyArgs,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    port.or_else(|_| text.parse()).map_err(|_| "write PORT or ADDRESS:PORT, with the address as a number".to_owned())
}

#[derive(Serialize)]
struct Listening {
    address: String,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session_for_running()?;
    let gate = args.policy.gate(context)?;
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    let tokens = match (args.token_file, token) {
        (Some(file), _) => {
            // What is wrong with it is said before anything is built.
            Tokens::read(&file)?;
            Some(Keys::File(file))
        }
        (None, token) => token.map(|token| Tokens::one(&token, TOKEN)).transpose()?.map(Keys::Given),
    };
    if args.open && tokens.is_some() {
        let explanation = ErrorKind::Usage.named("serve/open").hint(format!("leave out `--open`, or unset {TOKEN}"));
        return Err(Failure::new(explanation, format!("`--open` lets everybody in, and {TOKEN} has a token to show")));
    }
    if args.listen.is_some() && tokens.is_none() && !args.open {
        let explanation = ErrorKind::Usage
            .named("serve/open")
            .hint("give `--token-file FILE` or EKIBEN_TOKEN, or `--open` to let everybody in who can reach it");
        return Err(Failure::new(explanation, "with `--listen`, a token is needed: others may reach the address"));
    }
    let timeout = config::default_timeout(|name| std::env::var(name).ok()).map_err(|name| {
        let explanation = ErrorKind::Usage.named("serve/timeout").hint("set it to a number of seconds, or unset it");
        Failure::new(explanation, format!("the variable {name} is no number of seconds"))
    })?;
    // After all that may be wrong with the arguments: it may build.
    let source = source(context, &session, &args.what)?;
    let key = Tokens::random_text()?;
    let settings = Settings {
        address: args.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port)),
        source,
        control: Tokens::one(&key, "this process")?,
        following: if args.follow { Following::Store } else { Following::Configuration },
        timeout,
        drain: Duration::from_secs(args.drain),
        patience: Duration::from_secs(args.idle),
        proxies: args.trusted_proxy,
        tokens,
    };
    let key = settings.tokens.is_none().then_some(key);
    let printer = context.printer.clone();
    let watching = context.clone();
    let build = move |session: &Session, path: &Path| build(&watching, session, path).map_err(carry);
    let judge = move |session: &Session, record: &ImageRecord, image: &Image| match &gate {
        Some(gate) => policy::judge_here(session, gate, &record.name, record.digest, image).map_err(carry),
        None => Ok(()),
    };
    let tell = move |event| show(&printer, event, key.as_deref());
    let served = serve::serve(session, settings, Box::new(build), Box::new(judge), Box::new(tell));
    if let Err(serve::Error::Malformed { diagnostics, .. }) = &served {
        watch::show(context, diagnostics);
    }
    served?;
    Ok(Exit::Success)
}

/// What is meant: a configuration; or images, those of projects built first.
fn source(context: &Context, session: &Session, what: &[String]) -> Result<Source, Failure> {
    match what {
        [] => {
            if let Some(name) = config::NAMES.into_iter().find(|name| Path::new(name).is_file()) {
                return Ok(Source::File(name.into()));
            }
            let here = inputs::meant(context, ".".into())?;
            if !is_project(&here) {
                let explanation = ErrorKind::Usage.named("serve/nothing").hint(
                    "name images of the store (`ekiben images`) or folders of projects, or write a serve.yaml \
                     (`ekiben schema serve`)",
                );
                return Err(Failure::new(explanation, "there is no serve.yaml in this folder, and no project"));
            }
            Ok(Source::Images(vec![build(context, session, &here)?.into()]))
        }
        [file] if is_config(Path::new(file)) => Ok(Source::File(file.into())),
        named => {
            let queries = named.iter().map(|text| query(context, session, text)).collect::<Result<_, _>>()?;
            Ok(Source::Images(queries))
        }
    }
}

/// Whether a path is that of a configuration, which may have any name but a manifest's.
fn is_config(path: &Path) -> bool {
    let ends = |ending: &str| path.extension().is_some_and(|own| own == ending);
    ["yaml", "yml", "json", "json5"].into_iter().any(ends) && !is_manifest(path)
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|own| manifest::NAMES.iter().any(|name| own == *name))
}

fn is_project(path: &Path) -> bool {
    is_manifest(path) || manifest::NAMES.iter().any(|name| path.join(name).is_file())
}

/// The image that `text` means, built where it names what one is built from. A folder that is no project may have the name
/// of an image.
fn query(context: &Context, session: &Session, text: &str) -> Result<ImageQuery, Failure> {
    let path = Path::new(text);
    let named = text.parse::<ImageQuery>();
    match (Target::of(path)?, named) {
        (Target::Name(_), Ok(query)) => Ok(query),
        (Target::Project(_), Ok(query)) if !is_project(path) => Ok(query),
        (Target::Name(text), Err(why)) => Err(workflow::Error::Nothing { text, why }.into()),
        _ => Ok(build(context, session, path)?.into()),
    }
}

fn build(context: &Context, session: &Session, path: &Path) -> Result<ImageName, workflow::Error> {
    Ok(workflow::image(session, Request::of(path.to_owned()), context)?.name)
}

/// Where what a container said can be read.
fn log(container: &str, is_kept: bool) -> String {
    if is_kept { format!("; `ekiben logs {container}` has what it said last") } else { String::new() }
}

fn show(printer: &Printer, event: Event, key: Option<&str>) {
    match event {
        Event::Listening(address) => {
            let address = format!("http://{address}");
            printer.status("Serving", format!("{NAME}{address}{NAME:#}, Ctrl-C stops it"));
            printer.status("Status", format!("{NAME}{address}/-/status{NAME:#}"));
            if let Some(key) = key {
                printer.status(
                    "Token",
                    format!("{key} {DIM}for the buttons of that page, which start and stop models{DIM:#}"),
                );
            }
            // Whoever reads it may have gone.
            let _ = printer.report(&Listening { address });
        }
        Event::Loaded(count) => {
            printer.status("Loaded", format!("{count} model{}", if count == 1 { "" } else { "s" }));
        }
        Event::Ready { model, container, took } => {
            printer.status("Started", format!("{NAME}{model}{NAME:#} {DIM}{container}{DIM:#} in {}", Time(took)));
        }
        Event::Ended { model, container, has_log } => {
            printer.status(
                "Stopped",
                format!("{NAME}{model}{NAME:#} {DIM}{container}{DIM:#}{}", log(&container, has_log)),
            );
        }
        Event::Died { model, container, how, has_log } => {
            printer.warn(&format!("{model} died: {how}{}", log(&container, has_log)));
        }
        Event::Failed { model, why } => printer.warn(&format!("{model} was not started: {why}")),
        Event::Warning(text) => printer.warn(&text),
    }
}

impl Report for Listening {
    fn human(&self, _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}
