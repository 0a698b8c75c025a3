//! What is known of a container: `state.json` in its folder.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::spec::Publish;
use super::way::Way;
use super::{Failure, lifeline};

/// What is known of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// What it is called.
    pub name: String,
    /// When it was started, in seconds since 1970.
    pub created: u64,
    /// How it is.
    pub status: Status,
    /// Where it answers, with the ports that were found for port 0.
    pub published: Vec<Publish>,
    /// What it reaches beyond itself.
    #[serde(default)]
    pub ways: Vec<Way>,
    /// The layers that it is made of.
    pub lower: Vec<PathBuf>,
    /// What it was asked to run.
    pub args: Vec<String>,
    /// What its caller noted.
    pub labels: BTreeMap<String, String>,
    /// What a person should know though it runs.
    pub warnings: Vec<String>,
    pub(super) keep: bool,
    /// It is run for what it writes, by a command that does something else.
    #[serde(default)]
    pub(super) own: bool,
    pub(super) supervisor: Option<Process>,
}

impl State {
    /// One for tests of who chooses among them.
    #[cfg(test)]
    pub(crate) fn example(name: &str, status: Status, labels: BTreeMap<String, String>) -> Self {
        Self {
            name: name.to_owned(),
            created: 0,
            status,
            published: Vec::new(),
            ways: Vec::new(),
            lower: Vec::new(),
            args: Vec::new(),
            labels,
            warnings: Vec::new(),
            keep: true,
            own: false,
            supervisor: None,
        }
    }

    /// Whether it runs, or is about to.
    pub fn is_live(&self) -> bool {
        matches!(self.status, Status::Starting | Status::Running)
    }
}

/// How a container is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Status {
    /// Not running yet.
    Starting,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Exited {
        /// What the program said, or 128 and the number of the signal that ended it.
        code: i32,
        /// The kernel killed processes of the container because of its memory limit.
        out_of_memory: bool,
    },
    /// It did not start.
    Failed(Failure),
    /// Its supervisor was killed, and it with it.
    Lost,
}

/// A process, told apart from later ones with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) id: u32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Process {
    pub(super) fn this() -> io::Result<Self> {
        Self::with_id(std::process::id())
    }

    pub(super) fn with_id(id: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // proc(5): the name, in brackets, may itself contain anything; field 22 is the 20th after it. One that has ended
        // stays, as `Z`, until its parent takes note.
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start()).filter(|rest| !rest.starts_with('Z'));
        let started = after_name.and_then(|rest| rest.split_whitespace().nth(19)?.parse().ok());
        let started = started.ok_or_else(|| io::Error::other(format!("the process {id} has ended")))?;
        Ok(Self { id, started })
    }

    /// Of its children, the one that is the first of a process namespace, as the host sees it: the container of an OCI
    /// runtime. None: there is none any more.
    pub(super) fn first_within(self) -> Option<Self> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id)).ok()?.flatten();
        // proc(5): each thread has its own children.
        let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let children: Vec<u32> = lists
            .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
            .collect();
        let parent = self.id.to_string();
        children.into_iter().find_map(|id| {
            let child = Self::with_id(id).ok()?;
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let last = |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().last();
            let fits = last("PPid:") == Some(&parent) && last("NSpid:") == Some("1");
            // With the same start before and after, it was the one that was read of.
            (fits && child.is_alive() && self.is_alive()).then_some(child)
        })
    }

    /// A handle to it, if it is still there.
    pub(super) fn handle(self) -> Option<OwnedFd> {
        let handle = lifeline::process_handle(self.id).ok()?;
        self.is_alive().then_some(handle)
    }

    /// Whether it is still there.
    pub(super) fn is_alive(self) -> bool {
        Self::with_id(self.id).is_ok_and(|now| now == self)
    }
}

/// All that `state.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) state: State,
    pub(super) cgroup: Cgroup,
    /// The container's first process, or the OCI runtime that has it as its child. None: a manager has it.
    #[serde(default)]
    pub(super) process: Option<Process>,
    /// The podman or docker that has the container, and goes on with it when its supervisor is killed.
    pub(super) manager: Option<PathBuf>,
}

impl Record {
    const FILE: &str = "state.json";

    /// That of the container in whose folder this process is.
    pub(super) fn load() -> io::Result<Self> {
        Self::load_from(Path::new("."))
    }

    pub(super) fn load_from(folder: &Path) -> io::Result<Self> {
        read(&folder.join(Self::FILE))
    }

    /// When something was noted last.
    pub(super) fn noted(folder: &Path) -> io::Result<SystemTime> {
        fs::metadata(folder.join(Self::FILE))?.modified()
    }

    pub(super) fn save(&self) -> io::Result<()> {
        self.save_to(Path::new("."))
    }

    pub(super) fn save_to(&self, folder: &Path) -> io::Result<()> {
        write(&folder.join(Self::FILE), self)
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::other(format!("{} is damaged: {error}", path.display())))
}

/// Whole or not at all. Not flushed to the disk: no container outlives the machine.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}
