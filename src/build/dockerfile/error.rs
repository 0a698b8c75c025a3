//! Why a Dockerfile becomes no image.

use std::io;
use std::path::PathBuf;

use super::{Opened, accounts, contents, copy, plan};
use crate::formats::dockerfile::{ExpansionError, IgnoreError, Instruction, MountError};
use crate::image::oci::platform::UnknownPlatform;
use crate::image::{self as images, download, layer, registry, store};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::{base, run};

/// What a shell ends with where its command got SIGKILL.
const KILLED: i32 = 128 + 9;

/// Why a Dockerfile becomes no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("{} has no Dockerfile", context.display())]
    NoFile {
        /// The folder.
        context: PathBuf,
    },
    /// It has mistakes.
    #[error("{} has {}", path.display(), if *errors == 1 { "1 mistake".to_owned() } else { format!("{errors} mistakes") })]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// How many.
        errors: usize,
    },
    /// What says what is left out of the context cannot be read.
    #[error("{place}: {error}")]
    Ignore {
        /// File and line.
        place: String,
        /// Why.
        error: IgnoreError,
    },
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// An instruction cannot be done.
    #[error("{place}: `{instruction}` cannot be done")]
    At {
        /// File and line.
        place: String,
        /// As it is written.
        instruction: String,
        /// Why.
        source: Box<Self>,
    },
    /// What the base wants to be done cannot be.
    #[error("the base has `ONBUILD {trigger}`, which cannot be done")]
    Trigger {
        /// As it is written.
        trigger: String,
        /// Why.
        source: Box<Self>,
    },
    /// Commands would have to be executed.
    #[error("{} would be executed:{}", counted(commands.len()), commands.iter().map(|command| format!("\n    {command}")).collect::<String>())]
    NotAllowed {
        /// Place and text of each.
        commands: Vec<String>,
    },
    /// A command failed.
    #[error("the command ended with exit code {code}{}", if lines.is_empty() { String::new() } else { format!(":\n{}", lines.join("\n")) })]
    Failed {
        /// Of the command.
        code: i32,
        /// What it said last.
        lines: Vec<String>,
        /// Why it had no other user than root, where it had none.
        alone: Option<String>,
    },
    /// A command was killed because of its memory.
    #[error("the command took more memory than it may have")]
    OutOfMemory,
    /// There is no lock.
    #[error("there is no lock at {}", path.display())]
    NoLock {
        /// Where it would be.
        path: PathBuf,
    },
    /// The lock does not have an image.
    #[error("the lock does not have the image `{name}`")]
    ImageNotLocked {
        /// As it is written.
        name: String,
    },
    /// The lock does not have a command.
    #[error("the lock does not have what this command leads to")]
    NotLocked,
    /// A command led to something else than the lock has.
    #[error("the command led to {}, and the lock has {}", told(made.as_ref()), told(locked.as_ref()))]
    OtherLayer {
        /// By the lock.
        locked: Option<Digest>,
        /// Now.
        made: Option<Digest>,
    },
    /// A command led to different files when it was executed again.
    #[error("the command led to other files when it was executed again:{}", files.iter().map(|file| format!("\n    {file}")).collect::<String>())]
    NotTheSame {
        /// Their paths, and in what they differ.
        files: Vec<String>,
    },
    /// Another stage failed; never shown.
    #[error("a stage before it failed")]
    Waited,
    /// What is written is not possible, or not done here.
    #[error("{0}")]
    Refused(String),
    /// A word.
    #[error(transparent)]
    Expansion(#[from] ExpansionError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// Files that are copied.
    #[error(transparent)]
    Copy(#[from] copy::Error),
    /// What a layer holds.
    #[error(transparent)]
    Contents(#[from] contents::Error),
    /// A user or a group.
    #[error(transparent)]
    Unknown(#[from] accounts::Unknown),
    /// An image.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// What it stands on.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A file from a server.
    #[error(transparent)]
    Download(#[from] download::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What executes commands.
    #[error(transparent)]
    Step(#[from] run::step::Error),
    /// This machine's processor is none that images are built for.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// A file. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// That the path of a Dockerfile leads out of the project.
    pub(in crate::build) fn outside(error: crate::io::archive::PathError) -> Self {
        Self::Refused(format!("the Dockerfile: {error}"))
    }

    /// That `source` is why `instruction` cannot be done.
    pub(super) fn at(opened: &Opened, instruction: &Instruction, source: impl Into<Self>) -> Self {
        match source.into() {
            Self::Waited => Self::Waited,
            source => {
                let (place, instruction) = (opened.place(instruction), shortened(&instruction.original));
                Self::At { place, instruction, source: Box::new(source) }
            }
        }
    }
}

/// Commands in a message.
fn counted(commands: usize) -> String {
    if commands == 1 { "1 command".to_owned() } else { format!("{commands} commands") }
}

/// A layer in a message.
fn told(layer: Option<&Digest>) -> String {
    layer.map_or_else(|| "no layer".to_owned(), |digest| format!("the layer {digest}"))
}

/// A line that is not too long for a message.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoFile { .. } => ErrorKind::Usage.named("dockerfile/none").hint("name it with --file"),
            Self::Mistakes { .. } => ErrorKind::Invalid.named("dockerfile/mistakes"),
            Self::Mount(error) => {
                let explanation = ErrorKind::Invalid.named("dockerfile/mount");
                match error.hint() {
                    Some(hint) => explanation.hint(hint),
                    None => explanation,
                }
            }
            Self::Ignore { .. } => ErrorKind::Invalid.named("dockerfile/ignore"),
            Self::At { source, .. } | Self::Trigger { source, .. } => source.explain(),
            Self::NotAllowed { .. } => ErrorKind::Usage.named("dockerfile/not-allowed").hint(
                "with --allow-run they are executed in a sandbox, with --allow-run=network they reach the network from there",
            ),
            Self::Failed { code, alone, .. } => ErrorKind::Failure.named("dockerfile/command-failed").hint(match (alone, code) {
                (Some(why), _) => format!("it had no user but root, so changing owners fails, and apt with that: {why}"),
                (None, &KILLED) => "137 is what a process ends with that is killed, as when memory runs out".to_owned(),
                _ => "with -v all that commands say is shown; --debug-shell opens a shell in what was there before".to_owned(),
            }),
            Self::NoLock { path } => ErrorKind::Stale
                .named("dockerfile/no-lock")
                .hint(format!("`--lock {}` writes one", path.display())),
            Self::ImageNotLocked { .. } | Self::NotLocked => ErrorKind::Stale.named("dockerfile/not-locked").hint("renew the lock without --locked, and commit it"),
            Self::OtherLayer { .. } => ErrorKind::Failure
                .named("dockerfile/other-layer")
                .hint("--verify-run names the files that differ each time it is executed; without --locked the lock is renewed"),
            Self::NotTheSame { .. } => ErrorKind::Failure
                .named("dockerfile/not-the-same")
                .hint("what depends on time or chance is best left out, or removed by the same command"),
            Self::OutOfMemory => ErrorKind::Failure.named("dockerfile/out-of-memory"),
            Self::Waited => ErrorKind::Failure.named("dockerfile/waited"),
            Self::Refused(_) => ErrorKind::Invalid.named("dockerfile/refused"),
            Self::Expansion(error) => error.explain(),
            Self::Plan(error) => error.explain(),
            Self::Copy(error) => error.explain(),
            Self::Contents(error) => error.explain(),
            Self::Unknown(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Base(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Download(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Step(error) => error.explain(),
            Self::Platform(error) => error.explain(),
            Self::Io(error) => error.explain(),
        }
    }
}
