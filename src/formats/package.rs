//! Packages of Python by the modules that they bring: which package a module comes with, what comes along with a package,
//! and which modules are Python's own in which of its versions.
//!
//! Invariant: what is not in `packages.txt` (`scripts/python-packages.py` writes it) is not known, and nothing is said for
//! sure of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::model::globals;
use super::python::PythonVersion;

/// Folders that many packages put their modules into.
const NAMESPACES: [&str; 7] = ["azure", "backports", "google", "opentelemetry", "ruamel", "snowflake", "zope"];

/// What is known.
#[derive(Debug, Default)]
struct Table {
    /// By module, dotted where only a part of a namespace is meant: the packages that bring it, the usual one first.
    modules: BTreeMap<&'static str, Vec<&'static str>>,
    /// By package: what it requires.
    requires: BTreeMap<&'static str, Vec<&'static str>>,
    /// By module: the first and the last version of Python that has it.
    standard: BTreeMap<&'static str, (PythonVersion, PythonVersion)>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| read(include_str!("packages.txt")))
}

fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((module, packages)) = line.split_once(": ") {
            table.modules.insert(module, packages.split(' ').collect());
        } else if let Some((package, others)) = line.split_once(" >") {
            table.requires.insert(package, others.split_whitespace().collect());
        } else if let Some((module, versions)) = line.split_once(" = ") {
            let versions = versions.split_once("..").and_then(|(a, b)| a.parse().ok().zip(b.parse().ok()));
            table.standard.extend(versions.map(|versions| (module, versions)));
        }
    }
    table
}

/// A module's name without what lies in it: `sklearn` of `sklearn.tree`.
pub fn top(module: &str) -> &str {
    module.split('.').next().unwrap_or(module)
}

/// Whether a module is part of Python: of this version, or of any where none is known.
pub fn is_standard(module: &str, python: Option<PythonVersion>) -> bool {
    let top = top(module);
    match (table().standard.get(top), python) {
        (Some((first, last)), Some(python)) => (*first..=*last).contains(&python),
        (Some(_), None) => true,
        (None, _) => globals::is_standard(top),
    }
}

/// The versions of Python that a module is part of, where these are not all.
pub fn standard_versions(module: &str) -> Option<(PythonVersion, PythonVersion)> {
    table().standard.get(top(module)).copied()
}

/// Whether it is known which package brings a module.
pub fn is_known(module: &str) -> bool {
    listed(module).is_some() || table().requires.contains_key(&*normalised(top(module)))
}

/// The package that is to be required for a module: that which is known to bring it, else the one of the same name. None
/// where a namespace of many packages leaves that open.
pub fn proposal(module: &str) -> Option<String> {
    match listed(module) {
        Some(packages) => packages.first().map(|package| (*package).to_owned()),
        None if NAMESPACES.contains(&top(module)) => None,
        None => Some(normalised(top(module))),
    }
}

/// Whether a package may bring a module: it is known to, or its name is like the module's.
pub fn may_bring(package: &str, module: &str) -> bool {
    let package = normalised(package);
    let name = normalised(top(module));
    let known =
        |known: &&str| package == **known || package.strip_prefix(known).is_some_and(|rest| rest.starts_with('-'));
    listed(module).is_some_and(|packages| packages.iter().any(known))
        || package == name
        || name.len() > 2 && package.replace('-', "").contains(&name.replace('-', ""))
}

/// What is installed where `packages` are required, as far as it is known.
pub fn with_all_required<'a>(packages: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut ahead: Vec<String> = packages.into_iter().map(normalised).collect();
    while let Some(package) = ahead.pop() {
        ahead.extend(table().requires.get(&*package).into_iter().flatten().map(|name| (*name).to_owned()));
        if !found.insert(package) {
            // Its own requirements were looked at, and there may be circles.
            ahead.retain(|name| !found.contains(name));
        }
    }
    found
}

/// Whether all that a package brings along is known.
pub fn is_known_package(package: &str) -> bool {
    table().requires.contains_key(&*normalised(package))
}

