//! Outlines of documents in JSON (RFC 8259) and in Universal Binary JSON (<https://ubjson.org>, draft 12): what they hold
//! but for what nobody asks for, read as streams.
//!
//! Invariants: bounded memory ([`MOST_VALUES`], [`MOST_TEXT`], [`DEEPEST`]); what was read before an error stays; arrays of
//! numbers that are skipped in Universal Binary JSON are not read.

use serde_json::{Map, Value as Json};

use super::feed::{Feed, Stop};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    Json,
    UniversalBinary,
}

/// Values that are kept of one document.
const MOST_VALUES: usize = 400_000;

/// Bytes of texts that are kept of one document.
const MOST_TEXT: usize = 32 << 20;

/// The longest text that is kept, in bytes. In the place of a longer one is null.
const LONGEST: u64 = 1 << 20;

/// Containers within containers that are kept.
const DEEPEST: usize = 256;

/// Containers within containers that are passed.
const DEEPEST_PASSED: usize = 1 << 16;

/// What a document holds, as far as it was read.
#[derive(Debug, Default)]
pub struct Outline {
    /// Without what was skipped.
    pub root: Json,
    /// Why reading ended before the end of the document.
    pub stop: Option<Stop>,
}

/// Reads the document that begins here. What `is_wanted` is not said of, by its name, is left out wherever it stands.
pub fn read(feed: &mut Feed<'_>, syntax: Syntax, is_wanted: &dyn Fn(&str) -> bool) -> Outline {
    let mut parser = Parser { feed, syntax, frames: Vec::new() };
    let mut made = Made::default();
    loop {
        match parser.next(made.skipped.is_none()) {
            Ok(event) => {
                let depth = parser.frames.len();
                if let Err(stop) = made.take(event, depth, is_wanted) {
                    return Outline { root: made.root(), stop: Some(stop) };
                }
                if depth == 0 {
                    let stop = made.cut.then_some(Stop::TooMuch);
                    return Outline { root: made.root(), stop };
                }
            }
            Err(stop) => return Outline { root: made.root(), stop: Some(stop) },
        }
    }
}

#[derive(Debug)]
enum Event {
    Map,
    List,
    End,
    /// The name of the next value of a map.
    Name(String),
    Value(Json),
}

/// The containers that are open, and what is in them so far.
#[derive(Default)]
struct Made {
    open: Vec<(String, Json)>,
    name: String,
    /// How deep the container is that is skipped, with all that is in it.
    skipped: Option<usize>,
    /// Whether the next value is skipped.
    unwanted: bool,
    done: Option<Json>,
    /// Whether something was left out that is wanted, as it lies too deep or is too long.
    cut: bool,
    values: usize,
    text: usize,
}

impl Made {
    /// Takes what was read, after which `depth` containers are open.
    fn take(&mut self, event: Event, depth: usize, is_wanted: &dyn Fn(&str) -> bool) -> Result<(), Stop> {
        if let Some(skipped) = self.skipped {
            self.skipped = Some(skipped).filter(|skipped| depth >= *skipped);
            return Ok(());
        }
        match event {
            Event::Name(name) => {
                self.text += name.len();
                self.unwanted = !is_wanted(&name);
                self.name = name;
            }
            Event::Map | Event::List if std::mem::take(&mut self.unwanted) => self.skipped = Some(depth),
            Event::Map | Event::List if depth > DEEPEST => {
                self.skipped = Some(depth);
                self.cut = true;
            }
            Event::Map => self.open.push((std::mem::take(&mut self.name), Json::Object(Map::new()))),
            Event::List => self.open.push((std::mem::take(&mut self.name), Json::Array(Vec::new()))),
            Event::End => self.close(),
            Event::Value(_) if std::mem::take(&mut self.unwanted) => {}
            Event::Value(value) => {
                self.text += value.as_str().map_or(0, str::len);
                let name = std::mem::take(&mut self.name);
                self.put(name, value);
            }
        }
        self.values += 1;
        if self.values > MOST_VALUES || self.text > MOST_TEXT { Err(Stop::TooMuch) } else { Ok(()) }
    }

