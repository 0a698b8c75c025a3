//! Images by name: `index.json` of the layout, where each manifest's `org.opencontainers.image.ref.name` is its name.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use fs_err as fs;
use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder, MediaType};
use serde::Serialize;

use super::{Error, Store};
use crate::io::digest::Digest;

/// What an image is called here: `NAME[:TAG]`, as in `docker tag`. Without a tag it is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    tag: String,
}

/// The text names no image.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no image name: {why}")]
pub struct ImageNameError {
    text: String,
    why: &'static str,
}

impl ImageName {
    /// The name without the tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    /// After the grammar of the distribution specification 1.1, section "Pulling manifests".
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| ImageNameError { text: text.chars().take(200).collect(), why };
        let (repository, tag) = match text.rsplit_once(':') {
            // A colon before the last slash belongs to a registry's port.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (text, "latest"),
        };
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if tag.is_empty() || tag.len() > 128 || !tag.chars().all(word) || tag.starts_with(['.', '-']) {
            return Err(bad("a tag has up to 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, path) = match repository.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
            _ => (None, repository),
        };
        if registry.is_some_and(|host| {
            host.starts_with(['.', '-', ':']) || !host.chars().all(|c| word(c) || matches!(c, ':' | '[' | ']'))
        }) {
            return Err(bad("the registry is no host with an optional port"));
        }
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
        let component = |name: &str| {
            !name.is_empty()
                && name.chars().all(lower)
                && !name.starts_with(['_', '.', '-'])
                && !name.ends_with(['_', '.', '-'])
        };
        if repository.len() > 255 || !path.split('/').all(component) {
            return Err(bad(
                "a name has lowercase letters, digits, and `_`, `.`, `-` between them, in parts between `/`",
            ));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Serialize for ImageName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    /// What it is called.
    pub name: ImageName,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The descriptor of its manifest or index.
    pub descriptor: Descriptor,
}

impl Store {
    /// All images, by name.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn images(&self) -> Result<Vec<ImageRecord>, Error> {
        let mut images = Vec::new();
        for descriptor in self.index()?.manifests() {
            let name = descriptor.annotations().as_ref().and_then(|all| all.get(ANNOTATION_REF_NAME));
            let name = name.and_then(|name| name.parse::<ImageName>().ok());
            let digest = descriptor.digest().to_string().parse::<Digest>().ok();
            if let (Some(name), Some(digest)) = (name, digest) {
                images.push(ImageRecord { name, digest, descriptor: descriptor.clone() });
            }
        }
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The image called `name`.
    ///
    /// # Errors
    /// [`Error::NoImage`] when there is none.
    pub fn image(&self, name: &ImageName) -> Result<ImageRecord, Error> {
        let mut images = self.images()?;
        if let Some(at) = images.iter().position(|image| image.name == *name) {
            return Ok(images.swap_remove(at));
        }
        let wanted = name.to_string();
        let similar = images
            .iter()
            .map(|image| image.name.to_string())
            .map(|other| (strsim::jaro_winkler(&wanted, &other), other))
            .filter(|(likeness, _)| *likeness > 0.85)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, other)| other);
        Err(Error::NoImage { name: wanted, similar })
    }

    /// Calls the image whose manifest has the descriptor `descriptor` `name`; another of that name loses it.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn tag(&self, name: &ImageName, mut descriptor: Descriptor) -> Result<(), Error> {
        let name = name.to_string();
        let mut annotations = descriptor.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.clone());
        descriptor.set_annotations(Some(annotations));
        self.change_index(|images| {
            images.insert(name, descriptor);
        })
    }

    /// Takes the name `name` from its image; the image itself goes with the next prune.
    ///
    /// # Errors
    /// [`Error::NoImage`] when nothing has the name.
    pub fn untag(&self, name: &ImageName) -> Result<(), Error> {
        self.image(name)?;
        self.change_index(|images| {
            images.remove(&name.to_string());
        })
    }

    fn index(&self) -> Result<ImageIndex, Error> {
        let path = self.root().join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(index_of(Vec::new())),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the index while no other process can.
    fn change_index(&self, change: impl FnOnce(&mut BTreeMap<String, Descriptor>)) -> Result<(), Error> {
        let lock =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.root().join("index.lock"))?;
        let lock = lock.into_parts().0;
        lock.lock()?;
        let mut images = self.images()?.into_iter().map(|image| (image.name.to_string(), image.descriptor)).collect();
        change(&mut images);
        let path = self.root().join("index.json");
        let index = index_of(images.into_values().collect());
        // Through a Value, whose maps are sorted: same images, same bytes.
        let text = serde_json::to_value(index).and_then(|value| serde_json::to_vec_pretty(&value));
        self.replace(&path, &text.map_err(|source| Error::Damaged { path: path.clone(), source })?)
    }
}

fn index_of(manifests: Vec<Descriptor>) -> ImageIndex {
    let builder = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex);
    match builder.manifests(manifests).annotations(HashMap::<String, String>::new()).build() {
        Ok(index) => index,
        Err(error) => unreachable!("all fields of the index are given: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("iris", "iris:latest"),
            ("iris:1.0", "iris:1.0"),
            ("localhost:5000/a/iris", "localhost:5000/a/iris:latest"),
            ("registry.example/iris:1.0", "registry.example/iris:1.0"),
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), expected);
        }
        for text in ["", "Iris", "iris:", "iris:.x", "/iris", "a//b", "iris:a b", "../x", "-x"] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_belongs_to_one_image_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let name: ImageName = "iris:1.0".parse().unwrap();
        for content in ["one", "two"] {
            let digest = Digest::of(content);
            let descriptor = Descriptor::new(
                MediaType::ImageManifest,
                3,
                digest.to_string().parse::<oci_spec::image::Digest>().unwrap(),
            );
            store.tag(&name, descriptor).unwrap();
            assert_eq!(store.image(&name).unwrap().digest, digest);
        }
        assert_eq!(store.images().unwrap().len(), 1);
        let missing = store.image(&"iris:1.1".parse().unwrap()).unwrap_err();
        assert!(matches!(missing, Error::NoImage { similar: Some(similar), .. } if similar == "iris:1.0"));
        store.untag(&name).unwrap();
        assert!(store.images().unwrap().is_empty());
    }
}
