//! The packages that a document names, whoever wrote it: SPDX 2.x and CycloneDX as JSON, by their package URLs.

use std::str::FromStr as _;

use packageurl::PackageUrl;
use serde_json::Value;

use super::{Kind, Licence, Package, Source, System};

/// What a document names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// What it is about.
    pub name: String,
    /// The system that its packages are of, where they say so.
    pub system: Option<System>,
    /// Those of kinds that are known here, sorted, each once.
    pub packages: Vec<Package>,
}

/// The text is no such document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// It is no JSON, or nests deeper than 128 levels.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// It is another document.
    #[error("it is neither SPDX 2 nor CycloneDX")]
    Other,
}

/// Reads a document.
///
/// # Errors
/// See [`NotRead`].
pub fn read(text: &[u8]) -> Result<Named, NotRead> {
    let document: Value = serde_json::from_slice(text).map_err(|error| NotRead::Json(error.to_string()))?;
    let mut named = Named::default();
    let name = if document["spdxVersion"].as_str().is_some_and(|version| version.starts_with("SPDX-2.")) {
        for package in document["packages"].as_array().into_iter().flatten() {
            let references = package["externalRefs"].as_array().into_iter().flatten();
            references
                .filter(|reference| reference["referenceType"] == "purl")
                .filter_map(|reference| reference["referenceLocator"].as_str())
                .for_each(|purl| named.take(purl));
        }
        &document["name"]
    } else if document["bomFormat"] == "CycloneDX" {
        components(&document["components"], &mut named);
        &document["metadata"]["component"]["name"]
    } else {
        return Err(NotRead::Other);
    };
    named.name = name.as_str().unwrap_or("document").to_owned();
    named.packages.sort_by(|a, b| (a.kind, &a.name, &a.version).cmp(&(b.kind, &b.name, &b.version)));
    named.packages.dedup();
    Ok(named)
}

fn components(all: &Value, named: &mut Named) {
    for one in all.as_array().into_iter().flatten() {
        if let Some(purl) = one["purl"].as_str() {
            named.take(purl);
        }
        components(&one["components"], named);
    }
}

impl Named {
    fn take(&mut self, purl: &str) {
        let Ok(purl) = PackageUrl::from_str(purl) else { return };
        let kind = match purl.ty() {
            "deb" => Kind::Deb,
            "pypi" => Kind::Pypi,
            "apk" => Kind::Apk,
            _ => return,
        };
        let Some(version) = purl.version() else { return };
        let qualifier = |name: &str| purl.qualifiers().get(name).map(AsRef::as_ref);
        // Some have the epoch apart.
        let version = match qualifier("epoch").filter(|epoch| *epoch != "0" && !version.contains(':')) {
            Some(epoch) => format!("{epoch}:{version}"),
            None => version.to_owned(),
        };
        let source = qualifier("upstream").filter(|_| kind == Kind::Deb).map(|text| match text.split_once('@') {
            Some((name, version)) => Source { name: name.to_owned(), version: version.to_owned() },
            None => Source { name: text.to_owned(), version: version.clone() },
        });
        if kind != Kind::Pypi && self.system.is_none() {
            let distro = qualifier("distro").unwrap_or_default();
            let version = distro.split_once('-').map(|(_, version)| version.to_owned());
            self.system = purl.namespace().map(|id| System { id: id.to_owned(), version, title: None });
        }
        let name = if kind == Kind::Pypi { normalised(purl.name()) } else { purl.name().to_owned() };
        self.packages.push(Package { source, ..Package::new(kind, name, version) });
    }
}

/// The name of a Python package as indexes know it (PEP 503).
pub fn normalised(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

impl Package {
    /// One of which nothing else is known.
    pub fn new(kind: Kind, name: String, version: String) -> Self {
        Self {
            kind,
            name,
            version,
            architecture: None,
            source: None,
            licence: Licence::default(),
            digests: Vec::new(),
            summary: None,
            homepage: None,
            supplier: None,
            depends: Vec::new(),
            places: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, testing};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inventory = testing::inventory();
        for format in [Format::Spdx, Format::CycloneDx] {
            let named = read(inventory.text(format).as_bytes()).unwrap();
            let of = |package: &Package| {
                (package.kind, package.name.clone(), package.version.clone(), package.source.clone())
            };
            let wanted: Vec<_> = inventory.packages.iter().map(of).collect();
            assert_eq!(named.packages.iter().map(of).collect::<Vec<_>>(), wanted);
            assert_eq!(named.system.unwrap().version.as_deref(), Some("12"));
            assert_eq!(named.name, "iris");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        assert!(matches!(read(b"x"), Err(NotRead::Json(_))));
        assert!(matches!(read("[".repeat(100_000).as_bytes()), Err(NotRead::Json(_))));
        assert_eq!(read(b"{}"), Err(NotRead::Other));
        assert_eq!(normalised("A_.b--C"), "a-b-c");
    }

    #[test]
    fn others_write_epochs_apart() {
        let text = r#"{"bomFormat": "CycloneDX", "components": [
            {"purl": "pkg:deb/debian/a@1.0?epoch=2&distro=debian-12.5"}, {"purl": "pkg:npm/x@1"}, {"purl": "%"},
            {"components": [{"purl": "pkg:pypi/B_c@1"}]}]}"#;
        let named = read(text.as_bytes()).unwrap();
        let all: Vec<_> = named.packages.iter().map(|one| format!("{} {}", one.name, one.version)).collect();
        assert_eq!(all, ["a 2:1.0", "b-c 1"]);
    }

    proptest::proptest! {
        #[test]
        fn changed_documents_never_panic(at: usize, byte: u8, cut in 0usize..3000, is_spdx: bool) {
            let format = if is_spdx { Format::Spdx } else { Format::CycloneDx };
            let mut text = testing::inventory().text(format).into_bytes();
            let length = text.len();
            text[at % length] = byte;
            let _ = read(&text);
            text.truncate(length.saturating_sub(cut));
            let _ = read(&text);
        }
    }
}
