//! Talking to a model's service: waiting until it is ready, asking it, and comparing its answers. It is asked once: what
//! it does with a question is not known here.
//!
//! Invariant: credentials go to no other server than the one that was named, wherever it redirects.

mod credentials;
mod outcome;
mod request_id;
mod sent;
mod traceback;
mod transcript;

pub use credentials::{Credentials, Error as CredentialError};
pub use outcome::{Body, DiffLine, Difference, Example, Outcome, Verdict};
pub use request_id::RequestId;
pub use sent::{Part, Sent};
pub use traceback::{Detail, place};
pub use transcript::{Transcript, readable, without_access};

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use url::Url;

use crate::io::explain::{ErrorKind, Explain, Explanation, with_causes};
use crate::io::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use crate::io::http::{self, Client, Method, Network, Patience, Payload, Redirects, Request, Settings, StatusCode};
use outcome::Reply;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The time is up.
    #[error("the service did not become ready within {} s: {last}", waited.as_secs())]
    NotReady {
        /// How long it had.
        waited: Duration,
        /// What the last attempt met.
        last: String,
    },
    /// The container ended.
    #[error("the service ended with exit code {code}{}", if *was_ready { "" } else { " before it was ready" })]
    Ended {
        /// Its exit code.
        code: i32,
        /// It has answered until then.
        was_ready: bool,
    },
    /// No connection to it could be set up, or it broke off.
    #[error("{url} could not be asked")]
    Transport {
        /// What was asked.
        url: String,
        /// What broke off: the name, the connection, or the answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address is none.
    #[error("this is no address of a service: {reason}")]
    Address {
        /// Why not.
        reason: String,
    },
    /// `--offline` was given, and it is somewhere else.
    #[error("{url} is not on this machine, and the network is off (--offline)")]
    Offline {
        /// What was to be asked.
        url: String,
    },
    /// The answer has too many bytes.
    #[error("{url} answered with more than {} MiB", LARGEST_ANSWER >> 20)]
    TooLarge {
        /// What was asked.
        url: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            // What there is to look at, whoever has shown the log knows.
            Self::NotReady { .. } => ErrorKind::Failure.named("service/not-ready"),
            Self::Ended { .. } => ErrorKind::Failure.named("service/ended"),
            Self::Transport { .. } => ErrorKind::Unavailable.named("service/unreachable"),
            Self::Address { .. } => {
                ErrorKind::Usage.named("service/address").hint("write http://HOST:PORT, or 127.0.0.1:PORT")
            }
            Self::Offline { .. } => ErrorKind::Unavailable.named("service/offline").hint("leave out `--offline`"),
            Self::TooLarge { .. } => ErrorKind::Failure.named("service/too-large"),
        }
    }
}

impl Error {
    /// What kept `url` from being asked.
    fn of(url: &str, error: http::Error) -> Self {
        let url = url.to_owned();
        match error {
            http::Error::TooLarge { .. } => Self::TooLarge { url },
            http::Error::Transport { source, .. } => Self::Transport { url, source: source.into() },
            error => Self::Transport { url, source: error.into() },
        }
    }
}

/// Largest answer that is looked at, in bytes.
const LARGEST_ANSWER: u64 = 64 << 20;

/// How long a test's answer may take, and a question whether it is ready.
const LONGEST_TEST: Duration = Duration::from_secs(120);
const LONGEST_PROBE: Duration = Duration::from_secs(5);

/// A service, and how it is asked.
#[derive(Debug)]
pub struct Service {
    /// Without a slash at the end.
    url: String,
    client: Client,
    headers: HeaderMap,
    credentials: Credentials,
}

/// Takes an answer's bytes as they come, and says whether it wants more.
pub type Hearing<'a> = Box<dyn FnMut(&[u8]) -> bool + 'a>;

/// What a service answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub url: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// Where it redirects to, if that is another server.
    pub location: Option<String>,
    /// What the service says that the body is.
    pub content_type: Option<String>,
    /// All of it.
    pub body: Vec<u8>,
    /// By which the service's log knows the request.
    pub request_id: Option<String>,
    /// How long it took.
    pub time: Duration,
}

impl Service {
    /// The service at `address` of this machine. Proxies of the environment are not used.
    pub fn new(address: SocketAddr) -> Self {
        Self::with_client(format!("http://{address}"), Client::new(Network::Online).direct())
    }

