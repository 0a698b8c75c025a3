//! `ekiben prune`

use std::io::{self, Write};

use super::printer::{Report, Size};
use super::{Context, Exit, Failure};
use crate::image::store::{Pruned, Reach};
use crate::run;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben prune\n\
\x20 ekiben prune --all        downloads and memories of earlier work go as well";

/// Remove what nothing needs: layers of images that are gone, leftovers of killed commands
///
/// Images stay, and so does what makes the next build fast; `--all` removes that too.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Remove downloads, unpacked layers, memories of earlier work and logs of containers that are gone too.
    #[arg(long)]
    all: bool,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let reach = if args.all { Reach::Caches } else { Reach::Unused };
    let containers = run::containers(&session)?;
    containers.sweep()?;
    let in_use = containers.in_use()?;
    context.printer.report(&session.store.prune(reach, &in_use)?)?;
    Ok(Exit::Success)
}

impl Report for Pruned {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.items {
            0 => writeln!(out, "nothing to remove"),
            1 => writeln!(out, "removed 1 item, {}", Size(self.bytes)),
            items => writeln!(out, "removed {items} items, {}", Size(self.bytes)),
        }
    }
}
