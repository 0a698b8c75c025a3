"""Java at the port: it answers HTTP itself, and is started anew when it dies.

The listener is this process's: who comes while there is no Java waits for the next one. Nothing of the service is imported here.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from . import jvm
from .listener import BACKLOG, GRACE, listen
from .state import State
from .training import following

HERE = Path(__file__).parent
# Bytes of a request's body, where the manifest says nothing of it.
LARGEST = 100_000_000
# Seconds between two looks at whether it is ready.
LOOK = 0.25
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1}
logger = logging.getLogger("ekiben")


def command(settings: Dict[str, Any], state: int) -> List[str]:
    """What answers at the listener that it has as standard input, and tells in the memory behind a descriptor that it is ready."""
    told = next(entry["java"] for entry in settings["functions"] if "java" in entry)
    limits, deferred = settings.get("limits", {}), settings.get("deferred", {})
    words: Dict[str, Any] = {
        **{name: settings.get(name) for name in ("name", "version", "root", "nan", "timeout", "concurrency", "queue")},
        "grace": settings.get("grace", GRACE),
        "largest": int(os.environ.get("EKIBEN_MAX_BODY") or limits.get("request", LARGEST)),
        "most": deferred.get("most"),
        "keep": deferred.get("keep"),
        "openapi": HERE / "openapi.json",
        "docs": HERE / "docs.html",
        "swagger": swagger(),
        "state": f"/proc/self/fd/{state}",
    }
    given = [f"{name}={value}" for name, value in words.items() if value is not None]
    return [*jvm.scoring(HERE.parent, told, "serve"), *given]


def swagger() -> Optional[Path]:
    """Swagger UI, from the files that the package fastapi-swagger carries."""
    spec = importlib.util.find_spec("fastapi_swagger")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "resources"


def become(settings: Dict[str, Any], listener: socket.socket, state: int) -> int:
    """Goes on as Java: who keeps this process keeps that. Raises OSError."""
    words = command(settings, state)
    listener.listen(BACKLOG)
    # It would end by it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.dup2(listener.fileno(), 0)
    os.execve(words[0], words, jvm.environment())
    return 1


class Front:
    """Keeps a Java. As the first process of a container it has orphans as well."""

    def __init__(self, settings: Dict[str, Any], port: int) -> None:
        self.settings, self.port = settings, port
        self.memory = os.memfd_create("ekiben-state")
        self.state = State(1, self.memory)
        self.process: Optional[subprocess.Popen[bytes]] = None
        # Whether one has been ready.
        self.has_been = False
        self.started, self.pause, self.due = 0.0, jvm.PAUSE, 0.0

    def run(self) -> int:
        """Raises OSError where it cannot be started at first."""
        try:
            self.listener = listen(self.port)
            self.listener.listen(BACKLOG)
        except OSError as error:
            logger.error("port %d cannot be listened on: %s", self.port, error)
            return 1
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.start()
        end: Optional[float] = None
        while self.process is not None or end is None:
            if self.process is None and time.monotonic() >= self.due:
                self.again()
            got = signal.sigtimedwait(SIGNALS, LOOK)
            if got is not None and got.si_signo == signal.SIGUSR1:
                # It tells where it is.
                self.signal(signal.SIGQUIT)
            elif got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                # Asked once more: at once.
                self.signal(signal.SIGTERM if end is None else signal.SIGKILL)
                end = end or time.monotonic() + self.settings.get("grace", GRACE) + 3
            if end is not None and time.monotonic() > end:
                self.signal(signal.SIGKILL)
            self.has_been = self.has_been or self.state.status == "ok"
            status = self.ended()
            if status is not None and end is None:
                if not self.has_been:
                    logger.error("the model cannot be loaded: Java ended with %s", jvm.ending(status))
                    return 1
                self.later(f"the model's Java ended with {jvm.ending(status)}")
        return 0

    def start(self) -> None:
        follow, mask = following(signal.SIGTERM), self.mask

        def begin() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            follow()

        self.state.become(0)
        self.state.numbers[0] = 0
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command(self.settings, self.memory),
            stdin=self.listener.fileno(),
            env=jvm.environment(),
            pass_fds=[self.memory],
            preexec_fn=begin,
        )

    def again(self) -> None:
        try:
            self.start()
        except OSError as error:
            self.later(str(error))

    def signal(self, number: int) -> None:
        if self.process is not None:
            os.kill(self.process.pid, number)

    def ended(self) -> Optional[int]:
        """How Java ended, where it has."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if not pid:
                return found
            if self.process is not None and pid == self.process.pid:
                found = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self.process.returncode, self.process = found, None

    def later(self, text: str) -> None:
        now = time.monotonic()
        if now - self.started > jvm.LIVED:
            self.pause = jvm.PAUSE
        self.due, self.pause = now + self.pause, min(self.pause * 2, jvm.LONGEST_PAUSE)
        logger.error("%s; another one is started", text)
