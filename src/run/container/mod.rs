//! Running containers: folders and a process in, an isolated process with an address, a log and an exit code out.
//!
//! A container is a folder below `containers/` of the store, a supervisor (this program, started anew with a hidden
//! command: [`take_over`]) and what that starts. See `docs/architecture.md` and the OCI runtime specification.
//!
//! | in the folder | what |
//! |---|---|
//! | `spec.json`, `state.json` | what is run, and how it is |
//! | `log`, or `stdout` and `stderr` | what it says |
//! | `lock` | held, shared, by whoever needs the folder |
//! | `config.json`, `rootfs`, `l`, `top`, `m`, `s`, `names`, `made`, `runtime` | the bundle and the runtime's own notes |
//!
//! Invariants: the container's program has no capabilities, can gain none, makes the system calls of Docker's default
//! profile alone, runs as no root of the host, and sees its layers (which are never written to), its mounts, and folders
//! in memory, nothing else, and not where those lie on the host; nothing of a container runs when its supervisor does not;
//! a folder whose lock is free belongs to nobody, and is tidied by [`Containers::sweep`]. Commands of builds have other
//! ones: see [`crate::run::step`], which uses what both need.

pub(crate) mod cgroup;
mod connect;
pub mod engine;
mod entry;
mod error;
mod forward;
pub(crate) mod guest;
pub(crate) mod lifeline;
mod line;
mod log;
pub(crate) mod netlink;
pub(crate) mod probe;
pub(crate) mod program;
mod relay;
pub(crate) mod rootfs;
mod runtime;
mod sealed;
pub(crate) mod seccomp;
mod signals;
mod spec;
mod state;
mod supervise;
pub(crate) mod terminal;
mod trial;
mod usage;
mod way;

pub use error::{Error, Failure};
pub use forward::{Rest, Switch};
pub use guest::{Brought, Ends, Guest};
pub use log::LogReader;
pub use signals::{PassedOn, end_by};
pub use spec::{Engine, File, Limits, Link, Mount, Name, Network, Publish, Spec, Streams, Tmpfs};
pub use state::{State, Status};
pub use usage::Usage;
pub use way::{NotAWay, Way};

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use fs_err as fs;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::io::archive;
use crate::io::finding::Finding;
use crate::io::progress::Progress;
use crate::io::suggest::closest;
use state::Record;

/// The hidden command that makes this program a supervisor.
const COMMAND: &str = "__container";

/// The hidden command that makes this program go into a container.
const ENTRY: &str = "__enter";

/// How long a container has to end that nobody needs any more, in milliseconds.
const HASTE: u64 = 1000;

/// The hidden command that makes this program try what a supervisor does.
const TRIAL: &str = "__trial";

/// Whether containers can be started here by `launcher`, with layers on the file system of the folder `layers`. Nothing is
/// changed by it.
pub fn findings(launcher: &Launcher, layers: &Path) -> Vec<Finding> {
    trial::findings(launcher, layers)
}

/// Becomes a supervisor, what goes into a container, or what tries whether there can be any, if this program was started as
/// one, and returns its exit code. To be called first of all in `main`, before there is a second thread.
pub fn take_over() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let command = args.next()?;
    if command == ENTRY {
        return Some(entry::enter());
    }
    if command == TRIAL {
        return args.next().map(|layers| trial::take_place(Path::new(&layers)));
    }
    if command != COMMAND {
        return None;
    }
    args.next().map(|folder| supervise::supervise(Path::new(&folder)))
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What its program said, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// The kernel killed processes of the container because of its memory limit.
    pub out_of_memory: bool,
}

/// What a container that ran to its end left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output, up to 64 MiB.
    pub stdout: Vec<u8>,
    /// Its standard error, up to 64 MiB.
    pub stderr: Vec<u8>,
}

