//! The way to the network for plain downloads: bounded, verified, retried, and closed with `--offline`.
//!
//! Certificates are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), proxies those of the environment.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::image::store::{self, Store};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::progress::Task;

/// Why something was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--offline` was given, and it is not in the cache.
    #[error("{url} is needed, but not in the cache, and the network is off (--offline)")]
    Offline {
        /// What was asked for.
        url: String,
    },
    /// Something else failed before, so that nobody needs it any more.
    #[error("{url} is not needed any more")]
    Stopped {
        /// What was asked for.
        url: String,
    },
    /// The server answered, but not with the content.
    #[error("{url}: the server answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No whole answer came.
    #[error("{url} could not be downloaded")]
    Transport {
        /// What was asked for.
        url: String,
        /// What broke off: the name, the connection, or the body.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is larger than is sensible for what it should be.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The bytes that came are not the promised ones, or could not be kept.
    #[error("{url} could not be kept")]
    Keep {
        /// What was asked for.
        url: String,
        /// Why: a mismatch of digest or size, or the disk.
        source: store::Error,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Offline { .. } => {
                ErrorKind::Unavailable.named("download/offline").hint("run once without `--offline`")
            }
            Self::Stopped { .. } => ErrorKind::Unavailable.named("download/stopped"),
            Self::Status { .. } => ErrorKind::Unavailable.named("download/status"),
            Self::Transport { .. } => ErrorKind::Unavailable
                .named("download/unreachable")
                .hint("check the network, and the proxy's variables (`https_proxy`)"),
            Self::TooLarge { .. } => ErrorKind::Unavailable.named("download/too-large"),
            Self::Keep { source, .. } => ErrorKind::Unavailable.named("download/not-kept").or(source),
        }
    }
}

impl Error {
    /// Asking again may help: a lost connection, or a server that said so.
    fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            Self::Transport { .. } => true,
            _ => false,
        }
    }

    /// The server has no such thing (any more).
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}

/// What a person says about the network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Each request fails with [`Error::Offline`].
    pub offline: bool,
    /// Files with certificates of authorities that are trusted beside the system's.
    pub ca: Vec<PathBuf>,
    /// Registries (`HOST[:PORT]`) that are spoken to without TLS.
    pub plain_http: Vec<String>,
}

/// A name and a password (RFC 7617).
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// An answer in memory.
pub struct Page {
    /// Where it came from in the end.
    pub url: String,
    /// What came.
    pub bytes: Vec<u8>,
}

/// Downloads over HTTP. Cheap to clone; connections are shared, and none is opened before the first request.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<OnceLock<reqwest::blocking::Client>>,
    network: Arc<Network>,
    stopped: Arc<AtomicBool>,
}

impl Client {
    const TRIES: u32 = 4;

    /// A client; with `offline` each request fails with [`Error::Offline`].
    pub fn new(offline: bool) -> Self {
        Self::with(Network { offline, ..Network::default() })
    }

    /// A client for the network as a person says that it is.
    pub fn with(network: Network) -> Self {
        Self { inner: Arc::default(), network: Arc::new(network), stopped: Arc::default() }
    }

    /// The same client, which can be stopped by itself.
    pub fn apart(&self) -> Self {
        Self { stopped: Arc::default(), ..self.clone() }
    }

    /// From now on each request fails at once with [`Error::Stopped`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What was said about the network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether requests fail at once.
    pub fn is_offline(&self) -> bool {
        self.network.offline
    }

    /// The same client, which trusts the authorities in further files.
    pub fn trusting_also(&self, ca: Vec<PathBuf>) -> Self {
        if ca.is_empty() {
            return self.clone();
        }
        let mut network = Network::clone(&self.network);
        network.ca.extend(ca);
        Self { inner: Arc::default(), network: Arc::new(network), stopped: self.stopped.clone() }
    }

