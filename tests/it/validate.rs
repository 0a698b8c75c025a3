//! What people get wrong, and what they are told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ekiben::bundle::{Bundle, Form, Hashing, Weight};
use ekiben::check;
use ekiben::formats::diagnostic::{Code, Diagnostics, Rendering};
use ekiben::image::session::{Making, Session};
use ekiben::image::store::Store;
use ekiben::io::archive::{ArchivePath, Mode};
use ekiben::io::content::Content;
use ekiben::io::digest::Digest;
use ekiben::io::http::{Client, Network};
use ekiben::io::progress::Progress;
use ekiben::project::Project;
use ekiben::project::lock::Lock;
use ekiben::project::manifest::SystemPackages;

fn check(path: &Path) -> Diagnostics {
    if path.extension().is_some_and(|ending| ending == "lock") {
        let mut found = Diagnostics::new();
        Lock::load(path, &mut found);
        return found;
    }
    let mut found = Diagnostics::new();
    check::of(&[path.to_owned()]).into_iter().for_each(|verdict| found.extend(verdict.diagnostics));
    found
}

fn rendered(found: &Diagnostics) -> String {
    found.sorted().into_iter().map(|diagnostic| Rendering::PLAIN.render(diagnostic)).collect::<Vec<_>>().join("\n")
}

fn codes(found: &Diagnostics) -> BTreeSet<Code> {
    found.sorted().into_iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_python_from_elsewhere_is_said_before_anything_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let said = |version: &str, base: &str| {
        let manifest = format!(
            "name: m\nversion: '1'\nbase: {base}\npython: {{version: '{version}'}}\nservice: {{command: [x]}}\n"
        );
        fs::write(folder.path().join("ekiben.yaml"), manifest).unwrap();
        codes(&check(folder.path()))
    };
    for (version, base, is_said) in [
        ("3.12", "auto", true),
        ("3.14", "auto", true),
        ("3.9", "auto", false),
        ("3.11", "auto", false),
        ("3.13", "auto", false),
        ("3.12", "docker.io/library/python:3.12-slim", false),
        ("3.12", "scratch", false),
    ] {
        assert_eq!(said(version, base).contains(&Code::PythonOfHub), is_said, "{version} {base}");
    }
}

/// Codes that need more than one small file; the tests below reach them.
const ELSEWHERE: [Code; 8] = [
    Code::Unreadable,
    Code::TooLarge,
    Code::NoManifest,
    Code::TwoManifests,
    // Only the place itself tells.
    Code::ModelMoved,
    Code::LinkLeaves,
    Code::NotAFile,
    Code::Unrecognised,
];

/// One file a mistake in `fixtures/invalid`, with what is said about it in a `.txt` of the same name.
/// `EKIBEN_BLESS=1 cargo test --test it validate::` writes those anew.
#[test]
fn each_mistake_is_explained() {
    let endings = ["yaml", "json", "json5", "lock", "pkl", "npy", "safetensors", "gguf", "onnx", "h5", "Dockerfile"];
    let mut files: Vec<PathBuf> =
        fs::read_dir("fixtures/invalid").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| endings.iter().any(|k| e == *k)));
    // A folder in which each file has one mistake, or which as a whole has one.
    files.retain(|path| !["model.pkl", "empty.pkl", "pointer.pkl"].iter().any(|name| path.ends_with(name)));
    files.extend(
        fs::read_dir("fixtures/invalid/folders").unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()),
    );
    files.sort();
    let bless = std::env::var_os("EKIBEN_BLESS").is_some();
    let mut reached: BTreeSet<Code> = ELSEWHERE.into();
    let mut wrong = String::new();
    for path in &files {
        let found = check(path);
        assert!(!found.is_empty(), "{} has no mistake", path.display());
        reached.extend(codes(&found));
        let text = rendered(&found);
        let expected = PathBuf::from(format!("{}.txt", path.display()));
        if bless {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong += &format!("--- {}\n{text}\n", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nis it right? EKIBEN_BLESS=1 cargo test --test it validate::");
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !reached.contains(code)).collect();
    assert!(missing.is_empty(), "no file reaches {missing:?}");
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    /// A valid one.
    fn iris(manifest: &str) -> Self {
        Self::new(&[
            ("ekiben.yaml", manifest),
            ("model.pkl", "N."),
            ("src/predict.py", "def predict(features):\n    return features\n"),
        ])
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn project(&self) -> Project {
        match Project::load(self.path()) {
            Ok((project, _)) => project,
            Err(found) => panic!("{}", rendered(&found)),
        }
    }
}

const IRIS: &str = "name: iris\nmodel: {files: [model.pkl]}\nservice: {predict: src/predict.py:predict}\n";

#[test]
fn a_folder_without_or_with_two_manifests_is_refused() {
    let folder = Folder::new(&[]);
    assert_eq!(codes(&check(folder.path())), [Code::NoManifest].into());
    assert_eq!(codes(&check(&folder.path().join("no/where"))), [Code::NoManifest].into());
    folder.write("ekiben.yaml", IRIS);
    folder.write("ekiben.json", "{}");
    assert_eq!(codes(&check(folder.path())), [Code::TwoManifests].into());
}

#[test]
fn three_languages_say_the_same() {
    let yaml = "# c\nname: iris\nversion: '1.0'\nmodel: {files: [model.pkl]}\nservice:\n  predict: src/predict.py:predict\n  port: 0xBB8\ntests:\n- name: \"\\u00e9\"\n  request: {features: [[-1.5, .5, 1e3, 2]]}\n  expect: ~\n";
    let json = "{\"name\": \"iris\", \"version\": \"1.0\", \"model\": {\"files\": [\"model.pkl\"]}, \"service\": {\"predict\": \"src/predict.py:predict\", \"port\": 3000}, \"tests\": [{\"name\": \"\\u00e9\", \"request\": {\"features\": [[-1.5, 0.5, 1000.0, 2]]}, \"expect\": null}]}";
    let json5 = "// c\n{name: 'iris', \"version\": '1.0', model: {files: ['model.pkl',],},\n service: {predict: 'src/predict.py:predict', port: 0xBB8}, tests: [{name: '\\u00e9', request: {features: [[-1.5, .5, +1e3, 2,]]}, expect: null}], /* c */}";
    let folder = Folder::iris("");
    fs::remove_file(folder.path().join("ekiben.yaml")).unwrap();
    let mut manifests = Vec::new();
    for (name, text) in [("a.yaml", yaml), ("a.json", json), ("a.json5", json5)] {
        for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
            folder.write(name, &text);
            match Project::load(&folder.path().join(name)) {
                Ok((project, _)) => manifests.push(project.manifest),
                Err(found) => panic!("{}", rendered(&found)),
            }
        }
    }
    assert!(manifests.windows(2).all(|pair| pair[0] == pair[1]), "{manifests:#?}");
}

#[test]
fn files_are_those_that_the_manifest_means() {
    let folder = Folder::iris(
        "name: iris\nmodel: {files: ['*.pkl', weights]}\ninclude: [extra/**]\nmetadata: [src/about.json5]\nservice: {predict: src/predict.py:predict}\n",
    );
    for path in [
        "weights/b.bin",
        "weights/a/c.bin",
        "weights/.git/x",
        "src/lib/z.py",
        "src/lib/a.py",
        "src/__pycache__/z.pyc",
        "src/about.json5",
        "src/old.ekiben",
        "src/notes.md",
        "extra/x/y.txt",
        "other/z.txt",
    ] {
        folder.write(path, "x");
    }
    folder.write(".ekibenignore", "*.md\n/other\n");
    let files = folder.project().files;
    let names =
        |files: &[ekiben::project::files::ProjectFile]| files.iter().map(|f| f.path.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&files.model), ["model.pkl", "weights/a/c.bin", "weights/b.bin"]);
    assert_eq!(names(&files.code), ["extra/x/y.txt", "src/lib/a.py", "src/lib/z.py", "src/predict.py"]);
    assert_eq!(names(&files.metadata), ["src/about.json5"]);
    assert_eq!(files.model[0].size, 2);
}

