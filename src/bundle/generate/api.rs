//! What the service answers: a route for each function, with the parameters that the function declares.

use std::collections::BTreeMap;

use serde_json::Value;

use super::java;
use super::schema::media_types;
use crate::formats::document::Written;
use crate::formats::mojo::Mojo;
use crate::formats::source::{self, Parameter, ParameterKind, Signature, Type};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::manifest::{FunctionRef, Manifest, NoFunctionRef, OpenAi};

/// The functions that are served, in the order of their paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Api {
    /// None when the manifest names a command of its own.
    pub routes: Vec<Route>,
    /// Those of OpenAI's API, by what the manifest calls them.
    pub openai: Vec<(&'static str, Route)>,
    /// The one that answers as MLflow's scoring server does.
    pub mlflow: Option<Route>,
    /// What the manifest's tests ask and are answered.
    pub examples: Vec<Example>,
}

/// A request that succeeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What the manifest calls it.
    pub name: String,
    /// Where it is sent to.
    pub path: String,
    /// Its body, files as `data:` URLs in it.
    pub request: Value,
}

/// A function and the path at which it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// As `/predict`.
    pub path: String,
    /// As `src/predict.py`.
    pub file: String,
    /// As `predict`.
    pub function: String,
    /// What it declares. None where that is only known when it runs.
    pub signature: Option<Signature>,
}

/// Why an API could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A function is not named as `FILE:FUNCTION`.
    #[error(transparent)]
    Name(#[from] NoFunctionRef),
    /// A function would answer where the service answers itself.
    #[error("a function cannot be called `{0}`: the service answers /{0} itself")]
    Reserved(String),
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A function could not be found in its file.
    #[error("{file}")]
    Source {
        /// Relative to the project.
        file: String,
        /// What stands against it there, with its line.
        source: source::Error,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Name(_) => ErrorKind::Failure.named("function/name").hint("write it as src/predict.py:predict"),
            Self::Reserved(_) => ErrorKind::Failure.named("function/reserved"),
            Self::Io(error) => error.explain(),
            Self::Source { source, .. } => source.explain(),
        }
    }
}

/// What gives the content of a file of the project.
type Read<'a> = dyn Fn(&str) -> std::io::Result<Vec<u8>> + Sync + 'a;

/// Bytes of a file that may stand in an example.
const LARGEST_EXAMPLE: usize = 4096;

/// Paths at which the service answers itself.
const RESERVED: [&str; 6] = ["docs", "healthz", "livez", "metrics", "openapi.json", "readyz"];

/// Those at which it does so where it answers as MLflow's scoring server.
const MLFLOW: [&str; 4] = ["health", "invocations", "ping", "version"];

impl Api {
    /// Reads the declared parameters of the manifest's functions; `read` gives what is in a file of the project, and `mojo` is what
    /// is known of a model in Java.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(manifest: &Manifest, read: &Read, mojo: Option<&Mojo>) -> Result<Self, Error> {
        if !manifest.serves_functions() {
            return Ok(Self::default());
        }
        let mut named: BTreeMap<&str, &Written<FunctionRef>> = BTreeMap::new();
        named.extend(manifest.service.functions.iter().map(|(name, function)| (name.as_str(), function)));
        named.extend(manifest.service.predict.as_ref().map(|function| ("predict", function)));
        let mut routes = Vec::new();
        for (name, written) in named {
            if RESERVED.contains(&name) || manifest.service.mlflow.is_some() && MLFLOW.contains(&name) {
                return Err(Error::Reserved(name.to_owned()));
            }
            routes.push(Route::new(format!("/{name}"), written.meant()?, read)?);
        }
        if let Some(java) = &manifest.service.java {
            routes.push(Route {
                path: format!("/{}", java::NAME),
                file: java.jar.as_ref().or(java.model.as_ref()).cloned().unwrap_or_default(),
                function: java::NAME.to_owned(),
                signature: Some(java::declared(java, mojo)),
            });
            routes.sort_by(|one, other| one.path.cmp(&other.path));
        }
        let mut openai = Vec::new();
        for (name, path, written) in manifest.service.openai.iter().flat_map(OpenAi::functions) {
            openai.push((name, Route::new(path.to_owned(), written.meant()?, read)?));
        }
        let mlflow = match &manifest.service.mlflow {
            Some(mlflow) => Some(Route::new("/invocations".to_owned(), mlflow.predict.meant()?, read)?),
            None => None,
        };
        let small = |file: &str| match read(file)? {
            content if content.len() <= LARGEST_EXAMPLE => Ok(content),
            _ => Err(std::io::ErrorKind::FileTooLarge.into()),
        };
        let examples = manifest.tests.iter().zip(1..).filter(|(test, _)| (200..300).contains(&test.wanted_status()));
        let examples = examples.filter_map(|(test, number)| {
            // One whose file is not there, or is large, is none.
            let request = test.with_files(&small).ok()?.request?;
            Some(Example { name: test.name(number), path: test.path.clone(), request })
        });
        Ok(Self { routes, openai, mlflow, examples: examples.collect() })
    }

    /// Whether Ekiben's service answers, and not a command of the manifest.
    pub fn is_served(&self) -> bool {
        !self.routes.is_empty() || !self.openai.is_empty() || self.mlflow.is_some()
    }
}

