//! What a process within is told, and what it answers.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::io::archive::{Attributes, Entry};
use crate::io::ids;
use crate::run::container::Failure;
use crate::run::container::terminal::Size;

/// The kind of job, for all but the removal of trees.
pub(super) const JOB: &str = "step";

/// Bytes of what a command left that are handed over at once.
pub(super) const PIECE: usize = 256 << 10;

/// What is to be done, in the current folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// The archive of a layer follows, and is unpacked to `root`. Answered with what was found.
    Unpack(Unpack),
    /// A command is run.
    Run(Box<Run>),
    /// `root` is put in order. Answered with [`Settled`].
    Settle(Pack),
    /// The entries of `root` are told.
    Pack(Pack),
    /// All but `root` is removed. Answered when it is.
    Clear,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Unpack {
    pub(super) below: Vec<PathBuf>,
    /// Of the root below.
    pub(super) root: Option<Attributes>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) lower: Vec<PathBuf>,
    pub(super) root: Option<Attributes>,
    /// The text of `/etc/resolv.conf`, where there is a way to the network.
    pub(super) resolver: Option<String>,
    /// The folders of the caches, in the order of the mounts.
    pub(super) caches: Vec<PathBuf>,
    /// What tells its control group from others.
    pub(super) name: String,
    pub(super) command: Command,
    /// The command has a terminal, with this size.
    pub(super) terminal: Option<Size>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pack {
    pub(super) lower: Vec<PathBuf>,
    /// The time of all files, in seconds since 1970.
    pub(super) epoch: u64,
}

/// What is in a folder that was put in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settled {
    /// There is anything.
    pub(super) changes: bool,
    /// What was taken out because no layer holds it, for a person.
    pub(super) left_out: Vec<String>,
}

/// What is told of `root`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Packed {
    /// A member of the layer. The bytes of a file follow.
    Entry(Entry),
    /// That was all.
    Done,
    /// It cannot be read.
    Failed(String),
}

/// How a command ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) exit: i32,
    pub(super) out_of_memory: bool,
    /// Why it was stopped, where it filled the disk.
    pub(super) disk_full: Option<String>,
    /// Why it was not started.
    pub(super) failure: Option<Failure>,
}

/// Says something.
pub(super) fn say(line: impl io::Write, what: &impl Serialize) -> io::Result<()> {
    ids::send(line, &serde_json::to_vec(what)?)
}
