//! One request and its answer. Nothing is repeated here, and nobody is logged in: see [`super::client`].
//!
//! reqwest's blocking client hands bodies over in pieces of 8 KiB and cannot watch for a stalled upload, so its
//! asynchronous one runs on two threads of its own, and bodies go to it in large pieces. HTTP/1.1 only: each blob has
//! a connection to itself, and a reset of one harms no other.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};

use super::{Error, trust};

/// What is read from a source and handed over at once, in bytes.
const PIECE: usize = 256 << 10;

/// How long a connection may stand still.
const STALL: Duration = Duration::from_secs(60);

/// How long a registry may take to commit what it was sent: some copy it between object stores first.
const COMMIT: Duration = Duration::from_secs(900);

/// Longest text of a refusal that is read, in bytes.
const LONGEST_REFUSAL: u64 = 16 << 10;

/// Connections, each client with the certificates for one host.
pub(super) struct Transport {
    runtime: tokio::runtime::Runtime,
    clients: Mutex<HashMap<String, Client>>,
    ca: Vec<PathBuf>,
    offline: bool,
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: Payload<'a>,
}

/// What a request carries.
pub(super) enum Payload<'a> {
    /// Nothing.
    Empty,
    /// A text.
    Bytes(Bytes),
    /// A part of a blob.
    Part { source: &'a mut (dyn Pieces + 'a), from: u64, length: u64 },
}

impl Call<'_> {
    pub(super) fn new(method: Method) -> Self {
        Self { method, headers: Vec::new(), payload: Payload::Empty }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Gives a blob's bytes piece by piece.
pub(super) trait Pieces {
    /// Exactly `length` bytes from the offset `from` on.
    fn read(&mut self, from: u64, length: usize) -> Result<Vec<u8>, Error>;
}

/// Opens a blob's bytes from an offset on.
pub(super) type Open<'a> = Box<dyn Fn(u64) -> Result<Box<dyn Read + Send + 'a>, Error> + Send + 'a>;

/// A blob that is read from front to back, and opened again only to go back.
pub(super) struct Cursor<'a> {
    open: Open<'a>,
    size: u64,
    reader: Option<(u64, Box<dyn Read + Send + 'a>)>,
    advance: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Cursor<'a> {
    /// `advance` is told of bytes as they are read.
    pub(super) fn new(size: u64, open: Open<'a>, advance: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { open, size, reader: None, advance }
    }
}

impl Pieces for Cursor<'_> {
    fn read(&mut self, from: u64, length: usize) -> Result<Vec<u8>, Error> {
        let (mut position, mut reader) = match self.reader.take() {
            Some((position, reader)) if position <= from => (position, reader),
            _ => (from, (self.open)(from)?),
        };
        if position < from {
            position += io::copy(&mut (&mut reader).take(from - position), &mut io::sink()).map_err(Error::from_io)?;
        }
        let mut piece = Vec::with_capacity(length);
        (&mut reader).take(length as u64).read_to_end(&mut piece).map_err(Error::from_io)?;
        position += piece.len() as u64;
        if position < from + length as u64 {
            return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        if position == self.size {
            // A source that has more, or finds at its end that something is wrong, says so before the last piece is out.
            io::copy(&mut (&mut reader).take(1), &mut io::sink()).map_err(Error::from_io)?;
        }
        (self.advance)(piece.len() as u64);
        self.reader = Some((position, reader));
        Ok(piece)
    }
}

/// An answer whose body was not read yet.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    body: Body,
}

/// The body of an answer.
pub(super) struct Body {
    runtime: tokio::runtime::Handle,
    response: reqwest::Response,
    rest: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let chunk = self.runtime.block_on(async { tokio::time::timeout(STALL, self.response.chunk()).await });
            let chunk = chunk.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            self.rest = chunk.map_err(|error| io::Error::other(error.without_url()))?.unwrap_or_default();
        }
        let taken = self.rest.split_to(self.rest.len().min(buffer.len()));
        if let Some(buffer) = buffer.get_mut(..taken.len()) {
            buffer.copy_from_slice(&taken);
        }
        Ok(taken.len())
    }
}

