"""Metrics in Prometheus' text format 0.0.4. Counted in the one thread of the event loop: no locks."""

import time
from bisect import bisect_left
from collections import Counter
from typing import Iterator

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    def __init__(self) -> None:
        self.started = time.time()
        self.in_progress = 0
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        self.requests[method, path, status] += 1
        counts = self.buckets.setdefault(path, [0] * (len(BOUNDS) + 1))
        counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[path] = self.seconds.get(path, 0.0) + seconds

    def text(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> Iterator[str]:
        yield "# HELP ekiben_requests_total Requests answered."
        yield "# TYPE ekiben_requests_total counter"
        for (method, path, status), count in sorted(self.requests.items()):
            yield f'ekiben_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}'
        yield "# HELP ekiben_request_duration_seconds Time from request to answer."
        yield "# TYPE ekiben_request_duration_seconds histogram"
        for path, counts in sorted(self.buckets.items()):
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), counts):
                total += count
                yield f'ekiben_request_duration_seconds_bucket{{path="{path}",le="{bound}"}} {total}'
            yield f'ekiben_request_duration_seconds_sum{{path="{path}"}} {self.seconds[path]}'
            yield f'ekiben_request_duration_seconds_count{{path="{path}"}} {total}'
        yield "# HELP ekiben_requests_in_progress Requests being answered."
        yield "# TYPE ekiben_requests_in_progress gauge"
        yield f"ekiben_requests_in_progress {self.in_progress}"
        yield "# HELP process_start_time_seconds Start of the service, in seconds since 1970."
        yield "# TYPE process_start_time_seconds gauge"
        yield f"process_start_time_seconds {self.started}"
