//! What answers at the routes of MLflow's scoring server: the signature of an `MLmodel` as the manifest has it, and a function
//! that does what the model's flavour does of MLflow's.

use serde_json::{Value as Json, json};

use super::document::text;
use super::input::MOST_COLUMNS;
use crate::project::manifest::{Signed, SignedParameter};

/// The function that answers there.
pub(super) const FUNCTION: &str = "invocations";

/// What the manifest says of it, and the function's definition.
#[derive(Clone, Debug)]
pub(super) struct Scoring {
    /// The release of MLflow that logged the model.
    pub version: Option<String>,
    /// What requests are held against, what they may have besides, and what is answered.
    pub inputs: Vec<Signed>,
    pub params: Option<Vec<SignedParameter>>,
    pub outputs: Vec<Signed>,
    /// Whether the model's code holds values against its own type hints.
    pub hints: bool,
    /// As Python.
    pub definition: String,
}

impl Scoring {
    /// What an `MLmodel` says; `definition` is given whether there are parameters. None where its signature is of another kind.
    pub fn of(description: &Json, definition: impl FnOnce(bool) -> String) -> Option<Self> {
        let listed = |key: &str| -> Option<Option<Vec<Json>>> {
            let Some(written) = text(description, &format!("/signature/{key}")) else { return Some(None) };
            let listed: Option<Vec<Json>> = serde_json::from_str(written).ok()?;
            (listed.as_ref().is_none_or(|all| all.len() as u64 <= MOST_COLUMNS)).then_some(listed)
        };
        let signed = |key: &str| -> Option<Vec<Signed>> {
            listed(key)?.unwrap_or_default().into_iter().map(|one| serde_json::from_value(plain(one)?).ok()).collect()
        };
        let params = match listed("params")? {
            Some(params) => {
                let read = params.into_iter().map(|one| serde_json::from_value(parameter(one)?).ok());
                Some(read.collect::<Option<Vec<_>>>()?)
            }
            None => None,
        };
        let version = text(description, "/mlflow_version");
        let is_plain =
            |text: &&str| text.len() <= 40 && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c));
        Some(Self {
            version: version.filter(is_plain).map(str::to_owned),
            inputs: signed("inputs")?,
            outputs: signed("outputs").unwrap_or_default(),
            hints: description.get("is_signature_from_type_hint").and_then(Json::as_bool) == Some(true),
            definition: definition(params.is_some()),
            params,
        })
    }

    /// The members of `service.mlflow` beside the function, one a line.
    pub fn members(&self) -> Json {
        let lines = |all: Vec<Json>| all.iter().map(Json::to_string).collect::<Vec<_>>();
        let signed = |all: &[Signed]| lines(all.iter().map(|one| json!(one)).collect());
        json!({
            "version": self.version.as_ref().map(|version| json!(version).to_string()),
            "inputs": signed(&self.inputs),
            "params": self.params.as_ref().map(|all| lines(all.iter().map(|one| json!(one)).collect())),
            "outputs": signed(&self.outputs),
            "hints": self.hints,
        })
    }
}

/// A column or tensor as the manifest has it: `MLmodel` also says what holds anyway, and MLflow before 2.10 said it otherwise.
fn plain(mut one: Json) -> Option<Json> {
    let members = one.as_object_mut()?;
    let is_optional = members.remove("optional").and_then(|optional| optional.as_bool());
    let required = members.get("required").and_then(Json::as_bool);
    let nested = ["array", "object", "map", "any", "sparkml_vector"];
    let is_nested = members.get("type")?.as_str().is_some_and(|kind| nested.contains(&kind));
    if is_optional == Some(true) {
        members.insert("required".to_owned(), false.into());
    } else if !is_nested && required != Some(false) || required.is_none() {
        members.remove("required");
    }
    Some(one)
}

/// A parameter as the manifest has it.
fn parameter(mut one: Json) -> Option<Json> {
    let members = one.as_object_mut()?;
    if let Some(kind) = members.remove("dtype") {
        members.entry("type").or_insert(kind);
    }
    members.remove("required");
    if members.get("shape").is_some_and(Json::is_null) {
        members.remove("shape");
    }
    Some(one)
}

