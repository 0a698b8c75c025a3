"""Keeps the service of a model that is trained: starts it with the model in force, and with each that comes after.

The listener is this process's. A new service begins to take connections when it is ready; only then the old one takes no more,
and ends when the last of its own has. A model that cannot be loaded takes the place of none. Two services at most are there at
once. Nothing of the model is imported here.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Optional

from . import broker
from .listener import GRACE, listen
from .state import State
from .trained import Model, Models, working_folder
from .training import following, how

HERE = Path(__file__).parent
# Where a process that is kept finds what it was given.
VARIABLE = "EKIBEN_KEPT"
# Seconds between two looks; before what ended is started again: twice as many each time, up to the most.
LOOK, PAUSE, LONGEST_PAUSE = 0.25, 0.1, 30.0
# Seconds in which a service has to be ready, and in which one that retires has to end.
STARTING, RETIRING = 600.0, 60.0
# Seconds after which one that retires takes no connection any more.
SETTLED = 1.0
# Seconds after which a model that could not be loaded is tried again.
AGAIN = 600.0
# Starts take at most one part of so many of the time.
SHARE = 5
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1}
logger = logging.getLogger("ekiben")


class Kept:
    """What a process was given by the one that keeps it: descriptors, and the id of its model, empty where there is none."""

    def __init__(self, listener: int, state: int, learner: int, model: str, reason: str = "") -> None:
        self.descriptor, self.state, self.learner, self.model, self.reason = listener, state, learner, model, reason

    @staticmethod
    def found() -> Optional[Kept]:
        text = os.environ.get(VARIABLE)
        return Kept(**json.loads(text)) if text else None

    def listener(self) -> socket.socket:
        return socket.socket(fileno=self.descriptor)


class Process:
    """One that is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.started = time.monotonic()
        # When it has to be ready, or to have ended.
        self.deadline = self.started + STARTING

    def signal(self, number: int) -> None:
        try:
            os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass


class Generation(Process):
    """A service with a model; or with none, which says so to all who ask."""

    def __init__(
        self, process: subprocess.Popen[bytes], model: Optional[Model], state: State, work: Optional[Path], held: Optional[BinaryIO]
    ) -> None:
        super().__init__(process)
        self.model, self.state, self.work, self.held = model, state, work, held

    @property
    def id(self) -> str:
        return self.model.id if self.model is not None else ""

    def close(self) -> None:
        if self.work is not None:
            shutil.rmtree(self.work, ignore_errors=True)
        if self.held is not None:
            self.held.close()


