//! uv, the program: the one on PATH if it is of a version that is known, else a pinned wheel of it, verified and kept in
//! the store.
//!
//! Invariants: uv is given texts that Ekiben has written ([`crate::base::requirements`]), runs in an empty folder,
//! writes into its cache, its scratch folder and the environment that is asked for, and starts nothing but this program
//! ([`StandIn`]): the kernel holds it to that ([`crate::io::confine`]).
//!
//! The person's own settings for uv hold (environment, user configuration, certificates, proxies, netrc); of those in
//! the project, what says where packages lie; of those in folders above it, nothing.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Error, StandIn, index};
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::confine::{self, Confined, Network};
use crate::io::digest::Digest;
use crate::io::explain::carry;
use crate::io::finding::{Finding, Level};
use crate::io::progress::Unit;

/// The versions of uv that will do. From 0.11 on, a pylock.toml for one platform names only the wheels that fit it. Later
/// ones than are known may ask Python something else.
const KNOWN: std::ops::RangeInclusive<(u64, u64)> = (0, 11)..=(0, 13);
/// [`KNOWN`] in words.
pub(super) const KNOWN_TEXT: &str = "0.11 to 0.13";
/// The version that is fetched.
pub(super) const VERSION: &str = "0.13.8";
/// Largest uv that is taken out of a wheel, in bytes.
const LARGEST: u64 = 256 << 20;

/// Brings the pinned uv for `platform` into the store, as a wheel; gives its file's name and its digest.
///
/// # Errors
/// When it is not there, and cannot be fetched.
pub fn fetch(session: &Session, platform: Platform) -> Result<(String, Digest), Error> {
    let (file, digest, size) = wheel(platform)?;
    if !session.store.has_blob(&digest) {
        if session.client.is_offline() {
            return Err(Error::UvOffline);
        }
        let task = session.progress.task("Fetching", format!("uv {VERSION}"), Unit::Bytes, Some(size));
        let wheel = index::Wheel { package: "uv", file: &file, digest: &digest, size };
        index::fetch(session, &wheel, &task)
            .map_err(|source| Error::FetchUv { version: VERSION, source: Box::new(source) })?;
        // So that pruning spares it.
        session.store.cache("uv", &digest, VERSION, vec![digest])?;
        task.finish(format!("Fetched uv {VERSION}"));
    }
    Ok((file, digest))
}

/// The wheel of the pinned uv for a platform: its file's name, its digest, and its size in bytes. Both have a program that is linked
/// statically, as this one may be: it starts where there is no C library.
///
/// # Errors
/// None that is known; the reader of digests reserves them.
pub fn wheel(platform: Platform) -> Result<(String, Digest, u64), Error> {
    let (tags, digest, size) = match platform {
        Platform::Amd64 => (
            "musllinux_1_1_x86_64",
            "sha256:29451c60f5e8b07403e0a175d5229efc36b0289b34143ff4aaa499a5dd52553a",
            19_139_972,
        ),
        Platform::Arm64 => (
            "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
            "sha256:0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d",
            17_953_056,
        ),
    };
    Ok((format!("uv-{VERSION}-py3-none-{tags}.whl"), digest.parse().map_err(io::Error::other)?, size))
}

/// uv, ready to be run.
#[derive(Clone, Debug)]
pub struct Uv {
    program: PathBuf,
    stand_in: StandIn,
    cache: PathBuf,
    network: Network,
}

impl Uv {
    /// Finds uv, or fetches it. `stand_in` will answer it in the place of a Python.
    ///
    /// # Errors
    /// When it could not be fetched; see [`Error`].
    pub fn find(session: &Session, stand_in: StandIn) -> Result<Self, Error> {
        if let Some(program) = confine::binary_on_path("uv") {
            let scratch = session.store.scratch()?;
            if will_do(&program, scratch.path()).unwrap_or(false) {
                session.progress.detail(format!("uv: {}", program.display()));
                return Self::at(session, program, stand_in);
            }
            session.progress.detail(format!("{} is not of a version that is known ({KNOWN_TEXT})", program.display()));
        }
        Self::pinned(session, stand_in)
    }

