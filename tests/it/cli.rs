//! The command line as people and scripts meet it: help, exit codes, streams, colours, JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::home::{self, Home, Ran, ran, tool};
use serde_json::Value;

const REFERENCE: &str = "docs/cli.md";

#[test]
fn the_reference_is_what_help_says() {
    let home = Home::empty();
    let help = |args: &[&str]| ran(home.command(args).env_remove("COLUMNS")).ok().out.replace("  \n", "\n");
    let top = help(&["--help"]);
    // A description that goes on in another line is indented more.
    let commands = |help: &str| {
        let list = help.split_once("Commands:\n").map_or("", |(_, rest)| rest.split_once("\n\n").unwrap().0);
        let lines = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut reference = format!(
        "# The command line\n\nWhat `--help` says, made by `EKIBEN_BLESS=1 cargo test --test it cli::`.\n\n## ekiben\n\n```text\n{top}```\n"
    );
    for command in commands(&top) {
        let text = help(&[&command, "--help"]);
        reference.push_str(&format!("\n## ekiben {command}\n\n```text\n{text}```\n"));
        for inner in commands(&text) {
            let text = help(&[&command, &inner, "--help"]);
            reference.push_str(&format!("\n### ekiben {command} {inner}\n\n```text\n{text}```\n"));
        }
    }
    if std::env::var_os("EKIBEN_BLESS").is_some() {
        fs::write(REFERENCE, &reference).unwrap();
    }
    let known = fs::read_to_string(REFERENCE).unwrap_or_default();
    assert!(known == reference, "{REFERENCE} is stale: EKIBEN_BLESS=1 cargo test --test it cli::");
}

#[test]
fn each_failure_has_its_exit_code() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    home.run(["validate", "tiny"]).ends(0);
    home.run(["export", "nothing:1", "x.tar"]).ends(1).says("there is no image `nothing:1`").says("ekiben images");
    home.run(["nonsense"]).ends(2).says("unrecognized subcommand");
    home.run(["build", "--platform", "linux/pdp11", "tiny"]).ends(2);
    home.write("broken/ekiben.yaml", "name: X\n");
    home.run(["validate", "broken"]).ends(3).says("ekiben.yaml:1:7");
    home.run(["build", "broken"]).ends(3).says("ekiben.yaml:1:7");
    home.write("tiny/ekiben.lock", "{}");
    home.run(["build", "tiny"]).ends(3).says("ekiben.lock");
    fs::remove_file(project.join("ekiben.lock")).unwrap();
    home.run(["build", "tiny", "--locked"]).ends(7).says("there is no ekiben.lock").says("ekiben lock");
    home.run(["lock", "tiny", "--check"]).ends(7);
    home.write("x.bento", "xz");
    home.run(["unpack", "x.bento"]).ends(1).says("a bento is no bundle").says("tar -xf");
    // 4 is in `tests/it/run.rs`.

    home.tiny("tiny");
    home.build("tiny");
    let without_namespaces = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let command = home.command(["run", "tiny:1"]);
    let mut confined = tool("unshare");
    confined.args(["--user", "--map-root-user", "sh", "-c", without_namespaces, "sh"]);
    confined.arg(command.get_program()).args(command.get_args()).env("EKIBEN_HOME", home.store());
    ran(&mut confined).ends(6).says("user.max_user_namespaces is 0").says("hint");

    let empty = Home::empty();
    empty.tiny("tiny");
    let offline = empty.run(["build", "tiny", "--offline"]).ends(5);
    assert!(offline.err.contains(".deb is needed") && offline.err.contains("--offline"), "{}", offline.err);
    fs::remove_file(empty.path("tiny/ekiben.lock")).unwrap();
    empty.run(["lock", "tiny", "--offline"]).ends(5).says("InRelease is needed");
    let nobody = format!("http://127.0.0.1:{}/debian", home::free_port());
    let mut unreachable = empty.command(["lock", "tiny"]);
    unreachable.env("EKIBEN_DEBIAN_MIRROR", &nobody).env("EKIBEN_DEBIAN_SECURITY_MIRROR", &nobody);
    ran(&mut unreachable).ends(5).says(&nobody);
}

