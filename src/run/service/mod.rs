//! Talking to a model's service: waiting until it is ready, asking it, and comparing its answers. It is asked once: what
//! it does with a question is not known here.
//!
//! Invariant: credentials go to no other server than the one that was named, wherever it redirects.

mod credentials;

pub use credentials::{Credentials, Error as CredentialError};

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::http::header::{CONTENT_TYPE, HeaderMap};
use crate::io::http::{self, Client, Method, Network, Patience, Payload, Redirects, Request, Settings, StatusCode};
use crate::project::manifest::Test;

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
    #[error("the service ended with exit code {code} before it was ready")]
    Ended {
        /// Its exit code.
        code: i32,
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
            Self::NotReady { .. } => ErrorKind::Failure
                .named("service/not-ready")
                .hint("its log says what it waits for; `--timeout` gives it longer"),
            Self::Ended { .. } => ErrorKind::Failure.named("service/ended").hint("its log above says why"),
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
            http::Error::Transport { source, .. } => Self::Transport { url, source },
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
    /// How long it took.
    pub time: Duration,
}

/// How an example request went.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The name of the example.
    pub name: String,
    /// How long the answer took, in seconds.
    pub seconds: f64,
    /// The status that came back; none where nothing did.
    pub status: Option<u16>,
    /// In what the answer differs from the one expected; empty when it does not.
    pub differences: Vec<Difference>,
}

