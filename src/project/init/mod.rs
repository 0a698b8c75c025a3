//! Projects made of what is already there: a model, a shelf of them, or nothing.
//!
//! Invariants: nothing of a model is loaded or run; no file that exists is changed; the model that was given stays where it
//! is, as it is; a project appears whole or not at all; the same models give the same bytes.

mod convert;
mod find;
mod own;
mod part;
mod plan;
pub mod proposal;
mod start;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use convert::{Conversion, Converted, Existing, Shelf, convert};
pub use find::{Named, is_pickle, named};
pub use plan::FOLDER;
pub(crate) use start::schema_beside;
pub use start::{Start, Started, start};

use crate::io::explain::{ErrorKind, Explain, Explanation, quoted};

/// What holds for each model of which a project is made.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What loading the models may import though it is dangerous or unknown, as in a manifest's `model.allow`.
    pub allow: Vec<String>,
    /// How a model's files get into the project, where they lie elsewhere.
    pub placing: Placing,
    /// What the container will run on.
    pub hardware: proposal::Hardware,
}

/// Where a model lives that was fetched to be looked at.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The address, as the manifest is to have it.
    pub from: String,
    /// The folder in which its files lie now as they would in a project.
    pub root: PathBuf,
    /// The file or folder in there that the address stands for.
    pub path: String,
}

/// How a model's files get into a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placing {
    /// Each is copied; a file system that can share the bytes of two files does.
    #[default]
    Copy,
    /// Each is a hard link: it takes no space, and whoever writes into one changes the other. Copied where there can be no
    /// link: on another file system.
    Link,
}

/// How a model's files got into a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placed {
    /// They were there.
    There,
    /// As hard links.
    Linked,
    /// As copies.
    Copied,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder has a manifest.
    #[error("there is a manifest already: {}", .0.display())]
    Already(PathBuf),
    /// It is not there.
    #[error("there is no such file or folder: {}", .0.display())]
    Missing(PathBuf),
    /// It is nothing that can be made a project.
    #[error("no project can be made from {}: {why}", path.display())]
    NoModel {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        why: NoModel,
    },
    /// It is dangerous or damaged; the diagnostics say in what way.
    #[error("the model is refused: {}", path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// What would have to be allowed for it to be taken: none where it is damaged, or hides what it imports.
        allow: Vec<String>,
    },
    /// Something lies where the project, or a file of it, would.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// A file that belongs to the model is not there, or lies elsewhere.
    #[error("{} belongs to the model, and is not a file in its folder", .0.display())]
    Outside(PathBuf),
    /// The name is none that a manifest takes.
    #[error("`{0}` cannot be the name of a project")]
    Name(String),
    /// A name for several projects.
    #[error("one name is given for {0} models")]
    OneName(usize),
    /// The folder holds too much.
    #[error("{} holds more than {MOST} files", .0.display())]
    TooMany(PathBuf),
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A template is wrong: a mistake in Ekiben.
    #[error("a template of the project cannot be filled in")]
    Template(#[from] minijinja::Error),
}

/// Why something is no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoModel {
    /// It has a manifest.
    Project,
    /// BentoML built it.
    Bento,
    /// There is nothing in it.
    Empty,
    /// It is a folder without one.
    None,
    /// It is a folder with several.
    Several,
    /// The project's folder is one itself.
    Itself,
    /// What a folder's description says cannot be read.
    Unreadable,
    /// What it is nobody here can serve; a fragment says why.
    Unserved(String),
}

impl std::fmt::Display for NoModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Project => "it is one already",
            Self::Bento => "it is a bento",
            Self::Empty => "it is empty",
            Self::None => "no model is in the folder",
            Self::Several => "several models are in the folder",
            Self::Itself => "the folder is a model, and cannot hold the project beside it",
            Self::Unreadable => "its description cannot be read",
            Self::Unserved(why) => why,
        })
    }
}

impl Error {
    /// The same about files that people know as `shown` and below, which lay in `folder`.
    fn known_as(mut self, folder: &Path, shown: &str) -> Self {
        if let Self::Missing(path)
        | Self::NoModel { path, .. }
        | Self::Refused { path, .. }
        | Self::Outside(path)
        | Self::TooMany(path) = &mut self
            && let Ok(below) = path.strip_prefix(folder)
        {
            *path = if below.as_os_str().is_empty() { shown.into() } else { Path::new(shown).join(below) };
        }
        self
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        let named = |name| ErrorKind::Failure.named(name);
        match self {
            Self::Already(_) => named("init/manifest-exists").hint("`ekiben validate` says whether it is right"),
            Self::Missing(_) => named("init/missing"),
            Self::NoModel { why: NoModel::Project | NoModel::Bento, .. } => {
                named("init/no-model").hint("`ekiben build` takes it as it is")
            }
            Self::NoModel { why: NoModel::None, .. } => named("init/no-model")
                .hint("name the model's file: one that is named is taken whatever it is called, also where its format is unknown"),
            Self::NoModel { why: NoModel::Several, .. } => {
                named("init/no-model").hint("name one of them; or all become projects: `ekiben convert`")
            }
            Self::NoModel { path, why: NoModel::Itself } => named("init/no-model")
                .hint(format!("make the project elsewhere: `ekiben init --from {} NEW-FOLDER`", quoted(&path.display().to_string()))),
            Self::NoModel { why: NoModel::Unserved(_), .. } => named("init/unserved")
                .hint("docs/models.md has the flavours of MLflow's that are; a project of its own can load the model as well: `ekiben init`"),
            Self::NoModel { .. } => named("init/no-model"),
            Self::Refused { allow, .. } => {
                let refused = ErrorKind::Invalid.named("init/refused");
                if allow.is_empty() {
                    refused
                } else {
                    let flags: Vec<String> = allow.iter().map(|global| format!("--allow '{global}'")).collect();
                    refused.hint(format!(
                        "if you made it, or trust who did: {}; the manifest's `model.allow` will say so",
                        flags.join(" ")
                    ))
                }
            }
            Self::Exists(_) => named("init/exists").hint("choose another folder, or move it away; `ekiben convert --force` replaces the files of a project"),
            Self::Outside(_) => named("init/outside"),
            Self::Name(_) => named("init/name").hint("use lowercase letters, digits, `-`, `_` and `.`, at most 63"),
            Self::OneName(_) => named("init/one-name").hint("leave `--name` out: projects are called after their models"),
            Self::TooMany(_) => named("init/too-many"),
            Self::Io(error) => error.explain(),
            Self::Template(_) => named("init/template"),
        }
    }
}

/// Files of one model, and models of one folder.
const MOST: usize = 10_000;

/// A text as a name that a manifest takes; empty where nothing is left of it.
pub fn plain(text: &str) -> String {
    let mapped: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(63)
        .collect();
    mapped.trim_matches(['-', '.', '_']).to_owned()
}

/// The name that a folder's path ends with; none where it ends with none, as `.` does.
pub fn name_of(folder: &Path) -> Option<String> {
    Some(plain(&folder.file_name()?.to_string_lossy())).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_that_a_manifest_takes() {
        assert_eq!(plain("My Model (final).v2"), "my-model--final-.v2");
        assert_eq!(plain("__X__"), "x");
        assert_eq!(plain("日本"), "");
    }
}
