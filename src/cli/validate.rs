//! `ekiben validate`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::printer::{ERROR, NAME, Report, VERB, WARNING, dim_time};
use super::{Context, Exit, Failure, prepare};
use crate::diagnostic::{Diagnostics, Json, Severity};
use crate::project::Project;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben validate\n\
\x20 ekiben validate models/*/ekiben.yaml\n\
\x20 ekiben validate --output json";

/// Find the mistakes in projects: all at once, each with its place and the way out
///
/// None of the model's code is run, and the network is not used.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folders of projects, or manifests.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Warnings are errors.
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Validated<'a> {
    projects: usize,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Json<'a>>,
    #[serde(skip)]
    seconds: String,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let started = Instant::now();
    let found: Vec<Diagnostics> = args
        .paths
        .iter()
        .map(|path| match Project::load(path) {
            Ok((_, warnings)) => warnings,
            Err(mistakes) => mistakes,
        })
        .collect();
    let all: Vec<_> = found.iter().flat_map(Diagnostics::sorted).collect();
    let errors = all.iter().filter(|diagnostic| diagnostic.severity() == Severity::Error).count();
    let warnings = all.len() - errors;
    if context.printer.output() == super::printer::Output::Human {
        found.iter().for_each(|diagnostics| prepare::show(context, diagnostics));
    }
    context.printer.report(&Validated {
        projects: args.paths.len(),
        errors,
        warnings,
        diagnostics: all.iter().map(|diagnostic| Json::from(*diagnostic)).collect(),
        seconds: dim_time(started.elapsed()),
    })?;
    let invalid = errors > 0 || args.strict && warnings > 0;
    Ok(if invalid { Exit::Invalid } else { Exit::Success })
}

impl Report for Validated<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let projects = count(self.projects, "project");
        let time = &self.seconds;
        match (self.errors, self.warnings) {
            (0, 0) => writeln!(out, "{VERB}{projects} valid{VERB:#} {time}"),
            (0, warnings) => {
                writeln!(out, "{projects} valid, {WARNING}{}{WARNING:#} {time}", count(warnings, "warning"))
            }
            (errors, 0) => writeln!(out, "{NAME}{projects}{NAME:#}: {ERROR}{}{ERROR:#} {time}", count(errors, "error")),
            (errors, warnings) => {
                let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
                writeln!(
                    out,
                    "{NAME}{projects}{NAME:#}: {ERROR}{errors}{ERROR:#}, {WARNING}{warnings}{WARNING:#} {time}"
                )
            }
        }
    }
}
