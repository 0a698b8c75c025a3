//! Models that MLflow logged (<https://mlflow.org/docs/latest/ml/model/>).

use std::path::Path;

use serde_json::{Value as Json, json};

use super::booster::{self, Maker};
use super::code::{Preparation, VALUE};
use super::document::{read, text};
use super::input::{Array, Column, Input, MOST_COLUMNS};
use super::scoring::{self, Scoring};
use super::{Example, Pin, Proposal, literal, pickled, plain_name, releases, tensors};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{MAX_BYTES, read_text};
use crate::formats::model::{self, Format, Origin};
use crate::formats::python::PythonVersion;
use crate::formats::requirement;
use crate::io::archive::ArchivePath;
use crate::project::validate::PYTHONS;

/// What in the model that MLflow logged in `folder` nobody here serves, as a fragment that names its flavour. None where nothing
/// speaks against it.
pub fn unserved(folder: &Path) -> Option<String> {
    let description = read(&folder.join("MLmodel"))?;
    let flavours = description.get("flavors").and_then(Json::as_object)?;
    let Some(python) = flavours.get("python_function") else {
        let names: Vec<String> = flavours.keys().map(|name| plain_name(name)).take(10).collect();
        return Some(match names.as_slice() {
            [] => "its MLmodel has no flavour".to_owned(),
            [one] => format!("MLflow's flavour `{one}` is not served: it has no `python_function` beside it"),
            several => format!(
                "MLflow's flavours `{}` are not served: no `python_function` is with them",
                several.join("`, `")
            ),
        });
    };
    let loader = python.get("loader_module").and_then(Json::as_str).unwrap_or_default();
    // A module of the person's own is in the `code` folder, or a package.
    let flavour = loader.strip_prefix("mlflow.")?;
    let is_known = FLAVOURS.contains(&flavour) || flavour == "pyfunc.model" || flavour.starts_with("pyfunc.loaders.");
    (!is_known).then(|| format!("MLflow's flavour `{}` is not served", plain_name(flavour)))
}

/// The flavours whose models Python alone loads: the first four are loaded without MLflow. The others ask for Java, or are programs
/// that ask a service.
const FLAVOURS: [&str; 16] = [
    "sklearn",
    "xgboost",
    "lightgbm",
    "onnx",
    "catboost",
    "fastai",
    "keras",
    "paddle",
    "pmdarima",
    "prophet",
    "pytorch",
    "sentence_transformers",
    "spacy",
    "statsmodels",
    "tensorflow",
    "transformers",
];

/// How a model's file is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    /// As an object of scikit-learn's kind, or LightGBM's booster.
    Directly,
    /// By XGBoost.
    Booster,
    /// By onnxruntime.
    Session,
    /// By MLflow itself.
    Mlflow,
}

