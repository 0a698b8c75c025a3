//! Bytes of a model's file, read forward: what nobody looks at is skipped, on a disk by seeking.

use std::io::{self, Read, Seek, SeekFrom};

use fs_err as fs;

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The bytes end too early.
    #[error("the file ends in the middle")]
    Truncated,
    /// They are not what they should be.
    #[error("{0}")]
    Malformed(String),
    /// They are more than is read.
    #[error("there is more of its description than is read")]
    TooMuch,
    /// The disk, or what decompresses, says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where bytes come from.
pub trait Bytes {
    /// As [`Read::read`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Leaves out `count` bytes; as many as there are, and how many those were.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

/// A file: what is skipped is not read.
pub struct OnDisk {
    file: fs::File,
    at: u64,
    size: u64,
}

impl OnDisk {
    /// The whole of an open file, from its beginning.
    pub fn new(mut file: fs::File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file, at: 0, size })
    }
}

impl Bytes for OnDisk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let count = count.min(self.size.saturating_sub(self.at));
        self.at = self.file.seek(SeekFrom::Start(self.at + count))?;
        Ok(count)
    }
}

/// A stream, as a decompressor is one: what is skipped is read and dropped.
pub struct Stream<R>(pub R);

impl<R: Read> Bytes for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.0).take(count), &mut io::sink())
    }
}

/// A buffer over [`Bytes`] that knows where it is.
pub struct Feed<'a> {
    bytes: Box<dyn Bytes + 'a>,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    /// Of the next byte.
    position: u64,
    /// Where reading ends, if before the end of the bytes.
    limit: u64,
}

/// Bytes read at a time.
const BUFFER: usize = 64 << 10;

impl<'a> Feed<'a> {
    /// From the first of the bytes.
    pub fn new(bytes: impl Bytes + 'a) -> Self {
        Self { bytes: Box::new(bytes), buffer: vec![0; BUFFER], at: 0, filled: 0, position: 0, limit: u64::MAX }
    }

    /// How many bytes were read or skipped.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Ends reading at the position `limit`; gives the limit that was.
    pub fn set_limit(&mut self, limit: u64) -> u64 {
        std::mem::replace(&mut self.limit, limit)
    }

    /// The bytes that are buffered, after making sure that there are some unless the end is reached.
    fn fill(&mut self) -> Result<&[u8], Stop> {
        if self.at == self.filled {
            self.at = 0;
            self.filled = loop {
                match self.bytes.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
        }
        let left = usize::try_from(self.limit.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let end = self.filled.min(self.at.saturating_add(left));
        Ok(self.buffer.get(self.at..end).unwrap_or_default())
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        self.position += count as u64;
    }

    /// The next byte; none at the end.
    pub fn next_byte(&mut self) -> Result<Option<u8>, Stop> {
        let byte = self.fill()?.first().copied();
        self.advance(usize::from(byte.is_some()));
        Ok(byte)
    }

    /// The next byte, which has to be there.
    pub fn byte(&mut self) -> Result<u8, Stop> {
        self.next_byte()?.ok_or(Stop::Truncated)
    }

    /// The byte that comes next, which stays.
    pub fn peek(&mut self) -> Result<Option<u8>, Stop> {
        Ok(self.fill()?.first().copied())
    }

    /// The next `count` bytes. Only for counts that were checked: they are held in memory.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        let mut taken = Vec::with_capacity(count.min(BUFFER));
        while taken.len() < count {
            let wanted = count - taken.len();
            let chunk = self.fill()?;
            let chunk = chunk.get(..wanted.min(chunk.len())).unwrap_or_default();
            let length = chunk.len();
            if length == 0 {
                return Err(Stop::Truncated);
            }
            taken.extend_from_slice(chunk);
            self.advance(length);
        }
        Ok(taken)
    }

    /// A number, little end first, of up to eight bytes.
    pub fn number(&mut self, bytes: usize) -> Result<u64, Stop> {
        let mut number = 0;
        for place in 0..bytes {
            number |= u64::from(self.byte()?) << (8 * place);
        }
        Ok(number)
    }

    /// A number, big end first, of up to eight bytes.
    pub fn number_big(&mut self, bytes: usize) -> Result<u64, Stop> {
        (0..bytes).try_fold(0, |number, _| Ok(number << 8 | u64::from(self.byte()?)))
    }

    /// What comes up to a newline, without it. None where it is longer than `most`; it is passed all the same.
    pub fn line(&mut self, most: usize) -> Result<Option<Vec<u8>>, Stop> {
        let mut line = Vec::new();
        let mut whole = true;
        loop {
            let chunk = self.fill()?;
            if chunk.is_empty() {
                return Err(Stop::Truncated);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let passed = part.len() + usize::from(end.is_some());
            whole &= line.len() + part.len() <= most;
            if whole {
                line.extend_from_slice(part);
            }
            self.advance(passed);
            if end.is_some() {
                return Ok(whole.then_some(line));
            }
        }
    }

    /// Leaves out `count` bytes, which have to be there.
    pub fn skip(&mut self, count: u64) -> Result<(), Stop> {
        if count > self.limit.saturating_sub(self.position) {
            return Err(Stop::Truncated);
        }
        let buffered = (self.filled - self.at) as u64;
        if count <= buffered {
            self.advance(usize::try_from(count).unwrap_or_default());
            return Ok(());
        }
        self.at = self.filled;
        self.position += buffered;
        let skipped = self.bytes.skip(count - buffered)?;
        self.position += skipped;
        if skipped < count - buffered { Err(Stop::Truncated) } else { Ok(()) }
    }

    /// Whether nothing is left.
    pub fn at_end(&mut self) -> Result<bool, Stop> {
        Ok(self.fill()?.is_empty())
    }
}
