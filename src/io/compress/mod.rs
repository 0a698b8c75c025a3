//! Compression of layers and archives: the same bytes at any number of threads, and readers that look at the bytes
//! and not at the name.

mod xz;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::str::FromStr;

use libdeflater::{CompressionLvl, Compressor};
use serde::{Deserialize, Serialize};

use crate::io::parallel::{self, Done, Pool, Work};

/// How the bytes of a layer are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    None,
    /// RFC 1952, which every runtime reads.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// A writer that compresses what is written to it, on all processors. [`Encoder::finish`] has to be called.
    pub fn encoder<W: Write>(self, inner: W) -> Encoder<W> {
        Setting::from(self).encoder(inner)
    }
}

impl From<Compression> for Setting {
    fn from(compression: Compression) -> Self {
        Self { compression, level: ZSTD_LEVEL }
    }
}

/// How somebody wants a layer to be stored, as in `zstd:19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// In which format.
    pub compression: Compression,
    /// Of zstd.
    level: i32,
}

impl Setting {
    /// As [`Compression::encoder`].
    pub fn encoder<W: Write>(self, inner: W) -> Encoder<W> {
        match self.compression {
            Compression::None => Encoder::None(inner),
            Compression::Gzip => Encoder::Blocks(Blocks::new(inner, BLOCK, Method::Gzip)),
            Compression::Zstd => Encoder::Blocks(Blocks::new(inner, BLOCK, Method::Zstd(self.level))),
        }
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (format, level) = text.split_once(':').unwrap_or((text, ""));
        let compression = match format {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => return Err("write none, gzip, zstd, or zstd with a level, as zstd:9".to_owned()),
        };
        let no_level = || format!("`{level}` is no level of zstd: those are 1 to 22");
        let level = match (compression, text.contains(':')) {
            (_, false) => ZSTD_LEVEL,
            (Compression::Zstd, true) => {
                level.parse().ok().filter(|level| (1..=22).contains(level)).ok_or_else(no_level)?
            }
            _ => return Err(format!("{format} takes no level")),
        };
        Ok(Self { compression, level })
    }
}

/// Version of what the encoders here write. A change of it needs another number.
pub const RULES: u32 = 2;

/// Of libdeflate. On site-packages: within 6 % of the size of zlib's level 6, in a third of the time.
const GZIP_LEVEL: i32 = 1;
const ZSTD_LEVEL: i32 = 3;

/// What one gzip member or zstd frame holds, in bytes. They are independent, so that they can be made side by side; a
/// file of several is one file (RFC 1952, section 2.2; RFC 8878, section 3), as every runtime knows it from eStargz.
const BLOCK: usize = 1 << 20;

/// See [`Compression::encoder`].
pub enum Encoder<W: Write> {
    /// Passes on.
    None(W),
    /// Compresses blocks side by side.
    Blocks(Blocks<W>),
}

impl<W: Write> Encoder<W> {
    /// Writes what is left, and gives the writer back.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(inner) => Ok(inner),
            Self::Blocks(blocks) => blocks.finish().map(|(inner, _)| inner),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.write(bytes),
            Self::Blocks(blocks) => blocks.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A flush in the middle would change the bytes: all goes out with `finish`.
        Ok(())
    }
}

/// How one block becomes a file of its own, which may be put behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A gzip member.
    Gzip,
    /// A zstd frame of this level, with a checksum. What does not shrink is stored.
    Zstd(i32),
    /// An xz stream. What does not shrink is stored.
    Xz,
}

