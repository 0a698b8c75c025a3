//! `ekiben logs`

use super::{Context, Exit, Failure, completions};
use crate::run::named::{self, Prefer};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben logs iris-x7k2\n\
\x20 ekiben logs --follow --tail 20 iris-x7k2";

/// Print what a container has said
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The container's name (see `ekiben ps --all`), the beginning of it, or the name of its image.
    #[arg(add = completions::containers())]
    name: String,
    /// Go on until the container ends.
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let container = named::find(&session, &args.name, Prefer::Live)?;
    let mut closed = Ok(());
    container.logs(args.tail, args.follow, &mut |bytes| {
        if closed.is_ok() {
            closed = context.printer.raw(bytes);
        }
    })?;
    closed?;
    Ok(Exit::Success)
}
