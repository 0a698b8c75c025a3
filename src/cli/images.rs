//! `ekiben images`

use std::io::{self, Write};

use serde::Serialize;

use super::printer::{Report, Size, Table, for_people, moment};
use super::{Context, Exit, Failure};
use crate::image::Image;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::io::digest::Digest;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben images\n\
\x20 ekiben images --output json\n\
\x20 ekiben images --remove iris:1.0     `ekiben prune` then frees the space";

/// List the images in the local store, or take their names away
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Take the name away from this image; may be repeated.
    #[arg(long, value_name = "NAME")]
    remove: Vec<ImageName>,
}

#[derive(Serialize)]
struct Images {
    images: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: ImageName,
    /// None where layers are to be compressed yet: then nobody knows it.
    digest: Option<Digest>,
    platform: Platform,
    layers: usize,
    /// Bytes of its layers as a registry gets them; known when they are compressed.
    size: Option<u64>,
    /// When it got its name, in seconds since 1970.
    named: Option<u64>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    if !args.remove.is_empty() {
        let store = context.session()?.store;
        for name in &args.remove {
            store.untag(name)?;
            context.printer.status("Removed", name.to_string());
        }
        return Ok(Exit::Success);
    }
    let mut images = Vec::new();
    let Some(Session { store, .. }) = context.session_if_any()? else {
        context.printer.report(&Images { images })?;
        return Ok(Exit::Success);
    };
    for record in store.images()? {
        let image = Image::of_record(&store, &record)?;
        let (platform, layers) = (image.platform(), image.layers().len());
        let (digest, size) = if record.is_draft() { (None, None) } else { (Some(record.digest), Some(image.size())) };
        let named = record.named();
        images.push(Row { name: record.name, digest, platform, layers, size, named });
    }
    context.printer.report(&Images { images })?;
    Ok(Exit::Success)
}

impl Report for Images {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.images.is_empty() && for_people() {
            return writeln!(out, "no images yet: `ekiben build` makes one");
        }
        let rows = self.images.iter().map(|image| {
            let Row { name, digest, platform, layers, size, named } = image;
            let named = named.map(moment).unwrap_or_default();
            let digest = digest.map_or_else(|| "not compressed yet".to_owned(), |digest| digest.short());
            [
                name.to_string(),
                size.map_or_else(|| "-".to_owned(), |size| Size(size).to_string()),
                layers.to_string(),
                platform.to_string(),
                named,
                digest,
            ]
        });
        let headings = ["NAME", "SIZE", "LAYERS", "PLATFORM", "NAMED", "DIGEST"];
        Table { headings, rows: rows.collect() }.write(out)
    }
}
