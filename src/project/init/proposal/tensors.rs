//! Models that take arrays: ONNX, Keras, and tensors without a model.

use serde_json::json;

use super::code::{Preparation, VALUE};
use super::input::{Array, Input, MOST_COLUMNS};
use super::{Pin, Proposal, literal, net, plain_name, releases};
use crate::formats::model::{About, Kind, Tensor};

/// What a model takes, by what it says of its inputs.
pub fn input(inputs: &[Tensor]) -> Input {
    match inputs {
        [Tensor { kind: Some(Kind::Number(_)), shape, .. }]
            if matches!(shape.as_slice(), [_, Some(1..=MOST_COLUMNS)]) =>
        {
            let width = shape.last().copied().flatten().unwrap_or_default();
            Input::Rows(vec![json!(0.5); width as usize])
        }
        [] => Input::Unknown,
        several => several.iter().map(array).collect::<Option<Vec<_>>>().map_or(Input::Unknown, Input::Tensors),
    }
}

fn array(tensor: &Tensor) -> Option<Array> {
    let dtype = match tensor.kind? {
        Kind::Number(dtype) => Some(dtype),
        Kind::Text => None,
    };
    let shape = if tensor.shape.is_empty() { vec![None] } else { tensor.shape.clone() };
    Some(Array { name: tensor.name.clone(), dtype, shape })
}

/// What NumPy and others call the type of the only tensor that a model takes; the usual one where it does not say.
pub fn dtype(inputs: &[Tensor]) -> &'static str {
    match inputs {
        [Tensor { kind: Some(Kind::Number(dtype)), .. }] => dtype,
        _ => "float32",
    }
}

/// The proposal for a model that onnxruntime runs.
pub fn propose_onnx(about: &About, file: &str) -> Proposal {
    let mut proposal = Proposal::empty("ONNX");
    proposal.take(input(&about.inputs));
    proposal.import("import numpy");
    proposal.import("import onnxruntime");
    proposal.code.load = format!("model = onnxruntime.InferenceSession({file})");
    let inputs = match about.inputs.as_slice() {
        [_, _, ..] if !matches!(proposal.code.preparation, Preparation::None) => VALUE,
        [Tensor { kind: Some(Kind::Number(dtype)), shape, .. }] if shape.len() == 2 => {
            proposal.code.conversions = vec![format!("numpy.array({VALUE}, dtype=numpy.{dtype})")];
            "{model.get_inputs()[0].name: {value}}"
        }
        [_] | [] => "{model.get_inputs()[0].name: {value}}",
        // Something that is no tensor is among them: the caller names all.
        _ => VALUE,
    };
    let answer = match about.outputs.as_slice() {
        [] | [_] => format!("return model.run(None, {inputs})[0]"),
        _ => format!(
            "names = [output.name for output in model.get_outputs()]\n    return dict(zip(names, model.run(None, {inputs})))"
        ),
    };
    proposal.answer("predict", &answer);
    proposal.require("numpy", "makes arrays of requests");
    proposal.require("onnxruntime", "runs the model");
    proposal
}

/// The proposal for a model of Keras.
pub fn propose_keras(about: &About, file: &str) -> Proposal {
    let version = about.version.as_deref().and_then(releases::version);
    let mut proposal = Proposal::empty(&version.as_ref().map_or_else(|| "Keras".to_owned(), |v| format!("Keras {v}")));
    proposal.class = about.class.as_deref().map(plain_name).filter(|class| !class.is_empty());
    proposal.take(input(&about.inputs));
    proposal.import("import keras");
    proposal.import("import numpy");
    if !matches!(proposal.code.preparation, Preparation::Arrays(_)) {
        proposal.code.conversions = vec![format!("numpy.array({VALUE}, dtype=numpy.{})", dtype(&about.inputs))];
    }
    proposal.code.load = format!("model = keras.models.load_model({file})");
    // Keras knows no type of NumPy's texts.
    let given = if matches!(about.inputs.as_slice(), [Tensor { kind: Some(Kind::Text), .. }]) {
        proposal.import("import tensorflow");
        format!("tensorflow.constant({VALUE})")
    } else {
        VALUE.to_owned()
    };
    proposal.answer("predict", &format!("return model.predict({given}, verbose=0)"));
    proposal.require("numpy", "makes arrays of requests");
    proposal.require("tensorflow", "runs the model, and brings Keras");
    match version {
        Some(version) => {
            proposal.requirements.push(Pin::new(format!("keras>={version}"), "saved the model"));
        }
        None => proposal.unknown.push("the version of Keras that saved the model".to_owned()),
    }
    proposal
}

