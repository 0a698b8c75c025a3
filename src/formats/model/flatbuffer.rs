//! FlatBuffers (<https://flatbuffers.dev/internals/>): tables whose fields are found by offsets, without a schema.
//!
//! Invariants: what is asked for is read and nothing else, wherever it lies; no offset leads out of the buffer; as many
//! reads as there may be are counted, so that offsets in circles end.

use std::cell::Cell;
use std::os::unix::fs::FileExt as _;

use super::feed::Stop;

/// Reads of one buffer.
const MOST_READS: u32 = 2_000_000;

/// The longest text that is read, in bytes. A longer one is none.
const LONGEST: u64 = 4 << 20;

/// Bytes of all texts.
const MOST_TEXT: u64 = 64 << 20;

/// Bytes that are read at a time.
const PAGE: usize = 16 << 10;

/// Where the bytes are.
pub enum Bytes<'a> {
    File(std::fs::File),
    Memory(&'a [u8]),
}

/// A buffer of tables.
pub struct Buffer<'a> {
    bytes: Bytes<'a>,
    /// Where it begins and ends.
    start: u64,
    end: u64,
    /// What was read last, and where that is.
    page: Cell<(u64, Vec<u8>)>,
    reads: Cell<u32>,
    text: Cell<u64>,
}

/// A table, by its place in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(u64);

/// A vector: its first item's place, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    first: u64,
    pub count: u64,
}

impl<'a> Buffer<'a> {
    /// The buffer of `size` bytes that begins at the byte `start`.
    pub fn new(bytes: Bytes<'a>, start: u64, size: u64) -> Self {
        let end = start.saturating_add(size);
        Self { bytes, start, end, page: Cell::default(), reads: Cell::new(0), text: Cell::new(0) }
    }

