//! Diagnostics as a report of code quality, which GitLab shows in merge requests (GitLab's documentation, "Code Quality report
//! format").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Diagnostic, Severity};
use crate::io::digest::Digest;

/// The report.
///
/// GitLab compares the fingerprints of two commits, so a finding keeps its own when lines are added above it: it is made of the
/// file, the rule and the message, and of how many alike come before.
pub fn gitlab<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> Value {
    let mut alike: BTreeMap<_, usize> = BTreeMap::new();
    let finding = |diagnostic: &'a Diagnostic| {
        let source = &diagnostic.primary.source;
        let (path, message) = (source.path(), diagnostic.message.as_str());
        let before = alike.entry((path, diagnostic.code, message)).or_default();
        let fingerprint = Digest::of(format!("{path}\0{}\0{message}\0{before}", diagnostic.code.number())).hex();
        *before += 1;
        let line = if source.text().is_empty() { 1 } else { source.position(diagnostic.primary.span.start).0 };
        let texts = std::iter::once(message).chain(diagnostic.help.iter().map(String::as_str));
        json!({
            "description": texts.collect::<Vec<_>>().join("\n"),
            "check_name": diagnostic.code.number(),
            "fingerprint": fingerprint,
            "severity": match diagnostic.severity() {
                Severity::Error => "major",
                Severity::Warning => "minor",
            },
            "location": { "path": path, "lines": { "begin": line } },
        })
    };
    diagnostics.into_iter().map(finding).collect()
}
