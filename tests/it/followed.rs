//! `ekiben follow --deploy`: a tag in MLflow's registry becomes a service of a real cluster, and what does this inside one.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::home::cluster::{Cluster, Namespace, VERSIONS, documents, fits};
use crate::home::registry::Registry;
use crate::home::restricted::is_restricted;
use crate::home::servers::Mlflow;
use crate::home::{Home, Ran, ran, wait_until};

/// Three versions of a model, of which the third answers with an error where a variable says so.
const VERSIONS_OF_IRIS: &str = "
import tempfile
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
data, kinds = load_iris(return_X_y=True, as_frame=True)
for steps in (500, 400):
    log('iris', LogisticRegression(max_iter=steps).fit(data, kinds), input_example=data.head(2))
folder = tempfile.TemporaryDirectory()
with open(f'{folder.name}/moody.py', 'w') as file:
    file.write('''
import os
import mlflow
class Moody(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        if os.environ.get('MOOD') == 'bad':
            raise ValueError('not today')
        return model_input
mlflow.models.set_model(Moody())
''')
with mlflow.start_run():
    mlflow.pyfunc.log_model(python_model=f'{folder.name}/moody.py', name='model', registered_model_name='iris',
        input_example=['a'], pip_requirements=['mlflow==3.17.2'])
";

/// Rows of irises, as MLflow's clients send them.
const ROWS: &str = r#"{"dataframe_split": {
    "columns": ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
    "data": [[5.1, 3.5, 1.4, 0.2]]
}}"#;

/// Servers, a namespace, and versions that are followed into it.
struct Followed<'a> {
    home: Home,
    mlflow: Mlflow,
    registry: Registry,
    namespace: Namespace<'a>,
}

impl<'a> Followed<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let home = Home::warm();
        let mlflow = Mlflow::start(&home);
        Self { mlflow, registry: Registry::start(), namespace: cluster.namespace("followed"), home }
    }

    fn tag(&self, version: u64, is_wanted: bool) {
        let script = match is_wanted {
            true => format!("client.set_model_version_tag('iris', '{version}', 'production', 'true')"),
            false => format!("client.delete_model_version_tag('iris', '{version}', 'production')"),
        };
        self.mlflow.script(&script);
    }

    /// What is written to a version.
    fn tags(&self, version: u64) -> Value {
        let script = format!("import json; print(json.dumps(client.get_model_version('iris', '{version}').tags))");
        serde_json::from_str(&self.mlflow.script(&script)).unwrap()
    }

    /// A look at the tagged versions, by kubectl.
    fn command(&self, more: &[&str]) -> Command {
        let prefix = self.registry.reference("models");
        let of = ["follow", "models:/", "--where", "tags.production = 'true'", "--push", &prefix];
        let to = ["--namespace", &self.namespace.name, "--kubernetes", "1.25"];
        let mut command = self.home.command([&of[..], &to[..], more].concat());
        let cluster = self.namespace.cluster;
        cluster.known_to(&mut command);
        self.mlflow.knows(&mut command);
        command
    }

    fn follow(&self, more: &[&str]) -> Ran {
        ran(&mut self.command(&[&["--once", "--deploy"], more].concat()))
    }

    /// The image of the Deployment.
    fn image(&self) -> Value {
        self.namespace.get("deployment/iris")["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    }

    /// Asks the model again and again while something is done; gives how many answers were as they should be, and what the others
    /// were.
    fn under_load(&self, work: impl FnOnce()) -> (usize, Vec<String>) {
        let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let failed = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut failed = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    // As a cluster's own proxies do.
                    for address in self.namespace.endpoints("iris") {
                        let answer = std::panic::catch_unwind(|| {
                            crate::home::ask(&format!("http://{address}"), "POST", "/iris/api/invocations", ROWS)
                        });
                        match answer {
                            Ok((200, _)) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                            other => failed.push(format!("{address}: {other:?}")),
                        }
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                failed
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            is_over.store(true, Ordering::Relaxed);
            let failed = asking.join().unwrap();
            done.unwrap_or_else(|why| std::panic::resume_unwind(why));
            failed
        });
        (answered.into_inner(), failed)
    }
}

