"""The routes of `mlflow models serve` (https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/): `/invocations`,
`/ping`, `/health` and `/version`, for a function that is given what the model's signature says.

Statuses and bodies are those of MLflow's own scoring server but for this: no answer shows where in the code something went
wrong, which the log says; NaN, which JSON does not have, is what `service.nan` says; and what that server breaks off at, as a
request without a kind, is refused with a reason.
"""

from __future__ import annotations

import datetime
import decimal
import inspect
import io
import json
import logging
from base64 import encodebytes
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from . import app, signature
from .function import Function
from .signature import Inputs, Invalid, Mismatch, Parameter, pandas

JSON, CSV, PARQUET = KINDS = "application/json", "text/csv", "application/vnd.apache.parquet"
FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
# Of requests to models of language: all of the body is the input.
WHOLE = ("messages", "prompt", "input")
# What MLflow calls errors, by their status; and what it says of them besides.
CODES = {503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
CLASSES = {
    "BAD_REQUEST": ("KAM00", "INVALID_PARAMETER_VALUE"),
    "INVALID_PARAMETER_VALUE": ("KAM00", "INVALID_PARAMETER_VALUE"),
    "SCHEMA_ENFORCEMENT_FAILED": ("KAM01", "SCHEMA_ENFORCEMENT_FAILED"),
}
FAILED = ("XXM00", "CLIENT_INTERNAL_ERROR")
# Characters of a message: MLflow's hold all that was sent.
LONGEST = 2000
logger = logging.getLogger("ekiben")


class Wrong(Exception):
    """An answer that is none of the model's; `kind` is what MLflow calls the class of the error."""

    def __init__(self, message: str, code: str = "BAD_REQUEST", status: int = 400, kind: str = "") -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]}…")
        self.code, self.status, self.kind = code, status, kind

    def response(self, headers: Optional[Dict[str, str]] = None) -> Response:
        state, kind = CLASSES.get(self.kind or self.code, FAILED)
        told = {"error_code": self.code, "message": str(self), "sqlstate": state, "error_class": kind}
        return Response(json.dumps(told), self.status, headers, JSON)


class Unsupported(Exception):
    """A body of a kind that is not taken."""

    def response(self) -> Response:
        return Response(str(self), 415, media_type="text/plain")


def routes(service: app.Service, root: Path, settings: Dict[str, Any]) -> List[Route]:
    model = Model(service, root, settings)
    found = [Route(path, model.healthy, methods=["GET"]) for path in ("/ping", "/health")]
    found.append(Route("/version", model.told, methods=["GET"]))
    found.append(Route("/invocations", model.answer, methods=["POST"]))
    return found


class Model:
    """What is asked, and the signature that requests are held against."""

    def __init__(self, service: app.Service, root: Path, settings: Dict[str, Any]) -> None:
        written = settings["mlflow"]
        self.service, self.load, self.version = service, service.load, written.get("version", "")
        self.function = Function(root, written, settings)
        self.places = self.load.awaiting if self.function.is_async else self.load.fitting()
        self.inputs = Inputs(written["inputs"]) if written.get("inputs") else None
        # The model's code holds the values against its own annotations.
        self.has_hints: bool = written.get("hints", False)
        params = written.get("params")
        self.parameters = None if params is None else [Parameter(one) for one in params]
        taken = inspect.signature(self.function.call).parameters
        self.takes_parameters = "params" in taken and taken["params"].kind is not inspect.Parameter.VAR_KEYWORD

    async def healthy(self, _: Request) -> Response:
        return Response("\n", 200 if self.service.state.status == "ok" else 503, media_type=JSON)

    async def told(self, _: Request) -> Response:
        return Response(self.version, media_type=JSON)

    async def answer(self, request: Request) -> Response:
        load, function = self.load, self.function
        try:
            self.places.check()
            caller = load.caller(request.receive)
            body = await app.whole(request, function.largest)
            if body is None:
                raise Wrong(f"the body has more than {function.largest} bytes", status=413)
            kind = content_type(request.headers.get("content-type", ""))
            if function.is_async:
                call, is_whole = self.read(body, kind)
                content = self.written(await load.task(partial(self.awaited, call), caller), is_whole)
            else:
                content = await load.thread(partial(self.work, body, kind), caller, self.places)
            return Response(content, media_type=JSON)
        except ClientDisconnect:
            raise
        except (Wrong, Unsupported) as error:
            return error.response()
        except Exception as error:
            status, text, headers = await app.in_words(request, error)
            return Wrong(text, CODES.get(status, "INTERNAL_ERROR"), status).response(headers)

    def work(self, body: bytes, kind: str) -> str:
        call, is_whole = self.read(body, kind)
        try:
            answer = call()
        except Exception as error:
            raise broken(error) from error
        return self.written(answer, is_whole)

    async def awaited(self, call: Callable[[], Any]) -> Any:
        try:
            return await call()
        except Exception as error:
            raise broken(error) from error

    def read(self, body: bytes, kind: str) -> Tuple[Callable[[], Any], bool]:
        """The call that a body is for, and whether its answer stands alone."""
        value: Any
        params, is_whole, fits = None, False, False
        try:
            if kind == CSV:
                value = self.of_csv(body)
            elif kind == PARQUET:
                value = table(lambda: pandas().read_parquet(io.BytesIO(body)), "Parquet", "parquet")
            else:
                document = decoded(body)
                is_whole = any(name in document for name in WHOLE)
                if is_whole:
                    names = {one.name for one in self.parameters or ()}
                    params = {name: one for name, one in document.items() if name in names}
                    value = {name: one for name, one in document.items() if name not in names}
                else:
                    params = document.get("params")
                    value, fits = self.of_json({name: document[name] for name in FORMS if name in document})
        except Invalid as error:
            raise Wrong(str(error)) from None
        value, params = self.held(value, fits, params)
        call = self.function.call
        return (partial(call, value, params=params) if self.takes_parameters else partial(call, value)), is_whole

    def of_json(self, asked: Dict[str, Any]) -> Tuple[Any, bool]:
        if self.has_hints:
            if "inputs" not in asked:
                raise Wrong(
                    "Request payload must be a dictionary with 'inputs' key when the model contains a valid type hint. Found "
                    f"keys in payload: {asked.keys()}.",
                    "INVALID_PARAMETER_VALUE",
                )
            return asked["inputs"], True
        if len(asked) != 1:
            raise Wrong(
                f"The input must be a JSON dictionary with exactly one of the input fields {set(FORMS)}. Received dictionary "
                f"with input fields: {list(asked)}"
            )
        ((form, value),) = asked.items()
        return signature.read(self.inputs, form, value)

    def of_csv(self, body: bytes) -> Any:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Wrong(f"Invalid input. Ensure that input is a valid UTF-8 encoded string. Error: '{error!r}'") from None

        def read() -> Any:
            inputs = self.inputs
            if inputs is None:
                return pandas().read_csv(io.StringIO(text))
            if inputs.are_tensors:
                raise ValueError("TensorSpec only supports numpy types, use numpy_types() instead")
            if not all(one.type.is_scalar for one in inputs.all):
                raise ValueError("Failed to get pandas types as some of the inputs types are not DataType.")
            types = {name: one.type.pandas for name, one in zip(inputs.names, inputs.all)}
            return pandas().read_csv(io.StringIO(text), dtype=types)

        return table(read, "CSV-formatted", "csv")

    def held(self, value: Any, fits: bool, params: Any) -> Tuple[Any, Any]:
        """The same as the signature has it; raises Wrong."""
        given = value
        try:
            if self.inputs is not None and not fits and not self.has_hints:
                value = self.inputs.enforce(value)
        except Exception as error:
            schema = shown(self.inputs)
            reason = f"Failed to enforce schema of data '{shown(given)}' with schema '{schema}'. Error: {error}"
            raise Wrong(failure(given, reason), "INVALID_PARAMETER_VALUE", kind="SCHEMA_ENFORCEMENT_FAILED") from None
        try:
            return value, signature.parameters(self.parameters, params)
        except Mismatch as error:
            raise Wrong(failure(given, str(error)), "INVALID_PARAMETER_VALUE") from None

    def written(self, answer: Any, is_whole: bool) -> str:
        """An answer as JSON."""
        answer = plain(answer)
        document = answer if is_whole else {"predictions": answer}
        try:
            try:
                return json.dumps(document, default=value_of, allow_nan=False)
            except ValueError:
                # NaN or infinity, wherever they are.
                text = json.dumps(document, default=value_of)
                return self.function.encode(json.loads(text)).decode()
        except (TypeError, ValueError) as error:
            raise RuntimeError("the answer cannot be written as JSON") from error


