//! `ekiben logs`

use super::{Context, Exit, Failure};
use crate::launch;

/// Print what a container has said
///
/// Examples:
///   ekiben logs iris-x7k2
///   ekiben logs --follow --tail 20 iris-x7k2
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The container's name: see `ekiben ps --all`.
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
    let container = launch::containers(&session)?.get(&args.name)?;
    let mut closed = Ok(());
    container.logs(args.tail, args.follow, &mut |bytes| {
        if closed.is_ok() {
            closed = context.printer.raw(bytes);
        }
    })?;
    closed?;
    Ok(Exit::Success)
}
