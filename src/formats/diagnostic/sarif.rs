//! Diagnostics as SARIF 2.1.0 (OASIS), which code scanning of the forges and editors read.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Code, Diagnostic, Label, Severity};

/// The log of one run.
pub fn sarif(diagnostics: &[&Diagnostic]) -> Value {
    let rules: Vec<Code> =
        diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<BTreeSet<_>>().into_iter().collect();
    let results: Vec<Value> = diagnostics.iter().map(|diagnostic| result(diagnostic, &rules)).collect();
    log(rules.iter().map(|code| rule(*code)).collect(), results)
}

/// The log of one run, with what it looked for and what it found.
pub fn log(rules: Vec<Value>, results: Vec<Value>) -> Value {
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "ekiben",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.number(),
        "name": format!("{code:?}"),
        "shortDescription": { "text": code.title() },
        "fullDescription": { "text": code.explanation() },
        "defaultConfiguration": { "level": level(code.severity()) },
    })
}

fn result(diagnostic: &Diagnostic, rules: &[Code]) -> Value {
    let mut text = diagnostic.message.clone();
    for help in &diagnostic.help {
        text = text + "\n" + help;
    }
    let mut result = json!({
        "ruleId": diagnostic.code.number(),
        "ruleIndex": rules.iter().position(|code| *code == diagnostic.code),
        "level": level(diagnostic.severity()),
        "message": { "text": text },
        "locations": [location(&diagnostic.primary)],
    });
    if !diagnostic.secondary.is_empty()
        && let Some(result) = result.as_object_mut()
    {
        result.insert("relatedLocations".to_owned(), diagnostic.secondary.iter().map(location).collect());
    }
    result
}

fn location(label: &Label) -> Value {
    let source = &label.source;
    let mut physical = json!({ "artifactLocation": { "uri": uri(source.path()) } });
    if !source.text().is_empty()
        && let Some(physical) = physical.as_object_mut()
    {
        let ((line, column), (end_line, end_column)) =
            (source.position(label.span.start), source.position(label.span.end));
        let region = json!({
            "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column,
        });
        physical.insert("region".to_owned(), region);
    }
    let mut location = json!({ "physicalLocation": physical });
    if !label.text.is_empty()
        && let Some(location) = location.as_object_mut()
    {
        location.insert("message".to_owned(), json!({ "text": label.text }));
    }
    location
}

/// A path as a reference (RFC 3986, section 4.2).
pub fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
