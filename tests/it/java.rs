//! Models in Java with a real one: a program for each request, and what h2o exported in one Java that stays.
//!
//! Needs a `java` to compile with, and the package index: the library that reads h2o's models lies in its wheel.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::home::{Home, ask, ran, tool, wait_until};
use serde_json::{Value, json};

const PROGRAM: &str = r#"
public class Predict {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "fail": System.err.println("it cannot be"); System.exit(3);
            case "odd": System.out.println("no json"); return;
            case "long": Thread.sleep(600_000);
            case "much": while (true) System.out.println("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[");
            default:
        }
        StringBuilder said = new StringBuilder("[");
        for (String one : args) {
            said.append(said.length() > 1 ? "," : "").append('"');
            for (char c : one.toCharArray()) said.append(String.format("\\u%04x", (int) c));
            said.append('"');
        }
        System.out.println(said.append("]"));
    }
}
"#;

/// A program made of `PROGRAM`.
fn program(home: &Home, place: &str) {
    let source = home.write("Predict.java", PROGRAM);
    let jar = home.write(place, "");
    ran(tool("java").arg("tests/it/home/Jar.java").arg(source).arg(jar)).ok();
}

/// The library that reads h2o's models, taken once out of the wheel that it comes in.
fn genmodel() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("h2o");
    let jar = folder.join("h2o-genmodel.jar");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !jar.exists() {
        let download = ["-m", "pip", "-q", "download", "--no-deps", "--dest"];
        ran(tool("python3").args(download).arg(&folder).arg("h2o==3.46.0.7")).ok();
        let script = "import io, pathlib, sys, zipfile\n\
                      folder = pathlib.Path(sys.argv[1])\n\
                      wheel = next(folder.glob('*.whl'))\n\
                      inner = zipfile.ZipFile(wheel).read('h2o/backend/bin/h2o.jar')\n\
                      jar = zipfile.ZipFile(io.BytesIO(inner)).read('www/3/h2o-genmodel.jar')\n\
                      (folder / 'new').write_bytes(jar)\n\
                      (folder / 'new').rename(folder / 'h2o-genmodel.jar')\n\
                      wheel.unlink()\n";
        ran(tool("python3").args(["-c", script]).arg(&folder)).ok();
    }
    jar
}

/// A service of the image, until it is dropped.
struct Service<'a> {
    home: &'a Home,
    name: String,
    address: String,
}

impl<'a> Service<'a> {
    fn start(home: &'a Home, project: &str) -> Self {
        let args = ["run", &home.path(project), "--detach", "--read-only", "-p", "0", "--output", "json"];
        let started = home.run(args).ok().json();
        let text = |key: &str| started[key].as_str().unwrap().to_owned();
        Self { home, name: text("name"), address: text("address").trim_start_matches("http://").to_owned() }
    }

