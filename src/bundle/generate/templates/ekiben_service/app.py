"""The routes: the model's functions, health, metrics, and the description of them all."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import re
import time
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, Optional, Tuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from . import _given, body, log
from .body import Refusal, refusal
from .function import HELD, Function
from .load import Busy, Caller, Late, Load, Places
from .metrics import CONTENT_TYPE, Metrics
from .state import State

HERE = Path(__file__).parent
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Asked every few seconds, and answered to the end.
QUIET = {"/healthz", "/livez", "/readyz", "/metrics"}
# Where answers are asked for that nobody waited for.
LATER = "/requests/"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
logger = logging.getLogger("ekiben")
Answer = Callable[[Request], Awaitable[Response]]


def application(settings: dict[str, Any], root: Path, state: State, is_offered: bool = True) -> Service:
    """Everything, with the model's code imported; without the ways to the functions where they are not offered."""
    answers: Dict[str, Answer] = {}
    endpoints: Dict[str, Endpoint] = {}
    service = Service(answers, Load(settings), settings, state)
    for entry in settings["functions"]:
        if "java" in entry:
            from . import java

            function = java.function(root, entry, settings)
        else:
            function = Function(root, entry, settings)
        kind = Endpoint
        if "batch" in entry:
            from .batch import Endpoint as kind
        elif entry.get("stream"):
            from .stream import Endpoint as kind
        endpoints[entry["path"]] = kind(function, service, entry)
    answers.update((path, endpoint.answer) for path, endpoint in endpoints.items())
    service.endpoints = endpoints
    more: list[Route] = []
    if "openai" in settings:
        from . import openai

        more += openai.routes(service, root, settings)
    if "kserve" in settings:
        from . import kserve

        more += kserve.routes(service, endpoints["/" + settings["kserve"]], settings)
    if "mlflow" in settings:
        from . import mlflow

        more += mlflow.routes(service, root, settings)
    answers.update((route.path, route.endpoint) for route in more if "POST" in route.methods)
    if not is_offered:
        answers.clear()
        more.clear()
    service.offer(more)
    return service


def standing(service: Service) -> list[Route]:
    """What every service answers."""
    state = service.state

    async def measured(_: Request) -> Response:
        state.set(("waiting",), service.load.waiting)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    async def healthy(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        return JSONResponse({"status": service.status}, 200 if service.status == "ok" else 503)

    async def described(_: Request) -> Response:
        return FileResponse(HERE / "openapi.json", media_type="application/json")

    routes = [Route("/healthz", healthy), Route("/livez", healthy), Route("/readyz", ready)]
    return [*routes, Route("/metrics", measured), Route("/openapi.json", described), *documentation(service.root)]


class Endpoint:
    """Answers with a function."""

    def __init__(self, function: Function, service: Service, entry: dict[str, Any]) -> None:
        self.function, self.service, self.load = function, service, service.load
        self.places = self.load.awaiting if function.is_async else self.fitting()

    def fitting(self) -> Places:
        """The places of a function that is not async."""
        return self.load.fitting()

    async def answer(self, request: Request) -> Response:
        function, load = self.function, self.load
        # Before a body is read for nothing.
        self.places.check()
        caller = load.caller(request.receive)
        reading = function.read(request)
        arguments = await (reading if caller.deadline is None else asyncio.wait_for(reading, load.timeout))
        if "prefer" in request.headers:
            from . import deferred

            if deferred.is_wanted(request):
                # Nobody who could leave.
                caller.receive = None
                held = request.scope.pop(HELD, None)
                return await self.service.deferred.begin(lambda: self.later(request, arguments, caller, held))
        return await self.run(request, arguments, caller)

    async def run(self, request: Request, arguments: Dict[str, Any], caller: Caller) -> Response:
        function = self.function
        work = function.bind(arguments)
        if not function.is_async:
            return await self.load.thread(lambda: function.response(work(), request), caller, self.places)
        result = await self.load.task(work, caller)
        if function.is_json:
            return function.response(result, request)
        # Files are written, which takes its time.
        return await run_in_threadpool(function.response, result, request)

    async def later(self, request: Request, arguments: Dict[str, Any], caller: Caller, held: Any) -> Response:
        """An answer that can be kept, whatever it is."""
        from .deferred import written

        try:
            response = await self.run(request, arguments, caller)
        except Exception as error:
            response = await broken(request, error)
        finally:
            if held is not None:
                held.close()
        return await written(response, request)


async def whole(request: Request, limit: int) -> Optional[bytes]:
    """A body that is JSON of another kind; None where it is too large."""
    try:
        return await body.whole(request, limit)
    except Refusal:
        return None


async def told(_: Request, error: Any) -> Response:
    """What the model's code says with an HTTPException, in the shape that FastAPI gives it."""
    if error.status_code in (204, 304) or error.status_code < 200:
        return Response(status_code=error.status_code, headers=error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


async def broken(_: Request, error: Exception) -> Response:
    """An answer for each way in which there is none. A traceback goes into the log alone."""
    if isinstance(error, HTTPException):
        return await told(_, error)
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, ValueError):
        # The model's way to say that it cannot use this input.
        logger.warning("the model refused its input", exc_info=error)
        return refusal("value_error", str(error)).response()
    if isinstance(error, Busy):
        return failed(503, str(error), {"retry-after": str(error.retry_after)})
    if isinstance(error, Late):
        return failed(504, str(error))
    if isinstance(error, asyncio.TimeoutError):
        return failed(408, "the request did not come in time", {"connection": "close"})
    logger.error("the request failed", exc_info=error)
    return failed(500, "internal error")


async def in_words(request: Request, error: Exception) -> Tuple[int, str, Dict[str, str]]:
    """The same for protocols that have one text for all that is wrong, and no 422: a status, the text, and when to ask again."""
    response = await broken(request, error)
    detail = json.loads(response.body)["detail"]
    if not isinstance(detail, str):
        detail = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}".lstrip(": ") for one in detail)
    headers = {key: value for key, value in response.headers.items() if key == "retry-after"}
    return 400 if response.status_code == 422 else response.status_code, detail, headers


