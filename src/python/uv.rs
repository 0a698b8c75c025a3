//! uv, the program: the one on PATH if recent enough, else a pinned wheel of it, verified and kept in the store.
//!
//! The person's own settings for uv hold (environment, user configuration, certificates, proxies, netrc), and those of
//! the project's folder; those of folders above it, and whatever environment is active, do not.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::refusal::words;
use super::{Error, Interpreter};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::progress::Unit;
use crate::session::Session;

/// Gives a wheel of pip, for hosts that have Python without it.
pub type PipWheel<'a> = &'a dyn Fn() -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>>;

/// The oldest uv that will do: from 0.11 on, a pylock.toml for one platform names only the wheels that fit it.
const OLDEST: (u64, u64) = (0, 11);
/// [`OLDEST`] in words.
pub(super) const OLDEST_TEXT: &str = "0.11";
/// The version that is fetched.
const VERSION: &str = "0.13.8";
/// Largest uv that is taken out of a wheel, in bytes.
const LARGEST: u64 = 256 << 20;

/// The wheel of [`VERSION`] for a platform (17 MB): its platform tag, and its digest.
fn wheel(platform: Platform) -> (&'static str, &'static str) {
    match platform {
        Platform::Amd64 => {
            ("manylinux_2_17_x86_64", "sha256:e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984")
        }
        Platform::Arm64 => {
            ("manylinux_2_17_aarch64", "sha256:0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d")
        }
    }
}

/// uv, ready to be run.
#[derive(Clone, Debug)]
pub struct Uv {
    program: PathBuf,
    interpreter: Interpreter,
    offline: bool,
}

impl Uv {
    /// Finds uv, or fetches it with the pip of `interpreter`, or with the pip in the wheel that `pip_wheel` gives.
    /// uv itself will use `interpreter` to look at Python.
    ///
    /// # Errors
    /// When it could not be fetched; see [`Error`].
    pub fn find(session: &Session, interpreter: Interpreter, pip_wheel: PipWheel<'_>) -> Result<Self, Error> {
        let offline = session.client.is_offline();
        if let Some(program) = which::which("uv").ok().filter(|program| is_recent(program)) {
            session.progress.detail(format!("uv: {}", program.display()));
            return Ok(Self { program, interpreter, offline });
        }
        Self::pinned(session, interpreter, pip_wheel)
    }

    /// The pinned version, whatever is on PATH.
    ///
    /// # Errors
    /// As [`Uv::find`].
    pub fn pinned(session: &Session, interpreter: Interpreter, pip_wheel: PipWheel<'_>) -> Result<Self, Error> {
        let offline = session.client.is_offline();
        let platform = Platform::host().map_err(io::Error::other)?;
        let (tag, digest) = wheel(platform);
        let digest: Digest = digest.parse().map_err(io::Error::other)?;
        let folder = session.store.tree::<Error>(&digest, |folder| {
            if !session.store.has_blob(&digest) {
                if offline {
                    return Err(Error::UvOffline);
                }
                let task = session.progress.task("Fetching", format!("uv {VERSION}"), Unit::Items, Some(1));
                fetch(session, &interpreter, tag, &digest, pip_wheel)?;
                task.finish(format!("Fetched uv {VERSION}"));
            }
            unzip(&session.store.read_blob(&digest, LARGEST)?, &folder.join("uv"))
        })?;
        Ok(Self { program: folder.join("uv"), interpreter, offline })
    }

    /// A command `uv pip COMMAND` that runs in `project`. `scratch` is an empty folder that outlives the run.
    pub(super) fn pip(&self, command: &str, project: &Path, scratch: &Path) -> Result<Command, Error> {
        // uv takes its configuration from the folder, else from the nearest one above it that has one. Where the
        // project has none, an empty one elsewhere keeps it from looking further up.
        let configured = project.join("uv.toml").exists() || project.join("pyproject.toml").exists();
        if !configured {
            fs::write(scratch.join("uv.toml"), "")?;
        }
        let mut uv = Command::new(&self.program);
        uv.args(["pip", command, "--color", "never", "--no-progress"])
            .arg("--project")
            .arg(if configured { project } else { scratch })
            .arg("--python")
            .arg(self.interpreter.program(scratch)?)
            .current_dir(project)
            .env("UV_PYTHON_DOWNLOADS", "never");
        // The machine's certificates, as the rest of Ekiben uses them, where the person has not chosen: a company's own
        // authority is among them. The second name is the one that uv had before 0.12.
        if Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            for setting in ["UV_SYSTEM_CERTS", "UV_NATIVE_TLS"] {
                uv.env(setting, std::env::var_os(setting).unwrap_or_else(|| "true".into()));
            }
        }
        if self.offline {
            uv.arg("--offline");
        }
        // What would make it look at, or write, another Python or another folder than it is told.
        for variable in ["VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME"] {
            uv.env_remove(variable);
        }
        for setting in ["PYTHON", "SYSTEM_PYTHON", "MANAGED_PYTHON", "WORKING_DIR", "PROJECT", "COMPILE_BYTECODE"] {
            uv.env_remove(format!("UV_{setting}"));
        }
        for setting in ["NO_VERIFY_HASHES", "NO_BINARY", "TORCH_BACKEND", "LINK_MODE"] {
            uv.env_remove(format!("UV_{setting}"));
        }
        Ok(uv)
    }
}

