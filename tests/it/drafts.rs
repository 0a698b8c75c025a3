//! What `ekiben test` and `run` make compresses nothing; whoever hands it on gets what `ekiben build` would have made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ekiben::image::store::tree_key;
use ekiben::io::digest::Digest;
use serde_json::Value;

use crate::home::engines::podman;
use crate::home::registry::Registry;
use crate::home::{Home, ran};

/// Two homes in which `tiny:1` was tested and never built: root's and an ordinary user's.
fn tested() -> [Home; 2] {
    [Home::fetched(), Home::fetched().of_a_user()].map(|home| {
        let project = home.tiny("tiny");
        home.run([Path::new("test"), &project]).ok();
        assert!(home.run(["images"]).ok().out.contains("not compressed yet"));
        home
    })
}

/// The digest of `tiny:1` as it is where nothing is run.
fn expected() -> String {
    let home = Home::fetched();
    home.build(home.tiny("tiny"))
}

/// The image `tiny:1`, as `ekiben images` shows it.
fn listed(home: &Home) -> Value {
    home.run(["images", "--output", "json"]).ok().json()["images"][0].clone()
}

/// The folders of layers of `tiny:1`, the lowest first, with their titles. They must not be compressed yet.
fn trees(home: &Home) -> Vec<(String, PathBuf)> {
    let read = |digest: &Value| -> Value {
        let digest: Digest = digest.as_str().unwrap().parse().unwrap();
        serde_json::from_slice(&fs::read(home.store().join("blobs/sha256").join(digest.hex())).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(home.store().join("index.json")).unwrap()).unwrap();
    let config = read(&read(&index["manifests"][0]["digest"])["config"]["digest"]);
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap().iter().zip(config["history"].as_array().unwrap());
    layers
        .map(|(diff_id, history)| {
            let key = tree_key(&diff_id.as_str().unwrap().parse().unwrap(), None);
            (history["created_by"].as_str().unwrap().to_owned(), home.store().join("trees").join(key.hex()))
        })
        .collect()
}

#[test]
fn whoever_hands_it_on_gets_what_a_build_makes() {
    let expected = expected();
    for home in tested() {
        assert_eq!(listed(&home)["digest"], Value::Null);
        // To run it again nothing has to be known.
        home.run(["test", "tiny"]).ok();
        assert_eq!(listed(&home)["digest"], Value::Null);
        let built = home.run(["build", "tiny"]).ok();
        assert_eq!(built.out.trim(), expected);
        assert!(!built.err.contains("Installed") && !built.err.contains("bytecode"), "{}", built.err);
        assert_eq!(listed(&home)["digest"], expected.as_str());
        // From then on it is known.
        home.run(["test", "tiny"]).ok();
        assert_eq!(listed(&home)["digest"], expected.as_str());
    }
    let digest = |args: &[&str]| {
        let [home, _] = tested();
        let ran = home.run(args.iter().copied()).ok();
        assert_eq!(listed(&home)["digest"], expected.as_str(), "{args:?}");
        home.run(["inspect", "tiny:1", "--verify"]).ok();
        ran.out
    };
    let tested: Value = serde_json::from_str(&digest(&["test", "tiny", "--output", "json"])).unwrap();
    assert_eq!(tested["digest"], expected.as_str());
    let inspected: Value = serde_json::from_str(&digest(&["inspect", "tiny:1", "--output", "json"])).unwrap();
    assert_eq!(inspected["digest"], expected.as_str());
    assert!(inspected["layers"][0].get("pending").is_none(), "{inspected}");
    digest(&["export", "tiny:1", "layout"]);
    digest(&["tag", "tiny:1", "again:1"]);
}

#[test]
fn a_registry_gets_what_a_build_makes() {
    let registry = Registry::start();
    let [home, _] = tested();
    let pushed = home.run(["push", "tiny:1", &registry.reference("tiny:1")]).ok();
    assert_eq!(pushed.out.trim(), expected());
    let other = Home::empty();
    other.run(["pull", &registry.reference("tiny:1")]).ok();
    other.run(["inspect", &registry.reference("tiny:1"), "--verify"]).ok();
}

#[test]
fn what_was_changed_in_between_is_found_and_made_again() {
    let expected = expected();
    for home in tested() {
        let (title, tree) = trees(&home).pop().unwrap();
        assert_eq!(title, "code and metadata");
        let code = tree.join("root/app/src/predict.py");
        let text = fs::read_to_string(&code).unwrap();
        for other in [text.replacen('x', "y", 1), format!("{text}\n"), String::new()] {
            fs::write(&code, other).unwrap();
            let refused = home.run(["push", "tiny:1", "localhost:1/tiny:1"]).ends(1);
            refused.says("code and metadata").says("not those that were put there").says(tree.to_str().unwrap());
            assert_eq!(listed(&home)["digest"], Value::Null);
        }
        fs::remove_file(&code).unwrap();
        home.run(["build", "tiny"]).ends(1).says("predict.py");
        // As it says.
        fs::remove_dir_all(&tree).unwrap();
        home.run(["export", "tiny:1", "tiny.tar"]).ends(1).says("build the image again");
        assert_eq!(home.build("tiny"), expected);
        home.run(["inspect", "tiny:1", "--verify"]).ok();
    }
}

#[test]
fn what_a_draft_is_made_of_stays_until_it_is_compressed() {
    let [home, _] = tested();
    let layers = || {
        let trees = home.stored("trees").into_iter().map(|name| home.store().join("trees").join(name));
        trees.filter(|tree| tree.join("members.json").exists()).collect::<Vec<_>>()
    };
    let before = layers();
    home.run(["prune", "--all"]).ok();
    assert!(before.len() >= 3 && layers() == before, "{before:?}");
    home.run(["run", "tiny:1", "--", "python", "-c", "print(1)"]).ok();
    let report = home.run(["inspect", "tiny:1", "--output", "json"]).ok().json();
    assert_eq!(report["digest"], expected());
    home.run(["prune", "--all"]).ok();
    assert_eq!(home.stored("trees"), [""; 0]);
    home.run(["inspect", "tiny:1", "--verify"]).ok();
    // A draft without a name is nobody's.
    let [home, _] = tested();
    home.run(["images", "--remove", "tiny:1"]).ok();
    home.run(["prune", "--all"]).ok();
    assert_eq!(home.stored("trees"), [""; 0]);
}

#[test]
fn two_at_once_come_to_the_same() {
    let home = Home::fetched();
    home.tiny("tiny");
    let both = |args: [&'static [&'static str]; 2]| {
        let threads = args.map(|args| {
            let mut command = home.command(args);
            std::thread::spawn(move || ran(&mut command).ok())
        });
        threads.map(|thread| thread.join().unwrap())
    };
    both([&["test", "tiny"], &["test", "tiny"]]);
    assert_eq!(listed(&home)["digest"], Value::Null);
    let [one, two] = both([&["build", "tiny"], &["inspect", "tiny:1", "--output", "json"]]);
    assert_eq!(two.json()["digest"], one.out.trim());
    assert_eq!(one.out.trim(), expected());
    assert_eq!(home.stored("scratch"), [""; 0]);
}

#[test]
fn engines_that_unpack_layers_themselves_take_it() {
    let [home, _] = tested();
    // It keeps what it is given.
    let shim = home.write("bin/podman", format!("#!/bin/sh\ncp \"$3\" {}\nexit 9\n", home.path("given.tar")));
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path("bin"), std::env::var("PATH").unwrap());
    ran(home.command(["run", "tiny:1", "--engine", "podman"]).env("PATH", path)).ends(1);
    assert_eq!(listed(&home)["digest"], Value::Null);
    let id = || {
        let shown = ran(podman(home.folder()).args(["images", "--no-trunc", "--quiet"])).ok();
        shown.out.trim().to_owned()
    };
    ran(podman(home.folder()).args(["load", "--input", &home.path("given.tar")])).ok();
    let draft = id();
    home.run(["export", "tiny:1", "tiny.tar"]).ok();
    ran(podman(home.folder()).args(["load", "--input", &home.path("tiny.tar")])).ok();
    assert!(draft.starts_with("sha256:") && id() == draft, "{draft}");
}
