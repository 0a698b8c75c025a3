//! The kind of the resources: its group and names, and its definition for the API server.
//!
//! It has the shape of Konfuzio's `KonfuzioAIDeployment`: where the model is, where its image goes, how it scales and when it
//! runs. Group and kind are the person's to choose, as the original's are not public.

use kube::core::ApiResource;
use serde_json::{Value, json};

/// The version of the shape.
pub const VERSION: &str = "v1alpha1";

/// What the resources are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    group: String,
    kind: String,
}

/// Why there can be no such kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDefinition {
    /// RFC 1123, and at least one point.
    #[error("`{0}` is no group: it is a name as ai.example.com")]
    Group(String),
    /// A word.
    #[error("`{0}` is no kind: it is a word of letters and digits that begins with a capital, as AIDeployment")]
    Kind(String),
}

impl Definition {
    /// A kind in a group.
    ///
    /// # Errors
    /// When Kubernetes would not take one of the names.
    pub fn new(group: &str, kind: &str) -> Result<Self, NoDefinition> {
        let is_label = |label: &str| {
            let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            (1..=63).contains(&label.len())
                && label.starts_with(ends)
                && label.ends_with(ends)
                && label.chars().all(|c| ends(c) || c == '-')
        };
        // With a label's name behind it, it is a key of a label.
        if !(group.contains('.') && group.len() <= 200 && group.split('.').all(is_label)) {
            return Err(NoDefinition::Group(group.to_owned()));
        }
        let is_word = kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.len() < 63;
        if !(is_word && kind.chars().all(|c| c.is_ascii_alphanumeric())) {
            return Err(NoDefinition::Kind(kind.to_owned()));
        }
        Ok(Self { group: group.to_owned(), kind: kind.to_owned() })
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// As the API's paths have it: `aideployments`.
    pub fn plural(&self) -> String {
        format!("{}s", self.singular())
    }

    fn singular(&self) -> String {
        self.kind.to_ascii_lowercase()
    }

    /// The group and the version of the shape.
    pub fn api_version(&self) -> String {
        format!("{}/{VERSION}", self.group)
    }

    /// The key of a label or an annotation of this kind's: `ai.ekiben.dev/resource`.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    /// As the client asks for it.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: VERSION.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.plural(),
        }
    }

    /// The definition as an object of the API server's.
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural(), self.group)},
            "spec": {
                "group": self.group,
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural(),
                    "singular": self.singular(),
                },
                "scope": "Namespaced",
                "versions": [{
                    "name": VERSION,
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "description": "A model at an address, built into an image and run as a service.",
                        "required": ["spec"],
                        "properties": {"spec": spec(), "status": status()},
                    }},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                        {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
                        {"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint"},
                        {"name": "Image", "type": "string", "jsonPath": ".status.image", "priority": 1},
                        {
                            "name": "Why",
                            "type": "string",
                            "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message",
                            "priority": 1,
                        },
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    ],
                }],
            },
        })
    }
}

/// A name of an object (RFC 1123).
fn name(description: &str) -> Value {
    let pattern = "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$";
    json!({"type": "string", "description": description, "pattern": pattern})
}

fn count(description: &str, least: u32) -> Value {
    json!({"type": "integer", "format": "int32", "minimum": least, "maximum": 10_000, "description": description})
}

/// An object whose keys are not the API server's to check.
fn open(description: &str) -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": description})
}

fn quantities(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "additionalProperties": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
            "x-kubernetes-int-or-string": true,
        },
    })
}

fn resources(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "requests": quantities("What it surely gets."),
            "limits": quantities("What it gets at most."),
        },
    })
}

