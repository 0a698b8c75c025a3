//! Weights apart from the code: an image without its models, and their image, with the layers of the whole.

use std::fs;

use ekiben::bundle::apart;
use ekiben::io::digest::Digest;
use serde_json::{Value, json};

use crate::home::registry::{Registry, is_whole, skopeo_ok};
use crate::home::{Home, ask, free_port};

/// A project of two weights and no base. Gives its folder.
fn project(home: &Home) -> String {
    home.write("w/one.bin", vec![1; 5_000_000]);
    home.write("w/deep/two.bin", vec![2; 70_000]);
    let manifest = "name: w\nversion: \"1\"\nbase: scratch\nmodel: {files: ['**/*.bin']}\n\
                    platforms: [linux/amd64, linux/arm64]\nservice: {command: [/bin/serve]}\n";
    home.write("w/ekiben.yaml", manifest);
    home.path("w")
}

/// A manifest of a registry.
fn manifest(reference: &str) -> Value {
    let raw = skopeo_ok(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    serde_json::from_str(&raw).unwrap()
}

fn layers(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_parts_have_the_layers_of_the_whole_and_each_blob_moves_once() {
    let registry = Registry::start();
    let home = Home::empty();
    let folder = project(&home);
    home.run(["build", &folder]).ok();
    let [whole, code, models] = ["w:1", "w:code", "w-models:1"].map(|name| registry.reference(name));
    let pushed = |args: &[&str]| {
        let said = home.run([&["push", "w:1"], args, &["--output", "json"]].concat()).ok().json();
        (said["digest"].as_str().unwrap().to_owned(), said["pushed"][0]["sent"].as_u64().unwrap())
    };
    // What is needed first goes first.
    let (models_digest, sent) = pushed(&["--models-only", &models]);
    assert!(sent > 5_070_000, "{sent}");
    let (code_digest, sent) = pushed(&["--without-models", &code]);
    assert!(sent < 20_000, "{sent}");
    let (whole_digest, sent) = pushed(&[&whole]);
    assert!(sent < 5_000, "{sent}");
    for reference in [&whole, &code, &models] {
        is_whole(reference);
    }

    let [whole_is, code_is, models_is] = [&whole, &code, &models].map(|reference| manifest(reference));
    assert_eq!([layers(&models_is), layers(&code_is)].concat(), layers(&whole_is));
    assert_eq!(layers(&models_is).len(), 2);
    let listed: Value = serde_json::from_str(models_is["annotations"][apart::FILES].as_str().unwrap()).unwrap();
    let two = Digest::of(vec![2; 70_000]);
    let one = Digest::of(vec![1; 5_000_000]);
    let files = json!({ "folder": "/models/w", "files": [
        { "path": "deep/two.bin", "size": 70_000, "digest": two }, { "path": "one.bin", "size": 5_000_000, "digest": one } ] });
    assert_eq!(listed, files);
    assert_eq!(code_is["annotations"][apart::FILES], models_is["annotations"][apart::FILES]);
    assert_eq!(code_is["annotations"][apart::DIGEST], models_digest);
    let inspect = |reference: &str, option: &str| -> Value {
        let args = ["inspect", option, "--tls-verify=false", &format!("docker://{reference}")];
        serde_json::from_str(&skopeo_ok(&args)).unwrap()
    };
    let config = inspect(&models, "--config");
    assert_eq!((&config["os"], config["rootfs"]["diff_ids"].as_array().unwrap().len()), (&json!("linux"), 2));
    assert_eq!(inspect(&code, "--config")["config"]["Labels"][apart::DIGEST], models_digest);

    // Built, they are the same; from the bundle too, and by somebody else.
    let other = Home::empty();
    home.run(["pack", &folder, "-o", "w.ekiben"]).ok();
    let built = |home: &Home, path: &str, part: &str| home.run(["build", path, part]).ok().out.trim().to_owned();
    for (home, path) in [(&home, &folder), (&other, &home.path("w.ekiben"))] {
        assert_eq!(built(home, path, "--without-models"), code_digest);
        assert_eq!(built(home, path, "--models-only"), models_digest);
    }
    let names = |home: &Home| home.run(["images", "--output", "json"]).ok().out;
    assert!(names(&other).contains("1-without-models") && names(&other).contains("1-models"), "{}", names(&other));

    // Whoever pulled the whole has the parts as well.
    let third = Home::empty();
    third.run(["pull", &whole]).ok();
    third.run(["push", &whole, "--models-only", &registry.reference("third:models")]).ok();
    assert_eq!(layers(&manifest(&registry.reference("third:models"))), layers(&models_is));

    // Of a part alone there is no way back.
    home.run(["export", "w:1-without-models", "--bento", "out.bento"])
        .ends(1)
        .says(&format!("in the image {models_digest}"));

    // Another code has the same models.
    home.write("w/ekiben.yaml", fs::read_to_string(home.path("w/ekiben.yaml")).unwrap() + "env: {A: b}\n");
    assert_eq!(built(&home, &folder, "--models-only"), models_digest);
    assert_ne!(built(&home, &folder, "--without-models"), code_digest);
    assert_ne!(whole_digest, code_digest);

    home.run(["push", "w:1", "--models-only"]).ends(2).says("write a REF");
    home.run(["push", "w:1-models", "--without-models", &code]).ok();
    home.run(["push", "w:1-without-models", "--models-only", &models]).ends(1).says("no layers of weights");
}

#[test]
fn a_registry_is_a_cache_of_each_part() {
    let registry = Registry::start();
    let home = Home::empty();
    let folder = project(&home);
    let reference = registry.reference("w");
    let mut digests = Vec::new();
    for part in [None, Some("--without-models"), Some("--models-only")] {
        let ensure = || {
            let args = ["ensure", &reference, &folder].into_iter().chain(part).chain(["--output", "json"]);
            home.run(args).ok().json()
        };
        let [first, again] = [ensure(), ensure()];
        assert_eq!((&first["built"], &again["built"]), (&json!(true), &json!(false)));
        assert_eq!(first["digest"], again["digest"]);
        digests.push(first["digest"].clone());
    }
    digests.dedup();
    assert_eq!(digests.len(), 3);
}

#[test]
fn for_several_platforms_both_parts_are_indexes() {
    let registry = Registry::start();
    let home = Home::empty();
    let folder = project(&home);
    let both = ["--platform", "linux/amd64,linux/arm64"];
    let [code, models] = ["w:code", "w:models"].map(|name| registry.reference(name));
    home.run([&["build", &folder, "--without-models", "-t", &code, "--push"], &both[..]].concat()).ok();
    let digest = home.run([&["build", &folder, "--models-only", "-t", &models, "--push"], &both[..]].concat()).ok().out;
    home.run([&["build", &folder, "-t", "w:both"], &both[..]].concat()).ok();
    let pushed = home.run(["push", "w:both", "--models-only", &registry.reference("again:models")]).ok().out;
    assert_eq!(pushed, digest);
    let [code, models] = [manifest(&code), manifest(&models)];
    let children = |index: &Value| index["manifests"].as_array().unwrap().clone();
    for (code, models) in children(&code).iter().zip(children(&models)) {
        assert_eq!(code["platform"], models["platform"]);
        let named = manifest(&registry.reference(&format!("w@{}", code["digest"].as_str().unwrap())));
        assert_eq!(named["annotations"][apart::DIGEST], models["digest"]);
    }
}

#[test]
fn an_image_without_models_runs_with_a_folder_of_them() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        let project = home.tiny("tiny");
        home.run(["build", "tiny", "--without-models", "-t", "tiny:apart"]).ok();
        let models = home.path("elsewhere");
        fs::create_dir(&models).unwrap();
        fs::rename(project.join("model.json"), format!("{models}/model.json")).unwrap();
        let volume = format!("{models}:/models/tiny:ro");
        let port = free_port().to_string();
        home.run(["run", "--detach", "--name", "apart", "-p", &port, "--volume", &volume, "tiny:apart"]).ok();
        let (status, answer) = ask(&format!("127.0.0.1:{port}"), "POST", "/predict", r#"{"x": 2}"#);
        assert_eq!((status, answer.trim()), (200, "7.0"));
        home.run(["stop", "apart"]).ok();
        let nothing = home.run(["run", "tiny:apart", "--", "sh", "-c", "ls -A /models"]);
        assert_ne!(nothing.code, Some(0), "{nothing:?}");
    }
}