    /// The pinned version, whatever is on PATH.
    ///
    /// # Errors
    /// As [`Uv::find`].
    pub fn pinned(session: &Session, stand_in: StandIn) -> Result<Self, Error> {
        let (_, digest, _) = wheel(Platform::host().map_err(carry)?)?;
        let folder = session.store.snapshot::<Error>(&digest, |folder| {
            fetch(session, Platform::host().map_err(carry)?)?;
            unzip(&session.store.read_blob(&digest, LARGEST)?, &folder.join("uv"))
        })?;
        Self::at(session, folder.join("uv"), stand_in)
    }

    /// The program, with the cache that the person's settings give it.
    fn at(session: &Session, program: PathBuf, stand_in: StandIn) -> Result<Self, Error> {
        let scratch = session.store.scratch()?;
        let asked = of_person(Confined::new(&program).args(["cache", "dir", "--color", "never"]));
        let output = asked.run(scratch.path())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let theirs = match output.status.success() && !text.is_empty() {
            true => Some(std::path::absolute(&text)?).filter(|cache| is_writable(cache)),
            false => None,
        };
        let cache = match theirs {
            Some(cache) => cache,
            // Whoever has no home that can be written to has a store.
            None if std::env::var_os("UV_CACHE_DIR").is_none() => {
                let cache = session.store.cache_of("uv")?;
                session.progress.detail(format!("uv keeps what it fetches in {}", cache.display()));
                cache
            }
            None if output.status.success() => {
                return Err(Error::Answer(format!("its cache {text} cannot be written to")));
            }
            None => return Err(Error::Answer(super::refusal::words(&output.stderr))),
        };
        let network = if session.client.is_offline() { Network::Closed } else { Network::Open };
        Ok(Self { program, stand_in, cache, network })
    }

    /// A command `uv pip COMMAND`, to be run in `scratch`, an empty folder, in which its settings lie.
    pub(super) fn pip(&self, command: &str, scratch: &Path) -> Result<Confined, Error> {
        let stand_in = self.stand_in.path(scratch)?;
        let mut uv = of_person(Confined::new(&self.program))
            .args(["pip", command, "--color", "never", "--no-progress", "--cache-dir"])
            .args([&self.cache])
            .args(["--project".as_ref(), scratch.as_os_str(), "--python".as_ref(), stand_in.as_os_str()])
            .env("UV_PYTHON_DOWNLOADS", "never")
            .may_start(stand_in)
            .may_write(&self.cache)
            .network(self.network);
        uv = index::for_uv().into_iter().fold(uv, |uv, (name, value)| uv.env(name, value));
        // The machine's certificates, as the rest of Ekiben uses them, where the person has not chosen: a company's own
        // authority is among them. The second name is the one that uv had before 0.12.
        if Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            for setting in ["UV_SYSTEM_CERTS", "UV_NATIVE_TLS"] {
                uv = uv.env(setting, std::env::var_os(setting).unwrap_or_else(|| "true".into()));
            }
        }
        if self.network == Network::Closed {
            uv = uv.args(["--offline"]);
        }
        // Where `uv auth login` keeps passwords; reading them, it locks the folder.
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
        match data.map(|data| data.join("uv/credentials")).filter(|folder| folder.is_dir()) {
            Some(credentials) => Ok(uv.may_write(credentials)),
            None => Ok(uv),
        }
    }
}

