//! `ekiben train`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::inputs::Inputs;
use super::printer::{NAME, Report, Size, Time};
use super::{Context, Exit, Failure, running};
use crate::build::gate::Gate;
use crate::build::train::{self, Plan};
use crate::build::workflow::{self, Goal, Opened, Request};
use crate::bundle::Form;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::project::trained::LockedTraining;
use crate::run::training::Training;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben train                                    as the manifest's `training` says\n\
\x20 ekiben train bearing.zip --data vibration.csv\n\
\x20 ekiben train --set depth=3 --set kind=fast\n\
\x20 ekiben train --memory 4Gi -o bearing.ekiben";

/// Train a model in its image, and build the image that answers with it
///
/// The manifest's `training` says by what (docs/analytics.md). The training runs in a sandbox: it sees the data set and writes the
/// model's file, nothing else. What came of it stands in `ekiben.lock`, by digest, with what it was made of; the same code,
/// parameters and data set are trained with once. Prints the name of the image.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// The data set: a file, or the name of one that `ekiben data add` keeps. Without it: the one that the manifest names, in the
    /// project or kept.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A hyperparameter, over that of the manifest; may be repeated. The value is JSON, else a text.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Train although it is known what comes of it.
    #[arg(long)]
    again: bool,
    /// Write a bundle with the model as well.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What the image is called in the store; may be repeated. Without it: NAME:VERSION.
    #[arg(long, short, value_name = "NAME[:TAG]")]
    tag: Vec<ImageName>,
    #[command(flatten)]
    how: running::How,
}

#[derive(Serialize)]
struct Trained {
    image: ImageName,
    digest: Digest,
    model: Model,
    data: Option<Data>,
    parameters: BTreeMap<String, Value>,
    statistics: Option<Value>,
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<PathBuf>,
}

#[derive(Serialize)]
struct Model {
    file: String,
    digest: Digest,
    size: u64,
}

#[derive(Serialize)]
struct Data {
    name: String,
    digest: Digest,
    size: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session_for_running()?;
    let gate = args.how.gate(context)?;
    let request = args.inputs.request(context)?;
    let opened = Opened::open(&session, Request { untrained: true, ..request.clone() }, context)?;
    let project = opened.project().ok_or_else(|| train::Error::NoProject(request.path.clone()))?;
    let plan = Plan::new(&session, project, args.data.as_deref(), &args.set)?;
    let manifest = opened.manifest().clone();
    let name: ImageName = format!("{}:{}", manifest.name, workflow::TRAINING).parse().map_err(io::Error::other)?;
    let built = workflow::build(&session, opened.input(&session, &[], Goal::Image, context)?, &[], &[name], context)?;
    let alone = plan.alone(&session, &built)?;
    let trained = match plan.known(&session, &built).filter(|_| !args.again) {
        Some(known) => {
            context.printer.status("Unchanged", format!("{NAME}{}{NAME:#}, trained before", known.file));
            known
        }
        None => {
            let trained = train(context, &session, &args.how, gate.as_ref(), &plan, &built, &manifest)?;
            let time = Time(std::time::Duration::from_millis(trained.took.unwrap_or_default()));
            let size = Size(trained.size);
            context.printer.status("Trained", format!("{NAME}{}{NAME:#} {size} in {time}", trained.file));
            trained
        }
    };
    drop(alone);
    plan.write(&session, &trained)?;
    // With what came of it.
    let mut input = Opened::open(&session, request, context)?.input(&session, &[], Goal::Image, context)?;
    input.versioned = Some(Vec::new());
    let bundle = match args.out {
        None => None,
        Some(path) => {
            let path = if path.is_dir() { path.join(input.bundle.file_name()) } else { path };
            let size = input.bundle.pack(&session, Form::of(&path), &path)?;
            context.printer.status("Packed", format!("{NAME}{}{NAME:#} {}", path.display(), Size(size)));
            Some(path)
        }
    };
    let built = workflow::build(&session, input, &[], &args.tag, context)?;
    let LockedTraining { file, digest, size, data, parameters, statistics, took, .. } = trained;
    context.printer.report(&Trained {
        image: built.name,
        digest: built.digest,
        model: Model { file, digest, size },
        data: data.map(|data| Data { name: data.name, digest: data.digest, size: data.size }),
        parameters,
        statistics,
        seconds: took.and_then(|took| u32::try_from(took).ok()).map(|took| f64::from(took) / 1000.0),
        bundle,
    })?;
    Ok(Exit::Success)
}

/// Runs the training in the image that was built for it.
fn train(
    context: &Context,
    session: &Session,
    how: &running::How,
    gate: Option<&Gate>,
    plan: &Plan,
    built: &crate::build::built::Built,
    manifest: &Manifest,
) -> Result<LockedTraining, Failure> {
    let devices = how.devices(context)?;
    let data = plan.data.as_ref().map(|(path, data)| (path.as_path(), data.name.as_str()));
    let training = Training::new(data, plan.output.clone(), session.store.scratch()?)?;
    let mut options = how.options(Some(&manifest.resources), devices)?;
    options.volumes.extend(training.volumes());
    options.args = training.arguments();
    let parameters = serde_json::to_string(&plan.parameters).map_err(io::Error::from)?;
    options.env.push(format!("EKIBEN_HYPERPARAMETERS={parameters}"));
    let mut running = running::start(context, session, built, gate, options, false, running::Signals::PassedOn)?;
    let exit = running.follow(context, &mut |_| false)?;
    if exit.code != 0 {
        let explanation = ErrorKind::Failure
            .named("train/failed")
            .hint(format!("`ekiben logs {}` shows again what it said", running.container.name()));
        return Err(Failure::new(explanation, format!("{} (status {})", step(exit.code), exit.code)));
    }
    let (path, facts) = training.end()?;
    Ok(plan.keep(session, built, &path, facts)?)
}

/// At which step a training failed, by how it ended.
fn step(code: i32) -> &'static str {
    match code {
        2 => "the training was asked for what it cannot do",
        3 => "the training failed at the data set",
        4 => "the training failed while its code was imported",
        5 => "the training failed in its function or command",
        6 => "the training failed at the model's file, which it did not write",
        130 | 143 => "the training was ended",
        _ => "the training was killed",
    }
}

impl Report for Trained {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.image)
    }
}
