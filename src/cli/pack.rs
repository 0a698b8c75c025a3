//! `ekiben pack`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::inputs::Inputs;
use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure};
use crate::build::workflow::{Goal, Opened};
use crate::bundle::Form;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben pack                      writes NAME-VERSION.ekiben\n\
\x20 ekiben pack fixtures/iris -o /tmp/iris.ekiben\n\
\x20 ekiben pack -o iris.bento        then: bentoml import iris.bento";

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
    let bundle = opened.input(&session, &[], Goal::Bundle, context)?.bundle;
    let path = match args.out {
        None => PathBuf::from(bundle.file_name()),
        Some(folder) if folder.is_dir() => folder.join(bundle.file_name()),
        Some(file) => file,
    };
    if base.is_some() && Form::of(&path) == Form::Ekiben {
        let explanation =
            ErrorKind::Usage.named("pack/base").hint("pack it as a `.bento`, and name the base when it is built");
        return Err(Failure::new(explanation, "a bundle keeps the base that its bento names"));
    }
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
