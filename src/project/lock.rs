//! The lock, `ekiben.lock`: what a manifest resolved to, by digest.
//!
//! Invariant: a lock names no server, but for the addresses of a model's files, which stand in the manifest, and for images that
//! a Dockerfile of the project names. The same lock builds the same image from any mirror and any package index, and the same
//! manifest with the same lock gives the same bytes, or an error that names the command which led to others.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base;
use crate::base::debian;
use crate::base::python;
use crate::base::requirements::Relaxed;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::{Document, Value};
use crate::formats::python::PythonVersion;
use crate::formats::schema::Kind;
use crate::formats::schema::load;
use crate::image::oci::platform::Platform;
use crate::io::atomic;
use crate::io::digest::Digest;
use crate::project::manifest::{Build, Manifest, Requirements, SERVER};
use crate::project::trained::LockedTraining;

/// The name of the lock, beside the manifest.
pub const NAME: &str = "ekiben.lock";

/// The version of the format.
const VERSION: u32 = 1;

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
    pub python: Option<PythonVersion>,
    /// Pins of the project that gave way to other versions, as `--relax-pins` asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relaxed: Vec<Relaxed>,
    /// What it resolved to, by platform.
    pub platforms: BTreeMap<Platform, LockedPlatform>,
    /// The files of the model that are fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<LockedModel>,
    /// The model that `ekiben train` made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<LockedTraining>,
}

impl Lock {
    /// Reads the lock in the file `path`.
    ///
    /// Mistakes go to `found`; none where there is one. Whether the file is there is for the caller to know.
    pub fn load(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        read(path, found)
    }

    /// The manifest with the Python that was chosen for it, where it leaves that open and the usual one has no wheels.
    pub fn settled(&self, manifest: Manifest) -> Manifest {
        match self.python {
            Some(python) => manifest.with_python(python),
            None => manifest,
        }
    }

    /// Whether it was made for another input: see [`input_digest`].
    pub fn is_stale(&self, input: &Digest) -> bool {
        self.input != *input
    }

    /// The text of the file: the same value gives the same text.
    ///
    /// # Errors
    /// None that is known; the writer of JSON reserves them.
    pub fn to_text(&self) -> serde_json::Result<String> {
        text(self)
    }

    /// Writes the file `path`, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written to; then what was there before is still there.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write(path, &self.to_text()?)
    }
}

impl load::Described for Lock {
    const KIND: Kind = Kind::Lock;

    fn of_other_version(document: &Document) -> Option<Diagnostic> {
        of_other_version(document).map(|error| error.help("or renew the lock: `ekiben lock`"))
    }
}

fn read<T: load::Described + DeserializeOwned>(path: &Path, found: &mut Diagnostics) -> Option<T> {
    let mut own = Diagnostics::new();
    let lock = load::file::<T>(path, &mut own).and_then(load::Loaded::whole);
    let is_right = !own.has_errors();
    found.extend(own);
    lock.map(|(_, lock)| lock).filter(|_| is_right)
}

fn text(lock: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(lock)? + "\n")
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    atomic::write(path, |file| file.write_all(text.as_bytes()))
}

/// What is wrong with a lock of another format than this one.
fn of_other_version(document: &Document) -> Option<Diagnostic> {
    match &document.root.get("lock")?.value {
        Value::Number(number) if number.as_u64() != Some(VERSION.into()) => {
            let message = format!("the lock has format {number}, and this ekiben reads format {VERSION}");
            Some(document.at(Code::NewerLock, "/lock", message).help("update ekiben"))
        }
        _ => None,
    }
}

