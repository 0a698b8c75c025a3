//! A way out, as a person writes it: what a program in the container reaches under a name and a port is what the host reaches
//! under them. [`super::connect`] opens it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `HOST:PORT`: what the container reaches as that is what the host reaches as that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Way {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Why a text is no [`Way`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {why}: write HOST:PORT, as broker.example:5672 or [::1]:5672")]
pub struct NotAWay {
    text: String,
    why: &'static str,
}

impl FromStr for Way {
    type Err = NotAWay;

    fn from_str(text: &str) -> Result<Self, NotAWay> {
        let bad = |why| NotAWay { text: text.to_owned(), why };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| *port > 0 && is_number);
        let port = port.ok_or_else(|| bad("has no port from 1 to 65535"))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => Host::Address(IpAddr::V6(address.parse().map_err(|_| bad("is no address of IPv6"))?)),
            None => match host.parse::<Ipv4Addr>() {
                Ok(address) => Host::Address(IpAddr::V4(address)),
                Err(_) => Host::Name(name(host).map_err(bad)?),
            },
        };
        match host {
            Host::Address(IpAddr::V4(address)) if address.is_broadcast() => Err(bad("leads to no one machine")),
            Host::Address(address) if address.is_unspecified() || address.is_multicast() => {
                Err(bad("leads to no one machine"))
            }
            host => Ok(Self { host, port }),
        }
    }
}

/// A name of a machine, in lower case.
fn name(text: &str) -> Result<String, &'static str> {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && label.bytes().all(is_plain)
    };
    if text.is_empty() || text.len() > 253 || !text.split('.').all(is_label) {
        return Err("has no name of a machine");
    }
    // What resolvers take for an address in one of its older forms.
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err("has no name of a machine, and no whole address");
    }
    Ok(text.to_ascii_lowercase())
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address) => write!(f, "{address}:{}", self.port),
        }
    }
}

impl TryFrom<String> for Way {
    type Error = NotAWay;

    fn try_from(text: String) -> Result<Self, NotAWay> {
        text.parse()
    }
}

impl From<Way> for String {
    fn from(way: Way) -> Self {
        way.to_string()
    }
}

impl Way {
    /// Its name of a machine that needs an address of its own in the container.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) if name != "localhost" => Some(name),
            _ => None,
        }
    }
}

/// The names of machines that `ways` lead to, with their addresses in the container.
pub(super) fn named(ways: &[Way]) -> Vec<(&str, Ipv4Addr)> {
    let names: BTreeSet<&str> = ways.iter().filter_map(Way::name).collect();
    names.into_iter().zip(1..=u8::MAX).map(|(name, number)| (name, Ipv4Addr::new(127, 1, 0, number))).collect()
}

/// The lines of `/etc/hosts` by which the container knows where `ways` begin.
pub(super) fn hosts(ways: &[Way]) -> String {
    named(ways).into_iter().map(|(name, address)| format!("{address} {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(text: &str) -> Way {
        text.parse().unwrap()
    }

    #[test]
    fn ways_are_a_host_and_a_port() {
        for text in ["broker:5672", "127.0.0.1:1", "[::1]:65535", "[2001:db8::1]:80", "my_db.example.test:5432"] {
            assert_eq!(way(text).to_string(), text);
        }
        assert_eq!(way("Broker.Example:5672").to_string(), "broker.example:5672");
        for (text, why) in [
            ("broker", "has no port"),
            ("broker:", "has no port from"),
            ("broker:0", "has no port from"),
            ("broker:65536", "has no port from"),
            ("broker:+80", "has no port from"),
            (":80", "no name"),
            ("a b:80", "no name"),
            ("a\n127.0.0.1 b:80", "no name"),
            ("a..b:80", "no name"),
            ("-a:80", "no name"),
            ("a/b:80", "no name"),
            ("::1:80", "no name"),
            ("10.0.0:80", "no whole address"),
            ("300.1.1.1:80", "no whole address"),
            ("0x7f000001:80", "no whole address"),
            ("[fe80::1%eth0]:80", "is no address"),
            ("0.0.0.0:80", "no one machine"),
            ("[::]:80", "no one machine"),
            ("224.0.0.1:80", "no one machine"),
            ("255.255.255.255:80", "no one machine"),
            ("http://broker:80", "no name"),
        ] {
            let error = text.parse::<Way>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn each_name_has_an_address_of_its_own() {
        let ways = ["b:1", "localhost:1", "a:1", "b:2", "10.0.0.1:1"].map(way);
        assert_eq!(hosts(&ways), "127.1.0.1 a\n127.1.0.2 b\n");
    }

    #[test]
    fn a_way_is_written_as_a_text() {
        assert_eq!(serde_json::to_string(&way("a:1")).unwrap(), r#""a:1""#);
        assert!(serde_json::from_str::<Way>(r#""a:1\n127.0.0.1 x""#).is_err());
    }
}
