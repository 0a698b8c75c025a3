//! What a build would fetch, inside the bundle: put there by `ekiben pack --vendor`, taken out by whoever builds it.
//!
//! Invariants: each file is known by a digest that the lock names, or this version of Ekiben (uv), and is verified against that,
//! whatever the bundle says of it. None of it is part of the bundle's own digest: the image is the same with it and without.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use fs_err as fs;

use super::Error;
use super::input::Input;
use crate::base::python::{self, StandIn, Uv};
use crate::base::{self, LockedBase};
use crate::bundle::{self, Bundle, VENDOR};
use crate::image;
use crate::image::layer;
use crate::image::oci::platform::Platform;
use crate::image::oci::{self, Document};
use crate::image::session::Session;
use crate::io::archive::ArchivePath;
use crate::io::content::{Content, Opener};
use crate::io::digest::Digest;
use crate::io::progress::Unit;
use crate::project::lock::LockedPlatform;

/// The kinds of files, each in a folder of its own.
enum Kind {
    /// Debian packages, and the blobs of images.
    Base,
    Wheel,
    Uv,
}

impl Kind {
    fn place(&self, name: &str) -> io::Result<ArchivePath> {
        let folder = match self {
            Self::Base => "base",
            Self::Wheel => "wheels",
            Self::Uv => "uv",
        };
        ArchivePath::relative(format!("{VENDOR}/{folder}/{name}")).map_err(io::Error::other)
    }
}

/// Puts all that a build of the bundle would fetch into it, for each platform of its lock.
///
/// # Errors
/// When something is gone, or the network off and it is not here.
pub fn add(session: &Session, input: &mut Input) -> Result<(), Error> {
    let user = input.bundle.convention().user();
    let add = |bundle: &mut Bundle, kind: Kind, name: &str, digest: Digest| {
        let content = Content::file(&session.store.blob_path(&digest)).map_err(bundle::Error::from)?;
        bundle.vendor(kind.place(name)?, content, digest);
        Ok::<_, Error>(())
    };
    if !input.steps.are_none() {
        session
            .progress
            .warn("commands of the bento are executed where it is built, and what they fetch is not in the bundle");
    }
    let spec = input.manifest.base_spec();
    for (&platform, locked) in &input.lock.platforms {
        let standing = locked.standing();
        // What commands were executed upon is looked at by whoever asks what they have made.
        let upon = matches!(standing, Cow::Owned(_)).then_some(locked);
        for locked in upon.into_iter().chain([&*standing]) {
            for part in base::parts(session, spec, &locked.base, platform, &user, &locked.system)? {
                add(&mut input.bundle, Kind::Base, &part.name, part.digest)?;
            }
        }
        let locked = &*standing;
        let Some(python) = input.lock.python else { continue };
        let target = base::target(&locked.base, python, platform)?;
        let project = session.store.scratch().map_err(layer::Error::from)?;
        let requirements = super::requirements(&input.manifest, locked, &input.bundle, project.path())?;
        let (uv, scratch) = (Uv::find(session, StandIn::this())?, session.store.scratch().map_err(layer::Error::from)?);
        let wheels = python::fetch_wheels(session, &uv, &locked.python, &target, &requirements, scratch.path())?;
        for wheel in wheels {
            add(&mut input.bundle, Kind::Wheel, &wheel.file, wheel.digest)?;
        }
        // Whoever builds it may have either processor.
        let (file, digest) = python::fetch_uv(session, platform)?;
        add(&mut input.bundle, Kind::Uv, &file, digest)?;
    }
    Ok(())
}

