//! Many models behind one address, with the real program: started when asked, ended when idle, killed, replaced, refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::home::{Home, PATIENCE, Ran, USER, ask, line, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A server that notes each request that it gets in a file, streams both ways, and does what its path says.
const SERVER: &str = r#"
import http.server, json, os, signal, socketserver, time, urllib.parse
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
NOTES = os.environ.get("NOTES")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def reply(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        elif size := int(self.headers.get("Content-Length", 0)):
            while size:
                piece = self.rfile.read1(min(size, 65536))
                size -= len(piece)
                yield piece
    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/readyz":
            return self.reply(b"ready", 503 if os.environ.get("BROKEN") else 200)
        if NOTES and "?" in self.path:
            with open(NOTES, "a") as notes: notes.write(self.path.split("?")[1] + "\n")
        if path == "/headers":
            return self.reply(json.dumps([[k.lower(), v] for k, v in self.headers.items()] + [["path", self.path]]).encode())
        if path == "/slow":
            time.sleep(float(os.environ.get("SLOW", "1")))
        if path == "/endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 1024)
                time.sleep(0.01)
        if path == "/die":
            os._exit(3)
        if path == "/socket" and self.headers.get("Upgrade"):
            # What comes is sent back in capitals, until nothing comes.
            switch = self.headers["Upgrade"] if "?wrong" not in self.path else "other"
            self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {switch}\r\n\r\n".encode())
            while piece := self.connection.recv(65536):
                self.connection.sendall(piece.upper())
            self.close_connection = True
            return
        if path == "/raw":
            # An answer as the request's query has it, byte by byte.
            said = urllib.parse.unquote_to_bytes(self.path.split("?", 1)[1])
            if b"ENDLESS" in said:
                said, more = said.split(b"ENDLESS")
                self.wfile.write(said)
                while True: self.wfile.write(more * 1000)
            self.wfile.write(said)
            self.close_connection = True
            return
        if path == "/version":
            return self.reply(os.environ.get("SAYS", "?").encode())
        self.reply(b"[1]")
    def do_POST(self):
        if self.path != "/echo":
            for _ in self.body(): pass
            return self.do_GET()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in self.body():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256
Server(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Handler).serve_forever()
"#;

/// A home with `tiny:1`, and `probe:1` and `probe:2`, which are [`SERVER`].
fn probed() -> Home {
    with_probe(Home::warm())
}

fn with_probe(home: Home) -> Home {
    home.build(home.tiny("projects/tiny"));
    probe_project(&home, "projects/probe", "");
    home.build("projects/probe");
    home.run(["tag", "probe:1", "probe:2"]).ok();
    home
}

/// A project of [`SERVER`] as the folder `name`, with more in its manifest.
fn probe_project(home: &Home, name: &str, more: &str) {
    home.write(&format!("{name}/src/server.py"), SERVER);
    let service = if more.contains("service:") { "" } else { "service: {command: [python, src/server.py]}\n" };
    let manifest = format!("name: probe\nversion: \"1\"\npython: {{version: \"3.11\"}}\n{service}{more}");
    home.write(&format!("{name}/ekiben.yaml"), manifest);
    if home.is_a_users() {
        // Whose lock is written there. Not permitted where it is theirs already.
        let _ = chown(home.path(name), Some(USER), Some(USER));
    }
}

/// A file that only its owner can read.
fn write_tokens(home: &Home, text: &str) {
    let path = home.write("tokens", text);
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// A connection on which nothing is waited for without end.
fn connected(address: &str) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// Reads until `text` has come; what came.
fn read_until(connection: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut bytes = [0; 4096];
        let read = connection.read(&mut bytes).unwrap();
        assert!(read > 0, "no `{text}` in: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(seen).unwrap()
}

/// `ekiben serve` that runs.
struct Serving {
    child: Child,
    line: String,
    address: String,
    /// The token of the buttons.
    key: String,
    said: Arc<Mutex<String>>,
}

impl Serving {
    fn start(home: &Home, args: &[&str]) -> Self {
        Self::started(home.command(["serve", "--port", "0"].iter().chain(args)))
    }

    fn of(home: &Home, config: &str) -> Self {
        home.write("serve.yaml", config);
        Self::start(home, &[])
    }

    fn started(mut command: std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut said, mut address, mut key) = (String::new(), String::new(), String::new());
        for text in lines.by_ref() {
            let text = text.unwrap();
            said += &format!("{text}\n");
            if let Some((_, rest)) = text.split_once("Serving http://") {
                address = rest.split([',', ' ']).next().unwrap().to_owned();
            }
            if let Some((_, rest)) = text.split_once("Token ") {
                key = rest.split(' ').next().unwrap().to_owned();
            }
            if text.contains("/-/status") {
                break;
            }
        }
        assert!(!address.is_empty(), "`{}` did not begin:\n{said}", line(&command));
        let (line, said) = (line(&command), Arc::new(Mutex::new(said)));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|text| *heard.lock().unwrap() += &format!("{text}\n"))
        });
        let mut serving = Self { child, line, address, key, said };
        if serving.key.is_empty() && !serving.line.contains("--listen") {
            wait_until("the token of the buttons", || serving.said().contains("Token "));
            let said = serving.said();
            serving.key = said.split_once("Token ").unwrap().1.split(' ').next().unwrap().to_owned();
        }
        serving
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn get(&self, path: &str) -> (u16, String) {
        ask(&self.address, "GET", path, "")
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/-/status").1).unwrap()
    }

    /// What is told of the version `model@tag`.
    fn of_version(&self, name: &str) -> Value {
        let (model, tag) = name.split_once('@').unwrap();
        let status = self.status();
        let models = status["models"].as_array().unwrap();
        let model = models.iter().find(|one| one["name"] == model).unwrap();
        let version = model["versions"].as_array().unwrap().iter().find(|one| one["version"] == tag);
        version.unwrap_or_else(|| panic!("there is no {name}: {status}")).clone()
    }

    fn containers(&self) -> usize {
        let status = self.status();
        let models = status["models"].as_array().unwrap().iter();
        let versions = models.flat_map(|model| model["versions"].as_array().unwrap());
        versions.map(|version| version["containers"].as_array().unwrap().len()).sum()
    }

    fn end(mut self) -> Ran {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        Ran::new(
            self.line.clone(),
            std::process::Output { status, stdout: Vec::new(), stderr: self.said().into_bytes() },
        )
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends bytes, and gives all that comes back until the end.
fn raw(address: &str, request: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // It may be cut off where the request was refused.
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Live processes of containers in a home: supervisors, as each names its folder.
fn supervisors(home: &Home) -> Vec<i32> {
    let folder = home.store().join("containers");
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_ours = |id: &i32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder.to_str().unwrap())
    };
    numbers.filter(is_ours).collect()
}

/// Waits until nothing of these processes is left. One that is ending has no command line any more, and its locks still.
fn await_end(home: &Home, supervisors: &[i32]) {
    let is_over = |id: &i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    };
    let others = || self::supervisors(home).is_empty();
    wait_until("the end of all containers", || supervisors.iter().all(is_over) && others());
}

/// Kills supervisors, without a word.
fn end_all(supervisors: &[i32]) {
    for id in supervisors {
        // It may have ended already.
        let _ = kill(Pid::from_raw(*id), Signal::SIGKILL);
    }
}

fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn images_answer_at_one_address_from_the_first_request_on() {
    [Home::warm(), Home::warm().of_a_user()]
        .into_iter()
        .for_each(|home| answers_from_the_first_request_on(&with_probe(home)));
}

fn answers_from_the_first_request_on(home: &Home) {
    let serving = Serving::start(home, &["tiny", "probe"]);
    assert_eq!(home.containers(), [""; 0], "nobody has asked yet");
    assert_eq!(ask(&serving.address, "POST", "/tiny/predict", r#"{"x": 2}"#), (200, "7.0".to_owned()));
    assert_eq!(at_once(8, |_| serving.get("/probe/version").0), [200; 8]);
    assert_eq!(serving.of_version("probe@2")["starts"], 1, "one start for all who wait");
    assert_eq!(serving.get("/probe@1/version").0, 200);
    let rows = home.run(["ps", "--output", "json"]).ok().json();
    let rows = rows["containers"].as_array().unwrap().iter();
    let mut models: Vec<_> = rows.map(|row| row["model"].as_str().unwrap()).collect();
    models.sort_unstable();
    assert_eq!(models, ["probe@1", "probe@2", "tiny@1"]);
    assert!(home.run(["ps"]).ok().out.contains("probe@2"));
    let metrics = serving.get("/-/metrics").1;
    assert!(metrics.contains(r#"ekiben_serve_requests_total{model="probe",version="2",code="200"} 8"#), "{metrics}");
    // Nothing of the store is held while nothing is started, so that others can tidy it; what runs goes on.
    home.run(["prune"]).ok();
    assert_eq!(serving.get("/probe/version").0, 200);
    // By host, also with the name of the model alone.
    let answer =
        raw(&serving.address, "GET /version HTTP/1.1\r\nhost: probe.example.com:80\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('?'), "{answer}");
    for (path, status) in [("/", 404), ("/tinny/", 404), ("/tiny@7/", 404), ("/tiny/../probe/", 400), ("/tiny", 308)] {
        assert_eq!(serving.get(path).0, status, "{path}");
    }
    assert!(serving.get("/tinny/").1.contains("did you mean `/tiny/`?"));
    serving.end().ok();
    assert_eq!(home.stored("containers"), [""; 0]);
}

/// An archive of the kind DOCKER_LAYERS, from the archive to answers: its own server, told by its own description.
#[test]
fn a_server_that_says_nothing_of_itself_is_described_by_its_image() {
    let home = Home::empty();
    home.write("page/index.html", "the model");
    let dockerfile = r#"FROM scratch AS unused
FROM scratch AS served
COPY --chmod=755 busybox /bin/busybox
COPY index.html /www/
EXPOSE 8089
STOPSIGNAL SIGKILL
WORKDIR /www
USER 1034
CMD ["/bin/busybox", "httpd", "-f", "-p", "8089", "-h", "/www"]
"#;
    for name in ["inline", "file"] {
        let inline = name == "inline";
        let api = json!({ "openapi": "3.0.3", "info": { "title": "Served", "version": "1" }, "paths": { "/": {} } });
        let described = if inline { api.clone() } else { json!("docs/api.yaml") };
        let manifest = json!({
            "name": name, "version": 3,
            "modelData": { "type": "DOCKER_LAYERS", "payload": {
                "layers": [{ "name": "served" }], "envVars": { "LEVEL": "1" }, "openapi": described,
            } },
        });
        home.write(&format!("{name}/manifest.json"), manifest.to_string());
        home.write(&format!("{name}/Dockerfile"), dockerfile);
        home.write(&format!("{name}/index.html"), "the model");
        if !inline {
            home.write("file/docs/api.yaml", "openapi: 3.0.3\ninfo: {title: Served, version: '1'}\npaths: {/: {}}\n");
        }
        fs::copy(crate::home::images::busybox(), home.path(&format!("{name}/busybox"))).unwrap();
        home.run(["validate", name]).ok();
        home.build(name);
        let image = home.run(["inspect", &format!("{name}:3"), "--output", "json"]).ok().json();
        assert!(image.to_string().contains("LEVEL=1"), "{image}");

        let serving = Serving::start(&home, &[name]);
        let (status, page) = serving.get(&format!("/{name}/"));
        assert_eq!((status, page.as_str()), (200, "the model"));
        let (status, told) = serving.get(&format!("/{name}/openapi.json"));
        assert_eq!((status, serde_json::from_str::<Value>(&told).unwrap()), (200, api));
        // Of anything else, and of any other method, the server itself says that it is not there.
        assert_eq!(serving.get(&format!("/{name}/openapi.yaml")).0, 404);
        assert_ne!(ask(&serving.address, "POST", &format!("/{name}/openapi.json"), "{}").0, 200);
        serving.end().ok();
    }
}

#[test]
fn what_is_for_one_connection_goes_no_further_and_nobody_says_twice_how_long_a_request_is() {
    let home = probed();
    let serving = Serving::start(&home, &["probe"]);
    let request = "GET /probe/headers?a HTTP/1.1\r\nhost: here:1\r\nconnection: close, x-mine\r\nx-mine: 1\r\n\
                   te: trailers\r\nproxy-authorization: x\r\nx-forwarded-for: 9.9.9.9\r\nforwarded: for=9.9.9.9\r\n\
                   x-real-ip: 9.9.9.9\r\nupgrade: h2c\r\nauthorization: Bearer theirs\r\nx-kept: yes\r\n\r\n";
    let answer = raw(&serving.address, request);
    let headers: Vec<(String, String)> = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let headers: BTreeMap<_, _> = headers.into_iter().collect();
    let seen: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        seen,
        [
            "authorization: Bearer theirs",
            "host: here:1",
            "path: /headers?a",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: here:1",
            "x-forwarded-prefix: /probe",
            "x-forwarded-proto: http",
            "x-kept: yes",
        ]
    );
    for (request, status) in [
        ("POST /probe/ HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd", 400),
        ("POST /probe/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("GET /probe/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET /probe/ HTTP/1.1\r\n\r\n", 400),
        ("GET /probe/ HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET /probe/ HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 400),
    ] {
        let answer = raw(&serving.address, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
    // Of two lengths the chunks count, as RFC 9112 has it, here and at the model; and the connection ends with the answer.
    for lengths in
        ["transfer-encoding: chunked\r\ncontent-length: 5", "content-length: 5\r\ntransfer-encoding: chunked"]
    {
        let two = format!(
            "POST /probe/headers HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n0\r\n\r\nGET /probe/version HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let answer = raw(&serving.address, &two);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(!answer.contains("content-length\""), "the model was told another length: {answer}");
    }
}

#[test]
fn bodies_pass_through_piece_by_piece() {
    let home = probed();
    let serving = Serving::start(&home, &["probe"]);
    assert_eq!(serving.get("/probe/version").0, 200);
    let mut connection = TcpStream::connect(&serving.address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(b"POST /probe/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let mut seen = String::new();
    for piece in ["first", "second", "third"] {
        // Each comes back before the next is sent.
        write!(connection, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
        while !seen.contains(piece) {
            let mut bytes = [0; 1024];
            let read = connection.read(&mut bytes).unwrap();
            assert!(read > 0, "{seen}");
            seen += std::str::from_utf8(&bytes[..read]).unwrap();
        }
    }
    // A caller who leaves ends the request, also one whose answer has begun.
    let within = || serving.of_version("probe@2")["containers"][0]["within"].as_u64().unwrap();
    let mut leaving = TcpStream::connect(&serving.address).unwrap();
    leaving.write_all(b"GET /probe/endless HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    leaving.read_exact(&mut [0; 4096]).unwrap();
    assert!(within() > 0);
    drop((leaving, connection));
    wait_until("the end of what nobody listens to", || within() == 0);
    // Of a large body nothing is kept here.
    let megabyte = vec![b'x'; 1 << 20];
    let mut connection = TcpStream::connect(&serving.address).unwrap();
    let head =
        format!("POST /probe/sink HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", 200 << 20);
    connection.write_all(head.as_bytes()).unwrap();
    (0..200).for_each(|_| connection.write_all(&megabyte).unwrap());
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let status = fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    assert!(most < 120 << 10, "{most} KiB");
}

#[test]
fn a_model_is_ended_when_it_was_idle_and_started_again() {
    let home = probed();
    let serving = Serving::of(&home, "models: {probe: {image: 'probe:1', timeout: 4, env: {SLOW: '6'}}}");
    // Longer than the timeout: what has a request is not idle.
    assert_eq!(serving.get("/probe/slow").0, 200);
    assert_eq!(serving.containers(), 1);
    wait_until("the end of an idle container", || serving.containers() == 0);
    assert_eq!(home.stored("containers"), [""; 0]);
    assert_eq!(serving.get("/probe/version").0, 200);
    assert_eq!(serving.of_version("probe@1")["starts"], 2);
}

#[test]
fn immediate_has_a_container_for_each_request_and_none_after() {
    let home = probed();
    let config = "models: {probe: {image: 'probe:1', timeout: 0, concurrency: 4, queue: 8, env: {SLOW: '3'}}}";
    let serving = Serving::of(&home, config);
    let most = std::thread::scope(|scope| {
        let asking = scope.spawn(|| at_once(8, |_| serving.get("/probe/slow").0));
        let mut most = 0;
        while !asking.is_finished() {
            most = most.max(serving.containers());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(asking.join().unwrap(), [200; 8]);
        most
    });
    assert_eq!(most, 4, "no more than may be at once, and as many as that");
    assert_eq!(serving.of_version("probe@1")["starts"], 8);
    wait_until("the end of all containers", || serving.containers() == 0);
    // Nine want eight places to wait, in which one is also while its container starts.
    let mut statuses = at_once(9, |_| serving.get("/probe/slow").0);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 503]);
    // Whoever leaves while a container starts leaves none.
    let mut leaving = TcpStream::connect(&serving.address).unwrap();
    leaving.write_all(b"GET /probe/slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    drop(leaving);
    wait_until("the end of all containers", || serving.containers() == 0 && supervisors(&home).is_empty());
}

#[test]
fn nothing_is_left_of_a_killed_serve_and_the_next_one_goes_on() {
    let home = probed();
    let mut serving = Serving::start(&home, &["probe", "tiny"]);
    assert_eq!((serving.get("/probe/version").0, serving.get("/tiny/livez").0), (200, 200));
    let supervisors_before = supervisors(&home);
    serving.child.kill().unwrap();
    await_end(&home, &supervisors_before);
    // All at once, as when the machine is short of memory.
    let mut serving = Serving::start(&home, &["probe", "tiny"]);
    assert_eq!(home.stored("containers"), [""; 0], "what was left is tidied away");
    assert_eq!((serving.get("/probe/version").0, serving.get("/tiny/livez").0), (200, 200));
    let supervisors_now = supervisors(&home);
    assert!(supervisors_now.len() >= 2, "{supervisors_now:?}");
    serving.child.kill().unwrap();
    end_all(&supervisors_now);
    await_end(&home, &supervisors_now);
    let serving = Serving::start(&home, &["probe"]);
    assert_eq!(home.stored("containers"), [""; 0]);
    assert_eq!(serving.get("/probe/version").0, 200);
    serving.end().ok();
}

#[test]
fn each_request_is_answered_once_while_containers_are_killed() {
    let home = probed();
    let notes = home.write("notes/all", "");
    fs::set_permissions(home.path("notes"), PermissionsExt::from_mode(0o777)).unwrap();
    fs::set_permissions(&notes, PermissionsExt::from_mode(0o666)).unwrap();
    let config = format!(
        "models: {{probe: {{image: 'probe:1', env: {{NOTES: /notes/all, SLOW: '0.05'}}, volumes: ['{}:/notes']}}}}",
        home.path("notes")
    );
    let serving = Serving::of(&home, &config);
    assert_eq!(serving.get("/probe/version").0, 200);
    let statuses = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            at_once(8, |thread| {
                (0..60)
                    .map(|number| (serving.get(&format!("/probe/slow?{thread}-{number}")), thread, number))
                    .collect::<Vec<_>>()
            })
        });
        while !asking.is_finished() {
            std::thread::sleep(Duration::from_millis(500 + fastrand::u64(..1500)));
            end_all(&supervisors(&home));
            // One that is killed each time before it answers is given up.
            std::thread::sleep(Duration::from_millis(200));
            wait_until("the next one", || asking.is_finished() || serving.of_version("probe@1")["state"] == "ready");
        }
        asking.join().unwrap()
    });
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    let noted = fs::read_to_string(notes).unwrap();
    for ((status, body), thread, number) in statuses.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
        let seen = noted.lines().filter(|line| *line == format!("{thread}-{number}")).count();
        match status {
            200 => assert_eq!(seen, 1),
            502 | 503 => {
                let body: Value = serde_json::from_str(&body).unwrap();
                assert!(body["reason"].is_string() && body["detail"].is_string() && seen <= 1, "{body}");
            }
            _ => panic!("{status}: {body}"),
        }
    }
    assert!(counts[&200] > 240, "{counts:?}\n{}", serving.said());
    assert!(serving.of_version("probe@1")["deaths"].as_u64().unwrap() > 0);
    serving.end().ok();
    assert_eq!(home.stored("containers"), [""; 0]);
}

/// Says that something is done when it is dropped.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_new_configuration_replaces_what_runs_and_drops_no_request() {
    let home = probed();
    let config = |says: &str| {
        format!(
            "models: {{probe: {{image: 'probe:1', strategy: ALWAYS_ON, timeout: 0.5, env: {{SAYS: {says}, SLOW: '0.2'}}}}}}"
        )
    };
    let serving = Serving::of(&home, &config("one"));
    // Without a request.
    wait_until("the start of what is always on", || serving.of_version("probe@1")["state"] == "ready");
    assert_eq!(serving.get("/probe/version").1, "one");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            at_once(4, |_| {
                let mut statuses = BTreeMap::new();
                while !done.load(Ordering::Relaxed) {
                    *statuses.entry(serving.get("/probe/slow").0).or_insert(0) += 1;
                }
                statuses
            })
        });
        // Also where the test fails.
        let done = Done(&done);
        for says in ["two", "three"] {
            home.write("serve.yaml", config(says));
            wait_until("the new version", || serving.get("/probe/version").1 == says);
        }
        // Mistakes change nothing.
        home.write("serve.yaml", "models: {probe: {imag: x}}");
        wait_until("a warning", || serving.said().contains("stay as they were"));
        assert!(serving.said().contains("(1:18: "), "{}", serving.said());
        // One that does not start does not take the place of one that does.
        home.write(
            "serve.yaml",
            config("four").replace("SLOW", "BROKEN: '1', SLOW").replace("strategy", "start: 1, strategy"),
        );
        wait_until("a warning", || serving.said().contains("does not start"));
        assert_eq!(serving.get("/probe/version").1, "three");
        drop(done);
        for statuses in asking.join().unwrap() {
            assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
        }
    });
    // A removal ends it, and SIGHUP is heard too.
    home.write("serve.yaml", "models: {other: {image: tiny}}");
    serving.signal(Signal::SIGHUP);
    wait_until("the end of what was removed", || serving.get("/probe/version").0 == 404 && serving.containers() == 0);
    assert_eq!(serving.get("/other/livez").0, 200);
    serving.end().ok();
}

#[test]
fn a_new_version_in_the_store_is_taken_up_and_drops_no_request() {
    let home = probed();
    home.write("serve.yaml", "models: {probe: {image: probe, start: 10, env: {SLOW: '0.1'}}}");
    let serving = Serving::start(&home, &["--follow"]);
    assert_eq!(serving.get("/probe/version").0, 200);
    assert_eq!(serving.of_version("probe@2")["requests"], 1, "the newest");
    // Of a version that never answers, and of one that ends at once.
    probe_project(&home, "projects/broken", "env: {BROKEN: '1'}\n");
    probe_project(&home, "projects/ending", "service: {command: [python, -c, 'raise SystemExit(3)', src/server.py]}\n");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            at_once(4, |_| {
                let mut statuses = BTreeMap::new();
                while !done.load(Ordering::Relaxed) {
                    *statuses.entry(serving.get("/probe/slow").0).or_insert(0) += 1;
                }
                statuses
            })
        });
        let done = Done(&done);
        home.run(["tag", "probe:1", "probe:10"]).ok();
        let current = || serving.status()["models"][0]["current"].as_str().unwrap().to_owned();
        wait_until("the new version", || current() == "10");
        for (folder, tag, why) in
            [("broken", "11", "did not become ready within 10 s (/readyz)"), ("ending", "12", "ended")]
        {
            home.run(["build", &format!("projects/{folder}"), "-t", &format!("probe:{tag}")]).ok();
            let told = || {
                let said = serving.said();
                let mut lines = said
                    .lines()
                    .filter(|line| line.contains(&format!("probe@10 goes on, as probe@{tag} does not start")));
                lines.any(|line| line.contains(why))
            };
            wait_until("a warning", told);
            assert_eq!(current(), "10");
            assert_eq!(serving.status()["models"][0]["next"], tag);
        }
        home.run(["tag", "probe:1", "probe:13"]).ok();
        wait_until("the next one", || current() == "13");
        drop(done);
        for statuses in asking.join().unwrap() {
            assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
        }
    });
    wait_until("the end of the old one", || {
        serving.of_version("probe@10")["containers"].as_array().unwrap().is_empty()
    });
    assert_eq!(serving.get("/probe@2/version").0, 200, "it can still be asked for");
    serving.end().ok();
}

