"""MLflow's scoring server and the images of Ekiben, asked the same, side by side.

Saves models with MLflow, serves each with `mlflow models serve` and as `ekiben init --from MODEL` and `ekiben run` make it, and
sends both the same requests, good and bad. Statuses and kinds have to be the same, and of good ones the bodies, but for the last
bits of a number, which libraries round by where an array lies in memory; bodies of errors have to have the same members with the
same values, but for the words of a message, and for the stack trace, which only MLflow shows. NaN, which JSON does not have, is
null in ours. Ends with 1 where something is not.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from scoring import asked, models  # noqa: E402
from zoo import environments  # noqa: E402
from zoo.trial import Ekiben  # noqa: E402

LIGHT = ["sklearn", "xgboost", "onnx", "pyfunc"]
PATIENCE = 240
SECTION = ("<!-- scoring -->", "<!-- /scoring -->")


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/scoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--light", action="store_true", help="twenty requests to each of four models")
    parser.add_argument("--model", action="append", choices=list(models.MODELS), help="only this one; may be repeated")
    parser.add_argument("--cache", type=pathlib.Path, required=True, metavar="FOLDER", help="environments and models")
    parser.add_argument("--write", action="store_true", help="put the table into docs/mlflow.md")
    parser.add_argument(
        "--ekiben", type=pathlib.Path, default=HERE.parent.parent / "target/debug/ekiben", metavar="PROGRAM"
    )
    return parser.parse_args()


def saved(names, python, cache):
    """The folders of the models, made where they are not there as this script makes them."""
    text = (HERE / "models.py").read_bytes()
    place = cache / "scoring" / hashlib.sha256(text).hexdigest()[:12]
    missing = [name for name in names if not (place / name / "MLmodel").exists()]
    if missing:
        command = [python, HERE / "models.py", place, *missing]
        done = subprocess.run(command, env=environments.surroundings(cache), capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
    return {name: place / name for name in names}


def free_port():
    """Below those that the system itself hands out, as it may do before ours is taken."""
    while True:
        port = random.randrange(12_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Served:
    """`mlflow models serve` for a model."""

    def __init__(self, python, model, cache):
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        environment = environments.surroundings(cache)
        environment["PATH"] = f"{python.parent}:{environment['PATH']}"
        command = [python.parent / "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        command += ["-h", "127.0.0.1", "-p", str(self.port)]
        self.log = cache / "scoring" / f"{model.name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait(self):
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if answer(self.address, "GET", "/ping")[0] == 200:
                    return
            time.sleep(0.1)
        sys.exit(self.log.read_text())

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(PATIENCE)


def answer(address, method, path, body=None, kind="application/json"):
    """Status, kind and body."""
    asked_for = urllib.request.Request(f"{address}{path}", body, {"content-type": kind}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked_for, timeout=PATIENCE) as given:
            return given.status, given.headers.get_content_type(), given.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def shape(status, kind, body):
    """What has to be the same of an answer."""
    try:
        document = json.loads(body, parse_constant=lambda _: None)
    except ValueError:
        # Words, of which only these are the same as MLflow's.
        return status, kind, None if status == 415 else body
    if isinstance(document, dict) and "error_code" in document:
        has_words = isinstance(document.pop("message", None), str)
        document.pop("stack_trace", None)
        return status, kind, document, has_words
    return status, kind, document


def is_same(one, other):
    """Whether two documents are the same, but for rounding."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def compare(name, ours, theirs, requests):
    """Prints what is other; gives how many requests there were, how many answers were the same, and how many good."""
    same = good = 0
    for method, path, body, kind in requests:
        mine, other = (answer(address, method, path, body, kind) for address in (ours, theirs))
        good += other[0] == 200
        if is_same(shape(*mine), shape(*other)):
            same += 1
        else:
            print(f"{name}: {method} {path} {kind} {(body or b'')[:300]!r}\n  ours   {mine}\n  MLflow {other}")
    print(f"{name}: {same} of {len(requests)} the same, {good} of them good", flush=True)
    return len(requests), same, good


def projects(ekiben, folders, cache):
    """A project of each model."""
    place = cache / "scoring" / "projects"
    shutil.rmtree(place, ignore_errors=True)
    for name, folder in folders.items():
        # Who saves code with a model trusts it.
        code, _, words = ekiben("init", "--from", folder, place / name, "--allow", "cloudpickle.*")
        if code:
            sys.exit(f"{name}: {words}")
    return place


def main():
    options = arguments()
    names = options.model or (LIGHT if options.light else list(models.MODELS))
    cache = options.cache.resolve()
    python = environments.python("mlflow", cache)
    folders = saved(names, python, cache)
    ekiben = Ekiben(options.ekiben, cache / "scoring" / "store")
    place = projects(ekiben, folders, cache)
    results = {}
    # As many at once as a small machine has memory for.
    for at in range(0, len(names), len(LIGHT)):
        some = names[at : at + len(LIGHT)]
        servers = {name: Served(python, folders[name], cache) for name in some}
        running = []
        try:
            for name in some:
                code, report, words = ekiben("run", place / name, "--detach")
                if code or not report:
                    sys.exit(f"{name}: {words}")
                running.append(report["name"])
                servers[name].wait()
                bodies = asked.twenty(*asked.TABLES[name]) if options.light else asked.of(name)
                requests = [("POST", "/invocations", body, kind) for body, kind in bodies]
                requests += [("GET", path, None, "") for path in ("/ping", "/health", "/version")]
                results[name] = compare(name, report["address"], servers[name].address, requests)
        finally:
            for name in running:
                ekiben("stop", name)
            for server in servers.values():
                server.end()
    if options.write:
        write(results)
    sys.exit(any(same < asked_for for asked_for, same, _ in results.values()))


def write(results):
    lines = ["| model | requests | answered the same | of them with predictions |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {all_of} | {same} | {good} |" for name, (all_of, same, good) in results.items()]
    sums = [sum(column) for column in zip(*results.values())]
    lines.append(f"| all | {sums[0]:,} | {sums[1]:,} | {sums[2]:,} |")
    page = HERE.parent.parent / "docs/mlflow.md"
    before, rest = page.read_text().split(f"{SECTION[0]}\n", 1)
    page.write_text(f"{before}{SECTION[0]}\n" + "\n".join(lines) + f"\n{SECTION[1]}{rest.split(SECTION[1], 1)[1]}")


if __name__ == "__main__":
    main()
