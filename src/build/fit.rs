//! Requirements of a project that was just made, tried against the package index: a version that a model names may have no wheel
//! for the Python that it gets. Such a pin goes to the nearest release that has one, and what was changed is said.
//!
//! Invariant: what cannot be asked changes nothing; a file is rewritten only where all of it can be had then.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use fs_err as fs;
use pep440_rs::{Operator, Version};
use serde::Serialize;

use crate::base::python::{self, Package, Refusal, Resolution, StandIn, Target, Uv};
use crate::base::requirements::{Asked, Requirements, Wanted};
use crate::formats::diagnostic::Diagnostics;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::atomic;
use crate::io::progress::Progress;
use crate::project::Project;
use crate::project::manifest::SERVER;

/// The C library of the oldest base that images are given, which any wheel for a newer one runs on as well.
const GLIBC: (u32, u32) = (2, 36);

/// How long the package index may take, where somebody waits.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pins that are looked at one by one.
const MOST: usize = 20;

/// A requirement that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loosened {
    /// As it was.
    pub before: String,
    /// As it is now.
    pub after: String,
    /// Why: a fragment.
    pub why: String,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// There is nothing to be tried: no versions are named.
    Untried,
    /// All can be had, after these changes.
    Fits(Vec<Loosened>),
    /// Not all can be had, and no nearer release helps: why, in the words of uv.
    Unfit(String),
    /// Nobody answered, or not in time.
    Unknown,
}

/// Tries the requirements of the project in `folder`, for as long as `most`, and loosens pins in its `requirements.txt` that
/// no wheel meets. Nothing is said of what goes on.
pub fn fit(session: &Session, folder: &Path, most: Duration) -> Fit {
    let (send, receive) = mpsc::channel();
    let quiet = Session { progress: Progress::silent(), client: session.client.apart(), ..session.clone() };
    let (asked, client) = (folder.to_owned(), quiet.client.clone());
    // What hangs dies with the program.
    std::thread::spawn(move || send.send(tried(&quiet, &asked).unwrap_or(Fit::Unknown)));
    receive.recv_timeout(most).unwrap_or_else(|_| {
        client.stop();
        Fit::Unknown
    })
}

/// None where it cannot be tried.
fn tried(session: &Session, folder: &Path) -> Option<Fit> {
    let (project, _) = Project::load(folder).ok()?;
    let path = folder.join("requirements.txt");
    let text = fs::read_to_string(&path).ok()?;
    if !project.requirements.wanted.iter().any(|wanted| !wanted.versions.is_empty()) {
        return Some(Fit::Untried);
    }
    // What a cache happens to have decides nothing.
    if session.client.is_offline() {
        return None;
    }
    let python = *project.manifest.python.as_ref()?.version.as_ref()?.meant().ok()?;
    let trial = Trial {
        uv: Uv::find(session, StandIn::this()).ok()?,
        session,
        target: Target { python, platform: Platform::host().ok()?, glibc: GLIBC },
        root: std::path::absolute(folder).ok()?,
        options: project.requirements.options_text().lines().map(str::to_owned).collect(),
    };
    let whole = |requirements: &Requirements| trial.packages(&requirements.clone().and(SERVER.iter().copied()));
    let refusal = match whole(&project.requirements) {
        Ok(_) => return Some(Fit::Fits(Vec::new())),
        Err(Some(refusal)) => refusal,
        Err(None) => return None,
    };
    let mut changed = text;
    let mut all = Vec::new();
    for wanted in project.requirements.wanted.iter().filter(|wanted| wanted.marker.is_empty()).take(MOST) {
        let Some(version) = pinned(wanted) else { continue };
        if trial.packages(&trial.alone(&wanted.text, None)).is_ok() {
            continue;
        }
        let Some(nearest) = trial.nearest(&wanted.name, &version) else { continue };
        let why = format!("it has no wheel for Python {python}; {nearest} is the nearest that has");
        let loosened = Loosened {
            before: wanted.text.clone(),
            after: wanted.text.replace(&format!("=={version}"), &format!("=={nearest}")),
            why,
        };
        changed = replaced(&changed, &loosened)?;
        all.push(loosened);
    }
    if all.is_empty() {
        return Some(Fit::Unfit(refusal.to_string()));
    }
    // Those that were named together have to be had together.
    let scratch = session.store.scratch().ok()?;
    fs::write(scratch.path().join("requirements.txt"), &changed).ok()?;
    let asked = Asked::File("requirements.txt");
    match whole(&Requirements::read(asked, scratch.path(), None, &mut Diagnostics::new())) {
        Ok(_) => {
            atomic::write(&path, |file| file.write_all(changed.as_bytes())).ok()?;
            Some(Fit::Fits(all))
        }
        Err(Some(refusal)) => Some(Fit::Unfit(refusal.to_string())),
        Err(None) => None,
    }
}

