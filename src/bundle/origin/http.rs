//! Files of HTTP servers.

use url::Url;

use super::{At, Error, Place, Remote};
use crate::io::http::Answer;

/// What a server says of a file, without its content.
pub(super) fn find(place: &Place<'_>, url: &Url) -> Result<Remote, Error> {
    let answer = place.head(url)?;
    let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
    Ok(Remote { name, at: At::Url(url.clone()), size: answer.length(), digest: None, version: version(&answer) })
}

/// What tells one version of a file from another (RFC 9110, section 8.8): its entity tag, else when it was changed.
pub(super) fn version(answer: &Answer) -> Option<String> {
    answer.header("etag").or_else(|| answer.header("last-modified")).map(str::to_owned)
}
