//! From the ids of one project to those of another: by name, and with a plan for what is missing there.
//!
//! A category is matched by its name, a label set by its name within its category, a label by its name within its label
//! set. What exists in the target stays as it is. Invariants: the mapping of a project onto itself is the identity; with
//! [`Missing::Created`] nothing stays without a target; nothing depends on the order in which things were written.
//! `docs/metadata.md` describes what comes out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::catalog::{Catalog, Details, Kind, Thing, Things};
use crate::io::suggest::closest;

/// Where everything of the source goes to, by place in the order of names.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mapping {
    /// The categories.
    pub categories: Vec<Entry>,
    /// The label sets, at each category that has them.
    pub label_sets: Vec<Entry>,
    /// The labels, at each label set that has them.
    pub labels: Vec<Entry>,
    /// What is to be created, in this order: what belongs to something comes after it.
    pub create: Vec<Creation>,
    /// What exists in the target, and is to be added at another place there, after the creations.
    pub add: Vec<Addition>,
}

/// Where something goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Where it stands in the source.
    #[serde(flatten)]
    pub place: Place,
    /// Its id in the source.
    pub source: u64,
    /// Its id in the target; none where it is missing there.
    pub target: Option<Target>,
    /// A name in the target that may mean the same, where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<String>,
    /// What the target has otherwise, and keeps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<Difference>,
}

/// The names that lead to something.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Of the category.
    pub category: String,
    /// Of the label set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_set: Option<String>,
    /// Of the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Place {
    /// The last of the names.
    pub fn name(&self) -> &str {
        self.label.as_ref().or(self.label_set.as_ref()).unwrap_or(&self.category)
    }

    /// That of what it belongs to; none for a category.
    pub fn parent(&self) -> Option<Self> {
        let label_set = self.label.as_ref().and(self.label_set.clone());
        self.label_set.as_ref().map(|_| Self { category: self.category.clone(), label_set, label: None })
    }

    fn with(&self, kind: Kind, name: &str) -> Self {
        let (mut place, name) = (self.clone(), name.to_owned());
        match kind {
            Kind::Category => place.category = name,
            Kind::LabelSet => place.label_set = Some(name),
            Kind::Label => place.label = Some(name),
        }
        place
    }
}

/// Something in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// It exists, with this id.
    Existing(u64),
    /// It is to be created, as the so-manieth, from 1.
    New(usize),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existing(id) => f.pad(&id.to_string()),
            Self::New(number) => f.pad(&format!("new-{number}")),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Existing(id) => serializer.serialize_u64(*id),
            Self::New(_) => serializer.collect_str(self),
        }
    }
}

/// A value that is another one in the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key, as `data_type`.
    pub key: &'static str,
    /// Its value in the source.
    pub source: Value,
    /// Its value in the target.
    pub target: Value,
}

/// Something that the target lacks.
#[derive(Clone, Debug, Serialize)]
pub struct Creation {
    /// By what the mapping refers to it.
    #[serde(rename = "ref")]
    pub reference: Target,
    /// What it is.
    pub kind: Kind,
    /// Its id in the source.
    pub source: u64,
    /// What it is called.
    pub name: String,
    /// What it belongs to: the categories of a label set, the label sets of a label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Target>,
    /// Of a label set: whether it is the default one of its category, which is created with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// What else the source says of it, by the keys of the metadata.
    #[serde(flatten)]
    pub details: Details,
}

/// Something that exists in the target, and in the source at a place where the target does not have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Addition {
    /// A label set or a label.
    pub kind: Kind,
    /// Its id in the target.
    pub target: u64,
    /// The category or the label set that it is added to.
    pub within: Target,
}

impl Mapping {
    /// All entries, each after those that it belongs to.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.categories.iter().chain(&self.label_sets).chain(&self.labels)
    }

    /// What the target lacks, and nothing was planned for.
    pub fn missing(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| entry.target.is_none())
    }

    /// What the target has otherwise.
    pub fn different(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| !entry.keeps.is_empty())
    }
}

