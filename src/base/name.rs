//! What an image stands on, as a person names it.
//!
//! Invariant: a name is the text that it was read from, to the letter: a lock depends on it.

use std::fmt;
use std::io;
use std::path;
use std::str::FromStr;

use super::debian::{Suite, UnknownSuite};
use super::image::Place;
use crate::image::registry::Reference;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::closest;

/// The name of a base: `auto`, `debian:SUITE`, `scratch`, an image in a registry, `oci:PATH` or `docker-archive:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseName {
    text: String,
    named: Named,
}

/// What a name of a base stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Whatever the Python that is wanted asks for.
    Auto,
    /// The packages of a suite.
    Debian(Suite),
    /// Nothing.
    Scratch,
    /// An image that somebody else made.
    Image(Place),
}

/// The text is no name of a base.
#[derive(Debug, thiserror::Error)]
pub enum BaseNameError {
    /// It names a suite of Debian, but none that is known.
    #[error(transparent)]
    Suite(#[from] UnknownSuite),
    /// It names a kind of file, and no file.
    #[error("`{0}` names no path")]
    NoPath(String),
    /// It is nothing of the kind.
    #[error("`{0}` is neither a base nor an image's name")]
    NoName(String),
}

/// What a path is written behind: that of an OCI image layout, and that of an archive as `docker save` writes it.
const LAYOUT: &str = "oci:";
const DOCKER_ARCHIVE: &str = "docker-archive:";

/// What a suite is written behind.
const DEBIAN: &str = "debian:";

impl BaseName {
    /// The one that is taken where nobody names one: `auto`.
    pub fn auto() -> Self {
        Self { text: "auto".to_owned(), named: Named::Auto }
    }

    /// What it stands for.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// The same with its path, where it has one, meant from the current folder.
    ///
    /// # Errors
    /// When there is no current folder.
    pub fn absolute(self) -> io::Result<Self> {
        let place = match &self.named {
            Named::Image(Place::Layout(path)) => Place::Layout(path::absolute(path)?),
            Named::Image(Place::DockerArchive(path)) => Place::DockerArchive(path::absolute(path)?),
            _ => return Ok(self),
        };
        Ok(Self { text: place.to_string(), named: Named::Image(place) })
    }
}

impl FromStr for BaseName {
    type Err = BaseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = |path| match path {
            "" => Err(BaseNameError::NoPath(text.to_owned())),
            path => Ok(path.into()),
        };
        let named = if text == "auto" {
            Named::Auto
        } else if text == "scratch" {
            Named::Scratch
        } else if let Some(suite) = text.strip_prefix(DEBIAN) {
            Named::Debian(suite.parse()?)
        } else if let Some(layout) = text.strip_prefix(LAYOUT) {
            Named::Image(Place::Layout(path(layout)?))
        } else if let Some(archive) = text.strip_prefix(DOCKER_ARCHIVE) {
            Named::Image(Place::DockerArchive(path(archive)?))
        } else {
            let reference: Reference = text.parse().map_err(|_| BaseNameError::NoName(text.to_owned()))?;
            Named::Image(Place::Registry(reference))
        };
        Ok(Self { text: text.to_owned(), named })
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl BaseNameError {
    /// A name that looks alike, and is one.
    pub fn similar(&self) -> Option<String> {
        let suites = Suite::ALL.map(|suite| suite.to_string());
        match self {
            Self::Suite(UnknownSuite(name)) => closest(name, &suites).map(|near| format!("{DEBIAN}{near}")),
            Self::NoPath(_) => None,
            Self::NoName(text) => {
                let mut known = vec!["auto".to_owned(), "scratch".to_owned()];
                known.extend(suites.map(|suite| format!("{DEBIAN}{suite}")));
                closest(text, &known).map(str::to_owned)
            }
        }
    }
}

impl Explain for BaseNameError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Suite(_) => ErrorKind::Failure
                .named("base/no-suite")
                .hint(format!("the suites are {}", Suite::ALL.map(Suite::name).join(", "))),
            Self::NoPath(_) => ErrorKind::Failure.named("base/no-path"),
            Self::NoName(_) => ErrorKind::Failure
                .named("base/no-name")
                .hint("write `auto`, `debian:SUITE`, `scratch`, `oci:PATH`, or REGISTRY/NAME:TAG"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_text_again() {
        for text in ["auto", "scratch", "debian:bookworm", "oci:a/b", "docker-archive:/a.tar", "python:3.11-slim"] {
            assert_eq!(text.parse::<BaseName>().unwrap().to_string(), text);
        }
        let absolute = |text: &str| text.parse::<BaseName>().unwrap().absolute().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("oci:./a/b"), format!("oci:{}/a/b", here.display()).parse().unwrap());
        assert_eq!(absolute("docker-archive:/a.tar"), "docker-archive:/a.tar".parse().unwrap());
        assert_eq!(absolute("python"), "python".parse().unwrap());
    }

    #[test]
    fn names_of_bases_are_told_from_other_texts() {
        for good in [
            "python:3.11-slim",
            "docker.io/library/python",
            "localhost:5000/a/b:1",
            "ghcr.io/a/b_c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            let name: BaseName = good.parse().unwrap();
            assert!(matches!(name.named(), Named::Image(Place::Registry(_))), "{good}");
        }
        for bad in ["", "Python", "a b", "a:", "a//b", "https://a.b/c", "a@sha256:00", "-a"] {
            assert!(matches!(bad.parse::<BaseName>(), Err(BaseNameError::NoName(_))), "{bad}");
        }
        for (bad, similar) in [
            ("debian:bookwrm", Some("debian:bookworm")),
            ("debian:noble", None),
            ("Auto", Some("auto")),
            ("oci:", None),
        ] {
            assert_eq!(bad.parse::<BaseName>().unwrap_err().similar().as_deref(), similar, "{bad}");
        }
    }
}