/// The version that a requirement pins.
fn pinned(wanted: &Wanted) -> Option<Version> {
    let [one] = &*wanted.versions.iter().collect::<Vec<_>>() else { return None };
    (*one.operator() == Operator::Equal).then(|| one.version().clone())
}

/// A text of requirements with one of them changed; the reason after it says so. None where it is not in it.
fn replaced(text: &str, loosened: &Loosened) -> Option<String> {
    let is_it = |line: &str| line.split("  #").next().is_some_and(|before| before.trim() == loosened.before);
    let mut is_found = false;
    let lines = text.lines().map(|line| {
        if is_found || !is_it(line) {
            return format!("{line}\n");
        }
        is_found = true;
        format!("{}  # in the place of {}: {}\n", loosened.after, loosened.before, loosened.why)
    });
    let changed: String = lines.collect();
    is_found.then_some(changed)
}

/// What is asked of the index, and for what.
struct Trial<'a> {
    uv: Uv,
    session: &'a Session,
    target: Target,
    root: std::path::PathBuf,
    /// Lines that say where packages come from.
    options: Vec<String>,
}

impl Trial<'_> {
    /// The packages that meet requirements.
    ///
    /// # Errors
    /// Why there are none; none where nobody answered.
    fn packages(&self, requirements: &Requirements) -> Result<Vec<Package>, Option<Refusal>> {
        let scratch = self.session.store.scratch().map_err(|_| None)?;
        let asked = Resolution { requirements, target: &self.target, project: &self.root, preferred: &[] };
        python::resolve(&self.uv, &asked, scratch.path(), &self.session.progress).map_err(|error| match error {
            python::Error::Refused(refusal @ (Refusal::NoWheel { .. } | Refusal::Conflict { .. })) => Some(refusal),
            _ => None,
        })
    }

    /// One requirement, as the oldest or the newest release that meets it.
    fn alone(&self, text: &str, settings: Option<&Path>) -> Requirements {
        let read = |root| Requirements::read(Asked::List(&[]), root, None, &mut Diagnostics::new());
        let requirements = settings.map(read).unwrap_or_default();
        requirements.and(self.options.iter().cloned()).and([text])
    }

    /// The release of a package that is the nearest to one that cannot be had: the next newer one, or else the last older one.
    fn nearest(&self, name: &str, version: &Version) -> Option<Version> {
        let folder = self.session.store.scratch().ok()?;
        fs::write(folder.path().join("uv.toml"), "resolution = \"lowest-direct\"\n").ok()?;
        let newer = self.packages(&self.alone(&format!("{name}>{version}"), Some(folder.path())));
        let found = newer.or_else(|_| self.packages(&self.alone(&format!("{name}<{version}"), None))).ok()?;
        found.into_iter().find(|package| package.name == name)?.version.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_changed_and_says_why() {
        let loosened = Loosened {
            before: "numpy==1.19.0".to_owned(),
            after: "numpy==1.21.0".to_owned(),
            why: "it has no wheel".to_owned(),
        };
        let text = "scipy  # numpy==1.19.0\nnumpy==1.19.0  # made it\n";
        let expected = "scipy  # numpy==1.19.0\nnumpy==1.21.0  # in the place of numpy==1.19.0: it has no wheel\n";
        assert_eq!(replaced(text, &loosened).as_deref(), Some(expected));
        assert_eq!(replaced("numpy\n", &loosened), None);
    }
}
