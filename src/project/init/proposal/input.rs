//! What a model takes, with an example of each part.

use serde_json::Value as Json;

/// What a model takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Rows of so many values, with an example of each.
    Rows(Vec<Json>),
    /// Rows with named columns, with an example of each.
    Columns(Vec<(String, Json)>),
    /// Texts.
    Texts,
    /// Objects with names and values of any number.
    Records,
    /// Rows of which nobody knows how long they are.
    Unknown,
}

/// More columns than these make no example that a person can read.
pub(super) const MOST_COLUMNS: u64 = 1000;

/// A value as a person would type it: numbers with four digits, no very long texts.
pub fn presentable(value: Json) -> Option<Json> {
    match &value {
        Json::Number(number) if number.is_f64() => {
            let rounded: f64 = format!("{:.3e}", number.as_f64()?).parse().ok()?;
            Some(rounded.into())
        }
        Json::String(text) if text.len() > 200 => None,
        Json::Null => None,
        _ => Some(value),
    }
}
