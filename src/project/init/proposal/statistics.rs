//! Models of statsmodels and of lifelines, which keep what they were trained with.

use serde_json::{Value as Json, json};

use super::code::VALUE;
use super::frame::{self, columns_of_matrix};
use super::input::{Column, Given, Input};
use super::{Proposal, plain_name};
use crate::formats::model::Object;

/// Names that lifelines gives the columns of times and events by.
const NOT_ASKED: [&str; 4] = ["duration_col", "event_col", "entry_col", "weights_col"];

impl Proposal {
    /// Asks results of statsmodels that lie at `file`.
    pub(super) fn ask_statsmodels(&mut self, object: Object<'_>, file: &str) {
        let (module, class) = object.class().unwrap_or_default();
        self.class = Some(plain_name(class));
        // It looks for what a formula calls (`np.log`) where it is called from, and finds it in its own function.
        self.load_with_class("import statsmodels.api", &format!("statsmodels.api.load(str({file}))"));
        let model = object.get("_results").unwrap_or(object).get("model");
        let data = model.and_then(|model| model.get("data"));
        if module.starts_with("statsmodels.tsa.") {
            self.forecast("model.forecast(periods)");
            return;
        }
        let formula = data.and_then(|data| data.get("formula")?.text());
        let matrix = || columns_of_matrix(data?.get("exog")?);
        let input = match formula {
            Some(formula) => Input::Columns(terms(formula, data.and_then(|data| frame::columns(data.get("frame")?)))),
            None => matrix().map_or(Input::Unknown, Input::Rows),
        };
        self.take(input);
        self.take_arrays();
        self.answer("predict", &format!("return model.predict({VALUE})"));
    }

    /// Asks a fitter of lifelines'.
    pub(super) fn ask_lifelines(&mut self, object: Object<'_>) {
        let class = object.class().map(|(_, class)| class).unwrap_or_default();
        self.class = Some(plain_name(class));
        // Cox's model is one within another.
        let central = object.get("_central_values").or_else(|| object.get("_model")?.get("_central_values"));
        let Some(columns) = central.and_then(frame::columns) else {
            if object.get("regressors").is_some() {
                self.take(Input::Records);
                self.leave_open(
                    "call the model here",
                    "the columns that it takes are not in the file: name them and call it",
                );
                return;
            }
            let times = "times at which it is asked how likely it is that nothing happened until then";
            self.take(Input::Given(vec![Given::new("times", "list[float]", times, json!([1.0]))]));
            self.answer("predict", "return model.predict(times)");
            return;
        };
        let others: Vec<&str> = NOT_ASKED.iter().filter_map(|name| object.get(name)?.text()).collect();
        let asked = columns.into_iter().filter(|(name, _)| !others.contains(&name.as_str()));
        self.take(Input::Columns(
            asked.map(|(name, example)| Column::new(name, example.unwrap_or_else(|| 0.0.into()))).collect(),
        ));
        let methods: &[&str] = match class {
            "CoxPHFitter" => &["predict_partial_hazard", "predict_expectation"],
            _ => &["predict_expectation"],
        };
        for (at, method) in methods.iter().enumerate() {
            let name = if at == 0 { "predict" } else { method };
            self.answer(name, &format!("return model.{method}({VALUE})"));
        }
        self.answer(
            "predict_survival_function",
            &format!(
                "curves = model.predict_survival_function({VALUE})\n    \
                 return {{\"times\": curves.index.tolist(), \"rows\": curves.T.to_numpy().tolist()}}"
            ),
        );
    }

    /// Asks what comes next of a series, by an expression.
    pub(super) fn forecast(&mut self, call: &str) {
        let periods = "how many periods are forecast";
        self.take(Input::Given(vec![Given::new("periods", "int", periods, json!(3))]));
        self.answer("predict", &format!("return {call}"));
    }
}

/// The columns that a formula names on its right, of those of a frame, or by their names alone.
fn terms(formula: &str, frame: Option<Vec<frame::Column>>) -> Vec<Column> {
    let right = formula.split_once('~').map_or(formula, |(_, right)| right);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let named: Vec<&str> = right.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
    let quoted: Vec<&str> = right.split(['"', '\'']).skip(1).step_by(2).collect();
    if let Some(frame) = frame {
        let is_named = |name: &str| named.contains(&name) || quoted.contains(&name);
        let found: Vec<Column> = frame
            .into_iter()
            .filter(|(name, _)| is_named(name))
            .map(|(name, example)| Column::new(name, example.unwrap_or_else(|| 1.0.into())))
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    // What is called, and where it comes from, is no column: `np.log(x)`, `C(x)`.
    let mut found: Vec<Column> = Vec::new();
    let mut rest = right;
    while let Some(start) = rest.find(is_part) {
        let word = rest.get(start..).unwrap_or_default();
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        let is_column = !after.trim_start().starts_with(['(', '.']) && !name.starts_with(|c: char| c.is_ascii_digit());
        if is_column && found.iter().all(|column| column.name != name) {
            found.push(Column::new(name, Json::from(1.0)));
        }
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_name_columns() {
        let names = |formula: &str, frame| {
            terms(formula, frame).into_iter().map(|column| column.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("price ~ area + np.log(rooms) + C(district):area - 1", None), "area rooms district");
        let frame = || Some(["price", "area", "left over", "np"].map(|name| (name.to_owned(), None)).to_vec());
        assert_eq!(names("price ~ area + Q(\"left over\")", frame()), "area left over");
    }
}
