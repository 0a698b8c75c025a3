//! Packages, as dpkg, apk and installers of Python have noted them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Note};
use crate::base::LockedBase;
use crate::base::debian::relation::relations;
use crate::base::python;
use crate::formats::deb822::{self, Paragraph};
use crate::formats::python::PythonVersion;
use crate::formats::requirement::{self, Requirement};
use crate::formats::sbom::{Kind, Licence, Package, Source, normalised};
use crate::image::oci::platform::Platform;
use crate::io::digest::Digest;
use crate::project::lock::Lock;

/// Where they are looked for.
pub(super) struct Packages<'a> {
    pub(super) found: &'a Found,
    pub(super) lock: Option<&'a Lock>,
    pub(super) platform: Platform,
}

/// A package, and what it says it needs.
struct Candidate<'a> {
    package: Package,
    needs: Needs<'a>,
}

enum Needs<'a> {
    /// Relationships, and what it provides besides itself.
    Debian { depends: Vec<&'a str>, provides: Vec<&'a str> },
    /// Names of packages, and of what they provide.
    Apk { depends: &'a str, provides: &'a str },
    /// Requirements; the folder that it is installed in, and the Python that this is for.
    Python { requires: Vec<Requirement>, site: &'a str, python: Option<PythonVersion> },
}

/// The fields at the beginning of a package's metadata, up to the text for people.
pub(super) fn fields_of(text: &str) -> &str {
    let end = text.find("\n\n").or_else(|| text.find("\r\n\r\n"));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Fields as in a letter (RFC 5322): what begins with a blank goes on with the one before.
fn fields(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut lines = rest.split_inclusive('\n');
        let first = lines.next().map_or(0, str::len);
        let more: usize = lines.take_while(|line| line.starts_with([' ', '\t'])).map(str::len).sum();
        let (field, after) = rest.split_at(first + more);
        rest = after;
        if let Some((name, value)) = field.split_once(':') {
            found.push((name, value.trim()));
        }
    }
    found
}

impl<'a> Packages<'a> {
    /// All of them, sorted, each once, with what each needs.
    pub(super) fn all(&self) -> Vec<Package> {
        let mut all = Vec::new();
        self.debian(&mut all);
        self.apk(&mut all);
        self.python(&mut all);
        all.sort_by(|a, b| key(&a.package).cmp(&key(&b.package)));
        let mut merged: Vec<Candidate<'a>> = Vec::new();
        for one in all {
            match merged.last_mut().filter(|last| key(&last.package) == key(&one.package)) {
                Some(last) => last.package.places.extend(one.package.places),
                None => merged.push(one),
            }
        }
        let needed = self.needed(&merged);
        let with = |(one, depends): (Candidate<'_>, BTreeSet<usize>)| Package {
            depends: depends.into_iter().collect(),
            ..one.package
        };
        merged.into_iter().zip(needed).map(with).collect()
    }

    fn debian(&self, all: &mut Vec<Candidate<'a>>) {
        let mut locked: BTreeMap<(&str, &str, &str), Digest> = BTreeMap::new();
        for platform in self.lock.iter().filter_map(|lock| lock.platforms.get(&self.platform)) {
            let base: &[_] = if let LockedBase::Debian { packages, .. } = &platform.base { packages } else { &[] };
            for one in base.iter().chain(&platform.system) {
                locked.insert((&one.name, &one.version, &one.architecture), one.digest);
            }
        }
        let is_book = |path: &str| path == "var/lib/dpkg/status" || path.starts_with("var/lib/dpkg/status.d/");
        for (path, text) in self.found.texts(is_book) {
            for paragraph in deb822::paragraphs(text) {
                let Some(mut one) = debian(paragraph) else { continue };
                let package = &mut one.package;
                let architecture = package.architecture.as_deref().unwrap_or_default();
                package.digests.extend(locked.get(&(package.name.as_str(), package.version.as_str(), architecture)));
                if let Some(Note::Licence(licence)) =
                    self.found.at(&format!("usr/share/doc/{}/copyright", package.name))
                {
                    package.licence = licence.clone();
                }
                package.places.push(format!("/{path}"));
                all.push(one);
            }
        }
    }

    /// apk's own book: paragraphs of lines with a letter, a colon and a value (apk-package(5)).
    fn apk(&self, all: &mut Vec<Candidate<'a>>) {
        for (path, text) in self.found.texts(|path| path.ends_with("lib/apk/db/installed")) {
            for paragraph in deb822::paragraphs(text) {
                let get = |wanted: &str| paragraph.fields().find(|(name, _)| *name == wanted).map(|(_, value)| value);
                let (Some(name), Some(version)) = (get("P"), get("V")) else { continue };
                let mut package = Package::new(Kind::Apk, name.to_owned(), version.to_owned());
                package.architecture = get("A").map(str::to_owned);
                let source = get("o").filter(|source| *source != name);
                package.source = source.map(|name| Source { name: name.to_owned(), version: version.to_owned() });
                package.licence = get("L").map(Licence::of).unwrap_or_default();
                package.summary = get("T").map(str::to_owned);
                package.homepage = get("U").map(str::to_owned);
                package.supplier = get("m").map(str::to_owned);
                package.places.push(format!("/{path}"));
                let (depends, provides) = (get("D").unwrap_or_default(), get("p").unwrap_or_default());
                all.push(Candidate { package, needs: Needs::Apk { depends, provides } });
            }
        }
    }

