"""Results: the answers to records, a line of JSON for each, in the order of the records.

Invariant: what is at the output's own name is whole. Until then it lies beside it, under a name that tells which run it belongs
to, with nothing but whole lines before its last one: a run that goes on there neither loses nor doubles a record.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import json
import mimetypes
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional

from .records import Record

# Characters of what tells runs apart.
SHORT = 12
FAILED = re.compile(rb'\{"record":[0-9]+,"error":')
RECORD = re.compile(rb'\{"record":([0-9]+),')
# Of a file's name, what is put into that of its answer.
PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


class Kept(Exception):
    """There is something already where results are to be written."""


class Result:
    """The answer to a record: JSON, a file, or what is wrong; `status` is that of HTTP."""

    __slots__ = ("status", "body", "file", "media_type")

    def __init__(self, status: int, body: bytes = b"", file: Optional[str] = None, media_type: str = "") -> None:
        self.status, self.body, self.file, self.media_type = status, body, file, media_type

    @property
    def has_failed(self) -> bool:
        return self.status >= 400

    def line(self, record: Record) -> bytes:
        named = b"" if record.id is None else b',"id":' + dumped(record.id)
        if self.has_failed:
            # Before the name, so that it can be told without reading the line.
            return b'{"record":%d,"error":%s%s}\n' % (record.number, self.error(), named)
        if self.file is not None:
            file, kind = dumped(self.file), dumped(self.media_type)
            return b'{"record":%d%s,"file":%s,"media_type":%s}\n' % (record.number, named, file, kind)
        body = self.body or b"null"
        if b"\n" in body:
            body = dumped(json.loads(body))
        return b'{"record":%d%s,"answer":%s}\n' % (record.number, named, body)

    def error(self) -> bytes:
        try:
            told = json.loads(self.body)
        except ValueError:
            told = {"detail": self.body.decode("utf-8", "replace")}
        if not isinstance(told, dict):
            told = {"detail": told}
        # The record is what its log is found by.
        told.pop("request_id", None)
        return dumped({"status": self.status, **told})


def dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Output:
    """Where results go: one file, and a folder beside it for answers that are files."""

    def __init__(self, path: Path, run: List[Any], first: int, step: int) -> None:
        """`run` is all that a line follows from; the numbers of the records are `first`, and each `step` more."""
        self.path, self.first, self.step = path, first, step
        self.run = hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()[:SHORT]
        self.part = path.with_name(f"{path.name}.{self.run}.part")
        self.folder = path.with_name(f"{path.stem}.files")
        # How many have been written, how many of them are failures, and the number of the last.
        self.count = self.failed = self.last = 0
        self.file: BinaryIO

    @property
    def is_whole(self) -> bool:
        return self.path.exists()

    def open(self, resume: bool, overwrite: bool) -> None:
        """Raises Kept where something is there that nobody said anything of."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        others = [one for one in sorted(self.path.parent.glob(f"{glob_escaped(self.path.name)}.*.part"))]
        if overwrite:
            self.path.unlink(missing_ok=True)
            for one in others:
                one.unlink()
        elif not resume and (self.is_whole or others):
            raise Kept(f"{self.path if self.is_whole else others[0]} is there already: --resume goes on with it, --overwrite anew")
        elif others and others != [self.part]:
            there = next(one for one in others if one != self.part)
            raise Kept(f"{there} is of another run: of other input, another function or another version of the model")
        self.file = open(self.part, "a+b")
        self.lock()
        self.go_on()

    def lock(self) -> None:
        """Two runs at once would write over each other. Raises Kept."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Kept(f"{self.part} is being written by another run") from None
            # Not all file systems have locks.

    def go_on(self) -> None:
        """Behind the last whole line."""
        self.file.seek(0)
        end = 0
        for line in self.file:
            found = RECORD.match(line)
            number = self.first + self.count * self.step
            if not line.endswith(b"\n") or found is None or int(found.group(1)) != number:
                break
            end += len(line)
            self.last = number
            self.count += 1
            self.failed += FAILED.match(line) is not None
        self.file.truncate(end)
        self.file.seek(end)

    def earlier(self) -> None:
        """Counts what a run before has written to its end."""
        with open(self.path, "rb") as file:
            if self.path.suffix != ".csv":
                for line in file:
                    self.count += 1
                    self.failed += FAILED.match(line) is not None
                return
        with open(self.path, encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                self.count += 1
                self.failed += bool(row.get("error"))

    def put(self, record: Record, result: Result) -> None:
        self.file.write(result.line(record))
        self.count += 1
        self.failed += result.has_failed

    def flush(self) -> None:
        self.file.flush()

    def keep(self) -> None:
        """What is done stays, also after a loss of power; where nothing is, nothing."""
        if not self.count:
            self.part.unlink()
            return
        self.file.flush()
        os.fsync(self.file.fileno())
        flush_folder(self.path.parent)

    def end(self) -> None:
        """All is done: it appears under its name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.path.suffix == ".csv":
            written = self.path.with_name(f".{self.part.name}")
            self.write_table(written)
            os.replace(written, self.path)
            self.part.unlink()
        else:
            os.replace(self.part, self.path)
        flush_folder(self.path.parent)
        self.file.close()

    def write_table(self, to: Path) -> None:
        """The same lines as a table, whose columns are known when the last has come."""
        columns: Dict[str, None] = {"record": None}
        for line in self.lines():
            columns.update(dict.fromkeys(line))
        columns.pop("error", None)
        with open(to, "w", encoding="utf-8", newline="") as file:
            # Errors last, as most tables have none.
            table = csv.DictWriter(file, [*columns, *(["error"] if self.failed else [])], lineterminator="\n")
            table.writeheader()
            table.writerows(self.lines())
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> Any:
        self.file.seek(0)
        for line in self.file:
            row = json.loads(line)
            answer = row.pop("answer", None)
            own = set(row)
            if isinstance(answer, dict):
                row.update((f"answer.{name}" if name in own else name, value) for name, value in answer.items())
            elif "error" not in row and "file" not in row:
                row["answer"] = answer
            yield {name: cell(value) for name, value in row.items()}

    def place(self, record: Record, media_type: str) -> Path:
        """Where the answer to a record lies, if it is a file."""
        stem = PLAIN.sub("_", Path(str(record.id)).stem)[:64] if record.path is not None and record.id is not None else ""
        end = mimetypes.guess_extension(media_type) or ""
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"{record.number:06}{'-' if stem else ''}{stem}{end}"


def cell(value: Any) -> Any:
    """What a cell of a table can hold; what is not flat is JSON there."""
    if value is None or isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return value
    return json.dumps(value, ensure_ascii=False)


def appear(written: Path, place: Path) -> None:
    """A file that is written appears under its name."""
    with open(written, "rb") as file:
        os.fsync(file.fileno())
    os.replace(written, place)


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Not all file systems can.
        pass
    finally:
        os.close(descriptor)


def glob_escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
