//! Images that are built: by `ekiben ensure`, beside the operator or in a Job of the cluster.
//!
//! Invariants: never two builds of the same image at once; who builds has no rights that its work does not need; a build that was
//! cut short is begun again and finds what it has pushed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fs_err as fs;
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::Error;
use super::cluster::{Cluster, Knocks, Owner, background, gone, text};
use super::resource::Spec;
use crate::deploy::Ready;
use crate::io::digest::Digest;
use crate::io::tied::tied;

/// The first pause after a build that failed; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Bytes of what a build says that are read.
const SAID: usize = 4096;

/// Seconds in which an image is built, or it never is.
const DEADLINE: u64 = 2 * 3600;

/// Who builds.
pub enum Builder {
    /// This machine.
    Here(Here),
    /// Jobs of the cluster.
    Jobs(Jobs),
}

/// How far an image is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// It is being built, or waits for that. In words.
    UnderWay(String),
    /// The registry has it.
    Done(Box<Ready>),
    /// It cannot be built so; tried again after a pause.
    Failed {
        /// Why.
        why: String,
        /// How long.
        again: Duration,
    },
}

impl Builder {
    /// Sees that an image is built; says how far it is.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn ensure(&self, cluster: &Cluster, owner: &Owner<'_>, spec: &Spec) -> Result<Progress, Error> {
        match self {
            Self::Here(here) => here.ensure(cluster, owner, spec).await,
            Self::Jobs(jobs) => jobs.ensure(cluster, owner, spec).await,
        }
    }

    /// Nobody waits any more for builds for this resource, but for that of `wanted`.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn forget(&self, cluster: &Cluster, owner: &Owner<'_>, wanted: Option<Digest>) -> Result<(), Error> {
        match self {
            Self::Here(here) => {
                here.forget(&owner.resource.uid, wanted);
                Ok(())
            }
            Self::Jobs(_) => Jobs::forget(cluster, owner, wanted).await,
        }
    }
}

/// How long to wait after so many failures.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// The arguments of `ekiben`.
fn arguments(spec: &Spec, report: &str, plain_http: &[String]) -> Vec<String> {
    let mut args = vec!["ensure".to_owned(), "--report".to_owned(), report.to_owned()];
    if !spec.build.platforms.is_empty() {
        args.extend(["--platform".to_owned(), spec.build.platforms.join(",")]);
    }
    args.extend(plain_http.iter().flat_map(|host| ["--plain-http".to_owned(), host.clone()]));
    args.extend(["--".to_owned(), spec.registry.repository.clone(), spec.bundle.clone()]);
    args
}

/// What a program said of its failure: from its last error on.
fn failure(said: &str) -> String {
    let begin = said.rmatch_indices("error: ").map(|(at, _)| at);
    let begin = begin.into_iter().find(|at| *at == 0 || said[..*at].ends_with('\n'));
    let said = said[begin.unwrap_or(0)..].trim();
    if said.is_empty() { "it ended without a word".to_owned() } else { said.to_owned() }
}

/// Builds as children of this process, which end with it.
pub struct Here {
    /// `ekiben`.
    pub program: PathBuf,
    /// So many at once; the others wait.
    pub most: usize,
    /// Registries without TLS.
    pub plain_http: Vec<String>,
    /// The policy that images have to fulfil.
    policy: Option<PathBuf>,
    /// Where the end of a build is told.
    knocks: Knocks,
    builds: Mutex<HashMap<Digest, Build>>,
}

struct Build {
    state: Arc<Mutex<State>>,
    failures: u32,
    /// Who waits for it.
    waiting: Vec<String>,
}

enum State {
    Running { stop: bool },
    Done(Box<Ready>),
    Failed { why: String, at: Instant },
}

impl Here {
    /// Builds by `program`, `most` at once; the end of one is told to `knocks`.
    pub fn new(
        program: PathBuf,
        most: usize,
        plain_http: Vec<String>,
        policy: Option<PathBuf>,
        knocks: Knocks,
    ) -> Self {
        Self { program, most, plain_http, policy, knocks, builds: Mutex::default() }
    }

