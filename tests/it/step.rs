//! Steps: commands over layers, and what they leave. As root, and as an ordinary user who was given ids.
//!
//! Their root is a statically linked busybox; what package managers do is tried over a Debian base.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ekiben::image::layer::{self, Layer};
use ekiben::image::session::Session;
use ekiben::io::archive::{ArchivePath, Entry, Mode};
use ekiben::run::container::Launcher;
use ekiben::run::step::{Command, Error, File, Ids, Mount, Network, Ran, Sharing, Trees, Workshop};

use crate::home::images::busybox;
use crate::home::{self, program, wait_until};

/// Set in the second run of these tests, as an ordinary user: the folder with what they need.
const AGAIN: &str = "EKIBEN_TEST_STEPS";

/// A folder that everybody can read, with busybox.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        if let Some(folder) = std::env::var_os(AGAIN) {
            return folder.into();
        }
        let folder = std::env::temp_dir().join(format!("ekiben-step-test-{}", nix::unistd::geteuid()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        home::install(busybox(), folder.join("busybox"));
        home::install(program(), folder.join("ekiben"));
        // Busybox gives up what it gains.
        let source = folder.join("whoami.c");
        let text = "#include <stdio.h>\n#include <unistd.h>\nint main() { printf(\"%d\\n\", geteuid()); }\n";
        std::fs::write(&source, text).unwrap();
        let compiled = folder.join(format!("whoami.{}", std::process::id()));
        let output = Process::new("cc").args(["-static", "-o"]).arg(&compiled).arg(&source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(compiled, folder.join("whoami")).unwrap();
        folder
    })
}

/// Copies a program that may be running.
struct Home {
    session: Session,
    workshop: Workshop,
    folder: tempfile::TempDir,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let (session, workshop) = workshop(&folder.path().join("store"));
    Home { session, workshop, folder }
}

fn workshop(store: &Path) -> (Session, Workshop) {
    // What killed commands of an ordinary user left is removed with its help. The program itself does so in `main`.
    ekiben::io::ids::register(&shared().join("ekiben"));
    let session = crate::home::session(store);
    let workshop = Workshop::open(&session, &Launcher::program(shared().join("ekiben"))).unwrap();
    (session, workshop)
}

impl Drop for Home {
    fn drop(&mut self) {
        // An ordinary user cannot remove trees of other ids without help.
        ekiben::io::archive::remove(self.folder.path()).unwrap();
    }
}

fn path(text: &str) -> ArchivePath {
    ArchivePath::new(text).unwrap()
}

impl Home {
    /// A layer of busybox and what is usual in a root.
    fn base(&self) -> Layer {
        Layer::write::<layer::Error>(&self.session.store, self.session.making, "busybox", |writer| {
            for folder in ["bin", "etc", "home", "proc", "root", "srv", "usr", "var"] {
                writer.entry(&Entry::directory(path(folder)))?;
            }
            writer.entry(&Entry { mode: 0o1777, ..Entry::directory(path("tmp")) })?;
            let bytes = std::fs::read(shared().join("busybox"))?;
            writer.file(&Entry::file(path("bin/busybox"), bytes.len() as u64, Mode::Executable), bytes.as_slice())?;
            let bytes = std::fs::read(shared().join("whoami"))?;
            writer.file(&Entry::file(path("bin/whoami"), bytes.len() as u64, Mode::Executable), bytes.as_slice())?;
            writer.entry(&Entry::symlink(path("bin/sh"), "busybox"))?;
            let text = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home:/bin/sh\n";
            writer.file(&Entry::file(path("etc/passwd"), text.len() as u64, Mode::Plain), text.as_bytes())?;
            for name in ["srv/one", "srv/two"] {
                writer.file(
                    &Entry { mode: 0o600, ..Entry::file(path(name), 3, Mode::Plain).owned_by(33, 65_534) },
                    &b"abc"[..],
                )?;
            }
            writer.entry(&Entry::directory(path("srv/folder")).owned_by(7, 8))?;
            writer.file(&Entry::file(path("srv/folder/a"), 1, Mode::Plain), &b"a"[..])?;
            writer.file(&Entry::file(path("srv/folder/b"), 1, Mode::Plain), &b"b"[..])?;
            Ok(())
        })
        .unwrap()
    }

