//! From names to the packages that a lock keeps: the closure of their dependencies.

use std::collections::{BTreeMap, HashMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::packages::{Candidate, Found, Index, find};
use super::relation::{Relation, relations};
use super::{Archive, Error, Package, Source, Suite, joined};
use crate::formats::deb822;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::progress::Unit;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The release.
    pub suite: Suite,
    /// What the packages are for.
    pub platform: Platform,
    /// The packages of the base, as `NAME` or `NAME=VERSION`. May be none.
    pub base: &'a [String],
    /// The packages that a person wants on top, named likewise. May be none.
    pub system: &'a [String],
    /// What a base that is not made here has installed already: its `/var/lib/dpkg/status`. Else empty.
    pub installed: &'a str,
}

/// What it comes to: the lock's part on Debian, for one platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The packages of the base, by name.
    pub base: Vec<Package>,
    /// The packages on top of it, by name: none of them is in the base.
    pub system: Vec<Package>,
}

/// Packages that others depend on for their maintainer scripts, which do not run here. Whoever wants one names it.
const FOR_SCRIPTS: [&str; 9] = [
    "adduser",
    "cdebconf",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "install-info",
    "libdebconfclient0",
    "ucf",
];

/// Dependencies of that kind that are real ones elsewhere: `awk` and `debianutils` for the scripts of the packages,
/// `libselinux1` for `update-passwd`, `openssl` for `update-ca-certificates`.
const FOR_SCRIPTS_OF: [(&str, &str); 4] =
    [("base-files", "awk"), ("base-passwd", "libselinux1"), ("ca-certificates", "openssl"), ("dash", "debianutils")];

/// Resolves `request` with what `source` has now: the suite, its updates and its security updates.
///
/// Of each package the newest version is taken, of alternatives the first that is taken already, else the first that
/// there is. `Pre-Depends` and `Depends` are followed; recommendations are not, and essential packages are not implied.
///
/// # Errors
/// When an index cannot be had or is not signed, a name is unknown, or a dependency cannot be met.
pub fn resolve(session: &Session, source: &Source, request: &Request<'_>) -> Result<Resolution, Error> {
    let Request { suite, platform, base, system, installed } = *request;
    if base.is_empty() && system.is_empty() {
        return Ok(Resolution::default());
    }
    let suites = [
        (Archive::Main, suite.to_string()),
        (Archive::Main, format!("{suite}-updates")),
        (Archive::Security, format!("{suite}-security")),
    ];
    let subject = format!("packages of Debian {suite} for {}", platform.architecture());
    let task = session.progress.task("Resolving", subject, Unit::Items, Some(suites.len() as u64));
    let found = std::thread::scope(|scope| {
        let find = |(archive, suite): &(Archive, String)| find(session, source, *archive, suite, platform);
        joined(suites.iter().map(|suite| scope.spawn(move || find(suite))))
    })?;
    // Same indexes, same request, same answer; the number changes with the rules below.
    const KIND: &str = "debian-resolution-1";
    let indexes: Vec<_> = found.iter().map(|found| found.digest).collect();
    let input = (suite.name(), platform, base, system, installed, indexes);
    let key = Digest::of(format!("{input:?}"));
    if let Some(resolution) = session.store.cached(KIND, &key) {
        return Ok(resolution);
    }
    let texts = std::thread::scope(|scope| {
        let read = |found: &Found<'_>| found.read(session).inspect(|_| task.advance(1));
        joined(found.iter().map(|found| scope.spawn(move || read(found))))
    })?;
    let texts: Vec<_> = suites.into_iter().map(|(archive, _)| archive).zip(texts).collect();
    let index = Index::new(&texts);
    let resolution = Resolver::new(&index, request).resolution(source)?;
    session.store.cache(KIND, &key, &resolution, Vec::new())?;
    Ok(resolution)
}

/// A package that is taken, or was there before.
struct Taken<'a> {
    version: &'a str,
    /// None for what was there before.
    candidate: Option<&'a Candidate<'a>>,
    /// It belongs to the base.
    base: bool,
}

