//! A manifest of the format as one of Ekiben's, which says the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{Archive, OPENAPI, PREDICT, TRAIN};
use crate::formats::analytics::{
    AnalyticsManifest, H2oModel, LayersModel, ModelData, Openapi, PredictionInput, PythonModel, RestApi, Results,
    RoutingKey, TrainingInput,
};
use crate::formats::diagnostic::{Diagnostics, Source};
use crate::formats::dockerfile::{Dockerfile, Kind};
use crate::formats::document::{yaml, yaml_with_notes};
use crate::formats::source;
use crate::project::files::as_glob;
use crate::project::init;

/// Sections, in the order in which a person reads them; before each stands an empty line.
const SECTIONS: [&str; 9] = ["labels", "model", "python", "system", "build", "include", "env", "service", "training"];

/// The text of the manifest.
pub fn text(archive: &Archive, manifest: &AnalyticsManifest) -> String {
    let mut parts = Parts::of(archive, manifest);
    let mut labels = std::mem::take(&mut parts.labels);
    labels.insert("org.opencontainers.image.title".to_owned(), manifest.name.as_str().into());
    if !manifest.tags.is_empty() {
        labels.insert("io.ekiben.tags".to_owned(), manifest.tags.join(",").into());
    }
    parts.say("labels", labels.into(), "");
    let name = Some(init::plain(&manifest.name)).filter(|name| !name.is_empty());
    let mut text = yaml(&json!({ "name": name.as_deref().unwrap_or("model") }));
    // One that the archive does not say follows from those that there are.
    text += &yaml(&json!({ "version": manifest.version.map_or_else(|| "next".into(), Json::from) }));
    if let Some(description) = &manifest.description {
        text += &yaml(&json!({ "description": description }));
    }
    for section in SECTIONS {
        if let Some(said) = parts.said.remove(section) {
            text += "\n";
            text += &yaml_with_notes(&json!({ section: said }), &parts.notes);
        }
    }
    text
}

/// What the kind of a model decides.
#[derive(Default)]
struct Parts {
    said: Map<String, Json>,
    labels: Map<String, Json>,
    notes: BTreeMap<String, String>,
}

impl Parts {
    fn of(archive: &Archive, manifest: &AnalyticsManifest) -> Self {
        let mut parts = Self::default();
        match &manifest.model_data {
            ModelData::Python(python) => parts.python(archive, manifest, python),
            ModelData::H2o(h2o) => parts.h2o(archive, manifest, h2o),
            ModelData::DockerLayers(layers) => parts.layers(archive, layers),
        }
        parts
    }

    fn say(&mut self, key: &str, value: Json, note: &str) {
        self.said.insert(key.to_owned(), value);
        if !note.is_empty() {
            self.notes.insert(format!("/{key}"), note.to_owned());
        }
    }

    fn python(&mut self, archive: &Archive, manifest: &AnalyticsManifest, model: &PythonModel) {
        let has_model = archive.has(&model.model_file);
        if has_model {
            self.say("model", json!({ "files": [model.model_file] }), "The model's file, as the archive has it.");
        }
        let requirements = model.dependencies.iter().map(|dependency| match &dependency.version {
            Some(version) => format!("{}=={version}", dependency.name),
            None => dependency.name.clone(),
        });
        self.say(
            "python",
            json!({ "requirements": requirements.collect::<Vec<_>>() }),
            "Which Python: one that all of these have wheels for.",
        );
        self.include(archive, manifest, &["src"], has_model.then_some(model.model_file.as_str()));
        let mut service = json!({ "predict": format!("{PREDICT}:predict") });
        add(&mut service, "inputs", inputs(manifest));
        add(&mut service, "messages", asked(manifest));
        self.say("service", service, "How it is asked.");
        if archive.has(TRAIN) {
            let text = archive.text(TRAIN).unwrap_or_default();
            let has = |name: &str| !matches!(source::function(&text, name), Err(source::Error::Missing { .. }));
            let mut training = match has("train") {
                true => json!({ "function": format!("{TRAIN}:train") }),
                false => json!({ "command": ["python", TRAIN] }),
            };
            if has("partial_train") {
                training["partial"] = format!("{TRAIN}:partial_train").into();
            }
            self.training(training, manifest, &model.hyperparameters, &model.model_file);
        }
    }

