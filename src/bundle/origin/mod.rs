//! Where files of a model live that are not in the project: what is at an address, told and fetched.
//!
//! Invariants: what is fetched is kept under its digest, and nothing of it is used that has another than the lock says.
//! The lock is trust on first use: by HTTP and S3 nobody says a digest, so the first one that comes is believed; where the
//! manifest or the hub says one, it is not. A credential goes to the server that it is for, and into no lock.

mod catalogue;
pub mod folder;
mod http;
mod hub;
pub mod mlflow;
mod oci;
mod partial;
mod s3;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use url::Url;

pub use catalogue::{Catalogue, Told};

use crate::image::download::{self, Credentials, Netrc};
use crate::image::registry;
use crate::image::session::Session;
use crate::image::store;
use crate::io::archive;
use crate::io::content::{self, Content};
use crate::io::digest::{Digest, Mismatch};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::http::header::HeaderMap;
use crate::io::http::{self as transport, Answer, Method};
use crate::io::parallel;
use crate::io::progress::{Task, Unit};
use crate::project::address::Address;
use crate::project::lock::{LockedFile, LockedModel};

/// Most files that one address may stand for.
const MOST_FILES: usize = 10_000;

/// Files that are fetched at once.
const AT_ONCE: usize = 4;

/// Bytes of one page of a listing.
const LARGEST_PAGE: u64 = 32 << 20;

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing came, or something else than was promised.
    #[error("{from} could not be fetched")]
    Download {
        /// The address.
        from: String,
        /// Why.
        source: download::Error,
    },
    /// The bytes are not those of the lock, or those that the manifest asks for.
    #[error("`{name}` at {from} is not what {whose} says")]
    Other {
        /// The address.
        from: String,
        /// The file.
        name: String,
        /// Who says it: `the lock`, `the manifest`, `its server`.
        whose: &'static str,
        /// What differs.
        source: Mismatch,
    },
    /// Nothing lies there.
    #[error("there is nothing at {0}")]
    Nothing(String),
    /// Two of the files would have one path.
    #[error("two of the files would lie at `{0}`")]
    Twice(String),
    /// Something lies where a file or a folder of files belongs.
    #[error("{} is in the way: it is no folder that files could be put into, or no file", .0.display())]
    InTheWay(PathBuf),
    /// More than anybody means.
    #[error("there are more than {MOST_FILES} files at {0}")]
    TooMany(String),
    /// What the server says of its files cannot be understood.
    #[error("what {from} answers about its files cannot be understood: {why}")]
    Answer {
        /// The address.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// The lock has no file of an address.
    #[error("the lock does not have {0}")]
    NotLocked(String),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What was fetched cannot be read.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// MLflow's server says no.
    #[error(transparent)]
    Mlflow(#[from] mlflow::Error),
    /// A registry says no.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// An archive of files is none.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A file of this machine cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        let named = |name| ErrorKind::Unavailable.named(name);
        match self {
            Self::Download { source, .. } if source.is_refused() => named("model/refused").hint(
                "it wants a credential, or another one: HTTP servers' are in ~/.netrc, the hub's is HF_TOKEN, those of S3 are in the \
                 environment or in ~/.aws",
            ),
            Self::Download { source, .. } => source.explain(),
            Self::Other { whose: "the lock", .. } => ErrorKind::Stale
                .named("model/moved")
                .hint("take up what is there now with `ekiben lock --upgrade-models`"),
            Self::Other { whose: "the manifest", .. } => named("model/other")
                .hint("correct `sha256` in the manifest if the other bytes are right, or find out who changed them"),
            Self::Other { whose: "the list", .. } => named("model/other")
                .hint("another version lies there: publish that of the list again, or take the list of what is there now"),
            Self::Twice(_) => named("model/two-files").hint("fetch one of the addresses into another folder"),
            Self::InTheWay(_) => named("model/in-the-way").hint("remove it, or choose another folder"),
            Self::Other { .. } => named("model/other").hint("try again: it may have changed while it was fetched"),
            Self::Nothing(_) => named("model/nothing")
                .hint("a file is written with its whole name, a folder with `/` at its end; both in upper and lower case as they are"),
            Self::TooMany(_) => named("model/too-many").hint("name a folder of it, or its files one by one"),
            Self::Answer { .. } => named("model/answer"),
            Self::NotLocked(_) => ErrorKind::Stale.named("lock/stale").hint("renew it with `ekiben lock`"),
            Self::Store(error) => error.explain(),
            Self::Content(error) => error.explain(),
            Self::Mlflow(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Archive(error) => error.explain(),
            Self::Io(error) => error.explain(),
        }
    }
}

/// A file at an address, as far as its server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its path in the folder that the address names, or its own name.
    name: String,
    at: At,
    /// In bytes; none where only the end of the transfer tells.
    size: Option<u64>,
    digest: Option<Digest>,
    /// What tells this version of it from others.
    version: Option<String>,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Url(Url),
    /// A file of this machine.
    Path(PathBuf),
    /// The registry has them under their digest, or in an archive of which they came into the store.
    Registry,
}

