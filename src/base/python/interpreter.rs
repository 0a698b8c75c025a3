//! A Python on this machine: the one that uv is told of, which is none, and the base's, started through its own loader.
//!
//! uv looks at a Python before it does anything. It is given this program, which answers in Python's place
//! ([`take_over`]): what packages have to fit is said to uv by its options, and no Python of the host is ever started.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};

use fs_err as fs;

use super::Error;
use crate::formats::python::PythonVersion;
use crate::image::oci::platform::Platform;
use crate::io::confine::Confined;
use crate::io::explain::carry;

/// Runs the Python of the base.
pub trait Runner {
    /// Runs it with `arguments`. The folder `writable` is there under its own path and can be written; the network
    /// and the rest of the host need not be there.
    ///
    /// # Errors
    /// When it could not be started. That it failed is told by its status.
    fn python(&self, arguments: &[&str], writable: &Path) -> io::Result<Output>;
}

/// The program that answers for Python: one whose `main` begins with [`take_over`].
#[derive(Clone, Debug)]
pub struct StandIn(Option<PathBuf>);

impl StandIn {
    /// This program itself.
    pub fn this() -> Self {
        Self(None)
    }

    /// Another one, for tests of the library.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self(Some(program.into()))
    }

    /// Its path; a copy in `scratch` where the file that this process was started from is gone, as after an upgrade.
    pub(super) fn path(&self, scratch: &Path) -> Result<PathBuf, Error> {
        if let Some(program) = &self.0 {
            return Ok(program.clone());
        }
        let running = fs::metadata("/proc/self/exe")?;
        let path = fs::read_link("/proc/self/exe")?;
        if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino())) {
            return Ok(path);
        }
        let copy = scratch.join("python3");
        fs::copy("/proc/self/exe", &copy)?;
        Ok(copy)
    }
}

/// Answers if this program was started by uv in the place of a Python, and returns the exit code.
///
/// uv 0.11 to 0.13 run `PYTHON -I -B -c SCRIPT`, where the script calls `get_interpreter_info.main`, and read JSON.
pub fn take_over() -> Option<ExitCode> {
    let args: Vec<_> = std::env::args_os().skip(1).take(5).collect();
    let [isolated, no_bytecode, command, script] = args.as_slice() else { return None };
    let is_asked = [isolated, no_bytecode, command].into_iter().eq(["-I", "-B", "-c"].map(OsStr::new))
        && script.to_string_lossy().contains("python.get_interpreter_info");
    if !is_asked {
        return None;
    }
    let written = std::io::Write::write_all(&mut std::io::stdout(), answer().to_string().as_bytes());
    Some(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A Python that is nowhere, with all that the versions of uv ask for.
fn answer() -> serde_json::Value {
    let machine = std::env::consts::ARCH;
    let os = serde_json::json!({ "name": "manylinux", "major": 2, "minor": 17 });
    let scheme = |root: &str, site: &str| {
        serde_json::json!({
            "purelib": format!("{root}{site}"), "platlib": format!("{root}{site}"),
            "include": format!("{root}include"), "scripts": format!("{root}bin"), "data": root,
        })
    };
    serde_json::json!({
        "result": "success",
        "markers": {
            "implementation_name": "cpython", "implementation_version": "3.11.0", "os_name": "posix",
            "platform_machine": machine, "platform_python_implementation": "CPython", "platform_release": "",
            "platform_system": "Linux", "platform_version": "", "python_full_version": "3.11.0",
            "python_version": "3.11", "sys_platform": "linux",
        },
        "platform": { "os": os, "arch": machine },
        "os": os,
        "arch": machine,
        "cpu_info": { "detected": { "kind": "flags", "flags": "" } },
        "manylinux_compatible": true,
        "standalone": false,
        "gil_disabled": false,
        "debug_enabled": false,
        "pointer_size": "64",
        "extension_suffixes": [],
        "sys_prefix": "/nowhere", "sys_base_prefix": "/nowhere", "sys_base_exec_prefix": "/nowhere",
        "sys_executable": "/nowhere/bin/python3", "sys_base_executable": "/nowhere/bin/python3",
        "sys_path": [], "site_packages": [], "stdlib": "/nowhere/lib/python3.11",
        "scheme": scheme("/nowhere/", "lib/python3.11/site-packages"),
        "virtualenv": scheme("", "lib/python3.11/site-packages"),
    })
}

/// A Python in an unpacked base, started through the base's own dynamic loader (`ld.so(8)`), so that the host needs
/// no matching libc, and no sandbox. The kernel holds it to the folder that it is given.
#[derive(Clone, Debug)]
pub struct Loader {
    loader: PathBuf,
    libraries: String,
    python: PathBuf,
    home: PathBuf,
    /// Python's own library.
    library: PathBuf,
}

impl Loader {
    /// The Python `python` of the base that is unpacked in `tree`; the base is one for this machine's
    /// processor.
    ///
    /// # Errors
    /// [`Error::NoPython`] when it is not there.
    pub fn new(tree: &Path, python: PythonVersion) -> Result<Self, Error> {
        let missing = || Error::NoPython { python, tree: tree.to_owned() };
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
        let version = python;
        let (python, home) = found.find(|(python, _)| python.is_file()).ok_or_else(missing)?;
        let library = home.join(format!("lib/python{version}"));
        let libraries: Vec<String> = folders.iter().map(|folder| tree.join(folder).display().to_string()).collect();
        Ok(Self { loader: loader.ok_or_else(missing)?, libraries: libraries.join(":"), python, home, library })
    }
}

/// The fallback where no sandbox can be started. Python reads its library and the folder that it is given, and nothing else: no
/// other program either, which the loader would start as well.
impl Runner for Loader {
    fn python(&self, arguments: &[&str], writable: &Path) -> io::Result<Output> {
        let python = Confined::new(&self.loader)
            .args(["--library-path", &self.libraries])
            .args([&self.python])
            .args(arguments.iter().copied())
            .env("PYTHONHOME", &self.home)
            .env("LC_ALL", "C.UTF-8");
        let folders = self.libraries.split(':').map(PathBuf::from).filter(|folder| folder.is_dir());
        let read: Vec<_> = folders.chain([self.library.clone(), self.python.clone()]).collect();
        let python = read.iter().fold(python, |python, path| python.may_load(path)).may_read_only(read);
        python.run(writable).map_err(carry)
    }
}
