"""Requests whose callers do not wait (RFC 7240, `Prefer: respond-async`): they get an address, and ask there later.

They are held in memory, so many for so long. Who knows the address knows the answer: it cannot be guessed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any, Awaitable, Callable, Dict, Optional

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from .load import Busy

# How many at most, and seconds that an answer is kept.
MOST = 100
KEEP = 600
# Seconds after which to ask again.
PAUSE = "1"


def is_wanted(request: Request) -> bool:
    """Whether the caller does not want to wait."""
    for value in request.headers.getlist("prefer"):
        if any(part.split(";")[0].strip().lower() == "respond-async" for part in value.split(",")):
            return True
    return False


class Kept:
    """An answer as it was sent, or the work on it."""

    def __init__(self, work: asyncio.Task[Response]) -> None:
        self.work = work
        self.response: Optional[Response] = None


class Deferred:
    """Those of a worker. Its number stands in their names, so that the others know whom to ask."""

    def __init__(self, settings: dict[str, Any], path: str, worker: int, peers: Any) -> None:
        self.most: int = settings.get("most", MOST)
        self.keep: float = settings.get("keep", KEEP)
        self.path, self.worker, self.peers = path, worker, peers
        self.known: Dict[str, Kept] = {}

    async def begin(self, work: Callable[[], Awaitable[Response]]) -> Response:
        """Starts it; gives the answer itself where it is there at once, as a refusal is."""
        if len(self.known) >= self.most:
            raise Busy(self.keep)
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        if task.done():
            return task.result()
        # As hard to guess as a key of 256 bits.
        name = f"{self.worker}-{secrets.token_urlsafe(32)}"
        kept = self.known[name] = Kept(task)
        task.add_done_callback(lambda _: self.finish(name, kept))
        headers = {"location": f"{self.path}{name}", "preference-applied": "respond-async", "retry-after": PAUSE}
        return JSONResponse({"status": "running"}, 202, headers)

    def finish(self, name: str, kept: Kept) -> None:
        if kept.work.cancelled():
            self.known.pop(name, None)
        else:
            kept.response = kept.work.result()
            asyncio.get_running_loop().call_later(self.keep, self.known.pop, name, None)

    async def ask(self, method: str, name: str) -> Response:
        """The answer to a GET or a DELETE of an address, wherever it is."""
        worker = name.partition("-")[0]
        if self.peers is None or worker == str(self.worker) or worker not in self.peers.names:
            return self.own(method, name)
        try:
            head, _, body = (await self.peers.ask(int(worker), method, name)).partition(b"\n")
        except BlockingIOError:
            raise Busy(1) from None
        if not head:
            return unknown()
        status, headers = json.loads(head)
        response = Response(body, status)
        response.raw_headers = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]
        return response

    def told(self, method: str, name: str) -> bytes:
        """The same for another worker."""
        response = self.own(method, name)
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in response.raw_headers]
        return json.dumps([response.status_code, headers]).encode() + b"\n" + response.body

    def own(self, method: str, name: str) -> Response:
        kept = self.known.get(name)
        if kept is None:
            return unknown()
        if method == "DELETE":
            # What has not begun does not begin, and what can be stopped is stopped.
            del self.known[name]
            kept.work.cancel()
            return Response(status_code=204)
        return kept.response or JSONResponse({"status": "running"}, 202, {"retry-after": PAUSE})


def unknown() -> Response:
    return JSONResponse({"detail": "no such request is known, or not any more"}, 404)


async def written(response: Response, request: Request) -> Response:
    """The same answer with all of its body in memory: a stream, or a file that is gone soon."""
    start: Message = {}
    body = bytearray()

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.extend(message.get("body", b""))

    await response(request.scope, receive, send)
    whole = Response(bytes(body), start["status"])
    length = [(key, value) for key, value in whole.raw_headers if key == b"content-length"]
    whole.raw_headers = [*(pair for pair in start["headers"] if pair[0] != b"content-length"), *length]
    return whole
