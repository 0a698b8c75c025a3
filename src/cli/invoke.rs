//! `ekiben invoke`

use std::io::{self, IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde_json::json;
use url::Url;

use super::inputs::{How, Inputs};
use super::printer::{NAME, Output, Time, plain};
use super::{Context, Exit, Failure, completions, running};
use crate::build::workflow;
use crate::image::session::Session;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::run;
use crate::run::container::{Container, Life};
use crate::run::service::{self, Answer, Body, Credentials, Example, RequestId, Service, Transcript};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben invoke .                                     the manifest's first example\n\
\x20 ekiben invoke . --data '{\"x\": 2}'                    build and run the project for one request\n\
\x20 ekiben invoke iris-x7k2 -d @request.json            a container of `ekiben ps`\n\
\x20 ekiben invoke http://127.0.0.1:3000 /extract -d -   any address, the request from stdin\n\
\x20 ekiben invoke iris-x7k2 /readyz                     without data: a GET\n\
\x20 TOKEN=… ekiben invoke iris:1.0 -d '{}' --credential TOKEN";

/// Ask a model one thing: a running container, an address, or what is built and run for it
///
/// The answer goes to stdout as it comes, however long it takes. Any status but 2xx ends the command with 4, and no
/// answer at all with 5.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The name of a running container, the beginning of it, or the name of its image; an address (http://HOST:PORT,
    /// 127.0.0.1:PORT, localhost:PORT); the path of a project, a bundle or a bento; or the name of an image that nothing
    /// runs of. A container counts before a folder of the same name, which is written ./NAME.
    #[arg(value_name = "TARGET", add = completions::targets())]
    target: String,
    /// What is asked there; /predict where nothing else is said.
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// The JSON to send with a POST: as it is, from a file, or from stdin. Without it: the first example request of the
    /// manifest, where what is built for this has one and no PATH is given; else a GET.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    #[command(flatten)]
    secrets: running::Secrets,
    #[command(flatten)]
    build: How,
    #[command(flatten)]
    how: running::How,
}

/// What is asked where nothing else is said.
const USUAL: &str = "/predict";

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let credentials = args.secrets.credentials()?;
    if let Some(path) = args.path.as_ref().filter(|path| !path.starts_with('/')) {
        let text = format!("the path `{path}` does not begin with `/`");
        return Err(Failure::new(ErrorKind::Usage.named("invoke/path"), text));
    }
    let data = args.data.as_deref().map(read).transpose()?;
    let session = context.session_for_running()?;
    match running(context, &session, &args.target)? {
        Some((service, container)) => {
            ask(context, &service.with(credentials), container, args.path.as_deref().unwrap_or(USUAL), data)
        }
        None => once(context, &session, args, credentials, data),
    }
}

/// Asks what runs already.
fn ask(
    context: &Context,
    service: &Service,
    container: Option<Container>,
    path: &str,
    data: Option<Vec<u8>>,
) -> Result<Exit, Failure> {
    let Some(container) = container else {
        let hint = "is it running? `ekiben ps` lists what does, `ekiben run` starts a model";
        return match service.invoke(path, data, None, hearing(context)) {
            Err(error @ service::Error::Transport { .. }) => Err(Failure::from(error).or_hint(hint)),
            answer => show(context, answer?, &[]),
        };
    };
    let (mut listener, mut transcript) = (container.listen(), Transcript::default());
    let id = RequestId::random();
    listener.skip_to_last(0)?;
    transcript.ask(&id);
    let answer = service.invoke(path, data, Some(&id), hearing(context));
    let name = container.name();
    let advice = format!("all that it said: `ekiben logs {name}`");
    match answer {
        Ok(answer) if answer.status.is_success() => show(context, answer, &[]),
        Ok(answer) => {
            // It goes on, so that it is not known when it has said all.
            running::settle(&mut listener, &mut transcript, &id, Duration::from_millis(500));
            let ids: Vec<_> = [id.as_str()].into_iter().chain(answer.request_id.as_deref()).collect();
            let said: Vec<_> = transcript.of(&ids).iter().map(|line| service.credentials().hide_in(line)).collect();
            show(context, answer, &said).map_err(|failure| failure.or_hint(advice))
        }
        Err(error) => Err(Failure::from(error).or_hint(advice)),
    }
}

/// The JSON that is meant, which is sent as it stands.
fn read(text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = match text.strip_prefix('@') {
        Some(file) => fs::read(file)?,
        None if text == "-" => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes)?;
            bytes
        }
        None => text.as_bytes().to_vec(),
    };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        let explanation = ErrorKind::Usage
            .named("invoke/data")
            .hint("`--data '{\"x\": 2}'` sends JSON, `--data @request.json` a file with it");
        return Err(Failure::new(explanation, format!("the data is no JSON: {error}")));
    }
    Ok(bytes)
}

