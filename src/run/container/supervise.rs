//! The process that stands beside a container from its start to its end.
//!
//! It is this program, started anew with a hidden command, because libcontainer forks and goes on in the child: only a
//! process with a single thread may do that. It owns what must vanish with the container: mounts and namespaces, which
//! the kernel takes away when the supervisor ends, however it ends, and its children, which are killed then
//! ([`super::lifeline`]). Only control groups and the container's folder may stay; the next sweep takes those.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use fs_err as fs;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, getegid, geteuid, setgroups, setsid};

use super::cgroup::{self, Cgroup};
use super::connect::{self, Connector};
use super::lifeline::{Supervisor, process_handle};
use super::log::LogWriter;
use super::rootfs::{self, failed};
use super::runtime::{self, Streams};
use super::signals::HASTY;
use super::spec::{self, Engine, Network, Spec};
use super::state::{self, Status};
use super::way::Way;
use super::{Failure, HASTE, engine, forward, probe, relay};

/// Supervises the container whose folder is `folder`, to its end.
pub(super) fn supervise(folder: &Path) -> ExitCode {
    match try_supervise(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Failures are noted in the container's state; an error means that not even that could be done.
fn try_supervise(folder: &Path) -> io::Result<()> {
    std::env::set_current_dir(folder)?;
    let mut spec: Spec = state::read(Path::new("spec.json"))?;
    if matches!(spec.engine, Engine::Runtime { .. }) && !geteuid().is_root() {
        // The other runtimes insist on being root, if only of a user namespace, and the only user that an ordinary
        // user may map is then root. It is root over nothing: without capabilities, and the ordinary user on the host.
        spec.user = (0, 0);
    }
    // Signals of the terminal are for the foreground process, which passes them on. When it is started for the second
    // time (see `seal`), it leads its session already.
    let _ = setsid();
    umask(Mode::from_bits_truncate(0o022));
    let lock = fs::File::open("lock")?;
    lock.file().lock_shared()?;
    let mut record = state::Record::load()?;
    let mut cgroup = Cgroup::default();
    let ended = run(&spec, &mut record, &mut cgroup);
    cgroup.leave();
    cgroup.remove();
    record.state.status = match ended {
        Ok(status) => status,
        Err(failure) => Status::Failed(failure),
    };
    record.save()
}

fn run(spec: &Spec, record: &mut state::Record, cgroup: &mut Cgroup) -> Result<Status, Failure> {
    if spec.engine == Engine::Embedded {
        seal(spec)?;
    }
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|error| failed("signals could not be blocked", error))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .map_err(|error| failed("signals could not be received", error))?;
    let supervisor = Supervisor::this()?;
    record.state.supervisor = Some(state::Process::this()?);
    // Whoever stops it or removes it has to know.
    record.save()?;

    let (publish, ways): (&[spec::Publish], &[Way]) = match &spec.network {
        Network::Isolated { publish, ways } => (publish, ways),
        Network::Host => (&[], &[]),
    };
    // While this process is in the host's network, and has nothing open that its child should not have.
    let connector = connect::spawn(ways, publish, &supervisor)?;
    let (listeners, published) = forward::listen(publish)?;
    record.state.published = published;
    if let Engine::Manager { program, archive, image, .. } = &spec.engine {
        if let Some(way) = ways.first() {
            return Err(connect::failure(way, "podman and docker have networks of their own"));
        }
        // The manager listens itself, on the addresses that have just been found to be free.
        drop(listeners);
        if !record.state.published.is_empty() {
            let name = program.file_name().unwrap_or_default().display();
            let warning = format!("a container of {name} whose ports are published can also reach the network");
            record.state.warnings.push(warning);
        }
        record.save()?;
        let (streams, output) = pipes(spec)?;
        let process = engine::start_manager(spec, &record.state, program, archive, image, streams, &supervisor)?;
        let code = attend(spec, record, process, signals, output);
        // What was killed is only what speaks with the manager.
        engine::forget(program, &record.state.name);
        return Ok(Status::Exited { code: code?, out_of_memory: false });
    }
    let in_user_namespace = enter_namespaces(spec)?;
    if !in_user_namespace {
        // Those of whoever starts it are nothing to the container, and libcontainer would hand them on.
        setgroups(&[]).map_err(|error| failed("groups could not be given up", error))?;
    }
    if spec.network != Network::Host {
        forward::loopback_up()?;
    }
    let forwarder = forward::spawn(listeners, &supervisor)?;
    let group = format!("ekiben-{}-{}", record.state.name, std::process::id());
    let uncounted = limit(spec, &group, in_user_namespace, record, cgroup)?;
    cgroup.expect_inner(&group);
    record.cgroup = cgroup.clone();
    record.save()?;
    let spec = &rootfs::assemble(spec, in_user_namespace)?;
    // Asked for a group that an ordinary user may not make, the other runtimes fail; libcontainer goes on without.
    let wanted = (spec.engine == Engine::Embedded || !in_user_namespace).then_some(group.as_str());
    let configuration = runtime::configuration(spec, wanted, rootfs::can_mount_sys(), uncounted);
    let configuration = configuration.map_err(io::Error::other)?;
    configuration.save("config.json").map_err(io::Error::other)?;
    let (streams, output) = pipes(spec)?;
    if let Some(connector) = &connector {
        connector.open(ways, streams.error.as_fd())?;
    }
    let process = match &spec.engine {
        Engine::Runtime { program } => engine::start_runtime(program, streams, &supervisor)?,
        _ => {
            cgroup::show_own()?;
            let process = runtime::start(spec, streams, &supervisor);
            // The groups of the host, which the supervisor goes back to, lie below.
            umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)
                .map_err(|error| failed("the control groups could not be shown again", error))?;
            process?
        }
    };
    // One that has ended already is nothing to go into.
    record.process = state::Process::with_id(process.as_raw().unsigned_abs()).ok();
    cgroup.leave();
    let code = attend(spec, record, process, signals, output);
    forwarder.into_iter().chain(connector.map(Connector::process)).for_each(forward::end);
    Ok(Status::Exited { code: code?, out_of_memory: cgroup.ran_out_of_memory() })
}

