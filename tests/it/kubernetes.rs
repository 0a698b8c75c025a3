//! The Kubernetes that other tests count on, and what they check with.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::home::cluster::{Cluster, VERSIONS, documents, fits};
use crate::home::restricted::{is_restricted, violations};
use crate::home::{Home, ask, wait_until};

/// A Deployment of one pod as careful people write it.
fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: tiny}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: tiny}}}}
  template:
    metadata: {{labels: {{app: tiny}}}}
    spec:
      automountServiceAccountToken: false
      securityContext: {{runAsNonRoot: true, runAsUser: 1034, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: model
          image: {image}
          imagePullPolicy: IfNotPresent
          ports: [{{name: http, containerPort: 3000, protocol: TCP}}]
          readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 1}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          volumeMounts: [{{name: tmp, mountPath: /tmp}}]
      volumes: [{{name: tmp, emptyDir: {{}}}}]
"
    )
}

#[test]
fn an_image_of_ours_becomes_ready_and_answers() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    let cluster = Cluster::shared_with_node();
    home.build(project);
    let image = cluster.import(&home, "tiny:1");
    let namespace = cluster.namespace("answers");
    let yaml = deployment(&image);
    is_restricted(&yaml);
    namespace.apply(&yaml);
    namespace.wait_for_rollout("tiny");
    let addresses = namespace.addresses("app=tiny", 3000);
    let [address] = addresses.as_slice() else { panic!("{addresses:?}") };
    assert_eq!(ask(address, "POST", "/predict", r#"{"x": 2}"#), (200, "7.0".to_owned()));
}

#[test]
fn what_the_old_version_lacks_goes_to_it_in_older_words() {
    let namespace = Cluster::shared().namespace("older");
    let newer = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: tiny}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: tiny}
  minReplicas: 1
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: tiny}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: tiny}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tiny}
spec:
  schedule: '*/2 * * * *'
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: tiny, image: tiny}]}}}}
";
    VERSIONS.into_iter().for_each(|version| fits(newer, version));
    namespace.apply(newer);
    let target = &namespace.get("horizontalpodautoscaler.v2beta2.autoscaling/tiny")["spec"]["metrics"][0]["resource"];
    assert_eq!(target["target"]["averageUtilization"], 80);
    assert_eq!(namespace.get("poddisruptionbudget/tiny")["spec"]["maxUnavailable"], 1);
    assert_eq!(namespace.get("cronjob/tiny")["spec"]["schedule"], "*/2 * * * *");
    // Nothing else is put right for anybody.
    let wrong = newer.replace("maxUnavailable: 1", "maxUnavailable: 1, most: 2");
    namespace.given(&["apply", "--server-side", "--force-conflicts"], &wrong).ends(1).says("most");
    let unknown = "{apiVersion: nothing/v1, kind: Nothing, metadata: {name: tiny}}";
    namespace.given(&["apply"], unknown).ends(1).says("no matches for kind");
}

#[test]
fn strict_schemas_know_every_field() {
    let yaml = deployment("tiny");
    VERSIONS.into_iter().for_each(|version| fits(&yaml, version));
    let wrong = yaml.replace("replicas: 1", "replica: 1");
    let refused = |yaml: &str| std::panic::catch_unwind(|| fits(yaml, VERSIONS[0])).is_err();
    assert!(refused(&wrong), "a field that there is not");
    assert!(refused(&yaml.replace("replicas: 1", "replicas: one")), "a number");
    assert!(refused("a: b"), "no object");
    assert!(refused(""), "nothing");
}

