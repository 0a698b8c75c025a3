//! The lock, `ekiben.lock`: what a manifest resolved to, by digest.
//!
//! Invariant: a lock names no server. The same lock builds the same image from any mirror and any package index, and
//! the same manifest with the same lock gives the same bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base;
use crate::debian;
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
    pub base: base::Locked,
    /// Debian packages on top of the base.
    #[serde(default)]
    pub system: Vec<debian::Package>,
    /// Python packages.
    #[serde(default)]
    pub python: Vec<PythonPackage>,
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
