//! A further program in a running container: what is asked for, and the side of it that stays on the host.
//!
//! The host's side looks up who the container's first process is, which rights it has and where it is counted, has
//! [`super::entry`] go there, and moves bytes between the program and the person. Invariant: the program gets no open file
//! of the host's, not even as its standard streams, but pipes or a terminal of the container's own.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use oci_spec::runtime as oci;

use super::entry::{Entry, Files, LOCKED_IN, NOT_YOURS};
use super::relay::{self, Flow};
use super::signals::Heard;
use super::state::{Process, Record};
use super::terminal::{Raw, Size};
use super::{ENTRY, Error, Failure, Launcher, lifeline, line, sealed};

/// Signals to this process that go to the program.
const TOLD: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// A further program in a running container.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Programs with their arguments: the first that the container has, is run.
    pub programs: Vec<Vec<String>>,
    /// What is run where it has none of them.
    pub brought: Option<Brought>,
    /// Variables beyond those of the container, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Where it starts; as the container's own program where nothing is said.
    pub cwd: Option<PathBuf>,
    /// It gets [`Ends::input`]; else there is nothing to be read.
    pub input: bool,
    /// It gets a terminal.
    pub terminal: bool,
}

/// A program of the host's that is run in a container: statically linked, as nothing else of the host's is there.
#[derive(Clone, Debug)]
pub struct Brought {
    /// The file.
    pub program: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
}

/// Where the input of a program in a container comes from, and where its output goes.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// To be read.
    pub input: BorrowedFd<'a>,
    /// To be written to.
    pub output: BorrowedFd<'a>,
    /// To be written to. With a terminal, all output goes to the other.
    pub error: BorrowedFd<'a>,
}

/// A container that this program runs, as it is known on the host.
pub(super) struct Host<'a> {
    /// Its first process.
    pub(super) process: Process,
    pub(super) record: &'a Record,
    pub(super) folder: &'a Path,
    pub(super) launcher: &'a Launcher,
}

/// What is known of a container's first process.
struct Found {
    /// What is to be done.
    entry: Entry,
    /// The ways into its control groups.
    groups: Vec<fs::File>,
    /// Its user and group on this machine.
    owner: (u32, u32),
}

