//! CatBoost's models: `CBM1`, a size, and a FlatBuffer of that size (`catboost/libs/model/flatbuffers/model.fbs`); and the
//! same as JSON. The trees are not read; of the borders at which they split by a feature, one.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value as Json;

use super::feed::{Feed, Stop};
use super::flatbuffer::{Buffer, Bytes, Table};
use super::outline::{self, Syntax};
use super::{About, Column, Fault, Format, Kind, Model, Origin};

/// What its own format begins with.
pub(super) const MAGIC: &[u8] = b"CBM1";

/// Features that are told apart, and categories of one.
const MOST: u64 = 100_000;

/// Bytes of JSON that are read. What is wanted comes before the trees.
const MOST_JSON: u64 = 16 << 20;

/// Whether it is its JSON that begins with `head`.
pub(super) fn is_json(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"{") else { return false };
    let start = rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or_default();
    let rest = rest.get(start..).unwrap_or_default();
    let has = |name: &str| rest.windows(name.len()).any(|window| window == name.as_bytes());
    // Before what it says of its features it may say how a label is made.
    rest.starts_with(b"\"features_info\"") && (has("\"float_features\"") || has("\"categorical_features\""))
        || rest.starts_with(b"\"ctr_data\"")
}

/// Looks into a file of `size` bytes.
pub(super) fn inspect(origin: &Origin<'_>, size: u64) -> io::Result<Model> {
    let mut model = Model::of(Format::CatBoost);
    let Some(file) = origin.file(size)? else {
        model.faults.push(Fault::Unread("it is too large to be read out of order".to_owned()));
        return Ok(model);
    };
    let mut feed = origin.feed()?;
    let length = feed.skip(4).and_then(|()| feed.number(4));
    let result = length.and_then(|length| {
        if length > size.saturating_sub(8) {
            return Err(Stop::Truncated);
        }
        core(&Buffer::new(Bytes::File(file), 8, length), &mut model.about)
    });
    model.note(8, result);
    Ok(model)
}

/// What a model says that begins with `bytes`, also where they are cut short, as they are within a pickle.
pub fn of_bytes(bytes: &[u8]) -> About {
    let mut about = About::default();
    if let Some(length) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk()) {
        let length = u32::from_le_bytes(*length).into();
        // What lies beyond the end is not known, and the rest is.
        let _ = core(&Buffer::new(Bytes::Memory(bytes), 8, length), &mut about);
    }
    about
}

