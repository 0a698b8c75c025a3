//! Where an image lies with what is said of it: a repository, or the store.

use super::{Claim, Error, Format, Found, LARGEST, MOST, PublicKey, Refused, Signer, bundle, simple};
use crate::image::oci::{Artifact, Content, Descriptor, Document};
use crate::image::registry::{self, Repository};
use crate::image::store::{self, Store};
use crate::io::digest::Digest;

/// Where an image lies.
#[derive(Clone)]
pub enum Place {
    /// In a registry.
    Registry(Repository),
    /// Here.
    Store(Store),
}

/// Something that lies beside an image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Beside {
    /// What it is, for a person.
    pub what: String,
    /// Of its manifest, or of a simple signature's payload.
    pub digest: Digest,
    /// What it is about: the image, or the index that it is in.
    pub subject: Digest,
}

/// What became of signing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Signed {
    /// The manifest that is signed.
    pub subject: Digest,
    /// How the signatures are kept.
    pub formats: Vec<Format>,
}

impl Place {
    /// The manifest `wanted`; in the store, only a digest is one.
    ///
    /// # Errors
    /// When there is none.
    pub fn manifest(&self, wanted: &str) -> Result<Document, Error> {
        match self {
            Self::Registry(repository) => Ok(repository.manifest(wanted)?),
            Self::Store(store) => {
                let digest = wanted.parse().map_err(std::io::Error::other).map_err(store::Error::from)?;
                Ok(store.document(&digest)?)
            }
        }
    }

