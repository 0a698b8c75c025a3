//! Functions that answer in parts: how the parts come, and what ends them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::PATIENCE;
use crate::service::{Answer, Service, tiny};

/// Gives parts until it was told to stop, and tells what has ended.
const PARTS: &str = "import asyncio, threading, time\n\
    from typing import AsyncIterator, Iterator\n\
    ended = []\n\
    def predict(count: int = 3, seconds: float = 0.0, fail: int = -1) -> Iterator[str]:\n    \
        began = threading.get_ident()\n    \
        try:\n        \
            for n in range(count):\n            \
                if n == fail:\n                \
                    raise KeyError('secret')\n            \
                yield f'part {n}\\n'\n            \
                time.sleep(seconds)\n    \
        finally:\n        \
            ended.append('predict' if threading.get_ident() == began else 'elsewhere')\n\
    async def wait(count: int = 3, seconds: float = 0.0, fail: int = -1) -> AsyncIterator[dict]:\n    \
        try:\n        \
            for n in range(count):\n            \
                if n == fail:\n                \
                    raise ValueError('it was told')\n            \
                yield {'n': n}\n            \
                await asyncio.sleep(seconds)\n    \
        finally:\n        \
            ended.append('wait')\n\
    def state() -> list:\n    \
        return ended\n";

fn parts(settings: Value) -> Service {
    let mut service = json!({
        "predict": "src/predict.py:predict",
        "functions": { "wait": "src/predict.py:wait", "state": "src/predict.py:state" },
    });
    service.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Service::start(&tiny(&service), PARTS).ready()
}

fn ask(service: &Service, path: &str, accept: &str, body: &Value) -> Answer {
    service.ask("POST", path, &format!("accept: {accept}\r\n"), body.to_string())
}

/// The pieces of a body in HTTP's chunks, and whether it came to its end.
fn pieces(body: &str) -> (Vec<String>, bool) {
    let (mut rest, mut pieces) = (body, Vec::new());
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (pieces, true);
        }
        pieces.push(after[..length].to_owned());
        rest = &after[length + 2..];
    }
    (pieces, false)
}

#[test]
fn parts_come_in_the_form_that_the_caller_accepts() {
    let service = parts(json!({}));
    let body = json!({});
    for accept in ["*/*", "text/event-stream", "text/*", "application/json;q=0.5, text/event-stream"] {
        let answer = ask(&service, "/predict", accept, &body);
        assert!(answer.head.contains("content-type: text/event-stream"), "{accept}: {}", answer.head);
        let wanted: Vec<_> = (0..3).map(|n| format!("data: \"part {n}\\n\"\n\n")).collect();
        assert_eq!(pieces(&answer.body), (wanted, true), "{accept}");
    }
    let answer = ask(&service, "/wait", "application/x-ndjson", &body);
    assert_eq!(pieces(&answer.body).0, ["{\"n\":0}\n", "{\"n\":1}\n", "{\"n\":2}\n"]);
    let answer = ask(&service, "/predict", "text/plain", &body);
    assert_eq!(pieces(&answer.body).0, ["part 0\n", "part 1\n", "part 2\n"]);
    // As a browser's client asks that knows of no streams, and one that knows nothing else.
    for accept in ["application/json", "application/json, text/plain, */*"] {
        assert_eq!(ask(&service, "/wait", accept, &body).json(), json!([{ "n": 0 }, { "n": 1 }, { "n": 2 }]));
    }
    assert_eq!(ask(&service, "/predict", "image/png", &body).status, 406);
    assert_eq!(pieces(&ask(&service, "/wait", "*/*", &json!({ "count": 0 })).body), (vec![], true));
    // What is kept for later is a list.
    let later = service.ask("POST", "/wait", "prefer: respond-async\r\n", "{}");
    let place = later.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    let started = Instant::now();
    while service.get(place).status == 202 {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(service.get(place).json()[2], json!({ "n": 2 }));

    let content = &service.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]["content"];
    assert_eq!(content["application/json"]["schema"], json!({ "type": "array", "items": { "type": "string" } }));
    assert!(content["text/event-stream"].is_object() && content["application/x-ndjson"].is_object());
    assert!(!service.root.path().join("ekiben_service/workers.py").exists());
}