/// The names that errors have in the source, by their exit codes.
fn error_names(folder: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    let codes = ["Failure", "Usage", "Invalid", "Mismatch", "Unavailable", "Sandbox", "Stale", "Refused"];
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            error_names(&path, found);
        }
        let text = match path.extension() {
            Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
            _ => continue,
        };
        let shipped = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        for rest in shipped.split("ErrorKind::").skip(1) {
            let Some((kind, rest)) = rest.split_once(".named(\"") else { continue };
            let Some(code) = codes.iter().position(|code| *code == kind.trim()) else { continue };
            let name = rest.split_once('"').unwrap().0;
            found.entry(name.to_owned()).or_default().insert((code + 1).to_string());
        }
    }
}

#[test]
fn each_error_has_a_name_of_its_own_and_is_in_the_table() {
    const PAGE: &str = "docs/exit-codes.md";
    let mut found = BTreeMap::new();
    error_names(Path::new("src"), &mut found);
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, codes) in found {
        assert!(codes.len() == 1, "`{name}` ends with {codes:?}");
        let parts: Vec<_> = name.split('/').collect();
        let plain = |part: &&str| part.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !part.is_empty();
        assert!(parts.len() == 2 && parts.iter().all(plain), "`{name}` is no SUBJECT/PROBLEM");
        rows.entry(codes.into_iter().next().unwrap()).or_default().push(format!("`{name}`"));
    }
    assert_eq!(rows.len(), 8, "{rows:?}");
    let table: String = rows.iter().map(|(code, names)| format!("| {code} | {} |\n", names.join(", "))).collect();
    let page = fs::read_to_string(PAGE).unwrap();
    let (head, _) = page.split_once("| code | names |").unwrap();
    let new = format!("{head}| code | names |\n|---|---|\n{table}");
    if std::env::var_os("EKIBEN_BLESS").is_some() {
        fs::write(PAGE, &new).unwrap();
    }
    assert!(fs::read_to_string(PAGE).unwrap() == new, "{PAGE} is stale: EKIBEN_BLESS=1 cargo test --test it cli::");
}

#[test]
fn who_has_no_operator_is_told_how_to_get_it() {
    let home = Home::empty();
    fs::create_dir(home.path("bin")).unwrap();
    home::install(home::program(), home.path("bin/ekiben"));
    let mut command = std::process::Command::new(home.path("bin/ekiben"));
    command.args(["operator", "manifests"]).env("PATH", home.path("bin")).env("EKIBEN_HOME", home.store());
    ran(&mut command)
        .ends(2)
        .says("`ekiben-operator` cannot be started")
        .says("cargo install ekiben --features operator");
    // What it gets goes on as it is.
    home.write("script", "#!/bin/sh\necho \"$@\"\n");
    home::install(home.path("script"), home.path("bin/ekiben-operator"));
    let mut command = std::process::Command::new(home.path("bin/ekiben"));
    command.args(["operator", "run", "--build-here", "--help", "-v"]);
    assert_eq!(ran(&mut command).ok().out, "run --build-here --help -v\n");
}

#[test]
fn a_warm_store_needs_no_network() {
    let home = Home::warm();
    home.tiny("tiny");
    let digest = home.run(["build", "tiny", "--offline"]).ok().out;
    // Another folder, so that nothing but the downloads and the layers is known.
    home.tiny("other");
    let mut again = home.command(["build", "other"]);
    again.env("EKIBEN_OFFLINE", "1").env("http_proxy", "http://127.0.0.1:1").env("https_proxy", "http://127.0.0.1:1");
    assert_eq!(ran(&mut again).ok().out, digest);
}

