#!/usr/bin/env python3
"""Measures `ekiben build --file Dockerfile` beside `docker build` and `buildah bud`, and writes docs/benchmarks.md.

    scripts/bench-dockerfiles.py [--rounds N] [--folder FOLDER] [--ekiben PROGRAM] [--only-ekiben] [CASE...]

As root. Needs Debian's mmdebstrap, buildah, runc and docker.io (or a docker with buildx). All three build upon one Debian that
is made here and is called `debian:bookworm` for each; a daemon of its own is started and ended. Packages come from a proxy on
this machine that has fetched them before, for all three alike. Cold means that nothing is there but the base, which has been
built upon before. What a command leaves to be written to the disk is written before the next begins, all take turns with each
line, and who begins changes from round to round. Where the folder is on ext4, each program's files lie in a part of the disk
of their own, so that what one has removed does not slow down another.
"""

import argparse
import contextlib
import http.server
import importlib
import os
import pathlib
import platform
import re
import statistics
import subprocess
import tempfile
import threading
import urllib.parse

bento = importlib.import_module("bench-bento")
run, ROOT, SUITE = bento.run, bento.ROOT, bento.SUITE

BASE = f"debian:{SUITE}"
# Where the proxy has the wheels: no name of the world's.
INDEX = "wheels.invalid"

PACKAGES = f"""\
FROM {BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip libgomp1 curl git && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements.txt .
RUN pip install --break-system-packages --no-cache-dir --index-url http://{INDEX}/simple --trusted-host {INDEX} -r requirements.txt
COPY . .
ENV PORT=8000
CMD ["python3", "app.py"]
"""
REQUIREMENTS = "fastapi==0.115.6\nnumpy==2.2.1\npandas==2.2.3\nscikit-learn==1.6.0\nuvicorn==0.34.0\n"
FILES = f"""\
FROM {BASE}
RUN perl -e 'for $a (1..200) {{ mkdir "/srv/$a"; for $b (1..100) {{ open F, ">", "/srv/$a/$b"; print F "$a $b\\n" x 40 }} }}'
"""

COLD, SAME, CODE, SMALL = "cold", "same", "code", "files"
# What is measured, how many times as fast as the fastest of the others it is to be, and how often it is done in a round.
CASES = {
    COLD: ("apt and pip, nothing built before", 1, 1),
    SAME: ("the same, nothing changed", 10, 5),
    CODE: ("the same, a line of code changed", 5, 5),
    SMALL: ("20,000 small files, written by one RUN", 1, 3),
}


class Proxy(bento.Proxy):
    """Has wheels as well, under a name of its own."""

    wheels = pathlib.Path()

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.hostname == INDEX and self.path not in self.kept:
            self.kept[self.path] = self.wheel(url.path)
        super().do_GET()

    def wheel(self, path):
        name = pathlib.PurePosixPath(path).name
        if path.startswith("/simple/"):
            of = lambda file: re.sub("[-_.]+", "-", file.split("-")[0]).lower()  # noqa: E731
            names = [file.name for file in self.wheels.iterdir() if of(file.name) == name]
            return 200, "".join(f'<a href="/wheels/{file}">{file}</a>\n' for file in names).encode()
        file = self.wheels / name
        return (200, file.read_bytes()) if file.is_file() else (404, b"")

    def send_response(self, status, message=None):
        super().send_response(status, message)
        if urllib.parse.urlsplit(self.path).path.startswith("/simple/"):
            self.send_header("Content-Type", "text/html")


@contextlib.contextmanager
def proxy(wheels):
    Proxy.wheels = wheels
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    # That a client goes away is none of its mistakes.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Docker:
    name = "docker build"

    def __init__(self, folder, env):
        self.docker = bento.Docker(folder)
        self.docker.env |= env
        self.arguments = [f"--build-arg={name}" for name in env]

    def build(self, context, tag):
        return self.docker("build", "--network=host", *self.arguments, "--tag", tag, context)[0]

    def stop(self):
        self.docker.stop()


class Buildah:
    name = "buildah bud"

    def __init__(self, folder, env):
        self.env = os.environ | env
        self.places = ["--root", folder / "buildah", "--runroot", folder / "buildah-run", "--storage-driver", "overlay"]
        self.arguments = [f"--build-arg={name}={value}" for name, value in env.items()]

    def build(self, context, tag):
        how = ["bud", "--layers", "--isolation", "chroot", "--runtime", "/usr/sbin/runc", "--pull-never"]
        return run("buildah", *self.places, *how, *self.arguments, "--tag", tag, context, env=self.env)[0]

    def stop(self):
        subprocess.run(["umount", self.places[1] / "overlay"], capture_output=True)


class Ekiben:
    name = "ekiben build"

    def __init__(self, folder, env, program):
        self.program, self.env = program, os.environ | env | {"EKIBEN_HOME": str(folder / "store")}

    def build(self, context, tag):
        file = context / "Dockerfile"
        how = ["build", context, "--file", file, "--allow-run=network", "--tag", tag]
        return run(self.program, *how, env=self.env)[0]

    def stop(self):
        pass


