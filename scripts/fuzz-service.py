#!/usr/bin/env python3
"""Asks ten services what schemathesis makes of their descriptions: no request may be answered with 500.

    scripts/fuzz-service.py [EKIBEN] [EXAMPLES] [ENVIRONMENT]

Each service is packed by Ekiben and started in one virtual environment; its functions take and give one kind of value. EXAMPLES is how
many requests are made for each operation (100), before those at the edges of what is allowed. ENVIRONMENT is a folder for the virtual
environment, which is used again where it is there. The packages come from the package index. Ends with 1 where schemathesis found a
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
PACKAGES = ["fastapi", "fastapi-swagger", "uvicorn", "numpy", "pandas", "pillow", "python-multipart", "schemathesis==4.32.5", "hypothesis==6.170.17"]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SERVICES = {
    "numbers": """
def predict(rows: list[list[float]], scale: float = 1.0) -> list[float]:
    return [scale * sum(row) for row in rows]


def whole(n: int, sure: bool = False, more: dict[str, int] = {}) -> int:
    return n + len(more) if sure else -n
""",
    "texts": """
from typing import Literal, Optional, Union


def predict(text: str, how: Literal["up", "down"] = "up", times: int | None = None) -> dict[str, str]:
    return {"text": text.upper() if how == "up" else text.lower()}


def any(value: Union[int, str, None], more: Optional[list[str]] = None, **others) -> Union[int, str, None]:
    return value
""",
    "models": """
from typing import Annotated, NamedTuple, TypedDict

from pydantic import BaseModel, Field


class Order(BaseModel):
    count: Annotated[int, Field(gt=0, le=9)]
    names: list[str] = []


class Row(TypedDict, total=False):
    x: float


class Pair(NamedTuple):
    a: int
    b: str = "x"


def predict(order: Order) -> Order:
    return order


def rows(rows: list[Row], pair: Pair = Pair(1)) -> list[Row]:
    return rows
""",
    "classes": """
import dataclasses, enum


class Kind(enum.Enum):
    A = "a"
    B = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


def predict(points: list[Point], kind: Kind = Kind.A, level: Level = Level.LOW) -> Point | None:
    return points[0] if points else None


def several(pairs: dict[str, tuple[int, Point]], kinds: set[Kind] = set()) -> set[Kind]:
    return kinds
""",
    "times": """
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID


def predict(day: date, at: datetime, price: Decimal, name: UUID) -> dict[str, str]:
    return {"day": day.isoformat(), "price": str(price)}


def later(at: time, by: timedelta, price: Decimal = Decimal(1)) -> Decimal:
    return price
""",
    "arrays": """
from typing import Annotated

import numpy
import numpy.typing


def predict(array: numpy.ndarray) -> numpy.ndarray:
    return array


def floats(array: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float32]:
    return array * 2


def shaped(array: Annotated[numpy.ndarray, {"dtype": "uint8", "shape": (None, 2)}]) -> Annotated[numpy.ndarray, {"dtype": "uint8"}]:
    return array
""",
    "tables": """
from typing import Annotated

import pandas


def predict(table: pandas.DataFrame) -> pandas.DataFrame:
    return table.head(2)


def split(table: pandas.DataFrame, column: pandas.Series) -> Annotated[pandas.DataFrame, "split"]:
    return table


def series(column: pandas.Series) -> pandas.Series:
    return column
""",
    "files": """
import io
from pathlib import Path
from typing import Annotated, BinaryIO, Optional


def predict(file: bytes) -> bytes:
    return file[::-1]


def size(file: Path, more: list[bytes] = []) -> int:
    return file.stat().st_size + sum(map(len, more))


def reader(file: BinaryIO, name: str = "", other: Optional[io.BytesIO] = None) -> dict[str, str]:
    return {"name": name, "head": file.read(4).hex()}


def within(files: dict[str, bytes]) -> list[bytes]:
    return list(files.values())


def sound(file: Annotated[bytes, "audio/wav"]) -> Annotated[bytes, "audio/wav"]:
    return file
""",
    "pictures": """
from typing import Annotated

from PIL import Image


def predict(image: Image.Image, width: int = 8) -> Image.Image:
    return image.resize((max(1, min(width, 64)), 8))


def several(images: list[Image.Image], mode: str = "RGB") -> Annotated[Image.Image, "image/jpeg"]:
    return Image.new("RGBA", (len(images) + 1, 1))
""",
    "parts": """
from collections.abc import AsyncIterator, Iterator


def predict(words: list[str]) -> Iterator[str]:
    yield from words


async def count(most: int) -> AsyncIterator[float]:
    for number in range(min(most, 5)):
        yield number / 2


def chat(messages: list[dict], temperature: float = 1.0, max_tokens: int = 9) -> Iterator[str]:
    yield from ("one", "two")


def embed(texts: list[str]) -> list[list[float]]:
    return [[float(len(text))] for text in texts]
""",
}
# What a manifest says of them besides their functions, all of which are served.
MORE = {
    "numbers": {"batch": {"predict": {"size": 8, "wait": "2ms"}}, "timeout": "20s"},
    "arrays": {"kserve": "predict"},
    "files": {"limits": {"file": "10k", "request": "100k"}, "inputs": [{"name": "other", "accept": ["image/png"]}]},
    "parts": {"openai": {"chat": "src/model.py:chat", "completions": "src/model.py:chat", "embeddings": "src/model.py:embed"}},
    "times": {"root": "/times/api"},
}


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
        venv = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else work / "venv"
        python = venv / "bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        for name, source in SERVICES.items():
            project, unpacked = work / name, work / f"{name}-app"
            (project / "src").mkdir(parents=True)
            (project / "src/model.py").write_text(source)
            functions = re.findall(r"^(?:async )?def (\w+)", source, re.M)
            service = {"functions": {function: f"src/model.py:{function}" for function in functions}} | MORE.get(name, {})
            requirements = ["numpy", "pandas", "pillow", "pydantic"]
            manifest = {"name": name, "version": "1", "python": {"version": "3.11", "requirements": requirements}, "service": service}
            (project / "ekiben.json").write_text(json.dumps(manifest))
            environment = os.environ | {"EKIBEN_HOME": str(work / "store")}
            for command in (["pack", project, "-o", work / f"{name}.ekiben"], ["unpack", work / f"{name}.ekiben", unpacked]):
                done = subprocess.run([ekiben, *command], env=environment, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
            port, root = free_port(), service.get("root", "")
            log = open(work / f"{name}.log", "w+")
            server = subprocess.Popen(
                [python, "-m", "ekiben_service"], cwd=unpacked, env=os.environ | {"PORT": str(port)}, stdout=log, stderr=log
            )
            try:
                if not ready(port):
                    sys.exit(f"{name} does not get ready:\n{(work / f'{name}.log').read_text()}")
                command = [venv / "bin/schemathesis", "run", f"http://127.0.0.1:{port}{root}/openapi.json", "--checks", CHECKS]
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
