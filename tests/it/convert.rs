//! `ekiben convert`: real models of several packages and versions become projects that answer as the models do, and
//! hostile ones become nothing.
//!
//! Needs a package index (as pip is configured) and a `python3` of version 3.11.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::{self, Home, ran};
use ekiben::formats::model;
use ekiben::project::init::proposal::{self, Words};
use serde_json::{Value, json};

/// Models that were made by these packages, and what they answer. Made once.
fn shelf(name: &str, packages: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shelves").join(name);
    fs::create_dir_all(&folder).unwrap();
    // Tests that run at the same time wait here for each other.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (venv, models) = (folder.join("venv"), folder.join("models"));
    let script = fs::read("fixtures/shelf/make.py").unwrap();
    let made = [packages.join(" ").as_bytes(), &script].concat();
    if fs::read(folder.join("made")).ok().as_ref() != Some(&made) {
        let _ = fs::remove_dir_all(&models);
        ran(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).ok();
        let python = venv.join("bin/python");
        ran(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"]).args(packages))
            .ok();
        ran(Command::new(&python).arg("fixtures/shelf/make.py").arg(&models)).ok();
        fs::write(folder.join("made"), made).unwrap();
    }
    models
}

fn new_shelf() -> PathBuf {
    let packages =
        ["scikit-learn==1.5.2", "numpy==2.1.3", "scipy==1.14.1", "joblib==1.4.2", "pandas==2.2.3", "lightgbm==4.5.0"];
    shelf("1.5", &[&packages[..], &["xgboost-cpu==2.1.3"]].concat())
}

fn old_shelf() -> PathBuf {
    shelf("1.3", &["scikit-learn==1.3.2", "numpy==1.26.4", "scipy==1.11.4", "joblib==1.3.2", "pandas==2.1.4"])
}

/// All files of a folder with their bytes.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in home::names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            files.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// The row of a model in a report.
fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["models"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {report:#}"))
}

fn requirements(row: &Value) -> Vec<&str> {
    row["proposal"]["requirements"].as_array().unwrap().iter().map(|pin| pin["text"].as_str().unwrap()).collect()
}

#[test]
fn a_shelf_becomes_projects_with_what_the_models_say() {
    let (home, shelf) = (Home::empty(), new_shelf());
    let shelf = shelf.to_str().unwrap();
    let report = home.run(["convert", shelf, "--into", "projects", "--output", "json"]).ok().json();

    let pinned = ["scikit-learn==1.5.2", "numpy>=2,<2.2", "scipy<1.15"];
    let iris = row(&report, "iris");
    assert_eq!(iris["state"], "ready");
    assert_eq!(iris["proposal"]["framework"], "scikit-learn 1.5.2");
    assert_eq!(iris["proposal"]["class"], "Pipeline (StandardScaler, LogisticRegression)");
    assert_eq!(requirements(iris), pinned);
    let python = &iris["proposal"]["python"];
    assert_eq!(python["text"], "3.11");
    assert_eq!(python["reason"], "scikit-learn 1.5.2 runs on 3.9 to 3.13; Debian bookworm has 3.11");
    // The means of the four measurements, as the scaler has them.
    let request = &iris["proposal"]["tests"][0]["request"];
    assert_eq!(*request, json!({ "features": [[5.843, 3.057, 3.758, 1.199]] }));

    for (name, state, class, input) in [
        ("forest-joblib", "ready", json!("RandomForestClassifier"), "rows of 4 numbers"),
        ("forest-gz", "ready", json!("RandomForestClassifier"), "rows of 4 numbers"),
        ("mixed", "ready", json!("Pipeline (ColumnTransformer, LinearRegression)"), "rows of 2 named columns"),
        ("words", "ready", json!("Pipeline (TfidfVectorizer, LogisticRegression)"), "texts"),
        ("search", "ready", json!("GridSearchCV (LogisticRegression)"), "rows of 4 numbers"),
        ("few", "ready", json!("PCA"), "rows of 4 numbers"),
        ("dictionary", "ready", json!("Pipeline (StandardScaler, LogisticRegression)"), "rows of 4 numbers"),
        ("two", "incomplete", json!("Pipeline (StandardScaler, LogisticRegression)"), "rows of 4 numbers"),
        ("list", "incomplete", json!(null), "unknown"),
        ("together", "ready", json!("LogisticRegression"), "rows of 4 named columns"),
        ("pair", "ready", json!("LogisticRegression"), "rows of 4 numbers"),
        ("opinions", "ready", json!("Pipeline (ColumnTransformer, LogisticRegression)"), "rows of 2 named columns"),
        ("script", "incomplete", json!("Doubles"), "unknown"),
        ("own", "ready", json!("Doubles"), "unknown"),
        ("boosted", "ready", json!("LGBMClassifier"), "rows of 4 numbers"),
        ("boosted-named", "ready", json!("LGBMClassifier"), "rows of 4 named columns"),
        ("trees", "ready", json!("XGBClassifier"), "rows of 4 numbers"),
        ("trees-named", "ready", json!("XGBClassifier"), "rows of 2 named columns"),
    ] {
        let row = row(&report, name);
        assert_eq!(row["state"], state, "{row:#}");
        assert_eq!(row["proposal"]["class"], class, "{name}");
        assert_eq!(row["proposal"]["input"], input, "{name}");
    }
    for protocol in 0..6 {
        let row = row(&report, &format!("protocol-{protocol}"));
        assert_eq!(requirements(row), pinned, "{protocol}");
        assert_eq!(row["proposal"]["tests"][0]["request"], *request, "{protocol}");
    }
    let opinions = &row(&report, "opinions")["proposal"]["tests"];
    assert_eq!(opinions[0]["request"], json!({ "rows": [{ "review": "an example", "stars": 3.0 }] }));
    // A category that the encoder knows, and the mean of the other column.
    let tests = &row(&report, "mixed")["proposal"]["tests"];
    assert_eq!(tests[0]["request"], json!({ "rows": [{ "city name": "Bonn", "age": 45.0 }] }));
    assert_eq!(requirements(row(&report, "boosted"))[..2], ["scikit-learn==1.5.2", "numpy>=2,<2.2"]);
    assert!(requirements(row(&report, "boosted")).contains(&"lightgbm>=4"));
    assert_eq!(row(&report, "boosted")["proposal"]["packages"][0]["text"], "libgomp1");
    assert!(requirements(row(&report, "trees")).contains(&"xgboost-cpu==2.1.3"));
    assert_eq!(row(&report, "trees")["proposal"]["framework"], "xgboost 2.1.3");
    assert_eq!(requirements(row(&report, "forest-joblib"))[0], "joblib");
    let asked = fs::read_to_string(home.folder().join("projects/dictionary/src/predict.py")).unwrap();
    assert!(asked.contains("model = model[\"model\"]"), "{asked}");
    assert!(home.folder().join("projects/own/src/own_model.py").is_file());

    // All of them are valid, and warned of is only what is told as well.
    let validated = home.run(["validate", "projects", "--output", "json"]).ok().json();
    let warned: Vec<_> =
        validated["diagnostics"].as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap()).collect();
    assert_eq!(warned, ["EK0409", "EK0810"], "{validated:#}");

    // Once more, one by one and for a person: the same bytes.
    for name in ["iris.pkl", "mixed.pkl", "own.pkl", "boosted named.pkl"] {
        home.run(["convert", &format!("{shelf}/{name}"), "-o", "again"]).ok();
    }
    for name in home::names(&home.folder().join("again")) {
        assert_eq!(tree(&home.folder().join("again").join(&name)), tree(&home.folder().join("projects").join(&name)));
    }
}

#[test]
fn converted_projects_answer_as_their_models_do() {
    let home = Home::warm();
    for (shelf, names, into) in [
        (new_shelf(), &["iris", "mixed", "boosted", "own", "together", "pair", "opinions"][..], "new"),
        (old_shelf(), &["iris", "mixed"], "old"),
    ] {
        let answers: Value = serde_json::from_slice(&fs::read(shelf.join("answers.json")).unwrap()).unwrap();
        for name in names {
            let model = shelf.join(format!("{name}.pkl"));
            home.run(["convert", model.to_str().unwrap(), "--into", into]).ok();
            let project = home.folder().join(into).join(name);
            home.run(["validate".as_ref(), "--strict".as_ref(), project.as_os_str()]).ok();
            // What was written asks already; the answers of the model itself come on top.
            let manifest = project.join("ekiben.yaml");
            let known = &answers[format!("{name}.pkl")];
            let (request, answer) = (&known["request"], &known["answer"]);
            let mut text = fs::read_to_string(&manifest).unwrap();
            if !text.contains("\ntests:") {
                text += "\ntests:";
            }
            text += &format!("\n  - name: as in Python\n    request: {request}\n    expect: {answer}\n");
            fs::write(&manifest, text).unwrap();
            let tested = home.run(["test".as_ref(), "--output".as_ref(), "json".as_ref(), project.as_os_str()]).ok();
            let tested = tested.json();
            assert_eq!(tested["failed"], 0, "{tested:#}");
            // A regression has no probabilities, and of the own class nobody knows an example.
            let (passed, answered) = match *name {
                "own" => (1, 0),
                "mixed" => (2, 1),
                _ => (2, 2),
            };
            assert_eq!((&tested["passed"], &tested["answered"]), (&passed.into(), &answered.into()), "{tested:#}");
        }
    }
}

#[test]
fn an_older_release_gets_what_it_was_made_for() {
    let (home, shelf) = (Home::empty(), old_shelf());
    let report = home.run(["convert", shelf.to_str().unwrap(), "-o", "projects", "--output", "json"]).ok().json();
    let iris = row(&report, "iris");
    assert_eq!(requirements(iris), ["scikit-learn==1.3.2", "numpy<2", "scipy<1.12"]);
    assert_eq!(
        iris["proposal"]["python"]["reason"],
        "scikit-learn 1.3.2 runs on 3.8 to 3.12; Debian bookworm has 3.11"
    );
    assert_eq!(row(&report, "mixed")["proposal"]["input"], "rows of 2 named columns");
}

#[test]
fn hostile_and_broken_models_become_nothing_and_stop_no_other() {
    let home = Home::empty();
    let mark = home.path("was-run");
    let command = format!("cos\nsystem\n(S'touch {mark}'\ntR.");
    let good =
        b"\x80\x04\x8c\x1bsklearn.linear_model._basic\x8c\x10LinearRegression\x93)\x81}(\x8c\x0en_features_in_K\x02\
        \x8c\x10_sklearn_version\x8c\x051.5.2ub.";
    home.write("shelf/evil.pkl", &command);
    home.write("shelf/evil nested.joblib", [&b"\x80\x04B\x08\0\0\0"[..], b"\x80\x04cos\na\n", b"."].concat());
    home.write("shelf/cut.pkl", &good[..good.len() - 30]);
    home.write("shelf/empty.pkl", b"");
    home.write("shelf/text.pkl", b"not a pickle");
    home.write("shelf/good.pkl", good);
    let report = home.run(["convert", "shelf", "missing.pkl", "-o", "made", "--output", "json"]).ends(3).json();
    for (name, state) in [
        ("evil", "refused"),
        ("evil-nested", "refused"),
        ("cut", "refused"),
        ("text", "refused"),
        ("empty", "failed"),
        ("missing", "failed"),
        ("good", "ready"),
    ] {
        assert_eq!(row(&report, name)["state"], state, "{report:#}");
    }
    assert_eq!([&report["ready"], &report["refused"], &report["failed"]], [1, 4, 2]);
    assert_eq!(row(&report, "evil")["diagnostics"][0]["code"], "EK0802");
    assert_eq!(home::names(&home.folder().join("made")), ["good"]);
    assert!(!Path::new(&mark).exists());
    // For a person: the diagnostics of `validate`, and the row.
    let said = home.run(["convert", "shelf/evil.pkl"]).ends(3).says("EK0802");
    assert!(said.out.contains("refused") && said.out.contains("--allow"), "{}", said.out);
    // `init` is the same, and for programs the diagnostics are part of the error.
    let failed = home.run(["init", "--from", "shelf/evil.pkl", "new", "--output", "json"]).ends(3);
    let error: Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!(error["error"]["name"], "init/refused");
    assert_eq!(error["error"]["diagnostics"][0]["code"], "EK0802", "{error:#}");
    // Whoever insists, names it; the manifest does as well, so `validate` knows.
    home.run(["convert", "shelf/evil.pkl", "--allow", "os.system", "--allow", "not.imported"]).ok();
    let manifest = fs::read_to_string(home.folder().join("evil/ekiben.yaml")).unwrap();
    assert!(manifest.contains("  allow:\n    - os.system\n") && !manifest.contains("not.imported"), "{manifest}");
    home.run(["validate", "evil"]).ok();
    assert!(!Path::new(&mark).exists());
    // A layer of code is refused and allowed in the same way.
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in
        [("config.json", "{\"class_name\": \"Lambda\"}"), ("metadata.json", "{}"), ("model.weights.h5", "")]
    {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    home.write("layers.keras", archive.finish().unwrap().into_inner());
    home.run(["convert", "layers.keras"]).ends(3).says("EK0805");
    home.run(["convert", "layers.keras", "--allow", "keras.layers.Lambda"]).ok();
    home.run(["validate", "layers"]).ok();
    // Without any that is refused, the exit code is another one.
    home.run(["convert", "missing.pkl"]).ends(1);
}

/// A pickle that a project is made of.
const SMALL: &[u8] = b"\x80\x04\x8c\x1bsklearn.linear_model._basic\x8c\x10LinearRegression\x93)\x81}(\
    \x8c\x0en_features_in_K\x02\x8c\x10_sklearn_version\x8c\x051.5.2ub.";

#[test]
fn what_cloudpickle_wrote_is_asked_by_what_it_takes() {
    let home = Home::empty();
    for name in ["class", "call", "function", "other"] {
        home.write(&format!("{name}.pkl"), fs::read(format!("fixtures/models/written-{name}.pkl")).unwrap());
    }
    let made = |name: &str| {
        let file = format!("{name}.pkl");
        // It is code, and taken only by whoever says so.
        home.run(["convert", &file]).ends(3).says("EK0805");
        let report = home.run(["convert", &file, "--allow", "cloudpickle.*", "--output", "json"]).ok().json();
        home.run(["validate", name]).ok();
        let code = fs::read_to_string(home.folder().join(name).join("src/predict.py")).unwrap();
        (row(&report, name).clone(), code)
    };
    let (class, code) = made("class");
    assert_eq!((&class["state"], &class["proposal"]["class"]), (&json!("ready"), &json!("Thermometer")));
    assert!(code.contains("def predict(readings: Any):") && code.contains("model.predict(readings)"), "{code}");
    assert!(class["proposal"]["python"]["text"] == "3.11" && requirements(&class) == ["cloudpickle"], "{class:#}");
    // A method of a class that it is derived of; a function, with what that imports.
    let (call, code) = made("call");
    assert!(call["state"] == "ready" && code.contains("return model(value)"), "{code}");
    let (function, code) = made("function");
    assert!(code.contains("def predict(weights: Any, days: Any):"), "{code}");
    assert!(code.contains("return model(weights=weights, days=days)"), "{code}");
    assert_eq!(requirements(&function), ["cloudpickle", "numpy"]);
    let (other, _) = made("other");
    assert_eq!(other["state"], "incomplete");
    assert_eq!(other["proposal"]["open"][0], "Store has no `predict`, but `find`: call it in src/predict.py");
}

#[test]
fn names_are_safe_and_unique() {
    let home = Home::empty();
    for name in
        ["a/iris.pkl", "b/iris.pkl", "b/Iris Ü [1].pkl", "c/x.pkl", "c/x.joblib", "d/model.pkl", "日本.pkl", "-.pkl"]
    {
        home.write(&format!("shelf/{name}"), SMALL);
    }
    let quoted = home.write("shelf/e/'\"; $(touch x) \n#.pkl", SMALL);
    let report = home.run(["convert", "shelf", "-o", "made", "--output", "json"]).ok().json();
    let names = home::names(&home.folder().join("made"));
    assert_eq!(report["ready"], 9, "{report:#}");
    assert_eq!(names.len(), 9, "{names:?}");
    for name in ["a-iris", "b-iris", "x-pkl", "x-joblib", "d", "iris----1", "shelf", "shelf-2", "touch-x"] {
        assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
    }
    // What is written is right, whatever the files are called.
    home.run(["validate", "made", "--strict"]).ok();
    assert!(quoted.exists() && !home.folder().join("x").exists());
    home.run(["convert", "shelf/a/iris.pkl", "--name", "../up"]).ends(1);
    home.run(["convert", "shelf", "--name", "one"]).ends(1);
    // The same model twice is one.
    let report = home.run(["convert", "shelf/a/iris.pkl", "shelf/a/../a/iris.pkl", "--output", "json"]).ok().json();
    assert_eq!(report["models"].as_array().unwrap().len(), 1);
}

/// A text as a pickle has it.
fn text(text: &str) -> Vec<u8> {
    [b"X", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn foreign_names_get_into_code_and_yaml_as_texts_alone() {
    let home = Home::empty();
    let columns = ["a\"b", "x\n  - evil: 1", "{{ 1 }}{% if", "\"\"\"\\", "# no", "\u{1b}[31m", "ü"];
    let mut pickle = [b"\x80\x04", &text("sklearn.x\"; import os")[..], &text("A\n\"\"\"B"), b"\x93)\x81}("].concat();
    pickle.extend(text("feature_names_in_"));
    pickle.extend([b"]("[..].to_vec(), columns.iter().flat_map(|name| text(name)).collect(), b"e".to_vec()].concat());
    pickle.extend([text("_sklearn_version"), text("1.5.2\n--index-url http://evil"), b"ub.".to_vec()].concat());
    home.write("names.pkl", pickle);
    let report = home.run(["convert", "names.pkl", "--output", "json"]).ok().json();
    let request = row(&report, "names")["proposal"]["tests"][0]["request"]["rows"][0].as_object().unwrap();
    assert_eq!(request.len(), columns.len());
    // What follows a version is not believed.
    assert!(requirements(row(&report, "names")).contains(&"scikit-learn"), "{report:#}");
    home.run(["validate", "names"]).ok();
    let compiled =
        Command::new("python3").args(["-m", "py_compile"]).arg(home.folder().join("names/src/predict.py")).output();
    assert!(compiled.unwrap().status.success());
    let said = home.run(["convert", "names.pkl", "-o", "again"]).ok();
    assert!(!said.out.contains('\u{1b}'), "{}", said.out);
}

#[test]
fn whatever_is_left_of_a_model_ends_in_a_proposal_or_none() {
    let shelf = new_shelf();
    let own = Path::new("fixtures/models");
    for (folder, name) in [
        (shelf.as_path(), "mixed.pkl"),
        (&shelf, "forest.joblib"),
        (&shelf, "boosted.pkl"),
        (&shelf, "trees named.pkl"),
        (own, "written-class.pkl"),
        (own, "written-function.pkl"),
    ] {
        let bytes = fs::read(folder.join(name)).unwrap();
        for at in 0..bytes.len().min(3000) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            for bytes in [&bytes[..at], &flipped] {
                let open = || Ok(Box::new(std::io::Cursor::new(bytes.to_vec())) as Box<dyn std::io::Read + Send>);
                let model = model::inspect(&model::Origin::Stream(&open), name, bytes.len() as u64).unwrap();
                let proposal = proposal::of_file(&model, name);
                let files = [name.to_owned()];
                let words = Words {
                    name: "x",
                    version: None,
                    files: &files,
                    elsewhere: None,
                    allow: &[],
                    source: "src/predict.py",
                    ours: true,
                    root: None,
                    schema: None,
                };
                proposal.texts(&words).unwrap();
            }
        }
    }
}

#[test]
fn what_is_there_stays_unless_it_may_be_replaced() {
    let home = Home::empty();
    let model = home.write("iris.pkl", SMALL);
    home.run(["convert", "iris.pkl"]).ok();
    assert_eq!(home::names(&home.folder().join("iris")), ["ekiben.yaml", "iris.pkl", "requirements.txt", "src"]);
    let first = tree(&home.folder().join("iris"));
    home.write("iris/src/mine.py", "");
    home.write("iris/ekiben.yaml", "changed");
    let said = home.run(["convert", "iris.pkl"]).ends(1);
    assert!(said.out.contains("iris is there already") && said.out.contains("--force"), "{}", said.out);
    assert_eq!(fs::read_to_string(home.folder().join("iris/ekiben.yaml")).unwrap(), "changed");
    // A copy: the project keeps its model when the original is written into.
    fs::write(&model, [SMALL, b"more"].concat()).unwrap();
    assert_eq!(fs::read(home.folder().join("iris/iris.pkl")).unwrap(), SMALL);
    fs::write(&model, SMALL).unwrap();
    home.run(["convert", "iris.pkl", "--force"]).ok();
    let mut again = tree(&home.folder().join("iris"));
    assert_eq!(again.remove("src/mine.py").as_deref(), Some(&b""[..]));
    assert_eq!(again, first);
    // Linked, they are the same file; and it stays where it was.
    home.run(["convert", "iris.pkl", "--force", "--link"]).ok();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&model), inode(&home.folder().join("iris/iris.pkl")));
    assert_eq!(tree(&home.folder().join("iris")).len(), first.len() + 1);
    // Nothing else was left.
    assert_eq!(home::names(home.folder()), ["iris", "iris.pkl"]);
    // A project and a folder with one are not converted.
    home.run(["convert", "iris"]).ends(1);
    // A folder that is there, and is no project, is not written into either.
    home.write("wine/notes.txt", "");
    home.write("wine.pkl", SMALL);
    home.run(["convert", "wine.pkl"]).ends(1);
    assert_eq!(home::names(&home.folder().join("wine")), ["notes.txt"]);
}

#[test]
fn folders_of_mlflow_and_transformers_are_models() {
    let home = Home::empty();
    home.write("runs/churn/model.pkl", SMALL);
    home.write(
        "runs/churn/MLmodel",
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    python_version: 3.9.18\n  \
         sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\nsaved_input_example_info:\n  \
         artifact_path: input_example.json\nsignature:\n  inputs: '[{\"type\": \"double\", \"name\": \"age\"}, \
         {\"type\": \"string\", \"name\": \"plan\"}]'\n",
    );
    home.write("runs/churn/input_example.json", r#"{"columns": ["age", "plan"], "data": [[41.5, "basic"]]}"#);
    home.write("runs/churn/requirements.txt", "mlflow==2.17.0\nscikit-learn==1.5.2\n-r more.txt\n");
    home.write(
        "runs/other/MLmodel",
        "flavors:\n  python_function:\n    loader_module: mlflow.prophet\n    data: model.pr\n    python_version: 3.11.2\n",
    );
    home.write("runs/other/model.pr", "{}");
    home.write(
        "runs/other/conda.yaml",
        "dependencies:\n- python=3.11.2\n- pip:\n  - mlflow==2.17.0\n  - prophet==1.1.6\n",
    );
    home.write("runs/embeds/modules.json", "[]");
    home.write(
        "runs/embeds/config_sentence_transformers.json",
        r#"{"__version__": {"sentence_transformers": "3.1.1", "transformers": "4.45.2", "pytorch": "2.2.2+cu121"}}"#,
    );
    home.write("runs/embeds/model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    home.write(
        "runs/mood/config.json",
        r#"{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "transformers_version": "4.45.2"}"#,
    );
    home.write("runs/mood/tokenizer.json", "{}");
    home.write("runs/mood/pytorch_model.bin", b"\x80\x02}q\x00.");
    home.write("runs/bad/config.json", r#"{"model_type": "bert"}"#);
    home.write("runs/bad/pytorch_model.bin", b"cos\nsystem\n(S'id'\ntR.");
    std::os::unix::fs::symlink("/etc/hostname", home.folder().join("runs/out.pkl")).unwrap();
    let report = home.run(["convert", "runs", "-o", "made", "--output", "json"]).ends(3).json();
    assert_eq!(report["models"].as_array().unwrap().len(), 5, "{report:#}");
    assert_eq!(row(&report, "bad")["state"], "refused");

    let churn = row(&report, "churn");
    assert_eq!(churn["state"], "ready", "{churn:#}");
    assert_eq!(churn["proposal"]["python"]["text"], "3.9");
    assert_eq!(requirements(churn)[0], "scikit-learn==1.5.2");
    assert!(!requirements(churn).iter().any(|text| text.contains("mlflow")));
    let request = json!({ "rows": [{ "age": 41.5, "plan": "basic" }] });
    assert_eq!(churn["proposal"]["tests"][0]["request"], request);
    assert!(churn["proposal"]["unknown"].to_string().contains("-r more.txt"), "{churn:#}");
    let code = fs::read_to_string(home.folder().join("made/churn/src/predict.py")).unwrap();
    assert!(code.contains("model.predict(table(rows))") && code.contains("\"model/model.pkl\""), "{code}");

    let other = row(&report, "other");
    assert_eq!(requirements(other), ["mlflow-skinny==2.17.0", "prophet==1.1.6", "pandas<3"]);
    let embeds = row(&report, "embeds");
    let pins = ["sentence-transformers>=3", "transformers>=4", "torch"];
    assert_eq!((&embeds["state"], requirements(embeds)), (&json!("ready"), pins.to_vec()));
    let mood = row(&report, "mood");
    assert_eq!((&mood["state"], &mood["proposal"]["input"]), (&json!("ready"), &json!("texts")));
    home.run(["validate", "made", "--strict"]).ok();
    // A link out of the folder takes nothing along.
    std::os::unix::fs::symlink("/etc/hostname", home.folder().join("runs/mood/vocab.txt")).unwrap();
    home.run(["convert", "runs/mood", "-o", "other"]).ends(1);
    assert!(!home.folder().join("other/mood").exists());
}

#[test]
fn init_tries_requirements_against_the_index() {
    let home = Home::warm();
    let model = |version: &str| {
        let mut bytes = SMALL[..SMALL.len() - "1.5.2ub.".len()].to_vec();
        let at = bytes.len() - 2;
        assert_eq!(&bytes[at..], b"\x8c\x05");
        bytes[at + 1] = u8::try_from(version.len()).unwrap();
        [&bytes, version.as_bytes(), b"ub."].concat()
    };
    // There is no such release.
    home.write("m.pkl", model("1.4.100"));
    let report = home.run(["init", "--from", "m.pkl", "a/deep/m", "--output", "json"]).ok().json();
    let loosened = &report["loosened"][0];
    let after = ("scikit-learn==1.4.100", "scikit-learn==1.5.0");
    assert_eq!((&loosened["before"], &loosened["after"]), (&json!(after.0), &json!(after.1)), "{report:#}");
    assert_eq!(report["proposal"]["requirements"][0]["text"], after.1);
    let written = || fs::read_to_string(home.folder().join("a/deep/m/requirements.txt")).unwrap();
    assert!(
        written().starts_with(
            "scikit-learn==1.5.0  # in the place of scikit-learn==1.4.100: it has no wheel for Python 3.11"
        )
    );
    home.run(["validate", "a/deep/m"]).ok();
    // What can be had stays, and so does all where nobody can be asked.
    let unchanged = |command: &mut Command, folder: &str, version: &str| {
        let said = ran(command.args(["init", "--from", "m.pkl", folder])).ok();
        let text = fs::read_to_string(home.folder().join(folder).join("requirements.txt")).unwrap();
        assert!(text.starts_with(&format!("scikit-learn=={version}  # saved the model\n")), "{text}");
        said
    };
    let command = || home.command(std::iter::empty::<&str>());
    unchanged(command().arg("--offline"), "off", "1.4.100").says("the network is off (--offline)");
    let nobody = "http://127.0.0.1:1/simple";
    let started = std::time::Instant::now();
    let said = unchanged(command().env("UV_DEFAULT_INDEX", nobody).env("UV_NO_CACHE", "1"), "quiet", "1.4.100");
    assert!(!said.err.contains("127.0.0.1") && started.elapsed().as_secs() < 40, "{}", said.err);
    home.write("m.pkl", model("1.5.2"));
    let said = unchanged(&mut command(), "good", "1.5.2");
    assert!(!said.err.contains("Loosened"), "{}", said.err);
}

#[test]
fn init_begins_with_what_the_model_says() {
    let home = Home::empty();
    home.write("iris/iris.pkl", SMALL);
    home.run(["init", "iris", "--from", "iris/iris.pkl"]).ok();
    home.run(["convert", "iris/iris.pkl", "-o", "made"]).ok();
    assert_eq!(tree(&home.folder().join("iris")), tree(&home.folder().join("made/iris")));
    // A folder that a person names says what the project is called; one that is just here does not.
    let name = |args: &[&str], folder: &str| {
        home.run(["init", "--offline"].iter().chain(args)).ok();
        let manifest = fs::read_to_string(home.folder().join(folder).join("ekiben.yaml")).unwrap();
        manifest.lines().find_map(|line| line.strip_prefix("name: ")).unwrap().to_owned()
    };
    assert_eq!(name(&["--from", "iris/iris.pkl", "deep/My Flowers"], "deep/My Flowers"), "my-flowers");
    assert_eq!(name(&["--from", "iris/iris.pkl", "--name", "rose", "deep/other"], "deep/other"), "rose");
    assert_eq!(name(&["--from", "iris/iris.pkl"], "."), "iris");
}
