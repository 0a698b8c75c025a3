//! Project metadata by name, ready to be mapped: each name is there once among its siblings, and each thing has an id.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::ProjectMetadata;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A category.
    Category,
    /// A label set.
    LabelSet,
    /// A label.
    Label,
}

/// The categories by name. The order in which they were written is gone: nothing may depend on it.
#[derive(Clone, Debug)]
pub struct Catalog<'a> {
    pub(super) categories: Things<'a>,
}

/// Siblings, by name.
pub(super) type Things<'a> = BTreeMap<&'a str, Thing<'a>>;

/// A category with its label sets, a label set with its labels, or a label.
#[derive(Clone, Debug)]
pub(super) struct Thing<'a> {
    pub(super) id: u64,
    /// Within which the id means this thing, at whatever place it stands.
    pub(super) project: Option<u64>,
    pub(super) api_name: Option<&'a str>,
    /// Of a label set: whether it is the default one.
    pub(super) is_default: bool,
    /// What else is known of it, by its keys in the metadata.
    pub(super) details: Details,
    pub(super) inner: Things<'a>,
}

/// Keys of a thing with their values; those that are not there are left out.
pub type Details = BTreeMap<&'static str, Value>;

impl<'a> Catalog<'a> {
    /// The catalog of `metadata`, which was read from `document`. None where it has mistakes, or lacks ids: those go to
    /// `found`, with all else that there is to say.
    pub fn new(metadata: &'a ProjectMetadata, document: &Document, found: &mut Diagnostics) -> Option<Self> {
        let mut mistakes = Diagnostics::new();
        metadata.check(document, &mut mistakes);
        let mut id = |id: Option<u64>, what: &str, name: &str, at: &str| {
            if id.is_none() {
                let message = format!("the {what} `{name}` has no `id`, and ids are what is mapped");
                mistakes.push(document.at(Code::MissingKey, &format!("{at}/name"), message));
            }
            id.unwrap_or_default()
        };
        let mut categories = Things::new();
        for (number, category) in metadata.categories().iter().enumerate() {
            let at = format!("{}/{number}", metadata.root());
            let mut thing = Thing {
                id: id(category.id, "category", &category.name, &at),
                project: category.project,
                api_name: category.api_name.as_deref(),
                is_default: false,
                details: described(&category.api_name, &category.description),
                inner: Things::new(),
            };
            for (number, set) in category.schema.iter().enumerate() {
                let at = format!("{at}/schema/{number}");
                let mut details = described(&set.api_name, &set.description);
                details.insert("has_multiple_annotation_sets", set.has_multiple_annotation_sets.into());
                let mut labels = Things::new();
                for (number, label) in set.labels.iter().enumerate() {
                    let id = id(label.id, "label", &label.name, &format!("{at}/labels/{number}"));
                    let mut details = described(&label.api_name, &label.description);
                    details.insert("data_type", label.data_type.as_str().into());
                    details.insert("has_multiple_top_candidates", label.has_multiple_top_candidates.into());
                    details.extend(label.threshold.map(|threshold| ("threshold", threshold.into())));
                    let (project, api_name) = (category.project, label.api_name.as_deref());
                    let label_thing = Thing { id, project, api_name, is_default: false, details, inner: Things::new() };
                    labels.insert(&label.name, label_thing);
                }
                let set_thing = Thing {
                    id: id(set.id, "label set", &set.name, &at),
                    project: category.project,
                    api_name: set.api_name.as_deref(),
                    is_default: category.is_default(set),
                    details,
                    inner: labels,
                };
                thing.inner.insert(&set.name, set_thing);
            }
            categories.insert(&category.name, thing);
        }
        let sound = !mistakes.has_errors();
        found.extend(mistakes);
        sound.then_some(Self { categories })
    }
}

fn described(api_name: &Option<String>, description: &Option<String>) -> Details {
    let known = [("api_name", api_name), ("description", description)];
    known.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?.into()))).collect()
}
