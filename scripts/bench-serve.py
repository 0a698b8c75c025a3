#!/usr/bin/env python3
"""Measures `ekiben serve`, and tries it hard; prints a table, and writes it into docs/benchmarks.md with --write.

    scripts/bench-serve.py [--ekiben PROGRAM] [--requests N] [--write]

As root. Builds a small image with a server of Python's standard library that notes each request that it gets, in a store of
its own. A model is served under 1,000 names, 20 of which are used; 10,000 requests are sent while containers are killed; 20
are sent at once to a model with the strategy IMMEDIATE; and `serve` is killed with all supervisors.
"""

import argparse
import atexit
import collections
import http.client
import json
import os
import pathlib
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/benchmarks.md"
SERVER = """
import http.server, os, signal, socketserver, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    def log_message(self, *_): pass
    def do_GET(self):
        path, _, note = self.path.partition("?")
        if note:
            with open(os.environ["NOTES"], "a") as notes: notes.write(note + "\\n")
        if path == "/slow": time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256
Server(("127.0.0.1", 3000), Handler).serve_forever()
"""


class Serving:
    """A running `ekiben serve`."""

    def __init__(self, program, home, config):
        (home / "serve.yaml").write_text(json.dumps(config))
        environment = {**os.environ, "EKIBEN_HOME": str(home / "store")}
        command = [program, "serve", "serve.yaml", "--port", "0"]
        self.process = subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True)
        # Also where a measurement fails.
        atexit.register(self.process.kill)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if "Serving http://" in line:
                self.address = line.split("http://")[1].split(",")[0].strip()
                break
        else:
            sys.exit("".join(self.log))
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=300)

    def get(self, path, connection=None):
        connection = connection or self.connect()
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def status(self):
        return json.loads(self.get("/-/status")[1])

    def containers(self):
        return [one for model in self.status()["models"] for version in model["versions"] for one in version["containers"]]

    def memory(self):
        """Memory now and at most, in MB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return [int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)


def supervisors(home):
    """Processes that stand beside the containers of a store."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(home / "store/containers") in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def kill(processes):
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass


def medians(serving, direct, requests):
    """Median of the time of a request through the gate and directly, in ms, in turns on connections that stay open."""
    through, beside = serving.connect(), http.client.HTTPConnection(direct)
    times = {"through": [], "beside": []}
    for number in range(requests):
        for name, connection, path in (("through", through, "/m0/"), ("beside", beside, "/")):
            started = time.perf_counter()
            connection.request("GET", path)
            assert connection.getresponse().read() == b"ok"
            times[name].append((time.perf_counter() - started) * 1000)
    return statistics.median(times["through"]), statistics.median(times["beside"])


