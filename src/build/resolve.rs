//! From a manifest to its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::base::debian::{self, Suite};
use crate::base::python::{self, Aim, Package, Refusal, StandIn, Target, Uv};
use crate::base::requirements::{Relaxed, Requirements, Wanted, required_name};
use crate::base::{self, Base, LockedBase, Named, official_python};
use crate::build::commands::{self, Commands};
use crate::build::dockerfile::Request;
use crate::build::input::Input;
use crate::build::libraries;
use crate::build::pins::{self, Trial};
use crate::bundle::origin::{self, Trust};
use crate::bundle::runtime::Convention;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::python::PythonVersion;
use crate::image::oci::platform::{Platform, UnknownPlatform};
use crate::image::session::Session;
use crate::io::atomic;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::parallel;
use crate::io::progress::Unit;
use crate::project::Project;
use crate::project::lock::{self, Executed, Lock, LockedModel, LockedPlatform};
use crate::project::manifest::{Manifest, SERVED};
use crate::project::validate::{PYTHONS, PYTHONS_OF_IMAGES};

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
    /// Pins have no wheels, and nothing else may be taken.
    #[error("{error}")]
    Pins {
        /// The first that was refused.
        error: Box<Error>,
        /// Which are in the way, and what would help.
        #[source]
        ways: Option<Box<Difference>>,
        /// Whether there are versions that work together.
        are_near: bool,
    },
    /// The base has a Python that the usual service does not run on, and the manifest does not say so.
    #[error("the base has Python {python}, and the manifest does not say so")]
    Unsaid {
        /// Its Python.
        python: PythonVersion,
    },
    /// The lock cannot be written. The message names it.
    #[error("{0}")]
    Unwritable(std::io::Error),
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

/// Something in which a lock differs from its manifest, or what stands in the way of one. Each is told in a line of its own, as
/// causes are.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Difference {
    text: String,
    #[source]
    next: Option<Box<Difference>>,
}

impl Difference {
    /// The first of several.
    fn chain(all: Vec<String>) -> Option<Box<Self>> {
        all.into_iter().rev().fold(None, |next, text| Some(Box::new(Self { text, next })))
    }
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
            Self::Unsaid { python } => ErrorKind::Failure
                .named("lock/python-unsaid")
                .hint(format!("write `version: \"{python}\"` below `python`: the service has a small form for it")),
            Self::Pins { error, are_near: false, .. } => error.explain(),
            Self::Pins { error, .. } => Explanation {
                hint: Some(
                    "`--relax-pins` takes the versions that work together, and writes them into the lock".to_owned(),
                ),
                ..error.explain()
            },
            Self::Io(error) => error.explain(),
            Self::Platform(error) => error.explain(),
            Self::Malformed(_) => {
                ErrorKind::Invalid.named("lock/malformed").hint("renew it with `ekiben lock --update`")
            }
            Self::Unwritable(error) => Explanation {
                hint: Some("let the lock be made where the folder can be written to, and commit it".to_owned()),
                ..error.explain()
            },
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
    /// Whether pins give way that have no wheels.
    pub relax: bool,
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
            relax: false,
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
    let kept = match places.find(|path| path.exists()) {
        Some(path) if renewal == Renewal::Always => read(path).ok(),
        Some(path) => Some(read(path)?),
        None => None,
    };
    // No new versions make a model other than it is.
    let trained = kept.as_ref().and_then(|lock| lock.trained.clone());
    let known = kept.filter(|_| renewal != Renewal::Always);
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
            Err(Error::Stale { difference: Difference::chain(differences(subject, &platforms, &lock)) })
        }
        (None, Renewal::Never) => Err(Error::Missing),
        (known, _) => {
            // Else all that follows is in vain.
            atomic::may_write(&subject.path).map_err(Error::Unwritable)?;
            // What fits, but lacks a platform, is completed.
            let fresh = known.as_ref().filter(|lock| !lock.is_stale(&input));
            let locked = fresh.map(|lock| lock.platforms.clone()).unwrap_or_default();
            let lacking: Vec<Platform> =
                platforms.into_iter().filter(|platform| !locked.contains_key(platform)).collect();
            let of_before = |platform| before.as_ref().and_then(|lock| lock.platforms.get(&platform));
            let all = |choice: &Choice| resolved(session, subject, choice, &lacking, &of_before, meanwhile);
            let kept = fresh.map_or_else(Choice::default, Choice::of);
            let (found, choice) = match all(&kept) {
                Err(error) if fresh.is_none() && error.is_about_wheels() => {
                    let choice = choice(session, subject, &lacking, error)?;
                    (all(&choice)?, choice)
                }
                found => (found?, kept),
            };
            let (more, python) = found;
            let python = fresh.and_then(|lock| lock.python).or(python);
            let models = models(known.as_ref().map_or(&[], |lock| &lock.models))?;
            let platforms = locked.into_iter().chain(more).collect();
            let lock = Lock { lock: 1, input, python, relaxed: choice.relaxed, platforms, models, trained };
            lock.write(&subject.path)?;
            Ok((lock, true))
        }
    }
}

