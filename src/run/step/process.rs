//! A command, and the two processes beside it: one that watches, and one that is the first of the command's processes.
//!
//! The one that watches is in the user namespace, but in the host's process namespace: it ends the command when whoever
//! started it is gone, or when the disk is full, and says how it ended. The first process assembles the root, starts the
//! command, and waits for processes whose parents are gone; with it, all processes of the command end.
//!
//! Invariants: the first process ends with the one that watches, and that with who started it. Nothing in the command's
//! namespaces can look into the first process, which has no rights left. When the command begins, it has Docker's
//! capabilities and no file of the host but its streams, and is held to the filter of system calls.

use std::convert::Infallible;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use fs_err as fs;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, fchown, fork, geteuid};
use nix::unistd::{setgroups, setresgid, setresuid, setsid};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::job::{Ended, Run, say};
use super::root::{self, Root};
use super::{Limits, Network, link};
use crate::io::ids::{self, Worker};
use crate::run::container::cgroup::{self, Cgroup};
use crate::run::container::lifeline::{Supervisor, process_handle, send_signal};
use crate::run::container::program::{self, Program};
use crate::run::container::rootfs::failed;
use crate::run::container::seccomp::Filters;
use crate::run::container::terminal;
use crate::run::container::{self, Failure};

/// Of control groups: before the number of the process that started the step.
const GROUP: &str = "ekiben-step-";

/// What a command may do within its user namespace: Docker's default.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The same, as the kernel has them.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Removes the control groups of steps whose starters are gone.
pub(super) fn sweep() {
    let is_gone = |name: &str| {
        let starter = name.strip_prefix(GROUP).and_then(|rest| rest.split('-').next());
        starter.is_some_and(|starter| !Path::new("/proc").join(starter).exists())
    };
    cgroup::remove_named(&is_gone);
}

/// Removes the control group of the step called `name`.
pub(super) fn remove_group(name: &str) {
    let group = format!("{GROUP}{name}");
    cgroup::remove_named(&|known: &str| known == group);
}

/// What a command is given by who started it.
#[derive(Default)]
pub(super) struct Assembled {
    /// The socket of its packets.
    pub(super) packets: Option<OwnedFd>,
    /// The person's side of its terminal.
    pub(super) terminal: Option<OwnedFd>,
    /// Sockets that SSH agents are to answer on.
    pub(super) listeners: Vec<OwnedFd>,
}

/// Waits until the root of a command is assembled.
///
/// # Errors
/// Why it is not.
pub(super) fn ready(worker: &mut Worker) -> Result<Assembled, super::Error> {
    let mut files = Vec::new();
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(24))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut length)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = rustix::net::recvmsg(&worker.line, into, &mut ancillary, flags).map_err(io::Error::from)?.bytes;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(brought) = message {
            files.extend(brought);
        }
    }
    let early = || super::Error::Within { what: "the command was not started", why: "it ended early".to_owned() };
    if received < length.len() {
        return Err(early());
    }
    let mut text = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap_or(0).min(1 << 20)];
    worker.line.read_exact(&mut text)?;
    match serde_json::from_slice::<Result<(bool, bool), Ended>>(&text).map_err(io::Error::from)? {
        Ok((has_network, has_terminal)) => {
            let mut files = files.into_iter();
            let packets = if has_network { files.next() } else { None };
            let terminal = if has_terminal { files.next() } else { None };
            Ok(Assembled { packets, terminal, listeners: files.collect() })
        }
        // The disk may have been too full from the start.
        Err(ended) => super::unstopped(ended).and_then(|_| Err(early())),
    }
}

/// Says that the root is assembled, and hands files over.
fn say_ready(line: &UnixStream, assembled: &Assembled) -> io::Result<()> {
    let Assembled { packets, terminal, listeners } = assembled;
    let text = serde_json::to_vec(&Ok::<_, Ended>((packets.is_some(), terminal.is_some())))?;
    let text = [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat();
    let files: Vec<_> = packets.iter().chain(terminal).chain(listeners).map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(24))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("too many sockets of SSH agents"));
    }
    let sent = rustix::net::sendmsg(line, &[IoSlice::new(&text)], &mut ancillary, rustix::net::SendFlags::NOSIGNAL)?;
    (&mut &*line).write_all(text.get(sent..).unwrap_or_default())
}

/// Runs a command, to its end, and says how that was.
pub(super) fn supervise(run: Run, line: &UnixStream) -> io::Result<()> {
    let group = Group::enter(&run);
    let prepared = || {
        let files = root::Host::open(&run)?;
        Ok((files, Supervisor::this()?))
    };
    let (ids, (host, supervisor)) = ids::enter(line, prepared)?;
    let mut is_ready = false;
    let ended = watch(&run, line, &group, &host, supervisor, matches!(ids, ids::Ids::Range { .. }), &mut is_ready);
    let ended = ended.unwrap_or_else(|failure| Ended { failure: Some(failure), ..Ended::default() });
    // Whoever waits for the root hears of this in its place.
    if is_ready { say(line, &ended) } else { say(line, &Err::<(bool, bool), Ended>(ended)) }
}

