//! An archive that can be read in the middle: independent zstd frames of bounded size, and a table of them at the end.
//!
//! Follows the Zstandard seekable format 0.1.0 (`contrib/seekable_format/zstd_seekable_compression_format.md` of
//! zstd), without checksums in the table, as each frame has zstd's own. Any zstd reads it as one stream. Before the table stands one more
//! skippable frame with an index that the writer chooses; in the table it is a frame of no decompressed bytes.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::compress::Blocks;

/// What one frame holds uncompressed, in bytes. A reader in the middle decompresses at most so much in vain.
const FRAME: usize = 4 << 20;

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
        Self { blocks: Blocks::new(inner, FRAME, frame) }
    }

    /// Writes what is left, the index and the table, and gives the writer back.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(self, index: &[u8]) -> io::Result<W> {
        let (mut inner, mut frames) = self.blocks.finish()?;
        let too_large = |_| io::Error::new(io::ErrorKind::FileTooLarge, "the archive has too many members");
        let index = compress(index, LEVEL)?;
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

/// One frame. What does not get smaller by compression (most weights) costs next to no time: a sample tells.
fn frame(block: &[u8]) -> io::Result<Vec<u8>> {
    const SAMPLE: usize = 64 << 10;
    let middle = block.len() / 2;
    let sample = &block[middle..block.len().min(middle + SAMPLE)];
    let shrinks = zstd::bulk::compress(sample, 1)?.len() < sample.len() / 20 * 19;
    compress(block, if shrinks { LEVEL } else { 1 })
}

/// A frame with a checksum, so that `zstd -t` and every reader find what a disk or a wire did to it.
fn compress(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.compress(bytes)
}

/// Reads a seekable archive. Only the table is held in memory.
pub struct Reader<R> {
    inner: R,
    frames: Vec<Frame>,
    /// Where the index lies, and its length.
    index: (u64, u32),
}

#[derive(Clone, Copy)]
struct Frame {
    /// Where it begins, compressed and decompressed, in bytes.
    from: (u64, u64),
    compressed: u32,
    decompressed: u32,
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
            if compressed > LARGEST_FRAME || decompressed > LARGEST_FRAME {
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
        Ok(Self { inner, frames, index })
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

    /// Bytes of the archive decompressed.
    pub fn length(&self) -> u64 {
        self.frames.last().map_or(0, |last| last.from.1 + u64::from(last.decompressed))
    }

    /// Reads `size` bytes from `offset`, decompressing only the frames that hold them.
    ///
    /// # Errors
    /// When there are not so many. Frames that are damaged are found while reading.
    pub fn range(self, offset: u64, size: u64) -> io::Result<Range<R>> {
        if offset.checked_add(size).is_none_or(|end| end > self.length()) {
            return Err(invalid("its index names bytes behind its end"));
        }
        let next = self.frames.partition_point(|frame| frame.from.1 + u64::from(frame.decompressed) <= offset);
        Ok(Range { archive: self, next, skip: offset, left: size, frame: Vec::new(), at: 0 })
    }
}

/// See [`Reader::range`].
pub struct Range<R> {
    archive: Reader<R>,
    next: usize,
    /// Where the first byte lies, decompressed; used for the first frame only.
    skip: u64,
    left: u64,
    frame: Vec<u8>,
    at: usize,
}

impl<R: Read + Seek> Read for Range<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        while self.at == self.frame.len() {
            let Some(frame) = self.archive.frames.get(self.next).copied() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let mut compressed = vec![0; frame.compressed as usize];
            self.archive.inner.seek(SeekFrom::Start(frame.from.0))?;
            self.archive.inner.read_exact(&mut compressed)?;
            self.frame = zstd::bulk::decompress(&compressed, frame.decompressed as usize)?;
            if self.frame.len() != frame.decompressed as usize {
                return Err(invalid("a frame does not hold what the table says"));
            }
            self.at = self.skip.saturating_sub(frame.from.1) as usize;
            self.skip = 0;
            self.next += 1;
        }
        let ready = &self.frame[self.at..];
        let taken = ready.len().min(buffer.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer[..taken].copy_from_slice(&ready[..taken]);
        self.at += taken;
        self.left -= taken as u64;
        Ok(taken)
    }
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
        let open = || Reader::new(io::Cursor::new(&archive)).unwrap();
        assert_eq!(open().index().unwrap(), b"the index");
        let whole = bytes.len() as u64;
        for (offset, size) in
            [(0, 10), (0, whole), (FRAME as u64 - 1, 2), (FRAME as u64, 1), (whole - 1, 1), (whole, 0)]
        {
            let mut part = Vec::new();
            open().range(offset, size).unwrap().read_to_end(&mut part).unwrap();
            assert!(part == bytes[offset as usize..(offset + size) as usize], "{offset} {size}");
        }
        assert!(open().range(whole, 1).is_err());
        assert!(open().range(u64::MAX, 2).is_err());
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
