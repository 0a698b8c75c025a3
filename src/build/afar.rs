//! What a model is that lies at an address, told without fetching its weights.
//!
//! Files are read as data from their beginning, as far as their formats need it, and large ones of which all would be needed are
//! left out, which is said.

use std::io::Read;

use serde::Serialize;
use serde_json::Value as Json;

use crate::bundle::origin::{self, Catalogue};
use crate::formats::diagnostic::{Diagnostics, Source};
use crate::formats::document::{self, Document, MAX_BYTES};
use crate::formats::model::{Format, Model, Origin};
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::project::address::Address;
use crate::project::files::Files;
use crate::project::init::{self, Named};
use crate::project::validate::model::{judge_file, read_origin};

/// Bytes of a file that is read to its end, where its format asks for that.
const LARGEST: u64 = 64 << 20;

/// Formats that say at their beginning what there is to say.
const AHEAD: [&str; 2] = [".safetensors", ".gguf"];

/// What is at an address.
#[derive(Debug, Serialize)]
pub struct Afar {
    /// As it was asked for.
    pub address: String,
    /// As it holds from now on: with a version in the place of an alias.
    pub pinned: String,
    /// Of all files whose size is known, in bytes.
    pub size: u64,
    /// What is there.
    pub files: Vec<File>,
    /// What MLflow says of it, where it saved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<Saved>,
    /// Licences: as its description names them, and files that are called so.
    pub licences: Vec<String>,
    /// What is wrong with its files.
    #[serde(skip)]
    pub diagnostics: Diagnostics,
}

/// A file at an address.
#[derive(Debug, Serialize)]
pub struct File {
    /// Its path below the address, or its own name.
    pub name: String,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of its bytes, where that is known before it is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What tells this version of it from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of what kind a model's file is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What its makers call what is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether it is too large to be looked into before it is fetched.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_left_out: bool,
}

/// What `MLmodel` says.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// By what it can be loaded.
    pub flavors: Vec<String>,
    /// The release of MLflow that saved it.
    pub version: Option<String>,
    /// What it takes, as MLflow writes it down.
    pub inputs: Option<Json>,
    /// What it answers.
    pub outputs: Option<Json>,
}

/// Looks at what is at `address`.
///
/// # Errors
/// When nobody there can be asked, or nothing is there.
pub fn look(session: &Session, address: &Address) -> Result<Afar, origin::Error> {
    let pinned = origin::pinned(session, address)?;
    let catalogue = Catalogue::of(session, &pinned)?;
    let mut found = Diagnostics::new();
    let mut files = Vec::new();
    for told in catalogue.files() {
        let mut file = File {
            name: told.name.to_owned(),
            size: told.size,
            digest: told.digest,
            version: told.version.map(str::to_owned),
            format: None,
            class: None,
            is_left_out: false,
        };
        let named = init::named(told.name);
        if named != Named::Otherwise {
            let is_ahead = AHEAD.iter().any(|ending| told.name.ends_with(ending));
            match told.size.filter(|size| *size <= LARGEST || is_ahead) {
                Some(size) => {
                    let shown = format!("{address}/{}", told.name);
                    let open = || catalogue.open(told.name);
                    let mut own = Diagnostics::new();
                    let model = read_origin(&Origin::Stream(&open), told.name, &shown, size, &mut own);
                    // Of what is only called like a model nothing is said.
                    let is_one = |model: &Model| named == Named::Model || model.format != Format::Other;
                    if let Some(model) = model.filter(is_one) {
                        judge_file(&model, &shown, &[], &Files::default(), &mut own);
                        file.format = Some(format!("{:?}", model.format).to_ascii_lowercase());
                        file.class = model.about.class;
                        found.extend(own);
                    } else if named == Named::Model {
                        found.extend(own);
                    }
                }
                None => file.is_left_out = named == Named::Model,
            }
        }
        files.push(file);
    }
    let read = |name: &str| {
        let mut text = String::new();
        catalogue.open(name).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let document = |name: &str| {
        let text = read(name)?;
        let source = Source::new(name, text);
        Some(Document::parse(&source, document::Format::Yaml, &mut Diagnostics::new())?.root.to_json())
    };
    let has = |name: &str| files.iter().any(|file| file.name == name);
    let mlflow = has("MLmodel").then(|| document("MLmodel").map(|description| saved(&description))).flatten();
    let mut licences: Vec<String> = Vec::new();
    licences.extend(has("README.md").then(|| read("README.md").as_deref().and_then(licence)).flatten());
    let is_licence = |name: &&str| {
        let name = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        ["license", "licence", "copying", "notice"].iter().any(|word| name.starts_with(word))
    };
    licences.extend(files.iter().map(|file| file.name.as_str()).filter(is_licence).map(str::to_owned));
    Ok(Afar {
        address: address.to_string(),
        pinned: pinned.to_string(),
        size: files.iter().filter_map(|file| file.size).sum(),
        files,
        mlflow,
        licences,
        diagnostics: found,
    })
}

fn saved(description: &Json) -> Saved {
    let text = |pointer: &str| description.pointer(pointer).and_then(Json::as_str);
    let columns = |pointer: &str| text(pointer).and_then(|columns| serde_json::from_str(columns).ok());
    let flavors = description.get("flavors").and_then(Json::as_object);
    Saved {
        flavors: flavors.into_iter().flat_map(|flavors| flavors.keys().cloned()).collect(),
        version: text("/mlflow_version").map(str::to_owned),
        inputs: columns("/signature/inputs"),
        outputs: columns("/signature/outputs"),
    }
}

/// The licence that a model card names before its text.
fn licence(card: &str) -> Option<String> {
    let front = card.strip_prefix("---\n")?.split("\n---").next()?;
    let line = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    let name = line.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.chars().filter(|c| !c.is_control()).take(100).collect())
}
