"""A model in Java: a program that is run for each request, or a model of h2o's in one Java that stays.

The program has the arguments in the order of its parameters, without a shell, and says its answer as JSON. A model of h2o's, a
MOJO or a POJO, is asked by messages through pipes (`scoring/Pipe.java` says of what form), several at once, by a Java that is started
with the service, and anew when it dies: what it was asked then fails, what comes meanwhile waits for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from pydantic import ConfigDict, TypeAdapter
from pydantic_core import from_json
from typing_extensions import Literal, NotRequired, Required, TypedDict

from . import processors
from .function import Function
from .jvm import LIVED, LONGEST_PAUSE, PAUSE, ending, environment, java, options, scoring
from .load import Busy

# Bytes that a program's answer may have, and of what it says besides those that are kept, its last; seconds that it may take.
LARGEST, KEPT, LONGEST = 64 << 20, 16 << 10, 600.0
# Bytes of a message to or from h2o's model.
MESSAGE = 1 << 28
# What the values of a column are held against one by one; of more, h2o says which it does not know.
MOST_VALUES = 10_000
# It ends before the second stage of the compiler would pay.
SHORT = ["-XX:TieredStopAtLevel=1", "-XX:MaxRAMPercentage=25"]
logger = logging.getLogger("ekiben")


def function(root: Path, entry: Dict[str, Any], settings: Dict[str, Any]) -> Function:
    return (Program if "jar" in entry["java"] else Scored)(root, entry, settings)


class Program(Function):
    """`java -jar FILE ARGUMENT…`"""

    def __init__(self, root: Path, entry: Dict[str, Any], settings: Dict[str, Any]) -> None:
        told = entry["java"]
        self.jar, names = str(root / told["jar"]), list(told["parameters"])
        self.command = [java(), *options(), *SHORT, *told.get("options", []), "-jar", self.jar]
        fields: Dict[str, Any] = {name: Required[Any] for name in names}
        self.prepare(entry, settings, adapter("request", fields), self.run)
        self.names = self.required = names
        # More at once would only take turns.
        self.most = max(math.ceil(processors.available(settings.get("workers", 1))), 1) + 1
        self.turns: Optional[asyncio.Semaphore] = None

    async def run(self, **arguments: Any) -> Any:
        words = [written(arguments[name]) for name in self.names]
        if any("\0" in word for word in words):
            raise ValueError("an argument holds a zero byte")
        if self.turns is None:
            self.turns = asyncio.Semaphore(self.most)
        async with self.turns:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    *words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment(),
                    start_new_session=True,
                )
            except OSError as error:
                if error.errno == 7:
                    raise ValueError("the arguments are too long for a program") from None
                raise
            try:
                # Both at once: it may wait until one of them is taken.
                out, said, _ = await asyncio.wait_for(
                    asyncio.gather(whole(process.stdout), last(process.stderr), process.wait()), LONGEST
                )
            except asyncio.TimeoutError:
                raise RuntimeError(f"the program has not ended after {LONGEST:g} s") from None
            finally:
                # What it has started itself, too.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        name = Path(self.jar).name
        if process.returncode:
            raise RuntimeError(f"{name} ended with {ending(process.returncode)}{told_of(said)}")
        try:
            answer = from_json(out)
        except ValueError as error:
            raise RuntimeError(f"what {name} says is no JSON: {error}{told_of(said or out[-KEPT:])}") from None
        if said:
            logger.info("%s said: %s", name, text(said))
        return answer


def written(value: Any) -> str:
    """A text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def whole(stream: Any) -> bytes:
    pieces: List[bytes] = []
    size = 0
    while True:
        piece = await stream.read(1 << 16)
        if not piece:
            return b"".join(pieces)
        size += len(piece)
        if size > LARGEST:
            raise RuntimeError(f"the program answers with more than {LARGEST} bytes")
        pieces.append(piece)


