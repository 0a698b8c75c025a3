//! `batch` of images with functions: the records of files are answered as requests are, in order, each once, whatever ends it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::home::{Home, wait_until};
use crate::service::{Service, python, tiny, written};

/// Notes what each call was given, in a file.
const SOURCE: &str = "import json, os, time\n\
    from pathlib import Path\n\
    from typing import Iterator, TypedDict\n\
    import pandas as pd\n\
    from PIL import Image\n\
    from ekiben_service import credentials\n\
    def noted(call):\n    \
        with open('calls', 'a') as file:\n        \
            file.write(json.dumps(call) + '\\n')\n\
    def predict(x: float) -> float:\n    \
        if x < 0:\n        \
            raise ValueError('below zero')\n    \
        return 3 * x + {13: {}}.get(x, 1)\n\
    def slow(x: int) -> int:\n    \
        noted(x)\n    \
        time.sleep(0.01)\n    \
        while os.path.exists('hold'):\n        \
            time.sleep(0.01)\n    \
        return -x\n\
    def rows(features: list[list[float]]) -> list[float]:\n    \
        noted(len(features))\n    \
        return [sum(row) for row in features]\n\
    def frame(table: pd.DataFrame, factor: float = 2) -> pd.DataFrame:\n    \
        return pd.DataFrame({'twice': table['a'] * factor, 'name': table['name'].str.upper()})\n\
    class Person(TypedDict):\n    \
        zip: str\n    \
        age: int\n\
    async def person(one: Person) -> str:\n    \
        return f'{one[\"zip\"]}/{one[\"age\"] + 1}'\n\
    async def words(text: str, times: int = 1, upper: bool = False) -> str:\n    \
        return (text.upper() if upper else text) * times\n\
    def parts(n: int) -> Iterator[int]:\n    \
        yield from range(n)\n\
    def small(image: Image.Image) -> Image.Image:\n    \
        return image.resize((2, 2))\n\
    def weigh(file: Path) -> dict[str, str | int]:\n    \
        return {'bytes': file.stat().st_size, 'suffix': file.suffix}\n\
    def whose(x: int) -> str:\n    \
        return credentials['TOKEN']\n";
const FUNCTIONS: [&str; 10] =
    ["slow", "rows", "frame", "person", "words", "parts", "small", "weigh", "whose", "predict"];

fn service(more: Value) -> Value {
    let functions: BTreeMap<_, _> = FUNCTIONS.map(|name| (name, format!("src/predict.py:{name}"))).into();
    let mut service = json!({ "functions": functions });
    service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service
}

/// A folder as it lies in an image, and data beside it.
struct Job(tempfile::TempDir);

struct Ended {
    code: i32,
    log: String,
}

impl Ended {
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.log);
        self
    }

    fn says(self, text: &str) -> Self {
        assert!(self.log.contains(text), "{text} in:\n{}", self.log);
        self
    }
}

