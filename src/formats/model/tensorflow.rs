//! TensorFlow's SavedModel (`saved_model.proto`, `meta_graph.proto`): a folder with a protocol buffer in `saved_model.pb`,
//! of which the signatures are read, and the graph is skipped.

use std::io;
use std::path::Path;

use fs_err as fs;

use super::feed::{Feed, OnDisk, Stop};
use super::protobuf::{Field, message, text};
use super::{About, Fault, Format, Kind, Model, Signature, Tensor};

/// The file that makes a folder a SavedModel.
pub const NAME: &str = "saved_model.pb";

/// The signature that is called where none is named.
const DEFAULT: &str = "serving_default";

/// Signatures, tensors of one, and axes of a tensor that are remembered.
const MOST: usize = 1000;

/// Looks into the folder of a SavedModel.
///
/// # Errors
/// When the disk says no.
pub fn saved_model(folder: &Path) -> io::Result<Model> {
    let file = fs::File::open(folder.join(NAME))?;
    let size = file.metadata()?.len();
    Ok(inspect(&mut Feed::new(OnDisk::new(file)?), size))
}

fn inspect(feed: &mut Feed<'_>, size: u64) -> Model {
    let mut model = Model::of(Format::SavedModel);
    let about = &mut model.about;
    let mut graphs = 0;
    let result = message(feed, size, &mut |feed, field, end| match field.number {
        2 => {
            graphs += 1;
            meta_graph(feed, end, about)
        }
        _ => feed.skip(end - feed.position()),
    });
    model.note(feed.position(), result);
    if model.faults.is_empty() && graphs == 0 {
        model.faults.push(Fault::Broken(0, "it is no SavedModel: it has no graph".to_owned()));
    }
    let signatures = &model.about.signatures;
    let chosen = signatures.iter().find(|signature| signature.name == DEFAULT).or_else(|| signatures.first()).cloned();
    if let Some(chosen) = chosen {
        (model.about.inputs, model.about.outputs) = (chosen.inputs, chosen.outputs);
    }
    model
}

/// `MetaGraphDef`: what it is, and its signatures.
fn meta_graph(feed: &mut Feed<'_>, end: u64, about: &mut About) -> Result<(), Stop> {
    message(feed, end, &mut |feed, field, end| match field.number {
        1 => message(feed, end, &mut |feed, field, end| match field.number {
            5 => {
                let version = text(feed, end)?;
                about.version = Some(String::from_utf8_lossy(&version).into_owned()).filter(|v| !v.is_empty());
                Ok(())
            }
            _ => feed.skip(end - feed.position()),
        }),
        5 if about.signatures.len() < MOST => {
            let mut signature = Signature::default();
            entry(feed, end, &mut signature.name, &mut |feed, field, end| {
                let tensors = match field.number {
                    1 => &mut signature.inputs,
                    2 => &mut signature.outputs,
                    _ => return feed.skip(end - feed.position()),
                };
                let mut tensor = Tensor::default();
                let Tensor { name, kind, shape } = &mut tensor;
                entry(feed, end, name, &mut |feed, field, end| info(feed, field, end, kind, shape))?;
                tensors.extend(Some(tensor).filter(|_| tensors.len() < MOST));
                Ok(())
            })?;
            // The order of a map is no one's; what only sets up the model is not for others.
            signature.inputs.sort_by(|a, b| a.name.cmp(&b.name));
            signature.outputs.sort_by(|a, b| a.name.cmp(&b.name));
            if !signature.name.starts_with("__saved_model") {
                about.signatures.push(signature);
                about.signatures.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Ok(())
        }
        _ => feed.skip(end - feed.position()),
    })
}

/// An entry of a map: its key, and the fields of its value.
fn entry(
    feed: &mut Feed<'_>,
    end: u64,
    key: &mut String,
    each: &mut dyn FnMut(&mut Feed<'_>, Field, u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    message(feed, end, &mut |feed, field, end| match field.number {
        1 => text(feed, end).map(|text| *key = String::from_utf8_lossy(&text).into_owned()),
        2 => message(feed, end, each),
        _ => feed.skip(end - feed.position()),
    })
}

/// `TensorInfo`: a type, and a shape with -1 where any length will do.
fn info(
    feed: &mut Feed<'_>,
    field: Field,
    end: u64,
    kind: &mut Option<Kind>,
    shape: &mut Vec<Option<u64>>,
) -> Result<(), Stop> {
    match field.number {
        2 => *kind = kind_of(field.value),
        3 => message(feed, end, &mut |feed, field, end| {
            if field.number != 2 {
                return feed.skip(end - feed.position());
            }
            // A length of zero is left out.
            let mut length = 0;
            message(feed, end, &mut |feed, field, end| {
                length = if field.number == 1 { field.value as i64 } else { length };
                feed.skip(end - feed.position())
            })?;
            shape.extend(Some(u64::try_from(length).ok()).filter(|_| shape.len() < MOST));
            Ok(())
        })?,
        _ => {}
    }
    feed.skip(end - feed.position())
}

/// The type `DataType` of `types.proto`.
fn kind_of(number: u64) -> Option<Kind> {
    Some(Kind::Number(match number {
        1 => "float32",
        2 => "float64",
        3 => "int32",
        4 => "uint8",
        5 => "int16",
        6 => "int8",
        7 => return Some(Kind::Text),
        9 => "int64",
        10 => "bool",
        17 => "uint16",
        19 => "float16",
        22 => "uint32",
        23 => "uint64",
        _ => return None,
    }))
}
