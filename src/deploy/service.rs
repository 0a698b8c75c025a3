//! A model that answers: Deployment, Service, and what scales and guards them.

use serde_json::{Value, json};

use super::object::{Metadata, Object};
use super::pod::{self, Extent, Pod, Role};
use super::target::Target;
use super::{Settings, State};
use crate::project::manifest::deploy::{Deploy, Kind, Metric, Models, NetworkAccess, Scaling, UsedMetric};

/// Percent of the processors that a pod has requested, above which there are to be more pods.
const BUSY: u32 = 70;

/// The objects of a service.
pub fn objects(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Vec<Object> {
    let deploy = settings.deploy;
    let mut objects = vec![deployment(target, settings, metadata), service(target, settings, metadata)];
    let scaling = deploy.scaling().filter(|_| deploy.kind() == Kind::Service);
    // Of one pod, or none, a budget would keep nodes from being emptied.
    if scaling.as_ref().map_or(deploy.replicas.unwrap_or(1), |scaling| *scaling.pods.start()) > 1 {
        let body = json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": settings.selector(target)}}});
        objects.push(Object::new("policy/v1", "PodDisruptionBudget", metadata, body));
    }
    objects.extend(scaling.filter(|_| settings.state == State::Running).map(|scaling| autoscaler(&scaling, metadata)));
    if deploy.network == Some(NetworkAccess::Closed) {
        objects.push(policy(target, settings, metadata));
    }
    objects
}

/// The Deployment.
pub fn deployment(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let role = if deploy.kind() == Kind::Worker { Role::Works } else { Role::Serves };
    let Pod { spec, notes } = pod::of(target, settings, role, Extent::Whole);
    let (strategy, note) = rollout(deploy);
    let mut template = json!({"metadata": {"labels": metadata.labels}, "spec": spec});
    if !deploy.annotations.is_empty() {
        template["metadata"]["annotations"] = json!(deploy.annotations);
    }
    let mut body = json!({
        "spec": {
            "selector": {"matchLabels": settings.selector(target)},
            "revisionHistoryLimit": 3,
            "strategy": strategy,
            "template": template,
        },
    });
    // Where something else decides how many there are, this says nothing: it would set them back with each apply.
    if let Some(replicas) = settings.replicas() {
        body["spec"]["replicas"] = json!(replicas);
    }
    Object::new("apps/v1", "Deployment", metadata, body)
        .noted(["spec", "strategy", "rollingUpdate"], note)
        .noted_within(["spec", "template", "spec"], &notes)
}

/// How new pods take the place of old ones, and why so.
pub fn rollout(deploy: &Deploy) -> (Value, &'static str) {
    let gpus = deploy.resources.as_ref().and_then(|resources| resources.gpus);
    let (surge, unavailable, note) = match gpus {
        Some(_) => (0, 1, "An old pod ends before a new one starts: there may be no GPU for one more."),
        None => (1, 0, "A new pod is ready before an old one ends."),
    };
    let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
    (json!({"type": "RollingUpdate", "rollingUpdate": rolling}), note)
}

fn service(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let body = json!({
        "spec": {
            "type": "ClusterIP",
            "selector": settings.selector(target),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    });
    Object::new("v1", "Service", metadata, body)
}

fn autoscaler(scaling: &Scaling, metadata: &Metadata) -> Object {
    let used = |name: &str, percent: u32| {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        json!({"type": "Resource", "resource": {"name": name, "target": target}})
    };
    let metric = |metric: &Metric| match metric {
        Metric::Used(UsedMetric::Cpu(percent)) => used("cpu", *percent),
        Metric::Used(UsedMetric::Memory(percent)) => used("memory", *percent),
        Metric::Whole(whole) => Value::Object(whole.clone()),
    };
    let mut metrics: Vec<_> = scaling.metrics.iter().map(metric).collect();
    if metrics.is_empty() {
        metrics.push(used("cpu", BUSY));
    }
    let body = json!({
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata.name},
            "minReplicas": scaling.pods.start(),
            "maxReplicas": scaling.pods.end(),
            "metrics": metrics,
        },
    });
    Object::new("autoscaling/v2", "HorizontalPodAutoscaler", metadata, body).noted(
        ["spec", "metrics"],
        "In percent of what a pod requests. A model that waits for a GPU is not busy by this measure.",
    )
}

/// Requests in, and nothing out but questions for names.
fn policy(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let names = json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]});
    let fetches = matches!(settings.deploy.models(), Models::S3(_));
    // Whoever fetches weights has the same address as the model.
    let egress = if fetches { json!([{}]) } else { json!([names]) };
    let body = json!({
        "spec": {
            "podSelector": {"matchLabels": settings.selector(target)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
            "egress": egress,
        },
    });
    let object = Object::new("networking.k8s.io/v1", "NetworkPolicy", metadata, body);
    match fetches {
        true => object.noted(
            ["spec", "egress"],
            "Open, as the pod fetches its weights: with weights in the image, on a volume or a claim it can be closed.",
        ),
        false => object,
    }
}
