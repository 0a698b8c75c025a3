//! An object of Kubernetes' API, as it is written down: the value, and comments for whoever reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::formats::document::{pointer, yaml, yaml_with_notes};

/// An object. Invariant: it has an `apiVersion`, a `kind` and a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Object {
    value: Value,
    /// Comments by the JSON pointers of the keys that they stand above.
    #[serde(skip)]
    notes: BTreeMap<String, String>,
}

/// What all objects of a deployment have alike.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// What they are called.
    pub name: String,
    /// Where they are.
    pub namespace: Option<String>,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
}

impl Metadata {
    /// The same under another name.
    #[must_use]
    pub fn called(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }
}

impl Object {
    /// An object of this API and kind, whose other keys are those of `body`.
    pub fn new(api_version: &str, kind: &str, metadata: &Metadata, body: Value) -> Self {
        let mut value = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": metadata.name, "labels": metadata.labels},
        });
        if let Some(namespace) = &metadata.namespace {
            value["metadata"]["namespace"] = json!(namespace);
        }
        if let (Value::Object(value), Value::Object(body)) = (&mut value, body) {
            value.extend(body);
        }
        Self { value, notes: BTreeMap::new() }
    }

    /// The same with annotations of its own, where there are any.
    #[must_use]
    pub fn annotated(mut self, annotations: &BTreeMap<String, String>) -> Self {
        if !annotations.is_empty() {
            self.value["metadata"]["annotations"] = json!(annotations);
        }
        self
    }

    /// The same with a comment above the key that `steps` lead to.
    #[must_use]
    pub fn noted<'a>(mut self, steps: impl IntoIterator<Item = &'a str>, note: impl Into<String>) -> Self {
        self.notes.insert(pointer(steps), note.into());
        self
    }

    /// The same with `notes`, whose pointers begin at the key that `steps` lead to.
    #[must_use]
    pub fn noted_within<'a>(
        mut self,
        steps: impl IntoIterator<Item = &'a str>,
        notes: &BTreeMap<String, String>,
    ) -> Self {
        let above = pointer(steps);
        self.notes.extend(notes.iter().map(|(at, note)| (format!("{above}{at}"), note.clone())));
        self
    }

    /// What it is.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its kind, as `Deployment`.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Where it is said to be.
    pub fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str()
    }

    /// What its kind is called in addresses and roles: `deployments`.
    pub fn plural(&self) -> String {
        let kind = self.kind().to_lowercase();
        match kind.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if kind.ends_with('s') => format!("{kind}es"),
            None => format!("{kind}s"),
        }
    }

    /// The group of its API; that of the first kinds of all has no name.
    pub fn group(&self) -> &str {
        self.value["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
    }

    /// The selector of all objects of its model.
    pub fn instance(&self) -> Option<String> {
        selected(&self.value["metadata"])
    }

    /// The selector of the pods that belong to it.
    pub fn of_pods(&self) -> Option<String> {
        selected(&self.value["spec"]["template"]["metadata"]).or_else(|| self.instance())
    }

    /// What the file of it is called: `deployment-iris.yaml`.
    pub fn file_name(&self) -> String {
        format!("{}-{}.yaml", self.kind().to_lowercase(), self.name())
    }

    /// As a YAML document, with its comments.
    pub fn yaml(&self) -> String {
        yaml_with_notes(&self.value, &self.notes)
    }
}

fn selected(metadata: &Value) -> Option<String> {
    const KEY: &str = "app.kubernetes.io/instance";
    Some(format!("{KEY}={}", metadata["labels"].get(KEY)?.as_str()?))
}

/// What kubectl calls an object's kind, with its group where others have the same.
pub fn resource(object: &Object) -> String {
    let kind = object.kind().to_lowercase();
    match object.value()["apiVersion"].as_str().and_then(|version| version.split_once('/')) {
        Some((group, version)) if group.contains('.') => format!("{kind}.{version}.{group}"),
        _ => kind,
    }
}

/// All of them, in one text.
pub fn documents(objects: &[Object]) -> String {
    let mut text = String::new();
    for object in objects {
        let _ = write!(text, "---\n{}", object.yaml());
    }
    text
}

/// The `kustomization.yaml` of a folder with a file for each of them.
pub fn kustomization(objects: &[Object]) -> String {
    let files: Vec<_> = objects.iter().map(Object::file_name).collect();
    yaml(&json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": files}))
}