/// The program that becomes a supervisor: one whose `main` begins with [`take_over`].
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// This program itself.
    ///
    /// # Errors
    /// When the kernel does not tell which it is.
    pub fn this() -> io::Result<Self> {
        // Not its path: the file there may have been replaced since this program was started.
        fs::metadata("/proc/self/exe")?;
        Ok(Self { program: "/proc/self/exe".into() })
    }

    /// Another one, for tests of the library.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.program
    }
}

/// The containers of one store.
#[derive(Clone, Debug)]
pub struct Containers {
    folder: PathBuf,
    launcher: Launcher,
    progress: Progress,
}

/// The files by which a container knows names of machines: its own, or with the host's network those of the host.
fn names(spec: &Spec, folder: &Path) -> io::Result<Vec<Mount>> {
    const HOSTS: &str = "/etc/hosts";
    let mount = |source: PathBuf, target: &str| Mount { source, target: target.into(), writable: false };
    let Network::Isolated { ways, .. } = &spec.network else {
        let there = [HOSTS, "/etc/resolv.conf"].into_iter().filter(|path| Path::new(path).is_file());
        return there.map(|path| Ok(mount(fs::canonicalize(path)?, path))).collect();
    };
    let hosts = folder.join("names").join("hosts");
    fs::create_dir(folder.join("names"))?;
    // Of two lines with a name, the first counts.
    let text = format!("{}127.0.0.1 localhost {}\n::1 localhost\n", way::hosts(ways), spec.hostname);
    fs::write(&hosts, text)?;
    // The container's user reads it, whatever the umask.
    fs::set_permissions(&hosts, PermissionsExt::from_mode(0o644))?;
    Ok(vec![mount(fs::canonicalize(hosts)?, HOSTS)])
}

/// The files that were made for a container, as mounts.
fn made(spec: &Spec, folder: &Path) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for (number, file) in spec.files.iter().enumerate() {
        let made = folder.join("made");
        fs::create_dir_all(&made)?;
        let source = made.join(number.to_string());
        fs::write(&source, &file.content)?;
        fs::set_permissions(&source, PermissionsExt::from_mode(0o644))?;
        mounts.push(Mount { source: fs::canonicalize(source)?, target: file.target.clone(), writable: false });
    }
    Ok(mounts)
}

impl Containers {
    /// Those in `folder`, which is `containers/` of the store.
    pub fn new(folder: &Path, launcher: Launcher, progress: Progress) -> Self {
        // Supervisors work in other folders. (It fails for an empty path alone.)
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { folder, launcher, progress }
    }

    /// Starts a container, and returns when its program runs. It is stopped when this process ends, however it ends, unless it
    /// was let go ([`Container::let_go`]).
    ///
    /// # Errors
    /// See [`Error`]; nothing stays then.
    pub fn start(&self, spec: &Spec) -> Result<Container, Error> {
        for mount in &spec.mounts {
            readable(&mount.source, spec.user)?;
        }
        let (name, folder, lock) = self.make_folder(&spec.name)?;
        let launcher = self.launcher.clone();
        let mut container = Container { name, folder, launcher, _lock: lock, process: None, tie: None };
        let started = self.launch(spec, &mut container);
        match started {
            Ok(()) => {
                for warning in container.state()?.warnings {
                    self.progress.warn(warning);
                }
                Ok(container)
            }
            Err(error) => {
                let _ = fs::remove_dir_all(&container.folder);
                Err(error)
            }
        }
    }

    /// Runs a container to its end.
    ///
    /// # Errors
    /// When it cannot be started. A program that fails is no error, but in [`Output::exit`].
    pub fn run_to_end(&self, spec: &Spec) -> Result<Output, Error> {
        let spec = Spec { output: Streams::Separate, keep: false, ..spec.clone() };
        let mut container = self.start(&spec)?;
        let (exit, _) = container.end(&mut |_| {})?;
        let read = |name: &str| fs::read(container.folder.join(name));
        let output = Output { exit, stdout: read("stdout")?, stderr: read("stderr")? };
        container.remove()?;
        Ok(output)
    }

