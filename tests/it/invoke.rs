//! Asking models once: containers, addresses, projects; and the credentials that go with each request.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::thread::JoinHandle;

use crate::home::{Home, Ran, copy, free_port, ran, tool, wait_until};
use serde_json::{Value, json};

const SECRET: &str = "s3cret-of-\"mine\"";

/// A server of its own that tells which credentials it got, and repeats one where it is asked to.
const SERVER: &str = r#"
import http.server, json, os, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(*{"/readyz": (200, b"ok", "text/plain"), "/bytes": (200, b"\xff\x00\x1b[1m", "image/x")}.get(
            self.path, (405, b'"only POST"')))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/slow":
            time.sleep(2)
        token = self.headers.get("ENV_TOKEN")
        if self.path == "/repeat":
            print("the token is", token, flush=True)
            self.answer(200, json.dumps({"token": token}).encode())
        else:
            names = sorted(name.lower() for name in self.headers if name.lower().startswith("env_"))
            self.answer(200, json.dumps({"names": names, "length": len(token or ""), "got": body}).encode())

    def log_message(self, *args):
        pass

http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const MANIFEST: &str = "name: echo\nversion: '1'\npython: {version: '3.11'}\ninclude: [src/**]\n\
                        service: {command: [python3, src/server.py]}\n";

/// A home with the server above as the project `echo`, whose manifest has `tests` as well.
fn home(tests: &str) -> Home {
    let home = Home::warm();
    home.write("echo/src/server.py", SERVER);
    home.write("echo/ekiben.yaml", format!("{MANIFEST}{tests}"));
    home
}

/// The program with the secret in a variable, as a person has it who keeps it off the command line.
fn with_secret(home: &Home, args: &[&str]) -> Ran {
    ran(home.command(args).env("TOKEN", SECRET))
}

/// Whether a text is in any file below a folder.
fn holds(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| {
        let found = || fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()));
        if path.is_symlink() {
            false
        } else if path.is_dir() {
            holds(&path, text)
        } else {
            found()
        }
    })
}

