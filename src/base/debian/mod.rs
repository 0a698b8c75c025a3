//! Debian packages as the lowest layers of an image, taken from Debian's own signed archive and from nothing else.
//!
//! The way of the bytes: `InRelease` (signed by a key in [`Keyring`]) names `Packages` by digest, `Packages` names each
//! package by digest, and the lock ([`Resolution`]) keeps those. [`Source`] says which mirror they come from,
//! [`resolve`] computes the lock, [`fetch`] brings the packages into the store, [`base_layer`] and [`packages_layer`]
//! write them as one layer.
//!
//! Invariants: nothing unverified is used; no maintainer script runs; a lock names no host, so any mirror will do; same
//! lock, same layer. After the Debian Policy Manual 4.7 (section 5 on control files, 7 on relationships) and the
//! repository format (<https://wiki.debian.org/DebianRepository/Format>).

mod alternatives;
mod assemble;
mod deb;
mod error;
mod fetch;
mod keyring;
mod libraries;
mod mirror;
mod packages;
pub mod relation;
mod release;
mod resolve;
mod suite;
#[cfg(test)]
mod testing;
mod trim;

pub use assemble::{RULES, User, base_layer, packages_layer};
pub use deb::{DebError, control};
pub use error::Error;
pub use fetch::fetch;
pub use keyring::Keyring;
pub use libraries::{usual_packages, with_libraries};
pub use mirror::{Source, Wanted};
pub use resolve::{Request, Resolution, resolve};
pub use suite::{Suite, UnknownSuite};

/// Packages whose programs commands take for granted: those marked as essential (Debian policy 4.7, section 3.8), but for what
/// installs packages and what starts machines, and the one with `useradd`.
pub const ESSENTIAL: [&str; 15] = [
    "bash",
    "bsdutils",
    "coreutils",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "mawk",
    "passwd",
    "perl-base",
    "sed",
    "tar",
    "util-linux",
];

use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::python::PythonVersion;
use crate::io::archive::ArchivePath;
use crate::io::digest::Digest;

/// A Debian package as a lock names it: the same on every mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
    /// `amd64`, `arm64` or `all`.
    pub architecture: String,
    /// The archive that it lies in.
    pub archive: Archive,
    /// Where it lies there, from the archive's root.
    #[schemars(with = "String")]
    pub file: ArchivePath,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of the whole .deb.
    pub digest: Digest,
}

/// Which of Debian's archives: the security team has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// The suite and its updates.
    Main,
    /// The suite's security updates.
    Security,
}

/// The packages that a base is made of, before their dependencies: with the Python `python`.
///
/// - `base-files`, `base-passwd`: what kind of system this is, and who its users are.
/// - `ca-certificates`: services call others over TLS.
/// - `dash`: `/bin/sh`, for entrypoints and for `subprocess` with a shell.
/// - `libc-bin`: the locale `C.UTF-8`, which Python switches to, and `ldconfig`.
/// - `tzdata`: without it `zoneinfo.ZoneInfo("Europe/Berlin")` fails in Python's own library.
/// - `python3-minimal`: the link `/usr/bin/python3`.
/// - `libstdc++6`: manylinux wheels count on it (PEP 600), and SciPy's do not bring it.
pub fn base_packages(python: Option<PythonVersion>) -> Vec<String> {
    let mut names =
        ["base-files", "base-passwd", "ca-certificates", "dash", "libc-bin", "tzdata"].map(str::to_owned).to_vec();
    if let Some(version) = python {
        names.extend([format!("python{version}"), "python3-minimal".to_owned(), "libstdc++6".to_owned()]);
    }
    names
}

/// What all of `threads` came to, or the first error of them in their order. All are started before one is awaited.
fn joined<'scope, T>(
    threads: impl Iterator<Item = ScopedJoinHandle<'scope, Result<T, Error>>>,
) -> Result<Vec<T>, Error> {
    let threads: Vec<_> = threads.collect();
    let results: Vec<_> =
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect();
    results.into_iter().collect()
}
