//! A request on its way to a model, and the answer on its way back: RFC 9110 section 7 and RFC 9112. Where both change to another
//! protocol (RFC 9110 section 7.8), bytes go to and fro until one of them has enough.
//!
//! Invariants: a request is sent to a model at most once. It is sent again only where nothing of it had gone out. What
//! is for one connection alone (RFC 9110 section 7.6.1) goes no further in either direction, and how long a body is, is said
//! anew from the body that was read, so that both sides see the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::Authority;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version as Http};
use hyper_util::rt::TokioIo;

use super::forwarded::Way;
use super::instance::{Answer, Body, Fault, Visit};
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
#[derive(Clone, Debug)]
pub struct Caller {
    /// How the request came here.
    pub way: Way,
    /// The host that it is for, with its port.
    pub host: Option<Authority>,
    /// They had to show a token, which is not for the model.
    pub showed_token: bool,
    /// How long nothing may come of the request's body.
    pub patience: Duration,
}

/// What stands for a caller's connection among all: it counts as open until this is dropped.
pub type Held = Arc<dyn std::any::Any + Send + Sync>;

/// That a caller wants to go on in another protocol.
#[derive(Clone)]
struct Wish {
    protocols: Vec<String>,
    caller: OnUpgrade,
    _held: Option<Held>,
}

/// Holds the head of a request to [`HEAD`](super::HEAD). Whoever reads it stops reading there, but takes a larger one whose
/// rest happens to come with the last piece.
///
/// # Errors
/// When it is larger (RFC 6585 section 5).
pub fn check_head(request: &Request<Incoming>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if target + lines.sum::<usize>() <= super::HEAD {
        return Ok(());
    }
    let why = format!("the request's head has more than {} KiB", super::HEAD >> 10);
    Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "large-head", why))
}

/// The host that a request is for; none where one of HTTP/1.0 names none.
///
/// # Errors
/// When it has none, several, or one that cannot be.
pub fn host_of(request: &Request<Incoming>) -> Result<Option<Authority>, Refusal> {
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
    let Some(text) = authority.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.contains('@') {
        return Err(Refusal::bad("the host is none"));
    }
    text.parse().map(Some).map_err(|_| Refusal::bad("the host is none"))
}

/// The request as the model sees it, but for its path.
///
/// # Errors
/// When it wants a protocol that is none.
pub fn for_model(mut request: Request<Incoming>, caller: Caller) -> Result<Request<Body>, Refusal> {
    let wish = Wish::of(&mut request);
    let (mut head, body) = request.into_parts();
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(EXPECT);
    head.headers.remove(FORWARDED);
    FORWARDED_OF_OLD.iter().for_each(|name| drop(head.headers.remove(*name)));
    if caller.showed_token {
        head.headers.remove(AUTHORIZATION);
    }
    let mut says = |name: HeaderName, value: Option<HeaderValue>| {
        value.and_then(|value| head.headers.insert(name, value));
    };
    let Caller { way, host, .. } = caller;
    // The one that counted here, wherever it stood (RFC 9112 section 3.2.2).
    let host = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    says(HOST, host.clone().or(Some(HeaderValue::from_static("localhost"))));
    let addresses: Vec<_> = way.addresses.iter().map(ToString::to_string).collect();
    let of_old = HeaderName::from_static;
    says(of_old("x-forwarded-for"), HeaderValue::from_str(&addresses.join(", ")).ok());
    says(of_old("x-forwarded-proto"), Some(HeaderValue::from_static(way.scheme)));
    says(of_old("x-forwarded-host"), way.host.or(host));
    head.version = Http::HTTP_11;
    head.extensions.clear();
    if let Some(wish) = wish {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let protocols = HeaderValue::from_str(&wish.protocols.join(", "));
        head.headers.insert(UPGRADE, protocols.map_err(|_| Refusal::bad("the protocol is none"))?);
        head.extensions.insert(wish);
    }
    Ok(Request::from_parts(head, Body::asked(body, caller.patience)))
}

/// Gives the request the path `path`, below `prefix` as whoever asked sees it.
///
/// # Errors
/// When the path is none.
pub fn place(request: &mut Request<Body>, prefix: &str, path: &str) -> Result<(), Refusal> {
    let none = || Refusal::bad("the path is none");
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| none())?;
    let name = HeaderName::from_static("x-forwarded-prefix");
    match prefix {
        "" => drop(request.headers_mut().remove(name)),
        prefix => drop(request.headers_mut().insert(name, HeaderValue::from_str(prefix).map_err(|_| none())?)),
    }
    Ok(())
}

/// Has an answer that leads elsewhere on the model's own host (`host`) lead below `prefix`, which the model need not know of.
fn relocate(headers: &mut HeaderMap, prefix: &str, host: Option<&HeaderValue>) {
    let Some(text) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else { return };
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = ["http://", "https://"].into_iter().find_map(|scheme| {
        let length = scheme.len() + host.len();
        (text.starts_with(scheme) && text.get(scheme.len()..)?.starts_with(host)).then_some(length)
    });
    let Some((origin, path)) = text.split_at_checked(origin.unwrap_or(0)) else { return };
    let below = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    if !path.starts_with('/') || path.starts_with("//") || below {
        return;
    }
    let place = HeaderValue::from_str(&format!("{origin}{prefix}{path}"));
    place.ok().and_then(|place| headers.insert(LOCATION, place));
}

