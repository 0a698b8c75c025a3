//! Old pins: the Python that has wheels for all of them, versions that take their place, the small service on Pythons of
//! images, and packages of a private index.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::home::registry::Registry;
use crate::home::{self, Home, ask, copy, free_port, is_ready, names, ran, wait_until};
use crate::service::{tiny, written};

/// What the format of analytics models has in its own example: together they have wheels for Python 3.6 and 3.7 alone.
const OLD: &str = "pandas==1.0.1\nnumpy==1.18.1\nscipy==1.3.1\nscikit-learn==0.21.3\n";

/// A project with requirements; `more` goes below `python`.
fn project(home: &Home, requirements: &str, more: &str) -> PathBuf {
    home.write("p/requirements.txt", requirements);
    home.write("p/predict.py", "def predict(x: float) -> float:\n    return x\n");
    let python = format!("python:\n  requirements: requirements.txt\n{more}");
    let tests = "tests:\n  - request: {x: 2.5}\n    expect: 2.5\n";
    home.write(
        "p/ekiben.yaml",
        format!("name: old\nversion: 1\n{python}service:\n  predict: predict.py:predict\n{tests}"),
    );
    home.folder().join("p")
}

fn lock(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.folder().join("p/ekiben.lock")).unwrap()).unwrap()
}

fn locked(lock: &Value, name: &str) -> String {
    let platform = lock["platforms"].as_object().unwrap().values().next().unwrap();
    let packages = platform["python"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == name).unwrap();
    package["version"].as_str().unwrap().to_owned()
}

#[test]
fn the_python_is_chosen_by_what_has_wheels_for_all_pins() {
    let home = Home::warm();
    project(&home, "numpy==1.21.6\npandas==1.3.5\n", "");
    let said = home.run(["test", "p"]).ok();
    let warning = "Python 3.9 is taken, as Python 3.11 has no wheel of `numpy==1.21.6`, `pandas==1.3.5`";
    said.says(warning);
    let first = lock(&home);
    assert_eq!(first["python"], "3.9");
    assert_eq!((locked(&first, "numpy"), locked(&first, "pandas")), ("1.21.6".to_owned(), "1.3.5".to_owned()));
    let platform = first["platforms"].as_object().unwrap().values().next().unwrap();
    assert_eq!(platform["base"]["debian"]["suite"], "bullseye");
    assert_eq!(first.get("relaxed"), None);
    // The lock keeps it, and so does a bundle, on a machine where nobody can be asked.
    let said = home.run(["lock", "p", "--check"]).ok();
    assert!(!said.err.contains("is taken"), "{}", said.err);
    let digest = home.run(["build", "p"]).ok().out;
    home.run(["pack", "p", "-o", &home.path("x.ekiben")]).ok();
    assert_eq!(home.run(["--offline", "build", &home.path("x.ekiben")]).ok().out, digest);
    // Where the usual one has wheels, it is taken again.
    home.write("p/requirements.txt", "numpy==1.26.4\n");
    home.run(["lock", "p"]).ok();
    assert_eq!(lock(&home)["python"], "3.11");
}

#[test]
fn where_no_python_has_wheels_for_all_pins_the_answer_says_what_would_help() {
    let home = Home::warm();
    project(&home, OLD, "");
    let said = home.run(["lock", "p"]).ends(1);
    for part in [
        "requirements.txt:1:1: `pandas==1.0.1` has no wheel for Python 3.11",
        "none of Debian's Pythons has wheels of all pins: in the way are `pandas==1.0.1` (",
        "`scikit-learn==0.21.3` (",
        "all have wheels for Python 3.6 and 3.7: write `version: \"3.7\"` below `python`, and `base: ",
        "/python:3.7-slim` or a copy of it in your registry",
        "on Python 3.9 the nearest that work together are pandas==1.1.",
        "`--relax-pins` takes the versions that work together",
    ] {
        assert!(said.err.contains(part), "{part}\n{}", said.err);
    }
    assert!(!home.folder().join("p/ekiben.lock").exists());
    // What does not exist at all is a mistake that is nobody's to make up for.
    home.write("p/requirements.txt", "numpy==1.21.99\n");
    let said = home.run(["lock", "p", "--relax-pins"]).ends(1);
    assert!(said.err.contains("numpy==1.21.99") && !said.err.contains("--relax-pins"), "{}", said.err);
    assert!(!home.folder().join("p/ekiben.lock").exists());
}

