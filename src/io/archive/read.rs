//! Reading archives that somebody else made: every member is hostile until it was checked.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::{ArchivePath, BLOCK, Entry, Kind, PathError, padding};

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// How much an archive may hold before it is taken for a bomb.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members of any kind.
    pub members: u64,
    /// Bytes of all contents together.
    pub bytes: u64,
}

impl Default for Limits {
    /// A million members and a terabyte: more than any model in use, less than any disk can be surprised with.
    fn default() -> Self {
        Self { members: 1_000_000, bytes: 1 << 40 }
    }
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end early, or are no tar archive, or a check beneath (decompression, digest) failed.
    #[error("the archive cannot be read{}", at.as_ref().map(|path| format!(" after `{path}`")).unwrap_or_default())]
    Read {
        /// The last member that was whole, for a person.
        at: Option<String>,
        /// Of what lies beneath: the file, the decompression, a digest.
        source: io::Error,
    },
    /// A member's path is not allowed.
    #[error("the archive holds a member that is not allowed")]
    Path(#[from] PathError),
    /// A member is of a kind that is not taken: a device node, a pipe, or one that nobody knows.
    #[error("`{path}` is a {kind}, which does not belong into an archive")]
    Kind {
        /// The member, for a person.
        path: String,
        /// What it is, for a person.
        kind: String,
    },
    /// There is more than the limits allow.
    #[error("the archive holds more than {limit}")]
    TooLarge {
        /// What the limit is, for a person.
        limit: String,
    },
    /// A member would be written through a link, over another member, or links to what is not there.
    #[error("`{path}` cannot be unpacked: {reason}")]
    Unpack {
        /// The member, for a person.
        path: String,
        /// What stands in the way, as a fragment.
        reason: String,
    },
    /// Writing to disk failed.
    #[error("`{path}` cannot be written")]
    Write {
        /// The member, for a person.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Read { source, .. } => ErrorKind::Failure.named("archive/read").or(source),
            Self::Path(_) => ErrorKind::Failure.named("archive/path"),
            Self::Kind { .. } => ErrorKind::Failure.named("archive/kind"),
            Self::TooLarge { .. } => ErrorKind::Failure.named("archive/too-large"),
            Self::Unpack { .. } => ErrorKind::Failure.named("archive/unpack"),
            Self::Write { source, .. } => ErrorKind::Failure.named("archive/write").or(source),
        }
    }
}

/// Longest name or set of pax records that is believed, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// Reads the members of an archive one after the other.
///
/// Headers are decoded by the `tar` crate; the walk from one to the next is here, because a reader of hostile bytes
/// has to bound names and pax records before it reads them.
pub struct Reader<R: Read> {
    pub(super) inner: R,
    pub(super) limits: Limits,
}

/// One member and its content.
pub struct Member<'a> {
    /// What the header says, checked.
    pub entry: Entry,
    /// The content; empty for all but files.
    pub content: &'a mut dyn Read,
}

impl<R: Read> Reader<R> {
    /// Reads from `inner`, which is already decompressed.
    pub fn new(inner: R, limits: Limits) -> Self {
        Self { inner, limits }
    }

    /// Calls `visit` for each member in turn, until one fails. The stream is read to the end of the archive's last
    /// block, and no further.
    ///
    /// # Errors
    /// See [`Error`]; `visit` may fail with anything that an [`Error`] converts into.
    pub fn for_each<E: From<Error>>(&mut self, mut visit: impl FnMut(Member<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut last = None;
        let (mut members, mut bytes) = (0u64, 0u64);
        let mut extension = Extension::default();
        loop {
            let read = |source| Error::Read { at: last.clone(), source };
            let Some(header) = self.header().map_err(read)? else { return Ok(()) };
            members += 1;
            if members > self.limits.members {
                return Err(Error::TooLarge { limit: format!("{} members", self.limits.members) }.into());
            }
            let stored = header.entry_size().map_err(read)?;
            if extension.take(&header, stored, &mut self.inner).map_err(read)? {
                continue;
            }
            let extension = std::mem::take(&mut extension);
            let size = extension.size.unwrap_or(stored);
            bytes = bytes.saturating_add(size);
            if bytes > self.limits.bytes {
                return Err(Error::TooLarge { limit: format!("{} bytes", self.limits.bytes) }.into());
            }
            let checked = check(&header, &extension, size)?;
            let mut content = (&mut self.inner).take(size);
            if let Some(entry) = checked {
                let path = entry.path.clone();
                let mut nothing = io::empty();
                let content: &mut dyn Read =
                    if let Kind::File { .. } = entry.kind { &mut content } else { &mut nothing };
                visit(Member { entry, content })?;
                last = Some(path.to_string());
            }
            let read = |source| Error::Read { at: last.clone(), source };
            let rest = content.limit();
            skip(&mut self.inner, rest + padding(size).len() as u64).map_err(read)?;
        }
    }

    /// The next header whose checksum is right; none at the block of zeros that ends an archive.
    fn header(&mut self) -> io::Result<Option<tar::Header>> {
        let mut block = [0; BLOCK as usize];
        self.inner.read_exact(&mut block)?;
        header(&block)
    }
}

/// The header in a block, whose checksum is right; none where the block is of zeros.
pub(super) fn header(block: &[u8; BLOCK as usize]) -> io::Result<Option<tar::Header>> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    // The checksum's own field (bytes 148 to 155) counts as spaces.
    let sum: u32 = block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { b.into() }).sum();
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    if header.cksum().ok() != Some(sum) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a header's checksum is wrong"));
    }
    Ok(Some(header))
}

