"""The process of one training: imports the function, calls it, and writes what it returns."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from . import log, processors
from .training import DATA, FUNCTION, IMPORT, OUTPUT, TASK, failed

# The same bytes from every Python that reads it.
PROTOCOL = 4


def main() -> int:
    log.configure()
    task = json.loads(os.environ.pop(TASK))
    training, file = task["training"], Path(task["file"])
    processors.limit_threads()
    name = training["train"]["function"]
    call = imported(training["train"])
    if call is None:
        return IMPORT
    given: Dict[str, Any] = {"hyperparameters": task["parameters"]}
    if "EKIBEN_DATA" in os.environ:
        given["data"] = os.environ["EKIBEN_DATA"]
    arguments, missing = fitting(call, given)
    if missing == "data":
        failed(DATA, f"{name} wants data, and no data set is given: --data says where it lies, or EKIBEN_DATA")
        return DATA
    if missing:
        failed(FUNCTION, f"{name} wants {missing}, but training gives data and hyperparameters alone")
        return FUNCTION
    try:
        result = call(**arguments)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except (Exception, SystemExit) as error:
        failed(FUNCTION, f"{name} raised {type(error).__name__}: {error}", exc_info=error)
        return FUNCTION
    try:
        statistics = taken(result, file)
        if statistics is not None:
            (Path(task["notes"]) / "statistics.json").write_bytes(as_json(statistics))
    except Exception as error:
        failed(OUTPUT, f"what {name} returned cannot be written: {error}", exc_info=error)
        return OUTPUT
    return 0


def imported(entry: Dict[str, str]) -> Optional[Callable[..., Any]]:
    """The function; None, with a line in the log, where it cannot be had."""
    try:
        from .modules import load

        call: Callable[..., Any] = getattr(load(Path.cwd(), entry["file"]), entry["function"])
        return call
    except (Exception, SystemExit) as error:
        failed(IMPORT, f"{entry['file']} could not be imported: {type(error).__name__}: {error}", exc_info=error)
        return None


def fitting(call: Callable[..., Any], given: Dict[str, Any]) -> Tuple[Dict[str, Any], str]:
    """Those arguments that a function has, and the name of one that it wants besides."""
    parameters = inspect.signature(call).parameters.values()
    is_open = any(one.kind is one.VAR_KEYWORD for one in parameters)
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    names = {one.name for one in named}
    arguments = {name: value for name, value in given.items() if is_open or name in names}
    missing = next((one.name for one in named if one.default is one.empty and one.name not in given), "")
    return arguments, missing


def parts(result: Any) -> Tuple[Any, Optional[Dict[str, Any]]]:
    """A model, and statistics where they come along."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], (dict, type(None))):
        return result
    return result, None


def taken(result: Any, file: Path) -> Optional[Dict[str, Any]]:
    """Writes the model's file unless the function has done so; the statistics. A dictionary alone is one of these where the
    file is there, else it is the model.
    """
    model, statistics = parts(result)
    if file.is_file():
        if isinstance(model, dict) and statistics is None:
            statistics = model
    elif model is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(model, file)
    return statistics


def write(model: Any, file: Path) -> None:
    with open(file, "wb") as target:
        pickle.dump(model, target, protocol=PROTOCOL)


def as_json(value: Any) -> bytes:
    """As answers are written: with numpy's numbers, and null for what JSON does not have."""
    try:
        from pydantic_core import to_json
    except ImportError:
        # Beside the small service, which writes it itself.
        from .function import cleaned, written

        return written(cleaned(value, [], "null"))
    from .values import plain

    return to_json(value, fallback=plain, inf_nan_mode="null")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
