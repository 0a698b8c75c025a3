//! Getting an image into a repository, from the store or from another repository.
//!
//! Invariant: a manifest is put only when all that it names is there, so that a tag never points at something
//! incomplete. Blobs stream from where they lie, several at once, large ones first.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Mutex;

use serde::Serialize;

use super::reference::Reference;
use super::registries::Registries;
use super::repository::Repository;
use super::upload::{Outcome, upload};
use super::{Error, lock, mounts};
use crate::image::layer::Layer;
use crate::image::oci::{self, Content, Descriptor, Document};
use crate::image::session::Session;
use crate::io::compress::Compression;
use crate::io::digest::Digest;
use crate::io::explain::carry;
use crate::io::progress::{Task, Unit};

/// Blobs that move at the same time: more does not make one connection's hashing faster, and registries count.
pub(super) const AT_ONCE: usize = 4;

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Where the image is now.
    pub reference: Reference,
    /// Of its manifest or index.
    pub digest: Digest,
    /// Bytes of blobs that were sent.
    pub sent: u64,
    /// Bytes of blobs that were there, or came from another repository.
    pub spared: u64,
}

/// Where manifests and blobs come from.
enum Source<'a> {
    Store(&'a Session, &'a Registries),
    Repository(Repository),
}

/// Pushes the image or index with the digest `digest` from the store to `to`.
///
/// # Errors
/// When something of it cannot be had, or the registry does not take it. Then the tag is as it was.
pub fn push(session: &Session, registries: &Registries, digest: &Digest, to: &Reference) -> Result<Pushed, Error> {
    transfer(session, registries, &Source::Store(session, registries), &digest.to_string(), to)
}

/// Copies the image or index `from` to `to`, through this machine but not into its store.
///
/// # Errors
/// As [`push`].
pub fn copy(session: &Session, registries: &Registries, from: &Reference, to: &Reference) -> Result<Pushed, Error> {
    transfer(session, registries, &Source::Repository(registries.repository(from)), &from.wanted(), to)
}

fn transfer(
    session: &Session,
    registries: &Registries,
    source: &Source<'_>,
    wanted: &str,
    to: &Reference,
) -> Result<Pushed, Error> {
    let target = registries.repository(to);
    let manifest = source.manifest(wanted)?;
    let mut pushed = Pushed { reference: to.clone(), digest: manifest.digest, sent: 0, spared: 0 };
    let name = to.wanted();
    if let Some(digest) = to.digest().filter(|digest| *digest != manifest.digest) {
        let why = format!("the image to be pushed is {}, not {digest}", manifest.digest);
        return Err(Error::Protocol { url: to.to_string(), why });
    }
    if target.head_to_push(&name)? == Some(manifest.digest) {
        pushed.spared = source.images(&manifest)?.iter().flat_map(Document::blobs).map(|link| link.size).sum();
        return Ok(pushed);
    }
    let images = source.images(&manifest)?;
    let mut blobs: Vec<Descriptor> = Vec::new();
    for link in images.iter().flat_map(Document::blobs) {
        if !blobs.iter().any(|known| known.digest == link.digest) {
            blobs.push(link);
        }
    }
    blobs.sort_by_key(|link| std::cmp::Reverse(link.size));
    let bytes = blobs.iter().map(|link| link.size).sum();
    let task = session.progress.task("Pushing", to.to_string(), Unit::Bytes, Some(bytes));
    let outcomes = at_once(blobs, |link| Ok((link.size, source.send(session, &target, &link, &task)?)))?;
    for (size, outcome) in outcomes {
        match outcome {
            Outcome::Sent => pushed.sent += size,
            Outcome::Present | Outcome::Mounted => pushed.spared += size,
        }
    }
    if let Content::Index(_) = manifest.content {
        for image in &images {
            target.put_manifest(&image.digest.to_string(), image)?;
        }
    }
    target.put_manifest(&name, &manifest)?;
    Ok(pushed)
}

