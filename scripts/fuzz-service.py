#!/usr/bin/env python3
"""Asks ten services what schemathesis makes of their descriptions: no request may be answered with 500.

    scripts/fuzz-service.py [EKIBEN] [EXAMPLES]

Each service is packed by Ekiben and started in one virtual environment; its functions take and give one kind of value. EXAMPLES is how
many requests are made for each operation (100). The packages come from the package index. Ends with 1 where schemathesis found a
failure of a server, or an answer that the description does not have.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["fastapi", "fastapi-swagger", "uvicorn", "numpy", "pandas", "pillow", "python-multipart", "schemathesis==4.4.1"]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SERVICES = {
    "numbers": "def predict(rows: list[list[float]], scale: float = 1.0) -> list[float]:\n    return [scale * sum(row) for row in rows]\n",
    "texts": "from typing import Literal\n\n\ndef predict(text: str, how: Literal['up', 'down'] = 'up', times: int | None = None) -> dict[str, str]:\n"
    "    return {'text': text.upper() if how == 'up' else text.lower()}\n",
    "models": "from typing import Annotated\nfrom pydantic import BaseModel, Field\n\n\nclass Order(BaseModel):\n    count: Annotated[int, Field(gt=0, le=9)]\n"
    "    names: list[str] = []\n\n\ndef predict(order: Order) -> Order:\n    return order\n",
    "classes": "import dataclasses, enum\n\n\nclass Kind(enum.Enum):\n    A = 'a'\n    B = 'b'\n\n\n@dataclasses.dataclass\nclass Point:\n    x: float\n    y: float = 0.0\n\n\n"
    "def predict(points: list[Point], kind: Kind = Kind.A) -> Point | None:\n    return points[0] if points else None\n",
    "times": "from datetime import date, datetime, timedelta\nfrom decimal import Decimal\nfrom uuid import UUID\n\n\n"
    "def predict(day: date, at: datetime, price: Decimal, name: UUID) -> dict[str, str]:\n    return {'day': day.isoformat(), 'price': str(price)}\n",
    "arrays": "import numpy\n\n\ndef predict(array: numpy.ndarray) -> numpy.ndarray:\n    return numpy.atleast_1d(numpy.asarray(array, dtype=float).sum(axis=0)) if array.dtype != object else numpy.zeros(1)\n",
    "tables": "import pandas\n\n\ndef predict(table: pandas.DataFrame) -> pandas.DataFrame:\n    return table.head(2)\n",
    "files": "from pathlib import Path\n\n\ndef predict(file: bytes) -> bytes:\n    return file[::-1]\n\n\ndef size(file: Path, more: list[bytes] = []) -> int:\n    return file.stat().st_size + sum(map(len, more))\n",
    "pictures": "from PIL import Image\n\n\ndef predict(image: Image.Image, width: int = 8) -> Image.Image:\n    return image.resize((max(1, min(width, 64)), 8))\n",
    "parts": "from collections.abc import AsyncIterator, Iterator\n\n\ndef predict(words: list[str]) -> Iterator[str]:\n    yield from words\n\n\n"
    "async def count(most: int) -> AsyncIterator[int]:\n    for number in range(min(most, 5)):\n        yield number\n",
}
MORE = {"files": {"size": "src/model.py:size"}, "parts": {"count": "src/model.py:count"}}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ready(port):
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def main():
    ekiben = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/ekiben").resolve()
    examples = sys.argv[2] if len(sys.argv) > 2 else "100"
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        python = work / "venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        for name, source in SERVICES.items():
            project, unpacked = work / name, work / f"{name}-app"
            (project / "src").mkdir(parents=True)
            (project / "src/model.py").write_text(source)
            service = {"predict": "src/model.py:predict", "functions": MORE.get(name, {})}
            requirements = ["numpy", "pandas", "pillow", "pydantic"]
            manifest = {"name": name, "version": "1", "python": {"version": "3.11", "requirements": requirements}, "service": service}
            (project / "ekiben.json").write_text(json.dumps(manifest))
            environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
            for command in (["pack", project, "-o", work / f"{name}.ekiben"], ["unpack", work / f"{name}.ekiben", unpacked]):
                done = subprocess.run([ekiben, *command], env=environment, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
            port = free_port()
            log = open(work / f"{name}.log", "w+")
            server = subprocess.Popen(
                [python, "-m", "ekiben_service"], cwd=unpacked, env=os.environ | {"PORT": str(port)}, stdout=log, stderr=log
            )
            try:
                if not ready(port):
                    sys.exit(f"{name} does not get ready:\n{(work / f'{name}.log').read_text()}")
                command = [work / "venv/bin/schemathesis", "run", f"http://127.0.0.1:{port}/openapi.json", "--checks", CHECKS]
                command += ["--max-examples", examples, "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"]
                command += ["--exclude-path-regex", "^/requests/"]
                done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=work)
            finally:
                server.terminate()
                server.wait(30)
            cases = re.search(r"(\d+) generated|Test cases:\s*\n?\s*(\d+)", done.stdout)
            verdict = "nothing found" if done.returncode == 0 else "FOUND"
            print(f"{name}: {verdict}, {cases[1] or cases[2] if cases else '?'} requests", flush=True)
            if done.returncode:
                failed = True
                print("\n".join("    " + line for line in done.stdout.splitlines()[-80:]))
    sys.exit(failed)


if __name__ == "__main__":
    main()
