//! The generated service under load: how much it takes on, what it refuses, how it ends, and its workers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::home::{Home, PATIENCE};
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
    let answers = at_once(&service, 12, "/predict", &json!({ "seconds": 5.0 }));
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
    let held = sent(&service, "/predict", &json!({ "seconds": 6.0 }));
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
    let late = service.post("/predict", &json!({ "seconds": 5.0 }));
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
    let service = slow(json!({ "deferred": { "most": 2, "keep": "6s" } }));
    let later = |path: &str, body: &Value| service.ask("POST", path, "prefer: respond-async\r\n", body.to_string());
    let place = |answer: &Answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        let line = answer.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        line.to_owned()
    };
    // What is wrong with it is said at once.
    assert_eq!(later("/predict", &json!({ "seconds": "x" })).status, 422);
    let one = place(&later("/predict", &json!({ "seconds": 2.0 })));
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

/// A file is there until the function has read it, and an answer that is a file until it is asked for.
#[test]
fn a_file_goes_into_an_answer_for_later_and_comes_out_of_it() {
    let source = "import time\nfrom pathlib import Path\nfrom typing import Iterator\n\n\ndef predict(file: Path) -> Path:\n    \
                  time.sleep(0.3)\n    turned = file.with_name('turned.bin')\n    \
                  turned.write_bytes(file.read_bytes()[::-1])\n    return turned\n\n\ndef parts(file: Path) -> \
                  Iterator[str]:\n    for byte in file.read_bytes():\n        time.sleep(0.1)\n        yield str(file.exists())\n\n\n\
                  def places() -> list[str]:\n    import glob, tempfile\n    return glob.glob(tempfile.gettempdir() + '/ekiben-*/*.later')\n";
    let functions = json!({ "parts": "src/predict.py:parts", "places": "src/predict.py:places" });
    let service =
        Service::start(&tiny(&json!({ "predict": "src/predict.py:predict", "functions": functions })), source).ready();
    let form = [("name=file; filename=x.later", b"\x01\x02\xff".as_slice())];
    for (path, kind, wanted) in [
        ("/predict", "application/octet-stream", b"\xff\x02\x01".as_slice()),
        ("/parts", "application/json", b"[\"True\",\"True\",\"True\"]"),
    ] {
        let later = service.send(path, "prefer: respond-async\r\n", &form);
        assert_eq!(later.status, 202, "{}", later.body);
        let place = later.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        until("it is there", || service.get(place).status != 202);
        for _ in 0..2 {
            let answer = service.get(place);
            assert_eq!((answer.status, answer.bytes.as_slice()), (200, wanted), "{}", service.log());
            assert!(answer.head.contains(&format!("content-type: {kind}")), "{}", answer.head);
        }
    }
    // What is wrong with a file is said at once; and nothing of any is left.
    assert_eq!(service.send("/predict", "prefer: respond-async\r\n", &[("name=other", b"")]).status, 422);
    assert_eq!(service.post("/places", &json!({})).json(), json!([]));
}

/// Where the manifest says nothing of it, functions that wait for something run together, those that compute on all
/// processors do not, and one does not wait for another.
#[test]
fn as_many_are_at_work_as_keep_the_processors_busy() {
    let source = "import threading, time\nlock, running = threading.Lock(), {}\n\n\ndef most(name, work):\n    \
                  with lock:\n        running[name] = running.get(name, 0) + 1\n        found = running[name]\n    \
                  try:\n        work()\n    finally:\n        with lock:\n            running[name] -= 1\n    \
                  return found\n\n\ndef wait() -> int:\n    return most('wait', lambda: time.sleep(0.2))\n\n\n\
                  def compute() -> int:\n    import hashlib\n    end = time.monotonic() + 0.2\n    def spin():\n        \
                  while time.monotonic() < end:\n            hashlib.sha256(b'x' * 1000000)\n    def work():\n        \
                  threads = [threading.Thread(target=spin) for _ in range(32)]\n        \
                  [thread.start() for thread in threads]\n        [thread.join() for thread in threads]\n    \
                  return most('compute', work)\n\n\ndef quick() -> int:\n    return 1\n";
    let functions =
        json!({ "wait": "src/predict.py:wait", "compute": "src/predict.py:compute", "quick": "src/predict.py:quick" });
    let service = Service::start(&tiny(&json!({ "functions": functions })), source).ready();
    let most = |answers: &[Answer]| -> Vec<u64> {
        let mut found: Vec<_> = answers.iter().map(|answer| answer.json().as_u64().unwrap()).collect();
        found.sort_unstable();
        found
    };
    let waiting = at_once(&service, 60, "/wait", &json!({}));
    assert!(most(&waiting)[59] > 4, "{:?}", most(&waiting));
    std::thread::scope(|scope| {
        let computing = scope.spawn(|| at_once(&service, 12, "/compute", &json!({})));
        until("some wait", || !service.get("/metrics").body.contains("ekiben_requests_waiting 0"));
        assert_eq!(service.post("/quick", &json!({})).json(), json!(1));
        assert!(!computing.is_finished(), "one function waited for the end of the other");
        let computed = computing.join().unwrap();
        // Until it is seen what they do, there may be some more.
        assert!(most(&computed)[6] <= 3, "{:?}", most(&computed));
    });
}

