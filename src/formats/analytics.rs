//! `manifest.json` of the AI Analytics Runtime: a model, what it takes and gives while it is trained and asked, and
//! what it is made of.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;
use crate::formats::schema::Kind;
use crate::formats::schema::load::Described;
use crate::formats::topic;

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
    /// Its version: a positive integer, greater than the last one. Absent: one more than the last one, and 1 at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<u64>,
    /// Where its data come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Where its results go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// What it is made of.
    pub model_data: ModelData,
}

impl Described for AnalyticsManifest {
    const KIND: Kind = Kind::Analytics;
}

/// Where the data of a model come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is trained with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<TrainingInput>,
    /// What it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prediction: Vec<PredictionInput>,
}

/// Where the results of a model go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The statistics of a training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<Results>,
    /// Its answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prediction: Vec<Results>,
}

/// What a model is trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrainingInput {
    /// A data set that is there before the model is.
    HistoricData(HistoricData),
    /// Messages, collected.
    MessageBus(TrainingBus),
}

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PredictionInput {
    /// Requests.
    RestApi(RestApi),
    /// Messages.
    MessageBus(MessageBus),
}

/// Where results go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Results {
    /// Messages.
    MessageBus(MessageBus),
}

/// A data set that is there before the model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HistoricData {
    /// What keeps it.
    pub data_source: DataSource,
    /// What it is called there.
    #[schemars(length(min = 1))]
    pub file_name: String,
}

/// What keeps data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DataSource {
    /// The storage of whoever runs the model.
    Storage,
}

/// Messages that a model is trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrainingBus {
    /// By which they are routed.
    #[schemars(length(min = 1))]
    pub routing_keys: Vec<RoutingKey>,
    /// How many are collected before they are trained with.
    #[serde(default = "buffer")]
    #[schemars(range(min = 1))]
    pub buffer: u64,
    /// Whether the model learns from each message rather than from all that were collected.
    #[serde(default, skip_serializing_if = "Online::is_not")]
    pub online: Online,
}

/// As many messages as are collected where nobody says.
fn buffer() -> u64 {
    1000
}

/// Yes or no, also as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Online {
    /// As such.
    Flag(bool),
    /// As a text.
    Text(OnlineText),
}

/// Yes or no, as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnlineText {
    /// Yes.
    True,
    /// No.
    False,
}

impl Default for Online {
    fn default() -> Self {
        Self::Flag(false)
    }
}

impl Online {
    /// Whether it is yes.
    pub fn is(self) -> bool {
        matches!(self, Self::Flag(true) | Self::Text(OnlineText::True))
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_not(&self) -> bool {
        !self.is()
    }
}

/// Messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MessageBus {
    /// By which they are routed.
    #[schemars(length(min = 1))]
    pub routing_keys: Vec<RoutingKey>,
}

/// By which messages are routed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutingKey {
    /// The key: words with dots between them (AMQP 0-9-1, 3.1.3.3).
    #[schemars(length(min = 1, max = 255))]
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

/// What Python code and its packages make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PythonModel {
    /// The packages.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// With what it is trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// What training makes: an archive need not have it.
    #[schemars(length(min = 1))]
    pub model_file: String,
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
    /// The program that asks it.
    #[schemars(length(min = 1))]
    pub jar_file: String,
    /// With what it is trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
}

/// What a Dockerfile makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LayersModel {
    /// Stages of the Dockerfile, or what the image is called.
    #[schemars(length(min = 1))]
    pub layers: Vec<NamedLayer>,
    /// Variables of the environment.
    #[serde(default, skip_serializing_if = "EnvVars::are_none")]
    pub env_vars: EnvVars,
    /// The description of what it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<Openapi>,
}

/// A layer by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedLayer {
    /// The name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Variables of the environment, either way that they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvVars {
    /// By name.
    Named(BTreeMap<String, String>),
    /// In order.
    Listed(Vec<EnvVar>),
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// What it is called.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What it is.
    pub value: String,
}

impl Default for EnvVars {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl EnvVars {
    /// All of them.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Named(named) => named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            Self::Listed(listed) => listed.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect(),
        }
    }

    fn are_none(&self) -> bool {
        self.pairs().is_empty()
    }
}

/// A description in OpenAPI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Openapi {
    /// A file, beside the manifest.
    File(String),
    /// Itself.
    Inline(BTreeMap<String, serde_json::Value>),
}

