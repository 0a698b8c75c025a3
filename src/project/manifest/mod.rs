//! The manifest: what the person wrote, as values.
//!
//! These types are the one truth about the format: `schemas/manifest.schema.json` is made from them, and the doc
//! comments of their fields are what an editor shows. How they are read, with positions, is
//! [`crate::formats::document`], [`crate::formats::schema::load`] and [`crate::project::validate`].

mod command;
pub mod deploy;
pub mod java;
pub mod training;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
pub use command::CommandPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::debian::{Suite, Wanted};
use crate::base::requirements::Asked;
use crate::base::{self, BaseName, Named};
use crate::formats::document::Written;
use crate::formats::python::PythonVersion;
use crate::formats::schema::Kind;
use crate::formats::schema::load::Described;
use crate::io::archive::{ArchivePath, PathError};
use crate::io::digest::Digest;
use crate::io::size;
use crate::project::address::Address;

/// Names of a manifest, the usual one first.
pub const NAMES: [&str; 4] = ["ekiben.yaml", "ekiben.yml", "ekiben.json", "ekiben.json5"];

/// The packages that Ekiben's own service needs, which serves functions. The bounds are the oldest that have what it uses.
/// httptools reads requests: it is the half of what serving a small one takes, and has wheels for these processors alone.
pub const SERVER: [&str; 6] = [
    "fastapi>=0.100",
    "fastapi-swagger>=0.4; python_version >= '3.10'",
    "httptools>=0.5; platform_machine == 'x86_64' or platform_machine == 'aarch64'",
    "pydantic>=2.6",
    "typing-extensions>=4.6",
    "uvicorn>=0.22",
];

/// The oldest Python that [`SERVER`] is for.
pub const SERVED: PythonVersion = PythonVersion::new(3, 8);

/// What the service needs besides where a function takes files: it reads forms.
pub const FORMS: &str = "python-multipart>=0.0.18";

/// What it needs besides where the model takes messages.
pub const MESSAGES: &str = "aio-pika>=9.0";

/// A model, what it needs, and how it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What bundle and image are called: lowercase letters, digits, `-`, `_` and `.`, at most 63.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^([a-z0-9]([a-z0-9._-]*[a-z0-9])?)?$"))]
    #[schemars(extend("patternErrorMessage" = "only lowercase letters, digits, `-`, `_` and `.`, the first and last a letter or digit"))]
    pub name: String,
    /// Version of the model: a semantic version or a positive integer. `next`: one more than the last one that is here, or in the
    /// registry that it is pushed to; the layers have no word of it. Absent: derived from the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What the model does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Free labels; they become labels of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// SPDX expression of the licences that model and code are under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licenses: Option<String>,
    /// Where the source lives, as a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The model's files.
    #[serde(default)]
    pub model: Model,
    /// The Python packages that the code needs. Absent: none beyond what the service itself needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Python>,
    /// The Debian packages that the code needs.
    #[serde(default, skip_serializing_if = "System::is_empty")]
    pub system: System,
    /// What the image stands on: `auto`, `debian:SUITE`, `scratch`, an image in a registry, `oci:PATH` or
    /// `docker-archive:PATH`.
    #[serde(default = "auto")]
    pub base: Written<BaseName>,
    /// What commands make of the base, or in its place.
    #[serde(default, skip_serializing_if = "Build::is_empty")]
    pub build: Build,
    /// Where Debian packages come from, if not from where this machine gets its own.
    #[serde(default, skip_serializing_if = "Debian::is_empty")]
    pub debian: Debian,
    /// Further files and folders that belong to the code, as globs. What lies in the folder of the service's code is
    /// always included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// How the model answers.
    pub service: Service,
    /// How it is trained (`ekiben train`). Absent: its files are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<training::Training>,
    /// Variables of the container's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files that describe the model to those who use it, packed beside the code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<String>,
    /// Platforms to build for. Absent: the one of this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<crate::image::oci::platform::Platform>,
    /// Memory and processors that a local run may use.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// How it runs in Kubernetes (`ekiben deploy`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<deploy::Deploy>,
    /// Example requests and what the model has to answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
    /// How far numbers of answers may be from those expected, for all tests that do not say it themselves. A number T stands
    /// for `{relative: T, absolute: T}`; a number of an answer is near enough when it is off by at most
    /// `absolute + relative * |expected|`, as with numpy.allclose. Absent: a millionth of the number expected, or of 1 where
    /// that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximately: Option<Approximately>,
}

impl Described for Manifest {
    const KIND: Kind = Kind::Manifest;
}

