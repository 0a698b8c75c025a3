//! `ekiben copy`

use std::io::{self, Write};
use std::time::Instant;

use super::printer::Report;
use super::{Context, Exit, Failure, pull, push};
use crate::image::registry::{self, Pushed, Registries};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben copy registry.example/iris:1.0 mirror.example/team/iris:1.0\n\
\x20 ekiben copy registry.example/iris:1.0 registry.example/iris:stable";

/// Copy an image between registries, or give it another tag in one, without storing it here
///
/// All platforms are copied. Prints the digest, which stays the same. Within a registry layers are mounted.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image to copy.
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to; without a tag, the one that it has.
    #[arg(value_name = "TO")]
    to: String,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let started = Instant::now();
    let (from, _) = pull::parse(&args.from)?;
    let mut to = push::target(&args.to)?;
    if to.tag().is_none() && to.digest().is_none() {
        to = match (from.tag(), from.digest()) {
            (Some(tag), _) => to.tagged(tag),
            (None, Some(digest)) => to.at(digest),
            (None, None) => to,
        };
    }
    let session = context.session()?;
    let copied = registry::copy(&session, &Registries::new(&session), &from, &to)?;
    push::say(context, "Copied", &copied, started);
    context.printer.report(&copied)?;
    Ok(Exit::Success)
}

impl Report for Pushed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