#[test]
fn libraries_have_no_more_threads_than_the_service_has_processors() {
    let source = "import os\n\ndef predict():\n    return os.environ.get('OMP_NUM_THREADS')\n";
    let all = std::thread::available_parallelism().unwrap().get();
    let service = |workers: usize| {
        let manifest = tiny(&json!({ "predict": "src/predict.py:predict", "workers": workers }));
        let service = Service::start(&manifest, source).ready();
        until("it is ready", || service.get("/readyz").status == 200);
        service.post("/predict", &json!({})).json()
    };
    // All of them, which is what libraries take: nothing is said.
    assert_eq!(service(1), json!(null));
    assert_eq!(service(2 * all), json!("1"));
}

#[test]
fn what_is_in_hand_is_answered_when_it_ends_and_what_comes_then_is_refused() {
    let mut service = slow(json!({ "concurrency": 4, "grace": "60s" }));
    std::thread::scope(|scope| {
        let hand: Vec<_> =
            (0..8).map(|_| scope.spawn(|| service.post("/predict", &json!({ "seconds": 5.0 })))).collect();
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
    let mut service = slow(json!({ "workers": 3, "concurrency": 1, "grace": "60s" }));
    until("all are ready", || service.get("/readyz").status == 200);
    assert!(service.log().contains("share the model"), "{}", service.log());
    let first = workers(&service);
    assert_eq!(first.len(), 3);
    let (mut asked, mut busy) = (0, std::collections::BTreeSet::new());
    // On a busy machine one may be awake before the others.
    until("several are at work", || {
        let answers = at_once(&service, 12, "/predict", &json!({ "seconds": 0.1 }));
        assert!(answers.iter().all(|answer| answer.status == 200), "{}", service.log());
        asked += 12;
        busy.extend(answers.iter().map(|answer| answer.json()["process"].as_i64().unwrap()));
        busy.len() > 1
    });
    let counted = &format!(r#"ekiben_requests_total{{method="POST",path="/predict",status="200"}} {asked}"#);
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
    assert!(service.get("/metrics").body.contains(counted), "{}", service.get("/metrics").body);
    assert_eq!(at_once(&service, 9, "/predict", &json!({ "seconds": 0.05 })).len(), 9);

    std::thread::scope(|scope| {
        let hand: Vec<_> =
            (0..9).map(|_| scope.spawn(|| service.post("/predict", &json!({ "seconds": 2.0 })))).collect();
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

#[test]
fn in_a_container_workers_answer_below_a_root_in_parts_and_end_with_it() {
    let home = Home::warm();
    home.tiny("tiny");
    let text = std::fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let (head, _) = text.split_once("service:").unwrap();
    let service = "service:\n  predict: src/predict.py:predict\n  functions: {whose: src/predict.py:whose}\n  workers: 2\n  \
                   root: /tiny/api\ntests:\n  - request: {count: 3}\n    expect: [0, 1, 2]\n  \
                   - {path: /whose, request: {}, expect: nobody}\n  - path: /readyz\n";
    home.write("tiny/ekiben.yaml", format!("{head}{service}"));
    let code = "import time\nfrom ekiben_service import credentials\n\n\ndef predict(count: int, seconds: float = 0.0):\n    \
                for n in range(count):\n        yield n\n        time.sleep(seconds)\n\n\n\
                def whose() -> str:\n    return credentials.get('TOKEN', 'nobody')\n";
    home.write("tiny/src/predict.py", code);
    let tested = home.run(["test", "tiny"]).ok();
    assert!(tested.out.contains("2 as expected, 1 answered"), "{}", tested.out);
    let port = crate::home::free_port().to_string();
    home.run(["run", "tiny", "--detach", "--name", "mine", "-p", &port]).ok();
    let asked = home.run(["invoke", "mine", "/tiny/api/whose", "-d", "{}", "--credential", "TOKEN=hidden"]).ok();
    assert_eq!(asked.out.trim_end(), "\"hidden\"");
    assert!(!home.run(["logs", "mine"]).ok().out.contains("hidden"));
    // A stream that is under way when it is asked to end comes to its end.
    let mut command = home.command(["invoke", "mine", "/tiny/api/predict", "-d", r#"{"count": 6, "seconds": 0.3}"#]);
    let mut asking = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut reader = BufReader::new(asking.stdout.take().unwrap());
    let mut text = String::new();
    reader.read_line(&mut text).unwrap();
    home.run(["stop", "mine"]).ok();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "0\n1\n2\n3\n4\n5\n");
    asking.wait().unwrap();
}
