//! The base for Python 3.11 from Debian's real archive, over the mirror that the host's apt uses.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ekiben::archive::{ArchivePath, Kind, Limits, Reader, Writer, unpack};
use ekiben::debian::{
    Request, Resolution, Source, User, Wanted, base_layer, base_packages, fetch, packages_layer, resolve,
    suite_for_python,
};
use ekiben::digest::{Digest, HashingWriter};
use ekiben::fetch::Client;
use ekiben::platform::Platform;
use ekiben::progress::Progress;
use ekiben::session::Session;
use ekiben::store::Store;

fn session(home: &Path) -> Session {
    let store = Store::open(home).unwrap();
    Session { store, progress: Progress::silent(), client: Client::new(false) }
}

fn locked(session: &Session, source: &Source, platform: Platform, system: &[String]) -> Resolution {
    let base = base_packages(Some("3.11"));
    let request = Request { suite: "bookworm", platform, base: &base, system, installed: "" };
    resolve(session, source, &request).unwrap()
}

fn assembled(session: &Session, lock: &Resolution, platform: Platform) -> Vec<u8> {
    let home = ArchivePath::new("home/ekiben").unwrap();
    let user = User { name: "ekiben".to_owned(), uid: 1034, gid: 1034, home };
    let mut writer = Writer::new(Vec::new());
    base_layer(session, &lock.base, platform, Some(&user), &mut writer).unwrap();
    writer.finish().unwrap()
}

/// Paths and the bytes of all files.
fn listing(layer: &[u8]) -> (HashSet<String>, u64) {
    let (mut paths, mut bytes) = (HashSet::new(), 0);
    Reader::new(layer, Limits::default())
        .for_each(|member| {
            if let Kind::File { size } = member.entry.kind {
                bytes += size;
            }
            paths.insert(member.entry.path.to_string());
            Ok::<_, ekiben::archive::Error>(())
        })
        .unwrap();
    (paths, bytes)
}

#[test]
fn python_on_bookworm_is_small_and_always_the_same_and_works() {
    let home = tempfile::tempdir().unwrap();
    let source = Source::find(Wanted::default()).unwrap();
    for platform in Platform::ALL {
        let first = session(&home.path().join("first"));
        let start = Instant::now();
        let lock = locked(&first, &source, platform, &[]);
        let resolved = start.elapsed();
        fetch(&first, &source, &lock.base).unwrap();
        let fetched = start.elapsed();
        let layer = assembled(&first, &lock, platform);
        let cold = start.elapsed();
        let start = Instant::now();
        assert_eq!(locked(&first, &source, platform, &[]), lock);
        let warm = start.elapsed();

        let (paths, bytes) = listing(&layer);
        let packages = lock.base.len();
        let download: u64 = lock.base.iter().map(|package| package.size).sum();
        // Shown with --nocapture: the figures in the documentation come from here.
        eprintln!("{platform}: {packages} packages, {download} bytes to download, {bytes} bytes unpacked");
        eprintln!("cold: resolved {resolved:?}, fetched {fetched:?}, assembled {cold:?}; resolved again {warm:?}");
        assert!(bytes <= 60_000_000, "{bytes} bytes");
        let interpreter = match platform {
            Platform::Amd64 => "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            Platform::Arm64 => "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
        };
        for path in [
            interpreter,
            "bin",
            "usr/bin/python3",
            "usr/bin/dash",
            "etc/ssl/certs/ca-certificates.crt",
            "var/lib/dpkg/status.d/libc6",
        ] {
            assert!(paths.contains(path), "{path} is missing");
        }
        assert!(!paths.contains("usr/bin/perl"));

        // Another store, for which all comes over the network again.
        let second = session(&home.path().join("second"));
        let again = locked(&second, &source, platform, &[]);
        assert_eq!(again, lock);
        fetch(&second, &source, &again.base).unwrap();
        assert_eq!(Digest::of(assembled(&second, &again, platform)), Digest::of(&layer));

        if Platform::host().is_ok_and(|host| host == platform) {
            runs(&home.path().join("root"), &layer, "3.11");
        }
    }
}

/// Starts the base's Python within it; only root can.
fn runs(root: &Path, layer: &[u8], version: &str) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    fs_err::create_dir(root).unwrap();
    unpack(layer, root, Limits::default()).unwrap();
    let python = |code: &str| {
        let output = Command::new("chroot").arg(root).args(["/usr/bin/python3", "-B", "-c", code]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    python(
        "import ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib, uuid, readline, curses, dbm.ndbm, asyncio, multiprocessing",
    );
    python("import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')");
    let found = python("import sys; print('%d.%d' % sys.version_info[:2], sys.getfilesystemencoding())");
    assert_eq!(found, format!("{version} utf-8\n"));
    let certificates = python("import ssl; print(len(ssl.create_default_context().get_ca_certs()))");
    assert!(certificates.trim().parse::<u32>().is_ok_and(|count| count > 100), "{certificates} certificates");
    assert_eq!(
        python("import pwd, os; print(pwd.getpwuid(1034).pw_dir, os.popen('echo hi').read())"),
        "/home/ekiben hi\n\n"
    );
    assert_eq!(python("import locale; print(locale.setlocale(locale.LC_ALL, 'C.UTF-8'))"), "C.UTF-8\n");
}

#[test]
fn system_packages_are_a_layer_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let source = Source::find(Wanted::default()).unwrap();
    let session = session(home.path());
    let lock = locked(&session, &source, Platform::Amd64, &["libgomp1".to_owned(), "liblapack3".to_owned()]);
    assert_eq!(locked(&session, &source, Platform::Amd64, &[]).base, lock.base);
    let names: Vec<_> = lock.system.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["libblas3", "libgfortran5", "libgomp1", "liblapack3", "libquadmath0"]);
    fetch(&session, &source, &lock.system).unwrap();
    let mut writer = Writer::new(HashingWriter::new(Vec::new()));
    packages_layer(&session, &lock.system, &mut writer).unwrap();
    let (layer, ..) = writer.finish().unwrap().finish();
    let (paths, _) = listing(&layer);
    for path in [
        "usr/lib/x86_64-linux-gnu/libgomp.so.1",
        "usr/lib/x86_64-linux-gnu/libblas.so.3",
        "var/lib/dpkg/status.d/libgomp1",
    ] {
        assert!(paths.contains(path), "{path} is missing from {paths:?}");
    }
    assert!(!paths.contains("etc/passwd") && !paths.contains("bin"));
}

#[test]
fn the_other_suites_work_too() {
    let home = tempfile::tempdir().unwrap();
    let source = Source::find(Wanted::default()).unwrap();
    let session = session(&home.path().join("store"));
    let Ok(platform) = Platform::host() else { return };
    for python in ["3.9", "3.13"] {
        let suite = suite_for_python(python).unwrap();
        let base = base_packages(Some(python));
        let request = Request { suite, platform, base: &base, system: &[], installed: "" };
        let lock = resolve(&session, &source, &request).unwrap();
        fetch(&session, &source, &lock.base).unwrap();
        let layer = assembled(&session, &lock, platform);
        let (paths, bytes) = listing(&layer);
        eprintln!("{suite}: {} packages, {bytes} bytes unpacked", lock.base.len());
        assert!(!paths.contains("usr/bin/perl"));
        runs(&home.path().join(suite), &layer, python);
    }
}
