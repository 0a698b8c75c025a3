//! Removing what nothing needs any more.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::cache::Record;
use super::{Error, Recipe, Store};
use crate::image::oci::{self, Configuration, Content, Document, Malformed};
use crate::io::digest::Digest;
use crate::io::{self, archive};

/// How far pruning reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What neither an image nor a cached result needs.
    Unused,
    /// Cached results, downloads and unpacked layers too: only the images stay.
    Caches,
}

/// What pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Blobs, recipes, unpacked layers and cached results.
    pub items: u64,
    /// Their size on disk in bytes.
    pub bytes: u64,
}

/// The part of what is noted beside an unpacked layer that names it.
#[derive(Deserialize)]
struct Facts {
    layer: Digest,
}

impl Store {
    /// Removes what `reach` covers, but never what an image needs. The unpacked layers in the folders
    /// `in_use` stay.
    ///
    /// Waits until no other process works in the store.
    ///
    /// # Errors
    /// When the disk says no, or an image's manifest cannot be read: then nothing is removed.
    pub fn prune(&self, reach: Reach, in_use: &BTreeSet<PathBuf>) -> Result<Pruned, Error> {
        self.inner.lock.lock()?;
        let result = self.prune_locked(reach, in_use);
        self.inner.lock.lock_shared()?;
        result
    }

    fn prune_locked(&self, reach: Reach, in_use: &BTreeSet<PathBuf>) -> Result<Pruned, Error> {
        let mut blobs = HashSet::new();
        let mut layers = HashSet::new();
        for image in self.images()? {
            self.reach_manifest(image.digest, &mut blobs, &mut layers)?;
        }
        let mut pruned = Pruned::default();
        if reach == Reach::Caches {
            pruned.take_children(&self.root().join("memory"), |_| false)?;
            pruned.take_children(&self.root().join("logs"), |_| false)?;
            layers.clear();
        } else {
            self.reach_cache(&mut blobs)?;
        }
        let mut trees = HashSet::new();
        self.reach_recipes(&blobs, &mut trees)?;
        let named = |name: &str| Digest::from_hex(name.trim_end_matches(".json")).ok();
        let kept = |name: &str| named(name).is_some_and(|digest| blobs.contains(&digest));
        pruned.take_children(&self.root().join("blobs/sha256"), kept)?;
        pruned.take_children(&self.root().join("recipes"), kept)?;
        let folder = self.root().join("trees");
        let layer_of = |path: &Path| {
            let text = fs::read(path.join("facts.json")).ok()?;
            Some(serde_json::from_slice::<Facts>(&text).ok()?.layer)
        };
        let needed = |name: &str| {
            let path = folder.join(name);
            // All that there is of a layer that is not compressed yet.
            let is_whole = |layer: &Digest| blobs.contains(layer) && self.has_members(layer);
            named(name).is_some_and(|id| trees.contains(&id))
                || layer_of(&path).is_some_and(|layer| layers.contains(&layer) || is_whole(&layer))
                || in_use.iter().any(|used| used.starts_with(&path))
        };
        pruned.take_trees(&folder, self.scratch()?.path(), needed)?;
        Ok(pruned)
    }

    fn reach_manifest(
        &self,
        digest: Digest,
        blobs: &mut HashSet<Digest>,
        layers: &mut HashSet<Digest>,
    ) -> Result<(), Error> {
        if !blobs.insert(digest) {
            return Ok(());
        }
        let read = |digest: &Digest| self.read_blob(digest, oci::LARGEST);
        let damaged = |digest: &Digest| {
            let path = self.blob_path(digest);
            |error: Malformed| Error::Damaged { path, source: error.into() }
        };
        match Document::read(read(&digest)?, None).map_err(damaged(&digest))?.content {
            Content::Image(manifest) => {
                blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
                let config = manifest.config.digest;
                blobs.insert(config);
                layers.extend(Configuration::read(&read(&config)?).map_err(damaged(&config))?.diff_ids);
            }
            Content::Index(index) => {
                for image in index.manifests {
                    self.reach_manifest(image.digest, blobs, layers)?;
                }
            }
        }
        Ok(())
    }

    /// Layers are made of files of bentos that lie unpacked here.
    fn reach_recipes(&self, blobs: &HashSet<Digest>, trees: &mut HashSet<Digest>) -> Result<(), Error> {
        let folder = self.root().join("trees");
        for digest in blobs {
            // What cannot be read makes no layer, and keeps nothing.
            let Some(Recipe::Files { files, .. }) = self.intact_recipe(digest)? else { continue };
            let files = files.iter().filter_map(|file| match &file.content {
                io::content::Content::File(stamp) => Some(&stamp.path),
                _ => None,
            });
            let inside = files.filter_map(|path| path.strip_prefix(&folder).ok()?.iter().next()?.to_str());
            trees.extend(inside.filter_map(|name| Digest::from_hex(name).ok()));
        }
        Ok(())
    }

    /// Cached results keep their blobs; those whose blobs are gone are of no use, and simply never taken.
    fn reach_cache(&self, blobs: &mut HashSet<Digest>) -> Result<(), Error> {
        for kind in fs::read_dir(self.root().join("memory"))? {
            for record in fs::read_dir(kind?.path())? {
                let bytes = fs::read(record?.path())?;
                if let Ok(record) = serde_json::from_slice::<Record<serde::de::IgnoredAny>>(&bytes) {
                    blobs.extend(record.blobs);
                }
            }
        }
        Ok(())
    }
}

impl Pruned {
    /// As [`Self::take_children`]; what is under way lies in `scratch`, so that never half a tree is left.
    fn take_trees(&mut self, folder: &Path, scratch: &Path, kept: impl Fn(&str) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if kept(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let gone = scratch.join(entry.file_name());
            fs::rename(entry.path(), &gone)?;
            // One thing to a person, however many files it has.
            self.items += 1;
            self.bytes += archive::remove(&gone)?.1;
        }
        Ok(())
    }

    fn take_children(&mut self, folder: &Path, kept: impl Fn(&str) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if kept(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let (items, bytes) = archive::remove(&entry.path())?;
            self.items += items;
            self.bytes += bytes;
        }
        Ok(())
    }
}
