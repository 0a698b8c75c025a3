//! Models of MLflow's, asked beside `mlflow models serve`; and what a manifest says of them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::home::{Home, ran, tool};
use crate::service::{Service, tiny};

#[test]
fn models_of_mlflow_answer_as_its_own_server_does() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zoo");
    let compared = ran(tool("python3")
        .args(["scripts/scoring", "--light", "--ekiben", env!("CARGO_BIN_EXE_ekiben"), "--cache"])
        .arg(cache));
    assert_eq!(compared.code, Some(0), "{}{}", compared.out, compared.err);
    for (name, good) in [("sklearn", 13), ("xgboost", 13), ("onnx", 11), ("pyfunc", 13)] {
        let line = compared.out.lines().find(|line| line.starts_with(&format!("{name}: 23 of 23 the same, ")));
        let counted = line.and_then(|line| line.split(' ').nth(6)?.parse::<u32>().ok());
        assert!(counted.is_some_and(|counted| counted >= good), "{}{}", compared.out, compared.err);
    }
}

const MODEL: &str = "import numpy\n\
    def predict(x):\n    \
        return x\n\
    def invocations(data, params):\n    \
        if params['mode'] == 'fail':\n        \
            raise KeyError('secret')\n    \
        if params['mode'] == 'nan':\n        \
            return [float('nan'), numpy.float32(0.5)]\n    \
        return data.assign(total=data['a'] * params['factor'])\n";

fn signed() -> Value {
    json!({
        "predict": "src/predict.py:predict",
        "root": "/iris/api",
        "limits": { "request": "4k" },
        "mlflow": {
            "predict": "src/predict.py:invocations",
            "version": "3.17.2",
            "inputs": [
                { "name": "a", "type": "double" },
                { "name": "b", "type": "datetime" },
                { "name": "c", "type": "string", "required": false },
            ],
            "params": [
                { "name": "factor", "type": "float", "default": 2.0 },
                { "name": "mode", "type": "string", "default": "" },
            ],
            "outputs": [{ "name": "total", "type": "double" }],
        },
    })
}

#[test]
fn a_function_is_given_what_the_signature_says() {
    let service = Service::start(&tiny(&signed()), MODEL).ready();
    let post = |body: &Value| {
        let text = body.to_string();
        let answer = service.ask("POST", "/iris/api/invocations", "content-type: application/json\r\n", text);
        (answer.status, answer.json())
    };
    let rows =
        json!([{ "c": "x", "b": "2024-01-02T03:04:05", "a": 3 }, { "a": 1.5, "b": "2024-01-02T00:00:00", "c": null }]);
    let (status, answer) = post(&json!({ "dataframe_records": rows, "params": { "factor": 3 } }));
    let expected = json!({ "predictions": [
        { "a": 3.0, "b": "2024-01-02T03:04:05", "c": "x", "total": 9.0 },
        { "a": 1.5, "b": "2024-01-02T00:00:00", "c": null, "total": 4.5 },
    ] });
    assert_eq!((status, answer), (200, expected), "{}", service.log());
    // What JSON does not have is null.
    let one = json!([{ "a": 1, "b": "2024-01-02" }]);
    let asked = |params: Value| post(&json!({ "dataframe_records": one, "params": params }));
    assert_eq!(asked(json!({ "mode": "nan" })), (200, json!({ "predictions": [null, 0.5] })));
    let code = |answer: (u16, Value)| (answer.0, answer.1["error_code"].as_str().unwrap_or_default().to_owned());
    let bad = |status, code: &str| (status, code.to_owned());
    assert_eq!(code(asked(json!({ "factor": "large" }))), bad(400, "INVALID_PARAMETER_VALUE"));
    assert_eq!(code(post(&json!({ "dataframe_records": [{ "a": 1 }] }))), bad(400, "INVALID_PARAMETER_VALUE"));
    assert_eq!(code(post(&json!({ "dataframe_records": [{ "a": "x" }] }))), bad(400, "BAD_REQUEST"));
    assert_eq!(code(post(&json!({ "inputs": "x".repeat(5000) }))), bad(413, "BAD_REQUEST"));
    // What was sent does not all come back.
    let (status, answer) =
        post(&json!({ "dataframe_records": [{ "a": 1, "b": "2024-01-02", "c": ["x".repeat(3500)], "d": 1 }] }));
    assert!(answer["message"].as_str().is_none_or(|message| message.len() < 2500), "{status} {answer}");
    let (status, answer) = post(&json!({ "inputs": { "a": ["x".repeat(3500)] } }));
    assert!(status == 400 && answer["message"].as_str().unwrap().len() < 2500, "{status} {answer}");
    // Where the code broke is in the log alone.
    let (status, answer) = asked(json!({ "mode": "fail" }));
    assert_eq!((status, &answer["error_code"]), (400, &json!("BAD_REQUEST")));
    assert!(!answer.to_string().contains("secret") && service.log().contains("KeyError: 'secret'"), "{answer}");
    // A body without a kind, which MLflow's server breaks off at.
    assert_eq!(service.ask("POST", "/iris/api/invocations", "", "{}").status, 415);
    for path in ["/ping", "/health", "/version", "/invocations"] {
        assert_eq!(service.get(path).status, 404, "{path}");
    }
    assert_eq!(service.get("/iris/api/ping").status, 200);
    assert_eq!(service.get("/iris/api/version").body, "3.17.2");
    assert_eq!(service.get("/iris/api/invocations").status, 405);
    assert_eq!(service.get("/iris/api/openapi.json").json(), service.document);
}

