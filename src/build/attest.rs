//! What is said of an image beside it: lists of what is in it, and how it was made, as referrers (OCI 1.1) in the store and in
//! registries.
//!
//! Invariant: the image is the same with and without. What is said of the same build is the same bytes.

use super::inventory;
use super::provenance::{self, Facts};
use crate::formats::sbom::{self, Inventory};
use crate::image::oci::{Artifact, Content, Descriptor, Document, LARGEST};
use crate::image::registry::{self, Reference, Registries};
use crate::image::session::Session;
use crate::image::sign::{self, Signer, bundle};
use crate::image::{self, Image, store};
use crate::io::digest::Digest;
use crate::io::explain::{Explain, Explanation};

/// A statement of in-toto (RFC 6838).
const STATEMENT: &str = "application/vnd.in-toto+json";

/// The annotation that says what a statement's predicate is, as BuildKit has it.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// Why nothing is said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is in the image.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
    /// The image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A registry does not take it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] sign::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Inventory(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Sign(error) => error.explain(),
        }
    }
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is in it.
    Sbom(sbom::Format),
    /// How it was made.
    Provenance,
}

/// Something that is said of one image.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// What.
    pub kind: Kind,
    /// The image's manifest.
    pub subject: Descriptor,
    /// The words.
    artifact: Artifact,
}

/// What is said of the image in the store with the digest `digest`, or of each of an index, and keeps it beside them. How it was made is
/// said by whoever makes it, who knows the `facts`; later, what was said then is said again. With a
/// `signer` each of it is said in a signed bundle, too.
///
/// # Errors
/// When the image or a layer of it cannot be read, or the store not be written.
pub fn made(
    session: &Session,
    digest: &Digest,
    kinds: &[Kind],
    facts: Option<&Facts>,
    signer: Option<&Signer>,
) -> Result<Vec<Attestation>, Error> {
    let store = &session.store;
    let document = Document::read(store.read_blob(digest, LARGEST)?, None);
    let document = document.map_err(|error| image::Error::Malformed { digest: *digest, source: error.into() })?;
    let subjects: Vec<Descriptor> = match &document.content {
        Content::Index(index) => index.images().cloned().collect(),
        _ => vec![document.descriptor()],
    };
    let mut all = Vec::new();
    for subject in subjects {
        let image = Image::load(store, &subject.digest)?;
        let inventory = inventory::of(session, &image)?;
        for kind in kinds {
            let artifact = match (kind, facts) {
                (Kind::Sbom(format), _) => {
                    let kind = format.media_type();
                    Some(Artifact::of(kind, kind, inventory.text(*format).into_bytes()))
                }
                (Kind::Provenance, Some(facts)) => {
                    let text = provenance::statement(&inventory, facts).to_string();
                    let mut artifact = Artifact::of(STATEMENT, STATEMENT, text.into_bytes());
                    artifact.annotations.insert(PREDICATE.to_owned(), provenance::PREDICATE.to_owned());
                    Some(artifact)
                }
                (Kind::Provenance, None) => said_before(session, &subject)?,
            };
            let Some(artifact) = artifact else { continue };
            let signed = signer.map(|signer| signed(signer, *kind, &inventory, &artifact)).transpose()?;
            for artifact in [artifact].into_iter().chain(signed) {
                store.attach(&subject, &artifact)?;
                all.push(Attestation { kind: *kind, subject: subject.clone(), artifact });
            }
        }
    }
    Ok(all)
}

/// What `artifact` says, as a statement in a bundle of sigstore's that `signer` has signed.
fn signed(signer: &Signer, kind: Kind, inventory: &Inventory, artifact: &Artifact) -> Result<Artifact, Error> {
    let own = artifact.layers.first().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
    Ok(match kind {
        Kind::Provenance => bundle::signed(signer, own, provenance::PREDICATE)?,
        Kind::Sbom(format) => {
            let statement = provenance::about(inventory, format.predicate(), inventory.document(format));
            bundle::signed(signer, statement.to_string().as_bytes(), format.predicate())?
        }
    })
}

/// How an image was made, as its build left it in the store; none where it left nothing.
fn said_before(session: &Session, subject: &Descriptor) -> Result<Option<Artifact>, Error> {
    let store = &session.store;
    for referrer in store.referrers(&subject.digest, Some(STATEMENT))? {
        let document = store.referrer(&referrer.digest, &subject.digest)?;
        let Content::Image(manifest) = document.content else { continue };
        if manifest.annotations.get(PREDICATE).is_none_or(|kind| kind != provenance::PREDICATE) {
            continue;
        }
        let layers = manifest.layers.into_iter().map(|layer| Ok((store.read_blob(&layer.digest, LARGEST)?, layer)));
        let layers = layers.map(|layer| layer.map(|(bytes, layer)| (layer, bytes)));
        let layers = layers.collect::<Result<_, store::Error>>()?;
        let annotations = manifest.annotations;
        return Ok(Some(Artifact { artifact_type: STATEMENT.to_owned(), layers, annotations, ..Artifact::default() }));
    }
    Ok(None)
}

/// Puts `attestations` where their image goes, `to`: before it, so that nobody finds the image without them.
///
/// # Errors
/// When the registry does not take them.
pub fn push(session: &Session, attestations: &[Attestation], to: &Reference) -> Result<(), Error> {
    let repository = Registries::new(session).repository(to);
    for Attestation { subject, artifact, .. } in attestations {
        repository.attach(subject, artifact)?;
    }
    Ok(())
}
