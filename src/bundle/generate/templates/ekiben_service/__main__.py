"""Imports the model's code once, then answers until SIGTERM; with `batch` the records of files."""

import faulthandler
import json
import logging
import os
import signal
import sys
from pathlib import Path

from . import log, processors

HERE = Path(__file__).parent


def main() -> int:
    # Tells where it is when it crashes, and when it is asked: Ekiben does so where it is not ready in time.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    log.configure()
    logger = logging.getLogger("ekiben")
    settings = json.loads((HERE / "service.json").read_text("utf-8"))
    if sys.argv[1:2] == ["batch"]:
        from . import job

        return job.main(settings, sys.argv[2:])
    try:
        port = int(os.environ.get("PORT") or settings["port"])
    except ValueError:
        logger.error("PORT is no number: %s", os.environ["PORT"])
        return 1
    processors.limit_threads(settings.get("workers", 1))
    if settings.get("workers", 1) > 1:
        from .workers import Workers

        return Workers(settings, port).run()
    try:
        from .app import application
        from .state import State

        service = application(settings, HERE.parent, State())
    except (Exception, SystemExit):
        logger.exception("the model's code could not be imported")
        return 1
    from .server import Server, listen

    try:
        listener = listen(port)
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
