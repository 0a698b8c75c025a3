//! The JSON Schemas of what people write: for editors, and for the check of form.
//!
//! Those of Ekiben's own files are made from the Rust types and kept in `schemas/`; a test holds the two together
//! (`EKIBEN_BLESS=1 cargo test schemas` writes them anew). JSON Schema draft 7: the editors know it best, and a checker is
//! made from it in two thirds of the time of draft 2020-12 (1.8 instead of 2.8 ms).

pub mod load;

use std::sync::OnceLock;

use serde_json::Value;

/// What a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `ekiben.yaml`.
    Manifest,
    /// `ekiben.lock`.
    Lock,
    /// `Dockerfile.lock`.
    DockerfileLock,
    /// `manifest.json` of the AI Analytics Runtime.
    Analytics,
    /// `bento.yaml`.
    Bento,
    /// `bentofile.yaml`.
    Bentofile,
    /// `categories_and_labels_data.json5`.
    Metadata,
    /// `openapi.yaml`.
    Openapi,
    /// A specification of the Container Device Interface.
    Cdi,
    /// `serve.yaml`.
    Serve,
    /// How a model is deployed.
    Deploy,
    /// What images need: `ekiben-policy.yaml`.
    Policy,
    /// `policy.json` of containers.
    ContainersPolicy,
}

/// A schema, ready for use.
#[derive(Debug)]
pub struct Schema {
    /// Its text, as in `schemas/`.
    pub text: &'static str,
    /// The same as a value.
    pub json: Value,
    /// The same as a check.
    pub(crate) validator: jsonschema::Validator,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 13] = [
        Self::Manifest,
        Self::Lock,
        Self::DockerfileLock,
        Self::Analytics,
        Self::Bento,
        Self::Bentofile,
        Self::Metadata,
        Self::Openapi,
        Self::Cdi,
        Self::Serve,
        Self::Deploy,
        Self::Policy,
        Self::ContainersPolicy,
    ];

    /// What its schema is called: `manifest` for `schemas/manifest.schema.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Lock => "lock",
            Self::DockerfileLock => "dockerfile-lock",
            Self::Analytics => "analytics",
            Self::Bento => "bento",
            Self::Bentofile => "bentofile",
            Self::Metadata => "metadata",
            Self::Openapi => "openapi",
            Self::Cdi => "cdi",
            Self::Serve => "serve",
            Self::Deploy => "deploy",
            Self::Policy => "policy",
            Self::ContainersPolicy => "containers-policy",
        }
    }

    /// Bytes that a file of this kind may have. A lock names every wheel that will do, and metadata and descriptions are
    /// written by programs, so they may be large.
    pub fn most(self) -> u64 {
        match self {
            Self::Lock | Self::DockerfileLock | Self::Metadata | Self::Openapi => 16 << 20,
            _ => crate::formats::document::MAX_BYTES,
        }
    }

    /// The text of its schema.
    pub fn text(self) -> &'static str {
        match self {
            Self::Manifest => include_str!("../../../schemas/manifest.schema.json"),
            Self::Lock => include_str!("../../../schemas/lock.schema.json"),
            Self::DockerfileLock => include_str!("../../../schemas/dockerfile-lock.schema.json"),
            Self::Analytics => include_str!("../../../schemas/analytics.schema.json"),
            Self::Bento => include_str!("../../../schemas/bento.schema.json"),
            Self::Bentofile => include_str!("../../../schemas/bentofile.schema.json"),
            Self::Metadata => include_str!("../../../schemas/metadata.schema.json"),
            Self::Openapi => include_str!("../../../schemas/openapi.schema.json"),
            Self::Cdi => include_str!("../../../schemas/cdi.schema.json"),
            Self::Serve => include_str!("../../../schemas/serve.schema.json"),
            Self::Deploy => include_str!("../../../schemas/deploy.schema.json"),
            Self::Policy => include_str!("../../../schemas/policy.schema.json"),
            Self::ContainersPolicy => include_str!("../../../schemas/containers-policy.schema.json"),
        }
    }
}

