//! What trains a model in the cluster, and what its messages are for: a claim, a Job, and Deployments that answer messages and learn from
//! them. The service itself knows no broker.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::job::{self, Course};
use super::object::{Metadata, Object};
use super::pod::{self, Extent, Fetched, Pod, Role, Volumes};
use super::service::{self, Reach};
use super::target::Target;
use crate::bundle::runtime::TRAINED;
use crate::project::manifest::deploy::{Access, Broker, Deploy, Kind, Models, NetworkAccess, TrainingThere};

/// Seconds for which a training is waited for where nothing is said.
const TIME: u64 = 3600;

/// Where the broker's certificates lie.
const CERTIFICATES: &str = "/etc/broker";

/// The key of the secret that has them.
const CA: &str = "ca.crt";

/// What the secret says of the broker, by variables; and whether it has to.
const SAID: [(&str, &str, bool); 3] =
    [("URL", "url", true), ("USERNAME", "username", false), ("PASSWORD", "password", false)];

/// Ports of brokers: AMQP with TLS and without.
const PORTS: [u16; 2] = [5671, 5672];

/// How `train` ends where another run would end the same way: each of its steps.
const GIVEN_UP: [u8; 5] = [2, 3, 4, 5, 6];

/// Seconds for which a training is waited for.
pub fn seconds(deploy: &Deploy) -> u64 {
    let time = deploy.training.as_ref().and_then(|training| training.time.as_ref()?.meant().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a period is not negative")]
    time.map_or(TIME, |time| time.seconds().ceil() as u64)
}

/// The claim and the Job, which come before the service.
pub fn before(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Vec<Object> {
    let mut objects = Vec::new();
    if !settings.is_trained_there(target) {
        return objects;
    }
    let said = said(settings);
    if said.claim.is_none() {
        let mut spec = json!({
            "accessModes": [said.access.unwrap_or_default()],
            "resources": {"requests": {"storage": said.size.as_deref().unwrap_or("1Gi")}},
        });
        if let Some(class) = &said.class {
            spec["storageClassName"] = json!(class);
        }
        let metadata = metadata.called(claim(settings));
        objects.push(Object::new("v1", "PersistentVolumeClaim", &metadata, json!({ "spec": spec })));
    }
    if settings.has_job(target) {
        let metadata = part(settings, Role::Trains, metadata);
        let Pod { spec, notes } = pod::of(target, settings, Role::Trains, Extent::Whole);
        let mut labels = metadata.labels.clone();
        labels.extend(settings.selector(target, Role::Trains));
        // As long as it is there, it does not train again.
        let course = Course { given_up: &GIVEN_UP, labels: Some(&labels), kept: None, ..Course::PLAIN };
        objects.push(job::once(spec, &notes, &course, settings, &metadata));
        let fetches = said.data.is_some() || matches!(settings.deploy.models(), Models::S3(_));
        let reach = if fetches { Reach::Fetches } else { Reach::Nobody };
        objects.extend(policy(target, settings, Role::Trains, reach, &metadata));
    }
    objects
}

/// What answers messages, and what learns from them.
pub fn beside(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Vec<Object> {
    if !matches!(settings.deploy.kind(), Kind::Service | Kind::Keda) {
        return Vec::new();
    }
    let roles = [(Role::Consumes, !target.duties.consumes.is_empty()), (Role::Learns, target.duties.learns)];
    let of = |(role, _): (Role, bool)| {
        let metadata = part(settings, role, metadata);
        let ports = settings.deploy.messages.as_ref().and_then(|broker| broker.port);
        let ports = ports.map_or_else(|| PORTS.to_vec(), |port| vec![port]);
        let fetches = matches!(settings.deploy.models(), Models::S3(_));
        let reach = if fetches { Reach::Fetches } else { Reach::Broker(ports) };
        let policy = policy(target, settings, role, reach, &metadata);
        [service::deployment(target, settings, role, &metadata)].into_iter().chain(policy)
    };
    roles.into_iter().filter(|(_, is_there)| *is_there).flat_map(of).collect()
}

fn policy(target: &Target, settings: &Settings<'_>, role: Role, reach: Reach, metadata: &Metadata) -> Option<Object> {
    let is_closed = settings.deploy.network == Some(NetworkAccess::Closed);
    is_closed.then(|| service::policy(target, settings, role, reach, metadata))
}

/// What a part of the model is called, and known by.
fn part(settings: &Settings<'_>, role: Role, metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.called(settings.named(role));
    let component = role.command().unwrap_or("model").to_owned();
    metadata.labels.insert(COMPONENT.to_owned(), component);
    metadata
}

/// The label that says what a part of a model does.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// What parts of a model do that it has or has not.
pub const PARTS: [Role; 3] = [Role::Consumes, Role::Learns, Role::Trains];

/// What a pod has because of training and messages.
#[derive(Debug, Default)]
pub struct More {
    /// Variables.
    pub variables: BTreeMap<String, Value>,
    /// The container that runs before.
    pub before: Option<Value>,
}

/// What a pod of this role has of it.
pub fn of_pod(target: &Target, settings: &Settings<'_>, role: Role, volumes: &mut Volumes, pod: &mut Pod) -> More {
    let mut more = More::default();
    if role.is_of_training() && settings.is_trained_there(target) {
        let claim = said(settings).claim.clone().unwrap_or_else(|| claim(settings));
        volumes.add("trained", json!({"persistentVolumeClaim": {"claimName": claim}}), json!({"mountPath": TRAINED}));
    }
    if let (Role::Trains, Some(data)) = (role, &target.duties.data) {
        let folder = format!("{TRAINED}/data");
        let path = format!("{folder}/{data}");
        let mount = json!({"name": "trained", "mountPath": TRAINED});
        let said = said(settings);
        let from = said.data.as_deref().zip(settings.deploy.fetcher.as_ref());
        more.before = Some(match from {
            Some((from, fetcher)) => {
                let fetched = Fetched { name: "data", from, to: &folder, expected: Vec::new() };
                pod::fetching(target, settings, fetcher, &fetched, mount)
            }
            None => {
                pod.note(["initContainers"], format!("It waits until the data set lies at {path}."));
                pod::waiting(target, "data", [path.clone()], mount)
            }
        });
        more.variables.insert("EKIBEN_DATA".to_owned(), json!({ "value": path }));
    }
    if let (Role::Consumes | Role::Learns, Some(Broker { secret: Some(secret), ca, .. })) =
        (role, &settings.deploy.messages)
    {
        for (variable, key, is_needed) in SAID {
            let mut from = json!({"name": secret, "key": key});
            if !is_needed {
                from["optional"] = json!(true);
            }
            more.variables.insert(format!("EKIBEN_AMQP_{variable}"), json!({"valueFrom": {"secretKeyRef": from}}));
        }
        if *ca {
            volumes.add(
                "broker",
                json!({"secret": {"secretName": secret, "items": [{"key": CA, "path": CA}], "defaultMode": 0o440}}),
                json!({"mountPath": CERTIFICATES, "readOnly": true}),
            );
            more.variables.insert("EKIBEN_AMQP_CA".to_owned(), json!({"value": format!("{CERTIFICATES}/{CA}")}));
        }
    }
    more
}

/// A claim that only one node can mount: all pods of the model are to be there.
pub fn together(pod: &mut Pod, target: &Target, settings: &Settings<'_>) {
    if !settings.is_trained_there(target) || said(settings).access == Some(Access::ReadWriteMany) {
        return;
    }
    let names: Vec<_> = [Role::Serves].into_iter().chain(PARTS).map(|role| settings.named(role)).collect();
    let term = json!({
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {
            "matchExpressions": [{"key": "app.kubernetes.io/instance", "operator": "In", "values": names}],
        },
    });
    let all = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    pod.spec.insert("affinity".to_owned(), all);
    pod.note(["affinity"], "The claim can be mounted on one node: `training: {access: ReadWriteMany}` says otherwise.");
}

/// What the claim is called that is made.
fn claim(settings: &Settings<'_>) -> String {
    format!("{}-trained", settings.name)
}

/// What is said of the training.
fn said<'a>(settings: &Settings<'a>) -> Cow<'a, TrainingThere> {
    settings.deploy.training.as_ref().map_or_else(Default::default, Cow::Borrowed)
}
