//! Libraries that Python packages need and an image lacks: found before it is there, not by its first request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::TempDir;

use crate::base::needs::{Need, Needs};
use crate::base::python::{self, Package, StandIn, Target, Uv};
use crate::base::requirements::Requirements;
use crate::base::{self, debian, debian::User};
use crate::bundle::runtime;
use crate::image::layer;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::explain::with_causes;
use crate::project::lock::LockedPlatform;

/// Version of what [`Needs::of`] makes of the same packages. A change of it needs another number.
const RULES: u32 = 1;

/// Memories of what environments need.
const KIND: &str = "python-needs";

/// The library without which a loader finds none.
const LIBC: &str = "libc.so.6";

/// Something that is nowhere, and then the next one: each is told in a line of its own, as causes are.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Missing {
    text: String,
    #[source]
    next: Option<Box<Missing>>,
}

/// An environment that was installed to be looked at, or to become layers.
#[derive(Debug)]
pub(super) struct Installed {
    folder: TempDir,
}

impl Installed {
    /// A folder for what is made of it.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The environment.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("venv")
    }
}

/// Installs the Python packages of `locked`. Local wheels lie in `project`, and the others, where no index is to be asked, in the folder
/// `wheels`.
pub(super) fn install(
    session: &Session,
    locked: &LockedPlatform,
    target: &Target,
    requirements: &Requirements,
    project: &Path,
    wheels: Option<&Path>,
) -> Result<Installed, python::Error> {
    let folder = session.store.scratch()?;
    let (work, project) = (folder.path().join("work"), std::path::absolute(project)?);
    fs::create_dir(&work)?;
    let asked = python::Installation {
        packages: &locked.python,
        target,
        requirements,
        project: &project,
        interpreter: &locked.base.interpreter(target.python),
        place: runtime::VENV,
        wheels,
    };
    let installed = Installed { folder };
    python::install(&Uv::find(session, StandIn::this())?, &asked, &installed.path(), &work, &session.progress)?;
    Ok(installed)
}

fn key(target: &Target, packages: &[Package]) -> Digest {
    layer::key(&(KIND, RULES, target.python, target.platform, packages))
}

/// What `packages` need, where they were looked through before.
pub(super) fn known(session: &Session, target: &Target, packages: &[Package]) -> Option<Needs> {
    session.store.cached(KIND, &key(target, packages))
}

/// What `packages` need, which are installed in `venv`. It is remembered.
pub(super) fn needs(
    session: &Session,
    target: &Target,
    packages: &[Package],
    venv: impl AsRef<Path>,
) -> Result<Needs, python::Error> {
    let needs = Needs::of(venv.as_ref(), target)?;
    session.store.cache(KIND, &key(target, packages), &needs, Vec::new())?;
    Ok(needs)
}

/// Those of `needs` that neither the base and the Debian packages of `locked` nor whoever asks has. None where it cannot
/// be told: the base has its libraries somewhere else than Debian.
pub(super) fn lacking(
    session: &Session,
    spec: base::Spec<'_>,
    locked: &LockedPlatform,
    platform: Platform,
    user: &User,
    needs: &Needs,
    has: impl Fn(&str) -> bool,
) -> Result<Option<Needs>, base::Error> {
    if needs.is_empty() {
        return Ok(None);
    }
    let names = base::library_names(session, spec, &locked.base, platform, user, &locked.system)?;
    let lacking = needs.lacking(|library| names.contains(library) || has(library));
    Ok(Some(lacking).filter(|lacking| names.contains(LIBC) && !lacking.is_empty()))
}

/// What is wrong with an image that lacks `lacking`: libraries that a Debian package has and that are needed for certain,
/// with the names of those packages. All else may be meant so, and is only said.
pub(super) fn missing(
    session: &Session,
    spec: base::Spec<'_>,
    locked: &LockedPlatform,
    platform: Platform,
    user: &User,
    lacking: &Needs,
) -> Result<Option<(Missing, Vec<String>)>, base::Error> {
    let names = lacking.certain();
    let packages = match base::suite(session, spec, &locked.base, platform, user)? {
        Some(suite) if !names.is_empty() => {
            base::packages_with(session, spec, suite, platform, &names).unwrap_or_else(|error| {
                let why = with_causes(&error);
                session
                    .progress
                    .warn(format!("which Debian packages have all libraries could not be looked up: {why}"));
                debian::usual_packages(suite, &names)
            })
        }
        _ => BTreeMap::new(),
    };
    let (mut lines, mut found) = (Vec::new(), Vec::new());
    // A plugin may lack a dozen: they are said of each file at once.
    let mut others = BTreeMap::<_, Vec<&str>>::new();
    for (library, need) in lacking.iter() {
        match packages.get(library) {
            Some(package) => {
                lines.push(format!("{} needs {library}, which the Debian package `{package}` has", told(need)));
                found.push(package.clone());
            }
            None => others.entry(told(need)).or_default().push(library),
        }
    }
    for (who, libraries) in others {
        let verb = if libraries.len() == 1 { "is" } else { "are" };
        session.progress.warn(format!("{who} needs {}, which {verb} nowhere in the image", libraries.join(", ")));
    }
    found.sort();
    found.dedup();
    Ok(Missing::of(lines).map(|missing| (missing, found)))
}

impl Missing {
    /// All of these lines; none where there are none.
    pub(super) fn of(lines: Vec<String>) -> Option<Self> {
        let all = lines.into_iter().rev().fold(None, |next, text| Some(Box::new(Self { text, next })));
        all.map(|missing| *missing)
    }
}

fn told(need: &Need) -> String {
    let whose = need.package.as_ref().map(|package| format!("{package}: ")).unwrap_or_default();
    format!("{whose}{}", need.file)
}
