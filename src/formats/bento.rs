//! BentoML's documents: `bento.yaml`, the description in every bento (versions 1.0 to 1.4), and `bentofile.yaml`, from
//! which BentoML builds one.
//!
//! Other versions write other keys, so what is not known is let be; what is known has its form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;
use crate::formats::requirement;
use crate::formats::schema::Kind;
use crate::formats::schema::load::Described;

/// The name of the description in a bento.
pub const NAME: &str = "bento.yaml";

/// Names of the file that BentoML builds from.
pub const BENTOFILES: [&str; 2] = ["bentofile.yaml", "bentofile.yml"];

/// Where BentoML keeps bentos and models on this machine: BENTOML_HOME, or else `bentoml` in the person's home. It need not be
/// there.
pub fn home() -> PathBuf {
    let home = std::env::var_os("BENTOML_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join("bentoml"))).unwrap_or_default()
}

/// The description of a bento.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bento {
    /// What answers: module and object, as `service:Iris`.
    #[schemars(length(min = 1), extend("pattern" = SERVICE, "patternErrorMessage" = SERVICE_IN_WORDS))]
    pub service: String,
    /// What it is called.
    #[schemars(length(min = 1, max = 63), extend("pattern" = TAG_PART, "patternErrorMessage" = TAG_PART_IN_WORDS))]
    pub name: String,
    /// Its version.
    #[schemars(length(min = 1, max = 63), extend("pattern" = TAG_PART, "patternErrorMessage" = TAG_PART_IN_WORDS))]
    pub version: String,
    /// The version of BentoML that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bentoml_version: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, Option<String>>>,
    /// The models in it. Newer bentos may list them under `services` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<BentoModel>>,
    /// The service that clients talk to, of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_service: Option<String>,
    /// The services in it (from 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<BentoService>>,
    /// Variables of the environment (from 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envs: Option<Vec<BentoVariable>>,
    /// The layout: 2 from 1.4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<u32>,
    /// How its image is made (to 1.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<BentoDocker>,
    /// Where its Python packages come from (to 1.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<BentoPython>,
    /// Its conda packages (to 1.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conda: Option<BTreeMap<String, Json>>,
    /// How its image is made (from 1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<BentoImage>,
}

impl Described for Bento {
    const KIND: Kind = Kind::Bento;
}

/// How the image of a bento is made, to 1.3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BentoDocker {
    /// The distribution: `debian`, `alpine`, `ubi8`, `amazonlinux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distro: Option<String>,
    /// Which Python, as `3.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
    /// Which CUDA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<Json>,
    /// Variables of the environment, as a mapping or a list of `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Json>,
    /// Packages of the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_packages: Option<Vec<String>>,
    /// A script that is run when the image is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<String>,
    /// The image that it stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// A template of the Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile_template: Option<String>,
}

/// Where the Python packages of a bento come from, to 1.3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BentoPython {
    /// The package index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_url: Option<String>,
    /// Whether there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_index: Option<bool>,
    /// Pages with links to packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub find_links: Option<Vec<String>>,
    /// Further package indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_index_url: Option<Vec<String>>,
    /// What pip is told besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pip_args: Option<String>,
}

/// How the image of a bento is made, from 1.4.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BentoImage {
    /// The image that it stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// Which Python, as `3.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
    /// Commands that are run before the Python packages are installed.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Python packages, as the text of a file of requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_requirements: Option<String>,
    /// Commands that are run after the Python packages were installed.
    #[serde(default)]
    pub post_commands: Vec<String>,
    /// Files of the code that are there by then.
    #[serde(default)]
    pub build_include: Vec<String>,
}

/// A model in a bento.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BentoModel {
    /// `NAME:VERSION`.
    #[schemars(regex(pattern = "^[^:/ ]+(:[^:/ ]+)?$"), extend("patternErrorMessage" = "name and version, as iris:1.0"))]
    pub tag: String,
    /// What loads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Where it is: in the bento, which is `bentoml` or nothing, or in `huggingface` (from 1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
}

