//! Bringing the packages of a lock into the store.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, Package, Source, joined};
use crate::digest::Digest;
use crate::progress::{Task, Unit};
use crate::session::Session;

/// Downloads at a time. More of them do not make a mirror faster.
const AT_ONCE: usize = 8;

/// Brings `packages` into the store, verified, and remembers that they are wanted there. What is there is not asked for.
///
/// # Errors
/// [`Error::Gone`] when a package is neither at the mirror nor in the snapshot archive; else what downloading says.
/// What came until then stays in the store, so that the next try goes on from there.
pub fn fetch(session: &Session, source: &Source, packages: &[Package]) -> Result<(), Error> {
    let missing: Vec<_> = packages.iter().filter(|package| !session.store.has_blob(&package.digest)).collect();
    if !missing.is_empty() {
        let subject = format!("{} Debian packages", missing.len());
        let bytes = missing.iter().map(|package| package.size).sum();
        let task = session.progress.task("Downloading", subject.as_str(), Unit::Bytes, Some(bytes));
        let (queue, failed) = (Mutex::new(missing.into_iter()), AtomicBool::new(false));
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
                let Some(package) = next.filter(|_| !failed.load(Ordering::Relaxed)) else { return Ok(()) };
                fetch_one(session, source, package, &task).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
        };
        std::thread::scope(|scope| joined((0..AT_ONCE).map(|_| scope.spawn(work))))?;
        task.finish(format!("Downloaded {subject}"));
    }
    let blobs: Vec<_> = packages.iter().map(|package| package.digest).collect();
    let key = Digest::of(blobs.iter().map(Digest::to_string).collect::<String>());
    const KIND: &str = "debian-packages";
    if session.store.recall::<()>(KIND, &key).is_none() {
        session.store.remember(KIND, &key, (), blobs)?;
    }
    Ok(())
}

fn fetch_one(session: &Session, source: &Source, package: &Package, task: &Task) -> Result<(), Error> {
    let mut tried = Vec::new();
    for root in source.roots(package.archive) {
        if root.blob(session, package.file.as_str(), &package.digest, package.size, task)? {
            return Ok(());
        }
        tried.push(root.as_str().to_owned());
    }
    Err(Error::Gone { package: package.name.clone(), version: package.version.clone(), tried })
}
