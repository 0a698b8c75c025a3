//! Going into a running container, and becoming a program there that has the rights of the container's own.
//!
//! This program, started anew with a hidden command, from a sealed copy of itself ([`super::sealed`]). It is told what to
//! do, and given what it needs, by [`super::guest`] over its standard input; it opens nothing of the host.
//! setns(2), pid_namespaces(7), user_namespaces(7), capabilities(7).
//!
//! Two processes: the outer one goes into the container's namespaces but not among its processes, starts the inner one
//! there, tells it of signals and ends as it ends. Invariants:
//!
//! - Nothing in the container can look into either, or stop one and change it: the outer one cannot be seen, and the
//!   inner one cannot be traced or dumped until it has become the program (CVE-2016-9962, CVE-2019-5736).
//! - When the inner one becomes the container's user, it is in the control groups, has no rights to lose, and is held to
//!   the filter of system calls already. It has no file of the host then but the ends of three pipes, the line to who
//!   started it, which the program does not get, and a program of the host's to run, which cannot be changed.
//! - The working folder is taken within, by no way that leads out (CVE-2024-21626).
//! - The inner one ends with the outer one, and that with who started it; all of them with the container.

use std::io;
use std::os::fd::{AsFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, fork, getgroups, setgroups, setresgid,
    setresuid, setsid,
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::lifeline::{Supervisor, ends_within, process_handle};
use super::program::{self, Program};
use super::rootfs::failed;
use super::seccomp::Filters;
use super::terminal::{self, Size};
use super::{Failure, line, sealed};

const TOO_OLD: &str = "the kernel is too old for it (Linux does it since 5.9)";

/// Why the kernel says no.
pub(super) const NOT_YOURS: &str = "the kernel lets nobody in but who started it, and root";

/// What the inner process says when it is locked in, and hands over the other side of its terminal, if it has one. After
/// that it says only why it could not become the program.
pub(super) const LOCKED_IN: &[u8] = b" ";

/// What is to be run in a container.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The namespaces of the container that are not those of who starts this: `CLONE_NEW*`.
    pub(super) namespaces: i32,
    /// User and group, as the container has them.
    pub(super) user: (u32, u32),
    /// The groups beside it that the container's first process has, as who starts this sees them.
    pub(super) groups: Vec<u32>,
    /// Programs with their arguments. The first that there is, is run.
    pub(super) programs: Vec<Vec<String>>,
    /// What is run where there is none of them: the arguments of a program that is handed over.
    pub(super) brought: Option<Vec<String>>,
    /// The whole environment.
    pub(super) env: Vec<String>,
    /// Where the program starts.
    pub(super) cwd: PathBuf,
    /// Resources by their numbers (setrlimit(2)), with the soft and the hard limit.
    pub(super) limits: Vec<(u32, u64, u64)>,
    /// A terminal of the container's is wanted.
    pub(super) terminal: Option<Size>,
}

/// What is handed over with an [`Entry`]. In this order, and then the ways into control groups.
pub(super) struct Files<File> {
    /// The container's first process.
    pub(super) process: File,
    pub(super) input: File,
    pub(super) output: File,
    pub(super) error: File,
    /// The program for [`Entry::brought`].
    pub(super) program: Option<File>,
    pub(super) groups: Vec<File>,
}

impl<File> Files<File> {
    pub(super) fn into_list(self) -> Vec<File> {
        let first = [self.process, self.input, self.output, self.error];
        first.into_iter().chain(self.program).chain(self.groups).collect()
    }

    fn from_list(list: Vec<File>, has_program: bool) -> Option<Self> {
        let mut list = list.into_iter();
        Some(Self {
            process: list.next()?,
            input: list.next()?,
            output: list.next()?,
            error: list.next()?,
            program: if has_program { Some(list.next()?) } else { None },
            groups: list.collect(),
        })
    }
}

