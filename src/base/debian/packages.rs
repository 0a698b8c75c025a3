//! `Packages`: the index of all packages of a suite for one architecture.
//!
//! The index of bookworm has 50 MB, of which resolving needs 15: what is needed is kept in the store under the digest of
//! the index, so that it is downloaded and read through once.

use std::cmp::Reverse;
use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr as _;
use std::time::SystemTime;

use debversion::Version;

use super::mirror::Root;
use super::relation::{Relation, relations};
use super::release::Release;
use super::{Archive, Error, Package, Source};
use crate::formats::deb822;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::image::{download, store};
use crate::io::archive::ArchivePath;
use crate::io::compress;
use crate::io::digest::{Digest, VerifyingReader};
use crate::io::suggest::closest;

/// Largest `InRelease` that is read, in bytes; bookworm's has 0.15 MB.
const MAX_RELEASE: u64 = 16 << 20;
/// Largest compressed index, in bytes; bookworm's has 9 MB.
const MAX_INDEX: u64 = 256 << 20;
/// Largest index, in bytes, before it is taken for a bomb; bookworm's has 50 MB.
const MAX_TEXT: u64 = 512 << 20;
/// Memories of the last `InRelease` from an address, for `--offline`.
const RELEASE: &str = "debian-release";
/// Memories of what was kept of an index. The number changes with [`FIELDS`].
const INDEX: &str = "debian-index-1";

/// The fields that resolving needs.
const FIELDS: [&str; 9] =
    ["Package", "Version", "Architecture", "Depends", "Pre-Depends", "Provides", "Filename", "Size", "SHA256"];

/// The index of a suite for an architecture, found in its signed release but not read yet.
pub(super) struct Found<'a> {
    root: &'a Root,
    /// From the root.
    place: String,
    pub(super) digest: Digest,
    /// In bytes.
    size: u64,
}

/// Finds the index of a suite's packages. The release is asked for again each time; offline, the last one will do.
pub(super) fn find<'a>(
    session: &Session,
    source: &'a Source,
    archive: Archive,
    suite: &str,
    platform: Platform,
) -> Result<Found<'a>, Error> {
    find_index(session, source, archive, suite, &format!("main/binary-{}/Packages.xz", platform.architecture()))
}

/// Finds the index of a suite that its release has at `path`.
pub(super) fn find_index<'a>(
    session: &Session,
    source: &'a Source,
    archive: Archive,
    suite: &str,
    path: &str,
) -> Result<Found<'a>, Error> {
    let root = source.root(archive);
    let folder = format!("dists/{suite}");
    let place = format!("{folder}/InRelease");
    let url = root.url(&place);
    let kept = session.store.cached::<Digest>(RELEASE, &Digest::of(&url));
    let bytes = match kept {
        Some(kept) if session.client.is_offline() && !root.is_local() => session.store.read_blob(&kept, MAX_RELEASE)?,
        _ => {
            let bytes = root.bytes(session, &place, MAX_RELEASE)?;
            bytes.ok_or_else(|| Error::NoSuite { suite: suite.to_owned(), url: url.clone() })?
        }
    };
    let release = Release::verify(&bytes, &source.keys, suite, SystemTime::now(), &url)?;
    if kept != Some(Digest::of(&bytes)) {
        let blob = session.store.put_bytes(&bytes)?;
        session.store.cache(RELEASE, &Digest::of(&url), blob, vec![blob])?;
    }
    let Some((place, digest, size)) = release.index(path) else {
        return Err(Error::Release { url, reason: format!("it names no {path}") });
    };
    Ok(Found { root, place: format!("{folder}/{place}"), digest, size })
}

