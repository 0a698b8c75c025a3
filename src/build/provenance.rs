//! How an image was made, as a statement of in-toto with SLSA's predicate (<https://slsa.dev/spec/v1.0/provenance>): what went
//! into it by digest, which commands were executed, and from which commit its source is.
//!
//! Invariant: none of it goes into the image, and it has no time of the build: the same build makes the same statement.

use std::path::Path;

use serde_json::{Value, json};

use super::dockerfile::Allowed;
use super::input::Input;
use crate::formats::sbom::Inventory;
use crate::image::session::Session;
use crate::io::confine::{Confined, Network, binary_on_path};
use crate::io::digest::Digest;
use crate::project::lock;

/// What the predicate is.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// What a build with this program is, and who does it where nobody says more.
const BUILD: &str = "urn:ekiben:build:v1";
const BUILDER: &str = "urn:ekiben:builder";

/// What is known of a build besides the image that came out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Who builds, as a URI.
    pub builder: Option<String>,
    /// Of the lock.
    pub lock: Option<Digest>,
    /// Where the source is, and which.
    pub source: Option<Commit>,
    /// What commands were allowed to do.
    pub commands: Allowed,
}

/// The commit that a folder is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its object's name.
    pub id: String,
    /// Whether the folder has something else than it.
    pub is_dirty: bool,
}

impl Facts {
    /// Those of a build of `input`.
    pub fn of(session: &Session, input: &Input, builder: Option<String>) -> Self {
        Self {
            builder,
            lock: input.bundle.read(lock::NAME).ok().map(Digest::of),
            source: commit(session, &input.origin),
            commands: input.commands.allowed,
        }
    }
}

/// The commit that the folder at `path` is of; none where it is no work tree of git's, or there is no git. It is held as any program
/// of others: it can write nothing, start nothing that the repository's settings name, and reach no network.
pub fn commit(session: &Session, path: &Path) -> Option<Commit> {
    let folder = if path.is_dir() { fs_err::canonicalize(path).ok()? } else { return None };
    // Most folders of nobody's repository are known without a process.
    folder.ancestors().find(|above| above.join(".git").exists())?;
    let scratch = session.store.scratch().ok()?;
    let asked = Confined::new(binary_on_path("git")?)
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C"])
        .args([folder.as_os_str()])
        .args(["status", "--porcelain=v2", "--branch", "--", "."])
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", scratch.path())
        .network(Network::Closed);
    let answer = asked.run(scratch.path()).ok().filter(|answer| answer.status.success())?;
    read(&String::from_utf8_lossy(&answer.stdout))
}

/// What git says of a work tree (git-status(1), "Porcelain Format Version 2").
fn read(text: &str) -> Option<Commit> {
    let id = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let is_name = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_dirty = text.lines().any(|line| !line.starts_with('#'));
    is_name.then(|| Commit { id: id.to_owned(), is_dirty })
}

/// The statement on the image that `inventory` is of.
pub fn statement(inventory: &Inventory, facts: &Facts) -> Value {
    let digest = |digest: &Digest| json!({ "sha256": digest.hex() });
    let mut inputs = Vec::new();
    if let Some(Commit { id, is_dirty }) = &facts.source {
        let mut source =
            json!({ "name": "source", "digest": { "gitCommit": id }, "annotations": { "dirty": is_dirty } });
        if let Some(address) = &inventory.source {
            source["uri"] = address.as_str().into();
        }
        inputs.push(source);
    }
    inputs.extend(facts.lock.iter().map(|lock| json!({ "name": lock::NAME, "digest": digest(lock) })));
    inputs.extend(inventory.base.iter().map(|base| json!({ "name": "base", "digest": digest(base) })));
    for (package, purl) in inventory.packages.iter().zip(inventory.purls()) {
        // Of several wheels that would do, none is said to be the one.
        if let [only] = package.digests.as_slice() {
            inputs.push(json!({ "uri": purl, "digest": digest(only) }));
        }
    }
    if let Some(model) = &inventory.model {
        inputs.extend(model.files.iter().map(|file| json!({ "name": file.path, "digest": digest(&file.digest) })));
        let data = model.training.iter().filter_map(|training| training.data.as_ref());
        inputs.extend(data.map(|(name, of)| json!({ "name": format!("data set {name}"), "digest": digest(of) })));
    }
    let commands = match facts.commands {
        Allowed::Nothing => "nothing",
        Allowed::Commands => "commands",
        Allowed::Network => "network",
    };
    let predicate = json!({
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "name": inventory.name,
                    "version": inventory.version,
                    "platform": inventory.platform,
                    "allowRun": commands,
                },
                "internalParameters": { "executed": inventory.commands },
                "resolvedDependencies": inputs,
            },
            "runDetails": {
                "builder": {
                    "id": facts.builder.as_deref().unwrap_or(BUILDER),
                    "version": { "ekiben": env!("CARGO_PKG_VERSION") },
                },
            },
    });
    about(inventory, PREDICATE, predicate)
}

/// The statement that says `predicate`, which is of the type `kind`, of the image that `inventory` is of.
pub fn about(inventory: &Inventory, kind: &str, predicate: Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": inventory.name, "digest": { "sha256": inventory.digest.hex() } }],
        "predicateType": kind,
        "predicate": predicate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_read() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let clean = format!("# branch.oid {id}\n# branch.head main\n");
        assert_eq!(read(&clean), Some(Commit { id: id.to_owned(), is_dirty: false }));
        assert!(read(&format!("{clean}? new.py\n")).unwrap().is_dirty);
        assert_eq!(read("# branch.oid (initial)\n"), None);
        assert_eq!(read(""), None);
    }
}
