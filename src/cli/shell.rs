//! `ekiben shell`

use std::io;

use super::exec::{self, Place};
use super::{Context, Exit, Failure, completions};
use crate::run::shell::{self, Shell};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben shell iris-x7k2\n\
\x20 echo 'ls /models' | ekiben shell iris";

/// Open a shell in a running container
///
/// That of the image, /bin/bash or /bin/sh. Where it has neither, or a shell but no `ls`, as most images that ekiben builds, the
/// machine's busybox is lent to it, without being written into the container: Debian's package busybox-static. It has the rights
/// of `ekiben exec`: none.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The container's name (see `ekiben ps`), the beginning of it, or the name of its image.
    #[arg(add = completions::running_containers())]
    name: String,
    #[command(flatten)]
    place: Place,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let container = exec::find(context, &args.name)?;
    let shell = Shell::of_this_machine();
    let (guest, remark) = shell.guest(&container.state()?.lower, args.place.guest(Vec::new()));
    remark.into_iter().for_each(|text| context.printer.advise(text));
    let guest = exec::with_terminal(guest);
    let result = shell.told(container.exec(&guest, &exec::ends(&io::stdin(), &io::stdout(), &io::stderr())));
    exec::warn_of_end(context, &container, &result);
    match result {
        Ok(code) => Ok(Exit::Container(code)),
        Err(shell::Error::Container(error)) => exec::finish(Err(error)),
        Err(error) => Err(error.into()),
    }
}
