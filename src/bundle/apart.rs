//! Weights apart from the code: of an image, the part without its models, and its models alone. Both have the layers of the
//! whole, so that a registry or a machine that has one of the three lacks little of the others.
//!
//! Invariants: both follow from the image alone, whoever makes them and however often; the models' image says nothing of a
//! version of the code, so that it stays the same while the weights do. The part without models names that image by its
//! digest, and each file that it lacks.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::weights::{WEIGHTS, are_weights};
use super::{Error, runtime::Convention};
use crate::image::layer::{self, Layer};
use crate::image::oci::{Content, Descriptor, Document, LARGEST};
use crate::image::session::Session;
use crate::image::{self, Image, index};
use crate::io::archive::{self, ArchivePath, Kind, Limits, Member};
use crate::io::compress::decoder;
use crate::io::digest::{Digest, HashingReader};
use crate::io::parallel;
use crate::io::progress::{Task, Unit};

/// The annotation of both parts that lists the models' files, as [`Models`] is written. It is no label: containerd before 1.5
/// starts no container of an image that has a label of more than 4 kB.
pub const FILES: &str = "io.ekiben.models";

/// Label and annotation of the part without models: the digest of the image that has them, for the same platform.
pub const DIGEST: &str = "io.ekiben.models.digest";

/// What an image is called, which its models are called as well.
const TITLE: &str = "org.opencontainers.image.title";

/// A part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// All but the layers of weights.
    Code,
    /// The layers of weights.
    Models,
}

/// The files that are a model's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    /// The folder of the image that they lie in, as `/models/iris`.
    pub folder: String,
    /// By their paths.
    pub files: Vec<ModelFile>,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Below the folder.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes.
    pub digest: Digest,
}

impl Part {
    /// This part of `image`. The files of layers that were not looked into before are read, once.
    ///
    /// # Errors
    /// When the image has no layers of weights, they hold more than models, or one cannot be read.
    pub fn of(self, session: &Session, image: Image) -> Result<Image, Error> {
        match self {
            Self::Whole => Ok(image),
            Self::Code => {
                let models = Models::of(session, &image)?;
                let (digest, _) = models.image(&image).save(&session.store)?;
                let named = (DIGEST.to_owned(), digest.to_string());
                let about = [named.clone(), models.annotation()];
                Ok(image.without_layers(are_weights).with_annotations(about).with_config(|config| {
                    let mut labels = config.labels().clone().unwrap_or_default();
                    labels.extend([named]);
                    config.set_labels(Some(labels));
                }))
            }
            Self::Models => Ok(Models::of(session, &image)?.image(&image)),
        }
    }

    /// This part of the image or index of the store with the digest `digest`; gives its own.
    ///
    /// # Errors
    /// As [`Part::of`], and when the image is not there.
    pub fn of_stored(self, session: &Session, digest: &Digest) -> Result<(Digest, Descriptor), Error> {
        let store = &session.store;
        let part = |digest: &Digest| self.of(session, Image::load(store, digest)?);
        let document = Document::read(store.read_blob(digest, LARGEST)?, None);
        let document = document.map_err(|error| image::Error::Malformed { digest: *digest, source: error.into() })?;
        match &document.content {
            _ if self == Self::Whole => Ok((*digest, document.descriptor())),
            Content::Image(_) => Ok(part(digest)?.save(store)?),
            Content::Index(all) => {
                let images = all.images().map(|child| part(&child.digest)).collect::<Result<Vec<_>, _>>()?;
                Ok(index::save(store, &images)?)
            }
        }
    }

    /// What stands behind the version in the name of this part in the store.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Code => "-without-models",
            Self::Models => "-models",
        }
    }
}

impl Models {
    /// Those of an image that has them in layers of their own.
    ///
    /// # Errors
    /// As [`Part::of`].
    pub fn of(session: &Session, image: &Image) -> Result<Self, Error> {
        let files = files(session, image)?;
        let folder = files.keys().next().and_then(folder_of).ok_or(Error::NoWeights)?;
        let below = |(path, (size, digest)): (ArchivePath, (u64, Digest))| match path.below(&folder) {
            Some(name) => Ok(ModelFile { path: name.to_string(), size, digest }),
            None => Err(Error::NotApart { path, folder: folder.clone() }),
        };
        let files = files.into_iter().map(below).collect::<Result<_, _>>()?;
        Ok(Self { folder: format!("/{folder}"), files })
    }

    /// Those that an image says it has, or lacks, in its annotations.
    pub fn named(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(FILES)?).ok()
    }

    fn annotation(&self) -> (String, String) {
        // Texts, numbers and lists always serialise.
        (FILES.to_owned(), serde_json::to_string(self).unwrap_or_default())
    }

    /// The models of `whole` as an image of nothing else.
    fn image(&self, whole: &Image) -> Image {
        let layers = whole.layers().iter().filter(|layer| are_weights(layer)).cloned();
        let title = whole.annotations().get(TITLE).map(|title| (TITLE.to_owned(), title.clone()));
        let image = layers.fold(Image::scratch(whole.platform()), Image::with_layer);
        image.with_annotations(title.into_iter().chain([self.annotation()]))
    }
}

