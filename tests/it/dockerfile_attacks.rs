//! Builds of Dockerfiles that are disturbed: secrets that somebody looks for, starters that are killed, disks that are full.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rand::Rng as _;

use crate::home::images::docker_archive;
use crate::home::{Home, names, ran, tool, wait_until, wait_until_none};

/// A home with a Dockerfile upon a busybox, and the arguments that build it.
fn bench(dockerfile: &str) -> (Home, Vec<String>) {
    let home = Home::empty();
    docker_archive(&home.folder().join("base.tar"));
    home.write("c/Dockerfile", dockerfile);
    let base = format!("base=docker-archive:{}", home.path("base.tar"));
    let args = ["build", "c", "--allow-run", "--build-context", &base];
    (home, args.map(str::to_owned).to_vec())
}

/// The command lines of all processes, and what runs in `folder`.
fn lines() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    processes.map(|entry| String::from_utf8_lossy(&line(entry)).into_owned()).collect()
}

/// Whether a file below `folder` holds `word`, compressed or not.
fn holders(folder: &Path, word: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in walk(folder) {
        let bytes = fs::read(&entry).unwrap();
        let mut plain = Vec::new();
        let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain);
        let has = |bytes: &[u8]| bytes.windows(word.len()).any(|part| part == word.as_bytes());
        if has(&bytes) || has(&plain) {
            found.insert(entry.display().to_string());
        }
    }
    found
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => all.extend(walk(&entry.path())),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    all
}

#[test]
fn a_secret_is_in_nothing_that_is_kept_or_said() {
    let (home, mut args) = bench(
        "FROM base\n\
         RUN --mount=type=secret,id=file,target=/key [ \"$(/bin/busybox wc -c </key)\" = 24 ] && /bin/busybox sleep 2\n\
         RUN --mount=type=secret,id=word,env=WORD [ \"${#WORD}\" = 24 ] && /bin/busybox touch /seen\n",
    );
    let (in_file, in_variable) = ("file-of-a-person-4711-xy", "word-of-a-person-4711-xy");
    home.write("key", in_file);
    args.extend(["--secret", "id=file,src=key", "--secret", "id=word,env=A_WORD", "-v"].map(str::to_owned));
    let mut build = home.command(&args);
    build.env("A_WORD", in_variable).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = build.spawn().unwrap();
    wait_until("the command runs", || lines().iter().any(|line| line.contains("sleep\x002")));
    let told = |word: &str| lines().iter().any(|line| line.contains(word));
    assert!(!told(in_file) && !told(in_variable));
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{said}");
    fs::remove_file(home.path("key")).unwrap();
    for word in [in_file, in_variable] {
        assert!(!said.contains(word), "{said}");
        assert_eq!(holders(&home.store(), word), BTreeSet::new());
        assert_eq!(holders(&home.folder().join("c"), word), BTreeSet::new());
    }
    // Nor is what was made known by it: with another one it is the same.
    home.write("key", "file-of-a-person-4712-xy");
    let again = ran(home.command(&args).env("A_WORD", "another")).ok();
    assert!(!again.err.contains("Executed"), "{}", again.err);
}

#[test]
fn whoever_is_killed_leaves_nothing_and_what_is_built_then_is_the_same() {
    const FILE: &str = "FROM base AS one\nRUN /bin/busybox mkdir /a && /bin/busybox dd if=/dev/zero of=/a/b bs=1k count=3000 && sleep 0.1\n\
                        FROM base\nCOPY --from=one /a /a\nRUN echo one >/one\nRUN echo two >/two\n";
    let times: u32 = std::env::var("EKIBEN_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let (undisturbed, args) = bench(&FILE.replace("&& sleep", "&& /bin/busybox sleep"));
    let started = std::time::Instant::now();
    let digest = undisturbed.run(&args).ok().out;
    let took = started.elapsed();
    let (home, args) = bench(&FILE.replace("&& sleep", "&& /bin/busybox sleep"));
    let store = home.store().display().to_string();
    let processes = || lines().into_iter().filter(|line| line.contains(&store)).collect::<Vec<_>>();
    let mounts = || {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines().filter(|line| line.contains(&store)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut killed, mut made) = (0, 0);
    for number in 0..times {
        // A build that was finished is begun anew.
        if number % 4 == 3 && home.store().join("memory").exists() {
            home.forget(|_| true);
        }
        let mut child = home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moment = rand::thread_rng().gen_range(0..=u64::try_from(took.as_millis()).unwrap());
        std::thread::sleep(Duration::from_millis(moment));
        match child.try_wait().unwrap() {
            None => killed += 1,
            Some(status) => {
                assert!(status.success(), "number {number}, after {moment} ms");
                made += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until_none("this runs still", &processes);
        assert_eq!(mounts(), Vec::<String>::new());
    }
    assert_eq!(home.run(&args).ok().out, digest, "{killed} killed, {made} not");
    // The last ones that were killed may still have been about to end.
    wait_until_none("the next command leaves this", || {
        home.run(["images"]).ok();
        let found = ran(tool("find").arg(home.store().join("scratch")).args(["-mindepth", "1", "-ls"]));
        found.ok().out.lines().map(str::to_owned).collect()
    });
    home.forget(|_| true);
    assert_eq!(home.run(&args).ok().out, digest);
    assert!(killed > 0);
}

#[test]
fn a_full_disk_is_said_and_nothing_half_stays() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (home, args) = bench("FROM base\nRUN /bin/busybox dd if=/dev/urandom of=/much bs=1M count=40 && echo done\n");
    fs::create_dir(home.store()).unwrap();
    ran(tool("mount").args(["-t", "tmpfs", "-o", "size=30m,mode=0755", "none"]).arg(home.store())).ok();
    let refused = home.run(&args).ends(1);
    let unmount = || ran(tool("umount").arg(home.store()));
    let listed = home.run(["images", "--output", "json"]).ok().json();
    let scratch = names(&home.store().join("scratch"));
    unmount().ok();
    refused.says("of the disk free").says("c/Dockerfile:2");
    assert_eq!(listed["images"].as_array().unwrap().len(), 0, "{listed}");
    assert_eq!(scratch, Vec::<String>::new());
}
