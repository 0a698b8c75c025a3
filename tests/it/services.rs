//! Code that answers already, for Cog or BentoML: it lies in the project as it is, and functions of ours call it.

use std::fs;

use crate::home::{Home, ran};
use serde_json::{Value, json};

const COG: &str = "build:\n  python_version: \"3.11\"\n  python_packages: [\"idna==3.10\"]\n  system_packages: [libgomp1]\n\
                   predict: \"predict.py:Predictor\"\n";

const PREDICTOR: &str = "from pathlib import Path as File\nfrom cog import AsyncConcatenateIterator, BasePredictor, Input\n\n\
                         class Predictor(BasePredictor):\n    async def setup(self, weights=None):\n        self.words = \
                         File('words.txt').read_text().split()\n\n    async def predict(self, text: str = \
                         Input(description='What to say'), count: int = Input(default=2, ge=1), mark: str = \
                         Input(choices=['!', '?']), who: str = None) -> AsyncConcatenateIterator[str]:\n        \
                         \"\"\"Says it again.\"\"\"\n        for word in self.words[:count]:\n            yield f'{text} {word}{mark} '\n";

/// A project of what lies in `folder`, with the report on it and the code that was written.
fn made(home: &Home, folder: &str, source: &str) -> (Value, String) {
    let report = home.run(["init", "--from", folder, "made", "--output", "json"]).ok().json();
    home.run(["validate", "made"]).ok();
    (report["proposal"].clone(), fs::read_to_string(home.folder().join("made/src").join(source)).unwrap())
}

fn texts(pins: &Value) -> Vec<&str> {
    pins.as_array().unwrap().iter().map(|pin| pin["text"].as_str().unwrap()).collect()
}

#[test]
fn a_predictor_of_cogs_answers() {
    let home = Home::warm();
    home.write("cogs/cog.yaml", COG);
    home.write("cogs/predict.py", PREDICTOR);
    home.write("cogs/words.txt", "one two three");
    home.write("cogs/.git/config", "");
    // Its description is as good as its folder.
    let (proposal, code) = made(&home, "cogs/cog.yaml", "answers.py");
    assert_eq!(proposal["open"], json!([]));
    assert_eq!(proposal["python"]["text"], "3.11");
    assert_eq!(texts(&proposal["requirements"]), ["idna==3.10", "cog"]);
    assert_eq!(texts(&proposal["packages"]), ["libgomp1"]);
    assert_eq!(proposal["tests"][0]["request"], json!({"text": "an example", "mark": "!"}));
    let declared = "async def predict(text: str, mark: Literal[\"!\", \"?\"], count: int = 2, who: str | None = None):";
    assert!(code.contains(declared), "{code}");
    // The person's code is what it was.
    assert_eq!(fs::read_to_string(home.folder().join("made/src/predict.py")).unwrap(), PREDICTOR);
    assert!(!home.folder().join("made/src/.git").exists());
    let tested = home.run(["test", "made", "--output", "json"]).ok().json();
    assert_eq!(tested["outcomes"][0]["body"], "an example one! an example two! ", "{tested:#}");
}

#[test]
fn what_cogs_configuration_asks_for_besides_is_said() {
    let home = Home::empty();
    home.write(
        "a/cog.yaml",
        "build:\n  gpu: true\n  run: [\"make it\"]\n  python_version: \"2.7\"\npredict: main.py:run\n",
    );
    home.write("a/main.py", "def run(image: 'Path', scale=1.5): return image\n");
    let (proposal, code) = made(&home, "a", "predict.py");
    let open = proposal["open"].to_string();
    assert!(open.contains("runs commands") && open.contains("Python 2.7"), "{open}");
    assert!(proposal["unknown"].to_string().contains("--gpus all"), "{proposal:#}");
    assert!(code.contains("def predict(image: Path, scale: Any = 1.5):") && code.contains("own.run("), "{code}");
    // A class that is not there, and a path that leaves the folder.
    for entry in ["main.py:Nothing", "../main.py:run", "main.py:x\"; import os", "", "[1]"] {
        let home = Home::empty();
        home.write("a/cog.yaml", format!("predict: {}\n", json!(entry)));
        home.write("a/main.py", "x = 1\n");
        home.write("main.py", "def run(): ...\n");
        let report = home.run(["init", "--from", "a", "made", "--output", "json"]).ok().json();
        assert_ne!(report["proposal"]["open"], json!([]), "{entry}");
        home.run(["validate", "made"]).ok();
    }
    // What is dangerous stays refused.
    home.write("a/model.pkl", "cos\nsystem\n(S'id'\ntR.");
    home.run(["init", "--from", "a", "other"]).ends(3).says("EK0802");
    assert!(!home.folder().join("other").exists());
}

