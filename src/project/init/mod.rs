//! A project to start from, made of what is already there.
//!
//! Invariant: no file that exists is changed. A model is read as data and never loaded; what it says is what the project
//! begins with ([`crate::project::init::proposal`]).

pub mod convert;
pub mod proposal;

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::formats::model::{self, Origin};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::manifest::NAMES;
use proposal::{Proposal, Words};

/// What a project is to be made of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The project's folder; it has to exist.
    pub folder: PathBuf,
    /// The model's file or folder, in the project's folder. None: models are looked for in the folder.
    pub model: Option<PathBuf>,
    /// What it is called. None: after the model, else after the folder.
    pub name: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Start {
    /// Files that were written.
    pub written: Vec<PathBuf>,
    /// Files that were there already, and are as they were.
    pub kept: Vec<PathBuf>,
    /// What was read from the model.
    pub proposal: Proposal,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder has a manifest.
    #[error("there is a manifest already: {}", .0.display())]
    Already(PathBuf),
    /// The model is not in the folder.
    #[error("the model {} is not in the folder {}", model.display(), folder.display())]
    Elsewhere {
        /// The model.
        model: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A template is wrong: a mistake in Ekiben.
    #[error("a template of the project cannot be filled in")]
    Template(#[from] minijinja::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Already(_) => {
                ErrorKind::Failure.named("init/manifest-exists").hint("`ekiben validate` says whether it is right")
            }
            Self::Elsewhere { folder, .. } => ErrorKind::Failure
                .named("init/model-elsewhere")
                .hint(format!("copy or move the model into {}, or run `ekiben init` where it lies", folder.display())),
            Self::Io(error) => error.explain(),
            Self::Template(_) => ErrorKind::Failure.named("init/template"),
        }
    }
}

/// Writes a manifest, a function and requirements into a folder, as far as they are not there.
///
/// # Errors
/// When there is a manifest already, or the model lies elsewhere; then nothing was written. When the disk says no, the
/// files before it are there.
pub fn start(options: &Options) -> Result<Start, Error> {
    let folder = &options.folder;
    if let Some(name) = NAMES.iter().find(|name| folder.join(name).exists()) {
        return Err(Error::Already(folder.join(name)));
    }
    let models = match &options.model {
        Some(model) => vec![inside(folder, model)?],
        None => models_in(folder)?,
    };
    let first = models.first().map(PathBuf::as_path);
    let mut proposal = first.and_then(|model| look(folder, model)).unwrap_or_else(Proposal::of_nothing);
    proposal.settle(|module| {
        let path = module.replace('.', "/");
        let places = [format!("src/{path}.py"), format!("src/{path}/__init__.py")];
        places.iter().find_map(|place| fs::read_to_string(folder.join(place)).ok())
    });
    let name = match &options.name {
        Some(name) => name.clone(),
        None => name_from(first, folder)?,
    };
    let (entry, source) = entry_in(folder);

    let files: Vec<String> = models.iter().filter_map(|model| model.to_str().map(str::to_owned)).collect();
    let schema = schema_beside(folder);
    let texts = proposal.texts(&Words {
        name: &name,
        files: &files,
        allow: &[],
        entry: &entry,
        ours: source.is_some(),
        schema: schema.as_deref(),
    })?;
    let mut start = Start { written: Vec::new(), kept: Vec::new(), proposal };
    if let Some(source) = source {
        start.write(&folder.join(source), &texts.code)?;
    }
    start.write(&folder.join("requirements.txt"), &texts.requirements)?;
    // The manifest comes last: a project that has one is complete.
    start.write(&folder.join(NAMES[0]), &texts.manifest)?;
    Ok(start)
}

/// What a model in the folder says; by its name alone, where its content says nothing.
fn look(folder: &Path, model: &Path) -> Option<Proposal> {
    let (host, path) = (folder.join(model), model.to_str()?);
    if host.is_dir() {
        return proposal::of_folder(proposal::recognise(&host)?, &host, path);
    }
    let size = fs::metadata(&host).ok()?.len();
    let read = model::inspect(&Origin::File(&host), path, size).ok();
    read.and_then(|model| proposal::of_file(&model, path)).or_else(|| proposal::of_name(path))
}