impl Manifest {
    /// The same with what the files hold that its tests name, which `read` gives.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn with_files(&self, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> io::Result<Self> {
        let tests = self.tests.iter().map(|test| test.with_files(read)).collect::<io::Result<_>>()?;
        Ok(Self { tests, ..self.clone() })
    }

    /// Whether Ekiben serves functions, rather than the person's own command.
    pub fn serves_functions(&self) -> bool {
        self.service.command.is_empty() && !self.service.inherit
    }

    /// What it asks of a base.
    pub fn base_spec(&self) -> base::Spec<'_> {
        let Debian { mirror, security, snapshot } = &self.debian;
        base::Spec {
            base: &self.base,
            python: self.python.as_ref().and_then(|python| python.version.as_ref()),
            needs_python: self.needs_python(),
            packages: self.system.packages.written(),
            debian: Wanted { mirror: mirror.as_deref(), security: security.as_deref(), snapshot: snapshot.as_deref() },
        }
    }

    /// Whether another Python may be taken than the usual one: it names none, and its base is put together as that needs.
    pub fn is_python_open(&self) -> bool {
        let is_named = self.python.as_ref().is_some_and(|python| python.version.is_some());
        let is_auto = self.base.meant().is_ok_and(|base| *base.named() == Named::Auto);
        self.needs_python() && !is_named && is_auto && self.build.file.is_none()
    }

    /// The same for `python`, where it leaves open which one, and that is another than the usual one.
    #[must_use]
    pub fn with_python(self, python: PythonVersion) -> Self {
        if !self.is_python_open() || python == Suite::DEFAULT.python() {
            return self;
        }
        let requirements = self.python.map(|python| python.requirements).unwrap_or_default();
        Self { python: Some(Python { version: Some(Written::Meant(python)), requirements }), ..self }
    }

    /// Whether its functions are served by the standard library alone: no packages of the service run on its Python.
    pub fn is_small(&self) -> bool {
        let version = self.python.as_ref().and_then(|python| python.version.as_ref()?.meant().ok());
        self.serves_functions() && version.is_some_and(|version| *version < SERVED)
    }

    /// Whether Java itself answers requests: with a model of h2o's alone. Messages, and functions beside it, are Python's.
    pub fn is_answered_by_java(&self) -> bool {
        let Service { predict, functions, openai, kserve, mlflow, batch, java, .. } = &self.service;
        let is_alone = predict.is_none() && functions.is_empty() && openai.is_none() && mlflow.is_none();
        let is_model = java.as_ref().is_some_and(|java| java.model.is_some());
        self.serves_functions()
            && is_model
            && is_alone
            && kserve.is_none()
            && batch.is_empty()
            && !self.takes_messages()
    }

    /// Whether commands are executed for its image.
    pub fn has_commands(&self) -> bool {
        self.build.file.is_some() || !self.system.run.is_empty()
    }

    /// Where the Python packages that the code needs are required.
    pub fn requirements(&self) -> Asked<'_> {
        match self.python.as_ref().map(|python| &python.requirements) {
            None => Asked::List(&[]),
            Some(Requirements::List(list)) => Asked::List(list),
            Some(Requirements::File(file)) => Asked::File(file),
        }
    }

    /// Which numbers are near enough in the answer to `test`: what it says itself, else what is said for all.
    pub fn nearness(&self, test: &Test) -> Nearness {
        let own = test.approximately.map(Nearness::from).or(test.tolerance.map(Nearness::Greater));
        own.or(self.approximately.map(Nearness::from)).unwrap_or(Nearness::USUAL)
    }

    /// Whether it takes messages.
    pub fn takes_messages(&self) -> bool {
        let trained_by = self.training.as_ref().is_some_and(|training| training.messages.is_some());
        self.service.messages.is_some() || trained_by
    }

    /// What the model does besides answering requests.
    pub fn duties(&self) -> training::Duties {
        let (training, messages) = (self.training.as_ref(), self.service.messages.as_ref());
        let data = training.and_then(|training| training.data.clone());
        let learns = training.is_some_and(training::Training::learns);
        training::Duties {
            output: training.map(|training| training.output.clone()),
            trains: training.is_some() && (data.is_some() || !learns),
            data,
            learns,
            consumes: messages.map(|messages| messages.subscribe.clone()).unwrap_or_default(),
        }
    }

    /// What its commands may name of the project.
    pub fn command_paths(&self) -> Vec<CommandPath> {
        let mut paths = command::paths(&self.service.command, "/service/command");
        let training = self.training.iter();
        paths.extend(training.flat_map(|training| command::paths(&training.command, "/training/command")));
        let made = self.training.as_ref().map(|training| training.output.as_str());
        paths.extend(self.service.java.iter().flat_map(|java| java.paths(made)));
        paths
    }

    /// All functions of the project that are named.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries = self.service.entries();
        entries.extend(self.training.iter().flat_map(training::Training::entries));
        entries
    }

    /// Whether the image needs a Python.
    pub fn needs_python(&self) -> bool {
        self.python.is_some() || self.serves_functions()
    }
}

fn auto() -> Written<BaseName> {
    Written::Meant(BaseName::auto())
}