    fn training(
        &mut self,
        mut training: Json,
        manifest: &AnalyticsManifest,
        parameters: &BTreeMap<String, Json>,
        output: &str,
    ) {
        add(&mut training, "data", data(manifest).into());
        if !parameters.is_empty() {
            training["parameters"] = json!(parameters);
        }
        training["output"] = output.into();
        add(&mut training, "messages", trained(manifest));
        self.say("training", training, "How it is trained: `ekiben train`.");
    }

    /// What the archive has besides `folders`, the model and the data set belongs to the code.
    fn include(&mut self, archive: &Archive, manifest: &AnalyticsManifest, folders: &[&str], model: Option<&str>) {
        let data = data(manifest);
        let other = archive.files.keys().filter(|path| {
            let top = path.as_str().split('/').next().unwrap_or_default();
            let is_named = [Some(super::NAME), model, data].contains(&Some(path.as_str()));
            !is_named && !folders.contains(&top)
        });
        let other: Vec<String> = other.map(|path| as_glob(path.as_str())).collect();
        if !other.is_empty() {
            self.say("include", other.into(), "What else the archive has.");
        }
    }

    fn h2o(&mut self, archive: &Archive, manifest: &AnalyticsManifest, model: &H2oModel) {
        let predict = archive.jar(&model.jar_file).unwrap_or_else(|| model.jar_file.clone());
        self.say("system", json!({ "packages": ["openjdk-17-jre-headless"] }), "What runs the jar.");
        self.include(archive, manifest, &["src"], None);
        let parameters: Vec<String> = rest(manifest).map(|(_, name, _)| name.to_owned()).collect();
        let is_model = predict.ends_with(".zip") || predict.ends_with(".java");
        let java = match is_model {
            true => json!({ "model": predict, "genmodel": archive.jar("h2o-genmodel.jar") }),
            false => json!({ "jar": predict, "parameters": parameters }),
        };
        let mut service = json!({ "java": java });
        add(&mut service, "inputs", inputs(manifest));
        add(&mut service, "messages", asked(manifest));
        self.say("service", service, "How it is asked: a program with these, in their order, or a model of h2o's.");
        if let Some(train) = archive.jar("train.jar") {
            let training = json!({ "command": ["java", "-jar", train, "{parameters}"] });
            let output = if is_model { predict.as_str() } else { "model.zip" };
            self.training(training, manifest, &model.hyperparameters, output);
        }
    }

    fn layers(&mut self, archive: &Archive, model: &LayersModel) {
        let text = archive.text("Dockerfile").unwrap_or_default();
        // What is wrong with it is said where it is built.
        let file = Dockerfile::read(&Source::new("Dockerfile", text), &mut Diagnostics::new());
        let is_stage = |name: &str| file.stages.iter().any(|stage| stage.from.name.as_deref() == Some(name));
        let mut build = json!({ "file": "Dockerfile" });
        // A name that is no stage's is the image's.
        if let Some(target) = model.layers.iter().find(|layer| is_stage(&layer.name.to_lowercase())) {
            build["target"] = target.name.as_str().into();
        }
        self.say("build", build, "The image that it is.");
        let env: Map<String, Json> =
            model.env_vars.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        if !env.is_empty() {
            self.say("env", env.into(), "");
        }
        let mut service = json!({ "inherit": true, "ready": "/" });
        add(&mut service, "openapi", description(model).into());
        add(&mut service, "port", port(&file).into());
        self.say("service", service, "The image starts its server itself.");
    }
}

