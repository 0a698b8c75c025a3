"""Imports the model's code once, then answers until SIGTERM."""

import faulthandler
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from . import log

HERE = Path(__file__).parent
# Seconds that requests under way may take after SIGTERM.
GRACE = 5


def main() -> int:
    # Tells where it is when it crashes, and when it is asked: Ekiben does so where it is not ready in time.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    log.configure()
    logger = logging.getLogger("ekiben")
    settings = json.loads((HERE / "service.json").read_text("utf-8"))
    try:
        port = int(os.environ.get("PORT") or settings["port"])
    except ValueError:
        logger.error("PORT is no number: %s", os.environ["PORT"])
        return 1
    try:
        from .app import application

        app = application(settings, root=HERE.parent)
    except (Exception, SystemExit):
        logger.exception("the model's code could not be imported")
        return 1
    try:
        listener = listen(port)
    except OSError as error:
        logger.error("port %d cannot be listened on: %s", port, error)
        return 1

    import uvicorn

    # uvicorn raises SIGTERM once more when it is done; the default would end us with a signal instead of 0.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logger.info("%s %s listens on port %d", settings["name"], settings["version"], port)
    config = uvicorn.Config(
        app, lifespan="off", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=GRACE
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def listen(port: int) -> socket.socket:
    """All addresses, those of IPv6 as well where the machine has any.

    The protocol is named, as asyncio sets TCP_NODELAY only then: else every answer on a kept connection waits 40 ms.
    """
    try:
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
    except OSError:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
    return listener


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it would wait for a model that still computes after the time of grace.
    os._exit(status)
