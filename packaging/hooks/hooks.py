"""Builds what pre-commit installs: a package without a file that asks for the wheel of its own version.

The standard library alone (PEP 517, PEP 427), so that nothing else is fetched for it, and a machine with the wheel needs no network.
"""

import re
import zipfile
from pathlib import Path


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    field = lambda name: re.search(rf'^{name} = \[?"(.+?)"', text, re.MULTILINE).group(1)
    stem = f"{field('name').replace('-', '_')}-{field('version')}"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {field('name')}\nVersion: {field('version')}\n"
        f"Requires-Python: {field('requires-python')}\nRequires-Dist: {field('dependencies')}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: ekiben-hooks\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    # Digests may be left out: installers write their own.
    files["RECORD"] = "".join(f"{stem}.dist-info/{name},,\n" for name in [*files, "RECORD"])
    name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(f"{stem}.dist-info/{file}", content)
    return name
