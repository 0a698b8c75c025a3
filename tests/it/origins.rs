//! Models that live elsewhere: fetched from real servers, held against the lock, kept once.

use std::process::Command;

use crate::home::registry::Registry;
use crate::home::servers::Server;
use crate::home::{Home, Ran, free_port, python_program, ran, tool};
use serde_json::{Value, json};

/// A hub that has the repositories in a folder.
fn hub(home: &Home, folder: &str, token: Option<&str>) -> Server {
    let port = free_port();
    let mut command = tool("python3");
    command.args(["fixtures/hub/serve.py", &home.path(folder), &port.to_string()]).args(token);
    Server::start(command, port)
}

/// A project without Python whose model's files are these.
pub fn project(home: &Home, files: &Value) {
    let manifest = json!({ "name": "far", "version": "1", "base": "scratch", "model": { "files": files },
        "service": { "command": ["/bin/true"] } });
    home.write("far/ekiben.json", manifest.to_string());
}

pub fn locked(home: &Home) -> Value {
    serde_json::from_slice(&std::fs::read(home.path("far/ekiben.lock")).unwrap()).unwrap()
}

/// What the image holds as its model, with sizes.
fn weights(home: &Home) -> Vec<(String, u64)> {
    home.run(["export", "far:1", "layout"]).ok();
    let _ = std::fs::remove_dir_all(home.path("tree"));
    ran(tool("umoci").args(["unpack", "--image"]).arg(format!("{}:1", home.path("layout"))).arg(home.path("tree")))
        .ok();
    let mut found = Vec::new();
    let root = home.folder().join("tree/rootfs/models/far");
    let listed = ran(tool("find").arg(&root).args(["-type", "f", "-printf", "%P %s\n"])).ok().out;
    for line in listed.lines() {
        let (name, size) = line.rsplit_once(' ').unwrap();
        found.push((name.to_owned(), size.parse().unwrap()));
    }
    found.sort();
    std::fs::remove_dir_all(home.path("layout")).unwrap();
    found
}

fn made(names: &[(&str, u64)]) -> Vec<(String, u64)> {
    names.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
}

#[test]
fn a_bundle_at_an_address_is_built_as_the_file_is() {
    let home = Home::warm();
    home.tiny("tiny");
    home.write("there/other.ekiben", "no bundle");
    home.write("there/other.bento", "no bento");
    home.run(["pack", "tiny", "-o", "there/tiny.ekiben"]).ok();
    home.run(["pack", "tiny", "-o", "there/tiny.bento"]).ok();
    let server = Server::of_files(&home, "there");
    let digest = home.build("there/tiny.ekiben");
    assert_eq!(home.build(server.url("tiny.ekiben")), digest);
    assert_eq!(home.build(server.url("tiny.bento")), home.build("there/tiny.bento"));
    // It is fetched once, and another one under the same name is another one.
    let other = Home::warm();
    other.tiny("tiny");
    other.write("tiny/src/more.py", "x = 1\n");
    other.run(["pack", "tiny", "-o", &home.path("there/tiny.ekiben")]).ok();
    assert_ne!(home.build(server.url("tiny.ekiben")), digest);
    home.run(["build", &server.url("other.ekiben")]).ends(1).says("other.ekiben is not a bundle that can be read");
    home.run(["build", &server.url("other.bento")]).ends(3).says("other.bento is no bundle and no bento");
    home.run(["build", &server.url("nothing.ekiben")]).ends(5).says("there is nothing at");
    // Jobs that only have its address see that a registry has its image, and say in a file what it takes to deploy it.
    let registry = Registry::start();
    home.write("report", "before");
    for _ in 0..2 {
        let reference = registry.reference("tiny");
        let digest = home.run(["ensure", &reference, &server.url("tiny.bento"), "--report", "report"]).ok().out;
        let report: Value = serde_json::from_slice(&std::fs::read(home.path("report")).unwrap()).unwrap();
        assert_eq!(report["target"]["image"], format!("{reference}@{}", digest.trim()));
        assert_eq!(report["target"]["service"]["ready"], "/readyz");
    }
}

