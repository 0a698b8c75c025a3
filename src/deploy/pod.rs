//! The pod of a model: its container, what it may use, where its weights come from, when it is ready and how it ends.
//!
//! Every pod keeps to the restricted profile of the Pod Security Standards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::parts::{Pod, Role, Volumes, volume_name};
use super::target::Target;
use super::trained::{self, Awaited, More};
use crate::bundle::runtime::{Convention, USER};
use crate::io::digest::Digest;
use crate::io::size;
use crate::project::manifest::deploy::{FetchProgram, Fetcher, KubernetesVersion, Models, Resources, Secret};
use crate::project::validate::deploy::{memory_of, seconds_to_start};

/// Seconds between two questions whether a pod has started.
const PERIOD: u64 = 5;

/// Seconds for which a pod that is to end still gets requests, as not all who send them know it yet.
const UNROUTED: u64 = 5;

/// The first version that has the action `sleep` before a container ends.
const SLEEPS: KubernetesVersion = KubernetesVersion(30);

/// Seconds that a node has to pull an image.
pub const PULLED: u64 = 300;

/// Which part of a pod the platform understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// What Knative takes: no hooks, nothing at the level of the pod that it has for itself.
    Knative,
}

/// The pod of the model.
pub fn of(target: &Target, settings: &Settings<'_>, role: Role, extent: Extent) -> Pod {
    let deploy = settings.deploy;
    let mut pod = Pod::default();
    let mut volumes = Volumes::new();
    volumes.secrets(&deploy.secrets);
    for claim in &deploy.volumes {
        let mut mount = json!({"mountPath": claim.path, "readOnly": claim.readonly});
        mount.as_object_mut().into_iter().for_each(|mount| {
            mount.extend(claim.folder.iter().map(|folder| ("subPath".to_owned(), json!(folder))));
        });
        volumes.add(
            &volume_name("claim", &claim.claim),
            json!({"persistentVolumeClaim": {"claimName": claim.claim, "readOnly": claim.readonly}}),
            mount,
        );
    }
    if deploy.resources.as_ref().is_some_and(|resources| resources.gpus.is_some()) {
        volumes.add(
            "shm",
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
            json!({"mountPath": "/dev/shm"}),
        );
        pod.note(["volumes"], "Workers of PyTorch's pass tensors through shm, which counts as memory of the pod.");
    }
    let weights = weights(target, settings, &mut volumes);
    let More { variables, awaited } = trained::of_pod(target, settings, role, &mut volumes);
    let data = awaited.map(|awaited| data(target, settings, &awaited, &mut pod));
    let before: Vec<_> = weights.into_iter().chain(data).collect();

    pod.note(["containers", "0", "image"], format!("{} {}", target.name, target.version));
    let mut container = json!({
        "name": "model",
        "image": target.image.to_string(),
        "imagePullPolicy": "IfNotPresent",
        "env": environment(target, settings, variables),
        "resources": resources(target, settings.resources(role), &mut pod),
        "securityContext": locked_in(),
        "volumeMounts": volumes.mounts,
    });
    let secrets = settings.whole_secrets();
    if !secrets.is_empty() {
        container["envFrom"] = json!(secrets);
    }
    let args = role.command().map_or_else(|| settings.args(), |command| vec![command.to_owned()]);
    if !args.is_empty() {
        container["args"] = json!(args);
    }
    if role.listens() {
        serving(&mut container, target, settings, role, extent, &mut pod);
    }
    if !before.is_empty() {
        let is_s5cmd = deploy.fetcher.as_ref().is_some_and(|fetcher| fetcher.program == Some(FetchProgram::S5cmd));
        if is_s5cmd {
            pod.note(
                ["initContainers"],
                "s5cmd checks no digests, and its releases know the roles of service accounts, not EKS Pod Identity \
                 (peak/s5cmd#769). `ekiben fetch` does both.",
            );
        }
        pod.spec.insert("initContainers".to_owned(), json!(before));
    }
    pod.spec.insert("containers".to_owned(), json!([container]));
    pod.spec.insert("volumes".to_owned(), json!(volumes.volumes));
    pod.spec.insert("serviceAccountName".to_owned(), json!(settings.account()));
    pod.spec.insert("automountServiceAccountToken".to_owned(), json!(false));
    pod.spec.insert("enableServiceLinks".to_owned(), json!(false));
    if !deploy.pull.is_empty() {
        let secrets: Vec<_> = deploy.pull.iter().map(|name| json!({"name": name})).collect();
        pod.spec.insert("imagePullSecrets".to_owned(), json!(secrets));
    }
    if extent == Extent::Whole {
        whole(&mut pod, target, settings, role);
    }
    pod
}

