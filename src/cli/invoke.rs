//! `ekiben invoke`

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde_json::{Map, json};
use url::Url;

use super::inputs::{How, Inputs};
use super::printer::{NAME, Output, Time, plain};
use super::{Context, Exit, Failure, completions, running};
use crate::build::workflow;
use crate::image::session::Session;
use crate::io::atomic;
use crate::io::explain::ErrorKind;
use crate::io::suggest::listed;
use crate::project::manifest::Manifest;
use crate::run;
use crate::run::container::{self, Container};
use crate::run::service::{self, Answer, Body, Credentials, Example, Part, RequestId, Sent, Service, Transcript};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben invoke .                                     the manifest's first example\n\
\x20 ekiben invoke . --data '{\"x\": 2}'                    build and run the project for one request\n\
\x20 ekiben invoke iris-x7k2 -d @request.json            a container of `ekiben ps`\n\
\x20 ekiben invoke http://127.0.0.1:3000 /extract -d -   any address, the request from stdin\n\
\x20 ekiben invoke iris-x7k2 /readyz                     without data: a GET\n\
\x20 ekiben invoke . image=@cat.png width=64 -o small.png   files and values by name, the answer into a file\n\
\x20 TOKEN=… ekiben invoke iris:1.0 -d '{}' --credential TOKEN";

/// Ask a model one thing: a running container, an address, or what is built and run for it
///
/// The answer goes to stdout as it comes, however long it takes; one that is no text goes there only where stdout is no
/// terminal. Any status but 2xx ends the command with 4, and no
/// answer at all with 5.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The name of a running container, the beginning of it, or the name of its image; an address (http://HOST:PORT,
    /// 127.0.0.1:PORT, localhost:PORT); the path of a project, a bundle or a bento; or the name of an image that nothing
    /// runs of. A container counts before a folder of the same name, which is written ./NAME.
    #[arg(value_name = "TARGET", add = completions::targets())]
    target: String,
    /// What is asked there, beginning with `/`: /predict where nothing else is said. Then what is sent: `NAME=VALUE`, where
    /// the value is JSON or else a text, and `NAME=@FILE`. With a file all go as a form (multipart/form-data), else as JSON.
    #[arg(value_name = "PATH|NAME=VALUE|NAME=@FILE")]
    words: Vec<String>,
    /// The JSON to send with a POST: as it is, from a file, or from stdin. Without it: the first example request of the
    /// manifest, where what is built for this has one and no PATH is given; else a GET.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Write the body of the answer to FILE, whole or not at all, in place of stdout.
    #[arg(long = "write", short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
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
    let (path, fields) = match args.words.split_first() {
        Some((path, fields)) if path.starts_with('/') => (Some(path.clone()), fields),
        _ => (None, args.words.as_slice()),
    };
    let sent = match (args.data.as_deref(), fields) {
        (None, []) => None,
        (Some(data), []) => Some(Sent::json(read(data)?)),
        (None, fields) => Some(named(fields)?),
        (Some(_), _) => {
            let text = "both --data and values by name are given";
            return Err(Failure::new(ErrorKind::Usage.named("invoke/data").hint("leave one of them out"), text));
        }
    };
    let file = args.file.clone();
    let session = context.session_for_running()?;
    match running(context, &session, &args.target)? {
        Some((service, container)) => {
            let path = path.as_deref().unwrap_or(USUAL);
            ask(context, &service.with(credentials), container, path, sent, file.as_deref())
        }
        None => once(context, &session, args, credentials, (path, sent), file.as_deref()),
    }
}

/// What is sent by name: `x=2`, `text=hello`, `image=@cat.png`.
fn named(fields: &[String]) -> Result<Sent, Failure> {
    let mut values = Map::new();
    let mut parts = Vec::new();
    for field in fields {
        let Some((name, value)) = field.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let explanation = ErrorKind::Usage
                .named("invoke/path")
                .hint("a path begins with `/`; what is sent is written NAME=VALUE or NAME=@FILE");
            return Err(Failure::new(explanation, format!("`{field}` is neither a path nor NAME=VALUE")));
        };
        let name = name.to_owned();
        match value.strip_prefix('@') {
            Some(path) => {
                let file_name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
                parts.push(Part { name, file_name, content: fs::read(path)? });
            }
            None => {
                let json = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
                values.insert(name.clone(), json);
                parts.push(Part { name, file_name: None, content: value.as_bytes().to_vec() });
            }
        }
    }
    Ok(match parts.iter().any(|part| part.file_name.is_some()) {
        true => Sent::form(&parts),
        false => Sent::json(serde_json::Value::Object(values).to_string()),
    })
}

