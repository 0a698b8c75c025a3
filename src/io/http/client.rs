//! Who asks.

use std::collections::{BTreeSet, HashMap};
use std::error::Error as StdError;
use std::io;
use std::iter::successors;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use url::Url;

use super::answer::{Answer, Body, most};
use super::policy::{Judged, Policy, Tries, Verdict};
use super::request::{Part, Patience, Payload, Request};
use super::stop::{Interrupted, Stop, runtime};
use super::trust::Trust;
use super::{CONNECTING, Error, Network, Settings, authority, is_loopback, shown};
use crate::io::progress::{Progress, Task, Unit};

/// What is read from a source and handed over at once, in bytes.
const PIECE: usize = 256 << 10;

/// Redirections that are followed.
const MOST_HOPS: usize = 10;

/// From here on, whoever looks at a terminal wants to know what is waited for.
const MOMENT: Duration = Duration::from_millis(500);

/// From here on, waiting is worth a line that everybody sees.
const LONG: Duration = Duration::from_secs(10);

/// Where redirections lead that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// Anywhere, but never from TLS to where there is none. The secrets stay behind when the origin is left, for good.
    Anywhere,
    /// Within the origin (RFC 6454). One that leaves it is the answer.
    WithinOrigin,
}

/// Asks servers. Cheap to clone; connections are shared, and none is opened before the first request.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Arc<Settings>,
    /// With a folder for each host that has certificates of its own.
    folders: Arc<Vec<PathBuf>>,
    agents: Arc<Mutex<Agents>>,
    is_direct: bool,
    /// Whether any certificate will do.
    is_trusting: bool,
    policy: Policy,
    stop: Stop,
    progress: Progress,
    /// What is being said to be asked: one line is enough for twenty that ask the same.
    asking: Arc<Mutex<BTreeSet<String>>>,
}

/// What holds the connections. Loading the system's certificates takes longer than asking a server beside us, so those
/// hosts that need the same have the same one.
#[derive(Debug, Default)]
struct Agents {
    /// By scheme and host.
    hosts: HashMap<String, reqwest::Client>,
    kinds: Vec<(Kind, reqwest::Client)>,
}

#[derive(Debug, PartialEq)]
struct Kind {
    /// None where no TLS is spoken.
    trust: Option<Trust>,
    is_direct: bool,
    is_trusting: bool,
}

impl Client {
    /// A client with the system's certificates alone.
    pub fn new(network: Network) -> Self {
        Self::with(Settings { network, ..Settings::default() })
    }