    fn trees(&self) -> Trees {
        self.workshop.trees(&[&self.base()]).unwrap()
    }

    /// Runs a command, and gives what it said.
    fn run(&self, trees: &Trees, command: &Command) -> (Ran, String) {
        let mut said = String::new();
        let ran = self.workshop.run(trees, command, &mut |line| said.push_str(&format!("{line}\n")));
        (ran.unwrap_or_else(|error| panic!("{error}\n{error:?}\n{said}")), said)
    }

    /// The output of a script that succeeds, and its layer.
    fn shell(&self, trees: &Trees, script: &str) -> (Option<Layer>, String) {
        let (ran, said) = self.run(trees, &shell(script));
        assert_eq!(ran.exit, 0, "{said}");
        (ran.layer, said)
    }

    /// What is in a layer: a line for each member.
    fn members(&self, layer: &Layer) -> Vec<String> {
        let mut found = Vec::new();
        let stored = layer.open(&self.session.store).unwrap();
        let mut archive = tar::Archive::new(ekiben::io::compress::decoder(stored).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let attributes: Vec<String> = entry
                .pax_extensions()
                .unwrap()
                .into_iter()
                .flatten()
                .map(|record| record.unwrap().key().unwrap().to_owned())
                .collect();
            let header = entry.header();
            let link = header.link_name().unwrap().map(|link| format!(" -> {}", link.display())).unwrap_or_default();
            found.push(format!(
                "{} {:o} {}:{}{link}{}",
                entry.path().unwrap().display(),
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                attributes.iter().map(|name| format!(" [{name}]")).collect::<String>(),
            ));
        }
        found
    }

    fn text(&self, layer: &Layer, name: &str) -> Vec<u8> {
        let stored = layer.open(&self.session.store).unwrap();
        let mut archive = tar::Archive::new(ekiben::io::compress::decoder(stored).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap() == Path::new(name) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                return bytes;
            }
        }
        panic!("no {name} in {:?}", self.members(layer))
    }
}

fn shell(script: &str) -> Command {
    let script = format!("b() {{ /bin/busybox \"$@\"; }}\n{script}");
    let args = ["/bin/busybox", "sh", "-ec", &script].map(str::to_owned).into();
    let mut command = Command::new(args, "a step");
    command.env.push("HOME=/root".to_owned());
    command
}

fn has_range(home: &Home) -> bool {
    matches!(home.workshop.ids(), Ids::Range { .. })
}

#[test]
fn a_layer_is_what_the_command_changed_alone() {
    let home = home();
    let trees = home.trees();
    let (layer, said) = home.shell(
        &trees,
        "b id -u; b stat -c '%u:%g %a' /srv/one; b cat /srv/one\n\
         b touch /root/new; b mkdir /srv/made; b chown 65535:1 /root/new; b chmod 4755 /root/new\n\
         b ln /root/new /root/again; b ln -s /srv /root/link; b rm /srv/two; b rm -r /srv/folder; b mkdir /srv/folder\n\
         b touch /srv/folder/c; b mknod /root/pipe p",
    );
    assert_eq!(said, "0\n33:65534 600\nabc\n");
    let layer = layer.unwrap();
    let expected = [
        "root/ 755 0:0",
        "root/again 4755 65535:1",
        "root/link 777 0:0 -> /srv",
        "root/new 4755 65535:1 -> root/again",
        "srv/ 755 0:0",
        "srv/folder/ 755 0:0",
        "srv/folder/.wh..wh..opq 644 0:0",
        "srv/folder/c 644 0:0",
        "srv/made/ 755 0:0",
        "srv/.wh.two 644 0:0",
    ];
    assert_eq!(home.members(&layer), expected);
    // The next step sees what the layer says, from the upper folder and from the archive alike.
    let look = "b ls -lnR /root /srv | b grep -v '^total'; b stat -c %Y /root/new";
    let after = home.workshop.trees(&[&home.base(), &layer]).unwrap();
    let (none, kept) = home.shell(&after, look);
    assert!(none.is_none());
    std::fs::rename(home.session.store.root().join("trees"), home.session.store.root().join("gone")).unwrap();
    std::fs::create_dir(home.session.store.root().join("trees")).unwrap();
    let (_, unpacked) = home.shell(&home.workshop.trees(&[&home.base(), &layer]).unwrap(), look);
    assert_eq!(kept, unpacked);
    ekiben::io::archive::remove(&home.session.store.root().join("gone")).unwrap();
}

