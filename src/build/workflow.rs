//! The way from what a person names to an image in the store: opened and checked, locked, built, named.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fs_err as fs;

use super::adopt;
use super::built::{Built, Step, Watch};
use super::commands::{self, Commands};
use super::dockerfile;
use super::input::{self, Input, Kept};
use super::next;
use super::resolve::{self, Moved, Renewal, Subject};
use super::vendor;
use crate::base::requirements::Requirements;
use crate::base::{self, BaseName, LockedBase};
use crate::bundle::apart::Part;
use crate::bundle::import::bento::{self as import, Bento, Recipe, Steps};
use crate::bundle::origin;
use crate::bundle::runtime::Convention;
use crate::bundle::{self, Hashing};
use crate::check::target::Target;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::image::oci::platform::{Platform, UnknownPlatform};
use crate::image::registry::{Reference, ReferenceError};
use crate::image::session::Session;
use crate::image::store::{self, ImageName, ImageNameError, ImageQuery, ImageRecord, Store};
use crate::image::{self, Image};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::Project;
use crate::project::init::is_pickle;
use crate::project::lock::{self, Executed, Lock};
use crate::project::manifest::{Manifest, Version};
use crate::project::trained;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bento.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// A bundle, or a file of a project or bento.
    #[error(transparent)]
    Input(#[from] input::Error),
    /// A model without a project.
    #[error(transparent)]
    Adopt(#[from] adopt::Error),
    /// The lock.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// A layer.
    #[error(transparent)]
    Build(#[from] super::Error),
    /// What has to be executed.
    #[error(transparent)]
    Steps(#[from] super::steps::Error),
    /// An image that was there before.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A part of an image.
    #[error(transparent)]
    Part(#[from] bundle::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file could not be found. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// This machine's processor is none that images are built for.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// Which version it is cannot be told.
    #[error(transparent)]
    Next(#[from] next::Error),
    /// What the image would be called cannot be a name.
    #[error(transparent)]
    Name(#[from] ImageNameError),
    /// What names a registry names no image there.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// What the person wrote has mistakes, which whoever watches was shown.
    #[error("{}", mistaken(path, *errors))]
    Mistakes {
        /// The project or the bento.
        path: PathBuf,
        /// How many; none where there is nothing to have some.
        errors: Option<usize>,
    },
    /// What belongs into a project's manifest was given beside it.
    #[error("--base is for bentos, and --lock for them and for Dockerfiles")]
    ForBentos,
    /// What belongs into a project's manifest was given beside it.
    #[error("--root is for models without a project")]
    ForModels,
    /// What a Dockerfile makes of a folder does not travel in a bundle.
    #[error("the base of the project is made by its Dockerfile, which does not travel in a bundle")]
    StaysHere,
    /// What an address leads to is called a bundle or a bento, and is neither.
    #[error("what is at {from} is no bundle and no bento")]
    NotPacked {
        /// The address.
        from: String,
    },
    /// Nothing lies there, and no image can be called so.
    #[error("there is no file or folder `{text}`, and {why}")]
    Nothing {
        /// As it was given.
        text: String,
        /// Why it is no name.
        why: ImageNameError,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Import(error) => error.explain(),
            Self::Input(error) => error.explain(),
            Self::Adopt(error) => error.explain(),
            Self::Resolve(error) => error.explain(),
            Self::Build(error) => error.explain(),
            Self::Steps(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Part(error) => error.explain(),
            Self::Next(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Platform(error) => error.explain(),
            Self::Name(error) => error.explain(),
            Self::Reference(error) => error.explain(),
            Self::Mistakes { .. } => ErrorKind::Invalid.named("project/mistakes"),
            Self::ForBentos => {
                ErrorKind::Usage.named("project/for-bentos").hint("set `base` in the manifest; its lock lies beside it")
            }
            Self::ForModels => ErrorKind::Usage.named("project/for-models").hint("set `service.root` in the manifest"),
            Self::StaysHere => ErrorKind::Usage
                .named("project/stays-here")
                .hint("build it alone with `ekiben build --file`, push it, and name that image as `base`"),
            Self::NotPacked { .. } => ErrorKind::Invalid.named("project/not-packed"),
            Self::Nothing { .. } => ErrorKind::Usage.named("project/nothing"),
        }
    }
}

impl Error {
    /// The mistakes in what lies at `path`, shown to whoever watches.
    pub fn mistakes(path: &Path, mistakes: &Diagnostics, watch: &dyn Watch) -> Self {
        watch.diagnostics(mistakes);
        let is_there = !mistakes.sorted().iter().any(|mistake| mistake.code == Code::NoManifest);
        Self::Mistakes { path: path.to_owned(), errors: is_there.then(|| mistakes.errors()) }
    }
}

/// What is to be said of what has so many mistakes, or is not there.
fn mistaken(path: &Path, errors: Option<usize>) -> String {
    let shown = if path == Path::new(".") { "the current folder".to_owned() } else { path.display().to_string() };
    match errors {
        None => format!("{shown} is no project"),
        Some(1) => format!("{shown} has 1 mistake"),
        Some(errors) => format!("{shown} has {errors} mistakes"),
    }
}

/// What is built from, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the person names.
    pub path: PathBuf,
    /// What may be done to a lock.
    pub renewal: Renewal,
    /// When weights are hashed.
    pub hashing: Hashing,
    /// What the image of a bento stands on, in place of what the bento says.
    pub base: Option<BaseName>,
    /// Where the lock of a bento is kept; without it, beside the bento, under its name with `.lock` behind it.
    pub lock: Option<PathBuf>,
    /// Below which path a model without a project answers. None: at the root.
    pub root: Option<String>,
    /// Whether pins give way that have no wheels.
    pub relax: bool,
    /// Whether it is built to be trained: without a model that was trained before.
    pub untrained: bool,
    /// What may be executed, and with what; besides, a project's manifest says what its own commands may do.
    pub commands: dockerfile::Request,
}

impl Request {
    /// What lies at `path`, with what is usual for all else.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            renewal: Renewal::IfNeeded,
            hashing: Hashing::IfUnknown,
            base: None,
            lock: None,
            root: None,
            relax: false,
            untrained: false,
            commands: dockerfile::Request::default(),
        }
    }
}

/// What everything is got together for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A bundle: nothing is put together before it is asked for.
    Bundle,
    /// An image: its base is put together while Python packages are resolved.
    Image,
}

/// What an image is built from, opened and checked. Nothing is locked yet.
pub struct Opened {
    request: Request,
    source: Source,
}

enum Source {
    Project(Project),
    Bento {
        bento: Bento,
        recipe: Recipe,
        requirements: Requirements,
    },
    /// A bundle, whose lock is in it.
    Bundle(Box<Input>),
}

impl Opened {
    /// Opens what `request` names.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or has mistakes.
    pub fn open(session: &Session, request: Request, watch: &dyn Watch) -> Result<Self, Error> {
        let mut target = Target::of(&request.path)?;
        if let Target::Model(address) = &target
            && let Some(kept) = adopt::packed(session, address)?
        {
            target = match Target::of(&kept)? {
                packed @ (Target::Bundle(_) | Target::Bento(_)) => packed,
                _ => return Err(Error::NotPacked { from: address.to_string() }),
            };
        }
        if !matches!(target, Target::Bento(_)) && (request.base.is_some() || request.lock.is_some()) {
            return Err(Error::ForBentos);
        }
        if !matches!(target, Target::Model(_)) && request.root.is_some() {
            return Err(Error::ForModels);
        }
        let source = match target {
            Target::Bundle(path) => {
                Source::Bundle(shown(Input::open(session, &path, request.commands.clone()), watch)?.into())
            }
            Target::Bento(path) => Source::bento(session, &path, &request, watch)?,
            Target::Model(address) => {
                let mut found = Diagnostics::new();
                let made = adopt::project(session, &address, request.root.as_deref(), &mut found);
                watch.diagnostics(&found);
                Source::Project(project(&made?, watch)?)
            }
            Target::Archive(path) => {
                let mut found = Diagnostics::new();
                let made = adopt::archive(session, &path, &mut found);
                watch.diagnostics(&found);
                Source::Project(project_known_as(&made?, Some(&path), watch)?)
            }
            // What is not there, the project says best.
            Target::Project(_) | Target::Name(_) => Source::Project(project(&request.path, watch)?),
        };
        Ok(Self { request, source })
    }

    /// What the person wants.
    pub fn manifest(&self) -> &Manifest {
        match &self.source {
            Source::Project(project) => &project.manifest,
            Source::Bento { recipe, .. } => &recipe.manifest,
            Source::Bundle(input) => &input.manifest,
        }
    }

    /// The project, if it is one.
    pub fn project(&self) -> Option<&Project> {
        match &self.source {
            Source::Project(project) => Some(project),
            Source::Bento { .. } | Source::Bundle(_) => None,
        }
    }

    /// What has to be executed for the image.
    pub fn steps(&self) -> Option<&Steps> {
        let steps = match &self.source {
            Source::Project(_) => None,
            Source::Bento { recipe, .. } => Some(&recipe.steps),
            Source::Bundle(input) => Some(&input.steps),
        };
        steps.filter(|steps| !steps.are_none())
    }

    /// The manifest, with what the files hold that its tests name.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn with_files(&self) -> std::io::Result<Manifest> {
        let manifest = self.manifest();
        match &self.source {
            Source::Project(project) => manifest.with_files(&|path| fs::read(project.root.join(path))),
            Source::Bento { bento, .. } => manifest.with_files(&|path| fs::read(bento.root.join(path))),
            Source::Bundle(input) => {
                manifest.with_files(&|path| input.bundle.read(path).map_err(std::io::Error::other))
            }
        }
    }

    /// Gets everything together. It is locked for `platforms`, and a project also for those in its manifest.
    ///
    /// # Errors
    /// When it cannot be locked, or a file not be read.
    pub fn input(
        self,
        session: &Session,
        platforms: &[Platform],
        goal: Goal,
        watch: &dyn Watch,
    ) -> Result<Input, Error> {
        let input = self.together(session, platforms, goal, watch)?;
        tell_relaxed(session, &input.lock, input.bundle.weights().iter().map(|weight| weight.path.as_str()));
        Ok(input)
    }

    fn together(
        self,
        session: &Session,
        platforms: &[Platform],
        goal: Goal,
        watch: &dyn Watch,
    ) -> Result<Input, Error> {
        if goal == Goal::Bundle && self.manifest().build.file.is_some() {
            return Err(Error::StaysHere);
        }
        if goal == Goal::Image
            && let Some(steps) = self.steps()
        {
            super::steps::allow(steps, &self.request.commands)?;
        }
        let Request { renewal, hashing, lock: kept, relax, untrained, commands, .. } = self.request;
        match self.source {
            Source::Bundle(input) => {
                let platforms = match goal {
                    Goal::Bundle => Vec::new(),
                    Goal::Image => Platform::named_or_host(platforms)?,
                };
                vendor::take(session, &input, &platforms)?;
                resolve::executed(session, &input, &platforms)?;
                Ok(*input)
            }
            Source::Project(project) => {
                let mut wanted = project.manifest.platforms.clone();
                if renewal != Renewal::Never {
                    wanted.extend(platforms.iter().filter(|platform| !project.manifest.platforms.contains(platform)));
                }
                let commands = commands::request(&project.manifest, commands);
                let subject = Subject { platforms: &wanted, relax, commands, ..Subject::of(&project) };
                let mut lock = locked(session, &subject, renewal, goal, Convention::Ekiben, watch)?;
                lock.trained = lock.trained.filter(|_| !untrained);
                if !untrained {
                    tell_of_training(session, &project, &lock)?;
                }
                let input = Input::of_project(session, &project, lock, hashing)?;
                let found = input.check_fetched(session, &project.path);
                if found.has_errors() {
                    return Err(Error::mistakes(&project.root, &found, watch));
                }
                watch.diagnostics(&found);
                Ok(input)
            }
            Source::Bento { bento, recipe, requirements } => {
                let beside = || {
                    let mut name = bento.path.file_name().unwrap_or_default().to_owned();
                    name.push(".lock");
                    bento.path.with_file_name(name)
                };
                let subject = Subject {
                    manifest: &recipe.manifest,
                    root: &bento.root,
                    convention: Convention::Bento,
                    requirements: &requirements,
                    server: &[],
                    platforms,
                    path: kept.unwrap_or_else(beside),
                    shipped: Some(bento.root.join(lock::NAME)),
                    moved: Moved::Stays,
                    relax,
                    commands: commands.clone(),
                };
                let lock = locked(session, &subject, renewal, goal, Convention::Bento, watch)?;
                let kept = Kept { path: subject.path.clone(), is_binding: renewal == Renewal::Never };
                let input = Input::of_bento(session, &bento, recipe, commands, lock, hashing)?;
                Ok(Input { kept: Some(kept), ..input })
            }
        }
    }
}

impl Source {
    fn bento(session: &Session, path: &Path, request: &Request, watch: &dyn Watch) -> Result<Self, Error> {
        let started = Instant::now();
        let bento = Bento::open(session, path)?;
        if bento.own_manifest().is_some() {
            let input = shown(Input::of_own_bento(session, &bento, request.hashing), watch)?;
            return Ok(Self::Bundle(Box::new(Input { commands: request.commands.clone(), ..input })));
        }
        let (recipe, mut mistakes) = bento.describe(request.base.as_ref());
        bento.check_models(&mut mistakes);
        let requirements = recipe.as_ref().map(|recipe| bento.requirements(&recipe.manifest, &mut mistakes));
        match (recipe, requirements) {
            (Some(recipe), Some(requirements)) if !mistakes.has_errors() => {
                watch.diagnostics(&mistakes);
                watch.done(Step::Read(&recipe.manifest.name), started.elapsed());
                Ok(Self::Bento { bento, recipe, requirements })
            }
            _ => Err(Error::mistakes(path, &mistakes, watch)),
        }
    }
}

/// Says where a model is not trained yet, or was trained by other code.
fn tell_of_training(session: &Session, project: &Project, lock: &Lock) -> Result<(), Error> {
    let Some(training) = &project.manifest.training else { return Ok(()) };
    let read = |file: &str| fs::read(project.root.join(file));
    let code = trained::code(&project.manifest, &read)?;
    match &lock.trained {
        Some(trained) if Some(trained.code) != code => {
            session
                .progress
                .warn("what trains the model was changed since it was trained: `ekiben train` makes it anew");
        }
        None if !project.files.model.iter().any(|file| file.path.as_str() == training.output) => {
            session.progress.warn(format!(
                "{} is not trained yet, and is answered for with 503 until it is: `ekiben train`",
                training.output
            ));
        }
        _ => {}
    }
    Ok(())
}

/// An input whose documents' mistakes are shown.
fn shown(input: Result<Input, input::Error>, watch: &dyn Watch) -> Result<Input, Error> {
    if let Err(input::Error::Malformed { diagnostics, .. }) = &input {
        watch.diagnostics(diagnostics);
    }
    Ok(input?)
}

/// Reads and checks the project at `path`.
///
/// # Errors
/// When it has mistakes.
pub fn project(path: &Path, watch: &dyn Watch) -> Result<Project, Error> {
    project_known_as(path, None, watch)
}

/// The same, where people know the folder by another name.
fn project_known_as(path: &Path, known_as: Option<&Path>, watch: &dyn Watch) -> Result<Project, Error> {
    let started = Instant::now();
    let renamed = |found: Diagnostics| match known_as {
        Some(shown) => found.known_as(&path.display().to_string(), &shown.display().to_string()),
        None => found,
    };
    match Project::load(path) {
        Ok((project, warnings)) => {
            watch.diagnostics(&renamed(warnings));
            watch.done(Step::Validated(&project.manifest.name), started.elapsed());
            Ok(project)
        }
        Err(mistakes) => Err(Error::mistakes(known_as.unwrap_or(path), &renamed(mistakes), watch)),
    }
}

/// The lock of `subject`, renewed as `renewal` says.
///
/// # Errors
/// As [`resolve::lock`].
pub fn lock(
    session: &Session,
    subject: &Subject<'_>,
    renewal: Renewal,
    meanwhile: &resolve::Meanwhile<'_>,
    watch: &dyn Watch,
) -> Result<Lock, Error> {
    let started = Instant::now();
    let result = resolve::lock(session, subject, renewal, meanwhile);
    if let Err(resolve::Error::Malformed(diagnostics)) = &result {
        watch.diagnostics(diagnostics);
    }
    let (lock, written) = result?;
    if written {
        watch.done(Step::Locked(&lock), started.elapsed());
    }
    Ok(lock)
}

/// Says which pins gave way in a lock, and which of the model's `files` may not be read with other versions.
pub fn tell_relaxed<'a>(session: &Session, lock: &Lock, files: impl Iterator<Item = &'a str>) {
    if lock.relaxed.is_empty() {
        return;
    }
    let all = lock.relaxed.iter().map(|one| format!("{} became {} ({})", one.before, one.after, one.why));
    let all = all.collect::<Vec<_>>().join(", ");
    session.progress.warn(format!("the lock has other versions than the requirements pin: {all}"));
    let pickles: Vec<String> = files.filter(|file| is_pickle(file)).map(|file| format!("`{file}`")).collect();
    if !pickles.is_empty() {
        let whose = pickles.join(", ");
        session.progress.warn(format!("{whose} may not load with other versions, or answer something else"));
    }
}

/// Which files of the project's model have changed where they live since the lock was made.
///
/// # Errors
/// When nobody there can be asked.
pub fn moved(session: &Session, project: &Project, lock: &Lock) -> Result<Diagnostics, Error> {
    let mut found = Diagnostics::new();
    for (number, _, address) in project.manifest.model.remote() {
        let from = address.to_string();
        let Some(model) = lock.models.iter().find(|model| model.from == from) else { continue };
        let moved = origin::moved(session, address, model).map_err(resolve::Error::from)?;
        if !moved.is_empty() {
            let at = format!("/model/files/{number}/from");
            let message = format!("there is another version than the lock has of {}", moved.join(", "));
            let warning = project.document.at(Code::ModelMoved, &at, message);
            found.push(warning.help("take it up with `ekiben lock --upgrade-models`"));
        }
    }
    Ok(found)
}

/// The same on the way to `goal`, for an image laid out by `convention`.
fn locked(
    session: &Session,
    subject: &Subject<'_>,
    renewal: Renewal,
    goal: Goal,
    convention: Convention,
    watch: &dyn Watch,
) -> Result<Lock, Error> {
    let manifest = subject.manifest;
    // This machine's base needs to be there whatever is built, as its Python compiles.
    let assemble = |session: &Session, base: &LockedBase, platform: Platform| {
        if goal == Goal::Image && manifest.needs_python() && Platform::host().is_ok_and(|host| host == platform) {
            base::trees(session, manifest.base_spec(), base, platform, &convention.user())?;
        }
        Ok(())
    };
    lock(session, subject, renewal, &assemble, watch)
}

/// Builds the image of `input` for this machine's platform, or an index for several, and gives it the names `names` in
/// the store (`NAME:VERSION` where there are none).
///
/// # Errors
/// When something that the lock names cannot be had, a layer not be made, or the store not be written.
pub fn build(
    session: &Session,
    input: Input,
    platforms: &[Platform],
    names: &[ImageName],
    watch: &dyn Watch,
) -> Result<Built, Error> {
    part(session, input, platforms, Part::Whole, names, watch)
}

/// The same of a part of the image: its name, where none is given, says which.
///
/// # Errors
/// As [`build`], and when the image has no such parts.
pub fn part(
    session: &Session,
    input: Input,
    platforms: &[Platform],
    part: Part,
    names: &[ImageName],
    watch: &dyn Watch,
) -> Result<Built, Error> {
    let started = Instant::now();
    let platforms = Platform::named_or_host(platforms)?;
    let is_binding = input.kept.as_ref().is_some_and(|kept| kept.is_binding);
    let mut lock = input.lock.clone();
    let is_next = input.manifest.version.as_ref().is_some_and(Version::is_next);
    let assigned = match &input.versioned {
        Some(targets) if is_next => Some(next::version(session, &input, names, targets)?),
        _ => None,
    };
    let mut build = |platform: &Platform| -> Result<Image, Error> {
        let ledger = Commands::ledger(input.lock.platforms.get(platform), is_binding);
        let mut image = super::build(session, &input, *platform, &ledger)?;
        if let Some(locked) = lock.platforms.get_mut(platform).filter(|_| input.kept.is_some()) {
            locked.executed = Some(ledger.found()).filter(|found| *found != Executed::default());
        }
        if let Some(version) = assigned {
            image = next::versioned(image, version);
        }
        if part != Part::Whole {
            image = image.finished(&session.store, &session.progress)?;
        }
        Ok(part.of(session, image)?)
    };
    let mut images = platforms.iter().map(&mut build).collect::<Result<Vec<_>, _>>()?;
    if let Some(kept) = input.kept.as_ref().filter(|kept| !kept.is_binding && lock != input.lock) {
        lock.write(&kept.path)?;
        watch.done(Step::Locked(&lock), started.elapsed());
    }
    let (digest, descriptor) = match images.as_slice() {
        [image] => image.save(&session.store)?,
        images => image::index::save(&session.store, images)?,
    };
    let image = images.swap_remove(0);
    let version = assigned.map_or_else(|| input.bundle.version().replace('+', "_"), |version| version.to_string());
    let renamed: Vec<_> =
        assigned.iter().flat_map(|to| names.iter().filter_map(|name| next::named(name, *to))).collect();
    let names = if assigned.is_some() { &renamed } else { names };
    let default = format!("{}:{version}{}", input.bundle.name(), part.suffix()).parse()?;
    let names = if names.is_empty() { std::slice::from_ref(&default) } else { names };
    let origin = fs::canonicalize(&input.origin)?;
    for name in names {
        let before = session.store.tag_built(name, descriptor.clone(), &origin)?;
        // One that has moved is the same one.
        let other =
            before.as_ref().and_then(|before| before.origin()).filter(|other| *other != origin && other.exists());
        // What a command calls so for itself, nobody names.
        if let Some(other) = other.filter(|_| !OWN_TAGS.contains(&name.tag())) {
            let remedy = match *name == default {
                true => "give one of the two another name or version in its manifest",
                false => "give one of the two another tag",
            };
            session.progress.warn(format!("`{name}` was the image of {} until now: {remedy}", other.display()));
        }
    }
    let name = names.first().cloned().unwrap_or(default);
    watch.done(Step::Built(&name, &image), started.elapsed());
    Ok(Built { name, digest, image, manifest: Some(input.manifest), version: assigned })
}

/// The tag of what `ekiben run --watch` runs, so that no version of the model becomes what somebody has just saved.
pub const WATCHED: &str = "watch";

/// The tag of what a model is trained in.
pub const TRAINING: &str = "training";

const OWN_TAGS: [&str; 2] = [WATCHED, TRAINING];

/// The image that `request` means, to be started here: one that is built from what lies at the path, or one of that name in the store.
///
/// # Errors
/// As [`Opened::open`], [`Opened::input`] and [`build`].
pub fn image(session: &Session, request: Request, watch: &dyn Watch) -> Result<Built, Error> {
    if let Target::Name(text) = Target::of(&request.path)? {
        let query = text.parse().map_err(|why| Error::Nothing { text, why })?;
        let record = find(&session.store, &query)?;
        let image = Image::of_record(&session.store, &record)?;
        return Ok(Built { name: record.name, digest: record.digest, image, manifest: None, version: None });
    }
    let opened = Opened::open(session, request, watch)?;
    let manifest = opened.with_files()?;
    let built = build(session, opened.input(session, &[], Goal::Image, watch)?, &[], &[], watch)?;
    Ok(Built { manifest: Some(manifest), ..built })
}

/// The image that `request` means, as it is handed on: one that is built from what lies at the path, one of that name in the
/// store, or one in a registry, whose layers may still be there. Of several that for `platform`, or for this machine.
///
/// # Errors
/// As [`image`], and when a registry has none.
pub fn whole(
    session: &Session,
    request: Request,
    platform: Option<Platform>,
    watch: &dyn Watch,
) -> Result<Image, Error> {
    let Target::Name(text) = Target::of(&request.path)? else {
        let platforms: Vec<_> = platform.into_iter().collect();
        let input = Opened::open(session, request, watch)?.input(session, &platforms, Goal::Image, watch)?;
        let built = build(session, input, &platforms, &[], watch)?;
        return Ok(Image::load(&session.store, &built.finished(session)?)?);
    };
    let record = match Reference::names_registry(&text) {
        true => session.store.image(&Reference::local_name(&text)?),
        false => {
            let query = text.parse().map_err(|why| Error::Nothing { text: text.clone(), why })?;
            find(&session.store, &query)
        }
    };
    match record {
        Err(store::Error::NoImage { .. }) if Reference::names_registry(&text) => {
            let reference = text.parse()?;
            Ok(image::remote::find(session, &reference, platform.map_or_else(Platform::host, Ok)?)?.1)
        }
        record => {
            let (record, image) = Image::handed_on(session, record?)?;
            Ok(match platform {
                Some(platform) => Image::load_for(&session.store, &record.digest, platform)?,
                None => image,
            })
        }
    }
}

/// The image of the store that a person means. A name without a tag is that of the version which the project in the
/// current folder has, where it is that project's.
///
/// # Errors
/// As [`Store::find`].
pub fn find(store: &Store, query: &ImageQuery) -> Result<ImageRecord, store::Error> {
    let here = Project::manifest_in(Path::new(".")).filter(|manifest| manifest.name == query.repository());
    let version = match here.and_then(|manifest| manifest.version) {
        Some(version) if version.is_next() => next::last(store, query.repository())?,
        version => version.map(|version| version.to_string().replace('+', "_")),
    };
    store.find(query, version.as_deref())
}
