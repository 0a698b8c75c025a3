//! Safetensors: the length of a JSON header, the header, then the tensors without gaps (the format's README).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::feed::{Feed, Stop};
use super::{About, Kind, Tensor};

/// The longest header that is read, in bytes. The format allows 100 MB; a header of 32 MiB describes 300,000 tensors.
const MOST: u64 = 32 << 20;

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor { dtype: String, shape: Vec<u64>, data_offsets: (u64, u64) },
    Metadata(BTreeMap<String, String>),
    Other(serde::de::IgnoredAny),
}

/// Whether a file of `size` bytes begins as one.
pub fn begins(head: &[u8], size: u64) -> bool {
    match head {
        [a, b, c, d, e, f, g, h, b'{', b'"', ..] => {
            let length = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (2..=size).contains(&length)
        }
        _ => false,
    }
}

/// Checks the header against the size of the file.
pub fn read(feed: &mut Feed<'_>, size: u64, about: &mut About) -> Result<(), Stop> {
    let length = feed.number(8)?;
    if length > size.saturating_sub(8) {
        return Err(Stop::Truncated);
    }
    if length > MOST {
        return Err(Stop::Malformed(format!("its header would have {length} bytes")));
    }
    let header = feed.take(length as usize)?;
    let wrong = |what: String| Stop::Malformed(what);
    let entries: BTreeMap<String, Entry> =
        serde_json::from_slice(&header).map_err(|error| wrong(format!("its header is no JSON of tensors: {error}")))?;
    drop(header);
    let mut places = Vec::new();
    for (name, entry) in &entries {
        match entry {
            Entry::Tensor { dtype, shape, data_offsets: (start, end) } => {
                let name: String = name.chars().take(80).collect();
                let items = shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length));
                let bits = bits(dtype).ok_or_else(|| wrong(format!("the tensor `{name}` has an unknown type")))?;
                let bytes = items.and_then(|items| items.checked_mul(bits)).map(|bits| bits.div_ceil(8));
                if end.checked_sub(*start) != bytes || bytes.is_none() {
                    return Err(wrong(format!("the tensor `{name}` has another size than its shape")));
                }
                places.push((*start, *end));
                let kind = kind(dtype).map(Kind::Number);
                about.weights.push(Tensor { name, kind, shape: shape.iter().copied().map(Some).collect() });
            }
            Entry::Metadata(said) if name == "__metadata__" => {
                let texts = said.iter().map(|(name, value)| (name.clone(), value.clone()));
                about.properties.extend(texts.take(1000));
            }
            Entry::Other(_) if name == "__metadata__" => {}
            Entry::Metadata(_) | Entry::Other(_) => {
                return Err(wrong("an entry of its header is no tensor".to_owned()));
            }
        }
    }
    places.sort_unstable();
    let mut at = 0;
    for (start, end) in places {
        if start != at {
            return Err(wrong("its tensors overlap, or have a gap between them".to_owned()));
        }
        at = end;
    }
    let data = size - 8 - length;
    match at.cmp(&data) {
        std::cmp::Ordering::Greater => Err(Stop::Truncated),
        std::cmp::Ordering::Less => Err(wrong("bytes follow its last tensor".to_owned())),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// The type as NumPy calls it, where it has it.
fn kind(dtype: &str) -> Option<&'static str> {
    Some(match dtype {
        "BOOL" => "bool",
        "U8" => "uint8",
        "I8" => "int8",
        "I16" => "int16",
        "U16" => "uint16",
        "F16" => "float16",
        "I32" => "int32",
        "U32" => "uint32",
        "F32" => "float32",
        "I64" => "int64",
        "U64" => "uint64",
        "F64" => "float64",
        _ => return None,
    })
}

fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" | "F4_E2M1" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}