#[test]
fn an_entry_in_the_root_takes_no_other_file_along() {
    let folder = Folder::iris("name: iris\nservice: {predict: serve.py:predict}\n");
    folder.write("serve.py", "def predict(): pass\n");
    let code = folder.project().files.code;
    assert_eq!(code.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["serve.py"]);
}

fn code(folder: &Folder) -> Vec<String> {
    folder.project().files.code.iter().map(|file| file.path.to_string()).collect()
}

#[test]
fn what_a_command_names_is_packed() {
    let command = |command: &str| {
        let folder = Folder::iris(&format!(
            "name: iris\nmodel: {{files: [model.pkl]}}\nservice: {{command: {command}}}\nmetadata: [about.json]\n"
        ));
        for (path, text) in [
            ("server.py", "app = 1\n"),
            ("about.json", "{}"),
            ("app/main.py", "app = 1\n"),
            ("app/more/x.txt", "x"),
            ("pkg/__main__.py", ""),
            ("pkg/x.py", ""),
            ("conf/x.yaml", ""),
            (".venv/bin/python", ""),
            ("notes.txt", ""),
        ] {
            folder.write(path, text);
        }
        // As for a function, the ignore file cannot take it away.
        folder.write(".ekibenignore", "server.py\n");
        code(&folder)
    };
    assert_eq!(command("[python, server.py]"), ["server.py"]);
    assert_eq!(command("[python3.11, -u, ./server.py, model.pkl, about.json]"), ["server.py"]);
    assert_eq!(command("[python, /app/app/main.py]"), ["app/main.py", "app/more/x.txt"]);
    assert_eq!(command("[python, -m, pkg]"), ["pkg/__main__.py", "pkg/x.py"]);
    assert_eq!(
        command("[uvicorn, 'app.main:app', --log-config=conf/x.yaml]"),
        ["app/main.py", "app/more/x.txt", "conf/x.yaml"]
    );
    assert_eq!(command("[sh, -c, \"exec python 'server.py'\"]"), ["server.py"]);
    assert_eq!(command("[.venv/bin/python, -m, http.server]"), [""; 0]);
    assert_eq!(command("[/bin/cat, /etc/passwd, ../server.py, nowhere]"), [""; 0]);
}

#[test]
fn a_command_whose_file_is_not_there_is_refused() {
    let folder =
        Folder::new(&[("ekiben.yaml", "name: iris\nservice: {command: [python, -u, srever.py]}\n"), ("server.py", "")]);
    let expected = "\
ekiben.yaml:2:33: error[EK0304]: there is no file `srever.py`
  |
2 | service: {command: [python, -u, srever.py]}
  |                                 ^^^^^^^^^ did you mean `server.py`?
  |
  = help: the command runs where the packed files lie; further ones are named in `include`
";
    let (_, _, said) = ekiben(folder.path(), &["validate"]);
    assert!(said.starts_with(expected), "{said}");
    for text in ["import net\n", "import a\nimport tools.net\n"] {
        let folder = Folder::new(&[(
            "ekiben.yaml",
            "name: iris\npython: {version: '3.11'}\nservice: {command: [python, server.py]}\n",
        )]);
        folder.write("server.py", text);
        folder.write("net.py", "");
        folder.write("tools/__init__.py", "");
        let found = check(folder.path());
        assert!(rendered(&found).contains("add it to the manifest: `include: ["), "{}", rendered(&found));
    }
}

/// What is said of imports in a project with these requirements, as `name:line`.
fn imports(requirements: &str, source: &str, manifest: &str) -> Vec<String> {
    let text = "name: iris\nservice: {predict: src/predict.py:predict}\n";
    let folder = Folder::new(&[("requirements.txt", requirements)]);
    folder.write("ekiben.yaml", &format!("{text}{manifest}"));
    folder.write("src/predict.py", &format!("{source}\n\n\ndef predict():\n    pass\n"));
    folder.write("src/lib/net.py", "");
    folder.write("src/native.cpython-311-x86_64-linux-gnu.so", "");
    let found = check(folder.path());
    found.sorted().iter().map(|one| one.message.split('`').nth(1).unwrap_or_default().to_owned()).collect()
}

const FILE: &str = "python: {version: '3.11', requirements: requirements.txt}\n";

#[test]
fn what_no_requirement_brings_is_told() {
    assert_eq!(imports("", "import pandas", ""), ["pandas"]);
    assert_eq!(imports("", "import acme", FILE), ["acme"]);
    assert_eq!(
        imports("scikit-learn==1.5.2\n", "import pandas, sklearn\nfrom PIL import Image", FILE),
        ["pandas", "PIL"]
    );
    assert_eq!(imports("numpy\n", "import acme\nfrom helper import x", FILE), ["acme", "helper"]);
    // As `ekiben init` writes it, for a model that a script saved.
    let of_script = "import script\nimport sys\nsys.modules[\"__main__\"].Model = script.Model";
    assert_eq!(imports("numpy\n", of_script, FILE), ["script"]);
    let libraries = format!("{FILE}system: {{packages: [libgomp1]}}\n");
    assert_eq!(imports("numpy\n", "import acme", &libraries), ["acme"]);
    assert_eq!(imports("numpy\n", "class A:\n    import torch.nn", FILE), ["torch.nn"]);
    assert_eq!(
        imports("numpy\n", "import distutils", "python: {version: '3.13', requirements: requirements.txt}\n"),
        ["distutils"]
    );
}