struct Resolver<'a> {
    index: &'a Index<'a>,
    request: &'a Request<'a>,
    taken: BTreeMap<&'a str, Taken<'a>>,
    provided: HashMap<&'a str, Vec<Option<&'a str>>>,
    /// Packages whose dependencies are still to be met.
    open: VecDeque<&'a Candidate<'a>>,
}

impl<'a> Resolver<'a> {
    fn new(index: &'a Index<'a>, request: &'a Request<'a>) -> Self {
        let (taken, provided) = (BTreeMap::new(), HashMap::new());
        let mut resolver = Self { index, request, taken, provided, open: VecDeque::new() };
        for paragraph in deb822::paragraphs(request.installed) {
            let there = paragraph.get("Status").is_none_or(|status| status.ends_with(" installed"));
            if let (Some(name), Some(version), true) = (paragraph.get("Package"), paragraph.get("Version"), there) {
                resolver.taken.insert(name, Taken { version, candidate: None, base: true });
                resolver.provide(relations(paragraph.get("Provides").unwrap_or_default()).flatten());
            }
        }
        resolver
    }

    fn resolution(mut self, source: &Source) -> Result<Resolution, Error> {
        self.take_all(self.request.base, true)?;
        self.take_all(self.request.system, false)?;
        let mut resolution = Resolution::default();
        for taken in self.taken.values() {
            let Some(candidate) = taken.candidate else { continue };
            let list = if taken.base { &mut resolution.base } else { &mut resolution.system };
            list.push(candidate.package(source)?);
        }
        Ok(resolution)
    }

    fn take_all(&mut self, names: &'a [String], base: bool) -> Result<(), Error> {
        for name in names {
            let (wanted, version) = match name.split_once('=') {
                Some((name, version)) => (name, Some(version)),
                None => (name.as_str(), None),
            };
            if self.taken.get(wanted).is_some_and(|taken| version.is_none_or(|version| taken.version == version)) {
                continue;
            }
            let index = self.index;
            let mut candidates = index.named(wanted).iter();
            match candidates.find(|candidate| version.is_none_or(|version| candidate.version == version)) {
                Some(candidate) => self.take(candidate, base),
                None => {
                    return Err(Error::Unknown {
                        name: name.clone(),
                        suite: self.request.suite,
                        architecture: self.request.platform.architecture(),
                        similar: match (version, index.named(wanted).first()) {
                            (Some(_), Some(newest)) => Some(format!("{wanted}={}", newest.version)),
                            _ => index.similar(wanted),
                        },
                    });
                }
            }
        }
        while let Some(candidate) = self.open.pop_front() {
            for relationships in candidate.depends {
                for alternatives in relations(relationships) {
                    self.meet(candidate, alternatives, base)?;
                }
            }
        }
        Ok(())
    }