    /// The containers that a person knows of, by name. Those that have ended are among them if they were to be kept; those
    /// that are run for their output are not ([`Containers::run_to_end`]).
    ///
    /// # Errors
    /// When the disk says no.
    pub fn list(&self) -> Result<Vec<State>, Error> {
        let mut states = self.all()?;
        states.retain(|state| !state.own && (state.is_live() || state.keep));
        Ok(states)
    }

    /// All whose folders are there, by name: also what is left of those that nobody keeps.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn all(&self) -> Result<Vec<State>, Error> {
        let mut states = Vec::new();
        for folder in self.folders()? {
            // One without a state is just being made or removed.
            states.extend(current(&folder).map(|record| record.state));
        }
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(states)
    }

    /// When the container that has ended last did so, and its name, among those that are still there.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn last_ended(&self) -> Result<Option<(SystemTime, String)>, Error> {
        let mut last = None;
        for folder in self.folders()? {
            let Ok(Record { state, .. }) = current(&folder) else { continue };
            // The end is the last that is noted. A container may be removed meanwhile.
            if !state.is_live()
                && let Ok(ended) = Record::noted(&folder)
            {
                last = last.max(Some((ended, state.name)));
            }
        }
        Ok(last)
    }

    /// The container called `name`.
    ///
    /// # Errors
    /// [`Error::NoContainer`] when there is none.
    pub fn get(&self, name: &str) -> Result<Container, Error> {
        check_name(name)?;
        let _order = self.order(false)?;
        let folder = self.folder.join(name);
        match lock_shared(&folder) {
            Ok(lock) => {
                let (name, launcher) = (name.to_owned(), self.launcher.clone());
                Ok(Container { name, folder, launcher, _lock: lock, process: None, tie: None })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folders = self.folders()?;
                let names = folders.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
                let names: Vec<_> = names.collect();
                let similar = closest(name, &names).map(str::to_owned);
                Err(Error::NoContainer { name: name.to_owned(), similar, names })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what killed processes left: folders, control groups, containers of other managers. A container that was
    /// to be kept stays, as [`Status::Lost`]. Returns how many there were.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn sweep(&self) -> Result<usize, Error> {
        let _order = self.order(true)?;
        let mut swept = 0;
        for folder in self.folders()? {
            let free = match fs::File::open(folder.join("lock")) {
                Ok(lock) => lock.file().try_lock().is_ok(),
                Err(_) => true,
            };
            let supervisor = Record::load_from(&folder).ok().and_then(|record| record.state.supervisor);
            if !free || supervisor.is_some_and(state::Process::is_alive) {
                continue;
            }
            swept += usize::from(tidy(&folder)?);
        }
        Ok(swept)
    }

    /// Those that have ended and were kept: what there is to remove of them, and its size in bytes.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn ended(&self) -> Result<Vec<(String, u64)>, Error> {
        // One whose supervisor still tidies up is not there yet.
        let is_over = |state: &State| state.supervisor.is_none_or(|process| !process.is_alive());
        let ended = self.list()?.into_iter().filter(|state| !state.is_live() && state.keep && is_over(state));
        Ok(ended.map(|state| (state.name.clone(), archive::size(&self.folder.join(&state.name)))).collect())
    }

    /// The folders of layers that containers use now: they must stay.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn in_use(&self) -> Result<BTreeSet<PathBuf>, Error> {
        let live = self.all()?.into_iter().filter(|state| state.is_live());
        Ok(live.flat_map(|state| state.lower).collect())
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        fs::create_dir_all(&self.folder)?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    }

    /// Between a folder's appearance and the lock in it, no sweep may look at it.
    fn order(&self, alone: bool) -> io::Result<fs::File> {
        fs::create_dir_all(&self.folder)?;
        let folder = fs::File::open(&self.folder)?;
        if alone {
            folder.file().lock()?
        } else {
            folder.file().lock_shared()?
        }
        Ok(folder)
    }

    fn make_folder(&self, name: &Name) -> Result<(String, PathBuf, fs::File), Error> {
        let _order = self.order(false)?;
        let folder = match name {
            Name::Exactly(name) => {
                check_name(name)?;
                let folder = self.folder.join(name);
                match fs::create_dir(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return Err(Error::NameTaken { name: name.clone() });
                    }
                    result => result?,
                }
                folder
            }
            Name::Like(name) => {
                check_name(name)?;
                tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&self.folder)?.keep()
            }
        };
        fs::write(folder.join("lock"), "")?;
        let lock = lock_shared(&folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, folder, lock))
    }

    fn launch(&self, spec: &Spec, container: &mut Container) -> Result<(), Error> {
        let folder = &container.folder;
        let mut spec = spec.clone();
        for layer in &mut spec.lower {
            *layer = fs::canonicalize(&*layer)?;
        }
        for mount in spec.mounts.iter_mut().chain(&mut spec.volumes).chain(&mut spec.devices) {
            mount.source = fs::canonicalize(&mount.source)?;
        }
        spec.mounts.extend(names(&spec, folder)?);
        spec.mounts.extend(made(&spec, folder)?);
        let manager = match &spec.engine {
            Engine::Manager { program, .. } => Some(program.clone()),
            _ => None,
        };
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let state = State {
            name: container.name.clone(),
            created,
            status: Status::Starting,
            published: Vec::new(),
            ways: match &spec.network {
                Network::Isolated { ways, .. } => ways.clone(),
                Network::Host => Vec::new(),
            },
            lower: spec.lower.clone(),
            args: spec.args.clone(),
            labels: spec.labels.clone(),
            warnings: Vec::new(),
            keep: spec.keep,
            own: spec.output == Streams::Separate,
            supervisor: None,
        };
        state::write(&folder.join("spec.json"), &spec)?;
        Record { state, cgroup: cgroup::Cgroup::default(), process: None, manager }.save_to(folder)?;

        let (tied, tie) = io::pipe()?;
        let trouble = folder.join("trouble");
        let mut process = Command::new(&self.launcher.program)
            .args([OsString::from(COMMAND), folder.into()])
            // libcontainer would hand on what systemd handed to us.
            .env_remove("LISTEN_FDS")
            .stdin(Stdio::from(tied))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&trouble)?.into_parts().0)
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = process.stdout.take() {
            io::BufReader::new(stdout).read_line(&mut said)?;
        }
        container.tie = Some(tie);
        if said.is_empty() {
            process.wait()?;
            return match Record::load_from(folder)?.state.status {
                Status::Failed(failure) => Err(failure.into()),
                _ => Err(Error::Died { said: fs::read_to_string(&trouble)?.trim().to_owned() }),
            };
        }
        container.process = Some(process);
        Ok(())
    }
}

