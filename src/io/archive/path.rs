//! A path inside an archive or image: relative, normalised, and never outside its root.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A relative path of one or more plain names, separated by `/`.
///
/// No name is empty, `.` or `..`, and none holds a NUL. Not a [`PathBuf`]: joined to a folder it stays inside,
/// as long as no symbolic link on the way is followed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ArchivePath(String);

/// A path that may not stand in an archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// It climbs with `..`.
    #[error("the path `{0}` leaves the archive's root")]
    Escapes(String),
    /// It is empty or holds a NUL byte or is longer than Linux allows.
    #[error("the path `{0}` is empty, too long, or holds a NUL byte")]
    Malformed(String),
    /// One of its names is longer than any file system takes.
    #[error("the path `{0}` has a name of over 255 bytes")]
    LongName(String),
    /// It is no UTF-8.
    #[error("the path `{0}` is not UTF-8")]
    NotUtf8(String),
}

impl ArchivePath {
    /// Longest path that Linux takes (`PATH_MAX`), in bytes.
    const MAX: usize = 4095;

    /// Reads a path as archives spell it: a leading `./` or `/` and a trailing `/` are dropped.
    ///
    /// A leading `/` is refused as well in [`ArchivePath::relative`], which is for what people write.
    ///
    /// # Errors
    /// When nothing is left, or a name is `..`, or it holds a NUL.
    pub fn new(text: impl AsRef<str>) -> Result<Self, PathError> {
        let text = text.as_ref();
        let shown = || text.chars().take(200).collect::<String>();
        if text.contains('\0') || text.len() > Self::MAX {
            return Err(PathError::Malformed(shown()));
        }
        let mut names = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(PathError::Escapes(shown())),
                name => names.push(name),
            }
        }
        if names.is_empty() {
            return Err(PathError::Malformed(shown()));
        }
        Ok(Self(names.join("/")))
    }

    /// Like [`ArchivePath::new`], but an absolute path is an error.
    ///
    /// # Errors
    /// As there, and for a leading `/`.
    pub fn relative(text: impl AsRef<str>) -> Result<Self, PathError> {
        let text = text.as_ref();
        if text.starts_with('/') {
            return Err(PathError::Escapes(text.chars().take(200).collect()));
        }
        Self::new(text)
    }

    /// The path of a file on disk, relative to the folder that is packed.
    ///
    /// # Errors
    /// As [`ArchivePath::relative`], and for a name that is no UTF-8.
    pub fn from_path(path: &Path) -> Result<Self, PathError> {
        Self::relative(path.to_str().ok_or_else(|| PathError::NotUtf8(path.display().to_string()))?)
    }

    /// The text, without a leading or trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The folder that it lies in; none for what lies in the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// All folders above it, the outermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        self.0.match_indices('/').map(|(end, _)| Self(self.0[..end].to_owned()))
    }

    /// This path with `rest` behind it.
    pub fn join(&self, rest: &Self) -> Self {
        Self(format!("{}/{}", self.0, rest.0))
    }

    /// What is left of it below `folder`, where it lies there.
    pub fn below(&self, folder: &Self) -> Option<Self> {
        self.0.strip_prefix(&folder.0)?.strip_prefix('/').map(|rest| Self(rest.to_owned()))
    }

    /// Its place below `root` on disk. Whoever writes there must not follow links: see [`super::unpack`].
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

impl fmt::Display for ArchivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ArchivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for ArchivePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::relative(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (text, expected) in [("./a/b/", "a/b"), ("a//b", "a/b"), ("/usr/bin", "usr/bin"), ("a/./b", "a/b")] {
            assert_eq!(ArchivePath::new(text).map(|p| p.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for text in ["..", "../a", "a/../..", "a/..", "", ".", "/", "a\0b"] {
            assert!(ArchivePath::new(text).is_err(), "{text:?}");
        }
        assert!(ArchivePath::relative("/etc/passwd").is_err());
    }

    #[test]
    fn ancestors_come_from_the_outside_in() {
        let path = ArchivePath::new("a/b/c").unwrap();
        assert_eq!(path.ancestors().map(|p| p.to_string()).collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.below(&ArchivePath::new("a").unwrap()).unwrap().as_str(), "b/c");
        assert_eq!(path.below(&ArchivePath::new("a/b/c").unwrap()), None);
    }
}
