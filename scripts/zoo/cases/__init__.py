"""The cases, by what the frameworks are for. A file more in this folder is read by itself."""

import importlib
import pkgutil


def load():
    """Reads all files of cases: each registers what it has."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