/// Version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Version {
    /// A positive integer.
    Number(#[schemars(range(min = 1))] u64),
    /// A semantic version, whose parts after the first may be left out; or `next`.
    Text(
        #[schemars(
            length(max = 63),
            regex(pattern = r"^(next|[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)$"),
            extend("patternErrorMessage" = "numbers with dots between them, as \"1.0\" or \"1.2.0-rc.1\"")
        )]
        String,
    ),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Version {
    /// What is written; none where that is found out when an image is built.
    pub fn written(&self) -> Option<String> {
        (!self.is_next()).then(|| self.to_string())
    }

    /// Whether it is one more than the last one.
    pub fn is_next(&self) -> bool {
        matches!(self, Self::Text(text) if text == "next")
    }
}

/// The model's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Globs, relative to the manifest, and addresses of what lives elsewhere. In the container the files lie read-only under
    /// `/models/NAME`.
    #[serde(default)]
    pub files: Vec<ModelFiles>,
    /// What loading the model's pickles may import though Ekiben does not know it: `package.module.Name`, or `package.*`
    /// for all of a package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = {
        "type": "string",
        "pattern": r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\.(\*|[A-Za-z_][A-Za-z0-9_]*)$",
        "patternErrorMessage": "a module and a name in it, as package.module.Name or package.*"
    }))]
    pub allow: Vec<String>,
}

/// Files of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ModelFiles {
    /// A glob, relative to the manifest.
    Here(String),
    /// What lives elsewhere.
    Elsewhere(Elsewhere),
}

/// Files of a model that are not in the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// Where they live: a path on this machine, `https://…`, `s3://BUCKET/KEY`, `hf://OWNER/NAME@REVISION/FILE`,
    /// `models:/NAME@ALIAS`, `runs:/RUN/PATH`, `oci://HOST/NAME:TAG`. What is fetched is locked by its digest. Without a file, or with `/` at the end, all in the bucket, repository or folder.
    pub from: Written<Address>,
    /// Where they go, below the model's folder. Absent: where their own name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The digest that the one file has to have, where it is known before it is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^(sha256:)?[0-9a-f]{64}$", "patternErrorMessage" = "64 hexadecimal digits"))]
    pub sha256: Option<String>,
}

impl Elsewhere {
    /// Where one of its files goes, which is called `name` there.
    ///
    /// # Errors
    /// When that is no path below the model's folder.
    pub fn place(&self, address: &Address, name: &str) -> Result<ArchivePath, PathError> {
        let own = self.path.clone().unwrap_or_else(|| address.name());
        let own = ArchivePath::relative(own.trim_end_matches('/'))?;
        if address.is_folder() { Ok(own.join(&ArchivePath::new(name)?)) } else { Ok(own) }
    }

    /// The digest that it has to have.
    pub fn digest(&self) -> Option<Digest> {
        let text = self.sha256.as_deref()?;
        Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text)).ok()
    }
}

impl Model {
    /// What is to be fetched from other machines, with its number among the files.
    pub fn remote(&self) -> impl Iterator<Item = (usize, &Elsewhere, &Address)> {
        self.files.iter().enumerate().filter_map(|(number, files)| match files {
            ModelFiles::Elsewhere(elsewhere) => {
                let address = elsewhere.from.meant().ok().filter(|address| address.is_remote())?;
                Some((number, elsewhere, address))
            }
            ModelFiles::Here(_) => None,
        })
    }
}

/// The Python side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// Which Python, as `3.11`. Absent: that of the base; with `base: auto`, one of Debian's that all requirements have wheels
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^[0-9]\.[0-9]{1,2}$", "patternErrorMessage" = "two numbers, as \"3.11\""))]
    pub version: Option<Written<PythonVersion>>,
    /// Requirements as a list (PEP 508), or the path of a `requirements.txt` or `pyproject.toml`.
    #[serde(default)]
    pub requirements: Requirements,
}

/// Where requirements stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Requirements {
    /// In the manifest, one requirement (PEP 508) each.
    List(Vec<String>),
    /// In a file, relative to the manifest.
    File(String),
}

impl Default for Requirements {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// The Debian side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Names of Debian packages. `auto`, alone or among them, stands for those that have the libraries which the Python
    /// packages need and the base lacks; the lock has them.
    #[serde(default)]
    pub packages: SystemPackages,
    /// Commands, each as after `RUN` in a Dockerfile, that are executed in a sandbox upon the base and its Debian packages;
    /// one of several lines ends with the first that fails. They have to be allowed: `allow-run` below `build`, or the option
    /// `--allow-run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
}

impl System {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What commands make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// A Dockerfile of the project, whose image stands in the place of the base. Its context is the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The stage that becomes that image, by name or number. Absent: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Values of `ARG`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Whether the commands of the Dockerfile and of `system.run` are executed, in a sandbox, when this project is built:
    /// `network` lets them reach the network from there. Of a bundle it says nothing: whoever builds that decides anew.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "allow-run")]
    pub allow_run: Option<AllowRun>,
}

impl Build {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether commands are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AllowRun {
    /// They are, without a network, or they are not.
    Commands(bool),
    /// They are, and reach the network.
    Network(Reach),
}

/// The word for commands that reach the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// They do.
    Network,
}

