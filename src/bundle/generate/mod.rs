//! What Ekiben writes for a model: the service around its functions, the description of its API, and the files of a
//! bundle that tell others how to build it.
//!
//! Invariant: bytes follow from the manifest, the lock and the declared parameters of the functions alone. What is
//! only copied lies in `templates/` as it is; what is filled in lies there too, as `….j2`.

macro_rules! copied {
    ($path:literal) => {
        GeneratedFile::new($path, include_bytes!(concat!("templates/", $path)))
    };
    ($path:literal as $other:literal) => {
        GeneratedFile::new($other, include_bytes!(concat!("templates/", $path)))
    };
}

mod api;
mod bundle;
mod invocations;
mod java;
mod openapi;
mod schema;

pub use api::{Api, Error, Example, Route};
pub use bundle::{Facts, bundle};
pub use openapi::document;

use serde_json::{Map, Value, json};

use crate::bundle::runtime;
use crate::formats::document::Written;
use crate::io::archive::{ArchivePath, Entry, Mode};
use crate::io::explain::quoted;
use crate::project::manifest::training::{Messages, Training};
use crate::project::manifest::{Manifest, Mlflow, Period, Size};

/// A file that is generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Its path: below `/app` in the image, or in the bundle.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Whether it can be run.
    pub executable: bool,
}

impl GeneratedFile {
    fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), executable: false }
    }

    fn executable(self) -> Self {
        Self { executable: true, ..self }
    }

    /// The file as a member of an archive, below `folder`.
    ///
    /// # Errors
    /// When `folder` is no path.
    pub fn entry(&self, folder: Option<&ArchivePath>) -> Result<Entry, crate::io::archive::PathError> {
        let path = ArchivePath::new(&self.path)?;
        let path = folder.map_or_else(|| path.clone(), |folder| folder.join(&path));
        Ok(Entry::file(path, self.content.len() as u64, Mode::of(self.executable)))
    }
}

/// The files that lie below [`crate::bundle::runtime::CODE`] in the image beside the person's own: the entrypoint and,
/// unless the manifest names a command of its own, the service. `version` is that of the model.
pub fn service(manifest: &Manifest, version: &str, api: &Api) -> Vec<GeneratedFile> {
    let mut files = Vec::new();
    if !manifest.service.inherit {
        files.push(entrypoint(manifest, api));
    }
    if api.is_served() {
        // What runs on any Python.
        files.extend([
            copied!("ekiben_service/__init__.py"),
            copied!("ekiben_service/context.py"),
            copied!("ekiben_service/log.py"),
            copied!("ekiben_service/modules.py"),
            GeneratedFile::new("ekiben_service/openapi.json", document(manifest, version, api).to_string()),
            GeneratedFile::new("ekiben_service/service.json", settings(manifest, version, api).to_string()),
        ]);
    }
    if api.is_served() && manifest.is_small() {
        files.extend([
            copied!("ekiben_service_small/__main__.py" as "ekiben_service/__main__.py"),
            copied!("ekiben_service_small/function.py" as "ekiben_service/function.py"),
            copied!("ekiben_service_small/server.py" as "ekiben_service/server.py"),
        ]);
        if manifest.training.is_some() {
            files.extend([
                copied!("ekiben_service/processors.py"),
                copied!("ekiben_service/trained.py"),
                copied!("ekiben_service/trainer.py"),
                copied!("ekiben_service/training.py"),
            ]);
        }
    } else if api.is_served() {
        files.extend(first(manifest));
        files.extend([
            copied!("ekiben_service/answer.py"),
            copied!("ekiben_service/app.py"),
            copied!("ekiben_service/batch.py"),
            copied!("ekiben_service/body.py"),
            copied!("ekiben_service/deferred.py"),
            copied!("ekiben_service/docs.html"),
            copied!("ekiben_service/files.py"),
            copied!("ekiben_service/function.py"),
            copied!("ekiben_service/job.py"),
            copied!("ekiben_service/listener.py"),
            copied!("ekiben_service/load.py"),
            copied!("ekiben_service/metrics.py"),
            copied!("ekiben_service/processors.py"),
            copied!("ekiben_service/records.py"),
            copied!("ekiben_service/results.py"),
            copied!("ekiben_service/values.py"),
            copied!("ekiben_service/server.py"),
            copied!("ekiben_service/state.py"),
        ]);
        if let Some(java) = &manifest.service.java {
            files.push(copied!("ekiben_service/java.py"));
            files.push(copied!("ekiben_service/jvm.py"));
            if java.model.is_some() {
                files.extend(java::scoring());
            }
        }
        if manifest.service.kserve.is_some() {
            files.push(copied!("ekiben_service/kserve.py"));
        }
        if api.mlflow.is_some() {
            files.push(copied!("ekiben_service/mlflow.py"));
            files.push(copied!("ekiben_service/signature.py"));
        }
        if !api.openai.is_empty() {
            files.push(copied!("ekiben_service/openai.py"));
        }
        if !api.openai.is_empty() || api.routes.iter().any(Route::may_stream) {
            files.push(copied!("ekiben_service/stream.py"));
        }
        if manifest.service.workers.is_some_and(|workers| workers > 1) {
            files.push(copied!("ekiben_service/workers.py"));
        }
        files.extend(training_and_messages(manifest));
    }
    files
}