/// What only the pod as a whole has.
fn whole(pod: &mut Pod, target: &Target, settings: &Settings<'_>, role: Role) {
    let deploy = settings.deploy;
    pod.spec.insert("securityContext".to_owned(), security());
    let grace = match role {
        Role::Serves => UNROUTED + target.service.grace + PERIOD,
        Role::Consumes | Role::Learns => target.service.grace + PERIOD,
        Role::Works | Role::Ends => 60,
        Role::Trains => PERIOD,
    };
    pod.spec.insert("terminationGracePeriodSeconds".to_owned(), json!(grace));
    pod.note(
        ["terminationGracePeriodSeconds"],
        match role {
            Role::Serves => "Time to be taken out of the Service, to answer what came before, and to end.",
            Role::Consumes => "Time to answer the messages that were taken, and to end.",
            Role::Learns => "Time to write down the records that were taken, and to end.",
            Role::Works | Role::Ends => "Time to finish the records that were begun.",
            Role::Trains => "A training that is ended begins anew.",
        },
    );
    if !deploy.nodes.is_empty() {
        pod.spec.insert("nodeSelector".to_owned(), json!(deploy.nodes));
    }
    if role.is_of_training() {
        trained::together(pod, target, settings);
    }
    if !deploy.tolerations.is_empty() {
        pod.spec.insert("tolerations".to_owned(), json!(deploy.tolerations));
    }
    if matches!(role, Role::Ends | Role::Trains) {
        pod.spec.insert("restartPolicy".to_owned(), json!("OnFailure"));
    } else if settings.is_several(role) {
        let spread = json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": settings.selector(target, role)},
        }]);
        pod.spec.insert("topologySpreadConstraints".to_owned(), spread);
    }
}

/// Port, probes and the way to the end.
fn serving(container: &mut Value, target: &Target, settings: &Settings<'_>, role: Role, extent: Extent, pod: &mut Pod) {
    let service = &target.service;
    let port = if extent == Extent::Whole { json!("http") } else { json!(service.port) };
    let name = if extent == Extent::Whole { "http" } else { "http1" };
    container["ports"] = json!([{"name": name, "containerPort": service.port, "protocol": "TCP"}]);
    let probe = |path: &str, period: u64, failures: u64| {
        json!({
            "httpGet": {"path": path, "port": port},
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        })
    };
    let seconds = seconds_to_start(settings.deploy, target.bytes());
    let failures = seconds.div_ceil(PERIOD).max(1);
    let untrained = service.live.as_ref().filter(|_| settings.is_untrained(target) || role != Role::Serves);
    container["startupProbe"] = probe(untrained.unwrap_or(&service.ready), PERIOD, failures);
    let weights = match target.bytes() / 1_000_000 {
        0 => String::new(),
        megabytes => format!(", with {megabytes} MB of weights"),
    };
    pod.note(
        ["containers", "0", "startupProbe"],
        match untrained {
            Some(_) => "It asks the server, not the model, which may be trained later.".to_owned(),
            None => format!("{} s to become ready{weights}: `start` says otherwise.", failures * PERIOD),
        },
    );
    container["readinessProbe"] = probe(&service.ready, PERIOD, 3);
    match &service.live {
        Some(path) => {
            container["livenessProbe"] = probe(path, 10, 6);
            pod.note(
                ["containers", "0", "livenessProbe"],
                "It asks the server, not the model: long work does not end the pod.",
            );
        }
        None => pod.note(
            ["containers", "0", "readinessProbe"],
            "No livenessProbe: nothing is known of a path that answers while the model is at work.",
        ),
    }
    // Whoever is asked for its health alone is not routed to.
    if extent == Extent::Knative || role != Role::Serves {
        return;
    }
    let pause = if settings.deploy.kubernetes() >= SLEEPS {
        Some(json!({"sleep": {"seconds": UNROUTED}}))
    } else if target.has_python {
        let program = format!("import time; time.sleep({UNROUTED})");
        Some(json!({"exec": {"command": ["python", "-c", program]}}))
    } else {
        None
    };
    if let Some(pause) = pause {
        container["lifecycle"] = json!({"preStop": pause});
        pod.note(["containers", "0", "lifecycle"], "Requests still come until all proxies know that this pod ends.");
    }
}

