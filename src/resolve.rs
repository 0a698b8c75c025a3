//! From a manifest to its lock.

use std::collections::BTreeMap;

use crate::base::{self, Base};
use crate::diagnostic::Diagnostics;
use crate::digest::Digest;
use crate::generate;
use crate::lock::{self, Lock, Locked};
use crate::manifest::Requirements;
use crate::platform::{Platform, UnknownPlatform};
use crate::project::Project;
use crate::python;
use crate::session::Session;
use crate::toolchain::{self, Toolchain};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base.
    #[error("{0}")]
    Base(#[from] base::Error),
    /// Python packages.
    #[error("{0}")]
    Python(#[from] python::Error),
    /// uv, or a Python for it.
    #[error("{0}")]
    Toolchain(#[from] toolchain::Error),
    /// A file could not be read or written. The message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// This machine's processor is none that images are built for.
    #[error("{0}")]
    Platform(#[from] UnknownPlatform),
    /// The lock that is there cannot be read.
    #[error("the lock cannot be read")]
    Malformed(Diagnostics),
    /// The lock is for another manifest, or lacks a platform, and must not be renewed.
    #[error("{} does not fit the manifest any more", lock::NAME)]
    Stale,
    /// There is no lock, and none may be made.
    #[error("there is no {}", lock::NAME)]
    Missing,
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Base(error) => error.hint(),
            Self::Python(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Malformed(_) => Some("renew it with `ekiben lock --update`".to_owned()),
            Self::Stale | Self::Missing => Some("make it with `ekiben lock`, and commit it".to_owned()),
            Self::Io(_) | Self::Platform(_) => None,
        }
    }
}

/// What may be done to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is made where there is none or it does not fit; versions stay where they can.
    IfNeeded,
    /// It is made anew, with the newest versions.
    Always,
    /// Nothing: it is an error if it does not fit.
    Never,
}

/// The lock of `project`: the one that lies beside the manifest if it fits, else a new one, which is written there.
/// The second value says whether it was written.
///
/// # Errors
/// When something cannot be resolved, or the lock does not fit and must not be renewed.
pub fn lock(session: &Session, project: &Project, renewal: Renewal) -> Result<(Lock, bool), Error> {
    let path = project.root.join(lock::NAME);
    let platforms = match project.manifest.platforms.as_slice() {
        [] => vec![Platform::host()?],
        named => named.to_vec(),
    };
    let input = input_digest(project)?;
    let known = match path.exists() && renewal != Renewal::Always {
        true => Some(read(&path)?),
        false => None,
    };
    let fits = |lock: &Lock| !lock.is_stale(&input) && platforms.iter().all(|p| lock.platforms.contains_key(p));
    match (known, renewal) {
        (Some(lock), _) if fits(&lock) => Ok((lock, false)),
        (Some(_), Renewal::Never) => Err(Error::Stale),
        (None, Renewal::Never) => Err(Error::Missing),
        (known, _) => {
            let base = Base::of(&project.manifest)?.below(&project.root);
            let mut locked = BTreeMap::new();
            for platform in platforms {
                let before = known.as_ref().and_then(|lock| lock.platforms.get(&platform));
                locked.insert(platform, resolve(session, project, &base, platform, before)?);
            }
            let python = locked.values().find_map(|locked| base.python(&locked.base)).map(str::to_owned);
            let lock = Lock { lock: 1, input, python, platforms: locked };
            lock.write(&path)?;
            Ok((lock, true))
        }
    }
}

fn read(path: &std::path::Path) -> Result<Lock, Error> {
    let mut found = Diagnostics::new();
    Lock::load(path, &mut found).ok_or(Error::Malformed(found))
}

fn input_digest(project: &Project) -> Result<Digest, Error> {
    let file = match project.manifest.python.as_ref().map(|python| &python.requirements) {
        Some(Requirements::File(file)) => Some(fs_err::read_to_string(project.root.join(file))?),
        _ => None,
    };
    Ok(lock::input_digest(&project.manifest, file.as_deref()))
}

fn resolve(
    session: &Session,
    project: &Project,
    base: &Base,
    platform: Platform,
    before: Option<&Locked>,
) -> Result<Locked, Error> {
    let manifest = &project.manifest;
    let (locked_base, system) = base.lock(session, manifest, platform)?;
    let mut packages = Vec::new();
    if let Some(python) = base.python(&locked_base) {
        let target = base::target(&locked_base, python, platform);
        let user = base::user();
        let uv = Toolchain::new(session, manifest, &locked_base, platform, &user).uv(&target.python)?;
        let scratch = session.store.scratch().map_err(python::Error::from)?;
        let own = if manifest.serves_functions() { &generate::REQUIREMENTS[..] } else { &[] };
        let asked = manifest.python.as_ref().map(|python| python.requirements.clone()).unwrap_or_default();
        let root = std::path::absolute(&project.root)?;
        let requirements = python::Requirements::new(&asked, &root)?.and(own.iter().copied());
        let asked = python::Resolution {
            requirements: &requirements,
            target: &target,
            project: &root,
            preferred: before.map(|locked| locked.python.as_slice()).unwrap_or_default(),
        };
        packages = python::resolve(&uv, &asked, scratch.path(), &session.progress)?;
    }
    Ok(Locked { base: locked_base, system, python: packages })
}
