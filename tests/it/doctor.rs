//! `ekiben doctor`: machines that have everything, and machines that lack something.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::home::registry::Registry;
use crate::home::{self, Home, Ran, ran};

/// The program, which knows nothing of whoever runs the tests, their settings and logins.
fn doctor(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(["doctor"].iter().chain(args));
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "EKIBEN_CDI"] {
        command.env_remove(name);
    }
    command.env("HOME", home.folder());
    command
}

/// The same, started by another program: `unshare … sh -c SCRIPT`, in which `"$@"` is it.
fn within(command: &Command, unshare: &[&str], script: &str) -> Command {
    let mut outer = home::tool("unshare");
    outer.args(unshare).args(["sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    outer.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// What is said of one thing, as `LEVEL FACT`, and what to do about it.
fn check(ran: &Ran, name: &str) -> (String, String) {
    let report = ran.json();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"));
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (format!("{} {}", text("level"), text("fact")), text("advice"))
}

#[test]
fn a_machine_that_has_everything_is_well_and_nothing_is_changed() {
    for home in [Home::empty(), Home::empty().of_a_user()] {
        let before = home::names(home.folder());
        let started = Instant::now();
        let said = ran(&mut doctor(&home, &["--offline"])).ok();
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        for name in ["namespaces", "overlay", "seccomp", "landlock", "store", "disk", "uv", "devices", "proxies"] {
            assert!(
                said.out.lines().any(|line| line.starts_with("ok ") && line.contains(name)),
                "{name}\n{}",
                said.out
            );
        }
        assert!(said.out.lines().last().unwrap().starts_with("all is there"), "{}", said.out);
        assert!(said.out.contains("not asked (--offline)"), "{}", said.out);
        let user = if home.is_a_users() { "in a user namespace" } else { "started by root" };
        assert!(said.out.contains(user), "{}", said.out);
        assert_eq!(home::names(home.folder()), before);

        let said = ran(&mut doctor(&home, &["--offline", "--output", "json"])).ok();
        let report = said.json();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&report), ["checks", "problems", "warnings"]);
        assert_eq!((&report["problems"], said.err.as_str()), (&json!(0), ""));
        let checks = report["checks"].as_array().unwrap();
        checks.iter().for_each(|check| assert_eq!(keys(check), ["advice", "fact", "level", "name"]));
        let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
        let expected = [
            "namespaces",
            "overlay",
            "seccomp",
            "control groups",
            "landlock",
            "store",
            "disk",
            "uv",
            "debian mirror",
            "security mirror",
            "package index",
            "devices",
            "proxies",
        ];
        assert_eq!(names, expected);
    }
    // What a store has is left as it is.
    let home = Home::warm();
    home.write("store/scratch/work-left/file", "");
    ran(&mut doctor(&home, &["--offline"])).ok();
    assert!(home.store().join("scratch/work-left/file").exists());
}

#[test]
fn what_the_kernel_does_not_allow_is_a_problem() {
    let home = Home::empty();
    let command = doctor(&home, &["--offline", "--output", "json"]);
    let closed = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let said = ran(&mut within(&command, &["--user", "--map-root-user"], closed)).ends(1);
    let (fact, advice) = check(&said, "namespaces");
    assert!(fact.starts_with("problem ") && fact.contains("user.max_user_namespaces is 0"), "{fact}");
    assert!(advice.contains("sudo sysctl user.max_user_namespaces"), "{advice}");
    assert_eq!(said.json()["problems"], 1);
    // A container around it that masks parts of /proc lets nobody show the processes of another.
    let masked = "mount -t tmpfs tmpfs /proc/sys && exec \"$@\"";
    let said = ran(&mut within(&command, &["--user", "--map-root-user", "--mount", "--pid", "--fork"], masked));
    let (fact, advice) = check(&said.ends(1), "namespaces");
    assert!(fact.starts_with("problem ") && fact.contains("runs in a container or sandbox"), "{fact}");
    assert!(advice.contains("systempaths=unconfined"), "{advice}");
}

#[test]
fn a_store_that_cannot_be_used_is_a_problem() {
    let home = Home::empty();
    fs::create_dir(home.store()).unwrap();
    let command = doctor(&home, &["--offline", "--output", "json"]);
    let script = "mount -t tmpfs -o ro tmpfs \"$EKIBEN_HOME\" && exec \"$@\"";
    let said = ran(&mut within(&command, &["--mount"], script)).ends(1);
    let (fact, advice) = check(&said, "store");
    assert!(fact.starts_with("problem ") && fact.contains("mounted read-only"), "{fact}");
    assert!(advice.contains("EKIBEN_HOME"), "{advice}");
    let script = "mount -t tmpfs -o size=64k tmpfs \"$EKIBEN_HOME\" && exec \"$@\"";
    let said = ran(&mut within(&command, &["--mount"], script)).ends(1);
    let (fact, advice) = check(&said, "disk");
    assert!(fact.starts_with("problem 0.0 GB free"), "{fact}");
    assert!(advice.contains("ekiben prune"), "{advice}");
    home.write("store/index.json", "{");
    let said = ran(&mut doctor(&home, &["--offline", "--output", "json"])).ends(1);
    assert!(check(&said, "store").0.contains("index.json is not what it should be"));

    let home = Home::empty().of_a_user();
    fs::create_dir(home.store()).unwrap();
    fs::set_permissions(home.store(), fs::Permissions::from_mode(0o700)).unwrap();
    let said = ran(&mut doctor(&home, &["--offline", "--output", "json"])).ends(1);
    assert!(check(&said, "store").0.contains("cannot be read and written to"), "{}", said.out);
    let text = ran(&mut doctor(&home, &["--offline"])).ends(1).out;
    let problem = text.lines().position(|line| line.starts_with("problem  store ")).unwrap();
    assert!(text.lines().nth(problem + 1).unwrap().trim_start().starts_with("hint: `ls -ld "), "{text}");
    assert_eq!(text.lines().last().unwrap().split(',').next(), Some("1 problem"), "{text}");
}

/// Answers each request with a status and a date, until the test ends.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let mut stream = stream;
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = std::io::Read::read(&mut stream, &mut request);
                let _ = stream.write_all(
                    format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes(),
                );
            });
        }
    });
    address
}

