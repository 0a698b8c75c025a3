#!/usr/bin/env python3
"""Bentos built by `bentoml containerize` and by `ekiben build`, run and asked, and compared.

    scripts/compare-bentos.py [--kind NAME]... [--ekiben EKIBEN] [--document DOCUMENT] [--folder FOLDER]

As root. Needs mmdebstrap, docker-registry and a docker that builds with BuildKit: 20.10, or one with buildx. BentoML 1.4 and 1.2
are those that `cargo test --test it bento::` installs below target. A daemon of its own is started and ended, on a base that is
made here of Debian and has the name of the official one; Ekiben finds that in a registry, which a proxy puts in the place of
Docker's.

Compared are the answers to the same requests, and what a program sees in the container: its variables, its user, its folder, the
users of the image, and files with their modes, owners and contents. Puts the table between the marks of DOCUMENT. Ends with 1 where
something differs that `KNOWN` does not explain, or is explained and does not differ.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from containerized import BASE, Docker, free_port, make_base, proxy, run

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARKS = ("<!-- containerized -->\n", "<!-- /containerized -->")

FEATURES = '{"features": [[1.4, 0.2], [4.6, 1.4], [6.0, 2.5]]}'
LEFT = ("POST", "/marks", "{}")
# What is compared: the version of BentoML, a kind of `tests/bentos/make.py`, what it tries, and what is asked.
BENTOS = [
    ("1.4.39", "iris", "a model, and no commands", [("POST", "/classify", FEATURES), ("POST", "/classify", '{"features": "none"}')]),
    ("1.4.39", "commands", "`run` before packages and after them, `docker.setup_script`, variables of the build", [LEFT]),
    ("1.4.39", "installs", "`run` with apt-get and useradd, before packages and after them", [LEFT]),
    ("1.2.20", "system", "`docker.system_packages`, `envs`", [("POST", "/greet", '{"name": "you"}'), ("POST", "/python", "{}")]),
    ("1.2.20", "script", "`docker.setup_script`, `docker.env`", [LEFT]),
    ("1.2.20", "template", "`docker.dockerfile_template` that adds to each block", [LEFT]),
    ("1.2.20", "installs", "a template and a script with apt-get and useradd", [LEFT]),
]

# What a program sees: run in the container, by any Python. Who owns a file of the bento is no matter, see docs/bentoml.md.
SEEN = r"""
import hashlib, json, os, stat
BENTO, UNSTEADY = "/home/bentoml/bento/", ("__pycache__", "client_id", "prometheus_multiproc_dir")
seen = {f"variable {name}": value for name, value in os.environ.items() if name not in ("HOSTNAME", "PORT")}
seen["user"], seen["folder"] = f"{os.getuid()}:{os.getgid()}", os.getcwd()
for file in ("passwd", "group"):
    for line in open(f"/etc/{file}"):
        name, _, *rest = line.strip().split(":")
        seen[f"{file} {name}"] = ":".join(rest)
def look(path):
    at = os.lstat(path)
    what = stat.filemode(at.st_mode)[:1] if path.startswith(BENTO) else f"{stat.filemode(at.st_mode)} {at.st_uid}:{at.st_gid}"
    names = []
    try:
        if stat.S_ISLNK(at.st_mode):
            what += " " + os.readlink(path)
        elif stat.S_ISREG(at.st_mode):
            what += " " + hashlib.sha256(open(path, "rb").read()).hexdigest()[:12]
        elif stat.S_ISDIR(at.st_mode):
            names = os.listdir(path)
    except PermissionError:
        what += " (not to be read)"
    seen[f"file {path}"] = what
    for name in sorted(names):
        if name not in UNSTEADY and not (path == "/usr/local/bin" and name.startswith(("python", "pip", "uv"))):
            look(os.path.join(path, name))
for folder in ("/home", "/opt", "/srv", "/usr/local/bin"):
    if os.path.lexists(folder):
        look(folder)
