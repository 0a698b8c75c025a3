//! Models of PyTorch: modules in pickles, programs of `torch.jit` and `torch.export`, and tensors without a model.

use std::collections::BTreeSet;

use serde_json::json;

use super::code::{Preparation, VALUE};
use super::estimator;
use super::input::{Input, MOST_COLUMNS};
use super::{Pin, Proposal, fastai, net, plain_name, releases, tensors};
use crate::formats::model::globals::{distribution, is_standard};
use crate::formats::model::{About, Format, Model, Object};

/// Modules within modules that are looked into, and how many in all.
const DEEPEST: u8 = 32;
const MOST: u32 = 10_000;

/// The proposal for what PyTorch saved at `file`, an expression of Python's.
pub fn propose(model: &Model, file: &str) -> Proposal {
    let mut proposal = Proposal::empty("PyTorch");
    proposal.import("import torch");
    proposal.require("torch", "made the model");
    if model.format == Format::TorchExport {
        exported(&mut proposal, &model.about, file);
        return proposal;
    }
    let is_data = |name: &Option<String>| name.as_ref().is_some_and(|name| name.rsplit('/').next() == Some("data.pkl"));
    let pickles = model.pickles.iter().find(|(name, _)| is_data(name)).or_else(|| model.pickles.first());
    let pickles = pickles.map(|(_, pickles)| pickles);
    let root = pickles.and_then(|pickles| pickles.objects.root());
    let class = root.and_then(Object::class);
    let is_tensors = match class {
        // A dictionary of tensors, or of such dictionaries.
        Some((module, _)) => module == "collections",
        None => root.is_some_and(Object::is_map),
    };
    if model.format == Format::TorchScript || model.pickles.is_empty() {
        proposal.class = model.about.class.as_deref().map(plain_name).filter(|class| !class.is_empty());
        proposal.code.load = format!("model = torch.jit.load({file}, map_location=\"cpu\").eval()");
        ask(&mut proposal, root, &model.about);
    } else if is_tensors {
        net::lacking(&mut proposal, net::Tensors::of_torch(model, file));
    } else if let Some(learner) = root.filter(|root| fastai::is_learner(*root)) {
        proposal.ask_fastai(learner, file);
    } else {
        proposal.class = root.and_then(estimator::describe);
        proposal.code.load = format!("model = torch.load({file}, map_location=\"cpu\", weights_only=False).eval()");
        let modules = pickles.map(|pickles| pickles.globals.keys()).into_iter().flatten();
        let own: BTreeSet<String> = modules
            .filter(|(module, _)| distribution(module).is_none() && !is_standard(module))
            .map(|(module, _)| plain_name(module))
            .collect();
        proposal.modules = own.into_iter().collect();
        ask(&mut proposal, root, &model.about);
    }
    proposal.unknown.push("which version of torch saved it: `ekiben lock` takes the newest".to_owned());
    proposal
}

/// Calls a module with what its first layer takes.
fn ask(proposal: &mut Proposal, root: Option<Object<'_>>, about: &About) {
    let takes_one =
        about.arguments.is_empty() || matches!(about.arguments.as_slice(), [one] if one.annotation == "Tensor");
    match root.filter(|_| takes_one).and_then(|root| First::default().of(root, 0)) {
        Some(Layer::Rows(width @ 1..=MOST_COLUMNS)) => {
            proposal.take(Input::Rows(vec![json!(0.5); width as usize]));
            proposal.code.conversions.push(format!("torch.tensor({VALUE}, dtype=torch.float32)"));
        }
        _ => {
            proposal.take(Input::Unknown);
            proposal.code.conversions.push(format!("torch.tensor({VALUE})"));
        }
    }
    if takes_one {
        proposal.answer("predict", &format!("with torch.inference_mode():\n        return model({VALUE})"));
        return;
    }
    let arguments: Vec<String> = about
        .arguments
        .iter()
        .take(20)
        .map(|argument| format!("{}: {}", plain_name(&argument.name), plain_name(&argument.annotation)))
        .collect();
    proposal.code.conversions.clear();
    proposal.leave_open(
        "call the model with all that it takes",
        format!("the model takes ({}): call it in src/predict.py", arguments.join(", ")),
    );
}

