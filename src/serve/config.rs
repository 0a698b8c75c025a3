//! `serve.yaml`: which models are served, and how each is started and stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forwarded::Network;
use super::schedule::{self, Hours};
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::{Document, pointer};
use crate::formats::schema::Kind;
use crate::formats::schema::load::{self, Described};
use crate::image::store::ImageQuery;
use crate::io::size;
use crate::project::manifest::deploy::Strategy;
use crate::run::container::Way;
use crate::run::devices::Wanted;
use crate::run::volume::Volume;

/// Names under which it is recognised.
pub const NAMES: [&str; 4] = ["serve.yaml", "serve.yml", "serve.json", "serve.json5"];

/// Variables that say how long a model without a `timeout` is kept, in seconds, the first that is set. The second is
/// Konfuzio's for services of BentoML.
pub const TIMEOUT_VARIABLES: [&str; 2] = ["EKIBEN_SHUTDOWN_TIMEOUT", "BENTO_SERVING_SHUTDOWN_TIMEOUT"];

/// Seconds that a model is kept after its last answer where nothing says how long.
const TIMEOUT: f64 = 300.0;

/// All that `ekiben serve` serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Memory that all models together may use, as `8Gi`. Before more is used, the model that has been idle for longest is
    /// ended. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "pattern" = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        "patternErrorMessage" = "a whole number of bytes with a unit, as 512Mi or 2Gi"
    ))]
    pub memory: Option<String>,
    /// Proxies that stand in front, as addresses or networks: `10.0.0.0/8`. What they say of the caller (`X-Forwarded-For`,
    /// `-Proto`, `-Host`, `-Prefix`; `Forwarded`) is believed, and nobody else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The models, by the names under which they answer: `/NAME/…`.
    #[schemars(extend("minProperties" = 1, "propertyNames" = {
        "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$",
        "patternErrorMessage": "up to 63 lowercase letters, digits, `.`, `_` and `-`, the first and last a letter or digit"
    }))]
    pub models: BTreeMap<String, Model>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// An image of the local store, as `iris` or `iris:1.0`. Without a tag, all versions that the store has are served:
    /// `/NAME/…` is the newest, `/NAME@VERSION/…` any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 384))]
    pub image: Option<String>,
    /// In place of an image: a project's folder, a bundle or a bento, from the folder of this file. Its image is built where
    /// it is not what lies there: when `ekiben serve` begins, and when it is new in this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub project: Option<PathBuf>,
    /// When its containers are started and ended.
    #[serde(default = "strategy")]
    pub strategy: Strategy,
    /// Seconds after its last answer for which a model with the strategy `TIMEOUT` is kept; 0 is `IMMEDIATE`. Absent: what
    /// the variable `EKIBEN_SHUTDOWN_TIMEOUT` or `BENTO_SERVING_SHUTDOWN_TIMEOUT` says, else 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 31_536_000))]
    pub timeout: Option<f64>,
    /// Names of hosts (`Host`) whose requests are all for this model. `NAME.anything` is anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")))]
    pub hosts: Vec<String>,
    /// Requests that it is given at once; more wait. With `IMMEDIATE`: containers at once. Absent: 64, or 16 containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 256))]
    pub concurrency: Option<u32>,
    /// Requests that may wait, for its start or for others; more are answered with 503 at once.
    #[serde(default = "queue")]
    #[schemars(extend("maximum" = 100_000))]
    pub queue: u32,
    /// Seconds that a request may wait before it is given to the model; then it is answered with 504.
    #[serde(default = "patience")]
    #[schemars(extend("minimum" = 1, "maximum" = 86_400))]
    pub wait: u32,
    /// Seconds that the model has to become ready.
    #[serde(default = "patience")]
    #[schemars(extend("minimum" = 1, "maximum" = 86_400))]
    pub start: u32,
    /// Seconds that the model has until its answer begins; then the request is answered with 504. Absent: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 86_400))]
    pub answer: Option<u32>,
    /// Seconds that a container has to end by itself. Absent: 10, and more where its manifest says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maximum" = 3600))]
    pub grace: Option<u32>,
    /// The path that answers with a status of 2xx once the model is ready. Absent: what its manifest says, else `/readyz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/[!-~]*$"), extend("patternErrorMessage" = "a path that begins with `/`"))]
    pub ready: Option<String>,
    /// Memory that each of its containers may use, as `512Mi`. Absent: what its manifest says, else no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "pattern" = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        "patternErrorMessage" = "a whole number of bytes with a unit, as 512Mi or 2Gi"
    ))]
    pub memory: Option<String>,
    /// Processors that each of its containers may use, as `2` or `0.5`. Absent: what its manifest says, else no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0.01))]
    pub cpus: Option<f64>,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "patternErrorMessage": "letters, digits and `_`, not beginning with a digit" }))]
    pub env: BTreeMap<String, String>,
    /// Files and folders of this machine that it sees: `HOST:CONTAINER[:ro]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Where it may connect to, as `ekiben run --connect` has it: `broker:5672`. It reaches nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    /// GPUs or other devices that it gets, as `ekiben run --gpus` has them: `all`, `1`, `device=0`, `nvidia.com/gpu=0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// When it runs, whether or not somebody asks. Outside of these hours its strategy counts, but an `ALWAYS_ON` model
    /// does not run then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// From when to when a model runs, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When it is started, as five fields of cron: `0 7 * * 1-5`.
    pub start: String,
    /// When it is stopped, after the requests that it has: `0 19 * * 1-5`.
    pub stop: String,
    /// The time zone of both, as `Europe/Berlin`. Absent: that of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

