//! A text that a person wrote, as a tree that knows where each part of it stands.
//!
//! YAML 1.2 (core schema, section 10.3), JSON (RFC 8259) and JSON5 (1.0) give the same tree. Invariants: the tree is
//! at most [`MAX_DEPTH`] deep and as large as a small multiple of its text; every span lies within the text; keys of a
//! mapping are unique (a second one is reported, and dropped).

mod block;
mod json;
mod layout;
mod quotes;
mod syntax;
mod written;
mod yaml;

pub use block::{yaml, yaml_with_notes};
pub use layout::{Layout, yaml_text};
pub use written::Written;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};

/// Levels of nesting that are read.
pub const MAX_DEPTH: usize = 64;

/// Bytes that are read of a file that a person wrote.
pub const MAX_BYTES: u64 = 1 << 20;

/// In which language a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON, and nothing beyond.
    Json,
    /// JSON5: comments, trailing commas, single quotes, keys without quotes.
    Json5,
}

impl Format {
    /// The format that the ending of a file's name stands for; YAML where it stands for none.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json" | "lock") => Self::Json,
            Some("json5") => Self::Json5,
            _ => Self::Yaml,
        }
    }
}

/// A document that was read.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its text.
    pub source: Arc<Source>,
    /// Its language.
    pub format: Format,
    /// Its content.
    pub root: Node,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands, in bytes of the text; that of its anchor for what an alias repeats.
    pub span: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with their values, in the order of the text.
    Mapping(Vec<(Key, Node)>),
}

/// A key with its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where it stands, in bytes of the text.
    pub span: Range<usize>,
    /// What it says.
    pub text: String,
}

impl Document {
    /// Reads the file `path`, shown as `shown`, of at most `most` bytes.
    ///
    /// Mistakes go to `found`. None where there is no tree to go on with; then at least one of them is an error. A
    /// tree may come with errors as well, such as a key that is there twice.
    pub fn read(path: &Path, shown: &str, most: u64, found: &mut Diagnostics) -> Option<Self> {
        let source = read_text(path, shown, most, found)?;
        Self::parse(&source, Format::of(path), found)
    }

    /// Reads a text; as [`Document::read`].
    pub fn parse(source: &Arc<Source>, format: Format, found: &mut Diagnostics) -> Option<Self> {
        let root = match format {
            Format::Yaml => yaml::parse(source, found),
            Format::Json | Format::Json5 => json::parse(source, format, found),
        }?;
        Some(Self { source: source.clone(), format, root })
    }

    /// The place of the value that a JSON pointer (RFC 6901) leads to, or of the last one on the way that is there.
    pub fn span_of(&self, pointer: &str) -> Range<usize> {
        let mut node = &self.root;
        let mut span = top(node);
        for step in steps(pointer) {
            let Some(next) = node.get(&step) else { break };
            (node, span) = (next, next.span.clone());
        }
        span
    }

    /// The place of the key whose value a JSON pointer leads to; as [`Document::span_of`] where it is no key.
    pub fn key_span_of(&self, pointer: &str) -> Range<usize> {
        let mut node = &self.root;
        let mut span = top(node);
        for step in steps(pointer) {
            let key = match &node.value {
                Value::Mapping(entries) => entries.iter().find(|(key, _)| key.text == step).map(|(key, _)| &key.span),
                _ => None,
            };
            let Some(next) = node.get(&step) else { break };
            span = key.unwrap_or(&next.span).clone();
            node = next;
        }
        span
    }

    /// A diagnostic at a value.
    pub fn at(&self, code: Code, pointer: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, &self.source, self.span_of(pointer), message)
    }

    /// A diagnostic at a key.
    pub fn at_key(&self, code: Code, pointer: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, &self.source, self.key_span_of(pointer), message)
    }
}

/// The place of a whole document: its first key, so that the caret does not run along its first line.
fn top(root: &Node) -> Range<usize> {
    match &root.value {
        Value::Mapping(entries) => entries.first().map_or(root.span.clone(), |(key, _)| key.span.clone()),
        _ => root.span.clone(),
    }
}

