//! YAML 1.2.2 with the core schema (section 10.3), from the parser's events: nothing here recurses over foreign text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{Entries, Key, MAX_DEPTH, Node, TYPOGRAPHIC, Value, is_hidden_space, syntax, too_deep, typographic};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Fix, Source};

/// Bytes, roughly, that anchors and aliases may copy in one document. A lavish manifest copies a few thousand.
const MAX_COPIED: usize = 16 << 20;

/// Reads a document. None, with an error in `found`, where there is no tree to go on with.
pub fn parse(source: &Arc<Source>, found: &mut Diagnostics) -> Option<Node> {
    let mut reader = Reader { source, found, bytes: Offsets::new(source.text()), anchors: HashMap::new(), copied: 0 };
    let mut parser = Parser::new_from_str(source.text());
    let mut root = None;
    let mut stack: Vec<Frame> = Vec::new();
    loop {
        let (event, span) = match parser.next_event()? {
            Ok(event) => event,
            Err(error) => {
                let offset = reader.bytes.of(*error.marker());
                reader.found.push(syntax::explain(source, error.info(), offset));
                return None;
            }
        };
        let span = reader.bytes.of(span.start)..reader.bytes.of(span.end);
        let node = match event {
            Event::DocumentStart(_) if root.is_some() => {
                let message = "the file holds more than one document";
                reader.refuse(Code::SecondDocument, span, message, "move it into a file of its own");
                return None;
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => continue,
            Event::StreamEnd => break,
            Event::SequenceStart(anchor, tag) => {
                stack.push(Frame { start: span, anchor, content: Content::Sequence(Vec::new()) });
                reader.check_tag(tag.as_deref(), "seq", &stack)?;
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                stack.push(Frame { start: span, anchor, content: Content::Mapping(Entries::default(), None) });
                reader.check_tag(tag.as_deref(), "map", &stack)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let frame = stack.pop()?;
                let (anchor, node) = frame.close(span, source.text());
                reader.remember(anchor, node)?
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Frame { content: Content::Mapping(_, key @ None), .. }) = stack.last_mut() {
                    let text = reader.key(text, style, &span)?;
                    reader.remember(anchor, Node { span: span.clone(), value: Value::String(text.clone()) })?;
                    *key = Some(Key { span, text });
                    continue;
                }
                let value = reader.scalar(text, style, tag.as_deref(), &span)?;
                reader.remember(anchor, Node { span, value })?
            }
            Event::Alias(id) => reader.alias(id, span, stack.len())?,
        };
        match stack.last_mut().map(|frame| &mut frame.content) {
            None => root = Some(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping(entries, key)) => match key.take() {
                Some(key) => entries.add(source, key, node, reader.found),
                None => {
                    let message = "a key has to be a text";
                    let help = "a text that begins with `{` or `[` needs quotes";
                    reader.refuse(Code::UnusualYaml, node.span, message, help);
                    return None;
                }
            },
        }
    }
    match root {
        Some(Node { value: Value::Null, span }) if span.is_empty() => reader.nothing(),
        None => reader.nothing(),
        root => root,
    }
}

/// A list or mapping that is not closed yet.
struct Frame {
    start: Range<usize>,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    /// With the key whose value comes next.
    Mapping(Entries, Option<Key>),
}

impl Frame {
    fn close(self, end: Range<usize>, text: &str) -> (usize, Node) {
        // A block ends where the next one begins: without the blank lines and comments between them, as far as blanks go.
        let end = text.get(self.start.start..end.end).map_or(end.end, |all| self.start.start + all.trim_end().len());
        let value = match self.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping(entries, _) => Value::Mapping(entries.entries),
        };
        (self.anchor, Node { span: self.start.start..end.max(self.start.start), value })
    }
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    found: &'a mut Diagnostics,
    bytes: Offsets,
    anchors: HashMap<usize, Node>,
    copied: usize,
}