/// What becomes of what the target lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// It stays without a target.
    #[default]
    Left,
    /// It is planned for creation.
    Created,
}

/// Maps `source` onto `target`.
pub fn map<'a>(source: &'a Catalog<'a>, target: &'a Catalog<'a>, missing: Missing) -> Mapping {
    let mut mapper = Mapper { missing, ..Mapper::default() };
    mapper.find(Kind::Category, &source.categories, &target.categories);
    // What something belongs to is created before it, so one kind after the other.
    let (place, there) = (Place::default(), Some(&target.categories));
    let top = Group { place, things: &source.categories, there, within: None };
    let sets = mapper.map(Kind::Category, vec![top]);
    let labels = mapper.map(Kind::LabelSet, sets);
    mapper.map(Kind::Label, labels);
    let mut mapping = mapper.mapping;
    // A label set that is in several categories is met at each of them.
    let sorted = |within: &mut Vec<Target>| {
        within.sort_unstable();
        within.dedup();
    };
    mapping.create.iter_mut().for_each(|creation| sorted(&mut creation.within));
    mapping.add.sort_unstable();
    mapping.add.dedup();
    mapping
}

/// Siblings of the source, and those that they are looked for among.
struct Group<'a> {
    place: Place,
    things: &'a Things<'a>,
    there: Option<&'a Things<'a>>,
    /// What they belong to in the target.
    within: Option<Target>,
}

/// A thing of the source, at whatever place it stands.
type Identity = (Kind, Option<u64>, u64);

#[derive(Default)]
struct Mapper<'a> {
    missing: Missing,
    /// What exists in the target of what the source has: the first one in the order of names.
    existing: BTreeMap<Identity, &'a Thing<'a>>,
    /// What is to be created already.
    created: BTreeMap<Identity, usize>,
    /// Names that were compared.
    compared: usize,
    mapping: Mapping,
}

impl<'a> Mapper<'a> {
    /// Finds all that exists, as it may be missing at another place.
    fn find(&mut self, kind: Kind, things: &Things<'a>, there: &'a Things<'a>) {
        for (name, thing) in things {
            let Some(there) = there.get(name) else { continue };
            self.existing.entry((kind, thing.project, thing.id)).or_insert(there);
            match kind {
                Kind::Category => self.find(Kind::LabelSet, &thing.inner, &there.inner),
                Kind::LabelSet => self.find(Kind::Label, &thing.inner, &there.inner),
                Kind::Label => {}
            }
        }
    }

