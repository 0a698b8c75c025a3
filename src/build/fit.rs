//! Requirements of a project that was just made, tried against the package index: a version that a model names may have no wheel
//! for the Python that it gets. Such a pin goes to the nearest release that has one ([`super::pins`]), and what was changed is
//! said.
//!
//! Invariant: what cannot be asked changes nothing; a file is rewritten only where all of it can be had then.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use fs_err as fs;

use super::pins::Trial;
use crate::base::python::{StandIn, Target, Uv};
use crate::base::requirements::Relaxed;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::atomic;
use crate::io::progress::Progress;
use crate::project::Project;

/// The C library of the oldest base that images are given, which any wheel for a newer one runs on as well.
const GLIBC: (u32, u32) = (2, 36);

/// How long the package index may take, where somebody waits.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// There is nothing to be tried: no versions are named.
    Untried,
    /// All can be had, after these changes.
    Fits(Vec<Relaxed>),
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
    let target = Target { python, platform: Platform::host().ok()?, glibc: GLIBC };
    let (uv, requirements) = (Uv::find(session, StandIn::this()).ok()?, &project.requirements);
    let trial =
        Trial { uv: &uv, session, root: std::path::absolute(folder).ok()?, requirements, server: &project.server };
    let refusal = match trial.whole(&[], &target) {
        Ok(_) => return Some(Fit::Fits(Vec::new())),
        Err(Some(refusal)) => refusal,
        Err(None) => return None,
    };
    let Some(relaxed) = trial.relaxed(&[target]) else { return Some(Fit::Unfit(refusal.to_string())) };
    let changed = relaxed.iter().try_fold(text, |text, one| replaced(&text, one))?;
    atomic::write(&path, |file| file.write_all(changed.as_bytes())).ok()?;
    Some(Fit::Fits(relaxed))
}

/// A text of requirements with one of them changed; the reason after it says so. None where it is not in it.
fn replaced(text: &str, relaxed: &Relaxed) -> Option<String> {
    let is_it = |line: &str| line.split("  #").next().is_some_and(|before| before.trim() == relaxed.before);
    let mut is_found = false;
    let lines = text.lines().map(|line| {
        if is_found || !is_it(line) {
            return format!("{line}\n");
        }
        is_found = true;
        format!("{}  # in the place of {}: {}\n", relaxed.after, relaxed.before, relaxed.why)
    });
    let changed: String = lines.collect();
    is_found.then_some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_changed_and_says_why() {
        let relaxed = Relaxed {
            before: "numpy==1.19.0".to_owned(),
            after: "numpy==1.21.0".to_owned(),
            why: "it has no wheel".to_owned(),
        };
        let text = "scipy  # numpy==1.19.0\nnumpy==1.19.0  # made it\n";
        let expected = "scipy  # numpy==1.19.0\nnumpy==1.21.0  # in the place of numpy==1.19.0: it has no wheel\n";
        assert_eq!(replaced(text, &relaxed).as_deref(), Some(expected));
        assert_eq!(replaced("numpy\n", &relaxed), None);
    }
}