/// What is started first. Where Java answers at the port, the others' is known by another name.
fn first(manifest: &Manifest) -> Vec<GeneratedFile> {
    if !manifest.is_answered_by_java() {
        return vec![copied!("ekiben_service/__main__.py")];
    }
    vec![
        copied!("ekiben_service_java/__main__.py" as "ekiben_service/__main__.py"),
        copied!("ekiben_service_java/front.py" as "ekiben_service/front.py"),
        copied!("ekiben_service/__main__.py" as "ekiben_service/commands.py"),
    ]
}

/// What trains a model and takes messages, where it is to.
fn training_and_messages(manifest: &Manifest) -> Vec<GeneratedFile> {
    let mut files = Vec::new();
    if manifest.training.is_some() {
        files.extend([
            copied!("ekiben_service/bare.py"),
            copied!("ekiben_service/keeper.py"),
            copied!("ekiben_service/trainer.py"),
        ]);
    }
    if manifest.training.is_some() || manifest.is_answered_by_java() {
        files.extend([copied!("ekiben_service/trained.py"), copied!("ekiben_service/training.py")]);
    }
    if manifest.training.is_some() || manifest.takes_messages() {
        files.push(copied!("ekiben_service/broker.py"));
    }
    if manifest.takes_messages() {
        files.extend([copied!("ekiben_service/consumer.py"), copied!("ekiben_service/counts.py")]);
    }
    if manifest.service.messages.is_some() {
        files.push(copied!("ekiben_service/messages.py"));
    }
    if manifest.training.as_ref().is_some_and(|training| training.messages.is_some()) {
        files.extend([
            copied!("ekiben_service/learner.py"),
            copied!("ekiben_service/online.py"),
            copied!("ekiben_service/spool.py"),
        ]);
    }
    files
}

/// What the service is told: what the manifest says, and nothing where it says nothing.
fn settings(manifest: &Manifest, version: &str, api: &Api) -> Value {
    let service = &manifest.service;
    let seconds = |written: &Option<Written<Period>>| written.as_ref()?.meant().ok().map(Period::seconds);
    let mut settings = json!({
        "name": manifest.name,
        "version": version,
        "port": service.port,
        "functions": api.routes.iter().map(|route| function(manifest, route)).collect::<Vec<_>>(),
    });
    let deferred = service
        .deferred
        .as_ref()
        .map(|deferred| without_null(json!({ "most": deferred.most, "keep": seconds(&deferred.keep) })));
    let openai: Map<String, Value> =
        api.openai.iter().map(|(name, route)| ((*name).to_owned(), route.settings(manifest))).collect();
    let told = json!({
        "concurrency": service.concurrency,
        "queue": service.queue,
        "timeout": seconds(&service.timeout),
        "grace": seconds(&service.grace),
        "workers": service.workers,
        "deferred": deferred,
        "nan": service.nan,
        "kserve": service.kserve,
        "mlflow": api.mlflow.as_ref().map(|route| mlflow(manifest, route)),
        "openai": (!openai.is_empty()).then_some(openai),
        "root": service.root,
        "messages": service.messages.as_ref().map(messages),
        "trained": manifest.training.as_ref().map(|training| json!({
            "file": training.output,
            "packed": format!("{}/{}", runtime::MODELS, manifest.name),
        })),
        "training": manifest.training.as_ref().map(training),
    });
    for (key, value) in without_null(told) {
        settings[key] = value;
    }
    for (name, limit) in [("file", &service.limits.file), ("request", &service.limits.request)] {
        if let Some(bytes) = limit.as_ref().and_then(Size::bytes) {
            settings["limits"][name] = bytes.into();
        }
    }
    settings
}