#[test]
fn what_changes_nothing_leaves_no_layer_and_no_stray_mount_points() {
    let home = home();
    let trees = home.trees();
    let mut command =
        shell("b ls /etc/hosts /etc/resolv.conf /etc/hostname /deep/a/b /deep/c >/dev/null; b cat /deep/a/b");
    let file = File { target: "/deep/a/b".into(), content: b"hello\n".to_vec(), mode: 0o400, owner: (5, 5) };
    command.files.push(file);
    command.mounts.push(Mount::Tmpfs { target: "/deep/c".into(), size: 1 << 20 });
    let (ran, said) = home.run(&trees, &command);
    assert_eq!((ran.exit, said.as_str()), (0, "hello\n"));
    assert!(ran.layer.is_none());
    // One that fails leaves none, either.
    let (ran, _) = home.run(&trees, &shell("b touch /new; exit 7"));
    assert!(ran.exit == 7 && ran.layer.is_none());
}

#[test]
fn attributes_of_files_are_kept() {
    let home = home();
    let trees = home.trees();
    let setfattr = "b cp /bin/busybox /root/tool; b chmod 755 /root/tool";
    let (layer, _) = home.shell(&trees, setfattr);
    assert_eq!(home.members(&layer.unwrap()), ["root/ 755 0:0", "root/tool 755 0:0"]);
}

#[test]
fn it_has_dockers_capabilities_and_reaches_nothing_of_the_host() {
    let home = home();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let trees = home.trees();
    let script = format!(
        "b grep Cap /proc/self/status; b grep Seccomp: /proc/self/status; b mknod /root/null c 1 3 && echo made\n\
         b mount -t tmpfs none /srv && echo mounted; b unshare -U b true && echo unshared\n\
         b nc -w 1 127.0.0.1 {port} </dev/null && echo reached\n\
         b ls /proc | b grep -c '^[0-9]'; echo x >/proc/sys/kernel/hostname && echo written; b cat /proc/1/environ && echo seen\n\
         b grep -c . /proc/mounts >/dev/null; b grep '{}' /proc/self/mountinfo; b ls /dev; b hostname; exit 0",
        "no-such-path"
    );
    let mut command = shell(&script);
    command.args[2] = "-c".to_owned();
    let (ran, said) = home.run(&trees, &command);
    assert_eq!(ran.exit, 0, "{said}");
    for line in ["CapPrm:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "CapInh:\t0000000000000000", "Seccomp:\t2"] {
        assert!(said.lines().any(|other| other == line), "no {line} in {said}");
    }
    for word in ["made", "mounted", "unshared", "reached", "written", "seen"] {
        assert!(!said.lines().any(|line| line == word), "{word} in {said}");
    }
    assert!(said.lines().any(|line| line == "ekiben"), "{said}");
}

#[test]
fn with_a_network_it_reaches_others_but_not_this_machine() {
    let home = home();
    let trees = home.trees();
    let own: Vec<_> =
        nix::ifaddrs::getifaddrs().unwrap().filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip())).collect();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut script = String::new();
    for address in
        own.iter().map(ToString::to_string).chain(["198.18.0.2".into(), "198.18.0.53".into(), "198.18.0.80".into()])
    {
        script.push_str(&format!("echo hello | b timeout 3 /bin/busybox nc -w 2 {address} {port}; "));
    }
    script.push_str("b cat /etc/resolv.conf; exit 0");
    let mut command = shell(&script);
    command.args[2] = "-c".to_owned();
    command.network = Network::Outside;
    let (_, said) = home.run(&trees, &command);
    assert!(said.contains("nameserver 198.18.0.53"), "{said}");
    assert!(listener.accept().is_err(), "this machine was reached");
}

