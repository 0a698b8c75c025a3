//! Documents that lie in the folder of a model.

use std::path::Path;

use serde_json::Value as Json;

use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{Document, MAX_BYTES, shown};

/// A document of the folder's, as far as it can be read.
pub fn read(path: &Path) -> Option<Json> {
    let document = Document::read(path, &shown(path), MAX_BYTES, &mut Diagnostics::new())?;
    Some(document.root.to_json())
}

/// The text at a place of a document.
pub fn text<'a>(value: &'a Json, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// Whether one of these is in a folder.
pub fn has_any(folder: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| folder.join(name).is_file())
}
