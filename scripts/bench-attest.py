#!/usr/bin/env python3
"""Measures what --attest costs: on a first build of a copy of fixtures/iris, whose downloads are there, and on one that changes
nothing. Builds with and without it take turns.

    scripts/bench-attest.py [ROUNDS]       EKIBEN names the program
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

EKIBEN = os.environ.get("EKIBEN", "target/release/ekiben")
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
DOWNLOADS = ("debian-index", "debian-packages", "debian-release", "debian-resolution", "uv")


def build(project, store, *more):
    """Seconds of a build."""
    started = time.perf_counter()
    environment = {**os.environ, "EKIBEN_HOME": str(store)}
    subprocess.run([EKIBEN, "-q", "build", project, *more], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def fetched(warm, folder):
    """A store that has downloads and has built nothing."""
    shutil.copytree(warm / "blobs", folder / "blobs", copy_function=os.link)
    for kind in (warm / "memory").iterdir():
        if kind.name.startswith(DOWNLOADS):
            shutil.copytree(kind, folder / "memory" / kind.name)


with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    project = scratch / "iris"
    shutil.copytree("fixtures/iris", project)
    build(project, scratch / "warm")
    first, again = {"": [], "--attest": []}, {"": [], "--attest": []}
    for number in range(ROUNDS):
        for option in first:
            store = scratch / f"store{number}{option}"
            fetched(scratch / "warm", store)
            arguments = [option] if option else []
            first[option].append(build(project, store, *arguments))
            again[option].append(min(build(project, store, *arguments) for _ in range(5)))
            shutil.rmtree(store)
print("| | without | with `--attest` | more |")
print("|---|--:|--:|--:|")
for name, times in (("first build, everything downloaded", first), ("nothing changed", again)):
    plain, attested = (statistics.median(times[option]) for option in ("", "--attest"))
    print(f"| {name} | {plain * 1000:.0f} ms | {attested * 1000:.0f} ms | {(attested - plain) * 1000:.0f} ms, {(attested / plain - 1) * 100:.1f} % |")
