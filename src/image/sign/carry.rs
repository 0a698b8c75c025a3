//! Taking along what is said of an image, from where it lies to where it goes.

use std::collections::HashSet;

use super::Error;
use super::place::Place;
use super::simple::BESIDE;
use crate::image::oci::{Content, Descriptor, Document};
use crate::io::digest::Digest;

/// Largest blob of a referrer that is taken along, in bytes: lists of what is in an image are the largest.
const LARGEST_BLOB: u64 = 256 << 20;

/// How far referrers of referrers are followed: of a signature of a list of an image.
const DEEPEST: usize = 3;

/// What lies beside images at tags: simple signatures, and what cosign puts there of attestations and lists.
const KINDS: [&str; 3] = [BESIDE, "att", "sbom"];

/// The digests that signatures and other things are about: of the manifest or index `top`, and of what the index names.
pub fn subjects(top: &Document) -> Vec<Digest> {
    let images = match &top.content {
        Content::Index(index) => index.images().map(|image| image.digest).collect(),
        Content::Image(_) => Vec::new(),
    };
    [top.digest].into_iter().chain(images).collect()
}

/// Takes along the signatures and referrers of `subjects` that are not at `to`; says how many things went.
///
/// # Errors
/// When one of them cannot be read or put. What was put stays: each counts for itself.
pub fn carry(from: &Place, to: &Place, subjects: &[Digest]) -> Result<usize, Error> {
    let mut carried = 0;
    let mut seen = HashSet::new();
    let mut left: Vec<_> = subjects.iter().map(|subject| (*subject, 0)).collect();
    while let Some((subject, depth)) = left.pop() {
        if !seen.insert(subject) {
            continue;
        }
        for kind in KINDS {
            carried += carry_beside(from, to, &subject, kind)?;
        }
        let referrers = from.referrers(&subject, None)?;
        if referrers.is_empty() {
            continue;
        }
        let there: HashSet<_> = to.referrers(&subject, None)?.into_iter().map(|one| one.digest).collect();
        for one in referrers {
            if depth < DEEPEST {
                left.push((one.digest, depth + 1));
            }
            if there.contains(&one.digest) {
                continue;
            }
            let document = from.referrer(&one.digest, &subject)?;
            let read = |link: Descriptor| Ok((link.clone(), from.bytes(&link, LARGEST_BLOB)?));
            let blobs = document.blobs().into_iter().map(read).collect::<Result<Vec<_>, Error>>()?;
            to.put_referrer(&document, &blobs)?;
            carried += 1;
        }
    }
    Ok(carried)
}

/// Adds what lies beside `subject` to what is there.
fn carry_beside(from: &Place, to: &Place, subject: &Digest, kind: &str) -> Result<usize, Error> {
    let Some(Document { content: Content::Image(manifest), .. }) = from.beside(subject, kind)? else { return Ok(0) };
    let known = match to.beside(subject, kind)?.map(|document| document.content) {
        Some(Content::Image(known)) => known.layers,
        _ => Vec::new(),
    };
    let missing = manifest.layers.into_iter().filter(|layer| !known.contains(layer));
    let read = |layer: Descriptor| Ok((layer.clone(), from.bytes(&layer, LARGEST_BLOB)?));
    let missing = missing.map(read).collect::<Result<Vec<_>, Error>>()?;
    to.add_beside(subject, kind, &missing)?;
    Ok(missing.len())
}
