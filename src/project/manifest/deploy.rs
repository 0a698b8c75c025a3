//! `deploy`: how the model runs in Kubernetes. The same is the document that `ekiben deploy --settings` takes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PERIOD, PERIOD_IN_WORDS, Period};
use crate::formats::document::Written;
use crate::formats::schema::Kind as SchemaKind;
use crate::formats::schema::load::Described;

/// What a name of an object has to look like (RFC 1123, a label).
const NAME: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
const NAME_IN_WORDS: &str = "up to 63 lowercase letters, digits and `-`, the first and last a letter or digit";
/// What a quantity of Kubernetes has to look like.
const QUANTITY: &str = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$";
const QUANTITY_IN_WORDS: &str = "a number with a unit, as 500m, 2 or 4Gi";

/// How the model runs in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// What it runs as. Absent: a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What its objects are called. Absent: as the model, with `-` for `.` and `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME), extend("patternErrorMessage" = NAME_IN_WORDS))]
    pub name: Option<String>,
    /// The namespace. Absent: the one that `kubectl` works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME), extend("patternErrorMessage" = NAME_IN_WORDS))]
    pub namespace: Option<String>,
    /// Further labels of all objects and pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Variables of the container's environment, over those of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets of the namespace, by name: all keys as variables, or some, or files. Never values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// The service account of the pods: `{annotations: {eks.amazonaws.com/role-arn: …}}`, or `{name: …}` for one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// Secrets with which images are pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull: Vec<String>,
    /// How many pods. Absent: one, or what `autoscale` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maximum" = 10_000))]
    pub replicas: Option<u32>,
    /// How many pods, by what they do: `1..4`, or `{min: 1, max: 4, metrics: [{cpu: 70}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// The same in the words of Kubernetes, as Konfuzio's settings have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// When it runs: always; until nobody has asked for `timeout` seconds; or for each request. Absent: always, but of `knative` and
    /// `keda` as with `TIMEOUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Seconds after the last answer after which a model with the strategy `TIMEOUT` goes to no pods. Absent: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 31_536_000))]
    pub timeout: Option<f64>,
    /// When a cron job begins, as five fields of cron; or from when to when a service runs: `{start: 0 7 * * 1-5, stop: 0 19 * *
    /// 1-5, zone: Europe/Berlin}`, which takes KEDA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// What KEDA scales by, as its documentation has them: `{type: prometheus, metadata: {…}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Map<String, Value>>,
    /// What each pod gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The time that the model has to become ready. Absent: a minute, and more for large weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PERIOD, "patternErrorMessage" = PERIOD_IN_WORDS))]
    pub start: Option<Written<Period>>,
    /// How it is reached from outside the cluster. Absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,
    /// `closed`: a NetworkPolicy lets requests in, and nothing out but questions for names (and, where weights are fetched, that).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkAccess>,
    /// Labels that a node has to have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, String>,
    /// Taints of nodes that do not matter, as Kubernetes has them: `{key: …, operator: Exists, effect: NoSchedule}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Where the weights are: `image` (with the code), `volume` (an image of their own, mounted), `s3://BUCKET/PREFIX/` (fetched when a
    /// pod starts), `pvc:CLAIM` (a shared volume), `node` (on the machine image). Absent: `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = MODELS, "patternErrorMessage" = MODELS_IN_WORDS))]
    pub models: Option<Written<Models>>,
    /// Where the claim's weights come from: a job fills it. `s3://BUCKET/PREFIX/`, or another address that `ekiben fetch` knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
    /// The claim, where it is not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// What fetches weights in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetcher: Option<Fetcher>,
    /// How the model is trained in the cluster, and where what is trained lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingThere>,
    /// Where the broker is of the messages that ask or train the model: `{secret: NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Broker>,
    /// What a job, cron job or worker does: the records that it reads and where answers go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Records>,
    /// Arguments for the image, in place of serving or of `batch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Claims of the namespace that the container sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Claim>,
    /// The version of the cluster, as `1.31`; what it lacks is refused. Absent: 1.31.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^1\.[0-9]{1,3}$", "patternErrorMessage" = "a version of Kubernetes, as \"1.31\""))]
    pub kubernetes: Option<Written<KubernetesVersion>>,
}

