//! Models in MLflow: fetched by their addresses, built without a project, followed by their tags. MLflow itself is asked.

use std::process::{Command, Stdio};
use std::time::Duration;

use ekiben::bundle::origin::mlflow;
use ekiben::io::http::{Client, Network};
use ekiben::project::address::Which;
use serde_json::json;

use crate::home::registry::{Registry, is_whole};
use crate::home::servers::{Mlflow, Server};
use crate::home::{Home, Ran, free_port, ran, tool};
use crate::origins::{locked, project};

/// Two classifiers of irises, and a file of a run.
const IRISES: &str = "
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
data, kinds = load_iris(return_X_y=True, as_frame=True)
log('iris', LogisticRegression(max_iter=500).fit(data, kinds), input_example=data.head(2))
client.set_registered_model_alias('iris', 'champion', '1')
direct = client.create_experiment('direct', artifact_location='s3://models/direct')
mlflow.set_experiment(experiment_id=direct)
log('iris', LogisticRegression(max_iter=400).fit(data, kinds), input_example=data.head(2))
mlflow.set_experiment('Default')
with mlflow.start_run() as run:
    mlflow.log_text('a note', 'notes/read.me')
    print(run.info.run_id)
";

/// The program, which knows the servers as MLflow's own client does.
fn run(home: &Home, mlflow: &Mlflow, args: &[&str]) -> Ran {
    ran(mlflow.knows(&mut home.command(args)))
}

#[test]
fn a_registered_model_is_locked_and_built_without_a_project() {
    let home = Home::warm();
    let mlflow = Mlflow::start(&home);
    let note = mlflow.script(IRISES);
    let run_id = note.trim();
    let run = |args: &[&str]| run(&home, &mlflow, args);

    project(
        &home,
        &json!([
            { "from": "models:/iris@champion", "path": "one" },
            { "from": "models:/iris/2", "path": "two" },
            { "from": "models:/iris/latest/MLmodel", "path": "description" },
            { "from": format!("runs:/{run_id}/notes/read.me") },
        ]),
    );
    run(&["lock", "far"]).ok().says("16 files of the model");
    let lock = locked(&home);
    let text = lock.to_string();
    assert!(!text.contains("127.0.0.1") && !text.contains("secret"), "{text}");
    let version = |model: usize| lock["models"][model]["files"][0]["version"].as_str().unwrap().to_owned();
    assert_eq!(version(0), "iris/1");
    assert!(version(1).starts_with("iris/2 \""), "an object's tag: {}", version(1));
    assert_eq!((version(3).as_str(), &lock["models"][3]["files"][0]["size"]), (run_id, &json!(6)));
    // What is there is told, without being fetched.
    let other = Home::empty();
    let told =
        ran(mlflow.knows(&mut other.command(["inspect", "models:/iris@champion", "--output", "json"]))).ok().json();
    assert_eq!(
        (&told["pinned"], &told["mlflow"]["inputs"][0]["type"]),
        (&json!("models:/iris/1"), &json!("double")),
        "{told:#}"
    );
    let model = told["files"].as_array().unwrap().iter().find(|file| file["name"] == "model.skops").unwrap();
    assert_eq!((&model["format"], &model["class"]), (&json!("skops"), &json!("LogisticRegression")), "{told:#}");
    assert_eq!(other.stored("blobs/sha256"), [""; 0]);
    // Another version gets the alias.
    mlflow.script("client.set_registered_model_alias('iris', 'champion', '2')");
    run(&["lock", "far"]).ok().says("EK0314").says("--upgrade-models");
    assert_eq!(locked(&home), lock);
    run(&["lock", "far", "--upgrade-models"]).ok();
    assert!(locked(&home)["models"][0]["files"][0]["version"].as_str().unwrap().starts_with("iris/2 "));
    run(&["build", "far", "--offline"]).ok();

    // Without a project: by its address, and where MLflow put it.
    let said = run(&["test", "models:/iris@champion", "--output", "json"]).ok().json();
    assert_eq!((&said["image"], &said["failed"]), (&json!("iris:2"), &json!(0)), "{said:#}");
    let built = run(&["build", "models:/iris@champion", "--tag", "mine:1"]).ok().out;
    assert_eq!(run(&["build", "models:/iris/2"]).ok().out, built, "an alias is what it stands for");
    drop(mlflow);
    let alone = home.run(["build", "models:/iris@champion", "--offline"]).ok().out;
    assert_eq!(alone, built, "what is here is enough");
    home.run(["build", "models:/iris@champion"]).ends(2).says("MLFLOW_TRACKING_URI");
}

