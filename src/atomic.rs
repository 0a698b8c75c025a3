//! Files that appear whole or not at all, where the person asked for them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags, PosixFadviseAdvice, posix_fadvise};
use tempfile::TempPath;

/// Writes the file at `path` with what `write` writes: into a file without a name, flushed to the disk, named. A
/// process that is killed leaves nothing. (Where the file system knows no such files: under another name beside it.)
///
/// # Errors
/// Those of `write`, and those of the disk; what was at `path` before is still there then.
pub fn write<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<Unfinished>) -> Result<T, E>,
) -> Result<T, E> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let mut file = BufWriter::with_capacity(1 << 20, Unfinished::new(parent).map_err(named)?);
    let result = write(&mut file)?;
    let file = file.into_inner().map_err(|error| named(error.into_error()))?;
    file.file.sync_all().map_err(named)?;
    file.persist(parent, path).map_err(named)?;
    Ok(result)
}

/// A file on its way to the disk.
pub struct Unfinished {
    file: File,
    /// None while it has no name.
    name: Option<TempPath>,
    written: u64,
    /// How much the kernel was told to write to the disk.
    under_way: u64,
}

/// As readable as any file that the person makes: the kernel takes off what the umask says.
const MODE: u32 = 0o666;

impl Unfinished {
    /// The kernel begins to write to the disk after so many bytes, and not only when the file is whole.
    const STEP: u64 = 16 << 20;

    fn new(parent: &Path) -> io::Result<Self> {
        let flags = nix::libc::O_TMPFILE | nix::libc::O_CLOEXEC;
        let unnamed = File::options().write(true).custom_flags(flags).mode(MODE).open(parent);
        let (file, name) = match unnamed {
            Ok(file) => (file, None),
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EOPNOTSUPP | nix::libc::EISDIR)) => {
                let (file, name) = builder().tempfile_in(parent)?.into_parts();
                (file, Some(name))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { file, name, written: 0, under_way: 0 })
    }

    fn persist(self, parent: &Path, path: &Path) -> io::Result<()> {
        let Some(name) = self.name else {
            // A link cannot replace what is there: the file gets a name of its own first.
            let link = |name: &Path| {
                let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                nix::unistd::linkat(AT_FDCWD, from.as_str(), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)
                    .map_err(io::Error::from)
            };
            return builder().make_in(parent, link)?.into_temp_path().persist(path).map_err(|error| error.error);
        };
        name.persist(path).map_err(|error| error.error)
    }
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ekiben-").permissions(std::fs::Permissions::from_mode(MODE));
    builder
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.written += taken as u64;
        if self.written - self.under_way >= Self::STEP {
            let range = (self.under_way as i64, (self.written - self.under_way) as i64);
            // Only advice: a file system that does not take it writes at the end.
            let _ = posix_fadvise(&self.file, range.0, range.1, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            self.under_way = self.written;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for text in ["first", "second"] {
            write(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let failed: io::Result<()> = write(&path, |file| {
            file.write_all(&[0; 3 << 20])?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
