//! The operator against a real API server, and its models on a real node.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::home::cluster::{Cluster, Namespace, VERSIONS, documents, fits};
use crate::home::registry::{Registry, skopeo_ok};
use crate::home::restricted::is_restricted;
use crate::home::servers::Server;
use crate::home::{Home, ask, free_port, install, program, ran, timed, tool, wait_until};

/// The kind's name for kubectl.
const KIND: &str = "aideployments.ai.ekiben.dev";

/// A folder that everybody can read, with the program and the operator beside it. Other tests' program has none.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = program().with_file_name("with-operator");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        install(program(), folder.join("ekiben"));
        install(env!("CARGO_BIN_EXE_ekiben-operator"), folder.join("ekiben-operator"));
        folder
    })
}

fn operator() -> Command {
    Command::new(programs().join("ekiben-operator"))
}

/// What `ekiben operator manifests` prints.
fn manifests(args: &[&str]) -> String {
    let mut command = Command::new(programs().join("ekiben"));
    ran(command.args([&["operator", "manifests", "--image", "registry.example/operator:1"], args].concat())).ok().out
}

/// The cluster knows the kind.
fn defined(cluster: &Cluster) {
    static DEFINED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let mut done = DEFINED.lock().unwrap();
    let this = cluster.kubeconfig().display().to_string();
    if !done.contains(&this) {
        let all = documents(&manifests(&[]));
        let definition = all.iter().find(|one| one["kind"] == "CustomResourceDefinition").unwrap();
        let namespace = cluster.namespace("defines");
        namespace.apply(&definition.to_string());
        ran(&mut cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/{KIND}")]))
            .ok();
        done.push(this);
    }
}

/// An operator that runs for one namespace.
struct Running<'a> {
    namespace: &'a Namespace<'a>,
    /// How it is started.
    args: Vec<String>,
    store: std::path::PathBuf,
    child: Child,
    log: tempfile::NamedTempFile,
    port: u16,
}

impl<'a> Running<'a> {
    fn start(home: &Home, namespace: &'a Namespace<'a>, more: &[&str]) -> Self {
        defined(namespace.cluster);
        let args: Vec<String> = more.iter().map(|arg| (*arg).to_owned()).collect();
        let log = tempfile::NamedTempFile::new().unwrap();
        let (child, port) = Self::spawned(namespace, &args, &home.store(), &log);
        Self { namespace, args, store: home.store(), child, log, port }
    }

    fn spawned(
        namespace: &Namespace<'_>,
        args: &[String],
        store: &std::path::Path,
        log: &tempfile::NamedTempFile,
    ) -> (Child, u16) {
        let port = free_port();
        let mut command = operator();
        let kubeconfig = namespace.cluster.kubeconfig();
        command.args(["run", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", &namespace.name]);
        command.args(["--lease-namespace", &namespace.name, "--listen", &format!("127.0.0.1:{port}")]).args(args);
        command.env("EKIBEN_HOME", store).stdin(Stdio::null()).stdout(Stdio::null());
        let file = fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        (command.stderr(file).process_group(0).spawn().unwrap(), port)
    }

    /// Its end without a warning, and a new one.
    fn killed_and_started(&mut self) {
        self.kill();
        (self.child, self.port) = Self::spawned(self.namespace, &self.args, &self.store, &self.log);
    }

    fn kill(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until the resource is as it should be.
    #[track_caller]
    fn wait_for(&self, name: &str, is_so: impl FnMut(&Value) -> bool) -> Value {
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.namespace.wait_for(&format!("{KIND}/{name}"), is_so)
        }));
        waited.unwrap_or_else(|reason| {
            eprintln!("{}", self.log());
            std::panic::resume_unwind(reason)
        })
    }

