//! Which of several operators works: the one that holds a Lease (coordination.k8s.io/v1).
//!
//! Invariant: who cannot renew the Lease in time ends at once, before another may take it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};

use super::Error;
use super::journal::{Weight, tell};

/// Seconds for which it is held without being renewed.
const DURATION: u64 = 15;

/// How often it is renewed, or tried.
const RENEWAL: Duration = Duration::from_secs(3);

/// After so long without a renewal, who holds it is done.
const LOST: Duration = Duration::from_secs(10);

/// A lease that is held, or tried for.
pub struct Leadership {
    leases: Api<Lease>,
    name: String,
    identity: String,
}

impl Leadership {
    /// For the lease `name` in a namespace, as `identity`, which is nobody else's.
    pub fn new(client: &Client, namespace: &str, name: &str, identity: &str) -> Self {
        let leases = Api::namespaced(client.clone(), namespace);
        Self { leases, name: name.to_owned(), identity: identity.to_owned() }
    }

    /// Waits until it is held.
    pub async fn acquired(&self) {
        let mut waits = false;
        // What another holds is judged by our own clock: since when it has not changed.
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(true) => return,
                Ok(false) if !waits => {
                    waits = true;
                    tell(Weight::Info, "lease", "another operator works; this one waits");
                }
                Ok(false) => {}
                Err(error) => tell(Weight::Warning, "lease", &error.to_string()),
            }
            tokio::time::sleep(RENEWAL).await;
        }
    }

    /// Renews it for as long as that goes; returns when it is lost.
    pub async fn held(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < LOST {
            tokio::time::sleep(RENEWAL).await;
            let begun = Instant::now();
            match tokio::time::timeout(RENEWAL, self.renew()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) => break,
                Ok(Err(error)) => tell(Weight::Warning, "lease", &error.to_string()),
                Err(_) => tell(Weight::Warning, "lease", "the API server does not answer"),
            }
        }
    }

    /// Gives it up, so that another need not wait.
    pub async fn release(&self) {
        let Ok(mut lease) = self.leases.get(&self.name).await else { return };
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity)) {
            spec.holder_identity = None;
            let _ = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
        }
    }

    async fn attempt(&self, seen: &mut Option<(Option<String>, Instant)>) -> Result<bool, Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await.map_err(Error::api("the lease"))? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(0)),
            };
            return written(self.leases.create(&PostParams::default(), &lease).await);
        };
        let version = lease.resource_version();
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let is_free = holder.as_ref().is_none_or(|holder| *holder == self.identity);
        if !is_free {
            let since = match seen {
                Some((last, since)) if *last == version => *since,
                _ => {
                    *seen = Some((version, Instant::now()));
                    return Ok(false);
                }
            };
            let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            if since.elapsed() < Duration::from_secs(seconds.unwrap_or(DURATION)) {
                return Ok(false);
            }
        }
        lease.spec = Some(self.spec(spec.lease_transitions.unwrap_or(0) + 1));
        // Of two who do this, the API server refuses one: the object is another one by then.
        written(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    async fn renew(&self) -> Result<bool, Error> {
        let mut lease = self.leases.get(&self.name).await.map_err(Error::api("the lease"))?;
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        else {
            return Ok(false);
        };
        spec.renew_time = Some(MicroTime(micro(Timestamp::now())));
        written(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = Some(MicroTime(micro(Timestamp::now())));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION).ok(),
            acquire_time: now.clone(),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

/// In whole microseconds, which is all that the API server takes.
fn micro(time: Timestamp) -> Timestamp {
    time.round(jiff::Unit::Microsecond)
        .unwrap_or_else(|_| time - SignedDuration::from_nanos(time.as_nanosecond() as i64 % 1000))
}

/// Whether it was written: not where somebody else was faster.
fn written<T>(result: Result<T, kube::Error>) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(Error::api("the lease")(error)),
    }
}
