//! Objects applied, compared and deleted by `kubectl`, which knows the cluster and who asks. They are applied by the server
//! (Kubernetes' "Server-Side Apply") under the name `ekiben`: what others have set is never overwritten silently.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::object::{Object, documents, resource};
use super::parts::{COMPONENT, PARTS, Role};
use super::progress::{PAUSE, Progress, progress};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::http;
use crate::io::tied::tied;

/// The option by which fields are taken over from others.
const FORCE: &str = "--force-conflicts";

/// Kinds that a deployment has or has not, and what they are called in commands.
const OPTIONAL: [(&str, &str); 4] = [
    ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("Ingress", "ingresses"),
    ("NetworkPolicy", "networkpolicies"),
    ("PodDisruptionBudget", "poddisruptionbudgets"),
];

/// Who sets the fields.
pub const MANAGER: &str = "ekiben";

/// The program, with what is passed on to it.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: OsString,
    /// As a person has written them: `--context`, `--namespace`, `--dry-run=server`.
    passed: Vec<OsString>,
    /// Whether what is passed says so.
    force: Force,
}

/// Why something did not reach the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error("`{}` cannot be started", program.to_string_lossy())]
    Missing {
        /// What it is called.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// It says no.
    #[error("kubectl says no: {said}")]
    Refused {
        /// What it says.
        said: String,
    },
    /// The API server says no.
    #[error("the cluster says no: {said}")]
    Denied {
        /// What it says.
        said: String,
    },
    /// Another owns a field.
    #[error("somebody else has set what is to be set: {said}")]
    Conflict {
        /// Who has set what.
        said: String,
    },
    /// The API server does not answer.
    #[error("the cluster at {server} cannot be reached")]
    Unreachable {
        /// Where it is said to be.
        server: String,
        /// Why.
        source: http::Error,
    },
    /// The pod's token cannot be read.
    #[error("the token {} cannot be read", path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A service of the cluster cannot be asked from here.
    #[error("there is no way to the service: {why}")]
    NoWay {
        /// Why.
        why: String,
    },
    /// It was waited for in vain.
    #[error("{what} was not ready: {why}")]
    NotReady {
        /// The object.
        what: String,
        /// What is known of the reason.
        why: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing { .. } => ErrorKind::Usage.named("deploy/no-kubectl").hint(
                "install kubectl, or apply what `ekiben deploy` prints where it is: \
                 `ekiben deploy … | kubectl apply --server-side --field-manager=ekiben -f -`",
            ),
            Self::Refused { .. } | Self::Denied { .. } => ErrorKind::Failure.named("deploy/refused"),
            Self::Conflict { .. } => ErrorKind::Mismatch
                .named("deploy/conflict")
                .hint("see who is right; `ekiben deploy --apply -- --force-conflicts` takes the fields over"),
            Self::Unreachable { source, .. } => source.explain(),
            Self::Token { .. } => ErrorKind::Failure.named("deploy/no-token"),
            Self::NoWay { .. } => ErrorKind::Unavailable.named("deploy/no-way"),
            Self::NotReady { .. } => ErrorKind::Unavailable
                .named("deploy/not-ready")
                .hint("`kubectl describe pods` and `kubectl logs` have more"),
        }
    }
}

/// A port of this machine that leads to a service of the cluster, for as long as this lives.
#[derive(Debug)]
pub struct Forwarding {
    /// Where it is.
    pub address: SocketAddr,
    program: Child,
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // Where it has ended by itself, there is nothing to end.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// What became of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The cluster has it so.
    None,
    /// It differs so.
    Some(String),
}

impl Kubectl {
    /// The program of the variable `KUBECTL`, or the one on PATH; `passed` goes to each of its commands, but for
    /// `--force-conflicts`, which only applying knows.
    pub fn new(mut passed: Vec<OsString>) -> Self {
        let program = std::env::var_os("KUBECTL").filter(|program| !program.is_empty());
        let count = passed.len();
        passed.retain(|argument| argument != FORCE);
        let force = if passed.len() < count { Force::TakeOver } else { Force::Never };
        Self { program: program.unwrap_or_else(|| "kubectl".into()), passed, force }
    }

