//! `ekiben rm`

use std::time::Duration;

use super::{Context, Exit, Failure, completions};
use crate::run::container::Error;
use crate::run::named::{self, Prefer};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben rm iris-x7k2\n\
\x20 ekiben rm --force iris-x7k2        one that runs";

/// Remove containers that ended: their state and log
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Names of containers (see `ekiben ps --all`), beginnings of them, or names of their images.
    #[arg(required = true, value_name = "NAME", add = completions::containers())]
    names: Vec<String>,
    /// Stop those that run, first.
    #[arg(long, short)]
    force: bool,
    /// Seconds that a container has to end by itself, with --force.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", requires = "force")]
    grace: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let find = |name: &String| named::find(&session, name, Prefer::Ended);
    let containers = args.names.iter().map(find).collect::<Result<Vec<_>, Error>>()?;
    // Before anything goes: one that cannot be removed is mostly a slip.
    for container in containers.iter().filter(|_| !args.force) {
        if container.state()?.is_live() {
            return Err(Error::IsRunning { name: container.name().to_owned() }.into());
        }
    }
    for mut container in containers {
        match args.force {
            true => container.remove_by_force(Duration::from_secs(args.grace))?,
            false => container.remove()?,
        }
        context.printer.status("Removed", container.name());
    }
    Ok(Exit::Success)
}
