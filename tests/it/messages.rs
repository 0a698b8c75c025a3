//! Models that are trained, and asked and trained by messages of a real broker.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::home::servers::RabbitMq;
use crate::home::{Home, Ran, ask, python_programs, ran, wait_until};

const MANIFEST: &str = "name: trained\nversion: \"1\"\npython: {version: \"3.11\"}\nservice:\n  predict: src/predict.py:predict\n  \
                        messages: {subscribe: [test.in.*], publish: [test.out]}\ntraining:\n  function: src/train.py:train\n  \
                        output: model.pkl\n  parameters: {how: well}\n  messages: {subscribe: [test.train], publish: \
                        [test.statistics], buffer: 100}\n";

const TRAIN: &str = r#"
import json, os, pathlib


def train(data=None, hyperparameters=None):
    how = hyperparameters["how"]
    if how == "raise":
        raise KeyError("column")
    if how == "end":
        os._exit(9)
    if how == "nothing":
        return None
    if how == "file":
        pathlib.Path("model.pkl").write_bytes(b"no model")
        return {"of": "a file"}
    records = [json.loads(line) for line in open(data)] if data else []
    return {"how": how, "records": len(records)}, {"records": len(records), "numbers": [one["number"] for one in records]}
"#;

const PREDICT: &str = r#"
import os, pickle

MODEL = pickle.load(open("model.pkl", "rb"))


def predict(number: int) -> dict:
    if number == -1:
        raise RuntimeError("this one fails")
    if number == -2:
        os._exit(1)
    return {"number": number, "how": MODEL["how"], "records": MODEL["records"]}
"#;

/// Sends so many messages of both kinds, and those that nobody can use; waits until all is answered and learnt, whatever happens
/// meanwhile; and says what came.
const PEER: &str = r#"
import asyncio, collections, json, logging, os, sys, time
import aio_pika

URL, COUNT = sys.argv[1], int(sys.argv[2])
logging.disable(logging.CRITICAL)
got = collections.defaultdict(list)


async def connected():
    while True:
        try:
            connection = await asyncio.wait_for(aio_pika.connect(URL), 10)
            channel = await connection.channel()
            return connection, channel, await channel.get_exchange("amq.topic")
        except Exception:
            await asyncio.sleep(0.3)


async def receive(queue, key):
    async def take(message):
        got[queue].append(message)
        try:
            await message.ack()
        except Exception:
            pass

    while True:
        connection, channel, exchange = await connected()
        lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        try:
            one = await channel.declare_queue(queue, durable=True)
            if key:
                await one.bind(exchange, key)
            await one.consume(take)
            await lost.wait()
        except Exception:
            await asyncio.sleep(0.3)


async def send(messages):
    while messages:
        connection, channel, exchange = await connected()
        try:
            while messages:
                key, id, body = messages[0]
                message = aio_pika.Message(body, message_id=id, correlation_id=f"c{id}", delivery_mode=2)
                await asyncio.wait_for(exchange.publish(message, key), 10)
                messages.pop(0)
                await asyncio.sleep(0.004)
        except Exception:
            await asyncio.sleep(0.3)