/// What the service is told of a function.
fn function(manifest: &Manifest, route: &Route) -> Value {
    let mut settings = route.settings(manifest);
    if let Some(java) = manifest.service.java.as_ref().filter(|_| route.path.trim_start_matches('/') == java::NAME) {
        settings["java"] = java::settings(manifest, java);
    }
    if let Some(batch) = manifest.service.batch.get(route.path.trim_start_matches('/')) {
        let wait = batch.wait.meant().map_or(0.0, Period::seconds);
        settings["batch"] = json!({ "size": batch.size, "wait": wait, "over": batch.over });
    }
    settings
}

/// What the service is told of the messages that ask its function.
fn messages(messages: &Messages) -> Value {
    let Messages { subscribe, publish, prefetch } = messages;
    let told = json!({ "function": "/predict", "subscribe": subscribe, "publish": publish, "prefetch": prefetch });
    without_null(told).into()
}

/// What the service is told of how the model is trained.
fn training(training: &Training) -> Value {
    let entries = training.entries();
    let told = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name)?;
        Some(json!({ "file": entry.file, "function": entry.function }))
    };
    without_null(json!({
        "train": told("train"),
        "partial": told("partial"),
        "command": (!training.command.is_empty()).then_some(&training.command),
        "data": training.data,
        "parameters": training.parameters,
        "messages": training.messages,
    }))
    .into()
}

/// What the service is told of a model of MLflow's.
fn mlflow(manifest: &Manifest, route: &Route) -> Value {
    let mut settings = route.settings(manifest);
    if let Some(Mlflow { version, inputs, params, hints, .. }) = &manifest.service.mlflow {
        settings["version"] = version.clone().unwrap_or_default().into();
        settings["inputs"] = json!(inputs);
        settings["params"] = json!(params);
        settings["hints"] = (*hints).into();
    }
    settings
}

/// The members of an object that say something.
fn without_null(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

/// POSIX sh: without arguments it serves, with arguments it runs them; around functions, `batch` answers the records of files.
fn entrypoint(manifest: &Manifest, api: &Api) -> GeneratedFile {
    let python = format!("{}/bin/python", runtime::VENV);
    let text = match api.is_served() {
        true => include_str!("templates/env/docker/functions.sh")
            .replace("@PYTHON@", &python)
            .replace("@MODES@", &modes(manifest).join(" | ")),
        false => {
            let command = match manifest.service.command.as_slice() {
                [] => format!("{python} -m ekiben_service"),
                command => command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            };
            include_str!("templates/env/docker/entrypoint.sh").replace("@COMMAND@", &command)
        }
    };
    GeneratedFile::new("env/docker/entrypoint.sh", text).executable()
}

/// What the image of functions can be told to do beside to serve them.
fn modes(manifest: &Manifest) -> Vec<&'static str> {
    let training = manifest.training.as_ref();
    let known = [
        ("''", true),
        ("batch", true),
        ("train", training.is_some()),
        ("learn", training.is_some_and(|training| training.messages.is_some())),
        ("consume", manifest.service.messages.is_some()),
    ];
    known.into_iter().filter(|(_, has)| *has).map(|(mode, _)| mode).collect()
}

/// Starts the service of a bento, with the arguments and variables that BentoML's own entrypoint knows.
pub const BENTO_ENTRYPOINT: &str = include_str!("templates/env/docker/bento.sh");