/// The keys of a JSON object, and of the objects in its lists.
fn keys(value: &Value) -> String {
    let object = value.as_object().unwrap();
    let key = |(key, value): (&String, &Value)| match value {
        Value::Array(list) if list.first().is_some_and(Value::is_object) => format!("{key}[{}]", keys(&list[0])),
        _ => key.clone(),
    };
    object.iter().map(key).collect::<Vec<_>>().join(" ")
}

#[test]
fn json_has_the_keys_that_scripts_rely_on() {
    let home = Home::warm();
    home.tiny("tiny");
    home.write("empty/model.json", "1");
    home.write("broken/ekiben.yaml", "name: X\n");
    let json = |args: &[&str], code: i32| {
        let Ran { out, err, .. } = home.run(args.iter().chain(&["--output", "json"])).ends(code);
        assert_eq!(err, "", "{args:?}");
        serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{args:?}: {error}\n{out}"))
    };
    let layer = "compression diff_id digest shared_with size title";
    for (args, expected) in [
        (&["init", "empty"][..], "diagnostics kept loosened placed proposal size written".to_owned()),
        (&["validate", "tiny"], "diagnostics errors files projects warnings".to_owned()),
        (&["lock", "tiny"], "lock path".to_owned()),
        (&["pack", "tiny"], "digest name path size version".to_owned()),
        (&["build", "tiny"], "digest layers name platforms size".to_owned()),
        (&["images"], "images[digest layers name named platform size]".to_owned()),
        (
            &["inspect", "tiny:1"],
            format!(
                "annotations command digest entrypoint env layers[{layer}] name packages platform ports size user verified"
            ),
        ),
        (
            &["inspect", "tiny-1.ekiben"],
            format!("digest layers[{layer}] members[digest path size] name packages path vendored verified version"),
        ),
        (&["export", "tiny:1", "tiny.tar"], "digest image path size".to_owned()),
        (&["ps", "--all"], "containers".to_owned()),
        (&["df"], "kinds[bytes caches items kind unused] store".to_owned()),
    ] {
        assert_eq!(keys(&json(args, 0)), expected, "{args:?}");
    }
    home.run(["rmi", "tiny:1"]).ok();
    assert_eq!(keys(&json(&["prune"], 0)), "bytes items removed[bytes kind name]");
    assert_eq!(json(&["validate", "broken"], 3)["errors"].as_u64().map(|errors| errors > 0), Some(true));
    // What goes wrong is one JSON document too, on stderr.
    let failed = home.run(["export", "nothing:1", "x", "--output", "json"]).ends(1);
    let document: Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!(keys(&document["error"]), "causes exit_code hint message name");
    assert_eq!(document["error"]["name"], "store/no-image");
    assert_eq!(failed.out, "");
}

#[test]
fn diagnostics_are_a_part_of_the_one_document() {
    let home = Home::warm();
    home.tiny("tiny");
    home.write("broken/ekiben.yaml", "name: X\nversion: 1.0\nlabels: {a: yes}\n");
    let said = |args: &[&str], code: i32| -> Value {
        let ran = home.run(args.iter().chain(&["--output", "json"])).ends(code);
        serde_json::from_str(&ran.err).unwrap_or_else(|error| panic!("{args:?}: {error}\n{}", ran.err))
    };
    for args in [
        &["build", "broken"][..],
        &["test", "broken"],
        &["lock", "broken"],
        &["pack", "broken"],
        &["run", "broken"],
        &["train", "broken"],
        &["sbom", "broken"],
        &["serve", "./broken"],
        &["invoke", "./broken", "-d", "1"],
        &["deploy", "broken", "--push", "registry.example/a"],
        &["metadata", "show", "broken/ekiben.yaml"],
        &["build", "nowhere/"],
    ] {
        let document = said(args, 3);
        let found = document["error"]["diagnostics"].as_array().unwrap_or_else(|| panic!("{args:?}: {document:#}"));
        let each: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        assert!(!found.is_empty() && each.len() == found.len(), "{args:?}: {document:#}");
        assert!(
            found.iter().all(|one| one["code"].is_string() && one["message"].is_string()),
            "{args:?}: {document:#}"
        );
        assert_eq!(document.as_object().unwrap().len(), 1, "{args:?}");
    }
    // What all goes on with is said in one, too.
    let manifest = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    home.write("tiny/ekiben.yaml", format!("{manifest}labels: {{owner: yes}}\n"));
    let document = said(&["build", "tiny"], 0);
    assert_eq!(keys(&document), format!("diagnostics[{}]", keys(&document["diagnostics"][0])), "{document:#}");
    assert_eq!(document["diagnostics"][0]["code"], "EK0110");
}

