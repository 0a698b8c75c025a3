"""A function of the model: how it is found, what it takes of a request, and its answer."""

from __future__ import annotations

import inspect
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import Annotated, NotRequired, Required, TypedDict, get_args, get_origin, get_type_hints

from . import answer, body
from .body import Refusal, refusal
from .files import Held, Upload
from .modules import load
from .values import (
    Field,
    checkable,
    field,
    has_files,
    holds_files,
    is_file,
    media_types,
    orient,
    plain,
    surely_json,
    with_urls,
)

# Bytes of a request's body, where the manifest says nothing of it.
LARGEST = 100_000_000
# What curl says of what it sends with `-d`, and who says nothing.
JSON = ("application/json", "", "application/x-www-form-urlencoded")
# Where a request keeps its files; what a body that is one file is called, where that is known.
HELD, FILE_NAME = "ekiben.files", "ekiben.file-name"
logger = logging.getLogger("ekiben")


class Function:
    """Takes a request, and gives its answer."""

    def __init__(self, root: Path, entry: Dict[str, Any], settings: Dict[str, Any]) -> None:
        self.name: str = entry["function"]
        self.call: Callable[..., Any] = getattr(load(root, entry["file"]), self.name)
        parameters = list(inspect.signature(self.call).parameters.values())
        hints = self.hints = type_hints(self.call)
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self.names = [p.name for p in named]
        self.required = [p.name for p in named if p.default is p.empty]
        # Whether it takes arguments of any name.
        self.is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.places = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self.arguments = adapter(parameters, hints, entry.get("accept", {}))
        self.is_async = inspect.iscoroutinefunction(self.call) or inspect.isasyncgenfunction(self.call)
        self.limit(settings)
        # Only functions that take files read more than JSON.
        hinted = {p.name: hints[p.name] for p in parameters if p.name in hints}
        takes_files = any(map(holds_files, hinted.values()))
        self.fields = {name: field(hint) for name, hint in hinted.items()} if takes_files else {}
        self.whole = sole_file(self.required, self.fields)
        returns = hints.get("return", Any)
        self.is_json = surely_json(returns)
        beside = get_args(returns)[1:] if get_origin(returns) is Annotated else ()
        self.kinds = media_types(beside)
        self.plain = partial(plain, orient=orient(beside))

    def prepare(
        self,
        entry: Dict[str, Any],
        settings: Dict[str, Any],
        arguments: TypeAdapter[Dict[str, Any]],
        call: Callable[..., Any],
    ) -> None:
        """Of one that is no function of the code: it takes `arguments` by name, and answers with JSON when `call` is awaited."""
        self.name, self.call, self.arguments = entry["function"], call, arguments
        self.hints, self.fields, self.whole = {}, {}, ""
        self.names, self.required, self.places = [], [], []
        self.is_open, self.is_async, self.is_json = False, True, True
        self.kinds, self.plain = media_types(()), partial(plain, orient=orient(()))
        self.limit(settings)

    def limit(self, settings: Dict[str, Any]) -> None:
        # Bytes of a request's body, and of one file in it.
        self.largest = largest(settings)
        self.largest_file = min(settings.get("limits", {}).get("file", self.largest), self.largest)
        self.nan: str = settings.get("nan", "null")
        self.has_warned = False

    async def read(self, request: Request) -> Dict[str, Any]:
        """The arguments in a request; raises Refusal. Their files are there until the scope's are closed."""
        if self.fields:
            return await self.read_files(request)
        document = await body.whole(request, self.largest)
        try:
            return self.arguments.validate_json(document or b"{}")
        except ValidationError as error:
            kind = body.media_type(request.headers.get("content-type", ""))
            coding = request.headers.get("content-encoding", "identity")
            if kind == "multipart/form-data" or coding != "identity":
                raise unsupported(kind, coding) from None
            raise wrong(error) from None

    async def read_files(self, request: Request) -> Dict[str, Any]:
        content_type = request.headers.get("content-type", "")
        kind = body.media_type(content_type)
        coding = request.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise unsupported(kind, coding)
        held = request.scope[HELD] = Held(self.largest_file)
        if kind == "multipart/form-data":
            form = body.Form(body.boundary(content_type), held, self.fields)
            document = await form.read(request, self.largest)
        elif kind in JSON or kind.endswith("+json"):
            document = await body.whole(request, self.largest) or b"{}"
        elif self.whole:
            lies = self.fields[self.whole].lies
            upload = Upload(held, request.scope.get(FILE_NAME, ""), kind, lies)
            document = await body.file(request, self.largest, upload, self.whole)
        else:
            raise unsupported(kind, coding)
        try:
            # Pictures are decoded here, which takes its time.
            return await run_in_threadpool(self.arguments.validate_json, document, context=held)
        except ValidationError as error:
            raise wrong(error) from None

    def checked(self, document: str) -> Dict[str, Any]:
        """The arguments in a JSON object; raises Refusal."""
        try:
            return self.arguments.validate_json(document)
        except ValidationError as error:
            raise wrong(error) from None

    def bind(self, arguments: Dict[str, Any]) -> Callable[[], Any]:
        """The call that these arguments are for."""
        places = [arguments.pop(name) for name in self.places if name in arguments]
        return partial(self.call, *places, **arguments)

    def response(self, result: Any, request: Request) -> Response:
        """What the function gave, as an answer; raises Refusal where the caller does not accept what it can be written as.

        Waits for the disk, and for pictures, where it may be a file.
        """
        if not self.is_json and is_file(result):
            accept = ", ".join(request.headers.getlist("accept"))
            try:
                return answer.response(result, accept, self.kinds, self.name)
            except ValueError as error:
                raise RuntimeError("the answer cannot be written") from error
        return Response(self.encode(result), media_type="application/json")

    def encode(self, value: Any) -> bytes:
        """A value, or a part of an answer, as JSON, which has neither NaN nor infinity."""
        try:
            if not self.is_json and has_files(value):
                value = with_urls(value, answer.url)
            # As this names them in bytes, answers without them are not looked through.
            content = to_json(value, fallback=self.plain, inf_nan_mode="constants")
            if b"NaN" in content or b"Infinity" in content:
                content = self.without_nan(value, content)
        except ValueError as error:
            # Not the input's fault, which is what a ValueError of the model's says.
            raise RuntimeError("the answer cannot be written as JSON") from error
        return content

    def without_nan(self, result: Any, content: bytes) -> bytes:
        """The same with what the manifest wants in the place of NaN and infinity; a text may hold these words."""
        mode = "strings" if self.nan == "text" else "null"
        without = to_json(result, fallback=self.plain, inf_nan_mode=mode)
        if without != content and self.nan == "error":
            raise FloatingPointError("the answer holds NaN or infinity, which `service.nan` of the manifest forbids")
        if without != content and self.nan == "null" and not self.has_warned:
            self.has_warned = True
            logger.warning("%s answers NaN or infinity: JSON has neither, so they become null", self.name)
        return without