    #[track_caller]
    fn wait_for_phase(&self, name: &str, phase: &str) -> Value {
        self.wait_for(name, |found| {
            let status = &found["status"];
            status["phase"] == phase && status["observedGeneration"] == found["metadata"]["generation"]
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A resource.
fn resource(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "ai.ekiben.dev/v1alpha1", "kind": "AIDeployment", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// Bundles by HTTP: `tiny.ekiben`, and `steep.ekiben`, which has another line.
fn bundles(home: &Home) -> Server {
    home.tiny("tiny");
    fs::create_dir(home.path("there")).unwrap();
    home.run(["pack", "tiny", "-o", "there/tiny.ekiben"]).ok();
    let model = fs::read_to_string(home.path("tiny/model.json")).unwrap();
    home.tiny("steep");
    home.write("steep/model.json", model.replace("3.0", "30.0"));
    home.run(["pack", "steep", "-o", "there/steep.ekiben"]).ok();
    Server::of_files(home, "there")
}

/// What a model says.
fn answer(namespace: &Namespace<'_>, name: &str) -> Option<String> {
    let selector = format!("app.kubernetes.io/instance={name}");
    let address = namespace.addresses(&selector, 3000).pop()?;
    let (status, body) = ask(&address, "POST", "/predict", r#"{"x": 2}"#);
    (status == 200).then_some(body)
}

#[test]
fn a_resource_is_built_answers_changes_sleeps_wakes_and_goes() {
    let home = Home::warm();
    let server = bundles(&home);
    let registry = Registry::start();
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("life");
    let operator = Running::start(&home, &namespace, &["--build-here", "--address", &cluster.address()]);
    let spec = |bundle: &str, timeout: u32| {
        json!({
            "bundle": server.url(bundle),
            "registry": {"repository": registry.reference("tiny")},
            "strategy": "TIMEOUT",
            "timeout": timeout,
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        })
    };
    timed("from apply to ready", || {
        namespace.apply(&resource("tiny", &spec("tiny.ekiben", 3600)));
        operator.wait_for_phase("tiny", "Running");
    });
    assert_eq!(answer(&namespace, "tiny").unwrap(), "7.0");
    let found = namespace.get(&format!("{KIND}/tiny"));
    let status = &found["status"];
    let image = status["image"].as_str().unwrap().to_owned();
    assert!(image.starts_with(&format!("{}@sha256:", registry.reference("tiny"))), "{image}");
    assert_eq!(status["endpoint"], format!("http://tiny.{}.svc", namespace.name));
    ran(&mut namespace.kubectl(&["wait", "--for=condition=Ready", "--timeout=10s", &format!("{KIND}/tiny")])).ok();
    let table = ran(&mut namespace.kubectl(&["get", KIND])).ok().out;
    assert!(table.contains("PHASE") && table.contains("Running"), "{table}");
    let deployment = namespace.get("deployment/tiny");
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], image);
    is_restricted(&deployment.to_string());

    // Another model in its place: at no moment do both have pods.
    namespace.apply(&resource("tiny", &spec("steep.ekiben", 3600)));
    let mut both = false;
    operator.wait_for("tiny", |found| {
        let pods = namespace.list("pods", "app.kubernetes.io/instance=tiny");
        let images: BTreeSet<_> =
            pods.iter().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect();
        both |= images.len() > 1;
        found["status"]["phase"] == "Running" && found["status"]["image"] != image.as_str()
    });
    assert!(!both, "the old one had a pod beside the new one");
    assert_eq!(answer(&namespace, "tiny").unwrap(), "61.0");

    // Nobody asks.
    namespace.apply(&resource("tiny", &spec("steep.ekiben", 3)));
    operator.wait_for_phase("tiny", "Idle");
    namespace
        .wait_for("deployment/tiny", |found| found["spec"]["replicas"] == 0 && found["status"]["replicas"].is_null());

    // Somebody does, where the Service leads now.
    let slice = namespace.get("endpointslice/tiny-door");
    let (address, port) = (slice["endpoints"][0]["addresses"][0].as_str().unwrap(), &slice["ports"][0]["port"]);
    let door = format!("http://{address}:{port}");
    assert_eq!(ask(&door, "POST", "/predict", r#"{"x": 2}"#), (200, "61.0".to_owned()));
    wait_until("the end of the door", || {
        namespace.find("endpointslice/tiny-door").is_none() || {
            // By now it may have gone idle again.
            namespace.get(&format!("{KIND}/tiny"))["status"]["phase"] == "Idle"
        }
    });
    operator.wait_for_phase("tiny", "Idle");

    // All that was made goes with it.
    ran(&mut namespace.kubectl(&["delete", &format!("{KIND}/tiny"), "--timeout=60s"])).ok();
    wait_until("the end of its objects", || {
        namespace.list("deployments,services,pods,endpointslices,replicasets", "").is_empty()
    });
    let accounts = namespace.list("serviceaccounts", "");
    assert_eq!(accounts.len(), 1, "the namespace's own: {accounts:?}");
    let events = ran(&mut namespace.kubectl(&["get", "events.events.k8s.io"])).ok().out;
    for reason in ["Building", "Running", "Idle"] {
        assert!(events.contains(reason), "{reason}: {events}");
    }
    let metrics = ask(&format!("http://127.0.0.1:{}", operator.port), "GET", "/metrics", "").1;
    for line in ["ekiben_operator_leader 1\n", "ekiben_operator_builds_total 2\n"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// A stand-in for `ekiben ensure` that has every image at once, and notes when it begins and ends: what is called `broken` cannot be
/// built, `slow` takes long.
fn stand_in(home: &Home) -> String {
    let service = json!({"port": 3000, "ready": "/readyz", "live": "/livez", "metrics": "/metrics", "root": null, "grace": 8, "request": 1000});
    let target = json!({"name": "model", "version": "1", "image": "REPOSITORY@sha256:DIGEST", "models": null, "weights": {},
        "folder": "/models/model", "service": service, "has_python": true, "convention": "ekiben"});
    let report = json!({"target": target, "deploy": {}}).to_string();
    let script = format!(
        "#!/bin/sh\nset -eu\n\
         while [ \"$1\" != -- ]; do [ \"$1\" = --report ] && report=$2; shift; done\n\
         repository=$2; bundle=$3\n\
         echo \"begin $bundle\" >>'{notes}'\n\
         case $bundle in\n\
         *slow*) sleep 2 ;;\n\
         *broken*) echo 'error: it is broken' >&2; echo 'cause: by hand' >&2; exit 1 ;;\n\
         esac\n\
         digest=$(printf %s \"$bundle\" | sha256sum | cut -d' ' -f1)\n\
         printf %s '{report}' | sed \"s|REPOSITORY|$repository|; s|DIGEST|$digest|\" >\"$report\"\n\
         echo \"end $bundle\" >>'{notes}'\n",
        notes = home.path("notes"),
    );
    let path = home.write("stand-in", script);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    home.write("notes", "");
    path.to_str().unwrap().to_owned()
}

fn notes(home: &Home) -> Vec<String> {
    fs::read_to_string(home.path("notes")).unwrap().lines().map(str::to_owned).collect()
}

fn simple(bundle: &str) -> Value {
    json!({"bundle": format!("https://models.example/{bundle}.ekiben"), "registry": {"repository": "registry.example/models"}})
}

/// A policy that wants signatures of a key, and what signs an image with it.
fn policy(home: &Home) -> (String, impl Fn(&str)) {
    let with_password = |args: &[&str]| {
        let mut command = home.command(args);
        ran(command.env("COSIGN_PASSWORD", "correct horse")).ok();
    };
    with_password(&["key", "new", &home.path("release")]);
    let text = "keys: {release: release.pub}\nrules: [{images: ['**'], signed: [{by: [release]}]}]\n";
    let policy = home.write("ekiben-policy.yaml", text).display().to_string();
    let sign = move |image: &str| {
        let (host, _) = image.split_once('/').unwrap();
        with_password(&["sign", image, "--key", &home.path("release.key"), "--plain-http", host]);
    };
    (policy, sign)
}

/// The image of a resource that the policy does not let through, with its digest.
fn refused(namespace: &Namespace<'_>, name: &str) -> String {
    let found = namespace.wait_for(&format!("{KIND}/{name}"), |found| {
        let status = found["status"].to_string();
        status.contains("BuildFailed") && status.contains("no signature by release")
    });
    assert!(namespace.find(&format!("deployment/{name}")).is_none());
    let conditions = found["status"]["conditions"].to_string();
    let (before, _) = conditions.split_once(" is refused by ").unwrap();
    before.rsplit([' ', '"']).next().unwrap().to_owned()
}

#[test]
fn what_the_policy_does_not_let_through_is_not_deployed() {
    let home = Home::warm();
    let server = bundles(&home);
    let registry = Registry::start();
    let namespace = Cluster::shared().namespace("policy");
    let (policy, sign) = policy(&home);
    let operator = Running::start(&home, &namespace, &["--build-here", "--policy", &policy]);
    let spec = json!({"bundle": server.url("tiny.ekiben"), "registry": {"repository": registry.reference("tiny")}});
    namespace.apply(&resource("tiny", &spec));
    sign(&refused(&namespace, "tiny"));
    operator.wait_for_phase("tiny", "Starting");
    // One with mistakes is no policy that everything passes.
    home.write("ekiben-policy.yaml", "rules: [{images: ['**'], signed: [{by: [nobody]}]}]\n");
    for how in [["--build-here", "--policy"], ["--builder=x", "--policy"]] {
        let listen = format!("127.0.0.1:{}", free_port());
        let kubeconfig = namespace.cluster.kubeconfig();
        let mut command = self::operator();
        command.args(["run", "--listen", &listen, "--kubeconfig", kubeconfig.to_str().unwrap()]);
        ran(command.args(how).arg(&policy)).ends(2).says("there is no key `nobody`");
    }
}

#[test]
fn a_hundred_resources_come_and_go() {
    let home = Home::empty();
    let namespace = Cluster::shared().namespace("hundred");
    let args = ["--build-here", "--builds", "16", "--ekiben", &stand_in(&home)];
    let operator = Running::start(&home, &namespace, &args);
    let all: Vec<String> = (0..100)
        .map(|number| {
            let mut spec = simple(&format!("m{number}"));
            if number % 2 == 0 {
                spec["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 4});
            }
            resource(&format!("m{number}"), &spec)
        })
        .collect();
    timed("a hundred Deployments", || {
        namespace.apply(&all.join("\n---\n"));
        wait_until("a hundred Deployments", || namespace.list("deployments", "").len() == 100);
    });
    wait_until("their autoscalers", || namespace.list("horizontalpodautoscalers", "").len() == 50);
    let found = operator.wait_for("m7", |found| found["status"]["phase"] == "Starting");
    assert!(found["status"]["image"].as_str().unwrap().starts_with("registry.example/models@sha256:"));
    // What was built is not built again, whatever else changes.
    let mut spec = simple("m8");
    spec["replicas"] = json!(3);
    // The autoscaler goes with the wish for it.
    namespace.given(&["apply", "--server-side", "--force-conflicts"], &resource("m8", &spec)).ok();
    wait_until("the end of an autoscaler", || namespace.list("horizontalpodautoscalers", "").len() == 49);
    namespace.wait_for("deployment/m8", |found| found["spec"]["replicas"] == 3);
    // Somebody's hand is taken back.
    ran(&mut namespace.kubectl(&["delete", "deployment/m9", "service/m8"])).ok();
    ran(&mut namespace.kubectl(&["set", "image", "deployment/m8", "model=elsewhere.example/x:1"])).ok();
    namespace.wait_for("deployment/m9", |_| true);
    namespace.wait_for("deployment/m8", |found| {
        let image = found["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
        image.starts_with("registry.example/models@")
    });
    let notes = notes(&home);
    let begun: BTreeSet<_> = notes.iter().filter(|note| note.starts_with("begin")).collect();
    assert_eq!((begun.len(), notes.len()), (100, 200), "each was built once");
    timed("their end", || {
        ran(&mut namespace.kubectl(&["delete", KIND, "--all", "--timeout=120s"])).ok();
        wait_until("the end of all", || {
            namespace.list("deployments,services,horizontalpodautoscalers,poddisruptionbudgets", "").is_empty()
        });
    });
}

#[test]
fn whatever_is_killed_goes_on_and_nothing_is_built_twice_at_once() {
    let home = Home::empty();
    let namespace = Cluster::shared().namespace("killed");
    let mut operator =
        Running::start(&home, &namespace, &["--build-here", "--builds", "2", "--ekiben", &stand_in(&home)]);
    // Two resources that want the same, and one that is something else.
    for (name, bundle) in [("one", "slow-a"), ("two", "slow-a"), ("three", "b")] {
        namespace.apply(&resource(name, &simple(bundle)));
    }
    for moment in [0, 300, 900, 1700, 400, 100] {
        std::thread::sleep(Duration::from_millis(moment));
        operator.killed_and_started();
    }
    for name in ["one", "two", "three"] {
        operator.wait_for(name, |found| found["status"]["phase"] == "Starting");
        namespace.wait_for(&format!("deployment/{name}"), |_| true);
    }
    // Builds end with the operator: what was begun did not end before the next one began, or it ended.
    let notes = notes(&home);
    let ended = |bundle: &str| notes.iter().filter(|note| note.starts_with("end") && note.contains(bundle)).count();
    assert!((1..=2).contains(&ended("slow-a")), "{notes:?}");
    let image = |name: &str| namespace.get(&format!("{KIND}/{name}"))["status"]["image"].clone();
    assert_eq!(image("one"), image("two"));
    // Killed while it sees to what is there, or to what is to go.
    let before = namespace.get("deployment/three")["spec"]["template"].clone();
    namespace.given(&["apply", "--server-side", "--force-conflicts"], &resource("three", &simple("slow-c"))).ok();
    std::thread::sleep(Duration::from_millis(500));
    operator.killed_and_started();
    ran(&mut namespace.kubectl(&["delete", &format!("{KIND}/one")])).ok();
    operator.killed_and_started();
    let is_other = |found: &Value| found["spec"]["template"] != before;
    namespace.wait_for("deployment/three", is_other);
    wait_until("the end of one", || namespace.find("deployment/one").is_none());
    assert!(namespace.find("deployment/two").is_some());
}

#[test]
fn one_of_two_operators_works_and_the_other_takes_over() {
    let home = Home::empty();
    let namespace = Cluster::shared().namespace("lease");
    let script = stand_in(&home);
    let args = |name: &'static str| ["--build-here", "--ekiben", &script, "--identity", name].map(str::to_owned);
    let args = [args("first"), args("second")];
    let slices = args.each_ref().map(|args| args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut first = Running::start(&home, &namespace, &slices[0]);
    let leads = |operator: &Running<'_>| {
        let address = format!("http://127.0.0.1:{}", operator.port);
        let is_up = std::net::TcpStream::connect(("127.0.0.1", operator.port)).is_ok();
        is_up && ask(&address, "GET", "/metrics", "").1.contains("ekiben_operator_leader 1\n")
    };
    wait_until("the first", || leads(&first));
    let second = Running::start(&home, &namespace, &slices[1]);
    let ready = |operator: &Running<'_>| {
        let is_up = std::net::TcpStream::connect(("127.0.0.1", operator.port)).is_ok();
        is_up && ask(&format!("http://127.0.0.1:{}", operator.port), "GET", "/readyz", "").0 == 200
    };
    wait_until("the second, which waits", || ready(&second));
    namespace.apply(&resource("one", &simple("one")));
    namespace.wait_for("deployment/one", |_| true);
    assert!(!leads(&second));
    first.kill();
    let since = Instant::now();
    namespace.apply(&resource("two", &simple("two")));
    namespace.wait_for("deployment/two", |_| true);
    assert!(leads(&second));
    // Not before the first one's time is over.
    assert!(since.elapsed() > Duration::from_secs(8), "{:?}", since.elapsed());
    let lease = namespace.get("lease/ekiben-operator.ai.ekiben.dev");
    assert_eq!(lease["spec"]["holderIdentity"], "second");
}

#[test]
fn what_cannot_be_is_refused_or_said_and_nothing_of_others_is_touched() {
    let home = Home::empty();
    let namespace = Cluster::shared().namespace("wrong");
    let operator = Running::start(&home, &namespace, &["--build-here", "--ekiben", &stand_in(&home)]);
    // By the API server.
    let good = simple("good");
    for (pointer, value) in [
        ("/bundle", json!("/etc/passwd")),
        ("/bundle", json!("file:///etc/passwd")),
        ("/bundle", json!("--help")),
        ("/bundle", json!("https://models.example/a b")),
        ("/bundle", json!("")),
        ("/registry/repository", json!("registry.example/models:1")),
        ("/registry/repository", json!("models")),
        ("/registry/repository", json!("--help/x")),
        ("/strategy", json!("SOMETIMES")),
        ("/timeout", json!(0)),
        ("/replicas", json!(-1)),
        ("/autoscaling", json!({"minReplicas": 0, "maxReplicas": 1})),
        ("/resources", json!({"limits": {"memory": "much"}})),
    ] {
        let mut spec = good.clone();
        match pointer.strip_prefix("/registry/") {
            Some(field) => spec["registry"][field] = value.clone(),
            None => spec[&pointer[1..]] = value.clone(),
        }
        let said = namespace.given(&["create"], &resource("wrong", &spec));
        assert!(said.code == Some(1), "{pointer} = {value} was taken");
    }
    // By the operator, in words.
    let told = |name: &str, spec: &Value, reason: &str| {
        namespace.apply(&resource(name, spec));
        let found = operator.wait_for(name, |found| {
            let conditions = found["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|one| one["type"] == "Ready" && one["reason"] == reason)
        });
        let conditions = found["status"]["conditions"].as_array().unwrap().clone();
        conditions.iter().find(|one| one["type"] == "Ready").unwrap()["message"].as_str().unwrap().to_owned()
    };
    let mut secret = good.clone();
    secret["bundle"] = json!("https://someone:hunter2@models.example/x.ekiben");
    assert!(told("secret", &secret, "InvalidSpec").contains("is a secret"));
    let mut each = good.clone();
    each["strategy"] = json!("IMMEDIATE");
    assert!(told("each", &each, "Unsupported").contains("knative"));
    let mut job = good.clone();
    job["deploy"] = json!({"kind": "job"});
    assert!(told("job", &job, "Unsupported").contains("deploy.kind"));
    let mut odd = good.clone();
    odd["deploy"] = json!({"replicsa": 1});
    assert!(told("odd", &odd, "InvalidSpec").contains("replicsa"));
    let mut wide = good.clone();
    wide["autoscaling"] = json!({"minReplicas": 4, "maxReplicas": 2});
    assert!(told("wide", &wide, "InvalidSpec").contains("deploy"));
    let why = told("broken", &simple("broken"), "BuildFailed");
    assert_eq!(why, "error: it is broken cause: by hand");
    // Somebody else's Deployment of that name stays as it is.
    let theirs = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "taken"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "theirs"}},
        "template": {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "x", "image": "theirs"}]}}}});
    namespace.apply(&theirs.to_string());
    let before = namespace.get("deployment/taken")["metadata"]["resourceVersion"].clone();
    assert!(told("taken", &good, "NameTaken").contains("not this resource's"));
    assert_eq!(namespace.get("deployment/taken")["metadata"]["resourceVersion"], before);
    // And one that is right is none the worse for it.
    namespace.apply(&resource("good", &good));
    namespace.wait_for("deployment/good", |_| true);
    let events = ran(&mut namespace.kubectl(&["get", "events.events.k8s.io", "--output", "json"])).ok().out;
    assert!(events.contains("BuildFailed"), "{events}");
    for text in [events, operator.log(), namespace.get(&format!("{KIND}/secret"))["status"].to_string()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // A failed build is tried again, after a pause.
    wait_until("another try", || {
        notes(&home).iter().filter(|note| *note == "begin https://models.example/broken.ekiben").count() > 1
    });
}

#[test]
fn what_installs_the_operator_is_restricted_and_enough() {
    let home = Home::empty();
    let cluster = Cluster::shared();
    let all = manifests(&["--replicas", "2"]);
    is_restricted(&all);
    VERSIONS.into_iter().for_each(|version| fits(&all, version));
    assert_eq!(manifests(&["--replicas", "2"]), all);
    ran(operator().arg("manifests")).ends(2).says("--image");
    ran(operator().args(["manifests", "--image", "x", "--group", "nothing"])).ends(2).says("`nothing` is no group");
    let listen = format!("127.0.0.1:{}", free_port());
    ran(operator().args(["run", "--build-here", "--listen", &listen, "--kubeconfig", "/nowhere"]))
        .ends(1)
        .says("there is no cluster");
    let all = documents(&all);
    let rules = all.iter().flat_map(|one| one["rules"].as_array().cloned().unwrap_or_default());
    let things = rules.flat_map(|rule| rule["resources"].as_array().cloned().unwrap_or_default());
    let things: BTreeSet<_> = things.map(|thing| thing.as_str().unwrap().to_owned()).collect();
    assert!(things.len() > 10 && !things.contains("secrets") && !things.contains("*"), "{things:?}");
    // With no more rights than these, in one namespace.
    let namespace = cluster.namespace("installed");
    defined(cluster);
    let own = manifests(&["--namespace", &namespace.name, "--only", &namespace.name]);
    assert!(!own.contains("ClusterRole"), "{own}");
    let objects: Vec<_> = documents(&own)
        .into_iter()
        .filter(|one| one["kind"] != "Namespace" && one["kind"] != "CustomResourceDefinition")
        .collect();
    namespace.apply(&objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n"));
    let account = namespace.wait_for("serviceaccount/ekiben-operator", |found| found["secrets"][0]["name"].is_string());
    let secret = namespace.get(&format!("secret/{}", account["secrets"][0]["name"].as_str().unwrap()));
    let script = "import base64, sys; print(base64.b64decode(sys.argv[1]).decode(), end='')";
    let token = ran(Command::new("python3").args(["-c", script, secret["data"]["token"].as_str().unwrap()])).ok().out;
    let admin = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let (head, rest) = admin.split_once("{token: ").unwrap();
    let kubeconfig = home.write("kubeconfig", format!("{head}{{token: {token}{}", &rest[rest.find('}').unwrap()..]));
    let port = free_port();
    let mut command = operator();
    command.args(["run", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", &namespace.name]);
    command.args(["--lease-namespace", &namespace.name, "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--build-here", "--ekiben", &stand_in(&home), "--address", "10.9.8.7"]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = command.stdin(Stdio::null()).stderr(log.reopen().unwrap()).process_group(0).spawn().unwrap();
    let running = Running { namespace: &namespace, args: Vec::new(), store: home.store(), child, log, port };
    let mut spec = simple("all");
    spec["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 3});
    spec["deploy"] = json!({"network": "closed", "expose": {"host": "models.example", "ingress": "nginx"}});
    namespace.apply(&resource("all", &spec));
    for kind in ["deployment", "service", "serviceaccount", "networkpolicy", "ingress", "poddisruptionbudget"] {
        namespace.wait_for(&format!("{kind}/all"), |_| true);
    }
    running.wait_for("all", |found| found["status"]["phase"] == "Starting");
    wait_until("an event", || !namespace.list("events.events.k8s.io", "").is_empty());
    let log = running.log();
    assert!(!log.contains("orbidden"), "{log}");
}

/// Helm itself fills templates in with more; these have no more than values.
#[test]
fn a_chart_says_the_same() {
    let home = Home::empty();
    let mut chart = Command::new(programs().join("ekiben"));
    chart.args([
        "operator",
        "manifests",
        "--helm",
        "chart",
        "--image",
        "registry.example/operator:1",
        "--replicas",
        "2",
    ]);
    ran(chart.current_dir(home.folder())).ok();
    let values = documents(&fs::read_to_string(home.path("chart/values.yaml")).unwrap()).remove(0);
    let about = documents(&fs::read_to_string(home.path("chart/Chart.yaml")).unwrap()).remove(0);
    assert_eq!((&about["apiVersion"], &about["name"]), (&json!("v2"), &json!("ekiben-operator")));
    let filled = |text: String| {
        text.replace("{{ .Values.image }}", values["image"].as_str().unwrap())
            .replace("{{ .Values.builder | default .Values.image }}", values["image"].as_str().unwrap())
            .replace("{{ .Values.replicas }}", &values["replicas"].to_string())
            .replace("{{ .Release.Namespace }}", "ekiben-operator")
    };
    let mut found = Vec::new();
    for folder in ["crds", "templates"] {
        for name in crate::home::names(&home.folder().join("chart").join(folder)) {
            let text = filled(fs::read_to_string(home.path(&format!("chart/{folder}/{name}"))).unwrap());
            assert!(!text.contains("{{"), "{text}");
            found.extend(documents(&text));
        }
    }
    let mut plain = documents(&manifests(&["--replicas", "2"]));
    plain.retain(|one| one["kind"] != "Namespace");
    let key = |one: &Value| format!("{} {}", one["kind"], one["metadata"]["name"]);
    found.sort_by_key(key);
    plain.sort_by_key(key);
    assert_eq!(found, plain);
}

#[test]
fn models_are_deployed_into_another_cluster_and_go_from_there() {
    let home = Home::empty();
    let here = Cluster::shared().namespace("here");
    let there = Cluster::start();
    ran(&mut there.kubectl(&["create", "namespace", &here.name])).ok();
    let kubeconfig = there.kubeconfig();
    let args = ["--build-here", "--ekiben", &stand_in(&home), "--target-kubeconfig", kubeconfig.to_str().unwrap()];
    let mut operator = Running::start(&home, &here, &args);
    here.apply(&resource("far", &simple("far")));
    let far = |name: &str| {
        let mut command =
            there.kubectl(&["--namespace", &here.name, "get", name, "--ignore-not-found", "--output", "json"]);
        let found = ran(&mut command).ok();
        (!found.out.is_empty()).then(|| found.json())
    };
    wait_until("the Deployment", || far("deployment/far").is_some());
    assert!(far("deployment/far").unwrap()["metadata"]["ownerReferences"].is_null());
    assert!(here.find("deployment/far").is_none());
    operator.wait_for("far", |found| found["status"]["phase"] == "Starting");
    // Killed before it has seen that there is something to delete.
    operator.kill();
    ran(&mut here.kubectl(&["delete", &format!("{KIND}/far"), "--wait=false"])).ok();
    operator.killed_and_started();
    wait_until("the end of the resource", || here.find(&format!("{KIND}/far")).is_none());
    assert!(far("deployment/far").is_none() && far("service/far").is_none() && far("serviceaccount/far").is_none());
}

/// The whole of it as people install it: Ekiben's own image, the operator in a pod, a build in a Job of the restricted profile.
#[test]
fn the_operator_lives_in_its_cluster_and_builds_there() {
    let home = Home::warm();
    let cluster = Cluster::shared_with_node();
    defined(cluster);
    let namespace = cluster.namespace("inside");
    let registry = Registry::start();
    let address = cluster.opened(registry.port);
    cluster.pulls_from(&address);
    crate::home::images::docker_archive(&home.folder().join("base.tar"));
    let base = format!("{address}/base:1");
    let from = format!("docker-archive:{}", home.path("base.tar"));
    skopeo_ok(&["copy", "-q", "--dest-tls-verify=false", &from, &format!("docker://{base}")]);
    let command = ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/models/box"];
    let manifest = json!({"name": "box", "version": "1", "base": base, "model": {"files": ["readyz"]},
        "service": {"command": command, "ready": "/readyz"}});
    home.write("box/ekiben.json", manifest.to_string());
    home.write("box/readyz", "it stands\n");
    home.write("there/nothing", "");
    home.run(["pack", "box", "-o", "there/box.ekiben", "--plain-http", &address]).ok();
    let server = Server::of_files(&home, "there");
    let files = cluster.opened(server.port);

    // The programs without what debuggers want, which is most of them.
    fs::create_dir(home.path("programs")).unwrap();
    for name in ["ekiben", "ekiben-operator"] {
        ran(tool("strip").arg("-o").arg(home.path(&format!("programs/{name}"))).arg(programs().join(name))).ok();
    }
    let mut own = Command::new(home.path("programs/ekiben"));
    ran(own.args(["self", "image", "-t", "own:1"]).env("EKIBEN_HOME", home.store()).current_dir(home.folder())).ok();
    let image = cluster.import(&home, "own:1");
    let (policy, sign) = policy(&home);
    let own = ["--image", &image, "--namespace", &namespace.name, "--only", &namespace.name, "--policy", &policy];
    let mut command = Command::new(programs().join("ekiben"));
    let installed = ran(command.args(["operator", "manifests"]).args(own)).ok().out;
    let is_ours = |one: &Value| one["kind"] != "Namespace" && one["kind"] != "CustomResourceDefinition";
    let mut objects: Vec<_> = documents(&installed).into_iter().filter(is_ours).collect();
    let deployment = objects.iter_mut().find(|one| one["kind"] == "Deployment").unwrap();
    let variables = &mut deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    variables.as_array_mut().unwrap().push(json!({"name": "EKIBEN_PLAIN_HTTP", "value": address}));
    namespace.apply(&objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n"));
    namespace.wait_for_rollout("ekiben-operator");

    let spec = json!({"bundle": format!("http://{files}/box.ekiben"), "registry": {"repository": format!("{address}/models/box")}});
    namespace.apply(&resource("box", &spec));
    sign(&refused(&namespace, "box"));
    let mut seen = Vec::new();
    let found = namespace.wait_for(&format!("{KIND}/box"), |found| {
        let jobs = namespace.list("jobs", "");
        assert!(jobs.len() <= 1, "{jobs:?}");
        seen.extend(jobs);
        let status = &found["status"];
        status["phase"] == "Running"
    });
    let job = seen.first().expect("a Job").to_string();
    is_restricted(&job);
    VERSIONS.into_iter().for_each(|version| fits(&job, version));
    let image = found["status"]["image"].as_str().unwrap();
    assert!(image.starts_with(&format!("{address}/models/box@sha256:")), "{image}");
    let address = namespace.addresses("app.kubernetes.io/instance=box", 3000).pop().unwrap();
    assert_eq!(ask(&address, "GET", "/readyz", ""), (200, "it stands\n".to_owned()));
    wait_until("the end of the Job", || namespace.list("jobs", "").is_empty());
    ran(&mut namespace.kubectl(&["delete", &format!("{KIND}/box"), "--timeout=60s"])).ok();
    wait_until("the end of its objects", || {
        namespace.find("deployment/box").is_none() && namespace.find("service/box").is_none()
    });
}
