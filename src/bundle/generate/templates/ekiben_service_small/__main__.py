"""Imports the model's code once, then answers until SIGTERM. For Pythons that only the standard library is there for."""

import faulthandler
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict

from . import log

HERE = Path(__file__).parent


logger = logging.getLogger("ekiben")


def main() -> int:
    # Tells where it is when it crashes, and when it is asked: Ekiben does so where it is not ready in time.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    log.configure()
    settings = json.loads((HERE / "service.json").read_text("utf-8"))
    mode = (sys.argv[1:2] or ["serve"])[0]
    if mode == "train":
        from . import training

        return training.main(settings, sys.argv[2:])
    if mode != "serve":
        logger.error("there is no %s on this Python", mode)
        return 2
    try:
        port = int(os.environ.get("PORT") or settings["port"])
    except ValueError:
        logger.error("PORT is no number: %s", os.environ["PORT"])
        return 1
    if "trained" not in settings:
        return serve(settings, port, True)
    from . import trained

    with trained.entered(settings, HERE.parent) as is_trained:
        return serve(settings, port, is_trained)


def serve(settings: Dict[str, Any], port: int, is_trained: bool) -> int:
    from .server import Service, listen

    try:
        service = Service(settings, HERE.parent, is_trained)
    except (Exception, SystemExit):
        logger.exception("the model's code could not be imported")
        return 1
    try:
        server = listen(port, service)
    except OSError as error:
        logger.error("port %d cannot be listened on: %s", port, error)
        return 1
    logger.info("%s %s listens on port %d", settings["name"], settings["version"], port)
    service.answer(server)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it would wait for a model that still computes after the time of grace.
    os._exit(status)