#[test]
fn a_file_by_http_is_locked_fetched_once_and_kept() {
    let home = Home::empty();
    home.write("there/model.bin", vec![7; 100_000]);
    let server = Server::of_files(&home, "there");
    project(&home, &json!([{ "from": server.url("model.bin"), "path": "weights/one.bin" }]));
    home.run(["lock", "far"]).ok().says("1 file of the model");
    let lock = locked(&home);
    let file = &lock["models"][0]["files"][0];
    assert_eq!((&file["name"], &file["size"]), (&json!("model.bin"), &json!(100_000)), "{lock:#}");
    let first = home.build("far");
    assert_eq!(weights(&home), made(&[("weights/one.bin", 100_000)]));

    // Another version there changes nothing here, but is told, and taken when that is asked for.
    home.write("there/model.bin", vec![8; 100_000]);
    ran(tool("touch").args(["-d", "2020-01-01"]).arg(home.path("there/model.bin"))).ok();
    assert_eq!(home.build("far"), first);
    home.run(["lock", "far"]).ok().says("EK0314").says("--upgrade-models");
    assert_eq!(locked(&home), lock);
    home.run(["lock", "--check", "far"]).ok();
    home.run(["lock", "far", "--upgrade-models"]).ok();
    let second = home.build("far");
    assert_ne!(second, first);

    // Whoever has the old lock, and not the bytes, is told; nothing of the other bytes is used.
    let other = Home::empty();
    project(&other, &json!([{ "from": server.url("model.bin"), "path": "weights/one.bin" }]));
    other.write("far/ekiben.lock", serde_json::to_vec_pretty(&lock).unwrap());
    other.run(["build", "far"]).ends(7).says("is not what the lock says").says("--upgrade-models");
    assert_eq!(other.run(["images", "--output", "json"]).ok().json()["images"], json!([]), "no image");

    // Without the server, what is here is enough; pruning keeps what an image needs.
    drop(server);
    assert_eq!(home.run(["build", "far", "--offline"]).ok().out.trim(), second);
    home.run(["prune", "--all"]).ok();
    assert_eq!(weights(&home), made(&[("weights/one.bin", 100_000)]));
    home.run(["build", "far"]).ok();
    home.run(["rmi", "far:1"]).ok();
    home.run(["prune", "--all"]).ok();
    home.run(["build", "far"]).ends(5).says("connection refused");
    home.run(["build", "far", "--offline"]).ends(5).says("--offline");
}

#[test]
fn what_the_manifest_says_of_a_file_is_held() {
    let home = Home::empty();
    home.write("there/model.bin", "model");
    let server = Server::of_files(&home, "there");
    let digest = ekiben::io::digest::Digest::of("model").hex();
    project(&home, &json!([{ "from": server.url("model.bin"), "sha256": digest }]));
    home.run(["lock", "far"]).ok();
    project(&home, &json!([{ "from": server.url("model.bin"), "sha256": "0".repeat(64) }]));
    home.run(["lock", "far"]).ends(5).says("is not what the manifest says");
    project(&home, &json!([{ "from": server.url("none.bin") }]));
    home.run(["lock", "far"]).ends(5).says("there is nothing at");
    // A pickle from elsewhere is no better than one of the project.
    home.write("there/model.pkl", b"cposix\nsystem\n(S'id'\ntR.");
    project(&home, &json!([{ "from": server.url("model.pkl") }]));
    home.run(["build", "far"]).ends(3).says("EK0802");
    let said = home.run(["inspect", &server.url("model.pkl")]).ends(3).says("EK0802").says("/model.pkl");
    assert!(said.out.contains("model.pkl") && said.out.contains("pickle"), "{}", said.out);
}

#[test]
fn files_of_this_machine_need_no_copy_in_the_project() {
    let home = Home::empty();
    home.write("disk/a/model.bin", vec![1; 5000]);
    home.write("disk/b/config.json", "{}");
    home.write("disk/b/sub/more.bin", vec![2; 10]);
    let single = home.path("disk/a/model.bin");
    project(&home, &json!([{ "from": single }, { "from": "../disk/b", "path": "rest" }]));
    home.build("far");
    assert_eq!(weights(&home), made(&[("model.bin", 5000), ("rest/config.json", 2), ("rest/sub/more.bin", 10)]));
    project(&home, &json!([{ "from": "../disk/none" }]));
    home.run(["build", "far"]).ends(3).says("EK0304");
}