impl Node {
    /// The value of a key, or the item of a list by its number.
    pub fn get(&self, step: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(key, _)| key.text == step).map(|(_, node)| node),
            Value::Sequence(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The same value without its places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::String(text) => text.as_str().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }
}

/// A JSON pointer to what the steps lead to.
pub fn pointer<'a>(steps: impl IntoIterator<Item = &'a str>) -> String {
    steps.into_iter().fold(String::new(), |mut pointer, step| {
        // Writing to a String cannot fail.
        let _ = write!(pointer, "/{}", step.replace('~', "~0").replace('/', "~1"));
        pointer
    })
}

/// The steps of a JSON pointer.
pub fn steps(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// A path as a person would write it: without a `./` in front.
pub fn shown(path: &Path) -> String {
    match path.strip_prefix(".") {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    }
}

/// Reads a text file of at most `most` bytes, without its byte order mark. Mistakes go to `found`.
pub fn read_text(path: &Path, shown: &str, most: u64, found: &mut Diagnostics) -> Option<Arc<Source>> {
    let mut refuse = |code, message: String| found.push(Diagnostic::of_file(code, shown, message));
    let bytes = match read_bounded(path, most) {
        Ok(bytes) => bytes,
        Err(error) => {
            refuse(Code::Unreadable, format!("the file cannot be read: {error}"));
            return None;
        }
    };
    if bytes.len() as u64 > most {
        let limit = if most >= 1 << 20 { format!("{} MiB", most >> 20) } else { format!("{most} bytes") };
        refuse(Code::TooLarge, format!("the file has more than {limit}"));
        return None;
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Some(Source::new(shown, text.strip_prefix('\u{feff}').unwrap_or(text))),
        Err(error) => {
            let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
            let source = Source::new(shown, String::from_utf8_lossy(&bytes));
            // Up to the first bad byte both texts are the same.
            let place = error.valid_up_to()..error.valid_up_to() + 1;
            let what = if utf16 { "the file is UTF-16, not UTF-8" } else { "the file is not UTF-8" };
            found.push(Diagnostic::new(Code::NotUtf8, &source, place, what).help("save it as UTF-8"));
            None
        }
    }
}

/// At most one byte more than `most`.
fn read_bounded(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    // Opening a pipe that nobody writes to would wait for ever.
    if !fs::metadata(path).map_err(plain)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(plain)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(plain)?;
    Ok(bytes)
}

/// The error without the path: a diagnostic begins with it.
fn plain(error: std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => match error.kind() {
            std::io::ErrorKind::Other => error,
            kind => kind.into(),
        },
    }
}

/// Typographic quotes, as web pages and word processors make them.
const TYPOGRAPHIC: &[char] = &['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '‹', '›', '″', '′'];

/// Spaces that are no spaces to YAML, and that cannot be seen.
fn is_hidden_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}')
}

/// What to say about a value between typographic quotes.
fn typographic(source: &Arc<Source>, span: Range<usize>) -> Diagnostic {
    Diagnostic::new(Code::TypographicQuotes, source, span, "typographic quotes do not enclose a text")
        .label("pasted from a web page?")
        .help("type straight quotes: \" or '")
}

/// The same in JSON, where nothing can be read on: with the repair of the whole text.
fn typographic_json(source: &Arc<Source>, span: Range<usize>) -> Diagnostic {
    typographic(source, span)
        .help("`ekiben validate --fix` straightens all quotes of the file")
        .fix(quotes::straight(source.text()))
}

/// What to say about nesting beyond [`MAX_DEPTH`].
fn too_deep(source: &Arc<Source>, span: Range<usize>) -> Diagnostic {
    Diagnostic::new(Code::TooDeep, source, span, format!("values are nested more than {MAX_DEPTH} levels deep"))
}

/// The entries of a mapping while it is read.
#[derive(Default)]
struct Entries {
    entries: Vec<(Key, Node)>,
    seen: HashMap<String, Range<usize>>,
}