impl Found<'_> {
    /// Reads the index: its paragraphs with the fields that resolving needs.
    pub(super) fn read(&self, session: &Session) -> Result<String, Error> {
        self.read_once(session, INDEX, reduced)
    }

    /// What `reduce` keeps of the index, remembered as `kind` under its digest.
    pub(super) fn read_once(
        &self,
        session: &Session,
        kind: &str,
        reduce: impl FnOnce(&mut dyn BufRead) -> io::Result<String>,
    ) -> Result<String, Error> {
        if let Some(kept) = session.store.cached::<Digest>(kind, &self.digest) {
            let mut text = String::new();
            zstd::Decoder::new(session.store.open_blob(&kept)?)
                .and_then(|mut decoder| decoder.read_to_string(&mut text))
                .map_err(store::Error::from)?;
            return Ok(text);
        }
        let url = self.root.url(&self.place);
        if self.size > MAX_INDEX {
            return Err(download::Error::TooLarge { url, limit: MAX_INDEX }.into());
        }
        let bytes = self.root.bytes(session, &self.place, MAX_INDEX)?;
        let bytes = bytes.ok_or_else(|| Error::Index { url: url.clone(), reason: "it is not there".to_owned() })?;
        let bad = |error: io::Error| Error::Index { url: url.clone(), reason: error.to_string() };
        io::copy(&mut VerifyingReader::new(&bytes[..], self.digest, self.size), &mut io::sink()).map_err(|error| {
            match error.downcast() {
                Ok(source) => Error::Tampered { url: url.clone(), source },
                Err(error) => bad(error),
            }
        })?;
        let text = compress::decoder(&bytes[..]).map_err(bad)?.take(MAX_TEXT);
        let mut text = BufReader::with_capacity(1 << 16, text);
        let kept = reduce(&mut text).map_err(bad)?;
        if text.get_ref().limit() == 0 {
            return Err(download::Error::TooLarge { url, limit: MAX_TEXT }.into());
        }
        let compressed = zstd::encode_all(kept.as_bytes(), 1).map_err(store::Error::from)?;
        let blob = session.store.put_bytes(&compressed)?;
        session.store.cache(kind, &self.digest, blob, vec![blob])?;
        Ok(kept)
    }
}

/// The paragraphs of `text` with only the fields that resolving needs.
fn reduced(text: &mut dyn BufRead) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut line = Vec::new();
    let mut keeping = false;
    while text.read_until(b'\n', &mut line)? > 0 {
        match line.first() {
            Some(b' ' | b'\t') => {}
            Some(b'\n') => keeping = true,
            _ => {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
                keeping = FIELDS.iter().any(|field| field.as_bytes() == name);
            }
        }
        if keeping {
            kept.extend_from_slice(&line);
        }
        line.clear();
    }
    String::from_utf8(kept).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A package that can be had.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    archive: Archive,
    architecture: &'a str,
    /// What it needs: its fields `Pre-Depends` and `Depends`.
    pub(super) depends: [&'a str; 2],
    provides: &'a str,
    file: &'a str,
    size: &'a str,
    digest: &'a str,
}

/// All that can be had.
pub(super) struct Index<'a> {
    /// By name, of the same name the newest first.
    candidates: Vec<Candidate<'a>>,
    /// What others provide: the name, the version that it is given, and who does. By name, then by who does.
    provides: Vec<(Relation<'a>, usize)>,
}

impl<'a> Index<'a> {
    /// Reads what [`load`] gave. Where archives have the same version, the first of them has it.
    pub(super) fn new(texts: &'a [(Archive, String)]) -> Self {
        let mut candidates: Vec<_> = texts
            .iter()
            .flat_map(|(archive, text)| {
                deb822::paragraphs(text).filter_map(|paragraph| Candidate::new(*archive, paragraph))
            })
            .collect();
        candidates.sort_by_key(|candidate| candidate.name);
        for same in candidates.chunk_by_mut(|a, b| a.name == b.name).filter(|same| same.len() > 1) {
            same.sort_by_cached_key(|candidate| Reverse(Version::from_str(candidate.version).ok()));
        }
        candidates.dedup_by(|later, first| later.name == first.name && later.version == first.version);
        let mut provides: Vec<_> = candidates
            .iter()
            .enumerate()
            .flat_map(|(at, candidate)| candidate.provides().map(move |relation| (relation, at)))
            .collect();
        provides.sort_by_key(|(relation, at)| (relation.name, *at));
        Self { candidates, provides }
    }

    /// The packages called `name`, the newest first.
    pub(super) fn named(&self, name: &str) -> &[Candidate<'a>] {
        let start = self.candidates.partition_point(|candidate| candidate.name < name);
        let rest = &self.candidates[start..];
        &rest[..rest.partition_point(|candidate| candidate.name == name)]
    }

