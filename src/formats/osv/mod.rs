//! Known vulnerabilities: records of OSV (<https://ossf.github.io/osv-schema/>, version 1.7) and Debian's security tracker, and
//! which of them a version of a package has.
//!
//! Invariant: versions are compared as those do who give them, PEP 440 and Debian Policy 5.6.12; what cannot be compared is
//! vulnerable only where a record names it letter by letter. Withdrawn records say nothing.

mod ignore;
mod sarif;
mod tracker;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr as _;

use serde::{Deserialize, Serialize};

pub use ignore::{Ignored, NotIgnored, ignored, without};
pub use sarif::sarif;
pub use tracker::tracked;

use crate::formats::sbom::{Kind, Package, System, normalised};

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nobody says.
    #[default]
    Unknown,
    /// A score below 4.
    Low,
    /// A score below 7.
    Medium,
    /// A score below 9.
    High,
    /// Any higher score.
    Critical,
}

impl Severity {
    fn of_score(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Self::Critical,
            score if score >= 7.0 => Self::High,
            score if score >= 4.0 => Self::Medium,
            score if score > 0.0 => Self::Low,
            _ => Self::Unknown,
        }
    }

    /// What databases call it: GitHub's, and Debian's for urgencies.
    fn of_word(word: &str) -> Self {
        match word.to_ascii_lowercase().trim_end_matches('*') {
            "critical" => Self::Critical,
            "high" => Self::High,
            "moderate" | "medium" => Self::Medium,
            "low" | "unimportant" => Self::Low,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// A vulnerability that a package has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Who installs the package.
    pub kind: Kind,
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// What it was made from, which is what Debian's records name.
    pub source: String,
    /// The best known of its names: a CVE's, where it has one.
    pub id: String,
    /// The others.
    pub aliases: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The score that says so (CVSS), where there is one.
    pub score: Option<f64>,
    /// The first version without it, where there is one.
    pub fixed: Option<String>,
    /// What it is, in a line.
    pub summary: Option<String>,
}

/// A record.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Record {
    id: String,
    #[serde(default)]
    modified: String,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    /// Of records that a distribution makes of others.
    #[serde(default)]
    upstream: Vec<String>,
    #[serde(default)]
    related: Vec<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    severity: Vec<Score>,
    #[serde(default)]
    affected: Vec<Affected>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

#[derive(Clone, Debug, Deserialize)]
struct Score {
    score: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Affected {
    #[serde(default)]
    package: Option<Named>,
    #[serde(default)]
    severity: Vec<Score>,
    #[serde(default)]
    ranges: Vec<Range>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    ecosystem_specific: Option<Specific>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    ecosystem: String,
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Range {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Event {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
    limit: Option<String>,
}

/// What databases add. Others have other things at these names.
#[derive(Clone, Debug, Default, Deserialize)]
struct Specific {
    #[serde(default)]
    severity: serde_json::Value,
    #[serde(default)]
    urgency: serde_json::Value,
}

impl Specific {
    fn severity(&self) -> Severity {
        let of = |value: &serde_json::Value| value.as_str().map(Severity::of_word).unwrap_or_default();
        of(&self.severity).max(of(&self.urgency))
    }
}

/// Compares two versions of one kind of packages; none where one of them is no version.
fn compared(kind: Kind, a: &str, b: &str) -> Option<Ordering> {
    match kind {
        Kind::Deb => Some(debversion::Version::from_str(a).ok()?.cmp(&debversion::Version::from_str(b).ok()?)),
        Kind::Pypi => {
            // What stands behind `+` says who built it.
            let public = |text: &str| pep440_rs::Version::from_str(text.split('+').next().unwrap_or(text)).ok();
            Some(public(a)?.cmp(&public(b)?))
        }
        Kind::Apk => None,
    }
}

impl Range {
    /// Whether it has `version` (OSV schema, "Evaluation").
    fn has(&self, kind: Kind, version: &str) -> bool {
        if self.kind == "GIT" || compared(kind, version, version).is_none() {
            return false;
        }
        let order = |other: &str| if other == "0" { Some(Ordering::Greater) } else { compared(kind, version, other) };
        let mut limits = self.events.iter().filter_map(|event| event.limit.as_deref()).peekable();
        let is_below = |limit: &str| limit == "*" || order(limit) == Some(Ordering::Less);
        if limits.peek().is_some() && !limits.any(is_below) {
            return false;
        }
        // The last event at or below the version says what it is: of two at the same version, the repair.
        let mut last: Option<(&str, bool)> = None;
        for event in &self.events {
            let (at, is_vulnerable, counts) = match event {
                Event { introduced: Some(at), .. } => (at, true, order(at).is_some_and(Ordering::is_ge)),
                Event { fixed: Some(at), .. } => (at, false, order(at).is_some_and(Ordering::is_ge)),
                Event { last_affected: Some(at), .. } => (at, false, order(at) == Some(Ordering::Greater)),
                _ => continue,
            };
            let is_later = |(before, _): (&str, bool)| match (before, at.as_str()) {
                ("0", _) => true,
                (_, "0") => false,
                (before, at) => match compared(kind, at, before) {
                    Some(Ordering::Greater) => true,
                    Some(Ordering::Equal) => !is_vulnerable,
                    _ => false,
                },
            };
            if counts && last.is_none_or(is_later) {
                last = Some((at, is_vulnerable));
            }
        }
        last.is_some_and(|(_, is_vulnerable)| is_vulnerable)
    }

    /// The first version above `version` that is repaired.
    fn fixed(&self, kind: Kind, version: &str) -> Option<&str> {
        let fixed = self.events.iter().filter_map(|event| event.fixed.as_deref());
        let above = fixed.filter(|fixed| compared(kind, fixed, version) == Some(Ordering::Greater));
        above.min_by(|a, b| compared(kind, a, b).unwrap_or(Ordering::Equal))
    }
}

/// What is asked of databases: packages by what records call them.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    packages: BTreeMap<(String, String), Vec<&'a Package>>,
    /// The names of sources, and the release of Debian that they are of.
    debian: Option<&'static str>,
}

/// Releases of Debian: their numbers and names.
const RELEASES: [(&str, &str); 6] =
    [("10", "buster"), ("11", "bullseye"), ("12", "bookworm"), ("13", "trixie"), ("14", "forky"), ("15", "duke")];

/// The release of Debian with the name `suite`, as packages of it have it.
pub fn debian(suite: &str) -> System {
    let known = RELEASES.iter().find(|(_, name)| *name == suite);
    System { id: "debian".to_owned(), version: known.map(|(number, _)| (*number).to_owned()), title: None }
}

impl<'a> Wanted<'a> {
    /// `packages`, those of a distribution in `system`. What no database that is known here tells of is left out.
    pub fn new(packages: &'a [Package], system: Option<&System>) -> Self {
        let mut wanted = Self::default();
        let number = system.filter(|system| system.id == "debian").and_then(|system| system.version.as_deref());
        let number = number.map(|number| number.split('.').next().unwrap_or(number));
        wanted.debian = RELEASES.iter().find(|(known, _)| Some(*known) == number).map(|(_, name)| *name);
        for package in packages {
            let named = match package.kind {
                Kind::Pypi => Some(("PyPI".to_owned(), normalised(&package.name))),
                Kind::Deb => number.map(|number| (format!("Debian:{number}"), package.source().0.to_owned())),
                Kind::Apk => None,
            };
            if let Some(named) = named {
                wanted.packages.entry(named).or_default().push(package);
            }
        }
        wanted
    }

    /// What databases call those who give these packages: `PyPI`, `Debian:12`.
    pub fn ecosystems(&self) -> BTreeSet<&str> {
        self.packages.keys().map(|(ecosystem, _)| ecosystem.as_str()).collect()
    }

    /// How many packages databases are asked for.
    pub fn len(&self) -> usize {
        self.packages.values().map(Vec::len).sum()
    }

    /// Whether databases are asked for nothing.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// The packages that are made from a source of Debian's.
    fn sources(&self, name: &str) -> &[&'a Package] {
        let number = RELEASES.iter().find(|(_, known)| Some(*known) == self.debian);
        number.map(|(number, _)| self.of(&format!("Debian:{number}"), name)).unwrap_or_default()
    }

    /// The packages that a record means.
    fn of(&self, ecosystem: &str, name: &str) -> &[&'a Package] {
        let name = if ecosystem == "PyPI" { normalised(name) } else { name.to_owned() };
        self.packages.get(&(ecosystem.to_owned(), name)).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Record {
    /// Whose packages it is about.
    pub fn ecosystems(&self) -> impl Iterator<Item = &str> {
        self.affected.iter().filter_map(|affected| Some(affected.package.as_ref()?.ecosystem.as_str()))
    }

    /// When it was last changed, as it says.
    pub fn modified(&self) -> &str {
        &self.modified
    }

    /// Adds to `found` which of the `wanted` packages have it.
    pub fn judge(&self, wanted: &Wanted<'_>, found: &mut Found) {
        if self.withdrawn.is_some() {
            return;
        }
        for affected in &self.affected {
            let Some(Named { ecosystem, name }) = &affected.package else { continue };
            for package in wanted.of(ecosystem, name) {
                let (source, version) = package.source();
                let version = if package.kind == Kind::Deb { version } else { package.version.as_str() };
                let is_named = affected
                    .versions
                    .iter()
                    .any(|one| one == version || compared(package.kind, one, version) == Some(Ordering::Equal));
                let in_range = affected.ranges.iter().any(|range| range.has(package.kind, version));
                if !is_named && !in_range {
                    continue;
                }
                let fixed = affected.ranges.iter().filter(|range| range.kind != "GIT");
                let fixed = fixed.filter_map(|range| range.fixed(package.kind, version));
                let fixed = fixed.min_by(|a, b| compared(package.kind, a, b).unwrap_or(Ordering::Equal));
                let (severity, score) = self.severity(affected);
                let finding = Finding {
                    kind: package.kind,
                    package: package.name.clone(),
                    version: package.version.clone(),
                    source: source.to_owned(),
                    id: self.id.clone(),
                    aliases: self.names(),
                    severity,
                    score,
                    fixed: fixed.map(str::to_owned),
                    summary: self.line(),
                };
                found.add(finding, if self.is_advisory() { self.about() } else { BTreeSet::new() });
            }
        }
    }

    /// What it is, in a line.
    fn line(&self) -> Option<String> {
        const LONGEST: usize = 200;
        let said = self.summary.as_deref().filter(|text| !text.trim().is_empty()).or(self.details.as_deref())?;
        let line = said.trim().lines().next().unwrap_or_default();
        Some(line.chars().take(LONGEST).collect())
    }

    /// Whether it is one of Debian's, of several vulnerabilities at once.
    fn is_advisory(&self) -> bool {
        ["DSA-", "DLA-", "DTSA-"].iter().any(|start| self.id.starts_with(start))
    }

    /// What an advisory is about.
    fn about(&self) -> BTreeSet<String> {
        self.upstream.iter().chain(&self.aliases).chain(&self.related).cloned().collect()
    }

    /// The other names of the same.
    fn names(&self) -> Vec<String> {
        if self.is_advisory() {
            return Vec::new();
        }
        // What Debian says of a CVE has its name.
        let own = self.id.strip_prefix("DEBIAN-").map(str::to_owned);
        self.aliases.iter().cloned().chain(own).collect()
    }

    fn severity(&self, affected: &Affected) -> (Severity, Option<f64>) {
        let scores = affected.severity.iter().chain(&self.severity);
        let scores = scores.filter_map(|one| cvss::Cvss::from_str(&one.score).ok()).map(|vector| vector.score());
        let score = scores.fold(None, |most: Option<f64>, score| Some(most.map_or(score, |most| most.max(score))));
        let said = affected.ecosystem_specific.iter().chain(&self.database_specific);
        let said = said.map(Specific::severity).max().unwrap_or_default();
        (score.map_or(said, Severity::of_score), score)
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Found {
    all: Vec<(Finding, BTreeSet<String>)>,
}

impl Found {
    /// Adds a finding; one that is an advisory says what that is about.
    fn add(&mut self, finding: Finding, about: BTreeSet<String>) {
        self.all.push((finding, about));
    }

    /// All of them, the worst first: those that are the same by other names once, and no advisory on what is there anyway.
    pub fn findings(self) -> Vec<Finding> {
        let mut groups: Vec<(Finding, BTreeSet<String>, BTreeSet<String>)> = Vec::new();
        for (finding, about) in self.all {
            let mut names: BTreeSet<String> = finding.aliases.iter().cloned().collect();
            names.insert(finding.id.clone());
            let mut merged = (finding, names, about);
            // It may be what holds two together that were apart.
            let mut rest = Vec::new();
            for group in groups {
                match is_same(&group, &merged) {
                    true => merged = both(group, merged),
                    false => rest.push(group),
                }
            }
            rest.push(merged);
            groups = rest;
        }
        let known: Vec<(Kind, String, String, BTreeSet<String>)> = groups
            .iter()
            .filter(|(_, _, about)| about.is_empty())
            .map(|(one, names, _)| (one.kind, one.package.clone(), one.version.clone(), names.clone()))
            .collect();
        let is_told = |(one, _, about): &(Finding, BTreeSet<String>, BTreeSet<String>)| {
            known.iter().any(|(kind, package, version, names)| {
                *kind == one.kind && *package == one.package && *version == one.version && !names.is_disjoint(about)
            })
        };
        groups.retain(|group| !is_told(group));
        let mut findings: Vec<Finding> = groups
            .into_iter()
            .map(|(one, names, _)| {
                let mut names: Vec<String> = names.into_iter().collect();
                names.sort_by_key(|name| (rank(name), name.clone()));
                let id = names.first().cloned().unwrap_or_default();
                Finding { id, aliases: names.split_off(1.min(names.len())), ..one }
            })
            .collect();
        let key =
            |one: &Finding| (std::cmp::Reverse(one.severity), one.package.clone(), one.version.clone(), one.id.clone());
        findings.sort_by_key(key);
        findings
    }
}

/// How well a name is known.
fn rank(name: &str) -> usize {
    ["CVE-", "GHSA-", "PYSEC-", "DSA-"].iter().position(|start| name.starts_with(start)).unwrap_or(usize::MAX)
}

type Group = (Finding, BTreeSet<String>, BTreeSet<String>);

fn is_same((a, names, _): &Group, (b, others, _): &Group) -> bool {
    a.kind == b.kind && a.package == b.package && a.version == b.version && !names.is_disjoint(others)
}

/// Two of the same as one: as bad as the worse says, repaired where both are.
fn both((a, mut names, mut about): Group, (b, others, more): Group) -> Group {
    names.extend(others);
    about.extend(more);
    let fixed = match (&a.fixed, &b.fixed) {
        (Some(one), Some(other)) => match compared(a.kind, one, other) {
            Some(Ordering::Less) => b.fixed.clone(),
            _ => a.fixed.clone(),
        },
        _ => a.fixed.clone().or_else(|| b.fixed.clone()),
    };
    let score = match (a.score, b.score) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    };
    let severity = score.map_or(a.severity.max(b.severity), Severity::of_score);
    let summary = a.summary.clone().or(b.summary);
    (Finding { fixed, score, severity, summary, ..a }, names, about)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        serde_json::from_str(text).unwrap()
    }

    fn findings(records: &[&str], packages: &[Package]) -> Vec<Finding> {
        let system = System { id: "debian".to_owned(), version: Some("12".to_owned()), title: None };
        let wanted = Wanted::new(packages, Some(&system));
        let mut found = Found::default();
        records.iter().for_each(|text| record(text).judge(&wanted, &mut found));
        found.findings()
    }

    fn pypi(name: &str, version: &str) -> Package {
        Package::new(Kind::Pypi, name.to_owned(), version.to_owned())
    }

    fn ranged(events: &str) -> String {
        format!(
            r#"{{"id":"PYSEC-1","affected":[{{"package":{{"ecosystem":"PyPI","name":"A_b"}},
            "ranges":[{{"type":"ECOSYSTEM","events":[{events}]}},{{"type":"GIT","events":[{{"introduced":"0"}}]}}]}}]}}"#
        )
    }

    #[test]
    fn ranges_are_evaluated_as_the_schema_says() {
        let two = r#"{"introduced":"0"},{"fixed":"1.2"},{"introduced":"2.0"},{"last_affected":"2.5"}"#;
        for (version, fixed) in [
            ("0.1", Some("1.2")),
            ("1.2rc1", Some("1.2")),
            ("1.2", None),
            ("1.10", None),
            ("2.0", None),
            ("2.5", None),
            ("2.5+cpu", None),
            ("2.5.post1", None),
            ("no version", None),
        ] {
            let is_vulnerable = !["1.2", "1.10", "2.5.post1", "no version"].contains(&version);
            let found = findings(&[&ranged(two)], &[pypi("a-b", version)]);
            assert_eq!(found.len(), usize::from(is_vulnerable), "{version}");
            if let Some(found) = found.first() {
                assert_eq!(found.fixed.as_deref(), fixed, "{version}");
            }
        }
        // Events need not be in order, and a limit ends all.
        let odd = r#"{"fixed":"3"},{"introduced":"1"},{"limit":"2"}"#;
        let of = |version| findings(&[&ranged(odd)], &[pypi("a-b", version)]).len();
        assert_eq!((of("0.9"), of("1"), of("2"), of("3")), (0, 1, 0, 0));
        let same = r#"{"fixed":"1"},{"introduced":"1"}"#;
        assert_eq!(findings(&[&ranged(same)], &[pypi("a-b", "1")]).len(), 0);
    }

    #[test]
    fn debian_versions_are_those_of_the_source() {
        let text = r#"{"id":"DEBIAN-CVE-2024-1","upstream":["CVE-2024-1"],"affected":[{"package":{"ecosystem":"Debian:12","name":"lvm2"},
            "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.03.16-3~deb12u1"}]}],
            "ecosystem_specific":{"urgency":"low"}}]}"#;
        let source =
            |version: &str| Some(crate::formats::sbom::Source { name: "lvm2".to_owned(), version: version.to_owned() });
        let package = Package::new(Kind::Deb, "libdevmapper1.02.1".to_owned(), "2:1.02.185-2".to_owned());
        let old = Package { source: source("2.03.16-2"), ..package.clone() };
        let found = findings(&[text], &[old, Package { source: source("2.03.16-3"), ..package }]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].severity), ("CVE-2024-1", Severity::Low));
        assert_eq!(found[0].fixed.as_deref(), Some("2.03.16-3~deb12u1"));
    }

    #[test]
    fn the_same_by_other_names_is_told_once() {
        let one = |id: &str, aliases: &str, more: &str| {
            format!(
                r#"{{"id":"{id}","aliases":{aliases},"affected":[{{"package":{{"ecosystem":"PyPI","name":"a"}},"versions":["1.0"]}}]{more}}}"#
            )
        };
        let vector = r#","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"summary":"bad\nvery""#;
        let records = [
            one("PYSEC-1", "[]", ""),
            one("GHSA-x", r#"["CVE-1"]"#, r#","database_specific":{"severity":"MODERATE"}"#),
            one("CVE-2", "[]", r#","severity":[{"type":"CVSS_V3","score":"no vector"}]"#),
            one("CVE-1", r#"["PYSEC-1"]"#, vector),
            one("CVE-3", "[]", r#","withdrawn":"2024-01-01T00:00:00Z""#),
        ];
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let found = findings(&records, &[pypi("a", "1")]);
        let told: Vec<_> =
            found.iter().map(|one| (one.id.as_str(), one.aliases.join(" "), one.severity, one.score)).collect();
        assert_eq!(
            told,
            [
                ("CVE-1", "GHSA-x PYSEC-1".to_owned(), Severity::Critical, Some(9.8)),
                ("CVE-2", String::new(), Severity::Unknown, None),
            ]
        );
        assert_eq!(found[0].summary.as_deref(), Some("bad"));
    }

    #[test]
    fn an_advisory_on_what_is_known_is_not_told_of() {
        let affected = r#""affected":[{"package":{"ecosystem":"Debian:12","name":"a"},"versions":["1"]}]"#;
        let advisory = format!(r#"{{"id":"DSA-1-1","upstream":["CVE-1","CVE-2"],{affected}}}"#);
        let cve = format!(r#"{{"id":"DEBIAN-CVE-1",{affected}}}"#);
        let package = [Package::new(Kind::Deb, "a".to_owned(), "1".to_owned())];
        let ids = |records: &[&str]| findings(records, &package).into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(&[&advisory]), ["DSA-1-1"]);
        assert_eq!(ids(&[&advisory, &cve]), ["CVE-1"]);
    }

    #[test]
    fn scores_of_both_versions_are_computed() {
        let of = |vector: &str| Severity::of_score(cvss::Cvss::from_str(vector).unwrap().score());
        assert_eq!(of("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"), Severity::Critical);
        assert_eq!(of("CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"), Severity::Low);
    }

    proptest::proptest! {
        #[test]
        fn any_versions_and_vectors_are_judged(version in "[0-9a-z.:~+-]{0,12}", at in "[0-9a-z.:~+-]{0,12}", vector in "CVSS:[34]\\.[01](/[A-Z]{1,2}:[A-Z]){0,12}") {
            let text = ranged(&format!(r#"{{"introduced":"{at}"}},{{"fixed":"{version}"}}"#));
            let text = text.replacen('{', &format!(r#"{{"severity":[{{"type":"CVSS_V3","score":"{vector}"}}],"#), 1);
            findings(&[&text], &[pypi("a-b", &version), pypi("a-b", &at)]);
        }
    }
}
