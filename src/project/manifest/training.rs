//! How a model is trained, and the messages that it is trained and asked by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ENTRY, ENTRY_IN_WORDS, Entry, FunctionRef};
use crate::formats::document::Written;

/// The folder of models that are trained where an image runs: a volume of its user's.
pub const TRAINED: &str = "/trained";

/// How the model is trained: by a function or a command, from a data set or from messages (`ekiben train`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The function, as `FILE:FUNCTION`: `train(data=None, hyperparameters=…)`. What it returns is pickled and becomes the model's
    /// file, unless it writes that itself into the working folder; a dictionary is statistics then, and `(model, statistics)`
    /// is both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub function: Option<Written<FunctionRef>>,
    /// A command in its place, which writes the model's file. It has `EKIBEN_DATA`, `EKIBEN_HYPERPARAMETERS` (JSON) and
    /// `EKIBEN_OUTPUT`; of its words `{data}` stands for the data set, `{output}` for the model's file, and `{parameters}`
    /// for `--NAME=VALUE` of each parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What learns from each message, as `FILE:FUNCTION`: `partial_train(model, record)`, which returns the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub partial: Option<Written<FunctionRef>>,
    /// What the data set is called: a file of the project, or one that `ekiben data add` keeps. Absent: the training has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub data: Option<String>,
    /// The hyperparameters; `ekiben train --set NAME=VALUE` changes them for once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The file that the model becomes, below the model's folder.
    #[schemars(length(min = 1, max = 255))]
    pub output: String,
    /// The messages that it is trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<TrainingMessages>,
}

/// Messages (AMQP 0-9-1, exchange `amq.topic`) that a model is trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingMessages {
    /// The keys by which they come; `*` stands for one word, `#` for any number of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = key_schema()))]
    pub subscribe: Vec<String>,
    /// The keys by which statistics of a training go out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = key_schema()))]
    pub publish: Vec<String>,
    /// How many are collected, in a spool on disk, before the model is trained with them. Absent: 1000.
    #[serde(default = "buffer")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub buffer: u64,
    /// Whether it learns from each one when it comes, by `partial`. Absent: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub online: bool,
}

/// Messages (AMQP 0-9-1, exchange `amq.topic`) that the function `predict` is asked by. The broker is that of `EKIBEN_AMQP_URL`
/// where the image runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// The keys by which they come; `*` stands for one word, `#` for any number of them.
    #[schemars(length(min = 1), extend("items" = key_schema()))]
    pub subscribe: Vec<String>,
    /// The keys by which answers go out. Absent: to whom a message names (`reply_to`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = key_schema()))]
    pub publish: Vec<String>,
    /// How many are taken at once. Absent: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub prefetch: Option<u16>,
}

/// What a model does where it runs, besides answering requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Duties {
    /// The model's file that training makes, below the model's folder; none where the model is not trained.
    pub output: Option<String>,
    /// Whether it is trained once, before it answers.
    pub trains: bool,
    /// The data set of that.
    pub data: Option<String>,
    /// Whether messages train it.
    pub learns: bool,
    /// The keys of the messages that ask it.
    pub consumes: Vec<String>,
}

impl Duties {
    /// Whether it needs a broker of messages.
    pub fn has_messages(&self) -> bool {
        self.learns || !self.consumes.is_empty()
    }
}

/// As many messages as are collected where nobody says.
fn buffer() -> u64 {
    1000
}

/// A routing key: at most 255 bytes (AMQP 0-9-1, 1.1.1, `shortstr`).
fn key_schema() -> serde_json::Value {
    serde_json::json!({ "type": "string", "minLength": 1, "maxLength": 255 })
}

impl Training {
    /// The functions that train, each with where the manifest names it. What is not `FILE:FUNCTION` is left out; the check of
    /// form has said so.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let named = [("train", "/training/function", &self.function), ("partial", "/training/partial", &self.partial)];
        named
            .into_iter()
            .filter_map(|(name, pointer, written)| {
                let FunctionRef { file, function } = written.as_ref()?.meant().ok()?;
                Some(Entry { name, file, function, pointer: pointer.to_owned() })
            })
            .collect()
    }

    /// Whether messages train it.
    pub fn learns(&self) -> bool {
        !self.keys().0.is_empty()
    }

    /// The keys by which messages come, and those by which some go out.
    pub fn keys(&self) -> (&[String], &[String]) {
        self.messages.as_ref().map_or((&[], &[]), |messages| (&messages.subscribe, &messages.publish))
    }
}
