"""How many processors there are for this process, and how many it would use if it had them.

A container may have a part of a machine's processors: of some the kernel says so to all (`sched_getaffinity`), of time on them
only where control groups lie (https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`), which few libraries look at.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator

GROUPS = Path("/sys/fs/cgroup")
THREADS = "/proc/self/task"
# What OpenMP, OpenBLAS, MKL, BLIS and numexpr read, the last three where their own variables say nothing.
VARIABLE = "OMP_NUM_THREADS"


def affine() -> int:
    """Those that the kernel lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quotas() -> Iterator[float]:
    """What each control group of this process has of processors, where it has less than all."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        group = PurePosixPath(place.lstrip("/"))
        for folder in (group, *group.parents):
            try:
                if not controllers:
                    most, period = (GROUPS / folder / "cpu.max").read_text().split()
                elif "cpu" in controllers.split(","):
                    most = (GROUPS / "cpu" / folder / "cpu.cfs_quota_us").read_text().strip()
                    period = (GROUPS / "cpu" / folder / "cpu.cfs_period_us").read_text()
                else:
                    break
                if most not in ("max", "-1"):
                    yield int(most) / int(period)
            except (OSError, ValueError):
                # None of this name: within a container it lies where the groups begin.
                pass


def available(workers: int = 1) -> float:
    """Processors for each of so many processes; more than 0."""
    return max(min([affine(), *quotas()]) / workers, 0.01)


def limit_threads(workers: int = 1) -> None:
    """Tells libraries that compute how many threads they may have, unless somebody has, where they would take too many.

    Before they are imported: they look once.
    """
    few = max(math.ceil(available(workers)), 1)
    if few < affine():
        os.environ.setdefault(VARIABLE, str(few))


class Demand:
    """How many processors this process uses, or would if it had them: threads that could run and wait for one count."""

    def __init__(self) -> None:
        # Nanoseconds that each thread has waited.
        self.waited: Dict[str, int] = {}
        self.ran, self.time = time.process_time(), time.perf_counter()

    def lately(self) -> float:
        """Since this was asked last."""
        ran, now, waited = time.process_time(), time.perf_counter(), waits()
        more = sum(max(of - self.waited.get(thread, 0), 0) for thread, of in waited.items())
        processors = (ran - self.ran + more / 1e9) / max(now - self.time, 1e-6)
        self.ran, self.time, self.waited = ran, now, waited
        return processors


def waits() -> Dict[str, int]:
    """The second number of each thread's `schedstat` (https://docs.kernel.org/scheduler/sched-stats.html)."""
    found = {}
    try:
        for thread in os.listdir(THREADS):
            try:
                with open(f"{THREADS}/{thread}/schedstat") as file:
                    found[thread] = int(file.read().split()[1])
            except (OSError, ValueError, IndexError):
                # It has ended, or nothing is counted here.
                pass
    except OSError:
        pass
    return found
