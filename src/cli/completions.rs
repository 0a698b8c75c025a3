//! `ekiben completions`

use super::{Context, Exit, Failure};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben completions bash > ~/.local/share/bash-completion/completions/ekiben\n\
\x20 ekiben completions zsh > ~/.zfunc/_ekiben\n\
\x20 ekiben completions fish > ~/.config/fish/completions/ekiben.fish";

/// Print a script that completes ekiben's commands and options in a shell
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "ekiben", &mut script);
    context.printer.raw(&script)?;
    Ok(Exit::Success)
}
