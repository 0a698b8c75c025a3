//! What is counted, in the text format of Prometheus (version 0.0.4).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Gate;
use crate::serve::instance::Instance;
use crate::serve::tally::BOUNDS;
use crate::serve::version::{Status, Version};

/// A family of samples: its name, what it is, and its kind.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn new(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Self { text, name }
    }

    /// `labels` are names and values, which hold nothing that would have to be escaped: names of models, tags and numbers.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

/// What is counted of a version.
type Count = fn(&Version) -> u64;

/// All of it. A version that nobody has asked for yet is left out.
pub fn of(gate: &Gate) -> String {
    let mut text = String::new();
    let versions = used(gate);
    let named = |version: &Version| {
        let (model, tag) = version.name.split_once('@').unwrap_or((&version.name, ""));
        (model.to_owned(), tag.to_owned())
    };
    let mut family =
        Family::new(&mut text, "ekiben_serve_requests_total", "counter", "Requests by the status of their answer.");
    for (status, count) in gate.strays.statuses() {
        family.sample("", &[("model", ""), ("version", ""), ("code", &status.to_string())], count);
    }
    for version in &versions {
        let (model, tag) = named(version);
        for (status, count) in version.tally.statuses() {
            family.sample("", &[("model", &model), ("version", &tag), ("code", &status.to_string())], count);
        }
    }
    let help = "Durations of answers from the request's arrival to the last byte.";
    let mut family = Family::new(&mut text, "ekiben_serve_request_seconds", "histogram", help);
    for version in &versions {
        let (model, tag) = named(version);
        let (classes, sum) = version.tally.durations();
        let mut count = 0;
        for (at, class) in classes.iter().enumerate() {
            count += class;
            let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), ToString::to_string);
            family.sample("_bucket", &[("model", &model), ("version", &tag), ("le", &bound)], count);
        }
        family.sample("_sum", &[("model", &model), ("version", &tag)], sum);
        family.sample("_count", &[("model", &model), ("version", &tag)], count);
    }
    let counts: [(_, _, _, Count); 5] = [
        ("ekiben_serve_starts_total", "counter", "Containers that became ready.", |version| {
            version.tally.starts.load(Ordering::Relaxed)
        }),
        ("ekiben_serve_start_failures_total", "counter", "Containers that did not become ready.", |version| {
            version.tally.failures.load(Ordering::Relaxed)
        }),
        ("ekiben_serve_deaths_total", "counter", "Containers that ended though nobody ended them.", |version| {
            version.tally.deaths.load(Ordering::Relaxed)
        }),
        ("ekiben_serve_waiting", "gauge", "Requests that wait for a start or for others.", |version| {
            version.tally.waiting.load(Ordering::Relaxed) as u64
        }),
        ("ekiben_serve_ready", "gauge", "Whether a container answers.", |version| {
            u64::from(version.status().0 == Status::Ready)
        }),
    ];
    for (name, kind, help, count) in counts {
        let mut family = Family::new(&mut text, name, kind, help);
        for version in &versions {
            let (model, tag) = named(version);
            family.sample("", &[("model", &model), ("version", &tag)], count(version));
        }
    }
    let running = gate.keeper.running();
    let mut each = |name, kind, help, value: &dyn Fn(&Instance) -> f64| {
        let mut family = Family::new(&mut text, name, kind, help);
        for instance in &running {
            let (model, tag) = instance.model.split_once('@').unwrap_or((&instance.model, ""));
            let labels = [("model", model), ("version", tag), ("container", instance.container.as_str())];
            family.sample("", &labels, value(instance));
        }
    };
    each("ekiben_serve_container_memory_bytes", "gauge", "Memory of a container's processes.", &|instance| {
        instance.usage().memory as f64
    });
    each(
        "ekiben_serve_container_cpu_seconds_total",
        "counter",
        "Processor time of a container's processes.",
        &|instance| instance.usage().cpu.as_secs_f64(),
    );
    each("ekiben_serve_container_requests", "gauge", "Requests that a container has now.", &|instance| {
        instance.within() as f64
    });
    Family::new(&mut text, "ekiben_serve_models", "gauge", "Models that are served.").sample(
        "",
        &[],
        gate.table().models.len(),
    );
    text
}

fn used(gate: &Gate) -> Vec<Arc<Version>> {
    let table = gate.table();
    let versions = table.models.values().flat_map(|model| model.shape().versions.into_values());
    versions.filter(|version| version.is_up() || version.tally.is_used()).collect()
}