#[test]
fn a_project_begins_with_an_address_and_a_folder_of_mlflows_needs_none() {
    let home = Home::warm();
    let mlflow = Mlflow::start(&home);
    mlflow.script(IRISES);
    let run = |args: &[&str]| run(&home, &mlflow, args);
    run(&["init", "--from", "models:/iris@champion", "mine"]).ok();
    let manifest = std::fs::read_to_string(home.path("mine/ekiben.yaml")).unwrap();
    assert!(manifest.contains("from: \"models:/iris@champion\"\n      path: model\n"), "{manifest}");
    assert!(!std::fs::exists(home.path("mine/model")).unwrap());
    home.run(["validate", "mine"]).ok();
    run(&["lock", "mine"]).ok().says("7 files of the model");
    // The same folder on this machine.
    let script = format!("mlflow.artifacts.download_artifacts('models:/iris/1', dst_path={:?})", home.path("iris-1"));
    mlflow.script(&script);
    drop(mlflow);
    home.run(["test", "mine"]).ok();
    let said = home.run(["test", "iris-1", "--output", "json"]).ok().json();
    assert_eq!((&said["image"], &said["failed"]), (&json!("iris-1:0.1.0"), &json!(0)), "{said:#}");
}

#[test]
fn what_cannot_be_had_from_mlflow_says_why() {
    let home = Home::empty();
    let mlflow = Mlflow::start(&home);
    mlflow.script(
        "
with mlflow.start_run() as run:
    mlflow.log_text('a note', 'notes/read.me')
client.create_registered_model('bare')
client.create_model_version('bare', 'dbfs:/somewhere')
client.create_model_version('bare', f'runs:/{run.info.run_id}/nothing', run_id=run.info.run_id)
client.create_model_version('bare', f'runs:/{run.info.run_id}/notes', run_id=run.info.run_id)
",
    );
    let run = |args: &[&str]| run(&home, &mlflow, args);
    for (from, why) in [
        ("models:/bare/99", "not found"),
        ("models:/none/1", "not found"),
        ("models:/bare@champion", "not found"),
        ("models:/bare/1", "lie at dbfs:/somewhere"),
        ("models:/bare/2", "there is nothing at models:/bare/2"),
        ("runs:/0123/model", "not found"),
    ] {
        project(&home, &json!([{ "from": from }]));
        run(&["lock", "far"]).ends(5).says(why).says(from).says("hint: ");
    }
    // It is no model, but files of a run.
    run(&["build", "models:/bare/3"])
        .ends(1)
        .says("no project can be made from models:/bare/3: no model is in the folder");
    assert_eq!(home.stored("projects"), [""; 0]);

    // Credentials: asked for, taken, and told to nobody else.
    let guard = guard(&home, mlflow.server.port);
    let asked = |uri: String, more: &[(&str, &str)]| {
        let mut command = home.command(["lock", "far"]);
        mlflow.knows(&mut command).env("MLFLOW_TRACKING_URI", uri).envs(more.iter().copied());
        ran(&mut command)
    };
    project(&home, &json!([{ "from": "models:/bare/3", "path": "notes" }]));
    asked(guard.url(""), &[]).ends(5).says("MLFLOW_TRACKING_TOKEN");
    asked(guard.url(""), &[("MLFLOW_TRACKING_TOKEN", "wrong")]).ends(5).says("MLFLOW_TRACKING_TOKEN");
    asked(guard.url(""), &[("MLFLOW_TRACKING_TOKEN", "right")]).ok();
    std::fs::remove_file(home.path("far/ekiben.lock")).unwrap();
    let basic = [("MLFLOW_TRACKING_USERNAME", "me"), ("MLFLOW_TRACKING_PASSWORD", "right")];
    asked(guard.url(""), &basic).ok();
    let said = asked(format!("http://me:right@127.0.0.1:{}/elsewhere", guard.port), &[]);
    let said = said.ends(5).says("elsewhere");
    assert!(!said.err.contains("right"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(home.path("guard.log")).unwrap(), "", "nobody follows it to another origin");
    // What is no server at all, and nobody.
    for (uri, why, code) in [
        ("sqlite:///mlflow.db".to_owned(), "only servers are asked", 2),
        ("databricks".to_owned(), "Databricks", 2),
        (format!("http://127.0.0.1:{}", free_port()), "does not answer", 5),
        (mlflow.objects.url(""), "cannot be understood", 5),
    ] {
        asked(uri, &[]).ends(code).says(why);
    }
}

/// Lets those through to an MLflow server on `port` who show a credential; who asks below `/elsewhere` is sent on to another
/// origin, and noted there.
fn guard(home: &Home, port: u16) -> Server {
    const GUARD: &str = r#"
import http.server, sys, urllib.error, urllib.request
own, behind, log = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "a", buffering=1)
RIGHT = ("Bearer right", "Basic bWU6cmlnaHQ=")
class Guard(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        shown = self.headers.get("Authorization")
        if self.path.startswith("/caught"):
            log.write(f"redirected {shown}\n")
            return self.answer(404, b"{}")
        if self.path.startswith("/elsewhere"):
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{own}/caught")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if shown not in RIGHT:
            return self.answer(401, b"who are you?")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{behind}{self.path}") as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", own), Guard).serve_forever()
