//! Values as YAML 1.2, in block style throughout.

use std::fmt::Write as _;

use serde_json::Value;

use crate::formats::document::yaml_text;

/// The document, with a newline at its end.
pub(super) fn write(value: &Value) -> String {
    let mut text = String::new();
    node(&mut text, value, 0);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Writes a value behind what stands on the line already; a block starts a line of its own.
fn node(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (key, value)) in map.iter().enumerate() {
                // The first key of an item of a list stands behind its dash.
                let lead = if at == 0 && text.ends_with("- ") { "" } else { indent.as_str() };
                let _ = write!(text, "{lead}{}:", yaml_text(key));
                child(text, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(text, "{indent}-");
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        text.push(' ');
                        node(text, item, depth + 1);
                    }
                    _ => child(text, item, depth + 1),
                }
            }
        }
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        Value::String(string) => text.push_str(&yaml_text(string)),
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

fn child(text: &mut String, value: &Value, depth: usize) {
    let block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    text.push(if block { '\n' } else { ' ' });
    node(text, value, depth);
    if !text.ends_with('\n') {
        text.push('\n');
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
        assert_eq!(write(&value), expected);
    }
}
