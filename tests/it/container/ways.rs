//! Ways out: what one leads to is reached, under its name and port, and nothing else is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Home, engines, home, shell};
use crate::home::wait_until;
use ekiben::run::container::{Container, Error, Failure, Network, Output, Publish, Spec};

fn with_ways(script: &str, ways: &[String]) -> Spec {
    let mut spec = shell(script);
    let ways = ways.iter().map(|way| way.parse().unwrap()).collect();
    spec.network = Network::Isolated { publish: Vec::new(), ways };
    spec
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A server of this machine, at `address`, that answers each connection, when all that it sends is there, with `name`, the
/// address that was asked and what was sent.
fn server(address: &str, name: &'static str) -> u16 {
    let server = TcpListener::bind((address, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in server.incoming() {
            std::thread::spawn(move || {
                let mut connection = connection.unwrap();
                let mut text = String::new();
                connection.read_to_string(&mut text).unwrap();
                write!(connection, "{name} {} {text}", connection.local_addr().unwrap().ip()).unwrap();
            });
        }
    });
    port
}

/// Addresses of this machine's interfaces, of IPv4.
fn own_addresses() -> Vec<Ipv4Addr> {
    let known = Command::new("hostname").arg("-I").output().unwrap().stdout;
    String::from_utf8(known).unwrap().split_whitespace().filter_map(|text| text.parse().ok()).collect()
}

/// The name that this machine has for itself, if it leads here.
fn own_name() -> Option<String> {
    let name = Command::new("hostname").output().unwrap().stdout;
    let name = String::from_utf8(name).unwrap().trim().to_ascii_lowercase();
    let leads_here = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 1)).is_ok();
    leads_here.then_some(name)
}

#[test]
fn a_way_leads_to_one_port_of_one_machine_under_its_own_name() {
    for engine in engines() {
        let port = server("0.0.0.0", "here");
        let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        hosts.extend(own_addresses().iter().take(1).map(ToString::to_string));
        hosts.extend(own_name());
        for host in hosts {
            let mut spec = with_ways(&format!("echo hello | nc {host} {port}"), &[format!("{host}:{port}")]);
            spec.engine = engine.clone();
            let (out, err) = said(&home().containers.run_to_end(&spec).unwrap());
            assert!(out.starts_with("here ") && out.ends_with(" hello\n"), "{host} with {engine:?}: {out}{err}");
        }
    }
}

#[test]
fn a_way_is_the_only_one() {
    let open = server("0.0.0.0", "open");
    let others = [server("127.0.0.1", "other"), server("0.0.0.0", "other")];
    let own = own_addresses();
    let mut ways = vec![format!("127.0.0.1:{open}")];
    let mut targets = vec![format!("127.0.0.1 {}", others[0]), format!("localhost {}", others[1])];
    // Of one machine another port, of another machine the same.
    for address in &own {
        targets.push(format!("{address} {open}"));
        targets.push(format!("{address} {}", others[1]));
    }
    if let Some(address) = own.first() {
        ways.push(format!("{address}:{}", others[1]));
        targets.retain(|target| *target != format!("{address} {}", others[1]));
    }
    for address in ["1.1.1.1", "127.0.0.2", "169.254.169.254", "198.18.0.53", "127.1.0.1"] {
        targets.push(format!("{address} {open}"));
    }
    targets.push(format!("example.org {open}"));
    let attempts: String =
        targets.iter().map(|target| format!("echo x | nc -w 2 {target} 2>&1 && echo REACHED {target}\n")).collect();
    let (out, err) = said(&home().containers.run_to_end(&with_ways(&format!("{attempts}true"), &ways)).unwrap());
    assert!(!out.contains("REACHED") && !out.contains("other"), "{out}{err}");

    // No devices, routes or names but its own; no way to make any; nothing that could be asked for names.
    let script =
        "cat /proc/net/dev; cat /proc/net/route; cat /etc/resolv.conf; cat /etc/hosts; cat /proc/net/udp | wc -l";
    let (out, _) = said(&home().containers.run_to_end(&with_ways(script, &["broker.test:5672".to_owned()])).unwrap());
    let devices: Vec<_> = out.lines().filter(|line| line.contains(": ")).collect();
    assert!(matches!(devices.as_slice(), [one] if one.trim_start().starts_with("lo:")), "{out}");
    assert!(out.contains("127.1.0.1 broker.test\n127.0.0.1 localhost ekiben\n"), "{out}");
    assert!(out.ends_with("\n1\n"), "{out}");
}

