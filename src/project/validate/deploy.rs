//! Whether a model can be deployed as the section `deploy` says: what the cluster would refuse, or do otherwise than is meant.

use croner::parser::{CronParser, Seconds, Year};
use serde_json::{Map, Value};

use super::Subject;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::{Document, pointer};
use crate::io::size;
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::{
    Deploy, Expose, Hours, Kind, KubernetesVersion, Metric, Models, NetworkAccess, Schedule, Secret, Storage, Strategy,
    UsedMetric,
};
use crate::project::manifest::training::{Duties, TRAINED};

/// The oldest version of Kubernetes that is written for.
const OLDEST: KubernetesVersion = KubernetesVersion(25);

/// The first version that mounts a folder of an image.
const IMAGE_FOLDERS: KubernetesVersion = KubernetesVersion(33);

/// Seconds in which any model becomes ready.
const START: u64 = 60;

/// Bytes of weights that are loaded in a second, at least.
const LOADED: u64 = 50_000_000;

/// Seconds for which Knative keeps a pod that nobody asks, at most.
const LONGEST_TIMEOUT: f64 = 3600.0;

/// Ports that Knative's own container in each pod has (`reservedPorts` in its `k8s_validation.go`, and the one for TLS).
const PORTS_OF_KNATIVE: [u16; 7] = [8008, 8012, 8013, 8022, 8112, 9090, 9091];

/// Variables that Knative sets (`reservedEnvVars` there).
const VARIABLES_OF_KNATIVE: [&str; 4] = ["K_CONFIGURATION", "K_REVISION", "K_SERVICE", "PORT"];

/// What a trigger of KEDA's may say (`ScaleTriggers` in its API).
const TRIGGER: [&str; 6] = ["authenticationRef", "metadata", "metricType", "name", "type", "useCachedMetrics"];

/// What the variables begin with that say where a broker of messages is.
const BROKER: &str = "EKIBEN_AMQP_";

/// Seconds beyond which nobody would learn that a model does not start.
const LONGEST_START: u64 = 3600;

/// The model that is deployed.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The size of its weights, in bytes.
    pub weights: u64,
    /// Below which path it answers.
    pub root: Option<&'a str>,
    /// The port at which it answers.
    pub port: u16,
    /// Whether Ekiben serves its functions.
    pub has_functions: bool,
    /// What it does besides answering.
    pub duties: Duties,
    /// Whether its image has a model that was trained.
    pub is_trained: bool,
}

