//! What containers have said that have ended and are gone: `logs/` of the store, a file for each, by its name.
//!
//! Invariant: there are at most [`MOST`] files of at most [`LARGEST`] bytes; what is older goes first.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use fs_err as fs;

use crate::image::session::Session;
use crate::io::atomic;

/// Logs that are kept.
const MOST: usize = 10;

/// Bytes that are kept of a log: those at its end.
const LARGEST: usize = 1 << 20;

/// The logs of containers that are gone.
#[derive(Clone, Debug)]
pub struct EndedLogs {
    folder: PathBuf,
}

impl EndedLogs {
    /// Those of a store.
    pub fn of(session: &Session) -> Self {
        Self { folder: session.store.root().join("logs") }
    }

    /// Keeps what the container `name` has said, which has ended now. There must be no credential in it.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn keep(&self, name: &str, said: &[u8]) -> io::Result<()> {
        let start = said.len().saturating_sub(LARGEST);
        // From the beginning of a line.
        let end = said.get(start..).unwrap_or_default();
        let cut = if start == 0 { 0 } else { end.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
        fs::create_dir_all(&self.folder)?;
        atomic::write(&self.folder.join(name), |file| file.write_all(end.get(cut..).unwrap_or_default()))?;
        for (_, name) in self.list()?.into_iter().skip(MOST) {
            // Another command may have been faster.
            let _ = fs::remove_file(self.folder.join(name));
        }
        Ok(())
    }

    /// What the container `name` has said; none where nothing is kept of it.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        // A name that a person gives may be a path: only what lies in the folder is read.
        if !self.list()?.iter().any(|(_, kept)| kept == name) {
            return Ok(None);
        }
        match fs::read(self.folder.join(name)) {
            Ok(said) => Ok(Some(said)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// When containers ended, and what they were called: the last one first.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn list(&self) -> io::Result<Vec<(SystemTime, String)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ended = Vec::new();
        for entry in entries {
            let entry = entry?;
            // It may be gone by now.
            if let Ok(time) = entry.metadata().and_then(|metadata| metadata.modified()) {
                ended.push((time, entry.file_name().to_string_lossy().into_owned()));
            }
        }
        ended.sort();
        ended.reverse();
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_of_each_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let logs = EndedLogs { folder: folder.path().join("logs") };
        assert!(logs.list().unwrap().is_empty() && logs.read("x").unwrap().is_none());
        fs::write(folder.path().join("secret"), "s3cret").unwrap();
        for number in 0..MOST + 5 {
            logs.keep(&format!("c{number}"), b"said\n").unwrap();
            // File systems tell times apart by milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let names: Vec<_> = logs.list().unwrap().into_iter().map(|(_, name)| name).collect();
        for outside in ["../secret", "..", ".", "", "/etc/passwd"] {
            assert!(logs.read(outside).unwrap().is_none(), "{outside}");
        }
        assert_eq!((names.len(), names[0].as_str(), names[MOST - 1].as_str()), (MOST, "c14", "c5"));
        let long = "a line\n".repeat(LARGEST / 7 + 10) + "the last\n";
        logs.keep("long", long.as_bytes()).unwrap();
        let kept = String::from_utf8(logs.read("long").unwrap().unwrap()).unwrap();
        assert!(kept.len() <= LARGEST && kept.starts_with("a line\n") && kept.ends_with("\nthe last\n"));
        logs.keep("long", b"").unwrap();
        assert_eq!(logs.read("long").unwrap().unwrap(), b"");
    }
}
