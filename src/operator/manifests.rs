//! What installs the operator in a cluster: the definition of its resources, its rights (no more than it uses), and itself. As plain
//! objects, or as a chart for Helm.

use std::io::Write as _;
use std::path::PathBuf;

use fs_err as fs;
use serde_json::{Value, json};

use super::cluster::MANAGER;
use super::definition::Definition;
use super::{Error, gate};
use crate::bundle::runtime::USER;
use crate::formats::document::yaml;
use crate::io::digest::Digest;

/// What the operator is called among its cluster's objects.
const NAME: &str = MANAGER;

/// The port of its metrics.
const PORT: u16 = 8080;

/// Print what installs the operator: the resources' definition, its rights, and the operator itself.
#[derive(clap::Args)]
pub struct Args {
    /// The operator's image: one that has `ekiben-operator`.
    #[arg(long, value_name = "IMAGE", required_unless_present = "helm")]
    image: Option<String>,
    /// The image that builds: one that has `ekiben`. Without it, the operator's.
    #[arg(long, value_name = "IMAGE")]
    builder: Option<String>,
    /// The namespace of the operator itself.
    #[arg(long, value_name = "NAMESPACE", default_value = NAME)]
    namespace: String,
    /// The only namespace that it works for: it has rights in no other.
    #[arg(long, value_name = "NAMESPACE")]
    only: Option<String>,
    /// Operators, of which one works and the others wait.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    replicas: u16,
    /// What images need before they are deployed, in a file: see `ekiben ensure --policy`. It goes along, with its keys.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write a chart for Helm into this folder.
    #[arg(long, value_name = "DIR")]
    helm: Option<PathBuf>,
}

/// Prints them, or writes the chart.
///
/// # Errors
/// When they cannot be written.
pub fn write(definition: &Definition, args: &Args) -> Result<(), Error> {
    let policy = args.policy.as_deref().map(gate).transpose()?.map(|gate| gate.portable());
    match &args.helm {
        None => {
            let image = args.image.clone().unwrap_or_default();
            let installed = Installed {
                builder: args.builder.clone().unwrap_or_else(|| image.clone()),
                image,
                namespace: args.namespace.clone(),
                only: args.only.clone(),
                replicas: args.replicas,
                policy,
            };
            let mut all = vec![installed.room(), definition.object()];
            all.extend(installed.objects(definition));
            let text: String = all.iter().map(|object| format!("---\n{}", yaml(object))).collect();
            std::io::stdout().lock().write_all(text.as_bytes())?;
        }
        Some(folder) => {
            for (name, text) in chart(definition, args, policy) {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().unwrap_or(folder))?;
                fs::write(path, text)?;
            }
        }
    }
    Ok(())
}

