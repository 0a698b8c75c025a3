//! What is said about images, and who signed them: beside an image in registries with and without an API for that. And who
//! signed bundles and folders of models.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ekiben::image::oci::{Artifact, Descriptor, MediaType};
use ekiben::image::registry::{Reference, Registries};
use serde_json::{Value, json};

use crate::at_once::at_once;
use crate::home::front::{Front, Said};
use crate::home::registry::Registry;
use crate::home::{Home, Ran, ask, free_port, is_ready, program, python_programs, ran, session, tool, wait_until};

#[test]
fn what_is_about_an_image_is_found_with_the_api_and_without() {
    let registry = Registry::start();
    let with_api = Front::with_referrers(registry.port, 2);
    let home = tempfile::tempdir().unwrap();
    let session = session(home.path());
    for (place, has_api) in [(registry.reference("plain/w"), false), (with_api.reference("api/w"), true)] {
        let reference: Reference = place.parse().unwrap();
        let repository = Registries::new(&session).repository(&reference);
        let image = Descriptor::of(MediaType::Manifest, b"an image that need not be there yet");
        assert!(repository.referrers(&image.digest, None).unwrap().is_empty());
        let mut all = Vec::new();
        for number in 0..5 {
            let kind = if number % 2 == 0 { "application/even" } else { "application/odd+x" };
            let mut artifact = Artifact::of(kind, "text/plain", format!("text {number}").into_bytes());
            artifact.annotations = BTreeMap::from([("number".to_owned(), number.to_string())]);
            all.push(repository.attach(&image, &artifact).unwrap());
            assert_eq!(&repository.attach(&image, &artifact).unwrap(), all.last().unwrap(), "twice is once");
        }
        let found = repository.referrers(&image.digest, None).unwrap();
        assert_eq!(found, all);
        let odd = repository.referrers(&image.digest, Some("application/odd+x")).unwrap();
        assert_eq!(odd, [all[1].clone(), all[3].clone()]);
        let document = repository.referrer(&odd[0].digest, &image.digest).unwrap();
        let layer = &document.blobs()[0];
        assert_eq!(repository.small_blob(layer, 100).unwrap(), b"text 1");
        assert!(repository.small_blob(layer, 3).is_err(), "it is larger");
        let other = ekiben::io::digest::Digest::of("other");
        assert!(repository.referrer(&odd[0].digest, &other).is_err(), "it is about another");
        let tag = format!("sha256-{}", image.digest.hex());
        assert_eq!(repository.head(&tag).unwrap().is_some(), !has_api);
    }
}

/// cosign and skopeo of Debian trixie, as Debian has them, unpacked. Bookworm's skopeo has sigstore switched off, and no
/// cosign. Put together once by the program itself.
fn trixie() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sigstore");
        fs::create_dir_all(folder.join("project")).unwrap();
        let lock = fs::File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let root = folder.join("tree/rootfs");
        if !root.join("usr/bin/cosign").exists() {
            let manifest = "name: sigstore\nversion: \"1\"\nbase: debian:trixie\nsystem: {packages: [cosign, skopeo]}\n\
                            model: {files: [model.txt]}\nservice: {command: [/usr/bin/cosign]}\n";
            fs::write(folder.join("project/ekiben.yaml"), manifest).unwrap();
            fs::write(folder.join("project/model.txt"), "x").unwrap();
            let _ = fs::remove_dir_all(folder.join("layout"));
            let _ = fs::remove_dir_all(folder.join("tree"));
            let run = |args: &[&str]| {
                let mut command = Command::new(program());
                command.args(args).current_dir(&folder).env("EKIBEN_HOME", folder.join("store"));
                ran(&mut command).ok();
            };
            run(&["build", "project", "-t", "sigstore:1"]);
            run(&["export", "sigstore:1", "layout"]);
            let index: Value = serde_json::from_slice(&fs::read(folder.join("layout/index.json")).unwrap()).unwrap();
            let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
            ran(tool("umoci").current_dir(&folder).args(["unpack", "--image", &format!("layout:{name}"), "tree"])).ok();
        }
        root
    })
}

