//! What boosters of LightGBM, XGBoost and CatBoost say of themselves, in files of their own and within pickles.

use serde_json::Value as Json;

use super::code::VALUE;
use super::input::{self, Input, MOST_COLUMNS, presentable};
use super::{Pin, Proposal, literal, plain_name, releases};
use crate::formats::model::{About, Column, Kind, Object, catboost, lightgbm, xgboost};

/// Who wrote a booster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    CatBoost,
    LightGBM,
    XGBoost,
}

impl Maker {
    fn package(self) -> &'static str {
        match self {
            Self::CatBoost => "catboost",
            Self::LightGBM => "lightgbm",
            Self::XGBoost => "xgboost",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CatBoost => "CatBoost",
            Self::LightGBM => "LightGBM",
            Self::XGBoost => "XGBoost",
        }
    }

    /// Whether a table's columns have to be made of the types that the booster knows, as it refuses texts.
    fn is_strict(self) -> bool {
        self != Self::CatBoost
    }
}

/// What the booster in `object`, or which it is, takes.
pub fn read(object: Object<'_>) -> Option<Input> {
    let (maker, about) = about(object)?;
    input(maker, &about)
}

fn input(maker: Maker, About { columns, .. }: &About) -> Option<Input> {
    if columns.is_empty() || columns.len() as u64 > MOST_COLUMNS {
        return None;
    }
    // Names that the booster gives itself are none.
    let is_own = |(at, column): (usize, &Column)| {
        let name = column.name.as_deref();
        name.is_some_and(|name| name != format!("Column_{at}") && name != format!("f{at}") && name != at.to_string())
    };
    let named = columns.iter().enumerate().any(is_own);
    let has_categories = columns.iter().any(|column| column.is_category);
    let found = columns.iter().map(|column| {
        let usual: Json = match column.kind {
            Some(Kind::Text) => "an example".into(),
            _ if column.is_category => column.categories.first().cloned().unwrap_or_else(|| "unknown".into()),
            _ => 0.0.into(),
        };
        let example = column.example.clone().and_then(presentable).unwrap_or(usual);
        let dtype = if column.is_category { "category" } else { "float64" };
        let dtype = (maker.is_strict() && has_categories).then(|| literal(dtype));
        input::Column { name: column.name.clone().unwrap_or_default(), example, dtype }
    });
    Some(if named {
        Input::Columns(found.collect())
    } else {
        Input::Rows(found.map(|column| column.example).collect())
    })
}

/// What a booster in a pickle says of the version that wrote it, as a requirement with its reason.
pub fn version(object: Object<'_>) -> Option<Pin> {
    let (maker, about) = about(object)?;
    match maker {
        Maker::CatBoost => None,
        Maker::LightGBM => format_of_lightgbm(&about),
        Maker::XGBoost => {
            let version = about.version.as_deref().and_then(releases::version)?;
            Some(Pin::new(format!("xgboost=={version}"), "saved the model"))
        }
    }
}

fn format_of_lightgbm(about: &About) -> Option<Pin> {
    let format: u32 = about.version.as_deref()?.strip_prefix('v')?.parse().ok()?;
    // Format and major release have the same number since 4; what came before reads older ones.
    (format >= 4).then(|| Pin::new(format!("lightgbm>={format}"), format!("its trees have the format v{format}")))
}

/// The maker of the booster in `object`, or which it is, and what that wrote.
fn about(object: Object<'_>) -> Option<(Maker, About)> {
    if object.class().is_some_and(|(module, _)| module.starts_with("catboost.")) {
        return Some((Maker::CatBoost, catboost::of_bytes(object.get("__model")?.bytes()?)));
    }
    let is = |object: &Object<'_>| object.class().is_some_and(|(_, class)| class == "Booster");
    let booster = if is(&object) { object } else { object.get("_Booster").filter(is)? };
    let handle = ["_handle", "handle"].into_iter().find_map(|name| booster.get(name)?.bytes())?;
    match booster.class()?.0.split('.').next()? {
        "lightgbm" => Some((Maker::LightGBM, lightgbm::of_bytes(handle))),
        "xgboost" => Some((Maker::XGBoost, xgboost::of_bytes(handle))),
        _ => None,
    }
}