#[test]
fn what_would_take_the_machine_down_is_stopped() {
    let home = home();
    let trees = home.trees();
    let mut command = shell("b dd if=/dev/zero of=/root/large bs=1M count=4000");
    command.limits.disk = Some(64 << 20);
    let error = home.workshop.run(&trees, &command, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("64 MiB"), "{error}");

    let mut command = shell("i=0; while [ $i -lt 300 ]; do b sleep 20 & i=$((i+1)); done; echo all");
    command.limits.pids = 50;
    let started = Instant::now();
    let (_, said) = home.run(&trees, &command);
    assert!(!said.contains("all"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(15), "processes outlived it");

    // Where the machine's memory ends, it is killed before anything else is; control groups are root's here.
    assert_eq!(home.shell(&trees, "b cat /proc/self/oom_score_adj").1, "1000\n");
    let mut command = shell("x=0123456789abcdef; while :; do x=$x$x; done");
    command.limits.memory = Some(32 << 20);
    if nix::unistd::geteuid().is_root() {
        let (ran, said) = home.run(&trees, &command);
        assert!(ran.out_of_memory && ran.exit != 0, "{} {said}", ran.exit);
    }
}

#[test]
fn secrets_and_caches_are_in_no_layer() {
    let home = home();
    let trees = home.trees();
    let secret =
        File { target: "/run/secrets/token".into(), content: b"TOPSECRET".to_vec(), mode: 0o400, owner: (1000, 1000) };
    let cache = |sharing| Mount::Cache {
        key: "c".into(),
        target: "/var/cache/c".into(),
        mode: 0o700,
        owner: (1000, 1000),
        sharing,
    };
    let bind =
        Mount::Bind { trees: trees.clone(), path: "/srv/folder".into(), target: "/mnt/b".into(), writable: true };
    let mut command =
        shell("b cat /run/secrets/token; b touch /var/cache/c/kept /mnt/b/gone /home/x; b ls /mnt/b /var/cache/c");
    command.mounts = vec![Mount::Secret(secret), cache(Sharing::Locked), bind];
    let (ran, said) = home.run(&trees, &command);
    assert_eq!(said, "TOPSECRET/mnt/b:\na\nb\ngone\n\n/var/cache/c:\nkept\n");
    let layer = ran.layer.unwrap();
    assert_eq!(home.members(&layer), ["home/ 755 0:0", "home/x 644 0:0"]);
    let mut again = shell("b ls /var/cache/c; b stat -c %u:%a /var/cache/c; b ls /mnt/b");
    let bind =
        Mount::Bind { trees: trees.clone(), path: "/srv/folder".into(), target: "/mnt/b".into(), writable: false };
    again.mounts = vec![cache(Sharing::Shared), bind];
    let (ran, said) = home.run(&trees, &again);
    assert_eq!(said, "kept\n1000:700\na\nb\n");
    assert!(ran.layer.is_none());
    // Nothing on the disk holds it.
    let found = Process::new("grep").args(["-rl", "TOPSECRET"]).arg(home.session.store.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn volatile_files_are_not_in_the_layer() {
    let home = home();
    let trees = home.trees();
    let (layer, _) = home.shell(
        &trees,
        "b mkdir -p /var/log/apt /var/cache/apt/archives /root/.cache/pip /var/lib/apt/lists /etc\n\
         for f in /var/log/apt/x /var/cache/apt/archives/x.deb /root/.cache/pip/x /var/lib/apt/lists/x /tmp/x; do echo $f >$f; done\n\
         echo 1234 >/etc/machine-id; echo 'new:!:20000:0:99999:7:::' >/etc/shadow",
    );
    let layer = layer.unwrap();
    let names: Vec<_> = home.members(&layer).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    for name in ["var/lib/apt/lists/x", "tmp/x", "etc/machine-id", "etc/shadow"] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    assert!(
        !names.iter().any(|name| name.ends_with(".deb") || name.contains("pip/x") || name.contains("log/apt/x")),
        "{names:?}"
    );
    assert_eq!(home.text(&layer, "etc/machine-id"), b"");
    assert_eq!(home.text(&layer, "etc/shadow"), b"new:!:3652:0:99999:7:::\n");
}

#[test]
fn another_user_gains_rights_by_programs_that_give_them() {
    let home = home();
    if !has_range(&home) {
        return;
    }
    let (layer, _) = home.shell(&home.trees(), "b chmod 4755 /bin/whoami");
    let trees = home.workshop.trees(&[&home.base(), &layer.unwrap()]).unwrap();
    let mut command = shell("/bin/whoami; b id -u; b grep CapEff /proc/self/status");
    command.user = (1000, 1000);
    let (_, said) = home.run(&trees, &command);
    assert!(said.contains("\nCapEff:\t0000000000000000") && said.starts_with("0\n1000\n"), "{said}");
}

/// A Debian root with apt, pip and what packages' scripts count on: the layers of an image, in the home's store.
fn debian(home: &home::Home) -> Vec<Layer> {
    const PACKAGES: &str = "apt, dpkg, passwd, adduser, libcap2-bin, python3-pip, coreutils, findutils, grep, sed, tar, gzip, \
                            login, perl-base, debianutils, diffutils, util-linux, mawk, hostname, bash, init-system-helpers";
    let project = home.tiny("debian");
    let manifest = std::fs::read_to_string(project.join("ekiben.yaml")).unwrap();
    let manifest = manifest.replace("\npython:\n", &format!("\nsystem:\n  packages: [{PACKAGES}]\npython:\n"));
    std::fs::write(project.join("ekiben.yaml"), manifest).unwrap();
    std::fs::remove_file(project.join("ekiben.lock")).unwrap();
    let digest = home.build(&project).parse().unwrap();
    let store = ekiben::image::store::Store::open(&home.store()).unwrap();
    ekiben::image::Image::load(&store, &digest).unwrap().layers().to_vec()
}

#[test]
fn package_managers_work_and_leave_the_same_bytes() {
    if std::env::var_os(AGAIN).is_some() {
        // Its image is built by root.
        return;
    }
    let built = home::Home::warm();
    let layers = debian(&built);
    let (session, workshop) = workshop(&built.store());
    let layers: Vec<_> = layers.iter().collect();
    let trees = workshop.trees(&layers).unwrap();
    let run = |trees: &Trees, script: &str| {
        let args = ["/bin/sh", "-ec", script].map(str::to_owned).into();
        let mut command = Command::new(args, "a step");
        command.env.extend(["HOME=/root", "DEBIAN_FRONTEND=noninteractive"].map(str::to_owned));
        command.network = Network::Outside;
        // The mirror is the one that this machine has, and so are those whom it trusts.
        let trusted = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
        command.files.push(File { target: "/run/trusted.crt".into(), content: trusted, mode: 0o644, owner: (0, 0) });
        command.env.push("PIP_CERT=/run/trusted.crt".to_owned());
        let path = "/etc/apt/sources.list.d/debian.sources";
        for path in [path, "/usr/share/keyrings/debian-archive-keyring.gpg"] {
            let content = std::fs::read(path).unwrap();
            command.files.push(File { target: path.into(), content, mode: 0o644, owner: (0, 0) });
        }
        let mut said = String::new();
        let ran = workshop.run(trees, &command, &mut |line| said.push_str(&format!("{line}\n"))).unwrap();
        assert_eq!(ran.exit, 0, "{said}");
        (ran.layer, said)
    };
    // What a base has to begin with where no package's script was run.
    let sources = "cp /usr/share/base-passwd/passwd.master /etc/passwd; cp /usr/share/base-passwd/group.master /etc/group; \
                   touch /etc/shadow /var/lib/dpkg/status; \
                   mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt; \
                   id _apt || useradd --system --no-create-home _apt";
    let (base, _) = run(&trees, sources);
    let base = base.unwrap();
    let under = workshop.trees(&[layers.as_slice(), &[&base]].concat()).unwrap();
    let apt = "apt-get update -q; apt-get install -qy --no-install-recommends hello; hello";
    let (first, said) = run(&under, apt);
    assert!(said.contains("Hello, world!"), "{said}");
    let lists = run(
        &workshop.trees(&[layers.as_slice(), &[&base, first.as_ref().unwrap()]].concat()).unwrap(),
        "ls /var/lib/apt/lists; hello",
    )
    .1;
    assert!(lists.contains("Packages"), "{lists}");
    let script = "python3.11 -m pip install --break-system-packages --root-user-action ignore -q iniconfig==2.0.0; \
                  python3.11 -c 'import iniconfig; print(iniconfig.__file__)'; useradd -m someone; \
                  mkdir -p /usr/local/bin; cp /bin/true /usr/local/bin/bind; setcap cap_net_bind_service+ep /usr/local/bin/bind; getcap /usr/local/bin/bind";
    let (one, said) = run(&under, script);
    assert!(said.contains("cap_net_bind_service=ep") && said.contains("iniconfig"), "{said}");
    let (one, two) = (one.unwrap(), run(&under, script).0.unwrap());
    assert_eq!(one.digest, two.digest);
    let (_, said) = run(
        &workshop.trees(&[layers.as_slice(), &[&base, &two]].concat()).unwrap(),
        "getcap /usr/local/bin/bind; id someone",
    );
    assert!(said.contains("cap_net_bind_service=ep") && said.contains("someone"), "{said}");
    drop(session);
    ekiben::io::archive::remove(&built.store()).unwrap();
}

fn starter() {
    let Some(folder) = std::env::var_os("EKIBEN_TEST_STEP_STARTER") else { return };
    let (session, workshop) = workshop(Path::new(&folder));
    let beside = Path::new(&folder).parent().unwrap();
    let home = Home { session, workshop, folder: tempfile::tempdir_in(beside).unwrap() };
    let trees = home.trees();
    std::io::stdout().write_all(b"unpacked\n").unwrap();
    let marker = std::env::var("EKIBEN_TEST_STEP_MARKER").unwrap();
    let _ = home.workshop.run(
        &trees,
        &shell(&format!("b touch /root/a; b sleep {marker} & b sleep {marker}")),
        &mut |_| {},
    );
    std::process::exit(0);
}

fn start(folder: &Path, marker: &str) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "step::nothing_outlives_a_killed_starter", "--nocapture"])
        .env("EKIBEN_TEST_STEP_STARTER", folder)
        .env("EKIBEN_TEST_STEP_MARKER", marker)
        .env(AGAIN, shared())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn nothing_outlives_a_killed_starter() {
    starter();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let marker = format!("{}.5", 80_000 + std::process::id());
    let lines = || {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let home = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            if line.contains(&marker) || line.contains("__within") && home.starts_with(&store) {
                found.push(line);
            }
        }
        found
    };
    for moment in [20, 60, 120, 250, 400, 700] {
        let mut child = start(&store, &marker);
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("nothing runs", || lines().is_empty());
    }
    let mut child = start(&store, &marker);
    wait_until("it runs", || lines().iter().any(|line| line.contains(&marker)));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("nothing runs", || lines().is_empty());
    // The next command removes what they left.
    let (session, _) = workshop(&store);
    let left: Vec<_> = crate::home::names(&session.store.root().join("scratch"));
    assert!(left.is_empty(), "{left:?}");
    drop(session);
    ekiben::io::archive::remove(&store).unwrap();
}

