//! Steps: one command over unpacked layers, and the layer that it leaves.
//!
//! Whoever starts a step ([`Workshop`]) stays outside. What is done with trees is done by a process in a user namespace of
//! its own ([`crate::io::ids`]): layers are unpacked there with all owners and modes ([`within`]), a command is run over
//! them ([`process`], in what [`root`] mounts), and what it left in its upper folder is put in order and told entry by
//! entry ([`upper`]). The way to the network is a pair of devices ([`link`]), behind which this program speaks for the
//! command with ordinary sockets ([`outside`], [`stack`]).
//!
//! | in the folder of a step, in the scratch | what |
//! |---|---|
//! | `root` | the upper folder: what the command changes |
//! | `w`, `rootfs`, `top`, `n`, `t`, `b` | the overlay's own, its root, mount points, nothing, memory, mounts of other trees |
//!
//! Invariants: the command's ids are nobody's on the host (but with [`Ids::One`]); its capabilities are Docker's, in its
//! user namespace alone, and its system calls those of Docker's profile with these; it may gain rights (programs with a
//! setuid bit are what package managers and `su` need), as all that there are to gain end at the namespace: its layers
//! hold no ids but the namespace's, and other mounts take no such bits. It sees its layers, its mounts and its upper
//! folder, and of the host's devices those that hold nothing. It reaches no address of this machine. Nothing of it runs
//! when the process that started it does not. What is a mount point, a secret or a cache is in no layer.

mod host;
mod job;
mod link;
mod outside;
mod process;
mod root;
mod stack;
mod upper;
mod within;

use std::io::{self, BufRead as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::image::layer::{self, Layer};
use crate::image::session::Session;
use crate::image::store;
use crate::io::alone;
use crate::io::archive::{self, Attributes, Facts};
use crate::io::digest::{Digest, HashingReader, Mismatch};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::ids::{self, Worker};
use crate::run::container::guest::exchange_with_terminal;
use crate::run::container::lifeline::process_handle;
use crate::run::container::terminal::Size;
use crate::run::container::{Ends, Failure, Launcher};
use job::{Ended, Job, PIECE, Pack, Packed, Run, Settled, Unpack};

pub use crate::io::ids::Ids;
pub use within::take_over;

/// Version of what is made of a layer within, and of what a step leaves in its upper folder.
const TREES: u32 = 1;

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the kernel said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer cannot be had or made.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The command was not started.
    #[error(transparent)]
    Start(#[from] Failure),
    /// A layer cannot be unpacked with its owners.
    #[error("the layer {layer} cannot be unpacked: {why}")]
    Unpack {
        /// Its digest.
        layer: Digest,
        /// Why not.
        why: String,
    },
    /// The command filled the disk, or more of it than it may, and was stopped.
    #[error("the command was stopped: {why}")]
    DiskFull {
        /// What is left, and what must be.
        why: String,
    },
    /// The work within the user namespace failed.
    #[error("{what}: {why}")]
    Within {
        /// What was to be done.
        what: &'static str,
        /// Why it could not.
        why: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Start(failure) => failure.explain(),
            Self::Unpack { .. } => ErrorKind::Failure.named("step/unpack"),
            Self::DiskFull { .. } => ErrorKind::Failure
                .named("step/disk-full")
                .hint("make room, for instance with `ekiben prune`, or have the command write less"),
            Self::Within { .. } => ErrorKind::Failure.named("step/within").hint("`ekiben doctor` says what is missing"),
        }
    }
}

/// Layers that lie unpacked with their owners, one over the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trees {
    /// The folder of each, the lowest first, without what an upper one hides as a whole.
    lower: Vec<PathBuf>,
    /// Mode and owner of the root, where a layer says.
    root: Option<Attributes>,
    /// What they are kept under.
    key: Option<Digest>,
}

/// What a command can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Itself.
    None,
    /// What this machine can reach, but for this machine: names are asked of the host's resolver, and the proxies of the
    /// host's environment are given to the command.
    Outside,
}

/// What a command may use up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory. It holds where this user may make control groups; and where the machine's own ends, the command goes first.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes of disk that must stay free: one that leaves less is stopped.
    pub reserve: u64,
    /// Bytes of disk that it may fill, as well.
    pub disk: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: Some(most_memory()), pids: 16_384, reserve: 512 << 20, disk: None }
    }
}

/// What of this machine's memory is left, where the others are to have enough to go on.
fn most_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let all = info.totalram.saturating_mul(u64::from(info.mem_unit));
    all - all / 16
}