#[test]
fn imports_that_something_may_bring_are_let_be() {
    for (requirements, source) in [
        (
            "",
            "import json, os.path, fastapi, pydantic_core, starlette\nfrom lib import net\nimport lib.net, native, _private",
        ),
        ("", "try:\n    import pandas\nexcept ImportError:\n    pandas = None"),
        ("", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
        ("", "def load():\n    import pandas"),
        ("", "import sys\nsys.path.append('lib')\nimport acme"),
        ("pandas\n", "import numpy, dateutil"),
        ("opencv-contrib-python-headless\n", "import cv2"),
        ("Pillow\nPyYAML\nscikit_learn\n", "import PIL.Image, yaml, sklearn, scipy, joblib"),
        ("google-cloud-storage\n", "from google.cloud import storage"),
        ("tensorflow-cpu\nxgboost-cpu\n", "import tensorflow, xgboost, keras"),
        ("acme-sdk\n", "import pandas, konfuzio"),
        ("numpy\nacme-sdk\n", "import other"),
        ("numpy\n", "try:\n    import acme\nexcept Exception:\n    acme = None"),
        ("numpy\n", "from contextlib import suppress\nwith suppress(ImportError):\n    import acme"),
        ("numpy\n", "import os\nif os.environ.get('ACME'):\n    import acme"),
        ("cython\n", "import pyximport\npyximport.install()\nimport acme"),
        ("numpy\n", "from importlib.util import spec_from_file_location as where\nimport acme"),
        ("transformers[torch]\n", "import torch"),
        ("transformers==4.36.2\n", "import requests"),
        ("numpy\n-e git+https://h.example/x\n", "import json"),
        ("setuptools\n", "import distutils"),
    ] {
        let said = imports(requirements, source, FILE);
        let own = usize::from(requirements.contains("-e "));
        assert_eq!(said.len(), own, "{requirements}{source}: {said:?}");
    }
    for manifest in [
        "base: python:3.11\n",
        "env: {PYTHONPATH: /opt}\n",
        "system: {packages: [python3-pandas]}\n",
        "build: {file: Dockerfile, allow-run: true}\n",
    ] {
        let said = imports("", "import pandas", manifest);
        let own = said.iter().filter(|what| *what == "pandas").count();
        assert_eq!(own, 0, "{manifest}: {said:?}");
    }
    for more in ["system: {packages: [gdal-bin]}\n", "system: {run: [pip install acme]}\n"] {
        let said = imports("numpy\n", "import acme", &format!("{FILE}{more}"));
        assert!(!said.iter().any(|what| what == "acme"), "{more}: {said:?}");
    }
}

#[test]
fn a_version_is_mended_as_it_was_written() {
    for (written, mended) in [("1.0", "\"1.0\""), ("2.00", "\"2.00\""), ("1.10", "\"1.10\""), ("1e3", "1e3")] {
        let text = |version: &str, port: &str| {
            format!("name: iris\nversion: {version}\nservice: {{predict: src/predict.py:predict, port: {port}}}\n")
        };
        let folder = Folder::iris(&text(written, "3000.0"));
        let found = check(folder.path());
        assert_eq!(codes(&found), [Code::WrongType, Code::VersionAsNumber].into(), "{found:?}");
        ekiben::check::fix::files(&[folder.path().to_owned()]).unwrap();
        let after = fs::read_to_string(folder.path().join("ekiben.yaml")).unwrap();
        assert!(after.contains(&text(mended, "3000")), "{after}");
    }
}

#[test]
fn many_values_in_the_place_of_mappings_are_refused_at_once() {
    let manifest =
        format!("name: iris\nservice: {{predict: src/predict.py:predict}}\ntests: [{}]\n", "1, ".repeat(15_000));
    let folder = Folder::iris(&manifest);
    let start = Instant::now();
    assert!(check(folder.path()).has_errors());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_requirement_without_a_version_gets_none() {
    let manifest = format!("name: iris\nservice: {{predict: src/predict.py:predict}}\n{FILE}");
    let folder = Folder::iris(&manifest);
    let text = "numpy>=\npandas!=\nscipy =\njoblib>=1,<\n";
    folder.write("requirements.txt", text);
    let found = check(folder.path());
    let said: Vec<&str> =
        found.sorted().iter().filter_map(|one| one.message.split("version is missing after ").nth(1)).collect();
    assert_eq!(said, ["`>=`", "`!=`", "`=`", "`<`"], "{found:?}");
    ekiben::check::fix::files(&[folder.path().to_owned()]).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("requirements.txt")).unwrap(), text);
}

