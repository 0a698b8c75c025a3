//! What an image stands on: from what the manifest says to locked packages, and from those to layers.
//!
//! `auto` and `debian:SUITE` are assembled from Debian packages ([`crate::debian`]), `scratch` is nothing at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive::ArchivePath;
use crate::compress::Compression;
use crate::debian::{self, Package, Source, User, Wanted};
use crate::digest::Digest;
use crate::layer::{self, Layer};
use crate::layout;
use crate::manifest::{Debian, Manifest};
use crate::platform::Platform;
use crate::python::Target;
use crate::session::Session;

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Debian's archive or its packages.
    #[error("{0}")]
    Debian(#[from] debian::Error),
    /// The layer cannot be written.
    #[error("{0}")]
    Layer(#[from] layer::Error),
    /// The manifest names a base of a kind that cannot be read.
    #[error("the base `{base}` cannot be used: this version builds on `auto`, `debian:SUITE` and `scratch`")]
    Unsupported {
        /// As the manifest has it.
        base: String,
    },
    /// No Debian suite has the Python that was asked for.
    #[error("no Debian suite has Python {version}")]
    NoSuite {
        /// As `3.12`.
        version: String,
    },
    /// The suite has another Python than was asked for.
    #[error("Debian {suite} has Python {has}, the manifest asks for {wanted}")]
    OtherPython {
        /// Of the base.
        suite: String,
        /// Its Python.
        has: String,
        /// The manifest's.
        wanted: String,
    },
    /// Packages on a base that has no place for them.
    #[error("the base `scratch` has no {what}")]
    Scratch {
        /// `Python` or `Debian packages`.
        what: &'static str,
    },
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Debian(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Unsupported { .. } => Some("leave `base` out, and a Debian base is assembled".to_owned()),
            Self::NoSuite { .. } => Some("use Python 3.9, 3.11 or 3.13, which Debian's suites have".to_owned()),
            Self::OtherPython { has, .. } => Some(format!("set `base: auto`, or `version: \"{has}\"` below `python`")),
            Self::Scratch { .. } => Some("set `base: auto`".to_owned()),
        }
    }
}

/// What a manifest's base comes to, before anything is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Assembled from the packages of a suite, with its Python where the manifest needs one.
    Debian {
        /// As `bookworm`.
        suite: String,
        /// As `3.11`.
        python: Option<String>,
    },
    /// Nothing.
    Scratch,
}

/// A base as the lock has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    /// Assembled from Debian packages.
    Debian {
        /// As `bookworm`.
        suite: String,
        /// In the order of their names.
        packages: Vec<Package>,
    },
    /// Nothing.
    Scratch,
}

/// The suite of an image that needs no Python.
const DEFAULT_SUITE: &str = "bookworm";

impl Base {
    /// The base that `manifest` asks for.
    ///
    /// # Errors
    /// When it is of a kind that cannot be read, or has not the Python that is asked for.
    pub fn of(manifest: &Manifest) -> Result<Self, Error> {
        let wanted = manifest.python.as_ref().and_then(|python| python.version.clone());
        let needs_python = manifest.needs_python();
        match manifest.base.as_str() {
            "auto" => {
                let suite = match &wanted {
                    Some(version) => {
                        debian::suite_for_python(version).ok_or_else(|| Error::NoSuite { version: version.clone() })?
                    }
                    None => DEFAULT_SUITE,
                };
                Ok(Self::debian(suite, needs_python))
            }
            "scratch" if needs_python => Err(Error::Scratch { what: "Python" }),
            "scratch" if !manifest.system.packages.is_empty() => Err(Error::Scratch { what: "Debian packages" }),
            "scratch" => Ok(Self::Scratch),
            base => {
                let unsupported = || Error::Unsupported { base: base.to_owned() };
                let suite = base.strip_prefix("debian:").ok_or_else(unsupported)?;
                let has = debian::python_of(suite).ok_or_else(unsupported)?;
                match wanted {
                    Some(wanted) if wanted != has => {
                        Err(Error::OtherPython { suite: suite.to_owned(), has: has.to_owned(), wanted })
                    }
                    _ => Ok(Self::debian(suite, needs_python)),
                }
            }
        }
    }

    fn debian(suite: &str, needs_python: bool) -> Self {
        let python = debian::python_of(suite).filter(|_| needs_python).map(str::to_owned);
        Self::Debian { suite: suite.to_owned(), python }
    }

    /// The Python that it brings, as `3.11`.
    pub fn python(&self) -> Option<&str> {
        match self {
            Self::Debian { python, .. } => python.as_deref(),
            Self::Scratch => None,
        }
    }

    /// What Python packages on it are for; none without a Python.
    pub fn target(&self, platform: Platform) -> Option<Target> {
        match self {
            Self::Debian { suite, python: Some(python) } => {
                Some(Target { python: python.clone(), platform, glibc: glibc(suite) })
            }
            _ => None,
        }
    }

