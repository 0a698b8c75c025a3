//! From a bundle to an image: layers in order of how seldom they change, and how it is started.
//!
//! The lowest layers are the base, then its user where it lacks one, Debian packages, Python's own library compiled,
//! Python packages (very large ones alone), one layer per large weight file, and code and metadata on top. A change of
//! code makes the last one anew, and nothing else.

pub mod adopt;
pub mod afar;
pub mod attest;
pub mod audit;
pub mod built;
pub mod commands;
pub mod dockerfile;
pub mod ensure;
pub mod fetch;
pub mod fit;
pub mod follow;
pub mod gate;
pub mod input;
pub mod inventory;
pub mod itself;
pub mod libraries;
pub mod next;
pub mod pins;
pub mod provenance;
pub mod resolve;
pub mod steps;
pub mod toolchain;
pub mod train;
pub mod vendor;
pub mod workflow;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use fs_err as fs;

use super::image::{self, Image};
use crate::base;
use crate::base::needs::Needs;
use crate::base::python::{self, Target};
use crate::base::requirements::{Asked, Requirements};
use crate::bundle::generate;
use crate::bundle::runtime::{self, Convention};
use crate::bundle::{self, Bundle};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::MAX_BYTES;
use crate::image::layer::{self, Layer};
use crate::image::oci::platform::Platform;
use crate::image::session::{Making, Session};
use crate::io::alone::Alone;
use crate::io::archive::{self, ArchivePath, Entry, Mode};
use crate::io::content::Opener;
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::parallel;
use crate::io::progress::Unit;
use crate::project::lock::LockedPlatform;
use crate::project::manifest::Manifest;
use dockerfile::Ledger;
use input::Input;
use libraries::Installed;
use steps::Steps;
use toolchain::Toolchain;

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The image as a whole.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Python packages.
    #[error(transparent)]
    Python(#[from] python::Error),
    /// uv, or the base's Python.
    #[error(transparent)]
    Toolchain(#[from] toolchain::Error),
    /// A member of the bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// What is executed.
    #[error(transparent)]
    Steps(#[from] steps::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The lock is for other platforms.
    #[error("the lock does not have {platform}, only {}", locked.join(", "))]
    NotLocked {
        /// What is to be built.
        platform: Platform,
        /// What could be.
        locked: Vec<String>,
    },
    /// Python packages need libraries that the image would lack.
    #[error("Python packages need libraries that the image does not have")]
    Libraries {
        /// Each library, who needs it, and which package has it.
        #[source]
        missing: libraries::Missing,
        /// The Debian packages that have them.
        packages: Vec<String>,
        /// Whether the manifest wants such packages to be found.
        are_found: bool,
    },
    /// Python packages require others that the lock lacks.
    #[error("Python packages require others that the lock does not have")]
    Packages {
        /// Each package and what it requires.
        #[source]
        missing: libraries::Missing,
        /// What they require.
        packages: Vec<String>,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Base(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Python(error) => error.explain(),
            Self::Toolchain(error) => error.explain(),
            Self::Bundle(error) => error.explain(),
            Self::Steps(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::NotLocked { platform, .. } => ErrorKind::Failure
                .named("lock/no-platform")
                .hint(format!("add `platforms: [{platform}]` to the manifest, and run `ekiben lock`")),
            Self::Libraries { are_found: true, .. } => ErrorKind::Failure
                .named("build/no-library")
                .hint("renew the lock with `ekiben lock --update`, which finds the Debian packages that have them"),
            Self::Packages { packages, .. } => ErrorKind::Failure.named("build/no-package").hint(format!(
                "renew the lock with `ekiben lock --update`; where that has them not either, add `{}` to the requirements",
                packages.join("`, `")
            )),
            Self::Libraries { packages, .. } => ErrorKind::Failure.named("build/no-library").hint(format!(
                "add `{0}` to `packages` below `system` in the manifest, or `auto`, which finds them",
                packages.join("`, `")
            )),
        }
    }
}

/// Version of what [`python_layers`] makes of the same packages. A change of it needs another number.
pub(crate) const INSTALLATION: u32 = 3;

/// Version of what [`code_layer`] makes of the same files. A change of it needs another number.
pub(crate) const CODE: u32 = 2;

/// Builds the image of `input` for `platform`. What was made before of the same inputs is taken again.
///
/// # Errors
/// When something that the lock names cannot be had, or a layer not be made.
pub fn build(session: &Session, input: &Input, platform: Platform, ledger: &Ledger) -> Result<Image, Error> {
    let Input { manifest, lock, bundle, .. } = input;
    let locked = lock.platforms.get(&platform).ok_or_else(|| Error::NotLocked {
        platform,
        locked: lock.platforms.keys().map(ToString::to_string).collect(),
    })?;
    let locked = &*locked.standing();
    let spec = manifest.base_spec();
    let user = bundle.convention().user();
    let target = lock.python.map(|python| base::target(&locked.base, python, platform)).transpose()?;
    // Bytecode is compiled by the base for this machine's processor, if there is one.
    let host = Platform::host().ok().and_then(|host| Some((host, lock.platforms.get(&host)?.standing())));
    let toolchain = match &host {
        Some((host, own)) => Toolchain::new(session, spec, &own.base, *host, &user),
        None => Toolchain::new(session, spec, &locked.base, platform, &user),
    };
    let (toolchain, target, user) = (&toolchain, target.as_ref(), &user);
    let (send, packages_are_there) = mpsc::channel();
    let lower = move || {
        let base = base::image(session, spec, &locked.base, platform, user)?;
        let mut system = Vec::new();
        system.extend(base::user_layer(session, spec, &locked.base, platform, user)?);
        system.extend(base::system_layer(session, spec, &locked.base, platform, user, &locked.system)?);
        // Whoever waited is gone if it failed.
        let _ = send.send(());
        let library = match target {
            Some(target) => library_layer(session, toolchain, locked, target, &base)?,
            None => None,
        };
        let image = system.into_iter().fold(base.without_annotations(), Image::with_layer);
        Ok::<_, Error>((image, library))
    };
    let packages = move || {
        let Some(target) = target else { return Ok(Vec::new()) };
        let (environment, needs) = environment(session, input, locked, target)?;
        // They will never be, and the other thread says why.
        if packages_are_there.recv().is_err() {
            return Ok(Vec::new());
        }
        // Before anything is compiled: that takes long, and would be for nothing.
        check_libraries(session, input, locked, platform, &needs)?;
        match environment {
            Environment::Known(layers) => Ok(layers),
            Environment::Installed { installed, key, _alone } => {
                python_layers(session, toolchain, target, &installed, &key)
            }
        }
    };
    // Packages are installed while the base is put together.
    let ((image, library), packages) = parallel::both(lower, packages)?;
    let steps = Steps::of(session, input, ledger)?;
    let image = steps.upon_base(steps.furnished(image, &locked.base)?)?;
    let image = library.into_iter().chain(packages).fold(image, Image::with_layer);
    let image = steps.upon_packages(image)?;
    let weights = bundle.weight_layers(session)?.iter().cloned();
    let image = weights.chain([code_layer(session, bundle, manifest)?]).fold(image, Image::with_layer);
    let annotation = match &locked.base {
        base::LockedBase::Image { digest, .. } if !manifest.has_commands() => {
            Some(("org.opencontainers.image.base.digest".to_owned(), digest.to_string()))
        }
        _ => None,
    };
    let image = configured(image, manifest, bundle, bundle.digest(session)?).with_annotations(annotation);
    let image = steps.upon_all(image)?;
    Ok(match session.making {
        Making::Unpacked => image.finished_before(&session.store),
        Making::Compressed | Making::Both => image.finished(&session.store, &session.progress)?,
    })
}

/// The bytecode of Python's own library, which neither Debian's packages nor official images bring: it makes the start
/// of a service 0.4 s shorter. Made once for the same base; none where there is nothing to compile.
fn library_layer(
    session: &Session,
    toolchain: &Toolchain,
    locked: &LockedPlatform,
    target: &Target,
    base: &Image,
) -> Result<Option<Layer>, Error> {
    let diff_ids: Vec<_> = base.layers().iter().map(|layer| layer.diff_id).collect();
    let interpreter = locked.base.interpreter(target.python);
    let key = layer::key(&("library", INSTALLATION, interpreter, diff_ids));
    if let Some(known) = session.store.cached("python-library", &key) {
        return Ok(known);
    }
    let library = base::library(session, &locked.base, base, target.python)?;
    // Python 3.6 compares the times of sources, which are the image's.
    let layer = match library.uncompiled.is_empty() || target.python.minor() == 6 {
        true => None,
        false => compiled(session, toolchain, target, &library)?,
    };
    let blobs = layer.iter().map(|layer| layer.digest).collect();
    session.store.cache("python-library", &key, &layer, blobs).map_err(layer::Error::from)?;
    Ok(layer)
}

/// The layer of a library's bytecode; none where only tests lack it, which are left out.
fn compiled(
    session: &Session,
    toolchain: &Toolchain,
    target: &Target,
    library: &base::Library,
) -> Result<Option<Layer>, Error> {
    let compiler = toolchain.compiler(target.python)?;
    let work = session.store.scratch().map_err(layer::Error::from)?;
    let place = &library.place;
    let sources = library.uncompiled.iter().map(|(path, source)| (path, source.as_path()));
    let (at, progress) = (format!("/{place}"), &session.progress);
    let compiled = python::bytecode::compile(&compiler, target.python, sources, &at, work.path(), progress)?;
    if compiled.is_empty() {
        return Ok(None);
    }
    let title = format!("Python {} library, compiled", target.python);
    let layer = Layer::write::<Error>(&session.store, session.making, title, |writer| {
        let mut folders = Folders::default();
        for (path, stored) in &compiled {
            let entry = Entry::file(place.join(path), stored.size, Mode::Plain);
            folders.above(&entry.path, writer)?;
            writer.file(&entry, stored.open()?)?;
        }
        Ok(())
    })?;
    Ok(Some(layer))
}

/// The folders that a layer has so far.
#[derive(Default)]
struct Folders {
    written: BTreeSet<ArchivePath>,
    /// Below this folder, and itself, they belong to whoever runs the image.
    home: Option<ArchivePath>,
}

impl Folders {
    /// The working folder, and a bento's home around it, can be written to where the container's root can: services count
    /// on that, and libraries that keep something beside a module (numba).
    fn of(convention: Convention) -> Result<Self, Error> {
        let home = match convention {
            Convention::Ekiben => ArchivePath::new(runtime::CODE).map_err(std::io::Error::other)?,
            Convention::Bento => convention.user().home,
        };
        Ok(Self { home: Some(home), ..Self::default() })
    }

    /// Writes the folders above `path` that are not there yet.
    fn above(&mut self, path: &ArchivePath, writer: &mut archive::Writer<&mut dyn Write>) -> Result<(), Error> {
        for folder in path.ancestors().filter(|folder| self.written.insert(folder.clone())) {
            let own = self.home.as_ref().is_some_and(|home| folder == *home || folder.below(home).is_some());
            let user = if own { runtime::USER } else { 0 };
            writer.entry(&Entry::directory(folder).owned_by(user, user))?;
        }
        Ok(())
    }
}

/// Whether the image has all libraries that its Python packages need. What the bundle brings itself counts: whoever packs
/// a library loads it.
fn check_libraries(
    session: &Session,
    input: &Input,
    locked: &LockedPlatform,
    platform: Platform,
    needs: &Needs,
) -> Result<(), Error> {
    let Input { manifest, bundle, .. } = input;
    let (spec, user) = (manifest.base_spec(), bundle.convention().user());
    let has = |library: &str| bundle.members().keys().any(|path| path.name() == library);
    let lacking = libraries::lacking(session, spec, locked, platform, &user, needs, has)?;
    let Some(lacking) = lacking else { return Ok(()) };
    match libraries::missing(session, spec, locked, platform, &user, &lacking)? {
        None => Ok(()),
        // What commands bring is not known.
        Some((missing, _)) if !input.steps.are_none() => {
            session.progress.warn(missing.to_string());
            Ok(())
        }
        Some((missing, packages)) => {
            Err(Error::Libraries { missing, packages, are_found: manifest.system.packages.are_found() })
        }
    }
}

/// Whether the lock has what its Python packages require, of which `unmet` is not there. What a project's settings say of
/// other packages holds; they do not travel in a bundle, so what is not there is only told of that.
fn check_packages(session: &Session, input: &Input, unmet: &[python::Unmet]) -> Result<(), Error> {
    let Some(missing) = libraries::Missing::of(unmet.iter().map(ToString::to_string).collect()) else {
        return Ok(());
    };
    if !input.origin.is_dir() {
        unmet.iter().for_each(|unmet| session.progress.warn(format!("{unmet}, which the lock does not have")));
        return Ok(());
    }
    let asked = input.manifest.requirements();
    if Requirements::read(asked, &input.origin, None, &mut Diagnostics::new()).overrule_packages() {
        return Ok(());
    }
    let packages: BTreeSet<String> = unmet.iter().map(|unmet| unmet.name.clone()).collect();
    Err(Error::Packages { missing, packages: packages.into_iter().collect() })
}

/// How far a Python environment has come.
enum Environment {
    /// It was made before.
    Known(Vec<Layer>),
    /// Its packages are there, not compiled yet.
    Installed {
        installed: Installed,
        /// Of all that goes into its layers.
        key: Digest,
        /// Nobody else installs them meanwhile.
        _alone: Alone,
    },
}

/// What the layers of Python environments are remembered as.
const PYTHON_LAYERS: &str = "python-layers";

/// The layers of the Python environment where they were made before, else its packages; and the libraries that it needs
/// of the layers below it.
fn environment(
    session: &Session,
    input: &Input,
    locked: &LockedPlatform,
    target: &Target,
) -> Result<(Environment, Needs), Error> {
    let Target { python, platform, glibc } = target;
    let interpreter = locked.base.interpreter(*python);
    let key = layer::key(&("python", INSTALLATION, &interpreter, platform, glibc, &locked.python));
    let known = || -> (Option<Vec<Layer>>, _) {
        (session.store.cached(PYTHON_LAYERS, &key), libraries::known(session, target, &locked.python))
    };
    if let (Some(layers), Some(needs)) = known() {
        return Ok((Environment::Known(layers), needs));
    }
    let whom = "another build, which installs the same packages";
    let alone = session.store.alone(PYTHON_LAYERS, &key, &session.progress, whom).map_err(layer::Error::from)?;
    let (layers, needs) = match known() {
        (Some(layers), Some(needs)) => return Ok((Environment::Known(layers), needs)),
        either => either,
    };
    let project = session.store.scratch().map_err(layer::Error::from)?;
    let requirements = requirements(&input.manifest, locked, &input.bundle, project.path())?;
    let vendored = session.store.scratch().map_err(layer::Error::from)?;
    let wheels = vendor::wheels(session, &input.bundle, locked, vendored.path())?.then(|| vendored.path());
    let installed = libraries::install(session, locked, target, &requirements, project.path(), wheels)?;
    check_packages(session, input, &python::unmet(&installed.path(), target, &locked.python)?)?;
    let needs = match needs {
        Some(needs) => needs,
        None => libraries::needs(session, target, &locked.python, installed.path())?,
    };
    let environment = match layers {
        Some(layers) => Environment::Known(layers),
        None => Environment::Installed { installed, key, _alone: alone },
    };
    Ok((environment, needs))
}

/// The layers of the Python environment whose packages are `installed`, compiled; they are remembered under `key`.
fn python_layers(
    session: &Session,
    toolchain: &Toolchain,
    target: &Target,
    installed: &Installed,
    key: &Digest,
) -> Result<Vec<Layer>, Error> {
    let python = target.python;
    let venv = installed.path();
    let task = session.progress.task("Compiling", "bytecode", Unit::Items, None);
    let mut files = python::files(&venv)?;
    let (compiler, work) = (toolchain.compiler(python)?, installed.folder().join("bytecode"));
    fs::create_dir(&work)?;
    python::bytecode::add(&mut files, &compiler, python, runtime::VENV, &work, &session.progress)?;
    task.finish("Compiled bytecode");

    let groups = python::split(&files, &venv, python, runtime::VENV)?;
    let bytes = groups.iter().map(|group| group.size).sum();
    let verb = if session.making == Making::Unpacked { "Placing" } else { "Compressing" };
    let task = session.progress.task(verb, "Python packages", Unit::Bytes, Some(bytes));
    let mut layers = Vec::new();
    for group in groups {
        let title = group.title();
        layers.push(Layer::write::<Error>(&session.store, session.making, title, |writer| {
            for (entry, source) in &group.entries {
                match source {
                    Some(source) => writer.file(entry, task.reading(source.open()?))?,
                    None => writer.entry(entry)?,
                }
            }
            Ok(())
        })?);
    }
    let size = layers.iter().map(|layer| layer.size).sum::<u64>() / 1_000_000;
    task.finish(match session.making {
        Making::Unpacked => format!("Placed {size} MB of Python packages"),
        Making::Compressed | Making::Both => format!("Compressed Python packages to {size} MB"),
    });
    let blobs = layers.iter().map(|layer| layer.digest).collect();
    session.store.cache(PYTHON_LAYERS, key, &layers, blobs).map_err(layer::Error::from)?;
    Ok(layers)
}

/// Where the bundle's requirements say that packages lie, with the local wheels unpacked into `project`.
fn requirements(
    manifest: &Manifest,
    locked: &LockedPlatform,
    bundle: &Bundle,
    project: &Path,
) -> Result<Requirements, Error> {
    let wheels = locked.python.iter().filter_map(|package| package.url.as_deref()).filter(|url| !url.contains("://"));
    // Files that include each other have any names.
    let is_text = |path: &ArchivePath| [".txt", ".in", ".toml"].iter().any(|end| path.name().ends_with(end));
    let named = match manifest.requirements() {
        Asked::File(file) => Some(file),
        Asked::List(_) => None,
    };
    let texts = bundle.members().iter().filter(|(path, member)| is_text(path) && member.content.size() <= MAX_BYTES);
    for name in wheels.chain(named).chain(texts.map(|(path, _)| path.as_str())) {
        let path = ArchivePath::relative(name).map_err(std::io::Error::other)?.under(project);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bundle.read(name)?)?;
    }
    // All that is installed is locked by digest: mistakes in the requirements, if there are any, decide nothing.
    Ok(Requirements::read(manifest.requirements(), project, None, &mut Diagnostics::new()))
}

/// All files but the weights: code, service and metadata. The bundle can be had back from the image.
fn code_layer(session: &Session, bundle: &Bundle, manifest: &Manifest) -> Result<Layer, Error> {
    let convention = bundle.convention();
    let top = ArchivePath::new(convention.code()).map_err(std::io::Error::other)?;
    let members: Vec<_> =
        bundle.members().iter().map(|(path, member)| (path, member.executable, member.digest)).collect();
    let own = if convention == Convention::Bento { generate::BENTO_ENTRYPOINT } else { "" };
    let key = layer::key(&("code", CODE, &top, own, &members));
    if let Some(layer) = session.store.cached("code", &key) {
        return Ok(layer);
    }
    let layer = Layer::write::<Error>(&session.store, session.making, "code and metadata", |writer| {
        let (mut folders, mut opener) = (Folders::of(convention)?, Opener::default());
        for (path, member) in bundle.members() {
            let entry = Entry::file(top.join(path), member.content.size(), Mode::of(member.executable));
            folders.above(&entry.path, writer)?;
            writer.file(&entry, bundle.open_member(member, &mut opener)?)?;
        }
        if manifest.training.is_some() {
            // What is mounted there takes its owner from here.
            let folder = ArchivePath::new(runtime::TRAINED).map_err(std::io::Error::other)?;
            writer.entry(&Entry::directory(folder).owned_by(runtime::USER, runtime::USER))?;
        }
        if !own.is_empty() {
            let path = ArchivePath::new(runtime::ENTRYPOINT).map_err(std::io::Error::other)?;
            let entry = Entry::file(path, own.len() as u64, Mode::Executable);
            folders.above(&entry.path, writer)?;
            writer.file(&entry, own.as_bytes())?;
        }
        Ok(())
    })?;
    session.store.cache("code", &key, &layer, vec![layer.digest]).map_err(layer::Error::from)?;
    Ok(layer)
}

/// How the image is started, and what it says of itself.
fn configured(image: Image, manifest: &Manifest, bundle: &Bundle, digest: Digest) -> Image {
    let mut about: Vec<(String, String)> = vec![
        (runtime::BUNDLE_LABEL.to_owned(), digest.to_string()),
        ("org.opencontainers.image.title".to_owned(), bundle.name().to_owned()),
        ("org.opencontainers.image.version".to_owned(), bundle.version().to_owned()),
    ];
    let optional =
        [("description", &manifest.description), ("licenses", &manifest.licenses), ("source", &manifest.source)];
    for (key, value) in optional {
        about.extend(value.iter().map(|value| (format!("org.opencontainers.image.{key}"), value.clone())));
    }
    let mut labels: HashMap<_, _> = about.iter().cloned().collect();
    labels.extend(manifest.labels.clone());
    let convention = bundle.convention();
    let inherits = manifest.service.inherit;
    let own = if inherits { manifest.env.clone() } else { convention.environment(manifest) };
    let env = own.into_iter().map(|(name, value)| format!("{name}={value}"));
    // What the base says stays, unless it is said anew: `CUDA_VERSION`, `LD_LIBRARY_PATH`.
    let mut env = env.collect::<Vec<_>>();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = env.iter().map(|variable| name(variable)).collect();
    let inherited = image.config().env().clone().unwrap_or_default();
    env.splice(0..0, inherited.into_iter().filter(|variable| !own.contains(&name(variable))));
    // What the base would have been asked whether it is well is not there.
    image.with_annotations(about).with_extensions(BTreeMap::new()).with_config(|config| {
        config.set_env(Some(env));
        let ports = convention.ports(manifest);
        config.set_exposed_ports(Some(ports.iter().map(|port| format!("{port}/tcp")).collect()));
        if manifest.training.is_some() {
            config.set_volumes(Some(vec![runtime::TRAINED.to_owned()]));
        }
        if !inherits {
            config.set_user(Some(format!("{0}:{0}", runtime::USER)));
            config.set_entrypoint(Some(vec![runtime::ENTRYPOINT.to_owned()]));
            config.set_working_dir(Some(convention.code().to_owned()));
            config.set_stop_signal(Some("SIGTERM".to_owned()));
            config.set_cmd(None);
        }
        let inherited = config.labels().clone().unwrap_or_default();
        config.set_labels(Some(inherited.into_iter().chain(labels).collect()));
    })
}
