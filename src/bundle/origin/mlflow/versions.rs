//! Registered models, their versions, and what people write to these.

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::{Value as Json, json};

use super::{Asked, Error, Server};
use crate::bundle::origin::MOST_FILES;
use crate::io::http::{Method, Verdict};
use crate::project::address::{Mlflow, Which};

/// Versions in one answer.
const PAGE: u32 = 200;

/// A version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// What the model is registered as.
    pub name: String,
    /// Which version it is.
    #[serde(deserialize_with = "number")]
    pub version: u64,
    /// Whether it can be fetched: `READY`.
    #[serde(default)]
    status: Option<String>,
    /// What its people wrote to it.
    #[serde(default)]
    tags: Vec<Tag>,
    /// Names that it has now. Absent in listings of some releases.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The stage that it is in, where the registry has stages.
    #[serde(default)]
    pub current_stage: Option<String>,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Version {
    /// As an address names it.
    pub fn address(&self) -> String {
        format!("models:/{}/{}", self.name, self.version)
    }

    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }

    /// Whether it can be fetched.
    pub fn is_ready(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == "READY")
    }
}

/// Releases write numbers as texts.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Json::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom("no number"))
}

impl Server {
    /// A version of a registered model.
    ///
    /// # Errors
    /// When there is no such one, or it is not ready.
    pub fn version(&self, name: &str, which: &Which) -> Result<Version, Error> {
        #[derive(Deserialize)]
        struct One {
            model_version: Version,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Several {
            model_versions: Vec<Version>,
        }
        let about = Mlflow::Registered { name: name.to_owned(), which: which.clone(), path: String::new() }.to_string();
        let several = |found: Several| {
            let newest = found.model_versions.into_iter().filter(|version| version.name == name);
            newest.max_by_key(|version| version.version).ok_or_else(|| Error::Refused {
                server: self.address(),
                about: about.clone(),
                status: 404,
                verdict: Verdict::Final,
                message: "there is no such version".to_owned(),
            })
        };
        let version = match which {
            Which::Number(number) => {
                let query = [("name", name), ("version", &*number.to_string())];
                self.get::<One>("mlflow/model-versions/get", &query, &about)?.model_version
            }
            Which::Alias(alias) => {
                let query = [("name", name), ("alias", alias)];
                self.get::<One>("mlflow/registered-models/alias", &query, &about)?.model_version
            }
            Which::Stage(stage) => {
                let body = json!({ "name": name, "stages": [stage] });
                let path = "mlflow/registered-models/get-latest-versions";
                several(self.ask(&Method::POST, path, Asked::Body(&body), &about)?)?
            }
            Which::Latest => {
                let filter = Self::filter_of_name(name);
                let found = self.search(&filter, &about)?;
                several(Several { model_versions: found })?
            }
        };
        match &version.status {
            Some(status) if status != "READY" => Err(Error::NotReady { about, status: status.clone() }),
            _ => Ok(version),
        }
    }

    /// The versions that a filter of MLflow's finds (`tags.production = 'true'`), of all models; all where it is empty.
    ///
    /// # Errors
    /// When it is no filter, or the server does not answer.
    pub fn search(&self, filter: &str, about: &str) -> Result<Vec<Version>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Page {
            model_versions: Vec<Version>,
            next_page_token: String,
        }
        let mut found: Vec<Version> = Vec::new();
        let mut token = String::new();
        loop {
            let most = PAGE.to_string();
            let mut query = vec![("max_results", most.as_str())];
            query.extend((!filter.is_empty()).then_some(("filter", filter)));
            query.extend((!token.is_empty()).then_some(("page_token", token.as_str())));
            let page: Page = self.get("mlflow/model-versions/search", &query, about)?;
            found.extend(page.model_versions);
            if found.len() > MOST_FILES {
                return Err(self.puzzling(about, format!("there are more than {MOST_FILES} versions")));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// The names of the models of which a version has this alias.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn with_alias(&self, alias: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Alias {
            alias: String,
        }
        #[derive(Deserialize)]
        struct Model {
            name: String,
            #[serde(default)]
            aliases: Vec<Alias>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Page {
            registered_models: Vec<Model>,
            next_page_token: String,
        }
        let about = "models:/";
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let most = PAGE.to_string();
            let mut query = vec![("max_results", most.as_str())];
            query.extend((!token.is_empty()).then_some(("page_token", token.as_str())));
            let page: Page = self.get("mlflow/registered-models/search", &query, about)?;
            let has = |model: &Model| model.aliases.iter().any(|own| own.alias == alias);
            names.extend(page.registered_models.into_iter().filter(has).map(|model| model.name));
            if names.len() > MOST_FILES {
                return Err(self.puzzling(about, format!("there are more than {MOST_FILES} models")));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(names);
            }
        }
    }

    /// The filter that finds the versions of a model.
    pub fn filter_of_name(name: &str) -> String {
        format!("name={}", quoted(name))
    }

    /// Writes a tag to a version of a registered model.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn set_tag(&self, version: &Version, key: &str, value: &str) -> Result<(), Error> {
        let body = json!({ "name": version.name, "version": version.version.to_string(), "key": key, "value": value });
        let path = "mlflow/model-versions/set-tag";
        self.ask::<Json>(&Method::POST, path, Asked::Body(&body), &version.address()).map(drop)
    }

    /// Takes a tag from a version of a registered model.
    ///
    /// # Errors
    /// When the server does not do it.
    pub fn delete_tag(&self, version: &Version, key: &str) -> Result<(), Error> {
        let body = json!({ "name": version.name, "version": version.version.to_string(), "key": key });
        let path = "mlflow/model-versions/delete-tag";
        self.ask::<Json>(&Method::DELETE, path, Asked::Body(&body), &version.address()).map(drop)
    }
}

/// A text in a filter of MLflow's.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}