/// The file that describes what an image answers: one of the archive, or what the manifest itself says.
pub fn description(model: &LayersModel) -> Option<&str> {
    match model.openapi.as_ref()? {
        Openapi::File(path) => Some(path),
        Openapi::Inline(_) => Some(OPENAPI),
    }
}

/// The port that a Dockerfile names.
fn port(file: &Dockerfile) -> Option<u16> {
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    instructions
        .filter_map(|instruction| match &instruction.kind {
            Kind::Expose(ports) => ports.first()?.text().split('/').next()?.parse().ok(),
            _ => None,
        })
        .next_back()
}

fn add(to: &mut Json, key: &str, value: Json) {
    let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if !is_empty {
        to[key] = value;
    }
}

/// The parameters of the REST API, in their order.
fn rest(manifest: &AnalyticsManifest) -> impl Iterator<Item = (u32, &str, Option<&str>)> {
    let inputs = manifest.input.iter().flat_map(|input| &input.prediction);
    let api = inputs.filter_map(|input| match input {
        PredictionInput::RestApi(RestApi { parameters }) => Some(parameters),
        PredictionInput::MessageBus(_) => None,
    });
    let mut all: Vec<_> = api
        .flatten()
        .map(|parameter| (parameter.position, parameter.name.as_str(), parameter.description.as_deref()))
        .collect();
    all.sort_by_key(|(position, ..)| *position);
    all.into_iter()
}

fn inputs(manifest: &AnalyticsManifest) -> Json {
    let input = |(_, name, description): (u32, &str, Option<&str>)| {
        let mut input = json!({ "name": name });
        add(&mut input, "description", description.into());
        input
    };
    rest(manifest).map(input).collect()
}

fn keys<'a>(keys: impl Iterator<Item = &'a RoutingKey>) -> Vec<&'a str> {
    keys.map(|key| key.name.as_str()).collect()
}

fn results(results: &[Results]) -> Vec<&str> {
    keys(results.iter().flat_map(|Results::MessageBus(bus)| &bus.routing_keys))
}

/// The messages that ask it.
fn asked(manifest: &AnalyticsManifest) -> Json {
    let inputs = manifest.input.iter().flat_map(|input| &input.prediction);
    let subscribe = keys(inputs.flat_map(|input| match input {
        PredictionInput::MessageBus(bus) => bus.routing_keys.iter(),
        PredictionInput::RestApi(_) => [].iter(),
    }));
    if subscribe.is_empty() {
        return Json::Null;
    }
    let mut messages = json!({ "subscribe": subscribe });
    let publish = manifest.output.as_ref().map(|output| results(&output.prediction)).unwrap_or_default();
    add(&mut messages, "publish", publish.into());
    messages
}

/// The data set that it is trained with.
fn data(manifest: &AnalyticsManifest) -> Option<&str> {
    let mut inputs = manifest.input.iter().flat_map(|input| &input.training);
    inputs.find_map(|input| match input {
        TrainingInput::HistoricData(data) => Some(data.file_name.as_str()),
        TrainingInput::MessageBus(_) => None,
    })
}

/// The messages that it is trained with, and those that tell of it.
fn trained(manifest: &AnalyticsManifest) -> Json {
    let publish = manifest.output.as_ref().map(|output| results(&output.training)).unwrap_or_default();
    let inputs = manifest.input.iter().flat_map(|input| &input.training);
    let mut messages = json!({});
    let mut subscribe = Vec::new();
    for input in inputs {
        if let TrainingInput::MessageBus(bus) = input {
            subscribe.extend(keys(bus.routing_keys.iter()));
            messages["buffer"] = bus.buffer.into();
            if bus.online.is() {
                messages["online"] = true.into();
            }
        }
    }
    if subscribe.is_empty() && publish.is_empty() {
        return Json::Null;
    }
    add(&mut messages, "subscribe", subscribe.into());
    add(&mut messages, "publish", publish.into());
    messages
}