def content_type(written: str) -> str:
    """The kind of a body; raises Unsupported."""
    kind, *more = (part.strip() for part in written.split(";"))
    parameters = {name: value for name, _, value in (part.partition("=") for part in more)}
    if parameters.pop("charset", "utf-8").lower() != "utf-8":
        raise Unsupported("The scoring server only supports UTF-8")
    if parameters:
        raise Unsupported(f"Unrecognized content type parameters: {', '.join(parameters)}.")
    if kind not in KINDS:
        raise Unsupported(
            f"This predictor only supports the following content types: Types: {list(KINDS)}. Got '{written}'."
        )
    return kind


def decoded(body: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"Ensure that input is a valid JSON formatted string. Error: '{error!r}'") from None
    if isinstance(document, dict):
        return document
    kind = "a list" if isinstance(document, list) else f"unexpected input type '{type(document)}'"
    raise Invalid(f"The input must be a JSON dictionary with exactly one of the input fields {set(FORMS)}. Received {kind}.")


def table(read: Callable[[], Any], kind: str, method: str) -> Any:
    try:
        return read()
    except Exception as error:
        raise Wrong(
            f"Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid {kind} Pandas DataFrame produced "
            f"using the `pandas.DataFrame.to_{method}()` method. Error: '{error}'"
        ) from None


def failure(given: Any, reason: str) -> str:
    return f"Failed to predict data '{shown(given)}'. \nError: {reason}"


def shown(given: Any) -> str:
    """The beginning of it: the reason is behind it."""
    text = str(given)
    return text if len(text) <= LONGEST // 4 else f"{text[: LONGEST // 4]}…"


def broken(error: Exception) -> Exception:
    """What is answered where the model's code raised something."""
    status = getattr(error, "get_http_status_code", None)
    logger.error("the model failed", exc_info=error)
    if status is not None:
        # One of MLflow's own, of the model or of what loaded it.
        known: Any = error
        return Wrong(str(error), known.error_code, status(), getattr(error, "error_class", "") or "")
    return Wrong(
        "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is compatible "
        "with the model for inference."
    )


def plain(answer: Any) -> Any:
    """An answer without what is a table or an array as a whole."""
    if isinstance(answer, numpy.ndarray):
        return answer.tolist()
    if hasattr(answer, "to_dict") and hasattr(answer, "iloc"):
        return (answer if hasattr(answer, "columns") else answer.to_frame()).to_dict(orient="records")
    return answer


def value_of(value: Any) -> Any:
    """What JSON can hold, of a value within an answer."""
    if isinstance(value, numpy.ndarray):
        return value.tolist()
    if isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, (bytes, bytearray)):
        return encodebytes(value).decode("ascii")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if type(value).__name__ == "NAType":
        return None
    raise TypeError(f"an answer of type {type(value).__name__} cannot be written as JSON")
