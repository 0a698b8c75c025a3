//! Dockerfiles, built here and by buildah: the same trees, and the same said of them; and for an ordinary user the same bytes.
//!
//! The base is a statically linked busybox, which both know as `base`. What Debian's buildah (1.28) does not know is written
//! for it in another way that means the same. Times are not compared: all of ours are one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::home::engines::buildah;
use crate::home::images::busybox;
use crate::home::servers::Server;
use crate::home::{self, Home, program, ran};

struct Case {
    name: &'static str,
    file: &'static str,
    /// The same for buildah, where it does not know what ours says.
    theirs: Option<&'static str>,
    args: &'static [&'static str],
}

const fn case(name: &'static str, file: &'static str) -> Case {
    Case { name, file, theirs: None, args: &[] }
}

const CASES: &[Case] = &[
    case("globs", "FROM scratch\nCOPY a*.txt ?.md none* [f-g]older /to/\nCOPY f*/deep /deep/\nCOPY folder/b.txt c.txt"),
    case(
        "folders",
        "FROM base\nCOPY folder /new\nCOPY folder/ /etc\nCOPY folder/deep/ folder/b.txt /mixed/\nCOPY . /all\nWORKDIR /work\n\
         COPY folder relative\nCOPY a1.txt .\n",
    ),
    case(
        "links",
        "FROM base\nCOPY to-folder /followed\nCOPY to-file /followed.txt\nCOPY links /links\nRUN ls -l /links\n",
    ),
    case(
        "owners",
        "FROM base\nCOPY --chown=7:8 folder /a\nCOPY --chown=app folder /b\nCOPY --chown=app:mail a1.txt /c/d/\n\
         COPY --chown=5 a1.txt /e\nUSER app\nCOPY a1.txt /f\nRUN id >/tmp/id && cp /tmp/id /home/app/id\n",
    ),
    case("modes", "FROM scratch\nCOPY --chmod=0640 a1.txt /a\nCOPY --chmod=0711 folder /b\nCOPY private /c\n"),
    Case {
        theirs: Some(
            "FROM scratch\nCOPY folder/deep/d.txt /to/folder/deep/d.txt\nCOPY folder/deep/d.txt /cut/deep/d.txt\n",
        ),
        ..case(
            "parents",
            "FROM scratch\nCOPY --parents folder/deep/d.txt /to/\nCOPY --parents folder/./deep/d.txt /cut/\n",
        )
    },
    Case {
        theirs: Some("FROM scratch\nCOPY folder/b.txt /to/b.txt\nCOPY a2.txt z.md /tops/\n"),
        ..case(
            "exclude",
            "FROM scratch\nCOPY --exclude=deep --exclude=*.md folder /to\nCOPY --exclude=a1* a*.txt *.md /tops/\n",
        )
    },
    Case {
        theirs: Some("FROM base\nRUN mkdir -p /srv/a\nCOPY a1.txt /srv/a/\nCOPY folder /srv/b\n"),
        ..case("link", "FROM base\nRUN mkdir -p /srv/a\nCOPY --link a1.txt /srv/a/\nCOPY --link folder /srv/b\n")
    },
    case(
        "archives",
        "FROM base\nADD archive.tar.gz /one\nADD *.tar.gz /two/\nADD a1.txt archive.tar.gz /three/\nADD folder /four\n\
         RUN mkdir -p /o/folder/in && touch /o/folder/gone /o/file\nADD over.tar /o\nRUN ls /o/file/within\n",
    ),
    Case {
        theirs: Some(
            "FROM base\nARG WHO\nCOPY --chmod=600 a1.txt /fetched/a1.txt\nCOPY heredoc.txt /doc\nRUN echo one; \
             printf 'two %s\\n' \"$WHO\" >/said\nRUN printf three >/third\n",
        ),
        args: &["WHO=me"],
        ..case(
            "heredocs and addresses",
            "FROM base\nARG WHO\nADD --checksum=sha256:b640e840b19d378660b32fb51ae18d67dccb4a8596a29e7bd72c1b2ae5928f41 \
             SERVER/a1.txt /fetched/\nCOPY <<EOF /doc\nhello $WHO\nEOF\nRUN <<EOF\necho one\nprintf 'two %s\\n' \"$WHO\" >/said\n\
             EOF\nRUN <<-\"EOF\" sh\n\tprintf three >/third\nEOF\n",
        )
    },
    case(
        "stages",
        "ARG FROM=base\nFROM $FROM AS first\nRUN mkdir /out && echo 1 >/out/1 && ln /out/1 /out/2 && ln -s 1 /out/3 && \
         chown 3:4 /out/1\nFROM scratch AS unused\nCOPY nothing /\nFROM base AS second\nCOPY --from=first /out /in\n\
         RUN --mount=type=bind,from=first,source=/out,target=/mnt cp /mnt/1 /copied\nRUN --mount=type=tmpfs,target=/gone \
         touch /gone/x\nFROM second\nCOPY --from=0 /out/3 /third\n",
    ),
    case(
        "variables",
        "ARG A=global\nFROM base\nARG A\nARG B=${A:-none}x\nENV C=$B D=${C:-unset} E='$A' F=\"a b\"\nENV D=$C\nARG C=hidden\n\
         RUN echo \"$A $B $C $D $E $F ${G:-g}\" >/said\nLABEL a=$A \"b c\"=\"$F\"\nWORKDIR /w\nWORKDIR $B\nRUN pwd >>/said\n\
         EXPOSE 80 90/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\n",
    ),
    case(
        "users and folders",
        "FROM base\nRUN echo fresh:x:1234:1234::/home/fresh:/bin/sh >>/etc/passwd && mkdir -p /home/fresh/made && chown 1234:1234 /home/fresh\nUSER fresh\nWORKDIR /home/fresh/made/here\nRUN touch mine && umask >mask && \
         echo $HOME >home\nUSER 0:8\nRUN touch /root/group\n",
    ),
    case(
        "commands",
        "FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 >/shell\nRUN [\"/bin/sh\", \"-c\", \"echo [$1] >/words\", \"x\", \
         \"y z\"]\nCMD echo hi\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\", \"true\"]\nHEALTHCHECK --interval=3s --retries=2 CMD true\n\
         ONBUILD RUN touch /triggered\n",
    ),
    case(
        "deleted",
        "FROM base\nRUN rm -r /home/app && mkdir /home/app && touch /home/app/new && rm /etc/group && mkdir /var/x\nRUN rmdir \
         /var/x && mv /etc/shadow /etc/moved && chmod 1777 /srv && chmod u+s /bin/own\n",
    ),
];

