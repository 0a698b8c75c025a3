//! Locks between processes, which are not waited for without a word.

use std::fs::{File, TryLockError};
use std::io;

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
