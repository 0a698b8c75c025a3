//! One registry: who is asked how, and with which credentials.
//!
//! Invariant: credentials go to the registry that they belong to and to the token server that it names, over TLS
//! unless the registry itself is asked without; never to the target of a redirect or an upload location elsewhere.
//!
//! OCI distribution specification 1.1. Plain HTTP is spoken with this machine, and with hosts that were named for it.

use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;
use url::Url;

use super::auth::{Access, Challenge, Token, TokenAnswer};
use super::credentials::{self, Credential};
use super::reference::HUB;
use super::{Error, lock};
use crate::io::http::header::{CONTENT_TYPE, HeaderMap};
use crate::io::http::{
    Answer, Client, Judged, Method, Payload, Request, Verdict, authority, authorization, basic, shown,
};
use crate::io::progress::Progress;

/// Redirects and rounds of logging in that one request may take.
const MOST_HOPS: usize = 8;

/// Largest answer of a token server, in bytes.
const LARGEST_TOKEN: u64 = 1 << 20;

/// One registry.
pub(super) struct Host {
    /// As references name it.
    pub(super) name: String,
    pub(super) client: Client,
    progress: Progress,
    /// The schemes that may be spoken, in the order of trying; one when it is settled.
    schemes: Mutex<Vec<&'static str>>,
    access: Mutex<Access>,
    /// Credentials that are to be used rather than those that are kept: of somebody who logs in.
    given: Option<Credential>,
}

/// Where a request goes.
pub(super) enum Target {
    /// To a path below the registry's root.
    Path(String),
    /// To an address that the registry gave.
    Url(Url),
}

