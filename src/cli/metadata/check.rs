//! `ekiben metadata check`

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::super::printer::{ERROR, NAME, Output, Report, VERB, WARNING};
use super::super::{Context, Exit, Failure, watch};
use super::{in_full, in_words, near_in_words, plain};
use crate::check::project_metadata::{self, Located};
use crate::formats::diagnostic::{Diagnostics, Json, Severity};
use crate::formats::document::shown;
use crate::formats::metadata::{Catalog, Entry, Mapping, Missing, Place, map};
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben metadata check\n\
\x20 ekiben metadata check extraction_63.bento --against target/categories_and_labels_data.json5";

/// Find what contradicts itself in project metadata, and what another project lacks or has otherwise
///
/// Ends with 3 when the metadata has mistakes: names that are there twice, one id for two things, a label with two types,
/// a missing type, a threshold out of range. Ends with 4 when the other project lacks something, or has it with another
/// type or multiplicity. What only the other project has does no harm.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file of metadata, or what holds one: a project's folder, a bundle, a bento.
    #[arg(value_name = "BUNDLE", default_value = ".")]
    path: PathBuf,
    /// The metadata of the project that the model is to be used in, in any of these.
    #[arg(long, value_name = "OTHER")]
    against: Option<PathBuf>,
}

#[derive(Serialize)]
struct Checked<'a> {
    path: String,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Json<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

#[derive(Serialize)]
struct Against {
    path: String,
    missing: Vec<Entry>,
    different: Vec<Entry>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let mut found = Diagnostics::new();
    let located = project_metadata::open(&session, &args.path, &mut found)?;
    let other =
        args.against.as_ref().map(|path| project_metadata::open(&session, path, &mut found)).transpose()?.flatten();
    let mut against = None;
    match (&located, &other) {
        (Some(located), Some(other)) => {
            let source = Catalog::new(&located.metadata, &located.document, &mut found);
            let target = Catalog::new(&other.metadata, &other.document, &mut found);
            against =
                source.zip(target).map(|(source, target)| Against::new(&map(&source, &target, Missing::Left), other));
        }
        (Some(located), None) => located.metadata.check(&located.document, &mut found),
        (None, _) => {}
    }
    if context.printer.output() == Output::Human {
        watch::show(context, &found);
    }
    let all = found.sorted();
    let errors = all.iter().filter(|diagnostic| diagnostic.severity() == Severity::Error).count();
    let fits = against.as_ref().is_none_or(|against| against.missing.is_empty() && against.different.is_empty());
    context.printer.report(&Checked {
        path: located.map_or_else(|| shown(&args.path), |located| located.document.source.path().to_owned()),
        errors,
        warnings: all.len() - errors,
        diagnostics: all.into_iter().map(Json::from).collect(),
        against,
    })?;
    Ok(match (errors, fits) {
        (0, true) => Exit::Success,
        (0, false) => Exit::Error(ErrorKind::Mismatch),
        _ => Exit::Error(ErrorKind::Invalid),
    })
}

impl Against {
    fn new(mapping: &Mapping, other: &Located) -> Self {
        Self {
            path: other.document.source.path().to_owned(),
            missing: mapping.missing().cloned().collect(),
            different: mapping.different().cloned().collect(),
        }
    }
}

impl Report for Checked<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let path = plain(&self.path);
        let warnings = match self.warnings {
            0 => String::new(),
            warnings => format!(", {WARNING}{}{WARNING:#}", count(warnings, "warning")),
        };
        if self.errors > 0 {
            return writeln!(out, "{NAME}{path}{NAME:#}: {ERROR}{}{ERROR:#}{warnings}", count(self.errors, "error"));
        }
        let Some(Against { path: other, missing, different }) = &self.against else {
            return writeln!(out, "{VERB}{path} is consistent{VERB:#}{warnings}");
        };
        let other = plain(other);
        if missing.is_empty() && different.is_empty() {
            return writeln!(out, "{VERB}{other} has all of {path}{VERB:#}{warnings}");
        }
        // What is in something that is missing is missing with it.
        let gone: BTreeSet<&Place> = missing.iter().map(|entry| &entry.place).collect();
        let parents: BTreeSet<Place> = missing.iter().filter_map(|entry| entry.place.parent()).collect();
        for entry in missing.iter().filter(|entry| entry.place.parent().is_none_or(|parent| !gone.contains(&parent))) {
            let inner = if parents.contains(&entry.place) { " and all in it" } else { "" };
            writeln!(out, "  {ERROR}missing{ERROR:#}    {}{inner}{}", in_full(&entry.place), near_in_words(entry))?;
        }
        for entry in different {
            let differences: Vec<_> = entry.keeps.iter().map(in_words).collect();
            writeln!(out, "  {WARNING}different{WARNING:#}  {}  {}", in_full(&entry.place), differences.join(", "))?;
        }
        let (missing, different) = (missing.len(), different.len());
        writeln!(
            out,
            "\n{ERROR}{other} does not fit {path}: {missing} missing, {different} different{ERROR:#}{warnings}"
        )
    }
}