    fn close(&mut self) {
        if let Some((name, value)) = self.open.pop() {
            self.put(name, value);
        }
    }

    fn put(&mut self, name: String, value: Json) {
        match self.open.last_mut() {
            Some((_, Json::Object(map))) => drop(map.insert(name, value)),
            Some((_, Json::Array(list))) => list.push(value),
            _ => self.done = Some(value),
        }
    }

    fn root(mut self) -> Json {
        while !self.open.is_empty() {
            self.close();
        }
        self.done.unwrap_or_default()
    }
}

/// A container that is being read.
#[derive(Clone, Copy)]
struct Frame {
    is_map: bool,
    /// Whether the name of the next value was read.
    named: bool,
    /// Values that follow, where that is known.
    left: Option<u64>,
    /// Their type, where all have the same.
    kind: Option<u8>,
}

struct Parser<'a, 'b> {
    feed: &'a mut Feed<'b>,
    syntax: Syntax,
    frames: Vec<Frame>,
}

fn malformed(what: &str) -> Stop {
    Stop::Malformed(format!("it is no whole document: {what}"))
}

impl Parser<'_, '_> {
    fn next(&mut self, keep: bool) -> Result<Event, Stop> {
        match self.syntax {
            Syntax::Json => self.json(keep),
            Syntax::UniversalBinary => self.binary(keep),
        }
    }

    fn begin(&mut self, frame: Frame) -> Result<Event, Stop> {
        if self.frames.len() >= DEEPEST_PASSED {
            return Err(malformed("it is nested too deep"));
        }
        self.frames.push(frame);
        Ok(if frame.is_map { Event::Map } else { Event::List })
    }

    fn end(&mut self) -> Result<Event, Stop> {
        self.frames.pop().map(|_| Event::End).ok_or_else(|| malformed("a container ends that never began"))
    }

