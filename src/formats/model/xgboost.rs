//! XGBoost's boosters (its `doc/model.schema`): JSON, the same in Universal Binary JSON, and the binary format that came
//! before (`LearnerModelParamLegacy` in `src/learner.cc`). Names and parameters are read; the trees only as far as they
//! come before these in the first MiB, where they say which numbers a feature has.
//!
//! XGBoost sorts the names of objects, so that the number of features comes after the trees: of a large file the end is
//! searched for it.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value as Json;

use super::feed::{Feed, Stop, Stream};
use super::outline::{self, Outline};
use super::{About, Column, Fault, Format, Kind, Model, Origin};

/// How a booster is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Document(outline::Syntax),
    /// With the bytes that come before the parameters.
    Binary(usize),
}

/// Bytes that are read with the trees in them.
const MOST_TREES: u64 = 1 << 20;

/// Bytes that are read without the trees.
const MOST_HEAD: u64 = 4 << 20;

/// Bytes at the end that are searched for what comes after the trees.
const MOST_TAIL: u64 = 64 << 10;

/// Features that are told apart.
const MOST_FEATURES: u64 = 100_000;

/// Categories of one feature.
const MOST_CATEGORIES: usize = 10_000;

/// How the booster is written that begins with `head`. None where it is none.
pub(super) fn recognise(head: &[u8]) -> Option<Syntax> {
    let spaces = |bytes: &[u8]| bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or_default();
    if let Some(rest) = head.strip_prefix(b"{") {
        if rest.get(spaces(rest)..).is_some_and(|rest| rest.starts_with(b"\"learner\"")) {
            return Some(Syntax::Document(outline::Syntax::Json));
        }
        let names = [&b"L\0\0\0\0\0\0\0\x07learner"[..], b"l\0\0\0\x07learner", b"I\0\x07learner", b"i\x07learner"];
        return names
            .iter()
            .any(|name| rest.starts_with(name))
            .then_some(Syntax::Document(outline::Syntax::UniversalBinary));
    }
    let skipped = if head.starts_with(b"binf") { 4 } else { 0 };
    // Parameters of 136 bytes, then the length of the objective's name and that name.
    let legacy = Legacy::read(head.get(skipped..)?)?;
    let known = ["reg:", "binary:", "multi:", "count:", "rank:", "survival:"];
    known.iter().any(|kind| legacy.objective.starts_with(kind)).then_some(Syntax::Binary(skipped))
}

/// Looks into a file of `size` bytes.
pub(super) fn inspect(origin: &Origin<'_>, size: u64, syntax: Syntax) -> io::Result<Model> {
    let mut model = Model::of(Format::XGBoost);
    match syntax {
        Syntax::Binary(skipped) => {
            let head = origin.range(skipped as u64, 256)?.unwrap_or_default();
            model.about = Legacy::read(&head).map(Legacy::about).unwrap_or_default();
        }
        Syntax::Document(syntax) => {
            let read = |most: u64, is_wanted: &dyn Fn(&str) -> bool| {
                let mut feed = origin.feed()?;
                feed.set_limit(most);
                let outline = outline::read(&mut feed, syntax, is_wanted);
                Ok::<_, io::Error>((outline, feed.position()))
            };
            let (whole, at) = read(MOST_TREES, &is_needed)?;
            let mut documents = vec![whole.root];
            match whole.stop {
                None => {}
                Some(stop @ (Stop::Truncated | Stop::TooMuch)) if matches!(stop, Stop::TooMuch) || size > at => {
                    let (head, at) = read(MOST_HEAD, &|name| is_needed(name) && !TREES.contains(&name))?;
                    documents.insert(0, head.root);
                    match head.stop {
                        None => {}
                        Some(Stop::Truncated) if size > at => {
                            let tail = origin.range(size.saturating_sub(MOST_TAIL), MOST_TAIL)?.unwrap_or_default();
                            if tail.trim_ascii_end().last().is_some_and(|last| *last != b'}') {
                                model.faults.push(Fault::Broken(size, Stop::Truncated.to_string()));
                            }
                            documents.extend(after_trees(&tail, syntax));
                        }
                        Some(stop) => model.note(at, Err(stop)),
                    }
                }
                Some(stop) => model.note(at, Err(stop)),
            }
            model.about = about(&documents);
        }
    }
    Ok(model)
}

