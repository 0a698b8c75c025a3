//! A model's image as objects of Kubernetes: what an expert would write. The same inputs give the same bytes.
//!
//! Every pod keeps to the restricted profile of the Pod Security Standards; a test holds all output to it.

mod api;
mod cluster;
mod expose;
pub mod follower;
mod job;
pub mod kubectl;
mod learning;
mod object;
mod parts;
mod pod;
mod progress;
mod scaled;
mod service;
mod storage;
mod target;
mod trained;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use cluster::{Cluster, Way};
pub use object::{Metadata, Object, documents, kustomization};
pub use target::{Endpoint, Ready, Target, Weight, is_trained};

use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::manifest::deploy::{Deploy, Kind, Models, Resources, Secret};
use crate::project::validate::deploy::seconds_to_start;
use parts::Role;

/// What is wished of a deployment.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// What the person wrote. Invariant: [`crate::project::validate::deploy::findings`] has no error of it.
    pub deploy: &'a Deploy,
    /// Whether it runs.
    pub state: State,
    name: &'a str,
}

/// Whether a deployment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// All is there, and no pod.
    Stopped,
}

/// The objects of `target`, in an order in which they can be applied.
pub fn objects(target: &Target, deploy: &Deploy, state: State) -> Vec<Object> {
    let name = deploy.name_for(&target.name);
    let settings = &Settings { deploy, state, name: &name };
    let metadata =
        &Metadata { name: name.clone(), namespace: deploy.namespace.clone(), labels: settings.labels(target) };
    let mut objects = Vec::new();
    if deploy.account.as_ref().is_none_or(|account| account.name.is_none()) {
        let annotations = deploy.account.as_ref().map(|account| account.annotations.clone()).unwrap_or_default();
        let body = json!({"automountServiceAccountToken": false});
        objects.push(Object::new("v1", "ServiceAccount", metadata, body).annotated(&annotations));
    }
    objects.extend(storage::objects(target, settings, metadata));
    objects.extend(learning::before(target, settings, metadata));
    match deploy.kind() {
        Kind::Service => {
            objects.extend(service::objects(target, settings, metadata));
            objects.extend(expose::objects(target, settings, metadata));
        }
        Kind::Worker => objects.push(service::deployment(target, settings, Role::Works, metadata)),
        Kind::Keda => {
            objects.extend(service::objects(target, settings, metadata));
            objects.extend(expose::objects(target, settings, metadata));
            objects.push(scaled::keda(target, settings, metadata));
        }
        Kind::Job => objects.push(job::job(target, settings, metadata)),
        Kind::CronJob => objects.push(job::cron_job(target, settings, metadata)),
        Kind::Knative => objects.push(scaled::knative(target, settings, metadata)),
        Kind::KServe => objects.push(scaled::kserve(target, settings, metadata)),
    }
    objects.extend(learning::beside(target, settings, metadata));
    objects
}

/// Seconds for which each of the objects of `target` is waited for: what a node needs to pull the image, what the model needs to become
/// ready, and to be trained where it is.
pub fn patience(target: &Target, deploy: &Deploy) -> u64 {
    let settings = &Settings { deploy, state: State::Running, name: &deploy.name_for(&target.name) };
    let training = if settings.is_trained_there(target) { trained::seconds(deploy) } else { 0 };
    pod::PULLED + seconds_to_start(deploy, target.bytes()) + training
}

/// Knative starts a pod for whoever asks: it has no state in which it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a model that Knative runs cannot be stopped: the next request starts it again")]
pub struct NeverStops;

impl Explain for NeverStops {
    fn explain(&self) -> Explanation {
        ErrorKind::Usage.named("deploy/never-stops").hint("it has no pods while nobody asks; `--delete` takes it away")
    }
}

impl State {
    /// Stopped, where `deploy` is of a kind that can be.
    ///
    /// # Errors
    /// Of Knative's.
    pub fn stopped(deploy: &Deploy) -> Result<Self, NeverStops> {
        if deploy.kind() == Kind::Knative { Err(NeverStops) } else { Ok(Self::Stopped) }
    }
}

