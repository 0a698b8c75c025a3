//! A value as a person wrote it: what a text means, or the text of what means nothing.
//!
//! Invariant: the text that was written comes back to the letter. So a value has to have as its `Display` the text that
//! it was read from.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text of a document that is to be a `T`, read once. One that is none is no reason to stop reading the document: the
/// check of meaning says what is wrong with it, at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written<T> {
    /// It means this.
    Meant(T),
    /// It means nothing.
    Meaningless(String),
}

impl<T: FromStr> Written<T> {
    /// What it means.
    ///
    /// # Errors
    /// When it means nothing.
    pub fn meant(&self) -> Result<&T, T::Err> {
        match self {
            Self::Meant(value) => Ok(value),
            Self::Meaningless(text) => match text.parse::<T>() {
                Err(error) => Err(error),
                Ok(_) => unreachable!("what means nothing means nothing each time"),
            },
        }
    }
}

impl<T: FromStr> From<String> for Written<T> {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Meaningless(text), Self::Meant)
    }
}

impl<T: FromStr> From<&str> for Written<T> {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<T: fmt::Display> fmt::Display for Written<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meant(value) => value.fmt(f),
            Self::Meaningless(text) => f.write_str(text),
        }
    }
}

impl<T: fmt::Display> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A text: what it has to look like stands beside the key.
impl<T> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_kept_and_said() {
        for (text, meant) in [("7", Some(7)), ("-7", None), ("", None)] {
            let written: Written<u8> = serde_json::from_value(text.into()).unwrap();
            assert_eq!(written.meant().ok().copied(), meant);
            assert_eq!(serde_json::to_value(&written).unwrap(), text);
        }
        assert!(serde_json::from_value::<Written<u8>>(7.into()).is_err());
    }
}
