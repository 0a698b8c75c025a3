//! `ekiben rmi`

use super::{Context, Exit, Failure, completions};
use crate::build::workflow;
use crate::image::store::{Error, ImageQuery};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben rmi iris:1.0        `ekiben prune` then frees the space";

/// Remove images from the local store
///
/// The names go at once; layers that no other image needs go with the next `ekiben prune`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Names of images. Without a tag: `latest`, the version of the project here, or the only one.
    #[arg(required = true, value_name = "NAME", add = completions::images())]
    names: Vec<ImageQuery>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let store = context.session()?.store;
    let find = |query: &ImageQuery| workflow::find(&store, query);
    let images = args.names.iter().map(find).collect::<Result<Vec<_>, Error>>()?;
    for image in images {
        store.untag(&image.name)?;
        context.printer.status("Removed", image.name.to_string());
    }
    Ok(Exit::Success)
}
