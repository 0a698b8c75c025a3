//! Running models with the real program: started, asked, stopped, killed; as root and as an ordinary user.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::home::{self, Home, Ran, ask, free_port, line, processes_in, ran, wait_until};
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
    /// What it has said on stderr since.
    said: Arc<Mutex<String>>,
}

impl Foreground {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command(["run"].iter().chain(args));
        let log = fs::File::create(home.folder().join("stdout")).unwrap();
        let mut child = command.stdout(log).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(text) = lines.next() {
            let text = text.unwrap();
            if let Some((_, rest)) = text.split_once("Ready http://") {
                let address = rest.split(' ').next().unwrap().to_owned();
                let (line, said) = (line(&command), Arc::new(Mutex::new(String::new())));
                let heard = Arc::clone(&said);
                std::thread::spawn(move || {
                    lines.for_each(|text| *heard.lock().unwrap() += &format!("{}\n", text.unwrap()))
                });
                return Self { child, line, address, said };
            }
            said = format!("{said}{text}\n");
        }
        let status = child.wait().unwrap();
        panic!("`{}` did not become ready ({status}):\n{said}", line(&command));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn says(&self, text: &str) -> bool {
        self.said.lock().unwrap().contains(text)
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
        assert_eq!(home.run(["ps"]).ok().out, "");
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
fn the_ready_line_says_what_to_ask_and_how_to_stop() {
    let home = built();
    // Of an image as of the project.
    for what in ["tiny", "tiny:1"] {
        is_invited(&home, what);
    }

    let detached = home.run(["run", "tiny", "--detach"]).ok();
    let name = detached.out.trim_end();
    assert_eq!(detached.out.lines().count(), 1);
    for text in [format!("ekiben logs --follow {name}"), format!("ekiben stop {name}")] {
        assert!(detached.err.contains(&text), "{}", detached.err);
    }
    home.run(["stop", "--all", "--remove"]).ok();
}

fn is_invited(home: &Home, what: &str) {
    let running = Foreground::start(home, &[what]);
    let address = &running.address;
    wait_until("the example", || running.says("Try curl"));
    assert!(running.says(&format!("Docs http://{address}/docs\n")), "{:?}", running.said);
    let said = running.said.lock().unwrap().clone();
    let line = said.lines().find_map(|line| line.trim_start().strip_prefix("Try ")).unwrap();
    // As it stands there, it answers.
    assert_eq!(ran(home::tool("sh").args(["-c", &format!("{line} -s")])).ok().out, "7.0");
    running.signal(Signal::SIGINT);
    running.end().ends(0);
}

#[test]
fn a_service_follows_its_project() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        let project = home.tiny("tiny");
        let code = fs::read_to_string(project.join("src/predict.py")).unwrap();
        let manifest = fs::read_to_string(project.join("ekiben.yaml")).unwrap();
        let running = Foreground::start(&home, &["tiny", "--watch"]);
        let address = running.address.clone();
        // It answers whenever it is asked, whatever happens.
        let answer = || match ask(&address, "POST", "/predict", r#"{"x": 2}"#) {
            (200, body) => body,
            other => {
                let said = running.said.lock().unwrap().clone();
                panic!("{other:?}\n{said}")
            }
        };
        assert_eq!(answer(), "7.0");
        let adding =
            |number: &str| code.replace("MODEL[\"intercept\"]\n", &format!("MODEL[\"intercept\"] + {number}\n"));
        home.write("tiny/src/predict.py", adding("1"));
        wait_until("the answer of the new code", || answer() == "8.0");
        // Nobody who builds or runs `tiny:1` gets what was just saved.
        assert_eq!(home.run(["images", "--output", "json"]).ok().out.matches("tiny:").count(), 1);

        home.write("tiny/src/predict.py", adding("+"));
        wait_until("the mistake", || running.says("src/predict.py:"));
        assert_eq!(answer(), "8.0");
        // What is seen only when it starts.
        home.write("tiny/src/predict.py", format!("{}\nraise RuntimeError('not today')\n", adding("2")));
        wait_until("the traceback", || running.says("not today") && running.says("the service from before"));
        assert_eq!(answer(), "8.0");
        home.write("tiny/src/predict.py", adding("3"));
        wait_until("the answer of the code that is right again", || answer() == "10.0");

        let requirement = "  version: \"3.11\"\n  requirements: [joblib==1.4.2]\n";
        home.write("tiny/ekiben.yaml", manifest.replace("  version: \"3.11\"\n", requirement));
        home.write("tiny/src/predict.py", adding("len([__import__('joblib').__version__])"));
        wait_until("the answer with another package", || answer() == "8.0");
        wait_until("the end of those before", || home.stored("containers").len() == 1);

        running.signal(Signal::SIGINT);
        running.end().ends(0);
        assert!(TcpStream::connect(&address).is_err());
        assert_eq!((home.stored("containers"), home.stored("scratch")), (vec![], vec![]));
        assert_eq!(processes_in(&home.store()), [""; 0]);
    }
}

