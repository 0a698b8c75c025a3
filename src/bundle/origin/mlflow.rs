//! MLflow's servers, of version 1.30 and later (<https://mlflow.org/docs/latest/api_reference/rest-api.html>): registered models and
//! their versions, and where their artifacts lie.
//!
//! The server is that of `MLFLOW_REGISTRY_URI` for registered models where it is set, else, and for all others, that of
//! `MLFLOW_TRACKING_URI`. Who asks is found as MLflow's own client finds it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::{Value as Json, json};
use url::Url;

use super::{MOST_FILES, Remote, encoded_path};
use crate::image::download::{Credentials, Netrc};
use crate::io::archive::ArchivePath;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::http::header::{CONTENT_TYPE, HeaderMap};
use crate::io::http::{
    self as transport, Answer, Client, Judged, Method, Payload, Redirects, Request, Verdict, is_loopback,
};
use crate::project::address::{Mlflow, Which};

/// Bytes of an answer.
const LARGEST: u64 = 32 << 20;

/// Folders within folders of artifacts.
const DEEPEST: usize = 32;

/// Addresses that lead to another: a version to a model, that to a run.
const LONGEST_TRAIL: usize = 6;

/// Versions in one answer.
const PAGE: u32 = 200;

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
                named("mlflow/answer").hint("is it an MLflow server? MLFLOW_TRACKING_URI is the address without `/api`")
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

/// A version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// What the model is registered as.
    pub name: String,
    /// Which version it is.
    #[serde(deserialize_with = "number")]
    pub version: u64,
    /// Whether it can be fetched: `READY`.
    #[serde(default)]
    status: Option<String>,
    /// What its people wrote to it.
    #[serde(default)]
    tags: Vec<Tag>,
    /// Names that it has now. Absent in listings of some releases.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The stage that it is in, where the registry has stages.
    #[serde(default)]
    pub current_stage: Option<String>,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Version {
    /// As an address names it.
    pub fn address(&self) -> String {
        format!("models:/{}/{}", self.name, self.version)
    }

    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }

    /// Whether it can be fetched.
    pub fn is_ready(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == "READY")
    }
}

/// Releases write numbers as texts.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Json::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom("no number"))
}

/// Where artifacts lie.
#[derive(Clone, Debug)]
pub(super) struct Located {
    /// What tells them from others: a version, a model, a run.
    pub version: String,
    pub place: Place,
}

