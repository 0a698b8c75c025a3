//! Where things lie in an image, and who runs them. Every path is absolute and without a `/` at its end.
//!
//! The constants are of images as Ekiben lays them out; an image of a bento looks as BentoML would have made it
//! ([`Convention`]).

use std::collections::BTreeMap;

use crate::base::debian::User;
use crate::image::Image;
use crate::io::archive::ArchivePath;
use crate::project::manifest::Manifest;
pub use crate::project::manifest::training::TRAINED;

/// Root of the code, and working directory: `src/predict.py` of a project lies at `/app/src/predict.py`.
pub const CODE: &str = "/app";
/// The virtual environment.
pub const VENV: &str = "/app/.venv";
/// The Python package that serves the functions.
pub const SERVICE: &str = "/app/ekiben_service";
/// Starts the service, or runs what it is given.
pub const ENTRYPOINT: &str = "/app/env/docker/entrypoint.sh";
/// The models: each has a folder of its name.
pub const MODELS: &str = "/models";
/// The label of an image that has the digest of the bundle which it was built from.
pub const BUNDLE_LABEL: &str = "io.ekiben.bundle.digest";
/// User and group, by number, as bentos have them.
pub const USER: u32 = 1034;
/// Their name.
pub const USER_NAME: &str = "ekiben";

/// The folder of a model's files.
pub fn model(name: &str) -> String {
    format!("{MODELS}/{name}")
}

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// Code below [`CODE`], models below [`MODELS`].
    Ekiben,
    /// As BentoML makes images of its bentos: the whole bento, with its models, in one folder of the user's home.
    Bento,
}

/// The folder of a bento in its image.
const BENTO: &str = "/home/bentoml/bento";

impl Convention {
    /// How an image is laid out that Ekiben built; none where another tool did. The working directory is the Dockerfile's where
    /// its image starts the server.
    pub fn of(image: &Image) -> Option<Self> {
        let folder = image.config().working_dir().as_deref().unwrap_or_default();
        let is_ours = image.config().labels().as_ref().is_some_and(|labels| labels.contains_key(BUNDLE_LABEL));
        let known = [Self::Ekiben, Self::Bento].into_iter().find(|convention| convention.code() == folder);
        known.or(is_ours.then_some(Self::Ekiben))
    }

    /// Root of the code, and working directory.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ekiben => CODE,
            Self::Bento => BENTO,
        }
    }

    /// The name of the user with the number [`USER`].
    pub fn user_name(self) -> &'static str {
        match self {
            Self::Ekiben => USER_NAME,
            Self::Bento => "bentoml",
        }
    }

    /// Who runs its program.
    pub fn user(self) -> User {
        let name = self.user_name();
        let home = ArchivePath::new(format!("home/{name}"));
        // The name is a constant without `..`.
        let home = home.unwrap_or_else(|error| unreachable!("{error}"));
        User { name: name.to_owned(), uid: USER, gid: USER, home }
    }

    /// Ports that the service listens on, that for requests first.
    pub fn ports(self, manifest: &Manifest) -> Vec<u16> {
        match self {
            Self::Ekiben => vec![manifest.service.port],
            Self::Bento => vec![manifest.service.port, 3001],
        }
    }

    /// The environment of the container, sorted: what the manifest says wins over what Ekiben sets.
    pub fn environment(self, manifest: &Manifest) -> BTreeMap<String, String> {
        let path = format!("{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut variables = BTreeMap::from([("PATH".to_owned(), path)]);
        let own: &[(&str, String)] = match self {
            Self::Ekiben => &[
                ("EKIBEN_MODEL_DIR", model(&manifest.name)),
                ("PORT", manifest.service.port.to_string()),
                ("PYTHONUNBUFFERED", "1".to_owned()),
            ],
            Self::Bento => &[
                ("BENTOML_CONTAINERIZED", "true".to_owned()),
                ("BENTOML_HF_CACHE_DIR", format!("{BENTO}/hf-models")),
                ("BENTOML_HOME", "/home/bentoml/".to_owned()),
                ("BENTO_PATH", BENTO.to_owned()),
                ("LANG", "C.UTF-8".to_owned()),
                ("LC_ALL", "C.UTF-8".to_owned()),
                ("PYTHONIOENCODING", "UTF-8".to_owned()),
                ("PYTHONUNBUFFERED", "1".to_owned()),
                ("VIRTUAL_ENV", VENV.to_owned()),
            ],
        };
        variables.extend(own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        variables.extend(manifest.env.clone());
        variables
    }
}
