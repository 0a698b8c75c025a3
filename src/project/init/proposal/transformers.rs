//! Models of transformers (<https://huggingface.co/docs/transformers>): `config.json` names the architecture, and that what
//! a model is for.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::code::{Preparation, VALUE};
use super::document::{has_any, read, text};
use super::input::{Given, Input};
use super::{Pin, Proposal, plain_name, releases};

/// Ends of architectures' names, each with the pipeline for it.
const PIPELINES: [(&str, &str); 7] = [
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForImageClassification", "image-classification"),
    ("Model", "feature-extraction"),
];

/// Kinds of models that make a text of a text; others of these architectures listen or look.
const TRANSLATORS: [&str; 19] = [
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "blenderbot-small",
    "encoder-decoder",
    "fsmt",
    "led",
    "longt5",
    "m2m_100",
    "marian",
    "mbart",
    "mt5",
    "mvp",
    "nllb-moe",
    "pegasus",
    "pegasus_x",
    "plbart",
    "t5",
    "umt5",
];

/// Files of which one says how a text becomes numbers.
const TOKENIZERS: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
];

/// The proposal for a model that lies in `folder`, and at the path `at`, an expression, in the container. None where its
/// configuration cannot be read.
pub fn propose(folder: &Path, at: &str) -> Option<Proposal> {
    let config = read(&folder.join("config.json"))?;
    let class = plain_name(text(&config, "/architectures/0").unwrap_or_default());
    let kind = text(&config, "/model_type").unwrap_or_default();
    let saved = text(&config, "/transformers_version").and_then(releases::version);
    let framework =
        saved.as_ref().map_or_else(|| "transformers".to_owned(), |version| format!("transformers {version}"));
    let mut proposal = Proposal::empty(&framework);
    require(&mut proposal, folder, saved.and_then(|version| version.release().first().copied()));
    let pipeline = PIPELINES.iter().find(|(end, _)| class.ends_with(end)).map(|(_, task)| *task);
    let looks = has_any(folder, &["preprocessor_config.json", "image_processor_config.json"]);
    let has_tokenizer = has_any(folder, &TOKENIZERS);
    let reads = !matches!(pipeline, Some("image-classification") | None);
    match pipeline {
        _ if config.get("auto_map").is_some() => {
            proposal.take(Input::Unknown);
            proposal.leave_open(
                "load the model and call it here",
                "its code lies in the folder or elsewhere (`auto_map` in config.json): read it, and load the model with \
                 `trust_remote_code=True` in src/predict.py",
            );
        }
        _ if TRANSLATORS.contains(&kind) && has_tokenizer && !class.ends_with("ForSequenceClassification") => {
            proposal.translate(at);
        }
        Some("feature-extraction") if looks && !has_tokenizer => proposal.look("image-feature-extraction", at),
        Some("image-classification") => proposal.look("image-classification", at),
        Some("fill-mask") => proposal.fill_masks(folder, at),
        Some("text-generation") => proposal.write(folder, at),
        // What looks or listens, and reads as well.
        Some("feature-extraction") if looks => proposal.leave_transformer_open(&class),
        Some(task) => {
            proposal.pipeline(task, at);
            proposal.take(Input::Texts);
            proposal.answer("predict", &format!("return model({VALUE})"));
        }
        None if class.ends_with("ForQuestionAnswering") && has_tokenizer => proposal.find_answers(at),
        None => proposal.leave_transformer_open(&class),
    }
    if reads && !has_tokenizer && !looks {
        proposal.open.push("the folder has no tokenizer: save that into it as well".to_owned());
    }
    proposal.class = Some(class).filter(|class| !class.is_empty());
    weights(folder, &mut proposal);
    Some(proposal)
}

/// What runs a model of the major release `saved`, or of one that is not known.
pub(super) fn require(proposal: &mut Proposal, folder: &Path, saved: Option<u64>) {
    let tokenizer = read(&folder.join("tokenizer_config.json"));
    let class = tokenizer.as_ref().and_then(|tokenizer| text(tokenizer, "/tokenizer_class"));
    let pin = match (class, saved) {
        (Some("TokenizersBackend"), saved) => {
            Pin::new(format!("transformers>={}", saved.unwrap_or(5).max(5)), "4 does not know its tokenizer's class")
        }
        (_, Some(saved)) => Pin::new(format!("transformers>={saved}"), "saved the model, and later ones read it"),
        (_, None) => Pin::new("transformers", "runs the model"),
    };
    proposal.requirements.push(pin);
    proposal.requirements.push(Pin::new("torch", "runs the model; its files do not say which version"));
    let told = "which version of torch suits: `ekiben lock` takes the newest";
    proposal.unknown.push(told.to_owned());
}

/// Notes that there are no weights.
pub(super) fn weights(folder: &Path, proposal: &mut Proposal) {
    const NAMES: [&str; 4] =
        ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json"];
    if !has_any(folder, &NAMES) && !has_any(&folder.join("0_Transformer"), &NAMES) {
        proposal.open.push("the folder has no weights (model.safetensors or pytorch_model.bin)".to_owned());
    }
}

impl Proposal {
    fn pipeline(&mut self, task: &str, at: &str) {
        self.import("from transformers import pipeline");
        self.code.load = format!("model = pipeline(\"{task}\", model={at})");
    }

    fn leave_transformer_open(&mut self, class: &str) {
        self.take(Input::Unknown);
        let what = if class.is_empty() { "the model" } else { class };
        let why = format!("say in src/predict.py how {what} is loaded and asked");
        self.leave_open("load the model and call it here", why);
    }

