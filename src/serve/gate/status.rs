//! How all models are now: as JSON, and as a page for people that asks for it.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use hyper::Response;
use serde::Serialize;

use super::{Gate, with};
use crate::project::manifest::deploy::Strategy;
use crate::serve::instance::{Body, Instance};
use crate::serve::version::{Status, Version};

/// The page: one file that needs no other.
const PAGE: &str = include_str!("status.html");

/// What the page may do: run what stands in it, and ask where it comes from.
pub const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub fn page() -> Response<Body> {
    with("text/html; charset=utf-8", PAGE.as_bytes().to_vec())
}

/// All there is to say. Times are seconds since 1970, memory is in bytes.
#[derive(Serialize)]
pub struct Overview {
    version: &'static str,
    address: String,
    since: u64,
    memory: Memory,
    models: Vec<ModelStatus>,
}

#[derive(Serialize)]
struct Memory {
    /// What all together may use.
    most: Option<u64>,
    /// What is set aside.
    claimed: u64,
    /// What the containers use.
    used: u64,
}

#[derive(Serialize)]
struct ModelStatus {
    name: String,
    /// The version that `/NAME/…` leads to.
    current: Option<String>,
    /// The version that takes its place once it is ready.
    next: Option<String>,
    /// When it runs again, where it does not at this time.
    closed_until: Option<i64>,
    versions: Vec<VersionStatus>,
}

#[derive(Serialize)]
struct VersionStatus {
    version: String,
    image: String,
    digest: String,
    strategy: Strategy,
    /// Seconds that it is kept after its last answer.
    timeout: Option<f64>,
    state: Status,
    requests: u64,
    errors: u64,
    waiting: usize,
    starts: u64,
    deaths: u64,
    last_failure: Option<Failure>,
    containers: Vec<ContainerStatus>,
}

#[derive(Serialize)]
struct Failure {
    at: u64,
    why: String,
}

#[derive(Serialize)]
struct ContainerStatus {
    name: String,
    since: u64,
    memory: u64,
    cpu_seconds: f64,
    /// Requests that it has now, and that it has answered.
    within: usize,
    answered: u64,
    last_use: u64,
    is_ending: bool,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How all is now.
pub fn of(gate: &Gate) -> Overview {
    let running = gate.keeper.running();
    let table = gate.table();
    let models = table.models.values().map(|model| {
        let shape = model.shape();
        // One that has lost its tag may still be the current one.
        let mut versions = shape.versions.clone();
        if let Some(version) = &shape.current {
            versions.entry(version.record.name.tag().to_owned()).or_insert_with(|| version.clone());
        }
        ModelStatus {
            name: model.name.clone(),
            current: shape.current.as_ref().map(|version| version.record.name.tag().to_owned()),
            next: shape.next.as_ref().map(|version| version.record.name.tag().to_owned()),
            closed_until: shape.closed.map(|time| time.as_second()),
            versions: versions.values().map(|version| of_version(version, &running)).collect(),
        }
    });
    Overview {
        version: env!("CARGO_PKG_VERSION"),
        address: gate.address.to_string(),
        since: seconds(gate.since),
        memory: Memory {
            most: gate.keeper.most(),
            claimed: gate.keeper.claimed(),
            used: running.iter().map(|instance| instance.usage().memory).sum(),
        },
        models: models.collect(),
    }
}

fn of_version(version: &Version, running: &[std::sync::Arc<Instance>]) -> VersionStatus {
    let (state, failure) = version.status();
    let statuses = version.tally.statuses();
    let containers = running.iter().filter(|instance| instance.model == version.name);
    VersionStatus {
        version: version.record.name.tag().to_owned(),
        image: version.record.name.to_string(),
        digest: version.record.digest.to_string(),
        strategy: version.strategy,
        timeout: (version.strategy == Strategy::Timeout).then_some(version.timeout.as_secs_f64()),
        state,
        requests: statuses.values().sum(),
        errors: statuses.range(500..).map(|(_, count)| count).sum(),
        waiting: version.tally.waiting.load(Ordering::Relaxed),
        starts: version.tally.starts.load(Ordering::Relaxed),
        deaths: version.tally.deaths.load(Ordering::Relaxed),
        last_failure: failure
            .map(|(at, refusal)| Failure { at: seconds(at), why: refusal.cause.unwrap_or(refusal.why) }),
        containers: containers.map(|instance| of_container(instance)).collect(),
    }
}

fn of_container(instance: &Instance) -> ContainerStatus {
    let usage = instance.usage();
    ContainerStatus {
        name: instance.container.clone(),
        since: seconds(instance.started),
        memory: usage.memory,
        cpu_seconds: usage.cpu.as_secs_f64(),
        within: instance.within(),
        answered: instance.answered.load(Ordering::Relaxed),
        last_use: seconds(instance.last_use()),
        is_ending: !instance.is_open() && instance.within() == 0,
    }
}