/// The control groups of a command, which this process is not in.
struct Group {
    group: Cgroup,
    doors: Vec<fs::File>,
    /// They count processes.
    counts: bool,
}

impl Group {
    /// Where there can be none, the kernel counts the processes of whoever starts this.
    fn enter(run: &Run) -> Self {
        let Limits { memory, pids, .. } = run.command.limits;
        let limits = container::Limits { memory, cpus: None, pids: Some(pids), required: false };
        let mut group = Cgroup::default();
        let entered = group.enter(&format!("{GROUP}{}", run.name), &limits, &|_| Ok(()));
        let doors = match &entered {
            Ok(()) => group.doors(std::process::id()).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        group.leave();
        let counts = !doors.is_empty();
        if !counts && !geteuid().is_root() {
            // The namespace remembers the limit that there is when it is made, and counts all of its users together, and
            // what else its maker runs.
            let others = processes_of(geteuid());
            if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NPROC) {
                let _ = setrlimit(Resource::RLIMIT_NPROC, hard.min(others + pids), hard);
            }
        }
        Self { group, doors, counts }
    }
}

/// Threads that a user has.
fn processes_of(user: Uid) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.metadata().is_ok_and(|found| found.uid() == user.as_raw()));
    own.map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64)).sum()
}

fn watch(
    run: &Run,
    line: &UnixStream,
    group: &Group,
    host: &root::Host,
    supervisor: Supervisor,
    has_range: bool,
    is_ready: &mut bool,
) -> Result<Ended, Failure> {
    let filters = Filters::with_capabilities(&CAPABILITIES)?;
    let packets = match run.command.network {
        Network::None => link::none().map(|()| None)?,
        Network::Outside => Some(link::outside()?),
    };
    let (mut failures, to) = io::pipe()?;
    let (mut begun, begins) = io::pipe()?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .map_err(container::probe::refused)?;
    // SAFETY: this process has one thread.
    let first = match unsafe { fork() }.map_err(|error| failed("no process could be started", error))? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop((failures, begun));
            let code =
                first(First { run, line, group, host, supervisor, filters, packets, to: &to, begins, has_range });
            // SAFETY: nothing of this process is to be undone.
            unsafe { libc::_exit(code) }
        }
    };
    drop((to, begins, packets));
    // Whoever reads what the command says waits until nobody could say more.
    let nothing = fs::File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdout(nothing.file())
        .and_then(|()| dup2_stderr(nothing.file()))
        .map_err(|error| failed("no stream", error))?;
    let handle = process_handle(first.as_raw().unsigned_abs())?;
    let disk_full = attend(&run.command.limits, line, &handle)?;
    let code = match waitpid(first, Some(WaitPidFlag::__WALL)) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        _ => return Err(io::Error::other("the command neither runs nor has ended").into()),
    };
    *is_ready = begun.read(&mut [0])? > 0;
    let mut said = Vec::new();
    failures.read_to_end(&mut said)?;
    let failure = if said.is_empty() { None } else { Some(serde_json::from_slice(&said).map_err(io::Error::from)?) };
    Ok(Ended { exit: code, out_of_memory: group.group.ran_out_of_memory(), disk_full, failure })
}

/// Waits for the end of the command, and ends it when nobody waits for it any more, or the disk is full. Why, in that case.
fn attend(limits: &Limits, line: &UnixStream, first: &OwnedFd) -> Result<Option<String>, Failure> {
    /// How often the disk is looked at, in milliseconds.
    const OFTEN: u16 = 20;
    let free = || statvfs(".").map(|disk| disk.blocks_available() * disk.fragment_size());
    let at_first = free().unwrap_or(u64::MAX);
    let least = limits.reserve.max(limits.disk.map_or(0, |most| at_first.saturating_sub(most)));
    let mut disk_full = None;
    loop {
        let mut waiting =
            [PollFd::new(first.as_fd(), PollFlags::POLLIN), PollFd::new(line.as_fd(), PollFlags::empty())];
        match poll(&mut waiting, OFTEN) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed("the command could not be waited for", error)),
        }
        let [has_ended, is_alone] = waiting.map(|one| one.any().unwrap_or(false));
        if has_ended {
            return Ok(disk_full);
        }
        if is_alone {
            send_signal(first, Signal::SIGKILL)?;
        }
        if disk_full.is_none()
            && let Ok(free) = free()
            && free < least
        {
            let mib = |bytes: u64| bytes >> 20;
            let why = match limits.disk {
                Some(most) if at_first.saturating_sub(most) >= limits.reserve => {
                    format!("it filled more than the {} MiB of disk that it may", mib(most))
                }
                _ => format!("it left {} MiB of the disk free, and {} must be", mib(free), mib(limits.reserve)),
            };
            disk_full = Some(why);
            send_signal(first, Signal::SIGKILL)?;
        }
    }
}

