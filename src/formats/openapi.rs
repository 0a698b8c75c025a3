//! `openapi.yaml`: what a service answers (OpenAPI 3.0 and 3.1), as far as a mistake in it can be told without the
//! service: its form, its references, its parameters.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::{Document, Node, Value, pointer};
use crate::formats::schema::Kind;
use crate::formats::schema::load::Described;

/// The description of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenApi {
    /// The version of OpenAPI that the document is written in.
    #[schemars(regex(pattern = r"^3\.[01]\.[0-9]+$"), extend("patternErrorMessage" = "a version of OpenAPI, as 3.0.3 or 3.1.0"))]
    pub openapi: String,
    /// What is described.
    pub info: Info,
    /// What is answered, by path.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^(/|x-)", "patternErrorMessage": "a path that begins with `/`" }))]
    pub paths: BTreeMap<String, PathItem>,
    /// What is referred to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, Json>,
}

impl Described for OpenApi {
    const KIND: Kind = Kind::Openapi;
}

/// What is described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// What it is called.
    pub title: String,
    /// Its own version.
    pub version: String,
}

/// What is answered on a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathItem {
    /// Parameters of all that is answered here.
    #[serde(default)]
    pub parameters: Vec<Json>,
    /// The answer to GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub get: Option<Operation>,
    /// The answer to PUT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<Operation>,
    /// The answer to POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<Operation>,
    /// The answer to DELETE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<Operation>,
    /// The answer to PATCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Operation>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What it is called by programs that are made from the description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// What it takes beside the body.
    #[serde(default)]
    pub parameters: Vec<Json>,
    /// What may come back, by status.
    #[schemars(extend(
        "minProperties" = 1,
        "propertyNames" = { "pattern": "^([1-5][0-9X][0-9X]|default|x-.*)$", "patternErrorMessage": "a status as \"200\", or `default`" }
    ))]
    pub responses: BTreeMap<String, Json>,
}

impl PathItem {
    fn operations(&self) -> impl Iterator<Item = (&'static str, &Operation)> {
        [("get", &self.get), ("put", &self.put), ("post", &self.post), ("delete", &self.delete), ("patch", &self.patch)]
            .into_iter()
            .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
    }
}

impl OpenApi {
    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        references(document, &document.root, found);
        let json = document.root.to_json();
        let mut identifiers: BTreeMap<&str, String> = BTreeMap::new();
        for (path, item) in &self.paths {
            for (method, operation) in item.operations() {
                let at = pointer(["paths", path.as_str(), method]);
                if let Some(id) = &operation.operation_id {
                    let here = format!("{at}/operationId");
                    if let Some(first) = identifiers.insert(id, here.clone()) {
                        let error = document.at(Code::NameTwice, &here, format!("the operation `{id}` is there twice"));
                        found.push(error.also(&document.source, document.span_of(&first), "first here"));
                    }
                }
                let declared: Vec<&str> = item
                    .parameters
                    .iter()
                    .chain(&operation.parameters)
                    .filter_map(|parameter| {
                        let reference = parameter.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
                        let parameter = reference.and_then(|reference| json.pointer(reference)).unwrap_or(parameter);
                        (parameter.get("in")? == "path").then(|| parameter.get("name")?.as_str())?
                    })
                    .collect();
                let wanted: Vec<&str> =
                    path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
                for name in wanted.iter().filter(|name| !declared.contains(name)) {
                    let message = format!("the path has a parameter `{name}` that `{method}` does not declare");
                    found.push(document.at_key(Code::Inconsistent, &at, message));
                }
                for name in declared.iter().filter(|name| !wanted.contains(name)) {
                    let message =
                        format!("`{method}` declares a parameter `{name}` that the path `{path}` does not have");
                    found.push(document.at_key(Code::Inconsistent, &at, message));
                }
            }
        }
    }
}

/// References within the document have to lead somewhere. Those to other documents are let be.
fn references(document: &Document, node: &Node, found: &mut Diagnostics) {
    match &node.value {
        Value::Mapping(entries) => {
            for (key, value) in entries {
                if key.text == "$ref"
                    && let Value::String(reference) = &value.value
                    && let Some(inside) = reference.strip_prefix('#')
                {
                    let mut steps = crate::formats::document::steps(inside);
                    if steps.try_fold(&document.root, |node, step| node.get(&step)).is_none() {
                        let message = format!("`{reference}` leads nowhere in this document");
                        let source = &document.source;
                        found.push(crate::formats::diagnostic::Diagnostic::new(
                            Code::BrokenReference,
                            source,
                            value.span.clone(),
                            message,
                        ));
                    }
                } else {
                    // The tree is of a bounded depth.
                    references(document, value, found);
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| references(document, item, found)),
        _ => {}
    }
}