/// What a booster says that begins with `bytes`, also where they are cut short, or within a pickle.
pub fn of_bytes(bytes: &[u8]) -> About {
    let syntax = if bytes.starts_with(b"{\"") { outline::Syntax::Json } else { outline::Syntax::UniversalBinary };
    let Outline { root, .. } = outline::read(&mut Feed::new(Stream(bytes)), syntax, &is_needed);
    about(&[root])
}

/// What is nowhere looked at, and large.
fn is_needed(name: &str) -> bool {
    const LARGE: [&str; 14] = [
        "base_weights",
        "default_left",
        "loss_changes",
        "parents",
        "right_children",
        "split_type",
        "sum_hessian",
        "categories",
        "categories_nodes",
        "categories_segments",
        "categories_sizes",
        "tree_info",
        "iteration_indptr",
        "weights",
    ];
    !LARGE.contains(&name)
}

/// Where the trees are.
const TREES: [&str; 1] = ["trees"];

/// What stands after the trees, searched for at the end of a document.
fn after_trees(tail: &[u8], syntax: outline::Syntax) -> Vec<Json> {
    let of = |name: &str| {
        let (sign, before) = match syntax {
            outline::Syntax::Json => (format!("\"{name}\""), 0),
            // The name comes after its length, a number of eight bytes.
            outline::Syntax::UniversalBinary => (name.to_owned(), 9),
        };
        let at = tail.windows(sign.len()).rposition(|window| window == sign.as_bytes())?;
        let document = [b"{", tail.get(at.checked_sub(before)?..)?].concat();
        let Outline { root, .. } = outline::read(&mut Feed::new(Stream(&document[..])), syntax, &|_| true);
        // Whether it stands in the learner or beside it makes no difference to who looks for it.
        Some(serde_json::json!({ "learner": root.clone(), "version": root.get("version") }))
    };
    ["learner_model_param", "version"].into_iter().filter_map(of).collect()
}

