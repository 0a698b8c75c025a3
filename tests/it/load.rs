//! The generated service under load: how much it takes on, what it refuses, how it ends, and its workers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::home::PATIENCE;
use crate::service::{Answer, Service, tiny};

/// Works for as long as it is told to, and tells how many were at work with it.
const SLOW: &str = "import asyncio, os, sys, threading, time\n\
    running, ended, begun = 0, [], 0\n\
    lock = threading.Lock()\n\
    def predict(seconds: float = 0.3) -> dict:\n    \
        global running, begun\n    \
        with lock:\n        \
            running += 1\n        \
            begun += 1\n        \
            most = running\n    \
        time.sleep(seconds)\n    \
        with lock:\n        \
            running -= 1\n    \
        return {'process': os.getpid(), 'most': most}\n\
    async def wait(seconds: float = 0.3) -> dict:\n    \
        try:\n        \
            await asyncio.sleep(seconds)\n        \
            return {'process': os.getpid()}\n    \
        finally:\n        \
            ended.append(seconds)\n\
    async def state() -> dict:\n    \
        return {'running': running, 'ended': ended, 'begun': begun}\n\
    def leave():\n    \
        sys.exit(3)\n";

fn slow(settings: Value) -> Service {
    let mut service = json!({
        "predict": "src/predict.py:predict",
        "functions": {
            "wait": "src/predict.py:wait", "state": "src/predict.py:state", "leave": "src/predict.py:leave",
        },
    });
    service.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Service::start(&tiny(&service), SLOW).ready()
}

