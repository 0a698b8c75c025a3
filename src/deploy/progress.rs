//! How far an object is by what a cluster says of it.

use std::time::Duration;

use serde_json::Value;

use super::object::Object;

/// Between two looks at what is waited for.
pub const PAUSE: Duration = Duration::from_millis(500);

/// How far an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is ready.
    Ready,
    /// It may become so.
    NotYet,
    /// It will not be: for this reason.
    Never(String),
}

/// How far `object` is by what the server has `found` of it: as `kubectl rollout status` and `kubectl wait` see it.
pub fn progress(object: &Object, found: &Value) -> Progress {
    let status = &found["status"];
    let condition = |kind: &str| {
        let all = status["conditions"].as_array().into_iter().flatten();
        all.into_iter().find(|one| one["type"] == kind).cloned().unwrap_or_default()
    };
    let is = |kind: &str| condition(kind)["status"] == "True";
    let words = |one: &Value| one["message"].as_str().unwrap_or_default().to_owned();
    let ready = |is_ready: bool| if is_ready { Progress::Ready } else { Progress::NotYet };
    match object.kind() {
        "Deployment" => {
            let count = |value: &Value| value.as_u64().unwrap_or(0);
            if count(&status["observedGeneration"]) < count(&found["metadata"]["generation"]) || found.is_null() {
                return Progress::NotYet;
            }
            let late = condition("Progressing");
            if late["reason"] == "ProgressDeadlineExceeded" {
                return Progress::Never(words(&late));
            }
            let wanted = found["spec"]["replicas"].as_u64().unwrap_or(1);
            let [all, updated, available] =
                ["replicas", "updatedReplicas", "availableReplicas"].map(|key| count(&status[key]));
            ready(updated >= wanted && all <= updated && available >= updated)
        }
        "Job" if is("Failed") => Progress::Never(words(&condition("Failed"))),
        "Job" => ready(is("Complete")),
        _ => ready(is("Ready")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::deploy::Metadata;

    #[test]
    fn a_rollout_is_done_when_all_pods_are_new_and_available() {
        let metadata = Metadata { name: "iris".to_owned(), namespace: None, labels: BTreeMap::new() };
        let deployment = Object::new("apps/v1", "Deployment", &metadata, json!({}));
        let of = |replicas: u64, updated: u64, available: u64, observed: u64| {
            let status = json!({
                "observedGeneration": observed, "replicas": replicas,
                "updatedReplicas": updated, "availableReplicas": available,
            });
            progress(&deployment, &json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}))
        };
        assert_eq!(of(2, 2, 2, 2), Progress::Ready);
        for unfinished in [of(2, 2, 2, 1), of(3, 2, 3, 2), of(2, 1, 2, 2), of(2, 2, 1, 2)] {
            assert_eq!(unfinished, Progress::NotYet);
        }
        let late = json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "too late"}]);
        assert_eq!(
            progress(&deployment, &json!({"status": {"conditions": late}})),
            Progress::Never("too late".to_owned())
        );
        assert_eq!(progress(&deployment, &Value::Null), Progress::NotYet);
    }
}
