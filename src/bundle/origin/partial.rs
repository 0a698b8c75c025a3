//! Files of a folder that have not come whole, where machines share that folder.
//!
//! Invariants: each process writes to files of its own, and a file gets its name in the folder by being renamed: there is never
//! a half one under it. What somebody else fetches of the same version is waited for, and what a process left that is gone is
//! taken over, by renaming too, so that one alone has it. That a process lives shows by the times of its files, which it renews,
//! and sooner by the lock on a file of its own, after which its others are called; locks need not work between machines (NFS), and clocks need not agree, as times are those of
//! the folder's own server. Whoever is wrongly taken for gone writes the same bytes as who took over, and finds its file renamed.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::io::digest::{Digest, HashingWriter};

/// What a process that lives shows no longer apart than.
const BEAT: Duration = Duration::from_secs(10);

/// Whose files are older than this, is gone; caches of NFS show times up to a minute late.
const SILENCE: Duration = Duration::from_secs(90);

/// What nobody has taken over for so long is removed.
const LEFT: Duration = Duration::from_secs(3600);

/// What stands before the names of files of no version that could be told from another.
const NAMELESS: &str = "any";

/// How folders of processes are called, in which they have a store of their own.
const STORE: &str = "store-";

/// How the file is called on which a process holds a lock.
const ALIVE: &str = "alive";

/// The folder of partial files in a folder that is filled.
pub(super) struct Partials {
    folder: PathBuf,
    /// What stands in the names of this process's files.
    id: String,
    _alive: tempfile::NamedTempFile,
    /// Those of this process.
    own: Mutex<BTreeSet<PathBuf>>,
}

/// Who fetches a file.
pub(super) enum Begun {
    /// This process.
    Here(Partial),
    /// Another one.
    Elsewhere,
}

/// A file that is being written.
pub(super) struct Partial {
    path: PathBuf,
    file: HashingWriter<fs::File>,
}

/// A file that has come whole, and has no name yet.
pub(super) struct Whole {
    path: PathBuf,
    pub digest: Digest,
    pub size: u64,
}