#[test]
fn pins_give_way_where_that_is_asked_for_and_every_build_says_so() {
    let home = Home::warm();
    let folder = project(&home, OLD, "");
    // A pickle of a number.
    home.write("p/m.pkl", b"\x80\x03K\x07.");
    let manifest = fs::read_to_string(folder.join("ekiben.yaml")).unwrap();
    let manifest = manifest.replace("service:", "model:\n  files: [m.pkl]\nservice:");
    home.write("p/ekiben.yaml", &manifest);
    let said = home.run(["lock", "p", "--relax-pins"]).ok();
    let first = lock(&home);
    assert_eq!(first["python"], "3.9");
    let relaxed = first["relaxed"].as_array().unwrap();
    assert_eq!(relaxed.len(), 4, "{relaxed:?}");
    assert_eq!((&relaxed[1]["before"], &relaxed[1]["after"]), (&json!("numpy==1.18.1"), &json!("numpy==1.19.3")));
    assert_eq!(locked(&first, "numpy"), "1.19.3");
    let why = relaxed[1]["why"].as_str().unwrap();
    assert_eq!(why, "it has no wheel for Python 3.9; 1.19.3 is the nearest that has");
    let tells = |err: &str| {
        assert!(err.contains(&format!("numpy==1.18.1 became numpy==1.19.3 ({why})")), "{err}");
        assert!(err.contains("`m.pkl` may not load with other versions"), "{err}");
    };
    tells(&said.err);
    // Files of the project are as they were, and are checked against what the lock has.
    assert_eq!(fs::read_to_string(folder.join("requirements.txt")).unwrap(), OLD);
    let said = home.run(["validate", "p"]).ok();
    assert!(!said.err.contains("which `numpy==1.18.1` excludes"), "{}", said.err);
    // Without the option, the lock holds; a bundle takes it along.
    home.run(["lock", "p"]).ok();
    assert_eq!(lock(&home), first);
    tells(&home.run(["pack", "p", "--locked", "-o", &home.path("x.ekiben")]).ok().err);
    let digest = home.run(["build", "p"]).ok();
    tells(&digest.err);
    let again = home.run(["build", &home.path("x.ekiben")]).ok();
    tells(&again.err);
    assert_eq!(again.out, digest.out);
    // Who changes the requirements is asked again.
    home.write("p/requirements.txt", format!("{OLD}six\n"));
    home.run(["lock", "p"]).ends(1).says("`--relax-pins` takes");
}

#[test]
fn a_python_that_is_asked_for_stays() {
    let home = Home::warm();
    project(&home, "six\nnumpy == 1.21.6 # old\n", "  version: \"3.11\"\n");
    let said = home.run(["lock", "p"]).ends(1);
    assert!(said.err.contains("Python 3.11 has no wheel of `numpy == 1.21.6`"), "{}", said.err);
    assert!(said.err.contains("all have wheels for Python 3.7, 3.8, 3.9 and 3.10: "), "{}", said.err);
    assert!(said.err.contains("on Python 3.11 the nearest that work together are numpy==1.23.2"), "{}", said.err);
    home.run(["lock", "p", "--relax-pins"]).ok();
    let lock = lock(&home);
    assert_eq!((&lock["python"], &lock["relaxed"][0]["after"]), (&json!("3.11"), &json!("numpy==1.23.2")));
    // What works without is not changed, though it is allowed.
    home.write("p/requirements.txt", "numpy==1.26.4\n");
    home.run(["lock", "p", "--relax-pins"]).ok();
    assert_eq!(self::lock(&home).get("relaxed"), None);
}