/// A program of that tree, with the folder `folder` of the host as `/signing`.
fn of_trixie(program: &str, folder: &Path) -> Command {
    let root = trixie();
    let script = "mkdir -p \"$1/signing\" && mount --bind \"$2\" \"$1/signing\" && root=$1 && shift 2 && \
                  exec chroot \"$root\" \"$@\"";
    let mut command = tool("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(root).arg(folder).arg(format!("/usr/bin/{program}"));
    command.env("COSIGN_PASSWORD", PASSWORD).env("HOME", "/tmp");
    command
}

const PASSWORD: &str = "correct horse";

/// A home with keys `a` and `b`, and an image in a registry.
struct Scene {
    home: Home,
    registry: Registry,
    image: String,
    digest: String,
}

impl Scene {
    fn new() -> Self {
        let (home, registry) = (Home::empty(), Registry::start());
        for (name, kind) in [("a", "p256"), ("b", "ed25519")] {
            home.key(name, kind);
        }
        let image = registry.reference("team/w:1");
        let digest = pushed(&home, "one", &image);
        Self { home, registry, image, digest }
    }

    fn sign(&self, image: &str, more: &[&str]) -> String {
        self.home.with_password(&[&["sign", image], more].concat()).ok().out.trim().to_owned()
    }

    fn verify(&self, image: &str, key: &str) -> Ran {
        self.home.run(["verify", image, "--key", &self.home.path(key)])
    }

    fn cosign(&self, args: &[&str]) -> Ran {
        ran(of_trixie("cosign", self.home.folder()).args(args))
    }
}

impl Home {
    fn with_password(&self, args: &[&str]) -> Ran {
        ran(self.command(args).env("COSIGN_PASSWORD", PASSWORD))
    }

    fn key(&self, name: &str, kind: &str) -> Ran {
        self.with_password(&["key", "new", &self.path(name), "--type", kind]).ok()
    }
}

/// Builds an image of no base with `content` as its weights, and pushes it. Gives its digest.
fn pushed(home: &Home, content: &str, image: &str) -> String {
    let folder = home.folder().join(format!("project-{content}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("w.bin"), content).unwrap();
    let manifest = "name: w\nversion: \"1\"\nbase: scratch\nmodel: {files: ['*.bin']}\n\
                    platforms: [linux/amd64, linux/arm64]\nservice: {command: [/bin/serve]}\n";
    fs::write(folder.join("ekiben.yaml"), manifest).unwrap();
    home.run(["build", &folder.display().to_string(), "-t", image, "--push"]).ok().out.trim().to_owned()
}

#[test]
fn signatures_that_are_made_at_once_are_all_kept() {
    // This registry has no list of referrers but the one at a tag.
    let scene = Scene::new();
    let home = &scene.home;
    let keys = ["a", "b", "c", "d"];
    for name in &keys[2..] {
        home.key(name, "ed25519");
    }
    home.run(["tag", &scene.image, "w:1"]).ok();
    for image in [scene.image.as_str(), "w:1"] {
        let sign = |name: &&str| {
            let mut command =
                home.command(["sign", image, "--key", &home.path(&format!("{name}.key")), "--as", "both"]);
            command.env("COSIGN_PASSWORD", PASSWORD);
            command
        };
        at_once(keys.iter().map(sign).collect()).into_iter().for_each(|one| drop(one.ok()));
        for name in keys {
            let found = home
                .run(["verify", image, "--key", &home.path(&format!("{name}.pub")), "--output", "json"])
                .ok()
                .json();
            let mut formats: Vec<_> =
                found["signatures"].as_array().unwrap().iter().map(|one| &one["format"]).collect();
            formats.sort_by_key(|format| format.to_string());
            formats.dedup();
            assert_eq!(formats, ["bundle", "simple"], "{image} by {name}: {found:#}");
        }
    }
}

#[test]
fn keys_are_made_once_and_for_their_owner() {
    let home = Home::empty();
    let made = home.key("release", "p256");
    assert!(made.out.contains("release.key") && made.out.contains("ECDSA P-256"), "{}", made.out);
    let mode = fs::metadata(home.path("release.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(home.path("release.key")).unwrap();
    home.with_password(&["key", "new", &home.path("release")]).ends(2).says("is there already");
    fs::remove_file(home.path("release.key")).unwrap();
    home.with_password(&["key", "new", &home.path("release")]).ends(2).says("release.pub is there already");
    assert!(!Path::new(&home.path("release.key")).exists());
    fs::write(home.path("release.key"), before).unwrap();
    let mut nobody = home.command(["key", "new", &home.path("other")]);
    nobody.env_remove("COSIGN_PASSWORD").env_remove("EKIBEN_KEY_PASSWORD");
    ran(&mut nobody).ends(2).says("no terminal");
    let mut open = home.command(["key", "new", &home.path("open")]);
    ran(open.env("EKIBEN_KEY_PASSWORD", "")).ok().says("empty password");
}

#[test]
fn cosign_and_skopeo_take_what_was_signed_and_we_take_what_cosign_signed() {
    let scene = Scene::new();
    let Scene { home, image, digest, registry } = &scene;
    let at = format!("{}@{digest}", registry.reference("team/w"));
    let cosign = |key: &str, more: &[&str]| {
        let common = ["--insecure-ignore-tlog", "--allow-http-registry", "--key"];
        scene.cosign(&[&["verify"], &common[..], &[key], more, &[image]].concat())
    };
    assert_ne!(cosign("/signing/a.pub", &[]).code, Some(0));
    assert_eq!(&scene.sign(image, &["--key", &home.path("a.key"), "--as", "both"]), digest);
    let seen = cosign("/signing/a.pub", &[]).ok();
    assert_eq!(seen.json()[0]["critical"]["image"]["docker-manifest-digest"], **digest);
    assert_ne!(cosign("/signing/b.pub", &[]).code, Some(0), "somebody else's key");
    scene.sign(image, &["--key", &home.path("b.key")]);
    cosign("/signing/b.pub", &[]).ok();
    cosign("/signing/a.pub", &[]).ok();

    // skopeo, with a policy: the platform's image is what it verifies.
    let policy = |key: &str| {
        let policy = json!({ "default": [{ "type": "reject" }], "transports": { "docker": { registry.reference("team/w"): [{
            "type": "sigstoreSigned", "keyPath": format!("/signing/{key}"), "signedIdentity": { "type": "matchRepository" },
        }] } } });
        home.write("policy.json", policy.to_string());
        home.write("registries.d/here.yaml", "default-docker:\n  use-sigstore-attachments: true\n");
        let _ = fs::remove_dir_all(home.path("copied"));
        let mut skopeo = of_trixie("skopeo", home.folder());
        let options = ["--policy", "/signing/policy.json", "--registries.d", "/signing/registries.d", "copy", "-q"];
        skopeo.args(options).args(["--src-tls-verify=false", &format!("docker://{image}"), "dir:/signing/copied"]);
        ran(&mut skopeo)
    };
    policy("a.pub").ok();
    policy("b.pub").ok();
    home.key("c", "p256");
    assert_ne!(policy("c.pub").code, Some(0));

    // The other way round: cosign's key and signature.
    scene.verify(image, "c.pub").ends(8).says("is not signed by c.pub");
    ran(of_trixie("cosign", home.folder()).args(["generate-key-pair", "--output-key-prefix", "/signing/theirs"])).ok();
    let sign = ["sign", "--tlog-upload=false", "--allow-http-registry", "-y", "--key"];
    scene.cosign(&[&sign[..], &["/signing/theirs.key", &at]].concat()).ok();
    let verified = scene.verify(image, "theirs.pub").ok();
    assert!(verified.out.contains("theirs.pub") && verified.out.contains(digest.as_str()), "{}", verified.out);
    // Keys of one work in the other.
    scene.cosign(&[&sign[..], &["/signing/c.key", &at]].concat()).ok();
    scene.verify(image, "c.pub").ok();
    let second = registry.reference("team/w:2");
    pushed(home, "two", &second);
    scene.sign(&second, &["--key", &home.path("theirs.key")]);
    let common = ["verify", "--insecure-ignore-tlog", "--allow-http-registry", "--key"];
    scene.cosign(&[&common[..], &["/signing/theirs.pub", &second]].concat()).ok();
    // The bundle: cosign asks no log and no clock for it where its root of trust has none.
    let found = home.run(["verify", image, "--key", &home.path("a.pub"), "--output", "json"]).ok().json();
    let formats: Vec<_> = found["signatures"].as_array().unwrap().iter().map(|one| &one["format"]).collect();
    assert_eq!(formats, ["simple", "bundle"], "{found}");
    let root = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [], "certificateAuthorities": [], "ctlogs": [], "timestampAuthorities": [],
    });
    home.write("root.json", root.to_string());
    home.write("predicate.json", "{}");
    let signed = "https://sigstore.dev/cosign/sign/v1";
    let common = ["--new-bundle-format", "--allow-http-registry", "--type", signed];
    let opens = |key: &str| {
        let root = ["--trusted-root", "/signing/root.json", "--insecure-ignore-tlog", "--use-signed-timestamps=false"];
        scene.cosign(&[&["verify-attestation"], &common[..], &root[..], &["--key", key, image]].concat())
    };
    opens("/signing/a.pub").ok();
    assert_ne!(opens("/signing/theirs.pub").code, Some(0));
    let more = [
        "--tlog-upload=false",
        "-y",
        "--predicate",
        "/signing/predicate.json",
        "--key",
        "/signing/theirs.key",
        &second,
    ];
    scene.cosign(&[&["attest"], &common[..], &more[..]].concat()).ok();
    let found = home.run(["verify", &second, "--key", &home.path("theirs.pub"), "--output", "json"]).ok().json();
    let formats: Vec<_> = found["signatures"].as_array().unwrap().iter().map(|one| &one["format"]).collect();
    assert_eq!(formats, ["simple", "bundle"], "{found}");
}

/// The blob of a manifest's layer, as the registry has it.
fn fetched(port: u16, path: &str) -> Vec<u8> {
    let url = format!("http://127.0.0.1:{port}/v2/{path}");
    let accept = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
    let output = tool("curl").args(["-sSfL", "-H", accept, &url]).output().unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Puts a manifest at a tag or digest, past all tools.
fn put(registry: &Registry, path: &str, document: &[u8]) {
    let media = serde_json::from_slice::<Value>(document).unwrap()["mediaType"].as_str().unwrap().to_owned();
    let file = registry.folder.path().join("to-be-put");
    fs::write(&file, document).unwrap();
    let url = format!("http://127.0.0.1:{}/v2/{path}", registry.port);
    let (header, data) = (format!("Content-Type: {media}"), format!("@{}", file.display()));
    ran(tool("curl").args(["-sSf", "-X", "PUT", "-H", &header, "--data-binary", &data, &url])).ok();
}

#[test]
fn what_is_not_signed_is_refused_however_it_looks() {
    let scene = Scene::new();
    let Scene { home, registry, image, digest } = &scene;
    let sign = |image: &str, form: &str| scene.sign(image, &["--key", &home.path("a.key"), "--as", form]);
    // Nothing there.
    scene.verify(image, "a.pub").ends(8).says("there is no signature at all");
    for form in ["simple", "bundle"] {
        let one = registry.reference(&format!("{form}/w:1"));
        home.run(["copy", image, &one]).ok();
        assert_eq!(&sign(&one, form), digest);
        scene.verify(&one, "a.pub").ok();
        // The wrong key.
        scene.verify(&one, "b.pub").ends(8).says("none of the keys has made it");
        // By digest it is the same.
        scene.verify(&format!("{}@{digest}", one.trim_end_matches(":1")), "a.pub").ok();
        // The tag is moved to another image.
        let other = pushed(home, &format!("other-{form}"), &one);
        assert_ne!(&other, digest);
        scene.verify(&one, "a.pub").ends(8).says("is not signed by a.pub");
        // Signatures of the first are put beside the other, as those of it.
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let (of_first, of_other) = (format!("sha256-{}", hex(digest)), format!("sha256-{}", hex(&other)));
        let end = if form == "simple" { ".sig" } else { "" };
        let stolen = fetched(registry.port, &format!("{form}/w/manifests/{of_first}{end}"));
        put(registry, &format!("{form}/w/manifests/{of_other}{end}"), &stolen);
        let why = if form == "simple" { "it is of another image" } else { "is listed as a referrer of" };
        scene.verify(&one, "a.pub").ends(8).says(why);
        if form == "bundle" {
            // The referrer rewritten to be about the other: what is signed inside is not.
            let listed: Value = serde_json::from_slice(&stolen).unwrap();
            let referrer = listed["manifests"][0]["digest"].as_str().unwrap();
            let text = fetched(registry.port, &format!("{form}/w/manifests/{referrer}"));
            let mut value: Value = serde_json::from_slice(&text).unwrap();
            let top = fetched(registry.port, &format!("{form}/w/manifests/{other}"));
            value["subject"] = json!({ "mediaType": value["mediaType"], "digest": other, "size": top.len() });
            let text = value.to_string();
            let forged = ekiben::io::digest::Digest::of(&text);
            put(registry, &format!("{form}/w/manifests/{forged}"), text.as_bytes());
            let mut index = listed.clone();
            index["manifests"][0]["digest"] = json!(forged);
            index["manifests"][0]["size"] = json!(text.len());
            put(registry, &format!("{form}/w/manifests/{of_other}"), index.to_string().as_bytes());
            scene.verify(&one, "a.pub").ends(8).says("it is about another image");
        }
    }
}

#[test]
fn a_registry_that_lies_is_refused() {
    let scene = Scene::new();
    let Scene { home, registry, image, digest } = &scene;
    scene.sign(image, &["--key", &home.path("a.key"), "--as", "both"]);
    let other = pushed(home, "swapped", &registry.reference("team/w:2"));
    let swapped = fetched(registry.port, &format!("team/w/manifests/{other}"));
    let media = "application/vnd.oci.image.manifest.v1+json";
    // It hides signatures.
    let hiding = Front::of(registry.port, |asked| {
        let hidden = asked.path.contains("/manifests/sha256-") || asked.path.contains("/referrers/");
        hidden.then(|| Said { status: 404, headers: Vec::new(), body: Vec::new() })
    });
    scene.verify(&hiding.reference("team/w:1"), "a.pub").ends(8).says("or the registry shows none");
    // It shows another manifest under the tag, and under the digest.
    let bytes = swapped.clone();
    let swapping = Front::of(registry.port, move |asked| {
        asked.path.ends_with("/manifests/1").then(|| Said::bytes(media, bytes.clone()))
    });
    scene.verify(&swapping.reference("team/w:1"), "a.pub").ends(8);
    let wanted = digest.clone();
    let swapping = Front::of(registry.port, move |asked| {
        asked.path.ends_with(&format!("/manifests/{wanted}")).then(|| Said::bytes(media, swapped.clone()))
    });
    scene
        .verify(&format!("{}@{digest}", swapping.reference("team/w")), "a.pub")
        .ends(5)
        .says("not those of the digest");
    // It refuses to say: that is no answer, and no yes.
    let silent = Front::of(registry.port, |asked| {
        asked.path.contains("/manifests/sha256-").then(|| Said { status: 403, headers: Vec::new(), body: Vec::new() })
    });
    scene.verify(&silent.reference("team/w:1"), "a.pub").ends(5);
    // It floods.
    let flood = |count: usize| {
        Front::of(registry.port, move |asked| {
            let listed = asked.path.contains("/referrers/");
            let one = |number: usize| {
                let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
                let digest = ekiben::io::digest::Digest::of(number.to_string());
                json!({ "mediaType": media, "digest": digest, "size": 10, "artifactType": kind })
            };
            let index = "application/vnd.oci.image.index.v1+json";
            let all: Vec<_> = (0..count).map(one).collect();
            listed.then(|| Said::json(index, &json!({ "schemaVersion": 2, "mediaType": index, "manifests": all })))
        })
    };
    scene.verify(&flood(100).reference("team/w:1"), "a.pub").ends(8).says("more than 64 signatures");
    scene.verify(&flood(5000).reference("team/w:1"), "a.pub").ends(5).says("more than 1000 referrers");
    // A few that are not there: the good one at the tag counts, and the others are told.
    let told = scene.verify(&flood(3).reference("team/w:1"), "a.pub").ok();
    assert_eq!(told.out.matches("does not count").count(), 3, "{}", told.out);
}

#[test]
fn an_index_is_signed_with_all_that_is_in_it() {
    let home = Home::empty();
    let registry = Registry::start();
    home.key("a", "p256");
    let (image, copy) = (registry.reference("w:1"), registry.reference("other/w:1"));
    pushed(&home, "multi", &registry.reference("w:first"));
    let folder = home.path("project-multi");
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--push"];
    let digest = home.run([&["build", &folder, "-t", &image], &platforms[..]].concat()).ok().out.trim().to_owned();
    let key = home.path("a.key");
    let signed = home.with_password(&["sign", &image, "--key", &key]).ok();
    assert!(signed.err.contains("linux/amd64") && signed.err.contains("linux/arm64"), "{}", signed.err);
    let verify = |image: &str| home.run(["verify", image, "--key", &home.path("a.pub")]);
    verify(&image).ok();
    let index: Value = serde_json::from_slice(&fetched(registry.port, &format!("w/manifests/{digest}"))).unwrap();
    let children: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap()).collect();
    for child in &children {
        verify(&format!("{}@{child}", registry.reference("w"))).ok();
    }
    // An index of one signed image and another one is not signed.
    let stranger = pushed(&home, "stranger", &registry.reference("w:stranger"));
    let mut forged = index.clone();
    let size = fetched(registry.port, &format!("w/manifests/{stranger}")).len();
    forged["manifests"][1]["digest"] = json!(stranger);
    forged["manifests"][1]["size"] = json!(size);
    put(&registry, "w/manifests/forged", forged.to_string().as_bytes());
    verify(&registry.reference("w:forged")).ends(8);
    let policy = home.write("ekiben-policy.yaml", "keys: {a: a.pub}\nrules: [{images: ['**'], signed: [{by: [a]}]}]\n");
    let policy = policy.display().to_string();
    let copied = |from: &str, more: &[&str]| home.run([&["copy", from, &copy, "--policy", &policy], more].concat());
    copied(&registry.reference("w:forged"), &[]).ends(8).says("no signature by a");
    // Copied with what belongs to it, or without.
    copied(&image, &[]).ok();
    verify(&copy).ends(8);
    copied(&image, &["--referrers"]).ok().says("Attached");
    verify(&copy).ok();
    for child in &children {
        verify(&format!("{}@{child}", registry.reference("other/w"))).ok();
    }
}

#[test]
fn a_signature_made_here_goes_along() {
    let home = Home::empty();
    let registry = Registry::start();
    home.key("a", "p256");
    home.key("b", "ed25519");
    let image = registry.reference("team/w:1");
    let digest = pushed(&home, "local", &image);
    let key = |name: &str| home.path(&format!("{name}.key"));
    let both = ["--as", "both", "--local"];
    home.with_password(&[&["sign", &image, "--key", &key("a")], &both[..]].concat()).ok();
    let verify = |key: &str, more: &[&str]| home.run([&["verify", &image, "--key", &home.path(key)], more].concat());
    verify("a.pub", &["--local"]).ok();
    verify("a.pub", &[]).ends(8);
    // What is beside an image stays with it.
    home.run(["prune", "--all"]).ok();
    verify("a.pub", &["--local"]).ok();
    // Somebody else has signed it there meanwhile.
    home.with_password(&["sign", &image, "--key", &key("b")]).ok();
    home.run(["push", &image]).ok().says("Attached");
    let seen = verify("a.pub", &["--output", "json"]).ok().json();
    assert_eq!(seen["signatures"].as_array().unwrap().len(), 2, "{seen}");
    verify("b.pub", &[]).ok();
    assert!(!home.run(["push", &image]).ok().err.contains("Attached"), "once");
    // Pulled with a policy, it comes with its signatures, which `run` needs.
    let them = Home::empty();
    fs::copy(home.path("a.pub"), them.path("a.pub")).unwrap();
    let policy =
        them.write("p.yaml", "keys: {a: a.pub}\nrules: [{images: ['127.0.0.1:*/team/*'], signed: [{by: [a]}]}]\n");
    let policy = policy.display().to_string();
    them.run(["pull", &image]).ok();
    them.run(["run", &image, "--policy", &policy]).ends(8).says("no signature by a").says("ekiben pull --policy");
    them.run(["pull", &image, "--policy", &policy]).ok().says("Attached");
    them.run(["verify", &image, "--local", "--policy", &policy]).ok().says("Accepted");
    them.run(["tag", &image, "else:1"]).ok();
    them.run(["verify", "else:1", "--policy", &policy]).ends(8).says("no rule is for images of this name");
    let shown = home.run(["inspect", &image]).ok();
    assert!(shown.out.contains("beside") && shown.out.contains("signature"), "{}", shown.out);
    assert!(shown.out.contains(&digest[..12]), "{}", shown.out);
}

#[test]
fn a_command_signs_in_the_place_of_a_key() {
    let scene = Scene::new();
    let Scene { home, image, .. } = &scene;
    let openssl = |args: &[&str]| ran(tool("openssl").current_dir(home.folder()).args(args)).ok();
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "hsm.pem"]);
    openssl(&["ec", "-in", "hsm.pem", "-pubout", "-out", "hsm.pub"]);
    let command = format!("openssl dgst -sha256 -sign {}", home.path("hsm.pem"));
    let wrong = ["--signer", &command, "--public-key", &home.path("a.pub")];
    home.run([&["sign", image], &wrong[..]].concat()).ends(1).says("no signature that its public key verifies");
    home.run(["sign", image, "--signer", &command, "--public-key", &home.path("hsm.pub"), "--as", "both"]).ok();
    scene.verify(image, "hsm.pub").ok();
    home.run(["sign", image]).ends(2).says("nothing to sign with");
    home.run(["sign", image, "--key", "env://NOT_THERE"]).ends(2).says("NOT_THERE");
    let mut wrong = home.command(["sign", image, "--key", &home.path("a.key")]);
    ran(wrong.env("COSIGN_PASSWORD", "guessed")).ends(1).says("does not open with this password");
    let mut key = home.command(["sign", image, "--key", "env://KEY"]);
    key.env("KEY", fs::read_to_string(home.path("a.key")).unwrap()).env("EKIBEN_KEY_PASSWORD", PASSWORD);
    ran(&mut key).ok();
    scene.verify(image, "a.pub").ok();
}

#[test]
fn a_policy_says_all_that_is_missing() {
    let scene = Scene::new();
    let Scene { home, image, digest, registry } = &scene;
    let policy = |text: &str| home.write("ekiben-policy.yaml", text).display().to_string();
    let keys = "keys: {a: a.pub, b: b.pub}\n";
    let strict = format!(
        "{keys}rules:\n- images: ['127.0.0.1:*/team/*']\n  signed:\n  - {{by: [a], identity: ['127.0.0.1:*/team/*']}}\n  \
         - {{by: [b], max-age-days: 30}}\n  base: ['debian:bookworm']\n  licenses: [MIT]\n  commands: none\n  pickles: harmless\n"
    );
    let strict = policy(&strict);
    home.run(["pull", image, "--policy", &strict]).ends(8).says("no signature by a").says("no signature by b");
    scene.sign(image, &["--key", &home.path("a.key"), "--identity", "elsewhere.example/w"]);
    scene.sign(image, &["--key", &home.path("b.key")]);
    home.run(["pull", image, "--policy", &strict]).ends(8).says("of an image called `elsewhere.example/w`");
    scene.sign(image, &["--key", &home.path("a.key")]);
    let refused = home.run(["pull", image, "--policy", &strict]).ends(8);
    for text in ["- it stands on scratch, which is not allowed", "- it does not say under which licences it is"] {
        assert!(refused.err.contains(text), "{}", refused.err);
    }
    let listed = home.run(["images", "--output", "json"]).ok().out;
    home.run(["rmi", image]).ok();
    home.run(["pull", image, "--policy", &strict]).ends(8);
    assert_ne!(home.run(["images", "--output", "json"]).ok().out, listed, "what is refused has no name here");
    let fine = policy(&format!(
        "{keys}rules: [{{images: ['**'], signed: [{{by: [a, b]}}], base: [scratch], pickles: harmless}}]\n"
    ));
    home.run(["pull", image, "--policy", &fine]).ok();
    let mut by_variable = home.command(["pull", image]);
    ran(by_variable.env("EKIBEN_POLICY", policy(&format!("{keys}rules: [{{images: ['x'], accept: anything}}]"))))
        .ends(8);
    // What is signed with a key and holds what runs code when it is loaded.
    fs::create_dir_all(home.path("evil")).unwrap();
    let pickle = b"cos\nsystem\n(S'true'\ntR.";
    fs::write(home.path("evil/w.pkl"), pickle).unwrap();
    let manifest = "name: evil\nversion: \"1\"\nbase: scratch\nmodel: {files: ['*.pkl'], allow: [os.system]}\n\
                    service: {command: [/bin/serve]}\n";
    fs::write(home.path("evil/ekiben.yaml"), manifest).unwrap();
    let evil = registry.reference("team/evil:1");
    home.run(["build", &home.path("evil"), "-t", &evil, "--push"]).ok();
    scene.sign(&evil, &["--key", &home.path("a.key")]);
    let fine = policy(&format!(
        "{keys}rules: [{{images: ['**'], signed: [{{by: [a, b]}}], base: [scratch], pickles: harmless}}]\n"
    ));
    let them = Home::empty();
    for command in [vec!["pull", &evil], vec!["copy", &evil, &registry.reference("x:1")], vec!["verify", &evil]] {
        let refused = them.run([&command[..], &["--policy", &fine]].concat()).ends(8);
        assert!(refused.err.contains("w.pkl") && refused.err.contains("system"), "{}", refused.err);
    }
    // What is in the registry by what it was built from, as CI and the operator ask for it.
    let project = home.path("project-one");
    let ensure = || them.run(["ensure", &registry.reference("team/e"), &project, "--policy", &fine]);
    ensure().ends(8).says("no signature by a or b");
    let of_it = them.run(["ensure", &registry.reference("team/e"), &project]).ok().out.trim().to_owned();
    scene.sign(&format!("{}@{of_it}", registry.reference("team/e")), &["--key", &home.path("b.key")]);
    assert_eq!(ensure().ok().out.trim(), of_it);
    // JSON has it as a program wants it.
    let error = home.run(["verify", &evil, "--policy", &fine, "--output", "json"]).ends(8);
    let error: Value = serde_json::from_str(error.err.lines().last().unwrap()).unwrap();
    assert_eq!(error["error"]["name"], "policy/refused");
    // Mistakes have a place.
    let wrong = policy("rules:\n- images: ['a[']\n  signed: [{by: [nobody]}]\n- images: ['**']\n");
    let told = home.run(["pull", image, "--policy", &wrong]).ends(3);
    for text in ["there is no key `nobody`", "is no pattern", "a rule needs something", "ekiben-policy.yaml:"] {
        assert!(told.err.contains(text), "{text}: {}", told.err);
    }
    home.run(["validate", &wrong]).ends(3);
    // containers' policy, which skopeo reads as well.
    let of_containers = |key: &str, identity: &str| {
        let place = registry.reference("team");
        let signed =
            json!({ "type": "sigstoreSigned", "keyPath": home.path(key), "signedIdentity": { "type": identity } });
        let value = json!({ "default": [{ "type": "reject" }], "transports": { "docker": { place: [signed] } } });
        home.write("policy.json", value.to_string()).display().to_string()
    };
    home.run(["pull", image, "--policy", &of_containers("a.pub", "matchRepository")]).ok();
    home.run(["pull", image, "--policy", &of_containers("a.pub", "matchRepoDigestOrExact")]).ends(8);
    let by_digest = format!("{}@{digest}", registry.reference("team/w"));
    home.run(["pull", &by_digest, "--policy", &of_containers("a.pub", "matchRepoDigestOrExact")]).ok();
    home.key("c", "p256");
    home.run(["pull", image, "--policy", &of_containers("c.pub", "matchRepository")]).ends(8);
    home.run(["copy", image, &registry.reference("y:1"), "--policy", &of_containers("c.pub", "matchRepository")])
        .ends(8);
}

#[test]
fn what_is_refused_is_not_started() {
    let home = Home::warm();
    home.tiny("tiny");
    home.key("k", "p256");
    home.write("rows.jsonl", "{\"x\": 2}\n");
    let rule = |rule: &str| {
        let text = format!("keys: {{k: k.pub}}\nrules: [{{images: [tiny], {rule}}}]\n");
        home.write("ekiben-policy.yaml", text).display().to_string()
    };
    let commands: [&[&str]; 4] = [
        &["run", "tiny", "--", "python3", "-c", "print('started')"],
        &["test", "tiny"],
        &["invoke", "./tiny", "x=2"],
        &["batch", "tiny", "rows.jsonl", "-o", "answers.jsonl"],
    ];
    let policy = rule("signed: [{by: [k]}]");
    for command in commands {
        let refused = ran(home.command(command).env("EKIBEN_POLICY", &policy)).ends(8).says("no signature by k");
        assert!(!refused.err.contains("Started") && refused.out.is_empty(), "{}", refused.err);
    }
    assert!(!home.folder().join("answers.jsonl").exists());
    // What serves says it to whoever asks, and to whoever started it.
    let port = free_port();
    let mut serve = home.command(["serve", "tiny:1", "--port", &port.to_string(), "--policy", &policy]);
    let mut serving = serve.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let address = format!("127.0.0.1:{port}");
    wait_until("serve", || is_ready(&address, "/-/status"));
    let (status, said) = ask(&address, "POST", "/tiny/predict", "{\"x\": 2}");
    assert!(status == 503 && !said.contains("7.0"), "{said}");
    serving.kill().unwrap();
    let mut told = String::new();
    serving.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    serving.wait().unwrap();
    assert!(told.contains("was not started") && told.contains("no signature by k"), "{told}");
    // Signed here, it may be.
    home.with_password(&["sign", "tiny:1", "--key", &home.path("k.key")]).ok();
    for command in commands {
        ran(home.command(command).env("EKIBEN_POLICY", &policy)).ok();
    }
    // A rule for what is built here needs no signature.
    let policy = rule("commands: none, pickles: harmless");
    let model = fs::read_to_string(home.path("tiny/model.json")).unwrap();
    home.write("tiny/model.json", model.replace("3.0", "4.0"));
    home.run(["invoke", "./tiny", "x=2", "--policy", &policy]).ok().says("200 OK");
}

/// A home with keys `a` (P-256) and `b` (Ed25519).
fn with_keys() -> Home {
    let home = Home::empty();
    home.key("a", "p256");
    home.key("b", "ed25519");
    home
}

#[test]
fn a_bundle_is_signed_beside_it_as_cosign_signs_files() {
    let home = with_keys();
    let packed = |content: &str| {
        let folder = home.folder().join(content);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("w.bin"), content.repeat(200_000)).unwrap();
        let manifest =
            "name: w\nversion: \"1\"\nbase: scratch\nmodel: {files: ['*.bin']}\nservice: {command: [/bin/serve]}\n";
        fs::write(folder.join("ekiben.yaml"), manifest).unwrap();
        let bundle = home.path(&format!("{content}.ekiben"));
        home.run(["pack", &folder.display().to_string(), "-o", &bundle]).ok();
        bundle
    };
    let (bundle, other) = (packed("one"), packed("other"));
    let sign =
        |key: &str, more: &[&str]| home.with_password(&[&["sign", &bundle, "--key", &home.path(key)], more].concat());
    let verify = |key: &str, more: &[&str]| home.run([&["verify", &bundle, "--key", &home.path(key)], more].concat());
    let cosign = |args: &[&str]| ran(of_trixie("cosign", home.folder()).args(args));
    let digest = ekiben::io::digest::Digest::of(fs::read(&bundle).unwrap()).to_string();
    verify("a.pub", &[]).ends(8).says("there is no").says("one.ekiben.sig");
    for key in ["a", "b"] {
        let file = format!("{key}.sig");
        let made = sign(&format!("{key}.key"), &["-o", &home.path(&file)]).ok();
        assert_eq!(made.out.trim(), digest);
        let seen = verify(&format!("{key}.pub"), &["--signature", &home.path(&file)]).ok();
        assert!(seen.out.contains(&digest) && seen.out.contains(&format!("{key}.pub")), "{}", seen.out);
        let takes = |key: &str, bundle: &str| {
            let (key, file) = (format!("/signing/{key}.pub"), format!("/signing/{file}"));
            cosign(&["verify-blob", "--insecure-ignore-tlog", "--key", &key, "--signature", &file, bundle])
        };
        takes(key, "/signing/one.ekiben").ok();
        assert_ne!(takes(key, "/signing/other.ekiben").code, Some(0));
        assert_ne!(takes(if key == "a" { "b" } else { "a" }, "/signing/one.ekiben").code, Some(0));
        // And what cosign signed.
        let (key_file, theirs) = (format!("/signing/{key}.key"), format!("/signing/{key}-theirs.sig"));
        cosign(&[
            "sign-blob",
            "--tlog-upload=false",
            "-y",
            "--key",
            &key_file,
            "--output-signature",
            &theirs,
            "/signing/one.ekiben",
        ])
        .ok();
        verify(&format!("{key}.pub"), &["--signature", &home.path(&format!("{key}-theirs.sig"))]).ok();
    }
    // Beside it: made once, and never over another.
    sign("a.key", &[]).ok().says("Signed");
    sign("a.key", &[]).ok().says("Fresh");
    sign("b.key", &[]).ends(2).says("is another signature");
    let seen = verify("b.pub", &["--key", &home.path("a.pub"), "--output", "json"]).ok().json();
    assert_eq!((&seen["keys"][0]["key"], &seen["digest"]), (&json!("a.pub"), &json!(digest)), "{seen}");
    verify("b.pub", &[]).ends(8).says("none of the keys has made it of these bytes");
    // In other bytes the same signature, as OpenSSL has it, and one that a command makes.
    use base64::Engine as _;
    let own = home.path("one.ekiben.sig");
    let text = fs::read_to_string(&own).unwrap();
    let raw = base64::engine::general_purpose::STANDARD.decode(&text).unwrap();
    fs::write(home.path("raw.sig"), &raw).unwrap();
    fs::write(home.path("line.sig"), format!("{text}\n")).unwrap();
    for file in ["raw.sig", "line.sig"] {
        verify("a.pub", &["--signature", &home.path(file)]).ok();
    }
    ran(tool("openssl").current_dir(home.folder()).args([
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "hsm.pem",
    ]))
    .ok();
    ran(tool("openssl").current_dir(home.folder()).args(["ec", "-in", "hsm.pem", "-pubout", "-out", "hsm.pub"])).ok();
    let command = format!("openssl dgst -sha256 -sign {}", home.path("hsm.pem"));
    let by_command = |key: &str| {
        let (key, out) = (home.path(key), home.path("hsm.sig"));
        home.run(["sign", &bundle, "--signer", &command, "--public-key", &key, "-o", &out])
    };
    by_command("a.pub").ends(1).says("no signature that its public key verifies");
    by_command("hsm.pub").ok();
    verify("hsm.pub", &["--signature", &home.path("hsm.sig")]).ok();
    // Attacks: the signature of another bundle, a byte changed, files cut off.
    home.with_password(&["sign", &other, "--key", &home.path("a.key")]).ok();
    verify("a.pub", &["--signature", &home.path("other.ekiben.sig")]).ends(8).says("of these bytes");
    for (name, content) in
        [("cut", &text[..40]), ("empty", ""), ("text", "not a signature"), ("long", &text.repeat(300))]
    {
        let file = home.write(&format!("{name}.sig"), content).display().to_string();
        verify("a.pub", &["--signature", &file]).ends(8).says("does not count");
    }
    verify("a.pub", &["--signature", &home.path("one")]).ends(1).says("is no file");
    let bytes = fs::read(&bundle).unwrap();
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    for content in [&changed[..], &bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), b""] {
        fs::write(&bundle, content).unwrap();
        verify("a.pub", &[]).ends(8).says("of these bytes");
    }
    fs::write(&bundle, &bytes).unwrap();
    verify("a.pub", &[]).ok();
}

