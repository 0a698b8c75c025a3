//! What a build's commands and names led to, beside what the lock says that they lead to.
//!
//! A command is known by the digest of all that goes into it; what it leaves is known only once it was executed. The lock
//! has both, so that the same lock is the same image, or an error that names the command.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Error;
use super::error::shortened;
use crate::image::layer::Layer;
use crate::io::digest::Digest;
use crate::io::progress::Progress;
use crate::project::lock::LockedStep;

/// What is known before a build, and what comes of it.
#[derive(Debug, Default)]
pub struct Ledger {
    images: BTreeMap<String, Digest>,
    steps: BTreeMap<Digest, LockedStep>,
    is_binding: bool,
    found: Mutex<Found>,
}

/// What came of a build.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The images that were named, by the digests of their manifests.
    pub images: BTreeMap<String, Digest>,
    /// What each command led to.
    pub steps: BTreeMap<Digest, LockedStep>,
}

impl Ledger {
    /// With what a lock has. Where that `is_binding`, nothing else may come of the same.
    pub fn new(images: BTreeMap<String, Digest>, steps: BTreeMap<Digest, LockedStep>, is_binding: bool) -> Self {
        Self { images, steps, is_binding, found: Mutex::default() }
    }

    /// What came of the builds.
    pub fn found(&self) -> Found {
        self.book().clone()
    }

    /// The image that `name` was.
    pub(super) fn image(&self, name: &str) -> Option<Digest> {
        self.images.get(name).copied()
    }

    /// Takes note of the image that `name` is.
    pub(super) fn named(&self, name: &str, digest: Digest) {
        self.book().images.insert(name.to_owned(), digest);
    }

    /// Whether the command with this key may be executed.
    ///
    /// # Errors
    /// When the lock is binding and does not have it.
    pub(super) fn check(&self, key: &Digest) -> Result<(), Error> {
        if self.is_binding && !self.steps.contains_key(key) { Err(Error::NotLocked) } else { Ok(()) }
    }

    /// Takes note of what a command led to.
    ///
    /// # Errors
    /// When the lock is binding and has something else.
    pub(super) fn led(
        &self,
        key: Digest,
        title: &str,
        layer: Option<&Layer>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let step = LockedStep { command: shortened(title), layer: layer.map(|layer| layer.diff_id) };
        if let Some(locked) = self.steps.get(&key).filter(|locked| locked.layer != step.layer) {
            if self.is_binding {
                return Err(Error::OtherLayer { locked: locked.layer, made: step.layer });
            }
            progress.warn(format!("`{}` led to another layer than the lock has", step.command));
        }
        self.book().steps.insert(key, step);
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