pub(super) fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// The records of the last pax header, in their order.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extension {
    /// Takes an extended header and its `size` bytes; false, and nothing read, for an ordinary entry.
    pub(super) fn take(&mut self, header: &tar::Header, size: u64, reader: &mut impl Read) -> io::Result<bool> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        let kind = header.entry_type();
        if !(kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions())
        {
            return Ok(false);
        }
        if size > MAX_EXTENSION {
            return Err(invalid("an extended header has over 1 MiB"));
        }
        let mut bytes = vec![0; size as usize];
        reader.read_exact(&mut bytes)?;
        skip(reader, padding(size).len() as u64)?;
        let text = |bytes: &[u8]| bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.path = Some(text(&bytes));
        } else if kind.is_gnu_longlink() {
            self.link = Some(text(&bytes));
        } else if kind.is_pax_local_extensions() {
            self.records = records(&bytes).ok_or_else(|| invalid("a pax header is malformed"))?;
            for (key, value) in &self.records {
                match key.as_slice() {
                    b"path" => self.path = Some(value.clone()),
                    b"linkpath" => self.link = Some(value.clone()),
                    b"size" => {
                        let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                        self.size = Some(size.ok_or_else(|| invalid("a pax record's size is no number"))?);
                    }
                    _ => {}
                }
            }
        }
        Ok(true)
    }
}

/// The records of a pax header, `LENGTH KEY=VALUE` and a line's end each (POSIX.1-2017, `pax`, "pax Extended Header").
/// Values may be of any bytes: those of extended attributes are. None where they are malformed.
fn records(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
        let record = bytes.get(digits..length)?.strip_prefix(b" ")?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Some(records)
}

/// Checks a header. None for what names only the root (`./`), which many archives begin with.
fn check(header: &tar::Header, extension: &Extension, size: u64) -> Result<Option<Entry>, Error> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| PathError::NotUtf8(String::from_utf8_lossy(bytes).chars().take(200).collect()))
    };
    let name = text(extension.path.as_deref().unwrap_or(&header.path_bytes()))?;
    if matches!(name.as_str(), "." | "./") {
        return Ok(None);
    }
    let path = ArchivePath::relative(&name)?;
    let link = || -> Result<String, Error> {
        let bytes = extension.link.clone().or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
        Ok(text(&bytes.unwrap_or_default())?)
    };
    let malformed = |source| Error::Read { at: Some(path.to_string()), source };
    let kind = match header.entry_type() {
        // Before POSIX, a folder was a file whose name ends in a slash.
        tar::EntryType::Regular if name.ends_with('/') => Kind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File { size },
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink(link()?),
        tar::EntryType::Link => Kind::Hardlink(ArchivePath::relative(link()?)?),
        other => {
            let kind = match other {
                tar::EntryType::Char | tar::EntryType::Block => "device node".to_owned(),
                tar::EntryType::Fifo => "named pipe".to_owned(),
                tar::EntryType::GNUSparse => "sparse file".to_owned(),
                other => format!("member of the unknown kind {:#04x}", other.as_byte()),
            };
            return Err(Error::Kind { path: path.to_string(), kind });
        }
    };
    let mode = header.mode().map_err(malformed)? & 0o7777;
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let owner = (number(header.uid().map_err(malformed)?), number(header.gid().map_err(malformed)?));
    Ok(Some(Entry { path, mode, owner, kind, attributes: Vec::new() }))
}

