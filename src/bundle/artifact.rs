//! A model as an artifact of a registry, which other tools for models read: of an image, its weights under other documents.
//!
//! Invariants: an artifact's layers are the image's own, so that a registry that has one has the bytes of the other; it follows from
//! the image alone, whoever makes it and however often.

use std::collections::BTreeMap;

use super::Error;
use super::apart::{self, Models, Part};
use super::weights::are_weights;
use crate::formats::modelpack::{self, Config, Layers, Technical};
use crate::image::Image;
use crate::image::layer::Layer;
use crate::image::oci::{Descriptor, Manifest, MediaType};
use crate::image::session::Session;
use crate::image::store::Error as StoreError;
use crate::io::archive::ArchivePath;
use crate::io::compress::Compression;
use crate::io::digest::Digest;

/// What a plain artifact is.
const PLAIN: &str = "application/vnd.ekiben.model.v1";
/// A layer of a plain artifact: an archive, as it is in an image.
const PLAIN_LAYER: &str = "application/vnd.ekiben.model.weights.v1.tar";
/// The name that a layer's file gets where oras pulls it.
const TITLE: &str = "org.opencontainers.image.title";

/// How a model lies in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As an image of the models alone, as KServe mounts it.
    ModelCar,
    /// As the CNCF's ModelPack.
    ModelPack,
    /// As an artifact of plain files, as oras pulls them.
    Plain,
}

/// Makes the model of the image or index `digest` of the store an artifact; gives the digest of what is to be pushed.
///
/// # Errors
/// When the image has no layers of weights, or they hold more than models.
pub fn of_stored(session: &Session, digest: &Digest, form: Form) -> Result<Digest, Error> {
    let store = &session.store;
    let kept = |error: StoreError| Error::Store(error);
    if form == Form::ModelCar {
        return Ok(Part::Models.of_stored(session, digest)?.0);
    }
    // Of an index any: weights are for all processors.
    let image = Image::load(store, digest)?;
    // That they are weights alone is seen there.
    let models = Models::of(session, &image)?;
    let weights: Vec<&Layer> = image.layers().iter().filter(|layer| are_weights(layer)).collect();
    let of_layers = weights.iter().map(|layer| apart::paths(session, layer)).collect::<Result<Vec<_>, _>>()?;
    let (config, artifact_type, layers) = match form {
        Form::ModelPack => {
            let config = described(&image, &models, &weights);
            let text = serde_json::to_vec(&config).map_err(std::io::Error::from)?;
            let link = Descriptor::of(modelpack::CONFIG.into(), &text);
            let layers = weights
                .iter()
                .zip(&of_layers)
                .map(|(layer, paths)| annotated(layer, modelpack::WEIGHTS, modelpack::PATH, common(paths)));
            store.put_bytes(&text).map_err(kept)?;
            (link, modelpack::ARTIFACT, layers.collect())
        }
        _ => {
            let link = Descriptor::of(MediaType::Empty, b"{}");
            store.put_bytes(b"{}").map_err(kept)?;
            let layers = weights.iter().zip(&of_layers).enumerate().map(|(number, (layer, paths))| {
                let name = common(paths).rsplit('/').next().unwrap_or_default().to_owned();
                let ending = match layer.compression {
                    Compression::None => "tar",
                    Compression::Gzip => "tar.gz",
                    Compression::Zstd => "tar.zst",
                };
                annotated(layer, PLAIN_LAYER, TITLE, format!("{:02}-{name}.{ending}", number + 1))
            });
            (link, PLAIN, layers.collect())
        }
    };
    let annotations = about(&image).into_iter().map(|(key, value)| (format!("{OCI}{key}"), value)).collect();
    let manifest =
        Manifest { config, layers, annotations, artifact_type: Some(artifact_type.to_owned()), subject: None };
    store.put_bytes(&manifest.write()).map_err(kept)
}

/// Before names of annotations (OCI image specification, `annotations.md`).
const OCI: &str = "org.opencontainers.image.";

/// What an image says of its model, by the ends of the annotations' names.
fn about(image: &Image) -> BTreeMap<&'static str, String> {
    let of = |key| Some((key, image.annotations().get(&format!("{OCI}{key}"))?.clone()));
    ["title", "version", "description", "licenses", "source"].into_iter().filter_map(of).collect()
}

fn described(image: &Image, models: &Models, weights: &[&Layer]) -> Config {
    let mut about = about(image);
    let largest = models.files.iter().max_by_key(|file| (file.size, file.path.as_str()));
    Config {
        descriptor: modelpack::Descriptor {
            name: about.remove("title"),
            version: about.remove("version"),
            description: about.remove("description"),
            source: about.remove("source"),
            licenses: about.remove("licenses").into_iter().collect(),
        },
        config: Technical { format: largest.and_then(|file| modelpack::format_of(&file.path)).map(str::to_owned) },
        modelfs: Layers { r#type: "layers", diff_ids: weights.iter().map(|layer| layer.diff_id).collect() },
    }
}

/// The layer under another media type, with an annotation.
fn annotated(layer: &Layer, kind: &str, key: &str, value: String) -> Descriptor {
    let ending = match layer.compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    let mut link = Descriptor::new(format!("{kind}{ending}").as_str().into(), layer.digest, layer.size);
    link.annotations.insert(key.to_owned(), value);
    link
}

/// The file, or the folder that all files are in.
fn common(paths: &[ArchivePath]) -> String {
    let Some((first, others)) = paths.split_first() else { return String::new() };
    if others.is_empty() {
        return first.to_string();
    }
    let above = first.ancestors().filter(|folder| others.iter().all(|path| path.below(folder).is_some()));
    above.last().map(|folder| folder.to_string()).unwrap_or_default()
}
