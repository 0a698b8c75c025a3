//! The configuration of an image: how it is started, and of which layers it is.
//!
//! OCI image specification 1.1, `config.md`.

use std::collections::BTreeMap;

use oci_spec::image::Config;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Malformed;
use super::platform::Named;
use crate::io::digest::Digest;

/// What is read of a configuration, and all that is written.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What the image is for.
    pub platform: Named,
    /// As RFC 3339 has it.
    pub created: Option<String>,
    /// How the image is started.
    pub config: Config,
    /// What else Docker knows of how an image is started, and the specification does not, as it was written: see
    /// [`EXTENSIONS`].
    pub extensions: BTreeMap<String, Value>,
    /// Of the layers' bytes uncompressed, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// What made each layer, the lowest first. Others may have left some out.
    pub titles: Vec<String>,
    /// What made no layer, and how many layers lie below it, in order. They are written, and not read.
    pub steps: Vec<(usize, String)>,
}

/// Members of `config` that Docker adds (<https://docs.docker.com/reference/dockerfile/>).
pub const EXTENSIONS: [&str; 3] = ["Healthcheck", "OnBuild", "Shell"];

#[derive(Deserialize)]
struct Raw {
    os: String,
    architecture: String,
    created: Option<String>,
    config: Option<Config>,
    rootfs: RootFs,
    history: Option<Vec<Step>>,
}

#[derive(Deserialize)]
struct More {
    config: Option<Extensions>,
}

#[derive(Deserialize, Default)]
struct Extensions {
    #[serde(rename = "Healthcheck")]
    health: Option<Value>,
    #[serde(rename = "OnBuild")]
    triggers: Option<Value>,
    #[serde(rename = "Shell")]
    shell: Option<Value>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Step {
    created_by: Option<String>,
    empty_layer: Option<bool>,
}

impl Configuration {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(Malformed::Configuration)?;
        let more: More = serde_json::from_slice(bytes).map_err(Malformed::Configuration)?;
        let Extensions { health, triggers, shell } = more.config.unwrap_or_default();
        let extensions = EXTENSIONS.into_iter().zip([health, triggers, shell]);
        let extensions = extensions.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let steps = raw.history.into_iter().flatten().filter(|step| !step.empty_layer.unwrap_or_default());
        Ok(Self {
            platform: Named { os: raw.os, architecture: raw.architecture },
            created: raw.created,
            config: raw.config.unwrap_or_default(),
            extensions,
            diff_ids: raw.rootfs.diff_ids,
            titles: steps.map(|step| step.created_by.unwrap_or_default()).collect(),
            steps: Vec::new(),
        })
    }

    /// The bytes of it.
    pub fn write(&self) -> Vec<u8> {
        let dated = |mut value: serde_json::Value| {
            if let Some(created) = &self.created {
                value["created"] = json!(created);
            }
            value
        };
        let mut history = Vec::new();
        let mut steps = self.steps.iter().peekable();
        for layers in 0..=self.titles.len() {
            while let Some((_, text)) = steps.next_if(|(below, _)| *below <= layers) {
                history.push(dated(json!({ "created_by": text, "empty_layer": true })));
            }
            history.extend(self.titles.get(layers).map(|title| dated(json!({ "created_by": title }))));
        }
        let mut config = json!(self.config);
        if let Some(config) = config.as_object_mut() {
            config.extend(self.extensions.clone());
        }
        let document = dated(json!({
            "architecture": self.platform.architecture,
            "config": config,
            "history": history,
            "os": self.platform.os,
            "rootfs": { "diff_ids": self.diff_ids, "type": "layers" },
        }));
        document.to_string().into_bytes()
    }
}
