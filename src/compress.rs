//! Compression of layers and archives: the same bytes at any number of threads, and readers that look at the bytes
//! and not at the name.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::write::GzEncoder;
use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

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
    /// The media type of a layer stored so (image specification 1.1, `layer.md`).
    pub fn layer_media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }

    /// A writer that compresses what is written to it, on all processors. [`Encoder::finish`] has to be called.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub fn encoder<W: Write>(self, inner: W) -> io::Result<Encoder<W>> {
        Ok(match self {
            Self::None => Encoder::None(inner),
            Self::Gzip => Encoder::Gzip(Blocks::new(inner, GZIP_BLOCK, gzip_member)),
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(inner, ZSTD_LEVEL)?;
                // With one worker or more the bytes depend on the job size alone, not on the number of workers.
                encoder.multithread(u32::try_from(threads()).unwrap_or(1))?;
                Encoder::Zstd(encoder)
            }
        })
    }
}

/// Fast, and within 8 % of the size of level 6 on site-packages.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::new(3);
const ZSTD_LEVEL: i32 = 3;

/// What one gzip member holds, in bytes. Members are independent, so that they can be made side by side; a file of
/// several members is one gzip file (RFC 1952, section 2.2), as every runtime knows it from eStargz.
const GZIP_BLOCK: usize = 1 << 20;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// See [`Compression::encoder`].
pub enum Encoder<W: Write> {
    /// Passes on.
    None(W),
    /// Compresses blocks side by side.
    Gzip(Blocks<W>),
    /// Leaves the threads to libzstd.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Writes what is left, and gives the writer back.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(inner) => Ok(inner),
            Self::Gzip(blocks) => blocks.finish().map(|(inner, _)| inner),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.write(bytes),
            Self::Gzip(blocks) => blocks.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A flush in the middle would change the bytes: all goes out with `finish`.
        Ok(())
    }
}

/// Collects blocks of a fixed size and compresses as many at once as there are processors, each for itself.
pub struct Blocks<W: Write> {
    inner: W,
    pending: Vec<u8>,
    threads: usize,
    size: usize,
    compress: fn(&[u8]) -> io::Result<Vec<u8>>,
    sizes: Vec<(u32, u32)>,
}

impl<W: Write> Blocks<W> {
    /// Cuts what is written to it into blocks of `size` bytes, at most 1 GiB, and writes each to `inner` as
    /// `compress` makes it.
    pub fn new(inner: W, size: usize, compress: fn(&[u8]) -> io::Result<Vec<u8>>) -> Self {
        Self { inner, pending: Vec::new(), threads: threads(), size, compress, sizes: Vec::new() }
    }

    fn flush_pending(&mut self) -> io::Result<()> {
        let compress = self.compress;
        let compressed = std::thread::scope(|scope| {
            let blocks = self.pending.chunks(self.size);
            let workers: Vec<_> = blocks.map(|block| scope.spawn(move || compress(block))).collect();
            workers.into_iter().map(join).collect::<io::Result<Vec<_>>>()
        })?;
        for (block, compressed) in self.pending.chunks(self.size).zip(compressed) {
            self.inner.write_all(&compressed)?;
            self.sizes.push((compressed.len() as u32, block.len() as u32));
        }
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left. Gives the writer back, and for each block its compressed and its original size in bytes.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(mut self) -> io::Result<(W, Vec<(u32, u32)>)> {
        self.flush_pending()?;
        Ok((self.inner, self.sizes))
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.threads * self.size - self.pending.len();
        let taken = room.min(bytes.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        if taken == room {
            self.flush_pending()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn join<T>(worker: std::thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// One member, whose header says nothing of time, name or operating system (flate2 writes zero and "unknown").
fn gzip_member(block: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(block.len() / 2), GZIP_LEVEL);
    encoder.write_all(block)?;
    encoder.finish()
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
            let mut encoder = compression.encoder(Vec::new()).unwrap();
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
            let mut blocks = Blocks { threads, ..Blocks::new(Vec::new(), GZIP_BLOCK, gzip_member) };
            for piece in sample().chunks(77_777) {
                blocks.write_all(piece).unwrap();
            }
            blocks.finish().unwrap().0
        };
        assert!(at(1) == at(2) && at(2) == at(7));
    }
}
