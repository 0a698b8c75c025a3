//! The routes of others' protocols: OpenAI's, asked by its own client for Python, and KServe's.

use std::process::Command;

use serde_json::{Value, json};

use crate::service::{Service, installed, tiny};

const MODEL: &str = "import time\n\
    from ekiben_service import credentials\n\
    def chat(messages: list[dict], temperature: float = 1.0):\n    \
        last = messages[-1]['content']\n    \
        if last == 'refuse':\n        \
            raise ValueError('it was refused')\n    \
        yield 'you said '\n    \
        if last == 'fail':\n        \
            raise KeyError('secret')\n    \
        yield f'{last} at {temperature}'\n\
    async def complete(prompt: str, **options):\n    \
        return {'content': f'{prompt} {sorted(options)}', 'usage': {'total_tokens': 3}, 'finish_reason': 'length'}\n\
    def embed(texts: list[str]):\n    \
        import numpy\n    \
        return numpy.array([[len(text), 0.1] for text in texts])\n";

/// Says what the client got, a line for each request.
const CLIENT: &str = "import json, openai, sys\n\
    client = openai.OpenAI(base_url=sys.argv[1], api_key='any', max_retries=0)\n\
    def say(*values):\n    \
        print(json.dumps(values))\n\
    def chat(text, **more):\n    \
        return client.chat.completions.create(model='tiny', messages=[{'role': 'user', 'content': text}], **more)\n\
    def failing(work):\n    \
        try:\n        \
            say('no error', str(work()))\n    \
        except openai.APIError as error:\n        \
            say(type(error).__name__, error.message)\n\
    say([one.id for one in client.models.list()], client.models.retrieve('tiny').id)\n\
    answer = chat('hello', temperature=0.5)\n\
    say(answer.choices[0].message.role, answer.choices[0].message.content, answer.choices[0].finish_reason)\n\
    say([chunk.choices[0].delta.content for chunk in chat('hello', stream=True)])\n\
    answer = client.completions.create(model='tiny', prompt='once', max_tokens=4)\n\
    say(answer.choices[0].text, answer.choices[0].finish_reason, answer.usage.total_tokens)\n\
    stream = client.completions.create(model='tiny', prompt='once', stream=True)\n\
    say([chunk.choices[0].text if chunk.choices else chunk.usage.total_tokens for chunk in stream])\n\
    say([one.embedding for one in client.embeddings.create(model='tiny', input=['a', 'bcd']).data])\n\
    say(client.embeddings.create(model='tiny', input='a', encoding_format='float').data[0].embedding)\n\
    failing(lambda: client.completions.create(model='other', prompt='x'))\n\
    failing(lambda: chat('refuse'))\n\
    failing(lambda: chat('fail'))\n\
    failing(lambda: list(chat('fail', stream=True)))\n\
    failing(lambda: chat('x', temperature='hot'))\n\
    failing(lambda: chat('x', n=2))\n\
    failing(lambda: client.embeddings.create(model='tiny', input=[[1, 2]]))\n";

#[test]
fn openais_own_client_understands_each_route() {
    let openai = json!({
        "chat": "src/predict.py:chat", "completions": "src/predict.py:complete", "embeddings": "src/predict.py:embed",
    });
    let service = Service::start(&tiny(&json!({ "openai": openai, "root": "/llm" })), MODEL).ready();
    let (_home, site) = installed(["openai"]);
    let output = Command::new("python3")
        .args(["-c", CLIENT, &format!("http://127.0.0.1:{}/llm/v1", service.port)])
        .env("PYTHONPATH", site)
        .env_remove("OPENAI_BASE_URL")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!([["tiny"], "tiny"]),
        json!(["assistant", "you said hello at 0.5", "stop"]),
        json!([["you said ", "hello at 1.0", null]]),
        json!(["once ['max_tokens']", "length", 3]),
        json!([["once []", "", 3]]),
        json!([[[1.0, 0.100_000_001_490_116_12], [3.0, 0.100_000_001_490_116_12]]]),
        json!([[1.0, 0.1]]),
        json!(["NotFoundError", "Error code: 404 - the model `other` does not exist"]),
        json!(["BadRequestError", "Error code: 400 - it was refused"]),
        json!(["InternalServerError", "Error code: 500 - internal error"]),
        json!(["APIError", "internal error"]),
        json!(["BadRequestError", "Error code: 400 - temperature: Input should be a valid number"]),
        json!(["BadRequestError", "Error code: 400 - there is one answer at a time"]),
        json!(["BadRequestError", "Error code: 400 - `input` is a text or a list of texts"]),
    ];
    let (log, trouble) = (service.log(), String::from_utf8_lossy(&output.stderr));
    for (said, expected) in said.iter().zip(&expected) {
        assert_eq!(said, expected, "{trouble}{log}");
    }
    assert_eq!(said.len(), expected.len(), "{trouble}");
    assert!(log.contains("KeyError: 'secret'"), "{log}");
    let paths = &service.get("/llm/openapi.json").json()["paths"];
    assert!(paths["/v1/chat/completions"]["post"].is_object() && paths["/v1/models"]["get"].is_object());
    // What is no question of theirs.
    for (body, status) in [("{", 400), ("[]", 400), (r#"{"model": "tiny"}"#, 400), (r#"{"messages": []}"#, 404)] {
        let answer = service.ask("POST", "/llm/v1/chat/completions", "", body);
        assert_eq!((answer.status, answer.json()["error"]["message"].is_string()), (status, true), "{body}");
    }
}

