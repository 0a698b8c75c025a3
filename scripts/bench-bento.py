#!/usr/bin/env python3
"""Measures `ekiben build` of a bento beside `bentoml containerize`, and writes docs/benchmarks.md.

    scripts/bench-bento.py [--rounds N] [--python PYTHON] [--folder FOLDER] [--no-build]

As root. Needs mmdebstrap and a docker that builds with BuildKit: 20.10, or one with buildx. PYTHON is that of an
environment with BentoML 1.4 and scikit-learn; `cargo test --test it bento::` makes one. A daemon of its own is started and
ended, on a base that is made here of Debian and has the name of the one that the bento asks for. Cold means that
nothing is there but the base, .debs (in a proxy that both sides use) and wheels (in the caches of both). What a command
leaves to be written to the disk is written before the next begins.
"""

import argparse
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from containerized import BASE, Docker, free_port, make_base, proxy, run

ROOT = pathlib.Path(__file__).resolve().parent.parent
EKIBEN = str(ROOT / "target/release/ekiben")
PAGE = ROOT / "docs/benchmarks.md"
PYTHON = ROOT / "target/tmp/bentos/1.4.39/venv/bin/python"
REQUEST = b'{"features": [[1.4, 0.2]]}'


def until_answer(command, port, env, stop):
    """Seconds from the start of a command until the model answers."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/classify", REQUEST, {"content-type": "application/json"})
    try:
        while time.perf_counter() - started < 60:
            try:
                with urllib.request.urlopen(request, timeout=30):
                    return time.perf_counter() - started
            except OSError:
                time.sleep(0.01)
        sys.exit(f"{command} does not answer")
    finally:
        stop(process)
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=pathlib.Path, default=PYTHON, help="of an environment with BentoML 1.4")
    parser.add_argument("--folder", default=ROOT / "target", help="where to work")
    parser.add_argument("--no-build", action="store_true", help="measure what lies in target/release")
    args = parser.parse_args()
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "--bin", "ekiben"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder) as name, proxy() as through:
        folder = pathlib.Path(name).resolve()
        docker = Docker(folder)
        try:
            measure(args, folder, docker, through)
        finally:
            docker.stop()


def measure(args, folder, docker, through):
    bentoml = args.python.with_name("bentoml")
    docker.env |= {"BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    own = docker.env | {"EKIBEN_HOME": str(folder / "store"), "http_proxy": through}
    make_base(docker, folder, through)
    run(args.python, ROOT / "tests/bentos/make.py", folder, "iris", env=docker.env)
    archive, unpacked = folder / "iris.bento", folder / "unpacked"
    unpacked.mkdir()
    run("tar", "-xJf", archive, "-C", unpacked)
    containerize = [bentoml, "containerize", "--opt", "network=host"]
    times = {}

    def note(what, seconds):
        times.setdefault(what, []).append(seconds)
        print(f"{seconds:8.3f} s  {what}", flush=True)

    def containerized(tag, image):
        return run(*containerize, tag, "--image-tag", image, env=docker.env)[0]

    # Wheels and .debs are there from here on.
    containerized("iris:1", "iris:bentoml")
    run(EKIBEN, "build", archive, env=own)
    for number in range(args.rounds):
        docker.forget("iris:bentoml")
        # Another folder: where many files were just deleted, ext4 takes long to make new ones.
        own["EKIBEN_HOME"] = str(folder / f"store-{number}")
        note("containerize, cold", containerized("iris:1", "iris:bentoml"))
        archive.with_name("iris.bento.lock").unlink()
        note("ekiben, cold", run(EKIBEN, "build", archive, env=own)[0])

        note("containerize, nothing changed", containerized("iris:1", "iris:bentoml"))
        note("ekiben, nothing changed", run(EKIBEN, "build", archive, env=own)[0])

        project = folder / "project"
        shutil.copytree(ROOT / "tests/bentos/iris", project, dirs_exist_ok=True)
        shutil.copy(unpacked / "src/bentofile.yaml", project)
        code = unpacked / "src/service.py"
        for file in (project / "service.py", code):
            file.write_text(f"{file.read_text()}\n# {number}\n")
        version = f"change-{number}"
        build = [bentoml, "build", "--version", version, project]
        note("bentoml build, code changed", run(*build, env=docker.env)[0])
        note("containerize, code changed", containerized(f"iris:{version}", "iris:changed"))
        run(EKIBEN, "build", unpacked, env=own)
        code.write_text(f"{code.read_text()}\n# {number} again\n")
        note("ekiben, code changed", run(EKIBEN, "build", unpacked, env=own)[0])
        note("ekiben, new bento", run(EKIBEN, "build", f"bento:iris:{version}", env=own)[0])

    run(EKIBEN, "build", archive, "--tag", "iris:ekiben", env=own)
    run(EKIBEN, "export", "iris:ekiben", folder / "iris.tar", env=own)
    docker("load", "--input", folder / "iris.tar")
    sizes = {image: docker.size(image) for image in ("iris:bentoml", "iris:ekiben", BASE)}

    def end(process):
        process.terminate()

    for _ in range(args.rounds + 2):
        for image in ("iris:bentoml", "iris:ekiben"):
            port = free_port()
            options = ["--rm", "--network=host", "--name=served", "--env", f"PORT={port}"]
            stop = lambda _: docker("rm", "--force", "served")  # noqa: E731
            note(f"docker run {image}", until_answer([docker.program, "run", *options, image], port, docker.env, stop))
        port = free_port()
        command = [EKIBEN, "run", "iris:ekiben", "--publish", str(port)]
        note("ekiben run", until_answer(command, port, own, end))
    write(args, times, sizes, bentoml)


def write(args, times, sizes, bentoml):
    middle = {what: statistics.median(seconds) for what, seconds in times.items()}
    version = run(bentoml, "--version")[1].split()[-1]
    changed = middle["bentoml build, code changed"] + middle["containerize, code changed"]
    rows = [
        ("the image, nothing cached but wheels and .debs", middle["containerize, cold"], middle["ekiben, cold"], "3 × faster"),
        ("the image, nothing changed", middle["containerize, nothing changed"], middle["ekiben, nothing changed"], ""),
        ("after a change of service.py: `bentoml build` and `containerize`, `ekiben build` of the folder", changed, middle["ekiben, code changed"], "20 × faster"),
        ("of these, after `bentoml build`", middle["containerize, code changed"], middle["ekiben, new bento"], ""),
        ("from start to the first answer, both by Docker", middle["docker run iris:bentoml"], middle["docker run iris:ekiben"], "no later"),
        ("from start to the first answer, `docker run` and `ekiben run`", middle["docker run iris:bentoml"], middle["ekiben run"], "no later"),
    ]  # fmt: skip
    text = lambda seconds: f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"  # noqa: E731
    lines = [
        f"A bento with scikit-learn, by BentoML {version}; medians of {args.rounds} interleaved rounds on {os.cpu_count()} processors, Linux",
        f"{platform.release().split('-')[0]}. `scripts/bench-bento.py` measures it again.",
        "",
        "| | `bentoml containerize` | ekiben | ratio | goal |",
        "|---|--:|--:|--:|---|",
        *(f"| {what} | {text(its)} | {text(own)} | {own / its:.3f} | {goal} |" for what, its, own, goal in rows),
    ]
    its, own, base = sizes["iris:bentoml"], sizes["iris:ekiben"], sizes[BASE]
    size = lambda number: f"{number / 1e6:.0f} MB"  # noqa: E731
    lines.append(f"| size of the image, unpacked | {size(its)} | {size(own)} | {own / its:.2f} | at most 0.45 |")
    lines += ["", f"The base in BentoML's image, made here of Debian in place of the official one, has {size(base)} of that."]
    section = "<!-- bento -->\n## Bentos\n\n" + "\n".join(lines) + "\n<!-- /bento -->"
    page = PAGE.read_text()
    pattern = re.compile(r"<!-- bento -->.*?<!-- /bento -->", re.S)
    page = pattern.sub(lambda _: section, page) if pattern.search(page) else f"{page}\n{section}\n"
    PAGE.write_text(page)
    print(f"\n{section}\n\nwritten to {PAGE}")


if __name__ == "__main__":
    main()