impl Host {
    /// The registry `name`, which is asked with `schemes` in this order.
    pub(super) fn new(
        name: &str,
        client: &Client,
        progress: &Progress,
        schemes: Vec<&'static str>,
        given: Option<Credential>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            client: client.clone(),
            progress: progress.clone(),
            schemes: Mutex::new(schemes),
            access: Mutex::default(),
            given,
        }
    }

    /// Whether it has said that it wants to know who asks.
    pub(super) fn asks_who(&self) -> bool {
        lock(&self.access).challenge.is_some()
    }

    /// One request with all that belongs to it: the scheme, logging in, redirects. What says "later" is an error.
    pub(super) fn ask(&self, target: &Target, request: &mut Request<'_>, scopes: &[String]) -> Result<Answer, Error> {
        let answer = self.exchange(target, request, scopes)?;
        match answer.verdict() {
            Verdict::Final => Ok(answer),
            Verdict::Unreached | Verdict::Passing { .. } => Err(Error::refusal(answer)),
        }
    }

    /// Where it listens: Docker Hub's API has another name than references have.
    fn address(&self) -> &str {
        if self.name == HUB { "registry-1.docker.io" } else { &self.name }
    }

    /// What people call it.
    pub(super) fn title(&self) -> &str {
        if self.name == HUB { "Docker Hub" } else { &self.name }
    }

    fn exchange(&self, target: &Target, request: &mut Request<'_>, scopes: &[String]) -> Result<Answer, Error> {
        let path = match target {
            Target::Url(url) => return self.converse(url.clone(), request, scopes),
            Target::Path(path) => path,
        };
        let schemes = lock(&self.schemes).clone();
        let mut first = None;
        for (index, &scheme) in schemes.iter().enumerate() {
            let text = format!("{scheme}://{}{path}", self.address());
            let url = Url::parse(&text).map_err(|error| Error::Protocol { url: text, why: error.to_string() })?;
            let last = index + 1 == schemes.len();
            match self.converse(url, request, scopes) {
                // So a server that speaks TLS answers one who does not.
                Ok(answer) if answer.status == 400 && !last => first = Some(Ok(answer)),
                Err(error @ Error::Transport { .. }) if !last => first = Some(Err(error)),
                Err(error @ Error::Transport { .. }) if error.is_passing() && first.is_some() => {}
                result => {
                    *lock(&self.schemes) = vec![scheme];
                    return result;
                }
            }
        }
        first.unwrap_or_else(|| Err(Error::Protocol { url: self.name.clone(), why: "nothing was tried".to_owned() }))
    }

    /// One request to an address, with logging in and redirects.
    fn converse(&self, mut url: Url, request: &mut Request<'_>, scopes: &[String]) -> Result<Answer, Error> {
        let mut refused = 0;
        for _ in 0..MOST_HOPS {
            let own = matches!(url.scheme(), "http" | "https") && authority(&url) == authority_of(self.address(), &url);
            let shown_to_it = if own { self.authorization(scopes)? } else { None };
            let secrets = self.secrets(shown_to_it.as_deref())?;
            let answer = self.client.send(&url, request, &secrets)?;
            if answer.status == 401 && own {
                refused += 1;
                // The second chance is for a token that has just expired.
                if refused > 2 || !self.learn(&answer, shown_to_it.as_deref(), scopes) {
                    return Ok(answer);
                }
            } else if let Some(next) = answer.redirection()? {
                url = next;
            } else {
                return Ok(answer);
            }
        }
        Err(Error::Protocol { url: shown(&url), why: "it redirects in circles".to_owned() })
    }

    /// The headers that show `text`.
    fn secrets(&self, text: Option<&str>) -> Result<HeaderMap, Error> {
        let why = "the credentials fit into no header";
        let protocol = || Error::Protocol { url: self.name.clone(), why: why.to_owned() };
        text.map_or_else(|| Ok(HeaderMap::new()), |text| authorization(text).ok_or_else(protocol))
    }

    /// Takes from a 401 what the registry wants; false where nothing new could be shown to it.
    fn learn(&self, answer: &Answer, sent: Option<&str>, scopes: &[String]) -> bool {
        let values = answer.headers.get_all("www-authenticate").iter();
        let Some(challenge) = Challenge::parse(values.filter_map(|value| value.to_str().ok())) else { return false };
        let mut access = lock(&self.access);
        if sent.is_some() {
            if challenge == Challenge::Basic {
                return false;
            }
            access.tokens.remove(&scopes.join(" "));
        }
        access.challenge = Some(challenge);
        true
    }

    /// The header that the registry wants, as far as it has said.
    fn authorization(&self, scopes: &[String]) -> Result<Option<String>, Error> {
        // Held while a token is fetched: the others want the same.
        let mut access = lock(&self.access);
        let Some(challenge) = access.challenge.clone() else { return Ok(None) };
        let repository = scopes.first().and_then(|scope| scope.split(':').nth(1)).unwrap_or_default().to_owned();
        let credential = match (&self.given, access.credentials.get(&repository)) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(known)) => known.clone(),
            (None, None) => {
                let found = credentials::find(&self.name, &repository, &self.progress)?;
                access.credentials.insert(repository, found.clone());
                found
            }
        };
        match challenge {
            Challenge::Basic => Ok(match credential {
                Some(Credential::Password { user, password }) => Some(basic(&user, &password)),
                _ => None,
            }),
            Challenge::Bearer { realm, service, scope } => {
                let key = scopes.join(" ");
                if let Some(token) = access.tokens.get(&key).filter(|token| token.is_fresh()) {
                    return Ok(Some(format!("Bearer {}", token.text)));
                }
                let mut wanted = scopes.to_vec();
                wanted.extend(scope.filter(|_| scopes.is_empty()));
                let token =
                    self.client.retrying(|| self.token(&realm, service.as_deref(), &wanted, credential.as_ref()))?;
                let header = format!("Bearer {}", token.text);
                access.tokens.insert(key, token);
                Ok(Some(header))
            }
        }
    }

    /// Asks the token server: with an identity token as OAuth 2.0 has it, else with name and password, or neither.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<Token, Error> {
        let protocol = |why: &str| Error::Protocol { url: self.name.clone(), why: why.to_owned() };
        let mut url = Url::parse(realm).map_err(|_| protocol("its token server has no valid address"))?;
        let plain_registry = lock(&self.schemes).first() == Some(&"http");
        if url.scheme() != "https" && !(url.scheme() == "http" && plain_registry) {
            return Err(protocol("its token server has no TLS, so no credentials go there"));
        }
        let asked = Instant::now();
        let (request, authorization);
        if let Some(Credential::Identity(token)) = credential {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "ekiben");
            form.append_pair("refresh_token", token).append_pair("scope", &scopes.join(" "));
            form.extend_pairs(service.map(|service| ("service", service)));
            request = Request::new(Method::POST)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .carrying(Payload::Bytes(Bytes::from(form.finish())));
            authorization = None;
        } else {
            url.query_pairs_mut()
                .extend_pairs(service.map(|service| ("service", service)))
                .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            request = Request::new(Method::GET);
            authorization = match credential {
                Some(Credential::Password { user, password }) => {
                    url.query_pairs_mut().append_pair("account", user);
                    Some(basic(user, password))
                }
                _ => None,
            };
        }
        let mut request = request.about(format!("{}'s token server", self.title()));
        let answer = self.client.send(&url, &mut request, &self.secrets(authorization.as_deref())?)?;
        match answer.status {
            200..=299 => {}
            400 | 401 | 403 => return Err(self.denied(answer, "a token", credential.is_some())),
            _ => return Err(Error::refusal(answer)),
        }
        let bytes = answer.bytes(LARGEST_TOKEN)?;
        let answer: TokenAnswer =
            serde_json::from_slice(&bytes).map_err(|_| protocol("its token server's answer holds no token"))?;
        answer.token(asked).ok_or_else(|| protocol("its token server's answer holds no token"))
    }

    /// The refusal that `answer` is, to somebody who logs in.
    pub(super) fn judge_login(&self, answer: Answer) -> Error {
        match self.judge(answer, "its API") {
            Error::Denied { registry, message, known: true, .. } => Error::Login { registry, message },
            error => error,
        }
    }

    fn denied(&self, answer: Answer, what: &str, known: bool) -> Error {
        let (registry, what) = (self.name.clone(), what.to_owned());
        match Error::refusal(answer) {
            Error::Status { message, .. } => Error::Denied { registry, what, message, known },
            error => error,
        }
    }

    /// The refusal that `answer` is.
    pub(super) fn judge(&self, answer: Answer, what: &str) -> Error {
        match answer.status {
            401 | 403 => {
                let known = self.given.is_some() || lock(&self.access).credentials.values().any(Option::is_some);
                self.denied(answer, what, known)
            }
            _ => Error::refusal(answer),
        }
    }
}

/// `host` as [`authority`] gives it: without the port that the scheme has anyway.
fn authority_of(host: &str, like: &Url) -> String {
    Url::parse(&format!("{}://{host}", like.scheme())).map(|url| authority(&url)).unwrap_or_default()
}
