//! Building with the real program: the same bytes everywhere, whole or not at all, whatever comes in.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::home::{Home, copy, names, ran, timed, tool, wait_until};
use ekiben::io::archive::seekable;
use ekiben::io::digest::Digest;
use rand::Rng as _;
use serde_json::Value;

// ---- the same bytes -------------------------------------------------------------------------------------------

fn under_umask(command: &mut Command, umask: u32) -> &mut Command {
    let set = move || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        Ok(())
    };
    // SAFETY: between fork and exec, umask(2) is safe to call.
    unsafe { command.pre_exec(set) }
}

/// A project with the same content as `from`, whose files were made in another order and have other modes.
fn scrambled(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from).into_iter().rev() {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            scrambled(&from, &to);
            fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).unwrap();
        } else {
            fs::write(&to, fs::read(&from).unwrap()).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o640)).unwrap();
        }
    }
}

#[test]
fn a_folder_and_its_bundle_have_the_same_digest_for_everybody_everywhere() {
    // Each of these makes every layer anew.
    let first = Home::fetched();
    first.tiny("tiny");
    let digest = timed("build by root, umask 000", || {
        ran(under_umask(&mut first.command(["build", "tiny"]), 0)).ok().out.trim().to_owned()
    });
    first.run(["pack", "tiny"]).ok();
    let bundle = fs::read(first.path("tiny-1.ekiben")).unwrap();

    let theirs = Home::fetched();
    scrambled(&first.folder().join("tiny"), &theirs.folder().join("somewhere/else"));
    let theirs = theirs.of_a_user();
    let mut build = theirs.command(["build", "somewhere/else"]);
    build.env("TZ", "Asia/Tokyo").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8");
    let other = timed("build by a user, umask 077", || ran(under_umask(&mut build, 0o077)).ok());
    assert_eq!(other.out.trim(), digest);
    let packed = theirs.run(["pack", "somewhere/else", "-o", "out.ekiben", "--output", "json"]).ok().json();
    assert!(fs::read(theirs.path("out.ekiben")).unwrap() == bundle, "the bundles differ");
    let inspected = first.run(["inspect", "tiny-1.ekiben", "--output", "json"]).ok().json();
    assert_eq!(packed["digest"], inspected["digest"], "the digest of the content is another one");

    let third = Home::fetched();
    third.write("b/renamed.ekiben", &bundle);
    let mut build = tool("taskset");
    let command = third.command(["build", "b/renamed.ekiben"]);
    build.arg("--cpu-list").arg("0").arg(command.get_program()).args(command.get_args());
    build.current_dir(third.folder()).env("EKIBEN_HOME", third.store()).env("PYTHONHASHSEED", "1");
    let from_bundle = timed("build from the bundle, on one processor", || ran(&mut build).ok());
    assert_eq!(from_bundle.out.trim(), digest);

    for home in [&first, &third] {
        home.run(["export", "tiny:1", "image.tar"]).ok();
    }
    assert!(fs::read(first.path("image.tar")).unwrap() == fs::read(third.path("image.tar")).unwrap());
}

#[test]
fn bytecode_is_the_same_whatever_its_compiler_did_before() {
    // What one process of these Pythons compiles depends on what it has compiled, and on the seed of its hashes.
    for (python, suite) in [("3.9", "bullseye"), ("3.13", "trixie")] {
        let manifest = format!(
            "name: p\nversion: '1'\npython: {{version: '{python}'}}\nplatforms: [linux/amd64]\n\
             model: {{files: [w.bin]}}\nservice: {{command: [python, -V]}}\n"
        );
        let (first, second) = (Home::fetched(), Home::empty());
        let build = |home: &Home, processors: &str, seed: &str| {
            home.write("p/w.bin", "weights");
            home.write("p/ekiben.yaml", &manifest);
            let command = home.command(["build", "--platform", "linux/amd64", "p"]);
            let mut build = tool("taskset");
            build.arg("--cpu-list").arg(processors).arg(command.get_program()).args(command.get_args());
            build.current_dir(home.folder()).env("EKIBEN_HOME", home.store()).env("PYTHONHASHSEED", seed);
            timed(&format!("build on {suite}, processors {processors}"), || ran(&mut build).ok().out)
        };
        let digest = build(&first, "0,1", "1");
        for part in ["blobs", "memory"] {
            copy(&first.store().join(part), &second.store().join(part), true);
        }
        second.forget_work();
        assert_eq!(build(&second, "0", "2"), digest, "on {suite}");
    }
}

