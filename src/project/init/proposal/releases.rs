//! Which Python a model runs on, and which releases fit each other: what the metadata of old releases does not say.
//!
//! A release says the oldest of what it needs. The newest that it works with nobody could know then, so a resolver takes
//! what came years later: scikit-learn 1.2 with NumPy 2, which it cannot be imported with.

use std::str::FromStr;

use pep440_rs::Version;

use super::Pin;
use crate::base::debian::Suite;

/// Versions of Python 3 that something runs on, by their minor numbers.
#[derive(Clone, Debug)]
pub struct Range {
    pub from: u32,
    pub to: u32,
    /// What it is that runs: `scikit-learn 1.5.2 runs`, `numpy 2 runs`.
    pub who: String,
}

/// A series of scikit-learn: the Pythons that there are wheels for, and the first NumPy and SciPy that came after it.
struct Series {
    version: (u64, u64),
    pythons: (u32, u32),
    numpy: &'static str,
    scipy: &'static str,
}

/// From the files of each release on the package index, and the dates of NumPy's and SciPy's.
#[rustfmt::skip]
const SERIES: [Series; 12] = [
    Series { version: (0, 22), pythons: (5, 8), numpy: "1.20", scipy: "1.6" },
    Series { version: (0, 23), pythons: (6, 8), numpy: "1.20", scipy: "1.6" },
    Series { version: (0, 24), pythons: (6, 9), numpy: "1.22", scipy: "1.8" },
    Series { version: (1, 0), pythons: (7, 10), numpy: "1.23", scipy: "1.9" },
    Series { version: (1, 1), pythons: (8, 11), numpy: "1.24", scipy: "1.10" },
    Series { version: (1, 2), pythons: (8, 11), numpy: "1.25", scipy: "1.11" },
    Series { version: (1, 3), pythons: (8, 12), numpy: "2", scipy: "1.12" },
    Series { version: (1, 4), pythons: (9, 12), numpy: "2.1", scipy: "1.14" },
    Series { version: (1, 5), pythons: (9, 13), numpy: "2.2", scipy: "1.15" },
    Series { version: (1, 6), pythons: (9, 13), numpy: "2.3", scipy: "1.16" },
    Series { version: (1, 7), pythons: (10, 14), numpy: "2.4", scipy: "1.17" },
    Series { version: (1, 8), pythons: (11, 14), numpy: "2.5", scipy: "1.18" },
];

/// Which NumPy wrote the arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numpy {
    /// Before 2.0.
    One,
    /// 2.0 or later.
    Two,
}

/// What a model that was saved by scikit-learn `version` needs.
pub fn sklearn(version: &Version, numpy: Option<Numpy>) -> (Vec<Pin>, Range) {
    let part = |at: usize| version.release().get(at).copied().unwrap_or_default();
    let wanted = (part(0), part(1));
    let who = format!("scikit-learn {version} runs");
    let mut pins = vec![Pin::new(format!("scikit-learn=={version}"), "saved the model")];
    let Some(series) = SERIES.iter().find(|series| series.version == wanted) else {
        pins.extend(numpy.map(numpy_pin));
        // Later than all that is known, or so old that there are no wheels.
        let old = SERIES.first().is_some_and(|first| wanted < first.version);
        let (from, to) = if old { (0, 7) } else { (11, u32::MAX) };
        return (pins, Range { from, to, who });
    };
    let (from, to) = match (wanted, part(2)) {
        // Wheels for the newest Python came with a later patch.
        ((1, 0), 0) => (7, 9),
        ((1, 1), 0..3) => (8, 10),
        ((1, 3), 0) => (8, 11),
        ((1, 5), 0..2) => (9, 12),
        ((1, 7), 0..2) => (10, 13),
        _ => series.pythons,
    };
    let came =
        |package: &str, next: &str| format!("{package} {next} came after scikit-learn {}.{}", wanted.0, wanted.1);
    // The first release that was built for NumPy 2 is 1.4.2.
    let before_two = wanted < (1, 4) || wanted == (1, 4) && part(2) < 2;
    pins.push(match numpy {
        Some(Numpy::Two) => {
            let why = format!("NumPy 2 wrote the arrays; {}", came("NumPy", series.numpy));
            Pin::new(format!("numpy>=2,<{}", series.numpy), why)
        }
        _ if before_two && series.numpy.starts_with('2') => {
            Pin::new("numpy<2", format!("scikit-learn {version} was built for NumPy 1"))
        }
        Some(Numpy::One) if series.numpy.starts_with('2') => numpy_pin(Numpy::One),
        _ => Pin::new(format!("numpy<{}", series.numpy), came("NumPy", series.numpy)),
    });
    pins.push(Pin::new(format!("scipy<{}", series.scipy), came("SciPy", series.scipy)));
    (pins, Range { from, to, who })
}

/// NumPy itself.
pub fn numpy_pin(numpy: Numpy) -> Pin {
    match numpy {
        Numpy::One => Pin::new("numpy<2", "NumPy 1 wrote the arrays"),
        Numpy::Two => Pin::new("numpy>=2", "NumPy 2 wrote the arrays"),
    }
}