/// Asks what runs already.
fn ask(
    context: &Context,
    service: &Service,
    container: Option<Container>,
    path: &str,
    sent: Option<Sent>,
    file: Option<&Path>,
) -> Result<Exit, Failure> {
    let Some(container) = container else {
        let hint = "is it running? `ekiben ps` lists what does, `ekiben run` starts a model";
        return match service.invoke(path, sent, None, hearing(context, file)) {
            Err(error @ service::Error::Transport { .. }) => Err(Failure::from(error).or_hint(hint)),
            answer => show(context, answer?, &[], file),
        };
    };
    let (mut listener, mut transcript) = (container.listen(), Transcript::default());
    let id = RequestId::random();
    listener.skip_to_last(0)?;
    transcript.ask(&id);
    let answer = service.invoke(path, sent, Some(&id), hearing(context, file));
    let name = container.name();
    let advice = format!("all that it said: `ekiben logs {name}`");
    match answer {
        Ok(answer) if answer.status.is_success() => show(context, answer, &[], file),
        Ok(answer) => {
            // It goes on, so that it is not known when it has said all.
            running::settle(&mut listener, &mut transcript, &id, Duration::from_millis(500));
            let ids: Vec<_> = [id.as_str()].into_iter().chain(answer.request_id.as_deref()).collect();
            let said: Vec<_> = transcript.of(&ids).iter().map(|line| service.credentials().hide_in(line)).collect();
            show(context, answer, &said, file).map_err(|failure| failure.or_hint(advice))
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
    // What has ended is in nobody's way, and a folder only in that of the beginning of a name.
    let is_folder = Path::new(target).exists();
    let meant = run::named::running(session, target).map_err(|error| match error {
        container::Error::Ambiguous { ref names, .. } if is_folder => {
            let hint = format!("say which: {}, or the folder: ./{target}", listed(names));
            Failure::from(error).with_remedy(Some(hint))
        }
        error => error.into(),
    })?;
    let Some(state) = meant else { return Ok(None) };
    if is_folder && !run::named::is_whole(&state, target) {
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
    (path, sent): (Option<String>, Option<Sent>),
    file: Option<&Path>,
) -> Result<Exit, Failure> {
    let inputs = Inputs { path: PathBuf::from(args.target), how: args.build };
    let devices = args.how.devices(context)?;
    let gate = args.how.gate(context)?;
    let built = workflow::image(session, inputs.request(context)?, context)?;
    let mut options = args.how.options(built.manifest.as_ref().map(|manifest| &manifest.resources), devices)?;
    options.publish = vec![run::any_port(run::port(&built.image, &options.env))];
    let mut running =
        running::start(context, session, &built, gate.as_ref(), options, false, running::Signals::PassedOn)?
            .with(credentials);
    let ready = built.manifest.as_ref().map_or("/readyz", |manifest| &manifest.service.ready);
    running.wait_ready(context, ready, args.how.timeout)?;
    let (path, sent) = asked(context, path, sent, built.manifest.as_ref());
    let (answer, id) = running.invoke(context, &path, sent, hearing(context, file))?;
    // What is said behind the answer is all there once nothing runs any more.
    running.end(context)?;
    let theirs = answer.as_ref().ok().and_then(|answer| answer.request_id.as_deref());
    let said = running.said(&[id.as_str()].into_iter().chain(theirs).collect::<Vec<_>>());
    match answer {
        Ok(answer) => show(context, answer, &said, file),
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
    sent: Option<Sent>,
    manifest: Option<&Manifest>,
) -> (String, Option<Sent>) {
    if path.is_none()
        && sent.is_none()
        && let Some(example) = manifest.and_then(Example::first_request)
    {
        let (path, name) = (&example.test.path, plain(&example.test.name(example.number)));
        context.printer.status("Asking", format!("{path} the example {NAME}{name}{NAME:#} of the manifest"));
        return (path.clone(), example.json().map(Sent::json));
    }
    (path.unwrap_or_else(|| USUAL.to_owned()), sent)
}

/// Writes an answer in parts to stdout as it comes; not for a document or a file, which have it as a whole. Where nobody reads any
/// more, nothing more is asked for.
fn hearing<'a>(context: &'a Context, file: Option<&Path>) -> Option<service::Hearing<'a>> {
    (context.printer.output() == Output::Human && file.is_none())
        .then(|| Box::new(|bytes: &[u8]| context.printer.raw(bytes).is_ok()) as service::Hearing<'_>)
}

/// Writes the body to stdout, or to `file`. A status that is none of success is the command's failure: then what the service
/// `said` of the request is shown as well, and no file is written.
fn show(context: &Context, answer: Answer, said: &[String], file: Option<&Path>) -> Result<Exit, Failure> {
    let Answer { url, status, location, content_type, body, request_id, time } = answer;
    let said = if status.is_success() { &[] } else { said };
    let file = file.filter(|_| status.is_success());
    if let Some(file) = file {
        atomic::write(file, |to| to.write_all(&body))?;
    }
    if context.printer.output() == Output::Human {
        context.printer.status("Answered", format!("{status} in {}", Time(time)));
        let is_text = std::str::from_utf8(&body).is_ok_and(|text| !text.contains('\0'));
        match file {
            Some(file) => {
                let kind = content_type.as_deref().unwrap_or("of no kind that is said");
                context.printer.status("Wrote", format!("{} ({} bytes, {})", file.display(), body.len(), plain(kind)));
            }
            // What is no text can do anything to a terminal.
            None if !is_text && io::stdout().is_terminal() => {
                let kind = content_type.as_deref().unwrap_or("of no kind that is said");
                context.printer.status("Left out", format!("{} bytes that are no text ({})", body.len(), plain(kind)));
                context.printer.advise("`-o FILE` writes them to a file");
            }
            None => {
                context.printer.raw(&body)?;
                if io::stdout().is_terminal() && !body.is_empty() && !body.ends_with(b"\n") {
                    context.printer.raw(b"\n")?;
                }
            }
        }
        running::show_said(context, said);
    } else if let Some(file) = file {
        let document = json!({
            "url": url,
            "status": status.as_u16(),
            "seconds": time.as_secs_f64(),
            "content_type": content_type,
            "file": file,
            "size": body.len(),
            "request_id": request_id,
        });
        context.printer.raw(format!("{document:#}\n").as_bytes())?;
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
        (405, _) => Some("`--data` or NAME=VALUE sends a POST, without them a GET is sent".to_owned()),
        _ => None,
    });
    Err(Failure::new(explanation, format!("{url} answered {status}")))
}