#[test]
fn a_platform_that_is_asked_for_is_locked_unless_the_lock_must_stay() {
    let home = Home::empty();
    let project = plain(&home);
    let build = |more: &[&str]| home.run([&["build", project.to_str().unwrap(), "--platform"], more].concat());
    build(&["linux/amd64"]).ok();
    build(&["linux/arm64", "--locked"]).ends(1).says("the lock does not have linux/arm64, only linux/amd64");
    build(&["linux/arm64"]).ok();
    build(&["linux/amd64,linux/arm64", "--locked"]).ok();
}

/// A project that nothing of the host or the archives goes into.
fn plain(home: &Home) -> PathBuf {
    let manifest = "name: plain\nversion: '1'\nbase: scratch\nplatforms: [linux/amd64]\nmodel: {files: ['*.bin']}\n\
                    service: {command: [/bin/serve]}\n";
    home.write("plain/large.bin", (0..5_000_000u32).map(|i| (i / 1000) as u8).collect::<Vec<_>>());
    home.write("plain/small.bin", "weights");
    home.write("plain/ekiben.yaml", manifest).parent().unwrap().to_owned()
}

#[test]
fn what_depends_on_nothing_outside_has_the_digests_that_it_always_had() {
    let home = Home::empty();
    let project = plain(&home);
    let build = |epoch: Option<&str>| {
        let mut command = home.command(["build", "--platform", "linux/amd64", project.to_str().unwrap()]);
        epoch.map(|epoch| command.env("SOURCE_DATE_EPOCH", epoch));
        ran(&mut command).ok().out.trim().to_owned()
    };
    let image = build(None);
    let packed = home.run(["pack", "plain", "--output", "json"]).ok().json();
    let bundle = packed["digest"].as_str().unwrap();
    insta::with_settings!({description => "a change here changes what every user's build gives", omit_expression => true}, {
        insta::assert_snapshot!("digests", format!("image  {image}\nbundle {bundle}\n"));
    });

    let dated = build(Some("1700000000"));
    assert_ne!(dated, image);
    assert_eq!(build(Some("1700000000")), dated);
    home.run(["export", "plain:1", "dated"]).ok();
    let config = ran(tool("skopeo").args(["inspect", "--config", "oci:dated"]).current_dir(home.folder())).ok().json();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    for blob in names(&home.folder().join("dated/blobs/sha256")) {
        let path = home.folder().join("dated/blobs/sha256").join(blob);
        let listed = ran(tool("tar").args(["--utc", "--full-time", "-tvf"]).arg(path));
        if listed.code == Some(0) {
            assert!(listed.out.lines().all(|line| line.contains("2023-11-14 22:13:20")), "{}", listed.out);
        }
    }
    assert_eq!(build(None), image);
}

#[test]
fn tar_and_zstd_read_a_bundle() {
    let home = Home::warm();
    home.tiny("tiny");
    home.run(["pack", "tiny"]).ok();
    ran(tool("zstd").args(["--test", "tiny-1.ekiben"]).current_dir(home.folder())).ok();
    fs::create_dir(home.path("unpacked")).unwrap();
    ran(tool("tar").args(["--zstd", "-xf", "tiny-1.ekiben", "-C", "unpacked"]).current_dir(home.folder())).ok();
    for (packed, file) in [
        ("models/tiny/1/model.json", "model.json"),
        ("src/predict.py", "src/predict.py"),
        ("ekiben.yaml", "ekiben.yaml"),
        ("ekiben.lock", "ekiben.lock"),
    ] {
        let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(read(home.folder().join("unpacked").join(packed)) == read(home.folder().join("tiny").join(file)));
    }
    let inspected = home.run(["inspect", "tiny-1.ekiben", "--output", "json"]).ok().json();
    let members = inspected["members"].as_array().unwrap().iter();
    let members: BTreeSet<_> = members.map(|member| member["path"].as_str().unwrap()).collect();
    let listed = ran(tool("tar").args(["--zstd", "-tf", "tiny-1.ekiben"]).current_dir(home.folder())).ok().out;
    assert_eq!(members, listed.lines().collect());
}

