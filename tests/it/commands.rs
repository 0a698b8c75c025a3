//! Projects whose base commands make: what they led to is in the lock, and whoever builds decides whether they are executed.

use std::fs;

use serde_json::{Value, json};

use crate::home::images::docker_archive;
use crate::home::registry::{Registry, skopeo_ok};
use crate::home::{Home, Ran};

/// A copy of `fixtures/tiny` with more in its manifest.
fn tiny(home: &Home, more: &str) {
    let path = home.tiny("tiny").join("ekiben.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{more}")).unwrap();
}

fn lock(home: &Home, project: &str) -> Value {
    serde_json::from_slice(&fs::read(home.path(&format!("{project}/ekiben.lock"))).unwrap()).unwrap()
}

fn here(lock: &Value) -> &Value {
    lock["platforms"].as_object().unwrap().values().next().unwrap()
}

/// What `sh` says within an image.
fn within(home: &Home, image: &str, script: &str) -> Ran {
    home.run(["run", image, "--", "/bin/sh", "-c", script]).ok()
}

const RUN: &str = "system:\n  run:\n    - id -u > /etc/who; echo \"$PWD\" >> /etc/who\n    - |\n      mkdir -p /opt/kept\n      \
                   echo 'a < b' > /opt/kept/text\n      grep -q b /opt/kept/text\n";

#[test]
fn commands_stand_between_the_packages_and_the_model() {
    let home = Home::fetched();
    tiny(&home, RUN);
    let refused = home.run(["build", "tiny"]).ends(2);
    refused.says("2 commands would be executed").says("id -u > /etc/who").says("--allow-run");
    let digest = home.run(["build", "tiny", "--allow-run"]).ok().out;
    assert_eq!(within(&home, "tiny:1", "cat /etc/who /opt/kept/text").out, "0\n/\na < b\n");
    let tested = home.run(["test", "tiny", "--allow-run"]).ok();
    assert!(tested.out.contains("all 3 answers as expected"), "{tested:?}");
    home.run(["inspect", "tiny:1"]).ok();
    let locked = lock(&home, "tiny");
    let steps = here(&locked)["executed"]["steps"].as_object().unwrap();
    assert_eq!(steps.len(), 2, "{steps:?}");

    // The same, for somebody else, by their lock alone, and of a bundle.
    let other = Home::fetched().of_a_user();
    for name in ["ekiben.yaml", "ekiben.lock", "model.json", "src/predict.py"] {
        other.write(&format!("tiny/{name}"), fs::read(home.path(&format!("tiny/{name}"))).unwrap());
    }
    assert_eq!(other.run(["build", "tiny", "--allow-run", "--locked"]).ok().out, digest);
    other.run(["pack", "tiny", "--locked", "--allow-run"]).ok();
    other.run(["build", "tiny-1.ekiben"]).ends(2).says("2 commands would be executed");
    assert_eq!(other.run(["build", "tiny-1.ekiben", "--allow-run"]).ok().out, digest);

    // Another command is another lock.
    let path = home.path("tiny/ekiben.yaml");
    let text = fs::read_to_string(&path).unwrap().replace("a < b", "b < c");
    fs::write(&path, text).unwrap();
    home.run(["build", "tiny", "--allow-run", "--locked"]).ends(7).says("does not fit the manifest");
    home.run(["build", "tiny", "--allow-run"]).ok();
    assert_eq!(within(&home, "tiny:1", "cat /opt/kept/text").out, "b < c\n");
}

#[test]
fn what_commands_leave_is_locked() {
    let home = Home::fetched();
    tiny(&home, "system: {run: [cat /proc/sys/kernel/random/uuid > /etc/chance]}\nbuild: {allow-run: true}\n");
    let digest = home.run(["build", "tiny"]).ok().out;
    assert_eq!(home.run(["build", "tiny", "--locked"]).ok().out, digest);
    // Whoever does not have the layer makes another one, and is not told that it was the same.
    let other = Home::fetched();
    tiny(&other, "system: {run: [cat /proc/sys/kernel/random/uuid > /etc/chance]}\nbuild: {allow-run: true}\n");
    fs::copy(home.path("tiny/ekiben.lock"), other.path("tiny/ekiben.lock")).unwrap();
    let refused = other.run(["build", "tiny", "--locked"]).ends(1);
    refused.says("cat /proc/sys/kernel/random/uuid").says("and the lock has the layer sha256:");
    other.run(["build", "tiny"]).ok().says("led to another layer than the lock has");
    assert_ne!(lock(&home, "tiny"), lock(&other, "tiny"));
    // What a manifest allows, it allows for its own folder.
    home.run(["pack", "tiny"]).ok();
    home.run(["build", "tiny-1.ekiben"]).ends(2).says("would be executed");
}

#[test]
fn commands_see_nothing_of_the_project() {
    let home = Home::fetched();
    home.write("tiny/secret", "word");
    let mount = "--mount=type=bind,source=/,target=/m";
    tiny(&home, &format!("system: {{run: ['{mount} ls -A /m > /etc/seen', 'ls -A / > /etc/root']}}\n"));
    home.run(["build", "tiny", "--allow-run"]).ok();
    assert_eq!(within(&home, "tiny:1", "cat /etc/seen").out, "");
    assert!(!within(&home, "tiny:1", "cat /etc/root").out.lines().any(|name| name == "m"));
    // None reaches the network that is not let.
    tiny(&home, "system: {run: ['exec 3<>/dev/tcp/127.0.0.1/9']}\n");
    home.run(["build", "tiny", "--allow-run"]).ends(1).says("/dev/tcp");
}

