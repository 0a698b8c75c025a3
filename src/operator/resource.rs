//! A resource as the operator reads it, and what it says of one.
//!
//! Invariant: whatever is in a resource, reading it ends with a value or with words for its status. What the API server lets
//! through is not believed.

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::definition::Definition;
use crate::image::registry::Reference;
use crate::io::digest::Digest;
use crate::project::address::Address;
use crate::project::manifest::deploy::Strategy;

/// Letters of a message. An event takes a kilobyte.
const LONGEST: usize = 900;

/// A resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name, which is that of its objects.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What tells it from one of the same name before.
    pub uid: String,
    /// Counts what is wished.
    pub generation: i64,
    /// Whether it is being deleted.
    pub is_ending: bool,
    /// Who is to be done with it before it is gone.
    pub finalizers: Vec<String>,
    /// The value of the annotation `wake`.
    pub wake: Option<String>,
    /// What was said of it before.
    pub status: Status,
    spec: Value,
}

/// What is wished of a resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// Where the model is.
    pub bundle: String,
    /// Where its image is kept.
    pub registry: Registry,
    /// How the image is built.
    #[serde(default)]
    pub build: Build,
    /// How many pods.
    pub replicas: Option<u32>,
    /// The same by what they do.
    pub autoscaling: Option<Map<String, Value>>,
    /// What each pod gets.
    pub resources: Option<Map<String, Value>>,
    /// When it runs.
    pub strategy: Option<Strategy>,
    /// Seconds after the last answer after which a model with the strategy TIMEOUT goes to no pods.
    pub timeout: Option<u64>,
    /// All else.
    #[serde(default)]
    pub deploy: Map<String, Value>,
}

/// Where the image is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// HOST/REPOSITORY.
    pub repository: String,
    /// With which it is pushed and pulled.
    pub secret: Option<String>,
}

/// How the image is built.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Secrets whose keys are variables.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What the image is for.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// What the build gets.
    pub resources: Option<Value>,
}

impl Resource {
    /// A resource of the kind `definition`.
    pub fn of(object: &DynamicObject, definition: &Definition) -> Self {
        let metadata = &object.metadata;
        Self {
            name: object.name_any(),
            namespace: object.namespace().unwrap_or_default(),
            uid: object.uid().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            is_ending: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            wake: object.annotations().get(&definition.key("wake")).cloned(),
            // What somebody else wrote there is written anew.
            status: serde_json::from_value(object.data["status"].clone()).unwrap_or_default(),
            spec: object.data["spec"].clone(),
        }
    }

    /// What is wished of it.
    ///
    /// # Errors
    /// In words, when it means nothing, or something that cannot be.
    pub fn spec(&self) -> Result<Spec, String> {
        let spec: Spec = serde_json::from_value(self.spec.clone()).map_err(|error| format!("spec: {error}"))?;
        match spec.bundle.parse::<Address>() {
            Ok(address) if address.is_remote() => {}
            // On whose machine?
            Ok(_) => return Err("spec.bundle: a path is no address, write https://…, s3://… or another one".to_owned()),
            Err(error) => return Err(format!("spec.bundle: {error}")),
        }
        if spec.bundle.starts_with('-') || spec.bundle.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("spec.bundle: an address has no spaces".to_owned());
        }
        let repository = &spec.registry.repository;
        match repository.parse::<Reference>() {
            Ok(reference) if reference.tag().is_some() || reference.digest().is_some() => {
                Err("spec.registry.repository: it has no tag and no digest".to_owned())
            }
            Ok(_) if Reference::names_registry(repository) && !repository.starts_with('-') => Ok(spec),
            Ok(_) => Err("spec.registry.repository: it begins with the registry's host".to_owned()),
            Err(error) => Err(format!("spec.registry.repository: {error}")),
        }
    }

    /// NAMESPACE/NAME.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Spec {
    /// What names the image: what it is built from, and where it goes.
    pub fn key(&self) -> Digest {
        let Build { platforms, .. } = &self.build;
        Digest::of(json!([self.bundle, self.registry.repository, platforms]).to_string())
    }
}

/// What is said of a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation that it is said of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The image that it runs, by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Pods.
    #[serde(default)]
    pub replicas: i64,
    /// Pods that answer.
    #[serde(default)]
    pub ready_replicas: i64,
    /// Of its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The image that was built last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Built>,
    /// Whether somebody asks.
    #[serde(default, skip_serializing_if = "Activity::is_unknown")]
    pub activity: Activity,
    /// In Kubernetes' own words.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Building,
    Starting,
    Running,
    Idle,
    Stopped,
    Failed,
}

/// An image, and what it was built from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Built {
    /// [`Spec::key`].
    pub key: Digest,
    /// What `ekiben ensure` said.
    pub report: Value,
}

/// Whether somebody asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// Answered by the pods that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// When it was last seen that somebody asked, or that it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The annotation that was last obeyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake: Option<String>,
    /// When it went to no pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
}