/// A function that calls the model's own, without parameters: that is what most flavours do.
pub(super) fn calling(call: &str) -> String {
    format!("def {FUNCTION}(data):\n    {DOCUMENTATION}\n    return {call}")
}

/// The function of what MLflow itself loads.
pub(super) fn through_mlflow() -> String {
    format!("def {FUNCTION}(data, params=None):\n    {DOCUMENTATION}\n    return model.predict(data, params=params)")
}

/// The function of XGBoost's flavour, for the object `of`, a booster or an estimator. The parameters are those of its method.
pub(super) fn through_xgboost(of: &str, is_booster: bool, has_params: bool) -> String {
    let given = if is_booster { "xgboost.DMatrix(data)" } else { "data" };
    if !has_params {
        return calling(&format!("{of}.predict({given})"));
    }
    format!(
        "def {FUNCTION}(data, params=None):\n    {DOCUMENTATION}\n    \
         known = inspect.signature({of}.predict).parameters\n    \
         return {of}.predict({given}, **{{name: value for name, value in (params or {{}}).items() if name in known}})"
    )
}

/// The function of ONNX's flavour.
pub(super) fn through_onnx() -> String {
    format!(
        r#"def {FUNCTION}(data):
    {DOCUMENTATION}
    inputs = model.get_inputs()
    is_table = isinstance(data, pandas.DataFrame)
    if is_table and len(inputs) > 1:
        feeds = {{one.name: data[one.name].values for one in inputs}}
    elif is_table:
        feeds = {{inputs[0].name: data.values}}
    elif isinstance(data, dict):
        feeds = dict(data)
    elif len(inputs) == 1:
        feeds = {{inputs[0].name: data}}
    else:
        raise ValueError("the model takes several arrays, which have names")
    for one in inputs:
        # JSON does not say how wide its numbers are.
        if one.type == "tensor(float)" and one.name in feeds and feeds[one.name].dtype == numpy.float64:
            feeds[one.name] = feeds[one.name].astype(numpy.float32)
    names = [one.name for one in model.get_outputs()]
    answers = dict(zip(names, model.run(names, feeds)))
    if is_table:
        return pandas.DataFrame({{name: numpy.asarray(answer).reshape(-1) for name, answer in answers.items()}})
    return answers"#
    )
}

const DOCUMENTATION: &str = "\"\"\"Answers POST /invocations as MLflow's flavour does. The service has held the data against the signature.\"\"\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(signature: Json) -> Option<Scoring> {
        Scoring::of(&json!({ "signature": signature, "mlflow_version": "2.9.2" }), |_| String::new())
    }

    #[test]
    fn what_releases_of_mlflow_wrote_is_one_form_here() {
        let inputs = json!([
            { "name": "a", "type": "double" },
            { "name": "b", "type": "double", "required": true },
            { "name": "c", "type": "double", "optional": true },
            { "name": "d", "type": "double", "required": false },
            { "name": "e", "type": "array", "items": { "type": "long" }, "required": true },
        ]);
        let params = json!([
            { "name": "k", "dtype": "long", "default": 3, "shape": null },
            { "name": "w", "type": "string", "default": ["a"], "shape": [-1] },
        ]);
        let read = of(json!({ "inputs": inputs.to_string(), "params": params.to_string(), "outputs": null })).unwrap();
        let required: Vec<_> = read.inputs.iter().map(|one| one.required).collect();
        assert_eq!(required, [None, None, Some(false), Some(false), Some(true)]);
        let params: Vec<_> = read.params.unwrap().into_iter().map(|one| (one.name, one.shape)).collect();
        assert_eq!(params, [("k".to_owned(), None), ("w".to_owned(), Some(vec![-1]))]);
    }

    #[test]
    fn what_is_no_signature_is_none() {
        assert!(of(json!({ "inputs": "[{\"name\": \"a\", \"type\": \"quaternion\"}]" })).is_none());
        assert!(of(json!({ "inputs": "[3]" })).is_none());
        assert!(of(json!({ "inputs": "{" })).is_none());
        assert!(of(json!({ "inputs": null })).unwrap().inputs.is_empty());
    }
}