/// Takes connections, and never answers.
fn silent_server() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().to_string(), listener)
}

#[test]
fn servers_that_do_not_answer_are_told_in_time_and_without_secrets() {
    let home = Home::empty();
    let well = server("200 OK");
    let ask = |mirror: &str, index: &str| {
        let mut command = doctor(&home, &["--output", "json"]);
        command.env("EKIBEN_DEBIAN_MIRROR", format!("http://{mirror}/debian"));
        command.env("UV_DEFAULT_INDEX", format!("http://{index}/simple"));
        command.env("HTTP_PROXY", "").env("http_proxy", "");
        let started = Instant::now();
        let ran = ran(&mut command);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        assert!(!format!("{}{}", ran.out, ran.err).contains("hunter2"), "{}{}", ran.out, ran.err);
        ran
    };
    let said = ask(&well, &well).ok();
    assert!(check(&said, "debian mirror").0.starts_with("ok http://127.0.0.1:"), "{}", said.out);
    assert!(check(&said, "package index").0.ends_with("/simple/uv/ answers"), "{}", said.out);

    let closed = format!("me:hunter2@127.0.0.1:{}", home::free_port());
    let said = ask(&closed, &closed).ends(1);
    for name in ["debian mirror", "security mirror", "package index"] {
        let (fact, _) = check(&said, name);
        assert!(fact.starts_with("problem ") && fact.contains("connection refused"), "{name}: {fact}");
    }
    let (silent, listener) = silent_server();
    let said = ask(&silent, &silent).ends(1);
    assert!(check(&said, "package index").0.starts_with("problem "), "{}", said.out);
    // Nobody is asked without the network.
    listener.set_nonblocking(true).unwrap();
    while listener.accept().is_ok() {}
    let mut command = doctor(&home, &["--offline"]);
    command.env("EKIBEN_DEBIAN_MIRROR", format!("http://{silent}/debian"));
    ran(command.env("UV_DEFAULT_INDEX", format!("http://{silent}/simple"))).ok();
    assert!(listener.accept().is_err(), "somebody was asked");

    let refuses = server("401 Unauthorized");
    let said = ask(&well, &format!("me:hunter2@{refuses}")).ends(1);
    let (fact, advice) = check(&said, "package index");
    assert!(fact.contains("refuses (401)") && advice.contains(".netrc"), "{fact} {advice}");
    let old = server("200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT");
    let (fact, advice) = check(&ask(&old, &well).ends(1), "clock");
    assert!(fact.starts_with("problem ") && fact.ends_with("days ahead of the mirror's"), "{fact}");
    assert!(advice.contains("set-ntp"), "{advice}");

    let mut command = doctor(&home, &["--offline", "--output", "json"]);
    let said = ran(command.env("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")).ok();
    assert_eq!(check(&said, "proxies").0, "ok HTTPS_PROXY=http://proxy.example:3128");
    let said = ran(command.env("HTTPS_PROXY", "http://")).ok();
    assert!(check(&said, "proxies").0.starts_with("warning HTTPS_PROXY is no address"), "{}", said.out);
}

