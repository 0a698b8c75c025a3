//! Projects of Cog's (<https://github.com/replicate/cog/blob/main/docs/yaml.md>): a predictor, and what it stands on.

use std::path::Path;

use serde_json::Value as Json;

use super::document::{read, text};
use super::serve::{Answering, Default, OWN, calling, is_name, texts};
use super::{Proposal, plain_name};
use crate::formats::classes::{Method, Operand};
use crate::formats::source;

/// What describes one.
pub const NAME: &str = "cog.yaml";

/// The proposal for the project of Cog's in `folder`, whose files will lie beside our code. None where it cannot be read.
pub fn propose(folder: &Path) -> Option<Proposal> {
    let description = read(&folder.join(NAME))?;
    let mut proposal = Proposal::empty("Cog");
    proposal.use_python(text(&description, "/build/python_version"), NAME);
    if let Some(file) = text(&description, "/build/python_requirements") {
        proposal.require_file(folder, file);
    }
    proposal.require_lines(texts(&description, "/build/python_packages").into_iter(), "cog.yaml names it");
    proposal.use_packages(texts(&description, "/build/system_packages").into_iter(), NAME);
    let runs = description.pointer("/build/run").or_else(|| description.pointer("/build/pre_install"));
    if runs.and_then(Json::as_array).is_some_and(|commands| !commands.is_empty()) {
        proposal.open.push(
            "cog.yaml runs commands while it builds, which nothing here does: do what they do in another way"
                .to_owned(),
        );
    }
    if description.pointer("/build/gpu").and_then(Json::as_bool) == Some(true) {
        proposal.unknown.push(
            "whether it answers without a GPU, which cog.yaml asks for: `ekiben test --gpus all` lends it one"
                .to_owned(),
        );
    }
    let entry = text(&description, "/predict").or_else(|| text(&description, "/run")).unwrap_or("predict.py:Predictor");
    let (path, name) = entry.split_once(':').unwrap_or((entry, "Predictor"));
    let answering = Answering::read(folder, path).filter(|_| is_name(name));
    let Some(answering) = answering else {
        let entry = super::plain_path(entry);
        proposal.leave_open(
            "call the predictor here",
            format!("cog.yaml names {entry}, which cannot be read: call it in src/predict.py"),
        );
        return Some(proposal);
    };
    proposal.require_unless("cog", &format!("{} imports it", answering.path));
    proposal.class = Some(plain_name(name));
    let class = answering.classes.classes.iter().find(|class| class.name == name);
    let function = answering.classes.functions.iter().rev().find(|function| function.signature.name == name);
    // `run` is what newer releases call `predict`.
    let method = class.and_then(|class| class.method("predict").or_else(|| class.method("run")));
    let (called, setup, skip, method) = match (class, method, function) {
        (Some(class), Some(method), _) => {
            let make = format!("predictor = {OWN}.{name}()");
            let setup = match class.method("setup") {
                Some(setup) if setup.signature.is_async => {
                    format!("import asyncio\n\n{make}\nasyncio.run(predictor.setup())")
                }
                Some(_) => format!("{make}\npredictor.setup()"),
                None => make,
            };
            (format!("predictor.{}", method.signature.name), setup, 1, method)
        }
        (None, _, Some(function)) => (format!("{OWN}.{name}"), String::new(), 0, function),
        _ => {
            let why =
                format!("{} has no class {name} with `predict`: call what it has in src/predict.py", answering.path);
            proposal.leave_open("call the predictor here", why);
            return Some(proposal);
        }
    };
    let (before, setup) = match setup.strip_prefix("import asyncio\n\n") {
        Some(setup) => ("import asyncio\n", setup.to_owned()),
        None => ("", setup),
    };
    let function = calling(&answering, "predict", &called, method, skip, |parameter| default(method, parameter));
    proposal.answer_with(&answering, before, &setup, vec![("predict".to_owned(), function)]);
    Some(proposal)
}

/// What a parameter has by default, in `Input(default=…, choices=…)` or by itself, and which values it takes.
fn default(method: &Method, parameter: &source::Parameter) -> (Default, Option<Vec<Json>>) {
    let given = method.defaults.iter().find(|default| default.name == parameter.name).map(|default| &default.value);
    let Some(Operand::Call(call)) =
        given.filter(|value| matches!(value, Operand::Call(call) if call.last_name() == "Input"))
    else {
        return (
            match given {
                None => Default::None,
                Some(Operand::Value(value)) => Default::Value(value.clone()),
                Some(_) => Default::Unknown,
            },
            None,
        );
    };
    let choices = match call.argument("choices", None) {
        Some(Operand::Value(Json::Array(choices))) => Some(choices.clone()),
        _ => None,
    };
    let default = match call.argument("default", Some(0)) {
        None => Default::None,
        Some(Operand::Value(value)) => Default::Value(value.clone()),
        // What stands there has a name; nobody but the code knows its value, and `Input` hides it from a call.
        Some(_) => Default::None,
    };
    (default, choices)
}
