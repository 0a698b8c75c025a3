//! Bases in files that are damaged: each is a document with a mistake, at a place, and nobody's network is to blame.

use crate::home;
use std::fs;
use std::path::{Path, PathBuf};

use crate::home::Home;
use crate::home::images::docker_archive;
use crate::home::registry::skopeo_ok;
use ekiben::io::digest::Digest;
use serde_json::{Value, json};

const MANIFEST: &str =
    "name: w\nversion: \"1\"\nmodel: {files: [w.bin]}\nservice: {command: [/bin/sh]}\nplatforms: [linux/amd64]\n";

/// A docker archive, and the same image as a layout.
fn made(home: &Home) {
    home.write("p/w.bin", "w");
    docker_archive(Path::new(&home.path("p/base.tar")));
    let to = format!("oci:{}", home.path("p/whole"));
    skopeo_ok(&["copy", "-q", &format!("docker-archive:{}", home.path("p/base.tar")), &to]);
}

/// Building upon `base` fails as it should: with this code, with `said`, with a hint, as text and as JSON.
fn refused(home: &Home, base: &str, said: &str) {
    home.write("p/ekiben.yaml", format!("{MANIFEST}base: '{base}'\n"));
    for command in ["lock", "build"] {
        let ran = home.run([command, "p"]).ends(3).says(said).says("hint");
        assert!(!ran.err.contains("network"), "{}", ran.err);
    }
    let failed = home.run(["build", "p", "--output", "json"]).ends(3);
    let document: Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!(document["error"]["exit_code"], 3);
    assert!(document["error"]["hint"].is_string(), "{document}");
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Where the blob of a descriptor lies.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

/// Changes a document below the index, and all that name it.
fn changed(layout: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&blob(layout, &index["manifests"][0]));
    let mut config = read(&blob(layout, &manifest["config"]));
    change(&mut manifest, &mut config);
    let put = |document: &Value, descriptor: &mut Value| {
        let bytes = serde_json::to_vec(document).unwrap();
        descriptor["digest"] = json!(Digest::of(&bytes).to_string());
        descriptor["size"] = json!(bytes.len());
        fs::write(blob(layout, descriptor), bytes).unwrap();
    };
    // Where the change was to the descriptor of the configuration itself, that stays.
    if manifest["config"]["mediaType"] != "kept" {
        put(&config, &mut manifest["config"]);
    }
    put(&manifest, &mut index["manifests"][0]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn a_layout_that_is_none_is_an_invalid_document() {
    type Damage = fn(&Path);
    let cases: &[(&str, Damage, &str)] = &[
        ("nothing at all", |at| fs::remove_dir_all(at).unwrap(), "there is nothing at "),
        (
            "a file",
            |at| {
                fs::remove_dir_all(at).unwrap();
                fs::write(at, "").unwrap();
            },
            "it is no OCI image layout, as it has no `index.json`",
        ),
        ("no index", |at| fs::remove_file(at.join("index.json")).unwrap(), "it has no `index.json`"),
        (
            "an index that is a folder",
            |at| {
                fs::remove_file(at.join("index.json")).unwrap();
                fs::create_dir(at.join("index.json")).unwrap();
            },
            "index.json: it is no file",
        ),
        (
            "a pipe",
            |at| {
                fs::remove_file(at.join("index.json")).unwrap();
                nix::unistd::mkfifo(&at.join("index.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            "index.json: it is no file",
        ),
        (
            "no JSON",
            |at| fs::write(at.join("index.json"), "{\n  \"a\": }").unwrap(),
            "index.json: this is no manifest: expected value at line 2 column 8",
        ),
        (
            "half an index",
            |at| {
                let text = fs::read(at.join("index.json")).unwrap();
                fs::write(at.join("index.json"), &text[..text.len() / 2]).unwrap();
            },
            "index.json: this is no manifest: EOF",
        ),
        (
            "a large index",
            |at| fs::write(at.join("index.json"), vec![b' '; 5 << 20]).unwrap(),
            "index.json: it is larger than any document",
        ),
        (
            "no images",
            |at| fs::write(at.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap(),
            "index.json: it names no image for linux/amd64",
        ),
        (
            "a manifest as index",
            |at| {
                let index = read(&at.join("index.json"));
                fs::copy(blob(at, &index["manifests"][0]), at.join("index.json")).unwrap();
            },
            "index.json: this is a manifest, and should be an index",
        ),
        (
            "another digest algorithm",
            |at| {
                let text = fs::read_to_string(at.join("index.json")).unwrap().replace("sha256:", "sha512:");
                fs::write(at.join("index.json"), text).unwrap();
            },
            "index.json: this is no manifest",
        ),
        (
            "another version",
            |at| fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap(),
            "oci-layout: version 2.0.0 is not known",
        ),
        ("a broken oci-layout", |at| fs::write(at.join("oci-layout"), "1").unwrap(), "oci-layout: invalid type"),
        ("no blobs", |at| fs::remove_dir_all(at.join("blobs")).unwrap(), ": it is not there"),
        (
            "another manifest",
            |at| {
                let place = blob(at, &read(&at.join("index.json"))["manifests"][0]);
                let text = fs::read_to_string(&place).unwrap().replace("gzip", "GZIP");
                fs::write(place, text).unwrap();
            },
            ": the content has the digest sha256:",
        ),
        (
            "a shorter manifest",
            |at| {
                let place = blob(at, &read(&at.join("index.json"))["manifests"][0]);
                fs::write(place, "{}").unwrap();
            },
            ": it has 2 bytes, expected ",
        ),
        (
            "a missing layer",
            |at| {
                let manifest = read(&blob(at, &read(&at.join("index.json"))["manifests"][0]));
                fs::remove_file(blob(at, &manifest["layers"][1])).unwrap();
            },
            ": it is not there",
        ),
        (
            "a missing configuration",
            |at| {
                let manifest = read(&blob(at, &read(&at.join("index.json"))["manifests"][0]));
                fs::remove_file(blob(at, &manifest["config"])).unwrap();
            },
            ": it is not there",
        ),
        (
            "a layer with another byte",
            |at| {
                let manifest = read(&blob(at, &read(&at.join("index.json"))["manifests"][0]));
                let place = blob(at, &manifest["layers"][1]);
                let mut bytes = fs::read(&place).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(place, bytes).unwrap();
            },
            ": the content has the digest sha256:",
        ),
        (
            "a longer layer",
            |at| {
                let manifest = read(&blob(at, &read(&at.join("index.json"))["manifests"][0]));
                let place = blob(at, &manifest["layers"][1]);
                fs::write(&place, [fs::read(&place).unwrap(), vec![0]].concat()).unwrap();
            },
            " bytes, expected ",
        ),
        (
            "an unknown layer",
            |at| changed(at, |manifest, _| manifest["layers"][0]["mediaType"] = json!("application/x")),
            "`application/x` is no layer that can be unpacked",
        ),
        (
            "an unknown schema",
            |at| changed(at, |manifest, _| manifest["schemaVersion"] = json!(1)),
            "this is a manifest of Docker's first schema",
        ),
        (
            "neither manifest nor index",
            |at| changed(at, |manifest, _| drop(manifest.as_object_mut().unwrap().remove("layers"))),
            "this is neither a manifest nor an index",
        ),
        (
            "both manifest and index",
            |at| changed(at, |manifest, _| manifest["manifests"] = json!([])),
            "this is neither a manifest nor an index",
        ),
        (
            "an index by its own words",
            |at| changed(at, |manifest, _| manifest["mediaType"] = json!("application/vnd.oci.image.index.v1+json")),
            "and has the parts of something else",
        ),
        (
            "another number of layers",
            |at| changed(at, |manifest, _| drop(manifest["layers"].as_array_mut().unwrap().pop())),
            "manifest and configuration have different numbers of layers",
        ),
        ("an unknown processor", |at| changed(at, |_, config| config["architecture"] = json!("vax")), "vax"),
        (
            "a configuration without layers",
            |at| changed(at, |_, config| drop(config.as_object_mut().unwrap().remove("rootfs"))),
            "missing field `rootfs`",
        ),
        (
            "a negative size",
            |at| changed(at, |manifest, _| manifest["layers"][0]["size"] = json!(-1)),
            "this is no manifest: invalid value",
        ),
    ];
    let whole = Home::empty();
    made(&whole);
    for (name, damage, said) in cases {
        // A store of its own: what one has taken in stays.
        let home = Home::empty();
        home::copy(Path::new(&whole.path("p")), Path::new(&home.path("p")), false);
        let layout = PathBuf::from(home.path("p/whole"));
        damage(&layout);
        println!("{name}");
        refused(&home, "oci:whole", said);
        assert_eq!(home.stored("memory").len(), 0, "{name}: something was kept");
    }
    // What is in the store already does not make up for what is not here.
    let index = read(Path::new(&whole.path("p/whole/index.json")));
    let manifest = read(&blob(Path::new(&whole.path("p/whole")), &index["manifests"][0]));
    whole.write("p/ekiben.yaml", format!("{MANIFEST}base: 'oci:whole'\n"));
    whole.run(["lock", "p"]).ok();
    fs::remove_file(blob(Path::new(&whole.path("p/whole")), &manifest["layers"][0])).unwrap();
    fs::remove_file(whole.path("p/ekiben.lock")).unwrap();
    refused(&whole, "oci:whole", ": it is not there");
}

#[test]
fn a_docker_archive_that_is_none_is_an_invalid_document() {
    let whole = Home::empty();
    made(&whole);
    let archive = fs::read(whole.path("p/base.tar")).unwrap();
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        members.push((path, bytes));
    }
    // The archive with members replaced, or taken away.
    let with = |name: &str, content: Option<&[u8]>| {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in &members {
            let bytes = if path == name { content } else { Some(&bytes[..]) };
            if let Some(bytes) = bytes {
                let mut header = tar::Header::new_ustar();
                header.set_mode(0o644);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, bytes).unwrap();
            }
        }
        builder.into_inner().unwrap()
    };
    let edited = |name: &str, from: &str, to: &str| {
        let text = String::from_utf8(members.iter().find(|member| member.0 == name).unwrap().1.clone()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        with(name, Some(text.replace(from, to).as_bytes()))
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "the archive cannot be read"),
        ("no archive", b"not a tar archive".repeat(100), "the archive cannot be read"),
        ("cut short", archive[..archive.len() / 3].to_vec(), "the archive cannot be read"),
        (
            "half compressed",
            {
                let gzip = ekiben::io::compress::Compression::Gzip;
                let mut encoder = gzip.encoder(Vec::new());
                std::io::Write::write_all(&mut encoder, &archive).unwrap();
                let bytes = encoder.finish().unwrap();
                bytes[..bytes.len() / 2].to_vec()
            },
            "the archive cannot be read",
        ),
        ("no manifest", with("manifest.json", None), "it has no file `manifest.json`"),
        ("no JSON", with("manifest.json", Some(b"[{]")), "manifest.json: key must be a string at line 1 column 3"),
        ("no images", with("manifest.json", Some(b"[]")), "manifest.json: it names 0 images, and should name one"),
        (
            "no layers named",
            with("manifest.json", Some(br#"[{"Config":"config.json"}]"#)),
            "manifest.json: missing field `Layers`",
        ),
        ("a missing configuration", with("config.json", None), "it has no file `config.json`"),
        (
            "a broken configuration",
            with("config.json", Some(b"{}")),
            "config.json: this is no configuration: missing field",
        ),
        ("a missing layer", with("2.tar", None), "it has no file `2.tar`"),
        ("another layer", with("2.tar", Some(b"other")), "2.tar: the layer has the digest sha256:"),
        (
            "too few layers",
            edited("manifest.json", ",\"2.tar\"", ""),
            "config.json: it is for 2 layers, and `manifest.json` names 1",
        ),
        ("out of the archive", edited("manifest.json", "2.tar", "../../../../../../etc/passwd"), "it has no file `../"),
        (
            "an unknown processor",
            edited("config.json", "\"architecture\":\"", "\"architecture\":\"x"),
            "config.json: `linux/x",
        ),
    ];
    for (name, bytes, said) in cases {
        let home = Home::empty();
        home.write("p/w.bin", "w");
        home.write("p/base.tar", bytes);
        println!("{name}");
        refused(&home, "docker-archive:base.tar", said);
    }
    let home = Home::empty();
    home.write("p/w.bin", "w");
    refused(&home, "docker-archive:base.tar", "there is nothing at ");
    fs::create_dir(home.path("p/base.tar")).unwrap();
    refused(&home, "docker-archive:base.tar", "it is no file");
}
