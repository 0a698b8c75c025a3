//! What is in an image, as documents that scanners, admission controllers and auditors read: SPDX 2.3 and CycloneDX 1.6, both
//! written from one [`Inventory`].
//!
//! Invariant: the same inventory gives the same bytes. Times are those of the image, and identifiers follow from digests.

mod cyclonedx;
mod licence;
mod read;
mod spdx;

use std::collections::BTreeMap;
use std::fmt;

use packageurl::PackageUrl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use licence::Licence;
pub use read::{Named, NotRead, normalised, read};

use crate::io::digest::Digest;

/// All that is known of what an image holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// What it is called.
    pub name: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// Of its manifest.
    pub digest: Digest,
    /// What it runs on, as `linux/amd64`.
    pub platform: String,
    /// When it was made (RFC 3339).
    pub created: String,
    /// What it does, in a sentence.
    pub description: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// Of what was written for it.
    pub licence: Licence,
    /// The image that it stands on, where it is one of somebody else.
    pub base: Option<Digest>,
    /// The system that it says it is.
    pub system: Option<System>,
    /// What is installed, sorted.
    pub packages: Vec<Package>,
    /// The model in it.
    pub model: Option<Model>,
    /// What was written for it: code, and what was generated for that.
    pub files: Vec<File>,
    /// The commands that were executed for it.
    pub commands: Vec<String>,
}

/// A distribution of Linux (os-release(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// As `debian`.
    pub id: String,
    /// As `12`.
    pub version: Option<String>,
    /// As `Debian GNU/Linux 12 (bookworm)`.
    pub title: Option<String>,
}

/// Who installs a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// apk.
    Apk,
    /// dpkg.
    Deb,
    /// pip and its kin.
    Pypi,
}

impl Kind {
    /// As package URLs have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Deb => "deb",
            Self::Pypi => "pypi",
        }
    }
}

/// A package that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Who installs it.
    pub kind: Kind,
    /// Its name, normalised where its kind does that.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for, where it is compiled.
    pub architecture: Option<String>,
    /// The source that it was made from, where that has another name or version.
    pub source: Option<Source>,
    /// Its licence, as it says itself.
    pub licence: Licence,
    /// Of the files that it may have been installed from: most often one.
    pub digests: Vec<Digest>,
    /// What it is, in a line.
    pub summary: Option<String>,
    /// Where people read of it.
    pub homepage: Option<String>,
    /// Who cares for it.
    pub supplier: Option<String>,
    /// The packages that it needs, by their places in the list.
    pub depends: Vec<usize>,
    /// The files that say that it is there.
    pub places: Vec<String>,
}

/// What a package was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Package {
    /// Name and version of the source that it was made from.
    pub fn source(&self) -> (&str, &str) {
        match &self.source {
            Some(source) => (&source.name, &source.version),
            None => (&self.name, &self.version),
        }
    }

    /// Its package URL (purl, ECMA-427), in `system`. What a Debian package was made from is its `upstream`, as other tools have it.
    pub fn purl(&self, system: Option<&System>) -> String {
        let id = system.map_or("linux", |system| &system.id);
        let distro = system.map(|system| match &system.version {
            Some(version) => format!("{id}-{version}"),
            None => id.to_owned(),
        });
        let written = || -> packageurl::Result<String> {
            let mut purl = PackageUrl::new(self.kind.word(), self.name.as_str())?;
            purl.with_version(self.version.as_str())?;
            if self.kind != Kind::Pypi {
                purl.with_namespace(id)?;
                if let Some(architecture) = &self.architecture {
                    purl.add_qualifier("arch", architecture.as_str())?;
                }
                if let Some(distro) = distro {
                    purl.add_qualifier("distro", distro)?;
                }
                if let Some(source) = &self.source {
                    let version = if source.version == self.version { "" } else { &source.version };
                    let mark = if version.is_empty() { "" } else { "@" };
                    purl.add_qualifier("upstream", format!("{}{mark}{version}", source.name))?;
                }
            }
            Ok(purl.to_string())
        };
        written().unwrap_or_else(|_| format!("pkg:{}/{}", self.kind.word(), encoded(&self.name)))
    }
}

/// A text in a part of a URL.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The model that an image serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What it is called.
    pub name: String,
    /// Its files.
    pub files: Vec<File>,
    /// What it is good for, as `text-generation`, where that is known.
    pub task: Option<String>,
    /// What it was trained with, where it was trained here.
    pub training: Option<Training>,
    /// Where it came from, where it was fetched.
    pub origins: Vec<Origin>,
}

/// What a model was trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// Of the code and what is said of the training.
    pub code: Digest,
    /// The data set, by name and digest.
    pub data: Option<(String, Digest)>,
    /// The hyperparameters.
    pub parameters: BTreeMap<String, Value>,
    /// What was measured, by name.
    pub metrics: BTreeMap<String, String>,
}

/// Where files of a model came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address.
    pub from: String,
    /// What tells this version from others there, of the files that have one.
    pub versions: Vec<String>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct File {
    /// Where it lies in the image.
    pub path: String,
    /// Of its bytes.
    pub digest: Digest,
}