impl<'a> Model<'a> {
    /// The model of `manifest`, whose weights have so many bytes, as if it were trained.
    pub fn of(manifest: &'a Manifest, weights: u64) -> Self {
        let root = manifest.service.root.as_deref();
        let (port, has_functions) = (manifest.service.port, manifest.serves_functions());
        let duties = manifest.duties();
        Self { name: &manifest.name, weights, root, port, has_functions, duties, is_trained: true }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of mistake it is.
    pub code: Code,
    /// Where in the section, as a JSON pointer.
    pub at: String,
    /// Whether it is the key there that is wrong, not its value.
    pub is_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Seconds that a model with weights of `bytes` has to become ready.
pub fn seconds_to_start(deploy: &Deploy, bytes: u64) -> u64 {
    let written = deploy.start.as_ref().and_then(|period| period.meant().ok());
    match written {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a period is not negative")]
        Some(period) => period.seconds().ceil() as u64,
        None => START + bytes / LOADED,
    }
}

/// The memory that a model with weights of `bytes` gets where nobody says how much.
pub fn memory_of(bytes: u64) -> String {
    size::mebibytes((bytes.saturating_mul(2) + (512 << 20)).next_multiple_of(256 << 20))
}

/// What is wrong with `deploy` for this model.
pub fn findings(deploy: &Deploy, model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    names(deploy, model, &mut findings);
    numbers(deploy, model, &mut findings);
    kinds(deploy, model, &mut findings);
    platforms(deploy, model, &mut findings);
    weights(deploy, model, &mut findings);
    exposed(deploy, model, &mut findings);
    trained(deploy, model, &mut findings);
    findings.0
}

/// What is missing of `deploy` for this model, which a cluster's own settings may say.
pub fn missing(deploy: &Deploy, model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let secret = deploy.messages.as_ref().and_then(|broker| broker.secret.as_ref());
    if model.duties.has_messages() && is_answering(deploy) && secret.is_none() {
        let at = if deploy.messages.is_some() { "/messages" } else { "" };
        findings.unfit(
            at,
            "the model takes messages, and nothing says where their broker is",
            "name a secret of the namespace with its address (`url`): `messages: {secret: broker}`, or `--broker broker`",
        );
    }
    findings.0
}

/// The same of a manifest's section, with its places.
pub(super) fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let Some(deploy) = &subject.manifest.deploy else { return };
    let sizes = subject.files.model.iter().filter_map(|file| file.host.metadata().ok());
    let model = Model::of(subject.manifest, sizes.map(|data| data.len()).sum());
    tell(findings(deploy, &model), subject.document, "/deploy", found);
}

/// Puts the findings where they belong in `document`, in which the section is at the pointer `section`.
pub fn tell(findings: Vec<Finding>, document: &Document, section: &str, found: &mut Diagnostics) {
    for Finding { code, at, is_key, message, help } in findings {
        let at = format!("{section}{at}");
        let error = if is_key { document.at_key(code, &at, message) } else { document.at(code, &at, message) };
        found.push(help.into_iter().fold(error, crate::formats::diagnostic::Diagnostic::help));
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn push(&mut self, code: Code, at: impl Into<String>, message: impl Into<String>, help: &str) {
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.0.push(Finding { code, at: at.into(), is_key: false, message: message.into(), help });
    }

    /// That the key at `at` is wrong.
    fn key(&mut self, code: Code, at: impl Into<String>, message: impl Into<String>, help: &str) {
        self.push(code, at, message, help);
        self.0.last_mut().into_iter().for_each(|finding| finding.is_key = true);
    }

    fn unfit(&mut self, at: &str, message: impl Into<String>, help: &str) {
        self.push(Code::NotDeployable, at, message, help);
    }
}

/// RFC 1123 and Kubernetes' "Labels and Selectors".
fn names(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    let name = deploy.name_for(model.name);
    let (longest, why) = match deploy.kind() {
        Kind::CronJob => (52, "a cron job's jobs add 11 characters"),
        Kind::Job => (54, "a job's name gets a digest of 9 characters"),
        Kind::Keda => (54, "KEDA's autoscaler adds 9 characters"),
        Kind::KServe => (53, "KServe adds 10 characters"),
        _ if model.duties.has_messages() || is_trained_there(deploy, model) => (55, "`-consume` adds 8 characters"),
        _ => (63, "that is the longest that a label may be"),
    };
    if name.len() > longest {
        let message = format!("`{name}` has {} characters, and may have {longest}: {why}", name.len());
        let at = if deploy.name.is_some() { "/name" } else { "" };
        findings.unfit(at, message, "give it a shorter `name` below `deploy`");
    }
    if deploy.kind() != Kind::Job && deploy.kind() != Kind::CronJob && name.starts_with(|c: char| c.is_ascii_digit()) {
        let at = if deploy.name.is_some() { "/name" } else { "" };
        let message = format!("the name of a Service begins with a letter, and `{name}` does not (RFC 1035)");
        findings.unfit(at, message, "give it another `name` below `deploy`");
    }
    let all = [("labels", &deploy.labels), ("nodes", &deploy.nodes)];
    for (section, labels) in all {
        for (key, value) in labels {
            let at = pointer([section, key]);
            if let Err(why) = qualified(key) {
                findings.key(Code::NotDeployable, at, format!("`{key}` cannot be a label's name: {why}"), "");
            } else if !is_label(value) {
                let why = "it has up to 63 letters, digits, `-`, `_` and `.`, the first and last a letter or digit";
                findings.unfit(&at, format!("`{value}` cannot be a label's value: {why}"), "");
            } else if section == "labels" && RESERVED.contains(&key.as_str()) {
                let message = format!("the label `{key}` is set from what is known of the model");
                findings.key(Code::NotDeployable, at, message, "leave it out, or give it another name");
            }
        }
    }
    for key in deploy.annotations.keys() {
        if let Err(why) = qualified(key) {
            let at = pointer(["annotations", key]);
            findings.key(Code::NotDeployable, at, format!("`{key}` cannot be an annotation's name: {why}"), "");
        }
    }
    for (number, secret) in deploy.secrets.iter().enumerate() {
        let (name, at) = match secret {
            Secret::All(name) => (name, format!("/secrets/{number}")),
            Secret::Part(part) => {
                if part.variables.is_empty() && part.path.is_none() {
                    let message = format!("nothing of the secret `{}` is used", part.name);
                    findings.unfit(
                        &format!("/secrets/{number}"),
                        message,
                        "say `variables` or `path`, or its name alone",
                    );
                }
                (&part.name, format!("/secrets/{number}/name"))
            }
        };
        if !is_subdomain(name) {
            findings.unfit(&at, format!("`{name}` cannot be the name of a secret"), SUBDOMAIN);
        }
    }
    for (at, name) in variables(deploy) {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
            let help = "a name has letters, digits and `_`, and begins with no digit";
            findings.key(Code::BadVariable, at, format!("`{name}` cannot be a name of a variable"), help);
        }
    }
    for (number, name) in deploy.pull.iter().enumerate() {
        if !is_subdomain(name) {
            findings.unfit(&format!("/pull/{number}"), format!("`{name}` cannot be the name of a secret"), SUBDOMAIN);
        }
    }
    let mut paths = vec!["/tmp"];
    paths.extend(is_trained_there(deploy, model).then_some(TRAINED));
    for (number, volume) in deploy.volumes.iter().enumerate() {
        if !is_subdomain(&volume.claim) {
            let message = format!("`{}` cannot be the name of a claim", volume.claim);
            findings.unfit(&format!("/volumes/{number}/claim"), message, SUBDOMAIN);
        }
        if paths.contains(&volume.path.as_str()) {
            let message = format!("two volumes would lie at {}", volume.path);
            findings.unfit(&format!("/volumes/{number}/path"), message, "");
        }
        paths.push(&volume.path);
    }
}

/// The variables of the container that are named, with where.
fn variables(deploy: &Deploy) -> Vec<(String, &String)> {
    let mut variables: Vec<_> = deploy.env.keys().map(|name| (pointer(["env", name]), name)).collect();
    for (number, secret) in deploy.secrets.iter().enumerate() {
        let Secret::Part(part) = secret else { continue };
        let at = |name: &str| format!("/secrets/{number}{}", pointer(["variables", name]));
        variables.extend(part.variables.keys().map(|name| (at(name), name)));
    }
    variables
}

const SUBDOMAIN: &str = "names have lowercase letters, digits, `-` and `.`, the first and last a letter or digit";

/// Labels that say what is known of the model.
const RESERVED: [&str; 5] = [
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
];

fn is_label(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// A name with or without a domain before it.
fn qualified(text: &str) -> Result<(), &'static str> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    if domain.is_some_and(|domain| !is_subdomain(domain)) {
        return Err("what stands before `/` is no domain in lowercase letters");
    }
    if name.is_empty() || !is_label(name) {
        return Err("a name has up to 63 letters, digits, `-`, `_` and `.`, the first and last a letter or digit");
    }
    Ok(())
}