fn strategy() -> Strategy {
    Strategy::Timeout
}

fn queue() -> u32 {
    256
}

fn patience() -> u32 {
    120
}

impl Described for Config {
    const KIND: Kind = Kind::Serve;
}

impl Config {
    /// Reads and checks the file `path`. Mistakes go to `found`; none where there are some.
    pub fn read(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let loaded = load::file::<Self>(path, found)?;
        if let Some(config) = &loaded.value {
            config.check(&loaded.document, found);
            // Of one with other mistakes, the key may be misspelt.
            for name in config.models.iter().filter(|(_, model)| model.is_of_nothing() && loaded.sound).map(|it| it.0) {
                let why = "a model has an `image` or a `project`";
                found.push(loaded.document.at(Code::WrongForm, &pointer(["models", name]), why.to_owned()));
            }
        }
        let (_, mut config) = loaded.whole().filter(|_| !found.has_errors())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for project in config.models.values_mut().filter_map(|model| model.project.as_mut()) {
            *project = folder.join(&*project);
        }
        Some(config)
    }

    /// One that serves `images`, each under the last part of its name.
    pub fn of_images(images: &[ImageQuery]) -> Self {
        let models = images.iter().map(|image| (name_of(image).to_owned(), Model::of_image(image))).collect();
        Self { memory: None, trusted_proxies: Vec::new(), models }
    }

    /// The limit on the memory of all models, in bytes.
    pub fn memory(&self) -> Option<u64> {
        size::bytes(self.memory.as_deref()?)
    }

