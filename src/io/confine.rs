//! Other programs that do something for us with the model's files, locked in: what they may write and start is held by
//! the kernel, not by their options.
//!
//! Invariants: such a program starts in an empty folder, with variables that are named here alone; it and all that it
//! starts can write nowhere but where it was let, and can start nothing but what it was let; it gains no rights by
//! set-user-id files, and ends with this process.
//!
//! Landlock (Linux 5.13, `landlock(7)`) holds it; where the kernel has none, a mount namespace in which everything else is
//! read-only and not executable. Where there is neither, nothing is started. Whoever may not use the network can open no
//! socket: a filter of system calls sees to it (`seccomp(2)`), as Landlock knows TCP alone, and only from Linux 6.7 on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use fs_err as fs;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, Scope,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{getegid, geteuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::io::elf;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::finding::Finding;
use crate::io::tied::tied;

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no means for it, or does not grant them.
    #[error("{} cannot be locked in on this machine: the kernel has no Landlock, and {why}", program.display())]
    NoMeans {
        /// The program.
        program: PathBuf,
        /// What stands against the other means.
        why: String,
    },
    /// It could not be started.
    #[error("{} could not be started", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A folder or file that it may use is not there. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoMeans { .. } => ErrorKind::Sandbox.named("confine/no-means").hint(
                "use Linux 5.13 or later with Landlock (in a container: a seccomp profile that lets it through), \
                 or let this user make user namespaces",
            ),
            Self::Start { source, .. } => ErrorKind::Failure.named("confine/start").or(source),
            Self::Io(error) => error.explain(),
        }
    }
}

/// What holds a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Rules of the Linux security module of that name.
    Landlock,
    /// A mount namespace, in a user namespace where that is needed.
    Namespaces,
}

impl Means {
    /// The means that this kernel has; Landlock where it can be.
    pub fn here() -> Self {
        /// `LANDLOCK_CREATE_RULESET_VERSION`
        const VERSION: libc::c_uint = 1;
        // SAFETY: with this flag, the call takes no memory and makes nothing.
        let version =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
        if version > 0 { Self::Landlock } else { Self::Namespaces }
    }
}

/// What holds other programs here.
pub fn finding() -> Finding {
    const NAME: &str = "landlock";
    match Means::here() {
        Means::Landlock => Finding::ok(NAME, "uv is held by Landlock"),
        Means::Namespaces => Finding::ok(NAME, "the kernel has none: uv is held by namespaces"),
    }
}

/// A program and what it may do.
#[derive(Clone, Debug)]
pub struct Confined {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    execute: Vec<PathBuf>,
    load: Vec<PathBuf>,
    write: Vec<PathBuf>,
    /// What it may read beside what it may write; all, where it is none.
    read: Option<Vec<PathBuf>>,
    network: Network,
}

/// Whether a confined program may open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It may.
    Open,
    /// It can open no socket.
    Closed,
}

