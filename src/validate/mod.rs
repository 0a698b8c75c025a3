//! x
pub mod form;

/// near
pub fn near<'a>(word: &str, known: &'a [String]) -> Option<&'a str> { let _=word; known.first().map(String::as_str) }
