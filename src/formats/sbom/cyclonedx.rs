//! CycloneDX 1.6 as JSON (ECMA-424; <https://cyclonedx.org/docs/1.6/json/>), with the model as a component of its own kind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{File, Inventory, Licence, Model, Package, TOOL, encoded, uuid};
use crate::io::digest::Digest;

/// Its document.
pub(super) fn document(inventory: &Inventory) -> Value {
    let purls = inventory.purls();
    let image = inventory.purl();
    let mut components = Vec::new();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut top: BTreeSet<String> = BTreeSet::new();
    let needed: BTreeSet<usize> = inventory.packages.iter().flat_map(|package| package.depends.clone()).collect();
    for (number, (package, purl)) in inventory.packages.iter().zip(&purls).enumerate() {
        components.push(installed(package, purl));
        let depends = package.depends.iter().filter_map(|other| purls.get(*other).cloned());
        edges.insert(purl.clone(), depends.collect());
        if !needed.contains(&number) {
            top.insert(purl.clone());
        }
    }
    if let Some(system) = &inventory.system {
        let reference = format!("system:{}", encoded(&system.id));
        components.push(component(json!({
            "type": "operating-system", "bom-ref": reference, "name": system.id, "version": system.version,
            "description": system.title,
        })));
    }
    if let Some(model) = &inventory.model {
        components.extend(data(model));
        components.push(trained(model, inventory));
        top.insert(reference(model));
    }
    components.extend(inventory.files.iter().map(file));
    edges.insert(image.clone(), top);
    let edges = edges.into_iter().map(|(of, on)| match on.is_empty() {
        true => json!({ "ref": of }),
        false => json!({ "ref": of, "dependsOn": on }),
    });
    let mut whole = component(json!({
        "type": "container", "bom-ref": image, "name": inventory.name, "version": inventory.version, "purl": image,
        "description": inventory.description, "licenses": licences(&inventory.licence),
        "hashes": hashes(&[inventory.digest]),
    }));
    if let Some(source) = &inventory.source {
        whole["externalReferences"] = json!([{ "type": "vcs", "url": source }]);
    }
    if let Some(base) = inventory.base {
        let base = json!({ "type": "container", "name": "base", "hashes": hashes(&[base]) });
        whole["pedigree"] = json!({ "ancestors": [base] });
    }
    let tool = json!({ "type": "application", "name": TOOL, "version": env!("CARGO_PKG_VERSION") });
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "timestamp": inventory.created, "tools": { "components": [tool] }, "component": whole },
        "components": components,
        "dependencies": edges.collect::<Vec<_>>(),
    });
    if !inventory.commands.is_empty() {
        let steps = inventory.commands.iter().map(|command| json!({ "commands": [{ "executed": command }] }));
        let steps: Vec<_> = steps.collect();
        document["formulation"] = json!([{ "workflows": [{
            "bom-ref": "build", "uid": "build", "name": "commands that were executed for the image",
            "taskTypes": ["build"], "steps": steps,
        }] }]);
    }
    document["serialNumber"] = format!("urn:uuid:{}", uuid(document.to_string())).into();
    document
}

/// A component without what is not known of it.
fn component(fields: Value) -> Value {
    let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn installed(package: &Package, purl: &str) -> Value {
    let mut properties = vec![property("ekiben:kind", package.kind.word())];
    properties.extend(package.places.iter().map(|place| property("ekiben:place", place)));
    if let Some(source) = &package.source {
        properties.push(property("ekiben:source:name", &source.name));
        properties.push(property("ekiben:source:version", &source.version));
    }
    // Several wheels may do, and which one was taken is known of none.
    let digests = if package.digests.len() == 1 { hashes(&package.digests) } else { Value::Null };
    let homepage = package.homepage.as_ref().filter(|homepage| url::Url::parse(homepage).is_ok());
    component(json!({
        "type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl,
        "description": package.summary, "licenses": licences(&package.licence), "hashes": digests,
        "supplier": package.supplier.as_ref().map(|name| json!({ "name": name })),
        "externalReferences": homepage.map(|url| json!([{ "type": "website", "url": url }])),
        "properties": properties,
    }))
}

fn reference(model: &Model) -> String {
    format!("model:{}", encoded(&model.name))
}

/// The data set that a model was trained with.
fn data(model: &Model) -> Option<Value> {
    let (name, digest) = model.training.as_ref()?.data.as_ref()?;
    Some(json!({
        "type": "data", "bom-ref": format!("data:{}", encoded(name)), "name": name, "hashes": hashes(&[*digest]),
        "data": [{ "type": "dataset", "name": name }],
    }))
}

/// The model and its files.
fn trained(model: &Model, inventory: &Inventory) -> Value {
    let formats: BTreeSet<&str> = model.files.iter().filter_map(File::format).collect();
    let mut properties: Vec<Value> =
        formats.into_iter().map(|format| property("ekiben:model:format", format)).collect();
    let mut card = Map::new();
    let mut parameters = Map::new();
    parameters.extend(model.task.iter().map(|task| ("task".to_owned(), task.as_str().into())));
    if let Some(training) = &model.training {
        properties.push(property("ekiben:training:code", &training.code.to_string()));
        let said = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        properties.extend(
            training.parameters.iter().map(|(name, value)| property(&format!("ekiben:training:{name}"), &said(value))),
        );
        if let Some((name, _)) = &training.data {
            parameters.insert("datasets".to_owned(), json!([{ "ref": format!("data:{}", encoded(name)) }]));
        }
        let metrics = training.metrics.iter().map(|(name, value)| json!({ "type": name, "value": value }));
        let metrics: Vec<_> = metrics.collect();
        if !metrics.is_empty() {
            card.insert("quantitativeAnalysis".to_owned(), json!({ "performanceMetrics": metrics }));
        }
    }
    if !parameters.is_empty() {
        card.insert("modelParameters".to_owned(), parameters.into());
    }
    let origins = model.origins.iter().map(|origin| {
        let comment = (!origin.versions.is_empty()).then(|| origin.versions.join(", "));
        component(json!({ "type": "distribution", "url": origin.from, "comment": comment }))
    });
    let origins: Vec<_> = origins.collect();
    component(json!({
        "type": "machine-learning-model", "bom-ref": reference(model), "name": model.name,
        "version": inventory.version, "modelCard": card, "components": model.files.iter().map(file).collect::<Vec<_>>(),
        "externalReferences": (!origins.is_empty()).then_some(origins),
        "properties": (!properties.is_empty()).then_some(properties),
    }))
}

fn file(file: &File) -> Value {
    let properties = file.format().map(|format| json!([property("ekiben:model:format", format)]));
    component(json!({
        "type": "file", "bom-ref": format!("file:/{}", file.path), "name": format!("/{}", file.path),
        "hashes": hashes(&[file.digest]), "properties": properties,
    }))
}

fn hashes(digests: &[Digest]) -> Value {
    digests.iter().map(|digest| json!({ "alg": "SHA-256", "content": digest.hex() })).collect()
}

fn licences(licence: &Licence) -> Option<Value> {
    licence.expression.as_ref().map(|expression| json!([{ "expression": expression }]))
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}
