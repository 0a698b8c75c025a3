//! Models that MLflow logged (<https://mlflow.org/docs/latest/ml/model/>).

use std::path::Path;
use std::str::FromStr;

use pep508_rs::{Requirement, VerbatimUrl};
use serde_json::Value as Json;

use super::code::VALUE;
use super::document::{read, text};
use super::input::{Column, Input};
use super::{Pin, Proposal, literal, pickled, plain_name};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{MAX_BYTES, read_text};
use crate::formats::model::{self, Origin};
use crate::formats::python::PythonVersion;
use crate::io::archive::ArchivePath;
use crate::project::validate::PYTHONS;

/// The proposal for what MLflow logged in `folder`, which will lie at `place`. None where `MLmodel` cannot be read.
pub fn propose(folder: &Path, place: &str) -> Option<Proposal> {
    let description = read(&folder.join("MLmodel"))?;
    let flavor = |name: &str, key: &str| text(&description, &format!("/flavors/{name}/{key}"));
    // MLflow 3 also saves in the format of skops, which is no pickle.
    let pickled = matches!(flavor("sklearn", "serialization_format"), None | Some("pickle" | "cloudpickle"));
    let pickle = flavor("sklearn", "pickled_model").filter(|_| pickled);
    let pickle = pickle.and_then(|path| ArchivePath::relative(path).ok());
    let pickle = pickle.filter(|path| path.under(folder).is_file());
    let mut proposal = match &pickle {
        Some(path) => {
            let host = path.under(folder);
            let size = host.metadata().ok()?.len();
            let model = model::inspect(&Origin::File(&host), path.as_str(), size).ok()?;
            pickled::propose(&model, &format!("MODEL / {}", literal(&format!("{place}/{path}"))))
        }
        None => {
            let loader = plain_name(flavor("python_function", "loader_module").unwrap_or("mlflow"));
            let mut proposal = Proposal::empty(&format!("MLflow ({loader})"));
            proposal.import("import mlflow.pyfunc");
            proposal.code.load = format!("model = mlflow.pyfunc.load_model(str(MODEL / {}))", literal(place));
            proposal.take(Input::Unknown);
            proposal.answer("predict", &format!("return model.predict({VALUE})"));
            proposal
        }
    };
    if let Some(input) = signature(&description, folder) {
        // What the signature says goes before what the pickle shows, as requests are checked against it.
        proposal.take(input);
    }
    required(folder, pickle.is_some(), &mut proposal);
    let python = flavor("python_function", "python_version").and_then(PythonVersion::of_release);
    match python {
        Some(python) if PYTHONS.contains(&python) => {
            proposal.python = Pin::new(python.to_string(), "MLmodel says that it was saved with this one");
        }
        Some(python) => {
            proposal.open.push(format!("it was saved with Python {python}, with which no image can be built"));
        }
        None => {}
    }
    Some(proposal)
}

/// What the signature of an MLflow model says that it takes, with the example that was saved along.
fn signature(description: &Json, folder: &Path) -> Option<Input> {
    let inputs: Json = serde_json::from_str(text(description, "/signature/inputs")?).ok()?;
    let example = text(description, "/saved_input_example_info/artifact_path")
        .and_then(|path| ArchivePath::relative(path).ok())
        .and_then(|path| read(&path.under(folder)));
    let first = |key: &str| example.as_ref()?.pointer(&format!("/{key}/0")).cloned();
    let columns = inputs.as_array()?;
    if let Some([-1, width]) = columns.first().and_then(|spec| {
        let shape = spec.pointer("/tensor-spec/shape")?.as_array()?;
        let lengths = shape.iter().map(Json::as_i64).collect::<Option<Vec<_>>>()?;
        <[i64; 2]>::try_from(lengths).ok()
    }) {
        let width = usize::try_from(width).ok().filter(|width| *width <= 1000)?;
        let row = first("inputs").and_then(|row| row.as_array().cloned()).filter(|row| row.len() == width);
        return Some(Input::Rows(row.unwrap_or_else(|| vec![0.0.into(); width])));
    }
    let data = first("data").and_then(|row| row.as_array().cloned());
    let named = columns.iter().enumerate().map(|(at, column)| {
        let seen = data.as_ref().and_then(|row| row.get(at)).filter(|value| !value.is_null()).cloned();
        let usual = match column.get("type")?.as_str()? {
            "double" | "float" => 0.0.into(),
            "integer" | "long" => 0.into(),
            "boolean" => false.into(),
            "string" => "".into(),
            _ => return None,
        };
        Some(Column::new(column.get("name")?.as_str()?, seen.unwrap_or(usual)))
    });
    let named = named.collect::<Option<Vec<_>>>().filter(|named| !named.is_empty() && named.len() <= 1000)?;
    Some(Input::Columns(named))
}

/// The requirements that MLflow wrote down go before those that the pickle shows.
fn required(folder: &Path, direct: bool, proposal: &mut Proposal) {
    let path = folder.join("requirements.txt");
    let listed = read_text(&path, "requirements.txt", MAX_BYTES, &mut Diagnostics::new());
    let lines: Vec<String> = match listed {
        Some(source) => source.text().lines().map(str::to_owned).collect(),
        None => {
            let conda = read(&folder.join("conda.yaml")).unwrap_or_default();
            let parts = conda.get("dependencies").and_then(Json::as_array).cloned().unwrap_or_default();
            let pip = parts.iter().filter_map(|part| part.get("pip")?.as_array()).flatten();
            pip.filter_map(|line| line.as_str().map(str::to_owned)).collect()
        }
    };
    let mut pins = Vec::new();
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        match Requirement::<VerbatimUrl>::from_str(line) {
            // MLflow is there to load the model, which a pickle of scikit-learn does not need.
            Ok(requirement) if direct && matches!(requirement.name.as_ref(), "mlflow" | "mlflow-skinny") => {}
            Ok(_) => pins.push(Pin::new(line, "MLflow wrote it down")),
            Err(_) => proposal.unknown.push(format!(
                "what a line of MLflow's requirements is for, which was left out: {:?}",
                line.chars().take(60).collect::<String>()
            )),
        }
    }
    if pins.is_empty() {
        proposal.unknown.push("which packages it needs: MLflow wrote none down".to_owned());
        if !direct {
            proposal.require("mlflow", "loads the model");
        }
        return;
    }
    proposal.unknown.retain(|unknown| !unknown.starts_with("which version saved it"));
    for pin in std::mem::replace(&mut proposal.requirements, pins) {
        let name = |text: &str| Requirement::<VerbatimUrl>::from_str(text).map(|r| r.name.to_string()).ok();
        let own = name(&pin.text);
        if !proposal.requirements.iter().any(|listed| name(&listed.text) == own) {
            proposal.requirements.push(pin);
        }
    }
}
