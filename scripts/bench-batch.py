#!/usr/bin/env python3
"""Measures how many records `batch` answers in a second, beside the same function in a plain loop of Python and behind the service, and
writes the table into docs/benchmarks.md.

    scripts/bench-batch.py [EKIBEN]      on a machine with nothing else to do; takes about two minutes

The functions are those of `scripts/bench-service.py`: a sum, for what a record costs, and a model whose work is products of matrices.
Records are lines of JSON with one row each. The loop reads, decodes, calls, encodes and writes, and checks nothing. One way after the
other, three rounds; medians are given, without the start of the process. Needs apache2-utils.
"""

import json
import os
import pathlib
import re
import runpy
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECTION = ("<!-- batch -->", "<!-- /batch -->")
SERVICE = runpy.run_path(str(ROOT / "scripts/bench-service.py"))
ROUNDS = 3
# Records and values in a row, callers of the service, and rows that are given together.
FUNCTIONS = {"single": (50_000, 4, 8, 64), "vectorised": (1_000, 64, 64, 64)}
LOOP = """\
import json, sys, time
sys.path.insert(0, "src")
import model
function = getattr(model, sys.argv[1])
begun, count = time.perf_counter(), 0
with open(sys.argv[2]) as records, open(sys.argv[3], "w") as results:
    for line in records:
        results.write(json.dumps(function(**json.loads(line))) + "\\n")
        count += 1
print(count / (time.perf_counter() - begun))
"""


def loop(python, app, function, records):
    command = [python, "-c", LOOP, function, records, records.with_suffix(".loop")]
    return float(subprocess.run(command, cwd=app, check=True, capture_output=True, text=True).stdout)


def batch(python, app, function, records, together=None):
    output = records.with_suffix(".out.jsonl")
    command = [python, "-m", "ekiben_service", "batch", "-i", records, "-o", output, "-f", function, "--overwrite"]
    command += ["--together", str(together)] if together else []
    said = subprocess.run(list(map(str, command)), cwd=app, check=True, capture_output=True, text=True).stderr
    if len(output.read_text().splitlines()) != len(records.read_text().splitlines()):
        sys.exit(f"not all were answered: {said}")
    return float(re.findall(r'"records_per_second": ([0-9.]+)', said)[-1])


def http(python, app, function, body, callers):
    port = SERVICE["free_port"]()
    environment = {"PORT": str(port), "LOG_LEVEL": "warning"}
    with SERVICE["Server"]([python, "-m", "ekiben_service"], app, environment, port) as server:
        return server.rate(f"/{function}", body, callers)


def main():
    ekiben = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/ekiben").resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        subprocess.run([sys.executable, "-m", "venv", work / "own"], check=True)
        python = work / "own/bin/python"
        subprocess.run([python, "-m", "pip", "install", "-q", *SERVICE["OWN"]], check=True)
        (work / "project/src").mkdir(parents=True)
        (work / "project/src/model.py").write_text(SERVICE["MODEL"])
        (work / "project/ekiben.json").write_text(json.dumps(SERVICE["MANIFEST"]))
        environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
        for command in (["pack", work / "project", "-o", work / "a.ekiben"], ["unpack", work / "a.ekiben", work / "app"]):
            subprocess.run([ekiben, *command], env=environment, check=True, capture_output=True)
        app = work / "app"
        lines = ["| records a second | `batch` | rows together | a plain loop | by HTTP |", "|---|--:|--:|--:|--:|"]
        for function, (count, width, callers, together) in FUNCTIONS.items():
            body, records = work / "body.json", work / f"{function}.jsonl"
            body.write_text(json.dumps({"rows": [[0.5] * width]}))
            records.write_text("".join(json.dumps({"rows": [[number / 7] * width]}) + "\n" for number in range(count)))
            ways = {
                "batch": lambda: batch(python, app, function, records),
                "together": lambda: batch(python, app, function, records, together),
                "loop": lambda: loop(python, app, function, records),
                "http": lambda: http(python, app, function, body, callers),
            }
            rates = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    rates[name].append(way())
            found = {name: statistics.median(values) for name, values in rates.items()}
            shown = " | ".join(f"{found[name]:,.0f}" for name in ways)
            what = "a sum of four numbers" if function == "single" else "a vectorised model"
            lines.append(f"| {what} | {shown} |")
    table = "\n".join(lines)
    print(table)
    path = ROOT / "docs/benchmarks.md"
    before, rest = path.read_text().split(f"{SECTION[0]}\n", 1)
    after = rest.split(SECTION[1], 1)[1]
    path.write_text(f"{before}{SECTION[0]}\n{table}\n{SECTION[1]}{after}")


if __name__ == "__main__":
    main()
