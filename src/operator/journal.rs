//! What the operator tells whoever reads its log: a line of JSON for each thing that it did.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::json;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// All is well.
    Info,
    /// Something went wrong that is tried again.
    Warning,
}

/// Tells of `subject`, a resource or a part of the operator. There is nobody to tell where stderr is closed.
pub fn tell(weight: Weight, subject: &str, text: &str) {
    let level = match weight {
        Weight::Info => "info",
        Weight::Warning => "warning",
    };
    let line = json!({"time": Timestamp::now().to_string(), "level": level, "subject": subject, "message": text});
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
