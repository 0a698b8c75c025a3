//! Other programs that run containers: OCI runtimes such as runc, and managers such as podman.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, execv, fork};

use super::lifeline::Supervisor;
use super::rootfs::failed;
use super::runtime::Streams;
use super::spec::{Engine, Network, Spec};
use super::state::State;
use super::{Ends, Error, Failure, Guest, cgroup, probe};
use crate::io::confine;

/// Programs with the command line of the OCI runtimes.
pub const RUNTIMES: [&str; 3] = ["runc", "crun", "youki"];

/// Programs that keep images and containers themselves.
pub const MANAGERS: [&str; 2] = ["podman", "docker"];

/// Where the program called `name` is: one of [`RUNTIMES`] or [`MANAGERS`].
///
/// # Errors
/// [`Error::NoEngine`] when it is not installed.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    confine::on_path(name).ok_or_else(|| Error::NoEngine {
        name: name.to_owned(),
        installed: RUNTIMES.into_iter().chain(MANAGERS).filter(|other| confine::on_path(other).is_some()).collect(),
    })
}

/// Starts an OCI runtime on the bundle in the current folder.
///
/// It is the first process of a process namespace, so that the container ends with it, even when it is killed: the
/// runtimes themselves see to that only where control groups are theirs.
pub(super) fn start_runtime(program: &Path, streams: Streams, supervisor: &Supervisor) -> Result<Pid, Failure> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(probe::refused)?;
    let folder = std::env::current_dir()?;
    let args = ["--root", "runtime", "run", "--bundle"].map(OsString::from);
    let args = args.into_iter().chain([folder.into_os_string(), "container".into()]);
    start(program, args.collect(), streams, supervisor, || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(probe::refused)?;
        // Of the new namespace, in which the runtime looks for itself.
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
            .map_err(|error| failed("the processes could not be shown", error))?;
        cgroup::show_own()
    })
}

/// Starts an image with podman or docker.
pub(super) fn start_manager(
    spec: &Spec,
    state: &State,
    program: &Path,
    archive: &Path,
    image: &str,
    streams: Streams,
    supervisor: &Supervisor,
) -> Result<Pid, Failure> {
    let loaded = Command::new(program).arg("load").arg("--input").arg(archive).stdin(Stdio::null()).output()?;
    if !loaded.status.success() {
        let message = String::from_utf8_lossy(&loaded.stderr).trim().to_owned();
        return Err(Failure::Runtime { message });
    }
    start(program, manager_args(spec, state, image, is_podman(program)), streams, supervisor, || Ok(()))
}

fn is_podman(program: &Path) -> bool {
    program.file_name().is_some_and(|file| file.as_bytes().starts_with(b"podman"))
}

/// Has podman or docker run a program in a container that they have. Returns its exit code.
pub(super) fn exec(program: &Path, name: &str, guest: &Guest, ends: &Ends<'_>) -> io::Result<i32> {
    let run = |options: &[OsString], args: &[String], streams: [Stdio; 3]| {
        let [input, output, error] = streams;
        let mut command = Command::new(program);
        command.arg("exec").args(options).arg(name).args(args);
        command.stdin(input).stdout(output).stderr(error).status()
    };
    // They take one program alone, and say in many ways that there is none.
    let has = |args: &[String]| {
        let probe = args.iter().take(1).cloned().chain(["-c".to_owned(), ":".to_owned()]).collect::<Vec<_>>();
        run(&[], &probe, [Stdio::null(), Stdio::null(), Stdio::null()]).is_ok_and(|status| status.success())
    };
    let (last, others) = guest.programs.split_last().ok_or_else(|| io::Error::other("there is nothing to run"))?;
    let args = others.iter().find(|args| has(args)).unwrap_or(last);
    let input = if guest.input { Stdio::from(ends.input.try_clone_to_owned()?) } else { Stdio::null() };
    let streams = [input, ends.output.try_clone_to_owned()?.into(), ends.error.try_clone_to_owned()?.into()];
    let status = run(&exec_options(guest), args, streams)?;
    Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1))
}

fn exec_options(guest: &Guest) -> Vec<OsString> {
    let mut options: Vec<OsString> = Vec::new();
    options.extend(guest.input.then(|| "--interactive".into()));
    options.extend(guest.terminal.then(|| "--tty".into()));
    options.extend(guest.env.iter().flat_map(|variable| ["--env".into(), variable.into()]));
    options.extend(guest.cwd.iter().flat_map(|folder| ["--workdir".into(), folder.into()]));
    options
}

/// Has podman or docker kill and forget a container, if it still has it.
pub(super) fn forget(program: &Path, name: &str) {
    let mut command = Command::new(program);
    command.args(["rm", "--force"]);
    if is_podman(program) {
        command.args(["--time", "0"]);
    }
    // There is nothing to be done where it fails: what was asked for may have happened already.
    let _ = command.arg(name).stdin(Stdio::null()).output();
}

