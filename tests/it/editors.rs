//! What editors and shells are given: the schema as YAML's language server and the JSON Schema Store take it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::home::{Home, python_program, ran, tool};

const STORE: &str = "schemas/store";

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The form of the JSON Schema Store: a file for its `src/schemas/json`, and an entry for its catalogue.
#[test]
fn the_schema_store_gets_what_it_takes() {
    const ID: &str = "https://json.schemastore.org/ekiben.json";
    let text = fs::read_to_string("schemas/manifest.schema.json").unwrap();
    let (head, rest) = text.split_once("\n  \"title\": \"Manifest\"").unwrap();
    let schema = format!("{head}\n  \"$id\": \"{ID}\",\n  \"title\": \"Ekiben manifest\"{rest}");
    let names = ekiben::project::manifest::NAMES.iter().filter(|name| !name.ends_with(".json5")).collect::<Vec<_>>();
    let entry = json!({ "name": "Ekiben", "description": "A model, what it needs, and how it answers", "fileMatch": names, "url": ID });
    let entry = serde_json::to_string_pretty(&entry).unwrap() + "\n";
    let files = [("ekiben.json", schema), ("catalog-entry.json", entry)];
    for (name, text) in files {
        let path = Path::new(STORE).join(name);
        if std::env::var_os("EKIBEN_BLESS").is_some() {
            fs::create_dir_all(STORE).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == text,
            "{path:?} is stale: EKIBEN_BLESS=1 cargo test --test it editors::"
        );
    }
    let schema = read("schemas/store/ekiben.json");
    assert_eq!((&schema["$schema"], &schema["$id"]), (&json!("http://json-schema.org/draft-07/schema#"), &json!(ID)));

    let checker = python_program("check-jsonschema", "check-jsonschema==0.39.0");
    let check =
        |args: &[&str]| ran(Command::new(&checker).args(args).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")));
    check(&["--check-metaschema", "schemas/store/ekiben.json"]).ok();
    let of_store = |file: &str| check(&["--schemafile", "schemas/store/ekiben.json", file]);
    for file in [
        "fixtures/iris/ekiben.yaml",
        "fixtures/tiny/ekiben.yaml",
        "fixtures/picture/ekiben.yaml",
        "examples/c/ekiben.yaml",
    ] {
        of_store(file).ok();
    }
    of_store("fixtures/invalid/unknown-key.yaml").ends(1);
}

/// Asks YAML's language server, as editors do.
struct Editor {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    count: u64,
}

impl Editor {
    fn send(&mut self, message: Value) {
        let text = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
    }

    fn next(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "the language server has ended");
            if let Some(text) = line.strip_prefix("Content-Length: ") {
                length = text.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut text = vec![0; length];
        self.from.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.count += 1;
        let id = self.count;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.next();
            if message.get("method").is_some() && message.get("id").is_some() {
                // It asks for settings, and has none.
                self.send(json!({ "jsonrpc": "2.0", "id": message["id"], "result": [null, null, null, null, null] }));
            } else if message["id"] == id {
                return message["result"].clone();
            }
        }
    }

    /// Opens a file and gives what is wrong with it.
    fn open(&mut self, path: &Path) -> Vec<String> {
        let uri = format!("file://{}", path.display());
        let text = fs::read_to_string(path).unwrap();
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.send(
            json!({ "jsonrpc": "2.0", "method": "textDocument/didOpen", "params": { "textDocument": document } }),
        );
        loop {
            let message = self.next();
            if message.get("method").is_some() && message.get("id").is_some() {
                self.send(json!({ "jsonrpc": "2.0", "id": message["id"], "result": [null, null, null, null, null] }));
            } else if message["method"] == "textDocument/publishDiagnostics" && message["params"]["uri"] == uri.as_str()
            {
                let faults = message["params"]["diagnostics"].as_array().unwrap();
                return faults.iter().map(|fault| fault["message"].as_str().unwrap().to_owned()).collect();
            }
        }
    }
}

/// The server, installed once.
fn language_server() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("yaml-language-server-1.25.0");
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let program = folder.join("node_modules/.bin/yaml-language-server");
    if !program.exists() {
        let mut npm = tool("npm");
        npm.args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"]).arg(&folder);
        ran(npm.arg("yaml-language-server@1.25.0")).ok();
    }
    program
}