def application(folder, lines):
    """A project of 400 modules, beside folders that are none of the image."""
    (folder / "lib").mkdir(parents=True)
    for number in range(400):
        (folder / f"lib/part_{number}.py").write_text("".join(f"def f_{line}(x):\n    return x + {line}\n" for line in range(lines)))
    for number in range(5000):
        file = folder / f"node_modules/package-{number % 100}/{number}.js"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"module.exports = {number}\n")
    (folder / ".dockerignore").write_text("node_modules\n")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    (folder / "app.py").write_text("print('hello')\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=ROOT / "target", help="where to work")
    parser.add_argument("--ekiben", type=pathlib.Path, default=ROOT / "target/release/ekiben", help="the program")
    parser.add_argument("--only-ekiben", action="store_true", help="leave the others out, and write nothing")
    which = f"of {', '.join(CASES)}; all, where none is given, and what comes of all is written down"
    parser.add_argument("cases", nargs="*", metavar="CASE", help=which)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder) as name:
        folder = pathlib.Path(name).resolve()
        # Other file systems know nothing of it.
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["chattr", "+T", folder], capture_output=True)
        wheels = folder / "wheels"
        wheels.mkdir()
        (folder / "requirements.txt").write_text(REQUIREMENTS)
        fits = ["--python-version=3.11", "--implementation=cp", "--platform=manylinux2014_x86_64", "--only-binary=:all:"]
        run("python3", "-m", "pip", "download", "--quiet", *fits, "--dest", wheels, "-r", folder / "requirements.txt")
        with proxy(wheels) as through:
            env = {"http_proxy": through}
            tools = [Ekiben(folder, env, args.ekiben.resolve())]
            try:
                if not args.only_ekiben:
                    tools += [Docker(folder, env), Buildah(folder, env)]
                measure(args, folder, tools, through)
            finally:
                for tool in tools:
                    tool.stop()


def measure(args, folder, tools, through):
    base, project, files = folder / "base", folder / "project", folder / "files"
    for made in (base, files):
        made.mkdir()
    # The proxy is told by who builds.
    without = '--customize-hook=rm "$1/etc/apt/apt.conf.d/99mmdebstrap"'
    run("mmdebstrap", "--variant=minbase", f'--aptopt=Acquire::http::Proxy "{through}"', without, SUITE, base / "root.tar")
    (base / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    application(project, 60)
    times = {}

    def note(tool, case, seconds):
        times.setdefault((tool.name, case), []).append(seconds)
        print(f"{seconds:8.3f} s  {tool.name}, {case}", flush=True)

    def written(text, number):
        """With something in the first command that no other round has."""
        return text.replace("RUN ", f"RUN echo {number} >/round && ", 1)

    def once(tool, case, number):
        if case == COLD:
            (project / "Dockerfile").write_text(written(PACKAGES, number))
        if case == CODE:
            (project / "app.py").write_text(f"print('{tool.name} {number}')\n")
        if case == SMALL:
            (files / "Dockerfile").write_text(written(FILES, number))
        note(tool, case, tool.build(*((files, "bench:files") if case == SMALL else (project, "bench:app"))))

    for tool in tools:
        tool.build(base, BASE)
        # .debs are there from here on, and for whoever unpacks what it builds upon, that is.
        (files / "Dockerfile").write_text(f"FROM {BASE}\nRUN true\n")
        tool.build(files, "bench:nothing")
    wanted = [case for case in CASES if case in (args.cases or CASES)]
    if wanted != [SMALL]:
        # Packages are in the proxy from here on.
        (project / "Dockerfile").write_text(written(PACKAGES, "first"))
        tools[-1].build(project, "bench:app")
    for number in range(args.rounds):
        turns = tools[number % len(tools) :] + tools[: number % len(tools)]
        for tool in turns if COLD not in wanted and wanted != [SMALL] else ():
            tool.build(project, "bench:app")
        for case in wanted:
            for again in range(CASES[case][2]):
                for tool in turns:
                    once(tool, case, f"{number}-{again}")
    if not args.only_ekiben:
        write(args, times, [tool.name for tool in tools])


def write(args, times, tools):
    middle = {what: statistics.median(seconds) for what, seconds in times.items()}
    short = lambda seconds: f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"  # noqa: E731
    text = lambda what: f"{short(middle[what])} ({short(min(times[what]))} to {short(max(times[what]))})"  # noqa: E731
    own, *others = tools
    lines = [
        f"| | {' | '.join(f'`{tool}`' for tool in tools)} | × as fast as the fastest of the others | goal |",
        f"|---|{'--:|' * len(tools)}--:|--:|",
    ]
    for case, (what, goal, _) in CASES.items():
        if (own, case) not in times:
            continue
        fastest = min(middle[tool, case] for tool in others)
        each = " | ".join(text((tool, case)) for tool in tools)
        lines.append(f"| {what} | {each} | {fastest / middle[own, case]:.1f} | {goal} |")
    about = (
        f"Medians, and the least and the most, of {args.rounds} rounds in turns on {os.cpu_count()} processors, "
        f"Linux {platform.release().split('-')[0]}."
    )
    section = "\n".join(["<!-- dockerfiles -->", about, "", *lines, "<!-- /dockerfiles -->"])
    print(f"\n{section}")
    if args.cases:
        return
    page = bento.PAGE.read_text()
    page = re.sub(r"<!-- dockerfiles -->.*?<!-- /dockerfiles -->", lambda _: section, page, flags=re.S)
    bento.PAGE.write_text(page)
    print(f"\nwritten to {bento.PAGE}")


if __name__ == "__main__":
    main()
