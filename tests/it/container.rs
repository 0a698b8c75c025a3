//! Containers as a user meets them: real ones, as root and as an ordinary user.
//!
//! Their root is a statically linked busybox, from Debian's package where the machine has none.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::home::images::busybox;
use crate::home::{self, somebody_runs, wait_until};
use ekiben::io::explain::Explain as _;
use ekiben::io::progress::Progress;
use ekiben::run::container::{
    Containers, Engine, Error, Failure, Launcher, Mount, Name, Network, Output, Publish, Spec, Status, engine,
};

mod ways;

/// Set in the second run of these tests, as an ordinary user: the folder with what they need.
const AGAIN: &str = "EKIBEN_TEST_FOLDER";

/// A folder with the program and a root, that everybody can read.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        if let Some(folder) = std::env::var_os(AGAIN) {
            return folder.into();
        }
        let folder = std::env::temp_dir().join(format!("ekiben-container-test-{}", nix::unistd::geteuid()));
        let bin = folder.join("root/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(folder.join("root/etc")).unwrap();
        home::install(Path::new(env!("CARGO_BIN_EXE_ekiben")), folder.join("ekiben"));
        home::install(busybox(), bin.join("busybox"));
        let calls = folder.join(format!("calls.{}", std::process::id()));
        let compiled =
            Command::new("cc").args(["-static", "-O1", "tests/it/home/calls.c", "-o"]).arg(&calls).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::rename(calls, bin.join("calls")).unwrap();
        for name in [
            "sh", "cat", "ls", "id", "echo", "sleep", "touch", "nc", "dd", "hostname", "wc", "grep", "printf", "true",
            "mkdir",
        ] {
            let _ = symlink("busybox", bin.join(name));
        }
        std::fs::write(folder.join("root/etc/passwd"), "model:x:1034:1034::/:/bin/sh\n").unwrap();
        folder
    })
}

/// In the second run it belongs to the user, as a program does that `cargo install` put into their home.
fn program() -> PathBuf {
    shared().join(if std::env::var_os(AGAIN).is_some() { "their-ekiben" } else { "ekiben" })
}

struct Home {
    containers: Containers,
    folder: tempfile::TempDir,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let containers =
        Containers::new(&folder.path().join("containers"), Launcher::program(program()), Progress::silent());
    Home { containers, folder }
}

fn spec(args: &[&str]) -> Spec {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Spec::new(Name::Like("test".to_owned()), vec![shared().join("root")], args)
}

fn shell(script: &str) -> Spec {
    spec(&["sh", "-c", script])
}

fn run(spec: &Spec) -> Output {
    home().containers.run_to_end(spec).unwrap_or_else(|error| panic!("{error}\n{error:?}"))
}

