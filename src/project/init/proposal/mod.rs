//! What a project for a model would be: requirements, Python, service and tests, each with its reason, from what the
//! model's files say of themselves. What they do not say is said as well.
//!
//! Invariants: files are read as data, never loaded; the same files give the same proposal. Foreign names get into code,
//! YAML and messages only quoted or stripped.

mod bentoml;
mod booster;
mod code;
mod cog;
mod diffusers;
mod document;
mod estimator;
mod fastai;
mod fasttext;
mod folder;
mod frame;
mod gensim;
mod input;
mod mlflow;
mod net;
mod peft;
mod pickled;
mod releases;
mod scoring;
mod sentences;
mod series;
mod serve;
mod several;
mod spacy;
mod statistics;
mod tensors;
mod tokenizer;
mod torch;
mod transformers;
mod written;

use serde::Serialize;
use serde_json::{Value as Json, json};

pub use code::{Texts, Words};
pub use folder::{DESCRIPTIONS, Kind, of_folder, of_service, recognise, unserved};
pub use net::Module;

use crate::formats::model::{Format, Model};
use booster::Maker;
use code::{Code, Function, Parameter, Preparation, VALUE};
use input::{Array, Given, Input};
use scoring::Scoring;

/// Something that is proposed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// A requirement, a version, the name of a package.
    pub text: String,
    /// Why: a fragment.
    pub reason: String,
}

impl Pin {
    fn new(text: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { text: text.into(), reason: reason.into() }
    }
}

/// What a project would be made of.
#[derive(Clone, Debug, Serialize)]
pub struct Proposal {
    /// What made the model, with its version where that is known: `scikit-learn 1.5.2`.
    pub framework: String,
    /// What it is: `Pipeline (StandardScaler, LogisticRegression)`.
    pub class: Option<String>,
    /// What it takes, in words.
    pub input: String,
    /// Which Python.
    pub python: Pin,
    /// Python packages.
    pub requirements: Vec<Pin>,
    /// Debian packages.
    pub packages: Vec<Pin>,
    /// Variables of the environment.
    #[serde(skip)]
    env: Vec<(String, String)>,
    /// Requests to try it with.
    pub tests: Vec<Example>,
    /// What is to be done before it can answer.
    pub open: Vec<String>,
    /// What could not be known.
    pub unknown: Vec<String>,
    /// Modules of the person's own that loading imports.
    #[serde(skip)]
    pub modules: Vec<String>,
    /// The module of a class of which only its code can tell what can be asked.
    #[serde(skip)]
    asked: Option<String>,
    /// Tensors whose net was not found yet.
    #[serde(skip)]
    tensors: Option<net::Tensors>,
    /// What answers as MLflow's scoring server does.
    #[serde(skip)]
    scoring: Option<Scoring>,
    #[serde(skip)]
    code: Code,
}

/// A request to try a model with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// The JSON that is sent.
    pub request: Json,
    /// Whether the service has to refuse it.
    pub refused: bool,
    /// Where it is sent, if not to `/predict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'static str>,
}

impl Proposal {
    /// Nothing is known but how `file` may be loaded.
    fn empty(framework: &str) -> Self {
        let (python, _) = releases::python(&[], "any will do, as far as the model shows");
        Self {
            framework: framework.to_owned(),
            class: None,
            input: String::new(),
            python,
            requirements: Vec::new(),
            packages: Vec::new(),
            env: Vec::new(),
            tests: Vec::new(),
            open: Vec::new(),
            unknown: Vec::new(),
            modules: Vec::new(),
            asked: None,
            tensors: None,
            scoring: None,
            code: Code::default(),
        }
    }

    /// What a project without a model begins with.
    pub fn of_nothing() -> Self {
        let mut proposal = Self::empty("unknown");
        proposal.take(Input::Unknown);
        proposal.leave_open("call the model here", "call the model in the function");
        proposal
    }

    /// What a project begins with whose model's file nobody here knows.
    fn of_unknown(path: &str) -> Self {
        let mut proposal = Self::empty("unknown format");
        proposal.take(Input::Unknown);
        proposal.leave_open(
            "load the model and call it here",
            format!(
                "{} is of no format that is known here: load and call it in src/predict.py, and name the packages that do \
                 so in requirements.txt",
                literal(path)
            ),
        );
        proposal
    }

    /// What holds for all models: packages that the hardware has use for, and what is not known of their versions.
    fn suit(&mut self, hardware: Hardware) {
        if hardware == Hardware::Processors {
            self.requirements.iter_mut().for_each(releases::without_gpus);
        }
        let bare = |pin: &&Pin| pin.text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let unpinned: Vec<&str> = self
            .requirements
            .iter()
            .filter(bare)
            .map(|pin| pin.text.as_str())
            .filter(|name| *name != "numpy")
            .collect();
        let is_told = self.unknown.iter().any(|unknown| unknown.starts_with("which version"));
        if !unpinned.is_empty() && !is_told {
            let told = format!("which version of {} is needed: `ekiben lock` takes the newest", unpinned.join(", "));
            self.unknown.push(told);
        }
    }

