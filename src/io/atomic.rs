//! Files and folders that appear whole or not at all, where the person asked for them.

use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::fcntl::{AT_FDCWD, AtFlags, PosixFadviseAdvice, posix_fadvise};
use nix::unistd::{AccessFlags, access};
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
    let parent = parent(path);
    let named = |error: io::Error| named(path, &error);
    let mut file = BufWriter::with_capacity(1 << 20, Unfinished::new(parent).map_err(named)?);
    let result = write(&mut file)?;
    let file = file.into_inner().map_err(|error| named(error.into_error()))?;
    file.file.file.sync_all().map_err(named)?;
    file.persist(parent, path).map_err(named)?;
    Ok(result)
}

/// Whether the file at `path` can be written, as far as the rights on its folder tell.
///
/// # Errors
/// Why it cannot be.
pub fn may_write(path: &Path) -> io::Result<()> {
    let rights = AccessFlags::W_OK | AccessFlags::X_OK;
    access(parent(path), rights).map_err(|error| named(path, &error.into()))
}

/// What a person learns of a file that cannot be written: the one that was meant, and why.
fn named(path: &Path, error: &io::Error) -> io::Error {
    // The files that are opened on the way have no names, or others.
    let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    io::Error::new(error.kind(), format!("cannot write {}: {why}", path.display()))
}

/// Fills the folder `path`, which must not be there or be empty, with what `fill` puts into a folder beside it, which
/// is flushed to the disk and renamed. What a killed process left behind is removed by the next one that fills a
/// folder beside it.
///
/// # Errors
/// Those of `fill`, and those of the disk: [`io::ErrorKind::AlreadyExists`] where something is at `path`, or was put there
/// meanwhile. Then nothing is left.
pub fn folder<T, E: From<io::Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    let occupied = || fs::read_dir(path).map_or(true, |mut entries| entries.next().is_some());
    let there = || io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there already", path.display()));
    if path.symlink_metadata().is_ok() && occupied() {
        return Err(there().into());
    }
    let parent = parent(path);
    sweep(parent)?;
    // Not `TempDir`'s own way, which nobody else may enter: the kernel takes off what the umask says.
    let made = tempfile::Builder::new().prefix(PREFIX).make_in(parent, |path| fs::create_dir(path));
    let folder = TempDir(made?.into_temp_path().keep().map_err(|error| error.error)?);
    let lock = fs::File::open(&folder.0)?;
    lock.lock()?;
    let result = fill(&folder.0)?;
    nix::unistd::syncfs(&lock).map_err(io::Error::from)?;
    fs::rename(&folder.0, path).map_err(|error| match error.kind() {
        // Somebody else was faster.
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => there(),
        _ => error,
    })?;
    std::mem::forget(folder);
    Ok(result)
}

/// A folder that is removed unless it is forgotten.
struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        // What stays is removed by the next sweep.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the unfinished folders in `parent` whose process is gone: the kernel lets go of its lock then.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !entry.file_type()?.is_dir() {
            continue;
        }
        let dead = fs::File::open(entry.path()).is_ok_and(|folder| {
            // One that was made a moment ago may not be locked yet.
            let old = folder.metadata().and_then(|metadata| metadata.modified());
            old.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(2)))
                && folder.try_lock().is_ok()
        });
        if dead {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Unfinished files and folders are called so where they have to have a name.
const PREFIX: &str = ".ekiben-";

/// A file that the kernel writes to the disk while more is written to it, and not only when it is whole.
pub struct Steady {
    file: fs::File,
    written: u64,
    /// How much the kernel was told to write to the disk.
    under_way: u64,
}

impl Steady {
    const STEP: u64 = 16 << 20;

    /// Writes to `file`, which is empty.
    pub fn new(file: fs::File) -> Self {
        Self { file, written: 0, under_way: 0 }
    }
}

impl Write for Steady {
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

/// A file on its way to the disk.
pub struct Unfinished {
    file: Steady,
    /// None while it has no name.
    name: Option<TempPath>,
}

/// As readable as any file that the person makes: the kernel takes off what the umask says.
const MODE: u32 = 0o666;

impl Unfinished {
    fn new(parent: &Path) -> io::Result<Self> {
        let flags = nix::libc::O_TMPFILE | nix::libc::O_CLOEXEC;
        let unnamed = fs::OpenOptions::new().write(true).custom_flags(flags).mode(MODE).open(parent);
        let (file, name) = match unnamed {
            Ok(file) => (file, None),
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EOPNOTSUPP | nix::libc::EISDIR)) => {
                let (file, name) = builder().tempfile_in(parent)?.into_parts();
                (fs::File::from_parts(file, parent), Some(name))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { file: Steady::new(file), name })
    }

    fn persist(self, parent: &Path, path: &Path) -> io::Result<()> {
        let Some(name) = self.name else {
            // A link cannot replace what is there: the file gets a name of its own first.
            let link = |name: &Path| {
                let from = format!("/proc/self/fd/{}", self.file.file.as_raw_fd());
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
    builder.prefix(PREFIX).permissions(std::fs::Permissions::from_mode(MODE));
    builder
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
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
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let failed: io::Result<()> = write(&path, |file| {
            file.write_all(&[0; 3 << 20])?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a");
        let failed: io::Result<()> = folder(&path, |folder| {
            fs::write(folder.join("x"), "")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        // As a killed process leaves it.
        let left = parent.path().join(".ekiben-left");
        fs::create_dir(&left).unwrap();
        std::process::Command::new("touch").args(["-d", "1 hour ago"]).arg(&left).status().unwrap();
        folder(&path, |folder| fs::write(folder.join("x"), "")).unwrap();
        assert!(path.join("x").exists() && !left.exists());
        assert!(folder(&path, |_| Ok::<_, io::Error>(())).is_err(), "there is something");
    }
}
