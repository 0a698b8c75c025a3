//! What is about an image, beside it in its repository: signatures, lists of what is in it, how it was made.
//!
//! OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema". A registry without the API
//! (distribution 2.8, GHCR) has the list as an index at a tag that the image's digest names, which whoever adds something
//! keeps up to date. A list is what the registry says: that it leaves something out cannot be seen from it.

use std::time::{Duration, Instant};

use url::Url;

use super::Error;
use super::host::Target;
use super::repository::Repository;
use super::upload::upload;
use crate::image::oci::{self, Artifact, Content, Descriptor, Document, Index, MediaType};
use crate::io::digest::Digest;
use crate::io::http::header::ACCEPT;
use crate::io::http::{Answer, Method, Request, authority, shown};

/// Referrers of one image that are read.
pub const MOST_REFERRERS: usize = 1000;

/// Pages of referrers that are read.
const MOST_PAGES: usize = 100;

/// Referrers whose manifests are read where a list does not say what they are.
const MOST_DESCRIBED: usize = 100;

/// How often what is at a tag is written that others keep overwriting.
const ROUNDS: usize = 20;

/// The longest that is waited for others who change the same tag.
const LONGEST: Duration = Duration::from_secs(5);

impl Repository {
    /// What is about the manifest `subject`; of one kind alone where `artifact_type` says so. None where there is no such
    /// manifest.
    ///
    /// # Errors
    /// When the registry does not answer, refuses to, or lists more than [`MOST_REFERRERS`].
    pub fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let mut found = match self.listed(subject, artifact_type)? {
            Some(listed) => listed,
            None => {
                let listed = self.index_at_tag(subject)?.manifests.into_iter();
                listed.enumerate().map(|(index, one)| self.described(index, one)).collect::<Result<_, _>>()?
            }
        };
        // A registry need not have filtered, and says so in a header; looking is as good.
        found.retain(|one| artifact_type.is_none() || one.artifact_type.as_deref() == artifact_type);
        let mut known = std::collections::HashSet::new();
        found.retain(|one| known.insert(one.digest));
        if found.len() > MOST_REFERRERS {
            return Err(self.protocol(subject, format!("it lists more than {MOST_REFERRERS} referrers")));
        }
        Ok(found)
    }

    /// The manifest of a referrer, which must be about `subject`.
    ///
    /// # Errors
    /// When it cannot be had, or is about something else.
    pub fn referrer(&self, digest: &Digest, subject: &Digest) -> Result<Document, Error> {
        let document = self.manifest(&digest.to_string())?;
        match document.subject().is_some_and(|about| about.digest == *subject) {
            true => Ok(document),
            false => Err(self.protocol(digest, format!("it is listed as a referrer of {subject}, and is none"))),
        }
    }

    /// Puts `artifact` beside the manifest `subject`, which need not be there yet. Gives what lists of referrers say of it.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn attach(&self, subject: &Descriptor, artifact: &Artifact) -> Result<Descriptor, Error> {
        for (link, bytes) in artifact.blobs() {
            self.put_small(&link, &bytes)?;
        }
        let document = artifact.about(subject).map_err(|error| self.protocol(&subject.digest, error.to_string()))?;
        self.put_referrer(&document)
    }

    /// Puts the manifest of a referrer, whose blobs are there, and sees that it is listed.
    ///
    /// # Errors
    /// When it is about nothing, or the registry does not take it.
    pub fn put_referrer(&self, document: &Document) -> Result<Descriptor, Error> {
        let about = |what| document.subject().zip(document.referrer()).ok_or(what);
        let (subject, referrer) =
            about("it is about nothing").map_err(|why| self.protocol(&document.digest, why.into()))?;
        let is_listed = self.put_manifest(&document.digest.to_string(), document)?;
        if !is_listed && self.listed(&subject.digest, None)?.is_none() {
            self.list_at_tag(&subject.digest, &referrer)?;
        }
        Ok(referrer)
    }

    /// What lies beside `subject` at a tag of its own, where there is one: `sig` are simple signatures
    /// (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>, "Tag-based Discovery").
    ///
    /// # Errors
    /// When the registry does not answer, or refuses to.
    pub fn beside(&self, subject: &Digest, kind: &str) -> Result<Option<Document>, Error> {
        self.at_tag(&beside(subject, kind))
    }

    /// Puts what `change` makes of what lies beside `subject` in its place, as long as it makes something of it. The blobs of that
    /// must be there.
    ///
    /// # Errors
    /// Those of `change`, and when the registry does not take it.
    pub fn change_beside<E: From<Error>>(
        &self,
        subject: &Digest,
        kind: &str,
        change: impl FnMut(Option<&Document>) -> Result<Option<Document>, E>,
    ) -> Result<(), E> {
        self.change_at_tag(subject, &beside(subject, kind), change)
    }

    /// Puts a blob that is in memory.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn put_small(&self, link: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
        let open = |from: u64| -> std::io::Result<Box<dyn std::io::Read + Send + '_>> {
            let from = usize::try_from(from).unwrap_or(bytes.len()).min(bytes.len());
            Ok(Box::new(&bytes[from..]))
        };
        upload(self, link, &[], Box::new(open), &|_| {}).map(drop)
    }

    /// What the API lists; none where the registry has none.
    fn listed(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Option<Vec<Descriptor>>, Error> {
        let kind = artifact_type.map(|kind| url::form_urlencoded::byte_serialize(kind.as_bytes()).collect::<String>());
        let filter = kind.map(|kind| format!("?artifactType={kind}")).unwrap_or_default();
        let mut target = self.below(&format!("referrers/{subject}{filter}"));
        let mut found = Vec::new();
        for page in 0..MOST_PAGES {
            let asked = self.client().retrying(|| {
                let mut request = Request::new(Method::GET).header(ACCEPT, MediaType::Index.as_str());
                let answer = self.ask_at(&target, &mut request)?;
                match answer.status {
                    200 => {}
                    // So registries answer that know no such address (as ggcr has found out).
                    400 | 404 | 405 | 406 if page == 0 => return Ok(None),
                    _ => return Err(self.refusal(answer)),
                }
                let next = next_page(&answer)?;
                let said = answer.header("content-type").map(MediaType::of_header);
                let url = shown(&answer.url);
                Ok(Some((answer.bytes(oci::LARGEST)?, said, next, url)))
            })?;
            let Some((bytes, said, next, url)) = asked else { return Ok(None) };
            // Some answer every address with a page of theirs.
            if said != Some(MediaType::Index) && page == 0 {
                return Ok(None);
            }
            let index = Index::read(bytes).map_err(|error| Error::Protocol { url, why: error.to_string() })?;
            found.extend(index.manifests);
            match next {
                Some(next) if found.len() <= MOST_REFERRERS => target = Target::Url(next),
                _ => return Ok(Some(found)),
            }
        }
        Err(self.protocol(subject, format!("it has more than {MOST_PAGES} pages of referrers")))
    }

    /// What the manifest of a referrer says of itself, where the list does not: cosign 2 lists its bundles at the tag under the
    /// type of their empty configuration, and without annotations.
    fn described(&self, index: usize, one: Descriptor) -> Result<Descriptor, Error> {
        let is_said = one.artifact_type.as_deref().is_some_and(|kind| kind != MediaType::Empty.as_str());
        if is_said || index >= MOST_DESCRIBED {
            return Ok(one);
        }
        match self.manifest(&one.digest.to_string()) {
            Ok(document) => Ok(document.referrer().unwrap_or(one)),
            Err(Error::NotFound { .. } | Error::Wrong { .. } | Error::Protocol { .. }) => Ok(one),
            Err(error) => Err(error),
        }
    }

    /// The index at the tag of `subject`, empty where there is none.
    fn index_at_tag(&self, subject: &Digest) -> Result<Index, Error> {
        self.index_of(subject, self.at_tag(&tag(subject))?.as_ref())
    }

    fn index_of(&self, subject: &Digest, document: Option<&Document>) -> Result<Index, Error> {
        match document.map(|document| &document.content) {
            Some(Content::Index(index)) => Ok(index.clone()),
            Some(_) => Err(self.protocol(subject, format!("the tag {} is no index", tag(subject)))),
            None => Ok(Index::default()),
        }
    }

    /// What is at a tag, where something is.
    fn at_tag(&self, tag: &str) -> Result<Option<Document>, Error> {
        match self.manifest(tag) {
            Ok(document) => Ok(Some(document)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds `referrer` to the index at the tag of `subject`.
    fn list_at_tag(&self, subject: &Digest, referrer: &Descriptor) -> Result<(), Error> {
        self.change_at_tag(subject, &tag(subject), |before| {
            let mut index = self.index_of(subject, before)?;
            if index.manifests.iter().any(|known| known.digest == referrer.digest) {
                return Ok(None);
            }
            index.manifests.push(referrer.clone());
            Document::read(index.write(), None).map(Some).map_err(|error| self.protocol(subject, error.to_string()))
        })
    }

    /// Puts what `change` makes of what is at `tag` in its place, until there is nothing to change any more.
    ///
    /// A registry knows no way to write only where nobody else has written: who does the same at the same time may have read what
    /// was there before, and overwrite this. So it is looked at once more when such a one must have written.
    fn change_at_tag<E: From<Error>>(
        &self,
        subject: &Digest,
        tag: &str,
        mut change: impl FnMut(Option<&Document>) -> Result<Option<Document>, E>,
    ) -> Result<(), E> {
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let Some(document) = change(self.at_tag(tag)?.as_ref())? else { return Ok(()) };
            self.put_manifest(tag, &document)?;
            let took = started.elapsed() + Duration::from_millis(10);
            std::thread::sleep(took.mul_f64(2.0 + 2.0 * fastrand::f64()).min(LONGEST));
        }
        Err(self.protocol(subject, format!("others keep changing the tag {tag}; try again")).into())
    }

    fn protocol(&self, digest: &Digest, why: String) -> Error {
        Error::Protocol { url: format!("{}/{}@{digest}", self.registry(), self.name()), why }
    }
}

/// The tag at which referrers of `subject` are listed where there is no API.
fn tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// The tag beside `subject` at which things of a kind are.
fn beside(subject: &Digest, kind: &str) -> String {
    format!("{}.{kind}", tag(subject))
}

/// Where the next page is (RFC 8288): on the same server, or the list cannot be believed.
fn next_page(answer: &Answer) -> Result<Option<Url>, Error> {
    let Some(link) = answer.header("link") else { return Ok(None) };
    let address = link.split(',').find(|part| part.contains("rel=\"next\"") || part.contains("rel=next"));
    let Some(address) = address.and_then(|part| Some(part.split_once('<')?.1.split_once('>')?.0)) else {
        return Ok(None);
    };
    let next = answer.url.join(address).ok();
    let own = next.filter(|next| next.scheme() == answer.url.scheme() && authority(next) == authority(&answer.url));
    let elsewhere = || Error::Protocol { url: shown(&answer.url), why: "its next page is elsewhere".to_owned() };
    own.ok_or_else(elsewhere).map(Some)
}