/// So many answers to the same request, asked for at once.
fn at_once(service: &Service, count: usize, path: &str, body: &Value) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..count).map(|_| scope.spawn(|| service.post(path, body))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Waits for what comes to be.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A request that is sent; nobody has read an answer.
fn sent(service: &Service, path: &str, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
    let body = body.to_string();
    let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn state(service: &Service) -> Value {
    service.post("/state", &json!({})).json()
}

#[test]
fn so_many_are_at_work_so_many_wait_and_the_others_are_refused() {
    let service = slow(json!({ "concurrency": 2, "queue": 3 }));
    // Two functions hold all places, and three wait.
    let holding = at_once(&service, 1, "/predict", &json!({ "seconds": 0 }));
    assert_eq!(holding[0].status, 200, "{}", service.log());
    let answers = at_once(&service, 12, "/predict", &json!({ "seconds": 2.0 }));
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(503)), (5, 7), "{}", service.log());
    for answer in &answers {
        if answer.status == 200 {
            assert!(answer.json()["most"].as_u64().unwrap() <= 2, "{}", answer.body);
        } else {
            assert!(answer.head.contains("retry-after: "), "{}", answer.head);
            assert!(answer.json()["request_id"].is_string(), "{}", answer.body);
        }
    }
    let metrics = service.get("/metrics").body;
    assert!(metrics.contains(r#"ekiben_requests_total{method="POST",path="/predict",status="503"} 7"#), "{metrics}");
    assert!(metrics.contains("ekiben_requests_waiting 0"), "{metrics}");
}

#[test]
fn two_hundred_at_once_are_all_answered() {
    let service = slow(json!({}));
    let answers = at_once(&service, 200, "/predict", &json!({ "seconds": 0.01 }));
    assert!(answers.iter().all(|answer| answer.status == 200), "{}", service.log());
}

#[test]
fn a_place_in_the_queue_of_one_who_left_is_free_and_his_function_is_not_run() {
    let service = slow(json!({ "concurrency": 1, "queue": 2 }));
    let held = sent(&service, "/predict", &json!({ "seconds": 2.0 }));
    until("it runs", || service.get("/metrics").body.contains("ekiben_requests_in_progress 2"));
    let waiting = [sent(&service, "/predict", &json!({})), sent(&service, "/predict", &json!({}))];
    until("they wait", || service.get("/metrics").body.contains("ekiben_requests_waiting 2"));
    assert_eq!(service.post("/predict", &json!({})).status, 503);
    drop(waiting);
    // It waits until the one is done, and not behind those who left.
    until("there is room again", || service.post("/predict", &json!({ "seconds": 0 })).status == 200);
    drop(held);
    // The one that was held, the one of us: those who left never began.
    assert_eq!(state(&service)["begun"], json!(2), "{}", service.log());
}

#[test]
fn at_the_end_of_the_time_the_caller_is_told_and_the_place_is_free_when_the_function_ends() {
    let service = slow(json!({ "concurrency": 1, "timeout": "500ms" }));
    let late = service.post("/predict", &json!({ "seconds": 1.5 }));
    assert_eq!(late.status, 504, "{}", late.body);
    assert!(late.json()["detail"].as_str().unwrap().contains("0.5 s"), "{}", late.body);
    // It still runs, and its place is taken: the next waits in vain, and may come again.
    let next = service.post("/predict", &json!({ "seconds": 0 }));
    assert!(next.status == 503 && next.head.contains("retry-after: "), "{} {}", next.status, next.head);
    until("it has ended", || service.post("/predict", &json!({ "seconds": 0 })).status == 200);
    // An async one is stopped.
    assert_eq!(service.post("/wait", &json!({ "seconds": 60.0 })).status, 504);
    assert_eq!(state(&service)["ended"], json!([60.0]));
    // And a body has to come in that time.
    let mut slow = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
    slow.write_all(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let mut line = String::new();
    BufReader::new(slow).read_line(&mut line).unwrap();
    assert!(line.contains(" 408 "), "{line}");
    // What ends the interpreter ends the request.
    assert_eq!(service.post("/leave", &json!({})).status, 500);
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn callers_who_send_slowly_hold_nobody_up() {
    let service = slow(json!({ "concurrency": 1, "queue": 1 }));
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
            stream.write_all(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").unwrap();
            stream
        })
        .collect();
    assert_eq!(service.post("/predict", &json!({ "seconds": 0 })).status, 200);
    drop(slow);
    assert_eq!(service.post("/predict", &json!({ "seconds": 0 })).status, 200);
}

#[test]
fn an_answer_that_nobody_waits_for_is_asked_for_later() {
    let service = slow(json!({ "deferred": { "most": 2, "keep": "2s" } }));
    let later = |path: &str, body: &Value| service.ask("POST", path, "prefer: respond-async\r\n", body.to_string());
    let place = |answer: &Answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        let line = answer.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        line.to_owned()
    };
    // What is wrong with it is said at once.
    assert_eq!(later("/predict", &json!({ "seconds": "x" })).status, 422);
    let one = place(&later("/predict", &json!({ "seconds": 0.5 })));
    assert!(one.starts_with("/requests/") && one.len() > 40, "{one}");
    assert_eq!(service.get(&one).status, 202);
    let other = place(&later("/wait", &json!({ "seconds": 60.0 })));
    assert_ne!(one, other);
    assert_eq!(later("/predict", &json!({})).status, 503, "a third is too many");
    until("it is there", || service.get(&one).status == 200);
    assert!(service.get(&one).json()["most"].is_u64());
    // Who does not want it any more ends it, where it can be ended.
    assert_eq!(service.ask("DELETE", &other, "", "").status, 204);
    assert_eq!(service.get(&other).status, 404);
    assert_eq!(state(&service)["ended"], json!([60.0]));
    let failing = place(&later("/predict", &json!({ "seconds": -1.0 })));
    until("its failure is there", || service.get(&failing).status == 422);
    until("it is forgotten", || service.get(&one).status == 404);
    assert!(!service.log().contains(&one), "an address is as good as the answer");
}

#[test]
fn what_is_in_hand_is_answered_when_it_ends_and_what_comes_then_is_refused() {
    let mut service = slow(json!({ "concurrency": 4 }));
    std::thread::scope(|scope| {
        let hand: Vec<_> =
            (0..8).map(|_| scope.spawn(|| service.post("/predict", &json!({ "seconds": 0.7 })))).collect();
        until("they are at work", || service.get("/metrics").body.contains("ekiben_requests_in_progress 9"));
        service.signal(Signal::SIGTERM);
        until("it says so", || service.get("/readyz").status == 503);
        assert_eq!(service.get("/livez").status, 200);
        // A connection that would be kept is closed.
        let mut refused = String::new();
        sent(&service, "/predict", &json!({})).read_to_string(&mut refused).unwrap();
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("connection: close"), "{refused}");
        for answer in hand {
            assert_eq!(answer.join().unwrap().status, 200);
        }
    });
    assert_eq!(service.process.wait().unwrap().code(), Some(0), "{}", service.log());
}

#[test]
fn when_the_time_of_grace_is_over_each_caller_is_told() {
    let mut service = slow(json!({ "grace": "300ms" }));
    let mut held =
        [sent(&service, "/predict", &json!({ "seconds": 60.0 })), sent(&service, "/wait", &json!({ "seconds": 60.0 }))];
    until("they are at work", || service.get("/metrics").body.contains("ekiben_requests_in_progress 3"));
    let started = Instant::now();
    service.signal(Signal::SIGTERM);
    assert_eq!(service.process.wait().unwrap().code(), Some(0), "{}", service.log());
    assert!(started.elapsed() < Duration::from_secs(30));
    for stream in &mut held {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("the service ends"), "{text}");
    }
}

