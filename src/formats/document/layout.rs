//! Values as a person would write them: on one line what fits on it, else over several, in JSON or YAML.

use std::fmt::Write as _;

use serde_json::Value;

use super::Format;

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// In which language: JSON5 is written as JSON.
    pub format: Format,
    /// Columns that a line may have. A text is never broken, so there may be longer ones.
    pub width: usize,
}

/// Columns by which what is within something else is set in.
const STEP: usize = 2;

impl Layout {
    /// The value in brackets, to stand at `column`; the lines after the first are set in by `indent` at least.
    pub fn flow(&self, value: &Value, indent: usize, column: usize) -> String {
        let mut text = String::new();
        self.write_flow(&mut text, value, indent, column);
        text
    }

    /// The value without brackets, as YAML has it: on the line of its key, which ends at `column`, or on lines of its own,
    /// set in by `indent`; then the text begins with the end of the key's line.
    pub fn block(&self, value: &Value, indent: usize, column: usize) -> String {
        let mut text = String::new();
        self.write_block(&mut text, value, indent, column);
        text
    }

    fn write_flow(&self, text: &mut String, value: &Value, indent: usize, column: usize) {
        if let Some(line) = self.line(value, column) {
            text.push_str(&line);
            return;
        }
        let inner = indent + STEP;
        let margin = " ".repeat(inner);
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    text.push_str(if at == 0 { "{\n" } else { ",\n" });
                    let key = self.scalar(&Value::from(key.as_str()));
                    let _ = write!(text, "{margin}{key}: ");
                    self.write_flow(text, value, inner, inner + key.chars().count() + 2);
                }
                let _ = write!(text, "\n{}}}", " ".repeat(indent));
            }
            Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_object()) => {
                for (at, item) in items.iter().enumerate() {
                    text.push_str(if at == 0 { "[\n" } else { ",\n" });
                    text.push_str(&margin);
                    self.write_flow(text, item, inner, inner);
                }
                let _ = write!(text, "\n{}]", " ".repeat(indent));
            }
            Value::Array(items) if !items.is_empty() => {
                // As many on a line as fit.
                let mut column = usize::MAX;
                for (at, item) in items.iter().enumerate() {
                    let item = self.scalar(item);
                    let length = item.chars().count() + 2;
                    if column.saturating_add(length) > self.width {
                        text.push_str(if at == 0 { "[\n" } else { ",\n" });
                        text.push_str(&margin);
                        column = inner;
                    } else {
                        text.push_str(", ");
                    }
                    text.push_str(&item);
                    column += length;
                }
                let _ = write!(text, "\n{}]", " ".repeat(indent));
            }
            scalar => text.push_str(&self.scalar(scalar)),
        }
    }

    fn write_block(&self, text: &mut String, value: &Value, indent: usize, column: usize) {
        let begins_line = text.ends_with("- ");
        let fits = self.line(value, column);
        match (value, fits) {
            (_, Some(line)) => {
                let space = if begins_line { "" } else { " " };
                let _ = write!(text, "{space}{line}");
            }
            (Value::Object(entries), None) if !entries.is_empty() => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    if !(at == 0 && begins_line) {
                        let _ = write!(text, "\n{}", " ".repeat(indent));
                    }
                    let key = self.scalar(&Value::from(key.as_str()));
                    let _ = write!(text, "{key}:");
                    self.write_block(text, value, indent + STEP, indent + key.chars().count() + 2);
                }
            }
            (Value::Array(items), None) if items.iter().any(|item| item.is_array() || item.is_object()) => {
                for item in items {
                    let _ = write!(text, "\n{}- ", " ".repeat(indent));
                    match item {
                        // A list in a list has its own line, or brackets.
                        Value::Array(_) => self.write_flow(text, item, indent + STEP, indent + STEP),
                        _ => self.write_block(text, item, indent + STEP, indent + STEP),
                    }
                }
            }
            (value, None) => {
                text.push(' ');
                self.write_flow(text, value, indent, column);
            }
        }
    }

    /// All of the value on a line, if it ends within the width.
    fn line(&self, value: &Value, column: usize) -> Option<String> {
        let mut line = String::new();
        let room = self.width.checked_sub(column)?;
        (self.write_line(&mut line, value, room) && line.chars().count() <= room).then_some(line)
    }

    /// Stops where the line is longer than `room` bytes can make it, and says whether all is written.
    fn write_line(&self, line: &mut String, value: &Value, room: usize) -> bool {
        let mut all = true;
        match value {
            Value::Object(entries) => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    line.push_str(if at == 0 { "{" } else { ", " });
                    line.push_str(&self.scalar(&Value::from(key.as_str())));
                    line.push_str(": ");
                    all = self.write_line(line, value, room);
                    if !all {
                        break;
                    }
                }
                line.push_str(if entries.is_empty() { "{}" } else { "}" });
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    line.push_str(if at == 0 { "[" } else { ", " });
                    all = self.write_line(line, item, room);
                    if !all {
                        break;
                    }
                }
                line.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            scalar => line.push_str(&self.scalar(scalar)),
        }
        // A character has at most four bytes.
        all && line.len() <= room.saturating_mul(4)
    }

    /// A value that holds no others, or a key.
    fn scalar(&self, value: &Value) -> String {
        match (self.format, value) {
            (Format::Yaml, Value::String(text)) => yaml_text(text),
            (_, value) => value.to_string(),
        }
    }
}

/// A text as YAML has it. What could be read as anything else is quoted as JSON quotes it, which YAML understands.
pub fn yaml_text(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | ' ' | '-' | '(' | ')' | '$');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '$')
        && text.chars().all(safe)
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::new();
    for c in Value::from(text).to_string().chars() {
        // JSON leaves these as they are; YAML takes them for line ends, or not at all.
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_fits_on_a_line_stands_on_one() {
        let value = json!({"class": "setosa", "probabilities": [0.25, 0.5], "rest": {"a": [{"b": 1}, null]}});
        let json = |width| Layout { format: Format::Json, width }.flow(&value, 0, 0);
        let line = r#"{"class": "setosa", "probabilities": [0.25, 0.5], "rest": {"a": [{"b": 1}, null]}}"#;
        assert_eq!(json(200), line);
        assert_eq!(
            json(40),
            "{\n  \"class\": \"setosa\",\n  \"probabilities\": [0.25, 0.5],\n  \"rest\": {\"a\": [{\"b\": 1}, null]}\n}"
        );
        let numbers = Layout { format: Format::Json, width: 12 }.flow(&json!([1, 2, 3, 4, 5]), 0, 0);
        assert_eq!(numbers, "[\n  1, 2, 3,\n  4, 5\n]");
        let yaml = |width| Layout { format: Format::Yaml, width }.block(&value, 4, 11);
        assert_eq!(yaml(200), " {class: setosa, probabilities: [0.25, 0.5], rest: {a: [{b: 1}, null]}}");
        assert_eq!(yaml(34), "\n    class: setosa\n    probabilities: [0.25, 0.5]\n    rest: {a: [{b: 1}, null]}");
    }
}
