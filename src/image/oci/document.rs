//! Manifests and indexes: the bytes, and the parts of them that name others.
//!
//! OCI image specification 1.1 (`descriptor.md`, `manifest.md`, `image-index.md`) and Docker image manifest version 2,
//! schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::MediaType;
use super::platform::{Named, Platform};
use crate::io::digest::Digest;

/// The annotation of what is no image of an index, but about one: an attestation, as buildkit adds them
/// (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
const ABOUT: &str = "vnd.docker.reference.type";

/// Why bytes are no document of an image.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// What should be a manifest or an index is not even of that form.
    #[error("this is no manifest: {0}")]
    Manifest(serde_json::Error),
    /// Docker's first schema.
    #[error("this is a manifest of Docker's first schema, which names no configuration")]
    FirstSchema,
    /// It has the parts of neither, or of both.
    #[error("this is neither a manifest nor an index")]
    Ambiguous,
    /// It has the parts of one, and says that it is the other.
    #[error("this says that it is `{0}`, and has the parts of something else")]
    Contradiction(MediaType),
    /// What should be a configuration is none.
    #[error("this is no configuration: {0}")]
    Configuration(serde_json::Error),
}

/// What names bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What they are.
    pub media_type: MediaType,
    /// Of the bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// What an image is for. Some in an index, as attestations, are for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Named>,
    /// What a manifest is that is no image, as lists of referrers say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What else is said of them.
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub struct Document {
    /// As they were read.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub digest: Digest,
    /// What it says of itself, or its sender of it.
    pub media_type: MediaType,
    /// What it names.
    pub content: Content,
}

/// What a document names.
#[derive(Clone, Debug)]
pub enum Content {
    /// An image for one platform.
    Image(Manifest),
    /// Images for several platforms.
    Index(Index),
}

/// An image for one platform, or something about one.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
    /// What else is said of it.
    pub annotations: BTreeMap<String, String>,
    /// What it is, where it is no image.
    pub artifact_type: Option<String>,
    /// The manifest that it is about: then it is a referrer of that.
    pub subject: Option<Box<Descriptor>>,
}

/// Images for several platforms, or with several names.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The images, and what is about them.
    pub manifests: Vec<Descriptor>,
    /// What else is said of all.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<MediaType>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "or_none")]
    annotations: BTreeMap<String, String>,
}

/// Some write `null` for nothing.
fn or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Descriptor {
    /// Of `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Of `size` bytes with the digest `digest`.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, platform: None, artifact_type: None, annotations: BTreeMap::new() }
    }

    fn is_image(&self) -> bool {
        !self.annotations.contains_key(ABOUT)
    }

    fn is_for(&self, platform: Platform) -> bool {
        self.platform.as_ref().is_some_and(|named| *named == platform.into())
    }
}

impl Document {
    /// Reads a manifest or an index. `said` is what its sender says that it is.
    ///
    /// # Errors
    /// When it is neither, or could be taken for either.
    pub fn read(bytes: Vec<u8>, said: Option<MediaType>) -> Result<Self, Malformed> {
        let raw: Raw = serde_json::from_slice(&bytes).map_err(Malformed::Manifest)?;
        if raw.schema_version != 2 {
            return Err(Malformed::FirstSchema);
        }
        let annotations = raw.annotations;
        let content = match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) => {
                let (artifact_type, subject) = (raw.artifact_type, raw.subject.map(Box::new));
                Content::Image(Manifest { config, layers, annotations, artifact_type, subject })
            }
            (None, None, Some(manifests)) => Content::Index(Index { manifests, annotations }),
            _ => return Err(Malformed::Ambiguous),
        };
        let inferred = match content {
            Content::Image(_) => MediaType::Manifest,
            Content::Index(_) => MediaType::Index,
        };
        let fits =
            |said: &MediaType| (said.is_manifest(), said.is_index()) == (inferred.is_manifest(), inferred.is_index());
        let contradicts = |own: &&MediaType| (own.is_manifest() || own.is_index()) && !fits(own);
        if let Some(own) = raw.media_type.as_ref().filter(contradicts) {
            return Err(Malformed::Contradiction(own.clone()));
        }
        let media_type = raw.media_type.or(said.filter(fits)).unwrap_or(inferred.clone());
        Ok(Self { digest: Digest::of(&bytes), bytes, media_type, content })
    }

    /// What names it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }

    /// How a list of referrers names it (distribution specification 1.1, "Listing Referrers"); none of an index.
    pub fn referrer(&self) -> Option<Descriptor> {
        let Content::Image(manifest) = &self.content else { return None };
        let mut descriptor = self.descriptor();
        // What says nothing of itself is what its configuration is.
        let otherwise = || manifest.config.media_type.to_string();
        descriptor.artifact_type = Some(manifest.artifact_type.clone().unwrap_or_else(otherwise));
        descriptor.annotations = manifest.annotations.clone();
        Some(descriptor)
    }

    /// The manifest that it is about, if it is about one.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.content {
            Content::Image(manifest) => manifest.subject.as_deref(),
            Content::Index(_) => None,
        }
    }

    /// The blobs that an image names, each once; none of an index.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let Content::Image(Manifest { config, layers, .. }) = &self.content else { return Vec::new() };
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in layers.iter().chain([config]) {
            if !blobs.iter().any(|known| known.digest == blob.digest) {
                blobs.push(blob.clone());
            }
        }
        blobs
    }
}

