//! From what is wished of a resource to what is there, one look at a time.
//!
//! Invariant: all that a look goes by is in the cluster. Whoever is killed at any moment leaves something that the next look, by
//! whomever, goes on with. What is in memory only saves questions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use serde_json::{Value, json};

use super::Error;
use super::activity::{self, Reach};
use super::builder::{Builder, Progress};
use super::cluster::{Cluster, MANAGER, Owner, Place, text};
use super::definition::Definition;
use super::door::Doors;
use super::journal::{Weight, tell};
use super::resource::{Activity, Built, ConditionKind, Phase, Resource, Spec, Status, Truth, now, shown};
use super::server::Metrics;
use crate::deploy::{self, Ready, State};
use crate::formats::document::Written;
use crate::image::registry::Reference;
use crate::project::manifest::deploy::{Deploy, Kind, KubernetesVersion, Models, Strategy};
use crate::project::validate::deploy::{self as section, findings};

/// How often a build is asked how far it is.
const WHILE_BUILDING: Duration = Duration::from_secs(2);

/// How often pods that start are looked at: most of what happens to them is told.
const WHILE_STARTING: Duration = Duration::from_secs(5);

/// How often a resource is looked at anyway.
const ANYWAY: Duration = Duration::from_secs(600);

/// The same where nobody tells of its objects.
const IN_ANOTHER: Duration = Duration::from_secs(10);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Seconds after the last answer after which a model goes to no pods, where nobody says.
const TIMEOUT: u64 = 300;

/// All that a look needs.
pub struct Operator {
    /// The kind of the resources.
    pub definition: Definition,
    /// Where the resources are.
    pub home: Cluster,
    /// Where their objects are.
    pub target: Cluster,
    /// Whether those are two.
    pub place: Place,
    /// How pods are reached.
    pub reach: Reach,
    /// Who builds.
    pub builder: Builder,
    /// Where requests for idle models go.
    pub doors: Option<Doors>,
    /// Tells events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is known of resources by their uid.
    pub known: Mutex<HashMap<String, Known>>,
}

/// What is remembered of a resource, so that it need not be asked again.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its objects, when others were deleted last.
    kept: Option<BTreeSet<(String, String)>>,
    /// Whether its builds were tidied away.
    is_tidy: bool,
    /// Looks that failed, one after the other.
    failures: u32,
    /// When its pods were last asked what they have counted.
    asked: Option<Instant>,
}

/// What there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Idle,
    Stop,
}

/// A model that is to be deployed.
struct Model {
    ready: Ready,
    deploy: Deploy,
    /// Seconds after the last answer after which it goes to no pods.
    timeout: Option<u64>,
}

/// What cannot be, whoever tries.
struct Refused {
    reason: &'static str,
    why: String,
}

fn refused(reason: &'static str, why: impl Into<String>) -> Refused {
    Refused { reason, why: why.into() }
}

/// One look at a resource.
///
/// # Errors
/// When the cluster says no. It is looked at again after a pause.
pub async fn reconcile(object: Arc<DynamicObject>, operator: Arc<Operator>) -> Result<Action, Error> {
    count(&operator.metrics.looks);
    let resource = Resource::of(&object, &operator.definition);
    if resource.is_ending {
        return operator.end(&resource).await;
    }
    let mut status = resource.status.clone();
    let looked = operator.look(&resource, &mut status).await;
    if let Err(error) = &looked {
        let reason = if matches!(error, Error::Taken { .. }) { "NameTaken" } else { "Retrying" };
        if matches!(error, Error::Taken { .. }) {
            status.phase = Some(Phase::Failed);
        }
        status.set(ConditionKind::Ready, Truth::False, resource.generation, reason, &error.in_one_line());
    }
    operator.say(&resource, status).await?;
    let pause = looked?;
    operator.known(&resource.uid, |known| known.failures = 0);
    Ok(pause.map_or_else(Action::await_change, Action::requeue))
}

