//! What a training made, as the lock has it.

use std::collections::BTreeMap;
use std::io;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use crate::io::digest::Digest;

/// The model that `ekiben train` made, and what made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedTraining {
    /// The model's file, below the model's folder.
    pub file: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Of the code and what the manifest says of the training, as they were.
    pub code: Digest,
    /// Of the bundle whose image it was trained in.
    pub bundle: Digest,
    /// The data set; none where the training had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<LockedData>,
    /// The hyperparameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// What the training measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<serde_json::Value>,
    /// When it ended, in seconds since 1970. No bundle has it, so that the same training gives the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// How long it took, in milliseconds. No bundle has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
}

/// A data set that a model was trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedData {
    /// What it is called.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

impl LockedTraining {
    /// The same without what differs from one training to the next that makes the same.
    #[must_use]
    pub fn without_times(&self) -> Self {
        Self { ended: None, took: None, ..self.clone() }
    }
}

/// The digest of what a model is trained by: what the manifest says of it, and the files that it names, which `read` gives. None
/// where it is not trained.
///
/// # Errors
/// Those of `read`.
pub fn code(manifest: &Manifest, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> io::Result<Option<Digest>> {
    let Some(training) = &manifest.training else { return Ok(None) };
    let mut said = serde_json::to_value(training)?;
    if let Some(said) = said.as_object_mut() {
        // Where messages come from makes no other model; the parameters are noted as they were.
        said.remove("messages");
        said.remove("parameters");
    }
    let mut files = BTreeMap::new();
    for entry in training.entries() {
        files.insert(entry.file.to_owned(), Digest::of(read(entry.file)?).to_string());
    }
    for path in manifest.command_paths().into_iter().filter(|named| named.pointer.starts_with("/training/")) {
        // Not each word is a file's.
        if let Ok(bytes) = read(&path.path) {
            files.insert(path.path, Digest::of(bytes).to_string());
        }
    }
    Ok(Some(Digest::of(serde_json::json!([said, files]).to_string())))
}