    /// Whether it can answer as it is.
    pub fn is_ready(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the function is to be written yet.
    pub fn is_unwritten(&self) -> bool {
        self.code.functions.iter().any(|function| function.statements.contains("raise NotImplementedError("))
    }

    fn require(&mut self, package: &str, reason: &str) {
        let has = |pin: &Pin| pin.text.split(['=', '<', '>']).next() == Some(package);
        if !self.requirements.iter().any(has) {
            self.requirements.push(Pin::new(package, reason));
        }
    }

    /// Notes what the model takes, with requests to try it. What was noted before is forgotten.
    fn take(&mut self, input: Input) {
        let code = &mut self.code;
        code.preparation = Preparation::None;
        self.tests.clear();
        self.unknown.retain(|unknown| !unknown.starts_with("what the model "));
        let example =
            |name: &str, request: Json, refused| Example { name: name.to_owned(), request, refused, path: None };
        let (parameter, hint) = match &input {
            Input::Rows(row) if row.iter().all(Json::is_number) => ("features", "list[list[float]]"),
            Input::Rows(_) => ("features", "list[list[Any]]"),
            Input::Columns(_) | Input::Records => ("rows", "list[dict[str, Any]]"),
            Input::Texts => ("texts", "list[str]"),
            Input::Tensors(_) | Input::Given(_) | Input::Unknown => ("features", "Any"),
        };
        let mut tensors = Vec::new();
        match input {
            Input::Rows(row) => {
                let numbers = row.iter().all(Json::is_number);
                let values = match (numbers, row.len()) {
                    (true, 1) => "number",
                    (true, _) => "numbers",
                    (false, 1) => "value",
                    (false, _) => "values",
                };
                self.input = format!("rows of {} {values}", row.len());
                code.preparation = Preparation::Width(row.len());
                let short: Vec<_> = row.iter().skip(1).cloned().collect();
                self.tests = vec![
                    example(&format!("one row of {} {values}", row.len()), json!({ parameter: [row] }), false),
                    example("a row that is too short", json!({ parameter: [short] }), true),
                ];
            }
            Input::Columns(columns) => {
                self.input = format!("rows of {} named columns", columns.len());
                let row: serde_json::Map<String, Json> =
                    columns.iter().map(|column| (column.name.clone(), column.example.clone())).collect();
                code.preparation = Preparation::Table(columns);
                self.tests = vec![
                    example("one row with all columns", json!({ parameter: [row] }), false),
                    example("a row without columns", json!({ parameter: [{}] }), true),
                ];
                self.import("import pandas");
                self.require("pandas", "makes tables of requests, as the model was trained with them");
            }
            Input::Texts => {
                self.input = "texts".to_owned();
                self.tests = vec![
                    example("one text", json!({ parameter: ["an example"] }), false),
                    example("a number is no text", json!({ parameter: [1] }), true),
                ];
            }
            Input::Records => {
                self.input = "rows of names and values".to_owned();
                self.tests = vec![example("an object without names", json!({ parameter: [{}] }), false)];
            }
            Input::Tensors(arrays) => {
                self.import("import numpy");
                self.require("numpy", "makes arrays of requests");
                let names = match arrays.len() {
                    1 => vec![parameter.to_owned()],
                    _ => input::parameters(arrays.iter().map(|array| array.name.as_str())),
                };
                let words: Vec<String> = arrays.iter().map(Array::in_words).collect();
                self.input = words.join("; ");
                let values: Option<Vec<Json>> = arrays.iter().map(Array::example).collect();
                if let Some(values) = values {
                    let request: serde_json::Map<String, Json> = names.iter().cloned().zip(values).collect();
                    self.tests =
                        vec![example("an example", request.into(), false), example("nothing at all", json!({}), true)];
                } else {
                    self.unknown.push("what the model takes is too large for an example request".to_owned());
                }
                let named = |((name, array), description): ((String, &Array), String)| Parameter {
                    name,
                    hint: array.hint(),
                    description,
                };
                tensors = names.into_iter().zip(&arrays).zip(words).map(named).collect();
                self.code.preparation = Preparation::Arrays(arrays);
            }
            Input::Given(given) => {
                let words: Vec<&str> = given.iter().map(|one| one.description.as_str()).collect();
                self.input = words.join("; ");
                let request: serde_json::Map<String, Json> =
                    given.iter().map(|one| (one.name.to_owned(), one.example.clone())).collect();
                self.tests = vec![example("an example", request.into(), false)];
                if !given.iter().all(Given::is_optional) {
                    self.tests.push(example("nothing at all", json!({}), true));
                }
                if given.iter().any(|one| one.hint.contains("Any")) {
                    self.import("from typing import Any");
                }
                let parameter = |one: Given| Parameter {
                    name: one.name.to_owned(),
                    hint: one.hint.to_owned(),
                    description: one.description,
                };
                tensors = given.into_iter().map(parameter).collect();
            }
            Input::Unknown => {
                self.input = "unknown".to_owned();
                self.unknown.push("what the model takes, so there is no example request".to_owned());
            }
        }
        if !self.tests.is_empty() {
            self.unknown.push("what the model answers: the example request has no `expect`".to_owned());
        }
        if tensors.is_empty() {
            if hint.contains("Any") {
                self.import("from typing import Any");
            }
            let description = match self.input.as_str() {
                "unknown" => "any JSON, as it is not known what the model takes".to_owned(),
                input => format!("a list of {input}"),
            };
            tensors.push(Parameter { name: parameter.to_owned(), hint: hint.to_owned(), description });
        }
        self.code.parameters = tensors;
    }

    fn import(&mut self, import: &str) {
        self.code.imports.push(import.to_owned());
    }

    /// Rows go to the model as arrays of NumPy's: it takes no lists.
    fn take_arrays(&mut self) {
        if matches!(self.code.preparation, Preparation::Width(_) | Preparation::None) {
            self.import("import numpy");
            self.require("numpy", "makes arrays of requests");
            self.code.conversions.push(format!("numpy.array({VALUE})"));
        }
    }

    /// Gives the service a function of this name, or other statements to the one that it has. What the model takes is
    /// [`code::VALUE`] in them.
    fn answer(&mut self, name: &str, statements: &str) {
        let functions = &mut self.code.functions;
        match functions.iter_mut().find(|function| function.name == name) {
            Some(function) => statements.clone_into(&mut function.statements),
            None => functions.push(Function { name: name.to_owned(), statements: statements.to_owned() }),
        }
    }

    /// Lets the person write how the model is asked: `what` is to be done, `why` is why nobody else can.
    fn leave_open(&mut self, what: &str, why: impl Into<String>) {
        self.answer("predict", &format!("raise NotImplementedError({})", literal(what)));
        self.open.push(why.into());
    }
}

/// What a container will run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hardware {
    /// Processors alone.
    #[default]
    Processors,
    /// Graphics processors of NVIDIA's as well.
    Gpus,
}

