//! Whether this machine has what building and running need: all that the rooms below can say of it, asked side by side.
//!
//! Invariants: nothing is changed; no credential is in what is said; it takes [`MOST`] at the longest, whoever does not
//! answer.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use super::container::{self, Launcher};
use super::devices;
use crate::base::debian::Source;
use crate::base::python;
use crate::image::registry::Registries;
use crate::image::store::Store;
use crate::io::finding::{Finding, Level};
use crate::io::http::{self, Client};
use crate::io::progress::Progress;
use crate::io::{confine, explain::Explain};

/// How long it takes at the longest.
const MOST: Duration = Duration::from_secs(9);

/// How wrong a clock may be: certificates are made a few minutes before they are used.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// With more than this, certificates and signatures are not believed.
const WRONG: Duration = Duration::from_secs(24 * 60 * 60);

type Look = Box<dyn FnOnce() -> Vec<Finding> + Send>;

/// All that can be said of this machine and its store at `root`, in the order in which a person reads it.
///
/// # Errors
/// When the kernel does not tell which program this is.
pub fn findings(root: &Path, client: &Client) -> std::io::Result<Vec<Finding>> {
    let launcher = Launcher::this()?;
    let client = client.once();
    let (of_store, of_uv, layers) = (root.to_owned(), root.to_owned(), there(root));
    let (of_mirror, of_index) = (client.clone(), client.clone());
    let mut looks: Vec<(&'static str, Look)> = vec![
        ("namespaces", Box::new(move || container::findings(&launcher, &layers))),
        ("landlock", Box::new(|| vec![confine::finding()])),
        ("store", Box::new(move || Store::findings(&of_store))),
        ("uv", Box::new(move || vec![python::finding(&of_uv)])),
        ("debian mirror", Box::new(move || mirror(&of_mirror))),
        ("package index", Box::new(move || python::index::findings(&of_index))),
        ("devices", Box::new(|| vec![devices::finding()])),
        ("proxies", Box::new(|| vec![http::proxies()])),
    ];
    let registries = Registries::of(&client, &Progress::silent());
    match registries.logins() {
        Ok(names) => looks.extend(names.into_iter().map(|name| {
            let registries = registries.clone();
            let look: Look = Box::new(move || vec![registries.finding(&name)]);
            ("registry", look)
        })),
        Err(error) => looks.push(("registry", Box::new(move || vec![of_login(&error)]))),
    }
    Ok(side_by_side(looks))
}

fn of_login(error: &impl Explain) -> Finding {
    Finding::of_error("registry", Level::Warning, error)
}

fn side_by_side(looks: Vec<(&'static str, Look)>) -> Vec<Finding> {
    let deadline = Instant::now() + MOST;
    let (send, receive) = mpsc::channel();
    let names: Vec<_> = looks.iter().map(|(name, _)| *name).collect();
    for (number, (_, look)) in looks.into_iter().enumerate() {
        let send = send.clone();
        // Those that do not answer end with this process.
        std::thread::spawn(move || send.send((number, look())));
    }
    drop(send);
    let mut found: Vec<Option<Vec<Finding>>> = names.iter().map(|_| None).collect();
    while let Ok((number, findings)) = receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(place) = found.get_mut(number) {
            *place = Some(findings);
        }
    }
    let late = |name| {
        let advice = "whoever is asked for it does not answer: see the network, and file systems of other machines";
        vec![Finding::problem(name, format!("it took more than {} s to find out", MOST.as_secs()), advice)]
    };
    names.into_iter().zip(found).flat_map(|(name, found)| found.unwrap_or_else(|| late(name))).collect()
}

/// The longest part of the way to `path` that is there, for this user.
fn there(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|above| above.is_dir() && may_enter(above)).unwrap_or(Path::new("/")).to_owned()
}

fn may_enter(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

/// Debian's mirror, and the clock against its own.
fn mirror(client: &Client) -> Vec<Finding> {
    let (mut found, date) = Source::findings(client);
    found.extend(date.map(|date| clock(date, SystemTime::now())));
    found
}

fn clock(theirs: SystemTime, ours: SystemTime) -> Finding {
    const NAME: &str = "clock";
    const ADVICE: &str = "set the clock: `sudo timedatectl set-ntp true`; certificates and signatures have their times";
    let (off, way) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let text = match off.as_secs() {
        seconds @ 0..7200 => format!("{} min {way} the mirror's", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h {way} the mirror's", seconds / 3600),
        seconds => format!("{} days {way} the mirror's", seconds / 86_400),
    };
    match off {
        off if off < EARLY => Finding::ok(NAME, "as the mirror's"),
        off if off < WRONG => Finding::warning(NAME, text, ADVICE),
        _ => Finding::problem(NAME, text, ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = |seconds: u64| clock(now + Duration::from_secs(seconds), now);
        assert_eq!(clock(2).level, Level::Ok);
        assert_eq!((clock(3600).level, clock(3600).fact), (Level::Warning, "60 min behind the mirror's".to_owned()));
        assert_eq!(
            (clock(400_000).level, clock(400_000).fact),
            (Level::Problem, "4 days behind the mirror's".to_owned())
        );
        let ahead = super::clock(now, now + Duration::from_secs(90_000));
        assert_eq!((ahead.level, ahead.fact), (Level::Problem, "25 h ahead of the mirror's".to_owned()));
    }

    #[test]
    fn what_is_found_keeps_its_order() {
        let look = |name: &'static str, wait| {
            let look: Look = Box::new(move || {
                std::thread::sleep(Duration::from_millis(wait));
                vec![Finding::ok(name, ""), Finding::ok("more", "")]
            });
            (name, look)
        };
        let found = side_by_side(vec![look("a", 30), look("b", 0), look("c", 10)]);
        let names: Vec<_> = found.iter().map(|finding| finding.name).collect();
        assert_eq!(names, ["a", "more", "b", "more", "c", "more"]);
    }
}
