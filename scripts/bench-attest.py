#!/usr/bin/env python3
"""Measures what --attest costs: on a build that made everything anew of fixtures/iris, whose downloads are there, and on one that
changes nothing.

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
    first, listed, again, attested = [], [], [], []
    for number in range(ROUNDS):
        store = scratch / f"store{number}"
        fetched(scratch / "warm", store)
        first.append(build(project, store))
        again.append(min(build(project, store) for _ in range(5)))
        # What a first build with it does beside a first build.
        listed.append(build(project, store, "--attest") - again[-1])
        attested.append(min(build(project, store, "--attest") for _ in range(5)) - again[-1])
        shutil.rmtree(store)
print("| | build | `--attest` adds | |")
print("|---|--:|--:|--:|")
for name, plain, more in (("first build, everything downloaded", first, listed), ("nothing changed", again, attested)):
    plain, more = statistics.median(plain), statistics.median(more)
    print(f"| {name} | {plain * 1000:.0f} ms | {more * 1000:.0f} ms | {more / plain * 100:.1f} % |")