/// How artifacts are had.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// From the server itself, below this path.
    Server(Server, String),
    /// From an object store.
    S3 { bucket: String, key: String },
    /// From a folder of this machine.
    Folder(PathBuf),
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
        Self::of(client, &["MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"], from)
    }

    /// The server that knows runs and artifacts. `from` is what is looked for there.
    ///
    /// # Errors
    /// As [`Server::of_models`].
    pub fn of_runs(client: &Client, from: &str) -> Result<Self, Error> {
        Self::of(client, &["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"], from)
    }

    fn new(client: &Client, uri: &str) -> Result<Self, Error> {
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
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Said {
            message: String,
        }
        let (status, words, verdict) = (answer.status, answer.code(), answer.verdict());
        let said: Said = serde_json::from_slice(&answer.beginning(64 << 10)).unwrap_or_default();
        let message: String = said.message.lines().next().unwrap_or_default().chars().take(500).collect();
        let message = if message.is_empty() { words.to_string() } else { message };
        Error::Refused { server: self.address(), about: about.to_owned(), status, verdict, message }
    }

    fn puzzling(&self, about: &str, why: impl ToString) -> Error {
        Error::Answer { server: self.address(), about: about.to_owned(), why: why.to_string() }
    }

    /// A version of a registered model.
    ///
    /// # Errors
    /// When there is no such one, or it is not ready.
    pub fn version(&self, name: &str, which: &Which) -> Result<Version, Error> {
        #[derive(Deserialize)]
        struct One {
            model_version: Version,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Several {
            model_versions: Vec<Version>,
        }
        let about = Mlflow::Registered { name: name.to_owned(), which: which.clone(), path: String::new() }.to_string();
        let several = |found: Several| {
            let newest = found.model_versions.into_iter().filter(|version| version.name == name);
            newest.max_by_key(|version| version.version).ok_or_else(|| Error::Refused {
                server: self.address(),
                about: about.clone(),
                status: 404,
                verdict: Verdict::Final,
                message: "there is no such version".to_owned(),
            })
        };
        let version = match which {
            Which::Number(number) => {
                let query = [("name", name), ("version", &*number.to_string())];
                self.get::<One>("mlflow/model-versions/get", &query, &about)?.model_version
            }
            Which::Alias(alias) => {
                let query = [("name", name), ("alias", alias)];
                self.get::<One>("mlflow/registered-models/alias", &query, &about)?.model_version
            }
            Which::Stage(stage) => {
                let body = json!({ "name": name, "stages": [stage] });
                let path = "mlflow/registered-models/get-latest-versions";
                several(self.ask(&Method::POST, path, Asked::Body(&body), &about)?)?
            }
            Which::Latest => {
                let filter = Self::filter_of_name(name);
                let found = self.search(&filter, &about)?;
                several(Several { model_versions: found })?
            }
        };
        match &version.status {
            Some(status) if status != "READY" => Err(Error::NotReady { about, status: status.clone() }),
            _ => Ok(version),
        }
    }

    /// The versions that a filter of MLflow's finds (`tags.production = 'true'`), of all models; all where it is empty.
    ///
    /// # Errors
    /// When it is no filter, or the server does not answer.
    pub fn search(&self, filter: &str, about: &str) -> Result<Vec<Version>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Page {
            model_versions: Vec<Version>,
            next_page_token: String,
        }
        let mut found: Vec<Version> = Vec::new();
        let mut token = String::new();
        loop {
            let most = PAGE.to_string();
            let mut query = vec![("max_results", most.as_str())];
            query.extend((!filter.is_empty()).then_some(("filter", filter)));
            query.extend((!token.is_empty()).then_some(("page_token", token.as_str())));
            let page: Page = self.get("mlflow/model-versions/search", &query, about)?;
            found.extend(page.model_versions);
            if found.len() > MOST_FILES {
                return Err(self.puzzling(about, format!("there are more than {MOST_FILES} versions")));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// The names of the models of which a version has this alias.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn with_alias(&self, alias: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Alias {
            alias: String,
        }
        #[derive(Deserialize)]
        struct Model {
            name: String,
            #[serde(default)]
            aliases: Vec<Alias>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Page {
            registered_models: Vec<Model>,
            next_page_token: String,
        }
        let about = "models:/";
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let most = PAGE.to_string();
            let mut query = vec![("max_results", most.as_str())];
            query.extend((!token.is_empty()).then_some(("page_token", token.as_str())));
            let page: Page = self.get("mlflow/registered-models/search", &query, about)?;
            let has = |model: &Model| model.aliases.iter().any(|own| own.alias == alias);
            names.extend(page.registered_models.into_iter().filter(has).map(|model| model.name));
            if names.len() > MOST_FILES {
                return Err(self.puzzling(about, format!("there are more than {MOST_FILES} models")));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(names);
            }
        }
    }

    /// The filter that finds the versions of a model.
    pub fn filter_of_name(name: &str) -> String {
        format!("name={}", quoted(name))
    }

    /// Writes a tag to a version of a registered model.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn set_tag(&self, version: &Version, key: &str, value: &str) -> Result<(), Error> {
        let body = json!({ "name": version.name, "version": version.version.to_string(), "key": key, "value": value });
        let path = "mlflow/model-versions/set-tag";
        self.ask::<Json>(&Method::POST, path, Asked::Body(&body), &version.address()).map(drop)
    }

    /// Takes a tag from a version of a registered model.
    ///
    /// # Errors
    /// When the server does not do it.
    pub fn delete_tag(&self, version: &Version, key: &str) -> Result<(), Error> {
        let body = json!({ "name": version.name, "version": version.version.to_string(), "key": key });
        let path = "mlflow/model-versions/delete-tag";
        self.ask::<Json>(&Method::DELETE, path, Asked::Body(&body), &version.address()).map(drop)
    }

    /// The artifacts below `path`.
    pub(super) fn artifacts(&self, path: &str, about: &str) -> Result<Vec<Remote>, Error> {
        let mut found = Vec::new();
        self.list(path.trim_matches('/'), "", 0, about, &mut found)?;
        Ok(found)
    }

    /// The artifact at `path`.
    pub(super) fn artifact(&self, path: &str, about: &str) -> Result<Remote, Error> {
        let path = path.trim_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let one = self.listing(folder, about)?.into_iter().find(|entry| entry.path == name && !entry.is_dir);
        let entry = one.ok_or_else(|| Error::Refused {
            server: self.address(),
            about: about.to_owned(),
            status: 404,
            verdict: Verdict::Final,
            message: "there is no such file".to_owned(),
        })?;
        Ok(self.remote(path, name.to_owned(), &entry))
    }

    fn listing(&self, path: &str, about: &str) -> Result<Vec<Entry>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Listing {
            files: Vec<Entry>,
        }
        Ok(self.get::<Listing>("mlflow-artifacts/artifacts", &[("path", path)], about)?.files)
    }

    fn remote(&self, path: &str, name: String, entry: &Entry) -> Remote {
        let url = self.endpoint(&format!("mlflow-artifacts/artifacts/{}", encoded_path(path)));
        let size = entry.file_size.as_ref().and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()));
        Remote { name, url, size, digest: None, version: None }
    }

    fn list(&self, root: &str, below: &str, depth: usize, about: &str, found: &mut Vec<Remote>) -> Result<(), Error> {
        let joined = |one: &str, other: &str| match (one, other) {
            ("", path) | (path, "") => path.to_owned(),
            (one, other) => format!("{one}/{other}"),
        };
        for entry in self.listing(&joined(root, below), about)? {
            // A path that leads elsewhere is none.
            let Some(name) = ArchivePath::new(&entry.path).ok().filter(|name| !name.as_str().contains('/')) else {
                return Err(self.puzzling(about, format!("`{}` is no name of an artifact", entry.path.escape_debug())));
            };
            let name = joined(below, name.as_str());
            if entry.is_dir {
                if depth == DEEPEST {
                    return Err(
                        self.puzzling(about, format!("there are more than {DEEPEST} folders within each other"))
                    );
                }
                self.list(root, &name, depth + 1, about, found)?;
            } else {
                found.push(self.remote(&joined(root, &name), name, &entry));
            }
            if found.len() > MOST_FILES {
                return Err(self.puzzling(about, format!("there are more than {MOST_FILES} artifacts")));
            }
        }
        Ok(())
    }
}

