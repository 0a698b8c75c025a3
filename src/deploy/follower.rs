//! What follows a model registry inside a cluster: a CronJob with Ekiben's own image, the account that it is known by, and what that
//! may: what server-side apply of the kinds that are written takes (the verbs `patch` and `create`), and looking whether they are ready.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::object::{Metadata, Object};
use super::pod::{locked_in, security};

/// Where the settings lie in the container.
pub const SETTINGS: &str = "/etc/ekiben";

/// Where credentials of registries lie in the container.
const REGISTRIES: &str = "/etc/registries";

/// The home of Ekiben's own image, which has its store.
const HOME: &str = "/home/ekiben";

/// What the secret may have, and what it is for.
const SECRETS: [(&str, &str); 14] = [
    ("MLFLOW_TRACKING_URI", "where models are registered"),
    ("MLFLOW_REGISTRY_URI", "the registry, where it is another server"),
    ("MLFLOW_TRACKING_USERNAME", "who asks MLflow"),
    ("MLFLOW_TRACKING_PASSWORD", "the same"),
    ("MLFLOW_TRACKING_TOKEN", "the same, in place of the two"),
    ("MLFLOW_S3_ENDPOINT_URL", "where artifacts are that the server does not hand on"),
    ("AWS_ACCESS_KEY_ID", "who asks there"),
    ("AWS_SECRET_ACCESS_KEY", "the same"),
    ("AWS_SESSION_TOKEN", "the same"),
    ("AWS_DEFAULT_REGION", "where that is"),
    ("MLFLOW_API", "where models are registered, in the words of DPM360's service builder"),
    ("MODEL_REGISTRY_API", "the same"),
    ("K8S_API", "another cluster, in its words"),
    ("K8S_API_KEY", "a token for that"),
];

/// Who follows.
#[derive(Clone, Debug)]
pub struct Follower {
    /// What its objects are called.
    pub name: String,
    /// Where they are, and what it deploys.
    pub namespace: String,
    /// Ekiben's own image.
    pub image: String,
    /// The arguments of `ekiben`.
    pub args: Vec<String>,
    /// When it looks, as five fields of cron.
    pub schedule: String,
    /// Files that it reads, below [`SETTINGS`].
    pub files: BTreeMap<String, String>,
    /// Variables that are no secret.
    pub variables: BTreeMap<String, String>,
    /// The size of a claim for its store. None: what it has built before is gone each time.
    pub store: Option<String>,
}

/// The objects of `follower`, which deploys objects as the `examples` are, and deletes them where it `prunes`.
pub fn objects(follower: &Follower, examples: &[Object], pruning: Pruning) -> Vec<Object> {
    let Follower { name, namespace, .. } = follower;
    let labels = [("name", "ekiben-follow"), ("instance", name), ("component", "follower"), ("managed-by", "ekiben")]
        .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()));
    let metadata = &Metadata { name: name.clone(), namespace: Some(namespace.clone()), labels: labels.into() };
    let account = Object::new("v1", "ServiceAccount", metadata, json!({"automountServiceAccountToken": false}));
    let role = Object::new(
        "rbac.authorization.k8s.io/v1",
        "Role",
        metadata,
        json!({"rules": rules(examples, pruning)}),
    )
    .noted(
        ["rules"],
        "What server-side apply of these kinds takes, and looking whether they are ready. Pods are only looked at to say why not.",
    );
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
    let named = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    let body = json!({"roleRef": named, "subjects": [subject]});
    let binding = Object::new("rbac.authorization.k8s.io/v1", "RoleBinding", metadata, body);
    let secret =
        Object::new("v1", "Secret", metadata, json!({"type": "Opaque"})).noted(["type"], secret_note(namespace, name));
    let settings = Object::new("v1", "ConfigMap", metadata, json!({"data": follower.files}));
    let mut objects = vec![account, role, binding, secret];
    objects.extend((!follower.files.is_empty()).then_some(settings));
    if let Some(size) = &follower.store {
        let body = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        objects.push(Object::new("v1", "PersistentVolumeClaim", metadata, body));
    }
    objects.push(cron_job(follower, metadata));
    objects
}

/// Whether what is not wished any more is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pruning {
    /// It is.
    Deletes,
    /// It stays.
    Keeps,
}