#[test]
fn the_restricted_profile_refuses_what_breaks_each_of_its_rules() {
    let mut documents = documents(&deployment("tiny"));
    let pod = documents.remove(0)["spec"]["template"].take();
    assert_eq!(violations(&pod), [""; 0]);
    // A path in the pod, what is put there (null takes it away), and what is said of it.
    let table: &[(&str, Value, &str)] = &[
        ("/spec/hostNetwork", json!(true), "a namespace of the host"),
        ("/spec/hostPID", json!(true), "a namespace of the host"),
        ("/spec/hostIPC", json!(true), "a namespace of the host"),
        ("/spec/volumes/0", json!({"name": "x", "hostPath": {"path": "/"}}), "its type"),
        ("/spec/volumes/0", json!({"name": "x", "nfs": {"server": "x", "path": "/"}}), "its type"),
        (
            "/metadata/annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/model": "unconfined"}),
            "AppArmor",
        ),
        ("/spec/securityContext/sysctls", json!([{"name": "kernel.msgmax", "value": "1"}]), "a setting of the kernel"),
        ("/spec/securityContext/runAsUser", json!(0), "root"),
        ("/spec/securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
        ("/spec/securityContext/runAsNonRoot", Value::Null, "runAsNonRoot is not set"),
        ("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"}), "seccomp"),
        ("/spec/securityContext/seccompProfile", Value::Null, "seccomp is not set"),
        ("/spec/securityContext/appArmorProfile", json!({"type": "Unconfined"}), "AppArmor"),
        ("/spec/securityContext/seLinuxOptions", json!({"type": "spc_t"}), "SELinux"),
        ("/spec/securityContext/seLinuxOptions", json!({"user": "root"}), "SELinux"),
        ("/spec/securityContext/windowsOptions", json!({"hostProcess": true}), "hostProcess"),
        ("/spec/containers/0/securityContext", Value::Null, "allowPrivilegeEscalation"),
        ("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(true), "allowPrivilegeEscalation"),
        ("/spec/containers/0/securityContext/privileged", json!(true), "privileged"),
        ("/spec/containers/0/securityContext/runAsUser", json!(0), "root"),
        ("/spec/containers/0/securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
        ("/spec/containers/0/securityContext/seccompProfile", json!({"type": "Unconfined"}), "seccomp"),
        ("/spec/containers/0/securityContext/seLinuxOptions", json!({"role": "x"}), "SELinux"),
        ("/spec/containers/0/securityContext/capabilities/drop", json!(["NET_RAW"]), "not dropped"),
        ("/spec/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"]), "added"),
        ("/spec/containers/0/securityContext/procMount", json!("Unmasked"), "procMount"),
        ("/spec/containers/0/ports/0/hostPort", json!(80), "a port of the host"),
        ("/spec/containers/0/readinessProbe/httpGet/host", json!("192.0.2.1"), "another host"),
        (
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"tcpSocket": {"host": "192.0.2.1", "port": 1}}}),
            "another host",
        ),
        ("/spec/initContainers", json!([{"name": "first", "image": "x"}]), "container first"),
        ("/spec/ephemeralContainers", json!([{"name": "late", "image": "x"}]), "container late"),
    ];
    for (path, value, why) in table {
        let found = violations(&with(&pod, path, value));
        assert!(found.iter().any(|one| one.contains(why)), "{path} = {value}: {found:?}");
    }
    // And it takes what it takes.
    let table: &[(&str, Value)] = &[
        ("/spec/volumes/0", json!({"name": "x", "image": {"reference": "x"}})),
        ("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}])),
        ("/spec/securityContext/seLinuxOptions", json!({"type": "container_t"})),
        ("/spec/containers/0/securityContext/capabilities/add", json!(["NET_BIND_SERVICE"])),
    ];
    for (path, value) in table {
        assert_eq!(violations(&with(&pod, path, value)), [""; 0], "{path} = {value}");
    }
    let nothing = std::panic::catch_unwind(|| is_restricted("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"));
    assert!(nothing.is_err(), "a text without a pod says nothing");
}

/// A document with another value at a path.
fn with(document: &Value, path: &str, value: &Value) -> Value {
    let mut document = document.clone();
    let (parent, key) = path.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value.clone())),
        other => other[key.parse::<usize>().unwrap()] = value.clone(),
    }
    document
}

/// What the tests leave behind would keep the next ones from starting.
#[test]
fn a_cluster_ends_with_all_that_it_started() {
    let cluster = Cluster::start();
    let folder = cluster.kubeconfig().parent().unwrap().to_owned();
    let mentions = || {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
        let lines = processes.filter_map(|path| fs::read(path).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(folder.to_str().unwrap())).count()
    };
    assert!(mentions() >= 4, "etcd, the API server, controllers and scheduler");
    drop(cluster);
    wait_until("the end of its programs", || mentions() == 0);
    assert!(!Path::new(&folder).exists());
}