#[test]
fn a_lock_that_fits_names_all_that_is_there() {
    let folder = Folder::new(&[("requirements.txt", "acme-sdk\n")]);
    folder.write("ekiben.yaml", &format!("name: iris\nservice: {{predict: src/predict.py:predict}}\n{FILE}"));
    folder.write("src/predict.py", "import pandas\nimport konfuzio\n\n\ndef predict():\n    pass\n");
    let project = folder.project();
    let lock = |input: Digest, package: &str| {
        let digest = Digest::of("x");
        let text = format!(
            "{{\"lock\": 1, \"input\": \"{input}\", \"platforms\": {{\"linux/amd64\": {{\"base\": \"scratch\", \
             \"python\": [{{\"name\": \"{package}\", \"version\": \"1\", \"digests\": [\"{digest}\"]}}]}}}}}}"
        );
        folder.write("ekiben.lock", &text);
        let found = check(folder.path());
        found.sorted().iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(lock(project.input_digest(), "acme-sdk"), [Code::NotBrought]);
    assert_eq!(lock(project.input_digest(), "pandas"), []);
    folder.write("src/predict.py", "import tlz\nfrom helper import x\n\n\ndef predict():\n    pass\n");
    assert_eq!(lock(project.input_digest(), "toolz"), []);
    folder.write("requirements.txt", "toolz\n");
    fs::write(folder.path().join("src/helper.py"), "x = 1\n").unwrap();
    let project = folder.project();
    fs::remove_file(folder.path().join("src/helper.py")).unwrap();
    assert_eq!(lock(project.input_digest(), "toolz"), [Code::NotBrought]);
    // Nobody knows what it brings.
    assert_eq!(lock(project.input_digest(), "acme-sdk"), []);
    // A lock that does not fit says nothing for sure.
    assert_eq!(lock(Digest::of("other"), "acme-sdk"), []);
}

#[test]
fn what_dvc_keeps_is_fetched_with_it() {
    let folder = Folder::iris("name: iris\nmodel: {files: [big.pkl]}\nservice: {predict: src/predict.py:predict}\n");
    folder.write("big.pkl.dvc", "outs: []\n");
    let (_, _, said) = ekiben(folder.path(), &["validate"]);
    let expected = "\
ekiben.yaml:2:17: error[EK0304]: there is no file `big.pkl`
  |
2 | model: {files: [big.pkl]}
  |                 ^^^^^^^
  |
  = help: `big.pkl.dvc` says where it lies: fetch it with `dvc pull`
";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn one_slip_is_one_error() {
    for (manifest, place) in [
        ("name: iris\nverison: 1\nservice: {predict: src/predict.py:predict}\n", "ekiben.yaml:2:1"),
        ("name: iris\nservise: {predict: src/predict.py:predict}\n", "ekiben.yaml:2:1"),
        ("name: iris\nservice: {predikt: src/predict.py:predict, inputs: [{name: features}]}\n", "ekiben.yaml:2:11"),
        (
            "name: iris\nservice: {predict: src/predict.py:predict}\npython: {requirments: requirements.txt}\n",
            "ekiben.yaml:3:10",
        ),
        ("name: iris\nservice: {predict: src/predict.py:predict}\npython: {version: '2.7'}\n", "ekiben.yaml:3:19"),
    ] {
        let folder = Folder::iris(manifest);
        folder.write("src/predict.py", "import acme\n\n\ndef predict(features):\n    pass\n");
        folder.write("requirements.txt", "acme\n");
        if manifest.contains("2.7") {
            folder.write("src/predict.py", "def predict(features):\n    pass\n");
        }
        let (_, _, said) = ekiben(folder.path(), &["validate"]);
        assert_eq!(said.matches("error[").count(), 1, "{said}");
        assert!(said.starts_with(place), "{said}");
    }
}

#[test]
fn links_are_followed_inside_and_refused_outside() {
    use std::os::unix::fs::symlink;
    let folder = Folder::iris("name: iris\nmodel: {files: ['m/*.pkl']}\nservice: {predict: src/predict.py:predict}\n");
    fs::create_dir(folder.path().join("m")).unwrap();
    symlink("../model.pkl", folder.path().join("m/a.pkl")).unwrap();
    assert_eq!(folder.project().files.model[0].path.as_str(), "m/a.pkl");
    // Nobody asks for this one.
    symlink("/etc/passwd", folder.path().join("m/passwd")).unwrap();
    folder.project();
    symlink("/etc/passwd", folder.path().join("m/b.pkl")).unwrap();
    assert_eq!(codes(&check(folder.path())), [Code::LinkLeaves].into());
    fs::remove_file(folder.path().join("m/b.pkl")).unwrap();
    symlink("/etc", folder.path().join("src/etc")).unwrap();
    assert_eq!(codes(&check(folder.path())), [Code::LinkLeaves].into());
    fs::remove_file(folder.path().join("src/etc")).unwrap();
    symlink("..", folder.path().join("src/round")).unwrap();
    let found = check(folder.path());
    assert!(found.has_errors(), "{}", rendered(&found));
    for text in ["name: iris\nmodel: {files: [b.pkl]}\n", "name: iris\nmodel: {files: [etc/passwd]}\n"] {
        let folder = Folder::iris(&format!("{text}service: {{predict: src/predict.py:predict}}\n"));
        symlink("no/where", folder.path().join("b.pkl")).unwrap();
        symlink("/etc", folder.path().join("etc")).unwrap();
        let found = check(folder.path());
        assert_eq!(codes(&found), [Code::LinkLeaves].into(), "{}", rendered(&found));
    }
}

#[test]
fn what_lies_outside_is_not_opened() {
    use std::os::unix::fs::symlink;
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "the secret = is (\n").unwrap();
    let manifest = "name: iris\nservice: {predict: src/predict.py:predict}\npython: {requirements: requirements.txt}\n";
    let folder = Folder::iris(manifest);
    fs::remove_file(folder.path().join("src/predict.py")).unwrap();
    symlink(secret.path(), folder.path().join("src/predict.py")).unwrap();
    symlink(secret.path(), folder.path().join("requirements.txt")).unwrap();
    let found = check(folder.path());
    assert_eq!(codes(&found), [Code::LinkLeaves].into());
    assert!(!rendered(&found).contains("secret = is"));
}

#[test]
fn the_ignore_file_cannot_take_the_function_away() {
    let folder = Folder::iris(IRIS);
    folder.write("src/more.py", "");
    folder.write(".ekibenignore", "*.py\n*.pkl\n");
    let files = folder.project().files;
    assert_eq!(files.code.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["src/predict.py"]);
    assert_eq!(files.model.len(), 1);
    folder.write(".ekibenignore", "[z-a]\n");
    assert_eq!(codes(&check(folder.path())), [Code::BadGlob].into());
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = Folder::iris("name: iris\nmodel: {files: [pipe]}\nservice: {predict: src/predict.py:predict}\n");
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(codes(&check(folder.path())), [Code::NotAFile].into());
    assert_eq!(codes(&check(&folder.path().join("pipe"))), [Code::Unreadable].into());
    let folder = Folder::iris("name: iris\nservice: {predict: src/folder.py:predict}\n");
    folder.write("src/folder.py/x", "");
    assert_eq!(codes(&check(folder.path())), [Code::NotAFile].into());
}

#[test]
fn huge_and_deep_files_are_refused_at_once() {
    let lines = "a: b\n".repeat(2 << 20);
    let deep_block: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let cases: Vec<(&str, String, Code)> = vec![
        ("m.yaml", lines.clone(), Code::TooLarge),
        ("m.json", format!("[{}1]", "1,".repeat(5 << 20)), Code::TooLarge),
        ("m.yaml", "[".repeat(10_000), Code::TooDeep),
        ("m.yaml", "- ".repeat(10_000), Code::TooDeep),
        ("m.yaml", "{a: ".repeat(10_000), Code::TooDeep),
        ("m.yaml", "? ".repeat(10_000), Code::TooDeep),
        ("m.yaml", deep_block.chars().take(1 << 20).collect(), Code::TooDeep),
        ("m.json", "[".repeat(10_000), Code::TooDeep),
        ("m.json5", "{a:".repeat(10_000), Code::TooDeep),
    ];
    for (name, text, code) in cases {
        let folder = Folder::new(&[(name, &text)]);
        let start = Instant::now();
        let found = check(&folder.path().join(name));
        assert_eq!(codes(&found), [code].into(), "{}", rendered(&found).chars().take(2000).collect::<String>());
        assert!(start.elapsed() < Duration::from_secs(20), "{name} took {:?}", start.elapsed());
    }
}

#[test]
fn hostile_python_is_refused_at_once() {
    for text in [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "not ".repeat(100_000),
        "a if b else ".repeat(50_000),
        "lambda: ".repeat(50_000),
        "await ".repeat(50_000),
        "a**".repeat(50_000),
        "a.".repeat(50_000) + "a",
        "f'{".repeat(10_000),
        (0..1000).map(|depth| format!("{}if a:\n", " ".repeat(depth))).collect(),
        "x".to_owned() + &"(1)".repeat(100_000),
        "if a: pass\n".to_owned() + &"elif a: pass\n".repeat(50_000),
        "match a:\n case ".to_owned() + &"[".repeat(150),
        "a:".repeat(10_000),
        "*".repeat(100_000),
        "~".repeat(100_000),
        "@".repeat(100_000),
        "a=".repeat(100_000),
        "yield ".repeat(50_000),
    ] {
        let folder = Folder::iris(IRIS);
        folder.write("src/predict.py", &text);
        assert!(check(folder.path()).has_errors());
    }
}

