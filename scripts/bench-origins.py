#!/usr/bin/env python3
"""Models from where they live: an object of S3's beside curl, and MLflow's registry followed.

    cargo build --release && python3 scripts/bench-origins.py target/release/ekiben CACHE [--size 2048] [--kills 30] [--write]

Needs docker-registry, curl and GNU time. An environment with MLflow and a server of objects is made in CACHE from the package index. All
servers are on loopback and end with this. `--write` puts the figures into docs/benchmarks.md.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

PACKAGES = ["mlflow==3.17.2", "moto[server]==5.1.22", "scikit-learn==1.5.2", "numpy==1.26.4", "scipy==1.14.1"]
ROOT = pathlib.Path(__file__).resolve().parent.parent

REGISTER = """
import sys, mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
client = mlflow.MlflowClient()
data, kinds = load_iris(return_X_y=True, as_frame=True)
models = []
for number in range(4):
    with mlflow.start_run() as run:
        model = LogisticRegression(max_iter=100 + number).fit(data, kinds)
        models.append((mlflow.sklearn.log_model(model, name='model', input_example=data.head(2)), run.info.run_id))
client.create_registered_model('iris')
for number in range(200):
    info, run = models[number % 4]
    client.create_model_version('iris', info.model_uri, run_id=run, model_id=info.model_id)