/// The rules of the role. Kinds of one group that need the same stand in one.
fn rules(examples: &[Object], pruning: Pruning) -> Vec<Value> {
    let mut kinds: BTreeMap<(&str, bool), BTreeSet<String>> = BTreeMap::new();
    for object in examples {
        // Whether it is ready, and which image it has.
        let is_looked_at = object.kind() == "Deployment";
        kinds.entry((object.group(), is_looked_at)).or_default().insert(object.plural());
    }
    let rule = |((group, is_looked_at), plurals): (&(&str, bool), &BTreeSet<String>)| {
        let mut verbs = vec!["create", "patch"];
        verbs.extend(is_looked_at.then_some("get"));
        verbs.extend((pruning == Pruning::Deletes).then_some("delete"));
        json!({"apiGroups": [group], "resources": plurals, "verbs": verbs})
    };
    let mut rules: Vec<_> = kinds.iter().map(rule).collect();
    rules.push(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}));
    rules
}

fn secret_note(namespace: &str, name: &str) -> String {
    let keys: Vec<_> = SECRETS.iter().map(|(key, about)| format!("{key} ({about})")).collect();
    format!(
        "Its values are not written here, and applying this again leaves them: `kubectl --namespace {namespace} create secret \
         generic {name} --from-literal=KEY=VALUE --dry-run=client -o yaml | kubectl apply --server-side -f -`. Keys, each of \
         which may be left out: {}, config.json (credentials of registries, as `docker login` and `ekiben login` write them).",
        keys.join(", ")
    )
}

fn cron_job(follower: &Follower, metadata: &Metadata) -> Object {
    let Follower { name, image, args, schedule, files, variables, store, .. } = follower;
    let mut env: BTreeMap<&str, Value> = SECRETS
        .iter()
        .map(|(key, _)| (*key, json!({"secretKeyRef": {"name": name, "key": key, "optional": true}})))
        .map(|(key, from)| (key, json!({"name": key, "valueFrom": from})))
        .collect();
    env.extend(variables.iter().map(|(name, value)| (name.as_str(), json!({"name": name, "value": value}))));
    env.insert("DOCKER_CONFIG", json!({"name": "DOCKER_CONFIG", "value": REGISTRIES}));
    let registries = json!({
        "secretName": name, "optional": true, "defaultMode": 0o440,
        "items": [{"key": "config.json", "path": "config.json"}],
    });
    // Under two names: applied over each other, they would be merged into a volume of two kinds.
    let home = match store {
        Some(_) => json!({"name": "store", "persistentVolumeClaim": {"claimName": name}}),
        None => json!({"name": "home", "emptyDir": {}}),
    };
    let mut mounts = vec![
        json!({"name": home["name"], "mountPath": HOME}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
        json!({"name": "registries", "mountPath": REGISTRIES, "readOnly": true}),
    ];
    let mut volumes =
        vec![home, json!({"name": "tmp", "emptyDir": {}}), json!({"name": "registries", "secret": registries})];
    if !files.is_empty() {
        volumes.push(json!({"name": "settings", "configMap": {"name": name}}));
        mounts.push(json!({"name": "settings", "mountPath": SETTINGS, "readOnly": true}));
    }
    let container = json!({
        "name": "ekiben",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": env.into_values().collect::<Vec<_>>(),
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
        "securityContext": locked_in(),
        "volumeMounts": mounts,
    });
    let pod = json!({
        "serviceAccountName": name,
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "restartPolicy": "Never",
        "securityContext": security(),
        "containers": [container],
        "volumes": volumes,
    });
    let body = json!({
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 100,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": metadata.labels},
                "spec": {
                    "backoffLimit": 0,
                    "template": {"metadata": {"labels": metadata.labels}, "spec": pod},
                },
            },
        },
    });
    let pod = ["spec", "jobTemplate", "spec", "template", "spec"];
    let within = |steps: &[&'static str]| [&pod[..], steps].concat();
    Object::new("batch/v1", "CronJob", metadata, body)
        .noted(["spec", "concurrencyPolicy"], "A round that takes longer than until the next has no other beside it.")
        .noted(
            ["spec", "startingDeadlineSeconds"],
            "Without it, a hundred rounds that were left out in a long one would end them all.",
        )
        .noted(["spec", "jobTemplate", "spec", "backoffLimit"], "The next round tries again.")
        .noted(within(&["automountServiceAccountToken"]), "With this token it applies what it has built.")
        .noted(within(&["containers", "0", "resources"]), "Builds compress layers: memory by the size of the largest.")
        .noted(
            within(&["volumes", "0"]),
            match store {
                Some(_) => "What was built and fetched before, so that the next version takes seconds.",
                None => "What was built and fetched before is gone in each round: `--store 20Gi` keeps it in a claim.",
            },
        )
}
