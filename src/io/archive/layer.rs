//! Reading layers of images as docker, containerd and umoci read them (image specification 1.1, `layer.md`).
//!
//! Other builders write what [`super::Reader`] refuses: absolute names, an entry for the root, device nodes, names that
//! are no UTF-8, sparse files. What is refused here is what has no meaning inside the image: a path that climbs out of
//! it, and kinds of members that nobody knows.
//!
//! Formats: Unix version 7, ustar, pax (POSIX.1-2017) and GNU; sparse files as GNU tar writes them (its manual,
//! "Storing Sparse Files", formats old, 0.0, 0.1 and 1.0).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::read::{Error, Extension, Limits, header, skip};
use super::{BLOCK, PathError, padding};

/// In front of the name of what a layer deletes (image-spec 1.1, `layer.md`, "Whiteouts").
pub const WHITEOUT: &str = ".wh.";

/// Longest path that Linux takes (`PATH_MAX`), in bytes.
const MAX_PATH: usize = 4095;

/// Longest name of one file (`NAME_MAX`), in bytes.
const MAX_NAME: usize = 255;

/// Most pieces that a sparse file may have: 16 MiB of them.
const MOST_PIECES: usize = 1 << 20;

/// A member of a layer, without its content.
pub(super) struct Entry {
    /// Plain names from the root; empty for the root itself.
    pub(super) path: PathBuf,
    /// Permission bits, at most `0o7777`.
    pub(super) mode: u32,
    /// Owner and group by number.
    pub(super) owner: (u32, u32),
    /// When it was changed: seconds since 1970 and nanoseconds.
    pub(super) time: (i64, u32),
    /// Extended attributes, as pax records of `SCHILY.xattr` have them.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) kind: Kind,
}

/// What a member is.
pub(super) enum Kind {
    Directory,
    File(Pieces),
    /// With its target.
    Symlink(PathBuf),
    /// Another name of what is at this path from the root.
    Hardlink(PathBuf),
    Pipe,
    Device,
}

/// Where the bytes of a file go: one piece from the start, unless it is sparse.
pub(super) struct Pieces {
    /// Offset and length in bytes, in order and without overlap.
    pub(super) list: Vec<(u64, u64)>,
    /// Of the whole file, in bytes.
    pub(super) size: u64,
}

/// Calls `visit` for each member of the layer `inner`, with its content, until one fails. Where the archive ends without
/// the blocks that should end it, it ends.
///
/// # Errors
/// See [`Error`].
pub(super) fn for_each(
    mut inner: impl Read,
    limits: Limits,
    mut visit: impl FnMut(Entry, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut last = None;
    let (mut members, mut bytes) = (0u64, 0u64);
    let mut extension = Extension::default();
    loop {
        let read = |source| Error::Read { at: last.clone(), source };
        let Some(header) = next(&mut inner).map_err(read)? else { return Ok(()) };
        members += 1;
        if members > limits.members {
            return Err(Error::TooLarge { limit: format!("{} members", limits.members) });
        }
        let mut stored = header.entry_size().map_err(read)?;
        if extension.take(&header, stored, &mut inner).map_err(read)? {
            continue;
        }
        let extension = std::mem::take(&mut extension);
        // What is only a header has none, whatever it says: some write the size of the file that a hard link is of.
        let is_file = matches!(header.as_bytes()[156], 0 | b'0' | b'7' | b'S');
        stored = if is_file { extension.size.unwrap_or(stored) } else { 0 };
        let Described { entry, sparse } = describe(&header, &extension)?;
        let shown = shown(&entry.path);
        let read = |source| Error::Read { at: Some(shown.clone()), source };
        let mut content = (&mut inner).take(stored);
        let entry = match entry.kind {
            Kind::File(_) => {
                let pieces = match sparse {
                    Some(sparse) => sparse.pieces(&header, &mut content, stored).map_err(read)?,
                    None => Pieces { list: vec![(0, stored)], size: stored },
                };
                bytes = bytes.saturating_add(stored.max(pieces.size));
                Entry { kind: Kind::File(pieces), ..entry }
            }
            _ => entry,
        };
        if bytes > limits.bytes {
            return Err(Error::TooLarge { limit: format!("{} bytes", limits.bytes) });
        }
        // A file that is called by no name is none: Docker takes it for the root, and leaves that as it is.
        if !entry.path.as_os_str().is_empty() || matches!(entry.kind, Kind::Directory) {
            visit(entry, &mut content)?;
        }
        let rest = content.limit();
        skip(&mut inner, rest + padding(stored).len() as u64).map_err(read)?;
        last = Some(shown);
    }
}

/// A path for a person.
pub(super) fn shown(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => "/".to_owned(),
        false => path.to_string_lossy().chars().take(200).collect(),
    }
}

