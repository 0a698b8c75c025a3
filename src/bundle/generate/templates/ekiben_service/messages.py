"""Asks a function of the model by messages, and publishes what it answers.

A message is acknowledged when the broker has confirmed its answers: each is answered at least once. Those that were delivered
before go through a queue of their own, one at a time: where one ends the process, it alone is counted, and put aside in the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from typing import Any, Dict, Tuple

from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from . import app, log
from .body import Refusal, refusal
from .consumer import Consumer
from .counts import Counts
from .deferred import written
from .function import HELD
from .load import Busy

PREFETCH = 16
# Deliveries of a message that ends the process each time.
MOST = 5
# Seconds before the model is asked again where it had no place.
PAUSE = 0.05
ATTEMPTS = "x-attempts"
JSON = "application/json"
logger = logging.getLogger("ekiben")


class Predictions(Consumer):
    kind = "predict"

    def __init__(self, settings: Dict[str, Any], service: app.Service, counts: Counts) -> None:
        told = settings["messages"]
        super().__init__(settings, told["subscribe"], counts)
        self.prefetch = told.get("prefetch", PREFETCH)
        self.keys = told.get("publish", [])
        self.endpoint = service.endpoints[told["function"]]
        self.scope = {"type": "http", "method": "POST", "path": told["function"], "query_string": b""}

    async def begin(self, connection: Any, closed: Any) -> Any:
        found = await super().begin(connection, closed)
        channel = await self.channel(connection, 1, closed)
        for name in self.queues:
            queue = await self.declare(channel, f"{name}:again")
            found.append((queue, await queue.consume(self.taking(name, is_again=True))))
        return found

    async def take(self, message: Any, queue: str, is_again: bool) -> None:
        attempts = int(message.headers.get(ATTEMPTS, 0))
        id = message.message_id = identity(message, queue)
        log.request_id.set(id)
        if message.redelivered:
            self.counts.add("redelivered", queue)
            # One that waited among others when the connection was lost may not have been tried.
            attempts += is_again
            if attempts >= MOST:
                await self.bury(message, queue, f"the process or the connection ended {attempts} times while it was answered")
            else:
                await self.copied(message, f"{queue}:again", {ATTEMPTS: attempts})
        else:
            self.counts.add("received", queue)
            await self.answered(message, queue, id, is_again)
        await message.ack()

    async def answered(self, message: Any, queue: str, id: str, is_again: bool) -> None:
        """Publishes the answer, or puts the message aside."""
        begun = time.perf_counter()
        for is_last in (False, True):
            try:
                status, kind, body = 200, *await self.asked(message.body)
                break
            except Exception as error:
                is_refused, reason, status, body = await told(error)
                kind = JSON
                if not is_refused:
                    self.counts.add("failed", queue)
                if is_refused or is_last:
                    await self.bury(message, queue, reason)
                    break
                logger.warning("the message is tried once more: %s", reason)
        properties = {"message_id": id, "correlation_id": message.correlation_id, "content_type": kind}
        headers: Dict[str, Any] = {"x-redelivered": True} if is_again else {}
        if status == 200:
            for key in self.keys:
                await self.publish(body, key, headers=headers, **properties)
                self.counts.add("published", queue)
        if message.reply_to:
            await self.publish(body, message.reply_to, False, headers={**headers, "x-status": status}, **properties)
            self.counts.add("published", queue)
        logger.debug("answered", extra={"fields": {"queue": queue, "status": status, "seconds": time.perf_counter() - begun}})

    async def asked(self, body: bytes) -> Tuple[str, bytes]:
        """What the function answers, as a request would be."""
        document = self.document(body)

        async def receive() -> Dict[str, Any]:
            return {"type": "http.request", "body": document, "more_body": False}

        while True:
            scope: Dict[str, Any] = {**self.scope, "headers": [(b"accept", b"*/*"), (b"content-type", JSON.encode())]}
            request = Request(scope, alone(receive))
            try:
                response = await self.endpoint.answer(request)
                if type(response) is not Response:
                    response = await written(response, request)
                return response.headers.get("content-type", JSON), bytes(response.body)
            except Busy:
                await asyncio.sleep(PAUSE)
            finally:
                held = scope.pop(HELD, None)
                if held is not None:
                    held.close()

    def document(self, body: bytes) -> bytes:
        """The arguments by name; raises Refusal."""
        first = body.lstrip()[:1]
        if first == b"{":
            return body
        if first != b"[":
            raise refusal("message", "a message holds a JSON object with the arguments by name, or a list of them")
        try:
            values, names = from_json(body, allow_inf_nan=False), self.endpoint.function.names
        except ValueError as error:
            raise refusal("json_invalid", f"the message is no JSON: {error}") from None
        if len(values) > len(names):
            raise refusal("message", f"the message has {len(values)} arguments, {self.endpoint.function.name} takes {len(names)}")
        return json.dumps(dict(zip(names, values)), ensure_ascii=False).encode()


def alone(receive: Any) -> Any:
    """A body, and after it nobody who leaves."""
    is_sent = False

    async def receiving() -> Any:
        nonlocal is_sent
        if is_sent:
            await asyncio.get_running_loop().create_future()
        is_sent = True
        return await receive()

    return receiving


def identity(message: Any, queue: str) -> str:
    """Its id, or one that is the same whenever it comes again."""
    if message.message_id:
        return str(message.message_id)
    parts = (queue, message.routing_key, message.correlation_id, message.reply_to, message.timestamp, message.body)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


async def told(error: Exception) -> Tuple[bool, str, int, bytes]:
    """Whether the message itself is at fault, the reason in words, and what a caller would be told."""
    response = await app.broken(Request({"type": "http"}), error)
    is_refused = isinstance(error, (Refusal, ValueError)) or isinstance(error, HTTPException) and error.status_code < 500
    if isinstance(error, Refusal):
        reason = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}".lstrip(": ") for one in error.detail)
    else:
        reason = f"{type(error).__name__}: {error}"
    return is_refused, reason, response.status_code, bytes(response.body)