impl Wish {
    /// What the request wants: another protocol than a version of HTTP, in which requests would come that nobody looks at here.
    /// curl offers `h2c` of itself. Of a request with a body the wish is passed over, as it may be.
    fn of(request: &mut Request<Incoming>) -> Option<Self> {
        let words = |name: HeaderName| {
            let texts = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            texts.flat_map(|text| text.split(',')).map(|word| word.trim().to_owned()).collect::<Vec<_>>()
        };
        let is_asked = words(CONNECTION).iter().any(|word| word.eq_ignore_ascii_case("upgrade"));
        let is_http = |protocol: &String| {
            let name = protocol.split('/').next().unwrap_or_default();
            ["h2c", "h2", "h3", "http", ""].iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        let mut protocols = words(UPGRADE);
        protocols.retain(|protocol| !is_http(protocol));
        let has_body = !http_body::Body::is_end_stream(request.body());
        if !is_asked || protocols.is_empty() || has_body || request.version() != Http::HTTP_11 {
            return None;
        }
        let held = request.extensions_mut().remove::<Held>();
        Some(Self { protocols, caller: hyper::upgrade::on(request), _held: held })
    }

    /// Whether the answer changes to a protocol that was asked for.
    fn is_granted(&self, answer: &Response<Incoming>) -> bool {
        let protocol = answer.headers().get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.protocols.iter().any(|wanted| wanted.eq_ignore_ascii_case(protocol.trim()))
    }

    /// The answer that changes the protocol. What is said in it then goes to and fro until one side ends it, or dies.
    fn grant(self, mut answer: Response<Incoming>, visit: Visit, tally: Arc<Tally>, since: Instant) -> Response<Body> {
        let model = hyper::upgrade::on(&mut answer);
        let (mut head, _) = answer.into_parts();
        let protocol = head.headers.get(UPGRADE).cloned();
        remove_hop_by_hop(&mut head.headers);
        head.headers.remove(CONTENT_LENGTH);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        protocol.and_then(|protocol| head.headers.insert(UPGRADE, protocol));
        head.extensions.clear();
        tokio::spawn(async move {
            if let Ok((caller, model)) = tokio::try_join!(self.caller, model) {
                // Which side ended it, and how, is known to both.
                let (mut caller, mut model) = (TokioIo::new(caller), TokioIo::new(model));
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut model).await;
            }
            tally.took(since.elapsed());
            visit.instance().answered.fetch_add(1, Ordering::Relaxed);
        });
        Response::from_parts(head, Body::none())
    }
}

/// Says how long the answer is as its own connection had it, where two could be read out of it.
fn say_length(answer: &mut Response<Incoming>) {
    let is_in_pieces = answer.headers().contains_key(TRANSFER_ENCODING);
    let exact = http_body::Body::size_hint(answer.body()).exact();
    let headers = answer.headers_mut();
    let Some(first) = headers.remove(CONTENT_LENGTH) else { return };
    match exact {
        _ if is_in_pieces => {}
        Some(length) if length > 0 => drop(headers.insert(CONTENT_LENGTH, length.into())),
        // Of what has no body, as the answer to a HEAD.
        _ if first.as_bytes().iter().all(u8::is_ascii_digit) => drop(headers.insert(CONTENT_LENGTH, first)),
        _ => {}
    }
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

/// Gives the request to the container, which whoever asked sees below `prefix`, and returns when its answer begins.
pub async fn give(
    visit: Visit,
    mut request: Request<Body>,
    prefix: &str,
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
    let host = request.headers().get(HOST).cloned();
    let (wish, fault) = (request.extensions().get::<Wish>().cloned(), request.body().fault());
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
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => match wish {
            Some(wish) if wish.is_granted(&answer) => {
                Given::Answered(wish.grant(answer, visit, Arc::clone(tally), since))
            }
            _ => Given::Lost(Refusal::broken("the model changed to a protocol that nobody asked for")),
        },
        Ok(mut answer) => {
            say_length(&mut answer);
            let (mut head, incoming) = answer.into_parts();
            remove_hop_by_hop(&mut head.headers);
            relocate(&mut head.headers, prefix, host.as_ref());
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
            None => Given::Lost(match fault.and_then(|fault| fault.get().copied()) {
                Some(fault @ Fault::Slow) => Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", fault.to_string()),
                Some(fault @ Fault::Broken) => Refusal::bad(fault.to_string()),
                None => Refusal::broken("the model broke off before it answered; it may have begun to"),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_on_the_models_host_leads_below_its_prefix() {
        for (prefix, location, expected) in [
            ("/iris", "/docs", "/iris/docs"),
            ("/iris", "/docs?x=/iris", "/iris/docs?x=/iris"),
            ("/iris", "/iris/docs", "/iris/docs"),
            ("/iris", "/irises", "/iris/irises"),
            ("/iris", "http://here:1/docs", "http://here:1/iris/docs"),
            ("/iris", "https://here:1/iris", "https://here:1/iris"),
            ("/iris", "https://here:12/docs", "https://here:12/docs"),
            ("/iris", "https://elsewhere/docs", "https://elsewhere/docs"),
            ("/iris", "//elsewhere/docs", "//elsewhere/docs"),
            ("/iris", "docs", "docs"),
            ("/shop/iris", "/docs", "/shop/iris/docs"),
            ("", "/docs", "/docs"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            relocate(&mut headers, prefix, Some(&HeaderValue::from_static("here:1")));
            assert_eq!(headers[LOCATION], expected, "{prefix} {location}");
        }
    }
}
