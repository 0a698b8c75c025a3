//! Models as artifacts of registries: as the specification has them, with the bytes that the image has.

use std::fs;

use serde_json::Value;

use crate::home::Home;
use crate::home::registry::{Registry, skopeo_ok};

/// The schema of the specification's repository, as it is there (`schema/config-schema.json`, Apache-2.0).
const SCHEMA: &str = include_str!("../../fixtures/schemas/modelpack-config.json");

fn document(reference: &str, option: &str) -> Value {
    let args = ["inspect", option, "--tls-verify=false", &format!("docker://{reference}")];
    serde_json::from_str(&skopeo_ok(&args)).unwrap()
}

fn digests(manifest: &Value) -> Vec<String> {
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_model_is_an_artifact_that_others_read_and_its_bytes_move_once() {
    let registry = Registry::start();
    let home = Home::empty();
    let large = vec![7; 5 << 20];
    home.write("m/weights/net.pmml", &large);
    home.write("m/weights/a.json", "{}");
    home.write("m/weights/b.txt", "words");
    let manifest = "name: m\nversion: '2'\ndescription: A model.\nlicenses: Apache-2.0\nbase: scratch\n\
                    platforms: [linux/amd64]\nmodel: {files: [weights]}\nservice: {command: [/none]}\n";
    home.write("m/ekiben.yaml", manifest);
    home.build("m");
    let (image, pack, car, plain) = (
        registry.reference("m:2"),
        registry.reference("p/m:2"),
        registry.reference("c/m:2"),
        registry.reference("a/m:2"),
    );
    home.run(["push", "m:2", &image]).ok();
    let whole = document(&image, "--raw");
    for (form, reference) in [("modelpack", &pack), ("modelcar", &car), ("artifact", &plain)] {
        let pushed = home.run(["push", "m:2", reference, "--as", form, "--output", "json"]).ok().json();
        // Configuration and manifest are all that is new.
        assert!(pushed["pushed"][0]["sent"].as_u64().unwrap() < 4096, "{form}: {pushed}");
        let again = home.run(["push", "m:2", reference, "--as", form, "--output", "json"]).ok().json();
        assert_eq!(pushed["digest"], again["digest"], "{form}");
        let document = document(reference, "--raw");
        let of_whole = digests(&whole);
        assert!(
            !digests(&document).is_empty() && digests(&document).iter().all(|one| of_whole.contains(one)),
            "{form}"
        );
    }

    // As the specification has it.
    let manifest = document(&pack, "--raw");
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["artifactType"], "application/vnd.cncf.model.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.cncf.model.config.v1+json");
    let layers = manifest["layers"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["mediaType"] == "application/vnd.cncf.model.weight.v1.tar"), "{manifest}");
    let paths: Vec<_> = layers.iter().map(|layer| layer["annotations"]["org.cncf.model.filepath"].as_str()).collect();
    assert_eq!(paths, [Some("models/m/weights"), Some("models/m/weights/net.pmml")]);
    let url = format!(
        "http://{}/v2/p/m/blobs/{}",
        registry.reference("").trim_end_matches('/'),
        manifest["config"]["digest"].as_str().unwrap()
    );
    let config: Value =
        serde_json::from_str(&crate::home::ran(crate::home::tool("curl").args(["-sf", &url])).ok().out).unwrap();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mistakes: Vec<_> =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&config).map(|e| e.to_string()).collect();
    assert!(mistakes.is_empty(), "{config}: {mistakes:?}");
    assert_eq!((&config["descriptor"]["name"], &config["config"]["format"]), (&"m".into(), &"pmml".into()));
    assert_eq!(config["modelfs"]["diffIds"], serde_json::json!(digests(&manifest)), "tars are stored as they are");

    // What was pushed is taken up again, from any of the forms.
    for (number, reference) in [&pack, &car, &plain].into_iter().enumerate() {
        let below = if *reference == car { "m/weights" } else { "models/m/weights" };
        let manifest = format!(
            "name: again\nversion: '1'\nbase: scratch\nplatforms: [linux/amd64]\n\
             model: {{files: [{{from: 'oci://{reference}/{below}/'}}]}}\nservice: {{command: [/none]}}\n"
        );
        home.write(&format!("again{number}/ekiben.yaml"), manifest);
        let other = Home::empty();
        other.write("again/ekiben.yaml", fs::read(home.path(&format!("again{number}/ekiben.yaml"))).unwrap());
        other.build("again");
        let listed = other.run(["inspect", "again:1", "--output", "json"]).ok().json();
        assert!(listed["size"].as_u64().unwrap() > 5 << 20, "{listed}");
    }
    home.run(["fetch", &format!("oci://{pack}"), "--to", &home.path("fetched")]).ok();
    assert!(fs::read(home.path("fetched/models/m/weights/net.pmml")).unwrap() == large);
    // It is no image, and it is said what takes it.
    home.run(["pull", &pack]).ends(1).says("is no image").says("oci://");
    home.run(["push", "m:2", "--as", "modelpack"]).ends(2);
    home.write(
        "n/ekiben.yaml",
        "name: n\nversion: '1'\nbase: scratch\nservice: {command: [/none]}\nplatforms: [linux/amd64]\n",
    );
    home.build("n");
    home.run(["push", "n:1", &registry.reference("n:1"), "--as", "modelpack"]).ends(1).says("no layers of weights");
}
