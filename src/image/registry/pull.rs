//! Getting an image out of a repository.
//!
//! Invariant: what lands in the store is verified against its digest, every byte.

use super::push::{at_once, stored};
use super::reference::Reference;
use super::registries::Registries;
use super::{Error, mounts};
use crate::image::layer::Layer;
use crate::image::oci::platform::Platform;
use crate::image::oci::{self, Content, Descriptor, Document, Index, Manifest};
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::progress::Unit;

/// An image as a registry has it: its documents are in the store, its layers need not be.
#[derive(Clone, Debug)]
pub struct Found {
    /// The image for one platform.
    pub manifest: Document,
    /// Of what the reference names, an index maybe.
    pub digest: Digest,
}

/// Fetches manifest and configuration of the image for `platform`, and no layer. Of a manifest that is named by digest
/// and is in the store, the registry is asked whether it has it and shows it to whoever asks, and nothing is sent.
///
/// With `--offline` such a manifest is taken as it is here, and a warning says so.
///
/// # Errors
/// When there is no such image, nothing for the platform, or the registry sends something else or refuses.
pub fn find(
    session: &Session,
    registries: &Registries,
    reference: &Reference,
    platform: Platform,
) -> Result<Found, Error> {
    let repository = registries.repository(reference);
    let fetch = |wanted: &str| {
        let here = wanted.parse::<Digest>().ok().filter(|digest| session.store.has_blob(digest));
        let Some(manifest) = here.map(|digest| stored(session, &digest)).transpose()? else {
            let manifest = repository.manifest(wanted)?;
            session.store.put_bytes(&manifest.bytes)?;
            return Ok(manifest);
        };
        if session.client.is_offline() {
            let why = "it is taken from the local store, and its registry was not asked (--offline)";
            session.progress.warn(format!("{}: {why}", reference.at(manifest.digest)));
        } else if repository.head(wanted)? != Some(manifest.digest) {
            // That the bytes are here says nothing of what is there, nor of who may have it.
            return Err(Error::NotFound { reference: reference.at(manifest.digest).to_string() });
        }
        Ok(manifest)
    };
    let top = fetch(&reference.wanted())?;
    let digest = top.digest;
    let manifest = match &top.content {
        Content::Image(_) => top,
        Content::Index(index) => fetch(&choose(index, platform, reference)?.digest.to_string())?,
    };
    let Content::Image(Manifest { config, layers, artifact_type, .. }) = &manifest.content else {
        return Err(Error::NoImage { digest: manifest.digest });
    };
    // Old images have other configurations, and what says of itself what it is has none.
    let is_said = || artifact_type.is_some() || config.media_type.as_str().starts_with("application/vnd.");
    if !config.media_type.is_configuration() && is_said() {
        return Err(Error::NoImage { digest: manifest.digest });
    }
    if config.size > oci::LARGEST {
        let why = format!("its configuration has {} bytes", config.size);
        return Err(Error::Protocol { url: reference.to_string(), why });
    }
    if !session.store.has_blob(&config.digest) {
        let mut blob = repository.blob(config.digest, config.size, 0);
        put(session, &mut blob, &config.digest, config.size, reference)?;
    }
    for layer in layers {
        crate::image::layer::keep_origin(&session.store, &layer.digest, &reference.place())?;
    }
    for blob in manifest.blobs() {
        mounts::note(session, &repository, &blob.digest)?;
    }
    Ok(Found { manifest, digest })
}

/// The image for `platform` of the index that `reference` names.
fn choose<'a>(index: &'a Index, platform: Platform, reference: &Reference) -> Result<&'a Descriptor, Error> {
    index.choose(platform).ok_or_else(|| {
        let named = index.manifests.iter().filter_map(|child| Some(child.platform.as_ref()?.to_string()));
        let has = named.filter(|platform| platform != "unknown/unknown").collect();
        Error::NoPlatform { reference: reference.to_string(), wanted: platform, has }
    })
}

/// Whether the layer is in the store, or in one of `repositories`, from which it can be fetched then. A registry that does not
/// answer has none.
///
/// # Errors
/// When the store cannot be written.
pub fn find_layer(session: &Session, layer: &Layer, repositories: &[Reference]) -> Result<bool, Error> {
    if session.store.has_content(&layer.digest) {
        return Ok(true);
    }
    let registries = Registries::new(session);
    for reference in repositories {
        let repository = registries.repository(reference);
        match repository.offers(&layer.digest) {
            Ok(false) => {}
            Ok(true) => {
                crate::image::layer::keep_origin(&session.store, &layer.digest, &reference.place())?;
                mounts::note(session, &repository, &layer.digest)?;
                return Ok(true);
            }
            Err(error) => session.progress.warn(format!("no layers are taken from {}: {error}", reference.place())),
        }
    }
    Ok(false)
}

/// Downloads those of `layers` whose bytes are still in a registry.
///
/// # Errors
/// When a registry does not have them any more, or sends something else; what is whole stays.
pub fn fetch(session: &Session, layers: &[Layer]) -> Result<(), Error> {
    let mut missing = Vec::new();
    for layer in layers {
        if !missing.iter().any(|(known, _): &(&Layer, _)| known.digest == layer.digest)
            && let Some(origin) = crate::image::layer::origin(&session.store, &layer.digest)?
        {
            missing.push((layer, origin));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let registries = Registries::new(session);
    missing.sort_by_key(|(layer, _)| std::cmp::Reverse(layer.size));
    let (count, bytes) = (missing.len(), missing.iter().map(|(layer, _)| layer.size).sum());
    let task = session.progress.task("Pulling", format!("{count} layers"), Unit::Bytes, Some(bytes));
    at_once(missing, |(layer, origin)| {
        let reference: Reference = origin.parse().map_err(std::io::Error::other)?;
        let blob = registries.repository(&reference).blob(layer.digest, layer.size, 0);
        put(session, &mut task.reading(blob), &layer.digest, layer.size, &reference)
    })?;
    task.finish(format!("Pulled {count} layers, {} MB", bytes / 1_000_000));
    Ok(())
}

/// Keeps a blob, if it is what was promised.
fn put(
    session: &Session,
    blob: &mut dyn std::io::Read,
    digest: &Digest,
    size: u64,
    from: &Reference,
) -> Result<(), Error> {
    let Some(_alone) = session.store.fetching(digest, size, &session.progress)? else { return Ok(()) };
    session.store.put_blob(blob, digest, size).map_err(|error| match error {
        crate::image::store::Error::Mismatch(source) => Error::Wrong { url: from.at(*digest).to_string(), source },
        crate::image::store::Error::Io(error) => Error::from_io(error),
        error => error.into(),
    })
}