fn numbers(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    if deploy.autoscale.is_some() && deploy.autoscaling.is_some() {
        findings.unfit("/autoscaling", "`autoscale` and `autoscaling` say the same", "leave one of them out");
    }
    let at = if deploy.autoscale.is_some() { "/autoscale" } else { "/autoscaling" };
    if let Some(scaling) = deploy.scaling() {
        let (min, max) = (*scaling.pods.start(), *scaling.pods.end());
        if min > max {
            findings.unfit(at, format!("at least {min} pods and at most {max} cannot be"), "");
        }
        if max == 0 {
            findings.unfit(at, "at most no pods is nothing that scales", "`ekiben deploy --stop` stops it");
        }
        if min == 0 && max > 0 && deploy.kind() == Kind::Service {
            let message = "a HorizontalPodAutoscaler does not go to no pods";
            findings.unfit(at, message, "begin with 1, or take `kind: knative` or `kind: keda`");
        }
        if deploy.replicas.is_some() {
            let message = "the number of pods is both fixed and scaled";
            findings.unfit("/replicas", message, "leave out `replicas`: each apply would set it back");
        }
        for (number, metric) in scaling.metrics.iter().enumerate() {
            if let Metric::Whole(whole) = metric
                && !whole.get("type").is_some_and(serde_json::Value::is_string)
            {
                let message = "a metric is `{cpu: 70}`, `{memory: 80}`, or has a `type` as in Kubernetes";
                findings.unfit(&format!("{at}/metrics/{number}"), message, "");
            }
        }
    }
    let resources = deploy.resources.clone().unwrap_or_default();
    let limit = resources.limits.get("memory").map(ToString::to_string);
    let request = resources.requests.get("memory").map(ToString::to_string);
    let memory = limit.clone().or_else(|| resources.memory.clone());
    #[expect(clippy::cast_precision_loss, reason = "no weights have so many bytes")]
    let weights = model.weights as f64;
    if let Some(text) = &memory
        && size::quantity(text).is_some_and(|bytes| bytes < weights)
    {
        let at = if limit.is_some() { "/resources/limits/memory" } else { "/resources/memory" };
        let message = format!("a limit of {text} is less than the weights have: {}", size::mebibytes(model.weights));
        findings.unfit(at, message, &format!("a guess is {}", memory_of(model.weights)));
    }
    let needed = |name: &str, own: Option<&String>| {
        let of = |map: &std::collections::BTreeMap<String, crate::project::manifest::deploy::Quantity>| {
            map.get(name).map(ToString::to_string).or_else(|| own.cloned())
        };
        Some((size::quantity(&of(&resources.requests)?)?, size::quantity(&of(&resources.limits)?)?))
    };
    if request.is_some()
        && let Some((least, most)) = needed("memory", resources.memory.as_ref())
        && least > most
    {
        findings.unfit("/resources/requests/memory", "more memory is requested than is allowed", "");
    }
    let seconds = seconds_to_start(deploy, model.weights);
    if seconds == 0 {
        findings.unfit("/start", "a model cannot be ready before it has started", "leave it out, or say 1m");
    } else if deploy.start.is_some() && seconds < model.weights / (LOADED * 40) {
        let message = format!("{seconds} s are too few to read {} of weights", size::mebibytes(model.weights));
        findings.unfit("/start", message, "leave it out: it is set by their size");
    } else if seconds > LONGEST_START && deploy.start.is_some() {
        findings.unfit(
            "/start",
            "of a model that has an hour to start, nobody learns that it does not",
            "say at most 1h",
        );
    }
    for (at, written) in [
        ("/resources/memory", &resources.memory),
        ("/resources/cpu", &resources.cpu),
        ("/storage/size", &deploy.storage.as_ref().map(|storage| storage.size.clone())),
        ("/training/size", &deploy.training.as_ref().and_then(|training| training.size.clone())),
    ] {
        if written.as_deref().and_then(size::quantity).is_some_and(|quantity| quantity <= 0.0) {
            findings.unfit(at, "nothing is too little", "");
        }
    }
}