    fn ask(&self, request: &Value) -> (u16, Value) {
        let (status, text) = ask(&self.address, "POST", "/predict", &request.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn says(&self, text: &str) {
        wait_until(text, || self.home.run(["logs", &self.name]).ok().out.contains(text));
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.home.run(["stop", "--remove", &self.name]);
    }
}

#[test]
fn a_program_is_run_for_each_request() {
    let home = Home::warm();
    program(&home, "p/src/predict.jar");
    home.write(
        "p/ekiben.yaml",
        "name: program\nversion: 1\nsystem: {packages: [openjdk-17-jre-headless]}\n\
         service:\n  timeout: 15s\n  java: {jar: src/predict.jar, parameters: [first, \"second one\"]}\n\
         tests: [{request: {first: a, second one: 1}, expect: [a, '1']}]\n",
    );
    home.run(["test", &home.path("p")]).ok();
    let service = Service::start(&home, "p");
    let said = |first: Value, second: Value| service.ask(&json!({ "second one": second, "first": first }));
    // Texts as they are, all else as JSON; nothing of it is a shell's, and nothing an option of Java's.
    for (value, word) in [
        (json!("öst 日本"), "öst 日本"),
        (json!(""), ""),
        (json!(2.5), "2.5"),
        (json!(null), "null"),
        (json!({"a": [1, "ü"]}), "{\"a\":[1,\"ü\"]}"),
        (
            json!("$(id) `id`; id | id > /tmp/x && id 'x' \"y\" \\ *"),
            "$(id) `id`; id | id > /tmp/x && id 'x' \"y\" \\ *",
        ),
        (json!("-Xmx1"), "-Xmx1"),
        (json!("@/etc/passwd"), "@/etc/passwd"),
        (json!("a\nb\tc"), "a\nb\tc"),
    ] {
        assert_eq!(said(value.clone(), value.clone()), (200, json!([word, word])), "{value}");
    }
    assert_eq!(said(json!("a\0b"), json!(1)).0, 422);
    assert_eq!(said("x".repeat(300_000).into(), json!(1)).0, 422);
    assert_eq!(service.ask(&json!({ "first": 1 })).0, 422);
    assert_eq!(service.ask(&json!({ "first": 1, "second one": 2, "third": 3 })).0, 422);
    assert_eq!(said(json!("fail"), json!(1)).0, 500);
    service.says("predict.jar ended with status 3; it said:\\nit cannot be");
    assert_eq!(said(json!("odd"), json!(1)).0, 500);
    service.says("what predict.jar says is no JSON");
    assert_eq!(said(json!("much"), json!(1)).0, 500);
    service.says("answers with more than");
    assert_eq!(said(json!("long"), json!(1)).0, 504);
    // What took too long does not go on.
    let running = "import os; print(sum(b'src/predict' + b'.jar' in open(f'/proc/{p}/cmdline', 'rb').read() for p in os.listdir('/proc') if p.isdigit()))";
    wait_until("the end of it", || home.run(["exec", &service.name, "--", "python", "-c", running]).ok().out == "0\n");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let said = &said;
            scope.spawn(move || assert_eq!(said(json!(number), json!(1)), (200, json!([number.to_string(), "1"]))));
        }
    });
}

/// A project around a model of `fixtures/mojo`.
fn scored(home: &Home, name: &str, file: &str, more: &str) {
    scored_with(home, name, file, more, "");
}

/// The same, of whose service more is said.
fn scored_with(home: &Home, name: &str, file: &str, more: &str, service: &str) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mojo").join(file);
    home.write(&format!("{name}/{file}"), fs::read(fixture).unwrap());
    home.write(&format!("{name}/h2o-genmodel.jar"), fs::read(genmodel()).unwrap());
    home.write(
        &format!("{name}/ekiben.yaml"),
        format!(
            "name: {name}\nversion: 1\n{more}system: {{packages: [openjdk-17-jre-headless]}}\nservice: {{{service}java: {{model: {file}}}}}\n"
        ),
    );
}

/// What h2o itself answered, in the form of Ekiben's answers.
fn expected(answers: &Value, model: &str) -> Vec<Value> {
    let number = |text: &Value| text.as_str().unwrap().parse::<f64>().unwrap();
    let rows = answers[model].as_array().unwrap().iter();
    rows.map(|row| match model {
        "number" => json!({ "value": number(&row["predict"]) }),
        "clusters" => json!({ "cluster": number(&row["predict"]) as i64 }),
        _ => {
            let of = |label: &str| number(&row[label]);
            let all = json!({ "broken": of("broken"), "good": of("good"), "worn": of("worn") });
            json!({ "label": row["predict"], "probabilities": all })
        }
    })
    .collect()
}