    /// Maps groups of a kind, and gives the groups that are within.
    fn map(&mut self, kind: Kind, groups: Vec<Group<'a>>) -> Vec<Group<'a>> {
        let mut inner = Vec::new();
        for group in groups {
            let renamed = Renamed::new(group.things, group.there);
            for (name, thing) in group.things {
                let mut there = group.there.and_then(|there| there.get(name));
                let mut near = None;
                let mut target = there.map(|there| Target::Existing(there.id));
                if target.is_none() {
                    near = renamed.near(name, thing, &mut self.compared);
                    if self.missing == Missing::Created {
                        there = self.existing.get(&(kind, thing.project, thing.id)).copied();
                        target = Some(self.make(kind, name, thing, there, group.within));
                    }
                }
                let place = group.place.with(kind, name);
                let keeps = there.map(|there| differences(thing, there)).unwrap_or_default();
                let entry = Entry { place: place.clone(), source: thing.id, target, near, keeps };
                match kind {
                    Kind::Category => self.mapping.categories.push(entry),
                    Kind::LabelSet => self.mapping.label_sets.push(entry),
                    Kind::Label => self.mapping.labels.push(entry),
                }
                let there = there.map(|there| &there.inner);
                inner.push(Group { place, things: &thing.inner, there, within: target });
            }
        }
        inner
    }

    /// Plans for something that is missing at a place: it is added there if it exists or is created anyway.
    fn make(
        &mut self,
        kind: Kind,
        name: &str,
        thing: &Thing<'_>,
        existing: Option<&Thing<'_>>,
        within: Option<Target>,
    ) -> Target {
        if let Some(existing) = existing {
            self.mapping.add.extend(within.map(|within| Addition { kind, target: existing.id, within }));
            return Target::Existing(existing.id);
        }
        let create = &mut self.mapping.create;
        let number = *self.created.entry((kind, thing.project, thing.id)).or_insert_with(|| {
            let reference = Target::New(create.len() + 1);
            // A category that exists has its default label set already.
            let default =
                (kind == Kind::LabelSet).then_some(thing.is_default && matches!(within, Some(Target::New(_))));
            let (name, details) = (name.to_owned(), thing.details.clone());
            create.push(Creation { reference, kind, source: thing.id, name, within: Vec::new(), default, details });
            create.len()
        });
        if let Some(creation) = create.get_mut(number - 1) {
            creation.within.extend(within);
        }
        Target::New(number)
    }
}

/// What the target has otherwise.
fn differences(thing: &Thing<'_>, there: &Thing<'_>) -> Vec<Difference> {
    let keys = ["data_type", "has_multiple_annotation_sets", "has_multiple_top_candidates"];
    let values = keys.into_iter().filter_map(|key| Some((key, thing.details.get(key)?, there.details.get(key)?)));
    let different = values.filter(|(_, source, target)| source != target);
    different.map(|(key, source, target)| Difference { key, source: source.clone(), target: target.clone() }).collect()
}

/// Siblings in the target that the source does not have by name: one of them may be meant by another name.
struct Renamed<'a> {
    names: Vec<String>,
    default: Option<&'a str>,
    by_id: BTreeMap<(u64, u64), &'a str>,
    by_api_name: BTreeMap<&'a str, &'a str>,
}

impl<'a> Renamed<'a> {
    /// Names that are compared with others in one mapping. Comparing is slow, and files may be foreign.
    const MOST_COMPARED: usize = 1_000_000;

    fn new(things: &Things<'_>, there: Option<&'a Things<'a>>) -> Self {
        let (mut names, mut default) = (Vec::new(), None);
        let (mut by_id, mut by_api_name) = (BTreeMap::new(), BTreeMap::new());
        for (name, other) in there.into_iter().flatten().filter(|(name, _)| !things.contains_key(*name)) {
            names.push((*name).to_owned());
            default = default.or_else(|| other.is_default.then_some(*name));
            by_id.extend(other.project.map(|project| ((project, other.id), *name)));
            by_api_name.extend(other.api_name.map(|api_name| (api_name, *name)));
        }
        Self { names, default, by_id, by_api_name }
    }

