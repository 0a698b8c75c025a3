//! HTTP: the one way to the network, for files of mirrors and indexes, for registries, and for services that are asked.
//!
//! Invariants: with [`Network::Offline`] no connection is opened; secrets go to the origin that they are meant for, and
//! are shown nowhere; nothing leads from where there is TLS to where there is none; this machine is never asked for
//! through a proxy. What is tried again, how often and after how long, is said by [`Policy`] alone.
//!
//! RFC 9110. Certificates are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and those that are named,
//! proxies those of the environment. HTTP/1.1 only: each transfer has a connection to itself, and a reset of one harms
//! no other.

mod answer;
mod broken;
mod client;
mod policy;
mod reach;
mod request;
mod stop;
#[cfg(test)]
pub(crate) mod testing;
mod transfer;
mod trust;

pub use answer::{Answer, Body};
pub use broken::Broken;
pub use client::{Client, Redirects};
pub use policy::{Judged, Policy, Tries, Verdict};
pub use reach::{SHORT, finding, proxies};
pub use request::{Cursor, Open, Part, Patience, Payload, Pieces, Request};
pub use reqwest::{Method, StatusCode, header};
pub use transfer::Transfer;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use header::{HeaderMap, HeaderValue};
use url::Url;

use crate::io::digest::Mismatch;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(20);

/// Whether the network may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// It may.
    #[default]
    Online,
    /// It may not: each request fails with [`Error::Offline`].
    Offline,
}

/// What a person says about the network.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether it may be used.
    pub network: Network,
    /// Files with certificates of authorities that are trusted beside the system's.
    pub ca: Vec<PathBuf>,
    /// Registries (`HOST[:PORT]`) that are spoken to without TLS.
    pub plain_http: Vec<String>,
}

/// Why there is no answer, or no whole one. Each room that asks says it in its own words; addresses are shown as
/// [`shown`] has them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network may not be used.
    #[error("{url} is needed, and the network is off (--offline)")]
    Offline {
        /// What was asked for.
        url: String,
    },
    /// Somebody stopped the client.
    #[error("{url} is not needed any more")]
    Stopped {
        /// What was asked for.
        url: String,
    },
    /// No whole answer came.
    #[error("{url} could not be reached")]
    Transport {
        /// What was asked for.
        url: String,
        /// What broke off: the name, the connection, or the body.
        source: Broken,
    },
    /// The answer is larger than is sensible for what it should be.
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The answer has another size than was promised.
    #[error("{url} sent other bytes than were promised")]
    Wrong {
        /// What was asked for.
        url: String,
        /// The promised size, and that of what came.
        source: Mismatch,
    },
    /// The answer is not what the specification allows, or the request is none that can be sent.
    #[error("{url}: {why}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// Why, as a fragment that follows the address.
        why: String,
    },
    /// A file with certificates cannot be used.
    #[error("{} cannot be used", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The system's answer, or what its text lacks.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was to be sent cannot be read.
    #[error(transparent)]
    Source(io::Error),
    /// The threads that ask cannot be started.
    #[error(transparent)]
    Threads(io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Offline { .. } => ErrorKind::Unavailable.named("http/offline").hint("run once without `--offline`"),
            Self::Stopped { .. } => ErrorKind::Unavailable.named("http/stopped"),
            Self::Transport { .. } => ErrorKind::Unavailable.named("http/unreachable"),
            Self::TooLarge { .. } => ErrorKind::Unavailable.named("http/too-large"),
            Self::Wrong { .. } => ErrorKind::Unavailable.named("http/wrong-bytes"),
            Self::Protocol { .. } => ErrorKind::Unavailable.named("http/protocol"),
            Self::Certificates { .. } => ErrorKind::Failure.named("http/certificates"),
            Self::Source(error) | Self::Threads(error) => error.explain(),
        }
    }
}

impl Error {
    fn transport(url: &Url, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Transport { url: shown(url), source: Broken::of(url, &*source.into()) }
    }

    fn protocol(url: &Url, why: impl Into<String>) -> Self {
        Self::Protocol { url: shown(url), why: why.into() }
    }

    fn of_reqwest(url: &Url, error: reqwest::Error) -> Self {
        // A header that cannot be sent.
        if error.is_builder() {
            return Self::protocol(url, std::error::Error::source(&error).unwrap_or(&error).to_string());
        }
        Self::transport(url, error.without_url())
    }
}

impl Judged for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Transport { source, .. } => source.verdict(),
            _ => Verdict::Final,
        }
    }
}

/// An address for a person: without a name and a password, and without its query, which may be signed.
pub fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

/// Host and port, where one is given.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a host (without a port) is this machine.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A name and a password as they are shown to a server (RFC 7617).
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// The header `Authorization`, which is kept out of what is said; none where the text fits into no header.
pub fn authorization(text: &str) -> Option<HeaderMap> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_may_be_secret() {
        let url = Url::parse("https://me:secret@r.example:5000/v2/a/blobs/uploads/1?_state=signed").unwrap();
        assert_eq!(shown(&url), "https://r.example:5000/v2/a/blobs/uploads/1");
        let secret = authorization(&basic("me", "secret")).unwrap();
        assert!(!format!("{secret:?}").contains("Basic"), "{secret:?}");
        assert!(authorization("a\nb").is_none());
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "127.0.0.1.example", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
