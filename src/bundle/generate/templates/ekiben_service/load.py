"""How much is done at once: places for work, a bounded queue before them, and a time for each request.

Invariant: a place is taken as long as its function really runs, whatever has become of the caller. A function in a thread
cannot be stopped: its caller is told at the end of the time, and its place is free when it returns.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Awaitable, Callable, Deque, List, Optional, Set, Tuple

from starlette.requests import ClientDisconnect

from . import processors

# Functions at once where the manifest says nothing: at most as many threads as Python's own pools have. Those that are
# async need no thread, and mostly wait for something else.
THREADS = 32
TASKS = 1000
# Seconds between two looks at what the processors do.
LOOK = 0.02
# Processors asked for, of one that is there: so many may be, as not all that looks like it is work; above the second are too many.
FULL, MUCH = 1.1, 1.25
# Requests that wait.
QUEUE = 1000


class Busy(Exception):
    """There is no place, and none to wait for one; or the time was up before there was one."""

    def __init__(self, seconds: float) -> None:
        self.retry_after = min(max(math.ceil(seconds), 1), 60)
        super().__init__("the service has more requests than it can take")


class Late(Exception):
    """The time was up while the function ran."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"there was no answer within {seconds:g} s")


class Caller:
    """Who waits for an answer, and until when."""

    __slots__ = ("receive", "deadline")

    def __init__(self, receive: Optional[Callable[[], Awaitable[Any]]], deadline: Optional[float]) -> None:
        self.receive, self.deadline = receive, deadline

    def is_gone(self) -> bool:
        """Looks without waiting. All of the request's body has been read."""
        if self.receive is None:
            return False
        step: Any = self.receive()
        try:
            step.send(None)
        except StopIteration as stop:
            return bool(stop.value["type"] == "http.disconnect")
        step.close()
        return False

    async def left(self) -> None:
        """Returns when the caller goes."""
        if self.receive is None:
            await asyncio.get_running_loop().create_future()
            return
        while (await self.receive())["type"] != "http.disconnect":
            pass


class Places:
    """So many are taken at once, and so many wait for one, in order."""

    def __init__(self, most: int, queue: int) -> None:
        self.most, self.queue = most, queue
        self.taken = 0
        self.waiting: Deque[Tuple[asyncio.Future[None], Caller]] = deque()
        # Seconds that work took lately.
        self.usual = 0.0

    async def enter(self, caller: Caller) -> None:
        """Takes a place; raises Busy, or ClientDisconnect where the caller is gone when it is his turn."""
        if self.taken < self.most:
            self.taken += 1
            return
        self.check()
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.waiting.append((turn, caller))
        timer = None
        if caller.deadline is not None:
            timer = loop.call_at(caller.deadline, fail, turn, Busy(self.wait()))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self.leave(0.0)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def check(self) -> None:
        """Raises Busy where nobody more can wait. Who has gone holds no place in the queue that another needs."""
        if self.taken >= self.most and len(self.waiting) >= self.queue:
            still: Deque[Tuple[asyncio.Future[None], Caller]] = deque()
            for turn, caller in self.waiting:
                if not turn.done() and not fail_gone(turn, caller):
                    still.append((turn, caller))
            self.waiting = still
            if len(self.waiting) >= self.queue:
                raise Busy(self.wait())

    def leave(self, seconds: float) -> None:
        """Hands a place on, after so many seconds of work."""
        if seconds:
            self.usual += (seconds - self.usual) / 8
        self.taken -= 1
        self.admit()

    def admit(self) -> None:
        """Those who wait, where there are places."""
        while self.waiting and self.taken < self.most:
            turn, caller = self.waiting.popleft()
            if not turn.done() and not fail_gone(turn, caller):
                self.taken += 1
                turn.set_result(None)

    def wait(self) -> float:
        """Seconds until one who came now would have a place."""
        return self.usual * (len(self.waiting) + 1) / self.most


class Fitting(Places):
    """As many places as keep the processors busy, from one up to `largest`.

    A function that computes on all of them, as products of matrices do, runs alone: several at once take turns in waiting for
    each other's threads. Functions that wait for something else run together.
    """

    def __init__(self, largest: int, queue: int, available: float) -> None:
        super().__init__(1, queue)
        self.largest, self.available = largest, available
        self.is_watched, self.demand = False, processors.Demand()
        # Of the processors that there are, how many were asked for lately.
        self.busy = 1.0

    def enter(self, caller: Caller) -> Awaitable[None]:
        if self.taken and not self.is_watched:
            self.watch()
        return super().enter(caller)

    def watch(self) -> None:
        self.is_watched = True
        self.demand.lately()
        asyncio.get_running_loop().call_later(LOOK, self.look)

    def look(self) -> None:
        self.busy += (self.demand.lately() / self.available - self.busy) / 4
        most, fitting = self.most, self.taken / max(self.busy, 0.01)
        if self.busy > MUCH and self.taken > 1:
            self.most = max(int(fitting), 1)
        elif self.waiting:
            self.most = min(max(int(fitting * FULL), most), most * 2, self.largest)
        # What is to be expected now.
        self.busy *= self.most / most
        self.admit()
        self.is_watched = self.taken > 1 or bool(self.waiting)
        if self.is_watched:
            asyncio.get_running_loop().call_later(LOOK, self.look)