    /// The packages that provide what `relation` asks for, by name.
    pub(super) fn providing(&self, relation: &Relation<'_>) -> impl Iterator<Item = &Candidate<'a>> {
        let start = self.provides.partition_point(|(provided, _)| provided.name < relation.name);
        let same = self.provides[start..].iter().take_while(move |(provided, _)| provided.name == relation.name);
        same.filter(|(provided, _)| relation.admits_provided(provided.provided_version()))
            .filter_map(|(_, at)| self.candidates.get(*at))
    }

    /// The name that is most like `name`, where one is.
    pub(super) fn similar(&self, name: &str) -> Option<String> {
        closest(name, self.candidates.iter().map(|candidate| candidate.name)).map(str::to_owned)
    }
}

impl<'a> Candidate<'a> {
    /// None without a name and a version; other fields are missed when they are needed.
    fn new(archive: Archive, paragraph: deb822::Paragraph<'a>) -> Option<Self> {
        let mut candidate = Self {
            name: "",
            version: "",
            archive,
            architecture: "",
            depends: ["", ""],
            provides: "",
            file: "",
            size: "",
            digest: "",
        };
        for (name, value) in paragraph.fields() {
            match name {
                "Package" => candidate.name = value,
                "Version" => candidate.version = value,
                "Architecture" => candidate.architecture = value,
                "Pre-Depends" => candidate.depends[0] = value,
                "Depends" => candidate.depends[1] = value,
                "Provides" => candidate.provides = value,
                "Filename" => candidate.file = value,
                "Size" => candidate.size = value,
                "SHA256" => candidate.digest = value,
                _ => {}
            }
        }
        (!candidate.name.is_empty() && !candidate.version.is_empty()).then_some(candidate)
    }

    /// What it provides beside itself.
    pub(super) fn provides(&self) -> impl Iterator<Item = Relation<'a>> + use<'a> {
        relations(self.provides).flatten()
    }

    /// As a lock names it.
    ///
    /// # Errors
    /// [`Error::Index`] when its paragraph does not say where it is, how large, or what its digest is.
    pub(super) fn package(&self, source: &Source) -> Result<Package, Error> {
        let bad = |reason: String| Error::Index {
            url: source.root(self.archive).as_str().to_owned(),
            reason: format!("the package `{}`: {reason}", self.name),
        };
        Ok(Package {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            architecture: self.architecture.to_owned(),
            archive: self.archive,
            file: ArchivePath::relative(self.file).map_err(|error| bad(error.to_string()))?,
            size: self.size.parse().map_err(|_| bad(format!("`{}` is no size", self.size)))?,
            digest: Digest::from_hex(self.digest).map_err(|error| bad(error.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_kept() {
        let text = "Package: a\nDescription: long\n longer\nDepends: b,\n c\nTag: x\n\nPackage: b\n";
        assert_eq!(reduced(&mut text.as_bytes()).unwrap(), "Package: a\nDepends: b,\n c\n\nPackage: b\n");
        assert!(reduced(&mut &b"Package: \xff\n"[..]).is_err());
    }

    #[test]
    fn the_newest_comes_first_wherever_it_is() {
        let main = "Package: a\nVersion: 1.9\n\nPackage: b\nVersion: 1\nProvides: v (= 2), w\n\nPackage: a\nVersion: 1.10~rc1\n";
        let security = "Package: a\nVersion: 1.10\n\nPackage: b\nVersion: 1\n";
        let texts = [(Archive::Main, main.to_owned()), (Archive::Security, security.to_owned())];
        let index = Index::new(&texts);
        let versions: Vec<_> = index.named("a").iter().map(|candidate| candidate.version).collect();
        assert_eq!(versions, ["1.10", "1.10~rc1", "1.9"]);
        assert_eq!(index.named("b").iter().map(|candidate| candidate.archive).collect::<Vec<_>>(), [Archive::Main]);
        for (wanted, found) in [("v", 1), ("v (>= 2)", 1), ("v (>= 3)", 0), ("w", 1), ("w (>= 1)", 0), ("x", 0)] {
            let relation = relations(wanted).next().unwrap().next().unwrap();
            assert_eq!(index.providing(&relation).count(), found, "{wanted}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_index_can_be_read(text in "(Package: [ab]|Version: [0-9~:-]{0,3}|Provides: [ab(=),| ]{0,9}|Depends: .{0,9}|\n| .|.){0,40}") {
            let texts = [(Archive::Main, text)];
            let index = Index::new(&texts);
            proptest::prop_assert!(index.named("a").iter().all(|candidate| candidate.name == "a"));
        }
    }
}