#[track_caller]
fn near(found: &Value, wanted: &Value) {
    match (found, wanted) {
        (Value::Object(one), Value::Object(other)) => {
            assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
            one.iter().for_each(|(key, value)| near(value, &other[key]));
        }
        (Value::Number(one), Value::Number(other)) => {
            assert!((one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-6, "{one} is not {other}");
        }
        _ => assert_eq!(found, wanted),
    }
}

#[test]
fn models_of_h2os_answer_as_h2o_does() {
    let home = Home::warm();
    let text = fs::read_to_string("fixtures/mojo/answers.json").unwrap();
    let answers: Value = serde_json::from_str(&text).unwrap();
    let asked = answers["asked"].as_array().unwrap();
    for (model, file, more) in [
        ("classes", "classes.zip", "model: {files: [classes.zip]}\n"),
        ("classes", "Classes.java", ""),
        ("number", "number.zip", ""),
        ("clusters", "clusters.zip", ""),
    ] {
        let name = file.to_ascii_lowercase().replace('.', "-");
        scored(&home, &name, file, more);
        let service = Service::start(&home, &name);
        let wanted = expected(&answers, model);
        // Of what a model does not know it is told, and takes the rest.
        let rows: Vec<Value> = asked
            .iter()
            .map(|row| {
                let mut row = row.clone();
                if model == "clusters" {
                    row.as_object_mut().unwrap().remove("make");
                }
                row
            })
            .collect();
        for (row, wanted) in rows.iter().zip(&wanted) {
            let (status, found) = service.ask(row);
            assert_eq!(status, 200, "{file}: {found}");
            near(&found, wanted);
        }
        let (status, found) = service.ask(&json!({ "rows": rows }));
        assert_eq!(status, 200, "{file}: {found}");
        found.as_array().unwrap().iter().zip(&wanted).for_each(|(found, wanted)| near(found, wanted));
    }
}

#[test]
fn a_model_of_h2os_is_described_and_checked_and_comes_back() {
    let home = Home::warm();
    scored(&home, "m", "classes.zip", "");
    let service = Service::start(&home, "m");
    let (_, document) = ask(&service.address, "GET", "/openapi.json", "");
    let document: Value = serde_json::from_str(&document).unwrap();
    let schema = &document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert!(schema["properties"]["make"].to_string().contains(r#"["north","south","öst"]"#), "{schema}");
    assert!(schema["properties"]["rows"].is_object() && schema["properties"]["shaking.rate"].is_object(), "{schema}");

    let good = json!({ "warmth": 71.5, "shaking.rate": 2, "make": "öst" });
    assert_eq!(service.ask(&good).0, 200);
    for bad in [
        json!({}),
        json!({ "warmth": "71.5" }),
        json!({ "warmth": true }),
        json!({ "warmth": 1, "make": "west" }),
        json!({ "warmth": 1, "weight": 2 }),
        json!({ "warmth": 1, "rows": [good] }),
        json!({ "rows": [{ "warmth": [] }] }),
        json!([good]),
    ] {
        assert_eq!(service.ask(&bad).0, 422, "{bad}");
    }
    assert_eq!(service.ask(&json!({ "rows": [] })), (200, json!([])));

    // Several at once, large and small ones: each gets its own.
    let alone = service.ask(&good).1;
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (service, good, alone) = (&service, &good, &alone);
            scope.spawn(move || {
                for _ in 0..20 {
                    if number % 2 == 0 {
                        assert_eq!(service.ask(good), (200, alone.clone()));
                    } else {
                        let (_, found) = service.ask(&json!({ "rows": vec![good; 500 + number] }));
                        assert_eq!(found, Value::Array(vec![alone.clone(); 500 + number]));
                    }
                }
            });
        }
    });

    let kill = "import os, signal\n\
                of = lambda p: open(f'/proc/{p}/cmdline', 'rb').read()\n\
                [os.kill(int(p), signal.SIGKILL) for p in os.listdir('/proc') if p.isdigit() and b'Score.' + b'java' in of(p)]\n";
    for _ in 0..3 {
        home.run(["exec", &service.name, "--", "python", "-c", kill]).ok();
        // Who asks in this moment may be told of it; whoever comes then waits for the next one.
        wait_until("another Java", || service.ask(&good) == (200, alone.clone()));
    }
    service.says("the model's Java ended with the signal SIGKILL; another one is started");
}

