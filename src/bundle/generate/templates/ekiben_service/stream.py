"""Functions that answer in parts, each of which goes out as soon as it is there.

Invariant: a generator is ended whatever happens, so that its `finally` runs: when it is through, when it fails, when its
caller leaves. One that is not async runs in one thread from its beginning to its end, as what it holds may belong to that.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import app, log
from .files import accepted_ranges
from .load import Caller, Late, Places

EVENTS, LINES, JSON = "text/event-stream", "application/x-ndjson", "application/json"
# In the order in which they are taken where the caller takes any.
KINDS = (EVENTS, LINES, "text/plain", "application/octet-stream", JSON)
# Parts that are made before the first of them is sent.
AHEAD = 4
# There is no further part; there is nobody who wants one.
END, GONE = object(), object()
logger = logging.getLogger("ekiben")


def accepted(request: Request) -> Optional[str]:
    """The kind that the caller likes best: of equals one that he names, and of those the first."""
    best: Tuple[float, bool, int] = (0.0, False, 0)
    kind = None
    ranges = accepted_ranges(",".join(request.headers.getlist("accept")) or "*/*")
    for place, (name, quality) in enumerate(ranges):
        is_range = name.endswith("/*")
        fits = [one for one in KINDS if name in (one, "*/*") or is_range and one.startswith(name[:-1])]
        if fits and quality > 0 and (quality, not is_range, -place) > best:
            best, kind = (quality, not is_range, -place), fits[0]
    return kind


class Parts:
    """Parts on their way from where they are made to where they are sent: a few at a time."""

    def __init__(self, caller: Caller, timeout: Optional[float]) -> None:
        self.loop, self.timeout = asyncio.get_running_loop(), timeout
        self.made: asyncio.Queue[Any] = asyncio.Queue()
        self.room, self.space = threading.Semaphore(AHEAD), asyncio.Semaphore(AHEAD)
        self.closed = False
        self.work: asyncio.Future[Any] = self.loop.create_future()
        self.watch: Optional[asyncio.Task[None]] = None
        if caller.receive is not None:
            self.watch = asyncio.ensure_future(caller.left())
            self.watch.add_done_callback(lambda _: self.made.put_nowait(GONE))

    def follow(self, work: asyncio.Future[Any]) -> None:
        """They end when `work` ends."""
        self.work = work
        work.add_done_callback(self.ended)

    def ended(self, work: asyncio.Future[Any]) -> None:
        # Else asyncio says that nobody has looked.
        work.cancelled() or work.exception()
        self.made.put_nowait(END)

    def put(self, part: Any) -> bool:
        """In a thread: waits for room. Whether anybody still wants one."""
        self.room.acquire()
        if self.closed:
            return False
        self.loop.call_soon_threadsafe(self.made.put_nowait, part)
        return True

    async def hand(self, part: Any) -> None:
        """The same in the event loop."""
        await self.space.acquire()
        self.made.put_nowait(part)

    async def next(self, seconds: Optional[float]) -> Any:
        """A part, END or GONE; raises Late."""
        try:
            part = await (self.made.get() if seconds is None else asyncio.wait_for(self.made.get(), seconds))
        except asyncio.TimeoutError:
            raise Late(self.timeout or 0) from None
        self.room.release()
        self.space.release()
        return part

    def close(self) -> None:
        """Ends whatever makes them: in the event loop where it waits, in a thread with its next part."""
        self.closed = True
        self.room.release()
        if isinstance(self.work, asyncio.Task):
            self.work.cancel()
        if self.watch is not None:
            self.watch.cancel()


class Endpoint(app.Endpoint):
    """Answers with a function that may give its answer in parts."""

    def fitting(self) -> Places:
        # Who waits for the end of an answer in parts waits long: they go on side by side.
        return self.load.blocking

    async def run(self, request: Request, arguments: Dict[str, Any], caller: Caller) -> Any:
        work = self.function.bind(arguments)
        # What is kept for later is a whole.
        kind = JSON if caller.receive is None else accepted(request)
        if kind is None:
            return app.failed(406, f"the answer comes as {', '.join(KINDS)}")
        parts, first, whole = await self.begin(request, work, caller)
        if whole is not None:
            return whole
        if kind != JSON:
            return Stream(self.function.encode, parts, first, kind)
        try:
            return await self.together(parts, first)
        finally:
            parts.close()

    def whole(self, result: Any, request: Request) -> Any:
        """What the function gave, where it is no iterator."""
        return self.function.response(result, request)

    async def begin(self, request: Request, work: Callable[[], Any], caller: Caller) -> Tuple[Parts, Any, Any]:
        """Starts it: its parts, the first of them, and a whole in place of parts."""
        parts = Parts(caller, self.load.timeout)
        try:
            if self.function.is_async:
                parts.follow(asyncio.ensure_future(self.iterate(request, work, parts, caller)))
            else:
                await self.places.enter(caller)
                thread = self.load.started(partial(self.make, request, work, parts), Caller(None, None), self.places)
                # Not a task: the thread is told, and not what waits for it.
                parts.follow(asyncio.shield(thread))
            left = None if caller.deadline is None else max(caller.deadline - parts.loop.time(), 0.0)
            first = await parts.next(left)
            if first is GONE:
                raise ClientDisconnect
            whole = parts.work.result() if first is END else None
        except BaseException:
            parts.close()
            raise
        if whole is not None:
            parts.close()
        return parts, first, whole

    def make(self, request: Request, work: Callable[[], Any], parts: Parts) -> Any:
        """In a thread. An answer where the function has given a whole."""
        result = work()
        if not is_iterator(result):
            return self.whole(result, request)
        try:
            for part in result:
                if not parts.put(part):
                    break
        finally:
            if hasattr(result, "close"):
                result.close()
        return None

    async def iterate(self, request: Request, work: Callable[[], Any], parts: Parts, caller: Caller) -> Any:
        """The same for functions that are async."""
        places = self.places
        await places.enter(caller)
        begun = time.perf_counter()
        try:
            result = work()
            if inspect.isawaitable(result):
                result = await result
            if hasattr(result, "__anext__"):
                try:
                    async for part in result:
                        await parts.hand(part)
                finally:
                    if hasattr(result, "aclose"):
                        await result.aclose()
            elif is_iterator(result):
                try:
                    for part in result:
                        await parts.hand(part)
                finally:
                    if hasattr(result, "close"):
                        result.close()
            else:
                return self.whole(result, request)
            return None
        finally:
            places.leave(time.perf_counter() - begun)

    async def together(self, parts: Parts, part: Any) -> Response:
        """All parts as a list."""
        texts: List[bytes] = []
        while part is not END:
            if part is GONE:
                raise ClientDisconnect
            texts.append(self.function.encode(part))
            part = await parts.next(parts.timeout)
        parts.work.result()
        return Response(b"[" + b",".join(texts) + b"]", media_type=JSON)


def is_iterator(result: Any) -> bool:
    """Whether it gives parts. A file, which would give its lines, is a whole."""
    return isinstance(result, Iterator) and not isinstance(result, io.IOBase)


class Stream:
    """An answer in parts. One that breaks off says so, or ends without the end that HTTP gives it."""

    def __init__(self, encode: Callable[[Any], bytes], parts: Parts, first: Any, kind: str) -> None:
        self.encode, self.parts, self.first, self.kind = encode, parts, first, kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts, part = self.parts, self.first
        charset = "; charset=utf-8" if self.kind.startswith("text/") else ""
        headers = [(b"content-type", (self.kind + charset).encode()), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while part is not END:
                if part is GONE:
                    raise ClientDisconnect
                await send({"type": "http.response.body", "body": self.text(part), "more_body": True})
                part = await parts.next(parts.timeout)
            parts.work.result()
            last = self.end()
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:
            if self.kind not in (EVENTS, LINES):
                # Whoever logs it breaks the connection off.
                raise
            logger.error("the stream broke off", exc_info=error)
            last = self.failure(error)
        finally:
            parts.close()
        await send({"type": "http.response.body", "body": last, "more_body": False})

    def text(self, part: Any) -> bytes:
        if self.kind == EVENTS:
            return b"data: " + self.encode(part) + b"\n\n"
        if self.kind == LINES:
            return self.encode(part) + b"\n"
        if isinstance(part, str):
            return part.encode()
        return part if isinstance(part, bytes) else self.encode(part) + b"\n"

    def end(self) -> bytes:
        """Behind the last part."""
        return b""

    def failure(self, error: Exception) -> bytes:
        detail = "internal error"
        if isinstance(error, HTTPException):
            detail = error.detail
        elif isinstance(error, (ValueError, Late)):
            detail = str(error)
        told = {"detail": detail, "request_id": log.request_id.get()}
        if self.kind == EVENTS:
            return b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"
        return json.dumps({"error": told}).encode() + b"\n"
