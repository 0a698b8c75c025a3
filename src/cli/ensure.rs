//! `ekiben ensure`

use std::io::{self, Write};
use std::path::PathBuf;

use fs_err as fs;
use serde::Serialize;

use super::inputs::{Inputs, Parts};
use super::policy::{PolicyArgs, judge_there};
use super::printer::{NAME, Report};
use super::{Context, Exit, Failure, completions, push};
use crate::build::ensure;
use crate::build::input::Input;
use crate::build::workflow::{self, Goal, Opened};
use crate::bundle::apart::Part;
use crate::deploy::{Ready, Target, Weight};
use crate::image::oci::platform::Platform;
use crate::image::registry::{Reference, Registries};
use crate::image::session::Session;
use crate::io::digest::Digest;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben ensure registry.example/iris\n\
\x20 ekiben ensure registry.example/iris:main fixtures/iris --locked\n\
\x20 digest=$(ekiben ensure registry.example/iris) && deploy registry.example/iris@$digest";

/// See that a registry has the image of a project or bundle: build and push it only if it is not there
///
/// Prints the digest alone. The image is looked for under a tag that is made from the bundle (with its lock) and the
/// platforms: one request, whoever built it. Any number of jobs may do this at once. Where REF has a tag, an image that
/// is pushed gets it too. With `--policy`, the image that is there has to fulfil it; one that had to be built is not signed yet.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The repository, with or without a tag.
    #[arg(value_name = "REF", add = completions::images())]
    reference: String,
    #[command(flatten)]
    inputs: Inputs,
    /// What the image is for; as in `ekiben build`.
    #[arg(long, value_delimiter = ',', add = completions::platforms())]
    platform: Vec<Platform>,
    #[command(flatten)]
    parts: Parts,
    /// Write what it takes to deploy the image into this file, in JSON, as into a pod's termination log:
    /// /dev/termination-log. For `ekiben operator`.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// An image that a registry has.
#[derive(Serialize)]
pub struct Ensured {
    /// Where, by a tag that says what it was built from.
    pub reference: Reference,
    /// Of its manifest or index.
    pub digest: Digest,
    /// Whether it had to be built.
    pub built: bool,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let named = push::target(&args.reference)?;
    let gate = args.policy.gate(context)?;
    let session = context.session()?;
    let platforms = Platform::named_or_host(&args.platform)?;
    let opened = Opened::open(&session, args.inputs.request(context)?, context)?;
    let input = opened.input(&session, &platforms, Goal::Bundle, context)?;
    let (manifest, version, convention) =
        (input.manifest.clone(), input.bundle.version().to_owned(), input.bundle.convention());
    let bytes = input.bundle.weights().iter().map(|weight| weight.content.size()).sum();
    let ensured = image(context, &session, input, &platforms, args.parts.part(), &named)?;
    let image = ensured.reference.at(ensured.digest);
    if let Some(gate) = gate {
        judge_there(&session, &gate, &image)?;
    }
    if let Some(file) = args.report {
        let target =
            Target::new(&manifest, &version, convention, image, [(String::new(), Weight::of_size(bytes))].into());
        let ready = Ready { target, deploy: manifest.deploy.unwrap_or_default() };
        // The file that is there: another one cannot take the place of a pod's termination log.
        fs::write(file, serde_json::to_vec(&ready).map_err(io::Error::from)?)?;
    }
    context.printer.report(&ensured)?;
    Ok(Exit::Success)
}

/// Sees that the repository of `named` has this part of the image of `input`; where it is pushed, it gets the tag of `named`, if that
/// has one.
pub fn image(
    context: &Context,
    session: &Session,
    input: Input,
    platforms: &[Platform],
    part: Part,
    named: &Reference,
) -> Result<Ensured, Failure> {
    // Mostly the image is there, and nothing of it is needed here.
    let reference = named.tagged(ensure::tag_of(session, &input, platforms, part)?);
    let registries = Registries::new(session);
    if let Some(digest) = registries.repository(&reference).head(&reference.wanted())? {
        context.printer.status("Found", format!("{NAME}{reference}{NAME:#}"));
        return Ok(Ensured { reference, digest, built: false });
    }
    let digest = workflow::part(session, input, platforms, part, &[], context)?.digest;
    let mut targets = vec![reference.clone()];
    targets.extend(named.tag().map(|tag| named.tagged(tag)));
    push::push(context, session, &digest, &targets)?;
    Ok(Ensured { reference, digest, built: true })
}

impl Report for Ensured {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
