"""Logs: one JSON object a line, on standard error, with the id of the request that it belongs to."""

import json
import logging
import os
import time

from .context import ContextVar

request_id: "ContextVar[str]" = ContextVar("request_id", default="")


class Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """The model's own loggers write the same way; LOG_LEVEL says from which level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Line())
    level = os.environ.get("LOG_LEVEL", "info").upper()
    known = level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    logging.basicConfig(level=level if known else "INFO", handlers=[handler])
