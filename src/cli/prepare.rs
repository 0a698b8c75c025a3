//! What several commands begin with: finding out what the person means, checking it, and getting its image.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::printer::{NAME, Size, dim_time};
use super::{Context, Exit, Failure};
use crate::build::input::{self, Input};
use crate::build::resolve::{self, Renewal, Subject};
use crate::bundle;
use crate::bundle::import::bento as import;
use crate::bundle::runtime::Convention;
use crate::formats::diagnostic::{Diagnostics, Rendering};
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::image::{self, Image};
use crate::io::digest::Digest;
use crate::project::Project;
use crate::project::manifest::Manifest;

/// What is built from, and how.
#[derive(clap::Args)]
#[group(skip)]
pub struct Inputs {
    /// A project's folder, its manifest, a bundle, or a bento: its file, its folder, or bento:NAME:VERSION for one in
    /// BentoML's store.
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    #[command(flatten)]
    pub how: How,
}

/// How a build goes about its inputs.
#[derive(clap::Args)]
#[group(skip)]
pub struct How {
    /// Fail when the lock does not fit the manifest, rather than renew it. For CI.
    #[arg(long)]
    pub locked: bool,
    /// Read and hash the weights again, even if they look unchanged.
    #[arg(long)]
    pub no_cache: bool,
    /// What the image of a bento stands on, in place of what the bento says; as `base` in a manifest.
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Where the lock of a bento is kept. Without it: beside the bento, under its name with `.lock` behind it.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
}

impl How {
    /// What may be done to a lock.
    fn renewal(&self) -> Renewal {
        if self.locked { Renewal::Never } else { Renewal::IfNeeded }
    }
}

/// What everything is got together for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Bundle,
    Image,
}

/// An image, and what it was built from.
pub struct Built {
    pub name: ImageName,
    pub digest: Digest,
    pub image: Image,
    pub manifest: Option<Manifest>,
}

/// Prints diagnostics; errors among them end the command.
pub fn show(context: &Context, diagnostics: &Diagnostics) {
    let rendering = Rendering { colour: context.printer.colors(), width: width() };
    for diagnostic in diagnostics.sorted() {
        context.printer.line(rendering.render(diagnostic).trim_end());
    }
}

/// Columns of the terminal; 80 where there is none.
pub fn width() -> usize {
    indicatif::TermLike::width(&console::Term::stderr()).into()
}

/// Columns that a result may have: those of the terminal on stdout; 80 where there is none.
pub fn result_width() -> usize {
    indicatif::TermLike::width(&console::Term::stdout()).into()
}

/// Reads and checks the project at `path`.
pub fn project(context: &Context, path: &Path) -> Result<Project, Failure> {
    let started = Instant::now();
    match Project::load(path) {
        Ok((project, warnings)) => {
            show(context, &warnings);
            let name = &project.manifest.name;
            context.printer.status("Validated", format!("{NAME}{name}{NAME:#} {}", dim_time(started.elapsed())));
            Ok(project)
        }
        Err(mistakes) => Err(mistaken(context, path, &mistakes)),
    }
}

/// Prints the mistakes in what lies at `path`.
pub fn mistaken(context: &Context, path: &Path, mistakes: &Diagnostics) -> Failure {
    show(context, mistakes);
    let errors = match mistakes.errors() {
        1 => "1 mistake".to_owned(),
        errors => format!("{errors} mistakes"),
    };
    Failure::new(Exit::Invalid, format!("{} has {errors}", path.display()))
}

/// Gets everything together: from a bundle's file, from a bento, or from a project and its lock. It is locked for
/// `platforms`, and a project also for those in its manifest.
pub fn input(
    context: &Context,
    session: &Session,
    inputs: &Inputs,
    platforms: &[Platform],
    goal: Goal,
) -> Result<Input, Failure> {
    input_if(context, session, inputs, platforms, goal, &|_| Ok(()))
}

