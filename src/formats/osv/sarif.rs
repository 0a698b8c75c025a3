//! Findings as SARIF 2.1.0 (OASIS), which code scanning of the forges reads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Severity};
use crate::formats::diagnostic::{sarif_log, uri};

/// The log of one run over what `place` names: a file of the project, or an image.
pub fn sarif(findings: &[Finding], place: &str) -> Value {
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in findings {
        let known = rules.entry(&finding.id).or_insert(finding);
        if finding.severity > known.severity {
            *known = finding;
        }
    }
    let numbers: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(number, id)| (*id, number)).collect();
    let results = findings.iter().map(|finding| {
        let Finding { package, version, id, fixed, summary, .. } = finding;
        let repaired = match fixed {
            Some(fixed) => format!("repaired in {fixed}"),
            None => "no version without it is known".to_owned(),
        };
        let what = summary.as_ref().map(|summary| format!(": {summary}")).unwrap_or_default();
        json!({
            "ruleId": id,
            "ruleIndex": numbers.get(id.as_str()),
            "level": level(finding.severity),
            "message": { "text": format!("{package} {version} has {id} ({}){what}; {repaired}", finding.severity) },
            "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(place) } } }],
            "partialFingerprints": { "vulnerability/v1": format!("{}/{package}/{id}", finding.kind.word()) },
        })
    });
    let results: Vec<Value> = results.collect();
    let rules = rules.values().map(|finding| {
        let said = finding.summary.clone().unwrap_or_else(|| finding.id.clone());
        let score = finding.score.unwrap_or_else(|| score(finding.severity));
        json!({
            "id": finding.id,
            "shortDescription": { "text": said },
            "defaultConfiguration": { "level": level(finding.severity) },
            "properties": { "security-severity": format!("{score:.1}"), "tags": ["security", "vulnerability"] },
        })
    });
    sarif_log(rules.collect(), results)
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium | Severity::Unknown => "warning",
        Severity::Low => "note",
    }
}

/// Where it has none: the middle of what the word stands for.
fn score(severity: Severity) -> f64 {
    match severity {
        Severity::Critical => 9.5,
        Severity::High => 8.0,
        Severity::Medium | Severity::Unknown => 5.5,
        Severity::Low => 2.0,
    }
}