/// The processes of the workers.
fn workers(service: &Service) -> Vec<Pid> {
    let id = service.process.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.split_whitespace().map(|id| Pid::from_raw(id.parse().unwrap())).collect()
}

#[test]
fn a_worker_that_is_killed_is_started_again_and_all_are_counted_together() {
    let mut service = slow(json!({ "workers": 3, "concurrency": 1 }));
    until("all are ready", || service.get("/readyz").status == 200);
    assert!(service.log().contains("share the model"), "{}", service.log());
    let first = workers(&service);
    assert_eq!(first.len(), 3);
    let answers = at_once(&service, 12, "/predict", &json!({ "seconds": 0.1 }));
    assert!(answers.iter().all(|answer| answer.status == 200), "{}", service.log());
    let mut busy: Vec<_> = answers.iter().map(|answer| answer.json()["process"].as_i64().unwrap()).collect();
    busy.sort_unstable();
    busy.dedup();
    assert!(busy.len() > 1, "one of them has done it all");
    let counted = r#"ekiben_requests_total{method="POST",path="/predict",status="200"} 12"#;
    assert!((0..6).all(|_| service.get("/metrics").body.contains(counted)), "{}", service.get("/metrics").body);

    // An answer that is kept by one of them is found by way of any other.
    let later = service.ask("POST", "/predict", "prefer: respond-async\r\n", "{}");
    let place = later.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    until("it is there", || service.get(place).status == 200);
    let kept: Vec<_> = (0..12).map(|_| service.get(place)).collect();
    assert!(kept.iter().all(|answer| answer.status == 200 && answer.body == kept[0].body), "{}", service.log());
    assert!(kept[0].head.contains("content-type: application/json"), "{}", kept[0].head);

    kill(first[0], Signal::SIGKILL).unwrap();
    until("there is another", || workers(&service).len() == 3 && !workers(&service).contains(&first[0]));
    until("it is ready", || service.get("/readyz").status == 200);
    assert!(service.log().contains("another is started in 0.1 s"), "{}", service.log());
    // Those before it died count.
    let counted = r#"ekiben_requests_total{method="POST",path="/predict",status="200"} 12"#;
    assert!(service.get("/metrics").body.contains(counted), "{}", service.get("/metrics").body);
    assert_eq!(at_once(&service, 9, "/predict", &json!({ "seconds": 0.05 })).len(), 9);

    std::thread::scope(|scope| {
        let hand: Vec<_> =
            (0..9).map(|_| scope.spawn(|| service.post("/predict", &json!({ "seconds": 1.0 })))).collect();
        until("they are at work", || service.get("/metrics").body.contains("ekiben_requests_in_progress 10"));
        service.signal(Signal::SIGTERM);
        for answer in hand {
            assert_eq!(answer.join().unwrap().status, 200, "{}", service.log());
        }
    });
    assert_eq!(service.process.wait().unwrap().code(), Some(0), "{}", service.log());
}

#[test]
fn workers_end_with_the_process_that_keeps_them() {
    let mut service = slow(json!({ "workers": 2 }));
    until("all are ready", || service.get("/readyz").status == 200);
    let ids = workers(&service);
    service.signal(Signal::SIGKILL);
    service.process.wait().unwrap();
    until("they have ended", || ids.iter().all(|id| kill(*id, None).is_err()));
}

#[test]
fn a_model_that_cannot_be_shared_is_loaded_by_each_worker() {
    let source = format!("OPEN = open(__file__)\n{SLOW}");
    let manifest = tiny(&json!({ "predict": "src/predict.py:predict", "workers": 2 }));
    let service = Service::start(&manifest, &source).ready();
    until("all are ready", || service.get("/readyz").status == 200);
    let log = service.log();
    assert!(log.contains("src/predict.py open") && log.contains("load the model themselves"), "{log}");
    assert_eq!(service.post("/predict", &json!({ "seconds": 0 })).status, 200);

    let source =
        format!("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n{SLOW}");
    let service = Service::start(&manifest, &source).ready();
    until("all are ready", || service.get("/readyz").status == 200);
    assert!(service.log().contains("has 2 threads"), "{}", service.log());

    // What none of them can load ends the service.
    let source = "import os\nOPEN = open(__file__)\nassert not os.environ.get('EKIBEN_WORKERS_APART'), 'no more'\n\
                  def predict(): ...\n";
    let mut service = Service::start(&manifest, source);
    assert_eq!(service.process.wait().unwrap().code(), Some(1));
    assert!(service.log().contains("ended before it was ready"), "{}", service.log());
}
