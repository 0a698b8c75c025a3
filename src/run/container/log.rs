//! What a container says: a file that does not grow without end, and a way to read along.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// How large a file of output may become, in bytes.
const LARGEST: u64 = 64 << 20;

/// The supervisor's end.
pub(super) struct LogWriter {
    path: PathBuf,
    /// Gone when the disk said no: the container goes on without a log.
    file: Option<std::fs::File>,
    written: u64,
    rotates: bool,
}

impl LogWriter {
    /// The newest output is kept: a file that is full is renamed to `NAME.old`.
    pub(super) fn rotating(path: &str) -> io::Result<Self> {
        Self::new(path, true)
    }

    /// The first output is kept.
    pub(super) fn bounded(path: &str) -> io::Result<Self> {
        Self::new(path, false)
    }

    fn new(path: &str, rotates: bool) -> io::Result<Self> {
        let file = fs::File::create(path)?.into_parts().0;
        Ok(Self { path: path.into(), file: Some(file), written: 0, rotates })
    }

    /// Takes what `pipe` has: one piece, or with `all` everything. Returns whether the pipe has ended.
    pub(super) fn take(&mut self, pipe: &mut io::PipeReader, all: bool) -> bool {
        let mut piece = [0; 64 << 10];
        loop {
            match pipe.read(&mut piece) {
                Ok(0) => return true,
                Ok(length) => self.write(piece.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
            if !all {
                return false;
            }
        }
    }

    fn write(&mut self, piece: &[u8]) {
        if self.written + piece.len() as u64 > LARGEST {
            if self.rotates {
                let _ = fs::rename(&self.path, self.path.with_extension("old"));
                self.file = fs::File::create(&self.path).ok().map(|file| file.into_parts().0);
                self.written = 0;
            } else {
                self.file = None;
            }
        }
        self.written += piece.len() as u64;
        if self.file.as_mut().is_some_and(|file| file.write_all(piece).is_err()) {
            self.file = None;
        }
    }
}

/// A reader's end: gives what is there, and later what has come since.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl LogReader {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    /// Leaves out all but the last `lines` of what is there, or of its last mebibyte.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn skip_to_last(&mut self, lines: usize) -> io::Result<()> {
        const FURTHEST: u64 = 1 << 20;
        let Some(file) = self.open()? else { return Ok(()) };
        let length = file.seek(SeekFrom::End(0))?;
        let start = file.seek(SeekFrom::Start(length.saturating_sub(FURTHEST)))?;
        let mut last = Vec::new();
        file.take(length - start).read_to_end(&mut last)?;
        // The line feed that ends the last line begins no other.
        let text = last.strip_suffix(b"\n").unwrap_or(&last);
        let begins = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines.saturating_sub(1));
        let skipped = match begins {
            _ if lines == 0 => last.len(),
            Some((before, _)) => before + 1,
            None => 0,
        };
        file.seek(SeekFrom::Start(start + skipped as u64))?;
        Ok(())
    }

    /// Hands on what has come. Returns whether there was anything.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn read(&mut self, to: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut any = false;
        loop {
            let path = self.path.clone();
            let Some(file) = self.open()? else { return Ok(any) };
            let mut piece = [0; 64 << 10];
            let length = file.read(&mut piece)?;
            if length > 0 {
                any = true;
                to(piece.get(..length).unwrap_or_default());
                continue;
            }
            // A log that was full has gone on in another file.
            let replaced = match (file.metadata(), fs::metadata(path)) {
                (Ok(mine), Ok(now)) => mine.ino() != now.ino(),
                _ => false,
            };
            if !replaced {
                return Ok(any);
            }
            self.file = None;
        }
    }

    fn open(&mut self) -> io::Result<Option<&mut std::fs::File>> {
        if self.file.is_none() {
            match fs::File::open(&self.path) {
                Ok(file) => self.file = Some(file.into_parts().0),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.file.as_mut())
    }
}
