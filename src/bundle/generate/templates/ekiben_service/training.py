"""`train`: trains the model once, in a process of its own, and puts it in its place.

How it ends says which step failed, as the line in the log does whose field `step` names it.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from .trained import FACTS, Models, synced, working_folder

HERE = Path(__file__).parent
# The steps: what it was asked for; the data set; the code is imported; the function, or the command; the model's file.
USAGE, DATA, IMPORT, FUNCTION, OUTPUT = 2, 3, 4, 5, 6
STEPS = {USAGE: "usage", DATA: "data", IMPORT: "import", FUNCTION: "function", OUTPUT: "output"}
# Where a process that trains finds what it is to do.
TASK = "EKIBEN_TRAINING"
logger = logging.getLogger("ekiben")


class Failed(Exception):
    """Training ended without a model. Where it is `told`, the log says so already."""

    def __init__(self, step: int, text: str, told: bool = False) -> None:
        super().__init__(text)
        self.step, self.told = step, told

    def log(self) -> None:
        if not self.told:
            failed(self.step, str(self))


def failed(step: int, text: str, **more: Any) -> None:
    logger.error("the training failed: %s", text, extra={"fields": {"step": STEPS.get(step, "function")}}, **more)


class Data(NamedTuple):
    """A data set, and what it is called."""

    path: Path
    name: str


def main(settings: Dict[str, Any], arguments: List[str]) -> int:
    parser = argparse.ArgumentParser("train", description="Trains the model once.", allow_abbrev=False)
    parser.add_argument("--data", help="the data set; else EKIBEN_DATA")
    parser.add_argument("--output", help="a folder for the model's file and training.json; else the model is put in force")
    try:
        asked = parser.parse_args(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    signal.signal(signal.SIGTERM, ended_by_signal)
    try:
        models = Models(settings)
        given = asked.data or os.environ.get("EKIBEN_DATA")
        data = Data(Path(given), settings["training"].get("data") or Path(given).name) if given else None
        if asked.output:
            run(settings, data, parameters(settings), Path(asked.output))
        else:
            placed(models, lambda folder: run(settings, data, parameters(settings), folder))
    except Failed as error:
        error.log()
        return error.step
    except OSError as error:
        failed(OUTPUT, f"the model cannot be written: {error}")
        return OUTPUT
    return 0


def ended_by_signal(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def placed(models: Models, train: Callable[[Path], Any]) -> str:
    """Trains into a new folder and puts the model in force; its id. Raises Failed and OSError."""
    folder = models.begin()
    try:
        train(folder)
        return models.place(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parameters(settings: Dict[str, Any]) -> Dict[str, Any]:
    """The manifest's, and over them those of the environment; raises Failed."""
    text = os.environ.get("EKIBEN_HYPERPARAMETERS")
    try:
        given = json.loads(text) if text else {}
        if not isinstance(given, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise Failed(USAGE, f"EKIBEN_HYPERPARAMETERS is no JSON object: {error}") from None
    return {**settings["training"].get("parameters", {}), **given}


def run(
    settings: Dict[str, Any],
    data: Optional[Data],
    parameters: Dict[str, Any],
    folder: Path,
    started: Callable[[Any], None] = lambda _: None,
    **more: Any,
) -> Dict[str, Any]:
    """Trains, and writes the model's file and what is known of it, `more` as well, into a folder. Raises Failed and OSError.

    `started` is given the process.
    """
    training, file = settings["training"], settings["trained"]["file"]
    if data is None and training.get("data"):
        raise Failed(DATA, f"the data set {training['data']} is not given: --data says where it lies, or EKIBEN_DATA")
    known = described(data)
    begun = time.monotonic()
    work = working_folder(HERE.parent, file, None)
    notes = Path(tempfile.mkdtemp(prefix="ekiben-"))
    try:
        status = spawned(training, data, parameters, work, notes, file, started)
        if status:
            # A process of ours says which step it was, and has told more of it.
            is_told = not training.get("command") and status in STEPS
            raise Failed(status if is_told else FUNCTION, how(status), is_told)
        made = work / file
        if not made.is_file():
            raise Failed(OUTPUT, f"no {file} was written into the working folder, and nothing returned that becomes it")
        said = notes / "statistics.json"
        facts = {
            "parameters": parameters,
            "statistics": json.loads(said.read_text("utf-8")) if said.is_file() else None,
            "data": known,
            "seconds": round(time.monotonic() - begun, 3),
            **more,
        }
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        moved(made, target)
        (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False) + "\n", "utf-8")
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(notes, ignore_errors=True)
    logger.info("%s is trained", file, extra={"fields": {"seconds": facts["seconds"], "bytes": target.stat().st_size}})
    return facts


def moved(made: Path, target: Path) -> None:
    """Beside its place first: it appears as a whole."""
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(made, part)
    synced(part)
    part.replace(target)


def described(data: Optional[Data]) -> Optional[Dict[str, Any]]:
    if data is None:
        return None
    digest, size = hashlib.sha256(), 0
    try:
        with open(data.path, "rb") as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
                size += len(part)
    except OSError as error:
        raise Failed(DATA, f"the data set {data.path} cannot be read: {error.strerror}") from None
    return {"name": data.name, "sha256": digest.hexdigest(), "size": size}


def spawned(
    training: Dict[str, Any],
    data: Optional[Data],
    parameters: Dict[str, Any],
    work: Path,
    notes: Path,
    file: str,
    started: Callable[[Any], None],
) -> int:
    """Runs the training in its own process, and waits; how it ended. Raises Failed where it cannot begin."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "EKIBEN_HYPERPARAMETERS": json.dumps(parameters)}
    environment["EKIBEN_OUTPUT"] = str(work / file)
    environment.pop("EKIBEN_DATA", None)
    if data is not None:
        environment["EKIBEN_DATA"] = str(data.path.resolve())
    command = words(training, data, parameters, work / file)
    if not command:
        command = [sys.executable, "-m", f"{__package__}.trainer"]
        environment[TASK] = json.dumps({"training": training, "parameters": parameters, "file": file, "notes": str(notes)})
    try:
        process = subprocess.Popen(command, cwd=work, env=environment, start_new_session=True, preexec_fn=following())
    except OSError as error:
        raise Failed(IMPORT, f"{command[0]} cannot be run: {error.strerror}") from None
    try:
        started(process)
        return process.wait()
    finally:
        # What it has started ends with it.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def words(training: Dict[str, Any], data: Optional[Data], parameters: Dict[str, Any], output: Path) -> List[str]:
    """The command line, where the manifest has one."""
    found: List[str] = []
    for word in training.get("command") or []:
        if word == "{parameters}":
            found += [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in parameters.items()]
        elif "{data}" in word and data is None:
            raise Failed(DATA, "the command names {data}, and no data set is given: --data says where it lies, or EKIBEN_DATA")
        else:
            path = str(data.path.resolve()) if data is not None else ""
            found.append(word.replace("{data}", path).replace("{output}", str(output)))
    if found and found[0] in ("python", "python3"):
        found[0] = sys.executable
    return found


def following(number: int = signal.SIGKILL) -> Callable[[], None]:
    """Run in a child, lets it end with its parent, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def follow() -> None:
        prctl(1, number)
        if os.getppid() != parent:
            os._exit(1)

    return follow


def how(status: int) -> str:
    """How a process ended."""
    if status >= 0:
        return f"it ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"it was ended by {name}" + (", as happens where there is not enough memory" if status == -signal.SIGKILL else "")