impl File {
    /// What its name says of how it is written; none where that is nothing known.
    pub fn format(&self) -> Option<&'static str> {
        let (_, ending) = self.path.rsplit_once('.')?;
        Some(match ending.to_ascii_lowercase().as_str() {
            "pkl" | "pickle" => "pickle",
            "joblib" => "joblib",
            "skops" => "skops",
            "pt" | "pth" => "pytorch",
            "safetensors" => "safetensors",
            "onnx" => "onnx",
            "gguf" => "gguf",
            "h5" | "keras" => "keras",
            "pb" => "tensorflow",
            "tflite" => "tflite",
            "cbm" => "catboost",
            "ubj" => "xgboost",
            "npy" | "npz" => "numpy",
            "mojo" => "mojo",
            _ => return None,
        })
    }
}

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3.
    Spdx,
    /// CycloneDX 1.6.
    CycloneDx,
}

impl Format {
    /// What the document is as bytes (RFC 6838).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Spdx => "application/spdx+json",
            Self::CycloneDx => "application/vnd.cyclonedx+json",
        }
    }
}

impl Format {
    /// What a statement of in-toto calls it (its attestation framework, "Predicates").
    pub fn predicate(self) -> &'static str {
        match self {
            Self::Spdx => "https://spdx.dev/Document",
            Self::CycloneDx => "https://cyclonedx.org/bom",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spdx => "SPDX 2.3",
            Self::CycloneDx => "CycloneDX 1.6",
        })
    }
}

impl Inventory {
    /// It as a document.
    pub fn document(&self, format: Format) -> Value {
        match format {
            Format::Spdx => spdx::document(self),
            Format::CycloneDx => cyclonedx::document(self),
        }
    }

    /// The text of that document: the same inventory gives the same.
    pub fn text(&self, format: Format) -> String {
        format!("{:#}\n", self.document(format))
    }

    /// The image's package URL.
    fn purl(&self) -> String {
        let written = || -> packageurl::Result<String> {
            let mut purl = PackageUrl::new("oci", self.name.to_ascii_lowercase())?;
            purl.with_version(self.digest.to_string())?;
            purl.add_qualifier("arch", self.platform.rsplit('/').next().unwrap_or_default().to_owned())?;
            Ok(purl.to_string())
        };
        written().unwrap_or_else(|_| format!("pkg:oci/{}", encoded(&self.name)))
    }

    /// The package URLs of the packages, in their order.
    pub fn purls(&self) -> Vec<String> {
        self.packages.iter().map(|package| package.purl(self.system.as_ref())).collect()
    }
}

/// A UUID (RFC 9562, version 8) that follows from `bytes`.
fn uuid(bytes: impl AsRef<[u8]>) -> String {
    let hex = Digest::of(bytes).hex();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
}

/// What this program is called in documents.
const TOOL: &str = "ekiben";

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// One with a bit of everything.
    pub(crate) fn inventory() -> Inventory {
        let digest = |text: &str| Digest::of(text);
        let package = |kind, name: &str, version: &str| Package {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: None,
            source: None,
            licence: Licence::of("MIT"),
            digests: vec![digest(name)],
            summary: Some("a package".to_owned()),
            homepage: Some("https://example.org/".to_owned()),
            supplier: Some("Jane <jane@example.org>".to_owned()),
            depends: Vec::new(),
            places: vec!["somewhere".to_owned()],
        };
        let libc = Package {
            architecture: Some("amd64".to_owned()),
            source: Some(Source { name: "glibc".to_owned(), version: "2.36-9+deb12u9".to_owned() }),
            ..package(Kind::Deb, "libc6", "2.36-9+deb12u9")
        };
        let epoch = Package { licence: Licence::of("our own"), ..package(Kind::Deb, "libgcc-s1", "1:12.2.0-14") };
        let numpy = Package { depends: vec![0, 1], ..package(Kind::Pypi, "numpy", "1.26.4") };
        let file = |path: &str| File { path: path.to_owned(), digest: digest(path) };
        Inventory {
            name: "iris".to_owned(),
            version: Some("1.0".to_owned()),
            digest: digest("image"),
            platform: "linux/amd64".to_owned(),
            created: "1970-01-01T00:00:00Z".to_owned(),
            description: Some("Tells irises apart".to_owned()),
            source: None,
            licence: Licence::of("MIT OR Apache-2.0"),
            base: Some(digest("base")),
            system: Some(System { id: "debian".to_owned(), version: Some("12".to_owned()), title: None }),
            packages: vec![libc, epoch, numpy],
            model: Some(Model {
                name: "iris".to_owned(),
                files: vec![file("models/iris/model.pkl")],
                task: Some("text-generation".to_owned()),
                training: Some(Training {
                    code: digest("code"),
                    data: Some(("flowers".to_owned(), digest("data"))),
                    parameters: BTreeMap::from([("depth".to_owned(), Value::from(3))]),
                    metrics: BTreeMap::from([("accuracy".to_owned(), "0.97".to_owned())]),
                }),
                origins: vec![Origin { from: "hf://o/n@main".to_owned(), versions: vec!["abc".to_owned()] }],
            }),
            files: vec![file("app/predict.py")],
            commands: vec!["RUN true".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_are_as_the_specification_has_them() {
        assert_eq!(
            testing::inventory().purls(),
            [
                "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12&upstream=glibc",
                "pkg:deb/debian/libgcc-s1@1:12.2.0-14?distro=debian-12",
                "pkg:pypi/numpy@1.26.4",
            ]
        );
    }

    #[test]
    fn documents_are_the_same_each_time() {
        for format in [Format::Spdx, Format::CycloneDx] {
            assert_eq!(testing::inventory().text(format), testing::inventory().text(format));
        }
        assert_eq!(uuid("a"), uuid("a"));
        assert_ne!(uuid("a"), uuid("b"));
    }
}
