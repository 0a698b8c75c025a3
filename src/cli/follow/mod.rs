//! `ekiben follow`

mod cronjob;
mod deployment;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value as Json;

use super::deploy::Wishes;
use super::printer::{ERROR, NAME, Report, dim_time};
use super::{Context, Exit, Failure};
use crate::build::follow::{self, Found, Outcome, Selection, Words};
use crate::bundle::origin::mlflow::{Server, Version};
use crate::image::session::Session;
use crate::io::explain::ErrorKind;
use crate::io::http::Network;
use crate::io::tied::tied;
use crate::project::init;
use crate::project::manifest::deploy::default_name;
use deployment::Deployments;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben follow models:/ --where \"tags.production = 'true'\" --push registry.example/models --once\n\
\x20 ekiben follow models:/iris --alias champion --push registry.example/models --every 2m\n\
\x20 ekiben follow models:/ --stage Production --push registry.example/models --every 5m --on-success ./deploy.sh\n\
\x20 ekiben follow models:/ --alias champion --push registry.example/models --every 2m --deploy --namespace models\n\
\x20 ekiben follow models:/ --alias champion --push registry.example/models --cronjob --image registry.example/ekiben:1.0";

/// Build, test and push each model version that is tagged in MLflow's registry
///
/// A version that is selected and has no result yet becomes an image, HOST/PREFIX/NAME:VERSION: it is built, asks itself its
/// example requests, and is pushed. What came of it is written to the version as tags: `ekiben.status`, `ekiben.image` with the
/// digest, `ekiben.error`, `ekiben.at`. A version that fails is left alone until `--retry` says otherwise, or its tag
/// `ekiben.status` is removed; where a server does not answer, it is tried again in the next round. It can be killed at any
/// moment, and be started twice. The server is that of MLFLOW_TRACKING_URI.
///
/// With `--deploy` the newest version of each model that is selected serves in Kubernetes: what `ekiben deploy` writes is applied,
/// waited for, and asked the example requests through its service. The version before stays until the new one answers, and comes
/// back where that does not. `--cronjob` writes what does this inside the cluster.
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
    #[arg(long, value_name = "TIME", value_parser = interval, required_unless_present_any = ["once", "cronjob"])]
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
    /// Deploy each model's newest version that is selected, and write to it where it answers.
    #[arg(long, conflicts_with = "on_success")]
    deploy: bool,
    /// Delete what was deployed of a model of which no version is selected any more.
    #[arg(long)]
    prune: bool,
    /// How models are deployed, in a file: as the section `deploy` of a manifest.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Write what does this inside a cluster, and do nothing else: a CronJob, at `--schedule` (every 2 minutes), and what it may.
    #[arg(long, conflicts_with_all = ["once", "every", "on_success", "retry"])]
    cronjob: bool,
    /// Ekiben's own image, for the CronJob.
    #[arg(long, value_name = "REF", requires = "cronjob")]
    image: Option<String>,
    /// The size of a claim that keeps what the CronJob has built and fetched: 20Gi.
    #[arg(long, value_name = "SIZE", requires = "cronjob")]
    store: Option<String>,
    #[command(flatten)]
    wishes: Wishes,
    /// What kubectl gets besides: `-- --context production`.
    #[arg(last = true, value_name = "KUBECTL")]
    passed: Vec<OsString>,
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

