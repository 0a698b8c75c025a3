//! Pickles of several objects: a model, and what is done with rows before it is asked, and with its answers afterwards.
//!
//! What a part is for, its class and its size say; where they leave that open, it is open.

use super::code::VALUE;
use super::estimator::{self, Role};
use super::input::{Column, Input};
use super::{Proposal, literal, plain_name};
use crate::formats::model::Object;

/// What is asked of a pickle.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// The model.
    pub asked: Object<'a>,
    /// What rows go through before, with its name in the code.
    before: Option<(String, Object<'a>)>,
    /// What turns numbers of classes into their names, by its name in the code.
    after: Option<String>,
    /// What the columns of a row are called.
    columns: Option<Vec<String>>,
}

/// A part of a pickle: how it is reached (`["model"]`, `[0]`), what it may be called, and itself.
struct Part<'a> {
    place: String,
    name: String,
    object: Object<'a>,
}

impl Proposal {
    /// What is asked of a pickle: its one object, or that of several which answers.
    pub(super) fn choose<'a>(&mut self, root: Object<'a>) -> Option<Chosen<'a>> {
        if root.class().is_some() {
            return Some(Chosen { asked: root, before: None, after: None, columns: None });
        }
        let parts = parts(root);
        let of = |wanted: fn(&str) -> bool| {
            let is =
                |role| matches!(role, Role::Methods(methods) if methods.first().is_some_and(|method| wanted(method)));
            parts.iter().filter(|part| is(estimator::role(part.object))).collect::<Vec<_>>()
        };
        let (predicting, others) = (of(|method| method == "predict"), of(|method| method != "predict"));
        let Some(chosen) = predicting.first().or_else(|| others.first()).copied() else {
            let what = match root.items() {
                Some(_) => "a list",
                None if root.is_map() => "a dictionary without a model that is known here",
                None => "a plain value",
            };
            self.open.push(format!("the pickle holds {what}: say in src/predict.py how it answers"));
            return None;
        };
        let rest: Vec<&Part<'_>> =
            predicting.iter().chain(&others).copied().filter(|part| part.place != chosen.place).collect();
        let asked = chosen.object;
        let (before, after) = match rest.as_slice() {
            [] => (None, None),
            [one] if is_labels(one.object) => (None, Some(*one)),
            [one] if fits(one.object, asked) => (Some(*one), None),
            [one, two] if fits(one.object, asked) && is_labels(two.object) => (Some(*one), Some(*two)),
            [two, one] if fits(one.object, asked) && is_labels(two.object) => (Some(*one), Some(*two)),
            _ => {
                let named: Vec<String> = rest.iter().map(|part| part.in_words()).collect();
                self.open.push(format!(
                    "the pickle also holds {}: say in src/predict.py what that is for; `{}` alone is asked",
                    named.join(", "),
                    chosen.name
                ));
                (None, None)
            }
        };
        let used: Vec<&Part<'_>> = before.into_iter().chain(after).collect();
        let width =
            asked.get("n_features_in_").or_else(|| before?.object.get("n_features_in_")).and_then(Object::integer);
        let columns = parts.iter().find_map(|part| Some((part, part.columns(width?)?)));
        if used.is_empty() {
            self.code.load += &format!("\nmodel = model{}", chosen.place);
        } else {
            self.code.load = self.code.load.replace("model = ", "saved = ");
            self.code.load += &format!("\nmodel = saved{}", chosen.place);
            for part in &used {
                self.code.load += &format!("\n{} = saved{}", part.name, part.place);
            }
        }
        let is_data = |part: &&Part<'_>| {
            let known = rest.iter().copied().chain([chosen]).chain(columns.as_ref().map(|(part, _)| *part));
            known.into_iter().all(|other| other.place != part.place)
        };
        let data: Vec<String> = parts.iter().filter(is_data).take(10).map(|part| format!("`{}`", part.key())).collect();
        if !data.is_empty() {
            self.unknown.push(format!("what else in the pickle is for: {}", data.join(", ")));
        }
        Some(Chosen {
            asked,
            before: before.map(|part| (part.name.clone(), part.object)),
            after: after.map(|part| part.name.clone()),
            columns: columns.map(|(_, columns)| columns),
        })
    }

    /// Puts the other parts of a pickle around the model, which is asked already.
    pub(super) fn adapt(&mut self, chosen: &Chosen<'_>) {
        let mut input = match &chosen.before {
            Some((_, before)) => estimator::input(*before),
            None => estimator::input(chosen.asked),
        };
        let mut is_named = false;
        if let (Input::Rows(row), Some(names)) = (&input, &chosen.columns)
            && row.len() == names.len()
        {
            let columns = names.iter().zip(row).map(|(name, example)| Column::new(name, example.clone()));
            input = Input::Columns(columns.collect());
            is_named = true;
        }
        if is_named || chosen.before.is_some() {
            self.take(input);
        }
        if is_named {
            // It was trained on rows without names.
            self.code.conversions.push(format!("{VALUE}.to_numpy()"));
        }
        if let Some((name, _)) = &chosen.before {
            self.code.conversions.push(format!("{name}.transform({VALUE})"));
        }
        if let Some(name) = &chosen.after {
            self.answer("predict", &format!("return {name}.inverse_transform(model.predict({VALUE}))"));
        }
    }
}

