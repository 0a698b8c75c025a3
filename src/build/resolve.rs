//! From a manifest to its lock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::base::debian;
use crate::base::python::{self, Package, Refusal, StandIn, Target, Uv};
use crate::base::requirements::{Requirements, required_name};
use crate::base::{self, Base, LockedBase, Named};
use crate::build::commands::{self, Commands};
use crate::build::dockerfile::Request;
use crate::build::input::Input;
use crate::build::libraries;
use crate::bundle::origin::{self, Trust};
use crate::bundle::runtime::Convention;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::python::PythonVersion;
use crate::image::oci::platform::{Platform, UnknownPlatform};
use crate::image::session::Session;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::parallel;
use crate::project::Project;
use crate::project::lock::{self, Executed, Lock, LockedModel, LockedPlatform};
use crate::project::manifest::Manifest;

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// What commands make of it.
    #[error(transparent)]
    Commands(#[from] commands::Error),
    /// Python packages.
    #[error(transparent)]
    Python(#[from] python::Error),
    /// Files of the model that live elsewhere.
    #[error(transparent)]
    Origin(#[from] origin::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// This machine's processor is none that images are built for.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// The lock that is there cannot be read.
    #[error("the lock cannot be read")]
    Malformed(Diagnostics),
    /// A requirement that is written in the project cannot be met.
    #[error("{place}: {error}")]
    Requirement {
        /// Where it stands, as `requirements.txt:2:1`.
        place: String,
        /// Why not.
        error: python::Error,
    },
    /// The lock is for another manifest, or lacks a platform, and must not be renewed.
    #[error("{} does not fit the manifest any more", lock::NAME)]
    Stale {
        /// What differs, as far as it can be told: at least one thing.
        #[source]
        difference: Option<Box<Difference>>,
    },
    /// There is no lock, and none may be made.
    #[error("there is no {}", lock::NAME)]
    Missing,
}

/// Something in which a lock differs from its manifest. Each is told in a line of its own, as causes are.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Difference {
    text: String,
    #[source]
    next: Option<Box<Difference>>,
}

/// What helps where there is no lock that fits.
const LOCK: &str = "make it with `ekiben lock`, and commit it";

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Base(error) => error.explain(),
            Self::Commands(error) => error.explain(),
            Self::Python(error) => error.explain(),
            Self::Origin(error) => error.explain(),
            Self::Requirement { error, .. } => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Platform(error) => error.explain(),
            Self::Malformed(_) => {
                ErrorKind::Invalid.named("lock/malformed").hint("renew it with `ekiben lock --update`")
            }
            Self::Stale { .. } => ErrorKind::Stale.named("lock/stale").hint(LOCK),
            Self::Missing => ErrorKind::Stale.named("lock/missing").hint(LOCK),
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

/// What is done about models that changed where they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Those that the lock has stay.
    Stays,
    /// What is there now is taken up.
    IsTaken,
}

/// What is to be locked.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What the person wants.
    pub manifest: &'a Manifest,
    /// The folder that paths in the manifest are relative to.
    pub root: &'a Path,
    /// How its image will be laid out.
    pub convention: Convention,
    /// The Python packages that it requires.
    pub requirements: &'a Requirements,
    /// Those that Ekiben's service needs.
    pub server: &'a [&'static str],
    /// What it is locked for; where none is named, this machine's.
    pub platforms: &'a [Platform],
    /// Where the lock is kept.
    pub path: PathBuf,
    /// A lock that came along, for where none is kept.
    pub shipped: Option<PathBuf>,
    /// What is done about models that changed.
    pub moved: Moved,
    /// What commands are given, and may do.
    pub commands: Request,
}

