"""Puts Java at the port, until SIGTERM. What else the image can be told to do is done as around functions of Python."""

import faulthandler
import json
import logging
import os
import signal
import sys

from . import commands, front, log

logger = logging.getLogger("ekiben")


def main() -> int:
    if (sys.argv[1:2] or ["serve"])[0] != "serve":
        return commands.main()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    log.configure()
    settings = json.loads((commands.HERE / "service.json").read_text("utf-8"))
    try:
        port = int(os.environ.get("PORT") or settings["port"])
    except ValueError:
        logger.error("PORT is no number: %s", os.environ["PORT"])
        return 1
    try:
        if "trained" not in settings:
            return front.Front(settings, port).run()
        from .keeper import Keeper, Kept

        kept = Kept.found()
        if kept is None:
            return Keeper(settings, port, "serve").run()
        if kept.model:
            return front.become(settings, kept.listener(), kept.state)
    except OSError as error:
        logger.error("%s", error)
        return 1
    # It says to all who ask that there is no model.
    return commands.serve(settings, port, "serve")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
