"""A function of the model: how it is found, what it takes, and its answer as JSON."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic_core import to_json
from starlette.responses import Response
from typing_extensions import Annotated, NotRequired, Required, TypedDict


class Function:
    """Takes the bytes of a request, and gives an answer to it."""

    def __init__(self, root: Path, file: str, name: str) -> None:
        self.call: Callable[..., Any] = getattr(load(root, file), name)
        parameters = inspect.signature(self.call).parameters.values()
        self.places = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self.arguments = adapter(self.call, list(parameters))
        self.is_async = inspect.iscoroutinefunction(self.call) or inspect.isasyncgenfunction(self.call)

    def read(self, body: bytes) -> dict[str, Any]:
        """The arguments in a request; raises pydantic's ValidationError."""
        return self.arguments.validate_json(body or b"{}")

    def bind(self, arguments: dict[str, Any]) -> Callable[[], Any]:
        """The call that these arguments are for."""
        places = [arguments.pop(name) for name in self.places if name in arguments]
        return partial(self.call, *places, **arguments)

    def response(self, result: Any) -> Response:
        """What the function gave, as an answer."""
        return Response(self.encode(result), media_type="application/json")

    def encode(self, value: Any) -> bytes:
        """A value, or a part of an answer, as JSON, which has neither NaN nor infinity: they become null."""
        return to_json(value, fallback=plain, inf_nan_mode="null")


def load(root: Path, file: str) -> ModuleType:
    """Imports a file by its path. What lies beside it, and below the root, can be imported from it."""
    path = root / file
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder != root:
        names.insert(0, folder.name)
        folder = folder.parent
    for place in (str(root), str(folder)):
        if place not in sys.path:
            sys.path.insert(0, place)
    name = ".".join(names)
    if len(names) > 1:
        return importlib.import_module(name)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # By its path, not its name: a module of the library may have the same.
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def adapter(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> TypeAdapter[dict[str, Any]]:
    """Checks a JSON object against the parameters of a function, strictly: "1" is no number."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        logging.getLogger("ekiben").warning("the type hints of %s are not used: %s", function.__name__, error)
        hints = {}
    fields: dict[str, Any] = {}
    extra = "forbid"
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            hint = checkable(hints.get(parameter.name, Any))
            fields[parameter.name] = (Required if parameter.default is parameter.empty else NotRequired)[hint]
    request = TypedDict("request", fields)  # type: ignore[misc]
    request.__pydantic_config__ = ConfigDict(extra=extra, strict=True)  # type: ignore[attr-defined]
    return TypeAdapter(request)


def checkable(hint: Any) -> Any:
    """Arrays and tables are made of lists; what pydantic cannot check is anything."""
    whole = f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', '')}"
    if whole == "numpy.ndarray" or whole.startswith("pandas.") and whole.endswith((".DataFrame", ".Series")):
        make = sys.modules["numpy"].asarray if whole == "numpy.ndarray" else hint
        return Annotated[Any, AfterValidator(lambda value: make(value))]
    try:
        TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return Any
    return hint


def plain(value: Any) -> Any:
    """What JSON can hold, of numpy's and pandas' values."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict(orient="records")
    for method in ("tolist", "to_list", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"an answer of type {type(value).__name__} cannot be written as JSON")
