//! Files and folders of the host that a person lets a container see, and variables from a file, both written as for docker.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use fs_err as fs;
use nix::unistd::geteuid;

use super::container::Mount;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// What cannot be mounted, or a file of variables that is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not written as it should be, or cannot be there.
    #[error("the volume `{text}` {why}")]
    Volume {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A line of a file of variables.
    #[error("{}:{line}: {why}", path.display())]
    Variable {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file could not be read. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Volume { .. } => ErrorKind::Usage
                .named("run/volume")
                .hint("write HOST:CONTAINER or HOST:CONTAINER:ro, as ./data:/data:ro; HOST must be there"),
            Self::Variable { .. } => ErrorKind::Usage
                .named("run/env-file")
                .hint("a line is NAME=VALUE, NAME alone for a variable of yours, or a comment after `#`"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// `HOST:CONTAINER[:ro|:rw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    text: String,
    mount: Mount,
}

impl FromStr for Volume {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Volume { text: text.to_owned(), why: why.to_owned() };
        let parts: Vec<_> = text.split(':').collect();
        let (source, target, writable) = match parts.as_slice() {
            [source, target] | [source, target, "rw"] => (source, target, true),
            [source, target, "ro"] => (source, target, false),
            [_, _, _] => return Err(bad("has an access other than `ro` and `rw`")),
            _ => return Err(bad("is not HOST:CONTAINER")),
        };
        let target = Path::new(target);
        let is_plain = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !target.is_absolute() || !is_plain || target == Path::new("/") {
            return Err(bad("needs an absolute path below `/`, without `..`, in the container"));
        }
        if ["/proc", "/sys", "/dev"].iter().any(|kernel| target.starts_with(kernel)) {
            return Err(bad("would hide what the kernel shows in the container"));
        }
        let mount = Mount { source: source.into(), target: target.components().collect(), writable };
        Ok(Self { text: text.to_owned(), mount })
    }
}

/// What a container may do with what it sees of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it alone.
    Read,
    /// Write to it as well.
    Write,
}

impl Volume {
    /// `source` of this machine at `target`, an absolute path of the container.
    pub fn new(source: PathBuf, target: PathBuf, access: Access) -> Self {
        let text = format!("{}:{}", source.display(), target.display());
        Self { text, mount: Mount { source, target, writable: access == Access::Write } }
    }

    /// The mount for a container whose program runs as `user`, and what a person should know of it.
    ///
    /// # Errors
    /// When it is not there, or cannot be read by that user.
    pub fn mount(&self, user: (u32, u32)) -> Result<(Mount, Option<String>), Error> {
        let bad = |why: String| Error::Volume { text: self.text.clone(), why };
        let source = fs::canonicalize(&self.mount.source)
            .map_err(|_| bad(format!("names no file or folder: {} is not there", self.mount.source.display())))?;
        let metadata = fs::metadata(&source)?;
        let is_known = metadata.is_dir() || metadata.is_file();
        if !is_known {
            return Err(bad("names something that is neither a file nor a folder".to_owned()));
        }
        // An ordinary user's containers have that user's rights; root's have those of the image's user.
        let who = match geteuid().is_root() {
            true => user,
            false => (geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        };
        let shift = match () {
            () if who.0 == 0 || metadata.uid() == who.0 => 6,
            () if metadata.gid() == who.1 => 3,
            () => 0,
        };
        let has = |bits: u32| (metadata.mode() >> shift) & bits == bits;
        let (shown, number) = (source.display(), who.0);
        if !has(if metadata.is_dir() { 0o5 } else { 0o4 }) {
            return Err(bad(format!(
                "cannot be read by the container's user {number}: see the permissions of {shown}"
            )));
        }
        let warning = (self.mount.writable && !has(0o2)).then(|| {
            format!("the container's user {number} cannot write to {shown}: `chown {number} {shown}`, or say `:ro`")
        });
        Ok((Mount { source, ..self.mount.clone() }, warning))
    }

    /// Whether it lies over `path` of the container.
    pub fn hides(&self, path: &Path) -> bool {
        path.starts_with(&self.mount.target)
    }

    /// Where it is in the container.
    pub fn target(&self) -> &Path {
        &self.mount.target
    }
}

/// The variables of a file: `NAME=VALUE` as it stands, without quotes or escapes; `NAME` alone takes what `here` knows, if
/// anything; lines that begin with `#` and empty ones are passed over.
///
/// # Errors
/// When it cannot be read, or a line is none of these.
pub fn env_file(path: &Path, here: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, Error> {
    let text = fs::read(path)?;
    let mut variables = Vec::new();
    for (number, line) in text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text).split(|byte| *byte == b'\n').enumerate() {
        let bad = |why| Error::Variable { path: path.to_owned(), line: number + 1, why };
        let line = std::str::from_utf8(line).map_err(|_| bad("it is no UTF-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), here(line.trim_end())),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad("a variable's name is empty, or has a space in it"));
        }
        if line.contains('\0') {
            return Err(bad("it contains a zero byte"));
        }
        variables.extend(value.map(|value| format!("{name}={value}")));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_docker_writes_them() {
        let read = |text: &str| text.parse::<Volume>().map(|volume| (volume.mount.target, volume.mount.writable));
        assert_eq!(read("./a:/data").unwrap(), ("/data".into(), true));
        assert_eq!(read("a:/data/:ro").unwrap(), ("/data".into(), false));
        for bad in ["a", "a:b", "a:/", "a:/x/../..", "a:/proc/1", "a:/dev", "a:/b:rx", "a:/b:ro:z", "a:/sys/x", "a:"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!("a:/app".parse::<Volume>().unwrap().hides(Path::new("/app/x")));
        assert!(!"a:/ap".parse::<Volume>().unwrap().hides(Path::new("/app/x")));
    }

    #[test]
    fn files_of_variables_are_read_as_docker_reads_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            fs::write(file.path(), text).unwrap();
            env_file(file.path(), |name| (name == "HERE").then(|| "h".to_owned()))
        };
        let text = "\u{feff}# one\n\n A=1\r\nB=\"x y\" # not a comment\nHERE\nGONE\nC=\nD=a=b";
        assert_eq!(read(text).unwrap(), ["A=1", "B=\"x y\" # not a comment", "HERE=h", "C=", "D=a=b"]);
        for bad in ["=1", "A B=1", "A =1", "A=\0"] {
            assert!(matches!(read(bad), Err(Error::Variable { line: 1, .. })), "{bad}");
        }
    }
}
