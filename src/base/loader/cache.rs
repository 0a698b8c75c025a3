//! The bytes of `/etc/ld.so.cache`: glibc's `sysdeps/generic/dl-cache.h`, "glibc-ld.so.cache1.1".
//!
//! A header of 48 bytes, 24 bytes for each library, their strings, and sections for later ideas: folders for better
//! processors, and who wrote the file. Integers are little-endian, as both processors are; all offsets are from the
//! beginning. The loader searches the libraries by bisection, so their order is a part of the format.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::image::oci::platform::Platform;

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ROW: usize = 24;
const LITTLE_ENDIAN: u32 = 2;
const SECTIONS_MAGIC: u32 = 0xEAA4_2174;
const SECTION: usize = 16;
const GENERATOR: u32 = 0;
const LEVELS: u32 = 1;

/// The bit of a row's last field that says that its lower half is the number of a folder for better processors.
const BY_LEVEL: u64 = 1 << 62;

/// `ldconfig -p` prints it. No version: what it says is part of each image's digest.
const WRITTEN_BY: &[u8] = b"ekiben";

/// A library.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) soname: String,
    pub(super) path: String,
    /// As `x86-64-v3`, where it is for such processors alone.
    pub(super) level: Option<String>,
}

/// The file. Of rows of the same name the first is preferred.
pub(super) fn encode(mut rows: Vec<Row>, platform: Platform) -> Vec<u8> {
    rows.sort_by(|one, other| {
        compare_names(&other.soname, &one.soname).then_with(|| match (&one.level, &other.level) {
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (one, other) => one.cmp(other),
        })
    });
    // A library for the C library 6, in 64 bits of the processor.
    let flags: u32 = match platform {
        Platform::Amd64 => 0x0303,
        Platform::Arm64 => 0x0a03,
    };
    let levels: BTreeSet<&str> = rows.iter().filter_map(|row| row.level.as_deref()).collect();
    let texts = rows.iter().flat_map(|row| [row.soname.as_str(), row.path.as_str()]);
    let (offsets, strings) = strings(texts.chain(levels.iter().copied()).collect());
    let begin = HEADER + rows.len() * ROW;
    let place = |text: &str| size(begin + offsets.get(text).copied().unwrap_or_default());
    let sections = (begin + strings.len()).next_multiple_of(4);

    let mut bytes = MAGIC.to_vec();
    let mut put = |number: u32| bytes.extend(number.to_le_bytes());
    [size(rows.len()), size(strings.len()), LITTLE_ENDIAN, size(sections), 0, 0, 0].into_iter().for_each(&mut put);
    for row in &rows {
        let level = row.level.as_deref().and_then(|level| levels.iter().position(|known| *known == level));
        let hardware = level.map_or(0, |number| BY_LEVEL | number as u64);
        let halves = [hardware as u32, (hardware >> 32) as u32];
        [flags, place(&row.soname), place(&row.path), 0].into_iter().chain(halves).for_each(&mut put);
    }
    bytes.extend(strings);
    bytes.resize(sections, 0);

    let mut put = |number: u32| bytes.extend(number.to_le_bytes());
    let count = if levels.is_empty() { 1 } else { 2 };
    let end = sections + 8 + count * SECTION;
    [SECTIONS_MAGIC, size(count)].into_iter().for_each(&mut put);
    [GENERATOR, 0, size(end + levels.len() * 4), size(WRITTEN_BY.len())].into_iter().for_each(&mut put);
    if !levels.is_empty() {
        [LEVELS, 0, size(end), size(levels.len() * 4)].into_iter().for_each(&mut put);
    }
    levels.iter().map(|level| place(level)).for_each(&mut put);
    bytes.extend(WRITTEN_BY);
    bytes
}

