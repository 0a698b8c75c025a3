//! A policy as Ekiben has it: `ekiben-policy.yaml`.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use globset::GlobBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Demand, Identity, Name, Signed as Needed};
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::{Document, pointer};
use crate::formats::schema::Kind;
use crate::formats::schema::load::{self, Described};
use crate::image::sign::{LARGEST_KEY, PublicKey};

/// Names under which it is recognised.
pub const NAMES: [&str; 3] = ["ekiben-policy.yaml", "ekiben-policy.yml", "ekiben-policy.json"];

/// What images need before they are pulled, run, copied or deployed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Public keys by the names that rules call them by: files, from the folder of this file, or PEM itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
    /// What images need. The first rule that fits an image's name counts; an image that none fits is refused.
    #[schemars(length(min = 1))]
    pub rules: Vec<Rule>,
    /// The keys as they were read.
    #[serde(skip)]
    read: BTreeMap<String, PublicKey>,
}

/// What some images need.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names of images, as `registry.example/team/*`: `*` stands for a part of a name, `**` for any parts. With a tag, only
    /// that tag is meant.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub images: Vec<String>,
    /// Whether all of them may be used, or none, whatever they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<Accept>,
    /// Who must have signed them: each of these is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed: Vec<Signed>,
    /// What they may stand on: names of bases as in a manifest, or digests of images. An image says it itself, so a signature
    /// should be needed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub base: Option<Vec<String>>,
    /// Licences that they may be under, as SPDX calls them: of what the manifest says as `licenses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub licenses: Option<Vec<String>>,
    /// Whether commands (`RUN`, `system.run`) may have been executed for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Commands>,
    /// Whether loading their weights may run code. They are looked into, for which they are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pickles: Option<Pickles>,
}

/// What is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// Everything.
    Anything,
    /// Nothing.
    Nothing,
}

/// Which commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Commands {
    /// Any.
    Any,
    /// None.
    None,
}

/// Which weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pickles {
    /// Any.
    Any,
    /// Those that run nothing when they are loaded.
    Harmless,
}

/// A signature that is needed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signed {
    /// Names of keys, of which any will do.
    #[schemars(length(min = 1))]
    pub by: Vec<String>,
    /// How old it may be, in days, by what it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 36500))]
    pub max_age_days: Option<u32>,
    /// What it may call the image, as patterns; absent: anything. An image that was copied elsewhere keeps what it was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub identity: Option<Vec<String>>,
}

impl Described for Config {
    const KIND: Kind = Kind::Policy;
}

impl Config {
    /// Reads and checks the file `path`. Mistakes go to `found`; none where there are some.
    pub fn read(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let mut loaded = load::file::<Self>(path, found)?;
        if let Some(config) = &mut loaded.value {
            config.check(&loaded.document, path.parent().unwrap_or(Path::new("")), found);
        }
        loaded.whole().filter(|_| !found.has_errors()).map(|(_, config)| config)
    }

    /// Reads the keys, and says what the schema cannot. Mistakes go to `found`.
    fn check(&mut self, document: &Document, folder: &Path, found: &mut Diagnostics) {
        for (name, text) in &self.keys {
            let at = pointer(["keys", name]);
            match key(name, text, folder) {
                Ok(key) => drop(self.read.insert(name.clone(), key)),
                Err(why) => found.push(document.at(Code::WrongForm, &at, why)),
            }
        }
        for (number, rule) in self.rules.iter().enumerate() {
            let at = |keys: &[&str]| pointer(["rules", &number.to_string()].into_iter().chain(keys.iter().copied()));
            let mut wrong = |keys: &[&str], why: String| found.push(document.at(Code::WrongForm, &at(keys), why));
            let demands = !rule.signed.is_empty()
                || rule.base.is_some()
                || rule.licenses.is_some()
                || rule.commands == Some(Commands::None)
                || rule.pickles == Some(Pickles::Harmless);
            match (demands, rule.accept) {
                (false, None) => wrong(&[], "a rule needs something, or says `accept: anything`".to_owned()),
                (true, Some(_)) => wrong(&["accept"], "a rule needs something, or accepts: not both".to_owned()),
                _ => {}
            }
            let lists = [("images", Some(&rule.images)), ("base", rule.base.as_ref())];
            for (key, patterns) in lists.into_iter().filter_map(|(key, list)| Some((key, list?))) {
                for (index, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| !is_pattern(pattern)) {
                    wrong(&[key, &index.to_string()], format!("`{pattern}` is no pattern"));
                }
            }
            for (index, signed) in rule.signed.iter().enumerate() {
                let index = index.to_string();
                for (place, name) in signed.by.iter().enumerate().filter(|(_, name)| !self.keys.contains_key(*name)) {
                    let why = format!("there is no key `{name}` in `keys`");
                    wrong(&["signed", &index, "by", &place.to_string()], why);
                }
                let patterns = signed.identity.iter().flatten().enumerate();
                for (place, pattern) in patterns.filter(|(_, pattern)| !is_pattern(pattern)) {
                    let why = format!("`{pattern}` is no pattern");
                    wrong(&["signed", &index, "identity", &place.to_string()], why);
                }
            }
        }
    }

    /// The same, whose keys are no files.
    pub(super) fn with_keys(&self) -> Self {
        let keys = self.read.iter().map(|(name, key)| (name.clone(), key.write()));
        Self { keys: keys.collect(), ..self.clone() }
    }

    /// What an image of this name needs.
    pub(super) fn demand(&self, name: &Name) -> Demand {
        let Some(rule) = self.rules.iter().find(|rule| rule.images.iter().any(|pattern| name.fits(pattern))) else {
            return Demand::refusing("no rule is for images of this name");
        };
        if rule.accept == Some(Accept::Nothing) {
            return Demand::refusing("images of this name are not accepted");
        }
        let signed = rule.signed.iter().map(|signed| Needed {
            // A key that is not there would have been a mistake; it makes the signature impossible, not needless.
            by: signed.by.iter().filter_map(|name| Some((name.clone(), self.read.get(name)?.clone()))).collect(),
            max_age: signed.max_age_days.map(|days| u64::from(days) * 86_400),
            identity: signed.identity.clone().map_or(Identity::Any, Identity::Patterns),
        });
        Demand {
            refused: None,
            signed: signed.collect(),
            base: rule.base.clone(),
            licenses: rule.licenses.clone(),
            no_commands: rule.commands == Some(Commands::None),
            no_pickles: rule.pickles == Some(Pickles::Harmless),
        }
    }
}

fn is_pattern(text: &str) -> bool {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build().is_ok()
}

/// The key called `name`: PEM, or a file below `folder`.
fn key(name: &str, text: &str, folder: &Path) -> Result<PublicKey, String> {
    if text.contains("-----BEGIN") {
        return PublicKey::read(text, name).map_err(|error| error.to_string());
    }
    let path = folder.join(text);
    let pem = read_key(&path)?;
    PublicKey::read(&pem, &path.display().to_string()).map_err(|error| error.to_string())
}

/// The text of a key's file.
pub(super) fn read_key(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST_KEY).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}
