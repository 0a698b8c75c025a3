//! A request on its way to a model, and the answer on its way back: RFC 9110 section 7 and RFC 9112.
//!
//! Invariants: a request is sent to a model at most once. It is sent again only where nothing of it had gone out. What
//! is for one connection alone (RFC 9110 section 7.6.1) goes no further in either direction, and how long a body is, is said
//! anew from the body that was read, so that both sides see the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, Uri, Version as Http};

use super::instance::{Answer, Body, Visit};
use super::refusal::Refusal;
use super::tally::Tally;

/// Headers that are for one connection, beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Others of them that have no names in the standards.
const HOP_BY_HOP_OF_OLD: [&str; 2] = ["keep-alive", "proxy-connection"];

/// What proxies say of the way here. Whoever asks could have made it up.
const FORWARDED_OF_OLD: [&str; 7] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// The beginning of the names of headers that carry credentials.
const CREDENTIAL: &str = "env_";

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Their address.
    pub address: IpAddr,
    /// They had to show a token, which is not for the model.
    pub showed_token: bool,
}

/// The host that a request is for, without a port.
///
/// # Errors
/// When it has none, several, or one that cannot be.
pub fn host_of(request: &Request<Incoming>) -> Result<String, Refusal> {
    let headers = request.headers();
    if *request.method() == Method::CONNECT {
        return Err(Refusal::bad("this is no proxy for connections"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let written = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| Refusal::bad("the host is no text"))?),
        (Some(_), Some(_)) => return Err(Refusal::bad("the request names more than one host")),
        (None, _) if request.version() == Http::HTTP_10 => None,
        (None, _) => return Err(Refusal::bad("the request names no host")),
    };
    // RFC 9112 section 3.2.2: what stands in the target itself counts more.
    let authority = request.uri().authority().map(ToString::to_string).or_else(|| written.map(str::to_owned));
    let Some(text) = authority.filter(|text| !text.is_empty()) else { return Ok(String::new()) };
    let authority: hyper::http::uri::Authority = text.parse().map_err(|_| Refusal::bad("the host is none"))?;
    if text.contains('@') {
        return Err(Refusal::bad("the host is none"));
    }
    Ok(authority.host().trim_matches(['[', ']']).to_owned())
}

/// The head of the request as the model sees it.
///
/// # Errors
/// When it asks for another protocol.
pub fn for_model(
    request: Request<Incoming>,
    caller: Caller,
    prefix: &str,
    path: &str,
) -> Result<Request<Body>, Refusal> {
    let (mut head, body) = request.into_parts();
    let asks_for = head.headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    // What speaks HTTP/1.1 may leave HTTP/2 alone, which curl offers of itself.
    if asks_for.flat_map(|value| value.split(',')).any(|protocol| !protocol.trim().eq_ignore_ascii_case("h2c")) {
        let status = hyper::StatusCode::NOT_IMPLEMENTED;
        return Err(Refusal::new(status, "upgrade", "no other protocol than HTTP is passed on"));
    }
    let host = head.headers.get(HOST).cloned();
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(EXPECT);
    head.headers.remove(FORWARDED);
    FORWARDED_OF_OLD.iter().for_each(|name| drop(head.headers.remove(*name)));
    if caller.showed_token {
        head.headers.remove(AUTHORIZATION);
    }
    let mut says = |name: &'static str, value: Option<HeaderValue>| {
        value.and_then(|value| head.headers.insert(HeaderName::from_static(name), value));
    };
    says("x-forwarded-for", HeaderValue::from_str(&caller.address.to_string()).ok());
    says("x-forwarded-proto", Some(HeaderValue::from_static("http")));
    says("x-forwarded-host", host);
    if !prefix.is_empty() {
        says("x-forwarded-prefix", HeaderValue::from_str(prefix).ok());
    }
    head.headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
    head.uri = path.parse::<Uri>().map_err(|_| Refusal::bad("the path is none"))?;
    head.version = Http::HTTP_11;
    head.extensions.clear();
    Ok(Request::from_parts(head, Body::Request(body)))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<_> = named.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect();
    named.iter().for_each(|name| drop(headers.remove(name.as_str())));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP_OF_OLD.iter().for_each(|name| drop(headers.remove(*name)));
}

/// Whether the request carries credentials for the model.
fn has_credentials(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(CREDENTIAL) || *name == AUTHORIZATION)
}

/// How it went when a request was to be given to a container.
pub enum Given {
    /// The container answers.
    Answered(Response<Body>),
    /// Nothing of the request went out: another container may have it.
    Back(Request<Body>),
    /// It may have been read, and there is no answer.
    Lost(Refusal),
}

/// Gives the request to the container, and returns when its answer begins.
pub async fn give(
    visit: Visit,
    mut request: Request<Body>,
    tally: &Arc<Tally>,
    since: Instant,
    limit: Option<Duration>,
) -> Given {
    let instance = Arc::clone(visit.instance());
    if has_credentials(request.headers()) {
        instance.has_seen_credentials.store(true, Ordering::Relaxed);
    }
    let Ok(mut connection) = instance.connect().await else { return Given::Back(request) };
    if !connection.is_ready() && connection.ready().await.is_err() {
        return Given::Back(request);
    }
    // What is known of its length is written by whoever sends it.
    request.headers_mut().remove(CONTENT_LENGTH);
    let sent = connection.try_send_request(request);
    let answer = match limit {
        None => sent.await,
        Some(limit) => match tokio::time::timeout(limit, sent).await {
            Ok(answer) => answer,
            // The connection ends with it, by which the model learns that nobody waits any more.
            Err(_) => {
                let why = format!("the model's answer did not begin within {} s", limit.as_secs());
                return Given::Lost(Refusal::late("answer", why));
            }
        },
    };
    match answer {
        Ok(answer) => {
            let (mut head, incoming) = answer.into_parts();
            remove_hop_by_hop(&mut head.headers);
            head.version = Http::HTTP_11;
            head.extensions.clear();
            let body = Answer {
                incoming,
                connection: Some(connection),
                visit,
                tally: Arc::clone(tally),
                since,
                is_over: false,
            };
            Given::Answered(Response::from_parts(head, Body::Answer(Box::new(body))))
        }
        Err(mut error) => match error.take_message() {
            Some(request) => Given::Back(request),
            None => Given::Lost(Refusal::broken("the model broke off before it answered; it may have begun to")),
        },
    }
}
