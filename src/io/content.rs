//! Where the bytes of a file come from: the person's disk, a bundle, or memory.
//!
//! Invariant: a [`Content`] that lies on a disk is only read while it is the file that was looked at: same file
//! system, inode, size and time of writing. Otherwise it says what changed.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::io::archive::seekable;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Why content cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk says no. The message names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file is another one now.
    #[error("{} has changed since it was read ({change})", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is different, for a person.
        change: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Changed { .. } => ErrorKind::Failure
                .named("file/changed")
                .hint("put the file back as it was, or build again with `ekiben build`"),
        }
    }
}

/// Bytes, and where they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// In memory: what Ekiben makes itself, always small.
    Bytes(Vec<u8>),
    /// A whole file.
    File(Stamp),
    /// A part of a bundle.
    Packed {
        /// The bundle.
        bundle: Stamp,
        /// Where the part begins in the uncompressed archive, in bytes.
        offset: u64,
        /// In bytes.
        size: u64,
    },
}

impl Content {
    /// The file at `path`, as it is now.
    ///
    /// # Errors
    /// When it cannot be looked at, or is no file.
    pub fn file(path: &Path) -> Result<Self, Error> {
        Ok(Self::File(Stamp::new(path)?))
    }

    /// The file at `path`, which is absolute and leads through no link, as it was when `metadata` was read.
    pub fn looked_at(path: PathBuf, metadata: &std::fs::Metadata) -> Self {
        Self::File(Stamp::of(path, metadata))
    }

    /// The file or bundle in which the bytes lie; none for what is in memory.
    pub fn place(&self) -> Option<&Path> {
        match self {
            Self::Bytes(_) => None,
            Self::File(stamp) | Self::Packed { bundle: stamp, .. } => Some(&stamp.path),
        }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(stamp) => stamp.size,
            Self::Packed { size, .. } => *size,
        }
    }

    /// Opens the bytes.
    ///
    /// # Errors
    /// [`Error::Changed`] when the file is another one now.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        let mut opener = Opener::default();
        opener.open(self)?;
        Ok(Box::new(opener))
    }

    /// All the bytes, where there are at most `limit`.
    ///
    /// # Errors
    /// As [`Content::open`], and when there are more.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        if self.size() > limit {
            let text = format!("{} bytes are more than the {limit} that are read into memory", self.size());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text).into());
        }
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Sees whether the bytes are still those that were looked at.
    ///
    /// # Errors
    /// [`Error::Changed`] if they are not.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Bytes(_) => Ok(()),
            Self::File(stamp) | Self::Packed { bundle: stamp, .. } => stamp.open().map(drop),
        }
    }

    /// Whether a later look would tell this content from another by its times: see [`Stamp::is_settled`].
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::File(stamp) | Self::Packed { bundle: stamp, .. } => stamp.is_settled(),
        }
    }
}

/// Reads one content after the other. Neighbours in a bundle share what is open and decompressed.
#[derive(Default)]
pub struct Opener {
    bundle: Option<(Stamp, seekable::Reader<fs::File>)>,
    current: Current,
}

#[derive(Default)]
enum Current {
    #[default]
    Nothing,
    Bytes(io::Cursor<Vec<u8>>),
    File(io::Take<fs::File>),
    Packed,
}

impl Opener {
    /// Turns to `content`, which is read from here then.
    ///
    /// # Errors
    /// [`Error::Changed`] when the file is another one now.
    pub fn open(&mut self, content: &Content) -> Result<(), Error> {
        self.current = match content {
            Content::Bytes(bytes) => Current::Bytes(io::Cursor::new(bytes.clone())),
            Content::File(stamp) => Current::File(stamp.open()?.take(stamp.size)),
            Content::Packed { bundle, offset, size } => {
                let reader = match &mut self.bundle {
                    Some((open, reader)) if open == bundle => reader,
                    other => &mut other.insert((bundle.clone(), seekable::Reader::new(bundle.open()?)?)).1,
                };
                reader.go_to(*offset, *size)?;
                Current::Packed
            }
        };
        Ok(())
    }
}

impl Read for Opener {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&mut self.current, &mut self.bundle) {
            (Current::Bytes(bytes), _) => bytes.read(buffer),
            (Current::File(file), _) => file.read(buffer),
            (Current::Packed, Some((_, reader))) => reader.read(buffer),
            (Current::Nothing | Current::Packed, _) => Ok(0),
        }
    }
}

/// A file as it was looked at, and how to see that it is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Absolute.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    device: u64,
    inode: u64,
    /// Modification and change, in nanoseconds since 1970.
    times: (i64, i64),
}

impl Stamp {
    /// Looks at the file at `path`.
    ///
    /// # Errors
    /// When it cannot be looked at, or is no file.
    pub fn new(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", path.display())));
        }
        Ok(Self::of(path, &metadata))
    }

    fn of(path: PathBuf, metadata: &std::fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            path,
            size: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            times: (
                nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            ),
        }
    }

    /// Opens the file, if it is still the one that was looked at.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is not.
    pub fn open(&self) -> Result<fs::File, Error> {
        let changed = |change: &str| Error::Changed { path: self.path.clone(), change: change.to_owned() };
        let file = match fs::File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(changed("it is gone")),
            file => file?,
        };
        let now = Self::of(self.path.clone(), &file.metadata()?);
        if now.size != self.size {
            return Err(changed(&format!("it had {} bytes and has {}", self.size, now.size)));
        }
        // The change time alone moves with a new hard link or a chmod, which harm nobody.
        if (now.device, now.inode, now.times.0) != (self.device, self.inode, self.times.0) {
            return Err(changed("it was written again"));
        }
        Ok(file)
    }

    /// Whether the file is old enough to be told from a later one by its times: a kernel's clock for files ticks as
    /// seldom as every 10 ms, and a file that was written twice within one tick looks the same.
    pub fn is_settled(&self) -> bool {
        const TICK: Duration = Duration::from_millis(20);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from((now.saturating_sub(TICK)).as_nanos()).is_ok_and(|limit| self.times.1 < limit)
    }
}
