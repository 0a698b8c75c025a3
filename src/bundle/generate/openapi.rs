//! The API's description: OpenAPI 3.1.0. The service answers with this very document, so that it says what the bundle
//! says.

use serde_json::{Map, Value, json};

use super::schema::{Answers, Way, component, name_of, object, reference, schema};
use super::{Api, Route, invocations};
use crate::formats::source::{Parameter, ParameterKind, Signature, Type};
use crate::project::manifest::Manifest;

/// The document; `version` is that of the model.
pub fn document(manifest: &Manifest, version: &str, api: &Api) -> Value {
    let mut info = json!({ "title": manifest.name, "version": version });
    if let Some(description) = &manifest.description {
        info["description"] = description.as_str().into();
    }
    let classes = || api.routes.iter().flat_map(|route| &route.signature).flat_map(|signature| &signature.classes);
    let answers = Answers::new(manifest.service.nan, classes());
    let mut paths = Map::new();
    for route in &api.routes {
        paths.insert(route.path.clone(), json!({ "post": operation(manifest, api, route, Way::Out(&answers)) }));
    }
    if !api.routes.is_empty() {
        paths.insert("/requests/{name}".to_owned(), deferred());
    }
    for (name, route) in &api.openai {
        paths.insert(route.path.clone(), json!({ "post": openai(name, route) }));
    }
    if !api.openai.is_empty() {
        let models = get("/v1/models", "The model, as OpenAI's clients ask for it", "application/json", &json!({}));
        paths.insert("/v1/models".to_owned(), models);
    }
    if manifest.service.kserve.is_some() {
        let object = json!({ "application/json": { "schema": { "type": "object" } } });
        let answer = json!({ "description": "The tensors of the answer", "content": object });
        let infer = json!({
            "operationId": "v2_infer",
            "summary": "As the Open Inference Protocol has it, version 2",
            "requestBody": { "required": true, "content": object },
            "responses": { "200": answer, "default": { "description": "Why there is none", "content": object } },
        });
        paths.insert(format!("/v2/models/{}/infer", manifest.name), json!({ "post": infer }));
    }
    if let Some(mlflow) = &manifest.service.mlflow {
        paths.insert(
            "/invocations".to_owned(),
            json!({ "post": invocations::operation(mlflow, examples(api, "/invocations")) }),
        );
        for (path, summary) in
            [("/ping", "Whether the model can answer"), ("/health", "The same"), ("/version", "The release of MLflow")]
        {
            paths.insert(path.to_owned(), get(path, summary, "application/json", &json!({})));
        }
    }
    for (path, summary) in [
        ("/healthz", "Whether the service works"),
        ("/livez", "Whether the service lives"),
        ("/readyz", "Whether the service can answer requests"),
    ] {
        let schema = json!({ "type": "object", "properties": { "status": { "type": "string" } } });
        paths.insert(path.to_owned(), get(path, summary, "application/json", &schema));
    }
    let metrics = get("/metrics", "Metrics in Prometheus' text format", "text/plain", &json!({ "type": "string" }));
    paths.insert("/metrics".to_owned(), metrics);
    let mut schemas = problems();
    let mut used = Value::Object(paths.clone()).to_string();
    loop {
        let before = used.len();
        for (class, way) in classes().flat_map(|class| [(class, Way::In), (class, Way::Out(&answers))]) {
            let name = name_of(class.0, way);
            if schemas[&name].is_null() && used.contains(&format!("\"{}\"", reference(&name))) {
                schemas[&name] = component(class.1, way);
                used += &schemas[&name].to_string();
            }
        }
        if used.len() == before {
            break;
        }
    }
    let mut document =
        json!({ "openapi": "3.1.0", "info": info, "paths": paths, "components": { "schemas": schemas } });
    // What a command of the manifest's answers besides is not known.
    if api.is_served() {
        document["tags"] = tag(api, &mut document["paths"]).into();
        // Where it lies is where the service is: also below a path that a proxy in front gives it.
        document["servers"] = json!([{ "url": "." }]);
    }
    if let Some(root) = &manifest.service.root {
        document["servers"] = json!([{ "url": root }]);
    }
    document
}

/// Says of each operation what it belongs to, and gives these in the order in which they are shown: what the model can do
/// comes first.
fn tag(api: &Api, paths: &mut Value) -> Vec<Value> {
    let of = |path: &str| match path {
        path if api.routes.iter().any(|route| route.path == path) => 0,
        path if path.starts_with("/v1/") => 1,
        "/invocations" | "/ping" | "/health" | "/version" if api.mlflow.is_some() => 2,
        path if path.starts_with("/v2/") => 3,
        _ => 4,
    };
    let mut used = [false; TAGS.len()];
    for (path, item) in paths.as_object_mut().into_iter().flatten() {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut).filter(|one| one.is_object()) {
            operation["tags"] = json!([TAGS[of(path)].0]);
            used[of(path)] = true;
        }
    }
    let used = TAGS.iter().zip(used).filter(|(_, used)| *used);
    used.map(|((name, description), _)| json!({ "name": name, "description": description })).collect()
}

