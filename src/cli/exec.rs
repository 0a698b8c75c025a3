//! `ekiben exec`

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Context, Exit, Failure, completions, running};
use crate::run::container::{self, Container, Ends, Guest};
use crate::run::named::{self, Prefer};
use crate::run::shell::Shell;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben exec iris-x7k2 -- python -V\n\
\x20 ekiben exec iris -- cat /proc/meminfo         in the container of this image\n\
\x20 ekiben exec -i iris -- sh -c 'cat > /tmp/x' < x";

/// Run a command in a running container
///
/// It runs beside the container's own program, as the same user, with the same variables, working folder, limits and
/// rights: none. On a terminal it gets one of its own; Ctrl-C reaches it. The exit code is the command's, 127 when the
/// image has no such program, 126 when it cannot be run. What an image has no program for, as `ls`, is lent by the machine's
/// busybox, as for `ekiben shell`. It ends with the container.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The container's name (see `ekiben ps`), the beginning of it, or the name of its image.
    #[arg(add = completions::running_containers())]
    name: String,
    /// Hand standard input on to the command. On a terminal it always is.
    #[arg(long, short)]
    interactive: bool,
    /// Give the command a terminal, whatever this one has.
    #[arg(long, short)]
    tty: bool,
    #[command(flatten)]
    place: Place,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What a command in a container finds there, beyond what the container's own program does.
#[derive(clap::Args)]
pub struct Place {
    /// A variable of its environment; may be repeated.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = running::variable)]
    env: Vec<String>,
    /// Where it starts; else where the container's own program did.
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
}

impl Place {
    /// The same as what is run there, with a terminal if there is one here.
    pub fn guest(self, programs: Vec<Vec<String>>) -> Guest {
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        Guest { programs, brought: None, env: self.env, cwd: self.workdir, input: terminal, terminal }
    }
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let container = find(context, &args.name)?;
    let mut guest = args.place.guest(vec![args.command]);
    guest.terminal |= args.tty;
    guest.input |= args.interactive || (args.tty && io::stdin().is_terminal());
    let lent =
        |name: &str| context.printer.advise(&format!("the image has no `{name}`: it is busybox's, of this machine"));
    let result =
        Shell::exec(&container, &with_terminal(guest), &ends(&io::stdin(), &io::stdout(), &io::stderr()), lent);
    warn_of_end(context, &container, &result);
    match result {
        Ok(code) => Ok(Exit::Container(code)),
        Err((error, hint)) => {
            let failed = finish(Err(error));
            failed.map_err(|failure| hint.into_iter().fold(failure, Failure::or_hint))
        }
    }
}

/// How what was killed ends, as shells have it: 128 and the signal's number.
pub const KILLED: i32 = 137;

/// The container that is meant. No lock of the store is held from then on: others may prune it.
pub fn find(context: &Context, name: &str) -> Result<Container, Failure> {
    Ok(named::find(&context.session()?, name, Prefer::Live)?)
}

/// The same knowing what kind of terminal it has.
pub fn with_terminal(mut guest: Guest) -> Guest {
    let is_said = guest.env.iter().any(|variable| variable.starts_with("TERM="));
    if let Some(kind) = std::env::var("TERM").ok().filter(|_| guest.terminal && !is_said) {
        guest.env.push(format!("TERM={kind}"));
    }
    guest
}

/// Those of this process.
pub fn ends<'a>(input: &'a io::Stdin, output: &'a io::Stdout, error: &'a io::Stderr) -> Ends<'a> {
    Ends { input: input.as_fd(), output: output.as_fd(), error: error.as_fd() }
}

/// Says so where a command has ended because its container has.
pub fn warn_of_end<E>(context: &Context, container: &Container, result: &Result<i32, E>) {
    // The kernel kills what is in a container before its own program is known to have ended.
    let patience = if matches!(result, Ok(KILLED)) { Duration::from_secs(1) } else { Duration::ZERO };
    let since = Instant::now();
    while !container.has_ended() && since.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    if result.is_ok() && container.has_ended() {
        context.printer.warn(&format!("the container `{}` has ended, and all that ran in it", container.name()));
    }
}

/// As the command ended. One that could not be run ends as a shell would have it.
pub fn finish(result: Result<i32, container::Error>) -> Result<Exit, Failure> {
    result.map(Exit::Container).map_err(|error| {
        let code = error.exit_code();
        Failure::from(error).ending(code.map(Exit::Container))
    })
}