#[test]
fn a_repository_of_a_hub_is_locked_at_its_commit() {
    let home = Home::empty();
    home.write("hub/owner/name/refs", r#"{"main": "c0ffee", "v1": "c0ffee"}"#);
    for (name, size) in [("config.json", 20), ("weights.bin", 5000), ("onnx/more.bin", 3000), ("a b.txt", 3)] {
        home.write(&format!("hub/owner/name/c0ffee/{name}"), vec![b'x'; size]);
    }
    let server = hub(&home, "hub", Some("hf_secret"));

    // The stand-in is as the hub is: its own client gets the same.
    let client = python_program("hf", "huggingface_hub==1.4.1").with_file_name("python");
    let script = "import sys, huggingface_hub; print(huggingface_hub.snapshot_download('owner/name', revision='v1', \
                  cache_dir=sys.argv[1], token='hf_secret'))";
    let mut command = Command::new(client);
    command.args(["-c", script, &home.path("cache")]).env("HF_ENDPOINT", server.url("")).env("HF_HUB_DISABLE_XET", "1");
    let snapshot = ran(&mut command).ok().out;
    let theirs = ran(tool("find").arg("-L").arg(snapshot.trim()).args(["-type", "f", "-printf", "%P %s\n"])).ok().out;
    let mut theirs: Vec<&str> = theirs.lines().collect();
    theirs.sort_unstable();
    assert_eq!(theirs, ["a b.txt 3", "config.json 20", "onnx/more.bin 3000", "weights.bin 5000"]);

    let run = |args: &[&str], token: Option<&str>| -> Ran {
        let mut command = home.command(args);
        command.env("HF_ENDPOINT", server.url("")).env_remove("HF_TOKEN").env("HF_HOME", home.path("nothing"));
        ran(command.envs(token.map(|token| ("HF_TOKEN", token))))
    };
    project(
        &home,
        &json!([{ "from": "hf://owner/name@v1", "path": "all" }, { "from": "hf://owner/name/onnx/" },
        { "from": "hf://owner/name@c0ffee/config.json" }]),
    );
    run(&["lock", "far"], None).ends(5).says("HF_TOKEN");
    run(&["lock", "far"], Some("hf_secret")).ok().says("6 files of the model");
    let lock = locked(&home);
    let text = lock.to_string();
    assert!(!text.contains("hf_secret") && !text.contains("127.0.0.1"), "{text}");
    assert_eq!(lock["models"][0]["files"][0]["version"], "c0ffee");
    run(&["build", "far"], None).ok();
    let all = [
        ("all/a b.txt", 3),
        ("all/config.json", 20),
        ("all/onnx/more.bin", 3000),
        ("all/weights.bin", 5000),
        ("config.json", 20),
        ("onnx/more.bin", 3000),
    ];
    assert_eq!(weights(&home), made(&all));
    // The branch moves on.
    home.write("hub/owner/name/refs", r#"{"main": "decade", "v1": "c0ffee"}"#);
    home.write("hub/owner/name/decade/onnx/more.bin", vec![b'y'; 3000]);
    run(&["lock", "far"], Some("hf_secret")).ok().says("EK0314").says("hf://owner/name/onnx/");
    project(&home, &json!([{ "from": "hf://owner/other" }]));
    run(&["lock", "far"], Some("hf_secret")).ends(5).says("there is nothing at hf://owner/other@main");
}

/// A server of objects with a bucket `models`, and the key of a user who may read it. It verifies signatures from the first
/// request after those if it is strict; what it thinks of queries and of blanks in keys is wrong then.
pub fn objects(strict: bool) -> (Server, String, String) {
    let moto = python_program("moto_server", "moto[server]==5.1.22");
    let port = free_port();
    let mut command = Command::new(&moto);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    if strict {
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", "9");
    }
    let server = Server::start(command, port);
    let script = r"
import boto3, json, sys
at = dict(endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='a', aws_secret_access_key='b')
iam, s3 = boto3.client('iam', **at), boto3.client('s3', **at)
iam.create_user(UserName='reader')
rule = dict(Version='2012-10-17', Statement=[dict(Effect='Allow', Action='s3:*', Resource='*')])
iam.put_user_policy(UserName='reader', PolicyName='all', PolicyDocument=json.dumps(rule))
key = iam.create_access_key(UserName='reader')['AccessKey']
s3.create_bucket(Bucket='models')
for name, size in [('iris/3/model.bin', 70000), ('iris/3/a+b c.txt', 5), ('iris/3/deep/x.bin', 1), ('iris/30/no.bin', 1)]:
    s3.put_object(Bucket='models', Key=name, Body=b'x' * size)
s3.put_object(Bucket='models', Key='iris/3/', Body=b'')
print(key['AccessKeyId'], key['SecretAccessKey'])
";
    let mut command = Command::new(moto.with_file_name("python"));
    let keys = ran(command.args(["-c", script, &server.url("")])).ok().out;
    let (id, secret) = keys.trim().split_once(' ').unwrap();
    (server, id.to_owned(), secret.to_owned())
}

pub fn at_objects(home: &Home, server: &Server, args: &[&str]) -> Command {
    let mut command = home.command(args);
    command.env("AWS_ENDPOINT_URL", server.url("")).env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", home.folder());
    command
}

#[test]
fn an_object_is_asked_for_with_a_signature() {
    let home = Home::empty();
    let (server, id, secret) = objects(true);
    let run = |args: &[&str], secret: &str| -> Ran {
        let mut command = at_objects(&home, &server, args);
        ran(command.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", secret))
    };
    project(&home, &json!([{ "from": "s3://models/iris/3/model.bin" }]));
    run(&["lock", "far"], "another").ends(5).says("~/.aws");
    run(&["lock", "far"], &secret).ok().says("1 file of the model");
    let text = locked(&home).to_string();
    assert!(!text.contains(&id) && !text.contains(&secret) && !text.contains("127.0.0.1"), "{text}");
    run(&["build", "far"], "not needed any more").ok();
    assert_eq!(weights(&home), made(&[("model.bin", 70000)]));
    // The keys may as well lie in the profile of a file.
    home.write(".aws/credentials", format!("[ours]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"));
    project(&home, &json!([{ "from": "s3://models/iris/30/no.bin" }]));
    ran(at_objects(&home, &server, &["lock", "far"]).env("AWS_PROFILE", "ours")).ok();
}

#[test]
fn a_prefix_stands_for_all_objects_below_it() {
    let home = Home::empty();
    let (server, id, secret) = objects(false);
    let run = |args: &[&str]| -> Ran {
        let mut command = at_objects(&home, &server, args);
        ran(command.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret))
    };
    project(&home, &json!([{ "from": "s3://models/iris/3/" }, { "from": "s3://models/iris/3/a+b c.txt" }]));
    run(&["lock", "far"]).ok().says("4 files of the model");
    run(&["build", "far"]).ok();
    let all = [("3/a+b c.txt", 5), ("3/deep/x.bin", 1), ("3/model.bin", 70000), ("a+b c.txt", 5)];
    assert_eq!(weights(&home), made(&all));
    project(&home, &json!([{ "from": "s3://models/iris/4/" }]));
    run(&["lock", "far"]).ends(5).says("there is nothing at s3://models/iris/4/");
}

/// Puts artifacts into a registry as other tools do: ModelPack's with files as they are and in an archive, a data set beside
/// them; what `oras push` writes of a file and a folder; one whose file would get out; one whose archive is another one's.
const ARTIFACTS: &str = r#"
import gzip, hashlib, io, json, sys, tarfile, urllib.request
root = sys.argv[1]
def ask(method, url, data=None, kind="application/octet-stream"):
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
    return urllib.request.urlopen(request)
def blob(name, data, kind, size=None, **annotations):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    place = ask("POST", f"{root}/v2/{name}/blobs/uploads/", b"").headers["Location"]
    ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
    return {"mediaType": kind, "digest": digest, "size": len(data), "annotations": annotations}
def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
def push(name, config, layers):
    configured = blob(name, b"{}", config)
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": configured, "layers": layers}
    ask("PUT", f"{root}/v2/{name}/manifests/1", json.dumps(manifest).encode(), manifest["mediaType"])
PATH, TITLE, UNPACK = "org.cncf.model.filepath", "org.opencontainers.image.title", "io.deis.oras.content.unpack"
push("pack", "application/vnd.cncf.model.config.v1+json", [
    blob("pack", b"w" * 5000, "application/vnd.cncf.model.weight.v1.raw", **{PATH: "onnx/model.bin"}),
    blob("pack", gzip.compress(tar({"tokens/vocab.txt": b"a b", "config.json": b"{}"})), "application/vnd.cncf.model.weight.config.v1.tar+gzip", **{PATH: "tokens"}),
    blob("pack", b"rows", "application/vnd.cncf.model.dataset.v1.raw", **{PATH: "rows.csv"}),
])
push("oras", "application/vnd.oci.empty.v1+json", [
    blob("oras", b"o" * 300, "application/vnd.oci.image.layer.v1.tar", **{TITLE: "model.bin"}),
    blob("oras", gzip.compress(tar({"folder/one.txt": b"1"})), "application/vnd.oci.image.layer.v1.tar+gzip", **{TITLE: "folder", UNPACK: "true"}),
])
push("out", "application/vnd.oci.empty.v1+json", [blob("out", b"o", "application/x", **{TITLE: "../../out"})])
push("tarout", "application/vnd.kitops.modelkit.config.v1+json", [
    blob("tarout", tar({"../../out": b"o"}), "application/vnd.kitops.modelkit.model.v1.tar"),
])
push("nameless", "application/vnd.oci.empty.v1+json", [blob("nameless", b"o", "application/x")])
"#;

#[test]
fn files_that_a_registry_keeps_are_those_of_its_artifacts() {
    let home = Home::empty();
    let registry = Registry::start();
    let root = format!("http://127.0.0.1:{}", registry.port);
    ran(tool("python3").args(["-c", ARTIFACTS, &root])).ok();
    let at = |name: &str| format!("oci://{}", registry.reference(name));
    project(
        &home,
        &json!([
            { "from": at("pack:1") },
            { "from": at("pack:1/onnx/model.bin"), "path": "alone.bin" },
            { "from": at("oras:1"), "path": "oras" },
            { "from": at("oras:1/folder/") },
        ]),
    );
    home.run(["lock", "far"]).ok().says("7 files of the model");
    home.build("far");
    let all = [
        ("alone.bin", 5000),
        ("folder/one.txt", 1),
        ("oras/folder/one.txt", 1),
        ("oras/model.bin", 300),
        ("pack/config.json", 2),
        ("pack/onnx/model.bin", 5000),
        ("pack/tokens/vocab.txt", 3),
    ];
    assert_eq!(weights(&home), made(&all));
    // Another artifact gets the tag.
    ran(tool("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", "--src-tls-verify=false"]).args([
        format!("docker://{}", registry.reference("oras:1")),
        format!("docker://{}", registry.reference("pack:1")),
    ]))
    .ok();
    home.run(["lock", "far"]).ok().says("EK0314");

    // An image that has a model is one as well: ours.
    home.run(["push", "far:1", &registry.reference("image:1")]).ok();
    let other = Home::empty();
    project(&other, &json!([{ "from": at("image:1/far/"), "path": "again" }]));
    other.run(["lock", "far"]).ok().says("7 files of the model");
    other.build("far");
    let again: Vec<(String, u64)> = all.iter().map(|(name, size)| (format!("again/{name}"), *size)).collect();
    assert_eq!(weights(&other), again);

    for (name, why) in [
        ("out:1", "`../../out`"),
        ("tarout:1", "not allowed"),
        ("nameless:1", "has no name"),
        ("none:1", "none:1"),
        ("pack:1/nothing/", "there is nothing at oci://"),
    ] {
        project(&other, &json!([{ "from": at(name) }]));
        let said = other.run(["lock", "far"]);
        assert!(said.code.is_some_and(|code| code != 0), "{}", said.err);
        said.says(why);
    }
}
