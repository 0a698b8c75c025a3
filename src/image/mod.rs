//! An image: layers and how to start them. Immutable; edits give a new one.
//!
//! Invariant: the same layers and configuration give the same bytes of configuration and manifest. Both are written
//! with sorted keys and one fixed time. OCI image specification 1.1, `manifest.md` and `config.md`.

pub mod download;
pub mod export;
pub mod index;
pub mod layer;
pub mod oci;
pub mod policy;
pub mod registry;
pub mod remote;
pub mod session;
pub mod sign;
pub mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Config;

use crate::io::archive;
use crate::io::digest::{Digest, Mismatch};
use crate::io::explain::{ErrorKind, Explain, Explanation, carried};
use crate::io::progress::{Progress, Unit};
use layer::Layer;
use oci::platform::{Platform, UnknownPlatform};
use oci::{Configuration, Content, Descriptor, Document, LARGEST, Manifest, MediaType};
use session::Session;
use store::{ImageRecord, Store};

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer cannot be had.
    #[error(transparent)]
    Layer(#[from] crate::image::layer::Error),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] crate::image::registry::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(std::io::Error),
    /// The manifest or configuration is not what the specification says.
    #[error("the image {digest} is malformed")]
    Malformed {
        /// Of its manifest.
        digest: Digest,
        /// What it says that the specification does not allow.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is for a processor that nothing here knows.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// Something is in the way of what is to be exported.
    #[error("{} is there already", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Store(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Malformed { .. } => ErrorKind::Failure.named("image/malformed"),
            Self::Platform(error) => error.explain(),
            Self::Exists { .. } => {
                ErrorKind::Failure.named("image/exists").hint("choose another path, or remove it first")
            }
        }
    }
}

impl From<std::io::Error> for Error {
    /// What a layer's reader says is the layer's.
    fn from(error: std::io::Error) -> Self {
        carried(error).map_or_else(Self::Io, Self::Layer)
    }
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    platform: Platform,
    layers: Vec<Layer>,
    config: Config,
    /// What Docker knows beyond that: see [`oci::EXTENSIONS`].
    extensions: BTreeMap<String, serde_json::Value>,
    /// What made no layer, and how many layers lie below it.
    steps: Vec<(usize, String)>,
    annotations: BTreeMap<String, String>,
    /// As RFC 3339 has it.
    created: String,
    /// What it was read from; none once it was edited.
    documents: Option<Documents>,
}

/// Manifest and configuration of an image that others made: they stay as they are, to the byte.
#[derive(Clone, Debug)]
struct Documents {
    manifest: Descriptor,
    config: Digest,
}

