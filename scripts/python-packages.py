#!/usr/bin/env python3
"""Writes src/formats/packages.txt: which package brings a module, which packages packages require, and which modules are
Python's own in which of its versions.

    scripts/python-packages.py      # needs uv and the network; a look at the difference before it is committed

Names of modules that differ from those of their packages are pipreqs' (https://github.com/bndr/pipreqs, Apache-2.0) and
those below, which it lacks. What packages require is what uv resolves. Python's own modules are isort's lists of
`sys.stdlib_module_names` (https://github.com/PyCQA/isort, MIT).
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/formats/packages.txt"

# What code around models is written with. Of these it is known what comes along: a requirement that is not here may
# bring anything.
KNOWN = """
accelerate aiofiles aiohttp albumentations altair anyio arch attrs beautifulsoup4 biopython bokeh boto3 catboost
category-encoders click cloudpickle contourpy cryptography cvxpy cython dask datasets dill diffusers einops evaluate
fastapi fastapi-swagger faiss-cpu fastparquet featuretools filelock flask fsspec gensim geopandas gradio
gunicorn h5py hdbscan httpx huggingface-hub hypothesis imageio imbalanced-learn ipython jax jinja2 joblib jsonschema
keras kornia langchain-core lifelines lightgbm lightning llvmlite lxml matplotlib mlxtend more-itertools msgpack
networkx nltk numba numexpr numpy nvidia-ml-py omegaconf onnx onnxruntime opencv-python opencv-python-headless openpyxl
optuna orjson packaging pandas patsy peft pillow plotly polars pooch prophet protobuf psutil psycopg2-binary pyarrow
pycryptodome pydantic pydantic-settings pyjwt pymongo pymupdf pypdf pytesseract pytest python-dateutil python-docx
python-dotenv python-multipart pytorch-lightning pytz pywavelets pyyaml rapidfuzz redis regex requests rich s3fs
sacremoses safetensors scikit-image scikit-learn scipy seaborn sentence-transformers sentencepiece setuptools shap
shapely six skops soundfile spacy sqlalchemy starlette statsmodels streamlit sympy tabulate tenacity tensorboard
threadpoolctl tiktoken timm tokenizers torch torchaudio torchmetrics torchvision tornado tqdm transformers
typing-extensions umap-learn urllib3 uvicorn wandb werkzeug wordcloud xarray xgboost xgboost-cpu xlrd zstandard
pmdarima sktime ai-edge-litert mlflow-skinny httptools uvloop aio-pika
""".split()

# These cannot be resolved with all the others.
ALONE = ["tensorflow", "tensorflow-cpu", "konfuzio-sdk", "mlflow"]

# What pipreqs lacks, or has otherwise. Where several bring a module, the first is the one that is proposed.
MODULES = {
    "Bio": "biopython",
    "Crypto": "pycryptodome pycrypto",
    "IPython": "ipython",
    "Levenshtein": "levenshtein python-levenshtein",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow pillow-simd",
    "_cffi_backend": "cffi",
    "absl": "absl-py",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "bson": "pymongo",
    "caffe2": "torch",
    "cattr": "cattrs",
    "circus": "circus kantoku",
    "clang": "libclang clang",
    "cv2": "opencv-python-headless opencv-python opencv-contrib-python opencv-contrib-python-headless",
    "databricks": "databricks-sdk",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu faiss-gpu",
    "fitz": "pymupdf",
    "functorch": "torch",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "graphql": "graphql-core",
    "grpc": "grpcio",
    "imblearn": "imbalanced-learn",
    "isympy": "sympy",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "lightning_fabric": "pytorch-lightning lightning",
    "magic": "python-magic",
    "markdown_it": "markdown-it-py",
    "mpl_toolkits": "matplotlib",
    "multipart": "python-multipart multipart",
    "onnxruntime": "onnxruntime onnxruntime-gpu",
    "packaging_legacy_version": "pip-requirements-parser",
    "pasta": "google-pasta",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary psycopg2",
    "py": "pytest py",
    "pylab": "matplotlib",
    "pymupdf4llm": "pymupdf4llm pymupdf",
    "pynvml": "nvidia-ml-py pynvml",
    "pythonjsonlogger": "python-json-logger",
    "pywt": "pywavelets",
    "rpds": "rpds-py",
    "serial": "pyserial",
    "skbase": "scikit-base",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn scikit-learn-intelex",
    "slugify": "python-slugify",
    "tensorflow": "tensorflow tensorflow-cpu tf-nightly tensorflow-macos tensorflow-intel",
    "tflite_runtime": "tflite-runtime",
    "tiktoken_ext": "tiktoken",
    "tlz": "toolz",
    "torchgen": "torch",
    "torio": "torchaudio",
    "umap": "umap-learn",
    "websocket": "websocket-client",
    "xgboost": "xgboost xgboost-cpu",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}

# Left out: `google` is a folder of many packages, and nobody means pexpect by its old modules.
SKIPPED = {"google", "ANSI", "FSM", "fdpexpect", "pxssh", "screen"}

# What packages required once is not what they require now, and older versions are asked for.
OLDER = """
transformers==4.36.2 huggingface-hub==0.19.4 torch==2.0.1 torchvision==0.15.2 pytorch-lightning==1.9.5 timm==0.9.2
sentence-transformers==2.3.1 datasets==2.14.4 diffusers==0.18.2 accelerate==0.20.3 evaluate==0.4.0
pandas==1.5.3 scikit-learn==1.2.2 xgboost==1.7.6 lightgbm==3.3.5 catboost==1.2 statsmodels==0.13.5 gensim==4.3.1
shap==0.42.1 matplotlib==3.5.3 seaborn==0.12.2 plotly==5.15.0 spacy==3.5.4 nltk==3.8.1 fastapi==0.100.0 httpx==0.24.1
scikit-image==0.19.3 imageio==2.27.0 albumentations==1.3.1 lifelines==0.27.7 optuna==3.2.0 skops==0.7
""".split()

PYTHONS = range(8, 16)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wheel(package: str, folder: str) -> zipfile.ZipFile:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder, package],
        check=True,
    )
    return zipfile.ZipFile(next(Path(folder).glob(f"{package}-*.whl")))


def edges(packages: list[str], python: str) -> dict[str, set[str]]:
    """Which package requires which, in one resolution: uv says of each on whose account it is there."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--annotation-style=line", "--only-binary=:all:"]
    command += [f"--python-version={python}", "-"]
    text = subprocess.run(command, input="\n".join(packages), text=True, check=True, stdout=subprocess.PIPE).stdout
    requires: dict[str, set[str]] = {}
    for line in text.splitlines():
        requirement, _, via = line.partition("# via")
        name = normal(re.split(r"[=<>;\[ ]", requirement.strip())[0])
        requires.setdefault(name, set())
        for parent in via.split(","):
            if parent.strip() not in ("", "-", "-r -"):
                requires.setdefault(normal(parent.strip()), set()).add(name)
    return requires


