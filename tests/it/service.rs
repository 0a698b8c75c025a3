//! The generated service around `fixtures/tiny`, with the real FastAPI and uvicorn: what it answers, and how it ends.
//!
//! Needs a package index (as pip is configured) and a `python3`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::home::session;
use ekiben::base::python::{self, Aim, Installation, Resolution, StandIn, Target, Uv};
use ekiben::base::requirements::Requirements;
use ekiben::bundle::generate::{self, Api};
use ekiben::image::oci::platform::Platform;
use ekiben::project::manifest::Manifest;
use serde_json::{Value, json};

/// The packages of the service for the host's Python, installed once.
fn site() -> &'static Path {
    static SITE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &SITE
        .get_or_init(|| {
            installed(ekiben::project::manifest::SERVER.into_iter().chain([
                ekiben::project::manifest::FORMS,
                "numpy",
                "pandas",
                "pillow",
            ]))
        })
        .1
}

/// Packages for the host's Python, and where they lie.
pub(crate) fn installed<'a>(requirements: impl IntoIterator<Item = &'a str>) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let session = session(&home.path().join("store"));
    let uv = Uv::find(&session, StandIn::program(env!("CARGO_BIN_EXE_ekiben"))).unwrap();
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new("python3").args(["-c", script]).output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let target = Target { python: version, platform: Platform::host().unwrap(), glibc: (2, 31) };
    let requirements = Requirements::default().and(requirements);
    let (scratch, project) = (session.store.scratch().unwrap(), home.path());
    let asked = Resolution { requirements: &requirements, target: &target, project, preferred: &[], aim: Aim::Newest };
    let packages = python::resolve(&uv, &asked, scratch.path(), &session.progress).unwrap();
    let asked = Installation {
        packages: &packages,
        target: &target,
        requirements: &requirements,
        project,
        interpreter: "/usr/bin/python3",
        place: "/app/.venv",
        wheels: None,
    };
    python::install(&uv, &asked, &home.path().join("venv"), scratch.path(), &session.progress).unwrap();
    let site = home.path().join(format!("venv/lib/python{}/site-packages", target.python));
    (home, site)
}

pub struct Service {
    pub root: tempfile::TempDir,
    pub process: Child,
    pub port: u16,
    pub document: Value,
}

pub struct Answer {
    pub status: u16,
    /// The lines of the head, below the first.
    pub head: String,
    /// As a text, as far as it is one.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }
}

pub fn tiny(service: &Value) -> Manifest {
    serde_json::from_value(json!({ "name": "tiny", "version": "1", "service": service })).unwrap()
}

/// The code and the service around it as they lie in an image, with the description of what it answers.
pub fn written(manifest: &Manifest, files: &[(&str, &str)]) -> (tempfile::TempDir, Value) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let api = Api::new(manifest, &|file| std::fs::read(root.path().join(file)), None).unwrap();
    for file in generate::service(manifest, "1", &api) {
        let path = root.path().join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.content).unwrap();
    }
    (root, generate::document(manifest, "1", &api))
}