/// A file that a command sees, which can only be read and is in no layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// In the root, absolute.
    pub target: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// User and group, within.
    pub owner: (u32, u32),
}

/// How several commands use one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// One that is in use is left alone: another is made.
    Private,
    /// One after the other.
    Locked,
}

/// What a command sees beyond its root. It is in no layer, and needs no mount point there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or folder of other trees.
    Bind {
        /// Those.
        trees: Trees,
        /// Where in them, from their root.
        path: PathBuf,
        /// In the root, absolute.
        target: PathBuf,
        /// Whether the command can write to it. What it writes is thrown away.
        writable: bool,
    },
    /// A folder that stays for other commands.
    Cache {
        /// Which.
        key: String,
        /// In the root, absolute.
        target: PathBuf,
        /// Permission bits, when it is made.
        mode: u32,
        /// User and group within, when it is made.
        owner: (u32, u32),
        /// Whether others use it at the same time.
        sharing: Sharing,
    },
    /// A folder in memory.
    Tmpfs {
        /// In the root, absolute.
        target: PathBuf,
        /// In bytes.
        size: u64,
    },
    /// A file that nobody else is to know.
    Secret(File),
    /// A socket of the host's on which an SSH agent answers, for this command.
    Ssh {
        /// On the host.
        socket: PathBuf,
        /// In the root, absolute.
        target: PathBuf,
        /// Permission bits.
        mode: u32,
        /// User and group, within.
        owner: (u32, u32),
    },
}

/// A command over trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment, `NAME=VALUE`. `SOURCE_DATE_EPOCH` and, with a network, the host's proxies are added where it
    /// does not have them.
    pub env: Vec<String>,
    /// Where it starts; absolute. It is there already.
    pub cwd: PathBuf,
    /// User and group, within.
    pub user: (u32, u32),
    /// Further groups.
    pub groups: Vec<u32>,
    /// The name of the machine.
    pub hostname: String,
    /// Further names of addresses: `ADDRESS NAME…`, as lines of `/etc/hosts`.
    pub hosts: Vec<String>,
    /// What it can reach.
    pub network: Network,
    /// What it reads from its standard input.
    pub input: Vec<u8>,
    /// Files made for it, such as a script.
    pub files: Vec<File>,
    /// What else it sees.
    pub mounts: Vec<Mount>,
    /// What it may use up.
    pub limits: Limits,
    /// What its layer holds, for a person.
    pub title: String,
}

impl Command {
    /// One as root in `/`, without network or mounts.
    pub fn new(args: Vec<String>, title: impl Into<String>) -> Self {
        Self {
            args,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cwd: "/".into(),
            user: (0, 0),
            groups: Vec::new(),
            hostname: "ekiben".to_owned(),
            hosts: Vec::new(),
            network: Network::None,
            input: Vec::new(),
            files: Vec::new(),
            mounts: Vec::new(),
            limits: Limits::default(),
            title: title.into(),
        }
    }
}

/// How a command ended, and what it left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What it said, or 128 and the number of the signal that ended it.
    pub exit: i32,
    /// The kernel killed a process of it because of its memory limit.
    pub out_of_memory: bool,
    /// What it changed; none when it failed or changed nothing.
    pub layer: Option<Layer>,
    /// What it left that no layer holds: sockets and device nodes.
    pub left_out: Vec<String>,
}

/// Where the steps of one store are done.
#[derive(Clone, Debug)]
pub struct Workshop {
    session: Session,
    ids: Ids,
}

impl Workshop {
    /// In the store of `session`, with `launcher` as the program whose `main` begins with [`take_over`].
    ///
    /// # Errors
    /// When the disk says no.
    pub fn open(session: &Session, launcher: &Launcher) -> Result<Self, Error> {
        ids::register(launcher.path());
        process::sweep();
        Ok(Self { session: session.clone(), ids: Ids::of_this_user() })
    }

    /// The users and groups that commands have.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Unpacks `layers`, the lowest first, where they are not yet. Their bytes are here, or can be made here.
    ///
    /// # Errors
    /// When one cannot be had or unpacked.
    pub fn trees(&self, layers: &[&Layer]) -> Result<Trees, Error> {
        let mut trees = Trees::default();
        for layer in layers {
            trees = self.over(&trees, layer)?;
        }
        Ok(trees)
    }

