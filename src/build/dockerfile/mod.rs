//! A Dockerfile, executed: an image without Docker and without a daemon.
//!
//! First a plan ([`plan`]): which stages are needed, and what each stands on. Then its stages are made, those that do not
//! wait for each other at once, instruction by instruction ([`make`]). What instructions read of an image is read from the
//! archives of its layers ([`contents`]), so that copying unpacks nothing and needs no right; only `RUN` has a tree
//! ([`crate::run::step`]), and only where the person allows it.
//!
//! Each layer is remembered under all that went into it, and made once.

mod accounts;
pub(super) mod contents;
mod copy;
mod error;
mod hashed;
mod keeping;
mod ledger;
mod make;
mod mode;
mod plan;
mod scope;
mod source;
mod stage;
mod upon;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fs_err as fs;

use super::built::{Built, Step, Watch};
use crate::base::BaseName;
use crate::formats::diagnostic::{Diagnostics, Source};
use crate::formats::dockerfile::{self, Dockerfile, Ignore, Instruction, Kind};
use crate::formats::document::{self, shown};
use crate::image::oci::platform::Platform;
use crate::image::registry::Reference;
use crate::image::session::{self, Session};
use crate::image::store::ImageName;
use crate::image::{Image, index};
use crate::run::step::{self, Command, Trees, Workshop};
pub use error::Error;
pub use keeping::Keeping;
pub use ledger::Ledger;
use make::Making;
use plan::Plan;
use scope::Scope;
pub use stage::EXECUTED;
use stage::Stage;
pub use upon::{allow, upon};

/// How many commands were executed for an image, as it says itself; none where none was.
pub fn executed(image: &Image) -> Option<u64> {
    image.config().labels().as_ref()?.get(EXECUTED)?.parse().ok()
}

/// What commands may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// None is executed.
    #[default]
    Nothing,
    /// They are executed, without a network.
    Commands,
    /// They are executed, and reach what the host reaches of the network, but for the host itself.
    Network,
}

/// A folder or an image that stands in under a name.
#[derive(Clone, Debug)]
pub enum Context {
    /// Files.
    Folder(PathBuf),
    /// What a base is called.
    Image(BaseName),
    /// An image that is there.
    Made(Box<Image>),
}

/// What is to be built.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The Dockerfile. None: the one in the context.
    pub file: Option<PathBuf>,
    /// Where `COPY` takes files from.
    pub context: PathBuf,
    /// The stage that becomes the image, by name or number; the last one where none is given.
    pub target: Option<String>,
    /// Values of `ARG`.
    pub arguments: BTreeMap<String, String>,
    /// What stands in under a name, for `FROM` and `--from`.
    pub contexts: BTreeMap<String, Context>,
    /// What commands see as `--mount=type=secret`, by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Sockets of agents, for `--mount=type=ssh`, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// Repositories from which the layers are taken that commands led to before, where the lock has them.
    pub cache_from: Vec<Reference>,
    /// What commands may do.
    pub allowed: Allowed,
    /// Nothing is taken that was made before.
    pub anew: bool,
    /// Each command is executed twice, and has to lead to the same both times.
    pub verify: bool,
}

impl Request {
    /// The Dockerfile's path.
    ///
    /// # Errors
    /// When the context has none.
    pub fn path(&self) -> Result<PathBuf, Error> {
        match &self.file {
            Some(path) => Ok(path.clone()),
            None => file_in(&self.context).ok_or_else(|| Error::NoFile { context: self.context.clone() }),
        }
    }
}

