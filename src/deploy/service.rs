//! A model that answers: Deployment, Service, and what scales and guards them.

use serde_json::{Value, json};

use super::object::{Metadata, Object};
use super::parts::{Pod, Role};
use super::pod::{self, Extent};
use super::target::Target;
use super::{Settings, State, trained};
use crate::project::manifest::deploy::{Deploy, Kind, Metric, Models, NetworkAccess, Scaling, UsedMetric};

/// Percent of the processors that a pod has requested, above which there are to be more pods.
const BUSY: u32 = 70;

/// The objects of a service.
pub fn objects(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Vec<Object> {
    let deploy = settings.deploy;
    let mut objects = vec![deployment(target, settings, Role::Serves, metadata), service(target, settings, metadata)];
    let scaling = deploy.scaling().filter(|_| deploy.kind() == Kind::Service);
    // Of one pod, or none, a budget would keep nodes from being emptied.
    if scaling.as_ref().map_or(deploy.replicas.unwrap_or(1), |scaling| *scaling.pods.start()) > 1 {
        let body = json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": settings.selector(target, Role::Serves)}}});
        objects.push(Object::new("policy/v1", "PodDisruptionBudget", metadata, body));
    }
    objects.extend(scaling.filter(|_| settings.state == State::Running).map(|scaling| autoscaler(&scaling, metadata)));
    if deploy.network == Some(NetworkAccess::Closed) {
        let fetches = matches!(deploy.models(), Models::S3(_));
        objects.push(policy(
            target,
            settings,
            Role::Serves,
            if fetches { Reach::Fetches } else { Reach::Nobody },
            metadata,
        ));
    }
    objects
}

/// The Deployment of pods of this role.
pub fn deployment(target: &Target, settings: &Settings<'_>, role: Role, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let Pod { spec, notes } = pod::of(target, settings, role, Extent::Whole);
    let (strategy, note) = rollout(deploy);
    let strategy = if role == Role::Learns { json!({"type": "Recreate"}) } else { strategy };
    let mut labels = metadata.labels.clone();
    labels.extend(settings.selector(target, role));
    let mut template = json!({"metadata": {"labels": labels}, "spec": spec});
    if !deploy.annotations.is_empty() {
        template["metadata"]["annotations"] = json!(deploy.annotations);
    }
    let mut body = json!({
        "spec": {
            "selector": {"matchLabels": settings.selector(target, role)},
            "revisionHistoryLimit": 3,
            "strategy": strategy,
            "template": template,
        },
    });
    // Where something else decides how many there are, this says nothing: it would set them back with each apply.
    if let Some(replicas) = settings.replicas(role) {
        body["spec"]["replicas"] = json!(replicas);
    }
    if role == Role::Serves && settings.is_untrained(target) {
        body["spec"]["progressDeadlineSeconds"] = json!(trained::seconds(deploy) + pod::PULLED);
    }
    let object = Object::new("apps/v1", "Deployment", metadata, body);
    let object = match role {
        Role::Learns => object.noted(["spec", "strategy"], "One alone has the records that are to be trained with."),
        _ => object.noted(["spec", "strategy", "rollingUpdate"], note),
    };
    object.noted_within(["spec", "template", "spec"], &notes)
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
            "selector": settings.selector(target, Role::Serves),
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

/// Whom pods may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody, but for names.
    Nobody,
    /// A broker at one of these ports.
    Broker(Vec<u16>),
    /// All, as something is fetched: whoever does so has the same address as the model.
    Fetches,
}

/// Requests in, and nothing out but questions for names, and whom they have to reach.
pub fn policy(target: &Target, settings: &Settings<'_>, role: Role, reach: Reach, metadata: &Metadata) -> Object {
    let names = json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]});
    let fetches = reach == Reach::Fetches;
    let egress = match reach {
        Reach::Nobody => json!([names]),
        Reach::Broker(ports) => {
            let ports: Vec<_> = ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect();
            json!([names, {"ports": ports}])
        }
        Reach::Fetches => json!([{}]),
    };
    let mut body = json!({
        "spec": {
            "podSelector": {"matchLabels": settings.selector(target, role)},
            "policyTypes": ["Ingress", "Egress"],
            "egress": egress,
        },
    });
    // At its port it tells of its health, where it has one.
    if role != Role::Trains {
        body["spec"]["ingress"] = json!([{"ports": [{"port": "http", "protocol": "TCP"}]}]);
    }
    let object = Object::new("networking.k8s.io/v1", "NetworkPolicy", metadata, body);
    match fetches {
        true => object.noted(
            ["spec", "egress"],
            match role {
                Role::Trains => "Open, as the pod fetches its data set: with that on the claim it can be closed.",
                _ => "Open, as the pod fetches its weights: with weights in the image, on a volume or a claim it can be closed.",
            },
        ),
        false => object,
    }
}
