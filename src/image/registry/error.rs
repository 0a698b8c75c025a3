//! What can go wrong between here and a registry.

use std::time::Duration;

use crate::image::oci::platform::Platform;
use crate::image::{layer, store};
use crate::io::digest::{Digest, Mismatch};
use crate::io::explain::{ErrorKind, Explain, Explanation, carried};
use crate::io::http::{self, Answer, Judged, Verdict};

/// Longest text of a refusal that is read, in bytes.
const LONGEST_REFUSAL: u64 = 16 << 10;

/// Why something did not come from a registry, or did not get there. No variant ever holds a credential: addresses
/// are shown without their queries, which may be signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--offline` was given.
    #[error("{url} is needed, and the network is off (--offline)")]
    Offline {
        /// What was asked for.
        url: String,
    },
    /// Something else failed before, so that nobody needs it any more.
    #[error("{url} is not needed any more")]
    Stopped {
        /// What was asked for.
        url: String,
    },
    /// No whole answer came.
    #[error("{url} could not be reached")]
    Transport {
        /// What was asked for.
        url: String,
        /// What broke off: the name, the connection, or the body.
        source: http::Broken,
    },
    /// The registry answered with a refusal.
    #[error("{method} {url} was answered with {status}{}", said(message))]
    Status {
        /// The HTTP method.
        method: String,
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says about it; may be empty.
        message: String,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The registry does not know who asks, or does not let them.
    #[error("{registry} refused access to {what}{}", said(message))]
    Denied {
        /// The registry.
        registry: String,
        /// The repository, or what else was asked for.
        what: String,
        /// What the registry says about it; may be empty.
        message: String,
        /// Whether credentials were sent.
        known: bool,
    },
    /// The registry does not take a name and a password.
    #[error("{registry} refused the login{}", said(message))]
    Login {
        /// The registry.
        registry: String,
        /// What the registry says about it; may be empty.
        message: String,
    },
    /// There is no such image.
    #[error("there is no image {reference}")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// The registry sent other bytes than it had promised.
    #[error("{url} sent bytes that are not those of the digest")]
    Wrong {
        /// What was asked for.
        url: String,
        /// The digest that was promised, and that of what came.
        source: Mismatch,
    },
    /// The registry does not follow the specification.
    #[error("{url}: {why}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What it does, as a fragment that follows the address.
        why: String,
    },
    /// An image has nothing for the platform.
    #[error("{reference} has nothing for {wanted}, only for {}", has.join(", "))]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        has: Vec<String>,
    },
    /// A file with credentials or certificates cannot be used.
    #[error("{path} cannot be used")]
    File {
        /// The file.
        path: String,
        /// The system's answer, or what its text lacks.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A credential helper failed.
    #[error("the credential helper {program} failed{}", said(message))]
    Helper {
        /// As `docker-credential-pass`.
        program: String,
        /// What it says.
        message: String,
    },
    /// What is to be pushed or pulled is no image.
    #[error("{digest} is no image")]
    NoImage {
        /// Of the manifest.
        digest: Digest,
    },
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer's bytes cannot be had.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// What helps where a registry cannot be reached.
fn reaching(url: &str, cause: &http::Broken) -> &'static str {
    if cause.is_about_certificates() {
        "name the authority that signed its certificate with `--ca FILE` or SSL_CERT_FILE, or put it below \
         /etc/docker/certs.d"
    } else if url.starts_with("https:") {
        "check the address, the network and the proxy's variables; a registry without TLS needs `--plain-http`"
    } else {
        "check the address and whether the registry runs"
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Offline { .. } => {
                ErrorKind::Unavailable.named("registry/offline").hint("run once without `--offline`")
            }
            Self::Stopped { .. } => ErrorKind::Unavailable.named("registry/stopped"),
            Self::Transport { url, source } => {
                ErrorKind::Unavailable.named("registry/unreachable").hint(reaching(url, source))
            }
            Self::Status { status: 413, .. } => ErrorKind::Unavailable
                .named("registry/status")
                .hint("a proxy in front of the registry limits requests to less than 4 MiB; have it raised"),
            Self::Status { .. } => ErrorKind::Unavailable.named("registry/status"),
            Self::Denied { registry, known: false, .. } => {
                ErrorKind::Unavailable.named("registry/denied").hint(format!("log in with `ekiben login {registry}`"))
            }
            Self::Denied { registry, known: true, .. } => ErrorKind::Unavailable.named("registry/denied").hint(
                format!("who is logged in there may not do that: `ekiben login {registry}` logs in as somebody else"),
            ),
            Self::Login { registry, .. } => ErrorKind::Unavailable
                .named("registry/login")
                .hint(format!("the name or the password is wrong; `ekiben login {registry}` asks for them again")),
            Self::NotFound { .. } => ErrorKind::Unavailable
                .named("registry/not-found")
                .hint("check repository and tag; some registries hide what needs a login"),
            Self::Wrong { .. } => ErrorKind::Unavailable.named("registry/wrong-bytes"),
            Self::Protocol { .. } => ErrorKind::Unavailable.named("registry/protocol"),
            Self::NoPlatform { has, .. } => ErrorKind::Unavailable
                .named("registry/no-platform")
                .maybe(has.first().map(|has| format!("choose one with `--platform {has}`"))),
            Self::File { .. } => ErrorKind::Failure.named("registry/file"),
            Self::Helper { .. } => ErrorKind::Unavailable.named("registry/helper"),
            Self::NoImage { .. } => ErrorKind::Failure.named("registry/no-image").hint(
                "where it is a model as an artifact, `ekiben fetch oci://REF --to DIR` has its files, and `ekiben init \
                 --from oci://REF` makes a project of it",
            ),
            Self::Store(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Io(error) => error.explain(),
        }
    }
}

impl Error {
    /// The refusal that `answer` is.
    pub(super) fn refusal(answer: Answer) -> Self {
        let (method, url, status) = (answer.method.to_string(), http::shown(&answer.url), answer.status);
        let retry_after = answer.retry_after();
        let message = message(&answer.beginning(LONGEST_REFUSAL));
        Self::Status { method, url, status, message, retry_after }
    }

    /// An error that went through [`std::io::Read`], as what it was.
    pub(crate) fn from_io(error: std::io::Error) -> Self {
        let error = match carried(error) {
            Ok(error) => return error,
            Err(error) => error,
        };
        match error.downcast::<Mismatch>() {
            Ok(mismatch) => store::Error::Mismatch(mismatch).into(),
            Err(error) => Self::Io(error),
        }
    }
}

impl Judged for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Status { status, retry_after, .. } => Verdict::of_status(*status, *retry_after),
            Self::Transport { source, .. } => source.verdict(),
            _ => Verdict::Final,
        }
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        match error {
            http::Error::Offline { url } => Self::Offline { url },
            http::Error::Stopped { url } => Self::Stopped { url },
            http::Error::Transport { url, source } => Self::Transport { url, source },
            http::Error::TooLarge { url, limit } => {
                Self::Protocol { url, why: format!("the answer has more than {limit} bytes") }
            }
            http::Error::Wrong { url, source } => Self::Wrong { url, source },
            http::Error::Protocol { url, why } => Self::Protocol { url, why },
            http::Error::Certificates { path, source } => Self::File { path: path.display().to_string(), source },
            http::Error::Source(error) | http::Error::Threads(error) => Self::from_io(error),
        }
    }
}

/// What a registry says in its refusal (distribution specification 1.1, "Error Codes"), short and printable.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let Some(One { code, message }) = errors.into_iter().next() else { return String::new() };
    let text = if message.is_empty() { code } else { message };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