/// The Dockerfile in a folder, where there is one.
pub fn file_in(folder: &Path) -> Option<PathBuf> {
    dockerfile::FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// A Dockerfile, read.
pub struct Opened {
    source: Arc<Source>,
    file: Dockerfile,
    ignore: Ignore,
    /// Where its parts are really written, each with where it begins; none where it is a file.
    excerpts: Vec<(usize, String)>,
}

impl Opened {
    /// Reads the Dockerfile of `request`, and what it leaves out of the context.
    ///
    /// # Errors
    /// When it cannot be read, or has mistakes, which `watch` is shown.
    pub fn of(request: &Request, watch: &dyn Watch) -> Result<Self, Error> {
        let path = request.path()?;
        let mut mistakes = Diagnostics::new();
        let source = document::read_text(&path, &shown(&path), document::MAX_BYTES, &mut mistakes);
        let read = source.ok_or(mistakes).and_then(|source| Ok((Dockerfile::parse(&source)?, source)));
        let (file, source) = read.map_err(|mistakes| {
            watch.diagnostics(&mistakes);
            Error::Mistakes { path: path.clone(), errors: mistakes.errors() }
        })?;
        let mut own = path.into_os_string();
        own.push(".dockerignore");
        let ignored = [PathBuf::from(own), request.context.join(".dockerignore")];
        let ignore = match ignored.iter().find(|path| path.is_file()) {
            Some(path) => Ignore::read(&fs::read_to_string(path)?)
                .map_err(|error| Error::Ignore { place: format!("{}:{}", shown(path), error.line()), error })?,
            None => Ignore::default(),
        };
        Ok(Self { source, file, ignore, excerpts: Vec::new() })
    }

    /// FILE:LINE of an instruction.
    fn place(&self, instruction: &Instruction) -> String {
        if let Some((_, place)) = self.excerpts.iter().rev().find(|(start, _)| *start <= instruction.span.start) {
            return place.clone();
        }
        format!("{}:{}", self.source.path(), self.source.position(instruction.span.start).0)
    }

    /// Sees whether the commands of `stages` may be executed.
    fn allow<'a>(&self, stages: impl Iterator<Item = &'a dockerfile::Stage>, allowed: Allowed) -> Result<(), Error> {
        if allowed >= Allowed::Commands {
            return Ok(());
        }
        let runs = stages.flat_map(|stage| &stage.instructions).filter(|it| matches!(it.kind, Kind::Run(_)));
        let told = |it: &Instruction| format!("{} {}", self.place(it), error::shortened(&it.original));
        let commands: Vec<_> = runs.map(told).collect();
        if commands.is_empty() { Ok(()) } else { Err(Error::NotAllowed { commands }) }
    }
}

/// Called where a command has failed, with what there was before it, and the command.
pub type Debug<'a> = dyn Fn(&Workshop, &Trees, &Command) -> Result<(), step::Error> + Sync + 'a;

/// Builds the image for `platforms`, this machine's where there are none, and gives it the names `names` in the store: the
/// folder's with the tag `latest`, where there are none. What its images and commands lead to is that of `lock`, or written there.
/// `debug` is called where a command has failed.
///
/// # Errors
/// See [`Error`].
pub fn built(
    session: &Session,
    request: &Request,
    platforms: &[Platform],
    names: &[ImageName],
    lock: Option<&Keeping>,
    debug: Option<&Debug<'_>>,
    watch: &dyn Watch,
) -> Result<Built, Error> {
    let started = Instant::now();
    let opened = Opened::of(request, watch)?;
    let platforms = Platform::named_or_host(platforms)?;
    let (mut images, mut found) = (Vec::new(), BTreeMap::new());
    for platform in platforms {
        let ledger = lock.map_or_else(Ledger::default, |lock| lock.ledger(platform));
        images.push(build(session, request, &opened, platform, &ledger, debug)?);
        found.insert(platform, ledger.found());
    }
    if let Some(lock) = lock
        && lock.write(found)?
    {
        watch.done(Step::DockerfileLocked(lock.path()), started.elapsed());
    }
    let (digest, descriptor) = match images.as_slice() {
        [image] => image.save(&session.store)?,
        images => index::save(&session.store, images)?,
    };
    let image = images.swap_remove(0);
    let origin = fs::canonicalize(&request.context)?;
    let default = name_of(&origin);
    let names = if names.is_empty() { std::slice::from_ref(&default) } else { names };
    for name in names {
        session.store.tag_built(name, descriptor.clone(), &origin)?;
    }
    let name = names.first().cloned().unwrap_or(default);
    watch.done(Step::Built(&name, &image), started.elapsed());
    Ok(Built { name, digest, image, manifest: None, version: None })
}

