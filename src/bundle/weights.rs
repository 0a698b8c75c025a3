//! Weights as layers: which file goes into which layer, and their digests.
//!
//! A large file has a layer of its own, so that another version of one file moves that file alone. Small ones share,
//! and with very many shards large ones do too: runtimes take no more than 127 layers.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::{Error, Weight};
use crate::archive::ArchivePath;
use crate::digest::Digest;
use crate::layer::{File, Layer};
use crate::progress::{Task, Unit};
use crate::session::Session;
use crate::store::Store;

/// The folder of all models in an image.
pub const WEIGHTS: &str = "models";

/// Files smaller than this share a layer of about this size, in bytes.
const ALONE: u64 = 4 << 20;

/// Layers that weights may take. Base, packages and code need some of the 127 as well.
const MOST_LAYERS: usize = 80;

/// The layers that `weights` become, hashing side by side what is not known yet (all of it when `again`).
pub(super) fn layers(session: &Session, name: &str, weights: &[Weight], again: bool) -> Result<Vec<Layer>, Error> {
    let mut slots: Vec<Option<Layer>> = Vec::new();
    let mut work = VecDeque::new();
    for (slot, files) in groups(name, weights)?.into_iter().enumerate() {
        let key = key(&files);
        let known: Option<Layer> = if again { None } else { session.store.recall("weights", &key) };
        match &known {
            Some(layer) => layer.keep_recipe(&session.store, files)?,
            None => work.push_back((slot, key, files)),
        }
        slots.push(known);
    }
    if work.is_empty() {
        return Ok(slots.into_iter().flatten().collect());
    }
    let bytes = work.iter().flat_map(|(_, _, files)| files).map(|file| file.content.size()).sum();
    let task = session.progress.task("Hashing", "weights", Unit::Bytes, Some(bytes));
    let work = Mutex::new(work);
    let next = || work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
    let made = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let worker = || {
            let mut made = Vec::new();
            while let Some((slot, key, files)) = next() {
                made.push((slot, hash(&session.store, &key, files, &task)?));
            }
            Ok::<_, Error>(made)
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let results =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Result<Vec<_>, _>>()
    })?;
    for (slot, layer) in made.into_iter().flatten() {
        slots[slot] = Some(layer);
    }
    Ok(slots.into_iter().flatten().collect())
}

fn hash(store: &Store, key: &Digest, files: Vec<File>, task: &Task) -> Result<Layer, Error> {
    let settled = files.iter().all(|file| file.content.is_settled());
    let layer = Layer::of_files(store, title(&files), files, task)?;
    if settled {
        store.remember("weights", key, &layer, vec![layer.digest])?;
    }
    Ok(layer)
}

/// The layers of a bundle whose index has them: their recipes are kept, their bytes are verified as they are read.
pub(super) fn known_layers(
    store: &Store,
    name: &str,
    weights: &[Weight],
    layers: Vec<Layer>,
) -> Result<Vec<Layer>, Error> {
    let groups = groups(name, weights)?;
    if groups.len() != layers.len() {
        let text = "the index has another number of layers than its weights need";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text).into());
    }
    for (files, layer) in groups.into_iter().zip(&layers) {
        layer.keep_recipe(store, files)?;
    }
    Ok(layers)
}

fn key(files: &[File]) -> Digest {
    // Paths, numbers and lists always serialise.
    Digest::of(serde_json::to_vec(&(crate::archive::epoch(), files)).unwrap_or_default())
}

/// Which files share a layer: neighbours by path, up to a limit that doubles until there are few enough layers.
fn groups(name: &str, weights: &[Weight]) -> Result<Vec<Vec<File>>, Error> {
    let folder = ArchivePath::relative(format!("{WEIGHTS}/{name}"))
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
    let mut limit = ALONE;
    loop {
        let mut groups: Vec<(u64, Vec<File>)> = Vec::new();
        for Weight { path, content } in weights {
            let file = File { path: folder.join(path), content: content.clone() };
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

fn title(files: &[File]) -> String {
    match files {
        [file] => format!("weights {}", file.path.name()),
        files => format!("weights, {} files", files.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;

    fn weights(sizes: &[usize]) -> Vec<Weight> {
        let weight = |(i, size): (usize, &usize)| Weight {
            path: ArchivePath::new(format!("{i:05}")).unwrap(),
            content: Content::Bytes(vec![0; *size]),
        };
        sizes.iter().enumerate().map(weight).collect()
    }

    #[test]
    fn large_files_stand_alone_and_small_ones_share() {
        let large = ALONE as usize + 1;
        let groups = groups("m", &weights(&[10, 20, large, large, 30])).unwrap();
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert_eq!(groups[0][0].path.as_str(), "models/m/00000");
    }

    #[test]
    fn there_are_never_more_layers_than_runtimes_take() {
        let groups = groups("m", &weights(&[ALONE as usize; 200])).unwrap();
        assert!(groups.len() <= MOST_LAYERS);
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 200);
    }
}