/// A chart's files.
fn chart(definition: &Definition, args: &Args, policy: Option<(&'static str, String)>) -> Vec<(String, String)> {
    let value = |name: &str| format!("{{{{ .Values.{name} }}}}");
    let installed = Installed {
        image: value("image"),
        builder: "{{ .Values.builder | default .Values.image }}".to_owned(),
        namespace: "{{ .Release.Namespace }}".to_owned(),
        only: args.only.clone(),
        replicas: args.replicas,
        // It is text, and no template.
        policy: policy.map(|(file, text)| (file, text.replace("{{", "{{ `{{` }}"))),
    };
    let about = json!({
        "apiVersion": "v2",
        "name": NAME,
        "description": "Models as resources of a cluster, by Ekiben",
        "type": "application",
        "version": env!("CARGO_PKG_VERSION"),
        "appVersion": env!("CARGO_PKG_VERSION"),
    });
    let values =
        json!({"image": args.image, "builder": args.builder.clone().unwrap_or_default(), "replicas": args.replicas});
    let mut files = vec![
        ("Chart.yaml".to_owned(), yaml(&about)),
        ("values.yaml".to_owned(), yaml(&values)),
        (format!("crds/{}.yaml", definition.plural()), yaml(&definition.object())),
    ];
    for object in installed.objects(definition) {
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        // A number, which no text can stand for.
        let text =
            yaml(&object).replace(&format!("replicas: {}", args.replicas), &format!("replicas: {}", value("replicas")));
        files.push((format!("templates/{kind}.yaml"), text));
    }
    files
}

/// An operator as it is installed.
struct Installed {
    image: String,
    builder: String,
    namespace: String,
    only: Option<String>,
    replicas: u16,
    /// A file's name, and what stands in it.
    policy: Option<(&'static str, String)>,
}

impl Installed {
    fn labels() -> Value {
        json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "operator"})
    }

    /// The namespace, in which only pods of the restricted profile are taken.
    fn room(&self) -> Value {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
    }

    fn object(&self, api_version: &str, kind: &str, name: &str, body: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "labels": Self::labels()},
        });
        if let (Value::Object(object), Value::Object(body)) = (&mut object, body) {
            object.extend(body);
        }
        object
    }

    fn objects(&self, definition: &Definition) -> Vec<Value> {
        const RBAC: &str = "rbac.authorization.k8s.io/v1";
        let subject = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": self.namespace}]);
        let refers =
            |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let leases = json!({"rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [format!("{NAME}.{}", definition.group())],
                "verbs": ["get", "update"],
            },
        ]});
        let mut objects = vec![
            self.object("v1", "ServiceAccount", NAME, json!({"automountServiceAccountToken": false})),
            self.object(RBAC, "Role", NAME, leases),
            self.object(RBAC, "RoleBinding", NAME, json!({"roleRef": refers("Role", NAME), "subjects": subject})),
        ];
        let rules = json!({"rules": rules(definition)});
        let name = format!("{NAME}.{}", definition.group());
        match &self.only {
            Some(namespace) => {
                for (kind, mut body) in
                    [("Role", rules), ("RoleBinding", json!({"roleRef": refers("Role", &name), "subjects": subject}))]
                {
                    body["metadata"] = json!({"name": name, "namespace": namespace, "labels": Self::labels()});
                    objects.push(self.object(RBAC, kind, &name, body));
                }
            }
            None => {
                for (kind, mut body) in [
                    ("ClusterRole", rules),
                    ("ClusterRoleBinding", json!({"roleRef": refers("ClusterRole", &name), "subjects": subject})),
                ] {
                    body["metadata"] = json!({"name": name, "labels": Self::labels()});
                    objects.push(self.object(RBAC, kind, &name, body));
                }
            }
        }
        if let Some((file, text)) = &self.policy {
            // By its content, so that the operator is started anew with another one.
            objects.push(self.object(
                "v1",
                "ConfigMap",
                &policy_name(text),
                json!({"immutable": true, "data": {*file: text}}),
            ));
        }
        objects.push(self.object("apps/v1", "Deployment", NAME, json!({"spec": self.deployment(definition)})));
        objects
    }

    fn deployment(&self, definition: &Definition) -> Value {
        let of_pod = |name: &str, field: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
        let mut variables = vec![
            of_pod("EKIBEN_OPERATOR_IDENTITY", "metadata.name"),
            of_pod("EKIBEN_OPERATOR_LEASE_NAMESPACE", "metadata.namespace"),
            of_pod("EKIBEN_OPERATOR_ADDRESS", "status.podIP"),
            json!({"name": "EKIBEN_OPERATOR_LISTEN", "value": format!("0.0.0.0:{PORT}")}),
            json!({"name": "EKIBEN_OPERATOR_GROUP", "value": definition.group()}),
            json!({"name": "EKIBEN_OPERATOR_KIND", "value": definition.kind()}),
            json!({"name": "EKIBEN_OPERATOR_BUILDER", "value": self.builder}),
        ];
        if let Some(namespace) = &self.only {
            variables.push(json!({"name": "EKIBEN_OPERATOR_NAMESPACE", "value": namespace}));
        }
        if let Some((file, _)) = &self.policy {
            variables.push(json!({"name": "EKIBEN_POLICY", "value": format!("/policy/{file}")}));
        }
        let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10});
        let mut deployment = json!({
            "replicas": self.replicas,
            "selector": {"matchLabels": Self::labels()},
            "template": {
                "metadata": {"labels": Self::labels()},
                "spec": {
                    "serviceAccountName": NAME,
                    // It asks the API server.
                    "automountServiceAccountToken": true,
                    "enableServiceLinks": false,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "operator",
                        "image": self.image,
                        "command": ["ekiben-operator", "run"],
                        "env": variables,
                        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
                        "livenessProbe": probe("/healthz"),
                        "readinessProbe": probe("/readyz"),
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        });
        if let Some((_, text)) = &self.policy {
            let pod = &mut deployment["template"]["spec"];
            pod["volumes"] = json!([{"name": "policy", "configMap": {"name": policy_name(text)}}]);
            pod["containers"][0]["volumeMounts"] =
                json!([{"name": "policy", "mountPath": "/policy", "readOnly": true}]);
        }
        deployment
    }
}

/// What the object with the policy is called.
fn policy_name(text: &str) -> String {
    format!("{NAME}-policy-{}", &Digest::of(text).hex()[..10])
}

/// What it may do: see to its resources, and to the objects that a model is made of.
fn rules(definition: &Definition) -> Value {
    let own = definition.plural();
    let objects = ["get", "list", "watch", "create", "patch", "delete"];
    // They are applied and deleted, and nobody watches them.
    let unwatched = ["get", "list", "create", "patch", "delete"];
    json!([
        {"apiGroups": [definition.group()], "resources": [own], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [definition.group()], "resources": [format!("{own}/status")], "verbs": ["patch"]},
        {"apiGroups": [definition.group()], "resources": [format!("{own}/finalizers")], "verbs": ["update"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": objects},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "delete"]},
        {"apiGroups": [""], "resources": ["serviceaccounts", "services"], "verbs": unwatched},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": unwatched},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": unwatched},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": unwatched},
        {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": unwatched},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": unwatched},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ])
}