impl Setback {
    fn of(failure: Failure) -> Self {
        match failure.kind() {
            ErrorKind::Unavailable => Self::Passing(failure.line()),
            _ => Self::Final(failure.line()),
        }
    }
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let Model(name) = args.model.clone();
    let said = deployment::said(context, args.settings.as_deref(), &args.wishes)?;
    if said.name.is_some() && name.is_none() {
        let explanation = ErrorKind::Usage.named("follow/settings");
        return Err(Failure::new(explanation, "several models cannot be called the same: name one, as models:/NAME"));
    }
    if args.cronjob {
        context.printer.report(&cronjob::written(context, &args, said)?)?;
        return Ok(Exit::Success);
    }
    if !args.deploy && (args.prune || args.settings.is_some() || args.wishes != Wishes::default()) {
        let explanation = ErrorKind::Usage.named("follow/settings").hint("add `--deploy`");
        return Err(Failure::new(explanation, "nothing is deployed, and it is said how"));
    }
    let deployments = match args.deploy {
        true => Some(Deployments::new(context, &session, said, &args.wishes, args.passed.clone())?),
        false => None,
    };
    let server = Server::of_models(&session.client, "models:/")?;
    let selection =
        Selection { name, filter: args.filter.clone(), alias: args.alias.clone(), stage: args.stage.clone() };
    let words = Words { prefix: args.tag_prefix.clone(), endpoint: args.endpoint_tag.clone() };
    let follower = Follower { context, session: &session, args: &args, server, selection, words, deployments };
    let mut tried = BTreeSet::new();
    loop {
        let again = |version: &Version| args.retry && !tried.contains(&version.address());
        let found = follow::look(&follower.server, &follower.selection, &follower.words, &again);
        let round = match (found, args.every) {
            (Ok(found), _) => {
                tried.extend(found.due.iter().map(Version::address));
                follower.round(&found)
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

/// Who follows.
struct Follower<'a> {
    context: &'a Context,
    session: &'a Session,
    args: &'a Args,
    server: Server,
    selection: Selection,
    words: Words,
    deployments: Option<Deployments<'a>>,
}

/// Images that were built and pushed in this round, by the addresses of their versions.
type Built = BTreeMap<String, String>;

impl Follower<'_> {
    /// Does what is to be done.
    fn round(&self, found: &Found) -> Round {
        let mut round = Round { done: found.done, failed: found.failed, ..Round::default() };
        let repositories = follow::repositories(&self.args.push, &found.selected);
        let called =
            follow::own_names(found.selected.iter().chain(&found.retired), |name| default_name(&init::plain(name)));
        let called = |model: &str| called.get(model).and_then(Option::as_deref);
        let mut built = Built::new();
        let mut served = BTreeSet::new();
        for (number, version) in found.due.iter().enumerate() {
            let started = Instant::now();
            let repository = repositories.get(&version.name).cloned().flatten();
            let image = repository.map(|repository| format!("{repository}:{}", version.version));
            let result = match image {
                Some(image) => self.image_of(version, &image, called(&version.name)),
                None => {
                    Err(Setback::Final("another model's images are called the same: rename one of the two".to_owned()))
                }
            };
            match result {
                Ok((image, endpoint)) => {
                    let time = dim_time(started.elapsed());
                    self.context.printer.status("Pushed", format!("{NAME}{image}{NAME:#} {time}"));
                    match self.deployments {
                        Some(_) => drop(built.insert(version.address(), image)),
                        None => self.record(&mut round, version, Outcome::Done { image, endpoint }),
                    }
                }
                Err(setback) => self.set_back(&mut round, version, setback),
            }
            let is_last = !found.due.iter().skip(number + 1).any(|other| other.name == version.name);
            if is_last && served.insert(version.name.clone()) {
                self.serve(&mut round, &version.name, called(&version.name), found, &built);
            }
        }
        for version in &found.selected {
            if served.insert(version.name.clone()) {
                self.serve(&mut round, &version.name, called(&version.name), found, &built);
            }
        }
        for version in &found.retired {
            self.context.printer.status("Retired", version.address());
            match self.clear(version, called(&version.name), found) {
                Ok(()) => self.record(&mut round, version, Outcome::Retired),
                Err(setback) => self.set_back(&mut round, version, setback),
            }
        }
        self.clear_lingering(&mut round, found);
        round
    }

    /// Writes to a version what became of it.
    fn record(&self, round: &mut Round, version: &Version, outcome: Outcome) {
        let (model, number) = (version.name.clone(), version.version);
        match follow::record(&self.server, version, &self.words, &outcome) {
            Ok(()) => round.versions.push(Followed { model, version: number, outcome }),
            Err(error) => {
                let why = format!("its tags cannot be written: {error}");
                round.waiting.push(Waiting { model, version: number, why });
            }
        }
    }

    fn set_back(&self, round: &mut Round, version: &Version, setback: Setback) {
        match setback {
            Setback::Final(error) => {
                self.context.printer.warn(&format!("{} failed: {error}", version.address()));
                self.record(round, version, Outcome::Failed { error });
            }
            Setback::Passing(why) => {
                self.context.printer.warn(&format!("{} has to wait: {why}", version.address()));
                round.waiting.push(Waiting { model: version.name.clone(), version: version.version, why });
            }
        }
    }

    /// Sees that the newest version of a model serves that is selected and answers, and no other is said to.
    fn serve(&self, round: &mut Round, model: &str, called: Option<&str>, found: &Found, built: &Built) {
        let Some(deployments) = &self.deployments else { return };
        let selected = found.of(model);
        let Some(called) = called else {
            for version in selected.into_iter().filter(|version| built.contains_key(&version.address())) {
                let error = "another model is deployed under the same name: rename one of the two".to_owned();
                self.set_back(round, version, Setback::Final(error));
            }
            return;
        };
        let name = deployments.name(called);
        let image_of = |version: &Version| {
            let fresh = built.get(&version.address()).map(String::as_str);
            fresh.or_else(|| self.words.image_of(version)).map(str::to_owned)
        };
        // The newest first. Those that do not answer are recorded when another one does again: whoever is killed before that begins
        // with them anew.
        let mut bad: Vec<(&Version, String)> = Vec::new();
        let mut serving: Option<(&Version, String)> = None;
        for version in selected.iter().copied() {
            let Some(image) = image_of(version) else { continue };
            let answered_before = !built.contains_key(&version.address()) && self.words.serves(version);
            let result = match answered_before && bad.is_empty() {
                true => deployments.runs(name, &image),
                false => Ok(false),
            };
            let result = match result {
                Ok(true) => {
                    serving = Some((version, image));
                    break;
                }
                Ok(false) => deployments.deploy(name, &image),
                Err(setback) => Err(setback),
            };
            match result {
                Ok(endpoint) => {
                    serving = Some((version, image.clone()));
                    self.say_bad(round, &mut bad);
                    self.record(round, version, Outcome::Done { image, endpoint: Some(endpoint) });
                    break;
                }
                Err(Setback::Final(why)) => bad.push((version, why)),
                Err(passing) => return self.set_back(round, version, passing),
            }
        }
        if let (None, Some((version, _))) = (&serving, bad.first()) {
            let failed: BTreeSet<String> = bad.iter().map(|(version, _)| version.address()).collect();
            if let Err(setback) = self.take_back(name, model, &failed, &image_of(version).unwrap_or_default()) {
                return self.set_back(round, version, setback);
            }
        }
        self.say_bad(round, &mut bad);
        let is_serving =
            |version: &Version| serving.as_ref().is_some_and(|(serving, _)| serving.version == version.version);
        if serving.is_some() {
            self.forget_others(model, &is_serving);
        }
        let is_recorded = |round: &Round, version: &Version| {
            round.versions.iter().any(|one| one.model == version.name && one.version == version.version)
        };
        for version in selected.into_iter().rev() {
            let image = built.get(&version.address()).filter(|_| !is_recorded(round, version));
            if let Some(image) = image.cloned() {
                self.record(round, version, Outcome::Done { image, endpoint: None });
            }
        }
    }

    /// Records those that did not answer.
    fn say_bad(&self, round: &mut Round, bad: &mut Vec<(&Version, String)>) {
        for (version, why) in bad.drain(..) {
            if let Err(error) = follow::forget_endpoint(&self.server, version, &self.words) {
                self.context.printer.warn(&format!("{}: its tags cannot be written: {error}", version.address()));
            }
            self.set_back(round, version, Setback::Final(why));
        }
    }

    /// Deploys again what served before though it is not selected any more; where there is nothing, no pod of `image`, which does not
    /// answer, stays.
    fn take_back(&self, name: &str, model: &str, failed: &BTreeSet<String>, image: &str) -> Result<(), Setback> {
        let Some(deployments) = &self.deployments else { return Ok(()) };
        let passing = |error| Setback::Passing(format!("its tags cannot be read: {error}"));
        let serving = follow::serving(&self.server, model, &self.words).map_err(passing)?;
        let before = serving.iter().filter(|version| !failed.contains(&version.address()));
        for (version, image) in before.filter_map(|version| Some((version, self.words.image_of(version)?))) {
            match deployments.deploy(name, image) {
                Ok(_) => return Ok(()),
                Err(Setback::Final(why)) => self.context.printer.warn(&format!("{}: {why}", version.address())),
                Err(passing) => return Err(passing),
            }
        }
        deployments.stop(name, image)
    }

    /// Says of no other version of a model that it serves.
    fn forget_others(&self, model: &str, is_serving: &dyn Fn(&Version) -> bool) {
        let forget = || {
            let serving = follow::serving(&self.server, model, &self.words)?;
            let mut others = serving.iter().filter(|version| !is_serving(version));
            others.try_for_each(|version| follow::forget_endpoint(&self.server, version, &self.words))
        };
        if let Err(error) = forget() {
            self.context.printer.warn(&format!("models:/{model}: tags of versions before cannot be written: {error}"));
        }
    }

    /// Deletes what was deployed of a version that is not selected any more, where no other of its model is.
    fn clear(&self, version: &Version, called: Option<&str>, found: &Found) -> Result<(), Setback> {
        let Some(deployments) = &self.deployments else { return Ok(()) };
        let (Some(called), Some(image)) = (called, self.words.image_of(version)) else { return Ok(()) };
        if !self.words.serves(version) || !found.of(&version.name).is_empty() {
            return Ok(());
        }
        if !self.args.prune {
            let text = format!("{} is not selected any more, and goes on serving", version.address());
            self.context.printer.warn(&text);
            self.context.printer.advise("`--prune` deletes what is deployed of models without a selected version");
            return Ok(());
        }
        deployments.delete(deployments.name(called), image)?;
        self.context.printer.status("Deleted", deployments.name(called));
        let passing = |error| Setback::Passing(format!("its tags cannot be written: {error}"));
        follow::forget_endpoint(&self.server, version, &self.words).map_err(passing)
    }

    /// Deletes what was not deleted before.
    fn clear_lingering(&self, round: &mut Round, found: &Found) {
        if self.deployments.is_none() || !self.args.prune {
            return;
        }
        let lingering = follow::lingering(&self.server, &self.selection, &self.words, found).unwrap_or_else(|error| {
            self.context.printer.warn(&error.to_string());
            Vec::new()
        });
        let called = follow::own_names(&lingering, |name| default_name(&init::plain(name)));
        for version in &lingering {
            let called = called.get(&version.name).and_then(Option::as_deref);
            if let Err(Setback::Final(why) | Setback::Passing(why)) = self.clear(version, called, found) {
                round.waiting.push(Waiting { model: version.name.clone(), version: version.version, why });
            }
        }
    }

    /// Builds, tests and pushes the image of a version, and runs the command for it; gives the image with its digest, and what the
    /// command says of where it is deployed.
    fn image_of(
        &self,
        version: &Version,
        image: &str,
        called: Option<&str>,
    ) -> Result<(String, Option<String>), Setback> {
        let Self { context, session, args, .. } = self;
        let address = version.address();
        context.printer.status("Following", format!("{NAME}{address}{NAME:#}"));
        let deployed = self.deployments.as_ref().zip(called);
        let root = deployed.and_then(|(deployments, called)| deployments.root(deployments.name(called)));
        let root: Vec<&str> = root.iter().flat_map(|root| ["--root", root.as_str()]).collect();
        match ourselves(context, session, &[&["test", &address], &root[..]].concat()) {
            Err((Setback::Final(why), Some(ErrorKind::Sandbox))) if self.deployments.is_some() => {
                context.printer.warn(&format!("{address} is asked in the cluster alone: {why}"));
            }
            result => drop(result.map_err(|(setback, _)| setback)?),
        }
        let built = ourselves(context, session, &[&["build", &address, "--tag", image, "--push"], &root[..]].concat());
        let built = built.map_err(|(setback, _)| setback)?;
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
}

/// Runs a command of ours in a process of its own, whose end is no other version's; gives its result, or why there is none, and which
/// kind of failure it is where the process said it.
fn ourselves(context: &Context, session: &Session, args: &[&str]) -> Result<Json, (Setback, Option<ErrorKind>)> {
    let passing = |error: io::Error| (Setback::Passing(format!("ekiben cannot be started: {error}")), None);
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
    let is = |kind: ErrorKind| output.status.code() == Some(i32::from(Exit::Error(kind).code()));
    Err(match (is(ErrorKind::Unavailable), is(ErrorKind::Sandbox)) {
        (true, _) => (Setback::Passing(error), Some(ErrorKind::Unavailable)),
        (false, true) => (Setback::Final(error), Some(ErrorKind::Sandbox)),
        (false, false) => (Setback::Final(error), None),
    })
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
    let errors = found.filter(|one| one.get("severity").is_none_or(|severity| severity == "error"));
    let found = errors.filter_map(|one| text(one.get("message")?));
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