def main() -> None:
    requires: dict[str, set[str]] = {}
    together = [(KNOWN, "3.11"), (OLDER, "3.9"), (["tensorflow==2.12.1"], "3.9"), (["mlflow==2.4.2"], "3.9")]
    for packages, python in [*together, *(([name], "3.11") for name in ALONE)]:
        for name, others in edges(packages, python).items():
            requires.setdefault(name, set()).update(others)
    with tempfile.TemporaryDirectory() as folder:
        modules: dict[str, list[str]] = {}
        for line in wheel("pipreqs", folder).read("pipreqs/mapping").decode().splitlines():
            module, _, package = line.strip().partition(":")
            modules.setdefault(module, []).append(normal(package))
        standard: dict[str, list[int]] = {}
        lists = wheel("isort", folder)
        for minor in PYTHONS:
            text = lists.read(f"isort/stdlibs/py3{minor}.py").decode()
            for name in re.findall(r'"(\w+)"', text):
                standard.setdefault(name, []).append(minor)
    # Of packages that nobody here knows a name is better not proposed: some are made to be mistaken for others. A module
    # that several packages bring is nobody's; one that is called as its package needs no line.
    known = {m: p for m, p in modules.items() if len(p) == 1 and p[0] in requires and m not in SKIPPED}
    table = {m: p for m, p in known.items() if normal(m) != p[0]}
    table |= {module: [normal(name) for name in names.split()] for module, names in MODULES.items()}
    lines = [
        "# Written by scripts/python-packages.py. A line says:",
        "# `module: packages`         which packages bring it, where that is not the one of its name",
        "# `package > packages`       what it requires",
        "# `module = 3.first..3.last` a module of Python's own that not all versions have",
    ]
    lines += [f"{module}: {' '.join(names)}" for module, names in sorted(table.items())]
    lines += [" ".join([package, ">", *sorted(others)]) for package, others in sorted(requires.items())]
    partly = {name: minors for name, minors in standard.items() if len(minors) < len(PYTHONS) and not name.startswith("_")}
    lines += [f"{name} = 3.{minors[0]}..3.{minors[-1]}" for name, minors in sorted(partly.items())]
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
