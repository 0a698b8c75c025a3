//! An archive that can be read in the middle: independent zstd frames of bounded size, and a table of them at the end.
//!
//! Follows the Zstandard seekable format 0.1.0 (`contrib/seekable_format/zstd_seekable_compression_format.md` of
//! zstd), without checksums in the table, as each frame has its own: a flipped bit is found by whoever decompresses.
//! Any zstd reads it as one stream. Before the table stands one more skippable frame with an index that the writer
//! chooses; in the table it is a frame of no decompressed bytes.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::io::compress::{Blocks, Method};
use crate::io::parallel::{self, Done, Pool};

/// What one frame holds uncompressed, in bytes. A reader in the middle decompresses at most so much in vain.
const FRAME: usize = 1 << 20;

/// Largest frame that is believed, in bytes, compressed or not.
const LARGEST_FRAME: u32 = 64 << 20;

/// Largest index that is believed, in bytes uncompressed.
const LARGEST_INDEX: u64 = 64 << 20;

const LEVEL: i32 = 3;
const TABLE_MAGIC: u32 = 0x184D_2A5E;
const INDEX_MAGIC: u32 = 0x184D_2A50;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const FOOTER: u64 = 9;

/// Compresses what is written to it, on all processors; the bytes do not depend on their number.
pub struct Writer<W: Write> {
    blocks: Blocks<W>,
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { blocks: Blocks::new(inner, FRAME, Method::Zstd(LEVEL)) }
    }

    /// Writes what is left, the index and the table, and gives the writer back.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(self, index: &[u8]) -> io::Result<W> {
        let (mut inner, mut frames) = self.blocks.finish()?;
        let too_large = |_| io::Error::new(io::ErrorKind::FileTooLarge, "the archive has too many members");
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        let index = compressor.compress(index)?;
        let length = u32::try_from(index.len()).map_err(too_large)?;
        inner.write_all(&INDEX_MAGIC.to_le_bytes())?;
        inner.write_all(&length.to_le_bytes())?;
        inner.write_all(&index)?;
        frames.push((length + 8, 0));

        let count = u32::try_from(frames.len()).map_err(too_large)?;
        inner.write_all(&TABLE_MAGIC.to_le_bytes())?;
        inner.write_all(&(count * 8 + FOOTER as u32).to_le_bytes())?;
        for (compressed, decompressed) in frames {
            inner.write_all(&compressed.to_le_bytes())?;
            inner.write_all(&decompressed.to_le_bytes())?;
        }
        inner.write_all(&count.to_le_bytes())?;
        inner.write_all(&[0])?;
        inner.write_all(&SEEKABLE_MAGIC.to_le_bytes())?;
        Ok(inner)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.blocks.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a seekable archive, from [`Reader::go_to`] on. In memory are the table and a few frames.
pub struct Reader<R> {
    inner: R,
    frames: Vec<Frame>,
    /// Where the index lies, and its length.
    index: (u64, u32),
    /// What is read next, and where that ends.
    at: u64,
    end: u64,
    /// The frame that was read last, by its number.
    current: Option<(usize, Vec<u8>)>,
    ahead: Option<Ahead>,
}

#[derive(Clone, Copy)]
struct Frame {
    /// Where it begins, compressed and decompressed, in bytes.
    from: (u64, u64),
    compressed: u32,
    decompressed: u32,
}

/// Frames that are decompressed before anybody asks: the numbers from `first` to before `asked` are under way.
struct Ahead {
    workers: Pool,
    first: usize,
    asked: usize,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the table at the end of `inner`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when there is none, or it is not one of [`Writer`]'s.
    pub fn new(mut inner: R) -> io::Result<Self> {
        let length = inner.seek(SeekFrom::End(0))?;
        let mut footer = [0; FOOTER as usize];
        inner.seek(SeekFrom::Start(length.checked_sub(FOOTER).ok_or_else(|| invalid("it is too short"))?))?;
        inner.read_exact(&mut footer)?;
        if word(&footer[5..]) != SEEKABLE_MAGIC || footer[4] != 0 {
            return Err(invalid("it has no table of frames at its end, so it is cut short or something else"));
        }
        let count = u64::from(word(&footer));
        let table = count * 8 + 8 + FOOTER;
        let start = length.checked_sub(table).ok_or_else(|| invalid("its table of frames is longer than itself"))?;
        inner.seek(SeekFrom::Start(start + 8))?;
        let mut frames = Vec::new();
        let mut from = (0, 0);
        let mut entry = [0; 8];
        let mut entries = io::BufReader::new((&mut inner).take(count * 8));
        for _ in 0..count {
            entries.read_exact(&mut entry)?;
            let (compressed, decompressed) = (word(&entry), word(&entry[4..]));
            if compressed > LARGEST_FRAME.max(LARGEST_INDEX as u32) || decompressed > LARGEST_FRAME {
                return Err(invalid("its table names a frame over 64 MiB"));
            }
            frames.push(Frame { from, compressed, decompressed });
            from = (from.0 + u64::from(compressed), from.1 + u64::from(decompressed));
        }
        if from.0 != start {
            return Err(invalid("its table of frames does not fit its length"));
        }
        let index = match frames.pop() {
            Some(Frame { from, compressed, decompressed: 0 }) if compressed >= 8 => (from.0 + 8, compressed - 8),
            _ => return Err(invalid("it has no index of members")),
        };
        Ok(Self { inner, frames, index, at: 0, end: 0, current: None, ahead: None })
    }

