//! What is to be done for a stage of a Dockerfile: which other stages it stands on or copies from, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use crate::formats::dockerfile::{Dockerfile, Instruction, Kind, Stage};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::closest;

use super::scope::Scope;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stage that is asked for is none.
    #[error("there is no stage `{name}`{}", similar.as_ref().map(|name| format!(", but `{name}`")).unwrap_or_default())]
    NoStage {
        /// As it was given.
        name: String,
        /// One that is called nearly so.
        similar: Option<String>,
    },
    /// The file has no stage at all.
    #[error("the file has no FROM")]
    Empty,
    /// Files of a stage that comes later.
    #[error("the stage `{name}` comes after the one that takes files from it")]
    Later {
        /// As it is written.
        name: String,
    },
    /// A `FROM` names nothing.
    #[error("`FROM {text}` names no image: {why}")]
    NoBase {
        /// As it is written.
        text: String,
        /// What it comes to.
        why: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoStage { .. } => ErrorKind::Usage.named("dockerfile/no-stage"),
            Self::Empty => ErrorKind::Invalid.named("dockerfile/empty"),
            Self::Later { .. } => {
                ErrorKind::Invalid.named("dockerfile/later-stage").hint("put that stage before the other one")
            }
            Self::NoBase { .. } => ErrorKind::Invalid
                .named("dockerfile/no-base")
                .hint("give the variable a value with `--build-arg`, or a default with ARG before the first FROM"),
        }
    }
}

/// What files come from, or a stage stands on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An earlier stage, by its number from 0.
    Stage(usize),
    /// Nothing.
    Scratch,
    /// An image, or a context that the person names.
    Named(String),
}

/// The stages that are needed, by their numbers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What each of them stands on.
    pub bases: BTreeMap<usize, Origin>,
    /// The one that becomes the image.
    pub target: usize,
}

impl Plan {
    /// For the stage `target`, by name or number; for the last one where none is given.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn of(file: &Dockerfile, target: Option<&str>, globals: &Scope) -> Result<Self, Error> {
        let last = file.stages.len().checked_sub(1).ok_or(Error::Empty)?;
        let target = match target {
            None => last,
            Some(name) => stage(file, name, file.stages.len()).ok_or_else(|| {
                let names: Vec<_> = file.stages.iter().filter_map(|stage| stage.from.name.clone()).collect();
                Error::NoStage { name: name.to_owned(), similar: closest(name, &names).map(str::to_owned) }
            })?,
        };
        let mut bases = BTreeMap::new();
        let mut wanted = BTreeSet::from([target]);
        while let Some(number) = wanted.pop_last() {
            let Some(stage) = file.stages.get(number) else { continue };
            let base = base(file, number, stage, globals)?;
            let names: Vec<_> = stage.instructions.iter().flat_map(sources).collect();
            let mut later = names.iter().filter(|name| self::stage(file, name, number).is_none());
            if let Some(name) = later.find(|name| self::stage(file, name, file.stages.len()).is_some()) {
                return Err(Error::Later { name: name.clone() });
            }
            // What a variable says is known when it is made: it may be any of those before.
            let unknown = names.iter().any(|name| name.contains('$'));
            wanted.extend((0..number).filter(|before| unknown && !bases.contains_key(before)));
            let sources = names.iter().map(|name| origin(file, name, number));
            let stages = sources.chain([base.clone()]).filter_map(|origin| match origin {
                Origin::Stage(number) => Some(number),
                _ => None,
            });
            bases.insert(number, base);
            wanted.extend(stages.filter(|number| !bases.contains_key(number)));
        }
        Ok(Self { bases, target })
    }
}

/// What the stage `number` stands on.
fn base(file: &Dockerfile, number: usize, stage: &Stage, globals: &Scope) -> Result<Origin, Error> {
    let word = &stage.from.image;
    let no_base = |why: String| Error::NoBase { text: word.text().to_owned(), why };
    let name = globals.expand(word).map_err(|error| no_base(error.to_string()))?;
    match name.as_str() {
        "" => Err(no_base("it is empty".to_owned())),
        name => Ok(match self::stage(file, name, number).filter(|_| name.parse::<usize>().is_err()) {
            Some(number) => Origin::Stage(number),
            None if name == "scratch" => Origin::Scratch,
            None => Origin::Named(name.to_owned()),
        }),
    }
}

/// What `--from` or `from=` means in the stage `number`.
pub fn origin(file: &Dockerfile, text: &str, number: usize) -> Origin {
    match stage(file, text, number) {
        Some(number) => Origin::Stage(number),
        None => Origin::Named(text.to_owned()),
    }
}

/// The stage before `end` that is called `text`, or has that number.
fn stage(file: &Dockerfile, text: &str, end: usize) -> Option<usize> {
    let is_called = |stage: &Stage| stage.from.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(text));
    // The last of several with one name, as BuildKit has it.
    let named = file.stages.iter().take(end).rposition(is_called);
    named.or_else(|| text.parse().ok().filter(|number| *number < end))
}

/// Where an instruction takes files from, but for the context.
fn sources(instruction: &Instruction) -> Vec<String> {
    match &instruction.kind {
        Kind::Copy(copying) | Kind::Add(copying) => copying.from.iter().map(|word| word.text().to_owned()).collect(),
        // Where a mount is from, no variable says.
        Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.expand(&|_| None).ok()?.from).collect(),
        _ => Vec::new(),
    }
}
