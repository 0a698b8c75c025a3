//! What a project for a model would be: requirements, Python, service and tests, each with its reason, from what the
//! model's files say of themselves. What they do not say is said as well.
//!
//! Invariants: files are read as data, never loaded; the same files give the same proposal. Foreign names get into code,
//! YAML and messages only quoted or stripped.

mod booster;
mod estimator;
mod folder;
mod input;
mod pickled;
mod releases;

use serde::Serialize;
use serde_json::{Value as Json, json};

pub use folder::{Kind, of_folder, recognise};

use crate::formats::model::{self, Format, Model, Tensor, globals};
use crate::formats::python::PythonVersion;
use input::{Input, MOST_COLUMNS};

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
}

/// The service's function, in parts.
#[derive(Clone, Debug, Default)]
struct Code {
    imports: Vec<String>,
    /// Statements that make `model`.
    load: String,
    /// The name of the parameter, and its type.
    parameter: &'static str,
    hint: &'static str,
    /// Columns of a table.
    columns: Vec<String>,
    /// Values of a row.
    width: Option<usize>,
    /// Statements that return the answer.
    answer: String,
}

/// The texts of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// `ekiben.yaml`.
    pub manifest: String,
    /// `requirements.txt`.
    pub requirements: String,
    /// `src/predict.py`.
    pub code: String,
}

