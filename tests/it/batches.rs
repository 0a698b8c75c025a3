//! Requests that come together and are given to the function as one; a root for all paths; credentials of callers.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::PATIENCE;
use crate::service::{Answer, Service, tiny};

/// Doubles numbers, refuses those below zero, and tells of each call how many it was given.
const DOUBLES: &str = "import asyncio, time\n\
    import numpy as np\n\
    from ekiben_service import credentials\n\
    calls = []\n\
    def predict(rows: list[float], seconds: float = 0.2) -> list[float]:\n    \
        calls.append(len(rows))\n    \
        time.sleep(seconds)\n    \
        if any(row < 0 for row in rows):\n        \
            raise ValueError('there is no double below zero')\n    \
        return [2 * row for row in rows]\n\
    async def several(a: np.ndarray, b: list[str]) -> dict:\n    \
        calls.append(len(a))\n    \
        await asyncio.sleep(0.2)\n    \
        return {'doubled': a * 2, 'texts': [text.upper() for text in b], 'of': 'model'}\n\
    def whose(rows: list[int]) -> list[str]:\n    \
        calls.append(len(rows))\n    \
        time.sleep(0.2)\n    \
        return [credentials.get('TOKEN', 'nobody')] * len(rows)\n\
    def first(rows: list[int]) -> list[int]:\n    \
        time.sleep(0.2)\n    \
        return rows[:1]\n\
    async def state() -> list:\n    \
        return calls\n";

fn doubles(settings: Value) -> Service {
    let functions = ["several", "whose", "first", "state"];
    let mut service = json!({
        "predict": "src/predict.py:predict",
        "functions": functions.map(|name| (name, format!("src/predict.py:{name}"))).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "batch": { "predict": { "size": 8, "wait": "100ms" }, "several": {}, "whose": {}, "first": {} },
    });
    service.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Service::start(&tiny(&service), DOUBLES).ready()
}

/// Answers to bodies that are sent at once, each with its head.
fn at_once(service: &Service, path: &str, asked: &[(String, Value)]) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = asked
            .iter()
            .map(|(head, body)| scope.spawn(move || service.ask("POST", path, head, body.to_string())))
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn calls(service: &Service) -> Vec<u64> {
    serde_json::from_value(service.post("/state", &json!({})).json()).unwrap()
}

#[test]
fn requests_that_come_together_are_one_call_and_each_gets_its_own_answer() {
    let service = doubles(json!({}));
    let asked: Vec<_> =
        (0..40).map(|n| (String::new(), json!({ "rows": vec![f64::from(n); 1 + n as usize % 3] }))).collect();
    let answers = at_once(&service, "/predict", &asked);
    for (n, answer) in (0..40).zip(&answers) {
        let wanted = vec![f64::from(2 * n); 1 + n as usize % 3];
        assert_eq!((answer.status, answer.json()), (200, json!(wanted)), "{}", service.log());
    }
    let sizes = calls(&service);
    assert_eq!(
        sizes.iter().sum::<u64>(),
        asked.iter().map(|(_, body)| body["rows"].as_array().unwrap().len() as u64).sum::<u64>()
    );
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
    assert!(sizes.len() < 25, "they were joined: {sizes:?}");
    // More rows than a batch has, none, and other arguments than its neighbours: each alone.
    let many = service.post("/predict", &json!({ "rows": vec![1.0; 20], "seconds": 0 }));
    assert_eq!((many.json(), *calls(&service).last().unwrap()), (json!(vec![2.0; 20]), 20));
    assert_eq!(service.post("/predict", &json!({ "rows": [], "seconds": 0 })).json(), json!([]));
}

#[test]
fn arrays_are_joined_along_their_first_axis_and_what_is_no_row_is_for_all() {
    let service = doubles(json!({}));
    let asked: Vec<_> =
        (0..6).map(|n| (String::new(), json!({ "a": [[n, n], [n, n]], "b": ["x", format!("y{n}")] }))).collect();
    for (n, answer) in (0..6).zip(at_once(&service, "/several", &asked)) {
        let doubled = json!([[2 * n, 2 * n], [2 * n, 2 * n]]);
        let wanted = json!({ "doubled": doubled, "texts": ["X", format!("Y{n}")], "of": "model" });
        assert_eq!(answer.json(), wanted, "{}", service.log());
    }
    assert!(calls(&service).len() < 6, "{:?}", calls(&service));
    // Rows of other shapes cannot be joined, and are answered all the same.
    let asked = [json!([[1]]), json!([[1, 2]]), json!([[1.5]])].map(|a| (String::new(), json!({ "a": a, "b": ["x"] })));
    let answers = at_once(&service, "/several", &asked);
    assert_eq!(answers[1].json()["doubled"], json!([[2, 4]]), "{}", service.log());
    assert_eq!(answers[2].json()["doubled"], json!([[3.0]]), "{}", service.log());
    // Lists of other lengths than their array are for the function to judge.
    assert_eq!(service.post("/several", &json!({ "a": [1, 2], "b": ["x"] })).status, 200);
}

