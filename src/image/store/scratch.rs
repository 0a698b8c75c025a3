//! A folder for work under way that does not outlive its process, not even a killed one.
//!
//! Each process that works has a folder `scratch/NAME` and beside it a file `NAME.lock`, on which it holds a lock.
//! The kernel lets go of the lock when the process ends, however it ends: a folder whose lock can be had is dead.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::io::{alone, archive};

/// Has ext4 put each folder that is made in `path` where there are fewest others, as it does below the root: else all that is
/// made here lies close to where other work was just removed, and an ext4 without a journal passes over each inode that was
/// freed within the last minutes, for each file anew. It makes that rarer, and does not rule it out. Other file systems know
/// nothing of it.
fn set_apart(path: &Path) {
    if let Ok(folder) = fs::File::open(path)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&folder)
    {
        let _ = rustix::fs::ioctl_setflags(&folder, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// One process's folder. Removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: std::fs::File,
}

impl Scratch {
    /// Makes a folder below `parent`.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        loop {
            let (file, lock_path) =
                tempfile::Builder::new().prefix("").suffix(".lock").tempfile_in(parent)?.keep().map_err(|e| e.error)?;
            file.lock()?;
            // A sweep may have come between the two lines above, and taken the file for a dead process's.
            if alone::is_at(&file, &lock_path) {
                let path = lock_path.with_extension("");
                fs::create_dir(&path)?;
                set_apart(&path);
                return Ok(Self { path, lock_path, _lock: file });
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next sweep.
        if archive::remove(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes what dead processes left in `parent`.
pub(super) fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let lock_path = entry?.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&lock_path) else {
            continue;
        };
        let lock = lock.into_parts().0;
        if lock.try_lock().is_ok() {
            match archive::remove(&lock_path.with_extension("")) {
                // A child of the dead process is about to follow it, but still writes, or removes what it wrote. The next sweep
                // takes the rest, which it knows by the lock.
                Err(error) if [io::ErrorKind::DirectoryNotEmpty, io::ErrorKind::NotFound].contains(&error.kind()) => {
                    continue;
                }
                result => drop(result?),
            }
            match fs::remove_file(&lock_path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_spares_the_living() {
        let parent = tempfile::tempdir().unwrap();
        let living = Scratch::new(parent.path()).unwrap();
        fs::create_dir(parent.path().join("dead")).unwrap();
        fs::write(parent.path().join("dead.lock"), "").unwrap();
        sweep(parent.path()).unwrap();
        assert!(living.path().exists());
        assert!(!parent.path().join("dead").exists() && !parent.path().join("dead.lock").exists());
        drop(living);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dying_child_still_changes_is_removed_in_the_end() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("dead");
        for _ in 0..100 {
            fs::create_dir(&dead).unwrap();
            fs::write(dead.with_extension("lock"), "").unwrap();
            std::thread::scope(|scope| {
                let child = scope.spawn(|| {
                    for number in 0..200 {
                        // All of it fails where the folder is gone.
                        let folder = dead.join((number % 3).to_string());
                        let _ = fs::create_dir(&folder);
                        let _ = fs::write(folder.join("file"), "");
                        let _ = fs::remove_file(folder.join("file"));
                        let _ = fs::remove_dir(&folder);
                    }
                });
                while !child.is_finished() {
                    sweep(parent.path()).unwrap();
                }
            });
            sweep(parent.path()).unwrap();
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        }
    }
}
