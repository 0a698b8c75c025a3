"""The server around the application: where it listens, and how it ends.

After SIGTERM what is in hand is answered, up to a time of grace, and what comes newly is refused: whoever sends requests
here learns of the end later than we do. A server that retires leaves what comes to another one at the same listener, and ends
when the last of its connections has.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from types import FrameType
from typing import Any, Optional

import uvicorn

from .app import Service
from .listener import BACKLOG, GRACE
from .state import State

# Seconds in which connections that were taken last are known.
SETTLED = 0.3


class Server(uvicorn.Server):
    def __init__(self, service: Service, settings: dict[str, Any]) -> None:
        # Where workers share a listener, each takes one connection at a time, so that one does not take them all.
        shared = service.state.workers > 1
        super().__init__(
            uvicorn.Config(service, lifespan="off", ws="none", log_config=None, access_log=False, backlog=1 if shared else BACKLOG)
        )
        self.service = service
        self.grace: float = settings.get("grace", GRACE)
        self.end: Optional[float] = None
        self.listeners: list[socket.socket] = []
        self.is_closing = False
        # Of a worker: what ends with the process that keeps the workers, and the way to the other workers.
        self.parent: Optional[int] = None
        self.peers: Any = None
        # What asks the functions besides: messages of a broker.
        self.messages: Any = None
        if "messages" in settings or "messages" in settings.get("training", {}):
            self.heed(settings)
        self.retired: Optional[float] = None

    def heed(self, settings: dict[str, Any]) -> None:
        """Takes messages, where there is a broker, and tells of them."""
        from . import broker
        from .counts import Counts

        service = self.service
        counts = Counts(service.state, settings, learnt() if "trained" in settings else None)
        service.metrics.more.append(counts.lines)
        if "messages" in settings and settings["messages"]["function"] in service.endpoints and broker.is_given():
            from .messages import Predictions

            self.messages = Predictions(settings, service, counts)

    def answer(self, listener: socket.socket) -> None:
        """Until SIGTERM."""
        # uvicorn may raise SIGTERM once more when it is done; the default would end us with a signal instead of 0.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.run(sockets=[listener])

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await super().startup(sockets)
        self.listeners = sockets or []
        for listener in self.listeners:
            listener.listen(BACKLOG)
        if self.parent is not None:
            asyncio.get_running_loop().add_reader(self.parent, self.orphaned)
            self.service.peers = self.peers
            self.peers.listen(self.service.state.worker, lambda *asked: self.service.deferred.told(*asked))
        if self.messages is not None:
            self.messages.start()
        self.service.state.set(("ready",), 1)

    def orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(self.parent)
        self.service.state.drain()
        self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: Optional[FrameType]) -> None:
        state = self.service.state
        if state.workers > 1 and not state.draining:
            # This one alone: the others take what comes.
            self.config.timeout_graceful_shutdown = self.grace  # type: ignore[assignment]
            self.should_exit = True
        elif self.end is None:
            state.drain()
            self.end = time.monotonic() + self.grace
        else:
            # Asked once more: at once.
            self.end = 0

    async def on_tick(self, counter: int) -> bool:
        state = self.service.state
        state.set(("waiting",), self.service.load.waiting)
        if state.retiring and self.retired is None:
            self.retired = time.monotonic()
            # The listener itself goes on: others have it as well.
            for server in self.servers:
                server.close()
        if self.messages is not None and (state.retiring or state.draining):
            self.messages.stop()
        is_idle = not state.get(("in_progress",)) and (self.messages is None or self.messages.is_done)
        if self.end is not None:
            left = self.end - time.monotonic()
            if left > 0 and not self.is_closing and is_idle:
                # Who is connected already is told before we go; the kernel takes nobody more for us. (A listener that is
                # closed resets those who wait at it.)
                self.is_closing = True
                for listener in self.listeners:
                    listener.listen(0)
            elif left <= 0 or is_idle:
                self.should_exit = True
                self.config.timeout_graceful_shutdown = max(left, 0.1)  # type: ignore[assignment]
        elif (
            self.retired is not None and is_idle and not self.server_state.connections and time.monotonic() > self.retired + SETTLED
        ):
            # Those that are kept open without a request, uvicorn closes after some seconds.
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        if self.messages is not None:
            self.messages.stop()
            await self.messages.ended(self.config.timeout_graceful_shutdown)
        await super().shutdown(sockets)


def learnt() -> Optional[State]:
    """What the process that learns counts, where one is kept beside this one."""
    from .keeper import Kept

    kept = Kept.found()
    return State(1, kept.learner) if kept is not None and kept.learner >= 0 else None