/// A Python that suits all `ranges`, as `3.11`; best one that a Debian suite has, as that needs no registry. With what
/// speaks against it, if none suits.
pub fn python(ranges: &[Range], otherwise: &str) -> (Pin, Option<String>) {
    let suits = |minor: u32| ranges.iter().all(|range| (range.from..=range.to).contains(&minor));
    let whose: Vec<String> = ranges
        .iter()
        .map(|Range { from, to, who }| match (from, to) {
            (from, &u32::MAX) => format!("{who} on 3.{from} and later"),
            (0, to) => format!("{who} on 3.{to} and earlier"),
            (from, to) => format!("{who} on 3.{from} to 3.{to}"),
        })
        .collect();
    let whose = if whose.is_empty() { otherwise.to_owned() } else { whose.join(", ") };
    if let Some(suite) = Suite::preferred().find(|suite| suits(suite.python().minor().into())) {
        let python = suite.python();
        return (Pin::new(python.to_string(), format!("{whose}; Debian {suite} has {python}")), None);
    }
    let newest = (8..=14).rev().find(|minor| suits(*minor));
    match newest {
        Some(minor) => {
            let debian = Suite::ALL.map(|suite| suite.python().to_string());
            let why = format!("{whose}; Debian has {}, so the base is Docker Hub's image of it", debian.join(", "));
            (Pin::new(format!("3.{minor}"), why), None)
        }
        None => {
            let open = format!("no Python suits it that images can be built with: {whose}; save the model again");
            (Pin::new(Suite::DEFAULT.python().to_string(), whose), Some(open))
        }
    }
}

/// Packages that bring libraries for graphics processors, each with the one that does not, since which release there is
/// that, and how much smaller it is on a disk, in MB.
const WITHOUT_GPUS: [(&str, &str, &str, u32); 2] =
    [("xgboost", "xgboost-cpu", "2.1", 480), ("tensorflow", "tensorflow-cpu", "2", 300)];

/// Puts the package for processors alone in the place of one for graphics processors, where there is such a package.
pub fn without_gpus(pin: &mut Pin) {
    let end = pin.text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(pin.text.len());
    let (name, rest) = pin.text.split_at(end);
    let found = WITHOUT_GPUS.iter().find(|(with, ..)| *with == name);
    let Some((_, without, since, saved)) = found else { return };
    let pinned = rest.strip_prefix("==").and_then(|version| Version::from_str(version).ok());
    if pinned.is_none_or(|pinned| Version::from_str(since).is_ok_and(|since| since <= pinned)) {
        pin.reason = format!("{}; without CUDA, which saves {saved} MB", pin.reason);
        pin.text = format!("{without}{rest}");
    }
}

/// A version as the package index writes it, where the text is one.
pub fn version(text: &str) -> Option<Version> {
    // Of a local version (`1.2+cu118`) the index has only what is before it.
    Version::from_str(text.split('+').next()?).ok().filter(|_| text.len() < 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(version: &str, numpy: Option<Numpy>) -> (Vec<String>, String) {
        let (pins, range) = sklearn(&version.parse().unwrap(), numpy);
        (pins.into_iter().map(|pin| pin.text).collect(), python(&[range], "").0.text)
    }

    #[test]
    fn old_releases_get_what_they_were_made_for() {
        for (version, numpy, pins, python) in [
            ("1.5.2", Some(Numpy::Two), &["numpy>=2,<2.2", "scipy<1.15"][..], "3.11"),
            ("1.5.2", Some(Numpy::One), &["numpy<2", "scipy<1.15"], "3.11"),
            ("1.3.2", Some(Numpy::One), &["numpy<2", "scipy<1.12"], "3.11"),
            ("1.4.0", None, &["numpy<2", "scipy<1.14"], "3.11"),
            ("1.1.1", None, &["numpy<1.24", "scipy<1.10"], "3.9"),
            ("0.23.2", None, &["numpy<1.20", "scipy<1.6"], "3.8"),
            ("1.9.0", Some(Numpy::Two), &["numpy>=2"], "3.11"),
        ] {
            let (mut found, runs) = texts(version, numpy);
            assert_eq!(found.remove(0), format!("scikit-learn=={version}"));
            assert_eq!(found, pins, "{version}");
            assert_eq!(runs, python, "{version}");
        }
    }

    #[test]
    fn what_no_python_suits_is_said() {
        let (_, range) = sklearn(&"0.20.4".parse().unwrap(), None);
        assert!(python(&[range], "").1.is_some());
        let (_, range) = sklearn(&"0.23.2".parse().unwrap(), None);
        let reason = python(&[range], "").0.reason;
        assert!(reason.ends_with("Debian has 3.9, 3.11, 3.13, so the base is Docker Hub's image of it"), "{reason}");
        assert_eq!(python(&[], "any will do").0.reason, "any will do; Debian bookworm has 3.11");
    }

    #[test]
    fn only_versions_are_versions() {
        assert_eq!(version("1.5.2").map(|v| v.to_string()).as_deref(), Some("1.5.2"));
        assert_eq!(version("2.1.0+cu118").map(|v| v.to_string()).as_deref(), Some("2.1.0"));
        for text in ["", "1.0; import os", "latest", "1.0\n-r x"] {
            assert!(version(text).is_none(), "{text}");
        }
    }
}