class Threads:
    """As many as there is work at once, and no more than the places: each lives on and waits for the next work."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.count = self.working = 0

    def put(self, job: Callable[[], None]) -> None:
        self.working += 1
        if self.working > self.count:
            self.count += 1
            threading.Thread(target=self.work, name=f"work-{self.count}", daemon=True).start()
        self.jobs.put(job)

    def work(self) -> None:
        while True:
            # No variable: it would hold the last request until the next comes.
            self.jobs.get()()


class Load:
    """Runs the functions of the model."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.limit, self.queue = settings.get("concurrency"), settings.get("queue", QUEUE)
        self.timeout: Optional[float] = settings.get("timeout")
        self.available = processors.available(settings.get("workers", 1))
        self.threads = Threads()
        self.blocking = Places(self.limit or THREADS, self.queue)
        # One limit for all kinds, where there is one.
        self.awaiting = self.blocking if self.limit else Places(TASKS, self.queue)
        self.places = [self.blocking, self.awaiting]
        self.tasks: Set[asyncio.Task[Any]] = set()
        # What waits besides, to be done together.
        self.queues: List[Deque[Any]] = []

    def fitting(self) -> Places:
        """Places for one function that computes in a thread: its own, so that it does not keep the others waiting."""
        if self.limit:
            return self.blocking
        self.places.append(Fitting(THREADS, self.queue, self.available))
        return self.places[-1]

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(len(places.waiting) for places in set(self.places)) + sum(map(len, self.queues))

    def caller(self, receive: Optional[Callable[[], Awaitable[Any]]]) -> Caller:
        """One whose time begins now."""
        return Caller(receive, self.deadline())

    def deadline(self) -> Optional[float]:
        return None if self.timeout is None else asyncio.get_running_loop().time() + self.timeout

    async def thread(self, work: Callable[[], Any], caller: Caller, places: Optional[Places] = None) -> Any:
        """Runs `work` in a thread, so that other requests go on."""
        places = places or self.blocking
        await places.enter(caller)
        return await self.started(work, caller, places)

    async def started(self, work: Callable[[], Any], caller: Caller, places: Places) -> Any:
        """The same, in a place that is taken already."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        context, begun = copy_context(), time.perf_counter()

        def done(result: Any, error: Optional[BaseException]) -> None:
            self.threads.working -= 1
            places.leave(time.perf_counter() - begun)
            if not answer.done():
                answer.set_result(result) if error is None else answer.set_exception(error)

        def job() -> None:
            try:
                result = context.run(work)
            except BaseException as error:
                loop.call_soon_threadsafe(done, None, ordinary(error))
            else:
                loop.call_soon_threadsafe(done, result, None)

        self.threads.put(job)
        if caller.deadline is None:
            return await answer
        timer = loop.call_at(caller.deadline, fail, answer, Late(self.timeout or 0))
        try:
            return await answer
        finally:
            timer.cancel()

    async def task(self, work: Callable[[], Awaitable[Any]], caller: Caller) -> Any:
        """Awaits `work`; at the end of the time it is cancelled."""
        places = self.awaiting
        await places.enter(caller)
        begun = time.perf_counter()
        if caller.deadline is None:
            try:
                return await work()
            finally:
                places.leave(time.perf_counter() - begun)

        def done(task: asyncio.Task[Any]) -> None:
            self.tasks.discard(task)
            places.leave(time.perf_counter() - begun)
            # Else asyncio says that nobody has looked.
            task.cancelled() or task.exception()

        loop = asyncio.get_running_loop()
        task = loop.create_task(awaited(work))
        self.tasks.add(task)
        task.add_done_callback(done)
        try:
            await asyncio.wait({task}, timeout=caller.deadline - loop.time())
        finally:
            if not task.done():
                task.cancel()
        if not task.done():
            raise Late(self.timeout or 0)
        return task.result()


async def awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def fail_gone(turn: asyncio.Future[None], caller: Caller) -> bool:
    """Ends the request of a caller who has gone."""
    if not caller.is_gone():
        return False
    turn.set_exception(ClientDisconnect())
    return True


def ordinary(error: BaseException) -> BaseException:
    """What a future can carry, and what ends the request alone: not the service, as SystemExit would."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"the function raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