#[test]
fn an_editor_checks_and_completes_what_init_writes() {
    let home = Home::empty();
    // A checkout has the schema, and `init` names it.
    fs::create_dir_all(home.path("schemas")).unwrap();
    fs::copy("schemas/manifest.schema.json", home.path("schemas/manifest.schema.json")).unwrap();
    home.write("models/line/line.json", "{\"slope\": 2}");
    home.run(["init", "models/line"]).ok();
    let path = home.folder().join("models/line/ekiben.yaml");
    let manifest = fs::read_to_string(&path).unwrap();
    assert!(manifest.starts_with("# yaml-language-server: $schema=../../schemas/manifest.schema.json\n"), "{manifest}");

    let mut command = Command::new(language_server());
    let mut child =
        command.arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut editor = Editor { to, from, count: 0 };
    let can = json!({ "textDocument": { "hover": { "contentFormat": ["markdown"] }, "completion": {} } });
    editor.ask("initialize", json!({ "processId": null, "rootUri": null, "capabilities": can }));
    editor.send(json!({ "jsonrpc": "2.0", "method": "initialized", "params": {} }));
    assert_eq!(editor.open(&path), [""; 0]);

    let line = "# yaml-language-server: $schema=../../schemas/manifest.schema.json\n";
    let wrong =
        home.write("models/line/wrong.yaml", format!("{line}name: line\nservise: {{}}\nservice: {{port: many}}\n"));
    let faults = editor.open(&wrong).join("\n");
    assert!(faults.contains("servise") && faults.contains("Incorrect type"), "{faults}");
    let begun = home.write("models/line/begun.yaml", format!("{line}name: line\nservice:\n  pre\n"));
    editor.open(&begun);
    let at = |path: &Path, line: u32, character: u32| json!({ "textDocument": { "uri": format!("file://{}", path.display()) }, "position": { "line": line, "character": character } });
    let offered = editor.ask("textDocument/completion", at(&begun, 3, 5));
    let labels: Vec<_> =
        offered["items"].as_array().unwrap().iter().map(|item| item["label"].as_str().unwrap()).collect();
    assert!(labels.contains(&"predict"), "{labels:?}");
    let hovered = editor.ask("textDocument/hover", at(&begun, 1, 1)).to_string();
    assert!(hovered.contains("What bundle and image are called") && hovered.contains("iris"), "{hovered}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What is typed into each shell, and what stands there then.
const TYPED: [(&str, &str); 20] = [
    ("ekiben val<TAB>", "ekiben validate"),
    ("ekiben build --plat<TAB>", "--platform"),
    ("ekiben build --platform linux/ar<TAB>", "linux/arm64"),
    ("ekiben test --engine pod<TAB>", "--engine podman"),
    ("ekiben build --color alw<TAB>", "--color always"),
    ("ekiben build --base debian:trix<TAB>", "debian:trixie"),
    ("ekiben explain EK080<TAB><TAB>", "EK0802"),
    ("ekiben rmi tin<TAB>", "ekiben rmi tiny:1"),
    ("ekiben rmi tiny:<TAB>", "ekiben rmi tiny:1"),
    ("ekiben inspect ti<TAB><TAB>", "tiny:1"),
    ("ekiben sign tiny:<TAB>", "sign tiny:1"),
    ("ekiben export ti<TAB>", "export tiny:1"),
    ("ekiben logs named<TAB>", "logs named-by-me"),
    ("ekiben stop nam<TAB>", "stop named-by-me"),
    ("ekiben test pro<TAB>", "ekiben test project/"),
    ("ekiben data get meas<TAB>", "get measurements.csv"),
    ("ekiben test my<TAB>", r"test my\ projects/"),
    (r"ekiben test my\ projects/on<TAB>", r"test my\ projects/one/"),
    ("ekiben test ~/my<TAB>", r"test ~/my\ projects/"),
    ("ekiben test 'my projects/on<TAB>", "test 'my projects/one"),
];

#[test]
fn shells_complete_images_containers_projects_and_values() {
    let home = Home::warm();
    home.tiny("project");
    home.build("project");
    home.tiny("my projects/one");
    home.tiny("q'x");
    home.run(["run", "tiny:1", "--detach", "-p", "0", "--name", "named-by-me"]).ok();
    home.write("measurements.csv", "1\n");
    home.run(["data", "add", "measurements.csv"]).ok();
    fs::remove_file(home.path("measurements.csv")).unwrap();
    for (shell, name) in [("bash", "bash"), ("zsh", "zfunc/_ekiben"), ("fish", "fish")] {
        let script = home.run(["completions", shell]).ok().out;
        home.write(&format!("scripts/{name}"), script);
    }
    let zsh = "fpath=(scripts/zfunc $fpath); autoload -U compinit; compinit -u -d scripts/dump; echo rea''dy<ENTER>";
    for (shell, args, begin, within_quotes) in [
        ("bash", &["--noprofile", "--norc", "-i"][..], "source scripts/bash; echo rea''dy<ENTER>", r"'q'\''x/"),
        ("zsh", &["-f", "-i"], zsh, r"'q'\''x/"),
        ("fish", &["--no-config", "-i"], "source scripts/fish; echo rea''dy<ENTER>", r"'q\'x/"),
    ] {
        let within_quotes = ("ekiben test 'q<TAB>", within_quotes);
        let typed = [(begin, "ready")]
            .into_iter()
            .chain(TYPED)
            .chain([within_quotes])
            .map(|(typed, wanted)| format!("{typed}\t{wanted}\n"));
        let typed = home.write("typed", typed.collect::<String>());
        let mut command = tool("python3");
        command
            .arg(Path::new("tests/it/home/typed.py").canonicalize().unwrap())
            .arg(tool(shell).get_program())
            .args(args);
        let path = format!("{}:{}", crate::home::program().parent().unwrap().display(), std::env::var("PATH").unwrap());
        command
            .current_dir(home.folder())
            .env("PATH", path)
            .env("EKIBEN_HOME", home.store())
            .env("HOME", home.folder());
        let said = ran(command.stdin(fs::File::open(typed).unwrap()));
        assert!(said.code == Some(0), "{shell}: {}{}", said.out, said.err);
    }
}