"""


def port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Servers:
    def __init__(self, python, folder):
        self.processes, self.folder, self.python = [], folder, python
        self.s3, self.mlflow, self.registry = port(), port(), port()
        self.env = dict(
            os.environ, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret", AWS_DEFAULT_REGION="us-east-1",
            AWS_EC2_METADATA_DISABLED="true", MLFLOW_S3_ENDPOINT_URL=f"http://127.0.0.1:{self.s3}",
            MLFLOW_TRACKING_URI=f"http://127.0.0.1:{self.mlflow}", MLFLOW_DISABLE_TELEMETRY="true",
            EKIBEN_HOME=str(folder / "home"))

    def start(self, at, *command):
        log = open(self.folder / "servers.log", "ab")
        process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        self.processes.append(process)
        for _ in range(600):
            try:
                return socket.create_connection(("127.0.0.1", at)).close()
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"{command[0]} does not start")

    def __enter__(self):
        bin = self.python.parent
        self.start(self.s3, bin / "moto_server", "-H", "127.0.0.1", "-p", str(self.s3))
        self.run("import boto3, os; boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL']).create_bucket(Bucket='models')")
        self.start(self.mlflow, bin / "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.mlflow), "--workers", "1",
                   "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination", "s3://models/artifacts")
        config = self.folder / "registry.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.folder}/registry}}}}\n"
                          f"http: {{addr: '127.0.0.1:{self.registry}'}}\n")
        self.start(self.registry, "docker-registry", "serve", str(config))
        return self

    def __exit__(self, *_):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)

    def run(self, script):
        subprocess.run([self.python, "-c", script], env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(command, env, check=True):
    """Seconds and peak memory in MB of a command."""
    with tempfile.NamedTemporaryFile("r") as report:
        started = time.perf_counter()
        subprocess.run(["/usr/bin/time", "-f", "%M", "-o", report.name, *map(str, command)], env=env, check=check,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started, int(report.read().split()[-1]) / 1024


def objects(servers, ekiben, size):
    """A large object: fetched and hashed by others, and built into an image by us."""
    whole = servers.folder / "large.bin"
    with open(whole, "wb") as file:
        for _ in range(size // 64):
            file.write(os.urandom(64 << 20))
    servers.run(f"import boto3, os; boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL']).upload_file({str(whole)!r}, 'models', 'large.bin')")
    whole.unlink()
    project = servers.folder / "large"
    project.mkdir()
    (project / "ekiben.yaml").write_text("name: large\nversion: '1'\nbase: scratch\nservice: {command: [/bin/true]}\n"
                                         "model: {files: [{from: 's3://models/large.bin'}]}\n")
    copy = servers.folder / "copy.bin"
    url = f"http://127.0.0.1:{servers.s3}/models/large.bin"
    theirs, ours = [], []
    for _ in range(3):
        theirs.append(timed(["sh", "-c", f"curl -sf -o {copy} {url} && sha256sum {copy}"], servers.env)[0])
        copy.unlink()
        shutil.rmtree(servers.folder / "home", ignore_errors=True)
        (project / "ekiben.lock").unlink(missing_ok=True)
        ours.append(timed([ekiben, "build", project], servers.env))
    shutil.rmtree(servers.folder / "home", ignore_errors=True)
    return min(theirs), min(time for time, _ in ours), max(memory for _, memory in ours)


def follow(servers, ekiben, kills):
    servers.run(REGISTER)

    def tag(versions):
        servers.run("import mlflow\nclient = mlflow.MlflowClient()\n" + "".join(
            f"client.set_model_version_tag('iris', '{one}', 'production', 'true')\n" for one in versions))

    command = [ekiben, "follow", "models:/", "--where", "tags.production = 'true'", "--push", f"127.0.0.1:{servers.registry}/models"]
    tag([1])
    timed([*command, "--once"], servers.env)
    tag([2])
    one, _ = timed([*command, "--once"], servers.env)
    idle, _ = timed([*command, "--once"], servers.env)
    tag([3, 4, 5])
    for _ in range(kills):
        process = subprocess.Popen([*map(str, command), "--every", "1s"], env=servers.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.05, 4))
        process.kill()
        process.wait()
    timed([*command, "--once"], servers.env)
    get = lambda url: json.load(urllib.request.urlopen(url))
    tags = get(f"http://127.0.0.1:{servers.registry}/v2/models/iris/tags/list")["tags"]
    assert sorted(tags) == ["1", "2", "3", "4", "5"], tags
    for number in range(1, 6):
        version = get(f"http://127.0.0.1:{servers.mlflow}/api/2.0/mlflow/model-versions/get?name=iris&version={number}")
        said = {one["key"]: one["value"] for one in version["model_version"]["tags"]}
        request = urllib.request.Request(f"http://127.0.0.1:{servers.registry}/v2/models/iris/manifests/{number}", method="HEAD",
                                         headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
        digest = urllib.request.urlopen(request).headers["Docker-Content-Digest"]
        assert said["ekiben.status"] == "done" and said["ekiben.image"].endswith(digest), (number, said, digest)
    return one, idle


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ekiben", type=pathlib.Path)
    parser.add_argument("cache", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=2048, help="of the object, in MiB")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    python = args.cache.resolve() / "origins" / "bin" / "python"
    if not python.exists():
        subprocess.run(["python3", "-m", "venv", python.parent.parent], check=True)
        subprocess.run([python, "-m", "pip", "-q", "install", *PACKAGES], check=True)
    ekiben = args.ekiben.resolve()
    # Whoever stops this stops the servers too.
    signal.signal(signal.SIGTERM, lambda *_: exit(143))
    with tempfile.TemporaryDirectory() as folder, Servers(python, pathlib.Path(folder)) as servers:
        theirs, ours, memory = objects(servers, ekiben, args.size)
        one, idle = follow(servers, ekiben, args.kills)
    lines = [
        "| what | here | goal |", "|---|---|---|",
        f"| an object of {args.size} MiB: `ekiben build` beside `curl` and `sha256sum` | {ours:.1f} s beside {theirs:.1f} s, {ours / theirs:.2f} × | 1.2 × |",
        f"| its peak memory | {memory:.0f} MB | 100 MB |",
        f"| from a tag to a pushed image, wheels cached | {one:.1f} s | 15 s |",
        f"| a round over 200 versions with nothing to do | {idle:.2f} s | 2 s |",
        f"| `follow` killed {args.kills} times: images and tags that are not as they should be | 0 | 0 |",
    ]
    table = "\n".join(lines)
    print(table)
    if args.write:
        path = ROOT / "docs" / "benchmarks.md"
        before, rest = path.read_text().split("<!-- origins -->")
        path.write_text(f"{before}<!-- origins -->\n{table}\n<!-- /origins -->{rest.split('<!-- /origins -->')[1]}")


main()
