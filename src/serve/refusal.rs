//! What a caller is told when it is not the model that answers: a status, a word for programs, and a reason for people.

use std::time::Duration;

use hyper::StatusCode;

/// Why a request was not answered by a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// The same word for the same reason in every version.
    pub reason: &'static str,
    /// The reason in words. Nothing of a model's log or of this machine's paths is in it.
    pub why: String,
    /// The same with what only those may know who look after the models.
    pub cause: Option<String>,
    /// When it makes sense to ask again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// With `status`, for `reason`.
    pub fn new(status: StatusCode, reason: &'static str, why: impl Into<String>) -> Self {
        Self { status, reason, why: why.into(), cause: None, retry_after: None }
    }

    /// The same with what only those may know who look after the models.
    #[must_use]
    pub fn because(self, cause: String) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// The same, which may be tried again after `time`.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self { retry_after: Some(time), ..self }
    }

    /// The request itself is wrong.
    pub fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", why)
    }

    /// There is nothing of that name.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-model", why)
    }

    /// The model broke off, or its container died: whether it has done what it was asked is not known.
    pub fn broken(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "broken", why)
    }

    /// The model cannot be had now.
    pub fn unavailable(reason: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, why)
    }

    /// It took too long.
    pub fn late(reason: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, reason, why)
    }

    /// As JSON.
    pub fn json(&self) -> Vec<u8> {
        serde_json::json!({ "detail": self.why, "reason": self.reason }).to_string().into_bytes()
    }
}