    /// What has the same id in the same project, is the default one as well, or has the same name for programs; or else
    /// a similar name.
    fn near(&self, name: &str, thing: &Thing<'_>, compared: &mut usize) -> Option<String> {
        let by_id = || self.by_id.get(&(thing.project?, thing.id)).copied();
        let by_api_name = || self.by_api_name.get(thing.api_name?).copied();
        let by_name = || {
            *compared = compared.saturating_add(self.names.len());
            (*compared <= Self::MOST_COMPARED).then(|| closest(name, &self.names)).flatten()
        };
        let by_role = || self.default.filter(|_| thing.is_default);
        by_id().or_else(by_role).or_else(by_api_name).or_else(by_name).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::sample::subsequence;
    use serde_json::json;

    use super::*;
    use crate::formats::diagnostic::{Diagnostics, Source};
    use crate::formats::document::{Document, Format};
    use crate::formats::metadata::{Category, Label, LabelSet, ProjectMetadata};

    fn mapped(source: &ProjectMetadata, target: &ProjectMetadata, missing: Missing) -> Mapping {
        let mut found = Diagnostics::new();
        let document = |metadata: &ProjectMetadata| {
            let text = serde_json::to_string(metadata).unwrap();
            Document::parse(&Source::new("x", text), Format::Json, &mut Diagnostics::new()).unwrap()
        };
        let (from, to) = (document(source), document(target));
        let catalogs = (Catalog::new(source, &from, &mut found), Catalog::new(target, &to, &mut found));
        let (Some(source), Some(target)) = catalogs else { panic!("{found:?}") };
        map(&source, &target, missing)
    }

    fn project(text: &str) -> ProjectMetadata {
        let document =
            Document::parse(&Source::new("x", text), Format::Json5, &mut Diagnostics::new()).expect("it is JSON5");
        serde_json::from_value(document.root.to_json()).unwrap()
    }

    fn data(value: &impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }

    const INVOICES: &str = "[{id: 63, project: 46, name: 'Invoice', schema: [
        {id: 63, name: 'Invoice', labels: [{id: 860, name: 'Total', data_type: 'Number', threshold: 0.5}]},
        {id: 64, name: 'Line item', has_multiple_annotation_sets: true, labels: [
            {id: 860, name: 'Total', data_type: 'Number', threshold: 0.5},
            {id: 862, name: 'Amount', data_type: 'Number', has_multiple_top_candidates: true},
        ]},
    ]}]";

    #[test]
    fn what_exists_stays_and_what_is_missing_is_created_once() {
        let target = project(
            "{categories: [{id: 7, project: 5, name: 'Invoice', schema: [
                {id: 7, name: 'Invoice', labels: [{id: 90, name: 'Total', data_type: 'Text'}]},
            ]}]}",
        );
        let listed = mapped(&project(INVOICES), &target, Missing::Left);
        let missing: Vec<_> = listed.missing().map(|entry| entry.place.name()).collect();
        assert_eq!(missing, ["Line item", "Amount", "Total"]);
        assert!(listed.create.is_empty() && listed.add.is_empty());
        let keeps = json!([{"key": "data_type", "source": "Number", "target": "Text"}]);
        assert_eq!(data(&listed.different().map(|entry| &entry.keeps).collect::<Vec<_>>()), json!([keeps]));

        let planned = mapped(&project(INVOICES), &target, Missing::Created);
        assert_eq!(
            data(&planned.create),
            json!([
                {"ref": "new-1", "kind": "label_set", "source": 64, "name": "Line item", "within": [7],
                 "default": false, "has_multiple_annotation_sets": true},
                {"ref": "new-2", "kind": "label", "source": 862, "name": "Amount", "within": ["new-1"],
                 "data_type": "Number", "has_multiple_top_candidates": true},
            ])
        );
        // The label is there already, in another label set.
        assert_eq!(data(&planned.add), json!([{"kind": "label", "target": 90, "within": "new-1"}]));
        let targets: Vec<_> = planned.labels.iter().map(|entry| entry.target.unwrap().to_string()).collect();
        assert_eq!(targets, ["90", "new-2", "90"]);
    }

    #[test]
    fn a_new_category_comes_with_its_default_label_set() {
        let planned = mapped(&project(INVOICES), &project("[]"), Missing::Created);
        let made: Vec<_> = planned.create.iter().map(|creation| (creation.name.as_str(), creation.default)).collect();
        let expected =
            [("Invoice", None), ("Invoice", Some(true)), ("Line item", Some(false)), ("Total", None), ("Amount", None)];
        assert_eq!(made, expected);
        let total = planned.create.iter().find(|creation| creation.name == "Total").unwrap();
        assert_eq!(total.within, [Target::New(2), Target::New(3)]);
    }

    #[test]
    fn renamed_ones_are_near() {
        let near = |target: &str| {
            let mapping = mapped(&project(INVOICES), &project(target), Missing::Left);
            mapping.missing().map(|entry| entry.near.clone()).collect::<Vec<_>>()
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(near("[{id: 1, name: 'Invoices'}]"), [name("Invoices"), None, None, None, None, None]);
        // The same id in the same project.
        assert_eq!(near("[{id: 63, project: 46, name: 'Bill'}]")[0], name("Bill"));
        assert_eq!(near("[{id: 63, project: 47, name: 'Bill'}]")[0], None);
        // The default label set of each.
        assert_eq!(
            near("[{id: 1, name: 'Invoice', schema: [{id: 1, name: 'All'}, {id: 2, name: 'Lines'}]}]")[0],
            name("All")
        );
        let other = "[{id: 1, name: 'Invoice', schema: [{id: 1, name: 'Invoice', labels: [
            {id: 5, name: 'Totals', data_type: 'Number'}, {id: 6, name: 'VAT', data_type: 'Number'}]}]}]";
        assert!(near(other).contains(&name("Totals")));
        let by_api_name = INVOICES.replace("name: 'Total',", "name: 'Total', api_name: 'sum',");
        let other = other.replace("name: 'VAT',", "name: 'VAT', api_name: 'sum',");
        let mapping = mapped(&project(&by_api_name), &project(&other), Missing::Left);
        assert!(mapping.missing().any(|entry| entry.near == name("VAT")));
    }

    /// A project of things from a common stock, whose ids begin behind `ids`.
    fn projects(ids: u64) -> impl Strategy<Value = ProjectMetadata> {
        let numbers = |most: u64| subsequence((1..=most).collect::<Vec<_>>(), 0..=most as usize);
        let sets = proptest::collection::vec((numbers(6), any::<bool>()), 4);
        let labels = proptest::collection::vec((0..3usize, any::<bool>()), 6);
        let categories = proptest::collection::vec(numbers(4), 3);
        (categories, numbers(3), sets, labels).prop_map(move |(sets_of, categories, sets, labels)| {
            let label = |number: &u64| {
                let (data_type, several) = labels[*number as usize - 1];
                let (name, data_type) = (format!("Label {number}"), ["Text", "Date", "Number"][data_type].to_owned());
                let (id, api_name, description, threshold) = (Some(ids + 20 + number), None, None, Some(0.1));
                Label { id, name, api_name, description, data_type, has_multiple_top_candidates: several, threshold }
            };
            let set = |number: &u64| {
                let (labels, several) = &sets[*number as usize - 1];
                LabelSet {
                    id: Some(ids + 10 + number),
                    name: format!("Set {number}"),
                    api_name: None,
                    description: None,
                    has_multiple_annotation_sets: *several,
                    labels: labels.iter().map(label).collect(),
                }
            };
            let category = |number: &u64| Category {
                id: Some(ids + number),
                project: Some(ids),
                name: format!("Category {number}"),
                api_name: None,
                description: None,
                schema: sets_of[*number as usize - 1].iter().map(set).collect(),
            };
            ProjectMetadata::Project { categories: categories.iter().map(category).collect() }
        })
    }

    /// The same in another order, and in the other form.
    fn shuffled(project: &ProjectMetadata, seed: u64) -> ProjectMetadata {
        let key = |id: Option<u64>| (id.unwrap() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut categories = project.categories().to_vec();
        categories.sort_by_key(|category| key(category.id));
        for category in &mut categories {
            category.schema.sort_by_key(|set| key(set.id));
            category.schema.iter_mut().for_each(|set| set.labels.sort_by_key(|label| key(label.id)));
        }
        ProjectMetadata::Categories(categories)
    }

    /// The target after a server has done all that was planned.
    fn applied(target: &ProjectMetadata, mapping: &Mapping) -> ProjectMetadata {
        fn id(target: &Target) -> u64 {
            match target {
                Target::Existing(id) => *id,
                Target::New(number) => 10_000 + *number as u64,
            }
        }
        fn add_label(categories: &mut [Category], within: u64, label: &Label) {
            let sets = categories.iter_mut().flat_map(|category| &mut category.schema);
            let sets: Vec<_> = sets.filter(|set| set.id == Some(within)).collect();
            assert!(!sets.is_empty(), "there is no label set {within} yet");
            sets.into_iter().for_each(|set| set.labels.push(label.clone()));
        }
        fn add_set(categories: &mut [Category], within: u64, set: &LabelSet) {
            let category = categories.iter_mut().find(|category| category.id == Some(within));
            category.expect("the category is there").schema.push(set.clone());
        }
        let mut categories = target.categories().to_vec();
        for creation in &mapping.create {
            let mut value = data(&creation.details);
            value["id"] = id(&creation.reference).into();
            value["name"] = creation.name.clone().into();
            match creation.kind {
                Kind::Category => {
                    value["project"] = 2000.into();
                    categories.push(serde_json::from_value(value).unwrap());
                }
                Kind::LabelSet => {
                    let set = serde_json::from_value(value).unwrap();
                    creation.within.iter().for_each(|within| add_set(&mut categories, id(within), &set));
                }
                Kind::Label => {
                    let label = serde_json::from_value(value).unwrap();
                    creation.within.iter().for_each(|within| add_label(&mut categories, id(within), &label));
                }
            }
        }
        for addition in &mapping.add {
            let sets: Vec<LabelSet> = categories.iter().flat_map(|category| &category.schema).cloned().collect();
            match addition.kind {
                Kind::Category => panic!("nothing holds categories"),
                Kind::LabelSet => {
                    let set = sets.iter().find(|set| set.id == Some(addition.target)).unwrap();
                    add_set(&mut categories, id(&addition.within), set);
                }
                Kind::Label => {
                    let label = sets.iter().flat_map(|set| &set.labels).find(|l| l.id == Some(addition.target));
                    add_label(&mut categories, id(&addition.within), label.unwrap());
                }
            }
        }
        ProjectMetadata::Project { categories }
    }

    proptest! {
        #[test]
        fn onto_itself_it_is_the_identity(project in projects(1000)) {
            let mapping = mapped(&project, &project, Missing::Created);
            prop_assert!(mapping.entries().all(|entry| entry.target == Some(Target::Existing(entry.source))));
            prop_assert!(mapping.create.is_empty() && mapping.add.is_empty() && mapping.different().next().is_none());
            let things: usize = project.categories().iter().flat_map(|category| &category.schema)
                .map(|set| 1 + set.labels.len()).sum();
            prop_assert_eq!(mapping.entries().count(), project.categories().len() + things);
        }

        #[test]
        fn the_order_of_what_is_written_does_not_matter(
            source in projects(1000), target in projects(2000), seed: u64, create: bool,
        ) {
            let missing = if create { Missing::Created } else { Missing::Left };
            let other = mapped(&shuffled(&source, seed), &shuffled(&target, !seed), missing);
            prop_assert_eq!(data(&mapped(&source, &target, missing)), data(&other));
        }

        #[test]
        fn what_was_planned_makes_the_target_complete(source in projects(1000), target in projects(2000)) {
            let planned = mapped(&source, &target, Missing::Created);
            prop_assert!(planned.missing().next().is_none());
            let listed = mapped(&source, &target, Missing::Left);
            let missing: BTreeSet<&Place> = listed.missing().map(|entry| &entry.place).collect();
            for entry in planned.entries().filter(|entry| !missing.contains(&entry.place)) {
                prop_assert!(matches!(entry.target, Some(Target::Existing(_))));
            }
            // One source id is created once, and not at all where it exists at another place.
            let lists = [(Kind::LabelSet, &listed.label_sets), (Kind::Label, &listed.labels)];
            let existing: BTreeSet<(Kind, u64)> = lists
                .into_iter()
                .flat_map(|(kind, list)| list.iter().filter(|e| e.target.is_some()).map(move |e| (kind, e.source)))
                .collect();
            let created: Vec<_> = planned.create.iter().map(|creation| (creation.kind, creation.source)).collect();
            prop_assert_eq!(created.iter().collect::<BTreeSet<_>>().len(), created.len());
            prop_assert!(created.iter().all(|thing| !existing.contains(thing)));
            let after = mapped(&source, &applied(&target, &planned), Missing::Created);
            prop_assert!(after.create.is_empty() && after.add.is_empty(), "{after:?}");
            for (before, after) in planned.entries().zip(after.entries()) {
                let expected = match before.target {
                    Some(Target::New(number)) => Some(Target::Existing(10_000 + number as u64)),
                    target => target,
                };
                prop_assert_eq!(expected, after.target);
            }
        }
    }
}