/// Keys within which each key counts by itself where one is said over another.
const WITHIN: [&str; 8] = ["annotations", "env", "expose", "labels", "messages", "nodes", "resources", "training"];

/// What objects of a model are called where nothing is said: its name as a label of RFC 1123.
pub fn default_name(model: &str) -> String {
    model.replace(['.', '_'], "-")
}

impl Described for Deploy {
    const KIND: SchemaKind = SchemaKind::Deploy;
}

impl Deploy {
    /// What it runs as.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or_default()
    }

    /// Where the weights are. What means nothing the check of form has told.
    pub fn models(&self) -> Models {
        self.models.as_ref().and_then(|written| written.meant().ok()).cloned().unwrap_or_default()
    }

    /// The version of the cluster.
    pub fn kubernetes(&self) -> KubernetesVersion {
        self.kubernetes.as_ref().and_then(|written| written.meant().ok()).copied().unwrap_or_default()
    }

    /// How many pods by what they do, and by which metrics; none where their number is fixed.
    pub fn scaling(&self) -> Option<Scaling> {
        let own = self.autoscale.as_ref().map(|autoscale| match autoscale {
            Autoscale::Range(text) => Scaling { pods: range(text).unwrap_or(1..=1), metrics: Vec::new() },
            Autoscale::Metrics(written) => {
                Scaling { pods: written.min..=written.max, metrics: written.metrics.clone() }
            }
        });
        own.or_else(|| {
            let written = self.autoscaling.as_ref()?;
            let metrics = written.metrics.iter().cloned().map(Metric::Whole).collect();
            Some(Scaling { pods: written.min_replicas..=written.max_replicas, metrics })
        })
    }

    /// From how many pods to how many there may be, where something starts and ends them by what is asked: from none, where they
    /// are to go to none or the platform does so of itself.
    pub fn pods(&self) -> RangeInclusive<u32> {
        if let Some(scaling) = self.scaling() {
            return scaling.pods;
        }
        let most = self.replicas.unwrap_or(1).max(1);
        let goes_to_none = match self.strategy {
            Some(Strategy::AlwaysOn) => false,
            Some(Strategy::Timeout | Strategy::Immediate) => true,
            None => matches!(self.kind(), Kind::Knative | Kind::Keda),
        };
        if goes_to_none { 0..=most } else { most..=most }
    }

    /// Whether it is requests that KEDA scales by, which its HTTP add-on counts: nothing else is said.
    pub fn counts_requests(&self) -> bool {
        let is_measured = self.scaling().is_some_and(|scaling| !scaling.metrics.is_empty());
        self.kind() == Kind::Keda && self.triggers.is_empty() && self.schedule.is_none() && !is_measured
    }

    /// What the objects of the model `model` are called: as it is said, else as the model, as a label of RFC 1123.
    pub fn name_for(&self, model: &str) -> String {
        self.name.clone().unwrap_or_else(|| default_name(model))
    }

    /// The same with what `over` says in its place, key by key; also within what has keys of its own that are independent of each
    /// other, as variables and resources.
    pub fn overlaid(&self, over: &Self) -> Self {
        let object = |one: &Self| match serde_json::to_value(one) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        let mut all = object(self);
        let over = object(over);
        // Two words for the same.
        for (one, other) in [
            ("autoscale", "autoscaling"),
            ("autoscaling", "autoscale"),
            ("replicas", "autoscale"),
            ("replicas", "autoscaling"),
            ("autoscale", "replicas"),
            ("autoscaling", "replicas"),
        ] {
            if over.contains_key(one) {
                all.remove(other);
            }
        }
        for (key, value) in over {
            match (all.get_mut(&key), value) {
                (Some(Value::Object(below)), Value::Object(over)) if WITHIN.contains(&key.as_str()) => {
                    below.extend(over)
                }
                (_, value) => drop(all.insert(key, value)),
            }
        }
        serde_json::from_value(Value::Object(all)).unwrap_or_else(|_| self.clone())
    }
}