#[test]
fn what_cannot_be_followed_is_said_at_once() {
    let home = Home::empty();
    home.tiny("tiny");
    home.run(["run", "tiny:1", "--watch"]).ends(2).says("a project");
    home.run(["run", "tiny", "--watch", "--detach"]).ends(2).says("cannot be used with");
    home.run(["run", "tiny", "--watch", "--network", "host"]).ends(2).says("--network host");
}

#[test]
fn a_killed_foreground_leaves_nothing_for_longer_than_the_next_command() {
    for home in homes() {
        let running = Foreground::start(&home, &["tiny:1"]);
        let address = running.address.clone();
        running.signal(Signal::SIGKILL);
        running.end();
        wait_until("the container's end", || TcpStream::connect(&address).is_err());
        // How it ended is known to nobody, and nobody has to remove it.
        wait_until("none that is listed", || home.containers().is_empty());
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
        let env = home.run(["run", "tiny:1", "-e", "LEVEL=7", "--", "sh", "-c", "echo $LEVEL"]).ok();
        assert_eq!(env.out, "7\n");
        let missing = home.run(["run", "tiny:1", "--", "nonesuch"]).ends(127);
        assert!(missing.out.contains("nonesuch"), "{}", missing.out);
    }
}

/// Tries to write to folders, and says to which it could.
const WRITE: &str = "import os, sys
for folder in [os.path.expanduser('~/.cache/some/thing'), '/tmp', '/var/tmp', '.', '/run', '/dev/shm', '/models/tiny', '/sys']:
    try:
        os.makedirs(folder, exist_ok=True)
        open(folder + '/x', 'w').write('x')
        print(folder)
    except OSError as error:
        print(folder, error.errno)
";

#[test]
fn it_writes_where_its_user_may_and_nothing_stays() {
    for home in homes() {
        let run = |options: &[&str], script: &str| {
            home.run(["run", "tiny:1"].iter().chain(options).chain(&["--", "python", "-c", script]))
        };
        let expected = "/home/ekiben/.cache/some/thing\n/tmp\n/var/tmp\n.\n/run\n/dev/shm\n";
        let said = run(&[], WRITE).ok();
        // Where an ordinary user starts it, root's folders are that user's own, who is the only one in the container.
        let models = if home.is_a_users() { "/models/tiny\n" } else { "/models/tiny 13\n" };
        assert_eq!(said.out, format!("{expected}{models}/sys 30\n"));
        assert!(!said.err.contains("--read-only"), "{}", said.err);
        assert_eq!(
            run(&[], "import os; print(os.environ['HOME'], os.path.exists('x'), os.listdir('/tmp'))").ok().out,
            "/home/ekiben False []\n"
        );
        assert_eq!(run(&["-e", "HOME=/tmp"], "import os; print(os.environ['HOME'])").ok().out, "/tmp\n");
        let said = run(&["--read-only"], WRITE).ok();
        let written: String =
            said.out.lines().filter(|line| !line.contains(' ')).map(|line| format!("{line}\n")).collect();
        assert_eq!(written, "/tmp\n/run\n/dev/shm\n", "{}", said.out);
        assert_eq!(said.out.matches(" 30\n").count(), 5, "{}", said.out);

        let open = "open('/home/ekiben/x', 'w')";
        let refused = run(&["--read-only"], open).ends(1).says("--read-only");
        assert!(refused.out.contains("[Errno 30] Read-only file system"), "{}", refused.out);
        assert!(!run(&[], "open('/home/x/y', 'w')").ends(1).err.contains("--read-only"));
    }
}

