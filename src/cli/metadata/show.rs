//! `ekiben metadata show`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::super::printer::{DIM, NAME, Report, VERB};
use super::super::{Context, Exit, Failure, watch};
use super::{invalid, plain};
use crate::check::project_metadata;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::metadata::{Category, Label};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben metadata show\n\
\x20 ekiben metadata show extraction_63.bento\n\
\x20 ekiben metadata show . --output json | jq '.categories[].name'";

/// Show the categories, their label sets, and the labels in those, with types and thresholds
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file of metadata, or what holds one: a project's folder, a bundle, a bento.
    #[arg(value_name = "BUNDLE", default_value = ".")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Shown {
    /// Where it was found.
    path: String,
    categories: Vec<Category>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let mut found = Diagnostics::new();
    let located = project_metadata::open(&session, &args.path, &mut found)?;
    let Some(located) = located else { return Err(invalid(context, &found)) };
    watch::show(context, &found);
    let path = located.document.source.path().to_owned();
    context.printer.report(&Shown { path, categories: located.metadata.categories().to_vec() })?;
    Ok(Exit::Success)
}

/// An id beside a name.
fn id(id: Option<u64>) -> String {
    id.map(|id| format!(" {DIM}{id}{DIM:#}")).unwrap_or_default()
}

impl Report for Shown {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = Columns::of(&self.categories);
        for category in &self.categories {
            writeln!(out, "{VERB}{}{VERB:#}{}", plain(&category.name), id(category.id))?;
            for (number, set) in category.schema.iter().enumerate() {
                let is_last = number + 1 == category.schema.len();
                let (branch, stem) = if is_last { ("└──", "   ") } else { ("├──", "│  ") };
                let default = if category.is_default(set) { " (default)" } else { "" };
                let several = if set.has_multiple_annotation_sets { ", several times" } else { "" };
                let name = plain(&set.name);
                writeln!(out, "{DIM}{branch}{DIM:#} {NAME}{name}{NAME:#}{default}{several}{}", id(set.id))?;
                for (number, label) in set.labels.iter().enumerate() {
                    let branch = if number + 1 == set.labels.len() { "└──" } else { "├──" };
                    write!(out, "{DIM}{stem} {branch}{DIM:#} ")?;
                    columns.write(out, label)?;
                }
            }
        }
        let sets = self.categories.iter().flat_map(|category| &category.schema);
        let (sets, labels) = sets.fold((0, 0), |(sets, labels), set| (sets + 1, labels + set.labels.len()));
        let count = |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
        let categories = count(self.categories.len(), "category", "categories");
        let (sets, labels) = (count(sets, "label set", "label sets"), count(labels, "label", "labels"));
        writeln!(out, "\n{categories}, {sets}, {labels} {DIM}in {}{DIM:#}", plain(&self.path))
    }
}

/// Widths, in characters.
struct Columns {
    name: usize,
    data_type: usize,
}

impl Columns {
    /// What is longer moves the rest of its line.
    const MOST: usize = 40;

    fn of(categories: &[Category]) -> Self {
        let labels = || categories.iter().flat_map(|category| &category.schema).flat_map(|set| &set.labels);
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or_default().min(Self::MOST);
        Self {
            name: longest(&mut labels().map(|label| label.name.chars().count())),
            data_type: longest(&mut labels().map(|label| label.data_type.chars().count())),
        }
    }

    fn write(&self, out: &mut dyn Write, label: &Label) -> io::Result<()> {
        let (name, data_type) = (plain(&label.name), plain(&label.data_type));
        let threshold = label.threshold.map(|threshold| format!("≥ {threshold}")).unwrap_or_default();
        let several = if label.has_multiple_top_candidates { "several times" } else { "" };
        let line = format!(
            "{name:name_width$}  {data_type:type_width$}  {threshold:<6}  {several:13}",
            name_width = self.name,
            type_width = self.data_type
        );
        writeln!(out, "{}{}", line.trim_end(), id(label.id))
    }
}
