//! Models in Java with a real one: a program for each request, and what h2o exported in one Java that stays.
//!
//! Needs a `java` to compile with, and the package index: the library that reads h2o's models lies in its wheel.

use std::fs;
use std::path::{Path, PathBuf};

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
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mojo").join(file);
    home.write(&format!("{name}/{file}"), fs::read(fixture).unwrap());
    home.write(&format!("{name}/h2o-genmodel.jar"), fs::read(genmodel()).unwrap());
    home.write(
        &format!("{name}/ekiben.yaml"),
        format!(
            "name: {name}\nversion: 1\n{more}system: {{packages: [openjdk-17-jre-headless]}}\nservice: {{java: {{model: {file}}}}}\n"
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