/// Does what the other end of standard input says. The exit code is the program's, or 128 and the number of the signal
/// that ended it.
pub(super) fn enter() -> ExitCode {
    // SAFETY: standard input is this process's own, and used for nothing else.
    let line = unsafe { UnixStream::from_raw_fd(libc::STDIN_FILENO) };
    let started = protect().and_then(|()| {
        // In its place, as pipes of the container come there later.
        let own = line.try_clone()?;
        dup2_stdin(io::stdout().as_fd()).map_err(|error| failed("the streams could not be set up", error))?;
        Ok(own)
    });
    // The number is another file's by now.
    let number = line.into_raw_fd();
    let line = match started {
        Ok(line) => line,
        Err(failure) => {
            // SAFETY: nothing was put in its place.
            tell(&unsafe { UnixStream::from_raw_fd(number) }, &failure);
            return ExitCode::FAILURE;
        }
    };
    let result = line::receive(&line).map_err(Failure::from).and_then(|(text, files)| {
        let entry: Entry = serde_json::from_slice(&text).map_err(io::Error::from)?;
        let files = Files::from_list(files, entry.brought.is_some());
        start(&entry, files.ok_or_else(|| io::Error::other("a file is missing"))?, &line)
    });
    match result {
        Ok(process) => {
            drop(line);
            ExitCode::from(attend(process))
        }
        Err(failure) => {
            tell(&line, &failure);
            ExitCode::FAILURE
        }
    }
}

/// Before anything is known of a container.
fn protect() -> Result<(), Failure> {
    // A program that can be changed must not get where somebody might.
    if !sealed::is_sealed(std::fs::File::open("/proc/self/exe")?) {
        return Err(Failure::Entry { why: "this program can be changed".to_owned() });
    }
    cannot_be_traced()?;
    close_all_from(3).map_err(|error| match error {
        Errno::ENOSYS => Failure::Entry { why: TOO_OLD.to_owned() },
        error => failed("files could not be closed", error),
    })
}

fn tell(line: &UnixStream, failure: &Failure) {
    if let Ok(text) = serde_json::to_vec(failure) {
        let _ = line::send(line, &text, &[]);
    }
}

/// Goes into the namespaces and starts the inner process.
fn start(entry: &Entry, files: Files<OwnedFd>, line: &UnixStream) -> Result<Pid, Failure> {
    // All that has to be read of the host.
    let (filters, outer) = (Filters::new()?, Supervisor::this()?);
    let starter = process_handle(nix::unistd::getppid().as_raw().unsigned_abs())?;
    heard().thread_block().map_err(|error| failed("signals could not be blocked", error))?;
    // SAFETY: the default action runs no code of this process. Were they ignored, ends could not be waited for.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    let namespaces = CloneFlags::from_bits_truncate(entry.namespaces);
    // In a user namespace nobody could give them up. An ordinary user cannot here either, as for the container.
    let _ = setgroups(&[]);
    let groups = getgroups().map_err(|error| failed("the groups could not be learned", error))?;
    if let Some(group) = groups.iter().find(|group| !entry.groups.contains(&group.as_raw())) {
        return Err(Failure::Entry { why: format!("it is not in your group {group}: start it again") });
    }
    setns(&files.process, namespaces).map_err(|error| Failure::Entry {
        why: match error {
            Errno::ESRCH => "it has just ended".to_owned(),
            Errno::EPERM => NOT_YOURS.to_owned(),
            Errno::EINVAL => TOO_OLD.to_owned(),
            error => error.desc().to_owned(),
        },
    })?;
    // What it has become may be dumped on some machines (`fs.suid_dumpable`), and the kernel has forgotten whom it ends with.
    cannot_be_traced()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| failed("it could not be tied", error))?;
    if ends_within(&starter, Duration::ZERO)? {
        return Err(Failure::Entry { why: "nobody waits for it any more".to_owned() });
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child),
        Ok(ForkResult::Child) => {
            let failure = match prepare(entry, files, &filters, outer, line) {
                Ok(programs) => become_one_of(programs),
                Err(failure) => failure,
            };
            tell(line, &failure);
            std::process::exit(127)
        }
        // The first process of a process namespace is gone.
        Err(Errno::ENOMEM) => Err(Failure::Entry { why: "it has just ended".to_owned() }),
        Err(error) => Err(failed("no process could be started", error)),
    }
}

/// What is passed on, and the end of the inner process.
fn heard() -> SigSet {
    use Signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2].into_iter().collect()
}

/// Waits for the end of the inner process, and passes on what it is told.
fn attend(process: Pid) -> u8 {
    let _ = close_all_from(0);
    loop {
        match heard().wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(signal) => drop(kill(process, signal)),
            Err(_) => {}
        }
        match waitpid(process, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return code as u8,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as u8,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 127,
        }
    }
}

