//! Who asks, as those say who stand in front: `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`, and `Forwarded` (RFC 7239).
//!
//! Invariant: nothing is believed of what a peer says that is no trusted proxy, nor of what stands left of the first address
//! that is none: whoever has that address could have written it. Where the two ways of saying it differ, neither counts, as a
//! proxy that writes one of them passes the other on as its caller made it up.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::header::{FORWARDED, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;

/// Proxies in a row that are looked at.
const MOST: usize = 32;

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The text names no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address or network: write 10.1.2.3, 10.0.0.0/8 or fd00::/8")]
pub struct NoNetwork(String);

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = || NoNetwork(text.chars().take(80).collect());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| none())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|number| is_number(&bits) && *number <= most).ok_or_else(none)?,
        };
        Ok(Self { address, bits })
    }
}

impl Network {
    /// Whether `address` is one of them.
    pub fn has(self, address: IpAddr) -> bool {
        let differs = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differs.leading_zeros() >= self.bits.into()
    }
}

/// The proxies that are believed.
#[derive(Clone, Debug, Default)]
pub struct Proxies(pub Vec<Network>);

/// The way of a request from whoever asked first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whoever asked first, then the proxies; the last is the peer.
    pub addresses: Vec<IpAddr>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host that was asked, with its port, where a proxy says so.
    pub host: Option<HeaderValue>,
    /// What proxies took away from the beginning of the path.
    pub prefix: String,
}

/// What one way of saying it says, a hop behind the other.
struct Said {
    addresses: Vec<Option<IpAddr>>,
    schemes: Vec<String>,
    hosts: Vec<String>,
}

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }

    /// The way of a request with these headers that `peer` has sent.
    pub fn way(&self, peer: IpAddr, headers: &HeaderMap) -> Way {
        let peer = peer.to_canonical();
        let plain = Way { addresses: vec![peer], scheme: "http", host: None, prefix: String::new() };
        if !self.trusts(peer) {
            return plain;
        }
        let (old, new) = (Said::of_old(headers), Said::forwarded(headers));
        let (is_old, is_new) = (old.is_something(), new.is_something());
        if is_old && is_new && self.believed(&old) != self.believed(&new) {
            return plain;
        }
        let said = if is_new && !is_old { new } else { old };
        let mut addresses = self.believed(&said);
        // With the one that the last believed proxy has added.
        let hops = addresses.len().max(1);
        addresses.push(peer);
        let of_hop = |values: &[String]| values.get(values.len().saturating_sub(hops)).cloned();
        let scheme = match of_hop(&said.schemes).unwrap_or_default().to_ascii_lowercase().as_str() {
            "https" | "wss" => "https",
            _ => "http",
        };
        let is_host = |text: &String| !text.contains('@') && text.parse::<Authority>().is_ok();
        let host = of_hop(&said.hosts).filter(is_host).and_then(|host| host.parse().ok());
        let prefix = values(headers, "x-forwarded-prefix").pop().unwrap_or_default();
        let prefix = prefix.trim_end_matches('/');
        let prefix = if is_prefix(prefix) { prefix.to_owned() } else { String::new() };
        Way { addresses, scheme, host, prefix }
    }

    /// The addresses that count: from the last one on, up to the first that is no proxy's. Whoever asked first comes first.
    fn believed(&self, said: &Said) -> Vec<IpAddr> {
        let mut believed = Vec::new();
        for address in said.addresses.iter().rev().take(MOST) {
            let Some(address) = address else { break };
            believed.push(*address);
            if !self.trusts(*address) {
                break;
            }
        }
        believed.reverse();
        believed
    }
}

impl Said {
    fn of_old(headers: &HeaderMap) -> Self {
        Self {
            addresses: values(headers, "x-forwarded-for").iter().map(|text| address(text)).collect(),
            schemes: values(headers, "x-forwarded-proto"),
            hosts: values(headers, "x-forwarded-host"),
        }
    }

    fn forwarded(headers: &HeaderMap) -> Self {
        let mut said = Self { addresses: Vec::new(), schemes: Vec::new(), hosts: Vec::new() };
        let texts = headers.get_all(FORWARDED).iter().map(|value| value.to_str().unwrap_or_default());
        for hop in texts.flat_map(|text| apart(text, ',')) {
            let pairs: Vec<_> = apart(hop, ';').into_iter().filter_map(|pair| pair.split_once('=')).collect();
            let of = |name: &str| {
                let found = pairs.iter().find(|(own, _)| own.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| unquoted(value.trim()))
            };
            said.addresses.push(of("for").and_then(|text| address(&text)));
            said.schemes.push(of("proto").unwrap_or_default());
            said.hosts.push(of("host").unwrap_or_default());
        }
        said
    }

    fn is_something(&self) -> bool {
        !(self.addresses.is_empty() && self.schemes.is_empty() && self.hosts.is_empty())
    }
}