/// The status of an answer, which has to be one alone.
#[track_caller]
fn only_status(request: &str, answer: &str) -> u16 {
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{request:?} has two answers: {answer}");
    answer.split(' ').nth(1).unwrap_or("0").parse().unwrap()
}

#[test]
fn what_could_be_read_in_two_ways_is_read_once_or_refused() {
    let home = probed();
    let notes = home.write("notes/all", "");
    fs::set_permissions(home.path("notes"), PermissionsExt::from_mode(0o777)).unwrap();
    fs::set_permissions(&notes, PermissionsExt::from_mode(0o666)).unwrap();
    let volumes = format!("env: {{NOTES: /notes/all}}, volumes: ['{}:/notes']", home.path("notes"));
    home.write("serve.yaml", format!("models: {{probe: {{image: 'probe:1', {volumes}}}, tiny: {{image: tiny}}}}"));
    let serving = Serving::start(&home, &["--idle", "2"]);
    assert_eq!(serving.get("/probe/version").0, 200);
    let within = "GET /probe/version?smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let chunked = "transfer-encoding: chunked";
    let long = "x".repeat(100 << 10);
    let many = "x: y\r\n".repeat(200);
    for (head, body, statuses) in [
        // RFC 9112, 6.3: the chunks count, and the connection ends.
        (&*format!("{chunked}\r\ncontent-length: 60\r\n"), format!("0\r\n\r\n{within}"), &[200][..]),
        (&format!("content-length: 5\r\n{chunked}\r\n"), format!("0\r\n\r\n{within}"), &[200]),
        ("transfer-encoding: xchunked\r\ncontent-length: 5\r\n", format!("0\r\n\r\n{within}"), &[400]),
        (&format!("{chunked}\r\ntransfer-encoding: identity\r\n"), format!("0\r\n\r\n{within}"), &[400]),
        ("transfer-encoding : chunked\r\n", format!("0\r\n\r\n{within}"), &[400]),
        ("transfer-encoding: \u{b}chunked\r\n", format!("0\r\n\r\n{within}"), &[400]),
        ("content-length: 5\r\ncontent-length: 6\r\n", format!("abcde{within}"), &[400]),
        ("content-length: 5, 6\r\n", format!("abcde{within}"), &[400]),
        ("content-length: +5\r\n", format!("abcde{within}"), &[400]),
        ("content-length: 0x5\r\n", format!("abcde{within}"), &[400]),
        ("content-length: -1\r\n", within.to_owned(), &[400]),
        ("content-length: 99999999999999999999\r\n", within.to_owned(), &[400]),
        ("x: 1\r\n  content-length: 5\r\n", within.to_owned(), &[400]),
        ("x: a\rcontent-length: 5\r\n", within.to_owned(), &[400]),
        ("x: a\0b\r\n", within.to_owned(), &[400]),
        (&format!("{chunked}\r\n"), format!("0x5\r\nabcde\r\n0\r\n\r\n{within}"), &[400]),
        (&format!("{chunked}\r\n"), format!("fffffffffffffffff\r\nabc{within}"), &[400]),
        (&format!("{chunked}\r\n"), format!("3\r\nabcde\r\n0\r\n\r\n{within}"), &[400]),
        (&format!("{chunked}\r\n"), format!("5;\nabcde\r\n0\r\n\r\n{within}"), &[400]),
        (&format!("{chunked}\r\n"), format!("5;{}\r\nabcde\r\n0\r\n\r\n{within}", "e".repeat(64 << 10)), &[400]),
        (&format!("x: {long}\r\n"), String::new(), &[431]),
        (&many, String::new(), &[431]),
    ] {
        let request = format!("POST /probe/sink HTTP/1.1\r\nhost: a\r\n{head}connection: close\r\n\r\n{body}");
        let answer = raw(&serving.address, &request);
        let status = only_status(&request, &answer);
        assert!(statuses.contains(&status), "{head:?} {body:?}: {answer}");
    }
    // One of which the rest comes in one piece is too large just so, whatever the model thinks of it.
    let mut connection = connected(&serving.address);
    let head = format!(
        "GET /probe/version HTTP/1.1\r\nhost: a\r\nx: {0}\r\ny: {0}\r\nconnection: close\r\n\r\n",
        &long[..35 << 10]
    );
    let (first, rest) = head.split_at(60 << 10);
    connection.write_all(first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    connection.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer);
    assert_eq!(only_status("a large head", &answer), 431, "{answer}");
    for (request, statuses) in [
        ("GET /probe/version\r\n\r\n".to_owned(), &[0, 400][..]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[0, 400]),
        (format!("GET /probe/{long} HTTP/1.1\r\nhost: a\r\n\r\n"), &[414, 431]),
        ("GET /probe/ HTTP/1.1\r\nhost: probe/../tiny\r\n\r\n".to_owned(), &[400]),
        ("GET /probe/ HTTP/1.1\r\nhost: probe@tiny\r\n\r\n".to_owned(), &[400]),
        ("GET /probe/ HTTP/1.1\r\nhost: [::1\r\n\r\n".to_owned(), &[400]),
        ("GET http://u:p@probe.a/ HTTP/1.1\r\nhost: probe.a\r\n\r\n".to_owned(), &[400]),
        ("GET /probe/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".to_owned(), &[400]),
    ] {
        let status = only_status(&request, &raw(&serving.address, &request));
        assert!(statuses.contains(&status), "{request:?}: {status}");
    }
    // No path leads out of a model.
    for path in [
        "/probe/../tiny/livez",
        "/probe/%2e%2e/tiny/livez",
        "/probe/..%2ftiny/livez",
        "/probe/%2E%2E%2Ftiny/livez",
        "/probe/.%2e/tiny/livez",
        "/probe/..;/tiny/livez",
        "/probe\\..\\tiny\\livez",
        "/probe/..%5ctiny/livez",
        "/%2e%2e/-/status",
        "/probe/a/../../-/status",
        "/./probe/version",
    ] {
        assert_eq!(serving.get(path).0, 400, "{path}");
    }
    for path in ["//-/status", "//probe/version", "/-//status", "/PROBE/version", "/probe%2fversion"] {
        assert_eq!(serving.get(path).0, 404, "{path}");
    }
    // Of two hosts the one in the target counts, here and at the model.
    let seen =
        raw(&serving.address, "GET http://probe.a:1/headers HTTP/1.1\r\nhost: tiny.b\r\nconnection: close\r\n\r\n");
    assert!(seen.contains(r#"["host", "probe.a:1"]"#) && !seen.contains("tiny.b"), "{seen}");
    // One after the other, in one piece; and as HTTP/1.0 has it.
    let two = "GET /probe/headers?1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /probe/echo HTTP/1.1\r\nhost: a\r\nconnection: close, content-length\r\ncontent-length: 4\r\n\r\nbody";
    let answers = raw(&serving.address, two);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert!(answers.contains("/headers?1") && answers.contains("4\r\nbody\r\n"), "{answers}");
    let old = raw(&serving.address, "GET /probe/version HTTP/1.0\r\n\r\nGET /probe/version?smuggled HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200") && old.matches("HTTP/1.0").count() == 1, "{old}");
    let mut kept = connected(&serving.address);
    for _ in 0..2 {
        kept.write_all(b"GET /probe/version HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").unwrap();
        assert!(read_until(&mut kept, "?").contains("connection: keep-alive"));
    }
    let noted = fs::read_to_string(notes).unwrap();
    assert!(!noted.contains("smuggled"), "{noted}");
}

#[test]
fn who_is_slow_keeps_nothing_from_others() {
    let home = probed();
    home.write("serve.yaml", "models: {probe: {image: 'probe:1', concurrency: 1}}");
    let serving = Serving::start(&home, &["--idle", "1"]);
    assert_eq!(serving.get("/probe/version").0, 200);
    let ends = |request: &[u8]| {
        let mut connection = connected(&serving.address);
        connection.write_all(request).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    for request in [&b""[..], b"G", b"GET /probe/version HTTP/1.1\r\nhost: a\r\nx"] {
        let answer = ends(request);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    // Of a body something has to come; then the place that it had is free.
    let answer = ends(b"POST /probe/sink HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"slow\""), "{answer}");
    assert_eq!(serving.get("/probe/version").0, 200);
    // Whoever does not take their answer does not keep it coming.
    let mut idle = connected(&serving.address);
    idle.write_all(b"GET /probe/endless HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(serving.get("/probe/version").0, 200, "who waits gets the place");
    drop(idle);
    // What is slow at the model's side is not the caller's fault.
    let home_config = "models: {probe: {image: 'probe:1', env: {SLOW: '3'}}}";
    home.write("serve.yaml", home_config);
    wait_until("the new configuration", || serving.said().matches("Loaded").count() > 1);
    assert_eq!(serving.get("/probe/slow").0, 200);
}

#[test]
fn a_hostile_container_hurts_none_but_its_own_callers() {
    let home = probed();
    let serving = Serving::of(&home, "models: {probe: {image: 'probe:1', answer: 4}}");
    assert_eq!(serving.get("/probe/version").0, 200);
    let given = |answer: &str| {
        let query: String = answer
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
            .replace("%45%4e%44%4c%45%53%53", "ENDLESS");
        raw(&serving.address, &format!("GET /probe/raw?{query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"))
    };
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", 200),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            200,
        ),
        ("HTTP/1.1 200 OK\r\nconnection: x-own\r\nx-own: evil\r\nkeep-alive: 1\r\ncontent-length: 2\r\n\r\nok", 200),
        ("HTTP/1.0 200 OK\r\n\r\nok", 200),
        ("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", 204),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nevil", 502),
        ("HTTP/1.1 200 OK\r\nx: a\rset-cookie: evil\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nx: a\r\n evil: b\r\n\r\n", 502),
        ("HTTP/2 200 evil\r\n\r\n", 502),
        ("evil\r\n\r\n", 502),
        ("", 502),
        ("HTTP/1.1 200 OK\r\nENDLESSx: evil\r\n", 502),
        ("HTTP/1.1 200 OK\r\nx: ENDLESSevil", 502),
        ("HTTP/1.1 ENDLESS2", 502),
        ("ENDLESSHTTP/1.1 103 evil\r\n\r\n", 504),
    ] {
        let seen = given(answer);
        assert_eq!(only_status(answer, &seen), status, "{answer:?}: {seen}");
        assert!(!seen.contains("evil"), "{answer:?}: {seen}");
        assert!(
            status != 200 || seen.ends_with("ok") || seen.ends_with("\r\n2\r\nok\r\n0\r\n\r\n"),
            "{answer:?}: {seen}"
        );
        // Whoever asks next is answered. A request may meet the connection that the model ended just then without having said so,
        // and is given to nobody twice.
        wait_until("an answer to whoever asks next", || serving.get("/probe/version").0 == 200);
    }
    let head = raw(&serving.address, "HEAD /probe/version HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 5") || head.ends_with("\r\n\r\n"), "{head}");
    let status = fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    assert!(most < 120 << 10, "{most} KiB");
}

