//! Which system calls the container's program may make: those of Docker's default profile.
//!
//! `seccomp/default.json` is the profile to the byte: `seccomp/default.json` of github.com/moby/profiles at commit
//! `3c28324314729dbade8287e868eef6338c42807a` (Apache License 2.0, Copyright the Moby authors). What of it holds for a
//! process with some capabilities, or none, is worked out here, by the rules of that repository's `seccomp/seccomp_linux.go`.
//!
//! Invariant: what the profile does not allow fails with EPERM (`clone3` with ENOSYS, so that C libraries fall back to
//! `clone`, whose flags can be seen). System calls by another processor's rules than this program's own (i386 on x86-64, arm
//! on arm64) end the process, and x32's fail: neither is a way around. Arguments are compared in their lower 32 bits, which
//! are all that the kernel looks at in those that the profile names; a comparison of 64 bits could be passed with high
//! bits that the kernel then drops.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr as _;

use oci_spec::OciSpecError;
use oci_spec::runtime as oci;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::Deserialize;
use syscalls::Sysno;

use super::Failure;

/// Docker's default profile.
const PROFILE: &str = include_str!("seccomp/default.json");

/// The programs that the kernel runs before each system call, in the order in which they are installed.
#[derive(Clone, Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Those of the profile, for this machine and a process without capabilities.
    pub(super) fn new() -> io::Result<Self> {
        Self::with_capabilities(&[])
    }

    /// Those for a process that has `capabilities`, by the names that they have in the profile.
    pub(crate) fn with_capabilities(capabilities: &[&str]) -> io::Result<Self> {
        let profile = Profile::read()?;
        let (allowed, refused) = calls(&profile.rules(&Machine::this(), capabilities), profile.default_errno_ret)?;
        let program = |rules, otherwise, then| {
            let target = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
            let filter = SeccompFilter::new(rules, otherwise, then, target).map_err(io::Error::other)?;
            BpfProgram::try_from(filter).map_err(io::Error::other)
        };
        let mut programs =
            vec![program(allowed, SeccompAction::Errno(profile.default_errno_ret), SeccompAction::Allow)?];
        // Of several errors, the kernel takes that of the filter which was installed last (seccomp(2)).
        for (errno, calls) in refused {
            programs.push(program(calls, SeccompAction::Allow, SeccompAction::Errno(errno))?);
        }
        Ok(Self(programs))
    }

    /// Holds this thread, which has CAP_SYS_ADMIN, and all that it becomes and starts to the profile: its privileges may
    /// grow later (seccomp(2)).
    pub(crate) fn install_with_rights(&self) -> Result<(), Failure> {
        for program in &self.0 {
            let length = u16::try_from(program.len()).map_err(io::Error::other)?;
            let filter = nix::libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
            // SAFETY: the kernel reads as many instructions as there are; the crate's have the kernel's form.
            let installed = unsafe {
                let mode = nix::libc::SECCOMP_SET_MODE_FILTER;
                nix::libc::syscall(nix::libc::SYS_seccomp, mode, 0, &raw const filter)
            };
            nix::errno::Errno::result(installed)
                .map_err(|error| super::rootfs::failed("the kernel takes no filter of system calls", error))?;
        }
        Ok(())
    }

    /// Holds this thread, and all that it becomes and starts, to the profile. Its privileges must not be able to grow.
    pub(super) fn install(&self) -> Result<(), Failure> {
        let refused = |error: seccompiler::Error| Failure::NoSandbox {
            why: format!("the kernel takes no filter of system calls ({error})"),
            hint: "use a kernel with CONFIG_SECCOMP_FILTER; all that distributions ship have it".to_owned(),
        };
        self.0.iter().try_for_each(|program| seccompiler::apply_filter(program).map_err(refused))
    }
}

/// The profile as a section of `config.json`, for other runtimes.
pub(super) fn section() -> Result<oci::LinuxSeccomp, OciSpecError> {
    let (profile, machine) = (Profile::read()?, Machine::this());
    oci::LinuxSeccompBuilder::default()
        .default_action(oci::LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(profile.default_errno_ret)
        // Docker adds i386 and x32, by which the filter of socket families can be passed (`socketcall`).
        .architectures(vec![machine.oci])
        .syscalls(profile.rules(&machine, &[]).into_iter().cloned().collect::<Vec<_>>())
        .build()
}

/// What is read of the profile. Its default action is to fail with `default_errno_ret`; a test holds that.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_errno_ret: u32,
    syscalls: Vec<Rule>,
}

/// What is done with some system calls, on some machines, for processes with some capabilities.
#[derive(Deserialize)]
struct Rule {
    #[serde(flatten)]
    calls: oci::LinuxSyscall,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    /// As Go names them.
    arches: Vec<String>,
    caps: Vec<String>,
    min_kernel: Option<String>,
}

