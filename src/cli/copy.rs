//! `ekiben copy`

use std::io::{self, Write};
use std::time::Instant;

use super::policy::PolicyArgs;
use super::printer::Report;
use super::{Context, Exit, Failure, completions, policy, pull, push};
use crate::image::registry::{self, Pushed, Registries};
use crate::image::sign::{self, Place};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben copy registry.example/iris:1.0 mirror.example/team/iris:1.0\n\
\x20 ekiben copy registry.example/iris:1.0 registry.example/iris:stable\n\
\x20 ekiben copy registry.example/iris:1.0 mirror.example/iris:1.0 --referrers";

/// Copy an image between registries, or give it another tag in one, without storing it here
///
/// All platforms are copied. Prints the digest, which stays the same. Within a registry layers are mounted.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image to copy.
    #[arg(value_name = "FROM", add = completions::images())]
    from: String,
    /// Where to; without a tag, the one that it has.
    #[arg(value_name = "TO", add = completions::images())]
    to: String,
    /// Take along what is said of the image: signatures, lists of what is in it, how it was made.
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    policy: PolicyArgs,
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
    let registries = Registries::new(&session);
    let from = match args.policy.gate(context)? {
        // What was judged is copied, whatever the tag is by now.
        Some(gate) => from.at(policy::judge_there(&session, &gate, &from)?),
        None => from,
    };
    let copied = registry::copy(&session, &registries, &from, &to)?;
    push::say(context, "Copied", &copied, started);
    if args.referrers {
        let place = |reference| Place::Registry(registries.repository(reference));
        let subjects = sign::subjects(&place(&from).manifest(&copied.digest.to_string())?);
        push::take_along(context, &place(&from), &place(&to), &subjects)?;
    }
    context.printer.report(&copied)?;
    Ok(Exit::Success)
}

impl Report for Pushed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