/// What shows who asks.
enum Access {
    Nobody,
    Password(Credentials),
    /// A token (RFC 6750).
    Bearer(String),
    /// Each request is signed.
    Signed(s3::Bucket),
    /// The same headers with each request.
    Headers(HeaderMap),
}

/// Where the files of an address lie.
enum Source<'a> {
    /// A file, by HTTP.
    Http(&'a Url),
    /// A path of a repository on the hub.
    Hub { repository: &'a str, revision: &'a str, path: &'a str },
    /// An object, or all below a prefix.
    S3 { bucket: s3::Bucket, key: String },
    /// What an MLflow server hands on, below a path or at it.
    Artifacts { server: Box<mlflow::Server>, path: String },
    /// A folder of this machine.
    Folder(PathBuf),
    /// What a registry keeps, below a path or at it.
    Oci { artifact: oci::Artifact, path: &'a str },
}

/// A place, and who asks there.
struct Place<'a> {
    session: Session,
    source: Source<'a>,
    /// The address, for a person.
    from: String,
    /// Whether all of a folder is meant.
    is_folder: bool,
    /// What it resolved to, where that says which version of the files it is.
    version: Option<String>,
    access: Access,
}

impl<'a> Place<'a> {
    fn new(session: &Session, address: &'a Address) -> Result<Self, Error> {
        let (from, is_folder) = (address.to_string(), address.is_folder());
        let bucket = |name: &str| {
            let bucket = s3::Bucket::new(&session.client, name);
            bucket.map_err(|why| Error::Answer { from: from.clone(), why })
        };
        let mut session = session.clone();
        let mut version = None;
        let (source, access) = match address {
            Address::Path(path) => (Source::Folder(path.clone()), Access::Nobody),
            Address::Http(url) => {
                let known = url.host_str().and_then(|host| Netrc::of_person().credentials(host));
                (Source::Http(url), known.map_or(Access::Nobody, Access::Password))
            }
            Address::Hub { repository, revision, path } => (Source::Hub { repository, revision, path }, hub::access()),
            Address::S3 { bucket: name, key } => {
                let bucket = bucket(name)?;
                (Source::S3 { bucket: bucket.clone(), key: key.clone() }, Access::Signed(bucket))
            }
            Address::Oci { reference, path } => {
                (Source::Oci { artifact: oci::open(&session, reference)?, path }, Access::Nobody)
            }
            Address::Mlflow(at) => {
                let located = mlflow::locate(&session.client, at)?;
                version = Some(located.version);
                match located.place {
                    mlflow::Place::Server(server, path) => {
                        let access = Access::Headers(server.secrets());
                        session.client = server.client().clone();
                        (Source::Artifacts { server, path }, access)
                    }
                    mlflow::Place::S3 { bucket: name, key } => {
                        let bucket = bucket(&name)?;
                        let key = if is_folder { format!("{key}/") } else { key };
                        (Source::S3 { bucket: bucket.clone(), key }, Access::Signed(bucket))
                    }
                    mlflow::Place::Folder(folder) => (Source::Folder(folder), Access::Nobody),
                }
            }
        };
        Ok(Self { session, source, from, is_folder, version, access })
    }

    /// The headers for the origin that it is for.
    fn headers(&self, method: &Method, url: &Url) -> HeaderMap {
        let text = match &self.access {
            Access::Nobody => None,
            Access::Password(Credentials { name, password }) => Some(transport::basic(name, password)),
            Access::Bearer(token) => Some(format!("Bearer {token}")),
            Access::Headers(headers) => return headers.clone(),
            Access::Signed(bucket) => return bucket.sign(method, url, &self.session.progress),
        };
        text.and_then(|text| transport::authorization(&text)).unwrap_or_default()
    }

    /// A page of a listing, and where it goes on.
    fn page(&self, url: &Url) -> Result<(Option<Url>, Vec<u8>), Error> {
        let secrets = |method: &Method| self.headers(method, url);
        download::get(&self.session.client, url, &secrets, LARGEST_PAGE).map_err(|error| self.failed(error))
    }

    /// What is said of a file, without its content.
    fn head(&self, url: &Url) -> Result<Answer, Error> {
        let secrets = |method: &Method| self.headers(method, url);
        download::head(&self.session.client, url, &secrets).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: download::Error) -> Error {
        match source {
            source if source.is_missing() => Error::Nothing(self.from.clone()),
            source => Error::Download { from: self.from.clone(), source },
        }
    }

    fn answer(&self, why: impl ToString) -> Error {
        Error::Answer { from: self.from.clone(), why: why.to_string() }
    }

    /// What is there now. Nothing of it is fetched.
    fn find(&self) -> Result<Vec<Remote>, Error> {
        let mut found = match &self.source {
            Source::Http(url) => vec![http::find(self, url)?],
            Source::Hub { repository, revision, path } => hub::find(self, repository, revision, path)?,
            Source::S3 { bucket, key } => s3::find(self, bucket, key)?,
            Source::Artifacts { server, path } if self.is_folder => server.artifacts(path, &self.from)?,
            Source::Artifacts { server, path } => vec![server.artifact(path, &self.from)?],
            Source::Folder(folder) => mlflow::listed(folder)?,
            Source::Oci { artifact, path } => oci::find(self, artifact, path)?,
        };
        if let Some(version) = &self.version {
            // An object's own version says more.
            for remote in &mut found {
                remote.version = Some(match &remote.version {
                    Some(own) => format!("{version} {own}"),
                    None => version.clone(),
                });
            }
        }
        if found.len() > MOST_FILES {
            return Err(Error::TooMany(self.from.clone()));
        }
        if found.is_empty() {
            return Err(Error::Nothing(self.from.clone()));
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Fetches files into the store, some at once; gives their digests and sizes.
    fn fetch_all(&self, files: &[Remote], whose: &'static str) -> Result<Vec<(Digest, u64)>, Error> {
        let sizes = files.iter().map(|file| file.size);
        let what = match files {
            [one] => one.name.clone(),
            several => format!("{} files", several.len()),
        };
        let task = self.session.progress.task("Fetching", what.clone(), Unit::Bytes, sizes.sum());
        let fetched = AtomicBool::new(false);
        let results: Vec<OnceLock<(Digest, u64)>> = files.iter().map(|_| OnceLock::new()).collect();
        let numbers: Vec<usize> = (0..files.len()).rev().collect();
        parallel::side_by_side_on(AT_ONCE, numbers, |number| {
            let (Some(file), Some(result)) = (files.get(number), results.get(number)) else { return Ok(()) };
            let _ = result.set(self.fetch(file, whose, &task, &fetched)?);
            Ok::<(), Error>(())
        })?;
        let got: Vec<(Digest, u64)> = results.into_iter().filter_map(OnceLock::into_inner).collect();
        if fetched.into_inner() {
            task.finish(format!("Fetched {what} from {}", self.from));
        }
        Ok(got)
    }

    /// Fetches a file into the store; gives its digest and size.
    fn fetch(
        &self,
        remote: &Remote,
        whose: &'static str,
        task: &Task,
        fetched: &AtomicBool,
    ) -> Result<(Digest, u64), Error> {
        let session = &self.session;
        if let (Some(digest), Some(size)) = (remote.digest, remote.size)
            && session.store.has_blob(&digest)
        {
            task.advance(size);
            return Ok((digest, size));
        }
        fetched.store(true, Ordering::Relaxed);
        let other = |source| Error::Other { from: self.from.clone(), name: remote.name.clone(), whose, source };
        let got = match &remote.at {
            At::Url(url) => {
                let secrets = |method: &Method| self.headers(method, url);
                let got = download::content(session, url, &secrets, remote.size, remote.key().as_ref(), task);
                got.map_err(|error| match error {
                    download::Error::Keep { source: store::Error::Mismatch(source), .. } => other(source),
                    error => self.failed(error),
                })
            }
            At::Path(path) => copied(session, path),
            At::Registry => self.blob(remote, task),
        };
        let (digest, size) = got?;
        if let Some(expected) = remote.digest.filter(|expected| *expected != digest) {
            return Err(other(Mismatch::Digest { expected, actual: digest }));
        }
        // It stays as long as results of earlier work do.
        let key = remote.key().unwrap_or_else(|| Digest::of(format!("model {digest}")));
        session.store.cache(FETCHED, &key, (digest, size), vec![digest])?;
        Ok((digest, size))
    }
}

impl Place<'_> {
    /// Fetches a blob of a registry, under its digest.
    fn blob(&self, remote: &Remote, task: &Task) -> Result<(Digest, u64), Error> {
        let (Source::Oci { artifact, .. }, Some(digest), Some(size)) = (&self.source, remote.digest, remote.size)
        else {
            return Err(Error::Nothing(self.from.clone()));
        };
        let mut content = task.reading(artifact.repository.blob(digest, size, 0));
        self.session.store.put_blob(&mut content, &digest, size)?;
        Ok((digest, size))
    }
}

/// Results of earlier transfers, in the store.
const FETCHED: &str = "models";

impl Remote {
    /// What names its bytes where it lives, for as long as it has this version; none where that may be said of other bytes too.
    fn key(&self) -> Option<Digest> {
        // An entity tag that is weak (RFC 9110, section 8.8.3), or a date, is that of more than one content.
        let version =
            self.version.as_ref().filter(|version| !version.starts_with("W/") && !version.ends_with("GMT"))?;
        let At::Url(url) = &self.at else { return None };
        Some(Digest::of(format!("{url} {version} {}", self.size?)))
    }
}

/// Copies a file of this machine into the store.
fn copied(session: &Session, path: &Path) -> Result<(Digest, u64), Error> {
    let mut writer = session.store.blob_writer()?;
    std::io::copy(&mut fs_err::File::open(path)?, &mut writer)?;
    Ok(writer.commit()?)
}

/// A text as one segment of a path (RFC 3986, section 3.3), in the one spelling that signatures have (section 2.3).
fn encoded(text: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, &KEPT).to_string()
}

fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// Whether what was fetched before of a version is taken for what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A version that was fetched is not fetched again.
    InVersions,
    /// All is fetched.
    InBytes,
}

