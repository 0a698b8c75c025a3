//! Models of gensim (<https://radimrehurek.com/gensim>), which its classes load themselves, with the arrays beside them.

use serde_json::json;

use super::code::Preparation;
use super::input::{Given, Input};
use super::{Pin, Proposal, plain_name, releases};
use crate::formats::model::Object;

/// What a model of gensim's knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// Words, in an attribute or itself.
    Words(&'static str),
    /// Topics of texts.
    Topics,
    /// Other things.
    Others,
}

/// The release that saved a model, as a requirement.
pub fn version(object: Object<'_>) -> Option<Pin> {
    let events = object.get("lifecycle_events")?.items()?;
    let version = events.iter().rev().find_map(|event| releases::version(event.get("gensim")?.text()?))?;
    Some(Pin::new(format!("gensim>={version}"), "saved the model, and later ones read it"))
}

impl Proposal {
    /// Asks a model that lies at `file`.
    pub(super) fn ask_gensim(&mut self, object: Object<'_>, file: &str) {
        let (module, class) = object.class().unwrap_or_default();
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
        self.class = Some(plain_name(class));
        self.take(Input::Unknown);
        if !is_name(module) || !is_name(class) || class.contains('.') {
            self.leave_open("load the model and call it here", "its class has a name that Python does not take");
            return;
        }
        let knows = match class {
            "Word2Vec" | "FastText" => Knows::Words(".wv"),
            "Doc2Vec" => Knows::Others,
            _ if module.starts_with("gensim.models.keyedvectors") || class.ends_with("KeyedVectors") => {
                Knows::Words("")
            }
            "LdaModel" | "LdaMulticore" | "LsiModel" | "HdpModel" | "TfidfModel" => Knows::Topics,
            _ => Knows::Others,
        };
        self.load_with_class(&format!("from {module} import {class}"), &format!("{class}.load(str({file}))"));
        match knows {
            Knows::Words(attribute) => {
                let vectors = if attribute.is_empty() { Some(object) } else { object.get("wv") };
                let words = vectors.and_then(|vectors| vectors.get("index_to_key")?.items()).unwrap_or_default();
                let word = words.iter().find_map(|word| word.text().filter(|word| word.len() <= 60));
                self.code.load += attribute;
                self.ask_words(word);
            }
            Knows::Topics => {
                self.take(Input::Texts);
                self.import("from gensim.utils import simple_preprocess");
                self.answer(
                    "predict",
                    "words = [simple_preprocess(text) for text in texts]\n    \
                     return [model[model.id2word.doc2bow(one)] for one in words]",
                );
                self.unknown.push(
                    "how texts were made words when the model was trained: gensim's simple_preprocess is proposed"
                        .to_owned(),
                );
            }
            Knows::Others => {
                let why = format!("say in src/predict.py what {} is asked: it is loaded there", plain_name(class));
                self.leave_open("call the model here", why);
            }
        }
    }

    /// Asks vectors of words, of which `word` is one.
    pub(super) fn ask_words(&mut self, word: Option<&str>) {
        let words = "a list of words that the model knows";
        self.take(Input::Given(vec![Given::new("words", "list[str]", words, json!([word.unwrap_or("word")]))]));
        if word.is_none() {
            self.unknown.push("which words the model knows: the example request may have none of them".to_owned());
        }
        self.code.preparation = Preparation::Function {
            name: "known",
            definition: "def known(words):\n    \
                 \"\"\"The words, if the model knows them all; a ValueError is answered with status 422.\"\"\"\n    \
                 unknown = [word for word in words if word not in model]\n    \
                 if unknown:\n        \
                 raise ValueError(f\"the model does not know {unknown}\")\n    \
                 return words"
                .to_owned(),
        };
        self.answer("predict", "return [model.most_similar(word) for word in {value}]");
        self.answer("vectors", "return [model[word] for word in {value}]");
    }

    /// The proposal for vectors in the format of word2vec.
    pub(super) fn of_word_vectors(word: Option<&str>, is_binary: bool, file: &str) -> Self {
        let mut proposal = Self::empty("word2vec's format");
        proposal.class = Some("KeyedVectors".to_owned());
        proposal.require("gensim", "reads the file");
        proposal.import("from gensim.models import KeyedVectors");
        let binary = if is_binary { ", binary=True" } else { "" };
        proposal.code.load = format!("model = KeyedVectors.load_word2vec_format(str({file}){binary})");
        proposal.ask_words(word);
        proposal
    }
}