impl Entries {
    /// Adds an entry, unless its key is there already: then that is said.
    fn add(&mut self, source: &Arc<Source>, key: Key, node: Node, found: &mut Diagnostics) {
        if let Some(first) = self.seen.get(&key.text) {
            let message = format!("the key `{}` is there twice", key.text);
            found.push(
                Diagnostic::new(Code::DuplicateKey, source, key.span, message)
                    .label("again here")
                    .also(source, first.clone(), "first here")
                    .help("remove one of them, or merge what they say"),
            );
        } else {
            self.seen.insert(key.text.clone(), key.span.clone());
            self.entries.push((key, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, format: Format) -> (Option<Document>, Diagnostics) {
        let mut found = Diagnostics::new();
        let document = Document::parse(&Source::new("x", text), format, &mut found);
        (document, found)
    }

    fn check(text: &str, format: Format) {
        let (document, found) = parse(text, format);
        assert!(document.is_some() || found.has_errors(), "neither a tree nor an error: {text:?}");
        for diagnostic in found.sorted() {
            crate::formats::diagnostic::Rendering::PLAIN.render(diagnostic);
            assert!(diagnostic.primary.span.end <= text.len(), "{diagnostic:?}");
        }
        if let Some(document) = document {
            check_spans(&document.root, text);
            serde_json::to_string(&document.root.to_json()).unwrap();
        }
    }

    fn check_spans(node: &Node, text: &str) {
        assert!(text.get(node.span.clone()).is_some(), "{:?} in {text:?}", node.span);
        match &node.value {
            Value::Sequence(items) => items.iter().for_each(|item| check_spans(item, text)),
            Value::Mapping(entries) => entries.iter().for_each(|(key, item)| {
                assert!(text.get(key.span.clone()).is_some(), "{:?} in {text:?}", key.span);
                check_spans(item, text);
            }),
            _ => {}
        }
    }

    const FORMATS: [Format; 3] = [Format::Yaml, Format::Json, Format::Json5];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_text_gives_a_tree_or_an_error(text in any::<String>()) {
            FORMATS.iter().for_each(|format| check(&text, *format));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &bytes).unwrap();
            let mut found = Diagnostics::new();
            let document = Document::read(file.path(), "x", MAX_BYTES, &mut found);
            prop_assert!(document.is_some() || found.has_errors());
        }

        #[test]
        fn what_looks_like_a_document_gives_a_tree_or_an_error(
            text in r#"([\[\]{}:,"'#&*!|>%@`?a1é“\-\\/ \n\t\r.]|: |- |\n  |&a |\*a|: "|0x|//|/\*|\{a: ){0,60}"#
        ) {
            FORMATS.iter().for_each(|format| check(&text, *format));
        }

        #[test]
        fn what_serde_writes_is_read_as_it_was(value in json()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            for format in FORMATS {
                let (document, found) = parse(&text, format);
                prop_assert!(found.is_empty(), "{text}\n{found:?}");
                prop_assert_eq!(document.unwrap().root.to_json(), value.clone());
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_laid_out_is_read_as_it_was(value in json(), width in 0..120_usize, indent in 1..9_usize) {
            for format in FORMATS {
                let layout = Layout { format, width };
                let mut texts = vec![layout.flow(&value, indent, 0)];
                if format == Format::Yaml {
                    texts.push(format!("a:\n{0}b:{1}\n", " ".repeat(indent), layout.block(&value, indent + 2, indent + 2)));
                }
                for text in texts {
                    let (document, found) = parse(&text, format);
                    prop_assert!(found.is_empty(), "{text}\n{found:?}");
                    let read = document.unwrap().root.to_json();
                    prop_assert_eq!(read.pointer("/a/b").unwrap_or(&read), &value, "{}", text);
                }
            }
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e300..1e300).prop_map(|number: f64| number.into()),
            "[ -~é“\\n\\t]{0,20}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::hash_map("[ -~é]{0,10}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn no_text_takes_long() {
        for piece in [
            "[",
            "{",
            "]",
            "- ",
            "? ",
            "a: ",
            "a: b\n",
            "- a\n",
            "'",
            "\"",
            "&a ",
            "*a ",
            "&a [*a, ",
            "!",
            "#",
            "%",
            "|\n",
            ">\n",
            "\n",
            "\t",
            "\r",
            ",",
            ":",
            "{a",
            "[a: ",
            "a\n",
            "é",
            "“",
            "\u{a0}",
            "\\",
            "//",
            "/*",
            "{\"a\":",
            "[1,",
            "1",
            "a ",
            "[]",
            "{}",
            "&a x\n- *a\n- ",
            "a:\n ",
            "---\n",
            "...\n",
            "! ",
            "'a' ",
            "\"a\\n",
            "? a\n",
            "<<: *a\n",
            "0x",
            "-",
            "\u{feff}",
            "{'a': b, ",
        ] {
            let text: String = piece.repeat((1 << 20) / piece.len());
            for format in FORMATS {
                let start = std::time::Instant::now();
                check(&text, format);
                let took = start.elapsed();
                // Generous, for busy machines: what grows with the square takes minutes.
                assert!(took < std::time::Duration::from_secs(30), "{piece:?} as {format:?} took {took:?}");
            }
        }
    }

    #[test]
    fn the_core_schema_holds() {
        for (text, json) in [
            ("~", "null"),
            ("Null", "null"),
            ("True", "true"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("017", "17"),
            ("+3", "3"),
            ("-0", "0"),
            (".5", "0.5"),
            ("1.", "1.0"),
            ("1e3", "1000.0"),
            ("-1.5E-2", "-0.015"),
            ("yes", "\"yes\""),
            ("1_000", "\"1_000\""),
            ("12:30", "\"12:30\""),
            ("2026-11-21", "\"2026-11-21\""),
            ("inf", "\"inf\""),
            ("0b1", "\"0b1\""),
            ("1.2.3", "\"1.2.3\""),
            ("e3", "\"e3\""),
            (".", "\".\""),
            ("'1'", "\"1\""),
            ("!!str 1", "\"1\""),
            ("! 1", "\"1\""),
            ("0x", "\"0x\""),
            ("99999999999999999999", "1e+20"),
        ] {
            let (document, found) = parse(text, Format::Yaml);
            assert!(!found.has_errors(), "{text}: {found:?}");
            assert_eq!(document.unwrap().root.to_json().to_string(), json, "{text}");
        }
    }

    #[test]
    fn json5_is_read_as_it_is_defined() {
        let text = "// c\n{unquoted: 'and you can quote \"it\"', a$_b: 0xdecaf, half: .5, whole: 2., plus: +1, minus: -0x10,\n\
                    'single': \"double\", line: 'one \\\n two', esc: '\\x41\\u{e9}'.length, }";
        let text =
            text.replace(", esc: '\\x41\\u{e9}'.length", ", esc: '\\x41\\u00e9\\v', null: null, true: [1, ] /* c */");
        let (document, found) = parse(&text, Format::Json5);
        assert!(found.is_empty(), "{found:?}");
        let expected = serde_json::json!({
            "unquoted": "and you can quote \"it\"", "a$_b": 0xdecaf, "half": 0.5, "whole": 2.0, "plus": 1, "minus": -16,
            "single": "double", "line": "one  two", "esc": "Aé\u{b}", "null": null, "true": [1],
        });
        assert_eq!(document.unwrap().root.to_json(), expected);
    }

    #[test]
    fn places_are_found_by_pointer() {
        let text = "é: 1\na:\n  b/c: [x, {d: yy}]\n  e: &m {f: g}\nh: *m\n";
        let (document, _) = parse(text, Format::Yaml);
        let document = document.unwrap();
        for (pointer, value, key) in [
            ("/é", "1", "é"),
            ("/a/b~1c/0", "x", "x"),
            ("/a/b~1c/1/d", "yy", "d"),
            ("/a/b~1c/7", "[x, {d: yy}]", "b/c"),
            ("/a/nothing/more", "b/c: [x, {d: yy}]\n  e: &m {f: g}", "a"),
            ("/a/e/f", "g", "f"),
            ("/h/f", "g", "f"),
            ("", "é", "é"),
        ] {
            assert_eq!(&text[document.span_of(pointer)], value, "{pointer}");
            assert_eq!(&text[document.key_span_of(pointer)], key, "{pointer}");
        }
    }
}