impl Host<'_> {
    /// Runs `guest` in it, and returns the exit code. Nothing: the container has ended.
    pub(super) fn run(&self, guest: &Guest, ends: &Ends<'_>) -> Result<Option<i32>, Error> {
        // From here on, this very process is meant, whoever has its number later.
        let Some(process) = self.process.handle() else { return Ok(None) };
        let found = self.look_up(guest, ends);
        if lifeline::ends_within(&process, Duration::ZERO)? {
            return Ok(None);
        }
        // What was looked up under its number was its own.
        let Found { entry, groups, owner } = found?;
        let (theirs, ours) = pipes(guest, owner)?;
        let program = guest.brought.as_ref().map(|brought| sealed::copy(&brought.program, "program")).transpose()?;
        let (line, end) = UnixStream::pair()?;
        let mut inside = self.start(end)?;
        let [input, output, error] = &theirs;
        let files = Files {
            process: process.as_fd(),
            input: input.as_fd(),
            output: output.as_fd(),
            error: error.as_fd(),
            program: program.as_ref().map(OwnedFd::as_fd),
            groups: groups.iter().map(|group| group.file().as_fd()).collect(),
        };
        let text = serde_json::to_vec(&entry).map_err(io::Error::from)?;
        // It may have hung up already, and said why.
        let handed_over = line::send(&line, &text, &files.into_list()).and_then(|()| line.shutdown(Shutdown::Write));
        drop((theirs, program, groups));
        // Ends when the program runs, for then the kernel closes the other end.
        let (said, files) = line::receive(&line)?;
        if said != LOCKED_IN {
            inside.wait()?;
            let why = said.strip_prefix(LOCKED_IN).unwrap_or(&said);
            if !why.is_empty() {
                let failure: Failure = serde_json::from_slice(why).map_err(io::Error::from)?;
                return Err(failure.into());
            }
            if lifeline::ends_within(&process, Duration::ZERO)? {
                return Ok(None);
            }
            let why = handed_over.err().map_or_else(|| "it was ended".to_owned(), |error| error.to_string());
            return Err(Failure::Entry { why }.into());
        }
        let handle = lifeline::process_handle(inside.id())?;
        let exchanged = match files.into_iter().next() {
            Some(master) => exchange_with_terminal(&master, guest.input, ends, &handle),
            None => exchange(ours, ends, &handle),
        };
        if exchanged.is_err() {
            inside.kill()?;
        }
        let status = inside.wait()?;
        exchanged?;
        status.code().map(Some).ok_or(Error::Died { said: String::new() })
    }

    /// Starts this program anew, from a copy that nobody can change.
    fn start(&self, line: UnixStream) -> Result<std::process::Child, Error> {
        let program = sealed::copy(&self.launcher.program, "ekiben")?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program));
        let mut command = Command::new(path);
        // What it is called can be seen in the container for a moment, so nothing of the host is in it.
        command.arg(ENTRY).env_clear().current_dir("/").stdin(OwnedFd::from(line));
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Looks up what has to be known of the container's first process, by its number.
    fn look_up(&self, guest: &Guest, ends: &Ends<'_>) -> Result<Found, Error> {
        let config = oci::Spec::load(self.folder.join("config.json")).map_err(io::Error::other)?;
        let process = config.process().as_ref().ok_or_else(|| io::Error::other("config.json has no process"))?;
        let id = self.process.id;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let numbers = |name: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        let owner = numbers("Uid:").first().copied().zip(numbers("Gid:").first().copied());
        let owner = owner.ok_or_else(|| io::Error::other("the container's user is unknown"))?;
        let groups = self.record.cgroup.doors(id).map_err(|error| Failure::Unheld { why: error.to_string() })?;
        // The supervisor's are those that the first process was given; its own it may have changed.
        let supervisor = self.record.state.supervisor.map_or(id, |supervisor| supervisor.id);
        let mut limits = parse_limits(&fs::read_to_string(format!("/proc/{supervisor}/limits"))?);
        for limit in process.rlimits().iter().flatten().filter(|limit| limit.typ() == oci::PosixRlimitType::RlimitNproc)
        {
            limits.retain(|(resource, ..)| *resource != Resource::RLIMIT_NPROC as u32);
            limits.push((Resource::RLIMIT_NPROC as u32, limit.soft(), limit.hard()));
        }
        let mut env = process.env().clone().unwrap_or_default();
        let name = |variable: &str| variable.split('=').next().map(str::to_owned);
        env.retain(|variable| !guest.env.iter().any(|other| name(other) == name(variable)));
        env.extend(guest.env.iter().cloned());
        let entry = Entry {
            namespaces: namespaces(id).map_err(closed)?.bits(),
            user: (process.user().uid(), process.user().gid()),
            groups: numbers("Groups:"),
            programs: guest.programs.clone(),
            brought: guest.brought.as_ref().map(|brought| brought.args.clone()),
            env,
            cwd: guest.cwd.clone().unwrap_or_else(|| process.cwd().clone()),
            limits,
            terminal: guest.terminal.then(|| Size::of_first(&[ends.output, ends.input])),
        };
        Ok(Found { entry, groups, owner })
    }
}

/// Why a process cannot be looked at closely enough to go where it is.
fn closed(error: io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => NOT_YOURS.to_owned(),
        _ => error.to_string(),
    };
    Failure::Entry { why }
}

/// This side of the pipes to a program in a container.
struct Ours {
    /// Nothing: there is nothing to be read there.
    input: Option<OwnedFd>,
    output: OwnedFd,
    error: OwnedFd,
}

/// Pipes to a program in a container: standard input, output and error of its side, and this side.
fn pipes(guest: &Guest, owner: (u32, u32)) -> io::Result<([OwnedFd; 3], Ours)> {
    let (input, our_input) = io::pipe()?;
    let (our_output, output) = io::pipe()?;
    let (our_error, error) = io::pipe()?;
    if geteuid().is_root() {
        // So that it can open `/dev/stdout` and `/dev/stderr` by name.
        for pipe in [&output, &error] {
            fchown(pipe, Some(owner.0), Some(owner.1))?;
        }
    }
    // Where nothing is to be read, all has been said at once.
    let input_end = Some(our_input.into()).filter(|_| guest.input && !guest.terminal);
    let ours = Ours { input: input_end, output: our_output.into(), error: our_error.into() };
    Ok(([input.into(), output.into(), error.into()], ours))
}

