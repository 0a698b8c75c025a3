//! What boosters of LightGBM, XGBoost and CatBoost say of themselves within a pickle.

use super::Pin;
use super::input::{Input, MOST_COLUMNS, presentable};
use crate::formats::model::{About, Column, Kind, Object, catboost, lightgbm, xgboost};

/// What the booster in `object`, or which it is, takes.
pub fn read(object: Object<'_>) -> Option<Input> {
    let (_, About { columns, .. }) = about(object)?;
    if columns.is_empty() || columns.len() as u64 > MOST_COLUMNS {
        return None;
    }
    // Names that the booster gives itself are none.
    let is_own = |(at, column): (usize, &Column)| {
        let name = column.name.as_deref();
        name.is_some_and(|name| name != format!("Column_{at}") && name != format!("f{at}"))
    };
    let named = columns.iter().enumerate().any(is_own);
    let examples = columns.into_iter().map(|column| {
        let usual = if column.is_category || column.kind == Some(Kind::Text) { "unknown".into() } else { 0.0.into() };
        let example = column.example.and_then(presentable).unwrap_or(usual);
        (column.name.unwrap_or_default(), example)
    });
    Some(if named {
        Input::Columns(examples.collect())
    } else {
        Input::Rows(examples.map(|(_, example)| example).collect())
    })
}

/// What a booster says of the version that wrote it, as a requirement with its reason.
pub fn version(object: Object<'_>) -> Option<Pin> {
    let (package, about) = about(object)?;
    let version = about.version?;
    if package == "lightgbm" {
        let format: u32 = version.strip_prefix('v')?.parse().ok()?;
        // Format and major release have the same number since 4; what came before reads older ones.
        return (format >= 4)
            .then(|| Pin::new(format!("lightgbm>={format}"), format!("its trees have the format v{format}")));
    }
    (package == "xgboost").then(|| Pin::new(format!("xgboost=={version}"), "saved the model"))
}

/// The package of the booster in `object`, or which it is, and what it wrote.
fn about(object: Object<'_>) -> Option<(&str, About)> {
    if object.class().is_some_and(|(module, _)| module.starts_with("catboost.")) {
        return Some(("catboost", catboost::of_bytes(object.get("__model")?.bytes()?)));
    }
    let is = |object: &Object<'_>| object.class().is_some_and(|(_, class)| class == "Booster");
    let booster = if is(&object) { object } else { object.get("_Booster").filter(is)? };
    let handle = ["_handle", "handle"].into_iter().find_map(|name| booster.get(name)?.bytes())?;
    let package = booster.class()?.0.split('.').next()?;
    Some(match package {
        "lightgbm" => (package, lightgbm::of_bytes(handle)),
        "xgboost" => (package, xgboost::of_bytes(handle)),
        _ => return None,
    })
}