/// How many pods, by what.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// From how many to how many.
    pub pods: RangeInclusive<u32>,
    /// By what; by the processors where it is empty.
    pub metrics: Vec<Metric>,
}

/// What a model runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Kind {
    /// A Deployment behind a Service.
    #[default]
    Service,
    /// A Job: records in, answers out, then it ends.
    Job,
    /// A CronJob.
    CronJob,
    /// A Deployment that nobody asks: it gets its work itself.
    Worker,
    /// A Service of Knative's: no pods while nobody asks.
    Knative,
    /// A Deployment that KEDA scales, from none on.
    Keda,
    /// An InferenceService of KServe's with this image; with `TIMEOUT` upon Knative.
    KServe,
}

/// When containers of a model are started and ended, in Konfuzio's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// One container, or as many as are wanted, from the start on, started again when it dies.
    AlwaysOn,
    /// From the first request until `timeout` seconds after the last answer.
    Timeout,
    /// A container for each request, ended after its answer.
    Immediate,
}

/// A secret of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secret {
    /// All of its keys are variables.
    All(#[schemars(length(min = 1, max = 253))] String),
    /// Some of them, or files.
    Part(SecretPart),
}

/// What of a secret is used, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretPart {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Variables, each with the key that has its value: `{DB_PASSWORD: password}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The folder in which each key is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/."), extend("patternErrorMessage" = "a path that begins with `/`"))]
    pub path: Option<String>,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// One that is there. Absent: one is made, called as the other objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Annotations of the one that is made: `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How many pods, by what they do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Autoscale {
    /// `1..4`.
    Range(
        #[schemars(regex(pattern = r"^[0-9]{1,4}\.\.[0-9]{1,4}$"), extend("patternErrorMessage" = "two numbers, as 1..4"))]
         String,
    ),
    /// The same with what they are scaled by.
    Metrics(AutoscaleBy),
}

/// The numbers of `1..4`.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (min, max) = text.split_once("..")?;
    Some(min.parse().ok()?..=max.parse().ok()?)
}

/// How many pods, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoscaleBy {
    /// At least so many.
    #[schemars(extend("maximum" = 10_000))]
    pub min: u32,
    /// At most so many.
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub max: u32,
    /// By what. Absent: `{cpu: 70}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

/// What pods are scaled by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Metric {
    /// In percent of what is requested.
    Used(UsedMetric),
    /// As Kubernetes has it: `{type: Pods, pods: {…}}`.
    Whole(Map<String, Value>),
}

/// How much of what a pod requests it may use before there are more pods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsedMetric {
    /// Processors, in percent.
    Cpu(#[schemars(range(min = 1, max = 1000))] u32),
    /// Memory, in percent.
    Memory(#[schemars(range(min = 1, max = 1000))] u32),
}

/// Konfuzio's settings for a number of pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Autoscaling {
    /// At least so many.
    #[serde(default = "one")]
    #[schemars(extend("maximum" = 10_000))]
    pub min_replicas: u32,
    /// At most so many.
    #[serde(default = "one")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub max_replicas: u32,
    /// By what, as `autoscaling/v2` has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Map<String, Value>>,
}

fn one() -> u32 {
    1
}

/// When something runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Schedule {
    /// When it begins.
    At(String),
    /// From when to when.
    Hours(Hours),
}

/// From when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// When it is started, as five fields of cron.
    pub start: String,
    /// When it is stopped.
    pub stop: String,
    /// The time zone of both. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What a pod gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory, requested and at most. Absent: a guess by the size of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = QUANTITY), extend("patternErrorMessage" = QUANTITY_IN_WORDS))]
    pub memory: Option<String>,
    /// Processors that it surely gets; it may use more that are idle. Absent: 500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = QUANTITY), extend("patternErrorMessage" = QUANTITY_IN_WORDS))]
    pub cpu: Option<String>,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 64))]
    pub gpus: Option<u32>,
    /// What a GPU is called in the cluster. Absent: `nvidia.com/gpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// As Kubernetes has it, over what the others say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// As Kubernetes has it, over what the others say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