/// All files of the layers of weights, by their paths: sizes in bytes, and digests. Layers that were not looked into before are
/// read, once.
///
/// # Errors
/// When one cannot be read.
pub fn files(session: &Session, image: &Image) -> Result<BTreeMap<ArchivePath, (u64, Digest)>, Error> {
    let layers: Vec<&Layer> = image.layers().iter().filter(|layer| are_weights(layer)).collect();
    let bytes = layers.iter().map(|layer| layer.size).sum();
    let task = session.progress.task("Listing", "weights", Unit::Bytes, Some(bytes));
    let files = Mutex::new(BTreeMap::new());
    parallel::side_by_side(layers, |layer| {
        let found = members(session, layer, &task)?;
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        files.extend(found.into_iter().map(|(path, size, digest)| (path, (size, digest))));
        Ok::<_, Error>(())
    })?;
    Ok(files.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The files of one of the layers of weights, in their order.
///
/// # Errors
/// As [`files`].
pub fn paths(session: &Session, layer: &Layer) -> Result<Vec<ArchivePath>, Error> {
    let task = session.progress.task("Listing", &layer.title, Unit::Bytes, Some(layer.size));
    Ok(members(session, layer, &task)?.into_iter().map(|(path, _, _)| path).collect())
}

/// The folder of the models that a weight's path in an image is of.
fn folder_of(path: &ArchivePath) -> Option<ArchivePath> {
    let bento =
        ArchivePath::relative(format!("{}/{WEIGHTS}", Convention::Bento.code().trim_start_matches('/'))).ok()?;
    match path.below(&bento) {
        Some(_) => Some(bento),
        None => path.ancestors().nth(1).filter(|folder| folder.as_str().starts_with(&format!("{WEIGHTS}/"))),
    }
}

/// The files of a layer: paths, sizes in bytes, and digests. What it is made of is read once, and remembered under the layer.
fn members(session: &Session, layer: &Layer, task: &Task) -> Result<Vec<(ArchivePath, u64, Digest)>, Error> {
    const KNOWN: &str = "weight-files";
    let store = &session.store;
    if let Some(known) = store.cached(KNOWN, &layer.diff_id) {
        task.advance(layer.size);
        return Ok(known);
    }
    let mut found = Vec::new();
    let mut stored = task.reading(layer.open(store)?);
    {
        let content = decoder(&mut stored).map_err(layer::Error::from)?;
        archive::Reader::new(content, Limits::default()).for_each(|member: Member<'_>| -> Result<(), Error> {
            if let Kind::File { size } = member.entry.kind {
                let mut content = HashingReader::new(member.content);
                io::copy(&mut content, &mut io::sink()).map_err(layer::Error::from)?;
                found.push((member.entry.path.clone(), size, content.finish()));
            }
            Ok(())
        })?;
    }
    // There its own digest is checked.
    io::copy(&mut stored, &mut io::sink()).map_err(layer::Error::from)?;
    store.cache(KNOWN, &layer.diff_id, &found, Vec::new())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layer::LayerFile;
    use crate::image::oci::platform::Platform;
    use crate::image::session::Making;
    use crate::image::store;
    use crate::io::http::{Client, Network};
    use crate::io::progress::Progress;

    #[test]
    fn models_have_a_folder_in_either_layout() {
        let of = |path: &str| folder_of(&ArchivePath::new(path).unwrap()).map(|folder| folder.to_string());
        assert_eq!(of("models/iris/a/b.bin").as_deref(), Some("models/iris"));
        assert_eq!(of("home/bentoml/bento/models/iris/1/x").as_deref(), Some("home/bentoml/bento/models"));
        assert_eq!(of("home/bentoml/bento/src/large.bin"), None);
        assert_eq!(of("models/b.bin"), None);
    }

    #[test]
    fn what_is_large_but_no_model_stays_with_a_bentos_code() {
        let home = tempfile::tempdir().unwrap();
        let store = store::Store::open(home.path()).unwrap();
        let (progress, client) = (Progress::silent(), Client::new(Network::Offline));
        let session = Session { store, progress, client, making: Making::Compressed };
        let weight = |path: &str| LayerFile {
            path: ArchivePath::new(path).unwrap(),
            content: crate::io::content::Content::Bytes(vec![1; 10]),
        };
        let image = |paths: &[&str]| {
            let files = paths.iter().map(|path| weight(path)).collect();
            let task = session.progress.task("Hashing", "weights", Unit::Bytes, None);
            let layer = Layer::of_files(&session.store, "weights, 2 files", files, &task).unwrap();
            Image::scratch(Platform::Amd64).with_layer(layer)
        };
        let bento = "home/bentoml/bento";
        let with = |other: &str| image(&[&format!("{bento}/models/m/1/a.bin"), &format!("{bento}/{other}")]);
        assert_eq!(Models::of(&session, &with("models/n/1/b.bin")).unwrap().folder, "/home/bentoml/bento/models");
        let error = Part::Models.of(&session, with("src/b.bin")).unwrap_err();
        assert!(matches!(&error, Error::NotApart { path, .. } if path.name() == "b.bin"), "{error}");
        let error = Part::Code.of(&session, Image::scratch(Platform::Amd64)).unwrap_err();
        assert!(matches!(error, Error::NoWeights), "{error}");
    }
}
