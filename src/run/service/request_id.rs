//! Ids of requests, as `X-Request-ID` carries them.

use crate::io::http::header::HeaderName;

/// By which a request is known in the log of the service that gets it, if that looks for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// One that no other request has.
    pub fn random() -> Self {
        Self(format!("ekiben-{:016x}", fastrand::u64(..)))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
