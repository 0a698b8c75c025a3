//! What a model is that is a folder, by what lies in it.

use std::path::Path;

use super::document::read;
use super::{Proposal, bentoml, cog, diffusers, literal, mlflow, peft, sentences, spacy, tensors, transformers};
use crate::formats::bento::BENTOFILES;
use crate::formats::model;

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model as MLflow logs it.
    Mlflow,
    /// A model of sentence-transformers.
    SentenceTransformers,
    /// A model of transformers.
    Transformers,
    /// A pipeline of diffusers'.
    Diffusers,
    /// An adapter of peft's, for a model that lies elsewhere.
    Peft,
    /// A pipeline of spaCy's.
    Spacy,
    /// A project of Ekiben's.
    Project,
    /// A bento.
    Bento,
    /// TensorFlow's SavedModel.
    SavedModel,
    /// A project of Cog's.
    Cog,
    /// A project that BentoML builds bentos from.
    BentoService,
}

/// Files that describe a project of another tool's.
pub const DESCRIPTIONS: [&str; 3] = [cog::NAME, BENTOFILES[0], BENTOFILES[1]];

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
    } else if has("adapter_config.json") && !has("config.json") {
        Some(Kind::Peft)
    } else if has("model_index.json") {
        Some(Kind::Diffusers)
    } else if has("meta.json") && has("config.cfg") {
        Some(Kind::Spacy)
    } else if let Some(config) = read(&folder.join("config.json")).filter(|config| config.get("model_type").is_some()) {
        // A cross-encoder of releases 4 and 5 says it there.
        let is_encoder = config.get("sentence_transformers").is_some();
        Some(if is_encoder { Kind::SentenceTransformers } else { Kind::Transformers })
    } else if has("saved_model.pb") {
        Some(Kind::SavedModel)
    } else if has(cog::NAME) {
        Some(Kind::Cog)
    } else if bentoml::is_service(folder) {
        Some(Kind::BentoService)
    } else {
        None
    }
}

/// The proposal for the model `folder`, which will lie at `place` in the project. None where it cannot be read.
pub fn of_folder(kind: Kind, folder: &Path, place: &str) -> Option<Proposal> {
    let at = format!("str(MODEL / {})", literal(place));
    match kind {
        Kind::Mlflow => mlflow::propose(folder, place),
        Kind::SentenceTransformers => Some(sentences::propose(folder, &at)),
        Kind::Transformers => transformers::propose(folder, &at),
        Kind::Diffusers => diffusers::propose(folder, &at),
        Kind::Peft => peft::propose(folder, place),
        Kind::Spacy => spacy::propose(folder, &at),
        Kind::SavedModel => Some(tensors::propose_saved_model(&model::saved_model(folder).ok()?.about, &at)),
        Kind::Project | Kind::Bento | Kind::Cog | Kind::BentoService => None,
    }
}

/// What in the model `folder` cannot be served, as a fragment. None where nothing is known that speaks against it.
pub fn unserved(kind: Kind, folder: &Path) -> Option<String> {
    (kind == Kind::Mlflow).then(|| mlflow::unserved(folder)).flatten()
}

