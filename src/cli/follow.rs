//! `ekiben follow`

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value as Json;

use super::printer::{ERROR, NAME, Report, dim_time};
use super::{Context, Exit, Failure};
use crate::build::follow::{self, Found, Outcome, Selection, Words};
use crate::bundle::origin::mlflow::{Server, Version};
use crate::image::session::Session;
use crate::io::explain::ErrorKind;
use crate::io::http::Network;
use crate::io::tied::tied;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben follow models:/ --where \"tags.production = 'true'\" --push registry.example/models --once\n\
\x20 ekiben follow models:/iris --alias champion --push registry.example/models --every 2m\n\
\x20 ekiben follow models:/ --stage Production --push registry.example/models --every 5m --on-success ./deploy.sh";

/// Build, test and push each model version that is tagged in MLflow's registry
///
/// A version that is selected and has no result yet becomes an image, HOST/PREFIX/NAME:VERSION: it is built, asks itself its
/// example requests, and is pushed. What came of it is written to the version as tags: `ekiben.status`, `ekiben.image` with the
/// digest, `ekiben.error`, `ekiben.at`. A version that fails is left alone until `--retry` says otherwise, or its tag
/// `ekiben.status` is removed; where a server does not answer, it is tried again in the next round. It can be killed at any
/// moment, and be started twice. The server is that of MLFLOW_TRACKING_URI.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// `models:/` for all models, `models:/NAME` for one.
    #[arg(value_name = "models:/[NAME]", value_parser = model)]
    model: Model,
    /// Which versions, in MLflow's words: "tags.production = 'true'".
    #[arg(long = "where", value_name = "FILTER", conflicts_with = "alias")]
    filter: Option<String>,
    /// The version that has this alias.
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    /// Versions in this stage, in registries that have stages.
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Where images are pushed: a registry, and what the names of repositories begin with.
    #[arg(long, value_name = "HOST/PREFIX")]
    push: String,
    /// Look once: for a cron job, or CI.
    #[arg(long, conflicts_with = "every")]
    once: bool,
    /// How often is looked: 30s, 2m, 1h.
    #[arg(long, value_name = "TIME", value_parser = interval, required_unless_present = "once")]
    every: Option<Duration>,
    /// A command for each image that was pushed, run by `sh`: it deploys it. It gets EKIBEN_IMAGE (with its digest), EKIBEN_MODEL
    /// and EKIBEN_VERSION, and its last line is written to the version as `model_endpoint`.
    #[arg(long, value_name = "COMMAND")]
    on_success: Option<String>,
    /// Try those again, once, that failed before.
    #[arg(long)]
    retry: bool,
    /// What the names of the tags begin with.
    #[arg(long, value_name = "PREFIX", default_value = "ekiben.")]
    tag_prefix: String,
    /// The tag for what the command's last line says.
    #[arg(long, value_name = "TAG", default_value = "model_endpoint")]
    endpoint_tag: String,
}

/// A registered model, or all.
#[derive(Clone, Debug)]
struct Model(Option<String>);

fn model(text: &str) -> Result<Model, String> {
    let name = text.strip_prefix("models:/").ok_or("write models:/ for all models, or models:/NAME")?;
    match name {
        "" => Ok(Model(None)),
        name if name.contains(['/', ':', '@']) => {
            Err("write models:/NAME, and the version by --where or --alias".to_owned())
        }
        name => Ok(Model(Some(name.to_owned()))),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "write a time as 30s, 2m or 1h".to_owned())
}

/// What came of one look.
#[derive(Default, Serialize)]
struct Round {
    /// Versions of which something became now.
    versions: Vec<Followed>,
    /// Those that were built before.
    done: usize,
    /// Those that failed before, and are left alone.
    failed: usize,
    /// Those that could not be built now, as somebody did not answer.
    waiting: Vec<Waiting>,
}

