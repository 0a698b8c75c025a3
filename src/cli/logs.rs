//! `ekiben logs`

use super::running::LogScreen;
use super::{Context, Exit, Failure, completions};
use crate::io::explain::ErrorKind;
use crate::run;
use crate::run::container;
use crate::run::ended::EndedLogs;
use crate::run::named::{self, Prefer};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben logs iris-x7k2\n\
\x20 ekiben logs --follow --tail 20 iris-x7k2\n\
\x20 ekiben logs --last                            of what `ekiben test` has started, say";

/// Print what a container has said
///
/// As it was said; on a terminal the service's own lines are made readable, and its tracebacks folded unless --verbose is
/// given. Of services that have ended and are gone, the last ten are kept, up to 1 MiB each, without credentials; `ekiben
/// prune --all` removes them.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The container's name (see `ekiben ps --all`), the beginning of it, or the name of its image.
    #[arg(required_unless_present = "last", add = completions::containers())]
    name: Option<String>,
    /// Of the container that has ended last, also where nothing else is left of it.
    #[arg(long, conflicts_with_all = ["name", "follow"])]
    last: bool,
    /// Go on until the container ends.
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let ended = EndedLogs::of(&session);
    let name = match args.name {
        Some(name) => name,
        None => {
            let gone = ended.list()?.into_iter().next();
            let Some((_, name)) = run::containers(&session)?.last_ended()?.max(gone) else {
                let explanation = ErrorKind::Failure
                    .named("logs/none")
                    .hint("`ekiben ps` lists those that run, `ekiben logs NAME` prints what one says");
                return Err(Failure::new(explanation, "no container has ended"));
            };
            name
        }
    };
    let mut screen = LogScreen::of_service(context);
    let container = match named::find(&session, &name, Prefer::Live) {
        Err(container::Error::NoContainer { .. }) if let Some(said) = ended.read(&name)? => {
            screen.take(last_lines(&said, args.tail))?;
            screen.end()?;
            return Ok(Exit::Success);
        }
        container => container?,
    };
    let mut closed = Ok(());
    container.logs(args.tail, args.follow, &mut |bytes| {
        if closed.is_ok() {
            closed = screen.take(bytes);
        }
        closed.is_ok()
    })?;
    closed?;
    screen.end()?;
    Ok(Exit::Success)
}

/// The end of what was said, from the beginning of a line.
fn last_lines(said: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return said };
    let start = said.split_inclusive(|byte| *byte == b'\n').rev().take(lines).map(<[u8]>::len).sum::<usize>();
    said.get(said.len() - start..).unwrap_or_default()
}