/// What is in the context of all cases.
fn context(folder: &Path) {
    let write = |path: &str, text: &str, mode: u32| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    write("a1.txt", "first\n", 0o644);
    write("a2.txt", "2", 0o755);
    write("z.md", "z", 0o600);
    write("heredoc.txt", "hello me\n", 0o644);
    write("folder/b.txt", "b", 0o640);
    write("folder/deep/d.txt", "d", 0o444);
    write("folder/deep/e.md", "e", 0o644);
    write("private/key", "k", 0o400);
    write("ignored/no", "", 0o644);
    write("ignored/yes/kept", "kept", 0o644);
    write("links/file", "f", 0o644);
    write(".dockerignore", "# comment\nignored/*\n!ignored/yes\n*.log\nheredoc.txt.bak\n", 0o644);
    write("x.log", "", 0o644);
    for part in ["folder", "folder/deep", "private", "ignored", "ignored/yes", "links"] {
        let mode = if part == "private" { 0o700 } else { 0o755 };
        fs::set_permissions(folder.join(part), Permissions::from_mode(mode)).unwrap();
    }
    symlink("folder/deep", folder.join("to-folder")).unwrap();
    symlink("a1.txt", folder.join("to-file")).unwrap();
    symlink("file", folder.join("links/relative")).unwrap();
    symlink("/absent", folder.join("links/dangling")).unwrap();
    let archive = fs::File::create(folder.join("archive.tar.gz")).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(archive, flate2::Compression::fast()));
    member(&mut archive, "x/", tar::EntryType::Directory, 0o750, (5, 6), b"");
    member(&mut archive, "x/f", tar::EntryType::Regular, 0o4755, (5, 6), b"packed");
    named(&mut archive, "x/g", tar::EntryType::Link, 0o4755, (5, 6), "x/f");
    named(&mut archive, "x/h", tar::EntryType::Symlink, 0o777, (5, 6), "../away");
    archive.into_inner().unwrap().finish().unwrap();
    let archive = fs::File::create(folder.join("over.tar")).unwrap();
    let mut archive = tar::Builder::new(archive);
    member(&mut archive, "folder", tar::EntryType::Regular, 0o644, (0, 0), b"no folder any more");
    member(&mut archive, "file/", tar::EntryType::Directory, 0o755, (0, 0), b"");
    member(&mut archive, "file/within", tar::EntryType::Regular, 0o600, (1, 1), b"");
    archive.finish().unwrap();
}