#[test]
fn a_tag_becomes_a_service_and_the_next_version_takes_its_place() {
    let followed = Followed::new(Cluster::shared_with_node());
    let Followed { mlflow, namespace, .. } = &followed;
    mlflow.script(VERSIONS_OF_IRIS);
    let host = ["--host", "models.example", "--ingress", "f5"];

    // Tagged, deployed, answering below the host's path, written back; whoever is killed before.
    followed.tag(1, true);
    for pause in [4000, 8000, 12_000] {
        let mut process = followed.command(&[&host[..], &["--every", "1s", "--deploy"]].concat());
        let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    followed.follow(&host).ok();
    let endpoint = "http://models.example/iris/api";
    let first = followed.tags(1);
    assert_eq!((&first["ekiben.status"], &first["model_endpoint"]), (&json!("done"), &json!(endpoint)), "{first:#}");
    assert_eq!(first["ekiben.image"], followed.image());
    let addresses = namespace.addresses("app.kubernetes.io/instance=iris", 3000);
    let [address] = addresses.as_slice() else { panic!("{addresses:?}") };
    assert_eq!(crate::home::ask(address, "POST", "/iris/api/invocations", ROWS).0, 200);
    assert_eq!(crate::home::ask(address, "GET", "/iris/api/docs", "").0, 200);
    let rule = &namespace.get("ingress/iris")["spec"]["rules"][0];
    assert_eq!((&rule["host"], &rule["http"]["paths"][0]["path"]), (&json!("models.example"), &json!("/iris/api")));
    assert!(followed.follow(&host).ok().out.starts_with("nothing to do: 1 done"), "all is as it should be");

    // The second takes its place, and nobody notices. It is the cron job's own account that does it.
    let written =
        ran(&mut followed.command(&[&host[..], &["--cronjob", "--image", "registry.example/ekiben:1"]].concat()));
    namespace.apply(&written.ok().out);
    let mut account = followed.command(&[&host[..], &["--once", "--deploy"]].concat());
    as_account(&mut account, namespace, "ekiben-follow");
    followed.tag(2, true);
    let (answered, failed) = followed.under_load(|| drop(ran(&mut account).ok()));
    assert!(answered > 20, "{answered} answers");
    assert_eq!(failed, [""; 0]);
    let second = followed.tags(2);
    assert_eq!((&second["ekiben.image"], &second["model_endpoint"]), (&followed.image(), &json!(endpoint)));
    assert_eq!(followed.tags(1)["model_endpoint"], Value::Null, "it does not serve any more");
    assert_eq!(followed.tags(1)["ekiben.status"], "done");

    // What somebody changes in the cluster is put right.
    ran(&mut namespace.kubectl(&["delete", "deployment/iris"])).ok();
    followed.follow(&host).ok();
    assert_eq!(second["ekiben.image"], followed.image());

    // The third fails its example in the cluster alone: the second serves again, and is said to.
    followed.tag(3, true);
    let bad = [&host[..], &["--env", "MOOD=bad"]].concat();
    followed.follow(&bad).ends(1).says("in the cluster it answers otherwise");
    let third = followed.tags(3);
    assert_eq!(third["ekiben.status"], "failed", "{third:#}");
    assert!(third["ekiben.error"].as_str().unwrap().contains("in the cluster it answers otherwise"), "{third:#}");
    assert_eq!(third["model_endpoint"], Value::Null);
    assert_eq!(followed.image(), second["ekiben.image"]);
    assert_eq!(followed.tags(2)["model_endpoint"], endpoint);
    // Whether or not it is still selected.
    followed.tag(2, false);
    followed.tag(1, false);
    followed.follow(&[&bad[..], &["--retry"]].concat()).ends(1).says("in the cluster it answers otherwise");
    assert_eq!(followed.image(), second["ekiben.image"]);
    assert_eq!(followed.tags(2)["model_endpoint"], endpoint);

    // None is selected any more: what runs stays, until it is asked for.
    followed.tag(3, false);
    followed.follow(&host).ok();
    assert!(namespace.find("deployment/iris").is_some());
    followed.follow(&[&host[..], &["--prune"]].concat()).ok();
    assert!(namespace.find("deployment/iris").is_none() && namespace.find("service/iris").is_none());
    assert_eq!(followed.tags(2)["model_endpoint"], Value::Null);
    wait_until("no pods", || namespace.list("pods", "app.kubernetes.io/instance=iris").is_empty());
}

/// Has a command ask the API server itself, as an account of the namespace. From outside, the way to a service leads through the server
/// as well, which inside it does not: that alone is given to the account besides.
fn as_account(command: &mut Command, namespace: &Namespace<'_>, account: &str) {
    let verbs = ["--verb=get,create", "--resource=services/proxy"];
    ran(&mut namespace.kubectl(&[&["create", "role", "ask"], &verbs[..]].concat())).ok();
    let subject = format!("--serviceaccount={}:{account}", namespace.name);
    ran(&mut namespace.kubectl(&["create", "rolebinding", "ask", "--role=ask", &subject])).ok();
    let secret = || {
        let secrets = namespace.get(&format!("serviceaccount/{account}"))["secrets"].as_array().cloned();
        Some(secrets?.first()?["name"].as_str()?.to_owned())
    };
    wait_until("the account's token", || secret().is_some());
    let token = ["get", "secret", &secret().unwrap(), "--output", "go-template={{.data.token | base64decode}}"];
    let token = ran(&mut namespace.kubectl(&token)).ok().out;
    let (server, authority) = namespace.cluster.server();
    command.env("K8S_API", server).env("K8S_API_KEY", token.trim()).env("EKIBEN_CA", authority);
    command.env_remove("KUBECONFIG").env("KUBECTL", "/nothing");
}

#[test]
fn what_follows_inside_a_cluster_is_written_down() {
    let cluster = Cluster::shared();
    let followed = Followed::new(cluster);
    let namespace = &followed.namespace;
    let write = |more: &[&str]| {
        let mut command = followed.command(&[&["--cronjob", "--image", "registry.example/ekiben:1"], more].concat());
        command.env("AWS_SECRET_ACCESS_KEY", "hunter2").env("MLFLOW_TRACKING_PASSWORD", "hunter2");
        command.env("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example").env("K8S_API_KEY", "hunter2");
        command.env("DPM360_SERVICE_BUILDER_HOST_NAME", "models.example").env("MLFLOW_API", "http://mlflow.example");
        ran(&mut command)
    };
    for more in [
        &[][..],
        &["--store", "20Gi", "--autoscale", "1..3", "--schedule", "*/5 * * * *", "--prune"],
        &["--replicas", "3", "--host", "other.example", "--gateway", "web"],
    ] {
        let yaml = write(more).ok().out;
        assert_eq!(yaml, write(more).ok().out);
        VERSIONS.into_iter().for_each(|version| fits(&yaml, version));
        is_restricted(&yaml);
        assert!(!yaml.contains("hunter2"), "{yaml}");
        namespace.apply(&yaml);
        namespace.apply(&yaml);
    }
    let of = |kind: &str| {
        let all = documents(&write(&[]).ok().out);
        all.into_iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    let job = of("CronJob");
    assert_eq!(
        (&job["spec"]["schedule"], &job["spec"]["concurrencyPolicy"]),
        (&json!("*/2 * * * *"), &json!("Forbid"))
    );
    let settings: Value = serde_json::from_str(of("ConfigMap")["data"]["deploy.json"].as_str().unwrap()).unwrap();
    assert_eq!(settings["expose"]["host"], "models.example", "{settings:#}");
    let container = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    let args: Vec<_> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(args.ends_with(&["--once", "--deploy", "--settings", "/etc/ekiben/deploy.json"]), "{args:?}");
    assert_eq!(of("Secret").get("data"), None);

    // What somebody has put into the secret stays.
    ran(&mut namespace.kubectl(&["patch", "secret/ekiben-follow", "--patch", r#"{"stringData": {"A": "b"}}"#])).ok();
    namespace.apply(&write(&[]).ok().out);
    assert_eq!(namespace.get("secret/ekiben-follow")["data"]["A"], "Yg==");

    // The account may what it has to, and no more.
    let account = format!("--as=system:serviceaccount:{}:ekiben-follow", namespace.name);
    let may = |verb: &str, what: &str| {
        ran(&mut namespace.kubectl(&["auth", "can-i", verb, what, &account])).out.trim() == "yes"
    };
    for what in ["deployments.apps", "services", "serviceaccounts", "ingresses.networking.k8s.io"] {
        assert!(may("create", what) && may("patch", what), "{what}");
        assert!(!may("delete", what), "{what}");
    }
    assert!(may("get", "deployments.apps") && may("list", "pods"));
    for (verb, what) in [("get", "secrets"), ("create", "pods"), ("create", "roles.rbac.authorization.k8s.io")] {
        assert!(!may(verb, what), "{verb} {what}");
    }
    namespace.apply(&write(&["--prune"]).ok().out);
    assert!(may("delete", "deployments.apps"));

    // What cannot be meant.
    let refused = |more: &[&str]| ran(&mut followed.command(more)).ends(2);
    refused(&["--once", "--deploy", "--name", "x"]).says("several models cannot be called the same");
    refused(&["--once", "--deploy", "--kind", "job"]).says("deployed as a service");
    refused(&["--once", "--deploy", "--models", "volume"]).says("weights in the image");
    refused(&["--once"]).says("nothing is deployed, and it is said how");
    refused(&["--cronjob"]).says("--image REF");
    let mut nowhere = followed.home.command(["follow", "models:/", "--push", "registry.example/models", "--cronjob"]);
    ran(nowhere.args(["--image", "registry.example/ekiben:1"])).ends(2).says("--namespace NAME");
}
