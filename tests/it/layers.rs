//! Layers as other builders write them: `tests/layers/corpus.py` makes images of them, umoci unpacks them, and they run
//! here, as root and as an ordinary user. What busybox sees in both must be the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::home::images::busybox;
use crate::home::{self, Home, USER, names, ran, tool};
use ekiben::io::archive::{self, Below, Limits, Stack};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What comes out otherwise than with umoci, and why.
enum Otherwise {
    /// These lines, without owners.
    Shows(&'static [&'static str]),
    /// It is refused, with this text.
    Refused(&'static str),
}

use Otherwise::{Refused, Shows};

/// All else is as umoci has it.
const OTHERWISE: &[(&str, &str, Otherwise)] = &[
    (
        "devices",
        "umoci makes device nodes as root, and files in their place else; nothing in a container may use them",
        Shows(&["./d: regular file 644 1 9dd4e461", "./dev2: directory 755"]),
    ),
    (
        "aufs-books",
        "umoci and overlay2 take aufs's books for files; docker's other drivers leave them out, as is meant",
        Shows(&["./a: regular file 644 1 9dd4e461", "./b: regular file 644 1 9dd4e461"]),
    ),
    (
        "global-headers",
        "umoci 0.4 knows none; docker and containerd pass over them",
        Shows(&["./a: regular file 644 1 9dd4e461", "./b: regular file 644 1 9dd4e461"]),
    ),
    (
        "old-format",
        "umoci and docker know no contiguous files; containerd and GNU tar do",
        Shows(&[
            "./d5: directory 711",
            "./folder: directory 644",
            "./nul: regular file 644 1 9dd4e461",
            "./seven: regular file 644 1 8f14e45f",
            "./v7: regular file 644 1 9dd4e461",
        ]),
    ),
    (
        "gnu-sparse",
        "umoci and docker know none; GNU tar makes this of them",
        Shows(&[
            "./behind: regular file 644 1 9dd4e461",
            "./few: regular file 644 5242880 ae68fc1d",
            "./hole: regular file 644 1048576 b6d81b36",
            "./many: regular file 644 4194304 c892730d",
        ]),
    ),
    (
        "gigabytes",
        "umoci writes every zero",
        Shows(&["./nine: regular file 644 9663676416 first..0000", "./pax: regular file 644 9663676416 00000..last"]),
    ),
    (
        "through-a-file",
        "umoci refuses what docker's and containerd's overlays take",
        Shows(&["./a: directory 755", "./a/x: regular file 644 1 9dd4e461"]),
    ),
    ("stored-zstd", "umoci 0.4 knows no zstd", Shows(STORED)),
    ("stored-docker", "umoci knows OCI manifests alone", Shows(STORED)),
    ("stored-docker-foreign", "umoci knows OCI manifests alone", Shows(STORED)),
    ("stored-attested", "umoci takes no index of several", Shows(STORED)),
    ("stored-attested-bare", "umoci takes no index of several", Shows(STORED)),
    (
        "dot-dot",
        "umoci stays at the root; whoever writes that means no good",
        Refused("the path `../x` leaves the archive's root"),
    ),
    ("hard-link-out", "as above", Refused("etc/passwd` leaves the archive's root")),
    ("hard-link-to-nothing", "umoci refuses it too", Refused("`x` cannot be unpacked: it is a hard link to `nowhere`")),
    ("hard-link-to-a-folder", "umoci refuses it too", Refused("`x` cannot be unpacked: it is a hard link to `a`")),
    ("loops", "umoci refuses it too", Refused("`a/x` cannot be unpacked: it leads through too many links")),
    ("name-over-255", "no file system takes it", Refused("has a name of over 255 bytes")),
    ("whiteout-of-its-folder", "umoci fails too", Refused("`a/.wh..` cannot be unpacked: it deletes nothing")),
    ("whiteout-of-the-folder-above", "umoci fails too", Refused("`a/.wh...` cannot be unpacked: it deletes nothing")),
    ("stump", "umoci refuses it too", Refused("unexpected end of file")),
];

const STORED: &[&str] = &[
    "./a: directory 755",
    "./a/x: regular file 644 1 9dd4e461",
    "./a/y: regular file 644 1 9dd4e461",
    "./big: regular file 644 100000 13572e9e",
    "./l: symbolic link 777 -> a",
];

