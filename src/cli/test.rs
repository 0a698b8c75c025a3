//! `ekiben test`

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use url::Url;

use super::inputs::{self, Inputs};
use super::printer::{DIM, ERROR, NAME, Output, Report, Time, VERB, plain};
use super::{Context, Exit, Failure, invoke, running, watch};
use crate::build::workflow::{self, Goal, Opened};
use crate::check::accept::{self, Accepted, Refused};
use crate::check::target::Target;
use crate::formats::document::shown;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::run;
use crate::run::service::{Credentials, DiffLine, Example, Outcome, RequestId, Service, Verdict, without_access};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben test\n\
\x20 ekiben test fixtures/iris\n\
\x20 ekiben test --accept                          writes the answers into the manifest\n\
\x20 ekiben test --url https://model.example       asks a service that runs there\n\
\x20 ekiben test iris-1.0.ekiben --output json\n\
\x20 TOKEN=… ekiben test --credential TOKEN        sends the header ENV_TOKEN";

/// Build a model, run it, ask the manifest's example requests, and compare the answers
///
/// Shows the answers that nothing is expected of, and how the others differ. Ends with 4 where one is not as expected.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Ask a service that runs already, whoever made it: http://HOST:PORT, https://HOST/BASE, HOST:PORT of this machine.
    ///
    /// Nothing is built or started; PATH says where the example requests stand. Credentials go to this host alone.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = [
        "locked", "no_cache", "base", "lock", "root", "relax_pins", "engine", "memory", "cpus", "pids_limit", "read_only", "env",
        "env_file", "volume", "gpus", "timeout",
    ])]
    url: Option<String>,
    /// Write the answers into the manifest, as what is expected from now on: those that nothing was expected of, and those
    /// that differ.
    ///
    /// Only the places that differ are changed: comments and layout stay. Nothing is written of an answer that the service
    /// failed to give (a status of 500 and more that was not expected, or none), nor of one with a credential in it.
    #[arg(long)]
    accept: bool,
    #[command(flatten)]
    secrets: running::Secrets,
    #[command(flatten)]
    how: running::How,
}

#[derive(Serialize)]
struct Tested {
    /// What was built and asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageName>,
    /// None for a person, who does not see it: it may take a while to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// What was asked where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// As expected.
    passed: usize,
    /// Nothing was expected but an answer.
    answered: usize,
    /// Not as expected.
    failed: usize,
    outcomes: Vec<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<Accepted>,
    /// For each outcome, the lines of its log for a person.
    #[serde(skip)]
    logs: Vec<Vec<String>>,
    #[serde(skip)]
    width: usize,
}

/// What was asked, and what came of it.
struct Asked {
    image: Option<(ImageName, Option<Digest>)>,
    url: Option<String>,
    manifest: Manifest,
    outcomes: Vec<Outcome>,
}

pub fn run(context: &Context, mut args: Args) -> Result<Exit, Failure> {
    let credentials = args.secrets.credentials()?;
    args.inputs.path = inputs::meant(context, args.inputs.path)?;
    let path = args.inputs.path.clone();
    let (accepts, is_project) = (args.accept, matches!(Target::of(&path)?, Target::Project(_)));
    if accepts && !is_project {
        let explanation = ErrorKind::Usage.named("test/packed").hint("name the project's folder");
        let text = format!("--accept writes into a manifest, and {} is packed", path.display());
        return Err(Failure::new(explanation, text));
    }
    let session = context.session_for_running()?;
    let asked = match &args.url {
        Some(url) => elsewhere(context, &session, args.inputs, url, credentials)?,
        None => here(context, &session, args, credentials)?,
    };
    let Asked { image, url, manifest, outcomes } = asked;
    let accepted = accepts.then(|| accept::answers(&path, &manifest, &outcomes)).transpose()?;
    let count = |verdict: Verdict| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count();
    let (passed, answered, failed) = (count(Verdict::AsExpected), count(Verdict::Answered), count(Verdict::Different));
    let is_written =
        |outcome: &&Outcome| accepted.as_ref().is_some_and(|accepted| accepted.written.contains(&outcome.number));
    let different = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Different && !is_written(outcome));
    let is_well = different.count() == 0 && accepted.as_ref().is_none_or(|accepted| accepted.refused.is_empty());
    let is_acceptable =
        outcomes.iter().any(|outcome| outcome.verdict != Verdict::AsExpected && accept::writable(outcome).is_ok());
    let (image, digest) = image.unzip();
    let digest = digest.flatten();
    // Wider lines are hard to compare.
    let width = watch::result_width().min(100);
    let log = |outcome: &Outcome| running::readable_lines(context, &without_access(&outcome.log));
    let logs = outcomes.iter().map(log).collect();
    let tested = Tested { image, digest, url, passed, answered, failed, outcomes, accepted, logs, width };
    context.printer.report(&tested)?;
    if is_project && !accepts && is_acceptable {
        context.printer.advise(match (answered, failed) {
            (_, 0) => "`ekiben test --accept` writes the answers below `expect:`",
            _ => "where the answer is right, `ekiben test --accept` writes it below `expect:`",
        });
    }
    Ok(if is_well { Exit::Success } else { Exit::Error(ErrorKind::Mismatch) })
}