/// What the kind can do and what it needs.
fn kinds(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    let kind = deploy.kind();
    match (deploy.strategy, kind) {
        (Some(Strategy::Timeout), Kind::Service) => findings.unfit(
            "/strategy",
            "a Deployment does not go to no pods when nobody asks",
            "take `kind: knative` or `kind: keda`, or the operator (`ekiben operator`)",
        ),
        (Some(Strategy::Immediate), Kind::Knative) | (Some(Strategy::AlwaysOn) | None, _) => {}
        (Some(Strategy::Timeout), Kind::Knative | Kind::Keda | Kind::KServe) => {}
        (Some(Strategy::Immediate), _) => findings.unfit(
            "/strategy",
            "a container for each request is nothing that this kind does",
            "take `kind: knative`, or a job for each",
        ),
        (Some(Strategy::Timeout), Kind::Job | Kind::CronJob | Kind::Worker) => {
            findings.unfit("/strategy", "nobody asks it anything, so there is no last answer", "leave it out");
        }
    }
    if deploy.timeout.is_some() && deploy.strategy != Some(Strategy::Timeout) {
        findings.unfit("/timeout", "only `strategy: TIMEOUT` has a timeout", "");
    }
    match (&deploy.schedule, kind) {
        (None, Kind::CronJob) => {
            findings.unfit("/kind", "a cron job has no schedule", "write `schedule: \"*/10 * * * *\"`");
        }
        (Some(Schedule::Hours(_)), Kind::CronJob) => {
            findings.unfit(
                "/schedule",
                "a cron job has one time at which it begins",
                "write `schedule: \"0 7 * * 1-5\"`",
            );
        }
        (Some(Schedule::At(text)), Kind::CronJob) => cron("/schedule", text, findings),
        (Some(Schedule::Hours(hours)), Kind::Keda) => within_hours(hours, deploy, findings),
        (Some(_), _) => findings.unfit(
            "/schedule",
            "nothing here starts and stops at a time of the day",
            "take `kind: keda` with `{start: …, stop: …}`, or `kind: cronjob`",
        ),
        (None, _) => {}
    }
    if !deploy.triggers.is_empty() && kind != Kind::Keda {
        findings.unfit("/triggers", "only KEDA has triggers", "take `kind: keda`");
    }
    if deploy.counts_requests() && deploy.expose.is_none() {
        let message = "KEDA has nothing to scale by";
        findings.unfit("/kind", message, "write `triggers`, a `schedule`, or `expose: {host: …}` for its HTTP add-on");
    }
    let works = matches!(kind, Kind::Job | Kind::CronJob | Kind::Worker);
    if works && deploy.batch.is_none() && deploy.args.is_empty() {
        let message = "nothing says what it does";
        findings.unfit("/kind", message, "write `batch: {input: …, output: …}`, or `args`");
    }
    if !works && (deploy.batch.is_some() || !deploy.args.is_empty()) {
        let at = if deploy.batch.is_some() { "/batch" } else { "/args" };
        findings.unfit(
            at,
            "a service answers requests, and is given no other work",
            "take `kind: job`, `cronjob` or `worker`",
        );
    }
    if deploy.batch.is_some() && !model.has_functions {
        let message = "only functions that Ekiben serves can work off records";
        findings.unfit("/batch", message, "write the `args` of the model's own program");
    }
    if let Some(batch) = &deploy.batch {
        for (key, path) in [("input", &batch.input), ("output", &batch.output)] {
            let lies = deploy.volumes.iter().any(|volume| {
                path.starts_with(&format!("{}/", volume.path.trim_end_matches('/'))) || *path == volume.path
            });
            if !path.contains("://") && !lies && !path.starts_with("/tmp/") {
                let message = format!("`{path}` lies on none of the volumes");
                findings.unfit(&format!("/batch/{key}"), message, "write `volumes: [{claim: …, path: /data}]`");
            }
        }
    }
    if works && (deploy.autoscale.is_some() || deploy.autoscaling.is_some()) {
        findings.unfit("/kind", "nothing scales it", "leave out `autoscale`; `batch.parts` divides a job");
    }
    if works && deploy.expose.is_some() {
        findings.unfit("/expose", "nobody can ask it anything", "leave it out");
    }
    if deploy.network == Some(NetworkAccess::Closed) && !matches!(kind, Kind::Service | Kind::Keda) {
        findings.unfit("/network", "a NetworkPolicy is only written for a service", "");
    }
    let version = deploy.kubernetes();
    if version < OLDEST {
        findings.unfit(
            "/kubernetes",
            format!("Kubernetes {version} is older than what is written for"),
            &format!("the oldest is {OLDEST}"),
        );
    }
}

/// A time of cron's as clusters read it, who know fewer words than others.
fn cron(at: &str, text: &str, findings: &mut Findings) {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let why = match parser.parse(text) {
        Err(error) => error.to_string(),
        Ok(_) => match text.split_whitespace().enumerate().find_map(unknown_to_clusters) {
            Some(part) => format!("`{part}` means nothing in a cluster"),
            None => return,
        },
    };
    findings.unfit(at, format!("`{text}` is no time of cron's: {why}"), "five fields, as `0 7 * * 1-5`");
}

