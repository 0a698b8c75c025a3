#!/usr/bin/env python3
"""Measures the whole way on fixtures/iris, side by side with other tools, and writes the table into docs/benchmarks.md.

    scripts/bench.py            as root, on a machine with nothing else to do; takes about six minutes
    scripts/bench.py --torch    also a model with CUDA PyTorch: 3 GB of downloads, 16 GB of the disk

Needs mmdebstrap, runc, umoci and hyperfine from Debian. Runs are interleaved, medians are given. Wheels come from uv's
cache and .debs over the network, as on a machine of somebody who has built before.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = """\
name: torch
version: "1"
python: {version: "3.11", requirements: [torch==2.7.1]}
service: {predict: src/predict.py:predict}
tests:
  - {name: one number, request: {x: 1}, expect: 1.0}
"""
SECTION = ("<!-- way -->", "<!-- /way -->")


def run(*command: object, **more: object) -> float:
    """Runs a command, which must succeed, and returns its seconds."""
    started = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stderr.decode()}{done.stdout.decode()}")
    return time.perf_counter() - started


def median(measure, times: int) -> float:
    return statistics.median(measure() for _ in range(times))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_ready(command: list[object], port: int, environment: dict[str, str]) -> float:
    """Seconds from the start of a command until its /readyz answers; then it is stopped."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - started < 60:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                    return time.perf_counter() - started
            except OSError:
                time.sleep(0.005)
        sys.exit(f"{command} did not become ready")
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    ekiben = ROOT / "target/release/ekiben"
    work = Path(tempfile.mkdtemp(prefix="ekiben-bench-"))
    environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
    os.environ.update(environment)
    project = work / "iris"
    shutil.copytree(ROOT / "fixtures/iris", project)
    rows: list[tuple[str, float, str, float | None]] = []

    # uv's cache and the lock are warm from here on.
    run(ekiben, "build", project)

    def cold() -> float:
        shutil.rmtree(work / "store")
        return run(ekiben, "build", project)

    def base_alone() -> float:
        shutil.rmtree(work / "store")
        empty = work / "empty"
        empty.mkdir(exist_ok=True)
        (empty / "ekiben.yaml").write_text(
            'name: base\nversion: "1"\npython: {version: "3.11"}\nservice: {command: [python3]}\n'
        )
        (empty / "ekiben.lock").unlink(missing_ok=True)
        return run(ekiben, "build", empty)

    def mmdebstrap() -> float:
        shutil.rmtree(work / "debstrap", ignore_errors=True)
        return run("mmdebstrap", "--variant=minbase", "--include=python3-minimal", "bookworm", work / "debstrap")

    bases, others = [], []
    for _ in range(2):
        bases.append(base_alone())
        others.append(mmdebstrap())
    rows.append(("a Debian base with Python 3.11, nothing cached", statistics.median(bases), "mmdebstrap, minbase with python3-minimal", statistics.median(others)))
    rows.append(("`build`, empty store, wheels in uv's cache", median(cold, 3), "", None))

    def cold_test() -> float:
        shutil.rmtree(work / "store")
        return run(ekiben, "test", project)

    def finished() -> float:
        cold_test()
        return run(ekiben, "build", project)

    rows.append(("`test`, empty store, wheels in uv's cache", median(cold_test, 3), "", None))
    rows.append(("`build` after it: nothing but compression", median(finished, 3), "", None))
    run(ekiben, "build", project)
    rows.append(("`build`, nothing changed", median(lambda: run(ekiben, "build", project), 20), "", None))

    code = project / "src/predict.py"
    count = iter(range(10**6))

    def changed() -> float:
        code.write_text(f"{code.read_text()}\n# {next(count)}\n")
        return run(ekiben, "build", project)

    rows.append(("`build` after a change of predict.py", median(changed, 20), "", None))
    rows.append(("`validate`", median(lambda: run(ekiben, "validate", project), 20), "", None))
    rows.append(("`test`, everything cached", median(lambda: run(ekiben, "test", project), 7), "", None))

    run(ekiben, "build", project, "-t", "bench:1")
    run(ekiben, "export", "bench:1", work / "layout")
    run("umoci", "unpack", "--image", f"{work}/layout:1", work / "unpacked")
    by_hand, with_runc, in_ekiben = [], [], []
    for _ in range(9):
        port = free_port()
        chroot = [shutil.which("chroot"), "--userspec=1034:1034", work / "unpacked/rootfs"]
        shell = ["/bin/sh", "-c", f"cd /app && PORT={port} exec env/docker/entrypoint.sh"]
        variables = {"PATH": "/app/.venv/bin:/usr/bin:/bin", "EKIBEN_MODEL_DIR": "/models/iris", "PYTHONUNBUFFERED": "1"}
        by_hand.append(until_ready([*chroot, *shell], port, variables))
        port = free_port()
        in_ekiben.append(until_ready([ekiben, "run", "bench:1", "-p", port], port, environment))
    rows.append(("`run` until ready, isolated network", statistics.median(in_ekiben), "the same service started by hand (`chroot`)", statistics.median(by_hand)))

    if "--torch" in sys.argv:
        # 3 GB of wheels, which uv's cache has after the first time; the store takes 8 GB more.
        torch = work / "torch"
        (torch / "src").mkdir(parents=True)
        (torch / "ekiben.yaml").write_text(TORCH)
        (torch / "src/predict.py").write_text("def predict(x: float) -> float:\n    return x\n")
        large = os.environ | {"EKIBEN_HOME": str(work / "large")}
        run(ekiben, "test", torch, env=large)
        shutil.rmtree(work / "large")
        rows.append(("`test` with CUDA PyTorch, empty store, wheels in uv's cache", run(ekiben, "test", torch, env=large), "", None))
        rows.append(("`build` after it: nothing but compression", run(ekiben, "build", torch, env=large), "", None))
        shutil.rmtree(work / "large")

    starts = median(lambda: run(ekiben, "run", "--quiet", "bench:1", "--", "sh", "-c", ":"), 15)
    rows.append(("`run` of nothing, to its end", starts, "", None))
    size = sum(entry.stat().st_size for entry in (work / "layout/blobs/sha256").iterdir())

    lines = ["| what | ekiben | beside it | | ratio |", "|---|---|---|---|---|"]
    for what, seconds, other, its_seconds in rows:
        beside = f"{its_seconds:.2f} s" if its_seconds is not None else ""
        ratio = f"{seconds / its_seconds:.2f}" if its_seconds is not None else ""
        time_text = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
        lines.append(f"| {what} | {time_text} | {other} | {beside} | {ratio} |")
    lines.append(f"\nThe image of fixtures/iris has {size / 1e6:.0f} MB compressed.")
    table = "\n".join(lines)
    print(table)
    path = ROOT / "docs/benchmarks.md"
    text = path.read_text()
    before, rest = text.split(SECTION[0], 1)
    after = rest.split(SECTION[1], 1)[1]
    path.write_text(f"{before}{SECTION[0]}\n{table}\n{SECTION[1]}{after}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
