//! GGUF (ggml's `docs/gguf.md`): counts, keys with values, descriptions of tensors, then the tensors.

use super::About;
use super::feed::{Feed, Stop};

/// Keys, and tensors, that a file may have.
const MOST: u64 = 1 << 20;

/// Keys with short values that are remembered.
const MOST_PROPERTIES: usize = 1000;

/// Lists within lists that are read.
const DEEPEST: u8 = 4;

/// Checks the descriptions against the size of the file.
pub fn read(feed: &mut Feed<'_>, size: u64, about: &mut About) -> Result<(), Stop> {
    feed.skip(4)?;
    let version = feed.number(4)?;
    if !(1..=3).contains(&version) {
        return Err(Stop::Malformed(format!("there is no version {version} of GGUF")));
    }
    let wide = if version == 1 { 4 } else { 8 };
    let (tensors, keys) = (feed.number(wide)?, feed.number(wide)?);
    if tensors > MOST || keys > MOST {
        return Err(Stop::Malformed("it would have more than a million tensors or keys".to_owned()));
    }
    let mut alignment = 32;
    for _ in 0..keys {
        let key = text(feed, wide)?;
        let kind = feed.number(4)?;
        if key.as_deref() == Some(b"general.alignment") && kind == 4 {
            alignment = feed.number(4)?.max(1);
            continue;
        }
        let said = match (kind, fixed(kind)) {
            (8, _) => text(feed, wide)?.map(|text| String::from_utf8_lossy(&text).into_owned()),
            // Whole numbers without a sign; those with one are never less than nothing.
            (0..=5 | 10 | 11, Some(bytes)) => Some(feed.number(bytes as usize)?.to_string()),
            (7, _) => Some((feed.byte()? != 0).to_string()),
            _ => {
                value(feed, kind, wide, 0)?;
                None
            }
        };
        if let (Some(key), Some(said)) = (key, said)
            && about.properties.len() < MOST_PROPERTIES
        {
            about.properties.insert(String::from_utf8_lossy(&key).into_owned(), said);
        }
    }
    about.class = about.properties.get("general.architecture").cloned();
    let mut last = None;
    for _ in 0..tensors {
        text(feed, wide)?;
        let dimensions = feed.number(4)?;
        if dimensions > 8 {
            return Err(Stop::Malformed("a tensor would have more than eight dimensions".to_owned()));
        }
        feed.skip(dimensions * wide as u64 + 4)?;
        last = last.max(Some(feed.number(8)?));
    }
    let data = feed.position().next_multiple_of(alignment);
    match last {
        // Its first byte at the least has to be there.
        Some(offset) if data.saturating_add(offset) >= size => Err(Stop::Truncated),
        _ => Ok(()),
    }
}

/// A text, if it is short enough to be a key.
fn text(feed: &mut Feed<'_>, wide: usize) -> Result<Option<Vec<u8>>, Stop> {
    let length = feed.number(wide)?;
    if length > 256 {
        feed.skip(length)?;
        return Ok(None);
    }
    Ok(Some(feed.take(length as usize)?))
}

fn value(feed: &mut Feed<'_>, kind: u64, wide: usize, depth: u8) -> Result<(), Stop> {
    if let Some(size) = fixed(kind) {
        return feed.skip(size);
    }
    match kind {
        8 => text(feed, wide).map(drop),
        9 if depth < DEEPEST => {
            let (inner, count) = (feed.number(4)?, feed.number(wide)?);
            match fixed(inner) {
                Some(size) => feed.skip(size.saturating_mul(count)),
                None => (0..count).try_for_each(|_| value(feed, inner, wide, depth + 1)),
            }
        }
        other => Err(Stop::Malformed(format!("there is no kind {other} of values"))),
    }
}

fn fixed(kind: u64) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
