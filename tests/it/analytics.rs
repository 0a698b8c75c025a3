//! Archives of the AI Analytics Runtime: read as others pack them, refused where they are wrong, trained, built and asked.

use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use crate::at_once::at_once;
use crate::home::servers::RabbitMq;
use crate::home::{Home, Ran, python_programs, ran};
use crate::interrupts::{interrupted, is_over};

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

/// The files of the format's own example.
fn example() -> Files {
    ["manifest.json", "src/predict.py", "src/train.py"]
        .map(|name| (name.to_owned(), fs::read(format!("fixtures/analytics/{name}")).unwrap()))
        .to_vec()
}

/// The same with another content of some files, or more of them; without those of which there is none.
fn with(changes: &[(&str, Option<&str>)]) -> Files {
    let mut files = example();
    for (name, content) in changes {
        files.retain(|(other, _)| other != name);
        files.extend(content.map(|content| ((*name).to_owned(), content.as_bytes().to_vec())));
    }
    files
}

/// The example's manifest, changed.
fn manifest(change: impl Fn(&mut Value)) -> String {
    let mut manifest = serde_json::from_slice(&example()[0].1).unwrap();
    change(&mut manifest);
    manifest.to_string()
}

fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Readings of a machine that is well.
fn readings() -> String {
    let mut text = "axial,radial,tangential\n".to_owned();
    for number in 0..200_u32 {
        let (a, b) = (f64::from(number % 17), f64::from(number % 5));
        writeln!(text, "{a},{},{}", 2.0 * a + b / 100.0, b).unwrap();
    }
    text
}

#[test]
fn an_archive_is_the_same_project_however_it_was_packed() {
    let home = Home::empty();
    let (mut nested, mut windows, mut mac) = (example(), example(), example());
    nested.iter_mut().for_each(|(name, _)| *name = format!("bearing model/{name}"));
    windows.iter_mut().for_each(|(name, _)| *name = format!("bearing\\{}", name.replace('/', "\\")));
    mac.iter_mut().for_each(|(name, _)| *name = format!("bearing/{name}"));
    mac.push(("__MACOSX/bearing/._manifest.json".to_owned(), b"\0\x05\x16\x07".to_vec()));
    mac.push(("bearing/.DS_Store".to_owned(), b"\0".to_vec()));
    let mut marked = example();
    marked[0].1.splice(0..0, *b"\xef\xbb\xbf");
    let mut first = None;
    for (name, files) in
        [("plain", example()), ("nested", nested), ("windows", windows), ("mac", mac), ("marked", marked)]
    {
        let archive = home.write(&format!("{name}.zip"), zip(&files));
        home.run(["validate", archive.to_str().unwrap()]).ok();
        home.run(["init", "--from", archive.to_str().unwrap(), name]).ok();
        home.run(["validate", name]).ok();
        let made = fs::read_to_string(home.folder().join(name).join("ekiben.yaml")).unwrap();
        let code = fs::read(home.folder().join(name).join("src/train.py")).unwrap();
        assert_eq!(*first.get_or_insert((made.clone(), code.clone())), (made, code), "{name}");
    }
    // A folder becomes a project in its place; what is there is not written over.
    for (name, content) in example() {
        home.write(&format!("folder/{name}"), content);
    }
    home.run(["init", "folder"]).ok();
    assert_eq!(fs::read_to_string(home.folder().join("folder/ekiben.yaml")).unwrap(), first.unwrap().0);
    home.run(["init", "folder"]).ends(1);
    home.run(["init", "--from", "plain.zip", "folder"]).ends(1);
}