impl<'a> Subject<'a> {
    /// A project, whose lock lies beside its manifest; nothing is built of it yet.
    pub fn of(project: &'a Project) -> Self {
        let path = project.root.join(lock::NAME);
        Self {
            manifest: &project.manifest,
            root: &project.root,
            convention: Convention::Ekiben,
            requirements: &project.requirements,
            server: &project.server,
            platforms: &project.manifest.platforms,
            path,
            shipped: None,
            moved: Moved::Stays,
            commands: commands::request(&project.manifest, Request::default()),
        }
    }
}

/// What is done with a base as soon as it is locked, while Python packages are resolved. Its session can be stopped by
/// itself, where the packages cannot be had.
pub type Meanwhile<'a> = dyn Fn(&Session, &LockedBase, Platform) -> Result<(), base::Error> + Sync + 'a;

/// The lock of `subject`: the one that is kept if it fits, else a new one, which is written there. The second value
/// says whether it was written.
///
/// # Errors
/// When something cannot be resolved, or the lock does not fit and must not be renewed.
pub fn lock(
    session: &Session,
    subject: &Subject<'_>,
    renewal: Renewal,
    meanwhile: &Meanwhile<'_>,
) -> Result<(Lock, bool), Error> {
    let platforms = match subject.platforms {
        [] => vec![Platform::host()?],
        named => named.to_vec(),
    };
    let input = lock::input_digest(subject.manifest, &subject.requirements.texts(), subject.server);
    let mut places = std::iter::once(&subject.path).chain(&subject.shipped);
    let known = match places.find(|path| path.exists()).filter(|_| renewal != Renewal::Always) {
        Some(path) => Some(read(path)?),
        None => None,
    };
    let fits = |lock: &Lock| !lock.is_stale(&input) && platforms.iter().all(|p| lock.platforms.contains_key(p));
    let user = subject.convention.user();
    let request = &subject.commands;
    let commands = Commands { manifest: subject.manifest, root: subject.root, user: &user, request };
    let before = known.clone();
    // What commands lead to, nobody knows before: where it is something else, the platform is not locked any more.
    let known = match known {
        Some(mut lock) if subject.manifest.has_commands() && fits(&lock) => {
            for platform in &platforms {
                let Some(locked) = lock.platforms.get(platform) else { continue };
                let ledger = Commands::ledger(Some(locked), renewal == Renewal::Never);
                if !commands.still_make(session, locked, *platform, &ledger)? {
                    if renewal == Renewal::Never {
                        let text = "its commands make something else now".to_owned();
                        return Err(Error::Stale { difference: Some(Box::new(Difference { text, next: None })) });
                    }
                    lock.platforms.remove(platform);
                }
            }
            Some(lock)
        }
        known => known,
    };
    let models = |known: &[LockedModel]| models(session, subject, known);
    match (known, renewal) {
        (Some(mut lock), _) if fits(&lock) => {
            let now = models(&lock.models)?;
            let written = now != lock.models;
            if written {
                lock.models = now;
                lock.write(&subject.path)?;
            }
            Ok((lock, written))
        }
        (Some(lock), Renewal::Never) => {
            let all = differences(subject, &platforms, &lock).into_iter().rev();
            let difference = all.fold(None, |next, text| Some(Box::new(Difference { text, next })));
            Err(Error::Stale { difference })
        }
        (None, Renewal::Never) => Err(Error::Missing),
        (known, _) => {
            // What fits, but lacks a platform, is completed.
            let fresh = known.as_ref().filter(|lock| !lock.is_stale(&input));
            let mut locked = fresh.map(|lock| lock.platforms.clone()).unwrap_or_default();
            for platform in
                platforms.into_iter().filter(|platform| fresh.is_none_or(|lock| !lock.platforms.contains_key(platform)))
            {
                let before = before.as_ref().and_then(|lock| lock.platforms.get(&platform));
                locked.insert(platform, resolve(session, subject, &commands, platform, before, meanwhile)?);
            }
            let base = base(subject)?;
            let python = locked.values().find_map(|locked| python_of(subject, &base, locked));
            let models = models(known.as_ref().map_or(&[], |lock| &lock.models))?;
            let lock = Lock { lock: 1, input, python, platforms: locked, models };
            lock.write(&subject.path)?;
            Ok((lock, true))
        }
    }
}