/// What the pod is given. Memory has a limit as large as the request, so that no other pod suffers; processors have none, so
/// that what is idle is used.
fn resources(target: &Target, written: Option<&Resources>, pod: &mut Pod) -> Value {
    let written = written.cloned().unwrap_or_default();
    let memory = match &written.memory {
        Some(memory) => memory.clone(),
        None => {
            let guess = memory_of(target.bytes());
            pod.note(
                ["containers", "0", "resources"],
                "A guess: twice the weights and 512 MiB. Look at what it uses under load, and write \
                 `resources: {memory: …, cpu: …}`.",
            );
            guess
        }
    };
    let cpu = written.cpu.clone().unwrap_or_else(|| "500m".to_owned());
    let mut requests = BTreeMap::from([("memory".to_owned(), memory.clone()), ("cpu".to_owned(), cpu)]);
    let mut limits = BTreeMap::from([("memory".to_owned(), memory)]);
    if let Some(gpus) = written.gpus {
        let name = written.gpu.clone().unwrap_or_else(|| "nvidia.com/gpu".to_owned());
        limits.insert(name, gpus.to_string());
    }
    requests.extend(written.requests.iter().map(|(name, quantity)| (name.clone(), quantity.to_string())));
    limits.extend(written.limits.iter().map(|(name, quantity)| (name.clone(), quantity.to_string())));
    json!({"requests": requests, "limits": limits})
}

/// What a container of the restricted profile may: nothing.
pub fn locked_in() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The same of the pod; files of volumes belong to its group.
pub fn security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The pod of a job that fetches the weights into a claim.
pub fn filling(target: &Target, settings: &Settings<'_>, fetcher: &Fetcher, from: &str, claim: &str) -> Pod {
    let mut pod = Pod::default();
    let folder = settings.claim_folder(target);
    let volume = json!({"name": "models", "persistentVolumeClaim": {"claimName": claim}});
    let scratch = json!({"name": "tmp", "emptyDir": {}});
    let mount = json!({"name": "models", "mountPath": target.folder, "subPath": folder});
    let container = fetching(target, settings, fetcher, &Fetched::weights(target, from), mount);
    pod.spec.insert("containers".to_owned(), json!([container]));
    pod.spec.insert("volumes".to_owned(), json!([volume, scratch]));
    pod.spec.insert("serviceAccountName".to_owned(), json!(settings.account()));
    pod.spec.insert("automountServiceAccountToken".to_owned(), json!(false));
    pod.spec.insert("enableServiceLinks".to_owned(), json!(false));
    pod.spec.insert("securityContext".to_owned(), security());
    pod.spec.insert("restartPolicy".to_owned(), json!("OnFailure"));
    pod
}

/// What is fetched.
struct Fetched<'a> {
    /// What the container is called.
    name: &'a str,
    /// The address.
    from: &'a str,
    /// The folder.
    to: &'a str,
    /// Files with the digests that they have to have.
    expected: Vec<(&'a str, Digest)>,
}

impl<'a> Fetched<'a> {
    /// The weights, where they lie.
    fn weights(target: &'a Target, from: &'a str) -> Self {
        let expected = target.weights.iter().filter_map(|(path, weight)| Some((path.as_str(), weight.digest?)));
        Self { name: "weights", from, to: &target.folder, expected: expected.collect() }
    }
}

/// The container that fetches what is somewhere else.
fn fetching(target: &Target, settings: &Settings<'_>, fetcher: &Fetcher, fetched: &Fetched<'_>, mount: Value) -> Value {
    let Fetched { name, from, to, expected } = fetched;
    let args: Vec<String> = match fetcher.program.unwrap_or_default() {
        FetchProgram::Ekiben => {
            let mut args = ["fetch", from, "--to", to].map(str::to_owned).to_vec();
            for (path, digest) in expected {
                args.extend(["--expect-sha256".to_owned(), format!("{path}={}", digest.hex())]);
            }
            args
        }
        FetchProgram::S5cmd => {
            let all = format!("{}/*", from.trim_end_matches('/'));
            ["sync", &all, &format!("{to}/")].map(str::to_owned).to_vec()
        }
    };
    let mut container = json!({
        "name": name,
        "image": fetcher.image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": environment(target, settings, BTreeMap::new()),
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": locked_in(),
        "volumeMounts": [mount, {"name": "tmp", "mountPath": "/tmp"}],
    });
    let secrets = settings.whole_secrets();
    if !secrets.is_empty() {
        container["envFrom"] = json!(secrets);
    }
    container
}