/// What follows on a look that failed.
pub fn after(object: Arc<DynamicObject>, error: &Error, operator: Arc<Operator>) -> Action {
    count(&operator.metrics.failures);
    let resource = Resource::of(&object, &operator.definition);
    tell(Weight::Warning, &resource.path(), &error.in_one_line());
    let failures = operator.known(&resource.uid, |known| {
        known.failures = known.failures.saturating_add(1);
        known.failures
    });
    Action::requeue(Duration::from_secs(1 << failures.min(7)).min(LONGEST_PAUSE))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Operator {
    fn known<T>(&self, uid: &str, with: impl FnOnce(&mut Known) -> T) -> T {
        let mut known: MutexGuard<'_, _> = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        with(known.entry(uid.to_owned()).or_default())
    }

    /// Forgets what is remembered of resources that are not among `there`.
    pub async fn sweep(&self, there: &HashSet<String>) {
        let gone: Vec<String> = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = known.keys().filter(|uid| !there.contains(*uid)).cloned().collect();
            known.retain(|uid, _| there.contains(uid));
            gone
        };
        for uid in gone {
            if let Some(doors) = &self.doors {
                doors.close(&uid);
            }
            if let Builder::Here(here) = &self.builder {
                here.forget(&uid, None);
            }
        }
    }

    /// How a resource is asked for.
    fn resources(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.home.client().clone(), namespace, &self.definition.resource())
    }

    fn finalizer(&self) -> String {
        self.definition.key("objects")
    }

    /// A resource is being deleted. In its own cluster all goes with it.
    async fn end(&self, resource: &Resource) -> Result<Action, Error> {
        let owner = Owner { resource, definition: &self.definition, place: self.place };
        let finalizer = self.finalizer();
        if resource.finalizers.contains(&finalizer) {
            self.target.prune(&owner, &BTreeSet::new()).await?;
            let left: Vec<_> = resource.finalizers.iter().filter(|one| **one != finalizer).collect();
            let patch = Patch::Merge(json!({"metadata": {"finalizers": left}}));
            let api = self.resources(&resource.namespace);
            let patched = api.patch(&resource.name, &PatchParams::default(), &patch).await;
            super::cluster::gone(patched).map_err(Error::api(resource.path()))?;
        }
        Ok(Action::await_change())
    }

    /// In another cluster nobody deletes the objects of a resource but the operator.
    async fn hold(&self, resource: &Resource) -> Result<(), Error> {
        let finalizer = self.finalizer();
        if self.place == Place::Same || resource.finalizers.contains(&finalizer) {
            return Ok(());
        }
        let all: Vec<_> = resource.finalizers.iter().chain([&finalizer]).collect();
        let patch = Patch::Merge(json!({"metadata": {"finalizers": all}}));
        let api = self.resources(&resource.namespace);
        api.patch(&resource.name, &PatchParams::default(), &patch).await.map_err(Error::api(resource.path()))?;
        Ok(())
    }

    /// Looks; gives when to look again, where nothing happens.
    async fn look(&self, resource: &Resource, status: &mut Status) -> Result<Option<Duration>, Error> {
        let generation = resource.generation;
        let fail = |status: &mut Status, refused: Refused| {
            status.phase = Some(Phase::Failed);
            status.observed_generation = Some(generation);
            status.set(ConditionKind::Ready, Truth::False, generation, refused.reason, &refused.why);
            Ok(None)
        };
        let spec = match resource.spec() {
            Ok(spec) => spec,
            Err(why) => return fail(status, refused("InvalidSpec", why)),
        };
        self.hold(resource).await?;
        let ready = match self.built(resource, &spec, status).await? {
            Ok(ready) => ready,
            Err(pause) => {
                status.observed_generation = Some(generation);
                return Ok(Some(pause));
            }
        };
        let model = match model(resource, &spec, ready, self.target.kubernetes()) {
            Ok(model) => model,
            Err(refused) => return fail(status, refused),
        };
        let wish = self.wish(resource, &spec, &model, status);
        let pause = self.deployed(resource, &model, wish, status).await?;
        status.observed_generation = Some(generation);
        Ok(Some(pause))
    }

    /// The image, where the registry has it; else when to ask again.
    async fn built(
        &self,
        resource: &Resource,
        spec: &Spec,
        status: &mut Status,
    ) -> Result<Result<Ready, Duration>, Error> {
        let (key, generation) = (spec.key(), resource.generation);
        // Builds are in the cluster of the resource, whose secrets they use.
        let owner = Owner { resource, definition: &self.definition, place: Place::Same };
        let known = status.build.as_ref().filter(|built| built.key == key);
        if let Some(ready) = known.and_then(|built| serde_json::from_value(built.report.clone()).ok()) {
            if !self.known(&resource.uid, |known| known.is_tidy) {
                self.builder.forget(&self.home, &owner, None).await?;
                self.known(&resource.uid, |known| known.is_tidy = true);
            }
            return Ok(Ok(ready));
        }
        self.known(&resource.uid, |known| known.is_tidy = false);
        self.builder.forget(&self.home, &owner, Some(key)).await?;
        let progress = self.builder.ensure(&self.home, &owner, spec).await?;
        let progress = match progress {
            Progress::Done(ready) if !is_of(&ready, spec) => Progress::Failed {
                why: "the build reports an image of another repository".to_owned(),
                again: LONGEST_PAUSE,
            },
            progress => progress,
        };
        match progress {
            Progress::Done(ready) => {
                count(&self.metrics.builds);
                let report = serde_json::to_value(&ready).map_err(|error| Error::Broken(error.to_string()))?;
                status.build = Some(Built { key, report });
                let image = ready.target.image.to_string();
                status.set(ConditionKind::Built, Truth::True, generation, "InRegistry", &image);
                tell(Weight::Info, &resource.path(), &format!("the registry has {image}"));
                // What was built is known before anything else is done with it.
                Ok(Ok(*ready))
            }
            Progress::UnderWay(words) => {
                status.phase = Some(Phase::Building);
                status.set(ConditionKind::Built, Truth::False, generation, "Building", &words);
                self.not_yet(resource, status, "Building", &words);
                Ok(Err(WHILE_BUILDING))
            }
            Progress::Failed { why, again } => {
                if status.phase != Some(Phase::Failed) {
                    count(&self.metrics.failed_builds);
                }
                status.phase = Some(Phase::Failed);
                status.set(ConditionKind::Built, Truth::False, generation, "BuildFailed", &why);
                self.not_yet(resource, status, "BuildFailed", &why);
                Ok(Err(again.max(Duration::from_secs(1))))
            }
        }
    }

    /// What runs meanwhile goes on, and stays ready.
    fn not_yet(&self, resource: &Resource, status: &mut Status, reason: &str, why: &str) {
        if status.image.is_none() {
            status.set(ConditionKind::Ready, Truth::False, resource.generation, reason, why);
        }
    }

    /// What there is to be, and what is remembered of it.
    fn wish(&self, resource: &Resource, spec: &Spec, model: &Model, status: &mut Status) -> Wish {
        let activity = &mut status.activity;
        if spec.replicas == Some(0) {
            *activity = Activity { wake: resource.wake.clone(), ..Activity::default() };
            return Wish::Stop;
        }
        if model.timeout.is_none() {
            *activity = Activity { wake: resource.wake.clone(), ..Activity::default() };
            return Wish::Run;
        }
        let is_asked = || self.doors.as_ref().is_some_and(|doors| doors.has_knocked(&resource.uid));
        let is_changed = status.observed_generation != Some(resource.generation) || activity.wake != resource.wake;
        if activity.idle_since.is_some() && !is_changed && !is_asked() {
            return Wish::Idle;
        }
        if activity.idle_since.is_some() {
            count(&self.metrics.woken);
            tell(Weight::Info, &resource.path(), "it is woken");
        }
        if activity.idle_since.take().is_some() || activity.last.is_none() || is_changed {
            activity.last = Some(now());
        }
        activity.wake.clone_from(&resource.wake);
        Wish::Run
    }

    /// Has the objects of a model be as they are wished; gives when to look again.
    async fn deployed(
        &self,
        resource: &Resource,
        model: &Model,
        wish: Wish,
        status: &mut Status,
    ) -> Result<Duration, Error> {
        let owner = Owner { resource, definition: &self.definition, place: self.place };
        let target = &model.ready.target;
        let state = if wish == Wish::Run { State::Running } else { State::Stopped };
        let mut kept = BTreeSet::new();
        // Whoever asks while there is no pod waits at the door: it is opened before the last pod goes.
        let door = self.doors.as_ref().filter(|_| model.timeout.is_some() && wish != Wish::Stop);
        let has_pods = status.phase == Some(Phase::Running) && wish == Wish::Run;
        if let Some(doors) = door.filter(|_| !has_pods) {
            let port = doors.open(&resource.uid, owner.object()).await?;
            let slice = doors.slice(&resource.name, port);
            kept.insert(named(&slice));
            self.target.apply(&owner, &slice).await?;
        }
        let mut deployment = None;
        for object in deploy::objects(target, &model.deploy, state) {
            let mut object = object.value().clone();
            kept.insert(named(&object));
            if object["kind"] == "Deployment" {
                // What was there before ends before something else begins: two models at once may be more than fits.
                object["spec"]["strategy"] = json!({"type": "Recreate"});
                deployment = Some(self.target.apply(&owner, &object).await?);
            } else {
                self.target.apply(&owner, &object).await?;
            }
        }
        let deployment = deployment.ok_or_else(|| Error::Broken("there is no Deployment".to_owned()))?;
        status.image = Some(target.image.to_string());
        let root = target.service.root.as_deref().unwrap_or_default();
        status.endpoint = Some(format!("http://{}.{}.svc{root}", resource.name, resource.namespace));
        status.selector = Some(selector(&deployment));
        let seen = &deployment.data["status"];
        let number = |name: &str| seen[name].as_i64().unwrap_or(0);
        status.replicas = number("replicas");
        status.ready_replicas = number("readyReplicas");
        let pause = match wish {
            Wish::Run => self.running(resource, model, &deployment, status).await?,
            Wish::Idle | Wish::Stop => {
                let (phase, reason) = match wish {
                    Wish::Idle => (Phase::Idle, "Idle"),
                    _ => (Phase::Stopped, "Stopped"),
                };
                status.phase = Some(phase);
                let (truth, words) = match (wish, door.is_some()) {
                    (Wish::Idle, true) => (Truth::True, "nobody has asked; the next request starts it"),
                    (Wish::Idle, false) => (Truth::False, "nobody has asked; the annotation `wake` starts it"),
                    _ => (Truth::False, "it is to have no pods"),
                };
                status.set(ConditionKind::Ready, truth, resource.generation, reason, words);
                if status.replicas > 0 { WHILE_STARTING } else { ANYWAY }
            }
        };
        let is_running = status.phase == Some(Phase::Running);
        if wish == Wish::Run && is_running {
            kept.retain(|(kind, _)| kind != "EndpointSlice");
        }
        if self.known(&resource.uid, |known| known.kept.as_ref() != Some(&kept)) {
            self.target.prune(&owner, &kept).await?;
            self.known(&resource.uid, |known| known.kept = Some(kept));
        }
        if let Some(doors) = self.doors.as_ref().filter(|_| wish == Wish::Stop) {
            doors.close(&resource.uid);
        }
        Ok(if self.place == Place::Other { pause.min(IN_ANOTHER) } else { pause })
    }

    /// A model that is to run: whether it does, and whether somebody asks.
    async fn running(
        &self,
        resource: &Resource,
        model: &Model,
        deployment: &DynamicObject,
        status: &mut Status,
    ) -> Result<Duration, Error> {
        let generation = resource.generation;
        let seen = &deployment.data["status"];
        let is_seen = seen["observedGeneration"].as_i64() >= deployment.metadata.generation;
        let wanted = deployment.data["spec"]["replicas"].as_i64().unwrap_or(1);
        let updated = seen["updatedReplicas"].as_i64().unwrap_or(0);
        if !(is_seen && updated >= wanted && status.replicas == updated && status.ready_replicas > 0) {
            let pods = self.target.pods(&resource.namespace, &selector(deployment)).await?;
            let why = pods.iter().find_map(trouble).unwrap_or_else(|| "its pods start".to_owned());
            let conditions = seen["conditions"].as_array().into_iter().flatten();
            let late = |one: &&Value| one["type"] == "Progressing" && one["status"] == "False";
            let is_late = is_seen && conditions.into_iter().any(|one| late(&one));
            status.phase = Some(if is_late { Phase::Failed } else { Phase::Starting });
            let reason = if is_late { "DidNotStart" } else { "Starting" };
            status.set(ConditionKind::Ready, Truth::False, generation, reason, &why);
            return Ok(WHILE_STARTING);
        }
        status.phase = Some(Phase::Running);
        let mut words = format!("{} of {wanted} pods answer", status.ready_replicas);
        let mut pause = ANYWAY;
        if let Some(timeout) = model.timeout {
            let pods = self.target.pods(&resource.namespace, &selector(deployment)).await?;
            let pods: Vec<_> = pods.into_iter().filter(is_ready).collect();
            let service = &model.ready.target.service;
            if let (Some(doors), Some(pod)) = (&self.doors, pods.first())
                && let Ok(address) = text(&pod.data["status"]["podIP"]).parse()
            {
                doors.lead(&resource.uid, SocketAddr::new(address, service.port));
            }
            // What it says of a model that is asked all the time brings it here again at once.
            let left = self.known(&resource.uid, |known| {
                let left = known.asked.map_or(Duration::ZERO, |at| period(timeout).saturating_sub(at.elapsed()));
                if left.is_zero() {
                    known.asked = Some(Instant::now());
                }
                left
            });
            let before = status.condition(ConditionKind::Ready).filter(|before| before.reason == "Running");
            let counted = match &service.metrics {
                _ if !left.is_zero() => {
                    words = before.map_or(words, |before| before.message.clone());
                    None
                }
                Some(path) => Some(activity::counted(&self.target, self.reach, &pods, service.port, path).await),
                None => Some(Err("it is not known whether somebody asks: it has no metrics".to_owned())),
            };
            pause = match counted {
                None => left,
                Some(Ok(counted)) => self.asked(resource, timeout, counted, status),
                Some(Err(why)) => {
                    words = format!("{words}; it does not go idle: {why}");
                    period(timeout)
                }
            };
        }
        if status.phase == Some(Phase::Running) {
            status.set(ConditionKind::Ready, Truth::True, generation, "Running", &words);
        }
        Ok(pause)
    }

    /// Whether a model that runs is to go on; gives when to look again.
    fn asked(&self, resource: &Resource, timeout: u64, counted: activity::Counted, status: &mut Status) -> Duration {
        let activity = &mut status.activity;
        if activity.requests != Some(counted.requests) || counted.in_hand > 0 || activity.last.is_none() {
            // A model that was just started is not one that somebody has asked.
            if activity.requests.is_some() || counted.requests > 0 || counted.in_hand > 0 || activity.last.is_none() {
                activity.last = Some(now());
            }
            activity.requests = Some(counted.requests);
        }
        let quiet = activity.last.map_or(SignedDuration::ZERO, |last| now().duration_since(last));
        let quiet = u64::try_from(quiet.as_secs()).unwrap_or(0);
        if quiet < timeout {
            return period(timeout).min(Duration::from_secs(timeout - quiet));
        }
        *activity = Activity { idle_since: Some(now()), wake: activity.wake.clone(), ..Activity::default() };
        status.phase = Some(Phase::Idle);
        status.set(ConditionKind::Ready, Truth::False, resource.generation, "Idle", "nobody has asked; its pods end");
        count(&self.metrics.idled);
        Duration::from_millis(10)
    }

    /// Writes what is said of a resource, where it is something new, and tells of it.
    async fn say(&self, resource: &Resource, status: Status) -> Result<(), Error> {
        if status == resource.status {
            return Ok(());
        }
        let body = json!({
            "apiVersion": self.definition.api_version(),
            "kind": self.definition.kind(),
            "metadata": {"name": resource.name, "uid": resource.uid},
            "status": status,
        });
        let how = PatchParams::apply(MANAGER).force();
        let api = self.resources(&resource.namespace);
        match api.patch_status(&resource.name, &how, &Patch::Apply(body)).await {
            // It is gone, or another one of this name is there.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return Ok(()),
            result => drop(result.map_err(Error::api(resource.path()))?),
        }
        let condition = status.condition(ConditionKind::Ready);
        let before = resource.status.condition(ConditionKind::Ready).map(|one| one.reason.as_str());
        let (Some(condition), Some(phase)) = (condition, status.phase) else { return Ok(()) };
        if before == Some(condition.reason.as_str()) && resource.status.phase == Some(phase) {
            return Ok(());
        }
        let built = status.condition(ConditionKind::Built);
        let told = built.filter(|built| built.status != Truth::True).unwrap_or(condition);
        tell(Weight::Info, &resource.path(), &format!("{phase:?}: {}", told.message));
        let event = Event {
            type_: if phase == Phase::Failed { EventType::Warning } else { EventType::Normal },
            reason: told.reason.clone(),
            note: Some(shown(&told.message)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let about = ObjectReference {
            api_version: Some(self.definition.api_version()),
            kind: Some(self.definition.kind().to_owned()),
            name: Some(resource.name.clone()),
            namespace: Some(resource.namespace.clone()),
            uid: Some(resource.uid.clone()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            // Nothing goes by events.
            tell(Weight::Warning, &resource.path(), &Error::api("an event")(error).in_one_line());
        }
        Ok(())
    }
}

/// How often a model is asked whether somebody asks it.
fn period(timeout: u64) -> Duration {
    Duration::from_secs((timeout / 4).clamp(1, 30))
}

/// Whether the image is where it was to go.
fn is_of(ready: &Ready, spec: &Spec) -> bool {
    let wanted = spec.registry.repository.parse::<Reference>();
    let image = &ready.target.image;
    image.digest().is_some() && wanted.is_ok_and(|wanted| wanted.place() == image.place())
}

/// How a model is to run: what its manifest says, and over that what the resource says.
fn model(resource: &Resource, spec: &Spec, ready: Ready, kubernetes: KubernetesVersion) -> Result<Model, Refused> {
    let part = |value: Value| {
        serde_json::from_value::<Deploy>(value).map_err(|error| refused("InvalidSpec", format!("spec: {error}")))
    };
    let over = serde_json::from_value::<Deploy>(Value::Object(spec.deploy.clone()))
        .map_err(|error| refused("InvalidSpec", format!("spec.deploy: {error}")))?;
    let mut shaped = serde_json::Map::new();
    match (&spec.autoscaling, spec.replicas.filter(|replicas| *replicas > 0)) {
        (Some(autoscaling), _) => drop(shaped.insert("autoscaling".to_owned(), json!(autoscaling))),
        (None, Some(replicas)) => drop(shaped.insert("replicas".to_owned(), json!(replicas))),
        (None, None) => {}
    }
    if let Some(resources) = &spec.resources {
        shaped.insert("resources".to_owned(), json!(resources));
    }
    let mut deploy = ready.deploy.overlaid(&over).overlaid(&part(Value::Object(shaped))?);
    let strategy = spec.strategy.or(deploy.strategy.take());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time is not negative")]
    let own = deploy.timeout.take().map(|seconds| seconds.ceil().max(1.0) as u64);
    if strategy == Some(Strategy::Immediate) {
        let why = "IMMEDIATE wants a container for each request, which is more than a Deployment can do: take TIMEOUT here, \
                   or `ekiben deploy --kind knative`";
        return Err(refused("Unsupported", why));
    }
    let timeout = (strategy == Some(Strategy::Timeout)).then(|| spec.timeout.or(own).unwrap_or(TIMEOUT));
    if deploy.kind() != Kind::Service {
        return Err(refused("Unsupported", "deploy.kind: this operator runs services; `ekiben deploy` has the others"));
    }
    if !matches!(deploy.models(), Models::Image | Models::Node) {
        let why = "deploy.models: this operator runs images with their weights; `ekiben deploy` has the others";
        return Err(refused("Unsupported", why));
    }
    if deploy.kubernetes.is_none() {
        deploy.kubernetes = Some(Written::Meant(kubernetes));
    }
    // It runs what answers; who trains a model, and answers messages, is elsewhere.
    (deploy.training, deploy.messages) = (None, None);
    deploy.name = Some(resource.name.clone());
    deploy.namespace = Some(resource.namespace.clone());
    if let Some(secret) = &spec.registry.secret
        && !deploy.pull.contains(secret)
    {
        deploy.pull.push(secret.clone());
    }
    let ready = Ready { target: ready.target.that_answers(), ..ready };
    let target = &ready.target;
    let root = target.service.root.as_deref();
    let known = section::Model {
        name: &target.name,
        weights: target.bytes(),
        root,
        port: target.service.port,
        has_functions: target.service.live.is_some(),
        duties: target.duties.clone(),
        is_trained: target.is_trained,
    };
    let wrong: Vec<_> = findings(&deploy, &known)
        .into_iter()
        .map(|finding| format!("deploy{}: {}", finding.at.replace('/', "."), finding.message))
        .collect();
    if !wrong.is_empty() {
        return Err(refused("InvalidSpec", wrong.join("; ")));
    }
    Ok(Model { ready, deploy, timeout })
}

/// Kind and name of an object.
fn named(object: &Value) -> (String, String) {
    (text(&object["kind"]).to_owned(), text(&object["metadata"]["name"]).to_owned())
}

/// The labels that a Deployment's pods have, as the API takes them.
fn selector(deployment: &DynamicObject) -> String {
    let labels = deployment.data["spec"]["selector"]["matchLabels"].as_object();
    let pairs = labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn is_ready(pod: &DynamicObject) -> bool {
    let conditions = pod.data["status"]["conditions"].as_array();
    let is_so = conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True");
    is_so && pod.metadata.deletion_timestamp.is_none()
}

/// What keeps a pod from starting.
fn trouble(pod: &DynamicObject) -> Option<String> {
    let status = &pod.data["status"];
    let all =
        ["initContainerStatuses", "containerStatuses"].map(|group| status[group].as_array().into_iter().flatten());
    let waiting = all.into_iter().flatten().find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let reason = text(&waiting["reason"]);
        let is_trouble = !matches!(reason, "" | "ContainerCreating" | "PodInitializing");
        is_trouble.then(|| format!("{}: {reason}: {}", pod.name_any(), text(&waiting["message"])))
    });
    waiting.or_else(|| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut unscheduled = conditions.filter(|one| one["type"] == "PodScheduled" && one["status"] == "False");
        unscheduled.next().map(|one| format!("{}: {}", text(&one["reason"]), text(&one["message"])))
    })
}
