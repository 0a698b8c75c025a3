//! Removing what nothing needs any more.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::cache::Record;
use super::{Error, Recipe, Store};
use crate::image::oci::{self, Configuration, Content, Document, Malformed};
use crate::io::digest::Digest;
use crate::io::progress::Progress;
use crate::io::{alone, archive};

/// How far pruning reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What neither an image nor a cached result needs.
    Unused,
    /// Cached results, downloads and unpacked layers too: only the images stay.
    Caches,
}

/// Whether what is found is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is.
    Remove,
    /// It is only told.
    Tell,
}

/// A kind of what a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Manifests, configurations and layers, and how layers are made.
    Blobs,
    /// Layers and bentos that lie unpacked.
    Unpacked,
    /// Results of earlier work.
    Results,
    /// State and logs of containers.
    Containers,
}

/// Who needs something in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Nobody,
    /// It makes the next build or start faster.
    Speed,
    /// An image, a container that runs, or a person who keeps it.
    Images,
}

/// Something in the store.
#[derive(Clone, Debug)]
struct Thing {
    kind: Kind,
    path: PathBuf,
    need: Need,
}

/// Something that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What it was.
    pub kind: Kind,
    /// Its name in the store.
    pub name: String,
    /// Its size on disk in bytes.
    pub bytes: u64,
}

/// What pruning removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// How many things.
    pub items: u64,
    /// Their size on disk in bytes.
    pub bytes: u64,
    /// What they were.
    pub removed: Vec<Removed>,
}

/// What a store holds of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The kind.
    pub kind: Kind,
    /// How many things.
    pub items: u64,
    /// Their size on disk in bytes.
    pub bytes: u64,
    /// Bytes that pruning would free.
    pub unused: u64,
    /// Bytes that it would free if it reached as far as it can.
    pub caches: u64,
}

/// The part of what is noted beside an unpacked layer that names it.
#[derive(Deserialize)]
struct Facts {
    layer: Digest,
}

impl Store {
    /// Removes what `reach` covers, or tells what it would remove, but never what an image needs. The unpacked layers in the
    /// folders that are `in_use` stay; that is asked once nobody can begin to use any.
    ///
    /// To remove anything, it waits until no other process works in the store, and says so.
    ///
    /// # Errors
    /// When the disk says no, or an image's manifest cannot be read: then nothing is removed.
    pub fn prune(
        &self,
        reach: Reach,
        in_use: &dyn Fn() -> io::Result<BTreeSet<PathBuf>>,
        purpose: Purpose,
        progress: &Progress,
    ) -> Result<Pruned, Error> {
        if purpose == Purpose::Tell {
            return self.prune_locked(reach, &in_use()?, purpose);
        }
        let whom = format!("what uses the store{}", self.others().unwrap_or_default());
        alone::lock(&self.inner.lock, progress, &whom)?;
        let result = in_use().map_err(Error::from).and_then(|in_use| self.prune_locked(reach, &in_use, purpose));
        self.inner.lock.lock_shared()?;
        result
    }

