//! Versions of Python, as manifests, locks and the paths of interpreters name them.
//!
//! Invariant: a version has one text, so equal versions have equal texts.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A version of Python without its patch: `3.11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PythonVersion {
    major: u8,
    minor: u8,
}

/// The text is no version of Python.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no version of Python as `3.11`")]
pub struct NoPythonVersion(String);

/// What a version looks like: what [`PythonVersion::from_str`] reads.
const PATTERN: &str = r"^(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)$";

impl PythonVersion {
    /// The version `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// The second number.
    pub fn minor(self) -> u8 {
        self.minor
    }

    /// Of a full version, as `3.11.7`; none where the text is none.
    pub fn of_release(text: &str) -> Option<Self> {
        text.split('.').take(2).collect::<Vec<_>>().join(".").parse().ok()
    }

    /// What CPython calls it in the names of files of bytecode: `cpython-311` (PEP 3147).
    pub fn cache_tag(self) -> String {
        format!("cpython-{}{}", self.major, self.minor)
    }
}

impl FromStr for PythonVersion {
    type Err = NoPythonVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            let plain = matches!(text.as_bytes(), [b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9']);
            text.parse().ok().filter(|_| plain)
        };
        let parts = text.split_once('.').and_then(|(major, minor)| number(major).zip(number(minor)));
        parts
            .map(|(major, minor)| Self { major, minor })
            .ok_or_else(|| NoPythonVersion(text.chars().take(200).collect()))
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl TryFrom<String> for PythonVersion {
    type Error = NoPythonVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PythonVersion> for String {
    fn from(version: PythonVersion) -> Self {
        version.to_string()
    }
}

impl JsonSchema for PythonVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PythonVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "patternErrorMessage": "two numbers, as \"3.11\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_their_order() {
        let sorted = ["2.7", "3.9", "3.10", "3.11"].map(|text| text.parse::<PythonVersion>().unwrap());
        assert!(sorted.is_sorted());
        assert_eq!(PythonVersion::of_release("3.11.7"), Some(PythonVersion::new(3, 11)));
        assert_eq!(PythonVersion::of_release("3.11"), Some(PythonVersion::new(3, 11)));
        assert_eq!(PythonVersion::of_release("3"), None);
    }

    #[test]
    fn a_version_is_the_same_text_again_and_what_the_schema_takes() {
        let validator = jsonschema::validator_for(schemars::schema_for!(PythonVersion).as_value()).unwrap();
        proptest::proptest!(|(text in "[+ ]?[0-9]{0,3}[.,]?[0-9]{0,3}(\\.[0-9])?\n?")| {
            let read = text.parse::<PythonVersion>();
            proptest::prop_assert_eq!(read.is_ok(), validator.is_valid(&text.clone().into()));
            if let Ok(version) = read {
                proptest::prop_assert_eq!(version.to_string(), text);
            }
        });
    }
}