impl AnalyticsManifest {
    /// Files beside the manifest that it names, each with where, as a JSON pointer. That of the model need not be there yet.
    pub fn files(&self) -> Vec<(String, &str)> {
        let at = |key: &str| format!("/modelData/payload/{key}");
        match &self.model_data {
            ModelData::Python(python) => vec![(at("modelFile"), &python.model_file)],
            ModelData::H2o(h2o) => vec![(at("jarFile"), &h2o.jar_file)],
            ModelData::DockerLayers(LayersModel { openapi: Some(Openapi::File(file)), .. }) => {
                vec![(at("openapi"), file)]
            }
            ModelData::DockerLayers(_) => Vec::new(),
        }
    }

    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        self.check_inputs(document, found);
        self.check_keys(document, found);
        match &self.model_data {
            ModelData::Python(python) => python.check(document, found),
            ModelData::H2o(_) => {}
            ModelData::DockerLayers(layers) => layers.check(document, found),
        }
    }

    /// What can be there once.
    fn check_inputs(&self, document: &Document, found: &mut Diagnostics) {
        let Some(input) = &self.input else { return };
        let sets = input.training.iter().enumerate();
        let sets = sets.filter(|(_, input)| matches!(input, TrainingInput::HistoricData(_))).skip(1);
        for (number, _) in sets {
            let message = "a model is trained with one data set";
            found.push(document.at(Code::NameTwice, &format!("/input/training/{number}"), message));
        }
        let apis = input.prediction.iter().enumerate().filter_map(|(number, input)| match input {
            PredictionInput::RestApi(api) => Some((format!("/input/prediction/{number}"), api)),
            PredictionInput::MessageBus(_) => None,
        });
        for (number, (at, api)) in apis.enumerate() {
            if number > 0 {
                found.push(document.at(
                    Code::NameTwice,
                    &at,
                    "a model answers on one REST API, with all its parameters",
                ));
            }
            api.check(self, document, &format!("{at}/payload"), found);
        }
    }

    /// Routing keys: each once for its purpose, and none that a model's results come back by.
    fn check_keys(&self, document: &Document, found: &mut Diagnostics) {
        let keys = |at: String, keys: &'_ [RoutingKey]| -> Vec<(String, String)> {
            let at = |(number, key): (usize, &RoutingKey)| (format!("{at}/{number}/name"), key.name.clone());
            keys.iter().enumerate().map(at).collect()
        };
        let (mut training, mut prediction) = (Vec::new(), Vec::new());
        for (number, input) in self.input.iter().flat_map(|input| &input.training).enumerate() {
            if let TrainingInput::MessageBus(bus) = input {
                training.extend(keys(format!("/input/training/{number}/payload/routingKeys"), &bus.routing_keys));
            }
        }
        for (number, input) in self.input.iter().flat_map(|input| &input.prediction).enumerate() {
            if let PredictionInput::MessageBus(bus) = input {
                prediction.extend(keys(format!("/input/prediction/{number}/payload/routingKeys"), &bus.routing_keys));
            }
        }
        let results = |phase: &str, results: &[Results]| -> Vec<(String, String)> {
            let all = results.iter().enumerate().flat_map(|(number, Results::MessageBus(bus))| {
                keys(format!("/output/{phase}/{number}/payload/routingKeys"), &bus.routing_keys)
            });
            all.collect()
        };
        let output = self.output.clone().unwrap_or_default();
        let (statistics, answers) = (results("training", &output.training), results("prediction", &output.prediction));
        topic::check(&topic::Keys { training, prediction, statistics, answers }, document, found);
    }
}

impl RestApi {
    fn check(&self, manifest: &AnalyticsManifest, document: &Document, at: &str, found: &mut Diagnostics) {
        let mut seen = BTreeSet::new();
        for (number, Parameter { name, .. }) in self.parameters.iter().enumerate() {
            let at = format!("{at}/parameters/{number}/name");
            if !seen.insert(name) {
                found.push(document.at(Code::NameTwice, &at, format!("the parameter `{name}` is there twice")));
            }
            if matches!(manifest.model_data, ModelData::Python(_)) && !is_identifier(name) {
                let message = format!("`{name}` cannot be a parameter of a function in Python");
                found.push(document.at(Code::Inconsistent, &at, message));
            }
        }
        let mut positions: Vec<u32> = self.parameters.iter().map(|parameter| parameter.position).collect();
        positions.sort_unstable();
        if positions.iter().zip(1..).any(|(position, expected)| *position != expected) {
            let message = "the positions of the parameters do not count from 1 without gaps";
            found.push(document.at_key(Code::Inconsistent, &format!("{at}/parameters"), message));
        }
    }
}

/// Letters, digits and `_`, and no digit first.
fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

impl PythonModel {
    fn check(&self, document: &Document, found: &mut Diagnostics) {
        let mut names = BTreeSet::new();
        for (number, dependency) in self.dependencies.iter().enumerate() {
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

impl LayersModel {
    fn check(&self, document: &Document, found: &mut Diagnostics) {
        let mut twice = |what: &str, names: Vec<(String, &str)>| {
            let mut seen = BTreeSet::new();
            for (at, name) in names {
                if !seen.insert(name) {
                    found.push(document.at(Code::NameTwice, &at, format!("the {what} `{name}` is there twice")));
                }
            }
        };
        let at = |list: &str, number: usize| format!("/modelData/payload/{list}/{number}/name");
        let layers = self.layers.iter().enumerate().map(|(number, layer)| (at("layers", number), layer.name.as_str()));
        twice("layer", layers.collect());
        if let EnvVars::Listed(listed) = &self.env_vars {
            let names = listed.iter().enumerate().map(|(number, one)| (at("envVars", number), one.name.as_str()));
            twice("variable", names.collect());
        }
    }
}