async def main():
    receiving = [asyncio.ensure_future(receive(*one)) for one in (("a", "test.out"), ("s", "test.statistics"), ("trained:dead", ""))]
    await asyncio.sleep(1)
    messages = []
    for number in range(COUNT):
        messages.append(("test.in.one", f"p{number}", json.dumps({"number": number} if number % 2 else [number]).encode()))
        messages.append(("test.train", f"t{number}", json.dumps({"number": number}).encode()))
    messages.insert(COUNT // 2, ("test.in.two", "poison1", b"{"))
    messages.insert(COUNT // 2, ("test.in.two", "poison2", b'{"number": -1}'))
    messages.insert(COUNT // 2, ("test.in.two", "poison3", b'{"number": -2}'))
    messages.insert(COUNT // 2, ("test.train", "poison4", b"[1,"))
    await send(messages)
    end = time.monotonic() + 200
    while time.monotonic() < end:
        answered = {message.message_id for message in got["a"]}
        learnt = {number for message in got["s"] for number in json.loads(message.body)["numbers"]}
        dead = {message.message_id for message in got["trained:dead"]}
        if len(answered) >= COUNT and len(learnt) >= COUNT and len(dead) >= 4:
            break
        await asyncio.sleep(0.2)
    wrong = [m.message_id for m in got["a"] if f"p{json.loads(m.body)['number']}" != m.message_id or m.correlation_id != f"c{m.message_id}"]
    dead = {message.message_id: message.headers["x-reason"] for message in got["trained:dead"]}
    print(json.dumps({"answered": len(answered), "learnt": len(learnt), "wrong": wrong, "dead": dead}), flush=True)
    # Without what aio-pika says of connections that end with it.
    os._exit(0)


asyncio.run(main())
"#;

/// A Python with a client of brokers.
fn python() -> PathBuf {
    python_programs("uvicorn", &["uvicorn", "fastapi", "aio-pika"]).with_file_name("python")
}

/// The project, built, with a folder for what is trained.
fn built() -> Home {
    let home = Home::warm();
    home.write("trained/ekiben.yaml", MANIFEST);
    home.write("trained/src/train.py", TRAIN);
    home.write("trained/src/predict.py", PREDICT);
    home.run(["validate", "trained"]).ok();
    home.build("trained");
    fs::create_dir(home.path("models")).unwrap();
    fs::set_permissions(home.path("models"), Permissions::from_mode(0o777)).unwrap();
    home
}

/// Trains in a container.
fn train(home: &Home, how: &str, more: &[&str]) -> Ran {
    let parameters = format!("EKIBEN_HYPERPARAMETERS={}", json!({ "how": how }));
    home.run(["run", "trained:1", "--volume", "models:/trained", "-e", &parameters, "--", "train"].iter().chain(more))
}

/// Starts a container, and gives where it answers.
fn start(home: &Home, more: &[&str]) -> String {
    let args = ["run", "trained:1", "--detach", "-p", "0", "--name", "w", "--volume", "models:/trained"];
    let started = home.run(args.iter().chain(more).chain(&["--output", "json"])).ok().json();
    started["address"].as_str().unwrap_or_else(|| panic!("{started:#}")).to_owned()
}

/// All that a command, or a container, says.
fn words(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}

fn facts(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.path("models/current/training.json")).unwrap()).unwrap()
}

#[test]
fn no_message_is_lost_whatever_ends() {
    let home = built();
    let mut rabbit = RabbitMq::start(&home);
    train(&home, "first", &[]).ok();
    let (at, url) = (format!("127.0.0.1:{}", rabbit.port), format!("EKIBEN_AMQP_URL={}", rabbit.url()));
    let connected = ["--connect", &at, "-e", &url];
    start(&home, &connected);
    let script = home.write("peer.py", PEER);
    let mut command = Command::new(python());
    command.arg(script).args([&rabbit.url(), "1000"]).stdout(Stdio::piped());
    let peer = command.spawn().unwrap();
    let mut address = String::new();
    for what in ["service", "broker", "service", "service", "broker"] {
        thread::sleep(Duration::from_secs(2));
        match what {
            "broker" => rabbit.restart(),
            _ => {
                home.run(["rm", "--force", "--grace", "0", "w"]).ok();
                address = start(&home, &connected);
            }
        }
    }
    let said: Value = serde_json::from_slice(&peer.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(
        (&said["answered"], &said["learnt"], &said["wrong"]),
        (&json!(1000), &json!(1000), &json!([])),
        "{said:#}"
    );
    let dead = said["dead"].as_object().unwrap();
    let why = |id: &str| dead[id].as_str().unwrap();
    assert_eq!(dead.len(), 4, "{said:#}");
    assert!(why("poison1").contains("Invalid JSON") && why("poison2").contains("this one fails"), "{said:#}");
    assert!(why("poison3").contains("5 times") && why("poison4").contains("no JSON"), "{said:#}");
    // Its own numbers, and the model that was made of messages.
    let metrics = || ask(&address, "GET", "/metrics", "").1;
    wait_until("both connections are there again, and nothing waits", || {
        let told = metrics();
        let waiting = "\nekiben_messages_waiting{queue=\"trained:predict:test.in.@2A\"} 0\n";
        [waiting, "\nekiben_broker_connections 2\n", "\nekiben_trainings_total "].iter().all(|line| told.contains(line))
    });
    let records = facts(&home)["records"].as_u64().unwrap();
    assert!(records >= 100 && records.is_multiple_of(100), "{records}");
    wait_until("the last model", || {
        let answer: Value = serde_json::from_str(&ask(&address, "POST", "/predict", "{\"number\": 1}").1).unwrap();
        answer["records"] == records
    });
    let log = words(&home.run(["logs", "w"]).ok());
    assert!(log.contains("messages come from") && !log.contains("guest"), "{log}");
    home.run(["stop", "w"]).ok();
}

#[test]
fn a_new_model_takes_over_and_no_request_is_lost() {
    let home = built();
    train(&home, "0", &[]).ok();
    let address = start(&home, &[]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        answers.push(ask(&address, "POST", "/predict", "{\"number\": 1}"));
                    }
                    answers
                })
            })
            .collect();
        let answers_by = |how: &str| {
            let wanted = format!("\"how\":\"{how}\"");
            wait_until(how, || ask(&address, "POST", "/predict", "{\"number\": 1}").1.contains(&wanted));
        };
        for how in ["1", "2"] {
            train(&home, how, &[]).ok();
            answers_by(how);
        }
        // One that cannot be loaded, and one after it that can.
        train(&home, "file", &[]).ok();
        assert_eq!(facts(&home)["statistics"], json!({"of": "a file"}));
        thread::sleep(Duration::from_secs(4));
        answers_by("2");
        train(&home, "3", &[]).ok();
        answers_by("3");
        is_over.store(true, Ordering::Relaxed);
        let answers: Vec<_> = asking.into_iter().flat_map(|one| one.join().unwrap()).collect();
        let failed: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
        assert!(answers.len() > 100 && failed.is_empty(), "{failed:?}");
    });
    let log = words(&home.run(["logs", "w"]).ok());
    assert!(log.contains("could not be loaded"), "{log}");
    home.run(["stop", "w"]).ok();
}

