//! Images by name: `index.json` of the layout, where each manifest's `org.opencontainers.image.ref.name` is its name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fs_err as fs;
use serde::Serialize;

use super::{Error, Store};
use crate::image::oci::{self, Descriptor, Index};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::closest;

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

impl Explain for ImageNameError {
    fn explain(&self) -> Explanation {
        ErrorKind::Usage.named("image/name")
    }
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

impl ImageRecord {
    /// Whether layers of it are to be compressed yet: [`crate::image::Image::find`] does it.
    pub fn is_draft(&self) -> bool {
        self.descriptor.annotations.contains_key(oci::DRAFT)
    }
}

impl Store {
    /// All images, by name.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn images(&self) -> Result<Vec<ImageRecord>, Error> {
        let mut images = Vec::new();
        for descriptor in self.index()?.manifests {
            let name = descriptor.annotations.get(oci::NAME).and_then(|name| name.parse().ok());
            images.extend(name.map(|name| ImageRecord { name, digest: descriptor.digest, descriptor }));
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
        let names: Vec<_> = images.iter().map(|image| image.name.to_string()).collect();
        let similar = closest(&wanted, &names).map(str::to_owned);
        Err(Error::NoImage { name: wanted, similar })
    }

    /// Calls the image whose manifest has the descriptor `descriptor` `name`; another of that name loses it.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn tag(&self, name: &ImageName, mut descriptor: Descriptor) -> Result<(), Error> {
        let name = name.to_string();
        descriptor.annotations.insert(oci::NAME.to_owned(), name.clone());
        self.change_index(|images| {
            images.insert(name, descriptor);
        })
    }

    /// Gives all names of the image whose manifest has the digest `before` to the one with the descriptor `descriptor`.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn tag_in_place_of(&self, before: &Digest, descriptor: &Descriptor) -> Result<(), Error> {
        self.change_index(|images| {
            for (name, image) in images.iter_mut().filter(|(_, image)| image.digest == *before) {
                *image = descriptor.clone();
                image.annotations.insert(oci::NAME.to_owned(), name.clone());
            }
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

    fn index(&self) -> Result<Index, Error> {
        let path = self.root().join("index.json");
        match fs::read(&path) {
            Ok(bytes) => Index::read(bytes).map_err(|error| Error::Damaged { path, source: error.into() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
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
        let index = Index { manifests: images.into_values().collect(), ..Index::default() };
        self.replace(&self.root().join("index.json"), &index.write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::oci::MediaType;

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
            let descriptor = Descriptor::of(MediaType::Manifest, content.as_bytes());
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
