//! Models that other platforms in the cluster start and end: Knative, KEDA, KServe.
//!
//! Each has an admission of its own besides its schema, which is not there when this is written: what it would refuse is refused
//! by [`crate::project::validate::deploy`] before.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::object::{Metadata, Object};
use super::parts::{Pod, Role};
use super::pod::{self, Extent, PULLED};
use super::service::rollout;
use super::target::Target;
use super::{Settings, State};
use crate::project::manifest::deploy::{Deploy, Metric, Models, Schedule, Strategy, UsedMetric};
use crate::project::validate::deploy::seconds_to_start;

/// Seconds after the last answer after which there are no pods, where nothing is said.
const TIMEOUT: f64 = 300.0;

/// Seconds in which Knative looks back for requests: the least that it takes, and its own default.
const WINDOW: (u64, u64) = (6, 60);

/// Seconds after which Knative gives up a model that does not become ready, where nothing is said.
const PROGRESS: u64 = 600;

/// Whole seconds that a model without requests keeps its pods.
fn patience(deploy: &Deploy) -> u64 {
    let seconds = match deploy.strategy {
        Some(Strategy::Immediate) => 0.0,
        _ => deploy.timeout.unwrap_or(TIMEOUT),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the check has bounded it")]
    let seconds = seconds.ceil() as u64;
    seconds
}

/// The two parts of so many seconds without requests as Knative counts them: first it looks back over a window in which there
/// were none, then it keeps the last pod for a while.
fn window_and_retention(seconds: u64) -> (u64, u64) {
    let window = seconds.clamp(WINDOW.0, WINDOW.1);
    (window, seconds.saturating_sub(window))
}

/// The annotations of pods that Knative starts and ends; those of the person's count over them.
fn annotations(target: &Target, deploy: &Deploy) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut scaling = |key: &str, value: String| all.insert(format!("autoscaling.knative.dev/{key}"), value);
    if *deploy.pods().start() == 0 {
        let (window, retention) = window_and_retention(patience(deploy));
        scaling("window", format!("{window}s"));
        scaling("scale-to-zero-pod-retention-period", format!("{retention}s"));
    }
    let ready = seconds_to_start(deploy, target.bytes()) + PULLED;
    if ready > PROGRESS {
        all.insert("serving.knative.dev/progress-deadline".to_owned(), format!("{ready}s"));
    }
    all.extend(deploy.annotations.clone());
    all
}

/// A Service of Knative's (serving.knative.dev/v1).
pub fn knative(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let Pod { mut spec, mut notes } = pod::of(target, settings, Role::Serves, Extent::Knative);
    let pods = deploy.pods();
    let mut all = annotations(target, deploy);
    for (key, value) in [("min-scale", pods.start()), ("max-scale", pods.end())] {
        all.entry(format!("autoscaling.knative.dev/{key}")).or_insert_with(|| value.to_string());
    }
    if deploy.strategy == Some(Strategy::Immediate) {
        spec.insert("containerConcurrency".to_owned(), json!(1));
        let note =
            "One request at a time in each pod. One that comes within seconds after an answer meets the same pod.";
        notes.insert("/containerConcurrency".to_owned(), note.to_owned());
    }
    let template = json!({"metadata": {"labels": metadata.labels, "annotations": all}, "spec": spec});
    Object::new("serving.knative.dev/v1", "Service", metadata, json!({"spec": {"template": template}}))
        .noted_within(["spec", "template", "spec"], &notes)
}

/// What KEDA scales a Deployment by: its triggers, what the pods use, the hours of the schedule, or, where there is none of them,
/// requests for the host, which go through its HTTP add-on.
pub fn keda(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let pods = deploy.pods();
    // The add-on hands it on to what it makes for KEDA.
    let pause = ("autoscaling.keda.sh/paused-replicas".to_owned(), "0".to_owned());
    let stopped = (settings.state == State::Stopped).then_some(pause).into_iter().collect();
    if deploy.counts_requests() {
        return counted(target, settings, metadata).annotated(&stopped);
    }
    let mut spec = json!({
        "scaleTargetRef": {"name": metadata.name},
        "minReplicaCount": pods.start(),
        "maxReplicaCount": pods.end(),
        "triggers": triggers(deploy, *pods.end()),
    });
    if *pods.start() == 0 {
        spec["cooldownPeriod"] = json!(patience(deploy));
    }
    Object::new("keda.sh/v1alpha1", "ScaledObject", metadata, json!({ "spec": spec })).annotated(&stopped)
}

/// All triggers of KEDA's; within the hours of a schedule there are `most` pods.
fn triggers(deploy: &Deploy, most: u32) -> Vec<Value> {
    let mut triggers: Vec<Value> = deploy.triggers.iter().cloned().map(Value::Object).collect();
    for metric in deploy.scaling().into_iter().flat_map(|scaling| scaling.metrics) {
        let Metric::Used(used) = metric else { continue };
        let (name, percent) = of_resource(used);
        triggers.push(json!({"type": name, "metricType": "Utilization", "metadata": {"value": percent.to_string()}}));
    }
    if let Some(Schedule::Hours(hours)) = &deploy.schedule {
        triggers.push(json!({
            "type": "cron",
            "metadata": {
                "start": hours.start,
                "end": hours.stop,
                "timezone": hours.zone.as_deref().unwrap_or("UTC"),
                "desiredReplicas": most.to_string(),
            },
        }));
    }
    triggers
}

