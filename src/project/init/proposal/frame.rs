//! Data frames of pandas' within pickles: their columns, each with a value of its range.
//!
//! What pandas pickles has changed with its releases; what is not understood is unknown.

use serde_json::Value as Json;

use super::input::{MOST_COLUMNS, presentable};
use crate::formats::model::Object;

/// Objects within objects that are looked into.
const DEEPEST: u8 = 6;

/// A column's name, and a value of its range where that is known.
pub type Column = (String, Option<Json>);

/// The columns of a data frame in their order.
pub fn columns(frame: Object<'_>) -> Option<Vec<Column>> {
    let (axes, blocks) = parts(frame)?;
    let names: Vec<String> =
        elements(*axes.first()?)?.into_iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    if names.is_empty() || names.len() as u64 > MOST_COLUMNS {
        return None;
    }
    let mut columns: Vec<Column> = names.into_iter().map(|name| (name, None)).collect();
    for (values, places) in blocks {
        let places = places.and_then(|places| self::places(places, columns.len())).unwrap_or_default();
        for (at, place) in places.iter().enumerate() {
            if let Some((_, example)) = columns.get_mut(*place) {
                *example = row(values, at, places.len()).and_then(typical);
            }
        }
    }
    Some(columns)
}

/// A value for each column of a matrix.
pub fn columns_of_matrix(matrix: Object<'_>) -> Option<Vec<Json>> {
    let shape = matrix.shape()?;
    let [rows, width @ 1..=MOST_COLUMNS] = *shape.as_slice() else { return None };
    let values = matrix.elements();
    let column = |at: u64| {
        let values = values.as_ref()?;
        let place = |row: u64| if matrix.is_column_major() { at * rows + row } else { row * width + at };
        typical((0..rows).filter_map(|row| values.get(usize::try_from(place(row)).ok()?).cloned()).collect())
    };
    Some((0..width).map(|at| column(at).unwrap_or_else(|| 0.0.into())).collect())
}

type Block<'a> = (Object<'a>, Option<Object<'a>>);

/// The axes of a frame, and its blocks of values of one type, each with the columns that it is for.
fn parts(frame: Object<'_>) -> Option<(Vec<Object<'_>>, Vec<Block<'_>>)> {
    let is_frame = frame.class().is_some_and(|(module, class)| module.starts_with("pandas") && class == "DataFrame");
    let manager = frame.get("_mgr").or_else(|| frame.get("_data")).filter(|_| is_frame)?;
    if let Some([blocks, axes]) = manager.arguments().and_then(Object::items).as_deref() {
        return Some((axes.items()?, blocks.items()?.into_iter().filter_map(block).collect()));
    }
    // Before pandas 1.3.
    let described = manager.state()?.items()?.last()?.get("0.14.1")?;
    let mut found = Vec::new();
    for one in described.get("blocks")?.items()? {
        found.push((one.get("values")?, one.get("mgr_locs")));
    }
    Some((described.get("axes")?.items()?, found))
}

/// The values of a block, and the columns that it is for.
fn block(block: Object<'_>) -> Option<Block<'_>> {
    let parts = block.arguments()?.items()?;
    Some((*parts.first()?, parts.get(1).copied()))
}

/// The numbers of the columns that a block has.
fn places(places: Object<'_>, width: usize) -> Option<Vec<usize>> {
    if places.class().is_some_and(|(_, class)| class == "slice") {
        let bounds: Vec<usize> = places
            .arguments()?
            .items()?
            .into_iter()
            .map(|bound| usize::try_from(bound.integer().unwrap_or(1)).ok())
            .collect::<Option<_>>()?;
        let [start, stop, step] = bounds.as_slice() else { return None };
        return Some((*start..(*stop).min(width)).step_by((*step).max(1)).collect());
    }
    let numbers = places.elements()?;
    numbers.into_iter().map(|number| usize::try_from(number.as_u64()?).ok()).collect()
}

/// The values of one of `rows` rows of a block.
fn row(values: Object<'_>, at: usize, rows: usize) -> Option<Vec<Json>> {
    let Some(all) = values.elements() else { return texts(values) };
    let width = all.len().checked_div(rows)?;
    let place = |column: usize| if values.is_column_major() { column * rows + at } else { at * width + column };
    Some((0..width).filter_map(|column| all.get(place(column)).cloned()).collect())
}

/// The texts of one of pandas' own arrays.
fn texts(array: Object<'_>) -> Option<Vec<Json>> {
    elements(array).filter(|elements| elements.iter().all(Json::is_string))
}

/// The elements of the first array that is within an object; of the first list, where there is no array: beside it stands
/// what its type is made of.
fn elements(object: Object<'_>) -> Option<Vec<Json>> {
    let array = |object: Object<'_>| object.shape().and_then(|_| object.elements());
    let list = |object: Object<'_>| object.class().is_none().then(|| object.elements())?;
    within(object, 0, &array).or_else(|| within(object, 0, &list))
}

/// What `read` finds first in an object, or in what it is made of.
fn within(object: Object<'_>, depth: u8, read: &dyn Fn(Object<'_>) -> Option<Vec<Json>>) -> Option<Vec<Json>> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(found) = read(object).filter(|found| !found.is_empty()) {
        return Some(found);
    }
    if object.shape().is_some() {
        return None;
    }
    let items = object.items().unwrap_or_default();
    let named = object.entries().into_iter().map(|(_, value)| value);
    let all: Vec<Object<'_>> = object.state().into_iter().chain(object.arguments()).chain(items).chain(named).collect();
    all.into_iter().find_map(|part| within(part, depth + 1, read).filter(|found| found.iter().any(Json::is_string)))
}

/// One that stands for many values: the mean of numbers, the middle one of whole numbers, else the most frequent one.
fn typical(values: Vec<Json>) -> Option<Json> {
    let values: Vec<Json> = values.into_iter().filter(|value| !value.is_null()).collect();
    let numbers: Vec<f64> = values.iter().filter_map(Json::as_f64).collect();
    if numbers.len() == values.len() && !numbers.is_empty() {
        let mut whole: Vec<i64> = values.iter().filter_map(Json::as_i64).collect();
        if whole.len() == values.len() {
            whole.sort_unstable();
            return whole.get(whole.len() / 2).map(|middle| (*middle).into());
        }
        return presentable((numbers.iter().sum::<f64>() / numbers.len() as f64).into());
    }
    let count = |value: &Json| values.iter().filter(|other| *other == value).count();
    let mut best: Option<(&Json, usize)> = None;
    for value in values.iter().take(200) {
        let times = count(value);
        if best.is_none_or(|(_, most)| times > most) {
            best = Some((value, times));
        }
    }
    best.and_then(|(value, _)| presentable(value.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_typical_value_is_of_the_range() {
        let of = |values: Json| typical(values.as_array().unwrap().clone());
        assert_eq!(of(json!([1, 5, 2])), Some(json!(2)));
        assert_eq!(of(json!([1.0, 2.0, null])), Some(json!(1.5)));
        assert_eq!(of(json!(["a", "b", "b"])), Some(json!("b")));
        assert_eq!(of(json!([true, false, true])), Some(json!(true)));
        assert_eq!(of(json!([])), None);
    }
}
