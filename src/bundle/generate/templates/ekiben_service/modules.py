"""The model's code: imported by its path."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load(root: Path, file: str) -> ModuleType:
    """Imports a file by its path. What lies beside it, and below the root, can be imported from it."""
    path = root / file
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder != root:
        names.insert(0, folder.name)
        folder = folder.parent
    for place in (str(root), str(folder)):
        if place not in sys.path:
            sys.path.insert(0, place)
    name = ".".join(names)
    if len(names) > 1:
        return importlib.import_module(name)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # By its path, not its name: a module of the library may have the same.
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
