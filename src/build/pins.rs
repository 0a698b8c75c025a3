//! Pins that have no wheel for a Python: another Python that all of them have wheels for, or the nearest versions that work
//! together.
//!
//! The usual Python is tried first, by whoever asks; only where it has no wheels anybody looks further. What the index says of
//! wheels is asked before anything is resolved as a whole.
//!
//! Invariant: what cannot be asked changes nothing.

use std::path::PathBuf;

use pep440_rs::Version;

use crate::base::python::{self, Aim, Package, Refusal, Resolution, Target, Uv};
use crate::base::requirements::{Relaxed, Requirements, Wanted};
use crate::formats::python::PythonVersion;
use crate::image::session::Session;
use crate::io::progress::Progress;

/// Pins that are looked at one by one.
const MOST: usize = 300;

/// Requirements on trial.
pub struct Trial<'a> {
    /// Who answers.
    pub uv: &'a Uv,
    /// Where it is tried.
    pub session: &'a Session,
    /// The project's folder.
    pub root: PathBuf,
    /// The project's requirements.
    pub requirements: &'a Requirements,
    /// What Ekiben's service needs besides.
    pub server: &'a [&'static str],
}

/// Why requirements cannot be met; none where nobody answered.
pub type Unmet = Option<Refusal>;

impl Trial<'_> {
    /// The packages that meet all requirements, with `relaxed` in the place of pins, and those of the service.
    ///
    /// # Errors
    /// Why there are none.
    pub fn whole(&self, relaxed: &[Relaxed], target: &Target) -> Result<Vec<Package>, Unmet> {
        let requirements = self.requirements.clone().relaxed(relaxed).and(self.server.iter().copied());
        self.packages(&requirements, target, Aim::Newest)
    }

    /// Whether all requirements of the project have wheels for each of `targets`, whatever these require in turn.
    pub fn have_wheels(&self, targets: &[Target]) -> bool {
        targets.iter().all(|target| self.packages(self.requirements, target, Aim::Alone).is_ok())
    }

    /// The pins that cannot be had for `target`, whatever they require in turn.
    pub fn in_the_way(&self, target: &Target) -> Vec<Wanted> {
        let pins: Vec<Wanted> = self.requirements.pins().take(MOST).cloned().collect();
        let mut found = Vec::new();
        self.search(&pins, target, &mut found);
        found
    }

    /// By halves: most can be had.
    fn search(&self, pins: &[Wanted], target: &Target, found: &mut Vec<Wanted>) {
        let is_meant = |pin: &Wanted| pins.iter().any(|one| one.text == pin.text).then(|| pin.text.clone());
        if pins.is_empty() || self.packages(&self.requirements.of_pins(is_meant), target, Aim::Alone).is_ok() {
            return;
        }
        match pins {
            [one] => found.push(one.clone()),
            _ => {
                let (one, other) = pins.split_at(pins.len() / 2);
                self.search(one, target, found);
                self.search(other, target, found);
            }
        }
    }

    /// What pins give way to for all of `targets`, so that everything can be had together: each to the next newer release, or
    /// else the last older one. Those stay that can.
    pub fn relaxed(&self, targets: &[Target]) -> Option<Vec<Relaxed>> {
        let mut relaxed: Vec<Relaxed> = Vec::new();
        for target in targets {
            if self.whole(&relaxed, target).is_err() {
                let requirements = self.requirements.clone().relaxed(&relaxed);
                let further = Trial { requirements: &requirements, root: self.root.clone(), ..*self };
                for one in further.nearest(target)? {
                    match relaxed.iter_mut().find(|earlier| earlier.after == one.before) {
                        Some(earlier) => earlier.after = one.after,
                        None => relaxed.push(one),
                    }
                }
            }
        }
        // What is nearest for one may be nothing for another.
        let hold = targets.len() < 2 || targets.iter().all(|target| self.whole(&relaxed, target).is_ok());
        hold.then_some(relaxed)
    }

    fn nearest(&self, target: &Target) -> Option<Vec<Relaxed>> {
        let lacking = self.in_the_way(target);
        let is_lacking = |pin: &Wanted| lacking.iter().any(|one| one.text == pin.text);
        // The fewest changes first; then also those that the changed ones do not work with.
        let loose = |pin: &Wanted| Some(pin.repinned(&format!(">={}", pin.pin()?)));
        let some = |pin: &Wanted| if is_lacking(pin) { loose(pin) } else { Some(pin.text.clone()) };
        if let Some(found) = self.attempt(&some, &lacking, target).or_else(|| self.attempt(&loose, &lacking, target)) {
            return Some(found);
        }
        // Of some there may be nothing newer.
        let older = lacking.iter().filter_map(|pin| {
            let ask = |operator: &str| {
                let text = pin.repinned(&format!("{operator}{}", pin.pin()?));
                let aim = if operator == ">" { Aim::Oldest } else { Aim::Alone };
                let asked = self.requirements.of_pins(|one| (one.text == pin.text).then(|| text.clone()));
                version_of(&self.packages(&asked, target, aim).ok()?, pin)
            };
            if ask(">").is_some() { None } else { Some((pin.text.clone(), pin.repinned(&format!("=={}", ask("<")?)))) }
        });
        let older: Vec<(String, String)> = older.collect();
        let aged = |pin: &Wanted| older.iter().find(|(text, _)| *text == pin.text).map(|(_, after)| after.clone());
        if older.is_empty() {
            return None;
        }
        let some = |pin: &Wanted| aged(pin).or_else(|| some(pin));
        let all = |pin: &Wanted| aged(pin).or_else(|| loose(pin));
        self.attempt(&some, &lacking, target).or_else(|| self.attempt(&all, &lacking, target))
    }

    /// What pins give way to where `ask` is asked in their place, if everything can be had then.
    fn attempt(
        &self,
        ask: &dyn Fn(&Wanted) -> Option<String>,
        lacking: &[Wanted],
        target: &Target,
    ) -> Option<Vec<Relaxed>> {
        let packages = self.packages(&self.requirements.of_pins(ask), target, Aim::Oldest).ok()?;
        let mut relaxed: Vec<Relaxed> = Vec::new();
        for pin in self.requirements.pins() {
            let Some(version) = version_of(&packages, pin).filter(|version| Some(version) != pin.pin()) else {
                continue;
            };
            let why = match lacking.iter().any(|one| one.text == pin.text) {
                true => {
                    let python = target.python;
                    format!("it has no wheel for Python {python}; {version} is the nearest that has")
                }
                false => format!("{version} is the nearest that works with the others"),
            };
            let after = pin.repinned(&format!("=={version}"));
            // The same may be pinned twice.
            if relaxed.iter().all(|one| one.before != pin.text) {
                relaxed.push(Relaxed { before: pin.text.clone(), after, why });
            }
        }
        (!relaxed.is_empty() && self.whole(&relaxed, target).is_ok()).then_some(relaxed)
    }

    fn packages(&self, requirements: &Requirements, target: &Target, aim: Aim) -> Result<Vec<Package>, Unmet> {
        let scratch = self.session.store.scratch().map_err(|_| None)?;
        let asked = Resolution { requirements, target, project: &self.root, preferred: &[], aim };
        python::resolve(self.uv, &asked, scratch.path(), &Progress::silent()).map_err(|error| match error {
            python::Error::Refused(
                refusal @ (Refusal::NoWheel { .. } | Refusal::NoVersion { .. } | Refusal::Conflict { .. }),
            ) => Some(refusal),
            _ => None,
        })
    }
}

