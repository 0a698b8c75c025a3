//! Hostile projects, bentos and bundles: what is started and written while they are checked, locked, packed and built,
//! as the kernel saw it (`strace`). Nothing but Ekiben and uv may be started, and the base's Python in the sandbox; nothing
//! may be written but the store, uv's cache and what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::home::{Home, Ran, program, ran, tool};

/// What a command did.
struct Seen {
    ran: Ran,
    /// Programs that were started outside of sandboxes.
    started: BTreeSet<String>,
    /// Programs that were started in sandboxes.
    sandboxed: BTreeSet<String>,
    /// Paths that were written, made, moved or removed outside of sandboxes.
    written: BTreeSet<PathBuf>,
}

/// Runs the program in `folder` under strace, with all that a person's shell could hold against them.
fn watched(home: &Home, folder: &Path, args: &[&str]) -> Seen {
    watched_without(home, folder, args, &[])
}

/// The same, where the kernel lacks some system calls: `NAME:error=CODE`.
fn watched_without(home: &Home, folder: &Path, args: &[&str], lacking: &[&str]) -> Seen {
    let traces = tempfile::tempdir().unwrap();
    let calls = "execve,execveat,clone,clone3,fork,vfork,open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,unlink,\
                 unlinkat,rmdir,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,chown,\
                 fchownat,lchown,chdir,unshare,landlock_create_ruleset";
    let mut command = tool("strace");
    command.args(["-ff", "-y", "-s", "4096", "--seccomp-bpf", "-e", &format!("trace={}", calls.replace(' ', ""))]);
    command.args(lacking.iter().flat_map(|call| ["-e".to_owned(), format!("inject={call}")]));
    command.arg("-o").arg(traces.path().join("t")).args(home.as_user()).arg(program()).args(args);
    let hostile = folder.display();
    let path = std::env::var("PATH").unwrap();
    command
        .current_dir(folder)
        .env("EKIBEN_HOME", home.store())
        .env("HOME", home.folder())
        .env("XDG_CACHE_HOME", home.folder().join("cache"))
        .env("PATH", format!(".::{hostile}:{path}"))
        .env("PYTHONPATH", folder)
        .env("PYTHONSTARTUP", folder.join("sitecustomize.py"))
        .env("GIT_SSH_COMMAND", folder.join("uv"));
    let ran = ran(&mut command);
    let mut seen = Seen { ran, started: BTreeSet::new(), sandboxed: BTreeSet::new(), written: BTreeSet::new() };
    read_traces(traces.path(), folder, &mut seen);
    seen
}

fn read_traces(traces: &Path, folder: &Path, seen: &mut Seen) {
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(traces).unwrap() {
        let path = entry.unwrap().path();
        let number: u32 = path.extension().unwrap().to_str().unwrap().parse().unwrap();
        texts.insert(number, String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
    }
    assert!(!texts.is_empty());
    // A sandbox begins with the supervisor that is started for it.
    let begins = |text: &str| text.lines().any(|line| line.starts_with("execve") && line.contains("\"__container\""));
    let mut sandboxed: BTreeSet<u32> =
        texts.iter().filter(|(_, text)| begins(text)).map(|(number, _)| *number).collect();
    loop {
        let children =
            texts.iter().filter(|(number, _)| sandboxed.contains(number)).flat_map(|(_, text)| children(text));
        let more: Vec<_> = children.filter(|child| !sandboxed.contains(child)).collect();
        if more.is_empty() {
            break;
        }
        sandboxed.extend(more);
    }
    let parents: BTreeMap<u32, u32> =
        texts.iter().flat_map(|(parent, text)| children(text).into_iter().map(|child| (child, *parent))).collect();
    // Those that are not sandboxed change their folder once at most, before they are another program.
    let changed = |number: &u32| texts[number].lines().find(|line| line.starts_with("chdir(\""));
    let current = |number: &u32| {
        let mut line = std::iter::successors(Some(*number), |number| parents.get(number).copied());
        let line = line.find_map(|number| changed(&number));
        line.map_or(folder.to_owned(), |line| PathBuf::from(line.split('"').nth(1).unwrap()))
    };
    for (number, text) in &texts {
        for line in text.lines().filter(|line| !line.contains(" = -1 ")) {
            let call = line.split('(').next().unwrap();
            if call.starts_with("execve") {
                let program = line.split('"').nth(1).unwrap_or_else(|| panic!("{line}")).to_owned();
                if sandboxed.contains(number) { &mut seen.sandboxed } else { &mut seen.started }.insert(program);
            } else if !sandboxed.contains(number) && writes(call, line) {
                seen.written.extend(paths(line, &current(number)));
            }
        }
    }
}

/// The processes that a process started.
fn children(text: &str) -> Vec<u32> {
    let forks = ["clone", "clone3", "fork", "vfork"];
    let lines = text.lines().filter(|line| forks.contains(&line.split('(').next().unwrap()));
    lines.filter_map(|line| line.rsplit(" = ").next()?.trim().parse().ok()).collect()
}

fn writes(call: &str, line: &str) -> bool {
    match call {
        "open" | "openat" | "openat2" => {
            ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| line.contains(flag))
        }
        "clone" | "clone3" | "fork" | "vfork" | "chdir" | "unshare" | "landlock_create_ruleset" => false,
        call => call.chars().all(|c| c.is_ascii_alphanumeric()),
    }
}