/// What an image is called that was built in a folder.
fn name_of(folder: &Path) -> ImageName {
    let text = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let fits = |letter: char| letter.is_ascii_alphanumeric();
    let text: String = text.chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    let parts: Vec<_> = text.split('-').filter(|part| !part.is_empty()).collect();
    let name = parts.join("-").parse();
    // A folder may be called by letters alone that no name has.
    name.or_else(|_| "image".parse()).unwrap_or_else(|_| unreachable!("it is a name"))
}

/// Builds the image for `platform`. What commands lead to, and what names mean, is written into `ledger`.
///
/// # Errors
/// See [`Error`].
pub fn build(
    session: &Session,
    request: &Request,
    opened: &Opened,
    platform: Platform,
    ledger: &Ledger,
    debug: Option<&Debug<'_>>,
) -> Result<Image, Error> {
    let image = made(session, request, opened, platform, ledger, debug)?;
    Ok(match session.making {
        session::Making::Unpacked => image.finished_before(&session.store),
        _ => image.finished(&session.store, &session.progress)?,
    })
}

/// The same, of which some layers may not be compressed yet.
fn made(
    session: &Session,
    request: &Request,
    opened: &Opened,
    platform: Platform,
    ledger: &Ledger,
    debug: Option<&Debug<'_>>,
) -> Result<Image, Error> {
    let host = Platform::host()?;
    let mut globals = Scope::new(request.arguments.clone(), platform, host, request.target.as_deref());
    for instruction in &opened.file.globals {
        if let Kind::Arg(arguments) = &instruction.kind {
            for argument in arguments {
                globals.declare_globally(argument).map_err(|error| Error::at(opened, instruction, error))?;
            }
        }
    }
    let plan = Plan::of(&opened.file, request.target.as_deref(), &globals)?;
    for unused in globals.unused(&|name| is_declared(&opened.file, &plan, name)) {
        session.progress.warn(format!("--build-arg {unused}: no ARG that is needed has this name"));
    }
    let making = Making { session, request, opened, plan: &plan, globals: &globals, platform, ledger, debug };
    making.allow()?;
    let made: BTreeMap<usize, OnceLock<Option<Stage>>> =
        plan.bases.keys().map(|number| (*number, OnceLock::new())).collect();
    let mut first = None;
    std::thread::scope(|scope| {
        let stages: Vec<_> = plan
            .bases
            .iter()
            .map(|(number, base)| {
                let (making, made) = (&making, &made);
                scope.spawn(move || {
                    let stage = making.stage(*number, base, made);
                    if let Some(place) = made.get(number) {
                        let _ = place.set(stage.as_ref().ok().cloned());
                    }
                    stage.map(drop)
                })
            })
            .collect();
        for stage in stages {
            let result = stage.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (result, &first) {
                // That another failed says nothing.
                (Err(Error::Waited), _) | (Ok(()), _) => {}
                (Err(error), None) => first = Some(error),
                (Err(_), Some(_)) => {}
            }
        }
    });
    if let Some(error) = first {
        return Err(error);
    }
    Ok(made.get(&plan.target).and_then(OnceLock::get).cloned().flatten().ok_or(Error::Waited)?.image)
}

/// Whether an `ARG` that is needed declares `name`.
fn is_declared(file: &Dockerfile, plan: &Plan, name: &str) -> bool {
    let needed = file.stages.iter().enumerate().filter(|(number, _)| plan.bases.contains_key(number));
    let instructions = needed.flat_map(|(_, stage)| &stage.instructions).chain(&file.globals);
    let mut declared = instructions.filter_map(|instruction| match &instruction.kind {
        Kind::Arg(arguments) => Some(arguments),
        _ => None,
    });
    declared.any(|arguments| arguments.iter().any(|argument| argument.name.text() == name))
}
