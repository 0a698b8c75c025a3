import pathlib

import bentoml


@bentoml.service
class Script:
    @bentoml.api
    def marks(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(pathlib.Path("/opt/marks").iterdir())}