impl Transport {
    pub(super) fn new(offline: bool, ca: Vec<PathBuf>) -> Result<Self, Error> {
        crate::image::download::install_tls();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { runtime, clients: Mutex::default(), ca, offline })
    }

    /// The client for the host of `url`.
    fn client(&self, url: &Url) -> Result<Client, Error> {
        let host = authority(url);
        let key = format!("{}://{host}", url.scheme());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let builder = Client::builder()
            .user_agent(concat!("ekiben/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(20));
        // Loading the system's certificates takes longer than asking a registry beside us.
        let builder = match url.scheme() {
            "https" => trust::configure(builder, &host, &self.ca)?,
            _ => builder.tls_certs_only([]),
        };
        // As everywhere: a proxy is never asked for this machine.
        let builder = if is_loopback(url.host_str().unwrap_or_default()) { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| transport(url, error))?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// Sends one request, and waits for the head of its answer.
    pub(super) fn send(&self, url: &Url, call: &mut Call<'_>, authorization: Option<&str>) -> Result<Answer, Error> {
        if self.offline {
            return Err(Error::Offline { url: shown(url) });
        }
        let mut request = self.client(url)?.request(call.method.clone(), url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            let protocol =
                |_| Error::Protocol { url: shown(url), why: "the credentials fit into no header".to_owned() };
            let mut value = HeaderValue::from_str(authorization).map_err(protocol)?;
            value.set_sensitive(true);
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        let response = match &mut call.payload {
            Payload::Part { source, from, length } => self.stream(url, request, *source, *from, *length)?,
            payload => {
                let body = match payload {
                    Payload::Bytes(bytes) => bytes.clone(),
                    _ => Bytes::new(),
                };
                let request = match call.method {
                    Method::GET | Method::HEAD => request,
                    _ => request.header(reqwest::header::CONTENT_LENGTH, body.len()).body(body),
                };
                let patience = if call.method == Method::PUT { COMMIT } else { STALL };
                self.runtime.block_on(async { tokio::time::timeout(patience, request.send()).await })
            }
        };
        let response = response.map_err(|_| transport(url, "it did not answer in time"))?;
        let response = response.map_err(|error| transport(url, error.without_url()))?;
        Ok(Answer {
            status: response.status().as_u16(),
            method: call.method.clone(),
            url: url.clone(),
            headers: response.headers().clone(),
            body: Body { runtime: self.runtime.handle().clone(), response, rest: Bytes::new() },
        })
    }

    /// Sends `length` bytes of a blob. The registry may answer before it has them all.
    #[allow(clippy::type_complexity)]
    fn stream(
        &self,
        url: &Url,
        request: reqwest::RequestBuilder,
        source: &mut dyn Pieces,
        from: u64,
        length: u64,
    ) -> Result<Result<reqwest::Result<reqwest::Response>, tokio::time::error::Elapsed>, Error> {
        let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(4);
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let request = request
            .header(reqwest::header::CONTENT_LENGTH, length)
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .body(reqwest::Body::wrap_stream(pieces));
        let answer = self.runtime.spawn(request.send());
        let mut sent = 0;
        while sent < length {
            let size = (length - sent).min(PIECE as u64);
            let piece = match source.read(from + sent, size as usize) {
                Ok(piece) => piece,
                Err(error) => {
                    // The registry must not take what was sent for the whole.
                    answer.abort();
                    return Err(error);
                }
            };
            sent += size;
            let given = sender.send_timeout(Ok(Bytes::from(piece)), STALL);
            match self.runtime.block_on(given) {
                Ok(()) => {}
                // It answered already, or is gone: the answer tells.
                Err(tokio::sync::mpsc::error::SendTimeoutError::Closed(_)) => break,
                Err(tokio::sync::mpsc::error::SendTimeoutError::Timeout(_)) => {
                    answer.abort();
                    return Err(transport(url, "it takes no more bytes"));
                }
            }
        }
        drop(sender);
        let answered = self.runtime.block_on(async { tokio::time::timeout(COMMIT, answer).await });
        Ok(match answered {
            Ok(joined) => Ok(joined.map_err(|error| transport(url, error))?),
            Err(elapsed) => Err(elapsed),
        })
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The address in `Location`.
    pub(super) fn location(&self) -> Option<Url> {
        self.url.join(self.header("location")?).ok()
    }

    pub(super) fn body(self) -> Body {
        self.body
    }

    /// The whole body, of at most `limit` bytes.
    pub(super) fn bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let url = self.url;
        self.body.take(limit + 1).read_to_end(&mut bytes).map_err(|error| transport(&url, error))?;
        if bytes.len() as u64 > limit {
            return Err(Error::Protocol { url: shown(&url), why: format!("the answer has more than {limit} bytes") });
        }
        Ok(bytes)
    }

    /// The refusal that this is.
    pub(super) fn refusal(self) -> Error {
        let (method, url, status) = (self.method.to_string(), shown(&self.url), self.status);
        let retry_after = self.header("retry-after").and_then(retry_after);
        let mut text = Vec::new();
        // What cannot be read says nothing.
        let _ = self.body.take(LONGEST_REFUSAL).read_to_end(&mut text);
        Error::Status { method, url, status, message: message(&text), retry_after }
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(date.duration_since(jiff::Timestamp::now()).try_into().unwrap_or_default())
}

/// What a registry says in its refusal (distribution specification 1.1, "Error Codes"), short and printable.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let Some(One { code, message }) = errors.into_iter().next() else { return String::new() };
    let text = if message.is_empty() { code } else { message };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

pub(super) fn transport(url: &Url, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Transport { url: shown(url), source: source.into() }
}

/// An address for a person: without its query, which may be signed.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

/// Host and port, where one is given.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a host (without a port) is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Shared by all who talk to registries in one command.
pub(super) type Shared = Arc<Transport>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_may_be_secret() {
        let url = Url::parse("https://me:secret@r.example:5000/v2/a/blobs/uploads/1?_state=signed").unwrap();
        assert_eq!(shown(&url), "https://r.example:5000/v2/a/blobs/uploads/1");
    }

    #[test]
    fn waiting_times_are_seconds_or_dates() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
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

    #[test]
    fn a_cursor_goes_back_and_forth() {
        let bytes: Vec<u8> = (0..=255).collect();
        let opened = std::sync::atomic::AtomicU32::new(0);
        let open: Open<'_> = Box::new(|from| {
            opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Box::new(io::Cursor::new(bytes[from as usize..].to_vec())))
        });
        let mut cursor = Cursor::new(256, open, &|_| {});
        assert_eq!(cursor.read(0, 10).unwrap(), bytes[..10]);
        assert_eq!(cursor.read(20, 10).unwrap(), bytes[20..30]);
        assert_eq!(opened.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(cursor.read(5, 10).unwrap(), bytes[5..15]);
        assert_eq!(opened.load(std::sync::atomic::Ordering::Relaxed), 2);
        assert!(cursor.read(250, 10).is_err());
    }
}
