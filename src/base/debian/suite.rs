//! The suites of Debian that are known here, and what each brings: the one place that says so.
//!
//! A suite is known when its keys come with the program. A document may name another one: that is a text, and whoever
//! needs to know something of it has to say that it is not known.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::formats::python::PythonVersion;

/// A release of Debian that bases are assembled from; the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// Debian 11.
    Bullseye,
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

/// The text is the name of no suite that is known here.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no Debian suite that ekiben can assemble")]
pub struct UnknownSuite(pub String);

/// What a suite brings.
struct Facts {
    name: &'static str,
    python: PythonVersion,
    glibc: (u32, u32),
    keys: &'static [u8],
}

impl Suite {
    /// Every suite there is, the oldest first.
    pub const ALL: [Self; 3] = [Self::Bullseye, Self::Bookworm, Self::Trixie];

    /// The one that is taken where nothing speaks for another: the one that most wheels are made for.
    pub const DEFAULT: Self = Self::Bookworm;

    fn facts(self) -> Facts {
        let facts = |name, minor, glibc, keys| Facts { name, python: PythonVersion::new(3, minor), glibc, keys };
        match self {
            Self::Bullseye => facts("bullseye", 9, (2, 31), include_bytes!("keys/bullseye.gpg")),
            Self::Bookworm => facts("bookworm", 11, (2, 36), include_bytes!("keys/bookworm.gpg")),
            Self::Trixie => facts("trixie", 13, (2, 41), include_bytes!("keys/trixie.gpg")),
        }
    }

    /// Debian's name of it: `bookworm`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The version of its Python.
    pub fn python(self) -> PythonVersion {
        self.facts().python
    }

    /// The version of its C library, as `(2, 36)`: wheels can count on it.
    pub fn glibc(self) -> (u32, u32) {
        self.facts().glibc
    }

    /// The public keys that sign its archive, as exported from the package `debian-archive-keyring`.
    pub(super) fn keys(self) -> &'static [u8] {
        self.facts().keys
    }

    /// All in the order in which one is chosen: the default first, then the newer before the older.
    pub fn preferred() -> impl Iterator<Item = Self> {
        let others = Self::ALL.into_iter().rev().filter(|suite| *suite != Self::DEFAULT);
        std::iter::once(Self::DEFAULT).chain(others)
    }

    /// The suite whose own Python is `version`.
    pub fn with_python(version: PythonVersion) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.python() == version)
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|suite| suite.name() == text).ok_or_else(|| UnknownSuite(text.to_owned()))
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Suite {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::diagnostic::Code;

    #[test]
    fn each_suite_has_one_python_and_its_own_keys() {
        let preferred: Vec<_> = Suite::preferred().map(Suite::name).collect();
        assert_eq!(preferred, ["bookworm", "trixie", "bullseye"]);
        assert_eq!(Suite::with_python(PythonVersion::new(3, 12)), None);
        assert!("noble".parse::<Suite>().is_err());
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse::<Suite>().unwrap(), suite);
            assert_eq!(Suite::with_python(suite.python()), Some(suite));
            assert!(Suite::ALL.iter().all(|other| other == &suite || other.keys() != suite.keys()));
        }
        assert!(Suite::ALL.is_sorted_by_key(|suite| (*suite, suite.python(), suite.glibc())));
    }

    #[test]
    fn the_diagnostic_on_pythons_says_what_the_suites_have() {
        let said = Code::PythonNotInBase.explanation();
        for suite in Suite::ALL {
            assert!(said.contains(&format!("{suite} {}", suite.python())), "{said}");
        }
    }
}