/// A quantity of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Quantity {
    /// `500m`, `2Gi`.
    Text(#[schemars(regex(pattern = QUANTITY), extend("patternErrorMessage" = QUANTITY_IN_WORDS))] String),
    /// `2`.
    Number(#[schemars(range(min = 0))] f64),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// How a service is reached from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expose {
    /// The host's name.
    #[schemars(regex(pattern = r"^[a-z0-9*]([a-z0-9.-]{0,251}[a-z0-9])?$"), extend("patternErrorMessage" = "a host's name in lowercase letters"))]
    pub host: String,
    /// What the paths begin with: several models share a host. Absent: where the service itself is (`service.root`), else `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$"), extend("patternErrorMessage" = "a path as /NAME, without a `/` at its end"))]
    pub path: Option<String>,
    /// The Gateway that has the host: NAME or NAMESPACE/NAME. It takes the path away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The class of the Ingress, where it is no Gateway: `nginx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// The secret with the certificate of an Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Annotations of the Ingress: `{cert-manager.io/cluster-issuer: …}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where KEDA's HTTP add-on takes requests in, as NAMESPACE/SERVICE. Absent: keda/keda-add-ons-http-interceptor-proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interceptor: Option<String>,
}

impl Expose {
    /// The namespace and the Service in which KEDA's HTTP add-on takes requests in, by default where its own chart has it.
    pub fn interceptor(&self) -> (&str, &str) {
        let own = self.interceptor.as_deref().and_then(|text| text.split_once('/'));
        own.unwrap_or(("keda", "keda-add-ons-http-interceptor-proxy"))
    }
}

/// Whom the pods may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkAccess {
    /// All.
    Open,
    /// Nobody.
    Closed,
}

/// A taint that does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Toleration {
    /// Which. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The value, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What the taint does. Absent: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For how many seconds, with `NoExecute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<u64>,
}

/// How a taint is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' words")]
pub enum TolerationOperator {
    Exists,
    Equal,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' words")]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

const MODELS: &str = "^(image|volume|node|s3://[^/]+(/.*)?|pvc:[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)$";
const MODELS_IN_WORDS: &str = "`image`, `volume`, `node`, s3://BUCKET/PREFIX/ or pvc:CLAIM";

/// Where the weights are when the model runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Models {
    /// In the image, with the code.
    #[default]
    Image,
    /// In an image of their own, which is mounted.
    Volume,
    /// In the image, which is on the machine before the pod is.
    Node,
    /// In an object store, fetched when a pod starts.
    S3(String),
    /// On a shared volume.
    Claim(String),
}

/// The text says of no place where weights are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weights are in one of {MODELS_IN_WORDS}, not in `{0}`")]
pub struct UnknownModels(String);

impl FromStr for Models {
    type Err = UnknownModels;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "image" => Ok(Self::Image),
            "volume" => Ok(Self::Volume),
            "node" => Ok(Self::Node),
            text if text.strip_prefix("s3://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) => {
                Ok(Self::S3(text.to_owned()))
            }
            text => match text.strip_prefix("pvc:") {
                Some(claim) if !claim.is_empty() => Ok(Self::Claim(claim.to_owned())),
                _ => Err(UnknownModels(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image => f.write_str("image"),
            Self::Volume => f.write_str("volume"),
            Self::Node => f.write_str("node"),
            Self::S3(address) => f.write_str(address),
            Self::Claim(claim) => write!(f, "pvc:{claim}"),
        }
    }
}

/// A claim that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The StorageClass. Absent: the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How large.
    #[schemars(regex(pattern = QUANTITY), extend("patternErrorMessage" = QUANTITY_IN_WORDS))]
    pub size: String,
    /// The claim of another namespace that this one stands for, as NAMESPACE/CLAIM: volumes of Trident's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// Namespaces that may stand for this one, for volumes of Trident's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub share: Vec<String>,
    /// The bucket that is the volume, without a copy: by the driver of Mountpoint for Amazon S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
}

