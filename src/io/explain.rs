//! What a person and a program learn of an error besides its words: its kind, its stable name, the next thing to try.
//!
//! Each error that can end a command implements [`Explain`] beside its definition, as one match without a wildcard: a
//! new variant is asked for its kind and name by the compiler, and a type that has no answers cannot reach the edge.

use std::error::Error;
use std::fmt;
use std::io;

/// An error that can explain itself.
pub trait Explain: Error + Send + Sync + 'static {
    /// Its kind and name, and a hint where there is one. An error that only carries another has that one's.
    fn explain(&self) -> Explanation;
}

/// What has failed, as far as a calling program acts on it: it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something failed that has no kind of its own.
    Failure,
    /// The command line is wrong.
    Usage,
    /// A document has mistakes.
    Invalid,
    /// An answer or a description is not the expected one.
    Mismatch,
    /// The network, a mirror or a registry failed.
    Unavailable,
    /// No container can be started here, or no program be locked in.
    Sandbox,
    /// The lock does not fit the manifest, or names what is gone.
    Stale,
    /// A signature or a policy says no.
    Refused,
}

impl ErrorKind {
    /// An error of this kind with its stable name, as `debian/gone`: the subject, and what is wrong with it.
    pub fn named(self, name: &'static str) -> Explanation {
        Explanation { kind: self, name, hint: None }
    }
}

/// What an error says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What has failed.
    pub kind: ErrorKind,
    /// The same in every version; `docs/exit-codes.md` lists them all.
    pub name: &'static str,
    /// The next thing to try.
    pub hint: Option<String>,
}

impl Explanation {
    /// The same with the next thing to try.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with the next thing to try, where there is one.
    pub fn maybe(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// The same, and what it leaves open taken from the error's cause.
    pub fn or(self, cause: &impl Explain) -> Self {
        let cause = cause.explain();
        let kind = if self.kind == ErrorKind::Failure { cause.kind } else { self.kind };
        Self { kind, hint: self.hint.or(cause.hint), ..self }
    }
}

impl Explain for io::Error {
    fn explain(&self) -> Explanation {
        if let Some(carried) = self.get_ref().and_then(|inner| inner.downcast_ref::<Carried>()) {
            return carried.0.explain();
        }
        match self.kind() {
            io::ErrorKind::NotFound => ErrorKind::Failure.named("io/not-found"),
            io::ErrorKind::PermissionDenied => ErrorKind::Failure.named("io/permission"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ErrorKind::Failure.named("io/disk-full").hint("`ekiben prune` frees what no image needs")
            }
            _ => ErrorKind::Failure.named("io/failed"),
        }
    }
}

/// What an error says, and its causes behind it, the outermost first.
pub fn words(error: &(dyn Error + 'static)) -> impl Iterator<Item = String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string)
}

/// An error with its causes in one line.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    words(error).collect::<Vec<_>>().join(": ")
}

/// An error on its way through [`io::Read`] or [`io::Write`], whose signatures know [`io::Error`] alone.
#[derive(Debug)]
struct Carried(Box<dyn Explain>);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Carried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Sends an error through one of reading or writing. It keeps its words, causes and explanation.
pub fn carry(error: impl Explain) -> io::Error {
    io::Error::other(Carried(Box::new(error)))
}

/// Takes an error out of the one that carries it.
///
/// # Errors
/// The same error, where it carries none of this type.
pub fn carried<E: Explain>(error: io::Error) -> Result<E, io::Error> {
    let is_one = |Carried(inner): &Carried| <dyn Error>::is::<E>(&**inner);
    if !error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(is_one) {
        return Err(error);
    }
    let Carried(inner) = error.downcast()?;
    let inner: Box<dyn Error + Send + Sync> = inner;
    inner.downcast().map(|inner| *inner).map_err(io::Error::other)
}

/// A word of a POSIX shell's command line, as a person copies it, or a script has it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | ',' | '@' | '%');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it is gone")]
    struct Gone(#[source] fmt::Error);

    impl Explain for Gone {
        fn explain(&self) -> Explanation {
            ErrorKind::Stale.named("test/gone").hint("look elsewhere")
        }
    }

    #[test]
    fn a_carried_error_keeps_words_causes_and_explanation() {
        let error = carry(Gone(fmt::Error));
        assert_eq!(error.to_string(), "it is gone");
        assert_eq!(error.source().unwrap().to_string(), fmt::Error.to_string());
        assert_eq!(error.explain(), Gone(fmt::Error).explain());
        // Of another type it stays what it is.
        let error = carried::<io::Error>(error).unwrap_err();
        assert_eq!(error.explain().name, "test/gone");
        assert_eq!(carried::<Gone>(error).unwrap().to_string(), "it is gone");
    }

    #[test]
    fn what_an_error_leaves_open_comes_from_its_cause() {
        let explained = ErrorKind::Failure.named("test/outer").or(&Gone(fmt::Error));
        assert_eq!(explained, ErrorKind::Stale.named("test/outer").hint("look elsewhere"));
        let explained = ErrorKind::Usage.named("test/outer").hint("mine").or(&Gone(fmt::Error));
        assert_eq!(explained, ErrorKind::Usage.named("test/outer").hint("mine"));
    }
}