/// The proposal for code in `folder` that answers already, for another server, and the models of BentoML's store that it
/// names. None where it cannot be read, or is no such code.
pub fn of_service(kind: Kind, folder: &Path) -> Option<(Proposal, Vec<String>)> {
    match kind {
        Kind::Cog => Some((cog::propose(folder)?, Vec::new())),
        Kind::BentoService => bentoml::propose(folder).map(|service| (service.proposal, service.models)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proposal for a folder with these files.
    fn proposal(files: &[(&str, &str)]) -> Proposal {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let kind = recognise(folder.path()).unwrap();
        of_folder(kind, folder.path(), "model").unwrap()
    }

    fn requirements(proposal: &Proposal) -> Vec<&str> {
        proposal.requirements.iter().map(|pin| pin.text.as_str()).collect()
    }

    fn code(proposal: &Proposal) -> String {
        let words = super::super::Words {
            name: "m",
            version: None,
            files: &[],
            elsewhere: None,
            allow: &[],
            source: "src/predict.py",
            ours: true,
            root: None,
            schema: None,
        };
        proposal.texts(&words).unwrap().code
    }

    /// A folder of transformers with this architecture, and more files.
    fn transformer(class: &str, kind: &str, files: &[(&str, &str)]) -> Proposal {
        let config =
            format!(r#"{{"architectures": ["{class}"], "model_type": "{kind}", "transformers_version": "4.30.2"}}"#);
        proposal(&[&[("config.json", config.as_str()), ("model.safetensors", "")], files].concat())
    }

    #[test]
    fn architectures_say_what_a_model_is_for() {
        let tokenizer = ("tokenizer.json", "{}");
        let picture = ("preprocessor_config.json", "{}");
        for (class, kind, files, call) in [
            ("BertForSequenceClassification", "bert", &[tokenizer][..], "pipeline(\"text-classification\", "),
            ("RobertaForTokenClassification", "roberta", &[tokenizer], "pipeline(\"token-classification\", "),
            ("BertModel", "bert", &[tokenizer], "pipeline(\"feature-extraction\", "),
            ("ViTModel", "vit", &[picture], "pipeline(\"image-feature-extraction\", "),
            ("ViTForImageClassification", "vit", &[picture], "model(pictures(images))"),
            ("GPT2LMHeadModel", "gpt2", &[tokenizer], "model(texts, max_new_tokens=50, do_sample=False)"),
            ("BertForQuestionAnswering", "bert", &[tokenizer], "AutoModelForQuestionAnswering.from_pretrained("),
            ("T5ForConditionalGeneration", "t5", &[tokenizer], "AutoModelForSeq2SeqLM.from_pretrained("),
            ("MarianMTModel", "marian", &[tokenizer], "AutoModelForSeq2SeqLM.from_pretrained("),
        ] {
            let proposal = transformer(class, kind, files);
            assert!(proposal.is_ready() && code(&proposal).contains(call), "{class}: {}", code(&proposal));
            assert_eq!(requirements(&proposal)[..2], ["transformers>=4", "torch"], "{class}");
        }
        for (class, kind, files) in [
            ("CLIPModel", "clip", &[tokenizer, picture][..]),
            ("WhisperForConditionalGeneration", "whisper", &[tokenizer, picture]),
            ("BertForSequenceClassification", "bert", &[]),
            ("", "mystery", &[tokenizer]),
        ] {
            assert!(!transformer(class, kind, files).is_ready(), "{class}");
        }
    }

    #[test]
    fn what_a_folder_says_of_its_model_is_followed() {
        // A class of a tokenizer that only release 5 has.
        let five = transformer(
            "BertForMaskedLM",
            "bert",
            &[(
                "tokenizer_config.json",
                r#"{"tokenizer_class": "TokenizersBackend", "mask_token": {"content": "<mask>"}}"#,
            )],
        );
        assert_eq!(requirements(&five)[0], "transformers>=5");
        assert_eq!(five.tests[0].request, serde_json::json!({ "texts": ["This is an <mask>."] }));
        let samples = transformer(
            "GPT2LMHeadModel",
            "gpt2",
            &[("tokenizer.json", "{}"), ("generation_config.json", r#"{"do_sample": true, "max_length": 20}"#)],
        );
        assert!(code(&samples).contains("return model(texts)\n"), "{}", code(&samples));
        assert!(samples.unknown.iter().any(|unknown| unknown.contains("by chance")));
        // Code of somebody else's is nobody's to run.
        let config = r#"{"architectures": ["XModel"], "model_type": "x", "auto_map": {"AutoModel": "a--b.XModel"}}"#;
        let remote = proposal(&[("config.json", config), ("tokenizer.json", "{}"), ("model.safetensors", "")]);
        assert!(!remote.is_ready() && !code(&remote).contains("trust_remote_code"));
    }

    #[test]
    fn encoders_get_no_pins_that_nobody_can_install() {
        let old = proposal(&[
            ("modules.json", "[]"),
            (
                "config_sentence_transformers.json",
                r#"{"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}}"#,
            ),
            ("model.safetensors", ""),
        ]);
        assert_eq!(requirements(&old), ["sentence-transformers>=2", "transformers>=4", "torch"]);
        assert_eq!((old.python.text.as_str(), old.is_ready()), ("3.11", true));
        let cross = r#"{"model_type": "CrossEncoder", "__version__": {"sentence_transformers": "6.2.0"}}"#;
        let cross = proposal(&[
            ("modules.json", "[]"),
            ("config_sentence_transformers.json", cross),
            ("model.safetensors", ""),
        ]);
        assert!(code(&cross).contains("def predict(pairs: list[tuple[str, str]])"), "{}", code(&cross));
        let earlier = r#"{"model_type": "bert", "sentence_transformers": {"version": "5.1.0"}}"#;
        let earlier = proposal(&[("config.json", earlier), ("model.safetensors", "")]);
        assert_eq!(requirements(&earlier)[0], "sentence-transformers>=5");
        assert!(code(&earlier).contains("model.predict(pairs)"));
        let sparse = r#"{"model_type": "SparseEncoder"}"#;
        assert!(!proposal(&[("modules.json", "[]"), ("config_sentence_transformers.json", sparse)]).is_ready());
    }

    #[test]
    fn pipelines_of_spacy_answer_what_their_components_say() {
        let config = "[nlp]\nlang = \"ja\"\npipeline = [\"tok2vec\",\"topics\",\"people\",\"mine\"]\n\n\
                      [components.tok2vec]\nfactory = \"tok2vec\"\n[components.topics]\nfactory = \"textcat\"\n\
                      [components.people]\nfactory = \"ner\"\n[components.people.model]\nfactory = \"x\"\n\
                      [components.mine]\nfactory = \"my_factory\"\n";
        let meta = r#"{"lang": "ja", "spacy_version": ">=3.8.1,<3.9.0", "requirements": ["sudachipy>=0.6", "-r x"]}"#;
        let found = proposal(&[("meta.json", meta), ("config.cfg", config)]);
        assert_eq!(requirements(&found), ["spacy[ja]>=3.8.1,<3.9.0", "sudachipy>=0.6"]);
        let code = code(&found);
        assert!(code.contains("\"cats\": document.cats,") && code.contains("\"ents\": [spoken(entity)"), "{code}");
        assert!(!code.contains("tokens") && !code.contains("spans"), "{code}");
        assert_eq!(found.open.len(), 1, "{:?}", found.open);
        assert!(found.open[0].contains("`mine` is made by `my_factory`"), "{:?}", found.open);
    }

    #[test]
    fn adapters_and_painters_are_known() {
        let adapter = r#"{"base_model_name_or_path": "org/base\"); import os", "task_type": "SEQ_CLS", "peft_version": "0.21.2"}"#;
        let adapter = proposal(&[("adapter_config.json", adapter)]);
        assert!(!adapter.is_ready() && adapter.open[0].contains("`org/baseimportos`"), "{:?}", adapter.open);
        let lines = code(&adapter);
        assert!(lines.contains("#   model = AutoModelForSequenceClassification.from_pretrained("), "{lines}");
        let painter = |class: &str, part: &str| {
            let index = format!(
                r#"{{"_class_name": "{class}", "_diffusers_version": "0.42.1", "{part}": ["transformers", "CLIPTokenizer"]}}"#
            );
            proposal(&[("model_index.json", &index)])
        };
        let words = painter("StableDiffusionPipeline", "tokenizer");
        assert!(code(&words).contains("model(prompt, num_inference_steps=num_inference_steps, generator=chance)"));
        assert_eq!(requirements(&words), ["diffusers>=0.42.1", "torch", "transformers"]);
        assert!(code(&painter("DDPMPipeline", "unet")).contains("batch_size: int = 1"));
        assert!(!painter("StableDiffusionInpaintPipeline", "tokenizer").is_ready());
    }
}