/// Brings what the bundle has of what a build for `platforms` would fetch into the store; but wheels stay where they are until they
/// are installed ([`wheels`]).
///
/// # Errors
/// When the bundle is damaged, or the store cannot be written.
pub fn take(session: &Session, input: &Input, platforms: &[Platform]) -> Result<(), Error> {
    if input.bundle.vendored().is_empty() {
        return Ok(());
    }
    let host = Platform::host().ok();
    // The base of this machine compiles bytecode for the others.
    let locks = platforms.iter().chain(&host).filter_map(|platform| input.lock.platforms.get(platform));
    let mut wanted = Vec::new();
    for locked in locks.flat_map(|locked| [Cow::Borrowed(locked), locked.standing()]) {
        match &locked.base {
            LockedBase::Debian { packages, .. } => wanted.extend(packages.iter().map(|package| package.digest)),
            LockedBase::Image { digest, .. } => wanted.extend(of_image(session, &input.bundle, digest)?),
            LockedBase::Scratch => {}
        }
        wanted.extend(locked.system.iter().map(|package| package.digest));
    }
    if let Some(host) = host.filter(|_| input.lock.python.is_some()) {
        wanted.push(python::uv_wheel(host)?.1);
    }
    wanted.sort();
    wanted.dedup();
    bring(session, &input.bundle, &wanted)
}

/// The blobs of the image with the manifest `digest`, which is brought into the store.
fn of_image(session: &Session, bundle: &Bundle, digest: &Digest) -> Result<Vec<Digest>, Error> {
    bring(session, bundle, &[*digest])?;
    if !session.store.has_blob(digest) {
        return Ok(Vec::new());
    }
    let bytes = session.store.read_blob(digest, oci::LARGEST).map_err(layer::Error::from)?;
    let malformed = |error| image::Error::Malformed { digest: *digest, source: Box::new(error) };
    Ok(match Document::read(bytes, None).map_err(malformed)?.content {
        oci::Content::Image(manifest) => {
            [manifest.config].iter().chain(&manifest.layers).map(|blob| blob.digest).collect()
        }
        oci::Content::Index(_) => Vec::new(),
    })
}

/// Brings those of `wanted` that the bundle has, and the store lacks.
fn bring(session: &Session, bundle: &Bundle, wanted: &[Digest]) -> Result<(), Error> {
    let members = bundle.vendored().iter();
    let missing: Vec<_> = members
        .filter(|(_, member)| wanted.binary_search(&member.digest).is_ok() && !session.store.has_blob(&member.digest))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let bytes = missing.iter().map(|(_, member)| member.content.size()).fold(0, u64::saturating_add);
    let subject = format!("{} files of the base", missing.len());
    let task = session.progress.task("Taking", subject.as_str(), Unit::Bytes, Some(bytes));
    let mut opener = Opener::default();
    for (path, member) in missing {
        let mut blob = session.store.blob_writer().map_err(layer::Error::from)?;
        bundle::copy(path, member, &mut opener, &task, &mut blob)?;
        blob.commit().map_err(layer::Error::from)?;
    }
    task.finish(format!("Took {subject} out of the bundle"));
    Ok(())
}

/// Writes the wheels of the packages of `locked` into the folder `folder`, if the bundle has them all; whether it has. The project's
/// own are not among them.
///
/// # Errors
/// When the bundle is damaged, or the disk says no.
pub(super) fn wheels(
    session: &Session,
    bundle: &Bundle,
    locked: &LockedPlatform,
    folder: &Path,
) -> Result<bool, Error> {
    let mut found = Vec::new();
    for package in locked.python.iter().filter(|package| package.is_fetched()) {
        let of_package = |digest: &Digest| package.digests.contains(digest);
        let before = found.len();
        found.extend(bundle.vendored().iter().filter(|(_, member)| of_package(&member.digest)));
        if found.len() == before {
            return Ok(false);
        }
    }
    let bytes = found.iter().map(|(_, member)| member.content.size()).fold(0, u64::saturating_add);
    let task = session.progress.task("Taking", format!("{} wheels", found.len()), Unit::Bytes, Some(bytes));
    let mut opener = Opener::default();
    for (path, member) in &found {
        let mut file = fs::File::create_new(folder.join(path.name()))?;
        bundle::copy(path, member, &mut opener, &task, &mut file)?;
    }
    Ok(!found.is_empty())
}
