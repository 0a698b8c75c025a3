//! Where Debian's archive is read from, and reading it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use url::Url;

use super::{Archive, Error, Keyring, Suite};
use crate::formats::deb822;
use crate::image::download::{self, Error as FetchError};
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::finding::{Finding, Level};
use crate::io::http::header::HeaderMap;
use crate::io::http::{self, Client, shown};
use crate::io::progress::Task;

/// The official alias, which leads to a mirror nearby.
const PUBLIC: &str = "http://ftp.debian.org/debian";

/// The archives to read from, and the keys that sign them.
#[derive(Clone, Debug)]
pub struct Source {
    main: Root,
    security: Root,
    snapshot: Option<Root>,
    pub(super) keys: Keyring,
}

/// The root of an archive: an address that begins with `http://`, `https://` or `file://`, without a `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root(String);

/// What a person says of where the archives are. All may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The root of the archive.
    pub mirror: Option<&'a str>,
    /// The root of the archive of security updates.
    pub security: Option<&'a str>,
    /// The root of an archive as it was at some time, for packages that the mirror has no more.
    pub snapshot: Option<&'a str>,
}

impl Source {
    /// Finds the archives. The mirror is the first of: the wanted one, `EKIBEN_DEBIAN_MIRROR`, the one that the host's
    /// apt uses for a Debian suite, a public one.
    ///
    /// The archive of security updates is the first of: the wanted one, `EKIBEN_DEBIAN_SECURITY_MIRROR`, the one that
    /// the host's apt uses if the mirror is apt's too, the mirror's neighbour `debian-security`.
    /// `EKIBEN_DEBIAN_KEYRING` names a file of keys to believe instead of Debian's.
    ///
    /// # Errors
    /// When an address or the keyring is none, or nothing says where the security updates are.
    pub fn find(wanted: Wanted<'_>) -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let keys = match variable("EKIBEN_DEBIAN_KEYRING") {
            Some(name) => {
                let bytes = fs::read(&name).map_err(|source| Error::Read { path: name.clone().into(), source })?;
                Keyring::read(&bytes).map_err(|source| Error::Keyring { name, source: Box::new(source) })?
            }
            None => Keyring::debian()
                .map_err(|source| Error::Keyring { name: "the program".to_owned(), source: Box::new(source) })?,
        };
        Self::choose(wanted, variable, Path::new("/etc/apt"), keys)
    }

    fn choose(
        wanted: Wanted<'_>,
        variable: impl Fn(&'static str) -> Option<String>,
        apt: &Path,
        keys: Keyring,
    ) -> Result<Self, Error> {
        let Wanted { mirror, security, snapshot } = wanted;
        let mut apt_security = None;
        let main = match mirror.map(str::to_owned).or_else(|| variable("EKIBEN_DEBIAN_MIRROR")) {
            Some(url) => Root::new(&url)?,
            None => {
                let found = AptSources::read(apt)?;
                apt_security = found.security;
                found.main.map_or_else(|| Root::new(PUBLIC), Ok)?
            }
        };
        let security = match security.map(str::to_owned).or_else(|| variable("EKIBEN_DEBIAN_SECURITY_MIRROR")) {
            Some(url) => Root::new(&url)?,
            None => match apt_security.or_else(|| main.security()) {
                Some(root) => root,
                None => return Err(Error::NoSecurity { mirror: main.0 }),
            },
        };
        Ok(Self { main, security, snapshot: snapshot.map(Root::new).transpose()?, keys })
    }

    /// Whether the archives can be reached that are read from where nothing else is said; and what time it is at the mirror.
    pub fn findings(client: &Client) -> (Vec<Finding>, Option<SystemTime>) {
        const MIRROR: &str = "debian mirror";
        let source = match Self::find(Wanted::default()) {
            Ok(source) => source,
            Err(error) => return (vec![Finding::of_error(MIRROR, Level::Problem, &error)], None),
        };
        let suite = Suite::DEFAULT.name();
        let (main, date) = source.main.finding(MIRROR, client, &format!("dists/{suite}/InRelease"));
        let path = format!("dists/{suite}-security/InRelease");
        let (security, _) = source.security.finding("security mirror", client, &path);
        (vec![main, security], date)
    }

    /// An archive for tests, and one of older packages.
    #[cfg(test)]
    pub(super) fn of(mirror: &str, snapshot: Option<&str>, keys: Keyring) -> Self {
        let wanted = Wanted { mirror: Some(mirror), snapshot, ..Wanted::default() };
        Self::choose(wanted, |_| None, Path::new("/nowhere"), keys).unwrap()
    }

    /// The root of `archive`.
    pub(super) fn root(&self, archive: Archive) -> &Root {
        match archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        }
    }

    /// The roots that may have a package of `archive`, in the order in which to ask.
    pub(super) fn roots(&self, archive: Archive) -> impl Iterator<Item = Root> {
        let snapshot = self.snapshot.as_ref().and_then(|root| match archive {
            Archive::Main => Some(root.clone()),
            Archive::Security => root.security(),
        });
        std::iter::once(self.root(archive).clone()).chain(snapshot)
    }
}