#[test]
fn a_lock_is_read_as_it_was_written() {
    let folder = Folder::iris(IRIS);
    let project = folder.project();
    let lock = Lock {
        lock: 1,
        input: ekiben::project::lock::input_digest(&project.manifest, &[], &[]),
        python: None,
        platforms: Default::default(),
        relaxed: Vec::new(),
        trained: None,
        models: Vec::new(),
    };
    let path = folder.path().join(ekiben::project::lock::NAME);
    lock.write(&path).unwrap();
    let mut found = Diagnostics::new();
    assert_eq!(Lock::load(&path, &mut found), Some(lock.clone()));
    assert!(!lock.is_stale(&ekiben::project::lock::input_digest(&project.manifest, &[], &[])));
    let mut other = project.manifest.clone();
    other.system.packages = SystemPackages::Named(vec!["libgomp1".to_owned()]);
    assert!(lock.is_stale(&ekiben::project::lock::input_digest(&other, &[], &[])));
    assert!(
        !fs::read_dir(folder.path()).unwrap().any(|e| e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".ekiben-lock"))
    );
}

#[test]
fn what_is_nothing_that_is_checked_is_said() {
    let folder = Folder::new(&[("notes.txt", "some words\n"), (".git/HEAD", "")]);
    assert_eq!(codes(&check(&folder.path().join("notes.txt"))), [Code::Unrecognised].into());
    // A file of a project stands for the project.
    let folder = Folder::iris(IRIS);
    let verdicts = check::of(&[folder.path().join("src/predict.py"), folder.path().join("model.pkl")]);
    assert_eq!(verdicts.iter().map(|verdict| verdict.kind).collect::<Vec<_>>(), [check::Kind::Project]);
}

#[test]
fn a_folder_is_gone_through_for_all_that_is_known() {
    let folder = Folder::new(&[
        ("one/ekiben.yaml", IRIS),
        ("one/model.pkl", "N."),
        ("one/src/predict.py", "def predict(features): pass\n"),
        ("shelf/old.pkl", "cposix\nsystem\n."),
        ("shelf/notes.txt", ""),
        ("ignored/ekiben.yaml", "nonsense"),
        (".gitignore", "ignored/\n"),
        ("bento/bento.yaml", "service: a:B\nname: a\nversion: b\n"),
        ("bento/apis/openapi.yaml", "openapi: 3.0.2\n"),
    ]);
    let verdicts = check::of(&[folder.path().to_owned()]);
    let found: Vec<_> = verdicts
        .iter()
        .map(|verdict| (verdict.path.strip_prefix(folder.path()).unwrap().to_str().unwrap(), verdict.kind))
        .collect();
    use check::Kind::{Bento, Model, Project};
    assert_eq!(found, [("bento", Bento), ("one/ekiben.yaml", Project), ("shelf/old.pkl", Model)]);
    assert_eq!(codes(&verdicts[0].diagnostics), [Code::MissingKey].into());
    assert!(verdicts[1].diagnostics.is_empty());
    assert_eq!(codes(&verdicts[2].diagnostics), [Code::DangerousGlobal].into());
}

#[test]
fn the_page_of_diagnostics_is_that_of_the_code() {
    let page = ekiben::formats::diagnostic::reference();
    if std::env::var_os("EKIBEN_BLESS").is_some() {
        fs::write("docs/diagnostics.md", &page).unwrap();
    }
    assert!(fs::read_to_string("docs/diagnostics.md").unwrap_or_default() == page, "EKIBEN_BLESS=1 renews it");
}

#[test]
fn examples_of_other_programs_are_valid() {
    for folder in ["fixtures/analytics", "fixtures/metadata"] {
        let found = check(Path::new(folder));
        assert!(found.is_empty(), "{}", rendered(&found));
    }
}

#[test]
fn a_manifest_pasted_from_a_web_page_is_mended() {
    let folder = Folder::new(&[("m.json", &fs::read_to_string("fixtures/invalid/analytics-pasted.json").unwrap())]);
    let path = folder.path().join("m.json");
    assert!(codes(&check(&path)).contains(&Code::TypographicQuotes));
    let changes = ekiben::check::fix::files(std::slice::from_ref(&path)).unwrap();
    assert_eq!(changes.len(), 1);
    assert!(check(&path).is_empty(), "{}", rendered(&check(&path)));
    let read = |path: &Path| serde_json::from_str::<serde_json::Value>(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(read(&path), read(Path::new("fixtures/analytics/manifest.json")));
}

#[test]
fn repairs_keep_comments_and_are_done_once() {
    let folder = Folder::iris(
        "# the manifest\nnme: iris # its name\nversion: 1.10\nmodel: {fils: [model.pkl]}\nservice:\n\tpredict: “src/predict.py:predict”\npython:\n  requirements: [scipy=1.5, numpy==1.2]\n",
    );
    let paths = [folder.path().to_owned()];
    ekiben::check::fix::files(&paths).unwrap();
    let text = fs::read_to_string(folder.path().join("ekiben.yaml")).unwrap();
    assert_eq!(
        text,
        "# the manifest\nname: iris # its name\nversion: \"1.10\"\nmodel: {files: [model.pkl]}\nservice:\n  predict: \"src/predict.py:predict\"\npython:\n  requirements: [scipy==1.5, numpy==1.2]\n"
    );
    let again = ekiben::check::fix::files(&paths).unwrap();
    // What is sorted was no mistake, so it comes once the rest is right.
    assert_eq!(again.len(), 1);
    assert!(ekiben::check::fix::files(&paths).unwrap().is_empty());
}

/// Runs the program in a folder; its exit code, its stdout and its stderr.
fn ekiben(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ekiben")).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A folder with the manifest of an iris that has a mistake and a doubt.
fn wrong() -> Folder {
    let folder = Folder::iris(
        "name: iris\nmodel: {files: [model.pkl]}\nservice: {predict: src/predict.py:predikt}\nlicenses: 100% <mine> & \"yours\"\n",
    );
    folder.write("a b,c.pkl", "nothing");
    folder
}

#[test]
fn machines_are_told_in_their_own_ways() {
    let folder = wrong();
    let paths = [".", "a b,c.pkl"];
    let run = |output: &str| ekiben(folder.path(), &["validate", "--output", output, paths[0], paths[1]]);
    let (code, text, _) = run("json");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["errors"], &json["warnings"]), (3, &2.into(), &1.into()));
    assert_eq!((&json["projects"], &json["files"]), (&1.into(), &1.into()));
    // Before the command the option means the same.
    assert_eq!(ekiben(folder.path(), &["--output", "json", "validate", ".", "a b,c.pkl"]).1, text);

    let (code, text, _) = run("github");
    assert_eq!(code, 3);
    assert_eq!(
        text,
        "::error file=ekiben.yaml,line=3,col=20,endLine=3,endColumn=42,title=EK0402 the function is not in the file::there is no function `predikt` in src/predict.py%0Adid you mean `predict`?\n\
         ::warning file=ekiben.yaml,line=4,col=11,endLine=4,endColumn=32,title=EK0603 not an SPDX licence expression::`100%25 <mine> & \"yours\"` is not an SPDX expression%0Aas `Apache-2.0`, `MIT OR Apache-2.0`, `LicenseRef-mine`\n\
         ::error file=a b%2Cc.pkl,title=EK0801 a model's file is damaged::the model's file is damaged at byte 1: 0x6e is no opcode of a pickle%0Asave or copy it again, and compare its size with that of the original\n"
    );
    for command in ["images", "ps"] {
        assert_eq!(ekiben(folder.path(), &[command, "--output", "sarif"]).0, 2);
    }
    assert_eq!(ekiben(folder.path(), &["validate", "--output", "xml"]).0, 2);
}