#[test]
fn what_is_signed_is_told_apart_by_its_name() {
    let home = with_keys();
    let (a, policy) = (home.path("a.key"), home.write("p.yaml", "rules: [{images: ['**'], accept: anything}]\n"));
    let here = |args: &[&str]| {
        let mut command = home.command(args);
        ran(command.current_dir(home.folder()).env("COSIGN_PASSWORD", PASSWORD))
    };
    let sign = |what: &str, more: &[&str]| here(&[&["sign", what, "--key", &a], more].concat());
    sign("w", &[]).ends(1).says("no image");
    sign("./w", &[]).ends(2).says("there is no file or folder ./w");
    sign("w.ekiben", &[]).ends(2).says("there is no file or folder w.ekiben");
    pushed(&home, "one", &Registry::start().reference("w:1"));
    let project = home.path("project-one");
    home.run(["build", &project, "-t", "w:1"]).ok();
    home.write("w/model.bin", "weights");
    home.write("f.ekiben", "no bundle at all, but a file");
    for ambiguous in ["w", "w:1"] {
        if ambiguous == "w:1" {
            home.write("w:1", "a file of that name");
        }
        sign(ambiguous, &[]).ends(2).says("is the name of an image and of what lies there").says("--local");
        here(&["verify", ambiguous, "--key", &home.path("a.pub")]).ends(2).says("`./w");
    }
    sign("w:1", &["--local"]).ok().says("sha256:");
    for (what, signature) in [("./w", "w/model.sig"), ("w/", "w/model.sig"), ("f.ekiben", "f.ekiben.sig")] {
        sign(what, &[]).ok();
        assert!(home.folder().join(signature).exists(), "{what}");
        here(&["verify", what, "--key", &home.path("a.pub")]).ok();
        sign(what, &["--as", "bundle"]).ends(2).says("`--as` is for images");
        sign(what, &["--identity", "h/x"]).ends(2).says("`--identity` is for images");
        let policy = policy.display().to_string();
        here(&["verify", what, "--key", &home.path("a.pub"), "--policy", &policy])
            .ends(2)
            .says("`--policy` is for images");
    }
    sign("w:1", &["--local", "-o", "x.sig"]).ends(2).says("for files and folders");
    sign("f.ekiben", &["--ignore", "x"]).ends(2).says("`--ignore` is for folders");
    sign("w/", &["--ignore", "../x"]).ends(2).says("leaves the archive's root");
    // What has the host of a registry is there, whatever lies here.
    home.write("127.0.0.1:1/w/model.bin", "weights");
    here(&["verify", "127.0.0.1:1/w", "--key", &home.path("a.pub")]).ends(5);
}

