//! The lock of a Dockerfile that belongs to no project: a file beside it, or wherever the person wants it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Error, Ledger, Request};
use crate::build::built::Watch;
use crate::formats::diagnostic::Diagnostics;
use crate::image::oci::platform::Platform;
use crate::project::lock::{DockerfileLock, Executed};

/// Where the lock lies, and what it says.
#[derive(Debug)]
pub struct Keeping {
    path: PathBuf,
    is_binding: bool,
    before: Option<DockerfileLock>,
}

impl Keeping {
    /// The lock at `path`, else the one beside the Dockerfile, where there is one. Where it `is_binding`, the image has to be
    /// what it says.
    ///
    /// # Errors
    /// When it is binding and not there, or has mistakes, which `watch` is shown.
    pub fn open(
        request: &Request,
        path: Option<PathBuf>,
        is_binding: bool,
        watch: &dyn Watch,
    ) -> Result<Option<Self>, Error> {
        let is_wanted = path.is_some();
        let path = path.map_or_else(|| beside(request), Ok)?;
        let before = match path.exists() {
            true => Some(read(&path, watch)?),
            false if is_binding => return Err(Error::NoLock { path }),
            false if is_wanted => None,
            false => return Ok(None),
        };
        Ok(Some(Self { path, is_binding, before }))
    }

    /// What is known of the build for `platform`.
    pub fn ledger(&self, platform: Platform) -> Ledger {
        let known = self.before.as_ref().and_then(|lock| lock.platforms.get(&platform).cloned());
        Ledger::new(known.unwrap_or_default(), self.is_binding)
    }

    /// Writes down what came of it, and leaves other platforms as they are; where it is binding, nothing else can have. Returns
    /// whether the lock is another now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, found: BTreeMap<Platform, Executed>) -> Result<bool, Error> {
        let mut platforms = self.before.as_ref().map(|lock| lock.platforms.clone()).unwrap_or_default();
        platforms.extend(found);
        let lock = DockerfileLock::new(platforms);
        if self.is_binding || self.before.as_ref() == Some(&lock) {
            return Ok(false);
        }
        lock.write(&self.path)?;
        Ok(true)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `Dockerfile.lock` beside `Dockerfile`.
fn beside(request: &Request) -> Result<PathBuf, Error> {
    let mut path = request.path()?.into_os_string();
    path.push(".lock");
    Ok(path.into())
}

fn read(path: &Path, watch: &dyn Watch) -> Result<DockerfileLock, Error> {
    let mut found = Diagnostics::new();
    let lock = DockerfileLock::load(path, &mut found);
    lock.ok_or_else(|| {
        watch.diagnostics(&found);
        Error::Mistakes { path: path.to_owned(), errors: found.errors() }
    })
}
