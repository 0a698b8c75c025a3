//! Adapters of peft (<https://huggingface.co/docs/peft>): a few weights, for a model that is not in the folder.

use std::path::Path;

use super::document::{read, text};
use super::input::Input;
use super::{Pin, Proposal, literal, plain_name, plain_path, releases};

/// What an adapter is for, with the class of transformers that the model has to be.
const TASKS: [(&str, &str); 6] = [
    ("CAUSAL_LM", "AutoModelForCausalLM"),
    ("FEATURE_EXTRACTION", "AutoModel"),
    ("QUESTION_ANS", "AutoModelForQuestionAnswering"),
    ("SEQ_2_SEQ_LM", "AutoModelForSeq2SeqLM"),
    ("SEQ_CLS", "AutoModelForSequenceClassification"),
    ("TOKEN_CLS", "AutoModelForTokenClassification"),
];

/// The proposal for an adapter that lies in `folder`, and at `place` in the project. None where its configuration cannot be
/// read.
pub fn propose(folder: &Path, place: &str) -> Option<Proposal> {
    let config = read(&folder.join("adapter_config.json"))?;
    let version = text(&config, "/peft_version").and_then(releases::version);
    let framework = version.as_ref().map_or_else(|| "peft".to_owned(), |version| format!("peft {version}"));
    let mut proposal = Proposal::empty(&framework);
    proposal.class = text(&config, "/peft_type").map(|kind| format!("{} adapter", plain_name(kind)));
    proposal.requirements.push(match version {
        Some(version) => Pin::new(format!("peft>={version}"), "saved the adapter, and later ones read it"),
        None => Pin::new("peft", "reads the adapter"),
    });
    proposal.require("torch", "runs the model");
    proposal.require("transformers", "has the model that is adapted");
    proposal.take(Input::Texts);
    let task = text(&config, "/task_type").unwrap_or_default();
    let class = TASKS.iter().find(|(name, _)| *name == task).map_or("AutoModel", |(_, class)| class);
    let base = plain_path(text(&config, "/base_model_name_or_path").unwrap_or_default());
    let base = if base.is_empty() { "the model that it was trained for".to_owned() } else { format!("`{base}`") };
    proposal.code.load = format!(
        "# The folder is an adapter. Put {base} into the project as base/, name that in the manifest's\n\
         # `model.files`, and load both with {class} and AutoTokenizer of transformers, PeftModel of peft:\n\
         #   tokenizer = AutoTokenizer.from_pretrained(str(MODEL / \"base\"))\n\
         #   model = {class}.from_pretrained(str(MODEL / \"base\"))\n\
         #   model = PeftModel.from_pretrained(model, str(MODEL / {})).eval()",
        literal(place)
    );
    proposal.leave_open(
        "load the model that is adapted, and call it here",
        format!(
            "the folder is an adapter for {base}, which is not in it: put that into the project, load both and call the model \
             in src/predict.py"
        ),
    );
    Some(proposal)
}
