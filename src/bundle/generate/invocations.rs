//! How MLflow's scoring protocol is described: a model's signature as JSON Schemas.

use serde_json::{Map, Value, json};

use crate::project::manifest::{Mlflow, Signed, SignedType};

/// The operation behind `/invocations`, with examples of requests.
pub(super) fn operation(mlflow: &Mlflow, examples: Option<Value>) -> Value {
    let mut json = json!({ "schema": body(mlflow) });
    if let Some(examples) = examples {
        json["examples"] = examples;
    }
    let mut content = json!({ "application/json": json });
    let is_table = mlflow.inputs.first().is_none_or(|first| first.kind != SignedType::Tensor);
    if is_table && !mlflow.hints {
        let names: Vec<&str> = mlflow.inputs.iter().filter_map(|one| one.name.as_deref()).collect();
        let header = if names.is_empty() { "A table with a header".to_owned() } else { names.join(",") };
        content["text/csv"] = json!({ "schema": { "type": "string", "description": header } });
    }
    let answer =
        json!({ "type": "object", "properties": { "predictions": predictions(mlflow) }, "required": ["predictions"] });
    let text = json!({ "type": "string" });
    let error = json!({
        "type": "object",
        "properties": { "error_code": text, "message": text },
        "required": ["error_code", "message"],
    });
    let told = |description: &str| json!({ "description": description, "content": { "application/json": { "schema": error } } });
    json!({
        "tags": [super::openapi::MLFLOW],
        "operationId": "invocations",
        "summary": "As `mlflow models serve` answers",
        "requestBody": { "required": true, "content": content },
        "responses": {
            "200": { "description": "The predictions", "content": { "application/json": { "schema": answer } } },
            "400": told("The request is not what the signature says, or the model failed"),
            "415": { "description": "The body is of a kind that is not taken", "content": { "text/plain": { "schema": text } } },
            "default": told("Why there is no answer"),
        },
    })
}

/// What the JSON of a request may be: the input in one of its forms, and parameters.
fn body(mlflow: &Mlflow) -> Value {
    let inputs = &mlflow.inputs;
    let with = |form: &str, schema: Value| {
        let mut properties = json!({ form: schema });
        if let Some(params) = params(mlflow) {
            properties["params"] = params;
        }
        json!({ "type": "object", "title": form, "properties": properties, "required": [form] })
    };
    if mlflow.hints {
        return with("inputs", json!({}));
    }
    let is_named = inputs.first().is_some_and(|first| first.name.is_some());
    let mut forms = Vec::new();
    if inputs.first().is_none_or(|first| first.kind != SignedType::Tensor) {
        let names: Vec<&str> = inputs.iter().filter_map(|one| one.name.as_deref()).collect();
        let mut columns = json!({ "type": "array", "items": { "type": "string" } });
        if is_named {
            columns["example"] = names.into();
        }
        let rows = json!({ "type": "array", "items": { "type": "array" } });
        let properties = json!({ "columns": columns, "data": rows, "index": { "type": "array" } });
        forms
            .push(with("dataframe_split", json!({ "type": "object", "properties": properties, "required": ["data"] })));
        let record = if is_named { record(inputs, &column) } else { json!({ "type": "object" }) };
        forms.push(with("dataframe_records", json!({ "type": "array", "items": record })));
    }
    let list = |of: Value| json!({ "type": "array", "items": of });
    let (rows, columns) = match inputs.as_slice() {
        [] => (json!({}), json!({})),
        [one] if one.kind == SignedType::Tensor && !is_named => (tensor(one), tensor(one)),
        several if !is_named => {
            (list(list(json!({}))), list(json!({ "anyOf": several.iter().map(column).collect::<Vec<_>>() })))
        }
        several => {
            let whole = |one: &Signed| if one.kind == SignedType::Tensor { tensor(one) } else { list(column(one)) };
            let value = |one: &Signed| match tensor(one) {
                tensor if one.kind == SignedType::Tensor => tensor.get("items").cloned().unwrap_or_default(),
                _ => column(one),
            };
            (list(record(several, &value)), record(several, &whole))
        }
    };
    forms.push(with("instances", rows));
    forms.push(with("inputs", columns));
    json!({ "oneOf": forms })
}