/// Fetches what is at `address` now, of which the one file has to have the digest `wanted`, and says what that was.
///
/// # Errors
/// When something cannot be fetched, or is not what the manifest or its server says.
pub fn lock(session: &Session, wanted: Option<Digest>, address: &Address, trust: Trust) -> Result<LockedModel, Error> {
    let place = Place::new(session, address)?;
    let whose = if wanted.is_some() { "the manifest" } else { "its server" };
    let mut found = place.find()?;
    for remote in &mut found {
        remote.digest = wanted.or(remote.digest);
        if let Some(key) = remote.key().filter(|_| trust == Trust::InVersions && remote.digest.is_none()) {
            remote.digest = session.store.cached::<(Digest, u64)>(FETCHED, &key).map(|(digest, _)| digest);
        }
    }
    let got = place.fetch_all(&found, whose)?.into_iter();
    let file =
        |(remote, (digest, size)): (Remote, _)| LockedFile { name: remote.name, size, digest, version: remote.version };
    Ok(LockedModel { from: place.from, files: found.into_iter().zip(got).map(file).collect() })
}

/// The address that means for ever what `address` means now: a version in the place of an alias, a commit in that of a branch.
/// One that says no such thing is the same.
///
/// # Errors
/// When nobody there can be asked, or nothing is there.
pub fn pinned(session: &Session, address: &Address) -> Result<Address, Error> {
    Ok(match address {
        Address::Mlflow(at) => Address::Mlflow(mlflow::pinned(&session.client, at)?),
        Address::Hub { repository, revision, path } => {
            let place = Place::new(session, address)?;
            let (repository, path) = (repository.clone(), path.clone());
            Address::Hub { revision: hub::commit(&place, &repository, revision)?, repository, path }
        }
        Address::Oci { reference, path } => {
            let digest = oci::open(session, reference)?.digest;
            Address::Oci { reference: reference.at(digest), path: path.clone() }
        }
        other => other.clone(),
    })
}