impl Partials {
    /// Those in `folder`, which is made where it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let alive = tempfile::Builder::new().prefix(&format!("{ALIVE}.")).tempfile_in(folder)?;
        // A lock that is not to be had is one hint less.
        let _ = alive.as_file().try_lock();
        let name = alive.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = name.split('.').nth(1).unwrap_or_default().to_owned();
        let own = Mutex::new(BTreeSet::from([alive.path().to_owned()]));
        Ok(Self { folder: folder.to_owned(), id, _alive: alive, own })
    }

    /// A folder for this process's own store, removed when it is dropped.
    pub fn store(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix(STORE).tempdir_in(&self.folder)
    }

    /// Begins or goes on with a file of `size` bytes of the version `key`; where there is no key, of its own version.
    pub fn begin(&self, key: Option<&Digest>, size: Option<u64>) -> io::Result<Begun> {
        let prefix = format!("{}.", key.map_or_else(|| NAMELESS.to_owned(), Digest::hex));
        let own = tempfile::Builder::new()
            .prefix(&format!("{prefix}{}.", self.id))
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(&self.folder)?;
        let (file, path) = own.keep().map_err(|error| error.error)?;
        self.lock().insert(path.clone());
        let mut file = fs::File::from_parts(file, &path);
        let mut known = HashingWriter::new(io::sink());
        if key.is_some() {
            let now = file.metadata()?.modified()?;
            let mut left = None;
            for other in self.named(&prefix)?.into_iter().filter(|other| *other != path) {
                let Ok(metadata) = fs::metadata(&other) else { continue };
                if self.is_alive(&other, &metadata, now) {
                    // Of two that begin at once, one goes on.
                    if metadata.len() > 0 || other < path {
                        self.forget(&path)?;
                        return Ok(Begun::Elsewhere);
                    }
                } else if left.as_ref().is_none_or(|(most, _)| *most < metadata.len())
                    && fs::OpenOptions::new().write(true).open(&other).is_ok()
                {
                    left = Some((metadata.len(), other));
                }
            }
            if let Some((_, left)) = left
                && fs::rename(&left, &path).is_ok()
            {
                file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
                futimens(&file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?;
                match size.is_some_and(|size| file.metadata().is_ok_and(|metadata| metadata.len() <= size)) {
                    true => drop(io::copy(&mut &file, &mut known)?),
                    false => file.set_len(0)?,
                }
            }
        }
        Ok(Begun::Here(Partial { path, file: known.around(file) }))
    }

    /// Does `work`, and shows meanwhile that this process lives.
    pub fn while_alive<T>(&self, work: impl FnOnce() -> T) -> T {
        let (is_done, changed) = (Mutex::new(false), Condvar::new());
        let beat = || {
            let mut done = is_done.lock().unwrap_or_else(PoisonError::into_inner);
            while !*done {
                done = changed.wait_timeout(done, BEAT).unwrap_or_else(PoisonError::into_inner).0;
                for path in self.lock().iter() {
                    // One that was taken over, or has its name by now, needs no sign.
                    if let Ok(file) = fs::OpenOptions::new().write(true).open(path) {
                        let _ = futimens(&file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(beat);
            let result = work();
            *is_done.lock().unwrap_or_else(PoisonError::into_inner) = true;
            changed.notify_all();
            result
        })
    }

    /// A file of the store, under a name of its own here.
    pub fn link(&self, blob: &Path, digest: Digest, size: u64) -> io::Result<Whole> {
        let mut own = self.lock();
        // Two files of the same content are two: whoever writes to one does not mean the other.
        let is_taken = fs::metadata(blob)?.nlink() > 1;
        let link = |path: &Path| match if is_taken {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            fs::hard_link(blob, path)
        } {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::copy(blob, path).map(drop),
            linked => linked,
        };
        let made = tempfile::Builder::new().prefix(&format!("{NAMELESS}.{}.", self.id)).make_in(&self.folder, link)?;
        let path = made.into_temp_path().keep().map_err(|error| error.error)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
        own.insert(path.clone());
        Ok(Whole { path, digest, size })
    }

    /// What the file system says of a file that has come whole, and will say when it has its name; none where it was taken over.
    pub fn settle(&self, whole: &Whole) -> Option<std::fs::Metadata> {
        // No sign of life changes its times any more.
        self.lock().remove(&whole.path);
        fs::metadata(&whole.path).ok()
    }

    /// Gives a file that has come whole its name. Whether it did: somebody may have taken it for left.
    pub fn name(&self, whole: &Whole, target: &Path) -> io::Result<bool> {
        self.lock().remove(&whole.path);
        match fs::rename(&whole.path, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            renamed => renamed.map(|()| true),
        }
    }

    /// Removes a file that is of no use.
    fn forget(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what is not what it should be.
    pub fn refuse(&self, whole: &Whole) -> io::Result<()> {
        self.forget(&whole.path)
    }

    /// Removes what nobody needs.
    pub fn give_up(&self, partial: &Partial) -> io::Result<()> {
        self.forget(&partial.path)
    }

    /// Removes what processes left that are long gone.
    pub fn sweep(&self) -> io::Result<()> {
        let probe = tempfile::NamedTempFile::new_in(&self.folder)?;
        let now = probe.as_file().metadata()?.modified()?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && name.starts_with(STORE) {
                if age(newest(&path), now) > LEFT {
                    let _ = fs::remove_dir_all(&path);
                }
            } else if kind.is_file()
                && is_partial(&name)
                && !self.lock().contains(&path)
                && let Ok(metadata) = entry.metadata()
                && !self.is_alive(&path, &metadata, now)
                && age(metadata.modified().ok(), now) > kept(&name)
            {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Whether the process lives whose file this is.
    fn is_alive(&self, path: &Path, metadata: &std::fs::Metadata, now: SystemTime) -> bool {
        if age(metadata.modified().ok(), now) > SILENCE {
            return false;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(id) = name.split('.').nth(1) else { return false };
        // Who holds the lock lives. One that is free says that the process is gone, where locks are known at all.
        match fs::OpenOptions::new().write(true).open(self.folder.join(format!("{ALIVE}.{id}"))) {
            Ok(file) => file.file().try_lock().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    fn named(&self, prefix: &str) -> io::Result<Vec<PathBuf>> {
        let names = fs::read_dir(&self.folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_one = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        Ok(names.filter(is_one).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a file of a process that is gone stays: what can be gone on with for long, a lock for as long as it may take to be had.
fn kept(name: &str) -> Duration {
    match name.split('.').next() {
        Some(NAMELESS) => Duration::ZERO,
        Some(ALIVE) => Duration::from_secs(2),
        _ => LEFT,
    }
}

/// Whether a file is called as those of this room are.
fn is_partial(name: &str) -> bool {
    let before = name.split_once('.').map(|(before, _)| before);
    before.is_some_and(|before| [NAMELESS, ALIVE].contains(&before) || Digest::from_hex(before).is_ok())
}

/// The newest time of anything in a folder.
fn newest(folder: &Path) -> Option<SystemTime> {
    let own = fs::metadata(folder).and_then(|metadata| metadata.modified()).ok();
    let inner = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => newest(&entry.path()),
        _ => entry.metadata().and_then(|metadata| metadata.modified()).ok(),
    });
    inner.chain(own).max()
}

fn age(time: Option<SystemTime>, now: SystemTime) -> Duration {
    time.and_then(|time| now.duration_since(time).ok()).unwrap_or_default()
}

impl Partial {
    /// Bytes that it has.
    pub fn written(&self) -> u64 {
        self.file.written()
    }

    /// All has come.
    pub fn finish(self) -> io::Result<Whole> {
        let (file, digest, size) = self.file.finish();
        file.sync_data()?;
        Ok(Whole { path: self.path, digest, size })
    }
}

impl Write for Partial {
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

    fn here(begun: Begun) -> Partial {
        match begun {
            Begun::Here(partial) => partial,
            Begun::Elsewhere => panic!("somebody else has it"),
        }
    }

    #[test]
    fn one_alone_fetches_a_version_and_what_is_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Partials::open(folder.path()).unwrap(), Partials::open(folder.path()).unwrap());
        let key = Digest::of("a version");
        let mut partial = here(one.begin(Some(&key), Some(10)).unwrap());
        partial.write_all(b"12345").unwrap();
        assert!(matches!(other.begin(Some(&key), Some(10)).unwrap(), Begun::Elsewhere));
        // Another version is another file.
        here(other.begin(Some(&Digest::of("another")), Some(10)).unwrap());
        let old = partial.path.clone();
        // A whole one that waits for its name is nobody else's either.
        let mut whole = here(one.begin(Some(&Digest::of("whole")), None).unwrap());
        whole.write_all(b"1").unwrap();
        let whole = whole.finish().unwrap();
        assert!(matches!(other.begin(Some(&Digest::of("whole")), None).unwrap(), Begun::Elsewhere));
        other.sweep().unwrap();
        assert!(one.settle(&whole).is_some());
        // As after a kill: nobody holds the lock.
        drop((partial, one));
        let mut partial = here(other.begin(Some(&key), Some(10)).unwrap());
        assert_eq!(partial.written(), 5);
        assert!(!old.exists());
        partial.write_all(b"67890").unwrap();
        let whole = partial.finish().unwrap();
        assert_eq!((whole.digest, whole.size), (Digest::of("1234567890"), 10));
        let target = folder.path().join("model");
        assert!(other.name(&whole, &target).unwrap());
        assert!(!other.name(&whole, &target).unwrap(), "it was taken over");
        assert_eq!(fs::read(&target).unwrap(), b"1234567890");
    }

    #[test]
    fn who_is_wrongly_taken_for_gone_finds_its_file_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Partials::open(folder.path()).unwrap(), Partials::open(folder.path()).unwrap());
        let key = Digest::of("a version");
        let mut slow = here(one.begin(Some(&key), Some(10)).unwrap());
        slow.write_all(b"12345").unwrap();
        // It gives no sign for long.
        let long_ago = SystemTime::now() - 2 * SILENCE;
        fs::File::options().write(true).open(&slow.path).unwrap().file().set_modified(long_ago).unwrap();
        let mut fast = here(other.begin(Some(&key), Some(10)).unwrap());
        assert_eq!(fast.written(), 5);
        // Both go on, and write the same.
        slow.write_all(b"67").unwrap();
        fast.write_all(b"67890").unwrap();
        slow.write_all(b"890").unwrap();
        let target = folder.path().join("model");
        let (slow, fast) = (slow.finish().unwrap(), fast.finish().unwrap());
        assert_eq!(slow.digest, fast.digest);
        assert!(!one.name(&slow, &target).unwrap() && other.name(&fast, &target).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"1234567890");
    }

    #[test]
    fn what_no_version_is_known_of_is_never_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let partials = Partials::open(folder.path()).unwrap();
        for _ in 0..2 {
            let mut partial = here(partials.begin(None, None).unwrap());
            assert_eq!(partial.written(), 0);
            partial.write_all(b"1").unwrap();
        }
        let other = Partials::open(folder.path()).unwrap();
        other.sweep().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "they are of one that lives");
        drop(partials);
        std::thread::sleep(Duration::from_millis(20));
        other.sweep().unwrap();
        drop(other);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