/// The variables of the container, by name, with `more`.
fn environment(target: &Target, settings: &Settings<'_>, more: BTreeMap<String, Value>) -> Vec<Value> {
    let deploy = settings.deploy;
    // The root cannot be written to, and libraries keep things in the home folder.
    let mut all = BTreeMap::from([
        ("HOME".to_owned(), json!({"value": "/tmp"})),
        ("NUMBA_CACHE_DIR".to_owned(), json!({"value": "/tmp/numba"})),
    ]);
    if target.convention == Convention::Bento {
        all.insert("BENTOML_DO_NOT_TRACK".to_owned(), json!({"value": "True"}));
    }
    for secret in &deploy.secrets {
        let Secret::Part(part) = secret else { continue };
        for (variable, key) in &part.variables {
            let value = json!({"valueFrom": {"secretKeyRef": {"name": part.name, "key": key}}});
            all.insert(variable.clone(), value);
        }
    }
    all.extend(deploy.env.iter().map(|(name, value)| (name.clone(), json!({"value": value}))));
    all.extend(settings.variables(target).into_iter().map(|(name, value)| (name, json!({"value": value}))));
    all.extend(more);
    let named = |(name, value): (String, Value)| {
        let mut variable = value;
        variable["name"] = json!(name);
        variable
    };
    all.into_iter().map(named).collect()
}

/// Brings the weights to where the code looks for them; gives the container that does so before the model starts, where it
/// takes one.
fn weights(target: &Target, settings: &Settings<'_>, volumes: &mut Volumes) -> Option<Value> {
    match settings.deploy.models() {
        Models::Image | Models::Node => None,
        Models::Volume => {
            let reference = target.models.as_ref().unwrap_or(&target.image).to_string();
            volumes.add(
                "models",
                json!({"image": {"reference": reference, "pullPolicy": "IfNotPresent"}}),
                json!({"mountPath": target.folder, "subPath": target.folder.trim_start_matches('/'), "readOnly": true}),
            );
            None
        }
        Models::S3(from) => {
            // As much again as the weights have: for what is being replaced.
            let limit = size::mebibytes(target.bytes() + target.bytes() / 10 + (64 << 20));
            volumes.add(
                "models",
                json!({"emptyDir": {"sizeLimit": limit}}),
                json!({"mountPath": target.folder, "readOnly": true}),
            );
            let mount = json!({"name": "models", "mountPath": target.folder});
            let fetcher = settings.deploy.fetcher.as_ref()?;
            Some(fetching(target, settings, fetcher, &Fetched::weights(target, &from), mount))
        }
        Models::Claim(_) => {
            let claim = settings.claim()?;
            let folder = settings.claim_folder(target);
            volumes.add(
                "models",
                json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}}),
                json!({"mountPath": target.folder, "subPath": folder, "readOnly": true}),
            );
            let mount = json!({"name": "models", "mountPath": target.folder, "subPath": folder, "readOnly": true});
            let files = target.weights.keys().map(|path| format!("{}/{path}", target.folder));
            let is_filled = settings.deploy.fill.is_some() && target.has_python;
            is_filled.then(|| waiting(target, "weights", files, mount))
        }
    }
}

/// The container that sees that the data set of a training is there.
fn data(target: &Target, settings: &Settings<'_>, awaited: &Awaited<'_>, pod: &mut Pod) -> Value {
    let Awaited { folder, path, mount, from } = awaited;
    match from {
        Some((from, fetcher)) => {
            let fetched = Fetched { name: "data", from, to: folder, expected: Vec::new() };
            fetching(target, settings, fetcher, &fetched, mount.clone())
        }
        None => {
            pod.note(["initContainers"], format!("It waits until the data set lies at {path}."));
            waiting(target, "data", [path.clone()], mount.clone())
        }
    }
}

/// The container that waits until somebody has brought all files: each appears whole.
fn waiting(target: &Target, name: &str, files: impl IntoIterator<Item = String>, mount: Value) -> Value {
    let program = "import os, sys, time\n\
        while not all(map(os.path.exists, sys.argv[1:])):\n    time.sleep(1)\n";
    let mut command = vec!["python".to_owned(), "-c".to_owned(), program.to_owned()];
    command.extend(files);
    json!({
        "name": name,
        "image": target.image.to_string(),
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": locked_in(),
        "volumeMounts": [mount],
    })
}
