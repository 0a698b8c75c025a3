//! Dockerfiles, read as data: stages and their instructions, each with its place. Nothing is expanded, nothing executed.
//!
//! The language is that of [Docker's reference](https://docs.docker.com/reference/dockerfile/) and of BuildKit's frontend
//! 1.7 and newer; what its texts leave open is as BuildKit's own parser has it (`frontend/dockerfile/parser`,
//! `instructions` and `shell`), whose cases `scripts/dockerfile-suites` runs (`docs/dockerfiles.md` has the figures).
//!
//! The parser is our own. `parse-dockerfile` 0.1.9 knows places too, but takes a heredoc that is handed to a program
//! (`RUN python3 <<EOF`) for a mistake, stops at the first mistake where a person wants all of them, and replaces no
//! variables: the larger half would have to be written anyway. `dockerfile-parser` knows no heredocs, and
//! `dockerfile-parser-rs` loses the order of instructions.
//!
//! Invariants: every span lies within the text; what is read takes time and memory by the length of the text.

mod flags;
mod heredoc;
mod ignore;
mod instruction;
mod lines;
mod mount;
mod pattern;
mod read;
mod rules;
mod scope;
mod word;

pub use heredoc::Heredoc;
pub use ignore::{Ignore, IgnoreError};
pub use instruction::{
    Argument, Check, Command, Copying, HealthCheck, Instruction, Kind, Network, Pair, Program, Run, Security,
    Separator, Trigger,
};
pub use mount::{Mount, MountError, MountFlag, MountKind, Sharing};
pub use pattern::{Pattern, PatternError, clean};
pub use rules::{Checks, ContextSource};
pub use word::{Escape, ExpansionError, Variables, Word};

use std::ops::Range;
use std::sync::Arc;

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use lines::{Broken, Line, Lines};
use read::{Item, Reader, begins_heredocs};

/// Names of all instructions.
pub const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Stages that are read: each is looked at with all variables of the one that it stands on.
const MOST_STAGES: usize = 1_000;

/// A Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// What stands before everything else.
    pub directives: Directives,
    /// `ARG` before the first `FROM`.
    pub globals: Vec<Instruction>,
    /// Its stages, in their order; at least one where there is no mistake.
    pub stages: Vec<Stage>,
    /// Blank lines within instructions.
    pub blanks: Vec<Range<usize>>,
}

/// What `# NAME=VALUE` lines at the beginning say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that BuildKit would fetch; another one than Docker's may mean anything.
    pub syntax: Option<Word>,
    /// What escapes.
    pub escape: Escape,
    /// Which checks are left out, as `skip=all;error=true`.
    pub check: Option<Word>,
}

/// A stage: a base, and what is done upon it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// How it begins.
    pub from: From,
    /// What follows, in its order.
    pub instructions: Vec<Instruction>,
    /// From its `FROM` to its last instruction, in bytes of the file.
    pub span: Range<usize>,
}

/// `FROM`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Where it stands, in bytes of the file.
    pub span: Range<usize>,
    /// Where its name stands.
    pub keyword: Range<usize>,
    /// It as one line.
    pub original: String,
    /// An image, an earlier stage, or `scratch`.
    pub image: Word,
    /// `--platform`
    pub platform: Option<Word>,
    /// What the stage is called, in lower case.
    pub name: Option<String>,
    /// `AS` and the name, as they were written.
    pub alias: Option<(Word, Word)>,
}