/// Tells a failure to read from one to write.
pub(crate) struct Noting<R> {
    pub(crate) inner: R,
    pub(crate) failed: bool,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|_| self.failed = true)
    }
}

/// Unpacks an archive below `root`, an existing folder that nobody else writes to.
///
/// Files belong to whoever runs this; of the modes only the bits below `0o777` are kept, and folders stay writable
/// for their owner. A path that leads through a symbolic link is an error, wherever the link points: it is found by
/// the kernel (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), so no race can get past it.
///
/// # Errors
/// See [`Error`]. What was written until then stays: unpack into a temporary folder and rename it.
pub fn unpack<R: Read>(archive: R, root: &Path, limits: Limits) -> Result<(), Error> {
    let mut folders = Folders::new(root)?;
    Reader::new(archive, limits).for_each(|member| folders.put(member))
}

/// The tree that is being unpacked into.
struct Folders {
    root: OwnedFd,
    root_path: PathBuf,
    made: HashSet<ArchivePath>,
    last: Option<(Option<ArchivePath>, OwnedFd)>,
}

impl Folders {
    fn new(root: &Path) -> Result<Self, Error> {
        let open = fs::File::open(root).map_err(|source| Error::Read { at: None, source })?;
        Ok(Self { root: open.into_parts().0.into(), root_path: root.to_owned(), made: HashSet::new(), last: None })
    }

