//! What commands make of a project's base: a Dockerfile in its place, and the commands of `system.run` upon it and its
//! Debian packages. Either is an image of its own in the store, on which all else stands as on any other base.
//!
//! It is made where a project is locked, as what Python packages are for is known only then; made again, where nothing
//! changed, it is taken from the store, command by command.

use std::io;
use std::path::Path;

use super::built::Nobody;
use super::dockerfile::{self, Allowed, Ledger, Request};
use crate::base::{self, LockedBase, debian::User};
use crate::formats::dockerfile::Excerpt;
use crate::image::Image;
use crate::image::layer::{self, Layer};
use crate::image::oci::platform::Platform;
use crate::image::session::{Making, Session};
use crate::io::archive::{ArchivePath, Entry};
use crate::io::digest::Digest;
use crate::project::lock::LockedPlatform;
use crate::project::manifest::{AllowRun, Manifest, Reach};

/// Why commands make no base.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They, or the Dockerfile.
    #[error(transparent)]
    Dockerfile(#[from] dockerfile::Error),
    /// What they are executed upon.
    #[error(transparent)]
    Base(#[from] base::Error),
}

impl crate::io::explain::Explain for Error {
    fn explain(&self) -> crate::io::explain::Explanation {
        match self {
            Self::Dockerfile(error) => error.explain(),
            Self::Base(error) => error.explain(),
        }
    }
}

/// Empty folders of Debian's `base-files` ("Filesystem Hierarchy Standard"), those above others first.
const FOLDERS: [&str; 22] = [
    "home",
    "media",
    "mnt",
    "opt",
    "srv",
    "usr",
    "usr/local",
    "usr/local/bin",
    "usr/local/etc",
    "usr/local/include",
    "usr/local/lib",
    "usr/local/sbin",
    "usr/local/share",
    "usr/local/src",
    "var",
    "var/backups",
    "var/cache",
    "var/lib",
    "var/lib/misc",
    "var/local",
    "var/log",
    "var/spool",
];

/// What the commands of a project are given and may do: what its manifest says, or whoever builds it.
pub fn request(manifest: &Manifest, given: Request) -> Request {
    let own = match manifest.build.allow_run {
        None | Some(AllowRun::Commands(false)) => Allowed::Nothing,
        Some(AllowRun::Commands(true)) => Allowed::Commands,
        Some(AllowRun::Network(Reach::Network)) => Allowed::Network,
    };
    Request { allowed: own.max(given.allowed), ..given }
}

/// A project whose base commands make.
#[derive(Clone, Copy, Debug)]
pub struct Commands<'a> {
    /// What it says.
    pub manifest: &'a Manifest,
    /// Its folder.
    pub root: &'a Path,
    /// The user of its image.
    pub user: &'a User,
    /// What its commands are given, and may do.
    pub request: &'a Request,
}