/// A service in a bento.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BentoService {
    /// What it is called.
    pub name: String,
    /// Its models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<BentoModel>>,
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BentoVariable {
    /// Its name.
    #[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"), extend("patternErrorMessage" = "letters, digits and `_`, the first no digit"))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// When it is needed (from 1.4): `all`, `build` or `runtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

const SERVICE: &str = r"^\w+([./-]\w+)*(:\w+(\.\w+)*)?$";
const SERVICE_IN_WORDS: &str = "a module and an object in it, as service:Iris";
const TAG_PART: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
const TAG_PART_IN_WORDS: &str = "only letters, digits, `-`, `_` and `.`, the first and last a letter or digit";

impl Bento {
    /// The models in it, wherever they are listed, each with where, as a JSON pointer.
    pub fn all_models(&self) -> Vec<(String, &BentoModel)> {
        let own = self.models.iter().flatten().enumerate().map(|(number, model)| (format!("/models/{number}"), model));
        let inner = self.services.iter().flatten().enumerate().flat_map(|(service, of)| {
            let models = of.models.iter().flatten().enumerate();
            models.map(move |(number, model)| (format!("/services/{service}/models/{number}"), model))
        });
        own.chain(inner).collect()
    }

    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        if let Some(entry) = &self.entry_service
            && let Some(services) = &self.services
            && !services.is_empty()
            && !services.iter().any(|service| service.name == *entry)
        {
            let message = format!("there is no service `{entry}` among the services");
            found.push(document.at(Code::BrokenReference, "/entry_service", message));
        }
        if let Some(spec) = self.spec.filter(|spec| !(1..=2).contains(spec)) {
            let message = format!("there is no layout {spec} of bentos that ekiben knows");
            found.push(document.at(Code::Inconsistent, "/spec", message).help("update ekiben"));
        }
    }
}

/// What BentoML builds a bento from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bentofile {
    /// What answers: module and object, as `service:Iris`.
    #[schemars(regex(pattern = "^[^:]+(:[A-Za-z_][A-Za-z0-9_]*)?$"), extend("patternErrorMessage" = "a module and an object in it, as service:Iris"))]
    pub service: String,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does, or the file that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// For whom it is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What belongs to the code, as globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// What does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Python packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<BentofilePython>,
    /// How the image is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<BTreeMap<String, Json>>,
    /// Packages of conda.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conda: Option<BTreeMap<String, Json>>,
    /// Models that go along, as tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Json>>,
    /// Variables of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envs: Option<Vec<BentoVariable>>,
    /// Arguments of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<BTreeMap<String, Json>>,
}

impl Described for Bentofile {
    const KIND: Kind = Kind::Bentofile;
}

/// Python packages of a bentofile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BentofilePython {
    /// The file with the requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements_txt: Option<String>,
    /// The requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<String>>,
    /// Whether they are locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_packages: Option<bool>,
    /// Whether packages from repositories are packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_git_packages: Option<bool>,
    /// The package index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_url: Option<String>,
    /// Whether there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_index: Option<bool>,
    /// Hosts that are trusted without a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_host: Option<Vec<String>>,
    /// Pages with links to packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub find_links: Option<Vec<String>>,
    /// Further package indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_index_url: Option<Vec<String>>,
    /// What pip is told besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pip_args: Option<String>,
    /// Wheels that go along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wheels: Option<Vec<String>>,
}

impl Bentofile {
    /// Looks for mistakes of meaning; they go to `found`.
    pub fn check(&self, document: &Document, found: &mut Diagnostics) {
        let packages = self.python.iter().filter_map(|python| python.packages.as_ref()).flatten();
        for (number, text) in packages.enumerate() {
            // URLs and paths are for pip to read.
            if text.contains("://") || text.starts_with(['.', '/', '-']) {
                continue;
            }
            if let Err(error) = requirement::parse(text) {
                let reason = error.message.to_string();
                let reason = reason.lines().next().unwrap_or_default();
                let at = format!("/python/packages/{number}");
                let message = format!("`{text}` is no requirement: {reason}");
                found.push(document.at(Code::BadRequirement, &at, message).help("as `scikit-learn==1.5.2`"));
            }
        }
    }
}