/// The proposal for TensorFlow's SavedModel, asked by the signature that serves.
pub fn propose_saved_model(about: &About, folder: &str) -> Proposal {
    let version = about.version.as_deref().and_then(releases::version);
    let framework = version.as_ref().map_or_else(|| "TensorFlow".to_owned(), |v| format!("TensorFlow {v}"));
    let mut proposal = Proposal::empty(&framework);
    proposal.class = Some("SavedModel".to_owned());
    proposal.take(arrays(&about.inputs));
    proposal.import("import tensorflow");
    let signature = about.signatures.iter().map(|signature| signature.name.as_str());
    let signature = signature.clone().find(|name| *name == "serving_default").or_else(|| signature.clone().next());
    proposal.code.load = format!(
        "model = tensorflow.saved_model.load({folder})\nserve = model.signatures[{}]",
        literal(signature.unwrap_or("serving_default"))
    );
    let answers = format!(
        "given = {{name: tensorflow.constant(array) for name, array in {}.items()}}\n    \
         answers = {{name: answer.numpy() for name, answer in serve(**given).items()}}\n    ",
        named(about)
    );
    proposal.answer("predict", &(answers + only(about)));
    let pin = match version {
        Some(version) => Pin::new(format!("tensorflow>={version}"), "saved the model, and later ones read it"),
        None => Pin::new("tensorflow", "runs the model"),
    };
    proposal.requirements.push(pin);
    if signature.is_none() {
        proposal.open.push("the model has no signature: call one of its functions in src/predict.py".to_owned());
    }
    proposal
}

/// The proposal for a model of TensorFlow Lite's, now LiteRT's.
pub fn propose_tflite(about: &About, file: &str) -> Proposal {
    let mut proposal = Proposal::empty("TensorFlow Lite");
    proposal.take(arrays(&about.inputs));
    proposal.import("import threading");
    proposal.import("from ai_edge_litert.interpreter import Interpreter");
    let once = "# One request at a time: an interpreter has one place for what it is given.\nlock = threading.Lock()";
    if about.signatures.is_empty() {
        proposal.code.load = format!("model = Interpreter(model_path=str({file}))\n{once}");
        proposal.leave_open(
            "set the tensors of the model, invoke it, and get its answers",
            "the model has no signature: set its tensors in src/predict.py, and get its answers",
        );
    } else {
        proposal.code.load = format!("model = Interpreter(model_path=str({file})).get_signature_runner()\n{once}");
        let answers = format!("with lock:\n        answers = model(**{})\n    ", named(about));
        proposal.answer("predict", &(answers + only(about)));
    }
    proposal.require("ai-edge-litert", "runs the model");
    proposal.require("numpy", "makes arrays of requests");
    proposal
}

/// What a model takes, always by the names that it has for it.
fn arrays(inputs: &[Tensor]) -> Input {
    match input(inputs) {
        Input::Rows(_) => Input::Tensors(inputs.iter().filter_map(array).collect()),
        other => other,
    }
}

/// What is given to a model, by its own names, as an expression.
fn named(about: &About) -> String {
    match about.inputs.as_slice() {
        [one] => format!("{{{}: {VALUE}}}", literal(&one.name)),
        _ => VALUE.to_owned(),
    }
}

/// The statement that returns all answers, or the only one.
fn only(about: &About) -> &'static str {
    if about.outputs.len() == 1 { "return next(iter(answers.values()))" } else { "return answers" }
}

/// The proposal for tensors whose model is elsewhere.
pub fn propose_safetensors(about: &About, file: &str) -> Proposal {
    let mut proposal = Proposal::empty("safetensors");
    proposal.require("safetensors", "reads the file");
    net::lacking(&mut proposal, net::Tensors::of_safetensors(about, file));
    proposal
}

/// The proposal for arrays of NumPy's.
pub fn propose_arrays(file: &str) -> Proposal {
    let mut proposal = Proposal::empty("NumPy");
    proposal.take(Input::Unknown);
    proposal.import("import numpy");
    proposal.code.load = format!("arrays = numpy.load({file})");
    proposal.leave_open(
        "answer with the arrays here",
        "the file has arrays and no model: say in src/predict.py what is done with them",
    );
    proposal.require("numpy", "reads the file");
    proposal
}