/// The schema of a kind. Made on first use.
#[allow(clippy::expect_used, reason = "the schemas are part of the program, and the tests use each of them")]
pub fn of(kind: Kind) -> &'static Schema {
    static SCHEMAS: [OnceLock<Schema>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];
    SCHEMAS[kind as usize].get_or_init(|| {
        let json: Value = serde_json::from_str(kind.text()).expect("a schema in schemas/ is JSON");
        let validator = jsonschema::validator_for(&json).expect("a schema in schemas/ is a schema");
        Schema { text: kind.text(), json, validator }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::diagnostic::{Diagnostics, Source};
    use crate::formats::document::{Document, Format};

    fn made(kind: Kind) -> String {
        let generator = schemars::generate::SchemaSettings::draft07().into_generator();
        let schema = match kind {
            Kind::Manifest => generator.into_root_schema_for::<crate::project::manifest::Manifest>(),
            Kind::Lock => generator.into_root_schema_for::<crate::project::lock::Lock>(),
            Kind::DockerfileLock => generator.into_root_schema_for::<crate::project::lock::DockerfileLock>(),
            Kind::Analytics => generator.into_root_schema_for::<crate::formats::analytics::AnalyticsManifest>(),
            Kind::Bento => generator.into_root_schema_for::<crate::formats::bento::Bento>(),
            Kind::Bentofile => generator.into_root_schema_for::<crate::formats::bento::Bentofile>(),
            Kind::Metadata => generator.into_root_schema_for::<crate::formats::metadata::ProjectMetadata>(),
            Kind::Openapi => generator.into_root_schema_for::<crate::formats::openapi::OpenApi>(),
            Kind::Cdi => generator.into_root_schema_for::<crate::formats::cdi::Cdi>(),
            Kind::Serve => generator.into_root_schema_for::<crate::serve::config::Config>(),
            Kind::Deploy => generator.into_root_schema_for::<crate::project::manifest::deploy::Deploy>(),
            Kind::Policy => generator.into_root_schema_for::<crate::image::policy::Config>(),
            Kind::ContainersPolicy => generator.into_root_schema_for::<crate::image::policy::ContainersFile>(),
        };
        let mut value = schema.to_value();
        limit(&mut value);
        if matches!(kind, Kind::Manifest | Kind::Deploy) {
            for example in examples() {
                let example = if kind == Kind::Deploy { example["deploy"].clone() } else { example };
                exemplify(&mut value, "", &example);
            }
        }
        // It has its keys in the order in which people read them.
        let schema = schemars::Schema::try_from(value).unwrap();
        serde_json::to_string_pretty(&schema).unwrap() + "\n"
    }

    /// Gives each number the limit of its type, where it has none: else it has the form, and cannot be read.
    fn limit(schema: &mut Value) {
        match schema {
            Value::Object(keys) => {
                if keys.get("format").is_some_and(|format| format == "uint32") {
                    keys.entry("maximum").or_insert_with(|| u32::MAX.into());
                }
                keys.values_mut().for_each(limit);
            }
            Value::Array(items) => items.iter_mut().for_each(limit),
            _ => {}
        }
    }

    /// Manifests that have each key at least once, for the form alone.
    fn examples() -> impl Iterator<Item = Value> {
        let text = include_str!("../../../schemas/manifest.examples.yaml");
        text.split("---\n").map(|text| {
            let source = Source::new("schemas/manifest.examples.yaml", text);
            let mut found = Diagnostics::new();
            let document = Document::parse(&source, Format::Yaml, &mut found);
            assert!(found.is_empty(), "{found:?}");
            document.unwrap().root.to_json()
        })
    }

    /// Whether a value is of keys that the schema names: these have examples, it needs none.
    fn is_structured(root: &Value, schema: &Value) -> bool {
        let inner =
            |key: &str| schema[key].as_array().is_some_and(|all| all.iter().any(|one| is_structured(root, one)));
        match schema["$ref"].as_str() {
            Some(to) => is_structured(root, root.pointer(to.trim_start_matches('#')).unwrap()),
            None => {
                schema.get("properties").is_some()
                    || schema.get("items").is_some_and(|items| is_structured(root, items))
                    || schema.get("additionalProperties").is_some_and(|more| is_structured(root, more))
                    || ["anyOf", "oneOf", "allOf"].into_iter().any(inner)
            }
        }
    }

    /// Writes the values of an example to the keys that they are of, below a place in a schema.
    fn exemplify(root: &mut Value, at: &str, example: &Value) {
        let schema = root.pointer(at).unwrap().clone();
        if let Some(to) = schema["$ref"].as_str() {
            return exemplify(root, to.trim_start_matches('#'), example);
        }
        for several in ["anyOf", "oneOf", "allOf"] {
            for number in 0..schema[several].as_array().map_or(0, Vec::len) {
                exemplify(root, &format!("{at}/{several}/{number}"), example);
            }
        }
        if schema.get("items").is_some_and(Value::is_object) {
            example.as_array().into_iter().flatten().for_each(|item| exemplify(root, &format!("{at}/items"), item));
        }
        for (key, value) in example.as_object().into_iter().flatten() {
            let Some(property) = schema["properties"].get(key) else {
                if schema.get("additionalProperties").is_some_and(Value::is_object) {
                    exemplify(root, &format!("{at}/additionalProperties"), value);
                }
                continue;
            };
            let place = format!("{at}/properties/{key}");
            if !is_structured(root, property) {
                let property = root.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                let known = property.entry("examples").or_insert_with(|| Value::Array(Vec::new()));
                let known = known.as_array_mut().unwrap();
                if !known.contains(value) {
                    known.push(value.clone());
                }
            }
            exemplify(root, &place, value);
        }
    }

    #[test]
    fn each_key_has_a_description_and_an_example() {
        fn look(root: &Value, at: &str, schema: &Value, exemplified: bool, missing: &mut Vec<String>) {
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                // What is one of several is described as a whole.
                let is_variant =
                    schema["description"].is_string() && schema["properties"].as_object().unwrap().len() == 1;
                let described = is_variant || property["description"].is_string();
                if !described || exemplified && property.get("examples").is_none() && !is_structured(root, property) {
                    missing.push(format!("{at}.{key}"));
                }
            }
            let schemas = |key: &str| schema[key].as_object().into_iter().flatten();
            let named = schemas("properties").chain(schemas("definitions")).map(|(key, schema)| (key.as_str(), schema));
            let lists = ["anyOf", "oneOf", "allOf"].map(|key| schema[key].as_array().into_iter().flatten());
            let listed = lists.into_iter().flatten().map(|schema| ("one", schema));
            let inner = ["items", "additionalProperties"].map(|key| (key, &schema[key]));
            let inner = inner.into_iter().filter(|(_, schema)| schema.is_object());
            for (key, schema) in named.chain(listed).chain(inner) {
                look(root, &format!("{at}/{key}"), schema, exemplified, missing);
            }
        }
        for example in examples() {
            let faults: Vec<_> =
                of(Kind::Manifest).validator.iter_errors(&example).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{faults:#?}");
        }
        let mut missing = Vec::new();
        for kind in [Kind::Manifest, Kind::Serve, Kind::Deploy, Kind::Policy] {
            let json = &of(kind).json;
            look(json, kind.name(), json, matches!(kind, Kind::Manifest | Kind::Deploy), &mut missing);
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn schemas_are_those_of_the_types() {
        for kind in Kind::ALL {
            let path = format!("{}/schemas/{}.schema.json", env!("CARGO_MANIFEST_DIR"), kind.name());
            if std::env::var_os("EKIBEN_BLESS").is_some() {
                std::fs::write(&path, made(kind)).unwrap();
            } else {
                assert!(kind.text() == made(kind), "{path} is stale: EKIBEN_BLESS=1 cargo test schemas");
                assert!(of(kind).json.is_object());
            }
        }
    }
}
