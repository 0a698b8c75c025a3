//! `ekiben deploy` of models that are trained in the cluster, and that messages ask and train.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::deploy::of_kubernetes;
use crate::home::cluster::{Cluster, Namespace, VERSIONS, documents, fits};
use crate::home::registry::Registry;
use crate::home::restricted::is_restricted;
use crate::home::servers::RabbitMq;
use crate::home::{Home, ask, python_programs, ran, wait_until};

/// The oldest version that is written for.
const OLD: &str = "1.25";

const MANIFEST: &str = "name: there\nversion: \"1\"\npython: {version: \"3.11\"}\nservice:\n  predict: src/predict.py:predict\n  \
                        messages: {subscribe: [there.in.*], publish: [there.out]}\ntraining:\n  function: src/train.py:train\n  \
                        output: model.json\n  data: numbers.csv\n  messages: {subscribe: [there.train], buffer: 5}\n";

const TRAIN: &str = "import json, pathlib\n\
    def train(data=None, hyperparameters=None):\n    \
        lines = open(data).read().split()\n    \
        numbers = [int(line) for line in lines[1:]] if str(data).endswith('.csv') else [json.loads(line) for line in lines]\n    \
        pathlib.Path('model.json').write_text(json.dumps(sum(numbers)))\n    \
        return {'records': len(numbers)}\n";

const PREDICT: &str =
    "import json\nMODEL = json.load(open('model.json'))\ndef predict(x: int) -> int:\n    return MODEL + x\n";

/// Asks and trains by messages: prints the answer.
const PEER: &str = r#"
import asyncio, os, sys
import aio_pika


async def main():
    connection = await aio_pika.connect(sys.argv[1])
    channel = await connection.channel()
    exchange = await channel.get_exchange("amq.topic")
    answers = await channel.declare_queue("answers", durable=True)
    await answers.bind(exchange, "there.out")
    await exchange.publish(aio_pika.Message(b'{"x": 1}', correlation_id="c1"), "there.in.one")
    async with asyncio.timeout(120):
        async with answers.iterator() as messages:
            async for message in messages:
                print(message.correlation_id, message.body.decode(), flush=True)
                break
    for number in range(5):
        await exchange.publish(aio_pika.Message(str(number).encode(), delivery_mode=2), "there.train")
    os._exit(0)


asyncio.run(main())
"#;

/// A home with the project, whose image is in a registry.
struct Deployer {
    home: Home,
    push: String,
    _registry: Registry,
}

impl Deployer {
    fn new() -> Self {
        let (home, registry) = (Home::warm(), Registry::start());
        home.write("there/ekiben.yaml", MANIFEST);
        home.write("there/src/train.py", TRAIN);
        home.write("there/src/predict.py", PREDICT);
        Self { push: registry.reference("there"), home, _registry: registry }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["deploy", "there", "--push", &self.push], args].concat()
    }

    #[track_caller]
    fn yaml(&self, args: &[&str]) -> String {
        let yaml = self.home.run(self.args(args)).ok().out;
        assert_eq!(yaml, self.home.run(self.args(args)).ok().out, "{args:?}");
        yaml
    }

    fn command(&self, namespace: &Namespace<'_>, args: &[&str]) -> Command {
        let of = ["--namespace", &namespace.name, "--kubernetes", OLD, "--broker", "broker"];
        let mut command = self.home.command(self.args(&[&of, args].concat()));
        namespace.cluster.known_to(&mut command);
        command
    }
}

/// Kinds and names of documents, without digests.
fn names(yaml: &str) -> Vec<String> {
    let name = |one: &Value| {
        let name = one["metadata"]["name"].as_str().unwrap();
        let name = if one["kind"] == "Job" { name.rsplit_once('-').unwrap().0 } else { name };
        format!("{} {name}", one["kind"].as_str().unwrap())
    };
    documents(yaml).iter().map(name).collect()
}

