//! Models as artifacts of registries, as the CNCF's ModelPack has them (<https://github.com/modelpack/model-spec>: `docs/spec.md`,
//! `docs/config.md`, `docs/annotations.md`).

use serde::Serialize;

use crate::io::digest::Digest;

/// What such an artifact is (`artifactType`).
pub const ARTIFACT: &str = "application/vnd.cncf.model.manifest.v1+json";
/// What describes it.
pub const CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// A layer of weights, an archive; what it is compressed with stands behind it, as behind an image's layer.
pub const WEIGHTS: &str = "application/vnd.cncf.model.weight.v1.tar";
/// The annotation of a layer that says which file, or which folder, it has.
pub const PATH: &str = "org.cncf.model.filepath";

/// The configuration of a model's artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// What the model is called.
    pub descriptor: Descriptor,
    /// What is known of its making.
    pub config: Technical,
    /// Its layers.
    pub modelfs: Layers,
}

/// What a model is called, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where its source is.
    #[serde(rename = "sourceURL", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Licences, as SPDX expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
}

/// What is known of a model's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Technical {
    /// The format of its files, as `onnx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// The layers, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    /// `layers`.
    pub r#type: &'static str,
    /// Their digests, in order.
    pub diff_ids: Vec<Digest>,
}

/// The format of the file `name`, as the specification calls it, where its name tells it.
pub fn format_of(name: &str) -> Option<&'static str> {
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    // Its own examples first; what they leave open is called as its ending.
    let known = ["onnx", "safetensors", "gguf", "pt", "keras", "h5", "skops", "ubj", "cbm", "pmml", "tflite"];
    let known = known.into_iter().find(|known| *known == ending);
    known.or(match ending.as_str() {
        "pth" | "ckpt" => Some("pt"),
        "pkl" | "pickle" | "joblib" => Some("pickle"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_names() {
        for (name, format) in [
            ("model.onnx", Some("onnx")),
            ("a/b.SafeTensors", Some("safetensors")),
            ("net.pth", Some("pt")),
            ("model.pkl", Some("pickle")),
            ("vocab.txt", None),
            ("model", None),
        ] {
            assert_eq!(format_of(name), format, "{name}");
        }
    }
}
