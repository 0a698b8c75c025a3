//! The address that all models share: who may come in, where a request goes, and what is answered when no model does.
//!
//! Invariant: each request gets one answer: a model's, or a reason as JSON. What begins with `/-/` is the gate's own, on any
//! host.

mod metrics;
mod status;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::forwarded::Proxies;
use super::instance::Body;
use super::keeper::Keeper;
use super::proxy::{self, Caller, Given};
use super::refusal::Refusal;
use super::table::{Route, Table};
use super::tally::Tally;
use super::tokens::Tokens;
use super::version::{Denied, Status, Version};

/// Versions and containers that are tried for a request of which nothing went out.
const ATTEMPTS: usize = 5;

/// The address of all models.
pub struct Gate {
    /// All containers.
    pub keeper: Arc<Keeper>,
    /// Where it listens.
    pub address: SocketAddr,
    /// When it was opened.
    pub since: SystemTime,
    /// Requests that no model was found for.
    pub strays: Tally,
    table: RwLock<Arc<Table>>,
    tokens: RwLock<Option<Tokens>>,
    control: RwLock<Tokens>,
    proxies: RwLock<Arc<Proxies>>,
    patience: Duration,
    is_closing: AtomicBool,
}

impl Gate {
    /// One without models. `tokens` are asked of everybody, if there are any; `control` of those who start and stop models.
    /// Of the body of a request something has to come within any time of the length `patience`.
    pub fn new(
        keeper: Arc<Keeper>,
        address: SocketAddr,
        tokens: Option<Tokens>,
        control: Tokens,
        patience: Duration,
    ) -> Self {
        Self {
            keeper,
            address,
            since: SystemTime::now(),
            strays: Tally::default(),
            table: RwLock::default(),
            tokens: RwLock::new(tokens),
            control: RwLock::new(control),
            proxies: RwLock::default(),
            patience,
            is_closing: AtomicBool::new(false),
        }
    }

    /// The models.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these are the models.
    pub fn set_table(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// From now on these proxies are believed.
    pub fn set_proxies(&self, proxies: Proxies) {
        *self.proxies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(proxies);
    }

    /// From now on these tokens are asked of everybody.
    pub fn set_tokens(&self, tokens: &Tokens) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Some(tokens.clone());
        *self.control.write().unwrap_or_else(PoisonError::into_inner) = tokens.clone();
    }