    fn json(&mut self, keep: bool) -> Result<Event, Stop> {
        let byte = loop {
            match self.feed.byte()? {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {}
                other => break other,
            }
        };
        let open = |is_map| Frame { is_map, named: false, left: None, kind: None };
        match byte {
            b'{' => self.begin_json(open(true)),
            b'[' => self.begin_json(open(false)),
            b'}' | b']' => self.end(),
            b'"' => {
                let text = self.json_text(keep)?;
                match self.frames.last_mut() {
                    Some(frame) if frame.is_map && !frame.named => {
                        frame.named = true;
                        Ok(Event::Name(text.unwrap_or_default()))
                    }
                    _ => Ok(self.value(text.map_or(Json::Null, Json::String))),
                }
            }
            first => {
                let mut word = vec![first];
                while let Some(byte) = self.feed.peek()?
                    && (byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
                {
                    if word.len() < 64 {
                        word.push(byte);
                    }
                    self.feed.skip(1)?;
                }
                match serde_json::from_slice(&word) {
                    Ok(value) => Ok(self.value(value)),
                    // Python writes these too.
                    Err(_) if matches!(word.as_slice(), b"NaN" | b"Infinity" | b"-Infinity") => {
                        Ok(self.value(Json::Null))
                    }
                    // A number that is too large for one.
                    Err(_) if first.is_ascii_digit() || first == b'-' => Ok(self.value(Json::Null)),
                    Err(_) => Err(malformed("it has words that JSON does not know")),
                }
            }
        }
    }

    fn begin_json(&mut self, frame: Frame) -> Result<Event, Stop> {
        if let Some(outer) = self.frames.last_mut() {
            outer.named = false;
        }
        self.begin(frame)
    }

    fn value(&mut self, value: Json) -> Event {
        if let Some(frame) = self.frames.last_mut() {
            frame.named = false;
        }
        Event::Value(value)
    }

    /// What comes up to the quote. None where it is too long, or not wanted.
    fn json_text(&mut self, keep: bool) -> Result<Option<String>, Stop> {
        let mut raw = vec![b'"'];
        let mut kept = keep;
        loop {
            let byte = self.feed.byte()?;
            let escaped = if byte == b'\\' { Some(self.feed.byte()?) } else { None };
            if kept {
                raw.push(byte);
                raw.extend(escaped);
                kept = raw.len() as u64 <= LONGEST;
            }
            if byte == b'"' {
                break;
            }
        }
        if !kept {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&raw);
        serde_json::from_str(&text).map(Some).map_err(|_| malformed("a text in it is no text"))
    }

    fn binary(&mut self, keep: bool) -> Result<Event, Stop> {
        let Some(frame) = self.frames.last().copied() else {
            let kind = self.kind()?;
            return self.typed(kind, keep);
        };
        if frame.is_map && !frame.named {
            return match frame.left {
                Some(0) => self.end(),
                _ => {
                    let first = self.kind()?;
                    if frame.left.is_none() && first == b'}' {
                        return self.end();
                    }
                    let length = self.length(first)?;
                    let name = self.text(length, keep)?;
                    if let Some(frame) = self.frames.last_mut() {
                        frame.named = true;
                    }
                    Ok(Event::Name(name.unwrap_or_default()))
                }
            };
        }
        if !frame.is_map && frame.left == Some(0) {
            return self.end();
        }
        let kind = match frame.kind {
            Some(kind) => kind,
            None => self.kind()?,
        };
        if !frame.is_map && frame.left.is_none() && kind == b']' {
            return self.end();
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.named = false;
            frame.left = frame.left.map(|left| left - 1);
        }
        self.typed(kind, keep)
    }

    /// The type of what follows, after places that are left empty.
    fn kind(&mut self) -> Result<u8, Stop> {
        loop {
            match self.feed.byte()? {
                b'N' => {}
                kind => return Ok(kind),
            }
        }
    }

    fn typed(&mut self, kind: u8, keep: bool) -> Result<Event, Stop> {
        let number = |bytes: u64, size: u32| ((bytes << (64 - 8 * size)) as i64) >> (64 - 8 * size);
        Ok(Event::Value(match kind {
            b'{' | b'[' => return self.begin_binary(kind == b'{', keep),
            b'S' | b'H' => {
                let first = self.kind()?;
                let length = self.length(first)?;
                self.text(length, keep)?.map_or(Json::Null, Json::String)
            }
            b'C' => char::from(self.feed.byte()?).to_string().into(),
            b'Z' | b'N' => Json::Null,
            b'T' => true.into(),
            b'F' => false.into(),
            b'i' => number(self.feed.number_big(1)?, 1).into(),
            b'U' => self.feed.byte()?.into(),
            b'I' => number(self.feed.number_big(2)?, 2).into(),
            b'l' => number(self.feed.number_big(4)?, 4).into(),
            b'L' => number(self.feed.number_big(8)?, 8).into(),
            b'd' => f64::from(f32::from_bits(self.feed.number_big(4)? as u32)).into(),
            b'D' => f64::from_bits(self.feed.number_big(8)?).into(),
            _ => return Err(malformed("it has a type that there is not")),
        }))
    }

    fn begin_binary(&mut self, is_map: bool, keep: bool) -> Result<Event, Stop> {
        let mut frame = Frame { is_map, named: false, left: None, kind: None };
        if self.feed.peek()? == Some(b'$') {
            self.feed.skip(1)?;
            frame.kind = Some(self.feed.byte()?);
            if self.feed.peek()? != Some(b'#') {
                return Err(malformed("a type without a count"));
            }
        }
        if self.feed.peek()? == Some(b'#') {
            self.feed.skip(1)?;
            let first = self.feed.byte()?;
            frame.left = Some(self.length(first)?);
        }
        if let (false, Some(kind), Some(left)) = (is_map, frame.kind, frame.left)
            && let Some(size) = fixed(kind)
            && (!keep || size == 0)
        {
            self.feed.skip(left.saturating_mul(size))?;
            frame.left = Some(0);
        }
        self.begin(frame)
    }

    /// A number that is no less than nothing, of the type `kind`.
    fn length(&mut self, kind: u8) -> Result<u64, Stop> {
        let size = match kind {
            b'i' | b'U' => 1,
            b'I' => 2,
            b'l' => 4,
            b'L' => 8,
            _ => return Err(malformed("a length is no number")),
        };
        let length = self.feed.number_big(size)?;
        let negative = kind != b'U' && length >> (8 * size - 1) != 0;
        if negative { Err(malformed("a length is negative")) } else { Ok(length) }
    }

    fn text(&mut self, length: u64, keep: bool) -> Result<Option<String>, Stop> {
        if !keep || length > LONGEST {
            return self.feed.skip(length).map(|()| None);
        }
        let bytes = self.feed.take(length as usize)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Bytes of a value of the type `kind`, where all have as many.
fn fixed(kind: u8) -> Option<u64> {
    match kind {
        b'Z' | b'N' | b'T' | b'F' => Some(0),
        b'i' | b'U' | b'C' => Some(1),
        b'I' => Some(2),
        b'l' | b'd' => Some(4),
        b'L' | b'D' => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::feed::Stream;
    use super::*;

    fn outline(bytes: &[u8], syntax: Syntax) -> Outline {
        read(&mut Feed::new(Stream(bytes)), syntax, &|name| name != "trees")
    }

    #[test]
    fn what_is_not_wanted_is_left_out() {
        let text = br#" {"a": [1, -2.5, "x\"\u00e9", null, true, NaN], "trees": [{"a": [[]]}, "}"], "b": {"trees": 3}, "c": {}} "#;
        let found = outline(text, Syntax::Json);
        assert!(found.stop.is_none());
        assert_eq!(found.root, json!({"a": [1, -2.5, "x\"é", null, true, null], "b": {}, "c": {}}));
    }

    #[test]
    fn universal_binary_json_is_the_same() {
        let mut bytes =
            b"{i\x01a[$d#L\0\0\0\0\0\0\0\x02\x3f\x80\0\0\xc0\0\0\0i\x01bSi\x02xyU\x05trees[$U#i\x03{}]".to_vec();
        bytes.extend(b"i\x01c[#i\x02i\xffTi\x01d{#i\x01i\x01eZ}");
        let found = outline(&bytes, Syntax::UniversalBinary);
        assert!(found.stop.is_none(), "{found:?}");
        assert_eq!(found.root, json!({"a": [1.0, -2.0], "b": "xy", "c": [-1, true], "d": {"e": null}}));
    }

    #[test]
    fn what_was_read_before_the_end_stays() {
        let found = outline(br#"{"a": {"b": 1, "c": [2, "#, Syntax::Json);
        assert!(found.stop.is_some());
        assert_eq!(found.root, json!({"a": {"b": 1, "c": [2]}}));
        let found = outline(b"{i\x01a{i\x01bi\x01i\x01cS", Syntax::UniversalBinary);
        assert!(found.stop.is_some());
        assert_eq!(found.root, json!({"a": {"b": 1}}));
    }

    #[test]
    fn what_lies_too_deep_is_missed() {
        let nested = |count| [b"[".repeat(count), b"]".repeat(count)].concat();
        assert!(outline(&nested(DEEPEST), Syntax::Json).stop.is_none());
        assert!(matches!(outline(&nested(DEEPEST + 1), Syntax::Json).stop, Some(Stop::TooMuch)));
    }

    #[test]
    fn bombs_end_soon_and_small() {
        for (bytes, syntax) in [
            (b"[".repeat(1_000_000), Syntax::Json),
            (br#"{"a":"#.repeat(1_000_000), Syntax::Json),
            (b"[0,".repeat(1_000_000), Syntax::Json),
            ([&b"["[..], &b"0,".repeat(1_000_000)].concat(), Syntax::Json),
            (b"[".repeat(1_000_000), Syntax::UniversalBinary),
            (b"[$[#L\x7f\xff\xff\xff\xff\xff\xff\xff".repeat(100_000), Syntax::UniversalBinary),
            (b"[#L\x7f\xff\xff\xff\xff\xff\xff\xff".repeat(100_000), Syntax::UniversalBinary),
            (b"[$D#L\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(), Syntax::UniversalBinary),
            (b"{L\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(), Syntax::UniversalBinary),
        ] {
            assert!(outline(&bytes, syntax).stop.is_some());
        }
        // So many of what takes no room are passed at once.
        assert!(outline(b"[$Z#L\x7f\xff\xff\xff\xff\xff\xff\xff", Syntax::UniversalBinary).stop.is_none());
    }
}
