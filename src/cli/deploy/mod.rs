//! `ekiben deploy`

mod subject;
mod wishes;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fs_err as fs;
use serde::Serialize;

use super::inputs::Inputs;
use super::policy::{PolicyArgs, judge_there};
use super::printer::{NAME, Report, dim_time};
use super::{Context, Exit, Failure, completions, push, watch};
use crate::deploy::kubectl::{Difference, Force, Kubectl};
use crate::deploy::{self, Object, State};
use crate::formats::diagnostic::{Diagnostics, Source};
use crate::formats::document::{Document, Format, yaml};
use crate::image::oci::platform::Platform;
use crate::io::atomic;
use crate::io::explain::ErrorKind;
use crate::project::manifest::deploy::Deploy;
use crate::project::validate::deploy::{findings, missing, tell};
pub use subject::{Place, Subject};
pub use wishes::Wishes;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben deploy --push registry.example/iris > iris.yaml\n\
\x20 ekiben deploy --push registry.example/iris --namespace models --autoscale 1..4 --apply --wait\n\
\x20 ekiben deploy registry.example/iris:1.0 -o manifests\n\
\x20 ekiben deploy --push registry.example/iris --diff -- --context production";

/// Write what runs a model in Kubernetes, and apply it
///
/// Prints YAML: for a service a Deployment, a Service and what belongs to them. The same inputs give the same bytes. PATH may
/// also be an image that is in a registry, or, with `--push`, here. How it is to run is said in the section `deploy` of the manifest,
/// by `--settings`, and by the options here, of which each counts over those before. What a cluster would refuse is told before anything is written. The image is named by its digest, so it has to be in a
/// registry: `--push` sees to that. Cluster and user are those of `kubectl`; what follows `--` is passed on to it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// See that this repository has the image, as `ekiben ensure` does: HOST/NAME, with or without a tag.
    #[arg(long, value_name = "REF")]
    push: Option<String>,
    /// The image that is deployed, where it is in a registry already.
    #[arg(long, value_name = "REF", conflicts_with = "push")]
    image: Option<String>,
    /// The image of the weights alone, where they are mounted as a volume and it is in a registry already.
    #[arg(long, value_name = "REF", conflicts_with = "push")]
    models_image: Option<String>,
    /// What the image is for; as in `ekiben build`.
    #[arg(long, value_delimiter = ',', add = completions::platforms())]
    platform: Vec<Platform>,
    /// Settings in a file: as the section `deploy`, or Konfuzio's `autoscaling` and `resources`.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    wishes: Wishes,
    /// Write a file for each object into this folder, and a kustomization.yaml.
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    action: Action,
    /// What kubectl gets besides: `-- --context production`.
    #[arg(last = true, value_name = "KUBECTL")]
    passed: Vec<OsString>,
}

/// What is done with the objects in the cluster.
#[derive(clap::Args)]
#[group(id = "action", multiple = true)]
struct Action {
    /// Apply them: by the server, as the field manager `ekiben`.
    #[arg(long, conflicts_with_all = ["diff", "delete", "stop", "start_again", "out"])]
    apply: bool,
    /// Show what applying them would change. Ends with 4 where something would.
    #[arg(long, conflicts_with_all = ["delete", "stop", "start_again", "out"])]
    diff: bool,
    /// Delete them.
    #[arg(long, conflicts_with_all = ["stop", "start_again", "out"])]
    delete: bool,
    /// Keep all but the pods: no replicas, no jobs.
    #[arg(long, conflicts_with_all = ["start_again", "out"])]
    stop: bool,
    /// Start again what was stopped.
    #[arg(long = "start", id = "start_again", conflicts_with = "out")]
    start: bool,
    /// Wait until it is ready, and say what its pods say where it is not.
    #[arg(long, conflicts_with_all = ["diff", "delete", "stop", "out"])]
    wait: bool,
}

