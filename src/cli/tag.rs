//! `ekiben tag`

use super::printer::NAME;
use super::{Context, Exit, Failure, completions};
use crate::build::workflow;
use crate::image::Image;
use crate::image::store::{ImageName, ImageQuery};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben tag iris:1.0 registry.example/iris:1.0";

/// Give an image in the local store another name
///
/// The image keeps its old name. For another tag in a registry use `ekiben copy`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image, by its name in the local store. Without a tag: `latest`, the version of the project here, or the only
    /// one.
    #[arg(add = completions::images())]
    image: ImageQuery,
    /// What it is called too.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ImageName>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let record = workflow::find(&session.store, &args.image)?;
    let descriptor = Image::handed_on(&session, record)?.0.descriptor;
    for name in &args.names {
        session.store.tag(name, descriptor.clone())?;
        context.printer.status("Tagged", format!("{NAME}{name}{NAME:#}"));
    }
    Ok(Exit::Success)
}