#[test]
fn pythons_of_images_are_named_with_an_image_and_with_what_their_service_can_do() {
    let home = Home::empty();
    let manifest = |version: &str, base: &str, service: &str| {
        home.write("predict.py", "def predict(x: bytes): return 1\ndef parts():\n    yield 1\n");
        let head = format!("name: old\nbase: {base}\npython: {{version: \"{version}\"}}\n");
        home.write("ekiben.yaml", format!("{head}service:\n{service}"));
        let ran = home.run(["validate", &home.path("")]);
        (ran.code.unwrap(), ran.out + &ran.err)
    };
    let own = "  command: [/bin/true]\n";
    for base in ["auto", "debian:bullseye"] {
        let (code, said) = manifest("3.7", base, own);
        assert!(code != 0 && said.contains("EK0504") && said.contains("there on images alone"), "{said}");
        assert!(said.contains("/python:3.7-slim`, or a copy of it in your registry"), "{said}");
    }
    let image = "registry.example/python:3.7-slim";
    let (code, said) = manifest("3.5", image, own);
    assert!(code != 0 && said.contains("known are 3.8 to 3.15, and on images 3.6 and later"), "{said}");
    for version in ["3.6", "3.7", "3.8"] {
        assert_eq!(manifest(version, image, own).0, 0);
    }
    let service = "  predict: predict.py:predict\n  functions: {parts: predict.py:parts}\n  workers: 2\n  kserve: predict\n  \
                   deferred: {}\n  batch: {predict: {size: 2, wait: 1ms, over: [x]}}\n";
    let (code, said) = manifest("3.7", image, service);
    assert_ne!(code, 0);
    for (line, what) in [
        (5, "files in requests"),
        (6, "answers in parts"),
        (7, "further processes"),
        (8, "routes of KServe's protocol"),
        (9, "answers that are asked for later"),
        (10, "requests that are answered together"),
    ] {
        let part = format!("on Python 3.7 the service has no {what}");
        let place = format!("ekiben.yaml:{line}:");
        assert!(said.lines().any(|said| said.contains(&part) && said.contains(&place)), "{place} {part}\n{said}");
    }
    assert!(!manifest("3.8", image, service).1.contains("the service has no"));
}

/// Where pyenv keeps Pythons, where somebody has it: Debian has none of the old ones.
fn versions() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".pyenv"));
    let folder = root.join("versions");
    if !folder.is_dir() {
        return Vec::new();
    }
    names(&folder).into_iter().filter(|name| name.starts_with("3.")).map(|name| folder.join(name)).collect()
}

/// The Pythons of this machine, the one that tests use anyway among them.
fn pythons() -> Vec<PathBuf> {
    let mut pythons: Vec<_> = versions().into_iter().map(|version| version.join("bin/python3")).collect();
    pythons.retain(|python| python.is_file());
    pythons.push(home::tool("python3").get_program().into());
    pythons
}

/// The small service of a project, running.
struct Small {
    root: tempfile::TempDir,
    process: Child,
    address: String,
}