    /// The trees of `below` with `layer` over them.
    fn over(&self, below: &Trees, layer: &Layer) -> Result<Trees, Error> {
        let key = self.key(below, &layer.diff_id);
        let home = self.session.store.snapshot(&key, |folder| self.unpack(folder, below, layer))?;
        let facts = layer::noted_facts(&home)?;
        let mut trees = if facts.hides_all { Trees::default() } else { below.clone() };
        trees.root = facts.root.or(below.root);
        trees.lower.push(home.join("root"));
        trees.key = Some(key);
        Ok(trees)
    }

    fn key(&self, below: &Trees, layer: &Digest) -> Digest {
        let key = ("step", TREES, self.ids.mapping(), layer, &below.key);
        // Numbers and digests always serialise.
        Digest::of(serde_json::to_vec(&key).unwrap_or_default())
    }

    fn unpack(&self, folder: &Path, below: &Trees, layer: &Layer) -> Result<(), Error> {
        let failed = |why: String| Error::Unpack { layer: layer.digest, why };
        open_to_all(folder)?;
        let told = Unpack { below: below.lower.clone(), root: below.root };
        let mut worker = self.worker(&Job::Unpack(told), Some(folder), None)?;
        let mut archive = HashingReader::new(crate::io::compress::decoder(layer.open(&self.session.store)?)?);
        let copied = io::copy(&mut archive, &mut io::BufWriter::with_capacity(1 << 20, &worker.line));
        // One that has failed says why.
        let _ = worker.line.shutdown(std::net::Shutdown::Write);
        let said = worker.hear()?.ok_or_else(|| failed("the process that unpacks it ended early".to_owned()))?;
        let facts: Facts =
            serde_json::from_slice::<Result<Facts, String>>(&said).map_err(io::Error::from)?.map_err(failed)?;
        copied.map_err(layer::Error::from)?;
        let (actual, expected) = (archive.finish(), layer.diff_id);
        if actual != expected {
            return Err(failed(Mismatch::Digest { expected, actual }.to_string()));
        }
        keep_to_owner(folder)?;
        Ok(layer::note(folder, layer.diff_id, facts)?)
    }

    /// Runs `command` over `below`, to its end. What it says is handed on line by line, without their ends.
    ///
    /// # Errors
    /// When it cannot be started, fills the disk, or what it left cannot be kept. One that fails is no error.
    pub fn run(&self, below: &Trees, command: &Command, output: &mut dyn FnMut(&str)) -> Result<Ran, Error> {
        let (reader, writer) = io::pipe()?;
        let mut desk = self.desk()?;
        let (worker, _, proxied) = self.start(below, command, &mut desk, Streams::Output(writer.into()))?;
        let ended = attend(worker, reader, output)?;
        drop(proxied);
        let (exit, out_of_memory) = (ended.exit, ended.out_of_memory);
        let packed = if exit == 0 { Some(self.pack(below, command, &desk)?) } else { None };
        let (layer, left_out) = packed.unwrap_or_default();
        Ok(Ran { exit, out_of_memory, layer, left_out })
    }

    /// Runs `command`, such as a shell, over `below` with a terminal of its own, which a person uses at `ends`, to its end.
    /// Returns what it said, or 128 and the number of the signal that ended it. What it changed is thrown away.
    ///
    /// # Errors
    /// When it cannot be started, or fills the disk.
    pub fn shell(&self, below: &Trees, command: &Command, ends: &Ends<'_>) -> Result<i32, Error> {
        let mut desk = self.desk()?;
        let size = Size::of_first(&[ends.output, ends.input]);
        let (mut worker, terminal, proxied) = self.start(below, command, &mut desk, Streams::Terminal(size))?;
        let Some(terminal) = terminal else {
            return Err(Error::Within { what: "the command was not started", why: "it has no terminal".to_owned() });
        };
        let process = process_handle(worker.id())?;
        exchange_with_terminal(&terminal, true, ends, &process)?;
        let ended = ended(&mut worker)?;
        drop(proxied);
        Ok(ended.exit)
    }

    /// The folder of a step that is about to be done.
    fn desk(&self) -> Result<Desk, Error> {
        let scratch = self.session.store.scratch()?;
        let folder = scratch.path().join("step");
        fs::create_dir(&folder)?;
        open_to_all(&folder)?;
        let name = format!("{}-{}", std::process::id(), fastrand::u32(..));
        Ok(Desk { _scratch: scratch, folder, name, caches: Vec::new() })
    }