impl Method {
    fn work(self) -> Work {
        match self {
            Self::Gzip => {
                let level = CompressionLvl::new(GZIP_LEVEL).unwrap_or_default();
                let mut encoder = Compressor::new(level);
                Box::new(move |block| gzip_member(&mut encoder, block))
            }
            Self::Xz => Box::new(|block| if shrinks(block)? { xz::compressed(block) } else { Ok(xz::stored(block)) }),
            Self::Zstd(level) => {
                let mut encoders: [Option<zstd::bulk::Compressor<'static>>; 2] = [None, None];
                Box::new(move |block| {
                    let [stored, shrunk] = &mut encoders;
                    let (encoder, level) = if shrinks(block)? { (shrunk, level) } else { (stored, FASTEST) };
                    if encoder.is_none() {
                        let mut new = zstd::bulk::Compressor::new(level)?;
                        new.include_checksum(true)?;
                        *encoder = Some(new);
                    }
                    encoder.as_mut().map_or_else(|| Ok(Vec::new()), |encoder| encoder.compress(block))
                })
            }
        }
    }
}

/// A level of zstd at which it looks for next to nothing, and stores what it does not find.
const FASTEST: i32 = -50;

/// Whether a block gets smaller by compression: a few samples tell. Most weights do not.
fn shrinks(block: &[u8]) -> io::Result<bool> {
    const SAMPLE: usize = 16 << 10;
    const SAMPLES: usize = 4;
    let step = block.len() / SAMPLES;
    let sample: Vec<u8> = match step > SAMPLE {
        true => (0..SAMPLES).flat_map(|i| &block[i * step..i * step + SAMPLE]).copied().collect(),
        false => block.to_vec(),
    };
    Ok(zstd::bulk::compress(&sample, 1)?.len() < sample.len() / 20 * 19)
}

/// Cuts what is written to it into blocks of a fixed size, and compresses each for itself on all processors, while
/// those behind it are written. The bytes do not depend on the number of processors.
pub struct Blocks<W: Write> {
    inner: W,
    size: usize,
    method: Method,
    threads: usize,
    pending: Vec<u8>,
    /// Started with the first block that is full.
    workers: Option<Pool>,
    spare: Vec<Vec<u8>>,
    sizes: Vec<(u32, u32)>,
}

impl<W: Write> Blocks<W> {
    /// Cuts what is written to it into blocks of `size` bytes, at most 1 GiB, and writes each to `inner` as `method`
    /// makes it.
    pub fn new(inner: W, size: usize, method: Method) -> Self {
        let (pending, spare, sizes) = (Vec::new(), Vec::new(), Vec::new());
        Self { inner, size, method, threads: parallel::threads(), pending, workers: None, spare, sizes }
    }

    fn give(&mut self) -> io::Result<()> {
        while self.workers.as_ref().is_some_and(Pool::is_full) {
            self.take()?;
        }
        let next = self.spare.pop().unwrap_or_default();
        let block = std::mem::replace(&mut self.pending, next);
        let (threads, method) = (self.threads, self.method);
        self.workers.get_or_insert_with(|| Pool::new(threads, || method.work())).give(block);
        Ok(())
    }

    /// Writes the oldest block under way; false when there is none.
    fn take(&mut self) -> io::Result<bool> {
        let Some(done) = self.workers.as_mut().and_then(Pool::take) else { return Ok(false) };
        let Done { mut input, output } = done?;
        self.put(&output, input.len())?;
        input.clear();
        self.spare.push(input);
        Ok(true)
    }

    fn put(&mut self, compressed: &[u8], original: usize) -> io::Result<()> {
        self.inner.write_all(compressed)?;
        self.sizes.push((compressed.len() as u32, original as u32));
        Ok(())
    }

    /// Writes what is left. Gives the writer back, and for each block its compressed and its original size in bytes.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(mut self) -> io::Result<(W, Vec<(u32, u32)>)> {
        while self.take()? {}
        if !self.pending.is_empty() {
            let block = std::mem::take(&mut self.pending);
            let compressed = (self.method.work())(&block)?;
            self.put(&compressed, block.len())?;
        }
        Ok((self.inner, self.sizes))
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = (self.size - self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        if self.pending.len() == self.size {
            self.give()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One member, whose header says nothing of time, name or operating system (libdeflate writes zero and "unknown").
fn gzip_member(encoder: &mut Compressor, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = vec![0; encoder.gzip_compress_bound(block.len())];
    let size = encoder.gzip_compress(block, &mut member).map_err(io::Error::other)?;
    member.truncate(size);
    Ok(member)
}

/// Reads what is compressed in whatever way its first bytes say: gzip (also in several members), zstd (several
/// frames), xz (several streams), or not at all.
///
/// # Errors
/// When the first bytes cannot be read, or a decoder cannot be set up.
pub fn decoder<'a>(inner: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    /// Memory that an xz stream may ask for, in bytes: what `xz -9` needs, and some.
    const XZ_MEMORY: u64 = 256 << 20;
    let mut inner = BufReader::with_capacity(1 << 17, inner);
    let magic = inner.fill_buf()?;
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(inner))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(inner)?)
    } else if magic.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(inner, stream))
    } else if magic.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(inner))
    } else {
        Box::new(inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..3_000_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    #[test]
    fn what_was_compressed_is_read_back_whatever_it_was() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut encoder = compression.encoder(Vec::new());
            encoder.write_all(&sample()).unwrap();
            let bytes = encoder.finish().unwrap();
            let mut back = Vec::new();
            decoder(&bytes[..]).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == sample(), "{compression:?}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let at = |threads| {
            let mut blocks = Blocks { threads, ..Blocks::new(Vec::new(), BLOCK, Method::Gzip) };
            for piece in sample().chunks(77_777) {
                blocks.write_all(piece).unwrap();
            }
            blocks.finish().unwrap().0
        };
        assert!(at(1) == at(2) && at(2) == at(7));
    }
}
