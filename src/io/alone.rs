//! Locks between processes, which are not waited for without a word.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::progress::Progress;

/// Locks `file` for this process alone. Where another one has it, a person is told that this waits for `whom`. The kernel lets go of
/// the lock when the file is closed, or the process ends.
///
/// # Errors
/// When the file system has no locks.
pub fn lock(file: &File, progress: &Progress, whom: &str) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            progress.warn(format!("waiting for {whom}"));
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `file` is what is at `path` now: it may have been removed, or replaced, before it was locked.
pub fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    path.metadata().is_ok_and(|there| file.metadata().is_ok_and(|file| place(file) == place(there)))
}

/// A lock whose file is there as long as it is held; that of a process that was killed stays, and is taken up.
#[derive(Debug)]
pub struct Alone {
    path: PathBuf,
    _file: File,
}

impl Alone {
    /// Makes and locks the file `path`, as [`lock`] does.
    ///
    /// # Errors
    /// When it cannot be made, or the file system has no locks.
    pub fn at(path: PathBuf, progress: &Progress, whom: &str) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            lock(&file, progress, whom)?;
            if is_at(&file, &path) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // One that stays does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_is_alone_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, within) = (folder.path().join("one.lock"), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let alone = Alone::at(path.clone(), &Progress::silent(), "the test").unwrap();
                        assert_eq!(within.fetch_add(1, Ordering::SeqCst), 0);
                        within.fetch_sub(1, Ordering::SeqCst);
                        drop(alone);
                    }
                });
            }
        });
        assert!(!path.exists());
    }
}
