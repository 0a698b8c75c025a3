//! ONNX (`onnx.proto`): a protocol buffer, walked field by field; the weights in it are skipped.

use super::feed::{Feed, Stop};
use super::{Fault, Format, Model};

/// Weights outside of the file that are remembered.
const MOST_BESIDE: usize = 1000;

/// Looks into a file that is named as one.
pub fn inspect(feed: &mut Feed<'_>, size: u64) -> Model {
    let mut model = Model::of(Format::Onnx);
    let mut seen = Seen::default();
    let result = message(feed, size, &mut |feed, field, end| seen.model(feed, field, end));
    model.note(feed.position(), result);
    if model.faults.is_empty() && !(seen.version && seen.graph) {
        model.faults.push(Fault::Broken(0, "it is no ONNX model: it has no version or no graph".to_owned()));
    }
    model.beside = seen.beside;
    model
}

#[derive(Default)]
struct Seen {
    version: bool,
    graph: bool,
    beside: Vec<String>,
}

impl Seen {
    /// Fields of `ModelProto`.
    fn model(&mut self, feed: &mut Feed<'_>, field: Field, end: u64) -> Result<(), Stop> {
        self.version |= field.number == 1;
        if field.number != 7 {
            return feed.skip(end - feed.position());
        }
        self.graph = true;
        // Of `GraphProto`, the initializers.
        message(feed, end, &mut |feed, field, end| match field.number {
            5 => self.tensor(feed, end),
            _ => feed.skip(end - feed.position()),
        })
    }

    /// `TensorProto`: its `external_data` are pairs of key and value, of which `location` names a file.
    fn tensor(&mut self, feed: &mut Feed<'_>, end: u64) -> Result<(), Stop> {
        message(feed, end, &mut |feed, field, end| {
            if field.number != 13 {
                return feed.skip(end - feed.position());
            }
            let (mut key, mut value) = (Vec::new(), Vec::new());
            message(feed, end, &mut |feed, field, end| {
                let length = end - feed.position();
                match field.number {
                    1 | 2 if length <= 4096 => {
                        let bytes = feed.take(length as usize)?;
                        *if field.number == 1 { &mut key } else { &mut value } = bytes;
                        Ok(())
                    }
                    _ => feed.skip(length),
                }
            })?;
            if key == b"location" && self.beside.len() < MOST_BESIDE {
                let name = String::from_utf8_lossy(&value).into_owned();
                if !self.beside.contains(&name) {
                    self.beside.push(name);
                }
            }
            Ok(())
        })
    }
}

#[derive(Clone, Copy)]
struct Field {
    number: u64,
}

/// Walks the fields of a message that ends at `end`; `each` gets those with a length, and has to go to their end.
fn message(
    feed: &mut Feed<'_>,
    end: u64,
    each: &mut dyn FnMut(&mut Feed<'_>, Field, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    while feed.position() < end {
        let tag = varint(feed)?;
        let field = Field { number: tag >> 3 };
        match tag & 7 {
            0 => {
                varint(feed)?;
                each(feed, field, feed.position())?;
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
