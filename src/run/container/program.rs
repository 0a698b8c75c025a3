//! A program of the container's, and how this process becomes it: the container's own, and what joins it later.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

use super::Failure;

/// A program that was found in the container, with all that it is given.
pub(crate) struct Program {
    file: File,
    name: String,
    args: Vec<CString>,
    env: Vec<CString>,
}

enum File {
    /// In the container.
    Path(CString),
    /// Open in this process, and closed by becoming it.
    Open(OwnedFd),
}

impl Program {
    /// The program that `args` begins with, looked for in the `PATH` of `env`. To be called where its user can see what
    /// there is.
    ///
    /// # Errors
    /// [`Failure::Command`] when there is none that could be run.
    pub(crate) fn find(args: &[String], env: &[String]) -> Result<Self, Failure> {
        let name = args.first().cloned().unwrap_or_default();
        let path = find(&name, env).map_err(|(why, missing)| Failure::Command {
            program: name.clone(),
            why: why.to_owned(),
            missing,
        })?;
        match CString::new(path.as_os_str().as_encoded_bytes()) {
            Ok(path) => Self::new(File::Path(path), name, args, env),
            Err(_) => Err(zero_byte(name)),
        }
    }

    /// One that is open in this process, statically linked.
    ///
    /// # Errors
    /// [`Failure::Command`] when the arguments or variables cannot be given to a program.
    pub(crate) fn open(file: OwnedFd, args: &[String], env: &[String]) -> Result<Self, Failure> {
        Self::new(File::Open(file), args.first().cloned().unwrap_or_default(), args, env)
    }

    fn new(file: File, name: String, args: &[String], env: &[String]) -> Result<Self, Failure> {
        let texts = |texts: &[String]| texts.iter().map(|text| CString::new(text.as_bytes())).collect::<Result<_, _>>();
        match (texts(args), texts(env)) {
            (Ok(args), Ok(env)) => Ok(Self { file, name, args, env }),
            _ => Err(zero_byte(name)),
        }
    }

    /// Becomes it. Returns only when it cannot be run.
    pub(crate) fn run(&self) -> Failure {
        let Err(error) = match &self.file {
            File::Path(path) => nix::unistd::execve(path, &self.args, &self.env),
            File::Open(file) => nix::unistd::execveat(file, c"", &self.args, &self.env, AtFlags::AT_EMPTY_PATH),
        };
        let missing = error == Errno::ENOENT;
        let why = if missing { "the interpreter that it asks for is not in the image" } else { error.desc() };
        Failure::Command { program: self.name.clone(), why: why.to_owned(), missing }
    }
}

/// Gives signals the meaning that programs expect: this one's ways with them are inherited.
pub(crate) fn reset_signals() {
    // The supervisor blocks signals, Rust ignores SIGPIPE, and shells let what they start in the background ignore SIGINT.
    for number in Signal::iterator() {
        // SAFETY: the default action runs no code of this process. Two signals have no other.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
    let _ = SigSet::all().thread_unblock();
}

fn zero_byte(program: String) -> Failure {
    let why = "an argument or a variable contains a zero byte".to_owned();
    Failure::Command { program, why, missing: false }
}

/// Where the program is. Else why it cannot be run, and whether that is because there is none.
fn find(name: &str, env: &[String]) -> Result<PathBuf, (&'static str, bool)> {
    let folders = if name.contains('/') {
        ""
    } else {
        env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default()
    };
    let mut why = ("there is no such program in the image", true);
    for folder in folders.split(':') {
        let path = Path::new(folder).join(name);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => why = ("it is a folder", false),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => why = ("it is not executable", false),
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                why = ("the container's user may not reach it", false);
            }
            Err(_) => {}
        }
    }
    Err(why)
}
