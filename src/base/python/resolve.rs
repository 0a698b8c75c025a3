//! From requirements to the wheels that meet them, by digest.
//!
//! uv answers with a pylock.toml (PEP 751) for one Python and one platform.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use serde::Deserialize;

use super::refusal::{Refusal, without_credentials};
use super::{Error, Package, Target, Uv};
use crate::base::requirements::Requirements;
use crate::io::digest::Digest;
use crate::io::progress::{Progress, Unit};

/// Which of the versions are taken that will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The newest.
    Newest,
    /// Of what is required the oldest, of what that requires the newest.
    Oldest,
    /// The newest of what is required, and nothing of what that requires.
    Alone,
}

/// What is to be resolved.
#[derive(Clone, Copy, Debug)]
pub struct Resolution<'a> {
    /// What is required.
    pub requirements: &'a Requirements,
    /// For what.
    pub target: &'a Target,
    /// The project's folder: paths in requirements are relative to it.
    pub project: &'a Path,
    /// Packages of an earlier lock: their versions stay where they still meet the requirements.
    pub preferred: &'a [Package],
    /// Which versions are taken.
    pub aim: Aim,
}

/// Resolves; `scratch` is an empty folder. The packages are sorted by name.
///
/// # Errors
/// See [`Error`]; what uv said is [`Error::Refused`].
pub fn resolve(uv: &Uv, asked: &Resolution<'_>, scratch: &Path, progress: &Progress) -> Result<Vec<Package>, Error> {
    let task = progress.task("Resolving", "Python packages", Unit::Items, None);
    let requirements = asked.requirements;
    let answer = scratch.join("pylock.toml");
    let mut files = vec!["requirements.in"];
    fs::write(scratch.join("requirements.in"), requirements.list_text())?;
    fs::write(scratch.join("constraints.txt"), requirements.constraints_text())?;
    // uv takes its settings from the folder that it is told is the project's, and then looks no further up.
    match requirements.project_text() {
        Some(text) => {
            fs::write(scratch.join("pyproject.toml"), text)?;
            files.push("pyproject.toml");
        }
        None => fs::write(scratch.join("uv.toml"), requirements.settings_text())?,
    }
    // uv keeps the versions that it finds where it will write.
    if asked.preferred.iter().any(|package| package.url.is_none()) {
        fs::write(&answer, preferences(asked.preferred))?;
    }
    let command = uv
        .pip("compile", scratch)?
        .args(["--format", "pylock.toml", "--no-header", "--no-annotate", "--only-binary", ":all:"])
        .args(["--python-version", &asked.target.release(), "--python-platform", &asked.target.uv_platform()])
        .args(match asked.aim {
            Aim::Newest => [].as_slice(),
            Aim::Oldest => &["--resolution", "lowest-direct"],
            Aim::Alone => &["--no-deps"],
        })
        .args(["--quiet", "--constraints", "constraints.txt", "--output-file", "pylock.toml"])
        .args(files);
    let output = command.run(scratch)?;
    if !output.status.success() {
        let target = format!("Python {} on {}", asked.target.python, asked.target.platform);
        return Err(Refusal::of(&output.stderr, &target).into());
    }
    let mut packages = read(&fs::read_to_string(&answer)?, asked.project, scratch)?;
    // uv itself does not hold what it locks against the digests.
    for package in &mut packages {
        if let Some(pinned) = asked.requirements.pinned(&package.name) {
            package.digests.retain(|digest| pinned.contains(digest));
            if package.digests.is_empty() {
                let (name, version) = (package.name.clone(), package.version.clone());
                return Err(Error::OtherDigests { name, version });
            }
        }
    }
    task.finish(format!("Resolved {} Python packages", packages.len()));
    Ok(packages)
}

fn preferences(packages: &[Package]) -> String {
    let mut text = String::from("lock-version = \"1.0\"\ncreated-by = \"ekiben\"\n");
    for package in packages.iter().filter(|package| package.url.is_none()) {
        // JSON's strings are TOML's basic strings.
        let value = |text: &str| serde_json::Value::from(text).to_string();
        text += &format!("[[packages]]\nname = {}\nversion = {}\n", value(&package.name), value(&package.version));
    }
    text
}

/// A pylock.toml (PEP 751), as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Pylock {
    #[serde(default)]
    pub(super) packages: Vec<LockedPackage>,
}

