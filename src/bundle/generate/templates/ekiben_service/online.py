"""Online learning: a process that is kept has the model, and learns from each record with `partial_train(model, record)`.

It answers each line that it reads on a pipe with one. The model is written when it has changed, once a second at most, and says
which records it knows: those are done with. What kills the process, or what the function cannot take, is put aside.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Set

from . import log, processors, training
from .trained import FACTS, working_folder
from .trainer import as_json, fitting, imported, parts, write
from .training import FUNCTION, IMPORT, OUTPUT, TASK, Failed, failed, following, how

HERE = Path(__file__).parent
# Records that are sent at once, and seconds between two models.
MOST, EVERY = 200, 1.0
PAUSE = 5.0
logger = logging.getLogger("ekiben")


class Died(Exception):
    """The process has ended."""


class Online:
    """The side of it that has the records. `learner` is who takes them from the broker."""

    def __init__(self, learner: Any) -> None:
        self.learner, self.settings, self.models = learner, learner.settings, learner.models
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.work: Optional[Path] = None
        # Records before this number the process knows, and those before that the model which was written.
        self.learnt = self.written = 0
        self.id, self.due, self.begun = "", 0.0, 0.0
        self.parameters: Dict[str, Any] = {}
        # Those that the function does not take.
        self.skipped: Set[int] = set()
        # Up to where records are sent one by one, as one of them ended the process.
        self.careful = 0

    async def run(self) -> None:
        loop, learner = asyncio.get_running_loop(), self.learner
        self.loop = loop
        self.learnt = self.written = learner.spool.begin
        while True:
            learner.kept.clear()
            is_end = learner.stopping.is_set()
            try:
                end = learner.spool.end
                if self.learnt < end and not is_end:
                    await loop.run_in_executor(None, self.learn, end)
                if self.learnt > self.written and (is_end or time.monotonic() >= self.due):
                    # Not counted when they were learnt, as they may have to be learnt anew.
                    count, end = self.learnt - self.written, self.learnt
                    self.id = await loop.run_in_executor(None, self.place)
                    self.written, self.due = end, time.monotonic() + EVERY
                    await learner.placed(self.id, end, count)
            except (Died, Failed) as error:
                if not is_end:
                    await self.failed(error)
            except OSError as error:
                logger.error("the model cannot be written, and is tried again: %s", error)
                await learner.pause(PAUSE)
            if is_end:
                break
            if self.learnt >= learner.spool.end:
                left = max(self.due - time.monotonic(), 0.01) if self.learnt > self.written else None
                try:
                    await asyncio.wait_for(learner.kept.wait(), left)
                except asyncio.TimeoutError:
                    pass
        self.close()

    async def failed(self, error: Exception) -> None:
        """Begins anew after the model that was written last; without the record that ended the process."""
        self.learner.counts.learner("broken", 1)
        at, begun = self.learnt, self.written
        self.close()
        self.learnt = begun
        if isinstance(error, Failed):
            error.log()
            await self.learner.pause(PAUSE)
        else:
            logger.error("the process that learns: %s", error)
            if at < self.careful:
                await self.learner.refused(at, f"it ended the process: {error}")
                self.skipped.add(at)
            self.careful = self.learner.spool.end

    def learn(self, end: int) -> None:
        """In a thread: learns from the records before a number, or as many as there is time for."""
        if self.process is not None and self.models.current() != self.id:
            # Somebody has trained another.
            self.close()
            self.learnt = self.written
        if self.process is None:
            self.begin()
        while self.learnt < end and (self.learnt == self.written or time.monotonic() < self.due):
            most = 1 if self.learnt < self.careful else MOST
            last = min(self.learnt + most, end)
            records = list(self.learner.spool.records(self.learnt, last))
            if self.learnt in self.skipped:
                self.learnt += 1
                continue
            skipped = min((one for one in self.skipped if one > self.learnt), default=last)
            records = records[: skipped - self.learnt]
            answer = self.asked(b'{"learn":[' + b",".join(records) + b"]}")
            self.learnt += answer["learnt"]
            if "refused" in answer:
                number, reason = self.learnt, answer["refused"]
                asyncio.run_coroutine_threadsafe(self.learner.refused(number, reason), self.loop).result()
                self.skipped.add(number)

    def place(self) -> str:
        """In a thread: writes the model and puts it in force; its id."""

        def make(folder: Path) -> None:
            target = folder / self.models.file
            target.parent.mkdir(parents=True, exist_ok=True)
            answer = self.asked(json.dumps({"write": str(target)}).encode())
            if "failed" in answer:
                raise Failed(OUTPUT, f"the model cannot be written: {answer['failed']}")
            facts = {"parameters": self.parameters, "statistics": answer["statistics"], "data": None}
            facts.update(seconds=round(time.monotonic() - self.begun, 3), records=self.learnt - self.written)
            (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False) + "\n", "utf-8")

        return training.placed(self.models, make)

    def begin(self) -> None:
        """Starts the process with the model in force; raises Failed and OSError."""
        self.parameters = training.parameters(self.settings)
        model = next(iter(self.models.known()), None)
        self.id, self.begun = self.models.current(), time.monotonic()
        self.work = working_folder(HERE.parent, self.models.file, model.file if model is not None else None)
        task = {"partial": self.settings["training"]["partial"], "parameters": self.parameters}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.online"],
            cwd=self.work,
            env={**os.environ, "PYTHONHASHSEED": "0", TASK: json.dumps({**task, "model": str(model.file) if model else ""})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=following(),
        )
        self.learner.begun(self.process)
        try:
            self.asked(b"{}")
        except Died as error:
            raise Failed(FUNCTION, f"the process that learns: {error}") from None

    def asked(self, line: bytes) -> Dict[str, Any]:
        """What the process answers; raises Died."""
        process = self.process
        if process is None or process.stdin is None or process.stdout is None:
            raise Died("it is not there")
        try:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise Died(how(process.wait()))
        told: Dict[str, Any] = json.loads(answer)
        return told

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.learner.running = None
        if self.work is not None:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work = None


# In the process.


def main() -> int:
    log.configure()
    answers = os.fdopen(os.dup(1), "wb")
    # What the function prints is no answer.
    os.dup2(2, 1)
    task = json.loads(os.environ.pop(TASK))
    processors.limit_threads()
    call = imported(task["partial"])
    if call is None:
        return IMPORT
    arguments, _ = fitting(call, {"hyperparameters": task["parameters"]})
    try:
        model = pickle.loads(Path(task["model"]).read_bytes()) if task["model"] else None
    except Exception as error:
        failed(IMPORT, f"the model to go on with cannot be loaded: {type(error).__name__}: {error}", exc_info=error)
        return IMPORT
    statistics: Optional[Dict[str, Any]] = None
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        answer: Dict[str, Any] = {}
        if "learn" in asked:
            answer["learnt"] = 0
            for record in asked["learn"]:
                try:
                    result, statistics = parts(call(model, record, **arguments))
                except (Exception, SystemExit) as error:
                    answer["refused"] = f"{type(error).__name__}: {error}"
                    break
                model = model if result is None else result
                answer["learnt"] += 1
        elif "write" in asked:
            try:
                if model is None:
                    raise ValueError(f"{task['partial']['function']} has returned none")
                write(model, Path(asked["write"]))
                answer["statistics"] = json.loads(as_json(statistics)) if statistics is not None else None
            except Exception as error:
                answer["failed"] = f"{type(error).__name__}: {error}"
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    os._exit(main())