const TAGS: [(&str, &str); 5] = [
    ("model", "What the model does"),
    ("openai", "The same for clients of OpenAI's API"),
    ("mlflow", "The same for clients of MLflow's scoring server"),
    ("kserve", "The same for clients of the Open Inference Protocol"),
    ("service", "How the service is, and answers that were asked for later"),
];

fn get(path: &str, summary: &str, media_type: &str, schema: &Value) -> Value {
    let answer = json!({ "description": "The answer", "content": { media_type: { "schema": schema } } });
    json!({ "get": { "operationId": path.trim_start_matches('/').replace('/', "_"), "summary": summary, "responses": { "200": answer } } })
}

/// Where answers are asked for that nobody waited for.
fn deferred() -> Value {
    let told = |description: &str| json!({ "description": description });
    json!({
        "parameters": [{ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }],
        "get": {
            "operationId": "requests_get",
            "summary": "The answer to a request with `Prefer: respond-async`",
            "responses": {
                "200": told("The answer; or the status that it would have had"),
                "202": told("There is none yet; `Retry-After` says when to ask again"),
                "404": told("No such request is known, or not any more"),
            },
        },
        "delete": {
            "operationId": "requests_delete",
            "summary": "Forgets the request, and ends what can be ended",
            "responses": { "204": told("It is forgotten"), "404": told("No such request is known, or not any more") },
        },
    })
}

/// A route of OpenAI's API, whose own documents say what else it takes.
fn openai(name: &str, route: &Route) -> Value {
    let text = json!({ "type": "string" });
    let (member, schema) = match name {
        "chat" => ("messages", json!({ "type": "array", "minItems": 1, "items": { "type": "object" } })),
        "completions" => ("prompt", text.clone()),
        _ => ("input", json!({ "anyOf": [text, { "type": "array", "minItems": 1, "items": text }] })),
    };
    let mut properties = json!({ "model": { "type": "string" }, member: schema });
    let mut content = json!({ "application/json": { "schema": { "type": "object" } } });
    if name != "embeddings" {
        properties["stream"] = json!({ "type": "boolean" });
        content["text/event-stream"] = events("An event for each chunk, and `[DONE]` at the end");
    }
    let schema = json!({ "type": "object", "properties": properties, "required": ["model", member] });
    let error = json!({ "type": "object", "properties": { "error": { "type": "object" } }, "required": ["error"] });
    let error = json!({ "application/json": { "schema": error } });
    json!({
        "operationId": route.path.trim_start_matches('/').replace('/', "_"),
        "summary": format!("As {} of OpenAI's API", route.path),
        "requestBody": { "required": true, "content": { "application/json": { "schema": schema } } },
        "responses": {
            "200": { "description": "The answer of the model", "content": content },
            "default": { "description": "Why there is none", "content": error },
        },
    })
}

fn operation(manifest: &Manifest, api: &Api, route: &Route, out: Way) -> Value {
    let signature = route.signature.as_ref();
    let problem = |description: &str, name: &str| {
        let schema = json!({ "$ref": reference(name) });
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    };
    let mut responses = json!({
        "200": { "description": "The answer of the model", "content": answers(signature, out) },
        "202": { "description": "The answer to `Prefer: respond-async`: `Location` says where to ask for it later" },
        "413": problem("The request, or a file in it, is too large", "Refusal"),
        "415": problem("The request, or a file in it, is of a kind that is not taken", "Refusal"),
        "422": problem("The input cannot be used", "Refusal"),
        "500": problem("The model failed", "Failure"),
        "503": problem("The service has too much to do, or ends; `Retry-After` says when to ask again", "Failure"),
    });
    if signature.and_then(|signature| signature.returns.as_ref()?.alone()).is_some() {
        responses["406"] = problem("The answer is of no kind that is accepted", "Refusal");
    }
    let mut operation = json!({
        "operationId": route.path.trim_start_matches('/'),
        "requestBody": { "required": needs_body(signature), "content": requests(manifest, api, route) },
        "responses": responses,
    });
    if manifest.service.timeout.is_some() {
        operation["responses"]["504"] = problem("The model did not answer in time", "Failure");
    }
    if let Some(text) = signature.and_then(|signature| signature.docstring.as_deref()) {
        operation["summary"] = text.lines().next().unwrap_or_default().into();
        operation["description"] = text.into();
    }
    operation
}

/// Whether something has to be given.
fn needs_body(signature: Option<&Signature>) -> bool {
    signature.is_none_or(|signature| signature.parameters.iter().any(|parameter| parameter.required))
}