/// Asks a service that is built and started for it.
fn here(context: &Context, session: &Session, args: Args, credentials: Credentials) -> Result<Asked, Failure> {
    let devices = args.how.devices(context)?;
    let gate = args.how.gate(context)?;
    let opened = Opened::open(session, args.inputs.request(context)?, context)?;
    let manifest = opened.manifest().clone();
    // Said before anything is locked.
    has_tests(&manifest)?;
    let sent = opened.with_files()?;
    let input = opened.input(session, &[], Goal::Image, context)?;
    let built = workflow::build(session, input, &[], &[], context)?;
    let mut options = args.how.options(Some(&manifest.resources), devices)?;
    options.publish = vec![run::any_port(run::port(&built.image, &options.env))];
    let mut running =
        running::start(context, session, &built, gate.as_ref(), options, false, running::Signals::PassedOn)?
            .with(credentials);
    running.wait_ready(context, &manifest.service.ready, args.how.timeout)?;
    let asked = Example::of(&sent).map(|example| running.ask(context, example)).collect::<Result<Vec<_>, _>>()?;
    // What is said behind an answer is all there once nothing runs any more.
    running.end(context)?;
    let told = |(mut outcome, id): (Outcome, RequestId)| {
        let ids: Vec<_> = [id.as_str()].into_iter().chain(outcome.request_id.as_deref()).collect();
        if outcome.verdict == Verdict::Different {
            outcome.log = running.said(&ids);
        }
        outcome
    };
    let outcomes = asked.into_iter().map(told).collect();
    let digest = (context.printer.output() == Output::Json).then(|| built.finished(session)).transpose()?;
    Ok(Asked { image: Some((built.name, digest)), url: None, manifest, outcomes })
}

/// Asks a service that runs somewhere.
fn elsewhere(
    context: &Context,
    session: &Session,
    inputs: Inputs,
    url: &str,
    credentials: Credentials,
) -> Result<Asked, Failure> {
    let address = invoke::address(url).or_else(|| Url::parse(url).ok().filter(Url::has_host));
    let Some(address) = address else {
        let explanation = ErrorKind::Usage.named("test/address").hint("write http://HOST:PORT, or 127.0.0.1:PORT");
        return Err(Failure::new(explanation, format!("`{url}` is no address of a service")));
    };
    let service = Service::at(&address, &context.network)?.with(credentials);
    let opened = Opened::open(session, inputs.request(context)?, context)?;
    let manifest = opened.manifest().clone();
    has_tests(&manifest)?;
    let sent = opened.with_files()?;
    let outcomes: Vec<_> = Example::of(&sent).map(|example| service.ask(example, None)).collect();
    if let [first, ..] = outcomes.as_slice()
        && outcomes.iter().all(|outcome| outcome.status.is_none())
    {
        let why = first.differences.first().map(|difference| difference.actual.clone()).unwrap_or_default();
        return Err(Failure::new(
            ErrorKind::Unavailable.named("test/unreachable"),
            format!("{} could not be asked: {why}", service.url()),
        ));
    }
    Ok(Asked { image: None, url: Some(service.url().to_owned()), manifest, outcomes })
}

fn has_tests(manifest: &Manifest) -> Result<(), Failure> {
    if manifest.tests.is_empty() {
        let hint = "add example requests under `tests:`, each with `request`; `ekiben invoke` asks once";
        return Err(Failure::new(ErrorKind::Usage.named("test/none").hint(hint), "the manifest has no tests"));
    }
    Ok(())
}

/// Lines that are shown of an answer, and of where it differs.
const MOST_LINES: usize = 24;
const MOST_DIFFERENCES: usize = 8;
/// Columns by which what belongs to a test is set in.
const MARGIN: usize = 6;

impl Report for Tested {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out)?;
        for (outcome, log) in self.outcomes.iter().zip(&self.logs) {
            self.outcome(out, outcome)?;
            for line in log {
                writeln!(out, "{:MARGIN$}{DIM}log{DIM:#} {line}", "")?;
            }
        }
        self.summary(out)
    }
}

