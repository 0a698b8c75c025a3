//! What belongs to a manifest: the code that it is trained and asked by, with the parameters that it declares.

use std::sync::Arc;

use super::{Archive, PREDICT, TRAIN};
use crate::formats::analytics::{
    AnalyticsManifest, H2oModel, LayersModel, ModelData, PredictionInput, PythonModel, RestApi, TrainingInput,
};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::document::Document;
use crate::formats::source::{self, ParameterKind, Signature};
use crate::io::archive::ArchivePath;
use crate::io::suggest::{closest, did_you_mean};
use crate::project::manifest::NAMES;

/// Looks for what is missing, or does not fit; it goes to `found`.
pub fn check(archive: &Archive, document: &Document, manifest: &AnalyticsManifest, found: &mut Diagnostics) {
    for (at, name) in manifest.files() {
        if ArchivePath::relative(name).is_err() {
            let message = format!("`{name}` leaves the folder of the manifest");
            found.push(document.at(Code::PathLeaves, &at, message));
        }
    }
    if let Some(own) = NAMES.iter().find(|name| archive.has(name)) {
        let message = format!("there is {own} as well, which says what `ekiben build` of the unpacked folder makes");
        found.push(document.at_key(Code::TwoManifests, "", message).help(format!("take {own} out of the archive")));
    }
    match &manifest.model_data {
        ModelData::Python(python) => python_model(archive, document, manifest, python, found),
        ModelData::H2o(h2o) => h2o_model(archive, document, h2o, found),
        ModelData::DockerLayers(layers) => layers_model(archive, document, layers, found),
    }
}

/// Says that a file is missing, and which one may be meant.
fn missing(archive: &Archive, diagnostic: Diagnostic, path: &str) -> Diagnostic {
    let names: Vec<String> = archive.files.keys().map(ToString::to_string).collect();
    let name = path.rsplit('/').next().unwrap_or_default();
    let elsewhere = names.iter().find(|other| other.rsplit('/').next() == Some(name));
    match elsewhere.cloned().or_else(|| closest(path, &names).map(str::to_owned)) {
        Some(near) => diagnostic.help(format!("there is `{near}`: put it at `{path}`")),
        None => diagnostic,
    }
}

fn python_model(
    archive: &Archive,
    document: &Document,
    manifest: &AnalyticsManifest,
    model: &PythonModel,
    found: &mut Diagnostics,
) {
    let input = manifest.input.clone().unwrap_or_default();
    match read(archive, PREDICT, "predict", found) {
        None => {
            let message = format!("there is no `{PREDICT}`, which asks the model");
            let error = document.at_key(Code::NoFile, "/modelData", message);
            found.push(missing(archive, error, PREDICT));
        }
        Some((text, Ok(signature))) => {
            for (number, input) in input.prediction.iter().enumerate() {
                if let PredictionInput::RestApi(api) = input {
                    let at = format!("/input/prediction/{number}/payload/parameters");
                    parameters(document, api, &at, &text, &signature, found);
                }
            }
        }
        Some((text, Err(error))) => function_lacks(document, "/modelData", PREDICT, &text, &error, found),
    }
    let has_model = archive.has(&model.model_file);
    match read(archive, TRAIN, "train", found) {
        None if !input.training.is_empty() || !has_model => {
            let (at, message) = match input.training.is_empty() {
                true => (
                    "/modelData/payload/modelFile",
                    format!("`{}` is not there, and there is no `{TRAIN}` that makes it", model.model_file),
                ),
                false => ("/input/training", format!("there is no `{TRAIN}`, which trains the model")),
            };
            found.push(missing(archive, document.at_key(Code::NoFile, at, message), TRAIN));
        }
        None | Some((_, Ok(_))) => {}
        Some((_, Err(source::Error::Missing { .. } | source::Error::Opaque { .. }))) => {}
        Some((text, Err(error))) => function_lacks(document, "/modelData", TRAIN, &text, &error, found),
    }
    for (number, input) in input.training.iter().enumerate() {
        let TrainingInput::MessageBus(bus) = input else { continue };
        let learns = || archive.text(TRAIN).is_some_and(|text| source::function(&text, "partial_train").is_ok());
        if bus.online.is() && archive.has(TRAIN) && !learns() {
            let at = format!("/input/training/{number}/payload/online");
            let message = format!("nothing says how the model learns from a message: {TRAIN} has no `partial_train`");
            let error = document.at(Code::Untrainable, &at, message);
            found.push(error.help("write `def partial_train(model, record)`, which returns the model"));
        }
    }
}