    /// The `length` bytes at `at`.
    fn take(&self, at: u64, length: usize) -> Result<Vec<u8>, Stop> {
        let end = at.checked_add(length as u64).filter(|end| at >= self.start && *end <= self.end);
        end.ok_or_else(|| Stop::Malformed("an offset leads out of its buffer".to_owned()))?;
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() > MOST_READS {
            return Err(Stop::TooMuch);
        }
        let file = match &self.bytes {
            Bytes::Memory(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let found = bytes.get(from..from.saturating_add(length));
                return found.map(<[u8]>::to_vec).ok_or(Stop::Truncated);
            }
            Bytes::File(file) => file,
        };
        let (mut from, mut page) = self.page.take();
        let within = |from: u64, page: &[u8]| {
            let offset = usize::try_from(at.checked_sub(from)?).ok()?;
            page.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
        };
        let mut found = within(from, &page);
        if found.is_none() {
            page.resize(length.max(PAGE), 0);
            let mut filled = 0;
            while filled < page.len() {
                match file.read_at(page.get_mut(filled..).unwrap_or_default(), at + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            page.truncate(filled);
            from = at;
            found = within(from, &page);
        }
        self.page.set((from, page));
        found.ok_or(Stop::Truncated)
    }

    /// A number, little end first, of `size` bytes, up to eight.
    fn number(&self, at: u64, size: usize) -> Result<u64, Stop> {
        Ok(self.take(at, size)?.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    /// Where the offset at `at` leads.
    fn follow(&self, at: u64) -> Result<u64, Stop> {
        Ok(at + self.number(at, 4)?)
    }

    /// The table that all others hang from.
    pub fn root(&self) -> Result<Table, Stop> {
        Ok(Table(self.follow(self.start)?))
    }

    /// Where a field is, by its number in the schema; none where the table has none.
    fn field(&self, table: Table, number: u64) -> Result<Option<u64>, Stop> {
        let back = i64::from(self.number(table.0, 4)? as u32 as i32);
        let fields = table.0.checked_add_signed(-back).ok_or(Stop::Truncated)?;
        let size = self.number(fields, 2)?;
        if size < 6 + 2 * number {
            return Ok(None);
        }
        let offset = self.number(fields + 4 + 2 * number, 2)?;
        Ok((offset != 0).then_some(table.0 + offset))
    }

    /// A field of `size` bytes that is a whole number without a sign.
    pub fn unsigned(&self, table: Table, number: u64, size: usize) -> Result<Option<u64>, Stop> {
        self.field(table, number)?.map(|at| self.number(at, size)).transpose()
    }

    /// A field that is a number of four bytes with a sign.
    pub fn signed(&self, table: Table, number: u64) -> Result<Option<i32>, Stop> {
        Ok(self.unsigned(table, number, 4)?.map(|number| number as u32 as i32))
    }

    /// A field that is another table.
    pub fn table(&self, table: Table, number: u64) -> Result<Option<Table>, Stop> {
        Ok(self.field(table, number)?.map(|at| self.follow(at)).transpose()?.map(Table))
    }

    /// A field that is a text. None where it is too long to be one that matters.
    pub fn text(&self, table: Table, number: u64) -> Result<Option<String>, Stop> {
        let Some(at) = self.field(table, number)? else { return Ok(None) };
        self.text_at(self.follow(at)?)
    }

    fn text_at(&self, at: u64) -> Result<Option<String>, Stop> {
        let length = self.number(at, 4)?;
        if length > LONGEST {
            return Ok(None);
        }
        self.text.set(self.text.get() + length);
        if self.text.get() > MOST_TEXT {
            return Err(Stop::TooMuch);
        }
        Ok(Some(String::from_utf8_lossy(&self.take(at + 4, length as usize)?).into_owned()))
    }

    /// A field that is a vector; one of nothing where it is missing.
    pub fn vector(&self, table: Table, number: u64) -> Result<Vector, Stop> {
        let Some(at) = self.field(table, number)? else { return Ok(Vector { first: self.start, count: 0 }) };
        let at = self.follow(at)?;
        Ok(Vector { first: at + 4, count: self.number(at, 4)? })
    }

    /// An item of a vector of numbers of four bytes.
    pub fn item(&self, vector: Vector, index: u64) -> Result<u32, Stop> {
        Ok(self.number(vector.first.saturating_add(index.saturating_mul(4)), 4)? as u32)
    }

    /// The first items, up to `most`, of a vector of numbers of four bytes.
    pub fn items(&self, vector: Vector, most: u64) -> Result<Vec<i32>, Stop> {
        (0..vector.count.min(most)).map(|index| Ok(self.item(vector, index)? as i32)).collect()
    }

    /// A table of a vector of such.
    pub fn member(&self, vector: Vector, index: u64) -> Result<Table, Stop> {
        Ok(Table(self.follow(vector.first.saturating_add(index.saturating_mul(4)))?))
    }

    /// The first bytes, up to `most`, of a field that is a vector of such.
    pub fn bytes(&self, table: Table, number: u64, most: u64) -> Result<Vec<u8>, Stop> {
        let vector = self.vector(table, number)?;
        self.take(vector.first, vector.count.min(most) as usize)
    }

    /// The first tables, up to `most`, of a field that is a vector of such.
    pub fn tables(&self, table: Table, number: u64, most: u64) -> Result<Vec<Table>, Stop> {
        let vector = self.vector(table, number)?;
        (0..vector.count.min(most)).map(|index| self.member(vector, index)).collect()
    }

    /// The first texts, up to `most`, of a field that is a vector of such.
    pub fn texts(&self, table: Table, number: u64, most: u64) -> Result<Vec<String>, Stop> {
        let vector = self.vector(table, number)?;
        let text = |index| Ok(self.text_at(self.follow(vector.first + index * 4)?)?.unwrap_or_default());
        (0..vector.count.min(most)).map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> Buffer<'_> {
        Buffer::new(Bytes::Memory(bytes), 0, bytes.len() as u64)
    }

    /// A table with a number of four bytes, a text, and a field that is missing.
    fn small() -> Vec<u8> {
        let mut bytes = 16_u32.to_le_bytes().to_vec();
        // The fields' offsets, at 4: size, size of the table, three fields.
        [10_u16, 12, 4, 8, 0].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend([0; 2]);
        // The table, at 16.
        bytes.extend(12_i32.to_le_bytes());
        bytes.extend((-7_i32).to_le_bytes());
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(b"ab\0");
        bytes
    }

    #[test]
    fn fields_are_found() {
        let bytes = small();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 5).unwrap();
        for buffer in [buffer(&bytes), Buffer::new(Bytes::File(file), 5, bytes.len() as u64)] {
            let root = buffer.root().unwrap();
            assert_eq!(buffer.signed(root, 0).unwrap(), Some(-7));
            assert_eq!(buffer.text(root, 1).unwrap().as_deref(), Some("ab"));
            assert_eq!(buffer.signed(root, 2).unwrap(), None);
            assert_eq!(buffer.signed(root, 900).unwrap(), None);
            assert_eq!(buffer.vector(root, 2).unwrap().count, 0);
        }
    }

    #[test]
    fn no_offset_leads_out() {
        let whole = small();
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let buffer = buffer(&bytes);
                let Ok(root) = buffer.root() else { continue };
                let _ = buffer.text(root, 1);
                let _ = buffer.texts(root, 1, u64::MAX);
                let _ = buffer.tables(root, 1, u64::MAX);
                let _ = buffer.items(buffer.vector(root, 1).unwrap_or(Vector { first: 0, count: 0 }), u64::MAX);
            }
        }
        // A file that is shorter than it was said to be.
        assert!(matches!(Buffer::new(Bytes::Memory(b"\x01"), 0, 900).root(), Err(Stop::Truncated)));
    }
}
