//! What a pod is put together from: what it is for, its `spec` with comments, its volumes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::io::digest::Digest;
use crate::project::manifest::deploy::Secret;

/// The label that says what a part of a model does.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// What parts of a model do that it has or has not.
pub const PARTS: [Role; 3] = [Role::Consumes, Role::Learns, Role::Trains];

/// What a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It answers requests.
    Serves,
    /// It does its work, without being asked.
    Works,
    /// The same, until it has done it.
    Ends,
    /// It answers messages.
    Consumes,
    /// It trains the model with messages.
    Learns,
    /// It trains the model once.
    Trains,
}

impl Role {
    /// What the image is told to do; nothing where it is settings that say it.
    pub fn command(self) -> Option<&'static str> {
        match self {
            Self::Serves | Self::Works | Self::Ends => None,
            Self::Consumes => Some("consume"),
            Self::Learns => Some("learn"),
            Self::Trains => Some("train"),
        }
    }

    /// Whether it answers at its port: all, or for its health alone.
    pub fn listens(self) -> bool {
        matches!(self, Self::Serves | Self::Consumes | Self::Learns)
    }

    /// Whether what is trained concerns it.
    pub fn is_of_training(self) -> bool {
        !matches!(self, Self::Works | Self::Ends)
    }
}

/// What a pod is made of, and what is said of its numbers.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Its `spec`.
    pub spec: Map<String, Value>,
    /// Comments, by pointers from `spec` on.
    pub notes: BTreeMap<String, String>,
}

impl Pod {
    /// Adds a comment above what `steps` lead to.
    pub fn note<'a>(&mut self, steps: impl IntoIterator<Item = &'a str>, note: impl Into<String>) {
        self.notes.insert(crate::formats::document::pointer(steps), note.into());
    }
}

/// What the volume with an object is called: a label, which the object's own name need not be.
pub fn volume_name(kind: &str, object: &str) -> String {
    let named = format!("{kind}-{object}");
    match named.len() <= 63 && !named.contains('.') {
        true => named,
        false => format!("{kind}-{}", &Digest::of(object).hex()[..16]),
    }
}

/// The volumes of a pod, and where its container sees them.
pub struct Volumes {
    /// Those of the pod.
    pub volumes: Vec<Value>,
    /// Those of its container.
    pub mounts: Vec<Value>,
}

impl Volumes {
    /// With what a program can write to although the root is read-only.
    pub fn new() -> Self {
        let mut volumes = Self { volumes: Vec::new(), mounts: Vec::new() };
        volumes.add("tmp", json!({"emptyDir": {}}), json!({"mountPath": "/tmp"}));
        volumes
    }

    /// Adds one.
    pub fn add(&mut self, name: &str, volume: Value, mount: Value) {
        let named = |mut value: Value| {
            value["name"] = json!(name);
            value
        };
        if !self.volumes.iter().any(|one| one["name"] == name) {
            self.volumes.push(named(volume));
        }
        self.mounts.push(named(mount));
    }

    /// Those of secrets that are files.
    pub fn secrets(&mut self, secrets: &[Secret]) {
        for secret in secrets {
            let Secret::Part(part) = secret else { continue };
            let Some(path) = &part.path else { continue };
            self.add(
                &volume_name("secret", &part.name),
                json!({"secret": {"secretName": part.name, "defaultMode": 0o440}}),
                json!({"mountPath": path, "readOnly": true}),
            );
        }
    }
}
