//! Bringing the packages of a lock into the store.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, Package, Source, joined};
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::progress::{Task, Unit};

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
    if session.store.cached::<()>(KIND, &key).is_none() {
        session.store.cache(KIND, &key, (), blobs)?;
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

#[cfg(test)]
mod tests {
    use super::super::Archive;
    use super::super::testing::{Mirror, serve, session};
    use super::*;
    use crate::io::explain::Explain as _;
    use crate::io::http::Network;

    #[test]
    fn packages_come_into_the_store_and_stay_there_offline() {
        let mut mirror = Mirror::new();
        let packages = [mirror.add("a", "1", ""), mirror.add("b", "1", "")];
        let root = serve(mirror.folder(Archive::Main).parent().unwrap());
        let source = Source::of(&format!("{root}/debian"), None, mirror.keyring());
        let home = tempfile::tempdir().unwrap();
        let offline = fetch(&session(home.path(), Network::Offline), &source, &packages);
        assert!(matches!(offline, Err(Error::Fetch(crate::image::download::Error::Offline { .. }))));
        let online = session(home.path(), Network::Online);
        fetch(&online, &source, &packages).unwrap();
        let (reach, purpose) = (crate::image::store::Reach::Unused, crate::image::store::Purpose::Remove);
        online.store.prune(reach, &|| Ok(Default::default()), purpose, &online.progress).unwrap();
        drop(online);
        fetch(&session(home.path(), Network::Offline), &source, &packages).unwrap();
    }

    #[test]
    fn a_package_that_is_gone_is_looked_for_in_the_snapshot() {
        let mut mirror = Mirror::new();
        let mut packages = vec![mirror.add("a", "1.2-3", "")];
        packages.push(mirror.add_deb(Archive::Security, "s", "1", "", "", &[]));
        let old = Mirror::new();
        for archive in [Archive::Main, Archive::Security] {
            fs_err::rename(mirror.folder(archive), old.folder(archive)).unwrap();
        }
        let home = tempfile::tempdir().unwrap();
        let session = session(home.path(), Network::Online);
        let root = serve(mirror.folder(Archive::Main).parent().unwrap());
        let url = format!("{root}/debian");
        let error = fetch(&session, &Source::of(&url, None, mirror.keyring()), &packages[..1]).unwrap_err();
        assert_eq!(error.to_string(), format!("the package a 1.2-3 of the lock is gone from {url}"));
        let hint = error.explain().hint.unwrap();
        assert!(hint.contains("`ekiben lock --update` moves on") && hint.contains("debian.snapshot"), "{hint}");
        let snapshot = format!("file://{}", old.folder(Archive::Main).display());
        fetch(&session, &Source::of(&url, Some(&snapshot), mirror.keyring()), &packages).unwrap();
        assert!(packages.iter().all(|package| session.store.has_blob(&package.digest)));
    }

    #[test]
    fn other_bytes_than_the_lock_names_are_refused() {
        let mut mirror = Mirror::new();
        let package = mirror.add("a", "1", "");
        fs_err::write(mirror.folder(Archive::Main).join(package.file.as_str()), vec![7; package.size as usize])
            .unwrap();
        let home = tempfile::tempdir().unwrap();
        let session = session(home.path(), Network::Online);
        let error = fetch(&session, &mirror.source(None), std::slice::from_ref(&package)).unwrap_err();
        assert!(matches!(error, Error::Fetch(crate::image::download::Error::Keep { .. })), "{error:?}");
        assert!(!session.store.has_blob(&package.digest));
    }
}
