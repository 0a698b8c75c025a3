//! The base for Python 3.11 from Debian's real archive, over the mirror that the host's apt uses.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::home::session;
use ekiben::base::debian::{
    Request, Resolution, Source, Suite, User, Wanted, base_layer, base_packages, fetch, packages_layer, resolve,
};
use ekiben::base::loader::Libraries;
use ekiben::base::loader::Object;
use ekiben::image::oci::platform::Platform;
use ekiben::image::session::Session;
use ekiben::io::archive::{ArchivePath, Kind, Limits, Reader, Writer, unpack};
use ekiben::io::digest::{Digest, HashingWriter};

fn locked(session: &Session, source: &Source, platform: Platform, system: &[String]) -> Resolution {
    let base = base_packages(Some(Suite::Bookworm.python()));
    let request = Request { suite: Suite::Bookworm, platform, base: &base, system, installed: "" };
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
            Ok::<_, ekiben::io::archive::Error>(())
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
    // The loader's index says what there is, and the loader itself goes by it. Who asks ldconfig needs this file.
    fs_err::write(root.join("dev/null"), "").unwrap();
    let found = python("import ctypes.util as u; print(*map(u.find_library, ['sqlite3', 'c', 'nothing']))");
    assert_eq!(found, "libsqlite3.so.0 libc.so.6 None\n");
    let mut loads = Command::new("chroot");
    loads.arg(root).args(["/usr/bin/python3", "-c", "import _sqlite3"]).env("LD_DEBUG", "libs");
    let loads = loads.output().unwrap();
    let loads = String::from_utf8_lossy(&loads.stderr);
    assert!(loads.contains("search cache=/etc/ld.so.cache"), "{loads}");
    assert!(!loads.contains("(system search path)"), "{loads}");
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
    packages_layer(&session, &lock.system, Platform::Amd64, &Libraries::default(), "", &mut writer).unwrap();
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
    for suite in Suite::ALL.into_iter().filter(|suite| *suite != Suite::DEFAULT) {
        let base = base_packages(Some(suite.python()));
        let request = Request { suite, platform, base: &base, system: &[], installed: "" };
        let lock = resolve(&session, &source, &request).unwrap();
        fetch(&session, &source, &lock.base).unwrap();
        let layer = assembled(&session, &lock, platform);
        let (paths, bytes) = listing(&layer);
        eprintln!("{suite}: {} packages, {bytes} bytes unpacked", lock.base.len());
        assert!(!paths.contains("usr/bin/perl"));
        runs(&home.path().join(suite.name()), &layer, &suite.python().to_string());
    }
}

/// The index in `root` up to what says who wrote it, and as ldconfig writes it there.
fn indexes(root: &Path, platform: Platform) -> [Vec<u8>; 2] {
    let read = |name: &str| {
        let mut bytes = fs_err::read(root.join(name)).unwrap();
        let end = u32::from_le_bytes(bytes[32..36].try_into().unwrap());
        bytes.truncate(end as usize);
        bytes
    };
    let own = read("etc/ld.so.cache");
    let ldconfig = Command::new("/sbin/ldconfig").arg("-r").arg(root).args(["-X", "-i", "-C", "/theirs"]).output();
    let ldconfig = ldconfig.unwrap();
    assert!(ldconfig.status.success(), "{}", String::from_utf8_lossy(&ldconfig.stderr));
    let mut theirs = read("theirs");
    if platform == Platform::Arm64 {
        let count = u32::from_le_bytes(theirs[20..24].try_into().unwrap()) as usize;
        theirs[48..].chunks_exact_mut(24).take(count).for_each(|row| row[1] = 0x0a);
    }
    fs_err::remove_file(root.join("theirs")).unwrap();
    [own, theirs]
}

/// Lets this machine's ldconfig take all libraries below `folder` for its own: they differ in one number.
fn disguise(folder: &Path) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let (path, kind) = (entry.as_ref().unwrap().path(), entry.unwrap().file_type().unwrap());
        if kind.is_dir() {
            disguise(&path);
        } else if kind.is_file() {
            let mut bytes = fs_err::read(&path).unwrap();
            if bytes.starts_with(b"\x7fELF") && bytes[18] == 183 {
                bytes[18] = 62;
                fs_err::write(&path, bytes).unwrap();
            }
        }
    }
}

