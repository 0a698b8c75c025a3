//! `ekiben deploy`

mod wishes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fs_err as fs;
use serde::Serialize;

use super::inputs::Inputs;
use super::printer::{NAME, Report, dim_time};
use super::{Context, Exit, Failure, ensure, push, watch};
use crate::build::input::Input;
use crate::build::workflow::{self, Goal, Opened};
use crate::bundle::extract;
use crate::bundle::runtime::Convention;
use crate::check::target::Target as Named;
use crate::deploy::kubectl::{Difference, Force, Kubectl};
use crate::deploy::{self, Object, State, Target};
use crate::formats::diagnostic::{Diagnostics, Source};
use crate::formats::document::{Document, Format, yaml};
use crate::image::Image;
use crate::image::oci::platform::Platform;
use crate::image::registry::{Reference, Registries};
use crate::image::remote;
use crate::image::session::Session;
use crate::io::atomic;
use crate::io::compress::Compression;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::Deploy;
use crate::project::validate::deploy::{findings, seconds_to_start, tell};
use wishes::Wishes;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben deploy --push registry.example/iris > iris.yaml\n\
\x20 ekiben deploy --push registry.example/iris --namespace models --autoscale 1..4 --apply --wait\n\
\x20 ekiben deploy registry.example/iris:1.0 -o manifests\n\
\x20 ekiben deploy --push registry.example/iris --diff -- --context production";

