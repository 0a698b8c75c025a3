"""A function of the model: what it takes of a JSON object, and its answer as JSON. Nothing but the standard library."""

import asyncio
import base64
import datetime
import decimal
import inspect
import json
import logging
import math
import typing
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List

from .modules import load

logger = logging.getLogger("ekiben")


class Refusal(Exception):
    """A request that is not answered by the model; `detail` is of FastAPI's shape."""

    def __init__(self, kind: str, message: str, *place: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = [{"type": kind, "loc": ["body", *place], "msg": message}]  # type: List[Dict[str, Any]]


class Function:
    """Takes a request's body, and gives its answer."""

    def __init__(self, root: Path, entry: Dict[str, Any], settings: Dict[str, Any]) -> None:
        self.name = entry["function"]
        self.call = getattr(load(root, entry["file"]), self.name)  # type: Callable[..., Any]
        parameters = list(inspect.signature(self.call).parameters.values())
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        hints = type_hints(self.call)
        self.checks = {p.name: check(hints.get(p.name)) for p in named}
        self.required = [p.name for p in named if p.default is p.empty]
        # Whether it takes arguments of any name.
        self.is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.places = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self.is_async = inspect.iscoroutinefunction(self.call)
        self.nan = settings.get("nan", "null")
        self.has_warned = False

    def arguments(self, body: bytes) -> Dict[str, Any]:
        """The arguments in a body; raises Refusal."""
        try:
            given = json.loads((body or b"{}").decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise Refusal("json_invalid", "Invalid JSON: %s" % error) from None
        if not isinstance(given, dict):
            raise Refusal("dict_type", "Input should be an object")
        wrong = Refusal("", "")
        wrong.detail = []
        for name in self.required:
            if name not in given:
                wrong.detail += Refusal("missing", "Field required", name).detail
        for name, value in given.items():
            try:
                if name in self.checks:
                    given[name] = self.checks[name](value)
                elif not self.is_open:
                    raise Refusal("extra_forbidden", "Extra inputs are not permitted")
            except Refusal as refusal:
                wrong.detail += Refusal(refusal.kind, str(refusal), name).detail
        if wrong.detail:
            raise wrong
        return given

    def result(self, arguments: Dict[str, Any]) -> bytes:
        """The function's answer to these arguments."""
        places = [arguments.pop(name) for name in self.places if name in arguments]
        result = self.call(*places, **arguments)
        if self.is_async:
            loop = asyncio.new_event_loop()
            try:
                result = loop.run_until_complete(result)
            finally:
                loop.close()
        try:
            return self.encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            # Not the input's fault, which is what a ValueError of the model's says.
            raise RuntimeError("the answer cannot be written as JSON") from error

    def encode(self, value: Any) -> bytes:
        """A value as JSON, which has neither NaN nor infinity."""
        try:
            return written(value)
        except (TypeError, ValueError):
            # NaN, or keys that are no texts.
            found = []  # type: List[float]
            without = cleaned(value, found, self.nan)
        if found and self.nan == "error":
            raise RuntimeError("the answer holds NaN or infinity, which `service.nan` of the manifest forbids")
        if found and self.nan == "null" and not self.has_warned:
            self.has_warned = True
            logger.warning("%s answers NaN or infinity: JSON has neither, so they become null", self.name)
        return written(without)


def written(value: Any) -> bytes:
    text = json.dumps(value, default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def plain(value: Any) -> Any:
    """What JSON can hold, of numpy's and pandas' values and of Python's own."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return with_nulls(value).to_dict(orient="records")
    if hasattr(value, "to_frame") and hasattr(value, "isna"):
        return with_nulls(value.to_frame()).iloc[:, 0].tolist()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (decimal.Decimal, uuid.UUID, Path)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode()
    for method in ("tolist", "to_list", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError("an answer of type %s cannot be written as JSON" % type(value).__name__)


def with_nulls(frame: Any) -> Any:
    """Without what pandas has for values that are not there, but NaN among numbers."""
    objects = [name for name, kind in zip(frame.columns, frame.dtypes) if getattr(kind, "kind", "O") not in "fiub"]
    if not objects or not frame[objects].isna().values.any():
        return frame
    columns = [
        frame.iloc[:, at].astype(object).where(frame.iloc[:, at].notna(), None) if name in objects else frame.iloc[:, at]
        for at, name in enumerate(frame.columns)
    ]
    return type(frame)(dict(zip(frame.columns, columns)), columns=frame.columns)


def cleaned(value: Any, found: List[float], nan: str) -> Any:
    """The same with texts as keys, and without NaN and infinity, which are `found`."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        found.append(value)
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))] if nan == "text" else None
    if isinstance(value, dict):
        return {key_of(key): cleaned(one, found, nan) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(one, found, nan) for one in value]
    return cleaned(plain(value), found, nan)


def key_of(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    return str(plain(key))


def type_hints(function: Callable[..., Any]) -> Dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:
        return {}


# What JSON has of itself, with what a value of another kind is told.
KINDS = {
    bool: ("bool_type", "Input should be a valid boolean"),
    int: ("int_type", "Input should be a valid integer"),
    float: ("float_type", "Input should be a valid number"),
    str: ("string_type", "Input should be a valid string"),
    list: ("list_type", "Input should be a valid array"),
    dict: ("dict_type", "Input should be an object"),
}  # type: Dict[Any, Any]


def check(hint: Any) -> Callable[[Any], Any]:
    """What checks and makes an argument of this type. Types that say more than JSON knows are not looked into."""
    # `List[float]` is a list: in 3.6 its origin is `List`, which is one.
    origin = getattr(hint, "__origin__", None) or hint
    made = maker(origin)
    if made is not None:
        return made
    if isinstance(origin, type) and origin not in KINDS:
        origin = next((kind for kind in (list, dict) if issubclass(origin, kind)), origin)
    if not isinstance(origin, type) or origin not in KINDS:
        return lambda value: value
    kind, message = KINDS[origin]
    fitting = (int, float) if origin is float else origin

    def checked(value: Any) -> Any:
        if not isinstance(value, fitting) or isinstance(value, bool) and origin is not bool:
            raise Refusal(kind, message)
        return value

    return checked


def maker(hint: Any) -> Any:
    """What makes arrays and tables; None for other types."""
    module = (getattr(hint, "__module__", None) or "").partition(".")[0]
    name = getattr(hint, "__name__", "")
    if (module, name) == ("numpy", "ndarray"):
        import numpy

        make, kind, kinds = numpy.asarray, "array", (list,)  # type: Any, str, Any
    elif module == "pandas" and name in ("DataFrame", "Series"):

        def make(value: Any) -> Any:
            if isinstance(value, dict) and {"columns", "data"} <= set(value) <= {"columns", "data", "index"}:
                return hint(value["data"], columns=value["columns"], index=value.get("index"))
            return hint(value)

        kind, kinds = "table", (list, dict) if name == "DataFrame" else (list,)
    else:
        return None

    def made(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise Refusal(kind, "no %s can be made of it" % kind)
        try:
            return make(value)
        except Exception as error:
            raise Refusal(kind, "no %s can be made of it: %s" % (kind, error)) from None

    return made