#[test]
fn what_connects_has_no_rights_and_nothing_of_the_container() {
    let port = server("127.0.0.1", "here");
    let home = home();
    let ways = [format!("127.0.0.1:{port}")];
    let container = home.containers.start(&with_ways("sleep 60", &ways)).unwrap();
    let supervisor = super::supervisor(&container, &home);
    let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let mine = std::fs::read_link("/proc/self/ns/net").unwrap();
    let outside: Vec<_> = children
        .split_whitespace()
        .filter(|child| std::fs::read_link(format!("/proc/{child}/ns/net")).is_ok_and(|space| space == mine))
        .collect();
    let [connector] = outside.as_slice() else { panic!("{children}") };
    let status = std::fs::read_to_string(format!("/proc/{connector}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(!status.contains("Uid:\t0"), "{status}");
    container.stop(Duration::ZERO).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{connector}")).exists());
}

/// Runs a script to its end with a server of this machine that treats its connections as `treat` does.
fn run_with(script: impl Fn(u16) -> String, treat: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, String) {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let treat = Arc::new(treat);
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let treat = Arc::clone(&treat);
            std::thread::spawn(move || treat(connection.unwrap()));
        }
    });
    said(&home().containers.run_to_end(&with_ways(&script(port), &[format!("127.0.0.1:{port}")])).unwrap())
}

#[test]
fn a_half_that_is_closed_leaves_the_other_open() {
    let treat = |mut connection: TcpStream| {
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).unwrap();
        // In its own time.
        std::thread::sleep(Duration::from_millis(200));
        writeln!(connection, "{}", bytes.len()).unwrap();
    };
    let (out, _) = run_with(|port| format!("dd if=/dev/zero bs=1M count=16 2>/dev/null | nc 127.0.0.1 {port}"), treat);
    assert_eq!(out, format!("{}\n", 16 << 20));
    // The other half.
    let treat = |mut connection: TcpStream| {
        connection.write_all(b"hello\n").unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        let _ = connection.read_to_end(&mut bytes);
    };
    assert_eq!(run_with(|port| format!("sleep 1 | nc 127.0.0.1 {port}"), treat).0, "hello\n");
}

#[test]
fn what_is_said_last_arrives_though_the_container_has_ended() {
    let (sender, heard) = std::sync::mpsc::channel();
    let treat = move |mut connection: TcpStream| {
        std::thread::sleep(Duration::from_millis(100));
        let mut bytes = Vec::new();
        let _ = connection.read_to_end(&mut bytes);
        sender.send(bytes.len()).unwrap();
    };
    run_with(
        |port| {
            format!(
                "(dd if=/dev/zero bs=1k count=512 2>/dev/null; : >/tmp/sent) | nc -w 1 127.0.0.1 {port} & \
                 until [ -e /tmp/sent ]; do sleep 0.05; done; sleep 0.4"
            )
        },
        treat,
    );
    assert_eq!(heard.recv_timeout(crate::home::PATIENCE).unwrap(), 512 << 10);
}

#[test]
fn a_connection_that_is_broken_off_is_not_taken_for_a_whole_one() {
    let answer = |whole: bool| {
        move |mut connection: TcpStream| {
            let _ = connection.read(&mut [0; 4096]);
            // Without a length: that it is whole is seen by its end alone.
            connection.write_all(b"HTTP/1.0 200 OK\r\n\r\npart of an answer").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            if !whole {
                rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
            }
        }
    };
    let script = |port| format!("busybox wget -q -O - http://127.0.0.1:{port}/; echo \" $?\"");
    assert_eq!(run_with(script, answer(true)).0, "part of an answer 0\n");
    let (out, err) = run_with(script, answer(false));
    assert!(out.ends_with(" 1\n") && err.contains("reset"), "{out}{err}");
}

