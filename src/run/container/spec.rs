//! What is to be run: folders and a process. Nothing here knows of images.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::way::Way;
use crate::io::archive::Attributes;

/// A container to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// What the container is called among those of the store.
    pub name: Name,
    /// The layers of its root, unpacked, lowest first. They are only read.
    pub lower: Vec<PathBuf>,
    /// Mode and owner of its root; none is 0755 of root.
    pub root: Option<Attributes>,
    /// Files and folders of the host that it sees.
    pub mounts: Vec<Mount>,
    /// The same, as whoever starts it wants them: nothing of them is hidden, and what changes on the host is seen.
    pub volumes: Vec<Mount>,
    /// Device nodes of the host that it may use as far as its user may. Their targets lie in `/dev`.
    pub devices: Vec<Mount>,
    /// Symbolic links that it sees beyond its layers.
    pub links: Vec<Link>,
    /// Files that are made for it, and that it can only read.
    #[serde(skip)]
    pub files: Vec<File>,
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment, `NAME=VALUE`: nothing of the host's is added.
    pub env: Vec<String>,
    /// Where the program starts; absolute, in the container.
    pub cwd: PathBuf,
    /// User and group in the container. Started by root, they are these numbers on the host too; started by an
    /// ordinary user, they are that user on the host.
    pub user: (u32, u32),
    /// Further groups of the program. An ordinary user can give it none.
    pub groups: Vec<u32>,
    /// The name that the container has for itself.
    pub hostname: String,
    /// What it can reach, and who can reach it.
    pub network: Network,
    /// What it may use up.
    pub limits: Limits,
    /// Bytes that it may write into its root, beyond what lies in `tmpfs`; they are kept in memory, over the layers, and
    /// gone when it ends. Permissions say where. None: the root is read-only.
    pub writable: Option<u64>,
    /// Where it can write. Emptied when it ends. Where the root can be written to, `/tmp` is the layers' own, if they
    /// have one.
    pub tmpfs: Vec<Tmpfs>,
    /// What runs it.
    pub engine: Engine,
    /// Whether its output is one log, or two files.
    pub output: Streams,
    /// Its state and log stay after its end, until somebody removes them.
    pub keep: bool,
    /// How long it may take to end after SIGTERM, in milliseconds, before it is killed.
    pub grace: u64,
    /// The caller's own notes, given back by [`super::Container::state`].
    pub labels: BTreeMap<String, String>,
}

/// What a container is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Name {
    /// So and not otherwise; it is an error when another container has the name.
    Exactly(String),
    /// So, with letters appended that make it the only one.
    Like(String),
}

/// A file or folder of the host that the container sees. The mount point need not exist in the layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// Whether the container can write there: for Ekiben's own build steps.
    pub writable: bool,
}

/// A symbolic link in the container. Its folder need not exist in the layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// In the container, absolute.
    pub path: PathBuf,
    /// Where it leads to.
    pub target: PathBuf,
}

/// A file that is made for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// In the container, absolute.
    pub target: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A folder in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// In the container, absolute.
    pub target: PathBuf,
    /// In bytes.
    pub size: u64,
}

/// What a container can reach, and who can reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Only itself and where `ways` lead. Others reach it by what is published.
    Isolated {
        /// Ports of the container that answer on addresses of the host.
        publish: Vec<Publish>,
        /// What it reaches beyond itself.
        #[serde(default)]
        ways: Vec<Way>,
    },
    /// All that the host can reach.
    Host,
}

/// A port of the container that answers on an address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// On the host. Port 0 takes a free one: [`super::State::published`] says which.
    pub host: SocketAddr,
    /// In the container, on its loopback interface.
    pub container: u16,
}

/// What a container may use up. Where this machine does not let Ekiben set a limit, the container starts without it and
/// a warning says why, unless `required` is set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, with what it has in its tmpfs. There is no swap beyond it.
    pub memory: Option<u64>,
    /// Processors, such as 1.5.
    pub cpus: Option<f64>,
    /// Processes and threads. Where no control group can count them, the kernel counts those of the container's user:
    /// for an ordinary user those in this container, for root all of that number.
    pub pids: Option<u64>,
    /// Rather no container than one without its limits.
    pub required: bool,
}

/// Processes and threads of a container for which nobody said how many: enough for a server's thread pools on many
/// processors, and far from what takes a machine down. Kubernetes' nodes mostly allow as many.
const PROCESSES: u64 = 4096;

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, cpus: None, pids: Some(PROCESSES), required: false }
    }
}

/// What runs a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// libcontainer, in this program.
    Embedded,
    /// runc, crun or another program with the command line of the OCI runtimes.
    Runtime {
        /// The program: see [`super::engine::find`].
        program: PathBuf,
    },
    /// podman or docker. `lower` and `mounts` below the layers are not used, the image's archive is.
    Manager {
        /// The program: see [`super::engine::find`].
        program: PathBuf,
        /// A docker archive of the image.
        archive: PathBuf,
        /// The image's name in the archive, `NAME:TAG`.
        image: String,
        /// Names of devices that the manager gives the container, as it finds them itself.
        devices: Vec<String>,
    },
}

/// Where a container's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// Both streams into one log.
    Merged,
    /// Standard output and standard error into a file each.
    Separate,
}

impl Spec {
    /// A process in `lower`, isolated, with `/tmp`, `/run` and `/dev/shm` to write to, as user 1034 (as bentos have it).
    pub fn new(name: Name, lower: Vec<PathBuf>, args: Vec<String>) -> Self {
        let tmpfs = |target: &str, size| Tmpfs { target: target.into(), size };
        Self {
            name,
            lower,
            root: None,
            mounts: Vec::new(),
            volumes: Vec::new(),
            devices: Vec::new(),
            links: Vec::new(),
            files: Vec::new(),
            args,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cwd: "/".into(),
            user: (1034, 1034),
            groups: Vec::new(),
            hostname: "ekiben".to_owned(),
            network: Network::Isolated { publish: Vec::new(), ways: Vec::new() },
            limits: Limits::default(),
            writable: None,
            tmpfs: vec![tmpfs("/tmp", 1 << 30), tmpfs("/run", 64 << 20), tmpfs("/dev/shm", 1 << 30)],
            engine: Engine::Embedded,
            output: Streams::Merged,
            keep: false,
            grace: 10_000,
            labels: BTreeMap::new(),
        }
    }
}