fn member<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    content: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content).unwrap();
}

fn named<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    target: &str,
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_size(0);
    archive.append_link(&mut header, path, target).unwrap();
}

/// A docker archive of a busybox with all its names, and a user.
fn base(to: &Path) {
    let program = fs::read(busybox()).unwrap();
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "home", "proc", "run", "srv", "sys", "var"] {
        member(&mut layer, &format!("{folder}/"), tar::EntryType::Directory, 0o755, (0, 0), b"");
    }
    member(&mut layer, "home/app/", tar::EntryType::Directory, 0o755, (1001, 50), b"");
    member(&mut layer, "home/app/old", tar::EntryType::Regular, 0o644, (1001, 50), b"old");
    member(&mut layer, "root/", tar::EntryType::Directory, 0o700, (0, 0), b"");
    member(&mut layer, "tmp/", tar::EntryType::Directory, 0o1777, (0, 0), b"");
    member(&mut layer, "bin/busybox", tar::EntryType::Regular, 0o755, (0, 0), &program);
    member(&mut layer, "bin/own", tar::EntryType::Regular, 0o755, (0, 0), b"own");
    let names = ran(Command::new(busybox()).arg("--list")).ok().out;
    for name in names.lines().filter(|name| *name != "busybox") {
        named(&mut layer, &format!("bin/{name}"), tar::EntryType::Link, 0o755, (0, 0), "bin/busybox");
    }
    let books = [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1001:50::/home/app:/bin/sh\n"),
        ("group", "root:x:0:\nmail:x:8:\nusers:x:50:\n"),
        ("shadow", "root:*:10000:0:99999:7:::\n"),
    ];
    for (name, text) in books {
        member(&mut layer, &format!("etc/{name}"), tar::EntryType::Regular, 0o644, (0, 0), text.as_bytes());
    }
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": ekiben::image::oci::platform::Platform::host().unwrap().architecture(), "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] }, "history": [{ "created_by": "a test" }],
        "rootfs": { "type": "layers", "diff_ids": [ekiben::io::digest::Digest::of(&layer).to_string()] },
    });
    let mut archive = tar::Builder::new(fs::File::create(to).unwrap());
    let manifest = br#"[{"Config":"config.json","RepoTags":["base:latest"],"Layers":["layer.tar"]}]"#;
    let config = config.to_string();
    for (name, bytes) in [("config.json", config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest)] {
        member(&mut archive, name, tar::EntryType::Regular, 0o644, (0, 0), bytes);
    }
    archive.finish().unwrap();
}

/// What one path is, as a line, once all layers lie over each other.
fn tree(layers: impl Iterator<Item = PathBuf>) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut count = 0;
    for layer in layers {
        let bytes = fs::read(&layer).unwrap();
        let plain: Box<dyn std::io::Read> = match bytes.starts_with(&[0x1f, 0x8b]) {
            true => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
            false => Box::new(&bytes[..]),
        };
        let mut own = BTreeSet::new();
        for entry in tar::Archive::new(plain).entries().unwrap() {
            let mut entry = entry.unwrap();
            let clean = |path: &Path| path.to_str().unwrap().trim_matches('/').trim_start_matches("./").to_owned();
            let path = clean(&entry.path().unwrap());
            if path.is_empty() || path == "." {
                continue;
            }
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let inside = |known: &str, of: &str| known.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'));
            if name == ".wh..wh..opq" {
                files.retain(|known, _| own.contains(known) || !inside(known, folder));
                continue;
            }
            if let Some(deleted) = name.strip_prefix(".wh.") {
                let deleted = format!("{folder}/{deleted}");
                let deleted = deleted.trim_start_matches('/');
                files.retain(|known, _| known != deleted && !inside(known, deleted));
                continue;
            }
            let header = entry.header().clone();
            let kind = header.entry_type();
            if !kind.is_dir() {
                files.retain(|known, _| !inside(known, &path));
            }
            let mode = header.mode().unwrap() & 0o7777;
            let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
            let link = entry.link_name().unwrap().map(|link| link.into_owned());
            count += 1;
            let told = match kind {
                tar::EntryType::Link => files[&clean(&link.unwrap())].clone(),
                tar::EntryType::Symlink => (format!("link {owner} {}", link.unwrap().display()), count),
                tar::EntryType::Directory => (format!("folder {mode:o} {owner}"), count),
                _ => {
                    let mut content = Vec::new();
                    std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                    let digest = ekiben::io::digest::Digest::of(&content).to_string();
                    let content = if content.len() < 100 { String::from_utf8(content).unwrap() } else { digest };
                    (format!("file {mode:o} {owner} {content:?}"), count)
                }
            };
            own.insert(path.clone());
            files.insert(path, told);
        }
    }
    let mut names: BTreeMap<usize, Vec<&String>> = BTreeMap::new();
    for (path, (_, number)) in &files {
        names.entry(*number).or_default().push(path);
    }
    let told = files.iter().map(|(path, (told, number))| match &names[number][..] {
        [_] => (path.clone(), told.clone()),
        several => (path.clone(), format!("{told}, the same as {several:?}")),
    });
    told.collect()
}