def largest(settings: Dict[str, Any]) -> int:
    """Bytes that a request's body may have."""
    return int(os.environ.get("EKIBEN_MAX_BODY") or settings.get("limits", {}).get("request", LARGEST))


def unsupported(kind: str, coding: str) -> Refusal:
    if coding != "identity":
        return refusal("media_type", f"a body with the coding {coding} is not taken: send it as it is")
    return refusal("media_type", f"a body of the kind {kind} is not taken: send application/json")


def wrong(error: ValidationError) -> Refusal:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return Refusal([{**one, "loc": ["body", *one["loc"]]} for one in errors])


def sole_file(required: List[str], fields: Dict[str, Field]) -> str:
    """The parameter that a whole body can be: a file, and all that has to be given; empty where there is none."""
    known = [fields.get(name, Field()) for name in required]
    is_one = len(known) == 1 and known[0].is_file and not known[0].is_list
    return required[0] if is_one else ""


def type_hints(function: Callable[..., Any]) -> Dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:
        # One that cannot be found does not take the others along.
        names = getattr(inspect.unwrap(function), "__globals__", {})
        hints: Dict[str, Any] = {}
        for name, hint in getattr(function, "__annotations__", {}).items():
            try:
                hints[name] = eval(hint, names) if isinstance(hint, str) else hint
            except Exception as error:
                logger.warning("the type hint of %s in %s is not used: %s", name, function.__name__, error)
        return hints


def adapter(
    parameters: List[inspect.Parameter], hints: Dict[str, Any], accept: Dict[str, List[str]]
) -> TypeAdapter[Dict[str, Any]]:
    """Checks a JSON object against the parameters of a function, strictly: "1" is no number."""
    fields: Dict[str, Any] = {}
    extra = "forbid"
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            hint = checkable(hints.get(parameter.name, Any), tuple(accept.get(parameter.name, ())))
            fields[parameter.name] = (Required if parameter.default is parameter.empty else NotRequired)[hint]
    request = TypedDict("request", fields)  # type: ignore[misc]
    request.__pydantic_config__ = ConfigDict(extra=extra, strict=True)  # type: ignore[attr-defined]
    return TypeAdapter(request)