/// The document of this kind and name.
#[track_caller]
fn of<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it =
        |one: &&Value| one["kind"] == kind && one["metadata"]["name"].as_str().is_some_and(|is| is.starts_with(name));
    documents.iter().rfind(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[test]
fn what_is_written_of_training_and_messages_is_what_clusters_take() {
    let deployer = Deployer::new();
    let home = &deployer.home;
    home.write(
        "all.yaml",
        "replicas: 2\nnetwork: closed\nfetcher: {image: 'registry.example/ekiben:1'}\nsecrets: [s3]\n\
         messages: {secret: broker, ca: true, port: 5000, replicas: 3}\n\
         training: {size: 10Gi, class: fast, access: ReadWriteMany, data: 's3://data/there/', time: 6h, resources: {memory: 8Gi}}\n",
    );
    let ways: [&[&str]; 3] = [
        &["--broker", "broker"],
        &["--settings", "all.yaml"],
        &["--broker", "broker", "--kind", "keda", "--host", "m.example.org"],
    ];
    let mut newer = String::new();
    for args in ways {
        let yaml = deployer.yaml(args);
        is_restricted(&yaml);
        newer += &yaml;
        let namespace = Cluster::shared().namespace("learning");
        let old = deployer.yaml(&[args, &["--namespace", &namespace.name, "--kubernetes", OLD]].concat());
        namespace.apply(&of_kubernetes(&old));
        let versions = || {
            let kinds = "deployments,services,jobs,networkpolicies,persistentvolumeclaims";
            let listed = namespace.list(kinds, "app.kubernetes.io/managed-by=ekiben");
            listed
                .iter()
                .map(|one| (one["kind"].to_string(), one["metadata"]["generation"].as_u64()))
                .collect::<Vec<_>>()
        };
        let first = versions();
        namespace.apply(&of_kubernetes(&old));
        assert_eq!(versions(), first, "{args:?}");
    }
    VERSIONS.into_iter().for_each(|version| fits(&of_kubernetes(&newer), version));

    let plain = deployer.yaml(ways[0]);
    assert_eq!(
        names(&plain),
        [
            "ServiceAccount there",
            "PersistentVolumeClaim there-trained",
            "Job there-train",
            "Deployment there",
            "Service there",
            "Deployment there-consume",
            "Deployment there-learn",
        ]
    );
    let all = documents(&plain);
    let pod = |kind: &str, name: &str| of(&all, kind, name)["spec"]["template"].clone();
    let serving = pod("Deployment", "there");
    let (service, job) = (of(&all, "Service", "there"), pod("Job", "there-train"));
    // The service knows no broker, gets no request for others, and is not ended for want of a model.
    let serving = documents(&plain)
        .into_iter()
        .find(|one| one["kind"] == "Deployment")
        .map_or(serving, |mut one| one["spec"]["template"].take());
    let container = &serving["spec"]["containers"][0];
    assert!(!container.to_string().contains("AMQP"), "{container:#}");
    assert_eq!(container["startupProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    for other in [&job, &pod("Deployment", "there-consume"), &pod("Deployment", "there-learn")] {
        assert_ne!(
            service["spec"]["selector"]["app.kubernetes.io/instance"],
            other["metadata"]["labels"]["app.kubernetes.io/instance"]
        );
        let mounts = other["spec"]["containers"][0]["volumeMounts"].to_string();
        assert!(mounts.contains("/trained"), "{mounts}");
    }
    let container = &job["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["train"]));
    assert!(container["env"].to_string().contains("/trained/data/numbers.csv"), "{container:#}");
    assert_eq!(job["spec"]["initContainers"][0]["name"], "data");
    let learn = of(&all, "Deployment", "there-learn");
    assert_eq!((&learn["spec"]["replicas"], &learn["spec"]["strategy"]), (&json!(1), &json!({"type": "Recreate"})));
    let environment = learn["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    assert!(environment.contains(r#""key":"url","name":"broker"}"#), "{environment}");
    assert!(environment.contains(r#""key":"password","name":"broker","optional":true"#), "{environment}");

    let all = documents(&deployer.yaml(ways[1]));
    let claim = &of(&all, "PersistentVolumeClaim", "there-trained")["spec"];
    assert_eq!((&claim["accessModes"], &claim["storageClassName"]), (&json!(["ReadWriteMany"]), &json!("fast")));
    let fetch = &of(&all, "Job", "there-train")["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(fetch["args"], json!(["fetch", "s3://data/there/", "--to", "/trained/data"]));
    let egress = &of(&all, "NetworkPolicy", "there-consume")["spec"]["egress"];
    assert_eq!(egress[1]["ports"], json!([{"port": 5000, "protocol": "TCP"}]));
    assert_eq!(of(&all, "NetworkPolicy", "there-train")["spec"]["egress"], json!([{}]));
    let consume = &of(&all, "Deployment", "there-consume")["spec"];
    assert_eq!(consume["replicas"], 3);
    assert!(consume["template"]["spec"]["affinity"].is_null());
    assert!(consume["template"].to_string().contains("/etc/broker/ca.crt"));
    let learning = &of(&all, "Deployment", "there-learn")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(learning["resources"]["limits"]["memory"], "8Gi");

    // A model that is trained already is in the image, and is not trained again unless somebody says so.
    home.write("numbers.csv", "number\n1\n2\n");
    home.run(["train", "there", "--data", "numbers.csv"]).ok();
    assert!(!names(&deployer.yaml(ways[0])).contains(&"Job there-train".to_owned()));
    home.write("again.yaml", "messages: {secret: broker}\ntraining: {job: true}\n");
    assert!(names(&deployer.yaml(&["--settings", "again.yaml"])).contains(&"Job there-train".to_owned()));
    home.write(
        "there/ekiben.yaml",
        MANIFEST.lines().filter(|line| !line.contains("messages")).collect::<Vec<_>>().join("\n"),
    );
    home.run(["train", "there", "--data", "numbers.csv"]).ok();
    assert_eq!(names(&deployer.yaml(&[])), ["ServiceAccount there", "Deployment there", "Service there"]);
    deployer.yaml(&["--kind", "kserve"]);
}

#[test]
fn settings_of_training_and_messages_that_do_not_fit_are_told_with_their_places() {
    let deployer = Deployer::new();
    let home = &deployer.home;
    let with = |text: &str| {
        home.write("s.yaml", text);
        home.run(deployer.args(&["--settings", "s.yaml"])).ends(3)
    };
    home.run(deployer.args(&[])).ends(3).says("nothing says where their broker is").says("messages: {secret: broker}");
    for (text, says) in [
        ("messages: {replicas: 2}", "nothing says where their broker is"),
        ("messages: {secret: _}", "cannot be the name of a secret"),
        ("messages: {secret: b, queue: x}", "queue"),
        ("messages: {secret: b}\nkind: knative", "this platform starts and ends its pods itself"),
        ("messages: {secret: b}\nkind: kserve", "this platform starts and ends its pods itself"),
        ("messages: {secret: b}\nkind: worker\nargs: [x]", "only beside a service something takes messages"),
        ("messages: {secret: b}\nenv: {EKIBEN_AMQP_URL: 'amqp://u:p@h/'}", "would be known to the service"),
        ("messages: {secret: b}\nvolumes: [{claim: a, path: /trained}]", "two volumes would lie at /trained"),
        ("messages: {secret: b}\ntraining: {data: 's3://a/b/'}", "which image fetches the data set"),
        ("messages: {secret: b}\ntraining: {claim: a, size: 1Gi}", "a claim that is there has its own"),
        ("messages: {secret: b}\ntraining: {claim: A}", "cannot be the name of a claim"),
        ("messages: {secret: b}\ntraining: {size: '0'}", "nothing is too little"),
        ("messages: {secret: b}\ntraining: {access: ReadOnlyMany}", "ReadWriteMany"),
        ("messages: {secret: b}\ntraining: {time: 0s}", "in no time"),
        (&format!("messages: {{secret: b}}\nname: {}", "x".repeat(60)), "-consume"),
    ] {
        with(text).says(says);
    }
    // Where nothing of it is in the manifest; and a place in the manifest itself.
    let bare: String =
        MANIFEST.lines().filter(|line| !line.contains("messages")).map(|line| format!("{line}\n")).collect();
    home.write("there/ekiben.yaml", &bare);
    with("messages: {secret: b}").says("no messages ask or train the model");
    with("training: {job: false}").says("nothing would train the model");
    with("kind: knative").says("is not trained yet");
    home.write("there/ekiben.yaml", format!("{bare}deploy:\n  messages: {{secret: b}}\n"));
    let refused = home.run(["validate", "there"]).ends(3);
    assert!(refused.err.contains("EK0604") && refused.err.contains("ekiben.yaml:11:"), "{}", refused.err);
    // What a cluster's own settings may say is not missed before.
    home.write("there/ekiben.yaml", format!("{MANIFEST}deploy:\n  replicas: 2\n"));
    home.run(["validate", "there"]).ok();
}

#[test]
fn a_job_trains_the_service_answers_and_messages_ask_and_train() {
    let deployer = Deployer::new();
    let home = &deployer.home;
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("learning");
    let rabbit = RabbitMq::start(home);
    let url = format!("--from-literal=url=amqp://guest:guest@{}/", cluster.opened(rabbit.port));
    ran(&mut namespace.kubectl(&["create", "secret", "generic", "broker", &url])).ok();
    let folder = tempfile::tempdir().unwrap();
    ran(Command::new("chown").arg("1034:1034").arg(folder.path())).ok();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace.name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": folder.path()},
            "claimRef": {"namespace": namespace.name, "name": "there-trained"},
        },
    });
    namespace.apply(&volume.to_string());
    let run = |args: &[&str]| ran(&mut deployer.command(&namespace, args));
    run(&["--apply"]).ok();
    let pods = |of: &str| namespace.list("pods", &format!("app.kubernetes.io/instance={of}"));
    let answers = |of: &str, path: &str| {
        let pods = pods(of);
        let address = pods.first().and_then(|pod| Some(format!("http://{}:3000", pod["status"]["podIP"].as_str()?)))?;
        let (method, body) = if path == "/predict" { ("POST", r#"{"x": 1}"#) } else { ("GET", "") };
        std::panic::catch_unwind(|| ask(&address, method, path, body)).ok()
    };
    let says = |path: &str| answers("there", path).unwrap_or_default();
    for part in ["there", "there-consume"] {
        wait_until("a service without a model", || answers(part, "/readyz").is_some_and(|(status, _)| status == 503));
        assert_eq!(answers(part, "/livez").unwrap().0, 200);
    }
    assert_eq!(says("/predict").0, 503);
    assert!(namespace.endpoints("there").is_empty());

    // The Job waits for the data set, and is not begun twice.
    fs::create_dir_all(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/numbers.csv"), "number\n10\n20\n").unwrap();
    run(&["--apply", "--wait"]).ok();
    assert_eq!(says("/predict"), (200, "31".to_owned()));
    assert_eq!(namespace.endpoints("there").len(), 1);
    assert_eq!(namespace.list("jobs", "app.kubernetes.io/instance=there").len(), 1);
    let service = &pods("there")[0];
    assert!(!service.to_string().contains("AMQP"));
    assert_eq!(service["status"]["containerStatuses"][0]["restartCount"], 0);

    // Asked and trained by messages.
    let python = python_programs("uvicorn", &["uvicorn", "fastapi", "aio-pika"]).with_file_name("python");
    let script = home.write("peer.py", PEER);
    let said = ran(Command::new(python).arg(script).arg(rabbit.url())).ok();
    assert_eq!(said.out, "c1 31\n");
    wait_until("the model of the messages", || says("/predict") == (200, "11".to_owned()));

    // Ended and begun again with the model that it had; what is no longer wished goes.
    run(&["--stop"]).ok();
    wait_until("no pods", || ["there", "there-consume", "there-learn"].iter().all(|of| pods(of).is_empty()));
    run(&["--start", "--wait"]).ok();
    assert_eq!(says("/predict"), (200, "11".to_owned()));
    let jobs = || namespace.list("jobs", "app.kubernetes.io/instance=there");
    assert_eq!(jobs().len(), 1);
    let before = jobs()[0]["metadata"]["name"].clone();
    run(&["--apply", "--wait", "--env", "A=b"]).ok();
    assert!(jobs().len() == 1 && jobs()[0]["metadata"]["name"] != before);
    assert_eq!(ask(&namespace.addresses("app.kubernetes.io/instance=there", 3000)[0], "GET", "/readyz", "").0, 200);
    run(&["--delete"]).ok();
    assert!(
        namespace.list("deployments,jobs,persistentvolumeclaims", "app.kubernetes.io/managed-by=ekiben").is_empty()
    );
    let _ = ran(&mut namespace.cluster.kubectl(&["delete", "persistentvolume", &namespace.name, "--wait=false"]));
}
