#!/usr/bin/env python3
"""Builds the bentos beside this file with the BentoML that the interpreter has, and exports them.

    python make.py FOLDER KIND[.ENDING]...

writes FOLDER/KIND.bento, or in another of BentoML's formats. The store is that of BENTOML_HOME.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ["BENTOML_DO_NOT_TRACK"] = "True"

import bentoml  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BENTOML = tuple(int(number) for number in bentoml.__version__.split(".")[:2])
# BentoML 1.2 needs an old pydantic, and all before 1.4 pkg_resources, which setuptools has lost.
OLD = {(1, 1): ["setuptools<80"], (1, 2): ["setuptools<80", "pydantic<2.9"]}.get(BENTOML, [])
SKLEARN = ["scikit-learn==1.5.2", *OLD]
# The same for two kinds, so that they are installed once.
SMALL = ["fastapi==0.115.0", "cloudpickle==3.1.2", *OLD]
IRIS = "iris:1"
AI = "rfextractionai:1"


def extract(text):
    """Stands in for an AI that finds totals in a text. Pickled by value: nothing of this file is in the bento."""
    import re

    found = re.finditer(r"\d+\.\d\d", text)
    return [{"label_set_id": 63, "annotations": [{"offset_string": one[0], "span": list(one.span())} for one in found]}]


def save_iris():
    from sklearn.tree import DecisionTreeClassifier

    rows = [[1.4, 0.2], [1.3, 0.3], [4.7, 1.4], [4.5, 1.5], [6.0, 2.5], [5.9, 2.1]]
    bentoml.sklearn.save_model(IRIS, DecisionTreeClassifier(random_state=0).fit(rows, [0, 0, 1, 1, 2, 2]))


def save_extraction():
    bentoml.picklable_model.save_model(AI, extract, signatures={"__call__": {"batchable": False}})


def bentofile(kind):
    """What BentoML builds from."""
    # 1.2 is slow to lock.
    locks = kind == "extraction" or kind == "iris" and BENTOML >= (1, 4)
    python = {"packages": SKLEARN, "lock_packages": locks}
    if kind == "iris":
        return {"service": "service:Iris", "models": [IRIS], "labels": {"owner": "botany"}, "python": python}
    if kind == "pair":
        return {"service": "service:Classifier", "models": [IRIS], "python": python}
    if kind == "listed":
        return {"service": "service:Listed", "python": python}
    if kind == "runner":
        docker = {"env": {"GREETING": "good day"}, "system_packages": ["libsodium23"]}
        return {"service": "service:svc", "python": python, "docker": docker}
    if kind == "system":
        return {
            "service": "service:System",
            "python": {"packages": SMALL, "lock_packages": False},
            # 1.2 knows Python to 3.11.
            "docker": {"python_version": "3.13" if BENTOML >= (1, 4) else "3.11", "system_packages": ["libsodium23"]},
            "envs": [{"name": "GREETING", "value": "good day"}, {"name": "MARK", "value": "!"}],
        }
    if kind == "commands":
        envs = [{"name": "GREETING", "value": "hello"}, {"name": "TOKEN", "value": "hush", "stage": "build"}]
        return {"service": "service:Commands", "envs": envs, "docker": {"setup_script": "./setup.sh"}}
    if kind == "installs":
        if BENTOML >= (1, 4):
            return {"service": "service:Installs"}
        docker = {"setup_script": "./setup.sh", "dockerfile_template": "./Dockerfile.template"}
        return {
            "service": "service:Installs",
            "python": {"packages": SMALL, "lock_packages": False},
            "docker": {**docker, "python_version": "3.11", "system_packages": ["libsodium23"], "env": {"GREETING": "good day"}},
        }
    if kind in ("script", "template"):
        name, value = ("setup_script", "./setup.sh") if kind == "script" else ("dockerfile_template", "./Dockerfile.template")
        return {
            "service": f"service:{kind.capitalize()}",
            "python": {"packages": SMALL, "lock_packages": False},
            "docker": {"python_version": "3.11", "env": {"GREETING": "good day"}, name: value},
        }
    if kind == "extraction":
        # As konfuzio-sdk builds it, which is where the names and the folders come from.
        return {
            "name": "extraction_63",
            "service": "extraction.rfextractionai_service:ExtractionService",
            "include": ["base/*.py", "extraction/*.py", "categories_and_label_data.json5", "AI_MODEL_NAME"],
            "models": [AI],
            "labels": {
                "requires_images": "False",
                "requires_segmentation": "False",
                "requires_text": "True",
                "requires_raw_ocr": "False",
                "request": "ExtractRequest20241227",
                "response": "ExtractResponse20240117",
            },
            "python": {**python, "packages": SMALL},
        }
    sys.exit(f"there is no kind {kind}")


def build(kind):
    file = {"name": kind, **bentofile(kind)}
    if any(bento.tag.name == file["name"] for bento in bentoml.list()):
        return bentoml.get(f"{file['name']}:1")
    model, save = (AI, save_extraction) if kind == "extraction" else (IRIS, save_iris)
    if not any(str(stored.tag) == model for stored in bentoml.models.list()):
        save()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shutil.copytree(HERE / kind, folder, dirs_exist_ok=True)
        (folder / "bentofile.yaml").write_text(json.dumps(file))
        if kind == "extraction":
            (folder / "AI_MODEL_NAME").write_text(model)
        # An image's scripts are looked for from here.
        os.chdir(folder)
        # 1.4 imports it in this process, and would find the last one's.
        sys.modules.pop("service", None)
        return bentoml.bentos.build_bentofile(str(folder / "bentofile.yaml"), version="1", build_ctx=name)


def main(folder, *names):
    # BentoML takes a relative path for another one.
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        kind, _, ending = name.partition(".")
        build(kind).export(str(folder / f"{kind}.{ending or 'bento'}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