/// What the profile asks of the machine.
struct Machine {
    /// The processor, as Go names it.
    arch: &'static str,
    oci: oci::Arch,
    kernel: (u32, u32),
}

impl Machine {
    fn this() -> Self {
        let (arch, oci) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", oci::Arch::ScmpArchX86_64),
            "aarch64" => ("arm64", oci::Arch::ScmpArchAarch64),
            other => (other, oci::Arch::ScmpArchNative),
        };
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { arch, oci, kernel: version(&release) }
    }
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Profile {
    fn read() -> io::Result<Self> {
        Ok(serde_json::from_str(PROFILE)?)
    }

    /// The rules that hold on `machine` for a process with `capabilities`.
    fn rules(&self, machine: &Machine, capabilities: &[&str]) -> Vec<&oci::LinuxSyscall> {
        let is_listed = |arches: &[String]| arches.iter().any(|arch| arch == machine.arch);
        let holds = |rule: &&Rule| {
            let Rule { includes, excludes, .. } = rule;
            let is_new_enough = includes.min_kernel.as_deref().is_none_or(|least| version(least) <= machine.kernel);
            let has = |capability: &String| capabilities.contains(&capability.as_str());
            includes.caps.iter().all(has)
                && !excludes.caps.iter().any(has)
                && (includes.arches.is_empty() || is_listed(&includes.arches))
                && is_new_enough
                && !is_listed(&excludes.arches)
        };
        self.syscalls.iter().filter(holds).map(|rule| &rule.calls).collect()
    }
}

/// System calls by number; of one with rules, one of these must fit the arguments.
type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// The system calls that `rules` allow, and those that they refuse with an error of their own, else with `errno`.
fn calls(rules: &[&oci::LinuxSyscall], errno: u32) -> io::Result<(Calls, BTreeMap<u32, Calls>)> {
    let (mut allowed, mut refused) = (Calls::new(), BTreeMap::<u32, Calls>::new());
    for rule in rules {
        let calls = match rule.action() {
            oci::LinuxSeccompAction::ScmpActAllow => &mut allowed,
            _ => refused.entry(rule.errno_ret().unwrap_or(errno)).or_default(),
        };
        let conditions = rule.args().iter().flatten().map(condition).collect::<io::Result<Vec<_>>>()?;
        // Names that this processor's kernels do not have are those of others.
        for call in rule.names().iter().filter_map(|name| call(name)) {
            let number = i64::from(call.id());
            if conditions.is_empty() {
                // It holds whatever the arguments are, and whatever other rules say.
                calls.insert(number, Vec::new());
            } else if calls.get(&number).is_none_or(|rules| !rules.is_empty()) {
                let rule = SeccompRule::new(conditions.clone()).map_err(io::Error::other)?;
                calls.entry(number).or_default().push(rule);
            }
        }
    }
    Ok((allowed, refused))
}

/// The system call of this processor's that `name` is.
fn call(name: &str) -> Option<Sysno> {
    // The crate's table for arm64 has number 79 under the name that 32-bit kernels have for it.
    let name = if cfg!(target_arch = "aarch64") && name == "newfstatat" { "fstatat" } else { name };
    Sysno::from_str(name).ok()
}

