"""Virtual environments of Python: frameworks that agree share one. They are made by uv, or by venv and pip without it.

The versions are those of `versions/NAME.txt`, so that a case is the same next month; `renew` takes the newest ones and
writes them there.
"""

import os
import pathlib
import shutil
import subprocess
import sys

# What cases ask for. What these bring along is not named.
WANTED = {
    "light": (
        "3.11",
        "scikit-learn pandas joblib cloudpickle skops imbalanced-learn category-encoders xgboost-cpu lightgbm "
        "catboost statsmodels lifelines onnx onnxruntime skl2onnx",
    ),
    "series": ("3.11", "prophet pmdarima sktime statsmodels scikit-learn joblib"),
    "text": ("3.11", "spacy gensim fasttext-community"),
    "mlflow": ("3.11", "mlflow scikit-learn pandas xgboost lightgbm skops cloudpickle onnx onnxruntime"),
    "keras": ("3.11", "keras tensorflow-cpu ai-edge-litert"),
    "torch": (
        "3.11",
        "torch torchvision transformers sentence-transformers tokenizers safetensors diffusers peft lightning "
        "fastai pillow gguf",
    ),
    "xgboost-1": ("3.11", "xgboost==1.7.6 numpy<2 scipy"),
    "python-3.9": ("3.9", "scikit-learn==1.0.2 numpy==1.21.6 pandas==1.3.5 scipy==1.7.3"),
    "python-3.13": ("3.13", "cloudpickle"),
}

VERSIONS = pathlib.Path(__file__).resolve().parent / "versions"


class Unavailable(Exception):
    """Why an environment cannot be had on this machine."""


def interpreter(version):
    """A Python of this version that runs: a name on the path may be pyenv's, which does not always."""
    names = [shutil.which(f"python{version}"), shutil.which("python3")]
    names += sorted(pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for name in filter(None, names):
        asked = [str(name), "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
        answer = subprocess.run(asked, capture_output=True, text=True).stdout.split(maxsplit=1)
        if answer[:1] == [version]:
            return answer[1].strip()
    raise Unavailable(f"there is no Python {version} on this machine")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def python(name, cache, renew=False):
    """The Python of an environment below `cache`, which is made where it is not there as it has to be."""
    version, wanted = WANTED[name]
    folder = cache / "environments" / name
    program = folder / "bin/python"
    pins = VERSIONS / f"{name}.txt"
    words = wanted.split() if renew or not pins.exists() else ["-r", str(pins)]
    state = " ".join(words) if words[0] != "-r" else pins.read_text()
    stamp = folder / "ready"
    if not renew and stamp.exists() and stamp.read_text() == state:
        return program
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv")
    if uv:
        run(uv, "venv", "--quiet", "--python", interpreter(version), str(folder))
        run(uv, "pip", "install", "--quiet", "--python", str(program), *words)
        found = run(uv, "pip", "freeze", "--quiet", "--python", str(program))
    else:
        # Debian's Python cannot put pip into an environment, but its pip can install into one.
        run(interpreter(version), "-m", "venv", "--without-pip", str(folder))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(program)]
        run(*pip, "--quiet", "install", *words)
        found = run(*pip, "freeze")
    if renew or not pins.exists():
        VERSIONS.mkdir(exist_ok=True)
        pins.write_text(found)
        state = found
    stamp.write_text(state)
    return program


def surroundings(cache):
    """The environment variables that cases are made with: no downloads of models, no words on the terminal, no GPU."""
    scratch = cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": str(scratch / "huggingface"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "1",
        "KERAS_BACKEND": "tensorflow",
        "MLFLOW_TRACKING_URI": (scratch / "mlruns").as_uri(),
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TQDM_DISABLE": "1",
    }