#[test]
fn one_that_cannot_be_answered_fails_alone() {
    let service = doubles(json!({}));
    let asked: Vec<_> = (-1..7).map(|n| (String::new(), json!({ "rows": [n] }))).collect();
    let answers = at_once(&service, "/predict", &asked);
    let bad: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert_eq!((bad.len(), bad[0].status), (1, 422), "{}", service.log());
    assert!(bad[0].body.contains("there is no double below zero"));
    assert_eq!(answers[3].json(), json!([4.0]));
    // What was never valid came near no batch.
    assert_eq!(service.post("/predict", &json!({ "rows": ["x"] })).status, 422);
    // A function that does not give an answer for each row is asked for each by itself.
    let answers = at_once(&service, "/first", &[1, 2, 3].map(|n| (String::new(), json!({ "rows": [n] }))));
    assert_eq!(answers.iter().map(Answer::json).collect::<Vec<_>>(), [json!([1]), json!([2]), json!([3])]);
}

#[test]
fn who_is_alone_does_not_wait_and_who_left_is_not_worked_for() {
    let service = doubles(json!({ "batch": { "predict": { "size": 8, "wait": "60s" } } }));
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(service.post("/predict", &json!({ "rows": [1], "seconds": 0 })).status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(30), "it waited for others");
    let held = send(&service, &json!({ "rows": [1], "seconds": 6 }));
    while calls(&service).len() < 4 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let leaving: Vec<_> = (0..4).map(|_| send(&service, &json!({ "rows": [1, 1], "seconds": 1.5 }))).collect();
    let started = Instant::now();
    while !service.get("/metrics").body.contains("ekiben_requests_waiting 4") {
        assert!(started.elapsed() < PATIENCE);
    }
    drop(leaving);
    assert_eq!(service.post("/predict", &json!({ "rows": [2], "seconds": 0 })).json(), json!([4.0]));
    assert_eq!(calls(&service), [1, 1, 1, 1, 1]);
    drop(held);
}

fn send(service: &Service, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
    let body = body.to_string();
    let head = format!("POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

#[test]
fn credentials_reach_the_function_of_their_request_alone() {
    let service = doubles(json!({}));
    let asked: Vec<_> = (0..24)
        .map(|n| match n % 3 {
            0 => (String::new(), json!({ "rows": [n] })),
            one => (format!("ENV_TOKEN: hidden-{one}\r\nenv_other: x\r\n"), json!({ "rows": [n] })),
        })
        .collect();
    for (n, answer) in at_once(&service, "/whose", &asked).iter().enumerate() {
        let wanted = if n % 3 == 0 { "nobody".to_owned() } else { format!("hidden-{}", n % 3) };
        assert_eq!(answer.json(), json!([wanted]), "{}", service.log());
    }
    assert!(calls(&service).len() < 24, "those of one caller are joined");
    assert!(!service.log().contains("hidden-") && !service.get("/metrics").body.contains("hidden-"));
}

#[test]
fn all_is_served_below_a_root_and_health_without_it_as_well() {
    let service = doubles(json!({ "root": "/tiny/api" }));
    let body = json!({ "rows": [1], "seconds": 0 });
    assert_eq!(service.post("/tiny/api/predict", &body).json(), json!([2.0]));
    for path in ["/predict", "/tiny/apipredict", "/tiny", "/docs", "/openapi.json", "/"] {
        assert_eq!(service.post(path, &body).status, 404, "{path}");
        assert_eq!(service.get(path).status, 404, "{path}");
    }
    for path in ["/healthz", "/livez", "/readyz", "/metrics"] {
        assert_eq!((service.get(path).status, service.get(&format!("/tiny/api{path}")).status), (200, 200), "{path}");
    }
    let home = service.get("/tiny/api");
    assert!(home.status == 307 && home.head.contains("location: /tiny/api/docs\r\n"), "{}", home.head);
    assert_eq!(service.get("/tiny/api/docs").status, 200);
    assert!(service.get("/tiny/api/docs/swagger-ui-bundle.js").body.len() > 100_000);
    assert_eq!(service.get("/tiny/api/openapi.json").json()["servers"], json!([{ "url": "/tiny/api" }]));
    let later = service.ask("POST", "/tiny/api/predict", "prefer: respond-async\r\n", body.to_string());
    let place = later.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    assert!(place.starts_with("/tiny/api/requests/") && service.get(place).status < 300, "{place}");
    assert!(service.get("/metrics").body.contains(r#"path="/predict",status="200""#));
}
