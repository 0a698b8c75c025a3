//! Tar archives: written the same way everywhere, read as if an enemy had made them.
//!
//! Writing ([`Writer`]) takes nothing from the host: no times, owners or orders of its file system. Reading
//! ([`Reader`]) gives entries whose paths cannot leave their root, and [`unpack`] puts them below a folder without
//! following a link. The format is POSIX.1-2017 `pax` (ustar with extended headers where ustar is too small).
//!
//! Layers of images have other rules, because other programs write them: [`unpack_layer`] takes what docker, containerd
//! and umoci take, and leads through the links of the layers below, inside the root. [`Stack`] looks at what it made.

mod layer;
mod overlay;
mod path;
mod read;
pub mod seekable;
mod stack;
#[cfg(test)]
pub(crate) mod testing;
mod tree;
mod view;
mod write;

pub use layer::WHITEOUT;
pub use overlay::{Attributes, Below, Facts, unpack_layer};
pub use path::{ArchivePath, PathError};
pub(crate) use read::Noting;
pub use read::{Error, Limits, Member, Reader, unpack};
pub use stack::{Stack, Walk, is_opaque};
pub use tree::{remove, size};
pub use view::{Listing, Node, Place, View, files};
pub use write::{BLOCK, Writer, header, padding};

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One member of an archive, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it lies.
    pub path: ArchivePath,
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// Owner and group by number.
    pub owner: (u32, u32),
    /// What it is.
    pub kind: Kind,
    /// Extended attributes, by name: capabilities of programs, and what users note.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, Vec<u8>)>,
}

/// What a member is. Device nodes, sockets and pipes do not travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file with its size in bytes.
    File {
        /// Bytes.
        size: u64,
    },
    /// A symbolic link; the target is kept as it is and may be absolute.
    Symlink(String),
    /// Another name of an earlier member.
    Hardlink(ArchivePath),
}

/// What everybody may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read it.
    Plain,
    /// Read and run it.
    Executable,
}

impl Mode {
    /// By whether the file can be run where it comes from.
    pub fn of(executable: bool) -> Self {
        if executable { Self::Executable } else { Self::Plain }
    }

    fn bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }
}

impl Entry {
    /// A folder, owned by root, that everybody may enter.
    pub fn directory(path: ArchivePath) -> Self {
        Self { path, mode: 0o755, owner: (0, 0), kind: Kind::Directory, attributes: Vec::new() }
    }

    /// A file of `size` bytes, owned by root.
    pub fn file(path: ArchivePath, size: u64, mode: Mode) -> Self {
        Self { path, mode: mode.bits(), owner: (0, 0), kind: Kind::File { size }, attributes: Vec::new() }
    }

    /// A symbolic link.
    pub fn symlink(path: ArchivePath, target: impl Into<String>) -> Self {
        Self { path, mode: 0o777, owner: (0, 0), kind: Kind::Symlink(target.into()), attributes: Vec::new() }
    }

    /// The same entry, owned by `uid` and `gid`.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }
}

/// The time that all made things carry, in seconds since 1970: `SOURCE_DATE_EPOCH` where it is set
/// (<https://reproducible-builds.org/specs/source-date-epoch/>), else the first day of 1980, as zip knows none earlier.
pub fn epoch() -> u64 {
    const FIXED: u64 = 315_532_800;
    std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIXED)
}

/// [`epoch`] as a date, which at the latest is the calendar's last second.
pub fn epoch_date() -> Timestamp {
    let seconds = i64::try_from(epoch()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// [`epoch`] as the time of a file.
pub fn epoch_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(epoch())
}
