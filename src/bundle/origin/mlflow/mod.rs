//! MLflow's servers, of version 1.30 and later (<https://mlflow.org/docs/latest/api_reference/rest-api.html>): registered models and
//! their versions, and where their artifacts lie.
//!
//! The server is that of `MLFLOW_REGISTRY_URI` for registered models where it is set, else, and for all others, that of
//! `MLFLOW_TRACKING_URI`. Who asks is found as MLflow's own client finds it.

mod artifacts;
mod versions;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use url::Url;

pub(super) use artifacts::{Place, listed, locate, pinned};
pub use versions::Version;

use crate::image::download::{Credentials, Netrc};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::http::header::{CONTENT_TYPE, HeaderMap};
use crate::io::http::{self as transport, Answer, Client, Judged, Method, Payload, Redirects, Request, Verdict};

/// What DPM360's service builder calls the registry, and the server with it
/// (<https://github.com/BiomedSciAI/DPM360/tree/main/service_builder>).
const OTHERS: [&str; 2] = ["MODEL_REGISTRY_API", "MLFLOW_API"];

/// What it says when its database refused a change, as it does where somebody else wrote the same at that moment.
const CONFLICT: &str = "BAD_REQUEST";

/// Bytes of an answer.
const LARGEST: u64 = 32 << 20;

/// Why a server's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody said which server.
    #[error("{from} is in MLflow, and no server is named")]
    NoServer {
        /// What was to be found.
        from: String,
    },
    /// It is named in a way in which none can be asked.
    #[error("the MLflow server cannot be `{uri}`: {why}")]
    Server {
        /// As it was named, without secrets.
        uri: String,
        /// What is wrong.
        why: String,
    },
    /// The server says no.
    #[error("{server} says of {about}: {message}")]
    Refused {
        /// The server.
        server: String,
        /// What was asked about.
        about: String,
        /// The status of HTTP.
        status: u16,
        /// What that says of asking again.
        verdict: Verdict,
        /// In its words.
        message: String,
    },
    /// No answer came.
    #[error("the MLflow server of {about} does not answer")]
    Transport {
        /// What was asked about.
        about: String,
        /// Why.
        source: transport::Error,
    },
    /// The answer is none of MLflow's.
    #[error("what {server} answers about {about} cannot be understood: {why}")]
    Answer {
        /// The server.
        server: String,
        /// What was asked about.
        about: String,
        /// What is wrong.
        why: String,
    },
    /// The version is not there yet, or never will be.
    #[error("{about} is not ready: it is {status}")]
    NotReady {
        /// The version.
        about: String,
        /// In MLflow's word.
        status: String,
    },
    /// The artifacts lie where nothing is fetched from.
    #[error("the artifacts of {about} lie at {place}, {why}")]
    Elsewhere {
        /// What was asked about.
        about: String,
        /// Where they lie, as the server says it.
        place: String,
        /// Why that is of no use: a clause.
        why: &'static str,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        let named = |name| ErrorKind::Unavailable.named(name);
        match self {
            Self::NoServer { .. } => ErrorKind::Usage
                .named("mlflow/no-server")
                .hint("name it: `export MLFLOW_TRACKING_URI=https://HOST`, with MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD"),
            Self::Server { .. } => ErrorKind::Usage
                .named("mlflow/server")
                .hint("`mlflow server` makes one of a folder or a database: set MLFLOW_TRACKING_URI to its http(s)://HOST:PORT"),
            Self::Refused { status: 401 | 403, .. } => named("mlflow/refused").hint(
                "it wants a credential, or another one: MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME and \
                 MLFLOW_TRACKING_PASSWORD, or ~/.mlflow/credentials; one that expired has to be renewed",
            ),
            Self::Refused { status: 400 | 404, .. } => {
                named("mlflow/nothing").hint("names, versions and aliases are on the server's page `Models`")
            }
            Self::Refused { .. } => named("mlflow/refused"),
            Self::Transport { source, .. } => source.explain(),
            Self::Answer { .. } => {
                named("mlflow/answer").hint("is it an MLflow server, of 2.3 or later where an alias is meant? MLFLOW_TRACKING_URI is the address without `/api`")
            }
            Self::NotReady { .. } => named("mlflow/not-ready").hint("wait until it is registered; one that failed is registered again"),
            Self::Elsewhere { .. } => named("mlflow/elsewhere").hint(
                "let the server hand its artifacts on (`mlflow server --serve-artifacts`), or copy the model to where it can be \
                 fetched from",
            ),
        }
    }
}