print(json.dumps(seen))
"""

BASES = "of the base, which is not the same where BentoML takes its own choice"
# What differs and is meant to: a pattern of what is seen, and why.
KNOWN = [
    (r"image Entrypoint", "the same file, under the name `/app`"),
    (r"image User", "the user's numbers in place of the name, as Kubernetes wants them"),
    (r"image StopSignal", "named; Docker's default is the same"),
    (r"variable UV_.*", "there is no uv in the image"),
    (r"variable (PATH|SSL_CERT_FILE|LANG)|(passwd|group) (?!bentoml|worker|uuidd).*|file /(opt|srv|usr/local/bin)", BASES),
    (r"file /home/bentoml/\.(bash_logout|bashrc|profile)", "nothing is copied from `/etc/skel`"),
    (r"file /home/bentoml/bento/(ekiben\.lock|env/docker/Dockerfile)", "the lock goes along, and the Dockerfile is the bento's own"),
    (r"file /home/bentoml/bento/(hf-models|models)", "empty folders are not in the image"),
]

# BentoML 1.2 writes values without quotes, and Docker ends them at a space; and it installs among the packages of the system.
# Answers are compared as they were with that.
AS_OLD = {"good day": "good", "/app/.venv": "/usr"}
KNOWN_OF_OLD = [
    (r"variable GREETING|file /opt/marks/greeting", "the value as it was given"),
    (r"variable VIRTUAL_ENV|file /opt/marks/(after|python)|file /usr/local/bin/.*", "packages have a folder of their own"),
    (r"variable BENTOML_(CONTAINERIZED|HF_CACHE_DIR)", "as BentoML 1.4 has it"),
    (r"variable DEBIAN_FRONTEND", "it is a matter of the build, and of no service"),
]


class Registry:
    """Debian's docker-registry, on the loopback interface."""

    def __init__(self, folder):
        self.address = f"127.0.0.1:{free_port()}"
        (folder / "registry.yml").write_text(json.dumps({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
            "http": {"addr": self.address},
        }))
        log = open(folder / "registry.log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", folder / "registry.yml"], stdout=log, stderr=log)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def ask(address, method, path, body):
    request = urllib.request.Request(f"http://{address}{path}", body.encode() or None, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def asked(address, requests):
    """The answers, as soon as there are any."""
    for _ in range(600):
        try:
            if ask(address, "GET", "/readyz", "")[0] == 200:
                break
        except OSError:
            pass
        time.sleep(0.1)
    else:
        sys.exit(f"nothing answers at {address}")
    more = [("GET", "/docs.json", ""), ("GET", "/livez", ""), ("GET", "/nowhere", "")]
    return {f"answer {number} {path}": ask(address, method, path, body) for number, (method, path, body) in enumerate(requests + more)}


def config(image):
    """What an image says of itself, by its configuration."""
    said = {f"image {key}": image.get(key) for key in ("User", "WorkingDir", "Entrypoint", "Cmd", "Volumes", "StopSignal")}
    return said | {f"port {port}": True for port in image.get("ExposedPorts") or {}}


def by_bentoml(docker, environment, tag, requests):
    image, port = f"{environment.name}-{tag}".lower(), free_port()
    run(environment / "venv/bin/bentoml", "containerize", tag, "--image-tag", image, env=docker.env)
    docker("run", "--detach", "--rm", "--network=host", "--name=served", "--env", f"PORT={port}", image)
    try:
        found = asked(f"127.0.0.1:{port}", requests)
        found |= json.loads(docker("exec", "served", "python", "-c", SEEN)[1])
    finally:
        docker("rm", "--force", "served")
    return found | config(json.loads(docker("image", "inspect", image)[1])[0]["Config"])


def by_ekiben(program, docker, folder, env, archive, kind, requests):
    run(program, "build", archive, "--allow-run=network", "--tag", f"{kind}:ekiben", env=env)
    started = json.loads(run(program, "run", f"{kind}:ekiben", "--detach", "--output", "json", env=env)[1])
    try:
        found = asked(started["address"].removeprefix("http://"), requests)
        found |= json.loads(run(program, "exec", started["name"], "--", "python", "-c", SEEN, env=env)[1])
    finally:
        run(program, "stop", "--remove", started["name"], env=env)
    run(program, "export", f"{kind}:ekiben", folder / "exported.tar", "--force", env=env)
    docker("load", "--input", folder / "exported.tar")
    return found | config(json.loads(docker("image", "inspect", f"{kind}:ekiben")[1])[0]["Config"])


def as_old(answer):
    text = json.dumps(answer)
    for here, there in AS_OLD.items():
        text = text.replace(here, there)
    return json.loads(text)


def compare(theirs, own, known):
    """What differs, as lines, without what is `known`; and the patterns that explained something."""
    wrong, used = [], set()
    for what in sorted(theirs.keys() | own.keys()):
        if theirs.get(what) == own.get(what):
            continue
        because = [pattern for pattern, _ in known if re.fullmatch(pattern, what)]
        used.update(because)
        if not because:
            wrong.append(f"{what}: BentoML {theirs.get(what)!r}, ekiben {own.get(what)!r}")
    return wrong, used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", action="append", help="as 1.4.39/iris")
    parser.add_argument("--ekiben", type=pathlib.Path, default=ROOT / "target/debug/ekiben")
    parser.add_argument("--document", type=pathlib.Path)
    parser.add_argument("--folder", default=ROOT / "target", help="where to work")
    args = parser.parse_args()
    bentos = [bento for bento in BENTOS if not args.kind or f"{bento[0]}/{bento[1]}" in args.kind]
    with tempfile.TemporaryDirectory(prefix="compare-", dir=args.folder) as name:
        folder = pathlib.Path(name).resolve()
        docker, registry = Docker(folder), Registry(folder)
        # Builds have the host's network, whichever BentoML starts them: the daemon has no bridge.
        (folder / "bin").mkdir()
        own = folder / "bin/docker"
        own.write_text(f'#!/bin/sh\ncase "$1 $2" in\nbuild*) shift; set -- build --network=host "$@";;\n'
                       f'"buildx build") shift 2; set -- buildx build --network=host "$@";;\nesac\nexec {docker.program} "$@"\n')
        own.chmod(0o755)
        docker.env["PATH"] = f"{own.parent}:{docker.env['PATH']}"
        hub = {"registry-1.docker.io": registry.address}
        try:
            with proxy(hub) as through:
                make_base(docker, folder)
                pushed = f"{registry.address}/library/{BASE}"
                docker("tag", BASE, pushed)
                docker("push", pushed)
                own = os.environ | {"EKIBEN_HOME": str(folder / "store"), "EKIBEN_PLAIN_HTTP": "docker.io", "http_proxy": through}
                rows = [compared(args.ekiben, docker, folder, own, *bento) for bento in bentos]
        finally:
            registry.stop()
            docker.stop()
    unused = set() if args.kind else {pattern for pattern, _ in KNOWN + KNOWN_OF_OLD} - set().union(*(used for _, _, used in rows))
    for pattern in sorted(unused):
        print(f"explained, and does not differ: {pattern}")
    if args.document:
        write(args.document, [row for row, _, _ in rows])
    sys.exit(1 if unused or any(wrong for _, wrong, _ in rows) else 0)


def compared(program, docker, folder, own, version, kind, what, requests):
    environment = ROOT / "target/tmp/bentos" / version
    docker.env |= {"BENTOML_HOME": str(folder / f"home-{version}"), "BENTOML_DO_NOT_TRACK": "True"}
    run(environment / "venv/bin/python", ROOT / "tests/bentos/make.py", folder / version, kind, env=docker.env)
    theirs = by_bentoml(docker, environment, f"{kind}:1", requests)
    mine = by_ekiben(program, docker, folder, own, folder / version / f"{kind}.bento", kind, requests)
    is_old = version.startswith("1.2.")
    if is_old:
        mine |= {what: tuple(as_old(answer)) for what, answer in mine.items() if what.startswith("answer")}
    wrong, used = compare(theirs, mine, KNOWN + KNOWN_OF_OLD if is_old else KNOWN)
    same = sum(theirs.get(key) == mine.get(key) for key in theirs)
    print(f"{version} {kind}: {same} of {len(theirs)} the same", *wrong, sep="\n    ", flush=True)
    differ = [key for key in theirs if theirs[key] != mine.get(key)]
    return (what, version, f"{same} of {len(theirs)}", len(differ) - len(wrong), len(wrong)), wrong, used


def write(document, rows):
    table = "| a bento with | BentoML | the same, of what is seen in BentoML's image | differs as explained below | differs |\n"
    table += "|---|---|--:|--:|--:|\n"
    table += "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)
    text = document.read_text()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    document.write_text(f"{before}{MARKS[0]}{table}{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
