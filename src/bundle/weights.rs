//! Weights as layers: which file goes into which layer, and their digests.
//!
//! A large file has a layer of its own, so that another version of one file moves that file alone. Small ones share,
//! and with very many shards large ones do too: runtimes take no more than 127 layers.

use super::{Error, Hashing, Weight};
use crate::image::layer::{self, Layer, LayerFile};
use crate::image::session::Session;
use crate::image::store::Store;
use crate::io::archive::{self, ArchivePath};
use crate::io::digest::Digest;
use crate::io::parallel;
use crate::io::progress::Unit;

/// The folder of all models in an image.
pub const WEIGHTS: &str = "models";

/// Files smaller than this share a layer of about this size, in bytes.
const ALONE: u64 = 4 << 20;

/// Whether a file of a bento, of `size` bytes, is one of its weights: its models, and all that is as large as they are.
pub fn weighs(path: &ArchivePath, size: u64) -> bool {
    path.as_str().starts_with("models/") || size >= ALONE
}

/// What the titles of layers of weights begin with.
const TITLE: &str = "weights";

/// Whether a layer of an image that was built here or elsewhere by Ekiben is one of weights.
pub fn are_weights(layer: &Layer) -> bool {
    let rest = layer.title.strip_prefix(TITLE);
    rest.is_some_and(|rest| rest.starts_with([' ', ',']))
}

/// Layers that weights may take. Base, packages and code need some of the 127 as well.
const MOST_LAYERS: usize = 80;

/// Files that share a layer, which may not be known yet.
pub(super) struct Group {
    pub(super) files: Vec<LayerFile>,
    /// Of all that the layer's digest depends on.
    key: Digest,
    pub(super) layer: Option<Layer>,
}

/// The groups of `weights`, with the layers that are remembered (none with [`Hashing::Again`]).
pub(super) fn groups(
    store: &Store,
    folder: &ArchivePath,
    weights: &[Weight],
    hashing: Hashing,
) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for files in split(folder, weights)? {
        // Paths, numbers and lists always serialise.
        let key = Digest::of(serde_json::to_vec(&(archive::epoch(), &files)).unwrap_or_default());
        let layer: Option<Layer> = if hashing == Hashing::Again { None } else { store.cached("weights", &key) };
        if let Some(layer) = &layer {
            layer.keep_recipe(store, files.clone())?;
        }
        groups.push(Group { files, key, layer });
    }
    Ok(groups)
}

impl Group {
    /// For a person.
    pub(super) fn title(&self) -> String {
        match &self.files[..] {
            [file] => format!("{TITLE} {}", file.path.name()),
            files => format!("{TITLE}, {} files", files.len()),
        }
    }

    /// How many bytes are read to hash it.
    fn bytes(&self) -> u64 {
        layer::size(archive::epoch(), &self.files)
    }

    /// Makes the layer known with `make`, and remembers it, if it is not known yet.
    pub(super) fn hash<E: From<Error>>(
        &mut self,
        store: &Store,
        make: impl FnOnce(String, Vec<LayerFile>) -> Result<Layer, E>,
    ) -> Result<(), E> {
        if self.layer.is_none() {
            let settled = self.files.iter().all(|file| file.content.is_settled());
            let layer = make(self.title(), self.files.clone())?;
            if settled {
                store.cache("weights", &self.key, &layer, vec![layer.digest]).map_err(Error::from)?;
            }
            self.layer = Some(layer);
        }
        Ok(())
    }
}

/// The layers that `weights` become, hashing side by side what is not known yet (all of it with [`Hashing::Again`]).
pub(super) fn layers(
    session: &Session,
    folder: &ArchivePath,
    weights: &[Weight],
    hashing: Hashing,
) -> Result<Vec<Layer>, Error> {
    let mut groups = groups(&session.store, folder, weights, hashing)?;
    let unknown: Vec<_> = groups.iter_mut().filter(|group| group.layer.is_none()).collect();
    if !unknown.is_empty() {
        let bytes = unknown.iter().map(|group| group.bytes()).sum();
        let task = session.progress.task("Hashing", "weights", Unit::Bytes, Some(bytes));
        parallel::side_by_side(unknown, |group| {
            let make = |title, files| Ok::<_, Error>(Layer::of_files(&session.store, title, files, &task)?);
            group.hash(&session.store, make)
        })?;
    }
    Ok(groups.into_iter().filter_map(|group| group.layer).collect())
}

/// Keeps the recipes of a bundle's layers, which its index has: their bytes are verified as they are read.
pub(super) fn keep(store: &Store, groups: Vec<Vec<LayerFile>>, layers: &[Layer]) -> Result<(), Error> {
    for (files, layer) in groups.into_iter().zip(layers) {
        layer.keep_recipe(store, files)?;
    }
    Ok(())
}

/// Which files share a layer: neighbours by path, up to a limit that doubles until there are few enough layers. They
/// lie in `folder` of the image.
pub(super) fn split(folder: &ArchivePath, weights: &[Weight]) -> Result<Vec<Vec<LayerFile>>, Error> {
    let mut limit = ALONE;
    loop {
        let mut groups: Vec<(u64, Vec<LayerFile>)> = Vec::new();
        for Weight { path, content } in weights {
            let file = LayerFile { path: folder.join(path), content: content.clone() };
            let size = content.size();
            match groups.last_mut() {
                Some((sum, group)) if sum.saturating_add(size) <= limit => {
                    *sum += size;
                    group.push(file);
                }
                _ => groups.push((size, vec![file])),
            }
        }
        if groups.len() <= MOST_LAYERS {
            return Ok(groups.into_iter().map(|(_, group)| group).collect());
        }
        limit *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::content::Content;

    fn weights(sizes: &[usize]) -> Vec<Weight> {
        let weight = |(i, size): (usize, &usize)| Weight {
            path: ArchivePath::new(format!("{i:05}")).unwrap(),
            content: Content::Bytes(vec![0; *size]),
        };
        sizes.iter().enumerate().map(weight).collect()
    }

    fn split(folder: &str, weights: &[Weight]) -> Result<Vec<Vec<LayerFile>>, Error> {
        super::split(&ArchivePath::new(folder).unwrap(), weights)
    }

    #[test]
    fn large_files_stand_alone_and_small_ones_share() {
        let large = ALONE as usize + 1;
        let groups = split("models/m", &weights(&[10, 20, large, large, 30])).unwrap();
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert_eq!(groups[0][0].path.as_str(), "models/m/00000");
    }

    #[test]
    fn there_are_never_more_layers_than_runtimes_take() {
        let groups = split("models/m", &weights(&[ALONE as usize; 200])).unwrap();
        assert!(groups.len() <= MOST_LAYERS);
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 200);
    }
}
