//! `ekiben test`

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::inputs::Inputs;
use super::printer::{DIM, ERROR, Report, Time, VERB};
use super::{Context, Exit, Failure, serve};
use crate::build::workflow::{self, Goal, Opened};
use crate::image::store::ImageName;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::run;
use crate::run::container::Life;
use crate::run::service::Outcome;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben test\n\
\x20 ekiben test fixtures/iris\n\
\x20 ekiben test iris-1.0.ekiben --output json\n\
\x20 TOKEN=… ekiben test --credential TOKEN        sends the header ENV_TOKEN";

/// Build a model, run it, ask the manifest's example requests, and compare the answers
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    secrets: serve::Secrets,
    #[command(flatten)]
    how: serve::How,
}

#[derive(Serialize)]
struct Tested {
    image: ImageName,
    digest: Digest,
    passed: usize,
    failed: usize,
    outcomes: Vec<Outcome>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let credentials = args.secrets.credentials()?;
    let session = context.session()?;
    let opened = Opened::open(&session, args.inputs.request()?, context)?;
    let manifest = opened.manifest().clone();
    // Said before anything is locked.
    has_tests(&manifest)?;
    let input = opened.input(&session, &[], Goal::Image, context)?;
    let built = workflow::build(&session, input, &[], &[], context)?;
    let mut options = args.how.options(Some(&manifest.resources))?;
    options.publish = vec![run::any_port(serve::port(&built, &options.env))];
    let mut running = serve::start(context, &session, &built, options, Life::Tied, false)?.with(credentials);
    let _signals = running.container.pass_on_signals()?;
    running.wait_ready(context, &manifest.service.ready, args.how.timeout)?;
    let outcomes: Vec<_> = manifest.tests.iter().map(|test| running.service.ask(test)).collect();
    let failed = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).count();
    if failed > 0 {
        running.show_log(context);
    }
    running.end(context)?;
    let passed = outcomes.len() - failed;
    context.printer.report(&Tested { image: built.name, digest: built.digest, passed, failed, outcomes })?;
    Ok(if failed == 0 { Exit::Success } else { Exit::Mismatch })
}

fn has_tests(manifest: &Manifest) -> Result<(), Failure> {
    if manifest.tests.is_empty() {
        let hint = "add example requests under `tests:`, each with `request` and `expect`; `ekiben invoke` asks once";
        return Err(Failure::new(ErrorKind::Usage.named("test/none").hint(hint), "the manifest has no tests"));
    }
    Ok(())
}

impl Report for Tested {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out)?;
        for outcome in &self.outcomes {
            let time = Time(Duration::from_secs_f64(outcome.seconds));
            match outcome.differences.as_slice() {
                [] => writeln!(out, "  {VERB}✓{VERB:#} {} {DIM}{time}{DIM:#}", outcome.name)?,
                differences => {
                    writeln!(out, "  {ERROR}✗{ERROR:#} {} {DIM}{time}{DIM:#}", outcome.name)?;
                    for difference in differences {
                        writeln!(out, "      {difference}")?;
                    }
                }
            }
        }
        let Self { image, passed, failed, .. } = self;
        let answers = if passed + failed == 1 { "answer" } else { "answers" };
        match failed {
            0 => writeln!(out, "\n{VERB}{image}: all {passed} {answers} as expected{VERB:#}"),
            _ => writeln!(out, "\n{ERROR}{image}: {failed} of {} {answers} not as expected{ERROR:#}", passed + failed),
        }
    }
}
