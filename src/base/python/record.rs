//! `RECORD`: which files a package has, by the specification "Recording installed projects". Lines of CSV (RFC 4180):
//! path, `sha256=…`, size.

use std::fmt::Write as _;

use super::Error;
use crate::io::digest::Hasher;

/// A line of a RECORD.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    /// Relative to site-packages.
    pub path: String,
    /// `sha256=…` and the size, or neither.
    rest: String,
}

impl Line {
    /// A file with this content.
    pub fn of(path: String, content: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(content);
        Self { path, rest: format!("sha256={},{}", base64(&hasher.finish().hex()), content.len()) }
    }

    /// The same file, seen from elsewhere.
    pub fn moved(self, prefix: &str) -> Self {
        Self { path: format!("{prefix}{}", self.path), rest: self.rest }
    }
}

/// Reads a RECORD; absolute paths and ones that climb out of site-packages are kept as they are.
pub(super) fn read(text: &str, of: &std::path::Path) -> Result<Vec<Line>, Error> {
    let malformed = |line: &str| Error::Package {
        path: of.to_owned(),
        why: format!("`{}` is no line of a RECORD", line.chars().take(100).collect::<String>()),
    };
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (path, rest) = match line.strip_prefix('"') {
            // A quoted path ends at a quote that is not doubled.
            Some(quoted) => {
                let unescaped = quoted.replace("\"\"", "\0");
                let (path, rest) = unescaped.split_once("\",").ok_or_else(|| malformed(line))?;
                (path.replace('\0', "\""), rest.replace('\0', "\"\""))
            }
            None => {
                let (path, rest) = line.split_once(',').ok_or_else(|| malformed(line))?;
                (path.to_owned(), rest.to_owned())
            }
        };
        lines.push(Line { path, rest });
    }
    Ok(lines)
}

/// Writes a RECORD, sorted.
pub(super) fn write(mut lines: Vec<Line>) -> String {
    lines.sort();
    lines.iter().fold(String::new(), |mut text, Line { path, rest }| {
        // Writing to a String cannot fail.
        let _ = match path.contains([',', '"', '\n']) {
            true => writeln!(text, "\"{}\",{rest}", path.replace('"', "\"\"")),
            false => writeln!(text, "{path},{rest}"),
        };
        text
    })
}

/// The bytes that `hex` spells in URL-safe base64 without padding (RFC 4648, 5), as RECORD wants it.
fn base64(hex: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .flat_map(|n| (0..4).rev().map(move |i| (n >> i & 1) as u8))
        .collect();
    bits.chunks(6)
        .map(|six| {
            six.iter().chain(std::iter::repeat(&0)).take(6).fold(0_usize, |value, bit| value << 1 | usize::from(*bit))
        })
        .filter_map(|value| ALPHABET.get(value).copied().map(char::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_carry_the_digest_as_wheels_write_it() {
        // The line of an empty `REQUESTED`, as every installer writes it.
        let line = write(vec![Line::of("a/REQUESTED".into(), b"")]);
        assert_eq!(line, "a/REQUESTED,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n");
    }

    #[test]
    fn quoted_paths_survive() {
        let text = "\"a,\"\"b\"\".py\",sha256=x,1\nc.py,,\n";
        let lines = read(text, std::path::Path::new("RECORD")).unwrap();
        assert_eq!(lines[0].path, "a,\"b\".py");
        assert_eq!(write(lines), text);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a\",\n\\PC]{0,80}") {
            let _ = read(&text, std::path::Path::new("RECORD"));
        }
    }
}