fn spec() -> Value {
    json!({
        "type": "object",
        "required": ["bundle", "registry"],
        "properties": {
            "bundle": {
                "type": "string",
                "description": "Where the bundle, the bento or the model is: https://…/iris.ekiben, s3://BUCKET/iris.bento, \
                                models:/NAME/VERSION, hf://OWNER/NAME@REVISION, oci://HOST/NAME:TAG.",
                "minLength": 1,
                "maxLength": 2048,
                "pattern": "^(https?|s3|hf|oci|models|runs|mlflow-artifacts):[^\\s\\x00-\\x1f]+$",
            },
            "registry": {
                "type": "object",
                "description": "Where the image is kept.",
                "required": ["repository"],
                "properties": {
                    "repository": {
                        "type": "string",
                        "description": "HOST/REPOSITORY, without a tag.",
                        "maxLength": 255,
                        "pattern": "^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$",
                    },
                    "secret": name("A secret of the type kubernetes.io/dockerconfigjson, to push and to pull with."),
                },
            },
            "build": {
                "type": "object",
                "description": "How the image is built, where it is not there.",
                "properties": {
                    "secrets": {
                        "type": "array",
                        "description": "Secrets whose keys are variables of the build: AWS_ACCESS_KEY_ID, MLFLOW_TRACKING_URI, HF_TOKEN.",
                        "maxItems": 16,
                        "items": name("Its name."),
                    },
                    "platforms": {
                        "type": "array",
                        "description": "What the image is for. Absent: the platform of whoever builds.",
                        "maxItems": 4,
                        "items": {"type": "string", "enum": ["linux/amd64", "linux/arm64"]},
                    },
                    "resources": resources("What the build gets."),
                },
            },
            "replicas": count("How many pods. 0 stops it, whatever else is said.", 0),
            "autoscaling": {
                "type": "object",
                "description": "How many pods, by what they do.",
                "required": ["maxReplicas"],
                "properties": {
                    "minReplicas": count("At least so many. Absent: 1.", 1),
                    "maxReplicas": count("At most so many.", 1),
                    "metrics": {
                        "type": "array",
                        "description": "By what, as autoscaling/v2 has it. Absent: the processors.",
                        "maxItems": 16,
                        "items": open("A metric."),
                    },
                },
            },
            "resources": resources("What each pod gets."),
            "strategy": {
                "type": "string",
                "description": "ALWAYS_ON: until it is stopped. TIMEOUT: until nobody has asked for `timeout` seconds. IMMEDIATE: a \
                                container for each request, which this operator cannot do: it says so. Absent: ALWAYS_ON.",
                "enum": ["ALWAYS_ON", "TIMEOUT", "IMMEDIATE"],
            },
            "timeout": {
                "type": "integer",
                "format": "int64",
                "description": "Seconds after the last answer after which a model with the strategy TIMEOUT goes to no pods. Absent: 300.",
                "minimum": 1,
                "maximum": 31_536_000,
            },
            "deploy": open("All else, as the section `deploy` of a manifest has it; over what the model's own manifest says."),
        },
    })
}

fn status() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let time = |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    json!({
        "type": "object",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation of the resource that this is said of.",
            },
            "phase": text("Building, Starting, Running, Idle, Stopped or Failed."),
            "image": text("The image, by digest."),
            "endpoint": text("Where it answers within the cluster."),
            "replicas": {"type": "integer", "format": "int32"},
            "readyReplicas": {"type": "integer", "format": "int32"},
            "selector": text("Of its pods."),
            "build": open("What the image was built from, and what is known of the model in it."),
            "activity": {
                "type": "object",
                "properties": {
                    "requests": {"type": "integer", "format": "int64", "description": "Answered by the pods that there are."},
                    "last": time("When it was last seen that somebody asked."),
                    "wake": text("The value of the annotation `wake` that was last obeyed."),
                    "idleSince": time("When it went to no pods."),
                },
            },
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": {"type": "string", "maxLength": 316},
                        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                        "observedGeneration": {"type": "integer", "format": "int64"},
                        "lastTransitionTime": {"type": "string", "format": "date-time"},
                        "reason": {"type": "string", "maxLength": 1024},
                        "message": {"type": "string", "maxLength": 32_768},
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        assert_eq!(Definition::new("ai.ekiben.dev", "AIDeployment").unwrap().plural(), "aideployments");
        for group in ["", "dev", "a..b", "-a.b", "A.b", "a.b/c", &format!("{}.b", "a".repeat(64))] {
            assert_eq!(Definition::new(group, "AIDeployment"), Err(NoDefinition::Group(group.to_owned())));
        }
        for kind in ["", "model", "AI-Deployment", "1Model", &"M".repeat(63)] {
            assert_eq!(Definition::new("ai.ekiben.dev", kind), Err(NoDefinition::Kind(kind.to_owned())));
        }
    }
}
