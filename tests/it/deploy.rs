//! `ekiben deploy`: what it writes is what clusters take, old and new; what they would refuse is said before; and it runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::cluster::{Cluster, Namespace, VERSIONS, documents, fits};
use crate::home::registry::Registry;
use crate::home::restricted::is_restricted;
use crate::home::servers::Server;
use crate::home::{Home, ask, free_port, python_program, ran, wait_until};

/// The oldest version that is written for: its words are those that the real cluster takes in `kubectl.py`'s translation.
const OLD: &str = "1.25";

/// A home with the tiny model, whose image is in a registry.
pub struct Deployer {
    pub home: Home,
    registry: Registry,
    /// By digest.
    pub image: String,
}

impl Deployer {
    pub fn new() -> Self {
        let (home, registry) = (Home::warm(), Registry::start());
        home.tiny("tiny");
        let named = registry.reference("tiny");
        let digest = home.run(["ensure", &named, "tiny"]).ok().out.trim().to_owned();
        Self { image: format!("{named}@{digest}"), home, registry }
    }

    /// What it prints for the image, the same each time.
    #[track_caller]
    pub fn yaml(&self, args: &[&str]) -> String {
        let args = [&["deploy", &self.image], args].concat();
        let yaml = self.home.run(&args).ok().out;
        assert_eq!(yaml, self.home.run(&args).ok().out, "{args:?}");
        yaml
    }

    /// `ekiben deploy` of the project, in a namespace of a cluster.
    fn command(&self, namespace: &Namespace<'_>, args: &[&str]) -> Command {
        let push = self.registry.reference("tiny");
        let of = ["deploy", "tiny", "--push", &push, "--namespace", &namespace.name, "--kubernetes", OLD];
        let mut command = self.home.command([&of, args].concat());
        namespace.cluster.known_to(&mut command);
        command
    }
}

/// Those that Kubernetes itself knows.
pub fn of_kubernetes(yaml: &str) -> String {
    let known = |document: &&str| {
        let version = document.lines().find_map(|line| line.strip_prefix("apiVersion: ")).unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        !version.is_empty() && (!group.contains('.') || group.ends_with(".k8s.io") && !group.starts_with("gateway."))
    };
    yaml.split("---\n").filter(known).map(|document| format!("---\n{document}")).collect()
}

/// What the core kinds are asked for, in all ways that go together.
const WAYS: [&[&str]; 14] = [
    &[],
    &["--replicas", "3", "--label", "team=botany", "--env", "A=b", "--secret", "s", "--node", "gpu=a100"],
    &["--autoscale", "1..4", "--host", "m.example.org", "--prefix", "/tiny", "--ingress", "nginx", "--tls", "cert"],
    &["--gpus", "1", "--memory", "2Gi", "--cpu", "2", "--start-within", "10m"],
    &["--settings", "konfuzio.json"],
    &["--settings", "all.yaml"],
    &["--settings", "job.yaml"],
    &["--settings", "cron.yaml"],
    &["--settings", "worker.yaml"],
    &["--models", "s3://weights/tiny/", "--fetcher", "registry.example/ekiben:1"],
    &["--settings", "s5cmd.yaml"],
    &["--settings", "claim.yaml"],
    &["--settings", "bucket.yaml"],
    &["--models", "node", "--node", "models=tiny"],
];