/// Where the container's user could write to this program's file, starts the program anew from a read-only view of it.
///
/// For a moment it is this program that runs in the container, and an image can have it run there again, as
/// `/proc/self/exe`: a way to the file on the host (CVE-2019-5736), which an ordinary user's container may write to as
/// much as that user. The view is a mount of a namespace that the container's is made from: not even with all rights in
/// its own could it be made writable again.
fn seal(spec: &Spec) -> Result<(), Failure> {
    const PROGRAM: &str = "./program";
    let this = fs::metadata("/proc/self/exe")?;
    let (user, group) = (geteuid(), getegid());
    let container_user = if user.is_root() { spec.user.0 } else { user.as_raw() };
    let is_writable = this.uid() == container_user || this.mode() & 0o022 != 0;
    let flags = statvfs("/proc/self/exe").map_err(|error| failed("this program cannot be found", error))?.flags();
    if !is_writable || flags.contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    if !user.is_root() {
        enter_user_namespace(user.as_raw(), group.as_raw())?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(probe::refused)?;
    // By its path, for `/proc/self/exe` is in the namespace that was left. An upgrade may have put another file there.
    let mut source = fs::read_link("/proc/self/exe")?;
    if fs::metadata(&source).is_ok_and(|found| (found.dev(), found.ino()) == (this.dev(), this.ino())) {
        fs::write(PROGRAM, "")?;
    } else {
        fs::copy("/proc/self/exe", PROGRAM)?;
        source = PROGRAM.into();
    }
    let read_only = || {
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(&source), PROGRAM, none, MsFlags::MS_BIND, none)?;
        // Those that it has must be kept; the numbers are the same.
        let kept =
            MsFlags::from_bits_truncate(flags.bits()) & (MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME);
        mount(none, PROGRAM, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept, none)
    };
    read_only().map_err(|error| failed("this program's file could not be protected", error))?;
    Err(Command::new(PROGRAM).args(std::env::args_os().skip(1)).exec().into())
}