/// What an image says of itself, but for what says that commands were executed.
fn said(config: &Value) -> BTreeMap<&'static str, Value> {
    let names = [
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Labels",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Healthcheck",
        "Shell",
        "OnBuild",
    ];
    let mut said = BTreeMap::new();
    for name in names {
        let mut value = config["config"][name].clone();
        if let Some(labels) = value.as_object_mut().filter(|_| name == "Labels") {
            labels.remove("io.ekiben.commands.executed");
        }
        let is_empty = match &value {
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            Value::String(text) => text.is_empty() || name == "WorkingDir" && text == "/",
            _ => false,
        };
        said.insert(name, if is_empty { Value::Null } else { value });
    }
    said
}

type Built = (BTreeMap<String, String>, BTreeMap<&'static str, Value>);

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What buildah makes.
fn theirs(folder: &Path, number: usize, case: &Case) -> Built {
    let (file, name) = (folder.join(format!("theirs-{number}")), format!("localhost/case-{number}"));
    fs::write(&file, case.theirs.unwrap_or(case.file)).unwrap();
    let mut build = buildah(folder);
    build.args(["bud", "--isolation=chroot", "--runtime=/usr/sbin/runc", "--network=host", "--layers", "--pull-never"]);
    build.args(["--format=docker", "--identity-label=false", "--force-rm", "-t", &name, "-f"]).arg(&file);
    for arg in case.args {
        build.args(["--build-arg", arg]);
    }
    ran(build.arg(folder.join("context"))).ok();
    let to = folder.join(format!("theirs-{number}.dir"));
    let push = ["push", "-q", "--format=v2s2", "--disable-compression", &name];
    ran(buildah(folder).args(push).arg(format!("dir:{}", to.display()))).ok();
    let manifest = read(to.join("manifest.json"));
    let blob = |part: &Value| to.join(part["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap());
    let mut tree = tree(manifest["layers"].as_array().unwrap().iter().map(blob));
    // It leaves these in the layers of commands; ours have nothing there.
    for path in ["etc/hostname", "etc/hosts", "etc/resolv.conf", "run/secrets", "run/.containerenv"] {
        tree.remove(path);
    }
    (tree, said(&read(blob(&manifest["config"]))))
}

/// What is built here: the image's digest. Where `user` is one, it is theirs.
fn digest(home: &Path, folder: &Path, number: usize, case: &Case, server: &Server, user: Option<u32>) -> String {
    let file = home.join(format!("ours-{number}"));
    fs::write(&file, case.file.replace("SERVER", server.url("").trim_end_matches('/'))).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let mut build = Command::new(folder.join("ekiben"));
    build.args(["build", "--allow-run", "-t", &format!("case-{number}"), "--file"]).arg(&file);
    build.arg("--build-context").arg(format!("base=docker-archive:{}", folder.join("base.tar").display()));
    for arg in case.args {
        build.args(["--build-arg", arg]);
    }
    build.arg(folder.join("context")).current_dir(home).env("EKIBEN_HOME", home.join("store")).env("HOME", home);
    build.env("NO_COLOR", "1").env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    if let Some(user) = user {
        build.uid(user).gid(user);
    }
    ran(&mut build).ok().out.trim().to_owned()
}

fn ours(folder: &Path, number: usize) -> Built {
    let to = folder.join(format!("ours-{number}.layout"));
    let name = format!("case-{number}");
    let mut export = Command::new(program());
    export.args(["export", &name]).arg(&to).current_dir(folder).env("EKIBEN_HOME", folder.join("store"));
    ran(&mut export).ok();
    let blob = |part: &Value| to.join("blobs").join(part["digest"].as_str().unwrap().replace(':', "/"));
    let manifest = read(blob(&read(to.join("index.json"))["manifests"][0]));
    (tree(manifest["layers"].as_array().unwrap().iter().map(blob)), said(&read(blob(&manifest["config"]))))
}

/// A folder with all that builds need, which everybody can read.
fn bench() -> Home {
    let home = Home::empty();
    let folder = home.folder();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.join("context")).unwrap();
    fs::set_permissions(folder.join("context"), Permissions::from_mode(0o755)).unwrap();
    context(&folder.join("context"));
    base(&folder.join("base.tar"));
    home::install(program(), folder.join("ekiben"));
    home
}

#[test]
fn what_buildah_makes_of_a_dockerfile_is_made_here() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = bench();
    let folder = home.folder();
    let server = Server::of_files(&home, "context");
    ran(buildah(folder).args(["pull", "-q", "docker-archive:base.tar"])).ok();
    let compared = |number: usize, case: &Case| {
        let mut wrong = Vec::new();
        digest(folder, folder, number, case, &server, None);
        let ((their_tree, they_say), (our_tree, we_say)) = (theirs(folder, number, case), ours(folder, number));
        let paths: BTreeSet<_> = their_tree.keys().chain(our_tree.keys()).collect();
        for path in paths.into_iter().filter(|path| their_tree.get(*path) != our_tree.get(*path)) {
            let (there, here) = (their_tree.get(path), our_tree.get(path));
            wrong.push(format!("{}: /{path}: buildah {there:?}, here {here:?}", case.name));
        }
        for (name, there) in they_say.iter().filter(|(name, there)| we_say[*name] != **there) {
            wrong.push(format!("{}: {name}: buildah {there}, here {}", case.name, we_say[name]));
        }
        wrong
    };
    let cases: Vec<_> = CASES.iter().enumerate().collect();
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let halves: Vec<_> = cases
            .chunks(CASES.len().div_ceil(2))
            .map(|half| {
                scope.spawn(|| half.iter().flat_map(|(number, case)| compared(*number, case)).collect::<Vec<_>>())
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_no_pattern_matches_is_named() {
    let home = Home::empty();
    home.write("Dockerfile", "FROM scratch\nCOPY none* *nothing /\n");
    home.run(["build", "--file", "Dockerfile", "."]).ends(3).says("Dockerfile:2").says("`none*` is not there");
    home.write("Dockerfile", "FROM scratch\nCOPY Dockerfile none* none /\n");
    home.run(["build", "--file", "Dockerfile", "."]).ends(3).says("`none` is not there");
}

#[test]
fn an_ordinary_user_builds_the_same() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let user = home::user_with_ids().uid.as_raw();
    let home = bench();
    let folder = home.folder();
    let server = Server::of_files(&home, "context");
    // An ordinary user cannot read what is root's alone.
    for private in ["private", "private/key", "z.md", "folder/b.txt"] {
        std::os::unix::fs::chown(folder.join("context").join(private), Some(user), Some(user)).unwrap();
    }
    let their_home = folder.join("theirs");
    fs::create_dir(&their_home).unwrap();
    std::os::unix::fs::chown(&their_home, Some(user), Some(user)).unwrap();
    for (number, case) in CASES.iter().enumerate() {
        let [root, theirs] = [(folder, None), (&their_home, Some(user))]
            .map(|(home, user)| digest(home, folder, number, case, &server, user));
        assert_eq!(root, theirs, "{}", case.name);
    }
    // What commands made is other users', and goes as it came.
    ran(Command::new(folder.join("ekiben"))
        .args(["prune", "--all"])
        .env("EKIBEN_HOME", their_home.join("store"))
        .uid(user)
        .gid(user))
    .ok();
}

/// Writes `Dockerfile` upon the busybox of [`bench`], and builds `context` with it: the image's digest.
fn built_in(folder: &Path, dockerfile: &str, env: &[(&str, &str)]) -> String {
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let mut build = Command::new(folder.join("ekiben"));
    build.args(["build", "--allow-run=network", "--file"]).arg(folder.join("Dockerfile"));
    build.arg("--build-context").arg(format!("base=docker-archive:{}", folder.join("base.tar").display()));
    build.arg(folder.join("context")).envs(env.iter().copied());
    build.env("EKIBEN_HOME", folder.join("store")).env("HOME", folder).env("NO_COLOR", "1").stdin(Stdio::null());
    ran(&mut build).ok().out.trim().to_owned()
}

#[test]
fn what_goes_over_the_network_of_a_command_arrives_whole() {
    const BYTES: usize = 48 << 20;
    let home = bench();
    let folder = home.folder();
    let sent: Vec<u8> = (0..BYTES / 4).flat_map(|number| (number as u32).to_le_bytes()).collect();
    let expected = ekiben::io::digest::Digest::of(&sent).hex();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = std::thread::spawn(move || {
        // First it is told all, slowly heard, and then tells as much.
        let (mut first, _) = listener.accept().unwrap();
        first.write_all(&sent).unwrap();
        drop(first);
        let (second, _) = listener.accept().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        std::io::copy(&mut std::io::BufReader::new(second), &mut std::io::sink()).unwrap()
    });
    let file = format!(
        "FROM base\nRUN [ \"$(nc 198.18.0.80 {port} </dev/null | (sleep 2; sha256sum))\" = '{expected}  -' ]\n\
         RUN head -c {BYTES} /dev/zero | nc 198.18.0.80 {port}\nRUN ! nc -w 5 198.18.0.80 1 </dev/null\n"
    );
    built_in(folder, &file, &[("http_proxy", &format!("http://127.0.0.1:{port}"))]);
    assert_eq!(received.join().unwrap(), BYTES as u64);
}

#[test]
fn a_file_with_the_size_and_time_of_another_is_another() {
    let home = bench();
    let folder = home.folder();
    let file = folder.join("context/a1.txt");
    let build = || built_in(folder, "FROM base\nCOPY . /all\n", &[]);
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    // Long enough ago that its times tell it from later ones.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let before = build();
    assert_eq!(before, build());
    fs::write(&file, "other\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let after = build();
    assert_ne!(before, after);
    fs::write(&file, "first\n").unwrap();
    assert_eq!(before, build());
    // So are modes, what is left out, and the modes of folders that are left out while something in them is not.
    let changed = |path: &str, mode: u32, before_mode: u32| {
        let path = folder.join("context").join(path);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_ne!(before, build(), "{}", path.display());
        fs::set_permissions(&path, Permissions::from_mode(before_mode)).unwrap();
        assert_eq!(before, build(), "{}", path.display());
    };
    changed("a1.txt", 0o755, 0o644);
    changed("ignored", 0o700, 0o755);
    changed("folder/deep", 0o700, 0o755);
    let (ignore, rules) =
        (folder.join("context/.dockerignore"), "# comment\nignored/*\n!ignored/yes\n*.log\nheredoc.txt.bak\n");
    fs::write(&ignore, "").unwrap();
    assert_ne!(before, build());
    fs::write(&ignore, rules).unwrap();
    assert_eq!(before, build());
    fs::remove_file(folder.join("context/folder/b.txt")).unwrap();
    assert_ne!(before, build());
}

#[test]
fn what_layers_show_is_kept_and_made_again_where_it_is_not_whole() {
    let home = bench();
    let folder = home.folder();
    // The second layer is the target of links, and has other modes and a folder more than the first.
    let file = "FROM base\nRUN mkdir -p /many/deep && cd /many && for n in $(seq 1100); do : >$n; done && chmod 1770 deep && \
                ln -s many /link\nCOPY a1.txt folder /link/deep/\nRUN rm /many/7 && chown 3:4 /many && mkdir /many/8x\n\
                COPY a2.txt /many/7\nCOPY folder /link/8x/\n";
    let first = built_in(folder, file, &[]);
    let memory = folder.join("store/memory");
    let kept = || fs::read_dir(memory.join("view")).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(!kept().is_empty());
    let again = |what: &str| {
        for of_copies in ["placed", "copied"] {
            fs::remove_dir_all(memory.join(of_copies)).unwrap();
        }
        assert_eq!(built_in(folder, file, &[]), first, "{what}");
        assert!(!kept().is_empty(), "{what}");
    };
    again("kept");
    for path in kept() {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    again("cut");
    for path in kept() {
        fs::write(&path, "").unwrap();
    }
    again("empty");
    fs::remove_dir_all(memory.join("view")).unwrap();
    again("gone");
}