    /// The service at a URL, wherever it is; the paths that are asked go behind that of the URL.
    ///
    /// # Errors
    /// When it is no URL of a service, or is not to be reached with `settings`.
    pub fn at(url: &Url, settings: &Settings) -> Result<Self, Error> {
        let refuse = |reason: &str| Err(Error::Address { reason: reason.to_owned() });
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return refuse("it has to begin with http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it holds a user or a password, which would be shown");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("a query belongs to the path that is asked");
        }
        let shown = url.as_str().trim_end_matches('/').to_owned();
        let is_here = http::is_loopback(url.host_str().unwrap_or_default());
        if settings.network == Network::Offline && !is_here {
            return Err(Error::Offline { url: shown });
        }
        // This machine needs no network.
        Ok(Self::with_client(shown, Client::with(Settings { network: Network::Online, ..settings.clone() })))
    }

    fn with_client(url: String, client: Client) -> Self {
        Self { url, client, headers: HeaderMap::new(), credentials: Credentials::default() }
    }

    /// The same, all of whose paths begin with `root`, if there is one: `/NAME/api`.
    #[must_use]
    pub fn below(mut self, root: Option<&str>) -> Self {
        self.url += root.unwrap_or_default();
        self
    }

    /// The same, which gets `credentials` with each request.
    #[must_use]
    pub fn with(mut self, credentials: Credentials) -> Self {
        self.headers = credentials.headers();
        self.credentials = credentials;
        self
    }

    /// The same, whose way leads through a server that wants these headers with each request.
    #[must_use]
    pub fn knowing(mut self, secrets: HeaderMap) -> Self {
        self.headers.extend(secrets);
        self
    }

    /// What it gets with each request.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Where it is, for a person.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks `path`, with a POST where there is something to send.
    fn send(
        &self,
        path: &str,
        sent: Option<Sent>,
        id: Option<&RequestId>,
        patience: Patience,
    ) -> Result<http::Answer, http::Error> {
        let text = format!("{}{path}", self.url);
        let url = Url::parse(&text).map_err(|error| http::Error::Protocol { url: text, why: error.to_string() })?;
        let request = match sent {
            Some(Sent { content_type, bytes }) => {
                Request::new(Method::POST).header(CONTENT_TYPE, &content_type).carrying(Payload::Bytes(bytes.into()))
            }
            None => Request::new(Method::GET),
        };
        let request = request.header(ACCEPT, ACCEPTED);
        let request = match id {
            Some(id) => request.header(RequestId::HEADER, id.as_str()),
            None => request,
        };
        self.client.follow(&url, &mut request.patience(patience), &self.headers, Redirects::WithinOrigin)
    }

    /// Waits until `path` answers with a status of 2xx; `ended` tells the exit code if the container has ended.
    ///
    /// # Errors
    /// [`Error::Ended`] when it ends, [`Error::NotReady`] when the time is up.
    pub fn wait_ready(
        &self,
        path: &str,
        timeout: Duration,
        mut ended: impl FnMut() -> Option<i32>,
    ) -> Result<Duration, Error> {
        /// A service that is there answers within this even where next to no time is left.
        const SHORTEST_PROBE: Duration = Duration::from_millis(100);
        let started = Instant::now();
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            let patience = Patience::within(left.clamp(SHORTEST_PROBE, LONGEST_PROBE));
            let lacking = match self.send(path, None, None, patience) {
                Ok(answer) if answer.is_success() => None,
                Ok(answer) => Some(format!("{path} answered {}", answer.code())),
                Err(_) => Some("it does not listen yet".to_owned()),
            };
            // Asked after the answer: the port of one that has ended may be somebody else's, who has answered.
            if let Some(code) = ended() {
                return Err(Error::Ended { code, was_ready: false });
            }
            let waited = started.elapsed();
            let Some(last) = lacking else { return Ok(waited) };
            if waited >= timeout {
                return Err(Error::NotReady { waited, last });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks `path`: sends `sent` with a POST, or else a GET. Waits for the answer as long as it takes. A service that gets
    /// `id` may mark with it what it logs. An answer in parts goes to `hearing` as it comes, which says whether it wants
    /// more, and is no body of the [`Answer`] then; without one it is a body as any other.
    ///
    /// # Errors
    /// When no whole answer comes; any status is one.
    pub fn invoke(
        &self,
        path: &str,
        sent: Option<Sent>,
        id: Option<&RequestId>,
        hearing: Option<Hearing<'_>>,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let url = format!("{}{path}", self.url);
        let answer = self.send(path, sent, id, Patience::ENDLESS).map_err(|error| Error::of(&url, error))?;
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let (status, content_type, location) = (answer.code(), header("content-type"), header("location"));
        let request_id = header(RequestId::HEADER.as_str()).or_else(|| id.map(|id| id.as_str().to_owned()));
        let body = match hearing.filter(|_| status.is_success() && is_in_parts(content_type.as_deref())) {
            Some(mut hearing) => {
                let broken = |error: io::Error| Error::Transport { url: url.clone(), source: error.into() };
                hear(answer.body(), &mut hearing).map_err(broken)?;
                Vec::new()
            }
            None => answer.bytes(LARGEST_ANSWER).map_err(|error| Error::of(&url, error))?,
        };
        Ok(Answer { url, status, location, content_type, body, request_id, time: started.elapsed() })
    }

    /// Asks an example request and compares the answer. A service that gets `id` may mark with it what it logs.
    pub fn ask(&self, example: Example<'_>, id: Option<&RequestId>) -> Outcome {
        let started = Instant::now();
        let test = example.test;
        let sent = example.json().map(Sent::json);
        let answer = self.send(&test.path, sent, id, Patience::within(LONGEST_TEST)).map(|answer| {
            let header = |name: &str| answer.header(name).map(str::to_owned);
            let (content_type, location) = (header("content-type"), header("location"));
            let own = || id.map(|id| id.as_str().to_owned());
            let (status, request_id) = (answer.status, header(RequestId::HEADER.as_str()).or_else(own));
            // A body that breaks off compares as what it is: not the one expected.
            Reply { status, content_type, body: answer.beginning(LARGEST_ANSWER), location, request_id }
        });
        let seconds = started.elapsed().as_secs_f64();
        Outcome::new(example, &self.credentials, seconds, answer.map_err(|error| why(&error)))
    }
}

/// Answers in parts come a line each where the service has them; one that knows none gives what it gives.
const ACCEPTED: &str = "application/x-ndjson, */*;q=0.9";

/// Whether an answer of this type comes in parts.
fn is_in_parts(content_type: Option<&str>) -> bool {
    let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    matches!(kind, "application/x-ndjson" | "text/event-stream")
}

/// Hands a body on as it comes, until nobody wants more.
fn hear(mut body: impl io::Read, hearing: &mut Hearing<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(()),
            count if !hearing(buffer.get(..count).unwrap_or_default()) => return Ok(()),
            _ => {}
        }
    }
}

/// Why there is no answer, on a line.
fn why(error: &http::Error) -> String {
    match error {
        http::Error::Transport { source, .. } => source.to_string(),
        error => with_causes(error),
    }
}
