//! Sigstore's bundle: an in-toto statement in a DSSE envelope, as the layer of a referrer.
//!
//! <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>,
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>, <https://github.com/in-toto/attestation>.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;

use super::{Claim, Error, PublicKey, Signer};
use crate::image::oci::Artifact;
use crate::io::digest::Digest;

/// What a bundle is that is written.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What every bundle's type begins with.
pub const ANY_VERSION: &str = "application/vnd.dev.sigstore.bundle";

/// The annotation of a referrer that says what its statement is about.
pub const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// The predicate of a statement that says nothing but that an image is signed.
pub const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// What is in an envelope.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Signatures that one envelope may have.
const MOST_SIGNATURES: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Sig>,
}

#[derive(Deserialize)]
struct Sig {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Option<Predicate>,
}

#[derive(Deserialize)]
struct Subject {
    name: Option<String>,
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Predicate {
    creator: Option<String>,
    timestamp: Option<u64>,
}

/// An envelope whose signature is good.
pub struct Opened {
    /// The statement that was signed.
    pub statement: Vec<u8>,
    /// Which of the keys has signed it.
    pub keys: Vec<usize>,
}

/// The statement that an image is signed.
pub fn statement(claim: &Claim) -> Vec<u8> {
    let mut subject = json!({ "digest": { "sha256": claim.subject.hex() } });
    if let Some(identity) = &claim.identity {
        subject["name"] = json!(identity);
    }
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": { "creator": claim.creator, "timestamp": claim.made },
        "predicateType": SIGNED,
        "subject": [subject],
    });
    statement.to_string().into_bytes()
}

/// An in-toto statement, signed: a referrer of what it is about. `predicate` is its predicate's type, which registries list.
///
/// # Errors
/// When the signer does not sign.
pub fn signed(signer: &Signer, statement: &[u8], predicate: &str) -> Result<Artifact, Error> {
    let bundle = written(signer, statement, &signer.public()?.fingerprint())?;
    let mut artifact = Artifact::of(MEDIA_TYPE, MEDIA_TYPE, bundle);
    let annotations = [("dev.sigstore.bundle.content", "dsse-envelope"), (PREDICATE, predicate)];
    artifact.annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Ok(artifact)
}

/// A bundle with an in-toto statement, signed. `hint` is what tells the key from others.
///
/// # Errors
/// When the signer does not sign.
pub fn written(signer: &Signer, statement: &[u8], hint: &Digest) -> Result<Vec<u8>, Error> {
    let signature = signer.sign(&encoded(IN_TOTO, statement))?;
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": { "publicKey": { "hint": hint.hex() } },
        "dsseEnvelope": {
            "payload": BASE64.encode(statement),
            "payloadType": IN_TOTO,
            "signatures": [{ "sig": BASE64.encode(signature) }],
        },
    });
    Ok(bundle.to_string().into_bytes())
}

/// Opens a bundle that any of `keys` has signed.
///
/// # Errors
/// When it is none, or none of them has: why.
pub fn open(bundle: &[u8], keys: &[&PublicKey]) -> Result<Opened, String> {
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| error.to_string())?;
    if !bundle.media_type.starts_with(ANY_VERSION) {
        return Err(format!("it says that it is `{}`", bundle.media_type));
    }
    let envelope = bundle.dsse_envelope.ok_or("it has no DSSE envelope")?;
    if envelope.payload_type != IN_TOTO {
        return Err(format!("its payload is `{}`", envelope.payload_type));
    }
    if envelope.signatures.is_empty() || envelope.signatures.len() > MOST_SIGNATURES {
        return Err(format!("it has {} signatures", envelope.signatures.len()));
    }
    let statement = BASE64.decode(&envelope.payload).map_err(|_| "its payload is no base64")?;
    let message = encoded(&envelope.payload_type, &statement);
    let signatures: Vec<_> = envelope.signatures.iter().filter_map(|one| BASE64.decode(&one.sig).ok()).collect();
    let has_signed = |key: &PublicKey| signatures.iter().any(|signature| key.verifies(&message, signature));
    let keys: Vec<_> = keys.iter().enumerate().filter(|(_, key)| has_signed(key)).map(|(index, _)| index).collect();
    match (keys.is_empty(), bundle.verification_material.public_key) {
        (false, _) => Ok(Opened { statement, keys }),
        (true, Some(_)) => Err("none of the keys has made it".to_owned()),
        (true, None) => Err("it was made without a key of its own (keyless), which is not verified here".to_owned()),
    }
}

/// What a statement claims of `subject`; none of one that says something else than that it is signed.
///
/// # Errors
/// When it is no statement, or about something else.
pub fn read(statement: &[u8], subject: &Digest) -> Result<Option<Claim>, String> {
    let statement: Statement = serde_json::from_slice(statement).map_err(|error| error.to_string())?;
    if !statement.kind.starts_with("https://in-toto.io/Statement/") {
        return Err(format!("it says that it is a `{}`", statement.kind));
    }
    if statement.predicate_type != SIGNED {
        return Ok(None);
    }
    let hex = subject.hex();
    let about = statement.subject.into_iter().find(|one| one.digest.get("sha256") == Some(&hex));
    let Some(Subject { name, .. }) = about else { return Err("it is about another image".to_owned()) };
    let (creator, made) = statement.predicate.map_or((None, None), |one| (one.creator, one.timestamp));
    Ok(Some(Claim { subject: *subject, identity: name.filter(|name| !name.is_empty()), creator, made }))
}

/// What is signed: PAE of the DSSE protocol, so that a payload counts as its type alone.
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sign::{Algorithm, PrivateKey};

    #[test]
    fn a_statement_counts_for_what_it_is_about() {
        let signer = Signer::Key(PrivateKey::new(Algorithm::Ed25519));
        let (key, other) = (signer.public().unwrap(), PrivateKey::new(Algorithm::P256).public().unwrap());
        let claim = Claim { subject: Digest::of("x"), identity: None, creator: None, made: Some(1) };
        let artifact = signed(&signer, &statement(&claim), SIGNED).unwrap();
        let bytes = &artifact.layers[0].1;
        assert!(open(bytes, &[&other]).err().unwrap().contains("none of the keys"));
        let opened = open(bytes, &[&other, &key]).unwrap();
        assert_eq!(opened.keys, [1]);
        assert_eq!(read(&opened.statement, &claim.subject), Ok(Some(claim)));
        assert!(read(&opened.statement, &Digest::of("y")).unwrap_err().contains("another image"));
        let text = String::from_utf8(bytes.clone()).unwrap();
        let payload_type = text.replacen("in-toto", "in-tota", 1);
        assert!(open(payload_type.as_bytes(), &[&key]).is_err());
        let keyless = text.replacen("publicKey", "certificate", 1);
        assert!(open(keyless.as_bytes(), &[&other]).err().unwrap().contains("keyless"));
    }

    #[test]
    fn the_encoding_is_that_of_the_protocol() {
        let encoded = encoded("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