/// The next header; none at the end, with or without the block of zeros that should be there.
fn next(reader: &mut impl Read) -> io::Result<Option<tar::Header>> {
    let mut block = [0; BLOCK as usize];
    let mut filled = 0;
    while filled < block.len() {
        match reader.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(taken) => filled += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    header(&block)
}

struct Described<'a> {
    entry: Entry,
    sparse: Option<Sparse<'a>>,
}

/// What headers say, checked.
fn describe<'a>(header: &tar::Header, extension: &'a Extension) -> Result<Described<'a>, Error> {
    let sparse = Sparse::of(header, extension);
    let own = header.path_bytes();
    let name = extension.path.as_deref().unwrap_or(&own);
    let name = sparse.as_ref().and_then(|sparse| sparse.name).unwrap_or(name);
    let path = inside(name)?;
    let invalid = |what: &str| {
        let why = format!("its {what} is malformed");
        Error::Read { at: Some(shown(&path)), source: io::Error::new(io::ErrorKind::InvalidData, why) }
    };
    let link = || extension.link.clone().or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
    let kind = match header.as_bytes()[156] {
        // Before POSIX, a folder was a file whose name ends in a slash.
        0 | b'0' if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File(Pieces { list: Vec::new(), size: 0 }),
        b'5' => Kind::Directory,
        b'1' => Kind::Hardlink(inside(&link().unwrap_or_default())?),
        b'2' => {
            let target = link().unwrap_or_default();
            if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
                return Err(PathError::Malformed(shown(Path::new(OsStr::from_bytes(&target)))).into());
            }
            Kind::Symlink(OsStr::from_bytes(&target).into())
        }
        b'3' | b'4' => Kind::Device,
        b'6' => Kind::Pipe,
        other => {
            let kind = format!("member of the unknown kind {other:#04x}");
            return Err(Error::Kind { path: shown(&path), kind });
        }
    };
    if path.as_os_str().is_empty() && !matches!(kind, Kind::Directory | Kind::File(_)) {
        return Err(Error::Kind { path: "/".to_owned(), kind: "root that is no folder".to_owned() });
    }
    let record = |key: &[u8]| extension.records.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value);
    let owner = |key: &'static str, field: &[u8]| {
        let number = match record(key.as_bytes()) {
            Some(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            None => number(field),
        };
        // The largest means nobody to the kernel, and that nothing is to be changed.
        number.and_then(|number| u32::try_from(number).ok()).filter(|&number| number < u32::MAX).ok_or(key)
    };
    let old = header.as_old();
    let owner = owner("uid", &old.uid).and_then(|user| Ok((user, owner("gid", &old.gid)?))).map_err(invalid)?;
    let mode = number(&old.mode).ok_or_else(|| invalid("mode"))? as u32 & 0o7777;
    let time = record(b"mtime").and_then(|text| time(text)).or_else(|| Some((number(&old.mtime)?.cast_signed(), 0)));
    let attributes = extension.records.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(b"SCHILY.xattr.")?;
        Some((name.to_vec(), value.clone()))
    });
    let attributes = attributes.collect();
    Ok(Described { entry: Entry { path, mode, owner, time: time.unwrap_or_default(), attributes, kind }, sparse })
}

