//! ONNX (`onnx.proto`): a protocol buffer, walked field by field; the weights in it are skipped.

use std::collections::BTreeSet;

use super::feed::{Feed, Stop};
use super::protobuf::{Field, message, pair, text};
use super::{About, Fault, Format, Kind, Model, Tensor};

/// Weights outside of the file that are remembered.
const MOST_BESIDE: usize = 1000;
/// Inputs that are remembered, and axes of each.
const MOST_INPUTS: usize = 1000;
/// Pairs of names and texts that are remembered.
const MOST_PROPERTIES: usize = 1000;

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
    seen.about.inputs = seen.inputs.into_iter().map(named).collect();
    seen.about.outputs = seen.outputs.into_iter().map(named).collect();
    model.about = seen.about;
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
    outputs: Vec<(Vec<u8>, Tensor)>,
    about: About,
}

impl Seen {
    /// Fields of `ModelProto`.
    fn model(&mut self, feed: &mut Feed<'_>, field: Field, end: u64) -> Result<(), Stop> {
        let properties = &mut self.about.properties;
        match field.number {
            1 => {
                self.version = true;
                properties.insert("ir_version".to_owned(), field.value.to_string());
                return Ok(());
            }
            2 => return text(feed, end).map(|name| drop(properties.insert("producer_name".to_owned(), owned(&name)))),
            3 => {
                let version = text(feed, end)?;
                self.about.version = Some(owned(&version)).filter(|version| !version.is_empty());
                return Ok(());
            }
            // Of `OperatorSetIdProto` the domain, which has no name for the usual one, and the version.
            8 if properties.len() < MOST_PROPERTIES => {
                let (mut domain, mut version) = (Vec::new(), 0);
                message(feed, end, &mut |feed, field, end| {
                    match field.number {
                        1 => domain = text(feed, end)?,
                        2 => version = field.value,
                        _ => {}
                    }
                    feed.skip(end - feed.position())
                })?;
                properties.insert(format!("opset {}", owned(&domain)).trim_end().to_owned(), version.to_string());
                return Ok(());
            }
            14 if properties.len() < MOST_PROPERTIES => {
                let (key, value) = pair(feed, end)?;
                properties.insert(key, value);
                return Ok(());
            }
            7 => self.graph = true,
            _ => return feed.skip(end - feed.position()),
        }
        // Of `GraphProto`, the initializers, the inputs and the outputs.
        message(feed, end, &mut |feed, field, end| match field.number {
            5 => self.weight(feed, end),
            11 if self.inputs.len() < MOST_INPUTS => value(feed, end).map(|input| self.inputs.push(input)),
            12 if self.outputs.len() < MOST_INPUTS => value(feed, end).map(|output| self.outputs.push(output)),
            _ => feed.skip(end - feed.position()),
        })
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
            let (key, name) = pair(feed, end)?;
            if key == "location" && self.beside.len() < MOST_BESIDE && !self.beside.contains(&name) {
                self.beside.push(name);
            }
            Ok(())
        })
    }
}

fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `ValueInfoProto`: a name and a type, which for a tensor is that of its elements, and a shape.
fn value(feed: &mut Feed<'_>, end: u64) -> Result<(Vec<u8>, Tensor), Stop> {
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
    Ok((name, tensor))
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
