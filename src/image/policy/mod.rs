//! What an image needs before it is pulled, run, copied or deployed: who has signed it, what it stands on, what it may hold.
//!
//! A pure decision: [`Policy::demand`] says what an image of a name needs, [`Demand::missing`] holds that against what others
//! found out. Invariant: what is not said, not known or not understood is missing; an image that no rule is for is refused.

mod config;
mod containers;

pub use config::{Config, NAMES};
pub use containers::File as ContainersFile;

use std::path::Path;

use globset::GlobBuilder;
use serde_json::json;

use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::yaml;
use crate::formats::sbom::Licence;
use crate::image::registry::Reference;
use crate::image::sign::{Found, PublicKey};
use crate::io::digest::Digest;

/// Seconds that a signature may come from the future: clocks differ.
const SKEW: u64 = 3600;

/// Which images need what.
#[derive(Debug)]
pub enum Policy {
    /// As Ekiben has it.
    Own(Box<Config>),
    /// `policy.json` of containers.
    Containers(containers::Policy),
}

/// What an image is called: where it lies, as patterns name it.
#[derive(Clone, Debug)]
pub enum Name {
    /// In a registry.
    Registry(Reference),
    /// Here, as `iris:1.0`.
    Store(crate::image::store::ImageName),
}

/// What one image needs.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Why it is refused whatever it has.
    pub refused: Option<String>,
    /// Who must have signed it: each of these.
    pub signed: Vec<Signed>,
    /// On which of these it stands, as patterns; on anything where it is absent.
    pub base: Option<Vec<String>>,
    /// Under which of these licences it is.
    pub licenses: Option<Vec<String>>,
    /// Whether commands may have been executed for it.
    pub no_commands: bool,
    /// Whether its weights may run code when they are loaded.
    pub no_pickles: bool,
}

/// A signature that is needed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Any of these keys, with their names.
    pub by: Vec<(String, PublicKey)>,
    /// How old it may be, in seconds.
    pub max_age: Option<u64>,
    /// What it may call the image.
    pub identity: Identity,
}

/// What a signature may call an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Anything.
    Any,
    /// What fits one of these patterns.
    Patterns(Vec<String>),
    /// Exactly this: repository and tag.
    Exact(String),
    /// This repository, with any tag or none.
    Repository(String),
    /// The image's own name: its tag too, unless it is named by digest.
    Own,
}

/// What was found out about an image.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its signatures, for each of [`Demand::signed`] in its order; of a manifest or of the index that it is in.
    pub signatures: Vec<Vec<Found>>,
    /// What it stands on: names and digests.
    pub base: Vec<String>,
    /// Its licences, as it says: an SPDX expression.
    pub licenses: Option<String>,
    /// Commands that were executed for it; none where that is not known.
    pub commands: Option<u64>,
    /// What its weights would run, or why they could not be looked into.
    pub pickles: Vec<String>,
    /// What it is, in seconds since 1970.
    pub now: u64,
}

impl Policy {
    /// Reads the file `path`. Mistakes go to `found`; none where there are some.
    pub fn read(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        if containers::is_policy(path) {
            return containers::Policy::read(path, found).map(Self::Containers);
        }
        Config::read(path, found).map(|config| Self::Own(Box::new(config)))
    }

    /// The same with its keys within, as it goes where their files are not: a file name by which it is recognised, and the text.
    pub fn portable(&self) -> (&'static str, String) {
        match self {
            Self::Own(config) => (NAMES[0], yaml(&json!(config.with_keys()))),
            Self::Containers(policy) => ("policy.json", format!("{:#}\n", policy.with_keys())),
        }
    }

    /// What an image of this name needs.
    pub fn demand(&self, name: &Name) -> Demand {
        match self {
            Self::Own(config) => config.demand(name),
            Self::Containers(policy) => policy.demand(name),
        }
    }
}

impl Name {
    /// Without tag and digest.
    pub fn place(&self) -> String {
        match self {
            Self::Registry(reference) => reference.place(),
            Self::Store(name) => name.repository().to_owned(),
        }
    }

    /// With the tag, where there is one.
    pub fn tagged(&self) -> Option<String> {
        let tag = match self {
            Self::Registry(reference) => reference.tag().or(reference.digest().is_none().then_some("latest"))?,
            Self::Store(name) => name.tag(),
        };
        Some(format!("{}:{tag}", self.place()))
    }

