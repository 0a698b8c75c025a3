//! Protocol buffers (<https://protobuf.dev/programming-guides/encoding/>), walked field by field without a schema; what
//! nobody looks at is skipped.

use super::feed::{Feed, Stop};

/// Largest text that is read, in bytes.
const LONGEST: u64 = 4096;

/// A field of a message.
#[derive(Clone, Copy)]
pub struct Field {
    /// Its number in the schema.
    pub number: u64,
    /// Of one that is a number.
    pub value: u64,
}

/// Walks the fields of a message that ends at `end`; `each` gets numbers, and those with a length, and has to go to their
/// end.
pub fn message(
    feed: &mut Feed<'_>,
    end: u64,
    each: &mut dyn FnMut(&mut Feed<'_>, Field, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    while feed.position() < end {
        let tag = varint(feed)?;
        let field = Field { number: tag >> 3, value: 0 };
        match tag & 7 {
            0 => {
                let value = varint(feed)?;
                each(feed, Field { value, ..field }, feed.position())?;
            }
            1 => feed.skip(8)?,
            2 => {
                let length = varint(feed)?;
                let inner = feed.position().checked_add(length).filter(|inner| *inner <= end);
                each(feed, field, inner.ok_or(Stop::Truncated)?)?;
            }
            5 => feed.skip(4)?,
            _ => return Err(Stop::Malformed("it is no protocol buffer".to_owned())),
        }
        if feed.position() > end {
            return Err(Stop::Truncated);
        }
    }
    Ok(())
}

fn varint(feed: &mut Feed<'_>) -> Result<u64, Stop> {
    let mut number = 0_u64;
    for place in 0..10 {
        let byte = feed.byte()?;
        number |= u64::from(byte & 0x7f).checked_shl(7 * place).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Stop::Malformed("it is no protocol buffer".to_owned()))
}

/// A text that goes to `end`; an empty one for what is too long for a name.
pub fn text(feed: &mut Feed<'_>, end: u64) -> Result<Vec<u8>, Stop> {
    match end - feed.position() {
        length @ 0..=LONGEST => feed.take(length as usize),
        length => feed.skip(length).map(|()| Vec::new()),
    }
}

/// A pair of texts, as an entry of a map of them is one.
pub fn pair(feed: &mut Feed<'_>, end: u64) -> Result<(String, String), Stop> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    message(feed, end, &mut |feed, field, end| match field.number {
        1 => text(feed, end).map(|text| key = text),
        2 => text(feed, end).map(|text| value = text),
        _ => feed.skip(end - feed.position()),
    })?;
    let owned = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((owned(key), owned(value)))
}