/// What starts the service in such a folder.
pub fn python(root: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "ekiben_service"]).current_dir(root);
    command.env("PYTHONPATH", site()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

impl Service {
    /// Writes the code and the service around it as they lie in an image, and starts it.
    pub fn start(manifest: &Manifest, source: &str) -> Self {
        Self::of_files(manifest, &[("src/predict.py", source)])
    }

    /// The same of code in several files.
    pub fn of_files(manifest: &Manifest, files: &[(&str, &str)]) -> Self {
        let (root, document) = written(manifest, files);
        let port = crate::home::free_port();
        let log = std::fs::File::create(root.path().join("log")).unwrap();
        let process = python(root.path())
            .env("EKIBEN_MODEL_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny"))
            .env("PORT", port.to_string())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { root, process, port, document }
    }

    pub fn ready(mut self) -> Self {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(started.elapsed() < crate::home::PATIENCE, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("log")).unwrap()
    }

    pub fn ask(&self, method: &str, path: &str, head: &str, body: impl AsRef<[u8]>) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = body.as_ref();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}");
        stream.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
        // Who is refused early need not have sent all.
        let _ = stream.write_all(body);
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && head != "\r\n" {
            reader.read_line(&mut head).unwrap();
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        Answer { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "", body.to_string())
    }

    /// Sends the parts of a form, each with the head that stands before it.
    pub fn send(&self, path: &str, more: &str, parts: &[(&str, &[u8])]) -> Answer {
        let mut body = Vec::new();
        for (head, content) in parts {
            body.extend(format!("--limit\r\ncontent-disposition: form-data; {head}\r\n\r\n").into_bytes());
            body.extend_from_slice(content);
            body.extend(b"\r\n");
        }
        body.extend(b"--limit--\r\n");
        self.ask("POST", path, &format!("content-type: multipart/form-data; boundary=limit\r\n{more}"), body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        nix::sys::signal::kill(id, signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const TINY: &str = include_str!("../../fixtures/tiny/src/predict.py");

#[test]
fn the_tiny_model_answers_as_its_description_says() {
    let place = json!({ "predict": "src/predict.py:predict", "functions": { "explain": "src/predict.py:explain" } });
    let mut service = Service::start(&tiny(&place), TINY).ready();

    let answer = service.ask("POST", "/predict", "x-request-id: my-1\r\n", r#"{"x": 2}"#);
    assert_eq!((answer.status, answer.json()), (200, json!(7.0)));
    assert!(answer.head.contains("x-request-id: my-1"), "{}", answer.head);
    assert_eq!(service.post("/explain", &json!({})).json(), json!({ "formula": "3.0 x + 1.0" }));

    // What is wrong with the input is said in FastAPI's shape.
    for (body, kind, place) in [
        (json!({ "x": "2" }), "float_type", json!(["body", "x"])),
        (json!({}), "missing", json!(["body", "x"])),
        (json!({ "x": 1, "y": 2 }), "extra_forbidden", json!(["body", "y"])),
        (json!([1]), "dict_type", json!(["body"])),
        (json!({ "x": 1e7 }), "value_error", json!(["body"])),
    ] {
        let answer = service.post("/predict", &body);
        let detail = &answer.json()["detail"][0];
        assert_eq!((answer.status, &detail["type"], &detail["loc"]), (422, &json!(kind), &place), "{body}");
    }
    let broken = service.ask("POST", "/predict", "", "{");
    assert_eq!((broken.status, &broken.json()["detail"][0]["type"]), (422, &json!("json_invalid")));

    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(service.get(path).status, 200, "{path}");
    }
    assert_eq!(service.get("/nowhere").status, 404);
    assert_eq!(service.get("/predict").status, 405);
    assert_eq!(service.get("/openapi.json").json(), service.document);
    let page = service.get("/docs");
    assert!(page.status == 200 && !page.body.contains("//"), "no CDN: {}", page.body);
    assert!(service.get("/docs/swagger-ui-bundle.js").body.len() > 100_000);

    let metrics = service.get("/metrics").body;
    for line in [
        r#"ekiben_requests_total{method="POST",path="/predict",status="422"} 6"#,
        r#"ekiben_request_duration_seconds_count{path="/explain"} 1"#,
        r#"ekiben_requests_total{method="GET",path="other",status="404"} 1"#,
        // Itself, and perhaps one whose answer is out but not yet counted.
        "ekiben_requests_in_progress ",
    ] {
        assert!(metrics.contains(line), "{line} in:\n{metrics}");
    }

    service.signal(nix::sys::signal::Signal::SIGTERM);
    let started = Instant::now();
    assert_eq!(service.process.wait().unwrap().code(), Some(0), "{}", service.log());
    assert!(started.elapsed() < Duration::from_secs(30));
    for line in service.log().lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    assert!(service.log().contains(r#""path": "/predict", "status": 200"#));
    assert!(service.log().contains(r#""request_id": "my-1""#));
    assert!(!service.log().contains("/readyz"));
}

#[test]
fn a_failure_shows_in_the_log_and_not_in_the_answer() {
    let source = "def predict(a):\n    return {}['secret']\n";
    let service = Service::start(&tiny(&json!({ "predict": "src/predict.py:predict" })), source).ready();
    let answer = service.ask("POST", "/predict", "x-request-id: bad id!\r\n", r#"{"a": 1}"#);
    let body = answer.json();
    assert_eq!((answer.status, &body["detail"]), (500, &json!("internal error")));
    assert!(!answer.body.contains("secret"));
    let id = body["request_id"].as_str().unwrap();
    assert!(id != "bad id!" && answer.head.contains(id));
    let log = service.log();
    assert!(log.lines().any(|line| line.contains("KeyError: 'secret'") && line.contains(id)), "{log}");
}

#[test]
fn answers_of_numpy_become_json() {
    let source = "import datetime\nimport numpy as np\n\ndef predict(a: np.ndarray, kind: str = 'all', **more):\n    \
                  return {'mean': a.mean(), 'row': a, 'nan': float('nan'), 'more': more, 'max': np.int64(3),\n        \
                  'flag': np.bool_(True), 'small': np.float32(0.5), 'day': datetime.date(2026, 1, 2)}\n";
    let service = Service::start(&tiny(&json!({ "predict": "src/predict.py:predict" })), source).ready();
    let answer = service.post("/predict", &json!({ "a": [1, 2.5], "z": 1 }));
    let expected = json!({
        "mean": 1.75, "row": [1.0, 2.5], "nan": null, "more": { "z": 1 }, "max": 3, "flag": true, "small": 0.5,
        "day": "2026-01-02",
    });
    assert_eq!((answer.status, answer.json()), (200, expected), "{}", service.log());
}

#[test]
fn code_that_cannot_be_imported_ends_the_service_with_a_reason() {
    let source = "import no_such_module\n\ndef predict(a): ...\n";
    let mut service = Service::start(&tiny(&json!({ "predict": "src/predict.py:predict" })), source);
    assert_eq!(service.process.wait().unwrap().code(), Some(1));
    let log = service.log();
    assert!(log.contains("the model's code could not be imported") && log.contains("no_such_module"), "{log}");
}