    /// The other processes that work in the store now, as far as the kernel tells: `: ekiben run iris (process 123)`.
    fn others(&self) -> io::Result<String> {
        let lock = self.inner.lock.metadata()?;
        let (major, minor) = (rustix::fs::major(lock.dev()), rustix::fs::minor(lock.dev()));
        let place = format!("{major:02x}:{minor:02x}:{}", lock.ino());
        // proc_locks(5): `1: FLOCK  ADVISORY  READ 123 08:01:456 0 EOF`.
        let locks = fs::read_to_string("/proc/locks")?;
        let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let held = held.filter(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&place.as_str()));
        let ids: BTreeSet<u32> = held.filter_map(|words| words.get(4)?.parse().ok()).collect();
        let named = |id: &u32| {
            let words = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
            Some(format!("{} (process {id})", words.trim_end_matches('\0').replace('\0', " ")))
        };
        let others: Vec<_> = ids.iter().filter(|id| **id != std::process::id()).filter_map(named).collect();
        Ok(if others.is_empty() { String::new() } else { format!(": {}", others.join(", ")) })
    }

    fn prune_locked(&self, reach: Reach, in_use: &BTreeSet<PathBuf>, purpose: Purpose) -> Result<Pruned, Error> {
        if purpose == Purpose::Remove {
            self.forget_referrers(&self.of_images()?.0)?;
        }
        let mut pruned = Pruned::default();
        let scratch = self.scratch()?;
        for thing in self.survey(in_use)?.into_iter().filter(|thing| thing.is_covered(reach)) {
            let bytes = match purpose {
                Purpose::Tell => archive::size(&thing.path),
                // What is under way lies in the scratch folder, so that never half a tree is left.
                Purpose::Remove if thing.kind == Kind::Unpacked => {
                    let gone = scratch.path().join("tree");
                    fs::rename(&thing.path, &gone)?;
                    archive::remove(&gone)?.1
                }
                Purpose::Remove => archive::remove(&thing.path)?.1,
            };
            let name = thing.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            pruned.add(Removed { kind: thing.kind, name, bytes });
        }
        if purpose == Purpose::Remove {
            for kind in fs::read_dir(self.root().join("memory"))? {
                // Only one that nothing is left in can be removed.
                let _ = fs::remove_dir(kind?.path());
            }
        }
        Ok(pruned)
    }

    /// What the store holds, by kind, but for containers.
    ///
    /// # Errors
    /// As [`Store::prune`].
    pub fn usage(&self, in_use: &BTreeSet<PathBuf>) -> Result<Vec<Usage>, Error> {
        let mut usages: Vec<_> = [Kind::Blobs, Kind::Unpacked, Kind::Results].map(Usage::none).into();
        for thing in self.survey(in_use)? {
            let bytes = archive::size(&thing.path);
            for usage in usages.iter_mut().filter(|usage| usage.kind == thing.kind) {
                usage.items += 1;
                usage.bytes += bytes;
                usage.unused += if thing.is_covered(Reach::Unused) { bytes } else { 0 };
                usage.caches += if thing.is_covered(Reach::Caches) { bytes } else { 0 };
            }
        }
        Ok(usages)
    }

    /// All that lies in the store, and who needs it.
    fn survey(&self, in_use: &BTreeSet<PathBuf>) -> Result<Vec<Thing>, Error> {
        let (mut of_images, layers) = self.of_images()?;
        of_images.extend(self.kept()?.into_iter().map(|kept| kept.digest));
        let mut of_results = HashSet::new();
        self.reach_cache(&mut of_results)?;
        let (mut trees_of_images, mut trees_of_results) = (HashSet::new(), HashSet::new());
        let contents = self.reach_recipes(&of_images, &mut trees_of_images)?;
        of_images.extend(contents);
        let contents = self.reach_recipes(&of_results, &mut trees_of_results)?;
        of_results.extend(contents);
        let named = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            Digest::from_hex(name.trim_end_matches(".json")).ok()
        };
        let blob = |path: &Path| match named(path) {
            Some(digest) if of_images.contains(&digest) => Need::Images,
            Some(digest) if of_results.contains(&digest) => Need::Speed,
            _ => Need::Nobody,
        };
        let layer_of = |path: &Path| {
            let text = fs::read(path.join("facts.json")).ok()?;
            Some(serde_json::from_slice::<Facts>(&text).ok()?.layer)
        };
        // All that there is of a layer that is not compressed yet.
        let is_whole = |layer: &Digest, blobs: &HashSet<Digest>| blobs.contains(layer) && self.has_members(layer);
        let tree = |path: &Path| match (named(path), layer_of(path)) {
            _ if in_use.iter().any(|used| used.starts_with(path)) => Need::Images,
            (Some(id), _) if trees_of_images.contains(&id) => Need::Images,
            (_, Some(layer)) if is_whole(&layer, &of_images) => Need::Images,
            (Some(id), _) if trees_of_results.contains(&id) => Need::Speed,
            (_, Some(layer)) if layers.contains(&layer) || is_whole(&layer, &of_results) => Need::Speed,
            _ => Need::Nobody,
        };
        let mut things = Vec::new();
        let mut look = |folder: &Path, kind, need: &dyn Fn(&Path) -> Need| -> Result<(), Error> {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                things.push(Thing { kind, need: need(&path), path });
            }
            Ok(())
        };
        // First what leads to others: of what is stopped half way, nothing is then named that is gone.
        for kind in fs::read_dir(self.root().join("memory"))? {
            look(&kind?.path(), Kind::Results, &|_| Need::Speed)?;
        }
        // Transfers that can be gone on with.
        look(&self.root().join(super::blobs::PARTIAL), Kind::Results, &|_| Need::Speed)?;
        if self.root().join(super::CACHES).exists() {
            look(&self.root().join(super::CACHES), Kind::Results, &|_| Need::Speed)?;
        }
        // Projects that nobody wrote: each is made again of its model.
        look(&self.root().join("projects"), Kind::Results, &|_| Need::Speed)?;
        // What containers said that are gone.
        look(&self.root().join("logs"), Kind::Results, &|_| Need::Speed)?;
        look(&self.root().join("blobs/sha256"), Kind::Blobs, &blob)?;
        look(&self.root().join("recipes"), Kind::Blobs, &blob)?;
        look(&self.root().join("trees"), Kind::Unpacked, &tree)?;
        Ok(things)
    }

    /// The blobs that images and what is about them need, and the layers of these by diff id.
    fn of_images(&self) -> Result<(HashSet<Digest>, HashSet<Digest>), Error> {
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        for image in self.images()? {
            self.reach_manifest(image.digest, &mut blobs, &mut layers)?;
        }
        self.reach_referrers(&mut blobs)?;
        Ok((blobs, layers))
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

    /// Layers are made of files of bentos that lie unpacked here, and of files that were fetched, which are blobs: these are
    /// given.
    fn reach_recipes(&self, blobs: &HashSet<Digest>, trees: &mut HashSet<Digest>) -> Result<Vec<Digest>, Error> {
        let mut contents = Vec::new();
        for digest in blobs {
            // What cannot be read makes no layer, and keeps nothing.
            let Some(Recipe::Files { files, .. }) = self.intact_recipe(digest)? else { continue };
            let paths = files.iter().filter_map(|file| match &file.content {
                crate::io::content::Content::File(stamp) => Some(&stamp.path),
                _ => None,
            });
            for path in paths {
                let Ok(inside) = path.strip_prefix(self.root()) else { continue };
                let mut names = inside.iter().filter_map(|name| name.to_str());
                match (names.next(), names.next(), names.next()) {
                    (Some("trees"), Some(name), _) => trees.extend(Digest::from_hex(name)),
                    (Some("blobs"), Some("sha256"), Some(name)) => contents.extend(Digest::from_hex(name)),
                    _ => {}
                }
            }
        }
        Ok(contents)
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

impl Thing {
    fn is_covered(&self, reach: Reach) -> bool {
        match reach {
            Reach::Unused => self.need == Need::Nobody,
            Reach::Caches => self.need <= Need::Speed,
        }
    }
}

impl Usage {
    /// Nothing of a kind.
    pub fn none(kind: Kind) -> Self {
        Self { kind, items: 0, bytes: 0, unused: 0, caches: 0 }
    }
}

impl Pruned {
    /// Counts one more thing.
    pub fn add(&mut self, removed: Removed) {
        self.items += 1;
        self.bytes += removed.bytes;
        self.removed.push(removed);
    }
}
