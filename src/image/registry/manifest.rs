//! Manifests and indexes as registries send them: the bytes, and the parts of them that name others.
//!
//! OCI image specification 1.1 (`manifest.md`, `image-index.md`) and Docker image manifest version 2, schema 2.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use crate::image::oci::platform::Platform;
use crate::io::digest::Digest;

/// Largest manifest that is read, in bytes: what registries take as well (distribution specification 1.1, "Pushing
/// Manifests").
pub(super) const LARGEST: u64 = 4 << 20;

/// What is read, in the order of preference.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// As they were sent.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub digest: Digest,
    /// What it says of itself, or its sender of it.
    pub media_type: String,
    /// What it names.
    pub content: Content,
}

/// What a manifest names.
#[derive(Clone, Debug)]
pub enum Content {
    /// An image for one platform.
    Image {
        /// Its configuration.
        config: Link,
        /// The lowest first.
        layers: Vec<Link>,
    },
    /// Images for several platforms.
    Index(Vec<Child>),
}

/// A blob that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What it is.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// A manifest that an index names.
#[derive(Clone, Debug, Deserialize)]
pub struct Child {
    /// Where it is.
    #[serde(flatten)]
    pub link: Link,
    platform: Option<ChildPlatform>,
    annotations: Option<BTreeMap<String, String>>,
}

/// The annotation of what is no image of an index, but about one: an attestation, as buildkit adds them
/// (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
pub const ABOUT: &str = "vnd.docker.reference.type";

#[derive(Clone, Debug, Deserialize)]
struct ChildPlatform {
    os: String,
    architecture: String,
}

impl Child {
    /// The image for `platform` among the children of an index. An only image that says nothing of a platform is for
    /// any.
    pub fn choose(children: &[Self], platform: Platform) -> Option<&Self> {
        let is_about = |child: &Self| child.annotations.as_ref().is_some_and(|all| all.contains_key(ABOUT));
        let images: Vec<_> = children.iter().filter(|child| !is_about(child)).collect();
        let wanted = platform.to_string();
        match images.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            images => images.iter().find(|child| child.platform().as_ref() == Some(&wanted)).copied(),
        }
    }

    /// As `linux/amd64`; some children, as attestations, are for none.
    pub fn platform(&self) -> Option<String> {
        self.platform.as_ref().map(|platform| format!("{}/{}", platform.os, platform.architecture))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Link>,
    layers: Option<Vec<Link>>,
    manifests: Option<Vec<Child>>,
}

impl Manifest {
    /// Reads what `url` sent with the media type `sent_as`.
    ///
    /// # Errors
    /// When it is neither a manifest nor an index.
    pub fn parse(bytes: Vec<u8>, sent_as: Option<&str>, url: &str) -> Result<Self, Error> {
        let protocol = |why: String| Error::Protocol { url: url.to_owned(), why };
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| protocol(format!("this is no manifest: {error}")))?;
        if document.schema_version != 2 {
            return Err(protocol(
                "this is a manifest of Docker's first schema, which names no configuration".to_owned(),
            ));
        }
        // What could be read in two ways is refused: GHSA-mc8v-mgrf-8f4m.
        let content = match document {
            Document { config: Some(config), layers: Some(layers), manifests: None, .. } => {
                Content::Image { config, layers }
            }
            Document { config: None, layers: None, manifests: Some(children), .. } => Content::Index(children),
            _ => return Err(protocol("this is neither a manifest nor an index".to_owned())),
        };
        let inferred = match content {
            Content::Image { .. } => "application/vnd.oci.image.manifest.v1+json",
            Content::Index(_) => "application/vnd.oci.image.index.v1+json",
        };
        let sent_as = sent_as.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let sent_as = sent_as.filter(|text| ACCEPTED.contains(text.as_str()));
        let media_type = document.media_type.or(sent_as).unwrap_or_else(|| inferred.to_owned());
        Ok(Self { digest: Digest::of(&bytes), bytes, media_type, content })
    }

    /// The blobs that it names, each once.
    pub fn blobs(&self) -> Vec<Link> {
        let Content::Image { config, layers } = &self.content else { return Vec::new() };
        let mut blobs: Vec<Link> = Vec::new();
        for link in layers.iter().chain([config]) {
            if !blobs.iter().any(|known| known.digest == link.digest) {
                blobs.push(link.clone());
            }
        }
        blobs
    }

    /// The child for `platform`, of an index that was asked for as `reference`.
    ///
    /// # Errors
    /// [`Error::NoPlatform`] when there is none.
    pub(super) fn child(children: &[Child], platform: Platform, reference: &str) -> Result<Link, Error> {
        Child::choose(children, platform).map(|child| child.link.clone()).ok_or_else(|| {
            let mut has: Vec<_> = children.iter().filter_map(Child::platform).collect();
            has.retain(|platform| platform != "unknown/unknown");
            Error::NoPlatform { reference: reference.to_owned(), wanted: platform, has }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let link = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{}","size":0}}"#, Digest::of(""));
        let parse = |text: String| Manifest::parse(text.into_bytes(), None, "https://registry.example/");
        let image = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, link("a"));
        assert_eq!(parse(image).unwrap().media_type, "application/vnd.oci.image.manifest.v1+json");
        let both = format!(r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}}"#, link("a"));
        assert!(parse(both).is_err());
        assert!(parse(r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()).is_err());
        assert!(parse("[]".to_owned()).is_err());
    }
}