/// Libraries that keep something on the disk, and fail or complain where they cannot.
#[test]
fn libraries_keep_what_they_keep_under_docker() {
    let home = Home::warm();
    home.tiny("tiny");
    let manifest = fs::read_to_string(home.folder().join("tiny/ekiben.yaml")).unwrap();
    let requirements = "  requirements: [matplotlib==3.9.2, numba==0.60.0, joblib==1.4.2, numpy==1.26.4]\n";
    let manifest = manifest.replace("  version: \"3.11\"\n", &format!("  version: \"3.11\"\n{requirements}"));
    home.write("tiny/ekiben.yaml", manifest);
    home.write(
        "tiny/src/predict.py",
        "import os
from pathlib import Path

import joblib
import matplotlib
import matplotlib.pyplot
import numba

HOME = Path.home()
os.makedirs(os.path.expanduser('~/.cache'), exist_ok=True)
assert Path(matplotlib.get_cachedir()).is_relative_to(HOME), matplotlib.get_cachedir()
assert Path(matplotlib.get_configdir()).is_relative_to(HOME), matplotlib.get_configdir()
memory = joblib.Memory(HOME / '.cache/joblib', verbose=0)


@numba.njit(cache=True)
def line(x):
    return 3.0 * x + 1.0


@memory.cache
def kept(x):
    return line(x)


def predict(x: float) -> float:
    figure, axes = matplotlib.pyplot.subplots()
    axes.plot([0, x])
    figure.savefig('figure.png')
    assert Path('/app/figure.png').stat().st_size > 1000
    result = kept(x)
    assert line.stats.cache_misses and list(Path('/app/src/__pycache__').glob('predict.line*.nbi'))
    return result


def explain() -> dict[str, str]:
    return {'formula': '3.0 x + 1.0'}
",
    );
    let tested = home.run(["test", "tiny"]).ok();
    assert!(tested.out.contains("all 3 answers as expected"), "{}", tested.out);
    // numba has nowhere to keep anything.
    home.run(["test", "tiny", "--read-only"]).ends(1).says("as --read-only asks");
    let home = home.of_a_user();
    let tested = home.run(["test", "tiny"]).ok();
    assert!(tested.out.contains("all 3 answers as expected"), "{}", tested.out);
}

#[test]
fn what_it_writes_is_bounded() {
    let home = built();
    let fill = "import sys
try:
    with open('/home/ekiben/x', 'wb') as file:
        for _ in range(int(sys.argv[1])): file.write(bytes(1 << 20))
finally:
    print(file.name, __import__('os').path.getsize(file.name) >> 20)
";
    let run = |megabytes: &str, options: &[&str]| {
        let command = ["--", "python", "-c", fill, megabytes];
        home.run(["run", "tiny:1"].iter().chain(options).chain(&command))
    };
    assert_eq!(run("200", &[]).ok().out, "/home/ekiben/x 200\n");
    let full = run("1100", &[]).ends(1).says("1 GiB");
    assert!(full.out.contains("[Errno 28] No space left on device"), "{}", full.out);
    if nix::unistd::geteuid().is_root() {
        // Half of its memory, so that it is told rather than killed.
        let full = run("200", &["--memory", "256Mi"]).ends(1).says("--memory");
        assert!(full.out.contains("/home/ekiben/x 128") && full.out.contains("[Errno 28]"), "{}", full.out);
    }
}

#[test]
fn a_service_that_may_not_write_says_why() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.tiny("tiny");
        let model = "import json, os
os.makedirs(os.path.expanduser('~/.cache'), exist_ok=True)

def predict(x: float) -> float:
    open('kept', 'w').write('x')
    return 3 * x + 1

def explain():
    return {'formula': '3.0 x + 1.0'}
";
        home.write("tiny/src/predict.py", model);
        home.run(["test", "tiny"]).ok();
        for args in [&["test", "tiny", "--read-only"][..], &["run", "tiny", "--detach", "--read-only"]] {
            home.run(args).ends(1).says("Read-only file system").says("as --read-only asks");
        }
        home.run(["run", "tiny", "--read-only"]).ends(1).says("as --read-only asks");
        // Ready, and refused when it is asked.
        home.write("tiny/src/predict.py", model.replace("os.makedirs", "os.path.join").replace(", exist_ok=True", ""));
        home.run(["test", "tiny", "--read-only"]).ends(4).says("as --read-only asks");
        home.run(["invoke", "tiny", "--read-only", "--data", "{\"x\": 2}"]).ends(4).says("as --read-only asks");
    }
}