/// What the manifest says beside what is proposed.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The model's files and folders, relative to the project.
    pub files: &'a [String],
    /// What loading may import though nobody here knows it.
    pub allow: &'a [String],
    /// The service's function.
    pub entry: &'a str,
    /// Whether the function is the proposed one, so that its input and tests are known.
    pub ours: bool,
    /// Where an editor finds the schema.
    pub schema: Option<&'a str>,
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
            tests: Vec::new(),
            open: Vec::new(),
            unknown: Vec::new(),
            modules: Vec::new(),
            asked: None,
            code: Code::default(),
        }
    }

    /// What a project without a model begins with.
    pub fn of_nothing() -> Self {
        let mut proposal = Self::empty("unknown");
        proposal.take(Input::Unknown);
        proposal.code.answer = "raise NotImplementedError(\"call the model here\")".to_owned();
        proposal.open.push("call the model in the function".to_owned());
        proposal
    }

    /// Whether it can answer as it is.
    pub fn is_ready(&self) -> bool {
        self.open.is_empty()
    }

    fn require(&mut self, package: &str, reason: &str) {
        let has = |pin: &Pin| pin.text.split(['=', '<', '>']).next() == Some(package);
        if !self.requirements.iter().any(has) {
            self.requirements.push(Pin::new(package, reason));
        }
    }

    /// Notes what the model takes, with requests to try it, and gives the name of the value in the code.
    fn take(&mut self, input: Input) -> &'static str {
        let code = &mut self.code;
        let example = |name: String, request: Json, refused| Example { name, request, refused };
        let (parameter, hint, value) = match &input {
            Input::Rows(row) if row.iter().any(|value| !value.is_number()) => {
                ("features", "list[list[Any]]", "features")
            }
            Input::Rows(_) | Input::Unknown => ("features", "list[list[float]]", "features"),
            Input::Columns(_) => ("rows", "list[dict[str, Any]]", "table"),
            Input::Texts => ("texts", "list[str]", "texts"),
            Input::Records => ("rows", "list[dict[str, Any]]", "rows"),
        };
        (code.parameter, code.hint) = (parameter, hint);
        if hint.contains("Any") {
            code.imports.push("from typing import Any".to_owned());
        }
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
                code.width = Some(row.len());
                let short: Vec<_> = row.iter().skip(1).cloned().collect();
                self.tests = vec![
                    example(format!("one row of {} {values}", row.len()), json!({ parameter: [row] }), false),
                    example("a row that is too short".to_owned(), json!({ parameter: [short] }), true),
                ];
            }
            Input::Columns(columns) => {
                self.input = format!("rows of {} named columns", columns.len());
                code.columns = columns.iter().map(|(name, _)| name.clone()).collect();
                code.imports.push("import pandas".to_owned());
                let row: serde_json::Map<String, Json> = columns.into_iter().collect();
                self.tests = vec![
                    example("one row with all columns".to_owned(), json!({ parameter: [row] }), false),
                    example("a row without columns".to_owned(), json!({ parameter: [{}] }), true),
                ];
                self.require("pandas", "makes tables of requests, as the model was trained with them");
            }
            Input::Texts => {
                self.input = "texts".to_owned();
                self.tests = vec![
                    example("one text".to_owned(), json!({ parameter: ["an example"] }), false),
                    example("a number is no text".to_owned(), json!({ parameter: [1] }), true),
                ];
            }
            Input::Records => {
                self.input = "rows of names and values".to_owned();
                self.tests = vec![example("an object without names".to_owned(), json!({ parameter: [{}] }), false)];
            }
            Input::Unknown => {
                self.input = "unknown".to_owned();
                self.unknown.push("what the model takes, so there is no example request".to_owned());
            }
        }
        if !self.tests.is_empty() {
            self.unknown.push("what the model answers: the example request has no `expect`".to_owned());
        }
        value
    }

    /// The files of a project.
    ///
    /// # Errors
    /// When a template is wrong: a mistake in Ekiben.
    pub fn texts(&self, words: &Words<'_>) -> Result<Texts, minijinja::Error> {
        let Words { name, files, allow, entry, ours, schema } = *words;
        let tests: Vec<_> = self
            .tests
            .iter()
            .map(|test| json!({ "name": quote(&test.name), "request": test.request.to_string(), "refused": test.refused }))
            .collect();
        let description = match &self.class {
            Some(class) => format!("A {class} of {}", self.framework),
            None => format!("What {name} does, in a sentence"),
        };
        let manifest = minijinja::render!(
            include_str!("ekiben.yaml.j2"),
            schema, ours,
            tests => minijinja::value::Serde(&tests),
            name => quote(name),
            entry => quote(entry),
            description => quote(&description),
            files => files.iter().map(|file| quote(file)).collect::<Vec<_>>(),
            allow => allow.iter().map(|global| quote(global)).collect::<Vec<_>>(),
            python => minijinja::value::Serde(&self.python),
            packages => minijinja::value::Serde(&self.packages),
            parameter => self.code.parameter,
            input => quote(&self.input_in_words()),
        );
        let code = &self.code;
        let usual = ["import os", "from pathlib import Path"].map(str::to_owned);
        let mut imports: Vec<String> = code.imports.iter().cloned().chain(usual).collect();
        imports.sort_by_key(|import| (!import.starts_with("import"), import.clone()));
        imports.dedup();
        let (standard, others): (Vec<_>, Vec<_>) =
            imports.into_iter().partition(|import| import.split(' ').nth(1).is_some_and(globals::is_standard));
        let code = minijinja::render!(
            include_str!("predict.py.j2"),
            standard, others,
            load => &code.load,
            columns => code.columns.iter().map(|name| literal(name)).collect::<Vec<_>>(),
            width => code.width,
            parameter => code.parameter,
            hint => code.hint,
            // Python 3.8 has no `list[…]`.
            old => PythonVersion::of_release(&self.python.text).is_some_and(|python| python < PythonVersion::new(3, 9)),
            input => self.input_in_words(),
            answer => &code.answer,
        );
        let lines = self.requirements.iter().map(|pin| format!("{}  # {}\n", pin.text, pin.reason));
        Ok(Texts { manifest: ended(manifest), requirements: lines.collect(), code: ended(code) })
    }

    fn input_in_words(&self) -> String {
        match self.code.parameter {
            "features" if self.input == "unknown" => "a list of rows, each a list of numbers".to_owned(),
            _ => format!("a list of {}", self.input),
        }
    }
}

/// The proposal for a model that onnxruntime runs. It says itself which tensors it takes.
fn propose_onnx(model: &Model, file: &str) -> Proposal {
    let mut proposal = Proposal::empty("ONNX");
    let (input, kind) = match model.about.inputs.as_slice() {
        [Tensor { kind: Some(model::Kind::Number(kind)), shape, .. }] => match shape.as_slice() {
            [_, Some(width @ 1..=MOST_COLUMNS)] => (Input::Rows(vec![json!(0.0); *width as usize]), *kind),
            _ => (Input::Unknown, *kind),
        },
        _ => (Input::Unknown, "float32"),
    };
    proposal.take(input);
    proposal.code.imports.extend(["import numpy", "import onnxruntime"].map(str::to_owned));
    proposal.code.load = format!("model = onnxruntime.InferenceSession({file})");
    proposal.code.answer = format!(
        "name = model.get_inputs()[0].name\n    return model.run(None, {{name: numpy.array(features, dtype=numpy.{kind})}})[0].tolist()"
    );
    proposal.require("numpy", "makes arrays of requests");
    proposal.require("onnxruntime", "runs the model");
    proposal
}

