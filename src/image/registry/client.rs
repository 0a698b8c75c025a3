//! Registries: who is asked how, with which credentials, and how often.
//!
//! Invariant: credentials go to the registry that they belong to and to the token server that it names, over TLS
//! unless the registry itself is asked without; never to the target of a redirect or an upload location elsewhere.
//!
//! OCI distribution specification 1.1. Plain HTTP is spoken with this machine, and with hosts that were named for it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RANGE};
use reqwest::{Method, Url};

use super::Error;
use super::auth::{self, Access, Challenge, TokenAnswer};
use super::credentials::{self, Credential};
use super::reference::{HUB, Reference};
use super::transport::{Answer, Body, Call, Payload, Shared, Transport, authority, is_loopback, shown, transport};
use crate::image::download::Network;
use crate::image::oci::{self, Document, MediaType};
use crate::image::session::Session;
use crate::io::digest::{Digest, Mismatch};
use crate::io::explain::carry;
use crate::io::progress::Progress;

/// The documents that are read, in the order of preference.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Redirects and rounds of logging in that one request may take.
const MOST_HOPS: usize = 8;

/// Largest answer of a token server, in bytes.
const LARGEST_TOKEN: u64 = 1 << 20;

/// All registries, as one command knows them. Cheap to clone.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Shared,
    network: Network,
    progress: Progress,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

/// One registry.
struct Host {
    /// As references name it.
    name: String,
    transport: Shared,
    progress: Progress,
    /// The schemes that may be spoken, in the order of trying; one when it is settled.
    schemes: Mutex<Vec<&'static str>>,
    access: Mutex<Access>,
    /// Credentials that are to be used rather than those that are kept: of somebody who logs in.
    given: Option<Credential>,
}

/// A repository of a registry. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    host: Arc<Host>,
    name: String,
}

/// Where a request goes.
pub(super) enum Target {
    /// To a path below the registry's root.
    Path(String),
    /// To an address that the registry gave.
    Url(Url),
}

/// How often something is tried, and how long to wait in between.
pub(super) struct Tries {
    left: u32,
    wait: Duration,
}

impl Tries {
    const MOST: u32 = 6;
    const FIRST: Duration = Duration::from_millis(200);
    /// Longest time that a registry may ask to be left alone.
    const PATIENCE: Duration = Duration::from_secs(300);

    pub(super) fn new() -> Self {
        Self { left: Self::MOST, wait: Self::FIRST }
    }

    /// Something was achieved: the count begins anew.
    pub(super) fn progress(&mut self) {
        *self = Self::new();
    }

    /// Waits, and says whether to try again after `error`.
    pub(super) fn again(&mut self, error: &Error) -> bool {
        let asked = error.retry_after().unwrap_or_default();
        if !error.is_passing() || self.left == 0 || asked > Self::PATIENCE {
            return false;
        }
        self.left -= 1;
        // Twenty clients that failed together should not come back together.
        let jitter = 0.5 + fastrand::f64();
        std::thread::sleep(self.wait.mul_f64(jitter).max(asked));
        self.wait *= 2;
        true
    }

    /// Whether it has failed so often that another way is worth a try.
    pub(super) fn is_nearly_over(&self) -> bool {
        self.left <= Self::MOST / 2
    }

    /// Tries until it works or it is of no use.
    pub(super) fn run<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = Self::new();
        loop {
            match attempt() {
                Err(error) if tries.again(&error) => {}
                result => return result,
            }
        }
    }
}

impl Registries {
    /// Registries as `session` may reach them. No connection is opened yet.
    ///
    /// # Errors
    /// When no threads can be started.
    pub fn new(session: &Session) -> Result<Self, Error> {
        let network = session.client.network().clone();
        let transport = Arc::new(Transport::new(network.offline, network.ca.clone())?);
        let progress = session.progress.clone();
        Ok(Self { inner: Arc::new(Inner { transport, network, progress, hosts: Mutex::default() }) })
    }

    /// The repository of `reference`.
    pub fn repository(&self, reference: &Reference) -> Repository {
        let mut hosts = lock(&self.inner.hosts);
        let host =
            hosts.entry(reference.registry().to_owned()).or_insert_with(|| self.host(reference.registry(), None));
        Repository { host: host.clone(), name: reference.repository().to_owned() }
    }