impl Confined {
    /// `program`, an absolute path, which may write nothing and start nothing but itself.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self {
            execute: vec![program.clone()],
            program,
            args: Vec::new(),
            env: Vec::new(),
            load: Vec::new(),
            write: Vec::new(),
            read: None,
            network: Network::Closed,
        }
    }

    /// With further arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With those of this process's variables that `is_kept` names.
    #[must_use]
    pub fn env_of_this(mut self, is_kept: impl Fn(&str) -> bool) -> Self {
        self.env.extend(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(&is_kept)));
        self
    }

    /// It may start this file too.
    #[must_use]
    pub fn may_start(mut self, program: impl Into<PathBuf>) -> Self {
        self.execute.push(program.into());
        self
    }

    /// It may load libraries out of this folder, beyond those of the C library. (Landlock does not tell loading from
    /// reading.)
    #[must_use]
    pub fn may_load(mut self, folder: impl Into<PathBuf>) -> Self {
        self.load.push(folder.into());
        self
    }

    /// It may write below this folder, which is there.
    #[must_use]
    pub fn may_write(mut self, folder: impl Into<PathBuf>) -> Self {
        self.write.push(folder.into());
        self
    }

    /// It may read nothing but these files and folders, what it may start, and what it may write. Held by Landlock; namespaces
    /// hold no reading.
    #[must_use]
    pub fn may_read_only(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.read = Some(paths.into_iter().collect());
        self
    }

    /// Whether it may use the network.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Runs it to its end in `scratch`, a folder of its own that it may write to.
    ///
    /// # Errors
    /// See [`Error`]. That the program failed is told by its status.
    pub fn run(self, scratch: &Path) -> Result<Output, Error> {
        self.run_by(scratch, Means::here())
    }

    /// The same, held by `means`.
    ///
    /// # Errors
    /// As [`Confined::run`].
    pub fn run_by(mut self, scratch: &Path, means: Means) -> Result<Output, Error> {
        let scratch = fs::canonicalize(scratch)?;
        self.write.push(scratch.clone());
        let loaders = self.execute.iter().filter_map(|program| elf::Program::of(program).ok()??.loader);
        self.execute.extend(loaders.filter(|loader| loader.is_file()).collect::<BTreeSet<_>>());
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(&scratch)
            .env_clear()
            .envs(self.env.iter().cloned())
            .env("TMPDIR", &scratch);
        let humble = || Ok(set_no_new_privs()?);
        // SAFETY: between fork and exec, prctl(2) is safe to call.
        unsafe { tied(&mut command).pre_exec(humble) };
        let failed = match means {
            Means::Landlock => self.held_by_landlock(&mut command).map(|()| None)?,
            Means::Namespaces => Some(self.held_by_namespaces(&mut command, &scratch)?),
        };
        if self.network == Network::Closed {
            self.held_by_filter(&mut command)?;
        }
        output(&mut command).map_err(|source| match failed {
            Some(()) if matches!(source.raw_os_error(), Some(libc::EPERM | libc::ENOSPC | libc::EUSERS)) => {
                Error::NoMeans {
                    program: self.program.clone(),
                    why: format!("no user namespace can be made: {source}"),
                }
            }
            _ => Error::Start { program: self.program.clone(), source },
        })
    }

    /// Refuses what opens a socket. It is the last that is put in place: no privileges can be gained by then.
    fn held_by_filter(&self, command: &mut Command) -> Result<(), Error> {
        let why = |error: String| Error::NoMeans { program: self.program.clone(), why: error };
        let filter = no_sockets().map_err(|error| why(error.to_string()))?;
        let install = move || {
            seccompiler::apply_filter(&filter).map_err(|error| match error {
                seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => error,
                _ => io::ErrorKind::Unsupported.into(),
            })
        };
        // SAFETY: the closure makes system calls alone, on memory that was made before.
        unsafe { command.pre_exec(install) };
        Ok(())
    }

    /// Rules for all that Landlock knows of writing and executing. Reading is free where nothing else is said: whoever started
    /// this may read it.
    fn held_by_landlock(&self, command: &mut Command) -> Result<(), Error> {
        let rules =
            self.rules().map_err(|error| Error::NoMeans { program: self.program.clone(), why: error.to_string() })?;
        let number = rules.as_raw_fd();
        let restrict = move || {
            let _kept_open = &rules;
            // SAFETY: the call takes two numbers.
            match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, number, 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec, a system call alone is safe.
        unsafe { command.pre_exec(restrict) };
        Ok(())
    }

    fn rules(&self) -> Result<OwnedFd, Box<dyn std::error::Error>> {
        let abi = ABI::V6;
        let written = AccessFs::from_write(abi);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let held = written | AccessFs::Execute;
        let held = if self.read.is_some() { held | read } else { held };
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(held)?
            .scope(Scope::from_all(abi))?;
        rules = rules.handle_access(AccessNet::BindTcp)?;
        if self.network == Network::Closed {
            rules = rules.handle_access(AccessNet::ConnectTcp)?;
        }
        let mut rules = rules.create()?;
        for folder in &self.write {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, written))?;
        }
        for file in &self.execute {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(file)?, AccessFs::Execute))?;
        }
        rules = rules.add_rule(PathBeneath::new(PathFd::new("/dev/null")?, AccessFs::WriteFile))?;
        if let Some(paths) = &self.read {
            for path in paths.iter().chain(&self.write) {
                rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, read))?;
            }
            for file in self.execute.iter().map(PathBuf::as_path).chain([Path::new("/dev/null")]) {
                rules = rules.add_rule(PathBeneath::new(PathFd::new(file)?, AccessFs::ReadFile))?;
            }
        }
        let rules: Option<OwnedFd> = rules.into();
        Ok(rules.ok_or("it is switched off")?)
    }

    /// The C library's files, which lie beside its loader.
    fn libraries(&self) -> Vec<PathBuf> {
        const NAMES: [&str; 10] = [
            "libc.so.6",
            "libdl.so.2",
            "libgcc_s.so.1",
            "libm.so.6",
            "libnss_dns.so.2",
            "libnss_files.so.2",
            "libpthread.so.0",
            "libresolv.so.2",
            "librt.so.1",
            "libstdc++.so.6",
        ];
        let is_loader = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld-"));
        let loaders = self.execute.iter().filter(|path| is_loader(path)).filter_map(|path| fs::canonicalize(path).ok());
        let folders: BTreeSet<_> = loaders.filter_map(|loader| loader.parent().map(Path::to_owned)).collect();
        let files = folders.iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
        files.filter(|path| path.is_file()).collect()
    }

    /// A mount namespace in which each mount is read-only and without executables, but for what may be written to or
    /// started, which are mounts of their own.
    fn held_by_namespaces(&self, command: &mut Command, scratch: &Path) -> Result<(), Error> {
        let (user, group) = (geteuid(), getegid());
        let maps: [(CString, String); 3] = [
            (c"/proc/self/setgroups".to_owned(), "deny".to_owned()),
            (c"/proc/self/uid_map".to_owned(), format!("{user} {user} 1")),
            (c"/proc/self/gid_map".to_owned(), format!("{group} {group} 1")),
        ];
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
        let scratch = text(scratch)?;
        let here = fs::read_to_string("/proc/self/mountinfo")?;
        let mut held = here.lines().filter_map(Mounted::read).collect::<Vec<_>>();
        // Lower ones first: what is mounted over them is there afterwards too.
        held.dedup_by(|later, earlier| later.point == earlier.point);
        let flags_of = |path: &Path| {
            let above =
                held.iter().filter(|mounted| path.starts_with(Path::new(OsStr::from_bytes(mounted.point.as_bytes()))));
            above.max_by_key(|mounted| mounted.point.as_bytes().len()).map_or(MsFlags::empty(), |mounted| mounted.flags)
        };
        let mut own = Vec::new();
        for folder in &self.write {
            own.push((text(folder)?, flags_of(folder) | MsFlags::MS_NOEXEC));
        }
        for file in self.execute.iter().chain(&self.load).cloned().chain(self.libraries()) {
            let file = fs::canonicalize(file)?;
            let flags = (flags_of(&file) | MsFlags::MS_RDONLY) & !MsFlags::MS_NOEXEC;
            own.push((text(&file)?, flags));
        }
        let enter = move || {
            let none = None::<&str>;
            if !(geteuid().is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok()) {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                for (file, content) in &maps {
                    write_file(file, content.as_bytes())?;
                }
            }
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            for (path, _) in &own {
                mount(Some(path.as_c_str()), path.as_c_str(), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            }
            for mounted in &held {
                let flags = mounted.flags | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
                match remount(&mounted.point, flags) {
                    // What this user cannot reach, or is covered by another mount, the program cannot reach either.
                    Ok(()) | Err(Errno::EACCES | Errno::ENOENT | Errno::EINVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            for (path, flags) in &own {
                remount(path, *flags | MsFlags::MS_NOSUID)?;
            }
            // The folder that it is in is still that of the mount below.
            Ok(nix::unistd::chdir(scratch.as_c_str())?)
        };
        // SAFETY: the closure makes system calls alone, on memory that was made before.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }
}

/// A filter that refuses what a socket could come from: also by way of the ring of requests, whose operations no filter sees, and
/// by the numbers that x32 has for the same calls.
fn no_sockets() -> Result<BpfProgram, seccompiler::BackendError> {
    const X32: i64 = 0x4000_0000;
    let calls = [libc::SYS_socket, libc::SYS_io_uring_setup];
    let calls: BTreeMap<i64, Vec<_>> =
        calls.into_iter().flat_map(|call| [call, call | X32]).map(|call| (call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(calls, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// What a program gives. One that this process has just written is "busy" (`execve(2)`, `ETXTBSY`) for as long as a child
/// that another thread forked meanwhile has not yet come to its own `execve`, which closes the file that was written.
fn output(command: &mut Command) -> io::Result<Output> {
    const TRIES: u32 = 100;
    let mut output = command.output();
    for _ in 1..TRIES {
        if !matches!(&output, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        output = command.output();
    }
    output
}

/// A mount, as `/proc/self/mountinfo` has it (`proc(5)`).
struct Mounted {
    point: CString,
    flags: MsFlags,
}

impl Mounted {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(4);
        let (point, options) = (fields.next()?, fields.next()?);
        let flags = options.split(',').fold(MsFlags::empty(), |flags, option| {
            flags
                | match option {
                    "ro" => MsFlags::MS_RDONLY,
                    "nosuid" => MsFlags::MS_NOSUID,
                    "nodev" => MsFlags::MS_NODEV,
                    "noexec" => MsFlags::MS_NOEXEC,
                    "noatime" => MsFlags::MS_NOATIME,
                    "nodiratime" => MsFlags::MS_NODIRATIME,
                    "relatime" => MsFlags::MS_RELATIME,
                    _ => MsFlags::empty(),
                }
        });
        Some(Self { point: CString::new(unescaped(point)).ok()?, flags })
    }
}

/// A path with blanks and the like as octal numbers.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let number = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

fn remount(point: &CString, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, point.as_c_str(), none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, none)
}

/// Writes a file in one call, without memory of its own.
fn write_file(path: &CString, content: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends in a zero byte, and the content is as long as is said.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        let result = if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        libc::close(file);
        result
    }
}

/// The program called `name`, in a folder of PATH that is named from the root: others are another one in each project's
/// folder.
pub fn on_path(name: &str) -> Option<PathBuf> {
    programs(name).next()
}

/// The same, if it can be locked in: a script would need to start others.
pub fn binary_on_path(name: &str) -> Option<PathBuf> {
    programs(name).filter(|path| is_binary(path)).find_map(|path| fs::canonicalize(path).ok())
}

fn programs(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    let is_executable =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let name = name.to_owned();
    folders.into_iter().map(move |folder| folder.join(&name)).filter(is_executable)
}

/// Whether a file is no script (`elf(5)`).
fn is_binary(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = |mut file: fs::File| io::Read::read_exact(&mut file, &mut magic);
    fs::File::open(path).and_then(read).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEANS: [Means; 2] = [Means::Landlock, Means::Namespaces];

    fn python() -> PathBuf {
        binary_on_path("python3.11").or_else(|| binary_on_path("python3")).unwrap_or_else(|| "/usr/bin/python3".into())
    }

    fn run(means: Means, script: &str, more: impl FnOnce(Confined) -> Confined) -> (Output, tempfile::TempDir) {
        let scratch = tempfile::tempdir().unwrap();
        let confined = Confined::new(python()).args(["-I", "-S", "-c", script]);
        let folders = ["/usr/lib/python3.11", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"].map(Path::new);
        let confined = folders.into_iter().filter(|path| path.is_dir()).fold(confined, Confined::may_load);
        (more(confined).run_by(scratch.path(), means).unwrap(), scratch)
    }

    #[test]
    fn a_program_that_is_still_open_elsewhere_is_waited_for() {
        let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = folder.path().join("true");
        fs::copy("/bin/true", &program).unwrap();
        let written = fs::OpenOptions::new().append(true).open(&program).unwrap();
        assert_eq!(Command::new(&program).output().unwrap_err().kind(), io::ErrorKind::ExecutableFileBusy);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                drop(written);
            });
            assert!(Confined::new(&program).run(scratch.path()).unwrap().status.success());
        });
    }

    #[test]
    fn nothing_is_written_but_where_it_may() {
        let outside = tempfile::tempdir().unwrap();
        let allowed = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("there"), "before").unwrap();
        let [o, a] = [&outside, &allowed].map(|folder| folder.path().display().to_string());
        let script = r"
import os
tried = dict(
    create=lambda: open('OUT/new', 'w'), change=lambda: open('OUT/there', 'r+').write('x'),
    remove=lambda: os.unlink('OUT/there'), folder=lambda: os.mkdir('OUT/f'), link=lambda: os.symlink('a', 'OUT/l'),
    rename=lambda: os.rename('OUT/there', 'OUT/gone'), hard=lambda: os.link('OUT/there', 'IN/h'),
    truncate=lambda: os.truncate('OUT/there', 0), pipe=lambda: os.mkfifo('OUT/p'))
for name, attempt in tried.items():
    try: attempt(); print('did', name)
    except OSError: pass
open('IN/x', 'w').write('x'); open('here', 'w').write('x'); os.rename('IN/x', 'IN/moved'); print('end')
";
        let script = script.replace("OUT", &o).replace("IN", &a);
        for means in MEANS {
            let (output, _scratch) = run(means, &script, |confined| confined.may_write(allowed.path()));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("end") && !said.contains("did"), "{means:?}: {said}{errors}");
            assert_eq!(fs::read_to_string(outside.path().join("there")).unwrap(), "before");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn nothing_is_started_but_what_may() {
        let script = r"
import os, shutil, subprocess, sys
shutil.copy('/bin/true', 'own'); os.chmod('own', 0o755)
for program in ['/bin/true', '/bin/sh', './own', sys.executable]:
    try: print(program, subprocess.run([program, '-c', '0']).returncode)
    except OSError as error: print('refused')
";
        for means in MEANS {
            let (output, _scratch) = run(means, script, |confined| confined);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let lines: Vec<_> = said.lines().collect();
            let expected = format!("{} 0", python().display());
            assert_eq!(
                lines,
                ["refused", "refused", "refused", expected.as_str()],
                "{means:?}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    #[test]
    fn variables_and_folder_are_its_own() {
        for means in MEANS {
            let (output, scratch) = run(means, "import os; print(os.getcwd(), sorted(os.environ))", |confined| {
                confined.env("GIVEN", "1").env_of_this(|name| name == "HOME")
            });
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let here = fs::canonicalize(scratch.path()).unwrap();
            // Python itself sets the last one.
            let said = said.trim().replace(", 'LC_CTYPE'", "");
            assert_eq!(said, format!("{} ['GIVEN', 'HOME', 'TMPDIR']", here.display()), "{means:?}");
        }
    }

    #[test]
    fn the_network_is_closed_where_it_should_be() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("import socket; socket.create_connection(('127.0.0.1', {port})); print('connected')");
        let (open, _scratch) = run(Means::Landlock, &script, |confined| confined.network(Network::Open));
        assert!(open.stdout.starts_with(b"connected"));
        for means in MEANS {
            let (closed, _scratch) = run(means, &script, |confined| confined);
            assert!(!closed.status.success() && String::from_utf8_lossy(&closed.stderr).contains("PermissionError"));
        }
        // No other kind either, which Landlock knows nothing of.
        let script = "import socket\nfor kind in [(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM), \
                      (socket.AF_INET6, socket.SOCK_DGRAM), (16, socket.SOCK_RAW)]:\n    \
                      try: socket.socket(*kind); print('opened', kind)\n    except PermissionError: pass\nprint('end')";
        for means in MEANS {
            let (tried, _scratch) = run(means, script, |confined| confined);
            assert_eq!(String::from_utf8_lossy(&tried.stdout), "end\n", "{}", String::from_utf8_lossy(&tried.stderr));
        }
    }

    #[test]
    fn nothing_is_read_but_what_may() {
        let (secret, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&secret, &given] {
            fs::write(folder.path().join("file"), "text").unwrap();
        }
        let [s, g] = [&secret, &given].map(|folder| folder.path().display().to_string());
        let script = "
import os
for attempt in [lambda: open('SECRET/file').read(), lambda: os.listdir('SECRET'), lambda: open('/etc/passwd').read(),
                lambda: os.listdir('/'), lambda: open('/proc/self/environ').read()]:
    try: attempt(); print('did')
    except PermissionError: pass
print(open('GIVEN/file').read(), os.listdir('GIVEN'), open('own', 'w').write('x'), open('own').read())
";
        let script = script.replace("SECRET", &s).replace("GIVEN", &g);
        let (read, _scratch) = run(Means::Landlock, &script, |confined| {
            let folders = ["/usr/lib", "/lib"].map(PathBuf::from);
            confined.may_read_only(folders.into_iter().chain([given.path().to_owned()]))
        });
        let errors = String::from_utf8_lossy(&read.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&read.stdout), "text ['file'] 1 x\n", "{errors}");
    }

    #[test]
    fn paths_of_mounts_are_read() {
        assert_eq!(unescaped(r"/a\040b\134c"), b"/a b\\c");
        assert_eq!(unescaped(r"/a\9"), br"/a\9");
        let mounted = Mounted::read("36 35 98:0 /mnt1 /mnt2 ro,nosuid,noatime master:1 - ext3 /dev/root rw").unwrap();
        assert_eq!(mounted.point.as_bytes(), b"/mnt2");
        assert_eq!(mounted.flags, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME);
    }

    #[test]
    fn scripts_are_told_from_programs() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(!is_binary(&script));
        assert!(is_binary(Path::new("/proc/self/exe")));
    }
}
