"""The routes: the model's functions, health, metrics, and the description of them all."""

from __future__ import annotations

import importlib.util
import logging
import re
import time
import uuid
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import log
from .body import Refusal, refusal
from .function import Function
from .metrics import CONTENT_TYPE, Metrics

HERE = Path(__file__).parent
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
QUIET = {"/healthz", "/livez", "/readyz", "/metrics"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
logger = logging.getLogger("ekiben")


def application(settings: dict[str, Any], root: Path) -> ASGIApp:
    """Everything, with the model's code imported."""
    metrics = Metrics()

    async def healthy(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def measured(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def described(_: Request) -> Response:
        return FileResponse(HERE / "openapi.json", media_type="application/json")

    routes = [Route(path, healthy) for path in ("/healthz", "/livez", "/readyz")]
    routes += [Route("/metrics", measured), Route("/openapi.json", described), *documentation()]
    for entry in settings["functions"]:
        function = Function(root, entry, settings)
        routes.append(Route(entry["path"], endpoint(function), methods=["POST"]))
    handlers = {Exception: broken}
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, routes=routes, exception_handlers=handlers)
    return Observed(app, metrics, {route.path for route in routes})


def endpoint(function: Function) -> Any:
    async def answer(request: Request) -> Response:
        try:
            arguments = await function.read(request)
            try:
                result = await function.answer(arguments)
            except HTTPException:
                raise
            except ValueError as error:
                # The model's way to say that it cannot use this input.
                logger.warning("the model refused its input", exc_info=True)
                raise refusal("value_error", str(error)) from None
            return await function.response(result, request)
        except Refusal as refused:
            return refused.response()
        finally:
            function.release(request)

    return answer


async def broken(_: Request, __: Exception) -> Response:
    """The traceback goes into the log alone."""
    return JSONResponse({"detail": "internal error", "request_id": log.request_id.get()}, 500)


def documentation() -> list[Route]:
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
        return RedirectResponse("docs")

    scripts = [Route(f"/docs/{name}", serving(files / name)) for name in ("swagger-ui-bundle.js", "swagger-ui.css")]
    return [Route("/", home), Route("/docs", serving(HERE / "docs.html")), *scripts]


class Observed:
    """Gives each request an id, measures it, and logs it with what broke."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: set[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        log.request_id.set(request_id)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        started = time.perf_counter()
        self.metrics.in_progress += 1
        try:
            await self.app(scope, receive, sending)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            # The answer has been sent.
            logger.exception("the request failed")
        finally:
            self.metrics.in_progress -= 1
            self.done(scope, status, time.perf_counter() - started)

    def done(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self.paths else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.observe(method, path, status, seconds)
        # Probes come every few seconds.
        level = logging.DEBUG if path in QUIET and status < 400 else logging.INFO
        fields = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": round(seconds, 6)}
        logger.log(level, "answered", extra={"fields": fields})
