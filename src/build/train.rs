//! A model made by training: in the image of its project, with a data set, and what came of it in the project's lock.
//!
//! Invariant: the same code, parameters and data set are trained with once; what was made is kept by its digest until a person
//! takes it off the list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde_json::Value as Json;

use super::built::Built;
use crate::bundle::runtime::BUNDLE_LABEL;
use crate::formats::diagnostic::Diagnostics;
use crate::image::session::Session;
use crate::image::store::{self, Kept, KeptAs};
use crate::io::alone::Alone;
use crate::io::archive::ArchivePath;
use crate::io::digest::{Digest, HashingWriter};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::progress::Unit;
use crate::io::suggest::{closest, did_you_mean, listed};
use crate::project::Project;
use crate::project::lock::{self, Lock};
use crate::project::manifest::training::Training;
use crate::project::trained::{self, LockedData, LockedTraining};
use crate::run::training::{self, Facts};

/// Raised when a training comes to something else by the same code.
const RULES: u32 = 1;

/// Where it is remembered what came of a training.
const KNOWN: &str = "trained";

/// Why nothing is trained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is named is not trained.
    #[error("nothing says how {name} is trained")]
    NoTraining {
        /// What it is called.
        name: String,
    },
    /// It is no project.
    #[error("{} is no project: only one, or an archive with a manifest.json, is trained", .0.display())]
    NoProject(PathBuf),
    /// The data set is nowhere.
    #[error("the data set `{name}` is neither in the project nor kept here")]
    NoData {
        /// What it is called.
        name: String,
        /// Those that are kept.
        kept: Vec<String>,
    },
    /// The training takes none.
    #[error("the model is trained without a data set: nothing in the manifest names one")]
    NotAsked,
    /// A parameter that there is not.
    #[error("there is no parameter `{name}`")]
    NoParameter {
        /// As it was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A parameter without a value.
    #[error("`{0}` is no parameter with a value, as NAME=VALUE")]
    NoValue(String),
    /// What the training has left cannot be taken.
    #[error(transparent)]
    Training(#[from] training::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no lock any more.
    #[error("{} is gone", .0.display())]
    NoLock(PathBuf),
    /// The disk says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoTraining { .. } => ErrorKind::Usage
                .named("train/no-training")
                .hint("say it in the manifest: `training: {function: src/train.py:train, output: model.pkl}`"),
            Self::NoProject(_) => ErrorKind::Usage.named("train/no-project"),
            Self::NoData { kept, name } => {
                let named = ErrorKind::Failure.named("train/no-data");
                match closest(name, kept) {
                    Some(near) => named.hint(format!("{} `--data` names a file", did_you_mean(near))),
                    None if kept.is_empty() => {
                        named.hint("name its file: `--data FILE`; or keep it for later: `ekiben data add FILE`")
                    }
                    None => named.hint(format!("`--data FILE` names its file; kept are {}", listed(kept))),
                }
            }
            Self::NotAsked => {
                ErrorKind::Usage.named("train/not-asked").hint("`training.data` in the manifest names it")
            }
            Self::NoParameter { name, known } => match closest(name, known) {
                Some(near) => ErrorKind::Usage.named("train/no-parameter").hint(did_you_mean(near)),
                None => ErrorKind::Usage.named("train/no-parameter").hint(format!("there are {}", listed(known))),
            },
            Self::NoValue(_) => ErrorKind::Usage
                .named("train/no-value")
                .hint("a value is JSON, or else a text: --set depth=3 --set kind=fast"),
            Self::Training(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::NoLock(_) => ErrorKind::Failure.named("train/no-lock"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// What a training begins with.
#[derive(Debug)]
pub struct Plan {
    /// Where the data set lies, and what is known of it.
    pub data: Option<(PathBuf, LockedData)>,
    /// The parameters.
    pub parameters: BTreeMap<String, Json>,
    /// The model's file.
    pub output: ArchivePath,
    code: Digest,
    name: String,
    root: PathBuf,
}

impl Plan {
    /// That of a project: with the data set at `data`, else the one of the name that the manifest has, and parameters as
    /// `NAME=VALUE` over those of the manifest.
    ///
    /// # Errors
    /// When it is not trained, or something is not there.
    pub fn new(session: &Session, project: &Project, data: Option<&Path>, set: &[String]) -> Result<Self, Error> {
        let name = project.manifest.name.clone();
        let read = |file: &str| fs::read(project.root.join(file));
        let (Some(training), Some(code)) = (&project.manifest.training, trained::code(&project.manifest, &read)?)
        else {
            return Err(Error::NoTraining { name });
        };
        let data = match (found(session, project, training, data)?, &training.data) {
            (None, _) => None,
            (Some(_), None)
                if training.function.is_none() && !training.command.iter().any(|word| word.contains("{data}")) =>
            {
                return Err(Error::NotAsked);
            }
            (Some(path), asked) => {
                let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let size = fs::metadata(&path)?.len();
                let task = session.progress.task("Hashing", own.clone(), Unit::Bytes, Some(size));
                let mut hashed = HashingWriter::new(std::io::sink());
                std::io::copy(&mut task.reading(fs::File::open(&path)?), &mut hashed)?;
                let (_, digest, size) = hashed.finish();
                let name = asked.clone().unwrap_or(own);
                Some((path, LockedData { name, digest, size }))
            }
        };
        let output = ArchivePath::relative(&training.output).map_err(std::io::Error::other)?;
        Ok(Self { data, parameters: parameters(training, set)?, output, code, name, root: project.root.clone() })
    }

    /// The key under which it is known what came of it, in the image `built`.
    fn key(&self, bundle: &Digest) -> Digest {
        let data = self.data.as_ref().map(|(_, data)| data.digest);
        Digest::of(serde_json::json!([RULES, bundle, data, self.parameters, self.output.as_str()]).to_string())
    }

    /// What came of it before, if it is still here.
    pub fn known(&self, session: &Session, built: &Built) -> Option<LockedTraining> {
        let locked: LockedTraining = session.store.cached(KNOWN, &self.key(&bundle(built)?))?;
        session.store.has_blob(&locked.digest).then_some(locked)
    }

    /// Keeps other processes from training the same until what is returned is dropped, and waits for one that does.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn alone(&self, session: &Session, built: &Built) -> Result<Alone, Error> {
        let key = self.key(&bundle(built).unwrap_or(built.digest));
        let whom = "another process, which trains the same";
        Ok(session.store.alone(KNOWN, &key, &session.progress, whom)?)
    }

    /// Keeps what came of it: the model's file at `path`, and what was said of it.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn keep(&self, session: &Session, built: &Built, path: &Path, facts: Facts) -> Result<LockedTraining, Error> {
        let (digest, size) = session.store.put_file(path)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let bundle = bundle(built).unwrap_or(built.digest);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded on both sides")]
        let took = (facts.seconds.clamp(0.0, 1e12) * 1000.0) as u64;
        let locked = LockedTraining {
            file: self.output.to_string(),
            digest,
            size,
            code: self.code,
            bundle,
            data: self.data.as_ref().map(|(_, data)| data.clone()),
            parameters: self.parameters.clone(),
            statistics: facts.statistics,
            ended: Some(now),
            took: Some(took),
        };
        session.store.cache(KNOWN, &self.key(&bundle), &locked, vec![digest])?;
        Ok(locked)
    }

    /// Writes what came of it into the project's lock, and puts the model on the list of those that are kept.
    ///
    /// # Errors
    /// When there is no lock, or the disk says no.
    pub fn write(&self, session: &Session, trained: &LockedTraining) -> Result<(), Error> {
        let path = self.root.join(lock::NAME);
        let mut lock = Lock::load(&path, &mut Diagnostics::new()).ok_or_else(|| Error::NoLock(path.clone()))?;
        lock.trained = Some(trained.clone());
        session.store.keep(&Kept {
            kind: KeptAs::Model,
            name: self.name.clone(),
            digest: trained.digest,
            size: trained.size,
            since: trained.ended.unwrap_or_default(),
            file: Some(trained.file.clone()),
        })?;
        Ok(lock.write(&path)?)
    }
}

/// The digest of the bundle that an image was built from.
fn bundle(built: &Built) -> Option<Digest> {
    let labels = built.image.config().labels().clone()?;
    labels.get(BUNDLE_LABEL)?.parse().ok()
}

/// Where the data set lies.
fn found(
    session: &Session,
    project: &Project,
    training: &Training,
    given: Option<&Path>,
) -> Result<Option<PathBuf>, Error> {
    let kept = |name: &str| -> Result<Option<PathBuf>, Error> {
        let all = session.store.kept()?;
        let one = all.into_iter().find(|kept| kept.kind == KeptAs::Data && kept.name == name);
        Ok(one.map(|kept| session.store.blob_path(&kept.digest)))
    };
    let names = || -> Result<Vec<String>, Error> {
        let all = session.store.kept()?.into_iter().filter(|kept| kept.kind == KeptAs::Data);
        Ok(all.map(|kept| kept.name).collect())
    };
    let name = match (given, &training.data) {
        (Some(path), _) if path.is_file() => return Ok(Some(path.to_owned())),
        (Some(path), _) => path.display().to_string(),
        (None, Some(name)) if project.root.join(name).is_file() => return Ok(Some(project.root.join(name))),
        (None, Some(name)) => name.clone(),
        (None, None) => return Ok(None),
    };
    match kept(&name)? {
        Some(path) => Ok(Some(path)),
        None => Err(Error::NoData { name, kept: names()? }),
    }
}

/// The parameters of the manifest, and those that were set over them.
fn parameters(training: &Training, set: &[String]) -> Result<BTreeMap<String, Json>, Error> {
    let mut parameters = training.parameters.clone();
    for text in set {
        let (name, value) = text.split_once('=').ok_or_else(|| Error::NoValue(text.clone()))?;
        if !training.parameters.is_empty() && !training.parameters.contains_key(name) {
            let known = training.parameters.keys().cloned().collect();
            return Err(Error::NoParameter { name: name.to_owned(), known });
        }
        // Where the manifest has a text, another one is meant, even `"3"`.
        let is_text = training.parameters.get(name).is_some_and(Json::is_string);
        let value = match serde_json::from_str(value) {
            Ok(value) if !is_text => value,
            _ => value.into(),
        };
        parameters.insert(name.to_owned(), value);
    }
    Ok(parameters)
}
