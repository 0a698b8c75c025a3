//! Large files from afar: in pieces where one connection is slow, gone on with by a later run, and never of two versions.

use std::process::Stdio;

use ekiben::io::digest::Digest;
use serde_json::{Value, json};

use crate::home::servers::Server;
use crate::home::{Home, free_port, ran, tool, wait_until};

/// Bytes of the file.
pub const SIZE: usize = 48 << 20;

/// A server of one file, which gives so many bytes a second on a connection, and logs which bytes it was asked for. While there is
/// a file `other` beside it, it gives that one.
const SLOW: &str = r#"
import hashlib, http.server, os, sys, time
port, path, rate, log = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), open(sys.argv[4], "a", buffering=1)
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_HEAD(self):
        self.do_GET()
    def do_GET(self):
        other = os.path.join(os.path.dirname(path), "other")
        name = other if os.path.exists(other) else path
        size = os.path.getsize(name)
        begin, end, asked = 0, size, self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            begin, end = int(first), int(last) + 1 if last else size
        log.write(f"{self.command} {begin} {end}\n")
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{os.path.basename(name)}"')
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        with open(name, "rb") as file:
            file.seek(begin)
            while begin < end:
                piece = file.read(min(rate // 20, end - begin))
                self.wfile.write(piece)
                begin += len(piece)
                time.sleep(0.05)
    def log_message(self, *_):
        pass
    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
http.server.ThreadingHTTPServer(("127.0.0.1", port), Slow).serve_forever()
"#;

/// A home with a file of [`SIZE`] bytes, its server, and the file's digest.
pub fn slow(rate: usize) -> (Home, Server, Digest) {
    let home = Home::empty();
    let bytes: Vec<u8> =
        (0..SIZE / 8).flat_map(|number| (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let digest = Digest::of(&bytes);
    home.write("there/model.bin", bytes);
    let port = free_port();
    let mut command = tool("python3");
    command.args([
        "-c",
        SLOW,
        &port.to_string(),
        &home.path("there/model.bin"),
        &rate.to_string(),
        &home.path("asked"),
    ]);
    let server = Server::start(command, port);
    let manifest = json!({ "name": "far", "version": "1", "base": "scratch", "service": { "command": ["/bin/true"] },
        "model": { "files": [{ "from": server.url("model.bin") }] } });
    home.write("far/ekiben.json", manifest.to_string());
    (home, server, digest)
}

/// The bytes that the server was asked for with GET.
pub fn asked(home: &Home) -> Vec<(usize, usize)> {
    let log = std::fs::read_to_string(home.path("asked")).unwrap_or_default();
    let gets = log.lines().filter_map(|line| line.strip_prefix("GET "));
    gets.map(|line| line.split_once(' ').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap()).collect()
}

fn locked(home: &Home) -> String {
    let lock: Value = serde_json::from_slice(&std::fs::read(home.path("far/ekiben.lock")).unwrap()).unwrap();
    lock["models"][0]["files"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_comes_slowly_comes_in_pieces_at_once() {
    let (home, _server, digest) = slow(4 << 20);
    home.run(["lock", "far"]).ok();
    assert_eq!(locked(&home), digest.to_string());
    let asked = asked(&home);
    assert_eq!(asked[0], (0, SIZE));
    let pieces: Vec<_> = asked[1..].iter().filter(|(begin, end)| end - begin <= 4 << 20 && *begin > 0).collect();
    assert!(pieces.len() > 5, "{asked:?}");
}

#[test]
fn a_transfer_goes_on_where_a_killed_run_left_it() {
    let (home, _server, digest) = slow(8 << 20);
    let mut process = home.command(["lock", "far"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = || {
        let is_there = std::fs::exists(home.store().join("partial")).unwrap();
        let names = if is_there { home.stored("partial") } else { Vec::new() };
        let sizes = names.iter().filter_map(|name| std::fs::metadata(home.store().join("partial").join(name)).ok());
        sizes.map(|metadata| metadata.len()).max().unwrap_or_default()
    };
    wait_until("a part of it", || partial() > 12 << 20);
    process.kill().unwrap();
    process.wait().unwrap();
    let kept = usize::try_from(partial()).unwrap();
    let before = asked(&home).len();
    ran(&mut home.command(["lock", "far"])).ok();
    assert_eq!(locked(&home), digest.to_string());
    assert_eq!(home.stored("partial"), [""; 0]);
    let asked = asked(&home);
    assert!(asked[before..].iter().all(|(begin, _)| *begin >= kept), "{kept}: {asked:?}");
    // What was left is no more than a way to be faster: pruning takes it.
    let (home, _server, _) = slow(8 << 20);
    let mut process = home.command(["lock", "far"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let store = home.store().join("partial");
    wait_until("a part of it", || std::fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some()));
    process.kill().unwrap();
    process.wait().unwrap();
    home.run(["prune", "--all"]).ok();
    assert_eq!(home.stored("partial"), [""; 0]);
}

#[test]
fn no_file_is_made_of_two_versions() {
    let (home, _server, _) = slow(4 << 20);
    home.write("there/new", vec![b'o'; SIZE]);
    let mut command = home.command(["lock", "far"]);
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it begins", || !asked(&home).is_empty());
    std::fs::rename(home.path("there/new"), home.path("there/other")).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("it became another one while it was fetched"), "{said}");
    assert!(!std::fs::exists(home.path("far/ekiben.lock")).unwrap());
}
