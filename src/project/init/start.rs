//! A project that begins in a folder of the person's choice, with one model or none.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::find::{self, Found};
use super::plan::Plan;
use super::proposal::Proposal;
use super::{Elsewhere, Error, NoModel, Placed, Placing, Rules, name_of, plain};
use crate::formats::diagnostic::Diagnostics;
use crate::io::archive::ArchivePath;
use crate::io::atomic;
use crate::project::manifest::NAMES;

/// What a project is to be made of.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The project's folder. It is made, if it is not there.
    pub folder: PathBuf,
    /// The model's file or folder, as the path is or within the project's folder. None: models are looked for there.
    pub model: Option<PathBuf>,
    /// What it is called. None: after the model, else after the folder.
    pub name: Option<String>,
    /// Which version of it that is. None: the first.
    pub version: Option<String>,
    /// Below which path it answers, as `/NAME/api`. None: at the root.
    pub root: Option<String>,
    /// Where the model lives. Its files do not become the project's then: the manifest names them there.
    pub elsewhere: Option<Elsewhere>,
    /// What holds for the model.
    pub rules: Rules,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Started {
    /// Files that were written.
    pub written: Vec<PathBuf>,
    /// Files that were there already, and are as they were.
    pub kept: Vec<PathBuf>,
    /// Files that were brought here, and how.
    pub placed: Vec<(PathBuf, Placed)>,
    /// The size of the model's files, in bytes.
    pub size: u64,
    /// What was read from the model.
    pub proposal: Proposal,
}

/// Makes a project: writes manifest, function and requirements into a folder, as far as they are not there, and brings the
/// model there. What is wrong with the model goes to `found`. Nobody else may do so in a folder that is there.
///
/// # Errors
/// When there is a manifest already, the model is not there or refused, or the disk says no; then nothing is left of what
/// was written.
pub fn start(start: &Start, found: &mut Diagnostics) -> Result<Started, Error> {
    let Some(Elsewhere { from, root, path }) = &start.elsewhere else { return begin(start, found) };
    // A person knows the model by its address.
    let mut own = Diagnostics::new();
    let started = begin(start, &mut own);
    let folder = root.join(path);
    found.extend(own.known_as(&folder.display().to_string(), from));
    started.map_err(|error| error.known_as(&folder, from))
}

fn begin(start: &Start, found: &mut Diagnostics) -> Result<Started, Error> {
    let folder = &start.folder;
    if let Some(name) = NAMES.iter().find(|name| folder.join(name).exists()) {
        return Err(Error::Already(folder.join(name)));
    }
    let models = match &start.model {
        Some(model) => vec![one(model, folder)?],
        None if folder.is_dir() => itself(folder)?,
        None => Vec::new(),
    };
    let is_there = folder.is_dir();
    let root = match &start.elsewhere {
        Some(elsewhere) => Some(elsewhere.root.as_path()),
        None => Some(folder.as_path()).filter(|_| is_there),
    };
    let mut models = models.into_iter();
    let first = models.next();
    let name = name(start.name.as_deref(), first.as_ref(), folder)?;
    let mut plan = match first {
        Some(Found { path, what }) => Plan::of(&path, what?, root, &start.rules, found)?,
        None => Plan::of_nothing(),
    };
    let others: Vec<ArchivePath> =
        models.filter_map(|other| ArchivePath::from_path(other.path.strip_prefix(folder).ok()?).ok()).collect();
    for other in &others {
        plan.name_file(other);
        plan.proposal.unknown.push(format!("what {other} is for: the function does not ask it"));
    }
    if let Some(elsewhere) = &start.elsewhere {
        plan.name_elsewhere(elsewhere);
    }
    plan.root.clone_from(&start.root);
    if is_there {
        return fill(folder, folder, &plan, &name, start);
    }
    let mut above = Undo::default();
    above.make_folders(folder)?;
    let started = atomic::folder(folder, |made| fill(made, folder, &plan, &name, start))?;
    above.is_done = true;
    Ok(started)
}

/// The model that a person names.
fn one(model: &Path, folder: &Path) -> Result<Found, Error> {
    let inside = folder.join(model);
    let path = if model.exists() || !inside.exists() { model } else { &inside };
    let mut found = find::at(path);
    match found.pop() {
        Some(one) if found.is_empty() => Ok(one),
        // Several models below a folder are a shelf.
        _ => Err(Error::NoModel { path: path.to_owned(), why: NoModel::Several }),
    }
}

/// The models in the project's folder.
fn itself(folder: &Path) -> Result<Vec<Found>, Error> {
    if super::proposal::recognise(folder).is_some() {
        return Err(Error::NoModel { path: folder.to_owned(), why: NoModel::Itself });
    }
    find::directly_in(folder)
}

fn name(given: Option<&str>, model: Option<&Found>, folder: &Path) -> Result<String, Error> {
    let name = match (given, model) {
        (Some(name), _) => name.to_owned(),
        (None, Some(model)) => find::names(std::slice::from_ref(model)).pop().unwrap_or_default(),
        (None, None) => {
            let path = std::path::absolute(folder)?;
            let path = fs::canonicalize(&path).unwrap_or(path);
            name_of(&path).unwrap_or_else(|| "model".to_owned())
        }
    };
    if name.is_empty() || plain(&name) != name { Err(Error::Name(name)) } else { Ok(name) }
}

