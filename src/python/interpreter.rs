//! A Python that runs on this machine: the host's own, or one lent by the unpacked base.
//!
//! It reads and compiles, and runs no code of a package. Which one it is shows in no output.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::io::Write as _;

use super::{Error, Runner};
use crate::platform::Platform;

/// A Python that uv and pip may use.
#[derive(Clone, Debug)]
pub enum Interpreter {
    /// The host's, by its path.
    Host(PathBuf),
    /// The base's, started through the base's own loader.
    Loader(Loader),
}

impl Interpreter {
    /// The host's `python3`, if it has one.
    pub fn host() -> Option<Self> {
        which::which("python3").ok().map(Self::Host)
    }

    /// A program that is this Python; what has to be written for it goes into `scratch`.
    pub(super) fn program(&self, scratch: &Path) -> Result<PathBuf, Error> {
        match self {
            Self::Host(path) => Ok(path.clone()),
            Self::Loader(loader) => loader.script(scratch),
        }
    }
}

/// A Python in an unpacked base, started through the base's own dynamic loader (`ld.so(8)`), so that the host needs
/// neither Python nor a matching libc, and no sandbox.
#[derive(Clone, Debug)]
pub struct Loader {
    loader: PathBuf,
    libraries: String,
    python: PathBuf,
    home: PathBuf,
}

impl Loader {
    /// The Python `python`, as `3.11`, of the base that is unpacked in `tree`; the base is one for this machine's
    /// processor.
    ///
    /// # Errors
    /// [`Error::NoPython`] when it is not there.
    pub fn new(tree: &Path, python: &str) -> Result<Self, Error> {
        let missing = || Error::NoPython { python: python.to_owned(), tree: tree.to_owned() };
        let tree = fs::canonicalize(tree)?;
        let platform = Platform::host().map_err(|_| missing())?;
        let multiarch = platform.multiarch();
        let name = match platform {
            Platform::Amd64 => "ld-linux-x86-64.so.2",
            Platform::Arm64 => "ld-linux-aarch64.so.1",
        };
        // Not by way of `lib64`: it may hold an absolute link, which would lead to the host's loader.
        let folders = [format!("usr/lib/{multiarch}"), format!("lib/{multiarch}"), "usr/local/lib".to_owned()];
        let loader = folders.iter().map(|folder| tree.join(folder).join(name)).find(|path| path.is_file());
        let home = ["usr", "usr/local"].into_iter().map(|home| tree.join(home));
        let mut found = home.map(|home| (home.join(format!("bin/python{python}")), home));
        let (python, home) = found.find(|(python, _)| python.is_file()).ok_or_else(missing)?;
        let libraries: Vec<String> = folders.iter().map(|folder| tree.join(folder).display().to_string()).collect();
        Ok(Self { loader: loader.ok_or_else(missing)?, libraries: libraries.join(":"), python, home })
    }

    /// A script that starts it, for programs that want to be given one file.
    fn script(&self, scratch: &Path) -> Result<PathBuf, Error> {
        let path = scratch.join("python3");
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let text = format!(
            "#!/bin/sh\nPYTHONHOME={} exec {} --library-path {} {} \"$@\"\n",
            quoted(&self.home),
            quoted(&self.loader),
            quoted(Path::new(&self.libraries)),
            quoted(&self.python)
        );
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

/// The fallback where no sandbox can be started.
impl Runner for Loader {
    fn python(&self, arguments: &[&str], _writable: &Path) -> Result<Output, Box<dyn std::error::Error + Send + Sync>> {
        let output = Command::new(&self.loader)
            .args(["--library-path", &self.libraries])
            .arg(&self.python)
            .args(arguments)
            .env_clear()
            .env("PYTHONHOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .output();
        output.map_err(|source: io::Error| Error::Start { program: self.python.clone(), source }.into())
    }
}