/// Which Debian packages are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SystemPackages {
    /// Those that the Python packages need.
    Found(Auto),
    /// Those that are named; the word `auto` adds those that the Python packages need.
    Named(Vec<String>),
}

/// The word for what is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// It is found out.
    Auto,
}

impl Auto {
    const WORD: &str = "auto";
}

impl Default for SystemPackages {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl SystemPackages {
    /// The list as it is written; empty where the word stands alone.
    pub fn written(&self) -> &[String] {
        match self {
            Self::Found(Auto::Auto) => &[],
            Self::Named(list) => list,
        }
    }

    /// The packages that are named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.written().iter().map(String::as_str).filter(|name| *name != Auto::WORD)
    }

    /// Whether those are added that the Python packages need.
    pub fn are_found(&self) -> bool {
        *self == Self::Found(Auto::Auto) || self.written().iter().any(|name| name == Auto::WORD)
    }

    /// All words of it.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.names().chain(self.are_found().then_some(Auto::WORD))
    }
}

/// Where Debian packages come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// URL of the mirror, the folder that holds `dists` and `pool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// URL of a mirror of the security archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// URL of a snapshot archive that still has what the mirror has dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

impl Debian {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How the model answers: with functions that Ekiben serves, or with a server of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The function that answers `POST /predict`, as `FILE:FUNCTION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub predict: Option<Written<FunctionRef>>,
    /// Further functions: `explain: src/explain.py:explain` answers `POST /explain`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "additionalProperties" = { "type": "string", "pattern": ENTRY, "patternErrorMessage": ENTRY_IN_WORDS },
        "propertyNames" = {
            "pattern": "^[a-z][a-z0-9_-]*$",
            "patternErrorMessage": "lowercase letters, digits, `-` and `_`, the first a letter"
        }
    ))]
    pub functions: BTreeMap<String, Written<FunctionRef>>,
    /// What answers `POST /predict` in Java, in the place of `predict`: a program, or a model that h2o exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub java: Option<java::Java>,
    /// A command that starts a server of its own, instead of `predict` and `functions`. What it names of the project is
    /// packed, with its folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Whether the base, or what `build` makes in its place, starts the server, as its image says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inherit: bool,
    /// A file that describes in OpenAPI what `command`, or the server of an image (`inherit`), answers. `ekiben serve` answers
    /// `/openapi.json` with it where the server does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<String>,
    /// What the functions are given, in words; names that the functions do not have are errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// How many requests the functions answer at once, in each worker; so many threads run those that are not `async`.
    /// Absent: 32 in threads, and 1000 that are `async`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: Option<u32>,
    /// How many requests wait, in each worker, while that many are answered; what comes then gets 503 with `Retry-After`.
    /// Absent: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub queue: Option<u32>,
    /// The time that a request has for all: until its body is there, until it is its turn, and until the function has
    /// answered. Absent: as long as it takes. A function that is not `async` cannot be stopped: its caller gets 504, and it
    /// goes on and counts as work until it returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PERIOD, "patternErrorMessage" = PERIOD_IN_WORDS))]
    pub timeout: Option<Written<Period>>,
    /// The time that requests have to be answered after the service was asked to end. Absent: `8s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PERIOD, "patternErrorMessage" = PERIOD_IN_WORDS))]
    pub grace: Option<Written<Period>>,
    /// How many processes answer. The model is loaded once, and its memory shared, where that is safe; else each loads it.
    /// Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u32>,
    /// Requests with `Prefer: respond-async`, whose answers are asked for later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Deferred>,
    /// Functions that are given the requests that come together as one, by their names in the path: `predict`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub batch: BTreeMap<String, Batch>,
    /// Functions that answer at the routes of OpenAI's API, for clients that know these: `/v1/chat/completions`,
    /// `/v1/completions`, `/v1/embeddings` and `/v1/models`. The model is called as the bundle is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openai: Option<OpenAi>,
    /// The function, by its name in the path (`predict`), that also answers at the routes of KServe's Open Inference
    /// Protocol, version 2: it takes arrays and gives arrays, for which the code needs numpy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kserve: Option<String>,
    /// What also answers at the routes of `mlflow models serve`, for clients that know these: `/invocations`, `/ping`,
    /// `/health` and `/version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<Mlflow>,
    /// Messages that `predict` answers as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<training::Messages>,
    /// Below which path all is served, as `/NAME/api`; health and metrics are answered without it as well. Absent: at the
    /// root. The paths of tests begin behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(/[A-Za-z0-9._~-]+)+$"), extend("patternErrorMessage" = "a path as /NAME/api, without a `/` at its end"))]
    pub root: Option<String>,
    /// The port that the server listens on, unless the variable `PORT` says otherwise.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The path that answers with a status of 2xx once the server is ready.
    #[serde(default = "ready")]
    #[schemars(regex(pattern = "^/"), extend("patternErrorMessage" = "a path that begins with `/`"))]
    pub ready: String,
    /// How large requests may be; larger ones are refused with 413.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// What stands in answers for numbers that JSON does not have (NaN, infinity). Absent or null: `null`, of which the log
    /// warns once for each function. `error`: such an answer is a failure of the model. `text`: `"NaN"`, `"Infinity"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nan: Option<NotANumber>,
}

