//! What LightGBM's and XGBoost's boosters say of themselves within a pickle.

use serde_json::Value as Json;

use super::Pin;
use super::input::{Column, Input, presentable};
use crate::formats::model::Object;

/// What the booster in `object`, or which it is, takes.
pub fn read(object: Object<'_>) -> Option<Input> {
    match handle(object)? {
        ("lightgbm", handle) => lightgbm(&String::from_utf8_lossy(handle)),
        ("xgboost", handle) => xgboost(handle),
        _ => None,
    }
}

/// What a booster says of the version that wrote it, as a requirement with its reason.
pub fn version(object: Object<'_>) -> Option<Pin> {
    let (package, handle) = handle(object)?;
    if package == "lightgbm" {
        let text = String::from_utf8_lossy(handle);
        let format: u32 = line(&text, "version")?.strip_prefix('v')?.parse().ok()?;
        // Format and major release have the same number since 4; what came before reads older ones.
        return (format >= 4)
            .then(|| Pin::new(format!("lightgbm>={format}"), format!("its trees have the format v{format}")));
    }
    let after = after(handle, b"version")?;
    let numbers: Vec<u64> = if let Some([b'#', b'L', rest @ ..]) = after.strip_prefix(b"[") {
        // Universal Binary JSON: a count of eight bytes, then numbers of one byte.
        let count = rest.get(..8)?;
        if count != [0, 0, 0, 0, 0, 0, 0, 3] {
            return None;
        }
        rest.get(8..14)?
            .chunks_exact(2)
            .map(|pair| if let [b'i' | b'U', n] = pair { Some(u64::from(*n)) } else { None })
            .collect::<Option<_>>()?
    } else {
        let text = String::from_utf8_lossy(after.get(..after.len().min(32))?);
        let inner = text.strip_prefix("\":[")?.split(']').next()?;
        inner.split(',').map(|number| number.trim().parse().ok()).collect::<Option<_>>()?
    };
    let [major, minor, patch] = numbers.as_slice() else { return None };
    Some(Pin::new(format!("xgboost=={major}.{minor}.{patch}"), "saved the model"))
}

/// The package of the booster in `object`, or which it is, and what it wrote.
fn handle(object: Object<'_>) -> Option<(&str, &[u8])> {
    let is = |object: &Object<'_>| object.class().is_some_and(|(_, class)| class == "Booster");
    let booster = if is(&object) { object } else { object.get("_Booster").filter(is)? };
    let handle = ["_handle", "handle"].into_iter().find_map(|name| booster.get(name)?.bytes())?;
    Some((booster.class()?.0.split('.').next()?, handle))
}

/// LightGBM's text: a line for each of names, ranges and the like, before the trees.
fn lightgbm(text: &str) -> Option<Input> {
    let count = line(text, "max_feature_idx")?.parse::<usize>().ok()?.checked_add(1)?;
    let names: Vec<&str> = line(text, "feature_names")?.split(' ').collect();
    let ranges: Vec<&str> = line(text, "feature_infos")?.split(' ').collect();
    if count != names.len() || count != ranges.len() || count > 1000 {
        return None;
    }
    let examples = ranges.into_iter().map(|range| {
        let (from, to) = range.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
        let middle = (from.parse::<f64>().ok()? + to.parse::<f64>().ok()?) / 2.0;
        presentable(middle.into())
    });
    Some(input(&names, examples.map(|example| example.unwrap_or_else(|| 0.0.into()))))
}

/// Rows, or columns where the names are not those that the booster gives itself.
fn input(names: &[&str], examples: impl Iterator<Item = Json>) -> Input {
    let own = names.iter().enumerate().any(|(at, name)| *name != format!("Column_{at}") && *name != format!("f{at}"));
    if own {
        Input::Columns(names.iter().zip(examples).map(|(name, example)| Column::new(*name, example)).collect())
    } else {
        Input::Rows(examples.take(names.len()).collect())
    }
}

fn line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// XGBoost's Universal Binary JSON (<https://ubjson.org>), or JSON in older releases: searched for what is needed.
fn xgboost(bytes: &[u8]) -> Option<Input> {
    let number = after(bytes, b"num_feature")?.iter().take(16);
    let digits = number.skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    let digits: String = digits.map(|byte| char::from(*byte)).collect();
    let count: usize = digits.parse().ok().filter(|count| (1..=1000).contains(count))?;
    let names = xgboost_names(bytes).filter(|names| names.len() == count);
    let zeros = std::iter::repeat_n(Json::from(0.0), count);
    Some(match names {
        Some(names) => input(&names, zeros),
        None => Input::Rows(zeros.collect()),
    })
}

/// The names of columns: a count, then each with its length.
fn xgboost_names(bytes: &[u8]) -> Option<Vec<&str>> {
    let length =
        |bytes: &[u8]| Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?)).filter(|length| *length <= 4096);
    let mut rest = after(bytes, b"feature_names")?.strip_prefix(b"[#L")?;
    let count = length(rest)?;
    rest = rest.get(8..)?;
    let mut names = Vec::new();
    for _ in 0..count {
        rest = rest.strip_prefix(b"SL")?;
        let end = 8 + usize::try_from(length(rest)?).ok()?;
        names.push(std::str::from_utf8(rest.get(8..end)?).ok()?);
        rest = rest.get(end..)?;
    }
    Some(names)
}

fn after<'a>(bytes: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(key.len()).position(|window| window == key)?;
    bytes.get(at + key.len()..)
}
