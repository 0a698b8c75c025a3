//! What a build's commands and names led to, beside what the lock says that they lead to.
//!
//! A command is known by the digest of all that goes into it; what it leaves is known only once it was executed. The lock
//! has both, so that the same lock is the same image, or an error that names the command.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Error;
use super::error::shortened;
use crate::image::layer::Layer;
use crate::io::digest::Digest;
use crate::io::progress::Progress;
use crate::project::lock::{Executed, LockedLayer, LockedStep};

/// What is known before a build, and what comes of it.
#[derive(Debug, Default)]
pub struct Ledger {
    known: Executed,
    is_binding: bool,
    found: Mutex<Executed>,
}

impl Ledger {
    /// With what a lock has. Where that `is_binding`, nothing else may come of the same.
    pub fn new(known: Executed, is_binding: bool) -> Self {
        Self { known, is_binding, found: Mutex::default() }
    }

    /// What came of the builds.
    pub fn found(&self) -> Executed {
        self.book().clone()
    }

    /// The image that `name` was.
    ///
    /// # Errors
    /// When the lock is binding and does not have it.
    pub(super) fn image(&self, name: &str) -> Result<Option<Digest>, Error> {
        match self.known.images.get(name) {
            None if self.is_binding => Err(Error::ImageNotLocked { name: name.to_owned() }),
            known => Ok(known.copied()),
        }
    }

    /// Takes note of the image that `name` is.
    pub(super) fn named(&self, name: &str, digest: Digest) {
        self.book().images.insert(name.to_owned(), digest);
    }

    /// What the command with this key led to.
    ///
    /// # Errors
    /// When the lock is binding and does not have it: the command may not be executed.
    pub(super) fn step(&self, key: &Digest) -> Result<Option<&LockedStep>, Error> {
        match self.known.steps.get(key) {
            None if self.is_binding => Err(Error::NotLocked),
            known => Ok(known),
        }
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
        let layer = layer.map(|Layer { diff_id, digest, size, .. }| LockedLayer {
            diff_id: *diff_id,
            digest: *digest,
            size: *size,
        });
        let step = LockedStep { command: shortened(title), layer };
        let made = step.diff_id();
        if let Some(locked) = self.known.steps.get(&key).map(LockedStep::diff_id)
            && locked != made
        {
            if self.is_binding {
                return Err(Error::OtherLayer { locked, made });
            }
            progress.warn(format!("`{}` led to another layer than the lock has", step.command));
        }
        self.book().steps.insert(key, step);
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Executed> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