    fn host(&self, name: &str, given: Option<Credential>) -> Arc<Host> {
        let Inner { transport, network, progress, .. } = &*self.inner;
        let host = name.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(name, |(host, _)| host);
        let schemes = match () {
            () if network.plain_http.iter().any(|plain| plain == name) => vec!["http"],
            () if is_loopback(host) => vec!["http", "https"],
            () => vec!["https"],
        };
        Arc::new(Host {
            name: name.to_owned(),
            transport: transport.clone(),
            progress: progress.clone(),
            schemes: Mutex::new(schemes),
            access: Mutex::default(),
            given,
        })
    }

    /// Finds out whether `registry` knows somebody, and keeps the credential if it does. Says where.
    ///
    /// # Errors
    /// [`Error::Denied`] when it does not.
    pub fn login(&self, registry: &str, credential: Credential) -> Result<String, Error> {
        let host = self.host(registry, Some(credential.clone()));
        let ask = || host.exchange(&Target::Path("/v2/".to_owned()), &mut Call::new(Method::GET), &[]);
        let answer = Tries::run(|| passing(ask()?))?;
        if answer.status != 200 {
            return Err(host.judge(answer, "log in"));
        }
        // A registry that asks nobody has checked nothing.
        if lock(&host.access).challenge.is_none() {
            let why = "it asks for no credentials, so these were not checked";
            self.inner.progress.warn(format!("{registry}: {why}"));
        }
        credentials::keep(registry, &credential)
    }
}

