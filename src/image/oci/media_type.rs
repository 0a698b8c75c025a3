//! Media types: what the bytes of a descriptor are.
//!
//! OCI image specification 1.1, `media-types.md` and `layer.md`; Docker image manifest version 2, schema 2.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::io::compress::Compression;

/// What bytes are, as their descriptor says. Others than those that are known are kept as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// An image for one platform.
    Manifest,
    /// Images for several platforms.
    Index,
    /// How an image is started, and of which layers it is.
    Configuration,
    /// The configuration of what needs none.
    Empty,
    /// An image for one platform, as Docker had it before OCI.
    DockerManifest,
    /// Images for several platforms, as Docker had them before OCI.
    DockerList,
    /// A layer.
    Layer(Compression),
    /// A layer under another name: Docker's, or that of what nobody may hand on (`layer.md`, "Non-Distributable
    /// Layers").
    NamedLayer(&'static str, Compression),
    /// Anything else.
    Other(String),
}

const KNOWN: [MediaType; 15] = [
    MediaType::Index,
    MediaType::Manifest,
    MediaType::DockerList,
    MediaType::DockerManifest,
    MediaType::Configuration,
    MediaType::Empty,
    MediaType::Layer(Compression::None),
    MediaType::Layer(Compression::Gzip),
    MediaType::Layer(Compression::Zstd),
    MediaType::NamedLayer("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::None),
    MediaType::NamedLayer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
    MediaType::NamedLayer("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd),
    MediaType::NamedLayer("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
    MediaType::NamedLayer("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    MediaType::NamedLayer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
];

impl MediaType {
    /// As descriptors have it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Manifest => "application/vnd.oci.image.manifest.v1+json",
            Self::Index => "application/vnd.oci.image.index.v1+json",
            Self::Configuration => "application/vnd.oci.image.config.v1+json",
            Self::Empty => "application/vnd.oci.empty.v1+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::Layer(Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            Self::Layer(Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Layer(Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::NamedLayer(name, _) => name,
            Self::Other(text) => text,
        }
    }

    /// How a layer's bytes are stored; none for what is no layer that is known.
    pub fn compression(&self) -> Option<Compression> {
        match self {
            Self::Layer(compression) | Self::NamedLayer(_, compression) => Some(*compression),
            _ => None,
        }
    }

    /// Of a header's value, which may have parameters.
    pub fn of_header(value: &str) -> Self {
        value.split(';').next().unwrap_or(value).trim().into()
    }

    /// Whether it is an image for one platform.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest | Self::DockerManifest)
    }

    /// Whether it is how an image is started: OCI's, or Docker's.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration) || self.as_str() == "application/vnd.docker.container.image.v1+json"
    }

    /// Whether it is images for several platforms.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::Index | Self::DockerList)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        KNOWN.into_iter().find(|known| known.as_str() == text).unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for known in KNOWN {
            assert_eq!(MediaType::from(known.as_str()), known);
        }
        for text in ["", "text/plain", "application/json; charset=utf-8"] {
            assert_eq!(MediaType::from(text).to_string(), text);
        }
        let of_a_header = MediaType::of_header(" application/vnd.oci.image.index.v1+json ; charset=utf-8");
        assert_eq!(of_a_header, MediaType::Index);
    }
}
