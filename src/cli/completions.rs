//! `ekiben completions`

use super::{Context, Exit, Failure};

/// Print a script that completes ekiben's commands and options in a shell
///
/// Examples:
///   ekiben completions bash > ~/.local/share/bash-completion/completions/ekiben
///   ekiben completions zsh > ~/.zfunc/_ekiben
///   ekiben completions fish > ~/.config/fish/completions/ekiben.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
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
