//! What a shared library says of itself: its `DT_SONAME`, and what it needs, in an ELF file (System V ABI, chapters 4
//! and 5).
//!
//! A reader of two hundred lines rather than a crate for all of ELF: only the header, the program headers, the dynamic
//! section and a few strings are read, wherever they are said to lie, and nothing else of a file that may have a gigabyte.
//! Every size is bounded, and what lies outside of the file is not there.

use std::io;

use crate::image::oci::platform::Platform;

/// A shared library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it calls itself; none where it has no name, or none that a file could have.
    pub soname: Option<String>,
}

/// How a shared library is tied to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linkage {
    /// As [`Object::soname`].
    pub soname: Option<String>,
    /// The libraries that it needs, by their names (`DT_NEEDED`); those that are named by a path are left out.
    pub needed: Vec<String>,
    /// Folders in which they are looked for first, as they are written (`DT_RUNPATH`, `DT_RPATH`): they may begin with
    /// `$ORIGIN`, its own folder.
    pub folders: Vec<String>,
}

/// Most program headers, dynamic entries and needed libraries that are believed: linkers write a dozen, three dozen, and
/// for the largest libraries of wheels fifty.
const MOST_HEADERS: u64 = 1 << 10;
const MOST_ENTRIES: u64 = 1 << 14;
const MOST_NEEDED: usize = 1 << 10;

/// Longest name of a library, in bytes: that of a file.
const LONGEST_NAME: u64 = 255;

/// Longest list of folders, in bytes: that of a path.
const LONGEST_FOLDERS: u64 = 4095;

const DYN: u16 = 3;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const TAG_END: u64 = 0;
const TAG_NEEDED: u64 = 1;
const TAG_STRINGS: u64 = 5;
const TAG_SONAME: u64 = 14;
const TAG_RPATH: u64 = 15;
const TAG_RUNPATH: u64 = 29;
const TAG_VERSIONS: u64 = 0x6fff_fffe;