/// A container that was started. Its folder stays while this is held, unless it is removed.
#[derive(Debug)]
pub struct Container {
    name: String,
    folder: PathBuf,
    launcher: Launcher,
    _lock: fs::File,
    /// The supervisor, where it is a child of this process.
    process: Option<Child>,
    /// The supervisor sees the other end close when this process ends.
    tie: Option<io::PipeWriter>,
}

impl Container {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is now.
    ///
    /// # Errors
    /// When it was removed.
    pub fn state(&self) -> Result<State, Error> {
        Ok(self.record()?.state)
    }

    /// Waits for its end, and hands on what it says until then. One that was not to be kept is removed.
    ///
    /// # Errors
    /// When its supervisor was killed, or the disk says no.
    pub fn wait(&mut self, to: &mut dyn FnMut(&[u8])) -> Result<Exit, Error> {
        let (exit, keep) = self.end(to)?;
        if !keep {
            self.remove()?;
        }
        Ok(exit)
    }

    /// Waits for its end, and says whether it is to be kept.
    fn end(&mut self, to: &mut dyn FnMut(&[u8])) -> Result<(Exit, bool), Error> {
        let all = &mut |bytes: &[u8]| {
            to(bytes);
            true
        };
        self.follow(&mut LogReader::new(&self.folder.join("log")), all)?;
        if let Some(process) = &mut self.process {
            process.wait()?;
        }
        let record = self.record()?;
        match record.state.status {
            Status::Exited { code, out_of_memory } => Ok((Exit { code, out_of_memory }, record.state.keep)),
            Status::Failed(failure) => Err(failure.into()),
            _ => {
                let said = fs::read_to_string(self.folder.join("trouble")).unwrap_or_default().trim().to_owned();
                tidy(&self.folder)?;
                Err(Error::Died { said })
            }
        }
    }