    /// A client for the network as a person says that it is.
    pub fn with(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            folders: Arc::default(),
            agents: Arc::default(),
            is_direct: false,
            is_trusting: false,
            policy: Policy::default(),
            stop: Stop::default(),
            progress: Progress::silent(),
            asking: Arc::default(),
        }
    }

    /// The same client, which says whom it waits for, and where it waits to try again.
    #[must_use]
    pub fn telling(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// The same client, which trusts the authorities in further files.
    #[must_use]
    pub fn trusting_also(&self, ca: Vec<PathBuf>) -> Self {
        if ca.is_empty() {
            return self.clone();
        }
        let mut settings = Settings::clone(&self.settings);
        settings.ca.extend(ca);
        Self { settings: Arc::new(settings), agents: Arc::default(), ..self.clone() }
    }

    /// The same client, which looks below `folders` for a folder `HOST[:PORT]` with certificates of its own.
    #[must_use]
    pub fn looking_below(&self, folders: Vec<PathBuf>) -> Self {
        Self { folders: Arc::new(folders), agents: Arc::default(), ..self.clone() }
    }

    /// The same client, which tries nothing again.
    #[must_use]
    pub fn once(&self) -> Self {
        Self { policy: Policy { again: 0, unreached: 0, ..self.policy }, ..self.clone() }
    }

    /// The same client, which asks no proxy for anything.
    #[must_use]
    pub fn direct(&self) -> Self {
        Self { is_direct: true, agents: Arc::default(), ..self.clone() }
    }

    /// The same client, to which any certificate will do: what it is told, anybody on the way may have said.
    #[must_use]
    pub fn trusting_anyone(&self) -> Self {
        Self { is_trusting: true, agents: Arc::default(), ..self.clone() }
    }

    /// The same client, which waits for nothing between tries.
    #[cfg(test)]
    pub(crate) fn at_once(&self) -> Self {
        Self { policy: Policy { first: Duration::ZERO, ..self.policy }, ..self.clone() }
    }

    /// The same client, which can be stopped by itself.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { stop: Stop::default(), ..self.clone() }
    }

    /// From now on each request fails at once with [`Error::Stopped`], and so does what is under way.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// What was said about the network.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether requests fail at once.
    pub fn is_offline(&self) -> bool {
        self.settings.network == Network::Offline
    }

    /// How often something may be tried.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Does `attempt` as often as the policy has it.
    ///
    /// # Errors
    /// Those of the last attempt.
    pub fn retrying<T, E: Judged + StdError>(&self, attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        self.policy.run(|error, time| self.pause(error, time), attempt)
    }

    /// Counts a failure with `error`, of which `verdict` is what to make, waits, and says whether to try again.
    pub fn again(&self, tries: &mut Tries, verdict: Verdict, error: &dyn StdError) -> bool {
        tries.next(verdict, fastrand::f64()).is_some_and(|time| self.pause(error, time))
    }

    /// Lets a time pass after `error`, and says whether somebody still waits for what was tried.
    fn pause(&self, error: &dyn StdError, time: Duration) -> bool {
        if self.is_stopped() {
            return false;
        }
        let innermost = successors(error.source(), |cause| (*cause).source()).last();
        let cause = innermost.map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("{error}{cause}; trying again in {:.1} s", time.as_secs_f64());
        match time >= LONG {
            true => self.progress.warn(text),
            false => self.progress.detail(text),
        }
        let _task = self.progress.task("Waiting", format!("to ask again{cause}"), Unit::Items, None);
        self.stop.pause(time);
        !self.is_stopped()
    }

    /// Waits for `work`, and says after a moment that it is `about` what is asked.
    async fn telling_of<T>(&self, about: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(MOMENT, &mut work).await {
            return done;
        }
        let _asking = Asking::of(self, about);
        if let Ok(done) = timeout(LONG - MOMENT, &mut work).await {
            return done;
        }
        // Off a terminal there is no line that says it.
        self.progress.detail(format!("{about} has not answered for {} s", LONG.as_secs()));
        work.await
    }

    /// Sends a request, follows redirections, and waits for the head of the answer. `secrets` are headers for the origin
    /// of `url` alone.
    ///
    /// # Errors
    /// As [`Client::send`], and when it is redirected to nowhere or in circles.
    pub fn follow(
        &self,
        url: &Url,
        request: &mut Request<'_>,
        secrets: &HeaderMap,
        redirects: Redirects,
    ) -> Result<Answer, Error> {
        let (mut at, mut secrets) = (url.clone(), secrets.clone());
        for _ in 0..=MOST_HOPS {
            let answer = self.send(&at, request, &secrets)?;
            let stays = answer.location().is_some_and(|next| next.origin() == at.origin());
            if redirects == Redirects::WithinOrigin && !stays {
                return Ok(answer);
            }
            let Some(next) = answer.redirection()? else { return Ok(answer) };
            if !stays {
                secrets.clear();
            }
            // As browsers do it (RFC 9110, sections 15.4.2 to 15.4.4): the answer is to be had with a GET.
            if matches!(answer.status, 301..=303) && request.method != Method::HEAD {
                request.method = Method::GET;
                request.payload = Payload::Empty;
                request.headers.retain(|(name, _)| name != CONTENT_TYPE);
            }
            at = next;
        }
        Err(Error::protocol(url, "it redirects in circles"))
    }

    /// Sends one request, and waits for the head of its answer, whatever that is. `secrets` are further headers.
    ///
    /// # Errors
    /// See [`Error`]; the variants about bodies are none of them.
    pub fn send(&self, url: &Url, request: &mut Request<'_>, secrets: &HeaderMap) -> Result<Answer, Error> {
        if self.is_offline() {
            return Err(Error::Offline { url: shown(url) });
        }
        if self.is_stopped() {
            return Err(Error::Stopped { url: shown(url) });
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::protocol(url, "this is no address of HTTP"));
        }
        let runtime = runtime().map_err(Error::Threads)?;
        let Request { method, headers, payload, patience, about } = request;
        let about = &*about.get_or_insert_with(|| authority(url));
        let mut built = self.agent(url)?.request(method.clone(), url.clone());
        for (name, value) in headers.iter() {
            built = built.header(name, value.as_str());
        }
        built = built.headers(secrets.clone());
        let until = patience.whole.map(|whole| Instant::now() + whole);
        let response = match payload {
            Payload::Part(part) => self.stream(runtime, url, about, built, *patience, part)?,
            payload => {
                let body = match payload {
                    Payload::Bytes(bytes) => bytes.clone(),
                    _ => Bytes::new(),
                };
                let built = match *method {
                    Method::GET | Method::HEAD => built,
                    _ => built.header(CONTENT_LENGTH, body.len()).body(body),
                };
                let asked = self.telling_of(about, built.send());
                let answer = self.stop.wait(runtime, asked, most(patience.head, until));
                let late = patience.whole.or(patience.head);
                answer.map_err(|why| interrupted(url, why, late))?.map_err(|error| Error::of_reqwest(url, error))?
            }
        };
        Ok(Answer {
            status: response.status().as_u16(),
            method: method.clone(),
            url: response.url().clone(),
            headers: response.headers().clone(),
            body: Body {
                runtime,
                stop: self.stop.clone(),
                response,
                rest: Bytes::new(),
                patience: patience.piece,
                until,
            },
        })
    }

    /// Sends a part of a source. The server may answer before it has them all.
    fn stream(
        &self,
        runtime: &'static Runtime,
        url: &Url,
        about: &str,
        request: reqwest::RequestBuilder,
        patience: Patience,
        part: &mut Part<'_>,
    ) -> Result<reqwest::Response, Error> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let request = request
            .header(CONTENT_LENGTH, part.length)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(reqwest::Body::wrap_stream(pieces));
        let mut answer = runtime.spawn(request.send());
        let feed = || {
            let mut sent = 0;
            while sent < part.length {
                let size = (part.length - sent).min(PIECE as u64);
                let piece = part.source.read(part.from + sent, size as usize).map_err(Error::Source)?;
                sent += size;
                match self.stop.wait(runtime, sender.send(Ok(Bytes::from(piece))), patience.piece) {
                    Ok(Ok(())) => {}
                    // It answered already, or is gone: the answer tells.
                    Ok(Err(_)) => break,
                    Err(Interrupted::Late) => return Err(Error::transport(url, "it takes no more bytes")),
                    Err(why) => return Err(interrupted(url, why, patience.piece)),
                }
            }
            drop(sender);
            let asked = self.telling_of(about, &mut answer);
            self.stop.wait(runtime, asked, patience.head).map_err(|why| interrupted(url, why, patience.head))
        };
        match feed() {
            Ok(answer) => {
                answer.map_err(|error| Error::transport(url, error))?.map_err(|error| Error::of_reqwest(url, error))
            }
            Err(error) => {
                // The server must not take what was sent for the whole.
                answer.abort();
                Err(error)
            }
        }
    }

    /// What holds the connections to the host of `url`.
    fn agent(&self, url: &Url) -> Result<reqwest::Client, Error> {
        let host = format!("{}://{}", url.scheme(), authority(url));
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.hosts.get(&host) {
            return Ok(agent.clone());
        }
        let is_direct = self.is_direct || is_loopback(url.host_str().unwrap_or_default());
        let trust = match url.scheme() {
            "https" => Some(Trust::of(url, &self.settings.ca, &self.folders)),
            _ => (!is_direct && is_proxy_secure()).then(|| Trust::of(url, &self.settings.ca, &[])),
        };
        let kind = Kind { trust, is_direct, is_trusting: self.is_trusting };
        let agent = match agents.kinds.iter().find(|(known, _)| *known == kind) {
            Some((_, agent)) => agent.clone(),
            None => {
                let agent = kind.agent(url)?;
                agents.kinds.push((kind, agent.clone()));
                agent
            }
        };
        agents.hosts.insert(host, agent.clone());
        Ok(agent)
    }
}