impl Job {
    fn new(more: Value) -> Self {
        Self(written(&tiny(&service(more)), &[("src/predict.py", SOURCE)]).0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command(&self, args: &str) -> Command {
        let mut command = python(self.0.path());
        command.arg("batch").args(args.split_whitespace());
        command
    }

    fn run(&self, args: &str) -> Ended {
        ended(&mut self.command(args))
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        values(&self.text(name))
    }

    fn answers(&self, name: &str) -> Vec<Value> {
        self.lines(name).iter().map(|line| line["answer"].clone()).collect()
    }

    fn beside(&self, name: &str) -> Vec<String> {
        crate::home::names(&self.path(name))
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), log: log + &String::from_utf8_lossy(&output.stdout) }
}

fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_record_is_answered_as_a_request_is() {
    let bodies =
        ["{\"x\": 2}", "{\"x\": \"2\"}", "{\"x\": -1}", "{\"x\":", "[1]", "{\"x\": 13}", "{\"y\": 1}", "{\"x\": 1e3}"];
    let asked = Service::start(&tiny(&service(json!({}))), SOURCE).ready();
    let job = Job::new(json!({}));
    // An empty line is none, and the last needs no end.
    job.write("in.jsonl", format!("\u{feff}{}", bodies.join("\n\n")));
    job.run("--input in.jsonl --output new/out.jsonl").ends(4).says(r#""records": 8, "failed": 6"#);
    let lines = job.lines("new/out.jsonl");
    for ((body, line), number) in bodies.iter().zip(&lines).zip(1..) {
        let answer = asked.ask("POST", "/predict", "", body);
        match answer.status {
            200 => assert_eq!(*line, json!({ "record": number, "answer": answer.json() })),
            status => {
                let told = json!({ "status": status, "detail": answer.json()["detail"] });
                assert_eq!(*line, json!({ "record": number, "error": told }));
            }
        }
    }
    assert_eq!(lines.len(), bodies.len());
    assert_eq!(job.beside("new"), ["out.jsonl"]);
    // What is there is not written over unless somebody says so, and is as good as done.
    let before = job.text("new/out.jsonl");
    job.run("--input in.jsonl --output new/out.jsonl").ends(2).says("--resume goes on with it, --overwrite anew");
    job.run("--input in.jsonl --output new/out.jsonl --resume").ends(4).says("is whole already");
    job.run("-i in.jsonl -o new/out.jsonl --overwrite --fail-fast").ends(4).says("record 2 has no answer");
    assert!(!job.path("new/out.jsonl").exists(), "it is not whole");
    job.run("-i in.jsonl -o new/out.jsonl --resume").ends(4);
    assert_eq!(job.text("new/out.jsonl"), before);
    job.write("good.jsonl", "{\"x\": 1}");
    job.run("-i good.jsonl -o good.csv").ends(0);
    assert_eq!(job.text("good.csv"), "record,answer\n1,4.0\n");
    job.run("-i good.jsonl -o good.csv --resume").ends(0);
}

#[test]
fn variables_stand_for_arguments_and_what_cannot_be_done_is_said() {
    let job = Job::new(json!({}));
    job.write("in.jsonl", "{\"x\": 1}\n{\"x\": 2}\n");
    let given = |variables: &[(&str, &str)], args: &str| ended(job.command(args).envs(variables.iter().copied()));
    let named = [("EKIBEN_BATCH_INPUT", "in.jsonl:in.jsonl"), ("EKIBEN_BATCH_OUTPUT", "out.jsonl")];
    given(&named, "").ends(0);
    assert_eq!(job.answers("out.jsonl"), [4.0, 7.0, 4.0, 7.0]);
    given(&[named[0], named[1], ("EKIBEN_BATCH_OVERWRITE", "1"), ("EKIBEN_BATCH_FUNCTION", "slow")], "").ends(0);
    assert_eq!(job.answers("out.jsonl"), [-1, -2, -1, -2]);
    given(&named, "-i in.jsonl -o other.jsonl --function whose --credential TOKEN").ends(2).says("TOKEN");
    given(&[("TOKEN", "mine")], "-i in.jsonl -o other.jsonl -f whose --credential TOKEN").ends(0);
    assert_eq!(job.answers("other.jsonl"), ["mine", "mine"]);
    job.run("-o out.jsonl").ends(2).says("--input or EKIBEN_BATCH_INPUT is needed");
    job.run("-i in.jsonl -o out.parquet").ends(2).says(".jsonl, .ndjson or .csv");
    job.run("-i in.jsonl -o a.jsonl -f nothing").ends(2).says("there is no function nothing");
    job.run("-i in.jsonl -o a.jsonl --shard 3 --shards 3").ends(2).says("the part 3 is none of 3");
    job.run("-i in.jsonl -o a.jsonl --shards 3").ends(2).says("JOB_COMPLETION_INDEX");
    job.run("--help").ends(0).says("EKIBEN_BATCH_INPUT");
    // What cannot be read.
    job.write("data/_SUCCESS", "");
    job.run("-i nothing.jsonl -o a.jsonl").ends(3).says("there is no file nothing.jsonl");
    job.run("-i data -o a.jsonl").ends(3).says("data has no files");
    job.write("data/strange.bin", "");
    job.run("-i data -o a.jsonl").ends(3).says("name its format");
    assert!(!job.path("a.jsonl").exists());
    for (name, content, reason) in [
        ("a.json", "[{\"x\": 1}, {\"x\": 2}", "the array does not end"),
        ("b.json", "[{\"x\": 1}, {\"x\": 2] ]", "it is no JSON"),
        ("c.json", "[{\"x\": 1}, {\"x\": 2}] 3", "something behind the array"),
        ("d.csv", "x\n1\n2\n\"3", "unexpected end of data"),
        ("e.csv", "x,x\n1,2\n", "the header has 'x'"),
        ("f.csv", "a,b\n1,2\n", "needs a type that says what a row is"),
        ("g.jsonl", "\u{feff}", ""),
    ] {
        job.write(name, content);
        let output = format!("out-{name}.jsonl");
        let ended = job.run(&format!("-i {name} -o {output}"));
        if reason.is_empty() {
            ended.ends(0);
            assert_eq!(job.text(&output), "");
            continue;
        }
        ended.ends(3).says(reason);
        assert!(!job.path(&output).exists(), "{name}: it is not whole");
    }
    // What came before is done.
    job.write("a.json", "[{\"x\": 1}, {\"x\": 2}");
    let kept = job.beside("").into_iter().find(|name| name.starts_with("out-a.json")).unwrap();
    assert_eq!(job.answers(&kept), [4.0, 7.0]);
}

#[test]
fn tables_arrays_and_folders_are_records() {
    let job = Job::new(json!({}));
    // Columns that are parameters: as in a form.
    job.write("words.csv", "text,times,upper\n007,2,\n\"a,\"\"b\n\",,True\nx,y,false\nshort,1\n");
    job.run("-i words.csv -o words.jsonl -f words").ends(4);
    let lines = job.lines("words.jsonl");
    assert_eq!((&lines[0]["answer"], &lines[1]["answer"]), (&json!("007007"), &json!("A,\"B\n")));
    assert_eq!(lines[2]["error"]["detail"][0]["loc"], json!(["body", "times"]));
    assert_eq!(lines[3]["error"]["detail"][0]["msg"], "the row has 2 cells, and the header 3");
    // Columns of rows: each row is a table of one, and its answer that of one.
    job.write("rows.csv", "a;b;id\n1;2;one\n3;4.5;two\n;1;three\n");
    job.run("-i rows.csv -o rows.jsonl -f rows --id id").ends(4);
    let lines = job.lines("rows.jsonl");
    assert_eq!(lines[1], json!({ "record": 2, "id": "two", "answer": 7.5 }));
    assert_eq!((&lines[2]["id"], &lines[2]["error"]["status"]), (&json!("three"), &json!(422)));
    // What the first rows are decides for a column; a table as an answer is flat.
    job.write("frame.tsv", "name\ta\nx\t1\n2\t2.5\n\t3\n");
    job.run("-i frame.tsv -o frame.csv -f frame").ends(0);
    assert_eq!(job.text("frame.csv"), "record,twice,name\n1,2.0,X\n2,5.0,2\n3,6.0,\n");
    job.write("people.csv", "zip,age\n01067,41\n80331,old\n");
    job.run("-i people.csv -o people.csv.out.csv -f person").ends(4);
    let table = job.text("people.csv.out.csv");
    assert!(table.starts_with("record,answer,error\n1,01067/42,\n2,,\"{\"\"status\"\": 422"), "{table}");
    // Arrays, values one after the other, compressed lines; a folder in the order of its names.
    job.write("many/b.json", "[ {\"n\": 1},{\"n\": 2} ]");
    job.write("many/a.json", "{\"n\": 3}\n{\"n\": 0}");
    job.write("many/.hidden", "x");
    job.write("many/c/d.jsonl", "{\"n\": 4, \"key\": [1]}\n");
    let zipped = Command::new("gzip").arg(job.path("many/c/d.jsonl")).status().unwrap();
    assert!(zipped.success());
    job.run("-i many -o many.jsonl -f parts --id key").ends(0);
    assert_eq!(
        job.lines("many.jsonl"),
        [
            json!({ "record": 1, "answer": [0, 1, 2] }),
            json!({ "record": 2, "answer": [] }),
            json!({ "record": 3, "answer": [0] }),
            json!({ "record": 4, "answer": [0, 1] }),
            json!({ "record": 5, "id": [1], "answer": [0, 1, 2, 3] }),
        ]
    );
    job.run("-i many/*.json -o some.jsonl -f parts").ends(0);
    assert_eq!(job.lines("some.jsonl").len(), 4);
}

#[test]
fn files_are_requests_and_answers() {
    let job = Job::new(json!({}));
    job.write("pictures/b/red.png", include_bytes!("../../fixtures/picture/tests/red.png"));
    job.write("pictures/a.png", "no picture");
    job.write("pictures/c d.PNG", include_bytes!("../../fixtures/picture/tests/red.png"));
    job.run("-i pictures -o out/small.jsonl -f small").ends(4);
    let lines = job.lines("out/small.jsonl");
    assert_eq!((&lines[0]["id"], &lines[0]["error"]["status"]), (&json!("a.png"), &json!(422)));
    let kind = "image/png";
    assert_eq!(
        lines[1],
        json!({ "record": 2, "id": "b/red.png", "file": "small.files/000002-red.png", "media_type": kind })
    );
    assert_eq!(lines[2]["file"], "small.files/000003-c_d.png");
    assert_eq!(job.beside("out"), ["small.files", "small.jsonl"]);
    assert_eq!(job.beside("out/small.files"), ["000002-red.png", "000003-c_d.png"]);
    assert!(fs::read(job.path("out/small.files/000002-red.png")).unwrap().starts_with(b"\x89PNG"));
    // What it is called, and a file that is JSON itself.
    job.write("files/x.json", "{\"file\": 1}");
    job.write("files/y.weights", "12345");
    job.run("-i files -o weigh.jsonl -f weigh --format file").ends(0);
    let wanted = [json!({ "bytes": 11, "suffix": ".json" }), json!({ "bytes": 5, "suffix": ".weights" })];
    assert_eq!(job.answers("weigh.jsonl"), wanted);
    // Who sends a file within JSON can do so here.
    job.write("sent.jsonl", "{\"file\": \"data:text/csv;base64,eHg=\"}\n{\"file\": \"http://localhost/\"}\n");
    job.run("-i sent.jsonl -o sent.out.jsonl -f weigh").ends(4);
    assert_eq!(job.lines("sent.out.jsonl")[0]["answer"], json!({ "bytes": 2, "suffix": ".csv" }));
    job.run("-i files/y.weights -o no.jsonl").ends(3).says("name its format");
}

#[test]
fn records_are_given_together_where_the_manifest_or_the_caller_says_so() {
    let job = Job::new(json!({ "batch": { "rows": { "size": 16 } } }));
    let table: String = (0..200).map(|row| format!("{row},1\n")).collect();
    job.write("rows.csv", format!("a,b\n{table}"));
    let sums: Vec<_> = (0..200).map(|row| json!(f64::from(row + 1))).collect();
    let calls = |of: &Job| {
        let calls = of.lines("calls");
        fs::remove_file(of.path("calls")).unwrap();
        calls.iter().map(|call| call.as_u64().unwrap()).collect::<Vec<_>>()
    };
    job.run("-i rows.csv -o a.jsonl -f rows").ends(0);
    assert_eq!(job.answers("a.jsonl"), sums);
    let sizes = calls(&job);
    assert!(sizes.iter().sum::<u64>() == 200 && sizes.len() < 20 && sizes.iter().all(|size| *size <= 16), "{sizes:?}");
    job.run("-i rows.csv -o b.jsonl -f rows --together 100").ends(0);
    assert_eq!(job.answers("b.jsonl"), sums);
    assert!(calls(&job).len() < 6);
    let alone = Job::new(json!({}));
    alone.write("rows.csv", "a\n1\n2\n");
    alone.run("-i rows.csv -o a.jsonl -f rows").ends(0);
    assert_eq!(calls(&alone), [1, 1]);
}

fn numbers(count: u64) -> String {
    (1..=count).map(|x| format!("{{\"x\": {x}}}\n")).collect()
}

fn started(job: &Job, args: &str) -> Child {
    job.command(args).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn calls(job: &Job) -> usize {
    fs::read_to_string(job.path("calls")).map_or(0, |text| text.lines().count())
}

#[test]
fn whatever_ends_it_no_record_is_lost_or_doubled() {
    let job = Job::new(json!({ "concurrency": 4 }));
    job.write("in.jsonl", numbers(2000));
    let args = "-i in.jsonl -o out.jsonl -f slow --resume";
    // Ended with a signal, it hands on what is under way.
    let child = started(&job, args);
    wait_until("some are answered", || calls(&job) > 40);
    job.write("hold", "");
    job.run(args).ends(2).says("is being written by another run");
    end(&child, Signal::SIGTERM);
    fs::remove_file(job.path("hold")).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(128 + 15), "{log}");
    assert!(log.contains("ended early: --resume goes on"), "{log}");
    assert!(!job.path("out.jsonl").exists());
    let part = job.beside("").into_iter().find(|name| name.ends_with(".part")).unwrap();
    assert_eq!(job.lines(&part).len(), calls(&job), "what was asked is kept");
    // Killed, also within a line.
    for _ in 0..2 {
        let before = calls(&job);
        let mut child = started(&job, args);
        wait_until("more are answered", || calls(&job) > before + 60);
        job.write("hold", "");
        end(&child, Signal::SIGKILL);
        fs::remove_file(job.path("hold")).unwrap();
        child.wait().unwrap();
        let mut torn = fs::read(job.path(&part)).unwrap();
        torn.extend(b"{\"record\":9");
        fs::write(job.path(&part), torn).unwrap();
    }
    // Other input is another run.
    job.write("other.jsonl", numbers(3));
    job.run("-i other.jsonl -o out.jsonl -f slow --resume").ends(2).says("is of another run");
    job.run("-i in.jsonl -o out.jsonl -f slow").ends(2).says("is there already");
    job.run(args).ends(0).says("records have been done before");
    let wanted: Vec<_> = (1..=2000).map(|x| json!({ "record": x, "answer": -x })).collect();
    assert_eq!(job.lines("out.jsonl"), wanted);
    assert!(!job.path(&part).exists());
}

#[test]
fn what_never_ends_is_left_behind_after_the_time_of_grace() {
    let source = "import time\ndef predict(x: int) -> int:\n    time.sleep(0 if x < 3 else 3600)\n    return x\n";
    let manifest = tiny(&json!({ "predict": "src/predict.py:predict", "grace": "500ms" }));
    let job = Job(written(&manifest, &[("src/predict.py", source)]).0);
    job.write("in.jsonl", numbers(9));
    let mut child = started(&job, "-i in.jsonl -o out.jsonl");
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let part = || job.beside("").into_iter().find(|name| name.ends_with(".part"));
    wait_until("two are written", || part().is_some_and(|name| job.text(&name).lines().count() == 2));
    end(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 2));
    let mut last = String::new();
    while log.read_line(&mut last).unwrap() > 0 {}
    assert!(last.contains(r#""records": 2"#), "{last}");
    assert_eq!(job.answers(&part().unwrap()), [1, 2]);
}

#[test]
fn parts_have_each_record_once() {
    let job = Job::new(json!({}));
    job.write("in/1.jsonl", numbers(10));
    job.write("in/2.csv", "x\n11\n12\n13\n");
    let mut all = BTreeMap::new();
    for index in 0..3 {
        let mut command = job.command("-i in -o out.jsonl -f slow --resume");
        command.env("JOB_COMPLETION_INDEX", index.to_string()).env("EKIBEN_BATCH_SHARDS", "3");
        ended(&mut command).ends(0);
        // Once more, as a pod that is started again.
        ended(&mut command).ends(0).says("is whole already");
        for line in job.lines(&format!("out-{index:05}-of-00003.jsonl")) {
            assert!(all.insert(line["record"].as_u64().unwrap(), line["answer"].as_i64().unwrap()).is_none());
        }
    }
    assert_eq!(all.into_iter().collect::<Vec<_>>(), (1..=13).map(|x| (x, -(x as i64))).collect::<Vec<_>>());
    assert_eq!(calls(&job), 13);
    // A job that is not indexed is told its part.
    job.run("-i in -o all.jsonl -f slow --shards 1").ends(0);
    assert_eq!(job.lines("all.jsonl").len(), 13);
}

/// Kilobytes that a run takes at the most.
fn peak(job: &Job, args: &str) -> u64 {
    let script = "import resource, subprocess, sys\n\
        code = subprocess.run([sys.executable, '-m', 'ekiben_service', 'batch', *sys.argv[1:]]).returncode\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\nsys.exit(code)\n";
    let mut command = Command::new("python3");
    for (name, value) in python(job.0.path()).get_envs() {
        command.env(name, value.unwrap());
    }
    command.current_dir(job.0.path()).args(["-c", script]).args(args.split_whitespace());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_records() {
    let job = Job::new(json!({ "batch": { "rows": { "size": 64 } } }));
    let record = format!("{{\"text\": \"{}\"}}", "x".repeat(100_000));
    let many = |count: usize| vec![record.as_str(); count];
    job.write("few.jsonl", many(4).join("\n"));
    job.write("many.jsonl", many(2000).join("\n"));
    job.write("many.json", format!("[{}]", many(2000).join(",")));
    job.write("many.csv", format!("text\n{}\n", vec!["x".repeat(100_000); 2000].join("\n")));
    let few = peak(&job, "-i few.jsonl -o few.out.jsonl -f words");
    for input in ["many.jsonl", "many.json", "many.csv"] {
        // The window of 64 records and their answers, and the head of a table.
        let most = if input == "many.csv" { 260_000 } else { 60_000 };
        let used = peak(&job, &format!("-i {input} -o {input}.out.jsonl -f words"));
        assert!(used < few + most, "{input}: {used} kB, and {few} kB for few records");
        fs::remove_file(job.path(&format!("{input}.out.jsonl"))).unwrap();
    }
    // More than one request may have.
    let mut command = job.command("-i many.jsonl -o large.jsonl -f words");
    ended(command.env("EKIBEN_MAX_BODY", "50000")).ends(4);
    assert_eq!(job.lines("large.jsonl")[1999]["error"]["status"], 413);
}

#[test]
fn an_image_answers_records_on_a_read_only_root() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.build(home.tiny("tiny"));
        home.write("data/in.jsonl", "{\"x\": 1}\n{\"x\": \"no\"}\n");
        fs::set_permissions(home.path("data"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let run = |args: &str| {
            let given = [
                "run",
                "tiny",
                "--read-only",
                "--volume",
                "data:/data",
                "-e",
                "EKIBEN_BATCH_INPUT=/data/in.jsonl",
                "--",
            ];
            home.run(given.into_iter().chain(args.split(' ')))
        };
        run("batch --output /data/out.jsonl").ends(4);
        let answers = values(&fs::read_to_string(home.path("data/out.jsonl")).unwrap());
        assert_eq!((&answers[0]["answer"], &answers[1]["error"]["status"]), (&json!(4.0), &json!(422)));
        let refused = run("batch --output /nowhere/out.jsonl").ends(1);
        assert!(refused.out.contains("the output cannot be written"), "{}", refused.out);
        // Other programs run as they did.
        assert_eq!(home.run(["run", "tiny", "--", "sh", "-c", "echo batch"]).ok().out, "batch\n");
    }
}

#[test]
fn a_person_gets_answers_to_a_file_in_a_file() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        let project = home.tiny("tiny");
        let project = project.to_str().unwrap();
        home.write("rows.csv", "id,x\na,1\nb,2\n");
        let done = home.run(["batch", project, "rows.csv", "-o", "out/answers.csv", "--id", "id"]).ok();
        assert_eq!(done.out, "out/answers.csv\n");
        let done = done.says("2 records");
        assert!(!done.err.contains("Traceback"), "{}", done.err);
        assert_eq!(fs::read_to_string(home.path("out/answers.csv")).unwrap(), "record,id,answer\n1,a,4.0\n2,b,7.0\n");
        assert_eq!(crate::home::names(&home.folder().join("out")), ["answers.csv"]);
        let again = |more: &str| home.run(["batch", project, "rows.csv", "-o", "out/answers.csv", more]);
        again("--fail-fast").ends(2).says("is there already").says("--overwrite");
        again("--resume").ok().says("is whole already");
        // Without a name of its own the column is a parameter that is not there, for each record.
        let report = home.run(["batch", project, "rows.csv", "-o", "e.jsonl", "--output", "json"]);
        report.ends(3).says("the function takes x, and the header has id");
        home.write("bad.jsonl", "{\"x\": 1}\n{\"x\": null}\n");
        let report = home.run(["batch", project, "bad.jsonl", "-o", "e.jsonl", "--output", "json"]).ends(4);
        assert_eq!(report.json(), json!({ "output": "e.jsonl", "records": 2, "failed": 1 }));
        let before = crate::home::names(home.folder());
        home.run(["batch", project, "nothing.csv", "-o", "f.jsonl"]).ends(1).says("nothing.csv");
        home.run(["batch", project, "rows.csv", "-o", "f.parquet"]).ends(2).says(".jsonl, .ndjson or .csv");
        // What is ended goes on.
        home.run(["batch", project, "bad.jsonl", "-o", "f.jsonl", "--fail-fast"]).ends(4).says("`--resume` goes on");
        home.run(["batch", project, "bad.jsonl", "-o", "f.jsonl"]).ends(2).says("`--resume` goes on behind it");
        home.write("bad.jsonl", "{\"x\": 1}\n{\"x\": 1000}\n");
        home.run(["batch", project, "bad.jsonl", "-o", "f.jsonl", "--resume"]).ends(2).says("is of another run");
        home.run(["batch", project, "bad.jsonl", "-o", "f.jsonl", "--overwrite"]).ok();
        let mut names = crate::home::names(home.folder());
        names.retain(|name| !before.contains(name));
        assert_eq!(names, ["f.jsonl"]);
    }
}

#[test]
fn rows_are_what_the_signature_of_an_mlflow_model_says() {
    let source = "def invocations(data):\n    return data.assign(total=data['a'] * 2, kind=str(data['a'].dtype))\n\n\
                  def predict(data):\n    return [len(text) for text in data['text']]\n";
    let columns = json!([{ "name": "a", "type": "double" }, { "name": "c", "type": "string", "required": false }]);
    let mlflow = |function: &str, inputs: &Value| json!({ "mlflow": { "predict": format!("src/predict.py:{function}"), "inputs": inputs } });
    let job = |service: Value| Job(written(&tiny(&service), &[("src/predict.py", source)]).0);
    let job_of_frames = job(mlflow("invocations", &columns));
    job_of_frames.write("rows.csv", "key,c,a\nx,007,1\ny,\"a,b\",2.5\nz,c,no\n");
    job_of_frames.run("-i rows.csv -o out.jsonl --id key").ends(4);
    let lines = job_of_frames.lines("out.jsonl");
    let first = json!({ "a": 1.0, "c": "007", "total": 2.0, "kind": "float64" });
    assert_eq!(lines[0], json!({ "record": 1, "id": "x", "answer": first }));
    assert_eq!((&lines[1]["answer"]["c"], &lines[2]["error"]["status"]), (&json!("a,b"), &json!(400)));
    job_of_frames.write("in.jsonl", json!({ "dataframe_records": [{ "a": 1 }, { "a": 3 }] }).to_string());
    job_of_frames.run("-i in.jsonl -o requests.jsonl -f /invocations").ends(0);
    assert_eq!(job_of_frames.answers("requests.jsonl")[0]["predictions"][1]["total"], 6.0);
    let job_of_lists = job(mlflow("predict", &json!([{ "name": "text", "type": "string" }])));
    job_of_lists.write("rows.csv", "text\nabc\n12\n");
    job_of_lists.run("-i rows.csv -o out.csv").ends(0);
    assert_eq!(job_of_lists.text("out.csv"), "record,answer\n1,3\n2,2\n");
}
