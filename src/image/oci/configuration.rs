//! The configuration of an image: how it is started, and of which layers it is.
//!
//! OCI image specification 1.1, `config.md`.

use oci_spec::image::Config;
use serde::Deserialize;
use serde_json::json;

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
    /// Of the layers' bytes uncompressed, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// What made each layer, the lowest first. Others may have left some out.
    pub titles: Vec<String>,
}

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
        let steps = raw.history.into_iter().flatten().filter(|step| !step.empty_layer.unwrap_or_default());
        Ok(Self {
            platform: Named { os: raw.os, architecture: raw.architecture },
            created: raw.created,
            config: raw.config.unwrap_or_default(),
            diff_ids: raw.rootfs.diff_ids,
            titles: steps.map(|step| step.created_by.unwrap_or_default()).collect(),
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
        let history = self.titles.iter().map(|title| dated(json!({ "created_by": title })));
        let document = dated(json!({
            "architecture": self.platform.architecture,
            "config": self.config,
            "history": history.collect::<Vec<_>>(),
            "os": self.platform.os,
            "rootfs": { "diff_ids": self.diff_ids, "type": "layers" },
        }));
        document.to_string().into_bytes()
    }
}