/// Numbers of the format have 32 bits. No image has so many libraries that they would not do.
fn size(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Strings that end in zeros, and where each begins. A string at the end of another one has no bytes of its own.
fn strings(texts: BTreeSet<&str>) -> (BTreeMap<&str, usize>, Vec<u8>) {
    let mut texts: Vec<_> = texts.into_iter().collect();
    // By their ends, the last first as ldconfig has them, and the longer of those that end alike first.
    texts.sort_by(|one, other| {
        let alike = one.bytes().rev().zip(other.bytes().rev()).map(|(a, b)| b.cmp(&a)).find(|order| order.is_ne());
        alike.unwrap_or_else(|| other.len().cmp(&one.len()))
    });
    let (mut offsets, mut bytes) = (BTreeMap::new(), Vec::<u8>::new());
    let mut last = "";
    for text in texts {
        if !last.ends_with(text) || last.is_empty() {
            bytes.extend(text.as_bytes());
            bytes.push(0);
            last = text;
        }
        offsets.insert(text, bytes.len() - 1 - text.len());
    }
    (offsets, bytes)
}

/// The loader's order of names: as bytes, but digits by the number that they are, and before all else.
pub(super) fn compare_names(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        match (one.first(), other.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let order = leading_number(&mut one).cmp(&leading_number(&mut other));
                if order.is_ne() {
                    return order;
                }
            }
            (Some(a), _) if a.is_ascii_digit() => return Ordering::Greater,
            (_, Some(b)) if b.is_ascii_digit() => return Ordering::Less,
            // Their `char` is signed on one processor and not on the other; names are ASCII.
            (Some(a), Some(b)) if a != b => return a.cmp(b),
            _ => {
                one = one.get(1..).unwrap_or_default();
                other = other.get(1..).unwrap_or_default();
            }
        }
    }
}

/// Takes the digits from the front of `text`. As the loader's, the number is one of 32 bits.
fn leading_number(text: &mut &[u8]) -> i32 {
    let mut number = 0i32;
    while let Some((digit, rest)) = text.split_first().filter(|(byte, _)| byte.is_ascii_digit()) {
        number = number.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
        *text = rest;
    }
    number
}

/// Names and paths of a file that [`encode`] wrote.
#[cfg(test)]
pub(super) fn decode(bytes: &[u8]) -> Vec<(String, String)> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| {
        let end = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
    };
    assert!(bytes.starts_with(MAGIC));
    let row = |row: usize| (text(number(row + 4)), text(number(row + 8)));
    (0..number(20)).map(|index| row(HEADER + index * ROW)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_the_loader_compares_them() {
        for (one, other, order) in [
            ("libc.so.6", "libc.so.6", Ordering::Equal),
            ("libc.so.10", "libc.so.9", Ordering::Greater),
            ("liba.so.1", "liba.so", Ordering::Greater),
            ("lib1", "liba", Ordering::Greater),
            ("liba-1", "liba.so", Ordering::Less),
            ("liba01", "liba1", Ordering::Equal),
        ] {
            assert_eq!(compare_names(one, other), order, "{one} {other}");
            assert_eq!(compare_names(other, one), order.reverse(), "{other} {one}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let row = |soname: &str, path: &str| Row { soname: soname.into(), path: path.into(), level: None };
        let bytes = encode(vec![row("liba.so.1", "/lib/liba.so.1"), row("libb.so", "/lib/x.so")], Platform::Arm64);
        assert_eq!(decode(&bytes), [("libb.so", "/lib/x.so"), ("liba.so.1", "/lib/liba.so.1")].map(owned));
        let strings = b"/lib/x.so\0libb.so\0/lib/liba.so.1\0";
        assert_eq!(&bytes[96..96 + strings.len()], strings, "`liba.so.1` is the end of its path");
        assert_eq!(bytes[20..32], [2, 0, 0, 0, 33, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[48..60], [0x03, 0x0a, 0, 0, 96 + 10, 0, 0, 0, 96, 0, 0, 0]);
        assert!(bytes.ends_with(b"ekiben"));
    }

    fn owned((one, other): (&str, &str)) -> (String, String) {
        (one.to_owned(), other.to_owned())
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_names_are_they_are_found_again(names in proptest::collection::vec("[a-c0-2.]{1,6}", 0..40)) {
            let rows: Vec<_> = names.iter().map(|name| Row { soname: name.clone(), path: format!("/{name}"), level: None }).collect();
            let mut found = decode(&encode(rows, Platform::Amd64));
            assert!(found.is_sorted_by(|one, other| compare_names(&one.0, &other.0).is_ge()));
            let mut expected: Vec<_> = names.into_iter().map(|name| (name.clone(), format!("/{name}"))).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
    }
}
