//! What a program needs of the image that it is put into.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fs_err as fs;

use crate::base::loader;
use crate::image::oci::platform::Platform;
use crate::io::elf;

/// What a program needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Libraries, by their names.
    pub libraries: Vec<String>,
    /// The C library's version at least, as `(2, 34)`; none where it needs no certain one.
    pub glibc: Option<(u32, u32)>,
}

impl Program {
    /// What the program at `path` needs; none where it is no program for `platform`. One that is linked statically needs nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path, platform: Platform) -> io::Result<Option<Self>> {
        let file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        let read_at = |offset: u64, buffer: &mut [u8]| file.file().read_exact_at(buffer, offset);
        let Some(linkage) = loader::read_linkage(size, platform, read_at)? else {
            let program = elf::Program::of(path)?.filter(|program| program.loader.is_none());
            return Ok(program.filter(|program| program.machine == loader::machine(platform)).map(|_| Self::default()));
        };
        let versions = loader::read_versions(size, platform, read_at)?.unwrap_or_default();
        let glibc = versions.iter().filter_map(|version| glibc(version)).max();
        Ok(Some(Self { libraries: linkage.needed, glibc }))
    }
}

/// The version in `GLIBC_2.34` and `GLIBC_2.2.5`.
fn glibc(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("GLIBC_")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_needs_is_read_from_it() {
        let Ok(platform) = Platform::host() else { return };
        let found = Program::of(Path::new("/proc/self/exe"), platform).unwrap().unwrap();
        assert!(found.libraries.iter().any(|name| name == "libc.so.6"), "{found:?}");
        assert!(found.glibc.is_some_and(|version| version > (2, 17)), "{found:?}");
        assert_eq!(Program::of(Path::new("/etc/passwd"), platform).unwrap(), None);
        // A header, and one segment to be loaded: for an unknown processor, and for that of `platform`.
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[16], elf[32], elf[54], elf[56], elf[64]) = (2, 64, 56, 1, 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &elf).unwrap();
        assert_eq!(Program::of(file.path(), platform).unwrap(), None);
        elf[18] = loader::machine(platform) as u8;
        fs::write(file.path(), &elf).unwrap();
        assert_eq!(Program::of(file.path(), platform).unwrap(), Some(Program::default()));
        assert_eq!(glibc("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(glibc("GLIBC_PRIVATE"), None);
    }
}