    /// Starts a command. What is returned beside the worker is to be held as long as it runs.
    fn start(
        &self,
        below: &Trees,
        command: &Command,
        desk: &mut Desk,
        streams: Streams,
    ) -> Result<(Worker, Option<OwnedFd>, Vec<outside::Outside>), Error> {
        let mut command = command.clone();
        add_missing(&mut command.env, "SOURCE_DATE_EPOCH", &archive::epoch().to_string());
        let way = match command.network {
            Network::None => None,
            Network::Outside => Some(Arc::new(outside::Way::of_this_machine(&mut command.env)?)),
        };
        for mount in &command.mounts {
            if let Mount::Cache { key, sharing, .. } = mount {
                desk.caches.push(self.cache(key, *sharing)?);
            }
        }
        let run = Run {
            lower: below.lower.clone(),
            root: below.root,
            resolver: way.as_ref().map(|way| way.resolver_file()),
            caches: desk.caches.iter().map(|cache| cache.folder.clone()).collect(),
            name: desk.name.clone(),
            command,
            terminal: match &streams {
                Streams::Terminal(size) => Some(*size),
                Streams::Output(_) => None,
            },
        };
        let output = match streams {
            Streams::Output(output) => Some(output),
            Streams::Terminal(_) => None,
        };
        let mut worker = self.worker(&Job::Run(Box::new(run.clone())), Some(&desk.folder), output)?;
        let process::Assembled { packets, terminal, listeners } = process::ready(&mut worker)?;
        let mut proxied = Vec::new();
        if let (Some(way), Some(packets)) = (way, packets) {
            proxied.push(outside::Outside::network(packets, way)?);
        }
        let sockets = run.command.mounts.iter().filter_map(|mount| match mount {
            Mount::Ssh { socket, .. } => Some(socket.clone()),
            _ => None,
        });
        for (listener, socket) in listeners.into_iter().zip(sockets) {
            proxied.push(outside::Outside::socket(listener, socket)?);
        }
        worker.tell(b"go")?;
        Ok((worker, terminal, proxied))
    }
    /// Makes a layer of what a command left.
    fn pack(&self, below: &Trees, command: &Command, desk: &Desk) -> Result<(Option<Layer>, Vec<String>), Error> {
        let told = Pack { lower: below.lower.clone(), epoch: archive::epoch() };
        let Settled { changes, left_out } = self.settle(&told, desk)?;
        if !changes {
            return Ok((None, left_out));
        }
        let write = |writer: &mut archive::Writer<&mut dyn io::Write>| -> Result<(), Error> {
            let worker = self.worker(&Job::Pack(told.clone()), Some(&desk.folder), None)?;
            let failed = |why: String| Error::Within { what: "what the command left cannot be read", why };
            let mut line = io::BufReader::with_capacity(PIECE, &worker.line);
            loop {
                let said = ids::receive(&mut line)?
                    .ok_or_else(|| failed("the process that reads it ended early".to_owned()))?;
                match serde_json::from_slice(&said).map_err(io::Error::from)? {
                    Packed::Entry(entry) => match entry.kind {
                        archive::Kind::File { size } => writer.file(&entry, io::Read::take(&mut line, size))?,
                        _ => writer.entry(&entry)?,
                    },
                    Packed::Failed(why) => return Err(failed(why)),
                    Packed::Done => return Ok(()),
                }
            }
        };
        let layer = Layer::write(&self.session.store, self.session.making, command.title.clone(), write)?;
        self.adopt(below, &layer, desk)?;
        Ok((Some(layer), left_out))
    }

    /// Puts what a command left in order.
    fn settle(&self, told: &Pack, desk: &Desk) -> Result<Settled, Error> {
        let mut worker = self.worker(&Job::Settle(told.clone()), Some(&desk.folder), None)?;
        let what = "what the command left cannot be put in order";
        let early = || Error::Within { what, why: "the process that does it ended early".to_owned() };
        let said = worker.hear()?.ok_or_else(early)?;
        let settled: Result<Settled, String> = serde_json::from_slice(&said).map_err(io::Error::from)?;
        settled.map_err(|why| Error::Within { what, why })
    }