    /// Whether there is such a program.
    pub fn is_there(&self) -> bool {
        let program = Path::new(&self.program);
        let folders = std::env::var_os("PATH").unwrap_or_default();
        program.components().count() > 1 || std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
    }

    /// What the cluster has of an object. None where there is none.
    ///
    /// # Errors
    /// When the cluster does not say it.
    pub fn find(&self, object: &Object) -> Result<Option<Value>, Error> {
        let name = format!("{}/{}", resource(object), object.name());
        let args = ["get", &name, "--ignore-not-found", "--output", "json"];
        let said = lines(self.run(&within(&args, object.namespace()), None)?)?;
        Ok(serde_json::from_str(&said.concat()).ok())
    }

    /// Opens a port of this machine that leads to the port `http` of a pod to which a Service leads: of those that are ready and do not
    /// end, the newest. `kubectl port-forward service/NAME` would take the one that was ready first, which a rollout is about to end.
    ///
    /// # Errors
    /// When there is no such pod, or no such port can be had.
    pub fn forward(&self, service: &Object) -> Result<Forwarding, Error> {
        let labels = service.value()["spec"]["selector"].as_object().into_iter().flatten();
        let labels: Vec<_> =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let args = ["get", "pods", "--selector", &labels.join(","), "--output", "json"];
        let said = lines(self.run(&within(&args, service.namespace()), None)?)?.concat();
        let pods: Value = serde_json::from_str(&said).unwrap_or_default();
        let pods = pods["items"].as_array().into_iter().flatten();
        let newest =
            pods.filter(|pod| is_answering(pod)).max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str());
        let Some(pod) = newest.and_then(|pod| pod["metadata"]["name"].as_str()) else {
            return Err(Error::NoWay { why: format!("none of the pods of {} is ready", service.name()) });
        };
        let name = format!("pod/{pod}");
        let mut command = Command::new(&self.program);
        command.args(within(&["port-forward", "--address", "127.0.0.1", &name, ":http"], service.namespace()));
        command.args(&self.passed).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let missing = |source| Error::Missing { program: self.program.clone(), source };
        let mut program = tied(&mut command).spawn().map_err(missing)?;
        let mut line = String::new();
        // "Forwarding from 127.0.0.1:40123 -> 3000"; where nothing comes, it has ended.
        let read = program.stdout.as_mut().map_or(Ok(0), |stdout| BufReader::new(stdout).read_line(&mut line));
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        match (read, address) {
            (Ok(_), Some(address)) => Ok(Forwarding { address, program }),
            _ => {
                let _ = program.kill();
                Err(refused(&program.wait_with_output().map_err(missing)?))
            }
        }
    }

    /// Applies the objects; gives the lines in which it says what became of each. What others own is taken over where `force`.
    ///
    /// # Errors
    /// When the cluster cannot be reached or refuses one; those before it are applied.
    pub fn apply(&self, objects: &[Object], force: Force) -> Result<Vec<String>, Error> {
        let mut args = vec!["apply", "--server-side", "--field-manager", MANAGER, "-f", "-"];
        args.extend((force == Force::TakeOver || self.force == Force::TakeOver).then_some(FORCE));
        let output = self.told(&args, &documents(objects))?;
        lines(output)
    }

    /// Deletes what an earlier deployment under this name had and this one has not: an autoscaler that would go on setting the number
    /// of pods, a budget, a policy, an Ingress.
    ///
    /// # Errors
    /// As [`Kubectl::apply`].
    pub fn prune(&self, objects: &[Object]) -> Result<Vec<String>, Error> {
        let gone = OPTIONAL.iter().filter(|(kind, _)| !objects.iter().any(|object| object.kind() == *kind));
        let kinds: Vec<_> = gone.map(|(_, plural)| *plural).collect();
        let Some(first) = objects.first() else { return Ok(Vec::new()) };
        let selector = format!("{},app.kubernetes.io/managed-by=ekiben", first.instance().unwrap_or_default());
        let mut said = self.prune_parts(objects, first, &selector)?;
        if !kinds.is_empty() {
            let args = ["delete", &kinds.join(","), "--selector", &selector, "--ignore-not-found"];
            said.extend(lines(self.run(&within(&args, first.namespace()), None)?)?);
        }
        // It says this where there is nothing.
        Ok(said.into_iter().filter(|line| line != "No resources found").collect())
    }

    /// The same of what trains a model and takes its messages: of these there are several, and a Job of what was trained before.
    fn prune_parts(&self, objects: &[Object], first: &Object, selector: &str) -> Result<Vec<String>, Error> {
        let parts: Vec<_> = PARTS.into_iter().filter_map(Role::command).collect();
        let selector = format!("{selector},{} in ({})", COMPONENT, parts.join(","));
        let mut kept: Vec<_> = objects.iter().map(|object| format!("metadata.name!={}", object.name())).collect();
        kept.sort();
        kept.dedup();
        let kept = kept.join(",");
        let kinds = "deployments,jobs,networkpolicies";
        let args = ["delete", kinds, "--selector", &selector, "--field-selector", &kept, "--ignore-not-found"];
        lines(self.run(&within(&args, first.namespace()), None)?)
    }

    /// What would change.
    ///
    /// # Errors
    /// As [`Kubectl::apply`].
    pub fn diff(&self, objects: &[Object]) -> Result<Difference, Error> {
        let args = ["diff", "--server-side", "--field-manager", MANAGER, "-f", "-"];
        let output = self.told(&args, &documents(objects))?;
        match output.status.code() {
            Some(0) => Ok(Difference::None),
            Some(1) if !output.stdout.is_empty() => {
                Ok(Difference::Some(String::from_utf8_lossy(&output.stdout).into_owned()))
            }
            _ => Err(refused(&output)),
        }
    }

    /// Deletes the objects, those that others need last. What is not there is passed over.
    ///
    /// # Errors
    /// As [`Kubectl::apply`].
    pub fn delete(&self, objects: &[Object]) -> Result<Vec<String>, Error> {
        let reversed: Vec<_> = objects.iter().rev().cloned().collect();
        lines(self.told(&["delete", "--ignore-not-found", "-f", "-"], &documents(&reversed))?)
    }

    /// Returns when those of the objects that become ready are, at most after so many seconds for each.
    ///
    /// # Errors
    /// When one does not, with what its pods say.
    pub fn wait(&self, objects: &[Object], seconds: u64) -> Result<(), Error> {
        let timeout = format!("--timeout={seconds}s");
        for object in objects {
            let name = format!("{}/{}", resource(object), object.name());
            let args = match object.kind() {
                "Deployment" => vec!["rollout", "status", &name, &timeout],
                "Job" => {
                    self.wait_for_job(object, &name, seconds)?;
                    continue;
                }
                "InferenceService" => vec!["wait", "--for=condition=Ready", &name, &timeout],
                "Service" if object.value()["apiVersion"] != "v1" => {
                    vec!["wait", "--for=condition=Ready", &name, &timeout]
                }
                _ => continue,
            };
            let namespace = object.value()["metadata"]["namespace"].as_str();
            let output = self.run(&within(&args, namespace), None)?;
            if !output.status.success() {
                let why = self.pods(object, namespace).unwrap_or_else(|| said(&output));
                return Err(Error::NotReady { what: name, why });
            }
        }
        Ok(())
    }

    /// Unlike `kubectl wait`, this ends when the Job has failed.
    fn wait_for_job(&self, job: &Object, name: &str, seconds: u64) -> Result<(), Error> {
        let until = Instant::now() + Duration::from_secs(seconds);
        let never = |why: String| {
            let why = self.pods(job, job.namespace()).unwrap_or(why);
            Err(Error::NotReady { what: name.to_owned(), why })
        };
        loop {
            match progress(job, &self.find(job)?.unwrap_or_default()) {
                Progress::Ready => return Ok(()),
                Progress::Never(why) => return never(why),
                Progress::NotYet if Instant::now() >= until => return never(format!("{seconds} s were not enough")),
                Progress::NotYet => std::thread::sleep(PAUSE),
            }
        }
    }

    /// What the pods of an object wait for.
    fn pods(&self, object: &Object, namespace: Option<&str>) -> Option<String> {
        let selector = object.of_pods()?;
        let output = self.run(&within(&["get", "pods", "-l", &selector, "-o", "json"], namespace), None).ok()?;
        let pods: Value = serde_json::from_slice(&output.stdout).ok()?;
        let reasons: Vec<_> = pods["items"].as_array()?.iter().filter_map(reason).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn told(&self, args: &[&str], text: &str) -> Result<Output, Error> {
        self.run(args, Some(text))
    }

    fn run(&self, args: &[&str], text: Option<&str>) -> Result<Output, Error> {
        let missing = |source| Error::Missing { program: self.program.clone(), source };
        let mut command = Command::new(&self.program);
        command.args(args).args(&self.passed).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if text.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = tied(&mut command).spawn().map_err(missing)?;
        let stdin = child.stdin.take();
        // It may answer before it has read all.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if let (Some(mut stdin), Some(text)) = (stdin, text) {
                    // Whoever ends before the end of it has a reason, and tells it.
                    let _ = stdin.write_all(text.as_bytes());
                }
            });
            child.wait_with_output()
        })
        .map_err(missing)
    }
}

