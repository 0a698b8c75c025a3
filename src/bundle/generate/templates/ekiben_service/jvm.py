"""Java: where it is, and how it is told to answer with a model of h2o's.

What answers is compiled by the Java that runs it (`scoring/Score.java`).
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).parent
# Seconds before Java is started again: twice as many each time, up to the most; as at first when it lived so long.
PAUSE, LONGEST_PAUSE, LIVED = 0.1, 30.0, 60.0
# Files of the machine's are not to be written, and what holds for containers is: memory by their limit, few processors.
COMMON = ["-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", "-Djava.awt.headless=true"]
COMMON += ["-Dfile.encoding=UTF-8", "-Dsun.stdout.encoding=UTF-8", "-Dstdout.encoding=UTF-8"]
# It stays.
LONG = ["-XX:MaxRAMPercentage=60", "-XX:+ExitOnOutOfMemoryError"]


def java() -> str:
    """Where Java is: also where nobody has chosen among several."""
    homes = [f"{os.environ['JAVA_HOME']}/bin/java"] if os.environ.get("JAVA_HOME") else []
    for found in [*homes, shutil.which("java"), *sorted(glob.glob("/usr/lib/jvm/*/bin/java"))]:
        if found and os.access(found, os.X_OK):
            return found
    raise FileNotFoundError("there is no Java in the image: `system.packages: [openjdk-17-jre-headless]` brings one")


def environment() -> Dict[str, str]:
    """Java takes arguments and names of files by the language's letters, which are ASCII where nothing is said."""
    return dict(os.environ) if "utf" in os.environ.get("LC_ALL", "").lower() else {**os.environ, "LC_ALL": "C.UTF-8"}


def options() -> List[str]:
    folder = tempfile.gettempdir()
    return [*COMMON, f"-Djava.io.tmpdir={folder}", f"-Duser.home={os.environ.get('HOME') or folder}"]


def scoring(root: Path, told: Dict[str, Any], way: str) -> List[str]:
    """The command that answers with a model, in one of the ways of `Score.java`. Raises FileNotFoundError."""
    model, genmodel = found(root, told), root / told["genmodel"]
    for file in (model, genmodel):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there")
    own = [*options(), *LONG, *told.get("options", []), f"-Dekiben.scoring={HERE / 'scoring'}"]
    return [java(), *own, "-cp", str(genmodel), str(HERE / "scoring" / "Score.java"), way, str(model)]


def found(root: Path, told: Dict[str, Any]) -> Path:
    """The model's file: one that was trained here, else one with the model's files, else one of the code."""
    trained = os.environ.get("EKIBEN_MODEL", "")
    if trained and Path(trained).name == Path(told["model"]).name:
        return Path(trained)
    packed_file = Path(told["packed"])
    return packed_file if packed_file.is_file() else root / told["model"]


def ending(code: int) -> str:
    """How a program ended."""
    return f"status {code}" if code >= 0 else f"the signal {signal.Signals(-code).name}"