/// An artifact in a listing, or a folder of some.
#[derive(Deserialize)]
struct Entry {
    /// Its name in the folder that was listed.
    path: String,
    #[serde(default)]
    is_dir: bool,
    #[serde(default)]
    file_size: Option<Json>,
}

/// What a server is asked with.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Query(&'a [(&'a str, &'a str)]),
    Body(&'a Json),
}

/// The address that means for ever what `at` means now.
pub(super) fn pinned(client: &Client, at: &Mlflow) -> Result<Mlflow, Error> {
    Ok(match at {
        Mlflow::Registered { name, which, path } if !matches!(which, Which::Number(_)) => {
            let version = Server::of_models(client, &at.to_string())?.version(name, which)?;
            Mlflow::Registered { name: name.clone(), which: Which::Number(version.version), path: path.clone() }
        }
        other => other.clone(),
    })
}

/// Where what an address names lies now.
pub(super) fn locate(client: &Client, at: &Mlflow) -> Result<Located, Error> {
    let about = at.to_string();
    match at {
        Mlflow::Registered { name, which, path } => {
            let server = Server::of_models(client, &about)?;
            let version = server.version(name, which)?;
            let number = version.version.to_string();
            let query = [("name", name.as_str()), ("version", &number)];
            let uri: Uri = server.get("mlflow/model-versions/get-download-uri", &query, &about)?;
            let place = trace(client, &server, &uri.artifact_uri, path, &about, 0)?;
            Ok(Located { version: format!("{name}/{number}"), place })
        }
        Mlflow::Logged { id, path } => {
            let server = Server::of_runs(client, &about)?;
            let uri = format!("models:/{id}");
            Ok(Located { version: id.clone(), place: trace(client, &server, &uri, path, &about, 0)? })
        }
        Mlflow::Run { run, path } => {
            let server = Server::of_runs(client, &about)?;
            let uri = format!("runs:/{run}");
            Ok(Located { version: run.clone(), place: trace(client, &server, &uri, path, &about, 0)? })
        }
        Mlflow::Artifacts { path } => {
            let server = Server::of_runs(client, &about)?;
            Ok(Located { version: about, place: Place::Server(server, path.clone()) })
        }
    }
}

/// Where artifacts lie.
#[derive(Deserialize)]
struct Uri {
    artifact_uri: String,
}