#[test]
fn a_model_that_is_trained_later_takes_over_without_a_request_lost() {
    let home = Home::warm();
    for model in ["classes.zip", "number.zip"] {
        home.write(&format!("later/src/{model}"), fs::read(format!("fixtures/mojo/{model}")).unwrap());
    }
    home.write("later/h2o-genmodel.jar", fs::read(genmodel()).unwrap());
    home.write(
        "later/src/train.py",
        "import pathlib, shutil\n\
         def train(data=None, hyperparameters=None):\n    \
             shutil.copy(pathlib.Path(__file__).with_name(hyperparameters['which']), 'model.zip')\n",
    );
    home.write(
        "later/ekiben.yaml",
        "name: later\nversion: \"1\"\nsystem: {packages: [openjdk-17-jre-headless]}\n\
         service: {java: {model: model.zip}}\ntraining:\n  function: src/train.py:train\n  output: model.zip\n  \
         parameters: {which: classes.zip}\n",
    );
    home.build("later");
    fs::create_dir(home.path("models")).unwrap();
    fs::set_permissions(home.path("models"), Permissions::from_mode(0o777)).unwrap();
    let train = |which: &str| {
        let parameters = format!("EKIBEN_HYPERPARAMETERS={}", json!({ "which": which }));
        home.run(["run", "later:1", "--volume", "models:/trained", "-e", &parameters, "--", "train"]).ok();
    };
    train("classes.zip");
    let args =
        ["run", "later:1", "--detach", "--read-only", "-p", "0", "--volume", "models:/trained", "--output", "json"];
    let started = home.run(args).ok().json();
    let text = |key: &str| started[key].as_str().unwrap().trim_start_matches("http://").to_owned();
    let service = Service { home: &home, name: text("name"), address: text("address") };
    let row = json!({ "warmth": 71.5, "shaking.rate": 2, "make": "south" });
    assert!(service.ask(&row).1["label"].is_string());
    std::thread::scope(|scope| {
        let number = scope.spawn(|| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_secs(240) {
                let (status, found) = service.ask(&row);
                assert_eq!(status, 200, "{found}");
                if found["value"].is_number() {
                    return true;
                }
            }
            false
        });
        train("number.zip");
        assert!(number.join().unwrap(), "the model that came later is not taken");
    });
}

#[test]
fn mistakes_are_told_before_anything_is_built() {
    let home = Home::empty();
    let service = |text: &str, files: &[(&str, &[u8])]| {
        files.iter().for_each(|(name, bytes)| drop(home.write(&format!("v/{name}"), bytes)));
        home.write("v/ekiben.yaml", format!("name: v\n{text}\n"));
        home.run(["validate", &home.path("v")]).ends(3)
    };
    let java = "system: {packages: [openjdk-17-jre-headless]}\nservice:\n  java: ";
    let mojo = fs::read("fixtures/mojo/classes.zip").unwrap();
    program(&home, "v/predict.jar");
    let with = |text: &str| format!("{java}{text}");
    service(&with("{}"), &[]).says("EK0412").says("nothing says what answers in Java");
    service(&with("{jar: predict.jar, model: classes.zip}"), &[("classes.zip", &mojo)])
        .says("both a program and a model");
    service(&with("{jar: gone.jar}"), &[]).says("gone.jar");
    service(&with("{jar: text.jar}"), &[("text.jar", b"text")]).says("is no archive of Java's");
    service(&with("{jar: classes.zip}"), &[]).says("does not say which class");
    service(&with("{jar: predict.jar, parameters: [a, a]}"), &[]).says("named twice");
    service(&with("{jar: predict.jar, parameters: [a]}\n  predict: p.py:f"), &[("p.py", b"def f(): pass\n")])
        .says("two things would answer `/predict`");
    service(&with("{jar: predict.jar, parameters: [alpha]}\ntests: [{request: {alpa: 1}}]"), &[])
        .says("EK0403")
        .says("did you mean `alpha`?");
    service(&with("{model: model.pkl}"), &[("model.pkl", b"x")]).says("a MOJO or a POJO");
    service(&with("{model: text.zip, genmodel: predict.jar}"), &[("text.zip", b"text")])
        .says("is no zip archive")
        .says("is not the library of h2o's");
    service(
        &with("{model: predict.zip, genmodel: predict.jar}"),
        &[("predict.zip", &fs::read(home.path("v/predict.jar")).unwrap())],
    )
    .says("model.ini is not in it");
    service(&with("{model: classes.zip}"), &[]).says("h2o-genmodel.jar");
    service("service: {java: {jar: predict.jar}}", &[]).says("the image has no Java").says("openjdk-17-jre-headless");
    service("base: debian:trixie\nservice: {java: {jar: predict.jar}}", &[]).says("openjdk-21-jre-headless");
}