#[test]
fn folders_that_cannot_be_used_are_called_so() {
    let home = Home::warm().of_a_user();
    if !home.is_a_users() {
        return;
    }
    home.tiny("tiny");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(home.path(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("tiny", 0o000);
    for command in ["validate", "build", "lock"] {
        let ran = home
            .run([command, "tiny"])
            .ends(3)
            .says("tiny: error[EK0001]: the folder cannot be read: permission denied");
        assert!(!ran.err.contains("ekiben init"), "{}", ran.err);
        home.run([command, "tiny/ekiben.yaml"])
            .ends(3)
            .says("error[EK0001]: the file cannot be read: permission denied");
    }
    mode("tiny", 0o755);
    fs::remove_file(home.path("tiny/ekiben.lock")).unwrap();
    mode("tiny", 0o555);
    let refused =
        home.run(["lock", "tiny", "--offline"]).ends(1).says("cannot write tiny/ekiben.lock: Permission denied");
    refused.says("hint: let the lock be made where the folder can be written to");
    mode("tiny", 0o755);
    for (args, is_needed) in
        [(&["init"][..], true), (&["test"], true), (&["validate", "../tiny"], true), (&["images"], false)]
    {
        fs::create_dir(home.path("gone")).unwrap();
        let mut wrapped = tool("sh");
        wrapped.args(["-c", "cd gone && rmdir \"$PWD\" && exec \"$0\" \"$@\""]).arg(home::program()).args(args);
        let ended = ran(wrapped.current_dir(home.folder()).env("EKIBEN_HOME", home.store()));
        if is_needed {
            assert_eq!(ended.ends(1).err, "error: the current folder is gone\n hint: go to another one with `cd`\n");
        } else {
            ended.ok();
        }
    }
    // What is not there has no mistakes.
    home.run(["build", "nowhere/"]).ends(3).says("error: nowhere/ is no project");
    fs::create_dir(home.path("empty")).unwrap();
    for path in ["empty", "nowhere"] {
        let ended = home.run(["validate", path]).ends(3).says("error[EK0301]");
        assert!(ended.out.starts_with("nothing to check: 1 error"), "{}", ended.out);
    }
    home.write("zero.pkl", "");
    home.run(["validate", "zero.pkl"]).ends(3).says("zero.pkl: error[EK0006]: the file is empty");
}

#[test]
fn each_rule_is_listed_and_explained() {
    let home = Home::empty();
    let listed = home.run(["explain"]).ok().out;
    assert!(listed.starts_with("EK0001 the file cannot be read\n") && listed.lines().count() > 100, "{listed}");
    home.run(["explain", "EK9999"]).ends(2).says("there is no rule `EK9999`: `ekiben explain` lists all");
    assert_eq!(home.run(["explain", "--output", "json"]).ok().json()[0]["code"], "EK0001");
}

#[test]
fn stdout_carries_the_result_alone() {
    let home = Home::warm();
    home.tiny("tiny");
    let built = home.run(["build", "tiny"]).ok();
    assert!(built.out.starts_with("sha256:") && built.out.len() == 72, "{}", built.out);
    assert!(built.err.contains("Built tiny:1"), "{}", built.err);
    assert_eq!(home.run(["pack", "tiny"]).ok().out, "tiny-1.ekiben\n");
    assert_eq!(home.run(["pack", "tiny", "-o", "."]).ok().out, "./tiny-1.ekiben\n");
    assert_eq!(home.run(["lock", "tiny"]).ok().out, "tiny/ekiben.lock\n");
    for args in [["build", "tiny", "--quiet"], ["pack", "tiny", "--quiet"], ["validate", "tiny", "--quiet"]] {
        assert_eq!(home.run(args).ok().err, "", "{args:?}");
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let home = Home::warm();
    home.tiny("tiny");
    home.write("broken/ekiben.yaml", "name: X\n");
    for args in [["build", "tiny"], ["validate", "broken"], ["export", "nothing:1"]] {
        let Ran { out, err, .. } = home.run(args);
        assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}') && !err.contains('\r'), "{args:?}: {out}{err}");
    }
    let always = home.run(["validate", "broken", "--color", "always"]).ends(3);
    assert!(always.err.contains("\u{1b}["), "{}", always.err);
    // In a terminal, which script(1) makes.
    let program = home::program().display();
    let terminal = |variable: &str| {
        let mut script = tool("script");
        script.args(["--quiet", "--return", "--command", &format!("{program} validate broken"), "/dev/null"]);
        script.current_dir(home.folder()).env_remove("NO_COLOR").env("TERM", "xterm").env(variable, "1");
        ran(&mut script).ends(3).out
    };
    assert!(terminal("NOTHING").contains("\u{1b}[1m\u{1b}[31m") || terminal("NOTHING").contains("\u{1b}[1;31m"));
    assert!(!terminal("NO_COLOR").contains('\u{1b}'), "{:?}", terminal("NO_COLOR"));
}

#[test]
fn what_makes_an_image_large_is_named_with_what_avoids_it() {
    let home = Home::warm();
    let tiny = home.tiny("tiny");
    home.run(["lock", "tiny"]).ok();
    let lock = tiny.join("ekiben.lock");
    let mut locked: Value = serde_json::from_str(&fs::read_to_string(&lock).unwrap()).unwrap();
    let package = |name: &str| serde_json::json!({ "name": name, "version": "2.4.1", "digests": [] });
    let names = ["torch", "nvidia-nccl-cu12", "numpy"].map(package);
    locked["platforms"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(|platform| platform["python"] = names.clone().into());
    fs::write(&lock, locked.to_string()).unwrap();
    home.run(["pack", "tiny", "--locked"]).ok();
    let shown = home.run(["inspect", "tiny-1.ekiben"]).ok().out;
    let said = "\nlargest Python packages\n           nvidia-nccl-cu12 2.4.1\n           torch 2.4.1\nhint: without a GPU, \
                take torch from its index of CPU builds (`[tool.uv.sources]`)\n";
    assert!(shown.ends_with(said), "{shown}");
    let json = home.run(["inspect", "tiny-1.ekiben", "--output", "json"]).ok().json();
    assert_eq!(json["packages"][1]["name"], "torch", "{json}");
    assert!(json["packages"][1]["saving"].as_str().is_some_and(|saving| saving.contains("CPU builds")), "{json}");
}

#[test]
fn a_closed_pipe_is_no_disaster() {
    let home = Home::warm();
    home.tiny("tiny");
    home.build("tiny");
    let printing =
        ["images", "images --output json", "inspect tiny:1", "export tiny:1 -", "completions bash", "build tiny"];
    let testing = [
        "df",
        "doctor",
        "test tiny --output json",
        "invoke ./tiny x=2",
        "validate tiny --output sarif",
        "schema manifest",
    ];
    for args in printing.iter().chain(&testing).chain(&["--help"]) {
        let args: Vec<_> = args.split(' ').collect();
        let (nobody, writer) = std::io::pipe().unwrap();
        drop(nobody);
        let output = home.command(&args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() != Some(101) && !said.contains("panicked"), "{args:?}: {said}");
        assert!(!said.contains("error"), "{args:?}: {said}");
        // As the kernel ends any program that writes there.
        let is_shown_by_clap = args == ["--help"];
        assert!(is_shown_by_clap || output.status.signal() == Some(13), "{args:?}: {:?} {said}", output.status);
    }
    // Who follows a log is not kept until it ends.
    let name =
        home.run(["run", "tiny:1", "--detach", "--", "sh", "-c", "while :; do echo x; sleep 0.1; done"]).ok().out;
    let mut follows = home.command(["logs", "--follow", name.trim()]).stdout(Stdio::piped()).spawn().unwrap();
    drop(follows.stdout.take());
    assert_eq!(follows.wait().unwrap().signal(), Some(13));
    home.run(["stop", "--grace", "0", "--remove", name.trim()]).ok();
    // Where stdout is full, the store is not.
    for args in ["images", "df", "validate tiny --output json"] {
        let full = fs::File::create("/dev/full").unwrap();
        let mut command = home.command(args.split(' '));
        let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("stdout cannot be written to"), "{said}");
        assert!(said.contains("where it is redirected to") && !said.contains("prune"), "{said}");
    }
}

#[test]
fn all_that_is_said_beside_json_is_json() {
    let home = Home::warm();
    let tiny = home.tiny("tiny");
    let code = fs::read_to_string(tiny.join("src/predict.py")).unwrap();
    let code = code + "\nprint('\\x1b[1mimported')\nraise ValueError('no model')\n";
    fs::write(tiny.join("src/predict.py"), code).unwrap();
    let said = |args: &[&str], key: &str| {
        let mut command = home.command([args, &["--output", "json"]].concat());
        let err = ran(command.env("DOCKER_CONFIG", home.path("docker"))).err;
        let lines: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.iter().any(|line| line[key].is_string()), "{args:?}: {err}");
        err
    };
    let failed = said(&["test", "tiny"], "log");
    assert!(failed.contains("imported") && failed.contains(r#"{"log":"ValueError: no model"}"#), "{failed}");
    assert!(failed.lines().last().is_some_and(|last| last.starts_with(r#"{"error":"#)), "{failed}");
    home.write("docker/config.json", r#"{"credsStore": "not-there"}"#);
    said(&["pull", "127.0.0.1:1/x:1", "--verbose"], "detail");
}

#[test]
fn a_store_that_cannot_be_is_named_and_looking_makes_none() {
    let home = Home::empty();
    home.tiny("tiny");
    fs::create_dir(home.path("empty")).unwrap();
    for store in ["/proc/none", &home.path("not/there"), &home.path("empty")] {
        let run = |args: &[&str]| ran(home.command(args).env("EKIBEN_HOME", store));
        for args in ["images", "ps", "df"] {
            run(&[args]).ok();
        }
        // A shell that asks for names.
        ran(home.command(["--", "ekiben", "push", ""]).env("EKIBEN_HOME", store).env("EKIBEN_COMPLETE", "fish")).ok();
        let is_empty = fs::read_dir(store).is_ok_and(|mut entries| entries.next().is_none());
        assert!(is_empty || !Path::new(store).exists(), "{store}");
    }
    let unusable = ran(home.command(["build", "tiny"]).env("EKIBEN_HOME", "/proc/none")).ends(1);
    unusable.says("error: the store /proc/none cannot be used\ncause: ").says("hint: EKIBEN_HOME names another folder");
}

#[test]
fn completions_are_read_by_their_shells() {
    let home = Home::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(["completions", shell]).ok().out;
        assert!(script.contains("EKIBEN_COMPLETE"), "{shell}");
        home.write(shell, script);
    }
    ran(tool("bash").arg("-n").arg(home.path("bash"))).ok();
}

#[test]
fn a_project_that_init_makes_goes_the_whole_way() {
    let home = Home::warm();
    home.write("line/line.json", r#"{"slope": 2}"#);
    home.run(["init", "line", "--from", "line/line.json"]).ok();
    home.run(["validate", "line"]).ok().says("EK0409");
    home.run(["init", "line"]).ends(1).says("ekiben validate");
    home.run(["test", "line"]).ends(2).says("no tests");
    let code = fs::read_to_string(home.path("line/src/predict.py")).unwrap();
    let filled = "import json\n    slope = json.loads((MODEL / \"line.json\").read_text())[\"slope\"]\n    \
                  return [slope * row[0] for row in features]";
    let code = code.replace("raise NotImplementedError(\"load the model and call it here\")", filled);
    home.write("line/src/predict.py", code);
    home.run(["validate", "line", "--strict"]).ok();
    let manifest = fs::read_to_string(home.path("line/ekiben.yaml")).unwrap();
    let tests = "\ntests:\n  - {name: two rows, request: {features: [[1.0], [2.0]]}, expect: [2.0, 4.0]}\n";
    home.write("line/ekiben.yaml", manifest + tests);
    let tested = home.run(["test", "line"]).ok();
    assert!(tested.out.contains("✓ two rows") && tested.out.contains("the answer is as expected"), "{}", tested.out);
}

#[test]
fn what_is_shown_of_a_damaged_bundle_or_image_is_not_called_whole() {
    let home = Home::warm();
    home.tiny("tiny");
    home.build("tiny");
    home.run(["pack", "tiny"]).ok();
    let verified = |args: &[&str]| home.run(args.iter().chain(&["--output", "json"])).ok().json()["verified"].clone();
    for target in ["tiny-1.ekiben", "tiny:1"] {
        assert_eq!(verified(&["inspect", target]), false);
        assert_eq!(verified(&["inspect", target, "--verify"]), true);
        let shown = home.run(["inspect", target]).ok().out;
        assert!(shown.lines().nth(1).unwrap().ends_with("  not verified"), "{shown}");
        let shown = home.run(["inspect", target, "--verify"]).ok().out;
        assert!(shown.lines().nth(1).unwrap().ends_with("  verified"), "{shown}");
    }
    let whole = fs::read(home.path("tiny-1.ekiben")).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        home.write("bad.ekiben", bytes);
        home.run(["inspect", "bad.ekiben"])
    };
    // A byte of the content costs a look at all of it.
    let shown = with(&|bytes| bytes[5000] ^= 1).ok();
    assert!(shown.out.contains("not verified"), "{}", shown.out);
    home.run(["inspect", "bad.ekiben", "--verify"]).ends(1).says("is damaged");
    // What is missing or of another size does not.
    with(&|bytes| bytes[..4000].fill(0)).ends(1).says("the frame at byte 0 is not the one that its table names");
    with(&|bytes| drop(bytes.drain(5000..5100))).ends(1).says("its table of frames does not fit its length");
    with(&|bytes| bytes.truncate(bytes.len() - 1)).ends(1);
    let end = whole.len() - 9 - 8 - 8 - 8;
    with(&|bytes| bytes[end - 20] ^= 1).ends(1).says("is not a bundle that can be read");

    let layer = home.run(["inspect", "tiny:1", "--output", "json"]).ok().json()["layers"][0]["digest"].clone();
    let blob = home.store().join("blobs/sha256").join(layer.as_str().unwrap().trim_start_matches("sha256:"));
    let bytes = fs::read(&blob).unwrap();
    // A new file: others have the old one too.
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, &bytes[1..]).unwrap();
    home.run(["inspect", "tiny:1"]).ends(1).says("the content has");
}

/// What is told of a lock that does not fit the manifest.
#[test]
fn a_stale_lock_says_what_differs() {
    let home = Home::empty();
    let check = |manifest: &str, requirements: &str, lock: &str| {
        home.write("p/ekiben.yaml", format!("name: p\nservice: {{command: [python, -V]}}\n{manifest}"));
        home.write("p/requirements.txt", requirements);
        home.write("p/ekiben.lock", lock);
        home.run(["lock", "p", "--check"]).ends(7)
    };
    let lock = |python: &str, base: &str, packages: &str| {
        let digest = format!("sha256:{}", "0".repeat(64));
        let packages: Vec<_> = packages
            .split_whitespace()
            .map(|one| one.split_once('=').unwrap())
            .map(|(name, version)| format!(r#"{{"name": "{name}", "version": "{version}", "digests": ["{digest}"]}}"#))
            .collect();
        format!(
            r#"{{"lock": 1, "input": "{digest}", "python": "{python}", "platforms": {{"linux/amd64": {{"base": {base}, "python": [{}]}}}}}}"#,
            packages.join(", ")
        )
    };
    let debian = r#"{"debian": {"suite": "bookworm", "packages": []}}"#;
    let file = "python: {version: '3.11', requirements: requirements.txt}\nplatforms: [linux/amd64]\n";
    let text = "six\npandas<2\nnumpy>=1\n";
    let said = check(file, text, &lock("3.11", debian, "six=1.16.0 pandas=2.1.0"));
    assert!(said.err.contains("it has pandas 2.1.0, not `pandas<2` (p/requirements.txt:2:1)"), "{said:?}");
    assert!(said.err.contains("it lacks `numpy>=1` (p/requirements.txt:3:1)"), "{said:?}");
    assert!(!said.err.contains("six"), "{said:?}");
    // Each in a line of its own.
    for line in [
        "error: ekiben.lock does not fit the manifest any more",
        "cause: it has pandas 2.1.0",
        "cause: it lacks `numpy",
    ] {
        assert!(said.err.lines().any(|said| said.starts_with(line)), "{line}: {said:?}");
    }
    check(file, "six\n", &lock("3.13", debian, "six=1")).says("it is for Python 3.13, not 3.11");
    let other = format!("{file}base: debian:trixie\n").replace("3.11", "3.13");
    check(&other, "six\n", &lock("3.13", debian, "six=1")).says("its base is debian:bookworm, not debian:trixie");
    let two = file.replace("linux/amd64", "linux/amd64, linux/arm64");
    check(&two, "six\n", &lock("3.11", debian, "six=1")).says("it is not for linux/arm64");
    let system = format!("{file}system: {{packages: [libgomp1]}}\n");
    check(&system, "six\n", &lock("3.11", debian, "six=1")).says("it lacks `libgomp1`");
    check(file, "six\n", &lock("3.11", debian, "six=1 h11=1")).says("something that it follows from was taken away");
}

#[test]
fn what_is_called_similar_is_similar() {
    let home = Home::empty();
    home.run(["build", "--lokced"]).ends(2).says("a similar argument exists: '--locked'");
    home.run(["biuld"]).ends(2).says("a similar subcommand exists: 'build'");
    home.run(["gc"]).ends(2).says("a similar subcommand exists: 'prune'");
    // Only what starts a program takes options that are not its own.
    assert!(!home.run(["rm", "--all"]).ends(2).err.contains("-- --all"));
    home.run(["build", "--output", "xml"]).ends(2).says("[possible values: human, json]");
    home.run(["run", "--detached"]).ends(2).says("a similar argument exists: '--detach'");
    for arguments in
        [&["run", "--export-env"][..], &["pack", "--quiet-out"], &["build", "--template"], &["invoke", "--ready"]]
    {
        let said = home.run(arguments).ends(2);
        assert!(!said.err.contains("similar"), "{said:?}");
    }
}

#[test]
fn cargo_run_starts_this_program() {
    // Of several, cargo starts none unless it is told which: the README's first command.
    let package: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    assert_eq!(package["package"]["default-run"].as_str(), Some("ekiben"));
}
