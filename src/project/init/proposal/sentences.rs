//! Models of sentence-transformers (<https://sbert.net>): encoders of texts, and cross-encoders of pairs.

use std::path::Path;

use serde_json::json;

use super::code::VALUE;
use super::document::{read, text};
use super::input::{Given, Input};
use super::transformers::{require, weights};
use super::{Pin, Proposal, releases};

/// The proposal for a model that lies in `folder`, and at the path `at`, an expression, in the container.
pub fn propose(folder: &Path, at: &str) -> Proposal {
    let own = read(&folder.join("config_sentence_transformers.json")).unwrap_or_default();
    // A cross-encoder of releases 4 and 5 says it in the file of transformers.
    let config = read(&folder.join("config.json")).unwrap_or_default();
    let within = config.get("sentence_transformers");
    let version = text(&own, "/__version__/sentence_transformers").or_else(|| text(within?, "/version"));
    let version = version.and_then(releases::version);
    let framework = match &version {
        Some(version) => format!("sentence-transformers {version}"),
        None => "sentence-transformers".to_owned(),
    };
    let mut proposal = Proposal::empty(&framework);
    let major = |version: &pep440_rs::Version| version.release().first().copied();
    let pin = match version.as_ref().and_then(major) {
        Some(major) => Pin::new(format!("sentence-transformers>={major}"), "saved the model, and later ones read it"),
        None => Pin::new("sentence-transformers", "runs the model"),
    };
    proposal.requirements.push(pin);
    let saved = text(&own, "/__version__/transformers").and_then(releases::version);
    require(&mut proposal, folder, saved.as_ref().and_then(major));
    let class =
        text(&own, "/model_type").unwrap_or(if within.is_some() { "CrossEncoder" } else { "SentenceTransformer" });
    match class {
        "CrossEncoder" => {
            let pairs = json!([["How large is Berlin?", "Berlin has 3.7 million inhabitants."]]);
            let words = "a list of pairs of texts that may fit each other";
            proposal.take(Input::Given(vec![Given::new("pairs", "list[tuple[str, str]]", words, pairs)]));
            proposal.load_as("CrossEncoder", at);
            proposal.answer("predict", &format!("return model.predict({VALUE})"));
        }
        "SentenceTransformer" => {
            proposal.take(Input::Texts);
            proposal.load_as("SentenceTransformer", at);
            proposal.answer("predict", &format!("return model.encode({VALUE})"));
        }
        _ => {
            proposal.take(Input::Unknown);
            let why = "what config_sentence_transformers.json calls `model_type` is not known here: load it with its class \
                       of sentence-transformers, and call it in src/predict.py";
            proposal.leave_open("load the model and call it here", why);
        }
    }
    weights(folder, &mut proposal);
    proposal
}

impl Proposal {
    fn load_as(&mut self, class: &str, at: &str) {
        self.class = Some(class.to_owned());
        self.import(&format!("from sentence_transformers import {class}"));
        self.code.load = format!("model = {class}({at})");
    }
}