/// `TModelCore`.
fn core(buffer: &Buffer<'_>, about: &mut About) -> Result<(), Stop> {
    let root = buffer.root()?;
    let mut said = BTreeMap::new();
    for pair in buffer.tables(root, 2, 1000)? {
        if let (Some(key), Some(value)) = (buffer.text(pair, 0)?, buffer.text(pair, 1)?) {
            said.insert(key, value);
        }
    }
    let document =
        |name: &str| said.get(name).and_then(|text| serde_json::from_str::<Json>(text).ok()).unwrap_or_default();
    let version = said.get("catboost_version_info").map(String::as_str).unwrap_or_default();
    describe(about, version, &document("params"), &document("class_params"));
    for name in ["model_guid", "train_finish_time"] {
        about.properties.extend(said.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let Some(trees) = buffer.table(root, 1)? else { return Ok(()) };
    let dimensions = buffer.signed(trees, 0)?.unwrap_or(1);
    if about.classes.is_some_and(|classes| classes < 2) {
        about.classes = u64::try_from(dimensions).ok().map(|dimensions| dimensions.max(2));
    }
    let mut features = Features::default();
    let mut categories: BTreeMap<i32, Vec<Json>> = BTreeMap::new();
    for hot in buffer.tables(trees, 6, MOST)? {
        let values = buffer.texts(hot, 2, MOST)?.into_iter().map(Json::from).collect();
        categories.insert(buffer.signed(hot, 0)?.unwrap_or(-1), values);
    }
    let place = |table: Table| Ok::<_, Stop>(buffer.signed(table, 2)?.or(buffer.signed(table, 1)?).unwrap_or(-1));
    for feature in buffer.tables(trees, 5, MOST)? {
        let borders = buffer.vector(feature, 3)?;
        let middle = match borders.count {
            0 => None,
            count => Some(f64::from(f32::from_bits(buffer.item(borders, count / 2)?)).into()),
        };
        let kind = Some(Kind::Number("float32"));
        features.add(place(feature)?, buffer.text(feature, 4)?, Column { example: middle, kind, ..Column::default() });
    }
    for feature in buffer.tables(trees, 4, MOST)? {
        let index = buffer.signed(feature, 0)?.unwrap_or(-1);
        let found = categories.remove(&index).unwrap_or_default();
        let at = buffer.signed(feature, 1)?.unwrap_or(-1);
        features.add(at, buffer.text(feature, 2)?, category(found));
    }
    for feature in buffer.tables(trees, 12, MOST)? {
        let at = buffer.signed(feature, 1)?.unwrap_or(-1);
        features.add(at, buffer.text(feature, 2)?, Column { kind: Some(Kind::Text), ..Column::default() });
    }
    about.columns = features.columns();
    Ok(())
}

fn category(categories: Vec<Json>) -> Column {
    Column { example: categories.first().cloned(), is_category: true, categories, ..Column::default() }
}

/// Looks into JSON.
pub(super) fn inspect_json(origin: &Origin<'_>) -> io::Result<Model> {
    let mut model = Model::of(Format::CatBoost);
    let mut feed: Feed<'_> = origin.feed()?;
    feed.set_limit(MOST_JSON);
    let is_wanted = |name: &str| !matches!(name, "oblivious_trees" | "trees" | "ctr_data" | "ctrs" | "training");
    let outline = outline::read(&mut feed, Syntax::Json, &is_wanted);
    match outline.stop {
        Some(stop) if feed.position() < MOST_JSON => model.note(feed.position(), Err(stop)),
        _ => {}
    }
    let root = outline.root;
    let get = |pointer: &str| root.pointer(pointer).cloned().unwrap_or_default();
    let about = &mut model.about;
    let text = get("/model_info/catboost_version_info");
    // Where the parameters were written as texts, they are documents of their own.
    let document = |value: Json| match &value {
        Json::String(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => value,
    };
    let (params, classes) = (document(get("/model_info/params")), document(get("/model_info/class_params")));
    describe(about, text.as_str().unwrap_or_default(), &params, &classes);
    let mut features = Features::default();
    for (list, kind) in [("float_features", Some("float32")), ("categorical_features", None), ("text_features", None)] {
        for feature in get(&format!("/features_info/{list}")).as_array().into_iter().flatten().take(MOST as usize) {
            let at = feature.get("flat_feature_index").and_then(Json::as_i64).unwrap_or(-1);
            let name = ["feature_id", "feature_name"].iter().find_map(|name| feature.get(*name)?.as_str());
            let borders = feature.get("borders").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
            let column = match list {
                "categorical_features" => {
                    category(feature.get("values").and_then(Json::as_array).cloned().unwrap_or_default())
                }
                "text_features" => Column { kind: Some(Kind::Text), ..Column::default() },
                _ => Column {
                    example: borders.get(borders.len() / 2).filter(|border| border.is_number()).cloned(),
                    kind: kind.map(Kind::Number),
                    ..Column::default()
                },
            };
            features.add(i32::try_from(at).unwrap_or(-1), name.map(str::to_owned), column);
        }
    }
    about.columns = features.columns();
    // How it is loaded depends on it.
    about.properties.insert("format".to_owned(), "json".to_owned());
    Ok(model)
}

/// What its parameters say.
fn describe(about: &mut About, version: &str, params: &Json, classes: &Json) {
    let release = version.split_once("release ").or_else(|| version.split_once("tags/v")).map(|(_, rest)| rest);
    about.version = release.and_then(|rest| {
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        Some(number.trim_matches('.').to_owned()).filter(|number| !number.is_empty())
    });
    let loss = params.pointer("/loss_function/type").and_then(Json::as_str).unwrap_or_default();
    if !loss.is_empty() {
        about.properties.insert("loss_function".to_owned(), loss.to_owned());
    }
    if let Some(names) = classes.get("class_names").and_then(Json::as_array) {
        about.labels = names.iter().take(MOST as usize).cloned().collect();
        // How many there are else, the trees say.
        about.classes = Some(names.len() as u64);
    }
    let ranks = ["Rank", "Query", "Pair"].iter().any(|kind| loss.contains(kind));
    let class = match (about.classes, ranks) {
        (Some(_), _) => "CatBoostClassifier",
        (None, true) => "CatBoostRanker",
        (None, false) => "CatBoostRegressor",
    };
    about.class = Some(class.to_owned());
}

/// Features by their places in a row.
#[derive(Default)]
struct Features(BTreeMap<u64, Column>);

impl Features {
    fn add(&mut self, place: i32, name: Option<String>, column: Column) {
        if let Ok(place) = u64::try_from(place)
            && place < MOST
        {
            // What has no name of its own is called by its place.
            let name = name.filter(|name| !name.is_empty() && *name != place.to_string());
            self.0.insert(place, Column { name, ..column });
        }
    }

    fn columns(mut self) -> Vec<Column> {
        let count = self.0.last_key_value().map_or(0, |(last, _)| last + 1);
        (0..count).map(|place| self.0.remove(&place).unwrap_or_default()).collect()
    }
}
