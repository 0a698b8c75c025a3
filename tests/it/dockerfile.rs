//! Dockerfiles: other people's suites, and what `ekiben validate` says of one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::home::{Home, ran};
use ekiben::formats::diagnostic::{Code, Diagnostics, Rendering, Source};
use ekiben::formats::dockerfile::{
    Check, Command, Copying, Dockerfile, HealthCheck, Instruction, Kind, Pair, Separator, Word,
};

/// Dockerfiles below a folder, as people call them.
fn dockerfiles(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().to_lowercase();
        if path.is_dir() && !path.is_symlink() {
            dockerfiles(&path, found);
        } else if (name.contains("dockerfile") || name.contains("containerfile"))
            && !name.contains("ignore")
            && path.is_file()
        {
            found.push(path);
        }
    }
}

fn rendered(found: &Diagnostics) -> String {
    found.sorted().into_iter().map(|diagnostic| Rendering::PLAIN.render(diagnostic)).collect()
}

/// The one word of `USER …`.
fn word(text: &str) -> Option<Word> {
    let read = Dockerfile::parse(&Source::new("Dockerfile", format!("FROM scratch\nUSER {text}"))).ok()?;
    match &read.stages[0].instructions[0].kind {
        Kind::User(word) => Some(word.clone()),
        _ => None,
    }
}

/// As BuildKit's parser dumps what it read, one instruction a line, without flags.
fn dumped(kind: &Kind) -> String {
    let quoted = |text: &str| format!(" {}", serde_json::to_string(text).unwrap());
    let words = |words: &[Word]| words.iter().map(|word| quoted(word.text())).collect::<String>();
    let command = |command: &Command| match command {
        Command::Shell(text) if text.is_empty() => String::new(),
        Command::Shell(text) => quoted(text),
        Command::Exec(words) => words.iter().map(|word| quoted(word)).collect(),
    };
    let pairs = |pairs: &[Pair]| {
        let pair = |pair: &Pair| {
            let separator = if pair.separator == Separator::Equals { "=" } else { "" };
            quoted(pair.name.text()) + &quoted(pair.value.text()) + &quoted(separator)
        };
        pairs.iter().map(pair).collect::<String>()
    };
    let copying = |copying: &Copying| words(&copying.sources) + &quoted(copying.target.text());
    let rest = match kind {
        Kind::Add(files) | Kind::Copy(files) => copying(files),
        Kind::Run(run) => command(&run.command),
        Kind::Env(named) | Kind::Label(named) => pairs(named),
        Kind::Arg(named) => named
            .iter()
            .map(|named| match &named.default {
                Some(default) => quoted(&format!("{}={}", named.name.text(), default.text())),
                None => quoted(named.name.text()),
            })
            .collect(),
        Kind::Workdir(word) | Kind::User(word) | Kind::StopSignal(word) => quoted(word.text()),
        Kind::Cmd(words) | Kind::Entrypoint(words) => command(words),
        Kind::Shell(words) => words.iter().map(|word| quoted(word)).collect(),
        Kind::Expose(ports) => words(ports),
        Kind::Volume(paths) => words(paths),
        Kind::HealthCheck(HealthCheck::None) => quoted("NONE"),
        Kind::HealthCheck(HealthCheck::Check(Check { command: check, .. })) => quoted("CMD") + &command(check),
        Kind::OnBuild(trigger) => format!(" {}", dumped(&trigger.instruction.kind)),
        Kind::Maintainer(text) => quoted(text),
    };
    format!("({}{rest})", kind.name().to_lowercase())
}

/// BuildKit's dump without flags.
fn without_flags(line: &str) -> String {
    let line = line.replace("\\x00", "\\u0000");
    let Some((name, rest)) = line.split_once(" [\"--") else { return line };
    let (_, rest) = rest.split_once("\"]").unwrap();
    format!("{name}{rest}")
}

