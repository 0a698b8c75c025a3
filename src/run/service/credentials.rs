//! Secrets that a service gets with each request, as headers: the credential `TOKEN` is the header `ENV_TOKEN`.
//!
//! Servers that process documents for others take them so. Invariant: a value is shown nowhere; no error and no `Debug`
//! has it, and what a service says is shown without it.

use std::fmt;

use crate::io::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Why something is no credential.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name would be no header, or none that arrives.
    #[error("the name of a credential has letters, digits and `_`, at most {} of them", Credentials::LONGEST_NAME)]
    Name,
    /// One header cannot have two values. Headers know no upper and lower case.
    #[error("the credential `{0}` is given twice")]
    Twice(String),
    /// There is no such variable.
    #[error("the credential `{0}` has no value, and there is no variable of this name in the environment")]
    NoVariable(String),
    /// No header can carry the value.
    #[error("the value of the credential `{0}` cannot be sent in a header")]
    Value(String),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Name => ErrorKind::Usage
                .named("credential/name")
                .hint("write NAME=VALUE, or NAME for the value of the variable NAME"),
            Self::Twice(_) => ErrorKind::Usage.named("credential/twice"),
            Self::NoVariable(name) => {
                ErrorKind::Usage.named("credential/no-variable").hint(format!("set it: `export {name}=…`"))
            }
            Self::Value(_) => ErrorKind::Usage.named("credential/value").hint(
                "a header carries ASCII without control characters, and no space at either end: is there a newline?",
            ),
        }
    }
}

/// Secrets by their names.
#[derive(Clone, Default)]
pub struct Credentials {
    /// In the order in which they were given.
    known: Vec<(String, String)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|(name, _)| name)).finish()
    }
}

impl Credentials {
    const LONGEST_NAME: usize = 100;

    /// Reads credentials as they are written on a command line: `NAME=VALUE`, or `NAME`, whose value `variable` knows.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let mut credentials = Self::default();
        for text in texts {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name.len() > Self::LONGEST_NAME || !name.chars().all(is_name) {
                return Err(Error::Name);
            }
            if credentials.known.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(Error::Twice(name.to_owned()));
            }
            let value = value.or_else(|| variable(name)).ok_or_else(|| Error::NoVariable(name.to_owned()))?;
            // Servers disagree on letters beyond ASCII, and take spaces at the ends away.
            let is_sent = |c: char| c == ' ' || c.is_ascii_graphic();
            if value.trim() != value || !value.chars().all(is_sent) {
                return Err(Error::Value(name.to_owned()));
            }
            credentials.known.push((name.to_owned(), value));
        }
        Ok(credentials)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// As headers, which the HTTP client keeps out of what it says.
    pub(super) fn headers(&self) -> HeaderMap {
        let header = |(name, value): &(String, String)| {
            let name = HeaderName::from_bytes(format!("ENV_{name}").as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        self.known.iter().filter_map(header).collect()
    }

    /// `text` without their values, as they are and as JSON has them.
    pub fn hide_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (_, value) in self.known.iter().filter(|(_, value)| !value.is_empty()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            text = text.replace(&escaped, "***").replace(value, "***");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Credentials, Error> {
        Credentials::parse(texts.iter().copied(), |name| (name == "FROM_OUTSIDE").then(|| "outer".to_owned()))
    }

    #[test]
    fn each_is_a_header_of_its_own() {
        let headers = parse(&["TOKEN=a=b c", "Key_2=", "FROM_OUTSIDE"]).unwrap().headers();
        let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (value("ENV_TOKEN"), value("env_key_2"), value("env_from_outside")),
            (Some("a=b c"), Some(""), Some("outer"))
        );
        assert!(headers.values().all(HeaderValue::is_sensitive));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_showing_it() {
        for text in ["", "=secret", "my-token=secret", "a b=secret", "ü=secret", &format!("{}=secret", "n".repeat(101))]
        {
            assert!(matches!(parse(&[text]), Err(Error::Name)), "{text}");
        }
        for value in ["secret\n", " secret", "secret\r\nHost: x", "sécret", "secret\0"] {
            let error = parse(&[&format!("T={value}")]).unwrap_err();
            assert!(matches!(error, Error::Value(_)) && !format!("{error} {error:?}").contains("cret"), "{value:?}");
        }
        assert!(matches!(parse(&["TOKEN=a", "token=b"]), Err(Error::Twice(_))));
        assert!(matches!(parse(&["NOT_THERE"]), Err(Error::NoVariable(_))));
    }

    #[test]
    fn values_are_hidden() {
        let credentials = parse(&["A=s3cret", "B="]).unwrap();
        assert_eq!(credentials.hide_in("it is s3cret, s3cret"), "it is ***, ***");
        assert!(!format!("{credentials:?}").contains("s3cret"));
    }
}