/// A file of the archive, and the function in it.
fn read(
    archive: &Archive,
    path: &str,
    function: &str,
    found: &mut Diagnostics,
) -> Option<(Arc<Source>, Result<Signature, source::Error>)> {
    if !archive.has(path) {
        return None;
    }
    let shown = format!("{}/{path}", archive.shown);
    let Some(text) = archive.text(path) else {
        found.push(Diagnostic::of_file(Code::NotUtf8, shown, "the file is not UTF-8"));
        return None;
    };
    let source = Source::new(shown, text);
    let read = source::function(source.text(), function);
    Some((source, read))
}

/// Says why there is no function.
fn function_lacks(
    document: &Document,
    at: &str,
    path: &str,
    text: &Arc<Source>,
    error: &source::Error,
    found: &mut Diagnostics,
) {
    found.push(match error {
        source::Error::Missing { name, functions } => {
            let error = document.at_key(Code::NoFunction, at, format!("there is no function `{name}` in {path}"));
            match closest(name, functions) {
                Some(near) => error.label(did_you_mean(near)),
                None if functions.is_empty() => error,
                None => error.help(format!("the functions in it are {}", functions.join(", "))),
            }
        }
        source::Error::Syntax { position, message } => {
            let start = text.offset(position.line, position.column);
            let message = format!("the syntax is wrong: {}", message.to_lowercase());
            Diagnostic::new(Code::PythonSyntax, text, start..start, message)
        }
        other => Diagnostic::new(Code::OpaqueFunction, text, 0..0, other.to_string()),
    });
}

/// Each parameter that is declared is one of the function's, and each that the function needs is declared.
fn parameters(
    document: &Document,
    api: &RestApi,
    at: &str,
    text: &Arc<Source>,
    signature: &Signature,
    found: &mut Diagnostics,
) {
    if signature.decorated {
        return;
    }
    let start = text.offset(signature.position.line, signature.position.column);
    let here = start..start + signature.name.len();
    let also = |error: Diagnostic| error.also(text, here.clone(), "the function is here");
    let own = signature.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Named);
    let names: Vec<String> = own.clone().map(|parameter| parameter.name.clone()).collect();
    for (number, parameter) in api.parameters.iter().enumerate() {
        if !signature.takes(&parameter.name) {
            let message = format!("`{}` is no parameter of `predict`", parameter.name);
            let error = document.at(Code::NoParameter, &format!("{at}/{number}/name"), message);
            found.push(also(match closest(&parameter.name, &names) {
                Some(near) => error.label(did_you_mean(near)),
                None => error,
            }));
        }
    }
    for parameter in own.filter(|parameter| parameter.required) {
        if !api.parameters.iter().any(|declared| declared.name == parameter.name) {
            let message = format!("`predict` needs `{}`, which is not among the parameters", parameter.name);
            found.push(also(document.at_key(Code::NoParameter, at, message)));
        }
    }
}

fn h2o_model(archive: &Archive, document: &Document, model: &H2oModel, found: &mut Diagnostics) {
    if ArchivePath::relative(&model.jar_file).is_ok() && archive.jar(&model.jar_file).is_none() {
        let at = "/modelData/payload/jarFile";
        let error = document.at(Code::NoFile, at, format!("there is no file `{}`", model.jar_file));
        found.push(missing(archive, error, &model.jar_file));
    }
}

fn layers_model(archive: &Archive, document: &Document, _: &LayersModel, found: &mut Diagnostics) {
    if !archive.has("Dockerfile") {
        let error = document.at_key(Code::NoFile, "/modelData", "there is no `Dockerfile`, whose image it is");
        found.push(missing(archive, error, "Dockerfile"));
    }
}
