"""Several processes that answer at one port, and the one that keeps them: it starts another for each that dies.

The model is loaded once, before the workers are forked, so that they share its memory, where a copy of the process would
work: it has no thread that a fork would not copy, and nothing open that two cannot use at once (a GPU, a connection, a file
with its position). Else each worker loads the model itself, and this process is started anew without it.
"""

from __future__ import annotations

import array
import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional, Set, Tuple

from .state import State

HERE = Path(__file__).parent
# Says that the model was loaded, and its process cannot be copied.
APART = "EKIBEN_WORKERS_APART"
# Seconds before a worker is started again: twice as many each time, up to the most; as at first when it lived so long.
PAUSE, LONGEST_PAUSE, LIVED = 0.1, 30.0, 60.0
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1}
logger = logging.getLogger("ekiben")


class Worker:
    """A place that a process has, one after the other."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process = 0
        self.started = 0.0
        self.was_ready = False
        self.pause = PAUSE
        self.due: Optional[float] = None


class Workers:
    def __init__(self, settings: dict[str, Any], port: int, kept: Any = None, is_offered: bool = True) -> None:
        self.settings, self.port, self.kept, self.is_offered = settings, port, kept, is_offered
        count = settings["workers"]
        self.state = State(count, kept.state if kept else -1)
        self.workers = [Worker(number) for number in range(count)]
        self.service: Any = None
        # Its other end is closed when this process dies, however it does.
        self.life = os.pipe()
        self.peers = Peers(count)

    def run(self) -> int:
        from .listener import GRACE, listen

        if not self.load():
            return 1
        try:
            self.listener = self.kept.listener() if self.kept else listen(self.port)
        except OSError as error:
            logger.error("port %d cannot be listened on: %s", self.port, error)
            return 1
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        logger.info(
            "%s %s listens on port %d with %d workers, which %s",
            self.settings["name"],
            self.settings["version"],
            self.port,
            len(self.workers),
            "share the model" if self.service else "load the model themselves",
        )
        for worker in self.workers:
            self.start(worker)
        return self.keep(self.settings.get("grace", GRACE))

    def load(self) -> bool:
        """Loads the model, if its process can be copied."""
        if os.environ.get(APART):
            return True
        open_before = descriptors()
        try:
            from .app import application

            service = application(self.settings, HERE.parent, self.state, self.is_offered)
        except (Exception, SystemExit):
            logger.exception("the model's code could not be imported")
            return False
        reason = alone(open_before)
        if reason is None:
            self.service = service
            # What is not touched is not copied: the collector would write into each object.
            gc.collect()
            gc.freeze()
            return True
        logger.info("the workers cannot share the model, as its process %s", reason)
        os.environ[APART] = "1"
        os.chdir(HERE.parent)
        os.execv(sys.executable, [sys.executable, "-m", __package__, *sys.argv[1:]])

    def start(self, worker: Worker) -> None:
        worker.started, worker.due = time.monotonic(), None
        worker.process = os.fork()
        if worker.process:
            return
        status = 1
        try:
            os.close(self.life[1])
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
            status = self.work(worker)
        except BaseException:
            logger.exception("the worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def work(self, worker: Worker) -> int:
        """In the worker."""
        from .server import Server

        self.state.become(worker.number)
        if self.service is None:
            from .app import application

            try:
                self.service = application(self.settings, HERE.parent, self.state, self.is_offered)
            except (Exception, SystemExit):
                logger.exception("the model's code could not be imported")
                return 1
        elif "numpy" in sys.modules:
            # Else all of them draw the same numbers. Python's own are seeded anew with each fork.
            sys.modules["numpy"].random.seed()
        server = Server(self.service, self.settings)
        server.parent, server.peers = self.life[0], self.peers
        server.answer(self.listener)
        return 0

    def keep(self, grace: float) -> int:
        """Until all are to end; the exit status."""
        end: Optional[float] = None
        status = 0
        while end is None and not self.state.retiring or any(worker.process for worker in self.workers):
            now = time.monotonic()
            if end is not None and now >= end:
                self.signal(signal.SIGKILL)
            times = [worker.due for worker in self.workers if worker.due is not None]
            times += [] if end is None else [max(end, now + 0.1)]
            if times:
                got = signal.sigtimedwait(SIGNALS, max(min(times) - now, 0))
            else:
                got = signal.sigwaitinfo(SIGNALS)
            if got is not None and got.si_signo == signal.SIGUSR1:
                self.signal(signal.SIGUSR1)
            elif got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                # All of them know at once, before the signal has reached the last.
                self.state.drain()
                self.signal(signal.SIGTERM)
                end = end or time.monotonic() + grace + 2
            for worker in self.ended():
                if end is not None or self.state.retiring or self.state.draining:
                    continue
                if not worker.was_ready:
                    logger.error("worker %d ended before it was ready", worker.number)
                    self.state.drain()
                    self.signal(signal.SIGTERM)
                    end, status = time.monotonic() + grace + 2, 1
                    continue
                if time.monotonic() - worker.started > LIVED:
                    worker.pause = PAUSE
                worker.due = time.monotonic() + worker.pause
                logger.error("worker %d ended; another is started in %g s", worker.number, worker.pause)
                worker.pause = min(worker.pause * 2, LONGEST_PAUSE)
            for worker in self.workers:
                if end is None and worker.due is not None and time.monotonic() >= worker.due:
                    self.start(worker)
        return status

    def ended(self) -> list[Worker]:
        """Those whose processes have ended. As the first process of a container it has orphans as well."""
        found = []
        while True:
            try:
                process, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not process:
                break
            for worker in self.workers:
                if worker.process == process:
                    worker.process = 0
                    worker.was_ready |= self.state.rest(worker.number)
                    found.append(worker)
        return found

    def signal(self, number: int) -> None:
        for worker in self.workers:
            if worker.process:
                os.kill(worker.process, number)


def descriptors() -> Set[Tuple[int, str]]:
    """What is open, and where."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            # What the list itself was read from.
            pass
    return found


