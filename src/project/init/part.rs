//! Files that become part of a project, and how they get there.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Error, MOST, Placed, Placing};
use crate::io::archive::ArchivePath;
use crate::project::files::PASSED;

/// A file of a project, and where its bytes are now.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its path in the project.
    pub path: ArchivePath,
    /// Where it lies.
    pub host: PathBuf,
}

impl Part {
    /// Brings it into `project`, unless it lies there.
    ///
    /// # Errors
    /// When something else lies there, or the disk says no.
    pub fn place(&self, project: &Path, placing: Placing) -> Result<Placed, Error> {
        let target = self.path.under(project);
        let host = fs::canonicalize(&self.host)?;
        if fs::canonicalize(&target).is_ok_and(|there| there == host) {
            return Ok(Placed::There);
        }
        if target.symlink_metadata().is_ok() {
            return Err(Error::Exists(target));
        }
        fs::create_dir_all(target.parent().unwrap_or(project))?;
        if placing == Placing::Link && fs::hard_link(&host, &target).is_ok() {
            return Ok(Placed::Linked);
        }
        fs::copy(&host, &target)?;
        Ok(Placed::Copied)
    }
}

/// All files of a folder, as they lie in it. Links may lead to files of the folder, and to those that the cache of the
/// Hugging Face Hub keeps in `blobs` beside its snapshots.
pub fn all_in(folder: &Path) -> Result<Vec<Part>, Error> {
    let real = fs::canonicalize(folder)?;
    let blobs = real.parent().filter(|above| above.ends_with("snapshots")).and_then(Path::parent);
    let blobs = blobs.map(|cache| cache.join("blobs"));
    let walk = ignore::WalkBuilder::new(folder)
        .standard_filters(false)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(|entry| entry.depth() == 0 || !PASSED.iter().any(|name| entry.file_name() == *name))
        .build();
    let mut parts = Vec::new();
    for entry in walk {
        let entry = entry.map_err(std::io::Error::other)?;
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        let target = fs::canonicalize(path).ok().filter(|target| {
            target.is_file()
                && (target.starts_with(&real) || blobs.as_ref().is_some_and(|blobs| target.starts_with(blobs)))
        });
        let outside = || Error::Outside(path.to_owned());
        let place = path.strip_prefix(folder).ok().and_then(|path| ArchivePath::from_path(path).ok());
        let (Some(_), Some(place)) = (target, place) else { return Err(outside()) };
        parts.push(Part { path: place, host: path.to_owned() });
        if parts.len() > MOST {
            return Err(Error::TooMany(folder.to_owned()));
        }
    }
    Ok(parts)
}
