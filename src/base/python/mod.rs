//! Python packages: resolved and installed by uv, compiled ahead by the Python that will run them.
//!
//! Invariants: only wheels, each checked against a digest, and nothing in them is run. What [`install`] and
//! [`bytecode::compile`] write depends on the locked packages alone: not on the host's Python, the version of uv, the
//! folder, the user, or the order in which things happened.
//!
//! Wheels: <https://packaging.python.org/en/latest/specifications/binary-distribution-format/>; installed packages:
//! <https://packaging.python.org/en/latest/specifications/recording-installed-packages/>.

pub mod bytecode;
pub mod index;
mod install;
mod interpreter;
mod pyc;
mod record;
mod refusal;
mod resolve;
mod savings;
mod split;
mod unmet;
mod uv;
mod wheels;

pub use install::{Installation, install, site_packages};
pub use interpreter::{Loader, Runner, StandIn, take_over};
pub use pyc::put_in_order;
pub use refusal::Refusal;
pub use resolve::{Aim, Resolution, resolve};
pub use savings::{Large, large};
pub use split::{Files, Group, Stored, files, owners, split};
pub use unmet::{Unmet, environments, unmet};
pub use uv::{Uv, fetch as fetch_uv, finding, wheel as uv_wheel};
pub use wheels::{Wheel, fetch as fetch_wheels};

use std::io;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::python::PythonVersion;
use crate::image::oci::platform::Platform;
use crate::image::store;
use crate::io::confine;
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// A Python package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Normalised (PEP 503).
    pub name: String,
    /// PEP 440.
    pub version: String,
    /// The URL of the wheel or archive, only where the requirement itself names one (PEP 508, `name @ URL`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of the wheels that will do, sorted.
    pub digests: Vec<Digest>,
}

impl Package {
    /// Whether it comes from an index or an address, and is no wheel of the project's own.
    pub fn is_fetched(&self) -> bool {
        self.url.as_ref().is_none_or(|url| url.contains("://"))
    }
}

/// What the packages are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The version of Python.
    pub python: PythonVersion,
    /// The processor.
    pub platform: Platform,
    /// The glibc of the base, as `(2, 36)`.
    pub glibc: (u32, u32),
}

impl Target {
    /// The release of its Python that packages have to fit. Of series that have ended it is the last one, which images have:
    /// packages of that time ask for more than the first.
    fn release(&self) -> String {
        match self.python.minor() {
            6 => "3.6.15".to_owned(),
            7 => "3.7.17".to_owned(),
            _ => self.python.to_string(),
        }
    }

    /// uv's name of the platform.
    fn uv_platform(&self) -> String {
        /// Newest that uv knows; wheels for it run on later ones too (PEP 600).
        const NEWEST: (u32, u32) = (2, 40);
        let (major, minor) = self.glibc.min(NEWEST);
        format!("{}-manylinux_{major}_{minor}", self.platform.machine())
    }
}

/// Why there are no packages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no. The message names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A program could not be started.
    #[error(transparent)]
    Confine(#[from] confine::Error),
    /// uv is neither installed nor in the cache, and the network is off.
    #[error("uv is needed, but not installed, not in the cache, and the network is off (--offline)")]
    UvOffline,
    /// uv could not be fetched.
    #[error("uv {version} could not be fetched from the package index")]
    FetchUv {
        /// Which one.
        version: &'static str,
        /// The index's answer, or why none came.
        source: Box<index::Error>,
    },
    /// The wheel of uv is not what it should be, though its digest is right.
    #[error("the wheel of uv could not be read")]
    Wheel(#[from] zip::result::ZipError),
    /// There is no Python in the folder that should lend one.
    #[error("there is no Python {python} in {}", tree.display())]
    NoPython {
        /// The version that is wanted.
        python: PythonVersion,
        /// The unpacked base.
        tree: PathBuf,
    },
    /// uv understood and said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// uv's answer is not what its version should give.
    #[error("the answer of uv could not be understood: {0}")]
    Answer(String),
    /// A requirement can be no wheel.
    #[error("`{name}` is required from {from}, but only wheels can be installed")]
    NotAWheel {
        /// The package.
        name: String,
        /// Where it would come from.
        from: &'static str,
    },
    /// The index has other wheels than those whose digests are pinned.
    #[error("no wheel of `{name}` {version} has a digest that the requirements pin")]
    OtherDigests {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
    /// A local wheel lies where no bundle can take it along.
    #[error("the wheel {} of `{name}` lies outside of the project", path.display())]
    OutsideWheel {
        /// The package.
        name: String,
        /// The wheel.
        path: PathBuf,
    },
    /// An installed package breaks the rules of wheels.
    #[error("the package in {} is malformed: {why}", path.display())]
    Package {
        /// The file that shows it.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// Python could not compile the packages ahead.
    #[error("the packages could not be compiled ahead: {0}")]
    Compile(String),
    /// The sandbox that should run Python failed.
    #[error("the Python of the base could not be run")]
    Runner(#[source] io::Error),
}

/// What helps where uv cannot be fetched.
fn other_uv() -> String {
    format!("name an index that has it by UV_DEFAULT_INDEX, or put uv {} on PATH", uv::KNOWN_TEXT)
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Confine(error) => error.explain(),
            Self::UvOffline => ErrorKind::Unavailable
                .named("python/uv-offline")
                .hint(format!("install uv {}, or run once with the network on", uv::KNOWN_TEXT)),
            Self::FetchUv { .. } => ErrorKind::Unavailable.named("python/fetch-uv").hint(other_uv()),
            Self::Wheel(_) => ErrorKind::Failure.named("python/uv-wheel").hint(other_uv()),
            Self::NoPython { .. } => ErrorKind::Failure.named("python/not-there"),
            Self::Refused(refusal) => refusal.explain(),
            Self::Answer(_) => ErrorKind::Failure.named("python/uv-answer"),
            Self::NotAWheel { name, .. } => ErrorKind::Failure.named("python/not-a-wheel").hint(format!(
                "build a wheel (`uv build --wheel`), and require it by its path: `{name} @ ./wheels/…whl`"
            )),
            Self::OtherDigests { .. } => ErrorKind::Failure.named("python/other-digests").hint(
                "the package index may have been tampered with; if the pinned digest is that of a source \
                 distribution, pin that of a wheel",
            ),
            Self::OutsideWheel { .. } => ErrorKind::Failure
                .named("python/outside-wheel")
                .hint("copy it into the project, and require it by its relative path"),
            Self::Package { .. } => ErrorKind::Failure.named("python/package"),
            Self::Compile(_) => ErrorKind::Failure.named("python/compile"),
            Self::Runner(error) => ErrorKind::Failure.named("python/runner").or(error),
        }
    }
}