#[derive(Serialize)]
struct Followed {
    model: String,
    version: u64,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
struct Waiting {
    model: String,
    version: u64,
    why: String,
}

/// Why a step did not succeed.
enum Setback {
    /// It is the version's own fault.
    Final(String),
    /// Somebody did not answer.
    Passing(String),
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let server = Server::of_models(&session.client, "models:/")?;
    let Model(name) = args.model.clone();
    let selection =
        Selection { name, filter: args.filter.clone(), alias: args.alias.clone(), stage: args.stage.clone() };
    let words = Words { prefix: args.tag_prefix.clone(), endpoint: args.endpoint_tag.clone() };
    let mut tried = BTreeSet::new();
    loop {
        let again = |version: &Version| args.retry && !tried.contains(&version.address());
        let found = follow::look(&server, &selection, &words, &again);
        let round = match (found, args.every) {
            (Ok(found), _) => {
                tried.extend(found.due.iter().map(Version::address));
                round(context, &session, &args, &server, &words, found)?
            }
            (Err(error), None) => return Err(error.into()),
            (Err(error), Some(_)) => {
                context.printer.warn(&format!("{error}; it is tried again"));
                Round::default()
            }
        };
        context.printer.report(&round)?;
        let Some(time) = args.every else {
            let has_failed = |one: &Followed| matches!(one.outcome, Outcome::Failed { .. });
            return Ok(match (round.versions.iter().any(has_failed), round.waiting.is_empty()) {
                (true, _) => Exit::Error(ErrorKind::Failure),
                (false, false) => Exit::Error(ErrorKind::Unavailable),
                (false, true) => Exit::Success,
            });
        };
        std::thread::sleep(time);
    }
}

/// Does what is to be done.
fn round(
    context: &Context,
    session: &Session,
    args: &Args,
    server: &Server,
    words: &Words,
    found: Found,
) -> Result<Round, Failure> {
    let mut round = Round { done: found.done, failed: found.failed, ..Round::default() };
    let record = |round: &mut Round, version: &Version, outcome: Outcome| {
        let (model, number) = (version.name.clone(), version.version);
        match follow::record(server, version, words, &outcome) {
            Ok(()) => round.versions.push(Followed { model, version: number, outcome }),
            Err(error) => {
                round.waiting.push(Waiting {
                    model,
                    version: number,
                    why: format!("its tags cannot be written: {error}"),
                });
            }
        }
    };
    let repositories = follow::repositories(&args.push, &found.due);
    for version in &found.due {
        let started = Instant::now();
        let repository = repositories.get(&version.name).cloned().flatten();
        let image = repository.map(|repository| format!("{repository}:{}", version.version));
        let result = match image {
            Some(image) => image_of(context, session, args, version, &image),
            None => Err(Setback::Final("another model's images are called the same: rename one of the two".to_owned())),
        };
        match result {
            Ok((image, endpoint)) => {
                context.printer.status("Pushed", format!("{NAME}{image}{NAME:#} {}", dim_time(started.elapsed())));
                record(&mut round, version, Outcome::Done { image, endpoint });
            }
            Err(Setback::Final(error)) => {
                context.printer.warn(&format!("{} failed: {error}", version.address()));
                record(&mut round, version, Outcome::Failed { error });
            }
            Err(Setback::Passing(why)) => {
                context.printer.warn(&format!("{} has to wait: {why}", version.address()));
                round.waiting.push(Waiting { model: version.name.clone(), version: version.version, why });
            }
        }
    }
    for version in &found.retired {
        context.printer.status("Retired", version.address());
        record(&mut round, version, Outcome::Retired);
    }
    Ok(round)
}

/// Builds, tests and pushes the image of a version, and runs the command for it; gives the image with its digest, and what the
/// command says of where it is deployed.
fn image_of(
    context: &Context,
    session: &Session,
    args: &Args,
    version: &Version,
    image: &str,
) -> Result<(String, Option<String>), Setback> {
    let address = version.address();
    context.printer.status("Following", format!("{NAME}{address}{NAME:#}"));
    ourselves(context, session, &["test", &address])?;
    let built = ourselves(context, session, &["build", &address, "--tag", image, "--push"])?;
    let digest = built.get("digest").and_then(Json::as_str).unwrap_or_default();
    let repository = image.rsplit_once(':').map_or(image, |(repository, _)| repository);
    let image = format!("{repository}@{digest}");
    let Some(command) = &args.on_success else { return Ok((image, None)) };
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit());
    shell.env("EKIBEN_IMAGE", &image).env("EKIBEN_MODEL", &version.name);
    shell.env("EKIBEN_VERSION", version.version.to_string());
    let output =
        tied(&mut shell).output().map_err(|error| Setback::Passing(format!("`sh` cannot be started: {error}")))?;
    if !output.status.success() {
        return Err(Setback::Final(format!("`{command}` ended with {}", output.status)));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Ok((image, last.map(str::to_owned)))
}

/// Runs a command of ours in a process of its own, whose end is no other version's; gives its result.
fn ourselves(context: &Context, session: &Session, args: &[&str]) -> Result<Json, Setback> {
    let passing = |error: io::Error| Setback::Passing(format!("ekiben cannot be started: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(passing)?);
    command.args(args).args(["--output", "json", "--quiet"]).env("EKIBEN_HOME", session.store.root());
    let settings = &context.network;
    for file in &settings.ca {
        command.arg("--ca").arg(file);
    }
    for host in &settings.plain_http {
        command.args(["--plain-http", host]);
    }
    if settings.network == Network::Offline {
        command.arg("--offline");
    }
    let output = tied(command.stdin(Stdio::null())).output().map_err(passing)?;
    let result: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if output.status.success() {
        return Ok(result);
    }
    let error = why(&result, &String::from_utf8_lossy(&output.stderr), &output.status.to_string());
    match output.status.code() {
        Some(code) if code == i32::from(Exit::Error(ErrorKind::Unavailable).code()) => Err(Setback::Passing(error)),
        _ => Err(Setback::Final(error)),
    }
}

/// Why a command of ours did not succeed, in a line.
fn why(result: &Json, stderr: &str, status: &str) -> String {
    let outcomes = result.get("outcomes").and_then(Json::as_array);
    let different: Vec<&str> = outcomes
        .into_iter()
        .flatten()
        .filter(|outcome| outcome.get("verdict").is_some_and(|verdict| verdict == "different"))
        .filter_map(|outcome| outcome.get("name")?.as_str())
        .collect();
    if !different.is_empty() {
        return format!("not answered as it should be: {}", different.join(", "));
    }
    let said = stderr.lines().rev().find_map(|line| serde_json::from_str::<Json>(line).ok()?.get("error").cloned());
    let Some(said) = said else { return format!("it ended with {status}") };
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let causes = said.get("causes").and_then(Json::as_array).into_iter().flatten().filter_map(text);
    let found = said.get("diagnostics").and_then(Json::as_array).into_iter().flatten();
    let found = found.filter_map(|one| text(one.get("message")?));
    let words: Vec<String> = said.get("message").and_then(text).into_iter().chain(causes).chain(found).collect();
    words.join(": ")
}

impl Report for Round {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for Followed { model, version, outcome } in &self.versions {
            match outcome {
                Outcome::Done { image, endpoint: None } => writeln!(out, "{NAME}{model}/{version}{NAME:#} {image}")?,
                Outcome::Done { image, endpoint: Some(endpoint) } => {
                    writeln!(out, "{NAME}{model}/{version}{NAME:#} {image} at {endpoint}")?;
                }
                Outcome::Failed { error } => {
                    writeln!(out, "{NAME}{model}/{version}{NAME:#} {ERROR}failed{ERROR:#}: {error}")?;
                }
                Outcome::Retired => writeln!(out, "{NAME}{model}/{version}{NAME:#} is not selected any more")?,
            }
        }
        for Waiting { model, version, why } in &self.waiting {
            writeln!(out, "{NAME}{model}/{version}{NAME:#} has to wait: {why}")?;
        }
        if self.versions.is_empty() && self.waiting.is_empty() {
            let failed = if self.failed > 0 { format!(", {} failed before", self.failed) } else { String::new() };
            writeln!(out, "nothing to do: {} done{failed}", self.done)?;
        }
        Ok(())
    }
}