/// The same, if `check` has nothing against the manifest: it is asked before anything is locked.
pub fn input_if(
    context: &Context,
    session: &Session,
    inputs: &Inputs,
    platforms: &[Platform],
    goal: Goal,
    check: &dyn Fn(&Manifest) -> Result<(), Failure>,
) -> Result<Input, Failure> {
    if !is_bundle(&inputs.path)
        && let Some(path) = import::find(&inputs.path)?
    {
        return bento(context, session, &path, &inputs.how, platforms, goal, check);
    }
    if inputs.how.base.is_some() || inputs.how.lock.is_some() {
        let failure = Failure::new(Exit::Usage, "--base and --lock are for bentos");
        return Err(failure.with_hint("set `base` in the manifest; its lock lies beside it"));
    }
    if is_bundle(&inputs.path) {
        let input = Input::open(session, &inputs.path);
        if let Err(input::Error::Malformed { diagnostics, .. }) = &input {
            show(context, diagnostics);
        }
        let input = input?;
        check(&input.manifest)?;
        return Ok(input);
    }
    let project = project(context, &inputs.path)?;
    check(&project.manifest)?;
    let renewal = inputs.how.renewal();
    let convention = (goal == Goal::Image).then_some(Convention::Ekiben);
    let mut wanted = project.manifest.platforms.clone();
    if renewal != Renewal::Never {
        wanted.extend(platforms.iter().filter(|platform| !project.manifest.platforms.contains(platform)));
    }
    let subject = Subject { convention, platforms: &wanted, ..Subject::of(&project) };
    let lock = lock(context, session, &subject, renewal)?;
    Ok(Input::of_project(session, &project, lock, inputs.how.no_cache)?)
}

/// What is said in the manifest of a project, a bundle or a bento. Nothing is locked.
pub fn manifest(context: &Context, session: &Session, inputs: &Inputs) -> Result<Manifest, Failure> {
    if is_project(&inputs.path)? {
        return Ok(project(context, &inputs.path)?.manifest);
    }
    let input = match import::find(&inputs.path)? {
        Some(path) if !is_bundle(&inputs.path) => {
            let bento = import::Bento::open(session, &path)?;
            if bento.own_manifest().is_none() {
                let (manifest, mistakes) = bento.describe(None);
                return manifest.ok_or_else(|| mistaken(context, &path, &mistakes));
            }
            Input::of_own_bento(session, &bento, inputs.how.no_cache)
        }
        _ => Input::open(session, &inputs.path),
    };
    if let Err(input::Error::Malformed { diagnostics, .. }) = &input {
        show(context, diagnostics);
    }
    Ok(input?.manifest)
}

/// Whether a path is that of a project, and not of what one was packed into.
pub fn is_project(path: &Path) -> Result<bool, Failure> {
    Ok(!is_bundle(path) && import::find(path)?.is_none())
}

/// A bento, and its lock.
fn bento(
    context: &Context,
    session: &Session,
    path: &Path,
    how: &How,
    platforms: &[Platform],
    goal: Goal,
    check: &dyn Fn(&Manifest) -> Result<(), Failure>,
) -> Result<Input, Failure> {
    let started = Instant::now();
    let bento = import::Bento::open(session, path)?;
    if bento.own_manifest().is_some() {
        let input = Input::of_own_bento(session, &bento, how.no_cache);
        if let Err(input::Error::Malformed { diagnostics, .. }) = &input {
            show(context, diagnostics);
        }
        let input = input?;
        check(&input.manifest)?;
        return Ok(input);
    }
    let base = how.base.as_deref().map(from_here).transpose()?;
    let (manifest, mut mistakes) = bento.describe(base.as_deref());
    bento.check_models(&mut mistakes);
    let requirements =
        manifest.as_ref().map(|manifest| bento.requirements(manifest, &mut mistakes)).unwrap_or_default();
    let manifest = match manifest {
        Some(manifest) if !mistakes.has_errors() => {
            show(context, &mistakes);
            manifest
        }
        _ => return Err(mistaken(context, path, &mistakes)),
    };
    check(&manifest)?;
    context.printer.status("Read", format!("{NAME}{}{NAME:#} {}", manifest.name, dim_time(started.elapsed())));
    let beside = || {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        path.with_file_name(name)
    };
    let subject = Subject {
        manifest: &manifest,
        root: &bento.root,
        requirements: &requirements,
        platforms,
        path: how.lock.clone().unwrap_or_else(beside),
        shipped: Some(bento.root.join(crate::project::lock::NAME)),
        convention: (goal == Goal::Image).then_some(Convention::Bento),
    };
    let lock = lock(context, session, &subject, how.renewal())?;
    Ok(Input::of_bento(session, &bento, manifest, lock, how.no_cache)?)
}