/// The Python package of OpenSSF's model signing. It needs pyOpenSSL, and does not say so.
fn model_signing(home: &Home, args: &[&str]) -> Ran {
    let program = python_programs("model_signing", &["model-signing==1.1.1", "pyOpenSSL"]);
    ran(Command::new(program).current_dir(home.folder()).args(args))
}

/// The statement in a signature.
fn statement_of(path: &str) -> Value {
    use base64::Engine as _;
    let bundle: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(payload).unwrap()).unwrap()
}

#[test]
fn a_folder_is_signed_as_model_signing_signs_it() {
    let home = with_keys();
    for (path, content) in [
        ("config.json", "{}"),
        ("sub/b.bin", "b"),
        ("sub-c", "c"),
        ("sub/deep/d.bin", "d"),
        ("é \"x\".txt", ""),
        (".git/HEAD", "x"),
    ] {
        home.write(&format!("m/{path}"), content);
    }
    let openssl = |args: &[&str]| ran(tool("openssl").current_dir(home.folder()).args(args)).ok();
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "plain.key"]);
    openssl(&["pkey", "-in", "plain.key", "-pubout", "-out", "plain.pub"]);
    let (folder, own, theirs) = (home.path("m/"), home.path("m/model.sig"), home.path("theirs.sig"));
    let they_sign = |more: &[&str]| {
        model_signing(
            &home,
            &[&["sign", "key", "m", "--private_key", "plain.key", "--signature", "m/model.sig"], more].concat(),
        )
    };
    let they_verify =
        |key: &str| model_signing(&home, &["verify", "key", "m", "--public_key", key, "--signature", "m/model.sig"]);
    let verify = |key: &str| home.run(["verify", &folder, "--key", &home.path(key)]);
    verify("plain.pub").ends(8).says("there is no");
    they_sign(&[]).ok();
    let seen = verify("plain.pub").ok();
    assert!(seen.out.contains("5 files") && seen.out.contains(".git was not signed"), "{}", seen.out);
    verify("a.pub").ends(8).says("none of the keys has made it");
    let of_theirs = statement_of(&own);
    fs::rename(&own, &theirs).unwrap();
    home.run(["sign", &folder, "--key", &home.path("plain.key")]).ok();
    they_verify("plain.pub").ok();
    assert_ne!(they_verify("a.pub").code, Some(0));
    // It says the same, file by file, whoever writes it.
    let (of_ours, digest) = (statement_of(&own), seen.out.lines().last().unwrap().trim_start_matches("sha256:"));
    assert_eq!(of_ours["subject"], of_theirs["subject"]);
    assert_eq!(of_ours["subject"][0]["digest"]["sha256"], digest);
    assert_eq!(of_ours["predicate"]["resources"], of_theirs["predicate"]["resources"]);
    // Keys of cosign's, and Ed25519, which their program does not know.
    fs::remove_file(&own).unwrap();
    home.with_password(&["sign", &folder, "--key", &home.path("a.key")]).ok();
    they_verify("a.pub").ok();
    home.with_password(&["sign", &folder, "--key", &home.path("a.key")]).ok().says("Fresh");
    home.with_password(&["sign", &folder, "--key", &home.path("b.key")]).ends(2).says("is another signature");
    let elsewhere = home.path("b.sig");
    fs::remove_file(&own).unwrap();
    home.with_password(&["sign", &folder, "--key", &home.path("b.key"), "-o", &elsewhere])
        .ok()
        .says("ECDSA keys alone");
    home.run(["verify", &folder, "--key", &home.path("b.pub"), "--signature", &elsewhere]).ok();
    // What is left out, by them and by us.
    they_sign(&["--ignore-paths", "m/sub"]).ok();
    let seen = verify("plain.pub").ok();
    assert!(seen.out.contains("3 files") && seen.out.contains("sub was not signed"), "{}", seen.out);
    fs::remove_file(&own).unwrap();
    home.run(["sign", &folder, "--key", &home.path("plain.key"), "--ignore", "sub/deep"]).ok();
    they_verify("plain.pub").ok();
    // Links that stay in the folder, where they were signed.
    symlink("config.json", home.folder().join("m/link.json")).unwrap();
    they_sign(&["--allow_symlinks"]).ok();
    verify("plain.pub").ok();
    fs::remove_file(home.folder().join("m/link.json")).unwrap();
    home.write("outside.json", "{}");
    symlink("../outside.json", home.folder().join("m/link.json")).unwrap();
    verify("plain.pub").ends(8).says("`link.json` is a link that leads out of the folder");
}

