//! Pins: requirements of one version, and what gives way where that cannot be had.

use std::collections::BTreeSet;

use pep440_rs::{Operator, Version, VersionSpecifier, VersionSpecifiers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Requirements, Wanted};

/// A pin that gave way to a version that can be had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relaxed {
    /// As it stands in the project.
    pub before: String,
    /// What holds in its place.
    pub after: String,
    /// Why: a fragment.
    pub why: String,
}

impl Wanted {
    /// The version that it pins, for every environment.
    pub fn pin(&self) -> Option<&Version> {
        let [one] = &*self.versions.iter().collect::<Vec<_>>() else { return None };
        (*one.operator() == Operator::Equal && self.marker.is_empty()).then(|| one.version())
    }

    /// A pin with other versions in the place of its own; `versions` begins with an operator.
    pub fn repinned(&self, versions: &str) -> String {
        repinned(&self.text, versions)
    }
}

/// A requirement with other versions behind its name.
fn repinned(text: &str, versions: &str) -> String {
    let (before, rest) = text.split_at(text.find("==").unwrap_or(text.len()));
    let end = if rest.trim_end().ends_with(')') { ")" } else { "" };
    format!("{}{versions}{end}", before.trim_end())
}

impl Requirements {
    /// Those that pin a version, of requirements and of constraints.
    pub fn pins(&self) -> impl Iterator<Item = &Wanted> {
        self.wanted.iter().chain(&self.constraints).filter(|wanted| wanted.pin().is_some())
    }

    /// The same with what holds in the place of pins. Digests that were pinned were those of the other version.
    #[must_use]
    pub fn relaxed(mut self, relaxed: &[Relaxed]) -> Self {
        let mut lines = Vec::new();
        for wanted in self.wanted.iter_mut().chain(&mut self.constraints) {
            let Some(one) = relaxed.iter().find(|one| one.before == wanted.text && wanted.pin().is_some()) else {
                continue;
            };
            let Some(version) = version(&one.after) else { continue };
            let line = repinned(&wanted.line, &format!("=={version}"));
            lines.push((std::mem::replace(&mut wanted.line, line.clone()), line));
            wanted.versions = VersionSpecifiers::from(VersionSpecifier::equals_version(version));
            wanted.text.clone_from(&one.after);
            wanted.digests = BTreeSet::new();
        }
        for dependency in self.dependencies() {
            let after = lines.iter().find(|(before, _)| dependency.as_str() == Some(before));
            if let Some((_, after)) = after {
                *dependency = after.as_str().into();
            }
        }
        self
    }

    /// Pins alone, with what `ask` gives in the place of each, and without those of which it gives nothing. Other requirements
    /// are constraints, which ask for nothing.
    #[must_use]
    pub fn of_pins(&self, ask: impl Fn(&Wanted) -> Option<String>) -> Self {
        let mut all = self.clone();
        let given = |wanted: &Wanted| match wanted.pin() {
            Some(_) => ask(wanted).map(|line| Wanted { line, digests: BTreeSet::new(), ..wanted.clone() }),
            None => None,
        };
        all.wanted = self.wanted.iter().filter_map(given).collect();
        let bounds = self.wanted.iter().filter(|wanted| !wanted.versions.is_empty() && wanted.pin().is_none());
        let bound = |wanted: &Wanted| {
            let marker = if wanted.marker.is_empty() { String::new() } else { format!(" ; {}", wanted.marker) };
            Wanted { line: format!("{}{}{marker}", wanted.name, wanted.versions), ..wanted.clone() }
        };
        let constraints = self.constraints.iter().filter_map(|wanted| match wanted.pin() {
            // What the requirements do not pin themselves is asked for by its constraint.
            Some(_) => given(wanted),
            None => Some(wanted.clone()),
        });
        all.constraints = constraints.chain(bounds.map(bound)).collect();
        all.own = Vec::new();
        let lines: Vec<toml::Value> = all.wanted.iter().map(|wanted| wanted.line.as_str().into()).collect();
        if let Some(dependencies) = all.project.as_mut().and_then(list) {
            *dependencies = lines;
        }
        all
    }

    /// What a `pyproject.toml` depends on.
    fn dependencies(&mut self) -> impl Iterator<Item = &mut toml::Value> {
        self.project.as_mut().and_then(list).into_iter().flatten()
    }
}

fn list(project: &mut toml::Table) -> Option<&mut Vec<toml::Value>> {
    project.get_mut("project")?.get_mut("dependencies")?.as_array_mut()
}

/// The version that a pin's text names.
fn version(text: &str) -> Option<Version> {
    text.split_once("==")?.1.trim().trim_end_matches(')').trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::requirements::Asked;
    use crate::formats::diagnostic::Diagnostics;
    use fs_err as fs;

    fn read(name: &str, text: &str) -> Requirements {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        Requirements::read(Asked::File(name), folder.path(), None, &mut Diagnostics::new())
    }

    fn relaxed(before: &str, after: &str) -> Relaxed {
        Relaxed { before: before.to_owned(), after: after.to_owned(), why: String::new() }
    }

    #[test]
    fn a_pin_is_one_version_for_every_environment() {
        let text = "a==1.0\nb>=1\nc == 2\nd (==3.1)\ne==1,!=2\nf==1 ; python_version < '3.9'\ng==1.*\nh[x]==4 --hash=sha256:\
                    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        let requirements = read("r.txt", text);
        let pins: Vec<_> = requirements.pins().map(|pin| pin.repinned("==9")).collect();
        assert_eq!(pins, ["a==9", "c==9", "d (==9)", "h[x]==9"]);
        let after =
            requirements.relaxed(&[relaxed("h[x]==4", "h[x]==5"), relaxed("c == 2", "c==3"), relaxed("b>=1", "b==1")]);
        let list = after.list_text();
        assert!(list.contains("\nc==3\n") && list.contains("\nh[x]==5\n") && list.contains("b>=1"), "{list}");
        assert_eq!(after.pinned("h"), None);
    }

    #[test]
    fn pins_of_a_project_give_way_in_it() {
        let text = "[project]\nname = 'x'\ndependencies = ['a==1', 'b<3', 'c']\n";
        let requirements = read("pyproject.toml", text);
        let after = requirements.clone().relaxed(&[relaxed("a==1", "a==1.5")]);
        assert!(after.project_text().unwrap().contains("a==1.5"), "{after:?}");
        let alone = requirements.of_pins(|pin| Some(pin.repinned(">1")));
        let text = alone.project_text().unwrap();
        assert!(text.contains("a>1") && !text.contains("b<3"), "{text}");
        assert_eq!(alone.constraints_text(), "b<3\n");
    }
}
