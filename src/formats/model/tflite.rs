//! TensorFlow Lite, now LiteRT (`schema.fbs`): a FlatBuffer with `TFL3` at its fifth byte. Signatures are read, or what the
//! first graph takes where there are none.

use std::io;

use super::feed::Stop;
use super::flatbuffer::{Buffer, Bytes, Table, Vector};
use super::{About, Fault, Format, Kind, Model, Origin, Signature, Tensor};

/// Signatures, tensors of one, and axes of a tensor that are remembered.
const MOST: u64 = 1000;

/// Whether it is this format that begins with `head`.
pub fn recognise(head: &[u8]) -> bool {
    head.get(4..8) == Some(b"TFL3")
}

/// Looks into a file of `size` bytes.
pub fn inspect(origin: &Origin<'_>, size: u64) -> io::Result<Model> {
    let mut model = Model::of(Format::TfLite);
    let Some(file) = origin.file(size)? else {
        model.faults.push(Fault::Unread("it is too large to be read out of order".to_owned()));
        return Ok(model);
    };
    let result = read(&Buffer::new(Bytes::File(file), 0, size), &mut model.about);
    model.note(0, result);
    Ok(model)
}

fn read(buffer: &Buffer<'_>, about: &mut About) -> Result<(), Stop> {
    let root = buffer.root()?;
    let graphs = buffer.tables(root, 2, MOST)?;
    for table in buffer.tables(root, 7, MOST)? {
        let graph = buffer.unsigned(table, 4, 4)?.unwrap_or_default();
        let Some(graph) = usize::try_from(graph).ok().and_then(|graph| graphs.get(graph)) else { continue };
        let tensors = buffer.vector(*graph, 0)?;
        let named = |number: u64| {
            let one = |map: &Table| {
                let index = buffer.unsigned(*map, 1, 4)?.unwrap_or_default();
                let found = tensor(buffer, tensors, index)?;
                Ok(Tensor { name: buffer.text(*map, 0)?.unwrap_or_default(), ..found })
            };
            buffer.tables(table, number, MOST)?.iter().map(one).collect::<Result<Vec<_>, Stop>>()
        };
        let name = buffer.text(table, 2)?.unwrap_or_default();
        about.signatures.push(Signature { name, inputs: named(0)?, outputs: named(1)? });
    }
    match (about.signatures.first(), graphs.first()) {
        (Some(signature), _) => {
            (about.inputs, about.outputs) = (signature.inputs.clone(), signature.outputs.clone());
        }
        (None, Some(graph)) => {
            let tensors = buffer.vector(*graph, 0)?;
            let of = |number: u64| {
                let places = buffer.items(buffer.vector(*graph, number)?, MOST)?;
                let one = |place: i32| tensor(buffer, tensors, u64::from(place as u32));
                places.into_iter().map(one).collect::<Result<Vec<_>, Stop>>()
            };
            (about.inputs, about.outputs) = (of(1)?, of(2)?);
        }
        (None, None) => return Err(Stop::Malformed("it has no graph".to_owned())),
    }
    let buffers = buffer.vector(root, 4)?;
    for note in buffer.tables(root, 6, MOST)? {
        let name = buffer.text(note, 0)?.unwrap_or_default();
        let place = buffer.unsigned(note, 1, 4)?.unwrap_or_default();
        if name == "min_runtime_version" && place < buffers.count {
            let bytes = buffer.bytes(buffer.member(buffers, place)?, 0, 64)?;
            let text = String::from_utf8_lossy(&bytes);
            about.properties.insert(name, text.trim_end_matches('\0').to_owned());
        }
    }
    Ok(())
}

/// `Tensor`: its shape, with -1 in its signature where any length will do, its type and name.
fn tensor(buffer: &Buffer<'_>, tensors: Vector, index: u64) -> Result<Tensor, Stop> {
    if index >= tensors.count {
        return Err(Stop::Malformed("it names a tensor that there is not".to_owned()));
    }
    let table = buffer.member(tensors, index)?;
    let signature = buffer.items(buffer.vector(table, 7)?, MOST)?;
    let shape = if signature.is_empty() { buffer.items(buffer.vector(table, 0)?, MOST)? } else { signature };
    Ok(Tensor {
        name: buffer.text(table, 3)?.unwrap_or_default(),
        kind: kind(buffer.unsigned(table, 1, 1)?.unwrap_or_default()),
        shape: shape.into_iter().map(|length| u64::try_from(length).ok()).collect(),
    })
}

/// The type `TensorType`.
fn kind(number: u64) -> Option<Kind> {
    Some(Kind::Number(match number {
        0 => "float32",
        1 => "float16",
        2 => "int32",
        3 => "uint8",
        4 => "int64",
        5 => return Some(Kind::Text),
        6 => "bool",
        7 => "int16",
        9 => "int8",
        10 => "float64",
        12 => "uint64",
        15 => "uint32",
        16 => "uint16",
        _ => return None,
    }))
}