/// How large requests may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// One file in a request. Absent: as large as a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Size>,
    /// The body of a request. Absent: 100M.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Size>,
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What stands for a number that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotANumber {
    /// The model has failed.
    Error,
    /// A text: `"NaN"`, `"Infinity"`, `"-Infinity"`.
    Text,
}

/// A number of bytes, as it is written: `512Mi`, `10M`, `1000`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Size(
    #[schemars(extend(
        "pattern" = "^[0-9]{1,12}(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        "patternErrorMessage" = "a whole number of bytes with a unit, as 10M or 512Mi"
    ))]
    String,
);

impl Size {
    /// In bytes; none where the text is no size.
    pub fn bytes(&self) -> Option<u64> {
        size::bytes(&self.0)
    }
}

impl Service {
    /// The functions that Ekiben serves: `predict` first, the others by name, those of OpenAI's and MLflow's routes last.
    ///
    /// What is not `FILE:FUNCTION` is left out; the check of form has said so.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let predict = self.predict.iter().map(|written| ("predict", written, "/service/predict".to_owned()));
        let others = self.functions.iter().map(|(name, written)| {
            (name.as_str(), written, crate::formats::document::pointer(["service", "functions", name.as_str()]))
        });
        let openai = self.openai.iter().flat_map(OpenAi::functions).map(|(name, path, written)| {
            let pointer = crate::formats::document::pointer(["service", "openai", name]);
            (path.trim_start_matches('/'), written, pointer)
        });
        let mlflow =
            self.mlflow.iter().map(|mlflow| ("invocations", &mlflow.predict, "/service/mlflow/predict".to_owned()));
        predict
            .chain(others)
            .chain(openai)
            .chain(mlflow)
            .filter_map(|(name, written, pointer)| {
                let FunctionRef { file, function } = written.meant().ok()?;
                Some(Entry { name, file, function, pointer })
            })
            .collect()
    }
}

/// A function in a Python file: `src/predict.py:predict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRef {
    /// The file, relative to the manifest.
    pub file: String,
    /// The function in it.
    pub function: String,
}

/// The text names no function.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` does not name a function as FILE:FUNCTION")]
pub struct NoFunctionRef(String);

impl FromStr for FunctionRef {
    type Err = NoFunctionRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.rsplit_once(':').filter(|(file, function)| {
            let is_file = file.strip_suffix(".py").is_some_and(|stem| !stem.is_empty()) && !file.contains(':');
            let is_name = function.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            is_file && is_name && function.starts_with(|first: char| !first.is_ascii_digit())
        });
        match parts {
            Some((file, function)) => Ok(Self { file: file.to_owned(), function: function.to_owned() }),
            None => Err(NoFunctionRef(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.function)
    }
}

/// A function that Ekiben serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is called outside: it answers `POST /NAME`.
    pub name: &'a str,
    /// The Python file, relative to the manifest.
    pub file: &'a str,
    /// The function in it.
    pub function: &'a str,
    /// Where the manifest names it, as a JSON pointer.
    pub pointer: String,
}

/// What a reference to a function looks like: what [`FunctionRef::from_str`] reads.
const ENTRY: &str = r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$";
const ENTRY_IN_WORDS: &str = "a Python file and a function in it, as src/predict.py:predict";

fn port() -> u16 {
    3000
}

fn ready() -> String {
    "/readyz".to_owned()
}

/// Requests whose answers are asked for later: they are held in the memory of the worker that they came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deferred {
    /// How many there are at most, in each worker, of those under way and those whose answers are kept. Absent: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub most: Option<u32>,
    /// How long an answer is kept. Absent: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PERIOD, "patternErrorMessage" = PERIOD_IN_WORDS))]
    pub keep: Option<Written<Period>>,
}

/// Functions behind the routes of OpenAI's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenAi {
    /// Takes messages, a list of dictionaries with `role` and `content`; gives text, at once or in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub chat: Option<Written<FunctionRef>>,
    /// Takes a text; gives text, at once or in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub completions: Option<Written<FunctionRef>>,
    /// Takes a list of texts; gives a vector for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub embeddings: Option<Written<FunctionRef>>,
}

impl OpenAi {
    /// The functions that there are: what each is called in the manifest, and where it answers.
    pub fn functions(&self) -> impl Iterator<Item = (&'static str, &'static str, &Written<FunctionRef>)> {
        let all = [
            ("chat", "/v1/chat/completions", &self.chat),
            ("completions", "/v1/completions", &self.completions),
            ("embeddings", "/v1/embeddings", &self.embeddings),
        ];
        all.into_iter().filter_map(|(name, path, function)| Some((name, path, function.as_ref()?)))
    }
}

