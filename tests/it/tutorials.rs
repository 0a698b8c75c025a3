//! The pages of `docs/tutorials`, followed as a reader does: files are written, commands given in one shell, and what they
//! print is what the page shows.
//!
//! A fenced block with `title="PATH"` is a file. In a block of `console`, `$ ` begins a command and `> ` goes on with it; the
//! lines below are all that it prints. `…` stands for what varies, alone in a line for any number of lines. Durations,
//! sizes, digests, counts of packages and ports of loopback are those of somebody's machine. Blocks of other languages are not run.
//! `EKIBEN_BLESS=1` writes what was printed where something else is shown.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::home::cluster::Cluster;
use crate::home::registry::Registry;
use crate::home::servers::{Mlflow, mlflow};
use crate::home::{Home, names, program, python_programs, ran, tool};

const PAGES: [&str; 6] = ["bento", "dockerfile", "hugging-face", "kubernetes", "mlflow", "pickle"];

/// Between what commands print, and their codes.
const MARK: char = '\u{1e}';

enum Step {
    File {
        path: String,
        text: String,
    },
    /// With the lines of the page that show what it prints.
    Command {
        text: String,
        shown: Range<usize>,
    },
}

struct Page {
    path: PathBuf,
    lines: Vec<String>,
    steps: Vec<Step>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let steps = steps(&lines);
        Self { path: path.to_owned(), lines, steps }
    }

    /// One shell for all of it, which says how each command ended.
    fn script(&self) -> String {
        let mut script = "exec </dev/null 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n".to_owned();
        for step in &self.steps {
            match step {
                Step::File { path, text } => {
                    script += &format!(
                        "mkdir -p \"$(dirname '{path}')\"\ncat >'{path}' <<'END OF FILE'\n{text}END OF FILE\n"
                    );
                }
                Step::Command { text, .. } => {
                    // What comes next may ask for the code.
                    script += &format!("{{\n{text}\n}}\ncode=$?\nprintf '{MARK}%d{MARK}' $code\n(exit $code)\n");
                }
            }
        }
        script
    }

    /// Follows it in a home's folder, and gives the commands that ended or printed otherwise than the page has it.
    fn follow(&self, home: &Home, prepare: impl FnOnce(&mut Command)) -> Vec<String> {
        let script = home.write("script", self.script());
        fs::create_dir_all(home.path("page")).unwrap();
        let mut command = tool("bash");
        command
            .arg(script)
            .current_dir(home.path("page"))
            .env("EKIBEN_HOME", home.store())
            .env_remove("EKIBEN_OFFLINE");
        prepare(&mut command);
        let said = ran(&mut command).out;
        let mut parts = said.split(MARK);
        let commands = self.steps.iter().filter_map(|step| match step {
            Step::Command { text, shown } => Some((text, shown)),
            Step::File { .. } => None,
        });
        let mut wrong = Vec::new();
        let mut blessed = self.lines.clone();
        let mut all = commands.collect::<Vec<_>>().into_iter().peekable();
        let mut replaced = Vec::new();
        while let Some((text, shown)) = all.next() {
            let printed = parts.next().unwrap_or_default().trim_end().lines().map(str::trim_end);
            // Somebody else's service may have the usual port, as that of another page.
            let printed: Vec<&str> =
                printed.filter(|line| !line.contains("is taken, so another port is used")).collect();
            let code = parts.next().unwrap_or("none: the shell ended");
            let is_asked = all.peek().is_some_and(|(next, _)| next.as_str() == "echo $?");
            let expected: Vec<&str> = self.lines[shown.clone()].iter().map(String::as_str).collect();
            if !is_like(&expected, &printed) {
                replaced.push((shown.clone(), printed.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()));
            } else if is_asked || code == "0" {
                continue;
            }
            wrong.push(format!(
                "$ {text}\n{}\nended with {code}; the page shows\n{}\n",
                printed.join("\n"),
                expected.join("\n")
            ));
        }
        if std::env::var_os("EKIBEN_BLESS").is_some() {
            replaced.into_iter().rev().for_each(|(shown, printed)| drop(blessed.splice(shown, printed)));
            fs::write(&self.path, blessed.join("\n") + "\n").unwrap();
        }
        wrong
    }
}

fn steps(lines: &[String]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut number = 0;
    while number < lines.len() {
        let Some(words) = lines[number].strip_prefix("```") else {
            number += 1;
            continue;
        };
        let start = number + 1;
        let end = start + lines[start..].iter().position(|line| line == "```").expect("a block that ends");
        if let Some((_, title)) = words.split_once("title=\"") {
            let text = lines[start..end].iter().map(|line| format!("{line}\n")).collect();
            steps.push(Step::File { path: title.trim_end_matches('"').to_owned(), text });
        } else if words == "console" {
            let mut at = start;
            while at < end {
                let mut text = lines[at].strip_prefix("$ ").expect("a command first").to_owned();
                at += 1;
                while let Some(more) = lines[at].strip_prefix("> ") {
                    text = format!("{text}\n{more}");
                    at += 1;
                }
                let after = (at..end).find(|at| lines[*at].starts_with("$ ")).unwrap_or(end);
                steps.push(Step::Command { text, shown: at..after });
                at = after;
            }
        }
        number = end + 1;
    }
    steps
}

/// Without what is another thing on each machine.
fn plain(line: &str) -> String {
    let rules = [
        ("( in)? [0-9.]+ (ms|s|min)\\b", ""),
        ("[0-9]+ (layers|Debian packages|Python packages)", "SOME $1"),
        ("[0-9.,]+ (B|kB|MB|GB|bytes)\\b", "SIZE"),
        ("sha256:[0-9a-f]{12,64}", "DIGEST"),
        ("127\\.0\\.0\\.1:[0-9]+", "LOOPBACK"),
        (" +", " "),
    ];
    let mut line = line.to_owned();
    for (what, name) in rules {
        let pattern = Regex::new(&format!("(?-u){what}")).unwrap();
        line = pattern.replace_all(&line, name).into_owned();
    }
    line.trim_end().to_owned()
}