/// The files of the model that live elsewhere: those of the lock where they stay, else those that are there now.
fn models(session: &Session, subject: &Subject<'_>, known: &[LockedModel]) -> Result<Vec<LockedModel>, Error> {
    let mut models: Vec<LockedModel> = Vec::new();
    let trust = match subject.moved {
        Moved::Stays => Trust::InVersions,
        Moved::IsTaken => Trust::InBytes,
    };
    for (_, elsewhere, address) in subject.manifest.model.remote() {
        let from = address.to_string();
        if models.iter().any(|model| model.from == from) {
            continue;
        }
        let is_meant = |model: &&LockedModel| {
            model.from == from
                && elsewhere.digest().is_none_or(|digest| model.files.iter().all(|file| file.digest == digest))
        };
        let kept = known.iter().find(is_meant).filter(|_| subject.moved == Moved::Stays);
        models.push(match kept {
            Some(model) => model.clone(),
            None => origin::lock(session, elsewhere.digest(), address, trust)?,
        });
    }
    Ok(models)
}

/// What a manifest asks for that a lock does not have.
fn differences(subject: &Subject<'_>, platforms: &[Platform], lock: &Lock) -> Vec<String> {
    let mut found = Vec::new();
    for platform in platforms.iter().filter(|platform| !lock.platforms.contains_key(platform)) {
        found.push(format!("it is not for {platform}"));
    }
    let manifest = subject.manifest;
    let asked = manifest.python.as_ref().and_then(|python| python.version.as_ref()?.meant().ok());
    if let Some((asked, locked)) = asked.zip(lock.python).filter(|(asked, locked)| *asked != locked) {
        found.push(format!("it is for Python {locked}, not {asked}"));
    }
    // What is asked for is the same for all platforms.
    if let Some(one) = lock.platforms.values().next() {
        match (&one.base, manifest.base.meant().map(|base| base.named())) {
            (LockedBase::Debian { suite: locked, .. }, Ok(Named::Debian(suite))) if *locked != suite.to_string() => {
                found.push(format!("its base is debian:{locked}, not {}", manifest.base));
            }
            (LockedBase::Debian { .. }, Ok(Named::Image(_) | Named::Scratch))
            | (LockedBase::Image { .. }, Ok(Named::Debian(_) | Named::Scratch))
            | (LockedBase::Scratch, Ok(Named::Debian(_) | Named::Image(_))) => {
                found.push(format!("its base is another than {}", manifest.base));
            }
            _ => {}
        }
        for wanted in subject.requirements.wanted.iter().filter(|wanted| wanted.marker.is_empty()) {
            let version =
                one.python.iter().find(|package| package.name == wanted.name).map(|package| &*package.version);
            match version
                .map(|version| (version, version.parse().is_ok_and(|version| wanted.versions.contains(&version))))
            {
                None => found.push(format!("it lacks `{}` ({})", wanted.text, wanted.place())),
                Some((version, false)) => {
                    let name = &wanted.name;
                    found.push(format!("it has {name} {version}, not `{}` ({})", wanted.text, wanted.place()));
                }
                Some((_, true)) => {}
            }
        }
        let has = |name: &str| {
            let base = match &one.base {
                LockedBase::Debian { packages, .. } => packages.as_slice(),
                _ => return true,
            };
            base.iter().chain(&one.system).any(|package| package.name == name)
        };
        found.extend(
            manifest.system.packages.names().filter(|name| !has(name)).map(|name| format!("it lacks `{name}`")),
        );
    }
    if found.is_empty() {
        found.push("something that it follows from was taken away or is written otherwise".to_owned());
    }
    found
}

fn read(path: &Path) -> Result<Lock, Error> {
    let mut found = Diagnostics::new();
    Lock::load(path, &mut found).ok_or(Error::Malformed(found))
}

