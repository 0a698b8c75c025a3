//! A model ready to travel: its bundle, with what is written in it read.
//!
//! From a project's folder and its lock, or from a bundle's file: either gives the same input.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::dockerfile::Request as Commands;
use crate::bundle::generate::{self, Api, Facts};
use crate::bundle::import::bento::{self as import, BentoFile, Recipe, Steps};
use crate::bundle::origin;
use crate::bundle::runtime::Convention;
use crate::bundle::{self, Bundle, Hashing, Weight};
use crate::formats::bento;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::mojo::Mojo;
use crate::formats::schema::Kind;
use crate::formats::schema::load;
use crate::image::registry::Reference;
use crate::image::session::Session;
use crate::io::archive::{ArchivePath, Mode};
use crate::io::content::{self, Content};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation, carry};
use crate::project::Project;
use crate::project::lock::{self, Lock};
use crate::project::manifest::java::Java;
use crate::project::manifest::{self, Manifest, Version};
use crate::project::trained::LockedTraining;

/// Why there is no input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A file of the project.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// Files of the model that live elsewhere.
    #[error(transparent)]
    Origin(#[from] origin::Error),
    /// What the service answers cannot be told.
    #[error(transparent)]
    Generate(#[from] generate::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The lock names a model that was trained elsewhere.
    #[error("{file}, as it was trained ({}), is not on this machine", digest.short())]
    NotTrainedHere {
        /// The model's file.
        file: String,
        /// Of its bytes.
        digest: Digest,
    },
    /// The manifest or the lock in the bundle has mistakes.
    #[error("`{name}` in {} has mistakes", path.display())]
    Malformed {
        /// The bundle.
        path: PathBuf,
        /// The member.
        name: String,
        /// The mistakes, with their places in the member.
        diagnostics: Diagnostics,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Bundle(error) => error.explain(),
            Self::Content(error) => error.explain(),
            Self::Origin(error) => error.explain(),
            Self::Generate(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::NotTrainedHere { .. } => ErrorKind::Failure
                .named("model/not-trained-here")
                .hint("train it again with `ekiben train`, or take a bundle or an image from where it was trained"),
            Self::Malformed { .. } => {
                ErrorKind::Invalid.named("bundle/mistakes").hint("pack the project again with this version of ekiben")
            }
        }
    }
}

/// A model ready to travel.
#[derive(Clone, Debug)]
pub struct Input {
    /// What the person wrote.
    pub manifest: Manifest,
    /// What it resolved to.
    pub lock: Lock,
    /// All files.
    pub bundle: Bundle,
    /// The project's folder, or the file or folder of the bundle or bento.
    pub origin: PathBuf,
    /// What has to be executed for the image of a bento.
    pub steps: Steps,
    /// What may be executed, and with what.
    pub commands: Commands,
    /// Where it is written down what that led to; none where nobody does.
    pub kept: Option<Kept>,
    /// Where it is pushed to, if it gets a version of its own: one more than the last one there and here, where the manifest says
    /// so.
    pub versioned: Option<Vec<Reference>>,
    /// The files that were generated for a project.
    pub generated: BTreeSet<ArchivePath>,
}

/// Where a lock is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// Nothing else may come of it than it says.
    pub is_binding: bool,
}

impl Input {
    /// One for which nothing has to be executed.
    fn new(manifest: Manifest, lock: Lock, bundle: Bundle, origin: PathBuf) -> Self {
        let (steps, commands, generated) = Default::default();
        Self { manifest, lock, bundle, origin, steps, commands, kept: None, versioned: None, generated }
    }

