//! xz streams for BentoML, which takes nothing else under the name `.bento`.
//!
//! What does not shrink is stored in LZMA2 chunks as it is: liblzma would look for matches in it all the same, at
//! some MB/s. The .xz file format 1.2.0; LZMA2 chunks as in section 5.3.1 and xz-embedded's `xz_dec_lzma2.c`.

use std::io::{self, Write as _};

use flate2::Crc;
use liblzma::stream::{Check, Stream};

const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
/// Stream flags: the check is a CRC32.
const FLAGS: [u8; 2] = [0, 1];
/// Largest LZMA2 chunk that is stored, in bytes.
const CHUNK: usize = 1 << 16;
/// Fast, and for floating point numbers as good as any.
const PRESET: u32 = 1;

/// A stream of `block` compressed.
pub fn compressed(block: &[u8]) -> io::Result<Vec<u8>> {
    let stream = Stream::new_easy_encoder(PRESET, Check::Crc32)?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::with_capacity(block.len() / 2), stream);
    encoder.write_all(block)?;
    encoder.finish()
}

/// A stream of `block` as it is. `block` is not empty.
pub fn stored(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + block.len().div_ceil(CHUNK) * 3 + 64);
    out.extend(MAGIC);
    out.extend(FLAGS);
    out.extend(crc(&FLAGS));

    // Block header, section 3.1: 12 bytes, one filter, LZMA2 with a dictionary of 64 KiB.
    let begin = out.len();
    let header = [2, 0, 0x21, 1, 8, 0, 0, 0];
    out.extend(header);
    out.extend(crc(&header));
    for (number, chunk) in block.chunks(CHUNK).enumerate() {
        // The first chunk begins with an empty dictionary.
        out.push(if number == 0 { 1 } else { 2 });
        out.extend(((chunk.len() - 1) as u16).to_be_bytes());
        out.extend_from_slice(chunk);
    }
    out.push(0);
    let check = crc(block);
    let unpadded = (out.len() - begin + check.len()) as u64;
    pad(&mut out, begin);
    out.extend(check);

    // Index, section 4: one record.
    let begin = out.len();
    out.extend([0, 1]);
    number(&mut out, unpadded);
    number(&mut out, block.len() as u64);
    pad(&mut out, begin);
    let check = crc(&out[begin..]);
    out.extend(check);

    // Footer, section 2.1.2.
    let mut footer = [0; 6];
    footer[..4].copy_from_slice(&(((out.len() - begin) / 4 - 1) as u32).to_le_bytes());
    footer[4..].copy_from_slice(&FLAGS);
    out.extend(crc(&footer));
    out.extend(footer);
    out.extend(b"YZ");
    out
}

/// Zeros up to a multiple of four bytes after `begin`.
fn pad(out: &mut Vec<u8>, begin: usize) {
    let length = (out.len() - begin).next_multiple_of(4);
    out.resize(begin + length, 0);
}

/// A variable-length integer, section 1.2.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn liblzma_reads_what_is_stored_and_finds_what_is_flipped() {
        for size in [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 77] {
            let block: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
            let read = |bytes: &[u8]| {
                let mut back = Vec::new();
                crate::io::compress::decoder(bytes).and_then(|mut reader| reader.read_to_end(&mut back)).map(|_| back)
            };
            let both = [stored(&block), compressed(&block).unwrap()].concat();
            assert!(read(&both).unwrap() == [&block[..], &block[..]].concat(), "{size}");
            let mut damaged = stored(&block);
            damaged[28] ^= 1;
            assert!(read(&damaged).is_err(), "{size}");
        }
    }
}
