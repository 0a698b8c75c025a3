"""The broker of messages (AMQP 0-9-1): where it is, who we are there, and what our queues are called.

All of that comes from the environment when the service starts. No password is ever written into a log.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from pathlib import Path
from typing import Any, Dict, List, Match, Optional
from urllib.parse import quote, unquote, urlsplit

# Every broker has it, durable.
EXCHANGE = "amq.topic"
URL, USERNAME, PASSWORD, CA = (f"EKIBEN_AMQP_{name}" for name in ("URL", "USERNAME", "PASSWORD", "CA"))
# Seconds in which a connection has to be there.
CONNECT = 15.0
# Bytes of a queue's name, and what it has not, as clients of the protocol see it: `*` of a key for one.
LONGEST = 255
FOREIGN = re.compile("[^A-Za-z0-9_.:#,/-]")


def is_given() -> bool:
    return bool(os.environ.get(URL) or os.environ.get(f"{URL}_FILE"))


def value(name: str) -> Optional[str]:
    """A variable, or what the file holds that is named for it; raises OSError."""
    path = os.environ.get(f"{name}_FILE")
    return os.environ.get(name) or (Path(path).read_text("utf-8").strip() if path else None)


class Broker:
    def __init__(self) -> None:
        """Raises ValueError and OSError."""
        text = value(URL) or ""
        parts = urlsplit(text)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ValueError(f"{URL} is no address as amqp://HOST:PORT/")
        self.is_secure = parts.scheme == "amqps"
        port = parts.port or (5671 if self.is_secure else 5672)
        # What may be said of it.
        self.name = f"{parts.hostname}:{port}"
        user, password = value(USERNAME), value(PASSWORD)
        old_user, old_password = (
            (parts.netloc.rpartition("@")[0].partition(":")[::2]) if "@" in parts.netloc else ("guest", "guest")
        )
        user = quote(user, safe="") if user is not None else old_user
        secret = quote(password, safe="") if password is not None else old_password
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        query = f"?{parts.query}" if parts.query else ""
        self.url = f"{parts.scheme}://{user}:{secret}@{host}:{port}{parts.path}{query}"
        known = (secret, password, old_password, unquote(old_password))
        self.secrets = [one for one in known if one and one != "guest"]
        self.ca = os.environ.get(CA)

    async def connect(self, name: str) -> Any:
        """A connection; raises what aio-pika does."""
        from aio_pika import connect

        # SSL_CERT_FILE is what OpenSSL itself looks at.
        context = ssl.create_default_context(cafile=self.ca) if self.is_secure else None
        told: Any = {"connection_name": name}
        connecting = connect(self.url, ssl_context=context, timeout=CONNECT, client_properties=told)
        return await asyncio.wait_for(connecting, CONNECT)

    def without_secrets(self, error: BaseException) -> str:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def queue(settings: Dict[str, Any], kind: str, key: str) -> str:
    """The name of the queue of a routing key: the same for all versions of the model."""
    name = f"{settings['name']}:{kind}:{FOREIGN.sub(escaped, key)}"
    if len(name.encode()) + len(":again") > LONGEST:
        name = f"{settings['name']}:{kind}:{hashlib.sha256(key.encode()).hexdigest()}"
    return name


def escaped(found: Match[str]) -> str:
    return "".join(f"@{byte:02X}" for byte in found[0].encode())


def learnt(settings: Dict[str, Any]) -> List[str]:
    """The keys of messages that the model is trained with."""
    keys: List[str] = settings.get("training", {}).get("messages", {}).get("subscribe", [])
    return keys


def dead(settings: Dict[str, Any]) -> str:
    """That of messages which cannot be used."""
    return f"{settings['name']}:dead"


def queues(settings: Dict[str, Any]) -> List[str]:
    """All that messages come from."""
    found = [queue(settings, "predict", key) for key in settings.get("messages", {}).get("subscribe", [])]
    return found + [queue(settings, "train", key) for key in learnt(settings)]