class Keeper:
    def __init__(self, settings: Dict[str, Any], port: int, mode: str) -> None:
        self.settings, self.port, self.mode = settings, port, mode
        self.models = Models(settings)
        self.grace: float = settings.get("grace", GRACE)
        # That which answers, that which is to, and that which did.
        self.current: Optional[Generation] = None
        self.next: Optional[Generation] = None
        self.last: Optional[Generation] = None
        self.learner: Optional[Process] = None
        # Models that could not be loaded, and when they may be tried again.
        self.failed: Dict[str, float] = {}
        self.pause, self.learner_pause = PAUSE, PAUSE
        self.due = self.learner_due = 0.0
        # What the process that learns counts, for the services to tell.
        self.learns = mode == "serve" and bool(broker.learnt(settings)) and broker.is_given()
        self.counts = os.memfd_create("ekiben-learner") if self.learns else -1
        if self.learns:
            State(1, self.counts)

    def run(self) -> int:
        try:
            self.listener = listen(self.port)
            self.listener.set_inheritable(True)
        except OSError as error:
            logger.error("port %d cannot be listened on: %s", self.port, error)
            return 1
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        end: Optional[float] = None
        while end is None or self.all():
            try:
                if end is None and not self.look():
                    return 1
            except OSError as error:
                logger.error("the service cannot be started: %s", error)
                self.due = time.monotonic() + LONGEST_PAUSE
            got = signal.sigtimedwait(SIGNALS, LOOK)
            if got is not None and got.si_signo == signal.SIGUSR1:
                self.signal(signal.SIGUSR1)
            elif got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                end = end or time.monotonic() + self.grace + 3
                self.signal(signal.SIGTERM)
            if end is not None and time.monotonic() > end:
                self.signal(signal.SIGKILL)
            self.ended(end is not None)
        return 0

    def all(self) -> List[Process]:
        return [one for one in (self.current, self.next, self.last, self.learner) if one is not None]

    def signal(self, number: int) -> None:
        for one in self.all():
            one.signal(number)

    def look(self) -> bool:
        """Starts what is to be started, hands over to what is ready; False where there is nothing to wait for. Raises OSError."""
        now = time.monotonic()
        if self.learns and self.learner is None and now >= self.learner_due:
            self.learner = Process(self.spawn(["learn"], HERE.parent, Kept(-1, -1, self.counts, ""), {}))
        if self.next is not None:
            if self.next.state.status == "ok":
                self.take_over(self.next)
            elif now > self.next.deadline:
                logger.error("the model %s was not ready within %g s", self.next.id, STARTING)
                self.next.signal(signal.SIGKILL)
        elif self.last is not None:
            if self.current is not None and now > self.last.deadline - RETIRING + SETTLED:
                self.current.state.hold(False)
            if now > self.last.deadline:
                # With its time of grace, once.
                self.last.signal(signal.SIGTERM)
                self.last.deadline = now + self.grace + 3
        elif now >= self.due:
            return self.choose(now)
        return True

    def choose(self, now: float) -> bool:
        self.failed = {id: time for id, time in self.failed.items() if time > now}
        known = self.models.known()
        wanted = next((model for model in known if model.id not in self.failed), None)
        if self.current is None and wanted is None and self.failed and (not self.learns or "" in self.failed):
            return False
        if self.current is None or self.current.id != (wanted.id if wanted is not None else ""):
            self.next = self.start(wanted)
        return True

    def start(self, model: Optional[Model]) -> Generation:
        memory = os.memfd_create("ekiben-state")
        work, held = None, None
        try:
            state = State(self.settings.get("workers", 1) if model is not None else 1, memory)
            kept = Kept(self.listener.fileno(), memory, self.counts, "")
            if model is None:
                kept.reason = "the model cannot be loaded" if self.failed else "the model is not trained yet"
                return Generation(self.spawn([self.mode], HERE.parent, kept, {}), None, state, None, None)
            kept.model = model.id
            held = self.models.hold(model)
            work = working_folder(HERE.parent, self.settings["trained"]["file"], model.file)
            # Who hears that it is ready is not to be answered by one that has no model any more.
            state.hold(self.current is not None and self.current.model is None)
            process = self.spawn([self.mode], work, kept, {"EKIBEN_MODEL": str(model.file)})
            return Generation(process, model, state, work, held)
        except OSError:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)
            if held is not None:
                held.close()
            raise
        finally:
            os.close(memory)

    def spawn(self, arguments: List[str], folder: Path, kept: Kept, more: Dict[str, str]) -> subprocess.Popen[bytes]:
        told = {"listener": kept.descriptor, "state": kept.state, "learner": kept.learner}
        text = json.dumps({**told, "model": kept.model, "reason": kept.reason})
        return subprocess.Popen(
            [sys.executable, "-m", str(__package__), *arguments],
            cwd=folder,
            env={**os.environ, **more, VARIABLE: text},
            pass_fds=[descriptor for descriptor in told.values() if descriptor >= 0],
            preexec_fn=self.begun(),
        )

    def begun(self) -> Callable[[], None]:
        follow, mask = following(signal.SIGTERM), self.mask

        def begin() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            follow()

        return begin

    def take_over(self, generation: Generation) -> None:
        now = time.monotonic()
        self.last, self.current, self.next = self.current, generation, None
        if self.last is not None:
            self.last.state.retire()
            self.last.deadline = now + RETIRING
        self.due, self.pause = now + SHARE * (now - generation.started) if generation.id and self.last else now, PAUSE
        if generation.model is not None:
            logger.info("the model %s answers", generation.id, extra={"fields": {"file": str(generation.model.file)}})
        else:
            logger.warning("there is no model to answer with: all who ask are told so")

    def ended(self, is_end: bool) -> None:
        """Takes notice of those that have ended. As the first process of a container it has orphans as well."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            one = next((one for one in self.all() if one.process.pid == pid), None)
            if one is None:
                continue
            code = one.process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            self.gone(one, "" if is_end else how(code))

    def gone(self, one: Process, text: str) -> None:
        now = time.monotonic()
        if isinstance(one, Generation):
            one.close()
        if self.next is not None and one is self.next and one.state.status == "ok":
            # It had been ready, which nobody has seen yet.
            self.take_over(one)
        if one is self.learner:
            self.learner, self.learner_due = None, now + self.learner_pause
            self.learner_pause = PAUSE if now - one.started > LONGEST_PAUSE else min(self.learner_pause * 2, LONGEST_PAUSE)
            if text:
                logger.error("the process that learns: %s; another is started", text)
        elif one is self.next:
            id, self.next = self.next.id, None
            if text:
                self.failed[id] = now + AGAIN
                answers = f": {self.current.id or 'none'} goes on" if self.current is not None else ""
                logger.error("the model %s could not be loaded: %s%s", id or "none", text, answers)
        elif one is self.last:
            self.last = None
            if self.current is not None:
                self.current.state.hold(False)
        elif one is self.current:
            self.current, self.due = None, now + self.pause
            self.pause = PAUSE if now - one.started > 2 * LONGEST_PAUSE else min(self.pause * 2, LONGEST_PAUSE)
            if text:
                logger.error("the service: %s; another is started", text)