/// What a request may be: JSON; where there are files, a form; where there is one alone, that file.
fn requests(manifest: &Manifest, api: &Api, route: &Route) -> Value {
    let mut request = json!({ "schema": arguments(manifest, route, Way::In) });
    if let Some(examples) = examples(api, &route.path) {
        request["examples"] = examples;
    }
    let mut content = json!({ "application/json": request });
    if route.takes_files() {
        let mut form = json!({ "schema": arguments(manifest, route, Way::Form) });
        let encoding: Map<String, Value> = route
            .files(manifest)
            .filter(|(_, kinds)| !kinds.is_empty())
            .map(|(parameter, kinds)| (parameter.name.clone(), json!({ "contentType": kinds.join(", ") })))
            .collect();
        if !encoding.is_empty() {
            form["encoding"] = encoding.into();
        }
        content["multipart/form-data"] = form;
    }
    if let Some((_, kinds)) = route.whole_file(manifest) {
        let any = ["application/octet-stream".to_owned()];
        for kind in if kinds.is_empty() { &any[..] } else { &kinds } {
            content[kind] = json!({ "schema": { "type": "string", "format": "binary" } });
        }
    }
    content
}

/// What an answer may be: JSON; a file also as it is; parts also one after the other, first as whoever takes any gets them.
fn answers(signature: Option<&Signature>, out: Way) -> Value {
    if let Some(part) = signature.and_then(|signature| signature.parts.as_ref()) {
        let part = schema(part, out);
        let text = |description: &str| json!({ "schema": { "type": "string", "description": description } });
        return json!({
            "text/event-stream": events("An event for each part, with its JSON as data; an event `error` where it breaks off"),
            "application/x-ndjson": text("A line for each part, with its JSON; one with `error` where it breaks off"),
            "text/plain": text("The parts as they are, one after the other"),
            "application/json": { "schema": { "type": "array", "items": part } },
        });
    }
    let returns = signature.and_then(|signature| signature.returns.as_ref());
    let json = returns.map_or_else(|| json!({}), |of| schema(of, out));
    let mut content = json!({ "application/json": { "schema": json } });
    if let Some(file) = returns.and_then(Type::alone) {
        let kinds = match (file.media_types.as_slice(), file.is_picture()) {
            ([], true) => PICTURES.map(str::to_owned).to_vec(),
            ([], false) => vec!["*/*".to_owned()],
            (kinds, _) => kinds.to_vec(),
        };
        for kind in kinds {
            content[kind] = json!({ "schema": { "type": "string", "format": "binary" } });
        }
    }
    content
}

/// Of no type: before OpenAPI 3.2, which has `itemSchema`, it is read as that of the whole, or as that of each event.
fn events(description: &str) -> Value {
    json!({ "schema": { "description": description } })
}

/// What the service writes pictures as.
const PICTURES: [&str; 6] = ["image/bmp", "image/gif", "image/jpeg", "image/png", "image/tiff", "image/webp"];

/// The object that a request's body is: its members are the function's arguments.
fn arguments(manifest: &Manifest, route: &Route, way: Way) -> Value {
    let Some(signature) = &route.signature else { return json!({ "type": "object" }) };
    let named = || signature.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Named);
    let properties = named().map(|parameter| (parameter.name.clone(), property(manifest, parameter, way))).collect();
    let required: Vec<&str> = named().filter(|one| one.required).map(|one| one.name.as_str()).collect();
    let is_open = signature.parameters.iter().any(|parameter| parameter.kind == ParameterKind::AnyKeywords);
    object(properties, &required, is_open)
}

fn property(manifest: &Manifest, parameter: &Parameter, way: Way) -> Value {
    let mut property = parameter.annotation.as_ref().map_or_else(|| json!({}), |of| schema(of, way));
    let input = manifest.service.inputs.iter().find(|input| input.name == parameter.name);
    if let Some(description) = input.and_then(|input| input.description.as_deref()) {
        property["description"] = description.into();
    }
    if let Some(default) = &parameter.default {
        property["default"] = default.clone();
    }
    // Of an empty list there is no part in a form.
    if way == Way::Form && parameter.required && property["type"] == "array" && property["minItems"].is_null() {
        property["minItems"] = 1.into();
    }
    property
}

/// Those of a path, by their names.
fn examples(api: &Api, path: &str) -> Option<Value> {
    let examples = api.examples.iter().filter(|example| example.path == path);
    let examples: Map<_, _> =
        examples.map(|example| (example.name.clone(), json!({ "value": example.request }))).collect();
    (!examples.is_empty()).then_some(Value::Object(examples))
}

fn problems() -> Value {
    let place = json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] });
    json!({
        "Failure": {
            "type": "object",
            "properties": { "detail": { "type": "string" }, "request_id": { "type": "string" } },
            "required": ["detail", "request_id"],
        },
        "Refusal": {
            "type": "object",
            "properties": { "detail": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "loc": { "type": "array", "items": place },
                    "msg": { "type": "string" },
                    "type": { "type": "string" },
                },
                "required": ["loc", "msg", "type"],
            } } },
            "required": ["detail"],
        },
    })
}
