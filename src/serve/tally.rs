//! What is counted of a version of a model.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::lock;

/// Upper bounds of the classes in which the durations of requests are counted, in seconds.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Counts since this process was started.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests by the status of their answer.
    statuses: Mutex<BTreeMap<u16, u64>>,
    /// Answers by their duration: within each bound, and beyond.
    classes: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
    /// Requests that wait for a start or for others.
    pub waiting: AtomicUsize,
    /// Containers that became ready.
    pub starts: AtomicU64,
    /// Containers that did not.
    pub failures: AtomicU64,
    /// Containers that ended though nobody ended them.
    pub deaths: AtomicU64,
}

impl Tally {
    /// Counts the answer to a request.
    pub fn answered(&self, status: u16) {
        *lock(&self.statuses).entry(status).or_default() += 1;
    }

    /// Counts how long an answer took, from the request's arrival to the last byte.
    pub fn took(&self, time: Duration) {
        let class = BOUNDS.iter().position(|bound| time.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.microseconds.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests by the status of their answer.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        lock(&self.statuses).clone()
    }

    /// Whether anything was counted.
    pub fn is_used(&self) -> bool {
        let counts = [&self.starts, &self.failures, &self.deaths];
        !lock(&self.statuses).is_empty() || counts.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Answers within each bound and beyond, and the sum of their durations in seconds.
    pub fn durations(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        let classes = std::array::from_fn(|at| self.classes.get(at).map_or(0, |class| class.load(Ordering::Relaxed)));
        (classes, self.microseconds.load(Ordering::Relaxed) as f64 / 1e6)
    }
}