#[test]
fn a_dockerfile_stands_in_the_place_of_the_base() {
    let home = Home::warm();
    home.build(home.tiny("plain"));
    let file = "ARG WORD=none\nFROM tiny:1 AS below\nUSER 0\nCOPY data /data\nRUN echo $WORD > /etc/word && python3.11 -c \"import os; os.remove('/data/b')\"\n\
                FROM below AS unused\nRUN false\n";
    tiny(&home, "build: {file: Dockerfile, target: below, args: {WORD: kept}, allow-run: true}\n");
    let file = file.replace("USER 0\n", "ARG WORD\nUSER 0\n");
    home.write("tiny/Dockerfile", &file);
    home.write("tiny/data/a", "1");
    home.write("tiny/data/b", "2");
    home.run(["build", "tiny", "-t", "over:1"]).ok();
    assert_eq!(within(&home, "over:1", "read word </etc/word; echo $word /data/*").out, "kept /data/a\n");
    let tested = home.run(["test", "tiny"]).ok();
    assert!(tested.out.contains("all 3 answers as expected"), "{tested:?}");
    // The layers of the model are those that it has on any base.
    let layers = |name: &str| -> Vec<Value> {
        let shown = home.run(["inspect", name, "--output", "json"]).ok().json();
        shown["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect()
    };
    let (over, plain) = (layers("over:1"), layers("tiny:1"));
    assert!(plain.iter().filter(|layer| over.contains(layer)).count() >= 2, "{plain:?} {over:?}");
    // A file of the context, and the image that FROM names, belong to what is locked.
    home.run(["build", "tiny", "--locked"]).ok();
    home.write("tiny/data/a", "3");
    home.run(["build", "tiny", "--locked"]).ends(7).says("the lock does not have what this command leads to");
    home.run(["build", "tiny", "-t", "over:1"]).ok();
    home.run(["build", "tiny", "--locked"]).ok();
    home.run(["pack", "tiny"]).ends(2).says("does not travel").says("--file");
    // A command that fails, names itself.
    home.write("tiny/Dockerfile", file.replace("/data/b", "/data/c"));
    home.run(["build", "tiny"]).ends(1).says("tiny/Dockerfile:6").says("/data/c");
}

#[test]
fn an_image_that_a_dockerfile_names_stays_the_one_that_was_locked() {
    let registry = Registry::start();
    let home = Home::warm();
    let reference = registry.reference("base:1");
    let put = |change: &str| {
        let home = Home::warm();
        docker_archive(&home.folder().join("base.tar"));
        home.write("Dockerfile", format!("FROM base\nLABEL change={change}\n"));
        let archive = format!("base=docker-archive:{}", home.path("base.tar"));
        home.run(["build", "-t", &reference, "--push", "--build-context", &archive, "."]).ok();
    };
    put("one");
    let manifest = json!({"name": "box", "version": "1", "build": {"file": "Dockerfile"}, "model": {"files": ["w"]},
        "service": {"command": ["/bin/busybox", "httpd", "-f"]}});
    home.write("box/ekiben.json", manifest.to_string());
    home.write("box/w", "weights");
    home.write("box/Dockerfile", format!("FROM {reference}\nENV A=b\n"));
    let digest = home.run(["build", "box"]).ok().out;
    assert_eq!(here(&lock(&home, "box"))["executed"]["images"].as_object().unwrap().len(), 1);
    put("two");
    let other = Home::warm();
    for name in ["ekiben.json", "ekiben.lock", "w", "Dockerfile"] {
        other.write(&format!("box/{name}"), fs::read(home.path(&format!("box/{name}"))).unwrap());
    }
    assert_eq!(other.run(["build", "box", "--locked"]).ok().out, digest);
    let shown = skopeo_ok(&["inspect", "--config", "--tls-verify=false", &format!("docker://{reference}")]);
    assert!(shown.contains("two"), "{shown}");
    // What is new is taken up by whoever asks for it.
    other.run(["lock", "box", "--update"]).ok();
    assert_ne!(other.run(["build", "box"]).ok().out, digest);
}

#[test]
fn commands_that_lead_to_other_files_each_time_are_told() {
    let home = Home::warm();
    docker_archive(&home.folder().join("base.tar"));
    let archive = format!("base=docker-archive:{}", home.path("base.tar"));
    let build = |file: &str| {
        home.write("c/Dockerfile", file);
        home.run(["build", "c", "--allow-run", "--verify-run", "--build-context", &archive])
    };
    build("FROM base\nRUN [\"/bin/busybox\", \"touch\", \"/same\"]\n").ok();
    let text = "FROM base\nRUN /bin/busybox cat /proc/sys/kernel/random/uuid > /chance; echo same > /kept\n";
    let refused = build(text).ends(1);
    let refused =
        refused.says("c/Dockerfile:2").says("other files when it was executed again:\n    chance: other bytes");
    assert!(!refused.err.contains("kept: "), "{}", refused.err);
    // It was executed twice, and is not remembered.
    build(text).ends(1);
    home.run(["build", "c", "--verify-run"]).ends(2).says("--allow-run");
}