/// Write what runs a model in Kubernetes, and apply it
///
/// Prints YAML: for a service a Deployment, a Service and what belongs to them. The same inputs give the same bytes. How it is to
/// run is said in the section `deploy` of the manifest, by `--settings`, and by the options here, of which each counts over those
/// before. What a cluster would refuse is told before anything is written. The image is named by its digest, so it has to be in a
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
    /// What the image is for; as in `ekiben build`.
    #[arg(long, value_delimiter = ',')]
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
    let Args { inputs, push, image, platform, settings, wishes, out, action, passed } = args;
    let where_to = push.as_deref().map(push::target).transpose()?;
    let subject = subject(context, &session, inputs, where_to, image, &platform, &wishes)?;
    let deploy = merged(context, subject.deploy, settings.as_deref(), &wishes, &subject.target)?;
    let state = if action.stop { State::Stopped } else { State::Running };
    let objects = deploy::objects(&subject.target, &deploy, state);
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
        context.printer.report(&Deployed::Said { lines: kubectl.delete(&objects)? })?;
        return Ok(Exit::Success);
    }
    if action.apply || action.stop || action.start || action.wait {
        let started = Instant::now();
        // The number of pods is an autoscaler's while it runs, and whoever stops or starts means it.
        let force = if action.stop || action.start { Force::TakeOver } else { Force::Never };
        let lines = kubectl.apply(&objects, force)?;
        if action.wait {
            let seconds = seconds_to_start(&deploy, subject.target.bytes());
            kubectl.wait(&objects, seconds + PULLED)?;
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

/// Seconds that a node has to pull an image.
const PULLED: u64 = 300;

/// What is deployed, and what its manifest says of how.
struct Subject {
    target: Target,
    deploy: Deploy,
}

fn subject(
    context: &Context,
    session: &Session,
    inputs: Inputs,
    push: Option<Reference>,
    image: Option<String>,
    platforms: &[Platform],
    wishes: &Wishes,
) -> Result<Subject, Failure> {
    let text = inputs.path.to_string_lossy().into_owned();
    if let Named::Name(_) = Named::of(&inputs.path)? {
        return named(context, session, &text, push, platforms, wishes);
    }
    let opened = Opened::open(session, inputs.request(context)?, context)?;
    let platforms = workflow::platforms_or_host(platforms)?;
    let input = opened.input(session, &platforms, Goal::Bundle, context)?;
    let (manifest, version, convention) =
        (input.manifest.clone(), input.bundle.version().to_owned(), input.bundle.convention());
    let weights = weights(&input);
    let reference = match (push, image) {
        (Some(named), _) => {
            let digest = ensure::image(context, session, input, &platforms, &named)?.digest;
            named.at(digest)
        }
        (None, Some(image)) => there(session, &image)?,
        (None, None) => return Err(only_here(&manifest.name)),
    };
    let deploy = manifest.deploy.clone().unwrap_or_default();
    Ok(Subject { target: Target::new(&manifest, &version, convention, reference, weights), deploy })
}

/// The weights of a bundle: paths below the model's folder, with their sizes.
fn weights(input: &Input) -> BTreeMap<String, u64> {
    input.bundle.weights().iter().map(|weight| (weight.path.to_string(), weight.content.size())).collect()
}

/// An image that is in a registry, or is pushed to one.
fn named(
    context: &Context,
    session: &Session,
    text: &str,
    push: Option<Reference>,
    platforms: &[Platform],
    wishes: &Wishes,
) -> Result<Subject, Failure> {
    let platform = platforms.first().copied().map_or_else(Platform::host, Ok)?;
    let (reference, image) = match push {
        Some(target) => {
            let record = workflow::find(&session.store, &text.parse()?)?;
            let target = if target.tag().is_none() { target.tagged(record.name.tag()) } else { target };
            let (record, image) = Image::handed_on(session, record)?;
            push::push(context, session, &record.digest, std::slice::from_ref(&target))?;
            (target.at(record.digest), image)
        }
        None if Reference::names_registry(text) => {
            let reference: Reference = text.parse()?;
            let (digest, image) = remote::find(session, &reference, platform)?;
            (reference.at(digest), image)
        }
        None => {
            // That it is not there at all is said first.
            workflow::find(&session.store, &text.parse()?)?;
            return Err(only_here(text));
        }
    };
    let bare = |layer: &&crate::image::layer::Layer| layer.compression == Compression::None;
    let weights = image.layers().iter().filter(bare).map(|layer| (layer.digest.hex(), layer.size)).collect();
    let about = |key: &str| {
        let labels = image.config().labels().as_ref()?;
        labels.get(&format!("org.opencontainers.image.{key}")).cloned()
    };
    let version = about("version").unwrap_or_else(|| reference.tag().unwrap_or("unknown").to_owned());
    if let Some(manifest) = extract::manifest_on_top(session, &image)? {
        let target = Target::new(&manifest, &version, Convention::Ekiben, reference, weights);
        return Ok(Subject { target, deploy: manifest.deploy.unwrap_or_default() });
    }
    let manifest = stranger(&image, &reference, about("title"), wishes)?;
    let convention = match image.config().working_dir().as_deref() {
        Some(folder) if folder == Convention::Bento.code() => Convention::Bento,
        _ => Convention::Ekiben,
    };
    let target = Target::new(&manifest, &version, convention, reference, weights);
    Ok(Subject { target, deploy: Deploy::default() })
}

/// What can be known of an image that Ekiben did not build: its port, and, where it is a bento's, how it answers.
fn stranger(image: &Image, reference: &Reference, title: Option<String>, wishes: &Wishes) -> Result<Manifest, Failure> {
    let is_bento = image.config().working_dir().as_deref() == Some(Convention::Bento.code());
    let ports = image.config().exposed_ports().clone().unwrap_or_default();
    let exposed = ports.iter().find_map(|port| port.split('/').next()?.parse().ok());
    let ready = wishes.ready.clone().or_else(|| is_bento.then(|| "/readyz".to_owned()));
    let port = wishes.port.or(if is_bento { Some(3000) } else { exposed });
    let (Some(ready), Some(port)) = (ready, port) else {
        let explanation = ErrorKind::Usage.named("deploy/unknown-image").hint("say `--port` and `--ready PATH`");
        let text = format!("`{reference}` does not say how it answers: ekiben did not build it");
        return Err(Failure::new(explanation, text));
    };
    let name = reference.repository().rsplit('/').next().unwrap_or_default().to_lowercase();
    let manifest = serde_json::json!({
        "name": title.filter(|title| !title.is_empty()).unwrap_or(name),
        "service": {"command": ["serve"], "port": port, "ready": ready},
    });
    serde_json::from_value(manifest).map_err(|error| {
        Failure::new(ErrorKind::Failure.named("deploy/unknown-image"), format!("`{reference}`: {error}"))
    })
}

/// The image that `text` names, by its digest.
fn there(session: &Session, text: &str) -> Result<Reference, Failure> {
    let reference = push::target(text)?;
    let registries = Registries::new(session);
    let found: Option<Digest> = registries.repository(&reference).head(&reference.wanted())?;
    let Some(digest) = found else {
        let explanation = ErrorKind::Failure.named("deploy/no-image").hint("`--push HOST/NAME` sees that it is there");
        return Err(Failure::new(explanation, format!("its registry does not have `{reference}`")));
    };
    Ok(reference.at(digest))
}

fn only_here(name: &str) -> Failure {
    let explanation = ErrorKind::Usage.named("deploy/only-here").hint(
        "`--push HOST/NAME` sees that a registry has it; `--image HOST/NAME@DIGEST` names one that is there already",
    );
    Failure::new(
        explanation,
        format!("the image of `{name}` is only on this machine, and a cluster pulls from a registry"),
    )
}

/// What the manifest says, the file over it, and the options over both, checked together.
fn merged(
    context: &Context,
    manifest: Deploy,
    settings: Option<&Path>,
    wishes: &Wishes,
    target: &Target,
) -> Result<Deploy, Failure> {
    let mut found = Diagnostics::new();
    let mut deploy = manifest;
    let file = settings.and_then(|path| crate::formats::schema::load::file::<Deploy>(path, &mut found));
    let options = wishes.read(&mut found);
    for over in [file, options].into_iter().flatten() {
        if let Some((_, over)) = over.whole() {
            deploy = deploy.overlaid(&over);
        }
    }
    if !found.has_errors() {
        // What is wrong with the whole is shown in the whole.
        let text = yaml(&serde_json::json!({ "deploy": deploy }));
        let source = Source::new("(what is deployed)", &text);
        if let Some(document) = Document::parse(&source, Format::Yaml, &mut found) {
            tell(findings(&deploy, &target.model()), &document, "/deploy", &mut found);
        }
    }
    watch::show(context, &found);
    if found.has_errors() {
        let text = format!("`{}` cannot be deployed so", target.name);
        let explanation = ErrorKind::Invalid.named("deploy/mistakes");
        return Err(Failure::new(explanation, text).with_diagnostics(found));
    }
    Ok(deploy)
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