/// Reads the name of a file of `size` bytes, where it is a shared library for the 64-bit processor of `platform`.
/// `read_at` fills a buffer from an offset that is within the file, as its end is.
///
/// # Errors
/// Those of `read_at`. That it is no such library is none.
pub fn read_object(
    size: u64,
    platform: Platform,
    read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Option<Object>> {
    let Some(mut dynamic) = Dynamic::read(File { size, read_at }, platform)? else { return Ok(None) };
    Ok(Some(Object { soname: dynamic.soname()? }))
}

/// As [`read_object`], with what it needs of others.
///
/// # Errors
/// As [`read_object`].
pub fn read_linkage(
    size: u64,
    platform: Platform,
    read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Option<Linkage>> {
    let Some(mut dynamic) = Dynamic::read(File { size, read_at }, platform)? else { return Ok(None) };
    let mut linkage = Linkage { soname: dynamic.soname()?, ..Linkage::default() };
    for offset in dynamic.values(TAG_NEEDED).take(MOST_NEEDED).collect::<Vec<_>>() {
        linkage.needed.extend(dynamic.text(offset, LONGEST_NAME)?.filter(|name| is_name(name)));
    }
    // Where there is the newer one, the older does not count (ld.so(8)).
    let folders = dynamic.values(TAG_RUNPATH).next().or_else(|| dynamic.values(TAG_RPATH).next());
    if let Some(text) = folders.map(|offset| dynamic.text(offset, LONGEST_FOLDERS)).transpose()?.flatten() {
        linkage.folders = text.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    }
    Ok(Some(linkage))
}

/// The versions of symbols that a program or library needs of others, as `GLIBC_2.34` (Linux Standard Base, "Symbol Versioning",
/// `DT_VERNEED`); none where it is no such file for `platform`.
///
/// # Errors
/// As [`read_object`].
pub fn read_versions(
    size: u64,
    platform: Platform,
    read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Option<Vec<String>>> {
    let Some(mut dynamic) = Dynamic::read(File { size, read_at }, platform)? else { return Ok(None) };
    let mut versions = Vec::new();
    let mut library = dynamic.values(TAG_VERSIONS).next();
    // Each library is followed by the next, and has a list of versions; all are at distances in bytes.
    while let Some(at) = library.filter(|_| versions.len() < MOST_ENTRIES as usize) {
        let Some(header) = dynamic.loaded(at, 16)? else { break };
        let mut version = at.checked_add(word(&header, 8).into());
        for _ in 0..half(&header, 2) {
            let Some(entry) = version.map(|at| dynamic.loaded(at, 16)).transpose()?.flatten() else { break };
            versions.extend(dynamic.text(word(&entry, 8).into(), LONGEST_NAME)?);
            version = version.and_then(|at| at.checked_add(word(&entry, 12).into()));
        }
        let next = word(&header, 12);
        library = at.checked_add(next.into()).filter(|_| next != 0);
    }
    Ok(Some(versions))
}

/// How files say that they are for the processor of `platform` (`e_machine`).
pub fn machine(platform: Platform) -> usize {
    match platform {
        Platform::Amd64 => 62,
        Platform::Arm64 => 183,
    }
}

/// Whether a library can be called so.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| !c.is_control() && !matches!(c, '/' | ' '))
}

/// Bytes that are read here and there.
struct File<R> {
    size: u64,
    read_at: R,
}

impl<R: FnMut(u64, &mut [u8]) -> io::Result<()>> File<R> {
    /// A part of the file; none where that would lie outside of it.
    fn part(&mut self, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.size);
        let Some(length) = usize::try_from(length).ok().filter(|_| inside) else { return Ok(None) };
        let mut bytes = vec![0; length];
        (self.read_at)(offset, &mut bytes)?;
        Ok(Some(bytes))
    }
}

/// A file's dynamic section, and where its strings are.
struct Dynamic<R> {
    file: File<R>,
    /// Tags and values.
    entries: Vec<(u64, u64)>,
    /// The address of the strings.
    strings: u64,
    /// What is loaded from where to where: the offset in the file, the address, and the length there.
    segments: Vec<[u64; 3]>,
}

impl<R: FnMut(u64, &mut [u8]) -> io::Result<()>> Dynamic<R> {
    /// None where it is no shared library for `platform`.
    fn read(mut file: File<R>, platform: Platform) -> io::Result<Option<Self>> {
        let Some(header) = file.part(0, 64)? else { return Ok(None) };
        // 64 bits, little-endian.
        let fits = header.starts_with(b"\x7fELF\x02\x01") && half(&header, 16) == DYN;
        let fits = fits && usize::from(half(&header, 18)) == machine(platform);
        if !fits || half(&header, 54) != 56 {
            return Ok(None);
        }
        let count = u64::from(half(&header, 56)).min(MOST_HEADERS);
        let Some(headers) = file.part(long(&header, 32), count * 56)? else { return Ok(None) };
        let headers = headers.chunks_exact(56);
        let Some(dynamic) = headers.clone().find(|header| word(header, 0) == DYNAMIC) else { return Ok(None) };
        let length = long(dynamic, 32).min(MOST_ENTRIES * 16);
        let Some(entries) = file.part(long(dynamic, 8), length)? else { return Ok(None) };
        let entries = entries.chunks_exact(16).map(|entry| (long(entry, 0), long(entry, 8)));
        let entries: Vec<_> = entries.take_while(|(tag, _)| *tag != TAG_END).collect();
        let strings = entries.iter().find(|(tag, _)| *tag == TAG_STRINGS);
        let Some(strings) = strings.map(|(_, value)| *value) else { return Ok(None) };
        let segments = headers
            .filter(|header| word(header, 0) == LOAD)
            .map(|header| [long(header, 8), long(header, 16), long(header, 32)])
            .collect();
        Ok(Some(Self { file, entries, strings, segments }))
    }

    fn values(&self, wanted: u64) -> impl Iterator<Item = u64> {
        self.entries.iter().filter(move |(tag, _)| *tag == wanted).map(|(_, value)| *value)
    }

    fn soname(&mut self) -> io::Result<Option<String>> {
        let offset = self.values(TAG_SONAME).next();
        let name = offset.map(|offset| self.text(offset, LONGEST_NAME)).transpose()?.flatten();
        Ok(name.filter(|name| is_name(name)))
    }

    /// The string at `offset` among the strings; none where it is longer than `longest` bytes, or not there.
    fn text(&mut self, offset: u64, longest: u64) -> io::Result<Option<String>> {
        let place = self.strings.checked_add(offset).and_then(|address| self.place(address));
        let Some(place) = place.filter(|place| *place < self.file.size) else { return Ok(None) };
        let Some(bytes) = self.file.part(place, (longest + 1).min(self.file.size - place))? else { return Ok(None) };
        let end = bytes.iter().position(|byte| *byte == 0);
        Ok(end.and_then(|end| std::str::from_utf8(bytes.get(..end)?).ok()).map(str::to_owned))
    }
}

impl<R: FnMut(u64, &mut [u8]) -> io::Result<()>> Dynamic<R> {
    /// Where in the file lies what is loaded to an address: its segment says so.
    fn place(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|[offset, start, length]| {
            let within = address.checked_sub(*start).filter(|within| within < length)?;
            offset.checked_add(within)
        })
    }

    /// Bytes that are loaded to an address; none where there are not as many.
    fn loaded(&mut self, address: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        match self.place(address) {
            Some(place) => self.file.part(place, length),
            None => Ok(None),
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{prop_assert, prop_oneof};

    use super::*;

    /// A library of 512 bytes for x86-64 that calls itself `name`.
    pub(crate) fn library(name: &str) -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &DYN.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &2u16.to_le_bytes());
        // The whole file at the address 0x1000, and the dynamic section in it.
        for (at, fields) in [(64, [1u64, 0, 0x1000, 0, 512, 512]), (120, [2, 200, 0x10c8, 0, 64, 64])] {
            put(at, &(fields[0] as u32).to_le_bytes());
            fields[1..].iter().enumerate().for_each(|(index, field)| put(at + 8 + index * 8, &field.to_le_bytes()));
        }
        for (index, field) in [14u64, 1, 5, 0x1000 + 300, 0, 0].iter().enumerate() {
            put(200 + index * 8, &field.to_le_bytes());
        }
        put(301, name.as_bytes());
        bytes
    }

    /// A library of 4096 bytes for x86-64 that calls itself `name`, needs `needed`, and looks for them in `folders`.
    pub(crate) fn linked(name: &str, needed: &[&str], folders: &str) -> Vec<u8> {
        let mut bytes = library("");
        bytes.resize(4096, 0);
        for at in [64 + 32, 64 + 40] {
            bytes[at..at + 8].copy_from_slice(&4096u64.to_le_bytes());
        }
        // The dynamic section from 512 on, the strings from 2048 on.
        let mut entries = vec![[TAG_STRINGS, 0x1000 + 2048]];
        let mut end = 2049;
        let named =
            [(TAG_SONAME, name), (TAG_RUNPATH, folders)].into_iter().chain(needed.iter().map(|n| (TAG_NEEDED, *n)));
        for (tag, text) in named {
            entries.push([tag, end as u64 - 2048]);
            bytes[end..end + text.len()].copy_from_slice(text.as_bytes());
            end += text.len() + 1;
        }
        entries.push([TAG_END, 0]);
        bytes[128..136].copy_from_slice(&512u64.to_le_bytes());
        bytes[120 + 32..120 + 40].copy_from_slice(&(entries.len() as u64 * 16).to_le_bytes());
        for (index, field) in entries.into_iter().flatten().enumerate() {
            bytes[512 + index * 8..][..8].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn links(bytes: &[u8]) -> Option<Linkage> {
        let read_at = |offset: u64, buffer: &mut [u8]| {
            buffer.copy_from_slice(&bytes[offset as usize..offset as usize + buffer.len()]);
            Ok(())
        };
        read_linkage(bytes.len() as u64, Platform::Amd64, read_at).unwrap()
    }

    #[test]
    fn a_library_says_what_it_needs_and_where() {
        let bytes =
            linked("liba.so.1", &["libgomp.so.1", "/opt/libb.so", "", "libc.so.6"], "$ORIGIN/../a.libs::/opt/a");
        let found = links(&bytes).unwrap();
        assert_eq!(found.soname.as_deref(), Some("liba.so.1"));
        assert_eq!(found.needed, ["libgomp.so.1", "libc.so.6"], "a path and nothing are no names");
        assert_eq!(found.folders, ["$ORIGIN/../a.libs", "/opt/a"]);
        assert_eq!(links(&linked("liba.so.1", &[], "")), Some(Linkage { soname: found.soname, ..Linkage::default() }));
        let long = "x".repeat(300);
        assert_eq!(links(&linked("liba.so.1", &[&long, "libz.so.1"], "")).unwrap().needed, ["libz.so.1"]);
    }

    fn versions(bytes: &[u8]) -> Option<Vec<String>> {
        let read_at = |offset: u64, buffer: &mut [u8]| {
            buffer.copy_from_slice(&bytes[offset as usize..offset as usize + buffer.len()]);
            Ok(())
        };
        read_versions(bytes.len() as u64, Platform::Amd64, read_at).unwrap()
    }

    #[test]
    fn a_program_says_which_versions_it_needs() {
        let this = std::fs::read("/proc/self/exe").unwrap();
        if let Ok(platform) = Platform::host() {
            let read_at = |offset: u64, buffer: &mut [u8]| {
                buffer.copy_from_slice(&this[offset as usize..offset as usize + buffer.len()]);
                Ok(())
            };
            let found = read_versions(this.len() as u64, platform, read_at).unwrap().unwrap();
            assert!(found.iter().any(|version| version.starts_with("GLIBC_2.")), "{found:?}");
        }
        assert_eq!(versions(&library("liba.so.1")), Some(Vec::new()));
        // A library that leads to itself ends as well.
        let mut bytes = linked("liba.so.1", &[], "");
        bytes[512 + 32..512 + 40].copy_from_slice(&TAG_VERSIONS.to_le_bytes());
        bytes[512 + 40..512 + 48].copy_from_slice(&(0x1000u64 + 3000).to_le_bytes());
        bytes[120 + 32..120 + 40].copy_from_slice(&(4u64 * 16).to_le_bytes());
        bytes[3002] = 1;
        bytes[3008] = 16;
        bytes[3024] = 1;
        assert_eq!(versions(&bytes), Some(vec!["liba.so.1".to_owned()]));
        bytes[3012..3016].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(versions(&bytes).unwrap().len(), 1);
        assert_eq!(versions(b"#!/bin/sh"), None);
    }

    #[test]
    fn of_too_many_needs_the_first_are_read() {
        // All entries of the section say the same one, as far as it is said to go.
        let mut bytes = linked("liba.so.1", &["libz.so.1"], "");
        bytes.resize(1 << 20, 0);
        let entry = [TAG_NEEDED.to_le_bytes(), 12u64.to_le_bytes()].concat();
        for at in (8192..1 << 20).step_by(16) {
            bytes[at..at + 16].copy_from_slice(&entry);
        }
        bytes[8192..8208].copy_from_slice(&[TAG_STRINGS.to_le_bytes(), (0x1000u64 + 2048).to_le_bytes()].concat());
        bytes[128..136].copy_from_slice(&8192u64.to_le_bytes());
        bytes[152..160].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(links(&bytes).unwrap().needed, vec!["libz.so.1"; MOST_NEEDED]);
    }

    fn read(bytes: &[u8], platform: Platform) -> Option<Object> {
        let read_at = |offset: u64, buffer: &mut [u8]| {
            buffer.copy_from_slice(&bytes[offset as usize..offset as usize + buffer.len()]);
            Ok(())
        };
        read_object(bytes.len() as u64, platform, read_at).unwrap()
    }

    #[test]
    fn a_library_says_its_name() {
        let named = |name: &str| read(&library(name), Platform::Amd64).unwrap().soname;
        assert_eq!(named("libsndfile.so.1").as_deref(), Some("libsndfile.so.1"));
        for bad in ["", "../x", "a b", "a\nb", &"x".repeat(211)] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
        let mut other = library("liba.so");
        assert_eq!(read(&other, Platform::Arm64), None, "of another processor");
        other[18] = 183;
        assert!(read(&other, Platform::Arm64).is_some());
        other[4] = 1;
        assert_eq!(read(&other, Platform::Arm64), None, "32 bits");
        assert_eq!(read(b"INPUT(-lfoo)", Platform::Amd64), None);
        let mut none = library("liba.so");
        none[200] = 15;
        assert_eq!(read(&none, Platform::Amd64), Some(Object { soname: None }));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            read(&bytes, Platform::Amd64);
            read(&[&library("a")[..64], &bytes].concat(), Platform::Amd64);
            links(&[&library("a")[..64], &bytes].concat());
            versions(&[&library("a")[..64], &bytes].concat());
        }

        #[test]
        fn any_change_of_a_library_can_be_read(changes in proptest::collection::vec((0usize..512, 0u8..), 1..8), end in 0usize..=512) {
            let mut bytes = library("liba.so.1");
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            read(&bytes[..end], Platform::Amd64);
        }

        #[test]
        fn any_change_of_what_is_needed_can_be_read(
            changes in proptest::collection::vec((prop_oneof![0usize..640, 2048usize..2120], 0u8..), 1..8),
            end in 0usize..=4096
        ) {
            let mut bytes = linked("liba.so.1", &["libb.so.1", "libc.so.6"], "$ORIGIN");
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            for end in [end, 4096] {
                if let Some(found) = links(&bytes[..end]) {
                    prop_assert!(found.needed.iter().all(|name| is_name(name)));
                }
            }
        }
    }
}
