//! Where files of a model live that are not in the project: what is at an address, told and fetched.
//!
//! Invariants: what is fetched is kept under its digest, and nothing of it is used that has another than the lock says.
//! The lock is trust on first use: by HTTP and S3 nobody says a digest, so the first one that comes is believed; where the
//! manifest or the hub says one, it is not. A credential goes to the server that it is for, and into no lock.

mod http;
mod hub;
mod s3;

use url::Url;

use crate::image::download::{self, Credentials, Netrc};
use crate::image::session::Session;
use crate::image::store;
use crate::io::content::{self, Content};
use crate::io::digest::{Digest, Mismatch};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::http::header::HeaderMap;
use crate::io::http::{self as transport, Answer, Method};
use crate::io::progress::Unit;
use crate::project::address::Address;
use crate::project::lock::{LockedFile, LockedModel};
use crate::project::manifest::Elsewhere;

/// Most files that one address may stand for.
const MOST_FILES: usize = 10_000;

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
            Self::Other { .. } => named("model/other").hint("try again: it may have changed while it was fetched"),
            Self::Nothing(_) => named("model/nothing"),
            Self::TooMany(_) => named("model/too-many").hint("name a folder of it, or its files one by one"),
            Self::Answer { .. } => named("model/answer"),
            Self::NotLocked(_) => ErrorKind::Stale.named("lock/stale").hint("renew it with `ekiben lock`"),
            Self::Store(error) => error.explain(),
            Self::Content(error) => error.explain(),
        }
    }
}

/// A file at an address, as far as its server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its path in the folder that the address names, or its own name.
    name: String,
    url: Url,
    /// In bytes; none where only the end of the transfer tells.
    size: Option<u64>,
    digest: Option<Digest>,
    /// What tells this version of it from others.
    version: Option<String>,
}

/// What shows who asks.
enum Access {
    Nobody,
    Password(Credentials),
    /// A token (RFC 6750).
    Bearer(String),
    /// Each request is signed.
    Signed(s3::Bucket),
}

/// A place, and who asks there.
struct Place<'a> {
    session: &'a Session,
    address: &'a Address,
    /// The address, for a person.
    from: String,
    access: Access,
}

impl<'a> Place<'a> {
    fn new(session: &'a Session, address: &'a Address) -> Result<Self, Error> {
        let from = address.to_string();
        let access = match address {
            Address::Path(_) => Access::Nobody,
            Address::Http(url) => {
                let known = url.host_str().and_then(|host| Netrc::of_person().credentials(host));
                known.map_or(Access::Nobody, Access::Password)
            }
            Address::Hub { .. } => hub::access(),
            Address::S3 { bucket, .. } => {
                let bucket = s3::Bucket::new(&session.client, bucket);
                Access::Signed(bucket.map_err(|why| Error::Answer { from: from.clone(), why })?)
            }
        };
        Ok(Self { session, address, from, access })
    }

    /// The headers for the origin that it is for.
    fn headers(&self, method: &Method, url: &Url) -> HeaderMap {
        let text = match &self.access {
            Access::Nobody => None,
            Access::Password(Credentials { name, password }) => Some(transport::basic(name, password)),
            Access::Bearer(token) => Some(format!("Bearer {token}")),
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
        let mut found = match (self.address, &self.access) {
            (Address::Http(url), _) => vec![http::find(self, url)?],
            (Address::Hub { repository, revision, path }, _) => hub::find(self, repository, revision, path)?,
            (Address::S3 { key, .. }, Access::Signed(bucket)) => s3::find(self, bucket, key)?,
            // What lies on this machine is a file of the project.
            _ => Vec::new(),
        };
        if found.len() > MOST_FILES {
            return Err(Error::TooMany(self.from.clone()));
        }
        if found.is_empty() {
            return Err(Error::Nothing(self.from.clone()));
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Fetches a file into the store; gives its digest and size.
    fn fetch(&self, remote: &Remote, whose: &'static str) -> Result<(Digest, u64), Error> {
        let session = self.session;
        if let (Some(digest), Some(size)) = (remote.digest, remote.size)
            && session.store.has_blob(&digest)
        {
            return Ok((digest, size));
        }
        let other = |source| Error::Other { from: self.from.clone(), name: remote.name.clone(), whose, source };
        let task = session.progress.task("Fetching", remote.name.clone(), Unit::Bytes, remote.size);
        let secrets = |method: &Method| self.headers(method, &remote.url);
        let (digest, size) = match download::content(session, &remote.url, &secrets, remote.size, &task) {
            Err(download::Error::Keep { source: store::Error::Mismatch(source), .. }) => return Err(other(source)),
            got => got.map_err(|source| self.failed(source))?,
        };
        if let Some(expected) = remote.digest.filter(|expected| *expected != digest) {
            return Err(other(Mismatch::Digest { expected, actual: digest }));
        }
        task.finish(format!("Fetched {} from {}", remote.name, self.from));
        // It stays as long as results of earlier work do.
        let key = Digest::of(format!("model {digest}"));
        session.store.cache("models", &key, &self.from, vec![digest])?;
        Ok((digest, size))
    }
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

/// Fetches what is at `address` now, and says what that was.
///
/// # Errors
/// When something cannot be fetched, or is not what the manifest or its server says.
pub fn lock(session: &Session, elsewhere: &Elsewhere, address: &Address) -> Result<LockedModel, Error> {
    let place = Place::new(session, address)?;
    let wanted = elsewhere.digest();
    let mut files = Vec::new();
    for mut remote in place.find()? {
        let whose = if wanted.is_some() { "the manifest" } else { "its server" };
        remote.digest = wanted.or(remote.digest);
        let (digest, size) = place.fetch(&remote, whose)?;
        files.push(LockedFile { name: remote.name, size, digest, version: remote.version });
    }
    Ok(LockedModel { from: place.from, files })
}

/// Which of the files that were locked are others now, gone, or new, by their names.
///
/// # Errors
/// When nobody there can be asked, or nothing is there any more.
pub fn moved(session: &Session, address: &Address, locked: &LockedModel) -> Result<Vec<String>, Error> {
    let now = Place::new(session, address)?.find()?;
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
        for file in locked.files.iter().filter(missing) {
            let Some(remote) = now.iter().find(|remote| remote.name == file.name) else {
                return Err(Error::Nothing(format!("{} any more: `{}`", locked.from, file.name)));
            };
            let remote = Remote { digest: Some(file.digest), size: Some(file.size), ..remote.clone() };
            place.fetch(&remote, "the lock")?;
        }
    }
    let content = |file: &LockedFile| Ok((file.name.clone(), Content::file(&session.store.blob_path(&file.digest))?));
    locked.files.iter().map(content).collect()
}
