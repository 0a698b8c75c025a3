//! Exported images and bundles in the hands of other tools: skopeo, umoci, podman, docker, containerd and buildah read
//! them, and the service answers there as it does here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::home::engines::{Containerd, Docker, LIMITS, buildah, podman};
use crate::home::{self, Home, ask, free_port, ran, timed, tool, wait_until};
use serde_json::Value;

/// Options of a container whose service listens on `port`.
fn container_options(port: u16) -> Vec<String> {
    let port = ["--network".to_owned(), "host".to_owned(), "--env".to_owned(), format!("PORT={port}")];
    ["run", "--detach", "--name", "served"].into_iter().chain(LIMITS).map(str::to_owned).chain(port).collect()
}

/// What the service at `address` answers.
fn answers(address: &str) -> Vec<(String, u16, Value)> {
    wait_until("ready", || {
        std::net::TcpStream::connect(address.trim_start_matches("http://")).is_ok()
            && ask(address, "GET", "/readyz", "").0 == 200
    });
    let requests = [
        ("POST", "/predict", r#"{"x": 2}"#),
        ("POST", "/predict", r#"{"x": "two"}"#),
        ("POST", "/predict", r#"{"x": 1e9}"#),
        ("POST", "/predict", "{"),
        ("POST", "/explain", r#"{"digits": 3}"#),
        ("GET", "/openapi.json", ""),
        ("GET", "/nowhere", ""),
    ];
    let answer = |(method, path, body)| {
        let (status, body) = ask(address, method, path, body);
        (path.to_owned(), status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}")))
    };
    requests.map(answer).into()
}

/// What the service answers where Ekiben runs it.
fn own_answers(home: &Home) -> Vec<(String, u16, Value)> {
    let started = home.run(["run", "tiny:1", "--detach", "--output", "json"]).ok().json();
    let answers = answers(started["address"].as_str().unwrap());
    assert_eq!(answers.iter().map(|answer| answer.1).collect::<Vec<_>>(), [200, 422, 422, 422, 200, 200, 404]);
    home.run(["stop", "--remove", started["name"].as_str().unwrap()]).ok();
    answers
}

fn built() -> Home {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    home
}

#[test]
fn skopeo_and_umoci_read_layouts_and_archives() {
    let home = Home::warm();
    let digest = home.build(home.tiny("tiny"));
    home.run(["export", "tiny:1", "layout"]).ok();
    home.run(["export", "tiny:1", "tiny.tar"]).ok();
    let inspect = |more: &[&str], source: &str| {
        ran(tool("skopeo").arg("inspect").args(more).arg(source).current_dir(home.folder())).ok().json()
    };
    for source in ["oci:layout", "oci:layout:1", "oci-archive:tiny.tar", "oci-archive:tiny.tar:1"] {
        assert_eq!(inspect(&[], source)["Digest"], digest, "{source}");
    }
    let config = inspect(&["--config"], "oci:layout");
    assert_eq!(config["config"]["User"], "1034:1034");
    assert_eq!(config["config"]["ExposedPorts"], serde_json::json!({"3000/tcp": {}}));
    // A docker archive is another format with the same layers and configuration.
    for source in ["docker-archive:tiny.tar", "docker-archive:tiny.tar:docker.io/library/tiny:1"] {
        assert_eq!(inspect(&["--config"], source)["rootfs"], config["rootfs"], "{source}");
    }

    let unpack = ["unpack", "--rootless", "--image", "layout:1", "unpacked"];
    ran(tool("umoci").args(unpack).current_dir(home.folder())).ok();
    let root = home.folder().join("unpacked/rootfs");
    assert_eq!(fs::read(root.join("models/tiny/model.json")).unwrap(), fs::read("fixtures/tiny/model.json").unwrap());
    assert_eq!(fs::read(root.join("app/src/predict.py")).unwrap(), fs::read("fixtures/tiny/src/predict.py").unwrap());
    assert!(root.join("usr/bin/python3.11").is_file());
    assert_eq!(fs::read_link(root.join("bin")).unwrap(), Path::new("usr/bin"));
    assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().contains(":1034:1034:"));
}

#[test]
fn the_same_image_is_exported_to_the_same_bytes_and_nothing_is_overwritten() {
    let home = built();
    home.run(["export", "tiny:1", "one.tar"]).ok();
    let mut streamed = home.command(["export", "tiny:1", "-"]);
    streamed.stdout(fs::File::create(home.path("two.tar")).unwrap());
    ran(&mut streamed).ok();
    let one = fs::read(home.path("one.tar")).unwrap();
    assert!(one == fs::read(home.path("two.tar")).unwrap(), "stdout and file differ");
    home.run(["export", "tiny:1", "one.tar"]).ends(1).says("one.tar");
    home.run(["export", "tiny:1", "one.tar", "--force"]).ok();
    home.write("full/file", "mine");
    home.run(["export", "tiny:1", "full"]).ends(1).says("full");
    assert_eq!(home::names(&home.folder().join("full")), ["file"]);
    home.run(["export", "tiny:2", "three.tar"]).ends(1).says("did you mean `tiny:1`?");
    assert_eq!(home::names(home.folder()), ["full", "one.tar", "store", "tiny", "two.tar"]);
}

/// Takes a container away however the test ends.
struct Served<'a> {
    /// podman or docker with its options.
    program: &'a dyn Fn() -> Command,
}

impl<'a> Served<'a> {
    fn start(program: &'a dyn Fn() -> Command, image: &str, port: u16) -> Self {
        let served = Self { program };
        ran(program().args(container_options(port)).arg(image)).ok();
        served
    }

    /// Ends it as an orchestrator does: SIGTERM, and it goes by itself.
    fn stop(self) {
        ran((self.program)().args(["stop", "--time", "20", "served"])).ok();
        let code = ran((self.program)().args(["wait", "served"])).ok().out;
        assert_eq!(code.trim(), "0", "exit code after SIGTERM");
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = (self.program)().args(["logs", "served"]).output();
            println!("{}", logs.map(|logs| String::from_utf8_lossy(&logs.stderr).into_owned()).unwrap_or_default());
        }
        let _ = (self.program)().args(["rm", "--force", "served"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[test]
fn podman_runs_it() {
    let home = built();
    let expected = own_answers(&home);
    home.run(["export", "tiny:1", "tiny.tar"]).ok();
    let program = || podman(home.folder());
    timed("podman load", || ran(program().args(["load", "--input", "tiny.tar"])).ok());
    let port = free_port();
    let served = Served::start(&program, "tiny:1", port);
    assert_eq!(answers(&format!("127.0.0.1:{port}")), expected);
    served.stop();
}

#[test]
fn docker_runs_it() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: dockerd needs root");
        return;
    }
    let home = built();
    let expected = own_answers(&home);
    home.run(["export", "tiny:1", "tiny.tar"]).ok();
    let docker = timed("dockerd", || Docker::start(home.folder()));
    let program = || docker.client();
    timed("docker load", || ran(program().args(["load", "--input", "tiny.tar"])).ok());
    let port = free_port();
    let served = Served::start(&program, "tiny:1", port);
    assert_eq!(answers(&format!("127.0.0.1:{port}")), expected);
    served.stop();
}

/// A function for each kind of parameter and answer (`fixtures/kinds`): in a container of Ekiben's, where the manifest's tests
/// ask, and in one of Docker's, asked by files and values on the command line.
#[test]
fn docker_answers_each_kind_of_value() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: dockerd needs root");
        return;
    }
    let home = Home::warm();
    home::copy(Path::new("fixtures/kinds"), Path::new(&home.path("kinds")), false);
    let tested = home.run(["test", "kinds"]).ok().out;
    assert!(tested.contains("all 9 answers as expected"), "{tested}");
    home.run(["export", "kinds:1", "kinds.tar"]).ok();
    let docker = timed("dockerd", || Docker::start(home.folder()));
    let program = || docker.client();
    timed("docker load", || ran(program().args(["load", "--input", "kinds.tar"])).ok());
    let port = free_port();
    let served = Served::start(&program, "kinds:1", port);
    let address = format!("http://127.0.0.1:{port}");
    wait_until("ready", || home::is_ready(&address, "/readyz"));
    let red = "kinds/tests/red.png";
    for (path, values, wanted) in [
        ("/arrays", &["matrix=[[1,2],[3,5]]", "weights=[0.5,0.5]"][..], "[1.5,4.0]"),
        ("/classes", &[r#"order={"name":"tea"}"#, "colour=red"], r#"{"name":"tea","sizes":[],"place":null}"#),
        ("/files", &[&format!("first=@{red}"), "note=5"], r#"{"sizes":[74],"note":"5","suffix":".png"}"#),
        ("/stream", &["text=once upon"], "\"once \"\n\"upon \"\n"),
        ("/tables", &[r#"table=[{"a":1,"b":"x"}]"#, "column=[10]"], r#"[{"a":11,"b":"x"}]"#),
        ("/texts", &["text=Tea", "how=up"], r#"{"text":"TEA","pairs":[],"more":{},"times":null}"#),
        ("/times", &["day=2026-01-31", "price=1.1"], r#"{"after":"2026-02-01","price":"2.2","seconds":0.0}"#),
    ] {
        let answered = home.run([&["invoke", &address, path], values].concat()).ok().out;
        assert_eq!(answered.trim_end(), wanted.trim_end(), "{path}");
    }
    let image = format!("image=@{red}");
    home.run(["invoke", &address, "/picture", &image, "width=3", "-o", "small.png"]).ok();
    let small = fs::read(home.path("small.png")).unwrap();
    assert!(small.starts_with(b"\x89PNG") && small[16..24] == [0, 0, 0, 3, 0, 0, 0, 1], "{small:?}");
    home.run(["invoke", &address, "/whole", &format!("content=@{red}"), "-o", "whole.bin"]).ok();
    assert_eq!(fs::read(home.path("whole.bin")).unwrap(), fs::read(home.path(red)).unwrap());
    home.run(["invoke", &address, "/picture", &image, "width=0"]).ends(4).says("422");
    served.stop();
}

#[test]
fn names_are_written_as_each_tool_looks_for_them() {
    let home = Home::empty();
    home.write("w/w.bin", "w");
    home.write("w/ekiben.yaml", "name: w\nbase: scratch\nmodel: {files: [w.bin]}\nservice: {command: [/bin/sh]}\n");
    home.build("w");
    let built = home.run(["images", "--output", "json"]).ok().json()["images"][0]["name"].as_str().unwrap().to_owned();
    for (name, full, tag, docker) in [
        ("w:1.0", "docker.io/library/w:1.0", "1.0", "w:1.0"),
        ("team/w", "docker.io/team/w:latest", "latest", "team/w:latest"),
        ("docker.io/w:2", "docker.io/library/w:2", "2", "docker.io/w:2"),
        ("localhost:5000/team/w:1", "localhost:5000/team/w:1", "1", "localhost:5000/team/w:1"),
        ("registry.example/w:1", "registry.example/w:1", "1", "registry.example/w:1"),
    ] {
        home.run(["tag", &built, name]).ok();
        home.run(["export", name, "w.tar", "--force"]).ok();
        let _ = fs::remove_dir_all(home.path("layout"));
        home.run(["export", name, "layout"]).ok();
        let member = |path: &str| {
            let out = ran(tool("tar").args(["-xOf", "w.tar", path]).current_dir(home.folder())).ok().out;
            serde_json::from_str::<Value>(&out).unwrap()
        };
        let folder: Value = serde_json::from_slice(&fs::read(home.path("layout/index.json")).unwrap()).unwrap();
        for index in [member("index.json"), folder] {
            let annotations = &index["manifests"][0]["annotations"];
            assert_eq!(annotations["io.containerd.image.name"], full);
            assert_eq!(annotations["org.opencontainers.image.ref.name"], tag);
        }
        assert_eq!(member("manifest.json")[0]["RepoTags"], serde_json::json!([docker]));
    }
}

#[test]
fn a_kubelet_finds_it_in_containerd_by_its_name() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: containerd needs root");
        return;
    }
    let home = built();
    let expected = own_answers(&home);
    home.run(["export", "tiny:1", "tiny.tar"]).ok();
    let containerd = timed("containerd", || Containerd::start(home.folder()));
    let client = || containerd.client();
    let import = ["images", "import", "--snapshotter", "native", "tiny.tar"];
    timed("ctr images import", || ran(client().args(import)).ok());
    let image = "docker.io/library/tiny:1";
    // The part that a kubelet speaks to marks what it has taken up.
    wait_until("managed image", || {
        let listed = ran(client().args(["images", "ls"])).ok().out;
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(image));
        line.unwrap_or_else(|| panic!("no {image} in\n{listed}")).contains("io.cri-containerd.image=managed")
    });
    let port = free_port();
    let mut run = client();
    run.args(["run", "--detach", "--net-host", "--snapshotter", "native", "--runc-binary"]);
    run.arg(tool("runc").get_program()).args(["--env", &format!("PORT={port}"), image, "served"]);
    ran(&mut run).ok();
    let answered = std::panic::catch_unwind(|| answers(&format!("127.0.0.1:{port}")));
    ran(client().args(["tasks", "kill", "--signal", "SIGTERM", "served"])).ok();
    wait_until("the end", || !ran(client().args(["tasks", "ls"])).ok().out.contains("RUNNING"));
    ran(client().args(["tasks", "rm", "served"]));
    ran(client().args(["containers", "rm", "served"])).ok();
    assert_eq!(answered.unwrap(), expected);
}

/// Debian with pip and venv, as the bundle's Dockerfile asks of its base: an image that Ekiben builds.
const BASE: &str = "
name: base
version: '1'
base: debian:bookworm
system: {packages: [coreutils, python3, python3-pip, python3-venv]}
service: {command: ['true']}
";

#[test]
fn its_dockerfile_builds_a_service_that_answers_the_same() {
    let home = built();
    let expected = own_answers(&home);
    let buildah = || buildah(home.folder());
    home.write("base/ekiben.yaml", BASE);
    timed("base", || home.build("base"));
    home.run(["export", "base:1", "base.tar"]).ok();
    // Root as in any distribution's image, and nothing of Ekiben's.
    let container = ran(buildah().args(["from", "oci-archive:base.tar"])).ok().out.trim().to_owned();
    let plain = ["config", "--user", "0:0", "--entrypoint", "[]", "--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    ran(buildah().args(plain).arg(&container)).ok();
    ran(buildah().args(["commit", &container, "localhost/base:1"])).ok();

    home.run(["pack", "tiny", "-o", "tiny.ekiben"]).ok();
    fs::create_dir(home.path("unpacked")).unwrap();
    ran(tool("tar").args(["--zstd", "-xf", "tiny.ekiben", "-C", "unpacked"]).current_dir(home.folder())).ok();
    let mut build = buildah();
    build.args(["build", "--isolation", "chroot", "--network", "host", "--build-arg", "BASE=localhost/base:1"]);
    build.args(["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--tag", "localhost/other:1"]);
    if let Some(index) = index() {
        build.args(["--build-arg", &format!("PIP_INDEX_URL={index}")]);
    }
    timed("buildah build", || ran(build.args(["-f", "unpacked/env/docker/Dockerfile", "unpacked"])).ok());

    let program = || podman(home.folder());
    let port = free_port();
    let served = Served::start(&program, "localhost/other:1", port);
    assert_eq!(answers(&format!("127.0.0.1:{port}")), expected);
    served.stop();
}

/// The package index that this machine is told to use, if it is told.
fn index() -> Option<String> {
    let named = ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"].into_iter().find_map(|name| std::env::var(name).ok());
    named.or_else(|| {
        let config = Command::new("python3").args(["-m", "pip", "config", "get", "global.index-url"]).output().ok()?;
        let index = String::from_utf8(config.stdout).ok()?.trim().to_owned();
        (config.status.success() && !index.is_empty()).then_some(index)
    })
}
