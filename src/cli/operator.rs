//! `ekiben operator`: a program of its own beside this one, as it brings a client of Kubernetes.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::{Exit, Failure};
use crate::io::explain::ErrorKind;

/// What the program is called.
const PROGRAM: &str = "ekiben-operator";

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben operator manifests --image registry.example/ekiben-operator:1 | kubectl apply -f -\n\
\x20 ekiben operator manifests --helm charts/ekiben-operator\n\
\x20 ekiben operator run --build-here          from this machine, for the cluster of kubectl\n\
\x20 ekiben operator run --help";

/// Run models that are resources of a Kubernetes cluster: built into images, served, idle when nobody asks
///
/// Starts `ekiben-operator`, which lies beside this program or on PATH. It is installed with `cargo install ekiben --features
/// operator`. docs/operator.md has what it does.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What it gets.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS", required = true)]
    passed: Vec<OsString>,
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(PROGRAM));
    let error = Command::new(&program).args(args.passed).exec();
    let explanation = ErrorKind::Usage
        .named("operator/not-installed")
        .hint("`cargo install ekiben --features operator` installs it beside this program");
    Err(Failure::new(explanation, format!("`{}` cannot be started: {error}", program.display())))
}
