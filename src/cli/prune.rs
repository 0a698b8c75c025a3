//! `ekiben prune`

use std::io::{self, Write};

use super::printer::{Report, Size};
use super::{Context, Exit, Failure};
use crate::image::store::{Pruned, Purpose, Reach};
use crate::run;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben prune --dry-run\n\
\x20 ekiben prune\n\
\x20 ekiben prune --all        downloads and memories of earlier work go as well";

/// Remove what nothing needs: containers that ended, layers of images that are gone, leftovers of killed commands
///
/// Images stay, and so does what makes the next build fast; `--all` removes that too. Prints what was removed: its kind,
/// its size, its name.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Remove downloads, unpacked layers, memories of earlier work and logs of containers that are gone too.
    #[arg(long)]
    all: bool,
    /// Only print what would be removed.
    #[arg(long, short = 'n')]
    dry_run: bool,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let reach = if args.all { Reach::Caches } else { Reach::Unused };
    let purpose = if args.dry_run { Purpose::Tell } else { Purpose::Remove };
    let pruned = run::prune(&session, reach, purpose)?;
    let (verb, items) = (if args.dry_run { "Unneeded" } else { "Removed" }, pruned.items);
    let things = if items == 1 { "thing" } else { "things" };
    context.printer.status(verb, format!("{items} {things}, {}", Size(pruned.bytes)));
    context.printer.report(&pruned)?;
    Ok(Exit::Success)
}

impl Report for Pruned {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        self.removed.iter().try_for_each(|thing| {
            let kind = match thing.kind {
                crate::image::store::Kind::Blobs => "blob",
                crate::image::store::Kind::Unpacked => "unpacked",
                crate::image::store::Kind::Results => "result",
                crate::image::store::Kind::Containers => "container",
            };
            writeln!(out, "{kind}\t{}\t{}", Size(thing.bytes), thing.name)
        })
    }
}
