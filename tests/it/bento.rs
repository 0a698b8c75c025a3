//! Real BentoML beside Ekiben: the bentos that it builds are built, run and asked here and there, and what Ekiben packs
//! goes back into it. And bentos that nobody should trust.
//!
//! Needs a package index (as pip is configured) and a `python3`. What is installed and built stays below the target
//! folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::home::cluster::Cluster;
use crate::home::registry::Registry;
use crate::home::{self, Home, Ran, ask, free_port, names, python_program, ran, timed, tool, wait_until};
use ekiben::io::digest::Digest;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rand::RngCore as _;
use serde_json::{Value, json};

/// A version of BentoML: what is installed, the script that builds bentos with it, and their kinds.
#[derive(Clone, Copy, Debug)]
struct Version {
    name: &'static str,
    packages: &'static [&'static str],
    script: &'static str,
    kinds: &'static [&'static str],
}

/// What BentoML locks with from 1.4 on. It also installs in seconds what takes pip a minute.
const UV: &str = "uv==0.13.8";

/// With bentos of the second layout.
const NEW: Version = Version {
    name: "1.4.39",
    packages: &["bentoml==1.4.39", "scikit-learn==1.5.2", UV],
    script: "make.py",
    kinds: &["iris", "iris.tar", "iris.gz", "iris.bz2", "iris.zip", "pair", "listed", "system", "commands"],
};

/// With services, and the first layout.
const MIDDLE: Version = Version {
    name: "1.2.20",
    packages: &[
        "bentoml==1.2.20",
        // What its commands ask of click, later ones do not have.
        "click<8.2",
        "scikit-learn==1.5.2",
        "setuptools<80",
        "pydantic<2.9",
        "fastapi==0.115.0",
        "cloudpickle==3.1.2",
    ],
    script: "make.py",
    kinds: &["iris", "pair", "listed", "system", "extraction", "script", "template"],
};

/// With runners.
const OLD: Version = Version {
    name: "1.1.11",
    packages: &["bentoml==1.1.11", "scikit-learn==1.5.2", "setuptools<80"],
    script: "make.py",
    kinds: &["runner"],
};

/// BentoML as konfuzio-sdk brings it, which builds its bentos itself.
const KONFUZIO: Version =
    Version { name: "konfuzio", packages: &["konfuzio-sdk==0.3.52", UV], script: "konfuzio.py", kinds: &["konfuzio"] };

/// The folder with the programs of today's BentoML.
pub fn programs() -> PathBuf {
    BentoMl::new(NEW).folder.join("venv/bin")
}

/// A version that is installed, with a store and exported bentos.
struct BentoMl {
    version: Version,
    folder: PathBuf,
}

impl BentoMl {
    /// Installs it and builds its bentos, if that is not done.
    fn new(version: Version) -> Self {
        let lab = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bentos");
        let bentoml = Self { version, folder: lab.join(version.name) };
        fs::create_dir_all(&lab).unwrap();
        // Other tests want it too.
        let lock = File::create(lab.join(format!("{}.lock", version.name))).unwrap();
        lock.lock().unwrap();
        let mark = mark(version);
        if fs::read_to_string(bentoml.folder.join("mark")).ok().as_ref() != Some(&mark) {
            let _ = fs::remove_dir_all(&bentoml.folder);
            let uv = python_program("uv", UV);
            let python = bentoml.folder.join("venv/bin/python");
            timed(&format!("installing {}", version.name), || {
                let run = |args: &[&str]| ran(Command::new(&uv).args(["--quiet"]).args(args)).ok();
                run(&["venv", "--python", "3.11", bentoml.folder.join("venv").to_str().unwrap()]);
                let install = ["pip", "install", "--python", python.to_str().unwrap()];
                run(&[&install, version.packages].concat());
            });
            timed(&format!("building with {}", version.name), || {
                let mut command = bentoml.command("python");
                command.arg(Path::new(SOURCES).join(version.script)).arg(bentoml.folder.join("bentos"));
                ran(command.args(version.kinds)).ok();
            });
            fs::write(bentoml.folder.join("mark"), mark).unwrap();
        }
        bentoml
    }