fn settings(home: &Home) {
    // As Konfuzio has it.
    let konfuzio = json!({
        "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 75}}},
        ]},
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    });
    home.write("konfuzio.json", konfuzio.to_string());
    for (name, text) in [
        (
            "all.yaml",
            "name: all\nlabels: {a/b: c}\nannotations: {d: e}\nenv: {X: y}\n\
             secrets: [whole, {name: some, variables: {PASSWORD: password}}, {name: files, path: /secrets/files}]\n\
             account: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::1:role/x'}}\npull: [registry]\n\
             autoscale: {min: 2, max: 5, metrics: [{cpu: 60}, {memory: 80}]}\nnetwork: closed\n\
             tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]\n\
             volumes: [{claim: data, path: /data, folder: x, readonly: true}]\n\
             expose: {host: m.example.org, annotations: {cert-manager.io/cluster-issuer: x}}\n",
        ),
        (
            "job.yaml",
            "kind: job\nbatch: {input: /data/in.jsonl, output: /data/out.jsonl, parts: 4}\nvolumes: [{claim: data, path: /data}]\n",
        ),
        (
            "cron.yaml",
            "kind: cronjob\nschedule: '*/10 * * * *'\nbatch: {input: /data/in, output: /data/out.csv, function: explain}\n\
             volumes: [{claim: data, path: /data}]\n",
        ),
        ("worker.yaml", "kind: worker\nreplicas: 2\nargs: [python, -m, my_worker]\n"),
        (
            "s5cmd.yaml",
            "models: s3://weights/tiny/\nfetcher: {image: 'peakcom/s5cmd:v2.2.2', program: s5cmd}\nnetwork: closed\n",
        ),
        (
            "claim.yaml",
            "namespace: b\nmodels: pvc:weights\nfill: s3://weights/tiny/\nfetcher: {image: 'registry.example/ekiben:1'}\n\
             storage: {class: efs, size: 10Gi, share: [c]}\n",
        ),
        ("bucket.yaml", "namespace: b\nmodels: pvc:weights\nstorage: {size: 1Ti, bucket: weights}\n"),
    ] {
        home.write(name, text);
    }
}

#[test]
fn what_is_written_fits_strict_schemas_the_restricted_profile_and_a_real_api_server() {
    let deployer = Deployer::new();
    settings(&deployer.home);
    let mut newer = String::new();
    for args in WAYS {
        let yaml = deployer.yaml(args);
        is_restricted(&yaml);
        newer += &yaml;
        let namespace = Cluster::shared().namespace("ways");
        let old = deployer.yaml(&[args, &["--namespace", &namespace.name, "--kubernetes", OLD]].concat());
        // It came with 1.21.
        let old = old.replace("  completionMode: Indexed\n", "");
        namespace.apply(&old);
        let versions = || {
            let kinds = "deployments,services,serviceaccounts,jobs,cronjobs,horizontalpodautoscalers,ingresses,networkpolicies,\
                         persistentvolumeclaims,poddisruptionbudgets";
            let listed = namespace.list(kinds, "app.kubernetes.io/managed-by=ekiben");
            let of = |one: &Value| (one["kind"].to_string(), one["metadata"]["generation"].as_u64());
            listed.iter().map(of).collect::<Vec<_>>()
        };
        let first = versions();
        assert!(!first.is_empty(), "{args:?}");
        namespace.apply(&old);
        assert_eq!(versions(), first, "{args:?}");
        let _ = ran(&mut namespace.cluster.kubectl(&["delete", "persistentvolumes", "--all", "--wait=false"]));
    }
    VERSIONS.into_iter().for_each(|version| fits(&of_kubernetes(&newer), version));
    // What only newer versions have.
    let volume = ["--models", "volume", "--kubernetes", "1.37", "--models-image", &deployer.image];
    let volume = deployer.yaml(&volume);
    fits(&of_kubernetes(&volume), "1.37");
    is_restricted(&volume);
    let pod = &documents(&volume)[1]["spec"]["template"]["spec"];
    let mount = &pod["containers"][0]["volumeMounts"][1];
    assert_eq!((&mount["mountPath"], &mount["subPath"]), (&json!("/models/tiny"), &json!("models/tiny")));
}

#[test]
fn a_folder_has_a_file_for_each_object_that_kubectl_takes_as_a_whole() {
    let deployer = Deployer::new();
    let said = deployer.home.run(["deploy", &deployer.image, "-o", "out", "--kubernetes", OLD]).ok();
    let files = ["serviceaccount-tiny.yaml", "deployment-tiny.yaml", "service-tiny.yaml", "kustomization.yaml"];
    assert_eq!(said.out.lines().collect::<Vec<_>>(), files.map(|name| format!("out/{name}")));
    let namespace = Cluster::shared().namespace("folder");
    ran(&mut namespace.kubectl(&["apply", "--server-side", "-k", &deployer.home.path("out")])).ok();
    assert_eq!(namespace.get("deployment/tiny")["spec"]["replicas"], 1);
}