#[test]
fn many_connections_are_carried_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (open, seen) = (Arc::clone(&now), Arc::clone(&most));
    let treat = move |connection: TcpStream| {
        seen.fetch_max(open.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
        let mut lines = BufReader::new(&connection).lines();
        let line = lines.next().unwrap().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        // At once, as that of others goes to the same file.
        (&connection).write_all(format!("{line}!\n").as_bytes()).unwrap();
        open.fetch_sub(1, Ordering::AcqRel);
    };
    let (out, err) = run_with(
        |port| format!("i=0; while [ $i -lt 200 ]; do echo $i | nc 127.0.0.1 {port} & i=$((i+1)); done; wait"),
        treat,
    );
    let mut answers: Vec<usize> = out.lines().map(|line| line.strip_suffix('!').unwrap().parse().unwrap()).collect();
    answers.sort();
    assert_eq!(answers, (0..200).collect::<Vec<_>>(), "{err}");
    assert!(most.load(Ordering::Acquire) > 20, "{} at once", most.load(Ordering::Acquire));
}

fn log(container: &Container) -> String {
    let mut text = Vec::new();
    container
        .logs(None, false, &mut |bytes| {
            text.extend_from_slice(bytes);
            true
        })
        .unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_way_to_nobody_is_told_of_and_leads_on_when_somebody_comes() {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let ways = [address.to_string(), "nobody.invalid:5672".to_owned()];
    let script = format!(
        "nc nobody.invalid 5672 < /dev/null || echo closed
        while true; do echo x | nc -w 5 127.0.0.1 {port} && echo answered; sleep 0.1; done",
        port = address.port()
    );
    let home = home();
    let container = home.containers.start(&with_ways(&script, &ways)).unwrap();
    let refused = format!("ekiben: {address} cannot be reached from this machine: Connection refused\n");
    wait_until("a word of it", || log(&container).contains(&refused));
    wait_until("a word of the name", || log(&container).contains("ekiben: nobody.invalid:5672 cannot be reached"));
    let answer = |address: SocketAddr, times: usize| {
        let server = TcpListener::bind(address).unwrap();
        for connection in server.incoming().take(times) {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 16]);
            let _ = connection.write_all(b"y\n");
        }
    };
    answer(address, 2);
    wait_until("a word of its return", || log(&container).contains(&format!("ekiben: {address} is reached again\n")));
    wait_until("a second word", || log(&container).matches(&refused).count() == 2);
    // Told once each time, not with each attempt.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(log(&container).matches(&refused).count(), 2, "{}", log(&container));
    answer(address, 1);
    container.stop(Duration::ZERO).unwrap();
}

#[test]
fn a_way_that_cannot_be_is_an_error() {
    let home: Home = home();
    let mut spec = with_ways("true", &["broker:3000".to_owned()]);
    if let Network::Isolated { publish, .. } = &mut spec.network {
        publish.push(Publish { host: ([127, 0, 0, 1], 0).into(), container: 3000 });
    }
    match home.containers.start(&spec).map(drop) {
        Err(Error::Start(Failure::Way { way, hint: Some(hint), .. })) => {
            assert_eq!((way.as_str(), hint.contains("PORT=3001")), ("broker:3000", true));
        }
        other => panic!("{other:?}"),
    }
    let many: Vec<_> = (1..100).map(|port| format!("broker:{port}")).collect();
    match home.containers.start(&with_ways("true", &many)).map(drop) {
        Err(Error::Start(Failure::Way { why, .. })) => assert!(why.contains("up to 35"), "{why}"),
        other => panic!("{other:?}"),
    }
    let most: Vec<_> = (1..=35).map(|port| format!("localhost:{port}")).collect();
    assert_eq!(home.containers.run_to_end(&with_ways("true", &most)).unwrap().exit.code, 0);
}
