"""`batch`: answers the records of files with a function of the model, and ends.

Each record is asked as a request is, on the same ways: what holds for a request holds for a record. A bounded number of records
is under way, counted from the oldest that has no answer, so that memory does not grow with them. Where records come from
(`records.Input`) and results go to (`results.Output`) is not known here beyond what is called of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from . import _given, app, log, processors
from .body import Refusal, refusal
from .files import UNKNOWN
from .function import FILE_NAME, HELD, Function, largest
from .listener import GRACE
from .load import Busy
from .records import FORMATS, Input, Record, Unreadable, media_type
from .results import Kept, Output, Result, appear
from .state import State

HERE = Path(__file__).parent
# How it ends: all is well; the code fails or nothing can be written; it was asked for what cannot be done; the input cannot be
# read; some records have no answer. Where a signal ended it, 128 and its number.
WELL, BROKEN, USAGE, UNREADABLE, PARTLY = 0, 1, 2, 3, 4
# Records under way; of those with files, which take memory before it is their turn, for each processor; and their bytes.
WINDOW, FILES, BYTES = 64, 2, 64 << 20
# Seconds between two lines on how far it is, and between two flushes of what is done.
PROGRESS, FLUSH = 30.0, 2.0
# Records that are passed over at once.
SKIPPED = 1 << 14
PREFIX = "EKIBEN_BATCH_"
JSON = "application/json"
# MLflow's route, which takes tables as they are.
SCORING, PREDICTIONS = "/invocations", "predictions"
logger = logging.getLogger("ekiben")


def main(settings: Dict[str, Any], arguments: List[str]) -> int:
    try:
        asked = parsed(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    processors.limit_threads()
    # How many wait is bounded here.
    settings = {**settings, "queue": 1 << 30}
    if asked.together:
        for entry in settings["functions"]:
            entry["batch"] = {"wait": 0.005, **entry.get("batch", {}), "size": asked.together}
    try:
        service = app.application(settings, HERE.parent, State())
    except (Exception, SystemExit):
        logger.exception("the model's code could not be imported")
        return BROKEN
    try:
        path = route(service, asked.function)
        if asked.credential:
            _given.set({name.upper(): os.environ[name] for name in asked.credential})
        endpoint = service.endpoints.get(path)
        function = endpoint.function if endpoint is not None else None
    except KeyError as error:
        logger.error("the variable %s of a credential is not there", error)
        return USAGE
    except ValueError as error:
        logger.error("%s", error)
        return USAGE
    try:
        records = Input(asked.input, asked.format, asked.id, function, largest(settings), path == SCORING)
    except (Unreadable, OSError) as error:
        logger.error("the input cannot be read: %s", error)
        return UNREADABLE
    shard, shards = asked.shard
    output = Output(
        named(asked.output, shard, shards),
        [settings["name"], settings["version"], path, shard, shards, records.fingerprint()],
        shard + 1,
        shards,
    )
    try:
        if asked.resume and output.is_whole:
            output.earlier()
            logger.info("%s is whole already", output.path)
            return PARTLY if output.failed else WELL
        output.open(asked.resume, asked.overwrite)
    except Kept as error:
        logger.error("%s", error)
        return USAGE
    except OSError as error:
        logger.error("the output cannot be written: %s", error)
        return BROKEN
    window = window_of(settings, path, function)
    job = Job(service, path, shared(records.records(), shard, shards, output.last), output, window, asked.fail_fast)
    return asyncio.run(job.run(settings.get("grace", GRACE)))


def parsed(arguments: List[str]) -> argparse.Namespace:
    """The arguments, or what variables of the environment say in their place; raises SystemExit as argparse does."""
    given = {name: os.environ.get(PREFIX + name.upper()) or None for name in OPTIONS}
    parser = argparse.ArgumentParser(
        "batch",
        description="Answers the records of files with a function of the model: a line of JSON for each.",
        epilog=f"Each option can be a variable instead, as {PREFIX}INPUT; lists are parted by `:`, switches are 1. "
        "Ends with 0 where all is well, 2 where it was asked for what cannot be done, 3 where the input cannot be read, 4 where some "
        "records have no answer, else 1; and with 143 after SIGTERM.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-i", "--input", action="append", metavar="PATH", help="a file, a folder or a pattern; may be repeated")
    add("-o", "--output", metavar="FILE", help="where results go: .jsonl, or .csv for answers that are flat")
    add("-f", "--function", metavar="NAME", help="predict where it is not said, or the only one; or a path, as /invocations")
    add("--format", choices=FORMATS, help="what the files are, where their names do not tell")
    add("--id", metavar="FIELD", help="the member or column that names a record; it goes with the answer")
    add("--together", type=positive, metavar="N", help="rows that are given to the function at once, as service.batch")
    add("--resume", action="store_true", help="go on behind what an earlier run has done")
    add("--overwrite", action="store_true", help="begin anew where something is there")
    add("--fail-fast", action="store_true", help="end with the first record that has no answer")
    add("--shard", type=int, metavar="N", help="which part, from 0; JOB_COMPLETION_INDEX where it is not said")
    add("--shards", type=positive, metavar="N", help="how many parts there are: this one answers every Nth record")
    add("--credential", action="append", metavar="NAME", help="a variable that the function sees as a credential; may be repeated")
    lists = {name: given[name].split(":") for name in ("input", "credential") if given[name]}
    switches = {name: given[name].lower() in ("1", "true", "yes") for name in SWITCHES if given[name]}
    texts = {name: text for name, text in given.items() if text and name not in lists and name not in switches}
    asked = parser.parse_args(arguments)
    for name, value in {**texts, **lists, **switches}.items():
        if not getattr(asked, name):
            setattr(asked, name, value)
    for name in ("input", "output"):
        if not getattr(asked, name):
            parser.error(f"--{name} or {PREFIX}{name.upper()} is needed")
    try:
        asked.together = asked.together and positive(str(asked.together))
        asked.shard = part(asked.shard, asked.shards)
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    if asked.format and asked.format not in FORMATS:
        parser.error(f"the format is one of {', '.join(FORMATS)}")
    if asked.resume and asked.overwrite:
        parser.error("--resume and --overwrite cannot both be")
    if Path(asked.output).suffix not in (".jsonl", ".ndjson", ".csv"):
        parser.error("the output is a file that ends in .jsonl, .ndjson or .csv")
    return asked


SWITCHES = ("resume", "overwrite", "fail_fast")
OPTIONS = ("input", "output", "function", "format", "id", "together", "shard", "shards", "credential", *SWITCHES)


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def part(shard: Any, shards: Any) -> Tuple[int, int]:
    """Which part of how many; raises ValueError."""
    if shards is None:
        if shard is not None:
            raise ValueError("--shard says which of several parts: --shards says of how many")
        return 0, 1
    count = positive(str(shards))
    index = shard if shard is not None else os.environ.get("JOB_COMPLETION_INDEX")
    if index is None and count == 1:
        return 0, 1
    if index is None:
        raise ValueError("which part it is, --shard says, or JOB_COMPLETION_INDEX of an indexed job")
    if not str(index).isdecimal() or int(index) >= count:
        raise ValueError(f"the part {index} is none of {count}, which begin with 0")
    return int(index), count


def named(output: str, shard: int, shards: int) -> Path:
    """The file for a part."""
    path = Path(output)
    return path if shards == 1 else path.with_name(f"{path.stem}-{shard:05}-of-{shards:05}{path.suffix}")


def route(service: app.Service, function: Optional[str]) -> str:
    """The path that is asked; raises ValueError."""
    known = {path.lstrip("/"): path for path in service.answers}
    if function is not None:
        if function.lstrip("/") not in known:
            raise ValueError(f"there is no function {function}, but {', '.join(known)}")
        return known[function.lstrip("/")]
    own = list(service.endpoints) or list(service.answers)
    if "/predict" not in own and len(own) != 1:
        raise ValueError(f"--function says which of {', '.join(known)}")
    return "/predict" if "/predict" in own else own[0]


def window_of(settings: Dict[str, Any], path: str, function: Optional[Function]) -> int:
    """Records under way: enough for the function never to wait for one."""
    entry = next((one for one in settings["functions"] if one["path"] == path), {})
    most = max(WINDOW, 2 * settings.get("concurrency", 0), 4 * entry.get("batch", {}).get("size", 0))
    if function is not None and function.fields:
        most = max(int(FILES * processors.available()), 2 * settings.get("concurrency", 2))
    return most


def shared(records: Iterator[Record], shard: int, shards: int, last: int) -> Iterator[Optional[Record]]:
    """Those of a part, behind the last that has been done; None now and then where many are passed over."""
    for record in records:
        if (record.number - 1) % shards == shard and record.number > last:
            yield record
        elif record.number % SKIPPED == 0:
            yield None


class Stopped(Exception):
    """The time of grace is over."""


class Job:
    """Asks a function for each record, and hands on the results in the order of the records."""

    def __init__(
        self, service: app.Service, path: str, records: Iterator[Optional[Record]], output: Output, window: int, fail_fast: bool
    ) -> None:
        self.ask, self.path, self.service = service.answers[path], path, service
        self.records, self.output, self.window, self.fail_fast = records, output, window, fail_fast
        # A stream as a whole; of all else what the function gives.
        is_stream = type(service.endpoints.get(path)).__module__.endswith(".stream")
        self.accept = JSON.encode() if is_stream else b"*/*"
        self.pending: Deque[Tuple[Record, int, "asyncio.Task[Result]"]] = deque()
        self.bytes = 0
        self.signal = 0
        self.has_failed = False

    async def run(self, grace: float) -> int:
        loop = asyncio.get_running_loop()
        self.over, self.grace = loop.create_future(), grace
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number)
        self.begun, before = time.monotonic(), self.output.count
        if before:
            logger.info("%d records have been done before", before)
        told = [loop.create_task(self.every(PROGRESS, lambda: self.tell("under way", before)))]
        told.append(loop.create_task(self.every(FLUSH, self.output.flush)))
        status = WELL
        try:
            await self.work()
        except Stopped:
            pass
        except Unreadable as error:
            logger.error("%s", error)
            status = UNREADABLE
        except OSError as error:
            logger.error("the results cannot be written: %s", error)
            status = BROKEN
        finally:
            for one in told:
                one.cancel()
        try:
            if status == WELL and not self.signal and not self.has_failed:
                self.output.end()
                self.tell("done", before)
                return PARTLY if self.output.failed else WELL
            self.output.keep()
        except OSError as error:
            logger.error("the results cannot be written: %s", error)
            return BROKEN
        self.tell("ended early: --resume goes on", before)
        return status or (128 + self.signal if self.signal else PARTLY)

    def stop(self, number: int) -> None:
        """After what is under way; asked once more, at once."""
        loop = asyncio.get_running_loop()
        if self.signal:
            self.finish()
        else:
            self.signal = number
            loop.call_later(self.grace, self.finish)

    def finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            work()

    def tell(self, how_far: str, before: int) -> None:
        seconds = max(time.monotonic() - self.begun, 1e-9)
        count, failed, rate = self.output.count, self.output.failed, (self.output.count - before) / seconds
        fields = {"records": count, "failed": failed, "seconds": round(seconds, 3), "records_per_second": round(rate, 1)}
        text = "%d records are answered, %d of them with an error, %.0f in a second: %s"
        logger.info(text, count, failed, rate, how_far, extra={"fields": fields})

    async def work(self) -> None:
        """Raises Unreadable where records end early, when what came before them is done, and Stopped."""
        loop = asyncio.get_running_loop()
        broken: Optional[Unreadable] = None
        try:
            for record in self.records:
                if record is None:
                    await asyncio.sleep(0)
                    if self.signal:
                        break
                    continue
                size = record.size
                while self.pending and (len(self.pending) >= self.window or self.bytes + size > BYTES):
                    await self.oldest()
                # What is done goes out, and what is to be asked begins.
                while self.pending and self.pending[0][2].done():
                    await self.oldest()
                if self.signal or self.has_failed:
                    break
                self.bytes += size
                self.pending.append((record, size, loop.create_task(self.result(record))))
        except Unreadable as error:
            broken = error
        while self.pending and not self.has_failed:
            await self.oldest()
        if broken is not None:
            raise broken

    async def oldest(self) -> None:
        """Hands on the result of the record that came first; raises Stopped."""
        record, size, task = self.pending[0]
        if not task.done():
            await asyncio.wait({task, self.over}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
        self.pending.popleft()
        self.bytes -= size
        result = task.result()
        if result.has_failed and self.fail_fast:
            self.has_failed = True
            logger.error("record %d has no answer: %s", record.number, result.error().decode("utf-8", "replace"))
            return
        self.output.put(record, result)

    async def result(self, record: Record) -> Result:
        log.request_id.set(f"record-{record.number}")
        scope: Dict[str, Any] = {"type": "http", "method": "POST", "path": self.path, "query_string": b""}
        while True:
            body: Optional[Body] = None
            try:
                try:
                    if record.wrong is not None:
                        raise record.wrong
                    body = Body(record)
                    scope["headers"] = [(b"accept", self.accept), (b"content-type", body.media_type)]
                    scope[FILE_NAME] = record.path.name if record.path is not None else ""
                    request = Request(scope, body.receive)
                    response = await self.ask(request)
                except Busy:
                    # Its time was up before it was its turn, which is nobody's but ours.
                    continue
                except Exception as error:
                    return simple(await told(error))
                return await self.taken(record, request, response)
            except OSError:
                # Of the output: it ends all.
                raise
            except Exception as error:
                return simple(await told(error))
            finally:
                if body is not None:
                    body.close()
                held = scope.pop(HELD, None)
                if held is not None:
                    held.close()

    async def taken(self, record: Record, request: Request, response: Any) -> Result:
        """What a response says."""
        if type(response) in (Response, JSONResponse):
            kind = response.headers.get("content-type", "")
            if response.status_code >= 400 or kind.startswith(JSON) or not response.body:
                result = simple(response)
                if not record.is_row or result.has_failed:
                    return result
                return Result(result.status, of_row(result.body, PREDICTIONS if self.path == SCORING else ""))
        writing = Writing(self.output, record)
        try:
            await response(request.scope, request.receive, writing.send)
            return await run_in_threadpool(writing.result)
        finally:
            writing.close()


class Body:
    """What is sent as a record, in pieces where it is a file."""

    PART = 1 << 18

    def __init__(self, record: Record) -> None:
        self.body, self.file, self.is_sent = record.body, opened(record), False
        kind = record.media_type or JSON if record.path is None else media_type(record.path)
        # A file that is JSON is a file all the same.
        is_request = record.path is not None and (kind == JSON or kind.endswith("+json") or kind.startswith("multipart/"))
        self.media_type = (UNKNOWN if is_request else kind).encode()

    async def receive(self) -> Dict[str, Any]:
        if self.is_sent:
            # Nobody leaves.
            await asyncio.get_running_loop().create_future()
        try:
            body = self.body if self.file is None else self.file.read(self.PART)
        except OSError as error:
            raise unreadable(error) from None
        self.is_sent = self.file is None or len(body) < self.PART
        return {"type": "http.request", "body": body, "more_body": not self.is_sent}

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def opened(record: Record) -> Optional[BinaryIO]:
    try:
        return None if record.path is None else open(record.path, "rb")
    except OSError as error:
        raise unreadable(error) from None


def unreadable(error: OSError) -> Refusal:
    return refusal("file", f"the file cannot be read: {error.strerror}")


class Writing:
    """Takes an answer as it is sent: JSON into memory, a file to its place."""

    def __init__(self, output: Output, record: Record) -> None:
        self.output, self.record = output, record
        self.status, self.media_type = 500, ""
        self.body = bytearray()
        self.place: Optional[Path] = None
        self.file: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = {name.lower(): value for name, value in message["headers"]}
            self.media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
            if self.status < 400 and self.media_type != JSON:
                self.place = self.output.place(self.record, self.media_type)
                self.written = self.place.with_name(f".{self.place.name}.part")
                self.file = open(self.written, "wb")
            return
        target = self.body.extend if self.file is None else self.file.write
        target(message.get("body", b""))

    def result(self) -> Result:
        if self.place is None:
            return Result(self.status, bytes(self.body))
        self.file.close()
        appear(self.written, self.place)
        file = os.path.join(self.place.parent.name, self.place.name)
        return Result(self.status, file=file, media_type=self.media_type)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.written.unlink(missing_ok=True)


async def told(error: Exception) -> Response:
    """What a caller would be told."""
    return await app.broken(Request({"type": "http"}), error)


def simple(response: Response) -> Result:
    return Result(response.status_code, bytes(response.body))


def of_row(body: bytes, member: str) -> bytes:
    """The answer to one row, of that to a table which has this row alone; `member` holds it where one is named."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    if member:
        answer = answer[member]
    if isinstance(answer, dict):
        rows = [value for value in answer.values() if isinstance(value, (list, dict))]
        if not rows or not all(isinstance(value, list) and len(value) == 1 for value in rows):
            return body
        answer = {name: value[0] if isinstance(value, list) else value for name, value in answer.items()}
    elif isinstance(answer, list) and len(answer) == 1:
        (answer,) = answer
    else:
        return body
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
