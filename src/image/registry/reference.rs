//! References: which image, in which repository, of which registry.
//!
//! Grammar: distribution specification 1.1, section "Pulling manifests". Names without a registry mean Docker Hub's,
//! as everywhere else: `python:3.11-slim` is `docker.io/library/python:3.11-slim`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::store::{ImageName, ImageNameError};
use crate::io::digest::Digest;
use crate::io::explain::{Explain, Explanation};

/// Docker Hub, as references name it.
pub(super) const HUB: &str = "docker.io";

/// An image in a registry: `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text names no image in a registry.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The part before the `@`.
    #[error(transparent)]
    Name(#[from] ImageNameError),
    /// The part after the `@`.
    #[error(transparent)]
    Digest(#[from] crate::io::digest::ParseDigestError),
}

impl Explain for ReferenceError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Name(error) => error.explain(),
            Self::Digest(error) => error.explain(),
        }
    }
}

impl Reference {
    /// The registry: a host with an optional port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given. It wins over the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The registry and the repository without tag and digest.
    pub fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What the registry is asked for: the digest, the tag, or `latest`.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository with another digest, without a tag.
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository with another tag, without a digest.
    pub fn tagged(&self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), digest: None, ..self.clone() }
    }

    /// What the image is called in the store when it was pulled as `text`: a digest becomes a tag.
    ///
    /// # Errors
    /// When the text is no reference.
    pub fn local_name(text: &str) -> Result<ImageName, ReferenceError> {
        let (name, digest) = split(text)?;
        Ok(match (digest, has_tag(name)) {
            (Some(digest), false) => format!("{name}:sha256-{}", digest.hex()).parse()?,
            _ => name.parse()?,
        })
    }

    /// Whether `text` names a registry itself, rather than meaning Docker Hub.
    pub fn names_registry(text: &str) -> bool {
        text.split_once('/').is_some_and(|(host, _)| is_host(host))
    }
}

fn split(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    Ok(match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse()?)),
        None => (text, None),
    })
}

fn has_tag(name: &str) -> bool {
    name.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'))
}

fn is_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost"
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, digest) = split(text)?;
        let parsed: ImageName = name.parse()?;
        let (registry, repository) = match parsed.repository().split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            _ => (HUB, parsed.repository().to_owned()),
        };
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let official = registry == HUB && !repository.contains('/');
        Ok(Self {
            registry: registry.to_owned(),
            repository: if official { format!("library/{repository}") } else { repository },
            tag: has_tag(name).then(|| parsed.tag().to_owned()),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub() {
        let digest = Digest::of("");
        for (text, full) in [
            ("python:3.11-slim", "docker.io/library/python:3.11-slim".to_owned()),
            ("bitnami/redis", "docker.io/bitnami/redis".to_owned()),
            ("index.docker.io/library/python:3", "docker.io/library/python:3".to_owned()),
            ("localhost:5000/iris:1.0", "localhost:5000/iris:1.0".to_owned()),
            (&format!("registry.example/a/b@{digest}"), format!("registry.example/a/b@{digest}")),
            (&format!("registry.example/a/b:1@{digest}"), format!("registry.example/a/b:1@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full);
        }
        for bad in ["", "A/b", "a@sha256:00", "registry.example/", "registry.example/a:b:c"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_pulled_by_digest_has_a_name_here() {
        let text = format!("registry.example/iris@{}", Digest::of(""));
        assert!(Reference::local_name(&text).unwrap().tag().starts_with("sha256-e3b0c442"));
        assert_eq!(Reference::local_name("iris:1.0").unwrap().to_string(), "iris:1.0");
    }
}
