//! Pipelines of spaCy (<https://spacy.io/api/data-formats>): `meta.json` names the release and the labels, `config.cfg` the
//! components.

use std::path::Path;
use std::str::FromStr;

use super::input::Input;
use super::{Pin, Proposal, plain_name};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{MAX_BYTES, read_text};
use crate::formats::model;
use crate::formats::requirement;
use pep440_rs::VersionSpecifiers;

/// Kinds of components that spaCy itself has, each with what they say of a text, if they do.
const FACTORIES: [(&str, Option<Says>); 29] = [
    ("textcat", Some(Says::Categories)),
    ("textcat_multilabel", Some(Says::Categories)),
    ("ner", Some(Says::Entities)),
    ("beam_ner", Some(Says::Entities)),
    ("entity_ruler", Some(Says::Entities)),
    ("future_entity_ruler", Some(Says::Entities)),
    ("entity_linker", Some(Says::Entities)),
    ("spancat", Some(Says::Spans)),
    ("spancat_singlelabel", Some(Says::Spans)),
    ("span_finder", Some(Says::Spans)),
    ("span_ruler", Some(Says::Spans)),
    ("tagger", Some(Says::Tokens)),
    ("morphologizer", Some(Says::Tokens)),
    ("lemmatizer", Some(Says::Tokens)),
    ("trainable_lemmatizer", Some(Says::Tokens)),
    ("attribute_ruler", Some(Says::Tokens)),
    ("parser", Some(Says::Tokens)),
    ("beam_parser", Some(Says::Tokens)),
    ("sentencizer", Some(Says::Sentences)),
    ("senter", Some(Says::Sentences)),
    ("tok2vec", None),
    ("transformer", None),
    ("curated_transformer", None),
    ("doc_cleaner", None),
    ("merge_entities", None),
    ("merge_noun_chunks", None),
    ("merge_subtokens", None),
    ("token_splitter", None),
    ("span_cleaner", None),
];

/// What a component says of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Categories,
    Entities,
    Spans,
    Tokens,
    Sentences,
}

impl Says {
    const ALL: [Self; 5] = [Self::Categories, Self::Entities, Self::Spans, Self::Tokens, Self::Sentences];

    /// It as an entry of a dictionary of Python's, of the document `document`.
    fn entry(self) -> &'static str {
        match self {
            Self::Categories => "\"cats\": document.cats,",
            Self::Entities => "\"ents\": [spoken(entity) for entity in document.ents],",
            Self::Spans => {
                "\"spans\": {key: [spoken(span) for span in spans] for key, spans in document.spans.items()},"
            }
            Self::Tokens => {
                "\"tokens\": [\n                \
                 {\"text\": token.text, \"lemma\": token.lemma_, \"pos\": token.pos_, \"tag\": token.tag_, \"dep\": token.dep_}\n                \
                 for token in document\n            \
                 ],"
            }
            Self::Sentences => "\"sents\": [sentence.text for sentence in document.sents],",
        }
    }
}

/// Packages that pipelines of some languages, or with some components, need beside spaCy.
const EXTRAS: [(&str, &str); 3] = [("ja", "spacy[ja]"), ("ko", "spacy[ko]"), ("th", "spacy[th]")];

/// The proposal for a pipeline that lies in `folder`, and at the path `at`, an expression, in the container. None where its
/// description cannot be read.
pub fn propose(folder: &Path, at: &str) -> Option<Proposal> {
    let about = model::pipeline(folder).ok()?.about;
    let config = read_text(&folder.join("config.cfg"), "config.cfg", MAX_BYTES, &mut Diagnostics::new())?;
    let range = about.version.as_deref().and_then(|range| VersionSpecifiers::from_str(range).ok());
    let mut proposal = Proposal::empty("spaCy");
    let language = about.properties.get("lang");
    let package = EXTRAS
        .iter()
        .find(|(of, _)| language.is_some_and(|language| language == of))
        .map_or("spacy", |(_, package)| package);
    proposal.requirements.push(match range {
        Some(range) => {
            let range = range.to_string().replace(' ', "");
            Pin::new(format!("{package}{range}"), "meta.json says so")
        }
        None => Pin::new(package, "runs the pipeline"),
    });
    let components = components(config.text());
    let names: Vec<String> = components.iter().map(|(name, _)| plain_name(name)).collect();
    proposal.class = Some(match names.len() {
        0 => "pipeline".to_owned(),
        _ => format!("pipeline ({})", names.join(", ")),
    });
    for (name, factory) in &components {
        match factory.as_str() {
            "transformer" => proposal.require("spacy-transformers", "has the component `transformer`"),
            "curated_transformer" => {
                proposal.require("spacy-curated-transformers", "has the component `curated_transformer`");
            }
            known if FACTORIES.iter().any(|(factory, _)| *factory == known) => {}
            other => proposal.open.push(format!(
                "its component `{}` is made by `{}`, which spaCy does not have: put the code that registers that into src/, or \
                 the package into requirements.txt, and import it in src/predict.py",
                plain_name(name),
                plain_name(other)
            )),
        }
    }
    for requirement in about.requirements {
        if requirement::parse(&requirement).is_ok_and(|r| r.version_or_url.is_some()) {
            proposal.requirements.push(Pin::new(requirement, "meta.json says so"));
        }
    }
    proposal.import("import spacy");
    proposal.code.load = format!("model = spacy.load({at})");
    proposal.take(Input::Texts);
    let said = |says: &Says| {
        let of = |(_, name): &(String, String)| FACTORIES.iter().find(|(factory, _)| factory == name)?.1;
        components.iter().filter_map(of).any(|said| said == *says)
    };
    let said: Vec<Says> = Says::ALL.into_iter().filter(said).collect();
    if said.is_empty() {
        let has_vectors = folder.join("vocab/vectors").metadata().is_ok_and(|file| file.len() > 1024);
        let answer = if has_vectors { "document.vector" } else { "[token.text for token in document]" };
        proposal.answer("predict", &format!("return [{answer} for document in model.pipe(texts)]"));
    } else {
        let entries: Vec<&str> = said.iter().map(|says| says.entry()).collect();
        proposal.answer(
            "predict",
            &format!(
                "return [\n        \
                 {{\n            \
                 {}\n        \
                 }}\n        \
                 for document in model.pipe(texts)\n    \
                 ]",
                entries.join("\n            ")
            ),
        );
    }
    if said.iter().any(|says| matches!(says, Says::Entities | Says::Spans)) {
        proposal.code.load += "\n\n\n\
             def spoken(span):\n    \
             \"\"\"A part of a text, with the places of its first letter and of that after its last.\"\"\"\n    \
             return {\"text\": span.text, \"label\": span.label_, \"start\": span.start_char, \"end\": span.end_char}";
    }
    Some(proposal)
}

/// The components of a pipeline in their order, each with what makes it, by its configuration.
fn components(config: &str) -> Vec<(String, String)> {
    let mut pipeline: Vec<String> = Vec::new();
    let mut factories: Vec<(String, String)> = Vec::new();
    let mut section = "";
    for line in config.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        match (section.split_once('.'), key) {
            (None, "pipeline") if section == "nlp" => pipeline = serde_json::from_str(value).unwrap_or_default(),
            (Some(("components", name)), "factory") => {
                let factory = serde_json::from_str(value).unwrap_or_default();
                factories.push((name.to_owned(), factory));
            }
            _ => {}
        }
    }
    let made = |name: String| {
        let factory = factories.iter().find(|(of, _)| *of == name).map(|(_, factory)| factory.clone());
        (name, factory.unwrap_or_default())
    };
    pipeline.into_iter().map(made).collect()
}