    async fn ensure(&self, cluster: &Cluster, owner: &Owner<'_>, spec: &Spec) -> Result<Progress, Error> {
        let key = spec.key();
        let uid = &owner.resource.uid;
        let state = {
            let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
            let running = |build: &&Build| matches!(*lock(&build.state), State::Running { .. });
            let at_work = builds.values().filter(running).count();
            let mut failures = 0;
            if let Some(build) = builds.get_mut(&key) {
                if !build.waiting.contains(uid) {
                    build.waiting.push(uid.clone());
                }
                failures = build.failures;
                match &*lock(&build.state) {
                    State::Running { .. } => return Ok(Progress::UnderWay("it is being built".to_owned())),
                    State::Done(ready) => return Ok(Progress::Done(ready.clone())),
                    State::Failed { why, at } => {
                        let again = pause(failures).saturating_sub(at.elapsed());
                        if !again.is_zero() {
                            return Ok(Progress::Failed { why: why.clone(), again });
                        }
                    }
                }
            }
            if at_work >= self.most {
                return Ok(Progress::UnderWay(format!("{at_work} others are being built first")));
            }
            // From here on it is this one that builds it.
            let state = Arc::new(Mutex::new(State::Running { stop: false }));
            let build = Build { state: state.clone(), failures: failures + 1, waiting: vec![uid.clone()] };
            builds.insert(key, build);
            state
        };
        let mut command = match self.command(cluster, owner, spec).await {
            Ok(command) => command,
            Err(error) => {
                self.builds.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                return Err(error);
            }
        };
        // The thread that starts it stays until it has ended.
        let (knocks, of) = (self.knocks.clone(), owner.object());
        std::thread::spawn(move || {
            let ended = match command.run(&state) {
                Ok(ready) => State::Done(Box::new(ready)),
                Err(why) => State::Failed { why, at: Instant::now() },
            };
            *lock(&state) = ended;
            let _ = knocks.send(of);
        });
        Ok(Progress::UnderWay("it is being built".to_owned()))
    }

    async fn command(&self, cluster: &Cluster, owner: &Owner<'_>, spec: &Spec) -> Result<Child, Error> {
        let folder = tempfile::Builder::new().prefix("ekiben-build-").tempdir()?;
        let report = folder.path().join("report");
        let mut command = Command::new(&self.program);
        command.args(arguments(spec, &report.to_string_lossy(), &self.plain_http)).current_dir(folder.path());
        let secret = async |name: &str| {
            let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
                kube::Api::namespaced(cluster.client().clone(), &owner.resource.namespace);
            let found = secrets.get(name).await.map_err(Error::api(format!("secret {name}")))?;
            Ok::<_, Error>(found.data.unwrap_or_default())
        };
        for name in &spec.build.secrets {
            for (key, value) in secret(name).await? {
                if let Ok(value) = String::from_utf8(value.0) {
                    command.env(key, value);
                }
            }
        }
        if let Some(name) = &spec.registry.secret {
            let data = secret(name).await?;
            let Some(config) = data.get(".dockerconfigjson") else {
                return Err(Error::Secret { name: name.clone(), why: "it has no key .dockerconfigjson".to_owned() });
            };
            fs::create_dir(folder.path().join("docker"))?;
            fs::write(folder.path().join("docker/config.json"), &config.0)?;
            command.env("DOCKER_CONFIG", folder.path().join("docker"));
        }
        // After what secrets say: nobody but the operator's own person decides on it.
        if let Some(policy) = &self.policy {
            command.env("EKIBEN_POLICY", policy);
        }
        Ok(Child { command, folder })
    }