"#;
    let own = free_port();
    let mut command = tool("python3");
    command.args(["-c", GUARD, &own.to_string(), &port.to_string(), &home.path("guard.log")]);
    Server::start(command, own)
}

/// Models of which images are made: two that answer, one that cannot be loaded as it has no requirements, one that is not
/// tagged.
const TAGGED: &str = "
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
data, kinds = load_iris(return_X_y=True, as_frame=True)
log('iris', LogisticRegression(max_iter=500).fit(data, kinds), input_example=data.head(2))
log('iris', LogisticRegression(max_iter=400).fit(data, kinds), input_example=data.head(2))
tree = DecisionTreeClassifier(random_state=0).fit(data, kinds)
log('trees', tree, input_example=data.head(2), serialization_format='pickle')
client.create_registered_model('broken')
with mlflow.start_run() as run:
    mlflow.log_text('flavors: [', 'model/MLmodel')
client.create_model_version('broken', f'runs:/{run.info.run_id}/model', run_id=run.info.run_id)
for name, version in [('iris', '1'), ('trees', '1'), ('broken', '1')]:
    client.set_model_version_tag(name, version, 'production', 'true')
";

/// What MLflow says of a version's tags, in order of their names, without times.
fn tags(mlflow: &Mlflow, name: &str, version: u64) -> Vec<(String, String)> {
    let script = format!("for tag in sorted(client.get_model_version({name:?}, {version}).tags.items()): print(*tag)");
    let said = mlflow.script(&script);
    let pairs = said.lines().map(|line| line.split_once(' ').unwrap());
    let pairs = pairs.filter(|(key, _)| *key != "ekiben.at" && *key != "production");
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A look at the versions that are tagged for production, whose images go below `prefix`.
fn followed(home: &Home, mlflow: &Mlflow, prefix: &str, more: &[&str]) -> Command {
    let mut command = home.command(["follow", "models:/", "--where", "tags.production = 'true'", "--push", prefix]);
    mlflow.knows(command.args(more));
    command
}

#[test]
fn tagged_versions_become_tested_images_whoever_is_killed() {
    let home = Home::warm();
    let mlflow = Mlflow::start(&home);
    mlflow.script(TAGGED);
    let registry = Registry::start();
    let prefix = registry.reference("models");
    let asked = |more: &[&str]| followed(&home, &mlflow, &prefix, more);

    // Two that write the same tag at once are both heard.
    let server = mlflow::Server::new(&Client::new(Network::Online), &mlflow.server.url("")).unwrap();
    let version = server.version("iris", &Which::Number(2)).unwrap();
    for round in 0..40 {
        let key = format!("round.{round}");
        let write = || server.set_tag(&version, &key, "both").unwrap();
        std::thread::scope(|scope| [scope.spawn(write), scope.spawn(write)].map(|one| one.join().unwrap()));
        server.delete_tag(&version, &key).unwrap();
    }

    // A registry that is away is nobody's fault.
    let folder = registry.stop();
    let said = ran(&mut asked(&["--once", "--output", "json"])).ends(1).json();
    let waiting: Vec<_> = said["waiting"].as_array().unwrap().iter().map(|one| &one["model"]).collect();
    assert_eq!(waiting, [&json!("iris"), &json!("trees")], "{said:#}");
    assert_eq!((&said["versions"][0]["model"], &said["versions"][0]["status"]), (&json!("broken"), &json!("failed")));
    let broken = tags(&mlflow, "broken", 1);
    assert_eq!(broken[1], ("ekiben.status".to_owned(), "failed".to_owned()));
    assert!(broken[0].1.contains("its description cannot be read"), "{broken:?}");
    let registry = Registry::on(folder, "", "");
    let prefix = registry.reference("models");
    let asked = |more: &[&str]| followed(&home, &mlflow, &prefix, more);

    // Killed again and again, and two at once at last.
    for pause in [1500, 3000, 4500, 6000] {
        let mut process = asked(&["--every", "1s"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let deploy =
        "echo \"$EKIBEN_MODEL $EKIBEN_VERSION $EKIBEN_IMAGE\" >> deployed; echo ignored; echo http://at/$EKIBEN_MODEL";
    std::thread::scope(|scope| {
        let one = || ran(&mut asked(&["--once", "--on-success", deploy]));
        let (one, other) = (scope.spawn(one), scope.spawn(one));
        one.join().unwrap().ok();
        other.join().unwrap().ok();
    });
    let of = |name: &str| -> String {
        let found = tags(&mlflow, name, 1);
        let image = &found[0];
        assert_eq!(
            (image.0.as_str(), found[1].clone()),
            ("ekiben.image", ("ekiben.status".into(), "done".into())),
            "{found:?}"
        );
        assert!(image.1.starts_with(&format!("{prefix}/{name}@sha256:")), "{found:?}");
        is_whole(&image.1);
        image.1.clone()
    };
    let images = [of("iris"), of("trees")];
    assert!(tags(&mlflow, "iris", 2).is_empty(), "nobody asked for it");
    // The command was run for what was built then: at most once by each of the two.
    let deployed = std::fs::read_to_string(home.path("deployed")).unwrap_or_default();
    for line in deployed.lines() {
        assert!(images.iter().any(|image| line.ends_with(image)), "{deployed}");
    }

    // Nothing is left to be done; what failed is tried again when that is asked for.
    assert_eq!(ran(&mut asked(&["--once"])).ok().out, "nothing to do: 2 done, 1 failed before\n");
    ran(&mut asked(&["--once", "--retry"])).ends(1).says("models:/broken/1 failed");
    // Another version takes over, under an alias, with words of one's own.
    mlflow.script(
        "client.set_registered_model_alias('iris', 'champion', '2')\n\
         client.delete_model_version_tag('iris', '1', 'production')",
    );
    let said = ran(asked(&["--once"]).args(["--output", "json"])).ok().json();
    let retired = json!([{ "model": "iris", "version": 1, "status": "retired" }]);
    assert_eq!(said["versions"], retired, "{said:#}");
    assert_eq!(tags(&mlflow, "iris", 1)[1].1, "retired");
    let mut command = home.command(["follow", "models:/iris", "--alias", "champion", "--push", &prefix, "--once"]);
    command.args(["--tag-prefix", "ours_", "--endpoint-tag", "where", "--on-success", deploy]);
    ran(mlflow.knows(&mut command)).ok();
    let found = tags(&mlflow, "iris", 2);
    let of = |key: &str| found.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    assert_eq!((of("ours_status"), of("where")), (Some("done"), Some("http://at/iris")), "{found:?}");
    // A command that fails is the version's failure.
    mlflow.script("client.set_registered_model_alias('trees', 'next', '1')");
    let mut command = home.command(["follow", "models:/", "--alias", "next", "--push", &prefix, "--once"]);
    command.args(["--tag-prefix", "more_", "--on-success", "echo no; exit 3"]);
    ran(mlflow.knows(&mut command)).ends(1).says("`echo no; exit 3` ended with exit status: 3");
    // MLflow away.
    let mut command = asked(&["--once"]);
    drop(mlflow);
    ran(&mut command).ends(5).says("does not answer");
}