/// What is used, and how much of it in percent.
fn of_resource(used: UsedMetric) -> (&'static str, u32) {
    match used {
        UsedMetric::Cpu(percent) => ("cpu", percent),
        UsedMetric::Memory(percent) => ("memory", percent),
    }
}

/// The Deployment scaled by the requests that KEDA's HTTP add-on counts (http.keda.sh/v1alpha1).
fn counted(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let pods = deploy.pods();
    let mut spec = json!({
        "hosts": deploy.expose.iter().map(|expose| &expose.host).collect::<Vec<_>>(),
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": metadata.name,
            "service": metadata.name,
            "port": 80,
        },
        "replicas": {"min": pods.start(), "max": pods.end()},
        "scalingMetric": {"concurrency": {"targetValue": 100}},
        // It would give up a request after 20 s.
        "timeouts": {"conditionWait": format!("{}s", seconds_to_start(deploy, target.bytes()))},
    });
    if *pods.start() == 0 {
        spec["scaledownPeriod"] = json!(patience(deploy));
    }
    let root = target.service.root.as_deref();
    let path = deploy.expose.as_ref().and_then(|expose| expose.path.as_deref()).or(root);
    if let Some(path) = path.filter(|path| *path != "/") {
        spec["pathPrefixes"] = json!([path]);
    }
    Object::new("http.keda.sh/v1alpha1", "HTTPScaledObject", metadata, json!({ "spec": spec }))
        .noted(["spec", "scalingMetric"], "Above so many requests at once in each pod there are to be more pods.")
        .noted(["spec", "timeouts"], "For so long a request waits for the first pod.")
}

/// Whether KServe is to run it upon Knative, which is what ends its pods: it does not do so otherwise.
pub fn is_upon_knative(deploy: &Deploy) -> bool {
    *deploy.pods().start() == 0
}

/// An InferenceService of KServe's (serving.kserve.io/v1beta1) with the image as a custom predictor. Weights of their own lie where
/// the image would have them; upon Knative, which mounts no images, KServe brings them to where it has models.
pub fn kserve(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let deploy = settings.deploy;
    let (extent, mode, note) = match is_upon_knative(deploy) {
        true => (Extent::Knative, "Knative", "Which ends its pods while nobody asks. The mode cannot be changed."),
        false => (Extent::Whole, "Standard", "A Deployment, which always has pods. The mode cannot be changed."),
    };
    let Pod { mut spec, mut notes } = pod::of(target, settings, Role::Serves, extent);
    let pods = deploy.pods();
    spec.insert("minReplicas".to_owned(), json!(pods.start()));
    spec.insert("maxReplicas".to_owned(), json!(pods.end()));
    if let Some(container) = spec.get_mut("containers").and_then(|containers| containers.get_mut(0)) {
        container["name"] = json!("kserve-container");
        if extent == Extent::Knative && deploy.models() == Models::Volume {
            let models = target.models.as_ref().unwrap_or(&target.image);
            // The other ways of its models in images need a shell in them.
            let variable = json!({"name": "STORAGE_URI", "value": format!("oci+native://{models}")});
            container["env"].as_array_mut().into_iter().for_each(|env| env.push(variable.clone()));
            // KServe mounts it itself.
            let is_other = |value: &Value| value["name"] != "models";
            container["volumeMounts"].as_array_mut().into_iter().for_each(|mounts| mounts.retain(is_other));
            if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
                volumes.retain(is_other);
            }
        }
    }
    let of_pods = match extent {
        Extent::Knative => annotations(target, deploy),
        Extent::Whole => {
            let (strategy, note) = rollout(deploy);
            spec.insert("deploymentStrategy".to_owned(), strategy);
            notes.insert("/deploymentStrategy".to_owned(), note.to_owned());
            let metrics = metrics(deploy);
            if !metrics.is_empty() {
                spec.insert("autoScaling".to_owned(), json!({"metrics": metrics}));
            }
            deploy.annotations.clone()
        }
    };
    if !of_pods.is_empty() {
        spec.insert("annotations".to_owned(), json!(of_pods));
    }
    let stop = (settings.state == State::Stopped).then(|| ("serving.kserve.io/stop".to_owned(), "true".to_owned()));
    let mode = ("serving.kserve.io/deploymentMode".to_owned(), mode.to_owned());
    Object::new("serving.kserve.io/v1beta1", "InferenceService", metadata, json!({"spec": {"predictor": spec}}))
        .annotated(&[mode].into_iter().chain(stop).collect())
        .noted(["metadata", "annotations", "serving.kserve.io/deploymentMode"], note)
        .noted_within(["spec", "predictor"], &notes)
}

/// What KServe scales a Deployment by.
fn metrics(deploy: &Deploy) -> Vec<Value> {
    let metric = |metric: Metric| match metric {
        Metric::Used(used) => {
            let (name, percent) = of_resource(used);
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            Some(json!({"type": "Resource", "resource": {"name": name, "target": target}}))
        }
        Metric::Whole(_) => None,
    };
    deploy.scaling().into_iter().flat_map(|scaling| scaling.metrics).filter_map(metric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_knative_counts_in_two_parts_is_as_long_as_what_was_said() {
        for (seconds, window, retention) in
            [(0, 6, 0), (6, 6, 0), (30, 30, 0), (60, 60, 0), (300, 60, 240), (3600, 60, 3540)]
        {
            assert_eq!(window_and_retention(seconds), (window, retention), "{seconds}");
        }
    }
}
