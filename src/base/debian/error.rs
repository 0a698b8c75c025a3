//! What can go wrong between a list of names and a layer.

use std::path::PathBuf;

use super::{DebError, Suite};
use crate::image::{download, store};
use crate::io::archive::ArchivePath;
use crate::io::digest::Mismatch;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::did_you_mean;

/// Why there is no base made of Debian packages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of a mirror cannot be one.
    #[error("`{url}` is no address of a Debian mirror")]
    Mirror {
        /// As it was given.
        url: String,
    },
    /// Nothing says where the security updates are.
    #[error("the archive of security updates that belongs to {mirror} is not known")]
    NoSecurity {
        /// The mirror of the main archive.
        mirror: String,
    },
    /// The configuration of the host's apt, or a file below a `file://` mirror, cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The keyring is none.
    #[error("{name} holds no OpenPGP public keys")]
    Keyring {
        /// Where the keys come from.
        name: String,
        /// What OpenPGP misses in it.
        source: Box<pgp::errors::Error>,
    },
    /// Something could not be downloaded.
    #[error(transparent)]
    Fetch(#[from] download::Error),
    /// The mirror does not have the suite.
    #[error("there is no suite `{suite}` at {url}")]
    NoSuite {
        /// The suite.
        suite: String,
        /// What was asked for.
        url: String,
    },
    /// Nobody known has signed it.
    #[error("{url} is not signed by Debian: {reason}")]
    Signature {
        /// The signed file.
        url: String,
        /// Why it is not believed.
        reason: String,
    },
    /// It is signed, but says something that cannot be.
    #[error("{url} cannot be used: {reason}")]
    Release {
        /// The signed file.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// It is too old to be believed: newer security updates might be withheld.
    #[error("{url} was valid until {until}")]
    Expired {
        /// The signed file.
        url: String,
        /// As it says itself.
        until: String,
    },
    /// The index of packages has other bytes than the signed file says.
    #[error("{url} is not what the signed release says")]
    Tampered {
        /// The index.
        url: String,
        /// What differs.
        source: Mismatch,
    },
    /// The index of packages cannot be understood.
    #[error("the index of packages {url} cannot be read: {reason}")]
    Index {
        /// The index.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// No package has the name.
    #[error("there is no package `{name}` in Debian {suite} for {architecture}")]
    Unknown {
        /// As it was asked for.
        name: String,
        /// The suite.
        suite: Suite,
        /// The architecture.
        architecture: &'static str,
        /// A name that there is and that looks alike.
        similar: Option<String>,
    },
    /// A package needs another that the suite does not have in a fitting version.
    #[error("the package `{package}` needs `{dependency}`, which Debian {suite} does not have")]
    Unsatisfied {
        /// Who needs it.
        package: String,
        /// What is needed, as the package says it.
        dependency: String,
        /// The suite.
        suite: Suite,
    },
    /// A locked package is nowhere any more.
    #[error("the package {package} {version} of the lock is gone from {}", tried.join(" and "))]
    Gone {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// The archives that were asked.
        tried: Vec<String>,
    },
    /// A package cannot be unpacked.
    #[error("the package `{package}` cannot be unpacked")]
    Deb {
        /// Its name.
        package: String,
        /// What is wrong with it.
        source: DebError,
    },
    /// Two packages bring different files of the same name.
    #[error("the packages `{first}` and `{second}` both bring `/{path}`")]
    Conflict {
        /// The file.
        path: ArchivePath,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A package brings a file below what is no folder in another.
    #[error("the package `{package}` brings `/{path}`, but `/{above}` is no folder")]
    NotAFolder {
        /// Whose file it is.
        package: String,
        /// The file.
        path: ArchivePath,
        /// What is in its way.
        above: ArchivePath,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The layer could not be written.
    #[error("the layer of Debian packages cannot be written")]
    Write(#[source] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Mirror { .. } => {
                ErrorKind::Failure.named("debian/mirror").hint("it has to begin with http://, https:// or file://")
            }
            Self::NoSecurity { .. } => {
                ErrorKind::Failure.named("debian/no-security").hint("set EKIBEN_DEBIAN_SECURITY_MIRROR to its address")
            }
            Self::Read { .. } => ErrorKind::Failure.named("debian/read"),
            Self::Keyring { .. } => ErrorKind::Failure
                .named("debian/keyring")
                .hint("EKIBEN_DEBIAN_KEYRING has to name a file made with `gpg --export`"),
            Self::Fetch(error) => error.explain(),
            Self::NoSuite { .. } => ErrorKind::Failure.named("debian/no-suite").hint(format!(
                "the suites {} are known; old ones move to Debian's archive server, which `debian.mirror` can \
                 name",
                Suite::ALL.map(Suite::name).join(", ")
            )),
            Self::Signature { .. } => ErrorKind::Unavailable
                .named("debian/signature")
                .hint("try another mirror with EKIBEN_DEBIAN_MIRROR; keys of your own go into EKIBEN_DEBIAN_KEYRING"),
            Self::Release { .. } => ErrorKind::Unavailable.named("debian/release"),
            Self::Expired { .. } => ErrorKind::Unavailable.named("debian/expired").hint(
                "the mirror is out of date, or the clock of this machine is wrong: try another mirror with \
                 EKIBEN_DEBIAN_MIRROR",
            ),
            Self::Tampered { .. } => ErrorKind::Unavailable
                .named("debian/tampered")
                .hint("the mirror may be in the middle of an update: try again in some minutes, or another one"),
            Self::Index { .. } => ErrorKind::Unavailable.named("debian/index"),
            Self::Unknown { similar, .. } => {
                ErrorKind::Failure.named("debian/no-package").maybe(similar.as_deref().map(did_you_mean))
            }
            Self::Unsatisfied { .. } => ErrorKind::Failure.named("debian/unsatisfied"),
            Self::Gone { .. } => ErrorKind::Stale.named("debian/gone").hint(
                "`ekiben lock --update` moves on to what Debian has now; to build this very lock, name a snapshot \
                 archive in `debian.snapshot`",
            ),
            Self::Deb { .. } => ErrorKind::Failure.named("debian/package"),
            Self::Conflict { .. } => {
                ErrorKind::Failure.named("debian/conflict").hint("only one of them can be installed")
            }
            Self::NotAFolder { .. } => ErrorKind::Failure.named("debian/not-a-folder"),
            Self::Store(error) => error.explain(),
            Self::Write(error) => ErrorKind::Failure.named("debian/write").or(error),
        }
    }
}