/// What to do where a program's log ends with a module that was not found; none where it says nothing of one.
pub fn remedy(log: &str) -> Option<String> {
    let (_, rest) = log.rsplit_once("ModuleNotFoundError: No module named '")?;
    let module = rest.split_once('\'').map(|(module, _)| module).filter(|module| module.len() <= 200)?;
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !module.split('.').all(is_name) {
        return None;
    }
    if let Some((first, last)) = standard_versions(module) {
        return Some(format!("`{module}` is part of Python {first} to {last}: choose one of them, or do without it"));
    }
    Some(match proposal(module).filter(|_| is_known(module)) {
        // What lacks a part is there, in another version than is meant.
        Some(package) if module.contains('.') && !table().modules.contains_key(module) => {
            format!("the package `{package}` is there, and has no `{module}`: require the version that has it")
        }
        Some(package) => format!("add `{package}` to requirements.txt, or to the list of requirements in the manifest"),
        None => format!(
            "nothing in the image is called `{module}`: add the package that has it to the requirements; a file of the project \
             has to be there, and named in `include`"
        ),
    })
}

/// The packages that are known to bring a module, by the longest part of its name that is listed.
fn listed(module: &str) -> Option<&'static [&'static str]> {
    let mut name = module;
    loop {
        if let Some(packages) = table().modules.get(name) {
            return Some(packages);
        }
        name = name.rsplit_once('.')?.0;
    }
}

/// A package's name as an index compares it (PEP 503).
fn normalised(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read() {
        let Table { modules, requires, standard } = table();
        let lines = include_str!("packages.txt").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(modules.len() + requires.len() + standard.len(), lines);
        let unknown: Vec<_> = requires.values().flatten().filter(|name| !requires.contains_key(**name)).collect();
        assert!(unknown.is_empty(), "required and not listed: {unknown:?}");
        assert!(requires.keys().all(|name| normalised(name) == **name));
    }

    #[test]
    fn packages_are_proposed_by_what_brings_the_module() {
        for (module, package) in [
            ("sklearn.tree", "scikit-learn"),
            ("PIL", "pillow"),
            ("cv2", "opencv-python-headless"),
            ("yaml", "pyyaml"),
            ("google.protobuf.message", "protobuf"),
            ("pandas", "pandas"),
            ("sentence_transformers", "sentence-transformers"),
            ("Bio.SeqIO", "biopython"),
            ("markdown_it", "markdown-it-py"),
        ] {
            assert_eq!(proposal(module).as_deref(), Some(package), "{module}");
            assert!(is_known(module), "{module}");
        }
        assert_eq!(proposal("google.cloud.storage"), None);
        assert!(!is_known("acme_tools"));
    }

    #[test]
    fn doubt_is_for_the_package() {
        for (package, module) in [
            ("opencv-python-headless", "cv2"),
            ("xgboost-cpu", "xgboost"),
            ("PyYAML", "yaml"),
            ("google-cloud-storage", "google.cloud"),
            ("acme-ml-tools", "acme_ml"),
        ] {
            assert!(may_bring(package, module), "{package} {module}");
        }
        assert!(!may_bring("scikit-learn", "pandas") && !may_bring("numpy", "torch"));
    }

    #[test]
    fn what_comes_along_is_followed() {
        let all = with_all_required(["scikit-learn", "mine"]);
        assert!(all.contains("numpy") && all.contains("mine") && !all.contains("pandas"), "{all:?}");
        assert!(is_known_package("Scikit_Learn") && !is_known_package("mine"));
    }

    #[test]
    fn modules_of_python_have_their_versions() {
        let of = |module, minor| is_standard(module, Some(PythonVersion::new(3, minor)));
        assert!(of("distutils", 11) && !of("distutils", 12) && of("tomllib", 11) && !of("tomllib", 10));
        assert!(of("collections.abc", 8) && is_standard("distutils", None) && !is_standard("pandas", None));
    }

    #[test]
    fn a_log_says_what_is_missing() {
        let log = |name: &str| remedy(&format!("Traceback:\n  x\nModuleNotFoundError: No module named '{name}'\n"));
        assert_eq!(
            log("sklearn").as_deref(),
            Some("add `scikit-learn` to requirements.txt, or to the list of requirements in the manifest")
        );
        assert!(log("net").is_some_and(|hint| hint.contains("`include`")));
        assert!(log("distutils").is_some_and(|hint| hint.contains("Python 3.8 to 3.11")));
        assert!(log("sklearn.nope").is_some_and(|hint| hint.contains("require the version that has it")));
        assert_eq!(remedy("ImportError: no"), None);
        assert_eq!(log("\u{1b}[31m"), None);
    }
}