    /// The index that was given to [`Writer::finish`].
    ///
    /// # Errors
    /// When it cannot be read, or is larger than any index is.
    pub fn index(&mut self) -> io::Result<Vec<u8>> {
        self.inner.seek(SeekFrom::Start(self.index.0))?;
        let compressed = (&mut self.inner).take(self.index.1.into());
        let mut index = Vec::new();
        zstd::Decoder::new(compressed)?.take(LARGEST_INDEX + 1).read_to_end(&mut index)?;
        if index.len() as u64 > LARGEST_INDEX {
            return Err(invalid("its index is too large"));
        }
        Ok(index)
    }

    /// Looks at where frames begin, whether there is one of the size that the table says: at all of them, or at a
    /// thousand of very many. What a copy that broke off, or a disk that was full, left out is found so.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when there is none.
    pub fn check_heads(&mut self) -> io::Result<()> {
        const MOST: usize = 1000;
        /// Longest header of a frame, in bytes: RFC 8878, section 3.1.1.
        const LONGEST: u64 = 18;
        let step = self.frames.len().div_ceil(MOST).max(1);
        for frame in self.frames.iter().step_by(step) {
            self.inner.seek(SeekFrom::Start(frame.from.0))?;
            let mut head = Vec::new();
            (&mut self.inner).take(LONGEST.min(frame.compressed.into())).read_to_end(&mut head)?;
            let size = zstd::zstd_safe::get_frame_content_size(&head).ok().flatten();
            if size != Some(frame.decompressed.into()) {
                return Err(invalid(&format!(
                    "the frame at byte {} is not the one that its table names",
                    frame.from.0
                )));
            }
        }
        self.inner.seek(SeekFrom::Start(self.index.0 - 8))?;
        let mut head = [0; 8];
        self.inner.read_exact(&mut head)?;
        match word(&head) == INDEX_MAGIC && word(&head[4..]) == self.index.1 {
            true => Ok(()),
            false => Err(invalid("its index is not as long as its table says")),
        }
    }

    /// Bytes of the archive decompressed.
    pub fn length(&self) -> u64 {
        self.frames.last().map_or(0, |last| last.from.1 + u64::from(last.decompressed))
    }

    /// Goes to where `size` bytes are read from `offset` on, and then no more. Only the frames that hold them are
    /// decompressed, side by side where they are many. The last one stays at hand: neighbours cost nothing.
    ///
    /// # Errors
    /// When there are not so many. Frames that are damaged are found while reading.
    pub fn go_to(&mut self, offset: u64, size: u64) -> io::Result<()> {
        let end = offset.checked_add(size).filter(|end| *end <= self.length());
        (self.at, self.end) = (offset, end.ok_or_else(|| invalid("its index names bytes behind its end"))?);
        Ok(())
    }

    /// The number of the frame that holds the byte at `offset`.
    fn holder(&self, offset: u64) -> usize {
        self.frames.partition_point(|frame| frame.from.1 + u64::from(frame.decompressed) <= offset)
    }

    /// The frame with the number `wanted`, decompressed.
    fn frame(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.current.as_ref().is_none_or(|(number, _)| *number != wanted) {
            let (compressed, bytes) = self.decompress(wanted)?;
            if self.frames.get(wanted).is_none_or(|frame| bytes.len() != frame.decompressed as usize) {
                return Err(invalid("a frame does not hold what the table says"));
            }
            self.current = Some((wanted, bytes));
            self.go_ahead(wanted + 1, compressed)?;
        }
        Ok(self.current.as_ref().map_or(&[], |(_, bytes)| bytes))
    }

    /// Gives the compressed bytes as well: their memory is used again.
    fn decompress(&mut self, wanted: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
        if let Some(ahead) = self.ahead.as_mut().filter(|ahead| (ahead.first..ahead.asked).contains(&wanted)) {
            while let Some(done) = ahead.workers.take() {
                let Done { input, output } = done?;
                ahead.first += 1;
                if ahead.first > wanted {
                    return Ok((input, output));
                }
            }
        }
        self.ahead = None;
        let compressed = self.compressed(wanted, Vec::new())?;
        let bytes = decompressed(&compressed)?;
        Ok((compressed, bytes))
    }

