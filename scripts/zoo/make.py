"""Makes cases, with the Python of their environment: make.py PLACE CASE…

Each is made in a folder of its own beside the one it will have, and moved there when it is whole.
"""

import os
import pathlib
import shutil
import sys
import tempfile
import traceback
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from zoo import cases  # noqa: E402
from zoo.case import CASES, Saved  # noqa: E402


def make(case, place):
    with tempfile.TemporaryDirectory(prefix=f".{case.name}-", dir=place) as scratch:
        folder = pathlib.Path(scratch) / case.name
        saved = Saved(folder)
        # Frameworks write logs and caches into the folder that they are called in.
        here = os.getcwd()
        os.chdir(scratch)
        try:
            case.function(saved)
            saved.write(case)
        finally:
            os.chdir(here)
        shutil.rmtree(place / case.name, ignore_errors=True)
        folder.rename(place / case.name)


def main():
    place = pathlib.Path(sys.argv[1]).resolve()
    place.mkdir(parents=True, exist_ok=True)
    cases.load()
    warnings.simplefilter("ignore")
    failed = False
    for name in sys.argv[2:]:
        try:
            make(CASES[name], place)
            print(f"{name}: {place / name}", flush=True)
        except Exception:
            failed = True
            print(f"{name}: not made\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
