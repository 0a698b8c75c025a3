//! `ekiben unpack`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure};
use crate::bundle::Bundle;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben unpack iris-1.0.ekiben              into the folder iris-1.0\n\
\x20 ekiben unpack iris-1.0.ekiben /srv/iris";

/// Unpack a bundle into a folder, verifying every file
///
/// The folder appears when all is right, or not at all.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bundle's file.
    bundle: PathBuf,
    /// Where to put its files; must not be there or be empty. Without it: NAME-VERSION.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Serialize)]
struct Unpacked {
    folder: PathBuf,
    name: String,
    version: String,
    files: usize,
    size: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let bundle = Bundle::open(&session, &args.bundle)?;
    let (name, version, size) = (bundle.name().to_owned(), bundle.version().to_owned(), bundle.bytes());
    let folder = args.folder.unwrap_or_else(|| PathBuf::from(format!("{name}-{version}")));
    let started = Instant::now();
    bundle.unpack(&session, &folder)?;
    let files = bundle.members().len() + bundle.weights().len();
    let text =
        format!("{NAME}{}{NAME:#} {files} files, {} {}", folder.display(), Size(size), dim_time(started.elapsed()));
    context.printer.status("Unpacked", text);
    context.printer.report(&Unpacked { folder, name, version, files, size })?;
    Ok(Exit::Success)
}

impl Report for Unpacked {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.folder.display())
    }
}