#[test]
fn an_address_where_nobody_is_has_one_reason() {
    let home = Home::empty();
    let address = format!("http://127.0.0.1:{}", free_port());
    let said = home.run(["invoke", &address, "-d", "{}"]).ends(5).err;
    assert_eq!(
        said,
        format!(
            "error: {address}/predict could not be asked\ncause: connection refused\n hint: is it running? `ekiben ps` lists what does, `ekiben run` starts a model\n"
        )
    );
    let said = home.run(["invoke", &address, "-d", "{}", "--verbose"]).ends(5).err;
    assert!(said.contains("tcp connect error"), "{said}");
    let json = home.run(["invoke", &address, "-d", "{}", "--output", "json"]).ends(5).err;
    assert!(json.contains(r#""causes":["connection refused"]"#), "{json}");
}

#[test]
fn a_project_is_built_and_run_for_one_request() {
    for home in [home(""), home("").of_a_user()] {
        let answered = with_secret(&home, &["invoke", "echo", "-d", r#"{"x": 2}"#, "--credential", "TOKEN"]).ok();
        let answer: Value = serde_json::from_str(&answered.out).unwrap();
        assert_eq!(answer, json!({"names": ["env_token"], "length": SECRET.len(), "got": {"x": 2}}));
        assert!(answered.err.contains("Answered 200 OK"), "{}", answered.err);
        assert_eq!(home.stored("containers"), [""; 0]);
        // What is built already, by its name; from a file; as data.
        home.write("request.json", "[1]\n");
        let args = ["invoke", "echo:1", "/any", "--data", "@request.json", "--output", "json"];
        let document = home.run(args).ok().json();
        assert_eq!((&document["status"], &document["encoding"]), (&json!(200), &json!("json")));
        assert_eq!(document["body"], json!({"names": [], "length": 0, "got": [1]}));
    }
}

#[test]
fn without_data_the_first_example_of_the_manifest_is_asked() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    let said = home.run(["invoke", "tiny"]).ok();
    assert_eq!(said.out, "7.0");
    assert!(said.err.contains("Asking /predict the example one number of the manifest"), "{}", said.err);
    // Where a path is given, that is asked, with a GET.
    assert!(home.run(["invoke", "tiny", "/openapi.json"]).ok().out.contains("/explain"));

    // From a folder below, up to the root of the repository.
    let below = project.join("src");
    let from_below = || ran(home.command(["invoke", "."]).current_dir(&below));
    let found = from_below().ok();
    assert_eq!(found.out, "7.0");
    assert!(found.err.contains(&format!("Found {}", project.join("ekiben.yaml").display())), "{}", found.err);
    fs::create_dir(below.join(".git")).unwrap();
    let refused = from_below();
    assert!(refused.code == Some(3) && !refused.err.contains("Found"), "{}", refused.err);
}

#[test]
fn a_container_is_asked_by_its_name_and_by_its_address() {
    let home = home("");
    let port = free_port().to_string();
    home.run(["run", "echo", "--detach", "--name", "mine", "-p", &port]).ok();
    let address = format!("http://127.0.0.1:{port}");
    for target in ["mine", &address, &format!("127.0.0.1:{port}"), &format!("localhost:{port}"), &format!("{address}/")]
    {
        let ran =
            with_secret(&home, &["invoke", target, "/x", "-d", "{}", "--credential", "TOKEN", "--credential", "b=1"]);
        assert_eq!(ran.ok().json()["names"], json!(["env_b", "env_token"]), "{target}");
    }
    let mut piped = home.command(["invoke", "mine", "-d", "-"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"[2]").unwrap();
    let answer: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(answer["got"], json!([2]));

    // Bytes come as they are, and a bad status is code 4.
    let mut bytes = home.command(["invoke", "mine", "/bytes"]);
    assert_eq!(bytes.output().unwrap().stdout, b"\xff\x00\x1b[1m");
    let document = home.run(["invoke", "mine", "/bytes", "--output", "json"]).ok().json();
    assert_eq!((&document["encoding"], &document["body"]), (&json!("base64"), &json!("/wAbWzFt")));
    let refused = home.run(["invoke", "mine"]).ends(4).says("/predict answered 405").says("--data");
    assert_eq!(refused.out, "\"only POST\"");

    for (args, code, said) in [
        (&["invoke", "mine", "predict"][..], 2, "neither a path nor NAME=VALUE"),
        (&["invoke", "mine", "-d", "{x: 2}"], 2, "no JSON"),
        (&["invoke", "mine", "-d", "@nothing.json"], 1, "nothing.json"),
        (&["invoke", "nobody", "-d", "{}"], 1, "nobody"),
        (&["invoke", "ftp://x", "-d", "{}"], 2, "http://"),
        (&["invoke", "http://me:pw@127.0.0.1", "-d", "{}"], 2, "user or a password"),
        (&["invoke", "http://192.0.2.1", "-d", "{}", "--offline"], 5, "--offline"),
        (&["invoke", &format!("127.0.0.1:{}", free_port()), "-d", "{}"], 5, "could not be asked"),
        (&["invoke", "mine", "--credential", "NOT_THERE"], 2, "`NOT_THERE` has no value"),
    ] {
        home.run(args).ends(code).says(said);
    }
    home.run(["stop", "mine"]).ok();
}

#[test]
fn a_container_counts_before_a_folder_of_the_same_name() {
    let home = Home::warm();
    home.tiny("tiny");
    home.run(["run", "tiny", "--detach", "--name", "first", "-p", "0"]).ok();
    let started = |target: &str| home.run(["invoke", target, "x=2"]).ok().err.contains("Started");
    assert!(!started("tiny") && !started("tiny:1") && !started("first"));
    assert!(started("./tiny"));
    // The beginning of a name is not one.
    home.tiny("fir");
    assert!(started("fir"));
    std::fs::remove_dir_all(home.path("fir")).unwrap();
    assert!(!started("fir"));
    home.run(["run", "tiny", "--detach", "--name", "second", "-p", "0"]).ok();
    home.run(["invoke", "tiny", "x=2"]).ends(2).says("say which: first, second, or the folder: ./tiny");
    home.run(["stop", "--all", "--remove"]).ok();
}

#[test]
fn a_credential_is_shown_nowhere() {
    let tests = "tests:\n  - {name: repeats, path: /repeat, request: {}, expect: {token: another}}\n  \
                 - {name: gets it, path: /x, request: {}, expect: {names: [env_token]}}\n";
    let home = home(tests);
    let plain = with_secret(&home, &["test", "echo", "--credential", "TOKEN"]).ends(4);
    assert!(
        plain.out.contains("expected \"another\", got \"***\"") && plain.out.contains("✓ gets it"),
        "{}",
        plain.out
    );
    assert!(plain.out.contains("log the token is ***"), "{}", plain.out);
    // Kept without it as well: what is in the store is looked through below.
    assert!(home.run(["logs", "--last"]).ok().out.contains("the token is ***"));
    let data = with_secret(&home, &["test", "echo", "--credential", "TOKEN", "--output", "json", "--verbose"]).ends(4);
    let given = format!("TOKEN={SECRET}");
    let on_the_line = home.run(["test", "echo", "--credential", &given]).ends(4);
    for Ran { out, err, .. } in [plain, data, on_the_line] {
        assert!(!out.contains("s3cret") && !err.contains("s3cret"), "{out}{err}");
    }
    // Not in what is refused either.
    for wrong in [format!("MY-TOKEN={SECRET}"), format!("TOKEN={SECRET}\n"), format!("={SECRET}")] {
        for args in [&["invoke", "echo", "--credential", &wrong][..], &["test", "echo", "--credential", &wrong]] {
            let Ran { out, err, .. } = home.run(args).ends(2);
            assert!(!out.contains("s3cret") && !err.contains("s3cret"), "{out}{err}");
        }
    }

    // Nor in the list of processes, nor on the disk while it runs.
    let mut command = home.command(["invoke", "echo", "/slow", "-d", "{}", "--credential", "TOKEN"]);
    let child = command.env("TOKEN", SECRET).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The container's own program is there a moment after the container is. Other tests have such programs too.
    wait_until("the container's program", || {
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((entry.path(), String::from_utf8_lossy(&line).into_owned()))
        });
        let processes: Vec<_> = processes.inspect(|(_, line)| assert!(!line.contains("s3cret"), "{line:?}")).collect();
        processes.iter().any(|(process, line)| line.contains("server.py") && descends_from(process, child.id()))
    });
    let containers = home.store().join("containers");
    assert!(fs::read_dir(&containers).unwrap().count() > 0 && !holds(&containers, "s3cret"));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!holds(&home.store(), "s3cret"));
}

/// Whether a process, by its folder in `/proc`, was started by another or by one that that one started.
fn descends_from(process: &Path, ancestor: u32) -> bool {
    let parent = |process: &Path| {
        let status = fs::read_to_string(process.join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let above = |id: &u32| parent(&Path::new("/proc").join(id.to_string()));
    std::iter::successors(parent(process), above).any(|id| id == ancestor)
}

/// A server that answers once with `answer`, and gives what it was asked.
fn stub(answer: String) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut part = [0; 1024];
        while !request.windows(4).any(|part| part == b"\r\n\r\n") {
            let read = connection.read(&mut part).unwrap();
            assert!(read > 0, "the request broke off");
            request.extend_from_slice(&part[..read]);
        }
        connection.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, thread)
}

#[test]
fn a_credential_goes_to_no_other_server() {
    let home = Home::empty();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("http://{}/other", elsewhere.local_addr().unwrap());
    let head = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nconnection: close\r\nlocation";
    let (port, asked) = stub(format!("{head}: {location}\r\n\r\n"));
    let address = format!("127.0.0.1:{port}");
    let args = ["invoke", &address, "/x", "--credential", "TOKEN"];
    with_secret(&home, &args).ends(4).says("answered 302").says(&location);
    assert!(asked.join().unwrap().contains(&format!("env_token: {SECRET}\r\n")));
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "somebody asked the other server");
}