    /// A program of its environment, with its store.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join("venv/bin").join(program));
        command.env("BENTOML_HOME", self.folder.join("home")).env("BENTOML_DO_NOT_TRACK", "True");
        command.current_dir(&self.folder);
        command
    }

    /// The archive of a kind.
    fn archive(&self, kind: &str) -> PathBuf {
        let name = if kind.contains('.') { kind.to_owned() } else { format!("{kind}.bento") };
        self.folder.join("bentos").join(name)
    }

    /// A copy of it in the home, where its lock will lie beside it.
    fn bento(&self, home: &Home, kind: &str) -> String {
        let archive = self.archive(kind);
        let copy = home.write(archive.file_name().unwrap().to_str().unwrap(), fs::read(&archive).unwrap());
        copy.to_str().unwrap().to_owned()
    }

    /// `bentoml serve` of a tag in a store, ready.
    fn serve(&self, home: &Path, tag: &str) -> Served {
        let port = free_port();
        let mut command = self.command("bentoml");
        command.args(["serve", tag, "--port", &port.to_string()]).env("BENTOML_HOME", home);
        // What the image of the kind `system` sets.
        command.env("GREETING", "good day").env("MARK", "!").process_group(0);
        let log = home.with_file_name(format!("log-{port}"));
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let mut served = Served { child, address: format!("127.0.0.1:{port}") };
        wait_until("ready", || {
            let ended = served.child.try_wait().unwrap();
            assert!(ended.is_none(), "`bentoml serve {tag}` ended:\n{}", fs::read_to_string(&log).unwrap());
            home::is_ready(&served.address, "/readyz")
        });
        served
    }

    /// Imports a bento into an empty store at `home`, and gives what is listed then.
    fn import(&self, home: &Path, bento: &str) -> Value {
        ran(self.command("bentoml").args(["import", bento]).env("BENTOML_HOME", home)).ok();
        ran(self.command("bentoml").args(["list", "-o", "json"]).env("BENTOML_HOME", home)).ok().json()
    }
}

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bentos");

/// Of all that a version's bentos are made from.
fn mark(version: Version) -> String {
    fn add(folder: &Path, all: &mut Vec<u8>) {
        for name in names(folder).iter().filter(|name| !["__pycache__", "hostile.py"].contains(&name.as_str())) {
            let path = folder.join(name);
            if path.is_dir() { add(&path, all) } else { all.extend(fs::read(path).unwrap()) }
        }
    }
    let mut all = format!("{version:?}").into_bytes();
    add(Path::new(SOURCES), &mut all);
    Digest::of(all).to_string()
}