/// Follows what `server` says of where artifacts lie, `path` below that.
fn trace(client: &Client, server: &Server, uri: &str, path: &str, about: &str, steps: usize) -> Result<Place, Error> {
    #[derive(Deserialize)]
    struct Logged {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        info: Uri,
    }
    #[derive(Deserialize)]
    struct Run {
        run: Info,
    }
    #[derive(Deserialize)]
    struct Info {
        info: Uri,
    }
    if steps == LONGEST_TRAIL {
        return Err(server.puzzling(about, "its artifacts are said to be where others are, and so on"));
    }
    let below = |above: &str| {
        let (above, path) = (above.trim_end_matches('/'), path.trim_end_matches('/'));
        let whole = if path.is_empty() { above.to_owned() } else { format!("{above}/{path}") };
        whole.trim_start_matches('/').to_owned()
    };
    let elsewhere = |why| Error::Elsewhere {
        about: about.to_owned(),
        place: uri.rsplit_once('@').map_or(uri, |(_, at)| at).to_owned(),
        why,
    };
    let (scheme, rest) = uri.split_once(':').unwrap_or(("file", uri));
    match scheme {
        "mlflow-artifacts" => {
            let rest = match rest.strip_prefix("//") {
                Some(rest) => {
                    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
                    if !host.is_empty() && host != transport::authority(&server.url) {
                        return Err(elsewhere("which is another server than the one that was asked"));
                    }
                    rest
                }
                None => rest,
            };
            Ok(Place::Server(server.clone(), below(rest)))
        }
        "s3" => {
            let (bucket, key) =
                rest.trim_start_matches('/').split_once('/').ok_or_else(|| elsewhere("which is no key"))?;
            Ok(Place::S3 { bucket: bucket.to_owned(), key: below(key) })
        }
        "models" | "runs" => {
            // Those are found on the server that knows runs.
            let server = Server::of_runs(client, about)?;
            let (next, more) = match Mlflow::read(scheme, rest) {
                Some(Mlflow::Logged { id, path }) => {
                    let found: Logged = server.get(&format!("mlflow/logged-models/{id}"), &[], about)?;
                    (found.model.info.artifact_uri, path)
                }
                Some(Mlflow::Run { run, path }) => {
                    let found: Run = server.get("mlflow/runs/get", &[("run_id", &run)], about)?;
                    (found.run.info.artifact_uri, path)
                }
                _ => return Err(server.puzzling(about, format!("`{}` is no address", uri.escape_debug()))),
            };
            let path = match (more.as_str(), path) {
                ("", path) => path.to_owned(),
                (more, "") => more.to_owned(),
                (more, path) => format!("{more}/{path}"),
            };
            trace(client, &server, &next, &path, about, steps + 1)
        }
        "file" => {
            let folder = Path::new(rest.strip_prefix("//").unwrap_or(rest));
            // A server elsewhere must not choose files of this machine.
            if !is_loopback(server.url.host_str().unwrap_or_default()) {
                return Err(elsewhere("which is on the server's own disk"));
            }
            let folder = if path.is_empty() { folder.to_owned() } else { folder.join(path) };
            match folder.join("MLmodel").is_file() {
                true => Ok(Place::Folder(folder)),
                false => Err(elsewhere("where no model is on this machine")),
            }
        }
        _ => Err(elsewhere("where nothing is fetched from")),
    }
}

/// The files of a model's folder on this machine. A link is none.
pub(super) fn listed(folder: &Path) -> std::io::Result<Vec<Remote>> {
    let mut found = Vec::new();
    for entry in ignore::WalkBuilder::new(folder).standard_filters(false).max_depth(Some(DEEPEST)).build() {
        let entry = entry.map_err(std::io::Error::other)?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let name = entry.path().strip_prefix(folder).map_err(std::io::Error::other)?;
        let name = ArchivePath::from_path(name).map_err(std::io::Error::other)?;
        let size = entry.metadata().map_err(std::io::Error::other)?.len();
        let url =
            Url::from_file_path(entry.path()).map_err(|()| std::io::Error::other("the folder has no whole path"))?;
        found.push(Remote { name: name.to_string(), url, size: Some(size), digest: None, version: None });
        if found.len() > MOST_FILES {
            break;
        }
    }
    Ok(found)
}

/// A text in a filter of MLflow's.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
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