#[test]
fn a_model_that_does_not_start_is_tried_again_after_pauses_and_told() {
    let home = probed();
    let config = "models:\n  probe: {image: 'probe:1', start: 1, env: {BROKEN: '1'}}\n  gone: {image: 'gone:1'}\n";
    let serving = Serving::of(&home, config);
    let started = Instant::now();
    let (status, body) = serving.get("/probe/version");
    assert_eq!((status, body.contains("\"reason\":\"start\"")), (503, true), "{body}");
    assert!(started.elapsed() >= Duration::from_secs(1));
    // At once, as nothing is tried in the pause.
    assert_eq!(serving.get("/probe/version").0, 503);
    let version = serving.of_version("probe@1");
    let why = version["last_failure"]["why"].as_str().unwrap();
    assert!(why.contains("/readyz"), "{why}");
    assert_eq!(version["state"], "failed");
    wait_until("where its log is", || serving.said().contains("has what it said last"));
    assert!(serving.get("/gone/").1.contains("not in the store"));
    assert!(serving.said().contains("there is no image `gone:1`"), "{}", serving.said());
    wait_until("nothing left", || serving.containers() == 0);
}

#[test]
fn the_limit_of_memory_ends_the_longest_idle_first() {
    let home = probed();
    let model = |name: &str| format!("  {name}: {{image: 'probe:1', memory: 100Mi}}\n");
    let config = format!(
        "memory: 250Mi\nmodels:\n{}{}{}  huge: {{image: 'probe:1', memory: 1Gi}}\n",
        model("a"),
        model("b"),
        model("c")
    );
    let serving = Serving::of(&home, &config);
    for name in ["a", "b", "a", "c"] {
        assert_eq!(serving.get(&format!("/{name}/version")).0, 200, "{name}");
    }
    let states: Vec<_> = ["a@1", "b@1", "c@1"].iter().map(|name| serving.of_version(name)["state"].clone()).collect();
    assert_eq!(states, ["ready", "idle", "ready"]);
    assert_eq!(serving.status()["memory"]["claimed"], 200 << 20);
    assert!(serving.get("/huge/").1.contains("\"reason\":\"memory\""));
}