#[test]
fn an_images_user_has_a_name_and_a_home_of_its_own() {
    let registry = home::registry::Registry::start();
    let archive = registry.folder.path().join("image.tar");
    // As Docker has them: a group that is not named is that of the book, or root's.
    let expected = [
        ("", "0 0 /root\n"),
        ("model", "1001 50 /srv/model\n"),
        ("1001", "1001 50 /srv/model\n"),
        ("model:wheel", "1001 10 /srv/model\n"),
        ("1001:1001", "1001 1001 /srv/model\n"),
        ("4711", "4711 0 /\n"),
    ];
    let push = |user: &str, reference: &str| {
        let _ = fs::remove_file(&archive);
        home::images::docker_archive_for(&archive, user);
        let mut skopeo = home::tool("skopeo");
        skopeo.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]);
        ran(skopeo.arg(format!("docker-archive:{}", archive.display())).arg(format!("docker://{reference}"))).ok();
    };
    let homes = [Home::empty(), Home::empty().of_a_user()];
    let show = "echo $(busybox id -u) $(busybox id -g) $HOME";
    for (number, (user, said)) in expected.into_iter().enumerate() {
        let reference = registry.reference(&format!("user:{number}"));
        push(user, &reference);
        for home in &homes {
            home.run(["pull", &reference]).ok();
            let engines: &[&[&str]] = &[&[], &["--engine", "runc"]];
            for engine in engines {
                let args = [&["run", reference.as_str()], *engine, &["--", "sh", "-c", show]].concat();
                let shown = home.run(&args).ok().out;
                if engine.is_empty() || !home.is_a_users() {
                    assert_eq!(shown, said, "{user} {engine:?}");
                } else {
                    // Other runtimes have an ordinary user be root, whoever the image names; the home stays.
                    assert!(shown.ends_with(said.rsplit(' ').next().unwrap()), "{user} {engine:?}: {shown}");
                }
            }
        }
    }
    let reference = registry.reference("user:unknown");
    push("nobody-known", &reference);
    homes[0].run(["pull", &reference]).ok();
    homes[0].run(["run", &reference, "--", "sh"]).ends(1).says("`nobody-known` is not in its /etc/passwd");
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
    for large in ["99999", "127.0.0.1:65536", "8080:70000", "[::1]:65536"] {
        home.run(["run", "tiny:1", "-p", large]).ends(2).says("is no port: they end at 65535");
    }
    home.run(["run", "tiny:1", "-p", "192.0.2.1:3000"]).ends(1).says("192.0.2.1 is none of this machine's addresses");
    assert_eq!(home.stored("containers"), [""; 0]);
    // The service may be told another one of its own.
    let told = home.run(["run", "tiny:1", "--detach", "--output", "json", "-e", "PORT=4000"]).ok().json();
    assert_eq!(ask(told["address"].as_str().unwrap(), "GET", "/healthz", "").0, 200);
    // Where no port was asked for, any will do.
    let usual = format!("PORT={port}");
    let args = ["run", "tiny:1", "--detach", "-e", &usual];
    let first = home.run([&args[..], &["--output", "json"]].concat()).ok().json();
    let second = home.run([&args[..], &["--output", "json"]].concat()).ok().json();
    assert_ne!(first["address"], second["address"]);
    // Which is said to a person.
    home.run(args).ok().says(&format!(":{port} is taken, so another port is used: `-p PORT` says which"));
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
            "import sys\nif sys.path:\n    import pandas\n\ndef predict(x: float) -> float:\n    return x\n\n\ndef explain():\n    return {}\n",
        );
        for args in [&["test", "tiny"][..], &["run", "tiny", "--detach"]] {
            home.run(args).ends(1).says("No module named 'pandas'").says("src/predict.py");
        }
        home.run(["test", "tiny"]).ends(1).says(
            "error: the service ended with exit code 1 before it was ready\n \
             hint: add `pandas` to requirements.txt, or to the list of requirements in the manifest\n",
        );
        let foreground = home.run(["run", "tiny"]);
        assert!(foreground.code != Some(0) && foreground.out.contains("pandas"), "{foreground:?}");
    }
}