// ---- whole or not at all --------------------------------------------------------------------------------------

/// Everything in the store belongs to an image or to a memory, and nobody's work lies about.
fn assert_tidy(home: &Home) {
    assert_eq!(home.stored("scratch"), [""; 0]);
    assert_eq!(home.stored("containers"), [""; 0]);
    assert_eq!(home.stored("partial"), [""; 0]);
    let known = ["blobs", "containers", "index.json", "index.lock", "lock", "memory", "oci-layout", "recipes"];
    let known: BTreeSet<_> = known.into_iter().chain(["logs", "partial", "projects", "scratch", "trees"]).collect();
    for name in names(&home.store()) {
        assert!(known.contains(name.as_str()), "{name} in the store");
    }
    let mut texts = vec![fs::read_to_string(home.store().join("index.json")).unwrap()];
    for kind in home.stored("memory") {
        let folder = home.store().join("memory").join(kind);
        texts.extend(names(&folder).iter().map(|name| fs::read_to_string(folder.join(name)).unwrap()));
    }
    let blobs = home.stored("blobs/sha256");
    // Manifests and configurations name the rest.
    for blob in &blobs {
        let path = home.store().join("blobs/sha256").join(blob);
        if fs::metadata(&path).unwrap().len() < 100_000 {
            texts.extend(fs::read_to_string(path).ok().filter(|text| text.starts_with('{')));
        }
    }
    let referenced = |name: &str| texts.iter().any(|text| text.contains(name.trim_end_matches(".json")));
    for (folder, names) in [("blobs", blobs.clone()), ("recipes", home.stored("recipes"))] {
        for name in names {
            assert!(referenced(&name), "nothing needs {folder}/{name}");
        }
    }
    for name in home.stored("trees") {
        // Of a layer, or of something else that has the tree's name.
        let facts = fs::read_to_string(home.store().join("trees").join(&name).join("facts.json")).ok();
        let facts: Option<serde_json::Value> = facts.map(|text| serde_json::from_str(&text).unwrap());
        let of = facts.map_or(format!("sha256:{name}"), |facts| facts["layer"].as_str().unwrap().to_owned());
        let (_, hex) = of.split_once(':').unwrap();
        assert!(referenced(hex), "nothing needs trees/{name} of {of}");
    }
}