fn version_of(packages: &[Package], pin: &Wanted) -> Option<Version> {
    packages.iter().find(|package| package.name == pin.name)?.version.parse().ok()
}

/// How far pins go: how many, then how many numbers of their versions, the first ones before the others.
pub fn distance(relaxed: &[Relaxed]) -> (usize, Vec<u64>) {
    let mut sums = vec![0; 3];
    for one in relaxed {
        let version =
            |text: &str| text.split_once("==").and_then(|(_, version)| version.trim().parse::<Version>().ok());
        let Some((before, after)) = version(&one.before).zip(version(&one.after)) else { continue };
        let part = |version: &Version, at: usize| version.release().get(at).copied().unwrap_or_default();
        for (at, sum) in sums.iter_mut().enumerate() {
            let off = part(&before, at).abs_diff(part(&after, at));
            *sum += off;
            if off > 0 {
                break;
            }
        }
    }
    (relaxed.len(), sums)
}

/// Several Pythons in words: `3.6 and 3.7`.
pub fn pythons_text(pythons: &[PythonVersion]) -> String {
    let mut texts: Vec<String> = pythons.iter().map(ToString::to_string).collect();
    let last = texts.pop().unwrap_or_default();
    if texts.is_empty() { last } else { format!("{} and {last}", texts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_counts_less() {
        let of = |pairs: &[(&str, &str)]| {
            let one = |(before, after): &(&str, &str)| Relaxed {
                before: format!("a=={before}"),
                after: format!("a=={after}"),
                why: String::new(),
            };
            distance(&pairs.iter().map(one).collect::<Vec<_>>())
        };
        assert!(of(&[("1.18.1", "1.19.3")]) < of(&[("1.18.1", "1.23.2")]));
        assert!(of(&[("1.18.1", "1.23.2")]) < of(&[("1.18.1", "2.1.0")]));
        assert!(of(&[("1.0", "2.0")]) < of(&[("1.0.0", "1.0.1"), ("1.0", "1.1")]));
        let pythons = [6, 7, 8].map(|minor| PythonVersion::new(3, minor));
        assert_eq!(pythons_text(&pythons), "3.6, 3.7 and 3.8");
        assert_eq!(pythons_text(&pythons[..1]), "3.6");
    }
}