/// What the suites of others make of our reader: `scripts/dockerfile-suites` says where they lie.
#[test]
#[ignore = "needs checkouts of other projects; scripts/dockerfile-suites runs it"]
fn suites_of_others_are_read() {
    let folder = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    let mut table = "| suite | cases | as expected |\n|---|---|---|\n".to_owned();
    let mut wrong = String::new();
    let mut row = |suite: &str, results: Vec<(String, Result<(), String>)>| {
        let good = results.iter().filter(|(_, result)| result.is_ok()).count();
        writeln!(table, "| {suite} | {} | {good} |", results.len()).unwrap();
        for (case, result) in results {
            if let Err(why) = result {
                writeln!(wrong, "{suite}: {case}: {why}").unwrap();
            }
        }
    };
    let buildkit = folder("EKIBEN_BUILDKIT").join("frontend/dockerfile");
    row("BuildKit: `parser/testfiles`, against its dumps", parser_cases(&buildkit.join("parser/testfiles")));
    let refused = fs::read_dir(buildkit.join("parser/testfiles-negative")).unwrap().map(|case| {
        let path = case.unwrap().path().join("Dockerfile");
        let read = Dockerfile::parse(&Source::new("Dockerfile", fs::read_to_string(&path).unwrap()));
        (path.display().to_string(), read.err().map(drop).ok_or_else(|| "is read".to_owned()))
    });
    row("BuildKit: `parser/testfiles-negative`, refused", refused.collect());
    row("BuildKit: `shell/envVarTest`", variable_cases(&buildkit.join("shell/envVarTest")));
    row("BuildKit: `shell/wordsTest`", word_cases(&buildkit.join("shell/wordsTest")));
    let all_read = |folder: &Path, refused: &[&str]| {
        let mut paths = Vec::new();
        dockerfiles(folder, &mut paths);
        let read = |path: &PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
            let result = Dockerfile::parse(&Source::new(path.display().to_string(), text));
            let is_refused = refused.iter().any(|end| path.ends_with(end));
            match result {
                Ok(_) if is_refused => Err("is read, and ought to be refused".to_owned()),
                Err(found) if !is_refused => Err(rendered(&found)),
                _ => Ok(()),
            }
        };
        paths.iter().map(|path| (path.strip_prefix(folder).unwrap().display().to_string(), read(path))).collect()
    };
    let buildah = folder("EKIBEN_BUILDAH").join("tests");
    row("Buildah: `tests/conformance/testdata`", all_read(&buildah.join("conformance/testdata"), &[]));
    row("Buildah: `tests/bud`", all_read(&buildah.join("bud"), &[REFUSED_BY_BUILDAH, OF_BUILDAH_ALONE].concat()));
    row("kaniko: `integration/dockerfiles`", all_read(&folder("EKIBEN_KANIKO").join("integration/dockerfiles"), &[]));
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong}");
}

/// Files of Buildah's that its own tests expect to fail, or that are a part of one.
const REFUSED_BY_BUILDAH: &[&str] = &[
    "add-checksum/Containerfile.bad",
    "add-chmod/Dockerfile.bad",
    "add-chown/Dockerfile.bad",
    "containerfile/Containerfile.in",
    "copy-chmod/Dockerfile.bad",
    "copy-chown/Dockerfile.bad",
    "copy-from/Dockerfile.bad",
    "copy-multistage-paths/Dockerfile.invalid_from",
    "from-multiple-files/Dockerfile2.nofrom",
    "inline-network/Dockerfile3",
    "unrecognized/Dockerfile",
];

/// What Buildah takes and BuildKit refuses, as we do: names of stages with `/` or a variable, and `tmpcopyup`.
const OF_BUILDAH_ALONE: &[&str] = &[
    "base-with-arg/Containerfile",
    "buildkit-mount/Dockerfiletmpfscopyup",
    "save-stages/Dockerfile.arg-build-stages-and-chained-build-stages",
];

/// BuildKit's parser knows nothing of what instructions mean: what it dumps of those that mean nothing is passed over.
fn parser_cases(folder: &Path) -> Vec<(String, Result<(), String>)> {
    let mut cases = Vec::new();
    for case in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let expected = fs::read_to_string(case.join("result")).unwrap();
        let mut expected: Vec<String> = expected.lines().map(without_flags).collect();
        // Some begin without a stage: one is put below the comments, which may be directives.
        let mut text = text;
        if !expected[0].starts_with("(from") {
            let at = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.len() + 1).sum();
            text.insert_str(at, "FROM scratch\n");
            expected.insert(0, "(from \"scratch\")".to_owned());
        }
        let source: Arc<Source> = Source::new("Dockerfile", text);
        let mut found = Diagnostics::new();
        let read = Dockerfile::read(&source, &mut found);
        let mut dump: Vec<(usize, Option<String>)> = Vec::new();
        for stage in &read.stages {
            let from = &stage.from;
            let quoted = |word: &Word| format!(" {}", serde_json::to_string(word.text()).unwrap());
            let alias = from.alias.iter().map(|(between, name)| quoted(between) + &quoted(name));
            let alias: String = alias.collect();
            dump.push((from.span.start, Some(format!("(from{}{alias})", quoted(&from.image)))));
            let line = |instruction: &Instruction| (instruction.span.start, Some(dumped(&instruction.kind)));
            dump.extend(stage.instructions.iter().map(line));
        }
        let broken = found.sorted().iter().any(|diagnostic| diagnostic.code == Code::DockerfileSyntax);
        dump.extend(found.sorted().iter().map(|diagnostic| (diagnostic.primary.span.start, None)));
        dump.sort_by_key(|(at, _)| *at);
        let differs = dump.len() != expected.len()
            || dump
                .iter()
                .zip(&expected)
                .any(|((_, line), expected)| line.as_ref().is_some_and(|line| line != expected));
        let result = match broken || differs {
            true => Err(format!("{}\n{dump:#?}\n{expected:#?}", rendered(&found))),
            false => Ok(()),
        };
        cases.push((case.display().to_string(), result));
    }
    cases
}

