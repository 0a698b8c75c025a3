//! From a [`Spec`] to a running process, with libcontainer.
//!
//! OCI runtime specification 1.0, `config.md` and `config-linux.md`. The process has no capabilities, cannot gain any,
//! makes no system calls but those of [`super::seccomp`], and has process, mount, IPC, host name and control group
//! namespaces of its own. Its user and network namespaces are those that the supervisor is in.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;
use oci_spec::OciSpecError;
use oci_spec::runtime as oci;

use super::lifeline::Supervisor;
use super::program::{self, Program};
use super::seccomp::{self, Filters};
use super::spec::{Engine, Spec};
use super::{Failure, probe};
use crate::io::explain::words;

/// Standard input, output and error of the container's process.
pub(super) struct Streams {
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) error: OwnedFd,
}

/// The bundle's `config.json`. `group`: the control group to make, in that of the supervisor, if one is wanted.
/// `own_sys`: a `/sys` can be mounted here; else it is the host's. `processes`: how many the container's user may have,
/// where no control group counts them.
pub(super) fn configuration(
    spec: &Spec,
    group: Option<&str>,
    own_sys: bool,
    processes: Option<u64>,
) -> Result<oci::Spec, OciSpecError> {
    let (uid, gid) = spec.user;
    let capabilities = oci::LinuxCapabilitiesBuilder::default()
        .bounding(oci::Capabilities::new())
        .effective(oci::Capabilities::new())
        .inheritable(oci::Capabilities::new())
        .permitted(oci::Capabilities::new())
        .ambient(oci::Capabilities::new())
        .build()?;
    let mut user = oci::UserBuilder::default().uid(uid).gid(gid);
    if !spec.groups.is_empty() {
        user = user.additional_gids(spec.groups.clone());
    }
    let process = oci::ProcessBuilder::default()
        .terminal(false)
        .user(user.build()?)
        .args(spec.args.clone())
        .env(spec.env.clone())
        .cwd(spec.cwd.clone())
        .capabilities(capabilities)
        .no_new_privileges(true)
        .rlimits(processes.map(process_limit).transpose()?.into_iter().collect::<Vec<_>>())
        .build()?;
    let namespaces = [
        oci::LinuxNamespaceType::Pid,
        oci::LinuxNamespaceType::Ipc,
        oci::LinuxNamespaceType::Uts,
        oci::LinuxNamespaceType::Mount,
        oci::LinuxNamespaceType::Cgroup,
    ];
    let namespaces = namespaces
        .into_iter()
        .map(|kind| oci::LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;
    let mut masked = oci::get_default_maskedpaths();
    masked.extend(["/proc/interrupts".to_owned(), "/sys/devices/virtual/powercap".to_owned()]);
    let mut linux = oci::LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(masked)
        .readonly_paths(oci::get_default_readonly_paths());
    if let Some(group) = group {
        linux = linux.cgroups_path(Path::new("/").join(group));
    }
    // libcontainer would need a C library for it: there, the filter is installed by [`Payload`].
    if spec.engine != Engine::Embedded {
        linux = linux.seccomp(seccomp::section()?);
    }
    let linux = linux.build()?;
    oci::SpecBuilder::default()
        .version("1.0.2")
        .root(oci::RootBuilder::default().path("rootfs").readonly(spec.writable.is_none()).build()?)
        .mounts(mounts(spec, own_sys)?)
        .process(process)
        .hostname(spec.hostname.clone())
        .linux(linux)
        .build()
}

/// setrlimit(2), RLIMIT_NPROC: no more than what this process is held to already.
fn process_limit(most: u64) -> Result<oci::PosixRlimit, OciSpecError> {
    let hard = getrlimit(Resource::RLIMIT_NPROC).map_or(most, |(_, hard)| most.min(hard));
    oci::PosixRlimitBuilder::default().typ(oci::PosixRlimitType::RlimitNproc).soft(hard).hard(hard).build()
}

fn mounts(spec: &Spec, own_sys: bool) -> Result<Vec<oci::Mount>, OciSpecError> {
    let mount = |kind: &str, source: &Path, target: &Path, options: &[&str]| {
        oci::MountBuilder::default()
            .typ(kind)
            .source(source)
            .destination(target)
            .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
            .build()
    };
    let path = Path::new;
    let mut mounts = vec![
        mount("proc", path("proc"), path("/proc"), &["nosuid", "noexec", "nodev"])?,
        mount("tmpfs", path("tmpfs"), path("/dev"), &["nosuid", "strictatime", "mode=555", "size=64k"])?,
        mount(
            "devpts",
            path("devpts"),
            path("/dev/pts"),
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        )?,
    ];
    mounts.push(if own_sys {
        mount("sysfs", path("sysfs"), path("/sys"), &["nosuid", "noexec", "nodev", "ro"])?
    } else {
        mount("none", path("/sys"), path("/sys"), &["rbind", "nosuid", "noexec", "nodev", "rro"])?
    });
    for tmpfs in &spec.tmpfs {
        let size = format!("size={}", tmpfs.size);
        mounts.push(mount("tmpfs", path("tmpfs"), &tmpfs.target, &["nosuid", "nodev", "mode=1777", &size])?);
    }
    for bind in spec.mounts.iter().chain(&spec.volumes) {
        let access = if bind.writable { "rw" } else { "rro" };
        mounts.push(mount("bind", &bind.source, &bind.target, &["rbind", "nosuid", "nodev", access])?);
    }
    for device in &spec.devices {
        mounts.push(mount("bind", &device.source, &device.target, &["bind", "nosuid", "noexec", "rw"])?);
    }
    Ok(mounts)
}

/// Starts the container in the current folder, which is the bundle, and returns once its program runs.
pub(super) fn start(spec: &Spec, streams: Streams, supervisor: &Supervisor) -> Result<Pid, Failure> {
    let (status, teller) = io::pipe()?;
    let teller: OwnedFd = teller.into();
    let teller = teller.into_raw_fd();
    let (args, env) = (spec.args.clone(), spec.env.clone());
    let payload = Payload { args, env, filters: Filters::new()?, supervisor: supervisor.clone(), teller };
    let mut container = ContainerBuilder::new("container".to_owned(), SyscallType::default())
        .with_root_path("runtime")
        .map_err(refused)?
        .validate_id()
        .map_err(refused)?
        .with_executor(payload)
        .with_stdin(streams.input)
        .with_stdout(streams.output)
        .with_stderr(streams.error)
        .as_init(".")
        .with_systemd(false)
        .with_detach(false)
        .build()
        .map_err(refused)?;
    container.start().map_err(refused)?;
    // SAFETY: opened above, and the payload, which is gone, owned nothing.
    drop(unsafe { OwnedFd::from_raw_fd(teller) });
    let mut said = Vec::new();
    let mut status = status.take(64 << 10);
    // Ends when the program runs, for then the kernel closes the other end.
    status.read_to_end(&mut said)?;
    if !said.is_empty() {
        return Err(serde_json::from_slice(&said).map_err(io::Error::other)?);
    }
    let pid = container.pid().ok_or_else(|| io::Error::other("the container has no process"))?;
    Ok(Pid::from_raw(pid.as_raw()))
}

/// libcontainer's errors say what failed in their causes.
fn refused(error: impl std::error::Error + 'static) -> Failure {
    let message = words(&error).reduce(|message, text| match message.contains(&text) {
        true => message,
        false => format!("{message}: {text}"),
    });
    probe::explained(message.unwrap_or_default())
}

/// What libcontainer's child does last.
#[derive(Clone)]
struct Payload {
    args: Vec<String>,
    env: Vec<String>,
    filters: Filters,
    supervisor: Supervisor,
    /// Where a program that cannot be run is told of.
    teller: RawFd,
}

impl Executor for Payload {
    /// Called when all is set up, just before the child says that it is ready.
    fn validate(&self, _: &oci::Spec) -> Result<(), ExecutorValidationError> {
        self.supervisor.die_with_it().map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    /// The environment goes to the program, and nowhere else.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &oci::Spec) -> Result<(), ExecutorError> {
        let failure = self.become_program();
        if let Ok(text) = serde_json::to_vec(&failure) {
            // SAFETY: opened by the parent for this, and used by nobody else here.
            let mut teller = unsafe { std::fs::File::from_raw_fd(self.teller) };
            let _ = teller.write_all(&text);
        }
        std::process::exit(127)
    }
}

impl Payload {
    /// Returns only when the program cannot be run.
    fn become_program(&self) -> Failure {
        let program = match Program::find(&self.args, &self.env) {
            Ok(program) => program,
            Err(failure) => return failure,
        };
        program::reset_signals();
        // Last of all, and so that nothing of this program's own has to be allowed to the container.
        match self.filters.install() {
            Ok(()) => program.run(),
            Err(failure) => failure,
        }
    }
}
