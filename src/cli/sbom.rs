//! `ekiben sbom`

use std::io::Write as _;
use std::path::PathBuf;

use super::inputs::Inputs;
use super::printer::{NAME, dim_time};
use super::{Context, Exit, Failure, completions};
use crate::build::{inventory, workflow};
use crate::formats::sbom;
use crate::image::oci::platform::Platform;
use crate::io::atomic;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben sbom iris:1.0 -o iris.spdx.json\n\
\x20 ekiben sbom --format cyclonedx . | jq '.components[].purl'\n\
\x20 ekiben sbom registry.example/iris:1.0 --platform linux/arm64";

/// List all that is in an image as SPDX or CycloneDX: packages, licences, the model, files, commands
///
/// A project, a bundle or a bento is built for it, as `ekiben build` does. An image that is not in the local store is fetched from
/// its registry. The same image gives the same bytes on any machine: times are the image's, identifiers follow from digests.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// What is written.
    #[arg(long, value_enum, default_value = "spdx")]
    format: Format,
    /// Where to; without it, to stdout.
    #[arg(long, short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which image of several.
    #[arg(long, add = completions::platforms())]
    platform: Option<Platform>,
}

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// SPDX 2.3 as JSON.
    Spdx,
    /// CycloneDX 1.6 as JSON.
    Cyclonedx,
}

impl From<Format> for sbom::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Spdx => Self::Spdx,
            Format::Cyclonedx => Self::CycloneDx,
        }
    }
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let request = args.inputs.request(context)?;
    let image = workflow::whole(&session, request, args.platform, context)?;
    let started = std::time::Instant::now();
    let inventory = inventory::of(&session, &image)?;
    let format = sbom::Format::from(args.format);
    let text = inventory.text(format);
    match &args.file {
        Some(path) => atomic::write(path, |file| file.write_all(text.as_bytes()))?,
        None => context.printer.raw(text.as_bytes())?,
    }
    let files = inventory.files.len() + inventory.model.as_ref().map_or(0, |model| model.files.len());
    let (packages, time) = (inventory.packages.len(), dim_time(started.elapsed()));
    context.printer.status(
        "Listed",
        format!(
            "{packages} package{} and {files} file{} of {NAME}{}{NAME:#} as {format} {time}",
            plural(packages),
            plural(files),
            inventory.name
        ),
    );
    Ok(Exit::Success)
}

fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