/// What comes back for bytes that are sent in pieces, with a pause after each; of each answer the status, the kind, what is allowed,
/// and the body without the request's id.
fn told(address: &str, pieces: &[Vec<u8>]) -> Vec<Value> {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        // Who has been answered may not be listened to any more.
        let _ = connection.write_all(piece);
    }
    let mut all = Vec::new();
    let _ = connection.read_to_end(&mut all);
    answers(&all)
}

fn answers(mut bytes: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer") + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = header("content-length").map_or(0, |length| length.parse().unwrap());
        let body = &bytes[end..(end + length).min(bytes.len())];
        bytes = &bytes[end + body.len()..];
        if status == 100 {
            continue;
        }
        let text = String::from_utf8_lossy(body).into_owned();
        let mut body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if let Some(id) = body.as_object_mut().and_then(|body| body.get_mut("request_id")) {
            *id = "…".into();
        }
        let mut allow: Vec<_> = header("allow").unwrap_or_default().split(", ").map(str::to_owned).collect();
        allow.sort_unstable();
        found.push(json!([status, header("content-type"), allow, body]));
    }
    found
}

fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|header| request += &format!("{header}\r\n"));
    [request.as_bytes(), b"\r\n", body].concat()
}

/// The same without a length of the body.
fn unmeasured(headers: &[&str], rest: &[u8]) -> Vec<u8> {
    let mut request = "POST /predict HTTP/1.1\r\nhost: x\r\n".to_owned();
    headers.iter().for_each(|header| request += &format!("{header}\r\n"));
    [request.as_bytes(), b"connection: close\r\n\r\n", rest].concat()
}

fn chunks(parts: &[&[u8]], extension: &str, trailer: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(format!("{:x}{extension}\r\n", part.len()).bytes());
        all.extend_from_slice(part);
        all.extend(b"\r\n");
    }
    all.extend(format!("0\r\n{trailer}\r\n").bytes());
    all
}

const ROW: &[u8] = br#"{"warmth":71.5,"shaking.rate":2,"make":"south"}"#;
const CLOSE: &str = "connection: close";
const CHUNKED: &str = "transfer-encoding: chunked";

