//! Where blobs are: layers of the store whose bytes are still in a registry, and repositories that have a blob which
//! others can mount.

use super::Error;
use super::reference::Reference;
use super::registries::Registries;
use super::repository::Repository;
use crate::image::layer;
use crate::image::session::Session;
use crate::io::digest::Digest;

/// The repository that a blob is still to be fetched from; none when its bytes are here, or made here.
pub(super) fn origin(session: &Session, registries: &Registries, digest: &Digest) -> Result<Option<Repository>, Error> {
    let Some(origin) = layer::origin(&session.store, digest)? else { return Ok(None) };
    let reference: Reference = origin.parse().map_err(std::io::Error::other)?;
    Ok(Some(registries.repository(&reference)))
}

fn key(registry: &str, digest: &Digest) -> Digest {
    Digest::of(format!("{registry} {digest}"))
}

/// A repository of `registry` that had the blob when it was last looked at.
pub(super) fn known(session: &Session, registry: &str, digest: &Digest) -> Vec<String> {
    session.store.cached::<String>("places", &key(registry, digest)).into_iter().collect()
}

/// Remembers that `repository` has the blob.
pub(super) fn note(session: &Session, repository: &Repository, digest: &Digest) -> Result<(), Error> {
    if known(session, repository.registry(), digest).is_empty() {
        let key = key(repository.registry(), digest);
        session.store.cache("places", &key, repository.name(), Vec::new())?;
    }
    Ok(())
}