impl Image {
    /// An image of nothing.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            platform,
            layers: Vec::new(),
            config: Config::default(),
            extensions: BTreeMap::new(),
            steps: Vec::new(),
            annotations: BTreeMap::new(),
            created: archive::epoch_date().to_string(),
            documents: None,
        }
    }

    /// The image with one more layer on top.
    pub fn with_layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self.documents = None;
        self
    }

    /// The image without the layers that `is_left_out` names.
    #[must_use]
    pub fn without_layers(mut self, is_left_out: impl Fn(&Layer) -> bool) -> Self {
        self.layers.retain(|layer| !is_left_out(layer));
        self.documents = None;
        self
    }

    /// The image with `change` made to how it is started.
    pub fn with_config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self.documents = None;
        self
    }

    /// The image with what Docker knows beyond the specification of how one is started: see [`oci::EXTENSIONS`].
    #[must_use]
    pub fn with_extensions(mut self, extensions: BTreeMap<String, serde_json::Value>) -> Self {
        self.extensions = extensions;
        self.documents = None;
        self
    }

    /// The image with one more step in its history, which made no layer.
    #[must_use]
    pub fn with_step(mut self, step: impl Into<String>) -> Self {
        self.steps.push((self.layers.len(), step.into()));
        self.documents = None;
        self
    }

    /// The image with annotations on its manifest; those of the same name are replaced.
    pub fn with_annotations(mut self, annotations: impl IntoIterator<Item = (String, String)>) -> Self {
        self.annotations.extend(annotations);
        self.documents = None;
        self
    }

    /// The image without the annotations of its manifest: they are about the one that it was made from.
    pub fn without_annotations(mut self) -> Self {
        self.annotations.clear();
        self.documents = None;
        self
    }

    /// What it is made for.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// How it is started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What Docker knows beyond that: see [`oci::EXTENSIONS`].
    pub fn extensions(&self) -> &BTreeMap<String, serde_json::Value> {
        &self.extensions
    }

    /// When it was made, as RFC 3339 has it.
    pub fn created(&self) -> &str {
        &self.created
    }

    /// The annotations of its manifest.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Bytes of all layers as they are stored.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Whether some of its layers are to be compressed yet: see [`Image::finished`].
    pub fn is_draft(&self) -> bool {
        self.layers.iter().any(|layer| layer.pending.is_some())
    }

    /// The image as it is handed on: layers that were made here and only unpacked are compressed. The same comes out as
    /// if they had been at once.
    ///
    /// # Errors
    /// When the files of a layer are not what they were, or the store cannot be written.
    pub fn finished(mut self, store: &Store, progress: &Progress) -> Result<Self, Error> {
        self = self.finished_before(store);
        if !self.is_draft() {
            return Ok(self);
        }
        let pending = self.layers.iter().filter(|layer| layer.pending.is_some());
        let task = progress.task("Compressing", "layers", Unit::Bytes, Some(pending.map(|layer| layer.size).sum()));
        for layer in &mut self.layers {
            *layer = layer.finished(store, &task)?;
        }
        task.finish(format!("Compressed layers to {} MB", self.size() / 1_000_000));
        Ok(self)
    }

    /// The same with those layers compressed that were before.
    #[must_use]
    pub fn finished_before(mut self, store: &Store) -> Self {
        if self.is_draft() {
            self.layers = self.layers.iter().map(|layer| layer.finished_before(store)).collect();
            self.documents = None;
        }
        self
    }

    /// Looks whether the layers whose bytes are in the store are as long as they should be. Nothing is read.
    ///
    /// # Errors
    /// [`Error::Malformed`] when one is not.
    pub fn check_sizes(&self, store: &Store) -> Result<(), Error> {
        for layer in &self.layers {
            let Ok(blob) = fs_err::metadata(store.blob_path(&layer.digest)) else { continue };
            if blob.len() != layer.size {
                let (digest, expected, actual) = (self.save(store)?.0, layer.size, blob.len());
                let source = Mismatch::Size { expected, actual, more: false };
                return Err(Error::Malformed { digest, source: format!("layer {}: {source}", layer.digest).into() });
            }
        }
        Ok(())
    }

    /// Reads all layers, and sees whether their bytes are those that they were.
    ///
    /// # Errors
    /// When a layer's bytes cannot be had, or are others.
    pub fn verify(&self, store: &Store, progress: &Progress) -> Result<(), Error> {
        let task = progress.task("Verifying", "layers", Unit::Bytes, Some(self.size()));
        for layer in &self.layers {
            task.copy(layer.open(store)?, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Puts configuration and manifest into the store, where the layers are, and gives the manifest's descriptor.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn save(&self, store: &Store) -> Result<(Digest, Descriptor), Error> {
        if let Some(Documents { manifest, .. }) = &self.documents {
            return Ok((manifest.digest, manifest.clone()));
        }
        let config = self.configuration().write();
        store.put_bytes(&config)?;
        let manifest = self.manifest(Descriptor::of(MediaType::Configuration, &config)).write();
        let digest = store.put_bytes(&manifest)?;
        let mut descriptor = Descriptor::of(MediaType::Manifest, &manifest);
        descriptor.platform = Some(self.platform.into());
        if self.is_draft() {
            descriptor.annotations.insert(oci::DRAFT.to_owned(), "true".to_owned());
        }
        Ok((digest, descriptor))
    }

    /// The digest of its configuration, where it was read from the store.
    pub fn config_digest(&self) -> Option<Digest> {
        self.documents.as_ref().map(|documents| documents.config)
    }

    /// The bytes of its configuration.
    fn config_document(&self, store: &Store) -> Result<Vec<u8>, Error> {
        match &self.documents {
            Some(Documents { config, .. }) => Ok(store.read_blob(config, LARGEST)?),
            None => Ok(self.configuration().write()),
        }
    }

    /// Reads the image whose manifest has the digest `digest`; of an index the one for this machine, or the first.
    ///
    /// # Errors
    /// When it is not in the store, or malformed.
    pub fn load(store: &Store, digest: &Digest) -> Result<Self, Error> {
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Malformed { digest: *digest, source };
        let document =
            Document::read(store.read_blob(digest, LARGEST)?, None).map_err(|error| malformed(error.into()))?;
        let mut descriptor = document.descriptor();
        let manifest = match document.content {
            Content::Image(manifest) => manifest,
            Content::Index(index) => {
                let image = index.choose_any().ok_or_else(|| malformed("it is an index of no images".into()))?;
                return Self::load(store, &image.digest);
            }
        };
        let config = store.read_blob(&manifest.config.digest, LARGEST)?;
        let config = Configuration::read(&config).map_err(|error| malformed(error.into()))?;
        let platform = config.platform.known()?;
        if config.diff_ids.len() != manifest.layers.len() {
            return Err(malformed("manifest and configuration have different numbers of layers".into()));
        }
        let mut titles = config.titles.into_iter();
        let mut layers = Vec::new();
        for (layer, diff_id) in manifest.layers.into_iter().zip(config.diff_ids) {
            let Some(compression) = layer.media_type.compression() else {
                return Err(malformed(format!("`{}` is no layer that can be unpacked", layer.media_type).into()));
            };
            let (title, Descriptor { digest, size, .. }) = (titles.next().unwrap_or_default(), layer);
            layers.push(Layer { compression, digest, size, diff_id, title, pending: None });
        }
        descriptor.platform = Some(platform.into());
        Ok(Self {
            platform,
            layers,
            config: config.config,
            extensions: config.extensions,
            steps: Vec::new(),
            annotations: manifest.annotations,
            created: config.created.unwrap_or_else(|| archive::epoch_date().to_string()),
            documents: Some(Documents { manifest: descriptor, config: manifest.config.digest }),
        })
    }

    /// As [`Image::load`], but of an index the one for `platform`.
    ///
    /// # Errors
    /// As [`Image::load`], and when the index has none for it.
    pub fn load_for(store: &Store, digest: &Digest, platform: Platform) -> Result<Self, Error> {
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Malformed { digest: *digest, source };
        let document =
            Document::read(store.read_blob(digest, LARGEST)?, None).map_err(|error| malformed(error.into()))?;
        let Content::Index(index) = document.content else { return Self::load(store, digest) };
        let image = index.choose(platform);
        let image = image.ok_or_else(|| malformed(format!("it has no image for {platform}").into()))?;
        Self::load(store, &image.digest)
    }

    /// The image of `record` as it is handed on, and its record. A draft is finished, and all that is called so is from then
    /// on called after what came out.
    ///
    /// # Errors
    /// When it is not in the store, malformed, or cannot be finished.
    pub fn handed_on(session: &Session, record: ImageRecord) -> Result<(ImageRecord, Self), Error> {
        let Session { store, progress, .. } = session;
        let image = Self::of_record(store, &record)?;
        if !record.is_draft() {
            return Ok((record, image));
        }
        let (_, image) = image.in_place_of(store, progress, &record.digest)?;
        Ok((store.image(&record.name)?, image))
    }

    /// The image finished and kept, with the digest of its manifest; the names of its draft, whose manifest has the digest
    /// `draft`, are its own from then on.
    ///
    /// # Errors
    /// As [`Image::finished`] and [`Image::save`].
    pub fn in_place_of(self, store: &Store, progress: &Progress, draft: &Digest) -> Result<(Digest, Self), Error> {
        let image = self.finished(store, progress)?;
        let (digest, descriptor) = image.save(store)?;
        store.tag_in_place_of(draft, &descriptor)?;
        Ok((digest, image))
    }

    /// The image of `record` as it is kept here: it may be a draft.
    ///
    /// # Errors
    /// When it is not in the store, or malformed.
    pub fn of_record(store: &Store, record: &ImageRecord) -> Result<Self, Error> {
        let mut image = Self::load(store, &record.digest)?;
        if record.is_draft() {
            // That is believed of what was made here alone: what others made stays as it is, to the byte.
            image.layers = draft_layers(store, &record.digest, image.layers)?;
            image.documents = None;
        }
        Ok(image)
    }

    fn configuration(&self) -> Configuration {
        Configuration {
            platform: self.platform.into(),
            created: Some(self.created.clone()),
            config: self.config.clone(),
            extensions: self.extensions.clone(),
            steps: self.steps.clone(),
            diff_ids: self.layers.iter().map(|layer| layer.diff_id).collect(),
            titles: self.layers.iter().map(|layer| layer.title.clone()).collect(),
        }
    }

    fn manifest(&self, config: Descriptor) -> Manifest {
        let layers = self.layers.iter();
        Manifest::image(config, layers.map(descriptor).collect(), self.annotations.clone())
    }
}

/// What names a layer. That it is to be compressed yet is said for [`draft_layers`].
fn descriptor(layer: &Layer) -> Descriptor {
    let mut descriptor = Descriptor::new(MediaType::Layer(layer.compression), layer.digest, layer.size);
    if let Some(compression) = layer.pending {
        let media_type = MediaType::Layer(compression).to_string();
        descriptor.annotations.insert(oci::PENDING.to_owned(), media_type);
    }
    descriptor
}

/// The layers of the draft whose manifest has the digest `digest`, with how they are to be stored.
fn draft_layers(store: &Store, digest: &Digest, layers: Vec<Layer>) -> Result<Vec<Layer>, Error> {
    let malformed = |error: oci::Malformed| Error::Malformed { digest: *digest, source: error.into() };
    let Content::Image(manifest) = Document::read(store.read_blob(digest, LARGEST)?, None).map_err(malformed)?.content
    else {
        return Ok(layers);
    };
    let pending = manifest.layers.iter().map(|layer| {
        let media_type: Option<MediaType> = layer.annotations.get(oci::PENDING).map(|text| text.as_str().into());
        media_type.and_then(|media_type| media_type.compression())
    });
    Ok(layers.into_iter().zip(pending).map(|(layer, pending)| Layer { pending, ..layer }).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::image::session::Making;

    #[test]
    fn an_image_is_the_same_bytes_each_time_and_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let layer = Layer::write::<Error>(&store, Making::Compressed, "a folder", |writer| {
            let path = archive::ArchivePath::new("app").unwrap();
            Ok(writer.entry(&archive::Entry::directory(path))?)
        })
        .unwrap();
        let labels: HashMap<_, _> = (0..20).map(|i| (format!("label{i}"), "x".to_owned())).collect();
        let image = Image::scratch(Platform::Arm64)
            .with_layer(layer)
            .with_config(|config| {
                config.set_labels(Some(labels));
            })
            .with_annotations([("a".to_owned(), "b".to_owned())]);
        let (digest, _) = image.save(&store).unwrap();
        assert_eq!(image.clone().save(&store).unwrap().0, digest);
        let back = Image::load(&store, &digest).unwrap();
        assert_eq!(back.layers(), image.layers());
        // One that somebody else could take for an index is taken for nothing here.
        let bytes = store.read_blob(&digest, LARGEST).unwrap();
        let mut both: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        both["manifests"] = serde_json::json!([]);
        let both = both.to_string().into_bytes();
        let ambiguous = store.put_bytes(&both).unwrap();
        assert!(matches!(Image::load(&store, &ambiguous), Err(Error::Malformed { .. })));
        store.tag(&"both".parse().unwrap(), Descriptor::of(MediaType::Manifest, &both)).unwrap();
        let refused =
            store.prune(store::Reach::Unused, &|| Ok(Default::default()), store::Purpose::Remove, &Progress::silent());
        assert!(matches!(refused, Err(store::Error::Damaged { .. })));
        assert_eq!(back.save(&store).unwrap().0, digest);
    }
}