#[test]
fn whoever_may_be_reached_by_others_wants_a_token() {
    let home = probed();
    home.run(["serve", "probe", "--listen", "127.0.0.1:0"]).ends(2).says("a token is needed").says("--open");
    write_tokens(&home, "short\n");
    home.run(["serve", "probe", "--listen", "127.0.0.1:0", "--token-file", "tokens"]).ends(2).says("tokens:1");
    let token = "0123456789abcdef0123456789abcdef";
    home.write("tokens", format!("# ours\n{token}\n"));
    for mode in [0o644, 0o660] {
        fs::set_permissions(home.path("tokens"), PermissionsExt::from_mode(mode)).unwrap();
        let refused = home.run(["serve", "probe", "--listen", "127.0.0.1:0", "--token-file", "tokens"]).ends(2);
        assert!(!refused.says("chmod 600 tokens").err.contains(token));
    }
    fs::set_permissions(home.path("tokens"), PermissionsExt::from_mode(0o600)).unwrap();
    let command = home.command(["serve", "probe", "--listen", "127.0.0.1:0", "--token-file", "tokens"]);
    let serving = Serving::started(command);
    let with = |path: &str, method: &str, token: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n");
        raw(&serving.address, &format!("{head}authorization: Bearer {token}\r\n\r\n"))
    };
    for path in ["/probe/version", "/-/metrics", "/-/status", "/nothing/"] {
        assert_eq!(serving.get(path).0, 401, "{path}");
        assert!(with(path, "GET", "0123456789abcdef0123456789abcdee").starts_with("HTTP/1.1 401"), "{path}");
    }
    assert_eq!(serving.get("/-/healthz").0, 200);
    let seen = with("/probe/headers", "GET", token);
    assert!(seen.starts_with("HTTP/1.1 200") && !seen.contains(token), "the token is not for the model: {seen}");
    assert!(with("/-/status", "GET", token).contains("\"probe\""));
    // The page itself holds nothing, and needs nothing from elsewhere.
    let page =
        raw(&serving.address, "GET /-/status HTTP/1.1\r\nhost: a\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-security-policy"), "{page}");
    assert!(
        !page.contains("probe") && !page.contains("http://") && !page.contains("https://")
            || page.contains("www.w3.org")
    );
    assert!(with("/-/models/probe/stop", "POST", token).starts_with("HTTP/1.1 200"));
    wait_until("the end", || !with("/-/status", "GET", token).contains("\"containers\":[{"));
    // Other tokens in the file count as soon as they are there; one that others can read changes nothing.
    let other = "fedcba9876543210fedcba9876543210";
    home.write("tokens", format!("{other}\n"));
    wait_until("the new token", || with("/probe/version", "GET", token).starts_with("HTTP/1.1 401"));
    assert!(with("/probe/version", "GET", other).starts_with("HTTP/1.1 200"));
    let readable = home.write("readable", format!("{token}\n# for all\n"));
    fs::set_permissions(&readable, PermissionsExt::from_mode(0o644)).unwrap();
    fs::rename(readable, home.path("tokens")).unwrap();
    wait_until("a warning", || serving.said().contains("the tokens stay as they were"));
    assert!(with("/probe/version", "GET", other).starts_with("HTTP/1.1 200"));
    // Nowhere is one shown.
    let status = with("/-/status", "GET", other);
    let rows = home.run(["ps", "--output", "json"]).ok().out;
    let lines: Vec<_> =
        fs::read_dir("/proc").unwrap().filter_map(|it| fs::read(it.ok()?.path().join("cmdline")).ok()).collect();
    let everything = [serving.said().into_bytes(), status.into_bytes(), rows.into_bytes(), lines.concat()].concat();
    let everything = String::from_utf8_lossy(&everything);
    assert!(!everything.contains(token) && !everything.contains(other));
    drop(serving);

    let refused =
        home.command(["serve", "probe", "--listen", "127.0.0.1:0", "--open"]).env("EKIBEN_TOKEN", token).output();
    let said = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(said.contains("lets everybody in") && !said.contains(token), "{said}");

    let serving = Serving::start(&home, &["probe"]);
    let press = |token: &str| {
        let head = "POST /-/models/probe@1/start HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n";
        raw(&serving.address, &format!("{head}authorization: Bearer {token}\r\n\r\n"))
    };
    assert!(press("").starts_with("HTTP/1.1 401"), "buttons want a token where nothing else does");
    assert!(press(&serving.key).starts_with("HTTP/1.1 200"));
    wait_until("the start", || serving.of_version("probe@1")["state"] == "ready");
}

