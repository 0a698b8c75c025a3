//! One wheel from a package index, by its digest: how uv itself is had.
//!
//! The index is asked over HTTP as the simple repository API has it (PEP 503, PEP 691); no installer is needed. The
//! person's settings for uv and for pip say which ones are asked, and with which password. What comes is checked
//! against the digest, so that it does not matter who gave it.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Deserialize;
use url::Url;

use crate::image::download::{self, Credentials, Netrc};
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::finding::Finding;
use crate::io::http::{self, Client, authorization, basic, shown};
use crate::io::progress::Task;

/// Largest page of an index: uv has thousands of wheels.
const LARGEST_PAGE: u64 = 64 << 20;
/// The alias under which the index of all has been known longest; it leads to where that is today.
const ALIAS: &str = "https://pypi.python.org/simple/";

/// Why a wheel could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An index, or what it leads to, did not answer as it should.
    #[error(transparent)]
    Fetch(#[from] download::Error),
    /// No index has it.
    #[error("{} has no such wheel of {name}", asked.join(", "))]
    NoWheel {
        /// Of which package.
        name: &'static str,
        /// The indexes and folders that were asked.
        asked: Vec<String>,
    },
    /// The store cannot keep it.
    #[error(transparent)]
    Store(#[from] crate::image::store::Error),
    /// A file could not be read. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Fetch(error) => error.explain(),
            Self::NoWheel { .. } => ErrorKind::Failure.named("python/no-uv"),
            Self::Store(error) => error.explain(),
            Self::Io(error) => error.explain(),
        }
    }
}

/// A wheel that is known to the byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel<'a> {
    /// The name of its package.
    pub(super) package: &'static str,
    /// The name of its file.
    pub(super) file: &'a str,
    pub(super) digest: &'a Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// Puts a wheel into the store. `task` advances by the bytes that come in; a connection that breaks is made up for.
///
/// # Errors
/// See [`Error`]: that of the last index that was asked, where none has it.
pub(super) fn fetch(session: &Session, wanted: &Wheel<'_>, task: &Task) -> Result<(), Error> {
    let Wheel { package: name, file, digest, size } = *wanted;
    let settings = Settings::of_person();
    for folder in &settings.folders {
        let path = folder.join(file);
        if path.is_file() {
            return Ok(session.store.put_blob(&mut task.reading(fs::File::open(&path)?), digest, size)?);
        }
    }
    let client = session.client.trusting_also(settings.authorities.clone());
    let mut asked: Vec<String> = settings.folders.iter().map(|folder| folder.display().to_string()).collect();
    let mut failed = None;
    for index in &settings.indexes {
        let page = index.join(&format!("{name}/")).unwrap_or_else(|_| index.clone());
        let found = download::page(&client, &page, ACCEPTED, settings.credentials(&page).as_ref(), LARGEST_PAGE);
        let wheel = match found {
            Ok(page) => page.wheel(file, digest),
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        asked.push(shown(index));
        let Some(wheel) = wheel else { continue };
        let credentials = settings.credentials(&wheel);
        let session = Session { client, ..session.clone() };
        return Ok(download::blob(&session, &wheel, credentials.as_ref(), digest, size, task)?);
    }
    Err(failed.map_or(Error::NoWheel { name, asked }, Error::Fetch))
}

/// Puts the wheel at `url`, which an index has named, into the store. As [`fetch`] it is asked for as the person's settings say.
pub(super) fn download(
    session: &Session,
    url: &Url,
    digest: &Digest,
    size: Option<u64>,
    task: &Task,
) -> Result<(), download::Error> {
    let settings = Settings::of_person();
    let client = session.client.trusting_also(settings.authorities.clone());
    let credentials = settings.credentials(url);
    let session = Session { client, ..session.clone() };
    let size = match size {
        Some(size) => size,
        None => {
            let secrets = |_: &http::Method| download::secrets(credentials.as_ref());
            download::head(&session.client, url, &secrets)?.length().unwrap_or_default()
        }
    };
    download::blob(&session, url, credentials.as_ref(), digest, size, task)
}

/// Whether the indexes can be reached that the person's settings name: one at least is needed.
pub fn findings(client: &Client) -> Vec<Finding> {
    const NAME: &str = "package index";
    const ADVICE: &str = "it wants a name and a password: put them into ~/.netrc, or into its address in uv's settings";
    let settings = Settings::of_person();
    let client = client.trusting_also(settings.authorities.clone());
    if settings.indexes.is_empty() {
        let folders = settings.folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>();
        return vec![match folders.is_empty() {
            true => Finding::problem(NAME, "the settings of uv and pip name none", "remove `no-index` from them"),
            false => Finding::ok(NAME, format!("none, as the settings say: packages come from {}", folders.join(", "))),
        }];
    }
    let look = |index: &Url| {
        let page = index.join("uv/").unwrap_or_else(|_| index.clone());
        let credentials = settings.credentials(&page);
        let header = credentials.and_then(|Credentials { name, password }| authorization(&basic(&name, &password)));
        http::finding(NAME, &client, &page, &header.unwrap_or_default(), ADVICE).0
    };
    let look = &look;
    std::thread::scope(|scope| {
        let asked: Vec<_> = settings.indexes.iter().map(|index| scope.spawn(move || look(index))).collect();
        asked.into_iter().filter_map(|asked| asked.join().ok()).collect()
    })
}

/// What an index may answer with (PEP 691, "Content-Types").
const ACCEPTED: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

#[derive(Deserialize)]
struct Listing {
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    filename: String,
    url: String,
}

impl download::Page {
    /// Where the wheel lies, by the page of its package.
    fn wheel(&self, file: &str, digest: &Digest) -> Option<Url> {
        let link = match serde_json::from_slice::<Listing>(&self.bytes) {
            Ok(listing) => listing.files.into_iter().find(|listed| listed.filename == file)?.url,
            Err(_) => link(&String::from_utf8_lossy(&self.bytes), file, digest)?,
        };
        self.url.join(&link).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    }
}

/// The link of an HTML page to `file`, or to what has the digest.
fn link(page: &str, file: &str, digest: &Digest) -> Option<String> {
    let hrefs = page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest.get(1..)?.split(quote).next()
    });
    let mut hrefs = hrefs.map(|href| href.replace("&amp;", "&"));
    let hash = format!("sha256={}", digest.hex());
    hrefs.find(|href| {
        let path = href.split(['#', '?']).next().unwrap_or_default();
        path.rsplit('/').next() == Some(file) || href.ends_with(&hash)
    })
}