    /// A resource waits no more, but for the build of `wanted`.
    pub fn forget(&self, uid: &str, wanted: Option<Digest>) {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        builds.retain(|key, build| {
            if Some(*key) != wanted {
                build.waiting.retain(|waiting| waiting != uid);
            }
            if build.waiting.is_empty()
                && let State::Running { stop } = &mut *lock(&build.state)
            {
                *stop = true;
            }
            !build.waiting.is_empty()
        });
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A build, about to run in a folder of its own.
struct Child {
    command: Command,
    folder: tempfile::TempDir,
}

impl Child {
    fn run(&mut self, state: &Mutex<State>) -> Result<Ready, String> {
        let said = self.folder.path().join("said");
        let file = fs::File::create(&said).map_err(|error| error.to_string())?;
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file.into_parts().0);
        let spawned = tied(&mut self.command).spawn();
        let program = self.command.get_program().to_string_lossy();
        let mut child = spawned.map_err(|error| format!("`{program}`: {error}"))?;
        let begun = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            let stopped = matches!(*lock(state), State::Running { stop: true });
            if stopped || begun.elapsed() > Duration::from_secs(DEADLINE) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(if stopped { "nobody waits for it" } else { "it took too long" }.to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        if !status.success() {
            let said = fs::read(&said).unwrap_or_default();
            return Err(failure(&String::from_utf8_lossy(&said[said.len().saturating_sub(SAID)..])));
        }
        let report = fs::read(self.folder.path().join("report")).map_err(|error| error.to_string())?;
        serde_json::from_slice(&report).map_err(|error| format!("its report cannot be read: {error}"))
    }
}

/// Builds in Jobs of the resources' namespaces.
pub struct Jobs {
    /// Ekiben's own image.
    pub image: String,
    /// Registries without TLS.
    pub plain_http: Vec<String>,
    /// The only namespace that the operator sees.
    pub namespace: Option<String>,
    /// The policy that images have to fulfil: its file's name, and its text with all keys in it.
    pub policy: Option<(&'static str, String)>,
}

impl Jobs {
    /// What a Job is called: two resources of a namespace that want the same image with the same secrets share one. What another
    /// policy has let through counts no more.
    fn name(&self, spec: &Spec) -> String {
        let mut build = vec![json!(spec.key().to_string()), json!(spec.registry.secret), json!(spec.build.secrets)];
        build.extend(self.policy.as_ref().map(|(_, text)| json!(text)));
        let build = Value::from(build);
        format!("ekiben-build-{}", &Digest::of(build.to_string()).hex()[..16])
    }

    /// The label of all Jobs for the same image.
    fn label(key: Digest) -> String {
        key.hex()[..32].to_owned()
    }

    async fn ensure(&self, cluster: &Cluster, owner: &Owner<'_>, spec: &Spec) -> Result<Progress, Error> {
        let name = self.name(spec);
        let jobs = cluster.jobs(Some(&owner.resource.namespace));
        let what = || format!("job {name}");
        let mut failures = 0;
        if let Some(job) = jobs.get_opt(&name).await.map_err(Error::api(what()))? {
            let is = |condition: &str| {
                let conditions = job.data["status"]["conditions"].as_array().into_iter().flatten();
                conditions.into_iter().find(|one| one["type"] == condition && one["status"] == "True").cloned()
            };
            let ended = is("Complete").or_else(|| is("Failed"));
            if job.metadata.deletion_timestamp.is_some() {
                return Ok(Progress::UnderWay("the build before it is being removed".to_owned()));
            }
            let Some(ended) = ended else { return self.under_way(cluster, owner, &name).await };
            let said = self.said(cluster, owner, &name).await?;
            failures = job.annotations().get(FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0) + 1;
            let why = match (text(&ended["type"]), serde_json::from_str::<Ready>(&said)) {
                ("Complete", Ok(ready)) => return Ok(Progress::Done(Box::new(ready))),
                // Somebody has taken its pod away.
                ("Complete", Err(_)) if said.is_empty() => None,
                ("Complete", Err(error)) => Some(format!("its report cannot be read: {error}")),
                _ if said.is_empty() => Some(text(&ended["message"]).to_owned()),
                _ => Some(failure(&said)),
            };
            if let Some(why) = why {
                let at = text(&ended["lastTransitionTime"]).parse::<jiff::Timestamp>();
                let since = at.map_or(Duration::ZERO, |at| {
                    jiff::Timestamp::now().duration_since(at).try_into().unwrap_or(Duration::ZERO)
                });
                let again = pause(failures).saturating_sub(since);
                if !again.is_zero() {
                    return Ok(Progress::Failed { why, again });
                }
            }
            gone(jobs.delete(&name, &background()).await).map_err(Error::api(what()))?;
            if jobs.get_metadata_opt(&name).await.map_err(Error::api(what()))?.is_some() {
                return Ok(Progress::UnderWay("the build before it is being removed".to_owned()));
            }
        }
        // The same image, for another namespace: whoever comes second finds it in the registry.
        let key = owner.definition.key("build");
        let same = ListParams::default().labels(&format!("{key}={}", Self::label(spec.key())));
        let others = cluster.jobs(self.namespace.as_deref()).list(&same).await.map_err(Error::api("jobs"))?;
        let is_active =
            |job: &kube::core::DynamicObject| job.data["status"]["active"].as_u64().is_some_and(|pods| pods > 0);
        if let Some(other) = others.iter().find(|job| is_active(job)) {
            let namespace = other.namespace().unwrap_or_default();
            return Ok(Progress::UnderWay(format!("it is being built for another resource, in {namespace}")));
        }
        let job = self.job(owner, spec, &name, failures);
        let job = serde_json::from_value(job).map_err(|error| Error::Broken(error.to_string()))?;
        match jobs.create(&PostParams::default(), &job).await {
            // Another resource was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            result => drop(result.map_err(Error::api(what()))?),
        }
        Ok(Progress::UnderWay("it is being built".to_owned()))
    }

    /// What keeps a Job's pod from its work, where something does.
    async fn under_way(&self, cluster: &Cluster, owner: &Owner<'_>, name: &str) -> Result<Progress, Error> {
        let pods = cluster.pods(&owner.resource.namespace, &format!("job-name={name}")).await?;
        let waits = pods.iter().find_map(|pod| {
            let waiting = &pod.data["status"]["containerStatuses"][0]["state"]["waiting"];
            let reason = text(&waiting["reason"]);
            let is_stuck = reason.starts_with("ErrImage") || reason.ends_with("BackOff") || reason.ends_with("Error");
            is_stuck.then(|| format!("the builder does not start: {reason}: {}", text(&waiting["message"])))
        });
        Ok(Progress::UnderWay(waits.unwrap_or_else(|| "it is being built".to_owned())))
    }

    /// What its pod said at its end.
    async fn said(&self, cluster: &Cluster, owner: &Owner<'_>, name: &str) -> Result<String, Error> {
        let pods = cluster.pods(&owner.resource.namespace, &format!("job-name={name}")).await?;
        let ended = |pod: &kube::core::DynamicObject| {
            pod.data["status"]["containerStatuses"][0]["state"]["terminated"]["message"].as_str().map(str::to_owned)
        };
        Ok(pods.iter().find_map(ended).unwrap_or_default())
    }

    fn job(&self, owner: &Owner<'_>, spec: &Spec, name: &str, failures: u32) -> Value {
        let mut labels = owner.labels();
        labels.insert(owner.definition.key("build"), Self::label(spec.key()));
        labels.insert("app.kubernetes.io/managed-by".to_owned(), super::cluster::MANAGER.to_owned());
        let sources: Vec<_> = spec.build.secrets.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
        let mut mounts =
            vec![json!({"name": "work", "mountPath": "/var/lib/ekiben"}), json!({"name": "tmp", "mountPath": "/tmp"})];
        let mut volumes = vec![json!({"name": "work", "emptyDir": {}}), json!({"name": "tmp", "emptyDir": {}})];
        let mut variables = vec![
            json!({"name": "HOME", "value": "/var/lib/ekiben"}),
            json!({"name": "EKIBEN_HOME", "value": "/var/lib/ekiben/store"}),
        ];
        if let Some(secret) = &spec.registry.secret {
            let items = [json!({"key": ".dockerconfigjson", "path": "config.json"})];
            volumes.push(json!({"name": "registry", "secret": {"secretName": secret, "items": items}}));
            mounts.push(json!({"name": "registry", "mountPath": "/registry", "readOnly": true}));
            variables.push(json!({"name": "DOCKER_CONFIG", "value": "/registry"}));
        }
        let mut annotations = json!({});
        if let Some((file, text)) = &self.policy {
            // It is the pod's own, and no object of the namespace that others could change; and `env` counts before `envFrom`.
            annotations[POLICY] = json!(text);
            let field = json!({"fieldPath": format!("metadata.annotations['{POLICY}']")});
            volumes.push(json!({"name": "policy", "downwardAPI": {"items": [{"path": file, "fieldRef": field}]}}));
            mounts.push(json!({"name": "policy", "mountPath": "/policy", "readOnly": true}));
            variables.push(json!({"name": "EKIBEN_POLICY", "value": format!("/policy/{file}")}));
        }
        let resources =
            spec.build.resources.clone().unwrap_or_else(
                || json!({"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}),
            );
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": owner.resource.namespace,
                "labels": labels,
                "annotations": {FAILURES: failures.to_string()},
                "ownerReferences": owner.reference().into_iter().collect::<Vec<_>>(),
            },
            "spec": {
                // Whether it is worth another try, the operator decides.
                "backoffLimit": 0,
                "activeDeadlineSeconds": DEADLINE,
                "ttlSecondsAfterFinished": 3600,
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations},
                    "spec": {
                        "restartPolicy": "Never",
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "securityContext": {
                            "runAsNonRoot": true,
                            "runAsUser": 1034,
                            "runAsGroup": 1034,
                            "fsGroup": 1034,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": "build",
                            "image": self.image,
                            "command": ["ekiben"],
                            "args": arguments(spec, "/dev/termination-log", &self.plain_http),
                            "env": variables,
                            "envFrom": sources,
                            "resources": resources,
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "securityContext": {
                                "allowPrivilegeEscalation": false,
                                "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]},
                            },
                            "volumeMounts": mounts,
                        }],
                        "volumes": volumes,
                    },
                },
            },
        })
    }

    async fn forget(cluster: &Cluster, owner: &Owner<'_>, wanted: Option<Digest>) -> Result<(), Error> {
        let jobs = cluster.jobs(Some(&owner.resource.namespace));
        let selector = format!("{}={}", owner.definition.key("uid"), owner.resource.uid);
        for job in jobs.list_metadata(&ListParams::default().labels(&selector)).await.map_err(Error::api("jobs"))? {
            let is_wanted = wanted
                .is_some_and(|wanted| job.labels().get(&owner.definition.key("build")) == Some(&Self::label(wanted)));
            if !is_wanted && job.metadata.deletion_timestamp.is_none() {
                gone(jobs.delete(&job.name_any(), &background()).await).map_err(Error::api("job"))?;
            }
        }
        Ok(())
    }
}

/// How often a build has failed before.
const FAILURES: &str = "ekiben.dev/failures";

/// The policy, at a pod that builds.
const POLICY: &str = "ekiben.dev/policy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!((pause(0), pause(1), pause(2)), (FIRST_PAUSE, FIRST_PAUSE, FIRST_PAUSE * 2));
        assert_eq!((pause(7), pause(u32::MAX)), (LONGEST_PAUSE, LONGEST_PAUSE));
    }

    #[test]
    fn a_failure_is_the_last_error_and_its_causes() {
        assert_eq!(failure("   Fetched x\nerror: no\ncause: why\n hint: go\n"), "error: no\ncause: why\n hint: go");
        assert_eq!(failure("an error: in a line\nerror: b"), "error: b");
        assert_eq!(failure("Killed"), "Killed");
        assert_eq!(failure(""), "it ended without a word");
    }
}
