//! What is wrong with project metadata in itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Category, NAME, NAMES, ProjectMetadata};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::Document;

/// A warning about metadata in the file `path`, shown as `shown`, which a service would not find.
pub fn not_found_by_service(path: &Path, shown: &str) -> Option<Diagnostic> {
    let name = path.file_name()?.to_str()?;
    let known = NAMES.contains(&name) && name != NAME;
    known.then(|| {
        let message = format!("a service looks for `{NAME}`, and will not find `{name}`");
        Diagnostic::of_file(Code::NotFoundByService, shown, message).help(format!("rename the file to `{NAME}`"))
    })
}

impl ProjectMetadata {
    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        let root = self.root();
        let mut check = Check { document, found, known: BTreeMap::new() };
        let categories = self.categories();
        check.twice(root, "category", categories.iter().map(|category| &category.name));
        for (number, category) in categories.iter().enumerate() {
            check.category(category, &format!("{root}/{number}"));
        }
    }

    /// Where the categories stand in a document, as a JSON pointer.
    pub(super) fn root(&self) -> &'static str {
        match self {
            Self::Project { .. } => "/categories",
            Self::Categories(_) => "",
        }
    }
}

struct Check<'a> {
    document: &'a Document,
    found: &'a mut Diagnostics,
    /// What was said first of the thing with a number in a project, and where.
    known: BTreeMap<(Thing, &'static str), (String, String)>,
}

/// A number means one thing of a kind in a project.
type Thing = (&'static str, Option<u64>, u64);

impl Check<'_> {
    fn category(&mut self, category: &Category, at: &str) {
        if let Some(id) = category.id {
            self.same(("category", category.project, id), "name", &category.name, at);
        }
        let sets = format!("{at}/schema");
        self.twice(&sets, "label set", category.schema.iter().map(|set| &set.name));
        for (number, set) in category.schema.iter().enumerate() {
            let at = format!("{sets}/{number}");
            if let Some(id) = set.id {
                let thing = ("label set", category.project, id);
                self.same(thing, "name", &set.name, &at);
                self.same(thing, "has_multiple_annotation_sets", &set.has_multiple_annotation_sets.to_string(), &at);
            }
            let labels = format!("{at}/labels");
            self.twice(&labels, "label", set.labels.iter().map(|label| &label.name));
            for (number, label) in set.labels.iter().enumerate() {
                let Some(id) = label.id else { continue };
                let (thing, at) = (("label", category.project, id), format!("{labels}/{number}"));
                self.same(thing, "name", &label.name, &at);
                self.same(thing, "data_type", &label.data_type, &at);
                self.same(thing, "has_multiple_top_candidates", &label.has_multiple_top_candidates.to_string(), &at);
            }
        }
        let has_default = category.schema.iter().any(|set| category.is_default(set));
        if let Some(id) = category.id.filter(|_| !has_default && !category.schema.is_empty()) {
            let message = format!("none of the label sets has the id {id} of the category, so it has no default one");
            self.found.push(self.document.at_key(Code::NoDefaultLabelSet, &sets, message));
        }
    }

    /// What has the same number must be the same wherever it stands.
    fn same(&mut self, thing: Thing, key: &'static str, value: &str, at: &str) {
        let at = format!("{at}/{key}");
        let first = self.known.entry((thing, key)).or_insert_with(|| (value.to_owned(), at.clone()));
        if first.0 != value {
            let (kind, _, id) = thing;
            let error = self.document.at(Code::Inconsistent, &at, format!("the {kind} {id} has two values of `{key}`"));
            let error = error.label(format!("`{value}` here"));
            let there = self.document.span_of(&first.1);
            self.found.push(error.also(&self.document.source, there, format!("`{}` here", first.0)));
        }
    }

    fn twice<'a>(&mut self, at: &str, what: &str, names: impl Iterator<Item = &'a String>) {
        let document = self.document;
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, name) in names.enumerate() {
            if let Some(first) = seen.insert(name, number) {
                let message = format!("the {what} `{name}` is there twice");
                let error = document.at(Code::NameTwice, &format!("{at}/{number}/name"), message).label("again here");
                let there = document.span_of(&format!("{at}/{first}/name"));
                self.found.push(error.also(&document.source, there, "first here"));
            }
        }
    }
}