/// Moves bytes between a program with pipes and the person, until `process` ends.
fn exchange(ours: Ours, ends: &Ends<'_>, process: &OwnedFd) -> io::Result<()> {
    let mut flows = Vec::new();
    for (from, to) in [(ours.output, ends.output), (ours.error, ends.error)] {
        relay::never_wait(from.as_fd())?;
        flows.push(Flow::new(from, to.try_clone_to_owned()?));
    }
    if let Some(to) = ours.input {
        relay::never_wait(to.as_fd())?;
        flows.push(Flow::new(ends.input.try_clone_to_owned()?, to));
    }
    let mut signals = Heard::start(&TOLD)?;
    relay::relay(&mut flows, process, &mut signals, |signal| lifeline::send_signal(process, signal))?;
    flows.iter_mut().take(2).try_for_each(relay::drain)
}

/// The same for a program with a terminal, whose other side is `master`. It reads what is typed if `has_input`.
pub(crate) fn exchange_with_terminal(
    master: &OwnedFd,
    has_input: bool,
    ends: &Ends<'_>,
    process: &OwnedFd,
) -> io::Result<()> {
    /// Ctrl-D (termios(3), VEOF).
    const END: &[u8] = b"\x04";
    relay::never_wait(master.as_fd())?;
    let mut flows = vec![Flow::new(master.try_clone()?, ends.output.try_clone_to_owned()?)];
    let mut signals = Heard::start(&[&TOLD[..], &[Signal::SIGWINCH]].concat())?;
    let _raw = if has_input { Raw::of(ends.input)? } else { None };
    if has_input {
        flows.push(Flow::new(ends.input.try_clone_to_owned()?, master.try_clone()?).with_last_words(END));
    }
    let resize = || Size::of_first(&[ends.output, ends.input]).set(master);
    // It may have changed since the program was started.
    resize()?;
    relay::relay(&mut flows, process, &mut signals, |signal| match signal {
        Signal::SIGWINCH => resize(),
        signal => lifeline::send_signal(process, signal),
    })?;
    flows.iter_mut().take(1).try_for_each(relay::drain)
}

/// The namespaces of a process that this one is not in (namespaces(7)): into the others it cannot and need not go.
fn namespaces(process: u32) -> io::Result<CloneFlags> {
    let kinds = [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("net", CloneFlags::CLONE_NEWNET),
    ];
    let mut flags = CloneFlags::empty();
    for (name, flag) in kinds {
        let place = |process: &str| {
            let found = fs::metadata(format!("/proc/{process}/ns/{name}"))?;
            io::Result::Ok((found.dev(), found.ino()))
        };
        if place(&process.to_string())? != place("self")? {
            flags |= flag;
        }
    }
    // Without these it would be a program of the host's.
    if !flags.contains(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID) {
        return Err(io::Error::other("the container's process is not in namespaces of its own"));
    }
    Ok(flags)
}

/// `/proc/PID/limits` (proc(5)), as numbers of resources with the soft and the hard limit.
fn parse_limits(text: &str) -> Vec<(u32, u64, u64)> {
    let known = [
        ("Max cpu time", Resource::RLIMIT_CPU),
        ("Max file size", Resource::RLIMIT_FSIZE),
        ("Max data size", Resource::RLIMIT_DATA),
        ("Max stack size", Resource::RLIMIT_STACK),
        ("Max core file size", Resource::RLIMIT_CORE),
        ("Max resident set", Resource::RLIMIT_RSS),
        ("Max processes", Resource::RLIMIT_NPROC),
        ("Max open files", Resource::RLIMIT_NOFILE),
        ("Max locked memory", Resource::RLIMIT_MEMLOCK),
        ("Max address space", Resource::RLIMIT_AS),
        ("Max file locks", Resource::RLIMIT_LOCKS),
        ("Max pending signals", Resource::RLIMIT_SIGPENDING),
        ("Max msgqueue size", Resource::RLIMIT_MSGQUEUE),
        ("Max nice priority", Resource::RLIMIT_NICE),
        ("Max realtime priority", Resource::RLIMIT_RTPRIO),
        ("Max realtime timeout", Resource::RLIMIT_RTTIME),
    ];
    let number = |text: &str| if text == "unlimited" { Some(libc::RLIM_INFINITY) } else { text.parse().ok() };
    let found = known.into_iter().filter_map(|(name, resource)| {
        let mut rest = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        Some((resource as u32, number(rest.next()?)?, number(rest.next()?)?))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_kernel() {
        let limits = parse_limits(&fs::read_to_string("/proc/self/limits").unwrap());
        assert_eq!(limits.len(), 16);
        let (soft, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(limits.contains(&(Resource::RLIMIT_NOFILE as u32, soft, hard)));
    }

    #[test]
    fn a_process_without_namespaces_of_its_own_is_no_container() {
        assert!(namespaces(std::process::id()).is_err());
    }
}