#[test]
fn a_build_that_is_killed_leaves_nothing_and_the_next_one_goes_on() {
    let home = Home::fetched();
    let project = home.tiny("tiny");
    let started = Instant::now();
    let digest = home.build(&project);
    let whole = started.elapsed();
    println!("a build takes {whole:?}");
    for round in 0..20 {
        // Everything anew takes long, so most rounds begin in the middle of the way.
        let part = match round % 5 {
            0 => {
                home.forget_work();
                1.0
            }
            1 => {
                home.forget(|kind| kind == "debian-layer");
                0.4
            }
            _ => {
                home.forget(|kind| ["weights", "code"].contains(&kind));
                0.04
            }
        };
        home.run(["prune"]).ok();
        let mut build = home.command(["build", "tiny"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let after = whole.mul_f64(rand::thread_rng().gen_range(0.0..part));
        std::thread::sleep(after);
        build.kill().unwrap();
        build.wait().unwrap();
        let again = home.run(["build", "tiny"]);
        assert_eq!(again.ok().out.trim(), digest, "round {round}, killed after {after:?}");
        home.run(["prune"]).ok();
        assert_tidy(&home);
    }
    home.run(["images", "--remove", "tiny:1"]).ok();
    home.run(["prune", "--all"]).ok();
    for folder in ["blobs/sha256", "recipes", "trees", "memory", "scratch", "containers"] {
        assert_eq!(home.stored(folder), [""; 0], "{folder}");
    }
}

#[test]
fn builds_and_prunes_at_the_same_time_do_not_harm_each_other() {
    let home = Home::fetched();
    home.tiny("one");
    home.tiny("two");
    let [one, two, pruned] = [["build", "one"].as_slice(), &["build", "two"], &["prune"]].map(|args| {
        let mut command = home.command(args);
        std::thread::spawn(move || {
            let rounds = if command.get_args().count() == 1 { 10 } else { 2 };
            (0..rounds).map(|_| ran(&mut command).ok()).next_back().unwrap()
        })
    });
    let [one, two, _] = [one, two, pruned].map(|thread| thread.join().unwrap());
    assert_eq!(one.out, two.out);
    assert_eq!(home.build("one"), one.out.trim());
    home.run(["prune"]).ok();
    assert_tidy(&home);
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        ran(tool("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "none"]).arg(&path)).ok();
        Self(path)
    }

    fn grow(&self, size: &str) {
        ran(tool("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0)).ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = tool("umount").args(["--lazy"]).arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_no_half_file() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: a small disk can only be mounted by root");
        return;
    }
    let home = Home::empty();
    plain(&home);
    let disk = SmallDisk::new(home.store(), "300k");
    home.build("plain");
    let other = SmallDisk::new(home.folder().join("out"), "1m");
    for target in ["out/plain.tar", "out/layout"] {
        home.run(["export", "plain:1", target]).ends(1).says("No space left on device");
    }
    home.run(["pack", "plain", "-o", "out/plain.ekiben"]).ok();
    assert_eq!(names(&other.0), ["plain.ekiben"]);
    // The store itself is full.
    let manifest = fs::read_to_string(home.path("plain/ekiben.yaml")).unwrap();
    home.write("plain/ekiben.yaml", format!("{manifest}metadata: [notes.txt]\n"));
    home.write("plain/notes.txt", noise(1_000_000));
    home.run(["build", "plain"]).ends(1).says("No space left on device");
    home.run(["images"]).ok();
    home.run(["prune"]).ok();
    assert_tidy(&home);
    disk.grow("50m");
    home.build("plain");
    home.run(["prune"]).ok();
    assert_tidy(&home);
}

/// Text that no compression makes smaller than three quarters.
fn noise(length: usize) -> String {
    let mut random = rand::thread_rng();
    (0..length).map(|_| char::from(random.gen_range(b'0'..b'z'))).collect()
}

#[test]
fn weights_that_changed_since_the_build_are_found_before_they_go_out() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    home.build(&project);
    let weights = project.join("model.json");
    let before = fs::read(&weights).unwrap();
    fs::write(&weights, r#"{"slope": 4.0, "intercept": 1.0}"#).unwrap();
    for args in [["export", "tiny:1", "x.tar"], ["export", "tiny:1", "x"], ["run", "tiny:1", "--detach"]] {
        home.run(args).ends(1).says("model.json has changed").says("build again");
    }
    assert_eq!(names(home.folder()), ["store", "tiny"]);
    assert_eq!(home.containers(), [""; 0]);
    let other = home.build(&project);
    home.run(["export", "tiny:1", "x.tar"]).ok();
    // Back to the old content: the old image is built again, though the file is another one.
    fs::write(&weights, &before).unwrap();
    assert_ne!(home.build(&project), other);
    fs::remove_file(&weights).unwrap();
    home.run(["export", "tiny:1", "y.tar"]).ends(1).says("model.json has changed").says("it is gone");
}

// ---- hostile input --------------------------------------------------------------------------------------------

/// A bundle, taken apart.
struct Parts {
    whole: Vec<u8>,
    tar: Vec<u8>,
    index: Value,
}

impl Parts {
    fn of(path: &Path) -> Self {
        let whole = fs::read(path).unwrap();
        let mut archive = seekable::Reader::new(std::io::Cursor::new(&whole)).unwrap();
        let index = serde_json::from_slice(&archive.index().unwrap()).unwrap();
        let mut tar = Vec::new();
        archive.go_to(0, archive.length()).unwrap();
        archive.read_to_end(&mut tar).unwrap();
        Self { tar, index, whole }
    }

    /// A bundle of the same content with another index.
    fn with(&self, index: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut writer = seekable::Writer::new(Vec::new());
        writer.write_all(&self.tar).unwrap();
        writer.finish(index).unwrap()
    }
}

/// A home with a plain bundle, and the bundle.
fn bundle() -> (Home, Parts) {
    let home = Home::empty();
    plain(&home);
    home.write("plain/large.bin", noise(200_000));
    home.run(["pack", "plain", "-o", "good.ekiben"]).ok();
    let parts = Parts::of(&home.folder().join("good.ekiben"));
    (home, parts)
}

#[test]
fn bundles_cut_short_are_refused() {
    let (home, Parts { whole, .. }) = bundle();
    let mut random = rand::thread_rng();
    let ends = (0..30).map(|_| random.gen_range(0..whole.len())).chain([0, 1, 8, whole.len() - 1]);
    for end in ends {
        home.write("cut.ekiben", &whole[..end]);
        home.run(["build", "cut.ekiben"]).ends(1).says("cut.ekiben is not a bundle that can be read");
    }
}

#[test]
fn a_flipped_bit_is_found_or_changes_nothing() {
    let (home, Parts { whole, .. }) = bundle();
    let expected = home.run(["pack", "good.ekiben", "-o", "again.ekiben", "--output", "json"]).ok().json();
    assert!(fs::read(home.path("again.ekiben")).unwrap() == whole, "a bundle packed again has the same bytes");
    let mut random = rand::thread_rng();
    // The end is where the tables are.
    for round in 0..120 {
        let from = if round % 2 == 0 { 0 } else { whole.len() - 1500 };
        let bit = random.gen_range(from * 8..whole.len() * 8);
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        home.write("flipped.ekiben", flipped);
        let ran = home.run(["pack", "flipped.ekiben", "-o", "out.ekiben", "--output", "json"]);
        match ran.code {
            Some(0) => assert_eq!(ran.json()["digest"], expected["digest"], "bit {bit}"),
            _ => {
                assert!(matches!(ran.code, Some(1 | 3)), "bit {bit}: {ran:?}");
                let named = ["flipped.ekiben", "the bundle"].iter().any(|name| ran.err.contains(name));
                assert!(named, "bit {bit}: {}", ran.err);
            }
        }
    }
}

#[test]
fn a_hostile_index_is_refused() {
    let (home, parts) = bundle();
    let member = parts.index["members"].as_array().unwrap().iter().position(|m| m["path"] == "ekiben.yaml").unwrap();
    let mut attacks: Vec<(String, Value)> = Vec::new();
    let mut attack = |pointer: &str, value: Value| {
        let mut index = parts.index.clone();
        *index.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
        attacks.push((format!("{pointer} = {value}"), index));
    };
    for path in ["../outside", "/outside", "src/../../outside", "a/./b", "a//b", "", ".", "..", "a\\..\\b\u{0}"] {
        attack(&format!("/members/{member}/path"), path.into());
        attack("/weights/0/path", path.into());
        attack("/name", path.into());
        attack("/version", path.into());
    }
    for number in [u64::MAX, u64::MAX / 2, 1 << 40] {
        attack(&format!("/members/{member}/offset"), number.into());
        attack(&format!("/members/{member}/size"), number.into());
        attack("/weights/0/offset", number.into());
        attack("/weights/0/size", number.into());
        attack("/layers/0/size", number.into());
    }
    attack("/ekiben", 2.into());
    attack("/members", Value::Null);
    attack("/layers", Value::Array(Vec::new()));
    attack("/layers/0/digest", "sha256:00".into());
    attack("/layers/0/digest", Digest::of("other").to_string().into());
    attack("/layers/0/diff_id", Digest::of("other").to_string().into());
    attack("/layers/0/compression", "gzip".into());
    attack(&format!("/members/{member}/digest"), Digest::of("other").to_string().into());
    // Where a read succeeds, its digest is what was promised; what is wrong is found on the way out at the latest.
    for (what, index) in attacks {
        home.write("bad.ekiben", parts.with(&serde_json::to_vec(&index).unwrap()));
        let built = home.frugal(&["build", "bad.ekiben", "--platform", "linux/amd64", "--tag", "bad:1"], 1_000_000_000);
        let ran = match built.code {
            Some(0) => home.frugal(&["export", "bad:1", "out.tar"], 1_000_000_000),
            _ => built,
        };
        assert!(matches!(ran.code, Some(1 | 3)), "{what}: {ran:?}");
        assert_eq!(names(home.folder()), ["bad.ekiben", "good.ekiben", "plain", "store"], "{what}");
    }
    assert!(!Path::new("/outside").exists());
}

#[test]
fn a_bundle_that_lies_harms_no_other_image() {
    let (home, mut parts) = bundle();
    home.build("plain");
    parts.index["weights"][0]["offset"] = 0.into();
    home.write("bad.ekiben", parts.with(&serde_json::to_vec(&parts.index).unwrap()));
    home.run(["build", "bad.ekiben", "--platform", "linux/amd64", "--tag", "bad:1"]).ok();
    home.run(["export", "plain:1", "plain.tar"]).ok();

    // Nor does one that came first.
    let other = Home::empty();
    copy(&home.folder().join("plain"), &other.folder().join("plain"), false);
    fs::copy(home.path("bad.ekiben"), other.path("bad.ekiben")).unwrap();
    other.run(["build", "bad.ekiben", "--platform", "linux/amd64", "--tag", "bad:1"]).ok();
    other.run(["export", "bad:1", "bad.tar"]).ends(1).says("other bytes").says("/bad.ekiben");
    other.build("plain");
    other.run(["export", "plain:1", "plain.tar"]).ok();
}

#[test]
fn bombs_are_defused() {
    let (home, parts) = bundle();
    let refused = |name: &str, index: &[u8]| {
        home.write(name, parts.with(index));
        home.frugal(&["build", name], 1_000_000_000).ends(1).says(name);
    };
    refused("zeros.ekiben", &vec![0; 400_000_000]);
    refused("deep.ekiben", &vec![b'['; 10_000_000]);
    let member = serde_json::to_string(&parts.index["members"][0]).unwrap();
    refused("long.ekiben", format!("{{\"members\":[{}]", vec![member; 1_000_000].join(",")).as_bytes());

    // A frame that says it holds little and holds much.
    let bomb = zstd::bulk::compress(&vec![0; 300_000_000], 3).unwrap();
    let mut file = bomb.clone();
    file.extend(0x184D_2A50u32.to_le_bytes());
    let index = zstd::bulk::compress(&serde_json::to_vec(&parts.index).unwrap(), 3).unwrap();
    file.extend((index.len() as u32).to_le_bytes());
    file.extend(&index);
    file.extend(0x184D_2A5Eu32.to_le_bytes());
    file.extend(25u32.to_le_bytes());
    for number in [bomb.len() as u32, parts.tar.len() as u32, index.len() as u32 + 8, 0, 2] {
        file.extend(number.to_le_bytes());
    }
    file.push(0);
    file.extend(0x8F92_EAB1u32.to_le_bytes());
    home.write("frame.ekiben", file);
    home.frugal(&["build", "frame.ekiben"], 1_000_000_000).ends(1);
}

#[test]
fn large_and_deep_manifests_are_refused() {
    let home = Home::empty();
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    let nested: String = (0..10_000).map(|level| format!("{}a:\n", " ".repeat(level % 500))).collect();
    for (name, content) in [
        ("large.yaml", format!("name: x\ndescription: {}\n", "x".repeat(10_000_000))),
        ("comment.yaml", format!("name: x\n{}", "# nothing\n".repeat(1_000_000))),
        (
            "keys.json",
            format!("{{{}\"name\": \"x\"}}", (0..900_000).map(|i| format!("\"{i}\":1,")).collect::<String>()),
        ),
        ("flow.yaml", format!("name: {}\n", deep("[", "]"))),
        ("block.yaml", nested),
        ("deep.json", deep("[", "]")),
        ("deep.json5", deep("{a:", "}")),
    ] {
        home.write(&format!("project/{name}"), content);
        let path = format!("project/{name}");
        for command in ["validate", "build"] {
            home.frugal(&[command, &path], 1_000_000_000).ends(3).says(name);
        }
    }
}

#[test]
fn a_child_of_a_killed_build_ends_too() {
    let home = Home::fetched();
    home.tiny("tiny");
    let mut build = home.command(["build", "tiny"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Until something is started on its behalf.
    wait_until("a child", || build.try_wait().unwrap().is_some() || !mentions(&home).is_empty());
    build.kill().unwrap();
    build.wait().unwrap();
    wait_until("the end of all its children", || mentions(&home).is_empty());
}

/// Processes, other than `ekiben build` itself, that have to do with the home's store.
fn mentions(home: &Home) -> Vec<String> {
    let store = home.store();
    let store = store.to_str().unwrap();
    let processes = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    let line =
        |id: String| String::from_utf8_lossy(&fs::read(format!("/proc/{id}/cmdline")).ok()?).replace('\0', " ").into();
    processes.filter_map(line).filter(|line: &String| line.contains(store)).collect()
}
