//! Several who do the same at once, on one machine: each is done, or says that another was faster, and nothing is lost.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;

use crate::home::{Home, Ran, ran};

/// Runs these at the same moment, each to its end.
pub fn at_once(commands: Vec<Command>) -> Vec<Ran> {
    let start = Barrier::new(commands.len());
    let start = &start;
    std::thread::scope(|scope| {
        let all = commands.into_iter().map(|mut command| {
            scope.spawn(move || {
                start.wait();
                ran(&mut command)
            })
        });
        let all: Vec<_> = all.collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// All but those that were done must say this, and nothing of what they met on the way. Says how many were done.
fn done_or_says(all: Vec<Ran>, text: &str) -> usize {
    let (done, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.code == Some(0));
    for other in others {
        let other = other.says(text);
        assert!(!other.err.contains("os error"), "{}", other.err);
    }
    done.len()
}

#[test]
fn logins_are_all_kept() {
    let home = Home::empty();
    let servers: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let hosts: Vec<String> = servers.iter().map(|server| server.local_addr().unwrap().to_string()).collect();
    for server in servers {
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
            }
        });
    }
    let folder = home.folder().join("docker");
    let password = home.write("password", "hunter2\n");
    let login = |host: &String| {
        let mut command = home.command(["login", host, "-u", "me", "--password-stdin"]);
        command.env("DOCKER_CONFIG", &folder).stdin(fs::File::open(&password).unwrap());
        command
    };
    let logout = |host: &String| {
        let mut command = home.command(["logout", host]);
        command.env("DOCKER_CONFIG", &folder).env("XDG_CONFIG_HOME", home.folder()).env_remove("XDG_RUNTIME_DIR");
        command
    };
    let kept = || -> Vec<String> {
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["auths"].as_object().unwrap().keys().cloned().collect()
    };
    let sorted = |hosts: &[String]| {
        let mut hosts = hosts.to_vec();
        hosts.sort();
        hosts
    };
    for round in 0..5 {
        at_once(hosts.iter().map(login).collect()).into_iter().for_each(|one| drop(one.ok()));
        assert_eq!(kept(), sorted(&hosts), "in round {round}");
        at_once(hosts[2..].iter().map(logout).collect()).into_iter().for_each(|one| drop(one.ok()));
        assert_eq!(kept(), sorted(&hosts[..2]), "in round {round}");
        let mixed = [logout(&hosts[0]), logout(&hosts[1]), login(&hosts[2]), login(&hosts[3])];
        at_once(mixed.into()).into_iter().for_each(|one| drop(one.ok()));
        assert_eq!(kept(), sorted(&hosts[2..4]), "in round {round}");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn one_begins_a_project_and_the_others_are_told() {
    let home = Home::empty();
    for (name, pickled) in [("one", "b'one'"), ("two", "b'two'")] {
        let write = format!("import pickle, sys; pickle.dump({pickled}, open(sys.argv[1], 'wb'))");
        ran(Command::new("python3").args(["-c", &write, &home.path(&format!("{name}.pkl"))])).ok();
    }
    let init = |folder: &str, name: &str| home.command(["init", folder, "--from", &home.path(name)]);
    for round in 0..8 {
        let fresh = format!("fresh{round}/in");
        let done = at_once((0..4).map(|_| init(&fresh, "one.pkl")).collect());
        assert_eq!(done_or_says(done, "already"), 1);
        let there = format!("there{round}");
        fs::create_dir(home.path(&there)).unwrap();
        let models = ["one.pkl", "two.pkl", "one.pkl", "two.pkl"];
        let done = at_once(models.map(|model| init(&there, model)).into());
        assert_eq!(done_or_says(done, "already"), 1);
        let manifest = fs::read_to_string(home.path(&format!("{there}/ekiben.yaml"))).unwrap();
        let is_there = |name: &str| Path::new(&home.path(&format!("{there}/{name}"))).exists();
        for name in ["one.pkl", "two.pkl"] {
            assert_eq!(manifest.contains(name), is_there(name), "{manifest}");
        }
    }
}

#[test]
fn a_bundle_is_unpacked_by_one_and_a_foreign_project_is_made_once() {
    let home = Home::warm();
    home.tiny("tiny");
    home.run(["pack", "tiny", "-o", "tiny.ekiben"]).ok();
    let mut zip = Command::new("python3");
    zip.args(["-c", "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])", &home.path("archive")]);
    ran(zip.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/analytics"))).ok();
    for round in 0..5 {
        let folder = format!("unpacked{round}");
        let unpack = || home.command(["unpack", "tiny.ekiben", &folder]);
        assert_eq!(done_or_says(at_once((0..3).map(|_| unpack()).collect()), "already"), 1);
        let unpack =
            |number| home.command(["unpack", "--generated", "archive.zip", &format!("generated{round}-{number}")]);
        at_once((0..3).map(unpack).collect()).into_iter().for_each(|one| drop(one.ok()));
        fs::remove_dir_all(home.store().join("projects")).unwrap();
    }
}

#[test]
fn containers_and_layers_are_removed_by_several_and_never_under_a_container() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    let names = |round: usize| (0..4).map(move |number| format!("c{round}-{number}"));
    let detached = |name: &str| home.command(["run", "tiny", "--detach", "-p", "0", "--name", name]);
    for round in 0..3 {
        // Of those that have ended.
        for name in names(round) {
            ran(&mut detached(&name)).ok();
        }
        let mut stop: Vec<String> = vec!["stop".to_owned(), "--grace".to_owned(), "0".to_owned()];
        stop.extend(names(round));
        home.run(stop).ok();
        let prune = || home.command(["prune"]);
        let rm = |number: usize| home.command(["rm", &format!("c{round}-{number}")]);
        let all = at_once(vec![prune(), prune(), prune(), rm(0), rm(0), rm(3)]);
        assert!(done_or_says(all, "there is no container `c") >= 3);
        assert_eq!(home.containers(), [""; 0]);
        // While one starts: its layers stay, though nothing else would need them.
        let mut run = detached("late").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 * (round as u64 + 1)));
        home.run(["prune", "--all"]).ok();
        assert!(run.wait().unwrap().success());
        home.run(["exec", "late", "--", "python3", "-c", "import json, sqlite3, decimal, email.parser"]).ok();
        home.run(["rm", "--force", "late"]).ok();
    }
}

#[test]
fn who_prunes_is_told_what_is_waited_for() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    let mut run = home.command(["run", "tiny", "-p", "0"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    crate::home::wait_until("the container", || !home.containers().is_empty());
    let mut prune = home.command(["prune"]);
    let mut prune = prune.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(prune.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("waiting for what uses the store")).unwrap();
    assert!(told.contains("run tiny -p 0 (process "), "{told}");
    let id = nix::unistd::Pid::from_raw(run.id() as i32);
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    run.wait().unwrap();
    let rest: Vec<_> = lines.collect();
    assert!(prune.wait().unwrap().success(), "{rest:?}");
}