impl Manifest {
    /// An image of these.
    pub fn image(config: Descriptor, layers: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        Self { config, layers, annotations, artifact_type: None, subject: None }
    }

    /// The bytes of it.
    pub fn write(&self) -> Vec<u8> {
        let mut parts = json!({ "config": self.config, "layers": self.layers });
        if let Some(artifact_type) = &self.artifact_type {
            parts["artifactType"] = json!(artifact_type);
        }
        if let Some(subject) = &self.subject {
            parts["subject"] = json!(subject);
        }
        written(MediaType::Manifest, parts, &self.annotations)
    }
}

impl Index {
    /// Reads what can only be an index.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Malformed> {
        match Document::read(bytes, None)?.content {
            Content::Index(index) => Ok(index),
            Content::Image(_) => Err(Malformed::Contradiction(MediaType::Manifest)),
        }
    }

    /// The bytes of it.
    pub fn write(&self) -> Vec<u8> {
        written(MediaType::Index, json!({ "manifests": self.manifests }), &self.annotations)
    }

    /// The image for `platform`. An only image that says nothing of a platform is for any.
    pub fn choose(&self, platform: Platform) -> Option<&Descriptor> {
        let images: Vec<_> = self.images().collect();
        match images.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            images => images.iter().find(|image| image.is_for(platform)).copied(),
        }
    }

    /// The image for this machine, or else the first.
    pub fn choose_any(&self) -> Option<&Descriptor> {
        let host = Platform::host().ok();
        let here = self.images().find(|image| host.is_some_and(|host| image.is_for(host)));
        here.or_else(|| self.images().next())
    }

    /// All but what is said about images, as buildkit puts it beside them.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|descriptor| descriptor.is_image())
    }
}

/// A document with sorted keys: the maps of [`serde_json::Value`] are in order.
fn written(media_type: MediaType, mut parts: serde_json::Value, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    parts["schemaVersion"] = json!(2);
    parts["mediaType"] = json!(media_type);
    if !annotations.is_empty() {
        parts["annotations"] = json!(annotations);
    }
    parts.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &serde_json::Value) -> Result<Document, Malformed> {
        Document::read(value.to_string().into_bytes(), None)
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let config = Descriptor::of(MediaType::Configuration, b"");
        let image = json!({ "schemaVersion": 2, "config": config, "layers": [] });
        assert_eq!(read(&image).unwrap().media_type, MediaType::Manifest);
        let index = json!({ "schemaVersion": 2, "manifests": [], "annotations": null });
        assert_eq!(read(&index).unwrap().media_type, MediaType::Index);
        for extra in [json!({ "manifests": [] }), json!({ "layers": null }), json!({ "config": null })] {
            let mut both = image.clone();
            both.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            assert!(matches!(read(&both), Err(Malformed::Ambiguous)), "{both}");
        }
        let text = image.to_string().replacen('{', r#"{"layers":[],"#, 1);
        assert!(matches!(Document::read(text.into_bytes(), None), Err(Malformed::Manifest(_))), "given twice");
        for (mut value, other) in [(image, MediaType::DockerList), (index, MediaType::Manifest)] {
            value["mediaType"] = json!(other);
            assert!(matches!(read(&value), Err(Malformed::Contradiction(said)) if said == other));
        }
        assert!(matches!(read(&json!({ "schemaVersion": 1, "fsLayers": [] })), Err(Malformed::FirstSchema)));
        assert!(matches!(read(&json!([])), Err(Malformed::Manifest(_))));
    }

    #[test]
    fn a_sender_is_believed_where_the_document_says_nothing() {
        let index = json!({ "schemaVersion": 2, "manifests": [] }).to_string().into_bytes();
        let read = |said| Document::read(index.clone(), Some(said)).unwrap().media_type;
        assert_eq!(read(MediaType::DockerList), MediaType::DockerList);
        assert_eq!(read(MediaType::DockerManifest), MediaType::Index);
        assert_eq!(read("text/plain".into()), MediaType::Index);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let layer = Descriptor::of("application/x".into(), b"layer");
        let manifest = Manifest::image(
            Descriptor::of(MediaType::Configuration, b"{}"),
            vec![layer.clone(), layer],
            BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        );
        let document = Document::read(manifest.write(), None).unwrap();
        assert_eq!(document.blobs().len(), 2);
        let Content::Image(again) = &document.content else { panic!("an index") };
        assert_eq!(again.write(), manifest.write());
        let mut image = document.descriptor();
        image.platform = Some(Platform::Arm64.into());
        let mut about = document.descriptor();
        about.annotations.insert(ABOUT.to_owned(), "attestation-manifest".to_owned());
        let index = Index { manifests: vec![about, image.clone()], ..Index::default() };
        let again = Index::read(index.write()).unwrap();
        assert_eq!(again.write(), index.write());
        assert_eq!(again.choose(Platform::Arm64), Some(&image));
        assert_eq!(again.choose(Platform::Amd64), None);
        assert_eq!(again.choose_any(), Some(&image));
    }
}
