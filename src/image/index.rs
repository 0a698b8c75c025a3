//! An index: the same image for several platforms. OCI image specification 1.1, `image-index.md`.

use super::oci::{Descriptor, Index, MediaType};
use super::{Error, Image};
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
    let mut index = Index { manifests, ..Index::default() };
    // What all of them say is said of the index too.
    if let Some((first, others)) = images.split_first() {
        let mut shared = first.annotations().clone();
        shared.retain(|key, value| others.iter().all(|image| image.annotations().get(key) == Some(value)));
        index.annotations = shared;
    }
    let bytes = index.write();
    Ok((store.put_bytes(&bytes)?, Descriptor::of(MediaType::Index, &bytes)))
}