#[test]
fn requests_in_hand_end_before_serve_does() {
    let home = probed();
    let serving = Serving::of(&home, "models: {probe: {image: 'probe:1', env: {SLOW: '5'}}}");
    assert_eq!(serving.get("/probe/version").0, 200);
    let address = serving.address.clone();
    let asking = std::thread::spawn(move || ask(&address, "GET", "/probe/slow", ""));
    wait_until("the request", || serving.of_version("probe@1")["containers"][0]["within"] == 1);
    let address = serving.address.clone();
    serving.end().ok();
    assert_eq!(asking.join().unwrap().0, 200);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(home.stored("containers"), [""; 0]);
}

#[test]
fn a_schedule_opens_and_closes_a_model() {
    let home = probed();
    // The hours of a day that this moment is in the middle of, and those that it is not.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let hour = |shift: i8| (i16::from(now.hour()) + i16::from(shift)).rem_euclid(24);
    let schedule = |start: i8, stop: i8| {
        format!("{{start: '30 {} * * *', stop: '30 {} * * *', zone: UTC}}", hour(start), hour(stop))
    };
    let config = format!(
        "models:\n  open: {{image: 'probe:1', schedule: {}}}\n  closed: {{image: 'probe:1', strategy: ALWAYS_ON, schedule: {}}}\n\
         \x20 asked: {{image: 'probe:1', schedule: {}}}\n",
        schedule(-3, 3),
        schedule(3, -3),
        schedule(3, -3)
    );
    let serving = Serving::of(&home, &config);
    wait_until("the start", || serving.of_version("open@1")["state"] == "ready");
    let (status, body) = serving.get("/closed/version");
    assert_eq!((status, body.contains("out-of-hours")), (503, true), "{body}");
    assert_eq!(serving.get("/asked/version").0, 200, "out of its hours it is started when somebody asks");
}