impl Settings<'_> {
    /// The labels of all objects (Kubernetes' "recommended labels"), and those of the person's.
    fn labels(&self, target: &Target) -> BTreeMap<String, String> {
        let mut labels = self.deploy.labels.clone();
        labels.extend(self.selector(target, Role::Serves));
        labels.insert("app.kubernetes.io/component".to_owned(), "model".to_owned());
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "ekiben".to_owned());
        labels.insert("app.kubernetes.io/version".to_owned(), label(&target.version));
        labels
    }

    /// What pods are known by. It never changes, so it is small. Those that nobody sends requests to are of another instance.
    fn selector(&self, target: &Target, role: Role) -> BTreeMap<String, String> {
        [("name", label(&target.name)), ("instance", self.named(role))]
            .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value))
            .into()
    }

    /// What is called after what these pods do.
    fn named(&self, role: Role) -> String {
        role.command().map_or_else(|| self.name.to_owned(), |command| format!("{}-{command}", self.name))
    }

    /// Whether the model is one that lies on a claim when it is trained: a job or messages train it in the cluster.
    fn is_trained_there(&self, target: &Target) -> bool {
        matches!(self.deploy.kind(), Kind::Service | Kind::Keda) && (self.has_job(target) || target.duties.learns)
    }

    /// Whether a job trains it.
    fn has_job(&self, target: &Target) -> bool {
        let asked = self.deploy.training.as_ref().and_then(|training| training.job);
        target.duties.trains && asked.unwrap_or(!target.is_trained)
    }

    /// Whether it may run without a model.
    fn is_untrained(&self, target: &Target) -> bool {
        self.is_trained_there(target) && !target.is_trained
    }

    /// What such a pod gets.
    fn resources(&self, role: Role) -> Option<&Resources> {
        let own = self.deploy.training.as_ref().and_then(|training| training.resources.as_ref());
        own.filter(|_| matches!(role, Role::Trains | Role::Learns)).or(self.deploy.resources.as_ref())
    }

    /// The name of the pods' service account.
    fn account(&self) -> &str {
        self.deploy.account.as_ref().and_then(|account| account.name.as_deref()).unwrap_or(self.name)
    }

    /// How many pods, where it is not something else that decides.
    fn replicas(&self, role: Role) -> Option<u32> {
        if let Some(count) = self.workers(role) {
            return Some(if self.state == State::Stopped { 0 } else { count });
        }
        match (self.state, self.deploy.scaling(), self.deploy.kind()) {
            // It is told to pause.
            (_, _, Kind::Keda) => None,
            (State::Stopped, ..) => Some(0),
            (State::Running, Some(_), _) => None,
            (State::Running, None, _) => Some(self.deploy.replicas.unwrap_or(1)),
        }
    }

    /// How many pods there are that messages are for.
    fn workers(&self, role: Role) -> Option<u32> {
        match role {
            Role::Consumes => Some(self.deploy.messages.as_ref().and_then(|broker| broker.replicas).unwrap_or(1)),
            Role::Learns => Some(1),
            Role::Serves | Role::Works | Role::Ends | Role::Trains => None,
        }
    }

    /// Whether there may be several pods at once, for as long as nothing goes wrong.
    fn is_several(&self, role: Role) -> bool {
        if let Some(count) = self.workers(role) {
            return count > 1;
        }
        let scaling = self.deploy.scaling();
        scaling.map_or(self.deploy.replicas.unwrap_or(1), |scaling| *scaling.pods.end()) > 1
    }

    /// The arguments of the container.
    fn args(&self) -> Vec<String> {
        match (&self.deploy.args, &self.deploy.batch) {
            (args, Some(batch)) if args.is_empty() => job::args(batch),
            (args, _) => args.clone(),
        }
    }

    /// Variables that tell the code of where its weights are not where the image has them.
    fn variables(&self, target: &Target) -> BTreeMap<String, String> {
        match (self.deploy.kind(), self.deploy.models()) {
            (Kind::KServe, Models::Volume) if scaled::is_upon_knative(self.deploy) => {
                let folder = format!("/mnt/models/{}", target.name);
                BTreeMap::from([("EKIBEN_MODEL_DIR".to_owned(), folder)])
            }
            _ => BTreeMap::new(),
        }
    }

    /// The claim that has the weights, without the folder in it.
    fn claim(&self) -> Option<String> {
        match self.deploy.models() {
            Models::Claim(claim) => Some(claim),
            _ => None,
        }
    }

    /// The folder of the claim that has the weights: each version has its own, so that none changes under a pod.
    fn claim_folder(&self, target: &Target) -> String {
        format!("{}/{}", target.name, target.version)
    }

    /// The secrets that are variables as a whole.
    fn whole_secrets(&self) -> Vec<Value> {
        let named = self.deploy.secrets.iter().filter_map(|secret| match secret {
            Secret::All(name) => Some(json!({"secretRef": {"name": name}})),
            Secret::Part(_) => None,
        });
        named.collect()
    }
}

/// A text as a label's value: at most 63 letters, digits, `-`, `_` and `.`, the first and last a letter or digit.
fn label(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let text: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).take(63).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_version_is_a_label() {
        for (version, expected) in [("1.0", "1.0"), ("1.0+gpu", "1.0_gpu"), ("-x-", "x"), ("", "")] {
            assert_eq!(label(version), expected);
        }
        assert_eq!(label(&"é1".repeat(60)).len(), 61);
    }
}