/// What the first process is given.
struct First<'a> {
    run: &'a Run,
    line: &'a UnixStream,
    group: &'a Group,
    host: &'a root::Host,
    supervisor: Supervisor,
    filters: Filters,
    packets: Option<OwnedFd>,
    /// Where it says why the command was not started.
    to: &'a io::PipeWriter,
    /// Where it says that it told that the root is assembled.
    begins: io::PipeWriter,
    has_range: bool,
}

/// The first process. Returns only what it ends with where it starts no command.
fn first(first: First<'_>) -> i32 {
    let to = first.to;
    match try_first(first) {
        Ok(never) => match never {},
        Err(failure) => tell(to, &failure),
    }
}

fn tell(mut to: &io::PipeWriter, failure: &Failure) -> i32 {
    let text = serde_json::to_vec(failure).unwrap_or_default();
    let _ = to.write_all(&text);
    match failure {
        Failure::Command { missing: true, .. } => 127,
        _ => 126,
    }
}

fn try_first(first: First<'_>) -> Result<Infallible, Failure> {
    let First { run, line, group, host, supervisor, filters, packets, to, mut begins, has_range } = first;
    supervisor.die_with_it()?;
    // Where the machine runs out of memory, what is executed here is to be killed before all else.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    for mut door in &group.doors {
        door.write_all(b"0").map_err(|error| Failure::Unheld { why: error.to_string() })?;
    }
    // Where there is none, the kernel has no control groups.
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    let Root { listeners, input } = root::assemble(run, host, has_range)?;
    root::become_root()?;
    let (terminal, own) = run.terminal.map(terminal::make).transpose()?.unzip();
    let assembled = Assembled { packets, terminal, listeners };
    say_ready(line, &assembled)?;
    begins.write_all(b"r")?;
    drop((begins, assembled));
    if ids::receive(line)?.is_none() {
        return Err(io::Error::other("nobody waits for the command any more").into());
    }
    rustix::system::sethostname(run.command.hostname.as_bytes()).map_err(io::Error::from)?;
    // From here on there may be somebody who would look into this.
    nix::sys::prctl::set_dumpable(false).map_err(|error| failed("it could not be hidden", error))?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(|error| failed("no process could be started", error))? {
        ForkResult::Child => {
            let failure = become_command(run, group, &filters, &input, own);
            let code = match failure {
                Ok(never) => match never {},
                Err(failure) => tell(to, &failure),
            };
            // SAFETY: nothing of this process is to be undone.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, none).map_err(io::Error::from)?;
            // SAFETY: nothing here uses a file any more, as this ends without giving any back.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
            let code = reap(child);
            // SAFETY: nothing of this process is to be undone.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Waits for the command, and for all whose parents are gone.
fn reap(command: Pid) -> i32 {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(process, code)) if process == command => return code,
            Ok(WaitStatus::Signaled(process, signal, _)) if process == command => return 128 + signal as i32,
            Err(Errno::ECHILD) => return 126,
            _ => {}
        }
    }
}

/// Becomes the command. Returns only why it cannot.
fn become_command(
    run: &Run,
    group: &Group,
    filters: &Filters,
    input: &OwnedFd,
    terminal: Option<OwnedFd>,
) -> Result<Infallible, Failure> {
    let command = &run.command;
    let refused = |what: &'static str| move |error: Errno| failed(what, error);
    setsid().map_err(refused("no session could be begun"))?;
    dup2_stdin(input).map_err(refused("the input could not be set up"))?;
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal).map_err(io::Error::from)?;
        dup2_stdin(&terminal)
            .and_then(|()| dup2_stdout(&terminal))
            .and_then(|()| dup2_stderr(&terminal))
            .and_then(|()| fchown(&terminal, Some(Uid::from_raw(command.user.0)), None))
            .map_err(refused("the terminal could not be set up"))?;
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, &command.cwd, how)
        .and_then(fchdir)
        .map_err(|error| Failure::Folder { folder: command.cwd.clone(), why: error.desc().to_owned() })?;
    if !group.counts
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NPROC)
    {
        let most = hard.min(command.limits.pids);
        setrlimit(Resource::RLIMIT_NPROC, most, most).map_err(refused("a limit could not be set"))?;
    }
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Older kernels have fewer.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    filters.install_with_rights()?;
    let (user, main) = (Uid::from_raw(command.user.0), Gid::from_raw(command.user.1));
    let groups: Vec<_> = command.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let needs_others = command.user != (0, 0) || !groups.is_empty();
    setgroups(&groups)
        .or_else(|error| if needs_others { Err(error) } else { Ok(()) })
        .and_then(|()| setresgid(main, main, main))
        .and_then(|()| setresuid(user, user, user))
        .map_err(|error| match error {
            Errno::EINVAL | Errno::EPERM => Failure::Entry {
                why: format!("there is no user {}:{} in its namespace, which has one user alone", user, main),
            },
            error => failed("the command's user could not be become", error),
        })?;
    // SAFETY: the call takes numbers. What is open is closed by becoming the command.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let program = Program::find(&command.args, &command.env)?;
    program::reset_signals();
    Err(program.run())
}
