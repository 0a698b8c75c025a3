"""Where the service listens, and how long it has when it ends."""

from __future__ import annotations

import socket

# Seconds that requests in hand have after SIGTERM, where the manifest says nothing: less than the ten that Docker gives.
GRACE = 8
# Connections that wait to be taken.
BACKLOG = 2048


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
