//! `ekiben stop`

use std::time::Duration;

use super::{Context, Exit, Failure, completions};
use crate::run;
use crate::run::container::State;
use crate::run::named::{self, Prefer};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben stop iris-x7k2\n\
\x20 ekiben stop iris:1.0            the container of this image\n\
\x20 ekiben stop --all";

/// Stop containers: SIGTERM first, SIGKILL when that does not help in time
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Names of containers (see `ekiben ps`), beginnings of them, or names of their images.
    #[arg(required_unless_present = "all", add = completions::running_containers())]
    names: Vec<String>,
    /// All that run.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Seconds that a container has to end by itself.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    grace: u64,
    /// Remove state and log too.
    #[arg(long)]
    remove: bool,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let containers = run::containers(&session)?;
    let names = match args.all {
        true => containers.list()?.into_iter().filter(State::is_live).map(|state| state.name).collect(),
        false => args.names,
    };
    for name in names {
        let mut container = named::find(&session, &name, Prefer::Live)?;
        container.stop(Duration::from_secs(args.grace))?;
        if args.remove {
            container.remove()?;
        }
        context.printer.status("Stopped", container.name());
    }
    Ok(Exit::Success)
}
