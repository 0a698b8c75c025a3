#!/usr/bin/env python3
"""Measures what Ekiben does with weights beside the other tools that are installed, and writes docs/benchmarks.md.

    scripts/bench-weights.py [--size MIB] [--rounds N] [--folder FOLDER] [--no-build] [--bentoml PROGRAM]

Runs are interleaved: each round runs each command once; medians are quoted. Needs 8 times the size on the disk of
FOLDER, and removes all that it makes. Docker is measured where its daemon answers, and what it writes is that of the
daemon's processes.
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"
PAGE = ROOT / "docs/benchmarks.md"
# bentoml is too slow for more, and for more than one round.
BENTO_MIB = 96
# What a container runs that only starts.
NOTHING = ["--", "/bin/sh", "-c", ":"]


def make(path, mib):
    """Random bytes, fast: a cipher's stream where openssl is at hand."""
    if shutil.which("openssl"):
        key = os.urandom(16).hex()
        command = f"openssl enc -aes-128-ctr -nosalt -pass pass:{key} -in /dev/zero 2>/dev/null | head -c {mib << 20}"
        subprocess.run(["sh", "-c", f"{command} > '{path}'"], check=True)
        return
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))


def daemon_written():
    """Bytes that Docker's daemons have written until now."""
    total = 0
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() in ("dockerd", "containerd"):
                total += int(re.search(r"^write_bytes: (\d+)", (comm.parent / "io").read_text(), re.M)[1])
        except OSError:
            pass
    return total


class Bench:
    def __init__(self):
        self.rows = {}

    def run(self, name, command, *, before=None, cwd=None, env=None, daemon=False):
        """Runs a command once, and keeps seconds, bytes written and peak memory."""
        if before:
            before()
        os.sync()
        written = daemon_written() if daemon else 0
        started = time.monotonic()
        child = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"{name}: {command} failed:\n{errors.decode(errors='replace')}")
        written = daemon_written() - written if daemon else usage.ru_oublock * 512
        self.rows.setdefault(name, []).append((seconds, written, None if daemon else usage.ru_maxrss * 1024))
        print(f"{seconds:8.3f} s  {written / 1e6:8.1f} MB written  {usage.ru_maxrss / 1e3:6.0f} MB  {name}")

    def median(self, name, column=0):
        values = [row[column] for row in self.rows[name] if row[column] is not None]
        return statistics.median(values) if values else None


def project(folder, files, base="scratch"):
    """A project with weights and a file of code."""
    (folder / "src").mkdir(parents=True)
    for name, mib in files.items():
        if mib:
            make(folder / name, mib)
        else:
            (folder / name).write_bytes(os.urandom(1024))
    (folder / "src/predict.py").write_text("")
    (folder / "ekiben.yaml").write_text(
        f'name: {folder.name}\nversion: "1"\nbase: {base}\nmodel:\n  files: ["*.bin"]\n'
        'service:\n  command: [/bin/sh]\ninclude: [src/**]\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="of the weights, in MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=ROOT / "target", help="a folder on the disk that is measured")
    parser.add_argument("--no-build", action="store_true", help="measure what lies in target/release")
    parser.add_argument("--bentoml", default=shutil.which("bentoml"), help="bentoml's program")
    args = parser.parse_args()
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "--bin", "ekiben", "--example", "hash"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder) as folder:
        measure(Bench(), pathlib.Path(folder).resolve(), args)


