//! Why a connection could not be made, or broke off: the one reason that helps a person, out of what the libraries
//! between here and the network say of it in as many lines as they are.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter::successors;

use rustls::CertificateError;
use url::Url;

use super::policy::Verdict;
use super::{CONNECTING, is_loopback};

/// No whole answer came. Its words are one reason; [`Broken::rest`] is all that was said.
#[derive(Debug)]
pub struct Broken {
    kind: Kind,
    reason: String,
    rest: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// There is no such name, or nobody listens there.
    Unreached,
    /// The certificate is not trusted.
    Distrusted,
    /// Whoever was reached broke off, or keeps silent.
    Passing,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for Broken {}

impl Broken {
    /// Why `url` gave no whole answer.
    pub(super) fn of(url: &Url, error: &(dyn Error + 'static)) -> Self {
        let layers = layers(error);
        let mut rest: Vec<String> = layers.iter().map(ToString::to_string).collect();
        rest.dedup();
        let unreached = layers.iter().any(|layer| layer.downcast_ref().is_some_and(reqwest::Error::is_connect));
        let passing = if unreached { Kind::Unreached } else { Kind::Passing };
        let (kind, reason) = tls(&layers)
            .or_else(|| Some((passing, reached(url, &layers, &rest, unreached)?)))
            .unwrap_or_else(|| (passing, plain(rest.last().map_or("", String::as_str))));
        Self { kind, reason, rest }
    }

    /// What was said, the outermost first.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    /// Whether it is the certificate that is not trusted.
    pub fn is_about_certificates(&self) -> bool {
        self.kind == Kind::Distrusted
    }

    /// What to make of it. A certificate that is not trusted stays so.
    pub fn verdict(&self) -> Verdict {
        match self.kind {
            Kind::Distrusted => Verdict::Final,
            Kind::Unreached => Verdict::Unreached,
            Kind::Passing => Verdict::Passing { after: std::time::Duration::ZERO },
        }
    }
}

/// An error and its causes. One that an [`io::Error`] carries is no cause of that, so it is looked for in it.
fn layers<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried as &(dyn Error + 'static)),
        None => error.source(),
    })
    .collect()
}

/// What TLS says.
fn tls(layers: &[&(dyn Error + 'static)]) -> Option<(Kind, String)> {
    let error = layers.iter().find_map(|layer| layer.downcast_ref::<rustls::Error>())?;
    let why = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "an authority signed it that this machine does not know".to_owned(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its time has not come yet; check this machine's clock".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is for another name".to_owned()
            }
            CertificateError::Revoked => "it was revoked".to_owned(),
            other => plain(&other.to_string()),
        },
        rustls::Error::InvalidMessage(_) => return Some((Kind::Unreached, "it does not speak TLS".to_owned())),
        other => return Some((Kind::Unreached, format!("TLS failed: {}", plain(&other.to_string())))),
    };
    Some((Kind::Distrusted, format!("the certificate is not trusted: {why}")))
}

/// What kept the connection from being made, or broke it; none where it is nothing that has a name here.
fn reached(url: &Url, layers: &[&(dyn Error + 'static)], said: &[String], unreached: bool) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    // What is not reached then may be either.
    let proxied = is_proxied(url);
    let innermost = plain(said.last()?);
    if said.iter().any(|text| text.starts_with("tunnel error")) {
        return Some(format!("the proxy does not lead there: {innermost}"));
    }
    if said.iter().any(|text| text == "dns error") {
        let why = innermost.rsplit(": ").next().unwrap_or_default();
        return Some(match (why.contains("not known") || why.contains("No address"), proxied) {
            (true, false) => format!("the name {host} is not known"),
            (true, true) => format!("the name {host} is not known, or that of the proxy"),
            (false, _) => format!("the name {host} cannot be looked up: {}", lowercase(why)),
        });
    }
    let system = layers.iter().find_map(|layer| layer.downcast_ref::<io::Error>());
    let is_late = layers.iter().any(|layer| layer.downcast_ref().is_some_and(reqwest::Error::is_timeout));
    // The system's own patience is longer than ours.
    if unreached && is_late {
        return Some(format!("no answer within {} s", CONNECTING.as_secs()));
    }
    match system.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) if proxied => {
            Some("connection refused, there or by the proxy".to_owned())
        }
        Some(io::ErrorKind::ConnectionRefused) => Some("connection refused".to_owned()),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            Some(format!("no way leads there: {}", lowercase(&innermost)))
        }
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => Some("the connection broke off".to_owned()),
        _ if innermost.starts_with("connection closed before") || innermost.starts_with("end of file before") => {
            Some("the connection broke off".to_owned())
        }
        _ if innermost.starts_with("received unexpected message") || innermost.starts_with("invalid HTTP") => {
            Some("it does not speak HTTP".to_owned())
        }
        _ => None,
    }
}

/// Whether the environment says that a proxy is asked for what is at `url`. It may name exceptions, which are not read.
fn is_proxied(url: &Url) -> bool {
    let own = format!("{}_proxy", url.scheme());
    let names = [own.to_ascii_uppercase(), own, "all_proxy".to_owned(), "ALL_PROXY".to_owned()];
    !is_loopback(url.host_str().unwrap_or_default())
        && names.iter().any(|name| std::env::var_os(name).is_some_and(|proxy| !proxy.is_empty()))
}

/// A text of the system without its number.
fn plain(text: &str) -> String {
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

fn lowercase(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: impl Into<Box<dyn Error + Send + Sync>>) -> Broken {
        Broken::of(&"http://127.0.0.1:1/".parse().unwrap(), &*error.into())
    }

    #[test]
    fn a_certificate_is_told_by_what_is_wrong_with_it() {
        for (why, text) in [
            (CertificateError::UnknownIssuer, "an authority signed it that this machine does not know"),
            (CertificateError::Expired, "it has expired"),
            (CertificateError::NotValidForName, "it is for another name"),
        ] {
            let carried = io::Error::other(io::Error::other(rustls::Error::InvalidCertificate(why)));
            let broken = of(carried);
            assert_eq!(broken.to_string(), format!("the certificate is not trusted: {text}"));
            assert_eq!((broken.verdict(), broken.is_about_certificates()), (Verdict::Final, true));
        }
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(of(io::Error::other(plain)).to_string(), "it does not speak TLS");
    }

    #[test]
    fn what_broke_off_may_pass() {
        for (error, text) in [
            (io::Error::from(io::ErrorKind::ConnectionReset), "the connection broke off"),
            (io::Error::from(io::ErrorKind::UnexpectedEof), "the connection broke off"),
            (io::Error::from_raw_os_error(libc::ECONNREFUSED), "connection refused"),
            (io::Error::from_raw_os_error(libc::ENETUNREACH), "no way leads there: network is unreachable"),
            (io::Error::other("it takes no more bytes"), "it takes no more bytes"),
        ] {
            let broken = of(error);
            assert_eq!(broken.to_string(), text);
            assert!(matches!(broken.verdict(), Verdict::Passing { .. }), "{text}");
        }
    }
}
