//! Models that take arrays: ONNX, Keras, and tensors without a model.

use serde_json::json;

use super::code::{Preparation, VALUE};
use super::input::{Array, Input, MOST_COLUMNS};
use super::{Pin, Proposal, plain_name, releases};
use crate::formats::model::{About, Kind, Tensor};

/// What a model takes, by what it says of its inputs.
fn input(inputs: &[Tensor]) -> Input {
    let dtype = |tensor: &Tensor| match tensor.kind? {
        Kind::Number(dtype) => Some(Some(dtype)),
        Kind::Text => Some(None),
    };
    match inputs {
        [Tensor { kind: Some(Kind::Number(_)), shape, .. }]
            if matches!(shape.as_slice(), [_, Some(1..=MOST_COLUMNS)]) =>
        {
            let width = shape.last().copied().flatten().unwrap_or_default();
            Input::Rows(vec![json!(0.5); width as usize])
        }
        [] => Input::Unknown,
        several => {
            let arrays = several.iter().map(|tensor| {
                let shape = if tensor.shape.is_empty() { vec![None] } else { tensor.shape.clone() };
                Some(Array { name: tensor.name.clone(), dtype: dtype(tensor)?, shape })
            });
            arrays.collect::<Option<Vec<_>>>().map_or(Input::Unknown, Input::Tensors)
        }
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
        let dtype = match about.inputs.as_slice() {
            [Tensor { kind: Some(Kind::Number(dtype)), .. }] => dtype,
            _ => "float32",
        };
        proposal.code.conversions = vec![format!("numpy.array({VALUE}, dtype=numpy.{dtype})")];
    }
    proposal.code.load = format!("model = keras.models.load_model({file})");
    proposal.answer("predict", &format!("return model.predict({VALUE}, verbose=0)"));
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

/// The proposal for tensors whose model is elsewhere.
pub fn propose_safetensors(file: &str) -> Proposal {
    let mut proposal = Proposal::empty("safetensors");
    proposal.take(Input::Unknown);
    proposal.import("from safetensors.numpy import load_file");
    proposal.code.load = format!("tensors = load_file({file})");
    proposal.leave_open(
        "build the model from its tensors and call it here",
        "the file has tensors and no model: build the model in src/predict.py",
    );
    proposal.require("numpy", "holds the tensors");
    proposal.require("safetensors", "reads the file");
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