/// Processes of `bentoml serve`, which end with it.
struct Served {
    child: Child,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// What is asked of a kind: wherever it runs, the answer is the same.
fn requests(kind: &str) -> Vec<(&'static str, &'static str, String)> {
    let features = r#"{"features": [[1.4, 0.2], [4.6, 1.4], [6.0, 2.5]]}"#;
    let bodies = match kind {
        "pair" => vec![("/classify", r#"{"millimetres": [[14, 2], [46, 14], [60, 25]]}"#)],
        "system" => vec![("/greet", r#"{"name": "you"}"#)],
        "extraction" => {
            let text = r#"{"text": "total 12.50, tax 2.00", "bboxes": {}, "pages": [], "raw_ocr_response": null}"#;
            vec![("/extract", text), ("/extract", "{}")]
        }
        "konfuzio" => vec![("/extract", "{}")],
        "runner" => vec![("/classify", features)],
        _ => vec![("/classify", features), ("/classify", r#"{"features": "none"}"#)],
    };
    let posts = bodies.into_iter().map(|(path, body)| ("POST", path, body.to_owned()));
    let mut all: Vec<_> =
        posts.chain([("GET", "/docs.json", String::new()), ("GET", "/nowhere", String::new())]).collect();
    if ["extraction", "konfuzio"].contains(&kind) {
        all.push(("GET", "/v1/project-metadata", String::new()));
    }
    all
}

/// Path, status and body, which is JSON where it can be.
fn answers(address: &str, requests: &[(&str, &str, String)]) -> Vec<(String, u16, Value)> {
    let answer = |(method, path, body): &(&str, &str, String)| {
        let (status, body) = ask(address, method, path, body);
        ((*path).to_owned(), status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    };
    requests.iter().map(answer).collect()
}

/// The files in an archive, with their digests.
fn files_of(archive: &Path) -> BTreeMap<String, Digest> {
    fn add(folder: &Path, above: &str, all: &mut BTreeMap<String, Digest>) {
        for name in names(folder) {
            let path = folder.join(&name);
            match path.is_dir() {
                true => add(&path, &format!("{above}{name}/"), all),
                false => drop(all.insert(format!("{above}{name}"), Digest::of(fs::read(path).unwrap()))),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    ran(tool("tar").arg("-xJf").arg(archive).arg("-C").arg(folder.path())).ok();
    let mut all = BTreeMap::new();
    add(folder.path(), "", &mut all);
    all
}

/// A container of a bento, which is stopped and taken away.
struct Container<'a> {
    home: &'a Home,
    name: String,
    address: String,
}

impl<'a> Container<'a> {
    fn start(home: &'a Home, target: &str) -> Self {
        Self::started(home, target, &[])
    }

    fn started(home: &'a Home, target: &str, options: &[&str]) -> Self {
        let args = ["run", target, "--detach", "--output", "json"];
        let started = home.run(args.iter().chain(options)).ok().json();
        let text = |key: &str| started[key].as_str().unwrap().to_owned();
        let container = Self { home, name: text("name"), address: text("address") };
        assert_eq!(ask(&container.address, "GET", "/readyz", "").0, 200);
        container
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.home.run(["stop", "--remove", &self.name]);
    }
}

/// Builds a bento, runs it and asks it, sends it back to BentoML, and asks that.
fn as_on_the_host(home: &Home, bentoml: &BentoMl, kind: &str) {
    let (bento, mut requests) = (bentoml.bento(home, kind), requests(kind));
    if let Ok(request) = fs::read_to_string(bentoml.archive(kind).with_extension("json")) {
        requests.push(("POST", "/extract", request));
    }
    let digest = timed(&format!("{} {kind}: build", bentoml.version.name), || home.build(&bento));
    assert_eq!(home.build(&bento), digest, "built twice");
    let shown = home.run(["inspect", &bento, "--output", "json"]).ok().json();
    let (name, version) = (shown["name"].as_str().unwrap(), shown["version"].as_str().unwrap());
    let tag = format!("{name}:{version}");

    let container = timed(&format!("{} {kind}: run", bentoml.version.name), || Container::start(home, &tag));
    let inside = answers(&container.address, &requests);
    let asked = |path: &str| ask(&container.address, "POST", path, "{}");
    if kind == "system" {
        let python = if bentoml.version.name == NEW.name { "3.13" } else { "3.11" };
        assert_eq!(asked("/python"), (200, python.to_owned()));
        assert_eq!(asked("/sodium").0, 200);
    }
    drop(container);
    let container = Container::started(home, &tag, &["--read-only"]);
    assert_eq!(answers(&container.address, &requests), inside, "on a read-only root");
    drop(container);

    // The bento in it goes back as it came, but for the lock, which goes along.
    let again = home.path(&format!("{kind}-again.bento"));
    home.run(["export", "--bento", &tag, &again]).ok();
    let bytes = fs::read(&again).unwrap();
    home.run(["export", "--bento", &tag, &again, "--force"]).ok();
    assert!(bytes == fs::read(&again).unwrap(), "exported twice");
    let mut files = files_of(Path::new(&again));
    files.remove("ekiben.lock");
    assert_eq!(files, files_of(&bentoml.archive(kind)));
    let store = home.folder().join(format!("{kind}-store/bentoml"));
    fs::create_dir_all(&store).unwrap();
    let listed = bentoml.import(&store, &again);
    assert_eq!(listed[0]["tag"], tag.as_str(), "{listed}");
    let served = timed(&format!("{} {kind}: serve", bentoml.version.name), || bentoml.serve(&store, &tag));
    let outside = answers(&served.address, &requests);
    assert_eq!(inside, outside);
    let statuses: Vec<_> = inside.iter().map(|answer| answer.1).collect();
    assert_eq!(statuses[0], if kind == "konfuzio" { 400 } else { 200 }, "{inside:?}");
    if kind == "konfuzio" {
        let (_, status, answer) = inside.last().unwrap();
        assert_eq!(
            (*status, &answer["annotation_sets"][0]["annotations"][0]["offset_string"]),
            (200, &json!(["A109"]))
        );
    }
}

/// Builds a bento as an archive of each kind, under names that lie, as a folder, and from BentoML's store.
fn same_in_any_form(home: &Home, bentoml: &BentoMl) {
    let bento = bentoml.bento(home, "iris");
    let digest = home.build(&bento);
    for ending in ["tar", "gz", "bz2", "zip"] {
        let bento = bentoml.bento(home, &format!("iris.{ending}"));
        assert_eq!(home.build(&bento), digest, "{ending}");
        // What a name says of the form need not be so.
        fs::copy(&bento, home.path(&format!("{ending}.bento"))).unwrap();
        assert_eq!(home.build(home.path(&format!("{ending}.bento"))), digest, "{ending} as .bento");
    }
    fs::create_dir(home.path("unpacked")).unwrap();
    ran(tool("tar").args(["-xJf", &bento, "-C", &home.path("unpacked")])).ok();
    assert_eq!(home.build(home.path("unpacked")), digest, "unpacked");
    let mut stored = home.command(["build", "bento:iris:1", "--lock", "stored.lock"]);
    let stored = ran(stored.env("BENTOML_HOME", bentoml.folder.join("home"))).ok();
    assert_eq!(stored.out.trim(), digest, "in the store");
    let mut missing = home.command(["build", "bento:irises:1"]);
    ran(missing.env("BENTOML_HOME", bentoml.folder.join("home"))).ends(1).says("irises:1").says("bentoml list");
}

#[test]
fn bentos_of_1_4_answer_as_they_do_in_bentoml_whatever_form_they_have() {
    let (bentoml, home) = (BentoMl::new(NEW), Home::warm());
    ["iris", "pair", "listed", "system"].iter().for_each(|kind| as_on_the_host(&home, &bentoml, kind));
    same_in_any_form(&home, &bentoml);
}

#[test]
fn bentos_of_1_2_answer_as_they_do_in_bentoml() {
    let (bentoml, home) = (BentoMl::new(MIDDLE), Home::warm());
    ["iris", "pair", "listed", "system", "extraction"].iter().for_each(|kind| as_on_the_host(&home, &bentoml, kind));
}

#[test]
fn a_bento_with_a_runner_answers_as_it_does_in_bentoml() {
    let (bentoml, home) = (BentoMl::new(OLD), Home::warm());
    as_on_the_host(&home, &bentoml, "runner");
}

#[test]
fn a_bento_of_konfuzio_answers_as_it_does_in_bentoml() {
    let (bentoml, home) = (BentoMl::new(KONFUZIO), Home::warm());
    as_on_the_host(&home, &bentoml, "konfuzio");
}

/// As Kubernetes is told to run it: nothing but `/tmp` can be written to, not even what podman makes a file system in
/// memory by itself.
#[test]
fn bentos_start_in_podman_on_a_read_only_root_with_a_temporary_folder_alone() {
    for (version, kind) in [(NEW, "iris"), (MIDDLE, "iris"), (OLD, "runner")] {
        let (bentoml, home) = (BentoMl::new(version), Home::warm());
        home.build(bentoml.bento(&home, kind));
        home.run(["export", &format!("{kind}:1"), "image.tar"]).ok();
        let port = free_port();
        let podman = || home::engines::podman(home.folder());
        let loaded = ran(podman().args(["load", "-q", "-i", "image.tar"])).ok().out;
        let image = loaded.trim().rsplit_once(": ").unwrap().1.to_owned();
        let mut run = podman();
        run.args(["run", "-d", "--name", "bento", "--network", "host", "--env", &format!("PORT={port}")]);
        run.args(home::engines::LIMITS);
        run.args(["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "all"]);
        ran(run.arg(&image)).ok();
        let address = format!("127.0.0.1:{port}");
        let started = Instant::now();
        while !home::is_ready(&address, "/readyz") {
            let log = || ran(podman().args(["logs", "bento"])).err;
            assert!(started.elapsed() < home::PATIENCE, "{}:\n{}", version.name, log());
            std::thread::sleep(Duration::from_millis(100));
        }
        let answers = answers(&address, &requests(kind));
        ran(podman().args(["rm", "--force", "--time", "0", "bento"])).ok();
        assert_eq!(answers[0].1, 200, "{answers:?}");
    }
}

#[test]
fn a_bento_is_deployed_and_answers_in_a_cluster() {
    let (bentoml, home, registry) = (BentoMl::new(NEW), Home::warm(), Registry::start());
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("bento");
    let (bento, push) = (bentoml.bento(&home, "iris"), registry.reference("iris"));
    let place = ["--push", &push, "--namespace", &namespace.name];
    let mut command =
        home.command([&["deploy", &bento, "--kubernetes", "1.25", "--memory", "1Gi"], &place[..]].concat());
    ran(cluster.known_to(command.args(["--apply", "--wait"]))).ok();
    let addresses = namespace.addresses("app.kubernetes.io/instance=iris", 3000);
    let answers = answers(&addresses[0], &requests("iris"));
    assert_eq!(answers[0].1, 200, "{answers:?}");
}

#[test]
fn an_ordinary_user_runs_a_bento() {
    let (bentoml, home) = (BentoMl::new(MIDDLE), Home::warm().of_a_user());
    let container = Container::start(&home, &bentoml.bento(&home, "extraction"));
    let answers = answers(&container.address, &requests("extraction"));
    let found = &answers[0].2["annotation_sets"][0]["annotations"];
    assert_eq!((answers[0].1, &found[0]["offset_string"]), (200, &json!("12.50")), "{answers:?}");
}

#[test]
fn what_is_packed_is_imported_by_each_version() {
    let home = Home::empty();
    let manifest =
        "name: big\nversion: \"1\"\nbase: scratch\nmodel: {files: [\"*.bin\"]}\nservice: {command: [/bin/sh]}\n";
    home.write("big/ekiben.yaml", manifest);
    let mut noise = vec![0; 5 << 20];
    rand::thread_rng().fill_bytes(&mut noise);
    home.write("big/noise.bin", &noise);
    home.write("big/zeros.bin", vec![0; 3_000_000]);
    home.run(["pack", "big", "-o", "big.bento"]).ok();
    let bytes = fs::read(home.path("big.bento")).unwrap();
    home.run(["pack", "big", "-o", "again.bento"]).ok();
    assert!(bytes == fs::read(home.path("again.bento")).unwrap(), "packed twice");
    for version in [NEW, MIDDLE, OLD] {
        let store = home.folder().join(format!("{}/bentoml", version.name));
        fs::create_dir_all(&store).unwrap();
        let listed = BentoMl::new(version).import(&store, &home.path("big.bento"));
        assert_eq!(listed[0]["tag"], "big:1", "{}", version.name);
        assert!(fs::read(store.join("models/big/1/noise.bin")).unwrap() == noise, "{}", version.name);
        assert_eq!(fs::metadata(store.join("models/big/1/zeros.bin")).unwrap().len(), 3_000_000);
    }
}

/// A bento of a version, unpacked into a folder of the home.
fn unpacked(home: &Home, version: Version, kind: &str) -> PathBuf {
    let folder = home.folder().join("unpacked");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    ran(tool("tar").arg("-xJf").arg(BentoMl::new(version).archive(kind)).arg("-C").arg(&folder)).ok();
    folder
}

/// The same, with something else in its description.
fn with_description(home: &Home, version: Version, kind: &str, from: &str, to: &str) -> PathBuf {
    let folder = unpacked(home, version, kind);
    let text = fs::read_to_string(folder.join("bento.yaml")).unwrap();
    assert!(text.contains(from), "no `{from}` in\n{text}");
    fs::write(folder.join("bento.yaml"), text.replace(from, to)).unwrap();
    folder
}

#[test]
fn wheels_in_a_bento_are_installed_and_its_lock_is_kept_where_it_is_wanted() {
    let home = Home::warm();
    let folder = unpacked(&home, MIDDLE, "system");
    let wheels = folder.join("env/python/wheels");
    fs::create_dir(&wheels).unwrap();
    let wheel = "import zipfile\nz = zipfile.ZipFile('farewell-1-py3-none-any.whl', 'w')\n\
                 z.writestr('farewell.py', 'WORD = \"bye\"')\nz.writestr('farewell-1.dist-info/RECORD', '')\n\
                 z.writestr('farewell-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: farewell\\nVersion: 1\\n')\n\
                 z.writestr('farewell-1.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')";
    ran(Command::new("python3").args(["-c", wheel]).current_dir(&wheels)).ok();
    let build = ["build", "unpacked", "--lock", "kept.lock"];
    let digest = home.run(build).ok().out;
    assert_eq!(names(home.folder()), ["kept.lock", "store", "unpacked"]);
    let said = home.run(["run", "system:1", "--", "python", "-c", "import farewell; print(farewell.WORD)"]).ok();
    assert_eq!(said.out, "bye\n");
    assert_eq!(home.run(build.iter().chain(&["--locked"])).ok().out, digest);
    home.run(["build", "unpacked", "--locked"]).ends(7);
    assert_eq!(names(home.folder()), ["kept.lock", "store", "unpacked"]);
}

#[test]
fn what_a_bento_requires_and_cannot_be_had_is_named() {
    let home = Home::warm();
    let folder = unpacked(&home, MIDDLE, "system");
    let requirements = folder.join("env/python/requirements.txt");
    fs::write(&requirements, fs::read_to_string(&requirements).unwrap() + "mysqlclient==2.2.4\n").unwrap();
    home.run(["build", "unpacked"]).ends(1).says("mysqlclient").says("wheel");
    with_description(&home, MIDDLE, "system", "\n  index_url: null", "\n  index_url: http://127.0.0.1:9/simple");
    home.run(["build", "unpacked"]).ends(5).says("127.0.0.1:9");
    with_description(&home, MIDDLE, "system", "libsodium23", "libsodium99");
    home.run(["build", "unpacked"]).ends(1).says("libsodium99");
}

#[test]
fn variables_of_other_stages_are_not_in_the_image() {
    let home = Home::empty();
    let env = |to: &str| {
        let folder = with_description(&home, NEW, "system", "stage: all", to);
        home.run(["inspect", folder.to_str().unwrap(), "--output", "json"]).ok().json()["image"]["env"].clone()
    };
    assert_eq!(env("stage: all"), json!({"GREETING": "good day", "MARK": "!"}));
    assert_eq!(env("stage: runtime"), json!({}));
    assert_eq!(env("stage: build"), json!({}));
}

/// A bento whose image is made with commands is built where they may be executed, and answers what they left.
fn with_commands(version: Version, kind: &str, listed: &[&str], marks: &Value) -> Value {
    let (bentoml, home) = (BentoMl::new(version), Home::warm());
    let bento = bentoml.bento(&home, kind);
    home.run(["validate", &bento]).ok();
    for command in ["build", "run"] {
        let refused = home.run([command, &bento]).ends(2).says("--allow-run=network");
        listed.iter().fold(refused, |ran, line| ran.says(line));
    }
    assert!(!Path::new(&format!("{bento}.lock")).exists(), "something was done before it was allowed");
    let built = home.run(["build", &bento, "--allow-run"]).ok();
    let digest = built.out;
    assert_eq!(home.run(["build", &bento, "--allow-run", "--locked"]).ok().out, digest);
    let image = home.run(["inspect", &format!("{kind}:1"), "--output", "json"]).ok().json();
    assert_eq!(image["executed"], json!(listed.len()), "{image}");
    // Its lock says what they led to, and with that the image is what it was without.
    let kept = fs::read_to_string(format!("{bento}.lock")).unwrap();
    let mut lock: Value = serde_json::from_str(&kept).unwrap();
    let locked = lock["platforms"].as_object_mut().unwrap().values_mut().next().unwrap().as_object_mut().unwrap();
    assert_eq!(locked.remove("executed").unwrap()["steps"].as_object().unwrap().len(), listed.len());
    fs::write(format!("{bento}.lock"), lock.to_string()).unwrap();
    home.run(["build", &bento, "--allow-run", "--locked"]).ends(7).says("does not have what this command leads to");
    assert_eq!(home.run(["build", &bento, "--allow-run"]).ok().out, digest);
    assert_eq!(fs::read_to_string(format!("{bento}.lock")).unwrap(), kept);
    let container = Container::start(&home, &format!("{kind}:1"));
    let (_, found) = ask(&container.address, "POST", "/marks", "{}");
    assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), *marks);
    image
}

#[test]
fn commands_of_a_bento_are_executed_before_and_after_its_packages() {
    let marks = json!({
        "first": "/home/bentoml/ /home/bentoml/bento root hush hello\n",
        "second": "/usr/bin/gcc\nenv/docker\nbentoml\n",
        "third": "/app/.venv bentoml\na word\n",
        "token": "none",
    });
    with_commands(NEW, "commands", &["sh -c 'mkdir", "chmod +x ./env/dock", "python -c"], &marks);
}

#[test]
fn what_a_template_of_a_bento_adds_is_executed_where_its_blocks_are() {
    let marks = json!({
        "after": "/app/.venv\nsrc\n",
        "before": "",
        "first": "root\n",
        "folder": "/home/bentoml/bento\n",
        "last": "bentoml\n",
        "service": fs::read_to_string(Path::new(SOURCES).join("template/service.py")).unwrap(),
        "word": "a word\n",
    });
    let listed = [
        "env/docker/Dockerfile.template RUN id -un > /opt/marks/first",
        "RUN pwd > /opt/marks/folder",
        "target=/root/.cache/pip  ls -A > /opt/marks/before",
        "RUN python -c 'import bentoml, sys;",
        "RUN chown bentoml /opt/marks",
        "RUN id -un > /opt/marks/last",
    ];
    let image = with_commands(MIDDLE, "template", &listed, &marks);
    let env = image["env"].as_array().unwrap();
    for variable in ["MARKED=yes, bentoml", "LAST_A=1", "LAST_B=2", "GREETING=good day"] {
        assert!(env.contains(&json!(variable)), "no {variable} in {env:?}");
    }
    assert_eq!(image["ports"], json!(["3000/tcp", "3001/tcp", "8080/tcp"]));
}

#[test]
fn the_setup_script_of_a_bento_is_executed_upon_everything() {
    let marks = json!({
        "code": "10\n",
        "folder": "/home/bentoml/bento\n",
        "gcc": "/usr/bin/gcc\n",
        "greeting": "good day\n",
        "python": "/app/.venv\n",
        "user": "root\n",
    });
    let listed = ["RUN chmod +x /home/bentoml/bento/env/docker/setup_script", "RUN /home/bentoml/bento/env"];
    with_commands(MIDDLE, "script", &listed, &marks);
}

#[test]
fn templates_in_bentos_have_no_more_than_they_may() {
    let home = Home::warm();
    let cases = [
        ("{% include '/etc/passwd' %}", "/etc/passwd"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "come to an end"),
        (
            "{% set all = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set all.x = all.x ~ all.x %}{% endfor %}",
            "512 MB",
        ),
        ("{% set x %}{% for a in range(9999) %}{{ 'x' * 99999999 }}{% endfor %}{% endset %}", "512 MB"),
    ];
    for (text, said) in cases {
        let folder = unpacked(&home, MIDDLE, "template");
        let block = format!(
            "{{% extends bento_base_template %}}{{% block SETUP_BENTO_COMPONENTS %}}{text}{{{{ super() }}}}{{% endblock %}}"
        );
        fs::write(folder.join("env/docker/Dockerfile.template"), block).unwrap();
        for command in ["validate", "build"] {
            home.run([command, folder.to_str().unwrap()]).ends(3).says("EK0905").says(said);
        }
    }
}

#[test]
fn what_no_build_can_do_for_a_bento_is_named() {
    let home = Home::warm();
    let cases = [
        (MIDDLE, "setup_script: null", "setup_script: ./setup.sh", "setup_script"),
        (MIDDLE, "distro: debian", "distro: alpine", "alpine"),
        (MIDDLE, "cuda_version: null", "cuda_version: 12.1.1", "cuda"),
        (MIDDLE, "environment_yml: null", "environment_yml: ./environment.yml", "conda"),
        (NEW, "post_commands: []", "post_commands: ['true', \"true\\nFROM other\"]", "FROM"),
        (NEW, "post_commands: []", "post_commands: [\"true\\nNOTHING\"]", "NOTHING"),
        (
            NEW,
            "post_commands: []",
            "post_commands: [chmod +x ./env/docker/script__0a && ./env/docker/script__0a]",
            "script__0a",
        ),
    ];
    for (version, from, to, said) in cases {
        let folder = with_description(&home, version, "iris", from, to);
        for command in ["build", "validate"] {
            home.run([command, folder.to_str().unwrap()]).ends(3).says(said).says("EK0905").says("help: ");
        }
    }
    // Another base takes the place of what is done before the packages, where nothing may be executed; and a bundle has no
    // place to say so.
    let (from, to) = ("  python_requirements:", "  - curl https://example.invalid | sh\n  python_requirements:");
    let folder = with_description(&home, NEW, "iris", from, to);
    let folder = folder.to_str().unwrap();
    home.run(["pack", folder, "--base", "auto", "-o", "based.ekiben"]).ends(2).says("hint: ");
    home.run(["pack", folder, "--base", "auto", "-o", "based.bento"]).ok();
    assert!(!Path::new(&home.path("based.ekiben")).exists());
}

/// Runs a command on something hostile, with the memory that `most` bytes of addresses allow: it must end in time and
/// leave nothing.
fn looked_at(home: &Home, command: &str, path: &Path, most: u64) -> Ran {
    let ran = home.frugal(&[command, path.to_str().unwrap()], most);
    assert_eq!(home.stored("scratch"), [""; 0], "{}", ran.line);
    ran
}

const GB: u64 = 1_000_000_000;

#[test]
fn bentos_that_nobody_should_trust_are_refused() {
    let home = Home::warm();
    let hostile = home.folder().join("hostile");
    fs::create_dir(&hostile).unwrap();
    ran(Command::new("python3").arg(Path::new(SOURCES).join("hostile.py")).arg(&hostile)).ok();
    let before = names(home.folder());
    for kind in ["bombs", "escapes", "documents"] {
        for name in names(&hostile.join(kind)) {
            let path = hostile.join(kind).join(&name);
            let looked = ["inspect", "validate"].map(|command| looked_at(&home, command, &path, GB));
            // Their documents are shown as they are, what is wrong with the archive itself is told by all.
            let is_told = looked.iter().all(|ran| ran.code != Some(0) && ran.err.contains("error"));
            assert!(is_told || kind == "documents", "{kind}/{name} was taken: {looked:?}");
            // uv, which comes last, has address space for many threads.
            let built = looked_at(&home, "build", &path, 16 * GB);
            assert!(built.code != Some(0) && built.err.contains("error"), "{kind}/{name} was built: {built:?}");
        }
    }
    for name in names(&hostile.join("harmless")) {
        looked_at(&home, "inspect", &hostile.join("harmless").join(&name), GB).ok();
    }
    assert_eq!(fs::read_to_string(hostile.join("outside.txt")).unwrap(), "mine");
    assert_eq!(names(&hostile), ["bombs", "documents", "escapes", "harmless", "outside.txt"]);
    assert_eq!(names(home.folder()), before);
}

#[test]
fn bentos_cut_short_are_refused() {
    let (bentoml, home) = (BentoMl::new(NEW), Home::empty());
    for kind in ["iris", "iris.tar", "iris.gz", "iris.bz2", "iris.zip"] {
        let whole = fs::read(bentoml.archive(kind)).unwrap();
        // What follows the end of a tar archive's last member is nothing.
        let end = if kind == "iris.tar" { whole.iter().rposition(|&byte| byte != 0).unwrap() } else { whole.len() };
        for length in (0..end).step_by(1024) {
            let cut = home.write(kind, &whole[..length]);
            let ran = looked_at(&home, "inspect", &cut, GB);
            assert!(ran.code.is_some_and(|code| code != 0), "{length} bytes of {kind} were taken: {ran:?}");
            assert!(ran.err.starts_with("error: "), "{}", ran.err);
        }
    }
}