    fn put(&mut self, member: Member<'_>) -> Result<(), Error> {
        let Entry { path, mode, kind, .. } = &member.entry;
        let write = |source: io::Error| Error::Write { path: path.to_string(), source };
        if let Kind::Directory = kind {
            return self.directory(path, mode & 0o777 | 0o700);
        }
        for folder in path.ancestors() {
            if !self.made.contains(&folder) {
                self.directory(&folder, 0o755)?;
            }
        }
        let parent = path.parent();
        if self.last.as_ref().is_none_or(|(open, _)| *open != parent) {
            let folder = match &parent {
                Some(parent) => self.open(parent)?,
                None => self.root.try_clone().map_err(write)?,
            };
            self.last = Some((parent, folder));
        }
        let Some((_, folder)) = &self.last else { return Ok(()) };
        let name = path.name();
        // A later member replaces an earlier one of the same name, as tar does; a folder is never replaced.
        match nix::unistd::unlinkat(folder, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(error) => return Err(write(error.into())),
        }
        match kind {
            Kind::Directory => {}
            Kind::File { size } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
                let file = nix::fcntl::openat(folder, name, flags, Mode::from_bits_truncate(0o600));
                let mut file = std::fs::File::from(file.map_err(|error| write(error.into()))?);
                let mut content = Noting { inner: member.content, failed: false };
                let copied = io::copy(&mut content, &mut file).map_err(|source| match content.failed {
                    true => Error::Read { at: None, source },
                    false => write(source),
                })?;
                if copied < *size {
                    return Err(Error::Read { at: None, source: io::ErrorKind::UnexpectedEof.into() });
                }
                let mode = Mode::from_bits_truncate(mode & 0o777 | 0o400);
                nix::sys::stat::fchmod(file.as_fd(), mode).map_err(|error| write(error.into()))?;
            }
            Kind::Symlink(target) => {
                nix::unistd::symlinkat(target.as_str(), folder, name).map_err(|error| write(error.into()))?;
            }
            Kind::Hardlink(target) => {
                let missing = |_| Error::Unpack {
                    path: path.to_string(),
                    reason: format!("it is a hard link to `{target}`, which is not a file in the archive"),
                };
                let from = self.resolve(target, OFlag::O_PATH).map_err(missing)?;
                let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&from));
                let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
                return nix::unistd::linkat(nix::fcntl::AT_FDCWD, proc.as_str(), folder, name, follow).map_err(missing);
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &ArchivePath, mode: u32) -> Result<(), Error> {
        let write = |source: io::Error| Error::Write { path: path.to_string(), source };
        for folder in path.ancestors() {
            if !self.made.contains(&folder) {
                self.directory(&folder, 0o755)?;
            }
        }
        let parent = match path.parent() {
            Some(parent) => self.open(&parent)?,
            None => self.root.try_clone().map_err(write)?,
        };
        match nix::sys::stat::mkdirat(&parent, path.name(), Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(write(error.into())),
        }
        let folder = self.open(path)?;
        nix::sys::stat::fchmod(&folder, Mode::from_bits_truncate(mode)).map_err(|error| write(error.into()))?;
        self.made.insert(path.clone());
        Ok(())
    }

    /// Opens a folder that was unpacked, without following a link.
    fn open(&self, path: &ArchivePath) -> Result<OwnedFd, Error> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(|error| Error::Unpack {
            path: path.to_string(),
            reason: match error {
                nix::Error::ELOOP | nix::Error::ENOTDIR => "it is a link or a file, but others lie below it".to_owned(),
                error => format!("its folder in {} cannot be opened: {error}", self.root_path.display()),
            },
        })
    }

    fn resolve(&self, path: &ArchivePath, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.root, path.as_str(), how)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::super::testing::forged;
    use super::*;
    use crate::io::archive::Mode;

    fn path(text: &str) -> ArchivePath {
        ArchivePath::new(text).unwrap()
    }

    fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, Result<(), Error>) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let result = unpack(bytes, &root, Limits::default());
        let outside: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(outside, ["root"], "something was written outside");
        (outer, result)
    }

    #[test]
    fn what_was_written_is_unpacked() {
        let mut writer = Writer::new(Vec::new());
        let long = path(&format!("a/{}/{}", "d".repeat(150), "f".repeat(150)));
        writer.file(&Entry::file(long.clone(), 3, Mode::Executable), &b"abc"[..]).unwrap();
        writer.entry(&Entry::symlink(path("link"), "/etc/passwd")).unwrap();
        writer
            .entry(&Entry { kind: Kind::Hardlink(long), ..Entry::file(path("b/hard"), 0, Mode::Executable) })
            .unwrap();
        let (folder, result) = unpacked(&writer.finish().unwrap());
        result.unwrap();
        assert_eq!(fs::read(folder.path().join("root/b/hard")).unwrap(), b"abc");
        assert_eq!(fs::read_link(folder.path().join("root/link")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn hostile_members_are_refused() {
        use tar::EntryType as T;
        type Case = (&'static [(&'static str, T, &'static str)], &'static str);
        let cases: &[Case] = &[
            (&[("../x", T::Regular, "")], "not allowed"),
            (&[("/x", T::Regular, "")], "not allowed"),
            (&[("a/../../x", T::Regular, "")], "not allowed"),
            (&[("out", T::Symlink, ".."), ("out/x", T::Regular, "")], "cannot be unpacked"),
            (&[("out", T::Symlink, ".."), ("out/d", T::Directory, "")], "cannot be unpacked"),
            (&[("out", T::Symlink, "/etc/passwd"), ("x", T::Link, "out")], "hard link"),
            (&[("x", T::Link, "../../etc/passwd")], "not allowed"),
            (&[("x", T::Link, "/etc/passwd")], "not allowed"),
            (&[("dev", T::Char, "")], "device node"),
            (&[("dev", T::Block, "")], "device node"),
            (&[("pipe", T::Fifo, "")], "named pipe"),
        ];
        for (entries, expected) in cases {
            let (_folder, result) = unpacked(&forged(entries));
            let error = result.expect_err("refused");
            let error = format!("{error}: {:?}", std::error::Error::source(&error));
            assert!(error.contains(expected), "{entries:?}: {error}");
        }
    }

    #[test]
    fn bombs_and_stumps_are_refused() {
        let mut writer = Writer::new(Vec::new());
        for name in ["a", "b", "c"] {
            writer.file(&Entry::file(path(name), 600, Mode::Plain), &[7; 600][..]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let read = |bytes: &[u8], limits| Reader::new(bytes, limits).for_each(|_| Ok::<_, Error>(()));
        let limits = Limits::default();
        assert!(matches!(read(&bytes, Limits { members: 2, ..limits }), Err(Error::TooLarge { .. })));
        assert!(matches!(read(&bytes, Limits { bytes: 1000, ..limits }), Err(Error::TooLarge { .. })));
        assert!(matches!(read(&bytes[..1000], limits), Err(Error::Read { .. })));
        assert!(matches!(read(&[9; 2048], limits), Err(Error::Read { .. })));
    }
}