    fn fill_masks(&mut self, folder: &Path, at: &str) {
        self.pipeline("fill-mask", at);
        self.take(Input::Texts);
        // Of several texts the pipeline answers lists of lists, of one a list.
        self.answer("predict", "return [model(text) for text in texts]");
        match mask(folder) {
            Some(mask) => self.show_texts(&format!("This is an {mask}."), "one text"),
            None => {
                self.tests.clear();
                self.unknown.push("which word the model takes for the mask, so there is no example".to_owned());
            }
        }
    }

    fn write(&mut self, folder: &Path, at: &str) {
        self.pipeline("text-generation", at);
        self.take(Input::Texts);
        let generation = read(&folder.join("generation_config.json")).unwrap_or_default();
        let samples = generation.get("do_sample").and_then(Json::as_bool) == Some(true);
        let sampling = if samples { "" } else { ", do_sample=False" };
        if samples {
            self.unknown.push(
                "what the model answers: generation_config.json says that it draws by chance, each time anew"
                    .to_owned(),
            );
        }
        let is_short = ["max_new_tokens", "max_length"].iter().any(|limit| generation.get(*limit).is_some());
        let limit = if is_short { "" } else { ", max_new_tokens=50" };
        self.answer("predict", &format!("return model({VALUE}{limit}{sampling})"));
    }

    fn look(&mut self, task: &str, at: &str) {
        self.pipeline(task, at);
        self.take(Input::Given(vec![Given::new(
            "images",
            "list[str]",
            "a list of images: PNG, JPEG and the like in base64",
            json!([PICTURE]),
        )]));
        self.import("import base64");
        self.import("import io");
        self.import("from PIL import Image");
        self.require("pillow", "reads images");
        self.require(
            "torchvision",
            "makes them as large as the model takes them: without it others do, and not quite alike",
        );
        self.code.preparation = Preparation::Function {
            name: "pictures",
            definition: "def pictures(images):\n    \
                 \"\"\"Pictures of texts in base64; a ValueError is answered with status 422.\"\"\"\n    \
                 try:\n        \
                 return [Image.open(io.BytesIO(base64.b64decode(image))).convert(\"RGB\") for image in images]\n    \
                 except OSError as error:\n        \
                 raise ValueError(f\"an image cannot be read: {error}\") from error"
                .to_owned(),
        };
        self.answer("predict", &format!("return model({VALUE})"));
    }

    fn load_with(&mut self, class: &str, at: &str) {
        self.import("import torch");
        self.import(&format!("from transformers import {class}, AutoTokenizer"));
        self.code.load =
            format!("tokenizer = AutoTokenizer.from_pretrained({at})\nmodel = {class}.from_pretrained({at}).eval()");
    }

    /// Transformers 5 has no pipeline for it.
    fn find_answers(&mut self, at: &str) {
        self.load_with("AutoModelForQuestionAnswering", at);
        self.take(Input::Given(vec![
            Given::new("question", "str", "a question", json!("Where is the station?")),
            Given::new("context", "str", "a text that answers it", json!("The station is behind the church.")),
        ]));
        self.answer(
            "predict",
            "tokens = tokenizer(question, context, truncation=\"only_second\", return_offsets_mapping=True, \
             return_tensors=\"pt\")\n    \
             places = tokens.pop(\"offset_mapping\")[0].tolist()\n    \
             with torch.no_grad():\n        \
             scores = model(**tokens)\n    \
             # The answer is a part of the context, and ends no sooner than it begins.\n    \
             outside = torch.tensor([part != 1 for part in tokens.sequence_ids(0)])\n    \
             starts = scores.start_logits[0].masked_fill(outside, float(\"-inf\")).softmax(0)\n    \
             ends = scores.end_logits[0].masked_fill(outside, float(\"-inf\")).softmax(0)\n    \
             chances = (starts[:, None] * ends[None, :]).triu()\n    \
             start, end = divmod(int(chances.argmax()), len(ends))\n    \
             return {\"answer\": context[places[start][0]:places[end][1]], \"score\": float(chances.max())}",
        );
    }

    /// Transformers 5 has no pipeline for it.
    fn translate(&mut self, at: &str) {
        self.load_with("AutoModelForSeq2SeqLM", at);
        self.take(Input::Texts);
        self.answer(
            "predict",
            "tokens = tokenizer(texts, padding=True, truncation=True, return_tensors=\"pt\")\n    \
             with torch.no_grad():\n        \
             written = model.generate(**tokens, do_sample=False)\n    \
             return tokenizer.batch_decode(written, skip_special_tokens=True)",
        );
    }

    /// Gives the example request of texts another text.
    pub(super) fn show_texts(&mut self, text: &str, name: &str) {
        if let Some(test) = self.tests.first_mut() {
            test.name = name.to_owned();
            test.request = json!({ "texts": [text] });
        }
    }
}

/// A picture of eight times eight dots, as PNG in base64.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAbElEQVR42hXNQRUAUQhCUaMYhShGeVGIQhSizB+XXA7ODDtouIHBQ4YOM8su\
    Wm5h8ZKl+0CskDiBsIioHhx76LiDw0eO3oN/4FVf+J8h0PduzBqZ8x/bxNQPwgaFy192SGgelC0q13/CJaXlA8Z7WAFXOTbyAAAAAElFTkSu\
    QmCC";

/// What stands for a word that is to be found.
fn mask(folder: &Path) -> Option<String> {
    let of = |name: &str| {
        let document = read(&folder.join(name))?;
        let mask = document.get("mask_token")?;
        // A token with its properties, or itself.
        mask.get("content").unwrap_or(mask).as_str().map(str::to_owned)
    };
    let found = ["tokenizer_config.json", "special_tokens_map.json"].into_iter().find_map(of)?;
    Some(found).filter(|mask| !mask.is_empty() && mask.len() <= 40)
}