#[test]
fn projects_are_built_at_the_start_and_served_beside_images() {
    let home = Home::warm();
    let tiny = home.tiny("tiny");
    home.run(["pack", "tiny", "-o", "packed.ekiben"]).ok();
    probe_project(&home, "models/probe", "");
    let ask_tiny = |serving: &Serving, path: &str| ask(&serving.address, "POST", path, r#"{"x": 2}"#);
    // Named as `ekiben run` has it; and the one of the current folder.
    for (args, folder) in [(&["./tiny"][..], "."), (&["packed.ekiben"], "."), (&[], "tiny")] {
        let mut command = home.command(["serve", "--port", "0"].iter().chain(args));
        command.current_dir(home.path(folder));
        let serving = Serving::started(command);
        assert_eq!(ask_tiny(&serving, "/tiny/predict"), (200, "7.0".to_owned()), "{args:?}\n{}", serving.said());
        serving.end().ok();
    }
    // One that has changed since is built again when it starts, and not before.
    let code = fs::read_to_string(tiny.join("src/predict.py")).unwrap();
    fs::write(tiny.join("src/predict.py"), format!("{code}\ndef predict(x: float) -> float:\n    return x * 100\n"))
        .unwrap();
    let config = "models:\n  small: {project: tiny}\n  other: {project: ./models/probe, env: {SAYS: hello}}\n";
    let serving = Serving::of(&home, config);
    assert!(serving.said().contains("Built"), "{}", serving.said());
    assert_eq!(ask_tiny(&serving, "/small/predict").1, "200.0");
    assert_eq!(serving.get("/other/version").1, "hello");
    fs::write(tiny.join("src/predict.py"), code).unwrap();
    home.write("serve.yaml", format!("{config}  third: {{project: models/probe, env: {{SAYS: third}}}}\n"));
    wait_until("the new model", || serving.get("/third/version").1 == "third");
    assert_eq!(ask_tiny(&serving, "/small/predict").1, "200.0");
    // What cannot be built changes nothing; at the start, it says why.
    home.write("broken/ekiben.yaml", "name: broken\nservce: {}\n");
    home.write("serve.yaml", format!("{config}  fourth: {{project: broken}}\n"));
    wait_until("a warning", || serving.said().contains("the models stay as they were: broken has"));
    assert_eq!(serving.get("/third/version").1, "third");
    serving.end().ok();
    home.run(["serve", "--port", "0"]).ends(3).says("did you mean `service`?");
}

#[test]
fn what_the_manifest_says_of_how_it_is_run_counts_unless_the_configuration_says_otherwise() {
    let home = Home::warm();
    let more = "service: {command: [python, src/server.py], ready: /version, grace: 20s}\nresources: {memory: 200Mi, cpus: 0.5}\n";
    probe_project(&home, "probe", more);
    home.build("probe");
    // Its `/readyz` is never ready.
    let config = "memory: 1Gi\nmodels:\n  own: {image: probe, env: {BROKEN: '1'}}\n  other: {image: probe, memory: 300Mi}\n  \
                  wrong: {image: probe, ready: /readyz, start: 1, env: {BROKEN: '1'}}\n";
    let serving = Serving::of(&home, config);
    assert_eq!(serving.get("/own/version").0, 200);
    assert_eq!(serving.status()["memory"]["claimed"], 200 << 20);
    assert_eq!(serving.get("/other/version").0, 200);
    assert_eq!(serving.status()["memory"]["claimed"], 500 << 20);
    assert_eq!(serving.get("/wrong/version").0, 503);
    let limits = |name: &str| {
        let container = serving.of_version(name)["containers"][0]["name"].as_str().unwrap().to_owned();
        let spec = fs::read_to_string(home.store().join("containers").join(container).join("spec.json")).unwrap();
        serde_json::from_str::<Value>(&spec).unwrap()["limits"].clone()
    };
    assert_eq!((&limits("own@1")["memory"], &limits("own@1")["cpus"]), (&(200_u64 << 20).into(), &0.5.into()));
    assert_eq!(limits("other@1")["memory"], 300 << 20);
}

#[test]
fn a_service_below_its_own_name_is_asked_there() {
    let home = Home::warm();
    let tiny = home.tiny("tiny").join("ekiben.yaml");
    let manifest = fs::read_to_string(&tiny).unwrap();
    assert!(manifest.contains("\nservice:\n"), "{manifest}");
    fs::write(&tiny, manifest.replace("\nservice:\n", "\nservice:\n  root: /tiny/api\n")).unwrap();
    let serving = Serving::start(&home, &["./tiny"]);
    let ask = |path: &str| ask(&serving.address, "POST", path, r#"{"x": 2}"#);
    // As whoever made it counts on, and as any other model.
    for path in ["/tiny/api/predict", "/tiny/tiny/api/predict", "/tiny@1/api/predict"] {
        assert_eq!(ask(path), (200, "7.0".to_owned()), "{path}");
    }
    assert_eq!(ask("/tiny/predict").0, 404);
    assert_eq!(serving.get("/tiny/readyz").0, 200);
}

#[test]
fn other_protocols_pass_through_once_both_sides_want_them() {
    let home = probed();
    let serving = Serving::of(&home, "models: {probe: {image: 'probe:1', timeout: 1}}");
    let upgrade = |path: &str, protocol: &str| {
        let mut connection = connected(&serving.address);
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        connection
    };
    let mut socket = upgrade("/probe/socket", "WebSocket");
    let head = read_until(&mut socket, "\r\n\r\n").to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("upgrade: websocket") && head.contains("connection: upgrade")
    );
    for word in ["first", "second"] {
        socket.write_all(word.as_bytes()).unwrap();
        assert_eq!(read_until(&mut socket, &word.to_uppercase()), word.to_uppercase());
    }
    // Longer than the model is kept: it has a request.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(serving.of_version("probe@1")["containers"][0]["within"], 1);
    let mut large = socket.try_clone().unwrap();
    let sent = std::thread::spawn(move || large.write_all(&vec![b'x'; 8 << 20]).unwrap());
    let mut back = vec![0; 8 << 20];
    socket.read_exact(&mut back).unwrap();
    assert!(back.iter().all(|byte| *byte == b'X'));
    sent.join().unwrap();
    // One side that has said all hears the rest.
    socket.write_all(b"last").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "LAST");
    wait_until("the end of an idle container", || serving.containers() == 0);
    // A model that does not want to answers as it likes; one that changes to what nobody asked for is not believed.
    let plain =
        |path: &str, head: &str| raw(&serving.address, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n"));
    let closes = "connection: close, upgrade\r\nupgrade: websocket";
    assert!(plain("/probe/version", closes).starts_with("HTTP/1.1 200"));
    assert!(plain("/probe/socket?wrong", "connection: upgrade\r\nupgrade: websocket").starts_with("HTTP/1.1 502"));
    let uninvited = "HTTP/1.1%20101%20X%0d%0aupgrade:%20websocket%0d%0aconnection:%20upgrade%0d%0a%0d%0a";
    assert!(plain(&format!("/probe/raw?{uninvited}"), "x: y").starts_with("HTTP/1.1 502"));
    // In HTTP/2 requests would come that nobody looks at: that wish is not passed on, nor one that is none.
    for head in [
        "connection: close, upgrade, http2-settings\r\nupgrade: h2c",
        "connection: close, upgrade\r\nupgrade: HTTP/2.0",
        "connection: close\r\nupgrade: websocket",
    ] {
        let seen = plain("/probe/headers", head);
        assert!(seen.starts_with("HTTP/1.1 200") && !seen.contains("h2c") && !seen.contains("\"upgrade\""), "{seen}");
    }
    // Whoever is connected when it ends is told by its end.
    let mut socket = upgrade("/probe/socket", "websocket");
    read_until(&mut socket, "\r\n\r\n");
    serving.signal(Signal::SIGTERM);
    wait_until("the end of the address", || TcpStream::connect(&serving.address).is_err());
    socket.write_all(b"still").unwrap();
    assert_eq!(read_until(&mut socket, "STILL"), "STILL");
    serving.signal(Signal::SIGTERM);
    assert_eq!(socket.read(&mut [0; 8]).unwrap_or(0), 0);
    drop(serving);
    wait_until("the end of all containers", || supervisors(&home).is_empty());
}

#[test]
fn whoever_asks_cannot_say_who_they_are_but_a_trusted_proxy_can() {
    let home = probed();
    let config = |networks: &str| format!("trusted_proxies: [{networks}]\nmodels: {{probe: {{image: 'probe:1'}}}}\n");
    let serving = Serving::of(&home, &config("10.0.0.0/8"));
    let seen = |head: &str| {
        let request = format!("GET /probe/headers HTTP/1.1\r\nhost: here:1\r\nconnection: close\r\n{head}\r\n");
        let answer = raw(&serving.address, &request);
        let headers: Vec<(String, String)> = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let kept = ["x-forwarded", "forwarded", "x-real", "host"];
        let mut headers: Vec<_> =
            headers.into_iter().filter(|(name, _)| kept.iter().any(|kept| name.starts_with(kept))).collect();
        headers.sort();
        headers
            .into_iter()
            .map(|(name, value)| format!("{}: {value}", name.trim_start_matches("x-forwarded-")))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let lies = "x-forwarded-for: 7.7.7.7, 10.0.0.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\n\
                x-forwarded-prefix: /evil\r\nforwarded: for=7.7.7.7\r\nx-real-ip: 7.7.7.7\r\nx-forwarded-port: 1\r\n";
    // Also where the caller asks that what is written anew be left out.
    for head in [lies.to_owned(), format!("{lies}connection: x-forwarded-for, forwarded, host\r\n")] {
        assert_eq!(seen(&head), "host: here:1; for: 127.0.0.1; host: here:1; prefix: /probe; proto: http");
    }
    home.write("serve.yaml", config("10.0.0.0/8, 127.0.0.1"));
    let chain = "x-forwarded-for: 7.7.7.7, 1.2.3.4, 10.0.0.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: shop.example\r\nx-forwarded-prefix: /shop\r\n";
    wait_until("the trusted proxy", || seen(chain).contains("1.2.3.4"));
    assert_eq!(
        seen(chain),
        "host: here:1; for: 1.2.3.4, 10.0.0.1, 127.0.0.1; host: shop.example; prefix: /shop/probe; proto: https"
    );
    assert!(seen("forwarded: for=\"[2001:db8::1]:9\";proto=https\r\n").contains("for: 2001:db8::1, 127.0.0.1;"));
    assert!(seen(&format!("{chain}forwarded: for=6.6.6.6\r\n")).contains("for: 127.0.0.1;"), "two who differ");
    let moved = raw(
        &serving.address,
        "GET /probe HTTP/1.1\r\nhost: a\r\nx-forwarded-prefix: /shop\r\nconnection: close\r\n\r\n",
    );
    assert!(moved.contains("location: /shop/probe/\r\n"), "{moved}");
    let leads = "/probe/raw?HTTP/1.1%20302%20X%0d%0alocation:%20/docs%0d%0acontent-length:%200%0d%0a%0d%0a";
    let moved = raw(
        &serving.address,
        &format!("GET {leads} HTTP/1.1\r\nhost: a\r\nx-forwarded-prefix: /shop\r\nconnection: close\r\n\r\n"),
    );
    assert!(moved.contains("location: /shop/probe/docs\r\n"), "{moved}");
}

#[test]
fn a_configuration_is_checked_as_a_manifest_is() {
    let home = Home::empty();
    let path: PathBuf = home.write(
        "serve.yaml",
        "models:\n  iris:\n    image: iris\n    stratgy: ALWAYS_ON\n  Wine: {image: wine}\n  a: {image: 'A B'}\n  \
         b: {image: b, timeout: -1, schedule: {start: '0 7 * *', stop: '0 19 * * *', zone: Europe/Berlim}}\n",
    );
    let ran = home.run(["validate", path.to_str().unwrap()]).ends(3);
    for text in ["serve.yaml:4:5", "did you mean `strategy`?", "serve.yaml:5:3", "serve.yaml:7:26"] {
        assert!(ran.err.contains(text), "no `{text}` in\n{}", ran.err);
    }
    home.run(["serve"]).ends(3).says("serve.yaml:4:5");
    home.write(
        "serve.yaml",
        "models:\n  a: {image: 'A B'}\n  b: {image: b, schedule: {start: '0 7 * *', stop: '0 19 * * *'}}\n",
    );
    home.run(["validate", "serve.yaml"]).ends(3).says("serve.yaml:2:14").says("serve.yaml:3:35");
    home.write("serve.yaml", "models: {iris: {image: iris}}\n");
    home.run(["validate", "serve.yaml"]).ok();
    home.write(
        "serve.yaml",
        "trusted_proxies: [10.0.0.0/8, 10.0.0.0/33]\nmodels:\n  a: {image: a, project: a}\n  b: {}\n",
    );
    home.run(["validate", "serve.yaml"]).ends(3).says("serve.yaml:1:31").says("serve.yaml:3:26").says("serve.yaml:4:6");
    fs::create_dir(home.path("project")).unwrap();
    home.run(["serve", "./project"]).ends(3).says("there is no manifest in the folder");
    home.run(["serve", "project"]).ends(1).says("there is no image `project`");
    home.run(["serve", "nothing"]).ends(1).says("there is no image `nothing`");
    home.run(["serve", "./nothing"]).ends(2).says("there is no file or folder `./nothing`");
    fs::remove_file(path).unwrap();
    home.run(["serve"]).ends(2).says("there is no serve.yaml").says("ekiben images");
    assert!(home.run(["schema", "serve"]).ok().json()["properties"]["models"].is_object());
}