    /// Resolves the base, and the Debian packages that the manifest wants on top of it.
    ///
    /// # Errors
    /// When Debian's archive cannot be read, or has no such packages.
    pub fn lock(
        &self,
        session: &Session,
        manifest: &Manifest,
        platform: Platform,
    ) -> Result<(Locked, Vec<Package>), Error> {
        let Self::Debian { suite, python } = self else { return Ok((Locked::Scratch, Vec::new())) };
        let base = debian::base_packages(python.as_deref());
        let system = &manifest.system.packages;
        let request = debian::Request { suite, platform, base: &base, system, installed: "" };
        let resolution = debian::resolve(session, &source(manifest)?, &request)?;
        Ok((Locked::Debian { suite: suite.clone(), packages: resolution.base }, resolution.system))
    }
}

/// Who runs the program of an image.
pub fn user() -> User {
    let home = ArchivePath::new(format!("home/{}", layout::USER_NAME));
    // The name is a constant without `..`.
    let home = home.unwrap_or_else(|error| unreachable!("{error}"));
    User { name: layout::USER_NAME.to_owned(), uid: layout::USER, gid: layout::USER, home }
}

/// What Python packages on a locked base are for.
pub fn target(base: &Locked, python: &str, platform: Platform) -> Target {
    let suite = match base {
        Locked::Debian { suite, .. } => suite,
        Locked::Scratch => DEFAULT_SUITE,
    };
    Target { python: python.to_owned(), platform, glibc: glibc(suite) }
}

/// The version of the C library that wheels can count on.
fn glibc(suite: &str) -> (u32, u32) {
    match suite {
        "bullseye" => (2, 31),
        "bookworm" => (2, 36),
        _ => (2, 41),
    }
}

/// Where Debian's packages come from, for `manifest`.
fn source(manifest: &Manifest) -> Result<Source, Error> {
    let Debian { mirror, security, snapshot } = &manifest.debian;
    let (mirror, security, snapshot) = (mirror.as_deref(), security.as_deref(), snapshot.as_deref());
    Ok(Source::find(Wanted { mirror, security, snapshot })?)
}

/// Debian packages and all that they need, without a base to stand on: tools of a build.
///
/// # Errors
/// As [`Base::lock`].
pub fn packages(
    session: &Session,
    manifest: &Manifest,
    suite: &str,
    platform: Platform,
    names: &[String],
) -> Result<Vec<Package>, Error> {
    let request = debian::Request { suite, platform, base: &[], system: names, installed: "" };
    Ok(debian::resolve(session, &source(manifest)?, &request)?.system)
}

/// The layer of a base; none for `scratch`. Made once for the same packages.
///
/// # Errors
/// When a package is gone, damaged, or at odds with another.
pub fn layer(
    session: &Session,
    manifest: &Manifest,
    base: &Locked,
    platform: Platform,
    user: &User,
) -> Result<Option<Layer>, Error> {
    let Locked::Debian { suite, packages } = base else { return Ok(None) };
    let key =
        ("base", debian::RULES, crate::archive::epoch(), platform, suite, packages, (&user.name, user.uid, user.gid));
    let title = format!("Debian {suite}, {} packages", packages.len());
    made_once(session, manifest, &key, packages, &title, |writer| {
        Ok(debian::base_layer(session, packages, platform, Some(user), writer)?)
    })
    .map(Some)
}

/// The layer of Debian packages on top of a base; none where there are no packages. Made once for the same packages.
///
/// # Errors
/// As [`layer`].
pub fn system_layer(session: &Session, manifest: &Manifest, packages: &[Package]) -> Result<Option<Layer>, Error> {
    if packages.is_empty() {
        return Ok(None);
    }
    let key = ("system", debian::RULES, crate::archive::epoch(), packages);
    let title = format!("Debian packages, {}", packages.len());
    made_once(session, manifest, &key, packages, &title, |writer| {
        Ok(debian::packages_layer(session, packages, writer)?)
    })
    .map(Some)
}

fn made_once(
    session: &Session,
    manifest: &Manifest,
    key: &impl Serialize,
    packages: &[Package],
    title: &str,
    write: impl FnOnce(&mut crate::archive::Writer<&mut dyn std::io::Write>) -> Result<(), Error>,
) -> Result<Layer, Error> {
    // Numbers, texts and lists always serialise.
    let key = Digest::of(serde_json::to_vec(key).unwrap_or_default());
    if let Some(layer) = session.store.recall("debian-layer", &key) {
        return Ok(layer);
    }
    debian::fetch(session, &source(manifest)?, packages)?;
    let layer = Layer::write(&session.store, Compression::Gzip, title, write)?;
    let mut blobs: Vec<_> = packages.iter().map(|package| package.digest).collect();
    blobs.push(layer.digest);
    session.store.remember("debian-layer", &key, &layer, blobs).map_err(layer::Error::from)?;
    Ok(layer)
}