/// What a field of cron's has that its reader in clusters (robfig/cron) does not take: the 7th day, `L`, `W`, `#`.
fn unknown_to_clusters((number, field): (usize, &str)) -> Option<&str> {
    let mut parts = field.split(',').flat_map(|part| {
        let range = part.split_once('/').map_or(part, |(range, _)| range);
        range.split('-')
    });
    parts.find(|part| {
        let is_name = number > 2 && part.len() == 3 && part.chars().all(|c| c.is_ascii_alphabetic());
        let is_number = part.parse::<u8>().is_ok_and(|value| number != 4 || value < 7);
        !(matches!(*part, "*" | "?") || is_name || is_number)
    })
}

/// KEDA's trigger `cron`.
fn within_hours(hours: &Hours, deploy: &Deploy, findings: &mut Findings) {
    cron("/schedule/start", &hours.start, findings);
    cron("/schedule/stop", &hours.stop, findings);
    if hours.start == hours.stop {
        findings.unfit("/schedule/stop", "it would be stopped when it starts", "");
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || "_+-/".contains(c);
    if let Some(zone) = hours.zone.as_ref().filter(|zone| zone.is_empty() || !zone.chars().all(letters)) {
        let message = format!("`{zone}` is no time zone");
        findings.unfit("/schedule/zone", message, "write one as Europe/Berlin or UTC");
    }
    if deploy.strategy == Some(Strategy::AlwaysOn) {
        findings.unfit("/strategy", "what runs within hours is not always on", "leave out one of the two");
    }
}

/// What Knative, KEDA and KServe have of their own, and what their admissions refuse.
fn platforms(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    let kind = deploy.kind();
    if !matches!(kind, Kind::Knative | Kind::Keda | Kind::KServe) {
        return;
    }
    let from_none = *deploy.pods().start() == 0;
    if deploy.scaling().is_some() {
        match deploy.strategy {
            Some(Strategy::AlwaysOn) if from_none => {
                findings.unfit("/strategy", "what is always on has at least one pod", "begin `autoscale` with 1");
            }
            Some(Strategy::Timeout | Strategy::Immediate) if !from_none => {
                let message = "a model that is ended when nobody asks has no pods then";
                findings.unfit("/strategy", message, "begin `autoscale` with 0");
            }
            _ => {}
        }
    }
    if deploy.replicas == Some(0) {
        findings.unfit("/replicas", "there would never be a pod", "leave it out");
    }
    let metrics = deploy.scaling().map(|scaling| scaling.metrics).unwrap_or_default();
    let at = if deploy.autoscale.is_some() { "/autoscale/metrics" } else { "/autoscaling/metrics" };
    if metrics.iter().any(|metric| matches!(metric, Metric::Whole(_))) && kind != Kind::Knative {
        let help = match kind {
            Kind::Keda => "write `{cpu: 70}` or `{memory: 80}`, or one of `triggers`",
            _ => "write `{cpu: 70}` or `{memory: 80}`",
        };
        findings.unfit(at, "this platform does not know the metrics of a HorizontalPodAutoscaler", help);
    }
    match kind {
        Kind::Knative => upon_knative(deploy, model, "take `kind: service` or `kind: keda`", findings),
        Kind::KServe if from_none => upon_knative(deploy, model, "say `strategy: ALWAYS_ON`", findings),
        Kind::Keda => triggered(deploy, &metrics, at, findings),
        _ => {}
    }
    if kind == Kind::KServe {
        for (at, _) in variables(deploy).into_iter().filter(|(_, name)| *name == "PYTHONPATH") {
            findings.push(
                Code::BadVariable,
                at,
                "KServe does not let `PYTHONPATH` be set",
                "say it in the image: `env`",
            );
        }
    }
}

/// What Knative refuses, where nothing is said in its ConfigMap `config-features`; `help` is how to do without it.
fn upon_knative(deploy: &Deploy, model: &Model<'_>, help: &str, findings: &mut Findings) {
    if deploy.timeout.is_some_and(|seconds| seconds > LONGEST_TIMEOUT) {
        findings.unfit("/timeout", "Knative keeps pods that nobody asks for an hour at most", help);
    }
    let fields = [
        ("/nodes", "labels of nodes", deploy.nodes.is_empty()),
        ("/tolerations", "tolerations", deploy.tolerations.is_empty()),
        ("/volumes", "claims", deploy.volumes.is_empty()),
    ];
    for (at, what, _) in fields.into_iter().filter(|(.., is_empty)| !is_empty) {
        findings.unfit(at, format!("Knative takes no {what}, unless its administrator allows them"), help);
    }
    if deploy.scaling().is_some_and(|scaling| !scaling.metrics.is_empty()) {
        let at = if deploy.autoscale.is_some() { "/autoscale/metrics" } else { "/autoscaling/metrics" };
        findings.unfit(at, "Knative scales by requests, and by nothing else down to no pods", "leave out `metrics`");
    }
    for (at, name) in variables(deploy) {
        if VARIABLES_OF_KNATIVE.contains(&name.as_str()) {
            findings.push(Code::BadVariable, at, format!("Knative sets `{name}` itself"), "leave it out");
        }
    }
    if PORTS_OF_KNATIVE.contains(&model.port) {
        let message = format!("Knative has the port {} for itself in each pod", model.port);
        findings.unfit("/kind", message, "write another `port` below `service`");
    }
}

/// KEDA's triggers, and when it does not go to no pods.
fn triggered(deploy: &Deploy, metrics: &[Metric], at: &str, findings: &mut Findings) {
    let mut names = Vec::new();
    for (number, trigger) in deploy.triggers.iter().enumerate() {
        let at = format!("/triggers/{number}");
        if let Some(key) = trigger.keys().find(|key| !TRIGGER.contains(&key.as_str())) {
            let message = format!("a trigger of KEDA's has no `{key}`");
            findings.unfit(&format!("{at}{}", pointer([key.as_str()])), message, "what the type takes is `metadata`");
        }
        if text_of(trigger, "type").is_none_or(str::is_empty) {
            findings.unfit(&at, "a trigger of KEDA's has a `type`", "as `{type: prometheus, metadata: {…}}`");
        }
        match trigger.get("metadata") {
            Some(Value::Object(metadata)) => {
                for (key, value) in metadata.iter().filter(|(_, value)| !value.is_string()) {
                    let at = format!("{at}{}", pointer(["metadata", key]));
                    findings.unfit(
                        &at,
                        format!("KEDA takes only texts here, not {value}"),
                        &format!("write '{value}'"),
                    );
                }
            }
            _ => findings.unfit(&at, "a trigger of KEDA's has `metadata`", "as `{type: prometheus, metadata: {…}}`"),
        }
        if let Some(name) = text_of(trigger, "name") {
            if names.contains(&name) {
                findings.unfit(&format!("{at}/name"), format!("two triggers are called `{name}`"), "");
            }
            names.push(name);
        }
    }
    let is_used = |trigger: &Map<String, Value>| matches!(text_of(trigger, "type"), Some("cpu" | "memory"));
    let is_measured =
        metrics.iter().any(|metric| matches!(metric, Metric::Used(UsedMetric::Cpu(_) | UsedMetric::Memory(_))));
    let has_any = is_measured || !deploy.triggers.is_empty();
    if *deploy.pods().start() == 0 && has_any && deploy.schedule.is_none() && deploy.triggers.iter().all(is_used) {
        let at = if deploy.triggers.is_empty() { at } else { "/triggers" };
        let message = "by what pods use alone, KEDA does not go to no pods";
        findings.unfit(at, message, "begin `autoscale` with 1, or add another of `triggers`");
    }
}

fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn weights(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    let kind = deploy.kind();
    let is_upon_knative = kind == Kind::KServe && *deploy.pods().start() == 0;
    match deploy.models() {
        Models::Volume if kind == Kind::Knative => {
            let message = "Knative mounts no images, unless its administrator allows it";
            findings.unfit("/models", message, "take `image`, or `kind: service`");
        }
        Models::Volume if is_upon_knative && !model.has_functions => {
            let message = "upon Knative, KServe brings weights to /mnt/models, where only functions look for them";
            findings.unfit("/models", message, "take `image`, or say `strategy: ALWAYS_ON`");
        }
        Models::S3(_) | Models::Claim(_) | Models::Node if is_upon_knative => {
            let message = "Knative takes neither containers that run before, nor claims, nor labels of nodes";
            findings.unfit("/models", message, "take `image` or `volume`, or say `strategy: ALWAYS_ON`");
        }
        Models::Volume if deploy.kubernetes() < IMAGE_FOLDERS => {
            let message = format!(
                "a folder of an image is mounted from Kubernetes {IMAGE_FOLDERS} on, and this is for {}",
                deploy.kubernetes()
            );
            findings.unfit("/models", message, "say `kubernetes: \"1.33\"`, or where else the weights are");
        }
        Models::S3(_) | Models::Claim(_) | Models::Node if kind == Kind::Knative => {
            let message = "Knative takes neither containers that run before, nor claims, nor labels of nodes";
            findings.unfit("/models", message, "take `image`, or `kind: service` or `keda`");
        }
        Models::S3(_) if deploy.fetcher.is_none() => {
            let message = "nothing says which image fetches the weights";
            findings.unfit(
                "/models",
                message,
                "write `fetcher: {image: HOST/ekiben:VERSION}`: `ekiben self image` makes it",
            );
        }
        Models::Node if deploy.nodes.is_empty() => {
            let message = "nothing says on which nodes the weights are";
            findings.unfit("/models", message, "write the label of these nodes: `nodes: {models: iris}`");
        }
        _ => {}
    }
    let claims = matches!(deploy.models(), Models::Claim(_));
    for (at, is_there) in [("/fill", deploy.fill.is_some()), ("/storage", deploy.storage.is_some())] {
        if is_there && !claims {
            findings.unfit(at, "the weights are on no claim", "write `models: pvc:CLAIM`");
        }
    }
    if deploy.fill.is_some() && deploy.fetcher.is_none() {
        let message = "nothing says which image fetches the weights";
        findings.unfit("/fill", message, "write `fetcher: {image: HOST/ekiben:VERSION}`: `ekiben self image` makes it");
    }
    if let Some(storage) = &deploy.storage {
        shared(storage, deploy, findings);
        if storage.bucket.is_some() && deploy.fill.is_some() {
            findings.unfit("/fill", "a bucket is read where it lies, and is not filled", "leave out one of the two");
        }
    }
}

/// A claim that stands for that of another namespace, or lets others stand for it: volumes of Trident's.
fn shared(storage: &Storage, deploy: &Deploy, findings: &mut Findings) {
    for (number, namespace) in storage.share.iter().enumerate() {
        if namespace != "*" && (!is_subdomain(namespace) || namespace.contains('.')) {
            let message = format!("`{namespace}` cannot be the name of a namespace");
            findings.unfit(&format!("/storage/share/{number}"), message, "`*` is all of them");
        }
    }
    if storage.bucket.is_some() {
        for (at, is_there) in [
            ("/storage/share", !storage.share.is_empty()),
            ("/storage/shared", storage.shared.is_some()),
            ("/storage/class", storage.class.is_some()),
        ] {
            if is_there {
                findings.unfit(at, "a bucket is a volume of no StorageClass, and not one of Trident's", "leave it out");
            }
        }
    }
    let Some(text) = &storage.shared else { return };
    let at = "/storage/shared";
    let Some((namespace, _)) =
        text.split_once('/').filter(|(namespace, claim)| is_subdomain(namespace) && is_subdomain(claim))
    else {
        findings.unfit(at, "it is written as NAMESPACE/CLAIM", "");
        return;
    };
    match &deploy.namespace {
        None => findings.unfit(at, "a claim of another namespace needs to know its own", "write `namespace`"),
        Some(own) if own == namespace => {
            findings.unfit(at, "that claim is of this namespace", "name it in `models`, and leave out `storage`");
        }
        Some(_) => {}
    }
    if !storage.share.is_empty() {
        findings.unfit("/storage/share", "what stands for another claim cannot be shared on", "share the other one");
    }
    if deploy.fill.is_some() {
        findings.unfit("/fill", "what stands for another claim is filled there", "leave it out");
    }
}

/// Whether it is of a kind that answers in Deployments, beside which others train and take messages.
fn is_answering(deploy: &Deploy) -> bool {
    matches!(deploy.kind(), Kind::Service | Kind::Keda)
}

/// Whether the model is trained in the cluster, and lies on a claim then.
fn is_trained_there(deploy: &Deploy, Model { duties, is_trained, .. }: &Model<'_>) -> bool {
    let asked = deploy.training.as_ref().and_then(|training| training.job);
    is_answering(deploy) && (duties.learns || duties.trains && asked.unwrap_or(!is_trained))
}

/// How it is trained there, and what takes its messages.
fn trained(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    let Model { duties, is_trained, .. } = model;
    let needs = duties.has_messages() || duties.trains && !is_trained;
    if needs && matches!(deploy.kind(), Kind::Knative | Kind::KServe) {
        let what = if duties.has_messages() { "takes messages" } else { "is not trained yet" };
        let message =
            format!("a model that {what} runs as no such service: this platform starts and ends its pods itself");
        let help = match duties.has_messages() {
            true => "take `kind: service` or `kind: keda`",
            false => "take `kind: service`, or train it before: `ekiben train`",
        };
        findings.unfit("/kind", message, help);
    }
    if let Some(broker) = &deploy.messages {
        if !duties.has_messages() {
            let help = "leave it out, or write `messages` below `service` or `training`";
            findings.unfit("/messages", "no messages ask or train the model", help);
        } else if !is_answering(deploy) {
            findings.unfit("/messages", "only beside a service something takes messages", "leave it out");
        }
        if let Some(secret) = broker.secret.as_ref().filter(|name| !is_subdomain(name)) {
            findings.unfit("/messages/secret", format!("`{secret}` cannot be the name of a secret"), SUBDOMAIN);
        }
        if broker.replicas.is_some() && duties.consumes.is_empty() {
            let message = "no messages ask the model, and one alone learns from those that train it";
            findings.unfit("/messages/replicas", message, "leave it out");
        }
    }
    let named = if duties.has_messages() { variables(deploy) } else { Vec::new() };
    for (at, name) in named.into_iter().filter(|(_, name)| name.starts_with(BROKER)) {
        let message = format!("`{name}` would be known to the service, which does not need it");
        findings.push(Code::BadVariable, at, message, "name the secret: `messages: {secret: broker}`");
    }
    let Some(training) = &deploy.training else { return };
    let is_there = is_trained_there(deploy, model);
    if duties.output.is_none() {
        findings.unfit("/training", "the model is not trained", "leave it out, or write `training` in the manifest");
    } else if !is_answering(deploy) {
        findings.unfit("/training", "only beside a service a model is trained", "leave it out");
    }
    if training.job == Some(true) && duties.output.is_some() && !duties.trains {
        let message = "the model is trained by messages alone";
        findings.unfit("/training/job", message, "leave it out, or name a data set: `data` below `training`");
    }
    if training.job == Some(false) && is_answering(deploy) && duties.trains && !duties.learns && !is_trained {
        let message = "nothing would train the model, which has none";
        findings.unfit("/training/job", message, "leave it out, or train it before: `ekiben train`");
    }
    if let Some(claim) = &training.claim {
        if !is_subdomain(claim) {
            findings.unfit("/training/claim", format!("`{claim}` cannot be the name of a claim"), SUBDOMAIN);
        }
        for (at, is_said) in
            [("/training/size", training.size.is_some()), ("/training/class", training.class.is_some())]
        {
            if is_said {
                findings.unfit(at, "a claim that is there has its own", "leave it out, or `claim`");
            }
        }
    }
    if let Some(class) = training.class.as_ref().filter(|class| !is_subdomain(class)) {
        findings.unfit("/training/class", format!("`{class}` cannot be the name of a StorageClass"), SUBDOMAIN);
    }
    if training.data.is_some() {
        if duties.data.is_none() && duties.output.is_some() {
            let message = "the training has no data set";
            findings.unfit("/training/data", message, "name it in the manifest: `data` below `training`");
        } else if deploy.fetcher.is_none() && is_there {
            let help = "write `fetcher: {image: HOST/ekiben:VERSION}`: `ekiben self image` makes it";
            findings.unfit("/training/data", "nothing says which image fetches the data set", help);
        }
    }
    let time = training.time.as_ref().and_then(|time| time.meant().ok());
    if time.is_some_and(|time| time.seconds() < 1.0) {
        findings.unfit("/training/time", "nothing is trained in no time", "leave it out, or say 1h");
    }
}

fn exposed(deploy: &Deploy, model: &Model<'_>, findings: &mut Findings) {
    let Some(expose) = &deploy.expose else { return };
    match deploy.kind() {
        Kind::Knative | Kind::KServe => {
            let help = "leave it out: its own domain, or a DomainMapping, leads to it";
            findings.unfit("/expose", "this platform has its own way from outside", help);
        }
        _ => {}
    }
    if expose.gateway.is_some() && (expose.ingress.is_some() || expose.tls.is_some() || !expose.annotations.is_empty())
    {
        let at = if expose.ingress.is_some() {
            "/expose/ingress"
        } else if expose.tls.is_some() {
            "/expose/tls"
        } else {
            "/expose/annotations"
        };
        findings.unfit(at, "a Gateway has its own certificates and settings", "leave it out, or `gateway`");
    }
    if expose
        .gateway
        .as_ref()
        .is_some_and(|gateway| !gateway.split('/').all(is_subdomain) || gateway.split('/').count() > 2)
    {
        findings.unfit("/expose/gateway", "it is written as NAME or NAMESPACE/NAME", "");
    }
    if let Err(why) = host(&expose.host) {
        let message = format!("`{}` is no host's name: {why}", expose.host);
        findings.unfit("/expose/host", message, "a name as models.example.org, or *.example.org");
    }
    if expose.path.as_deref().is_some_and(|path| path.split('/').any(|part| part == "." || part == "..")) {
        findings.unfit("/expose/path", "`.` and `..` mean other paths", "write the path that is meant");
    }
    let root = model.root.unwrap_or("/");
    let path = expose.path.as_deref().unwrap_or(root);
    intercepted(deploy, expose, path != root, findings);
    if path != root && expose.gateway.is_none() && expose.ingress.as_deref() != Some("nginx") {
        let message = format!("requests for {path} would come to the service so, which answers at {root}");
        let help = format!(
            "write `root: {path}` below `service`, take a `gateway`, or `ingress: nginx`, which take the path away"
        );
        findings.unfit("/expose/path", message, &help);
    }
}

/// A name as Gateways and Ingresses take it: RFC 1123, with `*.` for any first part.
fn host(text: &str) -> Result<(), &'static str> {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    if bare.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("it is an address");
    }
    if !is_subdomain(bare) {
        return Err("its parts have letters, digits and `-`, the first and last a letter or digit");
    }
    Ok(())
}

/// The way through KEDA's HTTP add-on, which knows requests by host and path.
fn intercepted(deploy: &Deploy, expose: &Expose, is_rewritten: bool, findings: &mut Findings) {
    if !deploy.counts_requests() {
        if expose.interceptor.is_some() {
            let message = "requests go through no interceptor here";
            findings.unfit(
                "/expose/interceptor",
                message,
                "leave it out: it is of `kind: keda` without other triggers",
            );
        }
        return;
    }
    if let Some(text) = &expose.interceptor
        && !text.split_once('/').is_some_and(|(namespace, name)| is_subdomain(namespace) && is_subdomain(name))
    {
        findings.unfit("/expose/interceptor", "it is written as NAMESPACE/SERVICE", "");
    }
    if is_rewritten {
        let message = "KEDA's HTTP add-on would not see the path by which it knows the model";
        findings.unfit(
            "/expose/path",
            message,
            "write it as `root` below `service`, or give the model a host of its own",
        );
    }
    if expose.gateway.is_some() && deploy.namespace.is_none() {
        let message = "a route to the add-on, which is in another namespace, needs to know its own";
        findings.unfit("/expose/gateway", message, "write `namespace`");
    }
}