/// One place where an answer is not as expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// A JSON pointer (RFC 6901) into the answer, or `status`.
    pub at: String,
    /// What was expected there.
    pub expected: String,
    /// What is there.
    pub actual: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at.is_empty() { "answer" } else { &self.at };
        write!(f, "{at}: expected {}, got {}", self.expected, self.actual)
    }
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

    /// The same, which gets `credentials` with each request.
    #[must_use]
    pub fn with(mut self, credentials: Credentials) -> Self {
        self.headers = credentials.headers();
        self.credentials = credentials;
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
    fn send(&self, path: &str, json: Option<Vec<u8>>, patience: Patience) -> Result<http::Answer, http::Error> {
        let text = format!("{}{path}", self.url);
        let url = Url::parse(&text).map_err(|error| http::Error::Protocol { url: text, why: error.to_string() })?;
        let request = match json {
            Some(json) => Request::new(Method::POST)
                .header(CONTENT_TYPE, "application/json")
                .carrying(Payload::Bytes(json.into())),
            None => Request::new(Method::GET),
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
        let started = Instant::now();
        loop {
            let last = match self.send(path, None, Patience::within(LONGEST_PROBE)) {
                Ok(answer) if answer.is_success() => return Ok(started.elapsed()),
                Ok(answer) => format!("{path} answered {}", answer.code()),
                Err(_) => "it does not listen yet".to_owned(),
            };
            if let Some(code) = ended() {
                return Err(Error::Ended { code });
            }
            let waited = started.elapsed();
            if waited >= timeout {
                return Err(Error::NotReady { waited, last });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks `path`: sends `json` with a POST, or else a GET. Waits for the answer as long as it takes.
    ///
    /// # Errors
    /// When no whole answer comes; any status is one.
    pub fn invoke(&self, path: &str, json: Option<Vec<u8>>) -> Result<Answer, Error> {
        let started = Instant::now();
        let url = format!("{}{path}", self.url);
        let answer = self.send(path, json, Patience::ENDLESS).map_err(|error| Error::of(&url, error))?;
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let (status, content_type, location) = (answer.code(), header("content-type"), header("location"));
        let body = answer.bytes(LARGEST_ANSWER).map_err(|error| Error::of(&url, error))?;
        Ok(Answer { url, status, location, content_type, body, time: started.elapsed() })
    }

    /// Asks an example request and compares the answer.
    pub fn ask(&self, test: &Test) -> Outcome {
        let started = Instant::now();
        let json = test.request.as_ref().map(|body| body.to_string().into_bytes());
        // A body that breaks off compares as what it is: not the one expected.
        let answer = self.send(&test.path, json, Patience::within(LONGEST_TEST));
        let answer = answer.map(|answer| (answer.status, answer.beginning(LARGEST_ANSWER)));
        let seconds = started.elapsed().as_secs_f64();
        let (status, differences) = match answer {
            Ok((status, body)) => (Some(status), Comparison::new(test, &self.credentials).compare(status, &body)),
            Err(error) => {
                let actual = match error {
                    http::Error::Transport { source, .. } => source.to_string(),
                    error => error.to_string(),
                };
                (None, vec![Difference { at: "status".to_owned(), expected: test.status.to_string(), actual }])
            }
        };
        Outcome { name: test.name.clone(), seconds, status, differences }
    }
}

/// The answer to an example request beside the one expected.
struct Comparison<'a> {
    test: &'a Test,
    /// A service may say what it was given.
    hidden: &'a Credentials,
    at: String,
    differences: Vec<Difference>,
}

impl<'a> Comparison<'a> {
    fn new(test: &'a Test, hidden: &'a Credentials) -> Self {
        Self { test, hidden, at: String::new(), differences: Vec::new() }
    }

    fn compare(mut self, status: u16, body: &[u8]) -> Vec<Difference> {
        let text = || self.hidden.hide_in(&String::from_utf8_lossy(body)).chars().take(300).collect::<String>();
        if status != self.test.status {
            let shown = text();
            let actual = if shown.is_empty() { status.to_string() } else { format!("{status} with {shown}") };
            let expected = self.test.status.to_string();
            return vec![Difference { at: "status".to_owned(), expected, actual }];
        }
        if let Some(expected) = &self.test.expect {
            match serde_json::from_slice(body) {
                Ok(actual) => self.values(expected, &actual),
                Err(_) => {
                    let actual = format!("no JSON: {}", text());
                    self.differ(expected.to_string(), actual);
                }
            }
        }
        self.differences
    }

    /// Objects may hold more than was expected, lists may not; numbers may be off by the test's tolerance.
    fn values(&mut self, expected: &Value, actual: &Value) {
        let length = self.at.len();
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => {
                for (key, value) in expected {
                    self.at.push('/');
                    self.at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                    match actual.get(key) {
                        Some(actual) => self.values(value, actual),
                        None => self.differ(value.to_string(), "nothing".to_owned()),
                    }
                    self.at.truncate(length);
                }
            }
            (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
                for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                    self.at.push_str(&format!("/{index}"));
                    self.values(expected, actual);
                    self.at.truncate(length);
                }
            }
            (Value::Array(expected), Value::Array(actual)) => {
                self.differ(format!("{} items", expected.len()), format!("{} items", actual.len()));
            }
            (Value::Number(expected), Value::Number(actual))
                if near(expected.as_f64(), actual.as_f64(), self.test.tolerance) => {}
            (expected, actual) if expected == actual => {}
            (expected, actual) => {
                self.differ(shown(expected.to_string()), shown(self.hidden.hide_in(&actual.to_string())));
            }
        }
    }

    fn differ(&mut self, expected: String, actual: String) {
        self.differences.push(Difference { at: self.at.clone(), expected, actual });
    }
}

fn near(expected: Option<f64>, actual: Option<f64>, tolerance: f64) -> bool {
    let (Some(expected), Some(actual)) = (expected, actual) else { return false };
    (expected - actual).abs() <= tolerance * expected.abs().max(1.0)
}

fn shown(text: String) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn test(value: Value) -> Test {
        serde_json::from_value(value).unwrap()
    }

    fn differences(expected: Value, actual: Value) -> Vec<String> {
        let test = test(json!({"name": "t", "expect": expected}));
        let found = Comparison::new(&test, &Credentials::default()).compare(200, actual.to_string().as_bytes());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn answers_are_compared_as_a_person_would() {
        assert!(differences(json!([0, 1.0]), json!([0, 1.000_000_1])).is_empty());
        assert!(differences(json!({"a": 1}), json!({"a": 1, "b": 2})).is_empty());
        assert_eq!(differences(json!([0]), json!([1])), ["/0: expected 0, got 1"]);
        assert_eq!(differences(json!([0]), json!([0, 1])), ["answer: expected 1 items, got 2 items"]);
        assert_eq!(differences(json!({"a/b": 1}), json!({})), ["/a~1b: expected 1, got nothing"]);
        assert_eq!(differences(json!("x"), json!(null)), ["answer: expected \"x\", got null"]);
    }

    #[test]
    fn a_wrong_status_shows_the_body() {
        let test = test(json!({"name": "t", "status": 422}));
        let differences = Comparison::new(&test, &Credentials::default()).compare(500, b"oops");
        assert_eq!(differences[0].to_string(), "status: expected 422, got 500 with oops");
    }

    #[test]
    fn a_service_that_repeats_a_credential_does_not_show_it() {
        let hidden = Credentials::parse(["TOKEN=a\"secret"], |_| None).unwrap();
        let test = test(json!({"name": "t", "expect": {"token": 1}}));
        for (status, body) in [(200, r#"{"token": "a\"secret"}"#), (500, "no a\"secret"), (200, "a\"secret")] {
            let differences = Comparison::new(&test, &hidden).compare(status, body.as_bytes());
            assert!(!differences[0].actual.contains("secret"), "{differences:?}");
        }
    }
}