#[test]
fn a_service_that_ends_says_so_and_points_to_no_log_that_is_not_there() {
    let home = Home::warm();
    home.tiny("tiny");
    let ending = |first: &str| {
        home.write(
            "tiny/src/predict.py",
            format!("import os\n{first}\n\ndef predict(x: float) -> float:\n    os._exit(7)\n\ndef explain():\n    return {{}}\n"),
        );
    };
    ending("os._exit(7)");
    for args in [&["run", "tiny"][..], &["test", "tiny"], &["run", "tiny", "--detach"], &["invoke", "tiny", "x=2"]] {
        let said = home.run(args).says("error: the service ended with exit code 7 before it was ready\n");
        assert_eq!(said.code, Some(if args == ["run", "tiny"] { 7 } else { 1 }), "{}", said.err);
        assert!(said.err.contains("hint: it has said nothing") && !said.err.contains("log above"), "{}", said.err);
    }
    home.run(["rm", "--force", "tiny"]).ok();
    ending("print('loaded', flush=True); os._exit(7)");
    home.run(["run", "tiny"]).ends(7).says("hint: its log above says why");
    // Also when it has answered before.
    ending("");
    let running = Foreground::start(&home, &["tiny"]);
    let _ = home.run(["invoke", &running.address, "x=2"]);
    wait_until("what is said of it", || running.says("error: the service ended with exit code 7\n"));
    running.end().ends(7);
}

#[test]
fn who_has_the_port_of_one_that_has_ended_is_not_taken_for_it() {
    let home = Home::warm();
    home.tiny("tiny");
    let ending = "import os, time\ntime.sleep(1)\nos._exit(7)\n\ndef predict(x: float) -> float:\n    return x\n\ndef explain():\n    return {}\n";
    home.write("tiny/src/predict.py", ending);
    home.build("tiny");
    let port = free_port();
    let address = (Ipv4Addr::LOCALHOST, port);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the port is its own", || TcpStream::connect(address).is_ok());
            let mut taken = TcpListener::bind(address);
            while taken.is_err() && !is_over.load(Ordering::Relaxed) {
                taken = TcpListener::bind(address);
            }
            let Ok(listener) = taken else { return };
            listener.set_nonblocking(true).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                let Ok((mut connection, _)) = listener.accept() else { continue };
                connection.set_nonblocking(false).unwrap();
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        let said = home.run(["run", "tiny", "-p", &port.to_string()]);
        is_over.store(true, Ordering::Relaxed);
        said.ends(7).says("error: the service ended with exit code 7 before it was ready\n");
    });
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

#[test]
fn a_way_out_is_opened_shown_and_the_only_one() {
    for home in homes() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let way = server.local_addr().unwrap();
        std::thread::spawn(move || {
            server.incoming().for_each(|connection| {
                let _ = std::io::Write::write_all(&mut connection.unwrap(), b"from outside");
            })
        });
        let way = format!("LocalHost:{}", way.port());
        let script = format!(
            "import socket; print(socket.create_connection(('localhost', {})).recv(99).decode())",
            way.rsplit(':').next().unwrap()
        );
        let with = home.run(["run", "tiny:1", "--connect", &way, "--", "python", "-c", &script]).ok();
        assert_eq!(with.out, "from outside\n");
        let without = home.run(["run", "tiny:1", "--", "python", "-c", &script]).ends(1);
        assert!(without.out.contains("ConnectionRefused"), "{}", without.out);

        let way = way.to_ascii_lowercase();
        let args = ["run", "tiny:1", "--detach", "-p", "0", "--connect", &way, "--connect", &way];
        let started = home.run(args.iter().chain(&["--output", "json"])).ok().json();
        assert_eq!(started["reaches"], serde_json::json!([way]), "{started}");
        let rows = home.run(["ps", "--output", "json"]).ok().json();
        assert_eq!(rows["containers"][0]["reaches"], serde_json::json!([way]), "{rows}");
        let table = home.run(["ps"]).ok().out;
        assert!(table.contains(&format!("\t{way}\n")), "{table}");
        home.run(["stop", "--all", "--remove"]).ok();
    }
}

#[test]
fn a_way_out_that_cannot_be_is_an_error() {
    let home = built();
    home.run(["run", "tiny:1", "--connect", "broker"]).ends(2).says("has no port").says("broker.example:5672");
    home.run(["run", "tiny:1", "--connect", "broker:1", "--network", "host"]).ends(2).says("leave out `--connect`");
    home.run(["run", "tiny:1", "--connect", "broker:1", "--engine", "docker"])
        .ends(2)
        .says("docker opens no single way");
    home.run(["run", "tiny:1", "--connect", "broker:3000"])
        .ends(1)
        .says("itself answers at port 3000")
        .says("PORT=3001");
    assert_eq!(home.stored("containers"), [""; 0]);
}