/// Whether a folder is there, or can be made, and files can be put into it.
fn is_writable(folder: &Path) -> bool {
    fs::create_dir_all(folder).is_ok() && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// With the person's own variables. Paths in them are meant from the current folder, and uv starts in another one.
fn of_person(uv: Confined) -> Confined {
    const PATHS: [&str; 8] = [
        "NETRC",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "SSL_CLIENT_CERT",
        "UV_CACHE_DIR",
        "UV_CONFIG_FILE",
        "UV_CONSTRAINT",
        "UV_FIND_LINKS",
    ];
    let relative = PATHS.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    // Some may be lists, or addresses; the cache may have to be made.
    let is_path = |name: &str, value: &Path| value.is_relative() && (value.exists() || name == "UV_CACHE_DIR");
    let relative = relative.filter(|(name, value)| is_path(name, Path::new(value)));
    let absolute = relative.filter_map(|(name, value)| Some((name, std::path::absolute(value).ok()?)));
    absolute.fold(uv.env_of_this(is_kept), |uv, (name, path)| uv.env(name, path))
}

/// Variables that are the person's to set for uv: its own, and what they say of the network and of where things lie. Not
/// what would make it look at, or write, another Python or another folder than it is told.
fn is_kept(name: &str) -> bool {
    const KEPT: [&str; 12] = [
        "HOME",
        "USER",
        "LANG",
        "NETRC",
        "NO_PROXY",
        "ALL_PROXY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "SSL_CLIENT_CERT",
        "RUST_LOG",
    ];
    const OTHERS: [&str; 14] = [
        "PYTHON",
        "SYSTEM_PYTHON",
        "MANAGED_PYTHON",
        "NO_MANAGED_PYTHON",
        "PYTHON_PREFERENCE",
        "WORKING_DIR",
        "PROJECT",
        "COMPILE_BYTECODE",
        "NO_VERIFY_HASHES",
        "NO_BINARY",
        "NO_BINARY_PACKAGE",
        "TORCH_BACKEND",
        "LINK_MODE",
        "ENV_FILE",
    ];
    match name.strip_prefix("UV_") {
        Some(setting) => !OTHERS.contains(&setting) && !setting.starts_with("PYTHON_"),
        None => KEPT.contains(&name.to_ascii_uppercase().as_str()) || name.starts_with("XDG_"),
    }
}

/// Major and minor version of `uv 0.13.8 (x86_64-unknown-linux-gnu)`.
fn version(stdout: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(stdout).ok()?;
    let mut numbers = text.strip_prefix("uv ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether a uv is of a version that is known.
fn will_do(program: &Path, scratch: &Path) -> Result<bool, confine::Error> {
    let output = Confined::new(program).args(["--version"]).run(scratch)?;
    Ok(version(&output.stdout).is_some_and(|version| KNOWN.contains(&version)))
}

/// Which uv is used, with the store at `root`. Nothing is fetched.
pub fn finding(root: &Path) -> Finding {
    const NAME: &str = "uv";
    let wheel = Platform::host().ok().and_then(|platform| wheel(platform).ok());
    let is_kept = wheel.is_some_and(|(_, digest, _)| root.join("blobs/sha256").join(digest.hex()).exists());
    let instead = match is_kept {
        true => format!("uv {VERSION} of the store is used"),
        false => format!("uv {VERSION} is fetched from the package index when it is needed"),
    };
    let Some(program) = confine::binary_on_path("uv") else { return Finding::ok(NAME, instead) };
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => return Finding::of_error(NAME, Level::Problem, &error),
    };
    let shown = program.display();
    match will_do(&program, scratch.path()) {
        Ok(true) => Finding::ok(NAME, shown.to_string()),
        Ok(false) => Finding::ok(NAME, format!("{shown} is not of a version that is known ({KNOWN_TEXT}): {instead}")),
        Err(error) => Finding::of_error(NAME, Level::Problem, &error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_uv_are_read() {
        assert_eq!(version(b"uv 0.13.8 (x86_64-unknown-linux-gnu)\n"), Some((0, 13)));
        assert_eq!(version(b"uv 1.0.0\n"), Some((1, 0)));
        assert_eq!(version(b"something else"), None);
        assert!(!KNOWN.contains(&(1, 0)) && !KNOWN.contains(&(0, 9)) && KNOWN.contains(&(0, 12)));
    }

    #[test]
    fn variables_that_lead_elsewhere_are_not_handed_on() {
        for kept in
            ["UV_INDEX_URL", "UV_INDEX_MINE_PASSWORD", "https_proxy", "HTTPS_PROXY", "NETRC", "HOME", "XDG_CACHE_HOME"]
        {
            assert!(is_kept(kept), "{kept}");
        }
        for other in
            ["PYTHONPATH", "PYTHONSTARTUP", "LD_PRELOAD", "GIT_DIR", "VIRTUAL_ENV", "UV_PYTHON", "UV_ENV_FILE", "PATH"]
        {
            assert!(!is_kept(other), "{other}");
        }
    }
}