    /// Packs a project in thought: all but the weights is read or generated, and nothing is written. The weights are
    /// hashed when they are needed, as `hashing` says.
    ///
    /// # Errors
    /// When a file cannot be read, or two would lie at the same path.
    pub fn of_project(session: &Session, project: &Project, lock: Lock, hashing: Hashing) -> Result<Self, Error> {
        let manifest = lock.settled(project.manifest.clone());
        let weights = project
            .files
            .model
            .iter()
            .map(|file| Ok(Weight { path: file.path.clone(), content: Content::file(&file.host)? }));
        let mut weights = weights.collect::<Result<Vec<_>, Error>>()?;
        weights.extend(fetched(session, &manifest, &lock)?);
        if let Some(trained) = trained(session, &lock)? {
            weights.retain(|weight| weight.path != trained.path);
            weights.push(trained);
        }
        let mut bundle = Bundle::new(&manifest.name, Convention::Ekiben, weights, hashing);
        let manifest_name = project.path.file_name().unwrap_or_default();
        let path = |text: &str| ArchivePath::relative(text).map_err(std::io::Error::other);
        bundle.add(path(&manifest_name.to_string_lossy())?, Content::file(&project.path)?, Mode::Plain)?;
        let taken = Lock { trained: lock.trained.as_ref().map(LockedTraining::without_times), ..lock.clone() };
        let lock_text = taken.to_text().map_err(std::io::Error::from)?;
        bundle.add(path(lock::NAME)?, Content::Bytes(lock_text.into_bytes()), Mode::Plain)?;

        let mut code = BTreeSet::new();
        for file in project.files.code.iter().chain(&project.files.metadata) {
            let top = file.path.ancestors().next().unwrap_or_else(|| file.path.clone());
            code.insert(top);
            bundle.add(file.path.clone(), Content::file(&file.host)?, Mode::of(is_executable(&file.host)?))?;
        }
        // What installing the packages needs of the project: the requirements files, for their indexes, and local wheels.
        let files = project.requirements.files.iter().map(|(name, _)| Ok((name.clone(), name.under(&project.root))));
        let wheels = local_wheels(&lock).into_iter().map(|name| Ok::<_, Error>((path(name)?, project.root.join(name))));
        for found in files.chain(wheels) {
            let (name, host) = found?;
            if !bundle.members().contains_key(&name) {
                bundle.add(name, Content::file(&host)?, Mode::Plain)?;
            }
        }
        let requirements = project.requirements.texts();

        let read = |file: &str| fs::read(project.root.join(file));
        // What stands against it, the check of the project says.
        let mojo = manifest.service.java.as_ref().and_then(Java::mojo).map(|file| Mojo::read(&project.root.join(file)));
        let api = Api::new(&manifest, &read, mojo.and_then(Result::ok).as_ref())?;
        bundle.set_version(session, manifest.version.as_ref().and_then(Version::written))?;
        let version = bundle.version().to_owned();
        let code: Vec<_> = code.into_iter().collect();
        let weights: Vec<_> = bundle.weights().iter().map(|weight| weight.path.clone()).collect();
        let facts = Facts {
            manifest: &manifest,
            version: &version,
            lock: &lock,
            api: &api,
            code: &code,
            weights: &weights,
            requirements: requirements.first().copied(),
        };
        let generated = generate::service(&manifest, &version, &api).into_iter().chain(generate::bundle(&facts));
        let mut names = BTreeSet::new();
        for file in generated {
            let path = path(&file.path)?;
            names.insert(path.clone());
            bundle.add(path, Content::Bytes(file.content), Mode::of(file.executable))?;
        }
        Ok(Self { generated: names, ..Self::new(manifest, lock, bundle, project.root.clone()) })
    }

    /// Opens a bundle. The weights are not touched.
    ///
    /// # Errors
    /// When it is no bundle, or what is in it has mistakes.
    pub fn open(session: &Session, path: &Path, commands: Commands) -> Result<Self, Error> {
        let bundle = Bundle::open(session, path)?;
        let has = |name: &&&str| bundle.members().keys().any(|path| path.as_str() == **name);
        let (manifest, steps) = match bundle.convention() {
            Convention::Ekiben => {
                let name = manifest::NAMES.iter().find(has).ok_or_else(|| bundle.lacks(manifest::NAMES[0]))?;
                (read(&bundle, path, name)?, Steps::default())
            }
            Convention::Bento if !has(&&bento::NAME) => return Err(bundle.lacks(manifest::NAMES[0]).into()),
            Convention::Bento => {
                let names = bundle.members().keys().chain(bundle.weights().iter().map(|weight| &weight.path)).collect();
                let read = |path: &str| String::from_utf8(bundle.read(path).ok()?).ok();
                match import::describe(&within(path, bento::NAME), &import::Files { names, read: &read }, None) {
                    (Some(recipe), mistakes) if !mistakes.has_errors() => (recipe.manifest, recipe.steps),
                    (_, diagnostics) => {
                        return Err(Error::Malformed {
                            path: path.to_owned(),
                            name: bento::NAME.to_owned(),
                            diagnostics,
                        });
                    }
                }
            }
        };
        let lock: Lock = read(&bundle, path, lock::NAME)?;
        let manifest = lock.settled(manifest);
        Ok(Self { steps, commands, ..Self::new(manifest, lock, bundle, path.to_owned()) })
    }

