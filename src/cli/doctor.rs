//! `ekiben doctor`

use std::io::{self, Write};

use serde::Serialize;

use super::printer::{DIM, ERROR, HINT, NAME, Report, VERB, WARNING, plain};
use super::{Context, Exit, Failure};
use crate::image::store::Store;
use crate::io::explain::ErrorKind;
use crate::io::finding::{Finding, Level};
use crate::io::http::Client;
use crate::run::machine;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben doctor\n\
\x20 ekiben doctor --offline              asks no server\n\
\x20 ekiben doctor --output json          for scripts: each check with its name and level";

/// Look whether this machine has what Ekiben needs, and say what to do where it has not
///
/// What containers need of the kernel, the store and its disk, uv, Debian's mirror and the package index, the registries that
/// you are logged in to, GPUs, proxies and the clock. Nothing is changed. Ends with 1 where there is a problem; warnings are
/// none.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

#[derive(Serialize)]
struct Diagnosis {
    checks: Vec<Finding>,
    problems: usize,
    warnings: usize,
}

pub fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let root = Store::default_root()?;
    let checks = machine::findings(&root, &Client::with(context.network.clone()))?;
    let count = |level: Level| checks.iter().filter(|check| check.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    context.printer.report(&Diagnosis { checks, problems, warnings })?;
    Ok(if problems == 0 { Exit::Success } else { Exit::Error(ErrorKind::Failure) })
}

impl Report for Diagnosis {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        for Finding { name, level, fact, advice } in &self.checks {
            let (look, word) = match level {
                Level::Ok => (VERB, "ok"),
                Level::Warning => (WARNING, "warning"),
                Level::Problem => (ERROR, "problem"),
            };
            let fact = plain(fact);
            writeln!(out, "{look}{word:<7}{look:#}  {NAME}{name:<width$}{NAME:#}  {fact}")?;
            if let Some(advice) = advice {
                writeln!(out, "{:9}{:width$}  {HINT}hint{HINT:#}: {}", "", "", plain(advice))?;
            }
        }
        let several = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        let text = match (self.problems, self.warnings) {
            (0, 0) => "all is there".to_owned(),
            (0, warnings) => format!("all is there; {}", several(warnings, "warning")),
            (problems, 0) => several(problems, "problem"),
            (problems, warnings) => format!("{}, {}", several(problems, "problem"), several(warnings, "warning")),
        };
        writeln!(out, "{DIM}{text}{DIM:#}")
    }
}
