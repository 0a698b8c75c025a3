//! A repository of a registry: its manifests, and its blobs as they are read. [`super::upload`] puts blobs there.
//!
//! OCI distribution specification 1.1, "Pull" and "Push".

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Error;
use super::host::{Host, Target};
use super::reference::HUB;
use crate::image::oci::{self, Descriptor, Document, MediaType};
use crate::io::digest::{Digest, Mismatch};
use crate::io::http::header::{ACCEPT, CONTENT_TYPE};
use crate::io::http::{Answer, Client, Method, Payload, Policy, Request, Transfer, Tries, Verdict, shown};

/// The documents that are read, in the order of preference.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A repository of a registry. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    host: Arc<Host>,
    name: String,
}

/// Pages of tags that are read.
const MOST_PAGES: usize = 1000;

impl Repository {
    pub(super) fn new(host: Arc<Host>, name: &str) -> Self {
        Self { host, name: name.to_owned() }
    }

    /// The repository within its registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry, as references name it.
    pub fn registry(&self) -> &str {
        &self.host.name
    }

    /// Who asks the registry.
    pub(super) fn client(&self) -> &Client {
        &self.host.client
    }

    fn scopes(&self, actions: &str, also: Option<&str>) -> Vec<String> {
        let own = format!("repository:{}:{actions}", self.name);
        let other = also.map(|name| format!("repository:{name}:pull"));
        [own].into_iter().chain(other).collect()
    }

    /// What lies at `path` below the repository.
    pub(super) fn below(&self, path: &str) -> Target {
        Target::Path(format!("/v2/{}/{path}", self.name))
    }

    /// One request for pulling.
    fn ask(&self, path: &str, request: &mut Request<'_>) -> Result<Answer, Error> {
        self.ask_at(&self.below(path), request)
    }

    /// The same, of what need not be a path below the repository.
    pub(super) fn ask_at(&self, target: &Target, request: &mut Request<'_>) -> Result<Answer, Error> {
        self.host.ask(target, request, &self.scopes("pull", None))
    }

    /// One request for pushing, and maybe for mounting something from another repository.
    pub(super) fn ask_to_push(
        &self,
        target: &Target,
        request: &mut Request<'_>,
        mount_from: Option<&str>,
    ) -> Result<Answer, Error> {
        self.host.ask(target, request, &self.scopes("pull,push", mount_from))
    }

    /// The refusal that `answer` is.
    pub(super) fn refusal(&self, answer: Answer) -> Error {
        self.host.judge(answer, &self.name)
    }

    /// What is said to be asked: `Docker Hub for python:3.12-slim`. Of a digest that would say nothing.
    fn about(&self, wanted: &str) -> String {
        let name = match self.host.name == HUB {
            true => self.name.trim_start_matches("library/"),
            false => &self.name,
        };
        let tag = if wanted.contains(':') { String::new() } else { format!(":{wanted}") };
        format!("{} for {name}{tag}", self.host.title())
    }

    /// The digest of what `wanted` (a tag or a digest) is, in one request; none where it is nothing.
    ///
    /// # Errors
    /// When the registry does not answer, or refuses to.
    pub fn head(&self, wanted: &str) -> Result<Option<Digest>, Error> {
        self.look("pull", wanted)
    }

    /// As [`Repository::head`], with the rights that the push will need, which saves a token.
    pub(super) fn head_to_push(&self, wanted: &str) -> Result<Option<Digest>, Error> {
        self.look("pull,push", wanted)
    }

    fn look(&self, actions: &str, wanted: &str) -> Result<Option<Digest>, Error> {
        let target = self.below(&format!("manifests/{wanted}"));
        let scopes = self.scopes(actions, None);
        let about = self.about(wanted);
        let request = || Request::new(Method::HEAD).header(ACCEPT, ACCEPTED).about(&*about);
        let ask = || self.host.ask(&target, &mut request(), &scopes);
        let answer = self.client().retrying(ask)?;
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

    /// All tags that there are (distribution specification 1.1, "Listing Tags"), in pages as large as the registry likes; none
    /// where there is no such repository.
    ///
    /// # Errors
    /// When the registry does not answer, refuses to, or never comes to an end.
    pub fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags: Vec<String> = Vec::new();
        for _ in 0..MOST_PAGES {
            // One page goes on behind the last tag of another, whatever its `Link` says of servers.
            let behind = tags.last().map(|last| format!("?last={last}")).unwrap_or_default();
            let (page, is_more, url) = self.client().retrying(|| {
                let mut request = Request::new(Method::GET).about(self.about("tags"));
                let answer = self.ask(&format!("tags/list{behind}"), &mut request)?;
                match answer.status {
                    200 => {}
                    404 => return Ok((b"{}".to_vec(), false, String::new())),
                    _ => return Err(self.refusal(answer)),
                }
                let (is_more, url) = (answer.header("link").is_some(), shown(&answer.url));
                Ok((answer.bytes(oci::LARGEST)?, is_more, url))
            })?;
            let page: Page = serde_json::from_slice(&page)
                .map_err(|error| Error::Protocol { url: url.clone(), why: error.to_string() })?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            if !is_more || tags.len() == before {
                return Ok(tags);
            }
        }
        let why = format!("it has more than {MOST_PAGES} pages of tags");
        Err(Error::Protocol { url: self.name.clone(), why })
    }

