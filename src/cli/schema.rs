//! `ekiben schema`

use super::{Context, Exit, Failure};
use crate::formats::schema::Kind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben schema manifest > manifest.schema.json\n\
\x20 ekiben schema bento";

/// Print the JSON Schema of a kind of file, for editors and other programs
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which kind.
    #[arg(value_name = "NAME", value_parser = kind())]
    kind: Kind,
}

fn kind() -> impl clap::builder::TypedValueParser<Value = Kind> {
    use clap::builder::TypedValueParser as _;
    clap::builder::PossibleValuesParser::new(Kind::ALL.map(Kind::name))
        // Only names of kinds come here.
        .map(|name| Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(Kind::Manifest))
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    context.printer.raw(args.kind.text().as_bytes())?;
    Ok(Exit::Success)
}
