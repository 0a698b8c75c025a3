//! Digests of files of a context, remembered with what the file system said of each: what has not changed is not read again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::contents;
use crate::image::session::Session;
use crate::image::store;
use crate::io::content::{self, Content};
use crate::io::digest::Digest;
use crate::io::parallel;

/// Version of what is remembered. Raised with each change of that.
const RULES: u32 = 1;

/// Digests of files that were hashed before.
#[derive(Debug)]
pub struct Hashed<'a> {
    session: &'a Session,
    key: Digest,
    known: BTreeMap<PathBuf, (Content, Digest)>,
}

impl<'a> Hashed<'a> {
    /// Those of the files that the instruction `text` takes from `root`; none where they are to be read `anew`.
    pub fn of(session: &'a Session, root: &Path, text: &str, anew: bool) -> Self {
        // Paths and texts always serialise.
        let key = Digest::of(serde_json::to_vec(&("hashed", RULES, root, text)).unwrap_or_default());
        let known: Option<Vec<(Content, Digest)>> = if anew { None } else { session.store.cached("hashed", &key) };
        let known = known.unwrap_or_default().into_iter().filter_map(|(content, digest)| {
            let place = content.place()?.to_owned();
            Some((place, (content, digest)))
        });
        Self { session, key, known: known.collect() }
    }

    /// The digests of `files`, in their order. Those that are not known are read, side by side.
    ///
    /// # Errors
    /// When one cannot be read, or changes while it is; and when the store cannot be written.
    pub fn digests<E>(&self, files: &[&Content]) -> Result<Vec<Digest>, E>
    where
        E: From<io::Error> + From<content::Error> + From<store::Error> + Send,
    {
        let known = |file: &Content| {
            let (before, digest) = self.known.get(file.place()?)?;
            (before == file).then_some(*digest)
        };
        let mut digests: Vec<_> = files.iter().map(|file| known(file)).collect();
        let unknown: Vec<_> = digests.iter_mut().zip(files).filter(|(digest, _)| digest.is_none()).collect();
        if unknown.is_empty() && files.len() == self.known.len() {
            return Ok(digests.into_iter().flatten().collect());
        }
        parallel::side_by_side(unknown, |(digest, file)| {
            *digest = Some(contents::digest(file.open()?)?);
            Ok::<_, E>(file.check()?)
        })?;
        let digests: Vec<_> = digests.into_iter().flatten().collect();
        // Of one that was written just now, another may look the same.
        let settled = files.iter().zip(&digests).filter(|(file, _)| file.is_settled());
        self.session.store.cache("hashed", &self.key, settled.collect::<Vec<_>>(), Vec::new())?;
        Ok(digests)
    }
}
