//! Content digests: the one way that bytes are named and checked.
//!
//! Invariant: a [`Digest`] is a valid sha256 digest from the moment it exists, so nothing that holds one
//! needs to check it again. Text form: OCI image specification 1.1, `descriptor.md`, section "Digests".
//! Only sha256 is spoken: every registry has to support it, and no other algorithm is in use.

use std::fmt;
use std::io::{self, BufRead as _, Read, Write};
use std::str::FromStr;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::pipe;

/// A sha256 digest, written `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The text is not `sha256:` followed by 64 lowercase hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a sha256 digest: expected `sha256:` and 64 lowercase hexadecimal digits")]
pub struct ParseDigestError {
    text: String,
}

impl Explain for ParseDigestError {
    fn explain(&self) -> Explanation {
        ErrorKind::Usage.named("digest/malformed")
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// Parses 64 lowercase hexadecimal digits without the `sha256:` in front, as Debian and pip write them.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_hex(hex: &str) -> Result<Self, ParseDigestError> {
        let bad = || ParseDigestError { text: hex.chars().take(80).collect() };
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (nibble(pair[0]).ok_or_else(bad)? << 4) | nibble(pair[1]).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }

    /// The 64 hexadecimal digits without the algorithm, as file names use them.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The digest itself, without its name.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: enough for a person, never for a machine.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = || ParseDigestError { text: text.chars().take(80).collect() };
        Self::from_hex(text.strip_prefix("sha256:").ok_or_else(whole)?).map_err(|_| whole())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^sha256:[0-9a-f]{64}$",
            "patternErrorMessage": "`sha256:` and 64 lowercase hexadecimal digits"
        })
    }
}

/// Computes a [`Digest`] piece by piece. Also a [`Write`]r that keeps nothing.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A [`Hasher`] on a thread of its own: whoever writes to it has done with the bytes when they are copied.
pub struct BesideHasher {
    pipe: pipe::Writer,
    thread: JoinHandle<io::Result<Digest>>,
    size: u64,
}

impl BesideHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        let (pipe, mut received) = pipe::pipe();
        let thread = std::thread::spawn(move || {
            let mut hasher = Hasher::new();
            loop {
                let piece = received.fill_buf()?;
                if piece.is_empty() {
                    return Ok(hasher.finish());
                }
                hasher.update(piece);
                let size = piece.len();
                received.consume(size);
            }
        });
        Self { pipe, thread, size: 0 }
    }

    /// The digest of all that was written, and its size in bytes.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn finish(self) -> io::Result<(Digest, u64)> {
        self.pipe.finish()?;
        let digest = self.thread.join().map_err(|_| io::Error::other("the hashing thread ended early"))??;
        Ok((digest, self.size))
    }
}

impl Default for BesideHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for BesideHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.pipe.write(bytes)?;
        self.size += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes bytes on to a writer, and knows the digest and number of those that went through.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(), written: 0 }
    }

    /// The same around another writer, which has got already what went through.
    pub fn around<V: Write>(self, inner: V) -> HashingWriter<V> {
        HashingWriter { inner, hasher: self.hasher, written: self.written }
    }

    /// The number of bytes that went through.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The wrapped writer, the digest and the number of bytes that went through.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Passes bytes on from a reader, and knows the digest of those that went through.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    /// The digest of what went through.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..taken]);
        Ok(taken)
    }
}

/// The bytes that were read are not those that the digest or size promised.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// The digest of the bytes is another one.
    #[error("the content has the digest {actual}, expected {expected}")]
    Digest {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There were fewer or more bytes.
    #[error("the content has {actual} bytes{}, expected {expected}", if *.more { " or more" } else { "" })]
    Size {
        /// Bytes promised.
        expected: u64,
        /// Bytes that came; at least so many when `more`.
        actual: u64,
        /// Reading stopped before the end, as too much had come already.
        more: bool,
    },
}

impl Explain for Mismatch {
    fn explain(&self) -> Explanation {
        match self {
            Self::Digest { .. } => ErrorKind::Failure.named("digest/other"),
            Self::Size { .. } => ErrorKind::Failure.named("digest/size"),
        }
    }
}

/// Reads from a source that is not trusted, and fails unless exactly the promised bytes come.
///
/// The check is made at the end of the stream: a reader that stops early has verified nothing. Failures are
/// [`io::ErrorKind::InvalidData`] with a [`Mismatch`] inside. At most one byte over the promised size is read.
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: Digest,
    size: u64,
    read: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Expects `size` bytes with the digest `expected` from `inner`.
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        Self { inner, hasher: Some(Hasher::new()), expected, size, read: 0 }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let invalid = |mismatch| io::Error::new(io::ErrorKind::InvalidData, mismatch);
        if buffer.is_empty() {
            return Ok(0);
        }
        let room = (self.size - self.read).saturating_add(1).min(buffer.len() as u64) as usize;
        let taken = self.inner.read(&mut buffer[..room])?;
        let Some(hasher) = self.hasher.as_mut() else { return Ok(0) };
        if taken == 0 {
            if self.read != self.size {
                let (expected, actual) = (self.size, self.read);
                return Err(invalid(Mismatch::Size { expected, actual, more: false }));
            }
            let actual = self.hasher.take().unwrap_or_default().finish();
            if actual != self.expected {
                return Err(invalid(Mismatch::Digest { expected: self.expected, actual }));
            }
            return Ok(0);
        }
        self.read += taken as u64;
        if self.read > self.size {
            return Err(invalid(Mismatch::Size { expected: self.size, actual: self.read, more: true }));
        }
        hasher.update(&buffer[..taken]);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_text_round_trips() {
        assert_eq!(Digest::of("").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().map_err(|e| e.to_string()), Ok(Digest::of("")));
    }

    #[test]
    fn beside_comes_to_the_same() {
        let bytes: Vec<u8> = (0..40_000_000u32).map(|i| (i / 3) as u8).collect();
        let mut beside = BesideHasher::new();
        beside.write_all(&bytes).unwrap();
        assert_eq!(beside.finish().unwrap(), (Digest::of(&bytes), bytes.len() as u64));
        assert_eq!(BesideHasher::new().finish().unwrap(), (Digest::of(""), 0));
    }

    #[test]
    fn anything_but_a_lowercase_sha256_is_refused() {
        for bad in ["", "sha256:", "md5:00", &EMPTY.to_uppercase(), &EMPTY[..70], &EMPTY.replace('e', "g")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_verifying_reader_refuses_short_long_and_other_bytes() {
        let read = |bytes: &'static [u8], size| {
            let mut out = Vec::new();
            let result = VerifyingReader::new(bytes, Digest::of("abc"), size).read_to_end(&mut out);
            result.map_err(|e| e.to_string())
        };
        assert_eq!(read(b"abc", 3), Ok(3));
        assert!(read(b"ab", 3).is_err_and(|e| e.contains("has 2 bytes, expected 3")));
        assert!(read(b"abcd", 3).is_err_and(|e| e.contains("has 4 bytes or more, expected 3")));
        assert!(read(b"abd", 3).is_err_and(|e| e.contains("expected sha256:ba7816bf")));
    }
}