/// Does `work` on all items, a few at the same time, in order. After an error nothing new is begun.
pub(super) fn at_once<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let workers = items.len().min(AT_ONCE);
    let queue = Mutex::new(VecDeque::from(items));
    let worker = || {
        let mut done = Vec::new();
        loop {
            let Some(item) = lock(&queue).pop_front() else { return Ok(done) };
            match work(item) {
                Ok(result) => done.push(result),
                Err(error) => {
                    lock(&queue).clear();
                    return Err(error);
                }
            }
        }
    };
    let results: Result<Vec<_>, Error> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    });
    Ok(results?.into_iter().flatten().collect())
}

impl Source<'_> {
    fn manifest(&self, wanted: &str) -> Result<Document, Error> {
        match self {
            Self::Store(session, _) => {
                let digest = wanted.parse().map_err(|error| std::io::Error::other(format!("{error}")))?;
                stored(session, &digest)
            }
            Self::Repository(repository) => repository.manifest(wanted),
        }
    }

    /// The manifests of the images: `manifest` itself, or the children of an index.
    fn images(&self, manifest: &Document) -> Result<Vec<Document>, Error> {
        let Content::Index(index) = &manifest.content else { return Ok(vec![manifest.clone()]) };
        let read = |digest: &Digest| {
            let image = self.manifest(&digest.to_string())?;
            // Indexes of indexes are allowed, but nobody makes them.
            match image.content {
                Content::Image(_) => Ok(image),
                Content::Index(_) => Err(Error::NoImage { digest: *digest }),
            }
        };
        index.manifests.iter().map(|child| read(&child.digest)).collect()
    }

    /// Gets one blob to `target`.
    fn send(&self, session: &Session, target: &Repository, link: &Descriptor, task: &Task) -> Result<Outcome, Error> {
        let advance = |bytes| task.advance(bytes);
        let origin = match self {
            Self::Repository(repository) => Some(repository.clone()),
            Self::Store(session, registries) => mounts::origin(session, registries, &link.digest)?,
        };
        let mut mounts = mounts::known(session, target.registry(), &link.digest);
        mounts
            .extend(origin.iter().filter(|origin| origin.registry() == target.registry()).map(|o| o.name().to_owned()));
        mounts.retain(|name| name != target.name());
        mounts.dedup();
        let here = origin.is_none();
        let outcome = upload(
            target,
            link,
            &mounts,
            Box::new(move |from| match &origin {
                Some(origin) => Ok(Box::new(origin.blob(link.digest, link.size, from))),
                None => {
                    // The registry hashes what it gets; to do so here as well would do the work twice.
                    let reader = layer(link).open_unverified(&session.store);
                    let mut reader = reader.map_err(|error| carry(Error::from(error)))?;
                    std::io::copy(&mut (&mut reader).take(from), &mut std::io::sink())?;
                    Ok(reader)
                }
            }),
            &advance,
        );
        let outcome = match outcome {
            // If it is not the bytes that it should be, the reason is here.
            Err(error @ Error::Status { status: 400, .. }) if here => {
                let mut reader = layer(link).open(&session.store)?;
                std::io::copy(&mut reader, &mut std::io::sink()).map_err(Error::from_io)?;
                return Err(error);
            }
            outcome => outcome?,
        };
        mounts::note(session, target, &link.digest)?;
        Ok(outcome)
    }
}

/// A manifest of the store.
pub(super) fn stored(session: &Session, digest: &Digest) -> Result<Document, Error> {
    let bytes = session.store.read_blob(digest, oci::LARGEST)?;
    Document::read(bytes, None).map_err(|error| Error::Protocol { url: digest.to_string(), why: error.to_string() })
}

/// A blob of the store, or what a recipe makes.
fn layer(link: &Descriptor) -> Layer {
    Layer {
        compression: Compression::None,
        digest: link.digest,
        size: link.size,
        diff_id: link.digest,
        title: String::new(),
        pending: None,
    }
}