/// What two services are both asked.
fn questions() -> Vec<(String, Vec<Vec<u8>>)> {
    let mut all = Vec::new();
    let mut ask = |name: &str, pieces: &[Vec<u8>]| all.push((name.to_owned(), pieces.to_vec()));
    let nested = |open: &str, count: usize| open.repeat(count).into_bytes();
    let large = |length: usize| format!(r#"{{"x":"{}"}}"#, "a".repeat(length - 8)).into_bytes();
    for body in [
        ROW.to_vec(),
        Vec::new(),
        br#"{"rows":[{},{"warmth":1,"weight":2},7,{"make":"west"},{"warmth":"1"}],"more":1}"#.to_vec(),
        br#"{"rows":[{"warmth":1},{}]}"#.to_vec(),
        br#"{"rows":[]}"#.to_vec(),
        br#"{"rows":null}"#.to_vec(),
        br#"{"rows":[],"make":null}"#.to_vec(),
        br#"{"warmth":"a","warmth":1,"z":1,"z":2}"#.to_vec(),
        br#"{"warmth":NaN,"shaking.rate":-Infinity}"#.to_vec(),
        br#"{"warmth":1e999,"make":"\u00f6st"}"#.to_vec(),
        br#"{"make":"\ud800"}"#.to_vec(),
        br#"{"make":"\ud83d\ude00"}"#.to_vec(),
        b"{\"make\":\"\xf6st\"}".to_vec(),
        b"{\"make\":\"\xed\xa0\x80\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"warmth\": 01}".to_vec(),
        b"{\"warmth\": 1,}".to_vec(),
        b"{\n\"warmth\": tru}".to_vec(),
        b"{} {}".to_vec(),
        b"null".to_vec(),
        b"[1, 2".to_vec(),
        nested("[", 201),
        nested("[", 100_000),
        nested(r#"{"a":"#, 100_000),
        [br#"{"warmth":"#.to_vec(), vec![b'9'; 4301], b"}".to_vec()].concat(),
        large(100_000),
        large(100_001),
    ] {
        let name = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        ask(&name, &[post("/predict", &[CLOSE], &body)]);
    }
    let with = |headers: &[&str], body: &[u8]| vec![post("/predict", &[headers, &[CLOSE]].concat(), body)];
    for header in [
        "content-type: text/plain",
        "content-type: multipart/form-data; boundary=x",
        "content-encoding: gzip",
        "x-request-id: not sane",
        "expect: 100-continue",
        "upgrade: websocket",
        "content-length: 3",
        "x : y",
        "x: y\r\n z",
        "x: a\0b",
        ": nothing",
        "nothing",
        CHUNKED,
    ] {
        ask(header, &with(&[header], ROW));
        ask(&format!("{header}, and no JSON"), &with(&[header], b"--x"));
    }
    for (name, rest) in [
        ("chunks", chunks(&[&ROW[..5], &ROW[5..]], "", "")),
        ("with extensions", chunks(&[&ROW[..5], &ROW[5..]], ";a=b", "")),
        ("with a trailer", chunks(&[ROW], "", "x: y\r\n")),
        ("too many", chunks(&[&large(60_000), &large(60_000)], "", "")),
        ("no number", b"zz\r\n".to_vec()),
        ("a negative number", b"-1\r\n".to_vec()),
        ("a large number", b"ffffffffffffffffff\r\n".to_vec()),
        ("a wrong end", [b"3\r\n", ROW].concat()),
    ] {
        ask(name, &[unmeasured(&[CHUNKED], &rest)]);
    }
    for length in ["x", "+5", "-5", "", "99999999999999999999999"] {
        ask(&format!("a length of {length}"), &[unmeasured(&[&format!("content-length: {length}")], ROW)]);
    }
    let waiting = |path: &str| post(path, &["expect: 100-continue", CLOSE], ROW);
    let (head, body) = (waiting("/predict").len() - ROW.len(), ROW.to_vec());
    ask("a body that waits", &[waiting("/predict")[..head].to_vec(), body]);
    ask("a body that is never asked for", &[waiting("/nope")[..head - 3].to_vec()]);
    let kept = post("/predict", &[], ROW);
    ask(
        "several in one piece",
        &[[kept.clone(), kept.clone(), post("/predict", &[], b"[]"), post("/predict", &[CLOSE], ROW)].concat()],
    );
    ask("a line between two", &[[kept.clone(), b"\r\n".to_vec(), post("/predict", &[CLOSE], ROW)].concat()]);
    ask("another one with a body", &[[post("/nope", &[], ROW), post("/predict", &[CLOSE], ROW)].concat()]);
    let slow = post("/predict", &[CLOSE], ROW);
    ask(
        "slowly",
        &[
            slow[..17].to_vec(),
            slow[17..40].to_vec(),
            slow[40..slow.len() - 7].to_vec(),
            slow[slow.len() - 7..].to_vec(),
        ],
    );
    for odd in [
        "\u{16}\u{3}\u{1}\0\0\r\n\r\n",
        "GET /healthz HTTP/1.1\nhost: x\n\n",
        "GET /healthz HTTP/1.1\rhost: x\r\r",
        "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n",
        "GET http://x/healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
    ] {
        ask(odd, &[odd.as_bytes().to_vec()]);
    }
    for path in ["/pre%64ict", "/pre%zzict", "/predict?x=1", "/predict/", "//predict", "/requests/x", "/requests/a/b"] {
        ask(path, &[post(path, &[CLOSE], ROW)]);
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        for path in [
            "/",
            "/predict",
            "/healthz",
            "/readyz",
            "/requests/x",
            "/requests/",
            "/nope",
            "/docs/",
            "/docs/nope",
            "/healthz/",
        ] {
            ask(method, &[format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n\r\n").into_bytes()]);
        }
    }
    all
}

#[test]
fn java_answers_as_python_does() {
    let home = Home::warm();
    let (java, python) = ("limits: {request: 100k}, ", "limits: {request: 100k}, functions: {more: more.py:more}, ");
    scored_with(&home, "java", "classes.zip", "", java);
    home.write("python/more.py", "def more(): ...\n");
    scored_with(&home, "python", "classes.zip", "", python);
    let (java, python) = (Service::start(&home, "java"), Service::start(&home, "python"));
    // Once the compiler of each has warmed up, numbers are still the same.
    for (name, pieces) in questions() {
        assert_eq!(told(&java.address, &pieces), told(&python.address, &pieces), "{name}");
    }
    let names = |service: &Service<'_>| {
        let (_, text) = ask(&service.address, "GET", "/metrics", "");
        let names = text.lines().filter(|line| line.starts_with('#')).map(str::to_owned);
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&java), names(&python));
    // What two readers could take for two things, ours alone refuses.
    let odd = unmeasured(&["transfer-encoding: gzip, chunked"], &chunks(&[ROW], "", ""));
    assert_eq!(told(&java.address, &[odd])[0][0], 400);
    // Answers that nobody waits for.
    let asked = post("/predict", &["prefer: wait=1, respond-async", CLOSE], ROW);
    assert_eq!(told(&java.address, &[asked])[0][3], json!({ "status": "running" }));
}

#[test]
fn java_at_the_port_is_not_brought_down() {
    let home = Home::warm();
    scored_with(&home, "m", "classes.zip", "", "timeout: 8s, limits: {request: 3M}, queue: 50, ");
    let service = Service::start(&home, "m");
    let connect = || TcpStream::connect(&service.address).unwrap();
    let good = || assert_eq!(told(&service.address, &[post("/predict", &[CLOSE], ROW)])[0][0], 200);
    good();
    // Who begins and does not go on, and who announces more than there is: others are answered all the same, at once.
    let idle: Vec<_> = (0..300)
        .map(|number| {
            let mut connection = connect();
            let begun: &[u8] = match number % 4 {
                0 => b"",
                1 => b"POST /predict HTTP/1.1\r\nhost: ",
                2 => b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n{",
                _ => b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2dc6c0\r\n[",
            };
            connection.write_all(begun).unwrap();
            connection
        })
        .collect();
    good();
    // Their time is up.
    for (number, mut connection) in idle.into_iter().enumerate().filter(|(number, _)| number % 4 > 1) {
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut text = String::new();
        let _ = connection.read_to_string(&mut text);
        assert!(text.starts_with("HTTP/1.1 408 "), "{number}: {text}");
    }
    good();
    // Who asks and goes.
    for _ in 0..300 {
        let _ = connect().write_all(&post("/predict", &[], ROW));
    }
    good();
    // What is large in itself: empty rows, mistakes, depth, names, a head without an end.
    let rows = |row: &str| format!(r#"{{"rows":[{}]}}"#, vec![row; 2_900_000 / (row.len() + 1)].join(","));
    let answer = |body: &str| told(&service.address, &[post("/predict", &[CLOSE], body.as_bytes())]).remove(0);
    assert!([200, 422, 504].contains(&answer(&rows("{}"))[0].as_i64().unwrap()));
    let mistakes = answer(&rows("1"));
    assert_eq!((&mistakes[0], mistakes[3]["detail"].as_array().unwrap().len()), (&json!(422), 1000));
    assert_eq!(answer(&rows(r#"{"":0}"#))[3]["detail"].as_array().unwrap().len(), 1000);
    assert_eq!(answer(&"[".repeat(2_900_000))[0], 422);
    assert_eq!(answer(&format!("\"{}\"", "\\u0041".repeat(480_000)))[0], 422);
    let long = format!("GET /healthz HTTP/1.1\r\n{}", "a: b\r\n".repeat(20_000));
    assert_eq!(told(&service.address, &[long.into_bytes()])[0][0], 431);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    assert_eq!(told(&service.address, &[long.into_bytes()])[0][0], 431);
    // Many in one piece come back in order, also to one who does not read until all are sent.
    let many: Vec<u8> = (0..500).flat_map(|at| post("/predict", &[&format!("x-request-id: r{at}")], ROW)).collect();
    let mut connection = connect();
    connection.write_all(&[many, post("/predict", &[CLOSE], ROW)].concat()).unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("x-request-id: r")).take(500).collect();
    assert_eq!(ids, (0..500).map(|at| at.to_string()).collect::<Vec<_>>());
    good();
    wait_until("nothing is under way", || {
        ask(&service.address, "GET", "/metrics", "").1.contains("\nekiben_requests_in_progress 1\n")
    });
    let log = home.run(["logs", &service.name]).ok().out;
    assert!(!log.contains("Exception") && !log.contains("another one is started"), "{log}");
}
