//! LightGBM's text (`GBDT::SaveModelToString` in `src/boosting/gbdt_model_text.cpp`): a line for each of names, ranges and
//! the like, then the trees, of which none is read, then parameters; at the end the categories of a data frame.

use std::io;

use serde_json::Value as Json;

use super::feed::{Feed, Stop, Stream};
use super::{About, Column, Fault, Format, Model, Origin};

/// Bytes of the lines before the trees that are read. A hundred thousand features have 4 MiB of names and ranges.
const MOST_HEAD: u64 = 8 << 20;

/// Bytes at the end that are searched for categories.
const MOST_TAIL: u64 = 1 << 20;

/// Features that are told apart.
const MOST_FEATURES: usize = 100_000;

/// Whether it is this format that begins with `head`.
pub(super) fn recognise(head: &[u8]) -> bool {
    head.starts_with(b"tree\nversion=") || head.starts_with(b"tree\r\nversion=")
}

/// Looks into a file of `size` bytes.
pub(super) fn inspect(origin: &Origin<'_>, size: u64) -> io::Result<Model> {
    let mut model = Model::of(Format::LightGBM);
    let mut feed = origin.feed()?;
    feed.set_limit(MOST_HEAD);
    let head = Head::read(&mut feed);
    let tail = origin.range(size.saturating_sub(MOST_TAIL), MOST_TAIL)?.unwrap_or_default();
    let tail = String::from_utf8_lossy(&tail);
    // What came before this version ended in other ways.
    let modern = matches!(head.version.as_deref(), Some("v3" | "v4"));
    let ends = ["end of trees", "end of parameters", "pandas_categorical:"].iter().any(|end| tail.contains(end));
    let cut = tail.contains("\nparameters:") && !tail.contains("\nend of parameters");
    if modern && !tail.is_empty() && (cut || !ends) {
        model.faults.push(Fault::Broken(size, Stop::Truncated.to_string()));
    }
    model.about = head.about(&categories(&tail));
    Ok(model)
}

/// What the text that begins with `bytes` says, also where it is cut short, as it is within a pickle.
pub fn of_bytes(bytes: &[u8]) -> About {
    let head = Head::read(&mut Feed::new(Stream(bytes)));
    head.about(&categories(&String::from_utf8_lossy(bytes)))
}

/// The lines before the trees, as far as they are needed.
#[derive(Default)]
struct Head {
    version: Option<String>,
    classes: Option<u64>,
    objective: Option<String>,
    last: Option<usize>,
    names: Vec<String>,
    ranges: Vec<String>,
}

impl Head {
    fn read(feed: &mut Feed<'_>) -> Self {
        let mut head = Self::default();
        while let Ok(line) = feed.line(MOST_HEAD as usize) {
            let line = line.unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            let words = |value: &str| value.split(' ').take(MOST_FEATURES).map(str::to_owned).collect();
            match line.split_once('=') {
                Some(("version", value)) => head.version = Some(value.to_owned()),
                Some(("num_class", value)) => head.classes = value.parse().ok(),
                Some(("objective", value)) => head.objective = value.split(' ').next().map(str::to_owned),
                Some(("max_feature_idx", value)) => head.last = value.parse().ok(),
                Some(("feature_names", value)) => head.names = words(value),
                Some(("feature_infos", value)) => head.ranges = words(value),
                Some(("tree_sizes" | "Tree", _)) => break,
                Some(_) => {}
                None if line.is_empty() => break,
                None => {}
            }
        }
        head
    }