/// Of each suite and processor, the index of a base and the one of packages upon it have the bytes of ldconfig's.
#[test]
fn the_index_of_libraries_is_the_one_that_ldconfig_writes() {
    if !nix::unistd::geteuid().is_root() || Platform::host().ok() != Some(Platform::Amd64) {
        eprintln!("left out: `ldconfig -r` needs root, and this compares with that of x86-64");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let source = Source::find(Wanted::default()).unwrap();
    let session = session(&home.path().join("store"));
    let user = User { name: "ekiben".to_owned(), uid: 1034, gid: 1034, home: ArchivePath::new("home/ekiben").unwrap() };
    let packages = ["libsndfile1", "libzbar0", "libmagic1", "liblapack3"];
    let all = Suite::ALL.into_iter().flat_map(|suite| Platform::ALL.map(|platform| (suite, platform)));
    // The archive's index names packages of bullseye for arm64 that it does not have any more.
    for (suite, platform) in all.filter(|which| *which != (Suite::Bullseye, Platform::Arm64)) {
        let base = base_packages(Some(suite.python()));
        let renamed = suite == Suite::Trixie;
        let system = packages.map(|name| match name {
            "libzbar0" | "libmagic1" if renamed => format!("{name}t64"),
            _ => name.to_owned(),
        });
        let request = Request { suite, platform, base: &base, system: &system, installed: "" };
        let lock = resolve(&session, &source, &request).unwrap();
        fetch(&session, &source, &lock.base).unwrap();
        fetch(&session, &source, &lock.system).unwrap();
        let mut layer = Writer::new(Vec::new());
        let libraries = base_layer(&session, &lock.base, platform, Some(&user), &mut layer).unwrap();
        let root = home.path().join(format!("{suite}-{}", platform.architecture()));
        fs_err::create_dir(&root).unwrap();
        unpack(&layer.finish().unwrap()[..], &root, Limits::default()).unwrap();
        disguise(&root);
        let [own, theirs] = indexes(&root, platform);
        assert!(own.len() > 2_000 && own == theirs, "the index of {suite} for {platform} is another one");

        let mut layer = Writer::new(Vec::new());
        packages_layer(&session, &lock.system, platform, &libraries, "", &mut layer).unwrap();
        let archive = root.with_extension("tar");
        fs_err::write(&archive, layer.finish().unwrap()).unwrap();
        assert!(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&root).status().unwrap().success());
        disguise(&root);
        let [both, theirs] = indexes(&root, platform);
        assert!(both.len() > own.len() && both == theirs, "with packages it is another one");
        let printed = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(root.join("etc/ld.so.cache")).output();
        let printed = String::from_utf8(printed.unwrap().stdout).unwrap();
        let (machine, folder) = match platform {
            Platform::Amd64 => ("x86-64", "x86_64-linux-gnu"),
            Platform::Arm64 => ("AArch64", "aarch64-linux-gnu"),
        };
        for name in ["libsndfile.so.1", "libzbar.so.0", "libmagic.so.1", "liblapack.so.3", "libsqlite3.so.0"] {
            let line = format!("\t{name} (libc6,{machine}) => /lib/{folder}/{name}\n");
            assert!(printed.contains(&line), "{line} is not in\n{printed}");
        }

        // Libraries for better processors, of which no package here has any.
        if platform == Platform::Amd64 {
            let mut better = libraries.clone();
            let folder = "usr/lib/x86_64-linux-gnu";
            for (level, name) in
                [("x86-64-v3", "libz.so.1.9"), ("x86-64-v2", "libz.so.1.9"), ("x86-64-v2", "libm.so.6")]
            {
                let path = format!("{folder}/glibc-hwcaps/{level}/{name}");
                fs_err::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
                let library = if name.starts_with("libm") { "libm.so.6" } else { "libz.so.1" };
                fs_err::copy(root.join(folder).join(library), root.join(&path)).unwrap();
                let object = Object { soname: Some(library.to_owned()) };
                better.add(ArchivePath::new(&path).unwrap(), object);
            }
            fs_err::write(root.join("etc/ld.so.cache"), better.cache(platform).unwrap()).unwrap();
            // What the packages brought is not in this index.
            for name in listing(&fs_err::read(&archive).unwrap())
                .0
                .iter()
                .filter(|name| name.starts_with("usr/lib") && name.contains(".so"))
            {
                let _ = fs_err::remove_file(root.join(name));
            }
            let [own, theirs] = indexes(&root, platform);
            assert!(own == theirs, "with better libraries it is another one");
        }

        // Packages without libraries leave the base's as it is.
        let request = Request { suite, platform, base: &base, system: &["media-types".to_owned()], installed: "" };
        let lock = resolve(&session, &source, &request).unwrap();
        fetch(&session, &source, &lock.system).unwrap();
        let mut layer = Writer::new(Vec::new());
        packages_layer(&session, &lock.system, platform, &libraries, "", &mut layer).unwrap();
        assert!(!listing(&layer.finish().unwrap()).0.contains("etc/ld.so.cache"));
    }
}
