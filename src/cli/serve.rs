//! `ekiben serve`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::printer::{DIM, NAME, Printer, Report, Time};
use super::{Context, Exit, Failure, completions, watch};
use crate::image::store::ImageQuery;
use crate::io::explain::ErrorKind;
use crate::serve::{self, Event, Following, Keys, Settings, Source, Tokens, config};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben serve                       what serve.yaml says\n\
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
    /// A configuration, or images of the local store. Without any: the serve.yaml of this folder.
    #[arg(value_name = "CONFIG | IMAGE", add = completions::images())]
    what: Vec<String>,
    /// The port on the loopback interface.
    #[arg(long, short, default_value_t = 8080, conflicts_with = "listen")]
    port: u16,
    /// Where requests are taken, in place of the loopback interface: PORT (of all interfaces) or ADDRESS:PORT. Needs a token.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    listen: Option<SocketAddr>,
    /// A token that everybody has to show (`Authorization: Bearer TOKEN`). The variable keeps it out of the list of processes.
    #[arg(long, env = "EKIBEN_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file of such tokens, one on a line. It is read again with the configuration.
    #[arg(long, value_name = "FILE", env = "EKIBEN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Let in whoever can reach the address given with --listen.
    #[arg(long, requires = "listen", conflicts_with_all = ["token", "token_file"])]
    open: bool,
    /// Take up new tags in the store as soon as they are there.
    #[arg(long)]
    follow: bool,
    /// Seconds that requests in hand may take when this is to end.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    drain: u64,
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
    let source = source(&args.what)?;
    let tokens = match (&args.token, args.token_file) {
        (Some(token), _) => Some(Keys::Given(Tokens::one(token, "--token or EKIBEN_TOKEN")?)),
        (None, file) => file.map(Keys::File),
    };
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
    let key = Tokens::random_text()?;
    let settings = Settings {
        address: args.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port)),
        source,
        control: Tokens::one(&key, "this process")?,
        following: if args.follow { Following::Store } else { Following::Configuration },
        timeout,
        drain: Duration::from_secs(args.drain),
        tokens,
    };
    let key = settings.tokens.is_none().then_some(key);
    let printer = context.printer.clone();
    let served = serve::serve(session, settings, Box::new(move |event| show(&printer, event, key.as_deref())));
    if let Err(serve::Error::Malformed { diagnostics, .. }) = &served {
        watch::show(context, diagnostics);
    }
    served?;
    Ok(Exit::Success)
}

/// What is meant: a file, or images.
fn source(what: &[String]) -> Result<Source, Failure> {
    let is_file = |text: &str| {
        Path::new(text)
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json", "json5"].iter().any(|known| ending == *known))
    };
    match what {
        [] => match config::NAMES.into_iter().find(|name| Path::new(name).is_file()) {
            Some(name) => Ok(Source::File(name.into())),
            None => {
                let explanation = ErrorKind::Usage
                    .named("serve/nothing")
                    .hint("name images of the store (`ekiben images`), or write a serve.yaml (`ekiben schema serve`)");
                Err(Failure::new(explanation, "there is no serve.yaml in this folder"))
            }
        },
        [file] if is_file(file) => Ok(Source::File(file.into())),
        images => {
            if let Some(folder) =
                images.iter().find(|image| image.parse::<ImageQuery>().is_err() && Path::new(image).is_dir())
            {
                let explanation = ErrorKind::Usage
                    .named("serve/folder")
                    .hint(format!("`ekiben build {folder}` makes an image of it; then name the image"));
                return Err(Failure::new(
                    explanation,
                    format!("`{folder}` is a folder, and what is served are images"),
                ));
            }
            let queries = images.iter().map(|image| image.parse::<ImageQuery>()).collect::<Result<_, _>>()?;
            Ok(Source::Images(queries))
        }
    }
}

fn show(printer: &Printer, event: Event, key: Option<&str>) {
    match event {
        Event::Listening(address) => {
            let address = format!("http://{address}");
            printer.status("Serving", format!("{NAME}{address}{NAME:#}, Ctrl-C stops it"));
            printer.status("Status", format!("{NAME}{address}/-/status{NAME:#}"));
            if let Some(key) = key {
                printer.status("Buttons", format!("{key} {DIM}is the token that starts and stops models there{DIM:#}"));
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
        Event::Ended { model, container } => {
            printer.status("Stopped", format!("{NAME}{model}{NAME:#} {DIM}{container}{DIM:#}"));
        }
        Event::Died { model, container, how, has_log } => {
            let log =
                if has_log { format!("; `ekiben logs {container}` has what it said last") } else { String::new() };
            printer.warn(&format!("{model} died: {how}{log}"));
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