impl Tested {
    fn outcome(&self, out: &mut dyn Write, outcome: &Outcome) -> io::Result<()> {
        let time = Time(Duration::from_secs_f64(outcome.seconds));
        let (style, sign) = match outcome.verdict {
            Verdict::AsExpected => (VERB, '✓'),
            Verdict::Answered => (NAME, '•'),
            Verdict::Different => (ERROR, '✗'),
        };
        writeln!(out, "  {style}{sign}{style:#} {} {DIM}{time}{DIM:#}", plain(&outcome.name))?;
        if outcome.verdict == Verdict::AsExpected {
            return Ok(());
        }
        let margin = " ".repeat(MARGIN);
        let width = self.width.saturating_sub(MARGIN + 2);
        for difference in outcome.differences.iter().take(MOST_DIFFERENCES) {
            writeln!(out, "{margin}{}", plain(&difference.to_string()))?;
        }
        let more = outcome.differences.len().saturating_sub(MOST_DIFFERENCES);
        if more > 0 {
            writeln!(out, "{margin}{DIM}… and {more} more{DIM:#}")?;
        }
        let diff = outcome.diff(width);
        let is_about_status = outcome.differences.iter().any(|difference| difference.at == "status");
        if outcome.verdict == Verdict::Answered || is_about_status {
            let text = outcome.body.as_ref().map(|body| body.text(width)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            for line in lines.iter().take(MOST_LINES) {
                writeln!(out, "{margin}{}", short(line))?;
            }
            left_out(out, lines.len())?;
        }
        for line in diff.iter().take(MOST_LINES) {
            match line {
                DiffLine::Same(line) => writeln!(out, "{margin}{DIM}  {}{DIM:#}", short(line))?,
                DiffLine::Expected(line) => writeln!(out, "{margin}{ERROR}-{ERROR:#} {}", short(line))?,
                DiffLine::Actual(line) => writeln!(out, "{margin}{VERB}+{VERB:#} {}", short(line))?,
                DiffLine::LeftOut(_) => writeln!(out, "{margin}{DIM}  …{DIM:#}")?,
            }
        }
        left_out(out, diff.len())
    }

    fn summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { passed, answered, failed, accepted, .. } = self;
        let what = match (&self.image, &self.url) {
            (Some(image), _) => image.to_string(),
            (None, url) => url.clone().unwrap_or_default(),
        };
        let all = passed + answered + failed;
        let answers = if all == 1 { "answer" } else { "answers" };
        let text = match (answered, failed) {
            (0, 0) if all == 1 => "the answer is as expected".to_owned(),
            (0, 0) => format!("all {passed} {answers} as expected"),
            (0, 1) if all == 1 => "the answer is not as expected".to_owned(),
            (0, failed) => format!("{failed} of {all} {answers} not as expected"),
            (answered, failed) => {
                let counted =
                    [(*failed, "not as expected"), (*passed, "as expected"), (*answered, "answered, no expectation")];
                let counted = counted.into_iter().filter(|(count, _)| *count > 0);
                counted.map(|(count, text)| format!("{count} {text}")).collect::<Vec<_>>().join(", ")
            }
        };
        let style = if *failed == 0 { VERB } else { ERROR };
        writeln!(out, "\n{style}{what}: {text}{style:#}")?;
        let Some(Accepted { path, written, refused }) = accepted else { return Ok(()) };
        for Refused { name, reason, .. } in refused {
            writeln!(out, "{ERROR}not accepted{ERROR:#}: {}: {reason}", plain(name))?;
        }
        match written.len() {
            0 => Ok(()),
            1 => writeln!(out, "{VERB}accepted{VERB:#}: 1 answer, written to {}", shown(path)),
            count => writeln!(out, "{VERB}accepted{VERB:#}: {count} answers, written to {}", shown(path)),
        }
    }
}

/// Says how many of the lines were not shown.
fn left_out(out: &mut dyn Write, lines: usize) -> io::Result<()> {
    match lines.saturating_sub(MOST_LINES) {
        0 => Ok(()),
        more => writeln!(out, "{:MARGIN$}{DIM}… {more} more lines: `--output json` has all{DIM:#}", ""),
    }
}

/// A line of a foreign text, as far as a person looks at it.
fn short(line: &str) -> String {
    const LONGEST: usize = 1000;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => plain(line.get(..end).unwrap_or(line)) + "…",
        None => plain(line),
    }
}
