//! What trains a model in the cluster, and what its messages are for: a claim, a Job, and Deployments that answer messages and learn from
//! them. The service itself knows no broker.

use serde_json::json;

use super::Settings;
use super::job::{self, Course};
use super::object::{Metadata, Object};
use super::parts::{COMPONENT, Pod, Role};
use super::pod::{self, Extent};
use super::service::{self, Reach};
use super::target::Target;
use super::trained::{claim, said};
use crate::project::manifest::deploy::{Kind, Models, NetworkAccess};

/// Ports of brokers: AMQP with TLS and without.
const PORTS: [u16; 2] = [5671, 5672];

/// How `train` ends where another run would end the same way: each of its steps.
const GIVEN_UP: [u8; 5] = [2, 3, 4, 5, 6];

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
