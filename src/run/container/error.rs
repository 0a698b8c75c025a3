//! What can go wrong with containers, and what to try then.

use crate::io::suggest::did_you_mean;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a container was not started, or could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the kernel said no. The message says to what.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It did not start.
    #[error("{0}")]
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
    },
    /// It runs, and what was asked for can be done to none that does.
    #[error("the container `{name}` is running")]
    IsRunning {
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
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Start(failure) => failure.hint(),
            Self::NameTaken { name } => {
                Some(format!("stop it with `ekiben stop {name}`, or give this one another name with `--name`"))
            }
            Self::NoContainer { similar: Some(similar), .. } => Some(did_you_mean(similar)),
            Self::NoContainer { similar: None, .. } => Some("see them all with `ekiben ps --all`".to_owned()),
            Self::IsRunning { name } => Some(format!("stop it first: `ekiben stop {name}`")),
            Self::Unreadable { path, .. } => Some(format!(
                "make it readable: `chmod o+rX {}`, or run ekiben as the user who owns it",
                path.display()
            )),
            Self::NoEngine { installed, .. } if installed.is_empty() => {
                Some("leave `--engine` out: ekiben can run containers by itself".to_owned())
            }
            Self::NoEngine { installed, .. } => {
                Some(format!("leave `--engine` out, or use one that is here: {}", installed.join(", ")))
            }
            _ => None,
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
        /// What the kernel said.
        why: String,
    },
    /// The program cannot be run.
    #[error("cannot run `{program}` in the container: {why}")]
    Command {
        /// The program.
        program: String,
        /// What is wrong with it.
        why: String,
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

impl Failure {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSandbox { hint, .. } => Some(hint.clone()),
            Self::Address { in_use: true, .. } => {
                Some("choose another port with `-p`, or port 0 for one that is free".to_owned())
            }
            Self::Address { address, .. } if address.port() < 1024 => {
                Some("ports below 1024 are for root: choose another one with `-p`".to_owned())
            }
            Self::Limits { .. } => Some(
                "run ekiben as root, or with control groups of its own: `systemd-run --user --scope -p Delegate=yes ekiben …`"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
