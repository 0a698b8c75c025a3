//! Containers as a user meets them: real ones, as root and as an ordinary user.
//!
//! Their root is a statically linked busybox, from Debian's package where the machine has none.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ekiben::container::{
    Containers, Engine, Error, Failure, Launcher, Life, Mount, Name, Network, Output, Publish, Spec, Status, engine,
};
use ekiben::progress::Progress;

/// Set in the second run of these tests, as an ordinary user: the folder with what they need.
const AGAIN: &str = "EKIBEN_TEST_FOLDER";

/// A folder with the program and a root, that everybody can read.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        if let Some(folder) = std::env::var_os(AGAIN) {
            return folder.into();
        }
        let folder = std::env::temp_dir().join(format!("ekiben-container-test-{}", std::process::id()));
        let bin = folder.join("root/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(folder.join("root/etc")).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_ekiben"), folder.join("ekiben")).unwrap();
        std::fs::copy(busybox(), bin.join("busybox")).unwrap();
        for name in ["sh", "cat", "ls", "id", "echo", "sleep", "touch", "nc", "ps", "head", "dd", "hostname", "wc"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        std::fs::write(folder.join("root/etc/passwd"), "model:x:1034:1034::/:/bin/sh\n").unwrap();
        folder
    })
}

fn busybox() -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
    let path = kept.join("bin/busybox");
    if !path.exists() {
        std::fs::create_dir_all(&kept).unwrap();
        let script = "apt-get download busybox-static && dpkg-deb -x busybox-static_*.deb .";
        let done = Command::new("sh").args(["-ec", script]).current_dir(&kept).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    path
}

struct Home {
    containers: Containers,
    folder: tempfile::TempDir,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let containers = Containers::new(
        &folder.path().join("containers"),
        Launcher::program(shared().join("ekiben")),
        Progress::silent(),
    );
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
