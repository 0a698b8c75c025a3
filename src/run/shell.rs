//! A shell in a container: the image's, or the machine's busybox, which is lent to it.
//!
//! Busybox is one program with all its commands in it, which starts itself anew for each of them (`/proc/self/exe`): so they
//! work though no file of them is in the container.

use std::path::{Path, PathBuf};

use super::container::{self, Brought, Failure, Guest};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::{confine, elf};

/// Those of an image that are taken, the first one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// The image has none, and neither has this machine one to lend.
    #[error("the image has no shell, and {why}")]
    NoShell {
        /// What is wrong with that of this machine.
        why: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Container(error) => error.explain(),
            Self::NoShell { .. } => ErrorKind::Failure
                .named("container/no-shell")
                .hint("install Debian's package busybox-static (`sudo apt install busybox-static`)"),
        }
    }
}

/// What there is to be a shell in a container that has none.
#[derive(Clone, Debug)]
pub struct Shell {
    /// The program, or why there is none.
    busybox: Result<PathBuf, String>,
}

impl Shell {
    /// With the busybox that is in PATH.
    pub fn of_this_machine() -> Self {
        let busybox = match confine::on_path("busybox") {
            None => Err("this machine has no busybox".to_owned()),
            Some(path) if is_static(&path) => Ok(path),
            Some(path) => Err(format!("{} needs libraries that are not in it", path.display())),
        };
        Self { busybox }
    }

    /// The shell, to be run as `guest` says.
    pub fn guest(&self, guest: Guest) -> Guest {
        let programs = SHELLS.map(|shell| vec![shell.to_owned()]).to_vec();
        let brought = self.busybox.as_ref().ok();
        let brought = brought.map(|program| Brought { program: program.clone(), args: vec!["sh".to_owned()] });
        // What is written to it is what it does.
        Guest { programs, brought, input: true, ..guest }
    }

    /// How it ended.
    ///
    /// # Errors
    /// [`Error::NoShell`] where that is why it did not start.
    pub fn told(&self, result: Result<i32, container::Error>) -> Result<i32, Error> {
        match (result, &self.busybox) {
            (Err(container::Error::Start(Failure::Command { .. })), Err(why)) => {
                Err(Error::NoShell { why: why.clone() })
            }
            (result, _) => Ok(result?),
        }
    }
}

/// Whether a program is one that needs nothing else.
fn is_static(path: &Path) -> bool {
    elf::Program::of(path).is_ok_and(|program| program.is_some_and(|program| program.loader.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_loader_is_not_static() {
        assert!(!is_static(Path::new("/bin/sh")));
        assert!(!is_static(Path::new("/etc/passwd")));
        assert!(!is_static(Path::new("/none")));
    }
}
