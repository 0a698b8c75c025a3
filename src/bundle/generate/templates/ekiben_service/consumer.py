"""Takes messages from queues as long as it is wanted, over a new connection whenever one is lost.

All that is on the broker is declared anew each time. A consumer can be lost without its connection (a queue that is deleted; a
broker that restarts): so it is looked after every few seconds, and everything begins again where one is not there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from typing import Any, Dict, List, Optional, Set

from . import broker
from .counts import Counts

# Seconds before the broker is tried again: twice as many each time, up to the most; as at first after one that held so long.
PAUSE, LONGEST_PAUSE, HELD = 0.25, 15.0, 10.0
# Seconds between two looks at the queues, and before what the broker does not take is published again.
LOOK, REFUSED = 5.0, 1.0
logger = logging.getLogger("ekiben")


class Consumer:
    """What comes is handed to `take`, of a class that knows what to do with it."""

    kind = ""
    # Messages at once of a queue.
    prefetch = 1

    def __init__(self, settings: Dict[str, Any], keys: List[str], counts: Counts) -> None:
        self.settings, self.counts = settings, counts
        self.queues = {broker.queue(settings, self.kind, key): key for key in keys}
        # Those that have to have a consumer.
        self.watched: Set[str] = set()
        self.stopping: Any = None
        self.task: Optional[asyncio.Task[None]] = None
        # Messages that somebody works on.
        self.busy = 0
        self.exchange: Any = None
        self.default: Any = None

    def start(self) -> None:
        self.stopping = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self.run())
        self.task.add_done_callback(self.over)

    def over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # Who keeps this process starts another.
            logger.error("messages are not taken any more", exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """Takes nothing more; what is in hand is done."""
        self.stopping.set()

    @property
    def is_done(self) -> bool:
        return self.task is None or self.task.done()

    async def ended(self, seconds: Optional[float]) -> None:
        """Waits until all is done; or so long."""
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=seconds)

    async def run(self) -> None:
        pause, is_known = PAUSE, False
        while not self.stopping.is_set():
            begun, name = time.monotonic(), "the broker"
            try:
                at = broker.Broker()
                name = at.name
                await self.session(at)
                return
            except Exception as error:
                if time.monotonic() - begun > HELD:
                    pause, is_known = PAUSE, False
                seconds = pause * random.uniform(0.75, 1.25)
                why = at.without_secrets(error) if name != "the broker" else str(error)
                # Once, and not every few seconds.
                level = logging.DEBUG if is_known else logging.WARNING
                logger.log(level, "%s is not there: %s; tried again in %.1f s, and so on", name, why, seconds)
                pause, is_known = min(pause * 2, LONGEST_PAUSE), pause >= 2.0
            finally:
                self.counts.connected(False)
            try:
                await asyncio.wait_for(self.stopping.wait(), seconds)
            except asyncio.TimeoutError:
                pass

    async def session(self, at: broker.Broker) -> None:
        """Over one connection, until it is lost, which raises; or to the end."""
        connection = await at.connect(f"{self.settings['name']} {self.kind}")
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def closed(_: Any, error: Optional[BaseException] = None) -> None:
            if not lost.done():
                lost.set_exception(error if isinstance(error, Exception) else ConnectionError("the connection was closed"))

        # Else asyncio says that nobody has looked.
        lost.add_done_callback(lambda future: future.cancelled() or future.exception())
        connection.close_callbacks.add(closed)
        stopping = asyncio.ensure_future(self.stopping.wait())
        watching: Optional[asyncio.Task[None]] = None
        try:
            consumers = await self.begin(connection, closed)
            self.counts.connected(True)
            logger.info("messages come from %s: %s", at.name, ", ".join(self.queues))
            watching = asyncio.ensure_future(self.watch(connection))
            done, _ = await asyncio.wait({lost, stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
            for one in done - {stopping}:
                one.result()
            for queue, tag in consumers:
                await queue.cancel(tag)
            await self.finish(lost)
        finally:
            for task in (stopping, watching):
                task is not None and task.cancel()
            try:
                await asyncio.wait_for(connection.close(), 5)
            except Exception:
                pass

    async def begin(self, connection: Any, closed: Any) -> List[Any]:
        """Declares and consumes what there is to be; the consumers."""
        channel = await self.channel(connection, self.prefetch, closed)
        self.exchange = await channel.get_exchange(broker.EXCHANGE)
        self.default = channel.default_exchange
        await channel.declare_queue(broker.dead(self.settings), durable=True)
        found = []
        for name, key in self.queues.items():
            queue = await self.declare(channel, name)
            await queue.bind(self.exchange, key)
            found.append((queue, await queue.consume(self.taking(name))))
        return found

    async def declare(self, channel: Any, name: str) -> Any:
        self.watched.add(name)
        return await channel.declare_queue(name, durable=True)

    async def channel(self, connection: Any, prefetch: int, closed: Any) -> Any:
        channel = await connection.channel()
        channel.close_callbacks.add(closed)
        await channel.set_qos(prefetch_count=prefetch)
        return channel

    def taking(self, queue: str, is_again: bool = False) -> Any:
        async def take(message: Any) -> None:
            self.busy += 1
            try:
                await self.take(message, queue, is_again)
            except Exception as error:
                # The broker has it still, and sends it again when the connection is lost, as it is or will be.
                logger.debug("a message is left to the broker: %s: %s", type(error).__name__, error)
            finally:
                self.busy -= 1

        return take

    async def take(self, message: Any, queue: str, is_again: bool) -> None:
        raise NotImplementedError

    async def finish(self, lost: asyncio.Future[None]) -> None:
        """Waits for what is in hand."""
        while not lost.done():
            await asyncio.sleep(0.02)
            if not self.busy:
                break

    async def watch(self, connection: Any) -> None:
        """Counts what waits, and raises where a queue has no consumer any more."""
        channel = await connection.channel()
        while True:
            for name in self.watched:
                state = (await channel.declare_queue(name, passive=True)).declaration_result
                if self.counts.is_first and name in self.queues:
                    self.counts.depth(name, state.message_count or 0)
                if not state.consumer_count:
                    raise ConnectionError(f"nobody consumes {name} any more")
            await asyncio.sleep(LOOK)

    async def publish(self, body: bytes, key: str, is_topic: bool = True, **properties: Any) -> None:
        """With the broker's word that it has it; raises where the connection is lost before it gives that."""
        from aio_pika import DeliveryMode, Message
        from aio_pika.exceptions import DeliveryError

        message = Message(body, delivery_mode=DeliveryMode.PERSISTENT, app_id=self.settings["name"], **properties)
        exchange = self.exchange if is_topic else self.default
        while True:
            try:
                await exchange.publish(message, key, mandatory=False)
                return
            except DeliveryError:
                # A queue that is full, for one.
                await asyncio.sleep(REFUSED)

    async def bury(self, message: Any, queue: str, reason: str) -> None:
        """Puts a message aside that cannot be used. It is not acknowledged yet."""
        headers = {"x-reason": reason[:1000], "x-queue": queue, "x-routing-key": message.routing_key or ""}
        await self.copied(message, broker.dead(self.settings), headers)
        self.counts.add("dead", queue)
        logger.warning("a message of %s is put aside: %s", queue, reason, extra={"fields": {"message_id": message.message_id}})

    async def copied(self, message: Any, queue: str, headers: Dict[str, Any]) -> None:
        """Puts the same message into another queue."""
        kept = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "timestamp", "type")
        properties = {name: getattr(message, name) for name in kept}
        await self.publish(message.body, queue, False, headers={**message.headers, **headers}, **properties)