    /// Keeps the upper folder of a step, which is what its layer would be unpacked to, as that.
    fn adopt(&self, below: &Trees, layer: &Layer, desk: &Desk) -> Result<(), Error> {
        let key = self.key(below, &layer.diff_id);
        if self.session.store.snapshot_path(&key).exists() {
            return Ok(());
        }
        let mut worker = self.worker(&Job::Clear, Some(&desk.folder), None)?;
        let said = worker.hear()?.unwrap_or_default();
        let Ok(Ok(())) = serde_json::from_slice::<Result<(), String>>(&said) else {
            // It is unpacked again, then.
            return Ok(());
        };
        drop(worker);
        keep_to_owner(&desk.folder)?;
        layer::note(&desk.folder, layer.diff_id, Facts::default())?;
        self.session.store.keep_snapshot(&key, &desk.folder)?;
        Ok(())
    }

    /// The folder of a cache, which is made.
    fn cache(&self, key: &str, sharing: Sharing) -> Result<Cache, Error> {
        let name = Digest::of(serde_json::to_vec(&("cache", self.ids.mapping(), key)).unwrap_or_default());
        let caches = self.session.store.cache_of("steps")?;
        for number in 0.. {
            let folder = caches.join(format!("{}-{number}", name.hex()));
            fs::create_dir_all(folder.join("slot"))?;
            keep_to_owner(&folder)?;
            open_to_all(&folder.join("slot"))?;
            let lock = fs::File::create(folder.join("lock"))?.into_parts().0;
            match sharing {
                Sharing::Shared => lock.lock_shared()?,
                Sharing::Locked => {
                    let whom = format!("another build, which uses the cache {key}");
                    alone::lock(&lock, &self.session.progress, &whom)?;
                }
                Sharing::Private if lock.try_lock().is_err() => continue,
                Sharing::Private => {}
            }
            return Ok(Cache { folder: folder.join("slot"), _lock: lock });
        }
        Err(io::Error::other("no cache is free").into())
    }

    fn worker(&self, job: &Job, folder: Option<&Path>, output: Option<OwnedFd>) -> Result<Worker, Error> {
        let told = serde_json::to_vec(job).map_err(io::Error::from)?;
        Ok(Worker::start(&self.ids, job::JOB, &told, folder, output)?)
    }
}

/// Where what a command says goes.
enum Streams {
    /// All to one pipe.
    Output(OwnedFd),
    /// To a terminal of its own.
    Terminal(Size),
}

/// The folder of a step.
#[derive(Debug)]
struct Desk {
    _scratch: TempDir,
    folder: PathBuf,
    /// What its control group is called.
    name: String,
    caches: Vec<Cache>,
}

/// A cache that a step uses.
#[derive(Debug)]
struct Cache {
    folder: PathBuf,
    _lock: std::fs::File,
}

impl Drop for Desk {
    fn drop(&mut self) {
        process::remove_group(&self.name);
        // The temporary folder's own way cannot remove what belongs to ids of the namespace.
        let _ = archive::remove(&self.folder);
    }
}

/// Root within, who is nobody here, may make files in it. It lies in a folder that only its owner enters.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, PermissionsExt::from_mode(0o777))
}

/// As trees may hold programs with setuid bits, only their owner enters them.
fn keep_to_owner(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, PermissionsExt::from_mode(0o700))
}

/// Adds a variable that is not there.
fn add_missing(env: &mut Vec<String>, name: &str, value: &str) {
    let is_there = env.iter().any(|variable| variable.split_once('=').is_some_and(|(known, _)| known == name));
    if !is_there {
        env.push(format!("{name}={value}"));
    }
}

/// Hands on what a command says, and waits for its end.
fn attend(mut worker: Worker, output: io::PipeReader, to: &mut dyn FnMut(&str)) -> Result<Ended, Error> {
    /// A line that goes on for longer is handed on in pieces.
    const LONGEST: u64 = 64 << 10;
    let mut output = io::BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut output, LONGEST).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        to(&String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)));
    }
    ended(&mut worker)
}

/// How a command ended by itself; what stopped it is an error.
fn unstopped(ended: Ended) -> Result<Ended, Error> {
    match ended {
        Ended { failure: Some(failure), .. } => Err(failure.into()),
        Ended { disk_full: Some(why), .. } => Err(Error::DiskFull { why }),
        ended => Ok(ended),
    }
}

/// How a command ended.
fn ended(worker: &mut Worker) -> Result<Ended, Error> {
    match worker.hear()? {
        Some(said) => unstopped(serde_json::from_slice(&said).map_err(io::Error::from)?),
        None => {
            let what = "the command's end is not known";
            Err(Error::Within { what, why: "the process that stood beside it was killed".to_owned() })
        }
    }
}