/// Which of the files that were locked are others now, gone, or new, by their names.
///
/// # Errors
/// When nobody there can be asked.
pub fn moved(session: &Session, address: &Address, locked: &LockedModel) -> Result<Vec<String>, Error> {
    let now = match Place::new(session, address)?.find() {
        // All of it is gone.
        Err(Error::Nothing(_)) => Vec::new(),
        now => now?,
    };
    let version = |name: &str| now.iter().find(|remote| remote.name == name).map(|remote| &remote.version);
    let mut moved: Vec<String> = locked
        .files
        .iter()
        .filter(|file| version(&file.name).is_none_or(|version| *version != file.version))
        .map(|file| file.name.clone())
        .collect();
    let is_known = |name: &str| locked.files.iter().any(|file| file.name == name);
    moved.extend(now.iter().filter(|remote| !is_known(&remote.name)).map(|remote| remote.name.clone()));
    Ok(moved)
}

/// The files of a locked model, fetched where they are not here.
///
/// # Errors
/// When one cannot be had, or is another than the lock says.
pub fn contents(session: &Session, address: &Address, locked: &LockedModel) -> Result<Vec<(String, Content)>, Error> {
    let missing = |file: &&LockedFile| !session.store.has_blob(&file.digest);
    if locked.files.iter().any(|file| missing(&file)) {
        let place = Place::new(session, address)?;
        let now = place.find()?;
        let wanted = locked.files.iter().filter(missing).map(|file| {
            let remote = now.iter().find(|remote| remote.name == file.name);
            let gone = || Error::Nothing(format!("{} any more: `{}`", locked.from, file.name));
            Ok(Remote { digest: Some(file.digest), size: Some(file.size), ..remote.ok_or_else(gone)?.clone() })
        });
        place.fetch_all(&wanted.collect::<Result<Vec<_>, Error>>()?, "the lock")?;
    }
    let content = |file: &LockedFile| Ok((file.name.clone(), Content::file(&session.store.blob_path(&file.digest))?));
    locked.files.iter().map(content).collect()
}
