//! Projects whose base commands make: what they led to is in the lock, and whoever builds decides whether they are executed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

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
    other.run(["pack", "tiny", "--locked", "--allow-run", "-o", "tiny.bento"]).ok();
    other.run(["build", "tiny.bento"]).ends(2).says("2 commands would be executed");
    other.run(["build", "tiny.bento", "--allow-run"]).ok();

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
    let reference = base(&registry, "one");
    let manifest = json!({"name": "box", "version": "1", "build": {"file": "Dockerfile"}, "model": {"files": ["w"]},
        "service": {"command": ["/bin/busybox", "httpd", "-f"]}});
    home.write("box/ekiben.json", manifest.to_string());
    home.write("box/w", "weights");
    home.write("box/Dockerfile", format!("FROM {reference}\nENV A=b\n"));
    let digest = home.run(["build", "box"]).ok().out;
    assert_eq!(here(&lock(&home, "box"))["executed"]["images"].as_object().unwrap().len(), 1);
    base(&registry, "two");
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

/// An image with a busybox, which the registry has as `base:1`, another one each time.
fn base(registry: &Registry, change: &str) -> String {
    let (home, reference) = (Home::warm(), registry.reference("base:1"));
    docker_archive(&home.folder().join("base.tar"));
    home.write("Dockerfile", format!("FROM base\nLABEL change={change}\n"));
    let archive = format!("base=docker-archive:{}", home.path("base.tar"));
    home.run(["build", "-t", &reference, "--push", "--build-context", &archive, "."]).ok();
    reference
}

#[test]
fn by_the_lock_of_a_dockerfile_nothing_is_executed_again_anywhere() {
    let registry = Registry::start();
    let (home, below, name) = (Home::warm(), base(&registry, "one"), registry.reference("tool:1"));
    let chance = "RUN /bin/busybox cat /proc/sys/kernel/random/uuid > /chance\n";
    let file = format!("FROM {below}\n{chance}COPY code /code\nRUN /bin/busybox wc -c /code > /size\nRUN true\n");
    home.write("c/Dockerfile", &file);
    home.write("c/code", "code");
    let build = |home: &Home, more: &[&str]| {
        home.run(["build", "c", "--allow-run", "-t", &name].iter().chain(more).copied().collect::<Vec<_>>())
    };
    build(&home, &["--locked"]).ends(7).says("there is no lock at c/Dockerfile.lock").says("--lock c/Dockerfile.lock");
    let built = build(&home, &["--lock", "c/Dockerfile.lock", "--push"]).ok().says("Locked c/Dockerfile.lock");
    let locked: Value = serde_json::from_slice(&fs::read(home.path("c/Dockerfile.lock")).unwrap()).unwrap();
    let steps = here(&locked)["steps"].as_object().unwrap();
    let layers = steps.values().filter(|step| step["layer"]["diff_id"].is_string()).count();
    assert_eq!((steps.len(), layers, here(&locked)["images"].as_object().unwrap().len()), (3, 2, 1), "{locked}");
    home.run(["validate", "c", "c/Dockerfile.lock"]).ok();
    assert_eq!(build(&home, &[]).ok().out, built.out);

    // Elsewhere, with another image at that name, by the lock alone: as root and as anybody.
    base(&registry, "two");
    for other in [Home::warm(), Home::warm().of_a_user()] {
        for file in ["Dockerfile", "Dockerfile.lock", "code"] {
            other.write(&format!("c/{file}"), fs::read(home.path(&format!("c/{file}"))).unwrap());
        }
        fs::set_permissions(other.path("c"), PermissionsExt::from_mode(0o777)).unwrap();
        build(&other, &["--locked"]).ends(1).says("random/uuid").says("and the lock has the layer sha256:");
        let there = build(&other, &["--locked", "--push"]).ok();
        assert_eq!(there.out, built.out);
        assert!(!there.err.contains("Executed"), "{}", there.err);
        // What comes after it finds the layers.
        other.write("c/Dockerfile", format!("{file}RUN /bin/busybox cat /chance /size > /both\n"));
        build(&other, &["--locked", "--push"]).ends(7).says("c/Dockerfile:6");
        build(&other, &[]).ok().says("Executed").says("Locked c/Dockerfile.lock");
        let both =
            |home: &Home, files: &str| home.run(["run", &name, "--", "/bin/busybox", "sh", "-c", files]).ok().out;
        let mine = both(&home, "/bin/busybox cat /chance /size");
        assert_eq!(both(&other, "/bin/busybox cat /both"), mine);
        assert!(mine.ends_with("4 /code\n"), "{mine}");
    }

    // From where the person says; and from nowhere, which is told.
    let other = Home::warm();
    for file in ["Dockerfile", "Dockerfile.lock", "code"] {
        other.write(&format!("c/{file}"), fs::read(home.path(&format!("c/{file}"))).unwrap());
    }
    let nowhere = build(&other, &["--cache-from", "127.0.0.1:9/nothing"]).ok();
    nowhere
        .says("no layers are taken from 127.0.0.1:9/nothing")
        .says("Executed")
        .says("another layer than the lock has");
    fs::copy(home.path("c/Dockerfile.lock"), other.path("c/Dockerfile.lock")).unwrap();
    let repository = registry.reference("tool");
    let taken = build(&other, &["--cache-from", &repository, "--no-cache"]).ok();
    assert!(taken.err.contains("Executed"), "--no-cache executes: {}", taken.err);

    // A lock that says nothing of an image, and one that is none.
    let lock = json!({"lock": 1, "platforms": {}});
    home.write("c/Dockerfile.lock", lock.to_string());
    build(&home, &["--locked"]).ends(7).says("the lock does not have the image").says("base:1");
    home.write("c/Dockerfile.lock", "{\"lock\": 1, \"platform\": {}}");
    build(&home, &[]).ends(3).says("c/Dockerfile.lock:1:").says("platform");
    home.write("c/Dockerfile.lock", "{\"lock\": 2}");
    home.run(["validate", "c/Dockerfile.lock"]).ends(3).says("format 2");
}

#[test]
fn commands_of_a_project_are_given_secrets_and_tried_twice() {
    let home = Home::warm();
    home.build(home.tiny("plain"));
    tiny(&home, "build: {file: Dockerfile}\n");
    let secret = "RUN --mount=type=secret,id=word,required read word </run/secrets/word; test $word = open\n";
    home.write("tiny/Dockerfile", format!("FROM tiny:1\nUSER 0\n{secret}"));
    home.write("word", "open\n");
    home.run(["build", "tiny", "--allow-run"]).ends(3).says("there is no secret `word`");
    home.run(["build", "tiny", "--allow-run", "--secret", "id=word,src=word"]).ok();
    for (option, value) in [("--target", "x"), ("--build-arg", "A=b")] {
        home.run(["build", "tiny", "--allow-run", option, value]).ends(2).says(option);
    }
    home.run(["build", "plain", "--secret", "id=word,src=word"]).ends(2).says("--secret is for Dockerfiles");
    let chance = "RUN python3.11 -c \"import uuid; print(uuid.uuid4())\" > /chance\n";
    home.write("tiny/Dockerfile", format!("FROM tiny:1\nUSER 0\n{chance}"));
    home.run(["build", "tiny", "--allow-run", "--verify-run"]).ends(1).says("chance: other bytes");
}
