//! Copies of programs in memory that nobody can change: what is run within a container from elsewhere.
//!
//! memfd_create(2), fcntl(2) on sealing. A program that runs in a container can be had by the container as
//! `/proc/PID/exe` (CVE-2019-5736). Of a sealed copy it can have no more than its bytes.

use std::io::{self, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fs_err as fs;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;

/// A copy of the program at `path`, called `name` where a process shows what it runs.
///
/// # Errors
/// When the file cannot be read, or the kernel makes none that can be run.
pub(super) fn copy(path: &Path, name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 know no files in memory that cannot be run.
    let made = match memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    };
    let made = made.map_err(|error| match error {
        Errno::ACCESS => io::Error::other("this machine runs no program from memory (vm.memfd_noexec is 2)"),
        error => error.into(),
    })?;
    let mut copy = std::fs::File::from(made);
    io::copy(&mut fs::File::open(path)?, &mut copy)?;
    copy.rewind()?;
    fcntl_add_seals(&copy, all())?;
    Ok(copy.into())
}

/// Whether a file can be changed by nobody.
pub(super) fn is_sealed(file: impl AsFd) -> bool {
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(all()))
}

fn all() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_copy_is_the_program_and_stays_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let copy = copy(&path, "x").unwrap();
        assert!(is_sealed(&copy) && !is_sealed(fs::File::open(&path).unwrap()));
        let mut copy = std::fs::File::from(copy);
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "#!/bin/sh\n");
        copy.rewind().unwrap();
        assert!(copy.write(b"x").is_err() && copy.set_len(1).is_err());
    }
}
