//! What is deployed: an image in a registry, and what is known of the model in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::runtime::{self, Convention};
use crate::image::registry::Reference;
use crate::io::digest::Digest;
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::Deploy;
use crate::project::manifest::training::Duties;

/// Seconds that a service has for the requests that it has when it is asked to end, where its manifest does not say.
const GRACE: u64 = 8;

/// A model whose image is there, as whoever built it tells whoever deploys it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// What is deployed. Of its weights it may have no more than their size.
    pub target: Target,
    /// What its manifest says of how.
    pub deploy: Deploy,
}

/// What is deployed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// What the model is called.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its image. Invariant: by digest.
    pub image: Reference,
    /// The image of its weights alone, by digest, where `image` has none.
    pub models: Option<Reference>,
    /// Its weights, by their paths below `folder`.
    pub weights: BTreeMap<String, Weight>,
    /// The folder in which the weights lie.
    pub folder: String,
    /// How it answers.
    pub service: Endpoint,
    /// Whether there is a Python in the image.
    pub has_python: bool,
    /// How the image is laid out.
    pub convention: Convention,
    /// What it does besides answering.
    #[serde(default)]
    pub duties: Duties,
    /// Whether its image has a model that was trained.
    #[serde(default)]
    pub is_trained: bool,
}

/// A file of a model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// In bytes.
    pub size: u64,
    /// Of its bytes, where it is known.
    pub digest: Option<Digest>,
}

impl Weight {
    /// One of which no more is known than its size.
    pub fn of_size(size: u64) -> Self {
        Self { size, digest: None }
    }
}

/// How a model answers in its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The port.
    pub port: u16,
    /// The path that says whether it is ready.
    pub ready: String,
    /// The path that says whether it lives; none where nothing is known of one.
    pub live: Option<String>,
    /// The path of its metrics.
    pub metrics: Option<String>,
    /// Below which path it answers.
    pub root: Option<String>,
    /// Seconds that it takes to end.
    pub grace: u64,
    /// Bytes that a request may have.
    pub request: u64,
}

impl Target {
    /// The model of `manifest` in `image`.
    pub fn new(
        manifest: &Manifest,
        version: &str,
        convention: Convention,
        image: Reference,
        weights: BTreeMap<String, Weight>,
    ) -> Self {
        let (service, duties) = (&manifest.service, manifest.duties());
        let own = (manifest.serves_functions() || convention == Convention::Bento).then_some(());
        let grace = service.grace.as_ref().and_then(|grace| grace.meant().ok()).map(|grace| grace.seconds().ceil());
        Self {
            name: manifest.name.clone(),
            version: version.to_owned(),
            image,
            models: None,
            folder: runtime::model(&manifest.name),
            service: Endpoint {
                port: service.port,
                ready: service.ready.clone(),
                live: own.map(|()| "/livez".to_owned()),
                metrics: own.map(|()| "/metrics".to_owned()),
                root: service.root.clone(),
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a period is not negative"
                )]
                grace: grace.map_or(GRACE, |grace| grace as u64),
                request: service.limits.request.as_ref().and_then(|size| size.bytes()).unwrap_or(100_000_000),
            },
            has_python: manifest.needs_python(),
            convention,
            is_trained: is_trained(&duties, &weights),
            duties,
            weights,
        }
    }

    /// The same, which does nothing but answer.
    #[must_use]
    pub fn that_answers(self) -> Self {
        Self { duties: Duties::default(), ..self }
    }

    /// The size of all weights, in bytes.
    pub fn bytes(&self) -> u64 {
        self.weights.values().map(|weight| weight.size).sum()
    }
}

/// Whether there is a trained model among these weights. Of an image that does not list them there is no more known than that it has any.
pub fn is_trained(duties: &Duties, weights: &BTreeMap<String, Weight>) -> bool {
    let is_listed = |output: &String| {
        let is_digest = |path: &String| path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit());
        weights.contains_key(output) || weights.keys().any(is_digest)
    };
    duties.output.as_ref().is_some_and(is_listed)
}