/// Writes a project into `made`, which is or will be `folder`.
fn fill(made: &Path, folder: &Path, plan: &Plan, name: &str, start: &Start) -> Result<Started, Error> {
    let source = plan.source();
    let there = [source, "predict.py"].into_iter().find(|file| made.join(file).exists());
    let texts = plan.texts(
        name,
        start.version.as_deref(),
        there.unwrap_or(source),
        there.is_none(),
        schema_beside(folder).as_deref(),
    )?;
    let mut undo = Undo::default();
    let (mut written, mut kept, mut placed) = (Vec::new(), Vec::new(), Vec::new());
    let shown = |path: &str| folder.strip_prefix(".").unwrap_or(folder).join(path);
    for (part, is_model) in plan.parts() {
        let target = part.path.under(made);
        if !is_model && target.exists() {
            kept.push(shown(part.path.as_str()));
            continue;
        }
        undo.make_folders(&target)?;
        let placing = if is_model { start.rules.placing } else { Placing::Copy };
        let how = part.place(made, placing)?;
        if how != Placed::There {
            undo.files.push(target);
            placed.push((shown(part.path.as_str()), how));
        }
    }
    let code = there.is_none().then_some((source, &texts.code));
    // The manifest comes last: a project that has one is complete.
    let rest = [("requirements.txt", &texts.requirements), (NAMES[0], &texts.manifest)];
    for (path, text) in code.into_iter().chain(rest) {
        let target = made.join(path);
        undo.make_folders(&target)?;
        match fs::File::create_new(&target) {
            Ok(mut file) => {
                undo.files.push(target);
                file.write_all(text.as_bytes())?;
                written.push(shown(path));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => kept.push(shown(path)),
            Err(error) => return Err(error.into()),
        }
    }
    let size = plan.size()?;
    undo.is_done = true;
    Ok(Started { written, kept, placed, size, proposal: plan.proposal.clone() })
}

/// What was made, and goes again unless all is.
#[derive(Default)]
struct Undo {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    is_done: bool,
}

impl Undo {
    /// Makes the folders above a file, as far as they are not there.
    fn make_folders(&mut self, path: &Path) -> std::io::Result<()> {
        let above = path.parent().unwrap_or(Path::new("")).ancestors();
        let missing: Vec<_> = above.take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => self.folders.push(folder.to_owned()),
                // Somebody else's.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.is_done {
            // What cannot be removed now could not be written before.
            self.files.iter().for_each(|file| drop(fs::remove_file(file)));
            self.folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }
}

/// The schema, where the project lies in a checkout that has it: an editor finds it there without a network.
pub(crate) fn schema_beside(folder: &Path) -> Option<String> {
    let path = std::path::absolute(folder).ok()?;
    let real = fs::canonicalize(&path).unwrap_or(path);
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

    fn started(files: &[&str], model: Option<&str>) -> (tempfile::TempDir, Started) {
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
        let name = Some("iris".to_owned());
        let options = Start { folder: folder.path().to_owned(), model, name, ..Start::default() };
        let made = start(&options, &mut Diagnostics::new()).unwrap();
        (folder, made)
    }

    #[test]
    fn what_it_writes_is_valid() {
        for (files, model, requirement) in [
            (&["iris.pkl"][..], Some("iris.pkl"), "scikit-learn==1.5.2\nnumpy<2.2\nscipy<1.15\n"),
            (&["a b[1].onnx"], None, "numpy\nonnxruntime\n"),
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
            assert!(!found.has_errors(), "{files:?}: {shown:#?}");
            let written = fs::read_to_string(folder.path().join("requirements.txt")).unwrap();
            let without: String =
                written.lines().map(|line| line.split("  #").next().unwrap().to_owned() + "\n").collect();
            assert_eq!(without, requirement);
        }
    }

    #[test]
    fn what_is_there_stays() {
        let (folder, made) = started(&["src/predict.py", "requirements.txt"], None);
        assert_eq!(made.kept, [folder.path().join("requirements.txt")]);
        assert_eq!(made.written, [folder.path().join("ekiben.yaml")]);
        assert_eq!(fs::read_to_string(folder.path().join("src/predict.py")).unwrap(), "x");
        let again = Start { folder: folder.path().to_owned(), ..Start::default() };
        assert!(matches!(start(&again, &mut Diagnostics::new()), Err(Error::Already(_))));
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("evil.pkl");
        fs::write(&model, b"cos\nsystem\n(S'true'\ntR.").unwrap();
        for project in ["new/project", "."] {
            let options = Start { folder: folder.path().join(project), model: Some(model.clone()), ..Start::default() };
            let refused = start(&options, &mut Diagnostics::new());
            let Err(Error::Refused { allow, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!(allow, ["os.system"]);
        }
        // A folder is in the place of a file that is to be written.
        fs::write(&model, PICKLE).unwrap();
        fs::create_dir_all(folder.path().join("in the way/requirements.txt")).unwrap();
        fs::write(folder.path().join("in the way/evil.pkl"), b"").unwrap();
        let folder_in_the_way = folder.path().join("in the way");
        let options = Start { folder: folder_in_the_way.clone(), model: Some(model), ..Start::default() };
        assert!(matches!(start(&options, &mut Diagnostics::new()), Err(Error::Exists(_))));
        let left: Vec<_> = fs::read_dir(folder_in_the_way).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
