//! What `ekiben test` shows of answers, writes into manifests, and asks of services that run elsewhere.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::home::{Home, Ran, free_port, ran, tool};
use serde_json::{Value, json};

/// A service that Ekiben has not made: it answers with what `answer` makes of path and body.
struct Elsewhere {
    address: SocketAddr,
    /// What it was asked, to the byte.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Elsewhere {
    fn start(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut request = Vec::new();
                let mut part = [0; 4096];
                let (head, body) = loop {
                    let read = connection.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..read]);
                    let text = String::from_utf8(request.clone()).unwrap();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                            break (head.to_owned(), body.to_owned());
                        }
                    }
                    assert!(read > 0, "the request broke off");
                };
                log.lock().unwrap().push(format!("{head}\r\n\r\n{body}"));
                let path = head.split(' ').nth(1).unwrap();
                let (status, answer) = answer(path, &body);
                let length = answer.len();
                let head = match answer.strip_prefix("location: ") {
                    Some(_) => {
                        format!("HTTP/1.1 {status} X\r\n{answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    }
                    None => format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                         connection: close\r\n\r\n{answer}"
                    ),
                };
                connection.write_all(head.as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const HEAD: &str = "name: elsewhere\nversion: '1'\nbase: scratch\nservice: {command: [/bin/serve]}\n";

/// A project with the tests `tests`, none of whose code is there.
fn project(tests: &str) -> Home {
    let home = Home::empty();
    home.write("project/ekiben.yaml", format!("{HEAD}{tests}"));
    home
}

fn manifest(home: &Home) -> String {
    fs::read_to_string(home.path("project/ekiben.yaml")).unwrap()
}

fn test_of(home: &Home, service: &Elsewhere, more: &[&str]) -> Ran {
    home.run([&["test", "project", "--url", &service.url()], more].concat())
}

#[test]
fn answers_are_shown_and_counted_apart() {
    let home = Home::warm();
    home.tiny("tiny");
    let text = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let text = text.replace("    expect: 7.0\n", "").replace("  - name: text is no number\n    request", "  - request");
    home.write("tiny/ekiben.yaml", text.replace("3.0 x + 1.0", "3.0 x + 2.0"));
    let shown = home.run(["test", "tiny"]).ends(4).says("`ekiben test --accept`");
    for text in [
        "  • one number ",
        "      7.0\n",
        "  ✓ test 2 ",
        "  ✗ the line in words ",
        "      /formula: expected \"3.0 x + 2.0\", got \"3.0 x + 1.0\"\n",
        "      - {\"formula\": \"3.0 x + 2.0\"}\n      + {\"formula\": \"3.0 x + 1.0\"}\n",
    ] {
        assert!(shown.out.contains(text), "no `{text}` in\n{}", shown.out);
    }
    let summary = "\ntiny:1: 1 not as expected, 1 as expected, 1 answered, no expectation\n";
    assert!(shown.out.ends_with(summary), "{}", shown.out);
    let report = home.run(["test", "tiny", "--output", "json"]).ends(4).json();
    assert_eq!((&report["passed"], &report["answered"], &report["failed"]), (&json!(1), &json!(1), &json!(1)));
    let [first, second, third] = report["outcomes"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!((&first["verdict"], &first["body"], &first["status"]), (&json!("answered"), &json!(7.0), &json!(200)));
    assert_eq!((&second["name"], &second["number"], &second["status"]), (&json!("test 2"), &json!(2), &json!(422)));
    assert_eq!(second["body"]["detail"][0]["type"], "float_type");
    assert_eq!((&third["verdict"], &third["encoding"]), (&json!("different"), &json!("json")));
    assert_eq!(third["body"], json!({ "formula": "3.0 x + 1.0" }));

    // What is accepted is expected.
    home.run(["test", "tiny", "--accept"]).ok();
    let text = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    assert!(
        text.starts_with("# A model without third-party packages") && text.contains("\n    expect: 7.0\n"),
        "{text}"
    );
    assert!(home.run(["test", "tiny"]).ok().out.contains("all 3 answers as expected"));
    home.run(["pack", "tiny"]).ok();
    home.run(["test", "tiny-1.ekiben", "--accept"]).ends(2).says("is packed");
}

/// Each place in which an answer can stand, and how it is written there.
#[test]
fn accepted_answers_keep_comments_and_layout() {
    let service = Elsewhere::start(|path, _| match path {
        "/broken" => (500, json!({ "detail": "internal error" }).to_string()),
        "/refused" => (422, json!({ "detail": "no" }).to_string()),
        "/text" => (200, "it is so".to_owned()),
        "/rows" => {
            let row = |n: u32| json!({ "label": "a label of some length", "score": n, "rest": [n, n, n, n] });
            (200, json!({ "rows": [row(1), row(2)] }).to_string())
        }
        _ => (200, json!({ "class": "yes", "score": 0.5, "rows": [1, 2] }).to_string()),
    });
    let before = "\
tests:
  # the first
  - request: {x: 2}  # two
  # belongs to nothing

  - {name: b, request: {x: 1}, expect: {class: no, score: 0.5000001}} # in brackets
  - name: c
    expect:   # kept
      class: \"yes\" # kept too
      # and this
      rows: [1, 3]
    request: {}
  - name: d
    expect: 7 # seven
  - name: e
    path: /refused
    status: 400 # or so
  - name: f
    path: /broken
  - name: g
    path: /broken
    status: 500
    expect: {detail: x}
  - name: h
    path: /text
  - name: i
    path: /rows
    request:
      - >
        a text over
        lines

  - name: j
    path: /refused
    expect:
  - {name: k, request: {}}
env: {A: b} # the end
";
    let after = "\
tests:
  # the first
  - request: {x: 2}  # two
    expect: {class: \"yes\", rows: [1, 2], score: 0.5}
  # belongs to nothing

  - {name: b, request: {x: 1}, expect: {class: \"yes\", score: 0.5000001}} # in brackets
  - name: c
    expect:   # kept
      class: \"yes\" # kept too
      # and this
      rows: [1, 2]
    request: {}
  - name: d
    expect: {class: \"yes\", rows: [1, 2], score: 0.5} # seven
  - name: e
    path: /refused
    status: 422 # or so
  - name: f
    path: /broken
  - name: g
    path: /broken
    status: 500
    expect: {detail: internal error}
  - name: h
    path: /text
  - name: i
    path: /rows
    request:
      - >
        a text over
        lines
    expect:
      rows:
        - {label: a label of some length, rest: [1, 1, 1, 1], score: 1}
        - {label: a label of some length, rest: [2, 2, 2, 2], score: 2}

  - name: j
    path: /refused
    expect: {detail: \"no\"}
    status: 422
  - {name: k, request: {}, expect: {class: \"yes\", rows: [1, 2], score: 0.5}}
env: {A: b} # the end
";
    for (newline, mark) in [("\n", ""), ("\r\n", "\u{feff}")] {
        let home = Home::empty();
        home.write("project/ekiben.yaml", format!("{mark}{}", format!("{HEAD}{before}").replace('\n', newline)));
        let said = test_of(&home, &service, &["--accept"]).ends(4);
        let text = manifest(&home);
        assert_eq!(text, format!("{mark}{}", format!("{HEAD}{after}").replace('\n', newline)));
        for refused in ["not accepted: f: the service failed\n", "not accepted: h: "] {
            assert!(said.out.contains(refused), "{}", said.out);
        }
        assert!(said.out.ends_with("accepted: 9 answers, written to project/ekiben.yaml\n"), "{}", said.out);
        // Once more changes nothing, and only what was refused is not as expected.
        let again = test_of(&home, &service, &["--accept", "--output", "json"]).ends(4).json();
        assert_eq!((&again["passed"], &again["accepted"]["written"]), (&json!(9), &json!([])), "{again}");
        assert_eq!(manifest(&home), text);
    }
}

#[test]
fn only_what_may_be_accepted_is_said_to_be() {
    let service = Elsewhere::start(|path, _| match path {
        "/broken" => (500, json!({ "detail": "internal error" }).to_string()),
        _ => (200, "1".to_owned()),
    });
    for (tests, is_said) in [
        ("  - {path: /broken, request: {}, expect: 1}\n", false),
        ("  - {path: /broken, request: {}, expect: 1}\n  - {request: {}, expect: 2}\n", true),
    ] {
        let home = Home::empty();
        home.write("project/ekiben.yaml", format!("{HEAD}tests:\n{tests}"));
        let said = test_of(&home, &service, &[]).ends(4);
        assert_eq!(said.err.contains("`ekiben test --accept`"), is_said, "{}", said.err);
        assert_eq!(said.out.contains("the answer is not as expected"), !is_said, "{}", said.out);
    }
}

#[test]
fn accepted_answers_are_written_into_json_as_well() {
    let service = Elsewhere::start(|_, _| (200, json!({ "a": [1, 2] }).to_string()));
    let rest = "\"version\": \"1\", \"base\": \"scratch\", \"service\": {\"command\": [\"/bin/serve\"]}";
    for (name, before, after) in [
        (
            "ekiben.json",
            "{\n  \"tests\": [\n    {\n      \"request\": {}\n    },\n    {\"expect\": {\"a\": [1, 3]}}\n  ]",
            "{\n  \"tests\": [\n    {\n      \"request\": {},\n      \"expect\": {\"a\": [1, 2]}\n    },\n    {\"expect\": {\"a\": [1, 2]}}\n  ]",
        ),
        (
            "ekiben.json5",
            "{\n  tests: [\n    {request: {}}, // one\n    {request: {}, /* none */},\n  ]",
            "{\n  tests: [\n    {request: {}, expect: {\"a\": [1, 2]}}, // one\n    {request: {}, expect: {\"a\": [1, 2]}, /* none */},\n  ]",
        ),
    ] {
        let home = Home::empty();
        home.write(&format!("project/{name}"), format!("{before}, \"name\": \"x\", {rest}}}\n"));
        test_of(&home, &service, &["--accept"]).ok();
        let text = fs::read_to_string(home.path(&format!("project/{name}"))).unwrap();
        assert_eq!(text, format!("{after}, \"name\": \"x\", {rest}}}\n"));
        assert!(test_of(&home, &service, &[]).ok().out.contains("all 2 answers as expected"));
    }
}

#[test]
fn what_cannot_be_written_safely_is_refused() {
    let service = Elsewhere::start(|path, _| match path {
        "/null" => (200, "null".to_owned()),
        "/large" => (200, json!("x".repeat(2 << 20)).to_string()),
        "/deep" => (200, format!("{}{}", "[".repeat(100), "]".repeat(100))),
        "/secret" => (200, json!({ "token": "s3cret" }).to_string()),
        _ => (200, json!([1]).to_string()),
    });
    // The second is the first, by another name: what is written of one would change the other.
    let tests = "tests:\n  - {path: /null}\n  - {path: /large}\n  - {path: /deep}\n  - {path: /secret}\n  \
                 - {expect: &a [2]}\n  - {expect: *a, status: 200}\n";
    let home = project(tests);
    let said = test_of(&home, &service, &["--accept", "--credential", "TOKEN=s3cret", "--output", "json"]).ends(4);
    let report = said.json();
    let refused: Vec<_> = report["accepted"]["refused"].as_array().unwrap().iter().map(|one| &one["number"]).collect();
    assert_eq!(refused, [&json!(1), &json!(2), &json!(3), &json!(4), &json!(5), &json!(6)], "{report}");
    assert!(!said.out.contains("s3cret") && said.out.contains("holds a credential"), "{}", said.out);
    assert_eq!(manifest(&home), format!("{HEAD}{tests}"));
}

#[test]
fn a_service_elsewhere_is_asked_without_a_build_or_a_container() {
    let service = Elsewhere::start(|path, body| match path {
        "/base/echo" => (200, body.to_owned()),
        _ => (404, "\"lost\"".to_owned()),
    });
    let home = project("tests: [{path: /echo, request: {x: 2}, expect: {x: 2}}, {path: /nowhere}]\n");
    let url = format!("{}/base/", service.url());
    let mut command = home.command(["test", "project", "--url", &url, "--credential", "TOKEN", "--offline"]);
    let said = ran(command.env("TOKEN", "s3cret")).ends(4);
    assert!(said.out.contains("✓ test 1 ") && said.out.contains("status: expected 200, got 404"), "{}", said.out);
    assert!(said.out.ends_with("/base: 1 of 2 answers not as expected\n"), "{}", said.out);
    let asked = service.asked();
    assert!(asked[0].starts_with("POST /base/echo ") && asked[0].ends_with("{\"x\":2}"), "{asked:?}");
    assert!(asked.iter().all(|request| request.contains("env_token: s3cret\r\n")), "{asked:?}");
    let report =
        home.run(["test", "project", "--url", &service.address.to_string(), "--output", "json"]).ends(4).json();
    assert_eq!((&report["url"], &report.get("image")), (&json!(service.url()), &None));
    assert!(!Path::new(&home.path("project/ekiben.lock")).exists());
    assert_eq!((home.containers(), home.run(["images"]).ok().out.lines().count()), (Vec::new(), 0));

    for (args, code, said) in [
        (&["--url", "nobody"][..], 2, "no address"),
        (&["--url", "http://127.0.0.1:3000", "--locked"], 2, "--locked"),
        (&["--url", "http://127.0.0.1:3000", "--env", "A=b"], 2, "--env"),
        (&["--url", "http://192.0.2.1", "--offline"], 5, "--offline"),
        (&["--url", &format!("127.0.0.1:{}", free_port())], 5, "could not be asked"),
    ] {
        home.run([&["test", "project"], args].concat()).ends(code).says(said);
    }
}

#[test]
fn a_service_elsewhere_cannot_send_credentials_on() {
    let other = Elsewhere::start(|_, _| (200, "1".to_owned()));
    let location = format!("location: {}/steal", other.url());
    let service = Elsewhere::start(move |path, _| match path {
        "/away" => (307, location.clone()),
        "/within" => (307, "location: /there".to_owned()),
        _ => (200, "1".to_owned()),
    });
    let home = project("tests: [{path: /away, request: {}}, {path: /within, request: {}, expect: 1}]\n");
    let said = test_of(&home, &service, &["--credential", "TOKEN=s3cret"]).ends(4);
    assert!(said.out.contains("got 307, which leads to") && said.out.contains("✓ test 2 "), "{}", said.out);
    assert_eq!(other.asked(), [""; 0], "somebody asked the other server");
    assert!(service.asked().last().unwrap().contains("env_token: s3cret"));
}

#[test]
fn numbers_are_as_near_as_the_manifest_asks() {
    let service = Elsewhere::start(|_, _| (200, json!([1000.0, 0.001]).to_string()));
    let verdicts = |tests: &str| {
        let home = project(tests);
        let report: Value = test_of(&home, &service, &["--output", "json"]).json();
        let outcomes = report["outcomes"].as_array().unwrap().clone();
        outcomes.iter().map(|outcome| outcome["verdict"] == "as_expected").collect::<Vec<_>>()
    };
    let near = "{expect: [1001, 0.001]}";
    assert_eq!(verdicts(&format!("tests: [{near}]\n")), [false]);
    assert_eq!(verdicts(&format!("approximately: 1e-3\ntests: [{near}]\n")), [true]);
    assert_eq!(
        verdicts(
            "approximately: 1e-3\ntests: [{expect: [1001, 0.001], approximately: 1e-5}, {expect: [1000, 0.0019]},
             {expect: [1000, 0.0019], approximately: {relative: 0.1}}, {expect: [1000, 0.0019], approximately: {absolute: 0.001}}]\n"
        ),
        [false, true, false, true]
    );
    for wrong in ["-1", "2", "{relativ: 1}", "{absolute: -1}", "much"] {
        let home = project(&format!("approximately: {wrong}\ntests: [{near}]\n"));
        test_of(&home, &service, &[]).ends(3).says("ekiben.yaml:5:");
    }
}

/// Breaks for a negative number, and refuses zero, which is its way to say 422.
const BREAKS: &str = "def predict(x: float) -> float:
    print('asked for', x)
    if x == 0:
        raise ValueError('zero is refused')
    return 1 if x > 0 else inner(x)


def inner(x):
    return {}['secret']


def explain():
    return {}
";

fn breaking(tests: &str) -> Home {
    let home = Home::warm();
    home.tiny("tiny");
    let text = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let (head, _) = text.split_once("tests:").unwrap();
    home.write("tiny/ekiben.yaml", format!("{head}{tests}"));
    home.write("tiny/src/predict.py", BREAKS);
    home
}

#[test]
fn a_failed_request_shows_what_the_log_says_of_it_and_nothing_else() {
    let home = breaking(
        "tests:\n  - {name: good, request: {x: 1}, expect: 1}\n  - {name: breaks, request: {x: -1}}\n  \
         - {name: refused, request: {x: 0}, status: 422}\n",
    );
    let said = home.run(["test", "tiny"]).ends(4);
    let broken = "      log asked for -1.0\n      log error: the request failed\n      log KeyError: 'secret'\n      \
                  log   src/predict.py:5, in predict\n";
    assert!(said.out.contains(broken), "{}", said.out);
    assert!(
        said.out.contains("      log   src/predict.py:9, in inner\n      log     return {}['secret']\n"),
        "{}",
        said.out
    );
    for other in ["asked for 1.0", "zero is refused", "site-packages", "starlette", "answered 500", "Shutting down"] {
        assert!(!said.out.contains(other) && !said.err.contains(other), "`{other}` in\n{}{}", said.out, said.err);
    }
    assert_eq!(said.out.matches("frames of the service and libraries (-v)\n").count(), 1, "{}", said.out);
    let whole = home.run(["test", "tiny", "--verbose"]).ends(4).out;
    assert!(whole.contains("/ekiben_service/load.py") && whole.contains("Traceback"), "{whole}");
    let report = home.run(["test", "tiny", "--output", "json"]).ends(4).json();
    let outcomes = report["outcomes"].as_array().unwrap();
    assert!(outcomes[1]["log"].to_string().contains("KeyError"), "{report:#}");
    assert_eq!((&outcomes[0]["log"], &outcomes[2]["log"]), (&json!([]), &json!([])), "{report:#}");
    assert_eq!(outcomes[1]["body"]["request_id"], outcomes[1]["request_id"]);
}

#[test]
fn the_last_request_of_all_does_not_lose_its_traceback() {
    let home = breaking("tests: [{request: {x: -1}}]\n");
    for _ in 0..3 {
        assert!(home.run(["test", "tiny"]).ends(4).out.contains("log KeyError: 'secret'"));
        let asked = home.run(["invoke", "tiny", "-d", "{\"x\": -1}"]).ends(4).says("log KeyError: 'secret'");
        assert!(
            asked.err.contains("src/predict.py:9, in inner") && !asked.err.contains("site-packages"),
            "{}",
            asked.err
        );
    }
    home.run(["run", "tiny:1", "--detach", "--name", "mine"]).ok();
    home.run(["invoke", "mine", "-d", "{\"x\": 1}"]).ok();
    let asked = home.run(["invoke", "mine", "-d", "{\"x\": -1}"]).ends(4).says("log KeyError: 'secret'");
    assert!(asked.err.contains("hint: all that it said: `ekiben logs mine`"), "{}", asked.err);
    assert!(!asked.err.contains("asked for 1.0") && asked.err.contains("asked for -1.0"), "{}", asked.err);
    // On a terminal a log is made readable; elsewhere it stays as it was said.
    let mut logs = tool("script");
    let command = home.command(["logs", "mine"]);
    let line = format!("{} logs mine", command.get_program().to_str().unwrap());
    logs.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("EKIBEN_HOME", home.store());
    let shown = ran(&mut logs).ok().out;
    assert!(
        shown.contains("info: POST /predict answered 500\r\n") && shown.contains("\nKeyError: 'secret'\r\n"),
        "{shown}"
    );
    assert!(!shown.contains("site-packages"), "{shown}");
    assert!(home.run(["logs", "mine"]).ok().out.contains("\\nKeyError: 'secret'\""));
    let report = home.run(["invoke", "mine", "-d", "{\"x\": -1}", "--output", "json"]).ends(4).json();
    assert!(report["log"].to_string().contains("KeyError"), "{report}");
}

/// A project called `own` whose own server has `answer` answer a GET.
fn serving(answer: &str, tests: &str) -> Home {
    let home = Home::warm();
    let server = format!(
        "import http.server, os, sys, threading, time\n{answer}\n\nclass Handler(http.server.BaseHTTPRequestHandler):\n    \
         do_GET = answer\n    log_message = lambda *args: None\n\n\
         http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()\n"
    );
    home.write("own/src/server.py", server);
    home.write(
        "own/ekiben.yaml",
        format!(
            "name: own\nversion: '1'\npython: {{version: '3.11'}}\ninclude: [src/**]\n\
             service: {{command: [python3, src/server.py]}}\n{tests}"
        ),
    );
    home
}

/// What a server of one's own says behind its answer, without a mark.
#[test]
fn another_server_keeps_its_lines_apart_as_well() {
    let server = r#"
def answer(request):
    status = 200 if request.path == "/readyz" else 500
    body = b"{}"
    request.send_response(status)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
    request.wfile.flush()
    if request.path == "/readyz":
        return
    time.sleep(0.01)
    sys.stdout.write(f"behind {request.path}\n")
    sys.stdout.flush()
    if request.path == "/one":
        raise KeyError("of one")
"#;
    let tests = "tests: [{name: one, path: /one}, {name: two, path: /two, status: 500}, {name: three, path: /three}]\n";
    let home = serving(server, tests);
    let said = home.run(["test", "own"]).ends(4).out;
    let (first, rest) = said.split_once("✓ two").unwrap();
    assert!(first.contains("log behind /one\n") && first.contains("log KeyError: 'of one'\n"), "{said}");
    assert!(first.contains("log   src/server.py:") && !first.contains("socketserver"), "{said}");
    let (second, third) = rest.split_once("✗ three").unwrap();
    assert!(!second.contains("log ") && third.contains("log behind /three\n") && !third.contains("/one"), "{said}");
}

/// A model whose loading goes as `loading` does.
fn loading(loading: &str) -> Home {
    let home = Home::warm();
    home.tiny("tiny");
    let model = format!(
        "import logging\nimport time\nlogging.getLogger('mine').warning('loads')\n\ndef load():\n    {loading}\n\nload()\n\n\
         def predict(x: float) -> float:\n    return x\n\ndef explain():\n    return {{}}\n"
    );
    home.write("tiny/src/predict.py", model);
    home
}

#[test]
fn what_is_never_ready_says_where_it_is() {
    let home = loading("time.sleep(1000)");
    for args in [&["test", "tiny", "--timeout", "15"][..], &["run", "tiny", "--detach", "--timeout", "15"]] {
        let said = home.run(args).ends(1).says("log warning: loads\n").says("log   src/predict.py:6, in load\n");
        let error = "it does not listen yet; it is at src/predict.py:6, in load\n";
        assert!(said.err.contains(error) && !said.err.contains("importlib"), "{}", said.err);
    }
    // In the foreground it goes on, and says it in what is shown anyway.
    let mut run = tool("timeout");
    let command = home.command(["run", "tiny", "--timeout", "15"]);
    run.args(["--signal=INT", "30"]).arg(command.get_program()).args(command.get_args());
    run.current_dir(home.folder()).env("EKIBEN_HOME", home.store());
    let said = ran(&mut run).says("/readyz does not answer");
    assert!(said.out.contains("\"/app/src/predict.py\", line 6 in load"), "{}", said.out);
    // A program that knows no such signal is not hurt by it.
    let wait = "import time; time.sleep(10); print('over')";
    let manifest = "name: own\nversion: '1'\npython: {version: '3.11'}\nservice: {command: [python3, -c, \"WAIT\"]}\n";
    home.write("own/ekiben.yaml", manifest.replace("WAIT", wait));
    home.build("own");
    assert_eq!(home.run(["run", "own:1", "--timeout", "1"]).ok().says("does not answer").out, "over\n");
}

#[test]
fn what_crashes_says_where_it_was() {
    let home = loading("import ctypes; ctypes.string_at(0)");
    let said = home.run(["test", "tiny"]).ends(1).says("Segmentation fault").says("log   src/predict.py:6, in load\n");
    assert!(
        said.err.contains("exit code 139 before it was ready") && said.err.contains("`ekiben logs --last`"),
        "{}",
        said.err
    );
    let home = breaking("tests: [{request: {x: -1}}]\n");
    let model = BREAKS.replace("return {}['secret']", "import ctypes; ctypes.string_at(0)");
    home.write("tiny/src/predict.py", model);
    let said = home.run(["test", "tiny"]).ends(4).out;
    assert!(
        said.contains("log Fatal Python error: Segmentation fault\n") && said.contains("src/predict.py:9, in inner"),
        "{said}"
    );
    home.run(["invoke", "tiny", "-d", "{\"x\": -1}"]).ends(5).says("src/predict.py:9, in inner");
}

#[test]
fn what_is_said_between_a_broken_answer_and_the_end_belongs_to_it() {
    let server = r#"
def end():
    time.sleep(0.6)
    print("at last", flush=True)
    os._exit(3)

def answer(request):
    if request.path == "/readyz":
        request.send_response(200)
        request.end_headers()
    else:
        threading.Thread(target=end).start()
"#;
    let home = serving(server, "tests: [{path: /predict}]\n");
    let said = home.run(["test", "own"]).ends(4).out;
    assert!(said.contains("log at last\n"), "{said}");
    home.run(["invoke", "own", "/predict"]).ends(5).says("log at last\n");
}

#[test]
fn what_has_ended_stays_readable() {
    for home in [breaking("tests: [{request: {x: 1}}]\n"), breaking("tests: [{request: {x: 1}}]\n").of_a_user()] {
        home.run(["logs", "--last"]).ends(1).says("no container has ended");
        home.run(["test", "tiny"]).ok();
        let said = home.run(["logs", "--last"]).ok().out;
        assert!(said.contains("asked for 1.0\n") && said.contains("\"path\": \"/predict\""), "{said}");
        assert_eq!(home.stored("containers"), [""; 0]);
        let [name] = home.stored("logs").try_into().unwrap();
        assert_eq!(home.run(["logs", &name]).ok().out, said);
        assert_eq!(home.run(["logs", &name, "--tail", "1"]).ok().out, format!("{}\n", said.lines().last().unwrap()));
        home.run(["invoke", "tiny:1", "-d", "{\"x\": 7}"]).ok();
        assert!(home.run(["logs", "--last"]).ok().out.contains("asked for 7.0\n"));
        // One that was to be kept and was stopped afterwards is the last; one that runs has not ended.
        home.run(["run", "tiny:1", "--detach", "--name", "kept"]).ok();
        assert!(home.run(["logs", "--last"]).ok().out.contains("asked for 7.0\n"));
        home.run(["invoke", "kept", "-d", "{\"x\": 8}"]).ok();
        home.run(["stop", "kept"]).ok();
        assert!(home.run(["logs", "--last"]).ok().out.contains("asked for 8.0\n"));
        home.run(["logs", "../lock"]).ends(1).says("there is no container `../lock`");
        home.run(["prune", "--all"]).ok();
        assert_eq!(home.stored("logs"), [""; 0]);
    }
}