#[test]
fn what_is_wrong_with_an_archive_is_said_with_its_place() {
    let home = Home::empty();
    let no_training = manifest(|manifest| manifest["input"]["training"] = json!([]));
    let python = |change: &dyn Fn(&mut Value)| manifest(|manifest| change(&mut manifest["modelData"]["payload"]));
    let of_kind = |kind: &str, payload: Value| manifest(|m| m["modelData"] = json!({"type": kind, "payload": payload}));
    let layers = json!({"layers": [{"name": "web"}]});
    let predict = example()[1].1.clone();
    let predict = String::from_utf8(predict).unwrap();
    let (bare, curly) = (predict.replace("json_data", "data"), manifest(|_| {}).replace('"', "\u{201d}"));
    let more = predict.replace("def predict(json_data)", "def predict(json_data, unit)");
    let renamed = predict.replace("def predict(", "def predicts(");
    let imports = format!("import requests\n{predict}");
    let online = manifest(|manifest| manifest["input"]["training"][1]["payload"]["online"] = json!("true"));
    let needs = "def train(data, hyperparameters, epochs):\n    return 1\n";
    let cases: Vec<(&str, Files, &str)> = vec![
        ("curly quotes", with(&[("manifest.json", Some(&curly))]), "manifest.json:1"),
        ("no predict.py", with(&[("src/predict.py", None)]), "there is no `src/predict.py`"),
        (
            "predict.py at the root",
            with(&[("src/predict.py", None), ("predict.py", Some(&predict))]),
            "there is `predict.py`: put it at `src/predict.py`",
        ),
        ("no train.py", with(&[("src/train.py", None)]), "there is no `src/train.py`, which trains the model"),
        (
            "neither model nor train.py",
            with(&[("src/train.py", None), ("manifest.json", Some(&no_training))]),
            "`trained_model.pkl` is not there, and there is no `src/train.py` that makes it",
        ),
        ("another function", with(&[("src/predict.py", Some(&renamed))]), "did you mean `predicts`?"),
        ("another parameter", with(&[("src/predict.py", Some(&bare))]), "`json_data` is no parameter of `predict`"),
        ("a parameter more", with(&[("src/predict.py", Some(&more))]), "`predict` needs `unit`"),
        ("syntax", with(&[("src/train.py", Some("def train(:\n"))]), "src/train.py:1:11"),
        (
            "not UTF-8",
            with(&[("src/train.py", None)]).into_iter().chain([("src/train.py".into(), vec![0xff])]).collect(),
            "not UTF-8",
        ),
        ("no partial_train", with(&[("manifest.json", Some(&online))]), "src/train.py has no `partial_train`"),
        ("train needs more", with(&[("src/train.py", Some(needs))]), "`train` needs `epochs`"),
        ("an import", with(&[("src/predict.py", Some(&imports))]), "src/predict.py:1:8"),
        (
            "leaves",
            with(&[("manifest.json", Some(&python(&|payload| payload["modelFile"] = json!("../x.pkl"))))]),
            "`../x.pkl` leaves the folder of the manifest",
        ),
        (
            "a version",
            with(&[(
                "manifest.json",
                Some(&python(&|payload| payload["dependencies"][0]["version"] = json!("==2.0"))),
            )]),
            "`==2.0` is no version of a Python package",
        ),
        ("a kind", with(&[("manifest.json", Some(&of_kind("R", json!({}))))]), "manifest.json:1"),
        (
            "no jar",
            with(&[("manifest.json", Some(&of_kind("H2O", json!({"jarFile": "predict.jar"}))))]),
            "there is no file `predict.jar`",
        ),
        (
            "no Dockerfile",
            with(&[
                ("manifest.json", Some(&of_kind("DOCKER_LAYERS", layers))),
                ("docker/Dockerfile", Some("FROM scratch\n")),
            ]),
            "there is `docker/Dockerfile`: put it at `Dockerfile`",
        ),
        ("Ekiben's own manifest", with(&[("ekiben.yaml", Some("name: x\n"))]), "there is ekiben.yaml as well"),
        ("climbs", with(&[("../evil.py", Some("x"))]), "../evil.py"),
        ("absolute", with(&[("/etc/evil.py", Some("x"))]), "/etc/evil.py"),
    ];
    for (what, files, said) in &cases {
        let archive = home.write("archive.zip", zip(files));
        let refused = home.run(["validate", archive.to_str().unwrap()]).ends(3);
        let told = format!("{}{}", refused.out, refused.err);
        assert!(told.contains(said), "{what}: {told}");
        // Nothing is built of it, and nothing is left.
        let built = home.run(["build", "archive.zip"]);
        assert!(matches!(built.code, Some(1 | 3)), "{what}: {built:?}");
        // What only the code says can be set right in a project as well.
        if ["train needs more", "an import"].contains(what) {
            continue;
        }
        assert!(home.run(["init", "--from", "archive.zip", "new"]).code != Some(0), "{what}");
        assert!(!home.folder().join("new").exists(), "{what}");
        assert!(home.stored("projects").len() <= 2, "{what}");
    }
    assert!(!home.folder().join("../evil.py").exists());
}