    /// Lets the workers have the frames from `next` on, as far as they are wanted.
    fn go_ahead(&mut self, next: usize, mut memory: Vec<u8>) -> io::Result<()> {
        /// Fewer frames than this are not worth threads.
        const FEW: usize = 4;
        let last = self.holder(self.end.saturating_sub(1));
        if self.ahead.is_none() && last > next + FEW {
            let workers = Pool::new(parallel::threads(), || Box::new(decompressed));
            self.ahead = Some(Ahead { workers, first: next, asked: next });
        }
        while let Some(number) = self.ahead.as_ref().filter(|ahead| !ahead.workers.is_full()).map(|ahead| ahead.asked)
            && number <= last
        {
            let compressed = self.compressed(number, std::mem::take(&mut memory))?;
            if let Some(ahead) = &mut self.ahead {
                ahead.workers.give(compressed);
                ahead.asked += 1;
            }
        }
        Ok(())
    }

    fn compressed(&mut self, number: usize, mut memory: Vec<u8>) -> io::Result<Vec<u8>> {
        let frame = *self.frames.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
        memory.resize(frame.compressed as usize, 0);
        self.inner.seek(SeekFrom::Start(frame.from.0))?;
        self.inner.read_exact(&mut memory)?;
        Ok(memory)
    }
}

impl<R: Read + Seek> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        let (at, number) = (self.at, self.holder(self.at));
        let begin = self.frames.get(number).map_or(at, |frame| frame.from.1);
        let frame = self.frame(number)?;
        let ready = frame.get((at - begin) as usize..).unwrap_or_default();
        let taken = ready.len().min(left);
        buffer[..taken].copy_from_slice(&ready[..taken]);
        self.at += taken as u64;
        Ok(taken)
    }
}

/// One frame's bytes. Its header has to say how many there are, as [`Writer`]'s do.
fn decompressed(frame: &[u8]) -> io::Result<Vec<u8>> {
    let size = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
    let size = size.and_then(|size| u32::try_from(size).ok()).filter(|size| *size <= LARGEST_FRAME);
    let size = size.ok_or_else(|| invalid("a frame does not say how large it is"))?;
    zstd::bulk::decompress(frame, size as usize).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The little-endian number in the first four bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress, and bytes that do not.
    fn sample() -> Vec<u8> {
        let mut state = 1u64;
        (0..11_000_000u32)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if i < 5_000_000 { (i / 100) as u8 } else { (state >> 33) as u8 }
            })
            .collect()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.write_all(bytes).unwrap();
        writer.finish(b"the index").unwrap()
    }

    #[test]
    fn any_range_is_read_and_any_zstd_reads_the_whole() {
        let bytes = sample();
        let archive = packed(&bytes);
        assert!(zstd::decode_all(&archive[..]).unwrap() == bytes);
        let mut reader = Reader::new(io::Cursor::new(&archive)).unwrap();
        assert_eq!(reader.index().unwrap(), b"the index");
        let whole = bytes.len() as u64;
        for (offset, size) in
            [(0, 10), (0, whole), (FRAME as u64 - 1, 2), (FRAME as u64, 1), (5, 7 << 20), (whole - 1, 1), (whole, 0)]
        {
            let mut part = Vec::new();
            reader.go_to(offset, size).unwrap();
            reader.read_to_end(&mut part).unwrap();
            assert!(part == bytes[offset as usize..(offset + size) as usize], "{offset} {size}");
        }
        assert!(reader.go_to(whole, 1).is_err());
        assert!(reader.go_to(u64::MAX, 2).is_err());
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let bytes = sample();
        let archive = packed(&bytes);
        for at in (50..archive.len() - 200).step_by(archive.len() / 23) {
            let mut damaged = archive.clone();
            damaged[at] ^= 4;
            let mut reader = Reader::new(io::Cursor::new(&damaged)).unwrap();
            reader.go_to(0, reader.length()).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_missing_in_the_middle_is_seen_without_reading_it() {
        let archive = packed(&sample());
        let check = |bytes: &[u8]| Reader::new(io::Cursor::new(bytes)).unwrap().check_heads();
        check(&archive).unwrap();
        let mut hole = archive.clone();
        let end = archive.len() - 200;
        hole[end - (2 << 20)..end].fill(0);
        assert!(check(&hole).unwrap_err().to_string().contains("is not the one that its table names"));
    }

    #[test]
    fn stumps_and_foreign_bytes_are_refused() {
        let archive = packed(&sample()[..100_000]);
        for end in (0..archive.len()).step_by(97) {
            assert!(Reader::new(io::Cursor::new(&archive[..end])).is_err(), "{end}");
        }
        assert!(Reader::new(io::Cursor::new(vec![0xff; 1000])).is_err());
    }
}
