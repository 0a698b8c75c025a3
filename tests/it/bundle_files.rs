//! The generated files of a bundle, for the iris model.

use std::collections::BTreeMap;
use std::path::Path;

use ekiben::base;
use ekiben::base::python::Package;
use ekiben::bundle::generate::{self, Api, Facts};
use ekiben::image::oci::platform::Platform;
use ekiben::io::archive::ArchivePath;
use ekiben::io::digest::Digest;
use ekiben::io::explain::Explain as _;
use ekiben::project::lock::{Lock, LockedPlatform};
use ekiben::project::manifest::Manifest;
use serde_json::json;

fn iris() -> Manifest {
    serde_json::from_value(json!({
        "name": "iris",
        "version": "1.0",
        "description": "Tells three irises apart by four measurements",
        "labels": { "owner": "botany", "cost": "5 $ \"or so\"" },
        "python": { "version": "3.11", "requirements": "requirements.txt" },
        "system": { "packages": ["libgomp1"] },
        "service": {
            "predict": "src/predict.py:predict",
            "inputs": [{ "name": "features", "description": "rows of four measurements" }],
        },
        "env": { "LOG_LEVEL": "info" },
        "tests": [{ "name": "a setosa", "request": { "features": [[5.1, 3.5, 1.4, 0.2]] }, "expect": [0] }],
    }))
    .unwrap()
}

fn lock() -> Lock {
    let package = |name: &str, version: &str, of: &[&str]| Package {
        name: name.into(),
        version: version.into(),
        url: None,
        digests: of.iter().map(Digest::of).collect(),
    };
    let locked =
        |python| LockedPlatform { base: base::LockedBase::Scratch, system: Vec::new(), executed: None, python };
    let amd64 = locked(vec![package("numpy", "1.26.4", &["amd64"]), package("only-here", "1", &["a"])]);
    let arm64 = locked(vec![package("numpy", "1.26.4", &["arm64"])]);
    let platforms = BTreeMap::from([(Platform::Amd64, amd64), (Platform::Arm64, arm64)]);
    Lock {
        lock: 1,
        input: Digest::of(""),
        python: Some("3.11".parse().unwrap()),
        platforms,
        relaxed: Vec::new(),
        trained: None,
        models: Vec::new(),
    }
}

fn api(manifest: &Manifest) -> Api {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/iris");
    Api::new(manifest, &|file| std::fs::read(project.join(file)), None).unwrap()
}

#[test]
fn the_files_of_the_iris_bundle() {
    let (manifest, lock) = (iris(), lock());
    let facts = Facts {
        manifest: &manifest,
        version: "1.0",
        lock: &lock,
        api: &api(&manifest),
        code: &[ArchivePath::new("src").unwrap()],
        weights: &[ArchivePath::new("model.pkl").unwrap()],
        requirements: Some("scikit-learn==1.5.2\n"),
    };
    let mut text = String::new();
    for file in generate::bundle(&facts) {
        text += &format!("=== {}\n{}", file.path, String::from_utf8(file.content).unwrap());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_command_takes_the_place_of_the_service() {
    let mut manifest = iris();
    manifest.service = serde_json::from_value(json!({ "command": ["python", "-m", "my server", "it's"] })).unwrap();
    let files = generate::service(&manifest, "1.0", &api(&manifest));
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["env/docker/entrypoint.sh"]);
    let text = std::str::from_utf8(&files[0].content).unwrap();
    assert!(files[0].executable && text.ends_with("exec python -m 'my server' 'it'\\''s'\n"), "{text}");
}

#[test]
fn functions_that_the_service_cannot_serve_are_refused() {
    let refused = |service| {
        let manifest = Manifest { service: serde_json::from_value(service).unwrap(), ..iris() };
        Api::new(&manifest, &|_| Ok(b"def predict(): ...".to_vec()), None).unwrap_err()
    };
    let error = refused(json!({ "functions": { "docs": "src/predict.py:predict" } }));
    assert!(matches!(error, generate::Error::Reserved(_)), "{error}");
    let error = refused(json!({ "predict": "src/predict.py:predikt" }));
    assert_eq!(error.explain().hint.as_deref(), Some("did you mean `predict`?"));
}