impl Reader<'_> {
    fn refuse(&mut self, code: Code, span: Range<usize>, message: &str, help: &str) {
        self.found.push(Diagnostic::new(code, self.source, span, message).help(help));
    }

    fn nothing(&mut self) -> Option<Node> {
        self.refuse(Code::Empty, 0..0, "nothing is written here", "`ekiben init` writes a manifest to start from");
        None
    }

    /// The tag of a list or mapping that was just opened, and its depth.
    fn check_tag(&mut self, tag: Option<&Tag>, expected: &str, stack: &[Frame]) -> Option<()> {
        let span = stack.last()?.start.clone();
        if stack.len() > MAX_DEPTH {
            self.found.push(too_deep(self.source, span));
            return None;
        }
        match tag {
            Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => self.unknown_tag(tag, span),
            _ => Some(()),
        }
    }

    fn unknown_tag<T>(&mut self, tag: &Tag, span: Range<usize>) -> Option<T> {
        let message = format!("the tag `{tag}` means nothing here");
        self.refuse(Code::UnusualYaml, span, &message, "a text that begins with `!` needs quotes");
        None
    }

    /// Keeps what an anchor marks, for its aliases.
    fn remember(&mut self, anchor: usize, node: Node) -> Option<Node> {
        if anchor != 0 {
            let copy = self.copy(&node, &node.span)?;
            self.anchors.insert(anchor, copy);
        }
        Some(node)
    }

    fn alias(&mut self, id: usize, span: Range<usize>, depth: usize) -> Option<Node> {
        let Some(node) = self.anchors.remove(&id) else {
            let help = "an alias may not stand inside of what it repeats";
            self.refuse(Code::UnknownAlias, span, "what the alias repeats is not complete here", help);
            return None;
        };
        let copy = self.copy(&node, &span)?;
        if depth + height(&node) > MAX_DEPTH {
            self.found.push(too_deep(self.source, span));
            return None;
        }
        self.anchors.insert(id, node);
        Some(copy)
    }

    fn copy(&mut self, node: &Node, place: &Range<usize>) -> Option<Node> {
        self.copied = self.copied.saturating_add(weight(node));
        if self.copied > MAX_COPIED {
            let message = "anchors and aliases repeat too much";
            self.refuse(Code::TooMuchAliased, place.clone(), message, "write out what is meant");
            return None;
        }
        Some(node.clone())
    }

    fn key(&mut self, text: Cow<'_, str>, style: ScalarStyle, span: &Range<usize>) -> Option<String> {
        if style != ScalarStyle::Plain {
            return Some(text.into_owned());
        }
        if text.is_empty() {
            self.refuse(Code::Syntax, span.clone(), "a key is missing before the colon", "write `key: value`");
            return None;
        }
        if text.starts_with(is_hidden_space) {
            // It was meant to be indented, so the whole tree would be another one.
            self.hidden_space(span.clone());
            return None;
        }
        Some(self.plain(text, span).into_owned())
    }

    /// A text without quotes, without what a web page or a word processor put into it.
    fn plain<'t>(&mut self, text: Cow<'t, str>, span: &Range<usize>) -> Cow<'t, str> {
        if text.starts_with(TYPOGRAPHIC) && text.ends_with(TYPOGRAPHIC) && text.chars().nth(1).is_some() {
            let error = typographic(self.source, span.clone());
            let inner = text.trim_matches(TYPOGRAPHIC);
            // What needs an escape between quotes is left to the person.
            let simple = !inner.contains(['"', '\\', '\n']) && self.source.text().get(span.clone()) == Some(&*text);
            let fix = Fix::replace("write straight quotes", span.clone(), format!("\"{inner}\""));
            self.found.push(if simple { error.fix(fix) } else { error });
            text.trim_matches(TYPOGRAPHIC).to_owned().into()
        } else if text.starts_with(is_hidden_space) || text.ends_with(is_hidden_space) {
            self.hidden_space(span.clone());
            text.trim_matches(is_hidden_space).to_owned().into()
        } else {
            text
        }
    }

    fn hidden_space(&mut self, span: Range<usize>) {
        let text = self.source.text().get(span.clone()).unwrap_or_default();
        if let Some((at, c)) = text.char_indices().find(|(_, c)| is_hidden_space(*c)) {
            let place = span.start + at..span.start + at + c.len_utf8();
            self.found.push(syntax::hidden_space(self.source, place, c));
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Range<usize>,
    ) -> Option<Value> {
        let plain = style == ScalarStyle::Plain;
        let value = match tag {
            None if !plain => Value::String(text.into_owned()),
            None => {
                let text = self.plain(text, span);
                let folded = text.to_ascii_lowercase();
                if matches!(folded.as_str(), "yes" | "no" | "on" | "off") {
                    let truth = if matches!(folded.as_str(), "yes" | "on") { "true" } else { "false" };
                    let message = format!("`{text}` is a text here, and `{truth}` to readers of YAML 1.1");
                    let help = format!("write \"{text}\" for the text, {truth} for the truth value");
                    self.refuse(Code::LooksLikeBoolean, span.clone(), &message, &help);
                }
                core(&text).unwrap_or_else(|| Value::String(text.into_owned()))
            }
            Some(tag) if tag.is_yaml_core_schema() => match (tag.suffix.as_str(), core(&text)) {
                ("str", _) => Value::String(text.into_owned()),
                ("null", Some(value @ Value::Null)) | ("bool", Some(value @ Value::Bool(_))) => value,
                ("int" | "float", Some(value @ Value::Number(_))) => value,
                _ => return self.unknown_tag(tag, span.clone()),
            },
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Value::String(text.into_owned()),
            Some(tag) => return self.unknown_tag(tag, span.clone()),
        };
        if let (Value::Null, true) = (&value, self.not_finite(span)) {
            self.refuse(Code::NotFinite, span.clone(), "the number is not finite", "write a number");
        }
        Some(value)
    }

    fn not_finite(&self, span: &Range<usize>) -> bool {
        let text = self.source.text().get(span.clone()).unwrap_or_default();
        float(text.trim()).is_some_and(|number| !number.is_finite())
    }
}

