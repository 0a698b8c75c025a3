"""A docker daemon of its own that BentoML builds with, upon a base made here: what scripts that compare with it share."""

import contextlib
import http.server
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

BASE = "python:3.11-slim"
SUITE = "bookworm"


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


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Proxy(http.server.BaseHTTPRequestHandler):
    """Keeps what it fetched once, and gives what is asked of some hosts from others."""

    protocol_version = "HTTP/1.1"
    kept: dict = {}
    instead: dict = {}

    def do_GET(self):
        asked = {name: self.headers[name] for name in ("Accept", "Range") if name in self.headers}
        key = (self.command, self.path, *asked.items())
        if key not in self.kept:
            host = urllib.parse.urlsplit(self.path).netloc
            url = self.path.replace(host, self.instead.get(host, host), 1)
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with direct.open(urllib.request.Request(url, headers=asked, method=self.command), timeout=60) as answer:
                    self.kept[key] = (answer.status, answer.headers.items(), answer.read())
            except urllib.error.HTTPError as error:
                self.kept[key] = (error.code, [], b"")
            except OSError:
                self.send_error(502)
                return
        status, headers, body = self.kept[key]
        self.send_response(status)
        for name, value in headers:
            if name.lower() in ("content-type", "content-range", "docker-content-digest"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def proxy(instead=()):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    Proxy.instead = dict(instead)
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


def make_base(docker, folder, through=None):
    """Debian with Python and pip, as the official image has them, and this host's certificates; .debs come `through` a proxy."""
    root = folder / "base"
    packages = "python3,python3-pip,python3-venv,ca-certificates,netbase,tzdata"
    options = ["--variant=minbase", f"--include={packages}"]
    own = f'Acquire::http::Proxy "{through}";'
    run("mmdebstrap", *options, *([f"--aptopt={own.rstrip(';')}"] if through else []), SUITE, root)
    if through:
        (root / "etc/apt/apt.conf.d/99proxy").write_text(f"{own}\n")
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    for name in ("python", "python3", "python3.11"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    # uv asks this variable for them.
    variables = ["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "LANG=C.UTF-8"]
    variables.append("PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    changes = " ".join(f"--change 'ENV {variable}'" for variable in variables)
    changes += """ --change 'CMD ["python3"]'"""
    run("sh", "-c", f"tar -C '{root}' -c . | '{docker.program}' import {changes} - {BASE}", env=docker.env)
    shutil.rmtree(root)
