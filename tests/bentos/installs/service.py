import os
import pathlib
import subprocess

import bentoml

options = {}
if hasattr(bentoml, "images"):
    options["image"] = (
        bentoml.images.Image(python_version="3.11", lock_python_packages=False)
        .system_packages("libsodium23")
        .run("apt-get update && apt-get install -y --no-install-recommends hello && useradd --uid 1500 --create-home worker")
        .python_packages("fastapi==0.115.0", "cloudpickle==3.1.2")
        .build_include("setup.sh")
        .run("bash src/setup.sh")
    )


@bentoml.service(**options)
class Installs:
    @bentoml.api
    def marks(self) -> dict[str, str]:
        found = {path.name: path.read_text() for path in sorted(pathlib.Path("/opt/marks").iterdir())}
        return {**found, "hello": subprocess.check_output(["hello"], text=True, env={**os.environ, "LC_ALL": "C"})}
