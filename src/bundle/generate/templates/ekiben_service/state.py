"""What the workers of a service know of each other: numbers by name, in memory that they share.

A worker writes its own numbers alone, each as a whole, so that one that is killed leaves none half written. Its numbers are
those of the worker that is started in its place.
"""

from __future__ import annotations

import json
import mmap
import os
from collections import defaultdict
from typing import Dict, Tuple, Union

# Bytes of a number and its name.
RECORD, NUMBER = 64, 8
# Of each worker. What has no room is not counted: a path would have to be answered in more than a hundred ways.
RECORDS = 4096
# What is, and not what was: the first numbers of each worker.
GAUGES = ("ready", "in_progress", "waiting")
Key = Tuple[Union[str, int], ...]


class State:
    """The numbers of all workers, as one of them (from 0) sees them; memory alone where there is one. A `descriptor` is of memory
    that other programs share.
    """

    def __init__(self, workers: int = 1, descriptor: int = -1) -> None:
        size = (1 + workers * RECORDS) * RECORD
        if descriptor >= 0:
            os.ftruncate(descriptor, size)
        # Pages that nobody has written take no memory.
        self.memory = mmap.mmap(descriptor, size)
        self.numbers = memoryview(self.memory).cast("d")
        self.workers = workers
        self.become(0)

    def become(self, worker: int) -> None:
        """Goes on with the numbers of this worker, but for those of what was under way."""
        self.worker = worker
        self.begin = 1 + worker * RECORDS
        self.places = {key: place for place, key in self.keys(worker)}
        for gauge in GAUGES:
            self.set((gauge,), 0)

    @property
    def draining(self) -> bool:
        """Whether the service ends."""
        return self.numbers[0] != 0

    def drain(self) -> None:
        self.numbers[0] = 1

    @property
    def retiring(self) -> bool:
        """Whether another process takes what comes."""
        return self.numbers[2] != 0

    def retire(self) -> None:
        self.numbers[2] = 1

    def hold(self, is_held: bool) -> None:
        """While this is so nobody is told that it is ready."""
        self.numbers[3] = is_held

    @property
    def told(self) -> str:
        """The status as others are told."""
        return "starting" if self.status == "ok" and self.numbers[3] else self.status

    @property
    def status(self) -> str:
        """`ok` once all workers have been ready, and while any of them is."""
        ready = [self.numbers[(1 + worker * RECORDS) * RECORD // NUMBER] for worker in range(self.workers)]
        if self.draining:
            return "ending"
        if all(ready):
            self.numbers[1] = 1
        return "ok" if self.numbers[1] and any(ready) else "starting"

    def rest(self, worker: int) -> bool:
        """Nothing is under way in a worker that has ended. Whether it had been ready."""
        first = (1 + worker * RECORDS) * RECORD // NUMBER
        was_ready = self.numbers[first] != 0
        for record in range(len(GAUGES)):
            self.numbers[first + record * RECORD // NUMBER] = 0
        return was_ready

    def add(self, key: Key, value: float) -> None:
        place = self.places.get(key) or self.place(key)
        if place:
            self.numbers[place] += value

    def set(self, key: Key, value: float) -> None:
        place = self.places.get(key) or self.place(key)
        if place:
            self.numbers[place] = value

    def get(self, key: Key) -> float:
        return self.numbers[self.places[key]]

    def place(self, key: Key) -> int:
        """Where a number is; 0 where there is no room for it."""
        name = json.dumps(key).encode()
        if len(self.places) >= RECORDS or len(name) > RECORD - NUMBER:
            return 0
        at = (self.begin + len(self.places)) * RECORD
        self.memory[at + NUMBER : at + NUMBER + len(name)] = name
        self.places[key] = at // NUMBER
        return self.places[key]

    def keys(self, worker: int) -> list[Tuple[int, Key]]:
        found = []
        begin = 1 + worker * RECORDS
        for record in range(begin, begin + RECORDS):
            at = record * RECORD
            name = self.memory[at + NUMBER : at + RECORD].rstrip(b"\0")
            if not name:
                break
            found.append((at // NUMBER, tuple(json.loads(name))))
        return found

    def sums(self) -> Dict[Key, float]:
        """The numbers of all workers together."""
        sums: Dict[Key, float] = defaultdict(float)
        for worker in range(self.workers):
            for place, key in self.keys(worker):
                sums[key] += self.numbers[place]
        return sums