/// What several steps leave, by digest.
fn digests(home: &Home) -> BTreeMap<&'static str, String> {
    let trees = home.trees();
    let scripts = [
        ("files", "b touch /root/a; b chown 1:2 /root/a; b mkdir -p /opt/x; echo b >/opt/x/b; b ln /opt/x/b /opt/x/c"),
        ("deleted", "b rm -r /srv/folder; b rm /srv/one; b chmod 700 /srv"),
        ("owners", "b chown -R 65535:65535 /srv; b chmod u+s /srv/folder/a"),
    ];
    let digest = |script: &str| home.shell(&trees, script).0.unwrap().digest.to_string();
    scripts.into_iter().map(|(name, script)| (name, digest(script))).collect()
}

#[test]
fn an_ordinary_user_has_all_this_and_the_same_layers() {
    if std::env::var_os(AGAIN).is_some() {
        println!("{:?}", digests(&home()));
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        // All tests of this module are an ordinary user's then.
        return;
    }
    let user = home::user_with_ids();
    let folder = shared();
    let tests = folder.join("tests");
    home::install(std::env::current_exe().unwrap(), &tests);
    let temporary = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temporary.path(), Permissions::from_mode(0o777)).unwrap();
    let output = Process::new(&tests)
        .args(["step::", "--nocapture", "--test-threads=1"])
        .env(AGAIN, folder)
        .env("TMPDIR", temporary.path())
        .env("HOME", temporary.path())
        .current_dir(folder)
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!("{:?}", digests(&home()));
    assert!(said.contains(&expected), "{expected} is not in {said}");
    // Trees of other ids are gone with their temporary folders.
    assert_eq!(crate::home::names(temporary.path()), Vec::<String>::new());
}
