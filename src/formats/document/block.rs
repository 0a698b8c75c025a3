//! Values as YAML 1.2, in block style throughout, with comments where somebody is to read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::{pointer, yaml_text};

/// Columns that a line of a comment has at most.
const WIDTH: usize = 120;

/// The document, with a newline at its end.
pub fn yaml(value: &Value) -> String {
    yaml_with_notes(value, &BTreeMap::new())
}

/// The same with comments: each stands above the key that its JSON pointer leads to.
pub fn yaml_with_notes(value: &Value, notes: &BTreeMap<String, String>) -> String {
    let mut writer = Writer { text: String::new(), notes };
    writer.node(value, 0, "");
    if !writer.text.ends_with('\n') {
        writer.text.push('\n');
    }
    writer.text
}

struct Writer<'a> {
    text: String,
    notes: &'a BTreeMap<String, String>,
}

impl Writer<'_> {
    /// Writes a value behind what stands on the line already; a block starts a line of its own.
    fn node(&mut self, value: &Value, depth: usize, at: &str) {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (number, (key, value)) in map.iter().enumerate() {
                    let at = format!("{at}{}", pointer([key.as_str()]));
                    // The first key of an item of a list stands behind its dash.
                    let is_behind_dash = number == 0 && self.text.ends_with("- ");
                    self.note(&at, &indent, is_behind_dash);
                    let lead = if is_behind_dash { "" } else { indent.as_str() };
                    let _ = write!(self.text, "{lead}{}:", yaml_text(key));
                    self.child(value, depth + 1, &at);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (number, item) in items.iter().enumerate() {
                    let at = format!("{at}/{number}");
                    let _ = write!(self.text, "{indent}-");
                    match item {
                        Value::Object(map) if !map.is_empty() => {
                            self.text.push(' ');
                            self.node(item, depth + 1, &at);
                        }
                        _ => self.child(item, depth + 1, &at),
                    }
                }
            }
            Value::Object(_) => self.text.push_str("{}"),
            Value::Array(_) => self.text.push_str("[]"),
            Value::String(string) => self.text.push_str(&yaml_text(string)),
            other => {
                let _ = write!(self.text, "{other}");
            }
        }
    }

    fn child(&mut self, value: &Value, depth: usize, at: &str) {
        let block = match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        self.text.push(if block { '\n' } else { ' ' });
        self.node(value, depth, at);
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// The comment of the key at `at`, above its line.
    fn note(&mut self, at: &str, indent: &str, is_behind_dash: bool) {
        let Some(note) = self.notes.get(at) else { return };
        // Above the line that the dash stands on.
        let dash = if is_behind_dash { self.text.rfind('\n').map_or(0, |end| end + 1) } else { self.text.len() };
        let line = self.text.split_off(dash);
        let indent = if is_behind_dash { &indent[..indent.len() - 2] } else { indent };
        let mut width = usize::MAX;
        for word in note.split_whitespace() {
            if width.saturating_add(1 + word.len()) > WIDTH {
                if width < usize::MAX {
                    self.text.push('\n');
                }
                let _ = write!(self.text, "{indent}#");
                width = indent.len() + 1;
            }
            let _ = write!(self.text, " {word}");
            width += 1 + word.len();
        }
        self.text.push('\n');
        self.text.push_str(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_blocks() {
        let value =
            serde_json::json!({"a": [1, {"b": "no", "c": []}, [true]], "d": {"e f": "1.10", "g": null}, "h": "x: y"});
        let expected =
            "a:\n  - 1\n  - b: \"no\"\n    c: []\n  -\n    - true\nd:\n  e f: \"1.10\"\n  g: null\nh: \"x: y\"\n";
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn a_note_stands_above_its_key() {
        let value = serde_json::json!({"a": [{"b": 1, "c": {"d/e": 2}}]});
        let long = "word ".repeat(30);
        let notes = [("/a", "one"), ("/a/0/b", "two"), ("/a/0/c/d~1e", long.as_str()), ("/gone", "x")];
        let notes = notes.map(|(at, note)| (at.to_owned(), note.to_owned())).into();
        let written = yaml_with_notes(&value, &notes);
        let line = |words: usize| format!("      #{}", " word".repeat(words));
        let expected = format!("# one\na:\n  # two\n  - b: 1\n    c:\n{}\n{}\n      d/e: 2\n", line(22), line(8));
        assert_eq!(written, expected);
    }
}
