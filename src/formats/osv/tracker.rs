//! Debian's security tracker as JSON: what its team knows of each source package in each release
//! (<https://security-team.debian.org/security_tracker.html>).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::{Finding, Found, Severity, Wanted, compared};
use crate::formats::sbom::{Kind, Package};

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    description: String,
    #[serde(default)]
    releases: BTreeMap<String, Release>,
}

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    status: String,
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    urgency: String,
}

/// Adds to `found` which of the `wanted` packages have a vulnerability that the tracker `text` knows, and says how many sources
/// it knows. Of what Debian has not found out yet, nothing is said.
///
/// # Errors
/// When the text is no such document.
pub fn tracked(text: &[u8], wanted: &Wanted<'_>, found: &mut Found) -> serde_json::Result<usize> {
    let mut document = serde_json::Deserializer::from_slice(text);
    let count = document.deserialize_map(Sources { wanted, found })?;
    document.end()?;
    Ok(count)
}

/// The sources, one after the other: what is not wanted is passed over.
struct Sources<'a, 'b> {
    wanted: &'a Wanted<'b>,
    found: &'a mut Found,
}

impl<'de> Visitor<'de> for Sources<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of source packages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while let Some(source) = all.next_key::<String>()? {
            count += 1;
            match self.wanted.sources(&source) {
                [] => drop(all.next_value::<IgnoredAny>()?),
                packages => {
                    for (id, known) in all.next_value::<BTreeMap<String, Known>>()? {
                        let Some(release) = self.wanted.debian.and_then(|name| known.releases.get(name)) else {
                            continue;
                        };
                        packages.iter().filter_map(|one| judge(one, &id, &known, release)).for_each(|one| {
                            self.found.add(one, BTreeSet::new());
                        });
                    }
                }
            }
        }
        Ok(count)
    }
}

/// What `release` says of a package.
fn judge(package: &Package, id: &str, known: &Known, release: &Release) -> Option<Finding> {
    let (source, version) = package.source();
    let repaired = release.fixed_version.as_deref();
    let is_vulnerable = match (release.status.as_str(), repaired) {
        ("open", _) => true,
        // It never was.
        ("resolved", Some("0")) => false,
        ("resolved", Some(repaired)) => compared(Kind::Deb, version, repaired) == Some(Ordering::Less),
        _ => false,
    };
    is_vulnerable.then(|| Finding {
        kind: package.kind,
        package: package.name.clone(),
        version: package.version.clone(),
        source: source.to_owned(),
        id: id.to_owned(),
        aliases: Vec::new(),
        severity: Severity::of_word(&release.urgency),
        score: None,
        fixed: repaired.filter(|_| release.status == "resolved").map(str::to_owned),
        summary: known.description.lines().next().map(str::to_owned).filter(|line| !line.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::sbom::System;

    #[test]
    fn what_is_open_or_repaired_later_is_found() {
        let text = br#"{
            "other": {"CVE-9": {"releases": [["odd"]]}},
            "a": {
                "CVE-1": {"description": "bad", "releases": {"bookworm": {"status": "open", "urgency": "high**"}}},
                "CVE-2": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "1.0-2", "urgency": "low"}}},
                "CVE-3": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "1.0-1"}}},
                "CVE-4": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "0"}}},
                "CVE-5": {"releases": {"trixie": {"status": "open"}}},
                "CVE-6": {"releases": {"bookworm": {"status": "undetermined"}}}
            }}"#;
        let system = System { id: "debian".to_owned(), version: Some("12".to_owned()), title: None };
        let packages = [Package::new(Kind::Deb, "a".to_owned(), "1.0-1".to_owned())];
        let (wanted, mut found) = (Wanted::new(&packages, Some(&system)), Found::default());
        assert_eq!(tracked(text, &wanted, &mut found).unwrap(), 2);
        let told: Vec<_> = found.findings().into_iter().map(|one| (one.id, one.severity, one.fixed)).collect();
        let fixed = Some("1.0-2".to_owned());
        assert_eq!(told, [("CVE-1".to_owned(), Severity::High, None), ("CVE-2".to_owned(), Severity::Low, fixed)]);
    }

    #[test]
    fn what_is_none_is_refused() {
        let wanted = Wanted::default();
        for text in ["[]", "{", "{} {}", &format!("{{\"a\":{}", "[".repeat(100_000))] {
            assert!(tracked(text.as_bytes(), &wanted, &mut Found::default()).is_err(), "{}", &text[..2]);
        }
    }
}
