//! Running models with the real program: started, asked, stopped, killed; as root and as an ordinary user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod home;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use home::{Home, Ran, ask, free_port, line, ran, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Two homes in which `tiny:1` is built: root's and an ordinary user's.
fn homes() -> [Home; 2] {
    [Home::warm(), Home::warm().of_a_user()].map(|home| {
        home.build(home.tiny("tiny"));
        home
    })
}

fn built() -> Home {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    home
}

/// `ekiben run` in the foreground, until it is ready.
struct Foreground {
    child: Child,
    line: String,
    address: String,
}

impl Foreground {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command(["run"].iter().chain(args));
        let log = fs::File::create(home.folder().join("stdout")).unwrap();
        let mut child = command.stdout(log).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        for text in BufReader::new(child.stderr.take().unwrap()).lines() {
            let text = text.unwrap();
            if let Some((_, rest)) = text.split_once("Ready http://") {
                let address = rest.split(' ').next().unwrap().to_owned();
                return Self { child, line: line(&command), address };
            }
            said = format!("{said}{text}\n");
        }
        let status = child.wait().unwrap();
        panic!("`{}` did not become ready ({status}):\n{said}", line(&command));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(self) -> Ran {
        Ran::new(self.line, self.child.wait_with_output().unwrap())
    }
}

#[test]
fn a_container_in_the_background_is_listed_asked_and_stopped() {
    for home in homes() {
        let port = free_port();
        let args = ["run", "tiny:1", "--detach", "--name", "mine", "-p", &port.to_string()];
        assert_eq!(home.run(args).ok().out, "mine\n");
        let address = format!("127.0.0.1:{port}");
        assert_eq!(ask(&address, "POST", "/predict", r#"{"x": 2}"#), (200, "7.0".to_owned()));
        let rows = home.run(["ps", "--output", "json"]).ok().json();
        let row = &rows["containers"][0];
        assert_eq!(
            (&row["name"], &row["image"], &row["status"]),
            (&"mine".into(), &"tiny:1".into(), &"running".into())
        );
        assert_eq!(row["addresses"][0], format!("http://{address}"));
        home.run(["run", "tiny:1", "--detach", "--name", "mine"]).ends(1).says("mine").says("ekiben stop mine");
        assert!(home.run(["logs", "mine"]).ok().out.contains("/predict"));
        home.run(["logs", "mien"]).ends(1).says("did you mean `mine`?");
        home.run(["stop", "mine"]).ok();
        assert!(TcpStream::connect(&address).is_err(), "somebody still answers");
        assert_eq!(home.run(["ps"]).ok().out.lines().count(), 1);
        let rows = home.run(["ps", "--all", "--output", "json"]).ok().json();
        assert_eq!(rows["containers"][0]["exit_code"], 0, "{rows}");
        assert!(home.run(["logs", "mine", "--tail", "1"]).ok().out.lines().count() == 1);
        home.run(["stop", "--remove", "mine"]).ok();
        assert_eq!(home.stored("containers"), [""; 0]);
    }
}

#[test]
fn signals_end_a_container_in_the_foreground_and_nothing_is_left() {
    for home in homes() {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let running = Foreground::start(&home, &["tiny"]);
            assert_eq!(ask(&running.address, "GET", "/healthz", "").0, 200);
            let address = running.address.clone();
            running.signal(signal);
            running.end().ends(0);
            assert!(TcpStream::connect(address).is_err());
            assert_eq!(home.stored("containers"), [""; 0]);
            assert_eq!(home.stored("scratch"), [""; 0]);
        }
    }
}

#[test]
fn a_killed_foreground_leaves_nothing_for_longer_than_the_next_command() {
    for home in homes() {
        let running = Foreground::start(&home, &["tiny:1"]);
        let address = running.address.clone();
        running.signal(Signal::SIGKILL);
        running.end();
        wait_until("the container's end", || TcpStream::connect(&address).is_err());
        wait_until("nothing left", || {
            home.run(["prune"]).ok();
            home.stored("containers").is_empty()
        });
        assert_eq!(home.stored("scratch"), [""; 0]);
    }
}

#[test]
fn commands_in_the_container_give_output_and_exit_code() {
    for home in homes() {
        let run = |script: &str| home.run(["run", "tiny:1", "--", "python", "-c", script]);
        let said = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)").ends(3);
        assert_eq!(said.out, "out\nerr\n");
        let place = "import os; print(os.getuid(), open('/proc/self/status').read())";
        let status = run(place).ok().out;
        assert!(status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.starts_with("1034 "), "{status}");
        let write = "for p in ['/app/x', '/models/tiny/x', '/etc/x', '/usr/x']:\n try: open(p, 'w'); print(p)\n except OSError: pass\nopen('/tmp/x', 'w')";
        assert_eq!(run(write).ok().out, "");
        let env = home.run(["run", "tiny:1", "-e", "LEVEL=7", "--", "sh", "-c", "echo $LEVEL"]).ok();
        assert_eq!(env.out, "7\n");
        let missing = home.run(["run", "tiny:1", "--", "nonesuch"]).ends(127);
        assert!(missing.out.contains("nonesuch"), "{}", missing.out);
    }
}