/// What the first layer with weights takes.
enum Layer {
    /// Rows of so many numbers.
    Rows(u64),
    /// Something else, such as pictures or the numbers of words.
    Other,
}

/// The search for the first layer that has weights, in the order in which modules hold them.
#[derive(Default)]
struct First {
    seen: u32,
}

impl First {
    fn of(&mut self, object: Object<'_>, depth: u8) -> Option<Layer> {
        self.seen += 1;
        if depth > DEEPEST || self.seen > MOST {
            return None;
        }
        let of_weight = |weight: Object<'_>| {
            let shape = shape(weight)?;
            let class = object.class().map(|(_, class)| class).unwrap_or_default();
            Some(match shape.as_slice() {
                [_, width] if class != "Embedding" && class != "EmbeddingBag" => Layer::Rows(*width),
                // Normalisations and the like, in front of all others.
                [width] if class != "PReLU" => Layer::Rows(*width),
                _ => Layer::Other,
            })
        };
        let weight = object.get("weight").or_else(|| object.get("_parameters")?.get("weight"));
        if let Some(layer) = weight.and_then(of_weight) {
            return Some(layer);
        }
        let inner = object.get("_modules").map_or_else(|| object.attributes(), Object::attributes);
        inner.into_iter().find_map(|inner| self.of(inner, depth + 1))
    }
}

/// The lengths of a tensor, or of a parameter.
fn shape(value: Object<'_>) -> Option<Vec<u64>> {
    let arguments = value.arguments()?.items()?;
    match value.class()? {
        ("torch._utils", "_rebuild_parameter") => shape(*arguments.first()?),
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
            let lengths = arguments.get(2)?.items()?;
            lengths.into_iter().map(|length| u64::try_from(length.integer()?).ok()).collect()
        }
        _ => None,
    }
}

/// A program of `torch.export`, which says what it takes.
fn exported(proposal: &mut Proposal, about: &About, file: &str) {
    proposal.class = Some("ExportedProgram".to_owned());
    proposal.code.load = format!("model = torch.export.load({file}).module()");
    proposal.take(tensors::input(&about.inputs));
    let call = match &proposal.code.preparation {
        Preparation::Arrays(arrays) if arrays.len() > 1 => {
            format!("model(*(torch.from_numpy(array) for array in {VALUE}.values()))")
        }
        Preparation::Arrays(_) => format!("model(torch.from_numpy({VALUE}))"),
        _ => format!("model(torch.tensor({VALUE}, dtype=torch.{}))", tensors::dtype(&about.inputs)),
    };
    proposal.answer("predict", &format!("with torch.inference_mode():\n        return {call}"));
    if let Some(version) = about.version.as_deref().and_then(releases::version) {
        proposal.framework = format!("PyTorch {version}");
        proposal.requirements.retain(|pin| pin.text != "torch");
        proposal.requirements.push(Pin::new(format!("torch>={version}"), "exported the model, and later ones read it"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_says_what_it_takes_is_called_with_it() {
        use crate::formats::model::{Kind, Tensor};
        let mut model = Model::of(Format::TorchExport);
        let tensor = |name: &str, kind, shape: &[Option<u64>]| Tensor {
            name: name.to_owned(),
            kind: Some(Kind::Number(kind)),
            shape: shape.to_vec(),
        };
        model.about.version = Some("2.7.1+cpu".to_owned());
        model.about.inputs = vec![tensor("x", "float32", &[None, Some(3)])];
        let one = propose(&model, "MODEL");
        assert_eq!(one.requirements.iter().map(|pin| pin.text.as_str()).collect::<Vec<_>>(), ["torch>=2.7.1"]);
        assert_eq!(one.input, "rows of 3 numbers");
        model.about.inputs.push(tensor("mask", "bool", &[None, Some(3)]));
        let two = propose(&model, "MODEL");
        assert_eq!(two.code.parameters.len(), 2);
        assert!(two.is_ready());
    }
}
