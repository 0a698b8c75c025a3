//! Images by name: `index.json` of the layout, where each manifest's `org.opencontainers.image.ref.name` is its name.
//! Manifests without one are about others: [`super::referrers`] has them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::Serialize;

use super::{Error, Flush, Store, referrers};
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

/// What a person calls an image: `NAME:TAG`, or `NAME` alone where only one can be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageQuery {
    /// With the tag `latest` where there is none.
    name: ImageName,
    is_tagged: bool,
}

impl ImageQuery {
    /// The name without a tag.
    pub fn repository(&self) -> &str {
        &self.name.repository
    }

    /// Whether `name` is one that can be meant.
    pub fn matches(&self, name: &ImageName) -> bool {
        if self.is_tagged { self.name == *name } else { self.name.repository == name.repository }
    }
}

impl FromStr for ImageQuery {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name: ImageName = text.parse()?;
        let is_tagged = text.len() > name.repository.len();
        Ok(Self { name, is_tagged })
    }
}

impl From<ImageName> for ImageQuery {
    fn from(name: ImageName) -> Self {
        Self { name, is_tagged: true }
    }
}

impl fmt::Display for ImageQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_tagged { self.name.fmt(f) } else { f.write_str(&self.name.repository) }
    }
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    /// What it is called.
    pub name: ImageName,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The descriptor of its manifest or index. Its annotations are the store's own notes, and no part of the image.
    pub descriptor: Descriptor,
}

/// Where what an image was built from lies, in the store's notes.
const ORIGIN: &str = "ekiben.origin";

/// When an image got its name, in seconds since 1970, in the store's notes.
const NAMED: &str = "ekiben.named";

impl ImageRecord {
    /// Whether layers of it are to be compressed yet: [`crate::image::Image::handed_on`] does it.
    pub fn is_draft(&self) -> bool {
        self.descriptor.annotations.contains_key(oci::DRAFT)
    }

    /// The project, bundle or bento that it was built from here, absolute; none of what was pulled.
    pub fn origin(&self) -> Option<&Path> {
        self.descriptor.annotations.get(ORIGIN).map(Path::new)
    }

    /// When the image got its name, in seconds since 1970; none where a store of old does not say.
    pub fn named(&self) -> Option<u64> {
        self.descriptor.annotations.get(NAMED)?.parse().ok()
    }
}