/// What is taken in the place of what a project says, or leaves open.
#[derive(Clone, Debug, Default)]
struct Choice {
    /// None: the usual one, or the one that is asked for.
    python: Option<PythonVersion>,
    relaxed: Vec<Relaxed>,
}

impl Choice {
    fn of(lock: &Lock) -> Self {
        Self { python: lock.python, relaxed: lock.relaxed.clone() }
    }
}

/// What `subject` comes to on each of `platforms`, and its Python.
fn resolved<'b>(
    session: &Session,
    subject: &Subject<'_>,
    choice: &Choice,
    platforms: &[Platform],
    before: &dyn Fn(Platform) -> Option<&'b LockedPlatform>,
    meanwhile: &Meanwhile<'_>,
) -> Result<(BTreeMap<Platform, LockedPlatform>, Option<PythonVersion>), Error> {
    let manifest = subject.manifest.clone();
    let manifest = &choice.python.map_or_else(|| manifest.clone(), |python| manifest.clone().with_python(python));
    let requirements = &subject.requirements.clone().relaxed(&choice.relaxed);
    let chosen = &Subject { manifest, requirements, ..subject.clone() };
    let user = subject.convention.user();
    let commands = &Commands { manifest, root: subject.root, user: &user, request: &subject.commands };
    let mut found = BTreeMap::new();
    for platform in platforms {
        let locked = resolve(session, chosen, commands, *platform, before(*platform), meanwhile)?;
        found.insert(*platform, locked);
    }
    let base = base(chosen)?;
    let python = found.values().find_map(|locked| python_of(chosen, &base, locked));
    Ok((found, python))
}

impl Error {
    /// Whether the index has something, but no wheel of it for this Python.
    fn is_about_wheels(&self) -> bool {
        match self {
            Self::Python(python::Error::Refused(refusal))
            | Self::Requirement { error: python::Error::Refused(refusal), .. } => refusal.is_about_wheels(),
            _ => false,
        }
    }
}

/// What is taken where the Python that was tried first has no wheels for all of `subject` on `platforms`: another Python that
/// bases have which are put together here, or, where that is asked for, the nearest versions that work together.
///
/// # Errors
/// `refused`, with what is in the way and what would help.
fn choice(session: &Session, subject: &Subject<'_>, platforms: &[Platform], refused: Error) -> Result<Choice, Error> {
    if session.client.is_offline() {
        return Err(refused);
    }
    let task = session.progress.task("Looking", "for what has wheels for all requirements", Unit::Items, None);
    let uv = Uv::find(session, StandIn::this())?;
    let root = std::path::absolute(subject.root)?;
    let trial = Trial { uv: &uv, session, root, requirements: subject.requirements, server: subject.server };
    let is_open = subject.manifest.is_python_open();
    let on = |python, glibc| {
        let target = |platform: &Platform| Target { python, platform: *platform, glibc };
        platforms.iter().map(target).collect::<Vec<_>>()
    };
    // Those that may be taken, the usual one first.
    let mut open: Vec<Vec<Target>> = Vec::new();
    match is_open {
        true => open.extend(Suite::preferred().map(|suite| on(suite.python(), suite.glibc()))),
        false => open.push(targets(session, subject, platforms)?),
    }
    let Some(usual) = open.first().and_then(|targets| targets.first()).cloned() else { return Err(refused) };
    for targets in open.iter().skip(1) {
        let fits = trial.have_wheels(targets) && targets.iter().all(|target| trial.whole(&[], target).is_ok());
        if let Some(target) = targets.first().filter(|_| fits) {
            let pins = named(&trial.in_the_way(&usual));
            let python = target.python;
            task.finish(format!("Found wheels for Python {python}"));
            let why = if pins.is_empty() { "not all requirements have wheels".to_owned() } else { pins };
            let usual = usual.python;
            session.progress.warn(format!("Python {python} is taken, as Python {usual} has no wheel of {why}"));
            return Ok(Choice { python: Some(python), relaxed: Vec::new() });
        }
    }
    let near = open.iter().filter_map(|targets| Some((targets.first()?.python, trial.relaxed(targets)?)));
    let near = near.filter(|(_, relaxed)| !relaxed.is_empty());
    // Of those that are equally near, the one that comes first.
    let nearest = near.min_by_key(|(_, relaxed)| pins::distance(relaxed));
    if let Some((python, relaxed)) = nearest.clone().filter(|_| subject.relax) {
        task.finish(format!("Found versions that work together on Python {python}"));
        return Ok(Choice { python: Some(python).filter(|_| is_open), relaxed });
    }
    drop(task);
    let mut ways = Vec::new();
    let in_the_way = trial.in_the_way(&usual);
    if !in_the_way.is_empty() {
        let who = match is_open {
            true => "none of Debian's Pythons".to_owned(),
            false => format!("Python {}", usual.python),
        };
        let verb = if is_open { "has wheels of all pins: in the way are" } else { "has no wheel of" };
        ways.push(format!("{who} {verb} {}", placed_names(&in_the_way)));
    }
    let tried: Vec<PythonVersion> = open.iter().flatten().map(|target| target.python).collect();
    let others = (PYTHONS_OF_IMAGES.start().minor()..=PYTHONS.end().minor()).map(|minor| PythonVersion::new(3, minor));
    let others = others.filter(|python| !tried.contains(python));
    let others: Vec<_> = others.filter(|python| trial.have_wheels(&on(*python, usual.glibc))).collect();
    // Best one that Debian has: it needs no registry.
    let ours = Suite::preferred().map(Suite::python).find(|python| others.contains(python));
    if let Some(python) = ours.or(others.last().copied()) {
        let image = official_python(python);
        let base = match ours {
            Some(_) => "`base: auto`, which has it".to_owned(),
            None => format!("`base: {image}` or a copy of it in your registry"),
        };
        let pythons = pins::pythons_text(&others);
        ways.push(format!(
            "all have wheels for Python {pythons}: write `version: \"{python}\"` below `python`, and {base}"
        ));
    }
    if let Some((python, relaxed)) = &nearest {
        let after: Vec<&str> = relaxed.iter().map(|one| one.after.as_str()).collect();
        ways.push(format!("on Python {python} the nearest that work together are {}", after.join(", ")));
    }
    Err(Error::Pins { error: Box::new(refused), ways: Difference::chain(ways), are_near: nearest.is_some() })
}

