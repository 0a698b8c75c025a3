//! `ekiben lock`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::printer::Report;
use super::{Context, Exit, Failure, inputs};
use crate::build::built::Watch as _;
use crate::build::resolve::{Moved, Renewal, Subject};
use crate::build::{commands, workflow};
use crate::project::lock;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben lock\n\
\x20 ekiben lock --update\n\
\x20 ekiben lock --upgrade-models\n\
\x20 ekiben lock --check        in CI: fail when the lock does not fit";

/// Resolve a project's packages and write them to `ekiben.lock`, each by digest
///
/// Commit the lock: the same lock builds the same image, on any machine, on any day. Versions stay as they are while
/// they still meet the manifest; `--update` takes the newest.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A project's folder, or its manifest.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Take the newest versions of everything.
    #[arg(long)]
    update: bool,
    /// Take up what is now at the addresses of the model's files.
    #[arg(long)]
    upgrade_models: bool,
    /// Write nothing; fail when the lock is missing or does not fit.
    #[arg(long, conflicts_with_all = ["update", "upgrade_models"])]
    check: bool,
    #[command(flatten)]
    pins: inputs::Pins,
    #[command(flatten)]
    commands: inputs::Commands,
}

#[derive(Serialize)]
struct Locked {
    path: PathBuf,
    lock: lock::Lock,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let project = workflow::project(&inputs::meant(context, args.path)?, context)?;
    let renewal = match (args.update, args.check) {
        (true, _) => Renewal::Always,
        (_, true) => Renewal::Never,
        _ => Renewal::IfNeeded,
    };
    let moved = if args.upgrade_models { Moved::IsTaken } else { Moved::Stays };
    let commands = commands::request(&project.manifest, args.commands.request());
    let subject = Subject { moved, relax: args.pins.relax_pins, commands, ..Subject::of(&project) };
    let lock = workflow::lock(&session, &subject, renewal, &|_, _, _| Ok(()), context)?;
    let files = project.files.model.iter().map(|file| file.path.as_str());
    workflow::tell_relaxed(&session, &lock, files);
    if moved == Moved::Stays && !session.client.is_offline() {
        context.diagnostics(&workflow::moved(&session, &project, &lock)?);
    }
    context.printer.report(&Locked { path: project.root.join(lock::NAME), lock })?;
    Ok(Exit::Success)
}

impl Report for Locked {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.path.display())
    }
}