impl Part<'_> {
    /// Its key in the pickle, for a person.
    fn key(&self) -> String {
        plain_name(self.place.trim_matches(['[', ']', '"']))
    }

    fn in_words(&self) -> String {
        format!("`{}` ({})", self.key(), estimator::describe(self.object).unwrap_or_default())
    }

    /// Names of so many columns, where it is a list of such.
    fn columns(&self, width: i64) -> Option<Vec<String>> {
        const NAMES: [&str; 8] = [
            "columns",
            "cols",
            "feature_cols",
            "feature_columns",
            "feature_names",
            "features",
            "input_columns",
            "names",
        ];
        let items = self.object.items().filter(|_| NAMES.contains(&self.name.as_str()))?;
        let names: Vec<String> = items.into_iter().map(|item| item.text().map(str::to_owned)).collect::<Option<_>>()?;
        (i64::try_from(names.len()) == Ok(width)).then_some(names)
    }
}

/// The parts of a dictionary, list or tuple.
fn parts(root: Object<'_>) -> Vec<Part<'_>> {
    let mut taken: Vec<String> =
        ["model", "saved", "table", "checked", "numpy", "pandas", "rows"].map(str::to_owned).to_vec();
    let mut part = |place: String, name: &str, object| {
        let mut name = super::input::parameters([name].into_iter()).pop().unwrap_or_default();
        while taken.contains(&name) && name != "model" {
            name += "_";
        }
        taken.push(name.clone());
        Part { place, name, object }
    };
    if let Some(items) = root.items() {
        let called = |(at, object): (usize, Object<'_>)| {
            let class = object.class().map(|(_, class)| class.to_ascii_lowercase()).unwrap_or_default();
            let name = if is_labels(object) { "labels".to_owned() } else { class };
            (format!("[{at}]"), name)
        };
        return items
            .into_iter()
            .take(100)
            .enumerate()
            .map(|(at, object)| {
                let (place, name) = called((at, object));
                part(place, &name, object)
            })
            .collect();
    }
    let keyed = root.entries().into_iter().take(100).filter_map(|(key, object)| Some((key.text()?, object)));
    keyed.map(|(key, object)| part(format!("[{}]", literal(key)), key, object)).collect()
}

/// Whether it turns numbers of classes into their names.
fn is_labels(object: Object<'_>) -> bool {
    object.class().is_some_and(|(module, class)| module.starts_with("sklearn.") && class == "LabelEncoder")
}

/// Whether what `before` makes of rows is what `model` takes: by their sizes.
fn fits(before: Object<'_>, model: Object<'_>) -> bool {
    const SAME_WIDTH: [&str; 6] =
        ["MinMaxScaler", "MaxAbsScaler", "Normalizer", "PowerTransformer", "RobustScaler", "StandardScaler"];
    let width = |object: Object<'_>| object.get("n_features_in_")?.integer();
    let Some((module, class)) = before.class().filter(|(module, _)| module.starts_with("sklearn.")) else {
        return false;
    };
    let made = match class {
        "CountVectorizer" | "TfidfVectorizer" => {
            before.get("vocabulary_").and_then(|words| i64::try_from(words.entries().len()).ok())
        }
        "PCA" | "TruncatedSVD" => {
            before.get("components_").and_then(|parts| parts.shape()?.first().copied()?.try_into().ok())
        }
        class if SAME_WIDTH.contains(&class) && module.starts_with("sklearn.preprocessing") => width(before),
        _ => None,
    };
    made.is_some() && made == width(model)
}