/// Where the person says that packages lie.
#[derive(Debug, Default)]
struct Settings {
    indexes: Vec<Url>,
    folders: Vec<PathBuf>,
    /// Files with certificates.
    authorities: Vec<PathBuf>,
    /// `~/.netrc`
    netrc: Netrc,
}

impl Settings {
    /// Those of the runtime for analytics models first, then uv's variables and files, then pip's; then what pip would ask by
    /// itself.
    fn of_person() -> Self {
        let mut settings = Self::default();
        let (uv, pip) = (Collected::of_uv(), Collected::of_pip());
        let (is_default, is_closed) = (uv.is_default() || pip.is_default(), uv.is_closed || pip.is_closed);
        let mut indexes: Vec<String> = registry(&variable).into_iter().collect();
        for bare in [uv, pip] {
            indexes.extend(bare.further.into_iter().chain(bare.defaults));
            settings.folders.extend(bare.folders.iter().map(PathBuf::from).filter(|folder| folder.is_absolute()));
            settings.authorities.extend(bare.authorities.iter().map(PathBuf::from).filter(|file| file.is_file()));
        }
        if !is_default {
            indexes.push(default_index());
        }
        for address in indexes.iter().filter(|_| !is_closed) {
            // `NAME=URL`, as UV_INDEX has it.
            let address = address.split_once("=http").map_or(address.clone(), |(_, rest)| format!("http{rest}"));
            let url = Url::parse(&format!("{}/", address.trim_end_matches('/')));
            settings.indexes.extend(url.ok().filter(|url| !settings.indexes.contains(url) && url.has_host()));
        }
        settings.netrc = Netrc::of_person();
        settings
    }

    /// The name and password for the host of `url`: those in an index's address, or else the netrc's.
    fn credentials(&self, url: &Url) -> Option<Credentials> {
        let own = std::iter::once(url).chain(self.indexes.iter().filter(|index| index.origin() == url.origin()));
        let own = own.filter(|url| !url.username().is_empty() || url.password().is_some());
        let mut own = own.map(|url| Credentials {
            name: decoded(url.username()),
            password: decoded(url.password().unwrap_or_default()),
        });
        own.next().or_else(|| self.netrc.credentials(url.host_str()?))
    }
}

