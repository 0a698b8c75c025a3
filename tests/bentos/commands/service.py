import os
import pathlib

import bentoml

MARKS = pathlib.Path("/opt/marks")

image = (
    bentoml.images.Image(python_version="3.11", lock_python_packages=False)
    .system_packages("libsodium23")
    .run("sh -c 'mkdir /opt/marks && echo $BENTOML_HOME $(pwd) $(id -un) $TOKEN $GREETING > /opt/marks/first'")
    .python_packages("fastapi==0.115.0", "cloudpickle==3.1.2")
    .build_include("words.txt")
    .run("python -c 'import bentoml, sys; print(sys.prefix, bentoml.__name__)' > /opt/marks/third; cat src/words.txt >> /opt/marks/third")
)


@bentoml.service(image=image)
class Commands:
    @bentoml.api
    def marks(self) -> dict[str, str]:
        found = {path.name: path.read_text() for path in sorted(MARKS.iterdir())}
        return {**found, "token": os.environ.get("TOKEN", "none")}