impl Root {
    fn new(url: &str) -> Result<Self, Error> {
        let bad = || Error::Mirror { url: url.to_owned() };
        let parsed = Url::parse(url).map_err(|_| bad())?;
        match parsed.scheme() {
            "http" | "https" | "file" => Ok(Self(parsed.as_str().trim_end_matches('/').to_owned())),
            _ => Err(bad()),
        }
    }

    /// The archive of security updates beside it: the path with `debian-security` for its last `debian`, as mirrors and
    /// snapshot archives have it (`…/debian`, `…/archive/debian/20260101T000000Z`).
    fn security(&self) -> Option<Self> {
        let mut names: Vec<&str> = self.0.split('/').collect();
        let at = names.iter().rposition(|name| *name == "debian")?;
        names[at] = "debian-security";
        Some(Self(names.join("/")))
    }

    /// Whether the file at `path` can be had.
    fn finding(&self, name: &'static str, client: &Client, path: &str) -> (Finding, Option<SystemTime>) {
        const ADVICE: &str = "name another one with EKIBEN_DEBIAN_MIRROR and EKIBEN_DEBIAN_SECURITY_MIRROR";
        let url = match address(&self.url(path)) {
            Ok(url) => url,
            Err(error) => return (Finding::of_error(name, Level::Problem, &error), None),
        };
        if !self.is_local() {
            return http::finding(name, client, &url, &HeaderMap::new(), ADVICE);
        }
        let finding = match open(url.as_str()) {
            Ok(Some((_, file))) => Finding::ok(name, format!("{} is there", file.display())),
            Ok(None) => Finding::problem(name, format!("there is no {}", shown(&url)), ADVICE),
            Err(error) => Finding::of_error(name, Level::Problem, &error),
        };
        (finding, None)
    }

    /// The address of the file at `path`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    /// Its address.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is read from this machine's disk.
    pub(super) fn is_local(&self) -> bool {
        self.0.starts_with("file:")
    }

    /// Reads the file at `path`, of at most `limit` bytes; none when there is no such file.
    pub(super) fn bytes(&self, session: &Session, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = self.url(path);
        if self.is_local() {
            let Some((file, path)) = open(&url)? else { return Ok(None) };
            let mut bytes = Vec::new();
            file.take(limit.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(|source| Error::Read { path, source })?;
            if bytes.len() as u64 > limit {
                return Err(FetchError::TooLarge { url, limit }.into());
            }
            return Ok(Some(bytes));
        }
        match download::bytes(&session.client, &address(&url)?, limit) {
            Err(error) if error.is_missing() => Ok(None),
            result => Ok(result.map(Some)?),
        }
    }

    /// Brings the file at `path` into the store, `size` bytes with the digest `digest`; false when there is no such file.
    pub(super) fn blob(
        &self,
        session: &Session,
        path: &str,
        digest: &Digest,
        size: u64,
        task: &Task,
    ) -> Result<bool, Error> {
        let url = self.url(path);
        if self.is_local() {
            let Some((mut file, _)) = open(&url)? else { return Ok(false) };
            session.store.put_blob(&mut file, digest, size).map_err(|source| FetchError::Keep { url, source })?;
            task.advance(size);
            return Ok(true);
        }
        match download::blob(session, &address(&url)?, None, digest, size, task) {
            Err(error) if error.is_missing() => Ok(false),
            result => Ok(result.map(|()| true)?),
        }
    }
}

fn address(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|_| Error::Mirror { url: url.to_owned() })
}