    /// The manifest or index that `wanted` is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none; [`Error::Wrong`] when it has another digest than was asked for.
    pub fn manifest(&self, wanted: &str) -> Result<Document, Error> {
        let separator = if wanted.contains(':') { '@' } else { ':' };
        let reference = format!("{}/{}{separator}{wanted}", self.host.name, self.name);
        let (bytes, media_type, url) = self.client().retrying(|| {
            let mut request = Request::new(Method::GET).header(ACCEPT, ACCEPTED).about(self.about(wanted));
            let answer = self.ask(&format!("manifests/{wanted}"), &mut request)?;
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
    ///
    /// Says whether the registry lists it as a referrer of what it is about, which one without the API for that does not.
    pub(super) fn put_manifest(&self, wanted: &str, manifest: &Document) -> Result<bool, Error> {
        let mut refusals = Tries::new(Policy { again: 2, ..self.client().policy() });
        loop {
            let error = match self.client().retrying(|| self.try_put_manifest(wanted, manifest)) {
                Err(error @ Error::Status { status: 400 | 404 | 409, .. }) => error,
                result => return result,
            };
            if self.head_to_push(wanted)? == Some(manifest.digest) {
                return Ok(false);
            }
            if !self.client().again(&mut refusals, Verdict::Passing { after: Duration::ZERO }, &error) {
                return Err(error);
            }
        }
    }

    fn try_put_manifest(&self, wanted: &str, manifest: &Document) -> Result<bool, Error> {
        let mut request = Request::new(Method::PUT)
            .header(CONTENT_TYPE, manifest.media_type.to_string())
            .carrying(Payload::Bytes(Bytes::from(manifest.bytes.clone())));
        let answer = self.ask_to_push(&self.below(&format!("manifests/{wanted}")), &mut request, None)?;
        if !answer.is_success() {
            return Err(self.refusal(answer));
        }
        match answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok()) {
            Some(actual) if actual != manifest.digest => {
                let source = Mismatch::Digest { expected: manifest.digest, actual };
                Err(Error::Wrong { url: shown(&answer.url), source })
            }
            _ => Ok(answer.header("oci-subject").is_some()),
        }
    }

    /// Whether a blob can be had there.
    ///
    /// # Errors
    /// When the registry does not answer, or refuses to.
    pub(super) fn offers(&self, digest: &Digest) -> Result<bool, Error> {
        let path = format!("blobs/{digest}");
        let answer = self.client().retrying(|| self.ask(&path, &mut Request::new(Method::HEAD)))?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refusal(answer)),
        }
    }

    /// Whether a blob is there, asked by whoever may put it there.
    pub(super) fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let target = self.below(&format!("blobs/{digest}"));
        let ask = || self.ask_to_push(&target, &mut Request::new(Method::HEAD), None);
        let answer = self.client().retrying(ask)?;
        match answer.status {
            200 => Ok(true),
            401 | 403 => Err(self.refusal(answer)),
            _ => Ok(false),
        }
    }

    /// A blob of at most `limit` bytes, verified.
    ///
    /// # Errors
    /// When it is larger, is not there, or has another digest.
    pub fn small_blob(&self, link: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let url = format!("{}/{}@{}", self.registry(), self.name, link.digest);
        if link.size > limit {
            return Err(Error::Protocol { url, why: format!("it has {} bytes, of at most {limit}", link.size) });
        }
        let mut bytes = Vec::new();
        self.blob(link.digest, link.size, 0).read_to_end(&mut bytes).map_err(Error::from_io)?;
        let actual = Digest::of(&bytes);
        if actual != link.digest {
            return Err(Error::Wrong { url, source: Mismatch::Digest { expected: link.digest, actual } });
        }
        Ok(bytes)
    }

    /// The bytes of a blob from an offset on. Exactly `size` bytes in all, or an error; broken connections are made
    /// up for. The digest is for the reader of it to check.
    pub fn blob(&self, digest: Digest, size: u64, from: u64) -> impl Read + Send + use<> {
        let repository = self.clone();
        Transfer::new(self.client(), size, from, move |request| {
            let answer = repository.ask(&format!("blobs/{digest}"), request)?;
            match answer.status {
                200 | 206 => Ok(answer),
                404 => {
                    let reference = format!("{}/{}@{digest}", repository.registry(), repository.name);
                    Err(Error::NotFound { reference })
                }
                _ => Err(repository.refusal(answer)),
            }
        })
    }
}
