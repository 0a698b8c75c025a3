//! Simple signing as cosign has it: a small document that names an image, its signature in an annotation, both as a layer of
//! a manifest at the tag `sha256-HEX.sig`. containers/image reads the same.
//!
//! <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md> and `containers-signature(5)`, "JSON data format".

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;

use super::{Claim, Error, Signer};
use crate::image::oci::{Content, Descriptor, Document, Manifest, MediaType};
use crate::io::digest::Digest;

/// What a layer is that is a claim.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Where the manifest of signatures lies: beside the image, under this end.
pub const BESIDE: &str = "sig";

/// The annotation of such a layer that is its signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What a claim says that it is.
const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    optional: Option<Optional>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

#[derive(Deserialize)]
struct Optional {
    creator: Option<String>,
    timestamp: Option<u64>,
}

/// The document that is signed.
pub fn payload(claim: &Claim) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": claim.identity.as_deref().unwrap_or_default() },
            "image": { "docker-manifest-digest": claim.subject },
            "type": TYPE,
        },
        "optional": { "creator": claim.creator, "timestamp": claim.made },
    });
    payload.to_string().into_bytes()
}

/// What a document claims.
///
/// # Errors
/// When it is none, or could be read in two ways.
pub fn read(payload: &[u8]) -> Result<Claim, String> {
    let Payload { critical, optional } = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    if critical.r#type != TYPE {
        return Err(format!("it says that it is a `{}`", critical.r#type));
    }
    let (creator, made) = optional.map_or((None, None), |optional| (optional.creator, optional.timestamp));
    Ok(Claim {
        subject: critical.image.docker_manifest_digest,
        identity: Some(critical.identity.docker_reference).filter(|identity| !identity.is_empty()),
        creator,
        made,
    })
}

/// A layer that claims, with its bytes.
///
/// # Errors
/// When the signer does not sign.
pub fn layer(signer: &Signer, claim: &Claim) -> Result<(Descriptor, Vec<u8>), Error> {
    let payload = payload(claim);
    let mut layer = Descriptor::of(MEDIA_TYPE.into(), &payload);
    layer.annotations.insert(SIGNATURE.to_owned(), BASE64.encode(signer.sign(&payload)?));
    Ok((layer, payload))
}

/// The signature that a layer carries; none of one that is something else.
pub fn signature(layer: &Descriptor) -> Option<Result<Vec<u8>, String>> {
    if layer.media_type.as_str() != MEDIA_TYPE {
        return None;
    }
    let text = layer.annotations.get(SIGNATURE).map(String::as_str).unwrap_or_default();
    Some(BASE64.decode(text).map_err(|_| "its signature is no base64".to_owned()))
}

/// The manifest of signatures `before` with more layers, and its configuration; none where it has them all. cosign takes both for
/// an image.
///
/// # Errors
/// When what is there is no manifest.
pub fn with(before: Option<&Document>, more: &[Descriptor]) -> Result<Option<(Document, Descriptor, Vec<u8>)>, Error> {
    let (mut layers, annotations) = match before.map(|document| &document.content) {
        Some(Content::Image(manifest)) => (manifest.layers.clone(), manifest.annotations.clone()),
        Some(Content::Index(_)) => return Err(Error::NotSignatures),
        None => (Vec::new(), BTreeMap::new()),
    };
    let known = layers.len();
    let missing: Vec<_> = more.iter().filter(|layer| !layers.contains(layer)).cloned().collect();
    layers.extend(missing);
    if layers.len() == known {
        return Ok(None);
    }
    let config = json!({
        "architecture": "", "config": {}, "created": "0001-01-01T00:00:00Z", "os": "",
        "history": vec![json!({ "created": "0001-01-01T00:00:00Z" }); layers.len()],
        "rootfs": { "diff_ids": layers.iter().map(|layer| layer.digest).collect::<Vec<_>>(), "type": "layers" },
    });
    let config = config.to_string().into_bytes();
    let link = Descriptor::of(MediaType::Configuration, &config);
    let manifest = Manifest::image(link.clone(), layers, annotations);
    let document = Document::read(manifest.write(), None).map_err(|_| Error::NotSignatures)?;
    Ok(Some((document, link, config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_is_read_in_one_way_alone() {
        let claim = Claim {
            subject: Digest::of("x"),
            identity: Some("h/a".to_owned()),
            creator: None,
            made: Some(1_700_000_000),
        };
        let text = String::from_utf8(payload(&claim)).unwrap();
        assert_eq!(read(text.as_bytes()).unwrap(), claim);
        let other = Digest::of("y").to_string();
        for (from, to) in [
            (TYPE, "atomic container signature".to_owned()),
            ("\"critical\":{", "\"more\":1,\"critical\":{".to_owned()),
            ("\"image\":{", format!("\"image\":{{\"docker-manifest-digest\":\"{other}\",")),
            ("\"critical\":{", "\"critical\":{\"note\":1,".to_owned()),
            ("sha256:", "sha512:".to_owned()),
        ] {
            assert!(read(text.replacen(from, &to, 1).as_bytes()).is_err(), "{to}");
        }
        let cosign = r#"{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"DIGEST"},"type":"TYPE"},"optional":null}"#;
        let cosign = cosign.replace("DIGEST", &claim.subject.to_string()).replace("TYPE", TYPE);
        assert_eq!(read(cosign.as_bytes()).unwrap().identity, None);
    }
}