#[derive(Deserialize)]
pub(super) struct LockedPackage {
    pub(super) name: String,
    version: Option<String>,
    #[serde(default)]
    pub(super) wheels: Vec<PylockFile>,
    pub(super) archive: Option<PylockFile>,
    vcs: Option<toml::Table>,
    directory: Option<toml::Table>,
}

#[derive(Deserialize)]
pub(super) struct PylockFile {
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    pub(super) path: Option<String>,
    /// In bytes.
    pub(super) size: Option<u64>,
    #[serde(default)]
    pub(super) hashes: BTreeMap<String, String>,
}

impl Pylock {
    pub(super) fn read(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::Answer(error.message().to_owned()))
    }
}

/// `folder` is where the file lies: paths in it are relative to that.
fn read(pylock: &str, project: &Path, folder: &Path) -> Result<Vec<Package>, Error> {
    let mut packages = Pylock::read(pylock)?
        .packages
        .into_iter()
        .map(|package| read_package(package, project, folder))
        .collect::<Result<Vec<_>, _>>()?;
    packages.sort();
    Ok(packages)
}

fn read_package(package: LockedPackage, project: &Path, folder: &Path) -> Result<Package, Error> {
    let name = package.name;
    if package.vcs.is_some() {
        return Err(Error::NotAWheel { name, from: "a repository" });
    }
    if package.directory.is_some() {
        return Err(Error::NotAWheel { name, from: "a folder" });
    }
    let url = package.archive.as_ref().map(|archive| place(&name, archive, project, folder)).transpose()?;
    if url.as_ref().is_some_and(|url| !url.split(['#', '?']).next().is_some_and(|path| path.ends_with(".whl"))) {
        return Err(Error::NotAWheel { name, from: "a source archive" });
    }
    let mut digests = Vec::new();
    for file in package.wheels.iter().chain(&package.archive) {
        let hash =
            file.hashes.get("sha256").ok_or_else(|| Error::Answer(format!("a wheel of {name} has no sha256")))?;
        digests.push(Digest::from_hex(hash).map_err(|error| Error::Answer(error.to_string()))?);
    }
    digests.sort();
    digests.dedup();
    let version = match (package.version, &url) {
        (Some(version), _) => version,
        // `NAME-VERSION-TAGS.whl`
        (None, Some(url)) => {
            url.rsplit('/').next().and_then(|file| file.split('-').nth(1)).unwrap_or_default().to_owned()
        }
        (None, None) => String::new(),
    };
    if digests.is_empty() || version.is_empty() {
        return Err(Error::Answer(format!("it names no wheel of {name}")));
    }
    Ok(Package { name, version, url, digests })
}

/// Where an archive that a requirement names lies: a URL, or a path relative to the project.
fn place(name: &str, archive: &PylockFile, project: &Path, folder: &Path) -> Result<String, Error> {
    match (&archive.url, &archive.path) {
        // A lock names who may fetch it as little as where from.
        (Some(url), _) => Ok(without_credentials(url)),
        (None, Some(path)) => {
            let path = fs::canonicalize(folder.join(path))?;
            let inside = path.strip_prefix(fs::canonicalize(project)?).ok().and_then(Path::to_str);
            inside.map(str::to_owned).ok_or_else(|| Error::OutsideWheel { name: name.to_owned(), path: path.clone() })
        }
        (None, None) => Err(Error::Answer(format!("it does not say where {name} comes from"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_wheel_is_refused() {
        let here = Path::new("/");
        let of = |text: &str| read(&format!("[[packages]]\nname = \"a\"\nversion = \"1\"\n{text}"), here, here);
        assert!(matches!(of("vcs = { url = 'https://h.example/a' }"), Err(Error::NotAWheel { .. })));
        assert!(matches!(of("archive = { url = 'https://h.example/a.tar.gz' }"), Err(Error::NotAWheel { .. })));
        assert!(matches!(of("wheels = [{ url = 'x', hashes = {} }]"), Err(Error::Answer(_))));
        assert!(matches!(of(""), Err(Error::Answer(_))));
        let archive = "archive = { url = 'https://me:p@h.example/a-1-py3-none-any.whl', hashes = { sha256 = 'HASH' } }";
        let packages = of(&archive.replace("HASH", &Digest::of("").hex())).unwrap();
        assert_eq!(packages[0].url.as_deref(), Some("https://h.example/a-1-py3-none-any.whl"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "(\\[\\[packages\\]\\]|name|version|=|'a'|wheels|\\{|\\}|\\[|\\]|\n| |sha256|hashes|archive|url){0,40}") {
            let _ = read(&text, Path::new("/"), Path::new("/"));
        }
    }
}
