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
import contextlib
import http.server
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
EKIBEN = str(ROOT / "target/release/ekiben")
PAGE = ROOT / "docs/benchmarks.md"
PYTHON = ROOT / "target/tmp/bentos/1.4.39/venv/bin/python"
BASE = "python:3.11-slim"
SUITE = "bookworm"
REQUEST = b'{"features": [[1.4, 0.2]]}'


def run(*command, **more):
    """Runs a command, which must succeed; gives its seconds and what it printed."""
    # What the command before has left to write is no matter of this one's.
    os.sync()
    started = time.perf_counter()
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
    return seconds, done.stdout.decode().strip()


class Proxy(http.server.BaseHTTPRequestHandler):
    """Keeps what it fetched once."""

    protocol_version = "HTTP/1.1"
    kept: dict = {}

    def do_GET(self):
        if self.path not in self.kept:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with direct.open(self.path, timeout=60) as answer:
                    self.kept[self.path] = (answer.status, answer.read())
            except urllib.error.HTTPError as error:
                self.kept[self.path] = (error.code, b"")
        status, body = self.kept[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def proxy():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def builder():
    """A docker that builds with BuildKit."""
    for folder in [*os.environ["PATH"].split(":"), "/usr/bin"]:
        program = pathlib.Path(folder, "docker")
        if program.is_file():
            version = run(program, "--version")[1]
            buildx = subprocess.run([program, "buildx", "version"], capture_output=True).returncode == 0
            if buildx or "version 20.10" in version:
                return program
    sys.exit("no docker here builds with BuildKit: install Debian's docker.io, or buildx")


class Docker:
    """A daemon with storage of its own."""

    def __init__(self, folder):
        self.folder, self.program = folder, builder()
        self.host = f"unix://{folder}/docker.sock"
        options = ["--bridge=none", "--iptables=false", "--ip6tables=false", f"--host={self.host}"]
        places = [f"--data-root={folder}/docker", f"--exec-root={folder}/docker-run", f"--pidfile={folder}/docker.pid"]
        log = open(folder / "dockerd.log", "wb")
        self.daemon = subprocess.Popen(["dockerd", *options, *places], stdout=log, stderr=log)
        self.env = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1"}
        self.env["PATH"] = f"{self.program.parent}:{os.environ['PATH']}"
        for _ in range(300):
            if subprocess.run([self.program, "version"], env=self.env, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            self.stop()
            sys.exit("dockerd does not answer: " + (folder / "dockerd.log").read_text()[-2000:])

    def __call__(self, *args, **more):
        return run(self.program, *args, env=self.env, **more)

    def size(self, image):
        return int(self("image", "inspect", "--format", "{{.Size}}", image)[1])

    def forget(self, image):
        """All that was built, but not what lies in the mounts for caches."""
        subprocess.run([self.program, "image", "rm", "--force", image], env=self.env, capture_output=True)
        for kind in ("regular", "source.local", "internal", "frontend"):
            self("builder", "prune", "--all", "--force", "--filter", f"type={kind}")

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait()
        subprocess.run(["umount", self.folder / "docker-run/netns/default"], capture_output=True)


def make_base(docker, folder, through):
    """Debian with Python and pip, as the official image has them, and this host's certificates."""
    root = folder / "base"
    packages = "python3,python3-pip,python3-venv,ca-certificates,netbase,tzdata"
    options = ["--variant=minbase", f"--include={packages}", f'--aptopt=Acquire::http::Proxy "{through}"']
    run("mmdebstrap", *options, SUITE, root)
    (root / "etc/apt/apt.conf.d/99proxy").write_text(f'Acquire::http::Proxy "{through}";\n')
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    # uv asks this variable for them.
    change = "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
    run("sh", "-c", f"tar -C '{root}' -c . | '{docker.program}' import --change '{change}' - {BASE}", env=docker.env)
    shutil.rmtree(root)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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
