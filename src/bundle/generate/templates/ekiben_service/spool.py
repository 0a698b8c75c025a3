"""Records on disk, between their messages and the training: in the order in which they came, and there until they are done with.

They lie in files that are named after the number of their first record. A line is the id of the message, as JSON, a tab, and the
record. What was not written to its end, as it was not acknowledged either, is cut off.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .trained import synced

NAME = re.compile(r"[0-9]{16}\.records")
# Where those lie that no model can be made of.
ASIDE = "aside"


class Record(NamedTuple):
    """`id` tells it from others, also when it comes again; empty where nothing does."""

    id: str
    body: bytes


class Locked(Exception):
    """Another process has it."""


class Spool:
    def __init__(self, folder: Path, most: int) -> None:
        """With so many records in a file. Raises Locked and OSError."""
        self.folder, self.most = folder, most
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = open(folder / "lock", "ab")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise Locked(f"{folder} is another process's") from None
        # The number of each file's first record, and their ids.
        self.files: Dict[int, List[str]] = {}
        self.known: Set[str] = set()
        # Those before `done` are not wanted any more, whatever lies there.
        self.end = self.done = 0
        for path in sorted(one for one in folder.iterdir() if NAME.fullmatch(one.name)):
            self.recover(path)
        self.file: Optional[BinaryIO] = None

    def recover(self, path: Path) -> None:
        ids, whole = [], 0
        with open(path, "r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(whole)
                    break
                whole += len(line)
                ids.append(parted(line)[0])
        begin = int(path.stem)
        self.files[begin] = ids
        self.known.update(one for one in ids if one)
        self.end = begin + len(ids)

    @property
    def begin(self) -> int:
        """The number of the first record that is here."""
        return max(min(self.files, default=self.end), self.done)

    @property
    def full(self) -> int:
        """The number after the last that lies in a full file."""
        return max((first + len(ids) for first, ids in self.files.items() if len(ids) >= self.most), default=self.begin)

    @property
    def count(self) -> int:
        return self.end - self.begin

    def append(self, records: List[Record]) -> int:
        """Writes those that are not here yet, to the disk itself; how many they were. Raises OSError."""
        fresh: Dict[str, Record] = {}
        for place, record in enumerate(records):
            if record.id not in self.known:
                fresh.setdefault(record.id or f"\0{place}", record)
        left = list(fresh.values())
        while left:
            file, ids = self.opened()
            part = left[: self.most - len(ids)]
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(b"".join(line(record) for record in part))
                os.fdatasync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
            ids += (record.id for record in part)
            self.known.update(record.id for record in part if record.id)
            self.end += len(part)
            left = left[len(part) :]
        return len(fresh)

    def opened(self) -> Tuple[BinaryIO, List[str]]:
        """The last file, which has room, and the ids of its records."""
        if self.file is None or len(self.files[max(self.files)]) >= self.most:
            self.roll()
            last = max(self.files, default=self.end)
            if len(self.files.get(last, "")) >= self.most or last < self.done:
                last = self.end
            self.file = open(self.path(last), "ab", buffering=0)
            self.files.setdefault(last, [])
            synced(self.folder)
        return self.file, self.files[max(self.files)]

    def roll(self) -> None:
        """Closes the file that is written to."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def path(self, begin: int) -> Path:
        return self.folder / f"{begin:016}.records"

    def records(self, begin: int, end: int) -> Iterator[bytes]:
        """From one number to before another; raises OSError."""
        for first, ids in sorted(self.files.items()):
            if first < end and first + len(ids) > begin:
                with open(self.path(first), "rb") as file:
                    for number, text in enumerate(file, first):
                        if begin <= number < end:
                            yield parted(text)[1]

    def drop(self, end: int) -> None:
        """Is done with all before a number: removes the files that hold no other. Raises OSError."""
        self.done = max(self.done, end)
        for first, ids in sorted(self.files.items()):
            if first + len(ids) > end:
                if first < end:
                    # What comes goes into a file of its own, which is not kept for what is done.
                    self.roll()
                break
            if first + len(ids) == self.end:
                self.roll()
            self.path(first).unlink(missing_ok=True)
            self.known.difference_update(ids)
            del self.files[first]
        synced(self.folder)

    def set_aside(self, begin: int, end: int, name: str) -> Path:
        """Keeps records apart, as nothing can be made of them; where. Raises OSError."""
        folder = self.folder / ASIDE
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}-{begin:016}.jsonl"
        self.write(path, begin, end)
        return path

    def write(self, path: Path, begin: int, end: int) -> None:
        """As JSON Lines; raises OSError."""
        with open(path, "wb") as file:
            for record in self.records(begin, end):
                file.write(record + b"\n")
        synced(path)


def line(record: Record) -> bytes:
    # JSON has line breaks between its tokens alone.
    body = record.body.replace(b"\r", b" ").replace(b"\n", b" ")
    return json.dumps(record.id).encode() + b"\t" + body + b"\n"


def parted(text: bytes) -> Tuple[str, bytes]:
    id, _, body = text.rstrip(b"\n").partition(b"\t")
    name: Any = json.loads(id)
    return str(name), body
