//! ONNX (`onnx.proto`): a protocol buffer, walked field by field; the weights in it are skipped.

use std::collections::BTreeSet;

use super::feed::{Feed, Stop};
use super::{Fault, Format, Kind, Model, Tensor};

/// Weights outside of the file that are remembered.
const MOST_BESIDE: usize = 1000;
/// Inputs that are remembered, and axes of each.
const MOST_INPUTS: usize = 1000;
/// Largest name that is read, in bytes.
const LONGEST: u64 = 4096;

/// Looks into a file that is named as one.
pub fn inspect(feed: &mut Feed<'_>, size: u64) -> Model {
    let mut model = Model::of(Format::Onnx);
    let mut seen = Seen::default();
    let result = message(feed, size, &mut |feed, field, end| seen.model(feed, field, end));
    model.note(feed.position(), result);
    if model.faults.is_empty() && !(seen.version && seen.graph) {
        model.faults.push(Fault::Broken(0, "it is no ONNX model: it has no version or no graph".to_owned()));
    }
    // Until version 4 of the format, a weight is an input with a value.
    seen.inputs.retain(|(name, _)| !seen.weights.contains(name));
    let named =
        |(name, tensor): (Vec<u8>, Tensor)| Tensor { name: String::from_utf8_lossy(&name).into_owned(), ..tensor };
    model.about.inputs = seen.inputs.into_iter().map(named).collect();
    model.beside = seen.beside;
    model
}

#[derive(Default)]
struct Seen {
    version: bool,
    graph: bool,
    beside: Vec<String>,
    weights: BTreeSet<Vec<u8>>,
    inputs: Vec<(Vec<u8>, Tensor)>,
}

impl Seen {
    /// Fields of `ModelProto`.
    fn model(&mut self, feed: &mut Feed<'_>, field: Field, end: u64) -> Result<(), Stop> {
        self.version |= field.number == 1;
        if field.number != 7 {
            return feed.skip(end - feed.position());
        }
        self.graph = true;
        // Of `GraphProto`, the initializers and the inputs.
        message(feed, end, &mut |feed, field, end| match field.number {
            5 => self.weight(feed, end),
            11 if self.inputs.len() < MOST_INPUTS => self.input(feed, end),
            _ => feed.skip(end - feed.position()),
        })
    }

    /// `ValueInfoProto`: a name and a type, which for a tensor is that of its elements, and a shape.
    fn input(&mut self, feed: &mut Feed<'_>, end: u64) -> Result<(), Stop> {
        let (mut name, mut tensor) = (Vec::new(), Tensor::default());
        message(feed, end, &mut |feed, field, end| match field.number {
            1 => text(feed, end).map(|text| name = text),
            2 => message(feed, end, &mut |feed, field, end| match field.number {
                1 => message(feed, end, &mut |feed, field, end| match field.number {
                    1 => {
                        tensor.kind = kind(field.value);
                        Ok(())
                    }
                    2 => message(feed, end, &mut |feed, _, end| {
                        let mut size = None;
                        message(feed, end, &mut |feed, field, end| {
                            size = if field.number == 1 { Some(field.value) } else { size };
                            feed.skip(end - feed.position())
                        })?;
                        tensor.shape.extend(Some(size).filter(|_| tensor.shape.len() < MOST_INPUTS));
                        Ok(())
                    }),
                    _ => feed.skip(end - feed.position()),
                }),
                _ => feed.skip(end - feed.position()),
            }),
            _ => feed.skip(end - feed.position()),
        })?;
        self.inputs.push((name, tensor));
        Ok(())
    }

    /// `TensorProto`: a name; and its `external_data` are pairs of key and value, of which `location` names a file.
    fn weight(&mut self, feed: &mut Feed<'_>, end: u64) -> Result<(), Stop> {
        message(feed, end, &mut |feed, field, end| {
            if field.number == 8 && self.weights.len() < MOST_INPUTS {
                self.weights.insert(text(feed, end)?);
                return Ok(());
            }
            if field.number != 13 {
                return feed.skip(end - feed.position());
            }
            let (mut key, mut value) = (Vec::new(), Vec::new());
            message(feed, end, &mut |feed, field, end| match field.number {
                1 => text(feed, end).map(|text| key = text),
                2 => text(feed, end).map(|text| value = text),
                _ => feed.skip(end - feed.position()),
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

/// A text that goes to `end`; an empty one for what is too long for a name.
fn text(feed: &mut Feed<'_>, end: u64) -> Result<Vec<u8>, Stop> {
    match end - feed.position() {
        length @ 0..=LONGEST => feed.take(length as usize),
        length => feed.skip(length).map(|()| Vec::new()),
    }
}

/// The type `TensorProto.DataType`.
fn kind(number: u64) -> Option<Kind> {
    Some(Kind::Number(match number {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        8 => return Some(Kind::Text),
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        _ => return None,
    }))
}

#[derive(Clone, Copy)]
struct Field {
    number: u64,
    /// Of one that is a number.
    value: u64,
}

/// Walks the fields of a message that ends at `end`; `each` gets numbers, and those with a length, and has to go to their
/// end.
fn message(
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