#[test]
fn archives_that_are_no_archives_are_refused() {
    let home = Home::empty();
    let whole = zip(&example());
    let mut link = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in example() {
        link.start_file(name, SimpleFileOptions::default()).unwrap();
        link.write_all(&content).unwrap();
    }
    link.add_symlink("src/link.py", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let link = link.finish().unwrap().into_inner();
    let deep: Vec<_> = example().into_iter().map(|(name, content)| (format!("a/b/{name}"), content)).collect();
    for (what, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("damaged", [&whole[..60], &[0xff; 40], &whole[100..]].concat()),
        ("link", link),
        ("empty", zip(&[])),
        ("deep", zip(&deep)),
    ] {
        home.write("archive.zip", bytes);
        let refused = home.run(["validate", "archive.zip"]);
        assert!(matches!(refused.code, Some(1 | 3)), "{what}: {refused:?}");
        assert!(!refused.err.is_empty(), "{what}");
        assert!(matches!(home.run(["build", "archive.zip"]).code, Some(1 | 3)), "{what}");
    }
    assert!(home.stored("projects").is_empty());
}

/// What a container answers to one reading.
fn asked(home: &Home, what: &str) -> Value {
    let reading = r#"json_data={"axial": 3.0, "radial": 6.02, "tangential": 2.0}"#;
    home.run(["invoke", what, reading]).ok().json()
}

#[test]
fn an_archive_is_trained_and_answers() {
    let home = Home::fetched();
    home.write("bearing.zip", zip(&example()));
    let data = home.write("measured.csv", readings());
    let train = |args: &[&str]| -> Ran { home.run([&["train", "bearing.zip", "--output", "json"], args].concat()) };

    // It answers nothing before.
    home.run(["train", "bearing.zip"])
        .ends(1)
        .says("the data set `vibration.csv` is neither in the project nor kept here");
    home.run(["data", "add", data.to_str().unwrap(), "--name", "vibration.csv"]).ok();
    home.run(["train", "bearing.zip", "--set", "scales=1"]).ends(2).says("did you mean `scale`?");
    let first = train(&[]).ok().json();
    assert_eq!(first["model"]["file"], "trained_model.pkl");
    assert_eq!(first["statistics"], json!({"components": 2, "records": 200}));
    assert_eq!(first["data"]["name"], "vibration.csv");
    let wear = asked(&home, "bearing-wear-model:1");
    assert!(wear["wear"][0].as_f64().unwrap() >= 0.0, "{wear}");

    // What Ekiben writes around it can be seen.
    home.run(["unpack", "--generated", "bearing.zip", "made"]).ok();
    let made = home.folder().join("made");
    assert!(made.join("ekiben_service/keeper.py").is_file() && made.join("env/docker/entrypoint.sh").is_file());
    assert!(!made.join("src").exists() && !made.join("ekiben.yaml").exists());
    home.run(["inspect", "bearing.zip"]).ends(2).says("ekiben init --from bearing.zip");

    // It is known what comes of it; trained anew it comes to the same.
    let known = train(&[]).ok().json();
    assert_eq!((&known["digest"], &known["seconds"]), (&first["digest"], &first["seconds"]));
    let again = train(&["--again"]).ok().json();
    assert_eq!((&again["model"], &again["digest"]), (&first["model"], &first["digest"]));

    // Two who want the same train it once.
    let new = || home.command(["train", "bearing.zip", "--output", "json", "--set", "n_comp_criteria=1"]);
    let both: Vec<_> = at_once(vec![new(), new()]).into_iter().map(Ran::ok).collect();
    assert!(both.iter().any(|one| one.err.contains("waiting for another process, which trains the same")));
    assert_eq!(both[0].json()["seconds"], both[1].json()["seconds"]);

    // Another parameter makes another model; both are kept, and one can be taken out.
    let other = train(&["--set", "n_comp_criteria=1", "-o", "bearing.ekiben"]).ok().json();
    assert_eq!(other["parameters"]["n_comp_criteria"], 1);
    assert_ne!(other["model"]["digest"], first["model"]["digest"]);
    let kept = home.run(["data", "ls", "--output", "json"]).ok().json();
    assert_eq!(kept["kept"].as_array().unwrap().len(), 3, "{kept}");
    home.run(["prune", "--all"]).ok();
    home.run(["data", "get", "bearing-wear-model", "-o", "model.pkl"]).ok();
    let digest = ekiben::io::digest::Digest::of(fs::read(home.folder().join("model.pkl")).unwrap());
    assert!([&first, &other].iter().any(|one| one["model"]["digest"] == digest.to_string()));

    // The bundle has the model, and says what it was made of, but not when.
    let inspected = home.run(["unpack", "bearing.ekiben", "unpacked"]).ok();
    drop(inspected);
    let lock = fs::read_to_string(home.folder().join("unpacked/ekiben.lock")).unwrap();
    let lock: Value = serde_json::from_str(&lock).unwrap();
    assert_eq!(lock["trained"]["parameters"]["n_comp_criteria"], 1);
    assert_eq!(lock["trained"]["statistics"]["records"], 200);
    assert!(lock["trained"].get("ended").is_none() && lock["trained"].get("took").is_none());
    let lower = asked(&home, "bearing.ekiben");
    assert!(lower["wear"][0].as_f64() >= wear["wear"][0].as_f64(), "{lower} {wear}");
}

#[test]
fn a_training_that_fails_says_where_and_keeps_its_log() {
    let home = Home::fetched();
    let project: PathBuf = home.folder().join("project");
    for (name, content) in example() {
        home.write(&format!("project/{name}"), content);
    }
    home.run(["init", "project"]).ok();
    home.write("project/vibration.csv", readings());
    let source = fs::read_to_string(project.join("src/train.py")).unwrap();
    for (code, said) in [
        (source.replace("import json", "import json\nraise KeyError('here')"), "while its code was imported"),
        (source.replace("return model,", "raise KeyError('here')\n    return model,"), "in its function or command"),
        (source.replace("return model,", "return None; return model,"), "at the model's file, which it did not write"),
    ] {
        home.write("project/src/train.py", code);
        let failed = home.run(["train", "project"]).ends(1).says(said);
        let log = failed.err.split("`ekiben logs ").nth(1).unwrap().split('`').next().unwrap();
        home.run(["logs", log]).ok();
        assert!(!fs::read_to_string(project.join("ekiben.lock")).unwrap().contains("trained_model"));
    }
    // One that is ended has made no model, whatever it was at.
    let slow = "print('trains', flush=True); import time; time.sleep(300)\n    return model,";
    home.write("project/src/train.py", source.replace("return model,", slow));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        is_over(&home, interrupted(&home, &["train", "project"], "trains", signal), signal);
        assert!(!fs::read_to_string(project.join("ekiben.lock")).unwrap().contains("trained_model"));
    }
}