impl Small {
    fn start(python: &Path, code: &str, service: &Value) -> Self {
        let mut manifest = tiny(service);
        manifest = serde_json::from_value({
            let mut value = serde_json::to_value(&manifest).unwrap();
            value["python"] = json!({ "version": "3.7" });
            value["base"] = "registry.example/python:3.7-slim".into();
            value
        })
        .unwrap();
        let (root, _) = written(&manifest, &[("src/predict.py", code)]);
        let port = free_port();
        let process = Command::new(python)
            .args(["-m", "ekiben_service"])
            .current_dir(root.path())
            .env("PORT", port.to_string())
            .stderr(fs::File::create(root.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        wait_until("the small service", || is_ready(&address, "/readyz"));
        Self { root, process, address }
    }

    fn ask(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = ask(&self.address, "POST", path, body);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// What comes for bytes as they are.
    fn raw(&self, request: &[u8]) -> String {
        let mut connection = std::net::TcpStream::connect(&self.address).unwrap();
        connection.write_all(request).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        answer
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const CODE: &str = "\
import time
from typing import List
from ekiben_service import credentials
def predict(x: List[float], y: int = 1, *, who: str = ''):
    return {'x': x, 'y': y, 'nan': [float('nan'), float('inf')], 'who': who, 3: {'ä'}}
def slow(seconds: float):
    time.sleep(seconds)
    return seconds
def refuses(a):
    raise ValueError('not this')
def breaks():
    raise RuntimeError('hunter2')
def ends():
    raise SystemExit(3)
def opened(**more):
    return {'more': more, 'credentials': dict(credentials)}
async def later(x):
    return x
";

#[test]
fn the_small_service_answers_as_the_usual_one_on_each_python_that_there_is() {
    let names = ["slow", "refuses", "breaks", "ends", "opened", "later"];
    let functions: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), format!("src/predict.py:{name}").into())).collect();
    let service = json!({
        "predict": "src/predict.py:predict", "functions": functions, "concurrency": 2, "queue": 1, "timeout": "3s",
        "limits": { "request": "1k" },
    });
    for python in pythons() {
        let small = Small::start(&python, CODE, &service);
        let (status, answer) = small.ask("/predict", r#"{"x": [1, 2.5], "who": "me"}"#);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer, json!({ "x": [1, 2.5], "y": 1, "nan": [null, null], "who": "me", "3": ["ä"] }));
        let (status, answer) = small.ask("/predict", r#"{"y": "1", "z": 3}"#);
        let expected = json!({ "detail": [
            { "type": "missing", "loc": ["body", "x"], "msg": "Field required" },
            { "type": "int_type", "loc": ["body", "y"], "msg": "Input should be a valid integer" },
            { "type": "extra_forbidden", "loc": ["body", "z"], "msg": "Extra inputs are not permitted" },
        ] });
        assert_eq!((status, answer), (422, expected));
        for (path, body, status, part) in [
            ("/predict", "[1]", 422, "dict_type"),
            ("/predict", "{", 422, "json_invalid"),
            ("/predict", r#"{"x": true}"#, 422, "list_type"),
            ("/refuses", r#"{"a": 1}"#, 422, "not this"),
            ("/breaks", "", 500, "internal error"),
            ("/ends", "", 500, "internal error"),
            ("/later", r#"{"x": "y"}"#, 200, "y"),
            ("/slow", r#"{"seconds": 4}"#, 504, "no answer within 3 s"),
            ("/nothing", "", 404, "Not Found"),
            ("/healthz", "", 405, "Method Not Allowed"),
        ] {
            let (found, answer) = small.ask(path, body);
            assert!(found == status && answer.to_string().contains(part), "{path} {body}: {found} {answer}");
            assert!(!answer.to_string().contains("hunter2"), "{answer}");
        }
        assert_eq!(small.ask("/predict", &format!("\"{}\"", "x".repeat(2000))).0, 413);
        assert_eq!(ask(&small.address, "GET", "/predict", "").0, 405);
        let document: Value = serde_json::from_str(&ask(&small.address, "GET", "/openapi.json", "").1).unwrap();
        assert!(document["paths"]["/predict"].is_object());
        // What could be read in two ways is not read.
        for request in [
            "POST /predict HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /predict HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            "POST /predict HTTP/1.1\r\nContent-Length: -2\r\n\r\n{}",
            "POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
            "NONSENSE\r\n\r\n",
        ] {
            let answer = small.raw(request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer:?}");
        }
        // Several on one connection, in pieces, with an id and credentials of their own.
        let chunked = "POST /opened HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Request-Id: mine\r\nENV_TOKEN: t\r\n\r\n\
                       5\r\n{\"q\":\r\n3;x=y\r\n\"1\"\r\n1\r\n}\r\n0\r\n\r\n";
        let answers = small.raw(format!("{chunked}GET /healthz HTTP/1.1\r\n\r\n").as_bytes());
        assert!(answers.contains(r#"{"more":{"q":"1"},"credentials":{"TOKEN":"t"}}"#), "{answers}");
        assert!(answers.contains("x-request-id: mine\r\n") && answers.contains(r#"{"status":"ok"}"#), "{answers}");
        assert!(small.raw(b"HEAD /healthz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        // Two at once, one that waits, and no more.
        let statuses = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| small.ask("/slow", r#"{"seconds": 1.2}"#).0)).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(statuses.iter().filter(|status| **status == 200).count() <= 3, "{statuses:?}");
        assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
        let metrics = ask(&small.address, "GET", "/metrics", "").1;
        for line in [
            r#"ekiben_requests_total{method="POST",path="/refuses",status="422"} 1"#,
            r#"ekiben_request_duration_seconds_count{path="/slow"} 7"#,
            r#"ekiben_requests_total{method="POST",path="other",status="404"} 1"#,
            "ekiben_requests_in_progress 1",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
        let logged: Vec<Value> = small.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mine = logged.iter().find(|line| line["request_id"] == "mine").unwrap();
        assert_eq!(
            (&mine["message"], &mine["path"], &mine["status"]),
            (&json!("answered"), &json!("/opened"), &json!(200))
        );
        assert!(logged.iter().any(|line| line["exception"].as_str().is_some_and(|text| text.contains("hunter2"))));
    }
}

#[test]
fn the_small_service_answers_what_is_in_hand_before_it_ends() {
    for python in pythons() {
        let service = json!({ "predict": "src/predict.py:slow", "root": "/models/x", "grace": "20s", "nan": "text" });
        let mut small = Small::start(&python, CODE, &service);
        let (address, pid) = (small.address.clone(), nix::unistd::Pid::from_raw(small.process.id().cast_signed()));
        // Health without the root, functions below it alone.
        assert_eq!(ask(&address, "GET", "/models/x/healthz", "").0, 200);
        assert_eq!(ask(&address, "POST", "/predict", "{}").0, 404);
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| ask(&address, "POST", "/models/x/predict", r#"{"seconds": 5}"#));
            wait_until("the request", || ask(&address, "GET", "/metrics", "").1.contains("requests_in_progress 2"));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
            wait_until("the end", || ask(&address, "GET", "/readyz", "") == (503, r#"{"status":"ending"}"#.to_owned()));
            let refused = ask(&address, "POST", "/models/x/predict", "{}");
            assert!(refused.0 == 503 && refused.1.contains("the service ends"), "{refused:?}");
            assert_eq!(answer.join().unwrap(), (200, "5".to_owned()));
        });
        assert_eq!(small.process.wait().unwrap().code(), Some(0), "{}", small.log());
    }
}

#[test]
fn a_model_is_trained_beside_the_small_service() {
    let code = "import pickle\ndef train(data=None, hyperparameters=None):\n    return {'statistics': 1, **hyperparameters}\n\
                def predict(x):\n    return [x, pickle.load(open('m.pkl', 'rb'))]\n";
    let manifest = json!({
        "name": "x", "python": { "version": "3.7" }, "base": "registry.example/python:3.7",
        "service": { "predict": "src/p.py:predict" },
        "training": { "function": "src/p.py:train", "parameters": { "n": 2.5 }, "output": "m.pkl" },
    });
    // The modules that train are written for Python 3.7 and later.
    for python in pythons().into_iter().filter(|python| !python.display().to_string().contains("/3.6.")) {
        let manifest = serde_json::from_value(manifest.clone()).unwrap();
        let (root, _) = written(&manifest, &[("src/p.py", code)]);
        let trained = root.path().join("trained");
        fs::create_dir(&trained).unwrap();
        let command = |args: &[&str], port: u16| {
            let mut command = Command::new(&python);
            command.args(["-m", "ekiben_service"]).args(args).current_dir(root.path());
            command.env("EKIBEN_TRAINED", &trained).env("PORT", port.to_string());
            command
        };
        let serving = |wanted: u16| {
            let port = free_port();
            let mut process = command(&[], port).spawn().unwrap();
            let address = format!("127.0.0.1:{port}");
            // It is alive before it has loaded what it is to serve.
            let paths = if wanted == 200 { &["/healthz", "/readyz"][..] } else { &["/healthz"] };
            wait_until("the small service", || paths.iter().all(|path| is_ready(&address, path)));
            let found = (ask(&address, "GET", "/readyz", ""), ask(&address, "POST", "/predict", r#"{"x": 1}"#));
            process.kill().unwrap();
            process.wait().unwrap();
            assert_eq!(found.1.0, wanted, "{found:?}");
            found
        };
        let (ready, answer) = serving(503);
        assert_eq!(ready, (503, r#"{"status":"untrained"}"#.to_owned()));
        assert!(answer.1.contains("the model is not trained yet"), "{answer:?}");
        ran(&mut command(&["train"], 0)).ok();
        let (ready, answer) = serving(200);
        assert_eq!((ready.0, answer.1.as_str()), (200, r#"[1,{"statistics":1,"n":2.5}]"#));
        // There is no broker.
        ran(&mut command(&["learn"], 0)).ends(2).says("there is no learn on this Python");
    }
}

#[test]
fn the_small_service_is_python_3_6() {
    let manifest = json!({
        "name": "x", "python": { "version": "3.6" }, "base": "registry.example/python:3.6", "service": { "predict": "p.py:f" },
    });
    let (root, _) = written(&serde_json::from_value(manifest).unwrap(), &[("p.py", "def f(): pass\n")]);
    let script = "import ast, pathlib\nfor path in pathlib.Path('ekiben_service').glob('*.py'):\n    \
                  ast.parse(path.read_text(), feature_version=(3, 6))\n    print(path.name)\n";
    let mut command = home::tool("python3");
    let said = ran(command.args(["-c", script]).current_dir(root.path())).ok();
    let mut files: Vec<&str> = said.out.lines().collect();
    files.sort_unstable();
    let expected = ["__init__.py", "__main__.py", "context.py", "function.py", "log.py", "modules.py", "server.py"];
    assert_eq!(files, expected);
}

#[test]
fn old_pins_run_as_they_stand_on_a_python_that_an_image_brings() {
    let is_old = |version: &PathBuf| version.file_name().is_some_and(|name| name.to_string_lossy().starts_with("3.7."));
    let Some(python) = versions().into_iter().find(is_old) else {
        eprintln!("no Python 3.7 is here, so nothing was tried on it");
        return;
    };
    let (home, registry) = (Home::warm(), Registry::start());
    // Debian with what this Python needs, and the Python where official images have theirs.
    let packages = "[libssl3, libffi8, zlib1g, libbz2-1.0, liblzma5, libexpat1]";
    let service = "service: {command: [/bin/true]}";
    home.write("debian/ekiben.yaml", format!("name: d\nversion: 1\nsystem: {{packages: {packages}}}\n{service}\n"));
    let below = registry.reference("debian:1");
    home.run(["build", "debian", "-t", &below, "--push"]).ok();
    let place = home.folder().join("image");
    copy(&python.join("lib/python3.7"), &place.join("local/lib/python3.7"), false);
    for needless in ["test", "site-packages", "idlelib", "ensurepip", "lib2to3"] {
        let _ = fs::remove_dir_all(place.join("local/lib/python3.7").join(needless));
    }
    fs::create_dir_all(place.join("local/bin")).unwrap();
    fs::create_dir_all(place.join("lib")).unwrap();
    fs::copy(python.join("bin/python3.7"), place.join("local/bin/python3.7")).unwrap();
    symlink("python3.7", place.join("local/bin/python3")).unwrap();
    for library in names(&python.join("lib")).iter().filter(|name| name.starts_with("libpython3.7m.so.1")) {
        fs::copy(python.join("lib").join(library), place.join("lib").join(library)).unwrap();
    }
    let text = format!("FROM {below}\nCOPY local /usr/local\nCOPY lib /usr/lib\nENTRYPOINT []\nCMD []\n");
    home.write("image/Dockerfile", text);
    let base = registry.reference("python:3.7-slim");
    home.run(["build", "image", "--file", &home.path("image/Dockerfile"), "-t", &base, "--push"]).ok();

    let folder = project(&home, OLD, "");
    let code = "import numpy, pandas, scipy, sklearn, sys\nfrom sklearn.decomposition import PCA\n\
                def predict(x: float):\n    pca = PCA(1).fit(numpy.array([[1.0, x], [2.0, 1.0], [3.0, 0.0]]))\n    \
                frame = pandas.DataFrame({'a': [1, None], 'b': ['x', None]})\n    \
                return {'python': sys.version[:3], 'sklearn': sklearn.__version__, 'n': pca.n_components_, 'frame': frame}\n";
    home.write("p/predict.py", code);
    let manifest = fs::read_to_string(folder.join("ekiben.yaml")).unwrap();
    let based =
        |manifest: &str| manifest.replace("python:\n", &format!("base: {base}\nsystem: {{packages: auto}}\npython:\n"));
    // The service that is usual does not run there, which has to be said.
    home.write("p/ekiben.yaml", based(&manifest));
    home.run(["lock", "p"]).ends(1).says("write `version: \"3.7\"` below `python`");
    let expected = "{python: \"3.7\", sklearn: 0.21.3, n: 1, frame: [{a: 1.0, b: x}, {a: null, b: null}]}";
    let manifest = manifest.replace("expect: 2.5", &format!("expect: {expected}"));
    home.write("p/ekiben.yaml", based(&manifest).replace("  requirements:", "  version: \"3.7\"\n  requirements:"));
    let said = home.run(["test", "p"]).ok();
    assert!(!said.err.contains("is of no version that ekiben knows"), "{}", said.err);
    let lock = lock(&home);
    assert_eq!((locked(&lock, "numpy"), locked(&lock, "scikit-learn")), ("1.18.1".to_owned(), "0.21.3".to_owned()));
    assert_eq!(lock.get("relaxed"), None);
}

/// An index of packages that asks for a name and a password; its files lie on another server. What each was sent is kept.
struct Index {
    index: (String, Asked),
    files: (String, Asked),
}

/// Paths, and what came with them to prove who asks.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

const NAME: &str = "robot";
const PASSWORD: &str = "hunter2-p%40ss";
const WHEEL: &str = "z_utils-1.0-py3-none-any.whl";

impl Index {
    fn start(home: &Home) -> Self {
        let script = format!(
            "import zipfile\nz = zipfile.ZipFile('{WHEEL}', 'w')\ni = 'z_utils-1.0.dist-info/'\n\
             z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: z-utils\\nVersion: 1.0\\n')\n\
             z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
             z.writestr('z_utils.py', 'ANSWER = 42\\n')\n\
             z.writestr(i + 'RECORD', 'z_utils.py,,\\n' + i + 'RECORD,,\\n')\n"
        );
        ran(home::tool("python3").args(["-c", &script]).current_dir(home.folder())).ok();
        let wheel = fs::read(home.folder().join(WHEEL)).unwrap();
        let files = serve(move |path, _| match path.ends_with(".whl") {
            true => ("200 OK", wheel.clone()),
            false => ("404 Not Found", Vec::new()),
        });
        let link = format!("<!DOCTYPE html><a href=\"http://{}/{WHEEL}\">{WHEEL}</a>", files.0);
        let index = serve(move |path, given| {
            let expected = base64::engine::general_purpose::STANDARD.encode(format!("{NAME}:hunter2-p@ss"));
            match (given, path) {
                (Some(given), _) if given != format!("Basic {expected}") => ("403 Forbidden", Vec::new()),
                (None, _) => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new()),
                (_, "/simple/z-utils/") => ("200 OK\r\nContent-Type: text/html", link.clone().into_bytes()),
                _ => ("404 Not Found", Vec::new()),
            }
        });
        Self { index, files }
    }

    fn url(&self, who: &str) -> String {
        format!("http://{who}{}/simple/", self.index.0)
    }
}

/// A server on this machine that answers as `answer` says.
fn serve(answer: impl Fn(&str, Option<&str>) -> (&'static str, Vec<u8>) + Send + Sync + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let (kept, answer) = (asked.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (kept, answer) = (kept.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let path = lines.next()?.split(' ').nth(1)?.to_owned();
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let header = |line: &String| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
                };
                let given = head.iter().find_map(header);
                let (status, body) = answer(&path, given.as_deref());
                kept.lock().unwrap().push((path, given));
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                (&stream).write_all(&[head.as_bytes(), &body].concat()).ok()
            });
        }
    });
    (address, asked)
}

/// Files below a folder in which one of `secrets` stands.
fn leaks(folder: &Path, secrets: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let holds = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                found.extend(secrets.iter().any(|secret| holds(secret)).then(|| entry.path()));
            }
        }
    }
    found
}

#[test]
fn a_private_index_is_known_by_the_settings_of_uv_and_pip_and_no_secret_stays() {
    let home = Home::warm();
    let index = Index::start(&home);
    let (bare, whole) = (index.url(""), index.url(&format!("{NAME}:{PASSWORD}@")));
    let netrc = format!("machine 127.0.0.1 login {NAME} password hunter2-p@ss\n");
    let place = tempfile::tempdir().unwrap();
    let netrc_file = place.path().join("netrc");
    fs::write(&netrc_file, netrc).unwrap();
    let netrc_file = netrc_file.to_str().unwrap();
    let real = std::env::var("UV_DEFAULT_INDEX").or_else(|_| std::env::var("PIP_INDEX_URL")).ok();
    let settings: [&[(&str, &str)]; 7] = [
        &[("UV_INDEX", &whole)],
        &[("UV_EXTRA_INDEX_URL", &whole)],
        &[
            ("UV_INDEX", &format!("mine={bare}")),
            ("UV_INDEX_MINE_USERNAME", NAME),
            ("UV_INDEX_MINE_PASSWORD", "hunter2-p@ss"),
        ],
        &[("UV_INDEX", &bare), ("NETRC", netrc_file)],
        &[("PIP_EXTRA_INDEX_URL", &whole)],
        &[("REGISTRY_PIP_URL", &bare), ("REGISTRY_PIP_USERNAME", NAME), ("REGISTRY_PIP_PASSWORD", "hunter2-p@ss")],
        // In the place of the index of all: there is nothing else that the project needs.
        &[("PIP_INDEX_URL", &whole)],
    ];
    for (number, variables) in settings.into_iter().enumerate() {
        let folder = project(&home, "z-utils==1.0\n", "");
        home.write("p/predict.py", "import z_utils\ndef predict(x: float) -> float:\n    return z_utils.ANSWER\n");
        let text = fs::read_to_string(folder.join("ekiben.yaml")).unwrap().replace("expect: 2.5", "expect: 42");
        let alone = variables.iter().any(|(name, _)| *name == "PIP_INDEX_URL");
        let text = if alone { text.replace("predict: predict.py:predict", "command: [/bin/true]") } else { text };
        home.write("p/ekiben.yaml", text);
        let _ = fs::remove_file(folder.join("ekiben.lock"));
        let run = |args: &[&str]| {
            let mut command = home.command(args);
            // What uv keeps is its own: a cache that knows the package would ask nobody.
            command.env("UV_CACHE_DIR", place.path().join(format!("uv-{number}")));
            if !alone && let Some(real) = &real {
                command.env("UV_DEFAULT_INDEX", real);
            }
            let ran = ran(command.envs(variables.iter().copied()));
            for secret in ["hunter2", "cm9ib3Q6"] {
                assert!(!format!("{}{}", ran.out, ran.err).contains(secret), "{}\n{}", ran.out, ran.err);
            }
            ran
        };
        run(if alone { &["lock", "p", "-v"] } else { &["test", "p", "-v"] }).ok();
        assert_eq!(locked(&lock(&home), "z-utils"), "1.0", "{variables:?}");
        let text = fs::read_to_string(folder.join("ekiben.lock")).unwrap();
        assert!(!text.contains("127.0.0.1") && !text.contains(NAME), "{text}");
        run(&["pack", "p", "-o", &home.path(&format!("{number}.ekiben"))]).ok();
        let asked = std::mem::take(&mut *index.index.1.lock().unwrap());
        assert!(asked.iter().any(|(path, given)| path == "/simple/z-utils/" && given.is_some()), "{asked:?}");
        // A netrc is for a host, on whatever port; all else is for one origin.
        let files = std::mem::take(&mut *index.files.1.lock().unwrap());
        let is_netrc = variables.iter().any(|(name, _)| *name == "NETRC");
        assert!(!files.is_empty() && (is_netrc || files.iter().all(|(_, given)| given.is_none())), "{files:?}");
    }
    let secrets = ["hunter2", "cm9ib3Q6"];
    assert_eq!(leaks(home.folder(), &secrets), Vec::<PathBuf>::new());
}

#[test]
fn an_address_with_a_password_is_locked_without_it() {
    let home = Home::warm();
    let index = Index::start(&home);
    let place = tempfile::tempdir().unwrap();
    project(&home, &format!("z-utils @ http://${{ROBOT}}@{}/{WHEEL}\n", index.files.0), "");
    let run = |args: &[&str], cache: &str| {
        let mut command = home.command(args);
        let ran = ran(command.env("UV_CACHE_DIR", place.path().join(cache)).env("ROBOT", "me:hunter2")).ok();
        assert!(!format!("{}{}", ran.out, ran.err).contains("hunter2"), "{}\n{}", ran.out, ran.err);
    };
    run(&["lock", "p", "-v"], "a");
    index.files.1.lock().unwrap().clear();
    // It is fetched with it all the same.
    run(&["build", "p", "--locked", "-v"], "b");
    assert!(index.files.1.lock().unwrap().iter().all(|(_, given)| given.is_some()));
    assert!(!index.files.1.lock().unwrap().is_empty());
    assert_eq!(leaks(home.folder(), &["hunter2"]), Vec::<PathBuf>::new());
}

#[test]
fn an_index_that_refuses_is_told_without_what_it_was_given() {
    let home = Home::warm();
    let index = Index::start(&home);
    project(&home, "z-utils==1.0\n", "");
    // To some, 403 is what is not there.
    for (who, code, why) in [("", 5, "refused access"), ("robot:hunter3@", 1, "403 Forbidden")] {
        let mut command = home.command(["lock", "p", "-v"]);
        command.env("UV_CACHE_DIR", home.path("uv")).env("NETRC", "/dev/null");
        let said = ran(command.env("REGISTRY_PIP_URL", index.url(who))).ends(code);
        assert!(said.err.contains(why) && !said.err.contains("hunter3"), "{}", said.err);
    }
    assert_eq!(leaks(home.folder(), &["hunter3"]), Vec::<PathBuf>::new());
}