/// What `documents` say together: of several that say the same, the first one.
fn about(documents: &[Json]) -> About {
    // Within a pickle, the document has two parts.
    let get = |pointer: &str| {
        let places = ["", "/Model", "/Config"];
        documents.iter().find_map(|document| {
            places.iter().find_map(|place| document.pointer(&format!("{place}{pointer}")).filter(|v| !v.is_null()))
        })
    };
    let number = |pointer: &str| match get(pointer)? {
        Json::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let texts = |pointer: &str| -> Vec<String> {
        let items = get(pointer).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
    };
    let objective = get("/learner/objective/name").and_then(Json::as_str).unwrap_or_default();
    let numbers = |value: &Json| value.as_array()?.iter().map(Json::as_u64).collect::<Option<Vec<_>>>();
    let mut about = decides(objective, number("/learner/learner_model_param/num_class"));
    about.version = get("/version").and_then(numbers).and_then(|version| match version.as_slice() {
        [major, minor, patch] => Some(format!("{major}.{minor}.{patch}")),
        _ => None,
    });
    let names = texts("/learner/feature_names");
    let kinds = texts("/learner/feature_types");
    let known = names.len().max(kinds.len()) as u64;
    let count = number("/learner/learner_model_param/num_feature").filter(|count| *count > 0).unwrap_or(known);
    // One that drops trees while it learns has another one within it.
    let within = |name: &str| {
        let boosters = ["/learner/gradient_booster/model", "/learner/gradient_booster/gbtree/model"];
        boosters.iter().find_map(|booster| get(&format!("{booster}/{name}")))
    };
    let splits = splits(within("trees"));
    let categories = within("cats/enc").and_then(Json::as_array);
    let named = names.len() as u64 == count;
    about.columns = (0..count.min(MOST_FEATURES) as usize)
        .map(|at| {
            let kind = kinds.get(at).map(String::as_str).unwrap_or_default();
            let mut column = Column { is_category: kind == "c", kind: kind_of(kind), ..Column::default() };
            column.name = names.get(at).filter(|_| named).cloned();
            column.categories = categories.and_then(|all| all.get(at)).map(categories_of).unwrap_or_default();
            column.example = match kind {
                "c" => column.categories.first().cloned(),
                "int" | "i" => splits.get(&(at as u64)).map(|split| (split.floor() as i64).into()),
                _ => splits.get(&(at as u64)).map(|split| (*split).into()),
            };
            column
        })
        .collect();
    if let Some(attributes) = get("/learner/attributes").and_then(Json::as_object) {
        let texts = attributes.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        about.properties.extend(texts.take(1000));
    }
    if let Some(booster) = get("/learner/gradient_booster/name").and_then(Json::as_str) {
        about.properties.insert("booster".to_owned(), booster.to_owned());
    }
    about
}

fn decides(objective: &str, classes: Option<u64>) -> About {
    let class = if objective.is_empty() { "Booster".to_owned() } else { format!("Booster ({objective})") };
    let binary = objective.starts_with("binary:");
    let classes = if binary { Some(2) } else { classes.filter(|classes| *classes > 1) };
    About { class: Some(class), classes, ..About::default() }
}

/// A type of features, as `FeatureMap` in `include/xgboost/feature_map.h` has them.
fn kind_of(kind: &str) -> Option<Kind> {
    Some(Kind::Number(match kind {
        "float" | "q" => "float32",
        "int" => "int64",
        "i" => "bool",
        _ => return None,
    }))
}

/// Of each feature the first number at which a tree splits by it.
fn splits(trees: Option<&Json>) -> BTreeMap<u64, f64> {
    let mut splits = BTreeMap::new();
    for tree in trees.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default() {
        let list = |name: &str| tree.get(name).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let nodes = list("left_children").iter().zip(list("split_indices")).zip(list("split_conditions"));
        for ((child, feature), condition) in nodes {
            // A node without children is a leaf, whose condition is what it answers.
            if let (Some(0..), Some(feature), Some(condition)) = (child.as_i64(), feature.as_u64(), condition.as_f64())
            {
                splits.entry(feature).or_insert(condition);
            }
        }
    }
    splits
}

/// The categories of a feature, since 3.1: texts one after the other with where each begins, or numbers.
fn categories_of(encoded: &Json) -> Vec<Json> {
    let list = |name: &str| encoded.get(name).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let (offsets, values) = (list("offsets"), list("values"));
    if encoded.get("offsets").is_none() {
        return values.iter().take(MOST_CATEGORIES).cloned().collect();
    }
    let ends = offsets.iter().map(|offset| usize::try_from(offset.as_u64()?).ok()).collect::<Option<Vec<_>>>();
    let text = |pair: &[usize]| {
        let (from, to) = (*pair.first()?, *pair.last()?);
        // Universal Binary JSON has signed bytes.
        let bytes = values.get(from..to)?.iter().map(|byte| Some(byte.as_i64()? as u8)).collect::<Option<Vec<_>>>()?;
        Some(Json::from(String::from_utf8(bytes).ok()?))
    };
    ends.and_then(|ends| ends.windows(2).take(MOST_CATEGORIES).map(text).collect()).unwrap_or_default()
}

/// The parameters of the old format.
struct Legacy {
    features: u32,
    classes: u32,
    version: (u32, u32),
    objective: String,
}

impl Legacy {
    /// From the beginning of the parameters. None where these are none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = usize::try_from(u64::from_le_bytes(bytes.get(136..144)?.try_into().ok()?)).ok()?;
        let objective = bytes.get(144..144 + Some(length).filter(|length| (1..64).contains(length))?)?;
        let objective = std::str::from_utf8(objective).ok()?.to_owned();
        // The base score comes first; two numbers that say what else is there follow on the classes.
        Some(Self { features: number(4)?, classes: number(8)?, version: (number(20)?, number(24)?), objective })
    }

    fn about(self) -> About {
        let mut about = decides(&self.objective, Some(self.classes.into()));
        // Before 1.0 it was not written down.
        about.version = (self.version.0 > 0).then(|| format!("{}.{}", self.version.0, self.version.1));
        let count = u64::from(self.features).min(MOST_FEATURES);
        about.columns = (0..count).map(|_| Column::default()).collect();
        // Since 3.1 it is not read any more.
        about.properties.insert("format".to_owned(), "binary".to_owned());
        about
    }
}
