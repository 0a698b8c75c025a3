#!/usr/bin/env python3
"""Measures `/invocations` beside `mlflow models serve`, and the images beside what MLflow's Dockerfile holds; prints tables, and
writes them into docs/benchmarks.md with --write.

    scripts/bench-mlflow.py --cache FOLDER [--ekiben PROGRAM] [--rounds N] [--write]

The four models of `scripts/scoring --light`, saved in the same environment, in which both servers run, in turns on a machine with
nothing else to do; `ab` asks with 8 callers on kept connections, medians are given. Sizes are of images that Ekiben builds: one as
`init` makes the project, and one with MLflow's own list of requirements on the same base, which is what `mlflow models build-docker`
installs with pip, without the nginx that it installs besides. Needs apache2-utils.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from scoring import __main__ as scoring  # noqa: E402
from scoring import asked  # noqa: E402
from zoo import environments  # noqa: E402
from zoo.trial import Ekiben  # noqa: E402

SECTION = ("<!-- mlflow -->", "<!-- /mlflow -->")


def rate(address, body, seconds):
    """Requests a second, after a second that does not count."""
    for count in (1, seconds):
        command = ["ab", "-q", "-k", "-l", "-t", str(count), "-n", "1000000", "-c", "8", "-p", body]
        command += ["-T", "application/json", f"{address}/invocations"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        sys.exit(f"{address} refuses:\n{done.stdout}")
    return float(re.search(r"Requests per second:\s+([0-9.]+)", done.stdout)[1])


class Ours:
    """The service of a project, in the environment that MLflow's server has."""

    def __init__(self, ekiben, project, python, model, work):
        bundle, app = work / f"{model.name}.ekiben", work / model.name
        shutil.rmtree(app, ignore_errors=True)
        bundle.unlink(missing_ok=True)
        for words in (["pack", project, "-o", bundle], ["unpack", bundle, app]):
            code, _, said = ekiben(*words, document=False)
            if code:
                sys.exit(said)
        self.port = scoring.free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        environment = os.environ | {"PORT": str(self.port), "LOG_LEVEL": "warning", "EKIBEN_MODEL_DIR": str(project)}
        self.process = subprocess.Popen(
            [python, "-m", "ekiben_service"], cwd=app, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )

    wait, end = scoring.Served.wait, scoring.Served.end


def bodies(name, work):
    """A row, and a hundred."""
    names, rows = asked.TABLES[name]
    found = {}
    for count in (1, 100):
        data = [rows[0]] * count
        body = {"inputs": data} if name == "onnx" else {"dataframe_split": {"columns": names, "data": data}}
        found[count] = work / f"{name}-{count}.json"
        found[count].write_text(json.dumps(body))
    return found


def size(ekiben, project):
    """Bytes of an image as it is pushed."""
    code, report, words = ekiben("build", project)
    if code or not report:
        sys.exit(words)
    return report["size"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True, metavar="FOLDER")
    parser.add_argument("--ekiben", type=pathlib.Path, default=ROOT / "target/release/ekiben", metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cache = options.cache.resolve()
    python = environments.python("mlflow", cache)
    folders = scoring.saved(scoring.LIGHT, python, cache)
    ekiben = Ekiben(options.ekiben.resolve(), cache / "scoring" / "store")
    place = scoring.projects(ekiben, folders, cache)
    rates, sizes = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        for name, folder in folders.items():
            asked_with = bodies(name, work)
            for _ in range(options.rounds):
                for who in ("ekiben", "mlflow"):
                    if who == "ekiben":
                        server = Ours(ekiben, place / name, python, folder, work)
                    else:
                        server = scoring.Served(python, folder, cache)
                    try:
                        server.wait()
                        for count, body in asked_with.items():
                            found = rates.setdefault((name, count, who), [])
                            found.append(rate(server.address, body, options.seconds))
                    finally:
                        server.end()
            theirs = work / f"{name}-mlflow"
            shutil.copytree(place / name, theirs)
            (theirs / "requirements.txt").write_text((folder / "requirements.txt").read_text())
            sizes[name] = size(ekiben, place / name), size(ekiben, theirs)
    lines = ["| | `mlflow models serve` | ekiben | ratio | goal |", "|---|--:|--:|--:|--:|"]
    for name in folders:
        for count in (1, 100):
            other, own = (statistics.median(rates[name, count, who]) for who in ("mlflow", "ekiben"))
            what = "1 row" if count == 1 else f"{count} rows"
            lines.append(f"| {name}, {what}: requests/s | {other:,.0f} | {own:,.0f} | {own / other:.2f} | ≥ 1.5 |")
    for name, (own, other) in sizes.items():
        part = own / other
        lines.append(f"| {name}: image as it is pushed | {other / 1e6:,.0f} MB | {own / 1e6:,.0f} MB | {part:.2f} | ≤ 0.5 |")
    table = "\n".join(lines)
    print(table)
    if options.write:
        path = ROOT / "docs/benchmarks.md"
        before, rest = path.read_text().split(f"{SECTION[0]}\n", 1)
        after = rest.split(SECTION[1], 1)[1]
        path.write_text(f"{before}{SECTION[0]}\n{table}\n{SECTION[1]}{after}")


if __name__ == "__main__":
    main()