#[test]
fn it_cannot_call_out_unless_it_is_let() {
    let home = built();
    let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || server.incoming().for_each(drop));
    let addresses = ran(home::tool("hostname").arg("-I")).ok().out;
    let script = "import socket, sys\nfor host in sys.argv[2:]:\n try: socket.create_connection((host, int(sys.argv[1])), 1); print('reached')\n except OSError as error: print(type(error).__name__)";
    let (port, mut hosts) = (port.to_string(), vec!["127.0.0.1"]);
    hosts.extend(addresses.split_whitespace().filter(|host| !host.contains(':')));
    let run = |network: &str| {
        let args = ["run", "tiny:1", "--network", network, "--", "python", "-c", script, &port];
        home.run(args.iter().chain(&hosts)).ok().out
    };
    assert!(!run("isolated").contains("reached"));
    assert_eq!(run("host"), "reached\n".repeat(hosts.len()));
}

#[test]
fn a_port_that_is_taken_is_named_or_another_one_found() {
    let home = built();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let refused = home.run(["run", "tiny:1", "-p", &port]).ends(1).says(&port).says("hint");
    assert!(refused.err.contains("port 0") && refused.err.contains("-p"), "{}", refused.err);
    home.run(["run", "tiny:1", "-p", "nonsense"]).ends(2).says("no address");
    assert_eq!(home.stored("containers"), [""; 0]);
    // The service may be told another one of its own.
    let told = home.run(["run", "tiny:1", "--detach", "--output", "json", "-e", "PORT=4000"]).ok().json();
    assert_eq!(ask(told["address"].as_str().unwrap(), "GET", "/healthz", "").0, 200);
    // Where no port was asked for, any will do.
    let first = home.run(["run", "tiny:1", "--detach", "--output", "json"]).ok().json();
    let second = home.run(["run", "tiny:1", "--detach", "--output", "json"]).ok().json();
    assert_ne!(first["address"], second["address"]);
    home.run(["stop", "--all", "--remove"]).ok();
}

#[test]
fn other_engines_run_it_too() {
    let home = built();
    let tested = home.run(["test", "tiny", "--engine", "runc"]).ok();
    assert!(tested.out.contains("all 3 answers as expected"), "{}", tested.out);
    home.run(["run", "tiny:1", "--engine", "nonesuch"]).ends(1).says("nonesuch").says("hint");
}

#[test]
fn memory_is_limited() {
    let home = built();
    let hungry = "x = bytearray(300_000_000); print(len(x))";
    let ran = home.run(["run", "tiny:1", "--memory", "64Mi", "--", "python", "-c", hungry]);
    if ran.err.contains("runs without its limits") {
        assert!(!nix::unistd::geteuid().is_root(), "{}", ran.err);
        println!("left out: no control groups for this user");
        return;
    }
    ran.ends(137).says("used up its memory");
    home.run(["run", "tiny:1", "--memory", "1Gi", "--", "python", "-c", hungry]).ok();
    home.run(["run", "tiny:1", "--memory", "lots"]).ends(2).says("512Mi");
}

#[test]
fn an_answer_that_is_not_expected_fails_the_test() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    let manifest = fs::read_to_string(project.join("ekiben.yaml")).unwrap();
    home.write(
        "tiny/ekiben.yaml",
        manifest.replace("expect: 7.0", "expect: 8.0").replace("status: 422", "status: 400"),
    );
    let failed = home.run(["test", "tiny"]).ends(4);
    for text in ["✗ one number", "8.0", "7.0", "✗ text is no number", "400", "422", "✓ the line in words"] {
        assert!(failed.out.contains(text), "no `{text}` in\n{}", failed.out);
    }
    assert!(failed.out.ends_with("tiny:1: 2 of 3 answers not as expected\n"), "{}", failed.out);
    let report = home.run(["test", "tiny", "--output", "json"]).ends(4).json();
    assert_eq!((&report["passed"], &report["failed"]), (&1.into(), &2.into()));
    let difference = &report["outcomes"][0]["differences"][0];
    let keys: Vec<_> = difference.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["actual", "at", "expected"], "{difference}");
    assert_eq!(home.stored("containers"), [""; 0]);
}

#[test]
fn a_model_that_does_not_start_shows_its_log() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.tiny("tiny");
        home.write(
            "tiny/src/predict.py",
            "import nonesuch\n\ndef predict(x: float) -> float:\n    return x\n\n\ndef explain():\n    return {}\n",
        );
        for args in [&["test", "tiny"][..], &["run", "tiny", "--detach"]] {
            home.run(args).ends(1).says("No module named 'nonesuch'").says("src/predict.py");
        }
        let foreground = home.run(["run", "tiny"]);
        assert!(foreground.code != Some(0) && foreground.out.contains("nonesuch"), "{foreground:?}");
    }
}

/// Packages like soundfile look for their library so.
#[test]
fn libraries_are_found_by_their_names() {
    for home in [Home::fetched(), Home::fetched().of_a_user()] {
        let tiny = home.tiny("tiny");
        fs::remove_file(tiny.join("ekiben.lock")).unwrap();
        let manifest = fs::read_to_string(tiny.join("ekiben.yaml")).unwrap();
        home.write("tiny/ekiben.yaml", format!("{manifest}system: {{packages: [libsndfile1]}}\n"));
        home.build("tiny");
        let script = "import ctypes, ctypes.util\n\
                      print(*map(ctypes.util.find_library, ['sndfile', 'FLAC', 'sqlite3', 'c', 'zbar']))\n\
                      print(bool(ctypes.CDLL(ctypes.util.find_library('sndfile')).sf_version_string))";
        let said = home.run(["run", "tiny", "--", "python", "-c", script]).ok().out;
        assert_eq!(said, "libsndfile.so.1 libFLAC.so.12 libsqlite3.so.0 libc.so.6 None\nTrue\n");
    }
}