#[test]
fn an_untrained_model_says_so_until_it_is_trained() {
    let home = built();
    home.run(["run", "trained:1", "--detach", "--name", "w", "--volume", "models:/trained", "--timeout", "3"]).ends(1);
    for (how, more, status, step) in [
        ("well", &["--data", "/nothing"][..], 3, "data"),
        ("raise", &[], 5, "function"),
        ("end", &[], 5, "function"),
        ("nothing", &[], 6, "output"),
        ("well", &["--what"], 2, ""),
    ] {
        let said = words(&train(&home, how, more).ends(status));
        assert!(said.contains(&format!("\"step\": \"{step}\"")) || step.is_empty(), "{said}");
        assert!(!home.folder().join("models/current").exists());
    }
    // The same bytes whenever it is trained with the same.
    let model = || {
        train(&home, "well", &[]).ok();
        fs::read(home.path("models/current/model.pkl")).unwrap()
    };
    assert_eq!(model(), model());
    for mode in ["consume", "learn"] {
        let said = words(&home.run(["run", "trained:1", "--", mode]).ends(2));
        assert!(said.contains("EKIBEN_AMQP_URL"), "{said}");
    }
}

#[test]
fn records_on_disk_outlive_whoever_writes_them() {
    let home = Home::warm();
    let script = r#"
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ekiben_service.spool import Locked, Record, Spool

def record(number):
    return Record(f"i{number}", b'{"n":\n%d}' % number)

folder = Path(sys.argv[2])
spool = Spool(folder, 10)
assert spool.append([record(number) for number in range(25)] + [record(3)]) == 25
assert spool.append([record(24)]) == 0
assert (spool.begin, spool.end, spool.full, spool.count) == (0, 25, 20, 25)
try:
    Spool(folder, 10)
    raise SystemExit("two have it")
except Locked:
    pass
assert list(spool.records(9, 11)) == [b'{"n": 9}', b'{"n": 10}']
spool.drop(20)
assert (spool.begin, spool.full, spool.count) == (20, 20, 5)
spool.append([record(number) for number in range(25, 31)])
spool.drop(31)
assert spool.count == 0 and not list(folder.glob("*.records"))
# Without an id each is another; part of a file can be done with.
spool.append([record(1), Record("", b"1"), Record("", b"1")])
spool.drop(32)
spool.append([record(40)])
assert list(spool.records(spool.begin, spool.end)) == [b"1", b"1", b'{"n": 40}']
# What was not written to its end is not there, and what is comes once.
spool.lock.close()
with open(max(folder.glob("*.records")), "ab") as file:
    file.write(b'"torn"\t{"x"')
spool = Spool(folder, 10)
assert spool.append([record(40), record(41)]) == 1
assert list(spool.records(spool.end - 2, spool.end)) == [b'{"n": 40}', b'{"n": 41}']
"#;
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bundle/generate/templates");
    ran(Command::new("python3").args(["-c", script, templates, &home.path("spool")])).ok();
}