#[test]
fn a_manifest_without_tests_is_said_before_anything_is_locked() {
    let home = Home::empty();
    home.write("echo/src/server.py", SERVER);
    home.write("echo/ekiben.yaml", MANIFEST);
    home.run(["test", "echo", "--offline"]).ends(2).says("no tests");
    assert!(!Path::new(&home.path("echo/ekiben.lock")).exists());
}

/// A picture goes into a real container and comes out of it: by name on the command line, in the manifest's tests, from a
/// folder and from a bundle.
#[test]
fn files_are_sent_and_written() {
    let home = Home::warm();
    copy(Path::new("fixtures/picture"), Path::new(&home.path("picture")), false);
    let red = fs::read(home.path("picture/tests/red.png")).unwrap();
    home.write("red.png", &red);
    let tested = home.run(["test", "picture"]).ok().out;
    assert!(tested.contains("all 4 answers as expected"), "{tested}");
    let answered = home.run(["invoke", "picture", "image=@red.png", "most=1"]).ok().out;
    assert_eq!(answered, r#"[{"name":"red","part":1.0}]"#);

    let smaller = ["invoke", "picture", "/smaller", "image=@red.png", "width=3", "-o", "small.png"];
    home.run(smaller).ok().says("small.png").says("image/png");
    let small = fs::read(home.path("small.png")).unwrap();
    assert!(small.starts_with(b"\x89PNG") && small[16..24] == [0, 0, 0, 3, 0, 0, 0, 1], "{small:?}");
    let document = home.run([&smaller[..], &["--output", "json"]].concat()).ok().json();
    assert_eq!((&document["content_type"], &document["size"]), (&json!("image/png"), &json!(small.len())));
    // What failed is no file.
    home.run(["invoke", "picture", "/smaller", "image=@red.png", "width=0", "-o", "none.png"]).ends(4).says("422");
    assert!(!Path::new(&home.path("none.png")).exists());

    // A terminal gets no bytes that are no text; whoever else reads gets all.
    let line = format!("{} invoke picture /smaller image=@red.png width=3", env!("CARGO_BIN_EXE_ekiben"));
    let mut terminal = tool("script");
    terminal.args(["-qec", &line, "/dev/null"]).current_dir(home.folder()).env("EKIBEN_HOME", home.store());
    let said = ran(&mut terminal).ok().out;
    assert!(said.contains("69 bytes that are no text") && !said.contains("IHDR"), "{said}");
    let bytes = home.command(&smaller[..5]).output().unwrap().stdout;
    assert_eq!(bytes, small);

    // What is expected of a file is its bytes.
    let manifest = fs::read_to_string(home.path("picture/ekiben.yaml")).unwrap();
    let other = manifest.replace("expect: {content_type: image/png}", "expect: {file: tests/red.png}");
    home.write("picture/ekiben.yaml", &other);
    home.run(["test", "picture"]).ends(4);
    let refused = home.run(["test", "picture", "--accept"]).ends(4).out;
    assert!(refused.contains("write it with `ekiben invoke -o`"), "{refused}");
    let accepted = manifest.replace("    expect: {content_type: image/png}\n", "");
    home.write("picture/ekiben.yaml", &accepted);
    home.run(["test", "picture", "--accept"]).ok();
    let text = fs::read_to_string(home.path("picture/ekiben.yaml")).unwrap();
    assert!(text.contains("content_type: \"image/png\"") || text.contains("content_type: image/png"), "{text}");
    assert!(text.contains("sha256: "), "{text}");
    home.run(["pack", "picture"]).ok();
    let tested = home.run(["test", "picture-1.ekiben"]).ok().out;
    assert!(tested.contains("all 4 answers as expected"), "{tested}");

    for (args, said) in [
        (&["invoke", "picture", "bogus"][..], "neither a path nor NAME=VALUE"),
        (&["invoke", "picture", "=1"], "neither a path nor NAME=VALUE"),
        (&["invoke", "picture", "x=1", "-d", "{}"], "both --data and values"),
    ] {
        home.run(args).ends(2).says(said);
    }
}