/// How a model is trained in a cluster, and the claim on which it lies then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingThere {
    /// How large the claim is. Absent: 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = QUANTITY), extend("patternErrorMessage" = QUANTITY_IN_WORDS))]
    pub size: Option<String>,
    /// Its StorageClass. Absent: the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether it can be mounted on several nodes. Absent: `ReadWriteOnce`, and all pods of the model are on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// A claim of the namespace in its place, which is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Where the data set is fetched from: `s3://BUCKET/PREFIX/`, or another address that `ekiben fetch` knows. Absent: it is put onto
    /// the claim, as `data/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Whether a job trains the model. Absent: where the image has none that was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<bool>,
    /// The time that a training is waited for. Absent: an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PERIOD, "patternErrorMessage" = PERIOD_IN_WORDS))]
    pub time: Option<Written<Period>>,
    /// What a pod gets that trains. Absent: as the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// On how many nodes a claim can be mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// On one.
    #[default]
    ReadWriteOnce,
    /// On several.
    ReadWriteMany,
}

/// The broker of a model's messages, and how many answer them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// The secret of the namespace that has its address (`url`), and, where they are not in that, `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether the secret has the certificates that it is known by (`ca.crt`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ca: bool,
    /// Its port, which a closed network leaves open. Absent: 5671 and 5672.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// How many pods answer messages. Absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub replicas: Option<u32>,
}

/// What fetches weights in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetcher {
    /// Its image, by digest or tag: Ekiben's own (`ekiben self image`), or one of s5cmd.
    pub image: String,
    /// Which program it is. Absent: ekiben, which checks digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<FetchProgram>,
}

/// Programs that fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FetchProgram {
    /// Ekiben, which checks digests.
    #[default]
    Ekiben,
    /// s5cmd.
    S5cmd,
}

/// The records of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// The file or folder that is read, on one of the volumes.
    pub input: String,
    /// Where answers go.
    pub output: String,
    /// The function, by its name in the path. Absent: `predict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Into how many parts the work is divided, each a pod of an indexed Job. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub parts: Option<u32>,
}

/// A claim that the container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub claim: String,
    /// Where it lies in the container.
    #[schemars(regex(pattern = "^/."), extend("patternErrorMessage" = "a path that begins with `/`"))]
    pub path: String,
    /// A folder of it. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Whether it cannot be written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// A version of Kubernetes: 1 and its second number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion(pub u16);

impl Default for KubernetesVersion {
    fn default() -> Self {
        Self(31)
    }
}

/// The text is no version of Kubernetes that is written for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of Kubernetes: they are written as 1.31")]
pub struct NoVersion(String);

impl FromStr for KubernetesVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix("1.").and_then(|minor| minor.parse().ok());
        number.map(Self).filter(|version| version.to_string() == text).ok_or_else(|| NoVersion(text.to_owned()))
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_over_it_takes_no_other_key_away() {
        let of = |value: Value| serde_json::from_value::<Deploy>(value).unwrap();
        let below = of(json!({
            "env": {"A": "a", "B": "b"}, "resources": {"gpus": 1, "memory": "1Gi"}, "replicas": 2, "pull": ["one"],
        }));
        let over = of(json!({"env": {"B": "c"}, "resources": {"memory": "2Gi"}, "autoscale": "1..4", "pull": ["two"]}));
        let expected = of(json!({
            "env": {"A": "a", "B": "c"}, "resources": {"gpus": 1, "memory": "2Gi"}, "autoscale": "1..4", "pull": ["two"],
        }));
        assert_eq!(below.overlaid(&over), expected);
        assert_eq!(below.overlaid(&Deploy::default()), below);
    }
}
