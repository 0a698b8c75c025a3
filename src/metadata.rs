//! Project metadata that travels with a model: categories, their label sets, and the labels in those.
//!
//! The shape is that which `konfuzio-sdk` writes into its bentos, and reads from `src/categories_and_labels_data.json5`.
//! Things are told apart by their names; the numbers are those of the project that the model comes from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Code, Diagnostics};
use crate::document::Document;

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

    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        let root = match self {
            Self::Project { .. } => "/categories",
            Self::Categories(_) => "",
        };
        let categories = self.categories();
        twice(document, root, "category", categories.iter().map(|category| &category.name), found);
        for (number, category) in categories.iter().enumerate() {
            let at = format!("{root}/{number}/schema");
            twice(document, &at, "label set", category.schema.iter().map(|set| &set.name), found);
            for (number, set) in category.schema.iter().enumerate() {
                let at = format!("{at}/{number}/labels");
                twice(document, &at, "label", set.labels.iter().map(|label| &label.name), found);
            }
            let own = category.schema.iter().filter(|set| set.id.is_some() && set.id == category.id).count();
            if own > 1 {
                let message =
                    format!("{own} label sets have the number of the category, which only the default one has");
                found.push(document.at_key(Code::Inconsistent, &at, message));
            }
        }
        // A label that is in several sets is one label: it cannot have two types.
        let mut types: BTreeMap<(u64, usize), (&str, String)> = BTreeMap::new();
        for (c, category) in categories.iter().enumerate() {
            for (s, set) in category.schema.iter().enumerate() {
                for (l, label) in set.labels.iter().enumerate() {
                    let Some(id) = label.id else { continue };
                    let at = format!("{root}/{c}/schema/{s}/labels/{l}/data_type");
                    let first = types.entry((id, c)).or_insert((&label.data_type, at.clone()));
                    if first.0 != label.data_type {
                        let message = format!("the label {id} is `{}` here", label.data_type);
                        let error = document.at(Code::Inconsistent, &at, message);
                        let there = document.span_of(&first.1);
                        found.push(error.also(&document.source, there, "and something else here"));
                    }
                }
            }
        }
    }
}

fn twice<'a>(
    document: &Document,
    at: &str,
    what: &str,
    names: impl Iterator<Item = &'a String>,
    found: &mut Diagnostics,
) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, name) in names.enumerate() {
        if let Some(first) = seen.insert(name, number) {
            let message = format!("the {what} `{name}` is there twice");
            let error = document.at(Code::NameTwice, &format!("{at}/{number}/name"), message).label("again here");
            found.push(error.also(&document.source, document.span_of(&format!("{at}/{first}/name")), "first here"));
        }
    }
}