def alone(open_before: Set[Tuple[int, str]]) -> Optional[str]:
    """Why a copy of this process would not work; None where it would."""
    for _, place in sorted(descriptors() - open_before):
        if place not in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
            return f"has {place} open"
    if threads() > 1:
        # A library that knows of forks ends its threads before one, and starts them again when it needs them (OpenBLAS).
        process = os.fork()
        if not process:
            os._exit(0)
        os.waitpid(process, 0)
        if threads() > 1:
            return f"has {threads()} threads"
    return None


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


class Peers:
    """How a worker asks another one for what only that has: the other gets one end of a new pair of sockets."""

    LONGEST = 1024

    def __init__(self, count: int) -> None:
        self.names = {str(worker) for worker in range(count)}
        self.pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        for pair in self.pairs:
            for one in pair:
                one.setblocking(False)

    def listen(self, worker: int, answer: Callable[[str, str], bytes]) -> None:
        """Answers what others ask this worker."""
        inbox = self.pairs[worker][0]
        asyncio.get_running_loop().add_reader(inbox.fileno(), self.asked, inbox, answer)

    def asked(self, inbox: socket.socket, answer: Callable[[str, str], bytes]) -> None:
        ends = array.array("i")
        try:
            text, ancillary, _, _ = inbox.recvmsg(self.LONGEST, socket.CMSG_LEN(ends.itemsize))
        except BlockingIOError:
            return
        for _, _, data in ancillary:
            ends.frombytes(data)
        if ends:
            method, name = json.loads(text)
            asyncio.ensure_future(tell(socket.socket(fileno=ends[0]), answer(method, name)))

    async def ask(self, worker: int, method: str, name: str) -> bytes:
        """Empty where the other one has ended meanwhile. Raises BlockingIOError where it has too much to do."""
        mine, other = socket.socketpair()
        with other:
            ends = array.array("i", [other.fileno()])
            text = json.dumps([method, name]).encode()
            self.pairs[worker][1].sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ends)])
        reader, writer = await asyncio.open_connection(sock=mine)
        try:
            return await reader.read()
        finally:
            writer.close()


async def tell(end: socket.socket, text: bytes) -> None:
    _, writer = await asyncio.open_connection(sock=end)
    writer.write(text)
    try:
        await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