fn variable_cases(path: &Path) -> Vec<(String, Result<(), String>)> {
    let variables = |name: &str| match name {
        "PWD" => Some("/home".to_owned()),
        "SHELL" => Some("bash".to_owned()),
        "KOREAN" => Some("한국어".to_owned()),
        "NULL" => Some(String::new()),
        _ => None,
    };
    let mut cases = Vec::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let line = line.trim();
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        // `A` is for all systems, `U` for those like Unix.
        let ["A" | "U", text, expected] = parts[..] else { continue };
        let expanded = word(text).and_then(|word| word.expand(&variables).ok()).unwrap_or_else(|| "error".to_owned());
        cases.push((line.to_owned(), if expanded == expected { Ok(()) } else { Err(expanded) }));
    }
    cases
}

fn word_cases(path: &Path) -> Vec<(String, Result<(), String>)> {
    let mut environment: Vec<(String, String)> = Vec::new();
    let mut cases = Vec::new();
    for line in fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.strip_prefix("ENV ").and_then(|line| line.trim_start().split_once('=')) {
            environment.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let Some((text, expected)) = line.split_once('|') else { continue };
        let variables =
            |name: &str| environment.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.clone());
        let words = word(text.trim()).and_then(|word| word.expand_to_words(&variables).ok());
        let words = words.unwrap_or_else(|| vec!["error".to_owned()]);
        let same = words == expected.trim_start().split(',').collect::<Vec<_>>();
        cases.push((line.to_owned(), if same { Ok(()) } else { Err(format!("{words:?}")) }));
    }
    cases
}

const GOOD: &str = "FROM scratch\nCOPY app.py src /app/\n";

#[test]
fn what_is_copied_is_looked_for_in_the_context() {
    let home = Home::empty();
    let validate = |arguments: &[&str]| {
        let mut command = home.command(["validate"]);
        command.args(arguments).current_dir(home.path("work"));
        ran(&mut command)
    };
    home.write("work/app.py", "");
    home.write("work/src/x.py", "");
    home.write("work/.git/HEAD", "");
    home.write("work/docker/Dockerfile", GOOD);
    // The nearest folder that has all of it, up to the root of the repository, is the context.
    validate(&["docker/Dockerfile"]).ok();
    validate(&["docker"]).ok();
    validate(&["--context", "docker", "docker/Dockerfile"]).ends(3).says("`app.py` is not in the context");
    validate(&["--context", ".", "docker/Dockerfile"]).ok();
    home.write("work/.dockerignore", "*\n!src\n");
    validate(&["docker/Dockerfile"]).ends(3).says("`app.py` is left out of the context by").says("takes it up again");
    // The file that is called after the Dockerfile hides the other.
    home.write("work/docker/Dockerfile.dockerignore", "docker\n");
    validate(&["docker/Dockerfile"]).ok();
    home.write("work/docker/Dockerfile.dockerignore", "[\n");
    validate(&["docker/Dockerfile"]).ends(3).says("docker/Dockerfile.dockerignore:1:1: error[EK1004]");
    home.write("work/docker/Dockerfile", format!("# check=skip=CopyIgnoredFile\n{GOOD}"));
    home.write("work/docker/Dockerfile.dockerignore", "src\n");
    validate(&["docker/Dockerfile"]).ok();
}

#[test]
fn machines_are_told_of_dockerfiles_too() {
    let home = Home::empty();
    home.write("work/gpu.Dockerfile", "FROM debian:13\nCMD sleep 1\nCOYP a b\n");
    let validate = |arguments: &[&str]| {
        let mut command = home.command(["validate"]);
        command.args(arguments).current_dir(home.path("work"));
        ran(&mut command).ends(3)
    };
    let told: serde_json::Value = serde_json::from_str(&validate(&["--output", "json", "gpu.Dockerfile"]).out).unwrap();
    assert_eq!((&told["files"], &told["errors"], &told["warnings"]), (&1.into(), &1.into(), &1.into()), "{told}");
    assert_eq!((&told["diagnostics"][1]["code"], &told["diagnostics"][1]["line"]), (&"EK1002".into(), &3.into()));
    let said = validate(&["--output", "github", "."]).out;
    assert!(said.contains("file=gpu.Dockerfile,line=3"), "{said}");
    let sarif: serde_json::Value = serde_json::from_str(&validate(&["--output", "sarif", "."]).out).unwrap();
    assert_eq!(sarif["runs"][0]["results"][1]["ruleId"], "EK1002");
    // `error=true` makes errors of all checks.
    home.write("work/gpu.Dockerfile", "# check=error=true\nFROM debian:13\nCMD sleep 1\n");
    let sarif: serde_json::Value = serde_json::from_str(&validate(&["--output", "sarif", "."]).out).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["level"], "error");
}