    /// From now on no request is taken.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    /// The answer to a request of `peer`.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let since = Instant::now();
        let is_closing = self.is_closing.load(Ordering::Acquire);
        match self.answered(request, peer, since).await {
            Ok(answer) if !is_closing => answer,
            Ok(answer) => closing(answer),
            Err(refusal) => {
                self.strays.answered(refusal.status.as_u16());
                told(&refusal)
            }
        }
    }

    async fn answered(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        since: Instant,
    ) -> Result<Response<Body>, Refusal> {
        proxy::check_head(&request)?;
        let host = proxy::host_of(&request)?;
        let path = request.uri().path();
        if path == "/-" || path.starts_with("/-/") {
            return self.own(&request);
        }
        let showed_token = self.admit(request.headers())?;
        if self.is_closing.load(Ordering::Acquire) {
            return Err(Refusal::unavailable("closing", "no requests are taken any more").after(Duration::from_secs(1)));
        }
        let target = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let name = host.as_ref().map(|host| host.host().trim_matches(['[', ']'])).unwrap_or_default();
        let route = self.table().route(name, target)?;
        let way = self.proxies.read().unwrap_or_else(PoisonError::into_inner).way(peer, request.headers());
        if route.path.is_none() {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            return moved(&format!("{}{}/{query}", way.prefix, route.prefix));
        }
        let outer = way.prefix.clone();
        let caller = Caller { way, host, showed_token, patience: self.patience };
        let request = proxy::for_model(request, caller)?;
        let version = route.model.version(route.version.as_deref())?;
        Ok(self.given(&route, &outer, version, request, since).await)
    }

    /// Gives the request to a container of the model: of `version`, or of whichever has taken its place. The prefix `outer` was
    /// taken from its path before it came here.
    async fn given(
        &self,
        route: &Route,
        outer: &str,
        mut version: Arc<Version>,
        mut request: Request<Body>,
        since: Instant,
    ) -> Response<Body> {
        let mut refusal = Refusal::broken("the model's container does not listen");
        let is_read = request.method() == Method::GET;
        for attempt in 0..ATTEMPTS {
            match version.visit(&self.keeper).await {
                Err(Denied::Refused(refused)) => {
                    refusal = refused;
                    break;
                }
                Err(Denied::Retired) => match route.model.version(route.version.as_deref()) {
                    Ok(other) => version = other,
                    Err(refused) => {
                        refusal = refused;
                        break;
                    }
                },
                Ok(visit) => {
                    let path = route.path.as_deref().unwrap_or("/");
                    let (inner, path) = match version.own_path(&route.prefix, &route.model.name, path) {
                        Some(own) => ("", own),
                        None => (&*route.prefix, path.to_owned()),
                    };
                    let prefix = format!("{outer}{inner}");
                    if let Err(refused) = proxy::place(&mut request, &prefix, &path) {
                        refusal = refused;
                        break;
                    }
                    let limit = version.model.answer.map(|seconds| Duration::from_secs(seconds.into()));
                    match proxy::give(visit, request, &prefix, &version.tally, since, limit).await {
                        Given::Answered(answer) => {
                            version.tally.answered(answer.status().as_u16());
                            let described = version.described(route.path.as_deref().unwrap_or("/"));
                            // A server that says nothing of itself is described by its image.
                            return match described.filter(|_| is_read && answer.status() == StatusCode::NOT_FOUND) {
                                Some(text) => with("application/json", text.as_bytes().to_vec()),
                                None => answer,
                            };
                        }
                        Given::Lost(lost) => {
                            refusal = lost;
                            break;
                        }
                        Given::Back(back) => {
                            request = back;
                            // That a container has died is known a moment later.
                            tokio::time::sleep(Duration::from_millis(10) * (1 << attempt)).await;
                        }
                    }
                }
            }
        }
        version.tally.answered(refusal.status.as_u16());
        version.tally.took(since.elapsed());
        told(&refusal)
    }

    /// Whether a token was needed, which then was shown.
    fn admit(&self, headers: &HeaderMap) -> Result<bool, Refusal> {
        match &*self.tokens.read().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(false),
            Some(tokens) if tokens.admit(headers) => Ok(true),
            Some(_) => Err(unauthorized()),
        }
    }

    /// What is asked of the gate itself.
    fn own(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (path, headers) = (request.uri().path(), request.headers());
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let parts: Vec<_> = path.trim_start_matches("/-").split('/').skip(1).collect();
        match parts.as_slice() {
            ["healthz"] if reads => Ok(with("application/json", br#"{"status":"ok"}"#.to_vec())),
            // The page holds nothing: what it shows it asks for itself, with the token that a person gives it.
            ["status"] if reads && prefers_page(headers) => Ok(status::page()),
            ["status"] if reads => {
                self.admit(headers)?;
                let json = serde_json::to_vec(&status::of(self)).unwrap_or_default();
                Ok(with("application/json", json))
            }
            ["metrics"] if reads => {
                self.admit(headers)?;
                Ok(with("text/plain; version=0.0.4; charset=utf-8", metrics::of(self).into_bytes()))
            }
            ["models", name, what @ ("start" | "stop")] => {
                if *request.method() != Method::POST {
                    return Ok(only("POST"));
                }
                if !self.control.read().unwrap_or_else(PoisonError::into_inner).admit(headers) {
                    return Err(unauthorized());
                }
                self.control(name, *what == "start")?;
                Ok(with("application/json", b"{}".to_vec()))
            }
            ["healthz" | "status" | "metrics"] => Ok(only("GET, HEAD")),
            _ => {
                Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", "there are /-/status, /-/metrics and /-/healthz"))
            }
        }
    }

    /// Starts the version that `name` means, or ends its container after the requests that it has.
    fn control(&self, name: &str, starts: bool) -> Result<(), Refusal> {
        let name = name.replacen("%40", "@", 1);
        let (name, version) = name.split_once('@').map_or((name.as_str(), None), |(name, tag)| (name, Some(tag)));
        let table = self.table();
        let model = table.models.get(name).ok_or_else(|| Refusal::unknown("there is no such model"))?;
        let version = model.version(version)?;
        match starts {
            true => {
                // Whoever presses a button does not wait for a pause to end.
                if version.status().0 == Status::Failed {
                    version.end();
                }
                version.bring_up(&self.keeper);
            }
            false => version.end(),
        }
        Ok(())
    }
}

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "token", "a token is needed: `Authorization: Bearer TOKEN`")
}

/// Whether a browser asks, for a person.
fn prefers_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let place = |kind: &str| accept.find(kind).unwrap_or(usize::MAX);
    place("text/html") < place("application/json")
}

/// An answer of the gate's own.
pub(super) fn with(content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(status::POLICY));
    answer
}

fn only(methods: &'static str) -> Response<Body> {
    let refusal =
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", format!("the method is not one of: {methods}"));
    let mut answer = told(&refusal);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn moved(to: &str) -> Result<Response<Body>, Refusal> {
    let mut answer = Response::new(Body::none());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_str(to).map_err(|_| Refusal::bad("the path is none"))?);
    Ok(answer)
}

/// A refusal as an answer.
fn told(refusal: &Refusal) -> Response<Body> {
    let mut answer = with("application/json", refusal.json());
    *answer.status_mut() = refusal.status;
    if let Some(time) = refusal.retry_after {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        answer.headers_mut().insert(RETRY_AFTER, seconds.max(1).into());
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // What is left of the request's body may be long.
    closing(answer)
}

/// The last answer of a connection.
fn closing(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
