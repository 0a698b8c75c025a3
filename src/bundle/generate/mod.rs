//! What Ekiben writes for a model: the service around its functions, the description of its API, and the files of a
//! bundle that tell others how to build it.
//!
//! Invariant: bytes follow from the manifest, the lock and the declared parameters of the functions alone. What is
//! only copied lies in `templates/` as it is; what is filled in lies there too, as `….j2`.

mod api;
mod bundle;
mod openapi;
mod schema;
mod yaml;

pub use api::{Api, Error, Route};
pub use bundle::{Facts, bundle};
pub use openapi::document;

use crate::bundle::runtime;
use crate::io::archive::{ArchivePath, Entry, Mode};
use crate::project::manifest::{Manifest, Size};

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

macro_rules! copied {
    ($path:literal) => {
        GeneratedFile::new($path, include_bytes!(concat!("templates/", $path)))
    };
}

/// The files that lie below [`crate::bundle::runtime::CODE`] in the image beside the person's own: the entrypoint and,
/// unless the manifest names a command of its own, the service. `version` is that of the model.
pub fn service(manifest: &Manifest, version: &str, api: &Api) -> Vec<GeneratedFile> {
    let mut files = vec![entrypoint(manifest)];
    if api.is_served() {
        let mut settings = serde_json::json!({
            "name": manifest.name,
            "version": version,
            "port": manifest.service.port,
            "functions": api.routes.iter().map(|route| route.settings(manifest)).collect::<Vec<_>>(),
        });
        let limits = &manifest.service.limits;
        for (name, limit) in [("file", &limits.file), ("request", &limits.request)] {
            if let Some(bytes) = limit.as_ref().and_then(Size::bytes) {
                settings["limits"][name] = bytes.into();
            }
        }
        if let Some(nan) = manifest.service.nan {
            settings["nan"] = serde_json::json!(nan);
        }
        files.extend([
            copied!("ekiben_service/__init__.py"),
            copied!("ekiben_service/__main__.py"),
            copied!("ekiben_service/answer.py"),
            copied!("ekiben_service/app.py"),
            copied!("ekiben_service/body.py"),
            copied!("ekiben_service/docs.html"),
            copied!("ekiben_service/files.py"),
            copied!("ekiben_service/function.py"),
            copied!("ekiben_service/log.py"),
            copied!("ekiben_service/metrics.py"),
            copied!("ekiben_service/values.py"),
            GeneratedFile::new("ekiben_service/openapi.json", document(manifest, version, api).to_string()),
            GeneratedFile::new("ekiben_service/service.json", settings.to_string()),
        ]);
    }
    files
}

/// POSIX sh: without arguments it serves, with arguments it runs them.
fn entrypoint(manifest: &Manifest) -> GeneratedFile {
    let command = match manifest.service.command.as_slice() {
        [] => format!("{}/bin/python -m ekiben_service", runtime::VENV),
        command => command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    let text = include_str!("templates/env/docker/entrypoint.sh").replace("@COMMAND@", &command);
    GeneratedFile::new("env/docker/entrypoint.sh", text).executable()
}

/// Starts the service of a bento, with the arguments and variables that BentoML's own entrypoint knows.
pub const BENTO_ENTRYPOINT: &str = include_str!("templates/env/docker/bento.sh");

/// A word of a POSIX shell's command line.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | ',' | '@' | '%');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