    fn python(&self, all: &mut Vec<Candidate<'a>>) {
        let locked = self.lock.and_then(|lock| lock.platforms.get(&self.platform));
        let locked: BTreeMap<(&str, &str), &[Digest]> = locked
            .iter()
            .flat_map(|platform| &platform.python)
            .map(|one| ((one.name.as_str(), one.version.as_str()), one.digests.as_slice()))
            .collect();
        let own = || self.lock.and_then(|lock| lock.python);
        let is_noted = |path: &str| path.contains(".dist-info/") || path.contains(".egg-info");
        for (path, text) in self.found.texts(is_noted) {
            let fields = fields(text);
            let get = |wanted: &str| {
                let value = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value);
                value.filter(|value| !value.is_empty() && *value != "UNKNOWN")
            };
            let (Some(name), Some(version)) = (get("Name"), get("Version")) else { continue };
            let mut package = Package::new(Kind::Pypi, normalised(name), version.to_owned());
            package.licence = Licence::of_metadata(fields.iter().copied());
            let line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
            package.summary = get("Summary").map(line);
            let labelled = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Project-URL"));
            let labelled = labelled.filter_map(|(_, value)| value.split_once(','));
            let mut homepages = labelled.filter(|(label, _)| label.trim().eq_ignore_ascii_case("homepage"));
            package.homepage = get("Home-page").or_else(|| homepages.next().map(|(_, url)| url.trim())).map(line);
            let who = ["Author", "Author-email", "Maintainer", "Maintainer-email"];
            package.supplier = who.into_iter().find_map(get).map(line);
            let site = path.find(".dist-info").or_else(|| path.find(".egg-info")).and_then(|end| path.get(..end));
            let site = site.and_then(|at| at.rsplit_once('/')).map_or("", |(site, _)| site);
            let in_venv = site.starts_with(crate::bundle::runtime::VENV.trim_start_matches('/'));
            if let Some(digests) = locked.get(&(package.name.as_str(), version)).filter(|_| in_venv) {
                package.digests.extend(*digests);
            }
            package.places.push(format!("/{path}"));
            let requires = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Requires-Dist"));
            let requires = requires.filter_map(|(_, text)| requirement::parse(text).ok()).collect();
            let python = site.split('/').find_map(|part| part.strip_prefix("python")?.parse().ok()).or_else(own);
            all.push(Candidate { package, needs: Needs::Python { requires, site, python } });
        }
    }

    /// What each of `all` needs of the others.
    fn needed(&self, all: &[Candidate<'a>]) -> Vec<BTreeSet<usize>> {
        let mut named: BTreeMap<(Kind, &str), Vec<usize>> = BTreeMap::new();
        for (number, one) in all.iter().enumerate() {
            named.entry((one.package.kind, &one.package.name)).or_default().push(number);
        }
        let mut provided: BTreeMap<(Kind, &str), usize> = BTreeMap::new();
        for (number, one) in all.iter().enumerate() {
            match &one.needs {
                Needs::Debian { provides, .. } => {
                    provides.iter().flat_map(|value| relations(value)).flatten().for_each(|one| {
                        provided.entry((Kind::Deb, one.name)).or_insert(number);
                    })
                }
                Needs::Apk { provides, .. } => provides.split_whitespace().for_each(|word| {
                    provided.entry((Kind::Apk, bare(word))).or_insert(number);
                }),
                Needs::Python { .. } => {}
            }
        }
        let find = |kind, name: &str| {
            named.get(&(kind, name)).and_then(|all| all.first()).or_else(|| provided.get(&(kind, name))).copied()
        };
        let mut needed: Vec<BTreeSet<usize>> = all
            .iter()
            .map(|one| match &one.needs {
                Needs::Debian { depends, .. } => depends
                    .iter()
                    .flat_map(|value| relations(value))
                    .filter_map(|mut either| either.find_map(|one| find(Kind::Deb, one.name)))
                    .collect(),
                Needs::Apk { depends, .. } => {
                    depends.split_whitespace().filter_map(|word| find(Kind::Apk, bare(word))).collect()
                }
                Needs::Python { .. } => BTreeSet::new(),
            })
            .collect();
        self.python_needed(all, &named, &mut needed);
        for (own, needed) in needed.iter_mut().enumerate() {
            needed.remove(&own);
        }
        needed
    }

    /// What Python packages need, with the extras that others ask them for.
    fn python_needed(
        &self,
        all: &[Candidate<'_>],
        named: &BTreeMap<(Kind, &str), Vec<usize>>,
        needed: &mut [BTreeSet<usize>],
    ) {
        /// Extras that ask for extras: more than any packages do.
        const MOST_ROUNDS: usize = 20;
        let mut environments = BTreeMap::new();
        let mut extras = vec![BTreeSet::new(); all.len()];
        for _ in 0..MOST_ROUNDS {
            let mut asked = extras.clone();
            for (number, one) in all.iter().enumerate() {
                let Needs::Python { requires, site, python } = &one.needs else { continue };
                let python = python.unwrap_or(PythonVersion::new(3, 11));
                let environments =
                    environments.entry(python).or_insert_with(|| python::environments(python, self.platform));
                let own: Vec<_> = extras.get(number).into_iter().flatten().cloned().collect();
                for requirement in requires {
                    if !environments.iter().all(|environment| requirement.evaluate_markers(environment, &own)) {
                        continue;
                    }
                    let Some(there) = named.get(&(Kind::Pypi, requirement.name.as_ref())) else { continue };
                    let beside = there.iter().find(|other| {
                        all.get(**other).is_some_and(
                            |other| matches!(&other.needs, Needs::Python { site: other, .. } if other == site),
                        )
                    });
                    let Some(other) = beside.or(there.first()).copied() else { continue };
                    if let Some(needed) = needed.get_mut(number) {
                        needed.insert(other);
                    }
                    if let Some(asked) = asked.get_mut(other) {
                        asked.extend(requirement.extras.iter().cloned());
                    }
                }
            }
            if asked == extras {
                break;
            }
            extras = asked;
        }
    }
}

fn key(package: &Package) -> (Kind, &str, &str, Option<&str>) {
    (package.kind, &package.name, &package.version, package.architecture.as_deref())
}

/// A paragraph of dpkg's book (deb822(5), dpkg-query(1)): none of what is not installed.
fn debian(paragraph: Paragraph<'_>) -> Option<Candidate<'_>> {
    let get = |name: &str| paragraph.get(name).filter(|value| !value.is_empty());
    if get("Status").is_some_and(|status| !status.ends_with(" installed")) {
        return None;
    }
    let (name, version) = (get("Package")?, get("Version")?);
    let mut package = Package::new(Kind::Deb, name.to_owned(), version.to_owned());
    package.architecture = get("Architecture").map(str::to_owned);
    package.source = source(get("Source"), name, version);
    package.summary = get("Description").and_then(|text| text.lines().next()).map(str::to_owned);
    package.homepage = get("Homepage").map(str::to_owned);
    package.supplier = get("Maintainer").and_then(|text| text.lines().next()).map(str::to_owned);
    let depends = ["Pre-Depends", "Depends"].into_iter().filter_map(get).collect();
    Some(Candidate { package, needs: Needs::Debian { depends, provides: get("Provides").into_iter().collect() } })
}

/// The source of a package by its field `Source`, `glibc` or `lvm2 (2.03.16-2)`, where it has another name or version than the
/// package (Policy, section 5.6.1). What was only built again has a version of its own (section 5.6.12): `1.0-1+b2` is of `1.0-1`.
pub fn source(field: Option<&str>, name: &str, version: &str) -> Option<Source> {
    let built = version.rsplit_once("+b").filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let own = built.map_or(version, |(version, _)| version);
    let (of, at) = match field.map(|field| field.split_once('(')) {
        Some(Some((of, at))) => (of.trim(), at.trim_end_matches(')').trim()),
        Some(None) => (field.unwrap_or(name).trim(), own),
        None => (name, own),
    };
    (of != name || at != version).then(|| Source { name: of.to_owned(), version: at.to_owned() })
}

/// A name of apk's without the versions behind it.
fn bare(word: &str) -> &str {
    word.split(['<', '>', '=', '~']).next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_from_packages() {
        let of =
            |field, version| source(field, "a", version).map(|source| format!("{} {}", source.name, source.version));
        assert_eq!(of(None, "1.0-1"), None);
        assert_eq!(of(Some("b"), "1.0-1").as_deref(), Some("b 1.0-1"));
        assert_eq!(of(Some("b (2:3)"), "1.0-1").as_deref(), Some("b 2:3"));
        assert_eq!(of(None, "1.0-1+b2").as_deref(), Some("a 1.0-1"));
        assert_eq!(of(None, "1.0-1+bpo"), None);
    }

    #[test]
    fn fields_go_on_behind_blanks() {
        let text = "Name: a\nLicense: one\n        \n        two\nVersion: 1\n\nName: text\n";
        let found = fields(fields_of(text));
        assert_eq!(found, [("Name", "a"), ("License", "one\n        \n        two"), ("Version", "1")]);
    }

    #[test]
    fn what_is_not_installed_is_not_there() {
        let book = "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 1\n";
        let there: Vec<_> = deb822::paragraphs(book).filter_map(debian).map(|one| one.package.name).collect();
        assert_eq!(there, ["a"]);
    }

    proptest::proptest! {
        #[test]
        fn any_notes_can_be_read(text in "(Package|Version|Source|Status|Name|P|V|:| |\n|\\(|\\)|[a-z0-9+~.é]){0,60}") {
            deb822::paragraphs(&text).filter_map(debian).count();
            fields(fields_of(&text)).len();
        }
    }
}
