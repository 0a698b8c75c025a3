"""Imports the model's code once, then answers until SIGTERM.

`serve` does so; `consume` asks the functions by messages alone; `learn` trains with messages; `train` trains once; `batch` answers
the records of files.
"""

import faulthandler
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List

from . import log, processors

HERE = Path(__file__).parent
# What the manifest has to have for each.
MODES = {"train": "training", "learn": "training.messages", "consume": "service.messages"}
logger = logging.getLogger("ekiben")


def needed(settings: Dict[str, Any], key: str) -> bool:
    found: Any = {**settings, "service": settings}
    for name in key.split("."):
        found = found.get(name)
        if found is None:
            return False
    return True


def main() -> int:
    # Tells where it is when it crashes, and when it is asked: Ekiben does so where it is not ready in time.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    log.configure()
    settings = json.loads((HERE / "service.json").read_text("utf-8"))
    mode, arguments = (sys.argv[1:2] or ["serve"])[0], sys.argv[2:]
    if mode == "batch":
        return batch(settings, arguments)
    if mode in MODES and not needed(settings, MODES[mode]):
        logger.error("%s: the manifest has no `%s`", mode, MODES[mode])
        return 2
    if mode == "train":
        from . import training

        return training.main(settings, arguments)
    try:
        port = int(os.environ.get("PORT") or settings["port"])
    except ValueError:
        logger.error("PORT is no number: %s", os.environ["PORT"])
        return 1
    if mode in ("consume", "learn"):
        from . import broker

        if not broker.is_given():
            logger.error("%s needs a broker: EKIBEN_AMQP_URL says where it is", mode)
            return 2
    if mode == "learn":
        from . import learner

        return learner.main(settings, port)
    return serve(settings, port, mode)


def batch(settings: Dict[str, Any], arguments: List[str]) -> int:
    from . import job

    if "trained" not in settings:
        return job.main(settings, arguments)
    from . import trained

    with trained.entered(settings, HERE.parent) as is_trained:
        return job.main(settings, arguments) if is_trained else job.BROKEN


def serve(settings: Dict[str, Any], port: int, mode: str) -> int:
    kept = None
    if "trained" in settings:
        from .keeper import Keeper, Kept

        kept = Kept.found()
        if kept is None:
            return Keeper(settings, port, mode).run()
    processors.limit_threads(settings.get("workers", 1))
    if settings.get("workers", 1) > 1 and (kept is None or kept.model):
        from .workers import Workers

        return Workers(settings, port, kept, mode != "consume").run()
    try:
        from .app import application
        from .state import State

        state = State(1, kept.state if kept else -1)
        if kept is None or kept.model:
            service = application(settings, HERE.parent, state, mode != "consume")
        else:
            from .bare import Untrained

            service = Untrained(settings, state, kept.reason)
    except (Exception, SystemExit):
        logger.exception("the model's code could not be imported")
        return 1
    from .listener import listen
    from .server import Server

    try:
        listener = kept.listener() if kept else listen(port)
    except OSError as error:
        logger.error("port %d cannot be listened on: %s", port, error)
        return 1
    logger.info("%s %s listens on port %d", settings["name"], settings["version"], port)
    Server(service, settings).answer(listener)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it would wait for a model that still computes after the time of grace.
    os._exit(status)
