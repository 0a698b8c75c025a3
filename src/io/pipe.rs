//! Bytes on their way from one thread to another: whoever writes them has done with them when they are copied.
//!
//! Invariant: only so many bytes are under way that memory stays flat, and a writer that gives up is no end.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that are handed over at once, and how many such pieces are under way at most.
const PIECE: usize = 1 << 20;
const PIECES: usize = 8;

/// The two ends of a pipe.
pub fn pipe() -> (Writer, Reader) {
    let (full, received) = sync_channel(PIECES);
    let (back, empty) = sync_channel(PIECES + 1);
    let reader = Reader { received, back, piece: Vec::new(), taken: 0, ended: false };
    (Writer { full, empty, pending: Vec::new() }, reader)
}

/// Where bytes go in. [`Writer::finish`] has to be called: else whoever reads is told that they are not all.
pub struct Writer {
    /// An empty piece is the end.
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    pending: Vec<u8>,
}

impl Writer {
    /// Hands over what is left, and says that it is all.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.hand_over()?;
        }
        self.full.send(Vec::new()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let next = self.empty.try_recv().unwrap_or_default();
        self.full.send(std::mem::replace(&mut self.pending, next)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = (PIECE - self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        if self.pending.len() == PIECE {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where they come out.
pub struct Reader {
    received: Receiver<Vec<u8>>,
    back: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.piece.len() && !self.ended {
            let Ok(next) = self.received.recv() else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "whoever wrote it gave up"));
            };
            self.ended = next.is_empty();
            let mut done = std::mem::replace(&mut self.piece, next);
            done.clear();
            self.taken = 0;
            // Nobody wants it back at the end.
            let _ = self.back.try_send(done);
        }
        Ok(&self.piece[self.taken..])
    }

    fn consume(&mut self, amount: usize) {
        self.taken = self.piece.len().min(self.taken + amount);
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let taken = bytes.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&bytes[..taken]);
        self.consume(taken);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for size in [0, 1, PIECE, 20 * PIECE + 7] {
            let bytes: Vec<u8> = (0..size).map(|i| (i / 3) as u8).collect();
            let (mut writer, mut reader) = pipe();
            let written = bytes.clone();
            let thread = std::thread::spawn(move || {
                writer.write_all(&written)?;
                writer.finish()
            });
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            thread.join().unwrap().unwrap();
            assert!(back == bytes && reader.read(&mut [0]).unwrap() == 0, "{size}");
        }
    }

    #[test]
    fn who_gives_up_is_noticed_on_the_other_side() {
        let (mut writer, mut reader) = pipe();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(reader.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut writer, reader) = pipe();
        drop(reader);
        assert_eq!(writer.write_all(&vec![0; PIECE]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
