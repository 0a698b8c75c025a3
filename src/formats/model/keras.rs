//! What Keras's description of a model says (`config.json` of Keras 3, the attribute `model_config` in HDF5): the layers that
//! take something, and those that answer.

use serde_json::Value as Json;

use super::{About, Kind, Tensor};

/// Tensors, and axes of one, that are remembered.
const MOST: usize = 1000;

/// What the description says of the model.
pub fn describe(config: &Json, about: &mut About) {
    let text = |value: &Json, name: &str| value.get(name).and_then(Json::as_str).map(str::to_owned);
    about.class = text(config, "class_name");
    let Some(inner) = config.get("config") else { return };
    about.properties.extend(text(inner, "name").map(|name| ("name".to_owned(), name)));
    // In the first releases the layers of a Sequential were its whole configuration.
    let layers = inner.get("layers").or(Some(inner)).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let name_of = |layer: &Json| text(layer, "name").or_else(|| text(layer.get("config")?, "name")).unwrap_or_default();
    let of_layer = |layer: &Json| {
        let config = layer.get("config")?;
        let shape = ["batch_shape", "batch_input_shape"].iter().find_map(|name| config.get(*name)?.as_array())?;
        Some(Tensor { name: name_of(layer), kind: kind(config.get("dtype")), shape: lengths(shape) })
    };
    let named = |name: &str| layers.iter().find(|layer| name_of(layer) == name);
    let wanted = names(inner.get("input_layers"));
    about.inputs = if wanted.is_empty() {
        let first = layers.first().and_then(of_layer);
        let built = || {
            let shape = config.pointer("/build_config/input_shape").or_else(|| inner.get("build_input_shape"))?;
            let kind = kind(layers.first()?.pointer("/config/dtype"));
            Some(Tensor { name: String::new(), kind, shape: lengths(shape.as_array()?) })
        };
        first.or_else(built).into_iter().collect()
    } else {
        wanted.iter().filter_map(|name| of_layer(named(name)?)).collect()
    };
    let answering = match names(inner.get("output_layers")) {
        names if names.is_empty() => layers.last().map(name_of).into_iter().collect(),
        names => names,
    };
    let output = |name: String| {
        let kind = named(&name).and_then(|layer| kind(layer.pointer("/config/dtype")));
        Tensor { name, kind, shape: Vec::new() }
    };
    about.outputs = answering.into_iter().map(output).collect();
    let foreign = layers.iter().chain([config]).filter_map(|layer| {
        let class = text(layer, "class_name")?;
        let module = text(layer, "module");
        let registered = text(layer, "registered_name").filter(|name| name.contains('>') || module.is_none());
        let is_own = module.as_deref().is_some_and(|module| module == "keras" || module.starts_with("keras."));
        registered.or_else(|| Some(format!("{}.{class}", module?)).filter(|_| !is_own))
    });
    about.untrusted = foreign.take(MOST).collect();
    about.untrusted.sort();
    about.untrusted.dedup();
}

/// Names of layers: one `["x", 0, 0]`, a list of such, or such by names.
fn names(value: Option<&Json>) -> Vec<String> {
    let name = |layer: &Json| layer.get(0).and_then(Json::as_str).map(str::to_owned);
    match value {
        Some(Json::Array(list)) if list.first().is_some_and(Json::is_string) => {
            value.and_then(name).into_iter().collect()
        }
        Some(Json::Array(list)) => list.iter().take(MOST).filter_map(name).collect(),
        Some(Json::Object(map)) => map.values().take(MOST).filter_map(name).collect(),
        _ => Vec::new(),
    }
}

fn lengths(shape: &[Json]) -> Vec<Option<u64>> {
    shape.iter().take(MOST).map(Json::as_u64).collect()
}

/// The type of what a layer takes: a name, or a policy with one.
fn kind(dtype: Option<&Json>) -> Option<Kind> {
    const NUMBERS: [&str; 12] = [
        "float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64",
        "bool",
    ];
    let name = dtype?.as_str().or_else(|| dtype?.pointer("/config/name")?.as_str())?;
    if name == "string" {
        return Some(Kind::Text);
    }
    NUMBERS.iter().find(|known| **known == name).map(|known| Kind::Number(known))
}
