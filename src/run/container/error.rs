//! What can go wrong with containers, and what to try then.

use crate::io::suggest::{did_you_mean, listed};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// What to do when a container is not there to be asked.
const LISTED: &str = "`ekiben ps` lists those that run";

/// Why a container was not started, or could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the kernel said no. The message says to what.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] Failure),
    /// A container has the name.
    #[error("there is a container `{name}` already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name cannot be one.
    #[error("`{name}` cannot be the name of a container: use up to 63 letters, digits, `.`, `_` and `-`")]
    BadName {
        /// The name.
        name: String,
    },
    /// No container has the name.
    #[error("there is no container `{name}`")]
    NoContainer {
        /// The name.
        name: String,
        /// One that is there and looks alike.
        similar: Option<String>,
        /// All that are there.
        names: Vec<String>,
    },
    /// Several containers may be meant.
    #[error("`{text}` may be any of {} containers", names.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Those that it may be.
        names: Vec<String>,
    },
    /// It runs, and what was asked for can be done to none that does.
    #[error("the container `{name}` is running")]
    IsRunning {
        /// The name.
        name: String,
    },
    /// It does not run, and what was asked for can be done to nothing else.
    #[error("the container `{name}` is not running")]
    NotRunning {
        /// The name.
        name: String,
    },
    /// Nobody noted which process it is: an older version started it.
    #[error("it is not known which process the container `{name}` is")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A file of the host would be there in the container, but not for its user.
    #[error("{} is not readable for the container's user {user}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The user's number.
        user: u32,
    },
    /// An engine was asked for that is not installed.
    #[error("`{name}` is not installed")]
    NoEngine {
        /// What was asked for.
        name: String,
        /// What is there.
        installed: Vec<&'static str>,
    },
    /// The supervisor ended without a word: a bug, or somebody killed it.
    #[error("the container's supervisor ended early{}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Died {
        /// What it wrote to its standard error.
        said: String,
    },
}

impl Error {
    /// What a shell would end with where this is about a program that cannot be run: 127 when there is none, else 126.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Start(Failure::Command { missing, .. }) => Some(if *missing { 127 } else { 126 }),
            _ => None,
        }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Start(failure) => failure.explain(),
            Self::NameTaken { name } => ErrorKind::Failure
                .named("container/name-taken")
                .hint(format!("stop it with `ekiben stop {name}`, or give this one another name with `--name`")),
            Self::BadName { .. } => ErrorKind::Failure.named("container/name"),
            Self::NoContainer { similar: Some(similar), .. } => {
                ErrorKind::Failure.named("container/not-found").hint(did_you_mean(similar))
            }
            Self::NoContainer { similar: None, names, .. } if names.is_empty() => {
                ErrorKind::Failure.named("container/not-found").hint("`ekiben run` starts one: there is none now")
            }
            Self::NoContainer { similar: None, names, .. } => ErrorKind::Failure
                .named("container/not-found")
                .hint(format!("there are: {}; `ekiben ps --all` says more", listed(names))),
            Self::Ambiguous { names, .. } => {
                ErrorKind::Usage.named("container/ambiguous").hint(format!("say which: {}", listed(names)))
            }
            Self::IsRunning { name } => ErrorKind::Failure
                .named("container/running")
                .hint(format!("stop it first: `ekiben stop {name}`, or `ekiben rm --force {name}`")),
            Self::NotRunning { .. } => ErrorKind::Failure.named("container/not-running").hint(LISTED),
            Self::Unknown { .. } => ErrorKind::Failure.named("container/unknown").hint("start it again"),
            Self::Unreadable { path, .. } => ErrorKind::Failure.named("container/unreadable").hint(format!(
                "make it readable: `chmod o+rX {}`, or run ekiben as the user who owns it",
                path.display()
            )),
            Self::NoEngine { installed, .. } if installed.is_empty() => ErrorKind::Failure
                .named("container/no-engine")
                .hint("leave `--engine` out: ekiben can run containers by itself"),
            Self::NoEngine { installed, .. } => ErrorKind::Failure
                .named("container/no-engine")
                .hint(format!("leave `--engine` out, or use one that is here: {}", installed.join(", "))),
            Self::Died { .. } => ErrorKind::Failure.named("container/died"),
        }
    }
}