/// The proposal for what MLflow logged in `folder`, which will lie at `place`. None where `MLmodel` cannot be read.
pub fn propose(folder: &Path, place: &str) -> Option<Proposal> {
    let description = read(&folder.join("MLmodel"))?;
    let flavor = |name: &str, key: &str| text(&description, &format!("/flavors/{name}/{key}"));
    // What the framework loads just as well needs no MLflow in the image.
    let saved = |name: &str, key: &str, formats: &[Format]| {
        let path = ArchivePath::relative(flavor(name, key)?).ok()?;
        let host = path.under(folder);
        let size = host.metadata().ok().filter(|metadata| metadata.is_file())?.len();
        let model = model::inspect(&Origin::File(&host), path.as_str(), size).ok()?;
        formats.contains(&model.format).then(|| (format!("MODEL / {}", literal(&format!("{place}/{path}"))), model))
    };
    let objects = [Format::Pickle, Format::CompressedPickle, Format::Skops];
    let is_set = |name: &str, key: &str| {
        description.pointer(&format!("/flavors/{name}/{key}")).is_some_and(|value| !value.is_null())
    };
    let (loaded, mut proposal) = if let Some((file, model)) =
        saved("sklearn", "pickled_model", &objects).or_else(|| saved("lightgbm", "data", &objects))
    {
        (Loaded::Directly, pickled::propose(&model, &file))
    } else if let Some((file, model)) = saved("lightgbm", "data", &[Format::LightGBM]) {
        (Loaded::Directly, booster::propose(Maker::LightGBM, &model.about, &file))
    } else if let Some((file, model)) = saved("xgboost", "data", &[Format::XGBoost]) {
        (Loaded::Booster, booster::propose(Maker::XGBoost, &model.about, &file))
    } else if let Some((file, model)) =
        saved("onnx", "data", &[Format::Onnx]).filter(|_| !is_set("onnx", "onnx_session_options"))
    {
        (Loaded::Session, tensors::propose_onnx(&model.about, &file))
    } else {
        let loader = plain_name(flavor("python_function", "loader_module").unwrap_or("mlflow"));
        let mut proposal = Proposal::empty(&format!("MLflow ({loader})"));
        proposal.import("import mlflow.pyfunc");
        proposal.code.load = format!("model = mlflow.pyfunc.load_model(str(MODEL / {}))", literal(place));
        proposal.take(Input::Unknown);
        proposal.answer("predict", &format!("return model.predict({VALUE})"));
        (Loaded::Mlflow, proposal)
    };
    if let Some((input, dtype)) = signature(&description, folder, proposal.tests.first()) {
        // What the signature says goes before what the model shows, as requests are checked against it.
        proposal.take(input);
        if let Some(dtype) = dtype.filter(|_| matches!(proposal.code.preparation, Preparation::Width(_))) {
            proposal.import("import numpy");
            proposal.require("numpy", "makes arrays of requests");
            proposal.code.conversions.retain(|conversion| !conversion.starts_with("numpy.array("));
            proposal.code.conversions.insert(0, format!("numpy.array({VALUE}, dtype=numpy.{dtype})"));
        }
    }
    if let Some(example) = served(&description, folder, &proposal) {
        proposal.tests.insert(0, example);
    }
    required(folder, loaded, text(&description, "/mlflow_version"), &mut proposal);
    proposal.score(&description, folder, place, loaded);
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

impl Proposal {
    /// Answers at the routes of MLflow's scoring server as well, as the flavour does.
    fn score(&mut self, description: &Json, folder: &Path, place: &str, loaded: Loaded) {
        let flavor = |name: &str, key: &str| text(description, &format!("/flavors/{name}/{key}"));
        if loaded != Loaded::Mlflow
            && let Some(code) = flavor("python_function", "code").and_then(|path| ArchivePath::relative(path).ok())
        {
            // Modules that loading imports.
            self.import("import sys");
            self.code.load =
                format!("sys.path.insert(0, str(MODEL / {}))\n{}", literal(&format!("{place}/{code}")), self.code.load);
            let has = |module: &str| {
                let top = module.split('.').next().unwrap_or_default();
                code.under(folder).join(top).is_dir() || code.under(folder).join(format!("{top}.py")).is_file()
            };
            self.modules.retain(|module| !has(module));
        }
        // The class that MLflow makes is not always the one that the file tells.
        let class = plain_name(flavor("xgboost", "model_class").unwrap_or("xgboost.core.Booster"));
        let class = class.rsplit('.').next().unwrap_or_default().to_owned();
        let file =
            format!("str(MODEL / {})", literal(&format!("{place}/{}", flavor("xgboost", "data").unwrap_or_default())));
        let (is_booster, is_same) = (class == "Booster", self.code.load.contains(&format!("xgboost.{class}(")));
        let definition = |has_params: bool| match loaded {
            Loaded::Directly => {
                let method = plain_name(flavor("python_function", "predict_fn").unwrap_or("predict"));
                scoring::calling(&format!("model.{method}(data)"))
            }
            Loaded::Booster => {
                scoring::through_xgboost(if is_same { "model" } else { "scored" }, is_booster, has_params)
            }
            Loaded::Session => scoring::through_onnx(),
            Loaded::Mlflow => scoring::through_mlflow(),
        };
        let Some(scoring) = Scoring::of(description, definition) else {
            self.unknown.push("what its signature says, so it does not answer at /invocations".to_owned());
            return;
        };
        if loaded == Loaded::Booster && !is_same {
            self.code.load += &match is_booster {
                true => format!("\nscored = xgboost.Booster(model_file={file})"),
                false => format!("\nscored = xgboost.{class}()\nscored.load_model({file})"),
            };
        }
        if scoring.definition.contains("inspect.") {
            self.import("import inspect");
        }
        if scoring.definition.contains("pandas.") {
            self.import("import pandas");
        }
        let pinned = self.requirements.iter().find_map(|pin| pin.text.strip_prefix("mlflow-skinny=="));
        let release = scoring.version.as_deref().or(pinned).and_then(release).unwrap_or((u64::MAX, 0));
        // What these releases of MLflow know.
        let pandas = if release < (2, 0) {
            "pandas<2"
        } else if release < (3, 10) {
            "pandas<3"
        } else {
            "pandas"
        };
        let is_pandas = |pin: &Pin| requirement::parse(&pin.text).is_ok_and(|one| one.name.as_ref() == "pandas");
        match self.requirements.iter_mut().find(|pin| is_pandas(pin)) {
            Some(pin) if pin.text == "pandas" => pandas.clone_into(&mut pin.text),
            Some(_) => {}
            None => self.requirements.push(Pin::new(pandas, "makes tables of what MLflow's clients send")),
        }
        self.tests.extend(examples(description, folder, &scoring));
        self.scoring = Some(scoring);
    }
}

/// The first two numbers of a release.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// More characters than these make no example that a person can read.
const LONGEST_EXAMPLE: usize = 4000;

/// Requests to `/invocations`: what was saved with the model, with no more rows than a person reads, and one that is none.
fn examples(description: &Json, folder: &Path, scoring: &Scoring) -> Vec<Example> {
    let path = Some("/invocations");
    let saved = || {
        let path = ArchivePath::relative(text(description, "/saved_input_example_info/serving_input_path")?).ok()?;
        let mut request = read(&path.under(folder))?;
        for rows in ["/dataframe_split/data", "/dataframe_records", "/instances", "/inputs"] {
            if let Some(rows) = request.pointer_mut(rows).and_then(Json::as_array_mut) {
                rows.truncate(MOST_ROWS);
            }
        }
        (request.to_string().len() <= LONGEST_EXAMPLE).then_some(request)
    };
    let name = "the example that was saved with the model, as MLflow's clients send it".to_owned();
    let good = saved().map(|request| Example { name, request, refused: false, path });
    let name = "no input for MLflow".to_owned();
    let bad = (!scoring.inputs.is_empty()).then(|| Example { name, request: json!({}), refused: true, path });
    good.into_iter().chain(bad).collect()
}

/// The types of MLflow's columns (<https://mlflow.org/docs/latest/ml/model/signatures/>): NumPy's, and a value of each.
fn column_type(name: &str) -> Option<(Option<&'static str>, Json)> {
    Some(match name {
        "double" => (Some("float64"), 0.5.into()),
        "float" => (Some("float32"), 0.5.into()),
        "long" => (Some("int64"), 1.into()),
        "integer" => (Some("int32"), 1.into()),
        "boolean" => (Some("bool"), true.into()),
        "datetime" => (Some("datetime64[ns]"), "2025-01-01T00:00:00".into()),
        "string" => (None, "an example".into()),
        _ => return None,
    })
}

/// What the signature of an MLflow model says that it takes, and of which type the only array is. Its values are those of
/// `known`, a request that the model itself suggests, or of the type.
fn signature(description: &Json, folder: &Path, known: Option<&Example>) -> Option<(Input, Option<&'static str>)> {
    let inputs: Json = serde_json::from_str(text(description, "/signature/inputs")?).ok()?;
    let specs = inputs.as_array()?;
    if specs.is_empty() || specs.len() as u64 > MOST_COLUMNS {
        return None;
    }
    if let Some(arrays) = specs.iter().map(array).collect::<Option<Vec<_>>>() {
        return Some(match arrays.as_slice() {
            [Array { dtype: Some(dtype), shape, .. }] if matches!(shape.as_slice(), [None, Some(1..=MOST_COLUMNS)]) => {
                let width = shape.last().copied().flatten().unwrap_or_default() as usize;
                let row = known.and_then(|known| known.request.pointer("/features/0")?.as_array().cloned());
                let row = row.filter(|row| row.len() == width && row.iter().all(Json::is_number));
                (Input::Rows(row.unwrap_or_else(|| vec![0.5.into(); width])), Some(*dtype))
            }
            _ => (Input::Tensors(arrays), None),
        });
    }
    // A list of texts, as a type hint says it.
    let is_hint = description.get("is_signature_from_type_hint").and_then(Json::as_bool) == Some(true);
    if let [one] = specs.as_slice()
        && is_hint
        && one.get("name").is_none()
    {
        return (one.get("type")?.as_str()? == "string").then_some((Input::Texts, None));
    }
    let row = saved_row(description, folder);
    let seen = |name: &str, at: usize| {
        let of_model = known.and_then(|known| known.request.pointer("/rows/0")?.get(name).cloned());
        let saved = row.as_ref().and_then(|row| row.get(at).cloned());
        saved.or(of_model).filter(|value| !value.is_null())
    };
    let named = specs.iter().enumerate().map(|(at, spec)| {
        let (dtype, usual) = column_type(spec.get("type")?.as_str()?)?;
        let name = spec.get("name")?.as_str()?;
        let dtype = dtype.map(literal);
        let example = seen(name, at).and_then(|value| of_type(value, &usual)).unwrap_or(usual);
        Some(Column { name: name.to_owned(), example, dtype })
    });
    Some((Input::Columns(named.collect::<Option<Vec<_>>>()?), None))
}

/// A value that was seen in a column, as one of the type that `usual` is of: a mean of whole numbers is none. None where it is
/// of another kind.
fn of_type(value: Json, usual: &Json) -> Option<Json> {
    match (usual, value.as_f64()) {
        (Json::Number(usual), Some(number)) if usual.is_i64() => Some((number.round() as i64).into()),
        (Json::Number(_), number) => number.map(|_| value),
        (Json::Bool(_), _) => value.is_boolean().then_some(value),
        _ => value.is_string().then_some(value),
    }
}

/// A tensor of a signature.
fn array(spec: &Json) -> Option<Array> {
    const DTYPES: [&str; 12] = [
        "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
        "bool",
    ];
    let dtype = spec.pointer("/tensor-spec/dtype")?.as_str()?;
    let dtype = match dtype {
        "str" | "object" => None,
        dtype => Some(*DTYPES.iter().find(|known| **known == dtype)?),
    };
    let lengths = spec.pointer("/tensor-spec/shape")?.as_array()?;
    let shape = lengths.iter().map(|length| Some(u64::try_from(length.as_i64()?).ok()));
    let name = spec.get("name").and_then(Json::as_str).unwrap_or("features").to_owned();
    Some(Array { name, dtype, shape: shape.collect::<Option<_>>()? })
}

/// The first row of the example that was saved along.
fn saved_row(description: &Json, folder: &Path) -> Option<Vec<Json>> {
    let path = ArchivePath::relative(text(description, "/saved_input_example_info/artifact_path")?).ok()?;
    read(&path.under(folder))?.pointer("/data/0")?.as_array().cloned()
}

/// Rows of an example that become a request.
const MOST_ROWS: usize = 5;

/// The request that was saved along (`serving_input_example.json`), where it is one that the proposed service takes.
fn served(description: &Json, folder: &Path, proposal: &Proposal) -> Option<Example> {
    let path = ArchivePath::relative(text(description, "/saved_input_example_info/serving_input_path")?).ok()?;
    let document = read(&path.under(folder))?;
    let request = match &proposal.code.preparation {
        Preparation::Table(columns) => {
            let split = document.get("dataframe_split")?;
            let names: Vec<&str> = split.get("columns")?.as_array()?.iter().filter_map(Json::as_str).collect();
            if !columns.iter().all(|column| names.contains(&column.name.as_str())) {
                return None;
            }
            let record = |row: &Json| {
                let values = row.as_array()?.iter().cloned();
                let named = names.iter().map(|name| (*name).to_owned()).zip(values);
                Some(Json::Object(named.filter(|(name, _)| columns.iter().any(|c| c.name == *name)).collect()))
            };
            let rows = split.get("data")?.as_array()?.iter().take(MOST_ROWS).map(record);
            json!({ "rows": rows.collect::<Option<Vec<_>>>()? })
        }
        Preparation::Width(width) => {
            let rows = document.get("inputs")?.as_array()?.iter().take(MOST_ROWS);
            let rows: Vec<Json> = rows.cloned().collect();
            let fits = |row: &Json| row.as_array().is_some_and(|row| row.len() == *width);
            json!({ "features": Some(rows).filter(|rows| !rows.is_empty() && rows.iter().all(fits))? })
        }
        _ => return None,
    };
    Some(Example { name: "the example that was saved with the model".to_owned(), request, refused: false, path: None })
}

/// The requirements that MLflow wrote down go before those that the model shows. MLflow itself is there to load the model, for
/// which the part of it does that has neither a server nor a user interface.
fn required(folder: &Path, loaded: Loaded, version: Option<&str>, proposal: &mut Proposal) {
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
        match requirement::parse(line) {
            Ok(one) if loaded != Loaded::Mlflow && matches!(one.name.as_ref(), "mlflow" | "mlflow-skinny") => {}
            // It writes such files, and onnxruntime reads them.
            Ok(one) if loaded == Loaded::Session && one.name.as_ref() == "onnx" => {}
            Ok(one) if one.name.as_ref() == "mlflow" && one.extras.is_empty() => {
                let rest = line.get("mlflow".len()..).unwrap_or_default();
                pins.push(Pin::new(format!("mlflow-skinny{rest}"), "MLflow wrote it down; without its server"));
            }
            Ok(_) => pins.push(Pin::new(line, "MLflow wrote it down")),
            Err(_) => proposal.unknown.push(format!(
                "what a line of MLflow's requirements is for, which was left out: {:?}",
                line.chars().take(60).collect::<String>()
            )),
        }
    }
    if pins.is_empty() {
        proposal.unknown.push("which packages it needs: MLflow wrote none down".to_owned());
    }
    let is_mlflow = |pin: &Pin| pin.text.starts_with("mlflow");
    if loaded == Loaded::Mlflow && !pins.iter().any(is_mlflow) {
        let version = version.and_then(releases::version).map(|version| format!("=={version}")).unwrap_or_default();
        pins.push(Pin::new(format!("mlflow-skinny{version}"), "loads the model"));
    }
    if pins.is_empty() {
        return;
    }
    proposal.unknown.retain(|unknown| !unknown.starts_with("which version saved it"));
    for pin in std::mem::replace(&mut proposal.requirements, pins) {
        let name = |text: &str| requirement::parse(text).map(|r| r.name.to_string()).ok();
        let own = name(&pin.text);
        if !proposal.requirements.iter().any(|listed| name(&listed.text) == own) {
            proposal.requirements.push(pin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_of_the_columns_type() {
        let of = |value: Json, usual: Json| of_type(value, &usual);
        assert_eq!(of(json!(49.4), json!(1)), Some(json!(49)));
        assert_eq!(of(json!(49), json!(0.5)), Some(json!(49)));
        assert_eq!(of(json!("a"), json!(1)), None);
        assert_eq!(of(json!("a"), json!("b")), Some(json!("a")));
        assert_eq!(of(json!(1), json!(true)), None);
    }
}