/// Says that something is asked, for as long as it lives.
struct Asking<'a> {
    client: &'a Client,
    about: String,
    _task: Task,
}

impl<'a> Asking<'a> {
    /// None where it is being said.
    fn of(client: &'a Client, about: &str) -> Option<Self> {
        let is_first = client.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(about.to_owned());
        is_first.then(|| Self {
            client,
            about: about.to_owned(),
            _task: client.progress.task("Asking", about, Unit::Items, None),
        })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.client.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.about);
    }
}

impl Kind {
    fn agent(&self, url: &Url) -> Result<reqwest::Client, Error> {
        // The implementation of TLS's cryptography; Err means that it was chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("ekiben/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECTING);
        let builder = match &self.trust {
            Some(trust) => trust.configure(builder)?,
            None => builder.tls_certs_only([]),
        };
        let builder = if self.is_direct { builder.no_proxy() } else { builder };
        let builder = if self.is_trusting { builder.tls_danger_accept_invalid_certs(true) } else { builder };
        builder.build().map_err(|error| Error::transport(url, error.without_url()))
    }
}

/// Whether a proxy of the environment is itself spoken to with TLS, also on the way to where there is none.
fn is_proxy_secure() -> bool {
    ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        .into_iter()
        .any(|name| std::env::var(name).is_ok_and(|proxy| proxy.to_ascii_lowercase().starts_with("https:")))
}