/// The digest of all that a lock depends on: what stands in the manifest about packages and bases, the contents `files`
/// of the requirements file that it names and of those that this one includes, and whether Ekiben's own server is
/// needed, and which packages that takes (`server`).
///
/// Not of it: names of servers (a lock names none), order where it means nothing, line ends, and this machine.
pub fn input_digest(manifest: &Manifest, files: &[&str], server: &[&str]) -> Digest {
    let python = manifest.python.as_ref().map(|python| {
        let requirements = match &python.requirements {
            Requirements::List(list) => {
                let list = list.iter().map(|text| text.trim()).filter(|text| !text.starts_with('-'));
                serde_json::json!(list.collect::<BTreeSet<_>>())
            }
            Requirements::File(path) => {
                let mut contents = files.iter().map(|text| text.replace("\r\n", "\n"));
                let content = contents.next().unwrap_or_default();
                // A pyproject.toml and a requirements.txt of the same content are not the same.
                let mut file = serde_json::json!({ "toml": path.ends_with(".toml"), "content": content });
                let included: Vec<_> = contents.collect();
                if let Some(file) = file.as_object_mut().filter(|_| !included.is_empty()) {
                    file.insert("included".to_owned(), included.into());
                }
                file
            }
        };
        serde_json::json!({ "version": python.version, "requirements": requirements })
    });
    let mut input = serde_json::json!({
        "lock": VERSION,
        "base": manifest.base,
        "python": python,
        "system": manifest.system.packages.words().collect::<BTreeSet<_>>(),
        "platforms": manifest.platforms.iter().collect::<BTreeSet<_>>(),
        "served": manifest.serves_functions(),
    });
    let models: BTreeSet<_> =
        manifest.model.remote().map(|(_, one, address)| (address.to_string(), one.sha256.clone())).collect();
    if let Some(input) = input.as_object_mut().filter(|_| !models.is_empty()) {
        input.insert("models".to_owned(), serde_json::json!(models));
    }
    if manifest.has_commands() {
        let Build { file, target, args, allow_run: _ } = &manifest.build;
        input["commands"] = serde_json::json!([file, target, args, manifest.system.run]);
    }
    let more: BTreeSet<_> = server.iter().filter(|package| !SERVER.contains(package)).collect();
    if !more.is_empty() {
        input["server"] = serde_json::json!(more);
    }
    // serde_json keeps keys sorted, so the text is canonical.
    Digest::of(input.to_string())
}

/// What an address of a manifest's model resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedModel {
    /// The address, as the manifest has it.
    pub from: String,
    /// What was there.
    pub files: Vec<LockedFile>,
}

/// A file at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// What it is called there: its path in the folder that the address names, or its own name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes.
    pub digest: Digest,
    /// What tells this version of it from others where it lives: a commit, the version of an object, an entity tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What a manifest resolved to on one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedPlatform {
    /// What the image stands on.
    pub base: base::LockedBase,
    /// Debian packages on top of the base.
    #[serde(default)]
    pub system: Vec<debian::Package>,
    /// What commands led to; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<Executed>,
    /// Python packages.
    #[serde(default)]
    pub python: Vec<python::Package>,
}

impl LockedPlatform {
    /// The same as Python packages find it: where commands were executed upon base and Debian packages, what they made is the
    /// base, and it has those packages.
    pub fn standing(&self) -> Cow<'_, Self> {
        match self.executed.as_ref().and_then(|executed| executed.base.as_ref()) {
            None => Cow::Borrowed(self),
            Some(base) => Cow::Owned(Self { base: base.clone(), system: Vec::new(), ..self.clone() }),
        }
    }
}

/// What commands led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Executed {
    /// What the commands of `system.run` made of base and Debian packages; none where there are no such commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<base::LockedBase>,
    /// The images that a Dockerfile names, by the digests of their manifests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Digest>,
    /// What each command led to, by the digest of all that went into it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<Digest, LockedStep>,
}

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedStep {
    /// It as it is written, shortened.
    pub command: String,
    /// The layer that it left; none where it changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LockedLayer>,
}

impl LockedStep {
    /// Of the layer that it left.
    pub fn diff_id(&self) -> Option<Digest> {
        self.layer.as_ref().map(|layer| layer.diff_id)
    }
}

/// A layer that a command left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedLayer {
    /// Of its uncompressed bytes: the same files are the same here.
    pub diff_id: Digest,
    /// Of its bytes as registries have them.
    pub digest: Digest,
    /// Of these, in bytes.
    pub size: u64,
}

/// The lock of a Dockerfile that belongs to no project, `Dockerfile.lock` beside `Dockerfile`: what the images that it names are,
/// and what its commands led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockerfileLock {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub lock: u32,
    /// What it resolved to, by platform.
    pub platforms: BTreeMap<Platform, Executed>,
}

impl DockerfileLock {
    /// Without anything.
    pub fn new(platforms: BTreeMap<Platform, Executed>) -> Self {
        Self { lock: VERSION, platforms }
    }

    /// Reads the lock in the file `path`. Mistakes go to `found`; none where there is one.
    pub fn load(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        read(path, found)
    }

    /// Writes the file `path`, whole or not at all.
    ///
    /// # Errors
    /// As [`Lock::write`].
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write(path, &text(self)?)
    }
}

impl load::Described for DockerfileLock {
    const KIND: Kind = Kind::DockerfileLock;

    fn of_other_version(document: &Document) -> Option<Diagnostic> {
        of_other_version(document).map(|error| error.help("or remove it: the next build writes another with `--lock`"))
    }
}