#[test]
fn what_a_policy_refuses_is_not_written_for_a_cluster() {
    let deployer = Deployer::new();
    let Deployer { home, image, .. } = &deployer;
    let with_password = |args: &[&str]| ran(home.command(args).env("COSIGN_PASSWORD", "correct horse")).ok();
    with_password(&["key", "new", &home.path("k")]);
    let text = "keys: {k: k.pub}\nrules: [{images: ['**'], signed: [{by: [k]}], commands: none, pickles: harmless}]\n";
    let policy = home.write("ekiben-policy.yaml", text).display().to_string();
    let deploy = |more: &[&str]| home.run([&["deploy", image, "--policy", &policy], more].concat());
    let refused = deploy(&["-o", "out"]).ends(8).says("no signature by k");
    assert!(refused.out.is_empty() && !home.folder().join("out").exists());
    with_password(&["sign", image, "--key", &home.path("k.key")]);
    assert!(deploy(&[]).ok().out.contains(image));
}

#[test]
fn what_others_have_set_is_not_taken_from_them_silently() {
    let deployer = Deployer::new();
    let namespace = Cluster::shared().namespace("owners");
    let run = |args: &[&str]| ran(&mut deployer.command(&namespace, args));
    let all = run(&["--diff"]).ends(4);
    assert!(all.out.contains("kind: Deployment"), "{}", all.out);
    assert_eq!(run(&["--apply"]).ok().out.lines().count(), 3);
    run(&["--diff"]).ok();
    let generation = || namespace.get("deployment/tiny")["metadata"]["generation"].clone();
    let first = generation();
    run(&["--apply"]).ok();
    assert_eq!(generation(), first, "applied again, nothing changes");
    let changed = run(&["--diff", "--env", "A=b"]).ends(4);
    assert!(changed.out.contains("+ ") && changed.out.contains("name: A"), "{}", changed.out);
    run(&["--apply", "--env", "A=b"]).ok();
    assert_ne!(generation(), first);

    // Stopped and started again; with an autoscaler, whose number is its own.
    for more in [&["--replicas", "2"][..], &["--autoscale", "2..3"]] {
        run(&[&["--apply"], more].concat()).ok();
        run(&[&["--stop"], more].concat()).ok();
        assert_eq!(namespace.get("deployment/tiny")["spec"]["replicas"], 0);
        run(&[&["--start"], more].concat()).ok();
        assert_ne!(namespace.get("deployment/tiny")["spec"]["replicas"], 0);
    }

    // What was there before and is not wished any more goes.
    let said = run(&["--apply", "--replicas", "2", "--", "--force-conflicts"]).ok();
    assert!(said.out.contains("horizontalpodautoscaler") && said.out.contains("deleted"), "{}", said.out);
    assert!(namespace.find("horizontalpodautoscaler/tiny").is_none());
    let patch = ["patch", "deployment/tiny", "--field-manager", "other", "--patch", r#"{"spec": {"replicas": 5}}"#];
    ran(&mut namespace.kubectl(&patch)).ok();
    run(&["--apply", "--replicas", "2"]).ends(4).says("conflict").says("--force-conflicts");
    assert_eq!(namespace.get("deployment/tiny")["spec"]["replicas"], 5);
    run(&["--apply", "--replicas", "2", "--", "--force-conflicts"]).ok();
    assert_eq!(namespace.get("deployment/tiny")["spec"]["replicas"], 2);
    run(&["--delete"]).ok();
    assert!(namespace.find("deployment/tiny").is_none() && namespace.find("service/tiny").is_none());
    run(&["--delete"]).ok();
}

#[test]
fn what_no_cluster_would_take_is_said_before() {
    let deployer = Deployer::new();
    let home = &deployer.home;
    let at_once = |args: &[&str]| home.run([&["deploy", &deployer.image], args].concat());
    for (args, says) in [
        (&["--memory", "2gb"][..], "4Gi"),
        (&["--autoscale", "4..1"], "cannot be"),
        (&["--autoscale", "0..3"], "kind: knative"),
        (&["--label", "app.kubernetes.io/name=x"], "is set from what is known"),
        (&["--label", "a=b c"], "label's value"),
        (&["--env", "1A=b"], "name of a variable"),
        (&["--strategy", "TIMEOUT"], "does not go to no pods"),
        (&["--strategy", "SOMETIMES"], "ALWAYS_ON"),
        (&["--schedule", "0 7 * * *"], "kind: cronjob"),
        (&["--kind", "cronjob"], "no schedule"),
        (&["--kind", "job"], "nothing says what it does"),
        (&["--models", "volume"], "1.33"),
        (&["--models", "node"], "on which nodes"),
        (&["--models", "s3://a/b/"], "ekiben self image"),
        (&["--host", "m.example.org", "--prefix", "/x"], "take the path away"),
        (&["--kubernetes", "1.9"], "the oldest is 1.25"),
        (&["--name", &"x".repeat(64)], "63"),
        (&["--memory", "1"], "less than the weights"),
    ] {
        at_once(args).ends(3).says(says);
    }
    // In the manifest it is said with its place, by `validate` too.
    let manifest = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let deploy = "deploy:\n  strategy: TIMEOUT\n  autoscale: 3..1\n  labels: {-a: b}\n";
    home.write("tiny/ekiben.yaml", format!("{manifest}{deploy}"));
    let refused = home.run(["validate", "tiny"]).ends(3);
    for words in ["go to no pods", "at least 3 pods and at most 1", "cannot be a label's name"] {
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    assert!(refused.err.contains("ekiben.yaml:29:12"), "{}", refused.err);
    assert!(refused.err.contains("EK0604"), "{}", refused.err);
    home.write("tiny/ekiben.yaml", format!("{manifest}deploy: {{replica: 2}}\n"));
    home.run(["validate", "tiny"]).ends(3).says("did you mean `replicas`");

    // What is only here cannot be pulled by a cluster.
    home.write("tiny/ekiben.yaml", manifest);
    home.run(["deploy", "tiny"]).ends(2).says("only on this machine").says("--push");
    home.run(["build", "tiny"]).ok();
    home.run(["deploy", "tiny:1"]).ends(2).says("only on this machine");
    home.run(["deploy", "nothing:1"]).ends(1).says("there is no image");
    let gone = deployer.registry.reference("tiny:gone");
    home.run(["deploy", "tiny", "--image", &gone]).ends(1).says("does not have");
    let mut without = home.command(["deploy", &deployer.image, "--apply"]);
    without.env("PATH", "/nowhere");
    ran(&mut without).ends(2).says("kubectl").says("| kubectl apply --server-side");
}

#[test]
fn a_service_answers_and_a_new_version_drops_no_request() {
    let deployer = Deployer::new();
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("service");
    let run = |args: &[&str]| ran(&mut deployer.command(&namespace, args));
    let said = run(&["--apply", "--wait", "--replicas", "2"]).ok();
    assert!(said.err.contains("Ready"), "{}", said.err);
    let selector = "app.kubernetes.io/instance=tiny";
    let addresses = || namespace.addresses(selector, 3000);
    assert_eq!(addresses().len(), 2);
    for address in addresses() {
        deployer.home.run(["test", "tiny", "--url", &address]).ok();
    }

    // Whoever is asked is what the Service's endpoints say, as a cluster's own proxies do.
    let (is_over, failed, answered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (is_over, failed, answered, namespace) = (&is_over, &failed, &answered, &namespace);
            scope.spawn(move || {
                let (mut known, mut since) = (namespace.endpoints("tiny"), Instant::now());
                for count in number.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    if since.elapsed() > Duration::from_millis(500) {
                        (since, known) = (Instant::now(), namespace.endpoints("tiny"));
                    }
                    let Some(address) = known.get(count % known.len().max(1)) else { continue };
                    match asked(address) {
                        Ok(200) => answered.fetch_add(1, Ordering::Relaxed),
                        other => {
                            eprintln!("{address}: {other:?}");
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        run(&["--apply", "--wait", "--replicas", "2", "--env", "VERSION=2"]).ok();
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 50, "{answered:?}");
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    let pods = namespace.list("pods", selector);
    let is_new = |pod: &&Value| pod["spec"]["containers"][0]["env"].to_string().contains("VERSION");
    assert_eq!(pods.iter().filter(is_new).count(), 2);

    // One that does not become ready is told with its reason, and the old one stays.
    run(&["--apply", "--replicas", "2", "--secret", "missing"]).ok();
    wait_until("the reason", || {
        let pods = namespace.list("pods", selector);
        pods.iter().any(|pod| pod["status"].to_string().contains("missing"))
    });
    assert_eq!(addresses().len(), 2);
    run(&["--delete"]).ok();
    wait_until("no pods", || namespace.list("pods", selector).is_empty());
}

/// The status of an answer.
fn asked(address: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let body = r#"{"x": 2}"#;
    write!(
        stream,
        "POST /predict HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| std::io::Error::other(answer))
}

#[test]
fn a_job_works_off_records_with_nothing_but_its_volume() {
    let deployer = Deployer::new();
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("job");
    let folder = tempfile::tempdir().unwrap();
    let records: String = (0..20).map(|x| format!("{{\"x\": {x}}}\n")).collect();
    fs::write(folder.path().join("in.jsonl"), records).unwrap();
    ran(Command::new("chown").args(["-R", "1034:1034"]).arg(folder.path())).ok();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace.name},
        "spec": {
            "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "storageClassName": "",
            "hostPath": {"path": folder.path()},
            "claimRef": {"namespace": namespace.name, "name": "data"},
        },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
            "volumeName": namespace.name,
        },
    });
    namespace.apply(&format!("{volume}\n---\n{claim}"));
    deployer.home.write(
        "job.yaml",
        "kind: job\nbatch: {input: /data/in.jsonl, output: /data/out.jsonl}\nvolumes: [{claim: data, path: /data}]\n",
    );
    let run = |args: &[&str]| ran(&mut deployer.command(&namespace, &[&["--settings", "job.yaml"], args].concat()));
    run(&["--apply", "--wait"]).ok();
    let written = fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    assert_eq!(written.lines().count(), 20, "{written}");
    let first: Value = serde_json::from_str(written.lines().nth(2).unwrap()).unwrap();
    assert_eq!(first["answer"], 7.0, "{first}");
    // The same job again is the same object.
    let jobs = namespace.list("jobs", "app.kubernetes.io/instance=tiny").len();
    run(&["--apply", "--wait"]).ok();
    assert_eq!(namespace.list("jobs", "app.kubernetes.io/instance=tiny").len(), jobs);
    run(&["--delete"]).ok();
    let _ = ran(&mut namespace.cluster.kubectl(&["delete", "persistentvolume", &namespace.name, "--wait=false"]));
}

#[test]
fn weights_are_fetched_into_the_pod_from_a_real_object_store_and_held_against_their_digests() {
    let deployer = Deployer::new();
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("weights");
    let fetcher = deployer.registry.reference("ekiben:1");
    deployer.home.run(["self", "image", "-t", &fetcher, "--push"]).ok();

    let (host, port) = (cluster.address(), free_port());
    let moto = python_program("moto_server", "moto[server]==5.1.22");
    let mut command = Command::new(&moto);
    command.args(["-H", &host, "-p", &port.to_string()]);
    let _objects = Server::start_at(command, &host, port);
    let url = format!("http://{host}:{port}");
    let put = |content: &str| {
        let script = "import boto3, sys\n\
            s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1')\n\
            s3.create_bucket(Bucket='models')\n\
            s3.put_object(Bucket='models', Key='tiny/1/model.json', Body=sys.argv[2].encode())\n";
        let mut command = Command::new(moto.with_file_name("python"));
        command.args(["-c", script, &url, content]);
        ran(command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b")).ok();
    };
    let weights = fs::read_to_string(deployer.home.path("tiny/model.json")).unwrap();
    put(&weights);
    let secret = [
        "create",
        "secret",
        "generic",
        "s3",
        "--from-literal=AWS_ACCESS_KEY_ID=a",
        "--from-literal=AWS_SECRET_ACCESS_KEY=b",
    ];
    ran(&mut namespace.kubectl(&secret)).ok();
    let endpoint = format!("AWS_ENDPOINT_URL={url}");
    let args = [
        "--models",
        "s3://models/tiny/1/",
        "--fetcher",
        &fetcher,
        "--secret",
        "s3",
        "--env",
        &endpoint,
        "--env",
        "AWS_REGION=us-east-1",
    ];
    let run = |more: &[&str]| ran(&mut deployer.command(&namespace, &[&args[..], more].concat()));
    run(&["--apply", "--wait"]).ok();
    let addresses = namespace.addresses("app.kubernetes.io/instance=tiny", 3000);
    deployer.home.run(["test", "tiny", "--url", &addresses[0]]).ok();
    // The image has none of it.
    let image = namespace.get("deployment/tiny")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let parts = deployer.home.run(["inspect", image.as_str().unwrap(), "--output", "json"]).ok().out;
    assert!(parts.contains("io.ekiben.models"), "{parts}");

    // What is not what was built is not served: the new pod does not come, and says why; the old one stays.
    put("{\"slope\": 0, \"intercept\": 0}");
    let pods = || namespace.list("pods", "app.kubernetes.io/instance=tiny");
    run(&["--apply", "--env", "AGAIN=1"]).ok();
    wait_until("a pod that refuses", || {
        pods().iter().any(|pod| {
            let initial = &pod["status"]["initContainerStatuses"][0];
            initial["restartCount"].as_u64().is_some_and(|count| count > 0)
        })
    });
    let is_new = |pod: &Value| pod["spec"]["containers"][0]["env"].to_string().contains("AGAIN");
    let new = pods().into_iter().find(is_new).unwrap();
    let logs = ran(&mut namespace.kubectl(&["logs", new["metadata"]["name"].as_str().unwrap(), "-c", "weights"])).ok();
    assert!(logs.out.contains("model.json"), "{}", logs.out);
    assert_eq!(namespace.addresses("app.kubernetes.io/instance=tiny", 3000), addresses);
    run(&["--delete"]).ok();
}

#[test]
fn the_service_of_another_tool_runs_with_a_read_only_root() {
    let deployer = Deployer::new();
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("stranger");
    // An image that ekiben did not build: a server of Python's own, which notes what it is asked in its home folder.
    let server = "import http.server, os, pathlib\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n    \
            def do_GET(self):\n        \
                (pathlib.Path.home() / 'asked').open('a').write(self.path)\n        \
                self.send_response(200); self.end_headers(); self.wfile.write(b'ok')\n\
        http.server.HTTPServer(('', 8080), Handler).serve_forever()\n";
    deployer.home.write("other/server.py", server);
    deployer.home.write("other/ekiben.yaml", "name: other\nversion: \"1\"\npython: {version: \"3.11\"}\nservice: {command: [python, server.py], port: 8080, ready: /ok}\n");
    let push = deployer.registry.reference("other");
    let mut command = deployer.home.command([
        "deploy",
        "other",
        "--push",
        &push,
        "--namespace",
        &namespace.name,
        "--kubernetes",
        OLD,
        "--apply",
        "--wait",
    ]);
    ran(cluster.known_to(&mut command)).ok();
    let addresses = namespace.addresses("app.kubernetes.io/instance=other", 8080);
    assert_eq!(ask(&addresses[0], "GET", "/ok", "").0, 200);
    let pod = &namespace.list("pods", "app.kubernetes.io/instance=other")[0];
    let name = pod["metadata"]["name"].as_str().unwrap();
    let refused = ran(&mut namespace.kubectl(&["exec", name, "--", "python", "-c", "open('/app/x', 'w')"]));
    assert!(refused.code != Some(0) && refused.err.contains("Read-only file system"), "{}", refused.err);
}

#[test]
fn a_worker_runs_without_being_asked_and_ends_when_it_is_told_to() {
    let deployer = Deployer::new();
    let namespace = Cluster::shared_with_node().namespace("worker");
    let program =
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(0)); print('at work'); time.sleep(600)";
    deployer.home.write("worker.yaml", format!("kind: worker\nargs: [python, -uc, {program:?}]\n"));
    let run = |args: &[&str]| ran(&mut deployer.command(&namespace, &[&["--settings", "worker.yaml"], args].concat()));
    run(&["--apply", "--wait"]).ok();
    assert!(namespace.find("service/tiny").is_none());
    let pods = || namespace.list("pods", "app.kubernetes.io/instance=tiny");
    let name = pods()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    wait_until("the worker's words", || ran(&mut namespace.kubectl(&["logs", &name])).out.contains("at work"));
    run(&["--stop"]).ok();
    // It has a minute, and does not take it.
    wait_until("no pods", || pods().is_empty());
    run(&["--delete"]).ok();
}
