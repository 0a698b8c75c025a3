//! What a server answers.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use tokio::runtime::Runtime;
use url::Url;

use super::policy::{self, Verdict};
use super::stop::{Interrupted, Stop};
use super::{Error, shown};
use crate::io::explain::{carried, carry};

/// An answer whose body was not read yet.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What was asked with.
    pub method: Method,
    /// What was asked for.
    pub url: Url,
    /// All headers.
    pub headers: HeaderMap,
    pub(super) body: Body,
}

impl Answer {
    /// The header `name`, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The status with its words.
    pub fn code(&self) -> StatusCode {
        self.body.response.status()
    }

    /// Whether the status is one of success (2xx).
    pub fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The address in `Location`.
    pub fn location(&self) -> Option<Url> {
        self.url.join(self.header("location")?).ok()
    }

    /// The number of bytes that the body has, where that is said.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        policy::retry_after(self.header("retry-after")?, Timestamp::now())
    }

    /// Whether to ask again.
    pub fn verdict(&self) -> Verdict {
        Verdict::of_status(self.status, self.retry_after())
    }

    /// Where a redirection leads; none where this is no redirection.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it leads nowhere, or from TLS to where there is none.
    pub fn redirection(&self) -> Result<Option<Url>, Error> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let next = self.location().ok_or_else(|| Error::protocol(&self.url, "it redirects to nowhere"))?;
        match keeps_secure(&self.url, &next) {
            true => Ok(Some(next)),
            false => Err(Error::protocol(&self.url, "it redirects to where there is no TLS")),
        }
    }

    /// The body, to be read as it comes.
    pub fn body(self) -> Body {
        self.body
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`Error::Transport`] when it breaks off, [`Error::TooLarge`] when it has more than `limit` bytes.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.body.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| broken(&self.url, error))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { url: shown(&self.url), limit });
        }
        Ok(bytes)
    }

    /// What came of the body, of its first `limit` bytes: what breaks off says what it has said.
    pub fn beginning(self, limit: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.body.take(limit).read_to_end(&mut bytes);
        bytes
    }
}

/// The body of an answer. Its errors are an [`Error`] where it was stopped, and else those of the connection.
pub struct Body {
    pub(super) runtime: &'static Runtime,
    pub(super) stop: Stop,
    pub(super) response: reqwest::Response,
    pub(super) rest: Bytes,
    /// For each piece.
    pub(super) patience: Option<Duration>,
    /// For all of it.
    pub(super) until: Option<Instant>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let most = most(self.patience, self.until);
            let chunk = self.stop.wait(self.runtime, self.response.chunk(), most);
            let chunk = chunk.map_err(|interrupted| match interrupted {
                Interrupted::Stopped => carry(Error::Stopped { url: shown(self.response.url()) }),
                Interrupted::Late => {
                    let time = self.patience.or(most).unwrap_or_default();
                    io::Error::other(format!("nothing more came within {} s", time.as_secs().max(1)))
                }
            })?;
            self.rest = chunk.map_err(|error| io::Error::other(error.without_url()))?.unwrap_or_default();
        }
        let taken = self.rest.split_to(self.rest.len().min(buffer.len()));
        if let Some(buffer) = buffer.get_mut(..taken.len()) {
            buffer.copy_from_slice(&taken);
        }
        Ok(taken.len())
    }
}

/// The shorter of a time, and of that which is left.
pub(super) fn most(patience: Option<Duration>, until: Option<Instant>) -> Option<Duration> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    [patience, left].into_iter().flatten().min()
}

/// An error of a [`Body`].
pub(super) fn broken(url: &Url, error: io::Error) -> Error {
    carried(error).unwrap_or_else(|error| Error::transport(url, error))
}

/// Whether TLS is not left on the way.
fn keeps_secure(from: &Url, to: &Url) -> bool {
    from.scheme() != "https" || to.scheme() == "https"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_not_left() {
        for (from, to, keeps) in [
            ("https://a.example", "https://b.example", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "file:///etc/passwd", false),
            ("http://a.example", "https://a.example", true),
            ("http://a.example", "http://b.example", true),
        ] {
            assert_eq!(keeps_secure(&from.parse().unwrap(), &to.parse().unwrap()), keeps, "{from} {to}");
        }
    }

    #[test]
    fn the_shorter_time_counts() {
        let (long, short) = (Duration::from_secs(60), Duration::from_secs(1));
        let past = Instant::now();
        assert_eq!(most(None, None), None);
        assert_eq!(most(Some(short), None), Some(short));
        assert_eq!(most(Some(short), Some(past)), Some(Duration::ZERO));
        assert_eq!(most(Some(short), Some(past + long)), Some(short));
    }
}