/// What the inner process does until it is locked in. Returns the programs that are to be tried.
fn prepare(
    entry: &Entry,
    files: Files<OwnedFd>,
    filters: &Filters,
    outer: Supervisor,
    line: &UnixStream,
) -> Result<Vec<Result<Program, Failure>>, Failure> {
    for group in files.groups {
        nix::unistd::write(&group, b"0").map_err(|error| Failure::Unheld { why: error.desc().to_owned() })?;
    }
    drop(files.process);
    let refused = |what: &'static str| move |error: Errno| failed(what, error);
    setsid().map_err(refused("no session could be begun"))?;
    umask(Mode::from_bits_truncate(0o022));
    (|| {
        dup2_stdin(&files.input)?;
        dup2_stdout(&files.output)?;
        dup2_stderr(&files.error)
    })()
    .map_err(refused("the streams could not be set up"))?;
    drop((files.input, files.output, files.error));
    // With the rights that the container's first program had at this point: its folder may be one that its user cannot
    // search. What the kernel keeps of other processes and files is no way to a folder.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, &entry.cwd, how)
        .and_then(fchdir)
        .map_err(|error| Failure::Folder { folder: entry.cwd.clone(), why: error.desc().to_owned() })?;
    for &(resource, soft, hard) in &entry.limits {
        limit(resource, soft, hard).map_err(refused("a limit could not be set"))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(refused("new rights could not be refused"))?;
    drop_bounding().map_err(refused("rights could not be given up"))?;
    filters.install()?;
    become_user(entry).map_err(refused("the container's user could not be become"))?;
    cannot_be_traced()?;
    outer.die_with_it()?;
    drop(outer);
    // The kernel says so of a folder that is not below the root.
    let cwd = std::env::current_dir()?;
    if !cwd.is_absolute() {
        return Err(Failure::Folder { folder: entry.cwd.clone(), why: "it is not in the container".to_owned() });
    }
    if let Some(size) = entry.terminal {
        let (master, slave) = terminal::make(size)
            .map_err(|error| Failure::Io { message: format!("the container has no terminals: {error}") })?;
        rustix::process::ioctl_tiocsctty(&slave).map_err(io::Error::from)?;
        line::send(line, LOCKED_IN, &[master.as_fd()])?;
        (|| {
            dup2_stdin(&slave)?;
            dup2_stdout(&slave)?;
            dup2_stderr(&slave)
        })()
        .map_err(refused("the terminal could not be set up"))?;
    } else {
        line::send(line, LOCKED_IN, &[])?;
    }
    let mut programs: Vec<_> = entry.programs.iter().map(|args| Program::find(args, &entry.env)).collect();
    if let Some((program, args)) = files.program.zip(entry.brought.as_ref()) {
        programs.push(Program::open(program, args, &entry.env));
    }
    Ok(programs)
}

/// Becomes the first program that there is. Returns only when there is none, and then why the last cannot be run.
fn become_one_of(programs: Vec<Result<Program, Failure>>) -> Failure {
    program::reset_signals();
    let mut failure = Failure::Entry { why: "there is nothing to run".to_owned() };
    for program in programs {
        failure = match program {
            Ok(program) => program.run(),
            Err(failure) => failure,
        };
    }
    failure
}

/// Where this process may not raise a limit, it keeps its own, which is lower.
fn limit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let set = |soft, hard| {
        let limits = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the call reads what the reference is to.
        Errno::result(unsafe { libc::setrlimit(resource as _, &raw const limits) }).map(drop)
    };
    match set(soft, hard) {
        Err(Errno::EPERM) => {
            let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the call writes what the reference is to.
            Errno::result(unsafe { libc::getrlimit(resource as _, &raw mut own) })?;
            set(soft.min(own.rlim_max), hard.min(own.rlim_max))
        }
        result => result,
    }
}

/// No capability can be gained any more.
fn drop_bounding() -> nix::Result<()> {
    for capability in 0.. {
        // SAFETY: the call takes numbers.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) }) {
            Ok(_) => {}
            // This kernel knows no more.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    rustix::thread::clear_ambient_capability_set().map_err(|error| Errno::from_raw(error.raw_os_error()))
}

fn become_user(entry: &Entry) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.user.0), Gid::from_raw(entry.user.1));
    let has_users = CloneFlags::from_bits_truncate(entry.namespaces).contains(CloneFlags::CLONE_NEWUSER);
    match setgroups(&[]) {
        // An ordinary user's container has their groups. There are no others: see [`start`].
        Err(Errno::EPERM) if has_users => {}
        result => result?,
    }
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// ptrace(2), PR_SET_DUMPABLE.
fn cannot_be_traced() -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).map_err(|error| failed("this process could not be protected", error))
}

fn close_all_from(first: RawFd) -> nix::Result<()> {
    // SAFETY: the call takes numbers; nothing of this process uses what it closes.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}
