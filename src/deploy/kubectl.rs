//! Objects applied, compared and deleted by `kubectl`, which knows the cluster and who asks. They are applied by the server
//! (Kubernetes' "Server-Side Apply") under the name `ekiben`: what others have set is never overwritten silently.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::object::{Object, documents};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::tied::tied;

/// Who sets the fields.
pub const MANAGER: &str = "ekiben";

/// The program, with what is passed on to it.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: OsString,
    /// As a person has written them: `--context`, `--namespace`, `--dry-run=server`.
    passed: Vec<OsString>,
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
    /// Another owns a field.
    #[error("somebody else has set what is to be set: {said}")]
    Conflict {
        /// Who has set what.
        said: String,
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
            Self::Refused { .. } => ErrorKind::Failure.named("deploy/refused"),
            Self::Conflict { .. } => ErrorKind::Mismatch
                .named("deploy/conflict")
                .hint("see who is right; `ekiben deploy --apply -- --force-conflicts` takes the fields over"),
            Self::NotReady { .. } => ErrorKind::Unavailable
                .named("deploy/not-ready")
                .hint("`kubectl describe pods` and `kubectl logs` have more"),
        }
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
    /// The program of the variable `KUBECTL`, or the one on PATH; `passed` goes to each of its commands.
    pub fn new(passed: Vec<OsString>) -> Self {
        let program = std::env::var_os("KUBECTL").filter(|program| !program.is_empty());
        Self { program: program.unwrap_or_else(|| "kubectl".into()), passed }
    }

    /// Applies the objects; gives the lines in which it says what became of each. What others own is taken over where `force`.
    ///
    /// # Errors
    /// When the cluster cannot be reached or refuses one; those before it are applied.
    pub fn apply(&self, objects: &[Object], force: Force) -> Result<Vec<String>, Error> {
        let mut args = vec!["apply", "--server-side", "--field-manager", MANAGER, "-f", "-"];
        args.extend((force == Force::TakeOver).then_some("--force-conflicts"));
        let output = self.told(&args, &documents(objects))?;
        lines(output)
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
                "Job" => vec!["wait", "--for=condition=complete", &name, &timeout],
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

    /// What the pods of an object wait for.
    fn pods(&self, object: &Object, namespace: Option<&str>) -> Option<String> {
        let labels = object.value()["metadata"]["labels"].as_object()?;
        let instance = labels.get("app.kubernetes.io/instance")?.as_str()?;
        let selector = format!("app.kubernetes.io/instance={instance}");
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

/// What kubectl calls an object's kind, with its group where others have the same.
fn resource(object: &Object) -> String {
    let kind = object.kind().to_lowercase();
    match object.value()["apiVersion"].as_str().and_then(|version| version.split_once('/')) {
        Some((group, version)) if group.contains('.') => format!("{kind}.{version}.{group}"),
        _ => kind,
    }
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

/// Why a pod is not ready, if it says so.
fn reason(pod: &Value) -> Option<String> {
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