async def last(stream: Any) -> bytes:
    kept = b""
    while True:
        piece = await stream.read(1 << 16)
        if not piece:
            return kept
        kept = (kept + piece)[-KEPT:]


def text(said: bytes) -> str:
    return said.decode("utf-8", "replace").rstrip()


def told_of(said: bytes) -> str:
    return f"; it said:\n{text(said)}" if said else ""


def adapter(name: str, fields: Dict[str, Any]) -> TypeAdapter[Dict[str, Any]]:
    """Checks a JSON object strictly. Its members may have any names, which parameters of a function may not."""
    request = TypedDict(name, fields)  # type: ignore[misc]
    request.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return TypeAdapter(request)


class Scored(Function):
    """A model of h2o's: a row, or with `rows` a list of them."""

    def __init__(self, root: Path, entry: Dict[str, Any], settings: Dict[str, Any]) -> None:
        told = entry["java"]
        self.machine = Machine(scoring(root, told, "pipe"))
        described = self.machine.start()
        fields: Dict[str, Any] = {}
        self.columns: List[str] = []
        for column, values in described["columns"]:
            is_long = values is not None and len(values) > MOST_VALUES
            kind: Any = float if values is None else str if is_long or not values else Literal[tuple(values)]
            fields[column] = NotRequired[Optional[kind]]
            self.columns.append(column)
        row = TypedDict("row", fields)  # type: ignore[misc]
        row.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
        # A column of that name leaves no room for several rows.
        self.takes_rows = "rows" not in fields
        several = {"rows": NotRequired[List[row]]} if self.takes_rows else {}  # type: ignore[valid-type]
        self.prepare(entry, settings, adapter("request", {**fields, **several}), self.score)
        self.names = [*self.columns, *several]

    async def score(self, **arguments: Any) -> Any:
        rows = [arguments]
        is_many = self.takes_rows and "rows" in arguments
        if is_many:
            if len(arguments) > 1:
                raise ValueError("beside `rows` there can be no columns")
            rows = arguments["rows"]
        elif not arguments:
            raise ValueError(f"no column is given: the model knows {', '.join(self.columns[:50])}")
        answers = await self.machine.ask(packed(rows, self.columns))
        return answers if is_many else answers[0]


def packed(rows: List[Dict[str, Any]], columns: List[str]) -> bytes:
    """The values of the rows, in the order of the columns."""
    pieces = [struct.pack(">i", len(rows))]
    for row in rows:
        for column in columns:
            value = row.get(column)
            if value is None:
                pieces.append(b"\0")
            elif isinstance(value, str):
                content = value.encode()
                pieces.append(struct.pack(">bi", 2, len(content)) + content)
            else:
                pieces.append(struct.pack(">bd", 1, value))
    return b"".join(pieces)