    /// A bento that BentoML made, with its recipe as [`import::Bento::describe`] has it, and its lock. What commands led to is not
    /// taken along: it is known only behind the first build, which has to give what the second gives.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of_bento(
        session: &Session,
        bento: &import::Bento,
        recipe: Recipe,
        commands: Commands,
        lock: Lock,
        hashing: Hashing,
    ) -> Result<Self, Error> {
        let Recipe { manifest, steps } = recipe;
        let manifest = lock.settled(manifest);
        let mut bundle = bento_bundle(session, bento, &manifest, hashing)?;
        let mut taken = lock.clone();
        taken.platforms.values_mut().for_each(|locked| locked.executed = None);
        let text = taken.to_text().map_err(std::io::Error::from)?;
        let path = ArchivePath::relative(lock::NAME).map_err(std::io::Error::other)?;
        bundle.add(path, Content::Bytes(text.into_bytes()), Mode::Plain)?;
        Ok(Self { steps, commands, ..Self::new(manifest, lock, bundle, bento.path.clone()) })
    }

    /// A bundle that Ekiben wrote as a bento. Gives the same input as the bundle.
    ///
    /// # Errors
    /// When what is in it has mistakes, or a file cannot be read.
    pub fn of_own_bento(session: &Session, bento: &import::Bento, hashing: Hashing) -> Result<Self, Error> {
        let read = |name: &str, kind: Kind| match bento.get(name) {
            Some(file) => Ok(file.content.read(kind.most())?),
            None => Err(Error::from(bundle::Error::Incomplete { bundle: bento.path.clone(), name: name.to_owned() })),
        };
        let name = bento.own_manifest().map_or(manifest::NAMES[0], |file| file.path.as_str());
        let manifest: Manifest = parse(&bento.path, name, &read(name, Kind::Manifest)?)?;
        let lock_text = read(lock::NAME, Kind::Lock)?;
        let lock: Lock = parse(&bento.path, lock::NAME, &lock_text)?;
        let manifest = lock.settled(manifest);
        let description: bento::Bento = parse(&bento.path, bento::NAME, &read(bento::NAME, Kind::Bento)?)?;
        let folder = format!("{}/{}/{}", bundle::WEIGHTS, manifest.name, description.version);
        let folder = ArchivePath::relative(folder).map_err(std::io::Error::other)?;
        let weight = |file: &BentoFile| file.path.below(&folder).filter(|path| path.as_str() != "model.yaml");
        let mut bundle = bundled(bento, &manifest.name, Convention::Ekiben, hashing, weight)?;
        let path = ArchivePath::relative(lock::NAME).map_err(std::io::Error::other)?;
        bundle.add(path, Content::Bytes(lock_text), Mode::Plain)?;
        bundle.set_version(session, Some(description.version))?;
        Ok(Self::new(manifest, lock, bundle, bento.path.clone()))
    }

    /// What is wrong with the models in it, which lies at `path`. They are read as data, nothing of them is loaded.
    pub fn check(&self, path: &Path) -> Diagnostics {
        self.check_those(path, &|_| true)
    }

    /// What is wrong with those of its models that were fetched into the store, as [`Input::check`]: what lies in the project
    /// is checked with that.
    pub fn check_fetched(&self, session: &Session, path: &Path) -> Diagnostics {
        let is_fetched =
            |weight: &Weight| weight.content.place().is_some_and(|at| at.starts_with(session.store.root()));
        self.check_those(path, &is_fetched)
    }

    fn check_those(&self, path: &Path, are_meant: &dyn Fn(&Weight) -> bool) -> Diagnostics {
        let mut found = Diagnostics::new();
        for weight in self.bundle.weights().iter().filter(|weight| are_meant(weight)) {
            let shown = within(path, weight.path.as_str());
            let open = || weight.content.open().map_err(carry);
            let size = weight.content.size();
            crate::project::validate::model::check_content(
                &shown,
                weight.path.as_str(),
                size,
                &open,
                &self.manifest,
                &mut found,
            );
        }
        found
    }
}