#[test]
fn logins_that_do_not_work_any_more_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let known = ran(home::tool("htpasswd").args(["-Bbn", "me", "hunter2"])).ok();
    fs::write(folder.path().join("htpasswd"), known.out).unwrap();
    let registry = Registry::on(folder, "", "auth: {htpasswd: {realm: test, path: FOLDER/htpasswd}}");
    let (host, well) = (format!("127.0.0.1:{}", registry.port), server("200 OK"));
    let home = Home::empty();
    let ask = |password: &str, args: &[&str]| {
        let auth = STANDARD.encode(format!("me:{password}"));
        let config = json!({ "auths": { host.as_str(): { "auth": auth } } });
        home.write(".docker/config.json", config.to_string());
        let mut command = doctor(&home, &[&["--output", "json"], args].concat());
        command.env("EKIBEN_DEBIAN_MIRROR", format!("http://{well}/debian"));
        let ran = ran(command.env("UV_DEFAULT_INDEX", format!("http://{well}/simple"))).ok();
        assert!(!ran.out.contains(password) && !ran.out.contains(&auth), "{}", ran.out);
        check(&ran, "registry")
    };
    assert_eq!(ask("hunter2", &[]).0, format!("ok {host}: the login works"));
    let (fact, advice) = ask("hunter3", &[]);
    assert!(fact.starts_with(&format!("warning {host}: ")), "{fact}");
    assert!(advice.contains(&format!("ekiben login {host}")), "{advice}");
    assert_eq!(ask("hunter3", &["--offline"]).0, format!("ok {host}, not asked (--offline)"));
    drop(registry);
    assert!(ask("hunter2", &[]).0.contains("connection refused"));
    home.write(".docker/config.json", "{");
    let mut command = doctor(&home, &["--offline", "--output", "json"]);
    assert!(check(&ran(&mut command).ok(), "registry").0.starts_with("warning "));
}

#[test]
fn devices_that_containers_can_get_are_listed() {
    let home = Home::empty();
    let ask = |text: &str| {
        home.write("cdi/a.yaml", text);
        let mut command = doctor(&home, &["--offline", "--output", "json"]);
        check(&ran(command.env("EKIBEN_CDI", home.path("cdi"))).ok(), "devices")
    };
    let (fact, _) = ask("cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices: [{name: '0'}, {name: all}]");
    assert_eq!(fact, "ok nvidia.com/gpu=0,all");
    let (fact, advice) = ask("cdiVersion: 0.6.0\nkind: gpu\ndevices: [{name: '0'}]");
    assert!(fact.starts_with("warning ") && fact.contains("a.yaml:2:7: `gpu` has a wrong form"), "{fact}");
    assert!(advice.contains("nvidia-ctk cdi generate"), "{advice}");
}