/// Settings as they are written.
#[derive(Default)]
struct Collected {
    /// The index of all packages: the first counts.
    defaults: Vec<String>,
    further: Vec<String>,
    folders: Vec<String>,
    authorities: Vec<String>,
    /// No index is asked.
    is_closed: bool,
}

impl Collected {
    /// What uv reads itself.
    fn of_uv() -> Self {
        let mut bare = Self::default();
        bare.take(&|name| variable(&format!("UV_{}", name.to_uppercase().replace('-', "_"))));
        for file in uv_files() {
            let table = fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
            for table in
                table.iter().flat_map(|table| [Some(table), table.get("pip").and_then(toml::Value::as_table)]).flatten()
            {
                bare.take(&|name| words(table.get(name)?));
                for index in table.get("index").and_then(toml::Value::as_array).into_iter().flatten() {
                    let is_default = index.get("default").and_then(toml::Value::as_bool) == Some(true);
                    let url = index.get("url").and_then(toml::Value::as_str).map(str::to_owned);
                    if is_default { &mut bare.defaults } else { &mut bare.further }.extend(url);
                }
            }
        }
        bare
    }

    /// What pip would read.
    fn of_pip() -> Self {
        let mut bare = Self::default();
        bare.take(&|name| variable(&format!("PIP_{}", name.to_uppercase().replace('-', "_"))));
        for file in pip_files() {
            let text = fs::read_to_string(file).unwrap_or_default();
            for section in ["global", "download", "install"] {
                bare.take(&|name| ini(&text, section, name));
            }
        }
        bare
    }

    /// Whether another index takes the place of that of all packages.
    fn is_default(&self) -> bool {
        !self.defaults.is_empty()
    }

