//! A shell in a container: the image's, or the machine's busybox, which is lent to it.
//!
//! Busybox is one program with all its commands in it, which starts itself anew for each of them (`/proc/self/exe`): so they
//! work though no file of them is in the container.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::container::{self, Brought, Container, Ends, Failure, Guest};
use crate::io::archive::Stack;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::{confine, elf};

/// Those of an image that are taken, the first one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What an image has whose shell is of use.
const TOOLS: [&str; 2] = ["usr/bin/ls", "bin/ls"];

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

/// What to do where an image lacks what this machine could lend.
const LENT: &str = "with Debian's package busybox-static on this machine, `ekiben shell` and `ekiben exec` lend ls, cat, ps and \
                    others to images that have none";

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

    /// The shell in a container of these layers, to be run as `guest` says: the image's, unless that has nothing to run in it
    /// and there is one to lend. With what a person should know of it.
    pub fn guest(&self, lower: &[PathBuf], guest: Guest) -> (Guest, Option<&'static str>) {
        let brought = self.lend(vec!["sh".to_owned()]);
        // Where layers lie elsewhere, nothing can be lent.
        let image = Stack::new(lower);
        let has_tools = lower.is_empty() || TOOLS.iter().any(|path| image.entry(Path::new(path)).is_some());
        let programs = match (&brought, has_tools) {
            (Some(_), false) => Vec::new(),
            _ => SHELLS.map(|shell| vec![shell.to_owned()]).to_vec(),
        };
        let remark = (brought.is_none() && !has_tools).then_some(LENT);
        // What is written to it is what it does.
        (Guest { programs, brought, input: true, ..guest }, remark)
    }

    fn lend(&self, args: Vec<String>) -> Option<Brought> {
        Some(Brought { program: self.busybox.clone().ok()?, args })
    }

    /// Runs a command in a container: the image's, or where it has none of that name, the one of this machine's busybox,
    /// which `lent` is told.
    ///
    /// # Errors
    /// As [`Container::exec`], with a hint where one could be lent.
    pub fn exec(
        container: &Container,
        guest: &Guest,
        ends: &Ends<'_>,
        lent: impl FnOnce(&str),
    ) -> Result<i32, (container::Error, Option<&'static str>)> {
        let result = container.exec(guest, ends);
        let is_missing = matches!(&result, Err(container::Error::Start(Failure::Command { missing: true, .. })));
        let args = guest.programs.first().filter(|args| args.first().is_some_and(|name| !name.contains('/')));
        let Some(args) = args.filter(|_| is_missing) else { return result.map_err(|error| (error, None)) };
        match Self::of_this_machine().lend(args.clone()) {
            None => result.map_err(|error| (error, Some(LENT))),
            Some(brought) if has_command(&brought) => {
                lent(&args[0]);
                let guest = Guest { programs: Vec::new(), brought: Some(brought), ..guest.clone() };
                container.exec(&guest, ends).map_err(|error| (error, None))
            }
            Some(_) => result.map_err(|error| (error, None)),
        }
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

/// Whether busybox is built with a command of the name that it is to be called by.
fn has_command(Brought { program, args }: &Brought) -> bool {
    let listed = Command::new(program).arg("--list").stdin(Stdio::null()).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let name = args.first().map(String::as_bytes).unwrap_or_default();
    listed.split(|byte| *byte == b'\n').any(|known| known == name)
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