fn is_like(expected: &[&str], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        ["…", rest @ ..] => (0..=printed.len()).any(|skipped| is_like(rest, &printed[skipped..])),
        [line, rest @ ..] => {
            let is_alike = |printed: &str| {
                let parts: Vec<String> = plain(line).split('…').map(regex::escape).collect();
                Regex::new(&format!("^{}$", parts.join(".*"))).unwrap().is_match(&plain(printed))
            };
            printed.split_first().is_some_and(|(first, others)| is_alike(first) && is_like(rest, others))
        }
    }
}

/// A page is followed in a home, with programs of these folders at hand.
#[track_caller]
fn followed(name: &str, folders: &[&Path], prepare: impl FnOnce(&Home, &mut Command)) {
    let page = Page::read(&Path::new("docs/tutorials").join(name).with_extension("md"));
    let home = Home::warm();
    let path = [program().parent().unwrap()].into_iter().chain(folders.iter().copied()).map(Path::to_owned);
    let path: Vec<_> = path.chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())).collect();
    let wrong = page.follow(&home, |command| {
        command.env("PATH", std::env::join_paths(path).unwrap());
        prepare(&home, command);
    });
    assert!(wrong.is_empty(), "{}:\n{}", page.path.display(), wrong.join("\n"));
}

#[test]
fn each_page_is_followed() {
    assert_eq!(names(Path::new("docs/tutorials")), PAGES.map(|page| format!("{page}.md")));
    for page in PAGES {
        let page = Page::read(&Path::new("docs/tutorials").join(page).with_extension("md"));
        let commands = page.steps.iter().filter(|step| matches!(step, Step::Command { .. })).count();
        assert!(commands >= 4, "{}: {commands} commands", page.path.display());
    }
}

#[test]
fn what_a_page_shows_is_held_against_what_is_printed() {
    let home = Home::empty();
    let page = |text: &str| Page::read(&home.write("page.md", text));
    let wrong = |text: &str| page(text).follow(&home, |_| ());
    let good = "# A\n\n```sh\nnot run\n```\n\n```text title=\"a/b.txt\"\none\ntwo 3 s\n```\n\n```console\n$ cat a/b.txt\none\n\
                two 0.5 s\n$ X=1\n$ echo $X &&\n> echo 2\n1\n2\n$ cat nothing\ncat: … directory\n$ echo $?\n1\n\
                $ seq 4\n1\n…\n4\n```\n";
    assert_eq!(wrong(good), [""; 0]);
    for (right, other) in
        [("one\ntwo 0", "two 0"), ("two 0.5 s", "two 0.5 m"), ("\n4\n", "\n5\n"), ("$ echo $?\n1\n", "")]
    {
        assert_eq!(
            wrong(&good.replacen(right, other, if right.starts_with("one") { 9 } else { 1 })).len(),
            1,
            "{right:?}"
        );
    }
    assert_eq!(wrong("```console\n$ exit 3\n$ echo 1\n1\n```\n").len(), 2);
}

#[test]
fn who_has_a_pickle() {
    followed("pickle", &[mlflow().parent().unwrap()], |_, _| ());
}

#[test]
fn who_has_a_bento() {
    followed("bento", &[&crate::bento::programs()], |home, command| {
        command.env("BENTOML_DO_NOT_TRACK", "True").env("BENTOML_HOME", home.path("bentoml"));
    });
}

#[test]
fn who_has_an_mlflow_registry() {
    let home = Home::empty();
    let server = Mlflow::start(&home);
    followed("mlflow", &[mlflow().parent().unwrap()], |_, command| {
        server.knows(command);
    });
}

#[test]
fn who_has_a_dockerfile() {
    // What stands in for the official image, which may be out of reach: what is in the store is found before a registry.
    followed("dockerfile", &[], |home, _| {
        let manifest = "name: python\nversion: '1'\nsystem: {packages: [coreutils, passwd, python3]}\nservice: {command: [python3]}\n";
        home.write("base/ekiben.yaml", manifest);
        home.run(["build", "base", "--tag", "user:1"]).ok();
        fs::remove_dir_all(home.path("base")).unwrap();
        home.write("base/Dockerfile", "FROM user:1\nUSER 0\nENTRYPOINT []\nCMD [\"python3\"]\n");
        home.run(["build", "base", "--tag", "python:3.11-slim"]).ok();
        fs::remove_dir_all(home.path("base")).unwrap();
    });
}

#[test]
fn who_has_a_folder_of_hugging_face() {
    let python = python_programs("check-model", &["onnx==1.19.1", "tokenizers==0.22.1"]);
    followed("hugging-face", &[python.parent().unwrap()], |_, _| ());
}

#[test]
fn who_has_a_kubernetes_cluster() {
    let registry = Registry::start();
    let cluster = Cluster::shared_with_node();
    let namespace = cluster.namespace("tutorial");
    followed("kubernetes", &[&cluster.programs()], |home, command| {
        let known = home.path("kubeconfig");
        fs::copy(cluster.kubeconfig(), &known).unwrap();
        let set = ["--kubeconfig", &known, "config", "set-context", "--current", "--namespace", &namespace.name];
        ran(&mut cluster.kubectl(&set)).ok();
        command.env("KUBECONFIG", known).env("REGISTRY", registry.reference("models"));
    });
}