/// What became of `url` after `time`.
fn interrupted(url: &Url, why: Interrupted, time: Option<Duration>) -> Error {
    match why {
        Interrupted::Stopped => Error::Stopped { url: shown(url) },
        Interrupted::Late => {
            Error::transport(url, format!("no answer within {} s", time.unwrap_or_default().as_secs().max(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Server;
    use super::super::{authorization, header};
    use super::*;
    use crate::io::progress::{Event, Sink};

    const DONE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone";

    fn client() -> Client {
        Client::new(Network::Online).at_once()
    }

    fn ask(client: &Client, url: &Url, redirects: Redirects) -> Result<Answer, Error> {
        let secrets = authorization("Basic secret").unwrap();
        client.follow(url, &mut Request::new(Method::GET), &secrets, redirects)
    }

    fn redirection(status: u16, to: &str) -> String {
        format!("HTTP/1.1 {status} Moved\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n")
    }

    #[test]
    fn nothing_is_opened_without_the_network_or_after_a_stop() {
        let server = Server::start([DONE]);
        let offline = ask(&Client::new(Network::Offline), &server.url, Redirects::Anywhere);
        assert!(matches!(offline, Err(Error::Offline { .. })));
        let client = client();
        let apart = client.apart();
        client.stop();
        assert!(matches!(ask(&client, &server.url, Redirects::Anywhere), Err(Error::Stopped { .. })));
        assert!(server.heads().is_empty());
        assert!(ask(&apart, &server.url, Redirects::Anywhere).unwrap().is_success());
    }

    #[test]
    fn what_is_under_way_breaks_off_when_it_is_stopped() {
        let server = Server::start(["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"]);
        let client = client();
        let answer = ask(&client, &server.url, Redirects::Anywhere).unwrap();
        let reading = std::thread::spawn(|| answer.bytes(10));
        client.stop();
        assert!(matches!(reading.join().unwrap(), Err(Error::Stopped { .. })));
        let mut tries = Tries::new(Policy::default());
        let passing = Verdict::Passing { after: Duration::from_secs(60) };
        let busy = Error::protocol(&server.url, "it is busy");
        assert!(!client.again(&mut tries, passing, &busy), "who is stopped neither waits nor tries again");
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let other = Server::start([DONE]);
        let server = Server::start([redirection(302, "/next"), redirection(307, other.url.as_str())]);
        let answer = ask(&client(), &server.url, Redirects::Anywhere).unwrap();
        assert_eq!((answer.url.clone(), answer.bytes(4).unwrap()), (other.url.clone(), b"done".to_vec()));
        assert!(server.heads().iter().all(|head| head.contains("authorization: Basic secret")), "{:?}", server.heads());
        assert!(server.heads()[1].starts_with("GET /next "));
        assert!(!other.heads()[0].contains("secret"), "{:?}", other.heads());
        let server = Server::start([redirection(302, other.url.as_str())]);
        let answer = ask(&client(), &server.url, Redirects::WithinOrigin).unwrap();
        assert_eq!((answer.status, answer.location()), (302, Some(other.url.clone())));
        assert_eq!(other.heads().len(), 1);
    }

    #[test]
    fn redirections_change_the_method_as_browsers_have_it() {
        let post = || {
            let body = Payload::Bytes(Bytes::from("{}"));
            Request::new(Method::POST).header(CONTENT_TYPE, "application/json").carrying(body)
        };
        for (status, method, length) in [(303, "GET /a ", None), (307, "POST /a ", Some("content-length: 2"))] {
            let server = Server::start([redirection(status, "/a"), DONE.to_owned()]);
            let url = server.url.clone();
            client().follow(&url, &mut post(), &HeaderMap::new(), Redirects::WithinOrigin).unwrap();
            let head = server.heads().remove(1);
            assert!(head.starts_with(method), "{head}");
            assert!(length.is_none_or(|length| head.contains(length)), "{head}");
            assert_eq!(head.contains("application/json"), length.is_some(), "{head}");
        }
        let circle = Server::start(vec![redirection(301, "/"); 20]);
        let error = ask(&client(), &circle.url, Redirects::Anywhere).err().unwrap();
        assert!(error.to_string().ends_with("it redirects in circles"), "{error}");
        assert_eq!(circle.heads().len(), MOST_HOPS + 1);
    }

    #[test]
    fn what_is_no_header_or_no_address_is_not_tried_again() {
        let server = Server::start([DONE]);
        let mut request = Request::new(Method::GET).header(header::ACCEPT, "a\nb");
        let error = client().send(&server.url, &mut request, &HeaderMap::new()).err().unwrap();
        assert!(!error.is_passing() && matches!(error, Error::Protocol { .. }), "{error:?}");
        let url = "ftp://h.example/".parse().unwrap();
        let error = client().send(&url, &mut Request::new(Method::GET), &HeaderMap::new()).err().unwrap();
        assert!(!error.is_passing() && matches!(error, Error::Protocol { .. }), "{error:?}");
    }

    #[test]
    fn what_is_tried_again_is_said() {
        #[derive(Default)]
        struct Said(Mutex<Vec<String>>);
        impl Sink for Said {
            fn event(&self, event: Event) {
                if let Event::Detail(text) = event {
                    self.0.lock().unwrap().push(text);
                }
            }
        }
        let said = Arc::new(Said::default());
        let client = client().telling(Progress::new(said.clone()));
        let server = Server::start(["", DONE]);
        let answer = client.retrying(|| ask(&client, &server.url, Redirects::Anywhere)).unwrap();
        assert_eq!(answer.bytes(4).unwrap(), b"done");
        let said = said.0.lock().unwrap();
        let [text] = said.as_slice() else { panic!("{said:?}") };
        assert!(text.starts_with(&format!("{} could not be reached: ", server.url)), "{text}");
        assert!(text.ends_with("; trying again in 0.0 s"), "{text}");
    }

    /// What is said to be asked of a server that answers after `time`.
    fn said_of_waiting(time: Duration) -> Vec<String> {
        #[derive(Default)]
        struct Asked(Mutex<Vec<String>>);
        impl Sink for Asked {
            fn event(&self, event: Event) {
                if let Event::Started { verb, subject, .. } = event {
                    self.0.lock().unwrap().push(format!("{verb} {subject}"));
                }
            }
        }
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let _ = std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
                    std::thread::sleep(time);
                    std::io::Write::write_all(&mut stream, DONE.as_bytes()).unwrap();
                });
            }
        });
        let asked = Arc::new(Asked::default());
        let client = client().telling(Progress::new(asked.clone()));
        let ask = || {
            let mut request = Request::new(Method::GET).about("Docker Hub for python:3.12-slim");
            client.send(&url, &mut request, &HeaderMap::new()).unwrap();
        };
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(ask))));
        asked.0.lock().unwrap().clone()
    }

    #[test]
    fn whom_a_long_wait_is_for_is_said_once() {
        assert_eq!(said_of_waiting(MOMENT * 3), ["Asking Docker Hub for python:3.12-slim"]);
        assert!(said_of_waiting(Duration::ZERO).is_empty());
    }

    #[test]
    fn one_reason_is_given_for_a_connection_that_is_not_made() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let closed = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        for (url, reason) in [(&*closed, "connection refused"), ("http://no.invalid/", "the name no.invalid ")] {
            let error =
                client().direct().send(&url.parse().unwrap(), &mut Request::new(Method::GET), &HeaderMap::new());
            let Err(Error::Transport { source, .. }) = error else { panic!("{url}") };
            assert!(source.to_string().starts_with(reason), "{source}");
            assert!(source.source().is_none() && source.rest().len() > 2, "{:?}", source.rest());
            assert_eq!(source.verdict(), Verdict::Unreached);
        }
        let plain = Server::start([DONE]);
        let secure = plain.url.as_str().replace("http:", "https:").parse().unwrap();
        let error = client().send(&secure, &mut Request::new(Method::GET), &HeaderMap::new());
        let Err(Error::Transport { source, .. }) = error else { panic!("{secure}") };
        assert!(!source.to_string().contains("error"), "{source}");
    }

    #[test]
    fn hosts_with_the_same_certificates_share_what_holds_the_connections() {
        let client = client();
        for url in ["http://127.0.0.1:1/", "http://localhost/", "http://[::1]:5/a"] {
            client.agent(&url.parse().unwrap()).unwrap();
        }
        let agents = client.agents.lock().unwrap();
        assert_eq!((agents.hosts.len(), agents.kinds.len()), (3, 1));
    }
}