/// The paths in a line: `AT_FDCWD</folder>, "name"`, `"/absolute"`, or `"name"` in the folder `current`.
fn paths(line: &str, current: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folder = current.to_owned();
    let arguments = line.rsplit_once(") = ").map_or(line, |(arguments, _)| arguments);
    // What a link holds is no path that is written.
    let skipped = usize::from(line.starts_with("symlink"));
    let mut texts = 0;
    let mut rest = arguments;
    while let Some(at) = rest.find(['<', '"']) {
        let end = if rest.as_bytes()[at] == b'<' { '>' } else { '"' };
        let Some(length) = rest[at + 1..].find(end) else { break };
        let text = &rest[at + 1..at + 1 + length];
        if end == '>' {
            folder = PathBuf::from(text);
        } else {
            texts += 1;
            if texts > skipped {
                // Without `.` in it.
                found.push(
                    folder.join(text).components().filter(|part| *part != std::path::Component::CurDir).collect(),
                );
            }
        }
        rest = &rest[at + 2 + length..];
    }
    found
}

impl Seen {
    /// Nothing was done but what may be; `targets` is what the command was asked to write.
    #[track_caller]
    fn harmless(self, home: &Home, targets: &[PathBuf]) -> Self {
        let uv = |program: &str| program.starts_with(home.store().to_str().unwrap()) && program.ends_with("/uv");
        // The last is how the test becomes an ordinary user.
        let own = |started: &str| {
            started.ends_with("/setpriv")
                || started == program().to_str().unwrap()
                || started == "/proc/self/exe"
                || uv(started)
        };
        let other: Vec<_> = self.started.iter().filter(|started| !own(started)).collect();
        assert!(other.is_empty(), "`{}` started {other:?}", self.ran.line);
        let base =
            |started: &str| own(started) || started.starts_with("./program") || started.starts_with("/usr/bin/python3");
        let other: Vec<_> = self.sandboxed.iter().filter(|started| !base(started)).collect();
        assert!(other.is_empty(), "`{}` started {other:?} in the sandbox", self.ran.line);
        let allowed =
            [home.store(), home.folder().join("cache"), "/proc".into(), "/dev/null".into(), "/dev/tty".into()];
        // A file appears under its own name at the end.
        let whole = |path: &Path, target: &Path| {
            path == target || path.parent() == target.parent() && name(path).starts_with(".ekiben-")
        };
        let asked = |path: &Path| targets.iter().any(|target| whole(path, target) || Some(path) == target.parent());
        let may = |path: &Path| allowed.iter().any(|folder| path.starts_with(folder)) || asked(path);
        let other: Vec<_> = self.written.iter().filter(|path| !may(path)).collect();
        assert!(other.is_empty(), "`{}` wrote {other:?}", self.ran.line);
        self
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What runs when somebody runs it: leaves `pwned` beside it.
const EVIL: &str = "import os, pathlib\npathlib.Path(__file__).resolve().parent.joinpath('pwned').write_text('x')\n";

/// A project with all that other programs look for in a folder.
fn hostile(home: &Home, name: &str, requirements: &str) -> PathBuf {
    let project = home.tiny(name);
    let file = |path: &str, text: &str| home.write(&format!("{name}/{path}"), text);
    let manifest = fs::read_to_string(project.join("ekiben.yaml")).unwrap();
    file("ekiben.yaml", &manifest.replace("version: \"3.11\"", "version: \"3.11\"\n  requirements: requirements.txt"));
    file("requirements.txt", requirements);
    fs::remove_file(project.join("ekiben.lock")).unwrap();
    for path in [
        "pip.py",
        "pip/__main__.py",
        "sitecustomize.py",
        "usercustomize.py",
        "setup.py",
        "sub/setup.py",
        "encodings/__init__.py",
    ] {
        file(path, EVIL);
    }
    for program in ["uv", "python3", "python", "git", "keyring", "pip3"] {
        let path = file(program, "#!/bin/sh\ntouch \"$(dirname \"$0\")/pwned\"\n");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let elsewhere = home.folder().join("elsewhere");
    let uv = format!(
        "cache-dir = '{0}'\nkeyring-provider = 'subprocess'\nno-binary = true\nno-build = false\n[pip]\ntarget = '{0}'\n",
        elsewhere.display()
    );
    file("uv.toml", &uv);
    file(
        "pyproject.toml",
        "[project]\nname = 'x'\ndynamic = ['version', 'dependencies']\n[build-system]\nrequires = []\nbuild-backend = 'setup'\nbackend-path = ['.']\n",
    );
    file("pip.conf", &format!("[global]\ntarget = {}\n", elsewhere.display()));
    file(".netrc", "machine 127.0.0.1 login x password y\n");
    file(".python-version", "./python3\n");
    file(".env", "UV_CACHE_DIR=elsewhere\n");
    file(".git/config", "[core]\n\tfsmonitor = ./git\n\thooksPath = .\n\tsshCommand = ./git\n");
    project
}

#[test]
fn a_project_that_installers_would_run_is_locked_packed_and_built_without_running_it() {
    let home = Home::fetched();
    let project = hostile(&home, "project", "six==1.16.0\n");
    let lock = project.join("ekiben.lock");
    let bundle = project.join("tiny-1.ekiben");
    watched(&home, &project, &["validate"]).harmless(&home, &[]);
    let locked = watched(&home, &project, &["lock"]).harmless(&home, std::slice::from_ref(&lock));
    assert_eq!(locked.ran.code, Some(0), "{}", locked.ran.err);
    watched(&home, &project, &["pack"]).harmless(&home, &[lock.clone(), bundle.clone()]);
    let built = watched(&home, &project, &["build"]).harmless(&home, std::slice::from_ref(&lock));
    assert_eq!(built.ran.code, Some(0), "{}", built.ran.err);
    // Packages were compiled by the base's Python.
    assert!(built.sandboxed.contains("/usr/bin/python3.11"), "{:?}", built.sandboxed);
    for path in [bundle.as_path(), Path::new("tiny:1")] {
        let inspected = watched(&home, &project, &["inspect", path.to_str().unwrap()]);
        inspected.harmless(&home, &[]).ran.ok();
    }
    assert!(!project.join("pwned").exists() && !project.join("sub/pwned").exists());
    assert!(!home.folder().join("elsewhere").exists());
}

#[test]
fn requirements_that_only_code_could_install_are_refused_before_anything_starts() {
    let home = Home::fetched();
    for (number, requirements) in [
        "-e ./sub",
        "--editable ./sub",
        "--editable=./sub",
        "-r other.txt",
        "-e file:///FOLDER/sub",
        "-e git+file:///FOLDER",
        "sub @ file:///FOLDER/sub",
        "./sub",
        "sub @ git+https://h.example/sub.git",
        "https://h.example/sub.tar.gz",
        "six==1.16.0 --config-settings=--x=y\n--no-binary :all:",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("project{number}");
        let text = requirements.replace("/FOLDER", home.folder().join(&name).to_str().unwrap());
        let project = hostile(&home, &name, &text);
        home.write(&format!("{name}/other.txt"), "# more\n-e ./sub\n");
        for command in ["validate", "lock", "pack", "build"] {
            let seen = watched(&home, &project, &[command]).harmless(&home, &[]);
            let place = if requirements.starts_with("-r") { "other.txt:2:1" } else { "requirements.txt:1:1" };
            assert!(
                seen.ran.err.contains("EK0507") && seen.ran.err.contains(place),
                "{requirements}: {}",
                seen.ran.err
            );
            assert_eq!(seen.ran.code, Some(3), "{requirements}");
            assert_eq!(seen.started.len(), 1, "{requirements}: {:?}", seen.started);
        }
        assert!(!project.join("pwned").exists() && !project.join("sub/pwned").exists());
    }
}

#[test]
fn an_ordinary_users_installer_is_held_too_and_by_namespaces_where_there_is_no_landlock() {
    const NO_LANDLOCK: &str = "landlock_create_ruleset:error=ENOSYS";
    for home in [Home::fetched().of_a_user(), Home::fetched()] {
        let project = hostile(&home, "project", "six==1.16.0\n");
        let lock = project.join("ekiben.lock");
        let targets = std::slice::from_ref(&lock);
        let refused = watched_without(&home, &project, &["lock"], &[NO_LANDLOCK, "unshare:error=EPERM"]);
        refused.harmless(&home, targets).ran.ends(6).says("cannot be locked in").says("Landlock");
        watched_without(&home, &project, &["lock"], &[NO_LANDLOCK]).harmless(&home, targets).ran.ok();
        let namespaces = fs::read(&lock).unwrap();
        watched(&home, &project, &["lock", "--update"]).harmless(&home, targets).ran.ok();
        assert_eq!(fs::read(&lock).unwrap(), namespaces);
        watched(&home, &project, &["build"]).harmless(&home, targets).ran.ok();
        assert!(!project.join("pwned").exists());
    }
}

#[test]
fn a_pyproject_with_a_build_of_its_own_runs_nothing() {
    let home = Home::fetched();
    let project = hostile(&home, "project", "");
    let manifest = fs::read_to_string(project.join("ekiben.yaml")).unwrap();
    home.write("project/ekiben.yaml", manifest.replace("requirements.txt", "pyproject.toml"));
    watched(&home, &project, &["lock"]).harmless(&home, &[]).ran.says("EK0507");
    let build = "[build-system]\nrequires = []\nbuild-backend = 'setup'\nbackend-path = ['.']\n";
    let sources = "[tool.uv.sources]\nsub = { path = 'sub', editable = true }\n";
    home.write(
        "project/pyproject.toml",
        format!("[project]\nname = 'x'\nversion = '1'\ndependencies = ['six', 'sub']\n{build}{sources}"),
    );
    watched(&home, &project, &["lock"]).harmless(&home, &[]).ran.says("EK0507").says("pyproject.toml:10:7");
    home.write(
        "project/pyproject.toml",
        format!("[project]\nname = 'x'\nversion = '1'\ndependencies = ['six']\n{build}"),
    );
    let locked = watched(&home, &project, &["lock"]);
    locked.harmless(&home, &[project.join("ekiben.lock")]).ran.ok();
    assert!(!project.join("pwned").exists());
}

#[test]
fn models_that_run_commands_are_looked_at_and_not_loaded() {
    let home = Home::fetched();
    let project = hostile(&home, "project", "six==1.16.0\n");
    let canary = home.folder().join("pwned");
    let pickle = format!("cos\nsystem\n(S'touch {}'\ntR.", canary.display());
    let model = home.write("models/model.pkl", &pickle);
    home.write("models/sitecustomize.py", EVIL);
    let models = model.parent().unwrap().to_owned();
    let into = home.folder().join("made");
    let made: Vec<PathBuf> = ["ekiben.yaml", "requirements.txt", "src", "src/predict.py", "model.pkl", ""]
        .iter()
        .map(|name| into.join(name))
        .collect();
    for args in [
        vec!["init", "--from", model.to_str().unwrap(), into.to_str().unwrap()],
        vec!["convert", model.to_str().unwrap(), "--into", into.to_str().unwrap()],
        vec!["validate", model.to_str().unwrap()],
        vec!["inspect", project.to_str().unwrap()],
        vec!["metadata", "check", project.to_str().unwrap()],
    ] {
        watched(&home, &models, &args).harmless(&home, &made);
        assert!(!canary.exists() && !models.join("pwned").exists(), "{args:?}");
    }
}

#[test]
fn a_bento_and_a_bundle_of_a_hostile_project_run_nothing() {
    let home = Home::fetched();
    let project = hostile(&home, "bento", "six==1.16.0\n");
    for name in ["ekiben.yaml", "uv.toml", "pyproject.toml"] {
        fs::remove_file(project.join(name)).unwrap();
    }
    let description = "service: service:Svc\nname: hostile\nversion: '1'\nbentoml_version: 1.1.11\ncreation_time: '2024-01-01T00:00:00+00:00'\n\
                       labels: {}\nmodels: []\nrunners: []\napis: []\ndocker: {distro: debian, python_version: '3.11'}\n\
                       python: {lock_packages: true}\nconda: {}\n";
    home.write("bento/bento.yaml", description);
    home.write("bento/src/service.py", EVIL);
    home.write("bento/env/python/requirements.txt", "-e ./../../sub\n");
    watched(&home, &project, &["build", "."]).harmless(&home, &[]).ran.says("EK0507");
    // Packed before requirements were looked into: a lock that asks for a folder.
    let tiny = home.tiny("tiny");
    home.run(["pack", tiny.to_str().unwrap(), "--out", &home.path("tiny.ekiben")]).ok();
    let built = watched(&home, &project, &["build", &home.path("tiny.ekiben")]);
    built.harmless(&home, &[]).ran.ok();
    assert!(!project.join("pwned").exists() && !project.join("src/pwned").exists());
}