    fn fits(&self, pattern: &str) -> bool {
        fits(pattern, &self.place()) || self.tagged().is_some_and(|name| fits(pattern, &name))
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for a part of a name and `**` for any parts.
fn fits(pattern: &str, text: &str) -> bool {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build();
    glob.is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

impl Demand {
    /// One that nothing fulfils.
    fn refusing(why: impl Into<String>) -> Self {
        Self { refused: Some(why.into()), ..Self::default() }
    }

    /// Whether it needs more than signatures.
    pub fn looks_inside(&self) -> bool {
        self.base.is_some() || self.licenses.is_some() || self.no_commands || self.no_pickles
    }

    /// All that is missing, a sentence each; nothing where the image may be used.
    pub fn missing(&self, name: &Name, facts: &Facts) -> Vec<String> {
        let mut missing: Vec<String> = self.refused.iter().cloned().collect();
        for (index, signed) in self.signed.iter().enumerate() {
            let found = facts.signatures.get(index).map(Vec::as_slice).unwrap_or_default();
            missing.extend(signed.missing(name, found, facts.now));
        }
        if let Some(allowed) = &self.base {
            match facts.base.iter().any(|base| allowed.iter().any(|pattern| fits(pattern, base))) {
                true => {}
                false if facts.base.is_empty() => missing.push("it does not say what it stands on".to_owned()),
                false => missing.push(format!("it stands on {}, which is not allowed", facts.base.join(" "))),
            }
        }
        if let Some(allowed) = &self.licenses {
            match &facts.licenses {
                None => missing.push("it does not say under which licences it is".to_owned()),
                Some(text) => missing.extend(licenses_missing(text, allowed)),
            }
        }
        match facts.commands {
            _ if !self.no_commands => {}
            Some(0) => {}
            Some(count) => missing.push(format!("{count} commands were executed for it, and none may be")),
            None => {
                missing.push("whether commands were executed for it is not known: another tool has built it".to_owned())
            }
        }
        if self.no_pickles {
            missing.extend(facts.pickles.iter().cloned());
        }
        missing
    }
}

/// Whether the licences that an image names are not all among those that are allowed.
fn licenses_missing(text: &str, allowed: &[String]) -> Option<String> {
    let allowed: Vec<_> = allowed.iter().filter_map(|name| Licence::of(name).expression).collect();
    let is_allowed = |name: &str| allowed.iter().any(|one| one.eq_ignore_ascii_case(name));
    (!Licence::of(text).holds(is_allowed)).then(|| format!("it is under `{text}`, which is not allowed"))
}

impl Signed {
    /// What is missing, where none of `found` will do.
    fn missing(&self, name: &Name, found: &[Found], now: u64) -> Option<String> {
        let who: Vec<_> = self.by.iter().map(|(name, _)| name.as_str()).collect();
        let who = who.join(" or ");
        let mut why: Vec<String> = Vec::new();
        for one in found {
            for signature in &one.signatures {
                match self.refuses(name, &signature.claim, now) {
                    None => return None,
                    Some(reason) => why.push(reason),
                }
            }
            why.extend(one.refused.iter().map(|refused| format!("{} {}", refused.digest.short(), refused.why)));
        }
        why.dedup();
        const SHOWN: usize = 3;
        let more = why.len().saturating_sub(SHOWN);
        why.truncate(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let why = if why.is_empty() { String::new() } else { format!(" ({}{more})", why.join("; ")) };
        Some(format!("there is no signature by {who} that counts{why}"))
    }

    /// Why a signature that its key has made does not do.
    fn refuses(&self, name: &Name, claim: &crate::image::sign::Claim, now: u64) -> Option<String> {
        match (self.max_age, claim.made) {
            (Some(_), None) => return Some("one does not say when it was made".to_owned()),
            (Some(max), Some(made)) if made > now + SKEW || now.saturating_sub(made) > max => {
                return Some("one is too old, or of another time".to_owned());
            }
            _ => {}
        }
        let claimed = claim.identity.as_deref().unwrap_or_default();
        match self.identity.allows(claimed, name) {
            true => None,
            false => Some(format!("one is of an image called `{claimed}`")),
        }
    }
}

impl Identity {
    fn allows(&self, claimed: &str, name: &Name) -> bool {
        let reference = || claimed.parse::<Reference>().ok();
        match self {
            Self::Any => true,
            Self::Patterns(patterns) => patterns.iter().any(|pattern| {
                fits(pattern, claimed) || reference().is_some_and(|reference| fits(pattern, &reference.place()))
            }),
            Self::Exact(wanted) => !claimed.is_empty() && claimed == wanted,
            Self::Repository(wanted) => reference().is_some_and(|reference| reference.place() == *wanted),
            Self::Own => {
                let Some(claimed) = reference() else { return false };
                let is_of_digest = matches!(name, Name::Registry(reference) if reference.digest().is_some());
                let tag = claimed.tag().map(|tag| format!("{}:{tag}", claimed.place()));
                claimed.place() == name.place() && (is_of_digest || tag.is_some() && tag == name.tagged())
            }
        }
    }
}

/// Why an image may not be used.
#[derive(Debug, thiserror::Error)]
#[error("{name}@{digest} is refused by {policy}:{}", lines(missing))]
pub struct Refusal {
    /// What it was called.
    pub name: String,
    /// What it is.
    pub digest: Digest,
    /// The file.
    pub policy: String,
    /// All that is missing.
    pub missing: Vec<String>,
    /// Whether signatures are among it: then nothing of the image itself was looked at.
    pub lacks_signatures: bool,
}

fn lines(missing: &[String]) -> String {
    missing.iter().map(|one| format!("\n  - {one}")).collect()
}

impl crate::io::explain::Explain for Refusal {
    fn explain(&self) -> crate::io::explain::Explanation {
        crate::io::explain::ErrorKind::Refused.named("policy/refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sign::{Algorithm, Claim, Format, PrivateKey, Signature};

    fn name(text: &str) -> Name {
        Name::Registry(text.parse().unwrap())
    }

    fn signed(identity: Identity, max_age: Option<u64>) -> Demand {
        let key = PrivateKey::new(Algorithm::Ed25519).public().unwrap();
        let signed = Signed { by: vec![("release".to_owned(), key)], max_age, identity };
        Demand { signed: vec![signed], ..Demand::default() }
    }

    fn facts(identity: Option<&str>, made: Option<u64>) -> Facts {
        let claim = Claim { subject: Digest::of("x"), identity: identity.map(str::to_owned), creator: None, made };
        let found =
            Found { signatures: vec![Signature { format: Format::Simple, claim, key: 0 }], refused: Vec::new() };
        Facts { signatures: vec![vec![found]], now: 1_000_000, ..Facts::default() }
    }

    #[test]
    fn what_is_not_said_is_missing() {
        let image = name("h.example/a/b:1");
        let demand = Demand {
            base: Some(vec!["debian:bookworm".to_owned()]),
            licenses: Some(vec!["MIT".to_owned()]),
            no_commands: true,
            ..signed(Identity::Any, None)
        };
        let missing = demand.missing(&image, &Facts { commands: Some(2), ..Facts::default() });
        assert_eq!(missing.len(), 4, "{missing:?}");
        assert!(missing[0].contains("no signature by release"), "{missing:?}");
        let good = Facts {
            base: vec!["debian:bookworm".to_owned()],
            licenses: Some("MIT".to_owned()),
            commands: Some(0),
            ..facts(None, None)
        };
        assert!(demand.missing(&image, &good).is_empty());
        let missing = demand.missing(&image, &Facts { commands: None, ..good });
        assert!(missing[0].contains("not known"), "{missing:?}");
    }

    #[test]
    fn a_signature_ages() {
        let image = name("h.example/a:1");
        let demand = signed(Identity::Any, Some(1000));
        assert!(demand.missing(&image, &facts(None, Some(999_500))).is_empty());
        assert!(demand.missing(&image, &facts(None, Some(1_000_500))).is_empty(), "clocks differ");
        for made in [None, Some(0), Some(998_999), Some(1_010_000), Some(u64::MAX)] {
            assert!(!demand.missing(&image, &facts(None, made)).is_empty(), "{made:?}");
        }
    }

    #[test]
    fn a_signature_is_of_an_image_of_the_name() {
        let patterns = |text: &str| Identity::Patterns(vec![text.to_owned()]);
        for (identity, claimed, of, good) in [
            (patterns("h.example/*"), "h.example/a", "m.example/a:1", true),
            (patterns("h.example/*"), "h.example/a:1", "m.example/a:1", true),
            (patterns("h.example/*"), "h.example/a/b", "m.example/a:1", false),
            (patterns("h.example/**"), "h.example/a/b", "m.example/a:1", true),
            (Identity::Own, "h.example/a:1", "h.example/a:1", true),
            (Identity::Own, "h.example/a", "h.example/a:1", false),
            (Identity::Own, "h.example/a:2", "h.example/a:1", false),
            (Identity::Repository("h.example/a".to_owned()), "h.example/a:9", "h.example/a:1", true),
            (Identity::Repository("h.example/a".to_owned()), "h.example/b", "h.example/a:1", false),
            (Identity::Repository("h.example/a".to_owned()), "", "h.example/a:1", false),
            (Identity::Exact("h.example/a:1".to_owned()), "h.example/a:1", "x.example/y", true),
            (Identity::Exact("h.example/a:1".to_owned()), "h.example/a", "h.example/a:1", false),
        ] {
            let missing = signed(identity.clone(), None).missing(&name(of), &facts(Some(claimed), None));
            assert_eq!(missing.is_empty(), good, "{identity:?} {claimed} {of}: {missing:?}");
        }
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let allowed = ["MIT", "Apache-2.0", "Our Own, v1"].map(str::to_owned);
        for (text, good) in [
            ("MIT", true),
            ("mit", true),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT AND Apache-2.0", true),
            ("(MIT OR GPL-3.0-only) AND Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("(MIT OR Apache-2.0)", true),
            ("(MIT OR GPL-3.0-only) AND (GPL-2.0-only OR Apache-2.0)", true),
            ("MIT AND", false),
            ("The Model License 1", false),
            ("Our Own, v1", true),
            ("", false),
            ("Apache-2.0 WITH LLVM-exception", false),
        ] {
            assert_eq!(licenses_missing(text, &allowed).is_none(), good, "{text}");
        }
    }
}
