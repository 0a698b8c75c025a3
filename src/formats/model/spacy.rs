//! spaCy's pipelines: folders with `meta.json` and `config.cfg` (<https://spacy.io/api/data-formats>).

use std::io::{self, Read as _};
use std::path::Path;

use fs_err as fs;
use serde_json::Value as Json;

use super::feed::{Feed, Stream};
use super::outline::{self, Syntax};
use super::{Format, Model};

/// What says what the pipeline is.
pub const NAME: &str = "meta.json";

/// Bytes of it that are read.
const MOST: u64 = 16 << 20;

/// Looks into the folder of a pipeline.
///
/// # Errors
/// When the disk says no.
pub fn pipeline(folder: &Path) -> io::Result<Model> {
    let file = fs::File::open(folder.join(NAME))?;
    let mut model = Model::of(Format::Spacy);
    let mut feed = Feed::new(Stream(file.take(MOST)));
    let outline = outline::read(&mut feed, Syntax::Json, &|name| !matches!(name, "performance" | "vectors"));
    if let Some(stop) = outline.stop {
        model.note(feed.position(), Err(stop));
    }
    let root = outline.root;
    let text = |name: &str| root.get(name).and_then(Json::as_str).map(str::to_owned);
    let list = |value: Option<&Json>| {
        let items = value.and_then(Json::as_array).into_iter().flatten();
        items.filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let about = &mut model.about;
    let (lang, name) = (text("lang").unwrap_or_default(), text("name").unwrap_or_default());
    about.class = Some(format!("{lang}_{name}"));
    // The range of releases that can read it, which is a requirement as it stands.
    about.version = text("spacy_version");
    about.requirements = list(root.get("requirements"));
    let parts = list(root.get("pipeline"));
    for name in ["lang", "name", "version"] {
        about.properties.extend(text(name).map(|value| (name.to_owned(), value)));
    }
    about.properties.insert("pipeline".to_owned(), parts.join(" "));
    // Of a part that sorts texts, the labels are what the pipeline answers.
    let sorting = parts.iter().find(|part| part.starts_with("textcat"));
    if let Some(labels) = sorting.and_then(|part| root.get("labels")?.get(part)?.as_array()) {
        about.labels = labels.clone();
        about.classes = Some(labels.len() as u64);
    }
    Ok(model)
}