/// A name of an archive as a path from the root. Absolute ones mean the root, and so does none; what climbs out of it is an
/// error.
fn inside(name: &[u8]) -> Result<PathBuf, Error> {
    let shown = || shown(Path::new(OsStr::from_bytes(name)));
    if name.contains(&0) || name.len() > MAX_PATH {
        return Err(PathError::Malformed(shown()).into());
    }
    let mut path = PathBuf::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if path.pop() => {}
            b".." => return Err(PathError::Escapes(shown()).into()),
            // A whiteout's mark is none of the name that it deletes.
            part if part.strip_prefix(WHITEOUT.as_bytes()).unwrap_or(part).len() > MAX_NAME => {
                return Err(PathError::LongName(shown()).into());
            }
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

/// A number of a header: octal digits, or base 256 where the first bit is set; nothing at all is zero. None where it is
/// neither, or does not fit.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // The next bit is a sign.
            let first = u64::from(first & 0x7f);
            rest.iter().try_fold(first, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))
        }
        _ => {
            let text = field.split(|&byte| byte == 0).next()?.trim_ascii();
            let digit = |sum: u64, byte: &u8| match byte {
                b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
                _ => None,
            };
            text.iter().try_fold(0, digit)
        }
    }
}

/// A time of a pax record: seconds with a fraction.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some((seconds.parse().ok()?, nanoseconds.parse().ok().filter(|_| !seconds.starts_with('-')).unwrap_or(0)))
}

/// How a sparse file says where its bytes go.
struct Sparse<'a> {
    map: Map<'a>,
    /// Of the whole file, in bytes, where it is known before the map is.
    size: Option<u64>,
    name: Option<&'a [u8]>,
}

enum Map<'a> {
    /// In the header and blocks behind it.
    Old,
    /// In pax records, which were read.
    Records(Vec<&'a [u8]>),
    /// In front of the content.
    Content,
}

impl<'a> Sparse<'a> {
    fn of(header: &tar::Header, extension: &'a Extension) -> Option<Self> {
        if header.as_bytes()[156] == b'S' {
            return Some(Self { map: Map::Old, size: None, name: None });
        }
        if !matches!(header.as_bytes()[156], 0 | b'0') {
            return None;
        }
        let mut sparse = Self { map: Map::Records(Vec::new()), size: None, name: None };
        let (mut major, mut known) = (None, false);
        let decimal = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        for (key, value) in &extension.records {
            let Some(key) = key.strip_prefix(b"GNU.sparse.") else { continue };
            known = true;
            match key {
                b"major" => major = decimal(value),
                b"name" => sparse.name = Some(value),
                b"size" | b"realsize" => sparse.size = decimal(value),
                b"map" => sparse.map = Map::Records(value.split(|&byte| byte == b',').collect()),
                b"offset" | b"numbytes" => {
                    if let Map::Records(numbers) = &mut sparse.map {
                        numbers.push(value);
                    }
                }
                _ => {}
            }
        }
        if major == Some(1) {
            sparse.map = Map::Content;
        }
        known.then_some(sparse)
    }