/// A model behind the routes of MLflow's scoring server. The signature is that of its `MLmodel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mlflow {
    /// The function that answers, as `FILE:FUNCTION`. It is given what the signature says: a table of pandas', an array of
    /// numpy's, or a dictionary of arrays. Where it has a parameter `params`, it gets those of the request with it. It gives
    /// the predictions.
    #[schemars(extend("pattern" = ENTRY, "patternErrorMessage" = ENTRY_IN_WORDS))]
    pub predict: Written<FunctionRef>,
    /// What `GET /version` answers: the release of MLflow that the model was logged with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What requests are held against. Absent: what they hold goes to the function as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Signed>,
    /// What is answered, for the API's description.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Signed>,
    /// The parameters that a request may have beside its input, with their defaults. Absent: those of requests are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Vec<SignedParameter>>,
    /// Whether the signature was made of type hints of the model's code. Then that holds the values against them itself, and
    /// requests say `inputs`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hints: bool,
}

/// A column or a tensor of a signature, as `MLmodel` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Its name. Absent: the columns are known by their order; or there is one tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: SignedType,
    /// Whether a request has to have it. Absent: yes, but not where it is a list, an object, a map or anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// What a list holds: `{type: double}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<serde_json::Value>,
    /// What an object holds: `{NAME: {type: string, required: true}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, serde_json::Value>>,
    /// What a map holds under all of its keys: `{type: double}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<serde_json::Value>,
    /// The type and the shape of a tensor.
    #[serde(rename = "tensor-spec", default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<SignedTensor>,
}

/// The types of MLflow's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "their names say all")]
pub enum SignedType {
    Any,
    Array,
    Binary,
    Boolean,
    Datetime,
    Double,
    Float,
    Integer,
    Long,
    Map,
    Object,
    SparkmlVector,
    String,
    Tensor,
}

/// An array of numbers or texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedTensor {
    /// What numpy calls the type of its values.
    pub dtype: String,
    /// How many values it has along each axis; -1 is any number.
    #[schemars(extend("items" = { "type": "integer", "minimum": -1 }))]
    pub shape: Vec<i64>,
}

/// A parameter of a signature, as `MLmodel` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedParameter {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SignedType,
    /// What it is where a request does not say it.
    pub default: serde_json::Value,
    /// `[-1]` where it is a list. Absent: one value, or an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// What an object holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, serde_json::Value>>,
}

/// How requests are joined: their lists, arrays and tables along the first axis; the answer is taken apart in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How many rows the function is given at most, of all requests together. Absent: 32.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub size: u32,
    /// The longest that a request waits for others. It waits only if others came with the last ones. Absent: `5ms`.
    #[serde(default = "batch_wait")]
    #[schemars(extend("pattern" = PERIOD, "patternErrorMessage" = PERIOD_IN_WORDS))]
    pub wait: Written<Period>,
    /// The parameters that are joined; others have to be the same in all requests of a batch. Absent: all that are lists,
    /// arrays and tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<String>,
}

fn batch_size() -> u32 {
    32
}

fn batch_wait() -> Written<Period> {
    "5ms".into()
}

/// A length of time: `5ms`, `30s`, `1.5m`, `2h`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    text: String,
    length: Duration,
}

impl Period {
    /// In seconds.
    pub fn seconds(&self) -> f64 {
        self.length.as_secs_f64()
    }
}

/// The text names no length of time.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no time: write a number and its unit, as 5ms, 30s, 1.5m or 2h")]
pub struct NoPeriod(String);

impl FromStr for Period {
    type Err = NoPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = UNITS.iter().find_map(|(unit, seconds)| {
            let number = text.strip_suffix(unit)?;
            let is_number = |c: char| c.is_ascii_digit() || c == '.';
            let ends = number.starts_with('.') || number.ends_with('.');
            let number: f64 = number.parse().ok().filter(|_| number.chars().all(is_number) && !ends)?;
            Duration::try_from_secs_f64(number * seconds).ok()
        });
        match length {
            Some(length) => Ok(Self { text: text.to_owned(), length }),
            None => Err(NoPeriod(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Units of time in seconds; those whose names end alike in the order in which they are told apart.
const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// What a time looks like: what [`Period::from_str`] reads.
const PERIOD: &str = r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h)$";
const PERIOD_IN_WORDS: &str = "a number and its unit, as 5ms, 30s, 1.5m or 2h";

/// An argument of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name in the function and in the JSON of a request.
    #[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"), extend("patternErrorMessage" = "a name as Python has them"))]
    pub name: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The kinds of files that it takes, as `image/png` or `image/*`; others are refused with 415. Absent: those that stand
    /// beside its type, or any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = {
        "type": "string",
        "pattern": r"^[a-z]+/(\*|[a-z0-9][a-z0-9.+-]*)$",
        "patternErrorMessage": "a kind of files, as image/png or image/*"
    }))]
    pub accept: Vec<String>,
}

/// What a local run may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory, as `512Mi` or `2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "pattern" = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        "patternErrorMessage" = "a whole number of bytes with a unit, as 512Mi or 2Gi"
    ))]
    pub memory: Option<String>,
    /// Processors, as `2` or `0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0.01))]
    pub cpus: Option<f64>,
}

