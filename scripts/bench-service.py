#!/usr/bin/env python3
"""Measures the service around a function, side by side with others around the same function, and writes the table into
docs/benchmarks.md.

    scripts/bench-service.py [EKIBEN]      on a machine with nothing else to do; takes about four minutes

Single rows, by `ab` with 8 callers on kept connections: a hand-written FastAPI application with uvloop and httptools, `bentoml
serve`, and Ekiben's service with what images get. A vectorised model asked by 64 callers: without batches, with them, and by
BentoML with `batchable`. One after the other, three rounds; medians are given. Then what a stream's first part takes more than the
function took for it, and the memory that uploads of 100 MB take. Needs apache2-utils; the packages come from the package index.
"""

import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECTION = ("<!-- service -->", "<!-- /service -->")
# What images get, and what the others run in.
OWN = ["fastapi", "fastapi-swagger", "httptools", "numpy", "python-multipart", "uvicorn"]
OTHERS = ["bentoml==1.4.39", "fastapi", "httptools", "numpy", "uvicorn", "uvloop"]
ROUNDS = 3
UPLOAD = 100_000_000
UPLOADS = (("in a form", "multipart/form-data; boundary=limit"), ("as the whole body", "application/octet-stream"))

# The same functions for all: a sum for the cost of the service alone, and a model whose work is one product of matrices.
MODEL = """\
import time
from pathlib import Path
from typing import Iterator

import numpy

WEIGHTS = numpy.random.default_rng(0).normal(size=(64, 2048)).astype("float32")
BACK = numpy.random.default_rng(1).normal(size=(2048, 2048)).astype("float32")


def single(rows: list[list[float]]) -> list[float]:
    return [sum(row) for row in rows]


def parts(seconds: float) -> Iterator[float]:
    # How long each part took.
    for _ in range(3):
        begun = time.perf_counter()
        time.sleep(seconds)
        yield time.perf_counter() - begun


def upload(file: Path) -> int:
    return file.stat().st_size


def vectorised(rows: list[list[float]]) -> list[float]:
    hidden = numpy.maximum(numpy.asarray(rows, dtype="float32") @ WEIGHTS, 0)
    for _ in range(4):
        hidden = numpy.maximum(hidden @ BACK, 0)
    return hidden.mean(axis=1).tolist()
"""
FASTAPI = """\
import json

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import model


class Request(BaseModel):
    rows: list[list[float]]


app = FastAPI()


@app.post("/single")
def single(request: Request):
    return model.single(request.rows)


class Parts(BaseModel):
    seconds: float


@app.post("/parts")
def parts(request: Parts):
    events = (f"data: {json.dumps(part)}\\n\\n" for part in model.parts(request.seconds))
    return StreamingResponse(events, media_type="text/event-stream")


@app.get("/readyz")
def ready():
    return {}
"""
BENTO = """\
import bentoml

import model


@bentoml.service(traffic={"timeout": 60, "concurrency": 1000})
class Model:
    @bentoml.api
    def single(self, rows: list[list[float]]) -> list[float]:
        return model.single(rows)

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def vectorised(self, rows: list[list[float]]) -> list[float]:
        return model.vectorised(rows)
"""
MANIFEST = {
    "name": "bench",
    "version": "1",
    "python": {"version": "3.11", "requirements": ["numpy"]},
    "service": {
        "functions": {name: f"src/model.py:{name}" for name in ("parts", "single", "upload", "vectorised")},
        "limits": {"request": "200M"},
    },
}
BATCH = {"vectorised": {"size": 64, "wait": "5ms"}}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, command, folder, environment, port):
        self.port = port
        self.process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self):
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1):
                    return self
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"{self.process.args} has ended")
                time.sleep(0.1)
        sys.exit(f"{self.process.args} does not get ready")

    def __exit__(self, *_):
        os.killpg(self.process.pid, 15)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)

    def rate(self, path, body, callers, seconds=6):
        """Requests a second, after a second that does not count."""
        for count in (1, seconds):
            command = ["ab", "-q", "-k", "-l", "-t", str(count), "-n", "1000000", "-c", str(callers), "-p", str(body)]
            command += ["-T", "application/json", f"http://127.0.0.1:{self.port}{path}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        if "Non-2xx" in done.stdout:
            sys.exit(f"{self.process.args} refuses:\n{done.stdout}")
        return float(re.search(r"Requests per second:\s+([0-9.]+)", done.stdout)[1])

    def first_part(self):
        """Milliseconds that the first part of a stream takes longer than the function: the median of 200 requests."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        found = []
        for _ in range(200):
            begun = time.perf_counter()
            connection.request("POST", "/parts", json.dumps({"seconds": 0.02}), {"content-type": "application/json"})
            answer = connection.getresponse()
            line = answer.readline()
            took = time.perf_counter() - begun
            found.append((took - float(line.removeprefix(b"data: "))) * 1000)
            answer.read()
        return statistics.median(found)

    def upload(self, kind):
        """Megabytes that the process grows by at most while it takes a file, after a small one; and seconds."""
        content = bytes(UPLOAD)
        head, tail = b"", b""
        if kind.startswith("multipart"):
            head = b'--limit\r\ncontent-disposition: form-data; name=file; filename=x.bin\r\n\r\n'
            tail = b"\r\n--limit--\r\n"
        peaks, seconds = [], 0.0
        for size in (1000, UPLOAD):
            begun = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.request("POST", "/upload", head + content[:size] + tail, {"content-type": kind})
            answer = connection.getresponse().read()
            seconds = time.perf_counter() - begun
            if answer != str(size).encode():
                sys.exit(f"{size} bytes were answered with {answer}")
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
            peaks.append(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000)
        return peaks[1] - peaks[0], seconds


def main():
    ekiben = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/ekiben").resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name, packages in (("own", OWN), ("venv", OTHERS)):
            subprocess.run([sys.executable, "-m", "venv", work / name], check=True)
            subprocess.run([work / name / "bin/python", "-m", "pip", "install", "-q", *packages], check=True)
        python = work / "own/bin/python"
        for name in ("plain", "batched"):
            project = work / name
            (project / "src").mkdir(parents=True)
            (project / "src/model.py").write_text(MODEL)
            service = MANIFEST["service"] | ({"batch": BATCH} if name == "batched" else {})
            (project / "ekiben.json").write_text(json.dumps(MANIFEST | {"service": service}))
            environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
            for command in (["pack", project, "-o", work / f"{name}.ekiben"], ["unpack", work / f"{name}.ekiben", work / f"{name}-app"]):
                subprocess.run([ekiben, *command], env=environment, check=True, capture_output=True)
        others = work / "others"
        others.mkdir()
        (others / "model.py").write_text(MODEL)
        (others / "app.py").write_text(FASTAPI)
        (others / "service.py").write_text(BENTO)
        one, row = work / "one.json", work / "row.json"
        one.write_text(json.dumps({"rows": [[1.0, 2.0, 3.0, 4.0]]}))
        row.write_text(json.dumps({"rows": [[0.5] * 64]}))

        def service(name):
            port = free_port()
            return Server([python, "-m", "ekiben_service"], work / f"{name}-app", {"PORT": str(port), "LOG_LEVEL": "warning"}, port)

        def fastapi():
            port = free_port()
            command = [work / "venv/bin/uvicorn", "app:app", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--port", port]
            return Server(command, others, {}, port)

        def bentoml():
            port = free_port()
            quiet = {"BENTOML_HOME": str(work / "bentoml"), "BENTOML_DO_NOT_TRACK": "1"}
            return Server([work / "venv/bin/bentoml", "serve", "service:Model", "--port", port], others, quiet, port)

        ways = {
            "ekiben": (lambda: service("plain"), "/single", one, 8),
            "fastapi": (fastapi, "/single", one, 8),
            "bentoml": (bentoml, "/single", one, 8),
            "alone": (lambda: service("plain"), "/vectorised", row, 64),
            "batched": (lambda: service("batched"), "/vectorised", row, 64),
            "batchable": (bentoml, "/vectorised", row, 64),
        }
        rates = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (start, path, body, callers) in ways.items():
                with start() as server:
                    rates[name].append(server.rate(path, body, callers))
        found = {name: statistics.median(values) for name, values in rates.items()}
        with service("plain") as server:
            own_part = server.first_part()
            uploads = [(what, *server.upload(kind)) for what, kind in UPLOADS]
        with fastapi() as server:
            part = server.first_part()
    lines = ["| requests a second | ekiben | beside it | | ratio | goal |", "|---|--:|---|--:|--:|--:|"]
    for what, own, other, title, goal in (
        ("single rows, 8 callers", "ekiben", "fastapi", "FastAPI, uvloop and httptools", 1.0),
        ("single rows, 8 callers", "ekiben", "bentoml", "`bentoml serve`", 2.5),
        ("a vectorised model, 64 callers, in batches", "batched", "alone", "without batches", 4.0),
        ("a vectorised model, 64 callers, in batches", "batched", "batchable", "BentoML's `batchable`", 2.5),
    ):
        ratio = found[own] / found[other]
        lines.append(f"| {what} | {found[own]:,.0f} | {title} | {found[other]:,.0f} | {ratio:.2f} | {goal} |")
    lines += ["", "| | ekiben | FastAPI | goal |", "|---|--:|--:|--:|"]
    lines.append(f"| the first part of a stream, after the function gave it | {own_part:.1f} ms | {part:.1f} ms | 5 ms |")
    for what, grown, seconds in uploads:
        lines.append(f"| memory for an upload of 100 MB, {what} | {grown:.1f} MB, {seconds:.2f} s | | constant |")
    table = "\n".join(lines)
    print(table)
    path = ROOT / "docs/benchmarks.md"
    before, rest = path.read_text().split(f"{SECTION[0]}\n", 1)
    after = rest.split(SECTION[1], 1)[1]
    path.write_text(f"{before}{SECTION[0]}\n{table}\n{SECTION[1]}{after}")


if __name__ == "__main__":
    main()