#[test]
fn a_stream_that_breaks_off_says_so() {
    let service = parts(json!({}));
    let body = json!({ "fail": 1 });
    let answer = ask(&service, "/predict", "*/*", &body);
    let (events, ended) = pieces(&answer.body);
    assert!(ended && events[1].starts_with("event: error\ndata: {\"detail\": \"internal error\""), "{events:?}");
    let (lines, _) = pieces(&ask(&service, "/wait", "application/x-ndjson", &body).body);
    assert!(lines[1].starts_with("{\"error\": {\"detail\": \"it was told\""), "{lines:?}");
    let (text, ended) = pieces(&ask(&service, "/predict", "text/plain", &body).body);
    assert_eq!((text, ended), (vec!["part 0\n".to_owned()], false));
    // Before the first part, and where nothing was sent, it is a status.
    assert_eq!(ask(&service, "/predict", "*/*", &json!({ "fail": 0 })).status, 500);
    assert_eq!(ask(&service, "/wait", "*/*", &json!({ "fail": 0 })).status, 422);
    assert_eq!(ask(&service, "/predict", "application/json", &body).status, 500);
    assert!(service.log().contains("the stream broke off") && service.log().contains("KeyError: 'secret'"));
    assert_eq!(service.post("/state", &json!({})).json().as_array().unwrap().len(), 6);
}

#[test]
fn each_part_comes_when_it_is_there_and_a_caller_who_leaves_ends_it() {
    let service = parts(json!({ "concurrency": 1 }));
    for path in ["/predict", "/wait"] {
        let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
        let body = json!({ "count": 1_000_000, "seconds": 0.2 }).to_string();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = 0;
        while lines < 3 {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0);
            lines += usize::from(line.starts_with("data: "));
        }
        stream.shutdown(Shutdown::Both).unwrap();
    }
    // There is one place alone: it is free when the generator has ended.
    let started = Instant::now();
    while service.post("/state", &json!({})).json() != json!(["predict", "wait"]) {
        assert!(started.elapsed() < PATIENCE, "{}", service.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_reads_slowly_gets_all_and_the_generator_waits_for_him() {
    let service = parts(json!({}));
    let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
    let body = json!({ "count": 300_000 }).to_string();
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: text/plain\r\n";
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(service.post("/state", &json!({})).json(), json!([]), "it does not run ahead");
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("part 299999\n\r\n0\r\n\r\n"));
}

#[test]
fn a_part_that_does_not_come_in_time_ends_the_stream() {
    let service = parts(json!({ "timeout": "400ms" }));
    let (events, _) = pieces(&ask(&service, "/wait", "*/*", &json!({ "count": 2, "seconds": 30.0 })).body);
    assert!(events[1].contains("event: error") && events[1].contains("no answer within 0.4 s"), "{events:?}");
    // Together they may take longer than one of them.
    let (events, _) = pieces(&ask(&service, "/wait", "*/*", &json!({ "count": 6, "seconds": 0.1 })).body);
    assert_eq!(events.len(), 6);
}

#[test]
fn invoke_prints_parts_as_they_come_and_needs_no_more_than_is_read() {
    let service = parts(json!({}));
    let address = format!("http://127.0.0.1:{}", service.port);
    let invoke = |data: &Value| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ekiben"));
        command.args(["invoke", &address, "/predict", "--data", &data.to_string()]);
        command.env("EKIBEN_HOME", service.root.path().join("home"));
        command
    };
    let output = invoke(&json!({})).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "\"part 0\\n\"\n\"part 1\\n\"\n\"part 2\\n\"\n");
    let output = invoke(&json!({})).args(["--output", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["encoding"], "text", "{document}");

    let mut endless = invoke(&json!({ "count": 1_000_000, "seconds": 0.1 }));
    let mut child = endless.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "\"part 0\\n\"\n");
    // Its output is closed: it ends by itself.
    child.wait().unwrap();
}