/// Why a container did not start, as its supervisor noted it.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// No container can be started here at all.
    #[error("no container can be started: {why}")]
    NoSandbox {
        /// What stands against it.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// An address of the host cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Another program listens on it.
        in_use: bool,
        /// It is none of this machine's.
        #[serde(default)]
        foreign: bool,
        /// What the kernel said.
        why: String,
    },
    /// A way out cannot be opened.
    #[error("the way to {way} cannot be opened: {why}")]
    Way {
        /// As it is written: `HOST:PORT`.
        way: String,
        /// Why not.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The program cannot be run.
    #[error("cannot run `{program}` in the container: {why}")]
    Command {
        /// The program.
        program: String,
        /// What is wrong with it.
        why: String,
        /// There is none, or not what it is to be run by.
        #[serde(default)]
        missing: bool,
    },
    /// A mount point cannot be made.
    #[error("nothing can be mounted at {} in the container: {why}", target.display())]
    Mount {
        /// In the container.
        target: PathBuf,
        /// Why not.
        why: String,
    },
    /// Limits were required.
    #[error("the container's limits cannot be set: {why}")]
    Limits {
        /// Why not.
        why: String,
    },
    /// The container cannot be gone into.
    #[error("the container cannot be entered: {why}")]
    Entry {
        /// Why not.
        why: String,
    },
    /// What was to be run in the container could use up more than the container may.
    #[error("what is run in the container could not be held to its limits: {why}")]
    Unheld {
        /// Why not.
        why: String,
    },
    /// A program cannot start in a folder.
    #[error("{} cannot be the working folder in the container: {why}", folder.display())]
    Folder {
        /// In the container.
        folder: PathBuf,
        /// Why not.
        why: String,
    },
    /// The container runtime said no.
    #[error("the container runtime failed: {message}")]
    Runtime {
        /// What it said.
        message: String,
    },
    /// The disk or the kernel said no.
    #[error("{message}")]
    Io {
        /// To what.
        message: String,
    },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io { message: error.to_string() }
    }
}

impl Explain for Failure {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoSandbox { hint, .. } => ErrorKind::Sandbox
                .named("container/no-sandbox")
                .hint(format!("{hint}; `ekiben doctor` says whether anything else is missing")),
            Self::Address { in_use: true, .. } => ErrorKind::Failure
                .named("container/address")
                .hint("choose another port with `-p`, or port 0 for one that is free"),
            Self::Address { foreign: true, address, .. } => {
                ErrorKind::Failure.named("container/address").hint(format!(
                    "{} is none of this machine's addresses: 127.0.0.1 is for this machine alone, 0.0.0.0 is all that it has",
                    address.ip()
                ))
            }
            Self::Address { address, .. } if address.port() < 1024 => ErrorKind::Failure
                .named("container/address")
                .hint("ports below 1024 are for root: choose another one with `-p`"),
            Self::Address { .. } => ErrorKind::Failure.named("container/address"),
            Self::Way { hint, .. } => ErrorKind::Failure.named("container/way").maybe(hint.clone()),
            Self::Command { .. } => ErrorKind::Failure.named("container/command"),
            Self::Mount { .. } => ErrorKind::Failure.named("container/mount"),
            Self::Limits { .. } => ErrorKind::Failure.named("container/limits").hint(
                "run ekiben as root, or with control groups of its own: `systemd-run --user --scope -p \
                 Delegate=yes ekiben …`",
            ),
            Self::Entry { .. } => ErrorKind::Failure.named("container/entry").hint(LISTED),
            Self::Unheld { .. } => ErrorKind::Failure
                .named("container/unheld")
                .hint("run this where the container was started, in the same session, or as root"),
            Self::Folder { .. } => ErrorKind::Failure.named("container/folder"),
            Self::Runtime { .. } => ErrorKind::Failure.named("container/runtime"),
            Self::Io { .. } => ErrorKind::Failure.named("container/io"),
        }
    }
}