impl Dockerfile {
    /// Reads a Dockerfile in which there may be no mistake.
    ///
    /// # Errors
    /// All mistakes.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::new();
        let read = Self::read(source, &mut found);
        if found.has_errors() { Err(found) } else { Ok(read) }
    }

    /// Reads what can be read. Mistakes go to `found`, and their instructions are left out.
    pub fn read(source: &Arc<Source>, found: &mut Diagnostics) -> Self {
        let mut file = Self::default();
        // After a `FROM` that could not be read, whatever follows belongs to a stage that is not known.
        let mut lost = false;
        let mut lines = Lines::new(source.text());
        loop {
            let escape = lines.escape;
            let line = match lines.next(|line| begins_heredocs(line, escape)) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(broken) => {
                    found.push(broken.say(source));
                    return file;
                }
            };
            file.blanks.extend(line.blanks.iter().cloned());
            let item = Reader { source, line: &line, escape: lines.escape }.item();
            match (item, file.stages.last_mut()) {
                (Ok(Item::From(from)), _) => {
                    lost = false;
                    if file.stages.len() == MOST_STAGES {
                        let message = format!("there are more than {MOST_STAGES} stages");
                        found.push(Diagnostic::new(Code::DockerfileSyntax, source, from.span, message));
                        return file;
                    }
                    file.stages.push(Stage { span: from.span.clone(), instructions: Vec::new(), from });
                }
                (Ok(Item::Instruction(_)), _) if lost => {}
                (Ok(Item::Instruction(instruction)), Some(stage)) => {
                    stage.span.end = instruction.span.end;
                    stage.instructions.push(instruction);
                }
                (Ok(Item::Instruction(instruction)), None) => match instruction.kind {
                    Kind::Arg(_) => file.globals.push(instruction),
                    kind => found.push(
                        Diagnostic::new(
                            Code::DockerfileSyntax,
                            source,
                            instruction.name,
                            format!("`{}` stands before the first `FROM`", kind.name()),
                        )
                        .help("a stage begins with `FROM IMAGE`; only `ARG` may stand before"),
                    ),
                },
                (Err(mistake), _) => {
                    lost = lost || line.text.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("FROM"));
                    found.push(*mistake);
                }
            }
        }
        file.directives.escape = lines.escape;
        for directive in lines.directives {
            let word = Word::new(directive.value, directive.value_span, lines.escape);
            match directive.name.as_str() {
                "syntax" => file.directives.syntax = Some(word),
                "check" => file.directives.check = Some(word),
                _ => {}
            }
        }
        if file.stages.is_empty() && !found.has_errors() {
            let end = source.text().len();
            let message = if file.globals.is_empty() { "there is no instruction" } else { "there is no `FROM`" };
            found.push(
                Diagnostic::new(Code::DockerfileSyntax, source, end..end, message)
                    .help("a Dockerfile has at least one stage, which begins with `FROM IMAGE`"),
            );
        }
        file
    }
}

impl Instruction {
    /// Reads one instruction: what an image's configuration has for those who build upon it.
    ///
    /// # Errors
    /// All mistakes: also `FROM`, and more or less than one instruction.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::new();
        let mut lines = Lines::new(source.text());
        let escape = Escape::default();
        let mut next = || lines.next(|line| begins_heredocs(line, escape));
        let whole = 0..source.text().len();
        let wrong = |message: &str| Diagnostic::new(Code::DockerfileSyntax, source, whole.clone(), message);
        let (line, second): (Option<Line>, Option<Line>) = match next().and_then(|line| Ok((line, next()?))) {
            Ok(read) => read,
            Err(broken) => {
                found.push(broken.say(source));
                return Err(found);
            }
        };
        match (line, second) {
            (Some(line), None) => match (Reader { source, line: &line, escape }).item() {
                Ok(Item::Instruction(instruction)) => return Ok(instruction),
                Ok(Item::From(_)) => found.push(wrong("`FROM` cannot stand in a trigger")),
                Err(mistake) => found.push(*mistake),
            },
            _ => found.push(wrong("a trigger is one instruction")),
        }
        Err(found)
    }
}

impl Broken {
    fn say(self, source: &Arc<Source>) -> Diagnostic {
        let say = |span, message: String| Diagnostic::new(Code::DockerfileSyntax, source, span, message);
        match self {
            Self::Twice(directive) => {
                say(directive.span, format!("the directive `{}` is there a second time", directive.name))
            }
            Self::NoEscape(directive) => say(directive.value_span, format!("`{}` cannot escape", directive.value))
                .help("`# escape=` is followed by `\\` or a backtick"),
            Self::TooLong(span) => say(span, format!("the line has more than {} bytes", lines::LONGEST)),
            Self::Endless { heredoc, line } => {
                let name = &heredoc.name;
                say(line, format!("the heredoc `{name}` has no end"))
                    .help(format!("it ends with a line that is `{name}` and nothing else"))
            }
        }
    }
}