/// A store that has all images of the corpus, whose layouts lie in `corpus/layouts`.
fn home() -> Home {
    let home = Home::empty();
    let architecture = ekiben::image::oci::platform::Platform::host().unwrap().architecture();
    let script = tool("python3")
        .arg("tests/layers/corpus.py")
        .arg(home.path("corpus"))
        .arg(busybox())
        .arg(architecture)
        .output();
    let script = script.unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    home::copy(Path::new(&home.path("corpus/blobs")), &home.store().join("blobs"), false);
    fs::copy(home.path("corpus/index.json"), home.store().join("index.json")).unwrap();
    home
}

fn lister() -> String {
    fs::read_to_string("tests/layers/list.sh").unwrap()
}

/// What busybox sees in what umoci unpacked; none where umoci fails.
fn umoci(home: &Home, case: &str, user: bool) -> Option<String> {
    let folder = home.path(&format!("umoci/{case}"));
    let mut unpack = tool("umoci");
    unpack.args(["unpack", "--image", &format!("{}/{case}:latest", home.path("corpus/layouts")), &folder]);
    // Nobody in a container may pass over the modes of files.
    let capabilities = ["setpriv", "--bounding-set", "-all,+sys_chroot", "--inh-caps", "-all"];
    let root = format!("{folder}/rootfs");
    let see = ["chroot", &root, "/bin/busybox", "sh", "-c"].map(str::to_owned);
    let mut list = match user {
        true => {
            let mut list = tool("unshare");
            list.args(["--user", "--map-root-user"]).args(capabilities);
            list
        }
        false => {
            let mut list = tool("setpriv");
            list.args(&capabilities[1..]);
            list
        }
    };
    list.args(see).arg(lister()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    if user {
        unpack.arg("--rootless").env("HOME", home.folder());
        list.env("OWNERS", "no");
        if nix::unistd::geteuid().is_root() {
            unpack.uid(USER).gid(USER);
            list.uid(USER).gid(USER);
        }
    }
    unpack.output().unwrap().status.success().then(|| ran(&mut list).ok().out)
}

/// All cases in `home`, side by side.
fn come_out_right(home: &Home, user: bool) {
    let mut cases = names(Path::new(&home.path("corpus/layouts")));
    assert!(cases.len() > 55);
    let known: BTreeSet<_> = OTHERWISE.iter().map(|(case, ..)| *case).collect();
    assert!(known.iter().all(|case| cases.iter().any(|known| known == case)));
    let check = |case: &str| {
        let otherwise = OTHERWISE.iter().find(|(known, ..)| *known == case);
        let environment = if user || otherwise.is_some() { "OWNERS=no" } else { "OWNERS=yes" };
        let lister = format!("{environment}\n{}", lister());
        let run = home.run(["run", &format!("{case}:1"), "--", "/bin/busybox", "sh", "-c", &lister]);
        match otherwise {
            Some((_, _, Refused(text))) => drop(run.ends(1).says(text)),
            Some((_, why, Shows(lines))) => {
                let seen = run.ok().out;
                let expected = format!(".: directory 755\n{}\n", lines.join("\n"));
                assert_eq!(seen, expected, "{case} ({why})");
            }
            None => {
                let expected = umoci(home, case, user);
                assert_eq!(Some(run.ok().out), expected, "{case}");
            }
        }
    };
    let (first, second) = cases.split_at_mut(30);
    std::thread::scope(|scope| {
        scope.spawn(|| first.iter().for_each(|case| check(case)));
        second.iter().for_each(|case| check(case));
    });
}

#[test]
fn odd_layers_come_out_as_with_umoci() {
    if nix::unistd::geteuid().is_root() {
        come_out_right(&home(), false);
    } else {
        println!("left out: owners need root; the other test does the rest");
    }
}

#[test]
fn odd_layers_come_out_as_with_umoci_for_an_ordinary_user() {
    let home = home().of_a_user();
    fs::create_dir(home.path("umoci")).unwrap();
    std::os::unix::fs::chown(home.path("umoci"), Some(USER), Some(USER)).unwrap_or_default();
    come_out_right(&home, true);
    // Read-only folders and all: nothing needs them any more.
    for name in home.run(["images", "--output", "json"]).ok().json()["images"].as_array().unwrap() {
        home.run(["images", "--remove", name["name"].as_str().unwrap()]);
    }
    fs::remove_file(home.store().join("index.json")).unwrap();
    assert!(home.stored("trees").len() > 60);
    home.run(["prune"]).ok();
    assert_eq!(home.stored("trees"), [""; 0]);
    assert_eq!(home.stored("scratch"), [""; 0]);
}

#[test]
fn a_layer_has_one_tree_unless_the_layers_below_make_it_another() {
    let home = home();
    let run = |case: &str| home.run(["run", "-v", &format!("{case}:1"), "--", "/bin/busybox", "true"]).ok();
    let tree = |case: &str| {
        run(case);
        home.stored("trees").len()
    };
    // That of busybox, and two of the case.
    assert_eq!(tree("kaniko"), 3);
    assert_eq!(tree("folder-becomes-link-and-back"), 6);
    // The upper one writes through a link of the lower one.
    assert_eq!(tree("lib-is-a-link"), 9);
    assert_eq!(tree("lib-is-a-link"), 9);
    // The same lower one; the upper one has a folder.
    assert_eq!(tree("lib-is-a-link-with-its-folder"), 10);
    run("devices").says("device nodes are left out: dev2/null, disk");
    run("gigabytes");
    let used = ran(tool("du").args(["-sm", "--"]).arg(home.store().join("trees"))).ok().out;
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!(used < 50, "nine gigabytes of nothing take {used} MiB");
}

#[test]
fn what_others_stored_is_a_base() {
    let home = home();
    for case in names(Path::new(&home.path("corpus/layouts"))).iter().filter(|case| case.starts_with("stored-")) {
        home.write("w/w.bin", "w");
        let text = "version: '1'\nmodel: {files: [w.bin]}\nservice: {command: [/bin/busybox]}\n";
        home.write("w/ekiben.yaml", format!("name: w\nbase: oci:../corpus/layouts/{case}\n{text}"));
        let _ = fs::remove_file(home.path("w/ekiben.lock"));
        home.build("w");
        let script = "b=/bin/busybox; $b cat /l/x /a/y /models/w/w.bin; $b readlink /l";
        let said = home.run(["run", "w:1", "--", "/bin/sh", "-c", script]);
        assert_eq!(said.ok().out, "xxwa\n", "{case}");
    }
}

#[test]
fn what_an_upper_layer_deletes_of_weights_is_not_mounted() {
    let home = home();
    home.write("w/a.bin", "weights a");
    home.write("w/b.bin", "weights b");
    let text = "name: w\nversion: '1'\nbase: oci:../corpus/layouts/empty\nmodel: {files: ['*.bin']}\n";
    home.write("w/ekiben.yaml", format!("{text}service: {{command: [/bin/sh]}}\n"));
    fs::remove_file(home.store().join("index.json")).unwrap();
    home.build("w");
    let list = "cd /models/w; /bin/busybox ls; /bin/busybox cat b.bin";
    let list = || home.run(["run", "w:1", "--", "/bin/sh", "-c", list]).ok().out;
    assert_eq!(list(), "a.bin\nb.bin\nweights b");
    // Somebody else puts a layer on top.
    let mut layer = tar::Builder::new(Vec::new());
    for (name, content) in [("models/w/.wh.a.bin", ""), ("models/w/b.bin", "theirs")] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let blob = |bytes: &[u8]| {
        let digest = ekiben::io::digest::Digest::of(bytes);
        home.write(&format!("store/blobs/sha256/{}", digest.hex()), bytes);
        serde_json::json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let read = |digest: &serde_json::Value| -> serde_json::Value {
        let name = digest.as_str().unwrap().trim_start_matches("sha256:");
        serde_json::from_slice(&fs::read(home.store().join("blobs/sha256").join(name)).unwrap()).unwrap()
    };
    let mut index: serde_json::Value =
        serde_json::from_slice(&fs::read(home.store().join("index.json")).unwrap()).unwrap();
    let mut manifest = read(&index["manifests"][0]["digest"]);
    let mut config = read(&manifest["config"]["digest"]);
    let mut upper = blob(&layer);
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(upper["digest"].clone());
    upper["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    manifest["layers"].as_array_mut().unwrap().push(upper);
    for (key, value) in blob(&serde_json::to_vec(&config).unwrap()).as_object().unwrap() {
        manifest["config"][key] = value.clone();
    }
    for (key, value) in blob(&serde_json::to_vec(&manifest).unwrap()).as_object().unwrap() {
        index["manifests"][0][key] = value.clone();
    }
    home.write("store/index.json", serde_json::to_vec(&index).unwrap());
    assert_eq!(list(), "b.bin\ntheirs");
}

/// How many inputs [`mutated_layers_do_no_harm`] tries: `scripts/fuzz-layers.sh` sets it.
const INPUTS: &str = "EKIBEN_FUZZ_INPUTS";

#[test]
fn mutated_layers_do_no_harm() {
    let wanted = std::env::var(INPUTS).ok();
    let inputs: u64 = wanted.as_ref().map_or(2_000, |text| text.parse().unwrap());
    let home = home();
    let folder = PathBuf::from(home.path("corpus/seeds"));
    let seeds: Vec<_> = names(&folder).iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
    assert!(seeds.len() > 70);
    let (next, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let (slowest, begun) = (AtomicU64::new(0), Instant::now());
    let work = |number: usize| {
        let outer = PathBuf::from(home.path(&format!("fuzz{number}")));
        let canary = Canary::new(&outer);
        loop {
            let input = next.fetch_add(1, Ordering::Relaxed);
            if input >= inputs {
                return;
            }
            let mut chance = StdRng::seed_from_u64(input);
            let layers: Vec<_> = (0..chance.gen_range(1..4)).map(|_| mutated(&mut chance, &seeds, &outer)).collect();
            let started = Instant::now();
            let result = std::panic::catch_unwind(|| unpacked(&outer, &layers));
            assert!(result.is_ok(), "input {input} panics");
            taken.fetch_add(result.unwrap(), Ordering::Relaxed);
            let elapsed = started.elapsed();
            assert!(elapsed < Duration::from_secs(60), "input {input} takes {elapsed:?}");
            slowest.fetch_max(u64::try_from(elapsed.as_millis()).unwrap(), Ordering::Relaxed);
            canary.lives(input);
            if input % 50_000 == 49_999 {
                println!("{} inputs in {:.0} s", input + 1, begun.elapsed().as_secs_f64());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let work = &work;
        (0..threads).for_each(|number| drop(scope.spawn(move || work(number))));
    });
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    println!(
        "{inputs} inputs in {:.0} s: {} layers were taken, the slowest input took {} ms, the process {} MiB",
        begun.elapsed().as_secs_f64(),
        taken.load(Ordering::Relaxed),
        slowest.load(Ordering::Relaxed),
        peak >> 10,
    );
    assert!(taken.load(Ordering::Relaxed) > inputs / 4, "nearly nothing is taken: that tries nothing");
    // In a run of all tests the memory is also that of others.
    assert!(wanted.is_none() || peak < 400 << 10, "the process has taken {} MiB", peak >> 10);
}

/// Unpacks `layers` over each other as a container's are, and each as an archive of anybody; how many are taken.
fn unpacked(outer: &Path, layers: &[Vec<u8>]) -> u64 {
    let limits = Limits { members: 10_000, bytes: 1 << 40 };
    let (mut trees, mut taken) = (Vec::new(), 0);
    for (number, layer) in layers.iter().enumerate() {
        let mut tree = folder(outer, &format!("any{number}"));
        let stack = Stack::new(&trees);
        let plain = archive::unpack_layer(layer.as_slice(), &tree, Below::Anything, limits);
        if !plain.as_ref().is_ok_and(|facts| facts.hold(&stack)) {
            tree = folder(outer, &format!("over{number}"));
            if archive::unpack_layer(layer.as_slice(), &tree, Below::Layers(&stack), limits).is_err() {
                continue;
            }
        }
        stack.find(Path::new("l/a/x"));
        taken += 1;
        trees.push(tree);
    }
    // As what somebody says is a bundle.
    let _ = archive::unpack(layers[0].as_slice(), &folder(outer, "archive"), limits);
    archive::remove(&outer.join("work")).unwrap();
    taken
}

/// A new folder.
fn folder(outer: &Path, name: &str) -> PathBuf {
    let folder = outer.join("work").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Files beside a tree that must stay as they are.
struct Canary {
    outer: PathBuf,
    state: Vec<(i64, i64, u64, u32, u64)>,
}

impl Canary {
    fn new(outer: &Path) -> Self {
        fs::create_dir_all(outer.join("canary/folder")).unwrap();
        fs::write(outer.join("canary/file"), "sings").unwrap();
        Self { state: Self::state(outer), outer: outer.to_owned() }
    }

    fn state(outer: &Path) -> Vec<(i64, i64, u64, u32, u64)> {
        let look = |name: &str| {
            let metadata = fs::symlink_metadata(outer.join(name)).unwrap();
            (metadata.ctime(), metadata.ctime_nsec(), metadata.nlink(), metadata.mode(), metadata.size())
        };
        ["canary", "canary/folder", "canary/file"].map(look).to_vec()
    }

    fn lives(&self, input: u64) {
        assert_eq!(names(&self.outer), ["canary"], "input {input} leaves something");
        assert_eq!(Self::state(&self.outer), self.state, "input {input} touches what is beside the root");
    }
}

/// A layer of members of the seeds, in which this and that is changed.
fn mutated(chance: &mut StdRng, seeds: &[Vec<u8>], outer: &Path) -> Vec<u8> {
    let pick = |chance: &mut StdRng| seeds[chance.gen_range(0..seeds.len())].clone();
    let mut bytes = pick(chance);
    for _ in 0..chance.gen_range(0..3) {
        // Behind each other: the end of the first is cut off.
        bytes.truncate(bytes.len().saturating_sub(1024));
        bytes.extend(pick(chance));
    }
    let beside = format!("{}/canary", outer.display());
    let dictionary: [&[u8]; 24] = [
        b"../canary/file",
        b"../../canary/file",
        b"l/file",
        b"l",
        b"l/../../canary/file",
        b"/",
        b".",
        b"./",
        b"a",
        b"a/x",
        b"a/b/c",
        b"lib",
        b"usr/lib",
        b".wh.a",
        b"a/.wh..wh..opq",
        b".wh..wh..opq",
        b"l/.wh.file",
        b"l/folder/y",
        b"\xff\xfe",
        b"a//../b",
        b"",
        b"..",
        beside.as_bytes(),
        b"../canary",
    ];
    let blocks = bytes.len() / 512;
    for _ in 0..chance.gen_range(0..6) {
        let headers: Vec<_> = (0..blocks).filter(|block| bytes[block * 512 + 257..].starts_with(b"ustar")).collect();
        let Some(&block) = headers.get(chance.gen_range(0..headers.len().max(1))) else { break };
        let at = block * 512;
        let word = dictionary[chance.gen_range(0..dictionary.len())];
        let mut put = |offset: usize, width: usize, with: &[u8]| {
            let field = &mut bytes[at + offset..at + offset + width];
            field.fill(0);
            let length = with.len().min(width);
            field[..length].copy_from_slice(&with[..length]);
        };
        match chance.gen_range(0..9) {
            0 => put(0, 100, word),
            1 => put(157, 100, word),
            2 => put(156, 1, &[b"01234567SLKxg\0Z"[chance.gen_range(0..15)]]),
            3 => put(124, 12, format!("{:011o}", chance.gen_range(0..4096u32)).as_bytes()),
            4 => put(chance.gen_range(100..136), 1, &[chance.r#gen()]),
            5 => put(386, 24, &chance.r#gen::<[u8; 24]>()),
            6 => bytes[at + chance.gen_range(0..512)] = chance.r#gen(),
            7 => {
                // A link to what is beside, and a member that goes through it.
                put(156, 1, b"2");
                put(0, 100, b"l");
                put(157, 100, if chance.r#gen() { beside.as_bytes() } else { b"../canary" });
            }
            _ => {
                let from = chance.gen_range(0..blocks) * 512;
                let part = bytes[from..from + 512].to_vec();
                bytes[at..at + 512].copy_from_slice(&part);
            }
        }
    }
    for _ in 0..chance.gen_range(0..3) {
        let at = chance.gen_range(0..bytes.len());
        bytes[at] = chance.r#gen();
    }
    if chance.gen_bool(0.95) {
        for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
    if chance.gen_bool(0.05) {
        bytes.truncate(chance.gen_range(0..bytes.len()));
    }
    bytes
}
