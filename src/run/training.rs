//! A training in a container: what that sees of this machine, and how the model comes out.
//!
//! Invariant: it reads the data set, and writes into a folder of its own alone. Only a regular file comes out of that as the model,
//! and of what the container says of it no more than is bounded.

use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Deserialize;

use super::volume::{Access, Volume};
use crate::io::archive::ArchivePath;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Where the container finds the data set, and writes the model.
const DATA: &str = "/data/in";
const OUTPUT: &str = "/data/out";

/// What the training says of itself.
const FACTS: &str = "training.json";

/// Bytes of that.
const MOST: u64 = 4 << 20;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container has left something else than files.
    #[error("the training has left {0}, which is no regular file")]
    Strange(String),
    /// It says nothing of itself that can be read.
    #[error("what the training says of itself in {FACTS} cannot be read: {0}")]
    Facts(String),
    /// The data set's name is no text.
    #[error("`{}` has a name that is no text", .0.display())]
    Name(PathBuf),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Strange(_) => ErrorKind::Failure.named("training/strange"),
            Self::Facts(_) => ErrorKind::Failure.named("training/facts"),
            Self::Name(_) => ErrorKind::Usage.named("training/name").hint("give it another name"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// What a training has said of itself.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Facts {
    /// What it measured.
    #[serde(default)]
    pub statistics: Option<serde_json::Value>,
    /// How long the function or command took.
    #[serde(default)]
    pub seconds: f64,
}

/// A training that is to be.
#[derive(Debug)]
pub struct Training {
    /// The data set, and what it is called in the container.
    data: Option<(PathBuf, String)>,
    /// The model's file, below the folder that is written to.
    output: ArchivePath,
    /// Removed with this.
    folder: tempfile::TempDir,
}

impl Training {
    /// One with the data set at `data`, called `name`, that makes the file `output`; it works in `folder`.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn new(data: Option<(&Path, &str)>, output: ArchivePath, folder: tempfile::TempDir) -> Result<Self, Error> {
        let data = match data {
            None => None,
            Some((path, name)) => {
                let name = ArchivePath::relative(name).map_err(|_| Error::Name(path.to_owned()))?;
                Some((fs::canonicalize(path)?, format!("{DATA}/{name}")))
            }
        };
        let training = Self { data, output, folder };
        fs::create_dir(training.written())?;
        // Nobody else gets to it, so that the user of the image, whoever that is, may write there.
        fs::set_permissions(training.folder.path(), Permissions::from_mode(0o700))?;
        fs::set_permissions(training.written(), Permissions::from_mode(0o777))?;
        Ok(training)
    }

    /// What the container sees of this machine.
    pub fn volumes(&self) -> Vec<Volume> {
        let read = |(source, target): &(PathBuf, String)| Volume::new(source.clone(), target.into(), Access::Read);
        let written = Volume::new(self.written(), OUTPUT.into(), Access::Write);
        self.data.iter().map(read).chain([written]).collect()
    }

    /// What the image's entrypoint is given.
    pub fn arguments(&self) -> Vec<String> {
        let data = self.data.iter().map(|(_, target)| format!("--data={target}"));
        let mut arguments: Vec<_> = ["train".to_owned()].into_iter().chain(data).collect();
        arguments.push(format!("--output={OUTPUT}"));
        arguments
    }

    /// The model's file, and what was said of it. It lies there as long as this does.
    ///
    /// # Errors
    /// When what the container has left is nothing that can be taken.
    pub fn end(&self) -> Result<(PathBuf, Facts), Error> {
        // Each folder above it as well: a link would lead to files of this machine.
        let mut place = self.written();
        let mut parts = self.output.as_str().split('/').peekable();
        while let Some(part) = parts.next() {
            place.push(part);
            let kind = place.symlink_metadata()?;
            let is_right = if parts.peek().is_some() { kind.is_dir() } else { kind.is_file() };
            if !is_right {
                return Err(Error::Strange(self.output.to_string()));
            }
        }
        let facts = self.written().join(FACTS);
        if !facts.symlink_metadata()?.is_file() {
            return Err(Error::Strange(FACTS.to_owned()));
        }
        let mut text = Vec::new();
        fs::File::open(&facts)?.take(MOST + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MOST {
            return Err(Error::Facts(format!("it has more than {MOST} bytes")));
        }
        let facts: Facts = serde_json::from_slice(&text).map_err(|error| Error::Facts(error.to_string()))?;
        Ok((place, facts))
    }

    fn written(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_file_comes_out_as_the_model() {
        let training = || {
            let output = ArchivePath::relative("models/m.pkl").unwrap();
            Training::new(None, output, tempfile::tempdir().unwrap()).unwrap()
        };
        let made = training();
        assert_eq!(made.arguments(), ["train", "--output=/data/out"]);
        assert!(made.end().is_err());
        fs::create_dir(made.written().join("models")).unwrap();
        symlink("/etc/passwd", made.written().join("models/m.pkl")).unwrap();
        fs::write(made.written().join(FACTS), "{}").unwrap();
        assert!(matches!(made.end(), Err(Error::Strange(_))));
        fs::remove_file(made.written().join("models/m.pkl")).unwrap();
        fs::write(made.written().join("models/m.pkl"), "m").unwrap();
        assert_eq!(fs::read(made.end().unwrap().0).unwrap(), b"m");
        fs::remove_file(made.written().join(FACTS)).unwrap();
        symlink("/etc/passwd", made.written().join(FACTS)).unwrap();
        assert!(matches!(made.end(), Err(Error::Strange(_))));
        // A folder that leads elsewhere.
        let made = training();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("m.pkl"), "theirs").unwrap();
        symlink(other.path(), made.written().join("models")).unwrap();
        fs::write(made.written().join(FACTS), "{}").unwrap();
        assert!(matches!(made.end(), Err(Error::Strange(_))));
    }
}
