//! What is asked, and what goes along with it.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderName;

/// A request but for its address and its secrets, which may be others at each hop.
pub struct Request<'a> {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: Payload<'a>,
    pub(super) patience: Patience,
    pub(super) about: Option<String>,
}

impl<'a> Request<'a> {
    /// A request that carries nothing. What changes something on the server has [`Patience::COMMIT`], other requests
    /// have [`Patience::STEADY`].
    pub fn new(method: Method) -> Self {
        let patience = match method {
            Method::PUT | Method::PATCH => Patience::COMMIT,
            _ => Patience::STEADY,
        };
        Self { method, headers: Vec::new(), payload: Payload::Empty, patience, about: None }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with something to carry.
    #[must_use]
    pub fn carrying(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// The same, of which is said that it asks `about` this while it is waited for: `Docker Hub for python:3.12-slim`.
    /// Where nobody says it, it is the host.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about.get_or_insert(about.into());
        self
    }

    /// The same with other patience.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }
}

/// What a request carries.
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// What is in memory.
    Bytes(Bytes),
    /// A part of a source, in pieces.
    Part(Part<'a>),
}

/// Bytes of a source.
pub struct Part<'a> {
    /// Where they come from.
    pub source: &'a mut (dyn Pieces + 'a),
    /// The offset of the first, in bytes.
    pub from: u64,
    /// How many they are.
    pub length: u64,
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of the answer, once the request is out.
    pub(super) head: Option<Duration>,
    /// For each piece of a body, either way.
    pub(super) piece: Option<Duration>,
    /// For all of it.
    pub(super) whole: Option<Duration>,
}

impl Patience {
    /// How long a connection may stand still.
    const STALL: Option<Duration> = Some(Duration::from_secs(60));

    /// A minute for whatever comes next.
    pub const STEADY: Self = Self { head: Self::STALL, piece: Self::STALL, whole: None };

    /// A quarter of an hour for the answer: some registries copy what they were sent between object stores first.
    pub const COMMIT: Self = Self { head: Some(Duration::from_secs(900)), piece: Self::STALL, whole: None };

    /// As long as it takes.
    pub const ENDLESS: Self = Self { head: None, piece: None, whole: None };

    /// All has to be there within a time.
    pub const fn within(time: Duration) -> Self {
        Self { whole: Some(time), ..Self::ENDLESS }
    }
}

/// Gives bytes piece by piece.
pub trait Pieces {
    /// Exactly `length` bytes from the offset `from` on.
    ///
    /// # Errors
    /// When they cannot be had, or are too few.
    fn read(&mut self, from: u64, length: usize) -> io::Result<Vec<u8>>;
}

/// Opens a source from an offset on.
pub type Open<'a> = Box<dyn Fn(u64) -> io::Result<Box<dyn Read + Send + 'a>> + Send + 'a>;

/// A source that is read from front to back, and opened again only to go back.
pub struct Cursor<'a> {
    open: Open<'a>,
    size: u64,
    reader: Option<(u64, Box<dyn Read + Send + 'a>)>,
    advance: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Cursor<'a> {
    /// A source of `size` bytes. `advance` is told of bytes as they are read.
    pub fn new(size: u64, open: Open<'a>, advance: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { open, size, reader: None, advance }
    }
}

impl Pieces for Cursor<'_> {
    fn read(&mut self, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let (mut position, mut reader) = match self.reader.take() {
            Some((position, reader)) if position <= from => (position, reader),
            _ => (from, (self.open)(from)?),
        };
        if position < from {
            position += io::copy(&mut (&mut reader).take(from - position), &mut io::sink())?;
        }
        let mut piece = Vec::with_capacity(length);
        (&mut reader).take(length as u64).read_to_end(&mut piece)?;
        position += piece.len() as u64;
        if position < from + length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if position == self.size {
            // A source that has more, or finds at its end that something is wrong, says so before the last piece is out.
            io::copy(&mut (&mut reader).take(1), &mut io::sink())?;
        }
        (self.advance)(piece.len() as u64);
        self.reader = Some((position, reader));
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_cursor_goes_back_and_forth() {
        let bytes: Vec<u8> = (0..=255).collect();
        let opened = AtomicU32::new(0);
        let open: Open<'_> = Box::new(|from| {
            opened.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(io::Cursor::new(bytes[from as usize..].to_vec())))
        });
        let mut cursor = Cursor::new(256, open, &|_| {});
        assert_eq!(cursor.read(0, 10).unwrap(), bytes[..10]);
        assert_eq!(cursor.read(20, 10).unwrap(), bytes[20..30]);
        assert_eq!(opened.load(Ordering::Relaxed), 1);
        assert_eq!(cursor.read(5, 10).unwrap(), bytes[5..15]);
        assert_eq!(opened.load(Ordering::Relaxed), 2);
        assert!(cursor.read(250, 10).is_err());
    }
}
