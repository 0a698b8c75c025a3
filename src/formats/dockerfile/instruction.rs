//! The instructions of Docker's reference, as nouns. Nothing in them is expanded yet.

use std::ops::Range;
use std::time::Duration;

use super::heredoc::Heredoc;
use super::mount::MountFlag;
use super::word::Word;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where it stands, in bytes of the file, with its heredocs.
    pub span: Range<usize>,
    /// Where its name stands.
    pub name: Range<usize>,
    /// It as one line, without comments and heredocs: what the history of an image says.
    pub original: String,
    /// What it is.
    pub kind: Kind,
}

/// What an instruction is. `FROM` begins a stage, and is none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ADD`
    Add(Copying),
    /// `COPY`
    Copy(Copying),
    /// `RUN`
    Run(Run),
    /// `ENV`
    Env(Vec<Pair>),
    /// `ARG`
    Arg(Vec<Argument>),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `WORKDIR`
    Workdir(Word),
    /// `USER`
    User(Word),
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `SHELL`: at least one word.
    Shell(Vec<String>),
    /// `EXPOSE`: each becomes any number of ports, by [`Word::expand_to_words`].
    Expose(Vec<Word>),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `HEALTHCHECK`
    HealthCheck(HealthCheck),
    /// `ONBUILD`
    OnBuild(Trigger),
    /// `MAINTAINER`, which a label has replaced.
    Maintainer(String),
}

impl Kind {
    /// The name of the instruction, in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Copy(_) => "COPY",
            Self::Run(_) => "RUN",
            Self::Env(_) => "ENV",
            Self::Arg(_) => "ARG",
            Self::Label(_) => "LABEL",
            Self::Workdir(_) => "WORKDIR",
            Self::User(_) => "USER",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Shell(_) => "SHELL",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::HealthCheck(_) => "HEALTHCHECK",
            Self::OnBuild(_) => "ONBUILD",
            Self::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// A name with its value; both are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: Word,
    /// The value.
    pub value: Word,
    /// What stands between them.
    pub separator: Separator,
}

/// What stands between a name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `=`, and each instruction may have several pairs.
    Equals,
    /// A space, as in Docker's first years: the value is the rest of the line.
    Space,
}

/// A variable of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: Word,
    /// Its value where the build is given none.
    pub default: Option<Word>,
}

/// What `COPY` and `ADD` have in common. Flags that one of them has alone are as if not given with the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copying {
    /// Paths, patterns, and for `ADD` addresses.
    pub sources: Vec<Word>,
    /// Texts that become files, in their order.
    pub documents: Vec<Heredoc>,
    /// Where to.
    pub target: Word,
    /// `--from`: a stage, its number from 0, or an image. Variables are not replaced.
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`, of `COPY`.
    pub parents: bool,
    /// `--exclude`, in their order. Variables are not replaced.
    pub exclude: Vec<Word>,
    /// `--checksum`, of `ADD`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`, of `ADD`; none where nothing is said.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, of `ADD`; none where nothing is said.
    pub unpack: Option<bool>,
}

/// What is to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// One text, which is handed to the shell.
    Shell(String),
    /// A program and its arguments, as JSON; may be empty.
    Exec(Vec<String>),
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What stands in its line.
    pub command: Command,
    /// Texts that belong to it; none where the command is [`Command::Exec`].
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in their order.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Network,
    /// `--security`
    pub security: Security,
    /// `--device`, in their order.
    pub devices: Vec<Word>,
}

/// What a step reaches of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// What the build allows.
    #[default]
    Default,
    /// Nothing.
    None,
    /// The host's.
    Host,
}

/// Whether a step is locked in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// It is.
    #[default]
    Sandbox,
    /// It asks not to be, at this place.
    Insecure(Range<usize>),
}

/// What a `RUN` executes, with its heredocs in their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A text for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A file with this name and content, whose first line says what executes it.
    Script {
        /// The name of the heredoc.
        name: String,
        /// The content, which begins with `#!`.
        content: String,
    },
}

impl Run {
    /// What is executed.
    pub fn program(&self) -> Program {
        let line = match &self.command {
            Command::Exec(words) => return Program::Exec(words.clone()),
            Command::Shell(line) => line,
        };
        match self.heredocs.first() {
            None => Program::Shell(line.clone()),
            // The line is nothing but the heredoc: its content is the program.
            Some(first) if Heredoc::begun_by(line).is_some() => {
                let content = first.content().into_owned();
                match content.starts_with("#!") {
                    true => Program::Script { name: first.name.clone(), content },
                    false => Program::Shell(content),
                }
            }
            // The shell reads them itself.
            Some(_) => {
                let documents = self.heredocs.iter().map(|document| format!("\n{}{}", document.raw, document.name));
                Program::Shell(line.clone() + &documents.collect::<String>())
            }
        }
    }
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// `NONE`: also that of the base goes.
    None,
    /// A command that tells.
    Check(Check),
}

/// A command that tells how a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The command.
    pub command: Command,
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
}

/// `ONBUILD`: an instruction for whoever builds upon the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// It as text, with its heredocs: what the image's configuration has.
    pub expression: String,
    /// It as an instruction.
    pub instruction: Box<Instruction>,
}