/// The service that a person names, if it runs already, and its container, if it is one of ours.
fn running(
    context: &Context,
    session: &Session,
    target: &str,
) -> Result<Option<(Service, Option<Container>)>, Failure> {
    if let Some(url) = address(target) {
        return Ok(Some((Service::at(&url, &context.network)?, None)));
    }
    // What has ended is in nobody's way, and a folder only in that of a whole name.
    let Some(state) = run::named::running(session, target)? else { return Ok(None) };
    if state.name != target && Path::new(target).exists() {
        return Ok(None);
    }
    match state.published.first() {
        Some(publish) => {
            let container = run::containers(session)?.get(&state.name)?;
            Ok(Some((Service::new(publish.host), Some(container))))
        }
        None => {
            let explanation =
                ErrorKind::Failure.named("invoke/no-port").hint("name its address: `ekiben invoke http://HOST:PORT`");
            Err(Failure::new(explanation, format!("the container `{}` publishes no port", state.name)))
        }
    }
}

/// The address that `text` is. A name with a port alone may be that of an image.
pub(super) fn address(text: &str) -> Option<Url> {
    let is_plain = text.parse::<SocketAddr>().is_ok()
        || text.strip_prefix("localhost:").is_some_and(|port| port.parse::<u16>().is_ok());
    let text = if is_plain { format!("http://{text}") } else { text.to_owned() };
    text.contains("://").then(|| Url::parse(&text).ok()).flatten()
}

/// Builds what is named, if need be, and runs it for one request.
fn once(
    context: &Context,
    session: &Session,
    args: Args,
    credentials: Credentials,
    data: Option<Vec<u8>>,
) -> Result<Exit, Failure> {
    let inputs = Inputs { path: PathBuf::from(args.target), how: args.build };
    let devices = args.how.devices(context)?;
    let built = workflow::image(session, inputs.request(context)?, context)?;
    let mut options = args.how.options(built.manifest.as_ref().map(|manifest| &manifest.resources), devices)?;
    options.publish = vec![run::any_port(run::port(&built.image, &options.env))];
    let mut running = running::start(context, session, &built, options, Life::Tied, false)?.with(credentials);
    let _signals = running.container.pass_on_signals()?;
    let ready = built.manifest.as_ref().map_or("/readyz", |manifest| &manifest.service.ready);
    running.wait_ready(context, ready, args.how.timeout)?;
    let (path, data) = asked(context, args.path, data, built.manifest.as_ref());
    let (answer, id) = running.invoke(&path, data, hearing(context));
    // What is said behind the answer is all there once nothing runs any more.
    running.end(context)?;
    let theirs = answer.as_ref().ok().and_then(|answer| answer.request_id.as_deref());
    let said = running.said(&[id.as_str()].into_iter().chain(theirs).collect::<Vec<_>>());
    match answer {
        Ok(answer) => show(context, answer, &said),
        Err(error) => {
            running::show_said(context, &said);
            Err(error.into())
        }
    }
}

/// What is asked, and what is sent: where the person says neither, the first example of the manifest that sends something.
fn asked(
    context: &Context,
    path: Option<String>,
    data: Option<Vec<u8>>,
    manifest: Option<&Manifest>,
) -> (String, Option<Vec<u8>>) {
    if path.is_none()
        && data.is_none()
        && let Some(example) = manifest.and_then(Example::first_request)
    {
        let (path, name) = (&example.test.path, plain(&example.test.name(example.number)));
        context.printer.status("Asking", format!("{path} the example {NAME}{name}{NAME:#} of the manifest"));
        return (path.clone(), example.json().map(String::into_bytes));
    }
    (path.unwrap_or_else(|| USUAL.to_owned()), data)
}

/// Writes an answer in parts to stdout as it comes; not for a document, which has it as a whole. Where nobody reads any more,
/// nothing more is asked for.
fn hearing(context: &Context) -> Option<service::Hearing<'_>> {
    (context.printer.output() == Output::Human)
        .then(|| Box::new(|bytes: &[u8]| context.printer.raw(bytes).is_ok()) as service::Hearing<'_>)
}

/// Writes the body to stdout. A status that is none of success is the command's failure: then what the service `said` of
/// the request is shown as well.
fn show(context: &Context, answer: Answer, said: &[String]) -> Result<Exit, Failure> {
    let Answer { url, status, location, content_type, body, request_id, time } = answer;
    let said = if status.is_success() { &[] } else { said };
    if context.printer.output() == Output::Human {
        context.printer.status("Answered", format!("{status} in {}", Time(time)));
        context.printer.raw(&body)?;
        if io::stdout().is_terminal() && !body.is_empty() && !body.ends_with(b"\n") {
            context.printer.raw(b"\n")?;
        }
        running::show_said(context, said);
    } else {
        let Body { content_type, encoding, body } = Body::new(content_type, body);
        let document = json!({
            "url": url,
            "status": status.as_u16(),
            "seconds": time.as_secs_f64(),
            "content_type": content_type,
            // How `body` stands for the bytes.
            "encoding": encoding,
            "body": body,
            "request_id": request_id,
            // Of a request that failed.
            "log": said,
        });
        context.printer.raw(format!("{document:#}\n").as_bytes())?;
    }
    if status.is_success() {
        return Ok(Exit::Success);
    }
    let explanation = ErrorKind::Mismatch.named("invoke/status").maybe(match (status.as_u16(), location) {
        (300..=399, Some(location)) => Some(format!("it redirects to {location}: ask there")),
        (405, _) => Some("`--data` sends a POST, without it a GET is sent".to_owned()),
        _ => None,
    });
    Err(Failure::new(explanation, format!("{url} answered {status}")))
}
