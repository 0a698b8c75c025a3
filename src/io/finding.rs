//! What was found out about this machine: whether something that Ekiben needs is there, and what to do where it is not.

use serde::Serialize;

use super::explain::{Explain, words};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// All goes on, but not as well as it could.
    Warning,
    /// Something that `build` or `run` needs is not there.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at. The same in every version.
    pub name: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found, in a line. No credential is in it.
    pub fact: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    /// All is well with it.
    pub fn ok(name: &'static str, fact: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, fact: fact.into(), advice: None }
    }

    /// It could be better.
    pub fn warning(name: &'static str, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Warning, fact: fact.into(), advice: Some(advice.into()) }
    }

    /// It is not there, or does not work.
    pub fn problem(name: &'static str, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::warning(name, fact, advice) }
    }

    /// What an error says, and its hint.
    pub fn of_error(name: &'static str, level: Level, error: &impl Explain) -> Self {
        let mut fact = String::new();
        for text in words(error).filter(|text| !text.is_empty()) {
            let separator = if fact.is_empty() { "" } else { ": " };
            fact.push_str(separator);
            fact.push_str(&text);
        }
        Self { name, level, fact, advice: error.explain().hint }
    }
}
