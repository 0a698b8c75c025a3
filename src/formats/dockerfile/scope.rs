//! Which variables have which values at each place of a Dockerfile, as far as that is known before anything is built: the
//! defaults of `ARG`, and what `ENV` makes of them.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::instruction::{Instruction, Kind};
use super::word::Word;
use super::{Dockerfile, Stage};

/// Variables that every build has, and a stage once it declares them.
pub(super) const PLATFORMS: &[&str] = &[
    "BUILDARCH",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// Variables that every step has, where the build was given them.
const PROXIES: &[&str] = &["ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// Bytes of a value that is kept: a name or path is shorter, and many long ones would take long.
const LONGEST: usize = 1 << 10;

/// Variables in sight.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// A name that has no value is declared, and only the build knows.
    values: BTreeMap<String, Option<String>>,
    /// Whether a base may have set others.
    pub has_base: bool,
}

impl Scope {
    /// What `FROM` sees; of the platform only the build knows.
    pub fn of_globals(file: &Dockerfile) -> Self {
        Self::with(file, PLATFORMS.iter().map(|name| ((*name).to_owned(), None)))
    }

    /// What `FROM` sees in a build that is given nothing, for the most usual platform.
    pub fn of_usual_globals(file: &Dockerfile) -> Self {
        let usual = |name: &str| match name.strip_prefix("BUILD").or_else(|| name.strip_prefix("TARGET")) {
            Some("PLATFORM") => "linux/amd64",
            Some("OS") => "linux",
            Some("ARCH") => "amd64",
            Some("STAGE") => "default",
            _ => "",
        };
        Self::with(file, PLATFORMS.iter().map(|name| ((*name).to_owned(), Some(usual(name).to_owned()))))
    }

    fn with(file: &Dockerfile, platforms: impl Iterator<Item = (String, Option<String>)>) -> Self {
        let mut scope = Self { values: platforms.collect(), has_base: false };
        let globals = scope.clone();
        for instruction in &file.globals {
            scope.take(instruction, &globals);
        }
        scope
    }

    /// What the first instruction of a stage sees: what the stage has that it stands on, `parent`.
    pub fn of_stage(stage: &Stage, parent: Option<Self>) -> Self {
        parent.unwrap_or_else(|| {
            let path = ("PATH".to_owned(), None);
            Self { values: BTreeMap::from([path]), has_base: stage.from.image.text() != "scratch" }
        })
    }

    /// Whether a name means something here.
    pub fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name) || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
    }

    /// The names that mean something here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value for expansion: empty where only the build knows it.
    pub fn value(&self, name: &str) -> Option<String> {
        match self.values.get(name) {
            Some(value) => Some(value.clone().unwrap_or_default()),
            None => self.knows(name).then(String::new),
        }
    }

    /// What a word is for sure; none where only the build or the base knows.
    pub fn known(&self, word: &Word) -> Option<String> {
        let unknown = Cell::new(false);
        let text = word.expand(&|name| {
            let value = self.values.get(name).cloned().flatten();
            unknown.set(unknown.get() || value.is_none());
            value
        });
        text.ok().filter(|text| !unknown.get() && text.len() <= LONGEST)
    }

    /// With what an instruction sets.
    pub fn take(&mut self, instruction: &Instruction, globals: &Self) {
        match &instruction.kind {
            Kind::Env(pairs) => {
                // All of them see what was there before the instruction.
                let set = pairs.iter().filter_map(|pair| {
                    Some((pair.name.expand(&|name| self.value(name)).ok()?, self.known(&pair.value)))
                });
                let set: Vec<_> = set.collect();
                self.values.extend(set);
            }
            Kind::Arg(arguments) => {
                for argument in arguments {
                    let Ok(name) = argument.name.expand(&|name| self.value(name)) else { continue };
                    let value = match &argument.default {
                        Some(default) => self.known(default),
                        None => globals.values.get(&name).cloned().flatten(),
                    };
                    self.values.insert(name, value);
                }
            }
            _ => {}
        }
    }
}