fn open(url: &str) -> Result<Option<(fs::File, PathBuf)>, Error> {
    let path = address(url)?.to_file_path().map_err(|()| Error::Mirror { url: url.to_owned() })?;
    match fs::File::open(&path) {
        Ok(file) => Ok(Some((file, path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// The first archives that the host's apt uses for a Debian suite (sources.list(5)).
#[derive(Debug, Default, PartialEq)]
struct AptSources {
    main: Option<Root>,
    security: Option<Root>,
}

impl AptSources {
    /// Reads the files in the order in which apt does.
    fn read(apt: &Path) -> Result<Self, Error> {
        let mut paths = vec![apt.join("sources.list")];
        if let Ok(folder) = fs::read_dir(apt.join("sources.list.d")) {
            let mut more: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
            more.sort();
            paths.append(&mut more);
        }
        let mut found = Self::default();
        for path in paths {
            let style = path.extension().and_then(|extension| extension.to_str());
            if !matches!(style, Some("list" | "sources")) {
                continue;
            }
            let text = match fs::read(&path) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Read { path, source }),
            };
            match style {
                Some("list") => text.lines().for_each(|line| found.take_line(line)),
                _ => deb822::paragraphs(&text).for_each(|paragraph| found.take_paragraph(paragraph)),
            }
        }
        Ok(found)
    }

    /// `deb [ option=value … ] URI suite component …`
    fn take_line(&mut self, line: &str) {
        let Some(mut rest) = line.trim_ascii().strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else {
            return;
        };
        rest = rest.trim_ascii();
        let mut signed_by = None;
        if let Some((options, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            signed_by = options.split_ascii_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            rest = after;
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let mut words = rest.split_ascii_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            self.take([uri].into_iter(), [suite].into_iter(), words, signed_by);
        }
    }

    fn take_paragraph(&mut self, paragraph: deb822::Paragraph<'_>) {
        let words = |name| deb822::lines(paragraph.get(name).unwrap_or_default()).flat_map(str::split_ascii_whitespace);
        let enabled = !paragraph.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if enabled && words("Types").any(|kind| kind == "deb") {
            self.take(words("URIs"), words("Suites"), words("Components"), paragraph.get("Signed-By"));
        }
    }

    /// Keeps the first address of an entry that is Debian's own: a known suite with the component main, and not signed
    /// by somebody else's keys.
    fn take<'a>(
        &mut self,
        uris: impl Iterator<Item = &'a str>,
        mut suites: impl Iterator<Item = &'a str>,
        mut components: impl Iterator<Item = &'a str>,
        signed_by: Option<&str>,
    ) {
        if !components.any(|name| name == "main") || signed_by.is_some_and(|keys| !keys.contains("debian-archive")) {
            return;
        }
        // Of suites that nothing is assembled from, and by their age.
        const OTHERS: [&str; 8] =
            ["stable", "oldstable", "oldoldstable", "testing", "unstable", "sid", "buster", "forky"];
        let of_debian = |suite: &&str| {
            let codename = suite.split(['-', '/']).next().unwrap_or_default();
            let flavour = suite.strip_prefix(codename).unwrap_or_default();
            let known = OTHERS.contains(&codename) || codename.parse::<Suite>().is_ok();
            known && matches!(flavour, "" | "-updates" | "-security" | "/updates")
        };
        let Some(suite) = suites.find(of_debian) else { return };
        let place =
            if suite.ends_with("-security") || suite.contains('/') { &mut self.security } else { &mut self.main };
        if place.is_none() {
            *place = uris.flat_map(addresses).find_map(|uri| Root::new(&uri).ok());
        }
    }
}

/// The addresses that apt would use for `uri`. Debian's cloud images name a file that lists them (apt-transport-mirror(1)).
fn addresses(uri: &str) -> Vec<String> {
    let Some(path) = uri.strip_prefix("mirror+file:") else { return vec![uri.to_owned()] };
    let text = fs::read_to_string(format!("/{}", path.trim_start_matches('/'))).unwrap_or_default();
    text.lines().filter_map(|line| line.split_ascii_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[(&str, &str)], mirror: Option<&str>, variables: &[(&str, &str)]) -> Result<Source, Error> {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(apt.path().join(name), text).unwrap();
        }
        let variable = |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Source::choose(Wanted { mirror, ..Wanted::default() }, variable, apt.path(), Keyring::debian().unwrap())
    }

    fn roots(source: &Source) -> (&str, &str) {
        (source.main.as_str(), source.security.as_str())
    }

    #[test]
    fn the_hosts_apt_sources_are_understood() {
        let other = (
            "sources.list.d/a.sources",
            "Types: deb\nURIs: http://other.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/other.gpg\n",
        );
        let deb822 = (
            "sources.list.d/debian.sources",
            "Types: deb\n# moved\nURIs: http://m.example/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb deb-src\nURIs: http://m.example/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        );
        let source = chosen(&[other, deb822], None, &[]).unwrap();
        assert_eq!(roots(&source), ("http://m.example/debian", "http://m.example/debian-security"));

        let list = (
            "sources.list",
            "# old\ndeb-src http://src.example/debian trixie main\ndeb [arch=amd64 trusted=no] https://l.example/debian trixie main # x\ndeb https://s.example/sec trixie-security main\n",
        );
        let source = chosen(&[list, deb822], None, &[]).unwrap();
        assert_eq!(roots(&source), ("https://l.example/debian", "https://s.example/sec"));

        let ubuntu = ("sources.list", "deb http://archive.example/ubuntu noble main\n");
        let disabled = (
            "sources.list.d/x.sources",
            "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n",
        );
        let source = chosen(&[ubuntu, disabled], None, &[]).unwrap();
        assert_eq!(roots(&source), (PUBLIC, "http://ftp.debian.org/debian-security"));
    }

    #[test]
    fn the_mirror_lists_of_cloud_images_are_read() {
        let lists = tempfile::tempdir().unwrap();
        let list = lists.path().join("debian.list");
        fs::write(&list, "https://c.example/debian\tpriority:1\n").unwrap();
        let line = format!("deb mirror+file://{} trixie main\n", list.display());
        let source = chosen(&[("sources.list", &line)], None, &[]).unwrap();
        assert_eq!(roots(&source), ("https://c.example/debian", "https://c.example/debian-security"));
    }

    #[test]
    fn a_person_decides_before_the_host() {
        let list = ("sources.list", "deb http://apt.example/debian trixie main\n");
        let variables = [("EKIBEN_DEBIAN_MIRROR", "http://env.example/debian")];
        let source = chosen(&[list], None, &variables).unwrap();
        assert_eq!(roots(&source), ("http://env.example/debian", "http://env.example/debian-security"));
        let source = chosen(&[list], Some("file:///srv/debian"), &variables).unwrap();
        assert_eq!(roots(&source), ("file:///srv/debian", "file:///srv/debian-security"));
        let security = [("EKIBEN_DEBIAN_SECURITY_MIRROR", "http://s.example/x")];
        let source = chosen(&[list], Some("http://m.example/flat"), &security).unwrap();
        assert_eq!(roots(&source), ("http://m.example/flat", "http://s.example/x"));
        assert!(matches!(chosen(&[], Some("http://m.example/flat"), &[]), Err(Error::NoSecurity { .. })));
        assert!(matches!(chosen(&[], Some("m.example"), &[]), Err(Error::Mirror { .. })));
    }

    #[test]
    fn a_snapshot_has_its_security_archive_beside_it() {
        let root = Root::new("http://s.example/archive/debian/20260101T000000Z").unwrap();
        assert_eq!(root.security().unwrap().as_str(), "http://s.example/archive/debian-security/20260101T000000Z");
    }
}
