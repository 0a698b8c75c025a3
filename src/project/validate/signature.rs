//! The signature of a model of MLflow's, as the manifest has it: what its schema cannot say.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::Subject;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::project::manifest::{Signed, SignedType};

/// What a service answers besides where it answers as MLflow's scoring server.
pub const ROUTES: [&str; 4] = ["/invocations", "/ping", "/health", "/version"];

/// Checks it; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let Some(mlflow) = &subject.manifest.service.mlflow else { return };
    let mut wrong = |at: &str, message: String| found.push(subject.document.at(Code::NotSuited, at, message));
    for (place, all) in [("inputs", &mlflow.inputs), ("outputs", &mlflow.outputs)] {
        let at = |number: usize| format!("/service/mlflow/{place}/{number}");
        let Some(first) = all.first() else { continue };
        let mut names = BTreeSet::new();
        for (number, one) in all.iter().enumerate() {
            if let Err(message) = is_whole(one) {
                wrong(&at(number), message);
            }
            if (one.kind == SignedType::Tensor) != (first.kind == SignedType::Tensor) {
                wrong(&at(number), "columns and tensors are not in one signature".to_owned());
            }
            if one.name.is_some() != first.name.is_some() {
                wrong(&at(number), "either all have names, or none has one".to_owned());
            }
            if let Some(name) = one.name.as_deref().filter(|name| !names.insert(*name)) {
                wrong(&at(number), format!("`{name}` is there twice"));
            }
        }
        if all.len() > 1 && first.kind == SignedType::Tensor && first.name.is_none() {
            wrong(&at(1), "several tensors have names".to_owned());
        }
    }
    let mut names = BTreeSet::new();
    for (number, parameter) in mlflow.params.iter().flatten().enumerate() {
        let at = format!("/service/mlflow/params/{number}");
        let is_object = parameter.kind == SignedType::Object;
        match parameter.kind {
            SignedType::Object if parameter.properties.is_none() => wrong(&at, "it has no `properties`".to_owned()),
            kind if !is_object && (!is_scalar(kind) || kind == SignedType::Binary) => {
                wrong(&at, "a parameter is a value, a list of values or an object".to_owned());
            }
            _ => {}
        }
        if !matches!(parameter.shape.as_deref(), None | Some([-1])) || is_object && parameter.shape.is_some() {
            wrong(&at, "the shape of a list is `[-1]`, and nothing else has one".to_owned());
        }
        if !names.insert(parameter.name.as_str()) {
            wrong(&at, format!("`{}` is there twice", parameter.name));
        }
    }
}

/// Whether values of this type are no lists and no objects.
fn is_scalar(kind: SignedType) -> bool {
    use SignedType::{Any, Array, Map, Object, SparkmlVector, Tensor};
    !matches!(kind, Any | Array | Map | Object | SparkmlVector | Tensor)
}

/// Whether a column or tensor says what it holds.
fn is_whole(one: &Signed) -> Result<(), String> {
    let lacks = |name: &str| Err(format!("it has no `{name}`"));
    match one.kind {
        SignedType::Tensor => match &one.tensor {
            None => lacks("tensor-spec"),
            Some(tensor) if !DTYPES.contains(&tensor.dtype.as_str()) => Err(format!(
                "`{}` is no type of numpy's for tensors",
                tensor.dtype.chars().take(40).collect::<String>()
            )),
            Some(_) => Ok(()),
        },
        SignedType::Array => one.items.as_ref().map_or_else(|| lacks("items"), |items| is_type(items, 0)),
        SignedType::Map => one.values.as_ref().map_or_else(|| lacks("values"), |values| is_type(values, 0)),
        SignedType::Object => match &one.properties {
            None => lacks("properties"),
            Some(properties) => properties.values().try_for_each(|of| is_type(of, 0)),
        },
        _ => Ok(()),
    }
}

/// What numpy calls the types that tensors have.
const DTYPES: [&str; 16] = [
    "bool",
    "bytes",
    "complex128",
    "float16",
    "float32",
    "float64",
    "int16",
    "int32",
    "int64",
    "int8",
    "object",
    "str",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
];

/// Types within types, no more.
const DEEPEST: usize = 32;

/// Whether a type within another one is one.
fn is_type(of: &Json, depth: usize) -> Result<(), String> {
    let kind = of.get("type").and_then(Json::as_str).unwrap_or_default();
    let within = |name: &str| match of.get(name) {
        _ if depth >= DEEPEST => Err("it is too deep".to_owned()),
        Some(inner) => is_type(inner, depth + 1),
        None => Err(format!("a type `{kind}` within it has no `{name}`")),
    };
    match kind {
        "array" => within("items"),
        "map" => within("values"),
        "object" if depth >= DEEPEST => Err("it is too deep".to_owned()),
        "object" => match of.get("properties").and_then(Json::as_object) {
            Some(properties) => properties.values().try_for_each(|one| is_type(one, depth + 1)),
            None => Err("a type `object` within it has no `properties`".to_owned()),
        },
        kind => match serde_json::from_value::<SignedType>(kind.into()) {
            Ok(SignedType::Tensor) | Err(_) => {
                Err(format!("`{kind}` is no type", kind = kind.chars().take(40).collect::<String>()))
            }
            Ok(_) => Ok(()),
        },
    }
}