/// Goes into namespaces of its own, and says whether a user namespace is among them.
pub(super) fn enter_namespaces(spec: &Spec) -> Result<bool, Failure> {
    let network = if spec.network == Network::Host { CloneFlags::empty() } else { CloneFlags::CLONE_NEWNET };
    let namespaces = CloneFlags::CLONE_NEWNS | network;
    let (user, group) = spec.user;
    // Root may be one without the right to do this, or in a namespace that does not know the container's user.
    let knows_all = probe::knows("uid_map", user) && probe::knows("gid_map", group);
    let is_root = geteuid().is_root() && knows_all && probe::may_set_groups();
    let in_user_namespace = !(is_root && unshare(namespaces).is_ok());
    if in_user_namespace {
        enter_user_namespace(user, group)?;
        unshare(namespaces).map_err(probe::refused)?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(probe::refused)?;
    Ok(in_user_namespace)
}

/// One user and one group are all that an ordinary user may map without help of a program with set-user-id.
fn enter_user_namespace(user: u32, group: u32) -> Result<(), Failure> {
    let (outer_user, outer_group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(probe::refused)?;
    // Ubuntu 24.04 lets anyone make a user namespace, but gives no rights in it: writing the maps is the first to fail.
    let write = |file: &str, text: String| match std::fs::write(Path::new("/proc/self").join(file), text) {
        Err(error) => Err(probe::refused(error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw))),
        Ok(()) => Ok(()),
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{user} {outer_user} 1"))?;
    write("gid_map", format!("{group} {outer_group} 1"))
}

/// Sets the limits by control groups. Returns how many processes there may be, where those do not count them.
fn limit(
    spec: &Spec,
    group: &str,
    in_user_namespace: bool,
    record: &mut state::Record,
    cgroup: &mut Cgroup,
) -> Result<Option<u64>, Failure> {
    let limits = &spec.limits;
    if limits.memory.is_none() && limits.cpus.is_none() && limits.pids.is_none() {
        return Ok(None);
    }
    let note = |cgroup: &Cgroup| state::Record { cgroup: cgroup.clone(), ..record.clone() }.save();
    let Err(why) = cgroup.enter(group, limits, &note) else { return Ok(None) };
    // Processes can be counted without control groups, unless they are those of the machine's root.
    let counted = limits.pids.is_none() || in_user_namespace || spec.user.0 != 0;
    match limits.memory.is_none() && limits.cpus.is_none() && counted {
        true => {}
        false if limits.required => return Err(Failure::Limits { why }),
        false => record.state.warnings.push(format!("the container runs without its limits: {why}")),
    }
    Ok(limits.pids)
}

/// The output of the container and the files that it goes to.
type Output = Vec<(io::PipeReader, LogWriter)>;

fn pipes(spec: &Spec) -> Result<(Streams, Output), Failure> {
    let input = fs::File::open("/dev/null")?.into_parts().0;
    let (reader, output) = io::pipe()?;
    let (mut readers, error) = match spec.output {
        spec::Streams::Merged => (vec![(reader, LogWriter::rotating("log")?)], output.try_clone()?),
        spec::Streams::Separate => {
            let (second, error) = io::pipe()?;
            (vec![(reader, LogWriter::bounded("stdout")?), (second, LogWriter::bounded("stderr")?)], error)
        }
    };
    for (reader, _) in &mut readers {
        relay::never_wait(reader.as_fd())?;
    }
    let (output, error) = (OwnedFd::from(output), OwnedFd::from(error));
    if geteuid() == Uid::from_raw(0) {
        // So that the container can open `/dev/stdout` and `/dev/stderr` by name.
        for pipe in [&output, &error] {
            fchown(pipe, Some(spec.user.0), Some(spec.user.1))?;
        }
    }
    Ok((Streams { input: input.into(), output, error }, readers))
}

/// Waits for the end of the container, keeps its output, and passes on what it is told. Returns the exit code.
fn attend(
    spec: &Spec,
    record: &mut state::Record,
    process: Pid,
    signals: SignalFd,
    mut output: Output,
) -> Result<i32, Failure> {
    record.state.status = Status::Running;
    record.save()?;
    // Whoever started this waits for a line; it is no harm if they are gone.
    let _ = io::stdout().write_all(b"running\n").and_then(|()| io::stdout().flush());
    let handle = process_handle(process.as_raw() as u32)?;
    let starter = io::stdin();
    let mut tied = true;
    let mut deadline: Option<Instant> = None;
    let stop = |deadline: &mut Option<Instant>, most: u64| {
        // Told once, it may end by itself; told twice, it is killed.
        let (signal, grace) = match deadline {
            None => (Signal::SIGTERM, spec.grace.min(most)),
            Some(_) => (Signal::SIGKILL, 1000),
        };
        let _ = kill(process, signal);
        *deadline = Some(Instant::now() + Duration::from_millis(grace));
    };
    loop {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
            u16::try_from(left).unwrap_or(u16::MAX).into()
        });
        let mut waiting =
            vec![PollFd::new(handle.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        waiting.extend(output.iter().map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        if tied {
            // A pipe that is closed is told of unasked.
            waiting.push(PollFd::new(starter.as_fd(), PollFlags::empty()));
        }
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed("the container could not be waited for", error)),
        }
        let ready: Vec<bool> = waiting.iter().map(|one| one.any().unwrap_or(false)).collect();
        let is_ready = |number: usize| ready.get(number).copied().unwrap_or(false);
        let has_ended = is_ready(0);
        let is_told = is_ready(1);
        let starter_is_gone = tied && is_ready(2 + output.len());
        let mut number = 1;
        output.retain_mut(|(pipe, log)| {
            number += 1;
            // When the container has ended, all that it wrote is there.
            !(is_ready(number) || has_ended) || !log.take(pipe, has_ended)
        });
        if has_ended {
            break;
        }
        if is_told {
            match signals.read_signal() {
                // The kernel gives it to the program only if that has asked for it, as the first process of a container
                // can be killed by no other signal than SIGKILL. Other runtimes may be ended by it.
                Ok(Some(told)) if told.ssi_signo == Signal::SIGUSR1 as u32 => {
                    if spec.engine == Engine::Embedded {
                        let _ = kill(process, Signal::SIGUSR1);
                    }
                }
                Ok(Some(told)) if told.ssi_signo == HASTY as u32 => stop(&mut deadline, HASTE),
                _ => stop(&mut deadline, u64::MAX),
            }
        }
        if starter_is_gone {
            tied = false;
            // Whoever lets it go says so first.
            if nix::unistd::read(&starter, &mut [0]) != Ok(1) {
                stop(&mut deadline, u64::MAX);
            }
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            stop(&mut deadline, u64::MAX);
        }
    }
    match waitpid(process, Some(WaitPidFlag::__WALL)) {
        Ok(WaitStatus::Exited(_, code)) => Ok(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(128 + signal as i32),
        Ok(_) => Err(io::Error::other("the container neither runs nor has ended").into()),
        Err(error) => Err(failed("the container's end could not be learned", error)),
    }
}