    fn take(&mut self, get: &dyn Fn(&str) -> Option<String>) {
        let several =
            |name: &str| get(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        self.defaults.extend(several("default-index").into_iter().chain(several("index-url")));
        self.further.extend(several("index").into_iter().chain(several("extra-index-url")));
        self.folders.extend(several("find-links"));
        self.authorities.extend(several("cert"));
        self.is_closed |= get("no-index").is_some_and(|value| matches!(value.as_str(), "1" | "true" | "yes" | "on"));
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The index that the runtime for analytics models is given by its own variables, with name and password.
fn registry(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let text = variable("REGISTRY_PIP_URL").filter(|text| !text.trim().is_empty())?;
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let Ok(mut url) = Url::parse(&text) else { return Some(text) };
    let named = variable("REGISTRY_PIP_USERNAME").filter(|name| !name.is_empty());
    let password = variable("REGISTRY_PIP_PASSWORD").filter(|password| !password.is_empty());
    // An address that has both itself is whole.
    if url.username().is_empty() && url.password().is_none() {
        let _ = url.set_username(named.as_deref().unwrap_or_default());
        let _ = url.set_password(password.as_deref());
    }
    Some(url.to_string())
}

/// What uv is told of indexes that it would not find itself, as its variables: those of the runtime for analytics models before
/// all others, those of pip behind them. Where uv has an index of all packages, pip's is none.
pub(super) fn for_uv() -> Vec<(&'static str, String)> {
    told(&Collected::of_uv(), Collected::of_pip(), registry(&variable), variable("UV_INDEX"))
}

fn told(uv: &Collected, pip: Collected, registry: Option<String>, own: Option<String>) -> Vec<(&'static str, String)> {
    let all = pip.defaults.into_iter().next().filter(|_| !uv.is_default());
    let mut variables: Vec<_> = all.map(|all| ("UV_DEFAULT_INDEX", all)).into_iter().collect();
    if registry.is_some() || !pip.further.is_empty() {
        let own = own.filter(|own| !own.trim().is_empty());
        let indexes: Vec<String> = registry.into_iter().chain(own).chain(pip.further).collect();
        variables.push(("UV_INDEX", indexes.join(" ")));
    }
    variables
}

/// A text, a truth or a list of texts, as words.
fn words(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(list) => Some(list.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(" "))
            .filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// A value of a file as Python's `configparser` reads it; further lines of it are indented.
fn ini(text: &str, section: &str, name: &str) -> Option<String> {
    let (mut inside, mut value) = (false, None::<String>);
    for line in text.lines() {
        if let Some(title) = line.trim().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = title == section;
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = &mut value {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some(value) = value {
            return Some(value);
        } else if inside
            && let Some((key, rest)) = line.split_once(['=', ':'])
            && key.trim().replace('_', "-") == name
        {
            value = Some(rest.trim().to_owned());
        }
    }
    value
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let number = tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match number.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

fn config() -> Option<PathBuf> {
    std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home()?.join(".config")))
}

/// uv's files of settings that belong to no project.
fn uv_files() -> Vec<PathBuf> {
    let named = std::env::var_os("UV_CONFIG_FILE").map(PathBuf::from);
    let own = config().map(|folder| folder.join("uv/uv.toml"));
    named.into_iter().chain(own).chain(["/etc/uv/uv.toml".into()]).collect()
}

/// pip's files of settings.
fn pip_files() -> Vec<PathBuf> {
    let named = std::env::var_os("PIP_CONFIG_FILE").map(PathBuf::from);
    let own = config().map(|folder| folder.join("pip/pip.conf"));
    let older = home().map(|home| home.join(".pip/pip.conf"));
    named.into_iter().chain(own).chain(older).chain(["/etc/xdg/pip/pip.conf".into(), "/etc/pip.conf".into()]).collect()
}

/// The index that the pip of this machine asks where nobody says another, which whoever distributes it may have chosen:
/// read in its source, as data. Where there is no pip, the index of all by its alias.
fn default_index() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let prefixes = std::env::split_paths(&path).filter(|folder| folder.is_absolute() && folder.ends_with("bin"));
    let prefixes = prefixes.filter_map(|folder| Some(folder.parent()?.join("lib")));
    let libraries = ["/usr/lib", "/usr/local/lib", "/usr/lib64"].map(PathBuf::from);
    libraries
        .into_iter()
        .chain(prefixes)
        .flat_map(|library| sources_of_pip(&library))
        .find_map(|file| index_of_pip(&file))
        .unwrap_or_else(|| ALIAS.to_owned())
}

/// Where pip says which index it asks, in the versions of Python below a folder.
fn sources_of_pip(library: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(library).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut pythons: Vec<_> = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")))
        .collect();
    pythons.sort();
    let packages = pythons.iter().flat_map(|python| ["dist-packages", "site-packages"].map(|name| python.join(name)));
    packages.map(|folder| folder.join("pip/_internal/models/index.py")).filter(|file| file.is_file()).collect()
}

fn index_of_pip(file: &Path) -> Option<String> {
    let text =
        fs::metadata(file).ok().filter(|found| found.len() < 1 << 20).and_then(|_| fs::read_to_string(file).ok())?;
    let (_, rest) = text.split_once("PyPI = PackageIndex(")?;
    let address = rest.trim_start().strip_prefix(['"', '\''])?.split(['"', '\'']).next()?;
    Some(format!("{}/simple/", address.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "uv-1-py3-none-any.whl";

    fn page(bytes: &str) -> download::Page {
        download::Page { url: "https://i.example/simple/uv/".parse().unwrap(), bytes: bytes.as_bytes().to_vec() }
    }

    #[test]
    fn either_kind_of_page_leads_to_the_wheel() {
        let digest = Digest::of("wheel");
        let json = format!(
            r#"{{"meta": {{}}, "files": [{{"filename": "x", "url": "y"}}, {{"filename": "{FILE}", "url": "../../f/{FILE}", "hashes": {{}}}}]}}"#
        );
        assert_eq!(page(&json).wheel(FILE, &digest).unwrap().as_str(), "https://i.example/f/uv-1-py3-none-any.whl");
        let html =
            format!(r#"<a href="x">x</a> <A class=b href='https://f.example/{FILE}?a=1&amp;b=2#sha256=00'>w</A>"#);
        assert_eq!(
            page(&html).wheel(FILE, &digest).unwrap().as_str(),
            "https://f.example/uv-1-py3-none-any.whl?a=1&b=2#sha256=00"
        );
        let renamed = format!(r#"<a href="/blob/7#sha256={}">"#, digest.hex());
        assert!(page(&renamed).wheel(FILE, &digest).unwrap().as_str().starts_with("https://i.example/blob/7"));
        assert!(page(r#"<a href="file:///etc/passwd#uv-1-py3-none-any.whl">"#).wheel(FILE, &digest).is_none());
    }

    #[test]
    fn files_of_pip_are_read() {
        let text =
            "[global]\nindex-url = https://i.example/simple\nfind_links =\n    /a\n    /b\n[install]\nno-index = yes\n";
        assert_eq!(ini(text, "global", "index-url").as_deref(), Some("https://i.example/simple"));
        assert_eq!(ini(text, "global", "find-links").as_deref(), Some(" /a /b"));
        assert_eq!(ini(text, "global", "no-index"), None);
        assert_eq!(ini(text, "install", "no-index").as_deref(), Some("yes"));
    }

    #[test]
    fn the_index_of_pip_is_found_in_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("python3/dist-packages/pip/_internal/models");
        fs::create_dir_all(&place).unwrap();
        let source = "PyPI = PackageIndex(\"https://i.example/\", file_storage_domain=\"f.example\")\nTest = 1\n";
        fs::write(place.join("index.py"), source).unwrap();
        let found: Vec<_> = sources_of_pip(folder.path()).iter().filter_map(|file| index_of_pip(file)).collect();
        assert_eq!(found, ["https://i.example/simple/"]);
    }

    #[test]
    fn uv_is_told_what_only_pip_and_the_runtime_know() {
        let of = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let named = registry(&of(&[
            ("REGISTRY_PIP_URL", "i.example/simple/"),
            ("REGISTRY_PIP_USERNAME", "me"),
            ("REGISTRY_PIP_PASSWORD", "p@ss/word"),
        ]));
        assert_eq!(named.as_deref(), Some("https://me:p%40ss%2Fword@i.example/simple/"));
        assert_eq!(registry(&of(&[("REGISTRY_PIP_URL", " ")])), None);
        assert_eq!(
            registry(&of(&[("REGISTRY_PIP_URL", "http://a:b@h/s"), ("REGISTRY_PIP_USERNAME", "me")])).as_deref(),
            Some("http://a:b@h/s")
        );
        let pip = || Collected {
            defaults: vec!["https://p.example/simple".to_owned(), "https://q.example".to_owned()],
            further: vec!["https://x.example/simple".to_owned()],
            ..Collected::default()
        };
        let found = told(
            &Collected::default(),
            pip(),
            Some("https://r.example".to_owned()),
            Some("mine=https://u.example".to_owned()),
        );
        let expected = [
            ("UV_DEFAULT_INDEX", "https://p.example/simple".to_owned()),
            ("UV_INDEX", "https://r.example mine=https://u.example https://x.example/simple".to_owned()),
        ];
        assert_eq!(found, expected);
        let has_default = pip();
        let pip = Collected { further: Vec::new(), ..pip() };
        assert!(told(&has_default, pip, None, Some("https://u.example".to_owned())).is_empty());
    }

    #[test]
    fn passwords_go_to_the_host_that_they_are_for() {
        let settings = Settings {
            indexes: vec![Url::parse("https://me:s%40cret@i.example/simple/").unwrap()],
            netrc: Netrc::of("machine n.example login l password p"),
            ..Settings::default()
        };
        let of = |url: &str| settings.credentials(&Url::parse(url).unwrap()).map(|found| (found.name, found.password));
        assert_eq!(of("https://i.example/f/x.whl"), Some(("me".into(), "s@cret".into())));
        assert_eq!(of("https://n.example/f/x.whl"), Some(("l".into(), "p".into())));
        assert_eq!(of("http://i.example/f/x.whl"), None);
        assert_eq!(of("https://other.example/f/x.whl"), None);
        assert_eq!(shown(&settings.indexes[0]), "https://i.example/simple/");
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(text in "(href=|'|\"|#sha256=|uv|\\{|\\}|files|:|\\[|\\]|&amp;|[\\PC]){0,40}") {
            let _ = page(&text).wheel(FILE, &Digest::of("x"));
            let _ = (Netrc::of(&text).credentials("h"), ini(&text, "global", "cert"), decoded(&text));
        }
    }
}
