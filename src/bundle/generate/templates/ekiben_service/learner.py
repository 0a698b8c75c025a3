"""`learn`: takes the messages that the model is trained with, writes them to disk, and trains when there are enough of them.

A message is acknowledged when the disk has it, and its record is removed when the model that was trained with it is in its
place: wherever this ends, no record is lost; at worst a model is trained with it twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Tuple

from pydantic_core import from_json

from . import broker, training
from .consumer import Consumer
from .counts import Counts
from .keeper import Kept
from .listener import GRACE, listen
from .spool import Locked, Record, Spool
from .state import State
from .trained import Models
from .trainer import as_json
from .training import Data, Failed

# Messages between the broker and the disk, and records that a model is trained with.
PREFETCH, BUFFER = 1000, 1000
# What their data set is called.
DATA = "messages.jsonl"
# Seconds before the disk is tried again, and the spool that another process has; before training that failed is.
WAIT, PAUSE = 5.0, 5.0
# How often a model is tried to be made of the same records.
TRIES = 2
logger = logging.getLogger("ekiben")


class Learner(Consumer):
    kind, prefetch = "train", PREFETCH
    spool: Spool

    def __init__(self, settings: Dict[str, Any], counts: Counts) -> None:
        super().__init__(settings, broker.learnt(settings), counts)
        self.told = settings["training"]["messages"]
        self.buffer: int = self.told.get("buffer", BUFFER)
        self.models = Models(settings)
        self.group: List[Tuple[Record, asyncio.Future[None]]] = []
        # The process of a training.
        self.running: Any = None

    def start(self) -> None:
        # Records came; the disk has more of them; there is a session to publish in.
        self.came, self.kept, self.is_open = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.lock = asyncio.Lock()
        super().start()

    def stop(self) -> None:
        super().stop()
        self.kept.set()
        # What it is trained with is there when it begins anew. Who learns online writes the model first.
        if self.running is not None and not self.told.get("online"):
            with suppress(ProcessLookupError):
                os.killpg(self.running.pid, signal.SIGKILL)

    async def run(self) -> None:
        if not await self.open():
            return
        loop = asyncio.get_running_loop()
        writing = loop.create_task(self.write())
        teaching = loop.create_task(self.teach())
        consuming = loop.create_task(super().run())
        try:
            for one in (await asyncio.wait({consuming, teaching, writing}, return_when=asyncio.FIRST_COMPLETED))[0]:
                one.result()
            await asyncio.wait({consuming, teaching})
        finally:
            for one in (consuming, teaching, writing):
                one.cancel()

    async def open(self) -> bool:
        """Whether it has the spool, before it is to end."""
        before = ""
        while not self.stopping.is_set():
            try:
                self.spool = await asyncio.get_running_loop().run_in_executor(
                    None, Spool, self.models.folder / "spool", self.buffer
                )
                self.measure()
                return True
            except (Locked, OSError, ValueError) as error:
                if str(error) != before:
                    logger.warning("the spool cannot be had, which is waited for: %s", error)
                before = str(error)
                await self.pause(WAIT)
        return False

    async def pause(self, seconds: float) -> None:
        """So long, or until it is to end."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    def measure(self) -> None:
        self.counts.learner("spool", self.spool.count, is_gauge=True)

    # From the broker to the disk.

    async def session(self, at: broker.Broker) -> None:
        try:
            await super().session(at)
        finally:
            self.is_open.clear()

    async def begin(self, connection: Any, closed: Any) -> Any:
        found = await super().begin(connection, closed)
        self.is_open.set()
        return found

    async def take(self, message: Any, queue: str, is_again: bool) -> None:
        self.counts.add("received", queue)
        if message.redelivered:
            self.counts.add("redelivered", queue)
        try:
            from_json(message.body, allow_inf_nan=False)
        except ValueError as error:
            await self.bury(message, queue, f"the message is no JSON: {error}")
        else:
            id = f"{queue}\n{message.message_id}" if message.message_id else ""
            is_kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.group.append((Record(id, message.body), is_kept))
            self.came.set()
            await is_kept
        await message.ack()

    async def write(self) -> None:
        """What has come, all of it at once."""
        loop = asyncio.get_running_loop()
        while True:
            await self.came.wait()
            self.came.clear()
            group, self.group = self.group, []
            while True:
                try:
                    async with self.lock:
                        await loop.run_in_executor(None, self.spool.append, [record for record, _ in group])
                    break
                except OSError as error:
                    logger.error("messages cannot be kept, and stay with the broker until they can: %s", error)
                    await asyncio.sleep(WAIT)
            for _, is_kept in group:
                is_kept.set_result(None)
            self.measure()
            self.kept.set()

    # From the disk to the model.

    async def teach(self) -> None:
        if self.told.get("online"):
            from .online import Online

            return await Online(self).run()
        tries = 0
        while not self.stopping.is_set():
            self.kept.clear()
            if self.spool.count < self.buffer:
                await self.kept.wait()
                continue
            async with self.lock:
                # All at once that is there so many times, so that this keeps up with what comes.
                begin, end = self.spool.begin, self.spool.full
                if end - begin < self.buffer:
                    end = self.spool.end
            try:
                await self.train(begin, end)
                tries = 0
            except Failed as error:
                if self.stopping.is_set():
                    break
                error.log()
                self.counts.learner("broken", 1)
                tries += 1
                if tries < TRIES:
                    await self.pause(PAUSE)
                else:
                    tries = 0
                    await self.set_aside(begin, end)
            except OSError as error:
                logger.error("the model cannot be written, and is tried again: %s", error)
                await self.pause(PAUSE)

    async def train(self, begin: int, end: int) -> None:
        """Makes a model of these records, and is done with them; raises Failed and OSError."""
        logger.info("the model is trained with %d records", end - begin)
        parameters = training.parameters(self.settings)
        work = Path(tempfile.mkdtemp(prefix="ekiben-"))

        def make(folder: Path) -> None:
            data = Data(work / DATA, DATA)
            self.spool.write(data.path, begin, end)
            training.run(self.settings, data, parameters, folder, self.begun, records=end - begin)

        try:
            placing = asyncio.get_running_loop().run_in_executor(None, training.placed, self.models, make)
            id = await placing
        finally:
            self.running = None
            shutil.rmtree(work, ignore_errors=True)
        await self.placed(id, end, end - begin)

    def begun(self, process: Any) -> None:
        self.running = process
        if self.stopping.is_set():
            self.stop()

    async def placed(self, id: str, end: int, count: int) -> None:
        """A model of all records before a number is in its place. Raises OSError."""
        self.counts.learner("trainings", 1)
        self.counts.learner("trained", count)
        is_told = await self.tell(id)
        # Else the model is trained with them once more, and tells of it. A model that learns online would learn twice.
        if is_told or self.told.get("online"):
            async with self.lock:
                self.spool.drop(end)
            self.measure()

    async def tell(self, id: str) -> bool:
        """Publishes the statistics of a training, unless this is to end before."""
        facts = self.models.facts(id)
        body = as_json(facts["statistics"] or {})
        headers = {"x-model": id, "x-records": facts["records"], "x-seconds": str(facts["seconds"])}
        for key in self.told.get("publish", []):
            while not self.stopping.is_set():
                waiting = {asyncio.ensure_future(one.wait()) for one in (self.is_open, self.stopping)}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in waiting:
                    one.cancel()
                try:
                    await self.publish(body, key, headers=headers, message_id=id, content_type="application/json")
                    break
                except Exception as error:
                    logger.debug("the statistics of %s are not published yet: %s", id, error)
                    await self.pause(1)
            else:
                return False
        return True

    async def refused(self, number: int, reason: str) -> None:
        """Keeps a record apart that the model cannot be trained with."""
        async with self.lock:
            path = self.spool.set_aside(number, number + 1, "refused")
        self.counts.learner("aside", 1)
        logger.error("a record is put aside: %s", reason, extra={"fields": {"file": str(path)}})

    async def set_aside(self, begin: int, end: int) -> None:
        async with self.lock:
            path = self.spool.set_aside(begin, end, "failed")
            self.spool.drop(end)
        self.counts.learner("aside", end - begin)
        self.measure()
        logger.error("no model can be made of %d records, which lie in %s now: training goes on without them", end - begin, path)


def main(settings: Dict[str, Any], port: int) -> int:
    if not broker.learnt(settings):
        logger.error("the model is not trained with messages: `training.messages.subscribe` of the manifest names none")
        return 2
    kept = Kept.found()
    state = State(1, kept.learner if kept is not None else -1)
    learner = Learner(settings, Counts(state, settings))
    if kept is not None:
        asyncio.run(alone(learner, settings.get("grace", GRACE)))
        return 0
    from .bare import standing
    from .server import Server

    try:
        listener = listen(port)
    except OSError as error:
        logger.error("port %d cannot be listened on: %s", port, error)
        return 1
    server = Server(standing(settings, state), settings)
    server.messages = learner
    server.answer(listener)
    return 0


async def alone(learner: Learner, grace: float) -> None:
    """Beside a service, which tells of it."""
    loop = asyncio.get_running_loop()
    learner.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, learner.stop)
    await learner.stopping.wait()
    await learner.ended(grace)
