//! What a registry wants to know before it answers: nothing, a name and a password, or a token.
//!
//! RFC 9110, section 11.6.1 (challenges), RFC 7617 (Basic), RFC 6750 (Bearer), and the distribution project's token
//! and OAuth 2.0 specifications, which registries follow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::credentials::Credential;

/// What a registry said it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The challenge in the values of `WWW-Authenticate` that can be met; tokens before passwords.
    pub(super) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for value in values {
            let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let mut parameters = parameters(rest);
                let (service, scope) = (parameters.remove("service"), parameters.remove("scope"));
                return Some(Self::Bearer { realm: parameters.remove("realm")?, service, scope });
            }
        }
        basic
    }
}

/// `key="value", key=value`, quotes and commas within values included.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let mut value = String::new();
        text = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut characters = quoted.chars();
                while let Some(character) = characters.next() {
                    match character {
                        '"' => break,
                        '\\' => value.extend(characters.next()),
                        character => value.push(character),
                    }
                }
                characters.as_str()
            }
            None => {
                let (plain, rest) = rest.split_once(',').unwrap_or((rest, ""));
                value.push_str(plain.trim());
                rest
            }
        };
        found.entry(key).or_insert(value);
    }
    found
}

/// The answer of a token server.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A token and until when it is used. Never shown.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    until: Instant,
}

impl TokenAnswer {
    /// The token, if there is one that can stand in a header.
    pub(super) fn token(self, asked: Instant) -> Option<Token> {
        // "If omitted, this defaults to 60 seconds", and it counts from when the server issued it.
        let lifetime = Duration::from_secs(self.expires_in.unwrap_or(60));
        let text = self.token.or(self.access_token).filter(|text| !text.is_empty())?;
        Some(Token { text, until: asked + lifetime.mul_f64(0.8) })
    }
}

impl Token {
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

/// What is known of how to be let in to one registry.
#[derive(Default)]
pub(super) struct Access {
    pub(super) challenge: Option<Challenge>,
    /// Outer none: not looked up yet.
    pub(super) credentials: BTreeMap<String, Option<Credential>>,
    /// By scopes.
    pub(super) tokens: BTreeMap<String, Token>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_their_quotes_and_commas() {
        let value = r#"Bearer realm="https://auth.example/token",service="r, \"x\"",scope="repository:a/b:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse([value].into_iter()) else { panic!() };
        assert_eq!(realm, "https://auth.example/token");
        assert_eq!(service.as_deref(), Some(r#"r, "x""#));
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull,push"));
        let both = ["Basic realm=\"x\"", "bearer realm=https://a.example"];
        assert!(matches!(Challenge::parse(both.into_iter()), Some(Challenge::Bearer { .. })));
        assert_eq!(Challenge::parse(["basic"].into_iter()), Some(Challenge::Basic));
        assert_eq!(Challenge::parse(["Negotiate", "", "Bearer x"].into_iter()), None);
    }
}
