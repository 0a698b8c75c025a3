//! Models that other platforms in the cluster start and end: Knative, KEDA, KServe.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::object::{Metadata, Object};
use super::pod::{self, Extent, Pod, Role};
use super::target::Target;
use super::{Settings, State};
use crate::project::manifest::deploy::{Models, Schedule, Strategy};

/// Seconds after the last answer after which there are no pods, where nothing is said.
const TIMEOUT: f64 = 300.0;

/// How many pods at least and at most.
fn pods(settings: &Settings<'_>) -> (u32, u32) {
    let deploy = settings.deploy;
    let always = matches!(deploy.strategy, Some(Strategy::AlwaysOn));
    match deploy.scaling() {
        Some(scaling) => (*scaling.pods.start(), *scaling.pods.end()),
        None => {
            let most = deploy.replicas.unwrap_or(1);
            (if always { most } else { 0 }, most.max(1))
        }
    }
}

/// Whole seconds that a model without requests keeps its pods.
fn patience(settings: &Settings<'_>) -> u64 {
    let seconds = match settings.deploy.strategy {
        Some(Strategy::Immediate) => 0.0,
        _ => settings.deploy.timeout.unwrap_or(TIMEOUT),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the check has bounded it")]
    let seconds = seconds.ceil() as u64;
    seconds
}

/// A Service of Knative's (serving.knative.dev/v1).
pub fn knative(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let Pod { mut spec, notes } = pod::of(target, settings, Role::Serves, Extent::Knative);
    let (min, max) = pods(settings);
    let mut annotations = settings.deploy.annotations.clone();
    for (key, value) in [
        ("min-scale", min.to_string()),
        ("max-scale", max.to_string()),
        ("scale-to-zero-pod-retention-period", format!("{}s", patience(settings))),
    ] {
        annotations.insert(format!("autoscaling.knative.dev/{key}"), value);
    }
    if settings.deploy.strategy == Some(Strategy::Immediate) {
        spec.insert("containerConcurrency".to_owned(), json!(1));
    }
    let template = json!({"metadata": {"labels": metadata.labels, "annotations": annotations}, "spec": spec});
    Object::new("serving.knative.dev/v1", "Service", metadata, json!({"spec": {"template": template}}))
        .noted_within(["spec", "template", "spec"], &notes)
}

/// What KEDA scales a Deployment by: its triggers, the hours of the schedule, or, where there are neither, requests for the host,
/// which go through its HTTP add-on.
pub fn keda(settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let (min, max) = pods(settings);
    let mut triggers: Vec<Value> = deploy.triggers.iter().cloned().map(Value::Object).collect();
    if let Some(Schedule::Hours(hours)) = &deploy.schedule {
        triggers.push(json!({
            "type": "cron",
            "metadata": {
                "start": hours.start,
                "end": hours.stop,
                "timezone": hours.zone.as_deref().unwrap_or("UTC"),
                "desiredReplicas": max.to_string(),
            },
        }));
    }
    let stopped = || {
        let pause = ("autoscaling.keda.sh/paused-replicas".to_owned(), "0".to_owned());
        (settings.state == State::Stopped).then_some(pause).into_iter().collect::<BTreeMap<_, _>>()
    };
    if triggers.is_empty() {
        let host = deploy.expose.iter().map(|expose| &expose.host).collect::<Vec<_>>();
        let most = if settings.state == State::Stopped { 0 } else { max };
        let body = json!({
            "spec": {
                "hosts": host,
                "scaleTargetRef": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": metadata.name,
                    "service": metadata.name,
                    "port": 80,
                },
                "replicas": {"min": min.min(most), "max": most},
                "scaledownPeriod": patience(settings),
            },
        });
        return Object::new("http.keda.sh/v1alpha1", "HTTPScaledObject", metadata, body);
    }
    let body = json!({
        "spec": {
            "scaleTargetRef": {"name": metadata.name},
            "minReplicaCount": min,
            "maxReplicaCount": max,
            "cooldownPeriod": patience(settings),
            "triggers": triggers,
        },
    });
    Object::new("keda.sh/v1alpha1", "ScaledObject", metadata, body).annotated(&stopped())
}

/// An InferenceService of KServe's (serving.kserve.io/v1beta1) with the image as a custom predictor; weights of their own come as a
/// modelcar.
pub fn kserve(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let Pod { mut spec, notes } = pod::of(target, settings, Role::Serves, Extent::Whole);
    let (min, max) = pods(settings);
    spec.insert("minReplicas".to_owned(), json!(min));
    spec.insert("maxReplicas".to_owned(), json!(max));
    if let Some(container) = spec.get_mut("containers").and_then(|containers| containers.get_mut(0)) {
        container["name"] = json!("kserve-container");
        if settings.deploy.models() == Models::Volume {
            let models = target.models.as_ref().unwrap_or(&target.image);
            let variable = json!({"name": "STORAGE_URI", "value": format!("oci://{models}")});
            container["env"].as_array_mut().into_iter().for_each(|env| env.push(variable.clone()));
            // KServe mounts it itself.
            let is_other = |value: &Value| value["name"] != "models";
            container["volumeMounts"].as_array_mut().into_iter().for_each(|mounts| mounts.retain(is_other));
            if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
                volumes.retain(is_other);
            }
        }
    }
    let stop = (settings.state == State::Stopped).then(|| ("serving.kserve.io/stop".to_owned(), "true".to_owned()));
    Object::new("serving.kserve.io/v1beta1", "InferenceService", metadata, json!({"spec": {"predictor": spec}}))
        .annotated(&stop.into_iter().collect())
        .noted_within(["spec", "predictor"], &notes)
}
