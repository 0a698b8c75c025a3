//! An image: layers and how to start them. Immutable; edits give a new one.
//!
//! Invariant: the same layers and configuration give the same bytes of configuration and manifest. Both are written
//! with sorted keys and one fixed time. OCI image specification 1.1, `manifest.md` and `config.md`.

pub mod download;
pub mod export;
pub mod index;
pub mod layer;
pub mod oci;
pub mod registry;
pub mod remote;
pub mod session;
pub mod store;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::image::{
    Config, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, ImageIndex,
    ImageManifest, ImageManifestBuilder, MediaType, PlatformBuilder, RootFsBuilder,
};
use serde::Serialize;

use crate::io::archive;
use crate::io::compress::Compression;
use crate::io::digest::{Digest, Mismatch};
use crate::io::progress::{Progress, Unit};
use layer::Layer;
use oci::platform::{Platform, UnknownPlatform};
use store::{ImageName, Store};

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store says no.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// A layer cannot be had.
    #[error("{0}")]
    Layer(#[from] crate::image::layer::Error),
    /// A registry.
    #[error("{0}")]
    Registry(#[from] crate::image::registry::Error),
    /// A file could not be read or written. The message names it.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// The manifest or configuration is not what the specification says.
    #[error("the image {digest} is malformed")]
    Malformed {
        /// Of its manifest.
        digest: Digest,
        /// What it says that the specification does not allow.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is for a processor that nothing here knows.
    #[error("{0}")]
    Platform(#[from] UnknownPlatform),
    /// Something is in the way of what is to be exported.
    #[error("{} is there already", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layer(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Exists { .. } => Some("choose another path, or remove it first".to_owned()),
            _ => None,
        }
    }
}

impl From<std::io::Error> for Error {
    /// What a layer's reader says is the layer's.
    fn from(error: std::io::Error) -> Self {
        error.downcast().map_or_else(Self::Io, Self::Layer)
    }
}

/// Largest manifest or configuration that is read, in bytes: what registries take as well.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    platform: Platform,
    layers: Vec<Layer>,
    config: Config,
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

    /// The image with `change` made to how it is started.
    pub fn with_config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
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

    /// The annotations of its manifest.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Bytes of all layers as they are stored.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
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
            let digest = manifest.digest().as_ref().parse().map_err(std::io::Error::other)?;
            return Ok((digest, manifest.clone()));
        }
        let config = document(&self.configuration()?)?;
        let config_digest = store.put_bytes(&config)?;
        let manifest = document(&self.manifest(config_digest, config.len() as u64)?)?;
        let digest = store.put_bytes(&manifest)?;
        let descriptor = descriptor(MediaType::ImageManifest, digest, manifest.len() as u64)?;
        Ok((digest, for_platform(descriptor, self.platform)?))
    }

    /// The bytes of its configuration.
    fn config_document(&self, store: &Store) -> Result<Vec<u8>, Error> {
        match &self.documents {
            Some(Documents { config, .. }) => Ok(store.read_blob(config, LARGEST_DOCUMENT)?),
            None => document(&self.configuration()?),
        }
    }

    /// Reads the image whose manifest has the digest `digest`; of an index the one for this machine, or the first.
    ///
    /// # Errors
    /// When it is not in the store, or malformed.
    pub fn load(store: &Store, digest: &Digest) -> Result<Self, Error> {
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Malformed { digest: *digest, source };
        let bytes = store.read_blob(digest, LARGEST_DOCUMENT)?;
        if let Ok(index) = serde_json::from_slice::<ImageIndex>(&bytes) {
            let digest = index::choose(&index).ok_or_else(|| malformed("it is an index of no images".into()))?;
            return Self::load(store, &digest);
        }
        let manifest: ImageManifest = serde_json::from_slice(&bytes).map_err(|error| malformed(error.into()))?;
        let parse = |text: &str| text.parse::<Digest>().map_err(|error| malformed(error.into()));
        let config_digest = parse(manifest.config().digest().as_ref())?;
        let config = store.read_blob(&config_digest, LARGEST_DOCUMENT)?;
        let config: ImageConfiguration = serde_json::from_slice(&config).map_err(|error| malformed(error.into()))?;
        let platform: Platform = format!("{}/{}", config.os(), config.architecture()).parse()?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            return Err(malformed("manifest and configuration have different numbers of layers".into()));
        }
        let mut titles = config
            .history()
            .iter()
            .flatten()
            .filter(|step| !step.empty_layer().unwrap_or_default())
            .map(|step| step.created_by().clone().unwrap_or_default());
        let mut layers = Vec::new();
        for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
            layers.push(Layer {
                compression: compression(layer.media_type()).map_err(malformed)?,
                digest: parse(layer.digest().as_ref())?,
                size: layer.size(),
                diff_id: parse(diff_id)?,
                title: titles.next().unwrap_or_default(),
            });
        }
        let annotations = manifest.annotations().clone().unwrap_or_default().into_iter().collect();
        let created = config.created().clone().unwrap_or_else(|| archive::epoch_date().to_string());
        let media_type = manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
        let descriptor = for_platform(descriptor(media_type, *digest, bytes.len() as u64)?, platform)?;
        let documents = Some(Documents { manifest: descriptor, config: config_digest });
        Ok(Self {
            platform,
            layers,
            config: config.config().clone().unwrap_or_default(),
            annotations,
            created,
            documents,
        })
    }

    /// The image called `name`, and the digest of its manifest.
    ///
    /// # Errors
    /// When there is none, or it is malformed.
    pub fn find(store: &Store, name: &ImageName) -> Result<(Digest, Self), Error> {
        let record = store.image(name)?;
        Ok((record.digest, Self::load(store, &record.digest)?))
    }

    fn configuration(&self) -> Result<ImageConfiguration, Error> {
        let created = &self.created;
        let history = self.layers.iter().map(|layer| {
            HistoryBuilder::default().created(created.clone()).created_by(layer.title.clone()).build().map_err(invalid)
        });
        let diff_ids = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>();
        ImageConfigurationBuilder::default()
            .created(created.clone())
            .os(oci_spec::image::Os::Linux)
            .architecture(oci_spec::image::Arch::from(self.platform.architecture()))
            .config(self.config.clone())
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(invalid)?)
            .history(history.collect::<Result<Vec<_>, _>>()?)
            .build()
            .map_err(invalid)
    }

    fn manifest(&self, config: Digest, config_size: u64) -> Result<ImageManifest, Error> {
        let layers = self
            .layers
            .iter()
            .map(|layer| descriptor(layer.compression.layer_media_type(), layer.digest, layer.size))
            .collect::<Result<Vec<_>, _>>()?;
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, config, config_size)?)
            .layers(layers)
            .build()
            .map_err(invalid)?;
        if !self.annotations.is_empty() {
            manifest.set_annotations(Some(self.annotations.clone().into_iter().collect::<HashMap<_, _>>()));
        }
        Ok(manifest)
    }
}