fn output(script: &str) -> String {
    let output = run(&shell(script));
    assert_eq!(output.exit.code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_command_gives_its_output_and_exit_code() {
    let output = run(&shell("echo out; echo err >&2; exit 7"));
    assert_eq!(
        (output.exit.code, output.stdout.as_slice(), output.stderr.as_slice()),
        (7, &b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn it_has_no_rights_and_sees_nothing_of_the_host() {
    let said = output(
        "cat /proc/self/status; echo pid $$; echo root $(ls -a /); echo etc $(ls -a /etc); cat /etc/hosts; hostname; id -u; id -g; \
         echo processes $(ls /proc | grep -c '^[0-9]'); wc -l < /proc/net/route",
    );
    let has = |line: &str| assert!(said.lines().any(|other| other == line), "no `{line}` in\n{said}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        has(&format!("{set}:\t0000000000000000"));
    }
    has("NoNewPrivs:\t1");
    has("pid 1");
    has("root . .. bin dev etc proc run sys tmp");
    has("etc . .. hosts passwd");
    has("127.0.0.1 localhost ekiben");
    has("ekiben");
    has("1034");
    // Only the heading: there is no route.
    has("1");
}

/// All that run a container from a bundle here.
fn engines() -> Vec<Engine> {
    let runtimes = ["runc", "crun"].into_iter().filter_map(|name| engine::find(name).ok());
    [Engine::Embedded].into_iter().chain(runtimes.map(|program| Engine::Runtime { program })).collect()
}

#[test]
fn it_makes_the_system_calls_of_dockers_profile_alone() {
    for engine in engines() {
        let mut spec = spec(&["calls"]);
        spec.engine = engine.clone();
        let output = run(&spec);
        assert_eq!(output.exit.code, 0, "{engine:?}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let is_allowed = |name: &str| {
            ["getpid", "personality", "socket", "socket-unix", "memfd_create", "prctl", "ptrace"].contains(&name)
        };
        let lines = said.lines().map(|line| line.split_once(' ').unwrap()).collect::<Vec<_>>();
        assert!(lines.len() > 45, "{engine:?}: {said}");
        for (name, result) in lines {
            let expected = match name {
                "clone3" => "ENOSYS",
                // Compared in 64 bits by libseccomp.
                "socket-alg-high" if engine != Engine::Embedded => continue,
                _ if is_allowed(name) => "0",
                _ => "EPERM",
            };
            assert_eq!(result, expected, "{engine:?}: {name}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn another_processors_system_calls_are_no_way_around() {
    for engine in engines() {
        let mut spec = spec(&["calls", "i386"]);
        spec.engine = engine.clone();
        let output = run(&spec);
        // SIGSYS.
        assert_eq!(output.exit.code, 128 + 31, "{engine:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.stdout, b"", "{engine:?}");
        spec.args = vec!["calls".to_owned(), "x32".to_owned()];
        let output = run(&spec);
        // libseccomp ends it here too.
        let expected: (i32, &[u8]) = if engine == Engine::Embedded { (0, b"x32 EPERM\n") } else { (128 + 31, b"") };
        assert_eq!((output.exit.code, output.stdout.as_slice()), expected, "{engine:?}");
    }
}

#[test]
fn it_starts_so_many_processes_and_no_more() {
    // Each number is a process that was started. The shell ends with the first that was not.
    let bomb = "n=0; while true; do sleep 60 & n=$((n + 1)); echo $n; done";
    let started = |spec: &Spec| -> u64 {
        let output = run(spec);
        let said = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("can't fork: Resource temporarily unavailable"), "{error}");
        said.lines().last().unwrap().parse().unwrap()
    };
    for engine in engines() {
        let mut spec = shell(bomb);
        spec.engine = engine.clone();
        spec.limits.pids = Some(60);
        let count = started(&spec);
        // The shell is one, and what other runtimes leave are some; for an ordinary user its supervisor counts too.
        assert!((40..60).contains(&count), "{engine:?}: {count}");
    }
    let count = started(&shell(bomb));
    assert!((4000..4096).contains(&count), "{count}");
    // Without a control group, as on machines that hand none to ordinary users, the kernel counts by user.
    let limit = output("cat /proc/self/limits | grep processes");
    if !nix::unistd::geteuid().is_root() {
        assert!(limit.split_whitespace().filter(|word| *word == "4096").count() == 2, "{limit}");
    }
}

#[test]
fn it_does_not_see_where_its_mounts_come_from() {
    let home = home();
    let weights = home.folder.path().join("weights, of: a project");
    std::fs::create_dir(&weights).unwrap();
    std::fs::set_permissions(&weights, Permissions::from_mode(0o755)).unwrap();
    for name in ["one.bin", "two.bin"] {
        std::fs::write(weights.join(name), name).unwrap();
        std::fs::set_permissions(weights.join(name), Permissions::from_mode(0o644)).unwrap();
    }
    let mount = |source: &Path, target: &str| Mount { source: source.into(), target: target.into(), writable: false };
    let layer = shared().join("root").canonicalize().unwrap();
    let secrets = [home.folder.path(), layer.parent().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR"))];
    for (engine, writable) in engines().into_iter().flat_map(|engine| [(engine.clone(), None), (engine, Some(8 << 20))])
    {
        let mut spec = shell(
            "cat /models/one.bin /models/two.bin /all/one.bin; ls /models /all; echo; \
             cat /proc/self/mountinfo /proc/mounts /proc/self/mountstats /proc/1/mountinfo; \
             echo x > /models/one.bin; echo x > /all/one.bin",
        );
        spec.mounts = vec![
            mount(&weights.join("one.bin"), "/models/one.bin"),
            mount(&weights.join("two.bin"), "/models/two.bin"),
            mount(&weights, "/all"),
        ];
        spec.engine = engine.clone();
        spec.writable = writable;
        let output = home.containers.run_to_end(&spec).unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let expected = "one.bintwo.binone.bin/all:\none.bin\ntwo.bin\n\n/models:\none.bin\ntwo.bin\n\n";
        assert!(said.starts_with(expected), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr).matches("Read-only file system").count(), 2);
        for secret in secrets {
            for part in [secret.to_str().unwrap(), secret.file_name().unwrap().to_str().unwrap(), "of: a", "of:\\040a"]
            {
                assert!(!said.contains(part), "{engine:?}: {part} in\n{said}");
            }
        }
        assert_eq!(std::fs::read_to_string(weights.join("one.bin")).unwrap(), "one.bin");
    }
}

#[test]
fn it_can_write_to_memory_alone() {
    let said = output(
        "for place in / /bin /etc /dev /proc /sys /proc/sys/kernel/hostname /tmp /run /dev/shm; do \
             if [ -f $place ]; then (echo x > $place) 2> /dev/null && echo $place; \
             else touch $place/file 2> /dev/null && echo $place; fi; done; \
         dd if=/dev/zero of=/run/large bs=1M count=65 2>&1 | grep -o 'No space'; true",
    );
    assert_eq!(said, "/tmp\n/run\n/dev/shm\nNo space\n");
    assert!(!shared().join("root/tmp").exists(), "the layer was written to");
}

#[test]
fn a_root_that_can_be_written_to_is_memory_over_the_layers() {
    let layer = tempfile::tempdir().unwrap();
    let place = layer.path().join("home");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("file"), "old\n").unwrap();
    for (path, mode) in [(layer.path(), 0o755), (&place, 0o777), (&place.join("file"), 0o666)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let mut spec = shell(
        "cat /home/file; echo new > /home/file; echo more > /home/other; cat /home/file /home/other; ls -a /home; \
         dd if=/dev/zero of=/home/large bs=1M count=9 2>&1 | grep -o 'No space'; true",
    );
    spec.lower.push(layer.path().to_owned());
    spec.writable = Some(8 << 20);
    let runtimes = engine::find("runc").into_iter().map(|program| Engine::Runtime { program });
    for engine in [Engine::Embedded].into_iter().chain(runtimes) {
        spec.engine = engine;
        let said = run(&spec).stdout;
        assert_eq!(String::from_utf8(said).unwrap(), "old\nnew\nmore\n.\n..\nfile\nother\nNo space\n");
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "old\n");
    }
}

#[test]
fn a_root_that_can_be_written_to_keeps_the_layers_own_temporary_folder() {
    let layer = tempfile::tempdir().unwrap();
    for (folder, mode) in [("tmp", 0o777), ("var", 0o755), ("var/tmp", 0o777), ("home", 0o755), ("home/model", 0o777)] {
        std::fs::create_dir(layer.path().join(folder)).unwrap();
        std::fs::set_permissions(layer.path().join(folder), Permissions::from_mode(mode)).unwrap();
    }
    std::fs::write(layer.path().join("tmp/kept"), "kept\n").unwrap();
    std::fs::set_permissions(layer.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(layer.path().join("tmp/kept"), Permissions::from_mode(0o644)).unwrap();
    for engine in engines() {
        let mut spec = shell(
            "cat /tmp/kept; for place in /tmp /var/tmp /home/model /run /dev/shm; do \
             mkdir -p $place/a/b && echo x > $place/a/b/c && echo $place; done",
        );
        spec.lower.push(layer.path().to_owned());
        spec.engine = engine.clone();
        spec.writable = Some(8 << 20);
        spec.env.push("PATH=/bin".to_owned());
        let output = run(&spec);
        let said = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "kept\n/tmp\n/var/tmp\n/home/model\n/run\n/dev/shm\n", "{engine:?}: {error}");
        // Without it, the folder is memory, and the layer's is hidden.
        spec.writable = None;
        let said = String::from_utf8(run(&spec).stdout).unwrap();
        assert_eq!(said, "/tmp\n/run\n/dev/shm\n", "{engine:?}");
    }
}

#[test]
fn it_cannot_call_out() {
    let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || server.incoming().for_each(drop));
    let mut addresses = vec!["127.0.0.1".to_owned(), "1.1.1.1".to_owned()];
    let known = Command::new("hostname").arg("-I").output().unwrap().stdout;
    addresses.extend(String::from_utf8(known).unwrap().split_whitespace().map(str::to_owned));
    for address in addresses {
        let said = output(&format!("nc -w 1 {address} {port} < /dev/null 2> /dev/null && echo reached; true"));
        assert_eq!(said, "", "{address}");
    }
    let mut open = shell(&format!("nc -w 1 127.0.0.1 {port} < /dev/null && echo reached"));
    open.network = Network::Host;
    assert_eq!(run(&open).stdout, b"reached\n");
}

#[test]
fn mounts_appear_where_the_layers_have_nothing() {
    let home = home();
    let weights = home.folder.path().join("weights");
    let cache = home.folder.path().join("cache");
    std::fs::write(&weights, "heavy").unwrap();
    std::fs::set_permissions(&weights, Permissions::from_mode(0o644)).unwrap();
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, Permissions::from_mode(0o777)).unwrap();
    let above = home.folder.path().join("above");
    std::fs::create_dir_all(above.join("srv")).unwrap();
    symlink("srv", above.join("models")).unwrap();
    let mut spec = shell(
        "cat /models/iris/weights; cat /srv/iris/weights; cat /bin/../tmp/w; echo x > /models/iris/weights; \
         echo kept > /cache/file; ls /etc",
    );
    spec.lower.push(above);
    let mount =
        |source: &Path, target: &str, writable| Mount { source: source.into(), target: target.into(), writable };
    spec.mounts = vec![
        mount(&weights, "/models/iris/weights", false),
        mount(&weights, "/tmp/w", false),
        mount(&cache, "/cache", true),
    ];
    let output = home.containers.run_to_end(&spec).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "heavyheavyheavyhosts\npasswd\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Read-only file system"));
    assert_eq!(std::fs::read_to_string(cache.join("file")).unwrap(), "kept\n");
    assert_eq!(std::fs::read_to_string(&weights).unwrap(), "heavy");
}

#[test]
fn a_file_that_its_user_may_not_read_is_named() {
    let home = home();
    let weights = home.folder.path().join("weights");
    std::fs::write(&weights, "secret").unwrap();
    std::fs::set_permissions(&weights, Permissions::from_mode(0o000)).unwrap();
    let mut spec = shell("true");
    spec.mounts = vec![Mount { source: weights.clone(), target: "/w".into(), writable: false }];
    let error = home.containers.start(&spec).unwrap_err();
    assert!(matches!(&error, Error::Unreadable { path, .. } if *path == weights), "{error:?}");
    assert!(error.explain().hint.is_some_and(|hint| hint.contains("chmod")), "{error:?}");
    assert_eq!(home.containers.list().unwrap().len(), 0);
}

#[test]
fn a_program_that_cannot_run_is_named() {
    for (program, expected) in
        [("nonesuch", "no such program"), ("/etc/passwd", "not executable"), ("/etc", "a folder")]
    {
        let home = home();
        match home.containers.start(&spec(&[program])) {
            Err(Error::Start(Failure::Command { why, .. })) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read_dir(home.folder.path().join("containers")).unwrap().count(), 0);
    }
}

/// A server that answers every request, and its published address.
fn server(answer: &str) -> Spec {
    let mut spec = shell(&format!(
        "echo ready; while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\n{answer}' | nc -l -p 3000 > /dev/null; done"
    ));
    spec.network = Network::Isolated {
        publish: vec![Publish { host: ([127, 0, 0, 1], 0).into(), container: 3000 }],
        ways: Vec::new(),
    };
    spec.grace = 300;
    spec
}

fn ask(address: SocketAddr) -> String {
    let deadline = Instant::now() + crate::home::PATIENCE;
    loop {
        let mut answer = String::new();
        if let Ok(mut connection) = TcpStream::connect(address) {
            let _ = connection.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let _ = connection.shutdown(std::net::Shutdown::Write);
            let _ = connection.read_to_string(&mut answer);
        }
        if let Some((_, body)) = answer.split_once("\r\n\r\n") {
            return body.to_owned();
        }
        assert!(Instant::now() < deadline, "no answer from {address}: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn published_ports_answer_until_the_end_and_two_run_at_once() {
    let home = home();
    let mut one = home.containers.start(&server("one")).unwrap();
    let mut two = home.containers.start(&server("two")).unwrap();
    two.let_go();
    let address = |state: ekiben::run::container::State| state.published[0].host;
    let (first, second) = (address(one.state().unwrap()), address(two.state().unwrap()));
    assert_eq!((ask(first).as_str(), ask(second).as_str()), ("one", "two"));
    assert_eq!(home.containers.list().unwrap().len(), 2);
    assert!(home.containers.in_use().unwrap().contains(&shared().join("root").canonicalize().unwrap()));

    let mut taken = server("three");
    taken.network = Network::Isolated { publish: vec![Publish { host: first, container: 3000 }], ways: Vec::new() };
    match home.containers.start(&taken) {
        Err(Error::Start(Failure::Address { address, in_use: true, .. })) => assert_eq!(address, first),
        other => panic!("{other:?}"),
    }

    one.stop(Duration::from_millis(200)).unwrap();
    // Its shell is a first process without a handler: the kernel keeps SIGTERM from it.
    assert_eq!(one.wait(&mut |_| {}).unwrap().code, 137);
    assert!(TcpStream::connect(first).is_err(), "somebody still listens on {first}");
    assert_eq!(ask(second), "two");
    home.containers.get(two.name()).unwrap().stop(Duration::from_millis(200)).unwrap();
    assert!(TcpStream::connect(second).is_err());
    drop((one, two));
    swept(&home);
    assert_eq!(std::fs::read_dir(home.folder.path().join("containers")).unwrap().count(), 0);
}

/// What is left is swept. A process that another thread just starts has the locks of this one until its program runs.
fn swept(home: &Home) {
    wait_until("the folders are swept", || {
        home.containers.sweep().unwrap();
        home.containers.list().unwrap().is_empty()
    });
}

#[test]
fn half_closed_connections_get_their_whole_answer() {
    let home = home();
    let mut spec = shell("nc -l -p 3000 -e sh -c 'cat | wc -c'");
    spec.network = Network::Isolated {
        publish: vec![Publish { host: ([127, 0, 0, 1], 0).into(), container: 3000 }],
        ways: Vec::new(),
    };
    let container = home.containers.start(&spec).unwrap();
    let address = container.state().unwrap().published[0].host;
    let sent = vec![b'x'; 8 << 20];
    let deadline = Instant::now() + crate::home::PATIENCE;
    let mut answer = String::new();
    while answer.is_empty() && Instant::now() < deadline {
        let mut connection = TcpStream::connect(address).unwrap();
        let _ = connection.write_all(&sent);
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let _ = connection.read_to_string(&mut answer);
    }
    assert_eq!(answer.trim(), sent.len().to_string());
}

#[test]
fn sigterm_lets_it_end_and_nothing_of_its_log_is_lost() {
    let home = home();
    let mut spec = shell("trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done");
    spec.keep = true;
    spec.name = Name::Exactly("kept".to_owned());
    let mut container = home.containers.start(&spec).unwrap();
    container.let_go();
    assert!(matches!(home.containers.start(&spec), Err(Error::NameTaken { .. })));
    assert!(
        matches!(home.containers.get("keep"), Err(Error::NoContainer { similar: Some(name), .. }) if name == "kept")
    );
    assert!(matches!(container.remove(), Err(Error::IsRunning { .. })));
    let read = |lines, follow| {
        let mut log = Vec::new();
        home.containers
            .get("kept")
            .unwrap()
            .logs(lines, follow, &mut |piece| {
                log.extend_from_slice(piece);
                true
            })
            .unwrap();
        String::from_utf8(log).unwrap()
    };
    while read(None, false).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::scope(|scope| {
        let followed = scope.spawn(|| read(None, true));
        home.containers.get("kept").unwrap().stop(Duration::from_secs(10)).unwrap();
        assert_eq!(followed.join().unwrap(), "up\nbye\n");
    });
    assert_eq!(read(Some(1), false), "bye\n");
    assert!(matches!(container.state().unwrap().status, Status::Exited { code: 3, .. }));
    home.containers.sweep().unwrap();
    assert_eq!(container.wait(&mut |_| {}).unwrap().code, 3);
    container.remove().unwrap();
    assert_eq!(home.containers.list().unwrap().len(), 0);
}

#[test]
fn a_long_log_comes_whole() {
    let mut said = 0;
    let home = home();
    let mut container = home.containers.start(&shell("dd if=/dev/zero bs=1M count=20 2> /dev/null; exit 4")).unwrap();
    let exit = container.wait(&mut |piece| said += piece.len()).unwrap();
    assert_eq!((said, exit.code), (20 << 20, 4));
}

fn supervisor(container: &ekiben::run::container::Container, home: &Home) -> i32 {
    let path = home.folder.path().join("containers").join(container.name()).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    state["state"]["supervisor"]["id"].as_i64().unwrap().try_into().unwrap()
}

#[test]
fn a_killed_supervisor_takes_all_with_it_and_the_next_sweep_tidies() {
    let home = home();
    let marker = format!("{}.5", 70_000 + std::process::id());
    let mut spec = shell(&format!("sleep {marker} & sleep {marker}"));
    spec.network = Network::Isolated {
        publish: vec![Publish { host: ([127, 0, 0, 1], 0).into(), container: 3000 }],
        ways: Vec::new(),
    };
    spec.limits.memory = Some(64 << 20);
    let mut container = home.containers.start(&spec).unwrap();
    container.let_go();
    let address = container.state().unwrap().published[0].host;
    let is_there = format!("sleep\0{marker}");
    wait_until("the container runs", || somebody_runs(&is_there));
    let process = supervisor(&container, &home);
    let groups = || {
        let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("ekiben-*-{process}")]).output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    if nix::unistd::geteuid().is_root() {
        assert_ne!(groups(), "");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::SIGKILL).unwrap();
    wait_until("the container is gone", || !somebody_runs(&is_there));
    wait_until("nobody listens", || TcpStream::connect(address).is_err());
    assert!(matches!(container.state().unwrap().status, Status::Lost));
    drop(container);
    swept(&home);
    assert_eq!(groups(), "");
    assert_eq!(std::fs::read_dir(home.folder.path().join("containers")).unwrap().count(), 0);
}

/// Runs the test `name` again in a process of its own, in which [`starter`] is what happens.
fn start_starter(name: &str, home: &Home, script: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("EKIBEN_TEST_STARTER", home.folder.path().join("containers"))
        .env("EKIBEN_TEST_SCRIPT", script)
        .env("EKIBEN_TEST_PROGRAM", program())
        .env(AGAIN, shared())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// A foreground command, as `ekiben run` is one. Ends the process.
fn starter() {
    let Some(folder) = std::env::var_os("EKIBEN_TEST_STARTER") else { return };
    let launcher = Launcher::program(std::env::var_os("EKIBEN_TEST_PROGRAM").unwrap());
    let containers = Containers::new(Path::new(&folder), launcher, Progress::silent());
    let mut container = containers.start(&shell(&std::env::var("EKIBEN_TEST_SCRIPT").unwrap())).unwrap();
    let signals = container.pass_on_signals().unwrap();
    let exit = container.wait(&mut |piece| std::io::stdout().write_all(piece).unwrap()).unwrap();
    println!("received {:?}", signals.received());
    std::process::exit(exit.code);
}

#[test]
fn a_killed_starter_takes_its_container_with_it() {
    starter();
    let home = home();
    let marker = format!("{}.25", 70_000 + std::process::id());
    let script = format!("trap 'exit 0' TERM; sleep {marker} & wait");
    let mut starter = start_starter("container::a_killed_starter_takes_its_container_with_it", &home, &script);
    let is_there = format!("sleep\0{marker}");
    wait_until("the container runs", || somebody_runs(&is_there));
    starter.kill().unwrap();
    starter.wait().unwrap();
    wait_until("the container is gone", || !somebody_runs(&is_there));
    swept(&home);
}

#[test]
fn signals_to_a_foreground_command_reach_its_container() {
    starter();
    let home = home();
    let script = "trap 'echo bye; exit 9' TERM; echo up; while true; do sleep 0.05; done";
    let mut starter = start_starter("container::signals_to_a_foreground_command_reach_its_container", &home, script);
    let mut lines = BufReader::new(starter.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("up")));
    let process = nix::unistd::Pid::from_raw(starter.id().try_into().unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::SIGINT).unwrap();
    assert_eq!(lines.collect::<Vec<_>>(), ["bye", "received Some(2)"]);
    assert_eq!(starter.wait().unwrap().code(), Some(9));
    assert!(home.containers.list().unwrap().is_empty());
}

#[test]
fn the_memory_limit_kills() {
    let mut spec = shell("dd if=/dev/zero of=/dev/null bs=100M count=1 2> /dev/null; echo $?");
    spec.limits.memory = Some(32 << 20);
    spec.limits.cpus = Some(0.5);
    spec.limits.required = true;
    match home().containers.run_to_end(&spec) {
        Ok(output) => {
            assert_eq!(output.stdout, b"137\n");
            assert!(output.exit.out_of_memory);
        }
        Err(Error::Start(failure @ Failure::Limits { .. })) if !nix::unistd::geteuid().is_root() => {
            assert!(failure.explain().hint.is_some());
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_oci_runtimes_run_it_too() {
    for program in ["runc", "crun"].into_iter().filter_map(|name| engine::find(name).ok()) {
        let mut spec = shell("echo out; grep CapEff /proc/self/status; id -u; exit 5");
        spec.engine = Engine::Runtime { program: program.clone() };
        let output = run(&spec);
        let user = if nix::unistd::geteuid().is_root() { 1034 } else { 0 };
        let expected = format!("out\nCapEff:\t0000000000000000\n{user}\n");
        let error = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!((said.as_ref(), output.exit.code), (expected.as_str(), 5), "{}: {error}", program.display());

        let home = home();
        let marker = format!("{}.125", 70_000 + std::process::id());
        spec.args = vec!["sleep".to_owned(), marker.clone()];
        let mut container = home.containers.start(&spec).unwrap();
        container.let_go();
        let is_there = format!("sleep\0{marker}");
        wait_until("the container runs", || somebody_runs(&is_there));
        let supervisor = nix::unistd::Pid::from_raw(supervisor(&container, &home));
        nix::sys::signal::kill(supervisor, nix::sys::signal::SIGKILL).unwrap();
        wait_until("the container is gone", || !somebody_runs(&is_there));
        drop(container);
        wait_until("its folder is swept", || home.containers.sweep().unwrap() == 1);
    }
}

/// A docker archive of the root's busybox.
fn archive(path: &Path, name: &str) {
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_path_with_name(shared().join("root/bin/busybox"), "bin/busybox").unwrap();
    let layer = layer.into_inner().unwrap();
    let id = ekiben::io::digest::Digest::of(&layer).to_string();
    let configuration = serde_json::json!({
        "architecture": ekiben::image::oci::platform::Platform::host().unwrap().architecture(), "os": "linux",
        "config": {}, "rootfs": {"type": "layers", "diff_ids": [id]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, content) in [
        ("config.json", configuration.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn podman_runs_it_too() {
    let Ok(program) = engine::find("podman") else { return };
    // An ordinary user's podman needs subordinate users, which few build machines have.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = home();
    let image = "localhost/ekiben-container-test:1".to_owned();
    let path = home.folder.path().join("image.tar");
    archive(&path, &image);
    let engine = Engine::Manager { program, archive: path, image: image.clone(), devices: Vec::new() };
    let script = "busybox grep CapEff /proc/self/status; busybox id -u; exit 5";
    let mut spec = spec(&["/bin/busybox", "sh", "-c", script]);
    spec.env = vec!["PATH=/bin".to_owned()];
    spec.engine = engine.clone();
    let output = home.containers.run_to_end(&spec).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "CapEff:\t0000000000000000\n1034\n", "{error}");
    assert_eq!(output.exit.code, 5);

    let marker = format!("{}.75", 70_000 + std::process::id());
    spec.args = ["/bin/busybox", "sleep", &marker].map(str::to_owned).to_vec();
    let container = home.containers.start(&spec).unwrap();
    let is_there = format!("sleep\0{marker}");
    let supervisor = nix::unistd::Pid::from_raw(supervisor(&container, &home));
    wait_until("the container runs", || somebody_runs(&format!("/bin/busybox\0{is_there}")));
    nix::sys::signal::kill(supervisor, nix::sys::signal::SIGKILL).unwrap();
    wait_until("the supervisor is gone", || matches!(container.state().unwrap().status, Status::Lost));
    drop(container);
    swept(&home);
    assert!(!somebody_runs(&format!("/bin/busybox\0{is_there}")));
    Command::new("podman").args(["rmi", "--force", &image]).output().unwrap();
}

#[test]
fn where_user_namespaces_are_switched_off_that_is_said() {
    // In a user namespace of its own, root may switch them off without anybody else noticing.
    if std::env::var_os("EKIBEN_TEST_NO_NAMESPACES").is_none() {
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "container::where_user_namespaces_are_switched_off_that_is_said"])
            .env("EKIBEN_TEST_NO_NAMESPACES", "1")
            .env(AGAIN, shared())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    match home().containers.start(&shell("true")) {
        Err(Error::Start(failure @ Failure::NoSandbox { .. })) => {
            assert!(failure.to_string().contains("user.max_user_namespaces is 0"), "{failure}");
            assert!(failure.explain().hint.is_some_and(|hint| hint.contains("sysctl")), "{failure}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_engine_that_is_missing_is_named() {
    let error = engine::find("nonesuch").unwrap_err();
    assert_eq!(error.to_string(), "`nonesuch` is not installed");
}

/// Prints how long a start takes: `cargo test --test it container::start_times -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn start_times() {
    let home = home();
    let median = |what: &str, once: &dyn Fn() -> Duration| {
        let mut times: Vec<_> = (0..21).map(|_| once()).collect();
        times.sort();
        println!("{what}: {:.1} ms", times[times.len() / 2].as_secs_f64() * 1000.0);
    };
    let to_its_end = |spec: &Spec| {
        let start = Instant::now();
        home.containers.run_to_end(spec).unwrap();
        start.elapsed()
    };
    median("until the program runs", &|| {
        let start = Instant::now();
        let mut container = home.containers.start(&spec(&["true"])).unwrap();
        let time = start.elapsed();
        container.wait(&mut |_| {}).unwrap();
        time
    });
    let mut plain = spec(&["true"]);
    median("to its end", &|| to_its_end(&plain));
    plain.network = Network::Isolated {
        publish: vec![Publish { host: ([127, 0, 0, 1], 0).into(), container: 1 }],
        ways: Vec::new(),
    };
    plain.limits.memory = Some(1 << 30);
    median("to its end, with a limit and a published port", &|| to_its_end(&plain));

    let bundle = home.folder.path().join("bundle");
    std::fs::create_dir_all(&bundle).unwrap();
    let rootless: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--rootless"] };
    let made = Command::new("runc").arg("spec").args(rootless).arg("--bundle").arg(&bundle).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let root = home.folder.path().join("root");
    for folder in ["bin", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy(shared().join("root/bin/busybox"), root.join("bin/true")).unwrap();
    let text = std::fs::read_to_string(bundle.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["root"]["path"] = root.to_str().unwrap().into();
    config["process"]["args"] = serde_json::json!(["true"]);
    config["process"]["terminal"] = false.into();
    config["process"]["rlimits"] = serde_json::json!([]);
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    median("`runc run`, to its end", &|| {
        let start = Instant::now();
        let output = Command::new("runc")
            .arg("--root")
            .arg(home.folder.path().join("runc"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg("measured")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        start.elapsed()
    });
}

#[test]
fn all_this_holds_for_an_ordinary_user() {
    if std::env::var_os(AGAIN).is_some() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = shared();
    let tests = folder.join("tests");
    home::install(std::env::current_exe().unwrap(), &tests);
    let theirs = folder.join("their-ekiben");
    home::install(folder.join("ekiben"), &theirs);
    std::os::unix::fs::chown(&theirs, Some(61_034), Some(61_034)).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temporary.path(), Permissions::from_mode(0o777)).unwrap();
    let status = Command::new(&tests)
        .arg("container::")
        .env(AGAIN, folder)
        .env("TMPDIR", temporary.path())
        .current_dir(folder)
        .uid(61_034)
        .gid(61_034)
        .status()
        .unwrap();
    assert!(status.success());
}
