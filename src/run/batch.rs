//! Records of files that a model answers in a container: what it sees of this machine for that, and how its results come out.
//!
//! Invariant: it writes into a folder of its own alone, beside the output. Only regular files come out of that, under the names
//! that the person gave, when all of them are there.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::unistd::{getegid, geteuid};

use super::volume::{Access, Volume};
use crate::io::alone;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Where the container finds what it is given, and writes.
const INPUTS: &str = "/data/in";
const OUTPUT: &str = "/data/out";

/// Why records cannot be answered from here to there, or what came out is nothing that can be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output is there.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// An earlier run was not done.
    #[error("{} is what an earlier run has answered of all records", .0.display())]
    Begun(PathBuf),
    /// Somebody answers them now.
    #[error("{} is being written by another process", .0.display())]
    Busy(PathBuf),
    /// The output has no name that a file can have.
    #[error("`{}` is no file that results can be written to", .0.display())]
    Output(PathBuf),
    /// A name is not UTF-8.
    #[error("`{}` has a name that is no text", .0.display())]
    Name(PathBuf),
    /// The container has left something else than files.
    #[error("the container has left {}, which is no regular file", .0.display())]
    Strange(PathBuf),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exists(_) => {
                ErrorKind::Usage.named("batch/exists").hint("write elsewhere with `-o`, or over it with `--overwrite`")
            }
            Self::Begun(_) => {
                ErrorKind::Usage.named("batch/begun").hint("`--resume` goes on behind it, `--overwrite` begins anew")
            }
            Self::Busy(_) => ErrorKind::Failure.named("batch/busy").hint("wait until it is done, or end it"),
            Self::Output(_) => {
                ErrorKind::Usage.named("batch/output").hint("name a file that ends in .jsonl, .ndjson or .csv")
            }
            Self::Name(_) => ErrorKind::Usage.named("batch/name").hint("give it another name"),
            Self::Strange(_) => ErrorKind::Failure.named("batch/strange"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// What is done where something is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is an error.
    Anew,
    /// It is replaced, once all is done.
    Over,
    /// What was not done is done.
    Resumed,
}

/// Files that are read, and one that is written.
#[derive(Debug)]
pub struct Batch {
    inputs: Vec<(PathBuf, String)>,
    output: PathBuf,
    folder: PathBuf,
    name: String,
    start: Start,
}

impl Batch {
    /// Looks at what is there, and changes nothing. None where all has been done already.
    ///
    /// # Errors
    /// When an input is not there, or the output is or can be none.
    pub fn new(inputs: &[PathBuf], output: &Path, start: Start) -> Result<Option<Self>, Error> {
        let text = |path: &Path| {
            let name = path.file_name().ok_or_else(|| Error::Output(path.to_owned()))?;
            name.to_str().map(str::to_owned).ok_or_else(|| Error::Name(path.to_owned()))
        };
        let inputs = inputs
            .iter()
            .zip(0..)
            .map(|(input, number)| {
                let source = fs::canonicalize(input)?;
                // What it is called in the container is what its records are called by.
                let target = format!("{INPUTS}/{number}/{}", text(&source)?);
                Ok((source, target))
            })
            .collect::<Result<_, Error>>()?;
        let is_known = output.extension().is_some_and(|end| end == "jsonl" || end == "ndjson" || end == "csv");
        if !is_known || output.is_dir() {
            return Err(Error::Output(output.to_owned()));
        }
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let batch = Self { inputs, output: output.to_owned(), folder: parent.to_owned(), name: text(output)?, start };
        if fs::File::open(batch.work()).is_ok_and(|work| work.file().try_lock().is_err()) {
            return Err(Error::Busy(batch.output));
        }
        match (start, output.symlink_metadata().is_ok(), batch.work().exists()) {
            (Start::Anew, true, _) => Err(Error::Exists(output.to_owned())),
            (Start::Anew, _, true) => Err(Error::Begun(batch.work())),
            (Start::Resumed, true, false) => Ok(None),
            _ => Ok(Some(batch)),
        }
    }

    /// Makes the folder that the container writes to. As long as what is returned is held, nobody else writes there.
    ///
    /// # Errors
    /// [`Error::Busy`] when somebody else does, and when it cannot be made.
    pub fn begin(&self) -> Result<fs::File, Error> {
        fs::create_dir_all(&self.folder)?;
        // Nobody else gets to it, so that the user of the image, whoever that is, may write there.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(self.work())?;
        let lock = fs::File::open(self.work())?;
        // Whoever was done a moment ago has taken it away again.
        if lock.file().try_lock().is_err() || !alone::is_at(lock.file(), &self.work()) {
            return Err(Error::Busy(self.output.clone()));
        }
        match (self.start, self.output.symlink_metadata().is_ok(), self.written().exists()) {
            (Start::Anew, true, _) => {
                let _ = fs::remove_dir(self.work());
                return Err(Error::Exists(self.output.clone()));
            }
            (Start::Anew, _, true) => return Err(Error::Begun(self.work())),
            (Start::Over, _, true) => fs::remove_dir_all(self.written())?,
            _ => {}
        }
        fs::create_dir_all(self.written())?;
        fs::set_permissions(self.written(), Permissions::from_mode(0o777))?;
        Ok(lock)
    }

