"""The models that training made: which is in force, how a new one takes its place, and folders to work in.

`current` in the folder of models is a link to the one in force, and is replaced as a whole. Those that nobody needs any more go:
two stay, and those that a process works with, which holds a lock on each.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Set

FOLDER = "/trained"
CURRENT, FACTS = "current", "training.json"
# How many stay; seconds after which one that was not finished is nobody's.
KEPT, ABANDONED = 2, 24 * 3600.0
# The id of the model that the image came with.
PACKED = "packed"
logger = logging.getLogger("ekiben")


class Model(NamedTuple):
    id: str
    file: Path


class Models:
    def __init__(self, settings: Dict[str, Any]) -> None:
        trained = settings["trained"]
        self.folder = Path(os.environ.get("EKIBEN_TRAINED") or FOLDER)
        self.file: str = trained["file"]
        self.packed = Path(trained["packed"]) / self.file

    def current(self) -> str:
        """The id of the last that was placed; empty where there is none."""
        try:
            return os.readlink(self.folder / CURRENT)
        except OSError:
            return ""

    def known(self) -> List[Model]:
        """All that are there: the one in force, then the others from the newest to the oldest, then the one of the image."""
        current = self.current()
        ids = sorted(self.ids(), key=lambda one: (one == current, one), reverse=True)
        found = [Model(one, self.folder / one / self.file) for one in ids]
        return [one for one in (*found, Model(PACKED, self.packed)) if one.file.is_file()]

    def ids(self) -> List[str]:
        try:
            return [one for one in os.listdir(self.folder) if (self.folder / one / FACTS).is_file() and one != CURRENT]
        except OSError:
            return []

    def begin(self) -> Path:
        """A new folder for a model; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))

    def place(self, folder: Path) -> str:
        """Puts what lies in a folder that was begun in force; its id. Raises OSError."""
        id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.{time.time_ns() // 1000 % 1_000_000:06}-{secrets.token_hex(3)}"
        for path in (*folder.rglob("*"), folder):
            synced(path)
        folder.chmod(0o755)
        folder.rename(self.folder / id)
        link = self.folder / f".link-{id}"
        link.symlink_to(id)
        link.rename(self.folder / CURRENT)
        synced(self.folder)
        self.clear(id)
        return id

    def clear(self, current: str) -> None:
        """Removes those that nobody needs."""
        older = sorted((one for one in self.ids() if one != current), reverse=True)
        for id in older[KEPT - 1 :]:
            folder = self.folder / id
            try:
                with open(folder / FACTS, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            except OSError:
                # Somebody works with it; or it is gone.
                pass
        for folder in self.folder.glob(".new-*"):
            try:
                if time.time() - folder.stat().st_mtime > ABANDONED:
                    shutil.rmtree(folder)
            except OSError:
                pass

    def hold(self, model: Model) -> Optional[BinaryIO]:
        """As long as this is open the model stays; None where it needs no such thing. Raises OSError where it is gone."""
        if model.id == PACKED:
            return None
        file = open(self.folder / model.id / FACTS, "rb")
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

    def facts(self, id: str) -> Dict[str, Any]:
        """How a model was made; raises OSError and ValueError."""
        facts: Dict[str, Any] = json.loads((self.folder / id / FACTS).read_text("utf-8"))
        return facts


def synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def working_folder(root: Path, file: str, model: Optional[Path]) -> Path:
    """A new folder with links to all that lies in `root`, and to the model in the place of its file, which is free where there
    is none. Raises OSError.
    """
    folder = Path(tempfile.mkdtemp(prefix="ekiben-"))
    links(root, folder, Path(file).parts)
    if model is not None:
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(model.resolve())
    return folder


@contextmanager
def entered(settings: Dict[str, Any], root: Path) -> Iterator[bool]:
    """Works in such a folder with the model in force; whether there is one."""
    models = Models(settings)
    for model in models.known():
        with models.hold(model) or nullcontext():
            folder, before = working_folder(root, models.file, model.file), os.getcwd()
            try:
                os.environ["EKIBEN_MODEL"] = str(model.file)
                os.chdir(folder)
                yield True
            finally:
                os.chdir(before)
                shutil.rmtree(folder, ignore_errors=True)
            return
    logger.error("the model is not trained yet")
    yield False


def links(root: Path, folder: Path, free: Any) -> None:
    """Links to all but a path, whose folders are made anew."""
    names: Set[str] = set(os.listdir(root)) if root.is_dir() else set()
    for name in names:
        if name != free[0]:
            (folder / name).symlink_to(root / name)
    if len(free) > 1:
        (folder / free[0]).mkdir()
        links(root / free[0], folder / free[0], free[1:])
