"""Metrics in Prometheus' text format 0.0.4. Each worker counts in the one thread of its event loop: no locks."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from itertools import chain
from typing import Callable, Dict, Iterable, Iterator, List, Tuple

from .state import State

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Those of this worker, written where all of them are read together."""

    def __init__(self, state: State, paths: Iterable[str]) -> None:
        self.state, self.started = state, time.time()
        # Their numbers stand for them in the names that all workers read.
        self.paths = ["other", *dict.fromkeys(paths)]
        self.places = {path: place for place, path in enumerate(self.paths)}
        # What others tell besides.
        self.more: List[Callable[[], Iterator[str]]] = []

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        place, add = self.places.get(path, 0), self.state.add
        add(("n", place, method, status), 1)
        add(("b", place, bisect_left(BOUNDS, seconds)), 1)
        add(("s", place), seconds)

    def text(self) -> str:
        return "\n".join(chain(self.lines(), *(lines() for lines in self.more))) + "\n"

    def lines(self) -> Iterator[str]:
        requests: Dict[Tuple[str, str, int], int] = {}
        buckets: Dict[str, List[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        sums: Dict[str, float] = {}
        gauges = {"in_progress": 0, "waiting": 0}
        for (kind, *key), value in self.state.sums().items():
            if kind == "n":
                requests[key[1], self.paths[key[0]], key[2]] = int(value)
            elif kind == "b":
                buckets[self.paths[key[0]]][key[1]] = int(value)
            elif kind == "s":
                sums[self.paths[key[0]]] = value
            else:
                gauges[kind] = int(value)
        yield "# HELP ekiben_requests_total Requests answered."
        yield "# TYPE ekiben_requests_total counter"
        for (method, path, status), count in sorted(requests.items()):
            yield f'ekiben_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}'
        yield "# HELP ekiben_request_duration_seconds Time from request to answer."
        yield "# TYPE ekiben_request_duration_seconds histogram"
        for path, counts in sorted(buckets.items()):
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), counts):
                total += count
                yield f'ekiben_request_duration_seconds_bucket{{path="{path}",le="{bound}"}} {total}'
            yield f'ekiben_request_duration_seconds_sum{{path="{path}"}} {sums[path]}'
            yield f'ekiben_request_duration_seconds_count{{path="{path}"}} {total}'
        yield "# HELP ekiben_requests_in_progress Requests being answered."
        yield "# TYPE ekiben_requests_in_progress gauge"
        yield f"ekiben_requests_in_progress {gauges['in_progress']}"
        yield "# HELP ekiben_requests_waiting Requests that wait until the model has time for them."
        yield "# TYPE ekiben_requests_waiting gauge"
        yield f"ekiben_requests_waiting {gauges['waiting']}"
        yield "# HELP process_start_time_seconds Start of the service, in seconds since 1970."
        yield "# TYPE process_start_time_seconds gauge"
        yield f"process_start_time_seconds {self.started}"
