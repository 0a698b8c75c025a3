//! `manifest.json` of the AI Analytics Runtime: a model, what it takes and gives while it is trained and asked, and
//! what it is made of.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;
use crate::formats::schema::Kind;
use crate::formats::schema::load::Described;

/// A model of the AI Analytics Runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "AnalyticsManifest")]
pub struct AnalyticsManifest {
    /// What the model is called, for people.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its version: a positive integer.
    #[schemars(range(min = 1))]
    pub version: u64,
    /// Where its data come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Phases>,
    /// Where its results go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Phases>,
    /// What it is made of.
    pub model_data: ModelData,
}

impl Described for AnalyticsManifest {
    const KIND: Kind = Kind::Analytics;
}

/// What flows while a model is trained, and while it is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// While it is trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<Channel>,
    /// While it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prediction: Vec<Channel>,
}

/// A way that data flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Channel {
    /// Data that were kept.
    HistoricData(HistoricData),
    /// Messages.
    MessageBus(MessageBus),
    /// Requests.
    RestApi(RestApi),
}

/// Data that were kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HistoricData {
    /// What keeps them, as `STORAGE`.
    pub data_source: String,
    /// The file with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The query that selects them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// Messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MessageBus {
    /// By which messages are routed.
    #[schemars(length(min = 1))]
    pub routing_keys: Vec<RoutingKey>,
    /// How many messages are collected before they are handed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub buffer: Option<u64>,
}

/// By which messages are routed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutingKey {
    /// The key.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestApi {
    /// What a request holds.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its place among the arguments, from 1.
    #[schemars(range(min = 1))]
    pub position: u32,
    /// What it is called.
    pub name: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a model is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ModelData {
    /// A pickle and the packages that it needs.
    Python(PythonModel),
    /// A model of H2O.
    #[serde(rename = "H2O")]
    #[schemars(rename = "H2O")]
    H2o(H2oModel),
    /// Layers of an image.
    DockerLayers(LayersModel),
}

/// A pickle and the packages that it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PythonModel {
    /// The packages.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// How it was trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// The pickle, beside the manifest.
    pub model_file: String,
    /// Variables of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// The description of what it answers, beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<String>,
}

/// A Python package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What it is called on the package index.
    #[schemars(regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"), extend("patternErrorMessage" = "a name of a Python package"))]
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A model of H2O.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct H2oModel {
    /// The model, beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_file: Option<String>,
    /// The program that asks it, beside the manifest.
    pub jar_file: String,
    /// How it was trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// Variables of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// The description of what it answers, beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<String>,
}

/// Layers of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LayersModel {
    /// Their archives, beside the manifest, the lowest first.
    #[schemars(length(min = 1))]
    pub layers: Vec<String>,
    /// How it was trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// Variables of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// The description of what it answers, beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<String>,
}

impl AnalyticsManifest {
    /// The files beside the manifest that hold the model, each with where it is named, as a JSON pointer.
    pub fn files(&self) -> Vec<(String, &str)> {
        let at = |key: &str| format!("/modelData/payload/{key}");
        match &self.model_data {
            ModelData::Python(python) => vec![(at("modelFile"), &python.model_file)],
            ModelData::H2o(h2o) => {
                let model = h2o.model_file.as_deref().map(|file| (at("modelFile"), file));
                model.into_iter().chain([(at("jarFile"), h2o.jar_file.as_str())]).collect()
            }
            ModelData::DockerLayers(layers) => {
                let layers = layers.layers.iter().enumerate();
                layers.map(|(number, layer)| (at(&format!("layers/{number}")), layer.as_str())).collect()
            }
        }
    }

    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        for (side, phases) in [("input", &self.input), ("output", &self.output)] {
            let Some(phases) = phases else { continue };
            for (phase, channels) in [("training", &phases.training), ("prediction", &phases.prediction)] {
                for (number, channel) in channels.iter().enumerate() {
                    channel.check(document, &format!("/{side}/{phase}/{number}/payload"), found);
                }
            }
        }
        if let ModelData::Python(python) = &self.model_data {
            let mut names = BTreeSet::new();
            for (number, dependency) in python.dependencies.iter().enumerate() {
                let at = format!("/modelData/payload/dependencies/{number}");
                if !names.insert(dependency.name.to_lowercase().replace(['_', '.'], "-")) {
                    let message = format!("the package `{}` is there twice", dependency.name);
                    found.push(document.at(Code::NameTwice, &format!("{at}/name"), message));
                }
                if let Some(version) = &dependency.version
                    && let Err(error) = version.parse::<pep440_rs::Version>()
                {
                    let message = format!("`{version}` is no version of a Python package: {error}");
                    let error = document.at(Code::BadRequirement, &format!("{at}/version"), message);
                    found.push(error.help("as `1.5.2`: one version, without `==`"));
                }
            }
        }
    }
}

impl Channel {
    fn check(&self, document: &Document, at: &str, found: &mut Diagnostics) {
        let mut twice = |names: Vec<(String, &str)>, what: &str| {
            let mut seen = BTreeSet::new();
            for (at, name) in names {
                if !seen.insert(name) {
                    found.push(document.at(Code::NameTwice, &at, format!("the {what} `{name}` is there twice")));
                }
            }
        };
        match self {
            Self::HistoricData(_) => {}
            Self::MessageBus(bus) => twice(
                bus.routing_keys
                    .iter()
                    .enumerate()
                    .map(|(number, key)| (format!("{at}/routingKeys/{number}/name"), key.name.as_str()))
                    .collect(),
                "routing key",
            ),
            Self::RestApi(api) => {
                let parameters = || api.parameters.iter().enumerate();
                let names = parameters().map(|(number, p)| (format!("{at}/parameters/{number}/name"), p.name.as_str()));
                twice(names.collect(), "parameter");
                let mut positions: Vec<u32> = api.parameters.iter().map(|parameter| parameter.position).collect();
                positions.sort_unstable();
                if positions.iter().zip(1..).any(|(position, expected)| *position != expected) {
                    let message = "the positions of the parameters do not count from 1 without gaps";
                    found.push(document.at_key(Code::Inconsistent, &format!("{at}/parameters"), message));
                }
            }
        }
    }
}