#[test]
fn who_does_not_use_it_has_nothing_of_it() {
    let manifest = tiny(&json!({ "predict": "src/predict.py:embed" }));
    let service = Service::start(&manifest, MODEL).ready();
    for module in ["openai", "kserve", "stream", "workers"] {
        assert!(!service.root.path().join(format!("ekiben_service/{module}.py")).exists(), "{module}");
    }
    assert_eq!(service.get("/v1/models").status, 404);
}

#[test]
fn a_function_of_arrays_answers_as_kserve_asks() {
    let source = "import numpy as np\n\
        def predict(a: np.ndarray, b: np.ndarray = None):\n    \
            if a.size == 0:\n        \
                raise ValueError('nothing to do')\n    \
            return a * 2 if b is None else {'sum': a + b, 'kind': [str(a.dtype)]}\n";
    let manifest = tiny(&json!({ "predict": "src/predict.py:predict", "kserve": "predict" }));
    let service = Service::start(&manifest, source).ready();
    let infer = |path: &str, body: &Value| service.post(&format!("/v2/models/{path}/infer"), body);
    let tensor =
        |name: &str, kind: &str, data: Value| json!({ "name": name, "shape": [2, 2], "datatype": kind, "data": data });
    let a = tensor("a", "FP32", json!([1, 2, 3.5, 4]));
    let answer = infer("tiny", &json!({ "id": "mine", "inputs": [a] }));
    let wanted = json!({
        "model_name": "tiny", "model_version": "1", "id": "mine",
        "outputs": [{ "name": "output", "shape": [2, 2], "datatype": "FP32", "data": [2.0, 4.0, 7.0, 8.0] }],
    });
    assert_eq!(answer.json(), wanted, "{}", service.log());
    // Nested data, two tensors, a chosen output, by the version.
    let b = tensor("b", "FP32", json!([[1, 1], [1, 1]]));
    let answer = infer("tiny/versions/1", &json!({ "inputs": [a, b] })).json();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 3.0, 4.5, 5.0]), "{}", service.log());
    assert_eq!(answer["outputs"][1], json!({ "name": "kind", "shape": [1], "datatype": "BYTES", "data": ["float32"] }));
    let chosen = infer("tiny", &json!({ "inputs": [a, b], "outputs": [{ "name": "kind" }] })).json();
    assert_eq!(chosen["outputs"].as_array().unwrap().len(), 1);
    for (body, status) in [
        (json!({}), 400),
        (json!({ "inputs": [{ "name": "a", "shape": [3], "datatype": "FP32", "data": [1] }] }), 400),
        (json!({ "inputs": [{ "name": "a", "shape": [-1], "datatype": "FP32", "data": [1] }] }), 400),
        (json!({ "inputs": [{ "name": "a", "shape": [1], "datatype": "FP32", "data": ["x"] }] }), 400),
        (json!({ "inputs": [{ "name": "a", "shape": [1], "datatype": "COMPLEX", "data": [1] }] }), 400),
        (json!({ "inputs": [{ "name": "c", "shape": [1], "datatype": "FP32", "data": [1] }] }), 400),
        (json!({ "inputs": [{ "name": "a", "shape": [0], "datatype": "FP32", "data": [] }] }), 400),
        (json!({ "inputs": [a, b, a] }), 400),
    ] {
        let answer = infer("tiny", &body);
        assert_eq!((answer.status, answer.json()["error"].is_string()), (status, true), "{body}: {}", answer.body);
    }
    assert_eq!(infer("other", &json!({ "inputs": [a] })).status, 404);
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready"] {
        assert_eq!(service.get(path).status, 200, "{path}");
    }
    assert!(service.get("/metrics").body.contains(r#"path="/v2/models/tiny/infer",status="200""#));
}