#[test]
fn warnings_count_with_strict() {
    let folder = Folder::iris(&format!("{IRIS}licenses: mine!\n"));
    assert_eq!(ekiben(folder.path(), &["validate"]).0, 0);
    assert_eq!(ekiben(folder.path(), &["validate", "--strict"]).0, 3);
}

#[test]
fn the_program_explains_and_prints_schemas() {
    let here = Path::new(".");
    let (code, text, _) = ekiben(here, &["explain", "ek0802"]);
    assert!(code == 0 && text.starts_with("error[EK0802]: loading the file would run commands or code\n\n"), "{text}");
    assert_eq!(ekiben(here, &["explain", "EK9999"]).0, 2);
    for kind in ["manifest", "lock", "analytics", "bento", "bentofile", "metadata", "openapi"] {
        let (code, text, _) = ekiben(here, &["schema", kind]);
        assert!(code == 0 && text == fs::read_to_string(format!("schemas/{kind}.schema.json")).unwrap());
    }
}

#[test]
fn a_repair_is_shown_as_a_difference() {
    let folder = Folder::iris(IRIS);
    folder.write("ekiben.yaml", &format!("# mine\n{}", IRIS.replace("files", "fils")));
    let (code, _, shown) = ekiben(folder.path(), &["validate", "--fix"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("-model: {fils: [model.pkl]}\n+model: {files: [model.pkl]}\n"), "{shown}");
    assert_eq!(fs::read_to_string(folder.path().join("ekiben.yaml")).unwrap(), format!("# mine\n{IRIS}"));
}

#[test]
fn a_change_is_seen_while_watching() {
    use std::io::{BufRead, BufReader};
    let folder = Folder::iris(IRIS);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ekiben"))
        .args(["validate", "--watch", "--color", "never"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("1 project valid"));
    folder.write("src/predict.py", "def other(): pass\n");
    assert!(lines.next().unwrap().contains("1 error"));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A bundle of `manifest` and one pickle of 4 MiB that cannot be compressed, followed by `end`.
fn bundle(folder: &Folder, name: &str, manifest: &str, end: &[u8]) -> PathBuf {
    let session = Session {
        store: Store::open(&folder.path().join("store")).unwrap(),
        progress: Progress::silent(),
        client: Client::new(Network::Offline),
        making: Making::Compressed,
    };
    let mut pickle = b"\x80\x04B\0\0\x40\0".to_vec();
    pickle.extend((0..1u32 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()));
    pickle.extend(end);
    let weights = folder.path().join(format!("{name}.pkl"));
    fs::write(&weights, pickle).unwrap();
    let path = |name: &str| ArchivePath::relative(name).unwrap();
    let content = Content::file(&weights).unwrap();
    let mut bundle = Bundle::new(
        "w",
        ekiben::bundle::runtime::Convention::Ekiben,
        vec![Weight { path: path("w.pkl"), content }],
        Hashing::IfUnknown,
    );
    let lock = Lock {
        lock: 1,
        input: Digest::of("x"),
        python: None,
        platforms: Default::default(),
        relaxed: Vec::new(),
        trained: None,
        models: Vec::new(),
    };
    for (name, text) in [("ekiben.yaml", manifest.to_owned()), ("ekiben.lock", lock.to_text().unwrap())] {
        bundle.add(path(name), Content::Bytes(text.into_bytes()), Mode::Plain).unwrap();
    }
    bundle.set_version(&session, Some("1".to_owned())).unwrap();
    let file = folder.path().join(name);
    bundle.pack(&session, Form::Ekiben, &file).unwrap();
    file
}

#[test]
fn a_bundle_is_judged_with_what_is_in_it() {
    const MANIFEST: &str = "name: w\nmodel: {files: [w.pkl]}\nservice: {command: [/x]}\n";
    let folder = Folder::new(&[]);
    let validate = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ekiben"))
            .args([&["validate", "--color", "never"], arguments].concat())
            .current_dir(folder.path())
            .env("EKIBEN_HOME", folder.path().join("store"))
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    };
    let good = bundle(&folder, "good.ekiben", MANIFEST, b".");
    let (code, said) = validate(&["good.ekiben"]);
    assert!(code == 0 && said.contains("1 file valid"), "{said}");

    bundle(&folder, "bad.ekiben", MANIFEST, b"cposix\nsystem\n(S'id'\ntR.");
    let (code, said) = validate(&["bad.ekiben"]);
    assert!(code == 3 && said.contains("bad.ekiben:w.pkl: error[EK0802]"), "{said}");
    let (code, said) = validate(&["good.ekiben", "bad.ekiben", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["files"], &json["errors"]), (3, &2.into(), &1.into()));
    // What the manifest in the bundle allows.
    let allows = MANIFEST.replace("[w.pkl]", "[w.pkl], allow: [posix.system]");
    bundle(&folder, "allowed.ekiben", &allows, b"cposix\nsystem\n(S'id'\ntR.");
    assert_eq!(validate(&["allowed.ekiben"]).0, 0);
    bundle(&folder, "mistaken.ekiben", &MANIFEST.replace("service", "serwice"), b".");
    let (code, said) = validate(&["mistaken.ekiben"]);
    assert!(code == 3 && said.contains("mistaken.ekiben:ekiben.yaml:3:1: error[EK0201]"), "{said}");

    // Damaged wherever: no panic, and never good. In the frames of the weights, of the documents, and in the index.
    let whole = fs::read(&good).unwrap();
    let damaged = folder.path().join("damaged.ekiben");
    for at in [100, whole.len() / 2, whole.len() - 120, whole.len() - 3] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&damaged, bytes).unwrap();
        let (code, said) = validate(&["damaged.ekiben"]);
        assert!(code == 3 && said.contains("damaged.ekiben"), "byte {at}: {said}");
    }
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&damaged, &whole[..length]).unwrap();
        let (code, said) = validate(&["damaged.ekiben"]);
        assert!(code == 3 && said.contains("damaged.ekiben"), "{length} bytes: {said}");
    }
}