#[test]
fn a_service_of_bentomls_comes_with_its_models() {
    let home = Home::empty();
    home.write("kept/models/iris/latest", "7\n");
    home.write("kept/models/iris/7/model.yaml", "name: iris\n");
    home.write("kept/models/iris/7/saved_model.pkl", b"\x80\x04N.");
    home.write("kept/models/secret/1/model.yaml", "");
    let service = "from __future__ import annotations\nimport bentoml\nimport numpy as np\nfrom pydantic import BaseModel, Field\n\n\
                   TAG = 'iris:latest'\nimage = bentoml.images.Image(python_version='3.11').requirements_file('./needs.txt')\
                   .system_packages('libgomp1').run('curl x')\n\nclass Flower(BaseModel):\n    petal: float\n\n\
                   @bentoml.service(image=image, traffic={'timeout': 3})\nclass Iris:\n    model = bentoml.models.BentoModel(TAG)\n    \
                   other = bentoml.models.BentoModel('../secret:1')\n\n    @bentoml.api(batchable=True)\n    def classify(self, rows: \
                   np.ndarray, ctx: bentoml.Context) -> np.ndarray:\n        return rows\n\n    @bentoml.api\n    async def describe(self, \
                   flower: Flower, words: list[str] = Field(['a'])) -> Flower:\n        return flower\n\n    def inner(self): ...\n";
    home.write("iris/service.py", service);
    home.write("iris/needs.txt", "# all\nbentoml==1.4.39\n-r more.txt\n");
    home.write("iris/more.txt", "scikit-learn==1.5.2 \\\n    --hash=sha256:0\n");
    let init = |home: &Home| {
        let mut command = home.command(["init", "--from", "iris", "made", "--output", "json"]);
        ran(command.env("BENTOML_HOME", home.folder().join("kept")))
    };
    let report = init(&home).ok().json();
    let proposal = &report["proposal"];
    assert_eq!(texts(&proposal["requirements"]), ["bentoml==1.4.39", "-r src/more.txt"]);
    assert_eq!((texts(&proposal["packages"]), &proposal["python"]["text"]), (vec!["libgomp1"], &json!("3.11")));
    let open = proposal["open"].to_string();
    assert!(open.contains("runs commands") && open.contains("`../secret:1` is not in BentoML's store"), "{open}");
    let folder = home.folder().join("made");
    for file in ["models/iris/7/saved_model.pkl", "models/iris/latest", "src/service.py", "src/more.txt"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    assert!(!folder.join("models/secret").exists());
    let code = fs::read_to_string(folder.join("src/predict.py")).unwrap();
    assert!(
        code.contains("def classify(rows: Any):") && code.contains("service.classify(rows=numpy.asarray(rows))"),
        "{code}"
    );
    assert!(code.contains("async def describe(flower: dict[str, Any], words: list[str] = [\"a\"]):"), "{code}");
    assert!(code.contains("(await service.describe(flower=own.Flower(**flower), words=words)).model_dump("), "{code}");
    assert!(!code.contains("inner"), "{code}");
    let manifest = fs::read_to_string(folder.join("ekiben.yaml")).unwrap();
    assert!(
        manifest.contains("predict: src/predict.py:classify\n")
            && manifest.contains("describe: src/predict.py:describe")
    );
}

#[test]
fn a_bentofile_says_what_a_service_stands_on() {
    let home = Home::empty();
    let service = "import bentoml\n\n@bentoml.service\nclass Echo:\n    @bentoml.api\n    def predict(self, text: str) -> str:\n        \
                   return text\n";
    home.write("echo/app/service.py", service);
    home.write("echo/app/__init__.py", "");
    home.write(
        "echo/bentofile.yaml",
        "service: app.service:Echo\npython: {packages: [bentoml, 'idna>=3']}\ndocker: {python_version: '3.11', system_packages: \
         [libgomp1], setup_script: ./set up.sh}\nenvs: [{name: COLOUR, value: 'blue: \"sky\"'}, {name: TOKEN}]\n",
    );
    let (proposal, code) = made(&home, "echo/bentofile.yaml", "predict.py");
    assert_eq!(texts(&proposal["requirements"]), ["bentoml", "idna>=3"]);
    assert_eq!(proposal["tests"][0]["request"], json!({"text": "an example"}));
    assert!(code.contains("import app.service as own") && code.contains("return service.predict(text=text)"), "{code}");
    let manifest = fs::read_to_string(home.folder().join("made/ekiben.yaml")).unwrap();
    assert!(
        manifest.contains("env:\n  COLOUR: \"blue: \\\"sky\\\"\"\n") && !manifest.contains("functions:"),
        "{manifest}"
    );
    assert!(proposal["open"].to_string().contains("setup_script"), "{proposal:#}");
    // The same, as newer projects have it.
    fs::remove_file(home.folder().join("echo/bentofile.yaml")).unwrap();
    fs::remove_dir_all(home.folder().join("made")).unwrap();
    home.write(
        "echo/pyproject.toml",
        "[tool.bentoml.build]\nservice = \"app.service:Echo\"\npython.packages = [\"bentoml\"]\n",
    );
    let (proposal, _) = made(&home, "echo", "predict.py");
    assert_eq!((texts(&proposal["requirements"]), &proposal["open"]), (vec!["bentoml"], &json!([])));
    // A folder of projects has one of each.
    home.write("echo2/cog.yaml", COG);
    home.write("echo2/predict.py", PREDICTOR);
    let report = home.run(["convert", "echo", "echo2", "-o", "all", "--output", "json"]).ok().json();
    assert_eq!(report["ready"], 2, "{report:#}");
}
