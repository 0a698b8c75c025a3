//! Writing archives: same entries, same bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::{Entry, Kind, epoch};

/// The unit of a tar archive, in bytes: headers are one or more blocks, contents are padded to whole ones.
pub const BLOCK: u64 = 512;

/// Largest number that an 11-digit octal field of ustar holds, plus one.
const USTAR_SIZE_END: u64 = 1 << 33;

/// Writes entries in the order in which they come.
pub struct Writer<W: Write> {
    inner: W,
    epoch: u64,
    entries: Vec<Entry>,
    /// Which files' contents are held back.
    is_told: fn(&str) -> bool,
    told: BTreeMap<usize, Vec<u8>>,
}

/// Longest content that is held back, in bytes.
const LONGEST_TOLD: u64 = 4 << 20;

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(inner: W) -> Self {
        Self { inner, epoch: epoch(), entries: Vec::new(), is_told: |_| false, told: BTreeMap::new() }
    }

    /// The same, which holds the contents of those files back whose paths `is_told` names: see [`Writer::told`].
    pub fn telling(self, is_told: fn(&str) -> bool) -> Self {
        Self { is_told, ..self }
    }

    /// What was held back, by the numbers of the entries.
    pub fn told(&mut self) -> BTreeMap<usize, Vec<u8>> {
        std::mem::take(&mut self.told)
    }

    /// Writes an entry that has no content.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries.push(entry.clone());
        self.inner.write_all(&header(entry, self.epoch))
    }

    /// Writes a file entry and its content.
    ///
    /// # Errors
    /// When reading or writing fails, or `content` has not exactly the bytes that the entry says
    /// ([`io::ErrorKind::InvalidData`]).
    pub fn file(&mut self, entry: &Entry, content: impl Read) -> io::Result<()> {
        let Kind::File { size } = entry.kind else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` has no content", entry.path)));
        };
        let number = self.entries.len();
        self.entries.push(entry.clone());
        self.inner.write_all(&header(entry, self.epoch))?;
        let mut content = content.take(size.saturating_add(1));
        let copied = if size <= LONGEST_TOLD && (self.is_told)(entry.path.as_str()) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            self.inner.write_all(&bytes)?;
            let copied = bytes.len() as u64;
            self.told.insert(number, bytes);
            copied
        } else {
            io::copy(&mut content, &mut self.inner)?
        };
        if copied != size {
            let text = format!("`{}` changed while it was read: it had {size} bytes, now {copied}", entry.path);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.inner.write_all(padding(size))
    }

    /// Ends the archive with two empty blocks.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(self) -> io::Result<W> {
        self.finish_with_entries().map(|(inner, _)| inner)
    }

    /// As [`Writer::finish`]; gives what was written too, but for the contents of files.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish_with_entries(mut self) -> io::Result<(W, Vec<Entry>)> {
        self.inner.write_all(&[0; 2 * BLOCK as usize])?;
        Ok((self.inner, self.entries))
    }
}

/// The zeros that follow a content of `size` bytes.
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    &ZEROS[..((BLOCK - size % BLOCK) % BLOCK) as usize]
}

/// The blocks that stand before an entry's content: a pax extended header where ustar is too small, and the ustar
/// header (POSIX.1-2017, `pax`, sections "pax Header Block" and "ustar Header Block").
///
/// All carry the time `epoch`, in seconds since 1970.
pub fn header(entry: &Entry, epoch: u64) -> Vec<u8> {
    let mut name = entry.path.as_str().to_owned();
    let (kind, size, link) = match &entry.kind {
        Kind::Directory => {
            name.push('/');
            (tar::EntryType::Directory, 0, "")
        }
        Kind::File { size } => (tar::EntryType::Regular, *size, ""),
        Kind::Symlink(target) => (tar::EntryType::Symlink, 0, target.as_str()),
        Kind::Hardlink(target) => (tar::EntryType::Link, 0, target.as_str()),
    };
    let mut records = Vec::new();
    let mut header = ustar(kind, entry, epoch);
    if !set_name(&mut header, &name) {
        record(&mut records, "path", name.as_bytes());
        set_bytes(&mut header.as_old_mut().name, shortened(&name, 100));
    }
    if link.len() <= 100 {
        set_bytes(&mut header.as_old_mut().linkname, link.as_bytes());
    } else {
        record(&mut records, "linkpath", link.as_bytes());
        set_bytes(&mut header.as_old_mut().linkname, shortened(link, 100));
    }
    if size < USTAR_SIZE_END {
        header.set_size(size);
    } else {
        record(&mut records, "size", size.to_string().as_bytes());
        header.set_size(0);
    }
    // As GNU tar, docker and containerd write and read them.
    for (name, value) in &entry.attributes {
        record(&mut records, &format!("SCHILY.xattr.{name}"), value);
    }
    header.set_cksum();

    let mut blocks = Vec::new();
    if !records.is_empty() {
        let mut extended = ustar(tar::EntryType::XHeader, entry, epoch);
        set_bytes(&mut extended.as_old_mut().name, b"pax");
        extended.set_mode(0o644);
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        blocks.extend_from_slice(extended.as_bytes());
        blocks.extend_from_slice(&records);
        blocks.extend_from_slice(padding(records.len() as u64));
    }
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

fn ustar(kind: tar::EntryType, entry: &Entry, epoch: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(entry.owner.0.into());
    header.set_gid(entry.owner.1.into());
    header.set_mtime(epoch);
    header
}

/// Fills ustar's `name` and `prefix`; false where they are too small.
fn set_name(header: &mut tar::Header, name: &str) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    if name.len() <= 100 {
        set_bytes(&mut ustar.name, name.as_bytes());
        return true;
    }
    // The prefix takes up to 155 bytes, the name 100, and the `/` between them is not stored.
    let split = name.char_indices().find(|&(at, c)| c == '/' && at > 0 && name.len() - at - 1 <= 100);
    match split {
        Some((at, _)) if at <= 155 && at + 1 < name.len() => {
            set_bytes(&mut ustar.prefix, &name.as_bytes()[..at]);
            set_bytes(&mut ustar.name, &name.as_bytes()[at + 1..]);
            true
        }
        _ => false,
    }
}

fn set_bytes(field: &mut [u8], bytes: &[u8]) {
    field[..bytes.len()].copy_from_slice(bytes);
}

/// The last bytes of a name that is too long, for readers that do not know pax.
fn shortened(text: &str, most: usize) -> &[u8] {
    &text.as_bytes()[text.len().saturating_sub(most)..]
}

/// A pax record: its length in decimal (with itself), a space, `key=value`, a newline.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::ArchivePath;
    use super::*;
    use crate::io::archive::Mode;

    fn path(text: &str) -> ArchivePath {
        ArchivePath::new(text).unwrap()
    }

    #[test]
    fn other_readers_understand_every_kind_of_entry() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let mut writer = Writer::new(Vec::new());
        writer.entry(&Entry::directory(path("usr"))).unwrap();
        writer.file(&Entry::file(path("usr/a"), 3, Mode::Executable), &b"abc"[..]).unwrap();
        writer.entry(&Entry::symlink(path("bin"), "usr/bin")).unwrap();
        writer.entry(&Entry::symlink(path("far"), "x".repeat(300))).unwrap();
        writer.file(&Entry::file(path(&long), 0, Mode::Plain).owned_by(1034, 1034), &b""[..]).unwrap();
        let bytes = writer.finish().unwrap();

        let mut seen = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|l| l.to_string_lossy().len());
            seen.push((entry.path().unwrap().display().to_string(), entry.header().mode().unwrap(), link));
        }
        let expected = [
            ("usr/", 0o755, None),
            ("usr/a", 0o755, None),
            ("bin", 0o777, Some(7)),
            ("far", 0o777, Some(300)),
            (&long, 0o644, None),
        ];
        assert_eq!(seen, expected.map(|(p, m, l)| (p.to_owned(), m, l)));
    }

    #[test]
    fn sizes_over_8_gib_go_into_a_pax_record() {
        let size = 16 << 30;
        let blocks = header(&Entry::file(path("big"), size, Mode::Plain), 0);
        assert_eq!(blocks.len(), 3 * BLOCK as usize);
        assert!(String::from_utf8_lossy(&blocks).contains(&format!("size={size}\n")));
    }

    #[test]
    fn pax_records_count_themselves() {
        for length in 80..120 {
            let mut records = Vec::new();
            record(&mut records, "path", "x".repeat(length).as_bytes());
            let text = String::from_utf8(records).unwrap();
            let said: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, text.len());
        }
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_found() {
        for content in [&b"abcd"[..], b"ab"] {
            let result = Writer::new(io::sink()).file(&Entry::file(path("a"), 3, Mode::Plain), content);
            assert_eq!(result.map_err(|e| e.kind()), Err(io::ErrorKind::InvalidData));
        }
    }
}