def hunted(serving, home, requests, threads=16):
    """Sends requests while containers are killed; gives the statuses, and how many were killed."""
    statuses, lock, left = [], threading.Lock(), iter(range(requests))

    def ask():
        connection = None
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            connection = connection or serving.connect()
            try:
                status, body = serving.get(f"/m0/?{number}", connection)
            except (http.client.HTTPException, OSError) as error:
                status, body, connection = repr(error), b"", None
            if status != 200:
                connection = None
            with lock:
                statuses.append((number, status, body))

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    [worker.start() for worker in workers]
    killed = 0
    while any(worker.is_alive() for worker in workers):
        time.sleep(random.uniform(0.15, 0.5))
        if victims := supervisors(home):
            kill([random.choice(victims)])
            killed += 1
    [worker.join() for worker in workers]
    return statuses, killed


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ekiben", default=str(ROOT / "target/release/ekiben"))
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--write", action="store_true")
    options = arguments.parse_args()
    program = os.path.abspath(options.ekiben)
    rows = []
    with tempfile.TemporaryDirectory(prefix="ekiben-serve-") as folder:
        home = pathlib.Path(folder)
        home.chmod(0o755)
        project, notes = home / "probe", home / "notes"
        (project / "src").mkdir(parents=True)
        (project / "src/server.py").write_text(SERVER)
        (project / "ekiben.yaml").write_text(
            'name: probe\nversion: "1"\npython: {version: "3.11"}\nservice: {command: [python, src/server.py]}\n')
        notes.mkdir()
        notes.chmod(0o777)
        environment = {**os.environ, "EKIBEN_HOME": str(home / "store")}
        subprocess.run([program, "--quiet", "build", project], env=environment, check=True, stdout=subprocess.DEVNULL)

        model = {"image": "probe:1", "env": {"NOTES": "/notes/all"}, "volumes": [f"{notes}:/notes"]}
        serving = Serving(program, home, {"models": {f"m{number}": model for number in range(1000)}})
        assert all(serving.get(f"/m{number}/")[0] == 200 for number in range(20))
        report = subprocess.run([program, "ps", "--output", "json"], env=environment, check=True, capture_output=True)
        first = [one for one in json.loads(report.stdout)["containers"] if one["model"] == "m0@1"][0]
        through, beside = medians(serving, first["addresses"][0].removeprefix("http://"), 2000)
        now, most = serving.memory()
        rows.append(("memory of `serve`, 1,000 models configured and 20 used", f"{now:.0f} MB, at most {most:.0f}"))
        rows.append(("a request through `serve`, median", f"{through:.2f} ms, directly {beside:.2f}: {through - beside:.2f} added"))
        serving.end()
        assert not supervisors(home)

        serving = Serving(program, home, {"models": {"m0": model}})
        statuses, killed = hunted(serving, home, options.requests)
        counts = collections.Counter(status for _, status, _ in statuses)
        noted = collections.Counter((notes / "all").read_text().split())
        assert set(counts) <= {200, 502, 503}, counts
        assert all(json.loads(body)["reason"] for _, status, body in statuses if status != 200)
        assert max(noted.values()) == 1, "a request was given twice"
        assert all(noted[str(number)] == 1 for number, status, _ in statuses if status == 200)
        rows.append((f"{options.requests:,} requests, {killed} containers killed meanwhile",
                     ", ".join(f"{count:,} × {status}" for status, count in sorted(counts.items())) + "; none given twice"))
        serving.end()

        serving = Serving(program, home, {"models": {"m0": {**model, "strategy": "IMMEDIATE", "concurrency": 20}}})
        answers, seen = [], 0
        workers = [threading.Thread(target=lambda: answers.append(serving.get("/m0/slow")[0])) for _ in range(20)]
        started = time.perf_counter()
        [worker.start() for worker in workers]
        while any(worker.is_alive() for worker in workers):
            seen = max(seen, len(serving.containers()))
            time.sleep(0.05)
        took = time.perf_counter() - started
        assert answers == [200] * 20 and seen == 20, (answers, seen)
        while serving.containers():
            time.sleep(0.05)
        assert not supervisors(home) and not list((home / "store/containers").iterdir())
        rows.append(("`IMMEDIATE`, 20 requests of 1 s at once", f"20 containers, all answered in {took:.1f} s, none left"))
        serving.end()

        serving = Serving(program, home, {"models": {f"m{number}": model for number in range(5)}})
        assert all(serving.get(f"/m{number}/")[0] == 200 for number in range(5))
        kill([serving.process.pid, *supervisors(home)])
        started = time.perf_counter()
        serving.process.wait()
        while supervisors(home):
            time.sleep(0.001)
        rows.append(("`kill -9` of `serve` and all supervisors", f"nothing left after {(time.perf_counter() - started) * 1000:.0f} ms"))
        serving = Serving(program, home, {"models": {"m0": model}})
        assert not list((home / "store/containers").iterdir()), "what was left is tidied away by the next one"
        serving.end()

    table = "| what | |\n|---|---|\n" + "".join(f"| {what} | {value} |\n" for what, value in rows)
    print(f"{platform.platform()}, {os.cpu_count()} processors\n\n{table}")
    if options.write:
        page = PAGE.read_text()
        start, end = "<!-- serve -->\n", "<!-- /serve -->"
        before, rest = page.split(start)
        PAGE.write_text(before + start + table + end + rest.split(end)[1])


if __name__ == "__main__":
    main()