    fn meet(
        &mut self,
        of: &'a Candidate<'a>,
        alternatives: impl Iterator<Item = Relation<'a>> + Clone,
        base: bool,
    ) -> Result<(), Error> {
        let for_scripts = |relation: Relation<'_>| {
            FOR_SCRIPTS.contains(&relation.name) || FOR_SCRIPTS_OF.contains(&(of.name, relation.name))
        };
        if alternatives.clone().any(for_scripts) || alternatives.clone().any(|relation| self.is_met(&relation)) {
            return Ok(());
        }
        let index = self.index;
        for relation in alternatives.clone() {
            // A taken package is not taken again in another version, unless it came with a foreign base.
            let free = |candidate: &&Candidate<'_>| {
                self.taken.get(candidate.name).is_none_or(|taken| taken.candidate.is_none())
            };
            let mut named = index.named(relation.name).iter().filter(free);
            let found = named.find(|candidate| relation.admits(candidate.version));
            if let Some(candidate) = found.or_else(|| index.providing(&relation).find(free)) {
                self.take(candidate, base);
                return Ok(());
            }
        }
        let dependency: Vec<_> = alternatives.map(|relation| relation.to_string()).collect();
        Err(Error::Unsatisfied {
            package: of.name.to_owned(),
            dependency: dependency.join(" | "),
            suite: self.request.suite,
        })
    }

    fn is_met(&self, relation: &Relation<'_>) -> bool {
        self.taken.get(relation.name).is_some_and(|taken| relation.admits(taken.version))
            || self
                .provided
                .get(relation.name)
                .is_some_and(|versions| versions.iter().any(|version| relation.admits_provided(*version)))
    }

    fn take(&mut self, candidate: &'a Candidate<'a>, base: bool) {
        let taken = Taken { version: candidate.version, candidate: Some(candidate), base };
        self.taken.insert(candidate.name, taken);
        self.provide(candidate.provides());
        self.open.push_back(candidate);
    }

    fn provide(&mut self, provided: impl Iterator<Item = Relation<'a>>) {
        for relation in provided {
            self.provided.entry(relation.name).or_default().push(relation.provided_version());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Mirror, session};
    use super::*;
    use crate::io::explain::Explain as _;
    use crate::io::http::Network;

    fn resolved(mirror: &Mirror, base: &[&str], system: &[&str], installed: &str) -> Result<Resolution, Error> {
        mirror.publish();
        let home = tempfile::tempdir().unwrap();
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (base, system) = (owned(base), owned(system));
        let request =
            Request { suite: Suite::Bookworm, platform: Platform::Amd64, base: &base, system: &system, installed };
        resolve(&session(home.path(), Network::Offline), &mirror.source(None), &request)
    }

    fn names(packages: &[Package]) -> Vec<String> {
        packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect()
    }

    #[test]
    fn dependencies_are_followed_to_their_end() {
        let mut mirror = Mirror::new();
        mirror.add("a", "1", "Depends: b (>= 1), c:any\nRecommends: unwanted");
        mirror.add("b", "1", "Pre-Depends: d");
        mirror.add("c", "2", "Depends: a");
        mirror.add("d", "1", "Depends: dpkg (>= 1), debconf | debconf-2.0");
        mirror.add("unwanted", "1", "Essential: yes");
        mirror.add("e", "1", "Depends: d, f");
        mirror.add("f", "1", "");
        let resolution = resolved(&mirror, &["a"], &["e"], "").unwrap();
        assert_eq!(names(&resolution.base), ["a=1", "b=1", "c=2", "d=1"]);
        assert_eq!(names(&resolution.system), ["e=1", "f=1"]);
        let text = serde_json::to_string(&resolution).unwrap();
        assert!(!text.contains("file:") && text.contains("pool/a_1.deb"), "{text}");
        assert_eq!(serde_json::from_str::<Resolution>(&text).unwrap(), resolution);
    }

    #[test]
    fn of_alternatives_the_first_that_there_is_or_that_is_taken_wins() {
        let mut mirror = Mirror::new();
        mirror.add("a", "1", "Depends: gone | b | c");
        mirror.add("b", "1", "");
        mirror.add("c", "1", "");
        mirror.add("v", "1", "Depends: mail, mail (>= 2) | b");
        mirror.add("x-mail", "1", "Provides: mail");
        mirror.add("y-mail", "1", "Provides: mail (= 2)");
        assert_eq!(names(&resolved(&mirror, &["a"], &[], "").unwrap().base), ["a=1", "b=1"]);
        assert_eq!(names(&resolved(&mirror, &["a", "c"], &[], "").unwrap().base), ["a=1", "c=1"]);
        assert_eq!(names(&resolved(&mirror, &["v"], &[], "").unwrap().base), ["v=1", "x-mail=1", "y-mail=1"]);
        assert_eq!(names(&resolved(&mirror, &["y-mail", "v"], &[], "").unwrap().base), ["v=1", "y-mail=1"]);
    }

    #[test]
    fn the_newest_version_that_fits_is_taken_wherever_it_is() {
        let mut mirror = Mirror::new();
        mirror.add("a", "1.9", "");
        mirror.add_deb(Archive::Security, "a", "1.10", "", "", &[]);
        mirror.add("old", "1", "Depends: a (<< 1.10)");
        mirror.add("never", "1", "Depends: a (>> 2) | nothing");
        let resolution = resolved(&mirror, &["a"], &[], "").unwrap();
        assert_eq!(
            (names(&resolution.base), resolution.base[0].archive),
            (vec!["a=1.10".to_owned()], Archive::Security)
        );
        assert_eq!(names(&resolved(&mirror, &["a=1.9"], &[], "").unwrap().base), ["a=1.9"]);
        assert_eq!(names(&resolved(&mirror, &["old"], &[], "").unwrap().base), ["a=1.9", "old=1"]);
        let error = resolved(&mirror, &["never"], &[], "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the package `never` needs `a (>> 2) | nothing`, which Debian bookworm does not have"
        );
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let mut mirror = Mirror::new();
        mirror.add("libgomp1", "1", "");
        let error = resolved(&mirror, &[], &["libgomp"], "").unwrap_err();
        assert_eq!(error.to_string(), "there is no package `libgomp` in Debian bookworm for amd64");
        assert_eq!(error.explain().hint.unwrap(), "did you mean `libgomp1`?");
        assert_eq!(
            resolved(&mirror, &[], &["libgomp1=2"], "").unwrap_err().explain().hint.unwrap(),
            "did you mean `libgomp1=1`?"
        );
    }

    #[test]
    fn what_a_foreign_base_has_is_not_taken_again() {
        let mut mirror = Mirror::new();
        mirror.add("a", "1", "Depends: b, c (>= 2), mail, removed");
        for (name, version) in [("b", "1"), ("c", "2"), ("mail", "1"), ("removed", "1")] {
            mirror.add(name, version, "");
        }
        let status = "Package: b\nStatus: install ok installed\nVersion: 0\n\nPackage: c\nVersion: 1\n\n\
                      Package: x\nVersion: 1\nProvides: mail\n\nPackage: removed\nStatus: deinstall ok config-files\nVersion: 1\n";
        let resolution = resolved(&mirror, &[], &["a"], status).unwrap();
        assert_eq!(names(&resolution.system), ["a=1", "c=2", "removed=1"]);
        assert!(resolution.base.is_empty());
    }

    #[test]
    fn a_tampered_index_is_refused() {
        let mut mirror = Mirror::new();
        mirror.add("a", "1", "");
        mirror.publish();
        let index = mirror.suite_folder("bookworm").join("main/binary-amd64/Packages.xz");
        let mut bytes = fs_err::read(&index).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs_err::write(&index, &bytes).unwrap();
        let home = tempfile::tempdir().unwrap();
        let base = ["a".to_owned()];
        let request =
            Request { suite: Suite::Bookworm, platform: Platform::Amd64, base: &base, system: &[], installed: "" };
        let session = session(home.path(), Network::Online);
        let resolve = |request: &Request<'_>| resolve(&session, &mirror.source(None), request);
        assert!(matches!(resolve(&request), Err(Error::Tampered { .. })));
        bytes.push(0);
        fs_err::write(&index, &bytes).unwrap();
        assert!(matches!(resolve(&request), Err(Error::Tampered { .. })));
        let missing = resolve(&Request { suite: Suite::Trixie, ..request });
        assert!(matches!(missing, Err(Error::NoSuite { suite, .. }) if suite == "trixie"));
        let other = resolve(&Request { platform: Platform::Arm64, ..request });
        assert!(matches!(other, Err(Error::Release { .. })));
    }

    #[test]
    fn without_network_the_last_release_will_do() {
        let mut mirror = Mirror::new();
        mirror.add("a", "1", "");
        mirror.publish();
        let address = super::super::testing::serve(mirror.folder(Archive::Main).parent().unwrap());
        let source = Source::of(&format!("{address}/debian"), None, mirror.keyring());
        let home = tempfile::tempdir().unwrap();
        let base = ["a".to_owned()];
        let request =
            Request { suite: Suite::Bookworm, platform: Platform::Amd64, base: &base, system: &[], installed: "" };
        let never = resolve(&session(home.path(), Network::Offline), &source, &request);
        assert!(matches!(never, Err(Error::Fetch(crate::image::download::Error::Offline { .. }))));
        let online = resolve(&session(home.path(), Network::Online), &source, &request).unwrap();
        assert_eq!(resolve(&session(home.path(), Network::Offline), &source, &request).unwrap(), online);
    }
}