/// Removes what is kept to log in to `registry`; says whether there was something.
///
/// # Errors
/// When a file cannot be changed.
pub fn logout(registry: &str) -> Result<bool, Error> {
    credentials::forget(registry)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that says "later" is an error at once, so that it is asked again.
fn passing(answer: Answer) -> Result<Answer, Error> {
    match answer.status {
        408 | 429 | 500 | 502..=504 => Err(answer.refusal()),
        _ => Ok(answer),
    }
}

impl Host {
    /// Where it listens: Docker Hub's API has another name than references have.
    fn address(&self) -> &str {
        if self.name == HUB { "registry-1.docker.io" } else { &self.name }
    }

    /// One request with all that belongs to it: the scheme, logging in, redirects.
    fn exchange(&self, target: &Target, call: &mut Call<'_>, scopes: &[String]) -> Result<Answer, Error> {
        let path = match target {
            Target::Url(url) => return self.converse(url.clone(), call, scopes),
            Target::Path(path) => path,
        };
        let schemes = lock(&self.schemes).clone();
        let mut first = None;
        for (index, &scheme) in schemes.iter().enumerate() {
            let text = format!("{scheme}://{}{path}", self.address());
            let url = Url::parse(&text).map_err(|error| Error::Protocol { url: text, why: error.to_string() })?;
            let last = index + 1 == schemes.len();
            match self.converse(url, call, scopes) {
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
    fn converse(&self, mut url: Url, call: &mut Call<'_>, scopes: &[String]) -> Result<Answer, Error> {
        let mut refused = 0;
        for _ in 0..MOST_HOPS {
            let own = matches!(url.scheme(), "http" | "https") && authority(&url) == authority_of(self.address(), &url);
            let authorization = if own { self.authorization(scopes)? } else { None };
            let answer = self.transport.send(&url, call, authorization.as_deref())?;
            match answer.status {
                401 if own => {
                    refused += 1;
                    // The second chance is for a token that has just expired.
                    if refused > 2 || !self.learn(&answer, authorization.as_deref(), scopes) {
                        return Ok(answer);
                    }
                }
                301 | 302 | 303 | 307 | 308 => {
                    let protocol = |why: &str| Error::Protocol { url: shown(&url), why: why.to_owned() };
                    let next = answer.location().ok_or_else(|| protocol("it redirects to nowhere"))?;
                    if url.scheme() == "https" && next.scheme() != "https" {
                        return Err(protocol("it redirects to where there is no TLS"));
                    }
                    url = next;
                }
                _ => return Ok(answer),
            }
        }
        Err(Error::Protocol { url: shown(&url), why: "it redirects in circles".to_owned() })
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
                Some(Credential::Password { user, password }) => Some(auth::basic(&user, &password)),
                _ => None,
            }),
            Challenge::Bearer { realm, service, scope } => {
                let key = scopes.join(" ");
                if let Some(token) = access.tokens.get(&key).filter(|token| token.is_fresh()) {
                    return Ok(Some(format!("Bearer {}", token.text)));
                }
                let mut wanted = scopes.to_vec();
                wanted.extend(scope.filter(|_| scopes.is_empty()));
                let token = Tries::run(|| self.token(&realm, service.as_deref(), &wanted, credential.as_ref()))?;
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
    ) -> Result<auth::Token, Error> {
        let protocol = |why: &str| Error::Protocol { url: self.name.clone(), why: why.to_owned() };
        let mut url = Url::parse(realm).map_err(|_| protocol("its token server has no valid address"))?;
        let plain_registry = lock(&self.schemes).first() == Some(&"http");
        if url.scheme() != "https" && !(url.scheme() == "http" && plain_registry) {
            return Err(protocol("its token server has no TLS, so no credentials go there"));
        }
        let asked = Instant::now();
        let (mut call, authorization);
        if let Some(Credential::Identity(token)) = credential {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "ekiben");
            form.append_pair("refresh_token", token).append_pair("scope", &scopes.join(" "));
            form.extend_pairs(service.map(|service| ("service", service)));
            call = Call::new(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            call.payload = Payload::Bytes(Bytes::from(form.finish()));
            authorization = None;
        } else {
            url.query_pairs_mut()
                .extend_pairs(service.map(|service| ("service", service)))
                .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            call = Call::new(Method::GET);
            authorization = match credential {
                Some(Credential::Password { user, password }) => {
                    url.query_pairs_mut().append_pair("account", user);
                    Some(auth::basic(user, password))
                }
                _ => None,
            };
        }
        let answer = self.transport.send(&url, &mut call, authorization.as_deref())?;
        match answer.status {
            200..=299 => {}
            400 | 401 | 403 => return Err(self.denied(answer, "a token", credential.is_some())),
            _ => return Err(answer.refusal()),
        }
        let bytes = answer.bytes(LARGEST_TOKEN)?;
        let answer: TokenAnswer =
            serde_json::from_slice(&bytes).map_err(|_| protocol("its token server's answer holds no token"))?;
        answer.token(asked).ok_or_else(|| protocol("its token server's answer holds no token"))
    }

    fn denied(&self, answer: Answer, what: &str, known: bool) -> Error {
        let (registry, what) = (self.name.clone(), what.to_owned());
        match answer.refusal() {
            Error::Status { message, .. } => Error::Denied { registry, what, message, known },
            error => error,
        }
    }

    /// The refusal that `answer` is.
    fn judge(&self, answer: Answer, what: &str) -> Error {
        match answer.status {
            401 | 403 => {
                let known = self.given.is_some() || lock(&self.access).credentials.values().any(Option::is_some);
                self.denied(answer, what, known)
            }
            _ => answer.refusal(),
        }
    }
}

/// `host` as [`authority`] gives it: without the port that the scheme has anyway.
fn authority_of(host: &str, like: &Url) -> String {
    Url::parse(&format!("{}://{host}", like.scheme())).map(|url| authority(&url)).unwrap_or_default()
}

impl Repository {
    /// The repository within its registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry, as references name it.
    pub fn registry(&self) -> &str {
        &self.host.name
    }

    pub(super) fn scopes(&self, actions: &str, also: Option<&str>) -> Vec<String> {
        let own = format!("repository:{}:{actions}", self.name);
        let other = also.map(|name| format!("repository:{name}:pull"));
        [own].into_iter().chain(other).collect()
    }

    /// One request for pulling; what says "later" is an error.
    fn ask(&self, call: &mut Call<'_>, path: &str) -> Result<Answer, Error> {
        let target = Target::Path(format!("/v2/{}/{path}", self.name));
        passing(self.host.exchange(&target, call, &self.scopes("pull", None))?)
    }

    /// One request for pushing; what says "later" is an error.
    pub(super) fn push_call(
        &self,
        target: &Target,
        call: &mut Call<'_>,
        mount_from: Option<&str>,
    ) -> Result<Answer, Error> {
        passing(self.host.exchange(target, call, &self.scopes("pull,push", mount_from))?)
    }

    pub(super) fn refusal(&self, answer: Answer) -> Error {
        self.host.judge(answer, &self.name)
    }

    /// The digest of what `wanted` (a tag or a digest) is, in one request; none where it is nothing. `pushing` asks
    /// with the rights that the push will need, which saves a token.
    ///
    /// # Errors
    /// When the registry does not answer, or refuses to.
    pub fn head(&self, wanted: &str, pushing: bool) -> Result<Option<Digest>, Error> {
        let target = Target::Path(format!("/v2/{}/manifests/{wanted}", self.name));
        let scopes = self.scopes(if pushing { "pull,push" } else { "pull" }, None);
        let answer = Tries::run(|| {
            let mut call = Call::new(Method::HEAD).header(ACCEPT, ACCEPTED);
            passing(self.host.exchange(&target, &mut call, &scopes)?)
        })?;
        match answer.status {
            200 => match answer.header("docker-content-digest").and_then(|text| text.parse().ok()) {
                Some(digest) => Ok(Some(digest)),
                // The header is but a SHOULD.
                None => Ok(Some(self.manifest(wanted)?.digest)),
            },
            404 => Ok(None),
            _ => Err(self.refusal(answer)),
        }
    }

    /// The manifest or index that `wanted` is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none; [`Error::Wrong`] when it has another digest than was asked for.
    pub fn manifest(&self, wanted: &str) -> Result<Document, Error> {
        let separator = if wanted.contains(':') { '@' } else { ':' };
        let reference = format!("{}/{}{separator}{wanted}", self.host.name, self.name);
        let (bytes, media_type, url) = Tries::run(|| {
            let mut call = Call::new(Method::GET).header(ACCEPT, ACCEPTED);
            let answer = self.ask(&mut call, &format!("manifests/{wanted}"))?;
            match answer.status {
                200 => {}
                404 => return Err(Error::NotFound { reference: reference.clone() }),
                _ => return Err(self.refusal(answer)),
            }
            let (media_type, url) = (answer.header("content-type").map(str::to_owned), shown(&answer.url));
            Ok((answer.bytes(oci::LARGEST)?, media_type, url))
        })?;
        if let Ok(expected) = wanted.parse::<Digest>()
            && Digest::of(&bytes) != expected
        {
            let actual = Digest::of(&bytes);
            return Err(Error::Wrong { url, source: Mismatch::Digest { expected, actual } });
        }
        let said = media_type.as_deref().map(MediaType::of_header);
        Document::read(bytes, said).map_err(|error| Error::Protocol { url, why: error.to_string() })
    }

    /// Puts a manifest under `wanted`. That its answer gets lost is harmless: the same again does the same.
    ///
    /// Where several put the same one at once, distribution 2.8 reads files that another request is just writing, and
    /// answers that the digest is wrong or a blob unknown. So a refusal is believed when it was given three times.
    pub(super) fn put_manifest(&self, wanted: &str, manifest: &Document) -> Result<(), Error> {
        let mut refusals = 0;
        loop {
            let error = match Tries::run(|| self.try_put_manifest(wanted, manifest)) {
                Err(error @ Error::Status { status: 400 | 404 | 409, .. }) => error,
                result => return result,
            };
            refusals += 1;
            if self.head(wanted, true)? == Some(manifest.digest) {
                return Ok(());
            }
            if refusals == 3 {
                return Err(error);
            }
            std::thread::sleep(Tries::FIRST.mul_f64(0.5 + fastrand::f64()));
        }
    }

    fn try_put_manifest(&self, wanted: &str, manifest: &Document) -> Result<(), Error> {
        let target = Target::Path(format!("/v2/{}/manifests/{wanted}", self.name));
        let mut call = Call::new(Method::PUT).header(CONTENT_TYPE, manifest.media_type.to_string());
        call.payload = Payload::Bytes(Bytes::from(manifest.bytes.clone()));
        let answer = self.push_call(&target, &mut call, None)?;
        if !matches!(answer.status, 200..=299) {
            return Err(self.refusal(answer));
        }
        match answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok()) {
            Some(actual) if actual != manifest.digest => {
                let source = Mismatch::Digest { expected: manifest.digest, actual };
                Err(Error::Wrong { url: shown(&answer.url), source })
            }
            _ => Ok(()),
        }
    }

    /// Whether a blob is there.
    pub(super) fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let target = Target::Path(format!("/v2/{}/blobs/{digest}", self.name));
        let answer = Tries::run(|| self.push_call(&target, &mut Call::new(Method::HEAD), None))?;
        match answer.status {
            200 => Ok(true),
            401 | 403 => Err(self.refusal(answer)),
            _ => Ok(false),
        }
    }

    /// The bytes of a blob from an offset on. Exactly `size` bytes in all, or an error; broken connections are made
    /// up for. The digest is for the reader of it to check.
    pub fn blob(&self, digest: Digest, size: u64, from: u64) -> Blob {
        Blob {
            repository: self.clone(),
            digest,
            size,
            position: from,
            url: String::new(),
            body: None,
            tries: Tries::new(),
            since: from,
        }
    }
}

/// See [`Repository::blob`].
pub struct Blob {
    repository: Repository,
    digest: Digest,
    size: u64,
    position: u64,
    url: String,
    body: Option<Body>,
    tries: Tries,
    /// Where the last failure was.
    since: u64,
}

impl Blob {
    /// A body that begins at the position.
    fn connect(&mut self) -> Result<Body, Error> {
        let mut call = Call::new(Method::GET);
        if self.position > 0 {
            call = call.header(RANGE, format!("bytes={}-", self.position));
        }
        let answer = self.repository.ask(&mut call, &format!("blobs/{}", self.digest))?;
        self.url = shown(&answer.url);
        let begins = match answer.status {
            200 => 0,
            206 if answer
                .header("content-range")
                .is_some_and(|range| range.starts_with(&format!("bytes {}-", self.position))) =>
            {
                self.position
            }
            206 => {
                let why = "it sent another part of the blob than was asked for".to_owned();
                return Err(Error::Protocol { url: self.url.clone(), why });
            }
            404 => {
                let reference = format!("{}/{}@{}", self.repository.registry(), self.repository.name, self.digest);
                return Err(Error::NotFound { reference });
            }
            _ => return Err(self.repository.refusal(answer)),
        };
        let length = answer.header("content-length").and_then(|text| text.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| begins + length > self.size) {
            return Err(self.wrong_size(begins + length, true));
        }
        let url = answer.url.clone();
        let mut body = answer.body();
        // A server without ranges sends all again.
        let skip = self.position - begins;
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink()).map_err(|error| transport(&url, error))?;
        if skipped < skip {
            return Err(transport(&url, io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(body)
    }

    fn wrong_size(&self, actual: u64, more: bool) -> Error {
        Error::Wrong { url: self.url.clone(), source: Mismatch::Size { expected: self.size, actual, more } }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None if self.position == self.size => return Ok(0),
            None => self.connect()?,
        };
        let lost = |url: &str, source: io::Error| Error::Transport { url: url.to_owned(), source: source.into() };
        if self.position == self.size {
            // A lost connection after the last byte is no loss.
            return match body.read(&mut [0]) {
                Ok(1..) => Err(self.wrong_size(self.size + 1, true)),
                _ => Ok(0),
            };
        }
        let room = usize::try_from(self.size - self.position).unwrap_or(usize::MAX).min(buffer.len());
        match body.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => Err(lost(&self.url, io::ErrorKind::UnexpectedEof.into())),
            Ok(taken) => {
                self.position += taken as u64;
                self.body = Some(body);
                Ok(taken)
            }
            Err(error) => Err(lost(&self.url, error)),
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        /// What counts as having got on, in bytes.
        const STEP: u64 = 64 << 10;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.next(buffer) {
                Ok(taken) => return Ok(taken),
                Err(error) => {
                    if self.position >= self.since + STEP {
                        self.tries.progress();
                        self.since = self.position;
                    }
                    if !self.tries.again(&error) {
                        return Err(carry(error));
                    }
                }
            }
        }
    }
}