impl Commands<'_> {
    /// What is known of what commands lead to, from a lock; where that `is_binding`, nothing else may come of them.
    pub fn ledger(before: Option<&LockedPlatform>, is_binding: bool) -> Ledger {
        let executed = before.and_then(|locked| locked.executed.clone());
        Ledger::new(executed.unwrap_or_default(), is_binding)
    }

    /// The image of the project's Dockerfile, in the store; none where it has no Dockerfile.
    ///
    /// # Errors
    /// As [`dockerfile::build`].
    pub fn below(&self, session: &Session, platform: Platform, ledger: &Ledger) -> Result<Option<Digest>, Error> {
        let build = &self.manifest.build;
        let Some(file) = &build.file else { return Ok(None) };
        let request = Request {
            file: Some(ArchivePath::relative(file).map_err(dockerfile::Error::outside)?.under(self.root)),
            context: self.root.to_owned(),
            target: build.target.clone(),
            arguments: build.args.clone(),
            ..self.request.clone()
        };
        let session = &whole(session);
        let opened = dockerfile::Opened::of(&request, &Nobody)?;
        let image = dockerfile::build(session, &request, &opened, platform, ledger, None)?;
        Ok(Some(kept(session, &image)?))
    }

    /// The image that the commands of `system.run` make of what is locked, in the store; none where there are none.
    ///
    /// # Errors
    /// As [`dockerfile::upon`].
    pub fn upon(
        &self,
        session: &Session,
        locked: &LockedPlatform,
        platform: Platform,
        ledger: &Ledger,
    ) -> Result<Option<Digest>, Error> {
        let run = &self.manifest.system.run;
        if run.is_empty() {
            return Ok(None);
        }
        let (session, spec) = (&whole(session), self.manifest.base_spec());
        let base = base::image(session, spec, &locked.base, platform, self.user)?;
        let system = base::system_layer(session, spec, &locked.base, platform, self.user, &locked.system)?;
        let image = system.into_iter().fold(furnished(session, base, &locked.base)?, Image::with_layer);
        // They see no file of whoever builds.
        let nothing = session.store.scratch().map_err(dockerfile::Error::from)?;
        let request = Request { context: nothing.path().to_owned(), ..self.request.clone() };
        let image = dockerfile::upon(session, &image, None, &instructions(run), &request, ledger)?;
        let image = image.finished(&session.store, &session.progress).map_err(dockerfile::Error::from)?;
        Ok(Some(kept(session, &image)?))
    }

    /// Whether the commands still make what is locked; it is in the store then.
    ///
    /// # Errors
    /// As [`Self::below`] and [`Self::upon`].
    pub fn still_make(
        &self,
        session: &Session,
        locked: &LockedPlatform,
        platform: Platform,
        ledger: &Ledger,
    ) -> Result<bool, Error> {
        let is = |made: Option<Digest>, base: Option<&LockedBase>| match (made, base) {
            (Some(made), Some(LockedBase::Image { digest, .. })) => made == *digest,
            (made, _) => made.is_none(),
        };
        let standing = locked.executed.as_ref().and_then(|executed| executed.base.as_ref());
        Ok(is(self.below(session, platform, ledger)?, Some(&locked.base))
            && is(self.upon(session, locked, platform, ledger)?, standing))
    }
}

/// The base `image` with the folders that a Debian has for whoever installs something, where it was put together without them.
///
/// # Errors
/// When their layer cannot be written.
pub fn furnished(session: &Session, image: Image, base: &LockedBase) -> Result<Image, dockerfile::Error> {
    if !matches!(base, LockedBase::Debian { .. }) {
        return Ok(image);
    }
    let layer = Layer::write::<dockerfile::Error>(&session.store, session.making, "folders of Debian", |writer| {
        for path in FOLDERS {
            let folder = Entry::directory(ArchivePath::new(path).map_err(io::Error::other)?);
            writer.entry(&folder).map_err(layer::Error::from)?;
        }
        Ok(())
    })?;
    Ok(image.with_layer(layer))
}

/// Layers are compressed, as the lock knows them, or the image, by their digests.
pub(super) fn whole(session: &Session) -> Session {
    Session { making: Making::Both, ..session.clone() }
}

/// Keeps the image, as long as it is used.
fn kept(session: &Session, image: &Image) -> Result<Digest, dockerfile::Error> {
    let digest = image.save(&session.store)?.0;
    let layers = image.layers().iter().map(|layer| layer.digest);
    session.store.cache("commands", &digest, (), layers.chain([digest]).collect())?;
    Ok(digest)
}

/// The instructions that execute `commands`, as root.
fn instructions(commands: &[String]) -> Vec<Excerpt> {
    let root = Excerpt { place: "system.run".to_owned(), text: "USER 0\n".to_owned() };
    let runs = commands.iter().enumerate().map(|(number, command)| {
        let command = command.trim();
        let text = match command.contains('\n') && !command.contains("<<") {
            true => format!("RUN {}\n", serde_json::json!(["/bin/sh", "-ec", command])),
            false => format!("RUN {command}\n"),
        };
        Excerpt { place: format!("system.run[{number}]"), text }
    });
    std::iter::once(root).chain(runs).collect()
}