fn compression(media_type: &MediaType) -> Result<Compression, Box<dyn std::error::Error + Send + Sync>> {
    // Layers that nobody may hand on have names of their own (image-spec 1.1, `layer.md`, "Non-Distributable Layers").
    match media_type.to_string().as_str() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Ok(Compression::Zstd),
        other => Err(format!("`{other}` is no layer that can be unpacked").into()),
    }
}

fn for_platform(mut descriptor: Descriptor, platform: Platform) -> Result<Descriptor, Error> {
    let platform = PlatformBuilder::default()
        .os(oci_spec::image::Os::Linux)
        .architecture(oci_spec::image::Arch::from(platform.architecture()))
        .build()
        .map_err(invalid)?;
    descriptor.set_platform(Some(platform));
    Ok(descriptor)
}

fn descriptor(media_type: MediaType, digest: Digest, size: u64) -> Result<Descriptor, Error> {
    let digest: oci_spec::image::Digest = digest.to_string().parse().map_err(invalid)?;
    DescriptorBuilder::default().media_type(media_type).digest(digest).size(size).build().map_err(invalid)
}

/// A document with sorted keys: `serde_json::Value` keeps its maps in order.
fn document(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let value = serde_json::to_value(value).map_err(std::io::Error::from)?;
    Ok(serde_json::to_vec(&value).map_err(std::io::Error::from)?)
}

/// For builders, which fail only on fields that were not given.
fn invalid(error: oci_spec::OciSpecError) -> Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_bytes_each_time_and_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let layer = Layer::write::<Error>(&store, Compression::Gzip, "a folder", |writer| {
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
        assert_eq!(back.save(&store).unwrap().0, digest);
    }
}
