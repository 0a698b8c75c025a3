//! An index: the same image for several platforms. OCI image specification 1.1, `image-index.md`.

use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType};

use super::{Error, Image, descriptor, document, invalid};
use crate::image::oci::platform::Platform;
use crate::image::registry;
use crate::image::store::Store;
use crate::io::digest::Digest;

/// Puts an index of `images` into the store, and gives its descriptor. The same images give the same bytes, whatever
/// their order.
///
/// # Errors
/// When the store cannot be written.
pub fn save(store: &Store, images: &[Image]) -> Result<(Digest, Descriptor), Error> {
    let mut images: Vec<_> = images.iter().collect();
    images.sort_by_key(|image| image.platform());
    let manifests = images.iter().map(|image| Ok(image.save(store)?.1)).collect::<Result<Vec<_>, Error>>()?;
    let mut index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(invalid)?;
    // What all of them say is said of the index too.
    if let Some((first, others)) = images.split_first() {
        let mut shared = first.annotations().clone();
        shared.retain(|key, value| others.iter().all(|image| image.annotations().get(key) == Some(value)));
        index.set_annotations((!shared.is_empty()).then(|| shared.into_iter().collect()));
    }
    let bytes = document(&index)?;
    let digest = store.put_bytes(&bytes)?;
    Ok((digest, descriptor(MediaType::ImageIndex, digest, bytes.len() as u64)?))
}

/// The image of an index for this machine, or else its first. What is said about an image, as buildkit puts it beside
/// it, is none.
pub(super) fn choose(index: &ImageIndex) -> Option<Digest> {
    let is_about = |descriptor: &Descriptor| {
        descriptor.annotations().as_ref().is_some_and(|all| all.contains_key(registry::ABOUT))
    };
    let host = Platform::host().map(|host| host.to_string()).unwrap_or_default();
    let here = |descriptor: &&Descriptor| {
        descriptor.platform().as_ref().is_some_and(|p| format!("{}/{}", p.os(), p.architecture()) == host)
    };
    let images = || index.manifests().iter().filter(|descriptor| !is_about(descriptor));
    let chosen = images().find(here).or_else(|| images().next())?;
    chosen.digest().as_ref().parse().ok()
}