#[test]
fn the_signature_is_described() {
    let service = Service::start(&tiny(&signed()), MODEL);
    let operation = &service.document["paths"]["/invocations"]["post"];
    let content = &operation["requestBody"]["content"];
    assert_eq!(content["text/csv"]["schema"]["description"], "a,b,c");
    let forms = content["application/json"]["schema"]["oneOf"].as_array().unwrap();
    let names: Vec<_> = forms.iter().map(|form| form["title"].as_str().unwrap()).collect();
    assert_eq!(names, ["dataframe_split", "dataframe_records", "instances", "inputs"]);
    let record = &forms[1]["properties"]["dataframe_records"]["items"];
    assert_eq!(record["required"], json!(["a", "b"]));
    assert_eq!(record["properties"]["b"], json!({ "type": "string", "format": "date-time" }));
    let params = &forms[0]["properties"]["params"]["properties"];
    assert_eq!(params["factor"], json!({ "type": "number", "format": "float", "default": 2.0 }));
    let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    let predictions = &answer["properties"]["predictions"];
    assert_eq!(predictions["items"]["properties"]["total"]["type"], "number", "{predictions}");
    assert!(service.document["paths"]["/version"]["get"].is_object());
}

#[test]
fn without_mlflow_there_is_nothing_of_it() {
    let service = Service::start(&tiny(&json!({ "predict": "src/predict.py:predict" })), MODEL);
    for module in ["mlflow", "signature"] {
        assert!(!service.root.path().join(format!("ekiben_service/{module}.py")).exists(), "{module}");
    }
}

fn logged(home: &Home, name: &str, flavours: &str, requirements: &str) {
    home.write(&format!("{name}/MLmodel"), format!("flavors:\n{flavours}mlflow_version: 2.9.2\n"));
    home.write(&format!("{name}/requirements.txt"), requirements);
}

#[test]
fn a_flavour_that_python_alone_does_not_load_is_named() {
    let home = Home::empty();
    let python =
        |loader: &str| format!("  python_function:\n    loader_module: {loader}\n    python_version: 3.11.2\n");
    logged(&home, "spark", &python("mlflow.spark"), "mlflow==2.9.2\n");
    home.run(["init", "--from", "spark", "made"])
        .ends(1)
        .says("MLflow's flavour `spark` is not served")
        .says("docs/models.md");
    logged(&home, "r", "  crate:\n    version: 0.5\n", "");
    home.run(["init", "--from", "r", "made"]).ends(1).says("`crate`");
    assert!(!home.folder().join("made").exists());
    // A loader of one's own, beside the model; and one of MLflow's, which its small package has.
    logged(&home, "own", &(python("my_loader") + "    code: code\n"), "mlflow==2.9.2\nnumpy==1.26.4\n");
    home.run(["init", "--from", "own", "made", "--offline"]).ok();
    let requirements = fs::read_to_string(home.folder().join("made/requirements.txt")).unwrap();
    let pins: Vec<_> = requirements.lines().map(|line| line.split("  #").next().unwrap()).collect();
    assert_eq!(pins, ["mlflow-skinny==2.9.2", "numpy==1.26.4", "pandas<3"]);
    home.run(["validate", "made"]).ok();
}
