#!/usr/bin/env python3
"""Prints what the program weighs: packages, bytes, the time of a fresh release build and of its first word.

    scripts/size.py [--build]       EKIBEN names the program

With --build the program is compiled anew in a folder of its own, with two processors: wall clock and processor time.
"""

import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 200


def packages(*arguments):
    """How many packages a build compiles."""
    tree = ["cargo", "tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", *arguments]
    lines = subprocess.run(tree, check=True, capture_output=True, text=True).stdout.splitlines()
    return len({" ".join(line.split()[:2]) for line in lines if line})


def built(target):
    """Seconds on the clock and of the processors."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--jobs", "2", "--target-dir", target]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, used


def first_word(program):
    """Milliseconds until it has said its version: the median, and the best."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), min(times)


program = os.environ.get("EKIBEN", "target/release/ekiben")
with tempfile.TemporaryDirectory() as scratch:
    rows = [
        ("packages in `Cargo.lock`", len(re.findall(r"^\[\[package\]\]$", pathlib.Path("Cargo.lock").read_text(), re.M))),
        ("of them compiled for `ekiben`", packages()),
        ("and with `--features operator`", packages("--features", "operator")),
    ]
    if "--build" in sys.argv[1:]:
        clock, used = built(scratch)
        rows.append(("a fresh release build, two processors", f"{clock:.0f} s, {used:.0f} s of processor time"))
        program = f"{scratch}/release/ekiben"
    rows.append(("the program", f"{pathlib.Path(program).stat().st_size / 1e6:.1f} MB"))
    median, best = first_word(program)
    rows.append(("`ekiben --version`, started by Python", f"{median:.1f} ms, at best {best:.1f}"))
print("| what | |")
print("|---|--:|")
for what, value in rows:
    print(f"| {what} | {value} |")
