//! `ekiben convert`

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::printer::{DIM, ERROR, HINT, NAME, Report, VERB, WARNING};
use super::{Context, Exit, Failure, watch};
use crate::formats::diagnostic::{Diagnostic, Json};
use crate::formats::document::shown;
use crate::io::explain::{ErrorKind, Explain as _, quoted};
use crate::io::progress::Progress;
use crate::project::init::proposal::{Hardware, Proposal};
use crate::project::init::{self, Conversion, Converted, Error, Existing, Placed, Placing, Rules};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben convert iris.pkl                       makes the project iris/\n\
\x20 ekiben convert shelf/*.pkl --into projects    one project each, and a report\n\
\x20 ekiben convert mlruns/0/4f/artifacts/model --name churn\n\
\x20 ekiben convert shelf --into projects --output json > report.json";

/// Make projects from models that are there already: pickles, files of other formats, folders, whole shelves of them
///
/// Framework, versions, inputs and classes are read from the model as data; nothing of it is loaded or run. Each model
/// gets a folder with a manifest, requirements, a function and example requests, and a copy of its files; the report says
/// why, and what could not be known. A dangerous pickle is refused, as `ekiben validate` would. One bad model stops no
/// other, and shows in the exit code: 3 where one is refused, else 1.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Models: files, folders as MLflow, transformers, spaCy, TensorFlow and others save them, and folders that hold such.
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// The folder in which each project gets a folder of its own.
    #[arg(long, short = 'o', value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
    /// What the project is called, for one model. Without it: after the model's file or folder.
    #[arg(long)]
    name: Option<String>,
    /// What loading a model may import though it is dangerous or unknown: `package.module.Name` or `package.*`. It is
    /// written into the manifest's `model.allow`; may be repeated.
    #[arg(long, value_name = "GLOBAL")]
    allow: Vec<String>,
    /// Replace the files of a project that is there already; files that are not written stay.
    #[arg(long)]
    force: bool,
    /// Link the model's files into the project (hard links) rather than copy them: they take no space, and whoever writes
    /// into one changes the other. On another file system they are copied.
    #[arg(long)]
    link: bool,
    /// Ask for packages that use graphics processors, where there are smaller ones without.
    #[arg(long)]
    gpu: bool,
}

#[derive(Serialize)]
struct Shelf<'a> {
    ready: usize,
    incomplete: usize,
    refused: usize,
    failed: usize,
    models: Vec<Row<'a>>,
}

/// How it went with a model.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The project can answer.
    Ready,
    /// The project waits for something.
    Incomplete,
    /// The model is dangerous or damaged.
    Refused,
    /// There is no project for another reason.
    Failed,
}

#[derive(Serialize)]
struct Row<'a> {
    model: String,
    name: &'a str,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    /// Bytes of the model's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed: Option<Placed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposal: Option<&'a Proposal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    diagnostics: Vec<Json<'a>>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Args { models, into, name, allow, force, link, gpu } = args;
    let progress = Progress::new(Arc::new(context.printer.clone()));
    let placing = if link { Placing::Link } else { Placing::Copy };
    let existing = if force { Existing::Replace } else { Existing::Keep };
    let rules = Rules { allow, placing, hardware: hardware(gpu) };
    let conversions = init::convert(&init::Shelf { models, into, name, existing, rules }, &progress);
    if context.printer.output() == super::Output::Human {
        conversions.iter().for_each(|conversion| watch::show(context, &conversion.diagnostics));
    }
    let rows: Vec<Row<'_>> = conversions.iter().map(row).collect();
    let count = |state: State| rows.iter().filter(|row| row.state == state).count();
    let report = Shelf {
        ready: count(State::Ready),
        incomplete: count(State::Incomplete),
        refused: count(State::Refused),
        failed: count(State::Failed),
        models: rows,
    };
    context.printer.report(&report)?;
    Ok(match (report.refused, report.failed) {
        (0, 0) => Exit::Success,
        (0, _) => Exit::Error(ErrorKind::Failure),
        _ => Exit::Error(ErrorKind::Invalid),
    })
}

fn row(conversion: &Conversion) -> Row<'_> {
    let Conversion { source, name, diagnostics, result } = conversion;
    let (state, made, error) = match result {
        Ok(made) if made.proposal.is_ready() => (State::Ready, Some(made), None),
        Ok(made) => (State::Incomplete, Some(made), None),
        Err(error @ Error::Refused { .. }) => (State::Refused, None, Some(error)),
        Err(error) => (State::Failed, None, Some(error)),
    };
    Row {
        model: shown(source),
        name,
        state,
        project: made.map(|Converted { project, .. }| shown(project)),
        size: made.map(|made| made.size),
        placed: made.map(|made| made.placed),
        proposal: made.map(|made| &made.proposal),
        error: error.map(ToString::to_string),
        hint: error.and_then(|error| error.explain().hint),
        diagnostics: diagnostics.sorted().into_iter().map(|diagnostic: &Diagnostic| Json::from(diagnostic)).collect(),
    }
}

impl Report for Shelf<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let cells: Vec<[String; 5]> = self
            .models
            .iter()
            .map(|row| match row.proposal {
                Some(proposal) => [
                    row.name.to_owned(),
                    proposal.framework.clone(),
                    proposal.python.text.clone(),
                    proposal.input.clone(),
                    row.project.clone().unwrap_or_default(),
                ],
                None => [row.name.to_owned(), "-".into(), "-".into(), "-".into(), row.model.clone()],
            })
            .collect();
        let width = |at: usize| cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let [name, framework, python, input] = [0, 1, 2, 3].map(|at| width(at).unwrap_or_default());
        for (row, [a, b, c, d, e]) in self.models.iter().zip(&cells) {
            let (look, state) = match row.state {
                State::Ready => (VERB, "ready"),
                State::Incomplete => (WARNING, "incomplete"),
                State::Refused => (ERROR, "refused"),
                State::Failed => (ERROR, "failed"),
            };
            writeln!(
                out,
                "{look}{state:10}{look:#}  {NAME}{a:name$}{NAME:#}  {b:framework$}  {c:python$}  {d:input$}  {DIM}{e}{DIM:#}"
            )?;
        }
        for row in &self.models {
            if let Some(error) = &row.error {
                writeln!(out, "\n{NAME}{}{NAME:#}: {ERROR}{error}{ERROR:#}", row.name)?;
                if let Some(hint) = &row.hint {
                    writeln!(out, "  {HINT}hint{HINT:#}: {hint}")?;
                }
            }
            if let Some(proposal) = row.proposal.filter(|proposal| self.models.len() == 1 || !proposal.is_ready()) {
                let class = proposal.class.as_deref().unwrap_or("what it is, it does not say");
                writeln!(out, "\n{NAME}{}{NAME:#}: {class}", row.name)?;
                if self.models.len() == 1 { reasons(out, proposal)? } else { to_do(out, proposal)? }
            }
        }
        if let Some(project) =
            self.models.iter().find(|row| row.state == State::Ready).and_then(|row| row.project.as_ref())
        {
            let next = "asks the model the example request; with `--accept` it writes the answer down";
            writeln!(out, "\n{HINT}next{HINT:#}: `ekiben test {}` {next}", quoted(project))?;
        }
        if self.models.len() > 1 {
            let Self { ready, incomplete, refused, failed, .. } = self;
            writeln!(out, "\n{ready} ready, {incomplete} incomplete, {refused} refused, {failed} failed")?;
            writeln!(out, "{DIM}why, and what is not known: --output json, or one model at a time{DIM:#}")?;
        }
        Ok(())
    }
}

/// What `--gpu` says.
pub fn hardware(gpu: bool) -> Hardware {
    if gpu { Hardware::Gpus } else { Hardware::Processors }
}

/// Why a project is as it is, what is to be done, and what is not known.
pub fn reasons(out: &mut dyn Write, proposal: &Proposal) -> io::Result<()> {
    writeln!(out, "  Python {} {DIM}{}{DIM:#}", proposal.python.text, proposal.python.reason)?;
    for pin in proposal.requirements.iter().chain(&proposal.packages) {
        writeln!(out, "  {} {DIM}{}{DIM:#}", pin.text, pin.reason)?;
    }
    to_do(out, proposal)?;
    for unknown in &proposal.unknown {
        writeln!(out, "  {DIM}not known: {unknown}{DIM:#}")?;
    }
    Ok(())
}

fn to_do(out: &mut dyn Write, proposal: &Proposal) -> io::Result<()> {
    proposal.open.iter().try_for_each(|open| writeln!(out, "  {WARNING}to do{WARNING:#}: {open}"))
}