    /// What is about `subject`, of one kind alone where `artifact_type` says so.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        match self {
            Self::Registry(repository) => Ok(repository.referrers(subject, artifact_type)?),
            Self::Store(store) => Ok(store.referrers(subject, artifact_type)?),
        }
    }

    /// The manifest of a referrer of `subject`.
    ///
    /// # Errors
    /// When it is not there, or about something else.
    pub fn referrer(&self, digest: &Digest, subject: &Digest) -> Result<Document, Error> {
        match self {
            Self::Registry(repository) => Ok(repository.referrer(digest, subject)?),
            Self::Store(store) => Ok(store.referrer(digest, subject)?),
        }
    }

    /// A blob of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is not there, or larger.
    pub fn bytes(&self, link: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        match self {
            Self::Registry(repository) => Ok(repository.small_blob(link, limit)?),
            Self::Store(store) => Ok(store.read_blob(&link.digest, limit)?),
        }
    }

    /// Puts `artifact` beside `subject`.
    ///
    /// # Errors
    /// When the registry or the disk says no.
    pub fn attach(&self, subject: &Descriptor, artifact: &Artifact) -> Result<Descriptor, Error> {
        match self {
            Self::Registry(repository) => Ok(repository.attach(subject, artifact)?),
            Self::Store(store) => Ok(store.attach(subject, artifact)?),
        }
    }

    /// What lies beside `subject` at a tag of its own, where there is one.
    pub(super) fn beside(&self, subject: &Digest, kind: &str) -> Result<Option<Document>, Error> {
        match self {
            Self::Registry(repository) => Ok(repository.beside(subject, kind)?),
            Self::Store(store) => Ok(store.beside(subject, kind)?),
        }
    }

    /// Adds signatures, or what else lies in layers, to what lies beside `subject` at a tag of its own.
    pub(super) fn add_beside(
        &self,
        subject: &Digest,
        kind: &str,
        layers: &[(Descriptor, Vec<u8>)],
    ) -> Result<(), Error> {
        layers.iter().try_for_each(|(link, bytes)| self.put(link, bytes))?;
        let links: Vec<_> = layers.iter().map(|(link, _)| link.clone()).collect();
        let change = |before: Option<&Document>| {
            let Some((document, link, config)) = simple::with(before, &links)? else { return Ok(None) };
            self.put(&link, &config)?;
            Ok(Some(document))
        };
        match self {
            Self::Registry(repository) => repository.change_beside(subject, kind, change),
            Self::Store(store) => store.change_beside(subject, kind, change),
        }
    }

    /// Puts a blob that is in memory.
    fn put(&self, link: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Registry(repository) => Ok(repository.put_small(link, bytes)?),
            Self::Store(store) => Ok(store.put_bytes(bytes).map(drop)?),
        }
    }

    /// Puts the manifest of a referrer, with its blobs.
    pub(super) fn put_referrer(&self, document: &Document, blobs: &[(Descriptor, Vec<u8>)]) -> Result<(), Error> {
        blobs.iter().try_for_each(|(link, bytes)| self.put(link, bytes))?;
        match self {
            Self::Registry(repository) => drop(repository.put_referrer(document)?),
            Self::Store(store) => drop(store.keep_referrer(document)?),
        }
        Ok(())
    }

    /// Signs the manifest `subject` in these formats.
    ///
    /// # Errors
    /// When the signer does not sign, or what came out cannot be put.
    pub fn sign(
        &self,
        subject: &Descriptor,
        signer: &Signer,
        claim: &Claim,
        formats: &[Format],
    ) -> Result<Signed, Error> {
        for format in formats {
            match format {
                Format::Simple => {
                    self.add_beside(&subject.digest, simple::BESIDE, &[simple::layer(signer, claim)?])?;
                }
                Format::Bundle => {
                    let artifact = bundle::signed(signer, &bundle::statement(claim), bundle::SIGNED)?;
                    self.attach(subject, &artifact)?;
                }
            }
        }
        Ok(Signed { subject: subject.digest, formats: formats.to_vec() })
    }

    /// The signatures of `subject` that `keys` have made, and why others do not count.
    ///
    /// # Errors
    /// When what is there cannot be read, or is more than [`MOST`]. What cannot be found counts as not there.
    pub fn signatures(&self, subject: &Digest, keys: &[&PublicKey]) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut seen = 0;
        let mut count = || {
            seen += 1;
            if seen > MOST { Err(Error::TooMany { subject: *subject }) } else { Ok(()) }
        };
        if let Some(Document { content: Content::Image(manifest), .. }) = self.beside(subject, simple::BESIDE)? {
            for layer in &manifest.layers {
                let Some(signature) = simple::signature(layer) else { continue };
                count()?;
                match self.bytes(layer, LARGEST) {
                    Ok(payload) => found.look_at_simple(subject, &payload, signature, keys),
                    Err(error) => found.refused.push(unread(Format::Simple, layer.digest, error)?),
                }
            }
        }
        for one in self.referrers(subject, None)? {
            let is_bundle = one.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(bundle::ANY_VERSION));
            let is_other = one.annotations.get(bundle::PREDICATE).is_some_and(|kind| kind != bundle::SIGNED);
            if !is_bundle || is_other {
                continue;
            }
            count()?;
            match self.bundle(&one.digest, subject) {
                Ok(bytes) => found.look_at_bundle(subject, &bytes, keys),
                Err(error) => found.refused.push(unread(Format::Bundle, one.digest, error)?),
            }
        }
        Ok(found)
    }

    /// All that lies beside these manifests, as it says itself: nothing of it is verified.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn listed(&self, subjects: &[Digest]) -> Result<Vec<Beside>, Error> {
        let mut all = Vec::new();
        for subject in subjects {
            if let Some(Document { content: Content::Image(manifest), .. }) = self.beside(subject, simple::BESIDE)? {
                let layers = manifest.layers.into_iter().filter(|layer| simple::signature(layer).is_some());
                let what = "signature".to_owned();
                all.extend(layers.map(|layer| Beside { what: what.clone(), digest: layer.digest, subject: *subject }));
            }
            for one in self.referrers(subject, None)? {
                let kind = one.artifact_type.unwrap_or_default();
                let is_bundle = kind.starts_with(bundle::ANY_VERSION);
                let what = match one.annotations.get(bundle::PREDICATE) {
                    Some(predicate) if is_bundle && predicate == bundle::SIGNED => "signature in a bundle".to_owned(),
                    Some(predicate) => format!("attestation {predicate}"),
                    None => kind,
                };
                all.push(Beside { what, digest: one.digest, subject: *subject });
            }
        }
        Ok(all)
    }

    /// The bytes of a bundle that is a referrer of `subject`.
    fn bundle(&self, digest: &Digest, subject: &Digest) -> Result<Vec<u8>, Error> {
        let document = self.referrer(digest, subject)?;
        match &document.content {
            Content::Image(manifest) if manifest.layers.len() == 1 => self.bytes(&manifest.layers[0], LARGEST),
            _ => Err(Error::NotSignatures),
        }
    }
}

/// A signature that is not what it should be does not count; a registry that does not answer is another matter.
fn unread(format: Format, digest: Digest, error: Error) -> Result<Refused, Error> {
    match error {
        Error::NotSignatures
        | Error::Store(store::Error::Mismatch(_) | store::Error::Missing { .. } | store::Error::Damaged { .. })
        | Error::Registry(
            registry::Error::Wrong { .. } | registry::Error::Protocol { .. } | registry::Error::NotFound { .. },
        ) => Ok(Refused { format, digest, why: crate::io::explain::with_causes(&error) }),
        error => Err(error),
    }
}