impl Resources {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An example request and the answer that it must get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What it shows. Absent: `test` and its number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path that is asked.
    #[serde(default = "predict_path")]
    #[schemars(regex(pattern = "^/"), extend("patternErrorMessage" = "a path that begins with `/`"))]
    pub path: String,
    /// The JSON that is sent. In it, `{file: PATH}` stands for a file of the project, which is sent as a `data:` URL.
    /// Absent: a GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<serde_json::Value>,
    /// The status that must come back. Absent: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 100, "maximum" = 599))]
    pub status: Option<u16>,
    /// The JSON that must come back; objects may hold more than is named here. Of an answer that is neither JSON nor text,
    /// `{content_type: …, sha256: …, size: …}` or `{file: PATH}`, which stands for the same bytes. Absent or null: anything
    /// will do, and `ekiben test` shows it; `ekiben test --accept` writes it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<serde_json::Value>,
    /// How far numbers may be from those expected, where that is another distance than for all tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximately: Option<Approximately>,
    /// The older word for `approximately`, which counts before it: how far numbers may be from those expected, relative to
    /// them (absolute below 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 1, "deprecated" = true))]
    pub tolerance: Option<f64>,
}

fn predict_path() -> String {
    "/predict".to_owned()
}

impl Test {
    /// What the test with this number, counted from 1, is called.
    pub fn name(&self, number: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("test {number}"))
    }

    /// The status that must come back.
    pub fn wanted_status(&self) -> u16 {
        self.status.unwrap_or(200)
    }

    /// The files of the project that it names, with their places in the test as JSON pointers: `/request/image/file`.
    pub fn files(&self) -> Vec<(String, &str)> {
        let mut found = Vec::new();
        for (at, value) in [("/request", &self.request), ("/expect", &self.expect)] {
            value.iter().for_each(|value| named_files(value, at.to_owned(), &mut found));
        }
        found
    }

    /// The same with what the files hold in their places, which `read` gives.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn with_files(&self, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> io::Result<Self> {
        let mut test = self.clone();
        if let Some(request) = &mut test.request {
            replace_files(request, &|path| Ok(data_url(path, &read(path)?).into()))?;
        }
        if let Some(expect) = &mut test.expect {
            replace_files(expect, &|path| {
                let content = read(path)?;
                Ok(serde_json::json!({ "sha256": Digest::of(&content).hex(), "size": content.len() }))
            })?;
        }
        Ok(test)
    }

    /// Whether it says what must come back, if only a status.
    pub fn expects_something(&self) -> bool {
        self.status.is_some() || self.expect.is_some()
    }
}

/// The path in `{file: PATH}`.
fn named_file(value: &serde_json::Value) -> Option<&str> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.get("file")?.as_str()
}

fn named_files<'a>(value: &'a serde_json::Value, at: String, found: &mut Vec<(String, &'a str)>) {
    // What was read is of a bounded depth.
    match (named_file(value), value) {
        (Some(path), _) => found.push((at + "/file", path)),
        (None, serde_json::Value::Array(items)) => {
            items.iter().zip(0..).for_each(|(item, number)| named_files(item, format!("{at}/{number}"), found));
        }
        (None, serde_json::Value::Object(members)) => {
            for (name, member) in members {
                named_files(member, at.clone() + &crate::formats::document::pointer([name.as_str()]), found);
            }
        }
        _ => {}
    }
}

fn replace_files(
    value: &mut serde_json::Value,
    content: &dyn Fn(&str) -> io::Result<serde_json::Value>,
) -> io::Result<()> {
    if let Some(path) = named_file(value) {
        *value = content(path)?;
        return Ok(());
    }
    match value {
        serde_json::Value::Array(items) => items.iter_mut().try_for_each(|item| replace_files(item, content)),
        serde_json::Value::Object(members) => {
            members.values_mut().try_for_each(|member| replace_files(member, content))
        }
        _ => Ok(()),
    }
}

/// A file as a `data:` URL (RFC 2397).
fn data_url(path: &str, content: &[u8]) -> String {
    let content = base64::engine::general_purpose::STANDARD.encode(content);
    format!("data:{};base64,{content}", media_type(path))
}

/// The kind of a file by the ending of its name (RFC 2046).
pub fn media_type(path: &str) -> &'static str {
    let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "bmp" => "image/bmp",
        "csv" => "text/csv",
        "flac" => "audio/flac",
        "gif" => "image/gif",
        "htm" | "html" => "text/html",
        "jpeg" | "jpg" => "image/jpeg",
        "json" => "application/json",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "ogg" => "audio/ogg",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "tif" | "tiff" => "image/tiff",
        "txt" => "text/plain",
        "wav" => "audio/wav",
        "webm" => "video/webm",
        "webp" => "image/webp",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

/// How far numbers may be from those expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Approximately {
    /// The same number for both parts of the distance.
    Both(#[schemars(extend("minimum" = 0, "maximum" = 1))] f64),
    /// Each part by itself; nothing where one is absent.
    Apart(Distance),
}

