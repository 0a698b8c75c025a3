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
    /// Stages that wait for each other.
    #[error("{}", if let [name] = names.as_slice() { format!("the stage {name} needs itself") } else { format!("the stages {} need each other", names.join(" and ")) })]
    Circle {
        /// What they are called, or their numbers.
        names: Vec<String>,
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
            Self::Circle { .. } => ErrorKind::Invalid.named("dockerfile/circle").hint("take files from earlier stages"),
            Self::NoBase { .. } => ErrorKind::Invalid
                .named("dockerfile/no-base")
                .hint("give the variable a value with `--build-arg`, or a default with ARG before the first FROM"),
        }
    }
}

/// What files come from, or a stage stands on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A stage, by its number from 0.
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
        let (mut bases, mut needs) = (BTreeMap::new(), BTreeMap::new());
        let mut wanted = BTreeSet::from([target]);
        while let Some(number) = wanted.pop_last() {
            let Some(stage) = file.stages.get(number) else { continue };
            let base = base(file, number, stage, globals)?;
            let names: Vec<_> = stage.instructions.iter().flat_map(sources).collect();
            // What a variable says is known when it is made: it may be any of those before.
            let unknown = (0..number).filter(|_| names.iter().any(|name| name.contains('$')));
            let sources = names.iter().map(|name| origin(file, name));
            let stages = sources.chain([base.clone()]).filter_map(|origin| match origin {
                Origin::Stage(number) => Some(number),
                _ => None,
            });
            let stages: BTreeSet<usize> = stages.chain(unknown).collect();
            bases.insert(number, base);
            wanted.extend(stages.iter().filter(|number| !bases.contains_key(number)));
            needs.insert(number, stages);
        }
        // Those that wait for no other are taken away, until none is left.
        while let Some(number) = needs.iter().find_map(|(number, stages)| stages.is_empty().then_some(*number)) {
            needs.remove(&number);
            needs.values_mut().for_each(|stages| stages.retain(|needed| *needed != number));
        }
        // Nor are those part of a circle that no other waits for.
        let idle = |needs: &BTreeMap<usize, BTreeSet<usize>>| {
            needs.keys().find(|number| !needs.values().any(|stages| stages.contains(number))).copied()
        };
        while let Some(number) = idle(&needs) {
            needs.remove(&number);
        }
        if !needs.is_empty() {
            let called = |number: &usize| file.stages.get(*number).and_then(|stage| stage.from.name.clone());
            let names = needs.keys().map(|number| called(number).unwrap_or_else(|| number.to_string()));
            return Err(Error::Circle { names: names.map(|name| format!("`{name}`")).collect() });
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

/// What `--from` or `from=` means, in any stage: later ones are known too, as BuildKit has it.
pub fn origin(file: &Dockerfile, text: &str) -> Origin {
    match stage(file, text, file.stages.len()) {
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
