//! A shell in a container: the image's, or the machine's busybox, which is lent to it.
//!
//! Busybox is one program with all its commands in it, which starts itself anew for each of them (`/proc/self/exe`): so they
//! work though no file of them is in the container.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::container::{self, Brought, Failure, Guest};
use crate::base::loader;
use crate::image::oci::platform::Platform;
use crate::io::confine;
use crate::io::explain::{ErrorKind, Explain, Explanation};

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

/// Whether a program is one of this machine that needs nothing else.
fn is_static(path: &Path) -> bool {
    let read = || {
        let (file, platform) = (fs::File::open(path)?, Platform::host().map_err(io::Error::other)?);
        let read_at = |offset: u64, buffer: &mut [u8]| file.file().read_exact_at(buffer, offset);
        loader::is_static(file.metadata()?.len(), platform, read_at)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_loader_is_not_static() {
        assert!(!is_static(&std::env::current_exe().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("busybox");
        for (content, expected) in [
            (b"#!/bin/sh\n".to_vec(), false),
            (b"\x7fELF\x02\x01".to_vec(), false),
            // One segment at byte 64, to be loaded.
            (elf(&[1]), true),
            (elf(&[1, 3]), false),
            (elf(&[]), false),
        ] {
            fs::write(&program, content).unwrap();
            assert_eq!(is_static(&program), expected);
        }
        assert!(!is_static(&folder.path().join("none")));
    }

    fn elf(kinds: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[16], file[18]) = (2, if cfg!(target_arch = "aarch64") { 183 } else { 62 });
        (file[32], file[54], file[56]) = (64, 56, kinds.len() as u8);
        for kind in kinds {
            let start = file.len();
            file.resize(start + 56, 0);
            file[start] = *kind;
        }
        file
    }
}