/// What Python packages are for on each of `platforms`.
fn targets(session: &Session, subject: &Subject<'_>, platforms: &[Platform]) -> Result<Vec<Target>, Error> {
    let (base, user) = (base(subject)?, subject.convention.user());
    let (manifest, root, request) = (subject.manifest, subject.root, &subject.commands);
    let commands = Commands { manifest, root, user: &user, request };
    let mut found = Vec::new();
    for platform in platforms {
        if let Some(target) = base.target(*platform).filter(|_| !manifest.has_commands()) {
            found.push(target);
            continue;
        }
        // It was there a moment ago.
        let locked = lower(session, subject, &base, &commands, &[], *platform, None)?;
        if let Some(python) = python_of(subject, &base, &locked) {
            found.push(base::target(&locked.standing().base, python, *platform)?);
        }
    }
    Ok(found)
}

/// Pins in words.
fn named(pins: &[Wanted]) -> String {
    pins.iter().map(|pin| format!("`{}`", pin.text)).collect::<Vec<_>>().join(", ")
}

/// The same with their places.
fn placed_names(pins: &[Wanted]) -> String {
    pins.iter().map(|pin| format!("`{}` ({})", pin.text, pin.place())).collect::<Vec<_>>().join(", ")
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
        let wanted = &subject.requirements.clone().relaxed(&lock.relaxed).wanted;
        for wanted in wanted.iter().filter(|wanted| wanted.marker.is_empty()) {
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
    let python = python_of(subject, base, &locked);
    if let Some(python) = python.filter(|python| *python < SERVED && !subject.server.is_empty()) {
        return Err(Error::Unsaid { python });
    }
    locked.python = match (early, python) {
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
            let installed = libraries::install(session, locked, target, subject.requirements, subject.root, None)?;
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
    let aim = Aim::Newest;
    let asked = python::Resolution { requirements: &requirements, target, project: &root, preferred, aim };
    python::resolve(uv, &asked, scratch.path(), &session.progress).map_err(|error| placed(error, subject))
}

/// The error at the requirement that it is about, where the project itself has one of that package.
fn placed(error: python::Error, subject: &Subject<'_>) -> Error {
    let package = match &error {
        python::Error::Refused(
            Refusal::NotFound { package, .. } | Refusal::NoWheel { package, .. } | Refusal::NoVersion { package, .. },
        ) => package,
        _ => return error.into(),
    };
    let name = required_name(package);
    match subject.requirements.wanted.iter().find(|wanted| Some(&wanted.name) == name.as_ref()) {
        Some(wanted) => Error::Requirement { place: wanted.place(), error },
        None => error.into(),
    }
}
