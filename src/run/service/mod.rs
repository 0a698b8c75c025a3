//! Talking to a model's service: waiting until it is ready, asking it, and comparing its answers.
//!
//! Invariant: credentials go to no other server than the one that was named, wherever it redirects.

mod credentials;
mod outcome;
mod request_id;
mod traceback;
mod transcript;

pub use credentials::{Credentials, Error as CredentialError};
pub use outcome::{Body, DiffLine, Difference, Example, Outcome, Verdict};
pub use request_id::RequestId;
pub use traceback::{Detail, place};
pub use transcript::{Transcript, readable, without_access};

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::blocking::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use reqwest::{Method, StatusCode, Url, redirect};

use crate::image::download::{self, Network};
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

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotReady { .. } => Some(
                "its log above says what it does; `--timeout` gives it longer, `ekiben logs --last` has all".to_owned(),
            ),
            Self::Ended { .. } => Some("its log above says why; `ekiben logs --last` has all of it".to_owned()),
            Self::Address { .. } => Some("write http://HOST:PORT, or 127.0.0.1:PORT".to_owned()),
            Self::Offline { .. } => Some("leave out `--offline`".to_owned()),
            Self::Transport { .. } | Self::TooLarge { .. } => None,
        }
    }

    fn transport(url: &str, source: reqwest::Error) -> Self {
        Self::Transport { url: url.to_owned(), source: source.without_url().into() }
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
    client: reqwest::blocking::Client,
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
    /// By which the service's log knows the request.
    pub request_id: Option<String>,
    /// How long it took.
    pub time: Duration,
}

impl Service {
    /// The service at `address` of this machine. Proxies of the environment are not used.
    ///
    /// # Errors
    /// When no client can be set up.
    pub fn new(address: SocketAddr) -> Result<Self, Error> {
        Self::with_client(format!("http://{address}"), reqwest::blocking::Client::builder().no_proxy())
    }

    /// The service at a URL, wherever it is; the paths that are asked go behind that of the URL.
    ///
    /// # Errors
    /// When it is no URL of a service, is not to be reached with `network`, or no client can be set up.
    pub fn at(url: &Url, network: &Network) -> Result<Self, Error> {
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
        let is_here = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let builder = reqwest::blocking::Client::builder();
        let builder = match (is_here, network.offline) {
            (true, _) => builder.no_proxy(),
            (false, false) => builder,
            (false, true) => return Err(Error::Offline { url: shown }),
        };
        let builder = download::trusting(builder, &network.ca)
            .map_err(|source| Error::Transport { url: shown.clone(), source })?;
        Self::with_client(shown, builder)
    }

    fn with_client(url: String, builder: reqwest::blocking::ClientBuilder) -> Result<Self, Error> {
        download::install_tls();
        let client = builder.redirect(redirect::Policy::custom(follow)).connect_timeout(Duration::from_secs(20));
        let client = client.timeout(None).build().map_err(|source| Error::transport(&url, source))?;
        Ok(Self { url, client, headers: HeaderMap::new(), credentials: Credentials::default() })
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

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).headers(self.headers.clone())
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
            let last = match self.request(Method::GET, path).timeout(LONGEST_PROBE).send() {
                Ok(response) if response.status().is_success() => return Ok(started.elapsed()),
                Ok(response) => format!("{path} answered {}", response.status()),
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

    /// Asks `path`: sends `json` with a POST, or else a GET. Waits for the answer as long as it takes. A service that gets
    /// `id` may mark with it what it logs.
    ///
    /// # Errors
    /// When no whole answer comes; any status is one.
    pub fn invoke(&self, path: &str, json: Option<Vec<u8>>, id: Option<&RequestId>) -> Result<Answer, Error> {
        let started = Instant::now();
        let url = format!("{}{path}", self.url);
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Transport { url: url.clone(), source };
        let request = match json {
            Some(json) => self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(json),
            None => self.request(Method::GET, path),
        };
        let response = marked(request, id).send().map_err(|source| Error::transport(&url, source))?;
        let header = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (status, content_type, location) = (response.status(), header(CONTENT_TYPE), header(LOCATION));
        let request_id = header(RequestId::HEADER).or_else(|| id.map(|id| id.as_str().to_owned()));
        let mut body = Vec::new();
        response.take(LARGEST_ANSWER + 1).read_to_end(&mut body).map_err(|error| broken(error.into()))?;
        if body.len() as u64 > LARGEST_ANSWER {
            return Err(Error::TooLarge { url });
        }
        Ok(Answer { url, status, location, content_type, body, request_id, time: started.elapsed() })
    }

    /// Asks an example request and compares the answer. A service that gets `id` may mark with it what it logs.
    pub fn ask(&self, example: Example<'_>, id: Option<&RequestId>) -> Outcome {
        let started = Instant::now();
        let test = example.test;
        let request = match &test.request {
            Some(body) => self.request(Method::POST, &test.path).json(body),
            None => self.request(Method::GET, &test.path),
        };
        let answer = marked(request, id).timeout(LONGEST_TEST).send().map(|response| {
            let header = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
            let (content_type, location, request_id) =
                (header(CONTENT_TYPE), header(LOCATION), header(RequestId::HEADER));
            let status = response.status().as_u16();
            let mut body = Vec::new();
            // A body that breaks off compares as what it is: not the one expected.
            let _ = response.take(LARGEST_ANSWER).read_to_end(&mut body);
            let own = || id.map(|id| id.as_str().to_owned());
            Reply { status, content_type, body, location, request_id: request_id.or_else(own) }
        });
        let seconds = started.elapsed().as_secs_f64();
        Outcome::new(example, &self.credentials, seconds, answer.map_err(|error| why(&error.without_url())))
    }
}

/// The request with its id.
fn marked(request: RequestBuilder, id: Option<&RequestId>) -> RequestBuilder {
    match id {
        Some(id) => request.header(RequestId::HEADER, id.as_str()),
        None => request,
    }
}

/// Why there is no answer: the error with what caused it, on a line.
fn why(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    chain.collect::<Vec<_>>().join(": ")
}

/// Follows a redirection within the server, which alone may have the credentials.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    const MOST: usize = 10;
    let stays = attempt.previous().last().is_some_and(|last| last.origin() == attempt.url().origin());
    if !stays || attempt.previous().len() > MOST { attempt.stop() } else { attempt.follow() }
}