/// The proposal for a model that is one file, which lies at `path` in the project.
pub fn of_file(model: &Model, path: &str) -> Proposal {
    let file = format!("MODEL / {}", literal(path));
    match model.format {
        Format::Pickle | Format::CompressedPickle | Format::Skops => pickled::propose(model, &file),
        Format::PyTorch | Format::TorchScript | Format::TorchExport => torch::propose(model, &file),
        Format::TfLite => tensors::propose_tflite(&model.about, &file),
        Format::Onnx => tensors::propose_onnx(&model.about, &file),
        Format::Keras | Format::Hdf5 => tensors::propose_keras(&model.about, &file),
        Format::Safetensors => tensors::propose_safetensors(&model.about, &file),
        Format::Numpy | Format::NumpyZip => tensors::propose_arrays(&file),
        Format::XGBoost => booster::propose(Maker::XGBoost, &model.about, &file),
        Format::LightGBM => booster::propose(Maker::LightGBM, &model.about, &file),
        Format::CatBoost => booster::propose(Maker::CatBoost, &model.about, &file),
        Format::FastText => Proposal::of_fasttext(model.about.classes.is_some(), &file),
        Format::WordVectors => {
            let word = model.about.labels.first().and_then(Json::as_str);
            let is_binary = model.about.properties.get("format").is_some_and(|format| format == "binary");
            Proposal::of_word_vectors(word, is_binary, &file)
        }
        Format::Tokenizer => Proposal::of_tokenizer(model.about.class.as_deref(), &file),
        Format::Prophet => Proposal::of_prophet(&model.about, &file),
        Format::Zip => pickled::propose_zip(model, &file).unwrap_or_else(|| Proposal::of_unknown(path)),
        Format::SavedModel | Format::Spacy | Format::Gguf | Format::LfsPointer | Format::Other => {
            Proposal::of_unknown(path)
        }
    }
}

/// A foreign name as it may stand in code, messages and YAML: letters of ASCII, digits, `_` and `.`, no more than 60.
fn plain_name(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_.".contains(*c)).take(60).collect()
}

/// A foreign path as it may stand there, just so.
fn plain_path(path: &str) -> String {
    path.chars().filter(|c| c.is_ascii_alphanumeric() || "_.-/".contains(*c)).take(120).collect()
}

/// A text as Python, and YAML's double quotes, have it.
fn literal(text: &str) -> String {
    Json::from(text).to_string()
}