/// The files of the model that live elsewhere, fetched where they are not here.
fn fetched(session: &Session, manifest: &Manifest, lock: &Lock) -> Result<Vec<Weight>, Error> {
    let mut weights = Vec::new();
    for (_, elsewhere, address) in manifest.model.remote() {
        let from = address.to_string();
        let model = lock.models.iter().find(|model| model.from == from);
        let model = model.ok_or_else(|| origin::Error::NotLocked(from))?;
        for (name, content) in origin::contents(session, address, model)? {
            let path = elsewhere.place(address, &name).map_err(std::io::Error::other)?;
            weights.push(Weight { path, content });
        }
    }
    Ok(weights)
}

/// The model that training made.
fn trained(session: &Session, lock: &Lock) -> Result<Option<Weight>, Error> {
    let Some(LockedTraining { file, digest, .. }) = &lock.trained else { return Ok(None) };
    if !session.store.has_blob(digest) {
        return Err(Error::NotTrainedHere { file: file.clone(), digest: *digest });
    }
    let path = ArchivePath::relative(file).map_err(std::io::Error::other)?;
    Ok(Some(Weight { path, content: Content::file(&session.store.blob_path(digest))? }))
}

/// What is in a bento that BentoML made, without a lock.
///
/// # Errors
/// When a file cannot be read.
pub fn bento_bundle(
    session: &Session,
    bento: &import::Bento,
    manifest: &Manifest,
    hashing: Hashing,
) -> Result<Bundle, Error> {
    let weight = |file: &BentoFile| bundle::weighs(&file.path, file.content.size()).then(|| file.path.clone());
    let mut bundle = bundled(bento, &manifest.name, Convention::Bento, hashing, weight)?;
    bundle.set_version(session, manifest.version.as_ref().and_then(Version::written))?;
    Ok(bundle)
}

/// The files of a bento but for its lock, those as weights for which `weight` gives a path.
fn bundled(
    bento: &import::Bento,
    name: &str,
    convention: Convention,
    hashing: Hashing,
    weight: impl Fn(&BentoFile) -> Option<ArchivePath>,
) -> Result<Bundle, Error> {
    let (mut weights, mut members) = (Vec::new(), Vec::new());
    for file in bento.files.iter().filter(|file| file.path.as_str() != lock::NAME) {
        match weight(file) {
            Some(path) => weights.push(Weight { path, content: file.content.clone() }),
            None => members.push(file),
        }
    }
    let mut bundle = Bundle::new(name, convention, weights, hashing);
    for file in members {
        bundle.add(file.path.clone(), file.content.clone(), Mode::of(file.executable))?;
    }
    Ok(bundle)
}

/// Reads a document of the bundle, which lies at `path`.
fn read<T: load::Described>(bundle: &Bundle, path: &Path, name: &str) -> Result<T, Error> {
    parse(path, name, &bundle.read(name)?)
}

fn parse<T: load::Described>(path: &Path, name: &str, bytes: &[u8]) -> Result<T, Error> {
    let mut diagnostics = Diagnostics::new();
    let loaded = load::bytes(bytes, &within(path, name), name, &mut diagnostics);
    // One of which something had to be left out is no manifest to build from.
    let whole = loaded.and_then(load::Loaded::whole).filter(|_| !diagnostics.has_errors());
    match whole {
        Some((_, value)) => Ok(value),
        None => Err(Error::Malformed { path: path.to_owned(), name: name.to_owned(), diagnostics }),
    }
}

/// How a member of the bundle at `path` is shown.
fn within(path: &Path, member: &str) -> String {
    format!("{}:{member}", crate::formats::document::shown(path))
}

fn is_executable(path: &Path) -> Result<bool, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

/// The wheels of the project that the lock names.
fn local_wheels(lock: &Lock) -> BTreeSet<&str> {
    let packages = lock.platforms.values().flat_map(|locked| &locked.python);
    packages.filter_map(|package| package.url.as_deref()).filter(|url| !url.contains("://")).collect()
}