impl Activity {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// A condition, as all of Kubernetes has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Of what.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it is so.
    pub status: Truth,
    /// Since when.
    pub last_transition_time: Timestamp,
    /// The generation that it is said of.
    pub observed_generation: i64,
    /// Why, in one word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

/// What conditions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The registry has the image.
    Built,
    /// It answers, or would after a start.
    Ready,
}

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Status {
    /// Says of a condition what is so. Its time stays where it was so before.
    pub fn set(&mut self, kind: ConditionKind, status: Truth, generation: i64, reason: &str, message: &str) {
        let before = self.conditions.iter().find(|one| one.kind == kind && one.status == status);
        let last_transition_time = before.map_or_else(now, |one| one.last_transition_time);
        let (reason, message) = (reason.to_owned(), shown(message));
        self.conditions.retain(|one| one.kind != kind);
        self.conditions.push(Condition {
            kind,
            status,
            last_transition_time,
            observed_generation: generation,
            reason,
            message,
        });
        self.conditions.sort_by_key(|one| one.kind as u8);
    }

    /// A condition.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|one| one.kind == kind)
    }
}

/// Now, in whole seconds, as Kubernetes has times.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// A text for a status or an event: no more than people read, and nothing that a terminal would obey.
pub fn shown(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match clean.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(spec: Value) -> Resource {
        let object = json!({"metadata": {"name": "iris", "namespace": "models", "uid": "1"}, "spec": spec});
        let definition = Definition::new("ai.ekiben.dev", "AIDeployment").unwrap();
        Resource::of(&serde_json::from_value(object).unwrap(), &definition)
    }

    #[test]
    fn what_means_nothing_is_said_in_words() {
        let registry = json!({"repository": "registry.example/iris"});
        let good = json!({"bundle": "https://models.example/iris.ekiben", "registry": registry});
        assert!(resource(good.clone()).spec().is_ok());
        for (pointer, value, why) in [
            ("/bundle", json!("/etc/passwd"), "a path is no address"),
            ("/bundle", json!("../x.ekiben"), "a path is no address"),
            ("/bundle", json!("--help"), "a path is no address"),
            ("/bundle", json!("https://user:secret@models.example/x"), "secret"),
            ("/bundle", json!("ftp://models.example/x"), "no place that models are fetched from"),
            ("/bundle", json!(""), "not empty"),
            ("/bundle", json!("https://models.example/a b"), "spec.bundle"),
            ("/bundle", json!(7), "expected a string"),
            ("/registry/repository", json!("registry.example/iris:1"), "no tag"),
            ("/registry/repository", json!("iris"), "begins with the registry's host"),
            ("/registry/repository", json!("-x.example/iris"), "spec.registry"),
            ("/registry", Value::Null, "expected struct"),
        ] {
            let mut spec = good.clone();
            *spec.pointer_mut(pointer).unwrap() = value.clone();
            let said = resource(spec).spec().expect_err(&format!("{pointer}: {value}"));
            assert!(said.contains(why), "{pointer} = {value}: {said}");
        }
        let mut more = good;
        more["bundel"] = json!(1);
        assert!(resource(more).spec().unwrap_err().contains("bundel"));
        assert!(resource(Value::Null).spec().is_err());
        assert!(resource(json!([1])).spec().is_err());
    }

    #[test]
    fn a_secret_of_an_address_is_not_said_again() {
        let spec =
            json!({"bundle": "https://user:hunter2@models.example/x", "registry": {"repository": "r.example/x"}});
        assert!(!resource(spec).spec().unwrap_err().contains("hunter2"));
    }

    #[test]
    fn a_message_is_one_line_that_people_can_read() {
        assert_eq!(shown("error: no\u{1b}[31m\n  cause: x"), "error: no [31m cause: x");
        assert_eq!(shown(&"é".repeat(5000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_is_so() {
        let mut status = Status::default();
        status.set(ConditionKind::Ready, Truth::False, 1, "Building", "");
        let early = Timestamp::from_second(1_000_000).unwrap();
        status.conditions[0].last_transition_time = early;
        status.set(ConditionKind::Ready, Truth::False, 2, "Starting", "");
        assert_eq!(status.conditions[0].last_transition_time, early);
        status.set(ConditionKind::Ready, Truth::True, 2, "Ready", "");
        assert_ne!(status.conditions[0].last_transition_time, early);
        assert_eq!(status.conditions.len(), 1);
    }

    #[test]
    fn a_status_of_somebody_else_is_written_anew() {
        for status in [json!("x"), json!({"phase": "Dancing"}), json!({"conditions": [{"type": "Odd"}]}), Value::Null] {
            let object = json!({"metadata": {"name": "iris"}, "status": status});
            let definition = Definition::new("ai.ekiben.dev", "AIDeployment").unwrap();
            let resource = Resource::of(&serde_json::from_value(object).unwrap(), &definition);
            assert_eq!(resource.status, Status::default());
        }
    }
}
