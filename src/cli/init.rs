//! `ekiben init`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::convert::reasons;
use super::printer::{HINT, Report};
use super::{Context, Exit, Failure};
use crate::project::init::proposal::Proposal;
use crate::project::init::{self, Options};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben init\n\
\x20 ekiben init --from model.pkl\n\
\x20 ekiben init models/iris --name iris";

/// Make a project from what is already there: a manifest that teaches, and a function to fill in
///
/// A model's file is read as data and never loaded: requirements, Python, function and example requests are what it says
/// of itself. No file that is there is changed. For models that lie elsewhere, or many, there is `ekiben convert`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The project's folder.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// The model's file, in the project's folder. Without it, models are looked for there.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// What the model is called. Without it: after the model's file, or the folder.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Serialize)]
struct Started {
    written: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    proposal: Proposal,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    fs_err::create_dir_all(&args.path)?;
    let made = init::start(&Options { folder: args.path, model: args.from, name: args.name })?;
    for path in &made.kept {
        context.printer.status("Kept", path.display().to_string());
    }
    context.printer.report(&Started { written: made.written, kept: made.kept, proposal: made.proposal })?;
    Ok(Exit::Success)
}

impl Report for Started {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for path in &self.written {
            writeln!(out, "{}", path.display())?;
        }
        reasons(out, &self.proposal)?;
        let next = match (self.proposal.is_ready(), self.proposal.tests.is_empty()) {
            (true, false) => {
                "`ekiben test` asks the model the example requests; `ekiben test --accept` writes its answers down"
            }
            (true, true) => "describe an example under `tests:`, then `ekiben test`",
            (false, _) => "fill in the function, describe an example under `tests:`, then `ekiben test`",
        };
        writeln!(out, "{HINT}next{HINT:#}: {next}")
    }
}
