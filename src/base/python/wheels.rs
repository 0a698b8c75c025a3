//! The wheels of locked packages as files, for whoever installs them where no index is.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use url::Url;

use super::refusal::Refusal;
use super::resolve::{Pylock, PylockFile};
use super::{Error, Package, Target, Uv, index};
use crate::base::requirements::Requirements;
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::explain::carry;
use crate::io::progress::{Task, Unit};

/// A wheel in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wheel {
    /// The name of its file, which says what it is for (PEP 427).
    pub file: String,
    /// Of its bytes.
    pub digest: Digest,
}

/// Brings the wheels of `packages` into the store, all that will do for `target`, of which an installer takes the one that it
/// would take from the index. Those of the project's own are left out. `scratch` is an empty folder.
///
/// # Errors
/// When an index does not have one any more, or gives something else.
pub fn fetch(
    session: &Session,
    uv: &Uv,
    packages: &[Package],
    target: &Target,
    requirements: &Requirements,
    scratch: &Path,
) -> Result<Vec<Wheel>, Error> {
    let wanted: Vec<_> = packages.iter().filter(|package| package.is_fetched()).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let listed = listed(uv, &wanted, target, requirements, scratch)?;
    let mut files = Vec::new();
    for package in &wanted {
        let all = listed.get(&package.name).into_iter().flatten();
        let of_package: Vec<_> = all.filter(|(_, digest)| package.digests.contains(digest)).collect();
        if of_package.is_empty() {
            return Err(Error::Answer(format!(
                "no index has a wheel of {} {} that is locked",
                package.name, package.version
            )));
        }
        files.extend(of_package);
    }
    let bytes = files.iter().map(|(file, _)| file.size.unwrap_or_default()).sum();
    let task = session.progress.task("Fetching", format!("{} wheels", files.len()), Unit::Bytes, Some(bytes));
    let mut wheels = Vec::new();
    for (file, digest) in files {
        let name = file.bring(session, digest, scratch, &task)?;
        wheels.push(Wheel { file: name, digest: *digest });
    }
    task.finish(format!("Fetched {} wheels", wheels.len()));
    wheels.sort();
    Ok(wheels)
}

/// Where the wheels of locked packages lie, by the packages' names: uv asks the indexes, as it does to install.
fn listed(
    uv: &Uv,
    packages: &[&Package],
    target: &Target,
    requirements: &Requirements,
    scratch: &Path,
) -> Result<BTreeMap<String, Vec<(PylockFile, Digest)>>, Error> {
    let line = |package: &&Package| match &package.url {
        None => format!("{}=={}\n", package.name, package.version),
        Some(url) => format!("{} @ {}\n", package.name, requirements.address(&package.name).unwrap_or(url)),
    };
    let text: String = packages.iter().map(line).collect();
    fs::write(scratch.join("requirements.in"), requirements.options_text() + &text)?;
    fs::write(scratch.join("uv.toml"), requirements.locations_text())?;
    let command = uv
        .pip("compile", scratch)?
        .args(["--format", "pylock.toml", "--no-header", "--no-annotate", "--only-binary", ":all:", "--no-deps"])
        .args(["--python-version", &target.release(), "--python-platform", &target.uv_platform()])
        .args(["--quiet", "--output-file", "pylock.toml", "requirements.in"]);
    let output = command.run(scratch)?;
    if !output.status.success() {
        let target = format!("Python {} on {}", target.python, target.platform);
        return Err(Refusal::of(&output.stderr, &target).into());
    }
    let pylock = Pylock::read(&fs::read_to_string(scratch.join("pylock.toml"))?)?;
    let mut found = BTreeMap::new();
    for package in pylock.packages {
        let files = package.wheels.into_iter().chain(package.archive);
        let with_digest = |file: PylockFile| {
            let digest = Digest::from_hex(file.hashes.get("sha256")?).ok()?;
            Some((file, digest))
        };
        found.insert(package.name, files.filter_map(with_digest).collect());
    }
    Ok(found)
}

impl PylockFile {
    /// Puts it into the store, if it has the digest; gives its name. Paths are meant from `folder`.
    fn bring(&self, session: &Session, digest: &Digest, folder: &Path, task: &Task) -> Result<String, Error> {
        let nowhere = || Error::Answer("it does not say where a wheel lies".to_owned());
        let place = self.url.as_deref().or(self.path.as_deref()).ok_or_else(nowhere)?;
        let last = place.split(['#', '?']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        // In an address, `+` of a local version may be escaped.
        let name = self.name.clone().unwrap_or_else(|| last.replace("%2B", "+").replace("%2b", "+"));
        if session.store.has_blob(digest) {
            task.advance(self.size.unwrap_or_default());
            return Ok(name);
        }
        let url = self.url.as_deref().map(|url| Url::parse(url).map_err(|_| nowhere())).transpose()?;
        let path = match &url {
            Some(url) => url.to_file_path().ok(),
            None => Some(folder.join(place)),
        };
        match (path, url) {
            (Some(path), _) => {
                let size = fs::metadata(&path)?.len();
                session.store.put_blob(&mut task.reading(fs::File::open(&path)?), digest, size)?;
            }
            (None, Some(url)) => index::download(session, &url, digest, self.size, task).map_err(carry)?,
            (None, None) => return Err(nowhere()),
        }
        Ok(name)
    }
}
