//! `ekiben validate`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::printer::{ERROR, NAME, Report, VERB, WARNING, dim_time};
use super::{Context, Exit, Failure, Format, watch};
use crate::build::dockerfile;
use crate::build::input::{self, Input};
use crate::bundle::import::bento::Bento;
use crate::check::fix;
use crate::check::{self, Checked, Kind};
use crate::formats::diagnostic::{Code, Diagnostic, Json, github, gitlab, junit, sarif};
use crate::io::explain::{ErrorKind, with_causes};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben validate\n\
\x20 ekiben validate models/*/ekiben.yaml model.pkl\n\
\x20 ekiben validate --context . docker/Dockerfile\n\
\x20 ekiben validate --fix manifest.json\n\
\x20 ekiben validate --watch\n\
\x20 ekiben validate --output sarif > ekiben.sarif";

/// Find the mistakes in projects: all at once, each with its place and the way out
///
/// What a file is, is recognised: manifests, locks, bundles, bentos, Dockerfiles, project metadata, OpenAPI documents, and
/// models.
/// None of the model's code is run, no pickle is loaded, and the network is not used.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folders or files.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Folder that Dockerfiles copy from; else the nearest, from their own up to the repository's, that has it all.
    #[arg(long, value_name = "FOLDER")]
    context: Option<PathBuf>,
    /// Warnings are errors.
    #[arg(long)]
    strict: bool,
    /// Repair what is safe to repair, and show the difference.
    #[arg(long)]
    fix: bool,
    /// Validate again whenever a file changes.
    #[arg(long, short, conflicts_with = "fix")]
    watch: bool,
    /// How results are written.
    #[arg(long, value_enum, default_value = "human", help_heading = "Global options")]
    output: Format,
}

#[derive(Serialize)]
struct Validated<'a> {
    projects: usize,
    /// Without what is not there.
    files: usize,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Json<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixed: Vec<String>,
    #[serde(skip)]
    seconds: String,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    if args.watch {
        return watch(context, &args);
    }
    let fixed = if args.fix { fix(context, &args)? } else { Vec::new() };
    validate(context, &args, fixed)
}

fn validate(context: &Context, args: &Args, fixed: Vec<String>) -> Result<Exit, Failure> {
    let started = Instant::now();
    let mut results = check::in_context(&args.paths, args.context.as_deref());
    for result in &mut results {
        match result.kind {
            Kind::Bundle => bundle(context, result)?,
            Kind::Bento if result.is_archive() => bento(context, result)?,
            _ => {}
        }
    }
    let all: Vec<&Diagnostic> = results.iter().flat_map(|result| result.diagnostics.sorted()).collect();
    let errors = results.iter().map(|result| result.diagnostics.errors()).sum();
    let warnings = all.len() - errors;
    let projects = results.iter().filter(|result| result.kind == Kind::Project && result.path.exists()).count();
    let files = results.iter().filter(|result| result.kind != Kind::Project && result.is_there()).count();
    match args.output {
        Format::Human | Format::Json => {
            if args.output == Format::Human {
                results.iter().for_each(|result| watch::show(context, &result.diagnostics));
            }
            context.printer.report(&Validated {
                projects,
                files,
                errors,
                warnings,
                diagnostics: all.iter().map(|diagnostic| Json::from(*diagnostic)).collect(),
                fixed,
                seconds: dim_time(started.elapsed()),
            })?;
        }
        Format::Sarif => context.printer.raw(format!("{:#}\n", sarif(&all)).as_bytes())?,
        Format::Github => context.printer.raw(github(all.iter().copied()).as_bytes())?,
        Format::Gitlab => context.printer.raw(format!("{:#}\n", gitlab(all.iter().copied())).as_bytes())?,
        Format::Junit => {
            let files: Vec<_> = results
                .iter()
                .map(|result| (crate::formats::document::shown(&result.path), result.diagnostics.sorted()))
                .collect();
            context.printer.raw(junit(&files).as_bytes())?;
        }
    }
    let invalid = errors > 0 || args.strict && warnings > 0;
    Ok(if invalid { Exit::Error(ErrorKind::Invalid) } else { Exit::Success })
}

/// Opens a bundle and looks at what is in it.
fn bundle(context: &Context, result: &mut Checked) -> Result<(), Failure> {
    let session = context.session()?;
    match Input::open(&session, &result.path, dockerfile::Request::default()) {
        Ok(input) => result.diagnostics.extend(input.check(&result.path)),
        Err(input::Error::Malformed { diagnostics, .. }) => result.diagnostics.extend(diagnostics),
        Err(error) => broken(result, &error),
    }
    Ok(())
}

/// Unpacks a bento and looks at what is in it.
fn bento(context: &Context, result: &mut Checked) -> Result<(), Failure> {
    let session = context.session()?;
    match Bento::open(&session, &result.path) {
        Ok(bento) => check::bento(&bento, &mut result.diagnostics),
        Err(error) => broken(result, &error),
    }
    Ok(())
}

fn broken(result: &mut Checked, error: &(dyn std::error::Error + 'static)) {
    let path = crate::formats::document::shown(&result.path);
    result.diagnostics.push(Diagnostic::of_file(Code::BrokenModel, path, with_causes(error)));
}

/// Repairs the files, and shows how they differ from what they were.
fn fix(context: &Context, args: &Args) -> Result<Vec<String>, Failure> {
    let changes = fix::files(&args.paths)?;
    for change in &changes {
        if args.output == Format::Human {
            context.printer.line(change.difference().trim_end());
        }
        context.printer.status("Fixed", crate::formats::document::shown(&change.path));
    }
    Ok(changes.iter().map(|change| crate::formats::document::shown(&change.path)).collect())
}

/// How often files are looked at. Asking for their times works on every disk, and for a project's folder takes less
/// than a millisecond.
const INTERVAL: Duration = Duration::from_millis(300);

fn watch(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut last = None;
    loop {
        let now = check::stamps(&args.paths);
        if last.as_ref() != Some(&now) {
            if last.is_some() && args.output == Format::Human {
                context.printer.line("");
            }
            validate(context, args, Vec::new())?;
            last = Some(now);
        }
        std::thread::sleep(INTERVAL);
    }
}

impl Report for Validated<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let projects = match (self.projects, self.files) {
            (0, 0) => "nothing to check".to_owned(),
            (projects, 0) => count(projects, "project"),
            (0, files) => count(files, "file"),
            (projects, files) => format!("{} and {}", count(projects, "project"), count(files, "file")),
        };
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