    /// The proxies that are believed.
    pub fn proxies(&self) -> Vec<Network> {
        self.trusted_proxies.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// What the schema cannot say. Mistakes go to `found`.
    fn check(&self, document: &Document, found: &mut Diagnostics) {
        for (number, text) in self.trusted_proxies.iter().enumerate() {
            if let Err(error) = text.parse::<Network>() {
                let at = pointer(["trusted_proxies", &number.to_string()]);
                found.push(document.at(Code::WrongForm, &at, error.to_string()));
            }
        }
        let mut hosts: BTreeMap<String, &str> = BTreeMap::new();
        for (name, model) in &self.models {
            let at = |keys: &[&str]| pointer(["models", name].into_iter().chain(keys.iter().copied()));
            let mut wrong = |keys: &[&str], why: String| found.push(document.at(Code::WrongForm, &at(keys), why));
            match (&model.image, &model.project) {
                (Some(_), Some(_)) => wrong(&["project"], "a model has an `image` or a `project`, not both".to_owned()),
                (Some(image), None) => {
                    if let Err(error) = image.parse::<ImageQuery>() {
                        wrong(&["image"], error.to_string());
                    }
                }
                (None, _) => {}
            }
            for (number, host) in model.hosts.iter().enumerate() {
                if let Some(other) = hosts.insert(host.to_ascii_lowercase(), name) {
                    wrong(&["hosts", &number.to_string()], format!("the host `{host}` is that of `{other}` already"));
                }
            }
            for (number, text) in model.volumes.iter().enumerate() {
                if let Err(error) = text.parse::<Volume>() {
                    wrong(&["volumes", &number.to_string()], error.to_string());
                }
            }
            for (number, text) in model.connect.iter().enumerate() {
                if let Err(error) = text.parse::<Way>() {
                    wrong(&["connect", &number.to_string()], error.to_string());
                }
            }
            for (number, text) in model.gpus.iter().enumerate() {
                if let Err(error) = text.parse::<Wanted>() {
                    wrong(&["gpus", &number.to_string()], error.to_string());
                }
            }
            let Some(schedule) = &model.schedule else { continue };
            if let Err(schedule::Error { field, why }) = schedule.hours() {
                wrong(&["schedule", field], why);
            } else if model.strategy == Strategy::Immediate {
                wrong(
                    &["schedule"],
                    "a model with the strategy IMMEDIATE has no container that could be kept".to_owned(),
                );
            }
        }
    }
}

/// What a model is called of which only the image is known: the last part of its name.
pub fn name_of(image: &ImageQuery) -> &str {
    image.repository().rsplit('/').next().unwrap_or_default()
}

impl Model {
    /// One of an image, all else as it is where nothing is said of it.
    pub fn of_image(image: &ImageQuery) -> Self {
        Self {
            image: Some(image.to_string()),
            project: None,
            strategy: strategy(),
            timeout: None,
            hosts: Vec::new(),
            concurrency: None,
            queue: queue(),
            wait: patience(),
            start: patience(),
            answer: None,
            grace: None,
            ready: None,
            memory: None,
            cpus: None,
            env: BTreeMap::new(),
            volumes: Vec::new(),
            connect: Vec::new(),
            gpus: Vec::new(),
            schedule: None,
        }
    }

    fn is_of_nothing(&self) -> bool {
        self.image.is_none() && self.project.is_none()
    }

    /// Its strategy, and how long it is kept after its last answer, where its own text says nothing of it `default` counts.
    pub fn strategy(&self, default: Duration) -> (Strategy, Duration) {
        let timeout = self.timeout.map_or(default, Duration::from_secs_f64);
        match self.strategy {
            Strategy::Timeout if timeout.is_zero() => (Strategy::Immediate, timeout),
            strategy => (strategy, timeout),
        }
    }
}

impl Schedule {
    /// The hours that it describes.
    ///
    /// # Errors
    /// When one of its texts is none of cron's, or the zone is not known.
    pub fn hours(&self) -> Result<Hours, schedule::Error> {
        Hours::new(&self.start, &self.stop, self.zone.as_deref())
    }
}

/// How long a model is kept of which nothing says how long, by the variables that `variable` looks up.
///
/// # Errors
/// The name of a variable that is no number of seconds.
pub fn default_timeout(variable: impl Fn(&str) -> Option<String>) -> Result<Duration, &'static str> {
    let Some((name, text)) = TIMEOUT_VARIABLES.iter().find_map(|name| Some((*name, variable(name)?))) else {
        return Ok(Duration::from_secs_f64(TIMEOUT));
    };
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.0..=31_536_000.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_nothing_is_a_container_for_each_request() {
        let mut model = Model::of_image(&"iris".parse().unwrap());
        let strategy = |model: &Model| model.strategy(Duration::from_secs(9));
        assert_eq!(strategy(&model), (Strategy::Timeout, Duration::from_secs(9)));
        model.timeout = Some(0.0);
        assert_eq!(strategy(&model).0, Strategy::Immediate);
        model.strategy = Strategy::AlwaysOn;
        assert_eq!(strategy(&model).0, Strategy::AlwaysOn);
    }

    #[test]
    fn the_first_variable_that_is_set_says_how_long() {
        let of = |own: Option<&str>, other: Option<&str>| {
            default_timeout(|name| {
                let value = if name == TIMEOUT_VARIABLES[0] { own } else { other };
                value.map(str::to_owned)
            })
        };
        assert_eq!(of(None, None), Ok(Duration::from_secs(300)));
        assert_eq!(of(None, Some("60")), Ok(Duration::from_secs(60)));
        assert_eq!(of(Some("0"), Some("60")), Ok(Duration::ZERO));
        assert_eq!(of(Some("-1"), None), Err(TIMEOUT_VARIABLES[0]));
        assert_eq!(of(None, Some("soon")), Err(TIMEOUT_VARIABLES[1]));
    }
}
