"""Requests that come together are given to the function as one, and its answer is taken apart again.

What is joined are lists, arrays and tables, along their first axis; all else has to be the same in all requests of a batch.
Nobody waits while the function has nothing to do, unless others came with the last batch, and never longer than is said.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from contextvars import copy_context
from itertools import chain
from typing import Any, Callable, Deque, Dict, List, Optional

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from . import app, credentials
from .function import Function
from .load import Busy, Caller, Late, fail, ordinary

NOBODY = Caller(None, None)
logger = logging.getLogger("ekiben")


class Asked:
    """A request that can be joined with those of the same key."""

    __slots__ = ("arguments", "rows", "key", "caller", "answer", "context", "came", "has_begun")

    def __init__(self, arguments: Dict[str, Any], rows: int, key: Any, caller: Caller) -> None:
        self.arguments, self.rows, self.key, self.caller = arguments, rows, key, caller
        self.answer = asyncio.get_running_loop().create_future()
        self.context, self.came, self.has_begun = copy_context(), time.perf_counter(), False

    def is_wanted(self) -> bool:
        if not self.answer.done() and self.caller.is_gone():
            self.answer.set_exception(ClientDisconnect())
        return not self.answer.done()


class Endpoint(app.Endpoint):
    """Answers with a function that can do the work of many requests at once."""

    def __init__(self, function: Function, service: app.Service, entry: Dict[str, Any]) -> None:
        super().__init__(function, service, entry)
        batch = entry["batch"]
        self.size: int = batch["size"]
        self.wait: float = batch["wait"]
        # The parameters that are joined; all lists, arrays and tables where none are named.
        self.over: List[str] = batch.get("over", [])
        self.waiting: Deque[Asked] = deque()
        self.load.queues.append(self.waiting)
        self.is_running = False
        self.timer: Optional[asyncio.TimerHandle] = None
        # How many came together last, and when they were answered.
        self.last, self.ended = 1, 0.0

    async def run(self, request: Request, arguments: Dict[str, Any], caller: Caller) -> Response:
        asked = self.asked(arguments, caller)
        if asked is None:
            return await super().run(request, arguments, caller)
        if len(self.waiting) >= max(self.places.queue, 1):
            still = [one for one in self.waiting if one.is_wanted()]
            self.waiting.clear()
            self.waiting.extend(still)
            if len(self.waiting) >= max(self.places.queue, 1):
                raise Busy(self.places.wait())
        self.waiting.append(asked)
        self.wake()
        timer = None
        if caller.deadline is not None:
            timer = asyncio.get_running_loop().call_at(caller.deadline, self.late, asked)
        try:
            return self.function.response(await asked.answer, request)
        finally:
            if timer is not None:
                timer.cancel()

    def late(self, asked: Asked) -> None:
        fail(asked.answer, Late(self.load.timeout or 0) if asked.has_begun else Busy(self.places.wait()))

    def asked(self, arguments: Dict[str, Any], caller: Caller) -> Optional[Asked]:
        """None where it can only be asked alone."""
        rows, key = 0, [tuple(arguments)]
        for name, value in arguments.items():
            kind = joined_as(value) if not self.over or name in self.over else None
            if kind is not None:
                if rows and rows != len(value):
                    return None
                rows = len(value)
                key.append(kind)
            else:
                try:
                    key.append(self.function.encode(value))
                except Exception:
                    return None
        return Asked(arguments, rows, (key, dict(credentials)), caller) if 0 < rows <= self.size else None

    def wake(self) -> None:
        """Starts a batch, or sees to it that one is started in time."""
        if self.is_running:
            # What comes meanwhile is the next one.
            return
        if time.perf_counter() - self.ended > self.wait:
            self.last = 1
        if len(self.waiting) >= self.last or sum(one.rows for one in self.waiting) >= self.size:
            self.start()
        elif self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(self.wait, self.start)

    def start(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.is_running = True
        self.task = asyncio.ensure_future(self.work())

    async def work(self) -> None:
        """One batch after the other, as long as there are any."""
        try:
            while self.waiting:
                try:
                    await self.places.enter(NOBODY)
                except Busy as error:
                    while self.waiting:
                        fail(self.waiting.popleft().answer, error)
                    return
                # What came until now goes along.
                batch = self.batch()
                if not batch:
                    self.places.leave(0.0)
                    continue
                self.last = len(batch)
                if self.function.is_async:
                    begun = time.perf_counter()
                    try:
                        await batch[0].context.run(asyncio.ensure_future, self.together_awaited(batch))
                    finally:
                        self.places.leave(time.perf_counter() - begun)
                else:
                    await self.load.started(lambda: self.together(batch), NOBODY, self.places)
                self.ended = time.perf_counter()
        finally:
            self.is_running = False

    def batch(self) -> List[Asked]:
        """The first that waits, and those behind it that can be joined with it."""
        batch: List[Asked] = []
        others: List[Asked] = []
        rows = 0
        while self.waiting and rows < self.size:
            one = self.waiting.popleft()
            if not one.is_wanted():
                continue
            if batch and (one.key != batch[0].key or rows + one.rows > self.size):
                others.append(one)
                continue
            one.has_begun = True
            batch.append(one)
            rows += one.rows
        self.waiting.extendleft(reversed(others))
        return batch

    def joined(self, batch: List[Asked]) -> Dict[str, Any]:
        arguments = dict(batch[0].arguments)
        if len(batch) > 1:
            for name, value in arguments.items():
                if (not self.over or name in self.over) and joined_as(value) is not None:
                    arguments[name] = join([one.arguments[name] for one in batch])
        return arguments

    def together(self, batch: List[Asked]) -> None:
        """In a thread: gives each its answer."""
        loop = batch[0].answer.get_loop()

        def tell(one: Asked, work: Callable[[], Any]) -> None:
            try:
                result = one.context.run(work)
            except BaseException as error:
                loop.call_soon_threadsafe(fail, one.answer, ordinary(error))
            else:
                loop.call_soon_threadsafe(give, one.answer, result)

        if len(batch) > 1:
            try:
                result = batch[0].context.run(self.function.bind(self.joined(batch)))
                parts = apart(result, [one.rows for one in batch])
            except Exception:
                self.failed(batch)
            else:
                loop.call_soon_threadsafe(give_all, batch, parts)
                return
        for one in batch:
            tell(one, self.function.bind(dict(one.arguments)))

    async def together_awaited(self, batch: List[Asked]) -> None:
        """The same for a function that is async."""
        if len(batch) > 1:
            try:
                result = await self.function.bind(self.joined(batch))()
                parts = apart(result, [one.rows for one in batch])
            except Exception:
                self.failed(batch)
            else:
                return give_all(batch, parts)
        for one in batch:
            work = one.context.run(asyncio.ensure_future, self.function.bind(dict(one.arguments))())
            try:
                give(one.answer, await work)
            except Exception as error:
                fail(one.answer, error)

    def failed(self, batch: List[Asked]) -> None:
        logger.warning("a batch of %d requests failed, so each is asked alone", len(batch), exc_info=True)


def give(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def give_all(batch: List[Asked], parts: List[Any]) -> None:
    for one, part in zip(batch, parts):
        give(one.answer, part)


def joined_as(value: Any) -> Any:
    """What has to be the same where values are joined; None where they are none that can be."""
    if isinstance(value, list):
        return "list"
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        return "table", tuple(value.columns), tuple(map(str, value.dtypes))
    if hasattr(value, "iloc"):
        return "series", value.name, str(value.dtype)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) > 0:
        return "array", value.shape[1:], str(value.dtype)
    return None


def join(values: List[Any]) -> Any:
    first = values[0]
    if isinstance(first, list):
        return list(chain.from_iterable(values))
    if hasattr(first, "iloc"):
        return sys.modules["pandas"].concat(values, ignore_index=True)
    return sys.modules["numpy"].concatenate(values)


def apart(result: Any, rows: List[int]) -> List[Any]:
    """An answer for each; raises ValueError where it does not have as many rows as the batch."""
    if isinstance(result, dict):
        parts: List[Dict[Any, Any]] = [{} for _ in rows]
        for name, value in result.items():
            same = value is None or isinstance(value, (str, int, float, bool))
            for part, of in zip(parts, [value] * len(rows) if same else apart(value, rows)):
                part[name] = of
        return parts
    has_rows = isinstance(result, list) or hasattr(result, "iloc") or getattr(result, "ndim", 0) > 0
    if not has_rows or len(result) != sum(rows):
        count = len(result) if has_rows else type(result).__name__
        raise ValueError(f"the function was given {sum(rows)} rows and answered {count}")
    source = result.iloc if hasattr(result, "iloc") else result
    found, begin = [], 0
    for count in rows:
        found.append(source[begin : begin + count])
        begin += count
    return found
