//! A shelf of models, each made a project in a folder of its own. What is wrong with one stops no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::find::{self, Found};
use super::part::all_in;
use super::plan::Plan;
use super::proposal::{Kind, Proposal};
use super::start::schema_beside;
use super::{Error, Placed, Placing, Rules, plain};
use crate::formats::diagnostic::Diagnostics;
use crate::io::atomic;
use crate::io::progress::{Progress, Unit};
use crate::project::manifest::NAMES;

/// What is to be converted, and how.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Models: files, and folders that are models or hold some.
    pub models: Vec<PathBuf>,
    /// The folder in which each project gets a folder of its own.
    pub into: PathBuf,
    /// What the project is called, where there is one model. None: after the model's file or folder.
    pub name: Option<String>,
    /// What becomes of a project that is there already.
    pub existing: Existing,
    /// What holds for each model.
    pub rules: Rules,
}

/// What becomes of a project that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is left alone, and there is an error.
    #[default]
    Keep,
    /// Its files are replaced. Files that are not written stay.
    Replace,
}

/// What became of one model.
#[derive(Debug)]
pub struct Conversion {
    /// The model, as it was given or found.
    pub source: PathBuf,
    /// What its project is called.
    pub name: String,
    /// What is wrong with the model.
    pub diagnostics: Diagnostics,
    /// The project; or why there is none.
    pub result: Result<Converted, Error>,
}

/// A project that was made.
#[derive(Debug)]
pub struct Converted {
    /// Its folder.
    pub project: PathBuf,
    /// What it was made of.
    pub proposal: Proposal,
    /// Of the model's files, in bytes.
    pub size: u64,
    /// How the model's files got there: copied, if one was.
    pub placed: Placed,
}

/// Makes a project of each model, in the order of the paths, and by name within a folder.
pub fn convert(shelf: &Shelf, progress: &Progress) -> Vec<Conversion> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for path in &shelf.models {
        for one in find::at(path) {
            // The same model twice is one model.
            if seen.insert(fs::canonicalize(&one.path).unwrap_or_else(|_| one.path.clone())) {
                found.push(one);
            }
        }
    }
    let mut names = find::names(&found);
    if let Some(name) = &shelf.name {
        names.iter_mut().for_each(|own| own.clone_from(name));
    }
    let several = (shelf.name.is_some() && found.len() > 1).then_some(found.len());
    let one = |(Found { path, what }, name): (Found, String)| {
        let _task = progress.task("Converting", name.clone(), Unit::Items, None);
        let mut diagnostics = Diagnostics::new();
        let result = match (what, several) {
            (_, Some(number)) => Err(Error::OneName(number)),
            (Err(error), _) => Err(error),
            (Ok(kind), _) => make(&path, kind, &name, shelf, &mut diagnostics),
        };
        Conversion { source: path, name, diagnostics, result }
    };
    found.into_iter().zip(names).map(one).collect()
}

fn make(
    path: &Path,
    kind: Option<Kind>,
    name: &str,
    shelf: &Shelf,
    found: &mut Diagnostics,
) -> Result<Converted, Error> {
    if name.is_empty() || plain(name) != name {
        return Err(Error::Name(name.to_owned()));
    }
    let plan = Plan::of(path, kind, None, &shelf.rules, found)?;
    let project = shelf.into.join(name);
    fs::create_dir_all(&shelf.into)?;
    let source = plan.source();
    let texts = plan.texts(name, None, source, true, schema_beside(&project).as_deref())?;
    let mut placed = Placed::Copied;
    let mut fill = |folder: &Path| -> Result<(), Error> {
        let mut all = Vec::new();
        for (part, is_model) in plan.parts() {
            let how = part.place(folder, if is_model { shelf.rules.placing } else { Placing::Copy })?;
            all.extend(is_model.then_some(how));
        }
        placed = if all.contains(&Placed::Copied) { Placed::Copied } else { Placed::Linked };
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join(source), &texts.code)?;
        fs::write(folder.join("requirements.txt"), &texts.requirements)?;
        fs::write(folder.join(NAMES[0]), &texts.manifest)?;
        Ok(())
    };
    if shelf.existing == Existing::Replace && project.is_dir() {
        replace(&project, &mut fill)?;
    } else {
        let empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        if project.symlink_metadata().is_ok() && !empty(&project) {
            return Err(Error::Exists(project));
        }
        atomic::folder(&project, &mut fill)?;
    }
    let size = plan.size()?;
    Ok(Converted { project, proposal: plan.proposal, size, placed })
}

/// Fills a folder beside the project, and puts its files into the place of the project's, the manifest last.
fn replace(project: &Path, fill: &mut dyn FnMut(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let parent = project.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".ekiben-").tempdir_in(parent)?;
    fill(made.path())?;
    let mut parts = all_in(made.path())?;
    parts.sort_by_key(|part| part.path.as_str() == NAMES[0]);
    // A second manifest would make it unclear which one holds.
    if let Some(other) = NAMES.iter().skip(1).map(|name| project.join(name)).find(|other| other.exists()) {
        return Err(Error::Exists(other));
    }
    for part in parts {
        let target = part.path.under(project);
        fs::create_dir_all(target.parent().unwrap_or(project))?;
        fs::rename(part.host, target)?;
    }
    Ok(())
}