fn resolve(
    session: &Session,
    subject: &Subject<'_>,
    commands: &Commands<'_>,
    platform: Platform,
    before: Option<&LockedPlatform>,
    meanwhile: &Meanwhile<'_>,
) -> Result<LockedPlatform, Error> {
    let (manifest, base) = (subject.manifest, &base(subject)?);
    let preferred = before.map(|locked| locked.python.as_slice()).unwrap_or_default();
    let mut named: Vec<String> = manifest.system.packages.names().map(str::to_owned).collect();
    if matches!(base, Base::Debian { .. }) && !manifest.system.run.is_empty() {
        named.extend(debian::ESSENTIAL.map(str::to_owned));
    }
    let downloads = Session { client: session.client.apart(), ..session.clone() };
    let lower = || {
        let locked = lower(&downloads, subject, base, commands, &named, platform, before)?;
        meanwhile(&downloads, &locked.standing().base, platform)?;
        Ok::<_, Error>(locked)
    };
    // Neither uv, which may have to be fetched, nor packages need anything of a base whose Python is known.
    let early = || {
        if !manifest.needs_python() {
            return Ok((None, None));
        }
        let uv = Uv::find(session, StandIn::this())?;
        let target = base.target(platform).filter(|_| !manifest.has_commands());
        let packages = target.map(|target| packages(session, subject, &uv, &target, preferred)).transpose()?;
        Ok::<_, Error>((Some(uv), packages))
    };
    // Nobody waits for a base whose packages cannot be had.
    let lower = || Ok::<_, Error>(lower().map_err(|error| (error, downloads.client.is_stopped())));
    let early = || {
        Ok(early().inspect_err(|_| {
            // Without the network there is nothing to wait for, and what the base lacks is said first.
            if !downloads.client.is_offline() {
                downloads.client.stop();
            }
        }))
    };
    let (mut locked, (uv, early)) = match parallel::both(lower, early)? {
        (Err((_, true)), Err(cause)) => return Err(cause),
        (Err((error, _)), _) => return Err(error),
        (Ok(lower), early) => (lower, early?),
    };
    locked.python = match (early, python_of(subject, base, &locked)) {
        (Some(packages), _) => packages,
        (None, None) => Vec::new(),
        (None, Some(python)) => {
            let target = base::target(&locked.standing().base, python, platform)?;
            let uv = uv.map_or_else(|| Uv::find(session, StandIn::this()), Ok)?;
            packages(session, subject, &uv, &target, preferred)?
        }
    };
    if manifest.system.packages.are_found()
        && let Some(python) = python_of(subject, base, &locked)
    {
        let target = base::target(&locked.standing().base, python, platform)?;
        let found = needed(session, subject, &locked.standing(), &target)?;
        if !found.is_empty() {
            let all: Vec<_> = named.into_iter().chain(found).collect();
            let LockedPlatform { system, executed, .. } =
                self::lower(session, subject, base, commands, &all, platform, before)?;
            locked = LockedPlatform { system, executed, ..locked };
        }
    }
    Ok(locked)
}

/// What the manifest names as its base.
fn base(subject: &Subject<'_>) -> Result<Base, Error> {
    Ok(Base::of(subject.manifest.base_spec())?.below(subject.root))
}

/// The Python that there is for packages. What commands have made tells its own.
fn python_of(subject: &Subject<'_>, base: &Base, locked: &LockedPlatform) -> Option<PythonVersion> {
    match subject.manifest.has_commands() {
        true => locked.standing().base.python(),
        false => base.python(&locked.base),
    }
}