/// The parts of a distance, which are added up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// As a part of the number expected.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub relative: f64,
    /// As a number of its own.
    #[serde(default)]
    #[schemars(extend("minimum" = 0))]
    pub absolute: f64,
}

/// Which numbers are near enough to one that is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nearness {
    /// Those that are off by at most so much of it, or so much where it is below 1.
    Greater(f64),
    /// Those that are off by at most the sum of both parts.
    Sum(Distance),
}

impl Nearness {
    /// Where the manifest says nothing of it.
    const USUAL: Self = Self::Greater(1e-6);

    /// Whether `actual` is near enough to `expected`.
    pub fn holds(self, expected: f64, actual: f64) -> bool {
        let most = match self {
            Self::Greater(part) => part * expected.abs().max(1.0),
            Self::Sum(Distance { relative, absolute }) => absolute + relative * expected.abs(),
        };
        (expected - actual).abs() <= most
    }
}

impl From<Approximately> for Nearness {
    fn from(distance: Approximately) -> Self {
        Self::Sum(match distance {
            Approximately::Both(both) => Distance { relative: both, absolute: both },
            Approximately::Apart(distance) => distance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(approximately: serde_json::Value, test: serde_json::Value) -> Manifest {
        let mut manifest = json!({ "name": "x", "service": {}, "tests": [test] });
        if !approximately.is_null() {
            manifest["approximately"] = approximately;
        }
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn a_number_is_near_enough_by_the_words_of_its_test_or_of_all() {
        let holds = |for_all: serde_json::Value, test: serde_json::Value, expected: f64, actual: f64| {
            let manifest = manifest(for_all, test);
            manifest.nearness(&manifest.tests[0]).holds(expected, actual)
        };
        let nothing = || json!(null);
        // Where nothing is said: a millionth of the number, or of 1.
        assert!(holds(nothing(), json!({}), 1e6, 1_000_001.0) && !holds(nothing(), json!({}), 1e6, 1_000_001.1));
        assert!(holds(nothing(), json!({}), 0.0, 1e-6) && !holds(nothing(), json!({}), 0.0, 1.1e-6));
        // As numpy.allclose(actual, expected, rtol=0.125, atol=0.125): numbers that have no rounding.
        let coarse = || json!(0.125);
        assert!(holds(coarse(), json!({}), 8.0, 9.125) && !holds(coarse(), json!({}), 8.0, 9.126));
        assert!(holds(coarse(), json!({}), -8.0, -6.875) && !holds(coarse(), json!({}), -8.0, -6.874));
        assert!(holds(coarse(), json!({}), 0.0, 0.125) && !holds(coarse(), json!({}), 0.0, 0.126));
        let relative = || json!({ "relative": 0.125 });
        assert!(holds(relative(), json!({}), 8.0, 9.0) && !holds(relative(), json!({}), 0.0, 1e-300));
        // The test's own word counts before the one for all, and the new word before the older.
        assert!(!holds(coarse(), json!({ "approximately": 0 }), 8.0, 8.1));
        assert!(!holds(coarse(), json!({ "tolerance": 0 }), 8.0, 8.1));
        assert!(holds(nothing(), json!({ "approximately": { "absolute": 1 }, "tolerance": 0 }), 8.0, 9.0));
    }

    #[test]
    fn a_time_is_the_same_text_again_and_what_the_schema_takes() {
        let validator = jsonschema::validator_for(&serde_json::json!({ "pattern": PERIOD })).unwrap();
        for (text, seconds) in [("5ms", 0.005), ("30s", 30.0), ("1.5m", 90.0), ("2h", 7200.0), ("0s", 0.0)] {
            assert!((text.parse::<Period>().unwrap().seconds() - seconds).abs() < 1e-9, "{text}");
        }
        proptest::proptest!(|(text in "[0-9.]{0,4}(ms|s|m|h|d| |-|e|inf|nan)?")| {
            let read = text.parse::<Period>();
            proptest::prop_assert_eq!(read.is_ok(), validator.is_valid(&text.clone().into()), "{:?}", text);
            if let Ok(period) = read {
                proptest::prop_assert_eq!(period.to_string(), text);
            }
        });
    }

    #[test]
    fn a_function_is_the_same_text_again_and_what_the_schema_takes() {
        let validator = jsonschema::validator_for(&serde_json::json!({ "pattern": ENTRY })).unwrap();
        assert!("src/predict.py:predict".parse::<FunctionRef>().is_ok());
        proptest::proptest!(|(text in "(a|\u{e9}|/|\\.py|py|:|_|0|\n| ){0,6}(\\.py)?:?[a_0:\n]{0,2}")| {
            let read = text.parse::<FunctionRef>();
            proptest::prop_assert_eq!(read.is_ok(), validator.is_valid(&text.clone().into()), "{:?}", text);
            if let Ok(function) = read {
                proptest::prop_assert_eq!(function.to_string(), text);
            }
        });
    }
}
