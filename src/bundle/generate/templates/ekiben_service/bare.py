"""A service without a model's code: health and metrics, and a refusal for each function where there is no model yet."""

from __future__ import annotations

from typing import Any, Dict

from starlette.requests import Request
from starlette.responses import Response

from .app import Service, failed
from .load import Load
from .state import State

# Seconds after which to ask again.
LATER = "10"


class Untrained(Service):
    """Says to all who ask why there is no answer."""

    def __init__(self, settings: Dict[str, Any], state: State, reason: str) -> None:
        async def refuse(_: Request) -> Response:
            return failed(503, reason, {"retry-after": LATER})

        super().__init__({entry["path"]: refuse for entry in settings["functions"]}, Load(settings), settings, state)
        self.offer([])

    @property
    def status(self) -> str:
        return "ending" if self.state.draining else "untrained"


def standing(settings: Dict[str, Any], state: State) -> Service:
    """Health and metrics alone."""
    service = Service({}, Load(settings), settings, state)
    service.offer([])
    return service