impl Route {
    fn new(path: String, named: &FunctionRef, read: &Read) -> Result<Self, Error> {
        let FunctionRef { file, function } = named.clone();
        let text = |file: &str| String::from_utf8(read(file)?).map_err(std::io::Error::other);
        let signature = match source::function_in(&file, &text(&file)?, &function, &|file| text(file).ok()) {
            Ok(signature) => Some(signature),
            Err(source::Error::Opaque { .. }) => None,
            Err(source) => return Err(Error::Source { file, source }),
        };
        Ok(Self { path, file, function, signature })
    }

    pub(super) fn settings(&self, manifest: &Manifest) -> Value {
        let mut settings = serde_json::json!({ "path": self.path, "file": self.file, "function": self.function });
        for (parameter, _) in self.files(manifest) {
            if let Some(kinds) = accepted(manifest, &parameter.name) {
                settings["accept"][&parameter.name] = kinds.into();
            }
        }
        if self.may_stream() {
            settings["stream"] = true.into();
        }
        settings
    }

    /// Whether it answers in parts, or that is only known when it runs.
    pub(super) fn may_stream(&self) -> bool {
        self.signature.as_ref().is_none_or(|signature| signature.decorated || signature.parts.is_some())
    }

    /// Whether a request may be a form with files.
    pub(super) fn takes_files(&self) -> bool {
        let annotations = self.signature.iter().flat_map(|signature| &signature.parameters);
        annotations.filter_map(|parameter| parameter.annotation.as_ref()).any(Type::takes_files)
    }

    /// The parameters that are files or lists of them, and the kinds that these may be of; none where any will do.
    pub(super) fn files(&self, manifest: &Manifest) -> impl Iterator<Item = (&Parameter, Vec<String>)> {
        let parameters = self.signature.iter().flat_map(|signature| &signature.parameters);
        parameters.filter(|parameter| parameter.kind == ParameterKind::Named).filter_map(move |parameter| {
            let file = parameter.annotation.as_ref()?.file()?;
            let kinds = accepted(manifest, &parameter.name).map(<[String]>::to_vec);
            let own = || media_types(file).into_iter().map(str::to_owned).collect();
            Some((parameter, kinds.unwrap_or_else(own)))
        })
    }

    /// The parameter that the whole body may be: a file, and all that has to be given.
    pub(super) fn whole_file(&self, manifest: &Manifest) -> Option<(&Parameter, Vec<String>)> {
        let signature = self.signature.as_ref()?;
        let mut required = signature.parameters.iter().filter(|parameter| parameter.required);
        let (Some(one), None) = (required.next(), required.next()) else { return None };
        one.annotation.as_ref()?.alone()?;
        self.files(manifest).find(|(parameter, _)| parameter.name == one.name)
    }
}

/// The kinds of files that the manifest names for a parameter.
fn accepted<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a [String]> {
    let input = manifest.service.inputs.iter().find(|input| input.name == name)?;
    Some(input.accept.as_slice()).filter(|kinds| !kinds.is_empty())
}
