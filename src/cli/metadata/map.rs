//! `ekiben metadata map`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::super::printer::{DIM, ERROR, NAME, Report, VERB};
use super::super::{Context, Exit, Failure, watch};
use super::{in_words, indented, invalid, near_in_words, plain};
use crate::check::project_metadata;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::metadata::{Catalog, Entry, Kind, Mapping, Missing, Target, map};
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben metadata map extraction_63.bento --against target.json5\n\
\x20 ekiben metadata map . --against ../target --create-missing --output json > mapping.json";

/// Map the ids of project metadata onto those of another project, by name
///
/// Categories are matched by their names, label sets within their category, labels within their label set. What exists in
/// the other project keeps its type and multiplicity. What is missing there is listed, and the command ends with 4; or,
/// with --create-missing, its creation is planned. A name that seems to have been changed is pointed out.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file of metadata, or what holds one: a project's folder, a bundle, a bento.
    #[arg(value_name = "BUNDLE")]
    path: PathBuf,
    /// The metadata of the project that is mapped onto, in any of these.
    #[arg(long, value_name = "OTHER")]
    against: PathBuf,
    /// Plan the creation of what is missing.
    #[arg(long)]
    create_missing: bool,
}

#[derive(Serialize)]
struct Mapped {
    source: String,
    target: String,
    /// Nothing is without a target.
    complete: bool,
    #[serde(flatten)]
    mapping: Mapping,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let mut found = Diagnostics::new();
    let source = project_metadata::open(&session, &args.path, &mut found)?;
    let target = project_metadata::open(&session, &args.against, &mut found)?;
    let (Some(source), Some(target)) = (source, target) else { return Err(invalid(context, &found)) };
    let catalogs = (
        Catalog::new(&source.metadata, &source.document, &mut found),
        Catalog::new(&target.metadata, &target.document, &mut found),
    );
    let (Some(from), Some(to)) = catalogs else { return Err(invalid(context, &found)) };
    watch::show(context, &found);
    let mapping = map(&from, &to, if args.create_missing { Missing::Created } else { Missing::Left });
    let complete = mapping.missing().next().is_none();
    let path = |located: &project_metadata::Located| located.document.source.path().to_owned();
    context.printer.report(&Mapped { source: path(&source), target: path(&target), complete, mapping })?;
    Ok(if complete { Exit::Success } else { Exit::Error(ErrorKind::Mismatch) })
}

impl Report for Mapped {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        // A category, its label sets, and the labels of each: not one kind after the other, as in the data.
        let mut entries: Vec<&Entry> = self.mapping.entries().collect();
        entries.sort_by(|a, b| a.place.cmp(&b.place));
        let names: Vec<String> = entries.iter().map(|entry| indented(&entry.place)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().min(60);
        let digits = entries.iter().map(|entry| entry.source.to_string().len()).max().unwrap_or_default();
        for (entry, name) in entries.iter().zip(&names) {
            let style = if entry.place.parent().is_none() { VERB } else { NAME };
            write!(out, "{style}{name:width$}{style:#}  {:>digits$} → ", entry.source)?;
            match entry.target {
                Some(target @ Target::Existing(_)) => write!(out, "{target}")?,
                Some(target @ Target::New(_)) => write!(out, "{VERB}{target}{VERB:#}")?,
                None => write!(out, "{ERROR}missing{ERROR:#}")?,
            }
            let keeps: Vec<_> = entry.keeps.iter().map(in_words).collect();
            if !keeps.is_empty() {
                write!(out, "  {DIM}stays as it is; {}{DIM:#}", keeps.join(", "))?;
            }
            writeln!(out, "{}", near_in_words(entry))?;
        }
        if !self.mapping.add.is_empty() {
            writeln!(out)?;
        }
        for addition in &self.mapping.add {
            let (what, to) = match addition.kind {
                Kind::Label => ("label", "label set"),
                Kind::LabelSet | Kind::Category => ("label set", "category"),
            };
            writeln!(out, "add the {what} {} to the {to} {}", addition.target, addition.within)?;
        }
        let missing = self.mapping.missing().count();
        let (there, create) = (self.mapping.entries().count() - missing, self.mapping.create.len());
        let text =
            format!("{there} mapped, {create} of them to be created, {missing} missing in {}", plain(&self.target));
        let style = if self.complete { VERB } else { ERROR };
        writeln!(out, "\n{style}{text}{style:#}")
    }
}