/// The proposal for a model that is one file, which lies at `path` in the project. None where it is no model that
/// anything could be made of.
pub fn of_file(model: &Model, path: &str) -> Option<Proposal> {
    let file = format!("MODEL / {}", literal(path));
    let mut proposal = match model.format {
        Format::Pickle | Format::CompressedPickle => return Some(pickled::propose(model, &file)),
        Format::PyTorch => return Some(pickled::propose_torch(model, &file)),
        Format::Onnx => propose_onnx(model, &file),
        Format::Keras | Format::Hdf5 => {
            let mut proposal = Proposal::empty("Keras");
            proposal.take(Input::Unknown);
            proposal.code.imports.extend(["import keras", "import numpy"].map(str::to_owned));
            proposal.code.load = format!("model = keras.models.load_model({file})");
            proposal.code.answer = "return model.predict(numpy.array(features), verbose=0).tolist()".to_owned();
            proposal.require("numpy", "makes arrays of requests");
            proposal.require("tensorflow", "runs the model, and brings Keras");
            proposal.unknown.push("the version of Keras that saved the model".to_owned());
            proposal
        }
        Format::Safetensors => {
            let mut proposal = Proposal::empty("safetensors");
            proposal.take(Input::Unknown);
            proposal.code.imports.push("from safetensors.numpy import load_file".to_owned());
            proposal.code.load = format!("tensors = load_file({file})");
            proposal.code.answer =
                "raise NotImplementedError(\"build the model from its tensors and call it here\")".to_owned();
            proposal.require("numpy", "holds the tensors");
            proposal.require("safetensors", "reads the file");
            proposal.open.push("the file has tensors and no model: build the model in src/predict.py".to_owned());
            proposal
        }
        Format::Numpy
        | Format::NumpyZip
        | Format::Gguf
        | Format::XGBoost
        | Format::LightGBM
        | Format::CatBoost
        | Format::Skops
        | Format::Zip
        | Format::LfsPointer
        | Format::Other => return None,
    };
    let versions = proposal.requirements.iter().map(|pin| pin.text.as_str()).collect::<Vec<_>>().join(", ");
    proposal.unknown.push(format!("which versions are needed of {versions}: `ekiben lock` takes the newest"));
    Some(proposal)
}

/// The format that a file's name promises, where its content is not there to be asked.
pub fn of_name(path: &str) -> Option<Proposal> {
    let (stem, ending) = path.rsplit_once('.')?;
    // joblib compresses in these ways.
    let compressed = matches!(ending, "z" | "gz" | "bz2" | "xz" | "lzma");
    let ending = if compressed { stem.rsplit_once('.')?.1 } else { ending }.to_ascii_lowercase();
    let format = match ending.as_str() {
        "pkl" | "pickle" | "joblib" => Format::Pickle,
        "onnx" => Format::Onnx,
        "pt" | "pth" => Format::PyTorch,
        "safetensors" => Format::Safetensors,
        "keras" | "h5" => Format::Keras,
        _ => return None,
    };
    if compressed && format != Format::Pickle {
        return None;
    }
    of_file(&Model::of(format), path)
}

/// A foreign name as it may stand in code, messages and YAML: letters of ASCII, digits, `_` and `.`, no more than 60.
fn plain_name(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_.".contains(*c)).take(60).collect()
}

/// A text as Python, and YAML's double quotes, have it.
fn literal(text: &str) -> String {
    Json::from(text).to_string()
}

/// A text as YAML takes it anywhere.
fn quote(text: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let word = matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off");
    let spaced = |c: char| simple(c) || " (),".contains(c);
    let sentence = text.chars().all(spaced) && !text.contains(": ") && !text.ends_with([' ', ':']);
    if begins && !word && sentence {
        return text.to_owned();
    }
    literal(text)
}

/// Templates lose their last newline.
fn ended(text: String) -> String {
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}
