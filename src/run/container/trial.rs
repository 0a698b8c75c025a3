//! Whether containers can be started here, found out by doing what a supervisor does before it starts one: namespaces,
//! memory, layers over each other, the processes of a namespace of its own.
//!
//! It is done in a process of its own ([`super::TRIAL`]), whose namespaces end with it: nothing of the machine
//! changes.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use fs_err as fs;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use super::rootfs::{self, failed};
use super::spec::{Name, Spec};
use super::{Failure, Launcher, TRIAL, cgroup, probe, supervise};
use crate::io::finding::{Finding, Level};

/// What came of it.
#[derive(Serialize, Deserialize)]
struct Trial {
    /// Whether a user namespace was needed.
    namespaces: Result<bool, Failure>,
    /// None where it did not come to that.
    overlay: Option<Result<(), Failure>>,
    processes: Option<Result<(), Failure>>,
}

/// Whether containers can be started by `launcher`, with layers on the file system of the folder `layers`.
pub(super) fn findings(launcher: &Launcher, layers: &Path) -> Vec<Finding> {
    let mut found = match run(launcher, layers) {
        Ok(trial) => trial.findings(),
        Err(error) => vec![Finding::of_error("namespaces", Level::Problem, &error)],
    };
    found.push(filters());
    found.push(cgroup::finding());
    found
}

fn run(launcher: &Launcher, layers: &Path) -> std::io::Result<Trial> {
    let output = Command::new(&launcher.program)
        .args([TRIAL.as_ref(), layers.as_os_str()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    serde_json::from_slice(&output.stdout).map_err(std::io::Error::other)
}

/// What the process does that is started for it.
pub(super) fn take_place(layers: &Path) -> ExitCode {
    let text = serde_json::to_vec(&attempt(layers)).unwrap_or_default();
    match std::io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn attempt(layers: &Path) -> Trial {
    let spec = Spec::new(Name::Like("trial".to_owned()), Vec::new(), Vec::new());
    let namespaces = supervise::enter_namespaces(&spec);
    let Ok(in_user_namespace) = namespaces else { return Trial { namespaces, overlay: None, processes: None } };
    let overlay = overlay(spec, layers, in_user_namespace);
    let processes = overlay.is_ok().then(processes);
    Trial { namespaces, overlay: Some(overlay), processes }
}

/// Lays memory over the folder, as over layers, in memory.
fn overlay(spec: Spec, layers: &Path, in_user_namespace: bool) -> Result<(), Failure> {
    let temporary = std::env::temp_dir();
    // The memory may hide it.
    let layers = open(layers, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| failed("the store could not be opened", error))?;
    mount(Some("tmpfs"), &temporary, Some("tmpfs"), MsFlags::empty(), Some("size=16m"))
        .map_err(|error| failed("no memory could be mounted", error))?;
    let folder = temporary.join("trial");
    fs::create_dir(&folder)?;
    std::env::set_current_dir(&folder)?;
    let lower = vec![format!("/proc/self/fd/{}", layers.as_raw_fd()).into()];
    let spec = Spec { lower, writable: Some(1 << 20), ..spec };
    rootfs::assemble(&spec, in_user_namespace).map(drop)
}

/// Shows the processes of a namespace of its own, which a container around this process can forbid.
fn processes() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(probe::refused)?;
    // SAFETY: the process has one thread.
    match unsafe { fork() }.map_err(|error| failed("no process could be started", error))? {
        ForkResult::Child => {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let shown = mount(Some("proc"), "m", Some("proc"), flags, None::<&str>);
            std::process::exit(shown.err().map_or(0, |error| error as i32))
        }
        ForkResult::Parent { child } => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            Ok(WaitStatus::Exited(_, error)) => {
                Err(probe::explained(format!("the processes cannot be shown: {}", Errno::from_raw(error).desc())))
            }
            _ => Err(failed("the processes cannot be shown", Errno::ECHILD)),
        },
    }
}

impl Trial {
    fn findings(self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |name, result: Option<Result<String, Failure>>| match result {
            Some(Ok(fact)) => found.push(Finding::ok(name, fact)),
            Some(Err(failure)) => {
                let advice = match &failure {
                    Failure::NoSandbox { hint, .. } => hint.clone(),
                    _ => "run ekiben as root, or choose an engine that is set up here with `--engine`".to_owned(),
                };
                found.push(Finding::problem(name, failure.to_string(), advice));
            }
            None => {}
        };
        // What the processes lack is a matter of namespaces too.
        let namespaces = self.namespaces.and_then(|user| self.processes.unwrap_or(Ok(())).map(|()| user));
        add(
            "namespaces",
            Some(namespaces.map(|in_user_namespace| match in_user_namespace {
                true => "containers run in a user namespace".to_owned(),
                false => "containers are started by root, who needs no user namespace".to_owned(),
            })),
        );
        add("overlay", self.overlay.map(|result| result.map(|()| "layers can be laid over each other".to_owned())));
        found
    }
}

/// Filters of system calls (seccomp(2)).
fn filters() -> Finding {
    const NAME: &str = "seccomp";
    match std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => {
            Finding::ok(NAME, "system calls can be filtered")
        }
        _ => {
            let text = "the kernel does not filter system calls (CONFIG_SECCOMP_FILTER)";
            Finding::problem(NAME, text, "use another kernel: those of distributions do")
        }
    }
}