/// What Python packages stand on: the base, the Debian packages `names` upon it, and what commands make of both.
fn lower(
    session: &Session,
    subject: &Subject<'_>,
    base: &Base,
    commands: &Commands<'_>,
    names: &[String],
    platform: Platform,
    before: Option<&LockedPlatform>,
) -> Result<LockedPlatform, Error> {
    let spec = subject.manifest.base_spec();
    let ledger = Commands::ledger(before, false);
    let (locked, system) = match commands.below(session, platform, &ledger)? {
        None => base.lock(session, spec, names, platform)?,
        Some(made) => {
            let name = subject.manifest.build.file.as_deref().unwrap_or_default();
            base::lock_image(session, spec, names, name, made, platform)?
        }
    };
    let mut lower = LockedPlatform { base: locked, system, executed: None, python: Vec::new() };
    if subject.manifest.has_commands() {
        let made = commands.upon(session, &lower, platform, &ledger)?;
        let looked = |made| base::lock_image(session, spec, &[], "that system.run makes", made, platform);
        let base = made.map(looked).transpose()?.map(|(base, _)| base);
        lower.executed = Some(Executed { base, ..ledger.found() });
    }
    Ok(lower)
}

/// Makes what the commands of a bundle make, for whoever builds it: nothing but what its lock has.
///
/// # Errors
/// As [`Commands::still_make`], and when it is something else.
pub fn executed(session: &Session, input: &Input, platforms: &[Platform]) -> Result<(), Error> {
    if !input.manifest.has_commands() {
        return Ok(());
    }
    let user = input.bundle.convention().user();
    let commands = Commands { manifest: &input.manifest, root: &input.origin, user: &user, request: &input.commands };
    for platform in platforms {
        let Some(locked) = input.lock.platforms.get(platform) else { continue };
        let ledger = Commands::ledger(Some(locked), true);
        if !commands.still_make(session, locked, *platform, &ledger)? {
            return Err(Error::Stale { difference: None });
        }
    }
    Ok(())
}

/// The Debian packages that have what the Python packages of `locked` need, and it lacks.
fn needed(
    session: &Session,
    subject: &Subject<'_>,
    locked: &LockedPlatform,
    target: &Target,
) -> Result<BTreeSet<String>, Error> {
    let needs = match libraries::known(session, target, &locked.python) {
        Some(needs) => needs,
        None => {
            let installed = libraries::install(session, locked, target, subject.requirements, subject.root)?;
            libraries::needs(session, target, &locked.python, installed.path())?
        }
    };
    let (spec, user) = (subject.manifest.base_spec(), subject.convention.user());
    let Some(lacking) = libraries::lacking(session, spec, locked, target.platform, &user, &needs, |_| false)? else {
        return Ok(BTreeSet::new());
    };
    let Some(suite) = base::suite(session, spec, &locked.base, target.platform, &user)? else {
        return Ok(BTreeSet::new());
    };
    let names = lacking.certain();
    let packages = base::packages_with(session, spec, suite, target.platform, &names)?;
    Ok(packages.into_values().collect())
}

/// The Python packages that meet the requirements; of those `preferred` that do, the same versions.
fn packages(
    session: &Session,
    subject: &Subject<'_>,
    uv: &Uv,
    target: &Target,
    preferred: &[Package],
) -> Result<Vec<Package>, Error> {
    let scratch = session.store.scratch().map_err(python::Error::from)?;
    let root = std::path::absolute(subject.root)?;
    let requirements = subject.requirements.clone().and(subject.server.iter().copied());
    let asked = python::Resolution { requirements: &requirements, target, project: &root, preferred };
    python::resolve(uv, &asked, scratch.path(), &session.progress).map_err(|error| placed(error, subject))
}

/// The error at the requirement that it is about, where the project itself has one of that package.
fn placed(error: python::Error, subject: &Subject<'_>) -> Error {
    let package = match &error {
        python::Error::Refused(Refusal::NotFound { package, .. } | Refusal::NoWheel { package, .. }) => package,
        _ => return error.into(),
    };
    let name = required_name(package);
    match subject.requirements.wanted.iter().find(|wanted| Some(&wanted.name) == name.as_ref()) {
        Some(wanted) => Error::Requirement { place: wanted.place(), error },
        None => error.into(),
    }
}
