//! A model that works off records: Job and CronJob.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::object::{Metadata, Object};
use super::parts::{Pod, Role};
use super::pod::{self, Extent};
use super::target::Target;
use super::{Settings, State};
use crate::io::digest::Digest;
use crate::project::manifest::deploy::{KubernetesVersion, Records, Schedule};

/// Seconds for which a job that has ended can be looked at.
const KEPT: u64 = 86_400;

/// The first version in which a job tells one failure of its pods from another.
const TELLS_FAILURES: KubernetesVersion = KubernetesVersion(31);

/// How the program ends where another run would end the same way: it was asked for what cannot be done, the input cannot be read,
/// some records have no answer.
const GIVEN_UP: [u8; 3] = [2, 3, 4];

/// The arguments of a container that works off `batch`.
pub fn args(batch: &Records) -> Vec<String> {
    let options = ["batch", "--input", &batch.input, "--output", &batch.output, "--resume"];
    let mut args = options.map(str::to_owned).to_vec();
    if let Some(function) = &batch.function {
        args.extend(["--function".to_owned(), function.clone()]);
    }
    if let Some(parts) = batch.parts {
        args.extend(["--shards".to_owned(), parts.to_string()]);
    }
    args
}

/// The Job. What it runs cannot be changed in Kubernetes, so its name has a digest of it: another one is another Job.
pub fn job(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let Pod { spec, notes } = pod::of(target, settings, Role::Ends, Extent::Whole);
    once(spec, &notes, &Course::of_records(settings), settings, metadata)
}

/// How a Job goes on.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Into how many parts it is divided.
    pub parts: Option<u32>,
    /// How the program ends where another run would end the same way.
    pub given_up: &'a [u8],
    /// The labels of its pods; none are those of the Job.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Seconds after its end for which it is there; none is until it is deleted.
    pub kept: Option<u64>,
}

impl Course<'_> {
    /// That of what is worked off.
    fn of_records(settings: &Settings<'_>) -> Self {
        let batch = settings.deploy.batch.as_ref();
        let given_up: &[u8] = if batch.is_some() { &GIVEN_UP } else { &[] };
        Self { parts: batch.and_then(|batch| batch.parts), given_up, ..Self::PLAIN }
    }

    /// That of a program of which nothing is known.
    pub const PLAIN: Self = Self { parts: None, given_up: &[], labels: None, kept: Some(KEPT) };
}

/// A Job of this pod, whose name has a digest of what it does.
pub fn once(
    pod: Map<String, Value>,
    notes: &BTreeMap<String, String>,
    course: &Course<'_>,
    settings: &Settings<'_>,
    metadata: &Metadata,
) -> Object {
    let mut spec = template(pod, course, settings, metadata);
    let digest = Digest::of(spec.to_string()).hex();
    let name = format!("{}-{}", metadata.name.get(..54).unwrap_or(&metadata.name), &digest[..8]);
    if settings.state == State::Stopped {
        spec["suspend"] = json!(true);
    }
    Object::new("batch/v1", "Job", &metadata.called(name), json!({ "spec": spec }))
        .noted(["metadata", "name"], "What a Job runs cannot be changed: the name has a digest of it.")
        .noted_within(["spec", "template", "spec"], notes)
}

/// The CronJob.
pub fn cron_job(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Object {
    let Pod { spec, notes } = pod::of(target, settings, Role::Ends, Extent::Whole);
    let schedule = match &settings.deploy.schedule {
        Some(Schedule::At(text)) => text.as_str(),
        _ => "",
    };
    let body = json!({
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "suspend": settings.state == State::Stopped,
            "jobTemplate": {
                "metadata": {"labels": metadata.labels},
                "spec": template(spec, &Course::of_records(settings), settings, metadata),
            },
        },
    });
    Object::new("batch/v1", "CronJob", metadata, body)
        .noted(
            ["spec", "concurrencyPolicy"],
            "One that takes longer than until the next is not begun again beside itself.",
        )
        .noted_within(["spec", "jobTemplate", "spec", "template", "spec"], &notes)
}

/// The `spec` of a Job.
fn template(mut pod: Map<String, Value>, course: &Course<'_>, settings: &Settings<'_>, metadata: &Metadata) -> Value {
    let failure = (settings.deploy.kubernetes() >= TELLS_FAILURES && !course.given_up.is_empty()).then(|| {
        // With such a policy a pod is never started again itself: another one takes its place, and goes on behind what is done.
        pod.insert("restartPolicy".to_owned(), json!("Never"));
        let given_up = json!({"containerName": "model", "operator": "In", "values": course.given_up});
        json!({"rules": [
            {"action": "FailJob", "onExitCodes": given_up},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]})
    });
    let mut spec = json!({
        "backoffLimit": 3,
        "template": {"metadata": {"labels": course.labels.unwrap_or(&metadata.labels)}, "spec": pod},
    });
    if let Some(kept) = course.kept {
        spec["ttlSecondsAfterFinished"] = json!(kept);
    }
    if !settings.deploy.annotations.is_empty() {
        spec["template"]["metadata"]["annotations"] = json!(settings.deploy.annotations);
    }
    if let Some(failure) = failure {
        spec["podFailurePolicy"] = failure;
    }
    if let Some(parts) = course.parts {
        spec["completions"] = json!(parts);
        spec["parallelism"] = json!(parts);
        spec["completionMode"] = json!("Indexed");
    }
    spec
}
