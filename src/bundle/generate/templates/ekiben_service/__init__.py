"""Serves the functions of a model over HTTP. Written by Ekiben; `python -m ekiben_service` starts it."""

from collections.abc import Mapping
from typing import Dict, Iterator

from .context import ContextVar

_given: "ContextVar[Dict[str, str]]" = ContextVar("credentials", default={})


class _Credentials(Mapping):
    """What the caller of this request sent as headers `ENV_NAME`, by NAME in capitals; empty outside of a request."""

    def __getitem__(self, name: str) -> str:
        return _given.get()[name.upper()]

    def __iter__(self) -> Iterator[str]:
        return iter(_given.get())

    def __len__(self) -> int:
        return len(_given.get())

    def __repr__(self) -> str:
        # Their names alone: what is shown ends in logs.
        return f"credentials{sorted(self)}"


credentials = _Credentials()