/// A condition on an argument.
fn condition(arg: &oci::LinuxSeccompArg) -> io::Result<SeccompCondition> {
    use oci::LinuxSeccompOperator as Operator;
    let (operator, value) = match arg.op() {
        Operator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value()),
        Operator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value()),
        Operator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value()),
        Operator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value()),
        Operator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value()),
        Operator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value()),
        Operator::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(arg.value()), arg.value_two().unwrap_or_default()),
    };
    let index = u8::try_from(arg.index()).map_err(io::Error::other)?;
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The profile as it came: whoever takes a newer one names its commit above, and its digest here.
    #[test]
    fn the_profile_is_dockers_to_the_byte() {
        let digest = crate::io::digest::Digest::of(PROFILE.as_bytes()).to_string();
        assert_eq!(digest, "sha256:536529b665dd0972c37bfb569f5d4ac8a53592e7b00752bc39ff063ca9864c74");
        let profile: serde_json::Value = serde_json::from_str(PROFILE).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let actions: std::collections::BTreeSet<_> =
            profile["syscalls"].as_array().unwrap().iter().map(|rule| rule["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"].into());
    }

    fn machine(arch: &'static str, kernel: (u32, u32)) -> Machine {
        Machine { arch, oci: oci::Arch::ScmpArchNative, kernel }
    }

    fn named(machine: &Machine) -> Vec<String> {
        let profile = Profile::read().unwrap();
        profile.rules(machine, &[]).iter().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_for_capabilities_other_processors_and_newer_kernels_do_not_hold() {
        let names = named(&machine("amd64", (6, 1)));
        let has = |name: &str| names.iter().any(|other| other == name);
        for name in ["read", "ptrace", "arch_prctl", "modify_ldt", "clone", "clone3", "socket", "personality"] {
            assert!(has(name), "no {name}");
        }
        for name in ["bpf", "mount", "unshare", "setns", "keyctl", "io_uring_setup", "cacheflush", "chroot", "mbind"] {
            assert!(!has(name), "{name}");
        }
        assert!(!named(&machine("amd64", (4, 7))).iter().any(|name| name == "ptrace"));
        let arm = named(&machine("arm64", (6, 1)));
        assert!(arm.iter().any(|name| name == "cacheflush") && !arm.iter().any(|name| name == "arch_prctl"));
        assert_eq!(version("6.18.44-fc"), (6, 18));
    }

    #[test]
    fn clone3_is_refused_by_a_filter_of_its_own() {
        let profile = Profile::read().unwrap();
        let (allowed, refused) = calls(&profile.rules(&Machine::this(), &[]), 1).unwrap();
        let number = |call: Sysno| i64::from(call.id());
        assert_eq!(allowed[&number(Sysno::read)].len(), 0);
        for name in ["newfstatat", "mmap", "execve", "exit_group", "futex", "openat", "rseq", "statx"] {
            assert!(allowed.contains_key(&number(super::call(name).unwrap())), "{name}");
        }
        assert_eq!(allowed[&number(Sysno::personality)].len(), 5);
        assert_eq!(allowed[&number(Sysno::socket)].len(), 3);
        assert_eq!(allowed[&number(Sysno::clone)].len(), 1);
        assert!(!allowed.contains_key(&number(Sysno::clone3)) && !allowed.contains_key(&number(Sysno::bpf)));
        assert_eq!(refused.keys().collect::<Vec<_>>(), [&38]);
        assert_eq!(refused[&38].keys().collect::<Vec<_>>(), [&number(Sysno::clone3)]);
        assert_eq!(Filters::new().unwrap().0.len(), 2);
    }

    #[test]
    fn all_that_this_processor_knows_of_the_profile_is_in_the_filter() {
        let unknown: std::collections::BTreeSet<_> =
            named(&Machine::this()).into_iter().filter(|name| call(name).is_none()).collect();
        let unknown: Vec<_> = unknown.into_iter().collect();
        // Those of 32-bit kernels and of other processors.
        let others = [
            "_llseek",
            "_newselect",
            "chown32",
            "clock_adjtime64",
            "clock_getres_time64",
            "clock_gettime64",
            "clock_nanosleep_time64",
            "fadvise64_64",
            "fchown32",
            "fcntl64",
            "fstat64",
            "fstatat64",
            "fstatfs64",
            "ftruncate64",
            "futex_time64",
            "getegid32",
            "geteuid32",
            "getgid32",
            "getgroups32",
            "getresgid32",
            "getresuid32",
            "getuid32",
            "io_pgetevents_time64",
            "ipc",
            "lchown32",
            "lstat64",
            "mmap2",
            "mq_timedreceive_time64",
            "mq_timedsend_time64",
            "ppoll_time64",
            "pselect6_time64",
            "recv",
            "recvmmsg_time64",
            "riscv_hwprobe",
            "rt_sigtimedwait_time64",
            "sched_rr_get_interval_time64",
            "semtimedop_time64",
            "send",
            "sendfile64",
            "setfsgid32",
            "setfsuid32",
            "setgid32",
            "setgroups32",
            "setregid32",
            "setresgid32",
            "setresuid32",
            "setreuid32",
            "setuid32",
            "sigprocmask",
            "sigreturn",
            "socketcall",
            "stat64",
            "statfs64",
            "timer_gettime64",
            "timer_settime64",
            "timerfd_gettime64",
            "timerfd_settime64",
            "truncate64",
            "ugetrlimit",
            "utimensat_time64",
            "waitpid",
        ];
        if cfg!(target_arch = "x86_64") {
            assert_eq!(unknown, others);
        }
    }

    #[test]
    fn other_runtimes_get_the_same_rules() {
        let section = section().unwrap();
        assert_eq!(section.default_errno_ret(), Some(1));
        assert_eq!(section.architectures().as_ref().map(Vec::len), Some(1));
        let profile = Profile::read().unwrap();
        assert_eq!(section.syscalls().as_ref().map(Vec::len), Some(profile.rules(&Machine::this(), &[]).len()));
    }
}