/// Python with tools from the package index, in an environment that is made once.
fn tools() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("validate-tools-1");
    let python = folder.join("bin/python");
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        let lock = fs::File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !folder.join("whole").exists() {
            let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args([
                "pre-commit==4.7.0",
                "sarif-pydantic==0.6.2",
                "junitparser==5.0.3",
            ]));
            fs::write(folder.join("whole"), "").unwrap();
        }
    });
    python
}

fn python(script: &str, input: &str) -> String {
    use std::io::Write;
    let mut child =
        Command::new(tools()).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sarif_and_junit_are_read_by_others() {
    let all = [
        "validate",
        "--output",
        "sarif",
        "fixtures/invalid/many.yaml",
        "fixtures/invalid/dangerous.pkl",
        "fixtures/iris/ekiben.yaml",
    ];
    let (code, text, _) = ekiben(Path::new("."), &all);
    assert_eq!(code, 3);
    let script = "import sys; from sarif_pydantic import Sarif; log = Sarif.model_validate_json(sys.stdin.read())\n\
                  print(log.version, sorted({result.rule_id for result in log.runs[0].results})[-1])";
    assert_eq!(python(script, &text), "2.1.0 EK0802\n");
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    for result in log["runs"][0]["results"].as_array().unwrap() {
        let rule = &log["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
    }
    let (_, text, _) = ekiben(Path::new("."), &[&["validate", "--output", "junit"], &all[3..]].concat());
    let script = "import sys; from junitparser import JUnitXml; xml = JUnitXml.fromstring(sys.stdin.buffer.read())\n\
                  suite = next(iter(xml)); print(suite.tests, suite.failures, [case.name for case in suite])";
    let expected =
        "3 2 ['fixtures/invalid/many.yaml', 'fixtures/invalid/dangerous.pkl', 'fixtures/iris/ekiben.yaml']\n";
    assert_eq!(python(script, &text), expected);
    // Whatever a file holds, the report is XML.
    let folder = Folder::new(&[("ekiben.yaml", "\u{1}]]> & <b> \u{fffe}: [")]);
    let (_, text, _) = ekiben(folder.path(), &["validate", "--output", "junit"]);
    python("import sys, xml.dom.minidom; xml.dom.minidom.parseString(sys.stdin.buffer.read())", &text);
}

#[test]
fn gitlab_knows_a_finding_again() {
    let report = |text: &str| -> Vec<serde_json::Value> {
        let folder = Folder::new(&[("ekiben.yaml", text)]);
        let (code, text, _) = ekiben(folder.path(), &["validate", "--output", "gitlab"]);
        assert_eq!(code, 3);
        serde_json::from_str(&text).unwrap()
    };
    let fingerprints = |report: &[serde_json::Value]| -> Vec<String> {
        report.iter().map(|finding| finding["fingerprint"].as_str().unwrap().to_owned()).collect()
    };
    let before = report("name: X\nversion: \"1\"\nmodel: {files: [a.pkl, a.pkl, b.pkl]}\n");
    let after = report("# A line more.\nname: X\nversion: \"1\"\nmodel: {files: [a.pkl, a.pkl, b.pkl]}\n");
    assert_eq!(fingerprints(&before), fingerprints(&after));
    let unique: BTreeSet<_> = fingerprints(&before).into_iter().collect();
    assert_eq!(unique.len(), before.len());
    let (old, new) = (&before[0], &after[0]);
    assert_eq!((&old["location"]["lines"]["begin"], &new["location"]["lines"]["begin"]), (&1.into(), &2.into()));
    assert_eq!(old["location"]["path"], "ekiben.yaml");
    assert_eq!(old["severity"], "major");
    assert!(old["check_name"].as_str().unwrap().starts_with("EK") && old["description"].is_string(), "{old}");
}

/// Does what `action.yml` says, as GitHub's runner does: its steps in turn, each a file for `sh -e`, but for other actions. Gives exit
/// code and stdout of the first that fails, or of the last.
fn act(folder: &Path, inputs: &[(&str, &str)]) -> (i32, String) {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let action = python(script, &fs::read_to_string("action.yml").unwrap());
    let action: serde_json::Value = serde_json::from_str(&action).unwrap();
    assert_eq!(action["runs"]["using"], "composite");
    assert!(inputs.iter().all(|(name, _)| action["inputs"].get(name).is_some()), "{inputs:?}");
    let value = |expression: &str| {
        let name = expression.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}")).unwrap();
        let given = inputs.iter().find(|(input, _)| *input == name).map(|(_, value)| *value);
        given.unwrap_or_else(|| action["inputs"][name]["default"].as_str().unwrap()).to_owned()
    };
    let program = Path::new(env!("CARGO_BIN_EXE_ekiben")).parent().unwrap().display();
    let mut last = (0, String::new());
    for step in action["runs"]["steps"].as_array().unwrap().iter().filter(|step| step.get("uses").is_none()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), step["run"].as_str().unwrap()).unwrap();
        assert_eq!(step["shell"], "sh");
        let mut command = Command::new("sh");
        command.arg("-e").arg(file.path()).current_dir(folder);
        command.env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap()));
        for (name, text) in step["env"].as_object().into_iter().flatten() {
            command.env(name, value(text.as_str().unwrap()));
        }
        let output = command.output().unwrap();
        last = (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap());
        if last.0 != 0 {
            break;
        }
    }
    last
}

#[test]
fn the_action_annotates_and_stops() {
    let good = Folder::iris(&format!("{IRIS}licenses: mine!\n"));
    let (code, text) = act(good.path(), &[]);
    assert!(code == 0 && text.starts_with("::warning file=ekiben.yaml,line=4"), "{text}");
    assert_eq!(act(good.path(), &[("strict", "true")]).0, 3);
    let bad = Folder::new(&[("a b/model.pkl", "cposix\nsystem\n."), ("c/model.pkl", "N.")]);
    assert_eq!(act(bad.path(), &[]).0, 3);
    assert_eq!(act(bad.path(), &[("paths", "c c/*.pkl")]).0, 0);
    assert_eq!(act(bad.path(), &[("paths", "*/model.pkl")]).0, 3);
    let (code, text) = act(bad.path(), &[("sarif", "found.sarif")]);
    assert!(code == 3 && text.contains("::error file=a b/model.pkl,title=EK0802"), "{text}");
    let sarif: serde_json::Value = serde_json::from_slice(&fs::read(bad.path().join("found.sarif")).unwrap()).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "EK0802");
}

