//! The profile "restricted" of the Pod Security Standards, and with it "baseline": what a namespace with the label
//! `pod-security.kubernetes.io/enforce: restricted` refuses.
//!
//! Written from <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, for pods of Linux. One thing is not in
//! that text yet: volumes of images are taken since 1.33 (kubernetes/kubernetes#130394).

use serde_json::{Value, json};

use super::cluster::documents;

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

const SELINUX: [&str; 5] = ["", "container_engine_t", "container_init_t", "container_kvm_t", "container_t"];

/// Each pod in the documents, however deep in what makes them, must be one that the profile takes. There must be one.
#[track_caller]
pub fn is_restricted(yaml: &str) {
    let mut pods = 0;
    let mut found = Vec::new();
    for document in documents(yaml).into_iter().map(with_predictor_as_pod) {
        let name = format!("{} {}", text(&document["kind"]), text(&document["metadata"]["name"]));
        for pod in pods_of(&document) {
            pods += 1;
            found.extend(violations(pod).into_iter().map(|violation| format!("{name}: {violation}")));
        }
    }
    assert!(pods > 0, "there is no pod in\n{yaml}");
    assert!(found.is_empty(), "the restricted profile refuses this:\n{}\n{yaml}", found.join("\n"));
}

/// The same document, in which a predictor of KServe's, that is a pod's `spec` and more, has it where others do.
fn with_predictor_as_pod(mut document: Value) -> Value {
    if document["kind"] == "InferenceService" {
        let predictor = document["spec"]["predictor"].take();
        document["spec"]["predictor"] =
            json!({"metadata": {"annotations": predictor["annotations"]}, "spec": predictor});
    }
    document
}

/// Pods and templates of pods in an object: whatever has a `spec` with containers in it.
pub fn pods_of(value: &Value) -> Vec<&Value> {
    let is_pod = value["spec"]["containers"].is_array();
    let within = match value {
        Value::Object(fields) => fields.values().flat_map(pods_of).collect(),
        Value::Array(items) => items.iter().flat_map(pods_of).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    if is_pod { [vec![value], within].concat() } else { within }
}

/// What the profile has against a pod or a template of one.
pub fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let spec = &pod["spec"];
    let mut refuse = |place: &str, why: &str| found.push(format!("{place}: {why}"));
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        if is_true(&spec[host]) {
            refuse(host, "a namespace of the host");
        }
    }
    for volume in items(&spec["volumes"]) {
        let mut kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        if !kinds.all(|kind| VOLUMES.contains(&kind.as_str())) {
            refuse(&format!("volume {}", text(&volume["name"])), "its type");
        }
    }
    for (name, profile) in pod["metadata"]["annotations"].as_object().into_iter().flatten() {
        let profile = text(profile);
        let is_known = profile == "runtime/default" || profile.starts_with("localhost/");
        if name.starts_with("container.apparmor.security.beta.kubernetes.io/") && !is_known {
            refuse(name, "AppArmor");
        }
    }
    for sysctl in items(&spec["securityContext"]["sysctls"]) {
        if !SYSCTLS.contains(&text(&sysctl["name"])) {
            refuse(text(&sysctl["name"]), "a setting of the kernel");
        }
    }
    context("the pod", &spec["securityContext"], &mut refuse);
    for group in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&spec[group]) {
            contained(container, &spec["securityContext"], &mut refuse);
        }
    }
    found
}

/// What may be said of a pod and of each container alike.
fn context(place: &str, context: &Value, refuse: &mut impl FnMut(&str, &str)) {
    if context["runAsUser"] == 0 {
        refuse(place, "runAsUser is root");
    }
    if context["runAsNonRoot"] == false {
        refuse(place, "runAsNonRoot");
    }
    for (field, word) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let kind = &context[field]["type"];
        if !(kind.is_null() || *kind == "RuntimeDefault" || *kind == "Localhost") {
            refuse(place, word);
        }
    }
    let options = &context["seLinuxOptions"];
    if !SELINUX.contains(&text(&options["type"]))
        || !text(&options["user"]).is_empty()
        || !text(&options["role"]).is_empty()
    {
        refuse(place, "SELinux");
    }
    if is_true(&context["windowsOptions"]["hostProcess"]) {
        refuse(place, "hostProcess");
    }
}

fn contained(container: &Value, pod: &Value, refuse: &mut impl FnMut(&str, &str)) {
    let place = format!("container {}", text(&container["name"]));
    let own = &container["securityContext"];
    context(&place, own, refuse);
    let said = |field: &str| if own[field].is_null() { &pod[field] } else { &own[field] };
    if !is_true(said("runAsNonRoot")) {
        refuse(&place, "runAsNonRoot is not set");
    }
    if said("seccompProfile")["type"].is_null() {
        refuse(&place, "seccomp is not set");
    }
    if own["allowPrivilegeEscalation"] != false {
        refuse(&place, "allowPrivilegeEscalation");
    }
    if is_true(&own["privileged"]) {
        refuse(&place, "privileged");
    }
    if !items(&own["capabilities"]["drop"]).any(|one| one == "ALL") {
        refuse(&place, "capabilities are not dropped");
    }
    if items(&own["capabilities"]["add"]).any(|one| one != "NET_BIND_SERVICE") {
        refuse(&place, "capabilities are added");
    }
    if !(own["procMount"].is_null() || own["procMount"] == "Default") {
        refuse(&place, "procMount");
    }
    if items(&container["ports"]).any(|port| port["hostPort"].as_u64().is_some_and(|port| port != 0)) {
        refuse(&place, "a port of the host");
    }
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
    let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
    for asked in [probes.as_slice(), &hooks].concat() {
        if ["httpGet", "tcpSocket"].iter().any(|way| !text(&asked[way]["host"]).is_empty()) {
            refuse(&place, "a probe or hook asks another host");
        }
    }
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}

fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
