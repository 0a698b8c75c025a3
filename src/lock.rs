//! The lock, `ekiben.lock`: what a manifest resolved to, by digest.
//!
//! Invariant: a lock names no server. The same lock builds the same image from any mirror and any package index, and
//! the same manifest with the same lock gives the same bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// The content of `ekiben.lock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub lock: u32,
    /// Digest of everything in the manifest (and in the files it names) that the lock depends on. A lock with
    /// another digest than the manifest's is stale.
    pub input: Digest,
    /// The Python that the packages are for, as `3.11`; none for an image without Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// What it resolved to, by platform.
    pub platforms: BTreeMap<Platform, Locked>,
}

/// What a manifest resolved to on one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// What the image stands on.
    pub base: Base,
    /// Debian packages on top of the base.
    #[serde(default)]
    pub system: Vec<DebianPackage>,
    /// Python packages.
    #[serde(default)]
    pub python: Vec<PythonPackage>,
}

/// A base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Assembled from Debian packages.
    Debian {
        /// As `bookworm`.
        suite: String,
        /// In the order in which they are unpacked.
        packages: Vec<DebianPackage>,
    },
    /// An image, by the digest of its manifest for this platform.
    Image {
        /// Where it came from, as the manifest says.
        reference: String,
        /// Of its manifest.
        digest: Digest,
    },
    /// Nothing.
    Scratch,
}

/// A Debian package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebianPackage {
    /// As `libc6`.
    pub name: String,
    /// As `2.36-9+deb12u9`.
    pub version: String,
    /// As `amd64` or `all`.
    pub architecture: String,
    /// Which archive has it.
    pub archive: DebianArchive,
    /// Its path in the archive, as `pool/main/g/glibc/libc6_2.36-9_amd64.deb`.
    pub file: String,
    /// In bytes.
    pub size: u64,
    /// Of the file.
    pub digest: Digest,
}

/// One of Debian's archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DebianArchive {
    /// The archive proper.
    Main,
    /// That of security updates.
    Security,
}

/// A Python package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PythonPackage {
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