class Starting(Busy):
    """Java has died, and is not there yet."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.args = ("the model's Java has ended, and is started again",)


class Machine:
    """A Java that stays, and what it was asked."""

    def __init__(self, command: List[str]) -> None:
        self.command = command
        self.process: Any = None
        self.loop: Optional[asyncio.AbstractEventLoop] = None
        self.waiting: Dict[int, asyncio.Future[Any]] = {}
        self.number = 0
        self.unsent = bytearray()
        self.unread = bytearray()
        self.is_flushing = self.is_blocked = False
        self.pause, self.started = PAUSE, 0.0
        # The next start, while there is none.
        self.again: Optional[asyncio.Future[None]] = None

    def start(self) -> Dict[str, Any]:
        """Starts it, and waits until the model is loaded. What it says of itself."""
        self.started = time.monotonic()
        process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), bufsize=0
        )
        assert process.stdout is not None and process.stdin is not None
        try:
            described = from_json(message(process.stdout)[9:])
        except BaseException as error:
            process.kill()
            status = process.wait()
            if not isinstance(error, EOFError):
                raise
            raise RuntimeError(f"the model cannot be loaded: Java ended with {ending(status)}") from None
        # One end's thread never waits for the other.
        for pipe in (process.stdin, process.stdout):
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_NONBLOCK)
        self.process = process
        return described

    async def ask(self, rows: bytes) -> Any:
        loop = asyncio.get_running_loop()
        if len(rows) > MESSAGE - 8:
            raise ValueError("these are too many rows for one request")
        if self.loop is not loop:
            self.attach(loop)
        if self.again is not None:
            await asyncio.shield(self.again)
        self.number += 1
        number = self.number
        answer = self.waiting[number] = loop.create_future()
        self.unsent += struct.pack(">iq", len(rows) + 8, number) + rows
        if not self.is_flushing and not self.is_blocked:
            # With what others ask in this moment.
            self.is_flushing = True
            loop.call_soon(self.flush)
        try:
            return await answer
        finally:
            self.waiting.pop(number, None)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        loop.add_reader(self.process.stdout.fileno(), self.readable)

    def flush(self) -> None:
        self.is_flushing = False
        if self.again is not None:
            return
        assert self.loop is not None
        end = self.process.stdin.fileno()
        try:
            sent = os.write(end, self.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It has gone, which is seen at the other pipe.
            return
        del self.unsent[:sent]
        if bool(self.unsent) != self.is_blocked:
            self.is_blocked = not self.is_blocked
            if self.is_blocked:
                self.loop.add_writer(end, self.flush)
            else:
                self.loop.remove_writer(end)

    def readable(self) -> None:
        try:
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            return self.ended()
        self.unread += piece
        at, unread = 0, self.unread
        while len(unread) - at >= 4:
            end = at + 4 + int.from_bytes(unread[at : at + 4], "big")
            if len(unread) < end:
                break
            number, status = struct.unpack_from(">qb", unread, at + 4)
            answer = self.waiting.get(number)
            if answer is not None and not answer.done():
                content = bytes(unread[at + 13 : end])
                if status == 0:
                    answer.set_result(from_json(content))
                else:
                    answer.set_exception((ValueError if status == 1 else RuntimeError)(text(content)))
            at = end
        del unread[:at]

    def ended(self) -> None:
        """It has died: whoever waits is told, and another one is started."""
        assert self.loop is not None
        loop, process = self.loop, self.process
        loop.remove_reader(process.stdout.fileno())
        loop.remove_writer(process.stdin.fileno())
        process.stdin.close()
        process.stdout.close()
        process.kill()
        how = ending(process.wait())
        self.unsent.clear()
        self.unread.clear()
        self.is_blocked = False
        logger.error("the model's Java ended with %s; another one is started", how)
        for answer in self.waiting.values():
            if not answer.done():
                answer.set_exception(RuntimeError(f"the model's Java ended with {how} while it was asked"))
        if time.monotonic() - self.started > LIVED:
            self.pause = PAUSE
        self.again = loop.create_future()
        loop.create_task(self.restart(self.again))

    async def restart(self, waiting: asyncio.Future[None]) -> None:
        assert self.loop is not None
        while True:
            pause, self.pause = self.pause, min(self.pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)
            try:
                await self.loop.run_in_executor(None, self.start)
            except Exception as error:
                logger.error("%s", error)
                # Who waits is told so; who comes then waits for the next attempt.
                waiting.set_exception(Starting(self.pause))
                # Else asyncio says that nobody has looked.
                waiting.exception()
                self.again = waiting = self.loop.create_future()
                continue
            self.again = None
            self.attach(self.loop)
            waiting.set_result(None)
            return


def message(stream: Any) -> bytes:
    """What is said first, before anything is asked."""
    length = int.from_bytes(exactly(stream, 4), "big")
    if not 9 <= length <= MESSAGE:
        raise RuntimeError("the model's Java says what is no message")
    return exactly(stream, length)


def exactly(stream: Any, length: int) -> bytes:
    content = b""
    while len(content) < length:
        piece = stream.read(length - len(content))
        if not piece:
            raise EOFError
        content += piece
    return content
