//! What a shared library calls itself: the `DT_SONAME` of an ELF file (System V ABI, chapters 4 and 5).
//!
//! A reader of a hundred lines rather than a crate for all of ELF: only the header, the program headers, the dynamic
//! section and one string are read, wherever they are said to lie, and nothing else of a file that may have a gigabyte.
//! Every size is bounded, and what lies outside of the file is not there.

use std::io;

use crate::image::oci::platform::Platform;

/// A shared library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it calls itself; none where it has no name, or none that a file could have.
    pub soname: Option<String>,
}

/// Most program headers and dynamic entries that are believed: linkers write a dozen, and three dozen.
const MOST_HEADERS: u64 = 1 << 10;
const MOST_ENTRIES: u64 = 1 << 14;

/// Longest name of a library, in bytes: that of a file.
const LONGEST_NAME: u64 = 255;

const DYN: u16 = 3;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const TAG_END: u64 = 0;
const TAG_STRINGS: u64 = 5;
const TAG_SONAME: u64 = 14;

/// Reads a file of `size` bytes, where it is a shared library for the 64-bit processor of `platform`. `read_at` fills
/// a buffer from an offset that is within the file, as its end is.
///
/// # Errors
/// Those of `read_at`. That it is no such library is none.
pub fn read_object(
    size: u64,
    platform: Platform,
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Option<Object>> {
    let mut part = |offset: u64, length: u64| {
        let inside = offset.checked_add(length).is_some_and(|end| end <= size);
        let Some(length) = usize::try_from(length).ok().filter(|_| inside) else { return Ok(None) };
        let mut bytes = vec![0; length];
        read_at(offset, &mut bytes)?;
        Ok::<_, io::Error>(Some(bytes))
    };
    let Some(header) = part(0, 64)? else { return Ok(None) };
    let machine = match platform {
        Platform::Amd64 => 62,
        Platform::Arm64 => 183,
    };
    // 64 bits, little-endian.
    let fits = header.starts_with(b"\x7fELF\x02\x01") && half(&header, 16) == DYN && half(&header, 18) == machine;
    if !fits || half(&header, 54) != 56 {
        return Ok(None);
    }
    let count = u64::from(half(&header, 56)).min(MOST_HEADERS);
    let Some(headers) = part(long(&header, 32), count * 56)? else { return Ok(None) };
    let headers = headers.chunks_exact(56);
    let Some(dynamic) = headers.clone().find(|header| word(header, 0) == DYNAMIC) else { return Ok(None) };
    let length = long(dynamic, 32).min(MOST_ENTRIES * 16);
    let Some(entries) = part(long(dynamic, 8), length)? else { return Ok(None) };
    let entries = || {
        let pairs = entries.chunks_exact(16).map(|entry| (long(entry, 0), long(entry, 8)));
        pairs.take_while(|(tag, _)| *tag != TAG_END)
    };
    let value = |wanted| entries().find(|(tag, _)| *tag == wanted).map(|(_, value)| value);
    let Some(strings) = value(TAG_STRINGS) else { return Ok(None) };
    let unnamed = Ok(Some(Object { soname: None }));
    let Some(name) = value(TAG_SONAME).and_then(|offset| strings.checked_add(offset)) else { return unnamed };
    // An address in memory: the segment that is loaded there says where in the file it lies.
    let place = headers.filter(|header| word(header, 0) == LOAD).find_map(|header| {
        let (offset, address, length) = (long(header, 8), long(header, 16), long(header, 32));
        let within = name.checked_sub(address).filter(|within| *within < length)?;
        offset.checked_add(within)
    });
    let Some(place) = place.filter(|place| *place < size) else { return unnamed };
    let Some(bytes) = part(place, (LONGEST_NAME + 1).min(size - place))? else { return unnamed };
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = end.and_then(|end| std::str::from_utf8(bytes.get(..end)?).ok());
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| !c.is_control() && !matches!(c, '/' | ' '));
    Ok(Some(Object { soname: name.filter(is_name).map(str::to_owned) }))
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
        }

        #[test]
        fn any_change_of_a_library_can_be_read(changes in proptest::collection::vec((0usize..512, 0u8..), 1..8), end in 0usize..=512) {
            let mut bytes = library("liba.so.1");
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            read(&bytes[..end], Platform::Amd64);
        }
    }
}