def measure(bench, folder, args):
    ekiben, hasher = str(RELEASE / "ekiben"), str(RELEASE / "examples/hash")
    big, two, small = folder / "big", folder / "two", folder / "small"
    project(big, {"model.bin": args.size})
    project(two, {"a.bin": args.size // 2, "b.bin": args.size // 2})
    project(small, {"model.bin": 0})
    home = {"EKIBEN_HOME": str(folder / "home"), "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "1"}
    model = str(big / "model.bin")

    def fresh():
        shutil.rmtree(folder / "home", ignore_errors=True)

    def remove(path):
        return lambda: path.unlink(missing_ok=True)

    def code():
        (big / "src/predict.py").write_text(f"# {time.time()}\n")

    context = folder / "context"
    context.mkdir()
    os.link(model, context / "model.bin")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY model.bin /models/big/model.bin\n")
    docker = shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    # On Debian, in a store of their own that stays.
    runs = {**home, "EKIBEN_HOME": str(folder / "runs")}
    for source in (big, small):
        place = folder / f"run-{source.name}"
        project(place, {}, "debian:bookworm")
        os.link(source / "model.bin", place / "model.bin")
        subprocess.run([ekiben, "build", "-q"], cwd=place, env={**os.environ, **runs}, check=True)
        subprocess.run([ekiben, "run", f"{place.name}:1", *NOTHING], env={**os.environ, **runs}, check=True)
    bento = folder / "bento"
    if args.bentoml:
        project(bento, {"model.bin": BENTO_MIB})
        subprocess.run([ekiben, "pack", "-o", folder / "a.bento"], cwd=bento, env={**os.environ, **home}, check=True)
        subprocess.run([args.bentoml, "import", folder / "a.bento"], env={**os.environ, **home}, check=True)

    for number in range(args.rounds):
        run = bench.run
        run("hashing the file once (`examples/hash`)", [hasher, model])
        run("**ekiben build**, first", [ekiben, "build"], cwd=big, env=home, before=fresh)
        run("**ekiben build**, nothing changed", [ekiben, "build"], cwd=big, env=home)
        run("**ekiben build**, code changed", [ekiben, "build"], cwd=big, env=home, before=code)
        run("**ekiben build**, first, two files of half the size", [ekiben, "build"], cwd=two, env=home)
        disk = ["dd", f"if={model}", f"of={folder / 'copy'}", "bs=4M", "conv=fsync"]
        run("writing as much to the disk (`dd conv=fsync`)", disk, before=remove(folder / "copy"))
        remove(folder / "copy")()
        pack = [ekiben, "pack", "-o", str(folder / "big.ekiben")]
        run("**ekiben pack**, first", pack, cwd=big, env=home, before=lambda: (fresh(), remove(folder / "big.ekiben")()))
        subprocess.run([ekiben, "pack", "-qo", folder / "small.ekiben"], cwd=small, env={**os.environ, **home}, check=True)
        run("**ekiben build** from the bundle", [ekiben, "build", str(folder / "big.ekiben")], env=home, before=fresh)
        run("**ekiben build** from a bundle of 1 KB", [ekiben, "build", str(folder / "small.ekiben")], env=home)
        unpacked = folder / "unpacked"
        unpack = [ekiben, "unpack", str(folder / "big.ekiben"), str(unpacked)]
        run("**ekiben unpack**", unpack, env=home, before=lambda: shutil.rmtree(unpacked, ignore_errors=True))
        shutil.rmtree(unpacked)
        for which in ("big", "small"):
            what = f"model of {args.size} MiB" if which == "big" else "model of 1 KB"
            run(f"**ekiben run** of nothing, {what}", [ekiben, "run", f"run-{which}:1", *NOTHING], env=runs)
        if docker:
            command = ["docker", "build", "-q", "--no-cache", "-t", "ekiben-bench", str(context)]
            run("docker build", command, daemon=True)
            subprocess.run(["docker", "rmi", "ekiben-bench"], stdout=subprocess.DEVNULL, check=True)
        if shutil.which("buildah"):
            root = ["buildah", "--root", str(folder / "buildah"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
            run("buildah build", [*root, "build", "-q", "--no-cache", "-t", "bench", str(context)])
            subprocess.run([*root, "rmi", "-af"], stdout=subprocess.DEVNULL, check=True)
        if shutil.which("umoci"):
            layout = folder / "umoci"
            shutil.rmtree(layout, ignore_errors=True)
            for command in (["init", "--layout", layout], ["new", "--image", f"{layout}:bench"]):
                subprocess.run(["umoci", *command], stderr=subprocess.DEVNULL, check=True)
            run("umoci insert", ["umoci", "insert", "--image", f"{layout}:bench", model, "/models/big/model.bin"])
            shutil.rmtree(layout)
        if args.bentoml and number == 0:
            target = folder / "b.bento"
            run(f"bentoml export of {BENTO_MIB} MiB", [args.bentoml, "export", "bento:1", str(target)], env=home, before=remove(target))
            command = [ekiben, "pack", "-o", str(target)]
            run(f"**ekiben pack** of {BENTO_MIB} MiB for BentoML", command, cwd=bento, env=home, before=remove(target))
            remove(target)()
        write(bench, args, number + 1)


def write(bench, args, rounds):
    base = bench.median(next(iter(bench.rows)))
    lines = [
        f"One file of {args.size} MiB of random bytes as the model, no base (`run` on Debian's); the median of {rounds} interleaved runs on",
        f"{os.cpu_count()} processors, Linux {platform.release().split('-')[0]}. `scripts/bench-weights.py` measures it again.",
        "",
        "| | time | times hashing | written | peak memory |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in bench.rows:
        seconds, written, memory = (bench.median(name, column) for column in range(3))
        time_text = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
        memory_text = f"{memory / 1e6:.0f} MB" if memory else "in the daemon"
        ratio = "" if f"{BENTO_MIB} MiB" in name else f"{seconds / base:.2f}"
        lines.append(f"| {name} | {time_text} | {ratio} | {written / 1e6:.1f} MB | {memory_text} |")
    section = "<!-- weights -->\n## Weights\n\n" + "\n".join(lines) + "\n<!-- /weights -->"
    page = PAGE.read_text() if PAGE.exists() else "# Benchmarks\n"
    pattern = re.compile(r"<!-- weights -->.*?<!-- /weights -->", re.S)
    page = pattern.sub(lambda _: section, page) if pattern.search(page) else f"{page}\n{section}\n"
    PAGE.write_text(page)
    print(f"\n{section}\n\nwritten to {PAGE}")


if __name__ == "__main__":
    main()
