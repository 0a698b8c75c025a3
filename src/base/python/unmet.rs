//! What installed packages require of others and is not installed: a resolver leaves no such gap, but who lists packages by hand,
//! or wrote a lock without one, may.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use fs_err as fs;

use super::install::dist_infos;
use super::{Error, Package, Target, site_packages};
use crate::formats::python::PythonVersion;
use crate::formats::requirement::{self, MarkerEnvironment, MarkerEnvironmentBuilder};
use crate::image::oci::platform::Platform;

/// Lines of a package's description that are read: what it requires stands before the text for people.
const MOST_LINES: usize = 20_000;

/// A requirement of an installed package that nothing meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// The package, as `lightgbm 4.6.0`.
    pub package: String,
    /// The name of what it requires, normalised.
    pub name: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requires `{}`", self.package, self.name)
    }
}

/// What the packages in `venv` require for `target`, without extras, and `packages` does not have.
///
/// # Errors
/// When the disk says no.
pub fn unmet(venv: &Path, target: &Target, packages: &[Package]) -> Result<Vec<Unmet>, Error> {
    let has: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let environments = environments(target.python, target.platform);
    let mut found = BTreeSet::new();
    for info in dist_infos(&venv.join(site_packages(target.python)))? {
        let path = info.join("METADATA");
        if !path.is_file() {
            continue;
        }
        let package = info.file_stem().map(|stem| stem.to_string_lossy().replace('-', " ")).unwrap_or_default();
        for line in BufReader::new(fs::File::open(&path)?).split(b'\n').take(MOST_LINES) {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if line.trim().is_empty() {
                break;
            }
            let Some(text) = line.strip_prefix("Requires-Dist:") else { continue };
            // What old packages write in other ways, nobody could have resolved.
            let Ok(requirement) = requirement::parse(text.trim()) else { continue };
            // Whichever release of this Python the base has.
            let applies = environments.iter().all(|environment| requirement.evaluate_markers(environment, &[]));
            let name = requirement.name.to_string();
            if applies && !has.contains(name.as_str()) {
                found.insert(Unmet { package: package.clone(), name });
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// What markers ask for, of the first and of the last patch release of a Python: what applies to both, applies to all.
pub fn environments(python: PythonVersion, platform: Platform) -> Vec<MarkerEnvironment> {
    ["0", "99"].into_iter().filter_map(|patch| environment(python, platform, patch)).collect()
}

fn environment(python: PythonVersion, platform: Platform, patch: &str) -> Option<MarkerEnvironment> {
    let (version, full) = (python.to_string(), format!("{python}.{patch}"));
    let builder = MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: &full,
        os_name: "posix",
        platform_machine: platform.machine(),
        platform_python_implementation: "CPython",
        platform_release: "",
        platform_system: "Linux",
        platform_version: "",
        python_full_version: &full,
        python_version: &version,
        sys_platform: "linux",
    };
    builder.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applies_and_is_not_there_is_unmet() {
        let venv = tempfile::tempdir().unwrap();
        let info = venv.path().join("lib/python3.11/site-packages/quick-1.dist-info");
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("RECORD"), "").unwrap();
        let text = "Name: quick\nRequires-Dist: There>=1\nRequires-Dist: gone[fast] (<3)\nRequires-Dist: extra; extra == 'x'\n\
                    Requires-Dist: old; python_version < '3.9'\nRequires-Dist: win; sys_platform == 'win32'\n\
                    Requires-Dist: patch; python_full_version < '3.11.3'\nRequires-Dist: new_er; python_version >= '3.11'\n\
                    Requires-Dist: ???\n\nRequires-Dist: text\n";
        fs::write(info.join("METADATA"), text).unwrap();
        let target = Target { python: PythonVersion::new(3, 11), platform: Platform::host().unwrap(), glibc: (2, 36) };
        let there = Package { name: "there".to_owned(), version: "1".to_owned(), url: None, digests: Vec::new() };
        let found = unmet(venv.path(), &target, &[there]).unwrap();
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["quick 1 requires `gone`", "quick 1 requires `new-er`"]);
    }
}