    /// What the container sees of this machine.
    pub fn volumes(&self) -> Vec<Volume> {
        let read = |(source, target): &(PathBuf, String)| Volume::new(source.clone(), target.into(), Access::Read);
        let written = Volume::new(self.written(), OUTPUT.into(), Access::Write);
        self.inputs.iter().map(read).chain([written]).collect()
    }

    /// What the image's entrypoint is given.
    pub fn arguments(&self) -> Vec<String> {
        let inputs = self.inputs.iter().map(|(_, target)| format!("--input={target}"));
        let mut arguments: Vec<_> = ["batch".to_owned()].into_iter().chain(inputs).collect();
        arguments.push(format!("--output={OUTPUT}/{}", self.name));
        if self.start == Start::Resumed {
            arguments.push("--resume".to_owned());
        }
        arguments
    }

    /// Takes what is whole out of the container's folder: files that were answered first, then the results that name them. The
    /// output; none where the container was not done, which can be gone on with.
    ///
    /// # Errors
    /// When the container has left something strange, or it cannot be moved.
    pub fn end(self) -> Result<Option<PathBuf>, Error> {
        let from = self.written().join(&self.name);
        if from.symlink_metadata().is_err() {
            // Where nothing is in them they are of no use.
            let _ = fs::remove_dir(self.written()).and_then(|()| fs::remove_dir(self.work()));
            return Ok(None);
        }
        own(&from)?;
        let files = Path::new(&self.name).with_extension("files");
        let (answered, beside) = (self.written().join(&files), self.folder.join(&files));
        if answered.symlink_metadata().is_ok() {
            if !answered.symlink_metadata()?.is_dir() {
                return Err(Error::Strange(answered));
            }
            if self.start == Start::Over && beside.exists() {
                fs::remove_dir_all(&beside)?;
            }
            fs::create_dir_all(&beside)?;
            for entry in fs::read_dir(&answered)? {
                let entry = entry?;
                own(&entry.path())?;
                fs::rename(entry.path(), beside.join(entry.file_name()))?;
            }
        }
        fs::rename(&from, &self.output)?;
        fs::remove_dir_all(self.work())?;
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(Some(self.output))
    }

    fn work(&self) -> PathBuf {
        self.folder.join(format!(".{}.ekiben", self.name))
    }

    fn written(&self) -> PathBuf {
        self.work().join("out")
    }
}

/// Gives a file of the container's to whoever runs this program.
fn own(path: &Path) -> Result<(), Error> {
    if !path.symlink_metadata()?.is_file() {
        return Err(Error::Strange(path.to_owned()));
    }
    if geteuid().is_root() {
        lchown(path, Some(geteuid().as_raw()), Some(getegid().as_raw()))?;
    }
    Ok(fs::set_permissions(path, Permissions::from_mode(0o644))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_come_out_of_a_container() {
        let home = tempfile::tempdir().unwrap();
        let (input, output) = (home.path().join("in.jsonl"), home.path().join("new/out.jsonl"));
        fs::write(&input, "{}").unwrap();
        let inputs = [input];
        let begun = |start| {
            let batch = Batch::new(&inputs, &output, start).unwrap().unwrap();
            batch.begin().unwrap();
            batch
        };
        let batch = begun(Start::Anew);
        assert_eq!(batch.arguments(), ["batch", "--input=/data/in/0/in.jsonl", "--output=/data/out/out.jsonl"]);
        let written = batch.written();
        // A link would lead to files of this machine.
        std::os::unix::fs::symlink("/etc/passwd", written.join("out.jsonl")).unwrap();
        assert!(matches!(batch.end(), Err(Error::Strange(_))));
        assert!(!output.exists());
        assert!(matches!(Batch::new(&inputs, &output, Start::Anew), Err(Error::Begun(_))));
        // One that is under way is let be.
        let over = Batch::new(&inputs, &output, Start::Over).unwrap().unwrap();
        let busy = over.begin().unwrap();
        let other = Batch::new(&inputs, &output, Start::Over);
        assert!(matches!(other, Err(Error::Busy(_))), "{other:?}");
        assert!(matches!(over.begin(), Err(Error::Busy(_))));
        drop(busy);
        let batch = begun(Start::Over);
        fs::write(written.join("out.jsonl"), "1").unwrap();
        fs::create_dir(written.join("out.files")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", written.join("out.files/x")).unwrap();
        assert!(matches!(batch.end(), Err(Error::Strange(_))));
        fs::remove_file(written.join("out.files/x")).unwrap();
        fs::write(written.join("out.files/1.png"), "").unwrap();
        assert_eq!(begun(Start::Resumed).end().unwrap(), Some(output.clone()));
        assert!(home.path().join("new/out.files/1.png").is_file() && !written.exists());
        assert!(matches!(Batch::new(&inputs, &output, Start::Anew), Err(Error::Exists(_))));
        assert!(Batch::new(&inputs, &output, Start::Resumed).unwrap().is_none());
        // One that was not begun leaves nothing.
        assert_eq!(begun(Start::Over).end().unwrap(), None);
        assert!(!written.exists() && output.exists());
    }
}
