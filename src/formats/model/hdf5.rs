//! HDF5 (file format specification 3.0, section II.A), as Keras 2 writes its models: whether it is whole, and whether it
//! holds a layer of code.

use std::io::Read;

use super::feed::{Feed, Stop, Stream};
use super::outline::{self, Syntax};
use super::{Fault, Format, Model, Origin, keras};

/// Bytes at the beginning of a file that are searched for the description of its layers.
const SEARCHED: u64 = 16 << 20;

/// What is said of a Lambda layer, wherever it is found.
pub const LAMBDA: &str = "it has a Lambda layer, which is marshalled Python code";

/// Looks into a file of `size` bytes.
pub fn read(origin: &Origin<'_>, size: u64) -> std::io::Result<Model> {
    let mut model = Model::of(Format::Hdf5);
    let mut feed = origin.feed()?;
    match end(&mut feed) {
        Ok(end) if end > size => model.note(size, Err(Stop::Truncated)),
        Ok(_) => {}
        Err(stop) => model.note(feed.position(), Err(stop)),
    }
    let mut text = Vec::new();
    origin.read()?.take(SEARCHED).read_to_end(&mut text)?;
    if has_lambda(&text) {
        model.faults.push(Fault::Code(LAMBDA.to_owned()));
    }
    describe(&text, &mut model);
    Ok(model)
}

/// Attributes of the root: texts lie together, so that the version of Keras comes shortly before its description.
fn describe(text: &[u8], model: &mut Model) {
    let find = |sign: &[u8]| text.windows(sign.len()).position(|window| window == sign);
    let Some(at) = find(b"{\"class_name\": \"").or_else(|| find(b"{\"module\": \"keras")) else { return };
    let rest = text.get(at..).unwrap_or_default();
    let config = outline::read(&mut Feed::new(Stream(rest)), Syntax::Json, &|_| true);
    if config.root.pointer("/config").is_none() {
        return;
    }
    keras::describe(&config.root, &mut model.about);
    let before = text.get(at.saturating_sub(4096)..at).unwrap_or_default();
    let mut numbers = before.split(|byte| !(byte.is_ascii_digit() || *byte == b'.'));
    let is_version = |part: &&[u8]| {
        part.len() < 16 && part.split(|byte| *byte == b'.').filter(|number| !number.is_empty()).count() == 3
    };
    if find(b"keras_version").is_some() {
        model.about.version = numbers.rfind(is_version).and_then(|v| String::from_utf8(v.to_vec()).ok());
    }
}

/// Whether Keras's description of a model, which is JSON, names a Lambda layer.
pub fn has_lambda(text: &[u8]) -> bool {
    ["\"class_name\": \"Lambda\"", "\"class_name\":\"Lambda\""]
        .iter()
        .any(|sign| text.windows(sign.len()).any(|window| window == sign.as_bytes()))
}

/// Where the file ends, by its superblock.
fn end(feed: &mut Feed<'_>) -> Result<u64, Stop> {
    feed.skip(8)?;
    let version = feed.byte()?;
    let wide = match version {
        0 | 1 => {
            feed.skip(4)?;
            let wide = feed.byte()?;
            feed.skip(if version == 0 { 10 } else { 14 })?;
            wide
        }
        2 | 3 => {
            let wide = feed.byte()?;
            feed.skip(2)?;
            wide
        }
        other => return Err(Stop::Malformed(format!("there is no version {other} of its superblock"))),
    };
    if !matches!(wide, 2 | 4 | 8) {
        return Err(Stop::Malformed("its addresses have no size that there is".to_owned()));
    }
    // The base address and another one come before.
    feed.skip(2 * u64::from(wide))?;
    feed.number(usize::from(wide))
}