impl Store {
    /// All images, by name.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn images(&self) -> Result<Vec<ImageRecord>, Error> {
        let mut images = Vec::new();
        images.extend(self.index()?.manifests.into_iter().filter_map(|descriptor| record(Some(descriptor))));
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
        Err(no_image(name.to_string(), &images))
    }

    /// The image that `query` means. Without a tag it is the one called `latest`, else the one of `version`, else the only
    /// one of the name.
    ///
    /// # Errors
    /// [`Error::NoImage`] when there is none, [`Error::Ambiguous`] when it may be any of several.
    pub fn find(&self, query: &ImageQuery, version: Option<&str>) -> Result<ImageRecord, Error> {
        let images = self.images()?;
        let mut found: Vec<_> = images.iter().filter(|image| query.matches(&image.name)).collect();
        let tagged = |tag: &str| found.iter().position(|image| image.name.tag == tag);
        match tagged(&query.name.tag).or_else(|| tagged(version?)) {
            Some(at) => Ok(found.swap_remove(at).clone()),
            None if found.len() == 1 => Ok(found.remove(0).clone()),
            None if found.is_empty() => Err(no_image(query.to_string(), &images)),
            None => {
                let names = found.iter().map(|image| image.name.to_string()).collect();
                Err(Error::Ambiguous { name: query.to_string(), names })
            }
        }
    }

    /// Calls the image whose manifest has the descriptor `descriptor` `name`; another of that name loses it, and is given
    /// back.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn tag(&self, name: &ImageName, descriptor: Descriptor) -> Result<Option<ImageRecord>, Error> {
        let mut before = None;
        self.change_index(|images| {
            before = record(images.get(&name.to_string()).cloned()).filter(|other| other.digest != descriptor.digest);
            let mut descriptor = descriptor;
            let kept = images.get(&name.to_string()).filter(|_| before.is_none());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
            let since = kept.and_then(|kept| kept.annotations.get(NAMED).cloned()).unwrap_or(now);
            descriptor.annotations.insert(NAMED.to_owned(), since);
            descriptor.annotations.insert(oci::NAME.to_owned(), name.to_string());
            images.insert(name.to_string(), descriptor);
        })?;
        Ok(before)
    }

    /// The same for an image that was built from what lies at `origin`.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn tag_built(
        &self,
        name: &ImageName,
        mut descriptor: Descriptor,
        origin: &Path,
    ) -> Result<Option<ImageRecord>, Error> {
        // Notes are texts: of a path that is none, nothing is said.
        if let Some(origin) = origin.to_str() {
            descriptor.annotations.insert(ORIGIN.to_owned(), origin.to_owned());
        }
        self.tag(name, descriptor)
    }

    /// Gives all names of the image whose manifest has the digest `before` to the one with the descriptor `descriptor`.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn tag_in_place_of(&self, before: &Digest, descriptor: &Descriptor) -> Result<(), Error> {
        self.change_index(|images| {
            for (name, image) in images.iter_mut().filter(|(_, image)| image.digest == *before) {
                let before = std::mem::replace(image, descriptor.clone()).annotations;
                image.annotations.insert(oci::NAME.to_owned(), name.clone());
                image.annotations.extend(before.into_iter().filter(|(key, _)| [ORIGIN, NAMED].contains(&key.as_str())));
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

    pub(super) fn index(&self) -> Result<Index, Error> {
        let path = self.root().join("index.json");
        match fs::read(&path) {
            Ok(bytes) => Index::read(bytes).map_err(|error| Error::Damaged { path, source: error.into() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the index while no other process can.
    fn change_index(&self, change: impl FnOnce(&mut BTreeMap<String, Descriptor>)) -> Result<(), Error> {
        self.change_entries(|images, _| {
            change(images);
            Ok(())
        })
    }

    /// The same, with the manifests that are about others. Nothing is changed where `change` fails.
    pub(super) fn change_entries<E: From<Error>>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Descriptor>, &mut Vec<Descriptor>) -> Result<(), E>,
    ) -> Result<(), E> {
        let open = fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.root().join("index.lock"));
        let lock = open.map_err(Error::from)?.into_parts().0;
        lock.lock().map_err(Error::from)?;
        let (mut images, mut referrers) = (BTreeMap::new(), Vec::new());
        for descriptor in self.index()?.manifests {
            match record(Some(descriptor.clone())) {
                Some(image) => drop(images.insert(image.name.to_string(), descriptor)),
                None if referrers::subject(&descriptor).is_some() => referrers.push(descriptor),
                None => {}
            }
        }
        change(&mut images, &mut referrers)?;
        let index = Index { manifests: images.into_values().chain(referrers).collect(), ..Index::default() };
        Ok(self.replace(&self.root().join("index.json"), &index.write(), Flush::Yes)?)
    }
}

/// An entry of the index, if it has a name.
fn record(descriptor: Option<Descriptor>) -> Option<ImageRecord> {
    let descriptor = descriptor?;
    let name = descriptor.annotations.get(oci::NAME)?.parse().ok()?;
    Some(ImageRecord { name, digest: descriptor.digest, descriptor })
}

fn no_image(name: String, images: &[ImageRecord]) -> Error {
    let names: Vec<_> = images.iter().map(|image| image.name.to_string()).collect();
    let similar = closest(&name, &names).map(str::to_owned);
    Error::NoImage { name, similar, names }
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

    #[test]
    fn a_name_without_a_tag_is_the_only_one_that_it_can_be() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let tag = |name: &str| {
            let descriptor = Descriptor::of(MediaType::Manifest, name.as_bytes());
            store.tag(&name.parse().unwrap(), descriptor).unwrap();
        };
        let find = |query: &str, version| {
            store.find(&query.parse().unwrap(), version).map(|image| image.name.to_string()).map_err(
                |error| match error {
                    Error::Ambiguous { names, .. } => names.join(" "),
                    error => error.to_string(),
                },
            )
        };
        assert_eq!(find("iris", None), Err("there is no image `iris` in the store".to_owned()));
        tag("iris:1.0");
        tag("host:5000/iris:3");
        assert_eq!(find("iris", Some("2.0")), Ok("iris:1.0".to_owned()));
        assert_eq!(find("host:5000/iris", None), Ok("host:5000/iris:3".to_owned()));
        tag("iris:2.0");
        assert_eq!(find("iris", Some("2.0")), Ok("iris:2.0".to_owned()));
        assert_eq!(find("iris", None), Err("iris:1.0 iris:2.0".to_owned()));
        assert!(find("iris:latest", None).is_err() && find("iris:3", Some("2.0")).is_err());
        tag("iris:latest");
        assert_eq!(find("iris", Some("2.0")), Ok("iris:latest".to_owned()));
    }

    #[test]
    fn who_loses_a_name_is_known_by_where_it_was_built() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let name: ImageName = "iris:1.0".parse().unwrap();
        let tag = |content: &str, origin: &str| {
            let descriptor = Descriptor::of(MediaType::Manifest, content.as_bytes());
            store.tag_built(&name, descriptor, Path::new(origin)).unwrap()
        };
        assert!(tag("one", "/a").is_none());
        assert!(tag("one", "/b").is_none(), "it is the same image");
        let named = store.image(&name).unwrap().named();
        assert!(named.is_some());
        assert_eq!(tag("two", "/c").unwrap().origin(), Some(Path::new("/b")));
    }
}
