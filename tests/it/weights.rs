//! Weights as a user meets them: how often they are read, what is written, and what is said when they change.

use crate::home::{self, Home, Ran, ran, tool};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ekiben::bundle::runtime::Convention;
use ekiben::bundle::{Bundle, Form, Hashing, Weight};
use ekiben::image::session::Session;
use ekiben::io::archive::{ArchivePath, Mode};
use ekiben::io::content::Content;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use proptest::prelude::*;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A project named `big` on nothing, and a store.
struct Big(Home);

fn home() -> Big {
    let home = Big(Home::empty());
    let manifest = "name: big\nversion: '1'\nbase: scratch\nmodel: {files: ['**/*.bin']}\nservice: {command: [/x]}\n";
    home.0.write("big/ekiben.yaml", manifest);
    home
}

impl Big {
    fn project(&self) -> PathBuf {
        self.0.folder().join("big")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.folder().join(name)
    }

    /// Random bytes; the same for the same `seed`.
    fn weights(&self, name: &str, size: u64, seed: u64) -> PathBuf {
        let path = self.0.write(&format!("big/{name}"), random(size, seed));
        // Files that were written a moment ago are not remembered.
        std::thread::sleep(std::time::Duration::from_millis(25));
        path
    }

    /// Another program, in the project.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.project()).env("EKIBEN_HOME", self.0.store());
        command.env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
        command
    }

    fn ekiben(&self, args: &[&str]) -> Command {
        let mut command = self.0.command(args);
        command.current_dir(self.project());
        command
    }

    fn well(&self, args: &[&str]) -> String {
        ran(&mut self.ekiben(args)).ok().out
    }

    /// What stderr says, of a command that fails.
    fn ill(&self, args: &[&str]) -> String {
        let Ran { code, err, .. } = ran(&mut self.ekiben(args));
        assert_ne!(code, Some(0), "{args:?} went well: {err}");
        err
    }

    fn json(&self, args: &[&str]) -> Value {
        ran(&mut self.ekiben(&[args, &["--output", "json"]].concat())).ok().json()
    }

    /// Runs a command, and gives the bytes that it read and wrote, of files, pipes and all.
    fn io(&self, args: &[&str]) -> (u64, u64) {
        let mut command = self.ekiben(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        assert!(child.wait().unwrap().success());
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().parse().unwrap()
        };
        (number("rchar:"), number("wchar:"))
    }

    fn session(&self) -> Session {
        home::session(&self.0.store())
    }
}

