//! `ekiben metadata`

mod check;
mod map;
mod show;

use super::printer::HINT;
use super::{Context, Exit, Failure, watch};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::metadata::{Difference, Entry, Place};
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben metadata show extraction_63.bento\n\
\x20 ekiben metadata check . --against other/categories_and_labels_data.json5\n\
\x20 ekiben metadata map extraction_63.bento --against target.json5 --create-missing --output json";

/// Show and check a project's categories, label sets and labels, and map them onto another project
///
/// Project metadata is `categories_and_labels_data.json5`, as Konfuzio's SDK writes it. It is read from the file itself,
/// or from the project, the bundle or the bento in which it lies.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Show(show::Args),
    Check(check::Args),
    Map(map::Args),
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.command {
        Command::Show(args) => show::run(context, args),
        Command::Check(args) => check::run(context, args),
        Command::Map(args) => map::run(context, args),
    }
}

/// Ends a command whose metadata has mistakes, which are shown.
fn invalid(context: &Context, found: &Diagnostics) -> Failure {
    watch::show(context, found);
    Failure::new(ErrorKind::Invalid.named("metadata/mistakes"), "the metadata has mistakes")
}

/// A foreign name for a terminal, whatever characters it holds.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A name, indented by how deep it stands.
fn indented(place: &Place) -> String {
    let depth = usize::from(place.label_set.is_some()) + usize::from(place.label.is_some());
    format!("{:indent$}{}", "", plain(place.name()), indent = 2 * depth)
}

/// All names that lead to something.
fn in_full(place: &Place) -> String {
    let names = [Some(&place.category), place.label_set.as_ref(), place.label.as_ref()];
    names.into_iter().flatten().map(|name| plain(name)).collect::<Vec<_>>().join(" › ")
}

/// The name that may be meant, as a question.
fn near_in_words(entry: &Entry) -> String {
    entry.near.as_ref().map(|near| format!("  {HINT}renamed to `{}`?{HINT:#}", plain(near))).unwrap_or_default()
}

/// What is otherwise in the target, in words.
fn in_words(difference: &Difference) -> String {
    let text = |value: &serde_json::Value| plain(value.as_str().unwrap_or(&value.to_string()));
    format!("{}: {} here, {} there", difference.key, text(&difference.source), text(&difference.target))
}