impl Start {
    fn write(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let shown = path.strip_prefix(".").unwrap_or(path).to_owned();
        match fs::File::create_new(path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                self.written.push(shown);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => self.kept.push(shown),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The model's path relative to the folder.
fn inside(folder: &Path, model: &Path) -> Result<PathBuf, Error> {
    let real = fs::canonicalize(model).or_else(|_| fs::canonicalize(folder.join(model)))?;
    match real.strip_prefix(fs::canonicalize(folder)?) {
        Ok(path) if !path.as_os_str().is_empty() => Ok(path.to_owned()),
        _ => Err(Error::Elsewhere { model: model.to_owned(), folder: folder.to_owned() }),
    }
}

/// Models that lie in the folder itself, by name.
fn models_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut models = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if entry.file_type()?.is_file() && name.to_str().is_some_and(|name| proposal::of_name(name).is_some()) {
            models.push(name);
        }
    }
    models.sort();
    Ok(models)
}

/// A function of the right name that is there, else where one is to be written.
fn entry_in(folder: &Path) -> (String, Option<&'static str>) {
    for file in ["src/predict.py", "predict.py"] {
        if folder.join(file).exists() {
            return (format!("{file}:predict"), None);
        }
    }
    ("src/predict.py:predict".to_owned(), Some("src/predict.py"))
}

/// A name that a manifest takes: from the model's, unless that says nothing.
fn name_from(model: Option<&Path>, folder: &Path) -> Result<String, Error> {
    let real = fs::canonicalize(folder)?;
    let stem = |path: &Path| path.file_stem().map(|stem| plain(&stem.to_string_lossy())).unwrap_or_default();
    let from_model = model.map(stem).filter(|name| !matches!(name.as_str(), "" | "model" | "weights" | "saved_model"));
    let name = from_model.unwrap_or_else(|| stem(&real));
    Ok(if name.is_empty() { "model".to_owned() } else { name })
}

/// A text as a name that a manifest takes; empty where nothing is left of it.
pub(crate) fn plain(text: &str) -> String {
    let mapped: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(63)
        .collect();
    mapped.trim_matches(['-', '.', '_']).to_owned()
}

/// The schema, where the project lies in a checkout that has it: an editor finds it there without a network.
pub(crate) fn schema_beside(folder: &Path) -> Option<String> {
    let real = fs::canonicalize(folder).ok()?;
    let (depth, _) =
        real.ancestors().enumerate().find(|(_, folder)| folder.join("schemas/manifest.schema.json").exists())?;
    Some("../".repeat(depth) + "schemas/manifest.schema.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    /// A model of scikit-learn's that takes rows of two numbers.
    const PICKLE: &[u8] = b"\x80\x04\x8c\x1bsklearn.linear_model._basic\x8c\x10LinearRegression\x93)\x81}(\
        \x8c\x0en_features_in_K\x02\x8c\x10_sklearn_version\x8c\x051.5.2ub.";

    fn started(files: &[&str], model: Option<&str>) -> (tempfile::TempDir, Start) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // As little of each as is right.
            let bytes: &[u8] = match path.extension().and_then(|ending| ending.to_str()) {
                Some("pkl") => PICKLE,
                Some("onnx") => b"\x08\x07\x3a\x00",
                Some("safetensors") => b"\x02\0\0\0\0\0\0\0{}",
                _ => b"x",
            };
            fs::write(path, bytes).unwrap();
        }
        let model = model.map(|model| folder.path().join(model));
        let options = Options { folder: folder.path().to_owned(), model, name: Some("iris".to_owned()) };
        let start = start(&options).unwrap();
        (folder, start)
    }

    #[test]
    fn what_it_writes_is_valid() {
        for (files, model, requirement) in [
            (&["iris.pkl"][..], Some("iris.pkl"), "scikit-learn==1.5.2\nnumpy<2.2\nscipy<1.15\n"),
            (&["a b.onnx"], None, "numpy\nonnxruntime\n"),
            (&["x/y.pt"], Some("x/y.pt"), "torch\n"),
            (&["m.safetensors"], None, "numpy\nsafetensors\n"),
            (&["m.bin"], None, ""),
            (&["m.bin"], Some("m.bin"), ""),
        ] {
            let (folder, start) = started(files, model);
            assert_eq!(start.written.len(), 3, "{files:?}");
            let result = Project::load(folder.path());
            let found = match &result {
                Ok((_, found)) | Err(found) => found,
            };
            let shown: Vec<_> =
                found.sorted().into_iter().map(|d| crate::formats::diagnostic::Rendering::PLAIN.render(d)).collect();
            assert!(found.is_empty(), "{files:?}: {shown:#?}");
            let written = fs::read_to_string(folder.path().join("requirements.txt")).unwrap();
            let without: String =
                written.lines().map(|line| line.split("  #").next().unwrap().to_owned() + "\n").collect();
            assert_eq!(without, requirement);
        }
    }

    #[test]
    fn what_is_there_stays() {
        let (folder, start) = started(&["src/predict.py", "requirements.txt"], None);
        assert_eq!(start.kept, [folder.path().join("requirements.txt")]);
        assert_eq!(start.written, [folder.path().join("ekiben.yaml")]);
        assert_eq!(fs::read_to_string(folder.path().join("src/predict.py")).unwrap(), "x");
        let again = Options { folder: folder.path().to_owned(), ..Options::default() };
        assert!(matches!(super::start(&again), Err(Error::Already(_))));
    }

    #[test]
    fn a_model_outside_is_refused_before_anything_is_written() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let options = Options { folder: folder.path().to_owned(), model: Some(other.path().to_owned()), name: None };
        assert!(matches!(start(&options), Err(Error::Elsewhere { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_become_names_that_a_manifest_takes() {
        assert_eq!(plain("My Model (final).v2"), "my-model--final-.v2");
        assert_eq!(plain("__X__"), "x");
        assert_eq!(plain("日本"), "");
    }
}
