//! `ekiben pull`

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

use super::policy::PolicyArgs;
use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure, completions, push};
use crate::image::oci::platform::Platform;
use crate::image::policy::Name;
use crate::image::registry::{Reference, Registries};
use crate::image::remote;
use crate::image::sign::Place;
use crate::image::store::ImageName;
use crate::io::digest::Digest;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben pull registry.example/iris:1.0\n\
\x20 ekiben pull docker.io/library/python:3.11-slim --platform linux/arm64\n\
\x20 ekiben pull registry.example/iris:1.0 --policy ekiben-policy.yaml";

/// Pull an image from a registry into the local store; every byte is verified
///
/// Prints the digest of the image for the platform. The registry is always asked, by digest too; layers that are here are
/// not fetched again, and a broken download goes on where it stopped.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image: HOST/REPOSITORY, with :TAG or @DIGEST. Without a host, Docker Hub's.
    #[arg(value_name = "REF", add = completions::images())]
    reference: String,
    /// Which image of several: linux/amd64 or linux/arm64. Without it, this machine's.
    #[arg(long, add = completions::platforms())]
    platform: Option<Platform>,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Serialize)]
struct Pulled {
    name: ImageName,
    digest: Digest,
    /// Of what the reference names: the index, where there is one.
    named: Digest,
    platform: Platform,
    size: u64,
    layers: usize,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let started = Instant::now();
    let (reference, name) = parse(&args.reference)?;
    let session = context.session()?;
    let platform = args.platform.map_or_else(Platform::host, Ok)?;
    let gate = args.policy.gate(context)?;
    let mut wanted = reference.clone();
    if let Some(gate) = &gate {
        let (named, image) = remote::find(&session, &reference, platform)?;
        let digest = image.save(&session.store)?.0;
        let place = Place::Registry(Registries::new(&session).repository(&reference));
        gate.judge(&session, &Name::Registry(reference.clone()), &place, &[named, digest], Some(&image))?;
        // What was judged is pulled, whatever the tag is by now.
        wanted = reference.at(named);
    }
    let (named, image) = remote::pull(&session, &wanted, platform)?;
    let (digest, descriptor) = image.save(&session.store)?;
    session.store.tag(&name, descriptor)?;
    if gate.is_some() {
        let place = Place::Registry(Registries::new(&session).repository(&reference));
        push::take_along(context, &place, &Place::Store(session.store.clone()), &[named, digest])?;
    }
    let (size, layers) = (image.size(), image.layers().len());
    let text = format!("{NAME}{name}{NAME:#} {layers} layers, {} {}", Size(size), dim_time(started.elapsed()));
    context.printer.status("Pulled", text);
    context.printer.report(&Pulled { name, digest, named, platform: image.platform(), size, layers })?;
    Ok(Exit::Success)
}

/// A reference, and what the image is called here.
pub fn parse(text: &str) -> Result<(Reference, ImageName), Failure> {
    Ok((text.parse()?, Reference::local_name(text)?))
}

impl Report for Pulled {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
