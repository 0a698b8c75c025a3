//! Models in zip archives: PyTorch's, Keras 3's, skops' and NumPy's.
//!
//! The central directory says what there is, as it does for those who load them. Members that are stored or deflated
//! are read as streams; what is no pickle, array or description is not read at all.

use std::io::Read;

use super::feed::{Feed, Stream};
use super::outline::{self, Syntax};
use super::{Fault, Format, MOST_DECOMPRESSED, Model, hdf5, is_pickle, keras, numpy, pickled, skops, torch};

/// Members that are looked at.
const MOST: usize = 200_000;

/// Bytes of Keras's description of a model that are read.
const MOST_DESCRIPTION: u64 = 16 << 20;

/// Looks into an archive whose name ends in `ending`.
pub fn read(file: std::fs::File, ending: &str) -> Model {
    let mut archive = match zip::ZipArchive::new(std::io::BufReader::new(file)) {
        Ok(archive) => archive,
        Err(error) => {
            let mut model = Model::of(Format::Zip);
            model.faults.push(Fault::Broken(0, format!("the zip archive cannot be read: {error}")));
            return model;
        }
    };
    let names: Vec<String> =
        archive.file_names().take(MOST + 1).map(|name| name.map(String::from).unwrap_or_default()).collect();
    let has = |end: &str| names.iter().any(|name| name == end || name.ends_with(&format!("/{end}")));
    let program = |name: &&String| {
        name.ends_with("/models/model.json") || name.rsplit('/').next() == Some("serialized_exported_program.json")
    };
    let exported = names.iter().find(program).filter(|_| has("archive_format") || has("version")).cloned();
    let format = match ending {
        _ if exported.is_some() => Format::TorchExport,
        _ if has("constants.pkl") && names.iter().any(|name| name.contains("/code/")) => Format::TorchScript,
        _ if has("data.pkl") || has("constants.pkl") => Format::PyTorch,
        "keras" => Format::Keras,
        _ if has("config.json") && has("metadata.json") && has("model.weights.h5") => Format::Keras,
        _ if names.iter().any(|name| name == skops::SCHEMA) && is_skops(&mut archive) => Format::Skops,
        _ if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) => Format::NumpyZip,
        _ => Format::Zip,
    };
    let mut model = Model::of(format);
    if names.len() > MOST {
        model.faults.push(Fault::Unread(format!("it has more than {MOST} members")));
    }
    if format == Format::Skops {
        skops::read(&mut archive, &mut model);
    }
    for index in 0..archive.len().min(MOST) {
        let mut member = match archive.by_index(index) {
            Ok(member) => member,
            Err(error) => {
                model.faults.push(Fault::Broken(0, format!("a member cannot be read: {error}")));
                continue;
            }
        };
        let name = member.name().map_or_else(|_| format!("number {index}"), String::from);
        let ending = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let mut head = Vec::new();
        // A weight of PyTorch's is named by a number, and is not read beyond its first bytes.
        if let Err(error) = (&mut member).take(6).read_to_end(&mut head) {
            model.faults.push(Fault::Broken(0, format!("the member `{name}` cannot be read: {error}")));
            continue;
        }
        let size = member.size();
        let whole = std::io::Cursor::new(head.clone()).chain(member).take(MOST_DECOMPRESSED);
        let named = matches!(ending.as_str(), "pkl" | "pickle" | "joblib" | "dat" | "data" | "p");
        if head.starts_with(b"\x93NUMPY") {
            numpy::read(&mut Feed::new(Stream(whole)), Some(size), Some(name), &mut model);
        } else if named || matches!(head.as_slice(), [0x80, 0..=5, ..]) {
            let found = pickled(&mut Feed::new(Stream(whole)), Format::Pickle);
            let certain = matches!(ending.as_str(), "pkl" | "pickle" | "joblib");
            if certain || is_pickle(&found) {
                model.pickles.extend(found.pickles.into_iter().map(|(_, pickles)| (Some(name.clone()), pickles)));
                model.faults.extend(found.faults);
            }
        } else if ending == "json" && format == Format::Keras {
            let mut text = Vec::new();
            if whole.take(MOST_DESCRIPTION).read_to_end(&mut text).is_err() {
                continue;
            }
            if hdf5::has_lambda(&text) {
                model.faults.push(Fault::Code(hdf5::LAMBDA.to_owned()));
            }
            let found = outline::read(&mut Feed::new(Stream(&text[..])), Syntax::Json, &|_| true).root;
            match name.as_str() {
                "config.json" => keras::describe(&found, &mut model.about),
                "metadata.json" => {
                    model.about.version = found.get("keras_version").and_then(|v| v.as_str()).map(str::to_owned);
                }
                _ => {}
            }
        }
    }
    match (format, exported) {
        (Format::TorchExport, Some(name)) => torch::exported(&mut archive, &name, &mut model),
        (Format::TorchScript, _) => {
            let end = "constants.pkl";
            let folder = names.iter().find_map(|name| name.strip_suffix(end)).unwrap_or_default();
            torch::script(&mut archive, folder, &mut model);
        }
        (Format::PyTorch, _) => torch::tensors(&mut model),
        _ => {}
    }
    model
}

fn is_skops(archive: &mut zip::ZipArchive<std::io::BufReader<std::fs::File>>) -> bool {
    let mut head = Vec::new();
    let Ok(member) = archive.by_name(skops::SCHEMA) else { return false };
    member.take(4096).read_to_end(&mut head).is_ok() && skops::is_schema(&head)
}
