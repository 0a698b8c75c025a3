//! `ekiben pack`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::inputs::Inputs;
use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure};
use crate::build::vendor;
use crate::build::workflow::{Goal, Opened};
use crate::bundle::Form;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben pack                      writes NAME-VERSION.ekiben\n\
\x20 ekiben pack fixtures/iris -o /tmp/iris.ekiben\n\
\x20 ekiben pack -o iris.bento        then: bentoml import iris.bento\n\
\x20 ekiben pack --vendor             to be built where there is no network: ekiben build --offline";

/// Pack a project into a bundle: everything that its image is built from, in one file
///
/// The file is a plain tar.zst that `tar --zstd -xf` unpacks, with an index that lets Ekiben read any part of it. A
/// name that ends in `.bento` gives an archive that `bentoml import` takes instead.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Where to write the bundle: a file, or a folder. `.bento` is for BentoML.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Put in all that a build would fetch as well: Debian packages or the base's layers, wheels, uv. Then `ekiben build --offline`
    /// makes the image on a machine without a network, and the same one.
    #[arg(long)]
    vendor: bool,
}

#[derive(Serialize)]
struct Packed {
    path: PathBuf,
    name: String,
    version: String,
    /// Of what is in it, however it is compressed.
    digest: Digest,
    /// Of the file, in bytes.
    size: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let base = args.inputs.how.base.clone();
    let opened = Opened::open(&session, args.inputs.request(context)?, context)?;
    let mut input = opened.input(&session, &[], Goal::Bundle, context)?;
    let path = match args.out {
        None => PathBuf::from(input.bundle.file_name()),
        Some(folder) if folder.is_dir() => folder.join(input.bundle.file_name()),
        Some(file) => file,
    };
    if base.is_some() && Form::of(&path) == Form::Ekiben {
        let explanation =
            ErrorKind::Usage.named("pack/base").hint("pack it as a `.bento`, and name the base when it is built");
        return Err(Failure::new(explanation, "a bundle keeps the base that its bento names"));
    }
    if args.vendor {
        if Form::of(&path) == Form::Bento {
            let explanation = ErrorKind::Usage.named("pack/vendor").hint("write it as NAME.ekiben");
            return Err(Failure::new(explanation, "what a build would fetch travels in a bundle of Ekiben's alone"));
        }
        vendor::add(&session, &mut input)?;
    }
    let bundle = input.bundle;
    let started = Instant::now();
    let size = bundle.pack(&session, Form::of(&path), &path)?;
    let file = path.file_name().unwrap_or_default().display();
    let text = format!("{NAME}{file}{NAME:#} {} {}", Size(size), dim_time(started.elapsed()));
    context.printer.status("Packed", text);
    let (name, version, digest) = (bundle.name().to_owned(), bundle.version().to_owned(), bundle.digest(&session)?);
    context.printer.report(&Packed { path, name, version, digest, size })?;
    Ok(Exit::Success)
}

impl Report for Packed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.path.display())
    }
}
