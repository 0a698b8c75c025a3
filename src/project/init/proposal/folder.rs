//! Models that are folders: MLflow's (<https://mlflow.org/docs/latest/ml/model/>), and those of transformers and
//! sentence-transformers, which say in JSON what they are.

use std::path::Path;
use std::str::FromStr;

use pep508_rs::{Requirement, VerbatimUrl};
use serde_json::Value as Json;

use super::code::VALUE;
use super::input::{Column, Input};
use super::releases::{self, Range};
use super::{Pin, Proposal, literal, pickled, plain_name};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{Document, MAX_BYTES, read_text, shown};
use crate::formats::model::{self, Origin};
use crate::formats::python::PythonVersion;
use crate::io::archive::ArchivePath;
use crate::project::validate::PYTHONS;

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model as MLflow logs it.
    Mlflow,
    /// A model of sentence-transformers.
    SentenceTransformers,
    /// A model of transformers.
    Transformers,
    /// A project of Ekiben's.
    Project,
    /// A bento.
    Bento,
    /// TensorFlow's SavedModel.
    SavedModel,
}

/// What a folder is, by the names of what lies in it. None where it is just a folder.
pub fn recognise(folder: &Path) -> Option<Kind> {
    let has = |name: &str| folder.join(name).is_file();
    if crate::project::manifest::NAMES.iter().any(|name| has(name)) {
        Some(Kind::Project)
    } else if has(crate::formats::bento::NAME) {
        Some(Kind::Bento)
    } else if has("MLmodel") {
        Some(Kind::Mlflow)
    } else if has("modules.json") && (has("config_sentence_transformers.json") || has("sentence_bert_config.json")) {
        Some(Kind::SentenceTransformers)
    } else if has("config.json") && read(&folder.join("config.json")).is_some_and(|c| c.get("model_type").is_some()) {
        Some(Kind::Transformers)
    } else if has("saved_model.pb") {
        Some(Kind::SavedModel)
    } else {
        None
    }
}

/// The proposal for the model `folder`, which will lie at `place` in the project. None where it cannot be read.
pub fn of_folder(kind: Kind, folder: &Path, place: &str) -> Option<Proposal> {
    let at = format!("MODEL / {}", literal(place));
    match kind {
        Kind::Mlflow => mlflow(folder, place),
        Kind::SentenceTransformers => Some(sentence_transformers(folder, &at)),
        Kind::Transformers => transformers(folder, &at),
        Kind::SavedModel => Some(Proposal::of_unknown(place)),
        Kind::Project | Kind::Bento => None,
    }
}

/// A document of the folder's, as far as it can be read.
fn read(path: &Path) -> Option<Json> {
    let document = Document::read(path, &shown(path), MAX_BYTES, &mut Diagnostics::new())?;
    Some(document.root.to_json())
}

fn text<'a>(value: &'a Json, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

fn mlflow(folder: &Path, place: &str) -> Option<Proposal> {
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

/// Packages of a version that a document names, or without one.
fn versioned(proposal: &mut Proposal, package: &str, version: Option<&str>, source: &str) {
    match version.and_then(releases::version) {
        Some(version) => {
            proposal.requirements.push(Pin::new(format!("{package}=={version}"), format!("{source} says so")));
            // There are no wheels of earlier ones for Python 3.11, and they cannot read arrays of NumPy 2.
            if package == "torch" && version.release().first().is_some_and(|major| *major < 2) {
                let who = format!("torch {version} runs");
                proposal.python = releases::python(&[Range { from: 7, to: 10, who }], "").0;
            }
            if package == "torch" && version.release() < [2, 3].as_slice() {
                proposal.requirements.push(Pin::new("numpy<2", format!("torch {version} was made for it")));
            }
        }
        None => {
            proposal.require(package, "runs the model");
            proposal.unknown.push(format!("which version saved it of {package}: `ekiben lock` takes the newest"));
        }
    }
}

fn sentence_transformers(folder: &Path, at: &str) -> Proposal {
    const CONFIG: &str = "config_sentence_transformers.json";
    let config = read(&folder.join(CONFIG)).unwrap_or_default();
    let version = |package: &str| text(&config, &format!("/__version__/{package}"));
    let own = version("sentence_transformers").and_then(releases::version);
    let framework = own.map_or_else(|| "sentence-transformers".to_owned(), |v| format!("sentence-transformers {v}"));
    let mut proposal = Proposal::empty(&framework);
    versioned(&mut proposal, "sentence-transformers", version("sentence_transformers"), CONFIG);
    versioned(&mut proposal, "transformers", version("transformers"), CONFIG);
    versioned(&mut proposal, "torch", version("pytorch"), CONFIG);
    proposal.class = Some("SentenceTransformer".to_owned());
    proposal.import("from sentence_transformers import SentenceTransformer");
    proposal.code.load = format!("model = SentenceTransformer(str({at}))");
    proposal.take(Input::Texts);
    proposal.answer("predict", &format!("return model.encode({VALUE})"));
    weights(folder, &mut proposal);
    proposal
}

fn transformers(folder: &Path, at: &str) -> Option<Proposal> {
    let config = read(&folder.join("config.json"))?;
    let class = plain_name(text(&config, "/architectures/0").unwrap_or_default());
    let saved = text(&config, "/transformers_version");
    let framework =
        saved.and_then(releases::version).map_or_else(|| "transformers".to_owned(), |v| format!("transformers {v}"));
    let mut proposal = Proposal::empty(&framework);
    versioned(&mut proposal, "transformers", saved, "config.json");
    versioned(&mut proposal, "torch", None, "config.json");
    let task = [
        ("ForSequenceClassification", "text-classification"),
        ("ForTokenClassification", "token-classification"),
        ("ForMaskedLM", "fill-mask"),
        ("ForCausalLM", "text-generation"),
        ("LMHeadModel", "text-generation"),
    ]
    .into_iter()
    .find_map(|(end, task)| class.ends_with(end).then_some(task));
    proposal.import("from transformers import pipeline");
    match task {
        Some(task) => {
            proposal.code.load = format!("model = pipeline(\"{task}\", model=str({at}))");
            proposal.take(Input::Texts);
            proposal.answer("predict", &format!("return model({VALUE})"));
            if task == "fill-mask" {
                proposal.tests.clear();
                proposal.unknown.push("which word the model takes for the mask, so there is no example".to_owned());
            }
        }
        None => {
            proposal.take(Input::Unknown);
            let what = if class.is_empty() { "the model".to_owned() } else { class.clone() };
            let why = format!("say in src/predict.py how {what} is loaded and asked");
            proposal.leave_open("load the model and call it here", why);
        }
    }
    if !["tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model"].iter().any(|n| folder.join(n).exists())
        && task.is_some()
    {
        proposal.open.push("the folder has no tokenizer: save that into it as well".to_owned());
    }
    proposal.class = Some(class).filter(|class| !class.is_empty());
    weights(folder, &mut proposal);
    Some(proposal)
}

fn weights(folder: &Path, proposal: &mut Proposal) {
    let names =
        ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json"];
    let has = |folder: &Path| names.iter().any(|name| folder.join(name).is_file());
    if !has(folder) && !has(&folder.join("0_Transformer")) {
        proposal.open.push("the folder has no weights (model.safetensors or pytorch_model.bin)".to_owned());
    }
}