    /// Hands on what it has said, all of it or the last `lines`, and with `follow` what it says until its end, or until `to` wants
    /// no more.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn logs(&self, lines: Option<usize>, follow: bool, to: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut reader = LogReader::new(&self.folder.join("log"));
        match lines {
            Some(lines) => reader.skip_to_last(lines)?,
            None => drop(LogReader::new(&self.folder.join("log.old")).read(&mut |bytes| {
                let _ = to(bytes);
            })?),
        }
        if follow {
            self.follow(&mut reader, to)?;
        } else {
            reader.read(&mut |bytes| {
                let _ = to(bytes);
            })?;
        }
        Ok(())
    }

    /// A way to read what it says from its beginning on, piece by piece.
    pub fn listen(&self) -> LogReader {
        LogReader::new(&self.folder.join("log"))
    }

    fn follow(&self, reader: &mut LogReader, to: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        const PAUSE: Duration = Duration::from_millis(10);
        let supervisor = self.supervisor()?;
        let mut pause = Duration::ZERO;
        loop {
            // Asked before reading: what it said last is then read too.
            let ended = supervisor.as_ref().map_or(Ok(true), |process| lifeline::ends_within(process, pause))?;
            let mut wants = true;
            pause = if reader.read(&mut |bytes| wants &= to(bytes))? { Duration::ZERO } else { PAUSE };
            if ended || !wants {
                return Ok(());
            }
        }
    }

    /// Tells it to end, and kills it when it takes longer than `grace`, or than its own [`Spec::grace`]. Returns when
    /// it has ended.
    ///
    /// # Errors
    /// When the disk or the kernel says no.
    pub fn stop(&self, grace: Duration) -> Result<(), Error> {
        let Some(supervisor) = self.supervisor()? else { return Ok(()) };
        let deadline = Instant::now() + grace;
        lifeline::send_signal(&supervisor, Signal::SIGTERM)?;
        while !lifeline::ends_within(&supervisor, deadline.saturating_duration_since(Instant::now()))? {
            if Instant::now() >= deadline {
                // Told a second time, the supervisor kills it.
                lifeline::send_signal(&supervisor, Signal::SIGTERM)?;
                while !lifeline::ends_within(&supervisor, Duration::from_secs(1))? {}
                break;
            }
        }
        Ok(())
    }

    /// Runs another program in it, with the rights that its own has, to the end. Returns the exit code, or 128 and the
    /// number of the signal that ended it. What it says goes to `ends`.
    ///
    /// Signals that would end this process go to that program meanwhile, and where it has a terminal, all that is typed.
    /// It ends when this process does, and when the container does.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when the container has ended; see [`Error::exit_code`] for a program that cannot be run.
    pub fn exec(&self, guest: &Guest, ends: &Ends<'_>) -> Result<i32, Error> {
        let record = self.record()?;
        let spec: Spec = state::read(&self.folder.join("spec.json"))?;
        if !matches!(record.state.status, Status::Running) {
            return Err(Error::NotRunning { name: self.name.clone() });
        }
        let not_running = || Error::NotRunning { name: self.name.clone() };
        let process = match (&spec.engine, record.process) {
            (Engine::Manager { program, .. }, _) => return Ok(engine::exec(program, &self.name, guest, ends)?),
            (Engine::Embedded, Some(process)) => process,
            (Engine::Runtime { .. }, Some(runtime)) => runtime.first_within().ok_or_else(not_running)?,
            (_, None) => return Err(Error::Unknown { name: self.name.clone() }),
        };
        let host = guest::Host { process, record: &record, folder: &self.folder, launcher: &self.launcher };
        host.run(guest, ends)?.ok_or_else(not_running)
    }

    /// Whether its program has ended, though its supervisor may still tidy up.
    pub fn has_ended(&self) -> bool {
        has_ended(&self.folder)
    }

    /// Its processes, as far as they are known: its supervisor and its own. Each handle is readable once that process has
    /// ended, so that many containers can be waited for at once.
    ///
    /// # Errors
    /// When it was removed.
    pub fn handles(&self) -> Result<Vec<OwnedFd>, Error> {
        let record = self.record()?;
        // One that has no handle has ended already: the other, at the latest the supervisor, tells.
        Ok([record.state.supervisor, record.process].into_iter().flatten().filter_map(state::Process::handle).collect())
    }

    /// What its processes use now; nothing where they are not known, or have ended.
    pub fn usage(&self) -> Usage {
        let process = Record::load_from(&self.folder).ok().and_then(|record| record.process);
        process.filter(|process| process.is_alive()).map(|process| Usage::of_tree(process.id)).unwrap_or_default()
    }

    /// A way to ask its program where it is.
    ///
    /// # Errors
    /// When it was removed.
    pub fn inquiry(&self) -> Result<Inquiry, Error> {
        Ok(Inquiry { folder: self.folder.clone(), supervisor: self.supervisor()? })
    }

    /// Lets it run when this process ends: from now on nobody looks after it.
    pub fn let_go(&mut self) {
        if let Some(mut tie) = self.tie.take() {
            // Nobody reads it where the supervisor has ended.
            let _ = tie.write_all(&[0]);
        }
    }

    /// From now until what is returned is dropped, SIGINT, SIGTERM and SIGHUP to this process are passed on to the
    /// container, as for a foreground command: the first lets it end, a second kills it.
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn pass_on_signals(&self) -> Result<PassedOn, Error> {
        Ok(PassedOn::to(self.supervisor()?)?)
    }

    /// Stops it as [`Container::stop`] does, and removes what is left of it.
    ///
    /// # Errors
    /// When the disk or the kernel says no.
    pub fn remove_by_force(&mut self, grace: Duration) -> Result<(), Error> {
        self.stop(grace)?;
        match self.record() {
            Ok(record) if record.state.keep => self.remove(),
            // Whoever waits for it removes it.
            _ => Ok(()),
        }
    }

    /// Removes its folder, with state and log; another process may do the same.
    ///
    /// # Errors
    /// [`Error::IsRunning`] when it is.
    pub fn remove(&mut self) -> Result<(), Error> {
        if let Some(process) = &mut self.process {
            process.try_wait()?;
        }
        match self.supervisor() {
            // It tidies up for a moment.
            Ok(Some(supervisor)) => {
                let is_live = self.state().is_ok_and(|state| state.is_live());
                if is_live || !lifeline::ends_within(&supervisor, Duration::from_secs(10))? {
                    return Err(Error::IsRunning { name: self.name.clone() });
                }
            }
            Ok(None) => {}
            Err(Error::NoContainer { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        Ok(remove_folder(&self.folder)?)
    }

    /// What is noted of it; [`Error::NoContainer`] where it was just removed.
    fn record(&self) -> Result<Record, Error> {
        current(&self.folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoContainer { name: self.name.clone(), similar: None, names: Vec::new() },
            _ => error.into(),
        })
    }

    /// The supervisor, if it is still there: it tidies up for a moment when the program has ended.
    fn supervisor(&self) -> Result<Option<OwnedFd>, Error> {
        /// How long one that has just been started may take to note who it is.
        const MOST: Duration = Duration::from_secs(5);
        let started = Instant::now();
        loop {
            let state = self.record()?.state;
            if state.supervisor.is_some() || !state.is_live() || started.elapsed() > MOST {
                return Ok(state.supervisor.and_then(state::Process::handle));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A way to ask a container where its program is and whether that has ended, whoever waits for the container.
#[derive(Debug)]
pub struct Inquiry {
    folder: PathBuf,
    supervisor: Option<OwnedFd>,
}

impl Inquiry {
    /// As [`Container::has_ended`].
    pub fn has_ended(&self) -> bool {
        has_ended(&self.folder)
    }

    /// Asks, with SIGUSR1: Ekiben's own service writes its stack to its log. A program that does not know the signal never
    /// sees it, nor does one that another engine runs, nor one that has ended.
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn ask(&self) -> io::Result<()> {
        self.supervisor.as_ref().map_or(Ok(()), |supervisor| lifeline::send_signal(supervisor, Signal::SIGUSR1))
    }
}

/// How the container in `folder` is, and not how a killed supervisor left it.
fn current(folder: &Path) -> io::Result<Record> {
    let record = Record::load_from(folder)?;
    if record.state.supervisor.is_none_or(state::Process::is_alive) {
        return Ok(record);
    }
    // It may have noted the end since it was asked, as the last that it did.
    let mut record = Record::load_from(folder)?;
    if record.state.is_live() {
        record.state.status = Status::Lost;
    }
    Ok(record)
}

/// Whether the program of the container in `folder` has ended.
fn has_ended(folder: &Path) -> bool {
    let Ok(record) = current(folder) else { return true };
    let is_dead = record.process.is_some_and(|process| !process.is_alive());
    is_dead || !record.state.is_live()
}

/// Takes away what is left of a container that has no supervisor any more. Returns whether there was anything.
fn tidy(folder: &Path) -> io::Result<bool> {
    // What was noted last, as nobody notes anything any more.
    if let Ok(mut record) = Record::load_from(folder) {
        let was_killed = record.state.is_live();
        if was_killed {
            record.cgroup.remove();
            if let Some(program) = &record.manager {
                engine::forget(program, &record.state.name);
            }
        }
        if record.state.keep {
            if was_killed {
                record.state.status = Status::Lost;
                record.save_to(folder)?;
            }
            return Ok(was_killed);
        }
    }
    remove_folder(folder)?;
    Ok(true)
}

/// Removes a container's folder, as another process may do.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lock_shared(folder: &Path) -> io::Result<fs::File> {
    let lock = fs::File::open(folder.join("lock"))?;
    lock.file().lock_shared()?;
    Ok(lock)
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    if fits { Ok(()) } else { Err(Error::BadName { name: name.to_owned() }) }
}

/// Whether the container's user will be able to read a file of the host, or all in a folder. Only root can run
/// containers as somebody else.
fn readable(path: &Path, (uid, gid): (u32, u32)) -> Result<(), Error> {
    let metadata = fs::metadata(path)?;
    let who = if geteuid().is_root() { (uid, gid) } else { (geteuid().as_raw(), nix::unistd::getegid().as_raw()) };
    let shift = match who {
        (uid, _) if metadata.uid() == uid => 6,
        (_, gid) if metadata.gid() == gid => 3,
        _ => 0,
    };
    let needed = if metadata.is_dir() { 0o5 } else { 0o4 };
    if metadata.permissions().mode() >> shift & needed != needed {
        return Err(Error::Unreadable { path: path.to_owned(), user: who.0 });
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_symlink() {
                readable(&entry.path(), (uid, gid))?;
            }
        }
    }
    Ok(())
}