/// An object with a member for each.
fn record(all: &[Signed], of: &dyn Fn(&Signed) -> Value) -> Value {
    let members: Map<String, Value> = all.iter().filter_map(|one| Some((one.name.clone()?, of(one)))).collect();
    let is_required = |one: &&Signed| one.required.unwrap_or(is_value(one.kind));
    let required: Vec<&str> = all.iter().filter(is_required).filter_map(|one| one.name.as_deref()).collect();
    json!({ "type": "object", "properties": members, "required": required })
}

fn is_value(kind: SignedType) -> bool {
    use SignedType::{Any, Array, Map, Object, SparkmlVector};
    !matches!(kind, Any | Array | Map | Object | SparkmlVector)
}

/// What a column holds.
fn column(one: &Signed) -> Value {
    within(&json!(one))
}

/// A type as `MLmodel` has it, as a JSON Schema. What is not known may be anything.
fn within(of: &Value) -> Value {
    let inner = |name: &str| of.get(name).map(within).unwrap_or_else(|| json!({}));
    match of.get("type").and_then(Value::as_str).unwrap_or_default() {
        "boolean" => json!({ "type": "boolean" }),
        "integer" => json!({ "type": "integer", "format": "int32" }),
        "long" => json!({ "type": "integer", "format": "int64" }),
        "float" => json!({ "type": "number", "format": "float" }),
        "double" => json!({ "type": "number", "format": "double" }),
        "string" => json!({ "type": "string" }),
        "binary" => json!({ "type": "string", "contentEncoding": "base64" }),
        "datetime" => json!({ "type": "string", "format": "date-time" }),
        "array" => json!({ "type": "array", "items": inner("items") }),
        "sparkml_vector" => json!({ "type": "array", "items": { "type": "number" } }),
        "map" => json!({ "type": "object", "additionalProperties": inner("values") }),
        "object" => {
            let properties = of.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            let is_required = |one: &Value| one.get("required").and_then(Value::as_bool).unwrap_or(true);
            let required: Vec<&String> =
                properties.iter().filter(|(_, one)| is_required(one)).map(|(name, _)| name).collect();
            let members: Map<String, Value> =
                properties.iter().map(|(name, one)| (name.clone(), within(one))).collect();
            json!({ "type": "object", "properties": members, "required": required })
        }
        _ => json!({}),
    }
}

/// Lists in lists, of the lengths of a tensor.
fn tensor(one: &Signed) -> Value {
    let Some(tensor) = &one.tensor else { return json!({}) };
    let value = match tensor.dtype.as_str() {
        "str" | "bytes" => json!({ "type": "string" }),
        "bool" => json!({ "type": "boolean" }),
        dtype if dtype.contains("int") => json!({ "type": "integer" }),
        dtype if dtype.starts_with("float") => json!({ "type": "number" }),
        _ => json!({}),
    };
    tensor.shape.iter().rev().fold(value, |of, length| match length {
        -1 => json!({ "type": "array", "items": of }),
        length => json!({ "type": "array", "items": of, "minItems": length, "maxItems": length }),
    })
}

fn params(mlflow: &Mlflow) -> Option<Value> {
    let params = mlflow.params.as_ref()?;
    let described = params.iter().map(|one| {
        let value = within(&json!(one));
        let mut schema = if one.shape.is_some() { json!({ "type": "array", "items": value }) } else { value };
        schema["default"] = one.default.clone();
        (one.name.clone(), schema)
    });
    Some(json!({ "type": "object", "properties": described.collect::<Map<_, _>>() }))
}

fn predictions(mlflow: &Mlflow) -> Value {
    match mlflow.outputs.as_slice() {
        [one] if one.kind == SignedType::Tensor && one.name.is_none() => tensor(one),
        [one] if one.name.is_none() => json!({ "type": "array", "items": column(one) }),
        [] => json!({}),
        several if several.iter().all(|one| one.kind != SignedType::Tensor && one.name.is_some()) => {
            json!({ "type": "array", "items": record(several, &column) })
        }
        several if several.iter().all(|one| one.name.is_some()) => record(several, &tensor),
        _ => json!({}),
    }
}
