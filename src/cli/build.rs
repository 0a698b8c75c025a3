//! `ekiben build`

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::inputs::{How, Inputs, Parts};
use super::printer::Report;
use super::{Context, Exit, Failure, attest, completions, dockerfile, exec, push};
use crate::build;
use crate::build::dockerfile::Keeping;
use crate::build::next;
use crate::build::provenance::{self, Facts};
use crate::build::workflow::{self, Goal, Opened, Request};
use crate::bundle::apart::Part;
use crate::image::oci::platform::Platform;
use crate::image::registry::Reference;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::io::compress::{Compression, Setting};
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::run::step::{self, Command, Trees, Workshop};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben build\n\
\x20 ekiben build -t registry.example/iris:1.0 --push fixtures/iris\n\
\x20 ekiben build -t registry.example/iris:1.0 --push --attest=spdx,cyclonedx,provenance\n\
\x20 ekiben build iris-1.0.ekiben --platform linux/amd64,linux/arm64\n\
\x20 ekiben build --without-models -t registry.example/iris:1.0 --push fixtures/iris";

/// Build an OCI image from a project or a bundle, without Docker or any daemon
///
/// Prints the digest of the image's manifest. The image goes into the local store; `ekiben export` writes it for
/// other tools. What has not changed is not made again, and weights are never copied.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// What the image is called in the store; may be repeated. Without it: NAME:VERSION, with `-without-models` or `-models`
    /// behind it for a part.
    #[arg(long, short, value_name = "NAME[:TAG]")]
    tag: Vec<ImageName>,
    /// What the image is for: linux/amd64, linux/arm64, or both with a comma, which gives an index. Nothing is emulated.
    #[arg(long, value_delimiter = ',', add = completions::platforms())]
    platform: Vec<Platform>,
    /// Push it to where the tags say.
    #[arg(long, requires = "tag")]
    push: bool,
    /// How layers of weights are stored: none, gzip, zstd, or zstd:LEVEL with a level of 1 to 22. Other than `none`,
    /// the store holds a copy of the weights.
    #[arg(long, value_name = "METHOD", default_value = "none")]
    compression: Setting,
    #[command(flatten)]
    parts: Parts,
    #[command(flatten)]
    attest: attest::Args,
    /// With --attest: who builds, as a URI, as provenance names it.
    #[arg(long, env = "EKIBEN_BUILDER", value_name = "URI")]
    builder: Option<String>,
    #[command(flatten)]
    dockerfile: dockerfile::Args,
}

#[derive(Serialize)]
struct Image {
    name: ImageName,
    digest: Digest,
    platforms: Vec<Platform>,
    size: u64,
    layers: usize,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    if args.dockerfile.are_meant(&args.inputs.path) {
        return from_dockerfile(context, &session, args);
    }
    let targets = targets(&args)?;
    let given = args.dockerfile.given();
    let How { no_cache, commands, .. } = &args.inputs.how;
    let mut commands = args.dockerfile.request(args.inputs.path.clone(), commands.allowed(), *no_cache)?;
    commands.cache_from.extend(targets.iter().cloned());
    let opened = Opened::open(&session, Request { commands, ..args.inputs.request(context)? }, context)?;
    // The manifest of a project says what its own Dockerfile is given.
    let not_taken: &[&str] = match opened.steps() {
        Some(_) => &["--target", "--debug-shell"],
        None => &["--target", "--debug-shell", "--build-arg"],
    };
    let has_commands = opened.steps().is_some() || opened.manifest().has_commands();
    if let Some(given) = given.iter().find(|given| !has_commands || not_taken.contains(given)) {
        let explanation = ErrorKind::Usage.named("dockerfile/not-meant").hint("name the Dockerfile with --file");
        return Err(Failure::new(explanation, format!("{given} is for Dockerfiles, and this is none")));
    }
    let mut input = opened.input(&session, &args.platform, Goal::Image, context)?;
    input.bundle.compress_weights(&session, args.compression)?;
    input.versioned = Some(targets.clone());
    let facts = args.attest.are_meant().then(|| Facts::of(&session, &input, args.builder.clone()));
    let built = workflow::part(&session, input, &args.platform, args.parts.part(), &args.tag, context)?;
    // The word for the version is none that a registry has.
    let version = |target: &Reference| target.tag().filter(|tag| *tag == next::TAG).and(built.version);
    let targets: Vec<_> = targets
        .iter()
        .map(|target| version(target).map_or_else(|| target.clone(), |to| target.tagged(to.to_string())))
        .collect();
    args.attest.attest(context, &session, &built.digest, &targets, facts.as_ref())?;
    push::push(context, &session, &built.digest, &targets)?;
    let platforms = Platform::named_or_host(&args.platform)?;
    let (size, layers) = (built.image.size(), built.image.layers().len());
    context.printer.report(&Image { name: built.name, digest: built.digest, platforms, size, layers })?;
    Ok(Exit::Success)
}