/// Whether fields are taken from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// They are.
    TakeOver,
    /// They are not: it is an error.
    Never,
}

/// The arguments with the namespace of the object.
fn within<'a>(args: &[&'a str], namespace: Option<&'a str>) -> Vec<&'a str> {
    let mut args = args.to_vec();
    args.extend(namespace.into_iter().flat_map(|namespace| ["--namespace", namespace]));
    args
}

fn lines(output: Output) -> Result<Vec<String>, Error> {
    if !output.status.success() {
        return Err(refused(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn refused(output: &Output) -> Error {
    let said = said(output);
    if said.contains("onflict") { Error::Conflict { said } } else { Error::Refused { said } }
}

/// The words of an error, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let bare = |line: &str| line.trim().trim_start_matches("error: ").to_owned();
    let lines: Vec<_> = text.lines().map(bare).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { format!("it ended with {}", output.status) } else { lines.join(" ") }
}

/// Whether a pod is ready, and not about to end.
fn is_answering(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let is_ready = conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True");
    is_ready && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Why a pod is not ready, if it says so.
pub(super) fn reason(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str()?;
    let status = &pod["status"];
    let of = |list: &str| status[list].as_array().cloned().unwrap_or_default();
    for container in of("initContainerStatuses").iter().chain(&of("containerStatuses")) {
        let ended = &container["lastState"]["terminated"];
        let state = &container["state"];
        for (what, found) in [("waits", &state["waiting"]), ("ended", &state["terminated"])] {
            let Some(reason) = found["reason"].as_str().filter(|reason| *reason != "Completed") else { continue };
            let message = found["message"].as_str().unwrap_or_default();
            let code =
                ended["exitCode"].as_i64().map(|code| format!(", after it ended with {code}")).unwrap_or_default();
            return Some(format!("{name} {what}: {reason} {message}{code}").trim().to_owned());
        }
        if state["running"].is_object() && container["ready"] == false {
            return Some(format!("{name} runs and is not ready"));
        }
    }
    let unmet = |condition: &&Value| condition["status"] == "False" && condition["message"].is_string();
    let conditions = of("conditions");
    let condition = conditions.iter().find(unmet)?;
    Some(format!("{name}: {}", condition["message"].as_str()?))
}