    /// What is said of the features has to agree, else none are known.
    fn about(self, categories: &[Vec<Json>]) -> About {
        let mut about = About { version: self.version, ..About::default() };
        let binary = matches!(self.objective.as_deref(), Some("binary" | "cross_entropy" | "cross_entropy_lambda"));
        about.classes = if binary { Some(2) } else { self.classes.filter(|classes| *classes > 1) };
        about.class = Some(self.objective.map_or_else(|| "Booster".to_owned(), |of| format!("Booster ({of})")));
        let count = self.last.and_then(|last| last.checked_add(1));
        if count != Some(self.names.len()) || count != Some(self.ranges.len()) {
            return about;
        }
        about.columns = self.names.into_iter().zip(&self.ranges).map(|(name, range)| column(name, range)).collect();
        let mut chosen: Vec<&mut Column> = about.columns.iter_mut().filter(|column| column.is_category).collect();
        // Columns of a data frame whose categories have other places than numbers of their own.
        if chosen.len() == categories.len() {
            for (column, categories) in chosen.iter_mut().zip(categories) {
                column.example = categories.first().cloned();
                column.categories = categories.clone();
            }
        }
        about
    }
}

/// A feature: `[0.1:2.5]` is its range, `1:0:2` its categories, `none` that it had but one value.
fn column(name: String, range: &str) -> Column {
    let name = Some(name).filter(|name| !name.is_empty());
    if let Some((from, to)) = range.strip_prefix('[').and_then(|range| range.strip_suffix(']')?.split_once(':')) {
        let ends = from.parse::<f64>().ok().zip(to.parse::<f64>().ok());
        let ends = ends.filter(|(from, to)| from.is_finite() && to.is_finite());
        let example = ends.map(|(from, to)| (from / 2.0 + to / 2.0).into());
        return Column { name, example, range: ends, ..Column::default() };
    }
    // Negative ones stand for what is missing.
    let codes: Option<Vec<i64>> = range.split(':').take(MOST_FEATURES).map(|code| code.parse().ok()).collect();
    match codes {
        Some(mut codes) => {
            codes.retain(|code| *code >= 0);
            codes.sort_unstable();
            let categories: Vec<Json> = codes.into_iter().map(Json::from).collect();
            Column { name, example: categories.first().cloned(), is_category: true, categories, ..Column::default() }
        }
        None => Column { name, ..Column::default() },
    }
}

/// The categories of each such column of the data frame that it learnt from.
fn categories(tail: &str) -> Vec<Vec<Json>> {
    let Some((_, text)) = tail.rsplit_once("\npandas_categorical:") else { return Vec::new() };
    serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "tree\nversion=v4\nnum_class=3\nmax_feature_idx=3\nobjective=multiclass num_class:3\n\
        feature_names=a colour c d\nfeature_infos=[1:4] -1:0:2:1 none [-1e300:1e308]\ntree_sizes=1\n\nTree=0\n\n\
        end of trees\n\npandas_categorical:[[\"blue\", \"green\", \"red\"]]\n";

    #[test]
    fn names_ranges_and_categories_are_read() {
        let about = of_bytes(TEXT.as_bytes());
        assert_eq!(about.version.as_deref(), Some("v4"));
        assert_eq!(about.class.as_deref(), Some("Booster (multiclass)"));
        assert_eq!(about.classes, Some(3));
        let [a, colour, c, d] = about.columns.as_slice() else { panic!("{:?}", about.columns) };
        assert_eq!((a.name.as_deref(), a.example.clone(), a.range), (Some("a"), Some(json!(2.5)), Some((1.0, 4.0))));
        assert_eq!(colour.categories, [json!("blue"), json!("green"), json!("red")]);
        assert!(colour.is_category && c.example.is_none() && d.example.is_some());
        // Without the data frame's, the numbers are the categories.
        let about = of_bytes(TEXT.split("pandas").next().unwrap().as_bytes());
        assert_eq!(about.columns[1].categories, [json!(0), json!(1), json!(2)]);
    }

    #[test]
    fn what_contradicts_itself_has_no_columns() {
        for (from, to) in [("max_feature_idx=3", "max_feature_idx=18446744073709551615"), ("a colour", "a")] {
            assert!(of_bytes(TEXT.replace(from, to).as_bytes()).columns.is_empty());
        }
        assert_eq!(of_bytes(b"tree\nversion=v4\n").version.as_deref(), Some("v4"));
    }
}