/// Where the image is to be pushed to.
fn targets(args: &Args) -> Result<Vec<Reference>, Failure> {
    match args.push {
        true => args.tag.iter().map(|name| push::target(&name.to_string())).collect(),
        false => Ok(Vec::new()),
    }
}

/// Builds what a Dockerfile says.
fn from_dockerfile(context: &Context, session: &Session, args: Args) -> Result<Exit, Failure> {
    let targets = targets(&args)?;
    let Inputs { path, how } = args.inputs;
    let others = [
        ("--base", how.base.is_some()),
        ("--root", how.root.is_some()),
        ("--relax-pins", how.pins.relax_pins),
        ("--compression", args.compression != Setting::from(Compression::None)),
        ("--without-models and --models-only", args.parts.part() != Part::Whole),
    ];
    if let Some((name, _)) = others.into_iter().find(|(_, is_given)| *is_given) {
        let explanation = ErrorKind::Usage.named("dockerfile/not-for").hint("leave it out, or write a manifest");
        return Err(Failure::new(explanation, format!("{name} cannot be used with a Dockerfile")));
    }
    let shell = |workshop: &Workshop, trees: &Trees, failed: &Command| debug_shell(context, workshop, trees, failed);
    let debug: Option<&build::dockerfile::Debug<'_>> = if args.dockerfile.wants_shell() { Some(&shell) } else { None };
    let mut request = args.dockerfile.request(path, how.commands.allowed(), how.no_cache)?;
    request.cache_from.extend(targets.iter().cloned());
    let lock = Keeping::open(&request, how.lock, how.locked, context)?;
    let built = build::dockerfile::built(session, &request, &args.platform, &args.tag, lock.as_ref(), debug, context)?;
    let facts = args.attest.are_meant().then(|| {
        let source = provenance::commit(session, &request.context);
        Facts { builder: args.builder, lock: None, source, commands: request.allowed }
    });
    args.attest.attest(context, session, &built.digest, &targets, facts.as_ref())?;
    push::push(context, session, &built.digest, &targets)?;
    let platforms = Platform::named_or_host(&args.platform)?;
    let (size, layers) = (built.image.size(), built.image.layers().len());
    context.printer.report(&Image { name: built.name, digest: built.digest, platforms, size, layers })?;
    Ok(Exit::Success)
}

/// A shell in what was there before a command that failed, where there is a terminal for it.
fn debug_shell(context: &Context, workshop: &Workshop, trees: &Trees, failed: &Command) -> Result<(), step::Error> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    if !input.is_terminal() || !error.is_terminal() {
        context.printer.warn("--debug-shell needs a terminal, and opens no shell here");
        return Ok(());
    }
    context.printer.status("Failed", &failed.title);
    context.printer.status("Opening", "a shell in what was there before; `exit` leaves it");
    let mut command = Command { args: vec!["/bin/sh".to_owned()], ..failed.clone() };
    command.env.extend(std::env::var("TERM").map(|kind| format!("TERM={kind}")));
    workshop.shell(trees, &command, &exec::ends(&input, &output, &error)).map(drop)
}

impl Report for Image {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