#[test]
fn a_folder_that_is_not_what_was_signed_is_refused() {
    use ekiben::image::sign::{PrivateKey, Signer, bundle};
    let home = with_keys();
    let fresh = || {
        let _ = fs::remove_dir_all(home.folder().join("m"));
        home.write("m/a.bin", "a");
        home.write("m/sub/b.bin", "b");
    };
    fresh();
    let folder = home.path("m/");
    let sign = || home.with_password(&["sign", &folder, "--key", &home.path("a.key")]);
    sign().ok();
    let signature = fs::read(home.path("m/model.sig")).unwrap();
    let verify = || home.run(["verify", &folder, "--key", &home.path("a.pub")]);
    verify().ok();
    let path = |name: &str| home.folder().join("m").join(name);
    let attacks: [(&str, &dyn Fn()); 13] = [
        ("`a.bin` has another content", &|| fs::write(path("a.bin"), "b").unwrap()),
        ("`a.bin` has another content", &|| fs::write(path("a.bin"), "").unwrap()),
        ("`evil.pkl` was added", &|| fs::write(path("evil.pkl"), "x").unwrap()),
        ("`sub/evil.pkl` was added", &|| fs::write(path("sub/evil.pkl"), "x").unwrap()),
        ("`sub/.git/x` was added", &|| {
            fs::create_dir(path("sub/.git")).unwrap();
            fs::write(path("sub/.git/x"), "x").unwrap();
        }),
        ("`sub/b.bin` is missing", &|| fs::remove_file(path("sub/b.bin")).unwrap()),
        ("`sub/c.bin` was added", &|| fs::rename(path("sub/b.bin"), path("sub/c.bin")).unwrap()),
        ("`sub/b.bin` is missing", &|| fs::rename(path("sub"), path("bus")).unwrap()),
        ("`a.bin` is a link", &|| {
            fs::write(home.folder().join("same"), "a").unwrap();
            fs::remove_file(path("a.bin")).unwrap();
            symlink("../same", path("a.bin")).unwrap();
        }),
        ("`sub` is a link", &|| {
            fs::rename(path("sub"), home.folder().join("elsewhere")).unwrap();
            symlink("../elsewhere", path("sub")).unwrap();
        }),
        ("`x\\u{1b}[2J` was added", &|| fs::write(path("x\u{1b}[2J"), "").unwrap()),
        ("is neither a file nor a folder", &|| drop(ran(tool("mkfifo").arg(path("pipe"))).ok())),
        ("has a name that is not UTF-8", &|| {
            use std::os::unix::ffi::OsStrExt as _;
            fs::write(path("").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        }),
    ];
    for (says, attack) in attacks {
        fresh();
        fs::write(path("model.sig"), &signature).unwrap();
        attack();
        verify().ends(8).says("is not what was signed").says(says);
        if says.contains("link") || says.contains("neither") || says.contains("UTF-8") {
            sign().ends(2).says("cannot be signed").says(says);
        }
    }
    // The signature itself.
    fresh();
    verify().ends(8).says("there is no");
    let text = String::from_utf8(signature.clone()).unwrap();
    let payload = text.find("payload\":\"").unwrap() + 300;
    let other = if text.as_bytes()[payload] == b'A' { "B" } else { "A" };
    for bytes in [
        text[..text.len() / 2].to_owned(),
        String::new(),
        text.replacen("in-toto", "in-tota", 1),
        text.replacen("dsseEnvelope", "messageSignature", 1),
        [&text[..payload], other, &text[payload + 1..]].concat(),
    ] {
        fs::write(path("model.sig"), bytes).unwrap();
        verify().ends(8).says("does not count");
    }
    fs::remove_file(path("model.sig")).unwrap();
    ran(tool("mkfifo").arg(path("model.sig"))).ok();
    verify().ends(1).says("is no file");
    fs::remove_file(path("model.sig")).unwrap();
    // Statements that are signed by the right key, and are not what they should be.
    let pem = fs::read_to_string(home.path("a.key")).unwrap();
    let signer = Signer::Key(PrivateKey::read(&pem, "a", || Some(PASSWORD.into())).unwrap());
    fs::write(path("model.sig"), &signature).unwrap();
    let statement = statement_of(&home.path("m/model.sig"));
    let changed = |pointer: &str, value: Value| {
        let mut statement = statement.clone();
        *statement.pointer_mut(pointer).unwrap() = value;
        let bytes =
            bundle::written(&signer, statement.to_string().as_bytes(), &ekiben::io::digest::Digest::of("")).unwrap();
        fs::write(path("model.sig"), bytes).unwrap();
        verify()
    };
    changed("/subject/0/name", json!("another name")).ok();
    for (pointer, value, says) in [
        ("/predicate/resources/0/name", json!("../m/a.bin"), "no path in a folder"),
        ("/predicate/resources/0/name", json!(path("a.bin")), "no path in a folder"),
        ("/predicate/resources/0/name", json!("sub/b.bin"), "twice"),
        ("/predicate/resources/0/algorithm", json!("blake3"), "hashed with `blake3`, and sha256 is read"),
        ("/predicate/serialization/hash_type", json!("blake2"), "hashed with `blake2`, and sha256 is read"),
        ("/predicate/serialization/method", json!("shards"), "listed by `shards`"),
        ("/predicate/serialization/ignore_paths", json!(["."]), "no path in a folder"),
        ("/predicate/serialization/ignore_paths", json!(["../m"]), "no path in a folder"),
        ("/predicate/serialization/ignore_paths", json!(["sub"]), "`sub/b.bin` is missing"),
        ("/predicate/resources", json!([]), "not that of the files"),
        ("/subject", json!([]), "not one subject"),
        ("/predicateType", json!("https://model_signing/Digests/v0.1"), "another version"),
        ("/predicateType", json!("https://sigstore.dev/cosign/sign/v1"), "something else than a folder"),
    ] {
        changed(pointer, value).ends(8).says(says);
    }
}

/// Signature documents with bytes changed, cut and put together. `EKIBEN_MUTATIONS` says how many; 2,000 without it.
#[test]
fn no_document_brings_the_verifier_down() {
    use ekiben::image::sign::{Algorithm, Claim, Found, PrivateKey, PublicKey, Signer, bundle, simple};
    use ekiben::io::digest::Digest;
    use rand::{Rng as _, SeedableRng as _};
    let count: u64 = std::env::var("EKIBEN_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let signer = Signer::Key(PrivateKey::new(Algorithm::Ed25519));
    let key = signer.public().unwrap();
    let claim = Claim { subject: Digest::of("x"), identity: Some("h/a".to_owned()), creator: None, made: Some(1) };
    let (layer, payload) = simple::layer(&signer, &claim).unwrap();
    let signature = simple::signature(&layer).unwrap().unwrap();
    let bundle = bundle::signed(&signer, &bundle::statement(&claim), bundle::SIGNED).unwrap().layers.remove(0).1;
    let pem = key.write().into_bytes();
    let private = PrivateKey::new(Algorithm::P256).write(b"").unwrap().into_bytes();
    let manifest = simple::with(None, &[layer]).unwrap().unwrap().0.bytes;
    let mut random = rand::rngs::StdRng::seed_from_u64(22);
    let originals = [&payload, &bundle, &pem, &private, &manifest, &signature];
    for round in 0..count {
        let which = (round % 6) as usize;
        let mut bytes = originals[which].clone();
        for _ in 0..random.gen_range(1..6) {
            let at = random.gen_range(0..bytes.len().max(1));
            match random.gen_range(0..5) {
                0 if !bytes.is_empty() => bytes[at] = random.r#gen(),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << random.gen_range(0..8),
                2 => bytes.truncate(at),
                3 => {
                    let other = originals[random.gen_range(0..6)];
                    let from = random.gen_range(0..other.len());
                    let part = &other[from..(from + 40).min(other.len())];
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), part.iter().copied());
                }
                _ if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        let is_changed = bytes != *originals[which];
        let mut found = Found::default();
        match which {
            0 => found.look_at_simple(&claim.subject, &bytes, Ok(signature.clone()), &[&key]),
            1 => found.look_at_bundle(&claim.subject, &bytes, &[&key]),
            2 => drop(PublicKey::read(&String::from_utf8_lossy(&bytes), "k")),
            3 => drop(PrivateKey::read(&String::from_utf8_lossy(&bytes), "k", || None)),
            4 => drop(ekiben::image::oci::Document::read(bytes.clone(), None)),
            _ => found.look_at_simple(&claim.subject, &payload, Ok(bytes.clone()), &[&key]),
        }
        // A bundle's other members may change; what is signed and its signature may not.
        if is_changed && matches!(which, 0 | 5) {
            assert!(found.signatures.is_empty(), "{which}: {}", String::from_utf8_lossy(&bytes));
        }
        for good in found.signatures {
            assert_eq!(good.claim, claim);
        }
    }
}

/// Signatures of a folder and of a file with bytes changed, and statements that the right key signs though they are changed.
#[test]
fn no_document_brings_the_verifier_of_folders_down() {
    use ekiben::image::sign::{Algorithm, PrivateKey, Signer, blob, bundle, folder};
    use ekiben::io::digest::Digest;
    use ekiben::io::progress::Progress;
    use rand::{Rng as _, SeedableRng as _};
    let count: u64 = std::env::var("EKIBEN_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("m");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("a.bin"), "a").unwrap();
    fs::write(root.join("sub/b.bin"), "b").unwrap();
    let (signer, silent) = (Signer::Key(PrivateKey::new(Algorithm::Ed25519)), Progress::silent());
    let key = signer.public().unwrap();
    let signature = root.join("model.sig");
    let made = folder::sign(&silent, &signer, &root, &signature, &[]).unwrap();
    fs::write(&signature, &made.bytes).unwrap();
    let statement = statement_of(&signature.display().to_string()).to_string().into_bytes();
    let (of_file, digest) = blob::sign(&silent, &signer, &root.join("a.bin")).unwrap();
    let originals = [statement, made.bytes, of_file.into_bytes()];
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    let mut good = 0;
    for round in 0..count {
        let which = (round % 3) as usize;
        let mut bytes = originals[which].clone();
        for _ in 0..random.gen_range(1..4) {
            let at = random.gen_range(0..bytes.len().max(1)).min(bytes.len());
            match random.gen_range(0..5) {
                0 if at < bytes.len() => bytes[at] = random.r#gen(),
                1 if at < bytes.len() => bytes[at] ^= 1 << random.gen_range(0..8),
                2 if random.gen_bool(0.2) => bytes.truncate(at),
                3 => {
                    let other = &originals[random.gen_range(0..3)];
                    let from = random.gen_range(0..other.len());
                    bytes.splice(at..at, other[from..(from + 30).min(other.len())].iter().copied());
                }
                4 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        if which == 2 {
            fs::write(&signature, &bytes).unwrap();
            let verified = blob::verify(&silent, &root.join("a.bin"), &signature, &[&key]);
            assert!(verified.is_err() || verified.is_ok_and(|verified| verified.digest == digest));
            continue;
        }
        if which == 0 {
            bytes = bundle::written(&signer, &bytes, &Digest::of("")).unwrap();
        }
        fs::write(&signature, &bytes).unwrap();
        // Whatever was signed: what is verified is what lies there, all of it.
        if let Ok(verified) = folder::verify(&silent, &root, &signature, &[&key]) {
            assert_eq!((verified.model.digest, verified.model.files), (made.model.digest, 2));
            good += 1;
        }
    }
    assert!(good > 0, "what changes nothing that counts is taken");
}