/// Sends 1,000 readings, waits for what is said of the training, asks by a message, and tells both.
const PEER: &str = r#"
import asyncio, json, sys
import aio_pika


async def main():
    connection = await aio_pika.connect(sys.argv[1])
    channel = await connection.channel()
    exchange = await channel.get_exchange("amq.topic")
    came = {}
    for key in ("bearing_training_output_1", "bearing_prediction_output_1"):
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, key)
        came[key] = asyncio.get_running_loop().create_future()
        await queue.consume(lambda message, key=key: came[key].done() or came[key].set_result(message), no_ack=True)

    async def send(key, value, **more):
        message = aio_pika.Message(json.dumps(value).encode(), delivery_mode=2, **more)
        await exchange.publish(message, key)

    for number in range(1000):
        a, b = number % 17, number % 5
        reading = {"axial": a, "radial": 2 * a + b / 100, "tangential": b}
        await send("bearing_training_input_1", reading, message_id=f"t{number}")
    statistics = await asyncio.wait_for(came["bearing_training_output_1"], 120)
    question = {"json_data": [{"axial": 3, "radial": 6.02, "tangential": 2}]}
    await send("bearing_prediction_input_1", question, message_id="q", correlation_id="c")
    answer = await asyncio.wait_for(came["bearing_prediction_output_1"], 60)
    print(json.dumps({"statistics": json.loads(statistics.body), "answer": json.loads(answer.body), "to": answer.correlation_id}))


asyncio.run(main())
"#;

#[test]
fn an_archive_learns_from_messages_and_answers_them() {
    let home = Home::fetched();
    home.write("bearing.zip", zip(&example()));
    home.write("measured.csv", readings());
    home.run(["train", "bearing.zip", "--data", "measured.csv"]).ok();
    let rabbit = RabbitMq::start(&home);
    let (at, url) = (format!("127.0.0.1:{}", rabbit.port), format!("EKIBEN_AMQP_URL={}", rabbit.url()));
    let run = ["run", "bearing.zip", "--detach", "--name", "bearing", "-p", "0", "--connect", &at, "-e", &url];
    home.run(run).ok();
    let reaches = home.run(["ps", "--output", "json"]).ok().json()["containers"][0]["reaches"].clone();
    assert_eq!(reaches, json!([at]));
    let script = home.write("peer.py", PEER);
    let python = python_programs("uvicorn", &["uvicorn", "fastapi", "aio-pika"]).with_file_name("python");
    let said = ran(Command::new(python).arg(script).arg(rabbit.url())).ok().json();
    assert_eq!(said["statistics"], json!({"components": 2, "records": 1000}), "{said}");
    assert_eq!((&said["to"], said["answer"]["wear"].as_array().map(Vec::len)), (&json!("c"), Some(1)), "{said}");
    // What was learnt answers requests as well.
    assert_eq!(asked(&home, "bearing")["wear"], said["answer"]["wear"]);
    home.run(["stop", "bearing"]).ok();
}