/// The proposal for a booster in a file of its own. Its format is stable: later releases read it.
pub fn propose(maker: Maker, about: &About, file: &str) -> Proposal {
    let version = about.version.as_deref().and_then(releases::version);
    let mut proposal = Proposal::empty(&match &version {
        Some(version) => format!("{} {version}", maker.name()),
        None => maker.name().to_owned(),
    });
    let (package, path) = (maker.package(), format!("str({file})"));
    proposal.import(&format!("import {package}"));
    proposal.take(input(maker, about).unwrap_or(Input::Unknown));
    let class = about.class.as_deref().map(plain_sentence).filter(|class| !class.is_empty());
    match maker {
        Maker::XGBoost => {
            let estimator = about.properties.get("scikit_learn");
            let estimator = estimator.and_then(|text| serde_json::from_str::<Json>(text).ok());
            let kind = estimator.as_ref().and_then(|json| json.get("_estimator_type")?.as_str());
            let wrapper = match kind {
                Some("classifier") => Some("XGBClassifier"),
                Some("regressor") => Some("XGBRegressor"),
                _ => None,
            };
            match wrapper {
                Some(wrapper) => {
                    proposal.class = Some(wrapper.to_owned());
                    proposal.code.load = format!("model = xgboost.{wrapper}()\nmodel.load_model({path})");
                    proposal.answer("predict", &format!("return model.predict({VALUE})"));
                    if wrapper == "XGBClassifier" {
                        proposal.answer("predict_proba", &format!("return model.predict_proba({VALUE})"));
                    }
                    proposal.require("scikit-learn", &format!("{wrapper} is made for it"));
                }
                None => {
                    proposal.class = class;
                    proposal.code.load = format!("model = xgboost.Booster(model_file={path})");
                    proposal.answer("predict", &format!("return model.predict({VALUE})"));
                }
            }
            proposal.take_arrays();
            if wrapper.is_none() {
                let categories = if about.columns.iter().any(|column| column.is_category) {
                    ", enable_categorical=True"
                } else {
                    ""
                };
                proposal.code.conversions.push(format!("xgboost.DMatrix({VALUE}{categories})"));
            }
            let is_old = about.properties.get("format").is_some_and(|format| format == "binary");
            let pin = match version {
                Some(_) if is_old => Pin::new("xgboost<3.1", "3.1 no longer reads the binary format of the file"),
                Some(version) => Pin::new(format!("xgboost>={version}"), "saved the model, and later ones read it"),
                None => Pin::new("xgboost", "saved the model"),
            };
            proposal.requirements.insert(0, pin);
            let unnamed = |column: &Column| column.is_category && column.categories.is_empty();
            if about.columns.iter().any(unnamed) {
                proposal.open.push(
                    "the file has no names of its categories, as XGBoost before 3.1 saved none: give `table` in \
                     src/predict.py the categories in the order that the model was trained with"
                        .to_owned(),
                );
            }
        }
        Maker::LightGBM => {
            proposal.class = class;
            proposal.code.load = format!("model = lightgbm.Booster(model_file={path})");
            proposal.answer("predict", &format!("return model.predict({VALUE})"));
            proposal.take_arrays();
            let pin = format_of_lightgbm(about).unwrap_or_else(|| Pin::new("lightgbm", "saved the model"));
            proposal.requirements.insert(0, pin);
            proposal.packages.push(Pin::new("libgomp1", "LightGBM's wheels are without it"));
        }
        Maker::CatBoost => {
            let wrapper = if about.classes.is_some() { "CatBoostClassifier" } else { "CatBoostRegressor" };
            proposal.class = Some(class.unwrap_or_else(|| wrapper.to_owned()));
            let is_json = about.properties.get("format").is_some_and(|format| format == "json");
            let format = if is_json { ", format=\"json\"" } else { "" };
            proposal.code.load = format!("model = catboost.{wrapper}()\nmodel.load_model({path}{format})");
            proposal.answer("predict", &format!("return model.predict({VALUE})"));
            if about.classes.is_some() {
                proposal.answer("predict_proba", &format!("return model.predict_proba({VALUE})"));
            }
            let pin = match version {
                Some(version) => Pin::new(format!("catboost>={version}"), "saved the model, and later ones read it"),
                None => Pin::new("catboost", "saved the model"),
            };
            proposal.requirements.insert(0, pin);
        }
    }
    proposal
}

/// A foreign text as it may stand in a sentence.
fn plain_sentence(text: &str) -> String {
    let words: Vec<String> = text.split([' ', '(', ')', ':']).map(plain_name).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => format!("{first} ({})", rest.join(" ")),
        words => words.join(" "),
    }
}
