//! What a team has decided to live with, in a file of lines: `CVE-2024-1 in numpy until 2027-01-31: why`.

use std::str::FromStr as _;

use jiff::civil::Date;
use serde::Serialize;

use super::Finding;

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// A name of what is ignored.
    id: String,
    /// In which package alone.
    package: Option<String>,
    /// The last day on which it is.
    #[serde(serialize_with = "written")]
    until: Option<Date>,
    /// Why.
    reason: String,
}

fn written<S: serde::Serializer>(day: &Option<Date>, to: S) -> Result<S::Ok, S::Error> {
    day.map(|day| day.to_string()).serialize(to)
}

/// A line says nothing that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct NotIgnored {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Reads such a file. Empty lines, and what stands behind `#` at the beginning of one, say nothing.
///
/// # Errors
/// See [`NotIgnored`]: a line without a reason is one, too.
pub fn ignored(text: &str) -> Result<Vec<Ignored>, NotIgnored> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| Ignored::read(line).map_err(|why| NotIgnored { line: number, why })).collect()
}

impl Ignored {
    fn read(line: &str) -> Result<Self, String> {
        let missing = || "write a reason behind a colon: `CVE-2024-1 until 2027-01-31: why`".to_owned();
        let (head, reason) = line.split_once(':').ok_or_else(missing)?;
        let reason = Some(reason.trim()).filter(|reason| !reason.is_empty()).ok_or_else(missing)?.to_owned();
        let mut words = head.split_whitespace();
        let id = words.next().ok_or("it names nothing")?.to_owned();
        let (mut package, mut until) = (None, None);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("nothing stands behind `{word}`"))?;
            match word {
                "in" => package = Some(value.to_owned()),
                "until" => {
                    let date = Date::from_str(value);
                    until = Some(date.map_err(|_| format!("`{value}` is no day as 2027-01-31"))?);
                }
                _ => return Err(format!("`{word}` is neither `in` nor `until`")),
            }
        }
        Ok(Self { id, package, until, reason })
    }

    /// Whether it is about `finding`.
    fn means(&self, finding: &Finding) -> bool {
        let is_named = |name: &str| name.eq_ignore_ascii_case(&self.id);
        (is_named(&finding.id) || finding.aliases.iter().any(|alias| is_named(alias)))
            && self.package.as_ref().is_none_or(|package| *package == finding.package)
    }

    /// Why, in a line.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)?;
        self.until.iter().try_for_each(|until| write!(f, " until {until}"))
    }
}

/// Tells apart what is ignored on the day `today`, and why, and what is not; and which lines have run out.
pub fn without(
    findings: Vec<Finding>,
    lines: &[Ignored],
    today: Date,
) -> (Vec<Finding>, Vec<(Finding, Ignored)>, Vec<Ignored>) {
    let holds = |line: &&Ignored| line.until.is_none_or(|until| until >= today);
    let (mut left, mut ignored) = (Vec::new(), Vec::new());
    for finding in findings {
        match lines.iter().filter(holds).find(|line| line.means(&finding)) {
            Some(line) => ignored.push((finding, line.clone())),
            None => left.push(finding),
        }
    }
    let over = lines.iter().filter(|line| !holds(line) && left.iter().any(|one| line.means(one))).cloned().collect();
    (left, ignored, over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::osv::Severity;
    use crate::formats::sbom::Kind;

    #[test]
    fn lines_are_read_and_hold_until_they_run_out() {
        let text = "# ours\n\nCVE-1: not reached\nghsa-2 in b until 2026-01-31: later\nCVE-3 until 2025-01-01: over\n";
        let lines = ignored(text).unwrap();
        let finding = |id: &str, alias: &str, package: &str| Finding {
            kind: Kind::Pypi,
            package: package.to_owned(),
            version: "1".to_owned(),
            source: package.to_owned(),
            id: id.to_owned(),
            aliases: vec![alias.to_owned()],
            severity: Severity::High,
            score: None,
            fixed: None,
            summary: None,
        };
        let all = ["a", "b"].map(|package| finding("CVE-2", "GHSA-2", package)).into_iter();
        let all = all.chain([finding("CVE-1", "", "a"), finding("CVE-3", "", "a")]).collect();
        let (left, gone, over) = without(all, &lines, Date::constant(2026, 1, 31));
        let left: Vec<_> = left.iter().map(|one| format!("{} {}", one.id, one.package)).collect();
        assert_eq!(left, ["CVE-2 a", "CVE-3 a"]);
        assert_eq!(gone.iter().map(|(_, line)| line.reason()).collect::<Vec<_>>(), ["later", "not reached"]);
        assert_eq!(over.iter().map(ToString::to_string).collect::<Vec<_>>(), ["CVE-3 until 2025-01-01"]);
    }

    #[test]
    fn a_line_without_a_reason_is_none() {
        for line in ["CVE-1", "CVE-1:", ": why", "CVE-1 until soon: why", "CVE-1 until: why", "CVE-1 with a: why"] {
            assert_eq!(ignored(&format!("\n{line}")).unwrap_err().line, 2, "{line}");
        }
    }
}