#[test]
fn pre_commit_stops_a_bad_commit_with_the_program_on_path() {
    let program = Path::new(env!("CARGO_BIN_EXE_ekiben"));
    pre_commit_stops_a_bad_commit("ekiben-validate-system", &[("PATH", program.parent().unwrap())]);
}

/// The wheel here is one that calls the program of the tests; `scripts/test-dist.sh` has the real one.
#[test]
fn pre_commit_installs_the_wheel_without_a_network_or_a_compiler() {
    let wheels = tempfile::tempdir().unwrap();
    let script = "import json, sys, zipfile\n\
                  folder, program, version = json.load(sys.stdin)\n\
                  stem = f'ekiben-{version}'\n\
                  files = {'dist-info/METADATA': f'Metadata-Version: 2.1\\nName: ekiben\\nVersion: {version}\\n',\n\
                  'dist-info/WHEEL': 'Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: py3-none-any\\n',\n\
                  'dist-info/RECORD': '', 'data/scripts/ekiben': f'#!/bin/sh\\nexec {program} \"$@\"\\n'}\n\
                  with zipfile.ZipFile(f'{folder}/{stem}-py3-none-any.whl', 'w') as wheel:\n\
                  \x20   for name, text in files.items():\n\
                  \x20       info = zipfile.ZipInfo(f'{stem}.{name}')\n\
                  \x20       info.external_attr = 0o100755 << 16\n\
                  \x20       wheel.writestr(info, text)";
    let given = serde_json::json!([wheels.path(), env!("CARGO_BIN_EXE_ekiben"), env!("CARGO_PKG_VERSION")]);
    python(script, &given.to_string());
    let offline = [("PIP_NO_INDEX", Path::new("1")), ("PIP_FIND_LINKS", wheels.path())];
    pre_commit_stops_a_bad_commit("ekiben-validate", &offline);
}

/// What stands under `PATH` in `env` is in front of the rest.
fn pre_commit_stops_a_bad_commit(hook: &str, env: &[(&str, &Path)]) {
    let tools = tools();
    let home = tempfile::tempdir().unwrap();
    let given = |name: &str| env.iter().find(|(given, _)| *given == name).map(|(_, value)| value.display().to_string());
    let paths = given("PATH").into_iter().chain([tools.parent().unwrap().display().to_string()]);
    let path = paths.chain([std::env::var("PATH").unwrap()]).collect::<Vec<_>>().join(":");
    let run = |folder: &Path, program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .envs(env.iter().copied())
            .env("PATH", &path)
            .env("HOME", home.path())
            .env_remove("GIT_DIR")
            .env_remove("GIT_INDEX_FILE")
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b.c")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b.c")])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    // The hooks as a repository of their own: what pre-commit reads of the project, whatever is committed here.
    let hooks = home.path().join("hooks");
    fs::create_dir(&hooks).unwrap();
    fs::create_dir_all(hooks.join("packaging/hooks")).unwrap();
    for file in [".pre-commit-hooks.yaml", "pyproject.toml", "packaging/hooks/hooks.py"] {
        fs::copy(file, hooks.join(file)).unwrap();
    }
    for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "hooks"]] {
        assert!(run(&hooks, "git", arguments).0);
    }
    let (_, revision) = run(&hooks, "git", &["rev-parse", "HEAD"]);
    let folder = Folder::iris(IRIS);
    folder.write(
        ".pre-commit-config.yaml",
        &format!("repos: [{{repo: {}, rev: {}, hooks: [{{id: {hook}}}]}}]\n", hooks.display(), revision.trim()),
    );
    for arguments in [&["init", "--quiet"][..], &["add", "."]] {
        assert!(run(folder.path(), "git", arguments).0);
    }
    let (installed, said) = run(folder.path(), "pre-commit", &["install"]);
    assert!(installed, "{said}");
    let (good, said) = run(folder.path(), "git", &["commit", "-m", "good"]);
    assert!(good, "{said}");
    folder.write("model.pkl", "cposix\nsystem\n(S'id'\ntR.");
    assert!(run(folder.path(), "git", &["add", "."]).0);
    let (bad, said) = run(folder.path(), "git", &["commit", "-m", "bad"]);
    assert!(!bad && said.contains("error[EK0802]: loading the file imports `posix.system`"), "{said}");
    // What stands beside a Dockerfile is none.
    folder.write("model.pkl", "N.");
    folder.write("docker/Dockerfile.gpu", "FROM debian:13\nRUM true\n");
    folder.write("docker/Dockerfile.gpu.dockerignore", "*\n");
    folder.write("docker/Dockerfile.j2", "FROM {{ base }}\n");
    assert!(run(folder.path(), "git", &["add", "."]).0);
    let (bad, said) = run(folder.path(), "git", &["commit", "-m", "bad"]);
    assert!(!bad && said.contains("docker/Dockerfile.gpu:2:1: error[EK1002]"), "{said}");
    assert!(said.contains("1 error") && !said.contains("EK0008"), "{said}");
}

#[test]
fn what_examples_send_has_to_be_there() {
    let tests = |request: &str| format!("{IRIS}tests:\n- request: {request}\n");
    for (request, wanted) in [
        ("{features: {file: photo.png}}", vec![]),
        ("{features: [[{file: photo.png}]]}", vec![]),
        ("{features: {file: foto.png}}", vec![Code::NoFile]),
        ("{features: [{file: ../photo.png}]}", vec![Code::PathLeaves]),
        ("{feature: 1}", vec![Code::NoParameter]),
        // What is to be refused may be anything.
        ("{feature: 1}\n  status: 422", vec![]),
        ("{features: {file: photo.png, more: 1}}", vec![]),
    ] {
        let folder = Folder::iris(&tests(request));
        folder.write("photo.png", "x");
        let found = check(folder.path());
        let text = rendered(&found);
        assert_eq!(codes(&found).into_iter().collect::<Vec<_>>(), wanted, "{request}: {text}");
        assert!(wanted.is_empty() || text.contains("ekiben.yaml:5:"), "{text}");
        let is_packed = wanted.is_empty() && request.contains("{file: photo.png}");
        if is_packed {
            assert!(folder.project().files.code.iter().any(|file| file.path.as_str() == "photo.png"));
        }
    }
    let limits = |text: &str| check(Folder::iris(&IRIS.replace("predict}", &format!("predict, {text}}}"))).path());
    for good in
        ["limits: {file: 10M, request: 1Gi}", "nan: text", "nan: null", "inputs: [{name: features, accept: [image/*]}]"]
    {
        assert!(limits(good).is_empty(), "{good}: {}", rendered(&limits(good)));
    }
    for bad in ["limits: {file: 10MB}", "limits: {all: 1}", "nan: zero", "inputs: [{name: features, accept: [png]}]"] {
        assert!(limits(bad).has_errors(), "{bad}");
    }
}