    /// Reads the map where it was not, and checks it. `stored` is how many bytes are left of `content`, which is then at
    /// the first of the pieces.
    fn pieces<R: Read>(self, header: &tar::Header, content: &mut io::Take<R>, stored: u64) -> io::Result<Pieces> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "its map of pieces is malformed");
        let mut numbers = Vec::new();
        let mut size = self.size;
        match self.map {
            Map::Records(texts) => {
                for text in texts.into_iter().filter(|text| !text.is_empty()) {
                    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                    numbers.push(number.ok_or_else(invalid)?);
                }
            }
            Map::Old => {
                let bytes = header.as_bytes();
                size = Some(number(&bytes[483..495]).ok_or_else(invalid)?);
                take_pieces(&bytes[386..482], &mut numbers).ok_or_else(invalid)?;
                let mut more = bytes[482] != 0;
                while more {
                    // These blocks stand in front of the content, and do not count.
                    let mut block = [0; BLOCK as usize];
                    content.get_mut().read_exact(&mut block)?;
                    take_pieces(&block[..504], &mut numbers).ok_or_else(invalid)?;
                    more = block[504] != 0;
                    if numbers.len() > 2 * MOST_PIECES {
                        return Err(invalid());
                    }
                }
            }
            Map::Content => {
                let mut lines = Lines { inner: &mut *content, block: [0; BLOCK as usize], at: BLOCK as usize };
                let count = lines.number()?.filter(|&count| count <= MOST_PIECES as u64).ok_or_else(invalid)?;
                for _ in 0..2 * count {
                    numbers.push(lines.number()?.ok_or_else(invalid)?);
                }
            }
        }
        let (list, rest) = numbers.as_chunks::<2>();
        let size = size.ok_or_else(invalid)?;
        let mut end = 0u64;
        let mut sum = 0u64;
        for &[offset, length] in list {
            if offset < end {
                return Err(invalid());
            }
            end = offset.checked_add(length).ok_or_else(invalid)?;
            sum += length;
        }
        let left = content.limit().min(stored);
        if end > size || sum > left || !rest.is_empty() || list.len() > MOST_PIECES || size > i64::MAX.cast_unsigned() {
            return Err(invalid());
        }
        Ok(Pieces { list: list.iter().map(|&[offset, length]| (offset, length)).collect(), size })
    }
}

/// Pairs of numbers of twelve bytes each, up to the first that is empty.
fn take_pieces(fields: &[u8], numbers: &mut Vec<u64>) -> Option<()> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        numbers.extend([number(&pair[..12])?, number(&pair[12..])?]);
    }
    Some(())
}

/// Decimal numbers, each on a line, in whole blocks.
struct Lines<R> {
    inner: R,
    block: [u8; BLOCK as usize],
    at: usize,
}

impl<R: Read> Lines<R> {
    fn number(&mut self) -> io::Result<Option<u64>> {
        let mut number = 0u64;
        for digits in 0..21 {
            if self.at == self.block.len() {
                self.inner.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' if digits > 0 => return Ok(Some(number)),
                b'0'..=b'9' => {
                    let more = number.checked_mul(10).and_then(|number| number.checked_add(u64::from(byte - b'0')));
                    let Some(more) = more else { return Ok(None) };
                    number = more;
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_of_base_256() {
        let large = [0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0];
        let cases: [(&[u8], Option<u64>); 7] = [
            (b"0000755\0", Some(0o755)),
            (b"    755 ", Some(0o755)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (&large, Some(3_000_000)),
            (b"9", None),
            (&[0xff; 12], None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn names_mean_the_root_and_do_not_leave_it() {
        let path = |name: &[u8]| inside(name).ok().map(|path| path.as_os_str().as_bytes().to_vec());
        assert_eq!(path(b"/a//./b/"), Some(b"a/b".to_vec()));
        assert_eq!(path(b"a/../b"), Some(b"b".to_vec()));
        assert_eq!(path(b"/"), Some(Vec::new()));
        assert_eq!(path(b"caf\xe9"), Some(b"caf\xe9".to_vec()));
        assert_eq!(path(b""), Some(Vec::new()));
        for name in [&b"../a"[..], b"a/../../b", b"a\0b", &[b'n'; 256], &[b'/'; 5000]] {
            assert_eq!(path(name), None, "{name:?}");
        }
        assert!(inside(&[b'n'; 256]).unwrap_err().to_string().contains("not allowed"));
    }
}