fn is_recent(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| version(&output.stdout).is_some_and(|version| version >= OLDEST))
}

/// Major and minor version of `uv 0.13.8 (x86_64-unknown-linux-gnu)`.
fn version(stdout: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(stdout).ok()?;
    let mut numbers = text.strip_prefix("uv ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What Python ends with where it has no pip.
const NO_PIP: &str = "No module named pip";

/// Has pip download the wheel, so that the person's own index settings, certificates and proxies hold, and keeps it.
fn fetch(
    session: &Session,
    interpreter: &Interpreter,
    tag: &str,
    digest: &Digest,
    pip_wheel: PipWheel<'_>,
) -> Result<(), Error> {
    let scratch = session.store.scratch()?;
    let python = interpreter.program(scratch.path())?;
    let downloads = scratch.path().join("downloads");
    let requirement = scratch.path().join("uv.txt");
    fs::write(&requirement, format!("uv=={VERSION} --hash={digest}\n"))?;
    let download = |pip: &[&OsStr]| {
        let mut command = Command::new(&python);
        // uv has thousands of wheels: held against this one's tags alone, they take pip 0.25 s less.
        command
            .args(pip)
            .args(["download", "--platform", tag, "--implementation", "py", "--abi", "none"])
            .args(["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-input"])
            .arg("--dest")
            .arg(&downloads)
            .arg("--requirement")
            .arg(&requirement)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        run(&mut command)
    };
    let mut output = download(&["-m".as_ref(), "pip".as_ref()])?;
    if String::from_utf8_lossy(&output.stderr).trim_end().ends_with(NO_PIP) {
        output = download(&[pip_wheel().map_err(Error::NoPip)?.join("pip").as_os_str()])?;
    }
    if !output.status.success() {
        return Err(Error::FetchUv { version: VERSION, words: words(&output.stderr) });
    }
    let nothing = || Error::FetchUv { version: VERSION, words: "pip downloaded nothing".to_owned() };
    let wheel = fs::read_dir(&downloads)?.next().ok_or_else(nothing)??.path();
    let size = fs::metadata(&wheel)?.len();
    session.store.put_blob(&mut fs::File::open(&wheel)?, digest, size)?;
    // So that pruning spares it.
    session.store.remember("uv", digest, VERSION, vec![*digest])?;
    Ok(())
}

/// Takes the program out of the wheel.
fn unzip(wheel: &[u8], program: &Path) -> Result<(), Error> {
    let mut archive = zip::ZipArchive::new(io::Cursor::new(wheel))?;
    let member = archive.by_name(&format!("uv-{VERSION}.data/scripts/uv"))?;
    let mut file = fs::File::create(program)?;
    io::copy(&mut io::Read::take(member, LARGEST), &mut file)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    file.sync_all()?;
    Ok(())
}

/// Runs a program to its end. It is killed when this process is: it would go on writing into a folder that is swept.
pub(super) fn run(command: &mut Command) -> Result<Output, Error> {
    let die_with_parent = || Ok(set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: between fork and exec, prctl(2) is safe to call.
    unsafe { command.pre_exec(die_with_parent) };
    command.output().map_err(|source| Error::Start { program: command.get_program().into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_uv_are_read() {
        assert_eq!(version(b"uv 0.13.8 (x86_64-unknown-linux-gnu)\n"), Some((0, 13)));
        assert_eq!(version(b"uv 1.0.0\n"), Some((1, 0)));
        assert_eq!(version(b"something else"), None);
        assert!((1, 0) > OLDEST && (0, 9) < OLDEST);
    }
}