def failed(status: int, detail: str, headers: Optional[Dict[str, str]] = None) -> Response:
    return JSONResponse({"detail": detail, "request_id": log.request_id.get()}, status, headers)


def documentation(root: str) -> list[Route]:
    """Swagger UI, from the files that the package fastapi-swagger carries."""
    spec = importlib.util.find_spec("fastapi_swagger")
    if spec is None or not spec.submodule_search_locations:
        return []
    files = Path(spec.submodule_search_locations[0]) / "resources"

    def serving(file: Path) -> Any:
        async def serve(_: Request) -> Response:
            return FileResponse(file)

        return serve

    async def home(_: Request) -> Response:
        return RedirectResponse(f"{root}/docs")

    scripts = [Route(f"/docs/{name}", serving(files / name)) for name in ("swagger-ui-bundle.js", "swagger-ui.css")]
    return [Route("/", home), Route("/docs", serving(HERE / "docs.html")), *scripts]


class Service:
    """Gives each request an id, finds who answers it, measures it, and logs it with what broke."""

    others: Starlette
    metrics: Metrics

    def __init__(self, answers: Dict[str, Answer], load: Load, settings: dict[str, Any], state: State) -> None:
        self.answers, self.load, self.state = answers, load, state
        # Before all paths, as `/NAME/api`.
        self.root: str = settings.get("root", "")
        self.settings = settings.get("deferred", {})
        # The way to the other workers.
        self.peers: Any = None
        # Those of the functions, by their paths.
        self.endpoints: Dict[str, Endpoint] = {}

    def offer(self, more: list[Route]) -> None:
        """Finds these routes from now on, and all that it has."""
        routes = standing(self) + more
        routes += [Route(path, answer, methods=["POST"]) for path, answer in self.answers.items()]
        routes.append(Route(f"{LATER}{{name}}", self.later, methods=["GET", "DELETE"]))
        self.metrics = Metrics(self.state, (route.path for route in routes))
        others = self.others = Starlette(routes=routes, exception_handlers={HTTPException: told, Exception: broken})
        # They would lead out of the root.
        others.router.redirect_slashes = not self.root

    @property
    def status(self) -> str:
        """`ok` where requests are answered."""
        return self.state.told

    @cached_property
    def deferred(self) -> Any:
        """Requests whose callers do not wait; most services never have one."""
        from .deferred import Deferred

        return Deferred(self.settings, f"{self.root}{LATER}", self.state.worker, self.peers)

    async def later(self, request: Request) -> Response:
        return await self.deferred.ask(request.method, request.path_params["name"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.others(scope, receive, send)
        root, path = self.root, scope["path"]
        if root and (path == root or path.startswith(f"{root}/")):
            scope["path"] = path = path[len(root) :] or "/"
        elif root and path not in QUIET:
            # No path of ours has no slash.
            scope["path"] = path = ""
        headers = dict(scope["headers"])
        credentials = {
            name[4:].decode("latin-1").upper(): value.decode("latin-1")
            for name, value in headers.items()
            if name.startswith(b"env_")
        }
        if credentials:
            _given.set(credentials)
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        log.request_id.set(request_id)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
                if self.state.draining or self.state.retiring:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        started = time.perf_counter()
        self.state.add(("in_progress",), 1)
        try:
            await self.answer(scope, receive, sending)
        except ClientDisconnect:
            status = status or 499
        except asyncio.CancelledError:
            # The time of grace is over.
            if status or not self.state.draining:
                raise
            await self.ended()(scope, receive, sending)
        except Exception:
            # The answer has been sent, or begun.
            logger.exception("the request failed")
        finally:
            self.state.add(("in_progress",), -1)
            self.done(scope, status, time.perf_counter() - started)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self.state.draining and path not in QUIET and not path.startswith(LATER):
            return await self.ended()(scope, receive, send)
        answer = self.answers.get(path) if scope["method"] == "POST" else None
        if answer is None:
            return await self.others(scope, receive, send)
        # The functions' own routes would do the same, behind all others and their layers.
        request = Request(scope, receive)
        try:
            try:
                response = await answer(request)
            except ClientDisconnect:
                raise
            except Exception as error:
                response = await broken(request, error)
            await response(scope, receive, send)
        finally:
            # What the function was given as files, which parts of its answer may still come from.
            held = scope.pop(HELD, None)
            if held is not None:
                held.close()

    def ended(self) -> Response:
        return failed(503, "the service ends", {"retry-after": "1"})

    def done(self, scope: Scope, status: int, seconds: float) -> None:
        # Who knows the rest of the path knows the answer.
        path = f"{LATER}{{name}}" if scope["path"].startswith(LATER) else scope["path"]
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.observe(method, path, status, seconds)
        level = logging.DEBUG if path in QUIET and status < 400 else logging.INFO
        fields = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 6)}
        logger.log(level, "answered", extra={"fields": fields})
