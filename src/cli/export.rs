//! `ekiben export`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::printer::{Report, Size};
use super::{Context, Exit, Failure, completions};
use crate::build::workflow;
use crate::bundle::Form;
use crate::image::registry;
use crate::image::store::{ImageName, ImageQuery, ImageRecord};
use crate::image::{Image, export};
use crate::io::digest::Digest;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben export iris:1.0 iris.tar && docker load -i iris.tar\n\
\x20 ekiben export iris:1.0 - | podman load\n\
\x20 ekiben export iris:1.0 iris.tar && ctr -n k8s.io images import iris.tar\n\
\x20 ekiben export iris:1.0 layout/ && skopeo inspect oci:layout\n\
\x20 ekiben export iris:1.0 --bento iris.bento && bentoml import iris.bento";

/// Write an image as files that other tools read
///
/// A path that ends in `.tar` (or `-`, for stdout) becomes one archive, which is an OCI archive and a docker archive
/// at once. Any other path becomes a folder, an OCI image layout. In both the image's name is written as containerd and
/// a kubelet look for it: docker.io/library/NAME:TAG for one without a host. With `--bento` the image becomes the bento again that
/// it was built from, which `bentoml import` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image, by its name in the local store.
    #[arg(add = completions::images())]
    image: ImageQuery,
    /// Where to write: a folder, a `.tar`, or `-`.
    path: PathBuf,
    /// Write the bento that the image was built from.
    #[arg(long)]
    bento: bool,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Exported {
    image: ImageName,
    digest: Digest,
    path: PathBuf,
    size: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let record = workflow::find(&session.store, &args.image)?;
    let (ImageRecord { name, digest, .. }, image) = Image::handed_on(&session, record)?;
    registry::fetch(&session, image.layers())?;
    let Args { path, bento, force, .. } = args;
    if bento {
        if path.exists() && !force {
            return Err(crate::image::Error::Exists { path }.into());
        }
        let bundle = crate::bundle::extract::of_image(&session, &image)?;
        let size = bundle.pack(&session, Form::Bento, &path)?;
        context.printer.report(&Exported { image: name, digest, path, size })?;
        return Ok(Exit::Success);
    }
    if path == Path::new("-") {
        let out = io::BufWriter::with_capacity(1 << 20, context.printer.stdout());
        export::to_archive(&session.store, &session.progress, &image, Some(&name), out)?.flush()?;
        return Ok(Exit::Success);
    }
    if path.extension().is_some_and(|extension| extension == "tar") {
        if path.exists() && !force {
            return Err(crate::image::Error::Exists { path }.into());
        }
        crate::io::atomic::write(&path, |file| {
            export::to_archive(&session.store, &session.progress, &image, Some(&name), file).map(drop)
        })?;
    } else {
        export::to_folder(&session.store, &session.progress, &image, Some(&name), &path)?;
    }
    context.printer.report(&Exported { image: name, digest, path, size: image.size() })?;
    Ok(Exit::Success)
}

impl Report for Exported {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} ({})", self.path.display(), Size(self.size))
    }
}
