//! `ekiben ensure`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;

use super::inputs::Inputs;
use super::printer::{NAME, Report};
use super::{Context, Exit, Failure, push};
use crate::build::ensure;
use crate::build::workflow::{self, Goal, Opened};
use crate::image::oci::platform::Platform;
use crate::image::registry::{Reference, Registries};
use crate::io::digest::Digest;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben ensure registry.example/iris\n\
\x20 ekiben ensure registry.example/iris:main fixtures/iris --locked\n\
\x20 digest=$(ekiben ensure registry.example/iris) && deploy registry.example/iris@$digest";

/// See that a registry has the image of a project or bundle: build and push it only if it is not there
///
/// Prints the digest alone. The image is looked for under a tag that is made from the bundle (with its lock) and the
/// platforms: one request, whoever built it. Any number of jobs may do this at once. Where REF has a tag, an image that
/// is pushed gets it too.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The repository, with or without a tag.
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    inputs: Inputs,
    /// What the image is for; as in `ekiben build`.
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Write what --output json says into this file as well, as into the termination log of a pod: /dev/termination-log.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Ensured {
    reference: Reference,
    digest: Digest,
    /// Whether it had to be built.
    built: bool,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let named = push::target(&args.reference)?;
    let session = context.session()?;
    let platforms = workflow::platforms_or_host(&args.platform)?;
    // Mostly the image is there, and nothing of it is needed here.
    let opened = Opened::open(&session, args.inputs.request(context)?, context)?;
    let input = opened.input(&session, &platforms, Goal::Bundle, context)?;
    let reference = named.tagged(ensure::tag(&session, &input, &platforms)?);
    let registries = Registries::new(&session);
    if let Some(digest) = registries.repository(&reference).head(&reference.wanted())? {
        context.printer.status("Found", format!("{NAME}{reference}{NAME:#}"));
        told(context, args.report.as_deref(), &Ensured { reference, digest, built: false })?;
        return Ok(Exit::Success);
    }
    let digest = workflow::build(&session, input, &platforms, &[], context)?.digest;
    let mut targets = vec![reference.clone()];
    targets.extend(named.tag().map(|tag| named.tagged(tag)));
    push::push(context, &session, &digest, &targets)?;
    told(context, args.report.as_deref(), &Ensured { reference, digest, built: true })?;
    Ok(Exit::Success)
}

/// Tells it to the person, and to the file that is there: another one cannot take the place of a pod's termination log.
fn told(context: &Context, file: Option<&Path>, ensured: &Ensured) -> Result<(), Failure> {
    if let Some(file) = file {
        fs::write(file, serde_json::to_vec(ensured).map_err(io::Error::from)?)?;
    }
    Ok(context.printer.report(ensured)?)
}

impl Report for Ensured {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
