//! Project metadata that travels with a model: categories, their label sets, and the labels in those.
//!
//! The shape is that which `konfuzio-sdk` writes into its bentos, and reads from `src/categories_and_labels_data.json5`.
//! Things are told apart by their names; the numbers are those of the project that the model comes from. What stands at
//! several places with one number is one thing: a label in two label sets, a label set in two categories.

mod catalog;
mod check;
mod map;

pub use catalog::{Catalog, Details, Kind};
pub use check::not_found_by_service;
pub use map::{Addition, Creation, Difference, Entry, Mapping, Missing, Place, Target, map};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::schema::{self, load::Described};

/// Where a service looks for it.
pub const NAME: &str = "categories_and_labels_data.json5";

/// All names that it is known by: the SDK writes another one than its services read.
pub const NAMES: [&str; 8] = [
    NAME,
    "categories_and_label_data.json5",
    "category_and_labels_data.json5",
    "category_and_label_data.json5",
    "categories_and_labels_data.json",
    "categories_and_label_data.json",
    "category_and_labels_data.json",
    "category_and_label_data.json",
];

/// The metadata of a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ProjectMetadata {
    /// As it travels with a model.
    Project {
        /// What documents are told apart by.
        categories: Vec<Category>,
    },
    /// As it lies in the folder of a project.
    Categories(Vec<Category>),
}

impl Described for ProjectMetadata {
    const KIND: schema::Kind = schema::Kind::Metadata;
}

/// A kind of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Category {
    /// In the project that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The project that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<u64>,
    /// What it is called.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_name: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is found in its documents. The set with the category's own number is the default one.
    #[serde(default)]
    pub schema: Vec<LabelSet>,
}

/// Labels that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelSet {
    /// In the project that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What it is called.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_name: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether a document may have several.
    #[serde(default)]
    pub has_multiple_annotation_sets: bool,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Label>,
}

/// Something that is found in documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Label {
    /// In the project that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What it is called.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_name: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its values are, as `Text`, `Date` or `Number`.
    pub data_type: String,
    /// Whether it may appear several times.
    #[serde(default)]
    pub has_multiple_top_candidates: bool,
    /// How sure the model has to be, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: Option<f64>,
}

impl ProjectMetadata {
    /// The categories, in whichever form.
    pub fn categories(&self) -> &[Category] {
        match self {
            Self::Project { categories } | Self::Categories(categories) => categories,
        }
    }
}

impl Category {
    /// Whether a label set is the default one: it has the category's number.
    pub fn is_default(&self, set: &LabelSet) -> bool {
        set.id.is_some() && set.id == self.id
    }
}