    /// Downloads `url` into memory.
    ///
    /// # Errors
    /// See [`Error`]; more than `limit` bytes are [`Error::TooLarge`].
    pub fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        Ok(self.page(url, "*/*", None, limit)?.bytes)
    }

    /// Downloads `url` into memory, in one of the media types `accepted` (RFC 9110, 12.5.1). `credentials` go to its host
    /// alone, not to where it redirects.
    ///
    /// # Errors
    /// As [`Client::bytes`].
    pub fn page(
        &self,
        url: &str,
        accepted: &str,
        credentials: Option<&Credentials>,
        limit: u64,
    ) -> Result<Page, Error> {
        let shown = without_password(url);
        self.retrying(|| {
            let mut bytes = Vec::new();
            let answer = self.get(url, accepted, credentials)?;
            let from = answer.url().to_string();
            answer
                .take(limit.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(|source| Error::Transport { url: shown.clone(), source: source.into() })?;
            if bytes.len() as u64 > limit {
                return Err(Error::TooLarge { url: shown.clone(), limit });
            }
            Ok(Page { url: from, bytes })
        })
    }

    /// Downloads `url` into the store, unless it is there: exactly `size` bytes with the digest `digest`.
    /// `task` advances by the bytes that come in.
    ///
    /// # Errors
    /// See [`Error`]. Nothing is kept then.
    pub fn blob(&self, url: &str, digest: &Digest, size: u64, store: &Store, task: &Task) -> Result<(), Error> {
        if store.has_blob(digest) {
            task.advance(size);
            return Ok(());
        }
        self.retrying(|| {
            let mut body = Watched { inner: task.reading(self.get(url, "*/*", None)?), failed: None };
            store.put_blob(&mut body, digest, size).map_err(|source| match body.failed.take() {
                Some(source) => Error::Transport { url: url.to_owned(), source: source.into() },
                None => Error::Keep { url: url.to_owned(), source },
            })
        })
    }

    fn get(
        &self,
        url: &str,
        accepted: &str,
        credentials: Option<&Credentials>,
    ) -> Result<reqwest::blocking::Response, Error> {
        let shown = || without_password(url);
        if self.network.offline {
            return Err(Error::Offline { url: shown() });
        }
        if self.is_stopped() {
            return Err(Error::Stopped { url: shown() });
        }
        let transport = |source: reqwest::Error| Error::Transport { url: shown(), source: source.without_url().into() };
        let client = match self.inner.get() {
            Some(client) => client,
            None => {
                let built = self.build(url)?;
                self.inner.get_or_init(|| built)
            }
        };
        let mut request = client.get(url).header(reqwest::header::ACCEPT, accepted);
        if let Some(Credentials { name, password }) = credentials {
            request = request.basic_auth(name, Some(password));
        }
        let response = request.send().map_err(transport)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(Error::Status { url: shown(), status: status.as_u16() }),
        }
    }

    fn build(&self, url: &str) -> Result<reqwest::blocking::Client, Error> {
        let transport = |source| Error::Transport { url: url.to_owned(), source };
        install_tls();
        let builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("ekiben/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            // Of the blocking client: for each read, not for the whole answer.
            .timeout(Duration::from_secs(60));
        let builder = trusting(builder, &self.network.ca).map_err(transport)?;
        builder.build().map_err(|error| transport(error.into()))
    }

    fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut wait = Duration::from_millis(250);
        for _ in 1..Self::TRIES {
            match attempt() {
                Err(error) if error.is_passing() => std::thread::sleep(wait),
                result => return result,
            }
            wait *= 2;
        }
        attempt()
    }
}

/// An address for people: without name and password.
pub fn without_password(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            // Neither can fail for an address with a host.
            let _ = (parsed.set_username(""), parsed.set_password(None));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}

/// A client that trusts the authorities in the files `ca` beside the system's.
///
/// # Errors
/// When a file cannot be read, or holds no certificates.
pub fn trusting(
    mut builder: reqwest::blocking::ClientBuilder,
    ca: &[PathBuf],
) -> Result<reqwest::blocking::ClientBuilder, Box<dyn std::error::Error + Send + Sync>> {
    for file in ca {
        let authorities = reqwest::Certificate::from_pem_bundle(&fs_err::read(file)?)?;
        builder = builder.tls_certs_merge(authorities);
    }
    Ok(builder)
}

/// Chooses the implementation of TLS's cryptography for this process; every HTTP client needs that first.
pub fn install_tls() {
    // Err means that it was done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Remembers an error of the source, to tell it from one of the disk.
struct Watched<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let again = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            again
        })
    }
}