fn weight(node: &Node) -> usize {
    size_of::<(Key, Node)>()
        + match &node.value {
            Value::String(text) => text.len(),
            Value::Sequence(items) => items.iter().map(weight).sum(),
            Value::Mapping(entries) => entries.iter().map(|(key, node)| key.text.len() + weight(node)).sum(),
            _ => 0,
        }
}

fn height(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(items) => 1 + items.iter().map(height).max().unwrap_or_default(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(_, node)| height(node)).max().unwrap_or_default(),
        _ => 0,
    }
}

/// What a text without quotes stands for in the core schema; none for itself.
fn core(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match integer(text) {
            Some(number) => Value::Number(number),
            // A number that is not finite becomes nothing, and an error.
            None => serde_json::Number::from_f64(float(text)?).map_or(Value::Null, Value::Number),
        },
    })
}

fn integer(text: &str) -> Option<serde_json::Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return digits
            .bytes()
            .all(|c| c.is_ascii_hexdigit())
            .then(|| u64::from_str_radix(digits, 16).ok())?
            .map(Into::into);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return digits
            .bytes()
            .all(|c| c.is_ascii_digit())
            .then(|| u64::from_str_radix(digits, 8).ok())?
            .map(Into::into);
    }
    match text.parse::<u64>() {
        Ok(number) => Some(number.into()),
        Err(_) => text.parse::<i64>().ok().map(Into::into),
    }
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // Rust's own syntax is wider (`inf`, `nan`) in letters only.
    let digits = unsigned.bytes().all(|c| matches!(c, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    (digits && begins).then(|| text.parse().ok())?
}

/// From the parser's positions, in characters, to bytes.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn new(text: &str) -> Self {
        let starts = || text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        Self((!text.is_ascii()).then(starts))
    }

    fn of(&self, marker: Marker) -> usize {
        match &self.0 {
            None => marker.index(),
            Some(starts) => starts.get(marker.index()).or(starts.last()).copied().unwrap_or_default(),
        }
    }
}
