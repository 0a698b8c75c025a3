//! NumPy's arrays (NEP 1, `numpy/lib/format.py`): a header in Python's syntax, then the items, or a pickle of them.

use super::feed::{Feed, Stop};
use super::{Model, pickle};

/// The longest header that is read, in bytes. NumPy itself refuses more than 10,000 unless told otherwise.
const MOST: u64 = 1 << 20;

/// Reads an array of `size` bytes in all, if that is known, which is the member `name` of an archive, if of one.
pub fn read(feed: &mut Feed<'_>, size: Option<u64>, name: Option<String>, model: &mut Model) {
    let result = header(feed);
    match result {
        Ok(header) if header.has_objects() => {
            let mut pickles = pickle::read(feed);
            if let Some((at, stop)) = pickles.broken.take() {
                model.note(at, Err(stop));
            }
            model.pickles.push((name, pickles));
        }
        Ok(Header { bytes: Some(bytes), .. }) => {
            let left = size.map(|size| size.saturating_sub(feed.position()));
            if left.is_some_and(|left| left < bytes) {
                model.note(feed.position(), Err(Stop::Truncated));
            }
        }
        Ok(_) => {}
        Err(stop) => model.note(feed.position(), Err(stop)),
    }
}

/// What an array says of itself.
pub struct Header {
    /// The type of its items, as `<f8`; none where it is made of several, of which some are objects: `V` where none is.
    pub kind: Option<String>,
    /// Its lengths.
    pub shape: Option<Vec<u64>>,
    /// Of all items; none where the type is made of several.
    pub bytes: Option<u64>,
}

impl Header {
    /// Whether its items are pickled.
    fn has_objects(&self) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind.trim_start_matches(['|', '<', '>', '=']).starts_with('O'))
    }
}

/// Reads what comes before the items.
pub fn header(feed: &mut Feed<'_>) -> Result<Header, Stop> {
    feed.skip(6)?;
    let major = feed.byte()?;
    feed.skip(1)?;
    let length = feed.number(if major == 1 { 2 } else { 4 })?;
    if length > MOST || !(1..=3).contains(&major) {
        return Err(Stop::Malformed("the header of the array cannot be read".to_owned()));
    }
    let text = feed.take(length as usize)?;
    let text = String::from_utf8_lossy(&text);
    let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':', '"', '\'']));
    let malformed = || Stop::Malformed("the header of the array cannot be read".to_owned());
    let description = after("descr").ok_or_else(malformed)?;
    let shape = after("shape").ok_or_else(malformed)?;
    let kind = if description.starts_with('[') {
        let fields = description.split(']').next().unwrap_or_default();
        let objects = fields.contains("O'") || description.contains("|O");
        (!objects).then(|| "V".to_owned())
    } else {
        Some(description.split(['\'', '"']).next().unwrap_or_default().to_owned())
    };
    let item = || {
        let letters = kind.as_deref()?.trim_start_matches(['|', '<', '>', '=']);
        let count: u64 = letters.get(1..)?.split('[').next()?.parse().ok()?;
        Some(if letters.starts_with('U') { count.checked_mul(4)? } else { count })
    };
    let lengths = || {
        let inner = shape.strip_prefix('(')?.split(')').next()?;
        let lengths = inner.split(',').map(str::trim).filter(|length| !length.is_empty());
        lengths.map(|length| length.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    };
    let shape = lengths();
    let items = shape.as_ref().zip(item());
    let bytes = items.and_then(|(shape, item)| shape.iter().try_fold(item, |all, length| all.checked_mul(*length)));
    Ok(Header { kind, shape, bytes })
}