impl Judged for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Refused { verdict, .. } => *verdict,
            Self::Transport { source, .. } => source.verdict(),
            _ => Verdict::Final,
        }
    }
}

impl Error {
    /// Whether there is no such thing on the server.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// An MLflow server, and who asks it.
#[derive(Clone)]
pub struct Server {
    url: Url,
    client: Client,
    secrets: HeaderMap,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Server {
    /// The server of `variables`, the first that is set. `from` is what is looked for.
    ///
    /// # Errors
    /// When none is set, or it is no HTTP server.
    fn of(client: &Client, variables: &[&str], from: &str) -> Result<Self, Error> {
        let uri =
            variables.iter().find_map(|name| set(name)).ok_or_else(|| Error::NoServer { from: from.to_owned() })?;
        Self::new(client, &uri)
    }

    /// The server that knows registered models. `from` is what is looked for there.
    ///
    /// # Errors
    /// When none is named in the environment, or it is no HTTP server.
    pub fn of_models(client: &Client, from: &str) -> Result<Self, Error> {
        Self::of(client, &["MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", OTHERS[0], OTHERS[1]], from)
    }

    /// The server that knows runs and artifacts. `from` is what is looked for there.
    ///
    /// # Errors
    /// As [`Server::of_models`].
    pub fn of_runs(client: &Client, from: &str) -> Result<Self, Error> {
        Self::of(client, &["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", OTHERS[0], OTHERS[1]], from)
    }

    /// The server at `uri`.
    ///
    /// # Errors
    /// When that is no address of an HTTP server.
    pub fn new(client: &Client, uri: &str) -> Result<Self, Error> {
        // What stands before an `@` may be a password.
        let refused = |why: &str| Error::Server {
            uri: uri.rsplit_once('@').map_or(uri, |(_, host)| host).to_owned(),
            why: why.to_owned(),
        };
        if uri == "databricks" || uri.starts_with("databricks") {
            return Err(refused("Databricks has another interface"));
        }
        let mut url =
            Url::parse(uri).map_err(|_| refused("only servers are asked, and it is no http(s):// address"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("only servers are asked, by http:// or https://"));
        }
        let written = (!url.username().is_empty()).then(|| {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            Credentials { name: decoded(url.username()), password: decoded(url.password().unwrap_or_default()) }
        });
        let _ = (url.set_username(""), url.set_password(None));
        let host = url.host_str().unwrap_or_default().to_owned();
        let secrets = match (written, set("MLFLOW_TRACKING_USERNAME"), set("MLFLOW_TRACKING_TOKEN")) {
            (Some(written), _, _) => Some(shown(&written)),
            (None, Some(name), _) => {
                Some(shown(&Credentials { name, password: set("MLFLOW_TRACKING_PASSWORD").unwrap_or_default() }))
            }
            (None, None, Some(token)) => Some(format!("Bearer {token}")),
            (None, None, None) => kept().or_else(|| Netrc::of_person().credentials(&host)).as_ref().map(shown),
        };
        let secrets = secrets.and_then(|text| transport::authorization(&text)).unwrap_or_default();
        let ca = set("MLFLOW_TRACKING_SERVER_CERT_PATH").map(PathBuf::from);
        let client = client.trusting_also(ca.into_iter().collect());
        let is_careless = set("MLFLOW_TRACKING_INSECURE_TLS").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let client = if is_careless { client.trusting_anyone() } else { client };
        Ok(Self { url, client, secrets })
    }

    /// Where it is, for a person.
    pub fn address(&self) -> String {
        transport::shown(&self.url).trim_end_matches('/').to_owned()
    }

    /// How it is asked.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What shows who asks.
    pub(super) fn secrets(&self) -> HeaderMap {
        self.secrets.clone()
    }

    fn endpoint(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let below = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{below}/api/2.0/{path}"));
        url
    }

    /// Asks for `path`, again where that may help: nothing is asked that does harm twice.
    fn ask<T: DeserializeOwned>(&self, method: &Method, path: &str, asked: Asked<'_>, about: &str) -> Result<T, Error> {
        let mut url = self.endpoint(path);
        let bytes = self.client.retrying(|| {
            let mut request = Request::new(method.clone()).about(about);
            match asked {
                Asked::Query(query) => drop(url.query_pairs_mut().clear().extend_pairs(query)),
                Asked::Body(body) => {
                    let body = Payload::Bytes(body.to_string().into_bytes().into());
                    request = request.header(CONTENT_TYPE, "application/json").carrying(body);
                }
            }
            let unreached = |source| Error::Transport { about: about.to_owned(), source };
            let answer = self.client.follow(&url, &mut request, &self.secrets, Redirects::WithinOrigin);
            let answer = answer.map_err(unreached)?;
            if !answer.is_success() {
                return Err(self.refused(answer, about));
            }
            answer.bytes(LARGEST).map_err(unreached)
        })?;
        serde_json::from_slice(&bytes).map_err(|error| self.puzzling(about, error))
    }

    fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)], about: &str) -> Result<T, Error> {
        self.ask(&Method::GET, path, Asked::Query(query), about)
    }

    /// What the server says against what it was asked.
    fn refused(&self, answer: Answer, about: &str) -> Error {
        #[derive(Deserialize)]
        struct Said {
            #[serde(default)]
            error_code: String,
            message: String,
        }
        let (status, words, mut verdict) = (answer.status, answer.code(), answer.verdict());
        let said: Option<Said> = serde_json::from_slice(&answer.beginning(64 << 10)).ok();
        if said.is_none() && matches!(status, 404 | 405) {
            // MLflow says in JSON what it does not have.
            return self.puzzling(about, words);
        }
        if said.as_ref().is_some_and(|said| said.error_code == CONFLICT) {
            verdict = Verdict::Passing { after: Duration::ZERO };
        }
        let message = said.as_ref().and_then(|said| said.message.lines().next()).filter(|line| !line.is_empty());
        let message = message.map_or_else(|| words.to_string(), |line| line.chars().take(500).collect());
        Error::Refused { server: self.address(), about: about.to_owned(), status, verdict, message }
    }

    fn puzzling(&self, about: &str, why: impl ToString) -> Error {
        Error::Answer { server: self.address(), about: about.to_owned(), why: why.to_string() }
    }
}

/// What a server is asked with.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Query(&'a [(&'a str, &'a str)]),
    Body(&'a Json),
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn shown(credentials: &Credentials) -> String {
    transport::basic(&credentials.name, &credentials.password)
}

/// What `mlflow login` keeps (`~/.mlflow/credentials`).
fn kept() -> Option<Credentials> {
    let text = fs_err::read_to_string(std::env::home_dir()?.join(".mlflow/credentials")).ok()?;
    let value = |key: &str| {
        let lines = text.lines().skip_while(|line| line.trim() != "[mlflow]").skip(1);
        let own = lines.take_while(|line| !line.trim_start().starts_with('['));
        let mut pairs = own.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    Some(Credentials {
        name: value("mlflow_tracking_username")?,
        password: value("mlflow_tracking_password").unwrap_or_default(),
    })
}