/// The command line of `podman run` and `docker run`.
fn manager_args(spec: &Spec, state: &State, image: &str, is_podman: bool) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    // crun refuses machines on which control groups of version 1 are mounted too.
    if is_podman && Path::new("/sys/fs/cgroup/unified").exists() && confine::on_path("runc").is_some() {
        args.extend(["--runtime".into(), "runc".into()]);
    }
    let mut add = |option: &str, value: &dyn AsRef<OsStr>| args.extend([option.into(), value.as_ref().to_owned()]);
    add("run", &"--rm");
    add("--pull", &"never");
    add("--name", &state.name);
    add("--hostname", &spec.hostname);
    add("--user", &format!("{}:{}", spec.user.0, spec.user.1));
    add("--workdir", &spec.cwd);
    add("--cap-drop", &"all");
    add("--security-opt", &"no-new-privileges");
    add("--log-driver", &"none");
    // The managers would raise these, which a build machine may not let them. What podman itself runs under may be less
    // than what this process does.
    for (name, resource, most) in
        [("nofile", Resource::RLIMIT_NOFILE, 1 << 20), ("nproc", Resource::RLIMIT_NPROC, 1 << 15)]
    {
        if let Ok((soft, hard)) = getrlimit(resource) {
            add("--ulimit", &format!("{name}={}:{}", soft.min(most), hard.min(most)));
        }
    }
    match &spec.network {
        Network::Host => add("--network", &"host"),
        Network::Isolated { publish, .. } if publish.is_empty() => add("--network", &"none"),
        // Their networks that can be published from can also be left.
        Network::Isolated { .. } => {
            for port in &state.published {
                add("--publish", &format!("{}:{}", port.host, port.container));
            }
        }
    }
    if let Engine::Manager { devices, .. } = &spec.engine {
        devices.iter().for_each(|device| add("--device", device));
    }
    for variable in &spec.env {
        add("--env", variable);
    }
    // In a root that can be written to, the image's own folder does, as with the manager alone.
    let is_image_own = |target: &Path| spec.writable.is_some() && target == Path::new("/tmp");
    for tmpfs in spec.tmpfs.iter().filter(|tmpfs| !is_image_own(&tmpfs.target)) {
        add("--tmpfs", &format!("{}:mode=1777,size={}", tmpfs.target.display(), tmpfs.size));
    }
    for bind in spec.mounts.iter().chain(&spec.volumes) {
        let access = if bind.writable { "rw" } else { "ro" };
        add("--volume", &format!("{}:{}:{access}", bind.source.display(), bind.target.display()));
    }
    if let Some(memory) = spec.limits.memory {
        add("--memory", &memory.to_string());
    }
    if let Some(cpus) = spec.limits.cpus {
        add("--cpus", &cpus.to_string());
    }
    if let Some(pids) = spec.limits.pids {
        add("--pids-limit", &pids.to_string());
    }
    if let Some(program) = spec.args.first() {
        add("--entrypoint", program);
    }
    if spec.writable.is_none() {
        args.push("--read-only".into());
    }
    args.push(image.into());
    args.extend(spec.args.iter().skip(1).map(OsString::from));
    args
}

/// Starts a program that cannot outlive the supervisor. `prepare` is done in it first.
fn start(
    program: &Path,
    args: Vec<OsString>,
    streams: Streams,
    supervisor: &Supervisor,
    prepare: impl FnOnce() -> Result<(), Failure>,
) -> Result<Pid, Failure> {
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
    let path = text(program.as_os_str())?;
    let args: Vec<CString> =
        std::iter::once(Ok(path.clone())).chain(args.iter().map(|arg| text(arg))).collect::<Result<_, _>>()?;
    // SAFETY: the supervisor has one thread.
    match unsafe { fork() }.map_err(|error| failed("no process could be started", error))? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let failure = supervisor.die_with_it().map_err(Failure::from).and_then(|()| prepare()).and_then(|()| {
                become_program(&path, &args, &streams).map_err(|error| failed("it cannot be run", error))
            });
            if let Err(failure) = failure {
                let said = format!("{}: {failure}\n", program.display());
                let _ = std::fs::File::from(streams.error).write_all(said.as_bytes());
            }
            std::process::exit(127)
        }
    }
}

fn become_program(path: &CStr, args: &[CString], streams: &Streams) -> nix::Result<()> {
    dup2_stdin(streams.input.as_fd())?;
    dup2_stdout(streams.output.as_fd())?;
    dup2_stderr(streams.error.as_fd())?;
    SigSet::all().thread_unblock()?;
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    match execv(path, args)? {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::container::spec::{Name, Publish};
    use crate::run::container::state::Status;

    #[test]
    fn a_manager_is_told_everything() {
        let mut spec = Spec::new(Name::Like("x".to_owned()), Vec::new(), vec!["python".to_owned(), "-V".to_owned()]);
        let mut state = State {
            name: "x-1".to_owned(),
            created: 0,
            status: Status::Starting,
            published: Vec::new(),
            ways: Vec::new(),
            lower: Vec::new(),
            args: Vec::new(),
            labels: Default::default(),
            warnings: Vec::new(),
            keep: false,
            own: false,
            supervisor: None,
        };
        let line = |spec: &Spec, state: &State| {
            let args = manager_args(spec, state, "iris:1.0", false);
            args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        spec.limits.memory = Some(1 << 20);
        let devices = vec!["nvidia.com/gpu=0".to_owned()];
        spec.engine = Engine::Manager { program: "docker".into(), archive: "x".into(), image: String::new(), devices };
        let said = line(&spec, &state);
        assert!(said.starts_with("run --rm"), "{said}");
        for part in [
            "--name x-1",
            "--network none",
            "--memory 1048576",
            "--user 1034:1034",
            "--cap-drop all",
            "--device nvidia.com/gpu=0",
        ] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert!(said.ends_with("--entrypoint python --read-only iris:1.0 -V"), "{said}");

        let publish = vec![Publish { host: ([127, 0, 0, 1], 0).into(), container: 3000 }];
        spec.network = Network::Isolated { publish, ways: Vec::new() };
        state.published = vec![Publish { host: ([127, 0, 0, 1], 4711).into(), container: 3000 }];
        let said = line(&spec, &state);
        assert!(said.contains("--publish 127.0.0.1:4711:3000") && !said.contains("--network"), "{said}");
    }
}