/// The values of all headers of that name, taken apart.
fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let texts = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    texts.flat_map(|text| text.split(',')).map(|text| text.trim().to_owned()).collect()
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    bare.parse().ok().or_else(port).map(|address: IpAddr| address.to_canonical())
}

/// Takes a text apart where `mark` stands outside of quotes.
fn apart(text: &str, mark: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|c| {
        let ends = c == mark && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        ends
    });
    parts.collect()
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => inner.replace('\\', ""),
        None => text.to_owned(),
    }
}

/// Whether it is the beginning of a path that leads nowhere else.
fn is_prefix(text: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty() && !part.chars().all(|c| c == '.') && {
            part.chars().all(|c| c.is_ascii_alphanumeric() || "._~-@".contains(c))
        }
    };
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, address, has) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "fe80::1", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(network.parse::<Network>().unwrap().has(address.parse().unwrap()), has, "{network} {address}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "example.com", "::/129", "10.0.0.0/8/8"]
        {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork(text.to_owned())));
        }
    }

    #[test]
    fn only_what_trusted_proxies_say_counts_and_nothing_left_of_whoever_asked() {
        let trusted = proxies(&["10.0.0.0/8", "fd00::/8"]);
        let way = |peer: &str, given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(*name, value.parse().unwrap());
            }
            let Way { addresses, scheme, host, prefix } = trusted.way(peer.parse().unwrap(), &headers);
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let host = host.map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default();
            format!("{} {scheme} {host} {prefix}", addresses.join(",")).trim_end().to_owned()
        };
        let (of, proto, host, prefix) =
            ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix");
        for (peer, given, expected) in [
            (
                "9.9.9.9",
                &[(of, "1.1.1.1"), (proto, "https"), (host, "a"), (prefix, "/x"), ("forwarded", "for=2.2.2.2")][..],
                "9.9.9.9 http",
            ),
            ("10.0.0.1", &[], "10.0.0.1 http"),
            (
                "10.0.0.1",
                &[(of, "1.1.1.1"), (proto, "https"), (host, "a.example:8"), (prefix, "/x/")],
                "1.1.1.1,10.0.0.1 https a.example:8 /x",
            ),
            ("::ffff:10.0.0.1", &[(of, "1.1.1.1")], "1.1.1.1,10.0.0.1 http"),
            // What stands left of the first that is no proxy was made up.
            (
                "10.0.0.1",
                &[(of, "7.7.7.7, 1.1.1.1, 10.0.0.2"), (proto, "https, http")],
                "1.1.1.1,10.0.0.2,10.0.0.1 https",
            ),
            ("10.0.0.1", &[(of, "7.7.7.7"), (of, "1.1.1.1")], "1.1.1.1,10.0.0.1 http"),
            ("10.0.0.1", &[(of, "10.9.9.9, 1.1.1.1"), (proto, "https, http")], "1.1.1.1,10.0.0.1 http"),
            ("10.0.0.1", &[(of, "7.7.7.7, unknown")], "10.0.0.1 http"),
            ("10.0.0.1", &[(of, "7.7.7.7, , 10.0.0.2")], "10.0.0.2,10.0.0.1 http"),
            ("10.0.0.1", &[(of, "1.1.1.1:80")], "1.1.1.1,10.0.0.1 http"),
            ("10.0.0.1", &[(of, "[2001:db8::1]:80")], "2001:db8::1,10.0.0.1 http"),
            (
                "fd00::1",
                &[("forwarded", r#"for="[2001:db8::1]:80";proto=https;host="a.example""#)],
                "2001:db8::1,fd00::1 https a.example",
            ),
            (
                "10.0.0.1",
                &[("forwarded", r#"For="7.7.7.7,\"", for=1.1.1.1;by=10.0.0.2 , for=10.0.0.2;proto=https"#)],
                "1.1.1.1,10.0.0.2,10.0.0.1 http",
            ),
            ("10.0.0.1", &[("forwarded", "for=_hidden;proto=https")], "10.0.0.1 https"),
            // Whoever asks adds the header that the proxy does not write.
            ("10.0.0.1", &[(of, "1.1.1.1"), ("forwarded", "for=7.7.7.7")], "10.0.0.1 http"),
            ("10.0.0.1", &[(of, "1.1.1.1"), ("forwarded", "for=1.1.1.1")], "1.1.1.1,10.0.0.1 http"),
            ("10.0.0.1", &[(host, "a@b"), (prefix, "/a/../b")], "10.0.0.1 http"),
            ("10.0.0.1", &[(host, "a b"), (prefix, "//evil.example")], "10.0.0.1 http"),
            ("10.0.0.1", &[(proto, "javascript"), (prefix, "x")], "10.0.0.1 http"),
        ] {
            assert_eq!(way(peer, given), expected, "{peer} {given:?}");
        }
    }
}
