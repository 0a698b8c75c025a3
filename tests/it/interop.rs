//! Images between Ekiben and the programs of others: another registry than the reference implementation; docker, podman
//! and buildah, which run what was pushed, and push what is pulled and built upon.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::home::engines::{Docker, LIMITS, buildah, podman};
use crate::home::images::{busybox, docker_archive};
use crate::home::registry::{Registry, is_whole, skopeo_ok};
use crate::home::{self, Home, free_port, python_program, ran, wait_until};
use ekiben::io::digest::Digest;
use serde_json::Value;

/// Zuul's registry, which OpenDev's builds live on: another one than all that descend from docker's. It says what it
/// wants of tokens in words of its own, cannot mount, and forgets uploads that broke off.
struct Zuul {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Zuul {
    /// `me` with the password `hunter2` may write, and everybody read.
    fn start() -> Self {
        let program = python_program("zuul-registry", "zuul-registry==1.3.0");
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let root = folder.path().display();
        let config = format!(
            "registry:\n  address: 127.0.0.1\n  port: {port}\n  public-url: http://127.0.0.1:{port}\n  secret: test\n  \
             users: [{{name: me, pass: hunter2, access: write}}]\n  storage: {{driver: filesystem, root: {root}/data}}\n"
        );
        fs::write(folder.path().join("registry.yaml"), config).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program)
            .arg("-c")
            .arg(folder.path().join("registry.yaml"))
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut zuul = Self { process, folder, port };
        wait_until("zuul-registry", || {
            assert!(zuul.process.try_wait().unwrap().is_none(), "{}", zuul.log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        zuul
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Zuul {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `docker` has to read where the home's user logs in.
fn of_its_own(command: &mut Command, home: &Home) {
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.env("HOME", home.folder());
}

#[test]
fn another_registry_takes_and_gives_images() {
    let zuul = Zuul::start();
    let home = Home::empty();
    let ekiben = |args: &[&str]| {
        let mut command = home.command(args);
        of_its_own(&mut command, &home);
        ran(&mut command)
    };
    let weights: Vec<u8> = (0..6_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    home.write("w/a.bin", weights);
    home.write("w/b.bin", "small");
    let manifest = "name: w\nversion: '1'\nbase: scratch\nmodel: {files: ['*.bin']}\n\
                    platforms: [linux/amd64, linux/arm64]\nservice: {command: [/bin/serve]}\n";
    home.write("w/ekiben.yaml", manifest);
    let reference = zuul.reference("team/w:1");
    ekiben(&["build", "w", "-t", &reference, "--push"]).ends(5).says("refused access");

    let mut login = home.command(["login", &zuul.reference("").replace('/', ""), "-u", "me", "--password-stdin"]);
    of_its_own(&mut login, &home);
    let mut login = login.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(login.stdin.take().unwrap(), "hunter2").unwrap();
    let login = login.wait_with_output().unwrap();
    assert!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));

    let digest = ekiben(&["build", "w", "-t", &reference, "--push"]).ok().out.trim().to_owned();
    is_whole(&reference);
    let sent = |args: &[&str]| {
        let pushed = ekiben(&[args, &["--output", "json"]].concat()).ok().json();
        pushed["pushed"][0]["sent"].as_u64().unwrap()
    };
    assert_eq!(sent(&["push", &reference]), 0);
    home.write("w/ekiben.yaml", format!("{manifest}env: {{A: b}}\n"));
    ekiben(&["build", "w", "-t", &reference]).ok();
    assert!((1..10_000).contains(&sent(&["push", &reference])), "the weights were sent again");
    // Both, as an index.
    let both = zuul.reference("w:both");
    let index = ekiben(&["build", "w", "--platform", "linux/amd64,linux/arm64", "-t", &both, "--push"]).ok().out;
    is_whole(&both);

    // Somebody who may only read.
    let them = Home::empty();
    let by_digest = format!("{}@{digest}", zuul.reference("team/w"));
    assert_eq!(them.run(["pull", &by_digest]).ok().out.trim(), digest);
    let pulled = them.run(["pull", &both, "--platform", "linux/arm64", "--output", "json"]).ok().json();
    assert_eq!((&pulled["named"], &pulled["platform"]), (&index.trim().into(), &"linux/arm64".into()));
    them.run(["export", &both, "out"]).ok();
    them.run(["push", &both, &zuul.reference("w:theirs")]).ends(5).says("refused access");
    them.run(["pull", &zuul.reference("w:none")]).ends(5).says("there is no image");

    // From one registry to the other, and back.
    let debian = Registry::start();
    let (there, back) = (debian.reference("w:1"), zuul.reference("back/w:1"));
    assert_eq!(ekiben(&["copy", &both, &there]).ok().out, index);
    assert_eq!(ekiben(&["copy", &there, &back]).ok().out, index);
    is_whole(&there);
    is_whole(&back);
    let first = ekiben(&["ensure", &zuul.reference("w:main"), "w"]).ok().out;
    assert_eq!(them.run(["ensure", &zuul.reference("w:main"), &home.path("w")]).ok().out, first);
}

/// An image without a base, whose service is busybox.
fn pushed(home: &Home, registry: &Registry) -> String {
    home.write("b/busybox", fs::read(busybox()).unwrap());
    fs::set_permissions(home.path("b/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    home.write("b/small.bin", "small weights");
    home.write("b/large.bin", vec![b'x'; 5_000_000]);
    let manifest = "name: b\nversion: '1'\nbase: scratch\nmodel: {files: ['*.bin']}\nmetadata: [busybox]\n\
                    service: {command: [./busybox]}\n";
    home.write("b/ekiben.yaml", manifest);
    let reference = registry.reference("b:1");
    home.run(["build", "b", "-t", &reference, "--push"]).ok();
    reference
}

/// It has code and weights, and is started as Ekiben says.
fn runs(mut program: Command, reference: &str) {
    let shell = ["--entrypoint", "/app/busybox", reference, "sh", "-c"];
    let script =
        "cd /models/b; /app/busybox cat small.bin; /app/busybox wc -c large.bin; /app/busybox id -u; echo $PORT";
    let run = ["run", "--rm", "--network", "none"].into_iter().chain(LIMITS).chain(shell).chain([script]);
    let said = ran(program.args(run)).ok().out;
    assert_eq!(said, "small weights5000000 large.bin\n1034\n3000\n");
}

#[test]
fn podman_pulls_and_runs_what_was_pushed() {
    let (home, registry) = (Home::empty(), Registry::start());
    let reference = pushed(&home, &registry);
    ran(podman(home.folder()).args(["pull", "-q", "--tls-verify=false", &reference])).ok();
    runs(podman(home.folder()), &reference);
}

/// Whether dockerd can be started here.
fn docker_can_run() -> bool {
    let can = nix::unistd::geteuid().is_root();
    if !can {
        println!("left out: dockerd needs root");
    }
    can
}

#[test]
fn docker_pulls_and_runs_what_was_pushed() {
    if docker_can_run() {
        let (home, registry) = (Home::empty(), Registry::start());
        let reference = pushed(&home, &registry);
        let docker = Docker::start(home.folder());
        ran(docker.client().args(["pull", "-q", &reference])).ok();
        runs(docker.client(), &reference);
    }
}

/// What somebody else pushed as `reference` has these media types. It is pulled, run, inspected and built upon.
fn is_pulled_run_and_built_upon(registry: &Registry, reference: &str, manifest: &str, layer: &str) {
    let raw = skopeo_ok(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    let parsed: Value = serde_json::from_str(&raw).unwrap();
    let layers = parsed["layers"].as_array().unwrap();
    assert_eq!(parsed["mediaType"], manifest);
    assert!(layers.len() >= 2 && layers.iter().all(|l| l["mediaType"] == layer), "{layers:?} are not {layer}");

    let home = Home::empty();
    assert_eq!(home.run(["pull", reference]).ok().out.trim(), Digest::of(&raw).to_string());
    let seen = home.run(["inspect", reference, "--output", "json"]).ok().json();
    assert_eq!(seen["layers"].as_array().unwrap().len(), layers.len());
    let compression = if layer.ends_with("zstd") { "zstd" } else { "gzip" };
    assert_eq!(seen["layers"][0]["compression"], compression);

    let script = "cd /; ls etc old whole; echo $FROM_BASE";
    let shows = |name: &str| {
        let said = home.run(["run", name, "--", "/bin/busybox", "sh", "-c", script]).ok().out;
        assert_eq!(said, "ls: whole: No such file or directory\netc:\nhosts\nkept\n\nold:\nb\nyes\n");
    };
    home.write("w/w.bin", "w");
    let text = "version: '1'\nmodel: {files: [w.bin]}\nservice: {command: [/bin/sh]}\n";
    home.write("w/ekiben.yaml", format!("name: w\nbase: {reference}\n{text}"));
    let upon = registry.reference("upon:1");
    home.run(["build", "w", "-t", &upon, "--push"]).ok();
    is_whole(&upon);
    shows(reference);
    shows(&upon);
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The identity in `Loaded image: sha256:…`.
fn loaded(said: &str) -> &str {
    said.trim().rsplit_once(": ").unwrap().1
}

#[test]
fn what_docker_pushed_is_a_base() {
    if docker_can_run() {
        let (home, registry) = (Home::empty(), Registry::start());
        docker_archive(Path::new(&home.path("base.tar")));
        let docker = Docker::start(home.folder());
        let said = ran(docker.client().args(["load", "-q", "-i", "base.tar"])).ok().out;
        let reference = registry.reference("base:1");
        ran(docker.client().args(["tag", loaded(&said), &reference])).ok();
        ran(docker.client().args(["push", "-q", &reference])).ok();
        is_pulled_run_and_built_upon(&registry, &reference, DOCKER, DOCKER_LAYER);
    }
}

#[test]
fn what_podman_and_buildah_pushed_is_a_base() {
    let home = Home::empty();
    docker_archive(Path::new(&home.path("base.tar")));
    let said = ran(podman(home.folder()).args(["load", "-q", "-i", "base.tar"])).ok().out;
    let image = loaded(&said);
    let pushed = |mut program: Command, options: &[&str], manifest: &str, layer: &str| {
        // One of its own: they push nothing anew of which a registry has another form.
        let registry = Registry::start();
        let reference = registry.reference("base:1");
        program.args(["push", "-q", "--tls-verify=false"]).args(options).arg(image);
        ran(program.arg(format!("docker://{reference}"))).ok();
        is_pulled_run_and_built_upon(&registry, &reference, manifest, layer);
    };
    let layer = |compression: &str| format!("application/vnd.oci.image.layer.v1.tar+{compression}");
    let zstd = ["--format", "oci", "--compression-format", "zstd"];
    pushed(podman(home.folder()), &zstd, OCI, &layer("zstd"));
    pushed(buildah(home.folder()), &["--format", "oci"], OCI, &layer("gzip"));
    pushed(buildah(home.folder()), &["--format", "v2s2"], DOCKER, DOCKER_LAYER);
}

/// Debian with a Python, in several layers, whose books of users are somebody else's.
const BASE: &str = "
name: base
version: '1'
base: debian:bookworm
system: {packages: [coreutils, python3]}
service: {command: ['true']}
";

#[test]
fn on_a_base_of_somebody_else_the_user_has_a_name_and_python_its_bytecode() {
    let (home, registry) = (Home::fetched(), Registry::start());
    home.write("base/ekiben.yaml", BASE);
    home.build("base");
    home.run(["export", "base:1", "base.tar"]).ok();
    home.write("passwd", "root:x:0:0:root:/root:/bin/sh");
    home.write("group", "root:x:0:\n");
    let container = ran(buildah(home.folder()).args(["from", "oci-archive:base.tar"])).ok().out.trim().to_owned();
    for book in ["passwd", "group"] {
        ran(buildah(home.folder()).args(["copy", "-q", &container, book, &format!("/etc/{book}")])).ok();
    }
    ran(buildah(home.folder()).args(["run", "--user", "0", &container, "rm", "-r", "/home/ekiben"])).ok();
    let image = ran(buildah(home.folder()).args(["commit", "-q", &container])).ok().out;
    let base = registry.reference("base:1");
    let to = format!("docker://{base}");
    ran(buildah(home.folder()).args(["push", "-q", "--tls-verify=false", image.trim(), &to])).ok();

    let upon = |home: &Home| {
        let tiny = home.tiny("tiny");
        fs::remove_file(tiny.join("ekiben.lock")).unwrap();
        let manifest = fs::read_to_string(tiny.join("ekiben.yaml")).unwrap();
        fs::write(tiny.join("ekiben.yaml"), format!("{manifest}base: {base}\n")).unwrap();
    };
    upon(&home);
    let digest = home.build("tiny");
    home.run(["test", "tiny"]).ok();
    let script = "import getpass, grp, importlib.util, os, pwd\n\
                  print(getpass.getuser(), grp.getgrgid(os.getgid()).gr_name, pwd.getpwuid(os.getuid()).pw_dir)\n\
                  print([user.pw_name for user in pwd.getpwall()], os.stat('/home/ekiben').st_uid)\n\
                  print(os.path.exists(importlib.util.cache_from_source(os.__file__)))";
    let said = home.run(["run", "tiny", "--", "python", "-c", script]).ok().out;
    assert_eq!(said, "ekiben ekiben /home/ekiben\n['root', 'ekiben'] 1034\nTrue\n");

    // Where there is no sandbox, it is the same image.
    let there = Home::fetched();
    upon(&there);
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all \"$@\"";
    let mut build = Command::new("unshare");
    build
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(home::program())
        .args(["build", "-v", "tiny"]);
    let built = ran(build.current_dir(there.folder()).env("EKIBEN_HOME", there.store()));
    let built = built.ok().says("bytecode is compiled outside of a sandbox");
    assert_eq!(built.out.trim(), digest);
}
