//! How a program is started: by the kernel alone, or by a dynamic loader that it names (elf(5), `PT_INTERP`).
//!
//! The beginning of a file is read, where linkers put what says so; what says otherwise is no program.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// How much is read, in bytes: linkers begin with the header, the program headers, and the loader's path.
const START: u64 = 64 << 10;

const EXEC: usize = 2;
const DYN: usize = 3;
const INTERPRETER: usize = 3;

/// A program for a processor of 64 bits, little end first: what Ekiben runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Which processor (`e_machine`).
    pub machine: usize,
    /// The dynamic loader; none where it is linked statically.
    pub loader: Option<PathBuf>,
}

impl Program {
    /// The program in a file; none where there is none in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        let mut start = Vec::new();
        fs::File::open(path)?.take(START).read_to_end(&mut start)?;
        Ok(Self::read(&start))
    }

    fn read(start: &[u8]) -> Option<Self> {
        let part = |at: usize, size: usize| start.get(at..at.checked_add(size)?);
        let number = |at: usize, size: usize| {
            let mut bytes = part(at, size)?.iter().rev();
            bytes.try_fold(0_usize, |number, byte| number.checked_mul(256)?.checked_add(usize::from(*byte)))
        };
        let is_program = start.starts_with(b"\x7fELF\x02\x01") && matches!(number(16, 2)?, EXEC | DYN);
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        if !is_program || count == 0 {
            return None;
        }
        let mut loader = None;
        for index in 0..count {
            let header = table.checked_add(size * index)?;
            if number(header, 4)? == INTERPRETER {
                // With a null behind it.
                let path = part(number(header.checked_add(8)?, 8)?, number(header.checked_add(32)?, 8)?)?;
                loader = Some(PathBuf::from(OsStr::from_bytes(path.strip_suffix(b"\0")?)));
            }
        }
        Some(Self { machine: number(18, 2)?, loader })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, and a program header of each kind; that of the loader names what stands at the end.
    fn elf(kinds: &[u8], loader: &str) -> Vec<u8> {
        let end = 64 + 56 * kinds.len();
        let mut file = vec![0; end];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[16], file[18], file[32], file[54], file[56]) = (2, 62, 64, 56, kinds.len() as u8);
        for (index, kind) in kinds.iter().enumerate() {
            let start = 64 + 56 * index;
            (file[start], file[start + 8], file[start + 32]) = (*kind, end as u8, loader.len() as u8);
        }
        file.extend_from_slice(loader.as_bytes());
        file
    }

    #[test]
    fn programs_name_their_loader() {
        let program = |loader: Option<&str>| Some(Program { machine: 62, loader: loader.map(PathBuf::from) });
        assert_eq!(Program::read(&elf(&[1], "")), program(None));
        assert_eq!(Program::read(&elf(&[1, 3], "/lib/ld.so\0")), program(Some("/lib/ld.so")));
        // Cut off, without a null, without a segment, or no program at all.
        let whole = elf(&[1, 3], "/lib/ld.so\0");
        assert!((0..whole.len()).all(|length| Program::read(&whole[..length]).is_none()));
        assert_eq!(Program::read(&elf(&[3], "/lib/ld.so")), None);
        assert_eq!(Program::read(&elf(&[], "")), None);
        assert_eq!(Program::read(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn this_program_is_one() {
        let this = Program::of(Path::new("/proc/self/exe")).unwrap().unwrap();
        assert_eq!(this.loader.is_none(), cfg!(target_env = "musl"), "{this:?}");
        assert!(Program::of(Path::new("/proc/self/exe/none")).is_err());
    }
}
