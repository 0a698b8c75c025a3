#!/usr/bin/env python3
"""From a save to the new answer, with `ekiben run --watch` of fixtures/tiny: the median of 15 saves.

Takes the program as its argument; without one, that of `cargo build --release`.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAVES = 15


def answer(address: str) -> str:
    request = urllib.request.Request(f"{address}/predict", b'{"x": 2}', {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read().decode()


def main() -> None:
    program = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/ekiben").resolve()
    work = Path(tempfile.mkdtemp(prefix="ekiben-bench-"))
    project = shutil.copytree(ROOT / "fixtures/tiny", work / "tiny")
    code = project / "src/predict.py"
    text = code.read_text()
    environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
    watching = subprocess.Popen(
        [program, "run", "--watch", project], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        ready = next(line for line in watching.stderr if "Ready http://" in line)
        address = ready.split("Ready ")[1].split(" ")[0]
        times = []
        for number in range(1, SAVES + 1):
            code.write_text(text.replace('MODEL["intercept"]\n', f'MODEL["intercept"] + {number}\n'))
            saved = time.monotonic()
            while answer(address) != f"{7.0 + number}":
                time.sleep(0.005)
            times.append(time.monotonic() - saved)
        print(f"save to new answer: {statistics.median(times) * 1000:.0f} ms, the slowest {max(times) * 1000:.0f} ms")
    finally:
        watching.terminate()
        watching.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
