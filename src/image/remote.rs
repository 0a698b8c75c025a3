//! An image in a registry, as an image here.

use super::{Error, Image};
use crate::image::oci::platform::Platform;
use crate::image::registry::{self, Reference, Registries};
use crate::image::session::Session;
use crate::io::digest::Digest;

/// The image `reference` for `platform`, and the digest of what the reference names (an index, maybe). Its layers
/// stay where they are until [`pull`], or somebody who needs them, fetches them.
///
/// # Errors
/// When the registry has no such image, or nothing for the platform.
pub fn find(session: &Session, reference: &Reference, platform: Platform) -> Result<(Digest, Image), Error> {
    let found = registry::find(session, &Registries::new(session), reference, platform)?;
    Ok((found.digest, Image::load(&session.store, &found.manifest.digest)?))
}

/// As [`find`], with all layers.
///
/// # Errors
/// As [`find`], and when a layer cannot be had. Always with `--offline`: that an image is here does not say that the
/// registry has it.
pub fn pull(session: &Session, reference: &Reference, platform: Platform) -> Result<(Digest, Image), Error> {
    if session.client.is_offline() {
        return Err(registry::Error::Offline { url: reference.to_string() }.into());
    }
    let (digest, image) = find(session, reference, platform)?;
    registry::fetch(session, image.layers())?;
    Ok((digest, image))
}