fn good(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn random(size: u64, seed: u64) -> Vec<u8> {
    use rand::{RngCore as _, SeedableRng as _};
    let mut bytes = vec![0; size as usize];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// The files below a folder, their modes and bytes.
fn tree(root: &Path) -> BTreeMap<String, (bool, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let executable = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
                found.insert(name, (executable, fs::read(path).unwrap()));
            }
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn weights_are_read_once_and_never_copied() {
    let home = home();
    let size = 48 * MIB;
    home.weights("a.bin", size, 1);
    let few = 4 * MIB;

    let (read, written) = home.io(&["pack", "-o", "../a.ekiben"]);
    assert!((size..size + few).contains(&read), "packing read {read}");
    assert!((size..size + few).contains(&written), "packing wrote {written}");
    let (read, _) = home.io(&["build"]);
    assert!(read < few, "after packing, a build read {read}");

    fs::remove_dir_all(home.0.store()).unwrap();
    let (read, written) = home.io(&["build"]);
    assert!((size..size + few).contains(&read) && written < few, "a build read {read} and wrote {written}");
    let (read, _) = home.io(&["build"]);
    assert!(read < few, "a build of nothing new read {read}");
    let (read, _) = home.io(&["build", "--no-cache"]);
    assert!(read >= size, "with --no-cache it read {read}");

    fs::remove_dir_all(home.0.store()).unwrap();
    let (read, written) = home.io(&["build", "../a.ekiben"]);
    assert!(read < few && written < few, "a build from the bundle read {read} and wrote {written}");
}

#[test]
fn a_folder_its_bundle_and_any_number_of_threads_give_the_same() {
    let home = home();
    home.weights("a.bin", 9 * MIB, 1);
    home.weights("b/c.bin", 3 * MIB, 2);
    fs::write(home.project().join("d.bin"), "x".repeat(5_000_000)).unwrap();
    let program = env!("CARGO_BIN_EXE_ekiben");
    for form in ["ekiben", "bento"] {
        home.well(&["pack", "-o", &format!("../all.{form}")]);
        fs::remove_dir_all(home.0.store()).unwrap();
        let args = ["-c", "0", program, "pack", "-o", &format!("../one.{form}")];
        good(home.command("taskset", &args).output().unwrap());
        assert!(
            fs::read(home.path(&format!("all.{form}"))).unwrap()
                == fs::read(home.path(&format!("one.{form}"))).unwrap()
        );
    }
    for compression in ["none", "gzip", "zstd", "zstd:9"] {
        let digest = home.well(&["build", "--compression", compression]);
        fs::remove_dir_all(home.0.store()).unwrap();
        let args = ["-c", "0", program, "build", "../all.ekiben", "--compression", compression];
        assert_eq!(good(home.command("taskset", &args).output().unwrap()), digest, "{compression}");
        home.well(&["inspect", "big:1", "--verify"]);
        let layers = home.json(&["inspect", "big:1"])["layers"].as_array().unwrap().clone();
        let expected = compression.split(':').next().unwrap();
        let weights = &layers[..layers.len() - 1];
        assert!(weights.iter().all(|layer| layer["compression"] == expected), "{layers:?}");
    }
    for wrong in ["lzma", "zstd:0", "zstd:23", "gzip:3"] {
        assert!(home.ill(&["build", "--compression", wrong]).contains("--compression"), "{wrong}");
    }
}

#[test]
fn other_programs_read_what_is_packed_and_unpack_gives_the_same() {
    let home = home();
    home.weights("a.bin", 5 * MIB, 1);
    fs::write(home.project().join("zeros.bin"), vec![0; 3_000_000]).unwrap();
    let shell =
        |script: &str| good(home.command("sh", &["-euc", script]).current_dir(home.0.folder()).output().unwrap());
    home.well(&["pack", "-o", "../a.ekiben"]);
    home.well(&["pack", "-o", "../a.bento"]);
    home.well(&["unpack", "../a.ekiben", "../unpacked"]);
    shell("zstd -tq a.ekiben; mkdir z x; tar --zstd -xf a.ekiben -C z; xz -t a.bento; tar -xJf a.bento -C x");
    let unpacked = tree(&home.path("unpacked"));
    assert!(unpacked == tree(&home.path("z")) && unpacked == tree(&home.path("x")));
    assert!(unpacked["models/big/1/a.bin"].1 == random(5 * MIB, 1));
    assert!(home.ill(&["unpack", "../a.ekiben", "../unpacked"]).contains("unpacked"), "there is something already");
}

#[test]
fn a_bundle_with_a_newer_lock_says_that_ekiben_is_too_old() {
    let home = home();
    home.weights("a.bin", 1000, 1);
    home.well(&["pack", "-o", "../a.bento"]);
    let shell =
        |script: &str| good(home.command("sh", &["-euc", script]).current_dir(home.0.folder()).output().unwrap());
    shell("mkdir x; tar -xJf a.bento -C x; sed -i 's/\"lock\": 1/\"lock\": 2/' x/ekiben.lock; tar -cJf b.bento -C x .");
    let said = home.ill(&["build", "../b.bento"]);
    assert!(said.contains("EK0701") && said.contains("update ekiben"), "{said}");
}

#[test]
fn a_flipped_bit_is_found_and_named() {
    let home = home();
    home.weights("a.bin", 5 * MIB, 1);
    home.weights("b.bin", 5 * MIB, 2);
    home.well(&["pack", "-o", "../a.ekiben"]);
    home.well(&["inspect", "../a.ekiben", "--verify"]);
    let whole = fs::read(home.path("a.ekiben")).unwrap();
    // As long as the files that were hashed here are there, they are read, and not a bundle of the same.
    for name in ["a.bin", "b.bin"] {
        fs::remove_file(home.project().join(name)).unwrap();
    }
    for (at, member) in [(100, "README.md"), (3 * MIB, "models/big/1/a.bin"), (8 * MIB, "models/big/1/b.bin")] {
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 1;
        fs::write(home.path("damaged.ekiben"), bytes).unwrap();
        for args in [&["inspect", "../damaged.ekiben", "--verify"][..], &["unpack", "../damaged.ekiben", "../out"]] {
            let said = home.ill(args);
            assert!(said.contains(member) && said.contains("damaged.ekiben") && said.contains("hint:"), "{said}");
            assert!(!home.path("out").exists());
        }
        if member != "README.md" {
            home.well(&["build", "../damaged.ekiben"]);
            let said = home.ill(&["export", "big:1", "../out.tar"]);
            let file = member.replace("/1/", "/");
            assert!(said.contains(&file) && said.contains("damaged.ekiben") && said.contains("hint:"), "{said}");
            assert!(!home.path("out.tar").exists());
        }
    }
}

#[test]
fn a_source_that_changed_is_named_before_a_byte_goes_out() {
    let home = home();
    let file = home.weights("a.bin", 5 * MIB, 1);
    let path = file.display().to_string();
    home.well(&["build"]);
    let refused = |change: &str| {
        for args in [&["export", "big:1", "../out.tar"][..], &["export", "big:1", "../out"], &["run", "big:1"]] {
            let said = home.ill(args);
            assert!(said.contains(&path) && said.contains(change) && said.contains("ekiben build"), "{args:?}: {said}");
        }
        assert!(!home.path("out.tar").exists() && !home.path("out").exists());
    };
    // Away and back: it is the same file.
    fs::rename(&file, home.path("away")).unwrap();
    refused("it is gone");
    fs::rename(home.path("away"), &file).unwrap();
    home.well(&["export", "big:1", "../well.tar"]);

    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
    refused("it had 5242880 bytes and has 5242881");
    home.weights("a.bin", 5 * MIB, 2);
    refused("it was written again");

    // What no time tells, the digest does.
    home.well(&["build"]);
    let time = file.metadata().unwrap().modified().unwrap();
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all_at(b"other", MIB).unwrap();
    open.set_modified(time).unwrap();
    for out in ["../out.tar", "../out"] {
        let said = home.ill(&["export", "big:1", out]);
        assert!(said.contains("a.bin") && said.contains("other bytes") && said.contains("hint:"), "{said}");
    }
    assert!(!home.path("out.tar").exists() && !home.path("out").exists());
    assert_ne!(home.well(&["build"]), "", "and a build sees it");
    home.well(&["export", "big:1", "../out.tar"]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let home = home();
    home.weights("a.bin", 24 * MIB, 1);
    home.well(&["pack", "-o", "../a.ekiben"]);
    let script = format!(
        "mkdir ../full; mount -t tmpfs -o size=9m none ../full; for args in 'pack -o ../full/a.ekiben' 'unpack \
         ../a.ekiben ../full/a'; do if {} $args; then exit 9; fi; ls -A ../full; done",
        env!("CARGO_BIN_EXE_ekiben")
    );
    let output = home.command("unshare", &["-rm", "sh", "-ec", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.is_empty(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(said.matches("No space left").count(), 2, "{said}");
}

#[test]
fn whoever_is_killed_leaves_nothing() {
    let home = home();
    home.weights("a.bin", 64 * MIB, 1);
    home.well(&["pack", "-o", "../whole.ekiben"]);
    home.well(&["unpack", "../whole.ekiben", "../whole"]);
    let out = home.path("out");
    fs::create_dir(&out).unwrap();
    for round in 0..8u64 {
        let unpacks = round % 2 == 1;
        let args: &[&str] =
            if unpacks { &["unpack", "../whole.ekiben", "../out/a"] } else { &["pack", "-o", "../out/a.ekiben"] };
        let mut child = home.ekiben(args);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(15 + 23 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // A folder cannot be without a name; it is said below who removes it.
        let hidden = |name: &String| name.starts_with(".ekiben-") && out.join(name).is_dir();
        let left: Vec<_> = names(&out).into_iter().filter(|name| !hidden(name)).collect();
        for name in left {
            let path = out.join(name);
            // What has its name already is whole.
            let whole = home.path(if unpacks { "whole" } else { "whole.ekiben" });
            ran(tool("diff").arg("-r").args([&whole, &path])).ok();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    // The next one removes what was left of folders.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    home.well(&["unpack", "../whole.ekiben", "../out/a"]);
    assert_eq!(names(&out), ["a"]);
}

#[test]
fn a_file_over_8_gib_passes() {
    let home = home();
    let size = 8192 * MIB + 5;
    let mut file = fs::File::create(home.project().join("sparse.bin")).unwrap();
    file.set_len(size).unwrap();
    file.seek(SeekFrom::End(-3)).unwrap();
    file.write_all(b"end").unwrap();
    home.well(&["pack", "-o", "../a.ekiben"]);
    assert!(home.path("a.ekiben").metadata().unwrap().len() < 8 * MIB);
    let digest = home.well(&["build"]);
    fs::remove_dir_all(home.0.store()).unwrap();
    assert_eq!(home.well(&["build", "../a.ekiben"]), digest);
    let bundle = Bundle::open(&home.session(), &home.path("a.ekiben")).unwrap();
    let Content::Packed { bundle, offset, .. } = bundle.weights()[0].content.clone() else { panic!("packed") };
    // The end is read without reading the rest.
    let mut end = String::new();
    let content = Content::Packed { bundle, offset: offset + size - 3, size: 3 };
    content.open().unwrap().read_to_string(&mut end).unwrap();
    assert_eq!(end, "end");
}

#[test]
fn shards_and_small_files_share_layers() {
    let home = home();
    for i in 0..200 {
        let file = fs::File::create(home.project().join(format!("shard-{i:03}.bin"))).unwrap();
        file.set_len(5 * MIB + i).unwrap();
    }
    fs::create_dir(home.project().join("small")).unwrap();
    for i in 0..3000 {
        fs::write(home.project().join(format!("small/{i:05}.bin")), format!("{i}")).unwrap();
    }
    home::images::docker_archive(&home.path("base.tar"));
    let manifest = fs::read_to_string(home.project().join("ekiben.yaml")).unwrap();
    let manifest = manifest.replace("base: scratch", "base: 'docker-archive:../base.tar'");
    fs::write(home.project().join("ekiben.yaml"), manifest).unwrap();
    let digest = home.well(&["build"]);
    let layers = home.json(&["inspect", "big:1"])["layers"].as_array().unwrap().len();
    assert!(layers < 100, "{layers} layers");
    // Shards are mounted, small files unpacked, and the second time nothing is.
    let script =
        "cd /models/big; b=/bin/busybox; $b find . -type f | $b wc -l; $b cat small/0299*; $b wc -c shard-199.bin";
    for _ in 0..2 {
        let said = home.well(&["run", "big:1", "--", "sh", "-c", script]);
        assert_eq!(said, "3200\n29902991299229932994299529962997299829995243079 shard-199.bin\n");
    }
    home.well(&["pack", "-o", "../a.ekiben"]);
    home.well(&["unpack", "../a.ekiben", "../unpacked"]);
    let unpacked = tree(&home.path("unpacked/models/big/1"));
    assert_eq!(unpacked.keys().filter(|name| name.ends_with(".bin")).count(), 3200);
    assert_eq!(home.well(&["build", "../a.ekiben"]), digest);
    home.well(&["inspect", "../a.ekiben", "--verify"]);
    home.well(&["export", "big:1", "../convention"]);
    good(home.command("skopeo", &["inspect", "oci:../convention:1"]).output().unwrap());
}

#[derive(Clone, Debug)]
struct Any {
    executable: bool,
    size: u64,
    /// None is text that compresses.
    seed: Option<u64>,
}

impl Any {
    fn bytes(&self) -> Vec<u8> {
        match self.seed {
            Some(seed) => random(self.size, seed),
            None => (0..self.size).map(|i| b"weights "[(i % 8) as usize]).collect(),
        }
    }
}

fn any_tree() -> impl Strategy<Value = BTreeMap<String, Any>> {
    let size = prop_oneof![0..2000u64, 500..520u64, 1_000_000..2_200_000u64];
    let file = (any::<bool>(), size, any::<Option<u64>>());
    let file = file.prop_map(|(executable, size, seed)| Any { executable, size, seed });
    // A file never lies where another one's folder is: names of files have a dot.
    proptest::collection::btree_map("([a-zäß]{1,3}/){0,3}[a-zö ]{1,120}[.][a-z]{1,3}", file, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_from_its_bundle(members in any_tree(), weights in any_tree(), own in any::<bool>()) {
        let home = home();
        let session = home.session();
        let path = |name: &str| ArchivePath::relative(name).unwrap();
        let mut expected = BTreeMap::new();
        let mut listed = Vec::new();
        for (name, any) in &weights {
            let file = home.path("w").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, any.bytes()).unwrap();
            // In a bento, a weight lies where it lies; in a bundle of Ekiben's, in the model's folder.
            let (weight, place) = match own {
                true => (name.clone(), format!("models/m/1/{name}")),
                false => (format!("models/{name}"), format!("models/{name}")),
            };
            listed.push(Weight { path: path(&weight), content: Content::file(&file).unwrap() });
            expected.insert(place, (false, any.bytes()));
        }
        let mut bundle = Bundle::new("m", if own { Convention::Ekiben } else { Convention::Bento }, listed, Hashing::IfUnknown);
        // By which the two are told apart.
        let description = if own { "ekiben.yaml" } else { "bento.yaml" };
        bundle.add(path(description), Content::Bytes(vec![1]), Mode::Plain).unwrap();
        expected.insert(description.to_owned(), (false, vec![1]));
        for (name, any) in &members {
            bundle.add(path(name), Content::Bytes(any.bytes()), Mode::of(any.executable)).unwrap();
            expected.insert(name.clone(), (any.executable, any.bytes()));
        }
        bundle.set_version(&session, Some("1".into())).unwrap();
        let file = home.path("a.ekiben");
        bundle.pack(&session, Form::Ekiben, &file).unwrap();
        let back = Bundle::open(&session, &file).unwrap();
        prop_assert_eq!(back.digest(&session).unwrap(), bundle.digest(&session).unwrap());
        prop_assert_eq!(back.weight_layers(&session).unwrap(), bundle.weight_layers(&session).unwrap());
        back.verify(&session).unwrap();
        back.unpack(&session, &home.path("out")).unwrap();
        prop_assert!(tree(&home.path("out")) == expected);
        // Packed again from its own archive, it is the same file.
        back.pack(&session, Form::Ekiben, &home.path("b.ekiben")).unwrap();
        prop_assert!(fs::read(home.path("b.ekiben")).unwrap() == fs::read(&file).unwrap());
    }
}