/// What was done.
#[derive(Serialize)]
#[serde(untagged)]
enum Deployed {
    /// The objects.
    Written { objects: Vec<Object> },
    /// Files of them.
    Files { files: Vec<PathBuf> },
    /// What kubectl says of each.
    Said { lines: Vec<String> },
    /// What would change.
    Differs { diff: String },
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let Args { inputs, push, image, models_image, platform, settings, wishes, out, policy, action, passed } = args;
    let gate = policy.gate(context)?;
    let place = Place { push: push.as_deref().map(push::target).transpose()?, image, models_image };
    let platforms = Platform::named_or_host(&platform)?;
    let subject = Subject::of(context, &session, inputs, &place, &platforms, &wishes)?;
    let mut found = Diagnostics::new();
    let said = said(settings.as_deref(), &wishes, &mut found);
    let deploy = merged(context, &subject, &said, found)?;
    let target = subject.placed(context, &session, &place, &platforms, &deploy.models())?;
    // What is no more to run needs nobody's word.
    if let Some(gate) = gate.filter(|_| !action.delete && !action.stop) {
        for image in [Some(&target.image), target.models.as_ref()].into_iter().flatten() {
            judge_there(&session, &gate, image)?;
        }
    }
    let state = if action.stop { State::stopped(&deploy)? } else { State::Running };
    let objects = deploy::objects(&target, &deploy, state);
    let kubectl = Kubectl::new(passed);
    if action.diff {
        return Ok(match kubectl.diff(&objects)? {
            Difference::None => {
                context.printer.status("Same", "the cluster has it so");
                Exit::Success
            }
            Difference::Some(diff) => {
                context.printer.report(&Deployed::Differs { diff })?;
                Exit::Error(ErrorKind::Mismatch)
            }
        });
    }
    if action.delete {
        // A claim goes when no pod is left that has it, and there may be Jobs of what was trained before.
        let mut lines = kubectl.prune(&objects)?;
        lines.extend(kubectl.delete(&objects)?);
        context.printer.report(&Deployed::Said { lines })?;
        return Ok(Exit::Success);
    }
    if action.apply || action.stop || action.start || action.wait {
        let started = Instant::now();
        // The number of pods is an autoscaler's while it runs, and whoever stops or starts means it.
        let force = if action.stop || action.start { Force::TakeOver } else { Force::Never };
        let mut lines = kubectl.apply(&objects, force)?;
        lines.extend(kubectl.prune(&objects)?);
        if action.wait {
            kubectl.wait(&objects, deploy::patience(&target, &deploy))?;
            let name = objects.last().map(Object::name).unwrap_or_default();
            context.printer.status("Ready", format!("{NAME}{name}{NAME:#} {}", dim_time(started.elapsed())));
        }
        context.printer.report(&Deployed::Said { lines })?;
        return Ok(Exit::Success);
    }
    let deployed = match out {
        Some(folder) => Deployed::Files { files: write(&folder, &objects)? },
        None => Deployed::Written { objects },
    };
    context.printer.report(&deployed)?;
    Ok(Exit::Success)
}

/// What the file says, and what the options say over it.
pub fn said(settings: Option<&Path>, wishes: &Wishes, found: &mut Diagnostics) -> Deploy {
    let file = settings.and_then(|path| crate::formats::schema::load::file::<Deploy>(path, found));
    let options = wishes.read(found);
    let all = [file, options].into_iter().flatten().filter_map(|read| read.whole());
    all.fold(Deploy::default(), |deploy, (_, over)| deploy.overlaid(&over))
}

/// What the manifest says, and what is `said` over it, checked together. What was found before goes along.
pub fn merged(context: &Context, subject: &Subject, said: &Deploy, mut found: Diagnostics) -> Result<Deploy, Failure> {
    let deploy = subject.manifest.deploy.clone().unwrap_or_default().overlaid(said);
    if !found.has_errors() {
        // What is wrong with the whole is shown in the whole.
        let text = yaml(&serde_json::json!({ "deploy": deploy }));
        let source = Source::new("(what is deployed)", &text);
        if let Some(document) = Document::parse(&source, Format::Yaml, &mut found) {
            let model = subject.model();
            tell(findings(&deploy, &model), &document, "/deploy", &mut found);
            tell(missing(&deploy, &model), &document, "/deploy", &mut found);
        }
    }
    watch::show(context, &found);
    if found.has_errors() {
        return Err(mistakes(format!("`{}` cannot be deployed so", subject.manifest.name), found));
    }
    Ok(deploy)
}

/// What is said of a deployment has mistakes, which the person was shown.
pub fn mistakes(text: String, found: Diagnostics) -> Failure {
    Failure::new(ErrorKind::Invalid.named("deploy/mistakes"), text).with_diagnostics(found)
}

/// Writes a file for each object, and the `kustomization.yaml` that names them.
fn write(folder: &Path, objects: &[Object]) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    let texts = objects.iter().map(|object| (object.file_name(), object.yaml()));
    let last = ("kustomization.yaml".to_owned(), deploy::kustomization(objects));
    for (name, text) in texts.chain([last]) {
        let path = folder.join(name);
        atomic::write(&path, |file| file.write_all(text.as_bytes()))?;
        files.push(path);
    }
    Ok(files)
}

impl Report for Deployed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Written { objects } => out.write_all(deploy::documents(objects).as_bytes()),
            Self::Files { files } => files.iter().try_for_each(|file| writeln!(out, "{}", file.display())),
            Self::Said { lines } => lines.iter().try_for_each(|line| writeln!(out, "{line}")),
            Self::Differs { diff } => out.write_all(diff.as_bytes()),
        }
    }
}
