//! Pipelines of diffusers (<https://huggingface.co/docs/diffusers>), which paint.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::document::{read, text};
use super::input::{Given, Input};
use super::{Pin, Proposal, plain_name, releases};

/// What begins with more than words: an image, a mask, a sound.
const WITH_MORE: [&str; 11] = [
    "Img2Img",
    "Inpaint",
    "ControlNet",
    "Upscale",
    "Depth2Img",
    "Pix2Pix",
    "Edit",
    "Audio",
    "Video",
    "Variation",
    "Control",
];

/// The proposal for a pipeline that lies in `folder`, and at the path `at`, an expression, in the container. None where its
/// description cannot be read.
pub fn propose(folder: &Path, at: &str) -> Option<Proposal> {
    let index = read(&folder.join("model_index.json"))?;
    let version = text(&index, "/_diffusers_version").and_then(releases::version);
    let framework = version.as_ref().map_or_else(|| "diffusers".to_owned(), |version| format!("diffusers {version}"));
    let mut proposal = Proposal::empty(&framework);
    let class = plain_name(text(&index, "/_class_name").unwrap_or_default());
    proposal.requirements.push(match version {
        Some(version) => Pin::new(format!("diffusers>={version}"), "saved the model, and later ones read it"),
        None => Pin::new("diffusers", "runs the model"),
    });
    proposal.require("torch", "runs the model");
    let parts = index.as_object().map(|index| index.values().filter_map(Json::as_array)).into_iter().flatten();
    if parts.filter_map(|part| part.first()?.as_str()).any(|library| library == "transformers") {
        proposal.require("transformers", "has parts of the model");
    }
    proposal.import("from diffusers import DiffusionPipeline");
    proposal.code.load = format!("model = DiffusionPipeline.from_pretrained({at})");
    let steps = json!(2);
    let optional = [
        Given::new(
            "num_inference_steps",
            "int = 50",
            "how many steps are made: more take longer, and are finer",
            steps,
        ),
        Given::new("seed", "int = 0", "where chance begins: the same gives the same images", json!(0)),
    ];
    let part =
        |name: &str| index.get(name).and_then(Json::as_array).is_some_and(|part| part.iter().any(Json::is_string));
    let call = if WITH_MORE.iter().any(|word| class.contains(word)) || class.is_empty() {
        proposal.take(Input::Unknown);
        let why = format!("{class} begins with more than a text: say in src/predict.py what, and call it");
        proposal.leave_open("call the model here", why);
        None
    } else if part("tokenizer") {
        let prompt = Given::new("prompt", "str", "what is to be seen", json!("a lighthouse in the evening"));
        proposal.take(Input::Given([vec![prompt], optional.to_vec()].concat()));
        Some("prompt, ")
    } else {
        let size = Given::new("batch_size", "int = 1", "how many images are made", json!(1));
        proposal.take(Input::Given([vec![size], optional.to_vec()].concat()));
        Some("batch_size=batch_size, ")
    };
    if let Some(call) = call {
        for import in ["import base64", "import io", "import torch"] {
            proposal.import(import);
        }
        proposal.answer(
            "predict",
            &format!(
                "chance = torch.Generator().manual_seed(seed)\n    \
                 made = model({call}num_inference_steps=num_inference_steps, generator=chance)\n    \
                 answers = []\n    \
                 for image in made.images:\n        \
                 file = io.BytesIO()\n        \
                 image.save(file, format=\"PNG\")\n        \
                 answers.append(base64.b64encode(file.getvalue()).decode())\n    \
                 return {{\"images\": answers}}"
            ),
        );
    }
    proposal.class = Some(class).filter(|class| !class.is_empty());
    Some(proposal)
}