/// A base whose path, where it has one, is meant from the current folder.
fn from_here(base: &str) -> std::io::Result<String> {
    for kind in ["oci:", "docker-archive:"] {
        if let Some(path) = base.strip_prefix(kind) {
            return Ok(format!("{kind}{}", std::path::absolute(path)?.display()));
        }
    }
    Ok(base.to_owned())
}

/// The lock of a project or a bento, renewed as `renewal` says.
pub fn lock(
    context: &Context,
    session: &Session,
    subject: &Subject<'_>,
    renewal: Renewal,
) -> Result<crate::project::lock::Lock, Failure> {
    let started = Instant::now();
    let result = resolve::lock(session, subject, renewal);
    if let Err(resolve::Error::Malformed(diagnostics)) = &result {
        show(context, diagnostics);
    }
    let (lock, written) = result?;
    if written {
        context.printer.status("Locked", format!("{} {}", summary(&lock), dim_time(started.elapsed())));
    }
    Ok(lock)
}

fn summary(lock: &crate::project::lock::Lock) -> String {
    let count = |number: usize, what: &str| format!("{number} {what} package{}", if number == 1 { "" } else { "s" });
    let Some(locked) = lock.platforms.values().next() else { return String::new() };
    let debian = match &locked.base {
        crate::base::LockedBase::Debian { packages, .. } => packages.len() + locked.system.len(),
        crate::base::LockedBase::Image { .. } => locked.system.len(),
        crate::base::LockedBase::Scratch => 0,
    };
    format!("{}, {}", count(debian, "Debian"), count(locked.python.len(), "Python"))
}

/// Builds the image of `input` for this machine's platform, or an index for several, and gives it the names `names` in
/// the store (`NAME:VERSION` where there are none).
pub fn build(
    context: &Context,
    session: &Session,
    input: Input,
    platforms: &[Platform],
    names: &[ImageName],
) -> Result<Built, Failure> {
    let started = Instant::now();
    let platforms = platforms_or_host(platforms)?;
    let build = |platform: &Platform| crate::build::build(session, &input, *platform);
    let mut images = platforms.iter().map(build).collect::<Result<Vec<_>, _>>()?;
    let (digest, descriptor) = match images.as_slice() {
        [image] => image.save(&session.store)?,
        images => image::index::save(&session.store, images)?,
    };
    let image = images.swap_remove(0);
    let default = format!("{}:{}", input.bundle.name(), input.bundle.version().replace('+', "_")).parse()?;
    let names = if names.is_empty() { std::slice::from_ref(&default) } else { names };
    for name in names {
        session.store.tag(name, descriptor.clone())?;
    }
    let name = names.first().cloned().unwrap_or(default);
    let layers = image.layers().len();
    let text = format!("{NAME}{name}{NAME:#} {layers} layers, {} {}", Size(image.size()), dim_time(started.elapsed()));
    context.printer.status("Built", text);
    Ok(Built { name, digest, image, manifest: Some(input.manifest) })
}

/// The platforms that were asked for, each once; this machine's where none was.
pub fn platforms_or_host(platforms: &[Platform]) -> Result<Vec<Platform>, Failure> {
    let mut platforms = platforms.to_vec();
    platforms.sort();
    platforms.dedup();
    if platforms.is_empty() {
        platforms.push(Platform::host()?);
    }
    Ok(platforms)
}

/// The image that `inputs` means: one that is built from what lies at the path, or one of that name in the store.
pub fn image(context: &Context, session: &Session, inputs: &Inputs) -> Result<Built, Failure> {
    if inputs.path.exists() || inputs.path.to_string_lossy().starts_with(import::SCHEME) {
        let input = input(context, session, inputs, &[], Goal::Image)?;
        return build(context, session, input, &[], &[]);
    }
    let text = inputs.path.display().to_string();
    let name: ImageName = text
        .parse()
        .map_err(|error| Failure::new(Exit::Usage, format!("there is no file or folder `{text}`, and {error}")))?;
    let (digest, image) = Image::find(&session.store, &name)?;
    Ok(Built { name, digest, image, manifest: None })
}

/// A bundle is a file whose end says so, whatever its name.
pub fn is_bundle(path: &Path) -> bool {
    path.is_file() && (path.extension().is_some_and(|extension| extension == "ekiben") || bundle::is_bundle(path))
}
