//! Known vulnerabilities of what is in an image, or would be: of exactly the packages that a lock, an image or a list of others
//! names, by databases that the user has or mirrors.
//!
//! Invariant: nothing is asked over the network but the address of a database, and the whole of it: nobody learns what is
//! looked for. What no database tells of is said.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;
use url::Url;

use super::inventory;
use super::workflow::{self, Goal, Opened, Request};
use crate::base::{self, LockedBase, debian};
use crate::build::built::Watch;
use crate::bundle::runtime::Convention;
use crate::check::target::Target;
use crate::formats::deb822;
use crate::formats::osv::{self, Finding, Found, Record, Wanted};
use crate::formats::sbom::{self, Kind, Package, System};
use crate::image::download;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::lock::Lock;
use crate::project::manifest::Manifest;

/// Most bytes of one record: the longest that OSV has are of some hundred kilobytes.
const LONGEST_RECORD: u64 = 16 << 20;

/// Most bytes of a whole database, as it is fetched and as it is unpacked.
const LARGEST: u64 = 1 << 30;
const LARGEST_UNPACKED: u64 = 16 << 30;

/// Most records.
const MOST_RECORDS: usize = 4_000_000;

/// Why it is not known what vulnerabilities there are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is to be looked at.
    #[error(transparent)]
    Workflow(#[from] workflow::Error),
    /// What is in the image.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
    /// The base that a lock names.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// A database cannot be fetched.
    #[error(transparent)]
    Download(#[from] download::Error),
    /// A file cannot be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The lock is for other platforms.
    #[error("the lock does not have {0}")]
    NotLocked(Platform),
    /// A database is none.
    #[error("{place} is no database of vulnerabilities")]
    Database {
        /// Where it is, and which record of it.
        place: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Workflow(error) => error.explain(),
            Self::Inventory(error) => error.explain(),
            Self::Base(error) => error.explain(),
            Self::Download(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::NotLocked(platform) => ErrorKind::Failure
                .named("lock/no-platform")
                .hint(format!("add `platforms: [{platform}]` to the manifest, and run `ekiben lock`")),
            Self::Database { .. } => ErrorKind::Invalid.named("audit/database").hint(
                "name an export of OSV (all.zip of an ecosystem, or its unpacked folder), or the JSON of Debian's security tracker",
            ),
        }
    }
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// The file that a person would change: the lock of a project. None for an image.
    pub file: Option<PathBuf>,
    /// The system that packages are of.
    pub system: Option<System>,
    /// What is in it.
    pub packages: Vec<Package>,
}

/// What `request` means: an image, a project, a bundle, or a document that lists packages. Of a project or a bundle the lock is
/// looked at, and nothing is built, unless commands were executed: what those installed, the image alone knows.
///
/// # Errors
/// When it cannot be read, locked or fetched.
pub fn subject(
    session: &Session,
    request: Request,
    platform: Option<Platform>,
    watch: &dyn Watch,
) -> Result<Subject, Error> {
    if let Some(listed) = listed(&request.path)? {
        return Ok(listed);
    }
    let target = Target::of(&request.path).map_err(workflow::Error::from)?;
    if let Target::Name(_) = target {
        return image(session, request, platform, watch);
    }
    let opened = Opened::open(session, request.clone(), watch)?;
    if opened.steps().is_some() || opened.manifest().has_commands() {
        return image(session, request, platform, watch);
    }
    let file = opened.project().map(|project| project.root.join(crate::project::lock::NAME));
    let platforms: Vec<_> = platform.into_iter().collect();
    let input = opened.input(session, &platforms, Goal::Bundle, watch)?;
    let host = Platform::host().ok().filter(|host| input.lock.platforms.contains_key(host));
    let platform = platform.or(host).or_else(|| input.lock.platforms.keys().next().copied());
    let platform = platform.map_or_else(Platform::host, Ok).map_err(workflow::Error::from)?;
    let (packages, system) = locked(session, &input.manifest, &input.lock, platform)?;
    Ok(Subject { name: input.manifest.name, file, system, packages })
}

fn image(session: &Session, request: Request, platform: Option<Platform>, watch: &dyn Watch) -> Result<Subject, Error> {
    let image = workflow::whole(session, request, platform, watch)?;
    let inventory = inventory::of(session, &image)?;
    Ok(Subject { name: inventory.name, file: None, system: inventory.system, packages: inventory.packages })
}

/// A document that lists packages; none where the file is something else.
fn listed(path: &Path) -> Result<Option<Subject>, Error> {
    if !path.is_file() || path.extension().is_none_or(|ending| ending != "json") {
        return Ok(None);
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
    let named = sbom::read(&text).ok();
    Ok(named.map(|sbom::Named { name, system, packages }| Subject {
        name,
        file: Some(path.to_owned()),
        system,
        packages,
    }))
}

/// The packages of a lock for `platform`, with those of the image that it stands on, and their system. The sources of Debian
/// packages are those that these name themselves where they are here, else those of the folders that they lie in.
///
/// # Errors
/// When the lock is not for the platform, or what it stands on cannot be had.
pub fn locked(
    session: &Session,
    manifest: &Manifest,
    lock: &Lock,
    platform: Platform,
) -> Result<(Vec<Package>, Option<System>), Error> {
    let locked = lock.platforms.get(&platform).ok_or(Error::NotLocked(platform))?.standing();
    let (mut packages, mut system) = (Vec::new(), None);
    match &locked.base {
        LockedBase::Debian { suite, packages: base } => {
            packages.extend(base.iter().map(|package| debian_package(session, package)));
            system = Some(osv::debian(suite));
        }
        LockedBase::Image { .. } => {
            let user = Convention::Ekiben.user();
            let image = base::image(session, manifest.base_spec(), &locked.base, platform, &user)?;
            let inventory = inventory::of(session, &image)?;
            packages.extend(inventory.packages);
            system = inventory.system;
        }
        LockedBase::Scratch => {}
    }
    packages.extend(locked.system.iter().map(|package| debian_package(session, package)));
    let python = locked.python.iter();
    packages.extend(python.map(|one| Package::new(Kind::Pypi, one.name.clone(), one.version.clone())));
    Ok((packages, system))
}

fn debian_package(session: &Session, package: &debian::Package) -> Package {
    let debian::Package { name, version, file, digest, .. } = package;
    let control = session.store.has_blob(digest).then(|| session.store.open_blob(digest).ok()).flatten();
    let control = control.and_then(|deb| debian::control(deb).ok());
    let source = match &control {
        Some(control) => {
            let field = deb822::paragraphs(control).next().and_then(|paragraph| paragraph.get("Source"));
            inventory::source(field, name, version)
        }
        None => {
            // pool/main/g/glibc/libc6_2.36-9_amd64.deb
            let folder = file.as_str().rsplit('/').nth(1);
            inventory::source(folder, name, version)
        }
    };
    Package { source, ..Package::new(Kind::Deb, name.clone(), version.clone()) }
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, or a folder with files.
    Path(PathBuf),
    /// An address.
    Url(Url),
}

impl std::str::FromStr for Place {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, url::ParseError> {
        match text.starts_with("https://") || text.starts_with("http://") {
            true => text.parse().map(Self::Url),
            false => Ok(Self::Path(text.into())),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&crate::io::http::shown(url)),
        }
    }
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Audited {
    /// What there is, the worst first.
    pub findings: Vec<Finding>,
    /// How many packages were looked for.
    pub packages: usize,
    /// How many records the databases have.
    pub records: usize,
    /// When the last of these was changed, where they say so.
    pub newest: Option<String>,
    /// Those who give packages of which no database has a record.
    pub unknown: Vec<String>,
    /// How many packages are of kinds that are not compared.
    pub passed: usize,
}

/// Looks for the packages of `subject` in all of `databases`.
///
/// # Errors
/// When a database cannot be had, or is none.
pub fn audit(session: &Session, subject: &Subject, databases: &[Place]) -> Result<Audited, Error> {
    let wanted = Wanted::new(&subject.packages, subject.system.as_ref());
    let mut reader = Reader {
        wanted: &wanted,
        found: Found::default(),
        records: 0,
        bytes: 0,
        newest: String::new(),
        seen: BTreeSet::new(),
    };
    for place in databases {
        match place {
            Place::Path(path) => reader.path(path)?,
            Place::Url(url) => {
                let bytes = download::bytes(&session.client, url, LARGEST)?;
                reader.file(&place.to_string(), Cursor::new(bytes))?;
            }
        }
    }
    let Reader { found, records, newest, seen, .. } = reader;
    let unknown = wanted.ecosystems().into_iter().filter(|name| !seen.contains(*name)).map(str::to_owned);
    Ok(Audited {
        findings: found.findings(),
        packages: wanted.len(),
        records,
        newest: Some(newest).filter(|newest| !newest.is_empty()),
        unknown: unknown.collect(),
        passed: subject.packages.len() - wanted.len(),
    })
}

/// Databases on their way into findings: nothing of a record is kept that is about something else.
struct Reader<'a, 'b> {
    wanted: &'a Wanted<'b>,
    found: Found,
    records: usize,
    /// What was unpacked.
    bytes: u64,
    newest: String,
    /// Whose packages records are about.
    seen: BTreeSet<String>,
}

fn bad(place: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Database { place: place.to_owned(), source: source.into() }
}

impl Reader<'_, '_> {
    fn path(&mut self, path: &Path) -> Result<(), Error> {
        if !path.is_dir() {
            return self.file(&path.display().to_string(), fs::File::open(path)?);
        }
        let before = self.records;
        let walk =
            ignore::WalkBuilder::new(path).standard_filters(false).sort_by_file_name(std::ffi::OsStr::cmp).build();
        for entry in walk {
            let path = entry.map_err(io::Error::other)?.into_path();
            let is_meant = path.extension().is_some_and(|ending| ending == "json" || ending == "zip");
            if path.is_file() && is_meant {
                self.file(&path.display().to_string(), fs::File::open(&path)?)?;
            }
        }
        match self.records == before {
            true => Err(bad(&path.display().to_string(), "it has no records")),
            false => Ok(()),
        }
    }

    fn file(&mut self, place: &str, mut file: impl Read + Seek) -> Result<(), Error> {
        let mut magic = [0; 4];
        let read = file.read(&mut magic)?;
        file.rewind()?;
        if magic.get(..read) == Some(b"PK\x03\x04") {
            return self.zip(place, file);
        }
        let mut text = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut text)?;
        if text.len() as u64 > LARGEST {
            return Err(bad(place, format!("it is larger than {LARGEST} bytes")));
        }
        self.take(text.len() as u64, place)?;
        self.text(place, &text)
    }

    fn zip(&mut self, place: &str, file: impl Read + Seek) -> Result<(), Error> {
        let mut archive = zip::ZipArchive::new(file).map_err(|error| bad(place, error))?;
        for number in 0..archive.len() {
            let member = archive.by_index(number).map_err(|error| bad(place, error))?;
            let name = member.name().map_err(|error| bad(place, error))?.into_owned();
            if !name.ends_with(".json") {
                continue;
            }
            let place = format!("{place}:{}", name.escape_default());
            let mut text = Vec::new();
            member.take(LONGEST_RECORD + 1).read_to_end(&mut text).map_err(|error| bad(&place, error))?;
            if text.len() as u64 > LONGEST_RECORD {
                return Err(bad(&place, format!("it is larger than {LONGEST_RECORD} bytes")));
            }
            self.take(text.len() as u64, &place)?;
            self.record(&place, &text)?;
        }
        Ok(())
    }

    /// Counts what was unpacked.
    fn take(&mut self, bytes: u64, place: &str) -> Result<(), Error> {
        self.bytes += bytes;
        match self.bytes > LARGEST_UNPACKED || self.records > MOST_RECORDS {
            true => Err(bad(place, "the databases are larger than any that is known")),
            false => Ok(()),
        }
    }

    /// A record, a list of some, or what Debian's tracker knows.
    fn text(&mut self, place: &str, text: &[u8]) -> Result<(), Error> {
        match text.trim_ascii_start().first() {
            Some(b'[') => {
                let all: Vec<Record> = serde_json::from_slice(text).map_err(|error| bad(place, error))?;
                all.iter().for_each(|record| self.judge(record));
                Ok(())
            }
            _ if text.len() as u64 <= LONGEST_RECORD && serde_json::from_slice::<Record>(text).is_ok() => {
                self.record(place, text)
            }
            _ => {
                let sources = osv::tracked(text, self.wanted, &mut self.found).map_err(|error| bad(place, error))?;
                self.records += sources;
                let debian = self.wanted.ecosystems().into_iter().filter(|name| name.starts_with("Debian:"));
                self.seen.extend(debian.filter(|_| sources > 0).map(str::to_owned));
                Ok(())
            }
        }
    }

    fn record(&mut self, place: &str, text: &[u8]) -> Result<(), Error> {
        let record = serde_json::from_slice(text).map_err(|error| bad(place, error))?;
        self.judge(&record);
        Ok(())
    }

    fn judge(&mut self, record: &Record) {
        self.records += 1;
        if record.modified() > self.newest.as_str() {
            record.modified().clone_into(&mut self.newest);
        }
        for ecosystem in record.ecosystems() {
            if !self.seen.contains(ecosystem) {
                self.seen.insert(ecosystem.to_owned());
            }
        }
        record.judge(self.wanted, &mut self.found);
    }
}

/// What a new lock does to what was found.
#[derive(Debug, Default, Serialize)]
pub struct Change {
    /// What is gone.
    pub gone: Vec<Finding>,
    /// What came.
    pub came: Vec<Finding>,
    /// What stays.
    pub stays: Vec<Finding>,
}

impl Change {
    /// From what was there `before` to what is there `after`.
    pub fn of(before: Vec<Finding>, after: Vec<Finding>) -> Self {
        let key = |one: &Finding| (one.kind, one.package.clone(), one.id.clone());
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (before.iter().map(key).collect(), after.iter().map(key).collect());
        let gone = before.into_iter().filter(|one| !new.contains(&key(one))).collect();
        let (stays, came) = after.into_iter().partition(|one| old.contains(&key(one)));
        Self { gone, came, stays }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::image::session::Making;
    use crate::image::store::Store;
    use crate::io::http::{Client, Network};
    use crate::io::progress::Progress;

    const RECORD: &str = r#"{"id":"CVE-1","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"a"},"versions":["1"]}]}"#;

    fn audited(home: &Path, database: &Path) -> Result<Audited, Error> {
        let store = Store::open(&home.join("store")).unwrap();
        let (progress, client) = (Progress::silent(), Client::new(Network::Offline));
        let session = Session { store, progress, client, making: Making::Compressed };
        let packages = vec![Package::new(Kind::Pypi, "a".to_owned(), "1".to_owned())];
        let subject = Subject { name: "x".to_owned(), file: None, system: None, packages };
        audit(&session, &subject, &[Place::Path(database.to_owned())])
    }

    fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn databases_are_read_in_every_form() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str, bytes: &[u8]| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let other = br#"{"id":"X","affected":[{"package":{"ecosystem":"npm","name":"a"},"versions":["1"]}]}"#;
        let zip = at("all.zip", &zipped(&[("CVE-1.json", RECORD.as_bytes()), ("X.json", other), ("README", b"?")]));
        at("folder/in/CVE-1.json", RECORD.as_bytes());
        let list = at("list.json", format!("[{RECORD}]").as_bytes());
        for (path, records) in
            [(zip, 2), (home.path().join("folder"), 1), (list, 1), (at("one.json", RECORD.as_bytes()), 1)]
        {
            let audited = audited(home.path(), &path).unwrap();
            assert_eq!((audited.findings.len(), audited.records), (1, records), "{}", path.display());
            assert_eq!(audited.newest.as_deref(), Some("2026-01-01T00:00:00Z"));
            assert!(audited.unknown.is_empty());
        }
        let empty = audited(home.path(), &at("x.json", other)).unwrap();
        assert_eq!(empty.unknown, ["PyPI"]);
    }

    #[test]
    fn hostile_databases_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let bomb = zipped(&[("CVE-1.json", &vec![b' '; 40 << 20])]);
        let deep = zipped(&[("CVE-1.json", "[".repeat(1 << 20).as_bytes())]);
        let mut cut = zipped(&[("CVE-1.json", RECORD.as_bytes())]);
        cut.truncate(60);
        for (what, bytes) in
            [("bomb", bomb), ("deep", deep), ("cut", cut), ("text", b"hello".to_vec()), ("list", b"[1]".to_vec())]
        {
            let path = home.path().join(what);
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(audited(home.path(), &path), Err(Error::Database { .. })), "{what}");
        }
        let empty = home.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        assert!(matches!(audited(home.path(), &empty), Err(Error::Database { .. })));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn changed_databases_never_panic(at in 0usize..200, byte: u8, zip: bool) {
            let home = tempfile::tempdir().unwrap();
            let mut bytes = if zip { zipped(&[("CVE-1.json", RECORD.as_bytes())]) } else { RECORD.as_bytes().to_vec() };
            let length = bytes.len();
            bytes[at % length] = byte;
            let path = home.path().join("all");
            std::fs::write(&path, bytes).unwrap();
            let _ = audited(home.path(), &path);
        }
    }
}
